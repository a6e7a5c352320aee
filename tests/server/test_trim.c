/*
 * Trims as a node serves them: exact to the record for whoever reads, also in the middle of a
 * batch.
 */
#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "server/lab.h"

#define TYPE(name) QUORLOG__FRAME_TYPE__FRAME_##name

static struct lab lab;
static struct wire wire;

/* Batches [0, 4), [4, 8), [8, 12). */
static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    wire_create(&wire, "t");
    for (unsigned i = 0; i < 3; i++) {
        quorlog__produce_reply__free_unpacked(wire_produce(&wire, "t", 4), NULL);
    }
}

static void teardown(void)
{
    wire_close(&wire);
    lab_stop(&lab);
    lab_fini(&lab);
}

static Quorlog__TopicTrimRequest trim_to(uint64_t before)
{
    Quorlog__TopicTrimRequest request = QUORLOG__TOPIC_TRIM_REQUEST__INIT;

    request.topic = (char *)"t";
    request.before = before;
    return request;
}

/* Where the topic begins then. */
static uint64_t trim(const Quorlog__TopicTrimRequest *request)
{
    Quorlog__TopicTrimReply *reply;
    struct answer answer;
    uint64_t start;

    (void)wire_send(&wire, TYPE(TOPIC_TRIM), &request->base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(TOPIC_TRIM_REPLY));
    reply = quorlog__topic_trim_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_gt(reply->raft_index, 0);
    ck_assert_uint_gt(reply->topic_id, 0);
    start = reply->start;
    quorlog__topic_trim_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    return start;
}

static void refused(const Quorlog__TopicTrimRequest *request, enum err err, const char *text)
{
    Quorlog__Error *error;

    (void)wire_send(&wire, TYPE(TOPIC_TRIM), &request->base, NULL, 0);
    error = wire_expect_error(&wire, err);
    ck_assert_msg(strstr(error->text, text) != NULL, "%s", error->text);
    ck_assert(!error->outcome_unknown);
    quorlog__error__free_unpacked(error, NULL);
}

static Quorlog__ConsumeRequest from(Quorlog__Start start, uint64_t offset)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;

    request.topic = (char *)"t";
    request.start = start;
    request.offset = offset;
    return request;
}

static Quorlog__ConsumeReply *consumed(const Quorlog__ConsumeRequest *request)
{
    size_t size;

    (void)wire_send(&wire, TYPE(CONSUME), &request->base, NULL, 0);
    return wire_consumed(&wire, &size);
}

/* RANGE, and the first offset that there is. */
static void gone(struct wire *reader, uint64_t start)
{
    Quorlog__Error *error = wire_expect_error(reader, ERR_RANGE);

    ck_assert_uint_eq(error->log_start, start);
    ck_assert_uint_eq(error->log_end, 12);
    ck_assert_ptr_nonnull(strstr(error->text, "trimmed"));
    quorlog__error__free_unpacked(error, NULL);
}

START_TEST(a_trim_is_exact_in_the_middle_of_a_batch)
{
    Quorlog__TopicTrimRequest request = trim_to(6);
    Quorlog__ConsumeRequest read = from(QUORLOG__START__START_EARLIEST, 0);
    Quorlog__ConsumeReply *reply;

    ck_assert_uint_eq(trim(&request), 6);
    reply = consumed(&read);
    ck_assert_uint_eq(reply->offset, 6);
    ck_assert_uint_eq(reply->next_offset, 12);
    ck_assert_uint_eq(reply->log_start, 6);
    quorlog__consume_reply__free_unpacked(reply, NULL);
    read = from(QUORLOG__START__START_OFFSET, 5);
    (void)wire_send(&wire, TYPE(CONSUME), &read.base, NULL, 0);
    gone(&wire, 6);
    read = from(QUORLOG__START__START_TAIL, 100);
    reply = consumed(&read);
    ck_assert_uint_eq(reply->offset, 6);
    quorlog__consume_reply__free_unpacked(reply, NULL);
}
END_TEST

START_TEST(a_start_never_goes_back_and_never_beyond_the_end)
{
    Quorlog__TopicTrimRequest request = trim_to(9);

    ck_assert_uint_eq(trim(&request), 9);
    request.before = 3;
    ck_assert_uint_eq(trim(&request), 9);
    request.before = 13;
    refused(&request, ERR_RANGE, "beyond the end");
    request.before = 12;
    ck_assert_uint_eq(trim(&request), 12);
    ck_assert_uint_eq(trim(&request), 12);
}
END_TEST

START_TEST(by_time_what_was_appended_before_goes)
{
    Quorlog__TopicTrimRequest request = trim_to(0);

    request.by_time = true;
    request.time_us = 1;
    ck_assert_uint_eq(trim(&request), 0);
    request.time_us = INT64_MAX / 2;
    ck_assert_uint_eq(trim(&request), 12);
}
END_TEST

START_TEST(requests_that_make_no_sense_are_refused)
{
    Quorlog__TopicTrimRequest request = trim_to(3);

    request.by_time = true;
    refused(&request, ERR_INVALID, "do not go together");
    request.by_time = false;
    request.time_us = 5;
    refused(&request, ERR_INVALID, "do not go together");
    request = trim_to(0);
    request.topic = (char *)"nothing";
    refused(&request, ERR_TOPIC_UNKNOWN, "no such topic");
    request.topic = (char *)"a b";
    refused(&request, ERR_INVALID, "name");
}
END_TEST

START_TEST(a_stream_that_is_overtaken_is_told)
{
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;
    Quorlog__ConsumeRequest start = from(QUORLOG__START__START_OFFSET, 0);
    Quorlog__TopicTrimRequest to = trim_to(10);
    Quorlog__Credit credit = QUORLOG__CREDIT__INIT;
    struct wire reader = wire_client(&lab);
    struct answer answer;
    uint64_t id;

    start.bytes_max = 1;
    request.from = &start;
    request.credit = 1; /* One batch comes; the next one waits for more. */
    id = wire_send(&reader, TYPE(CONSUME_STREAM), &request.base, NULL, 0);
    ck_assert(wire_receive(&reader, &answer));
    ck_assert_uint_eq(answer.type, TYPE(CONSUME_REPLY));
    answer_fini(&answer);
    ck_assert_uint_eq(trim(&to), 10);
    credit.bytes = 1 << 20;
    wire_send_as(&reader, id, TYPE(CREDIT), &credit.base, NULL, 0);
    gone(&reader, 10);
    wire_close(&reader);
}
END_TEST

START_TEST(the_start_survives_a_restart)
{
    Quorlog__TopicTrimRequest request = trim_to(7);
    Quorlog__ConsumeRequest read = from(QUORLOG__START__START_EARLIEST, 0);
    Quorlog__ConsumeReply *reply;

    ck_assert_uint_eq(trim(&request), 7);
    wire_close(&wire);
    lab_stop(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    reply = consumed(&read);
    ck_assert_uint_eq(reply->offset, 7);
    ck_assert_uint_eq(reply->next_offset, 12);
    quorlog__consume_reply__free_unpacked(reply, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trim");
    TCase *tcase = tcase_create("trim");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_trim_is_exact_in_the_middle_of_a_batch);
    tcase_add_test(tcase, a_start_never_goes_back_and_never_beyond_the_end);
    tcase_add_test(tcase, by_time_what_was_appended_before_goes);
    tcase_add_test(tcase, requests_that_make_no_sense_are_refused);
    tcase_add_test(tcase, a_stream_that_is_overtaken_is_told);
    tcase_add_test(tcase, the_start_survives_a_restart);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
