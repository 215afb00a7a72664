/*
 * router.c - what actors/router.c does with the receiving halves of a server,
 * step for step, on the network of a simulated world. Where one of the two
 * changes, the other one has to. Closing and removal are not played here.
 */
#include <stdlib.h>

#include "src/mem.h"
#include "tests/sim/sim.h"

enum { EVENT_RETRY_MS = 10 };

/* ---- sending */

static void count_answer (const ctki_frame_t *frame)
{
    switch (frame->type) {
    case CTKI_WELCOME:
        sim_did (frame->flags & CTKI_F_RESUMED ? SIM_DID_WELCOME_RESUMED : SIM_DID_WELCOME_NEW);
        break;
    case CTKI_ACK:
        sim_did (frame->flags & CTKI_F_PROBE ? SIM_DID_PROBE : frame->flags & CTKI_F_GAP ? SIM_DID_GAP : SIM_DID_ACK);
        break;
    case CTKI_RESET:
        sim_did (SIM_DID_RESET);
        break;
    case CTKI_REJECT:
        sim_did (frame->u.reason == CTKI_WHY_DUPLICATE ? SIM_DID_REJECT_DUPLICATE : SIM_DID_REJECT_UNKNOWN);
        break;
    default:
        break;
    }
}

/* 0; 1: the connection is gone; -1: no room. */
static int send_control (sim_world_t *w, sim_process_t *process, uint64_t rid, const ctki_frame_t *frame)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    SIM_TELL (w, "%s: connection %" PRIu64 " <- type %u sid %" PRIx64 " n %" PRIu64 " flags %x round %u",
              sim_name (process), rid, frame->type, frame->sid, frame->n, frame->flags, frame->round);
    count_answer (frame);
    return sim_router_send (w, process, rid, bytes, ctki_wire_encode (frame, bytes, sizeof bytes));
}

static void refuse (sim_world_t *w, sim_process_t *process, uint64_t rid, ctki_type_t type, uint64_t sid,
                    uint32_t reason)
{
    ctki_frame_t frame = {.version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid};
    frame.u.reason = reason;
    send_control (w, process, rid, &frame);
}

/* ---- receiving halves */

static sim_inbound_t *new_inbound (sim_process_t *process, unsigned peer)
{
    sim_inbound_t *inbound = ctki_alloc_zero (sizeof *inbound);
    if (!inbound)
        return NULL;
    ctki_session_setup_t setup = process->setup;
    setup.peer = (ctalk_pid_t) peer + 1;
    ctki_in_init (&inbound->in, &setup);
    inbound->retry_us = CTKI_FOREVER;
    inbound->told = CTALK_STATE_IDLE;
    process->inbound[peer] = inbound;
    return inbound;
}

static unsigned peer_of (const sim_process_t *process, const sim_inbound_t *inbound)
{
    unsigned peer = 0;
    while (process->inbound[peer] != inbound)
        peer++;
    return peer;
}

/* ---- into the inbox */

static void put (sim_world_t *w, sim_process_t *process, ctki_inlet_t *inlet)
{
    sim_wake (w, process, SIM_APP, CTKI_MAX (sim_soon (w), CTKI_MAX (process->eat_us, process->stopped_until_us)));
    if (inlet->kind != CTALK_MESSAGE) {
        ctki_inbox_put_event (&process->inbox, inlet);
        return;
    }
    ctki_flow_t *flow = inlet->flow;
    sim_inbound_t *inbound = process->inbound[flow->peer->pid - 1];
    bool current = inbound && inbound->flow == flow;
    ctki_inbox_put (&process->inbox, inlet, current ? ctki_in_wake_byte (&inbound->in) : UINT64_MAX,
                    current ? ctki_in_wake_frame (&inbound->in) : UINT64_MAX);
}

