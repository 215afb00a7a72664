/*
 * test_config.c - configs from files and by calls. The corpus stands in
 * tests/data/config: bad/ with what must be reported about each in
 * expected.tsv, and good/.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "config/options.h"
#include "src/mem.h"
#include "tests/support/scale.h"

Suite *ctki_suite_config (void);

enum {
    PATH_BYTES = 512,
    ROW_BYTES = 512,
    FILE_MIN = 70,   /* fewer bad files than this: the corpus was not found */
    ERRORS_MAX = 32, /* of one bad file */
    MUTATIONS = 20000,
    ROOT_UID = 0,
    NOBODY_UID = 65534
};

/* ------------------------------------------------------------- helpers */

/* The corpus: where CTALK_TEST_DATA says, else in the source tree, which make
 * check names, else under the current directory. */
static const char *data_path (char path[PATH_BYTES], const char *name)
{
    const char *data = getenv ("CTALK_TEST_DATA"), *source = getenv ("abs_top_srcdir");
    int size;

    if (data)
        size = snprintf (path, PATH_BYTES, "%s/config/%s", data, name);
    else
        size = snprintf (path, PATH_BYTES, "%s/tests/data/config/%s", source ? source : ".", name);
    ck_assert_int_lt (size, PATH_BYTES);
    return path;
}

/* The whole of a file, to be freed. */
static char *slurp (const char *path, size_t *size)
{
    FILE *file = fopen (path, "rb");
    char *text = malloc (CTKI_CONFIG_BYTES);

    ck_assert_msg (file != NULL, "%s: %s", path, strerror (errno));
    ck_assert_ptr_nonnull (text);
    *size = fread (text, 1, CTKI_CONFIG_BYTES, file);
    fclose (file);
    return text;
}

static ctalk_config_t *parse (const char *json)
{
    ctalk_error_t error;
    ctalk_config_t *config = ctalk_config_parse (json, strlen (json), &error);

    ck_assert_msg (config != NULL, "%s: %s", json, error.text);
    return config;
}

/* What must be reported, one row of expected.tsv. */
typedef struct {
    char file[64];
    int line, column;
    char field[128], reason[128];
} row_t;

typedef struct {
    row_t *rows;
    size_t count;
} table_t;

static bool read_row (char *text, row_t *row)
{
    char *save = NULL, *part[5];

    if (text[0] == '#')
        return false;
    for (int i = 0; i < 5; i++) {
        part[i] = strtok_r (i == 0 ? text : NULL, "\t\n", &save);
        ck_assert_msg (part[i] != NULL, "expected.tsv: a row without its column %d", i + 1);
    }
    snprintf (row->file, sizeof row->file, "%s", part[0]);
    row->line = atoi (part[1]);
    row->column = atoi (part[2]);
    snprintf (row->field, sizeof row->field, "%s", part[3]);
    snprintf (row->reason, sizeof row->reason, "%s", part[4]);
    return true;
}

static table_t read_table (void)
{
    char path[PATH_BYTES], text[ROW_BYTES];
    table_t table = {0};
    FILE *file = fopen (data_path (path, "expected.tsv"), "r");

    ck_assert_msg (file != NULL, "%s: %s", path, strerror (errno));
    while (fgets (text, sizeof text, file)) {
        table.rows = realloc (table.rows, (table.count + 1) * sizeof *table.rows);
        ck_assert_ptr_nonnull (table.rows);
        table.count += read_row (text, &table.rows[table.count]);
    }
    fclose (file);
    return table;
}

/* Calls visit for each .json in a folder of the corpus; returns how many. */
static int each_file (const char *folder, void (*visit) (const char *path, const char *name, void *arg), void *arg)
{
    char dir_path[PATH_BYTES], path[2 * PATH_BYTES];
    DIR *dir = opendir (data_path (dir_path, folder));
    struct dirent *entry;
    int count = 0;

    ck_assert_msg (dir != NULL, "%s: %s", dir_path, strerror (errno));
    while ((entry = readdir (dir))) {
        const char *dot = strrchr (entry->d_name, '.');
        if (!dot || strcmp (dot, ".json") != 0)
            continue;
        snprintf (path, sizeof path, "%s/%s", dir_path, entry->d_name);
        visit (path, entry->d_name, arg);
        count++;
    }
    closedir (dir);
    return count;
}

/* The errors that ctalk_config_check () reported. */
typedef struct {
    ctalk_error_t errors[ERRORS_MAX];
    int count;
} journal_t;

static void note (const ctalk_error_t *error, void *arg)
{
    journal_t *journal = arg;

    if (journal->count < ERRORS_MAX)
        journal->errors[journal->count] = *error;
    journal->count++;
}

/* --------------------------------------------------------------- corpus */

static int differences;

static void expect_error (const ctalk_error_t *error, const row_t *row, const char *path, const char *call)
{
    char place[PATH_BYTES], field[PATH_BYTES];
    const char *file = strrchr (path, '/');

    snprintf (place, sizeof place, "%s:%d:%d: ", file, row->line, row->column);
    snprintf (field, sizeof field, ": %s: ", row->field);
    if (error->code == EINVAL && error->line == row->line && error->column == row->column && strstr (error->text, place)
        && strstr (error->text, field) && strstr (error->text, row->reason))
        return;
    differences++;
    fprintf (stderr, "%s: %s: expected %d:%d %s (%s), got %d:%d \"%s\"\n", row->file, call, row->line, row->column,
             row->field, row->reason, error->line, error->column, error->text);
}

static const row_t *rows_of (const table_t *table, const char *name, int *count)
{
    const row_t *first = NULL;

    *count = 0;
    for (size_t i = 0; i < table->count; i++)
        if (strcmp (table->rows[i].file, name) == 0) {
            first = first ? first : &table->rows[i];
            ++*count;
        }
    return first;
}

