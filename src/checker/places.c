/*
 * Where each record stands, and whether it may stand there: no invention, none twice, acknowledged
 * ones where they were said to be, refused ones nowhere, batches in one piece.
 *
 * Every value is looked up in the sorted values of all produces, which gives the place of each
 * record in F. An acknowledged append of which nobody was shown anything (below the log's start, or
 * in a topic that is gone) stands where its answer said, so that two of them can still contradict.
 */
#include <stdio.h>

#include "checker/checker_internal.h"

struct places {
    struct checker *checker;
    struct topic *topic;
    uint32_t *order; /* of the topic's values, by value */
    uint64_t *found; /* of each value, in the topic's order: its offset, or NOWHERE */
    size_t hint;     /* in order: records are looked up mostly one behind the other */
};

static int compare_values(const void *left, const void *right, void *values)
{
    uint64_t a = ((const uint64_t *)values)[*(const uint32_t *)left];
    uint64_t b = ((const uint64_t *)values)[*(const uint32_t *)right];

    return a < b ? -1 : a > b;
}

static const struct produce *produce_of(const struct topic *topic, uint32_t value)
{
    size_t low = 0;
    size_t high = topic->produces_count; /* produces[low].first <= value < produces[high].first */

    ASSERT(value < topic->values_count);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (topic->produces[middle].first <= value) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &topic->produces[low];
}

