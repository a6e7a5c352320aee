/*
 * What a crash, or a bad disk, may leave: every prefix of what was written, every flipped byte.
 * Above durable_end it is cut, below it is an error; it is never served.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { HEADER_SIZE = 32 };

static struct fixture f;
static struct expected all;
static uint8_t bytes[16 * 1024];
static uint8_t damaged[16 * 1024];

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
}

static void teardown(void)
{
    fixture_fini(&f);
}

/* The end offset of the last batch that lies whole below `position` of the segment that begins with
 * batch `first`. */
static uint64_t end_below(size_t first, size_t position)
{
    size_t at = HEADER_SIZE;
    uint64_t end = all.batches[first].base_offset;

    for (size_t i = first; i < all.count && at + all.batches[i].size <= position; i++) {
        at += all.batches[i].size;
        end = batch_end_offset(&all.batches[i]);
    }
    return end;
}

/* Opens with `size` bytes of `damaged` as the store at base: it must end at `end`, or, where that
 * lies below durable_end, be an error. */
static void open_damaged(uint64_t base, size_t size, uint64_t end)
{
    file_write(fixture_file(&f, base, ".store"), damaged, size);
    f.expected = all;
    if (end < f.options.durable_end) {
        ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
        return;
    }
    expected_truncate_back(&f.expected, end);
    fixture_open(&f);
    ck_assert_uint_eq(f.report.end, end);
    fixture_close(&f);
    ck_assert_uint_le(file_size(fixture_file(&f, base, ".store")), size);
    fixture_open(&f); /* Once cut, there is nothing more to report. */
    ck_assert(!f.report.torn);
    fixture_close(&f);
}

START_TEST(every_prefix_of_the_last_batches_is_cut_to_whole_ones)
{
    size_t size;

    fixture_append(&f, 1, 40);
    fixture_append(&f, 2, 20);
    fixture_append(&f, 3, 60);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (uint64_t durable = 0; durable <= 6; durable += 3) {
        f.options.durable_end = durable;
        for (size_t cut = HEADER_SIZE; cut <= size; cut++) {
            memcpy(damaged, bytes, size);
            open_damaged(0, cut, end_below(0, cut));
        }
    }
}
END_TEST

START_TEST(a_torn_tail_is_reported_with_its_place)
{
    size_t size;

    fixture_fill(&f, 3);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    file_write(fixture_file(&f, 0, ".store"), bytes, size - 10);
    expected_truncate_back(&f.expected, 4);
    fixture_open(&f);
    ck_assert(f.report.torn);
    ck_assert_str_eq(f.report.path, "00000000000000000000.store");
    ck_assert_uint_eq(f.report.position, HEADER_SIZE + 2 * 404);
    ck_assert_uint_eq(f.report.size_cut, 394);
    ck_assert_uint_eq(f.report.end, 4);
}
END_TEST

START_TEST(zeros_and_garbage_behind_the_last_batch_are_cut)
{
    size_t size;

    fixture_append(&f, 1, 40);
    fixture_append(&f, 2, 20);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    f.options.durable_end = 3;
    for (size_t extra = 1; extra < 300; extra += 3) {
        memcpy(damaged, bytes, size);
        memset(damaged + size, 0, extra);
        open_damaged(0, size + extra, 3);
        memset(damaged + size, 0xa5, extra);
        open_damaged(0, size + extra, 3);
        /* An old batch that verifies, but does not belong there. */
        memcpy(damaged + size, bytes + HEADER_SIZE, extra);
        open_damaged(0, size + extra, 3);
    }
}
END_TEST

START_TEST(every_flipped_byte_is_cut_above_and_an_error_below_durable_end)
{
    size_t size;

    fixture_append(&f, 1, 40);
    fixture_append(&f, 2, 20);
    fixture_append(&f, 3, 60);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (uint64_t durable = 0; durable <= 6; durable += 3) {
        f.options.durable_end = durable;
        for (size_t at = HEADER_SIZE; at < size; at++) {
            memcpy(damaged, bytes, size);
            damaged[at] ^= 0x20;
            open_damaged(0, size, end_below(0, at));
        }
    }
}
END_TEST

