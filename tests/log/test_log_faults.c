/*
 * Each call of each operation fails once, with EIO and ENOSPC, once or for good, with and without
 * short writes. Afterwards the log is opened with the kernel: it is whole, it has what was synced,
 * and nothing that was never appended.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { SYNCED = 13, CALLS_MAX = 400 };

static struct fixture f;
static struct faulty_io faulty;
static struct expected before; /* what was there when the operation began */

/* An operation on the open log; f.expected becomes what it leaves when it works. */
typedef enum err (*operation)(void);

/* How a log may look after the operation was interrupted: `before` or a prefix of it, `after` or
 * a prefix of it. */
struct scenario {
    const char *name;
    operation run;
    uint64_t durable_end; /* what the caller would still ask for afterwards */
};

static void prepare(void)
{
    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, SYNCED); /* 0, 20 */
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    fixture_fill(&f, 3);
    before = f.expected;
    fixture_close(&f);
    faulty_io_init(&faulty, fixture_io());
    f.options.io = &faulty.io;
    f.options.durable_end = SYNCED * 2;
}

static enum err append_some(void)
{
    enum err err = ERR_OK;

    for (int i = 0; err == ERR_OK && i < 14; i++) { /* rolls once */
        err = fixture_try_append(&f, 2, 300);
    }
    if (err != ERR_OK) { /* It may be there, all of it. */
        f.expected.batches[f.expected.count] = f.attempted;
        f.expected.count += 1;
    }
    return err;
}

static enum err sync_all(void)
{
    return log_sync(f.log, NULL);
}

static enum err append_and_sync(void)
{
    enum err err = append_some();

    return err == ERR_OK ? log_sync(f.log, NULL) : err;
}

static enum err sync_begun(void)
{
    struct log_sync *sync = NULL;
    enum err err = log_sync_begin(f.log, &sync);

    if (err == ERR_OK && sync != NULL) {
        err = log_sync_run(sync, NULL);
        ck_assert_int_eq(log_sync_end(f.log, sync), err);
    }
    return err;
}

static enum err truncate_front_to_the_middle(void)
{
    enum err err = log_truncate_front(f.log, 25, NULL);

    expected_truncate_front(&f.expected, 25);
    return err;
}

static enum err truncate_front_to_the_end(void)
{
    enum err err = log_truncate_front(f.log, log_end(f.log), NULL);

    expected_truncate_front(&f.expected, expected_end(&f.expected));
    return err;
}

static enum err truncate_back_to_the_middle(void)
{
    enum err err = log_truncate_back(f.log, 10, NULL);

    expected_truncate_back(&f.expected, 10);
    return err;
}

static enum err truncate_back_under_a_reader(void)
{
    struct log_chunk chunk;
    enum err err = log_find(f.log, 4, UINT64_MAX, 3000, &chunk, NULL);

    if (err == ERR_OK) {
        err = truncate_back_to_the_middle();
        log_chunk_release(&chunk);
    }
    return err;
}

static enum err reset_above(void)
{
    enum err err = log_reset(f.log, 100, NULL);

    f.expected = (struct expected){.start = 100};
    return err;
}

static enum err reset_to_a_segment(void)
{
    enum err err = log_reset(f.log, 20, NULL);

    f.expected = (struct expected){.start = 20};
    return err;
}

static enum err reset_below(void)
{
    enum err err = log_reset(f.log, 5, NULL);

    f.expected = (struct expected){.start = 5};
    return err;
}

static enum err append_raw_some(void)
{
    static struct fixture from;
    struct block *block;
    uint64_t offset;
    enum err err = ERR_OK;

    fixture_init(&from);
    from.options.start = from.expected.start = expected_end(&f.expected);
    fixture_open(&from);
    fixture_fill(&from, 9);
    ck_assert_int_eq(
        log_read(from.log, from.expected.start, UINT64_MAX, 4096, &block, &offset, NULL), ERR_OK);
    for (size_t i = 0; i < 9; i++) {
        f.expected.batches[f.expected.count + i] = from.expected.batches[i];
    }
    f.expected.count += 9;
    err = log_append_raw(f.log, block->data, block->size, NULL);
    block_unref(block);
    fixture_fini(&from);
    return err;
}

static const struct scenario scenarios[] = {
    {"append_some", append_some, SYNCED * 2},
    {"sync_all", sync_all, SYNCED * 2},
    {"append_and_sync", append_and_sync, SYNCED * 2},
    {"sync_begun", sync_begun, SYNCED * 2},
    {"truncate_front_to_the_middle", truncate_front_to_the_middle, SYNCED * 2},
    {"truncate_front_to_the_end", truncate_front_to_the_end, SYNCED * 2},
    {"truncate_back_to_the_middle", truncate_back_to_the_middle, 10},
    {"truncate_back_under_a_reader", truncate_back_under_a_reader, 10},
    {"reset_above", reset_above, SYNCED * 2},
    {"reset_to_a_segment", reset_to_a_segment, 20},
    {"reset_below", reset_below, 5},
    {"append_raw_some", append_raw_some, SYNCED * 2},
};

