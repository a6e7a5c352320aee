#include "checker/checker.h"

#include <string.h>

#include "judge.h"
#include "lib/runner.h"

static const uint64_t numbers[] = {1, 2, 3, 4, 5, 6, 7, 8};

static struct history_op written(uint64_t offset, size_t count)
{
    return (struct history_op){.kind = HISTORY_PRODUCE,
                               .client = 7,
                               .topic = "t",
                               .invoke_us = 100,
                               .return_us = 1500000,
                               .offset = offset,
                               .values = numbers + offset,
                               .value_count = count};
}

static struct history_op held(uint32_t node, size_t count)
{
    return (struct history_op){.kind = HISTORY_DUMP,
                               .node = node,
                               .topic = "t",
                               .invoke_us = 5000000,
                               .log_end = count,
                               .values = numbers,
                               .value_count = count};
}

static void add(struct story *story, struct history_op op)
{
    (void)story_add(story, &op);
}

START_TEST(rules_have_names_of_their_own_and_a_meaning)
{
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        ck_assert_uint_gt(strlen(checker_rule_meaning(i)), 10);
        for (unsigned k = 0; k < i; k++) {
            ck_assert_str_ne(checker_rule_name(i), checker_rule_name(k));
        }
    }
}
END_TEST

START_TEST(the_page_has_every_rule)
{
    static char page[65536];
    FILE *file = fopen(SOURCE_ROOT "/docs/history.md", "rb");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(page, 1, sizeof page - 1, file), 1000);
    ck_assert_int_eq(fclose(file), 0);
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        char row[64];

        (void)snprintf(row, sizeof row, "\n| `%s` | ", checker_rule_name(i));
        ck_assert_msg(strstr(page, row) != NULL, "docs/history.md: no row for %s",
                      checker_rule_name(i));
    }
}
END_TEST

START_TEST(an_empty_history_violates_nothing_and_says_that_it_checked_nothing)
{
    struct story story = {0};
    struct checker *checker = judge(&story, NULL);

    ck_assert_uint_eq(checker_violation_count(checker), 0);
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        ck_assert_uint_eq(checker_verdict(checker, i).fact_count, 0);
    }
    ck_assert_uint_eq(checker_summary(checker)->span_us, 0);
    checker_free(checker);
    checker_free(NULL);
}
END_TEST

START_TEST(a_violation_is_told_with_lines_clients_times_and_offsets)
{
    struct story story = {0};
    struct checker *checker;
    struct checker_verdict verdict;

    add(&story, written(0, 2));
    add(&story, held(1, 1));
    checker = judge(&story, NULL);
    verdict = checker_verdict(checker, CHECKER_DURABILITY);
    ck_assert_uint_eq(verdict.violation_count, 1);
    ck_assert_uint_eq(verdict.fact_count, 2);
    ck_assert_uint_eq(verdict.text_count, 1);
    ck_assert_str_eq(verdict.texts[0],
                     "topic t, offset 1: record 2 was acknowledged there (line 2, client 7, "
                     "0.000100 s to 1.500000 s), but there is nothing; it is nowhere");
    checker_free(checker);
    story_fini(&story);
}
END_TEST

START_TEST(all_violations_are_counted_and_the_first_ones_kept)
{
    struct checker_options options = {.violations_kept_max = 3};
    struct story story = {0};
    struct checker *checker;

    for (uint64_t i = 0; i < 8; i++) {
        add(&story, written(i, 1));
    }
    add(&story, held(1, 0));
    checker = judge(&story, &options);
    ck_assert_uint_eq(checker_violation_count(checker), 8);
    ck_assert_uint_eq(checker_verdict(checker, CHECKER_DURABILITY).violation_count, 8);
    ck_assert_uint_eq(checker_verdict(checker, CHECKER_DURABILITY).text_count, 3);
    checker_free(checker);
    story_fini(&story);
}
END_TEST

