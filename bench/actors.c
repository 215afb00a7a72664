/*
 * actors.c - workload W10: two actors of one process that talk to each other,
 * beside CZMQ's zactor in the same run: the rate one way, and the times of round
 * trips.
 *
 * Method. One way, the first side sends as fast as it is let, the second takes
 * and checks; the time is over when the second has the last. In round trips the
 * first asks and waits for the answer, one question under way at a time, and the
 * time of each is taken from before it was sent until its answer was checked.
 * The payload is made anew for each and copied by the send; number, order and
 * every byte are checked, and the address it came from where there is one. How
 * many a turn has follows from the rate of its warm-up, so that each takes about
 * as long. Every turn is a process of its own.
 *
 *   ctalk          two actors: ctalk_actor_send and ctalk_actor_recv
 *   ctalk-call     the same in round trips by ctalk_actor_call and
 *                  ctalk_actor_reply
 *   ctalk-thread   a thread and an actor, as with zactor: ctalk_send; in round
 *                  trips ctalk_call
 *   zactor         a thread and a zactor over the zactor's pipe, by zframe: the
 *                  fastest that CZMQ itself has (zmsg and zsock_send make a zmsg
 *                  of frames around it)
 *   zactor-zmq     the same pipe by zmq_send and zmq_msg_recv, passing CZMQ by
 *
 * The pipe's high-water marks are as CZMQ sets them, 1,000 messages; a mailbox
 * is bounded by "MailboxBytes".
 */
#ifdef BENCH_HAVE_CZMQ
#include <czmq.h>
#endif

#include "bench/crew.h"
#include "bench/ends.h"
#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SIZE_MAX_BYTES = 1024,
    WAIT_MS = 20000, /* for the next envelope */
    WARM_ONE_WAY = 20000,
    WARM_TRIPS = 500,
    TURN_LEAST = 100,
    TURN_MOST = 50000000,
    TRIPS_MOST = 2000000,
    APART_BYTES = 128, /* so that no two threads share a cache line */
    CASES = 3
};

typedef struct {
    uint64_t millis, rounds, deadline_s;
    const char *only; /* contestants */
} options_t;

typedef struct {
    size_t size;
    bool trips;      /* there and back; else one way */
    uint64_t millis; /* of a turn, about */
} task_t;

/* What a turn leaves behind for the parent. */
typedef struct {
    uint64_t count; /* 0: this contestant has nothing to do in this case */
    double p50_us, p90_us, p99_us;
} board_t;

typedef struct talk talk_t;

/* One of the two. */
typedef struct {
    alignas (APART_BYTES) talk_t *talk;
    bool first;
    uint64_t to, from;   /* ClusterTalk's id of the other one, in what goes and in what comes; 0: it is no actor */
    ctalk_actor_t *self; /* NULL: a thread that is no actor */
    void *pipe;          /* of a zactor, this side's end */
    uint8_t payload[SIZE_MAX_BYTES];
} side_t;

/* How a contestant does it; each call 0, or -1 with member->error filled in. */
typedef struct {
    bool trips_only;
    int (*start) (talk_t *talk); /* each side in run_side () on a thread of its own */
    int (*end) (talk_t *talk);   /* after both have returned from it, or will by themselves */
    int (*say) (side_t *side, uint64_t number);
    int (*hear) (side_t *side, uint64_t number);
    int (*ask) (side_t *side, uint64_t number);    /* and take the answer; NULL: say and hear */
    int (*answer) (side_t *side, uint64_t number); /* take the question and answer it; NULL: the same */
} way_t;

struct talk {
    side_t side[2];
    crew_member_t *member;
    const way_t *way;
    size_t size;
    uint64_t first_number, count; /* of the present stretch: the warm-up, then what counts */
    uint64_t end_ns;              /* when its last one was taken */
    uint32_t *sample_ns;          /* NULL: one way, or the warm-up */
    pthread_barrier_t gate;       /* both sides and the step, before and after a stretch */
    ctalk_server_t *server;
    pthread_t thread; /* of the first side, where that is no actor */
    void *zactor;
};

/* ------------------------------------------------------------- what a side does */

static int fail (const side_t *side, const char *what)
{
    return crew_fail (side->talk->member, what);
}

static int check (const side_t *side, const void *data, size_t size, uint64_t number)
{
    if (size == side->talk->size && bench_check (data, size, number))
        return 0;
    return crew_fail_content (side->talk->member, side->first ? "answer" : "second side", data, size, number);
}

