/*
 * A store: the file of one segment that holds its batches, one after the other.
 *
 *       0                 4                 8                12                16
 *       +-----------------+-----------------+-----------------+-----------------+
 *     0 | magic "QLS1"    | crc32c          | version         | flags  |rewrites|
 *       +-----------------+-----------------+-----------------+-----------------+
 *    16 | base_offset                       | generation                        |
 *       +-----------------------------------+-----------------------------------+
 *    32 | batch (log/batch.h) | batch | …   nothing between, nothing after
 *       +- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - -
 *
 *   Little-endian. crc32c covers [8, 32). version is 1. A set flag (u16) that is not known means a
 *   format that this program must not touch; none is defined yet. rewrites (u16): how often what
 *   stands from base_offset on was written anew (log_rewrite.c), 1 again behind 65535; 0: these are
 *   the batches as they were appended. A program that does not know of rewriting takes it for
 *   flags. base_offset is that of the first batch, and in the file's name. generation counts the
 *   resets of the log: a file of a lower generation than another one of its directory is a
 *   leftover.
 *
 * The file is open while somebody uses it, and for as long as the cache of files has room for it;
 * without a cache always. What was written and not synced keeps it open: an error of write-back is
 * told to those who had the file open then, and might be told to nobody else. A file that is opened
 * anew must be the one that was closed: its name, header, and at least its size.
 *
 * The kernel does not read ahead by itself: a look-up needs a few pages. Who reads a lot at once,
 * as consumers do who catch up, and scrubbing and compaction, reads forward (io.pread_forward).
 * What was read is not dropped from the page cache: other consumers often follow, and the kernel
 * lets go of what is read once before all else.
 *
 * Invariants:
 *   I1  size is published (release) only after the bytes below it can be read.
 *   I2  Bytes below size never change while anybody but the writer holds a reference.
 *   I3  synced_size < size, by writes of this process: the file is open (held).
 */
#ifndef QUORLOG_LOG_STORE_H
#define QUORLOG_LOG_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "log/batch.h"
#include "log/file_cache.h"

#define STORE_MAGIC UINT32_C(0x31534c51) /* "QLS1" */

enum {
    STORE_HEADER_SIZE = 32,
    /* The largest batch believed when found in a file: larger than any limit of options, so that
     * lowering a limit makes nothing unreadable. */
    STORE_BATCH_SIZE_MAX = 1 << 30,
};

/* The head of the file. */
struct store_header {
    uint64_t base_offset;
    uint64_t generation;
    uint16_t rewrites;
};

/* Reads and verifies the first bytes of a file, `size` of them. path: for the text. ERR_CORRUPT,
 * ERR_VERSION for a newer format. */
enum err store_header_decode(const uint8_t *from, size_t size, const char *path,
                             struct store_header *ret_header, struct err_info *info);

struct store {
    struct io *io;            /* borrowed */
    struct file_cache *files; /* borrowed; NULL: open for as long as it is */
    atomic_uint refs;
    bool temporary;              /* Its file has another name so far: it stays open. */
    const char *suffix;          /* borrowed; of that name */
    struct file_cache_item file; /* the descriptor; fd is owned without a cache, too */
    uint64_t base_offset;
    uint64_t generation;
    uint16_t rewrites;
    _Atomic uint64_t size; /* bytes, header included */
    /* (writer) */
    uint64_t synced_size;     /* Bytes below it are on the disk. */
    uint64_t write_back_from; /* Bytes below it were given to write-back. */
    bool held;                /* Pinned by what is not synced (I3). */
    bool kept;                /* Pinned for good, as its file has lost its name. */
    char path[];
};

/* What a new store begins with, and whether it is made beside `path`, to be moved there later. */
struct store_options {
    struct io *io;            /* borrowed until the last reference goes, as is files */
    struct file_cache *files; /* may be NULL */
    const char *path;         /* in, copied */
    uint64_t base_offset;
    uint64_t generation;
    uint16_t rewrites;
    bool temporary;     /* Made as PATH.tmp until store_commit; else path must not exist. */
    const char *suffix; /* Of a temporary one, instead of ".tmp", static; NULL: that. */
};

/* Creates the file with its header, not synced. One reference, owned by the caller. ERR_EXISTS,
 * ERR_IO, ERR_NOSPACE, ERR_NOMEM. */
enum err store_create(const struct store_options *options, struct store **ret_store,
                      struct err_info *info);

/* Opens an existing file; what follows the header is not looked at. ERR_CORRUPT for a damaged
 * header or one of another base offset, ERR_VERSION for a newer format, ERR_IO, ERR_NOMEM. */
