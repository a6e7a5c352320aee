/*
 * How far the leader of a cluster of three lets compacted topics be cleaned, and when tombstones may
 * go. No node cleans anything here: the tests say how far they came.
 */
#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "replica_lab.h"

enum { ROUND_MS = 500 };

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static void setup(void)
{
    lab_init();
    lab.retention_interval_ms = ROUND_MS;
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

static void run_rounds(unsigned rounds)
{
    lab_run(rounds * ROUND_MS);
}

static void set(bool compact, uint64_t tombstone_ms)
{
    lab_alter(&(struct topic_change){.which = TOPIC_SETTING_COMPACT | TOPIC_SETTING_TOMBSTONE_MS,
                                     .to = {.compact = compact, .tombstone_ms = tombstone_ms}});
}

static struct topic *topic_of(unsigned id)
{
    return catalog_peek_id(replica_catalog(lab.nodes[id].replica), lab.topic_id);
}

static uint64_t clean_to(unsigned id)
{
    return topic_of(id)->clean.clean_to;
}

static uint64_t tombstones(unsigned id)
{
    return topic_of(id)->clean.tombstones_below;
}

static void set_cleaned(unsigned id)
{
    atomic_store(&topic_of(id)->cleaned_to, clean_to(id));
}

static void set_all_cleaned(void)
{
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        set_cleaned(i);
    }
}

static struct topic_compaction told(unsigned id)
{
    struct topic_compaction compaction;

    topic_compaction_get(topic_of(id), &compaction);
    return compaction;
}

static unsigned follower(void)
{
    return lab_leader()->id == 1 ? 2 : 1;
}

/* ---- clean_to ---- */

START_TEST(what_is_sealed_and_in_a_snapshot_is_to_be_cleaned)
{
    struct log_extent extent;
    struct topic *topic;

    lab_produce(40);
    set(true, 0);
    run_rounds(3);
    topic = topic_of(lab_leader()->id);
    ck_assert_uint_gt(topic->clean.clean_to, 0);
    ck_assert_uint_lt(topic->clean.clean_to, topic->end);
    ck_assert_int_eq(log_extent_at(topic->log, topic->clean.clean_to, &extent, NULL), ERR_OK);
    ck_assert_uint_eq(extent.base_offset, topic->clean.clean_to);
    ck_assert(!extent.sealed); /* All that is. */
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(clean_to(i), topic->clean.clean_to);
        ck_assert_uint_eq(tombstones(i), 0);
    }
    ck_assert(lab_said("event=compaction"));
}
END_TEST

START_TEST(nothing_is_cleaned_where_the_setting_says_no)
{
    uint64_t before;

    lab_produce(40);
    run_rounds(15);
    ck_assert_uint_eq(clean_to(1), 0);
    set(true, 0);
    run_rounds(3);
    before = clean_to(1);
    ck_assert_uint_gt(before, 0);
    set(false, 0);
    lab_produce(80);
    run_rounds(15);
    ck_assert_uint_eq(clean_to(1), before);
    ck_assert_int_eq(told(1).next, COMPACTION_NOTHING);
}
END_TEST

START_TEST(what_is_half_of_all_does_not_wait)
{
    uint64_t before;

    lab_produce(40);
    set(true, 0);
    run_rounds(3);
    before = clean_to(1);
    lab_produce(50);
    run_rounds(3);
    ck_assert_uint_gt(clean_to(1), before + 80);
}
END_TEST

START_TEST(what_is_little_waits_for_more_or_for_long)
{
    uint64_t before;

    lab_produce(40);
    set(true, 0);
    run_rounds(3);
    before = clean_to(1);
    ck_assert_uint_gt(before, 0);
    lab_produce(10);
    set_all_cleaned();
    run_rounds(6);
    ck_assert_uint_eq(clean_to(1), before);
    ck_assert_int_eq(told(1).next, COMPACTION_DIRTY);
    ck_assert_uint_gt(told(1).to, before);
    ck_assert_uint_gt(told(1).in_ms, 0);
    ck_assert_uint_le(told(1).in_ms, 5 * ROUND_MS);
    run_rounds(7);
    ck_assert_uint_gt(clean_to(1), before);
}
END_TEST

