#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/runner.h"
#include "log/batch.h"
#include "server/lab.h"
#include "transport/frame.h"

static struct lab lab;

static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
}

static void teardown(void)
{
    lab_stop(&lab);
    lab_fini(&lab);
}

/* The next frame, of this type. */
static struct answer next(struct wire *wire, uint16_t type)
{
    struct answer answer;

    ck_assert(wire_receive(wire, &answer));
    ck_assert_uint_eq(answer.type, type);
    return answer;
}

static void produce(struct wire *wire, const char *topic, unsigned count, uint64_t offset)
{
    Quorlog__ProduceReply *reply = wire_produce(wire, topic, count);

    ck_assert_uint_eq(reply->offset, offset);
    ck_assert_uint_eq(reply->record_count, count);
    ck_assert_uint_eq(reply->leader_id, 1);
    ck_assert_uint_gt(reply->raft_index, 0);
    ck_assert_uint_gt(reply->term, 0);
    ck_assert(!reply->duplicate);
    quorlog__produce_reply__free_unpacked(reply, NULL);
}

static uint64_t consume(struct wire *wire, Quorlog__ConsumeRequest *request)
{
    return wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request->base, NULL, 0);
}

static void expect_range(struct wire *wire, uint64_t offset, uint64_t next_offset, bool empty)
{
    size_t body_size;
    Quorlog__ConsumeReply *reply = wire_consumed(wire, &body_size);

    ck_assert_uint_eq(reply->offset, offset);
    ck_assert_uint_eq(reply->next_offset, next_offset);
    ck_assert_uint_eq(reply->node_id, 1);
    ck_assert(empty == (body_size == 0));
    quorlog__consume_reply__free_unpacked(reply, NULL);
}

static Quorlog__ConsumeRequest from(const char *topic, uint64_t offset)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;

    request.topic = (char *)(uintptr_t)topic;
    request.offset = offset;
    return request;
}

/* ---- produce ---- */

START_TEST(records_get_dense_offsets_and_come_back)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("orders", 0);

    wire_create(&wire, "orders");
    produce(&wire, "orders", 1, 0);
    produce(&wire, "orders", 3, 1);
    consume(&wire, &request);
    expect_range(&wire, 0, 4, false);
    wire_close(&wire);
}
END_TEST

