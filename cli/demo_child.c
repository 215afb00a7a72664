/*
 * demo_child.c - a server process of the demo. It does what the parent's notes
 * say, one after the other, and reports. In a round one thread sends and
 * receives by turns, and neither ever waits for the other: two servers that
 * only sent would stop each other.
 *
 * It owns its server. What may go wrong goes to the parent as a note; when the
 * parent has gone, the process ends.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BATCH_ENVELOPES = 64,    /* sent or taken at a time */
    RING_LINES = 1024,       /* the most that go round at once */
    CHARGE_BYTES = 64,       /* what an envelope costs in a queue besides its payload */
    PROGRESS_MS = 100,       /* between two reports */
    RETRY_MS = 1,            /* a send that found no room is tried again after this */
    CLOSE_TIMEOUT_MS = 10000 /* everything was acknowledged before, so this is never reached */
};

typedef struct {
    const demo_plan_t *plan;
    size_t index;
    int control;
    ctalk_server_t *server;
    int fd; /* of the inbox */
    demo_counts_t counts;
} child_t;

/* What this server sends in a round: the whole text to each target in turn. */
typedef struct {
    ctalk_pid_t targets[DEMO_SERVERS_MAX];
    size_t targets_count;
    size_t target;      /* the one at hand */
    uint64_t next;      /* the line to be sent */
    uint64_t each;      /* destinations of one envelope */
    uint64_t under_way; /* the most lines that may be on their way round; 0: no limit */
} feed_t;

/* A batch that came and is to be passed on round the ring. */
typedef struct {
    ctalk_envelope_t envelopes[BATCH_ENVELOPES];
    int first;
    int count;
} batch_t;

typedef struct {
    child_t *child;
    demo_check_t check;
    feed_t feed;
    batch_t held;
    bool passes_on;
    bool stopped;
    int64_t reported_ms;
} round_t;

/* ---------------------------------------------------------------- the notes */

static void tell (child_t *child, demo_note_type_t type, const char *text, int value)
{
    demo_note_t note = {.type = type, .pid = child->plan->pids[child->index], .value = value, .counts = child->counts};
    snprintf (note.text, sizeof note.text, "%s", text);
    int flags = MSG_NOSIGNAL | (type == DEMO_PROGRESS ? MSG_DONTWAIT : 0);
    if (send (child->control, &note, sizeof note, flags) == -1 && errno != EAGAIN)
        _exit (CLI_FAILED);
}

static _Noreturn void fail (child_t *child, int code, const char *format, ...) CLI_PRINTF (3, 4);

static _Noreturn void fail (child_t *child, int code, const char *format, ...)
{
    char text[DEMO_NOTE_BYTES];
    va_list args;
    va_start (args, format);
    vsnprintf (text, sizeof text, format, args);
    va_end (args);
    tell (child, DEMO_FAILED, text, code);
    ctalk_server_close (&child->server, 0);
    _exit (CLI_FAILED);
}

/* The next note of the parent. With flags MSG_DONTWAIT false: there is none. */
static bool hear (child_t *child, demo_note_t *note, int flags)
{
    ssize_t size = recv (child->control, note, sizeof *note, flags);
    if (size == (ssize_t) sizeof *note)
        return true;
    if (size == -1 && (errno == EAGAIN || errno == EINTR))
        return false;
    _exit (CLI_FAILED); /* the parent has gone */
}

/* --------------------------------------------------------------- the round */

static uint64_t ring_limit (const demo_plan_t *plan)
{
    const char *value = ctalk_config_get (plan->config, "QueueBytes");
    uint64_t lines = (value ? strtoull (value, NULL, 10) : 0) / (plan->text.longest + CHARGE_BYTES);
    return lines < 1 ? 1 : lines > RING_LINES ? RING_LINES : lines;
}

static void feed_init (feed_t *feed, const child_t *child, demo_round_t round)
{
    const demo_plan_t *plan = child->plan;
    *feed = (feed_t){.next = 1, .each = 1};
    if (round == DEMO_BROADCAST) {
        feed->targets[feed->targets_count++] = CTALK_BROADCAST;
        feed->each = plan->servers - 1;
    } else if (round == DEMO_RING && child->index == 0) {
        feed->targets[feed->targets_count++] = plan->pids[1];
        feed->under_way = ring_limit (plan);
    } else if (round == DEMO_POINT_TO_POINT && child->index == 0) {
        for (size_t i = 1; i < plan->servers; i++)
            feed->targets[feed->targets_count++] = plan->pids[i];
    }
}

static bool feed_ended (const feed_t *feed)
{
    return feed->target == feed->targets_count;
}

/* How many envelopes may be sent now: a batch, the rest of the text, or what
 * the ring has room for. */
