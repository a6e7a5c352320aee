/*
 * The key index of a range of a log, finished: an LMDB environment in one file, which is never
 * changed after it was made.
 *
 *      body
 *       0            tree_size                       body_size
 *       +------------+------------------------------+
 *       | LMDB       | crc32c u32 of each 64 KiB …  |  the seal's body_crc32c covers these
 *       +------------+------------------------------+
 *
 *   The environment's main database has entries in blocks, in order of (hash, newest first):
 *
 *      key, 16 bytes:  the last entry of the block: hash u64 | ~offset u64, both big-endian; of the
 *                      last block: all ones
 *      value:
 *       0                 4                 8                                  16
 *       +-----------------+-----------------+-----------------------------------+
 *     0 | crc32c          | count           | before: hash                      |
 *       +-----------------+-----------------+-----------------------------------+
 *    16 | before: offset                    | entry: hash                       |  count times
 *       +-----------------------------------+- - - - - - - - - - - - - - - - - -+
 *       | entry: offset                     | …
 *       +-----------------------------------+
 *
 *   Little-endian. before: the last entry of the block before, 0 and UINT64_MAX in the first one.
 *   crc32c covers topic_id, base_offset and end_offset of the part (24 bytes), the key, and the
 *   value from 4 on. At most KEY_BLOCK_ENTRIES in a block.
 *
 * LMDB's pages have no checksums, and it believes them: so
 *   I1  A file is read, and all its bytes checked, before LMDB is given it (key_run_verify), and it
 *       is not used any more when its time of change or size is not what it was then.
 *   I2  What LMDB finds is believed for its own sake: a block says which entries it has *and that
 *       there are none between its `before` and its key*. That a key is not there is thus said by
 *       a checksum, too, and not by LMDB's having found nothing.
 * A bit that flips in the page cache or on the disk, after the check, in one of the tree's inner
 * pages can make LMDB fail, or stop the process, but not give a wrong answer.
 */
#ifndef QUORLOG_LOOKUP_KEY_RUN_H
#define QUORLOG_LOOKUP_KEY_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/io.h"
#include "lookup/key_table.h"
#include "lookup/part.h"

enum { KEY_BLOCK_ENTRIES = 253, KEY_BLOCK_SIZE_MAX = 24 + 16 * KEY_BLOCK_ENTRIES };

/* ---- writing: entries in order ---- */

struct key_writer;

/* count_max: entries that will come at most. seal: kind, topic and offsets, copied. ERR_IO,
 * ERR_NOSPACE, ERR_NOMEM. */
enum err key_writer_open(struct io *io, const char *dir, const struct part_seal *seal,
                         uint64_t count_max, struct key_writer **ret_writer, struct err_info *info);

/* Each behind the one before. Errors as before. */
enum err key_writer_add(struct key_writer *self, const struct key_entry *entry,
                        struct err_info *info);

/* Makes the file durable under its name; frees the writer, whatever is returned. seal: times, level
 * and digest; the rest is filled in. */
enum err key_writer_finish(struct key_writer *self, struct part_seal *seal, struct err_info *info);

/* Gives up and removes what was written; NULL is fine. */
void key_writer_abort(struct key_writer *self);

/* ---- reading ---- */

/* What a file was when it was verified. */
struct key_stamp {
    uint64_t inode;
    uint64_t size;
    struct timespec changed;
};

/* Called now and then while a file is read, with the bytes since; false: stop (ERR_CANCELED). */
typedef bool (*key_progress_cb)(void *arg, uint64_t size);

/* Reads all of it (I1). go_on may be NULL. ERR_CORRUPT with file and position, ERR_NOT_FOUND,
 * ERR_VERSION, ERR_IO, ERR_NOMEM. */
enum err key_run_verify(struct io *io, const char *dir, const struct part_seal *named,
                        key_progress_cb go_on, void *arg, struct key_stamp *ret_stamp,
                        struct err_info *info);

/* The same, for who does not open it. */
enum err key_run_check(struct io *io, const char *dir, const struct part_seal *named,
                       key_progress_cb go_on, void *arg, struct err_info *info);

/* What the file is now, to be given to key_run_open by who wrote it. ERR_NOT_FOUND, ERR_IO. */
enum err key_run_stamp(const char *dir, const struct part_seal *named, struct key_stamp *ret_stamp,
                       struct err_info *info);

struct key_run;

/* Opens one that was verified. ERR_CORRUPT when it is not that file any more. */
enum err key_run_open(const char *dir, const struct part_seal *seal, const struct key_stamp *stamp,
                      struct key_run **ret_run, struct err_info *info);
void key_run_close(struct key_run *self); /* NULL is fine. */

/* (any thread) Appends to what was found. *pages: those of the tree that were looked at are added.
 * ERR_CORRUPT with file and reason, ERR_NOMEM. */
enum err key_run_find(struct key_run *self, struct key_find *find, uint64_t *pages,
                      struct err_info *info);

/* A walk over all entries, for merging. */
struct key_walk;
enum err key_walk_new(struct key_run *run, struct key_walk **ret_walk, struct err_info *info);
void key_walk_free(struct key_walk *self); /* NULL is fine. */
/* ERR_AGAIN after the last one; ERR_CORRUPT, ERR_NOMEM. */
enum err key_walk_next(struct key_walk *self, struct key_entry *ret_entry, struct err_info *info);

#endif
