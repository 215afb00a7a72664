/*
 * forge.c - see forge.h. It looks into servers: what goes wrong fails the test.
 */
#include "tests/support/forge.h"

#include <check.h>

#include "src/server.h"

void ctki_forge (ctalk_server_t *server, ctalk_pid_t peer, const ctki_notice_t *notice)
{
    ctki_hall_lock (&server->node.hall);
    int rc = ctki_hall_tell (&server->node.hall, peer, notice);
    ctki_hall_unlock (&server->node.hall);
    ck_assert_int_eq (rc, 0);
}

uint64_t ctki_forge_last_number (ctalk_server_t *server)
{
    ctki_hall_lock (&server->node.hall);
    uint64_t number = server->node.hall.numbers;
    ctki_hall_unlock (&server->node.hall);
    return number;
}
