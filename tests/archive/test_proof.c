#include "archive/proof.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "archive/chained.h"
#include "lib/runner.h"

static struct chained t;
static char *text; /* a proof of offset 2 */
static size_t size;

static enum err write_proof(FILE *file, uint64_t offset, size_t batch, size_t links)
{
    static const uint8_t zeros[DIGEST_SIZE];
    struct proof_writer writer;
    struct err_info info = {0};
    uint8_t link[CHAIN_LINK_SIZE];
    const struct proof_start start = {
        .topic = "t",
        .offset = offset,
        .previous = batch > 0 ? t.headers[batch - 1].digest : zeros,
        .batch = t.bytes + t.positions[batch],
        .size = t.headers[batch].size,
    };
    enum err err = proof_begin(&writer, file, &start, &info);

    for (size_t i = batch + 1; i < batch + 1 + links && err == ERR_OK; i++) {
        chained_link(&t, i, link);
        err = proof_add(&writer, link, &info);
    }
    err = err == ERR_OK ? proof_end(&writer, &info) : err;
    proof_writer_fini(&writer);
    ck_assert(err == ERR_OK || info.text[0] != '\0');
    return err;
}

static enum err check_bytes(const char *data, size_t data_size, struct proof *ret_proof)
{
    FILE *file = fmemopen((char *)(uintptr_t)data, data_size, "r");
    struct err_info info = {0};
    enum err err;

    ck_assert_ptr_nonnull(file);
    err = proof_check(file, ret_proof, &info);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert(err == ERR_OK || info.text[0] != '\0');
    return err;
}

static void setup(void)
{
    FILE *file = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(file);
    chained_init(&t, 4096, "t");
    chained_add(&t, 1, 10);
    chained_add(&t, 3, 30);
    chained_add(&t, 2, 20);
    chained_add(&t, 1, 10);
    ck_assert_int_eq(write_proof(file, 2, 1, 2), ERR_OK);
    ck_assert_int_eq(fclose(file), 0);
}

static void teardown(void)
{
    chained_fini(&t);
    free(text);
}

START_TEST(a_proof_tells_the_record_and_the_head)
{
    struct proof proof;

    ck_assert_int_eq(check_bytes(text, size, &proof), ERR_OK);
    ck_assert_str_eq(proof.topic, "t");
    ck_assert_uint_eq(proof.offset, 2);
    ck_assert_uint_eq(proof.header.base_offset, 1);
    ck_assert_uint_eq(proof.body.size, 30);
    ck_assert_mem_eq(proof.body.data, t.bytes + t.positions[1] + BATCH_HEADER_SIZE, 30);
    ck_assert_uint_eq(proof.links, 2);
    ck_assert_uint_eq(proof.head_offset, t.end);
    ck_assert_mem_eq(proof.head_digest, t.digest, DIGEST_SIZE);
    proof_fini(&proof);
}
END_TEST

START_TEST(a_changed_bit_proves_nothing)
{
    struct proof proof;

    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = (unsigned)i % 2; bit < 8; bit += 2) {
            enum err err;

            text[i] = (char)(text[i] ^ 1 << bit);
            err = check_bytes(text, size, &proof);
            ck_assert(err == ERR_CORRUPT || err == ERR_VERSION);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    }
}
END_TEST

START_TEST(a_proof_that_is_cut_or_goes_on_proves_nothing)
{
    struct proof proof;
    char *longer = malloc(size + 2);

    ck_assert_ptr_nonnull(longer);
    for (size_t i = 1; i < size; i++) {
        ck_assert_int_eq(check_bytes(text, i, &proof), ERR_CORRUPT);
    }
    memcpy(longer, text, size);
    longer[size] = '\n';
    ck_assert_int_eq(check_bytes(longer, size + 1, &proof), ERR_CORRUPT);
    free(longer);
}
END_TEST

START_TEST(what_is_no_proof_is_said_to_be_none)
{
    static const char *const others[] = {
        "\n",
        "{}\n",
        "[]\n",
        "no\n",
        "{\"quorlog_proof\":1}\n",
        "{\"head\":{}}\n",
        "{\"quorlog_proof\":1,\"topic\":5,\"offset\":0,\"previous\":\"\",\"batch\":\"\"}\n"};
    struct proof proof;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ck_assert_int_eq(check_bytes(others[i], strlen(others[i]), &proof), ERR_CORRUPT);
    }
    text[strlen("{\"quorlog_proof\":")] = '2';
    ck_assert_int_eq(check_bytes(text, size, &proof), ERR_VERSION);
}
END_TEST

START_TEST(a_proof_begins_with_the_batch_of_its_record_and_what_stands_before)
{
    FILE *file = fopen("/dev/null", "w");
    const struct proof_start wrong = {
        .topic = "t",
        .offset = 2,
        .previous = t.headers[1].digest,
        .batch = t.bytes + t.positions[1],
        .size = t.headers[1].size,
    };
    struct proof_writer writer;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(write_proof(file, 0, 1, 0), ERR_RANGE);
    ck_assert_int_eq(write_proof(file, 4, 1, 0), ERR_RANGE);
    ck_assert_int_eq(write_proof(file, 3, 1, 0), ERR_OK);
    ck_assert_int_eq(proof_begin(&writer, file, &wrong, NULL), ERR_CORRUPT);
    proof_writer_fini(&writer);
    ck_assert_int_eq(fclose(file), 0);
}
END_TEST

