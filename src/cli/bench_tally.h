/*
 * What became of the records of a load: how long they took, and how many were late, failed, or were
 * never answered.
 *
 * A record that was not acknowledged has no latency, but it has waited for some time, and that time
 * counts in its place: else a cluster that answers nothing would look fast.
 *
 * Invariants:
 *   I1  latency.total = acknowledged + failed + unanswered + unsent.
 *   I2  slower[i] >= slower[i + 1]; late >= late_full.
 */
#ifndef QUORLOG_CLI_BENCH_TALLY_H
#define QUORLOG_CLI_BENCH_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/bench_pace.h"
#include "cli/histogram.h"

enum { TALLY_SLOWER_COUNT = 5 };

/* 1 ms, 10 ms, 100 ms, 1 s, 10 s. */
extern const uint64_t tally_slower_ms[TALLY_SLOWER_COUNT];

/* Handed in so much after its time a record is called late; what the loop itself takes is less. */
#define TALLY_LATE_NS UINT64_C(10000000)

enum tally_fate {
    TALLY_ACKNOWLEDGED,
    TALLY_FAILED,
    TALLY_UNANSWERED, /* handed in, and the run was over */
    TALLY_UNSENT,     /* its time came, but there was no room for it before the run was over */
    TALLY_FATES
};

struct tally {
    uint64_t fates[TALLY_FATES];
    uint64_t late;        /* handed in late … */
    uint64_t late_full;   /* … as a limit of what may be under way was reached; the rest: as the
                             measuring program was behind itself */
    uint64_t late_max_ns; /* of all that were handed in, late or not */
    uint64_t slower[TALLY_SLOWER_COUNT]; /* records that took more than so long */
    struct histogram latency;
};

/* Failures by code. Those that this program does not know are told together, as ERR_OK. */
enum { TALLY_CODES_MAX = 128 };

struct tally_codes {
    uint64_t counts[TALLY_CODES_MAX];
    uint64_t total;
};

void tally_codes_add(struct tally_codes *self, enum err err, uint64_t count);
uint64_t tally_codes_count(const struct tally_codes *self, enum err err);

/* A record was handed in now. was_full: it had to wait for room. */
void tally_hand_in(struct tally *self, uint64_t planned_ns, uint64_t now_ns, bool was_full);

/* `count` records that had to wait for wait_ns met their fate. */
void tally_add(struct tally *self, enum tally_fate fate, uint64_t wait_ns, uint64_t count);

/* What became of the measured ones of a writer's places [from, to), of which nothing more will be
 * heard. */
struct tally_rest {
    const struct pace *pace;
    uint64_t writer;
    uint64_t writer_count;
    uint64_t from;
    uint64_t to;
    uint64_t now_ns;
};
void tally_add_rest(struct tally *self, enum tally_fate fate, const struct tally_rest *rest);

/* All records that are told of. */
uint64_t tally_total(const struct tally *self);

/* The places in steps, some thousand at most: calls `add` with each step's oldest moment, and how
 * many records it stands for. So no wait is told shorter than it was. */
void tally_walk(const struct tally_rest *rest, uint64_t steps_max,
                void (*add)(void *arg, uint64_t planned_ns, uint64_t count), void *arg);

void tally_check(const struct tally *self);

#endif
