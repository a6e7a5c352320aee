/*
 * What the project that this one grew out of lost, got stuck on, or believed: each of its defects
 * that concern the log, as a test.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { HEADER_SIZE = 32 };

static struct fixture f;
static uint8_t bytes[64 * 1024];

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
}

static void teardown(void)
{
    fixture_fini(&f);
}

static void reopen(void)
{
    fixture_close(&f);
    fixture_open(&f);
}

START_TEST(the_index_reaches_the_disk_and_survives_a_reopen)
{
    static const uint8_t zeros[64];
    size_t size;

    fixture_fill(&f, 15);
    size = file_read(fixture_file(&f, 0, ".index"), bytes, sizeof bytes);
    ck_assert_uint_gt(size, HEADER_SIZE + 16 + 56);
    ck_assert_mem_ne(bytes + HEADER_SIZE, zeros, sizeof zeros);
    f.options.durable_end = log_end(f.log);
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    fixture_append(&f, 1, 10); /* goes on at the right offset */
    fixture_verify(&f);
}
END_TEST

START_TEST(sizes_and_positions_are_right_after_a_reopen)
{
    struct log_chunk chunk;
    uint64_t size;

    fixture_fill(&f, 5);
    size = log_size(f.log);
    ck_assert_uint_eq(size, file_size(fixture_file(&f, 0, ".store")));
    reopen();
    ck_assert_uint_eq(log_size(f.log), size);
    fixture_append(&f, 1, 10);
    ck_assert_int_eq(log_find(f.log, 10, UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.position, size);
    log_chunk_release(&chunk);
    fixture_verify(&f);
}
END_TEST

START_TEST(an_index_of_zeros_is_made_again)
{
    fixture_fill(&f, 15);
    f.options.durable_end = log_end(f.log);
    fixture_close(&f);
    memset(bytes, 0, 1024);
    file_write(fixture_file(&f, 0, ".index"), bytes, 1024);
    file_write(fixture_file(&f, 20, ".index"), bytes, 1024); /* of the active segment */
    fixture_open(&f);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 1);
    ck_assert(!file_exists(fixture_file(&f, 20, ".index")));
    fixture_fill(&f, 30);
    log_check(f.log);
    fixture_verify(&f);
}
END_TEST

START_TEST(without_a_close_what_was_synced_is_there)
{
    static struct fixture copy;

    fixture_fill(&f, 15);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    fixture_init(&copy);
    ck_assert_int_eq(rmdir(copy.log_dir), 0);
    copy_dir(f.log_dir, copy.log_dir); /* as a crash would leave it */
    copy.expected = f.expected;
    copy.options.durable_end = log_end(f.log);
    fixture_open(&copy);
    fixture_fini(&copy);
}
END_TEST

START_TEST(thousands_of_tiny_batches_roll_and_never_get_stuck)
{
    for (int i = 0; i < 3000; i++) {
        fixture_append(&f, 1, 1);
    }
    ck_assert_uint_gt(log_segment_count(f.log), 50);
    log_check(f.log);
    reopen();
}
END_TEST

START_TEST(reset_leaves_no_closed_segment_behind)
{
    fixture_fill(&f, 25);
    ck_assert_int_eq(log_reset(f.log, 0, NULL), ERR_OK);
    f.expected = (struct expected){0};
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    fixture_fill(&f, 25);
    log_check(f.log);
    fixture_verify(&f);
    reopen();
}
END_TEST

