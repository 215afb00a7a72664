/*
 * error.h - filling in a ctalk_error_t. Owns nothing.
 */
#ifndef CTKI_ERROR_H
#define CTKI_ERROR_H

#include <clustertalk.h>

#include "src/base.h"

/* Fills in *error (may be NULL) and sets errno to code; returns -1, so that a
 * caller can return it. A text that is too long ends in "...". */
int ctki_error_set (ctalk_error_t *error, int code, const char *format, ...) CTKI_PRINTF (3, 4);

/* The same with a place in a file; line and column count from 1. */
int ctki_error_at (ctalk_error_t *error, int code, int line, int column, const char *format, ...) CTKI_PRINTF (5, 6);

/* All zero: no error. */
void ctki_error_clear (ctalk_error_t *error);

#endif