/* Nobody writes, so that no snapshot is taken but for this. */
START_TEST(where_only_the_snapshot_is_missing_it_is_taken)
{
    lab_produce(6);
    ck_assert_uint_eq(lab_status(lab_leader()->id).snapshot_index, 0);
    set(true, 0);
    run_rounds(4);
    ck_assert_uint_gt(lab_status(lab_leader()->id).snapshot_index, 0);
    ck_assert_uint_eq(clean_to(1), 10); /* five batches in a file */
}
END_TEST

START_TEST(what_is_in_a_file_that_still_takes_batches_waits)
{
    set(true, 0);
    run_rounds(12);
    ck_assert_uint_eq(clean_to(1), 0); /* Its one batch is in the active segment. */
    ck_assert_int_eq(told(1).next, COMPACTION_SEALED);
    ck_assert_uint_eq(told(1).dirty_records, topic_of(1)->end);
    ck_assert_uint_eq(told(1).dirty_bytes, log_size(topic_of(1)->log));
}
END_TEST

/* ---- tombstones ---- */

/* Cleaned so far by the leader's decision; tombstones are old enough. */
static void clean_some(uint64_t tombstone_ms)
{
    lab_produce(40);
    set(true, tombstone_ms);
    run_rounds(8); /* What was held back at opening is over, too. */
    ck_assert_uint_gt(clean_to(1), 0);
    ck_assert_uint_eq(tombstones(1), 0);
}

START_TEST(tombstones_wait_until_all_members_are_clean_for_a_while)
{
    clean_some(1);
    set_cleaned(1);
    set_cleaned(2);
    run_rounds(25);
    ck_assert_uint_eq(tombstones(1), 0);
    set_cleaned(3);
    run_rounds(7);
    ck_assert_uint_eq(tombstones(1), 0);
    run_rounds(6);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(tombstones(i), clean_to(i));
    }
    ck_assert_int_eq(told(1).next, COMPACTION_SEALED);
}
END_TEST

START_TEST(tombstones_wait_until_they_are_old)
{
    clean_some(40 * ROUND_MS);
    set_all_cleaned();
    run_rounds(28);
    ck_assert_uint_eq(tombstones(1), 0);
    run_rounds(20);
    ck_assert_uint_eq(tombstones(1), clean_to(1));
}
END_TEST

START_TEST(tombstones_wait_for_a_day_where_nothing_else_is_said)
{
    clean_some(0);
    set_all_cleaned();
    run_rounds(40);
    ck_assert_uint_eq(tombstones(1), 0);
}
END_TEST

START_TEST(a_member_that_is_not_heard_keeps_tombstones)
{
    unsigned away = follower();

    clean_some(1);
    set_all_cleaned();
    run_rounds(5);
    lab.nodes[away].cut = true;
    run_rounds(30);
    ck_assert_uint_eq(tombstones(lab_leader()->id), 0);
    lab.nodes[away].cut = false;
    run_rounds(4);
    ck_assert_uint_eq(tombstones(lab_leader()->id), 0); /* Anew from the beginning. */
    run_rounds(20);
    ck_assert_uint_gt(tombstones(lab_leader()->id), 0);
}
END_TEST

/* Whatever it tells afterwards: it was given something that may not have been clean. */
START_TEST(a_copy_that_was_filled_up_is_not_clean_for_a_while)
{
    unsigned filled = follower();

    clean_some(1);
    set_all_cleaned();
    run_rounds(6);
    topic_of(filled)->cleaned.changes++; /* A hole came, was filled, and all was cleaned again. */
    run_rounds(12);
    ck_assert_uint_eq(tombstones(1), 0);
    run_rounds(6);
    ck_assert_uint_gt(tombstones(1), 0);
}
END_TEST

static bool lose_reports(struct message *message)
{
    static unsigned count;

    return message->type != MESSAGE_CLEANED || ++count % 3 == 0;
}

