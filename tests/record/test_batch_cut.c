#include "record/batch_cut.h"

#include <check.h>
#include <string.h>

#include "base/crc32c.h"
#include "lib/runner.h"
#include "record/batch_records.h"
#include "record/codec.h"

enum { BASE = 100, COUNT = 20, TIME = 7000 };

static const uint64_t offsets[] = {103, 107, 112, 119};
enum { OFFSETS = sizeof offsets / sizeof offsets[0] };

static uint8_t digest[BATCH_DIGEST_SIZE];
static uint8_t before[BATCH_DIGEST_SIZE];
static struct buf batch;
static struct buf out;

static void put_record(struct buf *set, uint64_t offset)
{
    struct record record = {.key = "key",
                            .key_size = 3,
                            .value = "a value, a value, a value",
                            .value_size = 25,
                            .offset = offset,
                            .append_time_us = TIME - (int64_t)(119 - offset)};

    ck_assert_int_eq(record_set_append_sparse(set, &record, TIME), ERR_OK);
}

/* A compacted batch of [100, 120) that has four records. */
static void make(enum codec codec)
{
    static const uint8_t room[BATCH_HEADER_SIZE];
    struct batch_header header = {.base_offset = BASE,
                                  .record_count = COUNT,
                                  .raft_index = 9,
                                  .raft_term = 2,
                                  .append_time_us = TIME,
                                  .attributes =
                                      (uint16_t)(BATCH_SPARSE | BATCH_COMPACTED | (int)codec)};
    struct buf set;

    buf_init(&set, 1 << 16);
    for (size_t i = 0; i < OFFSETS; i++) {
        put_record(&set, offsets[i]);
    }
    memset(digest, 0xd1, sizeof digest);
    memset(before, 0xbe, sizeof before);
    memcpy(header.digest, digest, sizeof digest);
    batch.size = 0;
    ck_assert_int_eq(buf_append(&batch, room, sizeof room), ERR_OK);
    ck_assert_int_eq(buf_append(&batch, before, sizeof before), ERR_OK);
    if (codec == CODEC_NONE) {
        ck_assert_int_eq(buf_append(&batch, set.data, set.size), ERR_OK);
    } else {
        ck_assert_int_eq(codec_compress(codec, set.data, set.size, &batch, NULL), ERR_OK);
    }
    header.size = (uint32_t)batch.size;
    header.body_crc32c = crc32c(batch.data + BATCH_HEADER_SIZE, batch.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, batch.data);
    buf_fini(&set);
}

static void setup(void)
{
    buf_init(&batch, 1 << 16);
    buf_init(&out, 1 << 16);
}

static void teardown(void)
{
    buf_fini(&batch);
    buf_fini(&out);
}

/* What was put behind `at`: verified, with these of the records, each as it was. */
static struct batch_header assert_part(size_t at, size_t first, size_t count)
{
    struct batch_header header;
    struct batch_records records;
    struct record record;

    ck_assert_uint_gt(out.size, at + BATCH_HEADER_SIZE);
    ck_assert_int_eq(batch_header_decode(out.data + at, (uint32_t)(out.size - at), &header, NULL),
                     ERR_OK);
    ck_assert_uint_eq(header.size, out.size - at);
    ck_assert_int_eq(batch_check_body(&header, out.data + at + BATCH_HEADER_SIZE, NULL), ERR_OK);
    ck_assert_uint_eq(header.raft_index, 9);
    ck_assert_uint_eq(header.raft_term, 2);
    ck_assert_int_eq(header.append_time_us, TIME);
    batch_records_init(&records);
    ck_assert_int_eq(
        batch_records_start(&records, &header, out.data + at + BATCH_HEADER_SIZE, 0, NULL), ERR_OK);
    for (size_t i = first; i < first + count; i++) {
        ck_assert_int_eq(batch_records_next(&records, &record), ERR_OK);
        ck_assert_uint_eq(record.offset, offsets[i]);
        ck_assert_int_eq(record.append_time_us, TIME - (int64_t)(119 - offsets[i]));
        ck_assert_uint_eq(record.value_size, 25);
        ck_assert_uint_eq(record.key_size, 3);
    }
    ck_assert_int_eq(batch_records_next(&records, &record), ERR_AGAIN);
    batch_records_fini(&records);
    return header;
}

static enum err cut(uint64_t from, uint64_t to, const uint8_t *digest_before)
{
    const struct batch_cut what = {.from = from, .to = to, .before = digest_before};

    return batch_cut_append(batch.data, (uint32_t)batch.size, &what, &out, NULL);
}

