/*
 * sim_sock.c - the simulated network: the sockets of src/sock.h, in virtual time,
 * and its faults.
 *
 * It does what libzmq does where the library could notice:
 *
 * - Readiness is an edge. A way that its reader found empty, or its writer found
 *   full, wakes it once; any call on the socket swallows that.
 * - A way that was full has room again when half of it was read.
 * - A message takes its time, drawn for each; none overtakes another one of its
 *   connection.
 * - When a connection ends, what is under way is lost, both ways. The bound side
 *   keeps what it has received, but for the last few at times; the connecting side
 *   loses that, too. It connects again by itself, after a while.
 * - Each connection has a number of its own. One to an inproc name that ended, or
 *   that brought the connecting side too large a part, is not made again.
 * - Across a partition nothing travels. A connection that the connecting side
 *   gives up meanwhile stays at the bound side until the partition is over.
 *
 * Pairs, monitors and inproc connections are within a process: what is sent is
 * there at once, and nothing is lost.
 *
 * Tasks run one at a time: there are no locks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/descriptors.h"
#include "sim/net.h"
#include "sim/parcel.h"
#include "sim/sched.h"
#include "src/error.h"
#include "src/mem.h"
#include "src/sys.h"

enum {
    PORTS_FIRST = 10000, /* for endpoints without one */
    PORTS_END = 60000,
    LOST_PARCELS = 2,            /* of those that were received last and not read, at most, when a connection ends */
    REDIAL_US = 10 * 1000,       /* from the end of a connection to the next try, at most, ... */
    REDIAL_US_MAX = 1000 * 1000, /* ... and the longer it takes the longer, up to this */
    TABLE = 64                   /* lists of a router's connections, by their number */
};

typedef struct conn conn_t;

/* A list of parcels, in order. */
typedef struct {
    ctki_parcel_t *head, *tail;
    int count;
} parcels_t;

/* One direction of a connection. */
typedef struct way {
    parcels_t sent;    /* under way */
    parcels_t arrived; /* not read */
    int swallowed;     /* into a connection of which only the bound side is left */
    int limit;         /* of all; 0: none */
    bool full;         /* its writer found it so, and waits until half of it is read */
    bool idle;         /* its reader found it empty; else it is in the reader's ring */
    conn_t *conn;
    int to;               /* conn->end[to] reads it */
    int64_t last_us;      /* when the last one that was sent arrives */
    ctki_alarm_t arrival; /* of the first one under way */
    struct way *ring_next;
} way_t;

/* A bound name. */
typedef struct door {
    struct door *next;
    ctki_sock_t *sock;
    ctki_name_t name;
} door_t;

/* A connection; and a pair; and what a dealer's monitor hears. Each end that has
 * it and each ring that one of its ways is in holds it. */
struct conn {
    unsigned refs;
    ctki_sock_t *end[2]; /* the bound one; the one that connected, NULL: it has given up. Gone once it is over */
    way_t way[2];        /* to end[0], to end[1] */
    uint64_t rid;
    bool local; /* within a process */
    bool over;
    bool parted; /* by a partition */
    const door_t *door;
    ctki_alarm_t reset;
    conn_t *table_next;
};

typedef enum { ROUTER, DEALER, PAIR, MONITOR } kind_t;

struct ctki_sock {
    kind_t kind;
    int side; /* which end of its connections it is */
    ctalk_pid_t owner;
    int send_frames, receive_frames;
    int64_t frame_bytes; /* 0: no limit */
    int fd;
    bool dry; /* the last call has found nothing to read */
    bool dialled, given_up;
    ctki_name_t name; /* dialled */
    int64_t since_us; /* when it began to be without connection */
    ctki_alarm_t dial;
    conn_t *watch;                /* to the monitor */
    conn_t *conn;                 /* but a router's */
    conn_t *table[TABLE];         /* a router's, by number */
    way_t *ring_head, *ring_tail; /* ways with something to read, in turn */
    ctki_sock_t *prev, *next;     /* of all, by age */
};

/* A set of pids. */
typedef struct pids {
    struct pids *next;
    size_t count;
    ctalk_pid_t pid[];
} pids_t;

typedef struct host {
    struct host *next;
    uint32_t number;
    char name[];
} host_t;

