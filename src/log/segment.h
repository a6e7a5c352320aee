/*
 * A segment: a store and its index, kept in step; one run of a log's offsets.
 *
 *      DIR/00000000000000001835.store          always, but for one that is filled
 *      DIR/00000000000000001835.index          once sealed
 *      DIR/00000000000000001835.store.fill     instead, while it is filled
 *      DIR/00000000000000001835.store.damaged  what was there before damage was found
 *      DIR/00000000000000001835.store.compact  what is to take the place of the store, and of those
 *      DIR/00000000000000001835.index.compact  behind it, and its index: not finished
 *
 * The last segment of a log is active: batches are appended to its store, and its index is memory.
 * One that stands before a hole may be filling: batches are appended to it, too, until it is full
 * or touches the next one. Nothing in its file is believed before it was synced; then the file gets
 * its ordinary name. All others are sealed. A struct segment stays what it is: where a segment is
 * sealed, truncated or replaced, a new struct takes its place in the log's list, and the old one
 * goes with the last reader that holds a reference.
 *
 * A sealed segment costs some 500 bytes of memory and nothing else while nobody reads it: its store
 * and its index are opened by whoever needs them, verified then (the index whole, against the end
 * of the store), and closed by the cache of files. An index that is missing or wrong is derived
 * data: a sparse one is made from the store's headers, in memory, for as long as it is in use.
 *
 * Invariants:
 *   I1  Entries of the index name positions of batches that start at their offsets.
 *   I2  Offsets in [base_offset, end_offset) are dense; raft indexes and append times never go
 *       down.
 *   I3  sealed == the index is that of its file, and neither store nor index changes.
 *   I4  end_offset is published (release) only after the batches below it can be read.
 */
#ifndef QUORLOG_LOG_SEGMENT_H
#define QUORLOG_LOG_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/block.h"
#include "base/io.h"
#include "log/batch.h"
#include "log/index.h"
#include "log/store.h"

/* What all segments of a log have in common. */
struct segment_config {
    struct io *io;            /* borrowed */
    struct file_cache *files; /* borrowed; NULL: what is opened stays open */
    const char *dir;          /* borrowed */
    uint64_t size_max;        /* bytes of a store file */
    uint32_t index_interval;  /* bytes of store per index entry */
};

struct segment {
    atomic_uint refs;
    uint64_t base_offset;
    struct store *store;            /* owned reference */
    struct index *index;            /* owned; NULL: sealed, and in `indexed` while it is open */
    struct file_cache_item indexed; /* the map of a sealed one's index */
    uint32_t index_interval;        /* bytes of store per index entry */
    bool sealed;
    bool filling; /* The store's file has the name of one that is filled. */
    /* (writer) */
    bool reserved;  /* Space behind the store was reserved. */
    bool seal_only; /* Opened by a seal of which not all was verified: the stamps may be wrong. */
    int index_fd;   /* owned; of an index just written, until it is synced; else -1 */
    _Atomic uint64_t end_offset;
    int64_t first_append_time_us; /* (writer) of the first batch; INT64_MAX: none, or sealed */
    /* (writer) The stamps of the last batch, or of what came before an empty one. */
    uint64_t last_raft_index;
    int64_t last_append_time_us;
};

/* Whether the stamps say something: see segment_trust. */
static inline bool segment_knows_stamps(const struct segment *self)
{
    return !self->seal_only && self->last_append_time_us != INT64_MIN;
}

/* The kinds of files, and their names. */
enum segment_file {
    SEGMENT_STORE,
    SEGMENT_INDEX,
    SEGMENT_TEMPORARY,
    SEGMENT_FILLING,
    SEGMENT_FILLING_TEMPORARY,
    SEGMENT_DAMAGED,
    SEGMENT_COMPACT,
    SEGMENT_COMPACT_INDEX,
    SEGMENT_FILE_COUNT,
};

/* "DIR/00000000000000001835.store" into buffer. ERR_TOO_LARGE. */
enum err segment_path(char buffer[IO_PATH_SIZE], const char *dir, uint64_t base_offset,
                      enum segment_file file, struct err_info *info);

/* Takes a file's name apart; false when it is none of ours. */
bool segment_parse_name(const char *name, uint64_t *ret_base_offset, enum segment_file *ret_file);

/* A new, empty, active (or filling) segment behind `before` (NULL: nothing), not synced.
 * temporary: see store_create. rewrites: see store.h; not 0: a temporary one, SEGMENT_COMPACT.
 * ERR_EXISTS, ERR_IO, ERR_NOSPACE, ERR_NOMEM. */
struct segment_origin {
    uint64_t base_offset;
    uint64_t generation;
    const struct segment *before; /* borrowed for the call */
    uint16_t rewrites;
    bool temporary;
    bool filling;
};
enum err segment_create(const struct segment_config *config, const struct segment_origin *origin,
                        struct segment **ret_segment, struct err_info *info);

