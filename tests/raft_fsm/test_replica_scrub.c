/*
 * Damage in the files of a replica that runs: found by reading everything again, or told by a read,
 * and repaired from the other two.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "lib/runner.h"
#include "replica_lab.h"

enum { NODE = 3, RATE = 1 << 20 };

static char found[512]; /* path of the topic's first store file */
static uint64_t found_size;

static void look_at_file(void *arg, const char *path, uint64_t size)
{
    (void)arg;
    if (found[0] == '\0' && strstr(path, ".store") != NULL && strstr(path, ".tmp") == NULL) {
        (void)snprintf(found, sizeof found, "%s", path);
        found_size = size;
    }
}

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static void start(uint64_t rate)
{
    lab_init();
    lab.scrub_rate = rate;
    lab_stop(NODE);
    lab_start(NODE);
    lab_run_until(has_leader);
    lab_produce(60);
    lab_run(1000);
    lab_assert_equal();
    found[0] = '\0';
    mem_io_files(&lab.nodes[NODE].disk, look_at_file, NULL);
    ck_assert_msg(found[0] != '\0', "no store file on node 3");
}

static void damage(void)
{
    ck_assert_int_eq(mem_io_flip(&lab.nodes[NODE].disk, found, found_size / 2, 3), 0);
}

static bool is_found(void)
{
    return lab_status(NODE).scrub_damage > 0;
}

static bool is_repaired(void)
{
    return lab_status(NODE).holes == 0 && lab_said("event=hole_filled");
}

static bool has_passed(void)
{
    return lab_status(NODE).scrub_passed_ms > 0;
}

START_TEST(the_scrubber_finds_damage_and_the_others_repair_it)
{
    start(RATE);
    damage();
    lab_run_until(is_found);
    ck_assert(lab_said("found_by=scrub"));
    ck_assert(lab_said("position"));
    lab_run_until(is_repaired);
    lab_assert_equal();
    lab_fini();
}
END_TEST

START_TEST(what_a_read_reports_is_looked_at_also_when_scrubbing_is_off)
{
    start(0);
    damage();
    lab_run(30000);
    ck_assert_uint_eq(lab_status(NODE).scrub_damage, 0);
    ck_assert_uint_eq(lab_status(NODE).scrub_bytes, 0);
    replica_report_damage(lab.nodes[NODE].replica, lab.topic_id, 0);
    lab_run_until(is_found);
    ck_assert(lab_said("found_by=read"));
    lab_run_until(is_repaired);
    lab_assert_equal();
    lab_fini();
}
END_TEST

START_TEST(a_report_of_what_is_whole_or_unknown_changes_nothing)
{
    start(0);
    replica_report_damage(lab.nodes[NODE].replica, lab.topic_id, 0);
    replica_report_damage(lab.nodes[NODE].replica, lab.topic_id, UINT64_MAX - 1);
    replica_report_damage(lab.nodes[NODE].replica, 4711, 0);
    lab_run(1000);
    ck_assert_uint_gt(lab_status(NODE).scrub_batches, 0);
    ck_assert_uint_eq(lab_status(NODE).scrub_damage, 0);
    ck_assert_uint_eq(lab_status(NODE).holes, 0);
    lab_assert_equal();
    lab_fini();
}
END_TEST

START_TEST(passes_read_all_of_it_at_the_rate_that_is_set)
{
    uint64_t begin_ms;
    uint64_t bytes;

    start(RATE);
    lab_run_until(has_passed);
    lab_run(12000); /* The first pass may have been before there was anything. */
    bytes = lab_status(NODE).scrub_bytes;
    ck_assert_uint_ge(bytes + 32, found_size);
    begin_ms = lab.now_ms;
    lab_run(30000);
    bytes = lab_status(NODE).scrub_bytes - bytes;
    ck_assert_uint_gt(bytes, 0); /* again and again */
    ck_assert_uint_le(bytes, (lab.now_ms - begin_ms) * RATE / 1000 + (256 << 10));
    ck_assert_uint_eq(lab_status(NODE).scrub_damage, 0);
    lab_fini();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_scrub");
    TCase *tcase = tcase_create("scrub");

    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, the_scrubber_finds_damage_and_the_others_repair_it);
    tcase_add_test(tcase, what_a_read_reports_is_looked_at_also_when_scrubbing_is_off);
    tcase_add_test(tcase, a_report_of_what_is_whole_or_unknown_changes_nothing);
    tcase_add_test(tcase, passes_read_all_of_it_at_the_rate_that_is_set);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