static int push (side_t *side)
{
    const talk_t *talk = side->talk;
    const uint64_t end = talk->first_number + talk->count;
    for (uint64_t number = talk->first_number; number < end; number++)
        if (talk->way->say (side, number) != 0)
            return -1;
    return 0;
}

static int pull (side_t *side)
{
    const talk_t *talk = side->talk;
    const uint64_t end = talk->first_number + talk->count;
    for (uint64_t number = talk->first_number; number < end; number++)
        if (talk->way->hear (side, number) != 0)
            return -1;
    return 0;
}

static int ask (side_t *side, uint64_t number)
{
    const way_t *way = side->talk->way;
    if (way->ask)
        return way->ask (side, number);
    return way->say (side, number) == 0 ? way->hear (side, BENCH_REPLY (number)) : -1;
}

static int answer (side_t *side, uint64_t number)
{
    const way_t *way = side->talk->way;
    if (way->answer)
        return way->answer (side, number);
    return way->hear (side, number) == 0 ? way->say (side, BENCH_REPLY (number)) : -1;
}

static int ask_all (side_t *side)
{
    const talk_t *talk = side->talk;
    for (uint64_t i = 0; i < talk->count; i++) {
        const uint64_t began_ns = bench_now_ns ();
        if (ask (side, talk->first_number + i) != 0)
            return -1;
        const uint64_t took_ns = bench_now_ns () - began_ns;
        if (talk->sample_ns)
            talk->sample_ns[i] = took_ns < UINT32_MAX ? (uint32_t) took_ns : UINT32_MAX;
    }
    return 0;
}

static int answer_all (side_t *side)
{
    const talk_t *talk = side->talk;
    for (uint64_t i = 0; i < talk->count; i++)
        if (answer (side, talk->first_number + i) != 0)
            return -1;
    return 0;
}

static int run_stretch (side_t *side)
{
    const task_t *task = side->talk->member->task;
    if (task->trips)
        return side->first ? ask_all (side) : answer_all (side);
    return side->first ? push (side) : pull (side);
}

/* The warm-up, then what counts. The other one would wait for ever for one that fails, so that it ends all. */
static void run_side (side_t *side)
{
    talk_t *talk = side->talk;
    const task_t *task = talk->member->task;
    for (int i = 0; i < 2; i++) {
        pthread_barrier_wait (&talk->gate);
        if (run_stretch (side) != 0) {
            fprintf (stderr, "%s side: %s\n", side->first ? "first" : "second", talk->member->error);
            _exit (EXIT_FAILURE);
        }
        if (side->first == task->trips)
            talk->end_ns = bench_now_ns ();
        pthread_barrier_wait (&talk->gate);
    }
}

static void *run_thread (void *arg)
{
    run_side (arg);
    return NULL;
}

/* ----------------------------------------------------------------- the steps */

static int open_talk (crew_member_t *member)
{
    const way_t *way = member->way;
    const task_t *task = member->task;
    if (way->trips_only && !task->trips)
        return 0;
    talk_t *talk = aligned_alloc (alignof (talk_t), sizeof *talk);
    if (!talk)
        return crew_fail (member, "aligned_alloc");
    memset (talk, 0, sizeof *talk);
    talk->member = member;
    talk->way = way;
    talk->size = task->size;
    talk->side[0] = (side_t){.talk = talk, .first = true};
    talk->side[1] = (side_t){.talk = talk};
    pthread_barrier_init (&talk->gate, NULL, 3);
    member->own = talk;
    return way->start (talk);
}

/* Runs a stretch. Returns what it took in seconds. */
static double stretch (talk_t *talk, uint64_t first_number, uint64_t count)
{
    talk->first_number = first_number;
    talk->count = count;
    const uint64_t begin_ns = bench_now_ns ();
    pthread_barrier_wait (&talk->gate);
    pthread_barrier_wait (&talk->gate);
    return (double) (talk->end_ns - begin_ns) / 1e9;
}

static uint64_t within (double value, uint64_t least, uint64_t most)
{
    if (value >= (double) most)
        return most;
    return value <= (double) least ? least : (uint64_t) value;
}