START_TEST(some_reports_that_are_lost_do_no_harm)
{
    lab.filter = lose_reports;
    clean_some(1);
    set_all_cleaned();
    run_rounds(25);
    ck_assert_uint_gt(tombstones(1), 0);
}
END_TEST

START_TEST(a_new_leader_hears_all_members_anew)
{
    unsigned old = lab_leader()->id;

    clean_some(1);
    set_all_cleaned();
    run_rounds(6);
    lab.nodes[old].cut = true;
    lab_run_until(has_leader);
    lab.nodes[old].cut = false;
    run_rounds(6);
    ck_assert_uint_eq(tombstones(lab_leader()->id), 0);
    run_rounds(12);
    ck_assert_uint_gt(tombstones(lab_leader()->id), 0);
}
END_TEST

/* A stranger; somebody of another term; of a topic that is not there. */
START_TEST(reports_of_no_member_of_this_term_are_passed_over)
{
    struct replica *leader;
    struct message message = {.type = MESSAGE_CLEANED, .cleaned = {.topic_id = lab.topic_id}};
    struct err_info info;

    clean_some(1);
    leader = lab_leader()->replica;
    for (unsigned i = 0; i < 60; i++) {
        set_all_cleaned();
        message.to = lab_leader()->id;
        message.term = raft_driver_term(replica_driver(leader));
        message.cleaned.topic_id = lab.topic_id;
        message.from = 100 + i; /* no member: more than there is room for */
        ck_assert_int_eq(replica_receive(leader, &message, &info), ERR_OK);
        message.from = follower();
        message.term--;
        ck_assert_int_eq(replica_receive(leader, &message, &info), ERR_OK);
        message.term++;
        message.cleaned.topic_id = 77;
        ck_assert_int_eq(replica_receive(leader, &message, &info), ERR_OK);
        lab_run(ROUND_MS / 3);
    }
    ck_assert_uint_gt(tombstones(1), 0); /* None of it says that somebody is not clean. */
}
END_TEST

START_TEST(what_was_decided_outlives_a_restart)
{
    uint64_t before;

    clean_some(1);
    set_all_cleaned();
    run_rounds(20);
    before = tombstones(1);
    ck_assert_uint_gt(before, 0);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab_stop(i);
    }
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab_start(i);
    }
    lab_run_until(has_leader);
    lab_run(500);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(tombstones(i), before);
        ck_assert_uint_ge(clean_to(i), before);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_compact_lead");
    TCase *clean = tcase_create("clean_to");
    TCase *dead = tcase_create("tombstones");

    tcase_set_timeout(clean, 100);
    tcase_set_timeout(dead, 100);
    tcase_add_checked_fixture(clean, setup, teardown);
    tcase_add_checked_fixture(dead, setup, teardown);
    tcase_add_test(clean, what_is_sealed_and_in_a_snapshot_is_to_be_cleaned);
    tcase_add_test(clean, nothing_is_cleaned_where_the_setting_says_no);
    tcase_add_test(clean, what_is_half_of_all_does_not_wait);
    tcase_add_test(clean, what_is_little_waits_for_more_or_for_long);
    tcase_add_test(clean, where_only_the_snapshot_is_missing_it_is_taken);
    tcase_add_test(clean,
                   what_is_in_a_file_that_still_takes_batches_waits);
    suite_add_tcase(suite, clean);
    tcase_add_test(dead, tombstones_wait_until_all_members_are_clean_for_a_while);
    tcase_add_test(dead, tombstones_wait_until_they_are_old);
    tcase_add_test(dead, tombstones_wait_for_a_day_where_nothing_else_is_said);
    tcase_add_test(dead, a_member_that_is_not_heard_keeps_tombstones);
    tcase_add_test(dead, a_copy_that_was_filled_up_is_not_clean_for_a_while);
    tcase_add_test(dead, some_reports_that_are_lost_do_no_harm);
    tcase_add_test(dead, a_new_leader_hears_all_members_anew);
    tcase_add_test(dead, reports_of_no_member_of_this_term_are_passed_over);
    tcase_add_test(dead, what_was_decided_outlives_a_restart);
    suite_add_tcase(suite, dead);
    return runner_main(suite);
}
