/*
 * demo_parent.c - starts the server processes, tells them of each other, leads
 * them from round to round, and sees to it that the demo ends whatever becomes
 * of them. It owns the processes and its ends of the socket pairs.
 *
 * What may go wrong: a child that cannot bind, dies, or makes no progress; a
 * signal. In each case the others are stopped, what is known is printed, and
 * no process stays behind: a child whose parent dies is killed by the kernel.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOOK_MS = 100,         /* how often progress is shown and idleness counted */
    STOP_TIMEOUT_MS = 2000 /* for the last figures of a demo that failed */
};

typedef struct {
    pid_t process;
    int control;
    bool alive;
    bool reached; /* what all are waited for */
    bool told;    /* why it failed was printed */
} server_t;

typedef struct {
    const demo_plan_t *plan;
    demo_report_t report;
    server_t servers[DEMO_SERVERS_MAX];
    char endpoints[DEMO_SERVERS_MAX][DEMO_ENDPOINT_BYTES]; /* where the port was left to the system */
    size_t started;
    bool failed;
    bool port_taken;
    demo_note_type_t awaited;
    int idle_ms;
    uint64_t moved;
    int signal_fd;
    int signal_seen;
    sigset_t former; /* the signal mask at the start, with the signals open */
} parent_t;

static const char *const what_is_awaited[] = {[DEMO_BOUND] = "has not bound its endpoint",
                                              [DEMO_UP] = "has not reached all the others",
                                              [DEMO_DONE] = "has not finished the round",
                                              [DEMO_CLOSED] = "has not closed"};

/* ------------------------------------------------------------ the processes */

/* In the child: what the parent does about signals is not the child's. A key
 * pressed goes to all of them; the parent alone answers it. */
static _Noreturn void be_child (parent_t *parent, size_t index, int control, pid_t parent_process)
{
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != parent_process)
        _exit (CLI_FAILED);
    signal (SIGINT, SIG_IGN);
    signal (SIGHUP, SIG_IGN);
    sigprocmask (SIG_SETMASK, &parent->former, NULL);
    close (parent->signal_fd);
    for (size_t i = 0; i < index; i++)
        close (parent->servers[i].control);
    demo_child (parent->plan, index, control);
}

static int start_child (parent_t *parent, size_t index)
{
    int ends[2];
    pid_t self = getpid ();
    if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == -1)
        return -1;
    pid_t process = fork ();
    if (process == 0) {
        close (ends[0]);
        be_child (parent, index, ends[1], self);
    }
    close (ends[1]);
    if (process == -1) {
        close (ends[0]);
        return -1;
    }
    parent->servers[index] = (server_t){.process = process, .control = ends[0], .alive = true};
    parent->started = index + 1;
    return 0;
}

static void start_children (parent_t *parent)
{
    parent->awaited = DEMO_BOUND;
    fflush (NULL);
    for (size_t i = 0; i < parent->plan->servers; i++) {
        if (start_child (parent, i) == -1) {
            cli_error ("starting a process for server %d: %s", (int) parent->plan->pids[i], strerror (errno));
            parent->failed = true;
            return;
        }
    }
}

static int reap (server_t *server)
{
    int status = 0;
    waitpid (server->process, &status, 0); /* no handler runs here: never EINTR */
    server->alive = false;
    close (server->control);
    return status;
}

static void kill_children (parent_t *parent)
{
    for (size_t i = 0; i < parent->started; i++) {
        if (parent->servers[i].alive)
            kill (parent->servers[i].process, SIGKILL);
    }
    for (size_t i = 0; i < parent->started; i++) {
        if (parent->servers[i].alive)
            reap (&parent->servers[i]);
    }
}

/* ---------------------------------------------------------------- listening */

/* Its end of the socket pair is closed: the process has ended. */
static void child_ended (parent_t *parent, size_t index)
{
    server_t *server = &parent->servers[index];
    int pid = (int) parent->plan->pids[index];
    int status = reap (server);
    if (server->reached && parent->awaited == DEMO_CLOSED && status == 0)
        return;
    parent->failed = true;
    parent->report.lost[index] = true;
    if (server->told)
        return;
    demo_report_clear (&parent->report);
    if (WIFSIGNALED (status))
        cli_error ("server %d (process %d) was killed by signal %d (%s)", pid, (int) server->process, WTERMSIG (status),
                   strsignal (WTERMSIG (status)));
    else
        cli_error ("server %d (process %d) ended with status %d", pid, (int) server->process, WEXITSTATUS (status));
}

