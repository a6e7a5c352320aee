/*
 * Holes: counted, chosen, filled, made.
 *
 * The topics that have holes are in an array and take turns. A topic stays there until its turn
 * comes and finds none, so that nothing has to be searched when a hole closes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

enum { HOLES_AT_ONCE = 64 };

/* ---- counting ---- */

static void count(const struct topic *topic, unsigned *ret_holes, uint64_t *ret_missing)
{
    struct log_hole holes[HOLES_AT_ONCE];
    uint64_t after = 0;
    size_t n;

    *ret_holes = 0;
    *ret_missing = 0;
    if (!log_has_holes(topic->log)) {
        return;
    }
    do {
        n = log_holes(topic->log, after, holes, HOLES_AT_ONCE);
        for (size_t i = 0; i < n; i++) {
            ASSERT(holes[i].from < holes[i].to);
            *ret_missing += holes[i].to - holes[i].from;
            after = holes[i].to;
        }
        *ret_holes += (unsigned)n;
    } while (n == HOLES_AT_ONCE);
}

static bool is_listed(const struct fsm *self, const struct topic *topic)
{
    for (size_t i = 0; i < self->holed_count; i++) {
        if (self->holed[i] == topic) {
            return true;
        }
    }
    return false;
}

static enum err list_topic(struct fsm *self, struct topic *topic)
{
    if (self->holed_count == self->holed_capacity) {
        size_t capacity = self->holed_capacity == 0 ? 16 : self->holed_capacity * 2;
        struct topic **grown = reallocarray(self->holed, capacity, sizeof *grown);

        if (grown == NULL) {
            return ERR_NOMEM;
        }
        self->holed = grown;
        self->holed_capacity = capacity;
    }
    topic_ref(topic);
    self->holed[self->holed_count++] = topic;
    return ERR_OK;
}

static void unlist(struct fsm *self, size_t at)
{
    ASSERT(at < self->holed_count);
    topic_unref(self->holed[at]);
    self->holed_count--;
    memmove(self->holed + at, self->holed + at + 1,
            (self->holed_count - at) * sizeof(struct topic *));
}

static void set_count(struct fsm *self, struct topic *topic, unsigned holes, uint64_t missing)
{
    ASSERT(self->holes.holes >= topic->holes && self->holes.missing >= topic->missing);
    self->holes.topics += (size_t)(holes > 0) - (size_t)(topic->holes > 0);
    self->holes.holes = self->holes.holes - topic->holes + holes;
    self->holes.missing = self->holes.missing - topic->missing + missing;
    topic->holes = holes;
    topic->missing = missing;
}

enum err fsm_count_holes(struct fsm *self, struct topic *topic)
{
    unsigned before = topic->holes;
    unsigned holes;
    uint64_t missing;

    count(topic, &holes, &missing);
    if (holes > 0 || before > 0) {
        fsm_forget_cleaned(topic); /* F9 */
    }
    if (holes > 0 && before == 0 && !is_listed(self, topic)) {
        enum err err = list_topic(self, topic);

        if (err != ERR_OK) {
            return err;
        }
    }
    set_count(self, topic, holes, missing); /* F6 */
    return ERR_OK;
}

void fsm_forget_holes(struct fsm *self, struct topic *topic)
{
    set_count(self, topic, 0, 0);
}

void fsm_holes_changed(struct fsm *self, struct topic *topic)
{
    if (!atomic_load(&topic->deleted)) {
        /* Memory that is short leaves a hole unfilled until its topic is counted again. */
        (void)fsm_count_holes(self, topic);
    }
}

void fsm_holes(const struct fsm *self, struct fsm_holes *ret_holes)
{
    *ret_holes = self->holes;
}

/* ---- choosing ---- */

void fsm_hole_fini(struct fsm_hole *self)
{
    topic_unref(self->topic);
    *self = (struct fsm_hole){.topic = NULL};
}

/* The chain below the hole. Where the batch below does not verify it is not known: the upper edge
 * decides alone then, and whoever reads that batch finds the damage. */
static enum err begin_chain(const struct topic *topic, uint64_t from, struct chain *ret_chain)
{
    struct chain chain = {.offset = from, .known = from == 0};
    struct batch_header below;
    enum err err = ERR_OK;

    if (from == topic->start) {
        memcpy(chain.digest, topic->start_digest, DIGEST_SIZE);
        chain.known = true;
    } else if (from > log_start(topic->log)) {
        err = log_read_header(topic->log, from - 1, &below, NULL);
        if (err == ERR_OK && batch_end_offset(&below) == from) {
            memcpy(chain.digest, below.digest, DIGEST_SIZE);
            chain.known = true;
        }
    }
    if (err == ERR_IO || err == ERR_NOMEM) {
        return err;
    }
    *ret_chain = chain;
    return ERR_OK;
}

