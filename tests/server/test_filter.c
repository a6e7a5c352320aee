/* Filtered reads, and compressed batches, against a real node. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/batch.h"
#include "record/batch_records.h"
#include "record/codec.h"
#include "record/filter.h"
#include "server/lab.h"

enum { BATCH_MAX = 1 << 20, COUNT = 20, BATCHES = 10, ALL = COUNT * BATCHES };

static struct lab lab;
static struct wire wire;
static uint8_t batch[2 * BATCH_MAX];

static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    wire_create(&wire, "t");
}

static void teardown(void)
{
    wire_close(&wire);
    lab_stop(&lab);
    lab_fini(&lab);
}

/* ---- writing ---- */

/* Of what a body holds makes a batch; its size. */
static size_t make(const struct buf *body, uint32_t count, enum codec codec)
{
    struct batch_header header = {.record_count = count, .attributes = (uint16_t)codec};
    struct buf packed;

    buf_init(&packed, 2 * BATCH_MAX);
    if (codec == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&packed, body->data, body->size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress(codec, body->data, body->size, &packed, NULL), ERR_OK);
    }
    ck_assert_uint_le(BATCH_HEADER_SIZE + packed.size, sizeof batch);
    header.size = BATCH_HEADER_SIZE + (uint32_t)packed.size;
    header.body_crc32c = crc32c(packed.data, packed.size);
    batch_header_encode(&header, batch);
    memset(batch + 4, 0, 4); /* The cluster stamps it. */
    memcpy(batch + BATCH_HEADER_SIZE, packed.data, packed.size);
    buf_fini(&packed);
    return header.size;
}

static void produce(size_t size)
{
    struct answer answer;

    wire_produce_start(&wire, "t", batch, size, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY);
    answer_fini(&answer);
}

/* Record i of a batch: value "value <i>", key "k<i % 5>", header kind = even or odd. */
static void append_record(struct buf *body, unsigned i)
{
    char value[16];
    char key[8];
    const struct record_header header = {
        .name = "kind", .value = i % 2 == 0 ? "even" : "odd", .value_size = i % 2 == 0 ? 4 : 3};
    struct record record = {.value = value, .key = key, .headers = &header, .header_count = 1};

    record.value_size = (size_t)snprintf(value, sizeof value, "value %u", i);
    record.key_size = (size_t)snprintf(key, sizeof key, "k%u", i % 5);
    ck_assert_int_eq(record_set_append(body, &record), ERR_OK);
}

/* BATCHES of COUNT records, every codec in turn. */
static void fill_topic(void)
{
    struct buf body;

    buf_init(&body, BATCH_MAX);
    for (unsigned i = 0; i < BATCHES; i++) {
        body.size = 0;
        for (unsigned k = 0; k < COUNT; k++) {
            append_record(&body, i * COUNT + k);
        }
        produce(make(&body, COUNT, (enum codec)(i % 3)));
    }
    buf_fini(&body);
}

/* Batches of size bytes of values, none of which a filter of these tests finds. */
static void fill_large(unsigned batches, size_t value_size)
{
    for (unsigned i = 0; i < batches; i++) {
        produce(make_large_batch(batch, sizeof batch, value_size));
    }
}

/* ---- reading ---- */

struct got {
    uint64_t offsets[ALL];
    size_t count;
    uint64_t offset; /* of the last answer */
    uint64_t next;
    uint64_t log_end;
    uint64_t scanned; /* of all answers */
    uint64_t bytes;
    unsigned answers;
};

static void take_records(struct got *got, const struct batch_header *header, const uint8_t *body)
{
    struct batch_records records;
    struct record record;
    struct err_info info;
    enum err err;

    ck_assert_uint_eq(header->attributes, BATCH_SPARSE);
    ck_assert_uint_gt(header->raft_index, 0);
    for (size_t i = 0; i < BATCH_DIGEST_SIZE; i++) {
        ck_assert_uint_eq(header->digest[i], 0);
    }
    batch_records_init(&records);
    ck_assert_int_eq(batch_records_start(&records, header, body, 0, &info), ERR_OK);
    while ((err = batch_records_next(&records, &record)) == ERR_OK) {
        char value[16];
        int size = snprintf(value, sizeof value, "value %u", (unsigned)record.offset);

        ck_assert_uint_lt(got->count, ALL);
        ck_assert_uint_eq(record.value_size, (size_t)size);
        ck_assert_mem_eq(record.value, value, (size_t)size);
        ck_assert_int_eq(record.append_time_us, header->append_time_us);
        got->offsets[got->count++] = record.offset;
    }
    ck_assert_int_eq(err, ERR_AGAIN);
    batch_records_fini(&records);
}

