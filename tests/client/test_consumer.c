/* A consumer against the scripted cluster: each record once, in order. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "client/fixture.h"
#include "lib/runner.h"
#include "log/batch.h"

static struct {
    uint64_t first;
    uint64_t count;
    uint64_t wanted; /* for seen_wanted */
    bool ended;
    unsigned ends;
    enum err err;
    char text[512];
    uint64_t next_offset;
    uint64_t log_start;
    uint64_t log_end;
    uint64_t pause_at; /* after so many records */
    uint64_t free_at;
    bool free_at_end;
} got;
static struct consumer *consumer;

static void free_consumer(void)
{
    consumer_free(consumer);
    consumer = NULL;
}

static void on_record(void *arg, const struct record *record)
{
    char value[32];

    ck_assert_ptr_eq(arg, &got);
    ck_assert(!got.ended);
    if (got.count == 0) {
        got.first = record->offset;
    }
    ck_assert_uint_eq(record->offset, got.first + got.count);
    (void)snprintf(value, sizeof value, "v%llu", (unsigned long long)record->offset);
    ck_assert_uint_eq(record->value_size, strlen(value));
    ck_assert_mem_eq(record->value, value, record->value_size);
    ck_assert_int_gt(record->append_time_us, 1000000);
    got.count++;
    if (got.count == got.pause_at) {
        consumer_pause(consumer);
    }
    if (got.count == got.free_at) {
        free_consumer();
    }
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    ck_assert_ptr_eq(arg, &got);
    got.ended = true;
    got.ends++;
    got.err = error->err;
    got.next_offset = next_offset;
    got.log_start = error->log_start;
    got.log_end = error->log_end;
    (void)snprintf(got.text, sizeof got.text, "%s", error->text); /* Cut text will do. */
    if (got.free_at_end) {
        free_consumer();
    }
}

static void setup(void)
{
    fixture_setup();
    memset(&got, 0, sizeof got);
    consumer = NULL;
}

static void teardown(void)
{
    free_consumer();
    fixture_teardown();
    ck_assert_uint_le(got.ends, 1);
}

static void append(unsigned batches, unsigned records)
{
    for (unsigned i = 0; i < batches; i++) {
        fake_topic_append(&f.cluster, f.topic, records);
    }
}

static void start(bool both, struct consumer_options options)
{
    static const struct consumer_events events = {.record = on_record, .ended = on_ended};

    options.topic = options.topic == NULL ? "t" : options.topic;
    if (f.client == NULL) {
        fixture_connect(both, 1000);
    }
    ck_assert_int_eq(consumer_new(f.client, &options, &events, &got, &consumer), ERR_OK);
    ck_assert_uint_eq(got.count, 0);
}

static void on_batch(void *arg, const struct batch_header *header, const uint8_t *body)
{
    ck_assert_ptr_eq(arg, &got);
    ck_assert_int_eq(batch_check_body(header, body, NULL), ERR_OK);
    ck_assert_uint_eq(header->base_offset, got.count);
    got.count += header->record_count;
    if (got.count == got.pause_at) {
        consumer_pause(consumer);
    }
    if (got.count == got.free_at) {
        free_consumer();
    }
}

static enum err start_batches(struct consumer_options options)
{
    static const struct consumer_events events = {.batch = on_batch, .ended = on_ended};

    options.topic = "t";
    fixture_connect(false, 1000);
    return consumer_new(f.client, &options, &events, &got, &consumer);
}

/* More than there is: it is asked for piece by piece, and not streamed. */
enum { PLENTY = 1000 };

/* ---- shared reading ---- */

static struct {
    uint64_t offsets[64];
    unsigned count;
    unsigned placed;
    uint64_t place;
} shared;

static void on_my_record(void *arg, const struct record *record)
{
    (void)arg;
    ck_assert_uint_eq(shared.placed, 1);
    ck_assert_uint_lt(shared.count, 64);
    shared.offsets[shared.count++] = record->offset;
    ck_assert_uint_eq(consumer_position(consumer), record->offset + 1);
}

