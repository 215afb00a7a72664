/*
 * queue_sock.c - the sockets of src/sock.h without libzmq: queues between the
 * threads of one process. Linked in the place of src/sock.c it lets tests of
 * whole clusters run under ThreadSanitizer without any suppression, and shows
 * that sock.h is all that the library knows of libzmq.
 *
 * It does what libzmq does where the library could notice, and picks the worse
 * where libzmq leaves a choice:
 *
 * - Readiness is an edge. A way that its reader found empty, or its writer found
 *   full, wakes it once; any call on the socket swallows that.
 * - A way that was full has room again when half of it was read.
 * - When a connection ends, the bound side keeps what it has received, but for
 *   the last parcels (they were not there yet); the connecting side loses all.
 * - Parts are read where the sender has them until they are received, small ones
 *   then lie askew in memory.
 * - Each connection has a number of its own. One to an inproc name that ended, or
 *   that brought the connecting side too large a part, is not made again.
 *
 * Locks, in this order: the registry's (names, and all that begins or ends a
 * connection); a socket's; a way's. No lock is the whole process's while
 * messages travel: it would order what the library forgot to order.
 *
 * What may go wrong: without memory for a connection it ends the process, as
 * libzmq does. A dealer connects to one endpoint at a time.
 */
#include "src/sock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sim/parcel.h"
#include "src/mem.h"

enum {
    PORTS_FIRST = 10000, /* made-up ports: below those of ports.h and of the system */
    PORTS_END = 20000,
    LOST_PARCELS = 2,   /* of those that were sent last and not read, when a connection ends */
    HESITATE_SENDS = 3, /* one send in so many ... */
    HESITATE_US = 20,   /* ... hesitates at least so long */
    TABLE = 64          /* lists of a router's connections, by their number */
};

typedef ctki_parcel_t parcel_t;
typedef ctki_name_t name_t;
typedef struct conn conn_t;

/* One direction of a connection. */
typedef struct way {
    pthread_mutex_t lock;
    parcel_t *head, *tail;
    int count, limit; /* limit 0: none */
    bool over;        /* takes no more */
    bool full;        /* its writer found it so, and waits until half of it is read */
    bool idle;        /* its reader found it empty; else it is in the reader's ring, or about to be */
    conn_t *conn;
    int to; /* conn->end[to] reads it */
    struct way *ring_next;
} way_t;

/* A bound name. */
typedef struct door {
    struct door *next;
    ctki_sock_t *sock;
    name_t name;
} door_t;

/* A connection; and a pair; and what a dealer's monitor hears. Each end that has
 * it, each ring that one of its ways is in and each call that uses it holds it. */
struct conn {
    atomic_uint refs;
    ctki_sock_t *end[2]; /* the bound one, the one that connected; held */
    way_t way[2];        /* to end[0], to end[1] */
    uint64_t rid;
    bool local; /* inproc: nothing is lost, nothing too large, and no event */
    bool over;  /* under the registry's lock */
    const door_t *door;
    conn_t *table_next;
};

typedef enum { ROUTER, DEALER, PAIR, MONITOR } kind_t;

struct ctki_sock {
    atomic_uint refs; /* the owner and the connections */
    kind_t kind;
    int side; /* which end of its connections it is */
    int send_frames, receive_frames;
    int64_t frame_bytes; /* 0: no limit */
    unsigned long calls; /* under no lock of this file: ThreadSanitizer sees calls that the caller did not order */
    unsigned long sends; /* the same */
    bool dry;            /* the same; the last call has found nothing to read */

    /* Under the registry's lock. */
    bool dialled, given_up;
    name_t name;            /* dialled */
    ctki_sock_t *next_dial; /* of all that dialled */
    conn_t *watch;          /* to the monitor */

    pthread_mutex_t lock;
    int fd; /* an eventfd */
    bool signalled, closed;
    conn_t *conn;                 /* but a router's */
    conn_t *table[TABLE];         /* a router's, by number */
    way_t *ring_head, *ring_tail; /* ways with something to read, in turn */
};

/* ---- the registry, which is the context */

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    unsigned refs, sockets;
    door_t *doors;
    ctki_sock_t *dials;
    uint32_t last_rid;
    unsigned next_port;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .next_port = PORTS_FIRST};

