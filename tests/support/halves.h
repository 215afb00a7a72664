/*
 * halves.h - what the tests of a session's two halves share: their setup, items
 * to send, and the frames of the other side, as a test writes them by hand.
 */
#ifndef CTKI_TEST_HALVES_H
#define CTKI_TEST_HALVES_H

#include "src/session.h"

enum {
    CTKI_HALVES_START_US = 1000000, /* the time at which the tests begin */
    CTKI_HALVES_SELF = 1,           /* the sender */
    CTKI_HALVES_PEER = 2,           /* the receiver */
    CTKI_HALVES_FRAME_BYTES = 1024,
    CTKI_HALVES_MESSAGE_BYTES = 8192,
    CTKI_HALVES_WINDOW_BYTES = 8192,
    CTKI_HALVES_WINDOW_FRAMES = 100,
    CTKI_HALVES_RID = 7 /* the connection of the sender */
};

#define CTKI_HALVES_SID UINT64_C (0x5e5510)
#define CTKI_HALVES_NONCE UINT64_C (0x9099)
#define CTKI_HALVES_INC_OUT UINT64_C (0x111) /* of the sender */
#define CTKI_HALVES_INC_IN UINT64_C (0x222)

ctki_session_setup_t ctki_halves_setup (ctalk_pid_t self, ctalk_pid_t peer, uint64_t inc);

/* Gives a sending half envelopes of so many bytes, with the message ids first,
 * first + 1, ...: as one run, or each in an item of its own. */
void ctki_halves_push (ctki_out_t *out, bool large, unsigned count, size_t size, int64_t first);

/* ---- what a receiver writes */

ctki_frame_t ctki_halves_back (ctki_type_t type, uint64_t sid, uint64_t n);
ctki_frame_t ctki_halves_welcome (uint64_t sid, uint64_t n, bool resumed, uint64_t inc);
ctki_frame_t ctki_halves_ack (uint64_t n, unsigned flags, uint32_t round); /* of CTKI_HALVES_SID */
ctki_frame_t ctki_halves_reason (ctki_type_t type, uint64_t sid, uint32_t reason);

/* ---- what a sender writes, on its first connection */

ctki_frame_t ctki_halves_there (ctki_type_t type, uint64_t sid, uint64_t n);
ctki_frame_t ctki_halves_hello (uint64_t inc, uint64_t prev_sid, uint64_t n);

/* One small envelope; a fragment, its header apart from its payload. They live
 * until the next one is made. */
ctki_frame_t ctki_halves_data (uint64_t sid, uint64_t n);
ctki_frame_t ctki_halves_fragment (uint64_t sid, uint64_t n, unsigned ends, uint32_t len, uint64_t total);

#endif