static int warm (crew_member_t *member)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    talk_t *talk = member->own;
    if (!talk)
        return 0;
    const uint64_t count = task->trips ? WARM_TRIPS : WARM_ONE_WAY;
    const double seconds = stretch (talk, 0, count);
    board->count = within ((double) count / seconds * (double) task->millis / 1000, TURN_LEAST,
                           task->trips ? TRIPS_MOST : TURN_MOST);
    if (task->trips)
        talk->sample_ns = calloc (board->count, sizeof *talk->sample_ns);
    return task->trips && !talk->sample_ns ? crew_fail (member, "calloc") : 0;
}

static int run (crew_member_t *member)
{
    const board_t *board = member->shared;
    talk_t *talk = member->own;
    if (!talk)
        return 0;
    stretch (talk, talk->first_number + talk->count, board->count);
    member->end_ns = talk->end_ns;
    return 0;
}

static int close_talk (crew_member_t *member)
{
    board_t *board = member->shared;
    talk_t *talk = member->own;
    if (!talk)
        return 0;
    if (talk->sample_ns) {
        bench_sort_times (talk->sample_ns, board->count);
        board->p50_us = bench_percentile_us (talk->sample_ns, board->count, 500);
        board->p90_us = bench_percentile_us (talk->sample_ns, board->count, 900);
        board->p99_us = bench_percentile_us (talk->sample_ns, board->count, 990);
    }
    int result = talk->way->end (talk);
    pthread_barrier_destroy (&talk->gate);
    free (talk->sample_ns);
    free (talk);
    return result;
}

static int start_thread (talk_t *talk)
{
    errno = pthread_create (&talk->thread, NULL, run_thread, &talk->side[0]);
    return errno == 0 ? 0 : crew_fail (talk->member, "pthread_create");
}

/* -------------------------------------------------------------- ClusterTalk */

enum { OWN_PID = 1 };

static int run_actor (ctalk_actor_t *self, void *arg)
{
    side_t *side = arg;
    side->self = self;
    run_side (side);
    return 0;
}

static int start_server (talk_t *talk)
{
    ctalk_config_t *config = ends_config (talk->member, 1, NULL);
    if (!config)
        return -1;
    talk->server = ends_server (talk->member, OWN_PID, config, NULL);
    ctalk_config_destroy (&config);
    return talk->server ? 0 : -1;
}

/* Makes an actor of a side. Neither side looks at ids before the gate. */
static int start_actor (talk_t *talk, int which)
{
    side_t *side = &talk->side[which], *other = &talk->side[1 - which];
    other->to = ctalk_actor_spawn (talk->server, NULL, run_actor, side);
    if (other->to == 0)
        return crew_fail (talk->member, "ctalk_actor_spawn");
    other->from = other->to;
    return 0;
}

static int start_two (talk_t *talk)
{
    if (start_server (talk) != 0 || start_actor (talk, 0) != 0)
        return -1;
    return start_actor (talk, 1);
}

static int start_one (talk_t *talk)
{
    if (start_server (talk) != 0 || start_actor (talk, 1) != 0)
        return -1;
    return start_thread (talk);
}

static int end_two (talk_t *talk)
{
    return ends_close (talk->member, &talk->server);
}

static int end_one (talk_t *talk)
{
    pthread_join (talk->thread, NULL);
    return end_two (talk);
}

/* The envelope with this number. */
static ctalk_envelope_t envelope_of (side_t *side, uint64_t number)
{
    const size_t size = side->talk->size;
    bench_fill (side->payload, size, number);
    return (ctalk_envelope_t){
        .pid = OWN_PID, .msg_id = (int64_t) number, .data = side->payload, .size = size, .to = side->to};
}

static int check_envelope (const side_t *side, const ctalk_envelope_t *envelope, uint64_t msg_id, uint64_t number)
{
    if (check (side, envelope->data, envelope->size, number) != 0)
        return -1;
    if (envelope->kind == CTALK_MESSAGE && envelope->pid == OWN_PID && envelope->msg_id == (int64_t) msg_id)
        return 0;
    errno = EBADMSG;
    return fail (side, "an envelope has another kind, pid or message id than it was sent with");
}

static int take_reply (const side_t *side, ctalk_envelope_t *reply, uint64_t number)
{
    int result = check_envelope (side, reply, number, BENCH_REPLY (number));
    ctalk_envelope_close (reply);
    return result;
}

static int say_actor (side_t *side, uint64_t number)
{
    const ctalk_envelope_t envelope = envelope_of (side, number);
    return ctalk_actor_send (side->self, &envelope, WAIT_MS) == 0 ? 0 : fail (side, "ctalk_actor_send");
}

