/*
 * bench.c - see bench.h.
 *
 * It owns the children of a group: each ends when it is done, when a deadline
 * passed, or when the parent ends for whatever reason (PR_SET_PDEATHSIG, which
 * also ends a child that was stopped). Notes travel over a socket pair that
 * keeps their bounds (SOCK_SEQPACKET).
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum {
    TICK_MS = 100,           /* how often a waiting parent looks at the other children */
    REAP_POLL_MS = 5,        /* how often it looks whether a child has ended */
    FIRST_COLUMN_CHARS = 22, /* of a table */
    OTHER_COLUMN_CHARS = 13
};

/* ----------------------------------------------------------- clock and cost */

uint64_t bench_now_ns (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * UINT64_C (1000000000) + (uint64_t) now.tv_nsec;
}

static uint64_t timeval_ns (struct timeval time)
{
    return (uint64_t) time.tv_sec * UINT64_C (1000000000) + (uint64_t) time.tv_usec * 1000;
}

uint64_t bench_cpu_ns (void)
{
    struct rusage usage;
    getrusage (RUSAGE_SELF, &usage);
    return timeval_ns (usage.ru_utime) + timeval_ns (usage.ru_stime);
}

double bench_resident_bytes (void)
{
    unsigned long long size, resident = 0;
    FILE *file = fopen ("/proc/self/statm", "r");
    if (file && fscanf (file, "%llu %llu", &size, &resident) != 2) /* NOLINT(cert-err34-c): the kernel's own */
        resident = 0;
    if (file)
        fclose (file);
    return (double) resident * (double) sysconf (_SC_PAGESIZE);
}

/* ------------------------------------------------------------------ payload */

void bench_describe (char *text, size_t capacity, const uint8_t *data, size_t size, uint64_t number)
{
    uint64_t found = 0, place = BENCH_PLACE (number);
    if (size < sizeof found) {
        snprintf (text, capacity, "envelope %" PRIu64 " has only %zu bytes", place, size);
        return;
    }
    memcpy (&found, data, sizeof found);
    if (BENCH_PLACE (found) != place)
        snprintf (text, capacity, "envelope %" PRIu64 " expected, but %" PRIu64 " came", place, BENCH_PLACE (found));
    else
        snprintf (text, capacity, "envelope %" PRIu64 " was changed on its way", place);
}

/* ---------------------------------------------------------------- processes */

/* The child's side of bench_start (); does not return. */
static _Noreturn void run_child (const bench_group_t *group, int fd, pid_t parent, bench_body_t body, void *arg)
{
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != parent)
        _exit (1);
    for (size_t i = 0; i < group->count; i++)
        close (group->child[i].fd);
    int status = body (fd, arg);
    fflush (NULL);
    _exit (status);
}

