#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/runner.h"
#include "server/lab.h"
#include "transport/frame.h"

static struct lab lab;

static void setup(void)
{
    lab_init(&lab);
    lab.config.connections_max = 3;
    lab.config.hello_timeout_ms = 100;
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
}

static void teardown(void)
{
    lab_stop(&lab);
    lab_fini(&lab);
}

/* The node still serves. */
static void expect_alive(void)
{
    struct wire wire = wire_client(&lab);
    struct answer answer;

    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_PING, NULL, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_PING_REPLY);
    answer_fini(&answer);
    wire_close(&wire);
}

static Quorlog__Hello hello(void)
{
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;

    hello.protocol_version = 1;
    return hello;
}

/* Says this hello and expects to be refused. Returns the text's copy. */
static void expect_refused(const Quorlog__Hello *message, enum err err, const char *text)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Error *error;

    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message->base, NULL, 0);
    error = wire_expect_error(&wire, err);
    ck_assert_msg(strstr(error->text, text) != NULL, "'%s' lacks '%s'", error->text, text);
    quorlog__error__free_unpacked(error, NULL);
    wire_expect_end(&wire);
    wire_close(&wire);
}

START_TEST(a_hello_is_answered_with_who_is_here)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Hello message = hello();
    Quorlog__HelloReply *reply;
    struct answer answer;

    message.cluster_id = lab.node->identity.cluster_id;
    wire_send_as(&wire, 77, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY);
    ck_assert_uint_eq(answer.request_id, 77);
    reply = quorlog__hello_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_uint_eq(reply->protocol_version, 1);
    ck_assert_uint_eq(reply->node_id, 1);
    ck_assert_str_eq(reply->cluster_id, lab.node->identity.cluster_id);
    ck_assert_uint_eq(reply->leader_id, 1);
    ck_assert_uint_eq(reply->batch_size_max, 1 << 20);
    ck_assert_uint_eq(reply->frame_size_max, 32 << 20);
    quorlog__hello_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_hello_that_does_not_fit_is_refused_with_the_reason)
{
    Quorlog__Hello message = hello();
    char other[] = "00000000000000000000000000000000";

    message.protocol_version = 7;
    expect_refused(&message, ERR_VERSION, "version 7");
    message = hello();
    message.cluster_id = other;
    expect_refused(&message, ERR_WRONG_CLUSTER, other);
    message = hello();
    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_NODE;
    message.node_id = 2;
    message.to_node_id = 1;
    expect_refused(&message, ERR_WRONG_CLUSTER, "cluster");
    message.cluster_id = lab.node->identity.cluster_id;
    message.to_node_id = 3;
    expect_refused(&message, ERR_INVALID, "this is node 1, not 3");
    message.to_node_id = 1;
    expect_refused(&message, ERR_PROTOCOL, "disk");
    message.disk_id = 77;
    message.node_id = 1;
    expect_refused(&message, ERR_INVALID, "number 1");
    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_PEER;
    message.node_id = 0;
    expect_refused(&message, ERR_INVALID, "number 0");
    message.kind = (Quorlog__ConnectionKind)9;
    expect_refused(&message, ERR_PROTOCOL, "kind");
    expect_alive();
}
END_TEST

/* WRONG_DISK is what ends a node that dials: it says that the dialler is not who it was. */
START_TEST(who_knows_this_node_by_another_disk_is_not_told_that_its_own_is_wrong)
{
    Quorlog__Hello message = hello();
    struct wire wire = wire_client(&lab);

    wire_create(&wire, "t"); /* A node that has applied nothing would believe it. */
    wire_close(&wire);
    ck_assert_uint_ne(lab.node->identity.disk_id, 0);
    message.cluster_id = lab.node->identity.cluster_id;
    message.node_id = 2;
    message.to_node_id = 1;
    message.disk_id = 77;
    message.to_disk_id = lab.node->identity.disk_id + 1;
    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_PEER;
    expect_refused(&message, ERR_INVALID, "knows node 1 by another disk");
    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_NODE;
    expect_refused(&message, ERR_INVALID, "knows node 1 by another disk");
    expect_alive();
}
END_TEST

START_TEST(anything_before_the_hello_ends_the_connection)
{
    struct wire wire = wire_open(&lab);

    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_PING, NULL, NULL, 0);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    expect_alive();
}
END_TEST

START_TEST(a_second_hello_ends_the_connection)
{
    struct wire wire = wire_client(&lab);
    Quorlog__Hello message = hello();

    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message.base, NULL, 0);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    wire = wire_client(&lab);
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_RAFT, NULL, NULL, 0);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    expect_alive();
}
END_TEST

START_TEST(who_says_nothing_is_sent_away)
{
    struct wire wire = wire_open(&lab);

    wire_error(&wire, ERR_TIMEOUT);
    wire_expect_end(&wire);
    wire_close(&wire);
}
END_TEST

