/*
 * inbox.c - handing out envelopes under one lock, one cursor.
 */
#include "src/inbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/mem.h"

void ctki_inbox_init (ctki_inbox_t *inbox, ctki_bell_t *bell)
{
    *inbox = (ctki_inbox_t) {.fd = -1, .lead_fd = -1, .bell = bell};
    ctki_lock_init (&inbox->lock);
}

/* ---- flows */

ctki_flow_t *ctki_flow_new (ctki_peer_t *peer, bool local)
{
    ctki_flow_t *flow = ctki_alloc_zero (sizeof *flow);
    if (!flow)
        return NULL;
    flow->refs = 1;
    flow->local = local;
    flow->peer = peer;
    flow->wake_byte = flow->wake_frame = UINT64_MAX;
    ctki_peer_hold (peer);
    return flow;
}

static void unref_flow (ctki_flow_t *flow)
{
    if (--flow->refs == 0) {
        ctki_peer_release (flow->peer);
        ctki_free (flow);
    }
}

/* Its listing holds a reference, so that a flow in the list is alive. */
static void unlist (ctki_inbox_t *inbox, ctki_flow_t *flow)
{
    for (ctki_flow_t **link = &inbox->told; *link; link = &(*link)->next) {
        if (*link == flow) {
            *link = flow->next;
            flow->listed = false;
            unref_flow (flow);
            return;
        }
    }
}

void ctki_flow_release (ctki_inbox_t *inbox, ctki_flow_t *flow)
{
    if (!flow)
        return;
    ctki_lock_take (&inbox->lock);
    flow->wake_byte = flow->wake_frame = UINT64_MAX; /* the session is over: nobody wants to know */
    if (flow->listed)
        unlist (inbox, flow);
    unref_flow (flow);
    ctki_lock_release (&inbox->lock);
}

void ctki_flow_hold (ctki_inbox_t *inbox, ctki_flow_t *flow)
{
    ctki_lock_take (&inbox->lock);
    flow->refs++;
    ctki_lock_release (&inbox->lock);
}

void ctki_flow_unhold (ctki_inbox_t *inbox, ctki_flow_t *flow)
{
    ctki_lock_take (&inbox->lock);
    unref_flow (flow);
    ctki_lock_release (&inbox->lock);
}

/* With the lock held; returns whether to ring the router. */
static bool tell (ctki_inbox_t *inbox, ctki_flow_t *flow)
{
    if (CTKI_LIKELY (flow->byte < flow->wake_byte && flow->frames < flow->wake_frame) || flow->listed)
        return false;
    flow->listed = true;
    flow->refs++;
    flow->next = inbox->told;
    inbox->told = flow;
    return true;
}

void ctki_inbox_watch (ctki_inbox_t *inbox, ctki_flow_t *flow, uint64_t wake_byte, uint64_t wake_frame)
{
    ctki_lock_take (&inbox->lock);
    flow->wake_byte = wake_byte;
    flow->wake_frame = wake_frame;
    bool ring = tell (inbox, flow);
    ctki_lock_release (&inbox->lock);
    if (ring)
        ctki_bell_ring (inbox->bell);
}

void ctki_inbox_skip (ctki_inbox_t *inbox, ctki_flow_t *flow, uint64_t envelopes, uint64_t byte, uint64_t frames)
{
    ctki_lock_take (&inbox->lock);
    flow->consumed += envelopes;
    flow->byte += byte;
    flow->frames += frames;
    bool ring = tell (inbox, flow);
    ctki_lock_release (&inbox->lock);
    if (ring)
        ctki_bell_ring (inbox->bell);
}

ctki_flow_t *ctki_inbox_told (ctki_inbox_t *inbox, ctki_flow_t *copy)
{
    ctki_lock_take (&inbox->lock);
    ctki_flow_t *flow = inbox->told;
    if (flow) {
        *copy = *flow;
        flow->wake_byte = flow->wake_frame = UINT64_MAX; /* until the router sets them anew */
        unlist (inbox, flow); /* the session's own reference keeps it */
    }
    ctki_lock_release (&inbox->lock);
    return flow;
}

