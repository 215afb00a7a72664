/*
 * wordcount_words.c - a table of words and how often each occurs: a hash table
 * with open addressing, which owns its words. What may go wrong: no memory, or
 * lines of a table that are none.
 */
#include "examples/wordcount_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_FREQUENT = 10, /* words that are printed */
    WORDS_FIRST = 1024  /* places of a table at the beginning */
};

void words_fini (words_t *words)
{
    for (size_t i = 0; i < words->capacity; i++)
        free (words->words[i].text);
    free (words->words);
    *words = (words_t){0};
}

/* The place of a word, or the free one where it belongs. */
static word_t *words_find (const words_t *words, const char *text, size_t size)
{
    uint64_t hash = 14695981039346656037U; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char) text[i]) * 1099511628211U;
    size_t place = (size_t) (hash ^ hash >> 32) & (words->capacity - 1);
    while (words->words[place].text
           && (strncmp (words->words[place].text, text, size) != 0 || words->words[place].text[size]))
        place = (place + 1) & (words->capacity - 1);
    return &words->words[place];
}

static int words_grow (words_t *words)
{
    words_t larger = {.capacity = words->capacity ? words->capacity * 2 : WORDS_FIRST};
    larger.words = calloc (larger.capacity, sizeof *larger.words);
    if (!larger.words)
        return -1;
    for (size_t i = 0; i < words->capacity; i++) {
        const word_t *word = &words->words[i];
        if (word->text)
            *words_find (&larger, word->text, strlen (word->text)) = *word;
    }
    free (words->words);
    words->words = larger.words;
    words->capacity = larger.capacity;
    return 0;
}

/* -1: ENOMEM. */
static int words_add (words_t *words, const char *text, size_t size, uint64_t count)
{
    if (words->used >= words->capacity / 2 && words_grow (words) == -1)
        return -1;
    word_t *word = words_find (words, text, size);
    if (!word->text) {
        word->text = strndup (text, size);
        if (!word->text)
            return -1;
        words->used++;
    }
    word->count += count;
    words->total += count;
    return 0;
}

bool words_is_letter (char c)
{
    return (unsigned char) c >= 0x80 || isalpha ((unsigned char) c);
}

/* Small letters, and blanks for all that is between words. */
static char plain_letter (char c)
{
    if (!words_is_letter (c))
        return ' ';
    return (unsigned char) c < 0x80 ? (char) tolower (c) : c;
}

int words_count (words_t *words, const char *text, size_t size)
{
    char *small = malloc (size + 1);
    int result = small ? 0 : -1;
    for (size_t i = 0; i < size && small; i++)
        small[i] = plain_letter (text[i]);
    for (size_t start = 0, end; start < size && result == 0; start = end + 1) {
        for (end = start; end < size && small[end] != ' '; end++)
            ;
        if (end > start)
            result = words_add (words, small + start, end - start, 1);
    }
    free (small);
    return result;
}

char *words_print (const words_t *words, size_t *size)
{
    char *lines = NULL;
    FILE *stream = open_memstream (&lines, size);
    if (!stream)
        return NULL;
    for (size_t i = 0; i < words->capacity; i++) {
        if (words->words[i].text)
            fprintf (stream, "%llu %s\n", (unsigned long long) words->words[i].count, words->words[i].text);
    }
    bool failed = ferror (stream) != 0;
    if (fclose (stream) == EOF || failed) {
        free (lines);
        return NULL;
    }
    return lines;
}

/* Adds one such line. -1: EINVAL: it is not one; ENOMEM. */
static int words_read_line (words_t *words, const char *line, size_t size)
{
    uint64_t count = 0;
    size_t i = 0;
    for (; i < size && isdigit ((unsigned char) line[i]) && count < UINT32_MAX; i++)
        count = count * 10 + (uint64_t) (line[i] - '0');
    if (count == 0 || i + 1 >= size || line[i] != ' ' || memchr (line + i + 1, '\0', size - i - 1)) {
        errno = EINVAL;
        return -1;
    }
    return words_add (words, line + i + 1, size - i - 1, count);
}

int words_read (words_t *words, const char *lines, size_t size)
{
    const char *end = lines + size;
    while (lines < end) {
        const char *newline = memchr (lines, '\n', (size_t) (end - lines));
        if (!newline) {
            errno = EINVAL;
            return -1;
        }
        if (words_read_line (words, lines, (size_t) (newline - lines)) == -1)
            return -1;
        lines = newline + 1;
    }
    return 0;
}

bool words_equal (const words_t *a, const words_t *b)
{
    if (a->used != b->used || a->total != b->total)
        return false;
    for (size_t i = 0; i < a->capacity; i++) {
        const word_t *word = &a->words[i];
        if (word->text && words_find (b, word->text, strlen (word->text))->count != word->count)
            return false;
    }
    return true;
}

static int compare (const void *a, const void *b)
{
    const word_t *x = a;
    const word_t *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : strcmp (x->text, y->text);
}

int words_print_most (const words_t *words)
{
    word_t *sorted = calloc (words->used + 1, sizeof *sorted);
    size_t count = 0;
    if (!sorted)
        return -1;
    for (size_t i = 0; i < words->capacity; i++) {
        if (words->words[i].text)
            sorted[count++] = words->words[i];
    }
    qsort (sorted, count, sizeof *sorted, compare);
    for (size_t i = 0; i < count && i < MOST_FREQUENT; i++)
        printf ("%8llu %s\n", (unsigned long long) sorted[i].count, sorted[i].text);
    free (sorted);
    return 0;
}