static void visit_bad (const char *path, const char *name, void *arg)
{
    journal_t journal = {.count = 0};
    ctalk_error_t error;
    int count;
    const row_t *rows = rows_of (arg, name, &count);

    ck_assert_msg (rows != NULL, "%s has no row in expected.tsv", name);
    errno = 0;
    ck_assert_msg (ctalk_config_load (path, &error) == NULL, "%s was taken", name);
    ck_assert_int_eq (errno, EINVAL);
    expect_error (&error, &rows[0], path, "load");
    ck_assert_int_eq (ctalk_config_check (path, note, &journal), journal.count);
    if (journal.count != count) {
        differences++;
        fprintf (stderr, "%s: check: expected %d errors, got %d\n", name, count, journal.count);
    }
    for (int i = 0; i < journal.count && i < count && i < ERRORS_MAX; i++)
        expect_error (&journal.errors[i], &rows[i], path, "check");
}

/* Every bad file of the corpus is refused by load and check with the line, the
 * column, the field and the reason that were written down for it. */
START_TEST (corpus_bad)
{
    table_t table = read_table ();

    differences = 0;
    int count = each_file ("bad", visit_bad, &table);
    ck_assert_int_ge (count, FILE_MIN);
    ck_assert_int_eq (differences, 0);
    free (table.rows);
}
END_TEST

/* Every row of expected.tsv has its file. */
START_TEST (corpus_complete)
{
    table_t table = read_table ();
    char path[PATH_BYTES], name[128];

    for (size_t i = 0; i < table.count; i++) {
        snprintf (name, sizeof name, "bad/%s", table.rows[i].file);
        ck_assert_msg (access (data_path (path, name), R_OK) == 0, "%s is missing", path);
    }
    free (table.rows);
}
END_TEST

static void visit_good (const char *path, const char *name, void *arg)
{
    ctalk_error_t error;
    ctalk_config_t *config = ctalk_config_load (path, &error);

    (void) arg;
    ck_assert_msg (config != NULL, "%s: %s", name, error.text);
    ck_assert_int_eq (error.code, 0);
    ck_assert_int_ge (ctalk_config_pids (config, NULL, 0), 1);
    ck_assert_int_eq (ctki_config_check_options (config, NULL), 0);
    ck_assert_int_eq (ctalk_config_check (path, NULL, NULL), 0);
    ctalk_config_destroy (&config);
}

/* Every good file of the corpus is taken. */
START_TEST (corpus_good)
{
    ck_assert_int_ge (each_file ("good", visit_good, NULL), 10);
}
END_TEST

/* ----------------------------------------------------------------- files */

static char temp_dir[] = "/tmp/ctalk-config-XXXXXX";

