#include "cli/bench_tally.h"

#include "lib/runner.h"

#define BEGIN_NS UINT64_C(1000000000000)
#define NS_PER_MS UINT64_C(1000000)

static struct tally tally; /* Large. */
static struct pace pace;

/* 1000 records a second: numbers [1000, 3000) count, one each millisecond. */
static void setup(void)
{
    tally = (struct tally){.late = 0};
    pace_init(&pace, 1000, 1, 2);
    pace_begin(&pace, BEGIN_NS);
}

static void teardown(void)
{
    tally_check(&tally);
}

/* ---- hand_in ---- */

START_TEST(handed_in_at_its_time_nothing_is_late)
{
    tally_hand_in(&tally, BEGIN_NS, BEGIN_NS, true);
    ck_assert_uint_eq(tally.late_max_ns, 0);
    tally_hand_in(&tally, BEGIN_NS, BEGIN_NS + TALLY_LATE_NS, true);
    ck_assert_uint_eq(tally.late, 0);
    ck_assert_uint_eq(tally.late_full, 0);
    ck_assert_uint_eq(tally.late_max_ns, TALLY_LATE_NS);
}
END_TEST

START_TEST(late_records_are_told_by_what_they_waited_for)
{
    tally_hand_in(&tally, BEGIN_NS, BEGIN_NS + TALLY_LATE_NS + 1, true);
    tally_hand_in(&tally, BEGIN_NS, BEGIN_NS + 3 * TALLY_LATE_NS, false);
    tally_hand_in(&tally, BEGIN_NS, BEGIN_NS + 2 * TALLY_LATE_NS, true);
    ck_assert_uint_eq(tally.late, 3);
    ck_assert_uint_eq(tally.late_full, 2);
    ck_assert_uint_eq(tally.late_max_ns, 3 * TALLY_LATE_NS);
    ck_assert_uint_eq(tally_total(&tally), 0); /* What becomes of them is told apart. */
}
END_TEST

/* ---- add ---- */

START_TEST(slower_than_counts_what_took_longer_than_each_bound)
{
    tally_add(&tally, TALLY_ACKNOWLEDGED, NS_PER_MS, 1); /* no longer than 1 ms */
    tally_add(&tally, TALLY_ACKNOWLEDGED, NS_PER_MS + 1, 10);
    tally_add(&tally, TALLY_FAILED, 100 * NS_PER_MS + 1, 100);
    tally_add(&tally, TALLY_UNANSWERED, 10001 * NS_PER_MS, 1000);
    ck_assert_uint_eq(tally.slower[0], 1110);
    ck_assert_uint_eq(tally.slower[1], 1100);
    ck_assert_uint_eq(tally.slower[2], 1100);
    ck_assert_uint_eq(tally.slower[3], 1000);
    ck_assert_uint_eq(tally.slower[4], 1000);
    ck_assert_uint_eq(tally_total(&tally), 1111);
}
END_TEST

START_TEST(unanswered_records_are_in_the_percentiles_with_their_wait)
{
    tally_add(&tally, TALLY_ACKNOWLEDGED, NS_PER_MS, 90);
    tally_add(&tally, TALLY_UNANSWERED, 2000 * NS_PER_MS, 10);
    ck_assert_uint_le(histogram_quantile(&tally.latency, 0.9), NS_PER_MS + NS_PER_MS / 64);
    ck_assert_uint_ge(histogram_quantile(&tally.latency, 0.91), 2000 * NS_PER_MS);
}
END_TEST

/* ---- a stall ---- */

/* One writer; the cluster answers at once, but for 500 ms, and then all that has come meanwhile.
 * An open loop sees 500 slow records of 2000, as many as were planned in that time. */
START_TEST(stall_is_in_the_latency_of_each_record_that_it_met)
{
    uint64_t stall_from = BEGIN_NS + 1500 * NS_PER_MS;
    uint64_t stall_to = stall_from + 500 * NS_PER_MS;

    for (uint64_t number = pace.first; number < pace.total; number++) {
        uint64_t planned_ns = pace_planned_ns(&pace, number);
        uint64_t answer_ns =
            planned_ns >= stall_from && planned_ns < stall_to ? stall_to : planned_ns + 1;

        tally_add(&tally, TALLY_ACKNOWLEDGED, answer_ns - planned_ns, 1);
    }
    ck_assert_uint_eq(tally_total(&tally), 2000);
    ck_assert_uint_eq(tally.slower[2], 400); /* more than 100 ms: planned in the first 400 */
    ck_assert_uint_ge(histogram_quantile(&tally.latency, 0.99), 480 * NS_PER_MS);
    ck_assert_uint_lt(histogram_quantile(&tally.latency, 0.74), NS_PER_MS);
}
END_TEST

/* ---- rest ---- */

static uint64_t steps;
static uint64_t walked;
static uint64_t last_ns;

static void on_step(void *arg, uint64_t planned_ns, uint64_t count)
{
    ck_assert_ptr_eq(arg, &walked);
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_gt(planned_ns, last_ns);
    last_ns = planned_ns;
    walked += count;
    steps++;
}

static void walk(const struct tally_rest *rest, uint64_t steps_max)
{
    steps = walked = last_ns = 0;
    tally_walk(rest, steps_max, on_step, &walked);
    ck_assert_uint_le(steps, steps_max);
}