static int hear_actor (side_t *side, uint64_t number)
{
    ctalk_envelope_t envelope;
    if (ctalk_actor_recv (side->self, &envelope, WAIT_MS) != 0)
        return fail (side, "ctalk_actor_recv");
    int result = check_envelope (side, &envelope, number, number);
    if (result == 0 && envelope.from != side->from) {
        errno = EBADMSG;
        result = fail (side, "an envelope is not from the other side");
    }
    ctalk_envelope_close (&envelope);
    return result;
}

static int ask_actor (side_t *side, uint64_t number)
{
    const ctalk_envelope_t request = envelope_of (side, number);
    ctalk_envelope_t reply;
    if (ctalk_actor_call (side->self, &request, &reply, WAIT_MS) != 0)
        return fail (side, "ctalk_actor_call");
    return take_reply (side, &reply, number);
}

static int answer_actor (side_t *side, uint64_t number)
{
    ctalk_envelope_t request;
    if (ctalk_actor_recv (side->self, &request, WAIT_MS) != 0)
        return fail (side, "ctalk_actor_recv");
    int result = check_envelope (side, &request, number, number);
    bench_fill (side->payload, side->talk->size, BENCH_REPLY (number));
    if (result == 0 && ctalk_actor_reply (side->self, &request, side->payload, side->talk->size, WAIT_MS) != 0)
        result = fail (side, "ctalk_actor_reply");
    ctalk_envelope_close (&request);
    return result;
}

static int say_thread (side_t *side, uint64_t number)
{
    const ctalk_envelope_t envelope = envelope_of (side, number);
    return ctalk_send (side->talk->server, &envelope, WAIT_MS) == 0 ? 0 : fail (side, "ctalk_send");
}

static int ask_thread (side_t *side, uint64_t number)
{
    const ctalk_envelope_t request = envelope_of (side, number);
    ctalk_envelope_t reply;
    if (ctalk_call (side->talk->server, &request, &reply, WAIT_MS) != 0)
        return fail (side, "ctalk_call");
    return take_reply (side, &reply, number);
}

static const way_t by_actors = {.start = start_two, .end = end_two, .say = say_actor, .hear = hear_actor};
static const way_t by_call = {
    .trips_only = true, .start = start_two, .end = end_two, .ask = ask_actor, .answer = answer_actor};
static const way_t by_thread = {.start = start_one,
                                .end = end_one,
                                .say = say_thread,
                                .hear = hear_actor,
                                .ask = ask_thread,
                                .answer = answer_actor};

/* ------------------------------------------------------------- the yardsticks */

#ifdef BENCH_HAVE_CZMQ

/* It ends when it was told to: what it takes last is "$TERM". */
static void run_zactor (zsock_t *pipe, void *arg)
{
    side_t *side = arg;
    side->pipe = pipe;
    zsock_signal (pipe, 0);
    run_side (side);
    zframe_t *told = zframe_recv (pipe);
    zframe_destroy (&told);
}

static int start_zactor (talk_t *talk)
{
    zsys_handler_set (NULL);
    talk->zactor = zactor_new (run_zactor, &talk->side[1]);
    if (!talk->zactor)
        return crew_fail (talk->member, "zactor_new");
    talk->side[0].pipe = talk->zactor;
    return start_thread (talk);
}

static int end_zactor (talk_t *talk)
{
    zactor_t *zactor = talk->zactor;
    pthread_join (talk->thread, NULL);
    zactor_destroy (&zactor);
    zsys_shutdown ();
    return 0;
}

static int say_frame (side_t *side, uint64_t number)
{
    bench_fill (side->payload, side->talk->size, number);
    zframe_t *frame = zframe_new (side->payload, side->talk->size);
    if (frame && zframe_send (&frame, side->pipe, 0) == 0)
        return 0;
    zframe_destroy (&frame);
    return fail (side, "zframe_send");
}

static int hear_frame (side_t *side, uint64_t number)
{
    zframe_t *frame = zframe_recv (side->pipe);
    if (!frame)
        return fail (side, "zframe_recv");
    int result = check (side, zframe_data (frame), zframe_size (frame), number);
    zframe_destroy (&frame);
    return result;
}

static int say_zmq (side_t *side, uint64_t number)
{
    bench_fill (side->payload, side->talk->size, number);
    return zmq_send (zsock_resolve (side->pipe), side->payload, side->talk->size, 0) >= 0 ? 0 : fail (side, "zmq_send");
}

