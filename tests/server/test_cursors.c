/*
 * Cursors as a node serves them: set, compared, looked at, listed, deleted; what is wrong is said.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/command.h"
#include "server/lab.h"

#define TYPE(name) QUORLOG__FRAME_TYPE__FRAME_##name

static struct lab lab;
static struct wire wire;

static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    wire = wire_client(&lab);
    wire_create(&wire, "t");
    quorlog__produce_reply__free_unpacked(wire_produce(&wire, "t", 10), NULL);
}

static void teardown(void)
{
    wire_close(&wire);
    lab_stop(&lab);
    lab_fini(&lab);
}

static Quorlog__CursorSetRequest set_of(const char *name, Quorlog__CursorExpect expect,
                                        uint64_t expected, uint64_t offset)
{
    Quorlog__CursorSetRequest request = QUORLOG__CURSOR_SET_REQUEST__INIT;

    request.topic = (char *)"t";
    request.name = (char *)name;
    request.expect = expect;
    request.expected = expected;
    request.offset = offset;
    return request;
}

static void send_set(const Quorlog__CursorSetRequest *request)
{
    (void)wire_send(&wire, TYPE(CURSOR_SET), &request->base, NULL, 0);
}

/* The new revision; *ret_token may be NULL. */
static uint64_t set(const Quorlog__CursorSetRequest *request, uint64_t *ret_token)
{
    Quorlog__CursorSetReply *reply;
    struct answer answer;
    uint64_t revision;

    send_set(request);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(CURSOR_SET_REPLY));
    reply = quorlog__cursor_set_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_gt(reply->revision, reply->topic_id);
    ck_assert_uint_eq(reply->revision / COMMAND_COUNT_MAX, reply->raft_index);
    revision = reply->revision;
    if (ret_token != NULL) {
        *ret_token = reply->raft_index;
    }
    quorlog__cursor_set_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    return revision;
}

static uint64_t set_any(const char *name, uint64_t offset)
{
    Quorlog__CursorSetRequest request = set_of(name, 0, 0, offset);

    return set(&request, NULL);
}

static void send_get(const char *name, uint64_t at_least, uint32_t deadline_ms)
{
    Quorlog__CursorGetRequest request = QUORLOG__CURSOR_GET_REQUEST__INIT;

    request.topic = (char *)"t";
    request.name = (char *)name;
    request.at_least = at_least;
    request.deadline_ms = deadline_ms;
    (void)wire_send(&wire, TYPE(CURSOR_GET), &request.base, NULL, 0);
}

/* The next frame, which must be a CURSOR_GET_REPLY; to be freed. */
static Quorlog__CursorGetReply *got(void)
{
    Quorlog__CursorGetReply *reply;
    struct answer answer;

    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(CURSOR_GET_REPLY));
    reply = quorlog__cursor_get_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert(reply != NULL && reply->cursor != NULL);
    answer_fini(&answer);
    return reply;
}

static void expect_at(const char *name, uint64_t offset)
{
    Quorlog__CursorGetReply *reply;

    send_get(name, 0, 0);
    reply = got();
    ck_assert_str_eq(reply->cursor->name, name);
    ck_assert_uint_eq(reply->cursor->offset, offset);
    quorlog__cursor_get_reply__free_unpacked(reply, NULL);
}

/* The next frame must be the error of a failed compare: with a cursor at this offset and revision.
 */
static void expect_conflict(uint64_t offset, uint64_t revision)
{
    Quorlog__Error *error = wire_expect_error(&wire, ERR_CURSOR_CONFLICT);

    ck_assert(!error->outcome_unknown && !error->retryable);
    ck_assert_ptr_nonnull(error->cursor);
    ck_assert_uint_eq(error->cursor->offset, offset);
    ck_assert_uint_eq(error->cursor->revision, revision);
    ck_assert_uint_gt(error->cursor->raft_index, revision / COMMAND_COUNT_MAX);
    quorlog__error__free_unpacked(error, NULL);
}

START_TEST(what_is_set_is_shown_with_all_that_belongs_to_it)
{
    Quorlog__CursorSetRequest request = set_of("c", 0, 0, 4);
    Quorlog__CursorGetReply *reply;
    uint64_t revision;
    uint64_t token;

    request.owner = UINT64_MAX;
    request.metadata = (char *)"from here";
    revision = set(&request, &token);
    send_get("c", token, 0);
    reply = got();
    ck_assert_uint_eq(reply->node_id, 1);
    ck_assert_str_eq(reply->cursor->topic, "t");
    ck_assert_str_eq(reply->cursor->name, "c");
    ck_assert_uint_eq(reply->cursor->offset, 4);
    ck_assert_uint_eq(reply->cursor->revision, revision);
    ck_assert_uint_eq(reply->cursor->raft_index, token);
    ck_assert_uint_eq(reply->cursor->owner, UINT64_MAX);
    ck_assert_str_eq(reply->cursor->metadata, "from here");
    ck_assert_int_gt(reply->cursor->updated_time_us, 0);
    ck_assert_uint_gt(reply->cursor->topic_id, 0);
    ck_assert_uint_eq(reply->cursor->log_start, 0);
    ck_assert_uint_eq(reply->cursor->log_end, 10);
    quorlog__cursor_get_reply__free_unpacked(reply, NULL);
}
END_TEST

