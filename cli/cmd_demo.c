/*
 * cmd_demo.c - "clustertalk demo": its command line, and which config it takes.
 * What may go wrong with the ready config is a port that is taken: unless the
 * user named the config, the system chooses the ports then.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <string.h>
#include <unistd.h>

#ifndef PKGDATADIR
#error "PKGDATADIR must be given"
#endif

static const char help_text[] = "Usage: clustertalk demo [--config FILE] [--servers N] [--repeat K] FILE\n"
                                "Starts N servers as N processes and carries the lines of a text file through\n"
                                "them three ways: point to point from the first server to each of the others in\n"
                                "turn; broadcast by every server at once; round the ring. Every receiver checks\n"
                                "number, order and content of every line. A table at the end says for each\n"
                                "server how many envelopes it sent (once per receiver) and received, how many\n"
                                "were missing, came twice, or were changed (other bytes than in the file, or\n"
                                "out of order), and how many it sent and received per second of the rounds.\n"
                                "\n"
                                "      --config FILE      a config file; its first N servers are started here\n"
                                "      --servers N        how many servers, 2 to 100 (all that FILE lists, or 5)\n"
                                "      --repeat K         carry the file K times (1)\n"
                                "      --timeout MS       give up when nothing moves for so long (30000)\n"
                                "  -h, --help             this text\n"
                                "\n"
                                "Without --config, 5 servers are those of local-5.json, ports 5001 to 5005. If\n"
                                "that file or one of the ports is not to be had, and for any other N, they\n"
                                "bind to ports of 127.0.0.1 that the system chooses.\n"
                                "\n"
                                "Exit status: 0 every line came, once, in order and unchanged; 1 not so, or a\n"
                                "server failed; 2 wrong usage; 128 + its number after a signal.\n";

typedef struct {
    const char *config_path;
    const char *file;
    size_t servers; /* 0: not given */
    uint64_t repeat;
    int timeout_ms;
} options_t;

/* The ready config, wherever it is; NULL: nowhere. */
static const char *ready_config (void)
{
    static const char *const paths[] = {PKGDATADIR "/local-5.json", "config/local-5.json"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (access (paths[i], R_OK) == 0)
            return paths[i];
    }
    return NULL;
}

static int make_plan (demo_plan_t *plan, const options_t *options)
{
    size_t servers = options->servers ? options->servers : DEMO_SERVERS_DEFAULT;
    const char *ready = servers == DEMO_SERVERS_DEFAULT ? ready_config () : NULL;
    if (options->config_path)
        return demo_plan_load (plan, options->config_path, options->servers);
    return ready ? demo_plan_load (plan, ready, servers) : demo_plan_make (plan, servers);
}

static int exit_status (demo_outcome_t outcome, int signal_number)
{
    if (outcome == DEMO_SIGNALLED)
        return CLI_SIGNALLED + signal_number;
    return cli_finish (outcome == DEMO_OK ? CLI_OK : CLI_FAILED);
}

/* Runs the plan, and once more on other ports where that is ours to decide. */
static int run_plan (demo_plan_t *plan, const options_t *options)
{
    int signal_number = 0;
    demo_outcome_t outcome = demo_run (plan, &signal_number);
    if (outcome == DEMO_PORT_TAKEN && options->config_path)
        cli_error ("a port of %s is taken: is another demo running? Without --config the system chooses the ports",
                   options->config_path);
    if (outcome == DEMO_PORT_TAKEN && !options->config_path && plan->name) {
        cli_error ("a port of %s is taken: the system chooses the ports instead", plan->name);
        size_t servers = plan->servers;
        demo_plan_fini (plan);
        if (demo_plan_make (plan, servers) == -1)
            return CLI_FAILED;
        outcome = demo_run (plan, &signal_number);
    }
    return exit_status (outcome, signal_number);
}

static int run_demo (const options_t *options)
{
    demo_plan_t plan = {.timeout_ms = options->timeout_ms};
    int status = CLI_FAILED;
    if (demo_text_load (&plan.text, options->file, options->repeat) == -1)
        return CLI_FAILED;
    if (make_plan (&plan, options) == 0)
        status = run_plan (&plan, options);
    demo_plan_fini (&plan);
    demo_text_fini (&plan.text);
    return status;
}

static int take_option (options_t *options, int c)
{
    int64_t number = 0;
    int status = CLI_OK;
    switch (c) {
    case CLI_OPT_CONFIG:
        options->config_path = optarg;
        break;
    case CLI_OPT_SERVERS:
        status = cli_number_option ("demo", "--servers", DEMO_SERVERS_MIN, DEMO_SERVERS_MAX, &number);
        options->servers = (size_t) number;
        break;
    case CLI_OPT_REPEAT:
        status = cli_number_option ("demo", "--repeat", 1, DEMO_REPEAT_MAX, &number);
        options->repeat = (uint64_t) number;
        break;
    default:
        status = cli_number_option ("demo", "--timeout", 1, DEMO_TIMEOUT_MS_MAX, &number);
        options->timeout_ms = (int) number;
    }
    return status;
}

int cmd_demo (int argc, char **argv)
{
    static const struct option table[] = {{"help", no_argument, NULL, CLI_OPT_HELP},
                                          {"config", required_argument, NULL, CLI_OPT_CONFIG},
                                          {"servers", required_argument, NULL, CLI_OPT_SERVERS},
                                          {"repeat", required_argument, NULL, CLI_OPT_REPEAT},
                                          {"timeout", required_argument, NULL, CLI_OPT_TIMEOUT},
                                          {NULL, 0, NULL, 0}};
    options_t options = {.repeat = 1, .timeout_ms = DEMO_TIMEOUT_MS_DEFAULT};
    int c;

    while ((c = getopt_long (argc, argv, ":h", table, NULL)) != -1) {
        if (c == 'h' || c == CLI_OPT_HELP)
            return cli_print (help_text);
        if (c == '?' || c == ':')
            return cli_option_error ("demo", argv, table, c);
        if (take_option (&options, c) != CLI_OK)
            return CLI_USAGE;
    }
    if (optind == argc)
        return cli_usage_error ("demo", "the text FILE is missing");
    if (optind + 1 < argc)
        return cli_usage_error ("demo", "one FILE only, not also '%s'", argv[optind + 1]);
    options.file = argv[optind];
    return run_demo (&options);
}