/* The next answer. */
static void take_answer(struct got *got)
{
    struct answer answer;
    Quorlog__ConsumeReply *reply;
    uint64_t end;

    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY);
    reply = quorlog__consume_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    end = reply->offset;
    for (size_t at = 0; at < answer.body_size;) {
        struct batch_header header;

        ck_assert_int_eq(batch_header_decode(answer.body + at, UINT32_MAX, &header, NULL), ERR_OK);
        ck_assert_uint_le(header.size, answer.body_size - at);
        ck_assert_int_eq(batch_check_body(&header, answer.body + at + BATCH_HEADER_SIZE, NULL),
                         ERR_OK);
        ck_assert_uint_ge(header.base_offset, end);
        end = batch_end_offset(&header);
        take_records(got, &header, answer.body + at + BATCH_HEADER_SIZE);
        at += header.size;
    }
    ck_assert_uint_ge(reply->next_offset, end);
    got->offset = reply->offset;
    got->next = reply->next_offset;
    got->log_end = reply->log_end;
    got->scanned += reply->records_scanned;
    got->bytes += reply->bytes_scanned;
    got->answers++;
    quorlog__consume_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
}

static Quorlog__RecordFilter filter;
static Quorlog__ConsumeRequest request;
static Quorlog__HeaderCondition header_condition;
static Quorlog__HeaderCondition *header_list[] = {&header_condition};
static ProtobufCBinaryData text;

static void ask_for(uint64_t offset)
{
    quorlog__record_filter__init(&filter);
    quorlog__consume_request__init(&request);
    request.topic = "t";
    request.offset = offset;
    request.filter = &filter;
}

static void want_key(const char *key)
{
    filter.has_key = true;
    filter.key = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)key, .len = strlen(key)};
}

static void want_text(const char *wanted)
{
    text = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)wanted, .len = strlen(wanted)};
    filter.contains = &text;
    filter.n_contains = 1;
}

static void want_header(const char *name, const char *value)
{
    quorlog__header_condition__init(&header_condition);
    header_condition.name = (char *)(uintptr_t)name;
    header_condition.has_value = value != NULL;
    if (value != NULL) {
        header_condition.value =
            (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)value, .len = strlen(value)};
    }
    filter.headers = header_list;
    filter.n_headers = 1;
}

/* Asks again until the log's end. */
static struct got read_all(void)
{
    struct got got = {.next = request.offset, .log_end = UINT64_MAX};

    while (got.next < got.log_end) {
        uint64_t before = got.next;

        request.offset = got.next;
        wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
        take_answer(&got);
        ck_assert_uint_eq(got.offset, before);
        ck_assert_uint_gt(got.next, before);
    }
    return got;
}

START_TEST(records_of_a_key_come_alone_and_in_order)
{
    struct got got;

    fill_topic();
    ask_for(0);
    want_key("k3");
    got = read_all();
    ck_assert_uint_eq(got.count, ALL / 5);
    for (size_t i = 0; i < got.count; i++) {
        ck_assert_uint_eq(got.offsets[i], 5 * i + 3);
    }
    ck_assert_uint_eq(got.scanned, ALL);
    ck_assert_uint_gt(got.bytes, 10 * BATCH_HEADER_SIZE);
    ck_assert_uint_eq(got.answers, 1);
}
END_TEST

START_TEST(headers_and_texts_are_looked_for_together)
{
    struct got got;

    fill_topic();
    ask_for(0);
    want_header("kind", NULL);
    ck_assert_uint_eq(read_all().count, ALL);
    ask_for(0);
    want_header("kind", "odd");
    ck_assert_uint_eq(read_all().count, ALL / 2);
    want_text("e 19");
    request.offset = 0;
    got = read_all(); /* 19, 191, 193 … 199 */
    ck_assert_uint_eq(got.count, 6);
    ck_assert_uint_eq(got.offsets[0], 19);
    ck_assert_uint_eq(got.offsets[5], 199);
    ask_for(0);
    want_header("Kind", NULL);
    got = read_all();
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(got.next, ALL);
    ck_assert_uint_eq(got.scanned, ALL);
}
END_TEST

