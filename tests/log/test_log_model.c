/*
 * Thousands of operations against a model in memory, in a random order that each seed fixes.
 */
#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { STEPS = 700 };

static struct fixture f;
static uint64_t start; /* the model's log_start */

static uint64_t pick_boundary(void)
{
    const struct expected *e = &f.expected;
    size_t low = 0;

    while (low < e->count && e->batches[low].base_offset < start) {
        low += 1;
    }
    if (low == e->count || fixture_random(&f, 8) == 0) {
        return expected_end(e);
    }
    return e->batches[low + fixture_random(&f, e->count - low)].base_offset;
}

/* Of most seeds: few files may be open, and how segments are written changes all the time. */
static bool varied;

static void configure(void)
{
    const struct log_tuning tuning = {
        .segment_size_max = fixture_random(&f, 3) == 0 ? 4096 + fixture_random(&f, 8192) : 0,
        .segment_ms = fixture_random(&f, 3) == 0 ? 1 + fixture_random(&f, 3) : 0,
        .preallocate = fixture_random(&f, 2) == 0,
    };

    if (varied) {
        log_configure(f.log, &tuning);
    }
}

static void step_tick(void)
{
    configure();
    if (f.expected.count > 0) {
        int64_t last_us = f.expected.batches[f.expected.count - 1].append_time_us;

        ck_assert_int_eq(log_tick(f.log, last_us + (int64_t)fixture_random(&f, 5000), NULL),
                         ERR_OK);
    }
}

static void step_append(void)
{
    uint64_t count = 1 + fixture_random(&f, 8);

    for (uint64_t i = 0; i < count && f.expected.count < FIXTURE_BATCHES_MAX; i++) {
        fixture_append(
            &f, (uint32_t)(1 + fixture_random(&f, 9)),
            (uint32_t)(1 + fixture_random(&f, fixture_random(&f, 20) == 0 ? 6000 : 400)));
    }
}

static void step_sync(void)
{
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    f.options.durable_end = log_end(f.log);
}

static void step_truncate_back(void)
{
    uint64_t offset = pick_boundary();

    ck_assert_int_eq(log_truncate_back(f.log, offset, NULL), ERR_OK);
    expected_truncate_back(&f.expected, offset);
    if (f.options.durable_end > offset) {
        f.options.durable_end = offset;
    }
}

static void step_truncate_front(void)
{
    uint64_t offset = start + fixture_random(&f, (log_end(f.log) - start) / 3 + 2);

    offset = offset > log_end(f.log) ? log_end(f.log) : offset;
    ck_assert_int_eq(log_truncate_front(f.log, offset, NULL), ERR_OK);
    start = offset;
    expected_truncate_front(&f.expected, offset);
}

static void step_reset(void)
{
    uint64_t next = fixture_random(&f, 2 * log_end(f.log) + 1);

    ck_assert_int_eq(log_reset(f.log, next, NULL), ERR_OK);
    f.expected = (struct expected){.start = next};
    start = next;
    f.options.durable_end = 0;
    f.options.start = 0;
}

/* One to three neighbours, as they are or with batches merged; perhaps something happens to the log
 * before it is put in place. */
static void step_rewrite(void)
{
    static struct expected before;
    struct rewriting rewriting = {.run = (unsigned)(1 + fixture_random(&f, 6)),
                                  .body_size = (uint32_t)(33 + fixture_random(&f, 300))};
    struct log_rewrite *rewrite;
    struct log_extent extent = {.base_offset = 0};
    uint64_t wanted = 1 + fixture_random(&f, 3);

    if (start == log_end(f.log)) {
        return;
    }
    rewriting.to = start + fixture_random(&f, log_end(f.log) - start);
    for (uint64_t i = 0; i < wanted; i++) {
        ck_assert_int_eq(log_extent_at(f.log, rewriting.to, &extent, NULL), ERR_OK);
        if (!extent.sealed) {
            break;
        }
        rewriting.from = i == 0 ? extent.base_offset : rewriting.from;
        rewriting.to = extent.end_offset;
        if (rewriting.to == log_end(f.log)) {
            break;
        }
    }
    if (rewriting.from < start || rewriting.from == rewriting.to || !extent.sealed) {
        return; /* What is below the start is not known here. */
    }
    before = f.expected;
    expected_rewrite(&f.expected, &rewriting);
    ck_assert_int_eq(fixture_begin_rewrite(&f, rewriting.from, rewriting.to, &rewrite), ERR_OK);
    if (fixture_random(&f, 8) == 0) {
        log_rewrite_cancel(f.log, rewrite);
        f.expected = before;
        return;
    }
    if (fixture_random(&f, 4) == 0) {
        step_sync();
    }
    ck_assert_int_eq(log_rewrite_end(f.log, rewrite, NULL), ERR_OK);
    if (f.options.durable_end < log_end(f.log) && fixture_random(&f, 2) == 0) {
        step_sync();
    }
}

static void step_reopen(void)
{
    fixture_close(&f);
    f.options.start = start;
    fixture_open(&f);
    configure();
    ck_assert(!f.report.torn);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
}

static void run(uint64_t seed)
{
    const struct file_cache_options options = {
        .descriptors_max = 2, .descriptors_limit = 10000, .mapped_max = 300};

    fixture_init(&f);
    f.random = seed;
    varied = seed > 1;
    f.options.files = varied ? file_cache_new(&options) : NULL;
    start = 0;
    fixture_open(&f);
    for (int i = 0; i < STEPS; i++) {
        uint64_t dice = fixture_random(&f, 100);

        if (dice < 45) {
            step_append();
        } else if (dice < 55) {
            step_rewrite();
        } else if (dice < 70) {
            step_truncate_front();
        } else if (dice < 80) {
            step_truncate_back();
        } else if (dice < 90) {
            step_reopen();
        } else if (dice < 95) {
            step_sync();
        } else if (dice < 98) {
            step_tick();
        } else {
            step_reset();
        }
        log_check(f.log);
        ck_assert_uint_eq(log_start(f.log), start);
        ck_assert_uint_eq(log_end(f.log), expected_end(&f.expected));
        if (i % 8 == 0) {
            fixture_verify(&f);
        }
    }
    fixture_close(&f);
    file_cache_unref(f.options.files);
    fixture_fini(&f);
}

START_TEST(the_log_and_its_model_agree)
{
    run((uint64_t)_i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/model");
    TCase *tcase = tcase_create("model");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, the_log_and_its_model_agree, 1, 5);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
