/*
 * error.c - filling in a ctalk_error_t: one line of text, always terminated,
 * that ends in "..." where it did not fit. Owns nothing and allocates nothing,
 * so that "no memory" can be reported too.
 */
#include "src/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* Ends a text that was cut at its last byte in "...", without leaving half a
 * UTF-8 sequence before the dots. */
static void mark_cut (char *text, size_t size)
{
    size_t end = size - 1 - strlen ("...");

    while (end > 0 && ((unsigned char) text[end] & 0xc0) == 0x80)
        end--;
    memcpy (text + end, "...", sizeof "...");
}

static int fill (ctalk_error_t *error, int code, int line, int column, const char *format, va_list args)
    CTKI_PRINTF (5, 0);

static int fill (ctalk_error_t *error, int code, int line, int column, const char *format, va_list args)
{
    if (error) {
        error->code = code;
        error->line = line;
        error->column = column;
        int size = vsnprintf (error->text, sizeof error->text, format, args);
        if (size < 0)
            error->text[0] = '\0';
        else if ((size_t) size >= sizeof error->text)
            mark_cut (error->text, sizeof error->text);
    }
    errno = code; /* last: vsnprintf may set it */
    return -1;
}

int ctki_error_set (ctalk_error_t *error, int code, const char *format, ...)
{
    va_list args;

    va_start (args, format);
    int rc = fill (error, code, 0, 0, format, args);
    va_end (args);
    return rc;
}

int ctki_error_at (ctalk_error_t *error, int code, int line, int column, const char *format, ...)
{
    va_list args;

    va_start (args, format);
    int rc = fill (error, code, line, column, format, args);
    va_end (args);
    return rc;
}

void ctki_error_clear (ctalk_error_t *error)
{
    if (error)
        memset (error, 0, sizeof *error);
}