/* Opens with the kernel and compares. `after`: what a success would have left, or more than came
 * of it. */
static void check_afterwards(const struct scenario *scenario, enum err err)
{
    static struct expected after;
    uint64_t end;

    after = f.expected;
    fixture_close(&f);
    f.options.io = fixture_io();
    f.options.durable_end = scenario->durable_end;
    ck_assert_msg(fixture_try_open(&f) == ERR_OK, "%s: does not open", scenario->name);
    log_check(f.log);
    ck_assert_msg(fixture_holds_part_of(&f, &after) || fixture_holds_part_of(&f, &before),
                  "%s: [%llu, %llu) was never there", scenario->name,
                  (unsigned long long)log_start(f.log), (unsigned long long)log_end(f.log));
    end = log_end(f.log);
    ck_assert_uint_ge(end, scenario->durable_end);
    if (err == ERR_OK) {
        ck_assert_uint_eq(end, expected_end(&after));
    } else {
        ck_assert_uint_le(log_start(f.log), end);
    }
    /* And it goes on. */
    f.expected = (struct expected){.start = end};
    fixture_fill(&f, 12);
    log_check(f.log);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    fixture_close(&f);
    f.options.durable_end = expected_end(&f.expected);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    log_check(f.log);
    ck_assert_uint_eq(log_end(f.log), expected_end(&f.expected));
}

/* After a write that failed everything but reading is refused. */
static void check_failed_state(void)
{
    struct log_sync *sync;
    struct block *block;
    uint64_t start = log_start(f.log);
    uint64_t end = log_end(f.log);

    ck_assert_int_eq(fixture_try_append(&f, 1, 10), ERR_FAILED);
    ck_assert_int_eq(log_append_raw(f.log, (const uint8_t *)"x", 1, NULL), ERR_FAILED);
    ck_assert_int_eq(log_truncate_front(f.log, end, NULL), ERR_FAILED);
    ck_assert_int_eq(log_truncate_back(f.log, start, NULL), ERR_FAILED);
    ck_assert_int_eq(log_reset(f.log, 0, NULL), ERR_FAILED);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_FAILED);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_FAILED);
    faulty_io_fail_at(&faulty, 0, EIO, false);
    for (uint64_t offset = start; offset < end;) {
        ck_assert_int_eq(log_read(f.log, offset, UINT64_MAX, 1, &block, &offset, NULL), ERR_OK);
        block_unref(block);
    }
}

/* One run with the nth call failing (0: none); returns the number of calls the operation made. */
static unsigned run_once(const struct scenario *scenario, unsigned nth, int errno_value,
                         bool sticky, bool short_writes)
{
    unsigned first;
    unsigned calls;
    enum err err;

    prepare();
    faulty_io_count_only(&faulty, FAULTY_READS | FAULTY_WRITES);
    fixture_open(&f);
    faulty_io_short_writes(&faulty, short_writes);
    first = faulty_io_calls(&faulty);
    faulty_io_fail_at(&faulty, nth, errno_value, sticky);
    err = scenario->run();
    calls = faulty_io_calls(&faulty) - first;
    faulty_io_fail_at(&faulty, sticky ? 1 : 0, errno_value, sticky);
    ck_assert_msg(nth != 0 || err == ERR_OK, "%s fails by itself", scenario->name);
    ck_assert(err == ERR_OK || err == ERR_IO || err == ERR_NOSPACE);
    ck_assert(err == ERR_OK ? log_healthy(f.log) : true);
    if (!log_healthy(f.log)) {
        check_failed_state();
    } else {
        faulty_io_fail_at(&faulty, 0, EIO, false);
        log_check(f.log); /* Only a read failed, or a hint. */
    }
    check_afterwards(scenario, err);
    fixture_fini(&f);
    return calls;
}

START_TEST(any_call_of_an_operation_may_fail)
{
    const struct scenario *scenario = &scenarios[_i / 2];
    int errno_value = _i % 2 == 0 ? EIO : ENOSPC;
    bool short_writes = errno_value == EIO;
    unsigned calls = run_once(scenario, 0, errno_value, false, short_writes);

    ck_assert_uint_gt(calls, 0);
    ck_assert_uint_lt(calls, CALLS_MAX);
    for (unsigned n = 1; n <= calls; n++) {
        (void)run_once(scenario, n, errno_value, n % 2 == 0, short_writes);
    }
}
END_TEST