static void child_failed (parent_t *parent, size_t index, const demo_note_t *note)
{
    demo_report_clear (&parent->report);
    cli_error ("server %d: %s", (int) parent->plan->pids[index], note->text);
    parent->servers[index].told = true;
    parent->failed = true;
    parent->report.counts[index] = note->counts;
    if (parent->awaited == DEMO_BOUND && note->value == EADDRINUSE)
        parent->port_taken = true;
}

/* With its real port a server can be reached by the others; the host stays the
 * one that the config gives, for a server may be bound to all addresses. */
static void note_endpoint (parent_t *parent, size_t index, const demo_note_t *note)
{
    const char *listed = ctalk_config_endpoint (parent->plan->config, parent->plan->pids[index]);
    const char *port = strrchr (note->text, ':');
    const char *end = listed ? strrchr (listed, ':') : NULL;
    char *endpoint = parent->endpoints[index];
    if (!end || !port || (strcmp (end, ":*") != 0 && strcmp (end, ":0") != 0))
        return;
    snprintf (endpoint, sizeof parent->endpoints[index], "%.*s%s", (int) (end - listed), listed, port);
}

static void take_note (parent_t *parent, size_t index, const demo_note_t *note)
{
    if (note->type == DEMO_FAILED) {
        child_failed (parent, index, note);
        return;
    }
    if (note->type == DEMO_BOUND)
        note_endpoint (parent, index, note);
    parent->report.counts[index] = note->counts;
    if (note->type == parent->awaited)
        parent->servers[index].reached = true;
    if (note->type != DEMO_PROGRESS)
        parent->idle_ms = 0;
}

static void hear (parent_t *parent, size_t index)
{
    demo_note_t note;
    while (parent->servers[index].alive) {
        ssize_t size = recv (parent->servers[index].control, &note, sizeof note, MSG_DONTWAIT);
        if (size == -1 && errno == EAGAIN)
            return;
        if (size == (ssize_t) sizeof note)
            take_note (parent, index, &note);
        else if (size != -1 || errno != EINTR)
            child_ended (parent, index);
    }
}

/* One wait for notes. The time in which nothing moved is counted in pieces, so
 * that a demo that was suspended is not taken for one that hangs. */
static void listen_once (parent_t *parent)
{
    struct pollfd fds[DEMO_SERVERS_MAX + 1];
    int64_t before_ms = cli_now_ms ();
    for (size_t i = 0; i < parent->started; i++)
        fds[i] = (struct pollfd){.fd = parent->servers[i].alive ? parent->servers[i].control : -1, .events = POLLIN};
    fds[parent->started] = (struct pollfd){.fd = parent->signal_fd, .events = POLLIN};
    if (poll (fds, parent->started + 1, LOOK_MS) > 0) {
        for (size_t i = 0; i < parent->started; i++) {
            if (fds[i].revents)
                hear (parent, i);
        }
        if (fds[parent->started].revents)
            parent->signal_seen = cli_take_signal (parent->signal_fd);
    }
    int64_t passed_ms = cli_now_ms () - before_ms;
    parent->idle_ms += (int) (passed_ms < LOOK_MS ? passed_ms : LOOK_MS);
    if (demo_report_moved (&parent->report) != parent->moved) {
        parent->moved = demo_report_moved (&parent->report);
        parent->idle_ms = 0;
    }
    demo_report_progress (&parent->report);
}

static bool all_reached (const parent_t *parent)
{
    for (size_t i = 0; i < parent->started; i++) {
        if (parent->servers[i].alive && !parent->servers[i].reached)
            return false;
    }
    return true;
}

static void say_stalled (parent_t *parent)
{
    demo_report_clear (&parent->report);
    for (size_t i = 0; i < parent->started; i++) {
        if (!parent->servers[i].reached)
            cli_error ("server %d %s, and nothing has moved for %d ms", (int) parent->plan->pids[i],
                       what_is_awaited[parent->awaited], parent->plan->timeout_ms);
    }
    parent->failed = true;
}

/* Until every server has got there. Returns false when one failed, a signal
 * came, or nothing moves any more. */
