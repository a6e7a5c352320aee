#include "cli/histogram.h"

#include <stddef.h>

#include "base/assert.h"

/* Values below HISTOGRAM_SUB have a bucket each; above, each power of two has HISTOGRAM_SUB. */
static size_t bucket_of(uint64_t value)
{
    unsigned shift;

    if (value < HISTOGRAM_SUB) {
        return (size_t)value;
    }
    shift = 63 - (unsigned)__builtin_clzll(value) - 6;
    return (size_t)(shift + 1) * HISTOGRAM_SUB + (size_t)((value >> shift) - HISTOGRAM_SUB);
}

/* The largest value of a bucket. */
static uint64_t bucket_top(size_t bucket)
{
    size_t shift;

    if (bucket < HISTOGRAM_SUB) {
        return bucket;
    }
    shift = bucket / HISTOGRAM_SUB - 1;
    return ((uint64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift) - 1;
}

void histogram_add(struct histogram *self, uint64_t value)
{
    histogram_add_many(self, value, 1);
}

void histogram_add_many(struct histogram *self, uint64_t value, uint64_t count)
{
    size_t bucket = bucket_of(value);

    ASSERT(bucket < HISTOGRAM_BUCKETS);
    ASSERT(self->total <= UINT64_MAX - count);
    if (count == 0) {
        return;
    }
    self->counts[bucket] += count;
    self->total += count;
    self->max = value > self->max ? value : self->max;
}

uint64_t histogram_quantile(const struct histogram *self, double share)
{
    double wanted = share * (double)self->total;
    uint64_t seen = 0;

    ASSERT(share >= 0 && share <= 1);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += self->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t top = bucket_top(i);

            return top < self->max ? top : self->max;
        }
    }
    return self->max;
}
