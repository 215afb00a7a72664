/*
 * sender.c - what actors/sender.c does with the sending half of a session, step
 * for step, on the network of a simulated world. Where one of the two changes,
 * the other one has to. Names are not looked up, and nobody closes here.
 */
#include <stdlib.h>

#include "src/mem.h"
#include "tests/sim/sim.h"

enum { REPORT_RETRY_MS = 10 };

static void fresh_link (sim_world_t *w, sim_sender_t *sender)
{
    ctki_out_link_made (&sender->out, w->now_us, sim_chance (w));
    sender->blocked = false;
    sim_link_dial (w, sender);
}

sim_sender_t *sim_sender_start (sim_world_t *w, sim_process_t *process, unsigned peer)
{
    sim_sender_t *sender = calloc (1, sizeof *sender);
    CTKI_ASSERT (sender);
    sender->process = process;
    sender->peer = peer;
    ctki_mailbox_init (&sender->mailbox, w->pool, process->setup.frame_bytes);
    ctki_session_setup_t setup = process->setup;
    setup.peer = (ctalk_pid_t) peer + 1;
    ctki_out_init (&sender->out, &setup, w->now_us);
    sender->due_us = sender->connect_us = sender->notice_us = CTKI_FOREVER;
    sender->questions_end = &sender->questions;
    const sim_inbound_t *inbound = process->inbound[peer];
    sender->epoch = sender->question.epoch = sender->told.epoch = inbound ? inbound->life.epoch : 0;
    sender->told.state = CTALK_STATE_CONNECTING;
    sender->heard_us = process->heard_us[peer] ? process->heard_us[peer] : w->now_us;
    process->sender[peer] = sender;
    fresh_link (w, sender);
    sim_wake (w, process, SIM_SENDERS + peer, w->now_us);
    return sender;
}

