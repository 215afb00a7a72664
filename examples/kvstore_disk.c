/*
 * kvstore_disk.c - where a server keeps what it must not forget. Owns the file
 * or the memory of its disk.
 *
 * A record is a checksum (8 bytes), the length of the rest (4 bytes), and the rest:
 * a kind, then either term and vote, or index, term and data of an
 * entry. An entry takes the place of the one that had its index, and ends the
 * log there.
 */
#include "examples/kvstore_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "examples/kvstore_wire.h"

enum { PATH_BYTES = 4096, VOTE = 1, ENTRY = 2 };

/* ---- a file */

static bool read_file (kv_disk_t *disk, unsigned char **data, size_t *size)
{
    struct stat about;
    if (fstat (disk->fd, &about) == -1)
        return false;
    *data = kv_resize (NULL, (size_t) about.st_size + 1);
    for (*size = 0; *size < (size_t) about.st_size;) {
        ssize_t n = pread (disk->fd, *data + *size, (size_t) about.st_size - *size, (off_t) *size);
        if (n > 0)
            *size += (size_t) n;
        else if (n == 0 || errno != EINTR) {
            free (*data);
            return false;
        }
    }
    return true;
}

static bool cut_file (kv_disk_t *disk, size_t size)
{
    return ftruncate (disk->fd, (off_t) size) == 0 && lseek (disk->fd, (off_t) size, SEEK_SET) >= 0
           && fsync (disk->fd) == 0;
}

static bool append_to_file (kv_disk_t *disk, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t n = write (disk->fd, at, size);
        if (n > 0) {
            at += n;
            size -= (size_t) n;
        } else if (n == 0 || errno != EINTR)
            return false;
    }
    return fdatasync (disk->fd) == 0;
}

/* That a file is in its folder must be safe, too. */
static bool sync_folder (const char *dir)
{
    int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool well = fd >= 0 && fsync (fd) == 0;
    if (fd >= 0)
        close (fd);
    return well;
}

bool kv_disk_open (kv_disk_t *disk, const char *dir, ctalk_pid_t pid)
{
    char path[PATH_BYTES];
    *disk = (kv_disk_t){.read = read_file, .cut = cut_file, .append = append_to_file, .fd = -1};
    if (snprintf (path, sizeof path, "%s/%d.log", dir, (int) pid) >= (int) sizeof path) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (mkdir (dir, 0777) == -1 && errno != EEXIST)
        return false;
    disk->fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (disk->fd < 0)
        return false;
    if (flock (disk->fd, LOCK_EX | LOCK_NB) == 0 && sync_folder (dir))
        return true;
    int code = errno;
    kv_disk_close (disk);
    errno = code;
    return false;
}

/* ---- memory */

static bool read_memory (kv_disk_t *disk, unsigned char **data, size_t *size)
{
    *data = kv_resize (NULL, disk->size + 1);
    *size = disk->size;
    if (disk->size)
        memcpy (*data, disk->data, disk->size);
    return true;
}

static bool cut_memory (kv_disk_t *disk, size_t size)
{
    disk->size = size;
    return true;
}

static bool append_to_memory (kv_disk_t *disk, const void *data, size_t size)
{
    disk->data = kv_resize (disk->data, disk->size + size);
    memcpy (disk->data + disk->size, data, size);
    disk->size += size;
    return true;
}

void kv_disk_in_memory (kv_disk_t *disk)
{
    *disk = (kv_disk_t){.read = read_memory, .cut = cut_memory, .append = append_to_memory, .fd = -1};
}

void kv_disk_close (kv_disk_t *disk)
{
    if (disk->fd >= 0)
        close (disk->fd);
    free (disk->data);
    *disk = (kv_disk_t){.fd = -1};
}

/* ---- the journal */

/* FNV-1a: it is to find what was not written to its end, not what somebody changed. */
static uint64_t checksum (const unsigned char *data, size_t size)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 0x100000001b3u;
    return sum;
}

/* Appends the record whose inside stands in `inside', and empties that. */
static void add_record (kv_writer_t *out, kv_writer_t *inside)
{
    kv_write_number (out, checksum (inside->data, inside->size), 8);
    kv_write_text (out, inside->data, inside->size);
    inside->size = 0;
}

static void add_vote (kv_writer_t *out, kv_writer_t *inside, const kv_log_t *log)
{
    kv_write_number (inside, VOTE, 1);
    kv_write_number (inside, log->term, 8);
    kv_write_number (inside, (uint32_t) log->voted, 4);
    add_record (out, inside);
}

static void add_entry (kv_writer_t *out, kv_writer_t *inside, const kv_log_t *log, uint64_t index)
{
    const kv_entry_t *entry = &log->entry[index];
    kv_write_number (inside, ENTRY, 1);
    kv_write_number (inside, index, 8);
    kv_write_number (inside, entry->term, 8);
    kv_write_text (inside, entry->data, entry->size);
    add_record (out, inside);
}

bool kv_journal_save (kv_disk_t *disk, kv_log_t *log)
{
    kv_writer_t out = {0}, inside = {0};
    if (!log->vote_is_saved)
        add_vote (&out, &inside, log);
    for (uint64_t index = log->saved + 1; index <= log->last; index++)
        add_entry (&out, &inside, log, index);
    bool well = out.size == 0 || disk->append (disk, out.data, out.size);
    if (well)
        kv_log_saved (log);
    kv_writer_fini (&out);
    kv_writer_fini (&inside);
    return well;
}

static bool restore (kv_log_t *log, kv_reader_t inside)
{
    uint64_t kind = kv_read_number (&inside, 1);
    if (kind == VOTE) {
        uint64_t term = kv_read_number (&inside, 8);
        ctalk_pid_t voted = (ctalk_pid_t) (uint32_t) kv_read_number (&inside, 4);
        return kv_reader_is_done (&inside) && kv_log_restore_vote (log, term, voted);
    }
    uint64_t index = kv_read_number (&inside, 8);
    kv_entry_t entry = {.term = kv_read_number (&inside, 8)};
    kv_text_t text = kv_read_text (&inside);
    entry.data = text.data;
    entry.size = text.size;
    return kind == ENTRY && kv_reader_is_done (&inside) && kv_log_restore_entry (log, index, &entry);
}

/* The inside of the next whole record. */
static bool next_record (kv_reader_t *in, kv_reader_t *inside)
{
    uint64_t sum = kv_read_number (in, 8);
    kv_text_t text = kv_read_text (in);
    *inside = (kv_reader_t){.at = text.data, .left = text.size};
    return !in->bad && text.size > 0 && checksum (text.data, text.size) == sum;
}

bool kv_journal_load (kv_disk_t *disk, kv_log_t *log)
{
    unsigned char *data = NULL;
    size_t size = 0, whole = 0;
    if (!disk->read (disk, &data, &size))
        return false;
    kv_reader_t in = {.at = data, .left = size}, inside;
    bool well = true;
    while (well && next_record (&in, &inside)) {
        well = restore (log, inside);
        whole = size - in.left;
    }
    free (data);
    if (!well)
        errno = EILSEQ;                     /* it was written so: not torn, but wrong */
    return well && disk->cut (disk, whole); /* and what follows is written there */
}
