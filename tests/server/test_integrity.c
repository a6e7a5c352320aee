#include <check.h>
#include <string.h>

#include "lab.h"
#include "lib/runner.h"
#include "raft_fsm/chain.h"
#include "raft_fsm/manifest.h"

static struct lab lab;

static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1); /* It is the only one. */
}

static void teardown(void)
{
    lab_stop(&lab);
    lab_fini(&lab);
}

static void produce(struct wire *wire, const char *topic, unsigned count)
{
    quorlog__produce_reply__free_unpacked(wire_produce(wire, topic, count), NULL);
}

static struct answer ask(struct wire *wire, uint16_t type, const ProtobufCMessage *message)
{
    struct answer answer;

    (void)wire_send(wire, type, message, NULL, 0); /* The only one under way. */
    ck_assert(wire_receive(wire, &answer));
    ck_assert_uint_eq(answer.type, type + 1);
    return answer;
}

static Quorlog__DigestReply *ask_digest(struct wire *wire, const char *topic, uint64_t offset,
                                        bool check)
{
    Quorlog__DigestRequest request = QUORLOG__DIGEST_REQUEST__INIT;
    Quorlog__DigestReply *reply;
    struct answer answer;

    request.topic = (char *)(uintptr_t)topic;
    request.offset = offset;
    request.check = check;
    answer = ask(wire, QUORLOG__FRAME_TYPE__FRAME_DIGEST, &request.base);
    reply = quorlog__digest_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    answer_fini(&answer);
    return reply;
}

