/*
 * wordcount_words.h - a table of words and how often each occurs. Starts zeroed.
 * Where a call returns -1 and says nothing else, errno is ENOMEM.
 */
#ifndef EXAMPLES_WORDCOUNT_WORDS_H
#define EXAMPLES_WORDCOUNT_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *text; /* NULL: a free place */
    uint64_t count;
} word_t;

typedef struct {
    word_t *words;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
    uint64_t total;
} words_t;

/* Letters, and all bytes that are not ASCII: words in UTF-8 stay whole. */
bool words_is_letter (char c);

/* Adds the words of a text, in small letters. */
int words_count (words_t *words, const char *text, size_t size);

/* The table as lines "COUNT WORD\n", in memory that the caller frees; NULL: no
 * memory. And back, added to what is there; -1: EINVAL: they are no such lines. */
char *words_print (const words_t *words, size_t *size);
int words_read (words_t *words, const char *lines, size_t size);

bool words_equal (const words_t *a, const words_t *b);

/* Prints the most frequent ones. */
int words_print_most (const words_t *words);

void words_fini (words_t *words);

#endif
