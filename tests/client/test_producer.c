/* A producer against the scripted cluster: what the topic holds at the end is what counts. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/fixture.h"
#include "lib/runner.h"
#include "log/batch.h"

enum { REPORTS_MAX = 4096 };

/* What was reported, in order. */
static struct {
    unsigned count;
    struct producer_report reports[REPORTS_MAX];
    struct client_error errors[REPORTS_MAX];
    uint64_t records;
    bool free_at_first;
} reported;
static struct producer *producer;
static unsigned sent;

static void on_report(void *arg, const struct producer_report *report)
{
    ck_assert_ptr_eq(arg, &reported);
    ck_assert_uint_lt(reported.count, REPORTS_MAX);
    ck_assert_uint_eq(report->first, reported.records);
    ck_assert_ptr_nonnull(report->error->text);
    reported.reports[reported.count] = *report;
    reported.errors[reported.count] = *report->error;
    reported.count++;
    reported.records += report->count;
    if (reported.free_at_first) {
        reported.free_at_first = false;
        producer_free(producer);
        producer = NULL;
    }
}

static void setup(void)
{
    fixture_setup();
    memset(&reported, 0, sizeof reported);
    producer = NULL;
    sent = 0;
}

static void teardown(void)
{
    if (producer != NULL) {
        producer_free(producer);
    }
    fixture_teardown();
}

/* A producer of batches of one record each, unless told otherwise. */
static void start(bool both, struct producer_options options)
{
    options.topic = "t";
    fixture_connect(both, 0);
    ck_assert_int_eq(producer_new(f.client, &options, on_report, &reported, &producer), ERR_OK);
}

static enum err try_send(void)
{
    char value[32];
    struct record record = {.value = value};
    enum err err;

    record.value_size = (size_t)snprintf(value, sizeof value, "r%u", sent);
    err = producer_send(producer, &record);
    sent += err == ERR_OK;
    return err;
}

static void send_some(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(try_send(), ERR_OK);
    }
}

static bool all_is_reported(void *arg)
{
    (void)arg;
    return reported.records == sent;
}

static void wait_for_all(void)
{
    loop_run_until_true(&f.loop, all_is_reported, NULL);
}

static bool two_are_held(void *arg)
{
    (void)arg;
    return fake_node_held(f.one) == 2;
}

static bool something_is_held(void *arg)
{
    (void)arg;
    return fake_node_held(f.one) > 0;
}

/* Every record is there once and in order, and the reports say where. */
static void check_all_written_once(void)
{
    char value[32];

    ck_assert_uint_eq(f.topic->end, sent);
    for (unsigned i = 0; i < reported.count; i++) {
        const struct producer_report *report = &reported.reports[i];

        ck_assert_msg(reported.errors[i].err == ERR_OK, "report %u: %s", i,
                      err_name(reported.errors[i].err));
        ck_assert_uint_eq(report->offset, report->first);
    }
    for (unsigned i = 0; i < sent; i++) {
        (void)snprintf(value, sizeof value, "r%u", i);
        ck_assert_str_eq(fake_topic_value(f.topic, i), value);
    }
}

START_TEST(compressed_batches_hold_the_same_records)
{
    struct batch_header header;

    start(false, (struct producer_options){.compression = _i == 1 ? CLIENT_COMPRESSION_LZ4
                                                                  : CLIENT_COMPRESSION_ZSTD,
                                           .linger_ms = 5});
    send_some(500);
    producer_flush(producer);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(f.topic->batch_count, 1);
    ck_assert_int_eq(batch_header_decode(f.topic->batches[0].bytes, UINT32_MAX, &header, NULL),
                     ERR_OK);
    ck_assert_uint_eq(header.attributes, (unsigned)_i);
    ck_assert_uint_eq(reported.reports[0].sent_size, header.size - BATCH_HEADER_SIZE);
    ck_assert_uint_gt(reported.reports[0].plain_size, 500 * 4);
    ck_assert_uint_lt(reported.reports[0].sent_size, reported.reports[0].plain_size);
}
END_TEST

START_TEST(batch_that_does_not_shrink_is_sent_as_it_is)
{
    struct batch_header header;

    start(false, (struct producer_options){.compression = CLIENT_COMPRESSION_ZSTD});
    send_some(1);
    wait_for_all();
    check_all_written_once();
    ck_assert_int_eq(batch_header_decode(f.topic->batches[0].bytes, UINT32_MAX, &header, NULL),
                     ERR_OK);
    ck_assert_uint_eq(header.attributes, 0);
    ck_assert_uint_eq(reported.reports[0].sent_size, reported.reports[0].plain_size);
}
END_TEST

static unsigned attributes_of(size_t index)
{
    struct batch_header header;

    ck_assert_uint_lt(index, f.topic->batch_count);
    ck_assert_int_eq(batch_header_decode(f.topic->batches[index].bytes, UINT32_MAX, &header, NULL),
                     ERR_OK);
    return header.attributes;
}