struct ctki_net {
    unsigned refs;
    ctki_sock_t *first, *last;
    door_t *doors;
    uint32_t last_rid;
    unsigned next_port;
    pids_t *partitions;
    pids_t *dead; /* servers that crash, one in each */
    host_t *hosts;
};

static ctki_net_t *net_now (void)
{
    ctki_net_t *net = ctki_sim_net ();
    CTKI_ASSERT (net);
    return net;
}

/* What an alarm is a part of. */
#define OF_ALARM(type, member, alarm) ((type *) (void *) &((char *) (alarm))[-(ptrdiff_t) offsetof (type, member)])

/* ---- the network */

ctki_net_t *ctki_net_new (void)
{
    ctki_net_t *net = calloc (1, sizeof *net);
    if (net)
        net->next_port = PORTS_FIRST;
    return net;
}

static void drop_sets (pids_t **sets)
{
    for (pids_t *set; (set = *sets);) {
        *sets = set->next;
        free (set);
    }
}

void ctki_net_destroy (ctki_net_t **net_p)
{
    ctki_net_t *net = *net_p;
    CTKI_ASSERT (!net->first && !net->doors);
    drop_sets (&net->partitions);
    drop_sets (&net->dead);
    for (host_t *host; (host = net->hosts);) {
        net->hosts = host->next;
        free (host);
    }
    free (net);
    *net_p = NULL;
}

bool ctki_net_in_use (const ctki_net_t *net)
{
    return net->refs > 0;
}

uint32_t ctki_net_host (const char *name)
{
    ctki_net_t *net = net_now ();
    for (const host_t *host = net->hosts; host; host = host->next)
        if (strcmp (host->name, name) == 0)
            return host->number;
    size_t length = strlen (name);
    host_t *host = malloc (sizeof *host + length + 1);
    CTKI_ASSERT (host);
    host->next = net->hosts;
    host->number = net->hosts ? net->hosts->number + 1 : 1;
    memcpy (host->name, name, length + 1);
    net->hosts = host;
    return host->number;
}

int ctki_context_ref (int io_threads, ctalk_error_t *error)
{
    (void) io_threads;
    if (!ctki_task_self ())
        return ctki_error_set (error, EPERM, "in the simulator a server is made by a thread of ctalk_sim_run ()");
    net_now ()->refs++;
    return 0;
}

void ctki_context_unref (void)
{
    ctki_net_t *net = net_now ();
    CTKI_ASSERT (net->refs > 0);
    net->refs--;
    CTKI_ASSERT (net->refs > 0 || !net->first);
}

static bool holds (const pids_t *set, ctalk_pid_t pid)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->pid[i] == pid)
            return true;
    return false;
}

static bool is_parted (const ctki_net_t *net, ctalk_pid_t a, ctalk_pid_t b)
{
    for (const pids_t *set = net->partitions; set; set = set->next)
        if (holds (set, a) != holds (set, b))
            return true;
    return false;
}

static bool is_dead (const ctki_net_t *net, ctalk_pid_t pid)
{
    for (const pids_t *set = net->dead; set; set = set->next)
        if (holds (set, pid))
            return true;
    return false;
}

static int64_t draw_latency (void)
{
    const ctalk_sim_network_t *network = ctki_sim_network ();
    int min = network->latency_us_min, max = network->latency_us_max;
    return min + (int64_t) ctki_draw_below (CTKI_OF_NETWORK, (uint64_t) (max - min) + 1);
}

/* ---- parcels */

static void add (parcels_t *parcels, ctki_parcel_t *parcel)
{
    parcel->next = NULL;
    *(parcels->tail ? &parcels->tail->next : &parcels->head) = parcel;
    parcels->tail = parcel;
    parcels->count++;
}

static ctki_parcel_t *take_first (parcels_t *parcels)
{
    ctki_parcel_t *parcel = parcels->head;
    if (!parcel)
        return NULL;
    parcels->head = parcel->next;
    if (!parcels->head)
        parcels->tail = NULL;
    parcels->count--;
    parcel->next = NULL;
    return parcel;
}

/* Drops all but the first so many. */
static void keep (parcels_t *parcels, int count)
{
    ctki_parcel_t **link = &parcels->head;
    parcels->tail = NULL;
    for (int i = 0; i < count && *link; i++) {
        parcels->tail = *link;
        link = &parcels->tail->next;
    }
    ctki_parcel_t *rest = *link;
    *link = NULL;
    parcels->count = CTKI_MIN (parcels->count, count);
    ctki_parcels_drop (rest);
}

