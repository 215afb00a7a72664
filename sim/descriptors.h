/*
 * descriptors.h - descriptors of the simulator: numbers for what can be waited
 * for, sockets and eventfds. None of them is one of the kernel's.
 */
#ifndef CTKI_DESCRIPTORS_H
#define CTKI_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

enum { CTKI_FDS_FIRST = 1 << 20 }; /* above those of the kernel */

int ctki_fd_new (void);
void ctki_fd_free (int fd);
bool ctki_fd_is_ours (int fd);

/* What is readable is counted; raising it from 0 wakes those who wait. */
uint64_t ctki_fd_count (int fd);
void ctki_fd_raise (int fd, uint64_t by);
uint64_t ctki_fd_take (int fd); /* returns the count, which is 0 then */

#endif
