#include "log/log.h"

#include <string.h>
#include <unistd.h>

#include "lib/runner.h"
#include "log/index.h"
#include "log/log_fixture.h"

static struct fixture f;

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

START_TEST(a_new_log_is_empty_and_begins_at_start)
{
    ck_assert_uint_eq(log_start(f.log), 0);
    ck_assert_uint_eq(log_end(f.log), 0);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    ck_assert(log_healthy(f.log));
    ck_assert(!f.report.torn);
    fixture_close(&f);
    (void)unlink(fixture_file(&f, 0, ".store"));
    f.options.start = 42;
    f.expected.start = 42;
    fixture_open(&f);
    ck_assert_uint_eq(log_start(f.log), 42);
    ck_assert_uint_eq(log_end(f.log), 42);
}
END_TEST

START_TEST(appended_batches_come_back_across_segments_and_reopens)
{
    fixture_fill(&f, 60);
    log_check(f.log);
    ck_assert_uint_gt(log_segment_count(f.log), 4);
    fixture_verify(&f);
    for (int i = 0; i < 3; i++) {
        unsigned count = log_segment_count(f.log);
        uint64_t size = log_size(f.log);

        reopen();
        ck_assert(!f.report.torn);
        ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
        ck_assert_uint_eq(f.report.end, log_end(f.log));
        ck_assert_uint_eq(log_segment_count(f.log), count);
        ck_assert_uint_eq(log_size(f.log), size);
        fixture_fill(&f, 20);
        log_check(f.log);
        fixture_verify(&f);
    }
}
END_TEST

START_TEST(a_batch_larger_than_a_segment_gets_one_of_its_own)
{
    fixture_append(&f, 1, 10000);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    fixture_append(&f, 1, 10000);
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    fixture_append(&f, 1, 10);
    ck_assert_uint_eq(log_segment_count(f.log), 3);
    log_check(f.log);
    reopen();
}
END_TEST

START_TEST(a_batch_over_the_limit_is_too_large_and_changes_nothing)
{
    fixture_close(&f);
    f.options.batch_size_max = 500;
    fixture_open(&f);
    ck_assert_int_eq(fixture_try_append(&f, 1, 500 - BATCH_HEADER_SIZE + 1), ERR_TOO_LARGE);
    ck_assert(log_healthy(f.log));
    fixture_append(&f, 1, 500 - BATCH_HEADER_SIZE);
    fixture_verify(&f);
}
END_TEST

START_TEST(lowering_the_batch_limit_makes_nothing_unreadable)
{
    fixture_append(&f, 1, 1000);
    fixture_close(&f);
    f.options.batch_size_max = 500;
    fixture_open(&f);
    ck_assert(!f.report.torn);
    fixture_verify(&f);
}
END_TEST

START_TEST(every_offset_is_found_in_its_batch)
{
    for (unsigned i = 0; i < 80; i++) {
        fixture_append(&f, 1 + i % 7, 20 + i * 13 % 400);
    }
    for (size_t i = 0; i < f.expected.count; i++) {
        const struct batch_header *batch = &f.expected.batches[i];

        for (uint64_t offset = batch->base_offset; offset < batch_end_offset(batch); offset++) {
            struct log_chunk chunk;
            struct batch_header header;

            ck_assert_int_eq(log_find(f.log, offset, UINT64_MAX, 0, &chunk, NULL), ERR_OK);
            ck_assert_uint_eq(chunk.base_offset, batch->base_offset);
            ck_assert_uint_eq(chunk.end_offset, batch_end_offset(batch));
            ck_assert_uint_eq(chunk.size, batch->size);
            log_chunk_release(&chunk);
            ck_assert_int_eq(log_read_header(f.log, offset, &header, NULL), ERR_OK);
            ck_assert_uint_eq(header.base_offset, batch->base_offset);
            ck_assert_uint_eq(header.body_crc32c, batch->body_crc32c);
        }
    }
}
END_TEST