/* Opens a sealed segment by its index's seal, without reading the store. ERR_CORRUPT,
 * ERR_NOT_FOUND or ERR_VERSION: the index is missing, damaged or stale, recover the segment
 * instead. *store: taken over on success. */
enum err segment_open(const struct segment_config *config, struct store *store,
                      struct segment **ret_segment, struct err_info *info);

/*
 * The same without looking at more than the seal: for a segment that ends where the next one, at
 * next_base, begins. A seal that says so, and has the store's size, is believed for that; all else
 * is verified when it is first needed. ERR_CORRUPT otherwise: use segment_open.
 */
enum err segment_open_by_seal(const struct segment_config *config, struct store *store,
                              uint64_t next_base, struct segment **ret_segment,
                              struct err_info *info);

/* (writer) Makes sure of the stamps; where they cannot be, they say nothing any more. */
void segment_trust(struct segment *self);

/* (any) Opens the store and the index, if need be, and keeps them open until unpin. *ret_index,
 * which may be NULL, is borrowed until then. Errors as store_pin's; ERR_NOMEM. */
enum err segment_pin(const struct segment *self, const struct index **ret_index,
                     struct err_info *info);
void segment_unpin(const struct segment *self);

/* (writer) The segment's store is about to lose its name, or to give it to another file: see
 * store_retire. `listed`: a reader can still find it. */
void segment_retire(struct segment *self, bool listed);

/* (writer) Its index was synced, or is not worth it any more. */
void segment_close_index_fd(const struct segment *self, int *fd);

/* Where the part of a store that verifies ends. */
struct segment_tail {
    bool torn;         /* Bytes follow that do not verify. */
    uint64_t position; /* where they begin; else the store's size */
};

/*
 * Reads the whole store, verifies it, and makes an active segment with the batches that verify.
 * Below durable_end nothing may be wrong: ERR_CORRUPT with file and position. The store is not
 * changed: the caller cuts it at *ret_tail before anything is appended. ERR_IO, ERR_NOMEM. *store:
 * taken over on success.
 */
enum err segment_recover(const struct segment_config *config, struct store *store,
                         const struct segment *before, uint64_t durable_end,
                         struct segment **ret_segment, struct segment_tail *ret_tail,
                         struct err_info *info);

/* (writer) The sealed segment that takes the place of active `self`, which stays. Not synced. Of a
 * temporary one, the index has a name of that kind, too: SEGMENT_COMPACT_INDEX. */
enum err segment_seal(const struct segment_config *config, const struct segment *self,
                      struct segment **ret_sealed, struct err_info *info);

/* (writer) The active segment with the batches of `self` below `position` (a batch's beginning or
 * the end), over `store` (a reference, taken over on success). `last`: header of the last batch
 * below position, NULL when there is none, and then the stamps are those of `before`. */
struct segment_cut {
    uint64_t position;
    uint64_t end_offset;
    const struct batch_header *last;
    const struct segment *before;
};
enum err segment_cut(const struct segment_config *config, const struct segment *self,
                     struct store *store, const struct segment_cut *cut,
                     struct segment **ret_segment, struct err_info *info);

struct segment *segment_ref(struct segment *self);
void segment_unref(struct segment *self); /* NULL is fine. */

/* (any) Where the batches end that verify, wholly and in order, and end at or below end_max: all
 * but ret_cut->before, *last in `ret_last` where there is one. What does not verify, or cannot be
 * read, is no error. ERR_NOMEM. */
enum err segment_measure(const struct segment *self, uint64_t end_max, struct segment_cut *ret_cut,
                         struct batch_header *ret_last, struct err_info *info);

/* (writer) Appends a batch of which `parts` are the bytes; active. On failure the store's tail is
 * undefined. */
enum err segment_append(struct segment *self, const struct batch_header *header,
                        const struct iovec *parts, int count, struct err_info *info);

/* What a reader asks for, and what it gets. */
struct segment_query {
    uint64_t offset;
    uint64_t end_max; /* Batches that begin at or above it are not looked at. */
    uint64_t size_max;
};
struct segment_run {
    uint64_t position;
    uint64_t size;
    uint64_t base_offset;
    uint64_t end_offset;
    struct batch_header first; /* The header of the batch that holds the offset. */
};

/* (any) The batches from the one that holds query->offset on, headers verified: as many as fit
 * and end at or below end_max, at least one. end_max is at or below what is published.
 * ERR_CORRUPT, ERR_IO. */
enum err segment_find(const struct segment *self, const struct segment_query *query,
                      struct segment_run *ret_run, struct err_info *info);

/* (any) As segment_find, and reads it: a new block, owned by the caller, every body verified. */
enum err segment_read(const struct segment *self, const struct segment_query *query,
                      struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info);

/* (writer, tests) ASSERTs I1–I3 and that all of the store verifies. */
void segment_check(const struct segment *self);

#endif
