/*
 * chaos.c - a TCP proxy that fails on purpose. It owns its thread, its sockets
 * and everything under its one lock.
 *
 * The thread holds the lock in its rounds and lets it go while it sleeps in
 * epoll. Whoever changes a plan does so under the lock, at once, closing sockets
 * if need be. So the thread may wake with events of a connection that is over:
 * such a one is marked, and freed only after a round. A socket that wants
 * nothing is taken out of epoll, which would tell of its end for ever.
 */
#include "tests/support/chaos.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 64,          /* of one round */
    MARKS = 64,           /* pieces of a direction that are delayed apart */
    BACKLOG = 128,        /* of an open door */
    FILLERS = 8,          /* connections that fill the queue of a black hole, at most */
    FILL_MS = 20,         /* a filler that is not connected by then found the queue full */
    GARBAGE_BYTES = 4096, /* at most */
    STEP_MS = 5,          /* between two payments to a throttled direction */
    BURST_MS = 20         /* for so long it may have saved */
};

#define NEVER UINT64_MAX
#define NS_PER_MS UINT64_C (1000000)
#define NS_PER_S UINT64_C (1000000000)

typedef struct conn conn_t;
typedef struct line line_t;

typedef struct {
    int fd;          /* -1: none, or gone */
    uint32_t events; /* that epoll watches for; 0: not in epoll */
    line_t *line;    /* a door */
    conn_t *conn;    /* one side of a connection */
    int side;        /* 0: who connected; 1: the target */
} plug_t;

typedef struct {
    uint64_t due_ns;
    size_t bytes;
} mark_t;

/* One direction of a connection, from plug w to plug 1 - w. */
typedef struct {
    uint8_t bytes[CTKI_CHAOS_HOLD_BYTES];
    size_t head, used;
    mark_t marks[MARKS]; /* a ring: which bytes may go on when */
    size_t first_mark, mark_count;
    uint64_t taken;                  /* bytes read so far */
    uint64_t flip_at;                /* the byte whose bit is flipped next, by its number */
    uint64_t credit, credit_from_ns; /* of a throttled direction: bytes, and since when */
    bool full;                       /* the other side takes no more now */
    bool ended, end_passed;          /* end of file was read; was passed on */
    bool holed;                      /* bytes were thrown away */
} flow_t;

typedef enum { CONNECTING, SERVING, ASKED, FINISHING, DEAD } state_t;

struct conn {
    conn_t *next;
    line_t *line;
    state_t state;
    plug_t plug[2];
    flow_t flow[2];
    uint64_t random; /* state of its draws */
    uint64_t left;   /* bytes until it is ended */
    uint64_t due_ns; /* when there is something to do without an event */
    bool stranded;   /* nothing goes on, whatever the plan says */
    bool http;       /* the wrong server that it plays */
};

struct line {
    ctki_chaos_t *chaos;
    int number;
    uint16_t port, target;
    int holder;  /* bound, never listening: keeps the port while the door is closed */
    plug_t door; /* the listening socket */
    int filler[FILLERS];
    int fillers;
    ctki_chaos_plan_t plan;
    ctki_chaos_counts_t counts;
    conn_t *conns;
};

struct ctki_chaos {
    pthread_mutex_t lock;
    atomic_int callers; /* that wait for the lock: the thread, always in a hurry, lets them go first */
    pthread_t thread;
    int epoll;
    plug_t wake; /* an eventfd: look at the times, or stop */
    bool stop;
    uint64_t seed;
    line_t line[CTKI_CHAOS_LINKS_MAX];
    int lines;
    conn_t *graveyard;
    uint8_t scratch[CTKI_CHAOS_HOLD_BYTES];
};

/* ---- small things */

static void must (bool holds, const char *what)
{
    if (holds)
        return;
    (void) fprintf (stderr, "chaos: %s: %s\n", what, strerror (errno));
    abort ();
}

