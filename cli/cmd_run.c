/*
 * cmd_run.c - "clustertalk run": one server between standard input and standard
 * output. One thread waits for everything in one poll; sends never wait, so a
 * full queue stops the reading of standard input and nothing else, and a slow
 * reader of standard output stops the receiving and nothing else.
 *
 * It owns the server and both buffers. What may go wrong: a bad line (told,
 * and on to the next), a peer that is absent (told at the end), a reader that
 * goes away (closes), a signal (closes; a second one closes at once).
 */
#include "cli/cli.h"
#include "cli/run.h"

#include <clustertalk.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OUTPUT_BYTES = 1 << 20,    /* with more than this waiting to be printed, nothing is received */
    RECEIVE_ENVELOPES = 64,    /* taken from the inbox at a time */
    RETRY_MS = 2,              /* a send that found no room is tried again after this */
    DRAIN_LOOK_MS = 10,        /* while closing: how often to see what is left */
    TIMEOUT_MS_DEFAULT = 5000, /* of closing */
    TIMEOUT_MS_MAX = 86400000, /* a day */
    ADDRESS_BYTES = 11,        /* the longest "PID " before a text */
    DETAILS_PEERS = 16         /* so many peers are named in the closing line */
};

typedef struct {
    const char *config_path;
    ctalk_pid_t pid;
    ctalk_pid_t to; /* with has_to */
    bool has_to;
    bool events; /* say what becomes of the peers */
    int timeout_ms;
} run_options_t;

typedef struct {
    const run_options_t *options;
    ctalk_server_t *server;
    int fd; /* of the server's inbox */
    run_input_t input;
    run_output_t output;
    ctalk_envelope_t envelope; /* with waiting: found no room yet; its data lies in the input's buffer */
    bool waiting;
    bool failed; /* something could not be read or printed */
    int signal_fd;
    int signals;            /* that came */
    sigset_t former;        /* the signal mask at the start, with them open */
    uint64_t refused_lines; /* not sent: told when it happened */
} run_t;

static const char help_text[] = "Usage: clustertalk run --config FILE --pid N [--to PID] [--timeout MS] [--events]\n"
                                "Is one server of the cluster in FILE. Each line \"PID TEXT\" of standard input\n"
                                "is sent to server PID, each line \"* TEXT\" to all the others; the number of\n"
                                "the line, from 1, is its message id. Each envelope that comes is printed as\n"
                                "\"PID MSGID TEXT\", PID being the sender's.\n"
                                "\n"
                                "      --config FILE      who is in the cluster\n"
                                "      --pid N            which of them this server is\n"
                                "      --to PID           send whole lines to PID, \"*\" for all the others\n"
                                "      --timeout MS       how long closing may take (5000)\n"
                                "      --events           say on standard error what becomes of the peers: up, down,\n"
                                "                         restarted, left ...\n"
                                "  -h, --help             this text\n"
                                "\n"
                                "TEXT is any bytes but the newline, up to MaxMessageBytes. It is printed as it\n"
                                "came, but for control characters (other than the tab) and bytes that are not\n"
                                "UTF-8, printed as \\xNN, and the backslash, printed as \\\\: what a peer sends\n"
                                "cannot drive your terminal, and can be read back.\n"
                                "\n"
                                "When a queue is full, standard input is not read until there is room; what\n"
                                "comes is printed all the same. The end of standard input, SIGINT, SIGTERM or\n"
                                "SIGHUP closes: the server waits until all is delivered, at most for the\n"
                                "timeout, and says on standard error what was left. A second signal closes at\n"
                                "once. A bad line is told on standard error with its number, and left out.\n"
                                "\n"
                                "Exit status: 0 every line was delivered, 1 not so, 2 wrong usage.\n";

/* ------------------------------------------------------------- the lines in */