static void make_temp_dir (void)
{
    strcpy (temp_dir + strlen (temp_dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull (mkdtemp (temp_dir));
}

static void drop_temp_dir (void)
{
    char path[PATH_BYTES];

    snprintf (path, sizeof path, "%s/c.json", temp_dir);
    unlink (path);
    rmdir (path);
    rmdir (temp_dir);
}

static const char *temp_path (char path[PATH_BYTES])
{
    snprintf (path, PATH_BYTES, "%s/c.json", temp_dir);
    return path;
}

static void write_file (const char *path, const char *text, size_t size)
{
    FILE *file = fopen (path, "wb");

    ck_assert_ptr_nonnull (file);
    ck_assert_uint_eq (fwrite (text, 1, size, file), size);
    ck_assert_int_eq (fclose (file), 0);
}

/* The path and a word of the reason must be in the text; there is no place. */
static void expect_unreadable (const char *path, int code, const char *reason)
{
    journal_t journal = {.count = 0};
    ctalk_error_t error;

    errno = 0;
    ck_assert_ptr_null (ctalk_config_load (path, &error));
    ck_assert_int_eq (errno, code);
    ck_assert_int_eq (error.code, code);
    ck_assert_int_eq (error.line, 0);
    ck_assert_int_eq (error.column, 0);
    ck_assert_ptr_nonnull (strstr (error.text, path));
    ck_assert_msg (strstr (error.text, reason) != NULL, "\"%s\" is not in \"%s\"", reason, error.text);
    ck_assert_int_eq (ctalk_config_check (path, note, &journal), 1);
    ck_assert_int_eq (journal.count, 1);
    ck_assert_int_eq (journal.errors[0].code, code);
    ck_assert_str_eq (journal.errors[0].text, error.text);
}

/* A file that is not there: ENOENT. */
START_TEST (file_missing)
{
    char path[PATH_BYTES];

    expect_unreadable (temp_path (path), ENOENT, "No such file");
}
END_TEST

/* A directory: EISDIR. */
START_TEST (file_directory)
{
    char path[PATH_BYTES];

    ck_assert_int_eq (mkdir (temp_path (path), 0700), 0);
    expect_unreadable (path, EISDIR, "directory");
}
END_TEST

/* A FIFO is refused, and nobody waits for its writer. */
START_TEST (file_fifo)
{
    char path[PATH_BYTES];

    ck_assert_int_eq (mkfifo (temp_path (path), 0600), 0);
    expect_unreadable (path, EINVAL, "regular file");
}
END_TEST

/* As root every file is readable: then a child without privileges tries. */
static int load_as_nobody (const char *path)
{
    int status;
    pid_t child = fork ();

    ck_assert_int_ge (child, 0);
    if (child == 0) {
        if (geteuid () == ROOT_UID && setuid (NOBODY_UID) != 0)
            _exit (255);
        errno = 0;
        ctalk_config_t *config = ctalk_config_load (path, NULL);
        _exit (config ? 254 : errno);
    }
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert (WIFEXITED (status));
    return WEXITSTATUS (status);
}

/* A file without read permission: EACCES. */
START_TEST (file_unreadable)
{
    char path[PATH_BYTES];

    write_file (temp_path (path), "{}", 2);
    ck_assert_int_eq (chmod (path, 0), 0);
    ck_assert_int_eq (chmod (temp_dir, 0711), 0);
    ck_assert_int_eq (load_as_nobody (path), EACCES);
    if (geteuid () != ROOT_UID)
        expect_unreadable (path, EACCES, "Permission denied");
}
END_TEST

/* A config of exactly 1 MiB is read, one byte more is EFBIG, from file and memory. */
START_TEST (file_large)
{
    static const char json[] = "{\"Servers\": {\"1\": \"a:1\"}}";
    char path[PATH_BYTES], *text = malloc (CTKI_CONFIG_BYTES + 1);
    ctalk_error_t error;
    ctalk_config_t *config;

    ck_assert_ptr_nonnull (text);
    memset (text, ' ', CTKI_CONFIG_BYTES + 1);
    memcpy (text, json, strlen (json));
    write_file (temp_path (path), text, CTKI_CONFIG_BYTES);
    ck_assert_ptr_nonnull (config = ctalk_config_load (path, &error));
    ctalk_config_destroy (&config);
    write_file (path, text, CTKI_CONFIG_BYTES + 1);
    expect_unreadable (path, EFBIG, "1 MiB");
    ck_assert_ptr_null (ctalk_config_parse (text, CTKI_CONFIG_BYTES + 1, &error));
    ck_assert_int_eq (errno, EFBIG);
    ck_assert_int_eq (error.code, EFBIG);
    ck_assert_ptr_nonnull (strstr (error.text, "(text)"));
    free (text);
}
END_TEST

/* A long path loses its middle in the error: place, field and reason stay, and
 * so do its first letters and the file's name. */
START_TEST (long_path)
{
    char path[3000] = "", *name;
    ctalk_error_t error;

    make_temp_dir ();
    strcpy (path, temp_dir);
    for (int i = 0; i < 8; i++) {
        snprintf (path + strlen (path), 120, "/%0100d", i);
        ck_assert_int_eq (mkdir (path, 0700), 0);
    }
    name = path + strlen (path);
    strcpy (name, "/cluster.json");
    write_file (path, "{\n\"Servers\": 1}", 15);
    ck_assert_ptr_null (ctalk_config_load (path, &error));
    ck_assert_ptr_nonnull (strstr (error.text, "..."));
    ck_assert_ptr_nonnull (strstr (error.text, "/cluster.json:2:12: Servers: must be an object"));
    ck_assert_int_eq (strncmp (error.text, "/tmp/ctalk", 10), 0);
    unlink (path);
    for (*name = '\0'; strlen (path) >= strlen (temp_dir); *strrchr (path, '/') = '\0')
        ck_assert_int_eq (rmdir (path), 0);
}
END_TEST

/* What is NULL is refused, or harmless where the header says so. */
START_TEST (null_arguments)
{
    ctalk_config_t *config = NULL, *good = parse ("{\"Servers\": {\"1\": \"a:1\"}}");
    ctalk_error_t error;

    errno = 0;
    ck_assert_ptr_null (ctalk_config_load (NULL, &error));
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_ptr_null (ctalk_config_parse (NULL, 1, &error));
    ck_assert_int_eq (error.code, EINVAL);
    ck_assert_ptr_null (ctalk_config_parse (NULL, 0, &error));
    ck_assert_int_eq (error.line, 1);
    ck_assert_ptr_null (ctalk_config_parse ("{", 1, NULL));
    ck_assert_int_eq (ctalk_config_check (NULL, NULL, NULL), 1);
    ck_assert_int_eq (ctalk_config_add_server (NULL, 1, "a:1", NULL), -1);
    ck_assert_int_eq (ctalk_config_add_server (good, 2, NULL, &error), -1);
    ck_assert_int_eq (ctalk_config_set (good, NULL, "1", &error), -1);
    ck_assert_int_eq (ctalk_config_set (good, "DownMs", NULL, &error), -1);
    ck_assert_ptr_null (ctalk_config_get (good, NULL));
    ck_assert_ptr_null (ctalk_config_get (NULL, "DownMs"));
    ck_assert_int_eq (ctalk_config_pids (good, NULL, 1), -1);
    ck_assert_ptr_null (ctalk_config_endpoint (NULL, 1));
    ctalk_config_destroy (NULL);
    ctalk_config_destroy (&config);
    ctalk_config_destroy (&good);
    ck_assert_ptr_null (good);
}
END_TEST

/* --------------------------------------------------------------- contents */

/* A file in full: each field of it can be read back. */
START_TEST (contents)
{
    ctalk_config_t *config = parse (
        "{\"Cluster\": \"d\\u00e9mo\", \"Servers\": {\"7\": \"Host:5001\", \"0\": {\"Bind\": \"tcp://*:5002\", "
        "\"Connect\": \"10.0.0.2:5002\"}, \"3\": {\"Connect\": \"[0:0::1]:9\"}, \"4\": {\"Bind\": \"127.0.0.1:*\"}},"
        "\"PidList\": [3, 0, 7, 4], \"Options\": {\"Senders\": \"lazy\", \"Help\": false, \"DownMs\": 9000}}");
    ctalk_pid_t pids[4] = {-1, -1, -1, -1};

    ck_assert_str_eq (ctki_config_cluster (config), "d\xc3\xa9mo");
    ck_assert_int_eq (ctalk_config_pids (config, pids, 3), 4);
    ck_assert_int_eq (pids[0], 0);
    ck_assert_int_eq (pids[1], 3);
    ck_assert_int_eq (pids[2], 4);
    ck_assert_int_eq (pids[3], -1);
    ck_assert_uint_eq (ctki_config_count (config), 4);
    ck_assert_int_eq (ctki_config_pid (config, 3), 7);
    ck_assert_int_eq (ctki_config_index (config, 7), 3);
    ck_assert_int_eq (ctki_config_index (config, 5), -1);
    ck_assert_str_eq (ctalk_config_endpoint (config, 7), "tcp://host:5001");
    ck_assert_str_eq (ctalk_config_endpoint (config, 0), "tcp://10.0.0.2:5002");
    ck_assert_str_eq (ctki_config_bind (config, 0)->text, "tcp://*:5002");
    ck_assert_str_eq (ctki_config_connect (config, 1)->text, "tcp://[::1]:9");
    ck_assert_str_eq (ctki_config_bind (config, 1)->text, "tcp://[::1]:9");
    ck_assert_str_eq (ctalk_config_endpoint (config, 4), "tcp://127.0.0.1:*");
    ck_assert (ctki_config_options (config)->lazy);
    ck_assert (!ctki_config_options (config)->help);
    ck_assert_uint_eq (ctki_config_options (config)->down_ms, 9000);
    ck_assert_str_eq (ctalk_config_get (config, "DownMs"), "9000");
    errno = 0;
    ck_assert_ptr_null (ctalk_config_endpoint (config, 5));
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ctalk_config_destroy (&config);
}
END_TEST

/* Every option has the default of the manual, takes the two ends of its range
 * and refuses what lies beyond, in which case it keeps its value. */
static const struct {
    const char *name, *standard, *low, *high, *below, *above;
} ranges[] = {
    {"QueueBytes", "8388608", "65536", "1099511627776", "65535", "1099511627777"},
    {"WindowBytes", "4194304", "131072", "1099511627776", "131071", "1099511627777"},
    {"WindowFrames", "1024", "8", "65536", "7", "65537"},
    {"FrameBytes", "65536", "8192", "65536", "8191", "65537"},
    {"MaxMessageBytes", "67108864", "1", "1099511627776", "0", "1099511627777"},
    {"HeartbeatMs", "500", "1", "86400000", "0", "86400001"},
    {"SuspectMs", "1500", "1", "86400000", "0", "86400001"},
    {"DownMs", "5000", "1", "86400000", "0", "86400001"},
    {"Senders", "eager", "eager", "lazy", "", "Eager"},
    {"OnRestart", "report", "report", "resend", "true", "resen"},
    {"SpinMicros", "0", "0", "1000000", "-1", "1000001"},
    {"Help", "on", "off", "on", "0", "ON"},
    {"IoThreads", "2", "1", "64", "0", "65"},
    {"MailboxBytes", "1048576", "65536", "1099511627776", "65535", "1099511627777"},
};

START_TEST (option_range)
{
    ctalk_config_t *config = ctalk_config_new ();
    const char *name = ranges[_i].name,
               *refused[] = {ranges[_i].below,      ranges[_i].above, "", " 1", "1 ", "01", "1e3", "+1",
                             "18446744073709551617"};
    ctalk_error_t error;

    ck_assert_str_eq (ctalk_config_get (config, name), ranges[_i].standard);
    ck_assert_int_eq (ctalk_config_set (config, name, ranges[_i].high, &error), 0);
    ck_assert_str_eq (ctalk_config_get (config, name), ranges[_i].high);
    ck_assert_int_eq (ctalk_config_set (config, name, ranges[_i].low, &error), 0);
    ck_assert_str_eq (ctalk_config_get (config, name), ranges[_i].low);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        errno = 0;
        ck_assert_msg (ctalk_config_set (config, name, refused[i], &error) == -1, "%s: %s", name, refused[i]);
        ck_assert_int_eq (errno, EINVAL);
        ck_assert_ptr_nonnull (strstr (error.text, name));
        ck_assert_ptr_nonnull (strstr (error.text, ranges[_i].low));
        ck_assert_ptr_nonnull (strstr (error.text, ranges[_i].high));
        ck_assert_str_eq (ctalk_config_get (config, name), ranges[_i].low);
    }
    ctalk_config_destroy (&config);
}
END_TEST

/* The table of the options holds just those fourteen, and each is found by its
 * name alone. */
START_TEST (option_table)
{
    ck_assert_uint_eq (sizeof ranges / sizeof ranges[0], CTKI_OPTION_COUNT);
    for (int i = 0; i < CTKI_OPTION_COUNT; i++)
        ck_assert_int_eq (ctki_option_find (ctki_option_name (i), strlen (ctki_option_name (i))), i);
    ck_assert_int_eq (ctki_option_find ("QueueByte", 9), -1);
    ck_assert_int_eq (ctki_option_find ("QueueBytesX", 11), -1);
    ck_assert_int_eq (ctki_option_find ("", 0), -1);
}
END_TEST

/* An option that does not exist is EINVAL to set and to get, and named. */
START_TEST (option_unknown)
{
    ctalk_config_t *config = ctalk_config_new ();
    ctalk_error_t error;

    ck_assert_int_eq (ctalk_config_set (config, "queuebytes", "65536", &error), -1);
    ck_assert_int_eq (error.code, EINVAL);
    ck_assert_ptr_nonnull (strstr (error.text, "queuebytes"));
    errno = 0;
    ck_assert_ptr_null (ctalk_config_get (config, "queuebytes"));
    ck_assert_int_eq (errno, EINVAL);
    ctalk_config_destroy (&config);
}
END_TEST

/* Set takes the three times in any order; the check that a server makes finds
 * a wrong order and names both values. */
START_TEST (option_order)
{
    ctalk_config_t *config = ctalk_config_new ();
    ctalk_error_t error;

    ck_assert_int_eq (ctki_config_check_options (config, &error), 0);
    ck_assert_int_eq (ctalk_config_set (config, "HeartbeatMs", "7000", NULL), 0);
    errno = 0;
    ck_assert_int_eq (ctki_config_check_options (config, &error), -1);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_ptr_nonnull (strstr (error.text, "HeartbeatMs (7000) must be less than SuspectMs (1500)"));
    ck_assert_int_eq (ctalk_config_set (config, "SuspectMs", "8000", NULL), 0);
    ck_assert_int_eq (ctki_config_check_options (config, &error), -1);
    ck_assert_ptr_nonnull (strstr (error.text, "SuspectMs (8000) must be less than DownMs (5000)"));
    ck_assert_int_eq (ctalk_config_set (config, "DownMs", "8001", NULL), 0);
    ck_assert_int_eq (ctki_config_check_options (config, &error), 0);
    ctalk_config_destroy (&config);
}
END_TEST

/* The cluster's name is set and read like an option, 1 to 64 printable bytes. */
START_TEST (cluster_name)
{
    ctalk_config_t *config = ctalk_config_new ();
    char name[66];
    const char *bad[] = {"", "a\nb", "a\x7f", "\xff", "a\xc2\x85z", "\xe2\x80\xa8"};
    ctalk_error_t error;

    ck_assert_str_eq (ctalk_config_get (config, "Cluster"), "");
    memset (name, 'n', sizeof name);
    name[65] = '\0';
    ck_assert_int_eq (ctalk_config_set (config, "Cluster", name, &error), -1);
    ck_assert_int_eq (error.code, EINVAL);
    name[64] = '\0';
    ck_assert_int_eq (ctalk_config_set (config, "Cluster", name, &error), 0);
    ck_assert_str_eq (ctki_config_cluster (config), name);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg (ctalk_config_set (config, "Cluster", bad[i], &error) == -1, "name %zu was taken", i);
    ck_assert_str_eq (ctalk_config_get (config, "Cluster"), name);
    ctalk_config_destroy (&config);
}
END_TEST

/* ------------------------------------------------------------ add_server */

/* Servers added in any order are found, in ascending order, and the text of an
 * endpoint stays where it was while others are added. */
START_TEST (add_many)
{
    enum { COUNT = 1000 };
    ctalk_config_t *config = ctalk_config_new ();
    char endpoint[64];
    ctalk_error_t error;
    const char *first = NULL;

    ck_assert_int_eq (ctalk_config_pids (config, NULL, 0), 0);
    for (int i = 0; i < COUNT; i++) {
        int pid = (i * 387) % COUNT;
        snprintf (endpoint, sizeof endpoint, "127.0.0.1:%d", pid + 1000);
        ck_assert_msg (ctalk_config_add_server (config, pid, endpoint, &error) == 0, "%s", error.text);
        first = first ? first : ctalk_config_endpoint (config, 0);
    }
    ck_assert_ptr_eq (first, ctalk_config_endpoint (config, 0));
    ck_assert_str_eq (first, "tcp://127.0.0.1:1000");
    ck_assert_uint_eq (ctki_config_count (config), COUNT);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq (ctki_config_pid (config, (size_t) i), i);
        ck_assert_int_eq (ctki_config_index (config, i), i);
        ck_assert_uint_eq (ctki_config_connect (config, (size_t) i)->port, (unsigned) i + 1000);
    }
    ctalk_config_destroy (&config);
}
END_TEST

