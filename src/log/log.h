/*
 * A log: the ordered, segmented batches of one topic on one node's disk.
 *
 *      log       start ─────────────────────────────────────────────► end
 *      segments  [ 0 … 999 ][ 1000 … 1834 ][ 1835 … ]      files of one directory, named by the
 *                  sealed      sealed        active         base offset in 20 digits:
 *                                                             00000000000000001835.store  batches
 *                                                             00000000000000001835.index  sparse,
 *                                                               once the segment is sealed
 *
 *      log       start ─────────────────────────────────────────────► end
 *      segments  [ 0 … 999 ]   hole   [ 1500 … 1834 ]   hole   [ 2000 … ]
 *
 * A log may lack ranges of its offsets, which other replicas have: holes. log_skip makes one at the
 * end, log_punch where damage was found, log_open for what was durable and is not there any more;
 * log_fill closes them, each from its beginning on. Nothing but the files says where they are.
 *
 * One writer, many readers. The functions marked (writer) are called by one thread at a time;
 * those marked (any) by any thread, at any time between open and close, without waiting for a
 * disk write of the writer. Nothing here knows of raft, of connections or of what a record is.
 *
 * Writes are buffered: log_append returns when the kernel has the bytes. What is on the disk is
 * settled by log_sync_*; after a crash, everything below the `durable_end` given to log_open must
 * be there or the log does not open, and everything above it is kept only as far as it verifies.
 *
 * Files are opened when they are needed and closed by the cache (file_cache.h), which bounds how
 * many are open: segments that nobody reads are memory only (segment.h), and so is an active one
 * that nobody appends to, once it was synced.
 *
 * No reader slows the writer down: appending waits for no lock that is held while a file is
 * touched. There are two, the list's (segment_list.h) and the cache's; what is expensive, opening,
 * reading, verifying, happens outside of both, on references and pins.
 *
 * Invariants:
 *   I1  start <= end; each offset in [start, end) is in exactly one batch or in a hole, and holes
 *       lie between segments or before the first one. (The first segment may hold batches below
 *       start; they are never shown.)
 *   I2  base offsets, raft indexes and append times never go down from batch to batch.
 *   I3  Segments are in order and do not overlap; all but the last hold a batch. The last one ends
 *       at the log's end. All others are sealed and never change again, but for those that are
 *       being filled, or were and have not been synced since.
 *   I4  Every index entry names the position of a batch that starts at its offset.
 *   I5  end is published (release) only after the bytes below it can be read.
 *   I6  A write that failed leaves the log in its failed state: appends, truncations and syncs are
 *       refused with ERR_FAILED, reads below the published end go on; only reopening leaves it.
 */
#ifndef QUORLOG_LOG_LOG_H
#define QUORLOG_LOG_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "base/io.h"
#include "log/batch.h"
#include "log/file_cache.h"

struct log;

struct log_options {
    struct io *io;             /* borrowed until close */
    struct file_cache *files;  /* a reference is taken: what may be open, of all logs that have it
                                  together; NULL: a small one of its own */
    const char *dir;           /* in, copied; exists */
    uint64_t start;            /* First offset of a log that has no segment yet; of one that has,
                                  what log_truncate_front was told last: it is not stored. Not above
                                  durable_end, unless there is no segment. */
    uint64_t durable_end;      /* Offsets below it were synced: their loss is damage. Whoever keeps
                                  it lowers it before truncating back or resetting below it. */
    uint64_t segment_size_max; /* bytes of a store file, [4 KiB, 2 GiB]; 0: 64 MiB. A segment
                                  takes its first batch whatever its size. */
    uint32_t batch_size_max;   /* bytes, header included; 0: 16 MiB */
    uint32_t index_interval;   /* bytes of store per index entry; 0: 4 KiB */
    uint32_t write_back_size;  /* start write-back each time this many bytes were appended;
                                  0: 4 MiB */
    bool holes_allowed;        /* What is missing or damaged below durable_end becomes a hole. */
};

/* Offsets in [from, to) are not on this disk. */
struct log_hole {
    uint64_t from;
    uint64_t to;
};

