/*
 * What a log has open, and what it reads: bounded, on demand, verified when it is needed. And how
 * its segments come to their end, and to their space.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { SEGMENTS = 60, BATCHES = SEGMENTS * 10 };

static struct fixture f;
static struct io io; /* the fixture's, and counts */
static unsigned reads;
static uint64_t bytes_read;

static ssize_t counting_pread(struct io *self, int fd, void *data, size_t size, uint64_t position)
{
    ssize_t n = fixture_io()->pread(self, fd, data, size, position);

    reads += 1;
    bytes_read += n > 0 ? (uint64_t)n : 0;
    return n;
}

static struct file_cache *new_cache(size_t max, size_t limit)
{
    const struct file_cache_options options = {
        .descriptors_max = max, .descriptors_limit = limit, .mapped_max = 1 << 20};

    return file_cache_new(&options);
}

static void setup(void)
{
    fixture_init(&f);
    io = *fixture_io();
    io.pread = counting_pread;
    f.options.io = &io;
    f.options.files = new_cache(4, 1000);
}

static void teardown(void)
{
    fixture_close(&f);
    file_cache_unref(f.options.files);
    fixture_fini(&f);
}

/* SEGMENTS of them and one more, synced; nothing is open. */
static void make_many(void)
{
    fixture_open(&f);
    fixture_fill(&f, BATCHES + 5);
    ck_assert_uint_eq(log_segment_count(f.log), SEGMENTS + 1);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    f.options.durable_end = log_end(f.log);
    fixture_close(&f);
}

static enum err open_log(void)
{
    reads = 0;
    bytes_read = 0;
    return log_open(&f.options, &f.log, &f.report, NULL);
}

static struct file_cache_stats stats(void)
{
    struct file_cache_stats now;

    file_cache_stats(f.options.files, &now);
    return now;
}

/* The descriptors of this process. */
static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        count += 1;
    }
    ck_assert_int_eq(closedir(dir), 0);
    return count;
}

START_TEST(opening_reads_headers_and_seals_and_no_more)
{
    make_many();
    ck_assert_int_eq(open_log(), ERR_OK);
    /* A header of each store, header and seal of each index; the active segment whole, and of the
     * one before it the last batch, whose stamps go on. */
    ck_assert_uint_le(reads, (SEGMENTS + 1) * 3 + 10);
    ck_assert_uint_le(bytes_read, (SEGMENTS + 1) * (32 + 32 + 56) + 16 * 1024);
    ck_assert_uint_le(stats().descriptors, 4);
    ck_assert_uint_eq(stats().descriptors_pinned, 0);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    fixture_verify(&f);
    log_check(f.log);
}
END_TEST

START_TEST(a_look_up_reads_the_same_however_long_the_log_is)
{
    struct batch_header header;

    make_many();
    ck_assert_int_eq(open_log(), ERR_OK);
    for (uint64_t offset = 0; offset < BATCHES * 2; offset += 7) {
        reads = 0;
        bytes_read = 0;
        ck_assert_int_eq(log_read_header(f.log, offset, &header, NULL), ERR_OK);
        /* The store's header, its last batch's for the index, and the one it is about. */
        ck_assert_uint_le(reads, 3);
        ck_assert_uint_le(bytes_read, 32 + BATCH_HEADER_SIZE + 16 * 1024);
    }
}
END_TEST

START_TEST(few_files_are_open_whatever_is_read)
{
    unsigned before;

    make_many();
    before = count_descriptors();
    ck_assert_int_eq(open_log(), ERR_OK);
    fixture_verify(&f);
    ck_assert_uint_le(count_descriptors(), before + 4);
    ck_assert_uint_gt(stats().evictions, SEGMENTS / 2);
    ck_assert_uint_gt(stats().misses, SEGMENTS);
    ck_assert_uint_gt(stats().hits, 0);
}
END_TEST

START_TEST(what_is_not_synced_stays_open_and_an_idle_log_is_closed)
{
    struct log_chunk chunk;

    fixture_open(&f);
    fixture_fill(&f, 35); /* four segments, nothing synced: their stores and three indexes */
    ck_assert_uint_eq(stats().descriptors_pinned, 7);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    ck_assert_uint_eq(stats().descriptors_pinned, 0);
    ck_assert_uint_le(stats().descriptors, 4);
    for (int i = 0; i < 3; i++) { /* Others are read: the active one is closed … */
        for (uint64_t offset = 0; offset < 60; offset += 20) {
            ck_assert_int_eq(log_find(f.log, offset, UINT64_MAX, 1, &chunk, NULL), ERR_OK);
            log_chunk_release(&chunk);
        }
    }
    fixture_fill(&f, 1); /* … and opened again. */
    ck_assert_uint_eq(stats().descriptors_pinned, 1);
    fixture_verify(&f);
}
END_TEST

