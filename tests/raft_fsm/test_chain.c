#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "history.h"
#include "lib/runner.h"
#include "merged.h"
#include "raft_fsm/chain.h"

enum { COUNT = 3, RECORDS = 2, BODY_SIZE = 300, SIZE = BATCH_HEADER_SIZE + BODY_SIZE };

static uint8_t batches[COUNT * SIZE];
static uint8_t last_digest[DIGEST_SIZE];

/* Stamped batches at offsets 0, 2, 4, chained from the beginning. */
static void setup(void)
{
    struct chain chain = {.known = true};

    for (unsigned i = 0; i < COUNT; i++) {
        const struct produced produced = {
            .record_count = RECORDS, .body_size = BODY_SIZE, .seed = i};
        struct slice batch = history_batch(&produced);
        uint8_t *to = batches + (size_t)i * SIZE;
        struct batch_header header;
        uint8_t digest[DIGEST_SIZE];

        ck_assert_uint_eq(batch.size, SIZE);
        memcpy(to, batch.data, SIZE);
        ck_assert_int_eq(batch_check_produced(to, SIZE, SIZE, &header, NULL), ERR_OK);
        header.base_offset = (uint64_t)i * RECORDS;
        header.raft_index = 7;
        digest_bytes(to + BATCH_HEADER_SIZE, BODY_SIZE, digest);
        digest_chain(chain.digest, &header, digest, header.digest);
        memcpy(chain.digest, header.digest, DIGEST_SIZE);
        batch_header_encode(&header, to);
        block_unref(batch.block);
    }
    memcpy(last_digest, chain.digest, DIGEST_SIZE);
}

static void assert_refused(struct chain chain, const uint8_t *data, size_t size, const char *why)
{
    const struct chain before = chain;
    struct err_info info = {.text = ""};

    ck_assert_int_eq(chain_follow(&chain, data, size, &info), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, why) != NULL, "%s", info.text);
    ck_assert_uint_eq(chain.offset, before.offset);
    ck_assert_mem_eq(chain.digest, before.digest, DIGEST_SIZE);
    ck_assert(chain.known == before.known);
}

START_TEST(batches_that_follow_move_the_chain_behind_them)
{
    struct chain chain = {.known = true};

    ck_assert_int_eq(chain_follow(&chain, batches, SIZE, NULL), ERR_OK);
    ck_assert_uint_eq(chain.offset, RECORDS);
    ck_assert_int_eq(chain_follow(&chain, batches + SIZE, sizeof batches - SIZE, NULL), ERR_OK);
    ck_assert_uint_eq(chain.offset, COUNT * RECORDS);
    ck_assert_mem_eq(chain.digest, last_digest, DIGEST_SIZE);
}
END_TEST

START_TEST(where_the_digest_below_is_unknown_the_first_batch_is_believed_and_no_other)
{
    struct chain chain = {.offset = RECORDS};

    ck_assert_int_eq(chain_follow(&chain, batches + SIZE, SIZE, NULL), ERR_OK);
    ck_assert(chain.known);
    ck_assert_int_eq(chain_follow(&chain, batches + (size_t)2 * SIZE, SIZE, NULL), ERR_OK);
    ck_assert_mem_eq(chain.digest, last_digest, DIGEST_SIZE);
}
END_TEST

START_TEST(a_batch_out_of_its_place_is_refused)
{
    assert_refused((struct chain){.known = true}, batches + SIZE, SIZE, "where one at 0 belongs");
    assert_refused((struct chain){.offset = RECORDS}, batches, SIZE, "where one at 2 belongs");
}
END_TEST

START_TEST(a_digest_that_does_not_follow_is_refused)
{
    struct chain chain = {.known = true};

    chain.digest[5] ^= 1;
    assert_refused(chain, batches, sizeof batches, "does not follow");
}
END_TEST

/* Its checksums are right, as those of one who lies are. */
START_TEST(another_body_with_right_checksums_is_refused)
{
    uint8_t *middle = batches + SIZE;
    struct batch_header header;

    ck_assert_int_eq(batch_header_decode(middle, SIZE, &header, NULL), ERR_OK);
    middle[BATCH_HEADER_SIZE] ^= 1;
    header.body_crc32c = crc32c(middle + BATCH_HEADER_SIZE, BODY_SIZE);
    batch_header_encode(&header, middle);
    assert_refused((struct chain){.known = true}, batches, sizeof batches, "does not follow");
}
END_TEST

START_TEST(any_bit_that_differs_is_refused)
{
    for (size_t at = 0; at < sizeof batches; at += 7) {
        struct chain chain = {.known = true};

        batches[at] ^= (uint8_t)(1U << at % 8);
        ck_assert_int_ne(chain_follow(&chain, batches, sizeof batches, NULL), ERR_OK);
        ck_assert_uint_eq(chain.offset, 0);
        batches[at] ^= (uint8_t)(1U << at % 8);
    }
}
END_TEST

