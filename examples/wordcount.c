/*
 * wordcount.c - the words of a file, counted by workers on all servers of a
 * cluster, while workers and a whole server die. It shows supervisors, a group
 * that is watched, requests and answers between actors, a call that is answered
 * when the work is done, and processes that are started again.
 *
 *   cc -I. examples/wordcount*.c -o wordcount $(pkg-config --cflags --libs clustertalk)
 *   wordcount --servers 4 --parts 64 --kill /usr/share/common-licenses/GPL-3
 *
 * The parent forks a process per server, and starts one that was killed again.
 * Each has a supervisor over an actor "worker", which joins the group "workers".
 * The coordinator, an actor on the first server, hands a part of the file to
 * each member of the group and the next one when the answer is there. When a
 * member leaves the group with its part unanswered, the part goes to another.
 * An answer to a part that was counted already is left aside, so each part
 * counts once whoever counted it.
 *
 * With --kill one worker ends with a reason other than 0 half through a part (its
 * supervisor starts it again), and another one kills its whole process with
 * SIGKILL half through a part (the parent starts it again).
 *
 * Without --config the servers talk over ipc in a folder of their own. Exit
 * status: 0 the result is that of a plain count in one process, 1 not so, 2 wrong
 * usage.
 */
#include "examples/wordcount_words.h"

#include <clustertalk.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUP "workers"
#define WORKER "worker"
#define COORDINATOR "coordinator"

enum {
    SERVERS_DEFAULT = 4,
    SERVERS_MAX = 64,
    PARTS_DEFAULT = 64,
    PARTS_MAX = 4096,
    RESTARTS_MAX = 3, /* of a worker within RESTARTS_MS; of all processes together */
    RESTARTS_MS = 10000,
    ROOM_WAIT_MS = 5000, /* for room in a queue or a mailbox */
    PATIENCE_MS = 60000, /* nothing came from anybody for so long: the coordinator gives up */
    STOP_MS = 5000,      /* for a worker to stop, a server to close */
    FOLDER_BYTES = 96,   /* of the folder's name; the system takes no more for ipc than 107 for all */
    NOBODY = -1
};

/* The first byte of what a worker is sent, before the part. */
enum { COUNT = 'c', FAIL = 'f', CRASH = 'k' };

/* The msg_id of a part is its number, from 0 on; this is the main thread's call. */
enum { FINISHED = -1 };

/* ------------------------------------------------------------------ the job */

typedef struct {
    size_t start, size;
    enum { WAITING, OUT, COUNTED } state;
} part_t;

/* What all processes know from the fork on. */
typedef struct {
    const char *path; /* of the file */
    char *text;
    size_t size;
    part_t parts[PARTS_MAX]; /* their state is the coordinator's */
    size_t parts_count;
    bool kill;
    ctalk_config_t *config;
    ctalk_pid_t *pids; /* all that the config lists */
    size_t listed;
    size_t servers;            /* the first of them */
    char folder[FOLDER_BYTES]; /* of the ipc sockets; empty: there is a config */
    int until;                 /* in the servers: readable when the parent wants them to end */
} job_t;

static int complain (const char *what)
{
    fprintf (stderr, "wordcount: %s: %s\n", what, strerror (errno));
    return -1;
}

/* Parts of about the same size; no word is cut. */
static void cut (job_t *job, size_t count)
{
    size_t start = 0;
    job->parts_count = count;
    for (size_t i = 0; i < count; i++) {
        size_t end = job->size / count * (i + 1);
        if (i + 1 == count)
            end = job->size;
        if (end < start)
            end = start;
        while (end < job->size && end > 0 && words_is_letter (job->text[end - 1]) && words_is_letter (job->text[end]))
            end++;
        job->parts[i] = (part_t){.start = start, .size = end - start};
        start = end;
    }
}

/* --------------------------------------------------------------- the worker */

/* Counts a part and answers. Returns 0, or the reason to end with. */
static int count_part (ctalk_actor_t *self, const ctalk_envelope_t *request)
{
    words_t words = {0};
    char *lines = NULL;
    size_t size = 0;
    if (words_count (&words, (const char *) request->data + 1, request->size - 1) == 0)
        lines = words_print (&words, &size);
    int result = lines ? ctalk_actor_reply (self, request, lines, size, ROOM_WAIT_MS) : -1;
    if (result == -1 && errno != ESHUTDOWN)
        complain ("a part");
    words_fini (&words);
    free (lines);
    return result == 0 ? 0 : 1;
}

