/* simulate.c - a test of a program that uses ClusterTalk, in the simulator: two
 * servers, a hundred different bad days. Each day, from a seed of its own: bids go
 * from server 1 to server 2 while the network is parted and its connections
 * break; every bid must arrive, once, in order. Linked with libclustertalk-sim. */
#include <clustertalk_sim.h>
#include <stdio.h>
#include <stdlib.h>

enum { BIDS = 200, DAYS = 100 };

typedef struct {
    const ctalk_config_t *config;
    ctalk_sim_t *sim;
    ctalk_server_t *bidder, *auctioneer;
    int arrived;
    bool good;
} day_t;

/* The program itself: nothing here knows that it is simulated, but for the sleep. */
static void bid (void *arg)
{
    day_t *day = arg;
    for (int i = 0; i < BIDS; i++) {
        ctalk_envelope_t envelope = {.pid = 2, .msg_id = i};
        ctalk_send (day->bidder, &envelope, -1);
        ctalk_sim_sleep_ms (day->sim, (int) (ctalk_sim_random (day->sim) % 100));
    }
}

static void take_bids (void *arg)
{
    day_t *day = arg;
    ctalk_envelope_t envelope;
    while (day->arrived < BIDS && ctalk_recv (day->auctioneer, &envelope, -1) == 0) {
        day->arrived += envelope.msg_id == day->arrived; /* stays behind for good if one is missing or comes twice */
        ctalk_envelope_close (&envelope);
    }
}

/* The first thread of the simulation: starts the others, and makes trouble. */
static void one_day (ctalk_sim_t *sim, void *arg)
{
    const ctalk_pid_t side[] = {1};
    day_t *day = arg;
    day->sim = sim;
    day->bidder = ctalk_server_new (1, day->config, NULL);
    day->auctioneer = ctalk_server_new (2, day->config, NULL);
    if (!day->bidder || !day->auctioneer)
        return;
    int bidding = ctalk_sim_spawn (sim, "bids", bid, day);
    int taking = ctalk_sim_spawn (sim, "takes bids", take_bids, day);
    for (int i = 0; i < 3; i++) {
        ctalk_sim_sleep_ms (sim, (int) (ctalk_sim_random (sim) % 2000));
        ctalk_sim_partition (sim, side, 1, true);
        ctalk_sim_sleep_ms (sim, (int) (ctalk_sim_random (sim) % 20000));
        ctalk_sim_partition (sim, side, 1, false);
    }
    ctalk_sim_join (sim, bidding);
    ctalk_sim_join (sim, taking);
    day->good = ctalk_server_close (&day->bidder, 10000) + ctalk_server_close (&day->auctioneer, 10000) == 0;
}

/* A seed from the command line is run alone, and tells all that happens. */
int main (int argc, char **argv)
{
    ctalk_config_t *config = ctalk_config_new ();
    uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 10) : 1, last = argc > 1 ? first : DAYS;
    int failed = 0;
    ctalk_config_add_server (config, 1, "bidder:5000", NULL); /* names: no port is opened */
    ctalk_config_add_server (config, 2, "auctioneer:5000", NULL);
    for (uint64_t seed = first; seed <= last; seed++) {
        day_t day = {.config = config};
        ctalk_error_t error = {0};
        ctalk_sim_options_t options = {.seed = seed, .network = {.resets_per_second = 0.5}};
        options.trace = argc > 1 ? stdout : NULL;
        ctalk_sim_t *sim = ctalk_sim_new (&options, NULL);
        if (!sim || ctalk_sim_run (sim, one_day, &day, &error) != 0 || !day.good) {
            printf ("seed %llu: %s\n", (unsigned long long) seed, error.text[0] ? error.text : "not all is well");
            failed++;
        }
        ctalk_sim_destroy (&sim);
    }
    ctalk_config_destroy (&config);
    printf ("%d of %d days were good\n", (int) (last - first + 1) - failed, (int) (last - first + 1));
    return failed == 0 ? 0 : 1;
}