static size_t feed_allowance (const round_t *round)
{
    const feed_t *feed = &round->feed;
    uint64_t allowed = round->child->plan->text.total + 1 - feed->next;
    if (feed->under_way > 0) {
        uint64_t out = feed->next - round->check.streams[round->child->plan->servers - 1].next;
        uint64_t room = out < feed->under_way ? feed->under_way - out : 0;
        allowed = allowed < room ? allowed : room;
    }
    return allowed < BATCH_ENVELOPES ? (size_t) allowed : BATCH_ENVELOPES;
}

/* Sends envelopes without waiting. Returns how many were accepted. */
static int send_batch (child_t *child, const ctalk_envelope_t *envelopes, size_t count, uint64_t destinations)
{
    int accepted = ctalk_send_many (child->server, envelopes, count, 0);
    if (accepted == -1 && errno != EAGAIN && errno != EINTR)
        fail (child, errno, "sending to %d: %s", (int) envelopes[0].pid, strerror (errno));
    if (accepted <= 0)
        return 0;
    child->counts.sent += (uint64_t) accepted * destinations;
    return accepted;
}

static int send_some (round_t *round)
{
    ctalk_envelope_t envelopes[BATCH_ENVELOPES] = {0};
    feed_t *feed = &round->feed;
    if (feed_ended (feed))
        return 0;
    size_t count = feed_allowance (round);
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        demo_line_t line = demo_text_line (&round->child->plan->text, feed->next + i);
        envelopes[i] = (ctalk_envelope_t){.pid = feed->targets[feed->target],
                                          .msg_id = (int64_t) (feed->next + i),
                                          .data = line.data,
                                          .size = line.size};
    }
    int accepted = send_batch (round->child, envelopes, count, feed->each);
    feed->next += (uint64_t) accepted;
    if (feed->next > round->child->plan->text.total) {
        feed->next = 1;
        feed->target++;
    }
    return accepted;
}

/* Passes on what came, to the next server of the ring, as far as there is room. */
static int pass_on (round_t *round)
{
    const demo_plan_t *plan = round->child->plan;
    batch_t *held = &round->held;
    ctalk_envelope_t out[BATCH_ENVELOPES] = {0};
    size_t count = (size_t) (held->count - held->first);
    for (size_t i = 0; i < count; i++) {
        const ctalk_envelope_t *in = &held->envelopes[(size_t) held->first + i];
        out[i] = (ctalk_envelope_t){.pid = plan->pids[(round->child->index + 1) % plan->servers],
                                    .msg_id = in->msg_id,
                                    .data = in->data,
                                    .size = in->size};
    }
    int accepted = send_batch (round->child, out, count, 1);
    for (int i = 0; i < accepted; i++)
        ctalk_envelope_close (&held->envelopes[held->first++]);
    return accepted;
}

static void drop_held (batch_t *held)
{
    while (held->first < held->count)
        ctalk_envelope_close (&held->envelopes[held->first++]);
}

/* Takes a batch from the inbox and looks it over; what is to be passed on is
 * held until it is. */
static int receive_some (round_t *round)
{
    batch_t *held = &round->held;
    if (held->first < held->count)
        return pass_on (round);
    int count = ctalk_recv_many (round->child->server, held->envelopes, BATCH_ENVELOPES, 0);
    if (count == -1 && errno != EAGAIN && errno != EINTR)
        fail (round->child, errno, "receiving: %s", strerror (errno));
    if (count <= 0)
        return 0;
    held->first = 0;
    held->count = count;
    for (int i = 0; i < count; i++)
        demo_check_take (&round->check, &held->envelopes[i]);
    if (round->passes_on)
        pass_on (round);
    else
        drop_held (held);
    return count;
}

static bool round_ended (const round_t *round)
{
    return round->stopped
           || (feed_ended (&round->feed) && demo_check_ended (&round->check) && round->held.first == round->held.count);
}

static void look_at_control (round_t *round)
{
    demo_note_t note;
    while (hear (round->child, &note, MSG_DONTWAIT)) {
        if (note.type == DEMO_STOP)
            round->stopped = true;
    }
}

static void report_now_and_then (round_t *round)
{
    int64_t now_ms = cli_now_ms ();
    if (now_ms - round->reported_ms < PROGRESS_MS)
        return;
    round->reported_ms = now_ms;
    tell (round->child, DEMO_PROGRESS, "", 0);
    look_at_control (round);
}

/* Nothing could be done: waits for an envelope, a note, or room. */
static void wait_a_moment (round_t *round)
{
    bool holds = round->held.first < round->held.count;
    bool wants_room = holds || (!feed_ended (&round->feed) && feed_allowance (round) > 0);
    struct pollfd fds[] = {{.fd = holds ? -1 : round->child->fd, .events = POLLIN},
                           {.fd = round->child->control, .events = POLLIN}};
    poll (fds, 2, wants_room ? RETRY_MS : PROGRESS_MS);
    if (fds[1].revents)
        look_at_control (round);
}