static void on_placed(void *arg, uint64_t offset)
{
    (void)arg;
    ck_assert_uint_eq(shared.count, 0);
    ck_assert_uint_eq(consumer_position(consumer), offset);
    shared.placed++;
    shared.place = offset;
}

static void start_share(struct consumer_options options)
{
    static const struct consumer_events events = {
        .record = on_my_record, .ended = on_ended, .placed = on_placed};

    memset(&shared, 0, sizeof shared);
    options.topic = "t";
    fixture_connect(false, 1000);
    ck_assert_int_eq(consumer_new(f.client, &options, &events, &got, &consumer), ERR_OK);
}

START_TEST(the_records_of_one_share_come_and_no_others)
{
    append(4, 5);
    start_share((struct consumer_options){
        .start = CONSUMER_OFFSET, .offset = 2, .share = 2, .share_count = 3});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(shared.place, 2);
    ck_assert_uint_eq(shared.count, 6);
    for (unsigned i = 0; i < shared.count; i++) {
        ck_assert_uint_eq(shared.offsets[i], 4 + 3 * i); /* They have no keys. */
    }
    ck_assert_uint_eq(got.next_offset, 20); /* Behind those of others, too. */
    ck_assert_uint_eq(consumer_position(consumer), 20);
}
END_TEST

START_TEST(others_records_do_not_count)
{
    append(40, 1);
    start_share((struct consumer_options){
        .start = CONSUMER_EARLIEST, .share = 10, .share_count = 10, .records_max = 3});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_uint_eq(shared.count, 3);
    ck_assert_uint_eq(shared.offsets[2], 29);
    ck_assert_uint_eq(got.next_offset, 30);
}
END_TEST

START_TEST(the_place_is_told_though_there_is_no_record)
{
    append(1, 3);
    start_share((struct consumer_options){.start = CONSUMER_LATEST, .follow = true});
    while (shared.placed == 0) {
        loop_run_for(&f.loop, 1);
    }
    ck_assert_uint_eq(shared.place, 3);
    append(1, 2);
    while (shared.count < 2) {
        loop_run_for(&f.loop, 1);
    }
    ck_assert_uint_eq(shared.placed, 1);
    ck_assert(!got.ended);
}
END_TEST

/* ---- filters, and batches of every kind ---- */

START_TEST(filter_is_told_and_holds_even_if_the_node_knows_none)
{
    struct filter filter;

    append(4, 5);
    filter_init(&filter);
    ck_assert_int_eq(filter_add_contains(&filter, "v1", 2, NULL), ERR_OK);
    filter.since_us = 1000000;
    start_share((struct consumer_options){.start = CONSUMER_EARLIEST, .filter = &filter});
    memset(&filter, 0xff, sizeof filter); /* It was copied. */
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(shared.count, 11);
    ck_assert_uint_eq(shared.offsets[0], 1);
    ck_assert_uint_eq(shared.offsets[10], 19);
    ck_assert_uint_eq(got.next_offset, 20);
    ck_assert(fake_node_asked(f.one)->filtered);
    ck_assert_uint_eq(fake_node_asked(f.one)->conditions, 1);
    ck_assert_int_eq(fake_node_asked(f.one)->since_us, 1000000);
}
END_TEST

START_TEST(answers_that_found_nothing_lead_on)
{
    struct filter filter;
    struct consumer_scan scan;

    append(10, 5);
    filter_init(&filter);
    ck_assert_int_eq(filter_add_contains(&filter, "v4", 2, NULL), ERR_OK);
    fake_node_settings(f.one)->passes_over = 8;
    start_share((struct consumer_options){.start = CONSUMER_EARLIEST, .filter = &filter});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(shared.count, 10);
    ck_assert_uint_eq(shared.offsets[0], 40);
    ck_assert_uint_eq(got.next_offset, 50);
    consumer_scanned(consumer, &scan);
    ck_assert_uint_eq(scan.records, 40);
    ck_assert_uint_eq(scan.segments_skipped, 8);
    ck_assert_uint_gt(scan.bytes, 8 * 104);
}
END_TEST

