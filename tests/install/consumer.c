/*
 * consumer.c - a program of somebody else: it knows the installed header and
 * what pkg-config says, nothing of this tree. Two servers in one process, one
 * envelope from the one to the other.
 */
#include <clustertalk.h>

#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 30000 };

static int fail (const char *what)
{
    perror (what);
    return 1;
}

int main (int argc, char **argv)
{
    char version[32];
    snprintf (version, sizeof version, "%d.%d.%d", CTALK_VERSION_MAJOR, CTALK_VERSION_MINOR, CTALK_VERSION_PATCH);
    if (argc != 2 || strcmp (version, argv[1]) != 0 || strcmp (version, ctalk_version ()) != 0) {
        fprintf (stderr, "header %s, library %s, pkg-config %s\n", version, ctalk_version (), argc > 1 ? argv[1] : "?");
        return 1;
    }

    ctalk_error_t error;
    ctalk_config_t *config = ctalk_config_new ();
    if (!config || ctalk_config_add_server (config, 1, "127.0.0.1:*", &error) != 0
        || ctalk_config_add_server (config, 2, "127.0.0.1:*", &error) != 0)
        return fail ("config");
    ctalk_server_t *one = ctalk_server_new (1, config, &error);
    ctalk_server_t *two = ctalk_server_new (2, config, &error);
    ctalk_config_destroy (&config);
    if (!one || !two)
        return fail (error.text);
    if (ctalk_server_add_peer (one, 2, ctalk_server_endpoint (two)) != 0
        || ctalk_server_add_peer (two, 1, ctalk_server_endpoint (one)) != 0)
        return fail ("ctalk_server_add_peer");

    ctalk_envelope_t out = {.pid = 2, .msg_id = 42, .data = "hello", .size = 5};
    ctalk_envelope_t in;
    if (ctalk_send (one, &out, PATIENCE_MS) != 0)
        return fail ("ctalk_send");
    if (ctalk_recv (two, &in, PATIENCE_MS) != 0)
        return fail ("ctalk_recv");
    if (in.pid != 1 || in.msg_id != 42 || in.size != 5 || memcmp (in.data, "hello", 5) != 0)
        return fail ("not the envelope that was sent");
    ctalk_envelope_close (&in);
    int left = ctalk_server_close (&one, PATIENCE_MS) + ctalk_server_close (&two, PATIENCE_MS);
    return left == 0 ? 0 : fail ("ctalk_server_close");
}