/* ---- references */

static void release_times (conn_t *conn, unsigned times)
{
    conn->refs -= times;
    if (conn->refs > 0)
        return;
    for (int i = 0; i < 2; i++) {
        keep (&conn->way[i].sent, 0);
        keep (&conn->way[i].arrived, 0);
    }
    free (conn);
}

static void release_conn (conn_t *conn)
{
    release_times (conn, 1);
}

/* Held twice: once for each end. */
static conn_t *new_conn (ctki_sock_t *bound, ctki_sock_t *other, bool local)
{
    conn_t *conn = calloc (1, sizeof *conn);
    CTKI_ASSERT (conn);
    conn->refs = 2;
    conn->end[0] = bound;
    conn->end[1] = other;
    conn->local = local;
    for (int i = 0; i < 2; i++) {
        conn->way[i].idle = true;
        conn->way[i].conn = conn;
        conn->way[i].to = i;
    }
    return conn;
}

/* ---- edges and rings */

static void signal_sock (const ctki_sock_t *sock)
{
    if (ctki_fd_count (sock->fd) == 0)
        ctki_fd_raise (sock->fd, 1);
}

/* A call of the owner: it swallows the edge, whatever it is for. */
static void enter (ctki_sock_t *sock)
{
    sock->dry = false;
    ctki_fd_take (sock->fd);
}