START_TEST(pipelined_batches_are_all_answered)
{
    enum { COUNT = 300 };
    struct wire wire = wire_client(&lab);
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 2, 0, 0);
    bool seen[COUNT] = {false};

    wire_create(&wire, "t");
    for (int i = 0; i < COUNT; i++) {
        wire_produce_start(&wire, "t", batch, size, 0);
    }
    for (int i = 0; i < COUNT; i++) {
        struct answer answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY);
        Quorlog__ProduceReply *reply =
            quorlog__produce_reply__unpack(NULL, answer.header_size, answer.header);

        ck_assert_uint_eq(reply->offset % 2, 0);
        ck_assert_uint_lt(reply->offset / 2, COUNT);
        ck_assert(!seen[reply->offset / 2]);
        seen[reply->offset / 2] = true;
        quorlog__produce_reply__free_unpacked(reply, NULL);
        answer_fini(&answer);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(a_retry_of_a_producer_gets_its_first_answer)
{
    struct wire wire = wire_client(&lab);
    Quorlog__InitProducerRequest init = QUORLOG__INIT_PRODUCER_REQUEST__INIT;
    Quorlog__InitProducerReply *producer;
    struct answer answer;
    uint8_t batch[256];
    size_t size;

    wire_create(&wire, "t");
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER, &init.base, NULL, 0);
    answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY);
    producer = quorlog__init_producer_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_uint_gt(producer->producer_id, 0);
    ck_assert_uint_eq(producer->window, 64);
    answer_fini(&answer);
    size = make_batch(batch, sizeof batch, 2, producer->producer_id, 0);
    for (int i = 0; i < 2; i++) {
        Quorlog__ProduceReply *reply;

        wire_produce_start(&wire, "t", batch, size, 0);
        answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY);
        reply = quorlog__produce_reply__unpack(NULL, answer.header_size, answer.header);
        ck_assert_uint_eq(reply->offset, 0);
        ck_assert(reply->duplicate == (i == 1));
        quorlog__produce_reply__free_unpacked(reply, NULL);
        answer_fini(&answer);
    }
    size = make_batch(batch, sizeof batch, 2, producer->producer_id, 7);
    wire_produce_start(&wire, "t", batch, size, 0);
    wire_error(&wire, ERR_SEQUENCE_GAP);
    quorlog__init_producer_reply__free_unpacked(producer, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(what_cannot_be_written_is_refused_and_the_connection_goes_on)
{
    enum { LARGE = (1 << 20) + 4096 };
    struct wire wire = wire_client(&lab);
    uint8_t *batch = malloc(LARGE);
    Quorlog__Error *error;
    size_t size;

    ck_assert_ptr_nonnull(batch);
    wire_create(&wire, "t");
    size = make_batch(batch, LARGE, 2, 0, 0);
    wire_produce_start(&wire, "nowhere", batch, size, 0);
    error = wire_expect_error(&wire, ERR_TOPIC_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(error->text, "'nowhere'"));
    ck_assert(!error->outcome_unknown && !error->retryable);
    ck_assert_uint_eq(error->node_id, 1);
    ck_assert_uint_eq(error->leader_id, 1);
    quorlog__error__free_unpacked(error, NULL);
    wire_produce_start(&wire, "../etc", batch, size, 0);
    wire_error(&wire, ERR_INVALID);
    wire_produce_start(&wire, "", batch, size, 0);
    wire_error(&wire, ERR_INVALID);
    wire_produce_start(&wire, "t", batch, size - 1, 0);
    wire_error(&wire, ERR_INVALID);
    wire_produce_start(&wire, "t", batch, 0, 0);
    wire_error(&wire, ERR_INVALID);
    batch[size - 1] ^= 1;
    wire_produce_start(&wire, "t", batch, size, 0);
    error = wire_expect_error(&wire, ERR_CHECKSUM);
    ck_assert(!error->outcome_unknown);
    quorlog__error__free_unpacked(error, NULL);
    size = make_batch(batch, LARGE, 2, 0, 0);
    batch[12] = 3; /* record_count */
    wire_produce_start(&wire, "t", batch, size, 0);
    error = wire_expect_error(&wire, ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error->text, "says 3, but the body has 2"));
    quorlog__error__free_unpacked(error, NULL);
    size = make_large_batch(batch, LARGE, 1 << 20);
    wire_produce_start(&wire, "t", batch, size, 0);
    wire_error(&wire, ERR_TOO_LARGE);
    produce(&wire, "t", 1, 0);
    free(batch);
    wire_close(&wire);
}
END_TEST

START_TEST(a_name_with_a_zero_in_it_is_not_the_name_before_it)
{
    static const uint8_t header[] = {0x0a, 3, 't', 0, 'x'};
    static const uint16_t types[] = {16, 18, 32, 34, 38};
    struct wire wire = wire_client(&lab);

    wire_create(&wire, "t");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const struct frame_out frame = {
            .type = types[i], .request_id = i, .header = header, .header_size = sizeof header};
        uint8_t prefix[FRAME_PREFIX_SIZE];
        Quorlog__Error *error;

        frame_out_encode_prefix(&frame, 0, prefix);
        wire_bytes(&wire, prefix, sizeof prefix);
        wire_bytes(&wire, header, sizeof header);
        error = wire_expect_error(&wire, ERR_INVALID);
        ck_assert_msg(strstr(error->text, "'topic'") != NULL, "%s", error->text);
        quorlog__error__free_unpacked(error, NULL);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(headers_that_cannot_be_decoded_are_refused)
{
    static const uint16_t types[] = {16, 18, 20, 21, 32, 33 + 1, 36, 38, 40, 48};
    static const uint8_t wrong[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct wire wire = wire_client(&lab);

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        Quorlog__Hello unpackable = QUORLOG__HELLO__INIT;
        ProtobufCMessageUnknownField field = {.tag = 1,
                                              .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
                                              .len = sizeof wrong,
                                              .data = (uint8_t *)(uintptr_t)wrong};

        unpackable.base.n_unknown_fields = 1;
        unpackable.base.unknown_fields = &field;
        wire_send(&wire, types[i], &unpackable.base, NULL, 0);
        wire_error(&wire, ERR_INVALID);
    }
    wire_send(&wire, 999, NULL, NULL, 0);
    wire_error(&wire, ERR_UNSUPPORTED);
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_PING, NULL, NULL, 0);
    {
        struct answer answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_PING_REPLY);

        ck_assert_uint_eq(answer.request_id, wire.request_id);
        answer_fini(&answer);
    }
    wire_close(&wire);
}
END_TEST

