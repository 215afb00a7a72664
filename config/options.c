/*
 * options.c - the one table of the options, and the three things done with it:
 * find, set from text, give as text. Owns nothing. A value out of range gets a
 * reason that names the range; the struct is then as it was.
 */
#include "config/options.h"

#include <inttypes.h>
#include <stdio.h>

#define KIB UINT64_C (1024)
#define MIB (KIB * 1024)
#define TIB (MIB * 1024 * 1024)
#define DAY_MS UINT64_C (86400000)

typedef struct {
    const char *name;
    const char *unit;
    ctki_option_kind_t kind;
    size_t offset; /* in ctki_options_t: a uint64_t for a number */
    uint64_t standard, min, max;
    const char *words[2]; /* the text of 0 and 1, where it is not a number */
} option_t;

enum {
    QUEUE_BYTES,
    WINDOW_BYTES,
    WINDOW_FRAMES,
    FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    HEARTBEAT_MS,
    SUSPECT_MS,
    DOWN_MS,
    SENDERS,
    ON_RESTART,
    SPIN_MICROS,
    HELP,
    IO_THREADS,
    MAILBOX_BYTES
};

#define AT(field) offsetof (ctki_options_t, field)
#define NUMBER(name, unit, field, standard, min, max)                                                                  \
    {                                                                                                                  \
        name, unit, CTKI_OPTION_NUMBER, AT (field), standard, min, max,                                                \
        {                                                                                                              \
            NULL, NULL                                                                                                 \
        }                                                                                                              \
    }
#define CHOICE(name, kind, field, standard, zero, one)                                                                 \
    {                                                                                                                  \
        name, "", kind, AT (field), standard, 0, 1,                                                                    \
        {                                                                                                              \
            zero, one                                                                                                  \
        }                                                                                                              \
    }

static const option_t table[CTKI_OPTION_COUNT] = {
    [QUEUE_BYTES] = NUMBER ("QueueBytes", " bytes", queue_bytes, 8 * MIB, 64 * KIB, TIB),
    [WINDOW_BYTES] = NUMBER ("WindowBytes", " bytes", window_bytes, 4 * MIB, 128 * KIB, TIB),
    [WINDOW_FRAMES] = NUMBER ("WindowFrames", " frames", window_frames, 1024, 8, 65536),
    [FRAME_BYTES] = NUMBER ("FrameBytes", " bytes", frame_bytes, 64 * KIB, 8 * KIB, 64 * KIB),
    [MAX_MESSAGE_BYTES] = NUMBER ("MaxMessageBytes", " bytes", max_message_bytes, 64 * MIB, 1, TIB),
    [HEARTBEAT_MS] = NUMBER ("HeartbeatMs", " milliseconds", heartbeat_ms, 500, 1, DAY_MS),
    [SUSPECT_MS] = NUMBER ("SuspectMs", " milliseconds", suspect_ms, 1500, 1, DAY_MS),
    [DOWN_MS] = NUMBER ("DownMs", " milliseconds", down_ms, 5000, 1, DAY_MS),
    [SENDERS] = CHOICE ("Senders", CTKI_OPTION_WORD, lazy, 0, "eager", "lazy"),
    [ON_RESTART] = CHOICE ("OnRestart", CTKI_OPTION_WORD, on_restart, 0, "report", "resend"),
    [SPIN_MICROS] = NUMBER ("SpinMicros", " microseconds", spin_micros, 0, 0, 1000000),
    [HELP] = CHOICE ("Help", CTKI_OPTION_SWITCH, help, 1, "off", "on"),
    [IO_THREADS] = NUMBER ("IoThreads", " threads", io_threads, 2, 1, 64),
    [MAILBOX_BYTES] = NUMBER ("MailboxBytes", " bytes", mailbox_bytes, MIB, 64 * KIB, TIB),
};

const ctki_option_pair_t ctki_option_pairs[CTKI_OPTION_PAIRS] = {{HEARTBEAT_MS, SUSPECT_MS}, {SUSPECT_MS, DOWN_MS}};

/* A full frame, its envelopes' charge and headers included, always fits into
 * the smallest window: no check of FrameBytes against WindowBytes is needed. */
_Static_assert(128 * 1024 >= 64 * 1024 + CTKI_FRAME_SLACK_BYTES + CTKI_CHARGE_BYTES, "a frame fits into a window");

static const option_t *option_at (int option)
{
    CTKI_ASSERT (option >= 0 && option < CTKI_OPTION_COUNT);
    return &table[option];
}

