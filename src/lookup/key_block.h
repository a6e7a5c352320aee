/*
 * A block of a key index (key_run.h has its bytes), and where it lies in LMDB's order.
 */
#ifndef QUORLOG_LOOKUP_KEY_BLOCK_H
#define QUORLOG_LOOKUP_KEY_BLOCK_H

#include "lookup/key_run.h"

enum { KEY_BLOCK_KEY_SIZE = 16, KEY_BLOCK_HEADER_SIZE = 24 };

struct key_block {
    struct key_entry before; /* of the first block: KEY_LOWEST */
    struct key_entry last;   /* its key; of the last block: KEY_HIGHEST */
    size_t count;
    struct key_entry entries[KEY_BLOCK_ENTRIES];
};

/* Below and above all entries: no record has offset UINT64_MAX. */
#define KEY_LOWEST ((struct key_entry){.hash = 0, .offset = UINT64_MAX})
#define KEY_HIGHEST ((struct key_entry){.hash = UINT64_MAX, .offset = 0})

void key_block_key_encode(const struct key_entry *last, uint8_t to[KEY_BLOCK_KEY_SIZE]);

/* Returns the size of the value; to has room for KEY_BLOCK_SIZE_MAX. */
size_t key_block_encode(const struct key_block *self, const struct part_seal *part, uint8_t *to);

/* Copies and checks. ERR_CORRUPT with the reason. */
enum err key_block_decode(const void *key, size_t key_size, const void *value, size_t value_size,
                          const struct part_seal *part, struct key_block *ret_block,
                          struct err_info *info);

#endif
