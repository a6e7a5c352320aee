#include "base/turns.h"

#include <stdio.h>
#include <string.h>

#include "lib/runner.h"

enum { ONE, TWO, THREE, STEPS };

static const char *const steps[] = {"one", "two", "three"};

static uint64_t now_us;
static unsigned reads;
static char lines[4096];
static struct turns turns;

static uint64_t monotonic_ns(const struct clock *self)
{
    (void)self; /* There is one. */
    reads++;
    return now_us * 1000;
}

static int64_t wall_us(const struct clock *self)
{
    (void)self; /* As above. */
    return 0;
}

static const struct clock clock = {.monotonic_ns = monotonic_ns, .wall_us = wall_us};

static void take_line(void *arg, const char *line, size_t size)
{
    size_t used = strlen(lines);

    (void)arg; /* As above. */
    ck_assert_uint_lt(used + size, sizeof lines);
    memcpy(lines + used, line, size);
}

static const struct diag diag = {.level = DIAG_WARN, .clock = &clock, .write = take_line};

static void setup(void)
{
    now_us = 1000000;
    reads = 0;
    memset(lines, 0, sizeof lines);
    turns_init(&turns, &(struct turns_options){.clock = &clock,
                                               .diag = &diag,
                                               .thread = "main",
                                               .steps = steps,
                                               .step_count = STEPS,
                                               .stall_us = 5000});
}

static struct turns_figures look(void)
{
    struct turns_figures figures;

    turns_read(&turns, &figures);
    return figures;
}

/* A turn of one step. */
static void take_turn(unsigned step, uint64_t us)
{
    turns_begin(&turns);
    (void)turns_step(&turns, step); /* It is the first. */
    now_us += us;
    turns_end(&turns);
}

static bool told(const char *text)
{
    return strstr(lines, text) != NULL;
}

START_TEST(a_turn_lasts_from_begin_to_end_and_waiting_is_not_counted)
{
    turns_begin(&turns);
    now_us += 40;
    turns_end(&turns);
    now_us += 900000;
    turns_begin(&turns);
    now_us += 30;
    turns_begin(&turns); /* It is under way. */
    now_us += 30;
    turns_end(&turns);
    now_us += 900000;
    turns_end(&turns); /* There is none. */
    ck_assert_uint_eq(look().delays.count, 2);
    ck_assert_uint_eq(look().delays.max_us, 60);
    ck_assert_uint_eq(look().stalls, 0);
    ck_assert_str_eq(lines, "");
}
END_TEST

START_TEST(a_turn_without_steps_reads_the_clock_twice)
{
    take_turn(ONE, 1);
    ck_assert_uint_eq(reads, 2);
    take_turn(TWO, 1);
    ck_assert_uint_eq(reads, 5);
}
END_TEST

START_TEST(a_stall_is_told_with_the_step_that_took_longest)
{
    turns_begin(&turns);
    now_us += 1000;
    (void)turns_step(&turns, TWO);
    now_us += 3000;
    ck_assert_uint_eq(turns_step(&turns, THREE), TWO); /* Inside of it. */
    now_us += 2500;
    ck_assert_uint_eq(turns_step(&turns, TWO), THREE);
    now_us += 1000;
    turns_end(&turns);
    ck_assert(told("WARN mod=base event=loop_stalled thread=main took_us=7500 step=two "
                   "step_us=4000 cpu_us="));
    ck_assert(told(" untold=0\n"));
    ck_assert_uint_eq(look().stalls, 1);
    ck_assert_str_eq(look().longest_step, "two");
    /* The next one begins anew. */
    memset(lines, 0, sizeof lines);
    now_us += TURNS_TELL_MS * 1000;
    take_turn(ONE, 6000);
    ck_assert(told("took_us=6000 step=one step_us=6000 "));
    ck_assert_str_eq(look().longest_step, "two"); /* That one was longer. */
}
END_TEST

