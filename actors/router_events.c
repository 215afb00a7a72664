/*
 * router_events.c - what the application is told about its peers: events in the
 * inbox, in order with the envelopes; the incarnations, which two connections
 * prove (src/life.h); and the reports of the senders. See router.h.
 *
 * What may go wrong: memory is missing for an event. It is raised later then, and
 * what must stand behind it waits.
 */
#include "actors/router_parts.h"

#include <stdio.h>

#include "src/mem.h"

/* ---- events */

/* What came of an incarnation that was told already goes on into the inbox. */
static void put (ctki_router_t *router, ctki_inlet_t *inlet)
{
    ctki_inbox_t *inbox = &router->node->inbox;
    if (inlet->kind != CTALK_MESSAGE) {
        ctki_inbox_put_event (inbox, inlet);
        return;
    }
    if (inlet->for_actors) {
        ctki_hall_receive (&router->node->hall, inlet);
        return;
    }
    ctki_flow_t *flow = inlet->flow;
    inbound_t *inbound = flow->peer->inbound;
    bool current = inbound && inbound->flow == flow;
    ctki_inbox_put (inbox, inlet, current ? ctki_in_wake_byte (&inbound->in) : UINT64_MAX,
                    current ? ctki_in_wake_frame (&inbound->in) : UINT64_MAX);
}

/* Into the inbox, or aside behind a restart that is not told yet. */
void ctki_router_put_in_order (ctki_router_t *router, inbound_t *inbound, ctki_inlet_t *inlet)
{
    uint32_t held_under = ctki_life_holds (&inbound->life);
    if (CTKI_LIKELY (held_under == 0)) {
        put (router, inlet);
        return;
    }
    inlet->held_under = held_under;
    inlet->next = NULL;
    if (inlet->flow)
        ctki_flow_hold (&router->node->inbox, inlet->flow);
    *(inbound->last ? &inbound->last->next : &inbound->aside) = inlet;
    inbound->last = inlet;
}

void ctki_router_tell_hall_left (ctki_router_t *router, inbound_t *inbound)
{
    inbound->leaves_under = ctki_life_holds (&inbound->life);
    if (inbound->leaves_under == 0)
        ctki_hall_peer_gone (&router->node->hall, inbound->peer->pid, CTALK_WHY_CLOSING);
}

/* Its restart is told, or nobody is to be told any more. */
static void put_aside (ctki_router_t *router, inbound_t *inbound, uint32_t held_under)
{
    while (inbound->aside && inbound->aside->held_under == held_under) {
        ctki_inlet_t *inlet = inbound->aside;
        ctki_flow_t *flow = inlet->flow;
        inbound->aside = inlet->next;
        if (!inbound->aside)
            inbound->last = NULL;
        put (router, inlet);
        if (flow)
            ctki_flow_unhold (&router->node->inbox, flow);
    }
    if (held_under == inbound->leaves_under) {
        inbound->leaves_under = 0;
        ctki_hall_peer_gone (&router->node->hall, inbound->peer->pid, CTALK_WHY_CLOSING);
        if (!inbound->in.left) /* it had removed this server, and is back */
            ctki_router_tell_back (router, inbound);
    }
}

/* What an event says in words. */
const char *ctki_router_words (uint32_t reason)
{
    static const struct {
        uint32_t reason;
        const char *words;
    } table[] = {{CTALK_WHY_VERSION, "no version of the protocol that both speak"},
                 {CTALK_WHY_CLUSTER, "it belongs to another cluster"},
                 {CTALK_WHY_PID, "another pid is at its endpoint"},
                 {CTALK_WHY_DUPLICATE, "another process with this pid lives"},
                 {CTALK_WHY_UNKNOWN_PID, "it does not list this server"},
                 {CTALK_WHY_QUARANTINED, "it broke the protocol too often"},
                 {CTALK_WHY_CLOSING, "it closed"},
                 {CTALK_WHY_ABANDONED, "it had removed this server"},
                 {CTALK_WHY_LIMITS, "MaxMessageBytes of the sender is above the receiver's"},
                 {CTALK_WHY_SILENT, "nothing is heard from it"},
                 {CTALK_WHY_UNREACHABLE, "no connection to it"},
                 {CTALK_WHY_NO_ADDRESS, "its address is not known"},
                 {CTALK_WHY_PROTOCOL, "what is at its endpoint speaks another protocol"},
                 {CTALK_WHY_NOT_CONSUMING, "its application takes nothing"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].reason == reason)
            return table[i].words;
    }
    return "";
}

