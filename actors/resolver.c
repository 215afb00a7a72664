/*
 * resolver.c - name look-ups on short-lived threads.
 *
 * Owns one table of questions under one mutex. A question is asked by one
 * thread, and any number of look-ups wait for its answer. A look-up belongs to
 * who asked; a question belongs to the look-ups that wait for it and to the
 * thread that asks it, and is freed when the last of them has let go. So a
 * look-up can be destroyed while its question hangs in getaddrinfo (), which
 * nothing can interrupt: the question goes on alone, keeps its thread and one
 * of the few slots, and is freed when the system answers.
 *
 * It has no permanent thread: a thread that has its answer takes the next name
 * that waits, and ends when there is none.
 *
 * What may go wrong: all slots may hang. Then names wait, in order, and who
 * asked goes on with the address that it had. After a fork the threads are
 * gone, and the table may be half written: the child begins with a new one and
 * never touches a question of its parent's, whose memory is lost to it.
 */
#include "actors/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "src/mem.h"
#include "src/sys.h"

enum {
    STACK_BYTES = 512 * 1024 /* getaddrinfo () needs more than our own code: it loads plug-ins */
};

typedef struct question question_t;

struct ctki_lookup {
    question_t *question;
    void (*done) (void *arg);
    void *arg;
    bool listed; /* done is still to be called */
    unsigned generation;
    TAILQ_ENTRY (ctki_lookup) link;
};

struct question {
    char *host;
    unsigned holders; /* look-ups, and the thread that asks */
    enum { WAITING, ASKED, ANSWERED } state;
    ctki_lookup_t *calling; /* whose done runs now, on the thread caller */
    pthread_t caller;
    char address[CTKI_ADDRESS_BYTES];
    char reason[CTKI_RESOLVER_REASON_BYTES];
    TAILQ_HEAD (lookups, ctki_lookup) lookups; /* those with listed set */
    TAILQ_ENTRY (question) link;
};

typedef int (lookup_fn_t) (const char *host, char *address, size_t size);
typedef TAILQ_HEAD (questions, question) questions_t;

static lookup_fn_t ask_system;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t called; /* some done has returned */
    unsigned references;
    unsigned threads;
    unsigned names; /* in waiting */
    questions_t waiting;
    questions_t asked;
    lookup_fn_t *lookup;
} resolver = {.mutex = PTHREAD_MUTEX_INITIALIZER,
              .called = PTHREAD_COND_INITIALIZER,
              .waiting = TAILQ_HEAD_INITIALIZER (resolver.waiting),
              .asked = TAILQ_HEAD_INITIALIZER (resolver.asked),
              .lookup = ask_system};

/* ---- the question to the system */

static const struct addrinfo *preferred (const struct addrinfo *list)
{
    for (const struct addrinfo *it = list; it != NULL; it = it->ai_next)
        if (it->ai_family == AF_INET)
            return it;
    return list;
}

static int ask_system (const char *host, char *address, size_t size)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int code = getaddrinfo (host, NULL, &hints, &list);
    if (code != 0)
        return code;
    const struct addrinfo *it = preferred (list);
    code = getnameinfo (it->ai_addr, it->ai_addrlen, address, (socklen_t) size, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo (list);
    return code;
}

/* The mutex is not held: this is the place that may hang. */
static void answer (question_t *q, lookup_fn_t *lookup)
{
    char text[CTKI_RESOLVER_REASON_BYTES];
    int code = lookup (q->host, q->address, sizeof q->address);
    if (code == 0)
        return;
    const char *reason = code == EAI_SYSTEM ? strerror_r (errno, text, sizeof text) : gai_strerror (code);
    q->address[0] = '\0';
    snprintf (q->reason, sizeof q->reason, "%s", reason);
}

/* ---- questions; the mutex is held from here on unless a comment says otherwise */

static question_t *question_new (const char *host)
{
    question_t *q = ctki_alloc_zero (sizeof *q);
    char *copy = ctki_strdup (host);
    if (q == NULL || copy == NULL) {
        ctki_free (copy);
        ctki_free (q);
        return NULL;
    }
    q->host = copy;
    q->state = WAITING;
    TAILQ_INIT (&q->lookups);
    return q;
}