static int hear_zmq (side_t *side, uint64_t number)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    int result = zmq_msg_recv (&message, zsock_resolve (side->pipe), 0) < 0
                     ? fail (side, "zmq_msg_recv")
                     : check (side, zmq_msg_data (&message), zmq_msg_size (&message), number);
    zmq_msg_close (&message);
    return result;
}

static const way_t by_frames = {.start = start_zactor, .end = end_zactor, .say = say_frame, .hear = hear_frame};
static const way_t by_zmq = {.start = start_zactor, .end = end_zactor, .say = say_zmq, .hear = hear_zmq};

#endif

/* -------------------------------------------------------------- the workload */

enum { RATE, CPU_NS, P50, P90, P99, TRIPS, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [RATE] = {.name = "envelopes/s"},
    [CPU_NS] = {.name = "CPU ns each", .lower_is_better = true},
    [P50] = {.name = "p50 us", .lower_is_better = true},
    [P90] = {.name = "p90 us", .lower_is_better = true},
    [P99] = {.name = "p99 us", .lower_is_better = true},
    [TRIPS] = {.name = "trips/s"},
};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .way = &by_actors, .step = {open_talk, warm, run, close_talk}},
    {.name = "ctalk-call", .way = &by_call, .step = {open_talk, warm, run, close_talk}},
    {.name = "ctalk-thread", .way = &by_thread, .step = {open_talk, warm, run, close_talk}},
#ifdef BENCH_HAVE_CZMQ
    {.name = "zactor", .way = &by_frames, .step = {open_talk, warm, run, close_talk}},
    {.name = "zactor-zmq", .way = &by_zmq, .step = {open_talk, warm, run, close_talk}},
#endif
};

enum { OWN_COUNT = 3 };

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const board_t *board = shared;
    for (int i = 0; i < METRICS; i++)
        values[i] = NAN;
    if (board->count == 0)
        return;
    const double rate = (double) board->count / cost->seconds;
    values[CPU_NS] = cost->cpu_s * 1e9 / (double) board->count;
    values[task->trips ? TRIPS : RATE] = rate;
    if (!task->trips)
        return;
    values[P50] = board->p50_us;
    values[P90] = board->p90_us;
    values[P99] = board->p99_us;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[] = {"actors"};
    const options_t *options = asked;
    const task_t tasks[CASES] = {{.size = 64, .millis = options->millis},
                                 {.size = 1024, .millis = options->millis},
                                 {.size = 64, .trips = true, .millis = options->millis}};
    const crew_case_t cases[CASES] = {{.name = "64 B", .x = 64, .task = &tasks[0]},
                                      {.name = "1 KiB", .x = 1024, .task = &tasks[1]},
                                      {.name = "trip 64 B", .x = 64, .task = &tasks[2]}};
    const crew_workload_t workload = {.name = "W10",
                                      .title = "W10: two actors of one process, one way and round trips",
                                      .process_names = names,
                                      .processes = 1,
                                      .cases = cases,
                                      .case_count = CASES,
                                      .contestants = contestants,
                                      .contestant_count = sizeof contestants / sizeof *contestants,
                                      .own_count = OWN_COUNT,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 2,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s,
                                      .figures = figures};
    int status = crew_bench (&workload, csv);
#ifndef BENCH_HAVE_CZMQ
    bench_report_skipped ("zactor", "CZMQ is not installed (libczmq-dev)");
#endif
    return status;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: actors [OPTION]...\n"
            "Two actors of one process: the rate one way, 64 bytes and 1 KiB, and round trips\n"
            "of 64 bytes, beside a thread and a zactor of CZMQ, turn about.\n"
            "\n"
            "  --millis N        a turn has about as many as take so long (500)\n"
            "  --rounds N        rounds; each contestant has a turn in each (5)\n"
            "  --only LIST       contestants, of:\n"
            "                   ");
    for (size_t i = 0; i < sizeof contestants / sizeof *contestants; i++)
        printf (" %s", contestants[i].name);
    printf ("\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --quick           a run of a few seconds that says little\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "ctalk are two actors that send and receive, ctalk-call two that call and answer,\n"
            "ctalk-thread a thread and an actor; zactor goes by zframe, zactor-zmq by zmq_send\n"
            "and zmq_msg_recv on the same pipe (without CZMQ: neither). Exit status:\n"
            "0 measured, 1 failed, 2 wrong usage.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 1, 3600000, &options->millis);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, sizeof contestants / sizeof *contestants, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 10;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"millis", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.millis = 500, .rounds = 5, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