static void send_batch_of_many(void)
{
    send_some(500);
    producer_flush(producer);
    wait_for_all();
}

START_TEST(who_wishes_nothing_compresses_as_the_topic_says_now)
{
    f.cluster.compression = 1;
    start(false, (struct producer_options){.linger_ms = 5});
    send_batch_of_many();
    ck_assert_uint_eq(attributes_of(0), 1); /* The first one, too. */
    f.cluster.compression = 2;
    send_batch_of_many(); /* Its answer tells. */
    send_batch_of_many();
    ck_assert_uint_eq(attributes_of(f.topic->batch_count - 1), 2);
    f.cluster.compression = 77; /* Of a later release. */
    send_batch_of_many();
    send_batch_of_many();
    ck_assert_uint_eq(attributes_of(f.topic->batch_count - 1), 0);
    check_all_written_once();
}
END_TEST

START_TEST(wish_for_none_is_kept)
{
    f.cluster.compression = 1;
    start(false, (struct producer_options){.compression = CLIENT_COMPRESSION_NONE});
    send_batch_of_many();
    send_batch_of_many();
    for (size_t i = 0; i < f.topic->batch_count; i++) {
        ck_assert_uint_eq(attributes_of(i), 0);
    }
    check_all_written_once();
}
END_TEST

START_TEST(names_of_compression_are_those_of_codecs)
{
    enum client_compression compression = CLIENT_COMPRESSION_DEFAULT;

    ck_assert(client_compression_parse("none", &compression));
    ck_assert_int_eq((int)compression, CLIENT_COMPRESSION_NONE);
    ck_assert(client_compression_parse("lz4", &compression));
    ck_assert_int_eq((int)compression, CLIENT_COMPRESSION_LZ4);
    ck_assert(client_compression_parse("zstd", &compression));
    ck_assert_int_eq((int)compression, CLIENT_COMPRESSION_ZSTD);
    ck_assert(!client_compression_parse("gzip", &compression));
}
END_TEST

static void script(struct fake_node *node, enum fake_action action, enum err err, unsigned times)
{
    fake_node_script(
        node,
        &(struct fake_rule){.type = TYPE(PRODUCE), .action = action, .err = err, .times = times});
}

/* ---- new ---- */

START_TEST(options_out_of_bounds_are_invalid)
{
    static const struct producer_options wrong[] = {
        {.topic = NULL},
        {.topic = ""},
        {.topic = "t", .inflight_max = 65},
        {.topic = "t", .has_expect = true, .no_idempotence = true},
        {.topic = "t", .identity = {.id = 1}, .no_idempotence = true},
        {.topic = "t", .batch_size_max = 2000, .buffer_size_max = 1000},
    };

    fixture_connect(false, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(producer_new(f.client, &wrong[i], on_report, &reported, &producer),
                         ERR_INVALID);
    }
    producer = NULL;
}
END_TEST

/* ---- send ---- */

START_TEST(records_of_one_turn_go_in_one_batch)
{
    start(false, (struct producer_options){0});
    send_some(100);
    ck_assert_uint_eq(reported.count, 0);
    ck_assert_uint_eq(producer_pending(producer), 100);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(reported.count, 1);
    ck_assert_uint_eq(producer_pending(producer), 0);
    ck_assert_uint_eq(reported.reports[0].term, 3);
    ck_assert_uint_eq(reported.reports[0].raft_index, 1);
    ck_assert_uint_gt(reported.reports[0].latency_ns, 0);
    ck_assert(!reported.reports[0].duplicate);
}
END_TEST

START_TEST(batches_end_at_their_bounds)
{
    start(false, (struct producer_options){.batch_records_max = 3, .batch_size_max = 1000});
    send_some(10);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(reported.count, 4);
    ck_assert_uint_eq(reported.reports[0].count, 3);
    ck_assert_uint_eq(reported.reports[3].count, 1);
}
END_TEST

START_TEST(size_ends_a_batch)
{
    start(false, (struct producer_options){.batch_size_max = 64});
    send_some(100);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_gt(reported.count, 5);
}
END_TEST

START_TEST(record_that_no_batch_can_hold_is_too_large)
{
    static char value[2000];
    struct record record = {.value = value, .value_size = sizeof value};

    start(false, (struct producer_options){.batch_size_max = 1000});
    send_some(1);
    ck_assert_int_eq(producer_send(producer, &record), ERR_TOO_LARGE);
    send_some(1);
    wait_for_all();
    check_all_written_once();
}
END_TEST

