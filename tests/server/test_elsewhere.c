#include "server/elsewhere.h"

#include <check.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/batch.h"
#include "record/batch_records.h"

enum { BODY_SIZE = 20, SIZE = BATCH_HEADER_SIZE + BODY_SIZE, BATCHES = 3, RECORDS = 10 };

static uint8_t bytes[BATCHES * SIZE];

/* Batches of ten records: [100, 110), [110, 120), [120, 130). */
static void setup(void)
{
    for (unsigned i = 0; i < BATCHES; i++) {
        batch_header_encode(&(struct batch_header){.size = SIZE,
                                                   .record_count = RECORDS,
                                                   .base_offset = 100 + (uint64_t)i * RECORDS,
                                                   .raft_index = 7,
                                                   .raft_term = 1},
                            bytes + (size_t)i * SIZE);
    }
}

static const struct {
    uint64_t end;
    size_t left;
    uint64_t next;
} rows[] = {
    {.end = 110, .left = 1, .next = 110},
    {.end = 120, .left = 2, .next = 120},
    {.end = 130, .left = 3, .next = 130},
    {.end = 500, .left = 3, .next = 130},
};

/* Else it would show records beyond its own end, and later take them back. */
START_TEST(what_another_node_has_beyond_our_end_is_left_out)
{
    struct slice batches = {.data = bytes, .size = sizeof bytes};
    struct block *cut;
    uint64_t next = 130;

    ck_assert_int_eq(elsewhere_cut(rows[_i].end, &batches, &next, &cut), ERR_OK);
    ck_assert_ptr_null(cut);
    ck_assert_uint_eq(batches.size, rows[_i].left * SIZE);
    ck_assert_uint_eq(next, rows[_i].next);
}
END_TEST

START_TEST(a_place_without_batches_is_not_beyond_our_end_either)
{
    struct slice none = {.data = NULL, .size = 0};
    struct block *cut;
    uint64_t next = 200;

    ck_assert_int_eq(elsewhere_cut(130, &none, &next, &cut), ERR_OK);
    ck_assert_ptr_null(cut);
    ck_assert_uint_eq(next, 130);
    ck_assert_uint_eq(none.size, 0);
}
END_TEST

/* Behind the first two, one that stands for [120, 140) and has records 121, 127 and 133. */
static struct slice with_merged(struct buf *to)
{
    static const uint8_t zeros[BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE];
    struct batch_header header = {.record_count = 20,
                                  .base_offset = 120,
                                  .raft_index = 9,
                                  .raft_term = 1,
                                  .append_time_us = 77,
                                  .attributes = BATCH_SPARSE | BATCH_COMPACTED};
    size_t at = (size_t)2 * SIZE;

    buf_init(to, 1 << 16);
    ck_assert_int_eq(buf_append(to, bytes, at), ERR_OK);
    ck_assert_int_eq(buf_append(to, zeros, sizeof zeros), ERR_OK);
    for (uint64_t offset = 121; offset < 135; offset += 6) {
        const struct record record = {.value = "v", .value_size = 1, .offset = offset};

        ck_assert_int_eq(record_set_append_sparse(to, &record, 77), ERR_OK);
    }
    header.size = (uint32_t)(to->size - at);
    header.body_crc32c = crc32c(to->data + at + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, to->data + at);
    return (struct slice){.data = to->data, .size = to->size};
}

/* What is left of the merged batch: its end and its records. */
START_TEST(a_batch_that_another_node_merged_across_our_end_is_cut_there)
{
    static const struct {
        uint64_t end;
        uint64_t records;
    } cuts[] = {{121, 0}, {122, 1}, {130, 2}, {139, 3}};
    struct batch_records records;
    struct batch_header header;
    struct record record;
    struct block *cut;
    struct buf merged;
    struct slice batches = with_merged(&merged);
    uint64_t next = 140;
    uint64_t count = 0;
    const uint8_t *part;

    ck_assert_int_eq(elsewhere_cut(cuts[_i].end, &batches, &next, &cut), ERR_OK);
    ck_assert_ptr_nonnull(cut);
    ck_assert_uint_eq(next, cuts[_i].end);
    ck_assert_mem_eq(batches.data, bytes, (size_t)2 * SIZE);
    part = batches.data + (size_t)2 * SIZE;
    ck_assert_int_eq(batch_header_decode(part, (uint32_t)batches.size - 2 * SIZE, &header, NULL),
                     ERR_OK);
    ck_assert_uint_eq(header.size, batches.size - (size_t)2 * SIZE);
    ck_assert_uint_eq(batch_end_offset(&header), cuts[_i].end);
    batch_records_init(&records);
    ck_assert_int_eq(batch_check_body(&header, part + BATCH_HEADER_SIZE, NULL), ERR_OK);
    ck_assert_int_eq(batch_records_start(&records, &header, part + BATCH_HEADER_SIZE, 0, NULL),
                     ERR_OK);
    while (batch_records_next(&records, &record) == ERR_OK) {
        ck_assert_uint_eq(record.offset, 121 + 6 * count);
        ck_assert_int_eq(record.append_time_us, 77);
        count++;
    }
    ck_assert_uint_eq(count, cuts[_i].records);
    batch_records_fini(&records);
    block_unref(cut);
    buf_fini(&merged);
}
END_TEST

START_TEST(a_batch_across_our_end_that_is_none_does_not_help)
{
    struct block *cut;
    struct buf merged;
    struct slice batches = with_merged(&merged);
    uint64_t next = 140;

    merged.data[merged.size - 1] ^= 1;
    ck_assert_int_eq(elsewhere_cut(130, &batches, &next, &cut), ERR_CORRUPT);
    ck_assert_ptr_null(cut);
    buf_fini(&merged);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/elsewhere");
    TCase *tcase = tcase_create("cut");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, what_another_node_has_beyond_our_end_is_left_out, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tcase, a_place_without_batches_is_not_beyond_our_end_either);
    tcase_add_loop_test(tcase, a_batch_that_another_node_merged_across_our_end_is_cut_there, 0, 4);
    tcase_add_test(tcase, a_batch_across_our_end_that_is_none_does_not_help);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
