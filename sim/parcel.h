/*
 * parcel.h - what travels where sockets are not libzmq's: in the simulator, and
 * between the queue sockets of tests. And the names that sockets are bound to.
 *
 * Parts are read where the sender has them until they are received; small ones
 * then lie askew in memory, as they may in libzmq.
 */
#ifndef CTKI_PARCEL_H
#define CTKI_PARCEL_H

#include "src/sock.h"

/* A part under way. */
typedef struct {
    const uint8_t *data;
    size_t size;
    ctki_buf_t *buf; /* held; NULL: data is in block */
    void *block;
} ctki_cargo_t;

typedef struct ctki_parcel {
    struct ctki_parcel *next;
    ctki_link_t event; /* to a monitor */
    int64_t at_us;     /* when it arrives; the simulator's */
    int count;
    ctki_cargo_t part[];
} ctki_parcel_t;

/* NULL: ENOMEM, and no reference is taken. */
ctki_parcel_t *ctki_parcel_pack (const ctki_part_t *parts, int count);
ctki_parcel_t *ctki_parcel_event (ctki_link_t event);

/* Frees a list of them. */
void ctki_parcels_drop (ctki_parcel_t *parcel);

/* Brings a parcel into the receiver's memory, and frees it. */
void ctki_parcel_unpack (ctki_parcel_t *parcel, ctki_message_t *message);

/* The same for one of a pipe: returns the size of the whole. */
int ctki_parcel_copy (ctki_parcel_t *parcel, void *data, size_t size);

/* Whether a part is larger than that; 0: never. */
bool ctki_parts_exceed (const ctki_part_t *parts, int count, int64_t most);

/* ---- names */

typedef struct {
    char text[CTKI_ENDPOINT_BYTES];
    char host[CTKI_ENDPOINT_BYTES]; /* tcp only */
    unsigned port;                  /* tcp only; 0: to be chosen */
    bool tcp, ipc, inproc, any;     /* any: bound to all addresses */
} ctki_name_t;

/* 0, or -1: EINVAL. */
int ctki_name_read (ctki_name_t *name, const char *endpoint, bool bind);

/* Gives a name that has none a port. */
void ctki_name_set_port (ctki_name_t *name, unsigned port);

/* Whether what is dialled so leads to what is bound so. */
bool ctki_name_leads_to (const ctki_name_t *name, const ctki_name_t *bound);

#endif