START_TEST(a_digest_tells_the_batch_and_the_bounds)
{
    struct wire wire = wire_client(&lab);
    Quorlog__DigestReply *reply;
    struct batch_header header;

    wire_create(&wire, "t");
    reply = ask_digest(&wire, "t", UINT64_MAX, false);
    ck_assert_uint_eq(reply->header.len, 0);
    ck_assert_uint_eq(reply->log_end, 0);
    quorlog__digest_reply__free_unpacked(reply, NULL);
    produce(&wire, "t", 2);
    produce(&wire, "t", 3);
    reply = ask_digest(&wire, "t", UINT64_MAX, false);
    ck_assert_uint_eq(reply->header.len, BATCH_HEADER_SIZE);
    ck_assert_int_eq(batch_header_decode(reply->header.data, 1 << 20, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.base_offset, 2);
    ck_assert_uint_eq(header.record_count, 3);
    ck_assert_uint_eq(reply->log_end, 5);
    ck_assert_uint_eq(reply->node_id, 1);
    /* What is published comes a little after what it tells of. */
    ck_assert_uint_ge(reply->applied + 1, header.raft_index);
    quorlog__digest_reply__free_unpacked(reply, NULL);
    reply = ask_digest(&wire, "t", 0, true);
    ck_assert_uint_eq(reply->next_offset, 5);
    ck_assert_int_eq(reply->damage, 0);
    ck_assert_uint_gt(reply->bytes, 2 * BATCH_HEADER_SIZE);
    quorlog__digest_reply__free_unpacked(reply, NULL);
    wire_close(&wire);
}
END_TEST

START_TEST(links_chain_up_to_the_digest_that_the_node_tells)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ProofRequest request = QUORLOG__PROOF_REQUEST__INIT;
    Quorlog__DigestReply *head;
    Quorlog__ProofReply *reply;
    struct answer answer;
    struct chain chain;

    wire_create(&wire, "t");
    for (unsigned i = 0; i < 5; i++) {
        produce(&wire, "t", 2);
    }
    request.topic = (char *)(uintptr_t) "t";
    request.offset = 3;
    answer = ask(&wire, QUORLOG__FRAME_TYPE__FRAME_PROOF, &request.base);
    reply = quorlog__proof_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(reply->offset, 2);
    ck_assert_uint_eq(reply->next_offset, 10);
    ck_assert_uint_eq(reply->previous.len, DIGEST_SIZE);
    ck_assert_uint_eq(answer.body_size, 4 * CHAIN_LINK_SIZE);
    chain_init(&chain, 2, reply->previous.data);
    for (size_t at = 0; at < answer.body_size; at += CHAIN_LINK_SIZE) {
        ck_assert_int_eq(chain_link(&chain, answer.body + at, NULL), ERR_OK);
    }
    head = ask_digest(&wire, "t", UINT64_MAX, false);
    ck_assert_mem_eq(chain.digest, head->header.data + 72, DIGEST_SIZE);
    quorlog__digest_reply__free_unpacked(head, NULL);
    quorlog__proof_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(a_manifest_has_what_was_acknowledged)
{
    struct wire wire = wire_client(&lab);
    Quorlog__ManifestRequest request = QUORLOG__MANIFEST_REQUEST__INIT;
    Quorlog__ManifestReply *reply;
    struct manifest manifest;
    struct answer answer;

    wire_create(&wire, "t");
    produce(&wire, "t", 4);
    answer = ask(&wire, QUORLOG__FRAME_TYPE__FRAME_MANIFEST, &request.base);
    reply = quorlog__manifest_reply__unpack(NULL, answer.header_size, answer.header);
    ck_assert_ptr_nonnull(reply);
    ck_assert_int_eq(manifest_decode(answer.body, answer.body_size, &manifest, NULL), ERR_OK);
    ck_assert_uint_eq(manifest.applied_index, reply->index);
    ck_assert_uint_gt(reply->term, 0);
    ck_assert_str_eq(reply->cluster_id, lab.node->identity.cluster_id);
    ck_assert_uint_eq(manifest.topic_count, 1);
    ck_assert_str_eq(manifest.topics[0].name, "t");
    ck_assert_uint_eq(manifest.topics[0].end, 4);
    manifest_fini(&manifest);
    quorlog__manifest_reply__free_unpacked(reply, NULL);
    answer_fini(&answer);
    wire_close(&wire);
}
END_TEST

START_TEST(what_cannot_be_told_is_an_error_and_the_connection_goes_on)
{
    static const uint16_t types[] = {QUORLOG__FRAME_TYPE__FRAME_DIGEST,
                                     QUORLOG__FRAME_TYPE__FRAME_PROOF};
    struct wire wire = wire_client(&lab);
    Quorlog__DigestRequest request = QUORLOG__DIGEST_REQUEST__INIT;
    Quorlog__Error *error;

    wire_create(&wire, "t");
    produce(&wire, "t", 4);
    for (size_t i = 0; i < 2; i++) {
        request.topic = (char *)(uintptr_t) "nowhere";
        (void)wire_send(&wire, types[i], &request.base, NULL, 0); /* As above. */
        wire_error(&wire, ERR_TOPIC_UNKNOWN);
        request.topic = (char *)(uintptr_t) "no/name";
        (void)wire_send(&wire, types[i], &request.base, NULL, 0);
        wire_error(&wire, ERR_INVALID);
        request.topic = (char *)(uintptr_t) "t";
        request.offset = 5;
        (void)wire_send(&wire, types[i], &request.base, NULL, 0);
        error = wire_expect_error(&wire, ERR_RANGE);
        ck_assert_uint_eq(error->log_end, 4);
        ck_assert(!error->outcome_unknown);
        quorlog__error__free_unpacked(error, NULL);
    }
    wire_close(&wire);
}
END_TEST

START_TEST(whoever_leaves_in_the_middle_is_not_waited_for)
{
    Quorlog__DigestRequest digest = QUORLOG__DIGEST_REQUEST__INIT;
    Quorlog__ProofRequest proof = QUORLOG__PROOF_REQUEST__INIT;
    Quorlog__ManifestRequest manifest = QUORLOG__MANIFEST_REQUEST__INIT;
    struct wire wire = wire_client(&lab);

    wire_create(&wire, "t");
    produce(&wire, "t", 4);
    digest.topic = proof.topic = (char *)(uintptr_t) "t";
    digest.check = true;
    for (unsigned i = 0; i < 20; i++) {
        struct wire other = wire_client(&lab);

        for (unsigned j = 0; j < 40; j++) {
            (void)wire_send(&other, QUORLOG__FRAME_TYPE__FRAME_DIGEST, &digest.base, NULL, 0);
            (void)wire_send(&other, QUORLOG__FRAME_TYPE__FRAME_PROOF, &proof.base, NULL, 0);
            (void)wire_send(&other, QUORLOG__FRAME_TYPE__FRAME_MANIFEST, &manifest.base, NULL, 0);
        }
        wire_close(&other);
    }
    quorlog__digest_reply__free_unpacked(ask_digest(&wire, "t", 0, true), NULL);
    wire_close(&wire);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("integrity");
    TCase *tcase = tcase_create("integrity");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_digest_tells_the_batch_and_the_bounds);
    tcase_add_test(tcase, links_chain_up_to_the_digest_that_the_node_tells);
    tcase_add_test(tcase, a_manifest_has_what_was_acknowledged);
    tcase_add_test(tcase, what_cannot_be_told_is_an_error_and_the_connection_goes_on);
    tcase_add_test(tcase, whoever_leaves_in_the_middle_is_not_waited_for);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
