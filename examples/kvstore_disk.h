/*
 * kvstore_disk.h - where a server keeps what it must not forget: its term, its
 * vote and its log.
 *
 * A disk is a row of bytes that grows at its end: a file, or memory for tests. The
 * journal writes the log into it, one record after the other, and reads it back.
 * What was not written to its end when the process died is cut off: nobody was
 * told of it. (A disk that lost what it had promised to keep looks the same.)
 */
#ifndef KVSTORE_DISK_H
#define KVSTORE_DISK_H

#include <stdbool.h>
#include <stddef.h>

#include "examples/kvstore_log.h"

typedef struct kv_disk kv_disk_t;

/* Three operations and what they work on. Each returns false and sets errno when it failed; then what the disk holds
 * is not known, and the server must end. */
struct kv_disk {
    bool (*read) (kv_disk_t *disk, unsigned char **data, size_t *size); /* all of it; *data is the caller's to free */
    bool (*cut) (kv_disk_t *disk, size_t size);                         /* to so many bytes */
    bool (*append) (kv_disk_t *disk, const void *data, size_t size);    /* safe when it returns */
    int fd;                                                             /* the file; -1 */
    unsigned char *data;                                                /* the memory */
    size_t size;
};

/* The file DIR/PID.log; the folder is made if it is not there. false: errno; EAGAIN: another process has it. */
bool kv_disk_open (kv_disk_t *disk, const char *dir, ctalk_pid_t pid);

/* The same in memory. */
void kv_disk_in_memory (kv_disk_t *disk);

/* Forgets the memory, closes the file. */
void kv_disk_close (kv_disk_t *disk);

/* Gives an empty log what the disk holds. */
bool kv_journal_load (kv_disk_t *disk, kv_log_t *log);

/* Saves what is not saved yet, and tells the log. */
bool kv_journal_save (kv_disk_t *disk, kv_log_t *log);

#endif
