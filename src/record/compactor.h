/*
 * The compactor: whole batches of a log in, the same log with fewer records out.
 *
 *      in    [ a=1 b=1 ][ a=2 ][ c=1 ][ b=- ] | [ a=3 ... ]       b=-: no value, a tombstone
 *              0   1      2      3      4     |   5
 *      out   [ ------ a=2, c=1, b=- ------- ] | [ a=3 ... ]       clean_to is 5: a=2 stays, since
 *              0                           4  |                   a=3 is not below it
 *
 * Of the records below clean_to that have a key, one goes when `latest` knows a later one of its
 * key, or when it is a tombstone (no value) below tombstones_below. Records without a key stay. No
 * offset changes, no record changes. The batches that come out take the places of those that went
 * in, without a gap: one that lost records, or that was merged with its neighbours, is a compacted
 * one (log/batch.h): SPARSE | COMPACTED, the last one's stamps, as its body the digest of the batch
 * before the first one, 32 bytes, and a RecordSet of what is left, with offsets and append times.
 *
 * Small neighbours are merged up to batch_size bytes, where that makes them smaller. What nothing
 * was taken from, and is big enough by itself (a quarter of that) or has no neighbour to be merged
 * with, comes out as it went in, byte for byte; so does every batch that ends above clean_to.
 *
 * Invariants:
 *   K1  What came out covers [start, offset of the last batch put out), each offset in one batch.
 *   K2  For each key, the latest record below clean_to is the same before and after, but for
 *       tombstones below tombstones_below.
 *   K3  Putting in what came out, with the same `latest` and bounds, takes no more records away.
 */
#ifndef QUORLOG_RECORD_COMPACTOR_H
#define QUORLOG_RECORD_COMPACTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "log/batch.h"
#include "record/latest.h"

struct compactor;

struct compactor_options {
    const struct latest *latest; /* borrowed; of nothing that is not below clean_to (ASSERT) */
    uint64_t clean_to;           /* records below it that have a later one below it go; */
    uint64_t tombstones_below;   /* <= clean_to */
    uint32_t batch_size;         /* bytes up to which batches are merged, before they are
                                    compressed; 0: 64 KiB */
    uint32_t batch_size_max;     /* of a batch that is read, or made; 0: 16 MiB */
    unsigned codec; /* of batches that are made (record/codec.h); NONE: as the last one had that
                       goes into it. What is kept as it is keeps its own. */
};

/* What was looked at and done. */
struct compactor_counts {
    uint64_t records;    /* there were, in batches that end at or below clean_to */
    uint64_t superseded; /* went for a later one */
    uint64_t tombstones; /* went */
    uint64_t keyless;    /* have no key */
    uint64_t batches_in;
    uint64_t batches_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/* Begins at `offset`; digest: of the batch before, 32 bytes; NULL: zeros, as at offset 0.
 * ERR_NOMEM.
 */
enum err compactor_new(const struct compactor_options *options, uint64_t offset,
                       const uint8_t *digest, struct compactor **ret_compactor);
void compactor_free(struct compactor *self); /* NULL is fine. */

/*
 * Takes `size` bytes of whole, stamped batches that follow on what was taken before, as log_read
 * gives them (checksums were verified), and appends to `out`, which is the caller's, what is done
 * of them. A few batches may wait for their neighbours. ERR_CORRUPT (a body that is none; a batch
 * that does not follow, by its offset or, where it is compacted, by the digest that it begins
 * with), ERR_TOO_LARGE (`out`; or what is left of a batch, whose records take more space when some
 * are missing, does not fit into batch_size_max, not even compressed), ERR_NOMEM; the compactor is
 * of no more use then.
 */
enum err compactor_take(struct compactor *self, const uint8_t *batches, size_t size,
                        struct buf *out, struct err_info *info);

/* Appends what waits. Nothing is taken after that. */
enum err compactor_finish(struct compactor *self, struct buf *out, struct err_info *info);

/* One past the last offset that was put out. */
uint64_t compactor_offset(const struct compactor *self);

void compactor_counts(const struct compactor *self, struct compactor_counts *ret_counts);

/*
 * Notes the keys of `size` bytes of whole batches (more than none) in `latest`, of those that end
 * at or below clean_to, each batch wholly or not at all. *ret_end: one past the last offset of the
 * last batch that was noted; when none was, the first one's base offset, or clean_to if that is
 * less. Nothing that was noted is at or above it: it is the clean_to of a pass. When it is not the
 * end of what was given, noting is over.
 *
 * ERR_LIMIT: the memory does not hold the keys of the batch at *ret_end. When nothing at all was
 * noted before, it never will: `latest` is too small for the keys of this one batch. ERR_CORRUPT,
 * ERR_TOO_LARGE, ERR_NOMEM: `latest` is to be cleared before it is used again.
 */
enum err compactor_note(struct latest *latest, uint64_t clean_to, const uint8_t *batches,
                        size_t size, uint64_t *ret_end, struct err_info *info);

#endif