START_TEST(the_summary_counts_what_came_in)
{
    struct history_op unknown = written(2, 2);
    struct history_op event = {.kind = HISTORY_EVENT, .invoke_us = 50};
    struct story story = {0};
    const struct checker_summary *summary;
    struct checker *checker;

    unknown.outcome = HISTORY_UNKNOWN;
    unknown.return_us = 0;
    add(&story, written(0, 2));
    add(&story, unknown);
    add(&story, event);
    add(&story, held(1, 2));
    add(&story, held(3, 2));
    checker = judge(&story, NULL);
    summary = checker_summary(checker);
    ck_assert_uint_eq(summary->counts[HISTORY_PRODUCE][HISTORY_OK], 1);
    ck_assert_uint_eq(summary->counts[HISTORY_PRODUCE][HISTORY_UNKNOWN], 1);
    ck_assert_uint_eq(summary->counts[HISTORY_DUMP][HISTORY_OK], 2);
    ck_assert_uint_eq(summary->counts[HISTORY_EVENT][HISTORY_OK], 1);
    ck_assert_uint_eq(summary->records_acknowledged, 2);
    ck_assert_uint_eq(summary->records_held, 2);
    ck_assert_uint_eq(summary->topic_count, 1);
    ck_assert_uint_eq(summary->node_count, 2);
    ck_assert_uint_eq(summary->span_us, 5000000 - 50);
    checker_free(checker);
    story_fini(&story);
}
END_TEST

START_TEST(staleness_is_for_how_long_what_is_not_shown_had_been_acknowledged)
{
    struct history_op read = {.kind = HISTORY_READ,
                              .client = 1,
                              .topic = "t",
                              .invoke_us = 1500400,
                              .return_us = 1500500};
    struct story story = {0};
    const struct checker_summary *summary;
    struct checker *checker;

    add(&story, written(0, 2));
    add(&story, held(1, 2));
    add(&story, read); /* 400 us after the acknowledgement it shows nothing. */
    read.client = 2;
    read.invoke_us = 1500000; /* In the same microsecond: not late. */
    add(&story, read);
    read.client = 3;
    read.invoke_us = 1500400;
    read.log_end = 2;
    add(&story, read);
    checker = judge(&story, NULL);
    summary = checker_summary(checker);
    ck_assert_uint_eq(checker_violation_count(checker), 0);
    ck_assert_uint_eq(summary->local_read_count, 3);
    ck_assert_uint_eq(summary->staleness_p50_us, 0);
    ck_assert_uint_eq(summary->staleness_max_us, 400);
    checker_free(checker);
    story_fini(&story);
}
END_TEST

/* Strictly: what ends in the microsecond in which another begins is concurrent with it. */
START_TEST(what_touches_in_time_is_concurrent)
{
    struct history_op read = {.kind = HISTORY_READ,
                              .client = 1,
                              .topic = "t",
                              .mode = HISTORY_READ_LINEARIZABLE,
                              .invoke_us = 1500000,
                              .return_us = 1500009};
    struct story story = {0};

    add(&story, written(0, 2));
    add(&story, held(1, 2));
    add(&story, read);
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    story.ops[2].invoke_us++;
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_LINEARIZABLE);
    story_fini(&story);
}
END_TEST

/* Of one client: its sequence says which of the two was first. */
START_TEST(a_session_goes_by_the_clients_sequence_where_times_touch)
{
    struct history_op read = {.kind = HISTORY_READ,
                              .client = 1,
                              .topic = "t",
                              .invoke_us = 1500000,
                              .return_us = 1500001,
                              .values = numbers,
                              .value_count = 2,
                              .log_end = 2,
                              .sequence = 1};
    struct history_op next = {.kind = HISTORY_READ,
                              .client = 1,
                              .topic = "t",
                              .invoke_us = 1500001,
                              .return_us = 1500002,
                              .sequence = 2};
    struct story story = {0};

    add(&story, written(0, 2));
    add(&story, held(1, 2));
    add(&story, next);
    add(&story, read);
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_SESSION);
    story.ops[2].sequence = 1;
    story.ops[3].sequence = 2;
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    story.ops[2].sequence = 3;
    story.ops[2].client = 2;
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    story_fini(&story);
}
END_TEST

START_TEST(options_set_the_bounds)
{
    struct checker_options two_nodes = {.node_count = 2};
    struct checker_options half = {.unknown_max_percent = 50};
    struct history_op unknown = written(2, 2);
    struct story story = {0};

    unknown.outcome = HISTORY_UNKNOWN;
    add(&story, written(0, 2));
    add(&story, held(1, 2));
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    ck_assert_uint_eq(judge_violated(&story, &two_nodes), (uint64_t)1 << CHECKER_DUMPS);
    add(&story, unknown);
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_UNKNOWN_SHARE);
    ck_assert_uint_eq(judge_violated(&story, &half), 0);
    story_fini(&story);
}
END_TEST