START_TEST(full_buffer_is_busy_until_a_report)
{
    unsigned before;

    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 64);
    start(false, (struct producer_options){.batch_size_max = 64, .buffer_size_max = 6000});
    while (try_send() == ERR_OK) {
        ck_assert_uint_lt(sent, 10000);
    }
    ck_assert_int_eq(try_send(), ERR_BUSY);
    before = sent;
    while (!all_is_reported(NULL)) {
        fake_node_release(f.one);
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    send_some(1);
    ck_assert_uint_eq(sent, before + 1);
    while (!all_is_reported(NULL)) {
        fake_node_release(f.one);
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    check_all_written_once();
}
END_TEST

START_TEST(no_more_batches_than_the_window_are_under_way)
{
    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 100);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 2});
    send_some(10);
    loop_run_until_true(&f.loop, two_are_held, NULL);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(fake_node_held(f.one), 2);
    while (!all_is_reported(NULL)) {
        fake_node_release(f.one);
        (void)uv_run(&f.loop, UV_RUN_ONCE);
        ck_assert_uint_le(fake_node_held(f.one), 2);
    }
    check_all_written_once();
}
END_TEST

START_TEST(answers_out_of_order_are_reported_in_order)
{
    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 2);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 2});
    send_some(2);
    loop_run_until_true(&f.loop, two_are_held, NULL);
    fake_node_release(f.one); /* the newest first; on_report checks the order */
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(reported.count, 2);
}
END_TEST

START_TEST(linger_gathers_while_others_are_under_way_and_flush_ends_it)
{
    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.linger_ms = 100000});
    send_some(1); /* Nothing is under way: it goes at once. */
    loop_run_until_true(&f.loop, something_is_held, NULL);
    send_some(5);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(f.cluster.produces, 1);
    producer_flush(producer);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(f.cluster.produces, 2);
    fake_node_release(f.one);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(reported.count, 2);
}
END_TEST

/* ---- failures that are healed ---- */

START_TEST(lost_connection_with_batches_under_way_loses_and_repeats_nothing)
{
    /* Some are applied without an answer, the rest of that connection not at all. */
    for (int i = 0; i < _i; i++) {
        script(f.one, FAKE_APPLY_HOLD, ERR_OK, 1);
    }
    script(f.one, FAKE_APPLY_DROP, ERR_OK, 1);
    start(true, (struct producer_options){.batch_records_max = 2, .inflight_max = 8});
    send_some(40);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(reported.count, 20);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(reported.reports[i].duplicate, i <= (unsigned)_i);
    }
    ck_assert_uint_eq(f.cluster.inits, 1);
    ck_assert_uint_gt(fake_node_seen(f.two, TYPE(PRODUCE)), 0);
}
END_TEST

START_TEST(refused_batch_and_those_after_it_go_again_in_order)
{
    static const enum err errs[] = {ERR_BUSY, ERR_NO_LEADER, ERR_NOT_LEADER, ERR_NOSPACE};

    script(f.one, FAKE_ANSWER, ERR_OK, 1);
    script(f.one, FAKE_ERROR, errs[_i], 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 8});
    send_some(20);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(f.cluster.inits, 1);
    /* The others of that round were refused for the gap. */
    ck_assert_uint_gt(f.cluster.produces, 20);
    ck_assert_uint_eq(producer_retries(producer, errs[_i]), 1);
    ck_assert_uint_eq(producer_retries(producer, ERR_SEQUENCE_GAP), f.cluster.produces - 20);
    ck_assert_uint_eq(producer_retries(producer, ERR_OK), 0);
}
END_TEST

START_TEST(answer_to_an_old_gap_that_comes_late_does_no_harm)
{
    /* The first is refused and goes again; the second's SEQUENCE_GAP is still on its way when the
     * first is written. */
    script(f.one, FAKE_ERROR, ERR_BUSY, 1);
    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 2});
    send_some(2);
    while (reported.records == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(fake_node_held(f.one), 1);
    fake_node_release(f.one);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(f.cluster.inits, 1);
}
END_TEST

START_TEST(unknown_outcomes_are_resolved_by_trying_again)
{
    script(f.one, FAKE_APPLY_ERROR, ERR_LEADERSHIP_LOST, 1);
    script(f.one, FAKE_APPLY_ERROR, ERR_TIMEOUT, 1);
    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(PRODUCE),
                                                .action = FAKE_ERROR,
                                                .err = ERR_LEADERSHIP_LOST,
                                                .unknown = true});
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 4});
    send_some(10);
    wait_for_all();
    check_all_written_once();
    ck_assert(reported.reports[0].duplicate);
    ck_assert(reported.reports[1].duplicate);
    ck_assert(!reported.reports[2].duplicate);
}
END_TEST

START_TEST(garbage_for_an_answer_is_no_loss)
{
    static const enum fake_action actions[] = {FAKE_GARBAGE, FAKE_WRONG_TYPE, FAKE_WRONG_ID};

    script(f.one, FAKE_ANSWER, ERR_OK, 2);
    script(f.one, actions[_i], ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 4});
    send_some(10);
    wait_for_all();
    check_all_written_once();
    ck_assert(reported.reports[2].duplicate);
    ck_assert_uint_eq(fake_node_accepted(f.one), 2);
}
END_TEST

