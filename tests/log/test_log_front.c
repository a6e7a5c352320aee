#include "log/log.h"

#include <limits.h>
#include <string.h>

#include "lib/runner.h"
#include "log/log_fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, 60);
}

static void teardown(void)
{
    fixture_fini(&f);
}

/* The base offset of the n-th segment. */
static uint64_t base(unsigned n)
{
    uint64_t offset = 0;

    for (uint64_t at = 0; at < expected_end(&f.expected); at++) {
        if (file_exists(fixture_file(&f, at, ".store")) && n-- == 0) {
            return at;
        }
    }
    ck_abort_msg("there are not so many segments");
    return offset;
}

static void raise_start(uint64_t offset)
{
    ck_assert_int_eq(log_raise_start(f.log, offset, NULL), ERR_OK);
    ck_assert_uint_eq(log_start(f.log), offset);
    log_check(f.log);
}

static void remove_passed(uint64_t durable_start, unsigned max)
{
    ck_assert_int_eq(log_remove_passed(f.log, durable_start, max, NULL), ERR_OK);
    log_check(f.log);
}

START_TEST(a_raised_start_hides_what_is_below_and_removes_no_file)
{
    uint64_t second = base(1);
    uint64_t third = base(2);
    unsigned count = log_segment_count(f.log);
    struct batch_header header;

    ck_assert_uint_eq(log_passed_start(f.log), UINT64_MAX);
    raise_start(third + 2);
    ck_assert_uint_eq(log_segment_count(f.log), count - 2);
    ck_assert_int_eq(log_read_header(f.log, third + 1, &header, NULL), ERR_RANGE);
    ck_assert_int_eq(log_read_header(f.log, third + 2, &header, NULL), ERR_OK);
    ck_assert(file_exists(fixture_file(&f, 0, ".store")));
    ck_assert(file_exists(fixture_file(&f, second, ".store")));
    ck_assert_uint_eq(log_passed_start(f.log), second);
    expected_truncate_front(&f.expected, third + 2);
    fixture_verify(&f);
}
END_TEST

START_TEST(opened_with_the_old_start_everything_is_there_again)
{
    uint64_t end = expected_end(&f.expected);

    raise_start(base(3) + 4);
    raise_start(end);
    fixture_close(&f);
    f.options.durable_end = end;
    fixture_open(&f); /* and all of it is compared */
    ck_assert_uint_eq(log_start(f.log), 0);
    ck_assert_uint_eq(log_end(f.log), end);
}
END_TEST

START_TEST(files_go_oldest_first_and_only_below_the_durable_start)
{
    uint64_t bases[4];
    uint64_t offset;

    for (unsigned i = 0; i < 4; i++) {
        bases[i] = base(i);
    }
    offset = bases[3] + 2;
    raise_start(offset);
    remove_passed(bases[1] - 1, UINT_MAX);
    ck_assert(file_exists(fixture_file(&f, 0, ".store")));
    remove_passed(offset, 1);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
    ck_assert(!file_exists(fixture_file(&f, 0, ".index")));
    ck_assert(file_exists(fixture_file(&f, bases[1], ".store")));
    ck_assert_uint_eq(log_passed_start(f.log), bases[2]);
    remove_passed(offset, UINT_MAX);
    ck_assert(!file_exists(fixture_file(&f, bases[1], ".store")));
    ck_assert(!file_exists(fixture_file(&f, bases[2], ".store")));
    ck_assert(file_exists(fixture_file(&f, bases[3], ".store")));
    ck_assert_uint_eq(log_passed_start(f.log), UINT64_MAX);
    expected_truncate_front(&f.expected, offset);
    fixture_close(&f);
    f.options.start = offset;
    f.options.durable_end = expected_end(&f.expected);
    fixture_open(&f);
    ck_assert_uint_eq(log_start(f.log), offset);
}
END_TEST

START_TEST(whatever_a_crash_leaves_of_the_passed_files_goes_at_opening)
{
    uint64_t bases[5];
    uint64_t offset;
    uint8_t store[8192];
    size_t size;

    for (unsigned i = 0; i < 5; i++) {
        bases[i] = base(i);
    }
    offset = bases[4] + 2;
    size = file_read(fixture_file(&f, bases[1], ".store"), store, sizeof store);
    raise_start(offset);
    remove_passed(offset, UINT_MAX);
    fixture_close(&f);
    /* The second one's removal was not on the disk, those before and behind it were. */
    file_write(fixture_file(&f, bases[1], ".store"), store, size);
    expected_truncate_front(&f.expected, offset);
    f.options.start = offset;
    f.options.durable_end = expected_end(&f.expected);
    fixture_open(&f);
    ck_assert(!file_exists(fixture_file(&f, bases[1], ".store")));
    log_check(f.log);
}
END_TEST

START_TEST(a_start_at_the_end_leaves_an_empty_log_that_goes_on)
{
    uint64_t end = expected_end(&f.expected);

    raise_start(end);
    ck_assert_uint_eq(log_segment_count(f.log), 1);
    remove_passed(end, UINT_MAX);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
    expected_truncate_front(&f.expected, end);
    fixture_fill(&f, 20);
    fixture_verify(&f);
    fixture_close(&f);
    f.options.start = end;
    f.options.durable_end = end;
    fixture_open(&f);
}
END_TEST

START_TEST(a_start_out_of_range_changes_nothing)
{
    uint64_t end = expected_end(&f.expected);

    ck_assert_int_eq(log_raise_start(f.log, end + 1, NULL), ERR_RANGE);
    raise_start(20);
    ck_assert_int_eq(log_raise_start(f.log, 19, NULL), ERR_RANGE);
    ck_assert_uint_eq(log_start(f.log), 20);
    ck_assert(log_healthy(f.log));
}
END_TEST

START_TEST(truncating_and_resetting_take_the_passed_files_along)
{
    uint64_t second = base(1);
    uint64_t fourth = base(3);
    uint64_t fifth = base(4);

    raise_start(fourth);
    ck_assert_int_eq(log_truncate_front(f.log, fourth + 2, NULL), ERR_OK);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
    ck_assert(!file_exists(fixture_file(&f, second, ".store")));
    ck_assert_uint_eq(log_passed_start(f.log), UINT64_MAX);
    raise_start(fifth);
    ck_assert(file_exists(fixture_file(&f, fourth, ".store")));
    ck_assert_int_eq(log_reset(f.log, fourth, NULL), ERR_OK);
    ck_assert_uint_eq(log_passed_start(f.log), UINT64_MAX);
    ck_assert(file_exists(fixture_file(&f, fourth, ".store"))); /* the new one */
    ck_assert(!file_exists(fixture_file(&f, fifth, ".store")));
    log_check(f.log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_front");
    TCase *tcase = tcase_create("front");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_raised_start_hides_what_is_below_and_removes_no_file);
    tcase_add_test(tcase, opened_with_the_old_start_everything_is_there_again);
    tcase_add_test(tcase, files_go_oldest_first_and_only_below_the_durable_start);
    tcase_add_test(tcase, whatever_a_crash_leaves_of_the_passed_files_goes_at_opening);
    tcase_add_test(tcase, a_start_at_the_end_leaves_an_empty_log_that_goes_on);
    tcase_add_test(tcase, a_start_out_of_range_changes_nothing);
    tcase_add_test(tcase, truncating_and_resetting_take_the_passed_files_along);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
