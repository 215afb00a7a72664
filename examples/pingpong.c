/*
 * pingpong.c - how long a message takes to another server and back. Two servers
 * in this program, on ports that the system chooses; the second one, on a
 * thread of its own, sends back whatever comes. Prints the round trip times.
 *
 *   pingpong [COUNT [BYTES]]
 */
#include <clustertalk.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PING = 1,
    PONG = 2,
    COUNT_DEFAULT = 10000,
    COUNT_MAX = 10000000,
    BYTES_DEFAULT = 64,
    BYTES_MAX = 1 << 20,
    WAIT_MS = 5000
};

static int64_t now_ns (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sends back what comes, until the server is woken. */
static void *echo (void *arg)
{
    ctalk_server_t *server = arg;
    ctalk_envelope_t in;
    while (ctalk_recv (server, &in, -1) == 0) {
        ctalk_envelope_t out = {.pid = in.pid, .msg_id = in.msg_id, .data = in.data, .size = in.size};
        ctalk_send (server, &out, -1); /* the payload is copied: "in" may be closed */
        ctalk_envelope_close (&in);
    }
    return NULL;
}

static ctalk_server_t *start (ctalk_pid_t pid, const ctalk_config_t *config)
{
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    if (!server) {
        fprintf (stderr, "%s\n", error.text);
        exit (1);
    }
    return server;
}

static int compare (const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a;
    int64_t y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

/* Plays count rounds. Returns how many came back. */
static long play (ctalk_server_t *server, long count, const void *data, size_t size, int64_t *times)
{
    ctalk_envelope_t in;
    for (long i = 0; i < count; i++) {
        int64_t start_ns = now_ns ();
        ctalk_envelope_t out = {.pid = PONG, .msg_id = i, .data = data, .size = size};
        if (ctalk_send (server, &out, -1) == -1 || ctalk_recv (server, &in, -1) == -1) {
            perror ("pingpong");
            return i;
        }
        times[i] = now_ns () - start_ns;
        ctalk_envelope_close (&in);
    }
    return count;
}

static long argument (int argc, char **argv, int index, long standard, long most)
{
    long value = argc > index ? strtol (argv[index], NULL, 10) : standard;
    if (value >= 1 && value <= most)
        return value;
    fprintf (stderr, "pingpong: %s is not a number from 1 to %ld\n", argv[index], most);
    exit (2);
}

static double micros (const int64_t *times, long index)
{
    return (double) times[index] / 1e3;
}

static void print (int64_t *times, long count, size_t size)
{
    if (count == 0)
        return;
    long nearly_all = count - 1 - (count - 1) / 100;
    qsort (times, (size_t) count, sizeof *times, compare);
    printf ("%ld round trips of %zu bytes: median %.1f us, 99 %% within %.1f us, worst %.1f us\n", count, size,
            micros (times, count / 2), micros (times, nearly_all), micros (times, count - 1));
}

static ctalk_config_t *make_config (void)
{
    ctalk_config_t *config = ctalk_config_new ();
    if (!config || ctalk_config_add_server (config, PING, "127.0.0.1:0", NULL) == -1
        || ctalk_config_add_server (config, PONG, "127.0.0.1:0", NULL) == -1) {
        perror ("pingpong");
        exit (1);
    }
    return config;
}

/* Between two servers that were just made. Returns whether all went well. */
static bool measure (ctalk_server_t *ping, ctalk_server_t *pong, long count, size_t size)
{
    static const char data[BYTES_MAX];
    int64_t *times = calloc ((size_t) count, sizeof *times);
    pthread_t thread;
    long played = 0;
    bool ready = times && ctalk_server_add_peer (ping, PONG, ctalk_server_endpoint (pong)) == 0
                 && ctalk_server_add_peer (pong, PING, ctalk_server_endpoint (ping)) == 0
                 && ctalk_server_wait_up (ping, 1, WAIT_MS) == 0;

    if (!ready)
        perror ("pingpong");
    else if (pthread_create (&thread, NULL, echo, pong) == 0) {
        played = play (ping, count, data, size, times);
        ctalk_server_wake (pong); /* ends the echo */
        pthread_join (thread, NULL);
        print (times, played, size);
    }
    free (times);
    return played == count;
}

int main (int argc, char **argv)
{
    long count = argument (argc, argv, 1, COUNT_DEFAULT, COUNT_MAX);
    size_t size = (size_t) argument (argc, argv, 2, BYTES_DEFAULT, BYTES_MAX);
    ctalk_config_t *config = make_config ();
    ctalk_server_t *ping = start (PING, config);
    ctalk_server_t *pong = start (PONG, config);
    ctalk_config_destroy (&config);

    bool well = measure (ping, pong, count, size);
    int lost = ctalk_server_close (&ping, WAIT_MS) + ctalk_server_close (&pong, WAIT_MS);
    return well && lost == 0 ? 0 : 1;
}