START_TEST(lost_answer_to_the_question_for_an_id_is_asked_again)
{
    fake_node_script(f.one,
                     &(struct fake_rule){.type = TYPE(INIT_PRODUCER), .action = FAKE_APPLY_DROP});
    start(true, (struct producer_options){0});
    send_some(3);
    wait_for_all();
    check_all_written_once();
    ck_assert_uint_eq(f.cluster.inits, 2);
}
END_TEST

START_TEST(node_that_cannot_reach_the_leader_is_left)
{
    fake_node_settings(f.one)->leaderless = true;
    start(true, (struct producer_options){0});
    fixture_hurry();
    send_some(3);
    wait_for_all();
    check_all_written_once();
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(node_that_keeps_batches_to_itself_is_left)
{
    script(f.one, FAKE_HOLD, ERR_OK, 100);
    start(true, (struct producer_options){.batch_records_max = 1});
    fixture_hurry();
    send_some(3);
    wait_for_all();
    check_all_written_once();
    ck_assert_str_eq(client_server(f.client), fake_node_address(f.two));
}
END_TEST

START_TEST(any_mix_of_failures_ends_with_each_record_once)
{
    static const enum fake_action actions[] = {
        FAKE_ANSWER, FAKE_ANSWER,     FAKE_ANSWER,     FAKE_ERROR,   FAKE_APPLY_ERROR,
        FAKE_DROP,   FAKE_APPLY_DROP, FAKE_WRONG_TYPE, FAKE_GARBAGE,
    };
    static const enum err errs[] = {ERR_BUSY, ERR_NO_LEADER, ERR_LEADERSHIP_LOST};
    unsigned random = 12345 + (unsigned)_i;

    for (int i = 0; i < 20; i++) {
        random = random * 1103515245 + 12345;
        script(i % 2 == 0 ? f.one : f.two, actions[(random >> 16) % 9], errs[(random >> 20) % 3],
               1);
    }
    start(true, (struct producer_options){.batch_records_max = 1, .inflight_max = 16});
    send_some(200);
    wait_for_all();
    check_all_written_once();
}
END_TEST

/* ---- failures that are reported ---- */

START_TEST(definite_failure_is_told_and_later_records_go_on)
{
    script(f.one, FAKE_ANSWER, ERR_OK, 1);
    script(f.one, FAKE_ERROR, ERR_TOO_LARGE, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 4});
    send_some(6);
    wait_for_all();
    ck_assert_uint_eq(reported.count, 6);
    ck_assert_int_eq(reported.errors[1].err, ERR_TOO_LARGE);
    ck_assert(!reported.errors[1].outcome_unknown);
    for (unsigned i = 2; i < 6; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_OK);
        ck_assert_uint_eq(reported.reports[i].offset, i - 1);
    }
    ck_assert_uint_eq(f.topic->end, 5);
    ck_assert_str_eq(fake_topic_value(f.topic, 1), "r2");
    ck_assert_uint_eq(f.cluster.inits, 1); /* All was answered: the numbers could be used again. */
}
END_TEST

START_TEST(definite_failure_with_lost_tries_behind_it_takes_a_new_id)
{
    script(f.one, FAKE_ANSWER, ERR_OK, 1);
    script(f.one, FAKE_ERROR, ERR_TOO_LARGE, 1);
    script(f.one, FAKE_DROP, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 4});
    send_some(6);
    wait_for_all();
    ck_assert_int_eq(reported.errors[1].err, ERR_TOO_LARGE);
    ck_assert_int_eq(reported.errors[5].err, ERR_OK);
    ck_assert_uint_eq(f.topic->end, 5);
    ck_assert_str_eq(fake_topic_value(f.topic, 4), "r5");
    ck_assert_uint_eq(f.cluster.inits, 2);
}
END_TEST

START_TEST(unknown_producer_is_a_definite_failure_and_a_new_id_follows)
{
    script(f.one, FAKE_ERROR, ERR_PRODUCER_UNKNOWN, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 4});
    send_some(3);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_PRODUCER_UNKNOWN);
    ck_assert(!reported.errors[0].outcome_unknown);
    ck_assert_int_eq(reported.errors[1].err, ERR_OK);
    ck_assert_int_eq(reported.errors[2].err, ERR_OK);
    ck_assert_uint_eq(f.topic->end, 2);
    ck_assert_uint_eq(f.cluster.inits, 2);
}
END_TEST

/* A gap says that something that was acknowledged is missing; a new id, or epoch, would hide it. */
START_TEST(gap_is_definite_and_ends_the_producer_without_a_new_id)
{
    script(f.one, FAKE_ANSWER, ERR_OK, 2);
    script(f.one, FAKE_ERROR, ERR_SEQUENCE_GAP, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 1});
    send_some(6);
    wait_for_all();
    for (unsigned i = 2; i < 6; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_SEQUENCE_GAP);
        ck_assert_int_eq(client_error_outcome(&reported.errors[i]), ERR_OUTCOME_NOT_WRITTEN);
    }
    ck_assert_int_eq(try_send(), ERR_FAILED);
    loop_run_for(&f.loop, 50);
    ck_assert_uint_eq(f.topic->end, 2);
    ck_assert_uint_eq(f.cluster.inits, 1);
}
END_TEST

