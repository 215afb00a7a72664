/*
 * chat.c - a chat over the cluster, one process per person. It shows an actor
 * that joins a group and watches it, sends to a group, calls, and messages
 * between actors.
 *
 *   cc chat.c -o chat $(pkg-config --cflags --libs clustertalk)
 *   chat --config local-3.json --pid 1 --name ann
 *   chat --config local-3.json --pid 2 --name bob        (in another terminal)
 *
 * A line of standard input goes to all who are there; "/msg PID TEXT" goes to
 * the person on that server alone; "/who" lists who is there; the end of the
 * input (or Ctrl-C) leaves. Exit status: 0 all that was said was delivered, 1
 * not so, or the chat could not begin, 2 wrong usage.
 *
 * The main thread reads the input and sends. The actor receives and prints, and
 * owns the list of people: nothing is shared, so nothing is locked.
 */
#include <clustertalk.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUP "chat" /* that all actors of the chat join */
#define ACTOR "chat" /* the actor's name, on every server */

enum {
    NAME_BYTES = 32,     /* of a person's name, with its end */
    PEOPLE_MAX = 256,    /* that the list holds */
    ROOM_WAIT_MS = 3000, /* for room in a queue or a mailbox */
    ANSWER_MS = 3000,    /* for the answer to a call */
    CLOSE_MS = 5000      /* for the delivery of what was said last */
};

/* What an envelope is, in its msg_id. The payload of the first two is "NAME\nTEXT",
 * of the next two a name. */
enum {
    SAID = 1,  /* to the group */
    WHISPERED, /* to one, a call: the answer says that it was printed */
    HELLO,     /* I am ..., and you? */
    NAME,      /* I am ... */
    READY,     /* of the own main thread, a call: answered when the actor is in the group */
    WHO        /* of the own main thread: print who is there */
};

typedef struct {
    ctalk_address_t at; /* actor 0: the place is free */
    char name[NAME_BYTES];
    bool here; /* the group has it */
    bool told; /* that it has joined was printed */
} person_t;

/* Of the actor alone. */
typedef struct {
    const char *name; /* of the own person */
    person_t people[PEOPLE_MAX];
} room_t;

static int complain (const char *what)
{
    fprintf (stderr, "chat: %s: %s\n", what, strerror (errno));
    return -1;
}

/* ----------------------------------------------------------------- printing */

/* What others send must not drive the terminal. */
static void put (const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        putchar (iscntrl ((unsigned char) text[i]) && text[i] != '\t' ? '?' : text[i]);
}

/* "NAMEhowTEXT", from the payload of SAID and WHISPERED. */
static void print_said (const ctalk_envelope_t *envelope, const char *how)
{
    const char *name = envelope->data;
    const char *end = envelope->size > 0 ? memchr (name, '\n', envelope->size) : NULL;
    if (!end) /* another program's */
        return;
    size_t name_size = (size_t) (end - name);
    flockfile (stdout);
    put (name, name_size);
    fputs (how, stdout);
    put (end + 1, envelope->size - name_size - 1);
    putchar ('\n');
    funlockfile (stdout);
}

/* --------------------------------------------------------------- the people */

/* The place of an actor in the list, a free one if it has none yet. NULL: the
 * list is full. */
static person_t *person_of (room_t *room, const ctalk_envelope_t *envelope)
{
    person_t *unused = NULL;
    for (size_t i = 0; i < PEOPLE_MAX; i++) {
        person_t *person = &room->people[i];
        if (person->at.pid == envelope->pid && person->at.actor == envelope->from)
            return person;
        if (person->at.actor == 0 && !unused)
            unused = person;
    }
    if (unused)
        *unused = (person_t){.at = {.pid = envelope->pid, .actor = envelope->from}};
    return unused;
}

static void send_name (room_t *room, ctalk_actor_t *self, const ctalk_envelope_t *to, int64_t msg_id)
{
    ctalk_envelope_t envelope = {
        .pid = to->pid, .to = to->from, .msg_id = msg_id, .data = room->name, .size = strlen (room->name)};
    if (ctalk_actor_send (self, &envelope, ROOM_WAIT_MS) == -1 && errno != ESHUTDOWN)
        complain ("telling the own name");
}

