/*
 * kvstore.c - a replicated key-value store: five servers (or three, or seven), of
 * which all but a majority may die at any moment, kill -9, without anything being
 * lost that a client was told is done; and reads that always see it.
 *
 *   kvstore demo
 *   kvstore serve --config FILE --pid N --data DIR
 *   kvstore put KEY VALUE --config FILE --pid N
 *   kvstore get KEY --config FILE --pid N
 *   kvstore cas KEY [EXPECTED] VALUE --config FILE --pid N
 *   kvstore who --config FILE --pid N
 *
 * "demo" needs no config and shows it in seconds. "cas" puts the value if the
 * present one is the expected one or, without an expected one, if there is none.
 *
 * ClusterTalk has members of a cluster and nothing else: a client is a server of
 * the cluster, too, with a pid and an endpoint of its own in the config, and runs
 * no part of the store. Pids below 100 are the store, from 100 on they are
 * clients. As long as one runs, its pid cannot be used by another one.
 *
 * From here: kvstore_actor.c is the server, kvstore_log.c the algorithm (Raft),
 * kvstore_disk.c what it saves, kvstore_state.c the keys and values,
 * kvstore_wire.c the bytes, kvstore_client.c how a client asks.
 */
#include "examples/kvstore.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/kvstore_actor.h"
#include "examples/kvstore_client.h"

enum { CLOSE_MS = 1000, ANSWER_MS = 10000 };

static const char usage[] = "usage: kvstore demo\n"
                            "       kvstore serve --config FILE --pid N --data DIR\n"
                            "       kvstore put KEY VALUE --config FILE --pid N\n"
                            "       kvstore get KEY --config FILE --pid N\n"
                            "       kvstore cas KEY [EXPECTED] VALUE --config FILE --pid N\n"
                            "       kvstore who --config FILE --pid N\n"
                            "Pids below 100 are servers of the store, from 100 on they are clients.\n";

static int complain (const char *what)
{
    fprintf (stderr, "kvstore: %s\n", what);
    return 1;
}

size_t kv_members (const ctalk_config_t *config, ctalk_pid_t *members)
{
    int count = ctalk_config_pids (config, NULL, 0);
    ctalk_pid_t *pids = kv_resize (NULL, ((size_t) count + 1) * sizeof *pids);
    size_t found = 0;
    ctalk_config_pids (config, pids, (size_t) count);
    for (int i = 0; i < count && pids[i] < KV_CLIENTS_FROM; i++) {
        if (found < KV_MEMBERS_MAX)
            members[found] = pids[i];
        found++;
    }
    free (pids);
    return found <= KV_MEMBERS_MAX ? found : 0;
}

/* ---- serve */

static ctalk_server_t *the_server; /* for the signal handler */
static volatile sig_atomic_t stopping;

static void stop (int signal_number)
{
    (void) signal_number;
    stopping = 1;
    ctalk_server_wake (the_server);
}

static void catch_signals (ctalk_server_t *server)
{
    struct sigaction action = {.sa_handler = stop};
    the_server = server;
    sigaction (SIGINT, &action, NULL);
    sigaction (SIGTERM, &action, NULL);
}

/* Nobody sends to the server itself but its own actor, when it has failed. */
static int wait_for_end (ctalk_server_t *server)
{
    ctalk_envelope_t envelope;
    while (!stopping) {
        if (ctalk_recv (server, &envelope, -1) == -1)
            continue; /* woken */
        bool failed = envelope.pid == ctalk_server_pid (server) && envelope.msg_id == KV_FAILED;
        if (failed)
            fprintf (stderr, "kvstore: the disk: %.*s\n", (int) envelope.size, (const char *) envelope.data);
        ctalk_envelope_close (&envelope);
        if (failed)
            return 1;
    }
    return 0;
}

static int serve_with (const ctalk_config_t *config, ctalk_pid_t pid, const kv_options_t *options)
{
    ctalk_error_t error;
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    if (!server)
        return complain (error.text);
    catch_signals (server);
    int status = ctalk_actor_spawn (server, KV_ACTOR, kv_actor, (void *) options) ? wait_for_end (server)
                                                                                  : complain (strerror (errno));
    signal (SIGINT, SIG_IGN); /* the handler must not find it closed */
    signal (SIGTERM, SIG_IGN);
    ctalk_server_close (&server, CLOSE_MS);
    return status;
}

int kv_serve (const ctalk_config_t *config, ctalk_pid_t pid, const char *dir)
{
    kv_disk_t disk;
    ctalk_pid_t members[KV_MEMBERS_MAX];
    kv_options_t options = {.members = members,
                            .members_count = kv_members (config, members),
                            .disk = &disk,
                            .heartbeat_ms = KV_HEARTBEAT_MS,
                            .election_ms = KV_ELECTION_MS};
    if (options.members_count == 0)
        return complain ("the config must have 1 to 15 servers with pids below 100");
    if (pid >= KV_CLIENTS_FROM)
        return complain ("this is the pid of a client");
    if (!kv_disk_open (&disk, dir, pid))
        return complain (errno == EAGAIN ? "another process uses these data" : strerror (errno));
    int status = serve_with (config, pid, &options);
    kv_disk_close (&disk);
    return status;
}

/* ---- put, get, cas, who */

static void print_text (kv_text_t text)
{
    fwrite (text.data, 1, text.size, stdout);
    putchar ('\n');
}

