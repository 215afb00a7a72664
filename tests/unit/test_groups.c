/*
 * test_groups.c - groups, on the object alone: the rest of the hall is faked here, so
 * this is a program of its own. Notices go into a queue per pair of halls, events to
 * those who watch are checked as they come.
 *
 * Several halls live by random steps: joins, leaves, ends of actors, peers that go and
 * come as each side sees it, restarts, memory that runs out. After each step what a
 * hall says is compared with a model that knows nothing but flags; at the end, when
 * all has healed, all halls must agree. CTALK_TEST_SEED=n plays that seed alone.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/hall.h"
#include "src/mem.h"
#include "tests/support/scale.h"

Suite *ctki_suite_groups (void);

enum { HALLS = 5, ACTORS = 3, GROUPS = 3, SEEDS = 200, STEPS = 1000, MANY = 100 };

/* A notice on its way, with the name that it points to. */
typedef struct packet {
    struct packet *next;
    ctki_notice_t notice;
    char text[CTKI_NAME_BYTES];
} packet_t;

typedef struct {
    packet_t *head, *tail;
} queue_t;

typedef bool flags_t[HALLS][ACTORS][GROUPS];

typedef struct {
    ctki_hall_t hall;
    ctalk_actor_t actor[ACTORS];
    /* The model. */
    flags_t known, stale;
    bool up[HALLS];
    bool watches[ACTORS][GROUPS];
    flags_t shown[ACTORS]; /* to the actor that watches, by events */
    bool looks;            /* the time to look at was set */
} node_t;

static node_t nodes[HALLS];
static queue_t queues[HALLS][HALLS]; /* from, to */
static bool restarted[HALLS][HALLS]; /* of a hall, as a peer is to be told before anything else of it */
static long letters;                 /* that live */
static char events[MANY * 8];        /* of the plain tests, in words */
static bool by_model;                /* events are checked; else they are written down */
static uint64_t random_state, seed;
static unsigned halls;

/* ---- names and numbers */

/* An assertion of Check's own writes to a pipe, also when it holds: too slow for so many. */
#define HOLDS(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            ck_abort_msg ("CTALK_TEST_SEED=%" PRIu64 ": %s", seed, #condition);                                        \
    } while (0)

static const char *const group_name[GROUPS] = {"ga", "gb", "gc"};

static uint64_t id_of (unsigned actor)
{
    return CTKI_ID_NAMED | (actor + 2);
}

static unsigned actor_of (uint64_t id)
{
    return (unsigned) (id & 0xffff) - 2;
}

static unsigned group_of (const char *name, size_t size)
{
    HOLDS (size == 2 && name[0] == 'g' && name[1] >= 'a' && name[1] < 'a' + GROUPS);
    return (unsigned) (name[1] - 'a');
}

