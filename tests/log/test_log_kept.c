#include "log/log.h"

#include <string.h>

#include "lib/runner.h"
#include "log/log_fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, 40);
    ck_assert_uint_gt(log_segment_count(f.log), 3);
}

static void teardown(void)
{
    fixture_fini(&f);
}

/* All batches from `offset` to the end of what was kept are those that were appended. */
static void assert_kept(const struct log_kept *kept, uint64_t offset)
{
    while (offset < log_kept_end(kept)) {
        struct batch_header header;
        struct block *block;
        size_t at = 0;
        uint64_t end;

        ck_assert_int_eq(log_kept_read(kept, offset, 700, &block, &end, NULL), ERR_OK);
        for (; at < block->size; at += header.size) {
            const struct batch_header *expected = &f.expected.batches[offset / 2];

            ck_assert_int_eq(batch_header_decode(block->data + at, UINT32_MAX, &header, NULL),
                             ERR_OK);
            ck_assert_uint_eq(header.base_offset, offset);
            ck_assert_uint_eq(header.body_crc32c, expected->body_crc32c);
            offset = batch_end_offset(&header);
        }
        ck_assert_uint_eq(end, offset);
        block_unref(block);
    }
}

/* 0: a sealed segment, 1: the active one */
START_TEST(what_was_kept_is_read_when_it_was_punched_out)
{
    uint64_t offset = _i == 0 ? 14 : log_end(f.log) - 2;
    struct batch_header header;
    struct log_extent extent;
    struct log_kept *kept;

    ck_assert_int_eq(log_extent_at(f.log, offset, &extent, NULL), ERR_OK);
    ck_assert_int_eq(log_keep(f.log, offset, &kept, NULL), ERR_OK);
    ck_assert_uint_eq(log_kept_end(kept), extent.end_offset);
    ck_assert_int_eq(log_punch(f.log, extent.base_offset, extent.end_offset, NULL), ERR_OK);
    ck_assert_int_eq(log_read_header(f.log, offset, &header, NULL), ERR_HOLE);
    assert_kept(kept, extent.base_offset);
    assert_kept(kept, offset);
    log_kept_free(kept);
}
END_TEST

START_TEST(what_is_not_there_is_not_kept)
{
    struct log_kept *kept;

    ck_assert_int_eq(log_keep(f.log, log_end(f.log), &kept, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_keep(f.log, log_end(f.log) + 1, &kept, NULL), ERR_RANGE);
    ck_assert_int_eq(log_punch(f.log, 10, 11, NULL), ERR_OK);
    ck_assert_int_eq(log_keep(f.log, 10, &kept, NULL), ERR_HOLE);
    log_kept_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/log_kept");
    TCase *tcase = tcase_create("keep");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, what_was_kept_is_read_when_it_was_punched_out, 0, 2);
    tcase_add_test(tcase, what_is_not_there_is_not_kept);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
