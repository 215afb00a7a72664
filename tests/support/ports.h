/*
 * ports.h - ports for tests that must know one beforehand (a restart on the same
 * port, a config that lists a thousand servers): from 20000-29999, outside the
 * ephemeral range, each locked for as long as the test holds it.
 *
 * The lock is one byte per port of one file in TMPDIR, so that tests that run at
 * the same time do not wait for each other. All other tests let the system choose.
 */
#ifndef CTKI_TEST_PORTS_H
#define CTKI_TEST_PORTS_H

#include <stddef.h>
#include <stdint.h>

enum { CTKI_PORTS_FIRST = 20000, CTKI_PORTS_COUNT = 10000, CTKI_PORTS_MAX = 1024 };

typedef struct {
    int lock; /* descriptor of the lock file */
    size_t count;
    uint16_t port[CTKI_PORTS_MAX];
} ctki_ports_t;

/* Takes count ports that nobody holds and that can be bound on 127.0.0.1. Fails the test when there are not enough. */
void ctki_ports_take (ctki_ports_t *ports, size_t count);

/* Gives them back. */
void ctki_ports_release (ctki_ports_t *ports);

/* A port on 127.0.0.1 that refuses connections as long as the returned descriptor is open. */
int ctki_ports_refusing (uint16_t *port);

/* A port on 127.0.0.1 that somebody else listens on, as long as the returned descriptor is open. */
int ctki_ports_listening (uint16_t *port);

#endif