static void ring_add (ctki_sock_t *sock, way_t *way)
{
    way->ring_next = NULL;
    *(sock->ring_tail ? &sock->ring_tail->ring_next : &sock->ring_head) = way;
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

/* ---- ways */

static void arrive (way_t *way, ctki_parcel_t *parcel)
{
    ctki_sock_t *reader = way->conn->end[way->to];
    add (&way->arrived, parcel);
    if (!way->idle)
        return;
    way->idle = false;
    way->conn->refs++;
    ring_add (reader, way);
    signal_sock (reader);
}

static void note_arrival (const way_t *way, const ctki_parcel_t *parcel)
{
    const conn_t *conn = way->conn;
    size_t bytes = 0;
    ctki_sim_mix (conn->rid << 1 | (unsigned) way->to);
    for (int i = 0; i < parcel->count; i++) {
        bytes += parcel->part[i].size;
        ctki_sim_mix_bytes (parcel->part[i].data, parcel->part[i].size);
    }
    ctki_sim_stats ()->messages++;
    ctki_sim_stats ()->bytes += bytes;
    if (ctki_sim_is_traced ())
        ctki_sim_trace ("message of %zu bytes from %d to %d, connection %llu", bytes,
                        (int) conn->end[1 - way->to]->owner, (int) conn->end[way->to]->owner,
                        (unsigned long long) conn->rid);
}

static void await_arrival (way_t *way)
{
    if (way->sent.head && !way->conn->parted)
        ctki_alarm_set (&way->arrival, way->sent.head->at_us);
}

static void on_arrival (ctki_alarm_t *alarm)
{
    way_t *way = OF_ALARM (way_t, arrival, alarm);
    ctki_sim_mix ((uint64_t) ctki_sim_now_us ());
    while (way->sent.head && way->sent.head->at_us <= ctki_sim_now_us ()) {
        ctki_parcel_t *parcel = take_first (&way->sent);
        note_arrival (way, parcel);
        arrive (way, parcel);
    }
    await_arrival (way);
}

static void set_out (way_t *way, ctki_parcel_t *parcel)
{
    way->last_us = parcel->at_us = CTKI_MAX (way->last_us, ctki_sim_now_us () + draw_latency ());
    add (&way->sent, parcel);
    if (way->sent.head == parcel)
        await_arrival (way);
}

/* Whoever hears that there is no room is woken later. */
static bool has_room (way_t *way)
{
    way->full |= way->limit && way->sent.count + way->arrived.count + way->swallowed >= way->limit;
    return !way->full;
}

/* 0; or an errno: EMSGSIZE: the other side will end the connection. */
static int put (way_t *way, const ctki_part_t *parts, int count)
{
    const ctki_sock_t *reader = way->conn->end[way->to];
    if (!has_room (way))
        return EAGAIN;
    if (!reader) {
        way->swallowed++;
        return 0;
    }
    if (!way->conn->local && ctki_parts_exceed (parts, count, reader->frame_bytes))
        return EMSGSIZE;
    ctki_parcel_t *parcel = ctki_parcel_pack (parts, count);
    if (!parcel)
        return ENOMEM;
    if (way->conn->local)
        arrive (way, parcel);
    else
        set_out (way, parcel);
    return 0;
}

/* No more comes this way; so many of what has arrived stay. */
static void shut (way_t *way, int kept)
{
    int before = way->sent.count + way->arrived.count;
    ctki_alarm_unset (&way->arrival);
    keep (&way->sent, 0);
    keep (&way->arrived, kept);
    if (!way->conn->local)
        ctki_sim_stats ()->lost += (uint64_t) (before - way->arrived.count);
}

/* ---- connections */

static conn_t **table_of (ctki_sock_t *router, uint64_t rid)
{
    return &router->table[rid % TABLE];
}

static void attach (ctki_sock_t *sock, conn_t *conn)
{
    if (sock->kind == ROUTER) {
        conn_t **list = table_of (sock, conn->rid);
        conn->table_next = *list;
        *list = conn;
    } else
        sock->conn = conn;
    signal_sock (sock);
}

static void detach (ctki_sock_t *sock, conn_t *conn)
{
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
}

static void tell (const ctki_sock_t *dealer, const conn_t *conn, ctki_link_t event)
{
    if (!dealer->watch || conn->local)
        return;
    ctki_parcel_t *parcel = ctki_parcel_event (event);
    CTKI_ASSERT (parcel);
    arrive (&dealer->watch->way[0], parcel);
}

static void note_conn (const conn_t *conn, const char *what)
{
    if (conn->local)
        return;
    ctki_sim_mix (conn->rid);
    ctki_sim_mix ((uint64_t) what[0]);
    if (ctki_sim_is_traced ())
        ctki_sim_trace ("connection %llu from %d to %d %s", (unsigned long long) conn->rid,
                        conn->end[1] ? (int) conn->end[1]->owner : -1, (int) conn->end[0]->owner, what);
}

static void end_conn (conn_t *conn);

static void on_reset (ctki_alarm_t *alarm)
{
    conn_t *conn = OF_ALARM (conn_t, reset, alarm);
    ctki_sim_stats ()->resets++;
    end_conn (conn);
}

/* On average in 1 / resets_per_second. */
static void await_reset (conn_t *conn)
{
    double rate = ctki_sim_network ()->resets_per_second;
    ctki_alarm_unset (&conn->reset);
    if (rate <= 0 || conn->local)
        return;
    conn->reset.ring = on_reset;
    ctki_alarm_set (&conn->reset,
                    ctki_sim_now_us () + (int64_t) ctki_draw_below (CTKI_OF_NETWORK, (uint64_t) (2e6 / rate) + 1));
}

static void make_conn (ctki_sock_t *dealer, const door_t *door)
{
    ctki_sock_t *router = door->sock;
    ctki_net_t *net = net_now ();
    conn_t *conn = new_conn (router, dealer, door->name.inproc);
    conn->door = door;
    conn->rid = UINT64_C (1) << 32 | ++net->last_rid;
    conn->way[0].limit = dealer->send_frames + router->receive_frames;
    conn->way[1].limit = router->send_frames + dealer->receive_frames;
    conn->way[0].arrival.ring = conn->way[1].arrival.ring = on_arrival;
    attach (router, conn);
    attach (dealer, conn);
    tell (dealer, conn, CTKI_LINK_UP);
    note_conn (conn, "is made");
    ctki_sim_stats ()->connections++;
    await_reset (conn);
}

static const door_t *find_door (const ctki_name_t *name)
{
    for (const door_t *door = net_now ()->doors; door; door = door->next)
        if (ctki_name_leads_to (name, &door->name))
            return door;
    return NULL;
}

/* A try to connect. Another one follows when somebody is bound there, and when a
 * partition is over. */
static void on_dial (ctki_alarm_t *alarm)
{
    ctki_sock_t *dealer = OF_ALARM (ctki_sock_t, dial, alarm);
    const ctki_net_t *net = net_now ();
    const door_t *door = find_door (&dealer->name);
    if (door && !is_dead (net, dealer->owner) && !is_parted (net, dealer->owner, door->sock->owner))
        make_conn (dealer, door);
}

static bool seeks (const ctki_sock_t *dealer)
{
    return dealer->dialled && !dealer->conn && !dealer->given_up;
}

static void dial_again (ctki_sock_t *dealer)
{
    int64_t now_us = ctki_sim_now_us ();
    int64_t most_us = CTKI_MIN (now_us - dealer->since_us + REDIAL_US, (int64_t) REDIAL_US_MAX);
    if (seeks (dealer) && dealer->dial.place == 0)
        ctki_alarm_set (&dealer->dial,
                        now_us + draw_latency () + (int64_t) ctki_draw_below (CTKI_OF_NETWORK, (uint64_t) most_us));
}

static void all_dial_again (const ctki_net_t *net)
{
    for (ctki_sock_t *sock = net->first; sock; sock = sock->next)
        dial_again (sock);
}

/* What the bound side had received is still read. */
static void shut_ways (conn_t *conn)
{
    bool loses = !conn->local;
    int there = conn->way[0].arrived.count;
    int lost = loses ? (int) ctki_draw_below (CTKI_OF_NETWORK, (uint64_t) CTKI_MIN (there, LOST_PARCELS) + 1) : 0;
    shut (&conn->way[0], there - lost);
    shut (&conn->way[1], loses ? 0 : conn->way[1].arrived.count);
}

/* The connecting side has no connection any more. */
static void leave_dealer (conn_t *conn)
{
    ctki_sock_t *dealer = conn->end[1];
    detach (dealer, conn);
    if (dealer->kind != DEALER || conn->end[0]->kind != ROUTER || !dealer->dialled)
        return;
    dealer->given_up |= conn->local;
    dealer->since_us = ctki_sim_now_us ();
    tell (dealer, conn, CTKI_LINK_DOWN);
    dial_again (dealer);
}

/* Ends a connection, a pair or a watch. */
static void end_conn (conn_t *conn)
{
    if (conn->over)
        return;
    note_conn (conn, "ends");
    conn->over = true;
    ctki_alarm_unset (&conn->reset);
    detach (conn->end[0], conn);
    if (conn->end[1])
        leave_dealer (conn);
    shut_ways (conn);
    release_times (conn, conn->end[1] ? 2 : 1); /* one for each end */
}

/* By the connecting side: across a partition the other one does not hear of it. */
static void hang_up (conn_t *conn)
{
    if (!conn->parted) {
        end_conn (conn);
        return;
    }
    note_conn (conn, "is given up");
    leave_dealer (conn);
    conn->end[1] = NULL;
    shut_ways (conn);
    release_conn (conn);
}

/* The reader of a way does not take what its writer sent: it breaks off. */
static void break_off (conn_t *conn, int reader)
{
    if (reader == 1)
        conn->end[1]->given_up = true;
    end_conn (conn);
}

static void stop_dialling (ctki_sock_t *dealer)
{
    ctki_alarm_unset (&dealer->dial);
    dealer->dialled = dealer->given_up = false;
    if (dealer->conn)
        hang_up (dealer->conn);
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
    for (door_t **link = &net_now ()->doors; *link;) {
        if ((*link)->sock == sock && (!name || strcmp ((*link)->name.text, name) == 0))
            close_door (link);
        else
            link = &(*link)->next;
    }
}

/* ---- sockets */

static ctki_sock_t *open_sock (kind_t kind, const ctki_sock_options_t *options)
{
    ctki_net_t *net = net_now ();
    ctki_sock_t *sock = ctki_alloc_zero (sizeof *sock);
    if (!sock)
        return NULL;
    CTKI_ASSERT (net->refs > 0);
    sock->kind = kind;
    sock->fd = ctki_fd_new ();
    sock->dial.ring = on_dial;
    if (options) {
        sock->owner = options->owner;
        sock->send_frames = options->send_frames;
        sock->receive_frames = options->receive_frames;
        sock->frame_bytes = options->frame_bytes;
    }
    sock->prev = net->last;
    *(net->last ? &net->last->next : &net->first) = sock;
    net->last = sock;
    return sock;
}

ctki_sock_t *ctki_sock_router (const ctki_sock_options_t *options)
{
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
        ctki_sock_close (&ends[0]);
        errno = ENOMEM;
        return -1;
    }
    ends[1]->side = 1;
    conn_t *conn = new_conn (ends[0], ends[1], true);
    attach (ends[0], conn);
    attach (ends[1], conn);
    return 0;
}