static uint64_t now_ns (void)
{
    struct timespec now;
    (void) clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

static uint64_t draw (uint64_t *random)
{
    uint64_t x = *random += UINT64_C (0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* lo to hi, both among them; NEVER when hi is 0. */
static uint64_t draw_between (uint64_t *random, uint64_t lo, uint64_t hi)
{
    if (hi == 0)
        return NEVER;
    return hi > lo ? lo + draw (random) % (hi - lo + 1) : hi;
}

static struct sockaddr_in loopback (uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons (port)};
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    return address;
}

static uint16_t port_of (int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    must (getsockname (fd, (struct sockaddr *) &address, &size) == 0, "getsockname");
    return ntohs (address.sin_port);
}

static int new_socket (void)
{
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must (fd >= 0, "socket");
    return fd;
}

static int bound (uint16_t port)
{
    int fd = new_socket (), on = 1;
    struct sockaddr_in address = loopback (port);
    must (setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "SO_REUSEADDR");
    must (bind (fd, (const struct sockaddr *) &address, sizeof address) == 0, "bind");
    return fd;
}

static void send_at_once (int fd)
{
    int on = 1;
    (void) setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- sockets in epoll */

static void watch (ctki_chaos_t *chaos, plug_t *plug, uint32_t events)
{
    if (plug->fd < 0 || plug->events == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = plug};
    int what = plug->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    must (epoll_ctl (chaos->epoll, what, plug->fd, &event) == 0, "epoll_ctl");
    plug->events = events;
}

/* Closes a socket, by RST or in the usual way. */
static void unplug (ctki_chaos_t *chaos, plug_t *plug, bool rst)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (plug->fd < 0)
        return;
    watch (chaos, plug, 0);
    if (rst)
        (void) setsockopt (plug->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void) close (plug->fd);
    plug->fd = -1;
}

/* Takes a connection out of its link; the thread frees it after its round. */
static void drop (conn_t *conn, bool rst)
{
    line_t *line = conn->line;
    conn_t **at = &line->conns;
    unplug (line->chaos, &conn->plug[0], rst);
    unplug (line->chaos, &conn->plug[1], rst);
    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    conn->state = DEAD;
    conn->next = line->chaos->graveyard;
    line->chaos->graveyard = conn;
    line->counts.open--;
}

static void bury (ctki_chaos_t *chaos)
{
    while (chaos->graveyard) {
        conn_t *conn = chaos->graveyard;
        chaos->graveyard = conn->next;
        free (conn);
    }
}

/* ---- the bytes of one direction */

/* Nothing is wrong with it now; there may be a hole from before. */
static bool is_healthy (const conn_t *conn, int w)
{
    const ctki_chaos_plan_t *plan = &conn->line->plan;
    return !conn->stranded && plan->door != CTKI_CHAOS_BLACKHOLE && plan->way[w].what == CTKI_CHAOS_PASS;
}

static bool discards (const conn_t *conn, int w)
{
    const ctki_chaos_plan_t *plan = &conn->line->plan;
    return conn->flow[w].holed || plan->door == CTKI_CHAOS_BLACKHOLE || plan->way[w].what == CTKI_CHAOS_DISCARD
           || conn->plug[1 - w].fd < 0;
}

static void throw_away (conn_t *conn, int w, size_t bytes)
{
    flow_t *flow = &conn->flow[w];
    bytes += flow->used;
    flow->used = flow->mark_count = 0;
    conn->line->counts.discarded += bytes;
    flow->holed = flow->holed || bytes > 0;
}

/* Flips a bit of each byte whose turn it is among those that were just read. */
static void flip (conn_t *conn, int w, uint8_t *bytes, size_t size)
{
    flow_t *flow = &conn->flow[w];
    const ctki_chaos_way_t *plan = &conn->line->plan.way[w];
    while (flow->flip_at < flow->taken + size) {
        bytes[flow->flip_at - flow->taken] ^= (uint8_t) (1u << (draw (&conn->random) % 8));
        flow->flip_at += draw_between (&conn->random, plan->flip_lo, plan->flip_hi);
        conn->line->counts.flips++;
    }
}

/* Bytes that were read lie behind the others; they may go on after the delay. */
static void keep (conn_t *conn, int w, size_t size)
{
    flow_t *flow = &conn->flow[w];
    uint64_t due_ns = now_ns () + (uint64_t) conn->line->plan.way[w].delay_ms * NS_PER_MS;
    flip (conn, w, flow->bytes + flow->head + flow->used, size);
    flow->taken += size;
    flow->used += size;
    if (flow->mark_count < MARKS)
        flow->marks[(flow->first_mark + flow->mark_count++) % MARKS] = (mark_t){due_ns, 0};
    mark_t *last = &flow->marks[(flow->first_mark + flow->mark_count - 1) % MARKS];
    last->due_ns = due_ns;
    last->bytes += size;
}

/* Reads what there is room for. */
static void take (conn_t *conn, int w)
{
    plug_t *from = &conn->plug[w];
    flow_t *flow = &conn->flow[w];
    bool away = discards (conn, w);
    if (from->fd < 0 || flow->ended)
        return;
    if (flow->head && flow->head + flow->used > CTKI_CHAOS_HOLD_BYTES / 2) {
        memmove (flow->bytes, flow->bytes + flow->head, flow->used);
        flow->head = 0;
    }
    size_t room = CTKI_CHAOS_HOLD_BYTES - flow->head - flow->used;
    uint8_t *at = away ? conn->line->chaos->scratch : flow->bytes + flow->head + flow->used;
    if (!away && room == 0)
        return;
    ssize_t n = recv (from->fd, at, away ? CTKI_CHAOS_HOLD_BYTES : room, 0);
    if (n > 0 && away)
        throw_away (conn, w, (size_t) n);
    else if (n > 0)
        keep (conn, w, (size_t) n);
    else if (n == 0)
        flow->ended = true;
    else if (errno != EAGAIN && errno != EINTR)
        unplug (conn->line->chaos, from, true);
}

static void due_at (conn_t *conn, uint64_t ns)
{
    conn->due_ns = ns < conn->due_ns ? ns : conn->due_ns;
}

/* How many bytes have been delayed for long enough. */
static uint64_t delayed (conn_t *conn, int w, uint64_t now)
{
    const flow_t *flow = &conn->flow[w];
    uint64_t count = 0;
    if (conn->line->plan.way[w].delay_ms == 0)
        return flow->used;
    for (size_t i = 0; i < flow->mark_count; i++) {
        const mark_t *mark = &flow->marks[(flow->first_mark + i) % MARKS];
        if (mark->due_ns > now) {
            due_at (conn, mark->due_ns);
            break;
        }
        count += mark->bytes;
    }
    return count;
}

/* How many of count bytes the rate allows. What was earned is paid out in steps: else each byte would go alone. */
static uint64_t allowed (conn_t *conn, int w, uint64_t now, uint64_t count)
{
    flow_t *flow = &conn->flow[w];
    uint64_t rate = conn->line->plan.way[w].bytes_per_s, past_ns = now - flow->credit_from_ns;
    if (rate == 0)
        return count;
    if (past_ns >= STEP_MS * NS_PER_MS) {
        uint64_t most_ns = BURST_MS * NS_PER_MS;
        flow->credit = (past_ns < most_ns ? past_ns : most_ns) * rate / NS_PER_S + 1;
        flow->credit_from_ns = now;
    }
    if (flow->credit < count)
        due_at (conn, flow->credit_from_ns + STEP_MS * NS_PER_MS);
    return flow->credit < count ? flow->credit : count;
}

/* How many bytes may go on now; if not all, due_ns says when more may. */
static size_t ready (conn_t *conn, int w)
{
    uint64_t now = now_ns (), count = delayed (conn, w, now);
    if (count)
        count = allowed (conn, w, now, count);
    return (size_t) (count < conn->left ? count : conn->left);
}

/* The first bytes have gone on. */
static void gone_on (conn_t *conn, int w, size_t size)
{
    flow_t *flow = &conn->flow[w];
    conn->line->counts.passed[w] += size;
    conn->left -= conn->left == NEVER ? 0 : size;
    flow->credit -= flow->credit < size ? flow->credit : size;
    flow->used -= size;
    flow->head = flow->used ? flow->head + size : 0;
    while (size) {
        mark_t *mark = &flow->marks[flow->first_mark];
        size_t part = mark->bytes < size ? mark->bytes : size;
        size -= part;
        mark->bytes -= part;
        if (mark->bytes == 0) {
            flow->first_mark = (flow->first_mark + 1) % MARKS;
            flow->mark_count--;
        }
    }
}

/* Forwards what may go on. */
static void give (conn_t *conn, int w)
{
    plug_t *to = &conn->plug[1 - w];
    flow_t *flow = &conn->flow[w];
    if (discards (conn, w) && flow->used)
        throw_away (conn, w, 0);
    while (conn->state == SERVING && is_healthy (conn, w) && to->fd >= 0 && !flow->full) {
        size_t size = ready (conn, w);
        if (size == 0)
            return;
        ssize_t n = send (to->fd, flow->bytes + flow->head, size, MSG_NOSIGNAL);
        if (n > 0)
            gone_on (conn, w, (size_t) n);
        else if (errno == EAGAIN)
            flow->full = true;
        else if (errno != EINTR)
            unplug (conn->line->chaos, to, true);
    }
}

/* ---- connections */

static void finish (conn_t *conn)
{
    for (int side = 0; side < 2; side++)
        if (conn->plug[side].fd >= 0)
            (void) shutdown (conn->plug[side].fd, SHUT_WR);
    conn->state = FINISHING;
}

static void end_now (conn_t *conn, ctki_chaos_end_t end)
{
    if (end == CTKI_CHAOS_RST) {
        conn->line->counts.resets++;
        drop (conn, true);
        return;
    }
    conn->line->counts.fins++;
    finish (conn);
}

/* One side is gone, or has said its last: the other hears of it, unless that way is not healthy. */
static void pass_end (conn_t *conn, int w)
{
    flow_t *flow = &conn->flow[w];
    bool gone = conn->plug[w].fd < 0;
    if (!is_healthy (conn, w) || (!gone && !flow->ended))
        return;
    if (gone || flow->holed) {
        drop (conn, true);
        return;
    }
    if (flow->used == 0 && !flow->end_passed && conn->state == SERVING) {
        (void) shutdown (conn->plug[1 - w].fd, SHUT_WR);
        flow->end_passed = true;
    }
}

static uint32_t wanted (const conn_t *conn, int side)
{
    const flow_t *in = &conn->flow[side], *out = &conn->flow[1 - side];
    if (conn->state == CONNECTING && side == 1)
        return EPOLLOUT;
    if (conn->state != SERVING && conn->state != CONNECTING)
        return EPOLLIN;
    bool room = discards (conn, side) || in->used < CTKI_CHAOS_HOLD_BYTES;
    return (uint32_t) (!in->ended && room ? EPOLLIN : 0)
           | (uint32_t) (out->full && is_healthy (conn, 1 - side) ? EPOLLOUT : 0);
}

/* After anything happened: is it over, and what is it waiting for? */
static void settle (conn_t *conn)
{
    if (conn->state == SERVING && conn->left == 0)
        end_now (conn, conn->line->plan.end);
    for (int w = 0; w < 2 && (conn->state == SERVING || conn->state == CONNECTING); w++)
        pass_end (conn, w);
    if (conn->state == DEAD)
        return;
    bool both_said = conn->flow[0].end_passed && conn->flow[1].end_passed;
    if (both_said || (conn->plug[0].fd < 0 && conn->plug[1].fd < 0)) {
        drop (conn, false);
        return;
    }
    for (int side = 0; side < 2; side++)
        watch (conn->line->chaos, &conn->plug[side], wanted (conn, side));
}

/* Everything that can be done without an event. */
static void pump (conn_t *conn)
{
    conn->due_ns = NEVER;
    for (int w = 0; w < 2 && (conn->state == SERVING || conn->state == CONNECTING); w++) {
        take (conn, w);
        give (conn, w);
    }
    settle (conn);
}

/* What the plan says is drawn for a connection, at its start or when the plan changes. */
static void plan_for (conn_t *conn)
{
    const ctki_chaos_plan_t *plan = &conn->line->plan;
    conn->left = draw_between (&conn->random, plan->end_lo, plan->end_hi);
    for (int w = 0; w < 2; w++) {
        flow_t *flow = &conn->flow[w];
        uint64_t step = draw_between (&conn->random, plan->way[w].flip_lo, plan->way[w].flip_hi);
        flow->flip_at = step == NEVER ? NEVER : flow->taken + step;
        flow->credit = 0;
        flow->credit_from_ns = now_ns ();
    }
}

static void dial (conn_t *conn)
{
    struct sockaddr_in address = loopback (conn->line->target);
    plug_t *plug = &conn->plug[1];
    plug->fd = new_socket ();
    send_at_once (plug->fd);
    conn->state = CONNECTING;
    if (connect (plug->fd, (const struct sockaddr *) &address, sizeof address) != 0 && errno != EINPROGRESS)
        unplug (conn->line->chaos, plug, true);
}

static void answer_garbage (conn_t *conn)
{
    uint8_t bytes[GARBAGE_BYTES];
    size_t size = (size_t) draw_between (&conn->random, 1, GARBAGE_BYTES);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t) draw (&conn->random);
    (void) !send (conn->plug[0].fd, bytes, size, MSG_NOSIGNAL);
    conn->line->counts.garbage++;
    finish (conn);
}

/* Says what a server of another kind says first. */
static void greet_wrongly (conn_t *conn)
{
    static const char banner[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
    conn->http = conn->line->counts.wrongs++ % 2;
    if (!conn->http)
        (void) !send (conn->plug[0].fd, banner, sizeof banner - 1, MSG_NOSIGNAL);
    conn->state = ASKED;
}

/* And what it says to a greeting that it does not understand. */
static void answer_wrongly (conn_t *conn)
{
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    static const char ssh[] = "Protocol mismatch.\r\n";
    const char *text = conn->http ? http : ssh;
    (void) !send (conn->plug[0].fd, text, strlen (text), MSG_NOSIGNAL);
    finish (conn);
}

static void begin (line_t *line, int fd)
{
    conn_t *conn = calloc (1, sizeof *conn);
    must (conn != NULL, "calloc");
    conn->line = line;
    conn->random = line->chaos->seed ^ (uint64_t) (line->number + 1) << 48 ^ ++line->counts.connections << 8;
    for (int side = 0; side < 2; side++)
        conn->plug[side] = (plug_t){.fd = side == 0 ? fd : -1, .conn = conn, .side = side};
    conn->next = line->conns;
    line->conns = conn;
    line->counts.open++;
    send_at_once (fd);
    plan_for (conn);
    if (line->plan.door == CTKI_CHAOS_GARBAGE)
        answer_garbage (conn);
    else if (line->plan.door == CTKI_CHAOS_WRONG)
        greet_wrongly (conn);
    else
        dial (conn);
    pump (conn);
}

/* The target has answered: or it refuses, and so do we. */
static void dialled (conn_t *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    (void) getsockopt (conn->plug[1].fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        drop (conn, true);
    else
        conn->state = SERVING;
}

/* Reads and forgets; a side that has said its last is closed. */
static void drain (conn_t *conn, plug_t *plug)
{
    ctki_chaos_t *chaos = conn->line->chaos;
    ssize_t n = recv (plug->fd, chaos->scratch, sizeof chaos->scratch, 0);
    if (n > 0 && conn->state == ASKED)
        answer_wrongly (conn);
    else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        unplug (chaos, plug, false);
}

static void happened (plug_t *plug)
{
    conn_t *conn = plug->conn;
    if (conn->state == DEAD || plug->fd < 0)
        return;
    if (conn->state == ASKED || conn->state == FINISHING)
        drain (conn, plug);
    else if (conn->state == CONNECTING && plug->side == 1)
        dialled (conn);
    conn->flow[1 - plug->side].full = false;
    if (conn->state != DEAD)
        pump (conn);
}

/* ---- doors */

/* Whether a connection that was accepted is one that only filled the queue. */
static bool is_filler (const line_t *line, const struct sockaddr_in *address)
{
    for (int i = 0; i < line->fillers; i++)
        if (port_of (line->filler[i]) == ntohs (address->sin_port))
            return true;
    return false;
}

static void accept_all (line_t *line)
{
    for (;;) {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        int fd = accept4 (line->door.fd, (struct sockaddr *) &address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            must (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED, "accept");
            if (errno == EAGAIN)
                return;
            continue;
        }
        if (is_filler (line, &address))
            (void) close (fd);
        else
            begin (line, fd);
    }
}

static void unlock_door (line_t *line)
{
    if (line->door.fd < 0)
        line->door.fd = bound (line->port);
    must (listen (line->door.fd, BACKLOG) == 0, "listen");
    accept_all (line);
    while (line->fillers)
        (void) close (line->filler[--line->fillers]);
    watch (line->chaos, &line->door, EPOLLIN);
}

/* One more connection in the queue; false: it is full. */
static bool fill_one (line_t *line)
{
    struct sockaddr_in address = loopback (line->port);
    int fd = new_socket (), error = 0;
    socklen_t size = sizeof error;
    struct pollfd item = {.fd = fd, .events = POLLOUT};
    if (connect (fd, (const struct sockaddr *) &address, sizeof address) == 0
        || (poll (&item, 1, FILL_MS) == 1 && getsockopt (fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && !error)) {
        line->filler[line->fillers++] = fd;
        return true;
    }
    (void) close (fd);
    return false;
}

/* The kernel drops each SYN for a queue that is full: nobody answers. */
static void wall_up (line_t *line)
{
    watch (line->chaos, &line->door, 0);
    must (listen (line->door.fd, 0) == 0, "listen");
    while (line->fillers < FILLERS && fill_one (line)) {
    }
    must (line->fillers < FILLERS, "the queue of a black hole is not full");
}

static void change_door (line_t *line, ctki_chaos_door_t from)
{
    ctki_chaos_door_t to = line->plan.door;
    if (from == to)
        return;
    if (from == CTKI_CHAOS_REFUSE || from == CTKI_CHAOS_BLACKHOLE)
        unlock_door (line);
    if (to == CTKI_CHAOS_REFUSE)
        unplug (line->chaos, &line->door, false);
    else if (to == CTKI_CHAOS_BLACKHOLE)
        wall_up (line);
}

/* ---- the thread */

/* Looks after connections whose time has come; returns when the next one's will. */
static uint64_t keep_time (ctki_chaos_t *chaos)
{
    uint64_t now = now_ns (), next_ns = NEVER;
    for (int i = 0; i < chaos->lines; i++) {
        for (conn_t *conn = chaos->line[i].conns, *next; conn; conn = next) {
            next = conn->next;
            if (conn->due_ns <= now)
                pump (conn);
            if (conn->state != DEAD && conn->due_ns < next_ns)
                next_ns = conn->due_ns;
        }
    }
    return next_ns;
}

static void round_of (ctki_chaos_t *chaos, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        plug_t *plug = events[i].data.ptr;
        uint64_t rings;
        if (plug->conn)
            happened (plug);
        else if (plug->line && plug->fd >= 0 && plug->events)
            accept_all (plug->line);
        else if (plug == &chaos->wake)
            (void) !read (plug->fd, &rings, sizeof rings);
    }
}

static void *run (void *arg)
{
    ctki_chaos_t *chaos = arg;
    struct epoll_event events[EVENTS];
    int timeout_ms = -1;
    for (bool stop = false; !stop;) {
        int count = epoll_wait (chaos->epoll, events, EVENTS, timeout_ms);
        (void) pthread_mutex_lock (&chaos->lock);
        round_of (chaos, events, count);
        uint64_t next_ns = keep_time (chaos), now = now_ns ();
        timeout_ms = next_ns == NEVER ? -1 : next_ns <= now ? 0 : (int) ((next_ns - now) / NS_PER_MS + 1);
        bury (chaos);
        stop = chaos->stop;
        (void) pthread_mutex_unlock (&chaos->lock);
        while (atomic_load (&chaos->callers) > 0)
            (void) sched_yield ();
    }
    return NULL;
}

static void ring (ctki_chaos_t *chaos)
{
    uint64_t one = 1;
    (void) !write (chaos->wake.fd, &one, sizeof one);
}

/* ---- the owner's calls */

static void enter (ctki_chaos_t *chaos)
{
    (void) atomic_fetch_add (&chaos->callers, 1);
    (void) pthread_mutex_lock (&chaos->lock);
    (void) atomic_fetch_sub (&chaos->callers, 1);
}

static void leave (ctki_chaos_t *chaos)
{
    (void) pthread_mutex_unlock (&chaos->lock);
}

ctki_chaos_t *ctki_chaos_start (uint64_t seed)
{
    ctki_chaos_t *chaos = calloc (1, sizeof *chaos);
    must (chaos != NULL, "calloc");
    chaos->seed = seed;
    chaos->epoll = epoll_create1 (EPOLL_CLOEXEC);
    chaos->wake = (plug_t){.fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)};
    must (chaos->epoll >= 0 && chaos->wake.fd >= 0, "epoll_create, eventfd");
    watch (chaos, &chaos->wake, EPOLLIN);
    must (pthread_mutex_init (&chaos->lock, NULL) == 0, "pthread_mutex_init");
    must (pthread_create (&chaos->thread, NULL, run, chaos) == 0, "pthread_create");
    return chaos;
}

void ctki_chaos_stop (ctki_chaos_t **chaos_p)
{
    ctki_chaos_t *chaos = chaos_p ? *chaos_p : NULL;
    if (!chaos)
        return;
    enter (chaos);
    chaos->stop = true;
    leave (chaos);
    ring (chaos);
    (void) pthread_join (chaos->thread, NULL);
    for (int i = 0; i < chaos->lines; i++) {
        line_t *line = &chaos->line[i];
        while (line->conns)
            drop (line->conns, true);
        unplug (chaos, &line->door, false);
        while (line->fillers)
            (void) close (line->filler[--line->fillers]);
        (void) close (line->holder);
    }
    bury (chaos);
    (void) close (chaos->wake.fd);
    (void) close (chaos->epoll);
    (void) pthread_mutex_destroy (&chaos->lock);
    free (chaos);
    *chaos_p = NULL;
}

int ctki_chaos_link (ctki_chaos_t *chaos, uint16_t port, uint16_t target)
{
    enter (chaos);
    must (chaos->lines < CTKI_CHAOS_LINKS_MAX, "too many links");
    int number = chaos->lines;
    line_t *line = &chaos->line[number];
    *line = (line_t){.chaos = chaos, .number = number, .target = target, .door = {.fd = -1, .line = line}};
    line->holder = bound (port);
    line->port = port_of (line->holder);
    unlock_door (line);
    chaos->lines++;
    leave (chaos);
    return number;
}

uint16_t ctki_chaos_port (ctki_chaos_t *chaos, int link)
{
    enter (chaos);
    uint16_t port = chaos->line[link].port;
    leave (chaos);
    return port;
}

void ctki_chaos_aim (ctki_chaos_t *chaos, int link, uint16_t target)
{
    enter (chaos);
    chaos->line[link].target = target;
    leave (chaos);
}

static void set_one (line_t *line, const ctki_chaos_plan_t *plan)
{
    static const ctki_chaos_plan_t nothing;
    ctki_chaos_door_t from = line->plan.door;
    line->plan = plan ? *plan : nothing;
    change_door (line, from);
    for (conn_t *conn = line->conns, *next; conn; conn = next) {
        next = conn->next;
        plan_for (conn);
        pump (conn);
    }
}

static void cut_one (line_t *line, ctki_chaos_end_t end)
{
    for (conn_t *conn = line->conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->state != SERVING && conn->state != CONNECTING)
            continue;
        end_now (conn, end);
        if (conn->state != DEAD)
            settle (conn);
    }
}

static void strand_one (line_t *line, bool stranded)
{
    for (conn_t *conn = line->conns, *next; conn; conn = next) {
        next = conn->next;
        conn->stranded = stranded;
        pump (conn);
    }
}

void ctki_chaos_set (ctki_chaos_t *chaos, int link, const ctki_chaos_plan_t *plan)
{
    enter (chaos);
    for (int i = 0; i < chaos->lines; i++)
        if (link == CTKI_CHAOS_ALL || link == i)
            set_one (&chaos->line[i], plan);
    leave (chaos);
    ring (chaos);
}

void ctki_chaos_cut (ctki_chaos_t *chaos, int link, ctki_chaos_end_t end)
{
    enter (chaos);
    for (int i = 0; i < chaos->lines; i++)
        if (link == CTKI_CHAOS_ALL || link == i)
            cut_one (&chaos->line[i], end);
    leave (chaos);
    ring (chaos);
}

static void strand (ctki_chaos_t *chaos, int link, bool stranded)
{
    enter (chaos);
    for (int i = 0; i < chaos->lines; i++)
        if (link == CTKI_CHAOS_ALL || link == i)
            strand_one (&chaos->line[i], stranded);
    leave (chaos);
    ring (chaos);
}

void ctki_chaos_strand (ctki_chaos_t *chaos, int link)
{
    strand (chaos, link, true);
}

void ctki_chaos_release (ctki_chaos_t *chaos, int link)
{
    strand (chaos, link, false);
}

static void add (ctki_chaos_counts_t *sum, const ctki_chaos_counts_t *more)
{
    sum->connections += more->connections;
    sum->open += more->open;
    sum->passed[CTKI_CHAOS_OUT] += more->passed[CTKI_CHAOS_OUT];
    sum->passed[CTKI_CHAOS_BACK] += more->passed[CTKI_CHAOS_BACK];
    sum->discarded += more->discarded;
    sum->resets += more->resets;
    sum->fins += more->fins;
    sum->flips += more->flips;
    sum->garbage += more->garbage;
    sum->wrongs += more->wrongs;
}

ctki_chaos_counts_t ctki_chaos_counts (ctki_chaos_t *chaos, int link)
{
    ctki_chaos_counts_t sum = {0};
    enter (chaos);
    for (int i = 0; i < chaos->lines; i++)
        if (link == CTKI_CHAOS_ALL || link == i)
            add (&sum, &chaos->line[i].counts);
    leave (chaos);
    return sum;
}
