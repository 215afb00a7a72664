/*
 * config.c - who is in the cluster, and the options: from a JSON text or by
 * calls, to a ctalk_config_t.
 *
 * A handle (ctalk_config_t) holds the options by value and a reference to a
 * list of servers. Lists and servers are counted: handles share a list until
 * one of them changes it, which then copies the list but not the servers; a
 * server never changes once it is in a list. So what ctalk_config_endpoint ()
 * returned stays where it is for as long as the handle lives.
 *
 * Reading collects every fault of the text with its place in it, in whatever
 * order they are found, and puts them in the order of the file at the end. No
 * step takes time quadratic in the size of the text.
 */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/json.h"
#include "config/options.h"
#include "src/error.h"
#include "src/mem.h"

enum {
    CLUSTER_BYTES = 64,    /* the longest name of a cluster */
    PUBLIC_KEY_CHARS = 40, /* 32 bytes in Z85 */
    KEY_BYTES = 32,        /* longer than any key that means something */
    PID_DIGITS = 10,       /* of INT32_MAX */
    FIRST_CAPACITY = 8     /* servers of a list that grows by calls */
};

typedef struct {
    atomic_uint refs;
    ctalk_pid_t pid;
    const ctki_endpoint_t *bind; /* own_bind, or connect */
    ctki_endpoint_t connect;
    char public_key[PUBLIC_KEY_CHARS + 1]; /* "": none. Kept for a later version */
    ctki_endpoint_t own_bind[];
} server_t;

typedef struct {
    atomic_uint refs;
    size_t count, capacity;
    server_t *servers[]; /* ascending by pid */
} list_t;

struct ctalk_config {
    list_t *list;
    ctki_options_t options;
    char cluster[CLUSTER_BYTES + 1];
    char texts[CTKI_OPTION_COUNT][CTKI_OPTION_TEXT_BYTES]; /* what ctalk_config_get () returns */
};

/* ---------------------------------------------------- servers and lists */

/* bind NULL: as connect. */
static server_t *server_new (ctalk_pid_t pid, const ctki_endpoint_t *connect, const ctki_endpoint_t *bind)
{
    server_t *server = ctki_alloc (sizeof *server + (bind ? sizeof *bind : 0));

    if (!server)
        return NULL;
    atomic_init (&server->refs, 1);
    server->pid = pid;
    server->connect = *connect;
    server->bind = &server->connect;
    server->public_key[0] = '\0';
    if (bind) {
        server->own_bind[0] = *bind;
        server->bind = server->own_bind;
    }
    return server;
}

static server_t *server_ref (server_t *server)
{
    atomic_fetch_add_explicit (&server->refs, 1, memory_order_relaxed);
    return server;
}

static void server_release (server_t *server)
{
    if (server && atomic_fetch_sub_explicit (&server->refs, 1, memory_order_acq_rel) == 1)
        ctki_free (server);
}

/* The host on which a server binds, as far as the config tells: two machines
 * may both bind "*:5001". ipc and inproc stay on one machine. */
static const char *place_of (const server_t *server)
{
    return server->connect.transport == CTKI_TCP ? server->connect.host : "";
}

static bool is_port_fixed (const ctki_endpoint_t *endpoint)
{
    return endpoint->transport != CTKI_TCP || endpoint->port != 0;
}

static bool servers_clash (const server_t *a, const server_t *b)
{
    if (is_port_fixed (&a->connect) && strcmp (a->connect.text, b->connect.text) == 0)
        return true;
    return is_port_fixed (a->bind) && strcmp (a->bind->text, b->bind->text) == 0
           && strcmp (place_of (a), place_of (b)) == 0;
}

static list_t *list_new (size_t capacity)
{
    list_t *list = ctki_alloc (sizeof *list + capacity * sizeof list->servers[0]);

    if (!list)
        return NULL;
    atomic_init (&list->refs, 1);
    list->count = 0;
    list->capacity = capacity;
    return list;
}