/* Dies with half of a part counted, as it was told. */
static int die (const ctalk_actor_t *self, const ctalk_envelope_t *request, bool crash)
{
    words_t words = {0};
    int pid = (int) ctalk_server_pid (ctalk_actor_server (self));
    if (words_count (&words, (const char *) request->data + 1, (request->size - 1) / 2) == -1)
        complain ("a part");
    printf ("server %d: %s dies half through part %lld, %llu words counted\n", pid,
            crash ? "the process" : "the worker", (long long) request->msg_id, (unsigned long long) words.total);
    fflush (stdout);
    words_fini (&words);
    if (crash)
        kill (getpid (), SIGKILL);
    return 1;
}

static int work (ctalk_actor_t *self, const ctalk_envelope_t *request)
{
    if (request->kind != CTALK_MESSAGE || request->size == 0)
        return 0;
    char order = *(const char *) request->data;
    return order == COUNT ? count_part (self, request) : die (self, request, order == CRASH);
}

static int worker (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t request;
    int reason = 0;
    (void) arg;
    if (ctalk_group_join (self, GROUP) == -1) {
        complain ("joining the workers");
        return 1;
    }
    while (reason == 0 && ctalk_actor_recv (self, &request, -1) == 0) {
        reason = work (self, &request);
        ctalk_envelope_close (&request);
    }
    return reason;
}

/* ---------------------------------------------------------- the coordinator */

typedef struct {
    ctalk_address_t at;
    int part; /* that it was given and has not answered, or NOBODY */
} member_t;

/* Its own, and the main thread's when the call has been answered. */
typedef struct {
    job_t *job;
    member_t members[SERVERS_MAX];
    size_t members_count;
    bool begun;       /* once all workers are there */
    bool fail, crash; /* still to be ordered */
    size_t counted;   /* parts */
    size_t again;     /* times that a part was handed out once more */
    words_t words;
    ctalk_envelope_t asked; /* the call that is answered at the end */
} coordinator_t;

static member_t *find_member (coordinator_t *all, ctalk_pid_t pid, uint64_t actor)
{
    for (size_t i = 0; i < all->members_count; i++) {
        if (all->members[i].at.pid == pid && all->members[i].at.actor == actor)
            return &all->members[i];
    }
    return NULL;
}

/* Takes a member out; its part waits again. */
static void drop (coordinator_t *all, member_t *member)
{
    if (member->part != NOBODY && all->job->parts[member->part].state == OUT) {
        printf ("part %d comes back from server %d, which did not answer\n", member->part, (int) member->at.pid);
        all->job->parts[member->part].state = WAITING;
        all->again++;
    }
    *member = all->members[--all->members_count];
}

static int next_part (const job_t *job)
{
    for (size_t i = 0; i < job->parts_count; i++) {
        if (job->parts[i].state == WAITING)
            return (int) i;
    }
    return NOBODY;
}

/* What a worker is to do with its part: the process of this one may not die. */
static char next_order (coordinator_t *all, const member_t *member)
{
    if (all->crash && member->at.pid != all->job->pids[0]) {
        all->crash = false;
        return CRASH;
    }
    if (all->fail) {
        all->fail = false;
        return FAIL;
    }
    return COUNT;
}

/* Sends a part to a member. -1: it cannot be sent. */
static int send_part (coordinator_t *all, ctalk_actor_t *self, const member_t *member, const part_t *part)
{
    ctalk_envelope_t envelope = {
        .pid = member->at.pid, .to = member->at.actor, .msg_id = part - all->job->parts, .size = part->size + 1};
    char *data = malloc (envelope.size);
    if (!data)
        return -1;
    data[0] = next_order (all, member);
    memcpy (data + 1, all->job->text + part->start, part->size);
    envelope.data = data;
    int result = ctalk_actor_send (self, &envelope, ROOM_WAIT_MS);
    int code = errno;
    free (data);
    errno = code;
    return result;
}