START_TEST(reused_sequence_ends_the_producer_and_leaves_what_is_under_way_unknown)
{
    script(f.one, FAKE_ERROR, ERR_SEQUENCE_REUSED, 1);
    script(f.one, FAKE_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 2});
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(client_error_outcome(&reported.errors[0]), ERR_OUTCOME_NOT_WRITTEN);
    ck_assert_int_eq(reported.errors[1].err, ERR_SEQUENCE_REUSED);
    ck_assert_int_eq(client_error_outcome(&reported.errors[1]), ERR_OUTCOME_UNKNOWN);
    ck_assert_uint_eq(f.cluster.inits, 1);
}
END_TEST

START_TEST(acks_of_all_that_are_not_reached_are_written_with_an_error)
{
    f.cluster.unconfirmed = true;
    start(false, (struct producer_options){.batch_records_max = 1, .acks_all = _i == 0});
    send_some(2);
    wait_for_all();
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(reported.errors[i].err, _i == 0 ? ERR_NOT_CONFIRMED : ERR_OK);
        ck_assert_int_eq(client_error_outcome(&reported.errors[i]), ERR_OUTCOME_WRITTEN);
        ck_assert_uint_eq(reported.reports[i].offset, i);
        ck_assert_uint_eq(reported.reports[i].replicas, 2);
        ck_assert_uint_eq(reported.reports[i].voters, 3);
    }
    ck_assert_uint_eq(f.topic->end, 2);
    ck_assert_int_eq(try_send(), ERR_OK); /* It goes on. */
    wait_for_all();
}
END_TEST

START_TEST(expected_offsets_go_on_with_the_records)
{
    fake_topic_append(&f.cluster, f.topic, 7);
    start(false, (struct producer_options){
                     .batch_records_max = 2, .has_expect = true, .expect_offset = 7});
    send_some(10);
    wait_for_all();
    for (unsigned i = 0; i < reported.count; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_OK);
        ck_assert_uint_eq(reported.reports[i].offset, 7 + reported.reports[i].first);
    }
}
END_TEST

START_TEST(another_end_than_expected_is_definite_and_ends_the_producer)
{
    fake_topic_append(&f.cluster, f.topic, 3);
    start(false, (struct producer_options){
                     .batch_records_max = 1, .has_expect = true, .expect_offset = 2});
    send_some(3);
    wait_for_all();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_EXPECT_FAILED);
        ck_assert_int_eq(client_error_outcome(&reported.errors[i]), ERR_OUTCOME_NOT_WRITTEN);
    }
    ck_assert_uint_eq(reported.errors[0].log_end, 3);
    ck_assert_int_eq(try_send(), ERR_FAILED);
    ck_assert_uint_eq(f.topic->end, 3);
}
END_TEST