void ctki_inbox_read (ctki_inbox_t *inbox, const ctki_flow_t *flow, ctki_flow_t *copy)
{
    ctki_lock_take (&inbox->lock);
    *copy = *flow;
    ctki_lock_release (&inbox->lock);
}

/* ---- filling */

/* Nobody is cancelled within, holding the lock. */
static void write_fd (int fd)
{
    uint64_t one = 1;
    int cancel = ctki_cancel_disable ();
    if (write (fd, &one, sizeof one) < 0)
        CTKI_ASSERT (errno == EAGAIN); /* it is readable already */
    ctki_cancel_restore (cancel);
}

static void signal_fd (const ctki_inbox_t *inbox)
{
    if (inbox->fd >= 0)
        write_fd (inbox->fd);
}

static void clear_fd (const ctki_inbox_t *inbox)
{
    uint64_t count;
    if (inbox->fd < 0)
        return;
    int cancel = ctki_cancel_disable ();
    if (read (inbox->fd, &count, sizeof count) < 0)
        CTKI_ASSERT (errno == EAGAIN);
    ctki_cancel_restore (cancel);
}

/* The leader sleeps: wake it. Async-signal-safe. */
static void rouse (ctki_inbox_t *inbox)
{
    if (atomic_load (&inbox->dozing) && atomic_exchange (&inbox->dozing, false))
        write_fd (inbox->lead_fd);
}

/* With the lock held; returns whether somebody waits for it at the gate. A
 * leader that is awake looks for itself, and passes on what it leaves. */
static bool append (ctki_inbox_t *inbox, ctki_inlet_t *inlet)
{
    inlet->next = NULL;
    bool first = !inbox->head;
    if (first)
        inbox->head = inlet;
    else
        inbox->tail->next = inlet;
    inbox->tail = inlet;
    if (first && !inbox->closing)
        signal_fd (inbox);
    if (inbox->led && !inbox->guest_has) {
        rouse (inbox);
        return false;
    }
    return atomic_load (&inbox->gate.waiters) > 0;
}

void ctki_inbox_put (ctki_inbox_t *inbox, ctki_inlet_t *inlet, uint64_t wake_byte, uint64_t wake_frame)
{
    ctki_lock_take (&inbox->lock);
    inlet->flow->refs++;
    inlet->flow->wake_byte = wake_byte;
    inlet->flow->wake_frame = wake_frame;
    inlet->flow->peer->state_event = NULL;
    bool waits = append (inbox, inlet);
    ctki_lock_release (&inbox->lock);
    if (waits)
        ctki_gate_open_one (&inbox->gate);
}

/* ---- events */

/* Whether of several in a row the newest is enough. */
static bool is_state (ctalk_kind_t kind)
{
    return kind == CTALK_PEER_UP || kind == CTALK_PEER_SUSPECT || kind == CTALK_PEER_DOWN;
}

static size_t count_fates (const ctki_obit_t *obits)
{
    size_t count = 0;
    for (; obits; obits = obits->next)
        count += obits->count;
    return count;
}

/* The fates of several former sessions stand one after the other. */
static void copy_fates (ctalk_event_t *event, ctalk_fate_t *fates, const ctki_obit_t *obits)
{
    event->fate = event->fates ? fates : NULL;
    for (; obits; obits = obits->next) {
        event->consumed += obits->consumed;
        event->received += obits->received;
        event->in_doubt += obits->in_doubt;
        event->carried = obits->carried; /* what one left unsent is in the next one's figures */
        if (obits->count)
            memcpy (fates, obits->fate, obits->count * sizeof *fates);
        fates += obits->count;
    }
}

ctki_inlet_t *ctki_inlet_event (ctki_peer_t *peer, ctalk_kind_t kind, const ctalk_event_t *event,
                                const ctki_obit_t *obits)
{
    _Static_assert (sizeof (ctalk_event_t) % 8 == 0, "the fates behind an event are aligned");
    size_t fates = count_fates (obits);
    ctki_inlet_t *inlet = ctki_alloc_zero (sizeof *inlet);
    ctki_buf_t *buf = inlet ? ctki_buf_new (sizeof *event + fates * sizeof (ctalk_fate_t)) : NULL;
    if (!buf) {
        ctki_free (inlet);
        return NULL;
    }
    ctalk_event_t *copy = (ctalk_event_t *) (void *) buf->data;
    *copy = *event;
    copy->fates = fates;
    copy_fates (copy, (ctalk_fate_t *) (void *) (copy + 1), obits);
    ctki_peer_hold (peer);
    *inlet = (ctki_inlet_t) {.peer = peer, .kind = kind, .buf = buf, .at = buf->data, .left = sizeof *event,
                             .count = 1, .one = true};
    return inlet;
}

