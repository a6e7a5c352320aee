/* The offset of a time, with and without an index of times. */
#include <check.h>

#include "lib/runner.h"
#include "lookup/lookup_lab.h"
#include "raft_fsm/catalog.h"
#include "server/seek.h"

enum { BATCHES = 400 };

static struct lab lab;
static struct lab_topic topic;

static void setup(void)
{
    lab_init(&lab, 7);
    lab_topic_init(&lab, &topic, 1, "t");
}

static void teardown(void)
{
    lab_fini(&lab);
    lab_topic_fini(&topic);
}

static void append(unsigned batches)
{
    for (unsigned i = 0; i < batches; i++) {
        lab_append(&lab, &topic, 1 + (unsigned)lab_random(&lab, 5), 10);
    }
}

/* What brute force finds. */
static uint64_t expected(int64_t time_us)
{
    uint64_t offset = log_start(topic.log);

    while (offset < topic.end && topic.records[offset].time_us < time_us) {
        offset++;
    }
    return offset;
}

static void expect(int64_t time_us, struct lookup *lookup)
{
    struct seek seek = {.log = topic.log,
                        .topic = topic.topic,
                        .lookup = lookup,
                        .by_time = true,
                        .time_us = time_us};

    seek_run(&seek);
    ck_assert_int_eq(seek.err, ERR_OK);
    ck_assert_uint_eq(seek.offset, expected(time_us));
    seek_fini(&seek);
}

static void expect_all_times(struct lookup *lookup)
{
    expect(0, lookup);
    expect(1, lookup);
    expect(INT64_MAX, lookup);
    for (uint64_t offset = log_start(topic.log); offset < topic.end; offset++) {
        expect(topic.records[offset].time_us, lookup);
        expect(topic.records[offset].time_us + 1, lookup);
    }
}

START_TEST(an_empty_topic_has_its_end)
{
    lab_set_indexes(&topic, TOPIC_INDEX_TIME);
    lab_start(&lab);
    expect(0, lab.lookup);
    expect(5, lab.lookup);
}
END_TEST

START_TEST(every_time_is_found_whatever_is_indexed)
{
    append(BATCHES);
    expect_all_times(NULL);
    lab_set_indexes(&topic, _i == 0 ? 0 : TOPIC_INDEX_TIME);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    expect_all_times(lab.lookup);
    append(20); /* Perhaps not indexed yet. */
    expect_all_times(lab.lookup);
    ck_assert_int_eq(log_truncate_front(topic.log, topic.end / 3, NULL), ERR_OK);
    expect_all_times(lab.lookup);
}
END_TEST

START_TEST(the_index_is_asked)
{
    struct lookup_stats before;
    struct lookup_stats after;

    append(BATCHES);
    lab_set_indexes(&topic, TOPIC_INDEX_TIME);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    lookup_stats(lab.lookup, &before);
    expect(topic.records[topic.end / 2].time_us, lab.lookup);
    lookup_stats(lab.lookup, &after);
    ck_assert_uint_eq(after.questions, before.questions + 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("seek");
    TCase *tcase = tcase_create("time");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_empty_topic_has_its_end);
    tcase_add_loop_test(tcase, every_time_is_found_whatever_is_indexed, 0, 2);
    tcase_add_test(tcase, the_index_is_asked);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