START_TEST(nothing_at_all_ends_at_the_end)
{
    struct filter filter;

    append(3, 5);
    filter_init(&filter);
    ck_assert_int_eq(filter_add_key(&filter, "none", 4, NULL), ERR_OK);
    fake_node_settings(f.one)->passes_over = 2;
    start_share((struct consumer_options){.start = CONSUMER_EARLIEST, .filter = &filter});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(shared.count, 0);
    ck_assert_uint_eq(got.next_offset, 15);
}
END_TEST

START_TEST(filtered_stream_passes_over_what_does_not_match)
{
    struct filter filter;

    filter_init(&filter);
    ck_assert_int_eq(filter_add_contains(&filter, "v", 1, NULL), ERR_OK);
    start_share(
        (struct consumer_options){.start = CONSUMER_LATEST, .follow = true, .filter = &filter});
    while (shared.placed == 0) {
        loop_run_for(&f.loop, 1);
    }
    fake_node_settings(f.one)->passes_over = 2;
    append(3, 5);
    while (shared.count < 5) {
        loop_run_for(&f.loop, 1);
    }
    ck_assert_uint_eq(shared.offsets[0], 10);
    ck_assert_uint_eq(consumer_position(consumer), 15);
    ck_assert(!got.ended);
}
END_TEST

START_TEST(answer_without_records_that_leads_on_is_wrong_without_a_filter)
{
    append(2, 5);
    fake_node_settings(f.one)->passes_over = 1;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(got.count, 10); /* It was asked again. */
    ck_assert_uint_eq(got.first, 0);
}
END_TEST

START_TEST(filter_that_makes_no_sense_is_invalid)
{
    static const struct consumer_events events = {.record = on_my_record, .ended = on_ended};
    struct filter filter;
    struct consumer_options options = {.topic = "t", .filter = &filter};

    filter_init(&filter);
    filter.latest = true;
    fixture_connect(false, 1000);
    ck_assert_int_eq(consumer_new(f.client, &options, &events, &got, &consumer), ERR_INVALID);
    consumer = NULL;
}
END_TEST

START_TEST(compressed_batches_are_read_as_others_are)
{
    fake_topic_append_as(&f.cluster, f.topic, 5, 1);
    append(1, 5);
    fake_topic_append_as(&f.cluster, f.topic, 5, 2);
    start(false, (struct consumer_options){.start = CONSUMER_OFFSET, .offset = 3});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(got.count, 12);
    ck_assert_uint_eq(got.first, 3);
}
END_TEST

START_TEST(sparse_batches_have_gaps_and_times_of_their_own)
{
    append(1, 5);
    fake_topic_append_as(&f.cluster, f.topic, 5, BATCH_SPARSE);
    fake_topic_append_as(&f.cluster, f.topic, 5, BATCH_SPARSE | 2);
    append(1, 1);
    start_share((struct consumer_options){.start = CONSUMER_OFFSET, .offset = 6});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_OK);
    ck_assert_uint_eq(shared.count, 5);
    ck_assert_uint_eq(shared.offsets[0], 7);
    ck_assert_uint_eq(shared.offsets[1], 9);
    ck_assert_uint_eq(shared.offsets[2], 11);
    ck_assert_uint_eq(shared.offsets[3], 13);
    ck_assert_uint_eq(shared.offsets[4], 15);
    ck_assert_uint_eq(got.next_offset, 16);
}
END_TEST

START_TEST(batch_that_is_larger_than_allowed_ends_it)
{
    append(1, 2);
    fake_topic_append_as(&f.cluster, f.topic, 50, 2);
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .plain_size_max = 100});
    loop_run_until(&f.loop, &got.ended);
    ck_assert_int_eq(got.err, ERR_TOO_LARGE);
    ck_assert_uint_eq(got.count, 2);
    ck_assert_uint_eq(got.next_offset, 2);
}
END_TEST

START_TEST(a_share_that_is_none_is_invalid)
{
    static const struct consumer_events events = {.record = on_my_record, .ended = on_ended};
    struct consumer_options options = {.topic = "t", .share = 4, .share_count = 3};

    fixture_connect(false, 1000);
    ck_assert_int_eq(consumer_new(f.client, &options, &events, &got, &consumer), ERR_INVALID);
    consumer = NULL;
}
END_TEST

