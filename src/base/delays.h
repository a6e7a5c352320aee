/*
 * Delays: how long something took, time after time, as a histogram of fixed size.
 *
 * One thread records, any thread reads; nobody waits for anybody. Buckets are of a microsecond each
 * below 8 us, above it eight to each power of two, so that a quantile is at most an eighth too
 * high. What took longer than DELAYS_LONG_US is counted exactly, and so is the longest.
 *
 * A reader takes a snapshot. Snapshots of several can be added up; an earlier one of the same can
 * be taken away from a later one, which leaves what was recorded in between: that is how an
 * interval is looked at, and why nothing is ever reset.
 */
#ifndef QUORLOG_BASE_DELAYS_H
#define QUORLOG_BASE_DELAYS_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    DELAYS_OCTAVES = 25, /* powers of two: up to 2^25 us, 33 s; what is beyond is in the last */
    DELAYS_SUB = 8,      /* buckets of each, from 8 us on */
    DELAYS_BUCKETS = (DELAYS_OCTAVES - 2) * DELAYS_SUB,
    DELAYS_LONG_US = 10000,
};

/* All zero at first. */
struct delays {
    atomic_uint_fast64_t counts[DELAYS_BUCKETS];
    atomic_uint_fast64_t long_count;
    atomic_uint_fast64_t max_us;
};

struct delays_snapshot {
    uint64_t counts[DELAYS_BUCKETS];
    uint64_t count;      /* the sum of counts */
    uint64_t long_count; /* of them, how many took longer than DELAYS_LONG_US */
    uint64_t max_us;
};

/* One thread at a time: the next one has to see what the last one did. */
void delays_record(struct delays *self, uint64_t us);

/* Any thread. What is recorded meanwhile may be in one figure and not in another yet. */
void delays_read(const struct delays *self, struct delays_snapshot *ret_snapshot);

void delays_snapshot_add(struct delays_snapshot *self, const struct delays_snapshot *other);

/* earlier: of the same delays. The longest of the interval is known as well as its bucket is. */
void delays_snapshot_subtract(struct delays_snapshot *self, const struct delays_snapshot *earlier);

/* What `share` (0 … 1) of all did not take longer than; 0 when there are none. */
uint64_t delays_snapshot_quantile_us(const struct delays_snapshot *self, double share);

/* How many took at least 2^i us and less than 2^(i + 1); ret_counts[0] has those below, too. */
void delays_snapshot_octaves(const struct delays_snapshot *self,
                             uint64_t ret_counts[DELAYS_OCTAVES]);

#endif
