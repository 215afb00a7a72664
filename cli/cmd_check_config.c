/*
 * cmd_check_config.c - "clustertalk check-config FILE": every error with line
 * and column, as a compiler tells them, or a summary of a good config. It
 * starts no server.
 */
#include "cli/cli.h"

#include <clustertalk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* What a server needs: descriptors of its own, per running sender, and for all
 * senders that have not started yet. */
enum { SERVER_DESCRIPTORS = 16, SENDER_DESCRIPTORS = 8, IDLE_SENDERS_DESCRIPTORS = 2 };

static const char help_text[] = "Usage: clustertalk check-config FILE\n"
                                "Checks a config file. A good one gives \"ok\" and a summary on standard output:\n"
                                "the servers, the options that differ from their defaults, and the descriptors\n"
                                "and threads that one of its servers needs. A bad one gives every error on\n"
                                "standard error, as FILE:LINE:COLUMN: TEXT.\n"
                                "\n"
                                "  -h, --help             this text\n"
                                "\n"
                                "Exit status: 0 the config is good, 1 it is not, 2 wrong usage.\n";

/* The text names file, line and column itself where it knows them. */
static void print_config_error (const ctalk_error_t *error, void *arg)
{
    const char *path = arg;
    if (strncmp (error->text, path, strlen (path)) == 0)
        fprintf (stderr, "%s\n", error->text);
    else if (error->line > 0)
        fprintf (stderr, "%s:%d:%d: %s\n", path, error->line, error->column, error->text);
    else
        fprintf (stderr, "%s: %s\n", path, error->text);
}

static void print_pids (const ctalk_config_t *config, size_t count)
{
    ctalk_pid_t *pids = calloc (count + 1, sizeof *pids);
    if (!pids)
        return;
    ctalk_config_pids (config, pids, count);
    if (count == 1)
        printf (", pid %d", (int) pids[0]);
    else if (count > 1)
        printf (", pids %d to %d", (int) pids[0], (int) pids[count - 1]);
    free (pids);
}

static void print_servers (const ctalk_config_t *config)
{
    int count = ctalk_config_pids (config, NULL, 0);
    const char *cluster = ctalk_config_get (config, "Cluster");

    if (cluster && *cluster)
        printf ("  cluster      %s\n", cluster);
    printf ("  servers      %d", count);
    print_pids (config, (size_t) count);
    printf ("\n");
}

static void print_options (const ctalk_config_t *config, const ctalk_config_t *defaults)
{
    const char *label = "options";
    for (size_t i = 0; cli_config_options[i]; i++) {
        const char *value = ctalk_config_get (config, cli_config_options[i]);
        const char *usual = ctalk_config_get (defaults, cli_config_options[i]);
        if (value && usual && strcmp (value, usual) != 0) {
            printf ("  %-12s %s %s (default %s)\n", label, cli_config_options[i], value, usual);
            label = "";
        }
    }
    if (*label)
        printf ("  options      all at their defaults\n");
}

static void print_limit (int need)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur == RLIM_INFINITY)
        return;
    printf ("  limit        %llu descriptors a process", (unsigned long long) limit.rlim_cur);
    if ((unsigned long long) need > limit.rlim_cur)
        printf (": too few, raise the hard limit (ulimit -Hn)");
    printf ("\n");
}

static void print_needs (const ctalk_config_t *config)
{
    int peers = ctalk_config_pids (config, NULL, 0) - 1;
    const char *senders = ctalk_config_get (config, "Senders");
    bool lazy = senders && strcmp (senders, "lazy") == 0;
    int all = SERVER_DESCRIPTORS + SENDER_DESCRIPTORS * peers;
    int least = SERVER_DESCRIPTORS + IDLE_SENDERS_DESCRIPTORS;

    if (lazy)
        printf ("  a server     %d descriptors and 1 thread, up to %d and %d with all its senders\n", least,
                all + IDLE_SENDERS_DESCRIPTORS, peers + 1);
    else
        printf ("  a server     %d descriptors and %d thread%s\n", all, peers + 1, peers ? "s" : "");
    printf ("               (and the threads of libzmq, once per process)\n");
    print_limit (lazy ? least : all);
}

static int summarise (const char *path)
{
    ctalk_error_t error = {0};
    ctalk_config_t *config = ctalk_config_load (path, &error);
    ctalk_config_t *defaults = ctalk_config_new ();
    int status = CLI_OK;

    if (!config || !defaults) {
        print_config_error (&error, (void *) path);
        status = CLI_FAILED;
    } else {
        printf ("%s: ok\n", path);
        print_servers (config);
        print_options (config, defaults);
        print_needs (config);
    }
    ctalk_config_destroy (&defaults);
    ctalk_config_destroy (&config);
    return cli_finish (status);
}

int cmd_check_config (int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, CLI_OPT_HELP}, {NULL, 0, NULL, 0}};
    int c = getopt_long (argc, argv, ":h", options, NULL);

    if (c == 'h' || c == CLI_OPT_HELP)
        return cli_print (help_text);
    if (c != -1)
        return cli_option_error ("check-config", argv, options, c);
    if (optind == argc)
        return cli_usage_error ("check-config", "the config FILE is missing");
    if (optind + 1 < argc)
        return cli_usage_error ("check-config", "one FILE only, not also '%s'", argv[optind + 1]);
    if (ctalk_config_check (argv[optind], print_config_error, argv[optind]) > 0)
        return CLI_FAILED;
    return summarise (argv[optind]);
}