/* Gives all that have nothing to do a part, as far as there are any. -1: no way. */
static int hand_out (coordinator_t *all, ctalk_actor_t *self)
{
    for (size_t i = all->members_count; i-- > 0 && all->begun;) {
        member_t *member = &all->members[i];
        int part = member->part == NOBODY ? next_part (all->job) : NOBODY;
        if (part == NOBODY)
            continue;
        if (send_part (all, self, member, &all->job->parts[part]) == -1) {
            fprintf (stderr, "wordcount: part %d to server %d: %s\n", part, (int) member->at.pid, strerror (errno));
            if (errno != EAGAIN)
                return -1;
            drop (all, member); /* until it joins again */
            continue;
        }
        member->part = part;
        all->job->parts[part].state = OUT;
    }
    return 0;
}

static void joined (coordinator_t *all, const ctalk_envelope_t *event)
{
    if (find_member (all, event->pid, event->from) || all->members_count == SERVERS_MAX)
        return;
    all->members[all->members_count++] = (member_t){.at = {.pid = event->pid, .actor = event->from}, .part = NOBODY};
    if (all->members_count == all->job->servers)
        all->begun = true;
}

static void left (coordinator_t *all, const ctalk_envelope_t *event)
{
    member_t *member = find_member (all, event->pid, event->from);
    if (member)
        drop (all, member);
}

/* An answer: also one of a worker that was given up counts, if it is the first
 * for its part. -1: it is not an answer; ENOMEM. */
static int answered (coordinator_t *all, const ctalk_envelope_t *answer)
{
    member_t *member = find_member (all, answer->pid, answer->from);
    if (answer->msg_id < 0 || (uint64_t) answer->msg_id >= all->job->parts_count) {
        errno = EINVAL;
        return -1;
    }
    if (member && member->part == (int) answer->msg_id)
        member->part = NOBODY;
    part_t *part = &all->job->parts[answer->msg_id];
    if (part->state == COUNTED)
        return 0;
    part->state = COUNTED;
    all->counted++;
    return words_read (&all->words, answer->data, answer->size);
}

/* -1: the work cannot go on. The call is kept open until the end. */
static int take (coordinator_t *all, ctalk_envelope_t *envelope)
{
    int result = 0;
    if (envelope->kind == CTALK_GROUP_JOINED)
        joined (all, envelope);
    else if (envelope->kind == CTALK_GROUP_LEFT)
        left (all, envelope);
    else if (envelope->kind == CTALK_MESSAGE && envelope->msg_id == FINISHED) {
        all->asked = *envelope;
        return 0;
    } else if (envelope->kind == CTALK_MESSAGE)
        result = answered (all, envelope);
    if (result == -1)
        fprintf (stderr, "wordcount: an answer from server %d: %s\n", (int) envelope->pid, strerror (errno));
    ctalk_envelope_close (envelope);
    return result;
}

static bool is_finished (const coordinator_t *all)
{
    return all->counted == all->job->parts_count && all->asked.from != 0;
}

static int lead (coordinator_t *all, ctalk_actor_t *self)
{
    ctalk_envelope_t envelope;
    if (ctalk_group_watch (self, GROUP, true) == -1)
        return complain ("watching the workers");
    while (!is_finished (all)) {
        if (ctalk_actor_recv (self, &envelope, PATIENCE_MS) == -1)
            return complain (errno == EAGAIN ? "nothing comes from any worker" : "receiving");
        if (take (all, &envelope) == -1 || hand_out (all, self) == -1)
            return -1;
    }
    return ctalk_actor_reply (self, &all->asked, NULL, 0, ROOM_WAIT_MS) == 0 ? 0 : complain ("answering");
}

static int coordinator (ctalk_actor_t *self, void *arg)
{
    coordinator_t *all = arg;
    int result = lead (all, self);
    ctalk_envelope_close (&all->asked);
    return result == 0 ? 0 : 1;
}

/* --------------------------------------------------------- the first server */

/* Prints the result, and whether it is that of a plain count. */
static bool print_result (const coordinator_t *all)
{
    const job_t *job = all->job;
    words_t plain = {0};
    bool well = words_count (&plain, job->text, job->size) == 0 && words_print_most (&all->words) == 0;
    if (!well)
        complain ("the result");
    else {
        bool equal = words_equal (&all->words, &plain);
        printf ("%llu words, %zu different, in %zu parts on %zu servers\n", (unsigned long long) all->words.total,
                all->words.used, job->parts_count, job->servers);
        printf ("handed out again: %zu\n", all->again);
        printf ("a plain count says %s: %llu words, %zu different\n", equal ? "the same" : "something else",
                (unsigned long long) plain.total, plain.used);
        well = equal;
    }
    words_fini (&plain);
    return well;
}