/* "PID" or "*", up to end. 0, or -1. */
static int parse_pid (const char *text, size_t size, ctalk_pid_t *pid)
{
    char copy[ADDRESS_BYTES];
    int64_t number;
    if (size == 0 || size >= sizeof copy)
        return -1;
    memcpy (copy, text, size);
    copy[size] = '\0';
    if (strcmp (copy, "*") == 0) {
        *pid = CTALK_BROADCAST;
        return 0;
    }
    if (strlen (copy) != size || cli_number (copy, 0, INT32_MAX, &number) == -1)
        return -1;
    *pid = (ctalk_pid_t) number;
    return 0;
}

static void refuse (run_t *run, const char *why)
{
    cli_error ("line %" PRId64 ": %s", run->input.number, why);
    run->refused_lines++;
}

/* Makes an envelope of a line. 0, or -1: the line is bad, and said so. */
static int address (run_t *run, const char *line, size_t size)
{
    run->envelope =
        (ctalk_envelope_t){.pid = run->options->to, .msg_id = run->input.number, .data = line, .size = size};
    if (run->options->has_to)
        return 0;
    const char *space = memchr (line, ' ', size < ADDRESS_BYTES ? size : ADDRESS_BYTES);
    if (!space || parse_pid (line, (size_t) (space - line), &run->envelope.pid) == -1) {
        refuse (run, "not \"PID TEXT\" or \"* TEXT\"");
        return -1;
    }
    run->envelope.data = space + 1;
    run->envelope.size = size - (size_t) (space + 1 - line);
    return 0;
}

static void say_why_not_sent (run_t *run, int code)
{
    char text[96];
    if (code == EHOSTUNREACH)
        snprintf (text, sizeof text, "there is no server %d in the cluster", (int) run->envelope.pid);
    else if (code == EMSGSIZE)
        snprintf (text, sizeof text, "%zu bytes are more than MaxMessageBytes", run->envelope.size);
    else
        snprintf (text, sizeof text, "not sent: %s", strerror (code));
    refuse (run, text);
}

/* Tries to send the envelope at hand; with no room it waits. */
static void try_send (run_t *run)
{
    run->waiting = false;
    if (ctalk_send (run->server, &run->envelope, 0) == 0)
        return;
    if (errno == EAGAIN || errno == EINTR)
        run->waiting = true;
    else
        say_why_not_sent (run, errno);
}

/* Sends the lines that were read, as far as there is room. */
static void send_lines (run_t *run)
{
    const char *line;
    size_t size;
    if (run->waiting)
        try_send (run);
    while (!run->waiting) {
        run_line_t result = run_input_line (&run->input, &line, &size);
        if (result == RUN_NO_LINE)
            return;
        if (result == RUN_LINE_TOO_LONG)
            refuse (run, "longer than MaxMessageBytes");
        else if (address (run, line, size) == 0)
            try_send (run);
    }
}

static void read_input (run_t *run)
{
    if (run_input_read (&run->input, STDIN_FILENO) == 0 || errno == EINTR || errno == EAGAIN)
        return;
    cli_error ("standard input: %s", strerror (errno));
    run->input.ended = true;
    run->failed = true;
}

/* ----------------------------------------------------------- the lines out */

/* "server 2: down: nothing is heard from it" */
static void tell_event (const ctalk_envelope_t *envelope)
{
    static const char *const names[] = {
        [CTALK_PEER_UP] = "up",           [CTALK_PEER_SUSPECT] = "suspect", [CTALK_PEER_DOWN] = "down",
        [CTALK_PEER_RESTARTED] = "restarted", [CTALK_PEER_LEFT] = "left",       [CTALK_PEER_STUCK] = "stuck",
        [CTALK_PEER_REFUSED] = "refused", [CTALK_PEER_ABANDONED] = "abandoned envelopes for this server"};
    const ctalk_event_t *event = envelope->data;
    size_t kind = (size_t) envelope->kind;
    if (kind >= sizeof names / sizeof names[0] || !names[kind])
        return; /* of a later version */
    char fates[128] = "";
    if (envelope->kind == CTALK_PEER_RESTARTED)
        snprintf (fates, sizeof fates, ": %llu consumed, %llu received, %llu in doubt, %llu go to it now",
                  (unsigned long long) event->consumed, (unsigned long long) event->received,
                  (unsigned long long) event->in_doubt, (unsigned long long) event->carried);
    fprintf (stderr, "server %d: %s%s%s%s\n", (int) envelope->pid, names[kind], event->text[0] ? ": " : "", event->text,
             fates);
}

