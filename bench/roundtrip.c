/*
 * roundtrip.c - workload W3: the time of round trips between two processes,
 * beside plain libzmq, TCP and others over the same loopback in the same run.
 *
 * Method: bench/trips.h. The ratios are to "zmq", DEALER <-> ROUTER; the spinning
 * contestants are also compared with each other.
 */
#include "bench/trips.h"

static void print_help (void);

/* Their places in the list. */
enum { CTALK, CTALK_SPIN, CTALK_NOHELP, ZMQ, ZMQ_SPIN, TCP, TCP_SPIN, NNG, CZMQ };

static const bench_contestant_t *const contestants[] = {[CTALK] = &bench_ctalk_trip,
                                                        [CTALK_SPIN] = &bench_ctalk_trip_spin,
                                                        [CTALK_NOHELP] = &bench_ctalk_trip_alone,
                                                        [ZMQ] = &bench_zmq_trip,
                                                        [ZMQ_SPIN] = &bench_zmq_trip_spin,
                                                        [TCP] = &bench_tcp_trip,
                                                        [TCP_SPIN] = &bench_tcp_trip_spin,
                                                        [NNG] = &bench_nng_trip,
                                                        [CZMQ] = &bench_czmq_trip};

static const bench_versus_t versus[] = {{CTALK, TCP}, {CTALK_SPIN, ZMQ_SPIN}, {CTALK_SPIN, TCP_SPIN}};

static const uint64_t sizes[] = {64, 4096};

static const bench_trips_t trips = {.workload = "W3",
                                    .title = "round trips",
                                    .rate_name = "round trips/s",
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
    printf ("usage: roundtrip [OPTION]...\n"
            "The time of round trips between two processes over loopback, one at a time,\n"
            "ClusterTalk beside plain libzmq and others, turn about.\n"
            "\n");
    bench_trips_print_options (&trips, "64,4096");
    printf ("\n"
            "ctalk has default options, ctalk-spin SpinMicros %d, ctalk-nohelp Help off; zmq\n"
            "is DEALER <-> ROUTER, zmq-spin the same that spins up to %d us before it sleeps,\n"
            "tcp and tcp-spin plain sockets with TCP_NODELAY; nng and czmq REQ <-> REP.\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage.\n",
            BENCH_SPIN_US, BENCH_SPIN_US);
}

int main (int argc, char **argv)
{
    return bench_trips_main (argc, argv, &trips);
}
