/*
 * session_out.h - what the three files of the sending half share, and nobody
 * else: session_out.c is the protocol, session_ring.c the frames, session_fate.c
 * what becomes of envelopes when a session is over.
 */
#ifndef CTKI_SESSION_OUT_H
#define CTKI_SESSION_OUT_H

#include "src/session.h"

/* ---- session_ring.c */

/* The frame with this number, one of una ... next - 1. */
static inline ctki_sent_t *ctki_ring_at (const ctki_out_t *out, uint64_t seq)
{
    return &out->ring[seq & (out->ring_capacity - 1)];
}

/* Cuts the next frame if there is an item and credit for it. */
bool ctki_ring_cut (ctki_out_t *out);

/* How much of a run fits into `limit` bytes and the credit, in whole records
 * from `offset` on: their charge and count are added to sent. */
size_t ctki_ring_cut_run (const ctki_item_t *item, size_t offset, size_t limit, uint64_t credit, ctki_sent_t *sent);

/* The item being cut leaves the queue. */
void ctki_ring_next_item (ctki_out_t *out);

/* All below n was received, and so many envelopes were consumed. False: no
 * memory to keep in mind what was received: as if nothing had been said. */
bool ctki_ring_acknowledge (ctki_out_t *out, int64_t now_us, uint64_t n, uint64_t consumed);

/* Back to the first frame that was not received. */
void ctki_ring_rewind (ctki_out_t *out);

/* ---- session_fate.c */

/* Makes room in the log for what frames below n bring; false: no memory. */
bool ctki_fate_reserve (ctki_out_t *out, uint64_t n, uint64_t consumed);

/* A frame was received: its envelopes, if they were not consumed already. */
void ctki_fate_received (ctki_out_t *out, const ctki_sent_t *sent);

/* So many envelopes were consumed. */
void ctki_fate_consumed (ctki_out_t *out, uint64_t consumed);

/* The receiver is another incarnation, this one: what libzmq had is in doubt, the rest
 * goes to the new one; numbers begin anew. False: no memory, nothing changed. */
bool ctki_fate_restart (ctki_out_t *out, uint64_t inc);

#endif
