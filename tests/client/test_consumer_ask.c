/* Which node a consumer asks, for what, and which it leaves. */
#include <check.h>
#include <string.h>
#include <unistd.h>

#include "client/channel.h"
#include "client/fixture.h"
#include "lib/runner.h"

static struct {
    uint64_t count;
    bool ended;
    enum err err;
} got;
static struct consumer *consumer;
static bool pauses;         /* after each record */
static useconds_t sleep_ms; /* in each twentieth record */

/* More than there is: it is asked for piece by piece, and not streamed. */
enum { PLENTY = 1000 };

static void on_record(void *arg, const struct record *record)
{
    (void)arg;
    ck_assert_uint_eq(record->offset, got.count); /* Each once, in order. */
    got.count++;
    if (pauses) {
        consumer_pause(consumer);
    }
    if (got.count % 20 == 0) {
        (void)usleep(sleep_ms * 1000); /* Shorter is no harm. */
    }
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    (void)arg;
    ck_assert(!got.ended);
    ck_assert_uint_eq(next_offset, got.count);
    got.ended = true;
    got.err = error->err;
}

static void setup(void)
{
    fixture_setup();
    memset(&got, 0, sizeof got);
    pauses = false;
    sleep_ms = 0;
    for (unsigned i = 0; i < 6; i++) {
        fake_topic_append(&f.cluster, f.topic, 10);
    }
    fake_node_settings(f.one)->batches_max = 1;
    fake_node_settings(f.two)->batches_max = 1;
}

static void teardown(void)
{
    consumer_free(consumer);
    consumer = NULL;
    fixture_teardown();
}

static void start_with(bool both, unsigned timeout_ms, struct consumer_options options)
{
    static const struct consumer_events events = {.record = on_record, .ended = on_ended};

    options.topic = "t";
    fixture_connect(both, timeout_ms);
    fixture_hurry();
    ck_assert_int_eq(consumer_new(f.client, &options, &events, NULL, &consumer), ERR_OK);
}

static void start(struct consumer_options options)
{
    start_with(true, 3000, options);
}

static void script(struct fake_node *node, uint16_t type, enum fake_action action, enum err err,
                   unsigned times)
{
    fake_node_script(
        node, &(struct fake_rule){.type = type, .action = action, .err = err, .times = times});
}

static void wait_for_end(enum err err, uint64_t count)
{
    loop_run_until(&f.loop, &got.ended);
    ck_assert_msg(got.err == err, "%s", err_name(got.err));
    ck_assert_uint_eq(got.count, count);
}

static bool all_came(void *arg)
{
    (void)arg;
    return got.count == f.topic->end;
}

START_TEST(a_follower_is_read_from_though_the_leader_comes_first)
{
    fake_node_settings(f.one)->leads = true;
    start((struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME)), 0);
    ck_assert_uint_gt(fake_node_seen(f.two, TYPE(CONSUME)), 0);
}
END_TEST

START_TEST(the_leader_is_read_from_when_no_follower_is_there)
{
    fake_node_settings(f.one)->leads = true;
    fake_node_settings(f.two)->hello_error = ERR_LIMIT;
    start((struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_gt(fake_node_seen(f.one, TYPE(CONSUME)), 0);
}
END_TEST

START_TEST(a_node_that_cannot_help_is_left_for_another)
{
    static const enum err errors[] = {
        ERR_LAGGING, ERR_TIMEOUT,     ERR_NO_LEADER,     ERR_CORRUPT,     ERR_IO,
        ERR_BUSY,    (enum err) - 37, ERR_TOPIC_UNKNOWN, (enum err) - 999};

    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 2);
    script(f.one, TYPE(CONSUME), FAKE_ERROR, errors[_i], 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME)), 3);
}
END_TEST

