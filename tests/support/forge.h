/*
 * forge.h - what a server that does not keep to the rules could tell another one.
 */
#ifndef CTKI_TEST_FORGE_H
#define CTKI_TEST_FORGE_H

#include <clustertalk.h>

#include "src/notice.h"

/* A server tells a peer that, whatever it has to do with it. */
void ctki_forge (ctalk_server_t *server, ctalk_pid_t peer, const ctki_notice_t *notice);

/* The number of the monitor that was the last to be made on a server. */
uint64_t ctki_forge_last_number (ctalk_server_t *server);

#endif
