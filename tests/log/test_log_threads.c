/*
 * One writer, several readers, a syncer. What it finds it finds best under the thread sanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { READERS = 3, BATCHES = 1500 };

static struct fixture f;
static atomic_bool done;
static unsigned rewritten;

static void check_chunk(const struct log_chunk *chunk)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header header;

    ck_assert_int_eq(pread(chunk->fd, bytes, sizeof bytes, (off_t)chunk->position),
                     BATCH_HEADER_SIZE);
    ck_assert_int_eq(batch_header_decode(bytes, 1 << 20, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.base_offset, chunk->base_offset);
}

/* Reads at random places of whatever is there; errors are those of a log that moves. */
static void *read_randomly(void *arg)
{
    uint64_t state = (uint64_t)(uintptr_t)arg;

    while (!atomic_load(&done)) {
        uint64_t start = log_start(f.log);
        uint64_t end = log_end(f.log);
        struct log_chunk chunk;
        struct block *block;
        uint64_t next;
        uint64_t offset;
        enum err err;

        state = state * UINT64_C(6364136223846793005) + 1442695040888963407U;
        offset = end > start ? start + (state >> 33) % (end - start) : start;
        err = log_find(f.log, offset, UINT64_MAX, 3000, &chunk, NULL);
        if (err == ERR_OK) {
            check_chunk(&chunk);
            log_chunk_release(&chunk);
        } else {
            ck_assert(err == ERR_RANGE || err == ERR_AGAIN);
        }
        err = log_read(f.log, offset, UINT64_MAX, 3000, &block, &next, NULL);
        if (err == ERR_OK) {
            ck_assert_uint_gt(next, offset);
            block_unref(block);
        } else {
            ck_assert(err == ERR_RANGE || err == ERR_AGAIN);
        }
        ck_assert_uint_gt(log_segment_count(f.log), 0);
        ck_assert_uint_gt(log_size(f.log), 0);
        ck_assert(log_healthy(f.log));
    }
    return NULL;
}

static void *run_sync(void *arg)
{
    ck_assert_int_eq(log_sync_run(arg, NULL), ERR_OK);
    return NULL;
}

/* Starts a sync in another thread, appends meanwhile, and ends it. */
static void sync_beside(void)
{
    struct log_sync *sync;
    pthread_t thread;

    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_OK);
    if (sync == NULL) {
        return;
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, run_sync, sync), 0);
    fixture_fill(&f, 5);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(log_sync_end(f.log, sync), ERR_OK);
}

static void *run_rewrite(void *arg)
{
    ck_assert_int_eq(log_rewrite_run(arg, NULL), ERR_OK);
    return NULL;
}

/* Two sealed neighbours become one, batch by batch, beside the writer. */
static void rewrite_beside(void)
{
    struct rewriting rewriting = {.run = 1, .body_size = 50};
    struct log_rewrite *rewrite;
    struct log_extent extents[2];
    uint8_t bytes[BATCH_HEADER_SIZE + 50];
    pthread_t thread;

    rewriting.from = log_start(f.log);
    for (int i = 0; i < 2; i++) {
        uint64_t at = i == 0 ? rewriting.from : extents[0].end_offset;

        if (log_extent_at(f.log, at, &extents[i], NULL) != ERR_OK || !extents[i].sealed) {
            return;
        }
    }
    rewriting.from = extents[0].base_offset;
    rewriting.to = extents[1].end_offset;
    expected_rewrite(&f.expected, &rewriting);
    ck_assert_int_eq(log_rewrite_begin(f.log, rewriting.from, rewriting.to, &rewrite, NULL),
                     ERR_OK);
    for (size_t i = 0; i < f.expected.count; i++) {
        if (f.expected.batches[i].base_offset >= rewriting.from &&
            batch_end_offset(&f.expected.batches[i]) <= rewriting.to) {
            size_t size = fixture_bytes(&f.expected.batches[i], bytes, sizeof bytes);

            ck_assert_int_eq(log_rewrite_put(rewrite, bytes, size, NULL), ERR_OK);
        }
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, run_rewrite, rewrite), 0);
    fixture_fill(&f, 5);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(log_rewrite_end(f.log, rewrite, NULL), ERR_OK);
    rewritten++;
}

START_TEST(readers_go_on_while_the_writer_does_everything)
{
    pthread_t threads[READERS];

    const struct file_cache_options options = {
        .descriptors_max = 2, .descriptors_limit = 10000, .mapped_max = 300};

    fixture_init(&f);
    f.options.files = _i == 0 ? NULL : file_cache_new(&options);
    fixture_open(&f);
    atomic_store(&done, false);
    rewritten = 0;
    for (uintptr_t i = 0; i < READERS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_randomly, (void *)(i + 1)), 0);
    }
    for (unsigned i = 0; i < BATCHES; i++) {
        uint64_t end;

        fixture_append(&f, 2, 60 + i % 300);
        end = log_end(f.log);
        if (i % 97 == 96) {
            ck_assert_int_eq(log_truncate_back(f.log, end - 8, NULL), ERR_OK);
            expected_truncate_back(&f.expected, end - 8);
        }
        if (i % 60 == 59 && end > log_start(f.log) + 150) {
            ck_assert_int_eq(log_truncate_front(f.log, end - 150, NULL), ERR_OK);
        }
        if (i % 100 == 50) {
            sync_beside();
        }
        if (i % 40 == 20) {
            rewrite_beside();
        }
        if (i % 500 == 499) {
            ck_assert_int_eq(log_reset(f.log, end + 10, NULL), ERR_OK);
            f.expected = (struct expected){.start = end + 10};
        }
    }
    atomic_store(&done, true);
    for (size_t i = 0; i < READERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    log_check(f.log);
    fixture_verify(&f);
    ck_assert_uint_gt(rewritten, 10);
    fixture_close(&f);
    file_cache_unref(f.options.files);
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/threads");
    TCase *tcase = tcase_create("threads");

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, readers_go_on_while_the_writer_does_everything, 0, 2);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
