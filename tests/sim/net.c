/*
 * net.c - the network of a simulated world: what libzmq and TCP do to frames.
 *
 * A connection is FIFO each way. When it breaks, a suffix of what is under way is
 * lost in each direction; what was there already may be read by the accepting
 * side late, behind the first frames of the next connection, while the connecting
 * side throws away what it has not read when it notices (pitfalls A1, A4, A5).
 * Either end may notice the break late or never. Owns connections and packets.
 */
#include "tests/sim/sim.h"

#include <stdlib.h>

#include "src/sock.h"

enum {
    PACKET_BYTES = 512,       /* room of one that is used again */
    RECONNECT_MIN_US = 10000, /* libzmq's, doubled up to ... */
    RECONNECT_MAX_US = 1000000,
    CONNECT_TIMEOUT_US = 2000000,
    NOTICE_US = 20000,    /* an end notices a break so late at most, unless it is half-open */
    OVERTAKEN_US = 60000, /* an answer that others overtake is later by so much at most */
    TAIL_US = 150000      /* the rest of an old connection is read so late at most */
};

/* ---- packets */

uint8_t *sim_packet_part (sim_packet_t *packet, int part)
{
    uint8_t *data = (uint8_t *) (packet + 1);
    return part == 0 ? data : data + ((packet->size[0] + 7u) & ~7u);
}

static sim_packet_t *new_packet (sim_world_t *w, const ctki_part_t *parts, int count)
{
    size_t first = (parts[0].size + 7u) & ~(size_t) 7u;
    size_t need = first + (count > 1 ? parts[1].size : 0);
    sim_packet_t *packet = need <= PACKET_BYTES ? w->spare : NULL;
    if (packet)
        w->spare = packet->next;
    else {
        uint32_t room = (uint32_t) CTKI_MAX (need, (size_t) PACKET_BYTES);
        packet = malloc (sizeof *packet + room);
        CTKI_ASSERT (packet);
        packet->room = room;
    }
    packet->next = NULL;
    packet->count = count;
    for (int i = 0; i < 2; i++) {
        packet->size[i] = i < count ? (uint32_t) parts[i].size : 0;
        if (packet->size[i])
            memcpy (sim_packet_part (packet, i), parts[i].data, parts[i].size);
    }
    return packet;
}

void sim_packet_free (sim_world_t *w, sim_packet_t *packet)
{
    if (packet->room > PACKET_BYTES) {
        free (packet);
        return;
    }
    packet->next = w->spare;
    w->spare = packet;
}

/* ---- ways */

static void add (sim_way_t *way, sim_packet_t *packet)
{
    packet->next = NULL;
    if (way->tail)
        way->tail->next = packet;
    else
        way->head = packet;
    way->tail = packet;
    way->count++;
}

/* Behind those that arrive no later: others overtake it. */
static void add_late (sim_way_t *way, sim_packet_t *packet)
{
    sim_packet_t **link = &way->head;
    while (*link && (*link)->at_us <= packet->at_us)
        link = &(*link)->next;
    if (!*link) {
        add (way, packet);
        return;
    }
    packet->next = *link;
    *link = packet;
    way->count++;
}

static sim_packet_t *take (sim_way_t *way)
{
    sim_packet_t *packet = way->head;
    way->head = packet->next;
    if (!way->head)
        way->tail = NULL;
    way->count--;
    return packet;
}

/* Loses all but the first `keep`. */
static void lose (sim_world_t *w, sim_way_t *way, unsigned keep)
{
    sim_way_t kept = {.latest_us = way->latest_us, .mute = way->mute};
    while (way->head) {
        sim_packet_t *packet = take (way);
        if (kept.count < keep)
            add (&kept, packet);
        else {
            sim_packet_free (w, packet);
            sim_hit (w, SIM_SUFFIX);
        }
    }
    *way = kept;
}

static void lose_some (sim_world_t *w, sim_way_t *way)
{
    lose (w, way, (unsigned) sim_below (w, way->count + 1));
}