static void question_destroy (question_t *q)
{
    ctki_free (q->host);
    ctki_free (q);
}

static question_t *find_in (const questions_t *list, const char *host)
{
    question_t *q;
    TAILQ_FOREACH (q, list, link)
    if (strcasecmp (q->host, host) == 0)
        return q;
    return NULL;
}

static question_t *find (const char *host)
{
    question_t *q = find_in (&resolver.asked, host);
    return q != NULL ? q : find_in (&resolver.waiting, host);
}

static void leave_queue (question_t *q)
{
    TAILQ_REMOVE (&resolver.waiting, q, link);
    --resolver.names;
}

/* One holder less. A name that nobody waits for any more is not asked. */
static void let_go (question_t *q)
{
    CTKI_ASSERT (q->holders > 0);
    if (--q->holders > 0)
        return;
    if (q->state == WAITING)
        leave_queue (q);
    question_destroy (q);
}

/* ---- the threads */

static question_t *take_next (void)
{
    question_t *q = TAILQ_FIRST (&resolver.waiting);
    if (q != NULL) {
        leave_queue (q);
        q->state = ASKED;
        ++q->holders;
        TAILQ_INSERT_TAIL (&resolver.asked, q, link);
    }
    return q;
}

/* Calls done of each look-up, without the mutex. Afterwards it looks at the
 * question only: the look-up may be gone. */
static void tell_all (question_t *q)
{
    ctki_lookup_t *lookup;
    q->caller = pthread_self ();
    while ((lookup = TAILQ_FIRST (&q->lookups)) != NULL) {
        TAILQ_REMOVE (&q->lookups, lookup, link);
        lookup->listed = false;
        q->calling = lookup;
        void (*done) (void *arg) = lookup->done;
        void *arg = lookup->arg;
        pthread_mutex_unlock (&resolver.mutex);
        done (arg);
        pthread_mutex_lock (&resolver.mutex);
        q->calling = NULL;
        pthread_cond_broadcast (&resolver.called);
    }
}

static void *ask_names (void *unused)
{
    (void) unused;
    pthread_setname_np (pthread_self (), "ct-resolve");
    pthread_mutex_lock (&resolver.mutex);
    question_t *q;
    while ((q = take_next ()) != NULL) {
        lookup_fn_t *lookup = resolver.lookup;
        pthread_mutex_unlock (&resolver.mutex);
        answer (q, lookup);
        pthread_mutex_lock (&resolver.mutex);
        q->state = ANSWERED;
        TAILQ_REMOVE (&resolver.asked, q, link);
        tell_all (q);
        let_go (q);
    }
    --resolver.threads;
    pthread_mutex_unlock (&resolver.mutex);
    return NULL;
}

/* Detached: nobody could wait for it when it hangs. 0, or an errno. */
static int start_thread (void)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    int rc = ctki_thread_fails () ? EAGAIN : pthread_attr_init (&attr);
    if (rc != 0)
        return rc;
    pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize (&attr, STACK_BYTES);
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &before); /* a new thread inherits the mask */
    rc = pthread_create (&thread, &attr, ask_names, NULL);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    pthread_attr_destroy (&attr);
    return rc;
}

/* Queues a question and sees to it that a thread comes to it. 0, or an errno. */
static int enqueue (question_t *q)
{
    if (resolver.names == CTKI_RESOLVER_NAMES)
        return EAGAIN;
    if (resolver.threads < CTKI_RESOLVER_THREADS) {
        int rc = start_thread ();
        if (rc != 0)
            return rc;
        ++resolver.threads;
    }
    TAILQ_INSERT_TAIL (&resolver.waiting, q, link);
    ++resolver.names;
    return 0;
}

/* ---- fork */

static void begin_anew (void)
{
    pthread_mutex_init (&resolver.mutex, NULL);
    pthread_cond_init (&resolver.called, NULL);
    resolver.references = resolver.threads = resolver.names = 0;
    TAILQ_INIT (&resolver.waiting);
    TAILQ_INIT (&resolver.asked);
}

