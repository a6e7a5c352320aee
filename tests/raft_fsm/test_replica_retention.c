/*
 * What retention deletes in a cluster of three: the same everywhere, exactly, and never early,
 * whatever the clocks show.
 */
#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/retention.h"
#include "replica_lab.h"

enum { INTERVAL_MS = 500 };

static const int64_t day_us = INT64_C(86400) * 1000 * 1000;

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static void setup(void)
{
    lab_init();
    lab.retention_interval_ms = INTERVAL_MS;
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab_stop(i);
        lab_start(i);
    }
    lab_run_until(has_leader);
}

static void teardown(void)
{
    lab_fini();
}

static void set(uint32_t which, struct topic_settings to)
{
    struct topic_change change = {.which = which, .to = to};
    struct command command = {.type = COMMAND_TOPIC_ALTER, .topic_name = "t", .change = &change};

    (void)lab_propose(&command);
}

static void keep_ms(uint64_t ms)
{
    set(TOPIC_SETTING_RETENTION_MS, (struct topic_settings){.retention_ms = ms});
}

static struct topic *topic_of(unsigned id)
{
    return catalog_peek_id(replica_catalog(lab.nodes[id].replica), lab.topic_id);
}

static uint64_t start_of(unsigned id)
{
    return topic_start(topic_of(id));
}

static void restart_all(uint64_t down_ms)
{
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab_stop(i);
    }
    lab.now_ms += down_ms;
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab_start(i);
    }
    lab_run_until(has_leader);
}

START_TEST(by_records_exactly_so_many_stay_on_all_nodes)
{
    lab_produce(20); /* of 2 records, and one before */
    set(TOPIC_SETTING_RETENTION_RECORDS, (struct topic_settings){.retention_records = 15});
    lab_run(2000);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(start_of(i), 42 - 15);
        ck_assert_uint_eq(log_start(topic_of(i)->log), 26); /* inside of a batch */
    }
    lab_produce(3);
    lab_run(2000);
    ck_assert_uint_eq(start_of(1), 48 - 15);
    lab_assert_equal();
}
END_TEST

START_TEST(by_bytes_the_most_batches_that_fit_stay)
{
    const uint64_t batch = BATCH_HEADER_SIZE + 1500;

    lab_produce(20);
    set(TOPIC_SETTING_RETENTION_BYTES, (struct topic_settings){.retention_bytes = 5 * batch});
    lab_run(2000);
    ck_assert_uint_eq(start_of(1), 42 - 10);
    set(TOPIC_SETTING_RETENTION_BYTES, (struct topic_settings){.retention_bytes = 5 * batch - 1});
    lab_run(2000);
    ck_assert_uint_eq(start_of(2), 42 - 8);
    set(TOPIC_SETTING_RETENTION_BYTES, (struct topic_settings){.retention_bytes = 1});
    lab_run(2000);
    ck_assert_uint_eq(start_of(3), 42 - 2); /* The last one stays. */
    lab_assert_equal();
}
END_TEST

START_TEST(by_age_nothing_goes_before_its_time_and_soon_after_it)
{
    keep_ms(10000);
    lab_produce(5);
    lab_run(9000);
    ck_assert_uint_eq(start_of(1), 0);
    lab_produce(1);
    lab_run(10000 + 3 * INTERVAL_MS - 9000);
    ck_assert_uint_eq(start_of(1), 12);
    lab_run(10000);
    ck_assert_uint_eq(start_of(1), 14);
    lab_assert_equal();
}
END_TEST

START_TEST(clocks_that_jump_delete_nothing_early_nor_keep_anything)
{
    keep_ms(20000);
    lab_produce(5);
    lab.wall_jump_us = 400 * day_us;
    lab_produce(1);
    lab_run(9000);
    ck_assert_uint_eq(start_of(1), 0);
    lab.wall_jump_us = -400 * day_us;
    lab_produce(1);
    lab_run(9000);
    ck_assert_uint_eq(start_of(1), 0);
    lab.wall_jump_us = 0;
    lab_run(2000 + 3 * INTERVAL_MS);
    ck_assert_uint_ge(start_of(1), 12);
    lab_assert_equal();
}
END_TEST

START_TEST(a_program_that_goes_by_wall_clocks_deletes_early)
{
    lab.retention_by_wall_clock = true;
    restart_all(0);
    keep_ms(20000);
    lab_produce(5);
    lab.wall_jump_us = 400 * day_us;
    lab_run(9000);
    ck_assert_uint_gt(start_of(1), 0);
}
END_TEST

START_TEST(time_while_the_cluster_is_off_does_not_count)
{
    keep_ms(10000);
    lab_produce(5);
    lab_run(3000);
    for (unsigned i = 0; i < 3; i++) {
        restart_all(3600000);
        lab.wall_jump_us += 3600 * INT64_C(1000000);
        lab_run(1500);
        ck_assert_uint_eq(start_of(1), 0);
    }
    lab_run(10000);
    ck_assert_uint_eq(start_of(1), 12);
    lab_assert_equal();
}
END_TEST

/* Every second another leader: what each of them counts is at most what has passed. */
START_TEST(leaders_that_change_never_count_time_twice)
{
    uint64_t begin_ms = lab.now_ms;

    keep_ms(1000000);
    lab_produce(2);
    for (unsigned i = 0; i < 12; i++) {
        unsigned leader = lab_leader()->id;

        lab.nodes[leader].cut = true;
        lab_run(1500 + 37 * i);
        lab_run_until(has_leader);
        lab.nodes[leader].cut = false;
        lab_run(700);
        lab_run_until(has_leader);
    }
    lab_run(2000);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        uint64_t age_us = fsm_ages(replica_fsm(lab.nodes[i].replica))->age_us;

        ck_assert_uint_gt(age_us, 1000 * (lab.now_ms - begin_ms) / 5);
        ck_assert_uint_le(age_us, 1000 * (lab.now_ms - begin_ms));
    }
    lab_assert_equal();
}
END_TEST

