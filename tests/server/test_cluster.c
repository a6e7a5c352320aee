/*
 * Three real nodes in this process: what goes from one to another.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/runner.h"
#include "server/lab.h"

enum { NODES = 3 };

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

/* Some node that does not lead and runs. */
static unsigned follower_of(unsigned leader)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (i != leader && nodes[i].node != NULL) {
            return i;
        }
    }
    ck_abort();
    return 0;
}

static Quorlog__StatusReply *status(struct wire *wire, bool local)
{
    Quorlog__StatusRequest request = QUORLOG__STATUS_REQUEST__INIT;
    Quorlog__StatusReply *reply;
    struct answer answer;

    request.local = local;
    wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_STATUS, &request.base, NULL, 0);
    ck_assert(wire_receive(wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY);
    reply = quorlog__status_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    answer_fini(&answer);
    return reply;
}

START_TEST(a_follower_takes_changes_and_the_leader_makes_them)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire wire = wire_client(&nodes[follower_of(leader)]);
    Quorlog__InitProducerRequest init = QUORLOG__INIT_PRODUCER_REQUEST__INIT;
    struct answer answer;

    wire_create(&wire, "t");
    for (unsigned i = 0; i < 20; i++) {
        Quorlog__ProduceReply *reply = wire_produce(&wire, "t", 2);

        ck_assert_uint_eq(reply->offset, 2 * i);
        ck_assert_uint_eq(reply->leader_id, leader + 1);
        quorlog__produce_reply__free_unpacked(reply, NULL);
    }
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER, &init.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY);
    answer_fini(&answer);
    {
        Quorlog__TopicCreateRequest create = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
        Quorlog__Error *error;

        create.topic = (char *)(uintptr_t) "t";
        wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &create.base, NULL, 0);
        error = wire_expect_error(&wire, ERR_TOPIC_EXISTS); /* The leader's own words. */
        ck_assert_uint_eq(error->node_id, leader + 1);
        quorlog__error__free_unpacked(error, NULL);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(a_follower_passes_on_all_that_an_alteration_says)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire wire = wire_client(&nodes[follower_of(leader)]);
    Quorlog__TopicAlterRequest alter = QUORLOG__TOPIC_ALTER_REQUEST__INIT;
    Quorlog__TopicSettings settings = QUORLOG__TOPIC_SETTINGS__INIT;
    Quorlog__TopicAlterReply *reply;
    uint32_t which[] = {1, 7, 11};
    uint64_t on[] = {UINT64_MAX, 2};
    struct answer answer;

    wire_create(&wire, "t");
    alter.topic = (char *)(uintptr_t) "t";
    alter.settings = &settings;
    alter.which = which;
    alter.n_which = 3;
    alter.on_node_id = on;
    alter.n_on_node_id = 2;
    settings.retention_ms = 1;
    settings.indexes = 5;
    settings.flush_ms = 70;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_ALTER, &alter.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_TOPIC_ALTER_REPLY);
    reply = quorlog__topic_alter_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(reply->settings->retention_ms, 1);
    ck_assert_uint_eq(reply->settings->flush_ms, 70);
    ck_assert_uint_eq(reply->settings->indexes, 0);
    ck_assert_uint_eq(reply->settings->n_node_indexes, 2);
    ck_assert_uint_eq(reply->settings->node_indexes[1]->node_id, UINT64_MAX);
    ck_assert_uint_eq(reply->settings->node_indexes[1]->indexes, 5);
    quorlog__topic_alter_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_token_shows_a_write_on_every_node)
{
    unsigned leader = lab_leader(nodes, NODES);
    struct wire writer = wire_client(&nodes[leader]);

    wire_create(&writer, "t");
    for (unsigned n = 0; n < 10; n++) {
        Quorlog__ProduceReply *written = wire_produce(&writer, "t", 1);

        for (unsigned i = 0; i < NODES; i++) {
            struct wire reader = wire_client(&nodes[i]);
            Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
            Quorlog__ConsumeReply *reply;

            request.topic = (char *)(uintptr_t) "t";
            request.offset = n;
            request.at_least = written->raft_index;
            wire_send(&reader, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
            reply = wire_consumed(&reader, NULL);
            ck_assert_uint_eq(reply->next_offset, n + 1);
            ck_assert_uint_eq(reply->node_id, i + 1);
            quorlog__consume_reply__free_unpacked(reply, NULL);
            wire_close(&reader);
        }
        quorlog__produce_reply__free_unpacked(written, NULL);
    }
    wire_close(&writer);
}
END_TEST

START_TEST(status_of_one_node_tells_of_all)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = follower_of(leader);
    unsigned third = NODES - leader - follower;
    struct wire wire = wire_client(&nodes[follower]);
    Quorlog__StatusReply *reply = status(&wire, false);
    unsigned leaders = 0;

    ck_assert_uint_eq(reply->n_nodes, NODES);
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert_str_ne(reply->nodes[i]->state, "unreachable");
        ck_assert_str_eq(reply->nodes[i]->role, "voter");
        leaders += strcmp(reply->nodes[i]->state, "leader") == 0;
    }
    ck_assert_uint_eq(leaders, 1);
    quorlog__status_reply__free_unpacked(reply, NULL);
    reply = status(&wire, true);
    ck_assert_uint_eq(reply->n_nodes, 1);
    ck_assert_uint_eq(reply->nodes[0]->id, follower + 1);
    quorlog__status_reply__free_unpacked(reply, NULL);
    lab_stop(&nodes[third]);
    reply = status(&wire, false);
    ck_assert_uint_eq(reply->n_nodes, NODES);
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert((strcmp(reply->nodes[i]->state, "unreachable") == 0) ==
                  (reply->nodes[i]->id == third + 1));
    }
    quorlog__status_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(a_client_of_a_follower_does_not_notice_that_the_leader_stops)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = follower_of(leader);
    struct wire wire = wire_client(&nodes[follower]);
    Quorlog__ProduceReply *reply;
    uint64_t offset;

    wire_create(&wire, "t");
    reply = wire_produce(&wire, "t", 1);
    offset = reply->offset;
    quorlog__produce_reply__free_unpacked(reply, NULL);
    lab_stop(&nodes[leader]);
    for (unsigned i = 0; i < 5; i++) {
        reply = wire_produce(&wire, "t", 1);
        ck_assert_uint_eq(reply->offset, ++offset);
        ck_assert_uint_ne(reply->leader_id, leader + 1);
        quorlog__produce_reply__free_unpacked(reply, NULL);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(without_a_majority_a_write_is_unknown_or_certainly_not_written)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = follower_of(leader);
    unsigned third = NODES - leader - follower;
    struct wire wire = wire_client(&nodes[leader]);
    Quorlog__Error *error;
    struct answer answer;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);

    wire_create(&wire, "t");
    lab_stop(&nodes[follower]);
    lab_stop(&nodes[third]);
    wire_produce_start(&wire, "t", batch, size, 100);
    ck_assert(wire_receive(&wire, &answer));
    error = quorlog__error__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(error);
    ck_assert(error->code == ERR_TIMEOUT || error->code == ERR_LEADERSHIP_LOST ||
              error->code == ERR_NO_LEADER);
    ck_assert(error->outcome_unknown == (error->code != ERR_NO_LEADER));
    ck_assert(error->retryable);
    quorlog__error__free_unpacked(error, NULL);
    answer_fini(&answer);
    /* By now it has noticed that it leads nobody. */
    for (int i = 0; i < 5000 && group_leader_id(nodes[leader].node->group) != 0; i++) {
        usleep(1000);
    }
    wire_produce_start(&wire, "t", batch, size, 100);
    error = wire_expect_error(&wire, ERR_NO_LEADER);
    ck_assert(!error->outcome_unknown && error->retryable);
    quorlog__error__free_unpacked(error, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(a_request_that_was_passed_on_is_not_passed_on_again)
{
    unsigned leader = lab_leader(nodes, NODES);
    unsigned follower = follower_of(leader);
    struct wire wire = wire_client(&nodes[follower]);
    Quorlog__ProduceRequest request = QUORLOG__PRODUCE_REQUEST__INIT;
    Quorlog__Error *error;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);

    wire_create(&wire, "t");
    request.topic = (char *)(uintptr_t) "t";
    request.forwarded = true;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_PRODUCE, &request.base, batch, size);
    error = wire_expect_error(&wire, ERR_NOT_LEADER);
    ck_assert_uint_eq(error->leader_id, leader + 1);
    ck_assert_ptr_nonnull(strstr(error->leader_address, "127.0.0.1:"));
    ck_assert(!error->outcome_unknown);
    quorlog__error__free_unpacked(error, NULL);
    wire_close(&wire);
}
END_TEST