/* 0: done; 1: failed; 3: there is no such key, or its value is another one. */
static int print_answer (const kv_request_t *request, const kv_answer_t *answer)
{
    switch (answer->status) {
    case KV_DONE:
        if (request->op == KV_GET)
            print_text (answer->value);
        return 0;
    case KV_ABSENT:
        fprintf (stderr, "kvstore: no such key\n");
        return 3;
    case KV_DIFFERS:
        fprintf (stderr, "kvstore: not done, the value is another one: ");
        print_text (answer->value);
        return 3;
    default:
        return complain ("the request was refused");
    }
}

static int ask (ctalk_server_t *server, const ctalk_pid_t *members, size_t count, kv_request_t *request)
{
    kv_client_t client;
    kv_answer_t answer;
    ctalk_envelope_t reply;
    kv_client_init (&client, kv_client_id (server, 0), members, count);
    if (kv_client_do (&client, server, request, &answer, &reply, ANSWER_MS) == -1) {
        if (errno != ETIMEDOUT || request->op == KV_GET)
            return complain (strerror (errno));
        return complain ("no answer: it may have been done, or not");
    }
    int status = print_answer (request, &answer);
    ctalk_envelope_close (&reply);
    return status;
}

/* Each server on its own. */
static int print_who (ctalk_server_t *server, const ctalk_pid_t *members, size_t count)
{
    int answered = 0;
    for (size_t i = 0; i < count; i++) {
        kv_client_t client;
        kv_request_t request = {.op = KV_WHO};
        kv_answer_t answer;
        ctalk_envelope_t reply;
        kv_client_init (&client, kv_client_id (server, (unsigned) i), &members[i], 1);
        if (kv_client_do (&client, server, &request, &answer, &reply, KV_TRY_MS) == -1) {
            printf ("%d: %s\n", members[i], strerror (errno));
            continue;
        }
        printf ("%d: %s, term %llu, %llu entries, %llu committed, %llu applied; leader: %d\n", members[i],
                answer.leader == members[i] ? "leads" : "follows", (unsigned long long) answer.term,
                (unsigned long long) answer.last, (unsigned long long) answer.commit,
                (unsigned long long) answer.applied, answer.leader);
        ctalk_envelope_close (&reply);
        answered++;
    }
    return answered ? 0 : 1;
}

static int be_client (const ctalk_config_t *config, ctalk_pid_t pid, kv_request_t *request)
{
    ctalk_error_t error;
    ctalk_pid_t members[KV_MEMBERS_MAX];
    size_t count = kv_members (config, members);
    if (count == 0)
        return complain ("the config must have 1 to 15 servers with pids below 100");
    if (pid < KV_CLIENTS_FROM)
        return complain ("this is the pid of a server of the store");
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    if (!server)
        return complain (error.text);
    int status = request->op == KV_WHO ? print_who (server, members, count) : ask (server, members, count, request);
    ctalk_server_close (&server, CLOSE_MS);
    return status;
}

/* ---- the command line */

static kv_text_t text_of (const char *text)
{
    return (kv_text_t){.data = text, .size = strlen (text)};
}

/* The request that the words say: false, they say none. */
static bool parse (char **word, int words, kv_request_t *request)
{
    static const struct {
        const char *name;
        kv_op_t op;
        int least, most;
    } commands[] = {{"get", KV_GET, 2, 2}, {"put", KV_PUT, 3, 3}, {"cas", KV_CAS, 3, 4}, {"who", KV_WHO, 1, 1}};
    *request = (kv_request_t){0};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp (word[0], commands[i].name) && words >= commands[i].least && words <= commands[i].most)
            request->op = commands[i].op;
    if (words > 1)
        request->key = text_of (word[1]);
    if (words > 2)
        request->value = text_of (word[words - 1]);
    if (words == 4)
        request->expected = text_of (word[2]);
    request->absent = request->op == KV_CAS && words == 3;
    return request->op && request->key.size <= KV_KEY_MAX && request->value.size <= KV_VALUE_MAX;
}

typedef struct {
    const char *config, *data;
    ctalk_pid_t pid; /* -1: not given */
} arguments_t;

static bool read_options (int argc, char **argv, arguments_t *arguments)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {"data", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    *arguments = (arguments_t){.pid = -1};
    for (int option; (option = getopt_long (argc, argv, "", options, NULL)) != -1;) {
        char *end = NULL;
        if (option == 'c')
            arguments->config = optarg;
        else if (option == 'd')
            arguments->data = optarg;
        else if (option == 'p')
            arguments->pid = (ctalk_pid_t) strtol (optarg, &end, 10);
        if (option == '?' || (end && (end == optarg || *end)))
            return false;
    }
    return optind < argc;
}

int main (int argc, char **argv)
{
    arguments_t arguments;
    kv_request_t request;
    ctalk_error_t error;
    if (!read_options (argc, argv, &arguments))
        return fputs (usage, stderr), 2;
    if (!strcmp (argv[optind], "demo") && argc == 2)
        return kv_demo ();
    bool serves = !strcmp (argv[optind], "serve") && argc - optind == 1 && arguments.data;
    if ((!serves && !parse (argv + optind, argc - optind, &request)) || !arguments.config || arguments.pid < 0)
        return fputs (usage, stderr), 2;

    ctalk_config_t *config = ctalk_config_load (arguments.config, &error);
    if (!config)
        return complain (error.text);
    int status =
        serves ? kv_serve (config, arguments.pid, arguments.data) : be_client (config, arguments.pid, &request);
    ctalk_config_destroy (&config);
    return status;
}
