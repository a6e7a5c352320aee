/*
 * Power is lost in the middle of anything: what was synced is there, what was not is there as far
 * as it verifies, and nothing else is. The disk is simulated: sectors and names that were not
 * synced survive as a seeded generator decides.
 */
#include <errno.h>

#include "lib/runner.h"
#include "log/log.h"
#include "log/log_fixture.h"
#include "sim/mem_io.h"

enum { ROUNDS = 60, STEPS = 12, SEEDS = 6 };

static struct fixture f;
static struct mem_io disk;
static struct expected before; /* what was there when the last operation began */
static uint64_t start;         /* what the owner of the log remembers of its start */
static unsigned calls;
static unsigned die_at;

static uint64_t draw(void *arg)
{
    return fixture_random(arg, UINT64_MAX);
}

/* The process goes on up to a call, and from there on nothing works any more. */
static int die(void *arg, struct mem_io_op *op)
{
    (void)arg;
    calls += 1;
    if (calls < die_at) {
        return 0;
    }
    if (calls == die_at && op->size > 0) {
        op->partial = op->size / 2;
    }
    return EIO;
}

static enum err step_append(void)
{
    enum err err = ERR_OK;
    uint64_t count = 1 + fixture_random(&f, 9);

    for (uint64_t i = 0; err == ERR_OK && i < count; i++) {
        err = fixture_try_append(&f, (uint32_t)(1 + fixture_random(&f, 4)),
                                 (uint32_t)(1 + fixture_random(&f, 900)));
    }
    if (err != ERR_OK) { /* It may be there, all of it. */
        f.expected.batches[f.expected.count] = f.attempted;
        f.expected.count += 1;
    }
    return err;
}

static enum err step_sync(void)
{
    enum err err = log_sync(f.log, NULL);

    if (err == ERR_OK) {
        f.options.durable_end = log_end(f.log);
    }
    return err;
}

static enum err step_truncate_back(void)
{
    size_t low = 0;
    uint64_t offset;

    while (low < f.expected.count && f.expected.batches[low].base_offset < log_start(f.log)) {
        low += 1;
    }
    if (low == f.expected.count) {
        return ERR_OK;
    }
    offset = f.expected.batches[low + fixture_random(&f, f.expected.count - low)].base_offset;
    if (f.options.durable_end > offset) {
        f.options.durable_end = offset;
    }
    expected_truncate_back(&f.expected, offset);
    return log_truncate_back(f.log, offset, NULL);
}

static enum err step_truncate_front(void)
{
    uint64_t offset = log_start(f.log) + fixture_random(&f, log_end(f.log) - log_start(f.log) + 1);

    start = offset;
    return log_truncate_front(f.log, offset, NULL);
}

static enum err step_reset(void)
{
    uint64_t next = fixture_random(&f, 2 * log_end(f.log) + 1);

    if (f.options.durable_end > next) {
        f.options.durable_end = next;
    }
    f.expected = (struct expected){.start = next};
    start = start < next ? start : next;
    return log_reset(f.log, next, NULL);
}

static enum err step(void)
{
    uint64_t dice = fixture_random(&f, 100);

    before = f.expected;
    if (dice < 60) {
        return step_append();
    }
    if (dice < 80) {
        return step_sync();
    }
    if (dice < 88) {
        return step_truncate_back();
    }
    return dice < 96 ? step_truncate_front() : step_reset();
}