START_TEST(a_failed_compare_tells_what_it_is)
{
    Quorlog__CursorSetRequest request = set_of("c", 1, 77, 4);
    uint64_t revision;

    send_set(&request);
    expect_conflict(0, 0);
    request = set_of("c", 1, 0, 4);
    revision = set(&request, NULL);
    send_set(&request);
    expect_conflict(4, revision);
    request = set_of("c", 2, 5, 6);
    send_set(&request);
    expect_conflict(4, revision);
    request = set_of("c", 2, 4, 6);
    (void)set(&request, NULL);
    expect_at("c", 6);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    Quorlog__CursorSetRequest request = set_of("c", 0, 0, 11);
    char metadata[CURSOR_METADATA_SIZE_MAX + 2];

    send_set(&request); /* beyond the end */
    wire_error(&wire, ERR_RANGE);
    request = set_of("c d", 0, 0, 1);
    send_set(&request);
    wire_error(&wire, ERR_INVALID);
    request = set_of("", 0, 0, 1);
    send_set(&request);
    wire_error(&wire, ERR_INVALID);
    request = set_of("c", 3, 0, 1);
    send_set(&request);
    wire_error(&wire, ERR_INVALID);
    request = set_of("c", 0, 0, 1);
    memset(metadata, 'm', sizeof metadata);
    metadata[sizeof metadata - 1] = '\0';
    request.metadata = metadata;
    send_set(&request);
    wire_error(&wire, ERR_INVALID);
    metadata[sizeof metadata - 2] = '\0';
    (void)set(&request, NULL);
    request.topic = (char *)"u";
    send_set(&request);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
    request.topic = (char *)"/";
    send_set(&request);
    wire_error(&wire, ERR_INVALID);
    send_get("d", 0, 0);
    wire_error(&wire, ERR_CURSOR_UNKNOWN);
    send_get("-d", 0, 0);
    wire_error(&wire, ERR_INVALID);
}
END_TEST