/* ---- consume ---- */

START_TEST(reading_starts_where_it_is_told_to)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    Quorlog__ProduceReply *middle;

    wire_create(&wire, "t");
    produce(&wire, "t", 2, 0);
    usleep(3000);
    middle = wire_produce(&wire, "t", 2);
    usleep(3000);
    produce(&wire, "t", 2, 4);
    request.start = QUORLOG__START__START_EARLIEST;
    consume(&wire, &request);
    expect_range(&wire, 0, 6, false);
    request.start = QUORLOG__START__START_LATEST;
    consume(&wire, &request);
    expect_range(&wire, 6, 6, true);
    request.start = QUORLOG__START__START_TAIL;
    request.offset = 3;
    consume(&wire, &request);
    expect_range(&wire, 3, 6, false);
    request.offset = 1000;
    consume(&wire, &request);
    expect_range(&wire, 0, 6, false);
    request.start = QUORLOG__START__START_TIME;
    request.time_us = middle->append_time_us;
    consume(&wire, &request);
    expect_range(&wire, 2, 6, false);
    request.time_us = middle->append_time_us + 1;
    consume(&wire, &request);
    expect_range(&wire, 4, 6, false);
    request.time_us = INT64_MAX;
    consume(&wire, &request);
    expect_range(&wire, 6, 6, true);
    request.time_us = 0;
    consume(&wire, &request);
    expect_range(&wire, 0, 6, false);
    request.start = (Quorlog__Start)77;
    consume(&wire, &request);
    wire_error(&wire, ERR_INVALID);
    quorlog__produce_reply__free_unpacked(middle, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(an_answer_is_bounded_by_records_and_bytes_but_has_a_whole_batch)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 1);

    wire_create(&wire, "t");
    for (unsigned i = 0; i < 3; i++) {
        produce(&wire, "t", 2, 2 * i);
    }
    request.bytes_max = 1;
    consume(&wire, &request);
    expect_range(&wire, 1, 2, false);
    request.bytes_max = 0;
    request.offset = 2;
    request.records_max = 2;
    consume(&wire, &request);
    expect_range(&wire, 2, 4, false);
    wire_close(&wire);
}
END_TEST

START_TEST(an_offset_out_of_range_is_told_with_the_range)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 9);
    Quorlog__Error *error;

    wire_create(&wire, "t");
    produce(&wire, "t", 2, 0);
    for (unsigned wait_ms = 0; wait_ms <= 30; wait_ms += 30) {
        request.wait_ms = wait_ms;
        consume(&wire, &request);
        error = wire_expect_error(&wire, ERR_RANGE);
        ck_assert_uint_eq(error->log_start, 0);
        ck_assert_uint_eq(error->log_end, 2);
        ck_assert(!error->outcome_unknown);
        quorlog__error__free_unpacked(error, NULL);
    }
    request = from("nowhere", 0);
    consume(&wire, &request);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
    wire_close(&wire);
}
END_TEST

