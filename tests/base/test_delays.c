#include "base/delays.h"

#include <pthread.h>
#include <stdbool.h>

#include "lib/runner.h"

static struct delays delays;

static struct delays_snapshot look(void)
{
    struct delays_snapshot snapshot;

    delays_read(&delays, &snapshot);
    return snapshot;
}

START_TEST(nothing_recorded_is_all_zero)
{
    struct delays_snapshot snapshot = look();

    ck_assert_uint_eq(snapshot.count, 0);
    ck_assert_uint_eq(snapshot.long_count, 0);
    ck_assert_uint_eq(snapshot.max_us, 0);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&snapshot, 0), 0);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&snapshot, 1), 0);
}
END_TEST

/* Alone beside a longer one, each is told at most an eighth too high, and never too low. */
START_TEST(every_delay_is_known_to_an_eighth)
{
    for (uint64_t us = 0; us < UINT64_C(1) << DELAYS_OCTAVES; us += us < 3000 ? 1 : us / 97) {
        struct delays_snapshot snapshot;
        uint64_t told_us;

        delays = (struct delays){0};
        delays_record(&delays, us);
        delays_record(&delays, UINT64_C(1) << 40);
        snapshot = look();
        told_us = delays_snapshot_quantile_us(&snapshot, 0.5);
        if (us < (UINT64_C(15) << (DELAYS_OCTAVES - 4))) {
            ck_assert_uint_ge(told_us, us);
            ck_assert_uint_le(told_us, us + us / 8);
        } else {
            ck_assert_uint_eq(told_us, UINT64_C(1) << 40); /* The last bucket has no end. */
        }
        ck_assert_uint_eq(snapshot.max_us, UINT64_C(1) << 40);
    }
}
END_TEST

START_TEST(quantiles_are_those_of_what_was_recorded)
{
    struct delays_snapshot snapshot;

    for (int i = 0; i < 980; i++) {
        delays_record(&delays, 5);
    }
    for (int i = 0; i < 19; i++) {
        delays_record(&delays, 1000);
    }
    delays_record(&delays, 70000);
    snapshot = look();
    ck_assert_uint_eq(snapshot.count, 1000);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&snapshot, 0.5), 5);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&snapshot, 0.98), 5);
    ck_assert_uint_ge(delays_snapshot_quantile_us(&snapshot, 0.99), 1000);
    ck_assert_uint_le(delays_snapshot_quantile_us(&snapshot, 0.999), 1125);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&snapshot, 1), 70000);
    ck_assert_uint_eq(snapshot.max_us, 70000);
}
END_TEST

START_TEST(what_took_long_is_counted_exactly)
{
    delays_record(&delays, DELAYS_LONG_US - 1);
    delays_record(&delays, DELAYS_LONG_US);
    ck_assert_uint_eq(look().long_count, 0);
    delays_record(&delays, DELAYS_LONG_US + 1);
    delays_record(&delays, UINT64_MAX);
    ck_assert_uint_eq(look().long_count, 2);
    ck_assert_uint_eq(look().max_us, UINT64_MAX);
}
END_TEST

START_TEST(snapshots_add_up)
{
    static struct delays other;
    struct delays_snapshot sum;
    struct delays_snapshot more;

    delays_record(&delays, 3);
    delays_record(&delays, 20000);
    delays_record(&other, 3);
    delays_record(&other, 40000);
    delays_record(&other, 7);
    sum = look();
    delays_read(&other, &more);
    delays_snapshot_add(&sum, &more);
    ck_assert_uint_eq(sum.count, 5);
    ck_assert_uint_eq(sum.long_count, 2);
    ck_assert_uint_eq(sum.max_us, 40000);
    ck_assert_uint_eq(sum.counts[3], 2);
    ck_assert_uint_eq(delays_snapshot_quantile_us(&sum, 0.6), 7);
}
END_TEST

START_TEST(an_earlier_snapshot_taken_away_leaves_what_came_since)
{
    struct delays_snapshot earlier;
    struct delays_snapshot later;

    delays_record(&delays, 5000000);
    delays_record(&delays, 2);
    earlier = look();
    for (int i = 0; i < 10; i++) {
        delays_record(&delays, 100);
    }
    delays_record(&delays, 11000);
    later = look();
    delays_snapshot_subtract(&later, &earlier);
    ck_assert_uint_eq(later.count, 11);
    ck_assert_uint_eq(later.long_count, 1);
    ck_assert_uint_eq(later.counts[2], 0);
    ck_assert_uint_ge(later.max_us, 11000); /* The one of five seconds came before. */
    ck_assert_uint_le(later.max_us, 11000 + 11000 / 8);
    ck_assert_uint_le(delays_snapshot_quantile_us(&later, 0.9), 112);

    later = look();
    delays_snapshot_subtract(&later, &later);
    ck_assert_uint_eq(later.count, 0);
    ck_assert_uint_eq(later.max_us, 0);
}
END_TEST

START_TEST(octaves_are_powers_of_two)
{
    uint64_t counts[DELAYS_OCTAVES];
    struct delays_snapshot snapshot;

    delays_record(&delays, 0);
    for (unsigned i = 0; i < DELAYS_OCTAVES; i++) {
        delays_record(&delays, UINT64_C(1) << i);
        delays_record(&delays, (UINT64_C(2) << i) - 1);
    }
    delays_record(&delays, UINT64_MAX);
    snapshot = look();
    delays_snapshot_octaves(&snapshot, counts);
    for (unsigned i = 0; i < DELAYS_OCTAVES; i++) {
        ck_assert_uint_eq(counts[i], i == 0 || i == DELAYS_OCTAVES - 1 ? 3 : 2);
    }
}
END_TEST

enum { RECORDS = 200000 };

static atomic_bool recorded;

static void *record(void *arg)
{
    (void)arg; /* All is static. */
    for (uint64_t i = 0; i < RECORDS; i++) {
        delays_record(&delays, i % 20000);
    }
    atomic_store(&recorded, true);
    return NULL;
}

/* Under TSan this says that nobody needs a lock. */
START_TEST(one_thread_records_while_another_one_reads)
{
    pthread_t thread;
    struct delays_snapshot last = look();

    atomic_store(&recorded, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, record, NULL), 0);
    while (!atomic_load(&recorded)) {
        struct delays_snapshot next = look();
        struct delays_snapshot between = next;

        delays_snapshot_subtract(&between, &last); /* Asserts that nothing is taken back. */
        ck_assert_uint_eq(between.count, next.count - last.count);
        last = next;
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    last = look();
    ck_assert_uint_eq(last.count, RECORDS);
    ck_assert_uint_eq(last.long_count, RECORDS / 20000 * (20000 - DELAYS_LONG_US - 1));
    ck_assert_uint_eq(last.max_us, 19999);
}
END_TEST

static void setup(void)
{
    delays = (struct delays){0};
}

static Suite *suite(void)
{
    Suite *suite = suite_create("base/delays");
    TCase *tc = tcase_create("record");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, nothing_recorded_is_all_zero);
    tcase_add_test(tc, every_delay_is_known_to_an_eighth);
    tcase_add_test(tc, quantiles_are_those_of_what_was_recorded);
    tcase_add_test(tc, what_took_long_is_counted_exactly);
    tcase_add_test(tc, one_thread_records_while_another_one_reads);
    suite_add_tcase(suite, tc);
    tc = tcase_create("snapshot");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, snapshots_add_up);
    tcase_add_test(tc, an_earlier_snapshot_taken_away_leaves_what_came_since);
    tcase_add_test(tc, octaves_are_powers_of_two);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