/* The value's place among the topic's values; false: nobody wrote it. */
static bool look_up(struct places *self, uint64_t value, uint32_t *ret_at)
{
    const uint64_t *values = self->topic->values;
    size_t count = self->topic->values_count;
    size_t low = 0;
    size_t high = count;

    if (self->hint < count && values[self->order[self->hint]] == value) {
        low = self->hint;
    } else {
        while (low < high) { /* The first one that is not below. */
            size_t middle = low + (high - low) / 2;

            if (values[self->order[middle]] < value) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
    }
    if (low == count || values[self->order[low]] != value) {
        return false;
    }
    self->hint = low + 1;
    *ret_at = self->order[low];
    return true;
}

/* H3: values are given once. */
static enum err sort_values(struct places *self)
{
    size_t count = self->topic->values_count;

    self->order = malloc((count + 1) * sizeof *self->order);
    self->found = malloc((count + 1) * sizeof *self->found);
    if (self->order == NULL || self->found == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        self->order[i] = (uint32_t)i;
        self->found[i] = NOWHERE;
    }
    qsort_r(self->order, count, sizeof *self->order, compare_values, self->topic->values);
    for (size_t i = 0; i < count; i++) {
        uint64_t value = self->topic->values[self->order[i]];

        if (value == 0 || (i > 0 && self->topic->values[self->order[i - 1]] == value)) {
            tell(self->checker, CHECKER_RECORDING,
                 "topic %s: record %" PRIu64 " was written by %s (%s)", self->topic->name, value,
                 value == 0 ? "somebody, which stands for none" : "two produces",
                 ORIGIN(&produce_of(self->topic, self->order[i])->origin));
        }
    }
    return ERR_OK;
}

/* ---- from F to the produces ---- */

static void locate(struct places *self, uint64_t offset, const struct cell *cell)
{
    struct checker *checker = self->checker;
    const struct produce *produce;
    uint32_t at;

    tell_facts(checker, CHECKER_INVENTION, 1);
    tell_facts(checker, CHECKER_UNIQUE, 1);
    if (!look_up(self, cell->value, &at)) {
        tell(checker, CHECKER_INVENTION,
             "topic %s, offset %" PRIu64 ": record %" PRIu64 " (line %" PRIu32
             ") was written by nobody",
             self->topic->name, offset, cell->value, cell->line);
        return;
    }
    produce = produce_of(self->topic, at);
    if (self->found[at] != NOWHERE) {
        tell(checker, produce->producer_id != 0 ? CHECKER_EXACTLY_ONCE : CHECKER_UNIQUE,
             "topic %s: record %" PRIu64 " of the produce of %s stands at offsets %" PRIu64
             " and %" PRIu64,
             self->topic->name, cell->value, ORIGIN(&produce->origin), self->found[at], offset);
        /* Where it was said to be is where it is. */
        if (produce->outcome != HISTORY_OK || offset - (at - produce->first) != produce->offset) {
            return;
        }
    }
    self->found[at] = offset;
}

static void locate_all(struct places *self)
{
    struct cells *cells = &self->topic->cells;

    for (size_t i = 0; i < cells->pages_count; i++) {
        for (size_t k = 0; k < CELLS_PAGE_COUNT; k++) {
            struct cell cell = {.value = cells->pages[i]->values[k],
                                .line = cells->pages[i]->lines[k]};

            if (cell.value != 0) {
                locate(self, cells->pages[i]->number * CELLS_PAGE_COUNT + k, &cell);
            }
        }
    }
}

/* Values that were seen and then had to give way to others: whose are they? */
static void look_at_suspects(struct places *self)
{
    for (size_t i = 0; i < self->topic->suspects_count; i++) {
        const struct suspect *suspect = &self->topic->suspects[i];
        const struct produce *produce;
        uint32_t at;

        if (!look_up(self, suspect->value, &at)) {
            tell(self->checker, CHECKER_INVENTION,
                 "topic %s, offset %" PRIu64 ": record %" PRIu64 " (line %" PRIu32
                 ") was written by nobody",
                 self->topic->name, suspect->offset, suspect->value, suspect->line);
            continue;
        }
        produce = produce_of(self->topic, at);
        if (produce->outcome == HISTORY_FAIL) {
            tell(self->checker, CHECKER_ABORTED,
                 "topic %s, offset %" PRIu64 ": line %" PRIu32 " shows record %" PRIu64
                 ", though its produce was refused (%s)",
                 self->topic->name, suspect->offset, suspect->line, suspect->value,
                 ORIGIN(&produce->origin));
        }
    }
}

/* ---- from the produces to F ---- */

/* Whether a record at this offset would be known. */
static bool is_covered(const struct topic *topic, uint64_t offset)
{
    return topic->dumped && offset >= topic->start;
}

/* Whether a record that is at this offset must be in the dumps: of those that compaction may take
 * away compaction.c tells. */
static bool must_be_held(const struct topic *topic, uint64_t offset)
{
    return is_covered(topic, offset) && (!topic_compacted(topic) || offset >= topic->end);
}

/* An acknowledged produce is where its answer said. */
static enum err check_acknowledged(struct places *self, const struct produce *produce)
{
    struct topic *topic = self->topic;
    enum checker_rule rule = produce->duplicate ? CHECKER_EXACTLY_ONCE : CHECKER_DURABILITY;

    tell_facts(self->checker, rule, produce->count);
    for (uint32_t i = 0; i < produce->count; i++) {
        uint64_t offset = produce->offset + i;
        uint64_t value = topic->values[produce->first + i];
        struct cell cell = cells_get(&topic->cells, offset);

        /* That it was read once does not help when it is gone in the end. */
        if (cell.value == value &&
            ((cell.flags & CELL_DUMPED) != 0 || !must_be_held(topic, offset))) {
            continue;
        }
        if (cell.value != 0 || must_be_held(topic, offset)) {
            char elsewhere[64] = "it is nowhere";
            char instead[64] = "nothing";
            uint64_t found = self->found[produce->first + i];

            if (cell.value != 0 && cell.value != value) {
                (void)snprintf(instead, sizeof instead, "record %" PRIu64 " (line %" PRIu32 ")",
                               cell.value, cell.line); /* fits */
            }
            if (found != NOWHERE && found != offset) {
                (void)snprintf(elsewhere, sizeof elsewhere, "it stands at offset %" PRIu64,
                               found); /* fits */
            } else if (found == offset) {
                (void)snprintf(elsewhere, sizeof elsewhere,
                               "it was seen there (line %" PRIu32 ") and is gone",
                               cell.line); /* fits */
            }
            tell(self->checker, rule,
                 "topic %s, offset %" PRIu64 ": record %" PRIu64
                 " was acknowledged there (%s)%s, but there is %s; %s",
                 topic->name, offset, value, ORIGIN(&produce->origin),
                 produce->duplicate ? ", as written by an earlier try" : "", instead, elsewhere);
            return ERR_OK; /* Once for a batch. */
        }
        cell = (struct cell){.value = value, .line = produce->origin.line, .flags = CELL_CLAIMED};
        if (cells_set(&topic->cells, offset, cell) != ERR_OK) {
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

static void check_refused(struct places *self, const struct produce *produce)
{
    tell_facts(self->checker, CHECKER_ABORTED, 1);
    for (uint32_t i = 0; i < produce->count; i++) {
        uint64_t found = self->found[produce->first + i];

        if (found != NOWHERE) {
            tell(self->checker, CHECKER_ABORTED,
                 "topic %s, offset %" PRIu64 ": record %" PRIu64 " stands there (line %" PRIu32
                 "), though its produce was refused (%s)",
                 self->topic->name, found, self->topic->values[produce->first + i],
                 cells_get(&self->topic->cells, found).line, ORIGIN(&produce->origin));
            return;
        }
    }
}

/* Finds where an UNKNOWN produce is; of an acknowledged one it is known. */
static void find_base(const struct places *self, struct produce *produce)
{
    for (uint32_t i = 0; produce->outcome == HISTORY_UNKNOWN && i < produce->count; i++) {
        uint64_t found = self->found[produce->first + i];

        if (found != NOWHERE) {
            produce->offset = found >= i ? found - i : 0;
            return;
        }
    }
}

static bool any_found(const struct places *self, const struct produce *produce)
{
    for (uint32_t i = 0; i < produce->count; i++) {
        if (self->found[produce->first + i] != NOWHERE) {
            return true;
        }
    }
    return false;
}

/* All of its records follow on one another; or none is there. */
static void check_whole(struct places *self, const struct produce *produce)
{
    struct topic *topic = self->topic;

    if (!any_found(self, produce)) {
        return; /* What that means for an acknowledged one is told already. */
    }
    tell_facts(self->checker, CHECKER_ATOMIC, 1);
    for (uint32_t i = 0; i < produce->count; i++) {
        uint64_t found = self->found[produce->first + i];
        uint64_t place = produce->offset + i;
        struct cell there = cells_get(&topic->cells, place);

        if (found == place) {
            if (i > 0) {
                cells_flag(&topic->cells, place, CELL_INSIDE);
            }
            continue;
        }
        if (found == NOWHERE && !must_be_held(topic, place) &&
            (there.value == 0 || there.value == topic->values[produce->first + i])) {
            if (i > 0) {
                cells_flag(&topic->cells, place, CELL_INSIDE); /* As its answer said. */
            }
            continue; /* Nobody can know more. */
        }
        tell(self->checker, CHECKER_ATOMIC,
             "topic %s: of the batch of %s, %" PRIu32 " records from offset %" PRIu64
             " on, number %" PRIu32 " is %s",
             topic->name, ORIGIN(&produce->origin), produce->count, produce->offset, i,
             found == NOWHERE ? "missing" : "somewhere else");
        return;
    }
}

static void check_expected(struct places *self, const struct produce *produce)
{
    if (produce->expect_offset == NOWHERE) {
        return;
    }
    tell_facts(self->checker, CHECKER_EXPECT, 1);
    if (produce->offset != produce->expect_offset) {
        tell(self->checker, CHECKER_EXPECT,
             "topic %s: the produce of %s was to be at offset %" PRIu64
             " or nowhere, and is at %" PRIu64,
             self->topic->name, ORIGIN(&produce->origin), produce->expect_offset, produce->offset);
    }
}

static enum err decide(struct places *self)
{
    struct topic *topic = self->topic;

    for (size_t i = 0; i < topic->produces_count; i++) {
        struct produce *produce = &topic->produces[i];

        if (produce->producer_id != 0) {
            tell_facts(self->checker, CHECKER_EXACTLY_ONCE, 1);
        }
        if (produce->outcome == HISTORY_FAIL) {
            check_refused(self, produce);
            continue;
        }
        if (produce->outcome == HISTORY_OK && check_acknowledged(self, produce) != ERR_OK) {
            return ERR_NOMEM;
        }
        find_base(self, produce);
        if (produce_present(produce)) {
            check_expected(self, produce);
            check_whole(self, produce);
        }
    }
    return ERR_OK;
}

enum err places_decide(struct checker *self, struct topic *topic)
{
    struct places places = {.checker = self, .topic = topic};
    enum err err = sort_values(&places);

    if (err == ERR_OK) {
        locate_all(&places);
        look_at_suspects(&places);
        err = decide(&places);
    }
    free(places.order);
    free(places.found);
    return err;
}