START_TEST(bytes_that_are_no_frame_end_the_connection_with_the_reason)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const uint8_t zeros[64] = {0};
    uint8_t claim[24] = {0xff, 0xff, 0xff, 0xff};
    struct wire wire = wire_open(&lab);

    wire_bytes(&wire, http, sizeof http - 1);
    wire_error(&wire, ERR_TOO_LARGE);
    wire_expect_end(&wire);
    wire_close(&wire);
    wire = wire_client(&lab);
    wire_bytes(&wire, claim, sizeof claim); /* 4 GiB */
    wire_error(&wire, ERR_TOO_LARGE);
    wire_expect_end(&wire);
    wire_close(&wire);
    wire = wire_client(&lab);
    wire_bytes(&wire, zeros, sizeof zeros);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    wire = wire_client(&lab);
    bytes_put_u32(claim, 20);
    bytes_put_u32(claim + 4, 12345); /* a checksum that is none */
    wire_bytes(&wire, claim, sizeof claim);
    wire_error(&wire, ERR_CHECKSUM);
    wire_expect_end(&wire);
    wire_close(&wire);
    expect_alive();
}
END_TEST

START_TEST(a_hello_larger_than_4_kib_is_refused)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Hello message = hello();
    char *client = calloc(1, 8192);

    ck_assert_ptr_nonnull(client);
    memset(client, 'x', 8191);
    message.client = client;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message.base, NULL, 0);
    wire_error(&wire, ERR_TOO_LARGE);
    wire_expect_end(&wire);
    wire_close(&wire);
    free(client);
}
END_TEST

START_TEST(frames_cut_off_in_the_middle_leave_nothing_behind)
{
    uint8_t frame[] = {200, 0, 0, 0, 1, 2, 3, 4, 16, 0, 0, 0, 9};

    for (size_t size = 1; size <= sizeof frame; size += 4) {
        struct wire wire = wire_client(&lab);

        wire_bytes(&wire, frame, size);
        wire_close(&wire);
    }
    for (int i = 0; i < 2000 && atomic_load(&lab.node->sockets) > 0; i++) {
        usleep(1000);
    }
    ck_assert_uint_eq(atomic_load(&lab.node->sockets), 0);
    expect_alive();
}
END_TEST

START_TEST(random_bytes_harm_nobody)
{
    uint64_t state = 88172645463325252u;

    for (int i = 0; i < 200; i++) {
        struct wire wire = i % 2 == 0 ? wire_open(&lab) : wire_client(&lab);
        uint8_t bytes[256];
        size_t size = (size_t)(i + 20);

        for (size_t k = 0; k < size; k++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[k] = (uint8_t)state;
        }
        if (i % 4 == 3) {
            /* A well-formed frame of a random type, with random header and body. */
            Quorlog__Credit credit = QUORLOG__CREDIT__INIT;

            credit.bytes = state;
            wire_send_as(&wire, state, (uint16_t)(state % 64), &credit.base, bytes, size);
        } else {
            wire_bytes(&wire, bytes, size);
        }
        wire_close(&wire);
        for (int wait = 0; wait < 2000 && atomic_load(&lab.node->clients) > 1; wait++) {
            usleep(1000);
        }
    }
    expect_alive();
}
END_TEST

START_TEST(clients_beyond_the_limit_are_told_to_go_elsewhere)
{
    struct wire wires[3];
    Quorlog__Hello message = hello();

    for (int i = 0; i < 3; i++) {
        wires[i] = wire_client(&lab);
    }
    expect_refused(&message, ERR_LIMIT, "connections_max");
    wire_close(&wires[0]);
    for (int i = 0; i < 2000 && atomic_load(&lab.node->clients) > 2; i++) {
        usleep(1000);
    }
    expect_alive();
    wire_close(&wires[1]);
    wire_close(&wires[2]);
}
END_TEST

START_TEST(a_node_that_passes_on_sends_raft_frames_only_as_a_peer)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Hello message = hello();
    struct answer answer;

    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_PEER;
    message.cluster_id = lab.node->identity.cluster_id;
    message.node_id = 2;
    message.to_node_id = 1;
    message.disk_id = 77;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY);
    answer_fini(&answer);
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_PING, NULL, NULL, 0);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    expect_alive();
}
END_TEST

static struct wire peer(uint64_t node_id)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Hello message = hello();
    struct answer answer;

    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_PEER;
    message.cluster_id = lab.node->identity.cluster_id;
    message.node_id = node_id;
    message.to_node_id = 1;
    message.disk_id = 77;
    wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_HELLO, &message.base, NULL, 0);
    ck_assert(wire_receive(&wire, &answer));
    ck_assert_uint_eq(answer.type, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY);
    answer_fini(&answer);
    return wire;
}