static int fork_watch; /* 0, or why forks are not watched */

static void watch_forks (void)
{
    fork_watch = pthread_atfork (NULL, NULL, begin_anew);
}

/* ---- the calls */

int ctki_resolver_ref (void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once (&once, watch_forks);
    if (fork_watch != 0) {
        errno = fork_watch;
        return -1;
    }
    pthread_mutex_lock (&resolver.mutex);
    ++resolver.references;
    pthread_mutex_unlock (&resolver.mutex);
    return 0;
}

void ctki_resolver_unref (void)
{
    pthread_mutex_lock (&resolver.mutex);
    if (resolver.references > 0) /* 0: a reference that a parent process took */
        --resolver.references;
    pthread_mutex_unlock (&resolver.mutex);
}

/* Joins the question for this host, or makes one. 0, or an errno. */
static int join_question (ctki_lookup_t *lookup, const char *host)
{
    question_t *q = find (host);
    if (q == NULL) {
        q = question_new (host);
        int rc = q == NULL ? ENOMEM : enqueue (q);
        if (rc != 0) {
            if (q != NULL)
                question_destroy (q);
            return rc;
        }
    }
    ++q->holders;
    TAILQ_INSERT_TAIL (&q->lookups, lookup, link);
    lookup->question = q;
    lookup->listed = true;
    return 0;
}

ctki_lookup_t *ctki_resolver_ask (const char *host, void (*done) (void *arg), void *arg)
{
    CTKI_ASSERT (host != NULL && done != NULL);
    ctki_lookup_t *lookup = ctki_alloc_zero (sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    lookup->done = done;
    lookup->arg = arg;
    lookup->generation = ctki_fork_generation ();
    pthread_mutex_lock (&resolver.mutex);
    int rc = join_question (lookup, host);
    pthread_mutex_unlock (&resolver.mutex);
    if (rc != 0) {
        ctki_free (lookup);
        errno = rc;
        return NULL;
    }
    return lookup;
}

/* Writes text, or nothing when it does not fit. */
static bool put_text (char *out, size_t size, const char *text)
{
    size_t length = strlen (text);
    bool fits = length < size;
    if (fits)
        memcpy (out, text, length + 1);
    else if (size > 0)
        *out = '\0';
    return fits;
}

bool ctki_lookup_result (ctki_lookup_t *lookup, char *address, size_t size, char *reason, size_t reason_size)
{
    if (lookup->generation != ctki_fork_generation ())
        return false;
    pthread_mutex_lock (&resolver.mutex);
    const question_t *q = lookup->question;
    bool answered = q->state == ANSWERED;
    if (answered && put_text (address, size, q->address))
        put_text (reason, reason_size, q->reason);
    else if (answered)
        put_text (reason, reason_size, "the address is too long");
    pthread_mutex_unlock (&resolver.mutex);
    return answered;
}

void ctki_lookup_destroy (ctki_lookup_t **lookup_p)
{
    if (lookup_p == NULL || *lookup_p == NULL)
        return;
    ctki_lookup_t *lookup = *lookup_p;
    *lookup_p = NULL;
    if (lookup->generation == ctki_fork_generation ()) {
        pthread_mutex_lock (&resolver.mutex);
        question_t *q = lookup->question;
        if (lookup->listed)
            TAILQ_REMOVE (&q->lookups, lookup, link);
        while (q->calling == lookup && !pthread_equal (q->caller, pthread_self ()))
            pthread_cond_wait (&resolver.called, &resolver.mutex);
        let_go (q);
        pthread_mutex_unlock (&resolver.mutex);
    }
    ctki_free (lookup);
}

void ctki_resolver_set_lookup (int (*lookup) (const char *host, char *address, size_t size))
{
    pthread_mutex_lock (&resolver.mutex);
    resolver.lookup = lookup != NULL ? lookup : ask_system;
    pthread_mutex_unlock (&resolver.mutex);
}