static void list_release (list_t *list)
{
    if (!list || atomic_fetch_sub_explicit (&list->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < list->count; i++)
        server_release (list->servers[i]);
    ctki_free (list);
}

/* Where pid stands, or would stand, in the list. */
static size_t list_position (const list_t *list, ctalk_pid_t pid)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->servers[middle]->pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Makes *list_p this handle's alone, with room for one more server. */
static bool list_make_room (list_t **list_p)
{
    list_t *old = *list_p, *list;
    bool alone = atomic_load_explicit (&old->refs, memory_order_acquire) == 1;

    if (alone && old->count < old->capacity)
        return true;
    list = list_new (CTKI_MAX (old->count * 2, (size_t) FIRST_CAPACITY));
    if (!list)
        return false;
    for (; list->count < old->count; list->count++)
        list->servers[list->count] = server_ref (old->servers[list->count]);
    *list_p = list;
    list_release (old);
    return true;
}

static void list_insert (list_t *list, server_t *server)
{
    size_t at = list_position (list, server->pid);

    CTKI_ASSERT (list->count < list->capacity);
    memmove (list->servers + at + 1, list->servers + at, (list->count - at) * sizeof list->servers[0]);
    list->servers[at] = server;
    list->count++;
}

/* -------------------------------------------------------------- the handle */

static void render_options (ctalk_config_t *config)
{
    for (int i = 0; i < CTKI_OPTION_COUNT; i++)
        ctki_option_text (&config->options, i, config->texts[i]);
}

/* Takes over the reference to list, also when it fails. */
static ctalk_config_t *config_new (list_t *list)
{
    ctalk_config_t *config = list ? ctki_alloc_zero (sizeof *config) : NULL;

    if (!config) {
        list_release (list);
        errno = ENOMEM;
        return NULL;
    }
    config->list = list;
    ctki_options_default (&config->options);
    render_options (config);
    return config;
}

ctalk_config_t *ctalk_config_new (void)
{
    return config_new (list_new (0));
}

void ctalk_config_destroy (ctalk_config_t **config_p)
{
    if (!config_p || !*config_p)
        return;
    list_release ((*config_p)->list);
    ctki_free (*config_p);
    *config_p = NULL;
}

ctalk_config_t *ctki_config_share (const ctalk_config_t *config)
{
    ctalk_config_t *copy = ctki_alloc (sizeof *copy);

    if (!copy)
        return NULL;
    *copy = *config;
    atomic_fetch_add_explicit (&copy->list->refs, 1, memory_order_relaxed);
    return copy;
}

const ctki_options_t *ctki_config_options (const ctalk_config_t *config)
{
    return &config->options;
}

const char *ctki_config_cluster (const ctalk_config_t *config)
{
    return config->cluster;
}

int ctki_config_check_options (const ctalk_config_t *config, ctalk_error_t *error)
{
    char why[CTKI_OPTION_WHY_BYTES];

    for (int i = 0; i < CTKI_OPTION_PAIRS; i++)
        if (!ctki_options_ordered (&config->options, ctki_option_pairs[i], why))
            return ctki_error_set (error, EINVAL, "%s", why);
    return 0;
}

static const server_t *server_at (const ctalk_config_t *config, size_t index)
{
    CTKI_ASSERT (index < config->list->count);
    return config->list->servers[index];
}

size_t ctki_config_count (const ctalk_config_t *config)
{
    return config->list->count;
}

ctalk_pid_t ctki_config_pid (const ctalk_config_t *config, size_t index)
{
    return server_at (config, index)->pid;
}

const ctki_endpoint_t *ctki_config_bind (const ctalk_config_t *config, size_t index)
{
    return server_at (config, index)->bind;
}

const ctki_endpoint_t *ctki_config_connect (const ctalk_config_t *config, size_t index)
{
    return &server_at (config, index)->connect;
}

long ctki_config_index (const ctalk_config_t *config, ctalk_pid_t pid)
{
    size_t at = list_position (config->list, pid);

    return at < config->list->count && config->list->servers[at]->pid == pid ? (long) at : -1;
}

/* ------------------------------------------------------- changes by calls */

/* NULL, or why the text cannot be the name of a cluster. */
static const char *refuse_cluster (const char *text, size_t size)
{
    static const char why[] = "must be a text of 1 to 64 bytes without control characters";
    char printable[CLUSTER_BYTES + 4]; /* room, so that nothing is shortened */

    if (size == 0 || size > CLUSTER_BYTES)
        return why;
    ctki_printable (printable, sizeof printable, text, size);
    return strlen (printable) == size && memcmp (printable, text, size) == 0 ? NULL : why;
}

static void set_cluster (ctalk_config_t *config, const char *text, size_t size)
{
    memcpy (config->cluster, text, size);
    config->cluster[size] = '\0';
}

int ctalk_config_set (ctalk_config_t *config, const char *option, const char *value, ctalk_error_t *error)
{
    char why[CTKI_OPTION_WHY_BYTES], name[KEY_BYTES];

    ctki_error_clear (error);
    if (!config || !option || !value)
        return ctki_error_set (error, EINVAL, "config, option and value must not be NULL");
    if (strcmp (option, "Cluster") == 0) {
        const char *refused = refuse_cluster (value, strlen (value));
        if (refused)
            return ctki_error_set (error, EINVAL, "Cluster: %s", refused);
        set_cluster (config, value, strlen (value));
        return 0;
    }
    int found = ctki_option_find (option, strlen (option));
    if (found < 0)
        return ctki_error_set (error, EINVAL, "\"%s\": no such option",
                               ctki_printable (name, sizeof name, option, strlen (option)));
    if (!ctki_option_set (&config->options, found, value, strlen (value), why))
        return ctki_error_set (error, EINVAL, "%s: %s", option, why);
    ctki_option_text (&config->options, found, config->texts[found]);
    return 0;
}

const char *ctalk_config_get (const ctalk_config_t *config, const char *option)
{
    int found = -1;

    if (config && option && strcmp (option, "Cluster") == 0)
        return config->cluster;
    if (config && option)
        found = ctki_option_find (option, strlen (option));
    if (found >= 0)
        return config->texts[found];
    errno = EINVAL;
    return NULL;
}

static const server_t *find_clash (const list_t *list, const server_t *server)
{
    for (size_t i = 0; i < list->count; i++)
        if (servers_clash (list->servers[i], server))
            return list->servers[i];
    return NULL;
}

static int insert_server (ctalk_config_t *config, server_t *server, ctalk_error_t *error)
{
    const server_t *clash = find_clash (config->list, server);

    if (clash)
        return ctki_error_set (error, EEXIST, "server %d: server %d has the endpoint %.120s", server->pid, clash->pid,
                               server->connect.text);
    if (!list_make_room (&config->list))
        return ctki_error_set (error, ENOMEM, "server %d: no memory", server->pid);
    list_insert (config->list, server);
    return 0;
}

int ctalk_config_add_server (ctalk_config_t *config, ctalk_pid_t pid, const char *endpoint, ctalk_error_t *error)
{
    ctki_endpoint_t parsed;
    char shown[64];

    ctki_error_clear (error);
    if (!config || !endpoint)
        return ctki_error_set (error, EINVAL, "config and endpoint must not be NULL");
    if (pid < 0)
        return ctki_error_set (error, EINVAL, "server %d: a pid is a number from 0 to 2147483647", pid);
    if (ctki_config_index (config, pid) >= 0)
        return ctki_error_set (error, EEXIST, "server %d: it is in the config already", pid);
    const char *why = ctki_endpoint_parse (&parsed, endpoint, strlen (endpoint), CTKI_FOR_BOTH);
    if (why)
        return ctki_error_set (error, EINVAL, "server %d: \"%s\": %s", pid,
                               ctki_printable (shown, sizeof shown, endpoint, strlen (endpoint)), why);
    server_t *server = server_new (pid, &parsed, NULL);
    if (!server)
        return ctki_error_set (error, ENOMEM, "server %d: no memory", pid);
    if (insert_server (config, server, error) == 0)
        return 0;
    int code = errno;
    server_release (server);
    errno = code;
    return -1;
}

int ctalk_config_pids (const ctalk_config_t *config, ctalk_pid_t *pids, size_t capacity)
{
    if (!config || (!pids && capacity > 0)) {
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < capacity && i < config->list->count; i++)
        pids[i] = config->list->servers[i]->pid;
    return (int) config->list->count;
}

const char *ctalk_config_endpoint (const ctalk_config_t *config, ctalk_pid_t pid)
{
    long index = config ? ctki_config_index (config, pid) : -1;

    if (index >= 0)
        return ctki_config_connect (config, (size_t) index)->text;
    errno = config ? EHOSTUNREACH : EINVAL;
    return NULL;
}

/* ---------------------------------------------------------------- faults */

typedef struct {
    ctki_json_fault_t what;
    size_t order; /* of being found, among faults at one place */
} fault_t;

typedef struct {
    fault_t *list;
    size_t count, capacity, found;
    bool first_only; /* keep but the one that comes first in the text */
    bool no_memory;
} faults_t;

static fault_t *add_fault (faults_t *faults, size_t offset)
{
    if (faults->first_only && faults->count > 0)
        return faults->list[0].what.offset <= offset ? NULL : &faults->list[0];
    if (faults->count == faults->capacity) {
        size_t capacity = CTKI_MAX (faults->capacity * 2, (size_t) 1);
        fault_t *list = ctki_realloc (faults->list, capacity * sizeof *list);
        if (!list) {
            faults->no_memory = true;
            return NULL;
        }
        faults->list = list;
        faults->capacity = capacity;
    }
    return &faults->list[faults->count++];
}

static int compare_faults (const void *a, const void *b)
{
    const fault_t *x = a, *y = b;

    if (x->what.offset != y->what.offset)
        return x->what.offset < y->what.offset ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* --------------------------------------------------------------- reading */

enum { CLUSTER, SERVERS, PID_LIST, OPTIONS, TOP_KEYS };
enum { BIND, CONNECT, PUBLIC_KEY, SERVER_KEYS };

/* One member of Servers. */
typedef struct {
    ctalk_pid_t pid; /* -1: its key is not a pid */
    int key;
    int bind_node, connect_node; /* where the endpoints stand; may be the same */
    server_t *server;            /* NULL: its value has a fault */
    bool clashed;                /* was reported already */
} entry_t;

typedef struct {
    ctki_json_t json;
    faults_t *faults;
    ctalk_config_t *config;
    entry_t *entries; /* sorted by pid, each once */
    size_t entry_count;
    bool pids_known; /* every key of Servers is a pid */
} reader_t;

static void fault_va (reader_t *reader, int node, const char *field, long index, const char *format, va_list args)
    CTKI_PRINTF (5, 0);
static void fault_at (reader_t *reader, int node, const char *format, ...) CTKI_PRINTF (3, 4);
static void fault_in (reader_t *reader, int node, long index, const char *format, ...) CTKI_PRINTF (4, 5);
static void fault_missing (reader_t *reader, int node, const char *field, const char *format, ...) CTKI_PRINTF (4, 5);

static void fault_va (reader_t *reader, int node, const char *field, long index, const char *format, va_list args)
{
    size_t offset = ctki_json_offset (&reader->json, node);
    fault_t *fault = add_fault (reader->faults, offset);

    if (!fault)
        return;
    fault->order = reader->faults->found++;
    fault->what.offset = offset;
    if (field)
        snprintf (fault->what.field, sizeof fault->what.field, "%s", field);
    else
        ctki_json_field (&reader->json, node, index, fault->what.field);
    vsnprintf (fault->what.reason, sizeof fault->what.reason, format, args);
}

/* A fault at a key or a value. */
static void fault_at (reader_t *reader, int node, const char *format, ...)
{
    va_list args;

    va_start (args, format);
    fault_va (reader, node, NULL, -1, format, args);
    va_end (args);
}

/* A fault at an element of an array. */
static void fault_in (reader_t *reader, int node, long index, const char *format, ...)
{
    va_list args;

    va_start (args, format);
    fault_va (reader, node, NULL, index, format, args);
    va_end (args);
}

/* Something that should be inside node. */
static void fault_missing (reader_t *reader, int node, const char *field, const char *format, ...)
{
    va_list args;

    va_start (args, format);
    fault_va (reader, node, field, -1, format, args);
    va_end (args);
}

static void *reader_alloc (reader_t *reader, size_t count, size_t size)
{
    void *block = ctki_alloc (count * size);

    if (!block)
        reader->faults->no_memory = true;
    return block;
}

static int find_name (const char *const *names, int count, const char *name, size_t size)
{
    for (int i = 0; i < count; i++)
        if (strlen (names[i]) == size && memcmp (names[i], name, size) == 0)
            return i;
    return -1;
}

static int find_top_key (const char *name, size_t size)
{
    static const char *const names[TOP_KEYS] = {"Cluster", "Servers", "PidList", "Options"};

    return find_name (names, TOP_KEYS, name, size);
}

static int find_server_key (const char *name, size_t size)
{
    static const char *const names[SERVER_KEYS] = {"Bind", "Connect", "PublicKey"};

    return find_name (names, SERVER_KEYS, name, size);
}

/* Finds the values of the keys that find () knows, -1 where a key is not there.
 * A key that comes again is a fault and its value is passed over; an unknown
 * one is a fault if there is a text to say about it. */
static void read_members (reader_t *reader, int object, int (*find) (const char *, size_t), int *values, int count,
                          const char *unknown)
{
    const ctki_json_t *json = &reader->json;
    char name[KEY_BYTES];

    for (int i = 0; i < count; i++)
        values[i] = -1;
    for (int key = ctki_json_first (json, object); key >= 0; key = ctki_json_next (json, key)) {
        size_t size = ctki_json_string (json, key, name, sizeof name);
        int found = size <= sizeof name ? find (name, size) : -1;
        if (found < 0 && unknown)
            fault_at (reader, key, "%s", unknown);
        else if (found >= 0 && values[found] >= 0)
            fault_at (reader, key, "this key is here twice: remove one");
        else if (found >= 0)
            values[found] = key + 1;
    }
}

static void read_cluster (reader_t *reader, int node)
{
    char name[CLUSTER_BYTES];
    const char *why;

    if (ctki_json_kind (&reader->json, node) != CTKI_JSON_STRING) {
        fault_at (reader, node, "must be a text of 1 to 64 bytes in double quotes");
        return;
    }
    size_t size = ctki_json_string (&reader->json, node, name, sizeof name);
    why = refuse_cluster (name, size);
    if (why)
        fault_at (reader, node, "%s", why);
    else
        set_cluster (reader->config, name, size);
}

/* A pid in decimal, spelled in the one way that is allowed. */
static bool parse_pid (const char *text, size_t size, ctalk_pid_t *pid)
{
    int64_t value = 0;

    if (size == 0 || size > PID_DIGITS || (size > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *pid = (ctalk_pid_t) value;
    return value <= INT32_MAX;
}

/* ----------------------------------------------------- reading a server */

static bool read_endpoint (reader_t *reader, int node, ctki_purpose_t purpose, ctki_endpoint_t *endpoint)
{
    char text[CTKI_ENDPOINT_BYTES];
    const char *why;

    if (ctki_json_kind (&reader->json, node) != CTKI_JSON_STRING) {
        fault_at (reader, node, "must be an endpoint in double quotes, as in \"10.0.0.1:5001\"");
        return false;
    }
    size_t size = ctki_json_string (&reader->json, node, text, sizeof text);
    why = size > sizeof text ? "too long for an endpoint" : ctki_endpoint_parse (endpoint, text, size, purpose);
    if (why)
        fault_at (reader, node, "%s", why);
    return !why;
}

static void copy_entry_server (reader_t *reader, entry_t *entry, const ctki_endpoint_t *connect,
                               const ctki_endpoint_t *bind)
{
    entry->server = server_new (entry->pid, connect, bind);
    if (!entry->server)
        reader->faults->no_memory = true;
}

/* Five characters of Z85 are four bytes; the value must fit into them. */
static bool is_z85 (const char *text, size_t size)
{
    static const char alphabet[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++) {
        const char *digit = text[i] != '\0' ? strchr (alphabet, text[i]) : NULL;
        if (!digit)
            return false;
        value = (i % 5 == 0 ? 0 : value * 85) + (uint64_t) (digit - alphabet);
        if (value > UINT32_MAX)
            return false;
    }
    return true;
}

static bool read_public_key (reader_t *reader, int node, char key[PUBLIC_KEY_CHARS])
{
    if (ctki_json_kind (&reader->json, node) == CTKI_JSON_STRING
        && ctki_json_string (&reader->json, node, key, PUBLIC_KEY_CHARS) == PUBLIC_KEY_CHARS
        && is_z85 (key, PUBLIC_KEY_CHARS))
        return true;
    fault_at (reader, node, "must be a public key: 40 characters of Z85 in double quotes");
    return false;
}

/* The endpoints of a server that is an object, each standing for the other
 * where that is missing. False: a fault was reported. */
static bool read_both_endpoints (reader_t *reader, entry_t *entry, int object, const int values[SERVER_KEYS],
                                 ctki_endpoint_t *connect, ctki_endpoint_t *bind)
{
    bool good = true;

    if (values[BIND] < 0 && values[CONNECT] < 0) {
        fault_at (reader, object, "needs \"Bind\" or \"Connect\" or both");
        return false;
    }
    if (values[BIND] >= 0)
        good = read_endpoint (reader, values[BIND], CTKI_FOR_BIND, bind);
    if (values[CONNECT] >= 0)
        good = read_endpoint (reader, values[CONNECT], CTKI_FOR_CONNECT, connect) && good;
    if (!good)
        return false;
    entry->bind_node = values[BIND] >= 0 ? values[BIND] : values[CONNECT];
    entry->connect_node = values[CONNECT] >= 0 ? values[CONNECT] : values[BIND];
    if (values[CONNECT] < 0
        && ctki_endpoint_parse (connect, bind->text, strlen (bind->text), CTKI_FOR_CONNECT) != NULL) {
        fault_at (reader, values[BIND], "binds all interfaces: add \"Connect\" with the address that others use");
        good = false;
    }
    return good;
}

static void read_server_object (reader_t *reader, entry_t *entry, int object)
{
    ctki_endpoint_t connect, bind;
    char public_key[PUBLIC_KEY_CHARS];
    int values[SERVER_KEYS];
    bool good, key_good = false;

    read_members (reader, object, find_server_key, values, SERVER_KEYS,
                  "unknown key: a server has \"Bind\", \"Connect\" and \"PublicKey\"");
    good = read_both_endpoints (reader, entry, object, values, &connect, &bind);
    if (values[PUBLIC_KEY] >= 0)
        key_good = read_public_key (reader, values[PUBLIC_KEY], public_key);
    if (!good)
        return;
    copy_entry_server (reader, entry, &connect, values[BIND] >= 0 && values[CONNECT] >= 0 ? &bind : NULL);
    if (entry->server && key_good) {
        memcpy (entry->server->public_key, public_key, PUBLIC_KEY_CHARS);
        entry->server->public_key[PUBLIC_KEY_CHARS] = '\0';
    }
}

static void read_server_text (reader_t *reader, entry_t *entry, int node)
{
    ctki_endpoint_t endpoint;

    entry->bind_node = node;
    entry->connect_node = node;
    if (read_endpoint (reader, node, CTKI_FOR_BOTH, &endpoint))
        copy_entry_server (reader, entry, &endpoint, NULL);
}

static void read_entry (reader_t *reader, entry_t *entry, int key)
{
    char text[KEY_BYTES];
    size_t size = ctki_json_string (&reader->json, key, text, sizeof text);

    *entry = (entry_t){.pid = -1, .key = key};
    if (size > sizeof text || !parse_pid (text, size, &entry->pid)) {
        fault_at (reader, key, "not a pid: a number from 0 to 2147483647 in digits alone, without a leading 0");
        reader->pids_known = false;
        entry->pid = -1;
    }
    switch (ctki_json_kind (&reader->json, key + 1)) {
    case CTKI_JSON_STRING:
        read_server_text (reader, entry, key + 1);
        break;
    case CTKI_JSON_OBJECT:
        read_server_object (reader, entry, key + 1);
        break;
    default:
        fault_at (reader, key + 1, "must be \"host:port\" or an object with \"Bind\" and \"Connect\"");
    }
}

/* ------------------------------------------- what servers have in common */

static int compare_entries (const void *a, const void *b)
{
    const entry_t *x = a, *y = b;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* Sorts the entries and keeps each pid's first one. */
static void keep_unique (reader_t *reader)
{
    entry_t *entries = reader->entries;
    size_t kept = 0;

    qsort (entries, reader->entry_count, sizeof *entries, compare_entries);
    for (size_t i = 0; i < reader->entry_count; i++) {
        bool twice = kept > 0 && entries[i].pid >= 0 && entries[kept - 1].pid == entries[i].pid;
        if (twice)
            fault_at (reader, entries[i].key, "server %d is here twice: remove one", entries[i].pid);
        if (twice || entries[i].pid < 0)
            server_release (entries[i].server);
        else
            entries[kept++] = entries[i];
    }
    reader->entry_count = kept;
}

/* An endpoint in the comparison of all with all. */
typedef struct {
    const char *text;
    const char *place;
    entry_t *entry;
} claim_t;

static int compare_claims (const void *a, const void *b)
{
    const claim_t *x = a, *y = b;
    int order = strcmp (x->text, y->text);

    if (order == 0)
        order = strcmp (x->place, y->place);
    if (order == 0)
        order = x->entry->key < y->entry->key ? -1 : x->entry->key > y->entry->key;
    return order;
}

static size_t collect_claims (reader_t *reader, claim_t *claims, bool binds)
{
    size_t count = 0;

    for (size_t i = 0; i < reader->entry_count; i++) {
        entry_t *entry = &reader->entries[i];
        const server_t *server = entry->server;
        if (!server || !is_port_fixed (binds ? server->bind : &server->connect))
            continue;
        claims[count++] = (claim_t){.text = binds ? server->bind->text : server->connect.text,
                                    .place = binds ? place_of (server) : "",
                                    .entry = entry};
    }
    return count;
}

static void report_clashes (reader_t *reader, claim_t *claims, bool binds)
{
    size_t count = collect_claims (reader, claims, binds), first = 0;

    qsort (claims, count, sizeof *claims, compare_claims);
    for (size_t i = 1; i < count; i++) {
        entry_t *entry = claims[i].entry;
        if (strcmp (claims[first].text, claims[i].text) != 0 || strcmp (claims[first].place, claims[i].place) != 0)
            first = i;
        else if (!entry->clashed) {
            entry->clashed = true;
            fault_at (reader, binds ? entry->bind_node : entry->connect_node,
                      "server %d has this endpoint already: each server needs its own", claims[first].entry->pid);
        }
    }
}

static void check_clashes (reader_t *reader)
{
    claim_t *claims = reader_alloc (reader, reader->entry_count, sizeof *claims);

    if (!claims)
        return;
    report_clashes (reader, claims, false);
    report_clashes (reader, claims, true);
    ctki_free (claims);
}

/* Hands the servers of the entries to the config. */
static void fill_list (reader_t *reader)
{
    list_t *list = list_new (reader->entry_count);

    if (!list) {
        reader->faults->no_memory = true;
        return;
    }
    for (size_t i = 0; i < reader->entry_count; i++)
        if (reader->entries[i].server)
            list->servers[list->count++] = server_ref (reader->entries[i].server);
    list_release (reader->config->list);
    reader->config->list = list;
}

static void read_servers (reader_t *reader, int node)
{
    const ctki_json_t *json = &reader->json;

    if (ctki_json_kind (json, node) != CTKI_JSON_OBJECT) {
        fault_at (reader, node, "must be an object, as in {\"1\": \"10.0.0.1:5001\"}");
        return;
    }
    if (ctki_json_size (json, node) == 0) {
        fault_at (reader, node, "lists no server: at least one is needed");
        return;
    }
    reader->entries = reader_alloc (reader, (size_t) ctki_json_size (json, node), sizeof *reader->entries);
    if (!reader->entries)
        return;
    reader->pids_known = true;
    for (int key = ctki_json_first (json, node); key >= 0; key = ctki_json_next (json, key))
        read_entry (reader, &reader->entries[reader->entry_count++], key);
    keep_unique (reader);
    check_clashes (reader);
    fill_list (reader);
}

static void free_entries (reader_t *reader)
{
    for (size_t i = 0; i < reader->entry_count; i++)
        server_release (reader->entries[i].server);
    ctki_free (reader->entries);
}

/* -------------------------------------------------------------- PidList */

typedef struct {
    ctalk_pid_t pid;
    int node;
    long index;
} listed_t;

static int compare_listed (const void *a, const void *b)
{
    const listed_t *x = a, *y = b;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

/* Reads the pids and sorts them; returns how many are valid and not there twice. */
static size_t collect_pids (reader_t *reader, int array, listed_t *listed)
{
    const ctki_json_t *json = &reader->json;
    size_t count = 0, kept = 0, size;
    long index = 0;

    for (int node = ctki_json_first (json, array); node >= 0; node = ctki_json_next (json, node), index++) {
        listed_t *next = &listed[count];
        const char *raw = ctki_json_raw (json, node, &size);
        if (ctki_json_kind (json, node) == CTKI_JSON_NUMBER && parse_pid (raw, size, &next->pid)) {
            next->node = node;
            next->index = index;
            count++;
        } else {
            fault_in (reader, node, index, "not a pid: a whole number from 0 to 2147483647");
        }
    }
    qsort (listed, count, sizeof *listed, compare_listed);
    for (size_t i = 0; i < count; i++)
        if (kept > 0 && listed[kept - 1].pid == listed[i].pid)
            fault_in (reader, listed[i].node, listed[i].index, "pid %d is here twice: remove one", listed[i].pid);
        else
            listed[kept++] = listed[i];
    return kept;
}

static void fault_not_listed (reader_t *reader, int array, ctalk_pid_t first, size_t count)
{
    if (count == 1)
        fault_at (reader, array, "pid %d is missing: it is in Servers", first);
    else if (count > 1)
        fault_at (reader, array, "pid %d and %zu more are missing: they are in Servers", first, count - 1);
}

/* Both are sorted and hold each pid once. */
static void compare_pids (reader_t *reader, int array, const listed_t *listed, size_t count)
{
    size_t at = 0, missing = 0;
    ctalk_pid_t first = 0;

    for (size_t i = 0; i < reader->entry_count || at < count;) {
        bool have = i < reader->entry_count;
        if (at < count && (!have || listed[at].pid < reader->entries[i].pid)) {
            fault_in (reader, listed[at].node, listed[at].index, "pid %d is not in Servers", listed[at].pid);
            at++;
        } else if (at < count && listed[at].pid == reader->entries[i].pid) {
            at++;
            i++;
        } else if (have) {
            first = missing++ == 0 ? reader->entries[i].pid : first;
            i++;
        }
    }
    fault_not_listed (reader, array, first, missing);
}

static void read_pid_list (reader_t *reader, int node)
{
    if (ctki_json_kind (&reader->json, node) != CTKI_JSON_ARRAY) {
        fault_at (reader, node, "must be an array of pids, as in [1, 2], or left out");
        return;
    }
    listed_t *listed = reader_alloc (reader, (size_t) ctki_json_size (&reader->json, node), sizeof *listed);
    if (!listed)
        return;
    size_t count = collect_pids (reader, node, listed);
    if (reader->pids_known)
        compare_pids (reader, node, listed, count);
    ctki_free (listed);
}

/* -------------------------------------------------------------- options */

static bool read_option (reader_t *reader, int option, int node)
{
    ctki_json_kind_t kind = ctki_json_kind (&reader->json, node);
    bool number = ctki_option_kind (option) == CTKI_OPTION_NUMBER;
    bool truth = kind == CTKI_JSON_TRUE || kind == CTKI_JSON_FALSE;
    char why[CTKI_OPTION_WHY_BYTES], word[KEY_BYTES];
    const char *text = word;
    size_t size = 0;

    if (kind == CTKI_JSON_STRING && !number)
        size = CTKI_MIN (ctki_json_string (&reader->json, node, word, sizeof word), sizeof word);
    else if ((kind == CTKI_JSON_NUMBER && number) || (truth && ctki_option_kind (option) == CTKI_OPTION_SWITCH))
        text = ctki_json_raw (&reader->json, node, &size);
    if (ctki_option_set (&reader->config->options, option, text, size, why))
        return true;
    fault_at (reader, node, "%s", why);
    return false;
}

/* An order that is wrong is put down to the one of the two that was set, or
 * that was set last. */
static void check_pairs (reader_t *reader, const int *values, const bool *bad)
{
    char why[CTKI_OPTION_WHY_BYTES];

    for (int i = 0; i < CTKI_OPTION_PAIRS; i++) {
        ctki_option_pair_t pair = ctki_option_pairs[i];
        int node = CTKI_MAX (values[pair.low], values[pair.high]);
        if (node >= 0 && !bad[pair.low] && !bad[pair.high]
            && !ctki_options_ordered (&reader->config->options, pair, why))
            fault_at (reader, node, "%s", why);
    }
}

static void read_options (reader_t *reader, int node)
{
    int values[CTKI_OPTION_COUNT];
    bool bad[CTKI_OPTION_COUNT] = {false};

    if (ctki_json_kind (&reader->json, node) != CTKI_JSON_OBJECT) {
        fault_at (reader, node, "must be an object, as in {\"QueueBytes\": 8388608}");
        return;
    }
    read_members (reader, node, ctki_option_find, values, CTKI_OPTION_COUNT, "no such option: is it misspelt?");
    for (int i = 0; i < CTKI_OPTION_COUNT; i++)
        bad[i] = values[i] >= 0 && !read_option (reader, i, values[i]);
    check_pairs (reader, values, bad);
    render_options (reader->config);
}

/* ---------------------------------------------------------- a whole text */

static void read_top (reader_t *reader)
{
    int values[TOP_KEYS];

    if (ctki_json_kind (&reader->json, 0) != CTKI_JSON_OBJECT) {
        fault_at (reader, 0, "must be an object { ... }");
        return;
    }
    read_members (reader, 0, find_top_key, values, TOP_KEYS, NULL);
    if (values[CLUSTER] >= 0)
        read_cluster (reader, values[CLUSTER]);
    if (values[SERVERS] >= 0)
        read_servers (reader, values[SERVERS]);
    else
        fault_missing (reader, 0, "Servers", "missing: add \"Servers\": {\"1\": \"10.0.0.1:5001\"}");
    if (values[PID_LIST] >= 0)
        read_pid_list (reader, values[PID_LIST]);
    if (values[OPTIONS] >= 0)
        read_options (reader, values[OPTIONS]);
}

static void read_text (reader_t *reader, const char *text, size_t size)
{
    ctki_json_fault_t what;

    if (ctki_json_init (&reader->json, text, size, &what) == 0) {
        read_top (reader);
        free_entries (reader);
        ctki_json_fini (&reader->json);
        return;
    }
    if (errno == ENOMEM) {
        reader->faults->no_memory = true;
        return;
    }
    fault_t *fault = add_fault (reader->faults, what.offset);
    if (fault)
        *fault = (fault_t){.what = what};
}

/* NULL: there are faults, or there is no memory. */
static ctalk_config_t *read_config (const char *text, size_t size, faults_t *faults)
{
    reader_t reader = {.faults = faults, .config = ctalk_config_new ()};

    if (!reader.config) {
        faults->no_memory = true;
        return NULL;
    }
    read_text (&reader, text, size);
    if (faults->no_memory || faults->count > 0)
        ctalk_config_destroy (&reader.config);
    else
        CTKI_ASSERT (reader.config->list->count > 0);
    return reader.config;
}

/* ------------------------------------------------------------ error texts */

/* Copies a path, without its middle when it is longer than capacity allows. */
static void shorten_path (char *out, size_t capacity, const char *path)
{
    size_t size = strlen (path), room = capacity - 1;

    if (size <= room) {
        ctki_printable (out, capacity, path, size);
        return;
    }
    size_t head = (room - 3) / 3, tail = room - 3 - head;
    const char *end = path + size - tail;
    while (((unsigned char) path[head] & 0xc0) == 0x80 && head > 0)
        head--;
    while (((unsigned char) *end & 0xc0) == 0x80)
        end++;
    ctki_printable (out, capacity, path, head);
    size_t used = strlen (out);
    memcpy (out + used, "...", 3);
    ctki_printable (out + used + 3, capacity - used - 3, end, strlen (end));
}

/* FILE:LINE:COLUMN: FIELD: REASON, the file as long as there is room for it. */
static int set_fault (ctalk_error_t *error, const char *source, const ctki_json_place_t *place,
                      const ctki_json_fault_t *fault)
{
    enum { POSITION_BYTES = 32 };
    char path[sizeof error->text], rest[CTKI_JSON_FIELD_BYTES + CTKI_JSON_REASON_BYTES + POSITION_BYTES];
    int line = place->line + 1, column = place->column + 1;

    snprintf (rest, sizeof rest, ":%d:%d: %s: %s", line, column, fault->field, fault->reason);
    shorten_path (path, sizeof error->text - strlen (rest), source);
    return ctki_error_at (error, EINVAL, line, column, "%s%s", path, rest);
}

static int set_file_error (ctalk_error_t *error, int code, const char *source)
{
    char path[160], buffer[80];
    const char *why = strerror_r (code, buffer, sizeof buffer);

    if (code == EFBIG)
        why = "larger than 1 MiB, which is the most a config may have";
    else if (code == EISDIR)
        why = "is a directory: name the config file in it";
    else if (code == ENOMEM)
        why = "no memory to read it";
    else if (code == EINVAL)
        why = "not a regular file";
    shorten_path (path, sizeof path, source);
    return ctki_error_set (error, code, "%s: %s", path, why);
}

/* ---------------------------------------------------------------- files */

static int open_file (const char *path)
{
    struct stat status;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not hang here */
    int code = 0;

    if (fd < 0)
        return -1;
    if (fstat (fd, &status) < 0)
        code = errno;
    else if (S_ISDIR (status.st_mode))
        code = EISDIR;
    else if (!S_ISREG (status.st_mode))
        code = EINVAL;
    if (code == 0)
        return fd;
    close (fd);
    errno = code;
    return -1;
}

/* Reads to the end of the file, or capacity bytes; -1: errno. */
static ssize_t read_all (int fd, char *text, size_t capacity)
{
    size_t size = 0;

    while (size < capacity) {
        ssize_t got = read (fd, text + size, capacity - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        size += (size_t) got;
    }
    return (ssize_t) size;
}

/* 0, with a text to free; or an errno. */
static int read_file (const char *path, char **text_p, size_t *size_p)
{
    enum { CAPACITY = CTKI_CONFIG_BYTES + 1 }; /* one more, to see that it is too large */
    int fd = open_file (path), code = 0;
    ssize_t size = -1;

    if (fd < 0)
        return errno;
    *text_p = ctki_alloc (CAPACITY);
    if (*text_p)
        size = read_all (fd, *text_p, CAPACITY);
    if (size < 0)
        code = errno;
    else if (size == CAPACITY)
        code = EFBIG;
    close (fd);
    if (code != 0)
        ctki_free (*text_p);
    *size_p = code == 0 ? (size_t) size : 0;
    return code;
}

/* ------------------------------------------------------ load, parse, check */

/* Fills in the first of the faults; returns its errno. */
static int report_first (const faults_t *faults, const char *source, const char *text, ctalk_error_t *error)
{
    ctki_json_place_t place = {0};

    if (faults->no_memory) {
        set_file_error (error, ENOMEM, source);
        return ENOMEM;
    }
    ctki_json_seek (&place, text, faults->list[0].what.offset);
    set_fault (error, source, &place, &faults->list[0].what);
    return EINVAL;
}

static ctalk_config_t *parse (const char *text, size_t size, const char *source, ctalk_error_t *error)
{
    faults_t faults = {.first_only = true};
    ctalk_config_t *config = read_config (text, size, &faults);
    int code = config ? 0 : report_first (&faults, source, text, error);

    ctki_free (faults.list);
    if (code != 0)
        errno = code;
    return config;
}

ctalk_config_t *ctalk_config_parse (const char *json, size_t size, ctalk_error_t *error)
{
    static const char source[] = "(text)";

    ctki_error_clear (error);
    if (!json && size > 0) {
        ctki_error_set (error, EINVAL, "%s: must not be NULL", source);
        return NULL;
    }
    if (size > CTKI_CONFIG_BYTES) {
        set_file_error (error, EFBIG, source);
        return NULL;
    }
    return parse (json ? json : "", size, source, error);
}

ctalk_config_t *ctalk_config_load (const char *path, ctalk_error_t *error)
{
    ctalk_config_t *config;
    char *text = NULL;
    size_t size = 0;
    int code;

    ctki_error_clear (error);
    if (!path) {
        ctki_error_set (error, EINVAL, "the path must not be NULL");
        return NULL;
    }
    code = read_file (path, &text, &size);
    if (code != 0) {
        set_file_error (error, code, path);
        return NULL;
    }
    config = parse (text, size, path, error);
    code = errno;
    ctki_free (text);
    errno = code;
    return config;
}

typedef struct {
    void (*report) (const ctalk_error_t *error, void *arg);
    void *arg;
} listener_t;

static int tell (listener_t listener, const ctalk_error_t *error)
{
    if (listener.report)
        listener.report (error, listener.arg);
    return 1;
}

static int report_all (faults_t *faults, const char *path, const char *text, listener_t listener)
{
    ctki_json_place_t place = {0};
    ctalk_error_t error;
    int count = 0;

    if (faults->no_memory) {
        set_file_error (&error, ENOMEM, path);
        return tell (listener, &error);
    }
    if (faults->count > 0)
        qsort (faults->list, faults->count, sizeof faults->list[0], compare_faults);
    for (size_t i = 0; i < faults->count; i++) {
        ctki_json_seek (&place, text, faults->list[i].what.offset);
        set_fault (&error, path, &place, &faults->list[i].what);
        count += tell (listener, &error);
    }
    return count;
}

int ctalk_config_check (const char *path, void (*report) (const ctalk_error_t *error, void *arg), void *arg)
{
    listener_t listener = {report, arg};
    faults_t faults = {0};
    ctalk_error_t error;
    char *text = NULL;
    size_t size = 0;

    ctki_error_clear (&error);
    int code = path ? read_file (path, &text, &size) : EINVAL;
    if (code != 0) {
        set_file_error (&error, code, path ? path : "(NULL)");
        return tell (listener, &error);
    }
    ctalk_config_t *config = read_config (text, size, &faults);
    int count = config ? 0 : report_all (&faults, path, text, listener);
    ctalk_config_destroy (&config);
    ctki_free (faults.list);
    ctki_free (text);
    return count;
}