/* Opens what the crash left. */
static void open_after_crash(void)
{
    const struct expected *kept;
    struct err_info info = {0};
    enum err err;
    uint64_t end;

    /* What it remembers for certain is of the moment of the last sync. */
    if (start > f.options.durable_end) {
        start = f.options.durable_end;
    }
    f.options.start = start;
    err = log_open(&f.options, &f.log, &f.report, &info);
    ck_assert_msg(err == ERR_OK, "%s", info.text);
    log_check(f.log);
    end = log_end(f.log);
    ck_assert_uint_ge(end, f.options.durable_end);
    ck_assert(log_start(f.log) >= start || log_start(f.log) == end);
    kept = fixture_holds_part_of(&f, &f.expected) ? &f.expected : &before;
    ck_assert_msg(fixture_holds_part_of(&f, kept), "[%llu, %llu) was never there",
                  (unsigned long long)log_start(f.log), (unsigned long long)end);
    f.expected = *kept;
    expected_truncate_back(&f.expected, end);
    if (expected_end(&f.expected) != end) {
        f.expected = (struct expected){.start = end};
    }
    start = log_start(f.log);
    fixture_verify(&f); /* bodies too */
}

static void run(uint64_t seed)
{
    unsigned crashes = 0;

    fixture_init(&f);
    f.random = seed;
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "log", 0750), 0);
    ck_assert_int_eq(disk.io.sync_dir(&disk.io, "/"), 0);
    f.options.io = &disk.io;
    f.options.dir = "log";
    start = 0;
    fixture_open(&f);
    for (int round = 0; round < ROUNDS; round++) {
        calls = 0;
        die_at = 1 + (unsigned)fixture_random(&f, 150);
        mem_io_set_hook(&disk, die, NULL);
        for (int i = 0; i < STEPS && log_healthy(f.log); i++) {
            if (step() != ERR_OK) {
                break;
            }
        }
        crashes += log_healthy(f.log) ? 0 : 1;
        die_at = 0; /* Closing touches nothing. */
        fixture_close(&f);
        mem_io_set_hook(&disk, NULL, NULL);
        mem_io_crash(&disk, draw, &f);
        open_after_crash();
    }
    ck_assert_uint_gt(crashes, ROUNDS / 5);
    fixture_close(&f);
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    ck_assert_uint_eq(mem_io_mapped_count(&disk), 0);
    mem_io_fini(&disk);
    fixture_fini(&f);
}

START_TEST(what_was_synced_survives_and_nothing_is_invented)
{
    run((uint64_t)_i * 7919);
}
END_TEST

static int fail_syncs(void *arg, struct mem_io_op *op)
{
    (void)arg;
    return op->kind == MEM_IO_FDATASYNC ? EIO : 0;
}

static uint64_t lose_all(void *arg)
{
    (void)arg;
    return 1; /* Nothing that is dirty survives. */
}

/* The kernel marks pages clean when it cannot write them: the next process reads them, and no sync
 * of its own would ever write them. */
START_TEST(what_a_failed_sync_left_in_the_cache_is_on_the_disk_after_the_next_ones_sync)
{
    fixture_init(&f);
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "log", 0750), 0);
    ck_assert_int_eq(disk.io.sync_dir(&disk.io, "/"), 0);
    f.options.io = &disk.io;
    f.options.dir = "log";
    fixture_open(&f);
    fixture_fill(&f, 5);
    if (_i > 0) { /* A part of it is durable. */
        ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
        f.options.durable_end = log_end(f.log);
        fixture_fill(&f, (unsigned)_i);
    }
    mem_io_set_hook(&disk, fail_syncs, NULL);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_IO);
    fixture_close(&f);
    mem_io_kill(&disk);
    mem_io_set_hook(&disk, NULL, NULL);
    fixture_open(&f);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    f.options.durable_end = log_end(f.log);
    fixture_close(&f);
    mem_io_crash(&disk, lose_all, NULL);
    fixture_open(&f); /* All is there. */
    fixture_close(&f);
    mem_io_fini(&disk);
    fixture_fini(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/power");
    TCase *tcase = tcase_create("power");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, what_was_synced_survives_and_nothing_is_invented, 1, 1 + SEEDS);
    tcase_add_loop_test(
        tcase, what_a_failed_sync_left_in_the_cache_is_on_the_disk_after_the_next_ones_sync, 0, 40);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