/* When a packet that is given to a way now arrives. */
static int64_t arrival (sim_world_t *w, sim_way_t *way, unsigned src, unsigned dst)
{
    if (w->blocked[src][dst] || way->latest_us == CTKI_FOREVER)
        return way->latest_us = CTKI_FOREVER;
    int64_t at_us = w->now_us + w->delay_us[src][dst] + (int64_t) sim_below (w, (uint64_t) w->jitter_us + 1);
    return way->latest_us = CTKI_MAX (way->latest_us, at_us);
}

static void wake_end (sim_world_t *w, const sim_conn_t *conn, bool there, int64_t at_us)
{
    if (there && conn->to)
        sim_wake (w, conn->to, SIM_ROUTER, at_us);
    else if (!there && conn->from)
        sim_wake (w, conn->from->process, SIM_SENDERS + conn->from->peer, at_us);
}

/* What stood still goes on. */
static void release (sim_world_t *w, sim_conn_t *conn, bool there)
{
    sim_way_t *way = there ? &conn->there : &conn->back;
    unsigned src = there ? conn->src : conn->dst, dst = there ? conn->dst : conn->src;
    if (way->latest_us == CTKI_FOREVER)
        way->latest_us = w->now_us;
    for (sim_packet_t *packet = way->head; packet; packet = packet->next) {
        if (packet->at_us != CTKI_FOREVER)
            continue;
        packet->at_us = arrival (w, way, src, dst);
        wake_end (w, conn, there, packet->at_us);
    }
}

/* ---- connections */

static void free_conn (sim_world_t *w, sim_conn_t *conn)
{
    lose (w, &conn->there, 0);
    lose (w, &conn->back, 0);
    free (conn);
}

static void unlist (sim_process_t *process, sim_conn_t *conn)
{
    for (sim_conn_t **link = &process->conns; *link; link = &(*link)->next) {
        if (*link == conn) {
            *link = conn->next;
            return;
        }
    }
}

/* Frees it when nobody can see it any more. */
static void free_if_over (sim_world_t *w, sim_conn_t *conn)
{
    bool seen = conn->to && (conn->there.head || w->now_us < conn->gone_us);
    if (conn->from || seen)
        return;
    if (conn->to)
        unlist (conn->to, conn);
    free_conn (w, conn);
}

/* What is read late of a connection that is over. */
static void delay_tail (sim_world_t *w, sim_conn_t *conn)
{
    if (!conn->there.head || conn->there.head->at_us == CTKI_FOREVER || !w->chaos || !sim_one_in (w, w->storm ? 1 : 2))
        return;
    int64_t late_us = (int64_t) sim_below (w, TAIL_US);
    for (sim_packet_t *packet = conn->there.head; packet; packet = packet->next)
        packet->at_us = packet->at_us == CTKI_FOREVER ? CTKI_FOREVER : packet->at_us + late_us;
    if (conn->to)
        sim_wake (w, conn->to, SIM_ROUTER, conn->there.head->at_us);
}

/* The connecting end is gone. */
static void leave (sim_world_t *w, sim_conn_t *conn)
{
    sim_sender_t *sender = conn->from;
    bool fresh = !conn->broken;
    lose (w, &conn->back, 0);
    if (fresh) {
        lose_some (w, &conn->there);
        delay_tail (w, conn);
        /* A way that is mute or blocked tells nobody; TCP finds out in the end. */
        bool quiet = conn->there.mute || w->blocked[conn->src][conn->dst];
        conn->gone_us = w->now_us + (quiet ? 10 * CTKI_S : (int64_t) sim_below (w, NOTICE_US));
    }
    conn->broken = true;
    conn->from = NULL;
    sender->conn = NULL;
    if (sender->old) { /* one old connection at most is still read */
        lose (w, &sender->old->there, 0);
        free_if_over (w, sender->old);
        sender->old = NULL;
    }
    if (conn->to && (conn->there.head || w->now_us < conn->gone_us))
        sender->old = conn;
    free_if_over (w, conn);
}

/* An old connection is going: its former sender must not know it any more. */
static void forget_old (sim_world_t *w, const sim_conn_t *conn)
{
    for (unsigned i = 0; i < SIM_PROCESSES; i++) {
        sim_sender_t *sender = w->process[i] ? w->process[i]->sender[conn->dst] : NULL;
        if (sender && sender->old == conn)
            sender->old = NULL;
    }
}