static enum err begin_hole(struct topic *topic, const struct log_hole *range,
                           struct fsm_hole *ret_hole)
{
    struct fsm_hole hole = {.topic = topic, .begin = range->from, .to = range->to};
    enum err err = begin_chain(topic, range->from, &hole.chain);

    if (err != ERR_OK) {
        return err;
    }
    if (topic->filled_from < topic->filled_to && topic->filled_to == range->from) {
        hole.begin = topic->filled_from;
    } else {
        topic->filled_from = topic->filled_to = range->from;
    }
    if (range->to == topic->end) {
        hole.edge_known = true;
        memcpy(hole.edge, topic->digest, DIGEST_SIZE);
    }
    topic_ref(topic);
    *ret_hole = hole;
    return ERR_OK;
}

enum err fsm_next_hole(struct fsm *self, struct fsm_hole *ret_hole)
{
    while (self->holed_count > 0) {
        struct log_hole range;
        struct topic *topic;

        self->holed_turn = self->holed_turn < self->holed_count ? self->holed_turn : 0;
        topic = self->holed[self->holed_turn];
        if (atomic_load(&topic->deleted) || log_holes(topic->log, 0, &range, 1) == 0) {
            unlist(self, self->holed_turn);
            continue;
        }
        self->holed_turn++;
        return begin_hole(topic, &range, ret_hole);
    }
    return ERR_NOT_FOUND;
}

/* ---- filling ---- */

enum err fsm_hole_meets(const struct fsm_hole *hole, const struct chain *chain,
                        struct err_info *info)
{
    struct chain above = *chain;
    struct block *block;
    uint64_t end;
    enum err err;

    ASSERT(chain->offset == hole->to && chain->known);
    if (hole->edge_known) {
        return memcmp(chain->digest, hole->edge, DIGEST_SIZE) == 0
                   ? ERR_OK
                   : err_set(info, ERR_DIVERGED, "the digest at offset %llu is not the topic's",
                             (unsigned long long)hole->to);
    }
    err = log_read(hole->topic->log, hole->to, UINT64_MAX, 1, &block, &end, info);
    if (err == ERR_HOLE || err == ERR_RANGE) {
        /* Meanwhile the batch above became a hole, too, or is below the start: there is no edge
         * here any more. */
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return err;
    }
    err = chain_follow(&above, block->data, block->size, info);
    block_unref(block);
    return err == ERR_OK ? ERR_OK : ERR_DIVERGED;
}

/* Whether the hole still begins where its chain stands. */
static bool is_there(const struct fsm_hole *hole, uint64_t end)
{
    struct log_hole range;

    if (atomic_load(&hole->topic->deleted) ||
        log_holes(hole->topic->log, hole->chain.offset, &range, 1) == 0) {
        return false;
    }
    return range.from == hole->chain.offset && range.to >= end;
}

enum err fsm_fill(struct fsm *self, struct fsm_hole *hole, const struct slice *batches,
                  const struct chain *after, bool met, struct err_info *info)
{
    struct topic *topic = hole->topic;
    enum err err;

    ASSERT(after->offset > hole->chain.offset && after->offset <= hole->to);
    ASSERT(IMPLIES(met, after->offset == hole->to));
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    if (!is_there(hole, after->offset)) {
        return ERR_NOT_FOUND;
    }
    err = fsm_ease_files(self, NULL, info);
    if (err != ERR_OK) {
        return fsm_fail(self, err);
    }
    err = log_fill(topic->log, batches->data, batches->size, info);
    if (err == ERR_CORRUPT || err == ERR_TOO_LARGE) {
        fsm_holes_changed(self, topic); /* The first of them may be there. */
        return err;
    }
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "topic '%s'", topic->name);
        return fsm_fail(self, err);
    }
    hole->chain = *after;
    topic->filled_from = met ? after->offset : hole->begin;
    topic->filled_to = after->offset;
    err = fsm_count_holes(self, topic);
    return err == ERR_OK ? ERR_OK : fsm_fail(self, err_set(info, err, "%s", err_text(err)));
}

enum err fsm_punch(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                   struct err_info *info)
{
    enum err err;

    ASSERT(from < to && to <= log_end(topic->log));
    ASSERT(!atomic_load(&topic->deleted));
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    err = log_punch(topic->log, from, to, info);
    if (err == ERR_OK) {
        topic->filled_from = topic->filled_to = 0;
        err = fsm_count_holes(self, topic);
    }
    if (err == ERR_OK) {
        return ERR_OK;
    }
    (void)err_prefix(info, err, "topic '%s'", topic->name);
    return log_healthy(topic->log) ? err : fsm_fail(self, err);
}