/* Both the group's word and the name are needed, whichever comes first. */
static void welcome (person_t *person)
{
    if (!person->here || !person->name[0] || person->told)
        return;
    printf ("* %s has joined (server %d)\n", person->name, (int) person->at.pid);
    person->told = true;
}

static void joined (room_t *room, ctalk_actor_t *self, const ctalk_envelope_t *envelope)
{
    person_t *person = person_of (room, envelope);
    if (!person)
        return;
    person->here = true;
    if (person->at.actor == ctalk_actor_id (self) && person->at.pid == ctalk_server_pid (ctalk_actor_server (self)))
        return;
    welcome (person);
    send_name (room, self, envelope, HELLO);
}

static void left (room_t *room, const ctalk_envelope_t *envelope)
{
    person_t *person = person_of (room, envelope);
    if (!person)
        return;
    if (person->told)
        printf ("* %s has left\n", person->name);
    *person = (person_t){0};
}

static void named (room_t *room, const ctalk_envelope_t *envelope)
{
    person_t *person = envelope->size > 0 && envelope->size < NAME_BYTES ? person_of (room, envelope) : NULL;
    if (!person)
        return;
    for (size_t i = 0; i < envelope->size; i++) {
        char c = ((const char *) envelope->data)[i];
        person->name[i] = iscntrl ((unsigned char) c) ? '?' : c;
    }
    person->name[envelope->size] = '\0';
    welcome (person);
}

static const char *name_of (const room_t *room, const ctalk_address_t *at)
{
    for (size_t i = 0; i < PEOPLE_MAX; i++) {
        const person_t *person = &room->people[i];
        if (person->at.actor == at->actor && person->at.pid == at->pid && person->name[0])
            return person->name;
    }
    return "?";
}

static void print_people (const room_t *room, ctalk_actor_t *self)
{
    ctalk_server_t *server = ctalk_actor_server (self);
    ctalk_address_t members[PEOPLE_MAX];
    int count = ctalk_group_members (server, GROUP, members, PEOPLE_MAX);
    if (count == -1) {
        complain ("who is there");
        return;
    }
    printf ("* in the chat: %d\n", count);
    for (int i = 0; i < count && i < PEOPLE_MAX; i++) {
        bool own = members[i].pid == ctalk_server_pid (server) && members[i].actor == ctalk_actor_id (self);
        printf ("* server %d: %s%s\n", (int) members[i].pid, own ? room->name : name_of (room, &members[i]),
                own ? " (you)" : "");
    }
}

/* ---------------------------------------------------------------- the actor */

static void answer (ctalk_actor_t *self, const ctalk_envelope_t *request)
{
    if (ctalk_actor_reply (self, request, NULL, 0, ROOM_WAIT_MS) == -1 && errno != ESHUTDOWN)
        complain ("answering");
}

/* What the own main thread asks for. */
static void obey (room_t *room, ctalk_actor_t *self, const ctalk_envelope_t *envelope)
{
    if (envelope->msg_id == READY)
        answer (self, envelope);
    else if (envelope->msg_id == WHO)
        print_people (room, self);
}

static void hear (room_t *room, ctalk_actor_t *self, const ctalk_envelope_t *envelope)
{
    bool own = envelope->pid == ctalk_server_pid (ctalk_actor_server (self));
    if (envelope->msg_id == SAID && !own) /* who types a line sees it as it is */
        print_said (envelope, ": ");
    else if (envelope->msg_id == WHISPERED) {
        print_said (envelope, " to you: ");
        answer (self, envelope);
    } else if (envelope->msg_id == HELLO) {
        named (room, envelope);
        send_name (room, self, envelope, NAME);
    } else if (envelope->msg_id == NAME)
        named (room, envelope);
    else if (own)
        obey (room, self, envelope);
}