static const struct {
    ctalk_pid_t pid;
    const char *endpoint;
    int code;
    const char *reason;
} additions[] = {
    {1, "127.0.0.1:5009", EEXIST, "in the config already"},
    {2, "127.0.0.1:5001", EEXIST, "server 1 has the endpoint tcp://127.0.0.1:5001"},
    {2, "TCP://127.0.0.1:5001", EEXIST, "server 1"},
    {2, "[0::1]:5001", EEXIST, "server 3"},
    {2, "IPC:///run//x", EEXIST, "server 4"},
    {2, "10.0.0.5:5005", EEXIST, "server 5"},
    {-1, "127.0.0.1:5009", EINVAL, "pid"},
    {INT32_MIN, "127.0.0.1:5009", EINVAL, "pid"},
    {2, "127.0.0.1", EINVAL, "port"},
    {2, "*:5009", EINVAL, "Connect"},
    {2, "udp://127.0.0.1:5009", EINVAL, "transport"},
    {2, "", EINVAL, "empty"},
};

/* A server that must not be added is refused with its errno and reason, and
 * the config stays as it was. */
START_TEST (add_refused)
{
    ctalk_config_t *config =
        parse ("{\"Servers\": {\"1\": \"127.0.0.1:5001\", \"3\": \"[::1]:5001\", \"4\": \"ipc:///run/x\","
               "\"5\": {\"Bind\": \"*:5005\", \"Connect\": \"10.0.0.5:5005\"}}}");
    ctalk_error_t error;

    errno = 0;
    ck_assert_int_eq (ctalk_config_add_server (config, additions[_i].pid, additions[_i].endpoint, &error), -1);
    ck_assert_int_eq (errno, additions[_i].code);
    ck_assert_int_eq (error.code, additions[_i].code);
    ck_assert_msg (strstr (error.text, additions[_i].reason) != NULL, "%s", error.text);
    ck_assert_uint_eq (ctki_config_count (config), 4);
    ctalk_config_destroy (&config);
}
END_TEST

