#include "base/delays.h"

#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"

enum { SUB_BITS = 3 };

_Static_assert(DELAYS_SUB == 1 << SUB_BITS, "buckets of a power of two are told apart by bits");

/* Of the octave of 2^k us, k >= 3, the first bucket is (k - 2) * 8. */
static unsigned bucket_of(uint64_t us)
{
    unsigned exponent;

    if (us < DELAYS_SUB) {
        return (unsigned)us;
    }
    if (us >= UINT64_C(1) << DELAYS_OCTAVES) {
        return DELAYS_BUCKETS - 1;
    }
    exponent = 63 - (unsigned)__builtin_clzll(us);
    return (exponent - SUB_BITS + 1) * DELAYS_SUB + (unsigned)(us >> (exponent - SUB_BITS)) -
           DELAYS_SUB;
}

/* The longest that is in a bucket; of the last one nothing is known. */
static uint64_t bucket_top_us(unsigned bucket)
{
    unsigned shift;

    ASSERT(bucket < DELAYS_BUCKETS);
    if (bucket < DELAYS_SUB) {
        return bucket;
    }
    if (bucket == DELAYS_BUCKETS - 1) {
        return UINT64_MAX;
    }
    shift = bucket / DELAYS_SUB - 1;
    return ((uint64_t)(bucket % DELAYS_SUB + DELAYS_SUB + 1) << shift) - 1;
}

/* There is one writer, so that nothing is lost between the two. */
static void increment(atomic_uint_fast64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void delays_record(struct delays *self, uint64_t us)
{
    unsigned bucket = bucket_of(us);

    ASSERT(bucket < DELAYS_BUCKETS);
    increment(&self->counts[bucket]);
    if (us > DELAYS_LONG_US) {
        increment(&self->long_count);
    }
    if (us > atomic_load_explicit(&self->max_us, memory_order_relaxed)) {
        atomic_store_explicit(&self->max_us, us, memory_order_relaxed);
    }
}

void delays_read(const struct delays *self, struct delays_snapshot *ret_snapshot)
{
    *ret_snapshot = (struct delays_snapshot){
        .long_count = atomic_load_explicit(&self->long_count, memory_order_relaxed),
        .max_us = atomic_load_explicit(&self->max_us, memory_order_relaxed),
    };
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        ret_snapshot->counts[i] = atomic_load_explicit(&self->counts[i], memory_order_relaxed);
        ret_snapshot->count += ret_snapshot->counts[i];
    }
}

void delays_snapshot_add(struct delays_snapshot *self, const struct delays_snapshot *other)
{
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        self->counts[i] += other->counts[i];
    }
    self->count += other->count;
    self->long_count += other->long_count;
    self->max_us = other->max_us > self->max_us ? other->max_us : self->max_us;
}

/* The longest that the last bucket with anything in it can hold, but not more than max_us. */
static uint64_t longest_us(const struct delays_snapshot *self)
{
    for (unsigned i = DELAYS_BUCKETS; i > 0; i--) {
        if (self->counts[i - 1] > 0) {
            uint64_t top_us = bucket_top_us(i - 1);

            return top_us < self->max_us ? top_us : self->max_us;
        }
    }
    return 0;
}

void delays_snapshot_subtract(struct delays_snapshot *self, const struct delays_snapshot *earlier)
{
    ASSERT(self->count >= earlier->count);
    ASSERT(self->long_count >= earlier->long_count);
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        ASSERT(self->counts[i] >= earlier->counts[i]);
        self->counts[i] -= earlier->counts[i];
    }
    self->count -= earlier->count;
    self->long_count -= earlier->long_count;
    self->max_us = longest_us(self);
}

uint64_t delays_snapshot_quantile_us(const struct delays_snapshot *self, double share)
{
    double wanted = share * (double)self->count;
    uint64_t seen = 0;

    ASSERT(share >= 0 && share <= 1);
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        seen += self->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t top_us = bucket_top_us(i);

            return top_us < self->max_us ? top_us : self->max_us;
        }
    }
    return self->max_us;
}

void delays_snapshot_octaves(const struct delays_snapshot *self,
                             uint64_t ret_counts[DELAYS_OCTAVES])
{
    for (unsigned i = 0; i < DELAYS_OCTAVES; i++) {
        ret_counts[i] = 0;
    }
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        /* Below 8 us a bucket is a number of microseconds, above it an eighth of an octave. */
        unsigned octave = i >= DELAYS_SUB ? i / DELAYS_SUB + SUB_BITS - 1
                          : i >= 4        ? 2
                          : i >= 2        ? 1
                                          : 0;

        ASSERT(octave < DELAYS_OCTAVES);
        ret_counts[octave] += self->counts[i];
    }
}