static bool await (parent_t *parent)
{
    parent->idle_ms = 0;
    while (!parent->failed && !parent->signal_seen && !all_reached (parent)) {
        listen_once (parent);
        if (parent->idle_ms >= parent->plan->timeout_ms && !all_reached (parent))
            say_stalled (parent);
    }
    return !parent->failed && !parent->signal_seen;
}

/* ------------------------------------------------------------------ leading */

static void tell (parent_t *parent, size_t index, const demo_note_t *note)
{
    if (!parent->servers[index].alive)
        return;
    /* EPIPE: it has just died, which is seen when listening. */
    if (send (parent->servers[index].control, note, sizeof *note, MSG_DONTWAIT | MSG_NOSIGNAL) == -1 && errno != EPIPE
        && errno != ECONNRESET) {
        cli_error ("server %d takes no orders: %s", (int) parent->plan->pids[index], strerror (errno));
        parent->failed = true;
    }
}

/* Gives an order to all and waits until they have carried it out. */
static bool order (parent_t *parent, demo_note_type_t type, int value, demo_note_type_t answer)
{
    const demo_note_t note = {.type = type, .value = value};
    parent->awaited = answer;
    for (size_t i = 0; i < parent->started; i++)
        parent->servers[i].reached = false;
    for (size_t i = 0; i < parent->started; i++)
        tell (parent, i, &note);
    return await (parent);
}

/* Tells everybody the endpoints that were not known before. */
static void introduce (parent_t *parent)
{
    demo_note_t note = {.type = DEMO_PEER};
    for (size_t i = 0; i < parent->started; i++) {
        if (!*parent->endpoints[i])
            continue;
        note.pid = parent->plan->pids[i];
        memcpy (note.text, parent->endpoints[i], sizeof parent->endpoints[i]);
        for (size_t k = 0; k < parent->started; k++)
            tell (parent, k, &note);
    }
}

static bool lead_rounds (parent_t *parent)
{
    for (demo_round_t round = DEMO_POINT_TO_POINT; round < DEMO_ROUNDS; round++) {
        demo_report_start (&parent->report, round);
        if (!order (parent, DEMO_START, (int) round, DEMO_DONE))
            return false;
        demo_report_end (&parent->report);
    }
    return true;
}

static bool lead (parent_t *parent)
{
    start_children (parent);
    if (!await (parent))
        return false;
    introduce (parent);
    return order (parent, DEMO_CONNECT, 0, DEMO_UP) && lead_rounds (parent)
           && order (parent, DEMO_CLOSE, 0, DEMO_CLOSED);
}

/* After a failure in a round: the last figures of those that still answer. */
static void stop_round (parent_t *parent)
{
    const demo_note_t note = {.type = DEMO_STOP};
    int64_t deadline_ms = cli_now_ms () + STOP_TIMEOUT_MS;
    for (size_t i = 0; i < parent->started; i++) {
        if (!parent->servers[i].reached)
            tell (parent, i, &note);
    }
    while (!parent->signal_seen && !all_reached (parent) && cli_now_ms () < deadline_ms)
        listen_once (parent);
    for (size_t i = 0; i < parent->started; i++)
        parent->report.lost[i] = !parent->servers[i].reached;
}

demo_outcome_t demo_run (const demo_plan_t *plan, int *signal_number)
{
    parent_t *parent = calloc (1, sizeof *parent);
    if (!parent) {
        cli_error ("%s", strerror (errno));
        return DEMO_NOT_WELL;
    }
    parent->plan = plan;
    demo_report_init (&parent->report, plan);
    parent->signal_fd = cli_catch_signals (&parent->former);
    bool well = lead (parent);
    if (!well && !parent->signal_seen && parent->report.started && parent->awaited == DEMO_DONE)
        stop_round (parent);
    demo_report_clear (&parent->report);
    kill_children (parent);
    demo_outcome_t outcome = well ? DEMO_OK : parent->port_taken ? DEMO_PORT_TAKEN : DEMO_NOT_WELL;
    *signal_number = parent->signal_seen;
    if (parent->signal_seen)
        outcome = DEMO_SIGNALLED;
    else if (parent->report.started && !demo_report_table (&parent->report, well))
        outcome = DEMO_NOT_WELL;
    close (parent->signal_fd);
    free (parent);
    return outcome;
}