/* A Bind is compared with that of a server on the same host, and with no other. */
START_TEST (add_bind)
{
    ctalk_config_t *config =
        parse ("{\"Servers\": {\"1\": {\"Bind\": \"10.0.0.9:6000\", \"Connect\": \"10.0.0.9:7000\"},"
               "\"2\": {\"Bind\": \"10.0.0.8:6000\", \"Connect\": \"nat.example:7000\"}}}");
    ctalk_error_t error;

    errno = 0;
    ck_assert_int_eq (ctalk_config_add_server (config, 3, "10.0.0.9:6000", &error), -1);
    ck_assert_int_eq (errno, EEXIST);
    ck_assert_ptr_nonnull (strstr (error.text, "server 1"));
    ck_assert_int_eq (ctalk_config_add_server (config, 3, "10.0.0.8:6000", &error), 0);
    ctalk_config_destroy (&config);
}
END_TEST

/* Endpoints whose port the system chooses never clash. */
START_TEST (add_system_ports)
{
    ctalk_config_t *config = ctalk_config_new ();

    for (int pid = 0; pid < 5; pid++)
        ck_assert_int_eq (ctalk_config_add_server (config, pid, pid % 2 ? "127.0.0.1:*" : "127.0.0.1:0", NULL), 0);
    ck_assert_uint_eq (ctki_config_count (config), 5);
    ctalk_config_destroy (&config);
}
END_TEST

