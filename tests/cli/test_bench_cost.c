#include "cli/bench_cost.h"

#include "lib/runner.h"

static struct cost before;
static struct cost after;

/* A leader and a follower; 2 million records in 4000 durable writes. */
static void setup(void)
{
    before = (struct cost){
        .done = true,
        .nodes = {{.id = 1, .cpu_us = 5000000, .journal_writes = 1000},
                  {.id = 2, .cpu_us = 1000000, .journal_writes = 7}},
        .count = 2,
        .leader_id = 1,
        .acknowledged = 500,
    };
    after = before;
    after.acknowledged += 2000000;
    after.nodes[0].cpu_us += 3000000;
    after.nodes[0].journal_writes += 4000;
    after.nodes[1].cpu_us += 1000000;
}

static void check_near(double value, double expected)
{
    ck_assert_double_ge(value, expected * 0.999999);
    ck_assert_double_le(value, expected * 1.000001);
}

START_TEST(cpu_is_told_for_a_million_records_of_each_node)
{
    ck_assert(cost_is_known(&before, &after));
    check_near(cost_cpu_per_million(&before, &after, 0), 1.5);
    check_near(cost_cpu_per_million(&before, &after, 1), 0.5);
    check_near(cost_records_per_write(&before, &after), 500);
}
END_TEST

START_TEST(node_that_was_started_again_or_is_new_is_not_known)
{
    after.nodes[0].cpu_us = 10;
    after.nodes[1].id = 3;
    check_near(cost_cpu_per_million(&before, &after, 0), 0);
    check_near(cost_cpu_per_million(&before, &after, 1), 0);
}
END_TEST

START_TEST(nodes_are_told_apart_by_id_and_not_by_place)
{
    struct cost_node first = before.nodes[0];

    before.nodes[0] = before.nodes[1];
    before.nodes[1] = first;
    check_near(cost_cpu_per_million(&before, &after, 0), 1.5);
    check_near(cost_records_per_write(&before, &after), 500);
}
END_TEST

START_TEST(writes_of_two_leaders_are_not_compared)
{
    after.leader_id = 2;
    check_near(cost_records_per_write(&before, &after), 0);
}
END_TEST

START_TEST(without_answers_or_records_nothing_is_known)
{
    after.acknowledged = before.acknowledged;
    ck_assert(!cost_is_known(&before, &after));
    check_near(cost_cpu_per_million(&before, &after, 0), 0);
    check_near(cost_records_per_write(&before, &after), 0);
    after.acknowledged++;
    ck_assert(cost_is_known(&before, &after));
    before.err = ERR_TIMEOUT;
    ck_assert(!cost_is_known(&before, &after));
    before.err = ERR_OK;
    after.done = false;
    ck_assert(!cost_is_known(&before, &after));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/bench_cost");
    TCase *tcase = tcase_create("cost");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, cpu_is_told_for_a_million_records_of_each_node);
    tcase_add_test(tcase, node_that_was_started_again_or_is_new_is_not_known);
    tcase_add_test(tcase, nodes_are_told_apart_by_id_and_not_by_place);
    tcase_add_test(tcase, writes_of_two_leaders_are_not_compared);
    tcase_add_test(tcase, without_answers_or_records_nothing_is_known);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
