/*
 * When the records of an open loop are due, and who writes them: number k of a load of `rate`
 * records a second is due at begin + k / rate, whatever became of those before it. Numbers go round
 * over the writers: writer w of n has w, w + n, w + 2n …, its places 0, 1, 2 …
 *
 * Nothing is kept for a record that waits: its moment follows from its number. So however far a
 * cluster falls behind, the backlog is a count, and takes no memory.
 *
 * Invariants:
 *   I1  pace_planned_ns is ascending, and its first number is due at begin_ns.
 *   I2  pace_due(t) is the number of numbers below `total` that are planned for t or earlier.
 */
#ifndef QUORLOG_CLI_BENCH_PACE_H
#define QUORLOG_CLI_BENCH_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { PACE_RATE_MAX = 100000000 };

struct pace {
    uint64_t begin_ns;
    uint64_t rate; /* records a second, 1 … PACE_RATE_MAX */
    /* The numbers [first, total) are what is measured; those before warm up. */
    uint64_t first;
    uint64_t total;
};

/* warm_s seconds that do not count, then `seconds` that do. */
void pace_init(struct pace *self, uint64_t rate, uint64_t warm_s, uint64_t seconds);

/* Begins now. */
void pace_begin(struct pace *self, uint64_t now_ns);

/* Ends early: what is not due yet never will be. */
void pace_end(struct pace *self, uint64_t now_ns);

uint64_t pace_planned_ns(const struct pace *self, uint64_t number);
uint64_t pace_due(const struct pace *self, uint64_t now_ns);

/* The same for one of `count` writers: how many of its places are below `numbers`. */
uint64_t pace_places(uint64_t numbers, uint64_t writer, uint64_t count);

static inline uint64_t pace_number(uint64_t place, uint64_t writer, uint64_t count)
{
    return writer + place * count;
}

static inline bool pace_is_measured(const struct pace *self, uint64_t number)
{
    return number >= self->first && number < self->total;
}

#endif
