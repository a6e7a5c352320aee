/*
 * Where time and chance come from. The real one asks the kernel; a simulator passes its own and so
 * makes a whole cluster repeatable.
 */
#ifndef QUORLOG_BASE_CLOCK_H
#define QUORLOG_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    /* Nanoseconds since some fixed moment; never backwards. */
    uint64_t (*monotonic_ns)(const struct clock *self);
    /* Microseconds since 1970-01-01T00:00:00Z; may jump either way. */
    int64_t (*wall_us)(const struct clock *self);
    /* 64 random bits. Not for secrets. */
    uint64_t (*random)(const struct clock *self);
};

/* The kernel's clocks and getrandom(2). Any thread. */
const struct clock *clock_real(void);

static inline uint64_t clock_monotonic_ms(const struct clock *self)
{
    return self->monotonic_ns(self) / 1000000;
}

#endif
