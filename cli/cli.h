/*
 * cli.h - what the commands of the tool share: exit statuses, error lines,
 * options and numbers. The tool stands on the public header alone.
 */
#ifndef CLI_H
#define CLI_H

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CLI_PRINTF(text, first) __attribute__ ((format (printf, text, first)))

/* Exit statuses. A signal ends with CLI_SIGNALLED + its number. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_SIGNALLED = 128 };

/* What getopt_long returns for the options; above every character. */
enum {
    CLI_OPT_HELP = 256,
    CLI_OPT_VERSION,
    CLI_OPT_CONFIG,
    CLI_OPT_SERVERS,
    CLI_OPT_REPEAT,
    CLI_OPT_TIMEOUT,
    CLI_OPT_EVENTS,
    CLI_OPT_PID,
    CLI_OPT_TO
};

/* The options of the config, ended by NULL: for comparing and listing. */
extern const char *const cli_config_options[];

/* The commands. argv[0] is the command's name; each returns an exit status. */
int cmd_demo (int argc, char **argv);
int cmd_run (int argc, char **argv);
int cmd_check_config (int argc, char **argv);

/* One line "clustertalk: ..." on standard error. */
void cli_error (const char *format, ...) CLI_PRINTF (1, 2);

/* One line that says what was wrong with the command line. Returns CLI_USAGE. */
int cli_usage_error (const char *command, const char *format, ...) CLI_PRINTF (2, 3);

/* Says which option getopt_long complained about with '?' or ':'. */
int cli_option_error (const char *command, char **argv, const struct option *options, int complaint);

/* Writes a text to standard output and returns cli_finish (CLI_OK). */
int cli_print (const char *text);

/* Flushes standard output. A reader that went away is no error; any other
 * failure is reported and makes CLI_FAILED of the status. */
int cli_finish (int status);

/* A whole decimal number from low to high and nothing else. 0, or -1. */
int cli_number (const char *text, int64_t low, int64_t high, int64_t *value);

/* The same as the argument of an option: CLI_OK, or CLI_USAGE and said so. */
int cli_number_option (const char *command, const char *option, int64_t low, int64_t high, int64_t *value);

/* SIGINT, SIGTERM and, unless it is ignored, SIGHUP are blocked from here on and
 * read from the descriptor that this returns: a handler would not run in a poll
 * whose descriptors are always ready. former: the mask before, without them. */
int cli_catch_signals (sigset_t *former);
/* The next signal that came, or 0. Does not wait. */
int cli_take_signal (int signal_fd);

/* A clock that is never set back. */
int64_t cli_now_ns (void);
int64_t cli_now_ms (void);

#endif