START_TEST(progress_is_asked_for_only_where_there_was_time_for_it)
{
    struct checker_options options = {.progress_max_us = 1000, .unknown_max_percent = 100};
    struct history_op healed = {
        .kind = HISTORY_EVENT, .event = HISTORY_EVENT_HEALED, .invoke_us = 1600000};
    struct history_op asked = written(0, 1);
    struct history_op later = {.kind = HISTORY_EVENT, .invoke_us = 1601000};
    struct story story = {0};

    add(&story, healed);
    add(&story, later);
    ck_assert_uint_eq(judge_violated(&story, &options), 0); /* Nobody asked. */
    asked.outcome = HISTORY_UNKNOWN;
    asked.return_us = 0;
    add(&story, asked);
    ck_assert_uint_eq(judge_violated(&story, &options), 0); /* No time. */
    story.ops[1].invoke_us++;
    ck_assert_uint_eq(judge_violated(&story, &options), (uint64_t)1 << CHECKER_PROGRESS);
    story_fini(&story);
}
END_TEST

START_TEST(offsets_beyond_all_bounds_are_the_recorders_fault_and_cost_nothing)
{
    struct history_op read = {.kind = HISTORY_READ,
                              .client = 1,
                              .topic = "t",
                              .return_us = 1,
                              .offset = UINT64_MAX,
                              .values = numbers,
                              .value_count = 8};
    struct story story = {0};

    add(&story, read);
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_RECORDING);
    story.ops[0].offset = (uint64_t)1 << 60; /* A page of its own, not 2^60 records. */
    ck_assert_uint_ne(judge_violated(&story, NULL), 0);
    story_fini(&story);
}
END_TEST

/* An answer stands for what nobody can look at any more. */
START_TEST(below_the_start_answers_are_held_against_one_another)
{
    struct history_op trimmed = {.kind = HISTORY_EVENT,
                                 .event = HISTORY_EVENT_TRIMMED,
                                 .topic = "t",
                                 .offset = 4,
                                 .invoke_us = 1};
    struct history_op dumped = held(1, 2);
    struct history_op other = written(1, 1);
    struct story story = {0};

    dumped.log_start = 4;
    dumped.log_end = 6;
    dumped.offset = 4;
    dumped.values = numbers + 4;
    add(&story, written(0, 4));
    add(&story, written(4, 2));
    add(&story, dumped);
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_LOG_START);
    add(&story, trimmed);
    ck_assert_uint_eq(judge_violated(&story, NULL), 0);
    other.values = numbers + 7;
    add(&story, other);
    ck_assert_uint_eq(judge_violated(&story, NULL), (uint64_t)1 << CHECKER_DURABILITY);
    story_fini(&story);
}
END_TEST

START_TEST(an_unknown_change_of_a_cursor_explains_one_revision)
{
    struct history_op set = {.kind = HISTORY_CURSOR,
                             .outcome = HISTORY_UNKNOWN,
                             .client = 1,
                             .topic = "t",
                             .cursor = "c",
                             .verb = HISTORY_CURSOR_SET,
                             .invoke_us = 10};
    struct history_op get = {.kind = HISTORY_CURSOR,
                             .client = 2,
                             .topic = "t",
                             .cursor = "c",
                             .verb = HISTORY_CURSOR_GET,
                             .invoke_us = 11,
                             .return_us = 12,
                             .revision = 4096};
    struct checker_options options = {.unknown_max_percent = 100};
    struct story story = {0};

    add(&story, set);
    add(&story, get);
    add(&story, get); /* The same one. */
    ck_assert_uint_eq(judge_violated(&story, &options), 0);
    get.revision = 8192;
    add(&story, get);
    ck_assert_uint_eq(judge_violated(&story, &options), (uint64_t)1 << CHECKER_CURSOR_READ);
    add(&story, set);
    ck_assert_uint_eq(judge_violated(&story, &options), 0);
    story.ops[4].invoke_us = 13; /* Too late for either. */
    ck_assert_uint_eq(judge_violated(&story, &options), (uint64_t)1 << CHECKER_CURSOR_READ);
    story_fini(&story);
}
END_TEST