/* Takes what is in the inbox, until the output is full enough. */
static void receive (run_t *run)
{
    ctalk_envelope_t envelopes[RECEIVE_ENVELOPES];
    while (run_output_waiting (&run->output) < OUTPUT_BYTES) {
        int count = ctalk_recv_many (run->server, envelopes, RECEIVE_ENVELOPES, 0);
        if (count <= 0)
            return;
        for (int i = 0; i < count; i++) {
            if (envelopes[i].kind == CTALK_MESSAGE && run_output_add (&run->output, &envelopes[i]) == -1) {
                cli_error ("an envelope of %zu bytes was not printed: %s", envelopes[i].size, strerror (errno));
                run->failed = true;
            }
            if (envelopes[i].kind != CTALK_MESSAGE)
                tell_event (&envelopes[i]);
            ctalk_envelope_close (&envelopes[i]);
        }
        if (count < RECEIVE_ENVELOPES)
            return;
    }
}

static void write_output (run_t *run)
{
    if (run_output_write (&run->output, STDOUT_FILENO) == 0 || errno == EPIPE)
        return;
    cli_error ("standard output: %s", strerror (errno));
    run->failed = true;
}

/* ------------------------------------------------------------- the one poll */

enum { POLL_SIGNALS, POLL_SERVER, POLL_OUTPUT, POLL_INPUT, POLL_COUNT };

/* Waits for whatever can go on, at most timeout_ms (-1: for ever), and does
 * it. wants_input: more lines may be read. */
static void step (run_t *run, bool wants_input, int timeout_ms)
{
    bool full = run_output_waiting (&run->output) >= OUTPUT_BYTES;
    bool printing = run_output_waiting (&run->output) > 0;
    struct pollfd fds[POLL_COUNT] = {
        [POLL_SIGNALS] = {.fd = run->signal_fd, .events = POLLIN},
        [POLL_SERVER] = {.fd = full ? -1 : run->fd, .events = POLLIN},
        [POLL_OUTPUT] = {.fd = run->output.broken ? -1 : STDOUT_FILENO, .events = printing ? POLLOUT : 0},
        [POLL_INPUT] = {.fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN}};

    if (poll (fds, POLL_COUNT, timeout_ms) == -1)
        return;
    if (fds[POLL_SIGNALS].revents)
        run->signals += cli_take_signal (run->signal_fd) != 0;
    if (fds[POLL_SERVER].revents)
        receive (run);
    if (fds[POLL_OUTPUT].revents & (POLLERR | POLLHUP | POLLNVAL))
        run->output.broken = true;
    else if (fds[POLL_OUTPUT].revents & POLLOUT)
        write_output (run);
    if (fds[POLL_INPUT].revents)
        read_input (run);
}

/* Runs until the end of the input, a signal, or the loss of the reader. */
static void serve (run_t *run)
{
    while (run->signals == 0 && !run->output.broken) {
        send_lines (run);
        if (run->input.ended && !run->waiting)
            return;
        step (run, !run->waiting && !run->input.ended, run->waiting ? RETRY_MS : -1);
    }
}

/* ------------------------------------------------------------------ closing */

/* The end of a server: its members, and what was queued for each of them at
 * the last look. */
typedef struct {
    int64_t deadline_ms;
    int count;
    ctalk_pid_t *pids;
    uint64_t *queued;
    uint64_t skipped;
    int abandoned;
} closing_t;

static void closing_init (closing_t *closing, run_t *run)
{
    int count = ctalk_server_members (run->server, NULL, 0);
    *closing = (closing_t){.deadline_ms = cli_now_ms () + run->options->timeout_ms};
    closing->pids = calloc ((size_t) count + 1, sizeof *closing->pids);
    closing->queued = calloc ((size_t) count + 1, sizeof *closing->queued);
    if (closing->pids && closing->queued)
        closing->count = ctalk_server_members (run->server, closing->pids, (size_t) count);
}