/* With the lock held: the event that is kept says the newer thing. */
static void overwrite (ctki_inlet_t *old, const ctki_inlet_t *inlet)
{
    ctki_buf_release (old->buf, 1);
    old->kind = inlet->kind;
    old->buf = inlet->buf;
    old->at = inlet->at;
    old->left = inlet->left;
}

void ctki_inbox_put_event (ctki_inbox_t *inbox, ctki_inlet_t *inlet)
{
    ctki_peer_t *peer = inlet->peer;
    bool waits = false;
    ctki_lock_take (&inbox->lock);
    ctki_inlet_t *old = is_state (inlet->kind) ? peer->state_event : NULL;
    if (old)
        overwrite (old, inlet);
    else {
        peer->state_event = is_state (inlet->kind) ? inlet : NULL;
        waits = append (inbox, inlet);
    }
    ctki_lock_release (&inbox->lock);
    if (old) {
        ctki_peer_release (peer);
        ctki_free (inlet);
    }
    if (waits)
        ctki_gate_open_one (&inbox->gate);
}

/* The memory of an inlet that is in no list; with the lock held unless it is the last one's. */
static void free_inlet (ctki_inlet_t *inlet)
{
    if (inlet->flow)
        unref_flow (inlet->flow);
    ctki_peer_release (inlet->peer);
    ctki_free (inlet);
}

void ctki_inlet_destroy (ctki_inbox_t *inbox, ctki_inlet_t *inlet)
{
    ctki_lock_take (&inbox->lock);
    ctki_buf_release (inlet->buf, inlet->count);
    free_inlet (inlet);
    ctki_lock_release (&inbox->lock);
}

/* ---- taking */

static inline void fill (ctalk_envelope_t *envelope, const ctki_inlet_t *inlet, const ctki_record_t *record, const void *data,
                  size_t size)
{
    *envelope = (ctalk_envelope_t) {.pid = inlet->flow->peer->pid,
                                    .msg_id = record->msg_id,
                                    .data = data,
                                    .size = size,
                                    .to = record->to,
                                    .from = record->from,
                                    .flags = record->flags & CTKI_R_BROADCAST ? CTALK_WAS_BROADCAST : 0,
                                    .lease = inlet->buf};
}

/* The next envelope of an inlet that is for the inbox; the router has checked
 * its records, and counted those that are for nobody. */
static void step (ctki_inlet_t *inlet, ctalk_envelope_t *envelope)
{
    if (CTKI_UNLIKELY (inlet->kind != CTALK_MESSAGE)) {
        *envelope = (ctalk_envelope_t) {.pid = inlet->peer->pid, .kind = inlet->kind, .data = inlet->at,
                                        .size = inlet->left, .lease = inlet->buf};
        return;
    }
    if (inlet->one) {
        fill (envelope, inlet, &inlet->record, inlet->at, inlet->left);
        return;
    }
    ctki_record_t record;
    const uint8_t *at;
    size_t head;
    do {
        at = inlet->at;
        head = ctki_record_get (at, inlet->left, &record);
        CTKI_ASSERT (head > 0);
        size_t whole = head + ctki_record_pad (record.len);
        inlet->at += whole;
        inlet->left -= whole;
    } while (CTKI_UNLIKELY (record.to != 0));
    fill (envelope, inlet, &record, at + head, record.len);
}

/* The head is used up. */
static void drop_head (ctki_inbox_t *inbox)
{
    ctki_inlet_t *inlet = inbox->head;
    inbox->head = inlet->next;
    if (!inbox->head) {
        inbox->tail = NULL;
        if (!inbox->closing)
            clear_fd (inbox);
    }
    if (inlet->flow)
        inlet->flow->frames += inlet->frames;
    else if (inlet->peer->state_event == inlet)
        inlet->peer->state_event = NULL;
}