START_TEST(reading_begins_in_the_middle_of_a_batch)
{
    struct got got;

    fill_topic();
    ask_for(33);
    want_key("k3");
    got = read_all();
    ck_assert_uint_eq(got.offsets[0], 33);
    ck_assert_uint_eq(got.scanned, ALL - 33);
    ask_for(34);
    want_key("k3");
    got = read_all();
    ck_assert_uint_eq(got.offsets[0], 38);
}
END_TEST

START_TEST(small_answers_hold_all_in_the_end)
{
    struct got got;

    fill_topic();
    ask_for(0);
    want_header("kind", "even");
    request.bytes_max = 1; /* A record an answer. */
    got = read_all();
    ck_assert_uint_eq(got.count, ALL / 2);
    ck_assert_uint_ge(got.answers, ALL / 2);
    for (size_t i = 0; i < got.count; i++) {
        ck_assert_uint_eq(got.offsets[i], 2 * i);
    }
    ask_for(0);
    want_header("kind", "even");
    request.records_max = 15; /* Whole batches. */
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
    memset(&got, 0, sizeof got);
    take_answer(&got);
    ck_assert_uint_eq(got.count, 20);
    ck_assert_uint_eq(got.next, 2 * COUNT);
}
END_TEST

/* The moment that a batch was appended at. */
static int64_t time_of(uint64_t offset)
{
    Quorlog__ConsumeRequest plain = QUORLOG__CONSUME_REQUEST__INIT;
    struct batch_header header;
    struct answer answer;

    plain.topic = "t";
    plain.offset = offset;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &plain.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_int_eq(batch_header_decode(answer.body, UINT32_MAX, &header, NULL), ERR_OK);
    answer_fini(&answer);
    return header.append_time_us;
}

START_TEST(times_narrow_what_is_looked_at)
{
    struct got got;

    fill_topic();
    ask_for(0);
    filter.since_us = time_of(3 * COUNT);
    filter.until_us = time_of(7 * COUNT);
    ck_assert_int_lt(filter.since_us, filter.until_us);
    got = read_all();
    ck_assert_uint_eq(got.count, 4 * COUNT);
    ck_assert_uint_eq(got.offsets[0], 3 * COUNT);
    ck_assert_uint_eq(got.offsets[got.count - 1], 7 * COUNT - 1);
    ck_assert_uint_eq(got.scanned, 4 * COUNT);
    ask_for(5 * COUNT + 1);
    filter.since_us = time_of(3 * COUNT);
    got = read_all();
    ck_assert_uint_eq(got.count, 5 * COUNT - 1);
    ask_for(0);
    filter.since_us = time_of(9 * COUNT) + 1;
    got = read_all();
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(got.scanned, 0);
    ck_assert_uint_eq(got.next, ALL);
    ask_for(0);
    filter.until_us = 1;
    got = read_all();
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(got.scanned, 0);
}
END_TEST

START_TEST(steps_are_bounded_and_tell_how_far_they_came)
{
    struct got got;

    fill_large(24, 900 << 10); /* 21 MiB, 4 a step */
    ask_for(0);
    want_text("not there");
    got = read_all();
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_ge(got.answers, 4);
    ck_assert_uint_eq(got.next, 24);
    ck_assert_uint_eq(got.scanned, 24);
    ck_assert_uint_gt(got.bytes, 21 << 20);
}
END_TEST

START_TEST(zstd_batches_count_by_what_is_read_of_them)
{
    struct got got;
    struct buf body;
    uint8_t *zeros = calloc(1, 900 << 10);
    const struct record record = {.value = zeros, .value_size = 900 << 10};

    ck_assert_ptr_nonnull(zeros);
    buf_init(&body, BATCH_MAX);
    ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    for (int i = 0; i < 5; i++) {
        produce(make(&body, 1, CODEC_ZSTD));
    }
    ask_for(0);
    want_text("not there");
    got = read_all();
    ck_assert_uint_eq(got.scanned, 5);
    ck_assert_uint_lt(got.bytes, 5000);
    buf_fini(&body);
    free(zeros);
}
END_TEST

static void open_stream(uint64_t credit)
{
    Quorlog__ConsumeStreamRequest stream = QUORLOG__CONSUME_STREAM_REQUEST__INIT;

    stream.from = &request;
    stream.credit = credit;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, &stream.base, NULL, 0);
}

