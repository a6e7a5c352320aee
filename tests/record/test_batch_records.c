#include "record/batch_records.h"

#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "record/codec.h"

enum { BASE = 100, COUNT = 5, TIME = 7000 };

static struct buf body;
static struct batch_records walk;
static struct batch_header header;

static void setup(void)
{
    buf_init(&body, 1 << 20);
    batch_records_init(&walk);
    header =
        (struct batch_header){.base_offset = BASE, .record_count = COUNT, .append_time_us = TIME};
}

static void teardown(void)
{
    batch_records_fini(&walk);
    buf_fini(&body);
}

static void append_dense(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct record record = {.value = "value", .value_size = 5};

        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    }
}

static void append_sparse(uint64_t offset, int64_t append_time_us)
{
    struct record record = {
        .value = "value", .value_size = 5, .offset = offset, .append_time_us = append_time_us};

    ck_assert_int_eq(record_set_append_sparse(&body, &record, TIME), ERR_OK);
}

static void compress(enum codec codec)
{
    struct buf packed;

    buf_init(&packed, 1 << 20);
    ck_assert_int_eq(codec_compress(codec, body.data, body.size, &packed, NULL), ERR_OK);
    buf_fini(&body);
    body = packed;
    header.attributes |= (uint16_t)codec;
}

static enum err start(size_t plain_size_max, struct err_info *info)
{
    header.size = BATCH_HEADER_SIZE + (uint32_t)body.size;
    return batch_records_start(&walk, &header, body.data, plain_size_max, info);
}

/* The offsets of the records, and what ends the walk. */
static enum err walk_over(uint64_t offsets[], int64_t times[], size_t *ret_count)
{
    struct record record;
    size_t count = 0;
    enum err err = start(0, NULL);

    while (err == ERR_OK && (err = batch_records_next(&walk, &record)) == ERR_OK) {
        ck_assert_uint_lt(count, COUNT);
        ck_assert_uint_eq(record.value_size, 5);
        ck_assert_mem_eq(record.value, "value", 5);
        offsets[count] = record.offset;
        times[count] = record.append_time_us;
        count++;
    }
    *ret_count = count;
    return err;
}

static uint64_t offsets[COUNT];
static int64_t times[COUNT];
static size_t count;

START_TEST(dense_records_are_numbered_by_their_place)
{
    append_dense(COUNT);
    if (_i > 0) {
        compress((enum codec)_i);
    }
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(offsets[i], BASE + i);
        ck_assert_int_eq(times[i], TIME);
    }
}
END_TEST

START_TEST(dense_batch_with_fewer_or_more_records_than_it_says_is_corrupt)
{
    append_dense(COUNT - 1);
    if (_i > 0) {
        compress((enum codec)_i);
    }
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_CORRUPT);
    ck_assert_uint_eq(count, COUNT - 1);
    header.attributes = 0;
    body.size = 0;
    append_dense(COUNT + 1);
    if (_i > 0) {
        compress((enum codec)_i);
    }
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_CORRUPT);
    ck_assert_uint_eq(count, COUNT);
}
END_TEST

START_TEST(offsets_and_times_that_a_producer_put_in_mean_nothing)
{
    for (uint64_t i = 0; i < COUNT; i++) {
        append_sparse(3 * i, TIME + 1);
    }
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, COUNT);
    ck_assert_uint_eq(offsets[COUNT - 1], BASE + COUNT - 1);
    ck_assert_int_eq(times[COUNT - 1], TIME);
}
END_TEST

START_TEST(sparse_records_have_the_offsets_and_times_they_name)
{
    header.attributes = BATCH_SPARSE;
    append_sparse(BASE, TIME);
    append_sparse(BASE + 2, TIME - 5);
    append_sparse(BASE + 4, TIME);
    if (_i > 0) {
        compress((enum codec)_i);
    }
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(offsets[0], BASE);
    ck_assert_uint_eq(offsets[1], BASE + 2);
    ck_assert_uint_eq(offsets[2], BASE + 4);
    ck_assert_int_eq(times[0], TIME);
    ck_assert_int_eq(times[1], TIME - 5);
    ck_assert_int_eq(times[2], TIME);
}
END_TEST

