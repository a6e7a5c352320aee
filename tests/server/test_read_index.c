/*
 * Three real nodes in this process: reads that want to know how fresh they are.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/runner.h"
#include "server/lab.h"

enum {
    NODES = 3,
    OTHERS_MAX = 8, /* entries that nodes make by themselves: disks that are bound */
};

static struct lab nodes[NODES];

static void setup(void)
{
    lab_init_cluster(nodes, NODES);
    for (unsigned i = 0; i < NODES; i++) {
        lab_start(&nodes[i]);
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].node != NULL) {
            lab_stop(&nodes[i]);
        }
        lab_fini(&nodes[i]);
    }
}

static Quorlog__ConsumeRequest request_of(uint64_t offset, bool linearizable, uint32_t max_lag_ms,
                                          uint32_t deadline_ms)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;

    request.topic = (char *)(uintptr_t) "t";
    request.offset = offset;
    request.linearizable = linearizable;
    request.max_lag_ms = max_lag_ms;
    request.deadline_ms = deadline_ms;
    return request;
}

static void ask(struct wire *wire, const Quorlog__ConsumeRequest *request)
{
    wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request->base, NULL, 0);
}

static uint64_t produce(struct wire *wire)
{
    Quorlog__ProduceReply *reply = wire_produce(wire, "t", 1);
    uint64_t index = reply->raft_index;

    quorlog__produce_reply__free_unpacked(reply, NULL);
    return index;
}

/* All but `left` stop, and it knows of no leader. */
static void stop_others(unsigned left)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (i != left) {
            lab_stop(&nodes[i]);
        }
    }
    for (int i = 0; i < 10000 && group_leader_id(nodes[left].node->group) != 0; i++) {
        usleep(1000);
    }
    ck_assert_uint_eq(group_leader_id(nodes[left].node->group), 0);
}

START_TEST(a_linearizable_read_on_any_node_shows_what_was_acknowledged_before)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire writer = wire_client(&nodes[leader]);
    struct wire readers[NODES];

    wire_create(&writer, "t");
    for (unsigned i = 0; i < NODES; i++) {
        readers[i] = wire_client(&nodes[i]);
    }
    for (unsigned n = 0; n < 30; n++) {
        uint64_t written = produce(&writer);

        for (unsigned i = 0; i < NODES; i++) {
            Quorlog__ConsumeRequest request = request_of(n, true, 0, 0);
            Quorlog__ConsumeReply *reply;

            ask(&readers[i], &request);
            reply = wire_consumed(&readers[i], NULL);
            ck_assert_uint_eq(reply->next_offset, n + 1);
            ck_assert_uint_eq(reply->node_id, i + 1);
            ck_assert_uint_ge(reply->applied_index, written);
            quorlog__consume_reply__free_unpacked(reply, NULL);
        }
    }
    for (unsigned i = 0; i < NODES; i++) {
        wire_close(&readers[i]);
    }
    wire_close(&writer);
}
END_TEST

START_TEST(many_linearizable_reads_at_once_are_all_answered_and_write_no_log)
{
    enum { COUNT = 500 };
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = (leader + 1) % NODES;
    struct wire wire = wire_client(&nodes[follower]);
    Quorlog__ConsumeRequest request = request_of(0, true, 0, 0);
    struct replica_status before;
    struct replica_status after;
    uint64_t written;

    wire_create(&wire, "t");
    written = produce(&wire);
    do { /* What it publishes comes a little after what it answers. */
        group_status(nodes[leader].node->group, &before);
    } while (before.applied_index < written);
    for (unsigned i = 0; i < COUNT; i++) {
        ask(&wire, &request);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        Quorlog__ConsumeReply *reply = wire_consumed(&wire, NULL);

        ck_assert_uint_eq(reply->next_offset, 1);
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
    group_status(nodes[leader].node->group, &after);
    ck_assert(after.last_index <= before.last_index + OTHERS_MAX || after.term != before.term);
    wire_close(&wire);
}
END_TEST

START_TEST(the_leader_tells_its_read_index_and_others_tell_who_leads)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire wire = wire_client(&nodes[leader]);
    struct wire other = wire_client(&nodes[(leader + 1) % NODES]);
    Quorlog__ReadIndexReply *reply;
    Quorlog__Error *error;
    struct answer answer;
    uint64_t written;

    wire_create(&wire, "t");
    written = produce(&wire);
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_READ_INDEX, NULL, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_READ_INDEX_REPLY);
    reply = quorlog__read_index_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_uint_ge(reply->index, written);
    ck_assert_uint_le(reply->index, written + OTHERS_MAX);
    ck_assert_uint_eq(reply->node_id, leader + 1);
    quorlog__read_index_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_send(&other, QUORLOG__FRAME_TYPE__FRAME_READ_INDEX, NULL, NULL, 0);
    error = wire_expect_error(&other, ERR_NOT_LEADER);
    ck_assert_uint_eq(error->leader_id, leader + 1);
    ck_assert(!error->outcome_unknown);
    quorlog__error__free_unpacked(error, NULL);
    wire_close(&other);
    wire_close(&wire);
}
END_TEST