START_TEST(stream_goes_on_with_what_is_appended_and_matches)
{
    struct got got = {0};
    struct wire other = wire_client(&lab);
    struct wire own;
    struct buf body;

    fill_topic();
    ask_for(0);
    want_key("k0");
    open_stream(1 << 20);
    while (got.next < ALL) {
        take_answer(&got);
    }
    ck_assert_uint_eq(got.count, ALL / 5);
    own = wire;
    wire = other;
    buf_init(&body, BATCH_MAX);
    append_record(&body, ALL + 1); /* At ALL; it does not match. */
    produce(make(&body, 1, CODEC_NONE));
    wire = own;
    take_answer(&got);
    ck_assert_uint_eq(got.count, ALL / 5); /* That is told, too. */
    ck_assert_uint_eq(got.next, ALL + 1);
    wire = other;
    body.size = 0;
    for (unsigned i = 1; i <= 5; i++) {
        append_record(&body, ALL + i);
    }
    produce(make(&body, 5, CODEC_ZSTD));
    wire = own;
    take_answer(&got);
    ck_assert_uint_eq(got.count, ALL / 5 + 1);
    ck_assert_uint_eq(got.offsets[got.count - 1], ALL + 5);
    buf_fini(&body);
    wire_close(&other);
}
END_TEST

START_TEST(canceled_stream_ends_in_the_middle)
{
    struct got got = {0};
    struct answer answer;
    uint64_t id;

    fill_large(24, 900 << 10);
    ask_for(0);
    want_text("not there");
    open_stream(1 << 20);
    id = wire.request_id;
    take_answer(&got);
    ck_assert_uint_lt(got.next, 24);
    wire_send_as(&wire, id, QUORLOG__FRAME_TYPE__FRAME_CANCEL, NULL, NULL, 0);
    for (;;) {
        ck_assert(wire_receive(&wire, &answer));
        ck_assert_uint_eq(answer.request_id, id);
        if (answer.type == QUORLOG__FRAME_TYPE__FRAME_STREAM_END) {
            break;
        }
        answer_fini(&answer);
    }
    answer_fini(&answer);
    ck_assert(!wire_readable(&wire, 50));
}
END_TEST

START_TEST(stream_stays_within_its_credit_and_ends_after_as_many_matches)
{
    struct got got = {0};
    struct answer answer;

    fill_topic();
    ask_for(0);
    want_header("kind", "odd");
    request.records_max = 35; /* Four batches of ten. */
    open_stream(1);
    take_answer(&got);
    ck_assert_uint_eq(got.count, 1); /* The first one, whatever its size. */
    ck_assert(!wire_readable(&wire, 100));
    {
        Quorlog__Credit credit = QUORLOG__CREDIT__INIT;

        credit.bytes = 1 << 20;
        wire_send_as(&wire, wire.request_id, QUORLOG__FRAME_TYPE__FRAME_CREDIT, &credit.base, NULL,
                     0);
    }
    while (got.count < 40) {
        take_answer(&got);
    }
    ck_assert_uint_eq(got.count, 40);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_STREAM_END);
    answer_fini(&answer);
}
END_TEST

static void expect_refused(enum err err, const char *wanted)
{
    Quorlog__Error *error;

    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
    error = wire_expect_error(&wire, err);
    ck_assert_msg(strstr(error->text, wanted) != NULL, "%s", error->text);
    quorlog__error__free_unpacked(error, NULL);
}

START_TEST(filter_that_makes_no_sense_is_refused_and_says_what_is_allowed)
{
    ask_for(0);
    want_header("", NULL);
    expect_refused(ERR_INVALID, "a name of at least one character");
    ask_for(0);
    want_text("");
    expect_refused(ERR_INVALID, "at least one byte");
    ask_for(0);
    filter.latest = true;
    expect_refused(ERR_INVALID, "give one");
    ask_for(0);
    filter.since_us = 5;
    filter.until_us = 5;
    expect_refused(ERR_INVALID, "before its until");
    memset(batch, 'x', sizeof batch);
    ask_for(0);
    filter.has_key = true;
    filter.key = (ProtobufCBinaryData){.data = batch, .len = FILTER_TEXT_MAX + 1};
    expect_refused(ERR_TOO_LARGE, "at most 4096 bytes");
    filter.key.len = 20000;
    expect_refused(ERR_TOO_LARGE, "a filter of 20006 bytes");
}
END_TEST

/* ---- what may be produced ---- */

static void expect_not_produced(size_t size, enum err err, const char *wanted)
{
    Quorlog__Error *error;

    wire_produce_start(&wire, "t", batch, size, 0);
    error = wire_expect_error(&wire, err);
    ck_assert_msg(strstr(error->text, wanted) != NULL, "%s", error->text);
    ck_assert(!error->outcome_unknown);
    quorlog__error__free_unpacked(error, NULL);
}

