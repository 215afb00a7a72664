/*
 * call.c - workload W11: the time of calls to an actor of another process,
 * beside round trips of plain libzmq over the same loopback in the same run.
 *
 * Method: bench/trips.h. One and the same actor answers all calls, by
 * ctalk_actor_reply. The ratios are to "zmq", DEALER <-> ROUTER; some are also
 * compared with what lies next to them.
 *
 *   ctalk          ctalk_call, by the thread of the process
 *   ctalk-actor    ctalk_actor_call, by an actor
 *   ctalk-by-hand  an actor that asks by ctalk_actor_send and takes the answer by
 *                  ctalk_actor_recv: what is a call's own lies between these two
 *   ctalk-spin, ctalk-actor-spin
 *                  with SpinMicros 50
 *   ctalk-servers  without actors: ctalk_send and ctalk_recv, the "ctalk" of
 *                  bench/roundtrip
 *   zmq, zmq-spin  DEALER <-> ROUTER; the same, spinning before it sleeps
 */
#include "bench/trips.h"

static void print_help (void);

/* Their places in the list. */
enum { CTALK, ACTOR, HAND, SPIN, ACTOR_SPIN, SERVERS, ZMQ, ZMQ_SPIN };

/* bench_ctalk_trip under a name of its own. */
static bench_contestant_t servers;

static const bench_contestant_t *const contestants[] = {[CTALK] = &bench_ctalk_call,
                                                        [ACTOR] = &bench_ctalk_call_actor,
                                                        [HAND] = &bench_ctalk_call_hand,
                                                        [SPIN] = &bench_ctalk_call_spin,
                                                        [ACTOR_SPIN] = &bench_ctalk_call_actor_spin,
                                                        [SERVERS] = &servers,
                                                        [ZMQ] = &bench_zmq_trip,
                                                        [ZMQ_SPIN] = &bench_zmq_trip_spin};

static const bench_versus_t versus[] = {{CTALK, SERVERS}, {ACTOR, HAND}, {SPIN, ZMQ_SPIN}, {ACTOR_SPIN, ZMQ_SPIN}};

static const uint64_t sizes[] = {64};

static const bench_trips_t trips = {.workload = "W11",
                                    .title = "calls of an actor",
                                    .rate_name = "calls/s",
                                    .contestants = contestants,
                                    .contestant_count = BENCH_LENGTH (contestants),
                                    .yardstick = ZMQ,
                                    .versus = versus,
                                    .versus_count = BENCH_LENGTH (versus),
                                    .sizes = sizes,
                                    .size_count = BENCH_LENGTH (sizes),
                                    .help = print_help};

static void print_help (void)
{
    printf ("usage: call [OPTION]...\n"
            "The time of calls to an actor of another process over loopback, one at a time,\n"
            "beside round trips of plain libzmq, turn about.\n"
            "\n");
    bench_trips_print_options (&trips, "64");
    printf ("\n"
            "ctalk is ctalk_call, ctalk-actor ctalk_actor_call, ctalk-by-hand an actor that\n"
            "sends and receives; those with -spin have SpinMicros %d. ctalk-servers are two\n"
            "servers without actors. zmq is DEALER <-> ROUTER, zmq-spin the same that spins up\n"
            "to %d us before it sleeps. Exit status: 0 measured, 1 failed, 2 wrong usage.\n",
            BENCH_SPIN_US, BENCH_SPIN_US);
}

int main (int argc, char **argv)
{
    servers = bench_ctalk_trip;
    servers.name = "ctalk-servers";
    return bench_trips_main (argc, argv, &trips);
}