static bool seen_wanted(void *arg)
{
    (void)arg;
    return got.count >= got.wanted;
}

static void wait_for(uint64_t count)
{
    got.wanted = count;
    loop_run_until_true(&f.loop, seen_wanted, NULL);
}

static void wait_for_end(enum err err)
{
    loop_run_until(&f.loop, &got.ended);
    ck_assert_msg(got.err == err, "%s: %s", err_name(got.err), got.text);
}

static void script(struct fake_node *node, uint16_t type, enum fake_action action, enum err err)
{
    fake_node_script(node, &(struct fake_rule){.type = type, .action = action, .err = err});
}

/* ---- reading to the end ---- */

START_TEST(options_that_make_no_sense_are_invalid)
{
    static const struct consumer_events events = {.record = on_record, .ended = on_ended};
    static const struct consumer_options wrong[] = {
        {.topic = NULL},
        {.topic = ""},
        {.topic = "t", .start = (enum consumer_start)99},
    };

    fixture_connect(false, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(consumer_new(f.client, &wrong[i], &events, &got, &consumer), ERR_INVALID);
    }
}
END_TEST

START_TEST(all_there_is_comes_on_a_stream)
{
    append(10, 7);
    fake_node_settings(f.one)->batches_max = 3;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.first, 0);
    ck_assert_uint_eq(got.count, 70);
    ck_assert_uint_eq(got.next_offset, 70);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME)), 1);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME_STREAM)), 1);
}
END_TEST

START_TEST(what_is_appended_meanwhile_does_not_come_on_the_stream)
{
    append(4, 5);
    fake_node_settings(f.one)->batches_max = 1;
    got.pause_at = 3;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for(3);
    append(4, 5);
    consumer_resume(consumer);
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 20);
}
END_TEST

START_TEST(batches_come_whole)
{
    append(6, 7);
    fake_node_settings(f.one)->batches_max = 2;
    ck_assert_int_eq(start_batches((struct consumer_options){.start = CONSUMER_EARLIEST,
                                                             .records_max = _i == 0 ? 0 : 10}),
                     ERR_OK);
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, _i == 0 ? 42 : 14); /* The tenth is in the second. */
    ck_assert_uint_eq(got.next_offset, got.count);
}
END_TEST

START_TEST(damaged_batch_is_not_given)
{
    append(3, 10);
    script(f.one, TYPE(CONSUME), FAKE_DAMAGE, ERR_OK); /* the last byte of the third batch */
    ck_assert_int_eq(start_batches((struct consumer_options){.start = CONSUMER_EARLIEST}), ERR_OK);
    wait_for_end(ERR_CORRUPT);
    ck_assert_uint_eq(got.count, 20);
    ck_assert_uint_eq(got.next_offset, 20);
}
END_TEST

START_TEST(freeing_from_inside_a_batch_ends_the_events)
{
    append(6, 7);
    got.free_at = 21;
    ck_assert_int_eq(start_batches((struct consumer_options){.start = CONSUMER_EARLIEST}), ERR_OK);
    wait_for(21);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(got.count, 21);
    ck_assert(!got.ended);
}
END_TEST

START_TEST(batches_are_not_picked_from)
{
    static const struct filter filter = {.since_us = 1};
    const struct consumer_options options[] = {{.share = 1, .share_count = 2}, {.filter = &filter}};

    ck_assert_int_eq(start_batches(options[_i]), ERR_INVALID);
}
END_TEST

START_TEST(all_records_of_all_batches_come_and_then_the_end)
{
    append(10, 7);
    fake_node_settings(f.one)->batches_max = 3;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.first, 0);
    ck_assert_uint_eq(got.count, 70);
    ck_assert_uint_eq(got.next_offset, 70);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME)), 4);
}
END_TEST

START_TEST(empty_log_ends_at_once)
{
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(got.next_offset, 0);
}
END_TEST

