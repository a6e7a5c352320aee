#include "cli/histogram.h"

#include "lib/runner.h"

static struct histogram histogram; /* Large. */

static void setup(void)
{
    histogram = (struct histogram){0};
}

START_TEST(nothing_added_has_quantile_zero)
{
    ck_assert_uint_eq(histogram_quantile(&histogram, 0), 0);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.5), 0);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    for (uint64_t i = 0; i < HISTOGRAM_SUB; i++) {
        histogram_add(&histogram, i);
    }
    ck_assert_uint_eq(histogram.total, HISTOGRAM_SUB);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0), 0);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.5), HISTOGRAM_SUB / 2 - 1);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), HISTOGRAM_SUB - 1);
}
END_TEST

START_TEST(every_value_is_told_within_one_sixty_fourth)
{
    uint64_t value = (UINT64_C(1) << _i) + (UINT64_C(1) << _i) / 3;
    uint64_t told;

    histogram_add(&histogram, value);
    histogram_add(&histogram, UINT64_MAX); /* Else the maximum hides the bucket's top. */
    told = histogram_quantile(&histogram, 0.5);
    ck_assert_uint_ge(told, value);
    ck_assert_uint_le(told - value, value / 64);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), UINT64_MAX);
}
END_TEST

START_TEST(edges_of_buckets_are_in_the_right_one)
{
    uint64_t edge = UINT64_C(1) << _i;

    histogram_add(&histogram, edge - 1);
    histogram_add(&histogram, edge);
    histogram_add(&histogram, UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.33), edge - 1);
    ck_assert_uint_ge(histogram_quantile(&histogram, 0.66), edge);
}
END_TEST

START_TEST(quantiles_of_a_known_distribution)
{
    for (uint64_t i = 1; i <= 10000; i++) {
        histogram_add(&histogram, i * 1000);
    }
    ck_assert_uint_ge(histogram_quantile(&histogram, 0.5), 5000000);
    ck_assert_uint_le(histogram_quantile(&histogram, 0.5), 5000000 + 5000000 / 64);
    ck_assert_uint_ge(histogram_quantile(&histogram, 0.99), 9900000);
    ck_assert_uint_le(histogram_quantile(&histogram, 0.99), 10000000);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), 10000000);
    ck_assert_uint_eq(histogram.max, 10000000);
}
END_TEST

START_TEST(many_at_once_are_as_many_one_by_one)
{
    static struct histogram one_by_one;

    one_by_one = (struct histogram){0};
    for (uint64_t value = 1; value < 1000000; value *= 7) {
        histogram_add_many(&histogram, value, value % 100);
        for (uint64_t i = 0; i < value % 100; i++) {
            histogram_add(&one_by_one, value);
        }
    }
    ck_assert_mem_eq(&histogram, &one_by_one, sizeof histogram);
}
END_TEST

START_TEST(none_of_a_value_changes_nothing)
{
    histogram_add(&histogram, 5);
    histogram_add_many(&histogram, UINT64_MAX, 0);
    ck_assert_uint_eq(histogram.total, 1);
    ck_assert_uint_eq(histogram.max, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/histogram");
    TCase *tcase = tcase_create("quantile");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, nothing_added_has_quantile_zero);
    tcase_add_test(tcase, small_values_are_exact);
    tcase_add_loop_test(tcase, every_value_is_told_within_one_sixty_fourth, 2, 63);
    tcase_add_loop_test(tcase, edges_of_buckets_are_in_the_right_one, 6, 63);
    tcase_add_test(tcase, quantiles_of_a_known_distribution);
    tcase_add_test(tcase, many_at_once_are_as_many_one_by_one);
    tcase_add_test(tcase, none_of_a_value_changes_nothing);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
