/*
 * linear.c - whether a history is linearizable. Owns what it needs for one key,
 * for as long as it looks at it.
 */
#include "tests/kvstore/linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A call or a return, in a list by time; a return's call, and the reverse (NULL: never). */
typedef struct event {
    int64_t at;
    size_t op;
    bool is_return;
    struct event *other, *next, *prev;
} event_t;

/* Which operations were done, and what the value was then. */
typedef struct seen {
    struct seen *next;
    uint64_t hash, value;
    uint64_t done[];
} seen_t;

/* An operation that was taken to be done next, and the value before it. */
typedef struct {
    event_t *call;
    uint64_t value;
} step_t;

typedef struct {
    const ctki_op_t *op;
    size_t count, words;
    event_t *event, head;
    size_t left;    /* returns in the list */
    uint64_t *done; /* a bit for each operation */
    uint64_t hash;  /* of that */
    step_t *step;
    size_t steps;
    seen_t **seen;
    size_t seen_count, buckets;
    const ctki_op_t *stuck; /* the operation that had to be done and could not, farthest in the history */
} search_t;

static void *memory (size_t count, size_t size)
{
    void *all = calloc (count ? count : 1, size);
    if (!all)
        abort ();
    return all;
}

/* ---- what an operation does to a value */

/* Whether it can be done now as it was answered; *value becomes what it leaves. */
static bool can_happen (const ctki_op_t *op, uint64_t *value)
{
    bool answered = op->returned != CTKI_NEVER;
    if (op->kind == CTKI_GET)
        return *value == op->value;
    if (op->kind == CTKI_CAS && answered && !op->done)
        return *value == op->seen && *value != op->expected;
    if (op->kind == CTKI_CAS && *value != op->expected)
        return false; /* not answered: it would change nothing */
    *value = op->value;
    return true;
}

/* ---- operations without an answer that need not be looked at
 *
 * A GET, and one that puts a value which nobody saw. For if such a one is in an order that explains the history, the
 * next operation of that key puts another value without looking, or there is none: without it the order explains the
 * history as well. */

static bool sees (const ctki_op_t *op, uint64_t value)
{
    if (op->kind == CTKI_GET)
        return op->value == value;
    if (op->kind == CTKI_PUT)
        return false;
    if (op->returned != CTKI_NEVER && !op->done)
        return op->seen == value;
    return op->expected == value;
}

static bool is_needless (const ctki_op_t *ops, size_t count, size_t i)
{
    if (ops[i].returned != CTKI_NEVER)
        return false;
    for (size_t k = 0; k < count && ops[i].kind != CTKI_GET; k++)
        if (k != i && sees (&ops[k], ops[i].value))
            return false;
    return true;
}

/* Takes them out, and those that become so by that; returns how many are left. */
static size_t reduce (ctki_op_t *ops, size_t count)
{
    size_t before;
    do {
        before = count;
        for (size_t i = 0; i < count;)
            if (is_needless (ops, count, i))
                ops[i] = ops[--count];
            else
                i++;
    } while (count < before);
    return count;
}

/* ---- the list */

/* At the same time, calls come first: then more is allowed. */
static int by_time (const void *a, const void *b)
{
    const event_t *x = *(event_t *const *) a, *y = *(event_t *const *) b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (int) x->is_return - (int) y->is_return;
}

static void link_after (event_t *event, event_t *prev)
{
    event->prev = prev;
    event->next = prev->next;
    prev->next = event;
    if (event->next)
        event->next->prev = event;
}

static void unlink_event (event_t *event)
{
    event->prev->next = event->next;
    if (event->next)
        event->next->prev = event->prev;
}

static void make_list (search_t *search)
{
    event_t **order = memory (2 * search->count, sizeof (event_t *));
    size_t n = 0;
    for (size_t i = 0; i < search->count; i++) {
        event_t *call = &search->event[2 * i], *back = call + 1;
        bool returns = search->op[i].returned != CTKI_NEVER;
        *call = (event_t){.at = search->op[i].called, .op = i, .other = returns ? back : NULL};
        *back = (event_t){.at = search->op[i].returned, .op = i, .is_return = true, .other = call};
        order[n++] = call;
        if (returns)
            order[n++] = back;
        search->left += returns;
    }
    qsort (order, n, sizeof (event_t *), by_time);
    event_t *last = &search->head;
    for (size_t i = 0; i < n; last = order[i++])
        link_after (order[i], last);
    free (order);
}

/* The operation is done: neither its call nor its return is looked at any more. */
static void take_out (search_t *search, event_t *call)
{
    unlink_event (call);
    if (call->other) {
        unlink_event (call->other);
        search->left--;
    }
}

/* In the reverse order of taking out. */
static void put_back (search_t *search, event_t *call)
{
    if (call->other) {
        link_after (call->other, call->other->prev);
        search->left++;
    }
    link_after (call, call->prev);
}