/* What it did not read is dropped. */
static void empty (ctki_sock_t *sock)
{
    for (way_t *way; (way = ring_take (sock));) {
        shut (way, 0);
        release_conn (way->conn);
    }
}

void ctki_sock_close (ctki_sock_t **sock_p)
{
    ctki_sock_t *sock = *sock_p;
    ctki_net_t *net = net_now ();
    if (!sock)
        return;
    *sock_p = NULL;
    if (sock->watch) /* no word of what follows */
        end_conn (sock->watch);
    close_doors (sock, NULL);
    if (sock->dialled)
        stop_dialling (sock);
    else if (sock->conn)
        end_conn (sock->conn);
    empty (sock);
    *(sock->prev ? &sock->prev->next : &net->first) = sock->next;
    *(sock->next ? &sock->next->prev : &net->last) = sock->prev;
    ctki_fd_free (sock->fd);
    ctki_free (sock);
}

/* ---- names */

static int choose_port (ctki_name_t *name)
{
    ctki_net_t *net = net_now ();
    while (net->next_port < PORTS_END) {
        ctki_name_set_port (name, net->next_port++);
        if (!find_door (name))
            return 0;
    }
    errno = EADDRINUSE;
    return -1;
}

int ctki_sock_bind (ctki_sock_t *sock, const char *endpoint, char *bound, size_t size)
{
    ctki_name_t name;
    ctki_net_t *net = net_now ();
    CTKI_ASSERT (sock->kind == ROUTER);
    if (ctki_name_read (&name, endpoint, true) || (name.tcp && name.port == 0 && choose_port (&name)))
        return -1;
    if (find_door (&name)) {
        errno = EADDRINUSE;
        return -1;
    }
    door_t *door = malloc (sizeof *door);
    CTKI_ASSERT (door);
    *door = (door_t){.next = net->doors, .sock = sock, .name = name};
    net->doors = door;
    all_dial_again (net);
    snprintf (bound, size, "%s", name.text);
    return 0;
}