START_TEST(a_pinned_file_is_not_closed_and_too_many_are_an_error_not_damage)
{
    struct log_chunk chunks[3];
    struct log_chunk more;
    struct err_info info = {0};
    struct block *block;
    uint64_t end;

    make_many();
    file_cache_unref(f.options.files);
    f.options.files = new_cache(2, 3);
    ck_assert_int_eq(open_log(), ERR_OK);
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert_int_eq(log_find(f.log, i * 20, UINT64_MAX, 1, &chunks[i], NULL), ERR_OK);
    }
    ck_assert_int_eq(log_find(f.log, 100, UINT64_MAX, 1, &more, &info), ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(info.text, "too many files"));
    ck_assert_int_eq(log_read(f.log, 100, UINT64_MAX, 1, &block, &end, NULL), ERR_LIMIT);
    ck_assert_int_eq(log_find(f.log, 21, UINT64_MAX, 1, &more, NULL), ERR_OK);
    log_chunk_release(&more);
    fixture_fill(&f, 1); /* The writer is not refused. */
    for (uint64_t i = 0; i < 3; i++) {
        uint8_t bytes[BATCH_HEADER_SIZE];

        ck_assert_int_eq(pread(chunks[i].fd, bytes, sizeof bytes, (off_t)chunks[i].position),
                         BATCH_HEADER_SIZE);
        log_chunk_release(&chunks[i]);
    }
    ck_assert_int_eq(log_find(f.log, 100, UINT64_MAX, 1, &more, NULL), ERR_OK);
    log_chunk_release(&more);
}
END_TEST

START_TEST(a_file_that_vanished_or_changed_is_damage_with_its_name)
{
    static uint8_t bytes[8192];
    struct err_info info = {0};
    struct block *block;
    uint64_t end;
    size_t size;

    make_many();
    ck_assert_int_eq(open_log(), ERR_OK);
    ck_assert_int_eq(unlink(fixture_file(&f, 100, ".store")), 0);
    ck_assert_int_eq(log_read(f.log, 100, UINT64_MAX, 1, &block, &end, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "00000000000000000100.store' is gone"));
    ck_assert_int_eq(truncate(fixture_file(&f, 200, ".store"), 2000), 0);
    ck_assert_int_eq(log_read(f.log, 200, UINT64_MAX, 1, &block, &end, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "00000000000000000200.store"));
    size = file_read(fixture_file(&f, 320, ".store"), bytes, sizeof bytes);
    file_write(fixture_file(&f, 300, ".store"), bytes, size);
    ck_assert_int_eq(log_read(f.log, 300, UINT64_MAX, 1, &block, &end, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "00000000000000000300.store"));
    ck_assert(log_healthy(f.log));
}
END_TEST

START_TEST(an_index_that_vanished_or_changed_is_done_without)
{
    uint8_t bytes[4096];
    size_t size;

    make_many();
    ck_assert_int_eq(open_log(), ERR_OK);
    ck_assert_int_eq(unlink(fixture_file(&f, 100, ".index")), 0);
    size = file_read(fixture_file(&f, 200, ".index"), bytes, sizeof bytes);
    bytes[60] ^= 1;
    file_write(fixture_file(&f, 200, ".index"), bytes, size);
    size = file_read(fixture_file(&f, 220, ".index"), bytes, sizeof bytes);
    file_write(fixture_file(&f, 300, ".index"), bytes, size);
    fixture_verify(&f);
}
END_TEST

