#include "base/clock.h"

#include <time.h>

#include "lib/runner.h"

START_TEST(monotonic_time_goes_forward)
{
    const struct clock *clock = clock_real();
    uint64_t before = clock->monotonic_ns(clock);
    struct timespec nap = {.tv_nsec = 2000000};

    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock->monotonic_ns(clock);

        ck_assert(now >= before);
        before = now;
    }
    ck_assert_int_eq(nanosleep(&nap, NULL), 0);
    ck_assert_uint_ge(clock->monotonic_ns(clock), before + 2000000);
}
END_TEST

START_TEST(milliseconds_are_those_of_the_monotonic_clock)
{
    const struct clock *clock = clock_real();
    uint64_t low = clock->monotonic_ns(clock) / 1000000;
    uint64_t ms = clock_monotonic_ms(clock);

    ck_assert_uint_ge(ms, low);
    ck_assert_uint_le(ms, clock->monotonic_ns(clock) / 1000000);
}
END_TEST

START_TEST(wall_time_is_in_microseconds_since_1970)
{
    const struct clock *clock = clock_real();
    int64_t before_s = (int64_t)time(NULL);
    int64_t us = clock->wall_us(clock);

    ck_assert_int_ge(us / 1000000, before_s - 1);
    ck_assert_int_le(us / 1000000, before_s + 5);
}
END_TEST

START_TEST(random_numbers_use_all_bits_and_differ)
{
    const struct clock *clock = clock_real();
    uint64_t ones = 0;
    uint64_t zeros = 0;
    uint64_t last = clock->random(clock);

    for (int i = 0; i < 100; i++) {
        uint64_t value = clock->random(clock);

        ck_assert_uint_ne(value, last);
        ones |= value;
        zeros |= ~value;
        last = value;
    }
    ck_assert_uint_eq(ones, UINT64_MAX);
    ck_assert_uint_eq(zeros, UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *tcase = tcase_create("real");

    tcase_add_test(tcase, monotonic_time_goes_forward);
    tcase_add_test(tcase, milliseconds_are_those_of_the_monotonic_clock);
    tcase_add_test(tcase, wall_time_is_in_microseconds_since_1970);
    tcase_add_test(tcase, random_numbers_use_all_bits_and_differ);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
