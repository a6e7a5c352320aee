/*
 * A histogram of latencies: fixed memory, relative error below 1/64.
 */
#ifndef QUORLOG_CLI_HISTOGRAM_H
#define QUORLOG_CLI_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 64, HISTOGRAM_BUCKETS = 64 * HISTOGRAM_SUB };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max;
};

void histogram_add(struct histogram *self, uint64_t value);

/* The same value `count` times; 0: nothing. */
void histogram_add_many(struct histogram *self, uint64_t value, uint64_t count);

/* The value below or at which `share` (0 … 1) of all values lie; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *self, double share);

#endif