START_TEST(a_flipped_byte_in_the_header_of_a_store_is_an_error_or_an_empty_log)
{
    size_t size;

    fixture_append(&f, 1, 40);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (size_t at = 0; at < HEADER_SIZE; at++) {
        memcpy(damaged, bytes, size);
        damaged[at] ^= 0x01;
        f.options.durable_end = 1;
        file_write(fixture_file(&f, 0, ".store"), damaged, size);
        ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
        ck_assert_uint_eq(file_size(fixture_file(&f, 0, ".store")), size); /* untouched */
        f.options.durable_end = 0;
        open_damaged(0, size, 0);
    }
}
END_TEST

START_TEST(damage_in_a_sealed_segment_is_never_served)
{
    size_t size;

    fixture_fill(&f, 25); /* segments at 0, 20, 40 */
    fixture_close(&f);
    all = f.expected;
    f.options.durable_end = 50;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (size_t at = HEADER_SIZE; at < size; at += 3) {
        struct block *block;
        uint64_t offset = 0;
        enum err err;

        memcpy(damaged, bytes, size);
        damaged[at] ^= 0x08;
        file_write(fixture_file(&f, 0, ".store"), damaged, size);
        err = fixture_try_open(&f);
        ck_assert_int_eq(err, ERR_OK); /* Nobody looked into it yet. */
        while (err == ERR_OK && offset < 50) {
            struct err_info info = {0};

            err = log_read(f.log, offset, UINT64_MAX, 1, &block, &offset, &info);
            if (err == ERR_OK) {
                ck_assert(offset <= end_below(0, at) || offset > 20);
                block_unref(block);
            } else {
                ck_assert_int_eq(err, ERR_CORRUPT);
                ck_assert_ptr_nonnull(strstr(info.text, "00000000000000000000.store"));
                ck_assert_ptr_nonnull(strstr(info.text, "position"));
            }
        }
        ck_assert_int_eq(err, ERR_CORRUPT);
        fixture_close(&f);
    }
}
END_TEST

START_TEST(a_missing_segment_is_damage_below_durable_end_and_the_end_above)
{
    static const uint64_t bases[] = {20, 40};

    fixture_fill(&f, 45); /* 0, 20, 40, 60, 80 */
    fixture_close(&f);
    all = f.expected;
    for (size_t i = 0; i < 2; i++) {
        size_t size = file_read(fixture_file(&f, bases[i], ".store"), bytes, sizeof bytes);

        ck_assert_int_eq(unlink(fixture_file(&f, bases[i], ".store")), 0);
        f.options.durable_end = bases[i] + 1;
        ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
        f.options.durable_end = 90;
        ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
        file_write(fixture_file(&f, bases[i], ".store"), bytes, size);
        fixture_open(&f); /* Nothing else was touched by the refusals. */
        fixture_close(&f);
    }
    ck_assert_int_eq(unlink(fixture_file(&f, 40, ".store")), 0);
    f.options.durable_end = 40;
    expected_truncate_back(&f.expected, 40);
    fixture_open(&f);
    ck_assert(f.report.torn);
    ck_assert_str_eq(f.report.path, "00000000000000000060.store");
    ck_assert(!file_exists(fixture_file(&f, 80, ".store")));
    fixture_fill(&f, 10);
    log_check(f.log);
}
END_TEST

START_TEST(the_last_segment_may_not_be_missing_below_durable_end)
{
    fixture_fill(&f, 45);
    fixture_close(&f);
    ck_assert_int_eq(unlink(fixture_file(&f, 80, ".store")), 0);
    f.options.durable_end = 81;
    ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
    f.options.durable_end = 80;
    expected_truncate_back(&f.expected, 80);
    fixture_open(&f);
}
END_TEST

