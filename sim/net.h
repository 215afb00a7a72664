/*
 * net.h - the simulated network: one for each simulation. Its sockets are those
 * of src/sock.h.
 */
#ifndef CTKI_NET_H
#define CTKI_NET_H

#include <clustertalk_sim.h>

typedef struct ctki_net ctki_net_t;

ctki_net_t *ctki_net_new (void); /* NULL: ENOMEM */
void ctki_net_destroy (ctki_net_t **net_p);

/* That of the simulation; NULL: there is none. */
ctki_net_t *ctki_sim_net (void);

/* Whether a server is there. */
bool ctki_net_in_use (const ctki_net_t *net);

/* How often connections break was changed. */
void ctki_net_network_changed (ctki_net_t *net);

/* The number of a host's name, drawn up when it is first asked for. */
uint32_t ctki_net_host (const char *host);

#endif