/* Starts the coordinator and waits for the end of the work. */
static bool coordinate (ctalk_server_t *server, job_t *job)
{
    coordinator_t all = {.job = job, .fail = job->kill, .crash = job->kill && job->servers > 1};
    ctalk_envelope_t request = {.pid = ctalk_server_pid (server), .msg_id = FINISHED};
    ctalk_envelope_t reply;
    bool well = false;
    request.to = ctalk_actor_spawn (server, COORDINATOR, coordinator, &all);
    if (request.to == 0) {
        complain ("starting the coordinator");
        return false;
    }
    if (ctalk_call (server, &request, &reply, -1) == 0) {
        well = print_result (&all);
        ctalk_envelope_close (&reply);
    } else if (errno != ESRCH) /* it has ended, and said why */
        complain ("waiting for the coordinator");
    if (ctalk_actor_stop (server, request.to, -1) == -1 && errno != ESRCH)
        complain ("stopping the coordinator");
    words_fini (&all.words);
    return well;
}

/* -------------------------------------------------------------- the servers */

static bool start_workers (ctalk_server_t *server)
{
    const ctalk_child_t child = {.name = WORKER, .fn = worker, .stop_timeout_ms = STOP_MS};
    const ctalk_supervision_t how = {
        .strategy = CTALK_ONE_FOR_ONE, .restarts_max = RESTARTS_MAX, .within_ms = RESTARTS_MS};
    if (ctalk_supervisor_spawn (server, NULL, &child, 1, &how) != 0)
        return true;
    complain ("starting the worker");
    return false;
}

/* Servers of the config that do not take part. */
static bool leave_out (ctalk_server_t *server, const job_t *job)
{
    for (size_t i = job->servers; i < job->listed; i++) {
        if (ctalk_server_remove_peer (server, job->pids[i]) == -1) {
            complain ("leaving out a server");
            return false;
        }
    }
    return true;
}

/* Until the parent has closed its end, or has died. */
static void wait_for_parent (const job_t *job)
{
    char byte;
    while (read (job->until, &byte, 1) == -1 && errno == EINTR)
        ;
}

/* One server, from its start to its end. Returns the exit status. */
static int be_server (job_t *job, size_t index)
{
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (job->pids[index], job->config, &error);
    if (!server) {
        fprintf (stderr, "wordcount: server %d: %s\n", (int) job->pids[index], error.text);
        return 1;
    }
    bool well = leave_out (server, job) && start_workers (server);
    if (well && index == 0)
        well = coordinate (server, job);
    else if (well)
        wait_for_parent (job);
    int abandoned = ctalk_server_close (&server, STOP_MS);
    if (abandoned > 0) /* a part that was handed out twice, or an answer to it */
        fprintf (stderr, "wordcount: server %d: %d envelopes were not delivered\n", (int) job->pids[index], abandoned);
    return well ? 0 : 1;
}

/* --------------------------------------------------------------- the parent */

typedef struct {
    job_t *job;
    pid_t processes[SERVERS_MAX]; /* 0: none runs */
    size_t running;
    int restarts;
    int until; /* the end that is closed when all are to end; -1 then */
    bool failed;
    sigset_t signals; /* that it waits for ... */
    sigset_t former;  /* ... and the mask of the children */
} parent_t;

static void kill_all (parent_t *parent)
{
    for (size_t i = 0; i < parent->job->servers; i++) {
        if (parent->processes[i] != 0)
            kill (parent->processes[i], SIGKILL);
    }
}

/* In the child, which knows nothing of the library yet but the config: no thread
 * runs. The keyboard's signals go to all; the parent alone answers them. */
static _Noreturn void be_child (parent_t *parent, size_t index, pid_t parent_process)
{
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != parent_process)
        _exit (1);
    signal (SIGINT, SIG_IGN);
    signal (SIGHUP, SIG_IGN);
    sigprocmask (SIG_SETMASK, &parent->former, NULL);
    close (parent->until);
    int status = be_server (parent->job, index);
    ctalk_config_destroy (&parent->job->config);
    fflush (stdout);
    _exit (status);
}