START_TEST(a_long_poll_wakes_for_a_record_and_else_ends_empty)
{
    struct wire reader = wire_client(&lab);
    struct wire writer = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);

    wire_create(&writer, "t");
    request.wait_ms = 60;
    consume(&reader, &request);
    expect_range(&reader, 0, 0, true);
    request.wait_ms = 15000;
    consume(&reader, &request);
    ck_assert(!wire_readable(&reader, 50));
    produce(&writer, "t", 2, 0);
    ck_assert(wire_readable(&reader, 5000));
    expect_range(&reader, 0, 2, false);
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

static void delete_topic(struct wire *wire, const char *topic)
{
    Quorlog__TopicDeleteRequest request = QUORLOG__TOPIC_DELETE_REQUEST__INIT;
    struct answer answer;

    request.topic = (char *)(uintptr_t)topic;
    wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE, &request.base, NULL, 0);
    answer = next(wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE_REPLY);
    answer_fini(&answer);
}

START_TEST(a_topic_made_again_under_its_name_is_not_the_one_that_was_read)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    Quorlog__ConsumeReply *reply;

    wire_create(&wire, "t");
    (void)consume(&wire, &request);
    reply = wire_consumed(&wire, NULL);
    ck_assert_uint_ne(reply->topic_id, 0);
    request.topic_id = reply->topic_id;
    quorlog__consume_reply__free_unpacked(reply, NULL);
    (void)consume(&wire, &request);
    expect_range(&wire, 0, 0, true);
    delete_topic(&wire, "t");
    wire_create(&wire, "t");
    (void)consume(&wire, &request);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
    request.topic_id = 0;
    (void)consume(&wire, &request);
    expect_range(&wire, 0, 0, true);
    wire_close(&wire);
}
END_TEST

START_TEST(a_deleted_topic_ends_those_who_wait_for_it)
{
    struct wire reader = wire_client(&lab);
    struct wire writer = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);

    wire_create(&writer, "t");
    request.wait_ms = 15000;
    consume(&reader, &request);
    ck_assert(!wire_readable(&reader, 50));
    delete_topic(&writer, "t");
    wire_error(&reader, ERR_TOPIC_UNKNOWN);
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

START_TEST(a_token_from_the_future_waits_until_the_deadline)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    Quorlog__ProduceReply *reply;

    wire_create(&wire, "t");
    reply = wire_produce(&wire, "t", 1);
    request.at_least = reply->raft_index;
    consume(&wire, &request);
    expect_range(&wire, 0, 1, false);
    request.at_least = reply->raft_index + 1000;
    request.deadline_ms = 50;
    consume(&wire, &request);
    {
        Quorlog__Error *error = wire_expect_error(&wire, ERR_TIMEOUT);

        ck_assert(!error->outcome_unknown);
        quorlog__error__free_unpacked(error, NULL);
    }
    request.at_least = reply->raft_index + 1;
    request.deadline_ms = 10000;
    consume(&wire, &request);
    ck_assert(!wire_readable(&wire, 50));
    {
        struct wire writer = wire_client(&lab);

        produce(&writer, "t", 1, 1);
        wire_close(&writer);
    }
    expect_range(&wire, 0, 2, false);
    quorlog__produce_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
}
END_TEST

/* ---- streams ---- */

static uint64_t stream(struct wire *wire, Quorlog__ConsumeRequest *start, uint64_t credit)
{
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;

    request.from = start;
    request.credit = credit;
    return wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, &request.base, NULL, 0);
}

