/*
 * demo_text.c - a text file in memory as numbered lines. It owns the bytes and
 * the table of lines. What may go wrong: the file cannot be read, is too large
 * or has no line.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };

uint64_t demo_hash (uint64_t hash, int64_t msg_id, const void *data, size_t size)
{
    const uint64_t prime = UINT64_C (0x100000001b3);
    const unsigned char *bytes = data;
    const uint64_t head[2] = {(uint64_t) msg_id, size};
    for (size_t i = 0; i < sizeof head; i++)
        hash = (hash ^ (head[i / 8] >> i % 8 * 8 & 0xff)) * prime;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * prime;
    return hash;
}

demo_line_t demo_text_line (const demo_text_t *text, uint64_t number)
{
    return text->lines[(number - 1) % text->count];
}

/* All bytes of an open file. NULL: errno. */
static char *read_all (int fd, size_t *size)
{
    char *bytes = NULL;
    size_t capacity = 0;
    ssize_t count = 1;
    for (*size = 0; count > 0; *size += (size_t) count) {
        if (capacity - *size < READ_BYTES) {
            capacity = capacity * 2 + READ_BYTES;
            char *larger = realloc (bytes, capacity);
            if (!larger)
                break;
            bytes = larger;
        }
        errno = *size > DEMO_FILE_BYTES_MAX ? EFBIG : 0;
        count = errno ? -1 : read (fd, bytes + *size, READ_BYTES);
        if (count == -1)
            break;
    }
    if (count == 0)
        return bytes;
    free (bytes);
    return NULL;
}

static uint64_t count_lines (const char *bytes, size_t size)
{
    uint64_t count = 0;
    const char *end = bytes + size;
    for (const char *p = bytes; p < end; count++) {
        const char *newline = memchr (p, '\n', (size_t) (end - p));
        p = newline ? newline + 1 : end;
    }
    return count;
}

static void find_lines (demo_text_t *text, size_t size)
{
    const char *end = text->bytes + size;
    const char *p = text->bytes;
    for (uint64_t i = 0; i < text->count; i++) {
        const char *newline = memchr (p, '\n', (size_t) (end - p));
        size_t length = (size_t) ((newline ? newline : end) - p);
        text->lines[i] = (demo_line_t){p, length};
        text->longest = length > text->longest ? length : text->longest;
        p += length + 1;
    }
}

static void hash_lines (demo_text_t *text)
{
    text->hash = DEMO_HASH_START;
    for (uint64_t n = 1; n <= text->total; n++) {
        demo_line_t line = demo_text_line (text, n);
        text->hash = demo_hash (text->hash, (int64_t) n, line.data, line.size);
    }
}

static char *read_file (const char *path, size_t *size)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    char *bytes = fd == -1 ? NULL : read_all (fd, size);
    if (!bytes)
        cli_error ("%s: %s", path, strerror (errno));
    if (fd != -1)
        close (fd);
    return bytes;
}

int demo_text_load (demo_text_t *text, const char *path, uint64_t repeat)
{
    size_t size = 0;
    *text = (demo_text_t){.bytes = read_file (path, &size), .repeat = repeat};
    if (!text->bytes)
        return -1;
    text->count = count_lines (text->bytes, size);
    text->total = text->count * repeat;
    if (text->count == 0 || text->total > DEMO_LINES_MAX) {
        if (text->count == 0)
            cli_error ("%s: the file has no line", path);
        else
            cli_error ("%s: %llu lines in all are more than %d; repeat it less often", path,
                       (unsigned long long) text->total, (int) DEMO_LINES_MAX);
        demo_text_fini (text);
        return -1;
    }
    text->lines = calloc (text->count, sizeof *text->lines);
    if (!text->lines) {
        cli_error ("%s: %s", path, strerror (errno));
        demo_text_fini (text);
        return -1;
    }
    find_lines (text, size);
    hash_lines (text);
    return 0;
}

void demo_text_fini (demo_text_t *text)
{
    free (text->lines);
    free (text->bytes);
    *text = (demo_text_t){0};
}