static void start_process (parent_t *parent, size_t index)
{
    pid_t self = getpid ();
    fflush (stdout);
    pid_t process = fork ();
    if (process == 0)
        be_child (parent, index, self);
    if (process == -1) {
        complain ("starting a process");
        parent->failed = true;
        kill_all (parent);
        return;
    }
    parent->processes[index] = process;
    parent->running++;
}

static void let_end (parent_t *parent)
{
    if (parent->until != -1)
        close (parent->until);
    parent->until = -1;
}

/* One of the processes has ended: the work is done, or it is started again, or
 * that is the end. */
static void ended (parent_t *parent, size_t index, int status)
{
    int pid = (int) parent->job->pids[index];
    parent->processes[index] = 0;
    parent->running--;
    if (WIFEXITED (status) && WEXITSTATUS (status) == 0 && (index == 0 || parent->until == -1)) {
        let_end (parent);
        return;
    }
    if (parent->failed)
        return;
    if (WIFSIGNALED (status)) {
        bool again = index != 0 && parent->until != -1 && parent->restarts < RESTARTS_MAX;
        printf ("server %d was killed by signal %d%s\n", pid, WTERMSIG (status), again ? ", and is started again" : "");
        if (again) {
            parent->restarts++;
            start_process (parent, index);
            return;
        }
    } else
        fprintf (stderr, "wordcount: server %d ended with status %d\n", pid, WEXITSTATUS (status));
    parent->failed = true;
    kill_all (parent);
}

