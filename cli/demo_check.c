/*
 * demo_check.c - the journal of one receiver in one round: from each sender,
 * every line of the text once, in order, unchanged. It owns a bit per line and
 * sender, with which a line that is missing is told from one that comes twice
 * or late. A line counts as changed when it has other bytes than in the file,
 * came out of order, came the wrong way, or is no line at all.
 */
#include "cli/demo.h"

#include <stdlib.h>
#include <string.h>

/* Who sends to server index in a round. */
static bool is_sender (const demo_plan_t *plan, size_t sender, size_t index, demo_round_t round)
{
    if (round == DEMO_POINT_TO_POINT)
        return sender == 0 && index != 0;
    if (round == DEMO_BROADCAST)
        return sender != index;
    return (sender + 1) % plan->servers == index;
}

int demo_check_init (demo_check_t *check, const demo_plan_t *plan, size_t index, demo_round_t round,
                     demo_counts_t *counts)
{
    *check = (demo_check_t){.plan = plan, .wants_broadcast = round == DEMO_BROADCAST, .counts = counts};
    for (size_t i = 0; i < plan->servers; i++) {
        demo_stream_t *stream = &check->streams[i];
        if (!is_sender (plan, i, index, round))
            continue;
        *stream = (demo_stream_t){.expected = true, .next = 1, .hash = DEMO_HASH_START, .clean = true};
        stream->seen = calloc (plan->text.total / 8 + 1, 1);
        if (!stream->seen)
            return -1;
        check->open++;
    }
    return 0;
}

static demo_stream_t *find_stream (demo_check_t *check, ctalk_pid_t pid)
{
    for (size_t i = 0; i < check->plan->servers; i++) {
        if (check->plan->pids[i] == pid && check->streams[i].expected)
            return &check->streams[i];
    }
    return NULL;
}

static bool is_unchanged (const demo_check_t *check, const ctalk_envelope_t *envelope)
{
    demo_line_t line = demo_text_line (&check->plan->text, (uint64_t) envelope->msg_id);
    bool was_broadcast = (envelope->flags & CTALK_WAS_BROADCAST) != 0;
    return envelope->kind == CTALK_MESSAGE && was_broadcast == check->wants_broadcast && envelope->size == line.size
           && (line.size == 0 || memcmp (envelope->data, line.data, line.size) == 0);
}

/* Notes that a line came. Returns whether it had come before. */
static bool note_seen (demo_stream_t *stream, uint64_t number)
{
    uint8_t bit = (uint8_t) (1u << number % 8);
    uint8_t *byte = &stream->seen[number / 8];
    bool before = (*byte & bit) != 0;
    *byte |= bit;
    stream->distinct += !before;
    return before;
}

static void take_line (demo_check_t *check, demo_stream_t *stream, const ctalk_envelope_t *envelope)
{
    uint64_t number = (uint64_t) envelope->msg_id;
    bool late = number < stream->next;
    stream->hash = demo_hash (stream->hash, envelope->msg_id, envelope->data, envelope->size);
    if (number > stream->next)
        stream->clean = false;
    if (note_seen (stream, number)) {
        check->counts->duplicated++;
        stream->clean = false;
        return;
    }
    if (late || !is_unchanged (check, envelope)) {
        check->counts->changed++;
        stream->clean = false;
    }
    if (!late)
        stream->next = number + 1;
    if (number == check->plan->text.total)
        check->open--;
}

void demo_check_take (demo_check_t *check, const ctalk_envelope_t *envelope)
{
    demo_stream_t *stream = find_stream (check, envelope->pid);
    check->counts->received++;
    if (!stream || envelope->msg_id < 1 || (uint64_t) envelope->msg_id > check->plan->text.total)
        check->counts->changed++;
    else
        take_line (check, stream, envelope);
}

bool demo_check_ended (const demo_check_t *check)
{
    return check->open == 0;
}

void demo_check_fini (demo_check_t *check)
{
    for (size_t i = 0; i < check->plan->servers; i++) {
        demo_stream_t *stream = &check->streams[i];
        if (stream->expected)
            check->counts->missing += check->plan->text.total - stream->distinct;
        if (stream->expected && stream->clean && stream->distinct == check->plan->text.total
            && stream->hash != check->plan->text.hash)
            check->counts->changed++;
        free (stream->seen);
        stream->seen = NULL;
    }
}