/* Makes a directory that gives recovery all there is to do. */
static void prepare_damage(void)
{
    static uint8_t bytes[16 * 1024];
    size_t size;

    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, 45);
    fixture_close(&f);
    ck_assert_int_eq(unlink(fixture_file(&f, 20, ".index")), 0);
    size = file_read(fixture_file(&f, 60, ".store"), bytes, sizeof bytes);
    bytes[size - 500] ^= 1; /* the last but one batch of [60, 80) */
    file_write(fixture_file(&f, 60, ".store"), bytes, size);
    file_write(fixture_file(&f, 7, ".store.tmp"), bytes, 100);
    file_write(fixture_file(&f, 9, ".index"), bytes, 100);
    f.options.start = 20;
    f.options.durable_end = 60;
    faulty_io_init(&faulty, fixture_io());
    faulty_io_count_only(&faulty, FAULTY_READS | FAULTY_WRITES);
    f.options.io = &faulty.io;
}

static unsigned recover_once(unsigned nth, bool sticky)
{
    struct log_options options;
    unsigned calls;
    enum err err;

    prepare_damage();
    faulty_io_fail_at(&faulty, nth, EIO, sticky);
    err = fixture_try_open(&f);
    calls = faulty_io_calls(&faulty);
    ck_assert(nth == 0 ? err == ERR_OK : err == ERR_IO || err == ERR_OK);
    fixture_close(&f);
    faulty_io_fail_at(&faulty, 0, EIO, false);
    expected_truncate_back(&f.expected, 76);
    options = f.options;
    f.options.io = fixture_io();
    fixture_open(&f);
    ck_assert_uint_eq(log_end(f.log), 76);
    ck_assert_uint_eq(log_start(f.log), 20);
    ck_assert(!file_exists(fixture_file(&f, 0, ".store")));
    ck_assert(!file_exists(fixture_file(&f, 7, ".store.tmp")));
    ck_assert(!file_exists(fixture_file(&f, 9, ".index")));
    ck_assert(!file_exists(fixture_file(&f, 80, ".store")));
    fixture_fill(&f, 5);
    log_check(f.log);
    fixture_close(&f);
    f.options = options;
    fixture_fini(&f);
    return calls;
}

START_TEST(any_call_of_recovery_may_fail)
{
    unsigned calls = recover_once(0, false);

    ck_assert_uint_gt(calls, 20);
    ck_assert_uint_lt(calls, CALLS_MAX);
    for (unsigned n = 1; n <= calls; n++) {
        (void)recover_once(n, n % 2 == 0);
    }
}
END_TEST

START_TEST(any_call_of_delete_may_fail_and_it_can_be_done_again)
{
    for (unsigned n = 1; n < CALLS_MAX; n++) {
        enum err err;

        prepare();
        fixture_open(&f);
        faulty_io_count_only(&faulty, FAULTY_WRITES);
        faulty_io_fail_at(&faulty, n, EIO, true);
        err = log_delete(f.log, NULL);
        f.log = NULL;
        if (err == ERR_OK) {
            ck_assert_uint_gt(n, 5);
            ck_assert(!file_exists(f.log_dir));
            fixture_fini(&f);
            return;
        }
        f.options.io = fixture_io();
        f.options.durable_end = 0; /* It was to be deleted. */
        if (file_exists(f.log_dir)) {
            ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
            ck_assert(fixture_holds_part_of(&f, &before));
            ck_assert_int_eq(log_delete(f.log, NULL), ERR_OK);
            f.log = NULL;
        }
        ck_assert(!file_exists(f.log_dir));
        fixture_fini(&f);
    }
    ck_abort_msg("delete never came through");
}
END_TEST

START_TEST(a_failed_sync_is_not_tried_again)
{
    unsigned calls;

    prepare();
    fixture_open(&f);
    fixture_fill(&f, 1);
    faulty_io_count_only(&faulty, FAULTY_WRITES);
    faulty_io_fail_at(&faulty, 1, EIO, false);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_IO);
    ck_assert(!log_healthy(f.log));
    calls = faulty_io_calls(&faulty);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_FAILED);
    ck_assert_uint_eq(faulty_io_calls(&faulty), calls);
    fixture_verify(&f);
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/faults");
    TCase *operations = tcase_create("operations");
    TCase *opening = tcase_create("opening");

    tcase_set_timeout(operations, 60);
    tcase_set_timeout(opening, 60);
    tcase_add_loop_test(operations, any_call_of_an_operation_may_fail, 0,
                        2 * (int)(sizeof scenarios / sizeof scenarios[0]));
    tcase_add_test(operations, any_call_of_delete_may_fail_and_it_can_be_done_again);
    tcase_add_test(operations, a_failed_sync_is_not_tried_again);
    tcase_add_test(opening, any_call_of_recovery_may_fail);
    suite_add_tcase(suite, operations);
    suite_add_tcase(suite, opening);
    return runner_main(suite);
}