void ctki_sock_unbind (ctki_sock_t *sock, const char *bound, int wait_ms)
{
    (void) wait_ms;
    close_doors (sock, bound);
}

int ctki_sock_connect (ctki_sock_t *sock, const char *endpoint)
{
    CTKI_ASSERT (sock->kind == DEALER && !sock->dialled);
    if (ctki_name_read (&sock->name, endpoint, false))
        return -1;
    const door_t *door = find_door (&sock->name);
    if (sock->name.inproc && !door) {
        errno = ECONNREFUSED;
        return -1;
    }
    sock->dialled = true;
    sock->since_us = ctki_sim_now_us ();
    if (sock->name.inproc)
        make_conn (sock, door);
    else
        ctki_alarm_set (&sock->dial, sock->since_us + draw_latency ());
    return 0;
}

int ctki_sock_disconnect (ctki_sock_t *sock, const char *endpoint)
{
    bool known = sock->dialled && strcmp (sock->name.text, endpoint) == 0;
    if (known)
        stop_dialling (sock);
    errno = ENOENT;
    return known ? 0 : -1;
}

/* ---- readiness */

int ctki_sock_fd (ctki_sock_t *sock)
{
    return sock->fd;
}

/* Ways whose parcels were lost leave the ring. */
static bool is_readable (ctki_sock_t *sock)
{
    for (way_t *way; (way = sock->ring_head);) {
        if (way->arrived.head)
            return true;
        way->idle = true;
        ring_take (sock);
        release_conn (way->conn);
    }
    return false;
}

/* A router: to one of those that are connected. */
static bool is_writable (const ctki_sock_t *sock)
{
    if (sock->conn)
        return has_room (&sock->conn->way[1 - sock->side]);
    for (int i = 0; i < TABLE; i++)
        for (conn_t *conn = sock->table[i]; conn; conn = conn->table_next)
            if (has_room (&conn->way[1 - sock->side]))
                return true;
    return false;
}

