/*
 * demo_plan.c - which servers take part and where they bind. It owns the config
 * and the list of pids. What may go wrong: a config that cannot be read, lists
 * too few servers, or has endpoints that other processes cannot reach.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int take_pids (demo_plan_t *plan)
{
    int count = ctalk_config_pids (plan->config, NULL, 0);
    plan->listed = count > 0 ? (size_t) count : 0;
    plan->pids = calloc (plan->listed + 1, sizeof *plan->pids);
    if (!plan->pids) {
        cli_error ("%s", strerror (errno));
        return -1;
    }
    ctalk_config_pids (plan->config, plan->pids, plan->listed);
    return 0;
}

/* Whether the servers that take part can reach each other from process to
 * process. */
static bool is_reachable (const demo_plan_t *plan)
{
    for (size_t i = 0; i < plan->servers; i++) {
        const char *endpoint = ctalk_config_endpoint (plan->config, plan->pids[i]);
        if (endpoint && strncmp (endpoint, "inproc:", 7) == 0) {
            cli_error ("%s: server %d: %s cannot be reached from another process", plan->name, (int) plan->pids[i],
                       endpoint);
            return false;
        }
    }
    return true;
}

static int choose_servers (demo_plan_t *plan, size_t servers)
{
    plan->servers = servers ? servers : plan->listed;
    if (plan->servers > plan->listed) {
        cli_error ("%s lists %zu servers, not %zu", plan->name, plan->listed, servers);
        return -1;
    }
    if (plan->servers < DEMO_SERVERS_MIN || plan->servers > DEMO_SERVERS_MAX) {
        cli_error ("%s lists %zu servers; the demo takes %d to %d (see --servers)", plan->name, plan->listed,
                   (int) DEMO_SERVERS_MIN, (int) DEMO_SERVERS_MAX);
        return -1;
    }
    return is_reachable (plan) ? 0 : -1;
}

int demo_plan_load (demo_plan_t *plan, const char *path, size_t servers)
{
    ctalk_error_t error = {0};
    plan->name = path;
    plan->config = ctalk_config_load (path, &error);
    if (!plan->config) {
        cli_error ("%s", error.text);
        return -1;
    }
    return take_pids (plan) == 0 ? choose_servers (plan, servers) : -1;
}

int demo_plan_make (demo_plan_t *plan, size_t servers)
{
    ctalk_error_t error = {0};
    plan->name = NULL;
    plan->config = ctalk_config_new ();
    if (!plan->config) {
        cli_error ("%s", strerror (errno));
        return -1;
    }
    for (size_t i = 1; i <= servers; i++) {
        if (ctalk_config_add_server (plan->config, (ctalk_pid_t) i, "127.0.0.1:0", &error) == -1) {
            cli_error ("%s", error.text);
            return -1;
        }
    }
    plan->servers = servers;
    return take_pids (plan);
}

void demo_plan_fini (demo_plan_t *plan)
{
    ctalk_config_destroy (&plan->config);
    free (plan->pids);
    plan->pids = NULL;
}

uint64_t demo_plan_deliveries (const demo_plan_t *plan, demo_round_t round)
{
    uint64_t total = plan->text.total;
    uint64_t servers = plan->servers;
    if (round == DEMO_POINT_TO_POINT)
        return total * (servers - 1);
    return round == DEMO_BROADCAST ? total * servers * (servers - 1) : total * servers;
}
