/*
 * Every kind of lie is found, by the rule that is there for it, in many histories each.
 */
#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "lib/runner.h"
#include "mutations.h"

enum { MUTANTS_DEFAULT = 30, TRIES_A_STORY = 20, SEEDS_MAX = 20000 };

static unsigned mutant_count(void)
{
    const char *text = getenv("QUORLOG_CHECKER_MUTANTS");

    return text == NULL ? MUTANTS_DEFAULT : (unsigned)strtoul(text, NULL, 10);
}

/* A story with this mutation, from this seed; false: it has no place for it. */
static bool make_mutant(const struct mutation *mutation, bool compacts, uint64_t seed,
                        struct story *ret_story)
{
    struct generator_options options = {.seed = seed, .op_count = 150, .compacts = compacts};
    struct random random = {seed};

    for (unsigned i = 0; i < TRIES_A_STORY; i++) {
        if (i == 0) {
            generate(&options, ret_story);
        }
        if (mutation->apply(ret_story, &random)) {
            return true;
        }
    }
    story_fini(ret_story);
    return false;
}

static void find_mutants(const struct mutation *mutation, bool compacts, uint64_t first_seed)
{
    unsigned mutants = 0;

    for (uint64_t seed = 1; seed <= SEEDS_MAX && mutants < mutant_count(); seed++) {
        struct story story;

        if (!make_mutant(mutation, compacts, first_seed + seed, &story)) {
            continue;
        }
        mutants++;
        if ((judge_violated(&story, NULL) & mutation->expected) == 0) {
            judge_explain(&story);
            ck_abort_msg("not found: %s, seed %llu", mutation->name,
                         (unsigned long long)(first_seed + seed));
        }
        story_fini(&story);
    }
    ck_assert_msg(mutants == mutant_count(), "%s: only %u mutants", mutation->name, mutants);
}

START_TEST(every_mutant_is_found_by_the_rule_that_is_there_for_it)
{
    find_mutants(&mutations[_i], false, 1000 * (uint64_t)_i);
}
END_TEST

START_TEST(every_mutant_of_a_compacted_topic_is_found)
{
    find_mutants(&compacted_mutations[_i], true, 1000 * (uint64_t)_i);
}
END_TEST

START_TEST(every_rule_has_a_mutation_that_it_must_find)
{
    uint64_t expected = 0;

    for (size_t i = 0; i < mutation_count; i++) {
        expected |= mutations[i].expected;
    }
    for (size_t i = 0; i < compacted_mutation_count; i++) {
        expected |= compacted_mutations[i].expected;
    }
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        ck_assert_msg((expected >> i & 1) != 0, "no mutation is for %s", checker_rule_name(i));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/mutations");
    TCase *tcase = tcase_create("mutations");

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, every_mutant_is_found_by_the_rule_that_is_there_for_it, 0,
                        (int)mutation_count);
    tcase_add_loop_test(tcase, every_mutant_of_a_compacted_topic_is_found, 0,
                        (int)compacted_mutation_count);
    tcase_add_test(tcase, every_rule_has_a_mutation_that_it_must_find);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