/* With the lock held. Returns how many; *ring: the router is to be told. */
static int take (ctki_inbox_t *inbox, ctalk_envelope_t *envelopes, size_t capacity, uint64_t *local_charge, bool *ring)
{
    size_t taken = 0;
    while (taken < capacity && inbox->head) {
        ctki_inlet_t *inlet = inbox->head;
        ctki_flow_t *flow = inlet->flow;
        step (inlet, &envelopes[taken]);
        uint64_t charge = envelopes[taken].size + CTKI_CHARGE_BYTES;
        taken++;
        if (CTKI_UNLIKELY (!flow)) {
            drop_head (inbox);
            free_inlet (inlet);
            continue;
        }
        flow->consumed++;
        flow->byte += charge;
        ctki_count_locked (&flow->peer->consumed, 1);
        if (flow->local)
            *local_charge += charge;
        bool empty = --inlet->count == 0;
        if (empty)
            drop_head (inbox);
        *ring |= tell (inbox, flow);
        if (empty) {
            unref_flow (flow);
            ctki_free (inlet);
        }
    }
    return (int) taken;
}

/* Whether this receive is one that ctalk_server_wake () was meant for. */
static bool woken (ctki_inbox_t *inbox)
{
    unsigned wakes = atomic_load (&inbox->wakes);
    while (wakes > 0) {
        if (atomic_compare_exchange_weak (&inbox->wakes, &wakes, wakes - 1))
            return true;
    }
    return false;
}

/* ---- leading */

int ctki_inbox_accept_leaders (ctki_inbox_t *inbox, const ctki_lead_ops_t *ops, void *self)
{
    inbox->lead_fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (inbox->lead_fd < 0)
        return -1;
    inbox->lead = ops;
    inbox->leads = self;
    return 0;
}

bool ctki_inbox_is_empty (ctki_inbox_t *inbox)
{
    ctki_lock_take (&inbox->lock);
    bool empty = !inbox->head && !inbox->closing;
    ctki_lock_release (&inbox->lock);
    return empty && atomic_load (&inbox->wakes) == 0;
}

bool ctki_inbox_leads_on (ctki_inbox_t *inbox)
{
    if (!inbox->guest_has) /* the leader alone changes it */
        return ctki_inbox_is_empty (inbox);
    return !inbox->guest_has (inbox->guest_arg);
}

bool ctki_inbox_doze (ctki_inbox_t *inbox)
{
    bool guest = inbox->guest_has != NULL;
    ctki_lock_take (&inbox->lock);
    bool doze = (guest || !inbox->head) && !inbox->closing;
    if (doze)
        atomic_store (&inbox->dozing, true);
    ctki_lock_release (&inbox->lock);
    /* What a guest waits for, and a wake, come without the lock: who brings them sees that we doze, or we see them. */
    if (doze && (guest ? !inbox->guest_has (inbox->guest_arg) : atomic_load (&inbox->wakes) == 0))
        return true;
    if (doze)
        ctki_inbox_awake (inbox);
    return false;
}

void ctki_inbox_awake (ctki_inbox_t *inbox)
{
    uint64_t count;
    if (!atomic_exchange (&inbox->dozing, false))
        inbox->roused++;
    if (CTKI_LIKELY (inbox->roused == 0))
        return;
    if (read (inbox->lead_fd, &count, sizeof count) == sizeof count)
        inbox->roused -= count;
    else
        CTKI_ASSERT (errno == EAGAIN); /* it is about to be written: the next sleep is a short one */
}

/* With the lock held. */
static bool may_lead (ctki_inbox_t *inbox)
{
    inbox->offered = false;
    return inbox->lead && !inbox->led && inbox->lead->begin (inbox->leads);
}

/* With the lock held, as the next one. */
static void unlist_seat (ctki_seat_t *seat)
{
    *seat->link = seat->next;
    if (seat->next)
        seat->next->link = seat->link;
    seat->listed = false;
}