unsigned ctki_sock_events (ctki_sock_t *sock)
{
    enter (sock);
    unsigned events =
        (is_readable (sock) ? (unsigned) CTKI_READABLE : 0) | (is_writable (sock) ? (unsigned) CTKI_WRITABLE : 0);
    sock->dry = !(events & CTKI_READABLE);
    return events;
}

bool ctki_sock_is_dry (ctki_sock_t *sock)
{
    return sock->dry || !(ctki_sock_events (sock) & CTKI_READABLE);
}

/* ---- sending */

static conn_t *find_conn (ctki_sock_t *sock, uint64_t rid)
{
    conn_t *conn = sock->conn;
    if (sock->kind == ROUTER)
        for (conn = *table_of (sock, rid); conn && conn->rid != rid;)
            conn = conn->table_next;
    return conn;
}

int ctki_sock_send (ctki_sock_t *sock, uint64_t rid, const ctki_part_t *parts, int count)
{
    int code = sock->kind == ROUTER ? EHOSTUNREACH : EAGAIN, reader = 1 - sock->side;
    enter (sock);
    conn_t *conn = find_conn (sock, rid);
    if (conn)
        code = put (&conn->way[reader], parts, count);
    if (code == EMSGSIZE) {
        break_off (conn, reader);
        code = 0;
    }
    if (code == 0)
        return 0;
    errno = code;
    return -1;
}

/* ---- receiving */

/* The next parcel, the caller's from now on. NULL: none. */
static ctki_parcel_t *receive (ctki_sock_t *sock, uint64_t *rid)
{
    enter (sock);
    if (!is_readable (sock)) {
        sock->dry = true;
        errno = EAGAIN;
        return NULL;
    }
    way_t *way = ring_take (sock);
    conn_t *conn = way->conn;
    ctki_parcel_t *parcel = take_first (&way->arrived);
    bool room = way->full && way->sent.count + way->arrived.count <= way->limit / 2;
    *rid = sock->kind == ROUTER ? conn->rid : 0;
    if (room)
        way->full = false;
    if (room && !conn->over && conn->end[1 - way->to])
        signal_sock (conn->end[1 - way->to]);
    way->idle = !way->arrived.head;
    if (way->idle)
        release_conn (conn);
    else
        ring_add (sock, way);
    return parcel;
}

int ctki_sock_receive (ctki_sock_t *sock, ctki_message_t *message)
{
    message->rid = 0;
    message->count = 0;
    ctki_parcel_t *parcel = receive (sock, &message->rid);
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
    CTKI_ASSERT (dealer->kind == DEALER && !dealer->watch && !dealer->dialled);
    monitor->conn = dealer->watch = new_conn (monitor, dealer, true);
    return monitor;
}

ctki_link_t ctki_sock_monitor_next (ctki_sock_t *monitor)
{
    uint64_t rid;
    ctki_parcel_t *parcel = receive (monitor, &rid);
    ctki_link_t event = parcel ? parcel->event : CTKI_LINK_NONE;
    ctki_parcels_drop (parcel);
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
    ctki_parcel_t *parcel = receive (end, &rid);
    return parcel ? ctki_parcel_copy (parcel, data, size) : -1;
}

/* ---- faults */

/* Calls it for each connection over the network, by the age of the bound side. */
static void each_conn (const ctki_net_t *net, void (*fn) (conn_t *conn, void *arg), void *arg)
{
    for (const ctki_sock_t *sock = net->first; sock; sock = sock->next)
        for (int i = 0; sock->kind == ROUTER && i < TABLE; i++)
            for (conn_t *conn = sock->table[i], *next; conn; conn = next) {
                next = conn->table_next;
                if (!conn->local)
                    fn (conn, arg);
            }
}

static void change_reset (conn_t *conn, void *arg)
{
    (void) arg;
    await_reset (conn);
}

void ctki_net_network_changed (ctki_net_t *net)
{
    each_conn (net, change_reset, NULL);
}

/* What waited sets out now. */
static void set_out_again (way_t *way)
{
    way->last_us = ctki_sim_now_us ();
    for (ctki_parcel_t *parcel = way->sent.head; parcel; parcel = parcel->next)
        way->last_us = parcel->at_us = CTKI_MAX (way->last_us, ctki_sim_now_us () + draw_latency ());
    await_arrival (way);
}

