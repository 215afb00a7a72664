/*
 * parcel.c - packing, unpacking and letting go; names.
 */
#include "sim/parcel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/mem.h"

/* Somewhere else than the sender frees the memory: it must be prepared for that. */
static void let_go (ctki_buf_t *buf)
{
    if (buf->owned)
        atomic_fetch_sub_explicit (&buf->io_refs, 1, memory_order_release);
    else
        ctki_buf_release (buf, 1);
}

static void drop_cargo (ctki_cargo_t *cargo)
{
    if (cargo->buf)
        let_go (cargo->buf);
    free (cargo->block);
}

void ctki_parcels_drop (ctki_parcel_t *parcel)
{
    while (parcel) {
        ctki_parcel_t *next = parcel->next;
        for (int i = 0; i < parcel->count; i++)
            drop_cargo (&parcel->part[i]);
        free (parcel);
        parcel = next;
    }
}

/* ---- packing */

/* Memory for a part as libzmq would have it: small ones lie anywhere. */
static uint8_t *place (ctki_cargo_t *cargo, size_t size)
{
    size_t skew = size <= CTKI_LEASE_BYTES;
    cargo->block = malloc (size + skew);
    return cargo->block ? (uint8_t *) cargo->block + skew : NULL;
}

static bool copy_in (ctki_cargo_t *cargo, const void *data, size_t size)
{
    uint8_t *to = place (cargo, size);
    if (!to)
        return false;
    if (size)
        memcpy (to, data, size);
    cargo->data = to;
    cargo->size = size;
    cargo->buf = NULL;
    return true;
}

static bool load (ctki_cargo_t *cargo, const ctki_part_t *part)
{
    if (!part->buf)
        return copy_in (cargo, part->data, part->size);
    *cargo = (ctki_cargo_t){.data = part->data, .size = part->size, .buf = part->buf};
    if (part->buf->owned)
        atomic_fetch_add_explicit (&part->buf->io_refs, 1, memory_order_relaxed);
    else
        ctki_buf_hold (part->buf, 1);
    return true;
}

ctki_parcel_t *ctki_parcel_pack (const ctki_part_t *parts, int count)
{
    ctki_parcel_t *parcel = calloc (1, sizeof *parcel + (size_t) count * sizeof parcel->part[0]);
    if (!parcel)
        return NULL;
    for (; parcel->count < count; parcel->count++) {
        if (load (&parcel->part[parcel->count], &parts[parcel->count]))
            continue;
        ctki_parcels_drop (parcel);
        errno = ENOMEM;
        return NULL;
    }
    return parcel;
}

ctki_parcel_t *ctki_parcel_event (ctki_link_t event)
{
    ctki_parcel_t *parcel = calloc (1, sizeof *parcel);
    if (parcel)
        parcel->event = event;
    return parcel;
}

bool ctki_parts_exceed (const ctki_part_t *parts, int count, int64_t most)
{
    for (int i = 0; i < count; i++)
        if (most && parts[i].size > (size_t) most)
            return true;
    return false;
}

/* ---- unpacking */

/* What a received part holds in ctki_message_t. */
static void **block_of (ctki_message_t *message, int part)
{
    return (void **) (void *) message->raw[part].bytes;
}

/* Brings a part into the receiver's memory and lets the sender's go. */
static void unload (ctki_cargo_t *cargo)
{
    ctki_buf_t *buf = cargo->buf;
    if (!buf)
        return;
    CTKI_ASSERT (copy_in (cargo, cargo->data, cargo->size));
    let_go (buf);
}

void ctki_parcel_unpack (ctki_parcel_t *parcel, ctki_message_t *message)
{
    message->count = parcel->count;
    for (int i = 0; i < parcel->count; i++) {
        ctki_cargo_t *cargo = &parcel->part[i];
        if (i >= CTKI_MESSAGE_PARTS) {
            drop_cargo (cargo);
            continue;
        }
        unload (cargo);
        message->data[i] = cargo->data;
        message->size[i] = cargo->size;
        *block_of (message, i) = cargo->block;
    }
    free (parcel);
}

int ctki_parcel_copy (ctki_parcel_t *parcel, void *data, size_t size)
{
    size_t whole = parcel->part[0].size;
    if (whole)
        memcpy (data, parcel->part[0].data, CTKI_MIN (whole, size));
    ctki_parcels_drop (parcel);
    return (int) whole;
}

void ctki_message_close (ctki_message_t *message)
{
    for (int i = 0; i < message->count && i < CTKI_MESSAGE_PARTS; i++)
        free (*block_of (message, i));
    message->count = 0;
}

typedef struct {
    ctki_buf_t buf; /* first */
    void *block;
} lease_t;

static void end_lease (ctki_buf_t *buf)
{
    lease_t *lease = (lease_t *) buf;
    free (lease->block);
    ctki_free (lease);
}

ctki_buf_t *ctki_message_lease (ctki_message_t *message, int part)
{
    size_t size = message->size[part];
    if (size <= CTKI_LEASE_BYTES)
        return ctki_message_copy (message, part);
    lease_t *lease = ctki_alloc (sizeof *lease);
    if (!lease)
        return NULL;
    lease->block = *block_of (message, part);
    ctki_buf_init (&lease->buf, lease->block, size, end_lease); /* what is leased was not laid askew */
    *block_of (message, part) = NULL;
    return &lease->buf;
}

/* ---- names */

static int invalid (void)
{
    errno = EINVAL;
    return -1;
}

static int read_port (const char *text, unsigned *port)
{
    char *end;
    unsigned long number = strtoul (text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || number > 65535)
        return invalid ();
    *port = (unsigned) number;
    return 0;
}

static int read_tcp (ctki_name_t *name, bool bind)
{
    const char *host = name->text + strlen ("tcp://"), *colon = strrchr (host, ':');
    if (!colon || colon == host)
        return invalid ();
    name->tcp = true;
    snprintf (name->host, sizeof name->host, "%.*s", (int) (colon - host), host);
    if (!(bind && strcmp (colon, ":*") == 0) && read_port (colon + 1, &name->port))
        return -1;
    name->any =
        bind
        && (strcmp (name->host, "*") == 0 || strcmp (name->host, "0.0.0.0") == 0 || strcmp (name->host, "[::]") == 0);
    return 0;
}

int ctki_name_read (ctki_name_t *name, const char *endpoint, bool bind)
{
    memset (name, 0, sizeof *name);
    if (strlen (endpoint) >= sizeof name->text)
        return invalid ();
    memcpy (name->text, endpoint, strlen (endpoint));
    name->inproc = strncmp (endpoint, "inproc://", 9) == 0;
    name->ipc = strncmp (endpoint, "ipc://", 6) == 0;
    if (name->inproc || name->ipc)
        return 0;
    return strncmp (endpoint, "tcp://", 6) == 0 ? read_tcp (name, bind) : invalid ();
}

void ctki_name_set_port (ctki_name_t *name, unsigned port)
{
    name->port = port;
    snprintf (name->text, sizeof name->text, "tcp://%.255s:%u", name->any ? "0.0.0.0" : name->host, port);
}

bool ctki_name_leads_to (const ctki_name_t *name, const ctki_name_t *bound)
{
    if (!name->tcp || !bound->tcp)
        return strcmp (name->text, bound->text) == 0;
    return name->port == bound->port && (name->any || bound->any || strcmp (name->host, bound->host) == 0);
}