static unsigned draw (unsigned below)
{
    random_state += UINT64_C (0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = random_state;
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return (unsigned) ((z ^ z >> 31) % below);
}

/* ---- what is faked */

/* Names of two letters, and such as begin with x, share a few hashes. */
uint64_t ctki_name_hash (const char *name, size_t size)
{
    uint64_t hash = 5381;
    for (size_t i = 0; i < size; i++)
        hash = hash * 33 + (uint8_t) name[i];
    return size == 2 || name[0] == 'x' ? hash & 1 : hash;
}

size_t ctki_name_length (const char *name)
{
    size_t length = name ? strnlen (name, CTKI_NAME_BYTES + 1) : 0;
    return length <= CTKI_NAME_BYTES ? length : 0;
}

void ctki_hall_unlock (ctki_hall_t *hall)
{
    ctki_lock_release (&hall->lock);
}

void ctki_hall_look_at (ctki_hall_t *hall, int64_t at_us)
{
    HOLDS (at_us > 0 && hall->groups_due);
    nodes[hall->self].looks = true;
}

int ctki_hall_tell (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    queue_t *queue = &queues[hall->self][pid];
    packet_t *packet = ctki_alloc_zero (sizeof *packet);
    HOLDS (atomic_load (&hall->lock.held) && pid != hall->self);
    if (!packet)
        return -1;
    packet->notice = *notice;
    if (notice->text_size)
        memcpy (packet->text, notice->text, notice->text_size);
    packet->notice.text = packet->text;
    *(queue->tail ? &queue->tail->next : &queue->head) = packet;
    queue->tail = packet;
    return 0;
}

ctki_letter_t *ctki_letter_event (ctki_hall_t *hall, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from,
                                  const void *data, size_t size)
{
    ctki_letter_t *letter = ctki_alloc_zero (sizeof *letter + size);
    (void) hall;
    if (!letter)
        return NULL;
    memcpy (letter + 1, data, size);
    letter->envelope = (ctalk_envelope_t){.kind = kind, .pid = pid, .from = from, .data = letter + 1, .size = size};
    letters++;
    return letter;
}

void ctki_letter_free (ctki_letter_t *letter)
{
    letters--;
    ctki_free (letter);
}

/* To one who watches: a member that it knows leaves, one that it does not know joins. */
static void check_event (const ctalk_actor_t *actor, const ctalk_envelope_t *event)
{
    unsigned watcher = actor_of (actor->id), group = group_of (event->data, event->size);
    node_t *node = &nodes[actor->hall->self];
    bool *shown = &node->shown[watcher][event->pid][actor_of (event->from)][group];
    HOLDS (node->watches[watcher][group]);
    HOLDS (*shown == (event->kind == CTALK_GROUP_LEFT));
    *shown = event->kind == CTALK_GROUP_JOINED;
}

/* As in "0:1>2+ga ": actor 0 is told that 2 on 1 joined ga. */
static void note_event (const ctalk_actor_t *actor, const ctalk_envelope_t *event)
{
    size_t length = strlen (events);
    snprintf (events + length, sizeof events - length, "%u:%d>%u%c%s ", actor_of (actor->id), event->pid,
              actor_of (event->from), event->kind == CTALK_GROUP_JOINED ? '+' : '-', (const char *) event->data);
}

void ctki_mail_put (ctalk_actor_t *actor, ctki_letter_t *letter)
{
    const ctalk_envelope_t *event = &letter->envelope;
    HOLDS (event->kind == CTALK_GROUP_JOINED || event->kind == CTALK_GROUP_LEFT);
    HOLDS (event->to == actor->id && ((const char *) event->data)[event->size] == 0);
    letter->next = letter; /* nobody may look at it any more */
    if (by_model)
        check_event (actor, event);
    else
        note_event (actor, event);
    ctki_letter_free (letter);
}

/* ---- halls */

static void start (unsigned n)
{
    node_t *node = &nodes[n];
    *node = (node_t){.hall = {.self = (ctalk_pid_t) n}};
    for (unsigned i = 0; i < ACTORS; i++) {
        node->actor[i].hall = &node->hall;
        node->actor[i].id = id_of (i);
    }
}

static void start_all (unsigned count)
{
    halls = count;
    events[0] = 0;
    for (unsigned n = 0; n < count; n++)
        start (n);
}

static void drop_first (queue_t *queue)
{
    packet_t *packet = queue->head;
    queue->head = packet->next;
    if (!queue->head)
        queue->tail = NULL;
    ctki_free (packet);
}

static void drop_queue (unsigned from, unsigned to)
{
    while (queues[from][to].head)
        drop_first (&queues[from][to]);
}

static void end_all (void)
{
    for (unsigned n = 0; n < halls; n++) {
        ctki_groups_fini (&nodes[n].hall);
        for (unsigned to = 0; to < halls; to++)
            drop_queue (n, to);
    }
    ck_assert_int_eq (letters, 0);
}

static int peer_up (unsigned n, unsigned peer)
{
    ctki_hall_lock (&nodes[n].hall);
    int rc = ctki_groups_peer_up (&nodes[n].hall, (ctalk_pid_t) peer);
    ctki_hall_unlock (&nodes[n].hall);
    return rc;
}

static void peer_gone (unsigned n, unsigned peer, uint32_t why)
{
    ctki_hall_lock (&nodes[n].hall);
    ctki_groups_peer_gone (&nodes[n].hall, (ctalk_pid_t) peer, why);
    ctki_hall_unlock (&nodes[n].hall);
}

static int hear (unsigned n, unsigned peer, const ctki_notice_t *notice)
{
    ctki_hall_lock (&nodes[n].hall);
    int rc = ctki_groups_hear (&nodes[n].hall, (ctalk_pid_t) peer, notice);
    ctki_hall_unlock (&nodes[n].hall);
    return rc;
}

static int hear_about (unsigned n, unsigned peer, ctki_op_t op, unsigned actor, const char *name)
{
    return hear (n, peer, &(ctki_notice_t){.op = op, .a = id_of (actor), .text = name, .text_size = strlen (name)});
}

static void end_actor (unsigned n, unsigned actor)
{
    ctki_hall_lock (&nodes[n].hall);
    ctki_groups_end (&nodes[n].actor[actor]);
    ctki_hall_unlock (&nodes[n].hall);
}

static void retry (unsigned n)
{
    nodes[n].looks = false;
    ctki_hall_lock (&nodes[n].hall);
    ctki_groups_retry (&nodes[n].hall);
    ctki_hall_unlock (&nodes[n].hall);
}

/* ---- plain tests, on hall 0 */

static int join (unsigned actor, const char *name)
{
    return ctki_hall_join_group (&nodes[0].actor[actor], name);
}

static int leave (unsigned actor, const char *name)
{
    return ctki_hall_leave_group (&nodes[0].actor[actor], name);
}

static int watch (unsigned actor, const char *name, bool on)
{
    return ctki_hall_watch_group (&nodes[0].actor[actor], name, on);
}

/* The members as text: "pid>actor ". */
static const char *members (const char *name)
{
    static char text[MANY * 8];
    ctalk_address_t list[MANY];
    int count = ctki_hall_members (&nodes[0].hall, name, list, MANY);
    text[0] = 0;
    for (int i = 0; i < count; i++) {
        size_t length = strlen (text);
        snprintf (text + length, sizeof text - length, "%d>%u ", list[i].pid, actor_of (list[i].actor));
    }
    return text;
}

/* What was told since the last look. */
static void expect_events (const char *expected)
{
    ck_assert_str_eq (events, expected);
    events[0] = 0;
}

/* The first notice from hall 0 to 1; takes it out. */
static void expect_notice (ctki_op_t op, unsigned actor, const char *name)
{
    packet_t *packet = queues[0][1].head;
    ck_assert_ptr_nonnull (packet);
    ck_assert_int_eq (packet->notice.op, op);
    ck_assert_uint_eq (packet->notice.text_size, strlen (name));
    ck_assert_mem_eq (packet->text, name, strlen (name));
    ck_assert (packet->notice.a == id_of (actor) || strlen (name) == 0);
    drop_first (&queues[0][1]);
}

static void expect_no_notice (void)
{
    ck_assert_ptr_null (queues[0][1].head);
}

/* Every error of the calls, and what is none. */
START_TEST (errors)
{
    static char longest[CTKI_NAME_BYTES + 1], too_long[CTKI_NAME_BYTES + 2];
    memset (longest, 'x', sizeof longest - 1);
    memset (too_long, 'x', sizeof too_long - 1);
    const char *const bad[] = {NULL, "", too_long};
    start_all (1);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq (join (0, bad[i]), EINVAL);
        ck_assert_int_eq (leave (0, bad[i]), EINVAL);
        ck_assert_int_eq (watch (0, bad[i], true), EINVAL);
        ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, bad[i], NULL, 0), -1);
        ck_assert_int_eq (errno, EINVAL);
    }
    ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, "ga", NULL, 1), -1);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_int_eq (leave (0, "ga"), ESRCH);
    ck_assert_int_eq (join (0, "ga"), 0);
    ck_assert_int_eq (join (0, "ga"), EEXIST);
    ck_assert_int_eq (join (0, longest), 0);
    ck_assert_int_eq (leave (1, "ga"), ESRCH);
    ck_assert_int_eq (leave (0, "gc"), ESRCH); /* of the same hash */
    ck_assert_int_eq (leave (0, "ga"), 0);
    ck_assert_int_eq (leave (0, "ga"), ESRCH);
    ck_assert_int_eq (watch (0, "ga", false), 0);
    ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, "none", NULL, 0), 0);
    atomic_store (&nodes[0].hall.closing, true);
    ck_assert_int_eq (join (0, "ga"), ESHUTDOWN);
    ck_assert_int_eq (leave (0, longest), ESHUTDOWN);
    ck_assert_int_eq (watch (0, "ga", true), ESHUTDOWN);
    ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, "ga", NULL, 0), -1);
    ck_assert_int_eq (errno, ESHUTDOWN);
    end_actor (0, 0);
    end_all ();
}
END_TEST