START_TEST(a_stream_that_meets_damage_goes_on_at_another_node)
{
    script(f.one, TYPE(CONSUME_STREAM), FAKE_ERROR, ERR_CORRUPT, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    loop_run_until_true(&f.loop, all_came, NULL);
    ck_assert_uint_gt(fake_node_streamed(f.two), 0);
    fake_topic_append(&f.cluster, f.topic, 3);
    ck_assert(!got.ended);
}
END_TEST

/* Up to the log's end, where silence is not for lack of records. */
START_TEST(a_stream_that_stops_before_the_end_goes_on)
{
    static const enum fake_action actions[] = {FAKE_DROP, FAKE_ERROR, FAKE_HOLD, FAKE_END_STREAM};

    script(f.one, TYPE(CONSUME_STREAM), actions[_i], ERR_CORRUPT, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_gt(fake_node_seen(f.one, TYPE(CONSUME_STREAM)), 0);
    ck_assert(fake_node_streamed(f.two) > 0 || actions[_i] == FAKE_END_STREAM);
}
END_TEST

START_TEST(a_stream_that_nobody_goes_on_with_ends_at_the_timeout)
{
    script(f.one, TYPE(CONSUME_STREAM), FAKE_HOLD, ERR_OK, 1000);
    start_with(false, 100, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_TIMEOUT, 10);
}
END_TEST

/* Its output blocks: the node's answers wait in the socket meanwhile. */
START_TEST(what_the_events_take_is_not_the_nodes_time)
{
    sleep_ms = 150;
    start_with(_i >= 2, 100,
               (struct consumer_options){.start = CONSUMER_EARLIEST,
                                         .records_max = _i % 2 == 0 ? 0 : PLENTY,
                                         .credit_size = 1});
    wait_for_end(ERR_OK, 60);
}
END_TEST

/* The node has nothing to say to somebody who takes nothing. */
START_TEST(a_node_is_not_left_while_the_consumer_is_paused)
{
    pauses = true;
    start_with(true, 100, (struct consumer_options){.start = CONSUMER_EARLIEST, .credit_size = 1});
    while (got.count < 20) {
        loop_run_for(&f.loop, 5);
        consumer_resume(consumer);
    }
    loop_run_for(&f.loop, 400);
    ck_assert(!got.ended);
    ck_assert_uint_eq(fake_node_accepted(f.two), 0);
    pauses = false;
    consumer_resume(consumer);
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_eq(fake_node_accepted(f.two), 0);
}
END_TEST

START_TEST(a_damaged_body_is_read_again_from_another_node)
{
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 3);
    script(f.one, TYPE(CONSUME), FAKE_DAMAGE, ERR_OK, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_gt(fake_node_seen(f.two, TYPE(CONSUME)), 0);
}
END_TEST

START_TEST(what_no_node_has_whole_is_told_after_what_came_before)
{
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 3);
    script(f.one, TYPE(CONSUME), _i == 0 ? FAKE_DAMAGE : FAKE_ERROR, ERR_CORRUPT, 1000);
    script(f.two, TYPE(CONSUME), _i == 0 ? FAKE_DAMAGE : FAKE_ERROR, ERR_CORRUPT, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_CORRUPT, 30);
}
END_TEST

START_TEST(a_request_that_is_wrong_is_wrong_everywhere)
{
    script(f.one, TYPE(CONSUME), FAKE_ERROR, ERR_INVALID, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_INVALID, 0);
    ck_assert_uint_eq(fake_node_accepted(f.two), 0);
}
END_TEST

START_TEST(a_node_that_does_not_answer_is_left)
{
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 1);
    script(f.one, TYPE(CONSUME), FAKE_HOLD, ERR_OK, 1000);
    start((struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK, 60);
}
END_TEST

START_TEST(what_was_seen_once_is_asked_of_the_next_node)
{
    fake_node_settings(f.one)->applied_index = 777;
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 1);
    script(f.one, TYPE(CONSUME), FAKE_DROP, ERR_OK, 1000);
    start((struct consumer_options){
        .start = CONSUMER_EARLIEST, .at_least = 5, .records_max = PLENTY});
    wait_for_end(ERR_OK, 60);
    ck_assert_uint_eq(fake_node_asked(f.two)->at_least, 777);
}
END_TEST

