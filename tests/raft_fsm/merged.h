/*
 * Compacted copies of a log, made by hand: ranges of batches become one batch each, as compaction
 * at any time on any node may have left them.
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_MERGED_H
#define QUORLOG_TESTS_RAFT_FSM_MERGED_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "log/log.h"

/* Offsets [from, to): both are ends of batches. */
struct merged_range {
    uint64_t from;
    uint64_t to;
};

/*
 * Puts in the place of the log's batches the same ones, those of each range as one; the ranges
 * ascend and are not empty. Of a merged batch's records every third is left: offset n, n % 3 == 0,
 * whose value is "record n", whatever was in the batches before. The log has no holes, before and
 * after, and is synced.
 */
void merged_log(struct log *log, const struct merged_range ranges[], size_t count);

/* Appends the batch that stands for the batches in `from`, `size` bytes. before: the digest before
 * the first one; NULL: zeros. */
void merged_batch(const uint8_t *from, size_t size, const uint8_t *before, struct buf *to);

#endif