START_TEST(a_link_that_does_not_follow_is_refused)
{
    FILE *file = fopen("/dev/null", "w");
    static const uint8_t zeros[DIGEST_SIZE];
    const struct proof_start start = {
        .topic = "t", .previous = zeros, .batch = t.bytes, .size = t.headers[0].size};
    uint8_t link[CHAIN_LINK_SIZE];
    struct proof_writer writer;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(proof_begin(&writer, file, &start, NULL), ERR_OK);
    chained_link(&t, 2, link);
    ck_assert_int_eq(proof_add(&writer, link, NULL), ERR_CORRUPT);
    chained_link(&t, 1, link);
    ck_assert_int_eq(proof_add(&writer, link, NULL), ERR_OK);
    proof_writer_fini(&writer);
    ck_assert_int_eq(fclose(file), 0);
}
END_TEST

START_TEST(what_was_compacted_cannot_be_proven_nor_what_lies_below)
{
    FILE *file = fopen("/dev/null", "w");

    ck_assert_ptr_nonnull(file);
    chained_merge(&t, 2, 2);
    ck_assert_int_eq(write_proof(file, 2, 1, 0), ERR_OK);
    ck_assert_int_eq(write_proof(file, 2, 1, 1), ERR_INVALID);
    ck_assert_int_eq(write_proof(file, 4, 2, 0), ERR_INVALID);
    ck_assert_int_eq(fclose(file), 0);
}
END_TEST

static void put_hex(FILE *file, const uint8_t *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(fprintf(file, "%02x", data[i]), 2);
    }
}

/* Its digest says nothing of what is in it: anybody may write into it what he likes. 0: as the
 * record's batch, 1: as a link */
START_TEST(a_compacted_batch_proves_nothing)
{
    uint8_t sum[DIGEST_SIZE];
    struct proof proof;
    char *forged;
    size_t forged_size;
    FILE *file = open_memstream(&forged, &forged_size);
    size_t last = _i == 0 ? 0 : 1;

    chained_merge(&t, last, 2);
    ck_assert_int_gt(fprintf(file,
                             "{\"quorlog_proof\":1,\"topic\":\"t\",\"offset\":0,"
                             "\"previous\":\"%064d\",\"batch\":\"",
                             0),
                     0);
    put_hex(file, t.bytes, t.headers[0].size);
    ck_assert_int_gt(fprintf(file, "\"}\n"), 0);
    if (_i == 1) {
        ck_assert_int_gt(fprintf(file, "{\"fields\":\""), 0);
        put_hex(file, t.bytes + t.positions[1] + BATCH_DIGESTED_FROM, 64);
        ck_assert_int_gt(fprintf(file, "\",\"body\":\""), 0);
        put_hex(file, t.bytes + t.positions[1] + BATCH_HEADER_SIZE, DIGEST_SIZE);
        ck_assert_int_gt(fprintf(file, "\"}\n"), 0);
    }
    ck_assert_int_gt(fprintf(file, "{\"head\":{\"offset\":%llu,\"digest\":\"",
                             (unsigned long long)batch_end_offset(&t.headers[last])),
                     0);
    put_hex(file, t.headers[last].digest, DIGEST_SIZE);
    ck_assert_int_gt(fprintf(file, "\"}}\n"), 0);
    ck_assert_int_eq(fflush(file), 0);
    digest_bytes(forged, forged_size, sum);
    ck_assert_int_gt(fprintf(file, "{\"sha256\":\""), 0);
    put_hex(file, sum, DIGEST_SIZE);
    ck_assert_int_gt(fprintf(file, "\"}\n"), 0);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(check_bytes(forged, forged_size, &proof), ERR_CORRUPT);
    free(forged);
}
END_TEST

START_TEST(a_full_disk_is_told)
{
    FILE *file = fopen("/dev/full", "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(write_proof(file, 2, 1, 2), ERR_IO);
    (void)fclose(file); /* It fails, too. */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proof");
    TCase *tcase = tcase_create("proof");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_proof_tells_the_record_and_the_head);
    tcase_add_test(tcase, a_changed_bit_proves_nothing);
    tcase_add_test(tcase, a_proof_that_is_cut_or_goes_on_proves_nothing);
    tcase_add_test(tcase, what_is_no_proof_is_said_to_be_none);
    tcase_add_test(tcase, a_proof_begins_with_the_batch_of_its_record_and_what_stands_before);
    tcase_add_test(tcase, a_link_that_does_not_follow_is_refused);
    tcase_add_test(tcase, what_was_compacted_cannot_be_proven_nor_what_lies_below);
    tcase_add_loop_test(tcase, a_compacted_batch_proves_nothing, 0, 2);
    tcase_add_test(tcase, a_full_disk_is_told);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