START_TEST(what_is_cut_off_is_refused)
{
    for (size_t size = 1; size < sizeof batches; size += 13) {
        if (size % SIZE != 0) {
            assert_refused((struct chain){.known = true}, batches, size, "cut off");
        }
    }
}
END_TEST

/* ---- compacted batches ---- */

/* The first two in one, and the third. */
static void make_merged(struct buf *to, const uint8_t *before)
{
    buf_init(to, 1 << 20);
    merged_batch(batches, (size_t)2 * SIZE, before, to);
    ck_assert_int_eq(buf_append(to, batches + (size_t)2 * SIZE, SIZE), ERR_OK);
}

START_TEST(a_compacted_batch_follows_where_its_digest_before_is_and_the_chain_goes_on)
{
    struct chain chain = {.known = true};
    struct chain unknown = {.offset = 0};
    struct buf merged;

    make_merged(&merged, NULL);
    ck_assert_int_eq(chain_follow(&chain, merged.data, merged.size, NULL), ERR_OK);
    ck_assert_uint_eq(chain.offset, COUNT * RECORDS);
    ck_assert_mem_eq(chain.digest, last_digest, DIGEST_SIZE);
    ck_assert_int_eq(chain_follow(&unknown, merged.data, merged.size, NULL), ERR_OK);
    ck_assert_mem_eq(unknown.digest, last_digest, DIGEST_SIZE);
    buf_fini(&merged);
}
END_TEST

START_TEST(a_compacted_batch_that_names_another_digest_before_is_refused)
{
    static const uint8_t other[DIGEST_SIZE] = {1};
    struct buf merged;

    make_merged(&merged, other);
    assert_refused((struct chain){.known = true}, merged.data, merged.size, "does not follow");
    buf_fini(&merged);
}
END_TEST

START_TEST(what_follows_on_a_compacted_batch_follows_on_the_digest_in_its_header)
{
    struct batch_header header;
    struct buf merged;

    make_merged(&merged, NULL);
    ck_assert_int_eq(batch_header_decode(merged.data, UINT32_MAX, &header, NULL), ERR_OK);
    header.digest[0] ^= 1;
    batch_header_encode(&header, merged.data);
    assert_refused((struct chain){.known = true}, merged.data, merged.size,
                   "at offset 4 does not follow");
    buf_fini(&merged);
}
END_TEST

START_TEST(links_over_compacted_batches_lead_to_the_same_digest)
{
    struct chain chain = {.known = true};
    struct buf merged;
    struct batch_header header = {0};

    make_merged(&merged, NULL);
    for (size_t at = 0; at < merged.size; at += header.size) {
        uint8_t link[CHAIN_LINK_SIZE];

        ck_assert_int_eq(batch_header_decode(merged.data + at, UINT32_MAX, &header, NULL), ERR_OK);
        memcpy(link, merged.data + at, BATCH_HEADER_SIZE);
        chain_part(&header, merged.data + at + BATCH_HEADER_SIZE, link + BATCH_HEADER_SIZE);
        ck_assert_int_eq(chain_link(&chain, link, NULL), ERR_OK);
    }
    ck_assert_mem_eq(chain.digest, last_digest, DIGEST_SIZE);
    buf_fini(&merged);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/chain");
    TCase *follow = tcase_create("chain_follow");
    TCase *compacted = tcase_create("compacted batches");

    tcase_add_checked_fixture(follow, setup, NULL);
    tcase_add_test(follow, batches_that_follow_move_the_chain_behind_them);
    tcase_add_test(follow,
                   where_the_digest_below_is_unknown_the_first_batch_is_believed_and_no_other);
    tcase_add_test(follow, a_batch_out_of_its_place_is_refused);
    tcase_add_test(follow, a_digest_that_does_not_follow_is_refused);
    tcase_add_test(follow, another_body_with_right_checksums_is_refused);
    tcase_add_test(follow, any_bit_that_differs_is_refused);
    tcase_add_test(follow, what_is_cut_off_is_refused);
    suite_add_tcase(suite, follow);
    tcase_add_checked_fixture(compacted, setup, NULL);
    tcase_add_test(compacted,
                   a_compacted_batch_follows_where_its_digest_before_is_and_the_chain_goes_on);
    tcase_add_test(compacted, a_compacted_batch_that_names_another_digest_before_is_refused);
    tcase_add_test(compacted,
                   what_follows_on_a_compacted_batch_follows_on_the_digest_in_its_header);
    tcase_add_test(compacted, links_over_compacted_batches_lead_to_the_same_digest);
    suite_add_tcase(suite, compacted);
    return runner_main(suite);
}