/* Members are listed by pid and id, at most as many as there is room for; how many there are is said. */
START_TEST (listed)
{
    ctalk_address_t two[3] = {{9, 9}, {9, 9}, {9, 9}};
    start_all (3);
    ck_assert_int_eq (join (2, "ga"), 0);
    ck_assert_int_eq (join (0, "ga"), 0);
    for (unsigned peer = 1; peer < 3; peer++)
        ck_assert_int_eq (peer_up (0, peer), 0);
    ck_assert_int_eq (hear_about (0, 2, CTKI_JOINED, 1, "ga"), 0);
    ck_assert_int_eq (hear_about (0, 1, CTKI_JOINED, 2, "ga"), 0);
    ck_assert_int_eq (hear_about (0, 1, CTKI_JOINED, 0, "ga"), 0);
    ck_assert_int_eq (hear_about (0, 1, CTKI_JOINED, 0, "gc"), 0);
    ck_assert_str_eq (members ("ga"), "0>0 0>2 1>0 1>2 2>1 ");
    ck_assert_str_eq (members ("gc"), "1>0 ");
    ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, "ga", two, 2), 5);
    ck_assert (two[1].pid == 0 && two[1].actor == id_of (2) && two[2].pid == 9);
    end_all ();
}
END_TEST

/* Who watches is told of those who are there, then of each change, of its own too; once, also if it asks twice; and
 * of nothing afterwards. */