void sim_conn_break (sim_world_t *w, sim_conn_t *conn)
{
    if (conn->broken)
        return;
    SIM_TELL (w, "connection %" PRIu64 " breaks: %u there, %u back", conn->rid, conn->there.count, conn->back.count);
    conn->broken = true;
    lose_some (w, &conn->there);
    lose_some (w, &conn->back);
    delay_tail (w, conn);
    conn->gone_us = w->now_us + (int64_t) sim_below (w, NOTICE_US);
    if (conn->from) {
        conn->from->notice_us = w->now_us + (int64_t) sim_below (w, NOTICE_US);
        sim_wake (w, conn->from->process, SIM_LINKS + conn->from->peer, conn->from->notice_us);
    }
}

void sim_conns_end (sim_world_t *w, sim_process_t *process)
{
    bool silent = w->chaos && sim_one_in (w, 4); /* its machine died: nobody is told */
    while (process->conns) {
        sim_conn_t *conn = process->conns;
        process->conns = conn->next;
        conn->to = NULL;
        lose (w, &conn->there, 0);
        forget_old (w, conn);
        if (!conn->from) {
            free_conn (w, conn);
            continue;
        }
        if (conn->broken)
            continue;
        conn->broken = true;
        lose_some (w, &conn->back);
        conn->from->notice_us = silent ? CTKI_FOREVER : w->now_us + (int64_t) sim_below (w, NOTICE_US);
        sim_wake (w, conn->from->process, SIM_LINKS + conn->from->peer, conn->from->notice_us);
    }
}

void sim_way_block (sim_world_t *w, unsigned src, unsigned dst, bool on)
{
    SIM_TELL (w, "the way from %u to %u %s", src + 1, dst + 1, on ? "is cut" : "is whole again");
    w->blocked[src][dst] = on;
    if (on)
        return;
    for (unsigned i = 0; i < SIM_PROCESSES; i++) {
        for (sim_conn_t *conn = w->process[i] ? w->process[i]->conns : NULL; conn; conn = conn->next) {
            if (conn->src == src && conn->dst == dst)
                release (w, conn, true);
            if (conn->src == dst && conn->dst == src)
                release (w, conn, false);
        }
    }
}

/* ---- a sender's socket */

static void tell_event (sim_world_t *w, sim_sender_t *sender, int kind)
{
    int64_t at_us = w->now_us;
    if (sim_strikes (w, SIM_LATE_EVENT))
        at_us += (int64_t) sim_below (w, SIM_LATE_US);
    if (sender->events > 0)
        at_us = CTKI_MAX (at_us, sender->event[sender->events - 1].at_us);
    SIM_EXPECT (w, sender->events < SIM_LINK_EVENTS, "too many events of a link");
    sender->event[sender->events++] = (sim_link_event_t){.at_us = at_us, .kind = kind};
    sim_wake (w, sender->process, SIM_SENDERS + sender->peer, at_us);
}

static void connect_in (sim_world_t *w, sim_sender_t *sender, int64_t wait_us)
{
    sender->connect_us = w->now_us + wait_us;
    sim_wake (w, sender->process, SIM_LINKS + sender->peer, sender->connect_us);
}

static void try_again (sim_world_t *w, sim_sender_t *sender)
{
    connect_in (w, sender, sender->reconnect_us + (int64_t) sim_below (w, RECONNECT_MIN_US));
    sender->reconnect_us = CTKI_MIN (2 * sender->reconnect_us, (int64_t) RECONNECT_MAX_US);
}

static void make_conn (sim_world_t *w, sim_sender_t *sender, sim_process_t *to)
{
    sim_conn_t *conn = calloc (1, sizeof *conn);
    CTKI_ASSERT (conn);
    conn->rid = ++w->rids;
    conn->from = sender;
    conn->to = to;
    conn->src = sender->process->node;
    conn->dst = to->node;
    conn->gone_us = CTKI_FOREVER;
    conn->there.latest_us = conn->back.latest_us = w->now_us;
    conn->next = to->conns;
    to->conns = conn;
    if (sim_strikes (w, SIM_BLACKHOLE))
        conn->there.mute = conn->back.mute = true;
    sender->conn = conn;
    sender->notice_us = sender->connect_us = CTKI_FOREVER;
    sender->reconnect_us = RECONNECT_MIN_US;
    SIM_TELL (w, "%s connects to %u.%u: connection %" PRIu64 "%s", sim_name (sender->process), to->node + 1, to->life,
              conn->rid, conn->there.mute ? ", and nothing will pass" : "");
    tell_event (w, sender, CTKI_LINK_UP);
}