static void do_round (child_t *child, demo_round_t number)
{
    round_t round = {.child = child, .passes_on = number == DEMO_RING && child->index != 0};
    int64_t start_ns = cli_now_ns ();

    if (demo_check_init (&round.check, child->plan, child->index, number, &child->counts) == -1)
        fail (child, ENOMEM, "%s", strerror (ENOMEM));
    feed_init (&round.feed, child, number);
    while (!round_ended (&round)) {
        int moved = send_some (&round);
        moved += receive_some (&round);
        if (moved == 0)
            wait_a_moment (&round);
        report_now_and_then (&round);
    }
    drop_held (&round.held);
    child->counts.busy_ns += cli_now_ns () - start_ns;
    demo_check_fini (&round.check);
    tell (child, DEMO_DONE, "", (int) number);
}

/* ----------------------------------------------------------- start and end */

static void start_server (child_t *child)
{
    ctalk_error_t error = {0};
    ctalk_pid_t pid = child->plan->pids[child->index];
    child->server = ctalk_server_new (pid, child->plan->config, &error);
    if (!child->server)
        fail (child, error.code, "%s", error.text);
    for (size_t i = child->plan->servers; i < child->plan->listed; i++) {
        if (ctalk_server_remove_peer (child->server, child->plan->pids[i]) == -1)
            fail (child, errno, "leaving out server %d: %s", (int) child->plan->pids[i], strerror (errno));
    }
    child->fd = ctalk_server_fd (child->server);
    if (child->fd == -1)
        fail (child, errno, "the server's descriptor: %s", strerror (errno));
    tell (child, DEMO_BOUND, ctalk_server_endpoint (child->server), 0);
}

static void add_peer (child_t *child, const demo_note_t *note)
{
    if (note->pid != child->plan->pids[child->index]
        && ctalk_server_add_peer (child->server, note->pid, note->text) == -1)
        fail (child, errno, "adding server %d at %s: %s", (int) note->pid, note->text, strerror (errno));
}

static void wait_for_peers (child_t *child)
{
    while (ctalk_server_wait_up (child->server, SIZE_MAX, -1) == -1) {
        if (errno != EINTR)
            fail (child, errno, "waiting for the others: %s", strerror (errno));
    }
    tell (child, DEMO_UP, "", 0);
}

/* Whatever still comes after the last round has come twice. */
static void empty_inbox (child_t *child)
{
    ctalk_envelope_t envelope;
    while (ctalk_recv (child->server, &envelope, 0) == 0) {
        child->counts.received++;
        child->counts.duplicated++;
        ctalk_envelope_close (&envelope);
    }
}

/* The library keeps figures of its own: they must say the same. */
static void compare_figures (child_t *child)
{
    ctalk_stats_t stats = {0};
    if (ctalk_server_stats (child->server, CTALK_BROADCAST, &stats) == -1)
        fail (child, errno, "the library's figures: %s", strerror (errno));
    if (stats.accepted != child->counts.sent || stats.delivered != child->counts.sent
        || stats.consumed != child->counts.received)
        fail (child, 0,
              "sent %llu and received %llu, but the library says accepted %llu, delivered %llu, consumed %llu",
              (unsigned long long) child->counts.sent, (unsigned long long) child->counts.received,
              (unsigned long long) stats.accepted, (unsigned long long) stats.delivered,
              (unsigned long long) stats.consumed);
}

static _Noreturn void close_server (child_t *child)
{
    if (ctalk_server_flush (child->server, CTALK_BROADCAST, child->plan->timeout_ms) == -1)
        fail (child, errno, "waiting for the last acknowledgements: %s", strerror (errno));
    empty_inbox (child);
    compare_figures (child);
    int abandoned = ctalk_server_close (&child->server, CLOSE_TIMEOUT_MS);
    if (abandoned != 0)
        fail (child, 0, "%d envelopes were not delivered at the close", abandoned);
    tell (child, DEMO_CLOSED, "", 0);
    _exit (CLI_OK);
}

void demo_child (const demo_plan_t *plan, size_t index, int control)
{
    child_t child = {.plan = plan, .index = index, .control = control};
    demo_note_t note;

    start_server (&child);
    for (;;) {
        if (!hear (&child, &note, 0))
            continue;
        if (note.type == DEMO_PEER)
            add_peer (&child, &note);
        else if (note.type == DEMO_CONNECT)
            wait_for_peers (&child);
        else if (note.type == DEMO_START)
            do_round (&child, (demo_round_t) note.value);
        else if (note.type == DEMO_CLOSE)
            close_server (&child);
    }
}