START_TEST (watched)
{
    start_all (2);
    join (1, "ga");
    ck_assert_int_eq (watch (0, "ga", true), 0);
    expect_events ("0:0>1+ga ");
    ck_assert_int_eq (watch (0, "ga", true), 0);
    expect_events ("");
    join (0, "ga");
    join (0, "gc");
    leave (1, "ga");
    expect_events ("0:0>0+ga 0:0>1-ga ");
    peer_up (0, 1);
    hear_about (0, 1, CTKI_JOINED, 2, "ga");
    hear_about (0, 1, CTKI_JOINED, 2, "ga");
    hear_about (0, 1, CTKI_LEFT, 1, "ga");
    hear_about (0, 1, CTKI_LEFT, 2, "gb");
    expect_events ("0:1>2+ga ");
    hear_about (0, 1, CTKI_LEFT, 2, "ga");
    expect_events ("0:1>2-ga ");
    ck_assert_int_eq (watch (0, "ga", false), 0);
    leave (0, "ga");
    expect_events ("");
    end_all ();
}
END_TEST

/* A peer that comes up is told all that is here, then what changes; one that is gone is told nothing. */
START_TEST (told)
{
    start_all (2);
    join (0, "ga");
    expect_no_notice ();
    peer_up (0, 1);
    expect_notice (CTKI_TELL_ALL, 0, "");
    expect_notice (CTKI_JOINED, 0, "ga");
    expect_notice (CTKI_TOLD_ALL, 0, "");
    join (1, "gb");
    leave (0, "ga");
    hear_about (0, 1, CTKI_JOINED, 2, "ga"); /* is its own news */
    expect_notice (CTKI_JOINED, 1, "gb");
    expect_notice (CTKI_LEFT, 0, "ga");
    expect_no_notice ();
    peer_gone (0, 1, CTALK_WHY_DOWN);
    join (0, "ga");
    expect_no_notice ();
    end_all ();
}
END_TEST

/* Members on a peer that is down are not there, and come back with it; those that it does not tell again are gone. */
START_TEST (partition)
{
    start_all (2);
    watch (0, "ga", true);
    hear_about (0, 1, CTKI_JOINED, 0, "ga"); /* it is not up in our eyes yet */
    ck_assert_str_eq (members ("ga"), "");
    peer_up (0, 1);
    hear_about (0, 1, CTKI_JOINED, 1, "ga");
    ck_assert_str_eq (members ("ga"), "1>0 1>1 ");
    expect_events ("0:1>0+ga 0:1>1+ga ");
    peer_gone (0, 1, CTALK_WHY_DOWN);
    ck_assert_str_eq (members ("ga"), "");
    expect_events ("0:1>0-ga 0:1>1-ga ");
    peer_up (0, 1);
    expect_events ("0:1>0+ga 0:1>1+ga ");
    hear (0, 1, &(ctki_notice_t){.op = CTKI_TELL_ALL});
    hear_about (0, 1, CTKI_JOINED, 1, "ga");
    expect_events ("");
    hear (0, 1, &(ctki_notice_t){.op = CTKI_TOLD_ALL});
    ck_assert_str_eq (members ("ga"), "1>1 ");
    expect_events ("0:1>0-ga ");
    end_all ();
}
END_TEST

/* Members on a peer that is another process now, or no peer, are forgotten. Loop test: up before, or down. */
START_TEST (forgotten)
{
    start_all (2);
    watch (0, "ga", true);
    peer_up (0, 1);
    hear_about (0, 1, CTKI_JOINED, 0, "ga");
    hear_about (0, 1, CTKI_JOINED, 0, "gb");
    if (_i)
        peer_gone (0, 1, CTALK_WHY_DOWN);
    peer_gone (0, 1, CTALK_WHY_RESTARTED);
    peer_up (0, 1);
    ck_assert_str_eq (members ("ga"), "");
    expect_events ("0:1>0+ga 0:1>0-ga ");
    ck_assert_uint_eq (nodes[0].hall.groups.count, 1); /* the watched one */
    end_all ();
}
END_TEST

