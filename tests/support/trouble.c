/*
 * trouble.c - the first thing that went wrong in a thread or a worker process.
 */
#include "tests/support/trouble.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

bool ctki_trouble_note (ctki_trouble_t *trouble, const char *file, int line, const char *format, ...)
{
    int code = errno;
    if (trouble->text[0])
        return false;
    char what[220];
    va_list list;
    va_start (list, format);
    (void) vsnprintf (what, sizeof what, format, list);
    va_end (list);
    (void) snprintf (trouble->text, sizeof trouble->text, "%.60s:%d: %s (errno %d)", file, line, what, code);
    return false;
}
