/*
 * posix.c - what the library calls of POSIX, in the simulator: locks that let
 * others run, threads that are tasks, descriptors that are numbers, names that
 * have made-up addresses.
 *
 * Owns the table of descriptors, for all simulations of the process; a run that
 * failed keeps its own for ever.
 */
#define CTKI_POSIX_AS_IT_IS
#include "sim/posix.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "sim/descriptors.h"
#include "sim/net.h"
#include "sim/sched.h"
#include "src/base.h"
#include "src/sys.h"

/* ---- locks; threads outside of the simulation take them as they are */

static unsigned mutex_waiters; /* of all: usually nobody waits */

int ctki_sim_mutex_lock (pthread_mutex_t *mutex)
{
    if (!ctki_task_self ())
        return pthread_mutex_lock (mutex);
    while (pthread_mutex_trylock (mutex)) {
        mutex_waiters++;
        ctki_task_wait (mutex, "a mutex", CTKI_FOREVER);
        mutex_waiters--;
    }
    return 0;
}

int ctki_sim_mutex_trylock (pthread_mutex_t *mutex)
{
    return pthread_mutex_trylock (mutex);
}

int ctki_sim_mutex_unlock (pthread_mutex_t *mutex)
{
    int rc = pthread_mutex_unlock (mutex);
    if (mutex_waiters > 0 && ctki_task_self ())
        ctki_task_wake_one (mutex);
    return rc;
}

int ctki_sim_cond_wait (pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    if (!ctki_task_self ())
        return pthread_cond_wait (cond, mutex);
    ctki_sim_mutex_unlock (mutex);
    ctki_task_wait (cond, "a condition", CTKI_FOREVER);
    return ctki_sim_mutex_lock (mutex);
}

int ctki_sim_cond_signal (pthread_cond_t *cond)
{
    ctki_task_wake_one (cond);
    return 0;
}

int ctki_sim_cond_broadcast (pthread_cond_t *cond)
{
    ctki_task_wake_all (cond);
    return 0;
}

/* ---- threads */

/* A thread's handle is the number of its task. */
int ctki_sim_create (pthread_t *thread, const pthread_attr_t *attr, void *(*fn) (void *), void *arg)
{
    size_t stack_bytes = 0;
    int detach = PTHREAD_CREATE_JOINABLE;
    if (!ctki_task_self ())
        return EPERM;
    if (attr) {
        pthread_attr_getstacksize (attr, &stack_bytes);
        pthread_attr_getdetachstate (attr, &detach);
    }
    enum ctki_task_kind kind = detach == PTHREAD_CREATE_DETACHED ? CTKI_TASK_DETACHED : CTKI_TASK_LIBRARY;
    long number = ctki_task_start (NULL, kind, stack_bytes, fn, arg);
    if (number < 0)
        return (int) -number;
    *thread = (pthread_t) number;
    return 0;
}

int ctki_sim_join (pthread_t thread, void **result)
{
    return ctki_task_join ((long) thread, result);
}

pthread_t ctki_sim_self (void)
{
    return ctki_task_self () ? (pthread_t) ctki_task_number () : pthread_self ();
}

/* The library names no thread but the one that calls. */
int ctki_sim_setname (pthread_t thread, const char *name)
{
    CTKI_ASSERT (thread == ctki_sim_self ());
    ctki_task_set_name (name);
    return 0;
}

static int64_t us_of (const struct timespec *time)
{
    return (int64_t) time->tv_sec * CTKI_S + (time->tv_nsec + 999) / 1000;
}

int ctki_sim_nanosleep (const struct timespec *time, struct timespec *left)
{
    if (left)
        *left = (struct timespec){0};
    ctki_task_wait_fds (NULL, 0, ctki_sim_now_us () + us_of (time));
    return 0;
}

int ctki_sim_sched_yield (void)
{
    ctki_task_yield ();
    return 0;
}

/* ---- descriptors */

typedef struct {
    bool used;
    uint64_t count;
} slot_t;

static struct {
    slot_t *slot;
    int count;
} table;

static slot_t *slot_of (int fd)
{
    CTKI_ASSERT (ctki_fd_is_ours (fd) && table.slot[fd - CTKI_FDS_FIRST].used);
    return &table.slot[fd - CTKI_FDS_FIRST];
}

bool ctki_fd_is_ours (int fd)
{
    return fd >= CTKI_FDS_FIRST && fd - CTKI_FDS_FIRST < table.count;
}

int ctki_fd_new (void)
{
    int index = 0;
    while (index < table.count && table.slot[index].used)
        index++;
    if (index == table.count) {
        int count = table.count ? 2 * table.count : 64;
        slot_t *more = realloc (table.slot, (size_t) count * sizeof *more);
        CTKI_ASSERT (more);
        memset (more + table.count, 0, (size_t) (count - table.count) * sizeof *more);
        table.slot = more;
        table.count = count;
    }
    table.slot[index] = (slot_t){.used = true};
    return CTKI_FDS_FIRST + index;
}