/* ---- one of three, alone ---- */

static void setup_alone(void)
{
    lab_init_cluster(nodes, NODES);
    lab_start(&nodes[0]);
}

START_TEST(a_write_without_a_leader_waits_until_its_deadline_and_is_certainly_not_written)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__Error *error;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);
    uint64_t begin_ns = uv_hrtime();

    wire_produce_start(&wire, "t", batch, size, 80);
    error = wire_expect_error(&wire, ERR_NO_LEADER);
    ck_assert_uint_ge(uv_hrtime() - begin_ns,
                      79 * UINT64_C(1000000)); /* The loop's ms are whole. */
    ck_assert(!error->outcome_unknown && error->retryable);
    ck_assert_ptr_nonnull(strstr(error->text, "nothing was written"));
    quorlog__error__free_unpacked(error, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(a_write_that_waits_for_a_leader_is_made_when_there_is_one)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__TopicCreateRequest create = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    struct answer answer;

    create.topic = (char *)(uintptr_t) "t";
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, &create.base, NULL, 0);
    ck_assert(!wire_readable(&wire, 50));
    lab_start(&nodes[1]);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE_REPLY);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_stop_tells_who_waits_for_a_leader_that_nothing_was_written)
{
    struct wire wire = wire_client(&nodes[0]);
    Quorlog__Error *error;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);

    wire_produce_start(&wire, "t", batch, size, 20000);
    ck_assert(!wire_readable(&wire, 50));
    lab_stop(&nodes[0]);
    error = wire_expect_error(&wire, ERR_SHUTDOWN);
    ck_assert(!error->outcome_unknown && error->retryable);
    quorlog__error__free_unpacked(error, NULL);
    wire_expect_end(&wire);
    wire_close(&wire);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/cluster");
    TCase *tcase = tcase_create("three nodes");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_follower_takes_changes_and_the_leader_makes_them);
    tcase_add_test(tcase, a_follower_passes_on_all_that_an_alteration_says);
    tcase_add_test(tcase, a_token_shows_a_write_on_every_node);
    tcase_add_test(tcase, status_of_one_node_tells_of_all);
    tcase_add_test(tcase, a_client_of_a_follower_does_not_notice_that_the_leader_stops);
    tcase_add_test(tcase, without_a_majority_a_write_is_unknown_or_certainly_not_written);
    tcase_add_test(tcase, a_request_that_was_passed_on_is_not_passed_on_again);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("one of three");
    tcase_add_checked_fixture(tcase, setup_alone, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase,
                   a_write_without_a_leader_waits_until_its_deadline_and_is_certainly_not_written);
    tcase_add_test(tcase, a_write_that_waits_for_a_leader_is_made_when_there_is_one);
    tcase_add_test(tcase, a_stop_tells_who_waits_for_a_leader_that_nothing_was_written);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