START_TEST(offset_in_the_middle_of_a_batch_begins_there)
{
    append(3, 10);
    start(false, (struct consumer_options){.start = CONSUMER_OFFSET, .offset = 15});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.first, 15);
    ck_assert_uint_eq(got.count, 15);
}
END_TEST

START_TEST(tail_begins_so_many_records_before_the_end)
{
    append(3, 10);
    start(false, (struct consumer_options){.start = CONSUMER_TAIL, .offset = 4});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.first, 26);
    ck_assert_uint_eq(got.count, 4);
}
END_TEST

START_TEST(records_max_ends_in_the_middle_of_a_batch)
{
    append(3, 10);
    start(false, (struct consumer_options){
                     .start = CONSUMER_OFFSET, .offset = 5, .records_max = 12, .follow = _i});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 12);
    ck_assert_uint_eq(got.next_offset, 17);
}
END_TEST

START_TEST(what_comes_after_the_beginning_is_not_read)
{
    append(4, 5);
    fake_node_settings(f.one)->batches_max = 1;
    got.pause_at = 3;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for(3);
    append(4, 5);
    consumer_resume(consumer);
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 20);
}
END_TEST

/* ---- failures ---- */

START_TEST(offset_out_of_range_tells_what_can_be_read)
{
    append(3, 10);
    f.topic->start = 10;
    start(false, (struct consumer_options){.start = CONSUMER_OFFSET, .offset = _i == 0 ? 5 : 31});
    wait_for_end(ERR_RANGE);
    ck_assert_uint_eq(got.log_start, 10);
    ck_assert_uint_eq(got.log_end, 30);
    ck_assert_uint_eq(got.count, 0);
}
END_TEST

START_TEST(unknown_topic_is_told)
{
    start(false, (struct consumer_options){.topic = "nothing"});
    wait_for_end(ERR_TOPIC_UNKNOWN);
}
END_TEST

/* Deleted and made again under its name while it was read: what is there now is not what was read.
 */
START_TEST(another_topic_of_the_name_is_not_read_on)
{
    append(3, 10);
    fake_node_settings(f.one)->batches_max = 1;
    start(_i == 1, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    wait_for(30);
    fake_cluster_topic(&f.cluster, "t")->id = 77;
    append(3, 10);
    fake_node_hang_up(f.one);
    wait_for_end(ERR_TOPIC_UNKNOWN);
    ck_assert_uint_eq(got.count, 30);
}
END_TEST

START_TEST(damaged_batch_ends_it_after_the_good_ones)
{
    append(3, 10);
    script(f.one, TYPE(CONSUME), FAKE_DAMAGE, ERR_OK); /* the last byte of the third batch */
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = _i});
    wait_for_end(ERR_CORRUPT);
    ck_assert_uint_eq(got.count, 20);
    ck_assert_uint_eq(got.next_offset, 20);
    ck_assert_msg(strstr(got.text, "offset 20") != NULL, "%s", got.text);
    ck_assert_msg(strstr(got.text, fake_node_address(f.one)) != NULL, "%s", got.text);
}
END_TEST

START_TEST(missing_batch_is_noticed)
{
    append(3, 10);
    f.topic->batches[1].base_offset = 1000; /* the node skips it */
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_CORRUPT);
    ck_assert_uint_eq(got.count, 10);
}
END_TEST

START_TEST(answer_that_makes_no_sense_is_asked_for_again)
{
    static const enum fake_action actions[] = {FAKE_GARBAGE, FAKE_WRONG_TYPE, FAKE_WRONG_ID};

    append(3, 10);
    fake_node_settings(f.one)->batches_max = 1;
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK);
    script(f.one, TYPE(CONSUME), actions[_i], ERR_OK);
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 30);
    ck_assert_uint_eq(fake_node_accepted(f.one), 2);
}
END_TEST

START_TEST(reading_goes_on_with_the_next_node)
{
    append(6, 10);
    fake_node_settings(f.one)->batches_max = 1;
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK);
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK);
    script(f.one, TYPE(CONSUME), _i == 0 ? FAKE_DROP : FAKE_APPLY_DROP, ERR_OK);
    start(true, (struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 60);
    ck_assert_uint_gt(fake_node_seen(f.two, TYPE(CONSUME)), 0);
}
END_TEST

