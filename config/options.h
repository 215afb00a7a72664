/*
 * options.h - the one table of the options: name, unit, range, default, and
 * where each stands in a ctki_options_t. Pure: no memory of its own, and it
 * knows nothing of JSON.
 */
#ifndef CTKI_OPTIONS_H
#define CTKI_OPTIONS_H

#include "config/config.h"

enum {
    CTKI_OPTION_COUNT = 14,
    CTKI_OPTION_TEXT_BYTES = 24, /* the longest value in text, its end included */
    CTKI_OPTION_WHY_BYTES = 112  /* the longest reason, its end included */
};

typedef enum {
    CTKI_OPTION_NUMBER, /* a whole number from min to max */
    CTKI_OPTION_WORD,   /* one of two words */
    CTKI_OPTION_SWITCH  /* "on" or "off"; in JSON also true or false */
} ctki_option_kind_t;

/* Two options of which the first must stay below the second. */
typedef struct {
    int low, high;
} ctki_option_pair_t;

enum { CTKI_OPTION_PAIRS = 2 };
extern const ctki_option_pair_t ctki_option_pairs[CTKI_OPTION_PAIRS];

/* Every option at its default. */
void ctki_options_default (ctki_options_t *options);

/* The index of an option in the table, -1: no such option. */
int ctki_option_find (const char *name, size_t size);

const char *ctki_option_name (int option);
ctki_option_kind_t ctki_option_kind (int option);

/* Sets an option from its value in text. When that is not a value of this
 * option it returns false, changes nothing and says why and what is allowed. */
bool ctki_option_set (ctki_options_t *options, int option, const char *text, size_t size,
                      char why[CTKI_OPTION_WHY_BYTES]);

/* What the value must be, as ctki_option_set () says it. */
void ctki_option_explain (int option, char why[CTKI_OPTION_WHY_BYTES]);

/* The value in text; returns text. */
const char *ctki_option_text (const ctki_options_t *options, int option, char text[CTKI_OPTION_TEXT_BYTES]);

/* Whether the pair is in order; if not, why says so. */
bool ctki_options_ordered (const ctki_options_t *options, ctki_option_pair_t pair, char why[CTKI_OPTION_WHY_BYTES]);

#endif
