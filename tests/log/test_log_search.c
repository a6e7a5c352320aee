#include "log/log.h"

#include "lib/runner.h"
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

/* Batches of several sizes, across many segments. */
static void append(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fixture_append(&f, 1 + i % 5, 20 + i * 37 % 900);
    }
}

static uint64_t by_index(uint64_t raft_index)
{
    uint64_t offset = 0;

    ck_assert_int_eq(log_find_raft_index(f.log, raft_index, &offset, NULL), ERR_OK);
    return offset;
}

static uint64_t by_size(uint64_t size)
{
    uint64_t offset = 0;

    ck_assert_int_eq(log_find_size(f.log, size, &offset, NULL), ERR_OK);
    return offset;
}

/* What the searches should say, counted batch by batch. */
static uint64_t expected_by_index(uint64_t raft_index)
{
    for (size_t i = 0; i < f.expected.count; i++) {
        const struct batch_header *batch = &f.expected.batches[i];

        if (batch_end_offset(batch) > log_start(f.log) && batch->raft_index > raft_index) {
            return batch->base_offset < log_start(f.log) ? log_start(f.log) : batch->base_offset;
        }
    }
    return log_end(f.log);
}

static uint64_t expected_by_size(uint64_t size)
{
    size_t i = f.expected.count;
    uint64_t sum = 0;

    while (i > 0 && f.expected.batches[i - 1].base_offset >= log_start(f.log) &&
           (i == f.expected.count || sum + f.expected.batches[i - 1].size <= size)) {
        sum += f.expected.batches[--i].size;
    }
    return i == f.expected.count ? log_end(f.log) : f.expected.batches[i].base_offset;
}

static void check_all(void)
{
    uint64_t last = f.expected.batches[f.expected.count - 1].raft_index;
    uint64_t total = 0;

    for (uint64_t index = 0; index <= last + 1; index++) {
        ck_assert_uint_eq(by_index(index), expected_by_index(index));
    }
    for (size_t i = 0; i < f.expected.count; i++) {
        total += f.expected.batches[i].size;
    }
    for (uint64_t size = 1; size <= total + 100; size += 61) {
        ck_assert_uint_eq(by_size(size), expected_by_size(size));
    }
}

START_TEST(an_empty_log_gives_its_end)
{
    ck_assert_uint_eq(by_index(0), 0);
    ck_assert_uint_eq(by_size(1), 0);
}
END_TEST

START_TEST(each_raft_index_and_each_size_gives_the_batch_that_counting_gives)
{
    append(120);
    ck_assert_uint_gt(log_segment_count(f.log), 5);
    check_all();
}
END_TEST

START_TEST(what_is_below_the_start_is_not_found_and_does_not_count)
{
    append(120);
    ck_assert_int_eq(log_raise_start(f.log, f.expected.batches[45].base_offset, NULL), ERR_OK);
    check_all();
    ck_assert_int_eq(log_raise_start(f.log, log_end(f.log), NULL), ERR_OK);
    check_all();
}
END_TEST

START_TEST(the_last_batch_stays_whatever_its_size)
{
    fixture_append(&f, 3, 500);
    fixture_append(&f, 2, 9000);
    ck_assert_uint_eq(by_size(1), 3);
    ck_assert_uint_eq(by_size(UINT64_MAX / 2), 0);
}
END_TEST

START_TEST(a_hole_in_the_way_is_said)
{
    uint64_t offset = 77;

    append(30);
    fixture_close(&f);
    f.options.durable_end = expected_end(&f.expected);
    f.options.holes_allowed = true;
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    ck_assert_int_eq(log_punch(f.log, 10, 11, NULL), ERR_OK);
    ck_assert_int_eq(log_find_size(f.log, 1 << 30, &offset, NULL), ERR_HOLE);
    ck_assert_int_eq(log_find_raft_index(f.log, f.expected.batches[1].raft_index, &offset, NULL),
                     ERR_HOLE);
    ck_assert_uint_eq(offset, 77);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_search");
    TCase *tcase = tcase_create("searches");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_empty_log_gives_its_end);
    tcase_add_test(tcase, each_raft_index_and_each_size_gives_the_batch_that_counting_gives);
    tcase_add_test(tcase, what_is_below_the_start_is_not_found_and_does_not_count);
    tcase_add_test(tcase, the_last_batch_stays_whatever_its_size);
    tcase_add_test(tcase, a_hole_in_the_way_is_said);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