/* ----------------------------------------------------------------- shares */

/* A share keeps what it had when the original is changed or gone, and what was
 * read from the original stays valid while the original lives. */
START_TEST (share_kept)
{
    ctalk_config_t *config = parse ("{\"Cluster\": \"a\", \"Servers\": {\"1\": \"a:1\"}}");
    const char *endpoint = ctalk_config_endpoint (config, 1), *down = ctalk_config_get (config, "DownMs");
    ctalk_config_t *share = ctki_config_share (config);

    ck_assert_ptr_nonnull (share);
    ck_assert_int_eq (ctalk_config_add_server (config, 2, "a:2", NULL), 0);
    ck_assert_int_eq (ctalk_config_set (config, "Cluster", "b", NULL), 0);
    ck_assert_int_eq (ctalk_config_set (config, "QueueBytes", "65536", NULL), 0);
    ck_assert_uint_eq (ctki_config_count (share), 1);
    ck_assert_str_eq (ctki_config_cluster (share), "a");
    ck_assert_uint_eq (ctki_config_options (share)->queue_bytes, 8388608);
    ctalk_config_destroy (&share);
    ck_assert_str_eq (endpoint, "tcp://a:1");
    ck_assert_str_eq (down, "5000");
    share = ctki_config_share (config);
    ctalk_config_destroy (&config);
    ck_assert_str_eq (ctalk_config_endpoint (share, 2), "tcp://a:2");
    ctalk_config_destroy (&share);
}
END_TEST

/* A list that has room is copied all the same when it is shared. */
START_TEST (share_with_room)
{
    ctalk_config_t *config = ctalk_config_new (), *share;

    ck_assert_int_eq (ctalk_config_add_server (config, 1, "a:1", NULL), 0);
    ck_assert_int_eq (ctalk_config_add_server (config, 3, "a:3", NULL), 0);
    ck_assert_ptr_nonnull (share = ctki_config_share (config));
    ck_assert_int_eq (ctalk_config_add_server (config, 2, "a:2", NULL), 0);
    ck_assert_uint_eq (ctki_config_count (share), 2);
    ck_assert_int_eq (ctki_config_index (share, 3), 1);
    ck_assert_int_eq (ctki_config_index (config, 3), 2);
    ctalk_config_destroy (&share);
    ctalk_config_destroy (&config);
}
END_TEST

static void *share_often (void *arg)
{
    for (int i = 0; i < 2000; i++) {
        ctalk_config_t *share = ctki_config_share (arg);
        ck_assert_int_eq (ctalk_config_add_server (share, 9, "a:9", NULL), 0);
        ck_assert_uint_eq (ctki_config_count (share), 3);
        ctalk_config_destroy (&share);
    }
    return NULL;
}

