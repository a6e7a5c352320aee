#include "base/clock.h"

#include <sys/random.h>
#include <time.h>

#include "base/assert.h"

static uint64_t real_monotonic_ns(const struct clock *self)
{
    struct timespec now;
    int rv = clock_gettime(CLOCK_MONOTONIC, &now);

    (void)self;      /* The kernel's clock has no state of ours. */
    ASSERT(rv == 0); /* Linux always has this clock. */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int64_t real_wall_us(const struct clock *self)
{
    struct timespec now;
    int rv = clock_gettime(CLOCK_REALTIME, &now);

    (void)self; /* As above. */
    ASSERT(rv == 0);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static uint64_t real_random(const struct clock *self)
{
    uint64_t value;
    ssize_t size = getrandom(&value, sizeof value, 0);

    (void)self;                            /* As above. */
    ASSERT(size == (ssize_t)sizeof value); /* getrandom never cuts requests of up to 256 bytes. */
    return value;
}

const struct clock *clock_real(void)
{
    static const struct clock real = {
        .monotonic_ns = real_monotonic_ns,
        .wall_us = real_wall_us,
        .random = real_random,
    };

    return &real;
}