/* An event about a peer, in order with what came from it. -1: no memory. */
int ctki_router_raise_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, ctalk_event_t event,
                             const ctki_obit_t *obits)
{
    if (!atomic_load_explicit (&router->node->watching, memory_order_relaxed) || router->phase != RUNNING)
        return 0;
    snprintf (event.text, sizeof event.text, "%s", ctki_router_words ((uint32_t) event.reason));
    if (!event.incarnation)
        event.incarnation = inbound->life.inc;
    ctki_inlet_t *inlet = ctki_inlet_event (inbound->peer, kind, &event, obits);
    if (!inlet)
        return -1;
    if (kind == CTALK_PEER_RESTARTED)
        put (router, inlet); /* what is held stands behind it */
    else
        ctki_router_put_in_order (router, inbound, inlet);
    return 0;
}

enum { STATES = 1 << CTALK_PEER_UP | 1 << CTALK_PEER_SUSPECT | 1 << CTALK_PEER_DOWN };

/* Raises an event that has no more to say than these. -1: no memory. */
static int raise_plain (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, uint32_t reason)
{
    ctalk_event_t event = {.reason = (int32_t) reason,
                           .incarnation = kind == CTALK_PEER_LEFT ? inbound->left_inc : 0,
                           .abandoned = kind == CTALK_PEER_ABANDONED ? inbound->abandoned : 0};
    if (ctki_router_raise_event (router, inbound, kind, event, NULL))
        return -1;
    if (kind == CTALK_PEER_ABANDONED)
        inbound->abandoned = 0;
    return 0;
}

void ctki_router_owe_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, uint32_t reason)
{
    if (inbound->owed == 0 && raise_plain (router, inbound, kind, reason) == 0)
        return;
    if (STATES >> kind & 1)
        inbound->owed &= ~(unsigned) STATES; /* the newest is enough */
    inbound->owed |= 1u << kind;
    inbound->owed_reason[kind] = reason;
    inbound->retry_us = ctki_now_us () + CTKI_EVENT_RETRY_MS * CTKI_MS;
}

static void tell_hall_up (ctki_router_t *router, inbound_t *inbound)
{
    inbound->owed_up = ctki_hall_peer_up (&router->node->hall, inbound->peer->pid) != 0;
    if (inbound->owed_up)
        inbound->retry_us = ctki_now_us () + CTKI_EVENT_RETRY_MS * CTKI_MS;
}

void ctki_router_tell_back (ctki_router_t *router, inbound_t *inbound)
{
    if (inbound->peer->told == CTALK_STATE_UP)
        tell_hall_up (router, inbound);
}