/* Threads may share one config at the same time and change their shares. */
START_TEST (share_threads)
{
    enum { THREADS = 4 };
    ctalk_config_t *config = parse ("{\"Servers\": {\"1\": \"a:1\", \"2\": \"a:2\"}}");
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq (pthread_create (&threads[i], NULL, share_often, config), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq (pthread_join (threads[i], NULL), 0);
    ck_assert_uint_eq (ctki_config_count (config), 2);
    ctalk_config_destroy (&config);
}
END_TEST

/* ------------------------------------------------------- size and memory */

static int64_t cpu_ms (void)
{
    struct timespec now;

    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* As many servers as 1 MiB holds, each listed twice. */
static char *make_large (int *servers, size_t *size)
{
    char *text = malloc (CTKI_CONFIG_BYTES);
    int used, count = 30000;

    ck_assert_ptr_nonnull (text);
    used = sprintf (text, "{\"Servers\":{");
    for (int i = 0; i < count; i++)
        used += sprintf (text + used, "%s\"%d\":\"10.0.%d.%d:5001\"", i ? "," : "", i, i / 200, i % 200);
    used += sprintf (text + used, "},\"PidList\":[");
    for (int i = 0; i < count; i++)
        used += sprintf (text + used, "%s%d", i ? "," : "", count - 1 - i);
    used += sprintf (text + used, "]}");
    ck_assert_int_le (used, CTKI_CONFIG_BYTES);
    *servers = count;
    *size = (size_t) used;
    return text;
}

/* A config that fills 1 MiB with servers is read in less than two seconds. */
START_TEST (large)
{
    int servers;
    size_t size;
    char *text = make_large (&servers, &size);
    ctalk_error_t error;
    int64_t start = cpu_ms ();
    ctalk_config_t *config = ctalk_config_parse (text, size, &error);

    ck_assert_msg (config != NULL, "%s", error.text);
    ck_assert_int_lt (cpu_ms () - start, ctki_test_ms (2000));
    ck_assert_int_eq (ctalk_config_pids (config, NULL, 0), servers);
    ck_assert_int_eq (ctki_config_index (config, servers - 1), servers - 1);
    ctalk_config_destroy (&config);
    free (text);
}
END_TEST

static void fill (char *text, size_t *used, const char *part)
{
    size_t size = strlen (part);

    while (*used + size + 16 < CTKI_CONFIG_BYTES) {
        memcpy (text + *used, part, size);
        *used += size;
    }
}

static const struct {
    const char *head, *part, *tail;
    bool good;
} swarms[] = {
    {"{\"Servers\":{\"1\":\"a:1\"},\"x\":[[]", ",[]", "]}", true},
    {"{\"Servers\":{\"1\":\"a:1\"},\"x\":{\"\":{}", ",\"\":{}", "}}", true},
    {"{\"Servers\":{\"1\":\"a:1\"},\"x\":[0", ",0", "]}", true},
    {"{\"Servers\":{\"1\":\"a:1\"}", ",\"Servers\":0", "}", false},
    {"{\"Servers\":{\"1\":\"a:1\"", ",\"1\":\"a:1\"", "}}", false},
    {"{\"Servers\":{\"1\":\"a:1\"", ",\"\":\"\"", "}}", false},
    {"{\"Servers\":{\"1\":{\"Bind\":0", ",\"x\":0", "}}}", false},
    {"{\"Servers\":{\"1\":\"a:1\"},\"PidList\":[1", ",1", "]}", false},
    {"{\"Servers\":{\"1\":\"a:1\"},\"PidList\":[1", ",{}", "]}", false},
    {"{\"Servers\":{\"1\":\"a:1\"},\"Options\":{\"x\":0", ",\"x\":0", "}}", false},
};

static void count_only (const ctalk_error_t *error, void *arg)
{
    (void) error;
    ++*(int *) arg;
}

/* A text of 1 MiB made of one small thing over and over costs no more time than
 * others, whether it is read or all its errors are reported. */
START_TEST (swarm)
{
    char path[PATH_BYTES], *text = malloc (CTKI_CONFIG_BYTES);
    size_t used = strlen (swarms[_i].head);
    int reported = 0;

    ck_assert_ptr_nonnull (text);
    strcpy (text, swarms[_i].head);
    fill (text, &used, swarms[_i].part);
    strcpy (text + used, swarms[_i].tail);
    used += strlen (swarms[_i].tail);
    write_file (temp_path (path), text, used);
    int64_t start = cpu_ms ();
    ctalk_config_t *config = ctalk_config_parse (text, used, NULL);
    ck_assert (swarms[_i].good == (config != NULL));
    ck_assert_int_lt (cpu_ms () - start, ctki_test_ms (2000));
    start = cpu_ms ();
    int count = ctalk_config_check (path, count_only, &reported);
    ck_assert_int_lt (cpu_ms () - start, ctki_test_ms (4000));
    ck_assert_int_eq (count, reported);
    ck_assert (swarms[_i].good ? count == 0 : count > 50000);
    ctalk_config_destroy (&config);
    free (text);
}
END_TEST

static const char *const sweeps[] = {
    "{\"Cluster\": \"x\", \"Servers\": {\"3\": \"a:1\", \"1\": {\"Bind\": \"*:1\", \"Connect\": \"b:1\"}, \"2\": "
    "\"c:*\"},"
    "\"PidList\": [1, 2, 3], \"Options\": {\"DownMs\": 9000}}",
    "{\"Servers\": {\"1\": \"a\", \"x\": \"b:1\", \"1\": 3}, \"PidList\": [9], \"Options\": {\"x\": 1}}",
    "{\"Servers\": ",
};

/* Whichever allocation fails, parse and check report ENOMEM and leave nothing
 * behind (the leak sanitizer and valgrind look at that). */
START_TEST (no_memory_parse)
{
    char path[PATH_BYTES];
    const char *text = sweeps[_i];
    ctalk_error_t error;
    long after = 0, made;

    write_file (temp_path (path), text, strlen (text));
    for (bool done = false; !done; after++) {
        ctki_mem_fail (after, 1);
        errno = 0;
        ctalk_config_t *config = ctalk_config_parse (text, strlen (text), &error);
        int code = errno;
        made = ctki_mem_fail (-1, 0);
        done = made <= after;
        if (!done) {
            ck_assert_ptr_null (config);
            ck_assert_int_eq (code, ENOMEM);
            ck_assert_int_eq (error.code, ENOMEM);
        } else {
            ck_assert (_i == 0 ? config != NULL : config == NULL);
            ck_assert (_i == 0 || code == EINVAL);
        }
        ctalk_config_destroy (&config);
    }
    ck_assert_int_ge (after, 3);
    for (after = 0, made = 1; made > after; after++) {
        journal_t journal = {.count = 0};
        ctki_mem_fail (after, 1);
        int count = ctalk_config_check (path, note, &journal);
        made = ctki_mem_fail (-1, 0);
        ck_assert_int_eq (count, journal.count);
        if (made > after) {
            ck_assert_int_eq (count, 1);
            ck_assert_int_eq (journal.errors[0].code, ENOMEM);
        }
    }
}
END_TEST

/* The same for load, add_server and share: nothing is changed by a failure. */
START_TEST (no_memory_calls)
{
    ctalk_config_t *config = parse (sweeps[0]), *share;
    ctalk_error_t error;
    char path[PATH_BYTES];
    int added = -1;

    write_file (temp_path (path), sweeps[0], strlen (sweeps[0]));
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctalk_config_load (path, &error));
    ck_assert_int_eq (error.code, ENOMEM);
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctalk_config_new ());
    ck_assert_int_eq (errno, ENOMEM);
    ctki_mem_fail (1, 1);
    ck_assert_ptr_null (ctalk_config_new ());
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctki_config_share (config));
    ctki_mem_fail (-1, 0);
    ck_assert_ptr_nonnull (share = ctki_config_share (config));
    for (long after = 0; added != 0; after++) {
        ctki_mem_fail (after, 1);
        errno = 0;
        added = ctalk_config_add_server (config, 4, "d:1", &error);
        ck_assert (added == 0 || errno == ENOMEM);
        ck_assert_uint_eq (ctki_config_count (config), added == 0 ? 4 : 3);
        ctki_mem_fail (-1, 0);
    }
    ck_assert_uint_eq (ctki_config_count (share), 3);
    ctalk_config_destroy (&share);
    ctalk_config_destroy (&config);
}
END_TEST

/* -------------------------------------------------------------- mutations */