void ctki_fd_free (int fd)
{
    slot_of (fd)->used = false;
}

uint64_t ctki_fd_count (int fd)
{
    return slot_of (fd)->count;
}

void ctki_fd_raise (int fd, uint64_t by)
{
    slot_t *slot = slot_of (fd);
    bool first = slot->count == 0;
    slot->count += by;
    if (first)
        ctki_task_wake_fd (fd);
}

uint64_t ctki_fd_take (int fd)
{
    slot_t *slot = slot_of (fd);
    uint64_t count = slot->count;
    slot->count = 0;
    return count;
}

int ctki_sim_eventfd (unsigned count, int flags)
{
    CTKI_ASSERT (flags & EFD_NONBLOCK);
    int fd = ctki_fd_new ();
    if (count > 0)
        ctki_fd_raise (fd, count);
    return fd;
}

ssize_t ctki_sim_read (int fd, void *data, size_t size)
{
    if (!ctki_fd_is_ours (fd))
        return read (fd, data, size);
    uint64_t count = ctki_fd_take (fd);
    CTKI_ASSERT (size == sizeof count);
    memcpy (data, &count, sizeof count);
    errno = EAGAIN;
    return count > 0 ? (ssize_t) sizeof count : -1;
}

ssize_t ctki_sim_write (int fd, const void *data, size_t size)
{
    uint64_t count;
    if (!ctki_fd_is_ours (fd))
        return write (fd, data, size);
    CTKI_ASSERT (size == sizeof count);
    memcpy (&count, data, sizeof count);
    ctki_fd_raise (fd, count);
    return (ssize_t) size;
}

int ctki_sim_close (int fd)
{
    if (!ctki_fd_is_ours (fd))
        return close (fd);
    ctki_fd_free (fd);
    return 0;
}

static int look (struct pollfd *items, nfds_t count)
{
    int ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        bool some = ctki_fd_is_ours (items[i].fd) && ctki_fd_count (items[i].fd) > 0;
        items[i].revents = some ? (short) (items[i].events & POLLIN) : 0;
        ready += items[i].revents != 0;
    }
    return ready;
}

static int poll_until (struct pollfd *items, nfds_t count, int64_t until_us)
{
    enum { MOST = 16 };
    int fds[MOST], ready;
    size_t ours = 0;
    for (nfds_t i = 0; i < count; i++) {
        if (!ctki_fd_is_ours (items[i].fd))
            continue;
        CTKI_ASSERT (ours < MOST);
        fds[ours++] = items[i].fd;
    }
    while ((ready = look (items, count)) == 0 && ctki_sim_now_us () < until_us)
        ctki_task_wait_fds (fds, ours, until_us);
    return ready;
}

int ctki_sim_poll (struct pollfd *items, nfds_t count, int timeout_ms)
{
    return poll_until (items, count, ctki_deadline_us (timeout_ms));
}

int ctki_sim_ppoll (struct pollfd *items, nfds_t count, const struct timespec *time, const sigset_t *signals)
{
    (void) signals;
    return poll_until (items, count, time ? ctki_sim_now_us () + us_of (time) : CTKI_FOREVER);
}

int ctalk_sim_poll (ctalk_sim_t *sim, struct pollfd *items, nfds_t count, int timeout_ms)
{
    int64_t until_us = timeout_ms < 0 ? CTKI_FOREVER : ctki_sim_now_us () + timeout_ms * CTKI_MS;
    if (ctki_sim_is (sim) && ctki_task_self () && (items || count == 0))
        return poll_until (items, count, until_us);
    errno = EINVAL;
    return -1;
}

/* Sockets need no descriptors of the kernel: there are always enough. */
int ctki_sim_getrlimit (__rlimit_resource_t resource, struct rlimit *limit)
{
    (void) resource;
    *limit = (struct rlimit){.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    return 0;
}

/* ---- names: each host has an address of its own in 100.64.0.0/10 */

int ctki_sim_getaddrinfo (const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void) service;
    (void) hints;
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } *one = calloc (1, sizeof *one);
    if (!one)
        return EAI_MEMORY;
    one->address = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl (UINT32_C (0x64400000) + ctki_net_host (host))};
    one->info = (struct addrinfo){.ai_family = AF_INET,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_addrlen = sizeof one->address,
                                  .ai_addr = (struct sockaddr *) (void *) &one->address};
    *found = &one->info;
    return 0;
}

void ctki_sim_freeaddrinfo (struct addrinfo *found)
{
    free (found);
}