START_TEST(a_node_alone_answers_local_reads_and_such_as_its_last_knowledge_allows)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire wire = wire_client(&nodes[leader]);
    Quorlog__ConsumeRequest local = request_of(0, false, 0, 0);
    Quorlog__ConsumeRequest linearizable = request_of(0, true, 0, 100);
    Quorlog__ConsumeRequest close = request_of(0, false, 50, 100);
    Quorlog__ConsumeRequest far = request_of(0, false, 3600 * 1000, 100);

    wire_create(&wire, "t");
    (void)produce(&wire);
    ask(&wire, &linearizable); /* From now on it knows of a moment. */
    quorlog__consume_reply__free_unpacked(wire_consumed(&wire, NULL), NULL);
    stop_others(leader);
    ask(&wire, &local);
    quorlog__consume_reply__free_unpacked(wire_consumed(&wire, NULL), NULL);
    ask(&wire, &far);
    quorlog__consume_reply__free_unpacked(wire_consumed(&wire, NULL), NULL);
    ask(&wire, &linearizable);
    ck_assert(!wire_readable(&wire, 50));
    wire_error(&wire, ERR_NO_LEADER);
    ask(&wire, &close);
    ck_assert(!wire_readable(&wire, 50));
    {
        Quorlog__Error *error = wire_expect_error(&wire, ERR_LAGGING);

        ck_assert(error->retryable && !error->outcome_unknown);
        quorlog__error__free_unpacked(error, NULL);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(a_read_with_a_bound_is_as_fresh_as_it_asks)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = (leader + 1) % NODES;
    struct wire writer = wire_client(&nodes[leader]);
    struct wire reader = wire_client(&nodes[follower]);

    wire_create(&writer, "t");
    for (unsigned n = 0; n < 10; n++) {
        Quorlog__ConsumeRequest request = request_of(n, false, 20, 0);
        Quorlog__ConsumeReply *reply;

        (void)produce(&writer);
        usleep(21 * 1000);
        ask(&reader, &request);
        reply = wire_consumed(&reader, NULL);
        ck_assert_uint_eq(reply->next_offset, n + 1);
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
    wire_close(&reader);
    wire_close(&writer);
}
END_TEST

START_TEST(a_stream_with_a_bound_ends_when_its_node_is_cut_off)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = (leader + 1) % NODES;
    struct wire wire = wire_client(&nodes[follower]);
    Quorlog__ConsumeRequest from = request_of(0, false, 100, 200);
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;

    wire_create(&wire, "t");
    request.from = &from;
    request.credit = 1 << 20;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, &request.base, NULL, 0);
    quorlog__consume_reply__free_unpacked(wire_consumed(&wire, NULL), NULL); /* Where it begins. */
    ck_assert(!wire_readable(&wire, 500)); /* As long as all is well, nothing has to be said. */
    stop_others(follower);
    wire_error(&wire, ERR_LAGGING);
    wire_close(&wire);
}
END_TEST

START_TEST(both_at_once_make_no_sense)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__ConsumeRequest request = request_of(0, true, 10, 0);

    ask(&wire, &request);
    wire_error(&wire, ERR_INVALID);
    wire_close(&wire);
}
END_TEST

/* ---- one of three, alone ---- */

static void setup_alone(void)
{
    lab_init_cluster(nodes, NODES);
    lab_start(&nodes[0]);
}

START_TEST(a_read_that_waits_for_a_leader_is_answered_when_there_is_one)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__ConsumeRequest request = request_of(0, true, 0, 20000);

    ask(&wire, &request);
    ck_assert(!wire_readable(&wire, 50));
    lab_start(&nodes[1]);
    wire_error(&wire, ERR_TOPIC_UNKNOWN); /* It looked, and there is none. */
    wire_close(&wire);
}
END_TEST

START_TEST(a_stop_tells_who_waits_and_nothing_is_left)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__ConsumeRequest request = request_of(0, true, 0, 20000);

    ask(&wire, &request);
    ask(&wire, &request);
    ck_assert(!wire_readable(&wire, 50));
    lab_stop(&nodes[0]);
    wire_error(&wire, ERR_SHUTDOWN);
    wire_error(&wire, ERR_SHUTDOWN);
    wire_expect_end(&wire);
    wire_close(&wire);
}
END_TEST

START_TEST(a_client_that_leaves_while_its_read_waits_leaves_nothing_behind)
{
    struct wire wire = wire_client(&nodes[0]);
    struct wire other = wire_client(&nodes[0]);
    Quorlog__ConsumeRequest request = request_of(0, true, 0, 20000);

    ask(&wire, &request);
    ask(&other, &request);
    ck_assert(!wire_readable(&wire, 50));
    wire_close(&wire);
    lab_start(&nodes[1]);
    wire_error(&other, ERR_TOPIC_UNKNOWN);
    wire_close(&other);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/read_index");
    TCase *tcase = tcase_create("three nodes");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_linearizable_read_on_any_node_shows_what_was_acknowledged_before);
    tcase_add_test(tcase, many_linearizable_reads_at_once_are_all_answered_and_write_no_log);
    tcase_add_test(tcase, the_leader_tells_its_read_index_and_others_tell_who_leads);
    tcase_add_test(tcase, a_node_alone_answers_local_reads_and_such_as_its_last_knowledge_allows);
    tcase_add_test(tcase, a_read_with_a_bound_is_as_fresh_as_it_asks);
    tcase_add_test(tcase, a_stream_with_a_bound_ends_when_its_node_is_cut_off);
    tcase_add_test(tcase, both_at_once_make_no_sense);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("one of three");
    tcase_add_checked_fixture(tcase, setup_alone, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_read_that_waits_for_a_leader_is_answered_when_there_is_one);
    tcase_add_test(tcase, a_stop_tells_who_waits_and_nothing_is_left);
    tcase_add_test(tcase, a_client_that_leaves_while_its_read_waits_leaves_nothing_behind);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
