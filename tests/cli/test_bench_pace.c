#include "cli/bench_pace.h"

#include "lib/runner.h"

#define BEGIN_NS UINT64_C(1000000000000)
#define NS_PER_S UINT64_C(1000000000)

/* Rates that divide a second, that do not, and the bounds. */
static const uint64_t rates[] = {1, 3, 7, 1000, 10000, 99991, 1000000, PACE_RATE_MAX};
enum { RATES = sizeof rates / sizeof rates[0] };

static struct pace pace_of(uint64_t rate, uint64_t warm_s, uint64_t seconds)
{
    struct pace pace;

    pace_init(&pace, rate, warm_s, seconds);
    pace_begin(&pace, BEGIN_NS);
    return pace;
}

START_TEST(first_record_is_due_at_once_and_each_second_has_its_rate)
{
    struct pace pace = pace_of(rates[_i], 1, 86400);

    ck_assert_uint_eq(pace_planned_ns(&pace, 0), BEGIN_NS);
    for (uint64_t second = 1; second <= 86400; second += 11) {
        ck_assert_uint_eq(pace_planned_ns(&pace, rates[_i] * second), BEGIN_NS + second * NS_PER_S);
    }
}
END_TEST

START_TEST(due_is_what_is_planned_for_now_or_earlier)
{
    struct pace pace = pace_of(rates[_i], 0, 40000);

    ck_assert_uint_eq(pace_due(&pace, BEGIN_NS - 1), 0);
    ck_assert_uint_eq(pace_due(&pace, 0), 0);
    ck_assert_uint_eq(pace_due(&pace, BEGIN_NS), 1);
    for (uint64_t i = 1; i < 3000; i++) {
        uint64_t number = i * i * i % pace.total;
        uint64_t planned_ns = pace_planned_ns(&pace, number);

        ck_assert_uint_ge(pace_due(&pace, planned_ns), number + 1);
        ck_assert_uint_le(pace_due(&pace, planned_ns - 1), number);
    }
}
END_TEST

START_TEST(records_are_as_far_apart_as_the_rate_says)
{
    struct pace pace = pace_of(rates[_i], 0, 40000);
    uint64_t apart_ns = NS_PER_S / rates[_i];

    for (uint64_t number = 0; number < 20000; number++) {
        uint64_t gap_ns = pace_planned_ns(&pace, number + 1) - pace_planned_ns(&pace, number);

        ck_assert_uint_ge(gap_ns, apart_ns);
        ck_assert_uint_le(gap_ns, apart_ns + 1);
    }
}
END_TEST

START_TEST(nothing_is_due_beyond_the_end)
{
    struct pace pace = pace_of(rates[_i], 1, 5);

    ck_assert_uint_eq(pace_due(&pace, BEGIN_NS + 6 * NS_PER_S), 6 * rates[_i]);
    ck_assert_uint_eq(pace_due(&pace, UINT64_MAX / 2), 6 * rates[_i]);
}
END_TEST

START_TEST(seconds_of_warming_up_are_not_measured)
{
    struct pace pace = pace_of(100, 1, 2);

    ck_assert(!pace_is_measured(&pace, 0));
    ck_assert(!pace_is_measured(&pace, 99));
    ck_assert(pace_is_measured(&pace, 100));
    ck_assert(pace_is_measured(&pace, 299));
    ck_assert(!pace_is_measured(&pace, 300));
}
END_TEST

START_TEST(ended_early_only_what_was_due_is_measured)
{
    struct pace pace = pace_of(100, 1, 5);

    pace_end(&pace, BEGIN_NS + 2 * NS_PER_S - 1);
    ck_assert_uint_eq(pace.first, 100);
    ck_assert_uint_eq(pace.total, 200);
    ck_assert_uint_eq(pace_due(&pace, BEGIN_NS + 9 * NS_PER_S), 200);
}
END_TEST

START_TEST(ended_while_warming_up_nothing_is_measured)
{
    struct pace pace = pace_of(100, 1, 5);

    pace_end(&pace, BEGIN_NS + NS_PER_S / 2 - 1);
    ck_assert_uint_eq(pace.first, 50);
    ck_assert_uint_eq(pace.total, 50);
}
END_TEST

START_TEST(ended_at_its_end_changes_nothing)
{
    struct pace pace = pace_of(100, 1, 5);

    pace_end(&pace, BEGIN_NS + 7 * NS_PER_S);
    ck_assert_uint_eq(pace.first, 100);
    ck_assert_uint_eq(pace.total, 600);
}
END_TEST

START_TEST(each_number_is_one_place_of_one_writer)
{
    for (uint64_t count = 1; count < 9; count++) {
        uint64_t places[9] = {0};

        for (uint64_t number = 0; number < 100; number++) {
            uint64_t writer = number % count;

            ck_assert_uint_eq(pace_number(places[writer], writer, count), number);
            places[writer]++;
            for (uint64_t i = 0; i < count; i++) {
                ck_assert_uint_eq(pace_places(number + 1, i, count), places[i]);
            }
        }
    }
    ck_assert_uint_eq(pace_places(0, 0, 1), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/bench_pace");
    TCase *tcase = tcase_create("pace");

    tcase_add_loop_test(tcase, first_record_is_due_at_once_and_each_second_has_its_rate, 0, RATES);
    tcase_add_loop_test(tcase, due_is_what_is_planned_for_now_or_earlier, 0, RATES);
    tcase_add_loop_test(tcase, records_are_as_far_apart_as_the_rate_says, 0, RATES);
    tcase_add_loop_test(tcase, nothing_is_due_beyond_the_end, 0, RATES);
    tcase_add_test(tcase, seconds_of_warming_up_are_not_measured);
    tcase_add_test(tcase, ended_early_only_what_was_due_is_measured);
    tcase_add_test(tcase, ended_while_warming_up_nothing_is_measured);
    tcase_add_test(tcase, ended_at_its_end_changes_nothing);
    tcase_add_test(tcase, each_number_is_one_place_of_one_writer);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