START_TEST(no_time_is_counted_that_nobody_wants)
{
    lab_produce(1);
    lab_run(5000);
    ck_assert_uint_eq(fsm_ages(replica_fsm(lab.nodes[1].replica))->age_us, 0);
    keep_ms(10000);
    lab_run(2000);
    ck_assert_uint_gt(fsm_ages(replica_fsm(lab.nodes[1].replica))->age_us, 0);
    ck_assert_uint_le(fsm_ages(replica_fsm(lab.nodes[1].replica))->age_us, 2600 * 1000);
}
END_TEST

START_TEST(files_below_the_start_go_without_anybody_writing)
{
    uint64_t size;

    lab_produce(30);
    size = log_size(topic_of(1)->log);
    set(TOPIC_SETTING_RETENTION_RECORDS, (struct topic_settings){.retention_records = 4});
    lab_run(8 * INTERVAL_MS);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_lt(log_size(topic_of(i)->log), size / 2);
        ck_assert_uint_eq(log_passed_start(topic_of(i)->log), UINT64_MAX);
        ck_assert(!fsm_has_passed(replica_fsm(lab.nodes[i].replica)));
    }
    lab_assert_equal();
}
END_TEST

START_TEST(one_that_was_away_comes_to_the_same_start)
{
    set(TOPIC_SETTING_RETENTION_RECORDS, (struct topic_settings){.retention_records = 21});
    lab_leave_behind();
    lab_run(20 * INTERVAL_MS);
    ck_assert(lab_said("event=install_done"));
    ck_assert_uint_gt(start_of(3), 0);
    ck_assert_uint_eq(start_of(3), start_of(1));
    lab_assert_equal();
    restart_all(100);
    lab_run(2000);
    ck_assert_uint_eq(start_of(3), start_of(1));
    ck_assert_uint_eq(log_end(topic_of(3)->log) - start_of(3), 21);
    lab_assert_equal();
}
END_TEST

/* Each trim makes the hole of the one that was away smaller, or closes it. */
START_TEST(a_hole_that_is_trimmed_away_is_not_waited_for)
{
    struct topic_trim trim;

    lab.fill_rate = 1; /* so that it stays open */
    restart_all(0);
    lab_leave_behind();
    lab_run(3000);
    ck_assert_uint_gt(lab_status(3).holes, 0);
    ck_assert_int_eq(retention_trim_to(topic_of(1), log_end(topic_of(1)->log), &trim, NULL),
                     ERR_OK);
    (void)lab_propose(&(struct command){.type = COMMAND_TOPIC_TRIM, .trim = trim});
    lab_run(3000);
    ck_assert_uint_eq(lab_status(3).holes, 0);
    lab_assert_equal();
}
END_TEST

START_TEST(what_goes_next_is_foretold)
{
    struct topic_forecast next;

    lab_produce(9);
    lab_run(2 * INTERVAL_MS);
    topic_forecast_get(topic_of(1), &next);
    ck_assert_int_eq(next.bound, RETENTION_NONE);
    set(TOPIC_SETTING_RETENTION_RECORDS, (struct topic_settings){.retention_records = 25});
    lab_run(2 * INTERVAL_MS);
    topic_forecast_get(topic_of(1), &next);
    ck_assert_int_eq(next.bound, RETENTION_RECORDS);
    ck_assert_uint_eq(next.from, 0);
    ck_assert_uint_eq(next.to, 1);
    ck_assert_uint_eq(next.room, 5);
    set(TOPIC_SETTING_RETENTION_RECORDS | TOPIC_SETTING_RETENTION_MS,
        (struct topic_settings){.retention_ms = 60000});
    lab_run(10000);
    topic_forecast_get(topic_of(2), &next);
    ck_assert_int_eq(next.bound, RETENTION_AGE);
    ck_assert_uint_eq(next.to, 2);
    ck_assert_uint_ge(next.in_ms, 50000 - 3 * INTERVAL_MS);
    ck_assert_uint_le(next.in_ms, 50000 + 3 * INTERVAL_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_retention");
    TCase *tcase = tcase_create("retention");

    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, by_records_exactly_so_many_stay_on_all_nodes);
    tcase_add_test(tcase, by_bytes_the_most_batches_that_fit_stay);
    tcase_add_test(tcase, by_age_nothing_goes_before_its_time_and_soon_after_it);
    tcase_add_test(tcase, clocks_that_jump_delete_nothing_early_nor_keep_anything);
    tcase_add_test(tcase, a_program_that_goes_by_wall_clocks_deletes_early);
    tcase_add_test(tcase, time_while_the_cluster_is_off_does_not_count);
    tcase_add_test(tcase, leaders_that_change_never_count_time_twice);
    tcase_add_test(tcase, no_time_is_counted_that_nobody_wants);
    tcase_add_test(tcase, files_below_the_start_go_without_anybody_writing);
    tcase_add_test(tcase, one_that_was_away_comes_to_the_same_start);
    tcase_add_test(tcase, a_hole_that_is_trimmed_away_is_not_waited_for);
    tcase_add_test(tcase, what_goes_next_is_foretold);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
