#include "raft_fsm/nodes.h"

#include <check.h>
#include <stdlib.h>

#include "lib/runner.h"

static struct nodes nodes;

static void setup(void)
{
    nodes = (struct nodes){.count = 0};
}

START_TEST(an_id_belongs_to_its_first_disk_for_ever)
{
    ck_assert_uint_eq(nodes_find(&nodes, 7), 0);
    ck_assert_int_eq(nodes_bind(&nodes, 7, 70), ERR_OK);
    ck_assert_int_eq(nodes_bind(&nodes, 7, 71), ERR_EXISTS);
    ck_assert_int_eq(nodes_bind(&nodes, 7, 70), ERR_EXISTS);
    ck_assert_uint_eq(nodes_find(&nodes, 7), 70);
}
END_TEST

START_TEST(ids_are_found_in_whatever_order_they_came)
{
    static const uint64_t ids[] = {5, 1, UINT64_MAX, 3, 4};

    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(nodes_bind(&nodes, ids[i], 100 + i), ERR_OK);
    }
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(nodes_find(&nodes, ids[i]), 100 + i);
    }
    ck_assert_uint_eq(nodes_find(&nodes, 2), 0);
    for (unsigned i = 1; i < nodes.count; i++) {
        ck_assert_uint_gt(nodes.list[i].id, nodes.list[i - 1].id);
    }
}
END_TEST

START_TEST(zeros_and_too_many_are_refused)
{
    ck_assert_int_eq(nodes_bind(&nodes, 0, 1), ERR_INVALID);
    ck_assert_int_eq(nodes_bind(&nodes, 1, 0), ERR_INVALID);
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        ck_assert_int_eq(nodes_bind(&nodes, id, id), ERR_OK);
    }
    ck_assert_int_eq(nodes_bind(&nodes, NODES_MAX + 1, 1), ERR_LIMIT);
    ck_assert_uint_eq(nodes.count, NODES_MAX);
}
END_TEST

START_TEST(a_copy_is_equal_and_its_own)
{
    struct nodes *copy;

    ck_assert_int_eq(nodes_bind(&nodes, 7, 70), ERR_OK);
    ck_assert_int_eq(nodes_copy(&nodes, &copy), ERR_OK);
    ck_assert_int_eq(nodes_bind(&nodes, 8, 80), ERR_OK);
    ck_assert_uint_eq(copy->count, 1);
    ck_assert_uint_eq(nodes_find(copy, 7), 70);
    free(copy);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("raft_fsm/nodes");
    TCase *tcase = tcase_create("nodes");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, an_id_belongs_to_its_first_disk_for_ever);
    tcase_add_test(tcase, ids_are_found_in_whatever_order_they_came);
    tcase_add_test(tcase, zeros_and_too_many_are_refused);
    tcase_add_test(tcase, a_copy_is_equal_and_its_own);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