void sim_sender_free (sim_world_t *w, sim_sender_t **sender_p)
{
    sim_sender_t *sender = *sender_p;
    if (!sender)
        return;
    *sender_p = NULL;
    sim_link_tear_down (w, sender);
    ctki_items_t items;
    ctki_mailbox_take (&sender->mailbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_item_release (item);
    ctki_out_fini (&sender->out);
    ctki_mailbox_fini (&sender->mailbox);
    while (sender->questions) {
        sim_question_t *question = sender->questions;
        sender->questions = question->next;
        ctki_free (question);
    }
    sim_oracle_forget (&sender->stream);
    free (sender);
}

/* ---- the link */

static void watch_link (sim_world_t *w, sim_sender_t *sender)
{
    unsigned count = 0;
    while (count < sender->events && sender->event[count].at_us <= w->now_us) {
        int kind = sender->event[count++].kind;
        if (kind == CTKI_LINK_UP)
            ctki_out_link_up (&sender->out, w->now_us, sim_chance (w));
        else if (kind == CTKI_LINK_DOWN)
            ctki_out_link_down (&sender->out, w->now_us);
        sender->blocked = false;
    }
    sender->events -= count;
    memmove (sender->event, sender->event + count, sender->events * sizeof sender->event[0]);
}

static void keep_link (sim_world_t *w, sim_sender_t *sender)
{
    if (CTKI_LIKELY (!ctki_out_link_dead (&sender->out, w->now_us)))
        return;
    SIM_TELL (w, "%s gives up its link to %u", sim_name (sender->process), sender->peer + 1);
    sim_did (SIM_DID_RELINK);
    sim_link_tear_down (w, sender);
    fresh_link (w, sender);
}

/* ---- frames */

static void count_frame_in (const sim_sender_t *sender)
{
    ctki_out_state_t state = sender->out.state;
    sim_did (state == CTKI_OUT_OPEN    ? SIM_DID_STATE_OPEN
             : state == CTKI_OUT_GREET ? SIM_DID_STATE_GREET
                                       : SIM_DID_STATE_NOLINK);
}

static void take_frame (sim_world_t *w, sim_sender_t *sender, sim_packet_t *packet)
{
    ctki_frame_t frame;
    const char *bad = ctki_wire_decode (&frame, sim_packet_part (packet, 0), packet->size[0], NULL, 0);
    SIM_EXPECT (w, !bad, "a bad frame: %s", bad);
    count_frame_in (sender);
    bool taken = ctki_out_receive (&sender->out, w->now_us, &frame);
    if (taken)
        sender->process->heard_us[sender->peer] = w->now_us;
    sim_oracle_heard (w, sender, &frame, taken);
}

/* Returns whether there may be more. */
static bool receive (sim_world_t *w, sim_sender_t *sender)
{
    for (int i = 0; i < SIM_BATCH; i++) {
        sim_packet_t *packet = sim_link_receive (w, sender);
        if (!packet)
            return false;
        w->events++;
        take_frame (w, sender, packet);
        sim_packet_free (w, packet);
    }
    return true;
}

static void feed (sim_sender_t *sender)
{
    ctki_items_t items;
    if (!ctki_out_hungry (&sender->out) || !ctki_mailbox_take (&sender->mailbox, &items))
        return;
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (&sender->out, item);
}

static void count_frame_out (const ctki_emit_t *emit)
{
    uint8_t type = emit->frame.type;
    sim_did (type == CTKI_HELLO  ? SIM_DID_HELLO
             : type == CTKI_PING ? SIM_DID_PING
             : emit->sent->given ? SIM_DID_DATA_AGAIN
                                 : SIM_DID_DATA);
}

/* Returns whether there may be more. */
static bool emit (sim_world_t *w, sim_sender_t *sender)
{
    for (int i = 0; i < SIM_BATCH; i++) {
        ctki_emit_t next;
        uint8_t scratch[CTKI_SCRATCH_BYTES];
        ctki_part_t parts[2];
        feed (sender);
        if (!ctki_out_next (&sender->out, w->now_us, &next))
            return false;
        int count = ctki_emit_parts (&next, scratch, parts);
        if (sim_link_send (w, sender, parts, count)) {
            sender->blocked = true;
            ctki_out_blocked (&sender->out, w->now_us);
            return false;
        }
        SIM_TELL (w, "%s -> %u type %u sid %" PRIx64 " n %" PRIu64 " flags %x round %u", sim_name (sender->process),
                  sender->peer + 1, next.frame.type, next.frame.sid, next.frame.n, next.frame.flags, next.frame.round);
        count_frame_out (&next);
        sim_oracle_sent (w, sender, &next);
        ctki_out_sent (&sender->out, w->now_us, &next);
    }
    return true;
}

/* ---- reporting to the router */

static bool is_news (const sim_sender_t *sender, const sim_report_t *now)
{
    const sim_report_t *told = &sender->told;
    return sender->out.obit || now->epoch != told->epoch || now->inc != told->inc || now->state != told->state
           || now->refused != told->refused || (now->stuck_ms != 0) != (told->stuck_ms != 0);
}

static int tell (sim_world_t *w, sim_sender_t *sender, const sim_report_t *now)
{
    sim_process_t *process = sender->process;
    sim_report_t *report = ctki_alloc (sizeof *report);
    if (!report)
        return -1;
    *report = *now;
    report->peer = sender->peer;
    report->next = NULL;
    report->obit = NULL;
    if (!(report->restart = ctki_alloc_zero (sizeof *report->restart))) {
        ctki_free (report);
        return -1;
    }
    report->obit = ctki_out_obit (&sender->out);
    sim_oracle_reported (w, sender, report);
    sim_did (SIM_DID_REPORT);
    report->at_us = sim_soon (w);
    for (const sim_report_t *other = process->reports; other; other = other->next)
        report->at_us = CTKI_MAX (report->at_us, other->at_us); /* one pipe: in order */
    *process->reports_end = report;
    process->reports_end = &report->next;
    sim_wake (w, process, SIM_ROUTER, report->at_us);
    return 0;
}

/* Returns when to try again. */
static int64_t report (sim_world_t *w, sim_sender_t *sender, sim_report_t *now)
{
    const ctki_out_t *out = &sender->out;
    now->epoch = sender->epoch;
    now->inc = out->sid ? out->peer_inc : 0;
    now->alive_us = out->alive_to_us;
    now->refused = out->rejected;
    now->stuck_ms = out->stuck_ms >= out->setup.down_us / CTKI_MS ? out->stuck_ms : 0;
    if (!is_news (sender, now))
        return CTKI_FOREVER;
    if (tell (w, sender, now))
        return w->now_us + REPORT_RETRY_MS * CTKI_MS;
    sender->told = *now;
    return CTKI_FOREVER;
}

static void count_carried (sim_sender_t *sender)
{
    ctki_items_t items;
    if (!sender->out.obit || !ctki_mailbox_take (&sender->mailbox, &items))
        return;
    for (ctki_item_t *item; (item = ctki_items_take (&items));) {
        sender->out.obit->carried += item->count;
        ctki_out_push (&sender->out, item);
    }
}

static void hear_commands (sim_world_t *w, sim_sender_t *sender)
{
    for (sim_question_t *question; (question = sender->questions) && question->at_us <= w->now_us;) {
        sender->question.epoch = question->epoch;
        sender->question.proof = question->proof;
        sender->questions = question->next;
        if (!sender->questions)
            sender->questions_end = &sender->questions;
        ctki_free (question);
    }
}

/* Returns when to try again. */
static int64_t hear_question (sim_world_t *w, sim_sender_t *sender)
{
    if (sender->question.epoch == sender->epoch)
        return CTKI_FOREVER;
    bool taken = ctki_out_incarnation (&sender->out, w->now_us, &sender->question.proof, sim_chance (w));
    sim_oracle_asked (w, sender, sender->question.proof.inc);
    if (!taken)
        return w->now_us + REPORT_RETRY_MS * CTKI_MS;
    sender->epoch = sender->question.epoch;
    return CTKI_FOREVER;
}

/* ---- the step */

static void hear_router (sim_sender_t *sender)
{
    ctki_out_heard (&sender->out, sender->process->heard_us[sender->peer]);
}

static void mind_lateness (sim_world_t *w, sim_sender_t *sender)
{
    int64_t late_us = sender->due_us == CTKI_FOREVER ? 0 : w->now_us - sender->due_us;
    if (late_us <= sender->out.setup.heartbeat_us / 2)
        return;
    SIM_TELL (w, "%s is %" PRId64 " us late with %u", sim_name (sender->process), late_us, sender->peer + 1);
    hear_router (sender);
    ctki_out_late (&sender->out, w->now_us, late_us);
}

static bool exchange (sim_world_t *w, sim_sender_t *sender)
{
    watch_link (w, sender);
    sender->blocked = false;
    sender->out.watched = sender->process->watching;
    if (!sender->out.watched)
        sender->stream.unwatched = true;
    bool more = receive (w, sender);
    hear_router (sender);
    if (!more)
        keep_link (w, sender);
    count_carried (sender);
    return emit (w, sender) || more;
}

static int64_t next_due (const sim_sender_t *sender)
{
    return sender->blocked ? ctki_out_link_deadline (&sender->out) : ctki_out_deadline (&sender->out);
}

/* What would ring it, or wake it from its sleep, before it is due. */
static int64_t next_ring (const sim_sender_t *sender)
{
    int64_t at_us = sender->events ? sender->event[0].at_us : CTKI_FOREVER;
    if (sender->questions)
        at_us = CTKI_MIN (at_us, sender->questions->at_us);
    if (sender->conn && sender->conn->back.head)
        at_us = CTKI_MIN (at_us, sender->conn->back.head->at_us);
    return at_us;
}

void sim_sender_step (sim_world_t *w, sim_sender_t *sender)
{
    sim_report_t now = {0};
    sim_oracle_woke (w, sender);
    mind_lateness (w, sender);
    hear_commands (w, sender);
    sim_memory_begin (w);
    int64_t retry_us = hear_question (w, sender);
    bool more = exchange (w, sender);
    sim_oracle_stepped (w, sender);
    int64_t until_us;
    now.state = ctki_out_peer_state (&sender->out, w->now_us, &until_us);
    retry_us = CTKI_MIN (retry_us, report (w, sender, &now));
    sim_memory_end (w);
    until_us = CTKI_MIN (CTKI_MIN (until_us, retry_us), next_due (sender));
    sender->due_us = until_us;
    until_us = CTKI_MIN (until_us, next_ring (sender));
    if (sender->blocked && sender->conn
        && sender->conn->there.count < w->room) /* it had room: as after EAGAIN for no reason */
        until_us = CTKI_MIN (until_us, sim_soon (w) + 100);
    sim_wake (w, sender->process, SIM_SENDERS + sender->peer, more ? w->now_us : CTKI_MAX (until_us, w->now_us));
}