START_TEST(a_stream_follows_and_ends_when_it_is_canceled)
{
    struct wire reader = wire_client(&lab);
    struct wire writer = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    struct answer answer;
    uint64_t id;

    wire_create(&writer, "t");
    id = stream(&reader, &request, 1 << 20);
    expect_range(&reader, 0, 0, true); /* It tells where it starts. */
    for (unsigned i = 0; i < 5; i++) {
        produce(&writer, "t", 2, 2 * i);
        expect_range(&reader, 2 * i, 2 * i + 2, false);
    }
    stream(&reader, &request, 1);
    expect_range(&reader, 0, 2, false);
    wire_send_as(&reader, id, QUORLOG__FRAME_TYPE__FRAME_CANCEL, NULL, NULL, 0);
    answer = next(&reader, QUORLOG__FRAME_TYPE__FRAME_STREAM_END);
    ck_assert_uint_eq(answer.request_id, id);
    answer_fini(&answer);
    produce(&writer, "t", 1, 10);
    ck_assert(!wire_readable(&reader, 50));
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

START_TEST(a_stream_sends_no_more_than_its_credit_allows)
{
    struct wire reader = wire_client(&lab);
    struct wire writer = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    Quorlog__Credit credit = QUORLOG__CREDIT__INIT;
    uint64_t id;

    wire_create(&writer, "t");
    for (unsigned i = 0; i < 3; i++) {
        produce(&writer, "t", 2, 2 * i);
    }
    id = stream(&reader, &request, 0);
    ck_assert(!wire_readable(&reader, 50));
    credit.bytes = 1;
    wire_send_as(&reader, id, QUORLOG__FRAME_TYPE__FRAME_CREDIT, &credit.base, NULL, 0);
    expect_range(&reader, 0, 2, false);
    ck_assert(!wire_readable(&reader, 50));
    credit.bytes = UINT64_MAX;
    wire_send_as(&reader, id, QUORLOG__FRAME_TYPE__FRAME_CREDIT, &credit.base, NULL, 0);
    expect_range(&reader, 2, 6, false);
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

START_TEST(a_stream_ends_after_as_many_records_as_were_asked_for)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    struct answer answer;

    wire_create(&wire, "t");
    produce(&wire, "t", 2, 0);
    produce(&wire, "t", 2, 2);
    request.records_max = 2;
    stream(&wire, &request, 1 << 20);
    expect_range(&wire, 0, 2, false);
    answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_STREAM_END);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_slow_reader_of_a_stream_holds_up_nobody_and_gets_all_in_the_end)
{
    enum { SIZE = 512 << 10, COUNT = 48 };
    struct wire reader = wire_client(&lab);
    struct wire writer = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 0);
    uint8_t *batch = malloc(SIZE + 4096);
    size_t size = make_large_batch(batch, SIZE + 4096, SIZE);
    uint64_t offset = 0;

    wire_create(&writer, "t");
    stream(&reader, &request, UINT64_MAX);
    for (int i = 0; i < COUNT; i++) {
        struct answer answer;

        wire_produce_start(&writer, "t", batch, size, 0);
        answer = next(&writer, QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY);
        answer_fini(&answer);
    }
    /* 24 MiB were offered to a reader that took nothing: the node holds back the most of it. */
    while (offset < COUNT) {
        Quorlog__ConsumeReply *reply = wire_consumed(&reader, NULL);

        ck_assert_uint_eq(reply->offset, offset);
        offset = reply->next_offset;
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
    free(batch);
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

START_TEST(streams_that_make_no_sense_are_refused)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;
    Quorlog__ConsumeRequest start = from("t", 0);
    uint64_t id;

    wire_create(&wire, "t");
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, &request.base, NULL, 0);
    wire_error(&wire, ERR_INVALID);
    id = stream(&wire, &start, 1);
    expect_range(&wire, 0, 0, true);
    request.from = &start;
    wire_send_as(&wire, id, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, &request.base, NULL, 0);
    wire_error(&wire, ERR_INVALID);
    wire_close(&wire);
}
END_TEST

/* ---- topics and status ---- */

/* The descriptors of this process, the node's among them. */
static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        count += 1;
    }
    ck_assert_int_eq(closedir(dir), 0);
    return count;
}

