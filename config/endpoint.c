/*
 * endpoint.c - an endpoint in text taken apart and put into normal form, so
 * that two spellings of one endpoint compare equal. Owns nothing, allocates
 * nothing, looks up nothing. All that can go wrong is that the text is no
 * endpoint: then the answer is a constant text that says what to do.
 *
 * What libzmq would accept besides (other transports, "source;destination",
 * interface wildcards, abstract ipc names, "127.1" for 127.0.0.1) is refused.
 */
#include "config/endpoint.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/un.h>

enum {
    HOST_BYTES = 253,  /* the longest host name (RFC 1035) */
    LABEL_BYTES = 63,  /* the longest part between its dots */
    INPROC_BYTES = 255 /* the longest name of an inproc endpoint */
};

static const char NO_PORT[] = "no port: write it as host:port";
static const char BAD_PORT[] = "the port must be a number from 0 to 65535 or \"*\"";
static const char BAD_HOST[] = "not a host name: letters, digits and \"-\" in parts of 1 to 63, joined by \".\"";
static const char ANY_HOST[] =
    "all interfaces (\"*\", 0.0.0.0, [::]) can only be bound: connect to an address or a name";
static const char ANY_BOTH[] = "all interfaces (\"*\", 0.0.0.0, [::]) need {\"Bind\": ..., \"Connect\": ...}";

static bool is_digit (char c)
{
    return c >= '0' && c <= '9';
}

static char lower (char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool is_label_char (char c)
{
    return is_digit (c) || (lower (c) >= 'a' && lower (c) <= 'z') || c == '-';
}

static bool has_control (const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char) text[i] < 0x20 || (unsigned char) text[i] == 0x7f)
            return true;
    return false;
}

static bool all_digits (const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_digit (text[i]))
            return false;
    return size > 0;
}

/* Whether text begins with this scheme in any case. */
static bool has_scheme (const char *text, size_t size, const char *scheme)
{
    size_t length = strlen (scheme);

    if (size < length)
        return false;
    for (size_t i = 0; i < length; i++)
        if (lower (text[i]) != scheme[i])
            return false;
    return true;
}

static bool has_any_scheme (const char *text, size_t size)
{
    return size >= 3 && memmem (text, size, "://", 3) != NULL;
}

/* ---------------------------------------------------------------- tcp */

static const char *parse_port (ctki_endpoint_t *endpoint, const char *text, size_t size)
{
    unsigned port = 0;

    if (size == 0)
        return NO_PORT;
    endpoint->port = 0;
    if (size == 1 && text[0] == '*')
        return NULL;
    if (size > 5 || !all_digits (text, size) || (size > 1 && text[0] == '0'))
        return BAD_PORT;
    for (size_t i = 0; i < size; i++)
        port = port * 10 + (unsigned) (text[i] - '0');
    if (port > UINT16_MAX)
        return BAD_PORT;
    endpoint->port = (uint16_t) port;
    return NULL;
}

/* An IPv6 address without its brackets, spelled as inet_ntop spells it. */
static const char *parse_v6 (ctki_endpoint_t *endpoint, const char *text, size_t size)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (memchr (text, '%', size))
        return "an IPv6 address with a zone (%) names an interface of one machine: use another address";
    if (size >= sizeof copy || memchr (text, '\0', size))
        return "not an IPv6 address";
    memcpy (copy, text, size);
    copy[size] = '\0';
    if (inet_pton (AF_INET6, copy, &address) != 1
        || !inet_ntop (AF_INET6, &address, endpoint->host, sizeof endpoint->host))
        return "not an IPv6 address";
    endpoint->numeric = true;
    endpoint->v6 = true;
    return NULL;
}

/* One label of a host name at text; *length becomes its size, dot excluded. */
static bool is_label (const char *text, size_t size, size_t *length)
{
    size_t n = 0;

    while (n < size && text[n] != '.')
        if (!is_label_char (text[n++]))
            return false;
    *length = n;
    return n >= 1 && n <= LABEL_BYTES && text[0] != '-' && text[n - 1] != '-';
}

/* The resolver would take "127.1" or "0x7f000001" for an address: a host whose
 * last label looks like a number is an IPv4 address in full, or refused. */
static bool looks_numeric (const char *label, size_t size)
{
    return all_digits (label, size) || (size >= 2 && label[0] == '0' && lower (label[1]) == 'x');
}

static const char *parse_v4 (ctki_endpoint_t *endpoint)
{
    struct in_addr address;

    if (inet_pton (AF_INET, endpoint->host, &address) != 1)
        return "not an IPv4 address: four numbers from 0 to 255, joined by \".\"";
    endpoint->numeric = true;
    return NULL;
}

static const char *parse_host (ctki_endpoint_t *endpoint, const char *text, size_t size)
{
    size_t at = 0, length = 0;

    if (size == 0)
        return "no host before the port: write it as host:port";
    if (size == 1 && text[0] == '*') {
        memcpy (endpoint->host, "*", 2);
        endpoint->numeric = true;
        return NULL;
    }
    if (memchr (text, ':', size))
        return "more than one \":\": an IPv6 address must be written in brackets, as in [::1]:5001";
    if (size > HOST_BYTES)
        return "a host name has at most 253 characters";
    for (;;) {
        if (!is_label (text + at, size - at, &length))
            return BAD_HOST;
        if (at + length == size)
            break;
        at += length + 1;
    }
    for (size_t i = 0; i < size; i++)
        endpoint->host[i] = lower (text[i]);
    endpoint->host[size] = '\0';
    return looks_numeric (text + at, length) ? parse_v4 (endpoint) : NULL;
}