/* Its map shows what the disk has now, whatever was verified when it was opened. */
START_TEST(an_index_that_changes_while_it_is_mapped_misleads_nobody)
{
    struct log_chunk chunk;
    int fd;

    make_many();
    ck_assert_int_eq(open_log(), ERR_OK);
    ck_assert_int_eq(log_find(f.log, 110, UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    fd = open(fixture_file(&f, 100, ".index"), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    for (off_t at = 0; at < (off_t)file_size(fixture_file(&f, 100, ".index")); at++) {
        uint8_t byte;
        uint8_t bad;

        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        bad = (uint8_t)(byte ^ (1U << (at % 8)));
        ck_assert_int_eq(pwrite(fd, &bad, 1, at), 1);
        for (uint64_t offset = 100; offset < 120; offset++) {
            struct block *block;
            struct batch_header header = {0};
            uint64_t end;

            ck_assert_int_eq(log_read(f.log, offset, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
            ck_assert_int_eq(batch_header_decode(block->data, UINT32_MAX, &header, NULL), ERR_OK);
            ck_assert(header.base_offset <= offset && end > offset);
            block_unref(block);
        }
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    }
    ck_assert_int_eq(close(fd), 0);
    log_chunk_release(&chunk);
}
END_TEST

START_TEST(each_call_of_a_cold_read_fails_once)
{
    struct faulty_io faulty;
    struct file_cache *files = f.options.files;
    unsigned calls = 0; /* of an undisturbed read */
    unsigned before;
    unsigned good = 0;

    make_many();
    for (unsigned nth = 0; nth == 0 || nth <= calls; nth++) {
        struct block *block = NULL;
        uint64_t end = 0;
        enum err err;

        faulty_io_init(&faulty, &io);
        f.options.io = &faulty.io;
        ck_assert_int_eq(open_log(), ERR_OK);
        before = faulty_io_calls(&faulty);
        faulty_io_fail_at(&faulty, nth, nth % 2 == 0 ? EMFILE : EIO, false);
        err = log_read(f.log, 150, UINT64_MAX, 1000, &block, &end, NULL);
        calls = nth == 0 ? faulty_io_calls(&faulty) - before : calls;
        faulty_io_fail_at(&faulty, 0, 0, false);
        ck_assert(err == ERR_OK || err == (nth % 2 == 0 ? ERR_LIMIT : ERR_IO));
        ck_assert(IMPLIES(nth == 0, err == ERR_OK));
        if (err == ERR_OK) {
            block_unref(block);
            good += 1;
        }
        ck_assert_uint_eq(stats().descriptors_pinned, 0);
        fixture_verify(&f); /* What failed once works. */
        log_close(f.log);
        f.log = NULL;
        ck_assert_uint_eq(stats().descriptors, 0);
        ck_assert_uint_eq(stats().mapped, 0);
    }
    ck_assert_uint_gt(calls, 5);
    ck_assert_uint_gt(good, 1); /* Without its index, for one. */
    f.options.io = &io;
    ck_assert_ptr_eq(files, f.options.files);
}
END_TEST

/* ---- reading does not hold up writing ---- */

static sem_t inside;
static sem_t go_on;
static atomic_bool slow;

static ssize_t slow_pread(struct io *self, int fd, void *data, size_t size, uint64_t position)
{
    if (atomic_exchange(&slow, false)) {
        ck_assert_int_eq(sem_post(&inside), 0);
        ck_assert_int_eq(sem_wait(&go_on), 0);
    }
    return fixture_io()->pread(self, fd, data, size, position);
}

static int slow_open(struct io *self, const char *path, int flags, mode_t mode)
{
    if (strstr(path, "00000000000000000100.store") != NULL && atomic_exchange(&slow, false)) {
        ck_assert_int_eq(sem_post(&inside), 0);
        ck_assert_int_eq(sem_wait(&go_on), 0);
    }
    return fixture_io()->open(self, path, flags, mode);
}

static void *read_slowly(void *arg)
{
    struct block *block;
    uint64_t end;

    (void)arg;
    ck_assert_int_eq(log_read(f.log, 100, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
    block_unref(block);
    return NULL;
}

START_TEST(appends_and_rolls_go_on_while_a_reader_waits_for_the_disk)
{
    pthread_t thread;

    make_many();
    if (_i == 0) {
        io.pread = slow_pread;
    } else {
        io.open = slow_open;
        io.pread = fixture_io()->pread;
    }
    ck_assert_int_eq(sem_init(&inside, 0, 0), 0);
    ck_assert_int_eq(sem_init(&go_on, 0, 0), 0);
    ck_assert_int_eq(open_log(), ERR_OK);
    atomic_store(&slow, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_slowly, NULL), 0);
    ck_assert_int_eq(sem_wait(&inside), 0);
    fixture_fill(&f, 50); /* Would wait for ever, if it waited. */
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    ck_assert_uint_gt(log_segment_count(f.log), SEGMENTS + 4);
    ck_assert_int_eq(sem_post(&go_on), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* ---- the end of a segment, and its space ---- */

START_TEST(a_segment_ends_by_age_at_an_append_or_a_tick)
{
    const struct log_tuning tuning = {.segment_ms = 1};
    int64_t last_us;

    fixture_open(&f);
    fixture_append(&f, 1, 10);
    log_configure(f.log, &tuning);
    last_us = f.expected.batches[0].append_time_us;
    ck_assert_int_eq(log_tick(f.log, last_us + 999, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    ck_assert_int_eq(log_tick(f.log, last_us + 1000, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    ck_assert_int_eq(log_tick(f.log, INT64_MAX, NULL), ERR_OK); /* An empty one has no age. */
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    fixture_append(&f, 1, 10);
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    fixture_close(&f);
    fixture_open(&f); /* It is as old as before. */
    log_configure(f.log, &tuning);
    last_us = f.expected.batches[1].append_time_us;
    ck_assert_int_eq(log_tick(f.log, last_us + 999, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    ck_assert_int_eq(log_tick(f.log, last_us + 1000, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), 3);
    fixture_verify(&f);
}
END_TEST

START_TEST(an_append_ends_a_segment_that_is_too_old_or_too_large_by_now)
{
    struct log_tuning tuning = {.segment_size_max = 1 << 20};
    struct batch_header header;
    static uint8_t body[100];

    fixture_open(&f);
    log_configure(f.log, &tuning);
    fixture_fill(&f, 30);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    tuning = (struct log_tuning){.segment_size_max = 4096, .segment_ms = 60000};
    log_configure(f.log, &tuning);
    fixture_fill(&f, 1);
    ck_assert_uint_eq(log_segment_count(f.log), 2);
    fixture_next(&f, 1, sizeof body, &header, body);
    header.append_time_us = f.expected.batches[30].append_time_us + 60000 * 1000;
    ck_assert_int_eq(log_append(f.log, &header, body, NULL), ERR_OK);
    ck_assert_uint_eq(log_segment_count(f.log), 3);
    log_check(f.log);
}
END_TEST

static uint64_t space_of(uint64_t base_offset)
{
    struct stat st;

    ck_assert_int_eq(stat(fixture_file(&f, base_offset, ".store"), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

START_TEST(reserved_space_is_taken_at_once_and_given_back_at_the_end)
{
    const struct log_tuning tuning = {.segment_size_max = 1 << 20, .preallocate = true};

    fixture_open(&f);
    log_configure(f.log, &tuning);
    fixture_append(&f, 1, 100);
    if (space_of(0) < 1 << 20) {
        return; /* This file system cannot; then it goes without. */
    }
    ck_assert_uint_lt(file_size(fixture_file(&f, 0, ".store")), 1000);
    ck_assert_int_eq(log_truncate_front(f.log, 1, NULL), ERR_OK); /* It is sealed, and removed. */
    fixture_append(&f, 1, 100);
    ck_assert_uint_ge(space_of(1), 1 << 20);
    ck_assert_int_eq(log_tick(f.log, INT64_MAX, NULL), ERR_OK);
    log_configure(f.log, &(struct log_tuning){.segment_size_max = 4096});
    fixture_append(&f, 1, 4000); /* 1 is sealed */
    ck_assert_uint_le(space_of(1), 8192);
    log_configure(f.log, &tuning);
    fixture_append(&f, 1, 100);
    ck_assert_uint_ge(space_of(2), 1 << 20);
    fixture_close(&f);
    f.options.start = 1;
    fixture_open(&f);
    ck_assert_uint_le(space_of(2), 16384);
}
END_TEST

static int no_reserve(struct io *self, int fd, uint64_t position, uint64_t size)
{
    (void)self;
    (void)fd;
    (void)position;
    (void)size;
    reads += 1;
    return -ENOSPC;
}

START_TEST(without_space_to_reserve_a_segment_does_without)
{
    const struct log_tuning tuning = {.preallocate = true};

    io.reserve = no_reserve;
    fixture_open(&f);
    log_configure(f.log, &tuning);
    reads = 0;
    fixture_fill(&f, 25);
    ck_assert_uint_ge(reads, 3);
    ck_assert(log_healthy(f.log));
    fixture_verify(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/open_files");
    TCase *tcase = tcase_create("open_files");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, opening_reads_headers_and_seals_and_no_more);
    tcase_add_test(tcase, a_look_up_reads_the_same_however_long_the_log_is);
    tcase_add_test(tcase, few_files_are_open_whatever_is_read);
    tcase_add_test(tcase, what_is_not_synced_stays_open_and_an_idle_log_is_closed);
    tcase_add_test(tcase, a_pinned_file_is_not_closed_and_too_many_are_an_error_not_damage);
    tcase_add_test(tcase, a_file_that_vanished_or_changed_is_damage_with_its_name);
    tcase_add_test(tcase, an_index_that_vanished_or_changed_is_done_without);
    tcase_add_test(tcase, an_index_that_changes_while_it_is_mapped_misleads_nobody);
    tcase_add_test(tcase, each_call_of_a_cold_read_fails_once);
    tcase_add_loop_test(tcase, appends_and_rolls_go_on_while_a_reader_waits_for_the_disk, 0, 2);
    tcase_add_test(tcase, a_segment_ends_by_age_at_an_append_or_a_tick);
    tcase_add_test(tcase, an_append_ends_a_segment_that_is_too_old_or_too_large_by_now);
    tcase_add_test(tcase, reserved_space_is_taken_at_once_and_given_back_at_the_end);
    tcase_add_test(tcase, without_space_to_reserve_a_segment_does_without);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