START_TEST(a_turn_at_the_threshold_is_no_stall)
{
    take_turn(ONE, 5000);
    ck_assert_uint_eq(look().stalls, 0);
    ck_assert_str_eq(lines, "");
    take_turn(ONE, 5001);
    ck_assert_uint_eq(look().stalls, 1);
}
END_TEST

START_TEST(stalls_in_a_row_are_told_once_and_counted)
{
    for (int i = 0; i < 100; i++) {
        take_turn(THREE, 6000 + (uint64_t)i);
    }
    ck_assert_uint_eq(look().stalls, 100);
    ck_assert(told("took_us=6000 "));
    ck_assert_ptr_eq(strchr(lines, '\n'), lines + strlen(lines) - 1); /* One line. */
    memset(lines, 0, sizeof lines);
    now_us += TURNS_TELL_MS * 1000;
    take_turn(TWO, 8000);
    ck_assert(told("took_us=8000 step=two "));
    ck_assert(told(" untold=99\n"));
}
END_TEST

START_TEST(without_a_threshold_nothing_is_told)
{
    turns.options.stall_us = 0;
    take_turn(TWO, 1000000);
    ck_assert_uint_eq(look().stalls, 0);
    ck_assert_uint_eq(look().delays.long_count, 1);
    ck_assert_str_eq(look().longest_step, "two");
    ck_assert_str_eq(lines, "");
}
END_TEST

/* Computes for so long, by the CPU. */
static void burn(uint64_t us)
{
    const struct clock *real = clock_real();
    uint64_t until_ns = real->monotonic_ns(real) + us * 1000;

    while (real->monotonic_ns(real) < until_ns) {
    }
}

START_TEST(a_stall_tells_how_much_of_it_was_work)
{
    unsigned long long cpu_us;
    const char *at;

    take_turn(ONE, 10); /* From here on its use of the CPU is known. */
    now_us += 2000;
    turns_begin(&turns);
    burn(20000);
    now_us += 20000;
    turns_end(&turns);
    at = strstr(lines, "cpu_us=");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "cpu_us=%llu", &cpu_us), 1);
    ck_assert_uint_gt(cpu_us, 0);
    ck_assert_uint_lt(cpu_us, 25000);
    ck_assert(told(" preempted="));
}
END_TEST

START_TEST(figures_of_several_threads_are_those_of_one)
{
    struct turns_figures sum = look();
    struct turns_figures more;

    take_turn(TWO, 7000);
    turns_figures_add(&sum, &(struct turns_figures){.longest_step = "one"});
    more = look();
    turns_figures_add(&sum, &more);
    turns_figures_add(&sum, &more);
    ck_assert_uint_eq(sum.delays.count, 2);
    ck_assert_uint_eq(sum.stalls, 2);
    ck_assert_str_eq(sum.longest_step, "two");
}
END_TEST

START_TEST(nobody_measures_where_there_is_nothing)
{
    turns_begin(NULL);
    ck_assert_uint_eq(turns_step(NULL, TWO), 0);
    turns_end(NULL);
    ck_assert_uint_eq(reads, 0);
    ck_assert_uint_eq(turns_step(&turns, TWO), 0); /* Not in a turn. */
    ck_assert_uint_eq(reads, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("base/turns");
    TCase *tc = tcase_create("turns");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, a_turn_lasts_from_begin_to_end_and_waiting_is_not_counted);
    tcase_add_test(tc, a_turn_without_steps_reads_the_clock_twice);
    tcase_add_test(tc, figures_of_several_threads_are_those_of_one);
    tcase_add_test(tc, nobody_measures_where_there_is_nothing);
    suite_add_tcase(suite, tc);
    tc = tcase_create("stalls");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, a_stall_is_told_with_the_step_that_took_longest);
    tcase_add_test(tc, a_turn_at_the_threshold_is_no_stall);
    tcase_add_test(tc, stalls_in_a_row_are_told_once_and_counted);
    tcase_add_test(tc, without_a_threshold_nothing_is_told);
    tcase_add_test(tc, a_stall_tells_how_much_of_it_was_work);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
