/*
 * Holes under faults: each call of each operation fails once, and power is lost in the middle of
 * anything. Afterwards the log opens, what it shows is true, and of what was synced nothing is
 * missing that no punch was told to take.
 */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "log/hole_lab.h"
#include "log/log.h"
#include "sim/mem_io.h"

enum { CALLS_MAX = 800, ROUNDS = 40, STEPS = 12, SEEDS = 6 };

static struct hole_lab lab;
static struct faulty_io faulty;
static struct mem_io disk;
static bool durable[FIXTURE_BATCHES_MAX]; /* synced, and not punched since */
static unsigned calls;
static unsigned die_at;

static uint64_t base_of(size_t batch)
{
    return lab.f.expected.batches[batch].base_offset;
}

static void note_synced(void)
{
    memcpy(durable, lab.present, sizeof durable);
    lab.f.options.durable_end = log_end(lab.f.log);
}

/* ---- each call in turn ---- */

typedef enum err (*operation)(void);

static enum err skip(void)
{
    return hole_lab_skip(&lab, 5);
}

static enum err skip_twice(void)
{
    enum err err = hole_lab_skip(&lab, 5);

    return err == ERR_OK ? hole_lab_skip(&lab, 5) : err;
}

static enum err fill_some(void)
{
    return hole_lab_fill(&lab, base_of(10), 12);
}

static enum err fill_all_and_sync(void)
{
    enum err err = hole_lab_fill_all(&lab);

    return err == ERR_OK ? log_sync(lab.f.log, NULL) : err;
}

static enum err punch(void)
{
    return hole_lab_punch(&lab, base_of(5), base_of(6));
}

static enum err punch_the_active_one(void)
{
    return hole_lab_punch(&lab, lab.end - 1, lab.end);
}

static enum err punch_all_and_fill(void)
{
    enum err err = hole_lab_punch(&lab, 0, lab.end);

    return err == ERR_OK ? fill_all_and_sync() : err;
}

static enum err punch_what_was_filled(void)
{
    enum err err = hole_lab_fill_all(&lab);

    return err == ERR_OK ? hole_lab_punch(&lab, base_of(15), base_of(16)) : err;
}

static enum err truncate_back_into_the_hole(void)
{
    enum err err = fill_some();
    uint64_t end = base_of(15);

    if (err == ERR_OK) {
        lab.f.options.durable_end = end;
        err = log_truncate_back(lab.f.log, end, NULL);
        lab.end = err == ERR_OK ? end : lab.end;
        for (size_t i = 15; i < lab.f.expected.count; i++) {
            lab.attempt[i] = lab.attempt[i] || lab.present[i];
            lab.present[i] = false;
        }
    }
    return err;
}

static enum err truncate_front_over_the_hole(void)
{
    enum err err = fill_some();

    if (err == ERR_OK) {
        lab.f.options.start = base_of(32); /* Decided before it is done. */
        err = log_truncate_front(lab.f.log, base_of(32), NULL);
    }
    return err;
}

struct scenario {
    const char *name;
    operation run;
    bool takes; /* Batches that were synced may be gone. */
};

static const struct scenario scenarios[] = {
    {"skip", skip, false},
    {"skip_twice", skip_twice, false},
    {"fill_some", fill_some, false},
    {"fill_all_and_sync", fill_all_and_sync, false},
    {"punch", punch, true},
    {"punch_the_active_one", punch_the_active_one, true},
    {"punch_all_and_fill", punch_all_and_fill, true},
    {"punch_what_was_filled", punch_what_was_filled, true},
    {"truncate_back_into_the_hole", truncate_back_into_the_hole, true},
    {"truncate_front_over_the_hole", truncate_front_over_the_hole, true},
};

/* On a disk in memory: there are thousands of them. */
static void make_disk(void)
{
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "log", 0750), 0);
    ck_assert_int_eq(disk.io.sync_dir(&disk.io, "/"), 0);
    lab.f.options.io = &disk.io;
    lab.f.options.dir = "log";
}

static void drop_disk(void)
{
    fixture_close(&lab.f);
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    ck_assert_uint_eq(mem_io_mapped_count(&disk), 0);
    mem_io_fini(&disk);
    hole_lab_fini(&lab);
}

static void prepare(void)
{
    hole_lab_init(&lab);
    make_disk();
    hole_lab_open(&lab);
    ck_assert_int_eq(hole_lab_append(&lab, 10), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 20), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 10), ERR_OK);
    ck_assert_int_eq(log_sync(lab.f.log, NULL), ERR_OK);
    note_synced();
    fixture_close(&lab.f);
    faulty_io_init(&faulty, &disk.io);
    lab.f.options.io = &faulty.io;
}

