/*
 * util.c - error lines, options, numbers and the clock for all commands. It
 * owns nothing. What may go wrong: standard output is full or its reader has
 * gone, see cli_finish ().
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

const char *const cli_config_options[] = {
    "QueueBytes", "WindowBytes", "WindowFrames", "FrameBytes", "MaxMessageBytes", "HeartbeatMs",  "SuspectMs", "DownMs",
    "Senders",    "OnRestart",   "SpinMicros",   "Help",       "IoThreads",       "MailboxBytes", NULL};

void cli_error (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    flockfile (stderr);
    fputs ("clustertalk: ", stderr);
    vfprintf (stderr, format, args);
    fputc ('\n', stderr);
    funlockfile (stderr);
    va_end (args);
}

int cli_usage_error (const char *command, const char *format, ...)
{
    const char *space = *command ? " " : "";
    va_list args;
    va_start (args, format);
    fprintf (stderr, "clustertalk%s%s: ", space, command);
    vfprintf (stderr, format, args);
    fprintf (stderr, " (see clustertalk%s%s --help)\n", space, command);
    va_end (args);
    return CLI_USAGE;
}

static const char *option_name (const struct option *options, int value)
{
    for (; options->name; options++) {
        if (options->val == value)
            return options->name;
    }
    return NULL;
}

int cli_option_error (const char *command, char **argv, const struct option *options, int complaint)
{
    const char *name = option_name (options, optopt);
    if (complaint == ':')
        return cli_usage_error (command, "option '--%s' needs an argument", name ? name : "?");
    if (optopt == 0)
        return cli_usage_error (command, "unknown option '%s'", argv[optind - 1]);
    if (optopt > 255)
        return cli_usage_error (command, "option '--%s' takes no argument", name ? name : "?");
    return cli_usage_error (command, "unknown option '-%c'", optopt);
}

int cli_print (const char *text)
{
    fputs (text, stdout);
    return cli_finish (CLI_OK);
}

int cli_finish (int status)
{
    errno = 0;
    bool failed = ferror (stdout) != 0;
    failed = fflush (stdout) == EOF || failed;
    if (!failed || errno == EPIPE)
        return status;
    cli_error ("standard output: %s", errno ? strerror (errno) : "a write failed");
    return CLI_FAILED;
}

int cli_number (const char *text, int64_t low, int64_t high, int64_t *value)
{
    int64_t number = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > (INT64_MAX - 9) / 10)
            return -1;
        number = number * 10 + (*text - '0');
    }
    if (number < low || number > high)
        return -1;
    *value = number;
    return 0;
}

int cli_number_option (const char *command, const char *option, int64_t low, int64_t high, int64_t *value)
{
    if (cli_number (optarg, low, high, value) == 0)
        return CLI_OK;
    return cli_usage_error (command, "%s: '%s' is not a number from %lld to %lld", option, optarg, (long long) low,
                            (long long) high);
}

int cli_catch_signals (sigset_t *former)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    sigset_t caught;

    sigemptyset (&caught);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaction (numbers[i], NULL, &action);
        if (numbers[i] == SIGHUP && action.sa_handler == SIG_IGN)
            continue; /* under nohup */
        sigaddset (&caught, numbers[i]);
        signal (numbers[i], SIG_DFL);
    }
    sigprocmask (SIG_BLOCK, &caught, former);
    sigdelset (former, SIGINT);
    sigdelset (former, SIGTERM);
    return signalfd (-1, &caught, SFD_NONBLOCK | SFD_CLOEXEC);
}

int cli_take_signal (int signal_fd)
{
    struct signalfd_siginfo signal_info;
    if (read (signal_fd, &signal_info, sizeof signal_info) != (ssize_t) sizeof signal_info)
        return 0;
    return (int) signal_info.ssi_signo;
}

int64_t cli_now_ns (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cli_now_ms (void)
{
    return cli_now_ns () / 1000000;
}