START_TEST(topics_need_no_descriptors_while_nobody_uses_them)
{
    enum { TOPICS = 100, CACHE = 8 };
    struct wire wire;
    unsigned before;

    lab_stop(&lab);
    lab.config.file_cache_size = CACHE;
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    wire_create(&wire, "first");
    before = count_descriptors();
    for (unsigned i = 0; i < TOPICS; i++) {
        char topic[8];

        (void)snprintf(topic, sizeof topic, "t%u", i); /* fits */
        wire_create(&wire, topic);
        produce(&wire, topic, 3, 0);
        ck_assert_uint_le(count_descriptors(), before + CACHE * 8 + 8);
    }
    for (unsigned i = 0; i < TOPICS; i++) { /* They take more. */
        char topic[8];

        (void)snprintf(topic, sizeof topic, "t%u", i); /* fits */
        produce(&wire, topic, 3, 3);
    }
    ck_assert_uint_le(count_descriptors(), before + CACHE * 8 + 8);
    wire_close(&wire);
    lab_stop(&lab);
    lab_start(&lab); /* All are there again. */
    (void)lab_leader(&lab, 1);
    ck_assert_uint_le(count_descriptors(), before + CACHE * 8 + 8);
    wire = wire_client(&lab);
    produce(&wire, "t99", 3, 6);
    wire_close(&wire);
}
END_TEST

START_TEST(topics_are_created_once_and_listed_by_name)
{
    struct wire wire = wire_client(&lab);
    Quorlog__TopicCreateRequest create = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    Quorlog__TopicListRequest list = QUORLOG__TOPIC_LIST_REQUEST__INIT;
    Quorlog__TopicListReply *reply;
    struct answer answer;

    wire_create(&wire, "b");
    wire_create(&wire, "a");
    create.topic = (char *)(uintptr_t) "a";
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &create.base, NULL, 0);
    wire_error(&wire, ERR_TOPIC_EXISTS);
    create.topic = (char *)(uintptr_t) "../a";
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &create.base, NULL, 0);
    wire_error(&wire, ERR_INVALID);
    produce(&wire, "b", 3, 0);
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST, &list.base, NULL, 0);
    answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST_REPLY);
    reply = quorlog__topic_list_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_uint_eq(reply->n_topics, 2);
    ck_assert_str_eq(reply->topics[0]->name, "a");
    ck_assert_uint_eq(reply->topics[0]->digest.len, 0);
    ck_assert_str_eq(reply->topics[1]->name, "b");
    ck_assert_uint_eq(reply->topics[1]->end, 3);
    ck_assert_uint_eq(reply->topics[1]->digest.len, 32);
    ck_assert(!reply->more);
    quorlog__topic_list_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_long_list_of_topics_comes_in_parts)
{
    enum { COUNT = 230 };
    struct wire wire = wire_client(&lab);
    char after[16] = "";
    unsigned seen = 0;
    bool more = true;

    for (unsigned i = 0; i < COUNT; i++) {
        Quorlog__TopicCreateRequest create = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
        char name[16];

        snprintf(name, sizeof name, "t%03u", i);
        create.topic = name;
        wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &create.base, NULL, 0);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct answer answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE_REPLY);

        answer_fini(&answer);
    }
    while (more) {
        Quorlog__TopicListRequest list = QUORLOG__TOPIC_LIST_REQUEST__INIT;
        Quorlog__TopicListReply *reply;
        struct answer answer;

        list.after = after;
        wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST, &list.base, NULL, 0);
        answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST_REPLY);
        reply = quorlog__topic_list_reply__unpack(NULL, answer.header_size, answer.header);
        for (size_t i = 0; i < reply->n_topics; i++) {
            ck_assert_str_gt(reply->topics[i]->name, after);
            snprintf(after, sizeof after, "%s", reply->topics[i]->name);
            seen++;
        }
        more = reply->more;
        quorlog__topic_list_reply__free_unpacked(reply, NULL);
        answer_fini(&answer);
    }
    ck_assert_uint_eq(seen, COUNT);
    wire_close(&wire);
}
END_TEST

