/*
 * Ways to make a history that holds into one that can't be true, each with the rules of which at
 * least one must find it.
 */
#ifndef QUORLOG_TESTS_CHECKER_MUTATIONS_H
#define QUORLOG_TESTS_CHECKER_MUTATIONS_H

#include "checker/checker.h"
#include "generator.h"

#define RULE(name) ((uint64_t)1 << CHECKER_##name)

struct mutation {
    const char *name;
    /* False, and nothing is changed: this story has no place for it. */
    bool (*apply)(struct story *story, struct random *random);
    uint64_t expected; /* bits of rules */
};

extern const struct mutation mutations[];
extern const size_t mutation_count;

/* Of stories with a topic that is compacted (mutations_compacted.c). */
extern const struct mutation compacted_mutations[];
extern const size_t compacted_mutation_count;

#endif
