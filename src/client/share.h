/*
 * Shared reading: which of n consumers a record belongs to. Every client that shares a topic with
 * others must come to the same, so this never changes; docs/protocol.md has it with examples.
 *
 *   with a key:   h = CRC-32C of the key's bytes, mixed by
 *                     h ^= h >> 16; h *= 0x85ebca6b; h ^= h >> 13; h *= 0xc2b2ae35; h ^= h >> 16
 *                 (mod 2^32): a checksum alone is linear, and n of 2 would see one bit of it.
 *   without one:  h = the record's offset.
 *   share = h mod n + 1
 */
#ifndef QUORLOG_CLIENT_SHARE_H
#define QUORLOG_CLIENT_SHARE_H

#include <stdbool.h>

#include "client/client.h"

enum { SHARE_COUNT_MAX = 1024 };

/* 1 … count. */
unsigned share_of(const struct record *record, unsigned count);

/* Whether there is such a share: 1 … count of 1 … SHARE_COUNT_MAX, or 0 of 0, which is all. */
bool share_is_one(unsigned share, unsigned count);

#endif