static void check_failed_state(void)
{
    size_t size;
    const uint8_t *bytes = hole_lab_bytes(&lab, 10, 11, &size);

    ck_assert_int_eq(log_skip(lab.f.log, lab.end + 1, NULL), ERR_FAILED);
    ck_assert_int_eq(log_fill(lab.f.log, bytes, size, NULL), ERR_FAILED);
    ck_assert_int_eq(log_punch(lab.f.log, 0, 1, NULL), ERR_FAILED);
}

static void check_afterwards(const struct scenario *scenario, enum err err)
{
    static bool present[FIXTURE_BATCHES_MAX];
    uint64_t end = lab.end;

    memcpy(present, lab.present, sizeof present);
    fixture_close(&lab.f);
    lab.f.options.io = &disk.io;
    hole_lab_open(&lab);
    ck_assert_uint_ge(log_end(lab.f.log), lab.f.options.durable_end);
    hole_lab_adopt(&lab); /* All of it is true. */
    for (size_t i = 0; i < lab.f.expected.count && base_of(i) < lab.end; i++) {
        ck_assert_msg(scenario->takes || !durable[i] || lab.present[i], "%s: batch %zu was synced",
                      scenario->name, i);
        if (err == ERR_OK && base_of(i) < end && base_of(i) < lab.f.options.durable_end &&
            base_of(i) >= lab.start) {
            ck_assert_msg(present[i] == lab.present[i], "%s: batch %zu", scenario->name, i);
        }
    }
    /* And it goes on. */
    lab.end = log_end(lab.f.log);
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    ck_assert_int_eq(log_sync(lab.f.log, NULL), ERR_OK);
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    fixture_close(&lab.f);
    lab.f.options.durable_end = lab.end;
    lab.f.options.start = lab.start;
    hole_lab_open(&lab);
    hole_lab_verify(&lab);
    ck_assert(!log_has_holes(lab.f.log));
}

static unsigned run_once(const struct scenario *scenario, unsigned nth, int errno_value,
                         bool sticky)
{
    unsigned first;
    unsigned count;
    enum err err;

    prepare();
    faulty_io_count_only(&faulty, FAULTY_WRITES);
    hole_lab_open(&lab);
    first = faulty_io_calls(&faulty);
    faulty_io_short_writes(&faulty, errno_value == EIO);
    faulty_io_fail_at(&faulty, nth, errno_value, sticky);
    err = scenario->run();
    count = faulty_io_calls(&faulty) - first;
    ck_assert_msg(nth != 0 || err == ERR_OK, "%s fails by itself: %s", scenario->name,
                  err_name(err));
    ck_assert(err == ERR_OK || err == ERR_IO || err == ERR_NOSPACE);
    ck_assert(IMPLIES(err == ERR_OK, log_healthy(lab.f.log)));
    faulty_io_fail_at(&faulty, 0, EIO, false);
    if (log_healthy(lab.f.log)) {
        log_check(lab.f.log);
    } else {
        check_failed_state();
    }
    check_afterwards(scenario, err);
    drop_disk();
    return count;
}

START_TEST(any_call_of_an_operation_on_holes_may_fail)
{
    const struct scenario *scenario = &scenarios[_i / 2];
    int errno_value = _i % 2 == 0 ? EIO : ENOSPC;
    unsigned count = run_once(scenario, 0, errno_value, false);

    ck_assert_uint_gt(count, 0);
    ck_assert_uint_lt(count, CALLS_MAX);
    for (unsigned n = 1; n <= count; n++) {
        (void)run_once(scenario, n, errno_value, n % 2 == 0);
    }
}
END_TEST

START_TEST(a_punch_without_room_changes_nothing)
{
    prepare();
    faulty_io_count_only(&faulty, FAULTY_WRITES);
    hole_lab_open(&lab);
    faulty_io_fail_at(&faulty, 2, ENOSPC, false); /* the first write of the copy */
    ck_assert_int_eq(log_punch(lab.f.log, base_of(1), base_of(2), NULL), ERR_NOSPACE);
    ck_assert(log_healthy(lab.f.log));
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    ck_assert_int_eq(hole_lab_punch(&lab, base_of(5), base_of(6)), ERR_OK);
    hole_lab_verify(&lab);
    drop_disk();
}
END_TEST

