/*
 * simulated.c - as consumer.c, in the simulator: C, and C++ as well. Two servers,
 * an hour of virtual time, one envelope from the one to the other.
 */
#include <clustertalk_sim.h>

#include <stdio.h>
#include <string.h>

enum { HOUR_MS = 3600 * 1000 };

static const char *trouble = "the simulation did not come to its end";

static const char *talk (ctalk_sim_t *sim, const ctalk_config_t *config)
{
    static ctalk_error_t error;
    ctalk_server_t *one = ctalk_server_new (1, config, &error);
    ctalk_server_t *two = one ? ctalk_server_new (2, config, &error) : NULL;
    if (!two)
        return error.text;
    ctalk_envelope_t out, in;
    memset (&out, 0, sizeof out);
    out.pid = 2;
    out.msg_id = 42;
    ctalk_sim_sleep_ms (sim, HOUR_MS);
    if (ctalk_send (one, &out, 1000) != 0 || ctalk_recv (two, &in, 1000) != 0 || in.msg_id != 42)
        return "not the envelope that was sent";
    ctalk_envelope_close (&in);
    return ctalk_server_close (&one, 1000) + ctalk_server_close (&two, 1000) == 0 ? NULL : "ctalk_server_close";
}

static void main_fn (ctalk_sim_t *sim, void *arg)
{
    trouble = talk (sim, (const ctalk_config_t *) arg);
}

int main (int argc, char **argv)
{
    ctalk_error_t error;
    ctalk_sim_options_t options;
    memset (&options, 0, sizeof options);
    options.seed = 1;
    options.limit_ms = INT64_C (2) * HOUR_MS;
    ctalk_config_t *config = ctalk_config_new ();
    ctalk_sim_t *sim = ctalk_sim_new (&options, &error);
    if (argc != 2 || strcmp (argv[1], ctalk_version ()) != 0 || !config || !sim
        || ctalk_config_add_server (config, 1, "one.example:5000", &error) != 0
        || ctalk_config_add_server (config, 2, "two.example:5000", &error) != 0)
        return 1;
    if (ctalk_sim_run (sim, main_fn, config, &error) != 0)
        trouble = error.text;
    bool late = ctalk_sim_now_us (sim) >= INT64_C (1000) * HOUR_MS;
    ctalk_sim_destroy (&sim);
    ctalk_config_destroy (&config);
    if (trouble)
        fprintf (stderr, "%s\n", trouble);
    return !trouble && late ? 0 : 1;
}
