/*
 * endpoint.h - an endpoint in text taken apart and put into normal form.
 * Accepts host:port, [v6]:port, tcp://, ipc:// with an absolute path and
 * inproc://, nothing else (pitfall I3). Pure: it looks up no name.
 */
#ifndef CTKI_ENDPOINT_H
#define CTKI_ENDPOINT_H

#include "src/base.h"

typedef enum { CTKI_TCP, CTKI_IPC, CTKI_INPROC } ctki_transport_t;
typedef enum { CTKI_FOR_BOTH, CTKI_FOR_BIND, CTKI_FOR_CONNECT } ctki_purpose_t;

typedef struct {
    ctki_transport_t transport;
    char text[CTKI_ENDPOINT_BYTES]; /* normal form: lower-case host, full scheme, "tcp://[::1]:5001", "tcp://h:*" */
    char host[256];                 /* tcp: without brackets; "*" for all interfaces */
    uint16_t port;                  /* tcp: 0 when the system chooses */
    bool numeric;                   /* tcp: the host is an address (or "*"), not a name */
    bool v6;                        /* tcp: the host is an IPv6 address */
} ctki_endpoint_t;

/* Returns NULL, or why the text is not an endpoint for this purpose (a constant
 * text that says what to do). "*" as host only for CTKI_FOR_BIND; a port left
 * to the system is accepted for every purpose. */
const char *ctki_endpoint_parse (ctki_endpoint_t *endpoint, const char *text, size_t size, ctki_purpose_t purpose);

/* Whether one can connect to it: not "*" and no port left to the system. */
bool ctki_endpoint_dialable (const ctki_endpoint_t *endpoint);

#endif
