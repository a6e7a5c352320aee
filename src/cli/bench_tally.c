#include "cli/bench_tally.h"

#include <stddef.h>

#include "base/assert.h"

#define NS_PER_MS UINT64_C(1000000)

enum { STEPS_MAX = 4096 };

const uint64_t tally_slower_ms[TALLY_SLOWER_COUNT] = {1, 10, 100, 1000, 10000};

static size_t slot_of(enum err err)
{
    int number = -(int)err;

    return number > 0 && number < TALLY_CODES_MAX && err_from_number((int)err, &err)
               ? (size_t)number
               : 0;
}

void tally_codes_add(struct tally_codes *self, enum err err, uint64_t count)
{
    self->counts[slot_of(err)] += count;
    self->total += count;
}

uint64_t tally_codes_count(const struct tally_codes *self, enum err err)
{
    return self->counts[slot_of(err)];
}

void tally_hand_in(struct tally *self, uint64_t planned_ns, uint64_t now_ns, bool was_full)
{
    uint64_t late_ns;

    ASSERT(now_ns >= planned_ns); /* Never before its time. */
    late_ns = now_ns - planned_ns;
    self->late_max_ns = late_ns > self->late_max_ns ? late_ns : self->late_max_ns;
    if (late_ns > TALLY_LATE_NS) {
        self->late++;
        self->late_full += was_full ? 1 : 0;
    }
}

void tally_add(struct tally *self, enum tally_fate fate, uint64_t wait_ns, uint64_t count)
{
    ASSERT(fate < TALLY_FATES);
    self->fates[fate] += count;
    for (unsigned i = 0; i < TALLY_SLOWER_COUNT && wait_ns > tally_slower_ms[i] * NS_PER_MS; i++) {
        self->slower[i] += count;
    }
    histogram_add_many(&self->latency, wait_ns, count);
}

uint64_t tally_total(const struct tally *self)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < TALLY_FATES; i++) {
        total += self->fates[i];
    }
    return total;
}

void tally_walk(const struct tally_rest *rest, uint64_t steps_max,
                void (*add)(void *arg, uint64_t planned_ns, uint64_t count), void *arg)
{
    uint64_t first = pace_places(rest->pace->first, rest->writer, rest->writer_count);
    uint64_t end = pace_places(rest->pace->total, rest->writer, rest->writer_count);
    uint64_t from = rest->from > first ? rest->from : first;
    uint64_t to = rest->to < end ? rest->to : end;
    uint64_t step;

    ASSERT(steps_max > 0);
    if (from >= to) {
        return;
    }
    step = (to - from - 1) / steps_max + 1;
    for (uint64_t place = from; place < to; place += step) {
        uint64_t number = pace_number(place, rest->writer, rest->writer_count);

        ASSERT(pace_is_measured(rest->pace, number));
        add(arg, pace_planned_ns(rest->pace, number), to - place < step ? to - place : step);
    }
}

struct adding {
    struct tally *tally;
    enum tally_fate fate;
    uint64_t now_ns;
};

static void add_step(void *arg, uint64_t planned_ns, uint64_t count)
{
    struct adding *adding = arg;
    uint64_t now_ns = adding->now_ns;

    /* What is ended early has records whose time has not come. */
    tally_add(adding->tally, adding->fate, now_ns > planned_ns ? now_ns - planned_ns : 0, count);
}

void tally_add_rest(struct tally *self, enum tally_fate fate, const struct tally_rest *rest)
{
    struct adding adding = {.tally = self, .fate = fate, .now_ns = rest->now_ns};

    ASSERT(fate != TALLY_ACKNOWLEDGED);
    tally_walk(rest, STEPS_MAX, add_step, &adding);
}

void tally_check(const struct tally *self)
{
    ASSERT(self->latency.total == tally_total(self)); /* I1 */
    ASSERT(self->late >= self->late_full);            /* I2 */
    for (unsigned i = 0; i + 1 < TALLY_SLOWER_COUNT; i++) {
        ASSERT(self->slower[i] >= self->slower[i + 1]); /* I2 */
    }
}