/* An actor that ends has left its groups, and watches none. */
START_TEST (ended)
{
    start_all (2);
    peer_up (0, 1);
    for (int g = 0; g < GROUPS; g++) {
        join (0, group_name[g]);
        watch (0, group_name[g], true);
    }
    watch (1, "gb", true);
    drop_queue (0, 1);
    events[0] = 0;
    end_actor (0, 0);
    expect_events ("1:0>0-gb ");
    for (int g = GROUPS; g-- > 0;)
        expect_notice (CTKI_LEFT, 0, group_name[g]);
    expect_no_notice ();
    ck_assert_uint_eq (nodes[0].hall.groups.count, 1);
    end_actor (0, 1);
    ck_assert_uint_eq (nodes[0].hall.groups.count, 0);
    end_all ();
}
END_TEST

/* Many groups, several of one hash: all are found, and all go together. */
START_TEST (many)
{
    char name[16];
    start_all (2);
    peer_up (0, 1);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf (name, sizeof name, "%cgroup%u", i % 3 ? 'm' : 'x', i);
        ck_assert_int_eq (hear_about (0, 1, CTKI_JOINED, i, name), 0);
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf (name, sizeof name, "%cgroup%u", i % 3 ? 'm' : 'x', i);
        ck_assert_int_eq (ctki_hall_members (&nodes[0].hall, name, NULL, 0), 1);
    }
    peer_gone (0, 1, CTALK_WHY_REMOVED);
    ck_assert_uint_eq (nodes[0].hall.groups.count, 0);
    end_all ();
}
END_TEST