static void list_seat (ctki_inbox_t *inbox, ctki_seat_t *seat)
{
    seat->next = inbox->seats;
    seat->link = &inbox->seats;
    if (seat->next)
        seat->next->link = &seat->next;
    inbox->seats = seat;
    seat->listed = true;
}

/* ---- waiting */

/* One call that receives, and found nothing. */
typedef struct {
    int64_t deadline_us; /* -1: it has not waited yet */
    bool leads;
    sigset_t signals; /* as they were, while it leads */
} wait_t;

/* With the lock held. */
static void begin_lead (ctki_inbox_t *inbox, wait_t *wait)
{
    inbox->led = wait->leads = true;
    ctki_signals_hold (&wait->signals);
}

/* With the lock held. */
static void end_lead (ctki_inbox_t *inbox, wait_t *wait, bool busy)
{
    inbox->led = wait->leads = false;
    inbox->lead->end (inbox->leads, busy);
    ctki_lock_release (&inbox->lock); /* a handler may run now */
    ctki_signals_release (&wait->signals);
    ctki_lock_take (&inbox->lock);
}

/* With the lock held: somebody has led and does no more, or was to lead and does
 * not. Another one does, if one waits; some: there is something in the inbox for him. */
static void pass_on (ctki_inbox_t *inbox, bool some, bool lead)
{
    bool gate = (some || lead) && atomic_load (&inbox->gate.waiters) > 0;
    ctki_seat_t *seat = lead && !gate ? inbox->seats : NULL;
    if (lead)
        inbox->offered = gate || seat;
    if (gate)
        ctki_gate_open_one (&inbox->gate);
    else if (seat) {
        unlist_seat (seat);
        ctki_gate_open (&seat->gate);
    }
}

/* Leads for a while, with the lock held before and after. As await (). */
static int lead (ctki_inbox_t *inbox, wait_t *wait)
{
    if (!wait->leads)
        begin_lead (inbox, wait);
    ctki_lock_release (&inbox->lock);
    bool busy = false;
    int cancel = ctki_cancel_disable ();
    int rc = inbox->lead->turn (inbox->leads, wait->deadline_us, &wait->signals, &busy);
    ctki_cancel_restore (cancel);
    ctki_lock_take (&inbox->lock);
    if (busy) { /* the wait at the gate would not tell of a handler that runs now */
        if (ctki_signals_held (&wait->signals))
            rc = EINTR;
        end_lead (inbox, wait, true);
    }
    return rc == EAGAIN && !inbox->guest_has && (inbox->head || inbox->closing) ? 0 : rc;
}

/* Waits, with the lock held before and after. 0: look again; else an errno. */
static int await (ctki_inbox_t *inbox, int timeout_ms, wait_t *wait)
{
    if (timeout_ms == 0)
        return EAGAIN;
    if (wait->deadline_us < 0) {
        wait->deadline_us = ctki_deadline_us (timeout_ms);
        atomic_fetch_add (&inbox->receivers, 1);
    }
    if (wait->leads || may_lead (inbox))
        return lead (inbox, wait);
    unsigned ticket = ctki_gate_ticket (&inbox->gate);
    if (atomic_load (&inbox->wakes) > 0) { /* a wake takes no lock: it may have come before the ticket */
        ctki_gate_leave (&inbox->gate);
        return 0;
    }
    ctki_lock_release (&inbox->lock);
    int rc = ctki_gate_wait (&inbox->gate, ticket, wait->deadline_us);
    ctki_lock_take (&inbox->lock);
    if (rc == EAGAIN && (inbox->head || inbox->closing))
        return 0; /* at the last moment */
    return rc;
}

/* ---- waiting for something else */

/* Leads until it is there, if he may: else false, and he is listed. */
static bool lead_as_guest (ctki_inbox_t *inbox, ctki_seat_t *seat, bool (*has) (void *arg), void *arg,
                           int64_t deadline_us, int *rc)
{
    wait_t wait = {.deadline_us = deadline_us};
    ctki_lock_take (&inbox->lock);
    bool may = may_lead (inbox);
    if (may) {
        inbox->guest_has = has;
        inbox->guest_arg = arg;
        atomic_store (&seat->leads, true);
        begin_lead (inbox, &wait);
        while (wait.leads && *rc == 0 && !inbox->closing && !has (arg))
            *rc = lead (inbox, &wait);
        atomic_store (&seat->leads, false);
        inbox->guest_has = NULL;
        bool led = wait.leads;
        if (led)
            end_lead (inbox, &wait, false);
        pass_on (inbox, inbox->head != NULL, led);
    } else
        list_seat (inbox, seat);
    ctki_lock_release (&inbox->lock);
    return may;
}

