/*
 * Looking into a log, for a thread of the pool: reading batches, finding the first one of a time,
 * or those of its records that match a filter.
 */
#ifndef QUORLOG_SERVER_SEEK_H
#define QUORLOG_SERVER_SEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "log/log.h"
#include "lookup/lookup.h"
#include "record/filter.h"

/* What a filtered read has done. */
struct seek_counts {
    uint64_t records; /* looked at */
    uint64_t bytes;   /* of their batches */
    uint64_t segments_skipped;
    uint64_t matches;
};

struct seek {
    struct log *log;       /* borrowed: its topic is referenced by whoever owns this */
    struct topic *topic;   /* filtered, by_time: the log's, borrowed too */
    struct lookup *lookup; /* filtered, by_time: its indexes, borrowed; NULL: none are asked */
    bool by_time;
    int64_t time_us;
    uint64_t offset; /* where to read; by_time: what was found */
    uint64_t end_max;
    size_t size_max;
    const struct filter *filter; /* borrowed; NULL: all records, as they are stored */
    uint64_t matches_max;        /* filtered: so many are enough */
    /* Outcome. */
    enum err err; /* ERR_AGAIN: nothing at offset; ERR_RANGE; ERR_CORRUPT and others with info */
    struct err_info info;
    struct block *block;       /* owned; filtered: sparse batches, NULL when nothing matched */
    uint64_t end;              /* one past the last offset in block; filtered: where to go on */
    struct seek_counts counts; /* filtered */
    bool undecodable; /* filtered, ERR_CORRUPT, ERR_TOO_LARGE: so its producer made it; no damage */
};

/* Blocks. */
void seek_run(struct seek *self);

/* A bounded step of a filtered read: seek_filter.c. */
void seek_filter(struct seek *self);

/* A part of the log, [from, to), that may hold records that match; empty: not known yet, go on at
 * from. */
struct seek_range {
    uint64_t from;
    uint64_t to;
    uint64_t segments_skipped; /* that were passed over on the way to it */
};

/* What the indexes answered, and has not been used yet. */
struct seek_answer {
    struct lookup_answer answer;
    size_t next; /* of answer.offsets */
    bool valid;
};

/* Where, in [offset, end), the next records that may match lie; from is end when there are none.
 * ERR_CORRUPT and others of the log. seek_range.c. */
enum err seek_next_range(struct seek *self, struct seek_answer *answer, uint64_t offset,
                         uint64_t end, struct seek_range *ret_range, struct err_info *info);

/* Frees what is left of the outcome. */
void seek_fini(struct seek *self);

/*
 * The offset of the first record appended at or after time_us; the log's end when there is none.
 * Append times never go down, so it is a binary search over headers, and a look into the batch that
 * is found when it is a compacted one.
 */
enum err seek_time(struct log *log, int64_t time_us, uint64_t *ret_offset, struct err_info *info);

#endif