/* The first try is lost, and somebody else writes. */
START_TEST(lost_try_of_a_conditional_batch_is_resolved)
{
    script(f.one, _i == 0 ? FAKE_APPLY_DROP : FAKE_DROP, ERR_OK, 1);
    start(false,
          (struct producer_options){.batch_records_max = 1, .has_expect = true, .inflight_max = 1});
    send_some(1);
    while (fake_node_seen(f.one, TYPE(PRODUCE)) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    fake_topic_append(&f.cluster, f.topic, 5);
    wait_for_all();
    if (_i == 0) {
        ck_assert_int_eq(reported.errors[0].err, ERR_OK);
        ck_assert_uint_eq(reported.reports[0].offset, 0);
        ck_assert(reported.reports[0].duplicate);
    } else {
        ck_assert_int_eq(reported.errors[0].err, ERR_EXPECT_FAILED);
        ck_assert_int_eq(client_error_outcome(&reported.errors[0]), ERR_OUTCOME_NOT_WRITTEN);
    }
}
END_TEST

START_TEST(atomic_records_go_in_one_batch_at_the_flush)
{
    start(false, (struct producer_options){.atomic = true, .batch_size_max = 4000});
    send_some(100);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(f.cluster.produces, 0);
    producer_flush(producer);
    wait_for_all();
    ck_assert_uint_eq(f.cluster.produces, 1);
    ck_assert_uint_eq(reported.reports[0].count, 100);
    while (try_send() == ERR_OK) {
    }
    ck_assert_int_eq(try_send(), ERR_TOO_LARGE);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(f.topic->end, 100); /* Nothing of it. */
}
END_TEST

START_TEST(given_identity_is_used_and_any_failure_ends_it)
{
    struct producer_options options = {
        .batch_records_max = 1, .inflight_max = 1, .identity = {.id = 1, .epoch = 0}};

    start(false, (struct producer_options){.batch_records_max = 1});
    send_some(2); /* id 1, sequences 0 and 1 */
    wait_for_all();
    producer_free(producer);
    memset(&reported, 0, sizeof reported);
    sent = 0;
    options.topic = "t";
    options.identity.sequence = 2;
    ck_assert_int_eq(producer_new(f.client, &options, on_report, &reported, &producer), ERR_OK);
    script(f.one, FAKE_ANSWER, ERR_OK, 1);
    script(f.one, FAKE_ERROR, ERR_TOO_LARGE, 1);
    send_some(3);
    wait_for_all();
    ck_assert_uint_eq(f.cluster.inits, 1);
    ck_assert_int_eq(reported.errors[0].err, ERR_OK);
    ck_assert_uint_eq(reported.reports[0].offset, 2);
    ck_assert_int_eq(reported.errors[1].err, ERR_TOO_LARGE);
    ck_assert_int_eq(reported.errors[2].err, ERR_TOO_LARGE);
    ck_assert_int_eq(try_send(), ERR_FAILED);
    ck_assert_uint_eq(f.topic->end, 3);
}
END_TEST

static struct {
    bool done;
    enum err err;
} claimed;

static void on_claimed(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    (void)arg;
    (void)reply;
    (void)reply_size;
    claimed.done = true;
    claimed.err = error->err;
}

static enum err claim(const struct client_claim *what)
{
    claimed.done = false;
    ck_assert_int_eq(client_claim_producer(f.client, what, on_claimed, NULL), ERR_OK);
    loop_run_until(&f.loop, &claimed.done);
    return claimed.err;
}

START_TEST(claim_fences_the_older_producer)
{
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 1});
    send_some(1);
    wait_for_all();
    ck_assert_int_eq(claim(&(struct client_claim){.producer_id = 1, .topic = "t"}), ERR_OK);
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(reported.errors[1].err, ERR_FENCED);
    ck_assert_int_eq(reported.errors[2].err, ERR_FENCED);
    ck_assert_int_eq(client_error_outcome(&reported.errors[2]), ERR_OUTCOME_NOT_WRITTEN);
    ck_assert_int_eq(
        claim(&(struct client_claim){.producer_id = 1, .topic = "t", .has_epoch = true}),
        ERR_FENCED);
    ck_assert_uint_eq(f.topic->end, 1);
}
END_TEST

START_TEST(claim_of_an_epoch_is_not_repeated_when_its_outcome_is_unknown)
{
    const struct client_claim exact = {.producer_id = 1, .topic = "t", .has_epoch = true};
    const struct client_claim any = {.producer_id = 1, .topic = "t"};

    fixture_connect(false, 0);
    fake_node_script(f.one,
                     &(struct fake_rule){.type = TYPE(INIT_PRODUCER), .action = FAKE_APPLY_DROP});
    ck_assert_int_eq(claim(&exact), ERR_CLOSED);
    ck_assert_uint_eq(f.cluster.epoch, 1);
    fake_node_script(f.one,
                     &(struct fake_rule){.type = TYPE(INIT_PRODUCER), .action = FAKE_APPLY_DROP});
    ck_assert_int_eq(claim(&any), ERR_OK); /* Asked again: that does no harm. */
    ck_assert_uint_eq(f.cluster.epoch, 3);
}
END_TEST

/* What a node says at the deadline, and a little later, is better than a guess. */
START_TEST(the_last_word_of_a_node_is_waited_for_beyond_the_deadline)
{
    script(f.one, FAKE_APPLY_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .timeout_ms = 1000});
    send_some(1);
    loop_run_for(&f.loop, 1100); /* 250 ms are waited. */
    ck_assert_uint_eq(reported.count, 0);
    fake_node_release(f.one);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_OK);
}
END_TEST

START_TEST(fenced_producer_takes_no_more)
{
    script(f.one, FAKE_ERROR, ERR_FENCED, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 1});
    send_some(3);
    wait_for_all();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_FENCED);
        ck_assert(!reported.errors[i].outcome_unknown);
    }
    ck_assert_int_eq(try_send(), ERR_FAILED);
    ck_assert_uint_eq(f.topic->end, 0);
}
END_TEST

START_TEST(unknown_outcome_at_the_deadline_fails_all_that_follows)
{
    start(false,
          (struct producer_options){.batch_records_max = 1, .inflight_max = 1, .timeout_ms = 300});
    send_some(1);
    wait_for_all(); /* It is connected: what comes next is sent at once. */
    script(f.one, FAKE_HOLD, ERR_OK, 1);
    send_some(1);
    loop_run_for(&f.loop, 150);
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_OK);
    ck_assert_int_eq(reported.errors[1].err, ERR_TIMEOUT);
    ck_assert(reported.errors[1].outcome_unknown);
    ck_assert_int_eq(reported.errors[2].err, ERR_TIMEOUT);
    ck_assert(!reported.errors[2].outcome_unknown); /* It was never sent. */
    ck_assert_int_eq(try_send(), ERR_FAILED);
}
END_TEST

