/*
 * chaos.h - a TCP proxy that fails on purpose: many links, each from a port on
 * 127.0.0.1 to another, and for each link a plan of what goes wrong on it, which
 * its owner changes at any time from any thread. What it draws comes from a seed.
 *
 * It is one thread and uses nothing of the library or of the test framework, so
 * that a bench can have it, too. Errors of the tool itself (no descriptors, no
 * memory) end the process with a line on stderr.
 *
 * Fork worker processes before it is started: they would inherit its sockets,
 * and a connection that it resets would live on in them.
 */
#ifndef CTKI_TEST_CHAOS_H
#define CTKI_TEST_CHAOS_H

#include <stddef.h>
#include <stdint.h>

enum {
    CTKI_CHAOS_LINKS_MAX = 64,
    CTKI_CHAOS_ALL = -1,              /* as a link: all there are */
    CTKI_CHAOS_HOLD_BYTES = 64 * 1024 /* what it keeps of one direction of a connection, at most */
};

/* What new connections find. */
typedef enum {
    CTKI_CHAOS_OPEN,      /* the target */
    CTKI_CHAOS_REFUSE,    /* nobody listens: RST */
    CTKI_CHAOS_BLACKHOLE, /* no answer at all; and existing connections lose all their bytes, both ways */
    CTKI_CHAOS_GARBAGE,   /* 1 to 4,096 random bytes, then the end */
    CTKI_CHAOS_WRONG      /* by turns an SSH and an HTTP server */
} ctki_chaos_door_t;

/* What becomes of the bytes of one direction. */
typedef enum {
    CTKI_CHAOS_PASS,
    CTKI_CHAOS_HOLD,   /* stalled: kept, up to CTKI_CHAOS_HOLD_BYTES, then no more are read; forwarded after it */
    CTKI_CHAOS_DISCARD /* half-open: thrown away. A connection that has lost bytes passes none in that direction any
                          more, whatever the plan says later: a stream with a hole would be another fault */
} ctki_chaos_what_t;

typedef enum { CTKI_CHAOS_RST, CTKI_CHAOS_FIN } ctki_chaos_end_t;

/* A direction. All zero: nothing is wrong. */
typedef struct {
    ctki_chaos_what_t what;
    int delay_ms;              /* of each byte */
    uint64_t bytes_per_s;      /* 0: no limit */
    uint64_t flip_lo, flip_hi; /* one bit is flipped each so many bytes, drawn anew each time; 0: none */
} ctki_chaos_way_t;

/* From the one who connects to the target, and back. */
enum { CTKI_CHAOS_OUT, CTKI_CHAOS_BACK };

/* A link. All zero: nothing is wrong. */
typedef struct {
    ctki_chaos_door_t door;
    ctki_chaos_way_t way[2];
    ctki_chaos_end_t end;    /* how a connection is ended ... */
    uint64_t end_lo, end_hi; /* ... after so many bytes, both ways together, drawn for each; 0: never */
} ctki_chaos_plan_t;

typedef struct {
    uint64_t connections;     /* accepted, garbage and wrong answers among them */
    uint64_t open;            /* of those, not over yet */
    uint64_t passed[2];       /* bytes forwarded */
    uint64_t discarded;       /* bytes thrown away */
    uint64_t resets, fins;    /* connections ended by the plan or by ctki_chaos_cut () */
    uint64_t flips;           /* bits */
    uint64_t garbage, wrongs; /* connections answered so */
} ctki_chaos_counts_t;

typedef struct ctki_chaos ctki_chaos_t;

/* Starts its thread. The same seed gives each link the same draws for its n-th connection. */
ctki_chaos_t *ctki_chaos_start (uint64_t seed);

/* Ends all connections by RST and its thread. NULL and a pointer to NULL are harmless. */
void ctki_chaos_stop (ctki_chaos_t **chaos_p);

/* A new link, open, from a port (0: the system chooses) to a target port. Returns its number, from 0. */
int ctki_chaos_link (ctki_chaos_t *chaos, uint16_t port, uint16_t target);

/* The port of a link. */
uint16_t ctki_chaos_port (ctki_chaos_t *chaos, int link);

/* Where new connections go from now on. */
void ctki_chaos_aim (ctki_chaos_t *chaos, int link, uint16_t target);

/* What goes wrong from now on (NULL: nothing); in force when it returns. Counts of bytes start anew. */
void ctki_chaos_set (ctki_chaos_t *chaos, int link, const ctki_chaos_plan_t *plan);

/* Ends all connections now. */
void ctki_chaos_cut (ctki_chaos_t *chaos, int link, ctki_chaos_end_t end);

/* Strands the connections that there are: what is under way on them is held, as by CTKI_CHAOS_HOLD, while new ones are
 * good. Released, it comes behind what these have carried; a stranded connection may be over long since for its ends.
 */
void ctki_chaos_strand (ctki_chaos_t *chaos, int link);
void ctki_chaos_release (ctki_chaos_t *chaos, int link);

ctki_chaos_counts_t ctki_chaos_counts (ctki_chaos_t *chaos, int link);

#endif