START_TEST(a_chunk_takes_what_fits_and_stays_below_the_bounds)
{
    struct log_chunk chunk;

    fixture_fill(&f, 9); /* 404 bytes each, 2 offsets each: one segment */
    ck_assert_int_eq(log_find(f.log, 2, UINT64_MAX, 404 * 3, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.size, 404 * 3);
    ck_assert_uint_eq(chunk.base_offset, 2);
    ck_assert_uint_eq(chunk.end_offset, 8);
    log_chunk_release(&chunk);
    ck_assert_int_eq(log_find(f.log, 2, UINT64_MAX, 404 * 3 - 1, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.end_offset, 6);
    log_chunk_release(&chunk);
    ck_assert_int_eq(log_find(f.log, 3, 6, 1 << 20, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.base_offset, 2);
    ck_assert_uint_eq(chunk.end_offset, 6);
    log_chunk_release(&chunk);
    ck_assert_int_eq(log_find(f.log, 3, 7, 1 << 20, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.end_offset, 6); /* [6, 8) does not end below 7 */
    log_chunk_release(&chunk);
    ck_assert_int_eq(log_find(f.log, 0, UINT64_MAX, SIZE_MAX, &chunk, NULL), ERR_OK);
    ck_assert_uint_eq(chunk.end_offset, 18);
    log_chunk_release(&chunk);
}
END_TEST

START_TEST(offsets_outside_are_typed_errors)
{
    struct log_chunk chunk;
    struct batch_header header;
    struct err_info info;

    fixture_fill(&f, 5);
    ck_assert_int_eq(log_find(f.log, 10, UINT64_MAX, 1, &chunk, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_find(f.log, 4, 4, 1, &chunk, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_find(f.log, 11, UINT64_MAX, 1, &chunk, &info), ERR_RANGE);
    ck_assert_ptr_nonnull(strstr(info.text, "[0, 10)"));
    ck_assert_int_eq(log_read_header(f.log, 10, &header, &info), ERR_RANGE);
    ck_assert_int_eq(info.code, ERR_RANGE);
    ck_assert_int_eq(log_truncate_front(f.log, 4, NULL), ERR_OK);
    ck_assert_int_eq(log_find(f.log, 3, UINT64_MAX, 1, &chunk, NULL), ERR_RANGE);
    ck_assert_int_eq(log_truncate_front(f.log, 3, NULL), ERR_RANGE);
    ck_assert_int_eq(log_truncate_back(f.log, 3, NULL), ERR_RANGE);
    ck_assert_int_eq(log_truncate_front(f.log, 11, NULL), ERR_RANGE);
    ck_assert_int_eq(log_truncate_back(f.log, 11, NULL), ERR_RANGE);
    ck_assert(log_healthy(f.log));
}
END_TEST

START_TEST(truncating_the_front_removes_whole_segments_only)
{
    unsigned before;

    fixture_fill(&f, 50);
    before = log_segment_count(f.log);
    ck_assert_int_eq(log_truncate_front(f.log, 1, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), before);
    ck_assert_int_eq(log_truncate_front(f.log, 41, NULL), ERR_OK); /* 10 batches a segment */
    ck_assert_uint_eq(log_start(f.log), 41);
    ck_assert_uint_eq(log_segment_count(f.log), before - 2);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
    ck_assert(!file_exists(fixture_file(&f, 0, ".index")));
    expected_truncate_front(&f.expected, 41);
    log_check(f.log);
    fixture_verify(&f);
    f.options.start = 41;
    reopen();
    ck_assert_uint_eq(log_start(f.log), 41);
    f.options.start = 0; /* The caller's may be older: what is there counts. */
    reopen();
    ck_assert_uint_eq(log_start(f.log), 40);
}
END_TEST

static unsigned unsynced_removals;

static int count_unlink(struct io *self, const char *path)
{
    if (strstr(path, ".store") != NULL) {
        ck_assert_msg(unsynced_removals == 0, "'%s' goes before another is gone", path);
        unsynced_removals += 1;
    }
    return io_real()->unlink(self, path);
}

static int count_sync_dir(struct io *self, const char *path)
{
    unsynced_removals = 0;
    return io_real()->sync_dir(self, path);
}

START_TEST(segments_leave_the_front_one_by_one_on_the_disk_too)
{
    struct io io = *io_real();

    fixture_fill(&f, 50);
    fixture_close(&f);
    unsynced_removals = 0;
    io.unlink = count_unlink;
    io.sync_dir = count_sync_dir;
    f.options.io = &io;
    fixture_open(&f);
    ck_assert_int_eq(log_truncate_front(f.log, 21, NULL), ERR_OK);
    ck_assert_uint_eq(unsynced_removals, 1);
    ck_assert_int_eq(log_truncate_front(f.log, 85, NULL), ERR_OK);
    fixture_close(&f);
    f.options.start = 95; /* Recovery keeps to it as well. */
    expected_truncate_front(&f.expected, 85);
    fixture_open(&f);
    fixture_close(&f);
}
END_TEST

START_TEST(truncating_the_front_to_the_end_empties_the_log)
{
    uint64_t end;

    fixture_fill(&f, 50);
    end = log_end(f.log);
    ck_assert_int_eq(log_truncate_front(f.log, end, NULL), ERR_OK);
    ck_assert_uint_eq(log_start(f.log), end);
    ck_assert_uint_eq(log_end(f.log), end);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    ck_assert_uint_eq(log_size(f.log), 32);
    expected_truncate_front(&f.expected, end);
    log_check(f.log);
    ck_assert_int_eq(log_truncate_front(f.log, end, NULL), ERR_OK);
    reopen();
    ck_assert_uint_eq(log_start(f.log), end);
    fixture_fill(&f, 3);
    fixture_verify(&f);
}
END_TEST

START_TEST(truncating_the_back_works_at_every_batch)
{
    fixture_fill(&f, 45);
    for (uint64_t offset = log_end(f.log);; offset -= 2) {
        ck_assert_int_eq(log_truncate_back(f.log, offset, NULL), ERR_OK);
        expected_truncate_back(&f.expected, offset);
        log_check(f.log);
        fixture_verify(&f);
        if (offset % 6 == 0) {
            reopen();
            ck_assert(!f.report.torn);
        }
        if (offset == 0) {
            break;
        }
        ck_assert_int_eq(log_truncate_back(f.log, offset - 1, NULL), ERR_INVALID);
    }
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    fixture_fill(&f, 30);
    log_check(f.log);
    reopen();
}
END_TEST

START_TEST(after_truncating_the_back_other_batches_take_the_place)
{
    fixture_fill(&f, 45);
    ck_assert_int_eq(log_truncate_back(f.log, 26, NULL), ERR_OK);
    expected_truncate_back(&f.expected, 26);
    fixture_append(&f, 3, 150);
    fixture_fill(&f, 30);
    log_check(f.log);
    fixture_verify(&f);
    reopen();
    ck_assert(!f.report.torn);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
}
END_TEST

START_TEST(a_chunk_stays_readable_whatever_happens_to_the_log)
{
    static uint8_t before[4096];
    static uint8_t after[4096];
    struct log_chunk old;
    struct log_chunk active;

    fixture_fill(&f, 45);
    ck_assert_int_eq(log_find(f.log, 2, UINT64_MAX, 3000, &old, NULL), ERR_OK);
    ck_assert_int_eq(log_find(f.log, 80, UINT64_MAX, 3000, &active, NULL), ERR_OK);
    ck_assert_int_eq(pread(active.fd, before, active.size, (off_t)active.position),
                     (ssize_t)active.size);
    ck_assert_int_eq(log_truncate_back(f.log, 80, NULL), ERR_OK);
    expected_truncate_back(&f.expected, 80);
    fixture_fill(&f, 5); /* other contents at the same positions */
    log_check(f.log);
    fixture_verify(&f);
    ck_assert_int_eq(pread(active.fd, after, active.size, (off_t)active.position),
                     (ssize_t)active.size);
    ck_assert_mem_eq(before, after, active.size);
    log_chunk_release(&active);
    ck_assert_int_eq(pread(old.fd, before, old.size, (off_t)old.position), (ssize_t)old.size);
    ck_assert_int_eq(log_reset(f.log, 7, NULL), ERR_OK);
    ck_assert_int_eq(pread(old.fd, after, old.size, (off_t)old.position), (ssize_t)old.size);
    ck_assert_mem_eq(before, after, old.size);
    log_chunk_release(&old);
    f.expected = (struct expected){.start = 7};
    reopen();
}
END_TEST

START_TEST(reset_drops_everything_and_goes_on_anywhere)
{
    static const uint64_t places[] = {1000, 0, 36, 5, UINT64_C(1) << 40};

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        fixture_fill(&f, 45);
        ck_assert_int_eq(log_reset(f.log, places[i], NULL), ERR_OK);
        f.expected = (struct expected){.start = places[i]};
        ck_assert_uint_eq(log_start(f.log), places[i]);
        ck_assert_uint_eq(log_end(f.log), places[i]);
        ck_assert_uint_eq(log_segment_count(f.log), 1);
        log_check(f.log);
        if (i % 2 == 0) {
            reopen();
            ck_assert_uint_eq(log_start(f.log), places[i]);
        }
        fixture_fill(&f, 25);
        reopen();
        ck_assert(!f.report.torn);
        ck_assert_int_eq(log_reset(f.log, 0, NULL), ERR_OK);
        f.expected = (struct expected){.start = 0};
    }
}
END_TEST

START_TEST(delete_removes_the_directory)
{
    struct err_info info = {0};

    fixture_fill(&f, 45);
    ck_assert_int_eq(log_delete(f.log, &info), ERR_OK);
    f.log = NULL;
    ck_assert(!file_exists(f.log_dir));
    ck_assert(file_exists(f.dir));
}
END_TEST

START_TEST(raw_batches_go_from_one_log_to_another)
{
    static struct fixture to;
    uint64_t offset = 0;

    fixture_fill(&f, 45);
    fixture_init(&to);
    fixture_open(&to);
    while (offset < log_end(f.log)) {
        struct block *block;

        ck_assert_int_eq(log_read(f.log, offset, UINT64_MAX, 1500, &block, &offset, NULL), ERR_OK);
        ck_assert_int_eq(log_append_raw(to.log, block->data, block->size, NULL), ERR_OK);
        block_unref(block);
    }
    to.expected = f.expected;
    log_check(to.log);
    fixture_verify(&to);
    fixture_fini(&to);
}
END_TEST

START_TEST(raw_batches_that_do_not_verify_are_refused_from_there_on)
{
    static uint8_t copy[4096];
    static struct fixture to;
    struct block *block;
    uint64_t end;

    fixture_fill(&f, 3);
    ck_assert_int_eq(log_read(f.log, 0, UINT64_MAX, 4096, &block, &end, NULL), ERR_OK);
    ck_assert_uint_eq(block->size, 3 * 404);
    for (size_t at = 404; at < block->size; at += 5) {
        fixture_init(&to);
        fixture_open(&to);
        memcpy(copy, block->data, block->size);
        copy[at] ^= 0x10;
        ck_assert_int_eq(log_append_raw(to.log, copy, block->size, NULL), ERR_CORRUPT);
        ck_assert_uint_eq(log_end(to.log), at < 808 ? 2 : 4);
        ck_assert(log_healthy(to.log));
        log_check(to.log);
        fixture_fini(&to);
    }
    fixture_init(&to);
    fixture_open(&to);
    ck_assert_int_eq(log_append_raw(to.log, block->data + 404, 404, NULL), ERR_CORRUPT); /* gap */
    ck_assert_int_eq(log_append_raw(to.log, block->data, 403, NULL), ERR_CORRUPT);
    ck_assert_int_eq(log_append_raw(to.log, block->data, 50, NULL), ERR_CORRUPT);
    ck_assert_int_eq(log_append_raw(to.log, block->data, 0, NULL), ERR_OK);
    ck_assert_uint_eq(log_end(to.log), 0);
    fixture_fini(&to);
    block_unref(block);
}
END_TEST

START_TEST(the_reader_gives_all_bytes_in_order)
{
    static uint8_t all[64 * 1024];
    struct log_reader *reader;
    uint64_t size;
    size_t done = 0;
    size_t n;
    size_t at = 0;

    fixture_fill(&f, 45);
    ck_assert_int_eq(log_truncate_front(f.log, 24, NULL), ERR_OK);
    ck_assert_int_eq(log_reader_new(f.log, &reader), ERR_OK);
    fixture_fill(&f, 5);                                           /* not for this reader */
    ck_assert_int_eq(log_truncate_front(f.log, 70, NULL), ERR_OK); /* nothing is lost to it */
    do {
        ck_assert_int_eq(log_reader_read(reader, all + done, 333, &n, NULL), ERR_OK);
        done += n;
    } while (n > 0);
    log_reader_free(reader);
    size = (45 - 12) * 404;
    ck_assert_uint_eq(done, size);
    for (size_t i = 12; i < 45; i++) {
        struct batch_header header;

        ck_assert_int_eq(batch_header_decode(all + at, 4096, &header, NULL), ERR_OK);
        ck_assert_uint_eq(header.base_offset, i * 2);
        ck_assert_int_eq(batch_check_body(&header, all + at + BATCH_HEADER_SIZE, NULL), ERR_OK);
        at += header.size;
    }
    ck_assert_int_eq(log_reset(f.log, 5, NULL), ERR_OK);
    ck_assert_int_eq(log_reader_new(f.log, &reader), ERR_OK);
    ck_assert_int_eq(log_reader_read(reader, all, sizeof all, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 0);
    log_reader_free(reader);
}
END_TEST

START_TEST(a_sync_covers_what_was_there_at_begin)
{
    struct log_sync *sync;
    struct log_sync *second;

    fixture_fill(&f, 25);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    ck_assert_ptr_nonnull(sync);
    fixture_fill(&f, 1);
    ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
    ck_assert_int_eq(log_sync_begin(f.log, &second), ERR_OK); /* before the first has ended */
    ck_assert_int_eq(log_sync_end(f.log, sync), ERR_OK);
    ck_assert_int_eq(log_sync_run(second, NULL), ERR_OK);
    ck_assert_int_eq(log_sync_end(f.log, second), ERR_OK);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    ck_assert_ptr_null(sync); /* clean */
    fixture_fill(&f, 1);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
    fixture_fill(&f, 1);
    ck_assert_int_eq(log_sync_end(f.log, sync), ERR_OK);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    ck_assert_ptr_nonnull(sync);
    ck_assert_int_eq(log_truncate_back(f.log, 2, NULL), ERR_OK); /* while it is under way */
    ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
    ck_assert_int_eq(log_sync_end(f.log, sync), ERR_OK);
    expected_truncate_back(&f.expected, 2);
    fixture_fill(&f, 4);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    ck_assert_ptr_nonnull(sync); /* The old sync does not speak for the new bytes. */
    ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
    ck_assert_int_eq(log_sync_end(f.log, sync), ERR_OK);
    log_check(f.log);
    reopen();
}
END_TEST

START_TEST(an_index_that_is_missing_damaged_or_stale_is_made_again)
{
    const uint64_t base = _i == 0 ? 0 : 60; /* the first, or the last that is sealed */
    static uint8_t old[8192];
    static uint8_t now[8192];
    const char *path = fixture_file(&f, base, ".index");
    unsigned rebuilt = 0;
    size_t size;

    fixture_fill(&f, 45);
    f.options.durable_end = log_end(f.log);
    fixture_close(&f);
    size = file_read(path, old, sizeof old);
    ck_assert_int_eq(unlink(path), 0);
    fixture_open(&f);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 1);
    ck_assert(!f.report.torn);
    fixture_close(&f);
    ck_assert_uint_eq(file_read(fixture_file(&f, base, ".index"), now, sizeof now), size);
    ck_assert_mem_eq(old, now, size);
    for (size_t at = 0; at < size; at++) {
        memcpy(now, old, size);
        now[at] ^= 0x04;
        file_write(fixture_file(&f, base, ".index"), now, size);
        fixture_open(
            &f); /* What the seal alone does not tell is found by reading, and done without. */
        ck_assert(f.report.indexes_rebuilt == 1 || at >= INDEX_HEADER_SIZE);
        fixture_verify(&f);
        rebuilt += f.report.indexes_rebuilt;
        fixture_close(&f);
    }
    ck_assert_uint_lt(rebuilt, size);
    for (size_t cut = 0; cut < size; cut += 7) {
        file_write(fixture_file(&f, base, ".index"), old, cut);
        fixture_open(&f);
        ck_assert_uint_eq(f.report.indexes_rebuilt, 1);
        fixture_close(&f);
    }
    /* A right one, but another segment's. */
    size = file_read(fixture_file(&f, 20, ".index"), now, sizeof now);
    file_write(fixture_file(&f, base, ".index"), now, size);
    fixture_open(&f);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/log");
    TCase *tcase = tcase_create("log");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_new_log_is_empty_and_begins_at_start);
    tcase_add_test(tcase, appended_batches_come_back_across_segments_and_reopens);
    tcase_add_test(tcase, a_batch_larger_than_a_segment_gets_one_of_its_own);
    tcase_add_test(tcase, a_batch_over_the_limit_is_too_large_and_changes_nothing);
    tcase_add_test(tcase, lowering_the_batch_limit_makes_nothing_unreadable);
    tcase_add_test(tcase, every_offset_is_found_in_its_batch);
    tcase_add_test(tcase, a_chunk_takes_what_fits_and_stays_below_the_bounds);
    tcase_add_test(tcase, offsets_outside_are_typed_errors);
    tcase_add_test(tcase, truncating_the_front_removes_whole_segments_only);
    tcase_add_test(tcase, segments_leave_the_front_one_by_one_on_the_disk_too);
    tcase_add_test(tcase, truncating_the_front_to_the_end_empties_the_log);
    tcase_add_test(tcase, truncating_the_back_works_at_every_batch);
    tcase_add_test(tcase, after_truncating_the_back_other_batches_take_the_place);
    tcase_add_test(tcase, a_chunk_stays_readable_whatever_happens_to_the_log);
    tcase_add_test(tcase, reset_drops_everything_and_goes_on_anywhere);
    tcase_add_test(tcase, delete_removes_the_directory);
    tcase_add_test(tcase, raw_batches_go_from_one_log_to_another);
    tcase_add_test(tcase, raw_batches_that_do_not_verify_are_refused_from_there_on);
    tcase_add_test(tcase, the_reader_gives_all_bytes_in_order);
    tcase_add_test(tcase, a_sync_covers_what_was_there_at_begin);
    tcase_add_loop_test(tcase, an_index_that_is_missing_damaged_or_stale_is_made_again, 0, 2);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
