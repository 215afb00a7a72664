/* hello.c - one server of a cluster: says hello to all the others, and waits to
 * hear it from each of them. Start one per pid: hello local-3.json 1 */
#include <clustertalk.h>
#include <stdio.h>
#include <stdlib.h>

int main (int argc, char **argv)
{
    ctalk_error_t error = {.text = "usage: hello CONFIG PID"};
    ctalk_config_t *config = argc == 3 ? ctalk_config_load (argv[1], &error) : NULL;
    ctalk_server_t *server =
        config ? ctalk_server_new ((ctalk_pid_t) strtol (argv[2], NULL, 10), config, &error) : NULL;
    ctalk_config_destroy (&config);
    if (!server) {
        fprintf (stderr, "%s\n", error.text);
        return 1;
    }
    ctalk_envelope_t hello = {.pid = CTALK_BROADCAST, .msg_id = 1, .data = "hello", .size = 5}, heard;
    int peers = ctalk_server_peers (server, NULL, 0);
    ctalk_send (server, &hello, -1);
    while (peers-- > 0 && ctalk_recv (server, &heard, -1) == 0) {
        printf ("server %d says %.*s\n", heard.pid, (int) heard.size, (const char *) heard.data);
        ctalk_envelope_close (&heard);
    }
    return ctalk_server_close (&server, 5000) == 0 ? 0 : 1; /* how many were not delivered */
}