static bool second_was_asked(void *arg)
{
    return fake_node_seen(f.two, TYPE(CONSUME)) >= *(const unsigned *)arg;
}

START_TEST(next_node_that_is_behind_is_waited_for)
{
    unsigned times = 1;

    append(6, 10);
    fake_node_settings(f.one)->batches_max = 2;
    fake_node_settings(f.two)->visible_end = _i == 0 ? 10 : 30; /* below, or where we are */
    script(f.one, TYPE(CONSUME), FAKE_ANSWER, ERR_OK);
    script(f.one, TYPE(CONSUME), FAKE_DROP, ERR_OK);
    start(true, (struct consumer_options){.start = CONSUMER_EARLIEST, .records_max = PLENTY});
    loop_run_until_true(&f.loop, second_was_asked, &times);
    fake_node_settings(f.one)->hello_error = ERR_BUSY; /* It is gone. */
    times = 2;
    loop_run_until_true(&f.loop, second_was_asked, &times);
    fake_node_settings(f.two)->visible_end = 0;
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 60);
}
END_TEST

START_TEST(no_answer_at_all_ends_it_at_the_timeout)
{
    append(1, 10);
    fake_node_settings(f.one)->batches_max = 1;
    fixture_connect(false, 100);
    fake_node_script(f.one, &(struct fake_rule){.type = TYPE(CONSUME),
                                                .action = _i == 0 ? FAKE_HOLD : FAKE_ERROR,
                                                .err = ERR_BUSY,
                                                .times = 1000});
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    wait_for_end(_i == 0 ? ERR_TIMEOUT : ERR_BUSY);
}
END_TEST

START_TEST(refused_client_is_told_at_once)
{
    fake_node_settings(f.one)->version = 9;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_VERSION);
}
END_TEST

/* ---- following ---- */

START_TEST(following_goes_on_with_what_is_appended)
{
    append(2, 10);
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    wait_for(20);
    append(1, 5);
    wait_for(25);
    append(3, 1);
    wait_for(28);
    ck_assert(!got.ended);
    ck_assert_uint_eq(fake_node_seen(f.one, TYPE(CONSUME_STREAM)), 1);
}
END_TEST

START_TEST(latest_begins_at_the_end_and_loses_nothing_to_a_lost_connection)
{
    append(2, 10);
    start(true, (struct consumer_options){.start = CONSUMER_LATEST, .follow = true});
    while (fake_node_seen(f.one, TYPE(CONSUME_STREAM)) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    fake_node_hang_up(f.one);
    append(1, 5); /* while there is no connection */
    wait_for(5);
    ck_assert_uint_eq(got.first, 20);
}
END_TEST

START_TEST(stream_that_ends_or_fails_is_opened_again)
{
    append(2, 10);
    script(f.one, TYPE(CONSUME_STREAM), FAKE_END_STREAM, ERR_OK);
    script(f.one, TYPE(CONSUME_STREAM), FAKE_ERROR, ERR_BUSY);
    script(f.one, TYPE(CONSUME_STREAM), FAKE_DROP, ERR_OK);
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    wait_for(20);
    while (fake_node_seen(f.one, TYPE(CONSUME_STREAM)) < 4) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    append(1, 5);
    wait_for(25);
    ck_assert(!got.ended);
}
END_TEST

START_TEST(credit_bounds_what_is_sent_to_a_paused_consumer)
{
    start(false, (struct consumer_options){
                     .start = CONSUMER_EARLIEST, .follow = true, .credit_size = 2000});
    fake_node_settings(f.one)->batches_max = 1;
    while (fake_node_seen(f.one, TYPE(CONSUME_STREAM)) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    got.pause_at = 1;
    append(200, 10); /* about 160 bytes each */
    wait_for(1);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_ge(fake_node_streamed(f.one), 2000);
    ck_assert_uint_lt(fake_node_streamed(f.one), 2400);
    consumer_resume(consumer);
    wait_for(2000);
    ck_assert_uint_gt(fake_node_seen(f.one, TYPE(CREDIT)), 10);
}
END_TEST

START_TEST(paused_consumer_fetches_no_more_than_its_credit)
{
    append(200, 10);
    fake_node_settings(f.one)->batches_max = 1;
    got.pause_at = 1;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .credit_size = 2000});
    wait_for(1);
    loop_run_for(&f.loop, 30);
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_lt(fake_node_seen(f.one, TYPE(CONSUME)), 12);
    consumer_resume(consumer);
    wait_for_end(ERR_OK);
    ck_assert_uint_eq(got.count, 2000);
    ck_assert_uint_eq(fake_node_accepted(f.one), 1); /* No answer was out of place. */
}
END_TEST

