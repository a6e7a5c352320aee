/*
 * The journal: raft's entries, durable. Written all the time, read only at start.
 *
 * A directory of segments `<sequence, 16 digits>.journal`, each written once from front to back in
 * batches. Segments are zero-filled ahead of use and recycled after use, so a write never changes a
 * file's size or extents; what a recycled segment held before is never taken for new, since each
 * batch carries its segment's sequence and its own. A batch starts on a 512-byte boundary and is
 * one durable write (RWF_DSYNC, past the page cache where the file system has O_DIRECT), so
 * acknowledged bytes are never written again.
 *
 *   segment
 *         0          4          8              16             24        32        36          512
 *         +----------+----------+--------------+--------------+---------+---------+-----------+
 *         | magic    | version  | sequence u64 | node id u64  | salt    | crc32c  | zeros     |
 *         | "QLJS"   | u32 (1)  |              |              | u64     | [0, 32) |           |
 *         +----------+----------+--------------+--------------+---------+---------+-----------+
 *         then batches, each at a multiple of 512:
 *
 *   batch
 *         0          4          8              16             24             32        36
 *         +----------+----------+--------------+--------------+--------------+---------+---------+
 *         | magic    | crc32c   | segment      | batch        | first_index  | count   | size    |
 *         | "QLJB"   | see below| sequence u64 | sequence u64 | u64          | u32     | u32     |
 *         +----------+----------+--------------+--------------+--------------+---------+---------+
 *         40        41          48             56             60        64             64 + size
 *         +---------+-----------+--------------+--------------+---------+--------------+- - - - +
 *         | type u8 | zeros     | prev_term u64| body crc32c  | zeros   | size bytes:  | zeros  |
 *         |         |           |              | u32          |         | entry frames | to 512 |
 *         +---------+-----------+--------------+--------------+---------+--------------+- - - - +
 *
 *   type 1  entries: count entry frames (raft_fsm/entry.h) with indexes first_index …; an index at
 *           or below the last one means: everything from it on was truncated, then these were
 *           appended. prev_term: of the entry before, 0 when that is not known.
 *   type 2  reset, no entries: the log is empty and continues at first_index.
 *   type 3  seal, no entries: everything before it was written whole; first_index is the next one.
 *   Batch sequences count up by one without a gap, across segments. crc32c covers the segment's
 *   salt and then [8, 64): what a recycled segment held may have come from a producer, who knows
 *   this format, but not the salt, which is drawn anew with every use of a file.
 *
 * Only one write is under way at a time, so only the last batch can be torn. Recovery reads batches
 * in order up to the first that is not valid. If any valid batch with a higher sequence follows
 * anywhere, acknowledged data is damaged: ERR_CORRUPT with file and position, and the node does not
 * start. If none follows, it was the torn last write, never acknowledged, and is cut; the journal
 * goes on in a new segment (raft_fsm/journal_recovery.h). A seal is written when the journal falls
 * idle and when it is closed, so that damage to the last acknowledged batch, too, is told from a
 * torn write, unless both come within that moment.
 *
 * Invariants:
 *   J1  Live entries are dense: [first, last], each in the newest batch that holds its index.
 *   J2  Segments are freed oldest first, and only when every index in them is at or below the trim
 *       index, so a truncation is never forgotten before what it truncated.
 *   J3  An append is acknowledged only after all earlier batches are durable.
 *   J4  After a failed write or sync the journal refuses everything; the process stops.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_H
#define QUORLOG_RAFT_FSM_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/entry.h"

struct journal;

struct journal_options {
    struct io *io;   /* borrowed until close */
    const char *dir; /* in, copied; exists */
    uint64_t node_id;
    uint64_t segment_size; /* bytes, multiple of 4096, [64 KiB, 1 GiB]; 0: 64 MiB. A batch that does
                              not fit into an empty segment gets one of its own size. */
    /* bytes of one write; 0: 4 MiB (one larger entry still is one write) */
    uint32_t write_size_max;
    unsigned spare_segments; /* kept ready, zero-filled; default 1 when 0 */
    bool no_direct;          /* never O_DIRECT */
    uint64_t seed;           /* of the segments' salts: nobody outside must be able to guess it */
};

/* What was on the disk. */
struct journal_contents {
    uint64_t first_index;  /* of entries[0]; where the log continues when there is none; 1 if new */
    struct entry *entries; /* owned array of owned entries */
    size_t count;
    bool torn; /* an unacknowledged last write was cut */
    char torn_path[64];
    uint64_t torn_position;
    bool direct; /* O_DIRECT is in use */
};

/* Opens or creates. Blocks. ERR_CORRUPT, ERR_VERSION, ERR_IO, ERR_NOSPACE, ERR_NOMEM;
 * ERR_WRONG_CLUSTER when a segment carries another node's id. */
enum err journal_open(const struct journal_options *options, struct journal **ret_journal,
                      struct journal_contents *ret_contents, struct err_info *info);
void journal_contents_fini(struct journal_contents *self);

/* Writes a seal (unless failed) and closes. */
void journal_close(struct journal *self);

/*
 * Appends, durably: entries with consecutive indexes; entries[0].index <= last + 1, where an index
 * at or below last truncates first. One write, or a few in order when large. After ERR_IO or
 * ERR_NOSPACE: J4.
 */
enum err journal_append(struct journal *self, const struct entry *entries, size_t count,
                        struct err_info *info);

/* Entries at or below index are no longer needed; frees (recycles) segments. */
enum err journal_trim(struct journal *self, uint64_t index, struct err_info *info);

/* Forgets all entries, durably; the log continues at next_index. */
enum err journal_reset(struct journal *self, uint64_t next_index, struct err_info *info);

/* Writes a seal if the last batch has none yet. */
enum err journal_seal(struct journal *self, struct err_info *info);

/* Prepares (zero-fills) a spare segment if there is none: slow, not in the path of an append. At
 * most `step` bytes a call (0: all); *ret_more says whether there is more to do. ERR_NOSPACE leaves
 * the journal usable; other errors: J4. */
enum err journal_prepare(struct journal *self, uint64_t step, bool *ret_more,
                         struct err_info *info);

uint64_t journal_last_index(const struct journal *self);

/* Bytes of entry frames that one append may bring so that it is one write into the segment that is
 * open, without a step to the next one. */
size_t journal_room(const struct journal *self);

struct journal_stats {
    uint64_t writes;  /* durable writes */
    uint64_t entries; /* entries written */
    uint64_t bytes;   /* bytes written, padding included */
};
void journal_stats(const struct journal *self, struct journal_stats *ret_stats);

/* ---- tasks: what a replica asks of its journal, performed in order, elsewhere ---- */

enum journal_task_type { JOURNAL_APPEND, JOURNAL_TRIM, JOURNAL_RESET };

struct journal_task {
    struct journal_task *next;
    enum journal_task_type type;
    struct entry *entries; /* APPEND: owned array of owned entries */
    unsigned count;
    uint64_t index; /* TRIM: index; RESET: next_index */
    enum err err;   /* outcome */
};

struct journal_task *journal_task_new(enum journal_task_type type, unsigned count);
void journal_task_free(struct journal_task *self);

/* Performs a list of tasks in order and sets each task's err; consecutive appends that continue one
 * another become one write (group commit). After an error the rest gets ERR_FAILED. Returns the
 * first error. */
enum err journal_perform(struct journal *self, struct journal_task *list, struct err_info *info);

#endif
