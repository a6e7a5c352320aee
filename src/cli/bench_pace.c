#include "cli/bench_pace.h"

#include "base/assert.h"

#define NS_PER_S UINT64_C(1000000000)

void pace_init(struct pace *self, uint64_t rate, uint64_t warm_s, uint64_t seconds)
{
    ASSERT(rate > 0 && rate <= PACE_RATE_MAX);
    ASSERT(warm_s + seconds <= UINT64_MAX / NS_PER_S / 2);
    *self = (struct pace){
        .rate = rate,
        .first = rate * warm_s,
        .total = rate * (warm_s + seconds),
    };
}

void pace_begin(struct pace *self, uint64_t now_ns)
{
    self->begin_ns = now_ns;
}

void pace_end(struct pace *self, uint64_t now_ns)
{
    self->total = pace_due(self, now_ns);
    self->first = self->first < self->total ? self->first : self->total;
}

uint64_t pace_planned_ns(const struct pace *self, uint64_t number)
{
    uint64_t seconds = number / self->rate;
    uint64_t rest = number % self->rate;

    ASSERT(rest < PACE_RATE_MAX); /* So the product fits. */
    return self->begin_ns + seconds * NS_PER_S + rest * NS_PER_S / self->rate;
}

uint64_t pace_due(const struct pace *self, uint64_t now_ns)
{
    uint64_t passed_ns;
    uint64_t count;

    if (now_ns < self->begin_ns) {
        return 0;
    }
    /* I2: k is due iff k * NS_PER_S / rate, rounded down, is below passed_ns. */
    passed_ns = now_ns - self->begin_ns + 1;
    count = passed_ns / NS_PER_S * self->rate +
            (passed_ns % NS_PER_S * self->rate + NS_PER_S - 1) / NS_PER_S;
    ASSERT(count > 0); /* I1 */
    return count < self->total ? count : self->total;
}

uint64_t pace_places(uint64_t numbers, uint64_t writer, uint64_t count)
{
    ASSERT(writer < count);
    return numbers > writer ? (numbers - writer - 1) / count + 1 : 0;
}