START_TEST(deadline_without_a_server_is_definite_and_does_not_end_the_producer)
{
    struct client_options options = {.servers = "127.0.0.1:1"};

    ck_assert_int_eq(client_new(&options, &f.loop, &f.client, NULL), ERR_OK);
    ck_assert_int_eq(producer_new(f.client,
                                  &(struct producer_options){.topic = "t", .timeout_ms = 50},
                                  on_report, &reported, &producer),
                     ERR_OK);
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_CONNECT);
    ck_assert(!reported.errors[0].outcome_unknown);
    send_some(1);
    wait_for_all();
    ck_assert_int_eq(reported.errors[1].err, ERR_CONNECT);
}
END_TEST

START_TEST(deadline_without_a_leader_says_so)
{
    fake_node_settings(f.one)->leaderless = true;
    start(false, (struct producer_options){.timeout_ms = 100});
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_NO_LEADER);
    ck_assert(!reported.errors[0].outcome_unknown);
    fake_node_settings(f.one)->leaderless = false;
    send_some(1);
    wait_for_all();
    ck_assert_int_eq(reported.errors[1].err, ERR_OK);
}
END_TEST

START_TEST(refused_client_is_told_at_once)
{
    fake_node_settings(f.one)->version = 9;
    start(false, (struct producer_options){0});
    send_some(2);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_VERSION);
}
END_TEST

START_TEST(batch_that_the_node_does_not_take_is_not_sent)
{
    fake_node_settings(f.one)->batch_size_max = 200;
    start(false, (struct producer_options){.batch_size_max = 1000});
    send_some(50);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_TOO_LARGE);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(PRODUCE)), 0);
}
END_TEST

START_TEST(written_long_ago_is_no_failure_of_what_follows)
{
    script(f.one, FAKE_APPLY_ERROR, ERR_DUPLICATE_OLD, 1);
    start(false, (struct producer_options){.batch_records_max = 1});
    send_some(3);
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_DUPLICATE_OLD);
    ck_assert(!reported.errors[0].outcome_unknown);
    ck_assert_int_eq(reported.errors[1].err, ERR_OK);
    ck_assert_uint_eq(f.topic->end, 3);
}
END_TEST

/* ---- no_idempotence ---- */

START_TEST(without_idempotence_a_lost_batch_is_unknown_and_not_repeated)
{
    script(f.one, FAKE_ERROR, ERR_BUSY, 1);
    script(f.one, FAKE_APPLY_DROP, ERR_OK, 1);
    start(false, (struct producer_options){
                     .batch_records_max = 1, .inflight_max = 1, .no_idempotence = true});
    send_some(2);
    wait_for_all();
    ck_assert_int_ne(reported.errors[0].err, ERR_OK);
    ck_assert(reported.errors[0].outcome_unknown);
    ck_assert_int_eq(reported.errors[1].err, ERR_OK);
    ck_assert_uint_eq(f.topic->end, 2);
    ck_assert_uint_eq(f.cluster.inits, 0);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(PRODUCE)), 3);
}
END_TEST

/* ---- free ---- */

START_TEST(freeing_reports_what_is_pending)
{
    script(f.one, FAKE_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 2, .inflight_max = 1});
    send_some(5);
    loop_run_until_true(&f.loop, something_is_held, NULL);
    producer_free(producer);
    producer = NULL;
    ck_assert(all_is_reported(NULL));
    ck_assert_uint_eq(reported.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(reported.errors[i].err, ERR_CANCELED);
        ck_assert_int_eq(reported.errors[i].outcome_unknown, i == 0);
    }
}
END_TEST

START_TEST(freeing_from_inside_a_report)
{
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 1});
    send_some(3);
    reported.free_at_first = true;
    wait_for_all();
    ck_assert_int_eq(reported.errors[0].err, ERR_OK);
    ck_assert_int_eq(reported.errors[1].err, ERR_CANCELED);
    ck_assert_int_eq(reported.errors[2].err, ERR_CANCELED);
}
END_TEST

START_TEST(closing_the_client_reports_what_is_pending)
{
    script(f.one, FAKE_HOLD, ERR_OK, 1);
    start(false, (struct producer_options){.batch_records_max = 1, .inflight_max = 1});
    send_some(3);
    loop_run_until_true(&f.loop, something_is_held, NULL);
    producer = NULL; /* freed with the client */
    fixture_close();
    ck_assert(all_is_reported(NULL));
    ck_assert_int_eq(reported.errors[0].err, ERR_CANCELED);
    ck_assert(reported.errors[0].outcome_unknown);
    ck_assert(!reported.errors[2].outcome_unknown);
}
END_TEST

