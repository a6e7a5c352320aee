/*
 * The hash by which the indexes know a key: FNV-1a of 64 bits, and a mixing of its bits behind it.
 * It is part of the formats. Keys that share a hash cost a look at the record, no more.
 */
#ifndef QUORLOG_LOOKUP_KEY_HASH_H
#define QUORLOG_LOOKUP_KEY_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t key_hash(const void *key, size_t size)
{
    const uint8_t *bytes = key;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ (hash >> 33);
}

#endif