START_TEST(truncating_everything_leaves_an_active_segment_and_its_readers)
{
    struct log_chunk chunk;

    fixture_fill(&f, 5);
    ck_assert_int_eq(log_find(f.log, 0, UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(log_truncate_front(f.log, 10, NULL), ERR_OK);
    expected_truncate_front(&f.expected, 10);
    fixture_fill(&f, 5);
    log_check(f.log);
    fixture_verify(&f);
    ck_assert_int_eq(pread(chunk.fd, bytes, chunk.size, (off_t)chunk.position),
                     (ssize_t)chunk.size);
    ck_assert_mem_eq(bytes, "QLB1", 4);
    log_chunk_release(&chunk);
    reopen();
}
END_TEST

START_TEST(files_of_other_names_and_numbers_are_left_alone)
{
    static const char *const names[] = {
        "/notes.txt",
        "/5.store",
        "/99999999999999999999.store", /* more than 64 bits */
        "/0000000000000000000x.store",
        "/00000000000000000000.store.old",
        "/00000000000000000000.timeindex",
        "/.store",
    };
    char path[512];

    fixture_fill(&f, 25);
    fixture_close(&f);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", f.log_dir, names[i]);
        file_write(path, (const uint8_t *)"junk", 4);
    }
    (void)snprintf(path, sizeof path, "%s/a directory", f.log_dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(unlink(fixture_file(&f, 0, ".index")), 0); /* an odd number of files */
    fixture_open(&f);
    ck_assert_uint_eq(log_segment_count(f.log), 3);
    ck_assert(!f.report.torn);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", f.log_dir, names[i]);
        ck_assert_uint_eq(file_size(path), 4);
    }
}
END_TEST

START_TEST(the_end_of_the_log_is_not_an_error_but_not_yet)
{
    struct log_chunk chunk;

    fixture_fill(&f, 1);
    ck_assert_int_eq(log_find(f.log, 2, UINT64_MAX, 1, &chunk, NULL), ERR_AGAIN);
    fixture_fill(&f, 1);
    ck_assert_int_eq(log_find(f.log, 2, UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    log_chunk_release(&chunk);
    ck_assert_int_eq(log_find(f.log, 5, UINT64_MAX, 1, &chunk, NULL), ERR_RANGE);
}
END_TEST

START_TEST(a_length_that_claims_gigabytes_is_not_believed)
{
    static const uint32_t claims[] = {UINT32_MAX, UINT32_C(1) << 31, UINT32_C(1) << 30, 405, 5000};
    uint8_t *header = bytes + HEADER_SIZE + 404;
    size_t size;

    fixture_fill(&f, 15);
    fixture_close(&f);
    f.options.durable_end = 30;
    size = file_read(fixture_file(&f, 0, ".store"), bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        struct block *block;
        uint64_t end;

        bytes_put_u32(header + 8, claims[i]);
        bytes_put_u32(header + 4, crc32c(header + 8, BATCH_HEADER_SIZE - 8)); /* well made */
        file_write(fixture_file(&f, 0, ".store"), bytes, size);
        ck_assert_int_eq(fixture_try_open(&f), ERR_OK); /* by its seal, unread */
        ck_assert_int_eq(log_read(f.log, 2, UINT64_MAX, 1 << 20, &block, &end, NULL), ERR_CORRUPT);
        ck_assert_int_eq(log_read(f.log, 0, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
        block_unref(block);
        fixture_close(&f);
    }
    /* The same where it is read by recovery. */
    ck_assert_int_eq(unlink(fixture_file(&f, 0, ".index")), 0);
    ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/ancestor");
    TCase *tcase = tcase_create("ancestor");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_index_reaches_the_disk_and_survives_a_reopen);
    tcase_add_test(tcase, sizes_and_positions_are_right_after_a_reopen);
    tcase_add_test(tcase, an_index_of_zeros_is_made_again);
    tcase_add_test(tcase, without_a_close_what_was_synced_is_there);
    tcase_add_test(tcase, thousands_of_tiny_batches_roll_and_never_get_stuck);
    tcase_add_test(tcase, reset_leaves_no_closed_segment_behind);
    tcase_add_test(tcase, truncating_everything_leaves_an_active_segment_and_its_readers);
    tcase_add_test(tcase, files_of_other_names_and_numbers_are_left_alone);
    tcase_add_test(tcase, the_end_of_the_log_is_not_an_error_but_not_yet);
    tcase_add_test(tcase, a_length_that_claims_gigabytes_is_not_believed);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