/* What a peer cannot mean is ignored. */
START_TEST (unsound)
{
    const ctki_notice_t bad[] = {{.op = CTKI_JOINED, .a = id_of (0), .text = "g\0a", .text_size = 3},
                                 {.op = CTKI_JOINED, .a = id_of (0), .text = "", .text_size = 0},
                                 {.op = CTKI_JOINED, .a = CTKI_SYSTEM, .text = "ga", .text_size = 2},
                                 {.op = CTKI_JOINED, .a = CTKI_ID_CALL | 1, .text = "ga", .text_size = 2},
                                 {.op = CTKI_LEFT, .a = 0, .text = "ga", .text_size = 2},
                                 {.op = CTKI_TOLD_ALL}};
    start_all (2);
    join (0, "gb");
    peer_up (0, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq (hear (0, 1, &bad[i]), 0);
    ck_assert_int_eq (hear_about (0, 0, CTKI_LEFT, 0, "gb"), 0); /* of oneself */
    ck_assert_str_eq (members ("gb"), "0>0 ");
    ck_assert_uint_eq (nodes[0].hall.groups.count, 1);
    end_all ();
}
END_TEST

/* A call that finds no memory, wherever it is missing, has changed nothing. */
START_TEST (refused)
{
    start_all (2);
    for (long after = 0, rc = ENOMEM; rc; after++) {
        ctki_mem_fail (after, -1);
        rc = join (0, "ga");
        ctki_mem_fail (-1, 0);
        ck_assert (rc == (after < 3 ? ENOMEM : 0)); /* the group; the map, which stays; the members; the member */
        ck_assert_uint_eq (nodes[0].hall.groups.count, rc == 0);
    }
    join (1, "ga");
    for (long after = 0, rc = ENOMEM; rc; after++) {
        ctki_mem_fail (after, -1);
        rc = watch (2, "ga", true);
        ctki_mem_fail (-1, 0);
        ck_assert (rc == (after < 3 ? ENOMEM : 0)); /* the watch, two events */
        expect_events (rc ? "" : "2:0>0+ga 2:0>1+ga ");
    }
    ctki_mem_fail (0, -1);
    ck_assert_int_eq (watch (2, "gc", true), ENOMEM);
    ck_assert_int_eq (peer_up (0, 1), -1);
    ck_assert_int_eq (hear_about (0, 1, CTKI_JOINED, 0, "gb"), -1);
    ctki_mem_fail (-1, 0);
    ck_assert_uint_eq (nodes[0].hall.groups.count, 1);
    ck_assert (!nodes[0].hall.groups_due);
    end_all ();
}
END_TEST

/* Events that find no memory come later, to all who watch, in order; a member that came back meanwhile is not told of. */
START_TEST (told_later)
{
    start_all (1);
    join (2, "ga");
    watch (0, "ga", true);
    watch (1, "ga", true);
    events[0] = 0;
    ctki_mem_fail (1, -1); /* the second one's */
    leave (2, "ga");
    ctki_mem_fail (-1, 0);
    expect_events ("");
    ck_assert (nodes[0].hall.groups_due && nodes[0].looks);
    ck_assert_str_eq (members ("ga"), "");
    retry (0);
    expect_events ("1:0>2-ga 0:0>2-ga ");
    ck_assert (!nodes[0].hall.groups_due);

    join (2, "ga");
    join (0, "ga");
    events[0] = 0;
    ctki_mem_fail (0, -1);
    leave (2, "ga");
    leave (0, "ga");
    ctki_mem_fail (-1, 0);
    watch (2, "ga", true); /* as the others know it, then what they are told */
    expect_events ("2:0>0+ga 2:0>2+ga ");
    ctki_mem_fail (1, -1); /* a place for the member is there */
    ck_assert_int_eq (join (2, "ga"), 0);
    ctki_mem_fail (-1, 0);
    retry (0);
    expect_events ("2:0>0-ga 1:0>0-ga 0:0>0-ga ");
    ck_assert_str_eq (members ("ga"), "0>2 ");
    end_all ();
}
END_TEST

/* A peer that cannot be told something is told all again, and nothing else before. */
START_TEST (told_again)
{
    start_all (2);
    peer_up (0, 1);
    join (0, "ga");
    drop_queue (0, 1);
    ctki_mem_fail (0, -1);
    leave (0, "ga");
    ctki_mem_fail (-1, 0);
    ck_assert (nodes[0].hall.groups_due && nodes[0].looks);
    join (1, "gb");
    expect_no_notice ();
    ctki_mem_fail (1, -1);
    retry (0);
    ctki_mem_fail (-1, 0);
    expect_notice (CTKI_TELL_ALL, 0, "");
    expect_no_notice ();
    retry (0);
    expect_notice (CTKI_TELL_ALL, 0, "");
    expect_notice (CTKI_JOINED, 1, "gb");
    expect_notice (CTKI_TOLD_ALL, 0, "");
    join (0, "ga");
    expect_notice (CTKI_JOINED, 0, "ga");
    ck_assert (!nodes[0].hall.groups_due);
    end_all ();
}
END_TEST

/* ---- halls by a model */

static bool is_there (const node_t *node, unsigned n, unsigned peer, unsigned actor, unsigned group)
{
    return node->known[peer][actor][group] && (n == peer || node->up[peer]);
}

static void check_group (unsigned n, unsigned group)
{
    ctalk_address_t list[HALLS * ACTORS];
    int count = ctki_hall_members (&nodes[n].hall, group_name[group], list, HALLS * ACTORS), place = 0;
    for (unsigned peer = 0; peer < halls; peer++) {
        for (unsigned actor = 0; actor < ACTORS; actor++) {
            if (!is_there (&nodes[n], n, peer, actor, group))
                continue;
            HOLDS (place < count && list[place].pid == (ctalk_pid_t) peer && list[place].actor == id_of (actor));
            place++;
        }
    }
    HOLDS (place == count);
}

/* What an actor was told adds up to what is so, unless more is due. */
static void check_watch (unsigned n, unsigned watcher, unsigned group)
{
    const node_t *node = &nodes[n];
    for (unsigned peer = 0; peer < halls; peer++) {
        for (unsigned actor = 0; actor < ACTORS; actor++)
            HOLDS (node->shown[watcher][peer][actor][group] == is_there (node, n, peer, actor, group));
    }
}

static void check_node (unsigned n)
{
    for (unsigned group = 0; group < GROUPS; group++) {
        check_group (n, group);
        for (unsigned actor = 0; actor < ACTORS; actor++) {
            if (nodes[n].watches[actor][group] && !nodes[n].hall.groups_due)
                check_watch (n, actor, group);
        }
    }
    HOLDS (!nodes[n].hall.groups_due || nodes[n].looks);
    HOLDS (letters == 0);
}

static void forget_shown (node_t *node, unsigned watcher, unsigned group)
{
    for (unsigned peer = 0; peer < HALLS; peer++) {
        for (unsigned actor = 0; actor < ACTORS; actor++)
            node->shown[watcher][peer][actor][group] = false;
    }
}

static void step_join (unsigned n)
{
    unsigned actor = draw (ACTORS), group = draw (GROUPS);
    bool *known = &nodes[n].known[n][actor][group];
    int rc = ctki_hall_join_group (&nodes[n].actor[actor], group_name[group]);
    HOLDS (rc == (*known ? EEXIST : 0) || (rc == ENOMEM && !*known));
    *known |= rc == 0;
}

static void step_leave (unsigned n)
{
    unsigned actor = draw (ACTORS), group = draw (GROUPS);
    bool *known = &nodes[n].known[n][actor][group];
    HOLDS (ctki_hall_leave_group (&nodes[n].actor[actor], group_name[group]) == (*known ? 0 : ESRCH));
    *known = false;
}

static void step_watch (unsigned n)
{
    unsigned actor = draw (ACTORS), group = draw (GROUPS);
    bool *watches = &nodes[n].watches[actor][group], before = *watches, on = draw (2);
    *watches |= on; /* events come within the call */
    int rc = ctki_hall_watch_group (&nodes[n].actor[actor], group_name[group], on);
    HOLDS (rc == 0 || (rc == ENOMEM && on && !before));
    *watches = on && rc == 0;
    if (!*watches)
        forget_shown (&nodes[n], actor, group);
}

static void end_modelled (unsigned n, unsigned actor)
{
    for (unsigned group = 0; group < GROUPS; group++) {
        nodes[n].watches[actor][group] = false;
        nodes[n].known[n][actor][group] = false;
        forget_shown (&nodes[n], actor, group);
    }
    end_actor (n, actor);
    HOLDS (!nodes[n].actor[actor].memberships && !nodes[n].actor[actor].group_watches);
}

static void step_end_actor (unsigned n)
{
    end_modelled (n, draw (ACTORS));
}

static unsigned draw_peer (unsigned n)
{
    return (n + 1 + draw (halls - 1)) % halls;
}

static void gone (unsigned n, unsigned peer, uint32_t why)
{
    nodes[n].up[peer] = false;
    if (why != CTALK_WHY_DOWN) {
        memset (nodes[n].known[peer], 0, sizeof nodes[n].known[peer]);
        memset (nodes[n].stale[peer], 0, sizeof nodes[n].stale[peer]);
    }
    peer_gone (n, peer, why);
}

/* That a peer is another process comes before anything of that one. */
static void notice_restart (unsigned n, unsigned peer)
{
    if (restarted[peer][n])
        gone (n, peer, CTALK_WHY_RESTARTED);
    restarted[peer][n] = false;
}

static void up (unsigned n, unsigned peer)
{
    notice_restart (n, peer);
    if (!nodes[n].up[peer] && peer_up (n, peer) == 0)
        nodes[n].up[peer] = true;
}

/* All members on a peer are marked as stale; or, at the end, those that still are so are forgotten. */
static void model_all (node_t *node, unsigned peer, bool end)
{
    for (unsigned actor = 0; actor < ACTORS; actor++) {
        for (unsigned group = 0; group < GROUPS; group++) {
            bool *known = &node->known[peer][actor][group], *stale = &node->stale[peer][actor][group];
            *known = *known && !(end && *stale);
            *stale = *known && !end;
        }
    }
}

static void model_heard (node_t *node, unsigned peer, const ctki_notice_t *notice)
{
    if (notice->op == CTKI_TELL_ALL || notice->op == CTKI_TOLD_ALL) {
        model_all (node, peer, notice->op == CTKI_TOLD_ALL);
        return;
    }
    unsigned actor = actor_of (notice->a), group = group_of (notice->text, notice->text_size);
    node->known[peer][actor][group] = notice->op == CTKI_JOINED;
    node->stale[peer][actor][group] = false;
}

static void deliver (unsigned from, unsigned to)
{
    queue_t *queue = &queues[from][to];
    if (!queue->head)
        return;
    notice_restart (to, from);
    if (hear (to, from, &queue->head->notice)) {
        HOLDS (queue->head->notice.op == CTKI_JOINED);
        return; /* no memory: it is heard again */
    }
    model_heard (&nodes[to], from, &queue->head->notice);
    drop_first (queue);
}

static void step_deliver (unsigned n)
{
    unsigned from = draw_peer (n), count = draw (12);
    while (count--)
        deliver (from, n);
}

static void step_down (unsigned n)
{
    unsigned peer = draw_peer (n);
    if (nodes[n].up[peer])
        gone (n, peer, CTALK_WHY_DOWN);
}

static void step_up (unsigned n)
{
    up (n, draw_peer (n));
}

/* A new process: what was on its way to the former one is lost up to somewhere, and goes to it from there. */
static void step_restart (unsigned n)
{
    ctki_groups_fini (&nodes[n].hall);
    start (n);
    for (unsigned peer = 0; peer < halls; peer++) {
        if (peer == n)
            continue;
        drop_queue (n, peer);
        while (queues[peer][n].head && draw (4))
            drop_first (&queues[peer][n]);
        restarted[n][peer] = true;
        restarted[peer][n] = false;
    }
}

/* A server removes a peer, which may see no more than that it is not heard. */
static void step_remove (unsigned n)
{
    unsigned peer = draw_peer (n);
    notice_restart (n, peer);
    notice_restart (peer, n);
    gone (n, peer, draw (2) ? CTALK_WHY_REMOVED : CTALK_WHY_CLOSING);
    gone (peer, n, draw (2) ? CTALK_WHY_REMOVED : CTALK_WHY_DOWN);
    drop_queue (n, peer);
    drop_queue (peer, n);
}

/* What a step does, and how often. */
static const struct {
    void (*step) (unsigned n);
    unsigned weight;
} steps[] = {{step_join, 20}, {step_leave, 10}, {step_watch, 10}, {step_end_actor, 3}, {step_deliver, 30},
             {step_down, 5},  {step_up, 12},    {retry, 8},       {step_restart, 1},   {step_remove, 1}};

static void one_step (bool no_memory)
{
    unsigned n = draw (halls), choice = draw (100), i = 0;
    for (; choice >= steps[i].weight; i++)
        choice -= steps[i].weight;
    if (no_memory && draw (3) == 0)
        ctki_mem_fail (draw (8), draw (3) ? -1 : 1);
    steps[i].step (n);
    ctki_mem_fail (-1, 0);
    for (unsigned k = 0; k < halls; k++)
        check_node (k);
}

static void deliver_all (void)
{
    for (unsigned from = 0; from < halls; from++) {
        for (unsigned to = 0; to < halls; to++) {
            while (queues[from][to].head)
                deliver (from, to);
        }
    }
}

static void heal (void)
{
    for (unsigned n = 0; n < halls; n++) {
        for (unsigned peer = 0; peer < halls; peer++) {
            if (peer != n)
                up (n, peer);
        }
        retry (n);
        HOLDS (!nodes[n].hall.groups_due);
    }
    deliver_all ();
}

/* Every hall knows of another what that one knows of itself. */
static void check_agreement (void)
{
    for (unsigned n = 0; n < halls; n++) {
        check_node (n);
        for (unsigned peer = 0; peer < halls; peer++) {
            HOLDS (peer == n || nodes[n].up[peer]);
            HOLDS (memcmp (nodes[n].known[peer], nodes[peer].known[peer], sizeof nodes[n].known[peer]) == 0);
        }
    }
}

/* When all actors have ended nothing is left anywhere. */
static void check_end (void)
{
    for (unsigned n = 0; n < halls; n++) {
        for (unsigned actor = 0; actor < ACTORS; actor++)
            end_modelled (n, actor);
    }
    deliver_all ();
    for (unsigned n = 0; n < halls; n++)
        HOLDS (nodes[n].hall.groups.count == 0);
}

static void one_world (bool no_memory)
{
    random_state = seed * 2 + no_memory;
    by_model = true;
    memset (restarted, 0, sizeof restarted);
    start_all (3 + draw (HALLS - 2));
    for (int i = 0; i < STEPS; i++)
        one_step (no_memory);
    heal ();
    check_agreement ();
    check_end ();
    end_all ();
}

/* Loop test: halls agree whatever came, with memory enough, and with too little. */
START_TEST (worlds)
{
    const char *one = getenv ("CTALK_TEST_SEED");
    if (one) {
        seed = strtoull (one, NULL, 0);
        one_world (_i);
        return;
    }
    for (seed = 1; seed <= ctki_test_count (SEEDS); seed++)
        one_world (_i);
}
END_TEST

Suite *ctki_suite_groups (void)
{
    Suite *suite = suite_create ("groups");
    TCase *tcase = tcase_create ("groups");

    tcase_set_timeout (tcase, 0);
    tcase_add_test (tcase, errors);
    tcase_add_test (tcase, listed);
    tcase_add_test (tcase, watched);
    tcase_add_test (tcase, told);
    tcase_add_test (tcase, partition);
    tcase_add_loop_test (tcase, forgotten, 0, 2);
    tcase_add_test (tcase, ended);
    tcase_add_test (tcase, many);
    tcase_add_test (tcase, unsound);
    tcase_add_test (tcase, refused);
    tcase_add_test (tcase, told_later);
    tcase_add_test (tcase, told_again);
    tcase_add_loop_test (tcase, worlds, 0, 2);
    suite_add_tcase (suite, tcase);
    return suite;
}