static void part_or_join (conn_t *conn, void *arg)
{
    bool parted = conn->end[1] ? is_parted (arg, conn->end[0]->owner, conn->end[1]->owner) : conn->parted;
    if (!conn->end[1] && !((ctki_net_t *) arg)->partitions) {
        end_conn (conn);
        return;
    }
    if (parted == conn->parted)
        return;
    conn->parted = parted;
    for (int i = 0; i < 2; i++) {
        ctki_alarm_unset (&conn->way[i].arrival);
        if (!parted)
            set_out_again (&conn->way[i]);
    }
}

static void partitions_changed (ctki_net_t *net)
{
    each_conn (net, part_or_join, net);
    all_dial_again (net);
}

static bool is_set (const pids_t *set, const ctalk_pid_t *pids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!holds (set, pids[i]))
            return false;
    return set->count == count;
}

static int add_set (pids_t **sets, const ctalk_pid_t *pids, size_t count)
{
    pids_t *set = malloc (sizeof *set + count * sizeof set->pid[0]);
    if (!set)
        return -1;
    set->next = *sets;
    set->count = count;
    memcpy (set->pid, pids, count * sizeof set->pid[0]);
    *sets = set;
    return 0;
}

static int take_set (pids_t **sets, const ctalk_pid_t *pids, size_t count)
{
    for (pids_t **link = sets, *set; (set = *link); link = &set->next) {
        if (is_set (set, pids, count)) {
            *link = set->next;
            free (set);
            return 0;
        }
    }
    errno = ESRCH;
    return -1;
}

int ctalk_sim_partition (ctalk_sim_t *sim, const ctalk_pid_t *side, size_t count, bool on)
{
    ctki_net_t *net = ctki_sim_net ();
    if (!ctki_sim_is (sim) || (on && count == 0) || (count > 0 && !side)) {
        errno = EINVAL;
        return -1;
    }
    int rc = 0;
    if (on)
        rc = add_set (&net->partitions, side, count);
    else if (count == 0)
        drop_sets (&net->partitions);
    else
        rc = take_set (&net->partitions, side, count);
    ctki_sim_trace ("partition of %zu servers %s", count, on ? "begins" : "ends");
    partitions_changed (net);
    return rc;
}

typedef struct {
    ctalk_pid_t a, b;
    int count;
} pair_t;

static void reset_pair (conn_t *conn, void *arg)
{
    pair_t *pair = arg;
    if (!conn->end[1])
        return;
    ctalk_pid_t one = conn->end[0]->owner, other = conn->end[1]->owner;
    bool forth = (pair->a == CTALK_BROADCAST || pair->a == one) && (pair->b == CTALK_BROADCAST || pair->b == other);
    bool back = (pair->a == CTALK_BROADCAST || pair->a == other) && (pair->b == CTALK_BROADCAST || pair->b == one);
    if (!forth && !back)
        return;
    pair->count++;
    end_conn (conn);
}

int ctalk_sim_reset (ctalk_sim_t *sim, ctalk_pid_t a, ctalk_pid_t b)
{
    pair_t pair = {.a = a, .b = b};
    if (ctki_sim_is (sim))
        each_conn (ctki_sim_net (), reset_pair, &pair);
    return pair.count;
}

/* Its doors are closed and its connections break, in both directions. */
static void silence (ctki_net_t *net, ctalk_pid_t pid)
{
    for (ctki_sock_t *sock = net->first; sock; sock = sock->next) {
        if (sock->owner == pid && sock->kind == ROUTER)
            close_doors (sock, NULL);
        else if (sock->owner == pid && sock->conn && sock->kind == DEALER)
            end_conn (sock->conn);
    }
}

int ctalk_sim_crash (ctalk_sim_t *sim, ctalk_server_t **server_p)
{
    if (!ctki_sim_is (sim) || !ctki_task_self () || !server_p || !*server_p) {
        errno = ctki_task_self () ? EINVAL : EPERM;
        return -1;
    }
    ctki_net_t *net = ctki_sim_net ();
    ctalk_pid_t pid = ctalk_server_pid (*server_p);
    if (add_set (&net->dead, &pid, 1))
        return -1;
    ctki_sim_trace ("server %d crashes", (int) pid);
    silence (net, pid);
    int left = ctalk_server_close (server_p, 0);
    int code = errno;
    take_set (&net->dead, &pid, 1);
    all_dial_again (net);
    errno = code;
    return left;
}