void ctki_router_pay_events (ctki_router_t *router, inbound_t *inbound)
{
    if (inbound->owed_up)
        tell_hall_up (router, inbound);
    for (unsigned kind = 0; inbound->owed >> kind; kind++) {
        if (!(inbound->owed >> kind & 1))
            continue;
        if (raise_plain (router, inbound, (ctalk_kind_t) kind, inbound->owed_reason[kind])) {
            inbound->retry_us = ctki_now_us () + CTKI_EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        inbound->owed &= ~(1u << kind);
    }
}

void ctki_router_tell_refused (ctki_router_t *router, inbound_t *inbound, uint32_t reason, bool by_peer)
{
    uint64_t bit = UINT64_C (1) << (reason & 31u) << (by_peer ? 32 : 0);
    if (inbound->refused_told & bit)
        return;
    inbound->refused_told |= bit;
    ctki_actor_note (&router->actor, CTALK_LOG_WARNING, "peer %d %s: %s", (int) inbound->peer->pid,
                     by_peer ? "refuses this server" : "is refused", ctki_router_words (reason));
    ctki_router_owe_event (router, inbound, CTALK_PEER_REFUSED, reason);
}

/* The peer's state, if it is one that is told. */
static void tell_state (ctki_router_t *router, inbound_t *inbound, int state, uint32_t reason)
{
    ctki_peer_t *peer = inbound->peer;
    if (peer->told == state)
        return;
    peer->told = state;
    inbound->owed_up = false;
    if (state == CTALK_STATE_UP) {
        ctki_router_owe_event (router, inbound, CTALK_PEER_UP, CTALK_WHY_NONE);
        tell_hall_up (router, inbound);
    } else if (state == CTALK_STATE_SUSPECT)
        ctki_router_owe_event (router, inbound, CTALK_PEER_SUSPECT, reason);
    else if (state == CTALK_STATE_DOWN) {
        ctki_router_owe_event (router, inbound, CTALK_PEER_DOWN, reason);
        ctki_hall_peer_gone (&router->node->hall, peer->pid, CTALK_WHY_DOWN);
    }
}

/* What its sender reported last, if the restarts before it are told. */
static void tell_reported (ctki_router_t *router, inbound_t *inbound)
{
    if (!inbound->unsaid || inbound->life.first)
        return;
    inbound->unsaid = false;
    tell_state (router, inbound, inbound->state, inbound->state_reason);
}

/* The peer's incarnation is over: told once, and nothing of it comes after it. */
void ctki_router_tell_left (ctki_router_t *router, inbound_t *inbound, uint32_t reason)
{
    if (inbound->left_inc == inbound->life.inc)
        return;
    inbound->left_inc = inbound->life.inc;
    ctki_router_owe_event (router, inbound, CTALK_PEER_LEFT, reason == CTALK_WHY_NONE ? CTALK_WHY_CLOSING : reason);
}

/* ---- incarnations */

/* Tells one restart. -1: no memory. */
static int tell_restart (ctki_router_t *router, inbound_t *inbound, const ctki_restart_t *restart)
{
    ctki_router_pay_events (router, inbound);
    if (inbound->owed || ctki_hall_keeps (&router->node->hall, inbound->peer->pid))
        return -1; /* what was to be told before it has not been */
    uint64_t old_inc = restart->old_inc ? restart->old_inc : restart->obits ? restart->obits->old_inc : 0;
    if (old_inc == 0) /* the first one that was seen */
        return 0;
    if (restart->old_inc == restart->inc && restart->obits && restart->obits->old_inc != restart->inc)
        return 0; /* with one before that, from which it had restarted when nobody was here to be asked */
    bool same = old_inc == restart->inc; /* it lost the session and lives: that should not be (R8) */
    ctalk_event_t event = {.incarnation = restart->inc,
                           .old_incarnation = old_inc,
                           .reason = same ? CTALK_WHY_ABANDONED : CTALK_WHY_NONE};
    ctalk_kind_t kind = same ? CTALK_PEER_ABANDONED : CTALK_PEER_RESTARTED;
    if (ctki_router_raise_event (router, inbound, kind, event, restart->obits))
        return -1;
    if (!same)
        ctki_hall_peer_gone (&router->node->hall, inbound->peer->pid, CTALK_WHY_RESTARTED);
    return 0;
}

/* Tells the restarts whose questions are answered, each before what came after
 * it. Where there is no memory it is tried again; what is behind waits. */
static void tell_restarts (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    for (const ctki_restart_t *restart; (restart = ctki_life_ready (&inbound->life));) {
        uint32_t number = restart->number;
        if (tell_restart (router, inbound, restart)) {
            inbound->retry_us = now_us + CTKI_EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        if (restart->old_inc) {
            ctki_count (&inbound->peer->restarts, restart->old_inc != restart->inc);
            inbound->peer->told = CTALK_STATE_CONNECTING;
        }
        ctki_life_drop (&inbound->life);
        put_aside (router, inbound, number);
    }
}

/* There is nobody to ask any more, and no time to wait for memory. */
void ctki_router_tell_all_restarts (ctki_router_t *router, inbound_t *inbound)
{
    ctki_life_answer (&inbound->life);
    tell_restarts (router, inbound, ctki_now_us ());
    while (inbound->life.first) {
        uint32_t number = inbound->life.first->number;
        ctki_life_drop (&inbound->life);
        put_aside (router, inbound, number);
    }
}

/* Asks the sender what became of its session with a former incarnation. */
void ctki_router_ask_sender (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_sender_t *sender = inbound->peer->sender;
    if (!sender || !ctki_sender_started (sender) || ctki_sender_ended (sender))
        ctki_life_answer (&inbound->life); /* it never had one, or it is over */
    if (sender && (!ctki_sender_started (sender) || ctki_sender_failed (sender)))
        ctki_sender_catch_up (sender, inbound->life.epoch);
    for (ctki_restart_t *question; (question = ctki_life_question (&inbound->life));) {
        if (ctki_sender_ask (sender, question->epoch, &question->proof)) {
            inbound->retry_us = now_us + CTKI_EVENT_RETRY_MS * CTKI_MS;
            break;
        }
        question->asked = true;
    }
    tell_restarts (router, inbound, now_us);
    tell_reported (router, inbound);
}

/* ---- what the senders report */

/* The sender has proved an incarnation: sessions with others are over here. */
static void end_other_sessions (ctki_router_t *router, inbound_t *inbound, uint64_t inc, int64_t alive_us)
{
    ctki_effects_t fx;
    bool was_open = inbound->in.open;
    ctki_in_incarnation (&inbound->in, inc, alive_us, &fx);
    ctki_router_note_sids (router, inbound, &fx);
    if (was_open && !inbound->in.open) {
        ctki_flow_release (&router->node->inbox, inbound->flow);
        inbound->flow = NULL;
    }
    atomic_store (&inbound->peer->incarnation, inc);
    if (atomic_exchange (&inbound->peer->left, false) && inbound->peer->sender)
        ctki_sender_ring (inbound->peer->sender); /* a goodbye of the former one was read late */
}

/* The connection of a leaving peer is gone. Its own goodbye may never come. */
static void on_parted (ctki_router_t *router, inbound_t *inbound)
{
    if (inbound->in.open && !inbound->in.left)
        ctki_in_end (&inbound->in);
    if (inbound->left_inc != inbound->life.inc)
        ctki_router_tell_hall_left (router, inbound);
    ctki_router_tell_left (router, inbound, CTALK_WHY_CLOSING);
}

/* A report says all that is so at its time: what was told before is not told again. */
static void tell_refusal (ctki_router_t *router, inbound_t *inbound, uint32_t reason)
{
    if (inbound->refuses == reason)
        return;
    inbound->refuses = reason;
    if (reason == CTALK_WHY_NONE || reason == CTALK_WHY_CLOSING)
        return;
    ctki_router_tell_refused (router, inbound, reason, true);
}

static void tell_stuck (ctki_router_t *router, inbound_t *inbound, bool stuck)
{
    if (stuck && !inbound->stuck)
        ctki_router_owe_event (router, inbound, CTALK_PEER_STUCK, CTALK_WHY_NOT_CONSUMING);
    inbound->stuck = stuck;
}

/* -1: no memory, to be tried again. */
static int take_report (ctki_router_t *router, ctki_report_t *report, int64_t now_us)
{
    ctki_peer_t *peer = report->peer;
    if (peer->removed)
        return 0;
    inbound_t *inbound = peer->inbound ? peer->inbound : ctki_router_new_inbound (router, peer);
    if (!inbound)
        return -1;
    ctki_obit_t *obit = report->obit;
    report->obit = NULL;
    if (ctki_life_report (&inbound->life, report->epoch, report->inc, obit, &report->restart))
        end_other_sessions (router, inbound, report->inc, report->alive_us);
    tell_restarts (router, inbound, now_us);
    if (report->epoch == inbound->life.epoch) { /* else it is about a former incarnation */
        inbound->unsaid = true;
        inbound->state = report->state;
        inbound->state_reason = report->reason;
        tell_reported (router, inbound);
        if (report->parted)
            on_parted (router, inbound);
        tell_stuck (router, inbound, report->stuck_ms != 0);
        tell_refusal (router, inbound, report->refused);
    }
    ctki_router_set_due (router, inbound);
    return 0;
}

void ctki_router_take_reports (ctki_router_t *router, int64_t now_us)
{
    router->reports_us = CTKI_FOREVER;
    for (ctki_report_t *report; (report = router->reports);) {
        if (take_report (router, report, now_us)) {
            router->reports_us = now_us + CTKI_EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        router->reports = report->next;
        if (!router->reports)
            router->reports_end = &router->reports;
        ctki_report_destroy (&report);
    }
}

void ctki_router_add_report (ctki_router_t *router, ctki_report_t *report)
{
    report->next = NULL;
    *router->reports_end = report;
    router->reports_end = &report->next;
}

void ctki_router_drop_reports (ctki_router_t *router)
{
    while (router->reports) {
        ctki_report_t *report = router->reports;
        router->reports = report->next;
        ctki_report_destroy (&report);
    }
    router->reports_end = &router->reports;
}

/* ---- watching */

static void tell_now (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    inbound_t *inbound = peer->inbound;
    if (inbound && peer->told == CTALK_STATE_UP)
        ctki_router_owe_event (router, inbound, CTALK_PEER_UP, CTALK_WHY_NONE);
    if (inbound && inbound->refused && inbound->refused != CTALK_WHY_CLOSING)
        ctki_router_owe_event (router, inbound, CTALK_PEER_REFUSED, inbound->refused);
    if (inbound && inbound->refuses && inbound->refuses != CTALK_WHY_CLOSING && inbound->refuses != inbound->refused)
        ctki_router_owe_event (router, inbound, CTALK_PEER_REFUSED, inbound->refuses);
}

/* How things stand now, and from now on every change. */
void ctki_router_begin_watch (ctki_router_t *router, request_t *request)
{
    bool was = atomic_exchange (&router->node->watching, request->on);
    if (request->on && !was)
        ctki_router_each_peer (router, tell_now, router);
    ctki_router_answer (router, request, 0);
}
