#include "raft_fsm/chain.h"

#include <check.h>
#include <string.h>

#include "archive/chained.h"
#include "lib/runner.h"

static struct chained t;

static void setup(void)
{
    chained_init(&t, 4096, "t");
    chained_add(&t, 1, 10);
    chained_add(&t, 3, 50);
    chained_add(&t, 2, 20);
}

static void teardown(void)
{
    chained_fini(&t);
}

START_TEST(batches_lead_from_zeros_to_the_digest_of_the_last)
{
    struct chain chain;
    size_t done;

    chain_init(&chain, 0, NULL);
    ck_assert(chain.known);
    ck_assert_int_eq(chain_batches(&chain, t.bytes, t.size, &done, NULL), ERR_OK);
    ck_assert_uint_eq(done, t.size);
    ck_assert_uint_eq(chain.offset, 6);
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
}
END_TEST

START_TEST(a_walk_goes_on_from_a_known_digest_and_not_from_another)
{
    uint8_t wrong[DIGEST_SIZE] = {1};
    struct chain chain;
    size_t done;

    chain_init(&chain, 1, t.headers[0].digest);
    ck_assert_int_eq(
        chain_batches(&chain, t.bytes + t.positions[1], t.size - t.positions[1], &done, NULL),
        ERR_OK);
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
    chain_init(&chain, 1, wrong);
    ck_assert_int_eq(
        chain_batches(&chain, t.bytes + t.positions[1], t.size - t.positions[1], &done, NULL),
        ERR_CORRUPT);
    ck_assert_uint_eq(done, 0);
    /* Not known: the first batch is taken at its word, what follows is not. */
    chain_init(&chain, 1, NULL);
    ck_assert(!chain.known);
    ck_assert_int_eq(
        chain_batches(&chain, t.bytes + t.positions[1], t.size - t.positions[1], &done, NULL),
        ERR_OK);
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
}
END_TEST

START_TEST(a_changed_byte_is_found_in_its_batch)
{
    for (size_t i = 0; i < t.size; i++) {
        struct err_info info = {0};
        struct chain chain;
        size_t done;
        size_t at = 0;

        while (t.positions[at + 1] <= i) {
            at++;
        }
        t.bytes[i] ^= (uint8_t)(1u << i % 8);
        chain_init(&chain, 0, NULL);
        ck_assert_int_eq(chain_batches(&chain, t.bytes, t.size, &done, &info), ERR_CORRUPT);
        ck_assert_uint_eq(done, t.positions[at]);
        ck_assert_uint_eq(chain.offset,
                          at == 0 ? 0 : batch_end_offset(&t.headers[at - 1])); /* C2 */
        ck_assert_int_ne(info.text[0], '\0');
        t.bytes[i] ^= (uint8_t)(1u << i % 8);
    }
}
END_TEST

START_TEST(batches_cut_short_or_out_of_order_are_refused)
{
    struct chain chain;
    size_t done;

    for (size_t size = 1; size < t.positions[1]; size++) {
        chain_init(&chain, 0, NULL);
        ck_assert_int_eq(chain_batches(&chain, t.bytes, size, &done, NULL), ERR_CORRUPT);
        ck_assert_uint_eq(done, 0);
    }
    chain_init(&chain, 0, NULL);
    ck_assert_int_eq(
        chain_batches(&chain, t.bytes + t.positions[1], t.headers[1].size, &done, NULL),
        ERR_CORRUPT);
}
END_TEST

START_TEST(links_lead_where_the_batches_lead)
{
    uint8_t link[CHAIN_LINK_SIZE];
    struct chain chain;

    chain_init(&chain, 0, NULL);
    for (size_t i = 0; i < t.count; i++) {
        chained_link(&t, i, link);
        for (size_t byte = 0; byte < sizeof link; byte++) {
            struct chain before = chain;

            link[byte] ^= 0x10;
            ck_assert_int_eq(chain_link(&chain, link, NULL), ERR_CORRUPT);
            ck_assert_mem_eq(&before, &chain, sizeof chain); /* C2 */
            link[byte] ^= 0x10;
        }
        ck_assert_int_eq(chain_link(&chain, link, NULL), ERR_OK);
    }
    ck_assert_uint_eq(chain.offset, t.end);
    ck_assert_mem_eq(chain.digest, t.digest, DIGEST_SIZE);
}
END_TEST

START_TEST(a_digest_as_text_has_one_form)
{
    char text[DIGEST_TEXT_SIZE];
    uint8_t digest[DIGEST_SIZE];

    digest_to_text(t.digest, text);
    ck_assert_uint_eq(strlen(text), 64);
    ck_assert(digest_from_text(text, digest));
    ck_assert_mem_eq(digest, t.digest, DIGEST_SIZE);
    for (size_t i = 0; i < 64; i++) {
        char digit = text[i];

        text[i] = 'g';
        ck_assert(!digest_from_text(text, digest));
        text[i] = 'A';
        ck_assert(!digest_from_text(text, digest));
        text[i] = digit;
    }
    text[63] = '\0';
    ck_assert(!digest_from_text(text, digest));
    ck_assert(!digest_from_text("", digest));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chain");
    TCase *tcase = tcase_create("chain");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, batches_lead_from_zeros_to_the_digest_of_the_last);
    tcase_add_test(tcase, a_walk_goes_on_from_a_known_digest_and_not_from_another);
    tcase_add_test(tcase, a_changed_byte_is_found_in_its_batch);
    tcase_add_test(tcase, batches_cut_short_or_out_of_order_are_refused);
    tcase_add_test(tcase, links_lead_where_the_batches_lead);
    tcase_add_test(tcase, a_digest_as_text_has_one_form);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
