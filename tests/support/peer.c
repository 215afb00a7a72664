/*
 * peer.c - a member of the cluster in a process of its own. It obeys commands of
 * one byte: g (go: make the server), e, s, h (echo, sink, hold), t (taken?), c (close).
 */
#include "tests/support/peer.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/support/scale.h"

enum { AT_ONCE = 64 };

static bool take (ctalk_server_t *server, bool echo, int64_t *taken, ctki_trouble_t *trouble)
{
    for (int i = 0; i < AT_ONCE; i++) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (server, &envelope, 0)) {
            CTKI_EXPECT_EQUAL (trouble, errno, EAGAIN);
            return true;
        }
        ctalk_envelope_t back = {.pid = envelope.pid, .msg_id = envelope.msg_id};
        back.data = envelope.data;
        back.size = envelope.size;
        if (echo)
            CTKI_EXPECT_EQUAL (trouble, ctalk_send (server, &back, ctki_test_long_ms ()), 0);
        ctalk_envelope_close (&envelope);
        ++*taken;
    }
    return true;
}

/* Obeys one command but 'c'. */
static bool obey (char command, int fd, char *mode, int64_t taken, ctki_trouble_t *trouble)
{
    if (command == 't')
        return ctki_process_write (fd, &taken, sizeof taken);
    CTKI_EXPECT (trouble, command == 'e' || command == 's' || command == 'h');
    *mode = command;
    return ctki_process_write (fd, mode, 1);
}

static bool serve (ctalk_server_t *server, int fd, char mode, ctki_trouble_t *trouble)
{
    int64_t taken = 0;
    int readable = ctalk_server_fd (server);
    CTKI_EXPECT (trouble, readable >= 0);
    for (;;) {
        struct pollfd items[2] = {{fd, POLLIN, 0}, {readable, POLLIN, 0}};
        if (poll (items, mode == 'h' ? 1 : 2, -1) < 0)
            continue;
        if (items[1].revents && !take (server, mode == 'e', &taken, trouble))
            return false;
        char command = 0;
        if (!items[0].revents)
            continue;
        CTKI_EXPECT (trouble, ctki_process_read (fd, &command, 1, 0));
        if (command == 'c')
            return true;
        if (!obey (command, fd, &mode, taken, trouble))
            return false;
    }
}

static bool run (int fd, void *arg, ctki_trouble_t *trouble)
{
    const ctki_peer_t *peer = arg;
    static const char modes[] = {'e', 's', 'h'};
    char go = 0;
    if (!ctki_process_read (fd, &go, 1, 30 * ctki_test_long_ms ()) || go != 'g')
        return true;
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (peer->pid, peer->config, &error);
    if (!server)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "server %d: %.150s", peer->pid, error.text);
    CTKI_EXPECT (trouble, ctki_process_write (fd, "r", 1));
    bool ok = serve (server, fd, modes[peer->mode], trouble);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, ctki_test_long_ms ()), 0);
    return ok;
}

void ctki_peer_fork (ctki_peer_t *peer, ctalk_pid_t pid, const ctalk_config_t *config, ctki_peer_mode_t mode)
{
    peer->pid = pid;
    peer->config = config;
    peer->mode = mode;
    ctki_process_start (&peer->process, run, peer);
}

static void ask (ctki_peer_t *peer, const char *command, void *answer, size_t size)
{
    bool ok = ctki_process_write (peer->process.fd, command, 1)
              && ctki_process_read (peer->process.fd, answer, size, ctki_test_long_ms ());
    if (!ok)
        ctki_process_join (&peer->process, ctki_test_ms (1000));
    ck_assert_msg (ok, "peer %d does not answer '%s'", peer->pid, command);
}

void ctki_peer_go (ctki_peer_t *peer)
{
    char ready = 0;
    ask (peer, "g", &ready, 1);
    ck_assert_int_eq (ready, 'r');
}

void ctki_peer_set_mode (ctki_peer_t *peer, ctki_peer_mode_t mode)
{
    static const char *const commands[] = {"e", "s", "h"};
    char answer = 0;
    ask (peer, commands[mode], &answer, 1);
    ck_assert_int_eq (answer, commands[mode][0]);
}

int64_t ctki_peer_taken (ctki_peer_t *peer)
{
    int64_t taken = -1;
    ask (peer, "t", &taken, sizeof taken);
    return taken;
}

void ctki_peer_close (ctki_peer_t *peer)
{
    ck_assert (ctki_process_write (peer->process.fd, "c", 1));
    ctki_process_join (&peer->process, 2 * ctki_test_long_ms ());
}

void ctki_peer_stop (ctki_peer_t *peer)
{
    int status = 0;
    ck_assert_int_eq (kill (peer->process.pid, SIGSTOP), 0);
    ck_assert_int_eq (waitpid (peer->process.pid, &status, WUNTRACED), peer->process.pid);
    ck_assert (WIFSTOPPED (status));
}

void ctki_peer_continue (ctki_peer_t *peer)
{
    ck_assert_int_eq (kill (peer->process.pid, SIGCONT), 0);
}
