/*
 * contestants.h - who takes part in the workloads of two processes
 * (bench/pair.h): ClusterTalk, libzmq, TCP, nng and CZMQ, one way and in round
 * trips, and ClusterTalk in calls. A file with_NAME.c each.
 *
 * For all: the puller binds and the pusher connects, over TCP of the loopback.
 * Every message is a call to send and a call to receive unless its name says
 * otherwise; the payload is made anew for each, copied by the send, and checked
 * to the last byte by whoever gets it. In round trips the pusher asks and the
 * puller answers each question with a payload of the same size, made from
 * BENCH_REPLY () of the question's number.
 */
#ifndef BENCH_CONTESTANTS_H
#define BENCH_CONTESTANTS_H

#include "bench/pair.h"

/* One way. */
extern const bench_contestant_t bench_ctalk_oneway;  /* ctalk_send, ctalk_recv, default options */
extern const bench_contestant_t bench_ctalk_many;    /* ctalk_send_many, ctalk_recv_many */
extern const bench_contestant_t bench_ctalk_owned;   /* ctalk_send_owned of a block of its own each */
extern const bench_contestant_t bench_zmq_push;      /* PUSH -> PULL, zmq_send (which copies), zmq_msg_recv */
extern const bench_contestant_t bench_zmq_unlimited; /* the same with high-water marks 0: what waits has no bound */
extern const bench_contestant_t bench_zmq_buffered;  /* the same with what our sockets have: ZMQ_SNDBUF, I/O threads */
extern const bench_contestant_t bench_zmq_owned;     /* the same with zmq_msg_init_data of a block of its own each */
extern const bench_contestant_t bench_zmq_dealer;    /* DEALER -> ROUTER */
extern const bench_contestant_t bench_tcp_oneway;    /* length and payload, packed into writes of 64 KiB: the limit */
extern const bench_contestant_t bench_nng_oneway;    /* PUSH -> PULL, nng_send (which copies), nng_recvmsg */
extern const bench_contestant_t bench_czmq_oneway;   /* zsock PUSH -> PULL, zframe */
extern const bench_contestant_t
    bench_czmq_actor; /* the same through a zactor on either side, as our senders and router */

/* Round trips. "Spinning" is for at most 50 us, with sched_yield (); then the thread sleeps. */
extern const bench_contestant_t bench_ctalk_trip;       /* default options */
extern const bench_contestant_t bench_ctalk_trip_spin;  /* SpinMicros 50 */
extern const bench_contestant_t bench_ctalk_trip_alone; /* Help off */
extern const bench_contestant_t bench_zmq_trip;         /* DEALER <-> ROUTER */
extern const bench_contestant_t bench_zmq_trip_spin;    /* the same, spinning with ZMQ_DONTWAIT */
extern const bench_contestant_t bench_tcp_trip;         /* TCP_NODELAY */
extern const bench_contestant_t bench_tcp_trip_spin;    /* the same, spinning with MSG_DONTWAIT */
extern const bench_contestant_t bench_nng_trip;         /* REQ <-> REP */
extern const bench_contestant_t bench_czmq_trip;        /* zsock REQ <-> REP, zframe */

/* Calls, answered by an actor (ctalk_actor_recv, ctalk_actor_reply). */
extern const bench_contestant_t bench_ctalk_call;            /* by a thread: ctalk_call */
extern const bench_contestant_t bench_ctalk_call_spin;       /* the same, SpinMicros 50 */
extern const bench_contestant_t bench_ctalk_call_actor;      /* by an actor: ctalk_actor_call */
extern const bench_contestant_t bench_ctalk_call_actor_spin; /* the same, SpinMicros 50 */
extern const bench_contestant_t bench_ctalk_call_hand;       /* by an actor: ctalk_actor_send, ctalk_actor_recv */

enum { BENCH_SPIN_US = 50 };

/* Whether to go on spinning that began at that time; lets others run. */
bool bench_spin (uint64_t began_ns);

/* Parts of them, for contestants of other workloads. */
int bench_ctalk_open (bench_end_t *end, char *endpoint, size_t capacity);
int bench_ctalk_join (bench_end_t *end, const char *endpoint);
int bench_ctalk_close (bench_end_t *end);
void *bench_zmq_socket (bench_end_t *end, int type, const int *high_water); /* NULL with end->error filled in */
int bench_zmq_bind (bench_end_t *end, void *socket, char *endpoint, size_t capacity);
int bench_zmq_close (bench_end_t *end);

/* Notes the time of a round trip, the index of which counts from the warm-up's end on. */
static inline void bench_take_sample (const bench_end_t *end, uint64_t index, uint64_t began_ns)
{
    uint64_t took_ns = bench_now_ns () - began_ns;
    if (end->samples_ns)
        end->samples_ns[index] = took_ns < UINT32_MAX ? (uint32_t) took_ns : UINT32_MAX;
}

#endif