START_TEST(bomb_is_refused_when_it_is_produced)
{
    size_t limit = (size_t)lab.config.batch_size_max - BATCH_HEADER_SIZE;
    struct buf body;

    buf_init(&body, 4 * BATCH_MAX);
    ck_assert_int_eq(buf_reserve(&body, limit + 1), ERR_OK);
    memset(body.data, 0, limit + 1);
    for (int codec = CODEC_LZ4; codec <= CODEC_ZSTD; codec++) {
        body.size = limit + 1;
        expect_not_produced(make(&body, 1, (enum codec)codec), ERR_TOO_LARGE, "the limit is");
        body.size = limit; /* Small enough, but no record. */
        expect_not_produced(make(&body, 1, (enum codec)codec), ERR_INVALID, "something else");
        body.size = 9;
        expect_not_produced(make(&body, 5, (enum codec)codec), ERR_INVALID,
                            "cannot hold so many records");
    }
    buf_fini(&body);
}
END_TEST

/* It would end every reading that comes to it. */
START_TEST(records_that_are_not_there_are_not_produced)
{
    struct buf body;

    buf_init(&body, BATCH_MAX);
    for (unsigned i = 0; i < 30; i++) {
        append_record(&body, i);
    }
    for (int codec = CODEC_LZ4; codec <= CODEC_ZSTD; codec++) {
        size_t size = make(&body, 30, (enum codec)codec);

        produce(size);
        expect_not_produced(make(&body, 29, (enum codec)codec), ERR_INVALID, "record_count");
        expect_not_produced(make(&body, 31, (enum codec)codec), ERR_INVALID, "record_count");
    }
    buf_fini(&body);
}
END_TEST

static void append_keyless(struct buf *body)
{
    const struct record record = {.value = "value", .value_size = 5};

    ck_assert_int_eq(record_set_append(body, &record), ERR_OK);
}

static void set_compact(bool compact)
{
    struct topic *topic = catalog_find(group_catalog(lab.node->group), "t");
    struct topic_settings settings;

    ck_assert_ptr_nonnull(topic);
    topic_settings_get(topic, &settings);
    settings.compact = compact;
    topic_settings_set(topic, &settings);
    topic_unref(topic);
}

START_TEST(record_without_key_is_not_produced_to_a_compacted_topic)
{
    struct buf body;

    buf_init(&body, BATCH_MAX);
    for (unsigned i = 0; i < 30; i++) {
        append_record(&body, i);
    }
    set_compact(true);
    produce(make(&body, 30, (enum codec)_i));
    append_keyless(&body);
    expect_not_produced(make(&body, 31, (enum codec)_i), ERR_INVALID, "record 30 of the batch");
    expect_not_produced(make(&body, 31, (enum codec)_i), ERR_INVALID, "--compact off");
    set_compact(false);
    produce(make(&body, 31, (enum codec)_i));
    buf_fini(&body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/filter");
    TCase *reads = tcase_create("reads");
    TCase *produced = tcase_create("produced");

    tcase_set_timeout(reads, 60);
    tcase_set_timeout(produced, 60);
    tcase_add_checked_fixture(reads, setup, teardown);
    tcase_add_test(reads, records_of_a_key_come_alone_and_in_order);
    tcase_add_test(reads, headers_and_texts_are_looked_for_together);
    tcase_add_test(reads, reading_begins_in_the_middle_of_a_batch);
    tcase_add_test(reads, small_answers_hold_all_in_the_end);
    tcase_add_test(reads, times_narrow_what_is_looked_at);
    tcase_add_test(reads, steps_are_bounded_and_tell_how_far_they_came);
    tcase_add_test(reads, zstd_batches_count_by_what_is_read_of_them);
    tcase_add_test(reads, stream_goes_on_with_what_is_appended_and_matches);
    tcase_add_test(reads, canceled_stream_ends_in_the_middle);
    tcase_add_test(reads, stream_stays_within_its_credit_and_ends_after_as_many_matches);
    tcase_add_test(reads, filter_that_makes_no_sense_is_refused_and_says_what_is_allowed);
    suite_add_tcase(suite, reads);
    tcase_add_checked_fixture(produced, setup, teardown);
    tcase_add_test(produced, bomb_is_refused_when_it_is_produced);
    tcase_add_test(produced, records_that_are_not_there_are_not_produced);
    tcase_add_loop_test(produced, record_without_key_is_not_produced_to_a_compacted_topic, 0, 3);
    suite_add_tcase(suite, produced);
    return runner_main(suite);
}