static bool is_any_host (const ctki_endpoint_t *endpoint)
{
    return strcmp (endpoint->host, "*") == 0 || strcmp (endpoint->host, "0.0.0.0") == 0
           || strcmp (endpoint->host, "::") == 0;
}

/* Takes "[v6]:port" or "host:port" apart. */
static const char *split_tcp (ctki_endpoint_t *endpoint, const char *text, size_t size)
{
    const char *colon, *end = text + size, *why;

    if (size > 0 && text[0] == '[') {
        const char *bracket = memchr (text, ']', size);
        if (!bracket)
            return "\"[\" without \"]\"";
        if (bracket + 1 == end || bracket[1] != ':')
            return NO_PORT;
        why = parse_v6 (endpoint, text + 1, (size_t) (bracket - text - 1));
        colon = bracket + 1;
    } else {
        colon = memrchr (text, ':', size);
        if (!colon)
            return NO_PORT;
        why = parse_host (endpoint, text, (size_t) (colon - text));
    }
    return why ? why : parse_port (endpoint, colon + 1, (size_t) (end - colon - 1));
}

static void write_tcp (ctki_endpoint_t *endpoint)
{
    const char *open = endpoint->v6 ? "[" : "", *close = endpoint->v6 ? "]" : "";

    if (endpoint->port == 0)
        snprintf (endpoint->text, sizeof endpoint->text, "tcp://%s%s%s:*", open, endpoint->host, close);
    else
        snprintf (endpoint->text, sizeof endpoint->text, "tcp://%s%s%s:%u", open, endpoint->host, close,
                  (unsigned) endpoint->port);
}

static const char *parse_tcp (ctki_endpoint_t *endpoint, const char *text, size_t size, ctki_purpose_t purpose)
{
    const char *why = split_tcp (endpoint, text, size);

    if (why)
        return why;
    if (purpose != CTKI_FOR_BIND && is_any_host (endpoint))
        return purpose == CTKI_FOR_BOTH ? ANY_BOTH : ANY_HOST;
    write_tcp (endpoint);
    return NULL;
}

/* --------------------------------------------------------- ipc, inproc */

/* Copies a path without doubled "/" and "/./", which would hide that two
 * endpoints are one; returns its size. */
static size_t tidy_path (char *out, const char *path, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i++) {
        if (path[i] == '/' && i + 1 < size && path[i + 1] == '/')
            continue;
        if (path[i] == '/' && i + 2 < size && path[i + 1] == '.' && path[i + 2] == '/') {
            i++; /* the loop steps over the dot, the next round starts at its "/" */
            continue;
        }
        out[n++] = path[i];
    }
    out[n] = '\0';
    return n;
}

static const char *parse_ipc (ctki_endpoint_t *endpoint, const char *path, size_t size)
{
    static const size_t path_max = sizeof ((struct sockaddr_un *) NULL)->sun_path - 1;
    char *out = endpoint->text + strlen ("ipc://");

    if (size > 0 && path[0] == '@')
        return "abstract names (\"@\") have no permissions: use ipc:// with an absolute path";
    if (size == 0 || path[0] != '/')
        return "ipc:// needs an absolute path, as in ipc:///run/name";
    if (size > path_max)
        return "the path of ipc:// may have at most 107 bytes";
    if (has_control (path, size))
        return "control characters are not allowed in an endpoint";
    memcpy (endpoint->text, "ipc://", strlen ("ipc://"));
    size_t length = tidy_path (out, path, size);
    if (out[length - 1] == '/' || (length >= 2 && memcmp (out + length - 2, "/.", 2) == 0))
        return "the path of ipc:// must name a file, not a directory";
    return NULL;
}

static const char *parse_inproc (ctki_endpoint_t *endpoint, const char *name, size_t size)
{
    if (size == 0)
        return "inproc:// needs a name";
    if (size > INPROC_BYTES)
        return "the name of inproc:// may have at most 255 bytes";
    if (has_control (name, size))
        return "control characters are not allowed in an endpoint";
    snprintf (endpoint->text, sizeof endpoint->text, "inproc://%.*s", (int) size, name);
    return NULL;
}

/* ------------------------------------------------------------ interface */

const char *ctki_endpoint_parse (ctki_endpoint_t *endpoint, const char *text, size_t size, ctki_purpose_t purpose)
{
    static const char TCP[] = "tcp://", IPC[] = "ipc://", INPROC[] = "inproc://";

    memset (endpoint, 0, sizeof *endpoint);
    if (size == 0)
        return "empty: write an endpoint as host:port";
    if (has_scheme (text, size, IPC)) {
        endpoint->transport = CTKI_IPC;
        return parse_ipc (endpoint, text + strlen (IPC), size - strlen (IPC));
    }
    if (has_scheme (text, size, INPROC)) {
        endpoint->transport = CTKI_INPROC;
        return parse_inproc (endpoint, text + strlen (INPROC), size - strlen (INPROC));
    }
    endpoint->transport = CTKI_TCP;
    if (has_scheme (text, size, TCP))
        return parse_tcp (endpoint, text + strlen (TCP), size - strlen (TCP), purpose);
    if (has_any_scheme (text, size))
        return "not a transport of ClusterTalk: use tcp://, ipc:// or inproc://";
    return parse_tcp (endpoint, text, size, purpose);
}

bool ctki_endpoint_dialable (const ctki_endpoint_t *endpoint)
{
    return endpoint->transport != CTKI_TCP || (endpoint->port != 0 && !is_any_host (endpoint));
}