static void closing_fini (closing_t *closing)
{
    free (closing->pids);
    free (closing->queued);
}

/* What is queued for a peer that may still take it: one that left does not. */
static uint64_t still_queued (run_t *run, ctalk_pid_t peer)
{
    ctalk_stats_t stats;
    if (ctalk_server_stats (run->server, peer, &stats) == -1 || stats.state == CTALK_STATE_LEFT)
        return 0;
    return stats.queued;
}

static bool is_drained (run_t *run, const closing_t *closing)
{
    for (int i = 0; i < closing->count; i++) {
        if (still_queued (run, closing->pids[i]) > 0)
            return false;
    }
    return run_output_waiting (&run->output) == 0;
}

/* Goes on receiving and printing until all is delivered: two servers that
 * close at once and have much for each other need each other's reading. */
static void drain (run_t *run, const closing_t *closing)
{
    int signals = run->signals;
    receive (run);
    while (!is_drained (run, closing) && run->signals == signals) {
        int64_t left = closing->deadline_ms - cli_now_ms ();
        if (left <= 0)
            return;
        step (run, false, left < DRAIN_LOOK_MS ? (int) left : DRAIN_LOOK_MS);
    }
}

static void look_at_figures (run_t *run, closing_t *closing)
{
    ctalk_stats_t stats;
    if (ctalk_server_stats (run->server, CTALK_BROADCAST, &stats) == 0)
        closing->skipped = stats.skipped;
    for (int i = 0; i < closing->count; i++) {
        if (ctalk_server_stats (run->server, closing->pids[i], &stats) == 0)
            closing->queued[i] = stats.queued;
    }
}

/* " (2 to server 3, 1 to server 7)", when that is known to be all of it. */
static void print_details (const closing_t *closing)
{
    uint64_t sum = 0;
    int named = 0;
    const char *before = " (";
    for (int i = 0; i < closing->count; i++) {
        sum += closing->queued[i];
        named += closing->queued[i] > 0;
    }
    if (sum != (uint64_t) closing->abandoned || named > DETAILS_PEERS)
        return;
    for (int i = 0; i < closing->count; i++) {
        if (closing->queued[i] > 0) {
            fprintf (stderr, "%s%" PRIu64 " to server %d", before, closing->queued[i], (int) closing->pids[i]);
            before = ", ";
        }
    }
    fputc (')', stderr);
}

/* Says what did not get to its receiver. Returns whether anything did not. */
static bool say_what_was_left (const run_t *run, const closing_t *closing)
{
    if (closing->abandoned > 0) {
        fprintf (stderr, "clustertalk: %d envelope%s not delivered", closing->abandoned,
                 closing->abandoned == 1 ? " was" : "s were");
        print_details (closing);
        fputc ('\n', stderr);
    }
    if (closing->skipped > 0)
        cli_error ("%" PRIu64 " copies of broadcasts were left out: the server was down and its queue full",
                   closing->skipped);
    if (run->waiting)
        cli_error ("line %" PRId64 " and what follows it was not sent: there was no room", run->input.number);
    return closing->abandoned > 0 || closing->skipped > 0 || run->waiting;
}

/* From here on a signal ends the process. Returns whether one had come that the
 * poll did not see. */
static bool release_signals (run_t *run)
{
    bool came = cli_take_signal (run->signal_fd) != 0;
    close (run->signal_fd);
    sigprocmask (SIG_SETMASK, &run->former, NULL);
    return came;
}

static int close_server (run_t *run)
{
    closing_t closing;
    int signals = run->signals;

    closing_init (&closing, run);
    drain (run, &closing);
    look_at_figures (run, &closing);
    bool hurried = release_signals (run) || run->signals > signals;
    int64_t left = hurried ? 0 : closing.deadline_ms - cli_now_ms ();
    closing.abandoned = ctalk_server_close (&run->server, left > 0 ? (int) left : 0);
    bool incomplete = say_what_was_left (run, &closing);
    closing_fini (&closing);
    return incomplete || run->failed || run->refused_lines > 0 ? CLI_FAILED : CLI_OK;
}

