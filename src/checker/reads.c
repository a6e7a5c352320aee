/*
 * What reads and streams show, each for itself and one after the other: within bounds, at an end
 * that the log had, from a start that somebody asked for, sessions that never go back, streams
 * without gap; and how old local reads are.
 *
 * A session goes back only when a read shows an end below records that its client has been given.
 * An end that was told without the records is not held against it: a node may tell its newest end
 * a moment before the token that stands for it.
 */
#include "checker/checker_internal.h"

/* ---- each for itself ---- */

/* The largest offset below which deleting had been asked for by then. */
static uint64_t trimmed_by(const struct topic *topic, uint64_t at_us)
{
    size_t low = 0;
    size_t high = topic->trims_count;

    while (low < high) { /* The first one that was asked for later. */
        size_t middle = low + (high - low) / 2;

        if (topic->trims[middle].at_us <= at_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : topic->trims[low - 1].offset; /* the largest so far: reads_decide */
}

static int compare_trims(const void *left, const void *right)
{
    const struct trim *a = left;
    const struct trim *b = right;

    return a->at_us < b->at_us ? -1 : a->at_us > b->at_us;
}

static void check_start(struct checker *self, const struct topic *topic, uint64_t log_start,
                        uint64_t at_us, uint32_t line)
{
    uint64_t asked = log_start == 0 ? 0 : trimmed_by(topic, at_us);

    tell_facts(self, CHECKER_LOG_START, 1);
    if (log_start > asked) {
        tell(self, CHECKER_LOG_START,
             "topic %s: the log begins at %" PRIu64 " (line %" PRIu32
             "), though nobody had asked to delete more than what is below %" PRIu64,
             topic->name, log_start, line, asked);
    }
}

static void check_bounds(struct checker *self, const struct topic *topic,
                         const struct reading *reading)
{
    uint64_t end = reading->offset + reading->count;

    tell_facts(self, CHECKER_BOUNDS, 1);
    if (reading->log_start > reading->log_end ||
        (reading->count > 0 && (reading->offset < reading->log_start || end > reading->log_end))) {
        tell(self, CHECKER_BOUNDS,
             "topic %s: %s gives [%" PRIu64 ", %" PRIu64 ") of a log that it shows as [%" PRIu64
             ", %" PRIu64 ")",
             topic->name, ORIGIN(&reading->origin), reading->offset, end, reading->log_start,
             reading->log_end);
    }
}

/* The end is one that the log had: not beyond F, not within a batch. */
static void check_end(struct checker *self, struct topic *topic, const struct reading *reading)
{
    if (topic->dumped) {
        tell_facts(self, CHECKER_IMMUTABLE, 1);
        if (reading_end(reading) > topic->end) {
            tell(self, CHECKER_IMMUTABLE,
                 "topic %s: %s shows a log up to %" PRIu64 ", which ends at %" PRIu64
                 " when all is over",
                 topic->name, ORIGIN(&reading->origin), reading_end(reading), topic->end);
        }
    }
    if (reading->delivery && reading->log_end == reading->offset + reading->count) {
        return; /* How far the log goes is not told, but what came; that may be part of a batch. */
    }
    tell_facts(self, CHECKER_ATOMIC, 1);
    if ((cells_get(&topic->cells, reading->log_end).flags & CELL_INSIDE) != 0) {
        tell(self, CHECKER_ATOMIC,
             "topic %s: %s shows a log that ends at %" PRIu64 ", in the middle of a batch",
             topic->name, ORIGIN(&reading->origin), reading->log_end);
    }
}

/* ---- one after the other ---- */

struct step {
    uint64_t at_us;
    uint64_t sequence;
    uint32_t client;
    uint32_t item;
    bool ends; /* what was read counts from here on; else: a read begins */
};

/* Of one client what ends in the moment in which another begins comes before it, if it is earlier
 * in its sequence. */
static int compare_steps(const void *left, const void *right)
{
    const struct step *a = left;
    const struct step *b = right;

    if (a->client != b->client) {
        return a->client < b->client ? -1 : 1;
    }
    if (a->at_us != b->at_us) {
        return a->at_us < b->at_us ? -1 : 1;
    }
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    if (a->ends != b->ends) {
        return a->ends ? 1 : -1;
    }
    return a->item < b->item ? -1 : a->item > b->item;
}

static void check_session(struct checker *self, const struct topic *topic,
                          const struct reading *reading, const struct reading *furthest)
{
    uint64_t reached = furthest->offset + furthest->count;

    tell_facts(self, CHECKER_SESSION, 1);
    if (reading->log_end < reached) {
        tell(self, CHECKER_SESSION,
             "topic %s: %s shows an end of %" PRIu64 " to a client that had read up to %" PRIu64
             " before (%s)",
             topic->name, ORIGIN(&reading->origin), reading->log_end, reached,
             ORIGIN(&furthest->origin));
    }
}

static enum err check_sessions(struct checker *self, const struct topic *topic)
{
    struct step *steps = malloc((2 * topic->readings_count + 1) * sizeof *steps);
    const struct reading *furthest = NULL;
    size_t count = 0;

    if (steps == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < topic->readings_count; i++) {
        const struct reading *reading = &topic->readings[i];
        struct step step = {.at_us = reading->origin.invoke_us,
                            .sequence = reading->sequence,
                            .client = reading->origin.client,
                            .item = (uint32_t)i};

        steps[count++] = step;
        step.at_us = reading->origin.return_us;
        step.ends = true;
        steps[count++] = step;
    }
    qsort(steps, count, sizeof *steps, compare_steps);
    for (size_t i = 0; i < count; i++) {
        const struct reading *reading = &topic->readings[steps[i].item];

        if (i > 0 && steps[i - 1].client != steps[i].client) {
            furthest = NULL;
        }
        if (!steps[i].ends && furthest != NULL) {
            check_session(self, topic, reading, furthest);
        }
        if (steps[i].ends && reading->count > 0 &&
            (furthest == NULL ||
             furthest->offset + furthest->count < reading->offset + reading->count)) {
            furthest = reading;
        }
    }
    free(steps);
    return ERR_OK;
}

static int compare_deliveries(const void *left, const void *right, void *readings)
{
    const struct reading *a = (const struct reading *)readings + *(const uint32_t *)left;
    const struct reading *b = (const struct reading *)readings + *(const uint32_t *)right;

    if (a->origin.client != b->origin.client) {
        return a->origin.client < b->origin.client ? -1 : 1;
    }
    if (a->lag_or_stream != b->lag_or_stream) {
        return a->lag_or_stream < b->lag_or_stream ? -1 : 1;
    }
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    return a->origin.line < b->origin.line ? -1 : a->origin.line > b->origin.line;
}

static void check_delivery(struct checker *self, const struct topic *topic,
                           const struct reading *previous, const struct reading *reading)
{
    uint64_t expected = previous->offset + previous->count;

    tell_facts(self, CHECKER_STREAM, 1);
    if (reading->offset != expected) {
        tell(self, CHECKER_STREAM,
             "topic %s, stream %" PRIu64 ": %s goes on at %" PRIu64 ", expected was %" PRIu64
             " (behind line %" PRIu32 "): %s",
             topic->name, reading->lag_or_stream, ORIGIN(&reading->origin), reading->offset,
             expected, previous->origin.line,
             reading->offset > expected ? "records are missing" : "records come again");
    } else if (reading->log_end < previous->log_end ||
               reading->origin.return_us < previous->origin.return_us) {
        tell(self, CHECKER_STREAM,
             "topic %s, stream %" PRIu64 ": %s goes back behind what line %" PRIu32 " had shown",
             topic->name, reading->lag_or_stream, ORIGIN(&reading->origin), previous->origin.line);
    }
}

static enum err check_streams(struct checker *self, const struct topic *topic)
{
    uint32_t *order = malloc((topic->readings_count + 1) * sizeof *order);
    size_t count = 0;

    if (order == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < topic->readings_count; i++) {
        if (topic->readings[i].delivery) {
            order[count++] = (uint32_t)i;
        }
    }
    qsort_r(order, count, sizeof *order, compare_deliveries, topic->readings);
    for (size_t i = 1; i < count; i++) {
        const struct reading *previous = &topic->readings[order[i - 1]];
        const struct reading *reading = &topic->readings[order[i]];

        if (previous->origin.client == reading->origin.client &&
            previous->lag_or_stream == reading->lag_or_stream) {
            check_delivery(self, topic, previous, reading);
        }
    }
    free(order);
    return ERR_OK;
}

/* ---- how old local reads are ---- */

struct acknowledged {
    uint64_t offset;
    uint64_t at_us; /* in the end: the first time at which anything from here on was */
};

static int compare_acknowledged(const void *left, const void *right)
{
    const struct acknowledged *a = left;
    const struct acknowledged *b = right;

    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static size_t collect_acknowledged(const struct topic *topic, struct acknowledged *ret_list)
{
    size_t count = 0;

    for (size_t i = 0; i < topic->produces_count; i++) {
        if (topic->produces[i].outcome == HISTORY_OK) {
            ret_list[count++] = (struct acknowledged){
                .offset = topic->produces[i].offset,
                .at_us = topic->produces[i].origin.return_us,
            };
        }
    }
    qsort(ret_list, count, sizeof *ret_list, compare_acknowledged);
    for (size_t i = count; i > 1; i--) {
        if (ret_list[i - 1].at_us < ret_list[i - 2].at_us) {
            ret_list[i - 2].at_us = ret_list[i - 1].at_us;
        }
    }
    return count;
}

/* For how long the first thing that the read doesn't show had been acknowledged. */
static uint64_t staleness(const struct reading *reading, const struct acknowledged *list,
                          size_t count)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list[middle].offset < reading->log_end) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && list[low].at_us < reading->origin.invoke_us
               ? reading->origin.invoke_us - list[low].at_us
               : 0;
}

static enum err measure_staleness(struct checker *self, const struct topic *topic)
{
    struct acknowledged *list;
    size_t count;

    if (ARRAY_RESERVE(self, staleness, topic->readings_count) != ERR_OK) {
        return ERR_NOMEM;
    }
    list = malloc((topic->produces_count + 1) * sizeof *list);
    if (list == NULL) {
        return ERR_NOMEM;
    }
    count = collect_acknowledged(topic, list);
    for (size_t i = 0; i < topic->readings_count; i++) {
        const struct reading *reading = &topic->readings[i];

        if (reading->mode == HISTORY_READ_LOCAL && !reading->delivery && reading->at_least == 0) {
            self->staleness[self->staleness_count++] = staleness(reading, list, count);
        }
    }
    free(list);
    return ERR_OK;
}

static int compare_numbers(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

void reads_summarise(struct checker *self)
{
    size_t count = self->staleness_count;

    self->summary.local_read_count = count;
    if (count > 0) {
        qsort(self->staleness, count, sizeof self->staleness[0], compare_numbers);
        self->summary.staleness_p50_us = self->staleness[(count - 1) / 2];
        self->summary.staleness_p99_us = self->staleness[(count - 1) * 99 / 100];
        self->summary.staleness_max_us = self->staleness[count - 1];
    }
}

enum err reads_decide(struct checker *self, struct topic *topic)
{
    if (topic->trims_count > 0) {
        qsort(topic->trims, topic->trims_count, sizeof topic->trims[0], compare_trims);
        for (size_t i = 1; i < topic->trims_count; i++) {
            if (topic->trims[i].offset < topic->trims[i - 1].offset) {
                topic->trims[i].offset = topic->trims[i - 1].offset;
            }
        }
    }
    for (size_t i = 0; i < topic->readings_count; i++) {
        const struct reading *reading = &topic->readings[i];

        check_bounds(self, topic, reading);
        check_end(self, topic, reading);
        check_start(self, topic, reading->log_start, reading->origin.return_us,
                    reading->origin.line);
    }
    for (size_t i = 0; i < topic->pieces_count; i++) {
        check_start(self, topic, topic->pieces[i].log_start, topic->pieces[i].at_us,
                    topic->pieces[i].line);
    }
    if (topic->readings_count == 0) {
        return ERR_OK;
    }
    if (check_sessions(self, topic) != ERR_OK || check_streams(self, topic) != ERR_OK) {
        return ERR_NOMEM;
    }
    return measure_staleness(self, topic);
}