int bench_start (bench_group_t *group, const char *name, bench_body_t body, void *arg)
{
    int pair[2];
    pid_t parent = getpid ();
    if (group->count == BENCH_CHILDREN_MAX || socketpair (AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) {
        fprintf (stderr, "%s: cannot be started: %s\n", name, strerror (errno));
        return -1;
    }
    fflush (NULL);
    pid_t pid = fork ();
    if (pid < 0) {
        fprintf (stderr, "%s: cannot be started: %s\n", name, strerror (errno));
        close (pair[0]);
        close (pair[1]);
        return -1;
    }
    if (pid == 0) {
        close (pair[0]);
        run_child (group, pair[1], parent, body, arg);
    }
    close (pair[1]);
    group->child[group->count] = (bench_child_t){.name = name, .pid = pid, .fd = pair[0]};
    return (int) group->count++;
}

int bench_tell (int fd, const bench_note_t *note)
{
    ssize_t sent;
    do
        sent = send (fd, note, sizeof *note, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t) sizeof *note ? 0 : -1;
}

int bench_fail (int fd, const char *format, ...)
{
    bench_note_t note = {.failed = true};
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (note.text, sizeof note.text, format, arguments);
    va_end (arguments);
    bench_tell (fd, &note);
    return 1;
}

/* 1: there is a note; 0: not yet; -1: the other side is gone. */
static int take_note (int fd, bench_note_t *note, int flags)
{
    ssize_t got = recv (fd, note, sizeof *note, flags | MSG_DONTWAIT);
    if (got == (ssize_t) sizeof *note)
        return 1;
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

int bench_listen (int fd, bench_note_t *note)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int taken;
    while ((taken = take_note (fd, note, 0)) == 0)
        poll (&wait, 1, -1);
    return taken == 1 ? 0 : -1;
}

/* Says how a child ended that has closed its end; it is still to be reaped. */
static void tell_end (const bench_child_t *child)
{
    siginfo_t info = {0};
    while (waitid (P_PID, (id_t) child->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
        ;
    if (info.si_code == CLD_EXITED)
        fprintf (stderr, "%s: ended with status %d before it was done\n", child->name, info.si_status);
    else
        fprintf (stderr, "%s: ended by signal %d (%s)\n", child->name, info.si_status, strsignal (info.si_status));
}

/* Whether a child has failed or ended; says so. A note that is no failure stays where it is. */
static bool has_failed (const bench_child_t *child, bench_note_t *note, int taken)
{
    if (taken == 1 && note->failed) {
        bench_progress ("%s", "");
        fprintf (stderr, "%s: %s\n", child->name, note->text);
        return true;
    }
    if (taken == -1) {
        bench_progress ("%s", "");
        tell_end (child);
        return true;
    }
    return false;
}

static bool any_other_failed (const bench_group_t *group, int child)
{
    for (size_t i = 0; i < group->count; i++) {
        bench_note_t note = {0};
        const bench_child_t *other = &group->child[i];
        if ((int) i != child && has_failed (other, &note, take_note (other->fd, &note, MSG_PEEK)))
            return true;
    }
    return false;
}

bool bench_any_failed (const bench_group_t *group)
{
    return any_other_failed (group, -1);
}

int bench_hear (bench_group_t *group, int child, bench_note_t *note, uint64_t deadline_ns, void (*tick) (void *arg),
                void *arg)
{
    const bench_child_t *from = &group->child[child];
    struct pollfd wait = {.fd = from->fd, .events = POLLIN};
    for (;;) {
        int taken = take_note (from->fd, note, 0);
        if (has_failed (from, note, taken))
            return -1;
        if (taken == 1)
            return 0;
        if (any_other_failed (group, child))
            return -1;
        if (bench_now_ns () >= deadline_ns) {
            bench_progress ("%s", "");
            fprintf (stderr, "%s: not done when the deadline passed\n", from->name);
            return -1;
        }
        if (tick)
            tick (arg);
        poll (&wait, 1, TICK_MS);
    }
}

/* 1: reaped, with status 0; 0: it still runs; -1: it ended otherwise, after a message. */
static int reap (bench_child_t *child, int flags)
{
    struct rusage usage;
    int status;
    pid_t pid = wait4 (child->pid, &status, flags, &usage);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return 0;
    child->pid = 0;
    child->peak_kib = pid > 0 ? usage.ru_maxrss : 0;
    if (pid > 0 && WIFEXITED (status) && WEXITSTATUS (status) == 0)
        return 1;
    if (pid > 0 && WIFSIGNALED (status))
        fprintf (stderr, "%s: ended by signal %d (%s)\n", child->name, WTERMSIG (status),
                 strsignal (WTERMSIG (status)));
    return -1;
}

static int join_child (bench_child_t *child, uint64_t deadline_ns)
{
    bench_note_t note = {0};
    int reaped;
    while ((reaped = reap (child, WNOHANG)) == 0) {
        if (bench_now_ns () >= deadline_ns) {
            fprintf (stderr, "%s: did not end in time\n", child->name);
            return -1;
        }
        poll (NULL, 0, REAP_POLL_MS);
    }
    if (reaped == -1 && take_note (child->fd, &note, 0) == 1 && note.failed)
        fprintf (stderr, "%s: %s\n", child->name, note.text);
    return reaped == 1 ? 0 : -1;
}

int bench_join (bench_group_t *group, size_t count, uint64_t deadline_ns)
{
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        if (group->child[i].pid > 0)
            result = join_child (&group->child[i], deadline_ns);
    if (result != 0)
        fprintf (stderr, "%s", "a process did not end well; this round does not count\n");
    bench_kill (group);
    return result;
}

void bench_kill (bench_group_t *group)
{
    for (size_t i = 0; i < group->count; i++) {
        bench_child_t *child = &group->child[i];
        if (child->pid > 0) {
            kill (child->pid, SIGKILL);
            while (waitpid (child->pid, NULL, 0) < 0 && errno == EINTR)
                ;
            child->pid = 0;
        }
        if (child->fd >= 0)
            close (child->fd);
        child->fd = -1;
    }
}

void *bench_shared (size_t size)
{
    void *memory = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        return memory;
    fprintf (stderr, "no shared memory: %s\n", strerror (errno));
    return NULL;
}

/* ---------------------------------------------------------------- reporting */

static int compare_doubles (const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

double bench_median (const double *values, size_t count)
{
    double sorted[BENCH_ROUNDS_MAX];
    if (count == 0 || count > BENCH_ROUNDS_MAX)
        return 0;
    memcpy (sorted, values, count * sizeof *values);
    qsort (sorted, count, sizeof *sorted, compare_doubles);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

double bench_least (const double *values, size_t count)
{
    double least = count > 0 ? values[0] : 0;
    for (size_t i = 1; i < count; i++)
        least = values[i] < least ? values[i] : least;
    return least;
}

double bench_most (const double *values, size_t count)
{
    double most = count > 0 ? values[0] : 0;
    for (size_t i = 1; i < count; i++)
        most = values[i] > most ? values[i] : most;
    return most;
}

static int compare_times (const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

void bench_sort_times (uint32_t *times_ns, size_t count)
{
    qsort (times_ns, count, sizeof *times_ns, compare_times);
}

double bench_percentile_us (const uint32_t *sorted_ns, size_t count, size_t of_thousand)
{
    size_t rank = (count * of_thousand + 999) / 1000;
    return rank == 0 ? 0 : (double) sorted_ns[rank - 1] / 1000;
}

/* The processor's name as the kernel gives it, or "unknown processor". */
static void read_processor (char *name, size_t capacity)
{
    char line[256];
    FILE *file = fopen ("/proc/cpuinfo", "r");
    snprintf (name, capacity, "unknown processor");
    while (file && fgets (line, sizeof line, file)) {
        char *colon = strchr (line, ':');
        if (colon && strncmp (line, "model name", 10) == 0) {
            colon[strcspn (colon, "\n")] = '\0';
            snprintf (name, capacity, "%s", colon + 2);
            break;
        }
    }
    if (file)
        fclose (file);
}

void bench_print_machine (void)
{
    char processor[128];
    struct utsname system;
    int major, minor, patch;
    read_processor (processor, sizeof processor);
    uname (&system);
    zmq_version (&major, &minor, &patch);
    printf ("machine: %s, %ld cores, %s %s %s, libzmq %d.%d.%d\n", processor, sysconf (_SC_NPROCESSORS_ONLN),
            system.sysname, system.release, system.machine, major, minor, patch);
}

void bench_print_row (const bench_cell_t *cells, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf (i == 0 ? "| %-*s " : "| %*s ", i == 0 ? FIRST_COLUMN_CHARS : OTHER_COLUMN_CHARS, cells[i]);
    printf ("|\n");
    fflush (stdout);
}

void bench_print_head (const bench_cell_t *cells, size_t count)
{
    bench_print_row (cells, count);
    for (size_t i = 0; i < count; i++) {
        int dashes = i == 0 ? FIRST_COLUMN_CHARS + 2 : OTHER_COLUMN_CHARS + 1;
        printf ("|%.*s%s", dashes, "----------------------------------------", i == 0 ? "" : ":");
    }
    printf ("|\n");
}

void bench_cell (bench_cell_t cell, const char *format, ...)
{
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (cell, BENCH_CELL_BYTES, format, arguments);
    va_end (arguments);
}

void bench_progress (const char *format, ...)
{
    va_list arguments;
    if (!isatty (STDERR_FILENO))
        return;
    fputs ("\r\033[K", stderr);
    va_start (arguments, format);
    vfprintf (stderr, format, arguments);
    va_end (arguments);
    fflush (stderr);
}

/* ------------------------------------------------------------- command line */

bool bench_parse_count (const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull (text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && number >= least && number <= most) {
        *value = number;
        return true;
    }
    fprintf (stderr, "--%s: a whole number from %" PRIu64 " to %" PRIu64 " is needed, not \"%s\"\n", option, least,
             most, text);
    return false;
}

bool bench_parse_list (const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *values,
                       size_t capacity, size_t *count)
{
    char list[BENCH_TEXT_BYTES], *rest = list, *one;
    snprintf (list, sizeof list, "%s", text);
    for (*count = 0; (one = strsep (&rest, ","));) {
        if (*count == capacity) {
            fprintf (stderr, "--%s: at most %zu numbers\n", option, capacity);
            return false;
        }
        if (!bench_parse_count (option, one, least, most, &values[(*count)++]))
            return false;
    }
    return true;
}

bool bench_parse_ratio (const char *option, const char *text, double *value)
{
    char *end = NULL;
    double number = strtod (text, &end);
    if (end != text && *end == '\0' && number >= 0 && number <= 1000) {
        *value = number;
        return true;
    }
    fprintf (stderr, "--%s: a ratio from 0 to 1000 is needed, not \"%s\"\n", option, text);
    return false;
}

/* -1: go on; otherwise the exit status. */
static int parse_options (int argc, char **argv, const bench_program_t *program, void *options, const char **csv)
{
    struct option known[BENCH_OPTIONS_MAX + 4] = {{NULL, 0, NULL, 0}};
    int count = 0, which = 0, option;
    for (; count < BENCH_OPTIONS_MAX && program->options[count]; count++)
        known[count] = (struct option){program->options[count], required_argument, NULL, 'o'};
    known[count] = (struct option){"csv", required_argument, NULL, 'o'};
    known[count + 1] = (struct option){"help", no_argument, NULL, 'h'};
    if (program->quick)
        known[count + 2] = (struct option){"quick", no_argument, NULL, 'q'};
    while ((option = getopt_long (argc, argv, "", known, &which)) != -1) {
        if (option == 'h') {
            program->help ();
            return EXIT_SUCCESS;
        }
        if (option == 'q' && program->quick)
            program->quick (options);
        else if (option == 'o' && which == count)
            *csv = optarg;
        else if (option != 'o' || !program->take (options, known[which].name, optarg))
            return BENCH_WRONG_USAGE;
    }
    if (optind == argc)
        return -1;
    fprintf (stderr, "%s: no argument is expected, but there is \"%s\"; see --help\n", argv[0], argv[optind]);
    return BENCH_WRONG_USAGE;
}

int bench_main (int argc, char **argv, const bench_program_t *program, void *options)
{
    const char *name = NULL;
    int status = parse_options (argc, argv, program, options, &name);
    if (status >= 0)
        return status;
    FILE *csv = name ? fopen (name, "w") : NULL;
    if (name && !csv) {
        fprintf (stderr, "%s: %s\n", name, strerror (errno));
        return EXIT_FAILURE;
    }
    status = program->run (options, csv);
    if (csv && fclose (csv) != 0) {
        fprintf (stderr, "%s: %s\n", name, strerror (errno));
        return EXIT_FAILURE;
    }
    return status;
}