/* ---- what was looked at */

static uint64_t mix (uint64_t number)
{
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

static void flip (search_t *search, size_t op)
{
    search->done[op / 64] ^= (uint64_t) 1 << op % 64;
    search->hash ^= mix (op + 1);
}

static void rehash (search_t *search)
{
    size_t buckets = 2 * search->buckets;
    seen_t **seen = memory (buckets, sizeof (seen_t *));
    for (size_t i = 0; i < search->buckets; i++)
        for (seen_t *at = search->seen[i], *next; at; at = next) {
            next = at->next;
            at->next = seen[at->hash % buckets];
            seen[at->hash % buckets] = at;
        }
    free (search->seen);
    search->seen = seen;
    search->buckets = buckets;
}

/* Whether these operations with this value after them are new; then they are noted. */
static bool note (search_t *search, uint64_t value)
{
    uint64_t hash = search->hash ^ mix (~value);
    size_t bytes = search->words * sizeof (uint64_t);
    for (const seen_t *at = search->seen[hash % search->buckets]; at; at = at->next)
        if (at->hash == hash && at->value == value && !memcmp (at->done, search->done, bytes))
            return false;
    seen_t *seen = memory (1, sizeof *seen + bytes);
    seen->hash = hash;
    seen->value = value;
    memcpy (seen->done, search->done, bytes);
    seen->next = search->seen[hash % search->buckets];
    search->seen[hash % search->buckets] = seen;
    if (++search->seen_count > search->buckets)
        rehash (search);
    return true;
}

/* ---- the search */

/* Whether the operation can be the next; then it is. */
static bool go_on (search_t *search, event_t *call, uint64_t *value)
{
    uint64_t after = *value;
    if (!can_happen (&search->op[call->op], &after))
        return false;
    flip (search, call->op);
    if (!note (search, after)) {
        flip (search, call->op);
        return false;
    }
    search->step[search->steps++] = (step_t){.call = call, .value = *value};
    *value = after;
    take_out (search, call);
    return true;
}

/* Takes the last step back; returns what can be tried instead. */
static event_t *go_back (search_t *search, uint64_t *value)
{
    const step_t *step = &search->step[--search->steps];
    *value = step->value;
    flip (search, step->call->op);
    put_back (search, step->call);
    return step->call->next;
}

static void note_stuck (search_t *search, const event_t *event)
{
    const ctki_op_t *op = &search->op[event->op];
    if (!search->stuck || op->returned > search->stuck->returned)
        search->stuck = op;
}

/* Until nothing that has returned is left. Whoever comes to a return has tried all that could come before it. */
static bool find (search_t *search)
{
    uint64_t value = 0;
    event_t *event = search->head.next;
    while (search->left) {
        if (!event->is_return) {
            event = go_on (search, event, &value) ? search->head.next : event->next;
            continue;
        }
        note_stuck (search, event);
        if (search->steps == 0)
            return false;
        event = go_back (search, &value);
    }
    return true;
}

static void explain (const ctki_op_t *op, char *why, size_t size)
{
    static const char *const names[] = {"get", "put", "cas"};
    if (why && size)
        (void) snprintf (why, size,
                         "key %d: %s of %" PRIu64 " (expected %" PRIu64 ", seen %" PRIu64 ", done %d), %" PRId64
                         " to %" PRId64 ", can be at no place",
                         (int) op->key, names[op->kind], op->value, op->expected, op->seen, op->done, op->called,
                         op->returned);
}

/* The operations of one key. */
static bool check_key (const ctki_op_t *ops, size_t count, char *why, size_t size)
{
    search_t search = {.op = ops, .count = count, .words = (count + 63) / 64, .buckets = 1024};
    search.event = memory (2 * count, sizeof (event_t));
    search.done = memory (search.words, sizeof (uint64_t));
    search.step = memory (count, sizeof (step_t));
    search.seen = memory (search.buckets, sizeof (seen_t *));
    make_list (&search);
    bool ok = find (&search);
    if (!ok)
        explain (search.stuck, why, size);
    for (size_t i = 0; i < search.buckets; i++)
        for (seen_t *at = search.seen[i], *next; at; at = next) {
            next = at->next;
            free (at);
        }
    free (search.seen);
    free (search.step);
    free (search.done);
    free (search.event);
    return ok;
}

static int by_key (const void *a, const void *b)
{
    const ctki_op_t *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->called > y->called) - (x->called < y->called);
}

bool ctki_linearizable (ctki_op_t *ops, size_t count, char *why, size_t size)
{
    qsort (ops, count, sizeof *ops, by_key);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && ops[end].key == ops[first].key; end++)
            ;
        if (!check_key (ops + first, reduce (ops + first, end - first), why, size))
            return false;
    }
    return true;
}
