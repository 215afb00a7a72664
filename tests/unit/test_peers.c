/*
 * test_peers.c - the map against a model of it, peers and crowds.
 */
#include <check.h>
#include <errno.h>

#include "src/mem.h"
#include "src/peers.h"
#include "tests/support/scale.h"

Suite *ctki_suite_peers (void);

enum { MODEL_KEYS = 300, OPERATIONS = 60000 };

/* ---- the map */

static uint64_t state; /* of the random numbers, the same at each run */

static uint64_t draw (void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Keys as they occur: consecutive pids, wide apart ones, random ones. */
static uint64_t key_of (int kind, size_t index)
{
    uint64_t mixed = (index + 1) * UINT64_C (0xD1B54A32D192ED03);
    return kind == 0 ? index : kind == 1 ? index << 32 : mixed;
}

static char values[MODEL_KEYS * 2];

/* Random puts and removals leave the map as a plain array would be, and its slots reachable, for all kinds of keys. */
START_TEST (map_model)
{
    static void *model[MODEL_KEYS];
    ctki_map_t map = {0};
    size_t count = 0, operations = ctki_test_count (OPERATIONS);
    state = 88172645463325252u;
    memset (model, 0, sizeof model);
    for (size_t i = 0; i < operations; i++) {
        size_t index = draw () % (i / 2000 % 2 ? MODEL_KEYS : 20);
        uint64_t key = key_of (_i, index);
        ck_assert_ptr_eq (ctki_map_get (&map, key), model[index]);
        if (draw () % 100 < (i / 5000 % 2 ? 30 : 70)) {
            void *value = &values[draw () % sizeof values];
            ck_assert_int_eq (ctki_map_put (&map, key, value), 0);
            count += !model[index];
            model[index] = value;
        } else {
            ck_assert_ptr_eq (ctki_map_remove (&map, key), model[index]);
            count -= model[index] != NULL;
            model[index] = NULL;
        }
        ck_assert_uint_eq (map.count, count);
    }
    for (size_t index = 0; index < MODEL_KEYS; index++)
        ck_assert_ptr_eq (ctki_map_get (&map, key_of (_i, index)), model[index]);
    ck_assert_uint_le (map.count, map.capacity * 3 / 4);
    ctki_map_fini (&map);
    ck_assert_ptr_null (ctki_map_get (&map, 1));
}
END_TEST

/* An empty map has nothing and gives nothing back. */
START_TEST (map_empty)
{
    ctki_map_t map = {0};
    ck_assert_ptr_null (ctki_map_get (&map, 0));
    ck_assert_ptr_null (ctki_map_remove (&map, 0));
    ctki_map_fini (&map);
    ctki_map_fini (&map);
}
END_TEST

/* Without memory to grow a put fails with ENOMEM, and all that was there is still there. */
START_TEST (map_no_memory)
{
    ctki_map_t map = {0};
    char value;
    ctki_mem_fail (0, -1);
    ck_assert_int_eq (ctki_map_put (&map, 1, &value), -1);
    ck_assert_int_eq (errno, ENOMEM);
    ctki_mem_fail (-1, 0);
    uint64_t key = 0;
    for (; key < 6; key++)
        ck_assert_int_eq (ctki_map_put (&map, key, &value), 0);
    ctki_mem_fail (0, -1);
    while (ctki_map_put (&map, key, &value) == 0)
        key++;
    ck_assert_int_eq (ctki_map_put (&map, 3, &map), 0); /* it is there: no room is needed */
    ctki_mem_fail (-1, 0);
    ck_assert_uint_eq (map.count, key);
    ck_assert_ptr_null (ctki_map_get (&map, key));
    for (uint64_t i = 0; i < key; i++)
        ck_assert_ptr_eq (ctki_map_get (&map, i), i == 3 ? (void *) &map : &value);
    ctki_map_fini (&map);
}
END_TEST

/* ---- peers and crowds */

/* A peer begins idle with its own copy of the endpoint, and lives as long as somebody holds it. */
START_TEST (peer_life)
{
    char endpoint[] = "tcp://127.0.0.1:1";
    ctki_peer_t *peer = ctki_peer_new (7, endpoint, 1234);
    endpoint[0] = 'x';
    ck_assert_int_eq (peer->pid, 7);
    ck_assert_str_eq (peer->endpoint, "tcp://127.0.0.1:1");
    ck_assert_int_eq (atomic_load (&peer->state), CTALK_STATE_IDLE);
    ck_assert_int_eq (atomic_load (&peer->state_since_us), 1234);
    ck_assert_uint_eq (ctki_peer_queued_bytes (peer), 0);
    ctki_peer_hold (peer);
    ctki_peer_release (peer);
    ck_assert_int_eq (peer->pid, 7);
    ctki_peer_release (peer);
    peer = ctki_peer_new (0, NULL, 0);
    ck_assert_ptr_null (peer->endpoint);
    ctki_peer_release (peer);
    ctki_peer_release (NULL);
}
END_TEST

/* Only down and left peers may be passed over. */
START_TEST (peer_down)
{
    ctki_peer_t *peer = ctki_peer_new (7, NULL, 0);
    for (int i = CTALK_STATE_IDLE; i <= CTALK_STATE_LEFT; i++) {
        atomic_store (&peer->state, i);
        ck_assert_int_eq (ctki_peer_is_down (peer), i == CTALK_STATE_DOWN || i == CTALK_STATE_LEFT);
    }
    ctki_peer_release (peer);
}
END_TEST

/* Without memory there is no peer and no crowd, and nothing is left behind. */
START_TEST (no_memory)
{
    for (long after = 0; after < 2; after++) {
        ctki_mem_fail (after, -1);
        ck_assert_ptr_null (ctki_peer_new (7, "tcp://127.0.0.1:1", 0));
    }
    ctki_mem_fail (0, -1);
    ck_assert_ptr_null (ctki_crowd_new (3));
    ctki_mem_fail (-1, 0);
}
END_TEST

/* A crowd keeps its peers until its last holder lets go. */
START_TEST (crowd)
{
    ctki_peer_t *peer = ctki_peer_new (7, NULL, 0);
    ctki_crowd_t *all = ctki_crowd_new (2), *none = ctki_crowd_new (0);
    ck_assert_uint_eq (all->count, 0);
    ctki_peer_hold (peer);
    all->peer[all->count++] = peer;
    ctki_crowd_hold (all);
    ctki_crowd_release (all);
    ck_assert_uint_eq (atomic_load (&peer->refs), 2);
    ctki_crowd_release (all);
    ck_assert_uint_eq (atomic_load (&peer->refs), 1);
    ctki_peer_release (peer);
    ctki_crowd_release (none);
    ctki_crowd_release (NULL);
}
END_TEST

Suite *ctki_suite_peers (void)
{
    Suite *suite = suite_create ("peers");
    TCase *tcase = tcase_create ("peers");
    tcase_set_timeout (tcase, ctki_test_ms (30000) / 1000.0);
    tcase_add_loop_test (tcase, map_model, 0, 3);
    tcase_add_test (tcase, map_empty);
    tcase_add_test (tcase, map_no_memory);
    tcase_add_test (tcase, peer_life);
    tcase_add_test (tcase, peer_down);
    tcase_add_test (tcase, no_memory);
    tcase_add_test (tcase, crowd);
    suite_add_tcase (suite, tcase);
    return suite;
}
