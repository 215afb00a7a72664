/*
 * memory.c - VmRSS and VmHWM of /proc/self/status; writing 5 to
 * /proc/self/clear_refs sets the latter back to the former.
 */
#include "tests/support/memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ctki_memory_reset_peak (void)
{
    (void) malloc_trim (0);
    FILE *file = fopen ("/proc/self/clear_refs", "we");
    if (!file)
        return;
    (void) fputs ("5", file);
    (void) fclose (file);
}

static uint64_t field (const char *name)
{
    char line[256];
    uint64_t kib = 0;
    FILE *file = fopen ("/proc/self/status", "re");
    if (!file)
        return 0;
    while (kib == 0 && fgets (line, sizeof line, file))
        if (strncmp (line, name, strlen (name)) == 0)
            kib = strtoull (line + strlen (name), NULL, 10);
    (void) fclose (file);
    return kib * 1024;
}

uint64_t ctki_memory_now (void)
{
    return field ("VmRSS:");
}

uint64_t ctki_memory_peak (void)
{
    return field ("VmHWM:");
}

uint64_t ctki_memory_grown (uint64_t before)
{
    uint64_t peak = ctki_memory_peak ();
    return peak > before ? peak - before : 0;
}