/* Whether it was woken to lead. */
static bool stand_up (ctki_inbox_t *inbox, ctki_seat_t *seat)
{
    ctki_lock_take (&inbox->lock);
    bool listed = seat->listed;
    if (listed)
        unlist_seat (seat);
    ctki_lock_release (&inbox->lock);
    return !listed;
}

/* It was woken to lead, and leaves. */
static void decline (ctki_inbox_t *inbox)
{
    ctki_lock_take (&inbox->lock);
    if (inbox->offered)
        pass_on (inbox, inbox->head != NULL, true);
    ctki_lock_release (&inbox->lock);
}

int ctki_seat_wait (ctki_inbox_t *inbox, ctki_seat_t *seat, bool lead, bool (*has) (void *arg), void *arg,
                    int64_t deadline_us)
{
    int rc = 0;
    bool asked = false;
    lead = lead && inbox->lead;
    while (rc == 0 && !has (arg)) {
        unsigned ticket = ctki_gate_ticket (&seat->gate);
        asked = false;
        if (lead && lead_as_guest (inbox, seat, has, arg, deadline_us, &rc)) {
            ctki_gate_leave (&seat->gate);
            continue;
        }
        if (has (arg))
            ctki_gate_leave (&seat->gate);
        else
            rc = ctki_gate_wait (&seat->gate, ticket, deadline_us);
        asked = lead && stand_up (inbox, seat);
    }
    if (asked)
        decline (inbox);
    return rc == EAGAIN && has (arg) ? 0 : rc;
}

/* Who leads is not at the gate, though he has a ticket; and having led, he looks
 * whether it is there. One: when more are wanted, the kernel looks through all
 * sleepers of a bucket, of which a process has 16 on two processors (Linux 6.16 and
 * later), and there may be thousands of actors. */
void ctki_seat_wake (ctki_inbox_t *inbox, ctki_seat_t *seat)
{
    if (atomic_load (&seat->leads))
        rouse (inbox);
    else if (atomic_load (&seat->gate.waiters) > 0)
        ctki_gate_open_one (&seat->gate);
}

/* With the lock held: nearly every receive takes one more envelope of a run, and
 * not its last. False: nothing was done, it takes the long way. */
static inline bool take_at_once (ctki_inbox_t *inbox, ctalk_envelope_t *envelope)
{
    ctki_inlet_t *inlet = inbox->head;
    ctki_record_t record;
    if (!inlet || inlet->one || inlet->count < 2 || inbox->closing
        || atomic_load_explicit (&inbox->wakes, memory_order_relaxed) || atomic_load (&inbox->gate.waiters) > 0)
        return false;
    ctki_flow_t *flow = inlet->flow;
    size_t head = ctki_record_get (inlet->at, inlet->left, &record);
    if (head == 0 || record.to != 0)
        return false;
    uint64_t charge = record.len + CTKI_CHARGE_BYTES;
    if (!flow->listed && flow->byte + charge >= flow->wake_byte)
        return false;
    fill (envelope, inlet, &record, inlet->at + head, record.len);
    size_t whole = head + ctki_record_pad (record.len);
    inlet->at += whole;
    inlet->left -= whole;
    inlet->count--;
    flow->consumed++;
    flow->byte += charge;
    ctki_count_locked (&flow->peer->consumed, 1);
    return true;
}

/* The quick way for one envelope: true when there was one. */
static inline bool take_quickly (ctki_inbox_t *inbox, ctalk_envelope_t *envelope)
{
    ctki_lock_take (&inbox->lock);
    bool taken = take_at_once (inbox, envelope);
    ctki_lock_release (&inbox->lock);
    return taken;
}

