/*
 * log.h - the log sink behind ctalk_log_set (): silent until one is set.
 * Bytes that came from a peer are printed escaped by whoever logs them.
 */
#ifndef CTKI_LOG_H
#define CTKI_LOG_H

#include <clustertalk.h>

#include "src/base.h"

/* One line to the sink, if there is one that wants this level: a test of an
 * atomic level otherwise. Call it with no lock of a server held. */
void ctki_log (int level, const char *format, ...) CTKI_PRINTF (2, 3);

/* Whether a line of this level would go anywhere. */
bool ctki_log_wants (int level);

#endif