START_TEST(deleting_compares_and_a_topic_takes_its_cursors_along)
{
    Quorlog__CursorDeleteRequest request = QUORLOG__CURSOR_DELETE_REQUEST__INIT;
    Quorlog__TopicDeleteRequest topic = QUORLOG__TOPIC_DELETE_REQUEST__INIT;
    uint64_t revision = set_any("c", 3);
    struct answer answer;

    request.topic = (char *)"t";
    request.name = (char *)"c";
    request.expect = QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_REVISION;
    request.expected = revision + 1;
    (void)wire_send(&wire, TYPE(CURSOR_DELETE), &request.base, NULL, 0);
    expect_conflict(3, revision);
    request.expected = revision;
    (void)wire_send(&wire, TYPE(CURSOR_DELETE), &request.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(CURSOR_DELETE_REPLY));
    answer_fini(&answer);
    (void)wire_send(&wire, TYPE(CURSOR_DELETE), &request.base, NULL, 0);
    wire_error(&wire, ERR_CURSOR_UNKNOWN);
    (void)set_any("c", 3);
    topic.topic = (char *)"t";
    (void)wire_send(&wire, TYPE(TOPIC_DELETE), &topic.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    answer_fini(&answer);
    wire_create(&wire, "t");
    send_get("c", 0, 0);
    wire_error(&wire, ERR_CURSOR_UNKNOWN);
}
END_TEST

START_TEST(looking_waits_for_the_token_until_the_deadline)
{
    Quorlog__CursorSetRequest request = set_of("c", 0, 0, 1);
    Quorlog__CursorGetReply *reply;
    struct answer answer;
    uint64_t token;

    (void)set(&request, &token);
    send_get("c", token + 1, 30);
    wire_error(&wire, ERR_TIMEOUT);
    send_get("c", token + 1, 0);
    ck_assert(!wire_readable(&wire, 50));
    request.offset = 2;
    send_set(&request);
    /* Both answers, in any order. */
    ck_assert(wire_receive(&wire, &answer));
    if (answer.type == TYPE(CURSOR_SET_REPLY)) {
        reply = got();
    } else {
        reply = quorlog__cursor_get_reply__unpack(NULL, answer.header_size, answer.header);
        answer_fini(&answer);
        ck_assert(wire_receive(&wire, &answer));
        ck_assert_uint_eq(answer.type, TYPE(CURSOR_SET_REPLY));
    }
    ck_assert_uint_eq(reply->cursor->offset, 2);
    quorlog__cursor_get_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    /* One that waits goes with its connection, or with the node. */
    send_get("c", token + 100, 0);
    wire_close(&wire);
    wire = wire_client(&lab);
    send_get("c", token + 100, 0);
    ck_assert(!wire_readable(&wire, 20));
}
END_TEST

static Quorlog__CursorListReply *list(const char *topic, uint64_t after_topic_id,
                                      const char *after_name)
{
    Quorlog__CursorListRequest request = QUORLOG__CURSOR_LIST_REQUEST__INIT;
    Quorlog__CursorListReply *reply;
    struct answer answer;

    request.topic = (char *)topic;
    request.after_topic_id = after_topic_id;
    request.after_name = (char *)after_name;
    (void)wire_send(&wire, TYPE(CURSOR_LIST), &request.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, TYPE(CURSOR_LIST_REPLY));
    reply = quorlog__cursor_list_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    answer_fini(&answer);
    return reply;
}

/* Names and metadata as long as they may be: a page of them must fit into a header. */
START_TEST(a_list_comes_in_parts_that_fit)
{
    char metadata[CURSOR_METADATA_SIZE_MAX + 1];
    char name[CURSOR_NAME_SIZE_MAX + 1];
    char after[CURSOR_NAME_SIZE_MAX + 1] = "";
    uint64_t after_topic_id = 0;
    unsigned count = 0;
    unsigned parts = 0;
    bool more = true;

    memset(metadata, 'm', sizeof metadata - 1);
    metadata[sizeof metadata - 1] = '\0';
    for (unsigned i = 0; i < 100; i++) {
        Quorlog__CursorSetRequest request = set_of(name, 0, 0, i % 10);

        (void)snprintf(name, sizeof name, "%0*u", CURSOR_NAME_SIZE_MAX, i);
        request.owner = UINT64_MAX;
        request.metadata = metadata;
        (void)set(&request, NULL);
    }
    while (more) {
        Quorlog__CursorListReply *reply = list(parts % 2 == 0 ? "" : "t", after_topic_id, after);

        for (size_t i = 0; i < reply->n_cursors; i++) {
            (void)snprintf(name, sizeof name, "%0*u", CURSOR_NAME_SIZE_MAX, count);
            ck_assert_str_eq(reply->cursors[i]->name, name);
            ck_assert_uint_eq(reply->cursors[i]->offset, count % 10);
            ck_assert_str_eq(reply->cursors[i]->topic, "t");
            after_topic_id = reply->cursors[i]->topic_id;
            strcpy(after, name);
            count++;
        }
        more = reply->more;
        parts++;
        quorlog__cursor_list_reply__free_unpacked(reply, NULL);
    }
    ck_assert_uint_eq(count, 100);
    ck_assert_uint_eq(parts, 2);
}
END_TEST

START_TEST(a_list_may_be_of_one_topic)
{
    Quorlog__CursorListRequest request = QUORLOG__CURSOR_LIST_REQUEST__INIT;
    Quorlog__CursorSetRequest other = set_of("o", 0, 0, 0);
    Quorlog__CursorListReply *reply;

    wire_create(&wire, "u");
    other.topic = (char *)"u";
    (void)set(&other, NULL);
    (void)set_any("c", 1);
    reply = list("u", 0, "");
    ck_assert_uint_eq(reply->n_cursors, 1);
    ck_assert_str_eq(reply->cursors[0]->name, "o");
    quorlog__cursor_list_reply__free_unpacked(reply, NULL);
    reply = list("", 0, "");
    ck_assert_uint_eq(reply->n_cursors, 2);
    ck_assert_str_eq(reply->cursors[0]->name, "c"); /* Its topic is older. */
    quorlog__cursor_list_reply__free_unpacked(reply, NULL);
    request.topic = (char *)"v";
    (void)wire_send(&wire, TYPE(CURSOR_LIST), &request.base, NULL, 0);
    wire_error(&wire, ERR_TOPIC_UNKNOWN);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/cursors");
    TCase *tcase = tcase_create("cursors");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_is_set_is_shown_with_all_that_belongs_to_it);
    tcase_add_test(tcase, a_failed_compare_tells_what_it_is);
    tcase_add_test(tcase, what_makes_no_sense_is_refused);
    tcase_add_test(tcase, deleting_compares_and_a_topic_takes_its_cursors_along);
    tcase_add_test(tcase, looking_waits_for_the_token_until_the_deadline);
    tcase_add_test(tcase, a_list_comes_in_parts_that_fit);
    tcase_add_test(tcase, a_list_may_be_of_one_topic);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