/* ------------------------------------------------------------------ opening */

static size_t longest_line (const ctalk_config_t *config)
{
    const char *value = ctalk_config_get (config, "MaxMessageBytes");
    return (value ? strtoull (value, NULL, 10) : 0) + ADDRESS_BYTES;
}

static int run_server (const run_options_t *options, const ctalk_config_t *config)
{
    run_t run = {.options = options};
    ctalk_error_t error = {0};

    run.signal_fd = cli_catch_signals (&run.former);
    run.server = ctalk_server_new (options->pid, config, &error);
    if (!run.server) {
        cli_error ("%s", error.text);
        return CLI_FAILED;
    }
    run.fd = ctalk_server_fd (run.server);
    if (run.fd == -1 || run.signal_fd == -1) {
        cli_error ("a descriptor for waiting: %s", strerror (errno));
        ctalk_server_close (&run.server, 0);
        return CLI_FAILED;
    }
    if (options->events && ctalk_server_watch_peers (run.server, true) == -1)
        cli_error ("no events: %s", strerror (errno));
    run_input_init (&run.input, longest_line (config));
    run_output_init (&run.output, STDOUT_FILENO);
    serve (&run);
    int status = close_server (&run);
    run_output_fini (&run.output);
    run_input_fini (&run.input);
    return status;
}

static int run_config (const run_options_t *options)
{
    ctalk_error_t error = {0};
    ctalk_config_t *config = ctalk_config_load (options->config_path, &error);
    int status = CLI_FAILED;

    if (!config)
        cli_error ("%s", error.text);
    else if (options->has_to && options->to != CTALK_BROADCAST && !ctalk_config_endpoint (config, options->to))
        cli_error ("%s: there is no server %d to send to", options->config_path, (int) options->to);
    else
        status = run_server (options, config);
    ctalk_config_destroy (&config);
    return status;
}

static int take_option (run_options_t *options, int c)
{
    int64_t number = 0;
    int status = CLI_OK;
    switch (c) {
    case CLI_OPT_CONFIG:
        options->config_path = optarg;
        break;
    case CLI_OPT_PID:
        status = cli_number_option ("run", "--pid", 0, INT32_MAX, &number);
        options->pid = (ctalk_pid_t) number;
        break;
    case CLI_OPT_TO:
        options->has_to = true;
        if (parse_pid (optarg, strlen (optarg), &options->to) == -1)
            status = cli_usage_error ("run", "--to: '%s' is not a pid or *", optarg);
        break;
    case CLI_OPT_EVENTS:
        options->events = true;
        break;
    default:
        status = cli_number_option ("run", "--timeout", 0, TIMEOUT_MS_MAX, &number);
        options->timeout_ms = (int) number;
    }
    return status;
}

int cmd_run (int argc, char **argv)
{
    static const struct option table[] = {{"help", no_argument, NULL, CLI_OPT_HELP},
                                          {"config", required_argument, NULL, CLI_OPT_CONFIG},
                                          {"pid", required_argument, NULL, CLI_OPT_PID},
                                          {"to", required_argument, NULL, CLI_OPT_TO},
                                          {"timeout", required_argument, NULL, CLI_OPT_TIMEOUT},
                                          {"events", no_argument, NULL, CLI_OPT_EVENTS},
                                          {NULL, 0, NULL, 0}};
    run_options_t options = {.pid = -1, .timeout_ms = TIMEOUT_MS_DEFAULT};
    int c;

    while ((c = getopt_long (argc, argv, ":h", table, NULL)) != -1) {
        if (c == 'h' || c == CLI_OPT_HELP)
            return cli_print (help_text);
        if (c == '?' || c == ':')
            return cli_option_error ("run", argv, table, c);
        if (take_option (&options, c) != CLI_OK)
            return CLI_USAGE;
    }
    if (optind < argc)
        return cli_usage_error ("run", "unexpected argument '%s'", argv[optind]);
    if (!options.config_path)
        return cli_usage_error ("run", "--config FILE is missing");
    if (options.pid == -1)
        return cli_usage_error ("run", "--pid N is missing");
    return run_config (&options);
}