static void put_in_order (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, ctki_inlet_t *inlet)
{
    uint32_t held_under = ctki_life_holds (&inbound->life);
    if (CTKI_LIKELY (held_under == 0)) {
        put (w, process, inlet);
        return;
    }
    sim_did (SIM_DID_ASIDE);
    inlet->held_under = held_under;
    inlet->next = NULL;
    if (inlet->flow)
        ctki_flow_hold (&process->inbox, inlet->flow);
    *(inbound->last ? &inbound->last->next : &inbound->aside) = inlet;
    inbound->last = inlet;
}

static void put_aside (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, uint32_t held_under)
{
    while (inbound->aside && inbound->aside->held_under == held_under) {
        ctki_inlet_t *inlet = inbound->aside;
        ctki_flow_t *flow = inlet->flow;
        inbound->aside = inlet->next;
        if (!inbound->aside)
            inbound->last = NULL;
        put (w, process, inlet);
        if (flow)
            ctki_flow_unhold (&process->inbox, flow);
    }
}

/* ---- events */

static int raise_event (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, ctalk_kind_t kind,
                        ctalk_event_t event, const ctki_obit_t *obits)
{
    unsigned peer = peer_of (process, inbound);
    if (!process->watching) {
        sim_oracle_unheard (process, peer, obits);
        return 0;
    }
    if (!event.incarnation)
        event.incarnation = inbound->life.inc;
    ctki_inlet_t *inlet = ctki_inlet_event (process->record[peer], kind, &event, obits);
    if (!inlet)
        return -1;
    SIM_TELL (w, "%s: event %d about %u, reason %d", sim_name (process), (int) kind, peer + 1, event.reason);
    if (kind == CTALK_PEER_RESTARTED)
        put (w, process, inlet);
    else
        put_in_order (w, process, inbound, inlet);
    return 0;
}

static void owe_event (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, ctalk_kind_t kind,
                       uint32_t reason)
{
    if (raise_event (w, process, inbound, kind, (ctalk_event_t){.reason = (int32_t) reason}, NULL) == 0)
        return;
    inbound->owed |= 1u << kind;
    inbound->owed_reason = reason;
    inbound->retry_us = w->now_us + EVENT_RETRY_MS * CTKI_MS;
}

static void pay_events (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound)
{
    unsigned owed = inbound->owed;
    inbound->owed = 0;
    for (unsigned kind = 0; owed >> kind; kind++) {
        if (owed >> kind & 1)
            owe_event (w, process, inbound, (ctalk_kind_t) kind, inbound->owed_reason);
    }
}

static void tell_state (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, int state)
{
    if (inbound->told == state)
        return;
    inbound->told = state;
    if (state == CTALK_STATE_UP)
        owe_event (w, process, inbound, CTALK_PEER_UP, CTALK_WHY_NONE);
    else if (state == CTALK_STATE_SUSPECT)
        owe_event (w, process, inbound, CTALK_PEER_SUSPECT, CTALK_WHY_SILENT);
    else if (state == CTALK_STATE_DOWN)
        owe_event (w, process, inbound, CTALK_PEER_DOWN, CTALK_WHY_SILENT);
}

/* ---- incarnations */

static int tell_restart (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, const ctki_restart_t *restart)
{
    uint64_t old_inc = restart->old_inc ? restart->old_inc : restart->obits ? restart->obits->old_inc : 0;
    if (old_inc == 0)
        return 0;
    bool same = old_inc == restart->inc;
    ctalk_event_t event = {
        .incarnation = restart->inc, .old_incarnation = old_inc, .reason = same ? CTALK_WHY_ABANDONED : CTALK_WHY_NONE};
    return raise_event (w, process, inbound, same ? CTALK_PEER_ABANDONED : CTALK_PEER_RESTARTED, event, restart->obits);
}