/* ---- free ---- */

START_TEST(freeing_from_inside_a_record_ends_the_events)
{
    append(3, 10);
    got.free_at = 15;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = _i});
    wait_for(15);
    loop_run_for(&f.loop, 20);
    ck_assert_uint_eq(got.count, 15);
    ck_assert_uint_eq(got.ends, 0);
}
END_TEST

static struct consumer *other;
static unsigned other_records;

static void on_other_record(void *arg, const struct record *record)
{
    (void)arg;
    (void)record;
    other_records++;
}

static void on_record_free_other(void *arg, const struct record *record)
{
    on_record(arg, record);
    consumer_free(other);
    other = NULL;
}

/* Both have records to deliver in the same turn of the loop. */
START_TEST(consumer_that_another_one_frees_gets_nothing_more)
{
    static const struct consumer_events mine = {.record = on_record_free_other, .ended = on_ended};
    static const struct consumer_events others = {.record = on_other_record, .ended = on_ended};
    static const struct consumer_options options = {.topic = "t", .start = CONSUMER_EARLIEST};

    append(3, 10);
    fixture_connect(false, 0);
    ck_assert_int_eq(consumer_new(f.client, &options, &mine, &got, &consumer), ERR_OK);
    ck_assert_int_eq(consumer_new(f.client, &options, &others, &got, &other), ERR_OK);
    wait_for_end(ERR_OK);
    loop_run_for(&f.loop, 20);
    ck_assert_uint_eq(got.count, 30);
    ck_assert_uint_eq(got.ends, 1);
    ck_assert_uint_eq(other_records, 0);
}
END_TEST

START_TEST(freeing_from_inside_the_end)
{
    append(3, 10);
    got.free_at_end = true;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK);
    ck_assert_ptr_null(consumer);
}
END_TEST

START_TEST(freed_stream_is_canceled_at_the_node)
{
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    while (fake_node_seen(f.one, TYPE(CONSUME_STREAM)) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    free_consumer();
    append(3, 10);
    while (fake_node_seen(f.one, TYPE(CANCEL)) == 0) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    loop_run_for(&f.loop, 20); /* Frames that were on their way are dropped. */
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(fake_node_accepted(f.one), 1);
}
END_TEST

START_TEST(closing_the_client_ends_a_consumer)
{
    append(3, 10);
    got.free_at_end = _i == 1;
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST, .follow = true});
    wait_for(30);
    if (_i == 2) {
        consumer_pause(consumer);
        append(3, 10);
        loop_run_for(&f.loop, 20);
    }
    fixture_close();
    consumer = NULL; /* freed with the client */
    ck_assert_int_eq(got.err, ERR_CANCELED);
    ck_assert_uint_eq(got.next_offset, 30);
    ck_assert_uint_eq(got.ends, 1);
}
END_TEST

