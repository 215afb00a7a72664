/*
 * clustertalk.c - the command-line tool: takes the command and hands over to
 * it. What may go wrong is wrong usage, which ends with status 2 and a line.
 */
#include "cli/cli.h"

#include <clustertalk.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#ifndef PACKAGE_VERSION
#error "PACKAGE_VERSION must be given"
#endif

static const char help_text[] = "Usage: clustertalk COMMAND [OPTION]...\n"
                                "Lets a group of servers talk to each other.\n"
                                "\n"
                                "  demo [--config FILE] [--servers N] [--repeat K] FILE\n"
                                "                         carry the lines of a text file through a cluster of\n"
                                "                         server processes and check every line\n"
                                "  run --config FILE --pid N [--to PID]\n"
                                "                         be one server: send the lines of standard input,\n"
                                "                         print what comes\n"
                                "  check-config FILE      check a config file, tell every error\n"
                                "\n"
                                "  -h, --help             this text; with a command: about the command\n"
                                "  -V, --version          the version\n"
                                "\n"
                                "Exit status: 0 all is well, 1 something failed, 2 wrong usage.\n";

static int print_version (void)
{
    printf ("clustertalk %s\n", PACKAGE_VERSION);
    if (strcmp (PACKAGE_VERSION, ctalk_version ()) != 0)
        printf ("library %s\n", ctalk_version ());
    return cli_finish (CLI_OK);
}

/* A server of a large cluster needs many descriptors, and the soft limit is
 * often 1024. The library leaves it alone; a program may raise its own. */
static void raise_descriptor_limit (void)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit (RLIMIT_NOFILE, &limit);
    }
}

static int main_options (int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, CLI_OPT_HELP}, {"version", no_argument, NULL, CLI_OPT_VERSION}, {NULL, 0, NULL, 0}};
    int c = getopt_long (argc, argv, "+:hV", options, NULL);
    if (c == 'h' || c == CLI_OPT_HELP)
        return cli_print (help_text);
    if (c == 'V' || c == CLI_OPT_VERSION)
        return print_version ();
    if (c == -1)
        return cli_usage_error ("", "a command is missing: demo, run or check-config");
    return cli_option_error ("", argv, options, c);
}

static int dispatch (int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run) (int argc, char **argv);
    } commands[] = {{"demo", cmd_demo}, {"run", cmd_run}, {"check-config", cmd_check_config}};

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp (argv[0], commands[i].name) == 0)
            return commands[i].run (argc, argv);
    }
    return cli_usage_error ("", "unknown command '%s'", argv[0]);
}

int main (int argc, char **argv)
{
    signal (SIGPIPE, SIG_IGN);
    raise_descriptor_limit ();
    opterr = 0;
    if (argc < 2 || argv[1][0] == '-')
        return main_options (argc, argv);
    return dispatch (argc - 1, argv + 1);
}