/* What opening found and did beyond the ordinary; all zero when there was nothing. */
struct log_report {
    bool torn;         /* A tail that does not verify was cut. */
    char path[256];    /* The store file's name in the directory. */
    uint64_t position; /* Where in it the tail began, bytes. */
    uint64_t size_cut; /* Bytes cut, all files. */
    uint64_t end;      /* The log's end offset afterwards. */
    unsigned indexes_rebuilt;
    /* With holes_allowed: */
    unsigned damaged;       /* Places below durable_end where something was wrong … */
    struct err_info damage; /* … and the first of them, with file and position. */
    unsigned holes;         /* How many there are now … */
    uint64_t missing;       /* … and how many offsets they have. */
};

/*
 * (writer) Opens the log in options->dir, creating its first segment when there is none. Store
 * files are verified from durable_end on (and the whole segment that holds it); what does not
 * verify there is cut and reported. Below durable_end: ERR_CORRUPT, with file and position; or,
 * with holes_allowed, a hole, reported: the log then reaches from start to durable_end at least,
 * whatever is there, and of a damaged file the part that verifies is kept (see log_punch). What was
 * being filled is kept as far as it verifies. Files of unknown names are left alone; leftovers of
 * an interrupted roll or delete are removed. Errors: ERR_CORRUPT, ERR_VERSION (a newer format),
 * ERR_IO, ERR_NOSPACE, ERR_NOMEM. *ret_log: owned by the caller.
 */
enum err log_open(const struct log_options *options, struct log **ret_log,
                  struct log_report *ret_report, struct err_info *info);

/* (writer) Closes; NULL is fine. Not synced: call log_sync first if that matters. Chunks and
 * readers must have been released. */
void log_close(struct log *self);

/* (writer) Closes the log and removes its directory with all files, durably. The handle is gone,
 * whatever is returned. */
enum err log_delete(struct log *self, struct err_info *info);

/* How a log writes; what can change while it is open. Zero is each one's default. */
struct log_tuning {
    uint64_t segment_size_max; /* as in struct log_options; 0: as the log was opened with */
    uint64_t segment_ms;       /* A segment takes batches for so long; 0: without such a bound. Read
                                  in the batches' append times: no clock is asked. */
    bool preallocate; /* Space is reserved when a segment is begun, and what was not used is
                         given back when it is sealed; where there is none to be had, the
                         segment does without. */
};

/* (writer) Holds for what is appended from now on; a segment that was begun under other ones ends
 * at the next append, or tick, at which the new ones say so. */
void log_configure(struct log *self, const struct log_tuning *tuning);

/* (writer) Seals the active segment when its first batch was appended segment_ms before now_us, in
 * the time of append_time_us; cheap when it was not. Appending does the same: this is for a log
 * that nobody appends to. ERR_FAILED; ERR_IO, ERR_NOSPACE and ERR_NOMEM move the log to its failed
 * state. */
enum err log_tick(struct log *self, int64_t now_us, struct err_info *info);

/* (any) One past the last readable offset / the first readable offset. */
uint64_t log_end(const struct log *self);
uint64_t log_start(const struct log *self);

/* (any) Bytes of all store files. */
uint64_t log_size(const struct log *self);

/* (any) Number of segments. */
unsigned log_segment_count(const struct log *self);

/* (any) False after a write failed (I6). */
bool log_healthy(const struct log *self);

/*
 * (writer) Appends one batch. header->base_offset must be log_end, and header->size the sizes of
 * header and body together (ASSERT); digest and stamps are the caller's. body is read, not kept.
 * Rolls to a new segment first when the batch does not fit. ERR_TOO_LARGE past batch_size_max
 * (nothing changed), ERR_FAILED; ERR_IO, ERR_NOSPACE and ERR_NOMEM move the log to its failed
 * state.
 */
enum err log_append(struct log *self, const struct batch_header *header, const void *body,
                    struct err_info *info);

/*
 * (writer) Appends `size` bytes of whole, stamped batches as log_read gives them, after verifying
 * each (checksums, order, base offset). For copying from another replica. ERR_CORRUPT: nothing of
 * the offending batch and what follows it was appended.
 */
enum err log_append_raw(struct log *self, const uint8_t *batches, size_t size,
                        struct err_info *info);

