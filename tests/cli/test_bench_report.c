#include "cli/bench_report.h"

#include "lib/runner.h"

#define NS_PER_MS UINT64_C(1000000)

static struct bench_options options; /* Large, as the next. */
static struct bench bench;

/* An open loop of 5 s that went well. */
static void setup(void)
{
    options = (struct bench_options){.load = {.rate = 1000}};
    bench = (struct bench){
        .options = &options,
        .first_ns = 1000 * NS_PER_MS,
        .last_ns = 6000 * NS_PER_MS,
        .behind_ns = NS_PER_MS,
    };
    tally_add(&bench.load.tally, TALLY_ACKNOWLEDGED, NS_PER_MS, 5000);
}

START_TEST(rate_is_kept_when_all_was_acknowledged_soon)
{
    ck_assert(bench_report_is_kept(&bench));
}
END_TEST

START_TEST(rate_is_not_kept_when_a_record_has_no_acknowledgement)
{
    tally_add(&bench.load.tally, (enum tally_fate)_i, NS_PER_MS, 1);
    ck_assert(!bench_report_is_kept(&bench));
}
END_TEST

START_TEST(rate_is_not_kept_when_the_end_was_behind)
{
    bench.behind_ns = 100 * NS_PER_MS;
    ck_assert(bench_report_is_kept(&bench));
    bench.behind_ns++;
    ck_assert(!bench_report_is_kept(&bench));
}
END_TEST

START_TEST(long_run_may_be_behind_by_a_hundredth)
{
    bench.last_ns = bench.first_ns + 60000 * NS_PER_MS;
    bench.behind_ns = 600 * NS_PER_MS;
    ck_assert(bench_report_is_kept(&bench));
    bench.behind_ns++;
    ck_assert(!bench_report_is_kept(&bench));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/bench_report");
    TCase *tcase = tcase_create("is_kept");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, rate_is_kept_when_all_was_acknowledged_soon);
    tcase_add_loop_test(tcase, rate_is_not_kept_when_a_record_has_no_acknowledgement, TALLY_FAILED,
                        TALLY_FATES);
    tcase_add_test(tcase, rate_is_not_kept_when_the_end_was_behind);
    tcase_add_test(tcase, long_run_may_be_behind_by_a_hundredth);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