enum err store_open(struct io *io, const char *path, uint64_t base_offset, struct store **ret_store,
                    struct err_info *info);

/* The same with a cache; of the options, generation and temporary are not looked at. */
enum err store_open_with(const struct store_options *options, struct store **ret_store,
                         struct err_info *info);

/* (any) Opens the file if need be, and keeps it open until unpin: what reads and writes here does
 * it for itself; for those who need the descriptor, or go on to use it. ERR_CORRUPT, with the name,
 * when it is gone or is not the same any more; ERR_RANGE when it was taken away; ERR_LIMIT when too
 * many files are open; ERR_IO, ERR_NOMEM. *ret_fd, which may be NULL, is borrowed until unpin. */
enum err store_pin(const struct store *self, int *ret_fd, struct err_info *info);
void store_unpin(const struct store *self);

/* (writer) The file is about to lose its name, or to give it to another one. `shared`: who has a
 * reference goes on reading; where the file cannot be opened for them, they get ERR_RANGE. */
void store_retire(struct store *self, bool shared);

/* (writer) Bytes below size are on the disk. */
void store_set_synced(struct store *self, uint64_t size);

/* Moves a temporary store to its path, replacing what is there. Synced by the caller before, and
 * the directory after. */
enum err store_commit(struct store *self, struct err_info *info);

/* (any) A temporary copy of the first `size` bytes, synced: to be committed as `path`, perhaps in
 * place of self, which stays as it is for those who read it. */
enum err store_copy(const struct store *self, const char *path, uint64_t size,
                    struct store **ret_store, struct err_info *info);

struct store *store_ref(struct store *self);
void store_unref(struct store *self); /* NULL is fine. */

static inline uint64_t store_size(const struct store *self)
{
    return atomic_load_explicit(&self->size, memory_order_acquire);
}

/* (writer) Writes the parts, `size` bytes in all, at the end. On failure the size is unchanged and
 * what lies beyond it undefined. */
enum err store_append(struct store *self, const struct iovec *parts, int count, size_t size,
                      struct err_info *info);

/* (writer) Reserves space for a file of `size` bytes, as far as the disk has it: nothing is said,
 * and nothing is wrong, when it has not. */
void store_reserve(struct store *self, uint64_t size);

/* (writer) Gives the space behind the size back. ERR_IO. */
enum err store_give_back(struct store *self, struct err_info *info);

/* (writer) Starts write-back of what was appended, once it is at least `at_least` bytes. */
void store_write_back(struct store *self, uint64_t at_least);

/* (writer) Cuts the file to `size` bytes, durably. Nobody else may hold a reference (I2). */
enum err store_truncate(struct store *self, uint64_t size, struct err_info *info);

/* (any) Makes all bytes appended before the call durable. */
enum err store_sync(const struct store *self, struct err_info *info);

/* (writer) Writes the bytes in [from, to) again as they are. What was read from the page cache may
 * not be on the disk although no sync would write it: a sync before failed, in a process that is
 * gone. ERR_CORRUPT, ERR_IO, ERR_NOSPACE, ERR_NOMEM. */
enum err store_rewrite(struct store *self, uint64_t from, uint64_t to, struct err_info *info);

/* (any) Exactly size bytes. ERR_CORRUPT when the file ends before. */
enum err store_read(const struct store *self, uint64_t position, void *data, size_t size,
                    struct err_info *info);

/* (any) Up to size bytes, short only at the end of the file. */
enum err store_read_some(const struct store *self, uint64_t position, void *data, size_t size,
                         size_t *ret_size, struct err_info *info);

/* "'PATH' at position N: " before the text in info; returns err. */
enum err store_error(const struct store *self, uint64_t position, enum err err,
                     struct err_info *info);

/* Reads a store forward, a piece at a time, so that small batches do not cost a call each. */
struct store_window {
    const struct store *store; /* borrowed */
    uint8_t *data;             /* borrowed: capacity bytes, at least a batch header */
    size_t capacity;
    uint64_t position; /* of data[0] in the file */
    size_t size;       /* bytes in data */
};

/* The header of the batch at `position`, verified, and the batch inside the file. ERR_CORRUPT
 * names file and position; ERR_IO. */
enum err store_window_header(struct store_window *self, uint64_t position,
                             struct batch_header *ret_header, struct err_info *info);

/* Verifies the body of that batch, whatever its size. ERR_CORRUPT, ERR_IO. */
enum err store_window_check_body(struct store_window *self, uint64_t position,
                                 const struct batch_header *header, struct err_info *info);

#endif