/* (any) The header of the batch that holds `offset`, verified. ERR_RANGE, ERR_HOLE, ERR_CORRUPT,
 * ERR_IO. */
enum err log_read_header(struct log *self, uint64_t offset, struct batch_header *ret_header,
                         struct err_info *info);

/*
 * Searches, in O(log n) looks at headers; the answer is the first offset of a batch, or the end.
 *   (any) find_raft_index: the first batch of an entry behind `raft_index`.
 *   (writer) find_size: the first batch from which on the batches take `size_max` bytes at most;
 * the last one at least stays, whatever its size. ERR_HOLE where a hole is in the way, ERR_CORRUPT,
 * ERR_IO.
 */
enum err log_find_raft_index(struct log *self, uint64_t raft_index, uint64_t *ret_offset,
                             struct err_info *info);
enum err log_find_size(struct log *self, uint64_t size_max, uint64_t *ret_offset,
                       struct err_info *info);

/*
 * A run of whole batches inside one store file, kept readable (even if truncated away or deleted
 * meanwhile) until log_chunk_release.
 */
struct log_chunk {
    struct segment *segment; /* owned reference, and a pin of its store */
    int fd;                  /* of the store file; borrowed until release: for sendfile and pread */
    uint64_t position;       /* bytes into the file */
    uint64_t size;           /* bytes */
    uint64_t base_offset;    /* of the first batch: <= the offset asked for */
    uint64_t end_offset;     /* one past the last record of the last batch */
};

/*
 * (any) Finds the batches from the one that holds `offset` on: as many whole ones of the same
 * segment as fit into size_max bytes and lie below end_max, but at least one. Headers are
 * verified, bodies are not. ERR_RANGE below start or above end, ERR_AGAIN at the end, ERR_HOLE
 * inside a hole, ERR_CORRUPT (a file that is gone or was changed included), ERR_LIMIT when too many
 * files are open, ERR_IO. On success the caller owns *ret_chunk.
 */
enum err log_find(struct log *self, uint64_t offset, uint64_t end_max, size_t size_max,
                  struct log_chunk *ret_chunk, struct err_info *info);
void log_chunk_release(struct log_chunk *chunk);

/*
 * (any) As log_find, and reads the bytes into a new block (owned by the caller), each batch
 * verified, body included. May block on the disk. ERR_CORRUPT names file and position.
 */
enum err log_read(struct log *self, uint64_t offset, uint64_t end_max, size_t size_max,
                  struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info);

/* A segment as others may know it: the offsets that it has, and whether that is all it will have.
 */
struct log_extent {
    uint64_t base_offset;
    uint64_t end_offset;
    uint64_t size; /* bytes of its store file */
    bool sealed;   /* and complete: nothing will be added to it */
};

/* (any) The segment that holds `offset`. ERR_RANGE, ERR_AGAIN at the end, ERR_HOLE. */
enum err log_extent_at(struct log *self, uint64_t offset, struct log_extent *ret_extent,
                       struct err_info *info);

/* (any) How many segments have offsets, and all of them, as far as they can be read, in [from, to).
 */
uint64_t log_segments_within(struct log *self, uint64_t from, uint64_t to);

/* (writer) Drops what is below offset: log_start becomes offset at once; segments wholly below it
 * are removed from the disk. start <= offset <= end, else ERR_RANGE. */
enum err log_truncate_front(struct log *self, uint64_t offset, struct err_info *info);

/*
 * The same in two steps, for a start that is kept elsewhere and may be lost in a crash while it is
 * not durable there: nothing goes from the disk before it is.
 *
 *   (writer) raise_start: log_start becomes offset at once; segments wholly below it are no part of
 *   the log any more, their files stay. ERR_RANGE as above, nothing was changed; ERR_NOMEM,
 *   ERR_IO and ERR_NOSPACE move the log to its failed state.
 *   (writer) remove_passed: removes up to `max` of those segments' files, of segments that ended at
 *   or below `durable_start`, oldest first. From now on log_open is told a start that is not lower:
 *   that makes any of the files that a crash brings back a leftover. ERR_FAILED; ERR_IO moves the
 *   log to its failed state.
 *   (writer) passed_start: the lowest durable_start for which remove_passed would remove something;
 *   UINT64_MAX: for none.
 */
