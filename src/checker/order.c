/*
 * The order in F against real time: a sweep over all moments at which something began or ended.
 *
 * M is how far the log was known to go: the largest end of an append that was acknowledged, or of
 * anything that was shown, before this moment. Then
 *
 *   an append that begins now gets an offset of at least M,      (real-time; of UNKNOWN ones, too)
 *   a linearizable read that begins now shows an end of at least M,                (linearizable)
 *   a read with max lag L that begins L from now shows an end of at least M.            (max-lag)
 *
 * That is all of linearizability, since the order of the appends is known: put them at their
 * offsets, reads at their ends, and let each happen at the latest beginning of those up to it. That
 * moment is within its own span unless it ended before one of those began, which is what the sweep
 * finds. Records that are shown before their append begins are found by it as well: the append
 * then begins behind an end that is beyond it. tests/checker/test_brute.c compares this with the
 * definition.
 *
 * More than linearizability of the linearizable reads alone: what a local read has shown must be
 * shown by every later linearizable one, since only what is committed is ever shown. Less: of a
 * stream only where it began is held against its mode, with the moment of its subscription.
 */
#include "checker/checker_internal.h"

enum moment_type {
    CHECK_APPEND, /* Checks first: what ends in the moment in which another begins is concurrent. */
    CHECK_READ,
    CHECK_LAG,
    RAISE_APPEND,
    RAISE_READ,
};

struct moment {
    uint64_t at_us;
    uint32_t item; /* of produces, or readings */
    uint32_t type;
};

struct sweep {
    struct checker *checker;
    const struct topic *topic;
    ARRAY(struct moment, moments);
    uint64_t known_end; /* M */
    const struct origin *known_by;
};

static int compare_moments(const void *left, const void *right)
{
    const struct moment *a = left;
    const struct moment *b = right;

    if (a->at_us != b->at_us) {
        return a->at_us < b->at_us ? -1 : 1;
    }
    if (a->type != b->type) {
        return a->type < b->type ? -1 : 1;
    }
    return a->item < b->item ? -1 : a->item > b->item;
}

static void add_moment(struct sweep *self, uint64_t at_us, enum moment_type type, size_t item)
{
    ASSERT(self->moments_count < self->moments_capacity);
    ASSERT(item < UINT32_MAX);
    self->moments[self->moments_count++] =
        (struct moment){.at_us = at_us, .item = (uint32_t)item, .type = type};
}

static void add_moments(struct sweep *self)
{
    const struct topic *topic = self->topic;

    for (size_t i = 0; i < topic->produces_count; i++) {
        const struct produce *produce = &topic->produces[i];

        if (!produce_present(produce)) {
            continue;
        }
        add_moment(self, produce->origin.invoke_us, CHECK_APPEND, i);
        if (produce->outcome == HISTORY_OK) {
            add_moment(self, produce->origin.return_us, RAISE_APPEND, i);
        }
    }
    for (size_t i = 0; i < topic->readings_count; i++) {
        const struct reading *reading = &topic->readings[i];
        uint64_t invoke_us = reading->origin.invoke_us;

        add_moment(self, reading->origin.return_us, RAISE_READ, i);
        if (reading->mode == HISTORY_READ_LINEARIZABLE) {
            add_moment(self, invoke_us, CHECK_READ, i);
        } else if (reading->mode == HISTORY_READ_MAX_LAG && !reading->delivery &&
                   invoke_us >= reading->lag_or_stream) {
            add_moment(self, invoke_us - reading->lag_or_stream, CHECK_LAG, i);
        }
    }
}

static void check_append(const struct sweep *self, const struct produce *produce)
{
    tell_facts(self->checker, CHECKER_REAL_TIME, 1);
    if (produce->offset < self->known_end) {
        tell(self->checker, CHECKER_REAL_TIME,
             "topic %s: the produce of %s is at offset %" PRIu64
             ", though the log was known to go up to %" PRIu64 " before (%s)",
             self->topic->name, ORIGIN(&produce->origin), produce->offset, self->known_end,
             ORIGIN(self->known_by));
    }
}

static void check_read(const struct sweep *self, const struct reading *reading,
                       enum checker_rule rule)
{
    tell_facts(self->checker, rule, 1);
    if (reading->log_end < self->known_end) {
        tell(self->checker, rule,
             "topic %s: the %s read of %s shows an end of %" PRIu64
             ", though the log was known to go up to %" PRIu64 " before %s (%s)",
             self->topic->name, rule == CHECKER_LINEARIZABLE ? "linearizable" : "max-lag",
             ORIGIN(&reading->origin), reading->log_end, self->known_end,
             rule == CHECKER_LINEARIZABLE ? "it began" : "its lag", ORIGIN(self->known_by));
    }
}

static void raise_end(struct sweep *self, uint64_t end, const struct origin *by)
{
    if (end > self->known_end) {
        self->known_end = end;
        self->known_by = by;
    }
}

static void take_moment(struct sweep *self, const struct moment *moment)
{
    enum moment_type type = (enum moment_type)moment->type;

    if (type == CHECK_APPEND || type == RAISE_APPEND) {
        const struct produce *produce = &self->topic->produces[moment->item];

        if (type == CHECK_APPEND) {
            check_append(self, produce);
        } else {
            raise_end(self, produce_end(produce), &produce->origin);
        }
    } else {
        const struct reading *reading = &self->topic->readings[moment->item];

        if (type == RAISE_READ) {
            raise_end(self, reading_end(reading), &reading->origin);
        } else {
            check_read(self, reading, type == CHECK_READ ? CHECKER_LINEARIZABLE : CHECKER_MAX_LAG);
        }
    }
}

enum err order_decide(struct checker *self, struct topic *topic)
{
    struct sweep sweep = {.checker = self, .topic = topic};

    if (topic->produces_count + topic->readings_count == 0) {
        return ERR_OK;
    }
    if (ARRAY_RESERVE(&sweep, moments, 2 * (topic->produces_count + topic->readings_count)) !=
        ERR_OK) {
        return ERR_NOMEM;
    }
    add_moments(&sweep);
    if (sweep.moments_count > 0) {
        qsort(sweep.moments, sweep.moments_count, sizeof sweep.moments[0], compare_moments);
    }
    for (size_t i = 0; i < sweep.moments_count; i++) {
        take_moment(&sweep, &sweep.moments[i]);
    }
    free(sweep.moments);
    return ERR_OK;
}
