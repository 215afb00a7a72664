/*
 * ports.c - ports for tests that must know one beforehand. Owns the lock file's
 * descriptor; the file itself stays, as a lock file must.
 */
#include "tests/support/ports.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket bound to 127.0.0.1 and a port (0: any), or -1. */
static int bound (uint16_t port)
{
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons (port)};
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    if (port && fd >= 0)
        (void) setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd >= 0 && bind (fd, (const struct sockaddr *) &address, sizeof address)) {
        (void) close (fd);
        fd = -1;
    }
    return fd;
}

static bool lock_one (int lock, uint16_t port)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = port, .l_len = 1};
    return fcntl (lock, F_OFD_SETLK, &range) == 0;
}

/* Nobody is bound to it, listening or not. */
static bool is_free (uint16_t port)
{
    int fd = bound (port);
    if (fd < 0)
        return false;
    bool free_now = listen (fd, 1) == 0;
    (void) close (fd);
    return free_now;
}

static int open_lock (void)
{
    const char *folder = getenv ("TMPDIR");
    char path[512];
    (void) snprintf (path, sizeof path, "%s/clustertalk-test-ports.lock", folder && *folder ? folder : "/tmp");
    int lock = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    ck_assert_msg (lock >= 0, "%s: %s", path, strerror (errno));
    return lock;
}

void ctki_ports_take (ctki_ports_t *ports, size_t count)
{
    ck_assert_uint_le (count, CTKI_PORTS_MAX);
    ports->lock = open_lock ();
    ports->count = 0;
    unsigned start = (unsigned) getpid () * 7919u;
    for (unsigned i = 0; i < CTKI_PORTS_COUNT && ports->count < count; i++) {
        uint16_t port = (uint16_t) (CTKI_PORTS_FIRST + (start + i) % CTKI_PORTS_COUNT);
        if (lock_one (ports->lock, port) && is_free (port))
            ports->port[ports->count++] = port;
    }
    ck_assert_msg (ports->count == count, "only %zu of %zu ports are free", ports->count, count);
}

void ctki_ports_release (ctki_ports_t *ports)
{
    (void) close (ports->lock);
    ports->lock = -1;
    ports->count = 0;
}

static uint16_t port_of (int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    ck_assert_int_eq (getsockname (fd, (struct sockaddr *) &address, &size), 0);
    return ntohs (address.sin_port);
}

int ctki_ports_refusing (uint16_t *port)
{
    int fd = bound (0);
    ck_assert_int_ge (fd, 0);
    *port = port_of (fd);
    return fd;
}

int ctki_ports_listening (uint16_t *port)
{
    int fd = ctki_ports_refusing (port);
    ck_assert_int_eq (listen (fd, 1), 0);
    return fd;
}
