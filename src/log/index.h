/*
 * An index: for some batches of a store, at most one each `interval` bytes, where they stand.
 *
 *       0                 4                 8                12                16
 *       +-----------------+-----------------+-----------------+-----------------+
 *     0 | magic "QLX1"    | crc32c          | version         | flags  |rewrites|
 *       +-----------------+-----------------+-----------------+-----------------+
 *    16 | base_offset                       | generation                        |
 *       +-----------------------------------+-----------------------------------+
 *    32 | entry: offset                     | position                          |  count times
 *       +- - - - - - - - - - - - - - - - - -+- - - - - - - - - - - - - - - - - -+
 *       | seal:  magic "QLXS" | crc32c      | store_size                        |
 *       +-----------------+-----------------+-----------------------------------+
 *       | end_offset                        | last_position                     |
 *       +-----------------------------------+-----------------------------------+
 *       | last_raft_index                   | last_append_time_us               |
 *       +-----------------+-----------------+-----------------------------------+
 *       | last_header_crc | count           |
 *       +-----------------+-----------------+
 *
 *   Little-endian. base_offset, generation and rewrites (u16) are those of the store (store.h). The
 *   header's crc32c covers [8, 32), the seal's all entries and the seal behind
 *   its crc32c. The seal says what the store was when the index was finished: an index whose seal
 *   does not match the store is stale. An index is derived: whatever is wrong with it, it is made
 *   again from the store.
 *
 * An index has two lives. While its segment is active it is memory only (`index_new`): recovery
 * reads the active segment anyway, and appending must not fail for its sake. It grows by pieces,
 * each twice as large as all before it, that never move under a reader; one that cannot be had
 * leaves it sparser. When the segment is sealed it is written (`index_seal`) and from then on
 * mapped (`index_open`) while somebody reads, never to change.
 *
 * Invariants:
 *   I1  Entries are ordered by offset and by position; the first is the segment's first batch.
 *   I2  An entry is written before the count that shows it is published (release), and does not
 *       change afterwards.
 */
#ifndef QUORLOG_LOG_INDEX_H
#define QUORLOG_LOG_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"

#define INDEX_MAGIC UINT32_C(0x31584c51) /* "QLX1" */

enum {
    INDEX_HEADER_SIZE = 32,
    INDEX_ENTRY_SIZE = 16,
    INDEX_SEAL_SIZE = 56,
};

struct index_entry {
    uint64_t offset;
    uint64_t position; /* bytes into the store file */
};

/* What the store was when the index was finished. */
struct index_seal {
    uint64_t store_size;
    uint64_t end_offset;
    uint64_t last_position; /* of the last batch; 0 when there is none */
    uint64_t last_raft_index;
    int64_t last_append_time_us;
    uint32_t last_header_crc; /* header_crc32c of the last batch: binds the index to the contents */
};

enum {
    INDEX_PIECE_MIN = 16, /* entries of the first piece; the next ones: 16, 32, 64 … */
    INDEX_PIECES_MAX = 28,
};

struct index {
    struct io *io;                     /* borrowed */
    uint8_t *pieces[INDEX_PIECES_MAX]; /* owned; of one in memory */
    const uint8_t *entries;            /* inside the map; NULL while it is memory only */
    _Atomic size_t count;              /* entries */
    size_t capacity;                   /* entries at most; count for a mapped one */
    uint32_t interval;                 /* bytes */
    void *map;                         /* owned; NULL while it is memory only */
    size_t map_size;
    int fd; /* Of a file just written, until it is synced; else -1. */
};

/* An empty one in memory, for stores of up to store_size_max bytes. NULL when memory is short. */
struct index *index_new(struct io *io, uint64_t store_size_max, uint32_t interval);

/* One in memory with the entries of another that lie below `position`. */
struct index *index_copy(const struct index *from, uint64_t position, uint64_t store_size_max,
                         uint32_t interval);

void index_free(struct index *self); /* NULL is fine. */

/* (writer) Takes note of the next batch; keeps it when it is `interval` bytes behind the last. */
void index_add(struct index *self, uint64_t offset, uint64_t position);

/* (any) The last entry at or below offset; false when there is none. */
bool index_find(const struct index *self, uint64_t offset, struct index_entry *ret_entry);

/* (any) The first entry at or above offset; false when there is none. */
bool index_find_from(const struct index *self, uint64_t offset, struct index_entry *ret_entry);

static inline size_t index_count(const struct index *self)
{
    return atomic_load_explicit(&self->count, memory_order_acquire);
}

/* (any) The same entries. */
bool index_equal(const struct index *self, const struct index *other);

/* (any) i < index_count. */
struct index_entry index_get(const struct index *self, size_t i);

/* The store that an index was made for. */
struct index_header {
    uint64_t base_offset;
    uint64_t generation;
    uint16_t rewrites;
};

/* (writer) Writes the entries and the seal to `path`, replacing what is there, and maps them:
 * *ret_sealed is the same index as a file, not synced (fd). self stays. ERR_IO, ERR_NOSPACE,
 * ERR_NOMEM. */
enum err index_seal(const struct index *self, const char *path, const struct index_header *header,
                    const struct index_seal *seal, struct index **ret_sealed,
                    struct err_info *info);

/* Reads the seal and nothing else. The seal's own checksum, which is over the entries, too, is not
 * verified: whoever believes it has something to compare it with. Errors as index_open's. */
enum err index_read_seal(struct io *io, const char *path, const struct index_header *expected,
                         struct index_seal *ret_seal, struct err_info *info);

/* ---- the bytes of a file, for who reads one without mapping it ---- */

/* ERR_CORRUPT, ERR_VERSION for a newer format. */
enum err index_header_decode(const uint8_t from[INDEX_HEADER_SIZE], struct index_header *ret_header,
                             struct err_info *info);
struct index_entry index_entry_decode(const uint8_t from[INDEX_ENTRY_SIZE]);
/* count, entries_crc: of the entries that stand before it. ERR_CORRUPT. */
enum err index_seal_decode(const uint8_t from[INDEX_SEAL_SIZE], size_t count, uint32_t entries_crc,
                           struct index_seal *ret_seal, struct err_info *info);

/* Maps a finished index, all of it verified. ERR_NOT_FOUND; ERR_CORRUPT and ERR_VERSION: make it
 * again; ERR_IO, ERR_NOMEM. */
enum err index_open(struct io *io, const char *path, const struct index_header *expected,
                    struct index **ret_index, struct index_seal *ret_seal, struct err_info *info);

#endif