static uint64_t next_random (uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Changes, inserts, removes or repeats a few bytes; text has room for 8 more. */
static size_t mutate (char *text, size_t size, uint64_t *state)
{
    static const char pieces[] = "{}[]:,\"\\u0019ed-+.*/'#tfn \n\xc3\xa9\xff";
    int changes = 1 + (int) (next_random (state) % 4);

    while (changes-- > 0 && size > 0) {
        size_t at = next_random (state) % size;
        switch (next_random (state) % 4) {
        case 0:
            text[at] = (char) next_random (state);
            break;
        case 1:
            text[at] = pieces[next_random (state) % (sizeof pieces - 1)];
            break;
        case 2:
            memmove (text + at, text + at + 1, --size - at);
            break;
        default:
            memmove (text + at + 1, text + at, size++ - at);
        }
    }
    return size;
}

typedef struct {
    char *texts[512];
    size_t sizes[512];
    size_t count;
} corpus_t;

static void visit_read (const char *path, const char *name, void *arg)
{
    corpus_t *corpus = arg;

    (void) name;
    corpus->texts[corpus->count] = slurp (path, &corpus->sizes[corpus->count]);
    corpus->count++;
}

/* Parse of anything: a config, or an error with a place inside the text and a
 * line of printable text. The copy is as large as the text, so that reading
 * past its end is seen. */
static bool parse_anything (const char *text, size_t size)
{
    char *copy = malloc (size ? size : 1);
    ctalk_error_t error;

    memcpy (copy, text, size);
    errno = 0;
    ctalk_config_t *config = ctalk_config_parse (copy, size, &error);
    bool taken = config != NULL;
    if (!taken) {
        ck_assert_int_eq (errno, EINVAL);
        ck_assert_int_ge (error.line, 1);
        ck_assert_int_ge (error.column, 1);
        ck_assert_uint_le ((size_t) error.line + (size_t) error.column, size + 2);
        for (const char *c = error.text; *c; c++)
            ck_assert ((unsigned char) *c >= 0x20 && *c != 0x7f);
    }
    ctalk_config_destroy (&config);
    free (copy);
    return taken;
}

/* Twenty thousand damaged files of the corpus, the same ones each time: each is
 * taken or refused in good order. */
START_TEST (mutations)
{
    corpus_t corpus = {.count = 0};
    uint64_t state = UINT64_C (0x9e3779b97f4a7c15);
    int taken = 0, count = (int) ctki_test_count (MUTATIONS);

    each_file ("good", visit_read, &corpus);
    each_file ("bad", visit_read, &corpus);
    ck_assert_uint_ge (corpus.count, FILE_MIN);
    for (int i = 0; i < count; i++) {
        size_t pick = next_random (&state) % corpus.count, size = CTKI_MIN (corpus.sizes[pick], (size_t) 2000);
        char text[2048];
        memcpy (text, corpus.texts[pick], size);
        taken += parse_anything (text, mutate (text, size, &state));
    }
    ck_assert_int_gt (taken, count / 400);
    ck_assert_int_lt (taken, count / 2);
    for (size_t i = 0; i < corpus.count; i++)
        free (corpus.texts[i]);
}
END_TEST

/* Every beginning of a good file but the whole is refused. */
START_TEST (prefixes)
{
    char path[PATH_BYTES];
    size_t size;
    char *text = slurp (data_path (path, "good/all-options.json"), &size);

    while (size > 0 && text[size - 1] != '}')
        size--;
    ck_assert (parse_anything (text, size));
    for (size_t i = 0; i < size; i++)
        ck_assert_msg (!parse_anything (text, i), "the first %zu bytes were taken", i);
    free (text);
}
END_TEST

/* ------------------------------------------------------------------ suite */

static TCase *tcase_corpus (void)
{
    TCase *tc = tcase_create ("corpus");

    tcase_add_test (tc, corpus_bad);
    tcase_add_test (tc, corpus_complete);
    tcase_add_test (tc, corpus_good);
    tcase_add_test (tc, mutations);
    tcase_add_test (tc, prefixes);
    return tc;
}

static TCase *tcase_files (void)
{
    TCase *tc = tcase_create ("files");

    tcase_add_checked_fixture (tc, make_temp_dir, drop_temp_dir);
    tcase_add_test (tc, file_missing);
    tcase_add_test (tc, file_directory);
    tcase_add_test (tc, file_fifo);
    tcase_add_test (tc, file_unreadable);
    tcase_add_test (tc, file_large);
    tcase_add_loop_test (tc, swarm, 0, sizeof swarms / sizeof swarms[0]);
    tcase_add_loop_test (tc, no_memory_parse, 0, sizeof sweeps / sizeof sweeps[0]);
    tcase_add_test (tc, no_memory_calls);
    return tc;
}

static TCase *tcase_calls (void)
{
    TCase *tc = tcase_create ("calls");

    tcase_add_test (tc, long_path);
    tcase_add_test (tc, null_arguments);
    tcase_add_test (tc, contents);
    tcase_add_loop_test (tc, option_range, 0, sizeof ranges / sizeof ranges[0]);
    tcase_add_test (tc, option_table);
    tcase_add_test (tc, option_unknown);
    tcase_add_test (tc, option_order);
    tcase_add_test (tc, cluster_name);
    tcase_add_test (tc, add_many);
    tcase_add_loop_test (tc, add_refused, 0, sizeof additions / sizeof additions[0]);
    tcase_add_test (tc, add_bind);
    tcase_add_test (tc, add_system_ports);
    tcase_add_test (tc, share_kept);
    tcase_add_test (tc, share_with_room);
    tcase_add_test (tc, share_threads);
    tcase_add_test (tc, large);
    return tc;
}

Suite *ctki_suite_config (void)
{
    TCase *cases[] = {tcase_corpus (), tcase_files (), tcase_calls ()};
    Suite *suite = suite_create ("config");

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tcase_set_timeout (cases[i], ctki_test_ms (30 * 1000) / 1000);
        suite_add_tcase (suite, cases[i]);
    }
    return suite;
}
