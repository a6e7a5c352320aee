/*
 * Histories that hold: of a small model of a cluster, with clients that overlap in time.
 *
 * The model is the specification itself: one sequence of committed entries, nodes that have applied
 * more or less of it, clients whose questions and changes take effect at one moment between their
 * beginning and their end, or never. It shares no code with what is recorded for real.
 */
#ifndef QUORLOG_TESTS_CHECKER_GENERATOR_H
#define QUORLOG_TESTS_CHECKER_GENERATOR_H

#include "checker/history.h"

struct random {
    uint64_t state;
};

uint64_t random_next(struct random *self);
uint64_t random_below(struct random *self, uint64_t bound); /* bound > 0 */
bool random_chance(struct random *self, unsigned percent);

/* A history in memory. Lists are owned, an operation's each by itself; names are constants. */
struct story {
    struct history_op *ops;
    size_t count;
    size_t capacity;
};

void story_fini(struct story *self);
/* A copy at the end; returns it, until the next one is added. */
struct history_op *story_add(struct story *self, const struct history_op *op);
void story_remove(struct story *self, size_t at);
/* What an operation's records are, for a test to change. */
void story_set_values(struct history_op *op, const uint64_t *values, size_t count);
uint64_t *story_values(struct history_op *op);
uint64_t *story_offsets(struct history_op *op); /* of values that are not dense */

struct generator_options {
    uint64_t seed;
    unsigned op_count; /* about so many, dumps and events not counted */
    bool keeps_all;    /* nothing is trimmed, no topic deleted */
    bool compacts;     /* the second topic has keys, and is compacted sometime */
};

void generate(const struct generator_options *options, struct story *ret_story);

#endif