/* Who answers at the endpoint of a node. */
static sim_process_t *server_of (sim_world_t *w, unsigned node)
{
    sim_process_t *first = sim_process_at (w, node, false), *second = sim_process_at (w, node, true);
    if (!second || (first && !(w->other_address && sim_one_in (w, 2))))
        return first;
    sim_hit (w, SIM_OTHER_ADDRESS);
    return second;
}

static void connect_now (sim_world_t *w, sim_sender_t *sender)
{
    unsigned self = sender->process->node, peer = sender->peer;
    sim_process_t *to = server_of (w, peer);
    if (w->blocked[self][peer] || w->blocked[peer][self])
        connect_in (w, sender, CONNECT_TIMEOUT_US);
    else if (!to || w->now_us < w->refuse_until_us[peer])
        try_again (w, sender);
    else if (to->paused_until_us > w->now_us)
        connect_in (w, sender,
                    to->paused_until_us == CTKI_FOREVER ? CONNECT_TIMEOUT_US
                                                        : to->paused_until_us - w->now_us + w->delay_us[self][peer]);
    else if (sim_strikes (w, SIM_WRONG_SERVER)) {
        sender->connect_us = CTKI_FOREVER; /* libzmq never tries again (pitfall C1) */
        tell_event (w, sender, CTKI_LINK_REFUSED);
    } else
        make_conn (w, sender, to);
}

/* What the socket does by itself. Returns whether anything. */
bool sim_link_happen (sim_world_t *w, sim_sender_t *sender)
{
    bool did = false;
    if (w->now_us >= sender->notice_us) {
        SIM_TELL (w, "%s: connection %" PRIu64 " is gone", sim_name (sender->process), sender->conn->rid);
        sender->notice_us = CTKI_FOREVER;
        leave (w, sender->conn);
        tell_event (w, sender, CTKI_LINK_DOWN);
        try_again (w, sender);
        did = true;
    }
    if (w->now_us >= sender->connect_us) {
        sender->connect_us = CTKI_FOREVER;
        connect_now (w, sender);
        did = true;
    }
    sim_wake (w, sender->process, SIM_LINKS + sender->peer, CTKI_MIN (sender->notice_us, sender->connect_us));
    return did;
}

void sim_link_tear_down (sim_world_t *w, sim_sender_t *sender)
{
    sender->events = 0;
    sender->notice_us = sender->connect_us = CTKI_FOREVER;
    if (sender->conn)
        leave (w, sender->conn);
    if (sender->old && sim_one_in (w, 2)) { /* it is not looked at any more */
        sim_conn_t *old = sender->old;
        sender->old = NULL;
        lose (w, &old->there, 0);
        free_if_over (w, old);
    }
}

void sim_link_dial (sim_world_t *w, sim_sender_t *sender)
{
    sender->reconnect_us = RECONNECT_MIN_US;
    connect_in (w, sender, (int64_t) sim_below (w, 2000));
}

static void put_there (sim_world_t *w, sim_conn_t *conn, const ctki_part_t *parts, int count)
{
    sim_packet_t *packet = new_packet (w, parts, count);
    packet->at_us = arrival (w, &conn->there, conn->src, conn->dst);
    add (&conn->there, packet);
    if (packet->at_us != CTKI_FOREVER)
        wake_end (w, conn, true, packet->at_us);
}

