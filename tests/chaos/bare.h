/*
 * bare.h - the workload of a mesh over bare sockets of libzmq: a ROUTER to
 * receive and a DEALER per peer to send, defaults but for the high-water marks,
 * which are lifted so that nothing is dropped or waits because of them.
 */
#ifndef CTKI_CHAOS_BARE_H
#define CTKI_CHAOS_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/journal.h"
#include "tests/support/trouble.h"

typedef struct ctki_bare ctki_bare_t;

/* Binds a port that the system chooses. NULL after a note of trouble. */
ctki_bare_t *ctki_bare_new (ctalk_pid_t self, size_t servers, uint16_t *port, ctki_trouble_t *trouble);

/* Connects to the others, by pid from 1. */
bool ctki_bare_connect (ctki_bare_t *bare, const uint16_t *ports, ctki_trouble_t *trouble);

/* Sends all streams on a thread and receives until all has come, or nothing for a while. */
bool ctki_bare_run (ctki_bare_t *bare, size_t unicasts, size_t broadcasts, const size_t *sizes, size_t sizes_count,
                    ctki_journal_t *journal, ctki_trouble_t *trouble);

/* Closes it; what is still queued is dropped. */
void ctki_bare_destroy (ctki_bare_t **bare_p);

#endif
