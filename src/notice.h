/*
 * notice.h - what the halls of two servers tell each other about their actors.
 * A notice is the payload of an ordinary envelope for the actor CTKI_SYSTEM, so
 * it comes in order with all other envelopes, once. Pure: bytes in, fields out.
 *
 *    0     1         8        16        24
 *   +-----+---------+--------+---------+------ ...
 *   | op  | 7 zeros | a      | b       | text
 *   +-----+---------+--------+---------+------ ...
 *
 * All numbers are big-endian. A notice whose op is not known is ignored: later
 * versions may have more.
 */
#ifndef CTKI_NOTICE_H
#define CTKI_NOTICE_H

#include "src/base.h"

/* The address of the halls themselves; no actor has it. */
#define CTKI_SYSTEM UINT64_C (1)

enum { CTKI_NOTICE_BYTES = 24, CTKI_NAME_BYTES = 255 /* the longest name of an actor or a group */ };

typedef enum {
    CTKI_CREDIT = 1, /* the actor a may be sent a charge of b in all, since its flow began; text: the number of that */
    CTKI_GONE,       /* there is no actor a (any more): its flow is over; 0: all flows are, as their receiver had
                        removed the other server and is back */
    CTKI_NO_ANSWER,  /* nobody will answer the call a */
    CTKI_CALL_OVER,  /* nobody waits for the answer to the call a any more */
    CTKI_MONITOR,    /* tell when the actor b is there no more; a: under this number */
    CTKI_UNMONITOR,  /* do not */
    CTKI_DOWN,       /* what was to be told under the number a; b: why << 32, and the exit reason */
    CTKI_JOINED,     /* the actor a is a member of the group that text names */
    CTKI_LEFT,       /* it is not */
    CTKI_TELL_ALL,   /* all members there are follow, ... */
    CTKI_TOLD_ALL,   /* ... and that was all */
    CTKI_ANEW        /* all that follows for actors are new flows, of the number a */
} ctki_op_t;

typedef struct {
    ctki_op_t op;
    uint64_t a, b;
    const char *text; /* not terminated */
    size_t text_size;
} ctki_notice_t;

/* The number of the flow that a CREDIT is for, as its text; 0: it has none. It says from which envelope on the
 * sender counts: the incarnation of its process, or what ANEW said since. */
enum { CTKI_FLOW_NUMBER_BYTES = 8 };

static inline uint64_t ctki_notice_flow (const ctki_notice_t *notice)
{
    return notice->text_size >= CTKI_FLOW_NUMBER_BYTES ? ctki_get64 ((const uint8_t *) notice->text) : 0;
}

/* Writes a notice; returns its size. The text is at most CTKI_NAME_BYTES long. */
size_t ctki_notice_encode (const ctki_notice_t *notice, uint8_t bytes[CTKI_NOTICE_BYTES + CTKI_NAME_BYTES]);

/* False: these bytes are no notice. The text points into them. */
bool ctki_notice_decode (ctki_notice_t *notice, const uint8_t *bytes, size_t size);

/* How many of these records are notices. */
size_t ctki_notices_count (const uint8_t *records, size_t size);

/* ---- ids
 *
 * 0 and CTKI_SYSTEM are taken. The uppermost bit says that the id is that of a
 * name; else the next two say what it is the id of. */

#define CTKI_ID_NAMED (UINT64_C (1) << 63)
#define CTKI_ID_CALL (UINT64_C (1) << 61)
#define CTKI_ID_TIMER (UINT64_C (2) << 61)
#define CTKI_ID_KIND (UINT64_C (7) << 61)
#define CTKI_ID_NUMBER ((UINT64_C (1) << 61) - 1)

static inline bool ctki_id_is_call (uint64_t id)
{
    return (id & CTKI_ID_KIND) == CTKI_ID_CALL;
}

/* Whether an actor can have it. */
static inline bool ctki_id_is_actor (uint64_t id)
{
    return (id & CTKI_ID_NAMED) || (id > CTKI_SYSTEM && (id & CTKI_ID_KIND) == 0);
}

/* The hash of a name, 64 bits of FNV-1a with its bits mixed (the finalizer of
 * MurmurHash3, so that similar names differ in all places). No secret. */
uint64_t ctki_name_hash (const char *name, size_t size);

/* The length of a name, 0: too long, empty, or none. */
size_t ctki_name_length (const char *name);

#endif
