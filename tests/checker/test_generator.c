/*
 * No false alarm: whatever the model of a cluster does, its history holds. More seeds with
 * QUORLOG_CHECKER_SEEDS.
 */
#include <stdlib.h>

#include "generator.h"
#include "judge.h"
#include "lib/runner.h"

enum { SEEDS_DEFAULT = 1500 };

static uint64_t seed_count(void)
{
    const char *text = getenv("QUORLOG_CHECKER_SEEDS");

    return text == NULL ? SEEDS_DEFAULT : strtoull(text, NULL, 10);
}

START_TEST(a_history_of_the_model_violates_nothing)
{
    for (uint64_t seed = 1; seed <= seed_count(); seed++) {
        struct generator_options options = {
            .seed = seed, .op_count = seed % 10 == 0 ? 500 : 120, .compacts = seed % 2 == 0};
        struct story story;
        uint64_t violated;

        generate(&options, &story);
        violated = judge_violated(&story, NULL);
        if (violated != 0) {
            judge_explain(&story);
        }
        ck_assert_msg(violated == 0, "seed %llu", (unsigned long long)seed);
        story_fini(&story);
    }
}
END_TEST

START_TEST(the_order_of_the_lines_says_nothing)
{
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct generator_options options = {
            .seed = seed, .op_count = 200, .compacts = seed % 2 == 0};
        struct random random = {seed};
        struct story story;

        generate(&options, &story);
        for (size_t i = story.count; i > 1; i--) {
            size_t other = random_below(&random, i);
            struct history_op op = story.ops[i - 1];

            story.ops[i - 1] = story.ops[other];
            story.ops[other] = op;
        }
        ck_assert_uint_eq(judge_violated(&story, NULL), 0);
        story_fini(&story);
    }
}
END_TEST

/* Else the test above would say nothing about some rule. */
START_TEST(the_model_gives_every_rule_much_to_check)
{
    uint64_t facts[CHECKER_RULE_COUNT] = {0};

    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct generator_options options = {.seed = seed, .op_count = 300, .compacts = true};
        struct story story;
        struct checker *checker;

        generate(&options, &story);
        checker = judge(&story, NULL);
        for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
            facts[i] += checker_verdict(checker, i).fact_count;
        }
        checker_free(checker);
        story_fini(&story);
    }
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        if (i == CHECKER_PROGRESS) {
            ck_assert_uint_ge(facts[i], 40);
        } else {
            ck_assert_msg(facts[i] >= 200, "%s: %llu", checker_rule_name(i),
                          (unsigned long long)facts[i]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/generator");
    TCase *tcase = tcase_create("no false alarm");

    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, a_history_of_the_model_violates_nothing);
    tcase_add_test(tcase, the_order_of_the_lines_says_nothing);
    tcase_add_test(tcase, the_model_gives_every_rule_much_to_check);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