START_TEST(a_log_with_no_file_left_is_damage_when_it_was_durable)
{
    fixture_fill(&f, 2);
    fixture_close(&f);
    ck_assert_int_eq(unlink(fixture_file(&f, 0, ".store")), 0);
    f.options.durable_end = 1;
    ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
}
END_TEST

START_TEST(an_interrupted_roll_is_no_damage)
{
    size_t size;

    fixture_fill(&f, 10); /* the segment is full */
    fixture_append(&f, 1, 300);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 20, ".store"), bytes, sizeof bytes);
    ck_assert_uint_gt(size, HEADER_SIZE);
    f.options.durable_end = 20;
    for (size_t cut = 0; cut <= HEADER_SIZE; cut++) {
        file_write(fixture_file(&f, 20, ".store"), bytes, cut);
        f.expected = all;
        expected_truncate_back(&f.expected, 20);
        fixture_open(&f);
        ck_assert(!f.report.torn);
        fixture_append(&f, 1, 3000);
        log_check(f.log);
        fixture_verify(&f);
        ck_assert_int_eq(log_truncate_back(f.log, 20, NULL), ERR_OK);
        fixture_close(&f);
    }
}
END_TEST

START_TEST(a_newer_format_is_refused_and_left_alone)
{
    static const size_t places[] = {8, 12};
    size_t size;

    fixture_fill(&f, 2);
    fixture_close(&f);
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (size_t i = 0; i < 2; i++) {
        memcpy(damaged, bytes, size);
        damaged[places[i]] ^= 2;
        bytes_put_u32(damaged + 4, crc32c(damaged + 8, HEADER_SIZE - 8));
        file_write(fixture_file(&f, 0, ".store"), damaged, size);
        ck_assert_int_eq(fixture_try_open(&f), ERR_VERSION);
        ck_assert_uint_eq(file_size(fixture_file(&f, 0, ".store")), size);
    }
}
END_TEST

START_TEST(batches_out_of_order_do_not_verify)
{
    size_t size;
    size_t second = HEADER_SIZE + 404;

    fixture_fill(&f, 3);
    fixture_close(&f);
    all = f.expected;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (int field = 0; field < 2; field++) { /* raft_index, append_time_us go down */
        struct batch_header header;

        memcpy(damaged, bytes, size);
        ck_assert_int_eq(batch_header_decode(damaged + second, 4096, &header, NULL), ERR_OK);
        header.raft_index -= field == 0 ? 3 : 0;
        header.append_time_us -= field == 1 ? 11 : 0;
        batch_header_encode(&header, damaged + second);
        f.options.durable_end = 0;
        open_damaged(0, size, 2);
        f.options.durable_end = 4;
        open_damaged(0, size, 2);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/crash");
    TCase *tcase = tcase_create("crash");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_prefix_of_the_last_batches_is_cut_to_whole_ones);
    tcase_add_test(tcase, a_torn_tail_is_reported_with_its_place);
    tcase_add_test(tcase, zeros_and_garbage_behind_the_last_batch_are_cut);
    tcase_add_test(tcase, every_flipped_byte_is_cut_above_and_an_error_below_durable_end);
    tcase_add_test(tcase, a_flipped_byte_in_the_header_of_a_store_is_an_error_or_an_empty_log);
    tcase_add_test(tcase, damage_in_a_sealed_segment_is_never_served);
    tcase_add_test(tcase, a_missing_segment_is_damage_below_durable_end_and_the_end_above);
    tcase_add_test(tcase, the_last_segment_may_not_be_missing_below_durable_end);
    tcase_add_test(tcase, a_log_with_no_file_left_is_damage_when_it_was_durable);
    tcase_add_test(tcase, an_interrupted_roll_is_no_damage);
    tcase_add_test(tcase, a_newer_format_is_refused_and_left_alone);
    tcase_add_test(tcase, batches_out_of_order_do_not_verify);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