/* Else the peer would go on sending there, and be unheard from now on. */
START_TEST(a_peer_whose_connection_was_replaced_is_told_and_can_dial_again)
{
    struct wire old = peer(2);
    struct wire new = peer(2);

    wire_close(&new);
    wire_send(&old, QUORLOG__FRAME_TYPE__FRAME_RAFT, NULL, NULL, 0);
    wire_error(&old, ERR_FENCED);
    wire_expect_end(&old);
    wire_close(&old);
    new = peer(2);
    wire_send(&new, QUORLOG__FRAME_TYPE__FRAME_RAFT, NULL, NULL, 0);
    wire_error(&new, ERR_PROTOCOL); /* It is heard: this is no message. */
    wire_expect_end(&new);
    wire_close(&new);
    expect_alive();
}
END_TEST

/* Its connection goes to another thread: what came with the hello would be left behind. */
START_TEST(a_peer_that_goes_on_before_its_hello_is_answered_is_refused)
{
    struct wire wire = wire_open(&lab);
    Quorlog__Hello message = hello();
    uint8_t header[256];
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_HELLO, .header = header};
    uint8_t bytes[FRAME_PREFIX_SIZE + sizeof header + 10] = {0};

    message.kind = QUORLOG__CONNECTION_KIND__CONNECTION_PEER;
    message.cluster_id = lab.node->identity.cluster_id;
    message.node_id = 2;
    message.to_node_id = 1;
    message.disk_id = 77;
    ck_assert_uint_le(quorlog__hello__get_packed_size(&message), sizeof header);
    frame.header_size = quorlog__hello__pack(&message, header);
    frame_out_encode_prefix(&frame, 0, bytes);
    memcpy(bytes + FRAME_PREFIX_SIZE, header, frame.header_size);
    wire_bytes(&wire, bytes, FRAME_PREFIX_SIZE + frame.header_size + 10);
    wire_error(&wire, ERR_PROTOCOL);
    wire_expect_end(&wire);
    wire_close(&wire);
    expect_alive();
}
END_TEST

START_TEST(requests_beyond_the_bound_wait_in_the_socket_and_are_all_answered)
{
    enum { COUNT = 100 };
    struct wire wire = wire_client(&lab);
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);
    int produced = 0;

    wire_create(&wire, "t");
    request.topic = (char *)(uintptr_t) "t";
    request.wait_ms = 300;
    /* The node lets two be under way: these two wait until their time is over. */
    for (int i = 0; i < 2; i++) {
        wire_send(&wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
    }
    for (int i = 0; i < COUNT; i++) {
        wire_produce_start(&wire, "t", batch, size, 0);
    }
    ck_assert(!wire_readable(&wire, 150));
    for (int i = 0; i < COUNT + 2; i++) {
        struct answer answer;

        ck_assert(wire_receive(&wire, &answer));
        /* Had a produce been read before, the first read would have found a record. */
        ck_assert(i > 0 || (answer.type == QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY &&
                            answer.body_size == 0));
        produced += answer.type == QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY;
        answer_fini(&answer);
    }
    ck_assert_int_eq(produced, COUNT);
    wire_close(&wire);
}
END_TEST

static void setup_small(void)
{
    lab_init(&lab);
    lab.config.connection_requests_max = 2;
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
}

static Suite *suite(void)
{
    Suite *suite = suite_create("server/session");
    TCase *tcase = tcase_create("hello");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_hello_is_answered_with_who_is_here);
    tcase_add_test(tcase, a_hello_that_does_not_fit_is_refused_with_the_reason);
    tcase_add_test(tcase, who_knows_this_node_by_another_disk_is_not_told_that_its_own_is_wrong);
    tcase_add_test(tcase, anything_before_the_hello_ends_the_connection);
    tcase_add_test(tcase, a_second_hello_ends_the_connection);
    tcase_add_test(tcase, who_says_nothing_is_sent_away);
    tcase_add_test(tcase, a_hello_larger_than_4_kib_is_refused);
    tcase_add_test(tcase, clients_beyond_the_limit_are_told_to_go_elsewhere);
    tcase_add_test(tcase, a_node_that_passes_on_sends_raft_frames_only_as_a_peer);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("frames");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, bytes_that_are_no_frame_end_the_connection_with_the_reason);
    tcase_add_test(tcase, frames_cut_off_in_the_middle_leave_nothing_behind);
    tcase_add_test(tcase, random_bytes_harm_nobody);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("backpressure");
    tcase_add_checked_fixture(tcase, setup_small, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_peer_whose_connection_was_replaced_is_told_and_can_dial_again);
    tcase_add_test(tcase, a_peer_that_goes_on_before_its_hello_is_answered_is_refused);
    tcase_add_test(tcase, requests_beyond_the_bound_wait_in_the_socket_and_are_all_answered);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