START_TEST(closing_the_client_frees_a_consumer_that_has_ended)
{
    start(false, (struct consumer_options){.start = CONSUMER_EARLIEST});
    wait_for_end(ERR_OK);
    fixture_close();
    consumer = NULL; /* freed with the client */
    ck_assert_uint_eq(got.ends, 1);
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
    Suite *suite = suite_create("consumer");
    TCase *tcase = add_case(suite, "to_the_end");

    tcase_add_test(tcase, options_that_make_no_sense_are_invalid);
    tcase_add_test(tcase, all_there_is_comes_on_a_stream);
    tcase_add_test(tcase, what_is_appended_meanwhile_does_not_come_on_the_stream);
    tcase_add_loop_test(tcase, batches_come_whole, 0, 2);
    tcase_add_test(tcase, damaged_batch_is_not_given);
    tcase_add_test(tcase, freeing_from_inside_a_batch_ends_the_events);
    tcase_add_loop_test(tcase, batches_are_not_picked_from, 0, 2);
    tcase_add_test(tcase, all_records_of_all_batches_come_and_then_the_end);
    tcase_add_test(tcase, empty_log_ends_at_once);
    tcase_add_test(tcase, offset_in_the_middle_of_a_batch_begins_there);
    tcase_add_test(tcase, tail_begins_so_many_records_before_the_end);
    tcase_add_loop_test(tcase, records_max_ends_in_the_middle_of_a_batch, 0, 2);
    tcase_add_test(tcase, what_comes_after_the_beginning_is_not_read);
    tcase = add_case(suite, "failures");
    tcase_add_loop_test(tcase, offset_out_of_range_tells_what_can_be_read, 0, 2);
    tcase_add_test(tcase, unknown_topic_is_told);
    tcase_add_loop_test(tcase, another_topic_of_the_name_is_not_read_on, 0, 2);
    tcase_add_loop_test(tcase, damaged_batch_ends_it_after_the_good_ones, 0, 2);
    tcase_add_test(tcase, missing_batch_is_noticed);
    tcase_add_loop_test(tcase, answer_that_makes_no_sense_is_asked_for_again, 0, 3);
    tcase_add_loop_test(tcase, reading_goes_on_with_the_next_node, 0, 2);
    tcase_add_loop_test(tcase, next_node_that_is_behind_is_waited_for, 0, 2);
    tcase_add_loop_test(tcase, no_answer_at_all_ends_it_at_the_timeout, 0, 2);
    tcase_add_test(tcase, refused_client_is_told_at_once);
    tcase = add_case(suite, "follow");
    tcase_add_test(tcase, following_goes_on_with_what_is_appended);
    tcase_add_test(tcase, latest_begins_at_the_end_and_loses_nothing_to_a_lost_connection);
    tcase_add_test(tcase, stream_that_ends_or_fails_is_opened_again);
    tcase_add_test(tcase, credit_bounds_what_is_sent_to_a_paused_consumer);
    tcase_add_test(tcase, paused_consumer_fetches_no_more_than_its_credit);
    tcase = add_case(suite, "shared");
    tcase_add_test(tcase, the_records_of_one_share_come_and_no_others);
    tcase_add_test(tcase, others_records_do_not_count);
    tcase_add_test(tcase, the_place_is_told_though_there_is_no_record);
    tcase_add_test(tcase, a_share_that_is_none_is_invalid);
    tcase_add_test(tcase, filter_is_told_and_holds_even_if_the_node_knows_none);
    tcase_add_test(tcase, answers_that_found_nothing_lead_on);
    tcase_add_test(tcase, nothing_at_all_ends_at_the_end);
    tcase_add_test(tcase, filtered_stream_passes_over_what_does_not_match);
    tcase_add_test(tcase, answer_without_records_that_leads_on_is_wrong_without_a_filter);
    tcase_add_test(tcase, filter_that_makes_no_sense_is_invalid);
    tcase_add_test(tcase, compressed_batches_are_read_as_others_are);
    tcase_add_test(tcase, sparse_batches_have_gaps_and_times_of_their_own);
    tcase_add_test(tcase, batch_that_is_larger_than_allowed_ends_it);
    tcase = add_case(suite, "free");
    tcase_add_loop_test(tcase, freeing_from_inside_a_record_ends_the_events, 0, 2);
    tcase_add_test(tcase, consumer_that_another_one_frees_gets_nothing_more);
    tcase_add_test(tcase, freeing_from_inside_the_end);
    tcase_add_test(tcase, freed_stream_is_canceled_at_the_node);
    tcase_add_loop_test(tcase, closing_the_client_ends_a_consumer, 0, 3);
    tcase_add_test(tcase, closing_the_client_frees_a_consumer_that_has_ended);
    return runner_main(suite);
}