START_TEST(a_topic_is_described_and_an_unknown_one_is_not)
{
    struct wire wire = wire_client(&lab);
    Quorlog__TopicDescribeRequest request = QUORLOG__TOPIC_DESCRIBE_REQUEST__INIT;
    Quorlog__TopicDescribeReply *reply;
    struct answer answer;

    wire_create(&wire, "t");
    produce(&wire, "t", 3, 0);
    request.topic = (char *)(uintptr_t) "t";
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE, &request.base, NULL, 0);
    answer = next(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE_REPLY);
    reply = quorlog__topic_describe_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_str_eq(reply->topic->name, "t");
    ck_assert_uint_eq(reply->topic->start, 0);
    ck_assert_uint_eq(reply->topic->end, 3);
    ck_assert_uint_gt(reply->topic->size, 104);
    quorlog__topic_describe_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    request.topic = (char *)(uintptr_t) "u";
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE, &request.base, NULL, 0);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
    wire_close(&wire);
}
END_TEST

static Quorlog__StatusReply *ask_status(struct wire *wire)
{
    Quorlog__StatusRequest request = QUORLOG__STATUS_REQUEST__INIT;
    Quorlog__StatusReply *reply;
    struct answer answer;

    wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_STATUS, &request.base, NULL, 0);
    answer = next(wire, QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY);
    reply = quorlog__status_reply__unpack(NULL, answer.header_size, answer.header);
    answer_fini(&answer);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(reply->n_nodes, 1);
    return reply;
}

START_TEST(status_tells_of_this_node)
{
    struct wire wire = wire_client(&lab);
    Quorlog__StatusReply *reply;

    wire_create(&wire, "t");
    produce(&wire, "t", 3, 0);
    reply = ask_status(&wire);
    /* Answers come first, then what is published. */
    while (reply->nodes[0]->records < 3) {
        quorlog__status_reply__free_unpacked(reply, NULL);
        reply = ask_status(&wire);
    }
    ck_assert_uint_eq(reply->leader_id, 1);
    ck_assert_uint_eq(strlen(reply->cluster_id), 32);
    ck_assert_str_eq(reply->nodes[0]->state, "leader");
    ck_assert_str_eq(reply->nodes[0]->role, "voter");
    ck_assert_uint_eq(reply->nodes[0]->lag, 0);
    ck_assert_uint_eq(reply->nodes[0]->records, 3);
    ck_assert_uint_eq(reply->nodes[0]->connections, 1);
    ck_assert_uint_gt(reply->nodes[0]->memory, 0);
    ck_assert_uint_gt(reply->nodes[0]->journal_writes, 0);
    quorlog__status_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
}
END_TEST

/* The histogram has them all, and its quantiles are in order. */
static void expect_delays(const Quorlog__Delays *delays)
{
    uint64_t sum = 0;

    ck_assert_ptr_nonnull(delays);
    for (size_t i = 0; i < delays->n_octaves; i++) {
        sum += delays->octaves[i];
    }
    ck_assert_uint_gt(delays->count, 0);
    ck_assert_uint_eq(sum, delays->count);
    ck_assert_uint_gt(delays->octaves[delays->n_octaves - 1], 0);
    ck_assert_uint_le(delays->p50_us, delays->p99_us);
    ck_assert_uint_le(delays->p99_us, delays->max_us);
    ck_assert(delays->long_count == 0 || delays->max_us > 10000);
}

