/*
 * payload.h - payloads whose every byte follows from who sent them to whom as
 * which one, so that a receiver can check them without having seen them.
 */
#ifndef CTKI_TEST_PAYLOAD_H
#define CTKI_TEST_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

/* Writes size bytes; dst is CTALK_BROADCAST for a broadcast. */
void ctki_payload_fill (void *buffer, size_t size, ctalk_pid_t src, ctalk_pid_t dst, int64_t number);

/* Whether size bytes are what ctki_payload_fill () wrote. */
bool ctki_payload_ok (const void *data, size_t size, ctalk_pid_t src, ctalk_pid_t dst, int64_t number);

/* A running hash over content and its order; start with 0. */
uint64_t ctki_payload_hash (uint64_t hash, int64_t number, const void *data, size_t size);

#endif
