/*
 * The only chance in a simulation: splitmix64, from a seed.
 */
#ifndef QUORLOG_SIM_PRNG_H
#define QUORLOG_SIM_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t state;
};

static inline uint64_t prng_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static inline void prng_init(struct prng *self, uint64_t seed)
{
    self->state = prng_mix(seed + 0x51ab1e5u);
}

static inline uint64_t prng_next(struct prng *self)
{
    return prng_mix(self->state += 0x9e3779b97f4a7c15u);
}

/* In [low, high]. */
static inline uint64_t prng_range(struct prng *self, uint64_t low, uint64_t high)
{
    return low + prng_next(self) % (high - low + 1);
}

static inline bool prng_percent(struct prng *self, unsigned percent)
{
    return prng_next(self) % 100 < percent;
}

static inline bool prng_permille(struct prng *self, unsigned permille)
{
    return prng_next(self) % 1000 < permille;
}

#endif