START_TEST(status_tells_how_long_turns_and_writes_took)
{
    struct wire wire = wire_client(&lab);
    Quorlog__StatusReply *before;
    Quorlog__StatusReply *after;

    wire_create(&wire, "t");
    before = ask_status(&wire);
    expect_delays(before->nodes[0]->raft_turns);
    expect_delays(before->nodes[0]->front_turns);
    expect_delays(before->nodes[0]->journal_delays);
    ck_assert_str_ne(before->nodes[0]->raft_turns->longest, "");
    ck_assert_str_ne(before->nodes[0]->front_turns->longest, "");
    for (uint64_t i = 0; i < 10; i++) {
        produce(&wire, "t", 1, i);
    }
    after = ask_status(&wire);
    /* One at a time: each is a turn of both, at least, and a write; the last ones may still be
     * under way. */
    ck_assert_uint_ge(after->nodes[0]->raft_turns->count, before->nodes[0]->raft_turns->count + 9);
    ck_assert_uint_ge(after->nodes[0]->front_turns->count,
                      before->nodes[0]->front_turns->count + 9);
    ck_assert_uint_ge(after->nodes[0]->journal_delays->count,
                      before->nodes[0]->journal_delays->count + 9);
    quorlog__status_reply__free_unpacked(before, NULL);
    quorlog__status_reply__free_unpacked(after, NULL);
    wire_close(&wire);
}
END_TEST

/* ---- start and stop ---- */

START_TEST(a_stop_answers_who_waits_and_a_new_start_has_all_records)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = from("t", 2);

    wire_create(&wire, "t");
    produce(&wire, "t", 2, 0);
    request.wait_ms = 60000;
    consume(&wire, &request);
    ck_assert(!wire_readable(&wire, 50));
    lab_stop(&lab);
    {
        Quorlog__Error *error = wire_expect_error(&wire, ERR_SHUTDOWN);

        ck_assert(!error->outcome_unknown);
        quorlog__error__free_unpacked(error, NULL);
    }
    wire_expect_end(&wire);
    wire_close(&wire);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    request = from("t", 0);
    request.wait_ms = 5000;
    consume(&wire, &request);
    expect_range(&wire, 0, 2, false);
    produce(&wire, "t", 1, 2);
    wire_close(&wire);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/api");
    TCase *tcase = tcase_create("produce");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, records_get_dense_offsets_and_come_back);
    tcase_add_test(tcase, pipelined_batches_are_all_answered);
    tcase_add_test(tcase, a_retry_of_a_producer_gets_its_first_answer);
    tcase_add_test(tcase, what_cannot_be_written_is_refused_and_the_connection_goes_on);
    tcase_add_test(tcase, headers_that_cannot_be_decoded_are_refused);
    tcase_add_test(tcase, a_name_with_a_zero_in_it_is_not_the_name_before_it);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("consume");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, reading_starts_where_it_is_told_to);
    tcase_add_test(tcase, an_answer_is_bounded_by_records_and_bytes_but_has_a_whole_batch);
    tcase_add_test(tcase, an_offset_out_of_range_is_told_with_the_range);
    tcase_add_test(tcase, a_long_poll_wakes_for_a_record_and_else_ends_empty);
    tcase_add_test(tcase, a_topic_made_again_under_its_name_is_not_the_one_that_was_read);
    tcase_add_test(tcase, a_deleted_topic_ends_those_who_wait_for_it);
    tcase_add_test(tcase, a_token_from_the_future_waits_until_the_deadline);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("stream");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_stream_follows_and_ends_when_it_is_canceled);
    tcase_add_test(tcase, a_stream_sends_no_more_than_its_credit_allows);
    tcase_add_test(tcase, a_stream_ends_after_as_many_records_as_were_asked_for);
    tcase_add_test(tcase, a_slow_reader_of_a_stream_holds_up_nobody_and_gets_all_in_the_end);
    tcase_add_test(tcase, streams_that_make_no_sense_are_refused);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("topics and status");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, topics_need_no_descriptors_while_nobody_uses_them);
    tcase_add_test(tcase, topics_are_created_once_and_listed_by_name);
    tcase_add_test(tcase, a_long_list_of_topics_comes_in_parts);
    tcase_add_test(tcase, a_topic_is_described_and_an_unknown_one_is_not);
    tcase_add_test(tcase, status_tells_of_this_node);
    tcase_add_test(tcase, status_tells_how_long_turns_and_writes_took);
    tcase_add_test(tcase, a_stop_answers_who_waits_and_a_new_start_has_all_records);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
