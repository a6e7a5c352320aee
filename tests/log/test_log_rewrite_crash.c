#include "log/log.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/log_fixture.h"
#include "log/rewrite_lab.h"

static struct fixture f;

static void setup(void)
{
    rewrite_lab_open(&f);
}

static void teardown(void)
{
    fixture_fini(&f);
}

static uint64_t base(unsigned n)
{
    return rewrite_lab_base(&f, n);
}

static struct rewriting segments(unsigned first, unsigned last)
{
    return rewrite_lab_segments(&f, first, last);
}

static void rewrite(const struct rewriting *rewriting)
{
    rewrite_lab_rewrite(&f, rewriting);
}

static const char *file(uint64_t base_offset, const char *suffix)
{
    return fixture_file(&f, base_offset, suffix);
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

/* What a crash leaves before the directory was synced: copies, as they stand. */
static void crash(void)
{
    static char copy[sizeof f.log_dir];

    ck_assert_int_lt(snprintf(copy, sizeof copy, "%s/crashed", f.dir), (int)sizeof copy);
    copy_dir(f.log_dir, copy);
    fixture_close(&f);
    f.options.dir = copy;
    memcpy(f.log_dir, copy, sizeof copy);
}

static void open_after_crash(void)
{
    fixture_open(&f);
    ck_assert(!f.report.torn);
    ck_assert_uint_eq(f.report.damaged, 0);
    ck_assert_uint_eq(f.report.holes, 0);
    sync_log();
}

START_TEST(what_was_not_ended_is_a_leftover)
{
    static struct expected before;
    struct rewriting three = segments(1, 4);
    struct log_rewrite *rewriting;

    before = f.expected;
    expected_rewrite(&f.expected, &three);
    ck_assert_int_eq(fixture_begin_rewrite(&f, three.from, three.to, &rewriting), ERR_OK);
    f.expected = before;
    log_rewrite_cancel(f.log, rewriting);
    file_write(file(three.from, ".store.compact"), (const uint8_t *)"left", 4);
    file_write(file(three.from, ".index.compact"), (const uint8_t *)"over", 4);
    file_write(file(7, ".store.compact"), (const uint8_t *)"nobody's", 8);
    crash();
    open_after_crash();
    expect_no_file_of_rewriting(three.from);
    expect_no_file_of_rewriting(7);
}
END_TEST

/* durable_end: everywhere; a batch may lie over it. */
START_TEST(the_old_segments_are_leftovers_of_a_new_one_that_is_whole)
{
    struct rewriting three = segments(1, 4);
    uint64_t second = base(2);
    uint64_t third = base(3);

    rewrite(&three);
    crash();
    ck_assert(file_exists(file(second, ".store")));
    f.options.durable_end = (uint64_t)_i;
    f.options.holes_allowed = _i % 2 == 1;
    open_after_crash();
    ck_assert(!file_exists(file(second, ".store")));
    ck_assert(!file_exists(file(second, ".index")));
    ck_assert(!file_exists(file(third, ".store")));
    reopen();
}
END_TEST

START_TEST(a_start_inside_of_it_does_not_make_the_new_one_a_leftover)
{
    struct rewriting three = segments(1, 4);
    uint64_t third = base(3);
    uint64_t start = three.from + (uint64_t)_i;

    rewrite(&three);
    crash();
    ck_assert_int_eq(remove(file(third, ".store")), 0); /* One had gone already. */
    f.options.start = start;
    expected_truncate_front(&f.expected, start);
    open_after_crash();
    ck_assert_uint_eq(log_start(f.log), start);
    ck_assert(file_exists(file(three.from, ".store")) == (start < three.to));
    for (uint64_t at = three.from + 1; at < three.to; at++) {
        ck_assert(!file_exists(file(at, ".store")));
    }
}
END_TEST

/* The old index has the size of the new store, and its last batch at its place. */
START_TEST(the_old_index_is_not_believed)
{
    static uint8_t index[4096];
    uint64_t from = base(1);
    size_t size = file_read(file(from, ".index"), index, sizeof index);

    rewrite_lab_rewrite_to_the_same_size(&f, from, base(2));
    crash();
    file_write(file(from, ".index"), index, size);
    open_after_crash();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 1);
}
END_TEST

START_TEST(an_old_segment_of_which_nothing_can_be_read_is_a_leftover_as_well)
{
    struct rewriting three = segments(1, 4);
    uint64_t second = base(2);

    rewrite(&three);
    crash();
    file_write(file(second, ".store"), (const uint8_t *)"damaged", 7);
    open_after_crash();
    ck_assert(!file_exists(file(second, ".store")));
    ck_assert(!file_exists(file(second, ".store.damaged")));
}
END_TEST