START_TEST(linearizable_is_the_first_question_and_its_token_keeps_to_it)
{
    fake_node_settings(f.one)->applied_index = 777;
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 1);
    script(f.one, TYPE(CONSUME), FAKE_HOLD, ERR_OK, 1);
    start((struct consumer_options){
        .start = CONSUMER_EARLIEST, .linearizable = true, .records_max = PLENTY});
    wait_for_end(ERR_OK, 60);
    ck_assert(!fake_node_asked(f.two)->linearizable);
    ck_assert_uint_eq(fake_node_asked(f.two)->at_least, 777);
}
END_TEST

START_TEST(the_first_question_says_how_fresh_and_leaves_time_for_other_nodes)
{
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK, 1);
    start((struct consumer_options){.start = CONSUMER_LATEST,
                                    .follow = true,
                                    .max_lag_ms = _i == 0 ? 250 : 0,
                                    .linearizable = _i == 1});
    while (fake_node_seen(f.one, TYPE(CONSUME)) == 0) {
        loop_run_for(&f.loop, 5);
    }
    ck_assert_uint_eq(fake_node_asked(f.one)->max_lag_ms, _i == 0 ? 250 : 0);
    ck_assert_uint_le(fake_node_asked(f.one)->deadline_ms, 100);
    while (fake_node_seen(f.one, TYPE(CONSUME_STREAM)) == 0) {
        loop_run_for(&f.loop, 5);
    }
    /* The stream keeps to a bound, too; and one that wants more than that has it already. */
    ck_assert_uint_eq(fake_node_asked(f.one)->max_lag_ms, _i == 0 ? 250 : 0);
    ck_assert(!fake_node_asked(f.one)->linearizable);
}
END_TEST

START_TEST(both_levels_at_once_are_invalid)
{
    static const struct consumer_events events = {.record = on_record, .ended = on_ended};
    const struct consumer_options options = {.topic = "t", .linearizable = true, .max_lag_ms = 5};

    fixture_connect(true, 0);
    ck_assert_int_eq(consumer_new(f.client, &options, &events, NULL, &consumer), ERR_INVALID);
}
END_TEST

START_TEST(a_client_without_users_dials_nobody)
{
    fixture_connect(true, 0);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(fake_node_accepted(f.one) + fake_node_accepted(f.two), 0);
    ck_assert_str_eq(client_reading_server(f.client), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("consumer_ask");
    TCase *tcase = tcase_create("nodes");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_follower_is_read_from_though_the_leader_comes_first);
    tcase_add_test(tcase, the_leader_is_read_from_when_no_follower_is_there);
    tcase_add_loop_test(tcase, a_node_that_cannot_help_is_left_for_another, 0, 9);
    tcase_add_test(tcase, a_stream_that_meets_damage_goes_on_at_another_node);
    tcase_add_loop_test(tcase, a_stream_that_stops_before_the_end_goes_on, 0, 4);
    tcase_add_test(tcase, a_stream_that_nobody_goes_on_with_ends_at_the_timeout);
    tcase_add_loop_test(tcase, what_the_events_take_is_not_the_nodes_time, 0, 4);
    tcase_add_test(tcase, a_node_is_not_left_while_the_consumer_is_paused);
    tcase_add_test(tcase, a_damaged_body_is_read_again_from_another_node);
    tcase_add_loop_test(tcase, what_no_node_has_whole_is_told_after_what_came_before, 0, 2);
    tcase_add_test(tcase, a_request_that_is_wrong_is_wrong_everywhere);
    tcase_add_test(tcase, a_node_that_does_not_answer_is_left);
    tcase_add_test(tcase, what_was_seen_once_is_asked_of_the_next_node);
    tcase_add_test(tcase, linearizable_is_the_first_question_and_its_token_keeps_to_it);
    tcase_add_loop_test(tcase, the_first_question_says_how_fresh_and_leaves_time_for_other_nodes, 0,
                        2);
    tcase_add_test(tcase, both_levels_at_once_are_invalid);
    tcase_add_test(tcase, a_client_without_users_dials_nobody);
    tcase_set_timeout(tcase, 10);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
