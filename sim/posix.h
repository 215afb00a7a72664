/*
 * posix.h - the seam of the simulator: the compiler reads this file first (with
 * -include) in every source of the library that is compiled for it. What the
 * library calls of POSIX that waits, tells the time or reaches the outside then
 * goes to posix.c. So the sources know nothing of the simulator, and the library
 * that is not simulated pays nothing.
 *
 * tests/simulated/symbols.sh looks whether something is called that is not
 * replaced and should be.
 */
#ifndef CTKI_POSIX_H
#define CTKI_POSIX_H

/* Their declarations come first. */
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int ctki_sim_mutex_lock (pthread_mutex_t *mutex);
int ctki_sim_mutex_trylock (pthread_mutex_t *mutex);
int ctki_sim_mutex_unlock (pthread_mutex_t *mutex);
int ctki_sim_cond_wait (pthread_cond_t *cond, pthread_mutex_t *mutex);
int ctki_sim_cond_signal (pthread_cond_t *cond);
int ctki_sim_cond_broadcast (pthread_cond_t *cond);
int ctki_sim_create (pthread_t *thread, const pthread_attr_t *attr, void *(*fn) (void *), void *arg);
int ctki_sim_join (pthread_t thread, void **result);
pthread_t ctki_sim_self (void);
int ctki_sim_setname (pthread_t thread, const char *name);
int ctki_sim_nanosleep (const struct timespec *time, struct timespec *left);
int ctki_sim_sched_yield (void);

int ctki_sim_eventfd (unsigned count, int flags);
ssize_t ctki_sim_read (int fd, void *data, size_t size);
ssize_t ctki_sim_write (int fd, const void *data, size_t size);
int ctki_sim_close (int fd);
int ctki_sim_poll (struct pollfd *items, nfds_t count, int timeout_ms);
int ctki_sim_ppoll (struct pollfd *items, nfds_t count, const struct timespec *time, const sigset_t *signals);

int ctki_sim_getaddrinfo (const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found);
void ctki_sim_freeaddrinfo (struct addrinfo *found);
int ctki_sim_getrlimit (__rlimit_resource_t resource, struct rlimit *limit);

#ifndef CTKI_POSIX_AS_IT_IS /* posix.c itself */
/* Members of structures with these names are renamed as their calls are. */
#define pthread_mutex_lock ctki_sim_mutex_lock
#define pthread_mutex_trylock ctki_sim_mutex_trylock
#define pthread_mutex_unlock ctki_sim_mutex_unlock
#define pthread_cond_wait ctki_sim_cond_wait
#define pthread_cond_signal ctki_sim_cond_signal
#define pthread_cond_broadcast ctki_sim_cond_broadcast
#define pthread_create ctki_sim_create
#define pthread_join ctki_sim_join
#define pthread_self ctki_sim_self
#define pthread_setname_np ctki_sim_setname
#define nanosleep ctki_sim_nanosleep
#define sched_yield ctki_sim_sched_yield
#define eventfd ctki_sim_eventfd
#define read ctki_sim_read
#define write ctki_sim_write
#define close ctki_sim_close
#define poll ctki_sim_poll
#define ppoll ctki_sim_ppoll
#define getaddrinfo ctki_sim_getaddrinfo
#define freeaddrinfo ctki_sim_freeaddrinfo
#define getrlimit ctki_sim_getrlimit

/* A public call that begins, and one that fails: a loop of them must not stop the time. */
#include "src/calls.h"

void ctki_task_look (void);

static inline bool ctki_sim_calls_enter (ctki_calls_t *calls)
{
    ctki_task_look ();
    return ctki_calls_enter (calls);
}
#define ctki_calls_enter ctki_sim_calls_enter

#include "src/server.h"

static inline int ctki_sim_fail (int code)
{
    ctki_task_look ();
    return ctki_fail (code);
}
#define ctki_fail ctki_sim_fail
#endif

#endif
