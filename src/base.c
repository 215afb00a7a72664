/*
 * base.c - the end of a program whose invariants do not hold.
 */
#include "src/base.h"

#include <stdio.h>
#include <stdlib.h>

void ctki_assert_failed (const char *what, const char *file, int line)
{
    fprintf (stderr, "clustertalk: internal error: %s (%s:%d)\n", what, file, line);
    abort ();
}
