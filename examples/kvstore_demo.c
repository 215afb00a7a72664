/*
 * kvstore_demo.c - five servers of the store, each a process of its own that
 * saves its log in a folder, and a client. The servers are killed with SIGKILL,
 * and nothing of what the client was told is lost.
 *
 * Owns the processes and the folder, and leaves neither behind.
 */
#include "examples/kvstore.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "examples/kvstore_client.h"

enum { SERVERS = 5, PUTS = 500, LONG_MS = 20000, SHORT_MS = 1000, TEXT_BYTES = 64, PATH_BYTES = 128 };

static const char options[] = "{\"HeartbeatMs\": 50, \"SuspectMs\": 200, \"DownMs\": 500}";

typedef struct {
    char dir[TEXT_BYTES], config_path[PATH_BYTES];
    ctalk_config_t *config;
    ctalk_pid_t member[SERVERS];
    pid_t process[SERVERS]; /* 0: it does not run */
    ctalk_server_t *server; /* the client's */
    kv_client_t client;
    bool well;
} demo_t;

static int64_t now_us (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static kv_text_t text_of (const char *text)
{
    return (kv_text_t){.data = text, .size = strlen (text)};
}

/* ---- the processes */

/* The config that all of them read. The sockets are in the folder: no port can be taken by somebody else. */
static bool write_config (demo_t *demo)
{
    snprintf (demo->config_path, sizeof demo->config_path, "%s/cluster.json", demo->dir);
    FILE *file = fopen (demo->config_path, "w");
    if (!file)
        return false;
    fprintf (file, "{\"Cluster\": \"kvstore-demo\", \"Options\": %s,\n \"Servers\": {", options);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        fprintf (file, "\"%d\": \"ipc://%s/%d\", ", pid, demo->dir, pid);
    fprintf (file, "\"%d\": \"ipc://%s/%d\"}}\n", KV_CLIENTS_FROM, demo->dir, KV_CLIENTS_FROM);
    return fclose (file) == 0;
}

/* kvstore serve --config ... --pid ... --data ... */
static void start (demo_t *demo, int i)
{
    char pid[16];
    snprintf (pid, sizeof pid, "%d", demo->member[i]);
    char *const argv[] = {"kvstore", "serve", "--config", demo->config_path, "--pid", pid, "--data", demo->dir, NULL};
    int code = posix_spawn (&demo->process[i], "/proc/self/exe", NULL, NULL, argv, environ);
    if (code) {
        demo->process[i] = 0;
        fprintf (stderr, "kvstore: %s\n", strerror (code));
    }
}

static void stop (demo_t *demo, int i, int signal_number)
{
    if (demo->process[i] == 0)
        return;
    kill (demo->process[i], signal_number);
    waitpid (demo->process[i], NULL, 0);
    demo->process[i] = 0;
}

/* ---- the client */

/* Does a request, says so, and looks whether the status is the one that is due; 0: none, no answer. */
static void show (demo_t *demo, const char *words, kv_request_t request, kv_status_t due, int timeout_ms)
{
    kv_answer_t answer = {0};
    ctalk_envelope_t reply;
    int64_t begin_us = now_us ();
    bool answered = kv_client_do (&demo->client, demo->server, &request, &answer, &reply, timeout_ms) == 0;
    double ms = (double) (now_us () - begin_us) / 1000;
    const char *said = !answered                     ? "no answer"
                       : answer.status == KV_DIFFERS ? "not done, the value is"
                       : request.op == KV_GET        ? "it is"
                       : answer.status == KV_DONE    ? "done"
                                                     : "not done";
    printf ("  %-28s %s%s%.*s, %.1f ms\n", words, said, answer.value.size ? " " : "", (int) answer.value.size,
            answer.value.size ? (const char *) answer.value.data : "", ms);
    demo->well = demo->well && (answered ? answer.status == due : due == 0);
    if (!answered && due)
        printf ("  *** %s\n", strerror (errno));
    ctalk_envelope_close (&reply);
}

static void put (demo_t *demo, const char *key, const char *value, kv_status_t due, int timeout_ms)
{
    char words[TEXT_BYTES];
    snprintf (words, sizeof words, "put %s %s", key, value);
    show (demo, words, (kv_request_t){.op = KV_PUT, .key = text_of (key), .value = text_of (value)}, due, timeout_ms);
}

static void get (demo_t *demo, const char *key)
{
    char words[TEXT_BYTES];
    snprintf (words, sizeof words, "get %s", key);
    show (demo, words, (kv_request_t){.op = KV_GET, .key = text_of (key)}, KV_DONE, LONG_MS);
}

static void cas (demo_t *demo, const char *key, const char *expected, const char *value, kv_status_t due)
{
    char words[TEXT_BYTES];
    snprintf (words, sizeof words, "cas %s %s %s", key, expected, value);
    show (demo, words,
          (kv_request_t){.op = KV_CAS, .key = text_of (key), .value = text_of (value), .expected = text_of (expected)},
          due, LONG_MS);
}

/* What a server says of itself; false: it does not answer. */
static bool who (demo_t *demo, int i, kv_answer_t *answer)
{
    kv_client_t client;
    kv_request_t request = {.op = KV_WHO};
    ctalk_envelope_t reply;
    kv_client_init (&client, demo->client.id + 1, &demo->member[i], 1);
    bool answered = kv_client_do (&client, demo->server, &request, answer, &reply, LONG_MS) == 0;
    ctalk_envelope_close (&reply);
    return answered;
}

/* The place of the leader: the one that answered last is, or was a moment ago. */
static int leader (const demo_t *demo)
{
    return (int) demo->client.next;
}

static void many_puts (demo_t *demo)
{
    char value[16];
    int64_t begin_us = now_us ();
    for (int i = 1; i <= PUTS && demo->well; i++) {
        kv_request_t request = {.op = KV_PUT, .key = text_of ("count"), .value = {.data = value}};
        kv_answer_t answer;
        ctalk_envelope_t reply;
        request.value.size = (size_t) snprintf (value, sizeof value, "%d", i);
        demo->well = kv_client_do (&demo->client, demo->server, &request, &answer, &reply, LONG_MS) == 0;
        ctalk_envelope_close (&reply);
    }
    printf ("  %d puts, one after the other   %.2f ms each\n", PUTS, (double) (now_us () - begin_us) / 1000 / PUTS);
}

/* A server that was started again reads its log and gets what it has missed. */
static void restart (demo_t *demo, int i)
{
    kv_answer_t of_leader = {0}, answer = {0};
    int64_t begin_us = now_us ();
    start (demo, i);
    demo->well = who (demo, leader (demo), &of_leader) && demo->well;
    while (demo->well && answer.applied < of_leader.commit)
        demo->well = who (demo, i, &answer);
    printf ("  server %d is back, with %llu entries, %.0f ms\n", demo->member[i], (unsigned long long) answer.applied,
            (double) (now_us () - begin_us) / 1000);
}

/* Kills so many, the leader first. */
static void kill_some (demo_t *demo, int count, int killed[])
{
    printf ("kill -9 of");
    for (int n = 0, i = leader (demo); n < count; n++, i = (i + 1) % SERVERS) {
        stop (demo, i, SIGKILL);
        killed[n] = i;
        printf (" %d", demo->member[i]);
    }
    printf (count == 1 ? ", the leader\n" : "\n");
}

static void play (demo_t *demo)
{
    int killed[3];
    printf ("five servers, five processes\n");
    put (demo, "colour", "red", KV_DONE, LONG_MS);
    get (demo, "colour");
    cas (demo, "colour", "red", "green", KV_DONE);
    cas (demo, "colour", "red", "blue", KV_DIFFERS);
    many_puts (demo);

    kill_some (demo, 1, killed);
    get (demo, "colour");
    put (demo, "colour", "yellow", KV_DONE, LONG_MS);
    restart (demo, killed[0]);

    kill_some (demo, 3, killed);
    put (demo, "colour", "white", 0, SHORT_MS);
    printf ("two of five are no majority. One more, and there is one:\n");
    start (demo, killed[0]);
    put (demo, "colour", "black", KV_DONE, LONG_MS);
    get (demo, "colour");
    get (demo, "count");
    restart (demo, killed[1]);
    restart (demo, killed[2]);
}

static bool begin (demo_t *demo)
{
    ctalk_error_t error = {.text = "no folder for the data"};
    snprintf (demo->dir, sizeof demo->dir, "/tmp/kvstore-XXXXXX");
    if (mkdtemp (demo->dir) && write_config (demo))
        demo->config = ctalk_config_load (demo->config_path, &error);
    if (demo->config && kv_members (demo->config, demo->member) == SERVERS)
        demo->server = ctalk_server_new (KV_CLIENTS_FROM, demo->config, &error);
    if (!demo->server)
        fprintf (stderr, "kvstore: %s\n", error.text);
    else
        kv_client_init (&demo->client, kv_client_id (demo->server, 0), demo->member, SERVERS);
    return demo->server != NULL;
}

static void remove_files_of (const demo_t *demo, ctalk_pid_t pid)
{
    static const char *const ends[] = {".log", "", ".lock"}; /* the latter two: of its socket */
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf (path, sizeof path, "%s/%d%s", demo->dir, pid, ends[i]);
        unlink (path);
    }
}

static void end (demo_t *demo)
{
    for (int i = 0; i < SERVERS; i++)
        stop (demo, i, SIGTERM);
    ctalk_server_close (&demo->server, 0);
    ctalk_config_destroy (&demo->config);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        remove_files_of (demo, pid);
    remove_files_of (demo, KV_CLIENTS_FROM);
    unlink (demo->config_path);
    rmdir (demo->dir);
}

int kv_demo (void)
{
    demo_t demo = {.well = true};
    setvbuf (stdout, NULL, _IOLBF, 0);
    bool begun = begin (&demo);
    if (begun) {
        for (int i = 0; i < SERVERS; i++)
            start (&demo, i);
        play (&demo);
        printf (demo.well ? "All is well.\n" : "*** Something is wrong.\n");
    }
    end (&demo);
    return begun && demo.well ? 0 : 1;
}