START_TEST(the_upper_part_is_a_compacted_batch_with_the_same_end)
{
    static const uint8_t here[BATCH_DIGEST_SIZE] = {1, 2, 3};
    struct batch_header header;

    make((enum codec)_i);
    ck_assert_int_eq(buf_append(&out, "before", 6), ERR_OK);
    ck_assert_int_eq(cut(108, UINT64_MAX, here), ERR_OK);
    header = assert_part(6, 2, 2);
    ck_assert_uint_eq(header.base_offset, 108);
    ck_assert_uint_eq(batch_end_offset(&header), BASE + COUNT);
    ck_assert_uint_eq(header.attributes, (unsigned)(BATCH_SPARSE | BATCH_COMPACTED | _i));
    ck_assert_mem_eq(header.digest, digest, sizeof digest);
    ck_assert_mem_eq(out.data + 6 + BATCH_HEADER_SIZE, here, sizeof here);
}
END_TEST

START_TEST(a_part_without_records_is_the_digest_before_alone)
{
    static const uint8_t here[BATCH_DIGEST_SIZE] = {4};
    struct batch_header header;

    make((enum codec)_i);
    ck_assert_int_eq(cut(113, 119, here), ERR_OK);
    header = assert_part(0, 0, 0);
    ck_assert_uint_eq(header.base_offset, 113);
    ck_assert_uint_eq(header.record_count, 6);
    ck_assert_uint_eq(header.size, BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE);
    ck_assert_uint_eq(header.attributes, BATCH_SPARSE | BATCH_COMPACTED);
}
END_TEST

START_TEST(the_lower_part_is_for_a_reader_and_has_no_digest)
{
    static const uint8_t zeros[BATCH_DIGEST_SIZE];
    struct batch_header header;

    make((enum codec)_i);
    ck_assert_int_eq(cut(0, 112, NULL), ERR_OK);
    header = assert_part(0, 0, 2);
    ck_assert_uint_eq(header.base_offset, BASE);
    ck_assert_uint_eq(header.record_count, 12);
    ck_assert_uint_eq(header.attributes, (unsigned)(BATCH_SPARSE | _i));
    ck_assert_mem_eq(header.digest, zeros, sizeof zeros);
    out.size = 0;
    ck_assert_int_eq(cut(0, 113, before), ERR_OK);
    header = assert_part(0, 0, 3);
    ck_assert_uint_eq(header.attributes, (unsigned)(BATCH_SPARSE | BATCH_COMPACTED | _i));
    ck_assert_mem_eq(header.digest, zeros, sizeof zeros);
}
END_TEST

START_TEST(a_sparse_part_without_records_is_nothing)
{
    make(CODEC_NONE);
    ck_assert_int_eq(buf_append(&out, "x", 1), ERR_OK);
    ck_assert_int_eq(cut(0, 103, NULL), ERR_OK);
    ck_assert_uint_eq(out.size, 1);
}
END_TEST

START_TEST(a_batch_whose_records_are_none_is_corrupt_and_leaves_nothing)
{
    struct batch_header header;
    struct err_info info = {.text = ""};
    const struct batch_cut what = {.from = 105, .to = UINT64_MAX, .before = before};

    make((enum codec)_i);
    ck_assert_int_eq(batch_header_decode(batch.data, (uint32_t)batch.size, &header, NULL), ERR_OK);
    memset(batch.data + batch.size - 20, 0xff, 20);
    header.body_crc32c = crc32c(batch.data + BATCH_HEADER_SIZE, batch.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, batch.data);
    ck_assert_int_eq(batch_cut_append(batch.data, (uint32_t)batch.size, &what, &out, &info),
                     ERR_CORRUPT);
    ck_assert(strstr(info.text, "offset 100") != NULL);
    ck_assert_uint_eq(out.size, 0);
}
END_TEST

START_TEST(what_does_not_fit_is_too_large_and_leaves_nothing)
{
    make(CODEC_NONE);
    for (size_t room = 1; room < batch.size; room += 17) {
        struct buf small;
        const struct batch_cut what = {.from = BASE, .to = UINT64_MAX, .before = before};

        buf_init(&small, room);
        ck_assert_int_eq(batch_cut_append(batch.data, (uint32_t)batch.size, &what, &small, NULL),
                         ERR_TOO_LARGE);
        ck_assert_uint_eq(small.size, 0);
        buf_fini(&small);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record/batch_cut");
    TCase *tcase = tcase_create("batch_cut_append");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, the_upper_part_is_a_compacted_batch_with_the_same_end, 0, 3);
    tcase_add_loop_test(tcase, a_part_without_records_is_the_digest_before_alone, 0, 3);
    tcase_add_loop_test(tcase, the_lower_part_is_for_a_reader_and_has_no_digest, 0, 3);
    tcase_add_test(tcase, a_sparse_part_without_records_is_nothing);
    tcase_add_loop_test(tcase, a_batch_whose_records_are_none_is_corrupt_and_leaves_nothing, 0, 3);
    tcase_add_test(tcase, what_does_not_fit_is_too_large_and_leaves_nothing);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