/* All that have ended; one signal may stand for several. */
static void reap (parent_t *parent)
{
    int status;
    pid_t process;
    while ((process = waitpid (-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < parent->job->servers; i++) {
            if (parent->processes[i] == process) {
                ended (parent, i, status);
                break;
            }
        }
    }
}

/* Until no process is left. */
static void wait_for_all (parent_t *parent)
{
    while (parent->running > 0) {
        int number = sigwaitinfo (&parent->signals, NULL);
        if (number == SIGCHLD)
            reap (parent);
        else if (number != -1) {
            fprintf (stderr, "wordcount: %s\n", strsignal (number));
            parent->failed = true;
            kill_all (parent);
        }
    }
}

/* Returns the exit status. */
static int run (job_t *job)
{
    parent_t parent = {.job = job};
    int ends[2];
    if (pipe (ends) == -1) {
        complain ("a pipe");
        return 1;
    }
    job->until = ends[0];
    parent.until = ends[1];
    sigemptyset (&parent.signals);
    sigaddset (&parent.signals, SIGCHLD);
    sigaddset (&parent.signals, SIGINT);
    sigaddset (&parent.signals, SIGTERM);
    sigaddset (&parent.signals, SIGHUP);
    sigprocmask (SIG_BLOCK, &parent.signals, &parent.former);
    for (size_t i = 0; i < job->servers && !parent.failed; i++)
        start_process (&parent, i);
    wait_for_all (&parent);
    let_end (&parent);
    close (job->until);
    return parent.failed ? 1 : 0;
}

/* ---------------------------------------------------------------- the start */

static int load_text (job_t *job)
{
    FILE *file = fopen (job->path, "rb");
    FILE *memory = file ? open_memstream (&job->text, &job->size) : NULL;
    char block[BUFSIZ];
    size_t size;
    if (!memory) {
        complain (job->path);
        if (file)
            fclose (file);
        return -1;
    }
    while ((size = fread (block, 1, sizeof block, file)) > 0 && fwrite (block, 1, size, memory) == size)
        ;
    bool failed = ferror (file) || ferror (memory);
    int code = errno;
    fclose (file);
    failed = fclose (memory) == EOF || failed;
    errno = code;
    return failed ? complain (job->path) : 0;
}

/* Without a file: ipc in a folder of its own. */
static ctalk_config_t *make_config (job_t *job, size_t servers, ctalk_error_t *error)
{
    const char *where = getenv ("TMPDIR");
    ctalk_config_t *config = ctalk_config_new ();
    int length = snprintf (job->folder, sizeof job->folder, "%s/wordcount-XXXXXX", where && *where ? where : "/tmp");
    if (length >= (int) sizeof job->folder)
        errno = ENAMETOOLONG;
    if (!config || length >= (int) sizeof job->folder || !mkdtemp (job->folder)) {
        snprintf (error->text, sizeof error->text, "a config: %s", strerror (errno));
        job->folder[0] = '\0';
        ctalk_config_destroy (&config);
        return NULL;
    }
    for (size_t i = 1; i <= servers; i++) {
        char endpoint[FOLDER_BYTES + 32];
        snprintf (endpoint, sizeof endpoint, "ipc://%s/%zu", job->folder, i);
        if (ctalk_config_add_server (config, (ctalk_pid_t) i, endpoint, error) == -1)
            ctalk_config_destroy (&config);
    }
    return config;
}

static void remove_folder (const job_t *job)
{
    char path[FOLDER_BYTES + 32];
    if (!job->folder[0])
        return;
    for (size_t i = 1; i <= job->servers; i++) {
        snprintf (path, sizeof path, "%s/%zu", job->folder, i);
        unlink (path); /* there only if it was killed */
    }
    if (rmdir (job->folder) == -1)
        complain (job->folder);
}

/* Reads or makes the config; that starts no thread. servers 0: all there are. */
static int choose_servers (job_t *job, const char *path, size_t servers)
{
    ctalk_error_t error = {0};
    job->config =
        path ? ctalk_config_load (path, &error) : make_config (job, servers ? servers : SERVERS_DEFAULT, &error);
    if (!job->config) {
        fprintf (stderr, "wordcount: %s\n", error.text);
        return -1;
    }
    int listed = ctalk_config_pids (job->config, NULL, 0);
    job->listed = listed > 0 ? (size_t) listed : 0;
    job->servers = servers ? servers : job->listed;
    if (job->servers > job->listed || job->servers > SERVERS_MAX || job->servers == 0) {
        fprintf (stderr, "wordcount: %s lists %zu servers; wanted are 1 to %d, or --servers\n",
                 path ? path : "the config", job->listed, (int) SERVERS_MAX);
        return -1;
    }
    job->pids = calloc (job->listed, sizeof *job->pids);
    if (!job->pids)
        return complain ("the servers");
    ctalk_config_pids (job->config, job->pids, job->listed);
    return 0;
}

static int usage (const char *what)
{
    fprintf (stderr, "wordcount: %s\nusage: wordcount [--config FILE] [--servers N] [--parts K] [--kill] FILE\n", what);
    return 2;
}

/* A number from 1 to most, or 0. */
static size_t number (const char *text, long most)
{
    char *end;
    errno = 0;
    long value = strtol (text, &end, 10);
    return end != text && !*end && errno == 0 && value >= 1 && value <= most ? (size_t) value : 0;
}

static int count_words (job_t *job, const char *config_path, size_t servers, size_t parts)
{
    int status = 1;
    if (load_text (job) == 0 && choose_servers (job, config_path, servers) == 0) {
        cut (job, parts);
        status = run (job);
    }
    remove_folder (job);
    ctalk_config_destroy (&job->config);
    free (job->pids);
    free (job->text);
    return status;
}

int main (int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"servers", required_argument, NULL, 's'},
                                            {"parts", required_argument, NULL, 'p'},
                                            {"kill", no_argument, NULL, 'k'},
                                            {NULL, 0, NULL, 0}};
    static job_t job;
    const char *config_path = NULL;
    size_t servers = 0;
    size_t parts = PARTS_DEFAULT;
    int option;
    while ((option = getopt_long (argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            config_path = optarg;
        else if (option == 's' && (servers = number (optarg, SERVERS_MAX)) == 0)
            return usage ("--servers: a number from 1 to 64");
        else if (option == 'p' && (parts = number (optarg, PARTS_MAX)) == 0)
            return usage ("--parts: a number from 1 to 4096");
        else if (option == 'k')
            job.kill = true;
        else if (option == '?')
            return usage ("an option that it does not know, or without its argument");
    }
    if (optind + 1 != argc)
        return usage ("one FILE is wanted");
    job.path = argv[optind];
    setvbuf (stdout, NULL, _IOLBF, BUFSIZ); /* of several processes, line by line */
    return count_words (&job, config_path, servers, parts);
}
