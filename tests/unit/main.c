/*
 * main.c - runs the unit tests: every suite of the table, or those whose names
 * are the arguments. Exit status 0 only if all passed; 2 for an unknown name.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line per suite: SUITE (name) for Suite *ctki_suite_name (void). With the
 * queue sockets: those that use sockets. One fakes what it stands on, and is alone. */
#if defined(CTKI_FAKE_HALL)
#define SUITES SUITE (groups)
#elif defined(CTKI_QUEUE_SOCKETS)
#define SUITES                                                                                                         \
    SUITE (queue_sock)                                                                                                 \
    SUITE (sock)                                                                                                       \
    SUITE (mailbox)                                                                                                    \
    SUITE (inbox)                                                                                                      \
    SUITE (outbox)                                                                                                     \
    SUITE (credit)                                                                                                     \
    SUITE (seat)                                                                                                       \
    SUITE (actor)                                                                                                      \
    SUITE (lead)
#else
#define SUITES                                                                                                         \
    SUITE (error)                                                                                                      \
    SUITE (log)                                                                                                        \
    SUITE (crc32c)                                                                                                     \
    SUITE (wire)                                                                                                       \
    SUITE (notice)                                                                                                     \
    SUITE (json)                                                                                                       \
    SUITE (endpoint)                                                                                                   \
    SUITE (config)                                                                                                     \
    SUITE (mem)                                                                                                        \
    SUITE (sys)                                                                                                        \
    SUITE (lock)                                                                                                       \
    SUITE (calls)                                                                                                      \
    SUITE (envelope)                                                                                                   \
    SUITE (peers)                                                                                                      \
    SUITE (route)                                                                                                      \
    SUITE (fault)                                                                                                      \
    SUITE (sock)                                                                                                       \
    SUITE (mailbox)                                                                                                    \
    SUITE (inbox)                                                                                                      \
    SUITE (outbox)                                                                                                     \
    SUITE (credit)                                                                                                     \
    SUITE (seat)                                                                                                       \
    SUITE (actor)                                                                                                      \
    SUITE (lead)                                                                                                       \
    SUITE (table_in)                                                                                                   \
    SUITE (table_out)                                                                                                  \
    SUITE (session)                                                                                                    \
    SUITE (life)                                                                                                       \
    SUITE (supervision)                                                                                                \
    SUITE (scenes)                                                                                                     \
    SUITE (pair)                                                                                                       \
    SUITE (resolver)
#endif

#define SUITE(name) Suite *ctki_suite_##name (void);
SUITES
#undef SUITE

static const struct {
    const char *name;
    Suite *(*make) (void);
} suites[] = {
#define SUITE(name) {#name, ctki_suite_##name},
    SUITES
#undef SUITE
};

enum { SUITE_COUNT = sizeof suites / sizeof suites[0] };

static int find_suite (const char *name)
{
    for (int i = 0; i < SUITE_COUNT; i++)
        if (strcmp (suites[i].name, name) == 0)
            return i;
    return -1;
}

static void add_suite (SRunner **runner, int index)
{
    if (*runner)
        srunner_add_suite (*runner, suites[index].make ());
    else
        *runner = srunner_create (suites[index].make ());
}

int main (int argc, char **argv)
{
    SRunner *runner = NULL;

    for (int i = 1; i < argc; i++)
        if (find_suite (argv[i]) < 0) {
            fprintf (stderr, "%s: no suite \"%s\"\n", argv[0], argv[i]);
            return 2;
        }
    for (int i = 1; i < argc; i++)
        add_suite (&runner, find_suite (argv[i]));
    for (int i = 0; i < SUITE_COUNT && argc < 2; i++)
        add_suite (&runner, i);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