/* ---- power ---- */

static uint64_t draw(void *arg)
{
    return fixture_random(arg, UINT64_MAX);
}

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

static enum err step_fill(void)
{
    struct log_hole holes[20];
    size_t count = log_holes(lab.f.log, 0, holes, 20);

    return count == 0 ? ERR_OK
                      : hole_lab_fill(&lab, holes[fixture_random(&lab.f, count)].from,
                                      1 + (unsigned)fixture_random(&lab.f, 12));
}

static enum err step_punch(void)
{
    uint64_t from = lab.start + fixture_random(&lab.f, lab.end - lab.start + 1);
    enum err err = ERR_OK;

    if (from < lab.end) {
        err = hole_lab_punch(&lab, from, from + 1);
        for (size_t i = 0; i < lab.f.expected.count; i++) {
            durable[i] = durable[i] && lab.present[i] && err == ERR_OK;
        }
    }
    return err;
}

static enum err step(void)
{
    uint64_t dice = fixture_random(&lab.f, 100);
    enum err err;

    if (dice < 30) {
        return hole_lab_append(&lab, 1 + (unsigned)fixture_random(&lab.f, 6));
    }
    if (dice < 40) {
        return hole_lab_skip(&lab, 1 + (unsigned)fixture_random(&lab.f, 20));
    }
    if (dice < 70) {
        return step_fill();
    }
    if (dice < 80) {
        return step_punch();
    }
    err = log_sync(lab.f.log, NULL);
    if (err == ERR_OK) {
        note_synced();
    }
    return err;
}

static void open_after_crash(void)
{
    hole_lab_open(&lab);
    ck_assert_uint_ge(log_end(lab.f.log), lab.f.options.durable_end);
    ck_assert_uint_eq(log_start(lab.f.log), lab.start);
    hole_lab_adopt(&lab); /* All of it is true. */
    for (size_t i = 0; i < lab.f.expected.count; i++) {
        ck_assert_msg(!durable[i] || lab.present[i], "batch %zu was synced", i);
    }
    ck_assert_uint_eq(lab.f.report.damaged, 0); /* A crash is no damage. */
    hole_lab_verify(&lab);
    /* What was not synced is not known to be on the disk. */
    if (lab.end < expected_end(&lab.f.expected)) {
        ck_assert_int_eq(log_skip(lab.f.log, expected_end(&lab.f.expected), NULL), ERR_OK);
        lab.end = expected_end(&lab.f.expected);
    }
}

static void run(uint64_t seed)
{
    unsigned crashes = 0;

    hole_lab_init(&lab);
    memset(durable, 0, sizeof durable);
    lab.f.random = seed;
    make_disk();
    hole_lab_open(&lab);
    for (int round = 0; round < ROUNDS; round++) {
        calls = 0;
        die_at = 1 + (unsigned)fixture_random(&lab.f, 150);
        mem_io_set_hook(&disk, die, NULL);
        for (int i = 0; i < STEPS && log_healthy(lab.f.log); i++) {
            if (step() != ERR_OK) {
                break;
            }
        }
        crashes += log_healthy(lab.f.log) ? 0 : 1;
        die_at = 0; /* Closing touches nothing. */
        fixture_close(&lab.f);
        mem_io_set_hook(&disk, NULL, NULL);
        if (fixture_random(&lab.f, 4) == 0) {
            mem_io_kill(&disk);
        } else {
            mem_io_crash(&disk, draw, &lab.f);
        }
        open_after_crash();
    }
    ck_assert_uint_gt(crashes, ROUNDS / 5);
    drop_disk();
}

START_TEST(after_a_crash_what_was_synced_is_there_and_the_rest_is_true_or_a_hole)
{
    run((uint64_t)_i * 7919);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/holes_power");
    TCase *faults = tcase_create("faults");
    TCase *power = tcase_create("power");

    tcase_set_timeout(faults, 60);
    tcase_set_timeout(power, 60);
    tcase_add_loop_test(faults, any_call_of_an_operation_on_holes_may_fail, 0,
                        2 * (int)(sizeof scenarios / sizeof scenarios[0]));
    tcase_add_test(faults, a_punch_without_room_changes_nothing);
    tcase_add_loop_test(
        power, after_a_crash_what_was_synced_is_there_and_the_rest_is_true_or_a_hole, 1, 1 + SEEDS);
    suite_add_tcase(suite, faults);
    suite_add_tcase(suite, power);
    return runner_main(suite);
}