/* Then what it was made of is all there is. */
START_TEST(a_new_segment_that_is_damaged_makes_nothing_a_leftover)
{
    struct rewriting three = segments(1, 4);
    static uint8_t bytes[8192];
    uint64_t second = base(2);
    struct batch_header header;
    size_t size;

    rewrite(&three);
    crash();
    size = file_read(file(three.from, ".store"), bytes, sizeof bytes);
    bytes[32 + 504 + 200] ^= 1; /* in its second batch */
    file_write(file(three.from, ".store"), bytes, size);
    if (_i == 0) { /* else its seal, and its headers, say that all is well */
        ck_assert_int_eq(remove(file(three.from, ".index")), 0);
    }
    f.options.holes_allowed = true;
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    log_check(f.log);
    ck_assert_uint_eq(f.report.damaged, 1);
    ck_assert_uint_eq(f.report.holes, 1);
    ck_assert_int_eq(log_read_header(f.log, three.from, &header, NULL), ERR_OK);
    ck_assert_int_eq(log_read_header(f.log, three.from + 6, &header, NULL), ERR_HOLE);
    ck_assert_int_eq(log_read_header(f.log, second, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.record_count, 2);
}
END_TEST

/* As it was before there was any rewriting. */
START_TEST(without_a_rewriting_an_overlap_is_damage)
{
    static uint8_t bytes[8192];
    uint64_t from = base(1);
    size_t size = file_read(file(from, ".store"), bytes, sizeof bytes);

    bytes_put_u64(bytes + 16, from + 2); /* The same segment, without its first batch. */
    bytes_put_u32(bytes + 4, crc32c(bytes + 8, 24));
    memmove(bytes + 32, bytes + 32 + 404, size - 32 - 404);
    crash();
    file_write(file(from + 2, ".store"), bytes, size - 404);
    ck_assert_int_eq(fixture_try_open(&f), ERR_CORRUPT);
}
END_TEST

/* ---- between end and the sync ---- */

START_TEST(what_was_superseded_never_comes_back)
{
    struct rewriting three = segments(1, 4);
    uint64_t inside = three.from + 18; /* where a batch of three begins */

    rewrite(&three);
    if (_i == 0) {
        ck_assert_int_eq(log_truncate_back(f.log, inside, NULL), ERR_OK);
        expected_truncate_back(&f.expected, inside);
        f.options.durable_end = inside;
    } else if (_i == 1) {
        ck_assert_int_eq(log_truncate_front(f.log, three.to, NULL), ERR_OK);
        expected_truncate_front(&f.expected, three.to);
        f.options.start = three.to;
    } else {
        uint64_t next = base(0) + 40; /* the name of one of them */

        ck_assert_int_eq(log_reset(f.log, next, NULL), ERR_OK);
        f.expected = (struct expected){.start = next};
        f.options.durable_end = f.options.start = next;
    }
    fixture_fill(&f, 25);
    log_check(f.log);
    fixture_verify(&f);
    crash();
    open_after_crash();
    for (uint64_t at = 0; at < log_end(f.log); at++) {
        struct log_extent extent = {.base_offset = 0};
        bool is = log_extent_at(f.log, at, &extent, NULL) == ERR_OK && extent.base_offset == at;

        ck_assert_msg(is == file_exists(file(at, ".store")), "%llu", (unsigned long long)at);
    }
}
END_TEST

START_TEST(a_hole_where_it_was_rewritten_is_one_after_a_crash_too)
{
    struct rewriting three = segments(1, 4);
    struct log_hole hole;

    rewrite(&three);
    ck_assert_int_eq(log_punch(f.log, three.from + 30, three.from + 31, NULL), ERR_OK);
    log_check(f.log);
    ck_assert_uint_eq(log_holes(f.log, 0, &hole, 1), 1);
    ck_assert_uint_eq(hole.to, three.to);
    crash();
    f.options.holes_allowed = true;
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    ck_assert_uint_eq(f.report.holes, 1);
    ck_assert_uint_eq(f.report.missing, hole.to - hole.from);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/log_rewrite_crash");
    TCase *tcase;

    tcase = tcase_create("recovery");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_was_not_ended_is_a_leftover);
    tcase_add_loop_test(tcase, the_old_segments_are_leftovers_of_a_new_one_that_is_whole, 0, 121);
    tcase_add_loop_test(tcase, a_start_inside_of_it_does_not_make_the_new_one_a_leftover, 0, 62);
    tcase_add_test(tcase, the_old_index_is_not_believed);
    tcase_add_test(tcase, an_old_segment_of_which_nothing_can_be_read_is_a_leftover_as_well);
    tcase_add_loop_test(tcase, a_new_segment_that_is_damaged_makes_nothing_a_leftover, 0, 2);
    tcase_add_test(tcase, without_a_rewriting_an_overlap_is_damage);
    tcase_add_loop_test(tcase, what_was_superseded_never_comes_back, 0, 3);
    tcase_add_test(tcase, a_hole_where_it_was_rewritten_is_one_after_a_crash_too);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
