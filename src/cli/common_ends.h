/*
 * Copies of a log compared by headers alone, also when they were compacted at different times.
 *
 *      node 1   [ --- ][ --------- ][ -- ][ -- ]     a batch that stands for several has the digest
 *      node 2   [ --------- ][ --- ][ -- ][ -- ]     of the last one: where batches of all copies
 *                                  ^     ^    ^      end, their digests are the same, or the logs
 *                                  common ends       are not
 *
 * Equal digests at a common end mean the same history up to there. A batch that was not compacted
 * is an original one: no other copy may have an end inside of it. So the first difference is found
 * by a search by halves over common ends; where there is none for long, batch by batch.
 */
#ifndef QUORLOG_CLI_COMMON_ENDS_H
#define QUORLOG_CLI_COMMON_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "log/batch.h"

/* The batch of a copy that holds the offset that was asked for last. */
struct end_header {
    bool known; /* false: the copy is not compared (any more) */
    struct batch_header header;
};

struct common_ends {
    struct end_header *copies; /* borrowed */
    unsigned count;
    void (*ask)(void *arg, uint64_t offset); /* sets the copies */
    void *arg;
    uint64_t low;  /* compared are the offsets in [low, high), … */
    uint64_t high; /* … which all copies have */
};

struct common_ends_result {
    uint64_t end; /* not different: all agree up to here; low: no batch ends together */
    uint8_t digest[BATCH_DIGEST_SIZE]; /* there */
    bool different; /* from `offset` on; the copies are those of the difference */
    uint64_t offset;
};

/* Whether both can be of the same log. */
bool common_ends_agree(const struct batch_header *a, const struct batch_header *b);

void common_ends_compare(const struct common_ends *self, struct common_ends_result *ret_result);

#endif