START_TEST(sparse_offset_outside_or_out_of_order_is_corrupt)
{
    static const uint64_t bad[][2] = {
        {BASE - 1, BASE}, {BASE, BASE}, {BASE + 2, BASE + 1}, {BASE, BASE + COUNT}, {0, 1}};

    header.attributes = BATCH_SPARSE;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        body.size = 0;
        append_sparse(bad[i][0], TIME);
        append_sparse(bad[i][1], TIME);
        ck_assert_int_eq(walk_over(offsets, times, &count), ERR_CORRUPT);
    }
}
END_TEST

START_TEST(first_offset_of_all_needs_no_field)
{
    header.attributes = BATCH_SPARSE;
    header.base_offset = 0;
    append_sparse(0, TIME);
    ck_assert_uint_eq(body.size, 2 + 7); /* The value alone. */
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(offsets[0], 0);
}
END_TEST

START_TEST(digest_before_a_compacted_body_is_skipped)
{
    static const uint8_t digest[BATCH_DIGEST_SIZE] = {9, 9, 9};
    struct buf whole;

    header.attributes = BATCH_SPARSE | BATCH_COMPACTED;
    append_sparse(BASE + 1, TIME - 1);
    if (_i > 0) {
        compress((enum codec)_i);
    }
    buf_init(&whole, 1 << 20);
    ck_assert_int_eq(buf_append(&whole, digest, sizeof digest), ERR_OK);
    ck_assert_int_eq(buf_append(&whole, body.data, body.size), ERR_OK);
    buf_fini(&body);
    body = whole;
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(offsets[0], BASE + 1);
    ck_assert_int_eq(times[0], TIME - 1);
}
END_TEST

START_TEST(compacted_batch_may_be_empty)
{
    static const uint8_t digest[BATCH_DIGEST_SIZE];

    header.attributes = BATCH_SPARSE | BATCH_COMPACTED;
    ck_assert_int_eq(buf_append(&body, digest, sizeof digest), ERR_OK);
    ck_assert_int_eq(walk_over(offsets, times, &count), ERR_AGAIN);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(body_that_is_larger_than_allowed_is_refused_before_it_is_decompressed)
{
    struct err_info info = {0};

    append_dense(COUNT);
    compress(CODEC_ZSTD);
    ck_assert_int_eq(start(9 * COUNT, &info), ERR_OK);
    ck_assert_int_eq(start(9 * COUNT - 1, &info), ERR_TOO_LARGE);
    ck_assert_msg(strstr(info.text, "the batch at offset 100") != NULL, "%s", info.text);
}
END_TEST

START_TEST(body_that_does_not_decompress_is_corrupt)
{
    append_dense(COUNT);
    compress(CODEC_LZ4);
    body.size--;
    ck_assert_int_eq(start(0, NULL), ERR_CORRUPT);
    header.attributes = BATCH_SPARSE | CODEC_ZSTD;
    ck_assert_int_eq(start(0, NULL), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch_records");
    TCase *walks = tcase_create("walks");

    tcase_add_checked_fixture(walks, setup, teardown);
    tcase_add_loop_test(walks, dense_records_are_numbered_by_their_place, 0, 3);
    tcase_add_loop_test(walks, dense_batch_with_fewer_or_more_records_than_it_says_is_corrupt, 0,
                        3);
    tcase_add_test(walks, offsets_and_times_that_a_producer_put_in_mean_nothing);
    tcase_add_loop_test(walks, sparse_records_have_the_offsets_and_times_they_name, 0, 3);
    tcase_add_test(walks, sparse_offset_outside_or_out_of_order_is_corrupt);
    tcase_add_test(walks, first_offset_of_all_needs_no_field);
    tcase_add_loop_test(walks, digest_before_a_compacted_body_is_skipped, 0, 3);
    tcase_add_test(walks, compacted_batch_may_be_empty);
    tcase_add_test(walks, body_that_is_larger_than_allowed_is_refused_before_it_is_decompressed);
    tcase_add_test(walks, body_that_does_not_decompress_is_corrupt);
    suite_add_tcase(suite, walks);
    return runner_main(suite);
}