static void tell_restarts (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound)
{
    for (const ctki_restart_t *restart; (restart = ctki_life_ready (&inbound->life));) {
        uint32_t number = restart->number;
        if (tell_restart (w, process, inbound, restart)) {
            inbound->retry_us = w->now_us + EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        if (restart->old_inc)
            inbound->told = CTALK_STATE_CONNECTING;
        ctki_life_drop (&inbound->life);
        put_aside (w, process, inbound, number);
    }
}

/* A command to the sender; it takes its time. -1: no memory. */
static int ask_one (sim_world_t *w, sim_sender_t *sender, const ctki_restart_t *restart)
{
    sim_question_t *question = ctki_alloc_zero (sizeof *question);
    if (!question)
        return -1;
    sim_did (SIM_DID_QUESTION);
    question->at_us = sim_soon (w);
    question->epoch = restart->epoch;
    question->proof = restart->proof;
    *sender->questions_end = question;
    sender->questions_end = &question->next;
    sim_wake (w, sender->process, SIM_SENDERS + sender->peer, question->at_us);
    return 0;
}

static void ask_sender (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, unsigned peer)
{
    sim_sender_t *sender = process->sender[peer];
    if (!sender)
        ctki_life_answer (&inbound->life);
    for (ctki_restart_t *question; (question = ctki_life_question (&inbound->life));) {
        if (ask_one (w, sender, question)) {
            inbound->retry_us = w->now_us + EVENT_RETRY_MS * CTKI_MS;
            break;
        }
        question->asked = true;
    }
    tell_restarts (w, process, inbound);
}

static void begin_session (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, unsigned peer)
{
    SIM_TELL (w, "%s: session %" PRIx64 " of %u opens", sim_name (process), inbound->in.sid, peer + 1);
    ctki_flow_release (&process->inbox, inbound->flow);
    inbound->flow = inbound->spare;
    inbound->spare = NULL;
    ctki_proof_t proof = {.inc = inbound->in.inc, .from_us = inbound->in.offered_us, .to_us = w->now_us};
    if (ctki_life_inbound (&inbound->life, &proof, &process->restart)) {
        sim_did (SIM_DID_INBOUND_PROOF);
        ask_sender (w, process, inbound, peer);
    }
}

/* ---- frames */

/* The halves that a frame is for; NULL: none, and its sender was told. */
static sim_inbound_t *find_inbound (sim_world_t *w, sim_process_t *process, uint64_t rid, const ctki_frame_t *frame)
{
    if (frame->type != CTKI_HELLO) {
        sim_inbound_t *known = ctki_map_get (&process->sids, frame->sid);
        if (!known)
            refuse (w, process, rid, CTKI_RESET, frame->sid, CTKI_WHY_UNKNOWN_SID);
        return known;
    }
    unsigned peer = (unsigned) frame->u.hello.src - 1;
    SIM_EXPECT (w, frame->u.hello.dst == process->setup.self && peer < w->nodes, "a HELLO for another pid");
    if (!w->listed[process->node][peer]) {
        refuse (w, process, rid, CTKI_REJECT, 0, CTKI_WHY_UNKNOWN_PID);
        return NULL;
    }
    return process->inbound[peer] ? process->inbound[peer] : new_inbound (process, peer);
}

static bool prepare (sim_process_t *process, sim_inbound_t *inbound, unsigned peer, sim_packet_t *packet,
                     ctki_frame_t *frame, ctki_buf_t **buf)
{
    *buf = NULL;
    if (frame->type == CTKI_HELLO || ctki_in_offers (&inbound->in)) {
        if (!inbound->spare && !(inbound->spare = ctki_flow_new (process->record[peer], false)))
            return false;
        if (!process->restart && !(process->restart = ctki_alloc_zero (sizeof *process->restart)))
            return false;
    }
    if (frame->type != CTKI_DATA)
        return true;
    if (!process->inlet && !(process->inlet = ctki_alloc (sizeof *process->inlet)))
        return false;
    int part = frame->body ? 1 : 0;
    const uint8_t *old = sim_packet_part (packet, part);
    if (!(*buf = ctki_buf_copy (old, packet->size[part])))
        return false;
    if (frame->body)
        frame->body = (*buf)->data;
    else
        frame->records = (*buf)->data + (frame->records - old);
    return true;
}

static void deliver (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, const ctki_frame_t *frame,
                     const ctki_effects_t *fx, ctki_buf_t *buf)
{
    bool one = fx->give == CTKI_GIVE_ONE;
    ctki_inlet_t *inlet = process->inlet;
    process->inlet = NULL;
    *inlet = (ctki_inlet_t){.flow = inbound->flow,
                            .count = fx->count,
                            .frames = fx->frames,
                            .one = one,
                            .record = fx->record,
                            .buf = fx->whole ? fx->whole : buf};
    inlet->at = fx->whole ? fx->whole->data : one ? frame->body : fx->records;
    inlet->left = fx->whole ? fx->whole->size : one ? frame->body_size : fx->records_size;
    if (fx->count > 1)
        ctki_buf_hold (inlet->buf, fx->count - 1);
    put_in_order (w, process, inbound, inlet);
}

static void note_sids (sim_process_t *process, sim_inbound_t *inbound, ctki_effects_t *fx)
{
    for (unsigned i = 0; i <= CTKI_OFFERS && fx->sid_ended[i]; i++)
        ctki_map_remove (&process->sids, fx->sid_ended[i]);
    if (fx->sid_offered && ctki_map_put (&process->sids, fx->sid_offered, inbound)) {
        ctki_in_withdraw (&inbound->in);
        fx->reply = false;
    }
}

static void take_effects (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, ctki_effects_t *fx)
{
    note_sids (process, inbound, fx);
    SIM_EXPECT (w, !fx->malformed && !fx->left && !fx->abandoned_frames && !fx->actors, "a frame against the protocol");
    if (fx->refused)
        owe_event (w, process, inbound, CTALK_PEER_REFUSED, fx->refused);
    if (fx->reply)
        send_control (w, process, fx->rid, &fx->answer);
}

static int64_t deadline_of (const sim_inbound_t *inbound)
{
    return CTKI_MIN (ctki_in_deadline (&inbound->in), inbound->retry_us);
}

static void on_frame (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, sim_packet_t *packet,
                      uint64_t rid, ctki_frame_t *frame)
{
    ctki_effects_t fx;
    ctki_buf_t *buf;
    unsigned peer = peer_of (process, inbound);
    if (!prepare (process, inbound, peer, packet, frame, &buf))
        return;
    uint64_t sid = frame->type == CTKI_HELLO ? sim_fresh_sid (w) : 0;
    ctki_in_receive (&inbound->in, w->now_us, rid, frame, sid, &fx);
    if (fx.sid_offered)
        sim_oracle_offered (w, process, peer, sid, frame->u.hello.inc);
    sim_oracle_in (w, process, peer, rid, frame, &fx);
    if (fx.opened)
        begin_session (w, process, inbound, peer);
    take_effects (w, process, inbound, &fx);
    if (fx.valid)
        process->heard_us[peer] = w->now_us;
    if (fx.give != CTKI_GIVE_NOTHING) {
        sim_oracle_given (w, process, peer, frame, &fx);
        if (fx.whole)
            ctki_buf_release (buf, 1);
        deliver (w, process, inbound, frame, &fx, buf);
    } else if (buf)
        ctki_buf_release (buf, 1);
}

static void on_packet (sim_world_t *w, sim_process_t *process, sim_packet_t *packet, uint64_t rid)
{
    ctki_frame_t frame;
    const char *bad = ctki_wire_decode (&frame, sim_packet_part (packet, 0), packet->size[0],
                                        packet->count > 1 ? sim_packet_part (packet, 1) : NULL, packet->size[1]);
    SIM_EXPECT (w, !bad, "a bad frame: %s", bad);
    sim_inbound_t *inbound = find_inbound (w, process, rid, &frame);
    if (inbound)
        on_frame (w, process, inbound, packet, rid, &frame);
}

/* Returns whether there may be more. */
static bool receive (sim_world_t *w, sim_process_t *process)
{
    uint64_t rid;
    for (int i = 0; i < SIM_BATCH; i++) {
        sim_packet_t *packet = sim_router_receive (w, process, &rid);
        if (!packet)
            return false;
        w->events++;
        on_packet (w, process, packet, rid);
        sim_packet_free (w, packet);
    }
    return true;
}

/* ---- acknowledging */

static void watch_flow (sim_process_t *process, sim_inbound_t *inbound)
{
    if (inbound->flow)
        ctki_inbox_watch (&process->inbox, inbound->flow, ctki_in_wake_byte (&inbound->in),
                          ctki_in_wake_frame (&inbound->in));
}

static void hear_inbox (sim_world_t *w, sim_process_t *process)
{
    ctki_flow_t copy;
    for (ctki_flow_t *flow; (flow = ctki_inbox_told (&process->inbox, &copy));) {
        sim_inbound_t *inbound = process->inbound[copy.peer->pid - 1];
        if (!inbound || inbound->flow != flow)
            continue;
        ctki_in_consumed (&inbound->in, w->now_us, copy.consumed, copy.byte, copy.frames);
        if (inbound->in.ack_at_us > w->now_us)
            watch_flow (process, inbound);
    }
}

static void acknowledge (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound)
{
    ctki_frame_t frame;
    if (inbound->in.open && w->now_us >= inbound->in.ack_at_us && inbound->flow) {
        ctki_flow_t flow;
        ctki_inbox_read (&process->inbox, inbound->flow, &flow);
        ctki_in_consumed (&inbound->in, w->now_us, flow.consumed, flow.byte, flow.frames);
    }
    if (!ctki_in_next (&inbound->in, w->now_us, &frame))
        return;
    int rc = send_control (w, process, inbound->in.rid, &frame);
    if (rc == 0)
        ctki_in_acked (&inbound->in, w->now_us);
    else if (rc > 0)
        ctki_in_unreachable (&inbound->in);
    else
        inbound->in.ack_at_us = w->now_us + CTKI_ACK_DELAY_MS * CTKI_MS;
    watch_flow (process, inbound);
}

static void tend (sim_world_t *w, sim_process_t *process, sim_inbound_t *inbound, unsigned peer, bool more)
{
    ctki_effects_t fx;
    if (w->now_us >= inbound->retry_us) {
        inbound->retry_us = CTKI_FOREVER;
        ask_sender (w, process, inbound, peer);
        pay_events (w, process, inbound);
    }
    acknowledge (w, process, inbound);
    for (;;) {
        uint64_t sid = inbound->in.newcomer.on ? sim_fresh_sid (w) : 0;
        uint64_t inc = inbound->in.newcomer.hello.inc;
        if (more || !ctki_in_tick (&inbound->in, w->now_us, sid, &fx))
            return;
        if (fx.sid_offered)
            sim_oracle_offered (w, process, peer, sid, inc);
        sim_oracle_tick (w, process, peer, &fx);
        take_effects (w, process, inbound, &fx);
    }
}

/* ---- what the senders report */

void sim_report_free (sim_report_t *report)
{
    ctki_restart_destroy (&report->restart);
    ctki_free (report->obit);
    ctki_free (report);
}

static void end_other_sessions (sim_process_t *process, sim_inbound_t *inbound, uint64_t inc, int64_t alive_us)
{
    ctki_effects_t fx;
    bool was_open = inbound->in.open;
    ctki_in_incarnation (&inbound->in, inc, alive_us, &fx);
    note_sids (process, inbound, &fx);
    if (was_open && !inbound->in.open) {
        ctki_flow_release (&process->inbox, inbound->flow);
        inbound->flow = NULL;
    }
}

/* -1: no memory, to be tried again. */
static int take_report (sim_world_t *w, sim_process_t *process, sim_report_t *report)
{
    sim_inbound_t *inbound =
        process->inbound[report->peer] ? process->inbound[report->peer] : new_inbound (process, report->peer);
    if (!inbound)
        return -1;
    ctki_obit_t *obit = report->obit;
    report->obit = NULL;
    if (ctki_life_report (&inbound->life, report->epoch, report->inc, obit, &report->restart)) {
        sim_did (SIM_DID_OUTBOUND_PROOF);
        SIM_TELL (w, "%s: its sender has proved another process of %u", sim_name (process), report->peer + 1);
        end_other_sessions (process, inbound, report->inc, report->alive_us);
    }
    tell_restarts (w, process, inbound);
    if (report->epoch == inbound->life.epoch) {
        tell_state (w, process, inbound, report->state);
        if (report->stuck_ms)
            owe_event (w, process, inbound, CTALK_PEER_STUCK, CTALK_WHY_NOT_CONSUMING);
        if (report->refused && report->refused != CTKI_WHY_CLOSING)
            owe_event (w, process, inbound, CTALK_PEER_REFUSED, report->refused);
    }
    return 0;
}

static void take_reports (sim_world_t *w, sim_process_t *process)
{
    process->reports_us = CTKI_FOREVER;
    for (sim_report_t *report; (report = process->reports) && report->at_us <= w->now_us;) {
        if (take_report (w, process, report)) {
            process->reports_us = w->now_us + EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        process->reports = report->next;
        if (!process->reports)
            process->reports_end = &process->reports;
        sim_report_free (report);
    }
    if (process->reports)
        process->reports_us = process->reports->at_us;
}

/* ---- the step */

void sim_router_step (sim_world_t *w, sim_process_t *process)
{
    sim_memory_begin (w);
    take_reports (w, process);
    bool more = receive (w, process);
    hear_inbox (w, process);
    int64_t until_us = CTKI_MIN (process->reports_us, sim_router_next (process));
    for (unsigned peer = 0; peer < w->nodes; peer++) {
        sim_inbound_t *inbound = process->inbound[peer];
        if (!inbound)
            continue;
        if (deadline_of (inbound) != CTKI_FOREVER)
            tend (w, process, inbound, peer, more);
        until_us = CTKI_MIN (until_us, deadline_of (inbound));
    }
    sim_memory_end (w);
    if (process->inbox.told)
        until_us = w->now_us;
    sim_wake (w, process, SIM_ROUTER, more ? w->now_us : CTKI_MAX (until_us, w->now_us));
}

void sim_router_fini (sim_world_t *w, sim_process_t *process)
{
    for (unsigned peer = 0; peer < w->nodes; peer++) {
        sim_inbound_t *inbound = process->inbound[peer];
        if (!inbound)
            continue;
        while (inbound->aside) {
            ctki_inlet_t *inlet = inbound->aside;
            ctki_flow_t *flow = inlet->flow;
            inbound->aside = inlet->next;
            if (flow) { /* the inbox frees what is in it, with the flow's reference */
                ctki_inbox_put (&process->inbox, inlet, UINT64_MAX, UINT64_MAX);
                ctki_flow_unhold (&process->inbox, flow);
            } else
                ctki_inbox_put_event (&process->inbox, inlet);
        }
        ctki_flow_release (&process->inbox, inbound->flow);
        ctki_flow_release (&process->inbox, inbound->spare);
        ctki_in_fini (&inbound->in);
        ctki_life_fini (&inbound->life);
        ctki_free (inbound);
        process->inbound[peer] = NULL;
    }
    while (process->reports) {
        sim_report_t *report = process->reports;
        process->reports = report->next;
        sim_report_free (report);
    }
    ctki_map_fini (&process->sids);
    ctki_free (process->inlet);
    ctki_restart_destroy (&process->restart);
}