/* A number as files may hold it: small, large, on an edge. */
static uint64_t any_number(struct random *random)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     63,
                                     64,
                                     INT32_MAX,
                                     UINT32_MAX,
                                     INT64_MAX - 1,
                                     INT64_MAX,
                                     (uint64_t)INT64_MAX + 1,
                                     UINT64_MAX - 1,
                                     UINT64_MAX};

    return random_chance(random, 70)   ? random_below(random, 12)
           : random_chance(random, 50) ? edges[random_below(random, 11)]
                                       : random_next(random);
}

static struct history_op any_op(struct random *random, uint64_t *values)
{
    struct history_op op = {
        .kind = (enum history_kind)random_below(random, 6),
        .outcome = (enum history_outcome)random_below(random, 3),
        .client = (uint32_t)any_number(random),
        .node = (uint32_t)any_number(random),
        .sequence = any_number(random),
        .invoke_us = any_number(random),
        .return_us = any_number(random),
        .topic = random_chance(random, 80) ? "a" : "b",
        .offset = any_number(random),
        .values = values,
        .value_count = 1 + random_below(random, 4),
        .token = any_number(random),
        .producer_id = any_number(random),
        .epoch = (uint32_t)any_number(random),
        .producer_sequence = (uint32_t)any_number(random),
        .duplicate = random_chance(random, 20),
        .has_expect = random_chance(random, 20),
        .expect_offset = any_number(random),
        .mode = (enum history_read_mode)random_below(random, 4),
        .at_least = any_number(random),
        .lag_us = any_number(random),
        .log_start = any_number(random),
        .log_end = any_number(random),
        .stream = any_number(random),
        .verb = (enum history_cursor_verb)random_below(random, 3),
        .cursor = "c",
        .has_expect_revision = random_chance(random, 50),
        .expect_revision = any_number(random),
        .revision = any_number(random),
        .cursor_offset = any_number(random),
        .event = (enum history_event)random_below(random, 5),
    };

    for (size_t i = 0; i < op.value_count; i++) {
        values[i] = any_number(random);
    }
    return op;
}

START_TEST(no_history_makes_the_checker_fall)
{
    struct random random = {1};
    uint64_t violations = 0;

    for (unsigned round = 0; round < 1500; round++) {
        struct story story = {0};
        struct checker *checker;
        uint64_t values[4];

        for (uint64_t i = random_below(&random, 40); i > 0; i--) {
            add(&story, any_op(&random, values));
        }
        checker = judge(&story, NULL);
        violations += checker_violation_count(checker);
        checker_free(checker);
        story_fini(&story);
    }
    ck_assert_uint_gt(violations, 10000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/checker");
    TCase *tcase = tcase_create("verdicts");

    tcase_add_test(tcase, rules_have_names_of_their_own_and_a_meaning);
    tcase_add_test(tcase, the_page_has_every_rule);
    tcase_add_test(tcase, an_empty_history_violates_nothing_and_says_that_it_checked_nothing);
    tcase_add_test(tcase, a_violation_is_told_with_lines_clients_times_and_offsets);
    tcase_add_test(tcase, all_violations_are_counted_and_the_first_ones_kept);
    tcase_add_test(tcase, the_summary_counts_what_came_in);
    tcase_add_test(tcase, staleness_is_for_how_long_what_is_not_shown_had_been_acknowledged);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("bounds");
    tcase_add_test(tcase, what_touches_in_time_is_concurrent);
    tcase_add_test(tcase, a_session_goes_by_the_clients_sequence_where_times_touch);
    tcase_add_test(tcase, options_set_the_bounds);
    tcase_add_test(tcase, progress_is_asked_for_only_where_there_was_time_for_it);
    tcase_add_test(tcase, offsets_beyond_all_bounds_are_the_recorders_fault_and_cost_nothing);
    tcase_add_test(tcase, below_the_start_answers_are_held_against_one_another);
    tcase_add_test(tcase, an_unknown_change_of_a_cursor_explains_one_revision);
    tcase_add_test(tcase, no_history_makes_the_checker_fall);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