START_TEST(walk_has_each_measured_place_once_in_few_steps)
{
    struct tally_rest rest = {.pace = &pace, .writer_count = 3, .to = UINT64_MAX};
    uint64_t all = 0;

    for (rest.writer = 0; rest.writer < 3; rest.writer++) {
        walk(&rest, (uint64_t)_i);
        ck_assert_uint_ge(walked, 666);
        all += walked;
    }
    ck_assert_uint_eq(all, 2000);
}
END_TEST

START_TEST(walk_keeps_to_what_was_asked_for)
{
    struct tally_rest rest = {.pace = &pace, .writer_count = 1, .from = 900, .to = 1010};

    walk(&rest, 4);
    ck_assert_uint_eq(walked, 10); /* 1000 … 1009: those before warm up */
    rest.from = 1005;
    walk(&rest, 100);
    ck_assert_uint_eq(walked, 5);
    ck_assert_uint_eq(steps, 5);
    rest.to = 1005;
    walk(&rest, 100);
    ck_assert_uint_eq(walked, 0);
    rest.from = 5000;
    rest.to = 6000;
    walk(&rest, 100);
    ck_assert_uint_eq(walked, 0);
}
END_TEST

START_TEST(what_was_never_answered_has_waited_since_its_planned_time)
{
    struct tally_rest rest = {
        .pace = &pace,
        .writer_count = 1,
        .from = 2000,
        .to = 2500,
        .now_ns = BEGIN_NS + 5000 * NS_PER_MS,
    };

    tally_add_rest(&tally, TALLY_UNANSWERED, &rest);
    rest.from = 2500;
    rest.to = UINT64_MAX;
    tally_add_rest(&tally, TALLY_UNSENT, &rest);
    ck_assert_uint_eq(tally.fates[TALLY_UNANSWERED], 500);
    ck_assert_uint_eq(tally.fates[TALLY_UNSENT], 500);
    ck_assert_uint_eq(tally.latency.max, 3000 * NS_PER_MS);
    ck_assert_uint_eq(tally.slower[3], 1000); /* 2001 … 3000 ms */
    ck_assert_uint_ge(histogram_quantile(&tally.latency, 0.5), 2500 * NS_PER_MS);
}
END_TEST

START_TEST(backlog_of_any_size_is_counted_whole)
{
    struct tally_rest rest = {.pace = &pace, .writer_count = 1, .to = UINT64_MAX};

    pace_init(&pace, PACE_RATE_MAX, 1, 86400);
    pace_begin(&pace, BEGIN_NS);
    rest.now_ns = BEGIN_NS + 86402 * 1000 * NS_PER_MS;
    tally_add_rest(&tally, TALLY_UNSENT, &rest);
    ck_assert_uint_eq(tally.fates[TALLY_UNSENT], UINT64_C(86400) * PACE_RATE_MAX);
    ck_assert_uint_eq(tally.latency.max, UINT64_C(86401) * 1000 * NS_PER_MS);
}
END_TEST

/* ---- codes ---- */

START_TEST(codes_are_counted_apart_and_unknown_ones_together)
{
    static struct tally_codes codes;

    codes = (struct tally_codes){.total = 0};
    tally_codes_add(&codes, ERR_TIMEOUT, 3);
    tally_codes_add(&codes, ERR_CLOSED, 1);
    tally_codes_add(&codes, ERR_TIMEOUT, 2);
    tally_codes_add(&codes, (enum err)(-100), 7);
    tally_codes_add(&codes, (enum err)(-100000), 8);
    tally_codes_add(&codes, (enum err)100, 9);
    ck_assert_uint_eq(tally_codes_count(&codes, ERR_TIMEOUT), 5);
    ck_assert_uint_eq(tally_codes_count(&codes, ERR_CLOSED), 1);
    ck_assert_uint_eq(tally_codes_count(&codes, ERR_IO), 0);
    ck_assert_uint_eq(tally_codes_count(&codes, ERR_OK), 24);
    ck_assert_uint_eq(codes.total, 30);
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *const *tests, size_t count)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    Suite *suite = suite_create("cli/bench_tally");
    const TTest *const of_hand_in[] = {handed_in_at_its_time_nothing_is_late,
                                       late_records_are_told_by_what_they_waited_for};
    const TTest *const of_add[] = {slower_than_counts_what_took_longer_than_each_bound,
                                   unanswered_records_are_in_the_percentiles_with_their_wait,
                                   stall_is_in_the_latency_of_each_record_that_it_met};
    const TTest *const of_rest[] = {walk_keeps_to_what_was_asked_for,
                                    what_was_never_answered_has_waited_since_its_planned_time,
                                    backlog_of_any_size_is_counted_whole};
    const TTest *const of_codes[] = {codes_are_counted_apart_and_unknown_ones_together};
    TCase *walks = tcase_create("walk");

    add_case(suite, "hand_in", of_hand_in, 2);
    add_case(suite, "add", of_add, 3);
    add_case(suite, "rest", of_rest, 3);
    add_case(suite, "codes", of_codes, 1);
    tcase_add_checked_fixture(walks, setup, teardown);
    tcase_add_loop_test(walks, walk_has_each_measured_place_once_in_few_steps, 1, 60);
    suite_add_tcase(suite, walks);
    return runner_main(suite);
}
