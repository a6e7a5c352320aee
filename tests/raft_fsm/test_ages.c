#include "raft_fsm/ages.h"

#include "lib/runner.h"

static struct ages ages;

static void setup(void)
{
    ages = (struct ages){.marks = NULL};
}

static void teardown(void)
{
    ages_fini(&ages);
}

static void add(uint64_t raft_index, uint64_t elapsed_us)
{
    ck_assert_int_eq(ages_add(&ages, raft_index, elapsed_us), ERR_OK);
    ages_check(&ages);
}

START_TEST(without_marks_nothing_is_old)
{
    ck_assert_uint_eq(ages_older_than(&ages, 0), 0);
    ck_assert_uint_eq(ages_older_than(&ages, 1), 0);
    ck_assert_uint_eq(ages_of(&ages, 1), 0);
}
END_TEST

START_TEST(what_lies_at_or_below_a_mark_is_as_old_as_what_was_added_since)
{
    add(10, 1000);
    ck_assert_uint_eq(ages_of(&ages, 10), 0); /* The time before does not count. */
    add(20, 500);
    add(30, 700);
    ck_assert_uint_eq(ages_of(&ages, 1), 1200);
    ck_assert_uint_eq(ages_of(&ages, 10), 1200);
    ck_assert_uint_eq(ages_of(&ages, 11), 700);
    ck_assert_uint_eq(ages_of(&ages, 30), 0);
    ck_assert_uint_eq(ages_of(&ages, 31), 0);
    ck_assert_uint_eq(ages_older_than(&ages, 1201), 0);
    ck_assert_uint_eq(ages_older_than(&ages, 1200), 10);
    ck_assert_uint_eq(ages_older_than(&ages, 701), 10);
    ck_assert_uint_eq(ages_older_than(&ages, 700), 20);
    ck_assert_uint_eq(ages_older_than(&ages, 0), 30);
}
END_TEST

START_TEST(more_than_an_hour_at_once_is_refused_and_changes_nothing)
{
    add(1, AGES_ELAPSED_MAX_US);
    ck_assert_int_eq(ages_add(&ages, 2, AGES_ELAPSED_MAX_US + 1), ERR_INVALID);
    ck_assert_uint_eq(ages.age_us, AGES_ELAPSED_MAX_US);
    ck_assert_uint_eq(ages.count, 1);
}
END_TEST

START_TEST(two_of_one_entry_make_one_mark_and_both_count)
{
    add(5, 100);
    add(5, 50);
    ck_assert_uint_eq(ages.count, 1);
    ck_assert_uint_eq(ages_of(&ages, 5), 50);
}
END_TEST

/* Entry i is written just after tick i: each has an age that is known exactly. */
START_TEST(thinned_marks_are_never_early_and_late_by_a_hundredth_and_a_tick)
{
    enum { TICKS = 60000 };
    const uint64_t tick_us = 10 * 1000 * 1000;

    for (uint64_t i = 1; i <= TICKS; i++) {
        add(i, tick_us);
    }
    ck_assert_uint_le(ages.count, AGES_MARKS_MAX);
    for (uint64_t i = 1; i <= TICKS; i++) {
        uint64_t true_us = (TICKS - i) * tick_us;

        ck_assert_uint_le(ages_of(&ages, i), true_us);
        ck_assert_uint_ge(ages_of(&ages, i) + true_us / 100 + tick_us, true_us);
    }
    for (uint64_t age_us = 0; age_us < TICKS * tick_us; age_us += 997 * tick_us / 10) {
        uint64_t index = ages_older_than(&ages, age_us);

        ck_assert(index == 0 || (TICKS - index) * tick_us >= age_us);
        ck_assert_uint_ge(ages_of(&ages, index), index == 0 ? 0 : age_us);
    }
}
END_TEST

START_TEST(marks_stay_bounded_over_a_century)
{
    const uint64_t tick_us = AGES_ELAPSED_MAX_US;

    for (uint64_t i = 1; i <= UINT64_C(100) * 365 * 24; i++) {
        ck_assert_int_eq(ages_add(&ages, i, tick_us), ERR_OK);
    }
    ages_check(&ages);
    ck_assert_uint_le(ages.count, AGES_MARKS_MAX);
    ck_assert_uint_gt(ages_older_than(&ages, UINT64_C(90) * 365 * 24 * tick_us), 0);
}
END_TEST

START_TEST(a_copy_is_equal_and_its_own)
{
    struct ages copy;

    ck_assert_int_eq(ages_copy(&ages, &copy), ERR_OK);
    ck_assert(ages_equal(&ages, &copy));
    ages_fini(&copy);
    add(3, 7);
    add(9, 8);
    ck_assert_int_eq(ages_copy(&ages, &copy), ERR_OK);
    ck_assert(ages_equal(&ages, &copy));
    add(10, 1);
    ck_assert(!ages_equal(&ages, &copy));
    ages_fini(&copy);
}
END_TEST

START_TEST(what_is_restored_must_be_in_order)
{
    ages.age_us = 100;
    ck_assert_int_eq(ages_restore(&ages, 5, 101), ERR_CORRUPT);
    ck_assert_int_eq(ages_restore(&ages, 5, 50), ERR_OK);
    ck_assert_int_eq(ages_restore(&ages, 5, 60), ERR_CORRUPT);
    ck_assert_int_eq(ages_restore(&ages, 6, 49), ERR_CORRUPT);
    ck_assert_int_eq(ages_restore(&ages, 6, 50), ERR_OK);
    for (uint64_t i = 7; ages.count < AGES_MARKS_MAX; i++) {
        ck_assert_int_eq(ages_restore(&ages, i, 50), ERR_OK);
    }
    ck_assert_int_eq(ages_restore(&ages, 1000000, 100), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ages");
    TCase *tcase = tcase_create("ages");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, without_marks_nothing_is_old);
    tcase_add_test(tcase, what_lies_at_or_below_a_mark_is_as_old_as_what_was_added_since);
    tcase_add_test(tcase, more_than_an_hour_at_once_is_refused_and_changes_nothing);
    tcase_add_test(tcase, two_of_one_entry_make_one_mark_and_both_count);
    tcase_add_test(tcase, thinned_marks_are_never_early_and_late_by_a_hundredth_and_a_tick);
    tcase_add_test(tcase, marks_stay_bounded_over_a_century);
    tcase_add_test(tcase, a_copy_is_equal_and_its_own);
    tcase_add_test(tcase, what_is_restored_must_be_in_order);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
