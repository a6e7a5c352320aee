#include "log/log.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/log_fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, 60); /* ten a segment, two records each */
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    f.options.durable_end = log_end(f.log);
}

static void teardown(void)
{
    fixture_fini(&f);
}

/* Base offsets of the segments; the last one is active. */
static uint64_t base(unsigned n)
{
    uint64_t offset = 0;

    for (unsigned i = 0; i < n; i++) {
        struct log_extent extent;

        ck_assert_int_eq(log_extent_at(f.log, offset, &extent, NULL), ERR_OK);
        offset = extent.end_offset;
    }
    return offset;
}

static const char *file(uint64_t base_offset, const char *suffix)
{
    return fixture_file(&f, base_offset, suffix);
}

/* [first, last) of the segments, by runs of three. */
static struct rewriting segments(unsigned first, unsigned last)
{
    return (struct rewriting){.from = base(first), .to = base(last), .run = 3, .body_size = 400};
}

static void rewrite(const struct rewriting *rewriting)
{
    ck_assert_int_eq(fixture_try_rewrite(&f, rewriting), ERR_OK);
    log_check(f.log);
    fixture_verify(&f);
}

static void sync_log(void)
{
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    log_check(f.log);
}

static void reopen(void)
{
    fixture_close(&f);
    fixture_open(&f);
}

static void expect_no_file_of_rewriting(uint64_t base_offset)
{
    ck_assert(!file_exists(file(base_offset, ".store.compact")));
    ck_assert(!file_exists(file(base_offset, ".index.compact")));
}

/* ---- end ---- */

START_TEST(one_segment_holds_other_batches_and_keeps_its_offsets)
{
    struct rewriting one = segments(1, 2);
    unsigned count = log_segment_count(f.log);
    uint64_t size = log_size(f.log);

    rewrite(&one);
    ck_assert_uint_eq(log_segment_count(f.log), count);
    ck_assert_uint_lt(log_size(f.log), size);
    ck_assert_uint_eq(file_size(file(one.from, ".store")), 32 + 4 * 504);
    expect_no_file_of_rewriting(one.from);
    sync_log();
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(log_segment_count(f.log), count);
}
END_TEST

START_TEST(three_segments_become_one_and_the_old_files_go_after_a_sync)
{
    struct rewriting three = segments(1, 4);
    uint64_t second = base(2);
    uint64_t third = base(3);
    unsigned count = log_segment_count(f.log);
    struct log_extent extent;

    rewrite(&three);
    ck_assert_uint_eq(log_segment_count(f.log), count - 2);
    ck_assert_int_eq(log_extent_at(f.log, third, &extent, NULL), ERR_OK);
    ck_assert_uint_eq(extent.base_offset, three.from);
    ck_assert_uint_eq(extent.end_offset, three.to);
    ck_assert(extent.sealed);
    ck_assert(file_exists(file(second, ".store")));
    ck_assert(file_exists(file(third, ".index")));
    sync_log();
    ck_assert(!file_exists(file(second, ".store")));
    ck_assert(!file_exists(file(second, ".index")));
    ck_assert(!file_exists(file(third, ".store")));
    ck_assert(!file_exists(file(third, ".index")));
    fixture_verify(&f);
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(log_segment_count(f.log), count - 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/log_rewrite");
    TCase *tcase = tcase_create("end");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_segment_holds_other_batches_and_keeps_its_offsets);
    tcase_add_test(tcase, three_segments_become_one_and_the_old_files_go_after_a_sync);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