/* Goes on until it is stopped. An actor that ends leaves its groups. */
static int chat (ctalk_actor_t *self, void *arg)
{
    room_t *room = arg;
    ctalk_envelope_t envelope;
    if (ctalk_group_watch (self, GROUP, true) == -1 || ctalk_group_join (self, GROUP) == -1) {
        complain ("joining");
        return 1;
    }
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        if (envelope.kind == CTALK_GROUP_JOINED)
            joined (room, self, &envelope);
        else if (envelope.kind == CTALK_GROUP_LEFT)
            left (room, &envelope);
        else if (envelope.kind == CTALK_MESSAGE)
            hear (room, self, &envelope);
        ctalk_envelope_close (&envelope);
    }
    if (errno == ESHUTDOWN)
        return 0;
    complain ("receiving");
    return 1;
}

/* ---------------------------------------------------------------- the input */

/* "NAME\nTEXT" in memory of its own. NULL: there is none. */
static char *compose (const char *name, const char *text, size_t text_size, size_t *size)
{
    size_t name_size = strlen (name);
    char *data = malloc (name_size + 1 + text_size);
    if (!data) {
        complain ("this line");
        return NULL;
    }
    memcpy (data, name, name_size);
    data[name_size] = '\n';
    memcpy (data + name_size + 1, text, text_size);
    *size = name_size + 1 + text_size;
    return data;
}

static int say (ctalk_server_t *server, const char *name, const char *text, size_t text_size)
{
    ctalk_envelope_t envelope = {.msg_id = SAID};
    char *data = compose (name, text, text_size, &envelope.size);
    if (!data)
        return -1;
    envelope.data = data;
    errno = 0;
    int reached = ctalk_group_send (server, GROUP, &envelope, ROOM_WAIT_MS);
    int code = errno;
    free (data);
    errno = code;
    if (reached == -1)
        return complain ("not sent");
    if (code == EAGAIN) {
        fprintf (stderr, "chat: somebody has no room for more, and did not get this line\n");
        return -1;
    }
    if (reached <= 1) /* the own actor is a member */
        printf ("* nobody else is here\n");
    return 0;
}

static const char *why_not_whispered (int code)
{
    switch (code) {
    case EHOSTUNREACH:
        return "there is no such server in the cluster";
    case ESRCH:
        return "nobody is there";
    case EHOSTDOWN:
        return "that server is down";
    case EAGAIN:
    case ETIMEDOUT:
        return "no answer";
    default:
        return strerror (code);
    }
}

/* "PID TEXT", with a receipt: the call returns when the other side printed it. */
static int whisper (ctalk_server_t *server, const char *name, const char *text, size_t text_size)
{
    char *end;
    errno = 0;
    long pid = strtol (text, &end, 10);
    if (end == text || *end != ' ' || errno != 0 || pid < 0 || pid > INT32_MAX) {
        fprintf (stderr, "chat: /msg PID TEXT\n");
        return -1;
    }
    end++;
    ctalk_envelope_t request = {.pid = (ctalk_pid_t) pid, .to = ctalk_actor_named (ACTOR), .msg_id = WHISPERED};
    ctalk_envelope_t receipt;
    char *data = compose (name, end, text_size - (size_t) (end - text), &request.size);
    if (!data)
        return -1;
    request.data = data;
    int result = ctalk_call (server, &request, &receipt, ANSWER_MS);
    if (result == -1)
        fprintf (stderr, "chat: to server %ld: %s\n", pid, why_not_whispered (errno));
    ctalk_envelope_close (&receipt);
    free (data);
    return result;
}

static int ask_who (ctalk_server_t *server)
{
    ctalk_envelope_t envelope = {.pid = ctalk_server_pid (server), .to = ctalk_actor_named (ACTOR), .msg_id = WHO};
    return ctalk_send (server, &envelope, ROOM_WAIT_MS) == 0 ? 0 : complain ("who is there");
}

static int obey_line (ctalk_server_t *server, const char *name, const char *line, size_t size)
{
    if (size == 0)
        return 0;
    if (line[0] != '/')
        return say (server, name, line, size);
    if (strcmp (line, "/who") == 0)
        return ask_who (server);
    if (strncmp (line, "/msg ", 5) == 0)
        return whisper (server, name, line + 5, size - 5);
    fprintf (stderr, "chat: a text, /msg PID TEXT or /who\n");
    return -1;
}

static int null_fd;

