#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/digest.h"

static void assert_hex(const uint8_t digest[DIGEST_SIZE], const char *expected)
{
    char hex[2 * DIGEST_SIZE + 1];

    for (unsigned i = 0; i < DIGEST_SIZE; i++) {
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", digest[i]); /* fits */
    }
    ck_assert_str_eq(hex, expected);
}

/* FIPS 180-4's examples. */
START_TEST(known_answers)
{
    uint8_t digest[DIGEST_SIZE];

    digest_bytes(NULL, 0, digest);
    assert_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_bytes("abc", 3, digest);
    assert_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, digest);
    assert_hex(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}
END_TEST

static void *digest_again_and_again(void *arg)
{
    uint8_t digest[DIGEST_SIZE];

    for (unsigned i = 0; i < 2000; i++) {
        digest_bytes("abc", 3, digest);
        if (memcmp(digest, arg, DIGEST_SIZE) != 0) {
            return arg;
        }
    }
    return NULL;
}

START_TEST(threads_do_not_disturb_one_another)
{
    uint8_t expected[DIGEST_SIZE];
    pthread_t threads[4];

    digest_bytes("abc", 3, expected);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, digest_again_and_again, expected), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        void *wrong;

        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
}
END_TEST

static struct batch_header some_header(void)
{
    return (struct batch_header){
        .size = 200,
        .record_count = 3,
        .base_offset = 1000,
        .raft_index = 77,
        .raft_term = 5,
        .append_time_us = 123456789,
        .producer_id = 9,
        .producer_epoch = 2,
        .base_sequence = 40,
        .body_crc32c = 0xdeadbeef,
    };
}

START_TEST(the_chain_is_the_hash_of_what_the_header_says)
{
    struct batch_header header = some_header();
    uint8_t encoded[BATCH_HEADER_SIZE];
    uint8_t joined[DIGEST_SIZE + 64 + DIGEST_SIZE];
    uint8_t previous[DIGEST_SIZE];
    uint8_t body[DIGEST_SIZE];
    uint8_t expected[DIGEST_SIZE];
    uint8_t digest[DIGEST_SIZE];

    digest_bytes("previous", 8, previous);
    digest_bytes("body", 4, body);
    batch_header_encode(&header, encoded);
    memcpy(joined, previous, DIGEST_SIZE);
    memcpy(joined + DIGEST_SIZE, encoded + 8, 64);
    memcpy(joined + DIGEST_SIZE + 64, body, DIGEST_SIZE);
    digest_bytes(joined, sizeof joined, expected);
    digest_chain(previous, &header, body, digest);
    ck_assert_mem_eq(digest, expected, DIGEST_SIZE);
    memset(header.digest, 0xff, DIGEST_SIZE); /* does not enter it */
    digest_chain(previous, &header, body, previous);
    ck_assert_mem_eq(previous, expected, DIGEST_SIZE);
}
END_TEST

START_TEST(every_field_enters_the_chain)
{
    static const uint8_t zeros[DIGEST_SIZE];
    struct batch_header headers[11];
    uint8_t digests[11][DIGEST_SIZE];

    for (unsigned i = 0; i < 11; i++) {
        headers[i] = some_header();
    }
    headers[1].size++;
    headers[2].record_count++;
    headers[3].base_offset++;
    headers[4].raft_index++;
    headers[5].raft_term++;
    headers[6].append_time_us++;
    headers[7].producer_id++;
    headers[8].producer_epoch++;
    headers[9].base_sequence++;
    headers[10].body_crc32c++;
    for (unsigned i = 0; i < 11; i++) {
        digest_chain(zeros, &headers[i], zeros, digests[i]);
        for (unsigned j = 0; j < i; j++) {
            ck_assert_mem_ne(digests[i], digests[j], DIGEST_SIZE);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/digest");
    TCase *bytes = tcase_create("digest_bytes");
    TCase *chain = tcase_create("digest_chain");

    tcase_add_test(bytes, known_answers);
    tcase_add_test(bytes, threads_do_not_disturb_one_another);
    suite_add_tcase(suite, bytes);
    tcase_add_test(chain, the_chain_is_the_hash_of_what_the_header_says);
    tcase_add_test(chain, every_field_enters_the_chain);
    suite_add_tcase(suite, chain);
    return runner_main(suite);
}