static void before_fork (void)
{
    pthread_mutex_lock (&registry.lock);
}

static void after_fork_parent (void)
{
    pthread_mutex_unlock (&registry.lock);
}

/* The child forgets the parent's sockets, whose locks may be held by threads that it has not. */
static void after_fork_child (void)
{
    registry.refs = registry.sockets = 0;
    registry.doors = NULL;
    registry.dials = NULL;
    pthread_mutex_unlock (&registry.lock);
}

static void watch_forks (void)
{
    pthread_atfork (before_fork, after_fork_parent, after_fork_child);
}

int ctki_context_ref (int io_threads, ctalk_error_t *error)
{
    (void) io_threads;
    (void) error;
    pthread_once (&registry.once, watch_forks);
    pthread_mutex_lock (&registry.lock);
    registry.refs++;
    pthread_mutex_unlock (&registry.lock);
    return 0;
}

/* libzmq would wait for ever for a socket that is left. */
void ctki_context_unref (void)
{
    pthread_mutex_lock (&registry.lock);
    CTKI_ASSERT (registry.refs > 0);
    registry.refs--;
    CTKI_ASSERT (registry.refs > 0 || registry.sockets == 0);
    pthread_mutex_unlock (&registry.lock);
}

/* ---- references */

static void release_sock (ctki_sock_t *sock)
{
    if (atomic_fetch_sub_explicit (&sock->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy (&sock->lock);
    ctki_free (sock);
}

static conn_t *hold_conn (conn_t *conn)
{
    atomic_fetch_add_explicit (&conn->refs, 1, memory_order_relaxed);
    return conn;
}

static void release_conn (conn_t *conn)
{
    if (atomic_fetch_sub_explicit (&conn->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < 2; i++) {
        ctki_parcels_drop (conn->way[i].head);
        pthread_mutex_destroy (&conn->way[i].lock);
        release_sock (conn->end[i]);
    }
    free (conn);
}

/* Held twice: once for each end. */
static conn_t *new_conn (ctki_sock_t *bound, ctki_sock_t *other)
{
    conn_t *conn = calloc (1, sizeof *conn);
    CTKI_ASSERT (conn);
    atomic_init (&conn->refs, 2);
    conn->end[0] = bound;
    conn->end[1] = other;
    for (int i = 0; i < 2; i++) {
        atomic_fetch_add_explicit (&conn->end[i]->refs, 1, memory_order_relaxed);
        pthread_mutex_init (&conn->way[i].lock, NULL);
        conn->way[i].idle = true;
        conn->way[i].conn = conn;
        conn->way[i].to = i;
    }
    return conn;
}

/* ---- edges and rings; under the socket's lock */

static void signal_sock (ctki_sock_t *sock)
{
    const uint64_t one = 1;
    if (sock->signalled || sock->closed)
        return;
    sock->signalled = true;
    CTKI_ASSERT (write (sock->fd, &one, sizeof one) == sizeof one);
}

/* A call of the owner: it swallows the edge, whatever it is for. */
static void enter (ctki_sock_t *sock)
{
    uint64_t edges;
    sock->calls++;
    sock->dry = false;
    pthread_mutex_lock (&sock->lock);
    if (sock->signalled)
        CTKI_ASSERT (read (sock->fd, &edges, sizeof edges) == sizeof edges);
    sock->signalled = false;
}

static void leave (ctki_sock_t *sock)
{
    pthread_mutex_unlock (&sock->lock);
}

static void ring_add (ctki_sock_t *sock, way_t *way)
{
    way->ring_next = NULL;
    if (sock->ring_tail)
        sock->ring_tail->ring_next = way;
    else
        sock->ring_head = way;
    sock->ring_tail = way;
}

static way_t *ring_take (ctki_sock_t *sock)
{
    way_t *way = sock->ring_head;
    if (way) {
        sock->ring_head = way->ring_next;
        if (!sock->ring_head)
            sock->ring_tail = NULL;
    }
    return way;
}

/* From another thread: a way is not empty any more. */
static void wake_reader (way_t *way)
{
    ctki_sock_t *sock = way->conn->end[way->to];
    pthread_mutex_lock (&sock->lock);
    if (!sock->closed) {
        hold_conn (way->conn);
        ring_add (sock, way);
        signal_sock (sock);
    }
    pthread_mutex_unlock (&sock->lock);
}

static void wake_writer (way_t *way)
{
    ctki_sock_t *sock = way->conn->end[1 - way->to];
    pthread_mutex_lock (&sock->lock);
    signal_sock (sock);
    pthread_mutex_unlock (&sock->lock);
}

/* ---- ways */

/* Under the way's lock. Whoever hears that there is no room is woken later. */
static bool has_room (way_t *way)
{
    way->full |= way->limit && way->count >= way->limit;
    return !way->over && !way->full;
}

/* Under the way's lock; returns whether its reader must be woken. */
static bool append (way_t *way, parcel_t *parcel)
{
    if (way->tail)
        way->tail->next = parcel;
    else
        way->head = parcel;
    way->tail = parcel;
    way->count++;
    bool wake = way->idle;
    way->idle = false;
    return wake;
}

/* Under the way's lock. */
static parcel_t *take_first (way_t *way)
{
    parcel_t *parcel = way->head;
    if (!parcel)
        return NULL;
    way->head = parcel->next;
    if (!way->head)
        way->tail = NULL;
    way->count--;
    parcel->next = NULL;
    return parcel;
}

/* Under the way's lock: cuts off the last so many parcels. */
static parcel_t *take_last (way_t *way, int lost)
{
    parcel_t **link = &way->head;
    int kept = CTKI_MAX (way->count - lost, 0);
    way->tail = NULL;
    way->count = kept;
    for (; kept > 0; kept--) {
        way->tail = *link;
        link = &way->tail->next;
    }
    parcel_t *last = *link;
    *link = NULL;
    return last;
}

/* 0; or an errno: EMSGSIZE: the other side will end the connection. */
static int put (way_t *way, const ctki_part_t *parts, int count)
{
    bool wake = false;
    int code = 0;
    pthread_mutex_lock (&way->lock);
    if (way->over)
        code = EHOSTUNREACH;
    else if (!has_room (way))
        code = EAGAIN;
    else if (!way->conn->local && ctki_parts_exceed (parts, count, way->conn->end[way->to]->frame_bytes))
        code = EMSGSIZE;
    else {
        parcel_t *parcel = ctki_parcel_pack (parts, count);
        if (parcel)
            wake = append (way, parcel);
        else
            code = ENOMEM;
    }
    pthread_mutex_unlock (&way->lock);
    if (wake)
        wake_reader (way);
    return code;
}

static void put_event (conn_t *watch, ctki_link_t event)
{
    way_t *way = &watch->way[0];
    parcel_t *parcel = ctki_parcel_event (event);
    CTKI_ASSERT (parcel);
    pthread_mutex_lock (&way->lock);
    bool wake = append (way, parcel);
    pthread_mutex_unlock (&way->lock);
    if (wake)
        wake_reader (way);
}

/* No more comes this way, and the last so many parcels of what came are lost. */
static void shut (way_t *way, int lost)
{
    pthread_mutex_lock (&way->lock);
    way->over = true;
    parcel_t *parcels = take_last (way, lost);
    pthread_mutex_unlock (&way->lock);
    ctki_parcels_drop (parcels);
}

/* ---- connections; under the registry's lock */

static conn_t **table_of (ctki_sock_t *router, uint64_t rid)
{
    return &router->table[rid % TABLE];
}

static void attach (ctki_sock_t *sock, conn_t *conn)
{
    pthread_mutex_lock (&sock->lock);
    if (sock->kind == ROUTER) {
        conn_t **list = table_of (sock, conn->rid);
        conn->table_next = *list;
        *list = conn;
    } else
        sock->conn = conn;
    signal_sock (sock);
    pthread_mutex_unlock (&sock->lock);
}

static void detach (ctki_sock_t *sock, conn_t *conn)
{
    pthread_mutex_lock (&sock->lock);
    if (sock->kind == ROUTER) {
        conn_t **link = table_of (sock, conn->rid);
        while (*link != conn)
            link = &(*link)->table_next;
        *link = conn->table_next;
    } else if (sock->watch == conn)
        sock->watch = NULL;
    else
        sock->conn = NULL;
    signal_sock (sock);
    pthread_mutex_unlock (&sock->lock);
}

static void tell (const ctki_sock_t *dealer, const conn_t *conn, ctki_link_t event)
{
    if (dealer->watch && !conn->local)
        put_event (dealer->watch, event);
}

static void make_conn (ctki_sock_t *dealer, const door_t *door)
{
    ctki_sock_t *router = door->sock;
    conn_t *conn = new_conn (router, dealer);
    conn->door = door;
    conn->local = door->name.inproc;
    conn->rid = UINT64_C (1) << 32 | ++registry.last_rid;
    conn->way[0].limit = dealer->send_frames + (conn->local ? router->receive_frames : 0);
    conn->way[1].limit = router->send_frames + dealer->receive_frames;
    attach (router, conn);
    attach (dealer, conn);
    tell (dealer, conn, CTKI_LINK_UP);
}

static const door_t *find_door (const name_t *name)
{
    for (const door_t *door = registry.doors; door; door = door->next)
        if (ctki_name_leads_to (name, &door->name))
            return door;
    return NULL;
}

/* As libzmq's connecting: at once if somebody is bound there, else when somebody is. */
static void seek (ctki_sock_t *dealer)
{
    const door_t *door = dealer->conn || dealer->given_up ? NULL : find_door (&dealer->name);
    if (door)
        make_conn (dealer, door);
}

/* Ends a connection, a pair or a watch. A dealer seeks another one. */
static void end_conn (conn_t *conn)
{
    ctki_sock_t *other = conn->end[1];
    bool loses = other->kind == DEALER && !conn->local;
    bool linked = other->kind == DEALER && conn->end[0]->kind == ROUTER;
    if (conn->over)
        return;
    conn->over = true;
    detach (conn->end[0], conn);
    detach (other, conn);
    shut (&conn->way[0], loses ? LOST_PARCELS : 0);
    shut (&conn->way[1], loses ? INT32_MAX : 0);
    if (linked && other->dialled) {
        other->given_up |= conn->local;
        tell (other, conn, CTKI_LINK_DOWN);
        seek (other);
    }
    release_conn (conn); /* one for each end */
    release_conn (conn);
}

/* The reader of a way does not take what its writer sent: it breaks off. */
static void break_off (conn_t *conn, int reader)
{
    pthread_mutex_lock (&registry.lock);
    conn->end[1]->given_up |= reader == 1 && !conn->over;
    end_conn (conn);
    pthread_mutex_unlock (&registry.lock);
}

static void stop_dialling (ctki_sock_t *dealer)
{
    ctki_sock_t **link = &registry.dials;
    while (*link != dealer)
        link = &(*link)->next_dial;
    *link = dealer->next_dial;
    dealer->dialled = dealer->given_up = false;
    if (dealer->conn)
        end_conn (dealer->conn);
}

/* Whoever came through this door is sent away. */
static void close_door (door_t **link)
{
    door_t *door = *link;
    *link = door->next;
    for (int i = 0; i < TABLE; i++)
        for (conn_t *conn = door->sock->table[i], *next; conn; conn = next) {
            next = conn->table_next;
            if (conn->door == door)
                end_conn (conn);
        }
    free (door);
}

static void close_doors (const ctki_sock_t *sock, const char *name)
{
    for (door_t **link = &registry.doors; *link;) {
        if ((*link)->sock == sock && (!name || strcmp ((*link)->name.text, name) == 0))
            close_door (link);
        else
            link = &(*link)->next;
    }
}

/* ---- sockets */

static ctki_sock_t *open_sock (kind_t kind, const ctki_sock_options_t *options)
{
    ctki_sock_t *sock = ctki_alloc_zero (sizeof *sock);
    if (!sock)
        return NULL;
    sock->fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (sock->fd < 0) {
        int code = errno;
        ctki_free (sock);
        errno = code;
        return NULL;
    }
    atomic_init (&sock->refs, 1);
    pthread_mutex_init (&sock->lock, NULL);
    sock->kind = kind;
    if (options) {
        sock->send_frames = options->send_frames;
        sock->receive_frames = options->receive_frames;
        sock->frame_bytes = options->frame_bytes;
    }
    pthread_mutex_lock (&registry.lock);
    CTKI_ASSERT (registry.refs > 0);
    registry.sockets++;
    pthread_mutex_unlock (&registry.lock);
    return sock;
}

ctki_sock_t *ctki_sock_router (const ctki_sock_options_t *options)
{
    CTKI_ASSERT (options->domain && options->domain[0]);
    return open_sock (ROUTER, options);
}

ctki_sock_t *ctki_sock_dealer (const ctki_sock_options_t *options)
{
    ctki_sock_t *sock = open_sock (DEALER, options);
    if (sock)
        sock->side = 1;
    return sock;
}

int ctki_sock_pair (ctki_sock_t *ends[2])
{
    ends[0] = open_sock (PAIR, NULL);
    ends[1] = ends[0] ? open_sock (PAIR, NULL) : NULL;
    if (!ends[1]) {
        int code = errno;
        ctki_sock_close (&ends[0]);
        errno = code;
        return -1;
    }
    ends[1]->side = 1;
    conn_t *conn = new_conn (ends[0], ends[1]);
    conn->local = true;
    attach (ends[0], conn);
    attach (ends[1], conn);
    return 0;
}

/* What it did not read is dropped. */
static void empty (ctki_sock_t *sock)
{
    pthread_mutex_lock (&sock->lock);
    way_t *ways = sock->ring_head;
    sock->ring_head = sock->ring_tail = NULL;
    sock->closed = true;
    close (sock->fd);
    pthread_mutex_unlock (&sock->lock);
    for (way_t *next; ways; ways = next) {
        next = ways->ring_next;
        shut (ways, INT32_MAX);
        release_conn (ways->conn);
    }
}

void ctki_sock_close (ctki_sock_t **sock_p)
{
    ctki_sock_t *sock = *sock_p;
    if (!sock)
        return;
    *sock_p = NULL;
    sock->calls++;
    pthread_mutex_lock (&registry.lock);
    if (sock->watch) /* no word of what follows */
        end_conn (sock->watch);
    close_doors (sock, NULL);
    if (sock->dialled)
        stop_dialling (sock);
    if (sock->conn)
        end_conn (sock->conn);
    registry.sockets--;
    pthread_mutex_unlock (&registry.lock);
    empty (sock);
    release_sock (sock);
}

/* ---- names */

/* 0, or -1: EADDRNOTAVAIL: it is no address of this host. */
static int check_tcp (const name_t *name)
{
    if (name->any || strncmp (name->host, "127.", 4) == 0 || strcmp (name->host, "[::1]") == 0)
        return 0;
    errno = EADDRNOTAVAIL;
    return -1;
}

/* Its folder must be there, and writable. */
static int check_ipc (const name_t *name)
{
    char folder[CTKI_ENDPOINT_BYTES];
    snprintf (folder, sizeof folder, "%s", name->text + strlen ("ipc://"));
    char *slash = strrchr (folder, '/');
    if (!slash)
        return 0;
    slash[slash == folder] = 0;
    return access (folder, W_OK | X_OK);
}

static int read_name (name_t *name, const char *endpoint, bool bind)
{
    if (ctki_name_read (name, endpoint, bind))
        return -1;
    return !bind ? 0 : name->tcp ? check_tcp (name) : name->ipc ? check_ipc (name) : 0;
}

/* Under the registry's lock: a port that nobody has, and nobody was given before. */
static int choose_port (name_t *name)
{
    while (registry.next_port < PORTS_END) {
        ctki_name_set_port (name, registry.next_port++);
        if (!find_door (name))
            return 0;
    }
    errno = EADDRINUSE;
    return -1;
}

/* Under the registry's lock. */
static int open_door (ctki_sock_t *sock, name_t *name)
{
    if (name->tcp && name->port == 0 && choose_port (name))
        return -1;
    if (find_door (name)) {
        errno = EADDRINUSE;
        return -1;
    }
    door_t *door = malloc (sizeof *door);
    CTKI_ASSERT (door);
    *door = (door_t){.next = registry.doors, .sock = sock, .name = *name};
    registry.doors = door;
    for (ctki_sock_t *dealer = registry.dials; dealer; dealer = dealer->next_dial)
        seek (dealer);
    return 0;
}

int ctki_sock_bind (ctki_sock_t *sock, const char *endpoint, char *bound, size_t size)
{
    name_t name;
    sock->calls++;
    CTKI_ASSERT (sock->kind == ROUTER);
    if (read_name (&name, endpoint, true))
        return -1;
    pthread_mutex_lock (&registry.lock);
    int rc = open_door (sock, &name);
    pthread_mutex_unlock (&registry.lock);
    if (rc == 0)
        snprintf (bound, size, "%s", name.text);
    return rc;
}

void ctki_sock_unbind (ctki_sock_t *sock, const char *bound, int wait_ms)
{
    (void) wait_ms;
    sock->calls++;
    pthread_mutex_lock (&registry.lock);
    close_doors (sock, bound);
    pthread_mutex_unlock (&registry.lock);
}

int ctki_sock_connect (ctki_sock_t *sock, const char *endpoint)
{
    sock->calls++;
    CTKI_ASSERT (sock->kind == DEALER && !sock->dialled);
    if (read_name (&sock->name, endpoint, false))
        return -1;
    pthread_mutex_lock (&registry.lock);
    bool refused = sock->name.inproc && !find_door (&sock->name);
    if (!refused) {
        sock->dialled = true;
        sock->next_dial = registry.dials;
        registry.dials = sock;
        seek (sock);
    }
    pthread_mutex_unlock (&registry.lock);
    errno = ECONNREFUSED;
    return refused ? -1 : 0;
}

int ctki_sock_disconnect (ctki_sock_t *sock, const char *endpoint)
{
    sock->calls++;
    pthread_mutex_lock (&registry.lock);
    bool known = sock->dialled && strcmp (sock->name.text, endpoint) == 0;
    if (known)
        stop_dialling (sock);
    pthread_mutex_unlock (&registry.lock);
    errno = ENOENT;
    return known ? 0 : -1;
}

/* ---- readiness */

int ctki_sock_fd (ctki_sock_t *sock)
{
    return sock->fd;
}

/* Under the socket's lock. Ways whose parcels were lost leave the ring. */
static bool is_readable (ctki_sock_t *sock)
{
    for (way_t *way; (way = sock->ring_head);) {
        pthread_mutex_lock (&way->lock);
        bool some = way->head != NULL;
        way->idle = !some;
        pthread_mutex_unlock (&way->lock);
        if (some)
            return true;
        ring_take (sock);
        release_conn (way->conn);
    }
    return false;
}

static bool takes_more (conn_t *conn, int side)
{
    way_t *way = &conn->way[1 - side];
    pthread_mutex_lock (&way->lock);
    bool room = has_room (way);
    pthread_mutex_unlock (&way->lock);
    return room;
}

/* A router: to one of those that are connected. */
static bool is_writable (const ctki_sock_t *sock)
{
    if (sock->conn)
        return takes_more (sock->conn, sock->side);
    for (int i = 0; i < TABLE; i++)
        for (conn_t *conn = sock->table[i]; conn; conn = conn->table_next)
            if (takes_more (conn, sock->side))
                return true;
    return false;
}

unsigned ctki_sock_events (ctki_sock_t *sock)
{
    enter (sock);
    unsigned events =
        (is_readable (sock) ? (unsigned) CTKI_READABLE : 0) | (is_writable (sock) ? (unsigned) CTKI_WRITABLE : 0);
    leave (sock);
    sock->dry = !(events & CTKI_READABLE);
    return events;
}

bool ctki_sock_is_dry (ctki_sock_t *sock)
{
    return sock->dry || !(ctki_sock_events (sock) & CTKI_READABLE);
}

/* ---- sending */

/* What can come just before a send comes then and again: its edge is swallowed,
 * and who does not look before he sleeps hangs. */
static void hesitate (ctki_sock_t *sock)
{
    if (sock->kind != PAIR && ++sock->sends % HESITATE_SENDS == 0)
        usleep (HESITATE_US);
}

/* Where a message is to go; held. */
static conn_t *find_conn (ctki_sock_t *sock, uint64_t rid)
{
    enter (sock);
    conn_t *conn = sock->conn;
    if (sock->kind == ROUTER)
        for (conn = *table_of (sock, rid); conn && conn->rid != rid;)
            conn = conn->table_next;
    if (conn)
        hold_conn (conn);
    leave (sock);
    return conn;
}

int ctki_sock_send (ctki_sock_t *sock, uint64_t rid, const ctki_part_t *parts, int count)
{
    int code = EHOSTUNREACH, reader = 1 - sock->side;
    hesitate (sock);
    conn_t *conn = find_conn (sock, rid);
    if (conn) {
        code = put (&conn->way[reader], parts, count);
        if (code == EMSGSIZE) {
            break_off (conn, reader);
            code = 0;
        }
        release_conn (conn);
    }
    if (code == EHOSTUNREACH && sock->kind != ROUTER)
        code = EAGAIN;
    if (code == 0)
        return 0;
    errno = code;
    return -1;
}

/* ---- receiving */

/* Takes a parcel in turn; the way it came is held. NULL: none. */
static parcel_t *take (ctki_sock_t *sock, way_t **from, bool *room)
{
    for (way_t *way; (way = ring_take (sock)); release_conn (way->conn)) {
        pthread_mutex_lock (&way->lock);
        parcel_t *parcel = take_first (way);
        way->idle = !way->head;
        *room = way->full && way->count <= way->limit / 2;
        if (*room)
            way->full = false;
        bool more = !way->idle;
        pthread_mutex_unlock (&way->lock);
        if (!parcel)
            continue;
        if (more) {
            hold_conn (way->conn);
            ring_add (sock, way);
        }
        *from = way;
        return parcel;
    }
    return NULL;
}

/* The next parcel, the caller's from now on. NULL: none. */
static parcel_t *receive (ctki_sock_t *sock, uint64_t *rid)
{
    way_t *way;
    bool room = false;
    enter (sock);
    parcel_t *parcel = take (sock, &way, &room);
    leave (sock);
    if (!parcel) {
        sock->dry = true;
        errno = EAGAIN;
        return NULL;
    }
    if (room)
        wake_writer (way);
    *rid = sock->kind == ROUTER ? way->conn->rid : 0;
    release_conn (way->conn);
    return parcel;
}

int ctki_sock_receive (ctki_sock_t *sock, ctki_message_t *message)
{
    message->rid = 0;
    message->count = 0;
    parcel_t *parcel = receive (sock, &message->rid);
    if (!parcel)
        return -1;
    ctki_parcel_unpack (parcel, message);
    return 0;
}

/* ---- the monitor */

ctki_sock_t *ctki_sock_monitor (ctki_sock_t *dealer)
{
    ctki_sock_t *monitor = open_sock (MONITOR, NULL);
    if (!monitor)
        return NULL;
    dealer->calls++;
    conn_t *watch = new_conn (monitor, dealer);
    watch->local = true;
    pthread_mutex_lock (&registry.lock);
    CTKI_ASSERT (dealer->kind == DEALER && !dealer->watch && !dealer->dialled);
    monitor->conn = watch;
    dealer->watch = watch;
    pthread_mutex_unlock (&registry.lock);
    return monitor;
}

ctki_link_t ctki_sock_monitor_next (ctki_sock_t *monitor)
{
    uint64_t rid;
    parcel_t *parcel = receive (monitor, &rid);
    ctki_link_t event = parcel ? parcel->event : CTKI_LINK_NONE;
    free (parcel);
    return event;
}

/* ---- pipe */

int ctki_pipe_send (ctki_sock_t *end, const void *data, size_t size)
{
    ctki_part_t part = {.data = data, .size = size};
    return ctki_sock_send (end, 0, &part, 1);
}

int ctki_pipe_receive (ctki_sock_t *end, void *data, size_t size)
{
    uint64_t rid;
    parcel_t *parcel = receive (end, &rid);
    return parcel ? ctki_parcel_copy (parcel, data, size) : -1;
}