static void store (ctki_options_t *options, int option, uint64_t value)
{
    switch (option) {
    case SENDERS:
        options->lazy = value != 0;
        break;
    case ON_RESTART:
        options->on_restart = value != 0 ? CTKI_RESEND : CTKI_REPORT;
        break;
    case HELP:
        options->help = value != 0;
        break;
    default:
        memcpy ((char *) options + table[option].offset, &value, sizeof value);
    }
}

static uint64_t load (const ctki_options_t *options, int option)
{
    uint64_t value;

    switch (option) {
    case SENDERS:
        return options->lazy;
    case ON_RESTART:
        return options->on_restart == CTKI_RESEND;
    case HELP:
        return options->help;
    default:
        memcpy (&value, (const char *) options + table[option].offset, sizeof value);
        return value;
    }
}

void ctki_options_default (ctki_options_t *options)
{
    memset (options, 0, sizeof *options);
    for (int i = 0; i < CTKI_OPTION_COUNT; i++)
        store (options, i, table[i].standard);
}

int ctki_option_find (const char *name, size_t size)
{
    for (int i = 0; i < CTKI_OPTION_COUNT; i++)
        if (strlen (table[i].name) == size && memcmp (table[i].name, name, size) == 0)
            return i;
    return -1;
}

const char *ctki_option_name (int option)
{
    return option_at (option)->name;
}

ctki_option_kind_t ctki_option_kind (int option)
{
    return option_at (option)->kind;
}

void ctki_option_explain (int option, char why[CTKI_OPTION_WHY_BYTES])
{
    const option_t *o = option_at (option);

    if (o->kind == CTKI_OPTION_NUMBER)
        snprintf (why, CTKI_OPTION_WHY_BYTES, "must be a whole number from %" PRIu64 " to %" PRIu64 "%s", o->min,
                  o->max, o->unit);
    else
        snprintf (why, CTKI_OPTION_WHY_BYTES, "must be \"%s\" or \"%s\"%s", o->words[0], o->words[1],
                  o->kind == CTKI_OPTION_SWITCH ? " (or true, false)" : "");
}

/* Decimal digits alone, without a leading 0; false also when it overflows. */
static bool parse_number (const char *text, size_t size, uint64_t *value)
{
    if (size == 0 || (size > 1 && text[0] == '0'))
        return false;
    *value = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t) text[i] - '0';
        if (text[i] < '0' || text[i] > '9' || *value > (UINT64_MAX - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    return true;
}

static bool is_word (const char *word, const char *text, size_t size)
{
    return strlen (word) == size && memcmp (word, text, size) == 0;
}

static bool parse_word (const option_t *o, const char *text, size_t size, uint64_t *value)
{
    static const char *const truth[2] = {"false", "true"};

    for (unsigned i = 0; i < 2; i++)
        if (is_word (o->words[i], text, size) || (o->kind == CTKI_OPTION_SWITCH && is_word (truth[i], text, size))) {
            *value = i;
            return true;
        }
    return false;
}

bool ctki_option_set (ctki_options_t *options, int option, const char *text, size_t size,
                      char why[CTKI_OPTION_WHY_BYTES])
{
    const option_t *o = option_at (option);
    uint64_t value = 0;
    bool good = o->kind == CTKI_OPTION_NUMBER ? parse_number (text, size, &value) : parse_word (o, text, size, &value);

    if (!good || value < o->min || value > o->max) {
        ctki_option_explain (option, why);
        return false;
    }
    store (options, option, value);
    return true;
}

const char *ctki_option_text (const ctki_options_t *options, int option, char text[CTKI_OPTION_TEXT_BYTES])
{
    const option_t *o = option_at (option);
    uint64_t value = load (options, option);

    if (o->kind == CTKI_OPTION_NUMBER)
        snprintf (text, CTKI_OPTION_TEXT_BYTES, "%" PRIu64, value);
    else
        snprintf (text, CTKI_OPTION_TEXT_BYTES, "%s", o->words[value != 0]);
    return text;
}

bool ctki_options_ordered (const ctki_options_t *options, ctki_option_pair_t pair, char why[CTKI_OPTION_WHY_BYTES])
{
    uint64_t low = load (options, pair.low), high = load (options, pair.high);

    if (low < high)
        return true;
    snprintf (why, CTKI_OPTION_WHY_BYTES, "%s (%" PRIu64 ") must be less than %s (%" PRIu64 "), set or by default",
              table[pair.low].name, low, table[pair.high].name, high);
    return false;
}