START_TEST(closing_the_client_while_an_id_is_asked_for)
{
    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(INIT_PRODUCER), .action = FAKE_HOLD});
    start(false, (struct producer_options){0});
    send_some(3);
    loop_run_until_true(&f.loop, something_is_held, NULL);
    producer = NULL; /* freed with the client */
    fixture_close();
    ck_assert(all_is_reported(NULL));
    ck_assert_int_eq(reported.errors[0].err, ERR_CANCELED);
    ck_assert(!reported.errors[0].outcome_unknown);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 10);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("producer");
    TCase *tcase = add_case(suite, "send");

    tcase_add_test(tcase, options_out_of_bounds_are_invalid);
    tcase_add_test(tcase, records_of_one_turn_go_in_one_batch);
    tcase_add_test(tcase, batches_end_at_their_bounds);
    tcase_add_test(tcase, size_ends_a_batch);
    tcase_add_test(tcase, record_that_no_batch_can_hold_is_too_large);
    tcase_add_loop_test(tcase, compressed_batches_hold_the_same_records, 1, 3);
    tcase_add_test(tcase, batch_that_does_not_shrink_is_sent_as_it_is);
    tcase_add_test(tcase, who_wishes_nothing_compresses_as_the_topic_says_now);
    tcase_add_test(tcase, wish_for_none_is_kept);
    tcase_add_test(tcase, names_of_compression_are_those_of_codecs);
    tcase_add_test(tcase, full_buffer_is_busy_until_a_report);
    tcase_add_test(tcase, no_more_batches_than_the_window_are_under_way);
    tcase_add_test(tcase, answers_out_of_order_are_reported_in_order);
    tcase_add_test(tcase, expected_offsets_go_on_with_the_records);
    tcase_add_test(tcase, atomic_records_go_in_one_batch_at_the_flush);
    tcase_add_test(tcase, linger_gathers_while_others_are_under_way_and_flush_ends_it);
    tcase = add_case(suite, "healed");
    tcase_add_loop_test(tcase, lost_connection_with_batches_under_way_loses_and_repeats_nothing, 0,
                        7);
    tcase_add_loop_test(tcase, refused_batch_and_those_after_it_go_again_in_order, 0, 4);
    tcase_add_test(tcase, answer_to_an_old_gap_that_comes_late_does_no_harm);
    tcase_add_test(tcase, unknown_outcomes_are_resolved_by_trying_again);
    tcase_add_loop_test(tcase, garbage_for_an_answer_is_no_loss, 0, 3);
    tcase_add_test(tcase, lost_answer_to_the_question_for_an_id_is_asked_again);
    tcase_add_test(tcase, node_that_cannot_reach_the_leader_is_left);
    tcase_add_test(tcase, node_that_keeps_batches_to_itself_is_left);
    tcase_add_loop_test(tcase, any_mix_of_failures_ends_with_each_record_once, 0, 3);
    tcase = add_case(suite, "reported");
    tcase_add_test(tcase, definite_failure_is_told_and_later_records_go_on);
    tcase_add_test(tcase, definite_failure_with_lost_tries_behind_it_takes_a_new_id);
    tcase_add_test(tcase, unknown_producer_is_a_definite_failure_and_a_new_id_follows);
    tcase_add_test(tcase, gap_is_definite_and_ends_the_producer_without_a_new_id);
    tcase_add_test(tcase, reused_sequence_ends_the_producer_and_leaves_what_is_under_way_unknown);
    tcase_add_loop_test(tcase, acks_of_all_that_are_not_reached_are_written_with_an_error, 0, 2);
    tcase_add_test(tcase, another_end_than_expected_is_definite_and_ends_the_producer);
    tcase_add_loop_test(tcase, lost_try_of_a_conditional_batch_is_resolved, 0, 2);
    tcase_add_test(tcase, given_identity_is_used_and_any_failure_ends_it);
    tcase_add_test(tcase, claim_fences_the_older_producer);
    tcase_add_test(tcase, claim_of_an_epoch_is_not_repeated_when_its_outcome_is_unknown);
    tcase_add_test(tcase, the_last_word_of_a_node_is_waited_for_beyond_the_deadline);
    tcase_add_test(tcase, fenced_producer_takes_no_more);
    tcase_add_test(tcase, unknown_outcome_at_the_deadline_fails_all_that_follows);
    tcase_add_test(tcase, deadline_without_a_server_is_definite_and_does_not_end_the_producer);
    tcase_add_test(tcase, deadline_without_a_leader_says_so);
    tcase_add_test(tcase, refused_client_is_told_at_once);
    tcase_add_test(tcase, batch_that_the_node_does_not_take_is_not_sent);
    tcase_add_test(tcase, written_long_ago_is_no_failure_of_what_follows);
    tcase_add_test(tcase, without_idempotence_a_lost_batch_is_unknown_and_not_repeated);
    tcase = add_case(suite, "free");
    tcase_add_test(tcase, freeing_reports_what_is_pending);
    tcase_add_test(tcase, freeing_from_inside_a_report);
    tcase_add_test(tcase, closing_the_client_reports_what_is_pending);
    tcase_add_test(tcase, closing_the_client_while_an_id_is_asked_for);
    return runner_main(suite);
}