/* The next read finds the end of the input, also if it begins only now. */
static void end_input (int signal_number)
{
    int code = errno;
    (void) signal_number;
    dup2 (null_fd, STDIN_FILENO);
    errno = code;
}

static int catch_signals (void)
{
    struct sigaction action = {.sa_handler = end_input}; /* no SA_RESTART: a read that waits ends */
    null_fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd == -1 || sigaction (SIGINT, &action, NULL) == -1 || sigaction (SIGTERM, &action, NULL) == -1)
        return complain ("catching signals");
    return 0;
}

/* Returns whether all that was read went out. */
static bool read_lines (ctalk_server_t *server, const char *name)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    bool well = true;
    while ((size = getline (&line, &capacity, stdin)) != -1) {
        if (line[size - 1] == '\n')
            line[--size] = '\0';
        if (obey_line (server, name, line, (size_t) size) == -1)
            well = false;
    }
    if (ferror (stdin) && errno != EINTR) {
        complain ("standard input");
        well = false;
    }
    free (line);
    return well;
}

/* ------------------------------------------------------------ start and end */

/* Starts the actor and waits until it is in the group. */
static int enter (ctalk_server_t *server, room_t *room)
{
    ctalk_envelope_t request = {.pid = ctalk_server_pid (server), .msg_id = READY};
    ctalk_envelope_t reply;
    request.to = ctalk_actor_spawn (server, ACTOR, chat, room);
    if (request.to == 0)
        return complain ("starting the actor");
    if (ctalk_call (server, &request, &reply, -1) == -1)
        return complain ("entering the chat");
    ctalk_envelope_close (&reply);
    return 0;
}

/* Returns whether all was delivered. */
static bool leave (ctalk_server_t **server_p)
{
    bool well = true;
    if (ctalk_actor_stop (*server_p, ctalk_actor_named (ACTOR), CLOSE_MS) == -1 && errno != ESRCH) {
        complain ("leaving");
        well = false;
    }
    int abandoned = ctalk_server_close (server_p, CLOSE_MS);
    if (abandoned == 0)
        return well;
    fprintf (stderr, "chat: %d envelopes were not delivered\n", abandoned);
    return false;
}

static int take_part (ctalk_pid_t pid, const ctalk_config_t *config, room_t *room)
{
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    if (!server) {
        fprintf (stderr, "chat: %s\n", error.text);
        return 1;
    }
    bool well = enter (server, room) == 0 && read_lines (server, room->name);
    return leave (&server) && well ? 0 : 1;
}

static int usage (void)
{
    fprintf (stderr, "usage: chat --config FILE --pid N --name NAME\n");
    return 2;
}

/* A number from 0 on, or -1. */
static long number (const char *text)
{
    char *end;
    errno = 0;
    long value = strtol (text, &end, 10);
    return end != text && !*end && errno == 0 && value >= 0 && value <= INT32_MAX ? value : -1;
}

static bool is_name (const char *name)
{
    size_t size = strlen (name);
    for (size_t i = 0; i < size; i++) {
        if (iscntrl ((unsigned char) name[i]))
            return false;
    }
    return size > 0 && size < NAME_BYTES;
}

int main (int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {"name", required_argument, NULL, 'n'},
                                            {NULL, 0, NULL, 0}};
    static room_t room;
    const char *path = NULL;
    long pid = -1;
    int option;
    while ((option = getopt_long (argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            path = optarg;
        else if (option == 'p')
            pid = number (optarg);
        else if (option == 'n')
            room.name = optarg;
        else
            return usage ();
    }
    if (!path || pid == -1 || !room.name || !is_name (room.name) || optind != argc)
        return usage ();

    ctalk_error_t error = {0};
    ctalk_config_t *config = ctalk_config_load (path, &error);
    if (!config) {
        fprintf (stderr, "chat: %s\n", error.text);
        return 1;
    }
    setvbuf (stdout, NULL, _IOLBF, BUFSIZ); /* a line is seen when it comes, in a pipe too */
    int status = catch_signals () == 0 ? take_part ((ctalk_pid_t) pid, config, &room) : 1;
    ctalk_config_destroy (&config);
    return status;
}
