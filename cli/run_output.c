/*
 * run_output.c - received envelopes as printed lines. What a peer sent must not
 * drive the terminal: control characters and bytes that are not UTF-8 are
 * written as \xNN, a backslash as \\, so that the text can be read back. It
 * owns one buffer. What may go wrong: no memory, a reader that has gone.
 */
#include "cli/run.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 40,           /* "PID MSGID " and the newline */
    ESCAPED_BYTES = 4,         /* the most that one byte becomes */
    FILE_PIECE_BYTES = 1 << 20 /* one write to an ordinary file */
};

void run_output_init (run_output_t *output, int fd)
{
    struct stat status;
    *output = (run_output_t){.ordinary = fstat (fd, &status) == 0 && S_ISREG (status.st_mode)};
}

void run_output_fini (run_output_t *output)
{
    free (output->bytes);
    output->bytes = NULL;
}

size_t run_output_waiting (const run_output_t *output)
{
    return output->end - output->start;
}

static int make_room (run_output_t *output, size_t size)
{
    size_t rest = run_output_waiting (output);
    if (rest > 0 && output->start > 0)
        memmove (output->bytes, output->bytes + output->start, rest);
    output->start = 0;
    output->end = rest;
    if (output->capacity - rest >= size)
        return 0;
    size_t capacity = output->capacity + rest + size;
    char *bytes = realloc (output->bytes, capacity);
    if (!bytes)
        return -1;
    output->bytes = bytes;
    output->capacity = capacity;
    return 0;
}

/* The length of the printable UTF-8 sequence of two to four bytes that begins
 * here; 0: none does. U+0080 to U+009F are control characters. */
static size_t sequence_size (const unsigned char *p, size_t size)
{
    size_t length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
        || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return length;
}

static char *escape (char *to, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    *to++ = '\\';
    if (byte == '\\') {
        *to++ = '\\';
        return to;
    }
    *to++ = 'x';
    *to++ = digits[byte >> 4];
    *to++ = digits[byte & 15];
    return to;
}

static bool is_plain (unsigned char byte)
{
    return (byte >= ' ' && byte < 0x7f && byte != '\\') || byte == '\t';
}

static char *print_text (char *to, const unsigned char *text, size_t size)
{
    size_t i = 0;
    while (i < size) {
        size_t length = is_plain (text[i]) ? 1 : text[i] >= 0x80 ? sequence_size (text + i, size - i) : 0;
        if (length == 0)
            to = escape (to, text[i]);
        for (size_t k = 0; k < length; k++)
            *to++ = (char) text[i + k];
        i += length ? length : 1;
    }
    return to;
}

int run_output_add (run_output_t *output, const ctalk_envelope_t *envelope)
{
    if (output->broken)
        return 0;
    if (make_room (output, HEAD_BYTES + envelope->size * ESCAPED_BYTES) == -1)
        return -1;
    char *to = output->bytes + output->end;
    to += snprintf (to, HEAD_BYTES, "%d %lld ", (int) envelope->pid, (long long) envelope->msg_id);
    to = print_text (to, envelope->data, envelope->size);
    *to++ = '\n';
    output->end = (size_t) (to - output->bytes);
    return 0;
}

int run_output_write (run_output_t *output, int fd)
{
    size_t limit = output->ordinary ? (size_t) FILE_PIECE_BYTES : PIPE_BUF;
    size_t size = run_output_waiting (output);
    if (size == 0)
        return 0;
    ssize_t count = write (fd, output->bytes + output->start, size < limit ? size : limit);
    if (count == -1 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (count == -1) {
        output->broken = true;
        output->start = output->end;
        return -1;
    }
    output->start += (size_t) count;
    return 0;
}
