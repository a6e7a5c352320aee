/*
 * A block: reference-counted bytes that several threads may hold at once.
 *
 * A payload is read from a socket into one block and then travels, uncopied, through the queue of
 * the raft thread, the journal's write and the connections to the other nodes; each of them holds
 * a reference. Bytes are written before the block is shared and never after.
 */
#ifndef QUORLOG_BASE_BLOCK_H
#define QUORLOG_BASE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct block {
    atomic_uint refs; /* Freed when it reaches zero. */
    size_t size;      /* Bytes in data. */
    uint8_t data[] __attribute__((aligned(16)));
};

/* A view of bytes in a block. Copying the struct does not take a reference. */
struct slice {
    struct block *block; /* Whoever holds the slice says whether it owns a reference. */
    const uint8_t *data;
    size_t size;
};

/* A block of `size` uninitialised bytes with one reference, owned by the caller; NULL when memory
 * is short. */
struct block *block_new(size_t size);

/* One more reference; returns self. */
struct block *block_ref(struct block *self);

/* One reference less; NULL is fine. The last one frees the block. */
void block_unref(struct block *self);

#endif
