/*
 * ends.c - servers of ClusterTalk and sockets of libzmq.
 */
#include "bench/ends.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <zmq.h>

static int fail_text (crew_member_t *member, const char *what, const ctalk_error_t *error)
{
    snprintf (member->error, sizeof member->error, "%s: %s", what, error->text);
    return -1;
}

/* -------------------------------------------------------------- ClusterTalk */

ctalk_config_t *ends_config (crew_member_t *member, size_t count, ends_options_t options)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_config_t *config = ctalk_config_new ();
    bool good = config != NULL;
    for (size_t i = 0; good && i < count; i++)
        good = ctalk_config_add_server (config, (ctalk_pid_t) i + 1, "127.0.0.1:0", &error) == 0;
    for (; good && options && options[0]; options += 2)
        good = ctalk_config_set (config, options[0], options[1], &error) == 0;
    if (good)
        return config;
    fail_text (member, "config", &error);
    ctalk_config_destroy (&config);
    return NULL;
}

ctalk_server_t *ends_server (crew_member_t *member, ctalk_pid_t pid, const ctalk_config_t *config, char *endpoint)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    if (!server)
        fail_text (member, "ctalk_server_new", &error);
    else if (endpoint)
        snprintf (endpoint, ENDS_ENDPOINT_BYTES, "%s", ctalk_server_endpoint (server));
    return server;
}

ctalk_server_t *ends_satellite (crew_member_t *member, ctalk_pid_t pid, ends_options_t options, char *endpoint)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_server_t *server = NULL;
    ctalk_config_t *config = ends_config (member, 1, options);
    if (!config)
        return NULL;
    if (ctalk_config_add_server (config, pid, "127.0.0.1:0", &error) == 0)
        server = ends_server (member, pid, config, endpoint);
    else
        fail_text (member, "config", &error);
    ctalk_config_destroy (&config);
    return server;
}

int ends_meet (crew_member_t *member, ctalk_server_t *server, ctalk_pid_t pid, const char *endpoint)
{
    return ctalk_server_add_peer (server, pid, endpoint) == 0 ? 0 : crew_fail (member, "ctalk_server_add_peer");
}

int ends_close (crew_member_t *member, ctalk_server_t **server_p)
{
    int abandoned = ctalk_server_close (server_p, BENCH_CLOSE_MS);
    if (abandoned == 0)
        return 0;
    snprintf (member->error, sizeof member->error, "ctalk_server_close: %d envelopes abandoned", abandoned);
    return -1;
}

/* ------------------------------------------------------------------- libzmq */

void *ends_context (crew_member_t *member, int io_threads, int sockets)
{
    void *context = zmq_ctx_new ();
    if (context && (io_threads == 0 || zmq_ctx_set (context, ZMQ_IO_THREADS, io_threads) == 0)
        && (sockets == 0 || zmq_ctx_set (context, ZMQ_MAX_SOCKETS, sockets) == 0))
        return context;
    crew_fail (member, "zmq_ctx_new");
    return NULL;
}

void *ends_socket (crew_member_t *member, void *context, int type, int high_water)
{
    void *socket = zmq_socket (context, type);
    if (!socket) {
        crew_fail (member, "zmq_socket");
        return NULL;
    }
    if (high_water != ENDS_HWM_DEFAULT
        && (zmq_setsockopt (socket, ZMQ_SNDHWM, &high_water, sizeof high_water) != 0
            || zmq_setsockopt (socket, ZMQ_RCVHWM, &high_water, sizeof high_water) != 0)) {
        crew_fail (member, "zmq_setsockopt");
        zmq_close (socket);
        return NULL;
    }
    return socket;
}

int ends_bind (crew_member_t *member, void *socket, char *endpoint)
{
    size_t capacity = ENDS_ENDPOINT_BYTES;
    if (zmq_bind (socket, "tcp://127.0.0.1:*") != 0)
        return crew_fail (member, "zmq_bind");
    if (zmq_getsockopt (socket, ZMQ_LAST_ENDPOINT, endpoint, &capacity) != 0)
        return crew_fail (member, "zmq_getsockopt");
    return 0;
}

int ends_connect (crew_member_t *member, void *socket, const char *endpoint)
{
    return zmq_connect (socket, endpoint) == 0 ? 0 : crew_fail (member, "zmq_connect");
}

/* ---------------------------------------------------------------- the rest */

int ends_raise_descriptors (crew_member_t *member, size_t need)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) != 0)
        return crew_fail (member, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit (RLIMIT_NOFILE, &limit) != 0)
        return crew_fail (member, "setrlimit");
    if (limit.rlim_cur >= need)
        return 0;
    snprintf (member->error, sizeof member->error, "%zu file descriptors are needed, %llu allowed: ulimit -n", need,
              (unsigned long long) limit.rlim_cur);
    return -1;
}