int sim_link_send (sim_world_t *w, sim_sender_t *sender, const ctki_part_t *parts, int count)
{
    sim_conn_t *conn = sender->conn;
    if (!conn || sim_strikes (w, SIM_BLOCKED))
        return -1;
    if (conn->there.count >= w->room) {
        sim_hit (w, SIM_FULL);
        return -1;
    }
    if (sender->events > 0)
        sim_hit (w, SIM_SLIPPED);
    if (conn->broken || conn->there.mute || !conn->to || sim_strikes (w, SIM_LOST_FRAME))
        return 0;
    put_there (w, conn, parts, count);
    if (sim_strikes (w, SIM_DOUBLED))
        put_there (w, conn, parts, count);
    return 0;
}

sim_packet_t *sim_link_receive (sim_world_t *w, sim_sender_t *sender)
{
    sim_conn_t *conn = sender->conn;
    if (!conn || !conn->back.head)
        return NULL;
    if (conn->back.head->at_us > w->now_us) {
        sim_wake (w, sender->process, SIM_SENDERS + sender->peer, conn->back.head->at_us);
        return NULL;
    }
    return take (&conn->back);
}

/* ---- a router's socket */

static sim_conn_t *find_conn (sim_process_t *process, uint64_t rid)
{
    sim_conn_t *conn = process->conns;
    while (conn && conn->rid != rid)
        conn = conn->next;
    return conn;
}

/* 0; 1: that connection is gone; -1: no room. */
int sim_router_send (sim_world_t *w, sim_process_t *process, uint64_t rid, const uint8_t *bytes, size_t size)
{
    ctki_part_t part = {.data = bytes, .size = size};
    sim_conn_t *conn = find_conn (process, rid);
    if (!conn || w->now_us >= conn->gone_us) {
        sim_hit (w, SIM_REPLY_GONE);
        return 1;
    }
    if (sim_strikes (w, SIM_REPLY_BLOCKED))
        return -1;
    if (conn->broken || conn->back.mute || !conn->from || sim_strikes (w, SIM_LOST_REPLY))
        return 0;
    sim_packet_t *packet = new_packet (w, &part, 1);
    packet->at_us = arrival (w, &conn->back, conn->dst, conn->src);
    if (packet->at_us != CTKI_FOREVER && sim_strikes (w, SIM_OVERTAKEN)) /* by a bad way that a test made */
        packet->at_us += (int64_t) sim_below (w, OVERTAKEN_US);
    add_late (&conn->back, packet);
    if (packet->at_us != CTKI_FOREVER)
        wake_end (w, conn, false, packet->at_us);
    return 0;
}

/* Room was made: its sender may go on. */
static void unblock (sim_world_t *w, const sim_conn_t *conn)
{
    if (conn->from && conn->from->blocked)
        sim_wake (w, conn->from->process, SIM_SENDERS + conn->from->peer, w->now_us);
}

/* The next frame that is there; connections take turns. */
sim_packet_t *sim_router_receive (sim_world_t *w, sim_process_t *process, uint64_t *rid)
{
    sim_conn_t **next;
    for (sim_conn_t **link = &process->conns; *link; link = next) {
        sim_conn_t *conn = *link;
        next = &conn->next;
        if (!conn->there.head) {
            if (!conn->from && w->now_us >= conn->gone_us) {
                forget_old (w, conn);
                *link = conn->next;
                free_conn (w, conn);
                next = link;
            }
            continue;
        }
        if (conn->there.head->at_us > w->now_us)
            continue;
        if (!conn->from)
            for (sim_conn_t *other = process->conns; other; other = other->next) {
                if (other->src == conn->src && other->from && other->rid > conn->rid) {
                    sim_hit (w, SIM_OLD_TAIL);
                    break;
                }
            }
        sim_packet_t *packet = take (&conn->there);
        *rid = conn->rid;
        unblock (w, conn);
        if (conn->next) { /* to the end of the line */
            *link = conn->next;
            sim_conn_t **end = link;
            while (*end)
                end = &(*end)->next;
            *end = conn;
            conn->next = NULL;
        }
        return packet;
    }
    return NULL;
}

/* When the next frame arrives. */
int64_t sim_router_next (const sim_process_t *process)
{
    int64_t at_us = CTKI_FOREVER;
    for (const sim_conn_t *conn = process->conns; conn; conn = conn->next) {
        if (conn->there.head)
            at_us = CTKI_MIN (at_us, conn->there.head->at_us);
    }
    return at_us;
}