enum err log_raise_start(struct log *self, uint64_t offset, struct err_info *info);
enum err log_remove_passed(struct log *self, uint64_t durable_start, unsigned max,
                           struct err_info *info);
uint64_t log_passed_start(const struct log *self);

/* (writer) Drops what is at or above offset, which must be a batch's first offset, in a hole, or
 * the end (ERR_INVALID otherwise); start <= offset <= end, else ERR_RANGE. */
enum err log_truncate_back(struct log *self, uint64_t offset, struct err_info *info);

/* (writer) Drops everything; the log is empty and starts at next_offset. */
enum err log_reset(struct log *self, uint64_t next_offset, struct err_info *info);

/* ---- holes ---- */

/* (any) Holes that end above `after`, lowest first; returns how many were stored (<= max). */
size_t log_holes(const struct log *self, uint64_t after, struct log_hole *ret_holes, size_t max);

/* (any) Cheap. */
bool log_has_holes(const struct log *self);

/* (writer) Moves the end up to `to`, leaving the hole [end, to); nothing when it is there already.
 * ERR_RANGE for one below the end, ERR_FAILED; ERR_IO, ERR_NOSPACE and ERR_NOMEM move the log to
 * its failed state. */
enum err log_skip(struct log *self, uint64_t to, struct err_info *info);

/*
 * (writer) Puts `size` bytes of whole, stamped batches, as log_read gives them, at the beginning of
 * a hole, after verifying each (checksums, order, that it does not pass the hole's end). Several
 * holes can be filled by turns. A batch at its place can be read at once.
 *
 * ERR_RANGE: no hole begins at the first batch's offset (any more); nothing was changed.
 * ERR_CORRUPT: nothing of the offending batch and what follows it was put there. ERR_TOO_LARGE,
 * ERR_FAILED; ERR_IO, ERR_NOSPACE and ERR_NOMEM move the log to its failed state.
 *
 * What was filled is durable after log_sync_*, which also seals the segments that are complete:
 * whoever fills much must sync now and then, since a segment's index is memory until then. After a
 * crash before that, what verifies stays and the rest is a hole again.
 */
enum err log_fill(struct log *self, const uint8_t *batches, size_t size, struct err_info *info);

/*
 * Damage was found in [from, to): makes a hole of it, rounded outward: in each segment that has a
 * part of the range, the hole begins at the first batch that overlaps it or does not verify, and
 * ends with the segment. log_end stays what it is: where the active segment is damaged, a new one
 * begins there. Readers in the middle are not disturbed. The damaged file is kept beside, as
 * *.store.damaged, until the log has no holes, so that nothing is thrown away that might be the
 * last copy; a few of them at most.
 *
 *   (writer) begin notes the segments.
 *   (any, one thread) run reads them, and copies what is to stay. May block for long.
 *   (writer) end puts the copies in their places and frees the punch. When there was no room or no
 *   memory for the copies: ERR_NOSPACE, ERR_NOMEM, and nothing was changed. ERR_CANCELED when run
 *   was never called, and nothing was changed; ERR_IO moves the log to its failed state.
 *
 * Between begin and end anything may happen to the log; one punch at a time.
 */
struct log_punch;
enum err log_punch_begin(struct log *self, uint64_t from, uint64_t to, struct log_punch **ret_punch,
                         struct err_info *info);
enum err log_punch_run(struct log_punch *punch, struct err_info *info);
enum err log_punch_end(struct log *self, struct log_punch *punch, struct err_info *info);

/* (writer) Instead of end: gives it up and touches nothing more. */
void log_punch_cancel(struct log_punch *punch);

/* (writer) The three in one. */
enum err log_punch(struct log *self, uint64_t from, uint64_t to, struct err_info *info);

/*
 * (any) Keeps the segment that holds `offset` readable, also when it is punched out of the log or
 * dropped: for putting what was not damaged back where it was. It keeps its files open. keep:
 * ERR_RANGE, ERR_AGAIN, ERR_HOLE, ERR_NOMEM, and those of log_read. end: one past its last offset.
 * read: as log_read, of what it holds.
 */