/* A flow has come to where the router wants to know. */
static void tell_router (ctki_inbox_t *inbox)
{
    int cancel = ctki_cancel_disable ();
    if (!inbox->lead || !inbox->lead->serve (inbox->leads))
        ctki_bell_ring (inbox->bell);
    ctki_cancel_restore (cancel);
}

/* Not inlined: what it needs would be saved and restored on the quick way, too. */
__attribute__ ((noinline)) static int take_slowly (ctki_inbox_t *inbox, ctalk_envelope_t *envelopes, size_t capacity,
                                                   int timeout_ms, uint64_t *local_charge)
{
    wait_t wait = {.deadline_us = -1};
    int taken = 0, error = 0;
    bool ring = false;
    ctki_lock_take (&inbox->lock);
    while (taken == 0 && error == 0) {
        if (CTKI_UNLIKELY (inbox->closing))
            error = ESHUTDOWN;
        else if (CTKI_UNLIKELY (atomic_load_explicit (&inbox->wakes, memory_order_relaxed) && woken (inbox)))
            error = EINTR;
        else if (inbox->head)
            taken = take (inbox, envelopes, capacity, local_charge, &ring);
        else
            error = await (inbox, timeout_ms, &wait);
    }
    if (wait.deadline_us >= 0)
        atomic_fetch_sub (&inbox->receivers, 1);
    /* One was woken per frame: it passes the wake on if it leaves something; a
     * leader also if it leaves nothing: another one leads then. So does one who
     * waited and may have been woken to lead. */
    bool led = wait.leads;
    if (led)
        end_lead (inbox, &wait, false);
    pass_on (inbox, inbox->head != NULL, led || (inbox->offered && wait.deadline_us >= 0));
    ctki_lock_release (&inbox->lock);
    if (CTKI_UNLIKELY (ring))
        tell_router (inbox);
    if (error) {
        errno = error;
        return -1;
    }
    return taken;
}

int ctki_inbox_take (ctki_inbox_t *inbox, ctalk_envelope_t *envelopes, size_t capacity, int timeout_ms,
                     uint64_t *local_charge)
{
    if (CTKI_LIKELY (capacity == 1 && take_quickly (inbox, envelopes)))
        return 1;
    return take_slowly (inbox, envelopes, capacity, timeout_ms, local_charge);
}

/* ---- descriptor, wake, close */

int ctki_inbox_fd (ctki_inbox_t *inbox)
{
    ctki_lock_take (&inbox->lock);
    if (inbox->fd < 0) {
        inbox->fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (inbox->fd >= 0 && (inbox->head || inbox->closing))
            signal_fd (inbox);
    }
    int fd = inbox->fd;
    ctki_lock_release (&inbox->lock);
    return fd;
}

void ctki_inbox_wake (ctki_inbox_t *inbox)
{
    for (;;) {
        unsigned wakes = atomic_load (&inbox->wakes);
        unsigned most = CTKI_MAX (atomic_load (&inbox->receivers), 1u);
        if (wakes < most) {
            if (atomic_compare_exchange_weak (&inbox->wakes, &wakes, wakes + 1))
                break;
        } else if (atomic_load (&inbox->wakes) == wakes)
            break; /* each that waits has one already; had one been taken meanwhile, both counts were to be read anew */
    }
    ctki_gate_open (&inbox->gate);
    rouse (inbox);
}

void ctki_inbox_close (ctki_inbox_t *inbox)
{
    ctki_lock_take (&inbox->lock);
    inbox->closing = true;
    signal_fd (inbox);
    rouse (inbox);
    ctki_lock_release (&inbox->lock);
    ctki_gate_open (&inbox->gate);
}

void ctki_inbox_fini (ctki_inbox_t *inbox)
{
    for (ctki_inlet_t *inlet; (inlet = inbox->head);) {
        inbox->head = inlet->next;
        ctki_buf_release (inlet->buf, inlet->count);
        free_inlet (inlet);
    }
    while (inbox->told)
        unlist (inbox, inbox->told);
    if (inbox->fd >= 0)
        close (inbox->fd);
    if (inbox->lead_fd >= 0)
        close (inbox->lead_fd);
}
