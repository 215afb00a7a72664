/*
 * support.h - everything that the cluster and stress tests use.
 */
#ifndef CTKI_TEST_SUPPORT_H
#define CTKI_TEST_SUPPORT_H

#include <check.h>
#include <errno.h>

#include <clustertalk.h>

#include "tests/support/cluster.h"
#include "tests/support/journal.h"
#include "tests/support/leaks.h"
#include "tests/support/memory.h"
#include "tests/support/payload.h"
#include "tests/support/peer.h"
#include "tests/support/ports.h"
#include "tests/support/process.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"
#include "tests/support/traffic.h"

/* A test that needs the sockets of the system, or servers in other processes: not over queue sockets. */
#ifdef CTKI_QUEUE_SOCKETS
#define ctki_add_test_of_system(tcase, test) ((void) (test))
#else
#define ctki_add_test_of_system(tcase, test) tcase_add_test (tcase, test)
#endif

/* A call returned -1 with this errno. */
#define CTKI_FAILS(code, call)                                                                                         \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        int rc_ = (call);                                                                                              \
        int got_ = errno;                                                                                              \
        ck_assert_msg (rc_ == -1 && got_ == (code), "%s: returned %d, %s instead of -1, %s", #call, rc_,               \
                       strerror (got_), strerror (code));                                                              \
    } while (0)

#define CTKI_SUCCEEDS(call)                                                                                            \
    do {                                                                                                               \
        int rc_ = (call);                                                                                              \
        ck_assert_msg (rc_ == 0, "%s: returned %d, %s", #call, rc_, strerror (errno));                                 \
    } while (0)

#endif