struct log_kept;
enum err log_keep(struct log *self, uint64_t offset, struct log_kept **ret_kept,
                  struct err_info *info);
void log_kept_free(struct log_kept *kept); /* NULL is fine. */
uint64_t log_kept_end(const struct log_kept *kept);
enum err log_kept_read(const struct log_kept *kept, uint64_t offset, size_t size_max,
                       struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info);

/* ---- rewriting ---- */

/*
 * Other batches in the place of those of some sealed segments, which become one: for compaction.
 * The offsets stay: what is put there covers [from, to) without a gap, and ends with the stamps
 * (raft index, term, append time, digest) that stood at its end before.
 *
 *   (writer) begin notes the segments of [from, to): whole, sealed, complete ones, one or more,
 * with no hole between them. ERR_AGAIN when they are not (any more): nothing was begun. (any, one
 * thread) put verifies whole stamped batches, as log_append_raw does, and writes them behind each
 * other, in a file of another name. ERR_CORRUPT, ERR_TOO_LARGE, ERR_IO, ERR_NOSPACE, ERR_NOMEM.
 *   (any, one thread) run, when all was put: writes the index and syncs both. Blocks.
 *   (writer) end puts it in place and frees the rewrite: look-ups from now on find it, readers in
 *   the middle of the old ones are not disturbed. The old files go when the new one's name is
 *   durable, after log_sync_*: a crash before finds the old segments, or the new one with the old
 *   ones as leftovers. ERR_CANCELED when run was never called, ERR_AGAIN when the segments are not
 *   what they were (trimmed, punched, dropped meanwhile), and what put or run failed with: nothing
 *   was changed. ERR_IO of its own moves the log to its failed state.
 *   (writer) cancel, instead of end: nothing was changed.
 *
 * Between begin and end anything may happen to the log; one rewrite at a time.
 */
struct log_rewrite;
enum err log_rewrite_begin(struct log *self, uint64_t from, uint64_t to,
                           struct log_rewrite **ret_rewrite, struct err_info *info);
/* (any, one thread) As log_read, of the segments that are replaced, as they were at begin: also of
 * what lies in them below the log's start. from <= offset < to. */
enum err log_rewrite_read(const struct log_rewrite *rewrite, uint64_t offset, uint64_t end_max,
                          size_t size_max, struct block **ret_batches, uint64_t *ret_end_offset,
                          struct err_info *info);
enum err log_rewrite_put(struct log_rewrite *rewrite, const uint8_t *batches, size_t size,
                         struct err_info *info);
enum err log_rewrite_run(struct log_rewrite *rewrite, struct err_info *info);
enum err log_rewrite_end(struct log *self, struct log_rewrite *rewrite, struct err_info *info);
void log_rewrite_cancel(struct log *self, struct log_rewrite *rewrite);

/*
 * Making appended batches durable, without holding up the writer:
 *   (writer) begin takes what is dirty now; *ret_sync is NULL when nothing is.
 *   (any, one thread) run syncs it: store files, then the directory. May block for long.
 *   (writer) end notes the outcome, frees the sync, and moves the log to failed if run failed,
 *   or was never called (ERR_CANCELED).
 * After end with OK everything below log_end at the time of begin is durable.
 */
struct log_sync;
enum err log_sync_begin(struct log *self, struct log_sync **ret_sync);
enum err log_sync_run(struct log_sync *sync, struct err_info *info);
enum err log_sync_end(struct log *self, struct log_sync *sync);

/* (writer) The three in one. */
enum err log_sync(struct log *self, struct err_info *info);

/*
 * A raw reader: all bytes of all batches from `start` of the log to the end at the time of opening,
 * in order, across segments, verified. It ends with ERR_HOLE where a hole was when it was opened.
 */
struct log_reader;
enum err log_reader_new(struct log *self, struct log_reader **ret_reader);
void log_reader_free(struct log_reader *reader);
/* Up to size bytes; *ret_size 0 at the end. ERR_HOLE, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
enum err log_reader_read(struct log_reader *reader, void *data, size_t size, size_t *ret_size,
                         struct err_info *info);

/* (writer, tests, fuzz builds) ASSERTs I1–I5 by reading everything. */
void log_check(struct log *self);

#endif
