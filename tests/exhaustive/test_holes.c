/*
 * Logs with holes: skipping, filling, syncing what was filled, making holes of damage, truncating
 * through them, and opening with them.
 *
 * The promise: what the log shows is true, of what was synced nothing is missing but what was to
 * go, and what is missing can be filled.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lib/exhaust.h"
#include "log/hole_lab.h"

static struct hole_lab lab;
static bool durable[FIXTURE_BATCHES_MAX]; /* synced, and nobody wanted it to go since */
static bool takes;                        /* Batches that were synced may be gone. */

static uint64_t base_of(size_t batch)
{
    return lab.f.expected.batches[batch].base_offset;
}

static void use(struct io *io)
{
    lab.f.options.io = io;
    lab.f.log = NULL;
}

/* All that is not in a hole. */
static void note_synced(void)
{
    struct log_hole hole = {0};

    for (size_t i = 0; i < lab.f.expected.count; i++) {
        durable[i] = base_of(i) < log_end(lab.f.log);
    }
    while (log_holes(lab.f.log, hole.to, &hole, 1) == 1) {
        for (size_t i = hole_lab_find(&lab, hole.from); i < hole_lab_find(&lab, hole.to); i++) {
            durable[i] = false;
        }
    }
    lab.f.options.durable_end = log_end(lab.f.log);
}

static void prepare(struct io *io)
{
    for (size_t i = 0; i < lab.f.expected.count; i++) {
        free(lab.raw[i]);
    }
    memset(&lab, 0, sizeof lab);
    lab.f.random = 1;
    lab.f.options = (struct log_options){
        .dir = "/log", .segment_size_max = 4096, .index_interval = 256, .holes_allowed = true};
    takes = false;
    ck_assert_int_eq(io->mkdir(io, "/log", 0750), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    use(io);
    hole_lab_open(&lab);
    ck_assert_int_eq(hole_lab_append(&lab, 10), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 20), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 10), ERR_OK);
    ck_assert_int_eq(log_sync(lab.f.log, NULL), ERR_OK);
    note_synced();
    fixture_close(&lab.f);
}

/* The last batch is damaged, and one is being filled. */
static void prepare_damage(struct io *io)
{
    struct log_chunk chunk;
    struct iovec part = {.iov_base = "damage", .iov_len = 6};

    prepare(io);
    hole_lab_open(&lab);
    ck_assert_int_eq(hole_lab_fill(&lab, base_of(10), 12), ERR_OK);
    ck_assert_int_eq(log_find(lab.f.log, base_of(39), UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(io_write(io, chunk.fd, "", &part, 1, chunk.position + 120, RWF_DSYNC, NULL),
                     ERR_OK);
    log_chunk_release(&chunk);
    fixture_close(&lab.f);
    takes = true;
}

/* ---- operations ---- */

static enum err skip(void)
{
    exhaust_pause();
    hole_lab_produce(&lab, 5);
    exhaust_resume();
    return log_skip(lab.f.log, expected_end(&lab.f.expected), NULL);
}

static enum err skip_twice(void)
{
    enum err err = skip();

    return err == ERR_OK ? skip() : err;
}

static enum err fill_some(void)
{
    return hole_lab_fill(&lab, base_of(10), 12);
}

/* Whatever is missing, as the log says. */
static enum err fill_all(void)
{
    struct log_hole hole;
    enum err err = ERR_OK;

    while (err == ERR_OK && log_holes(lab.f.log, 0, &hole, 1) == 1) {
        size_t from = hole_lab_find(&lab, hole.from);
        size_t to = hole_lab_find(&lab, hole.to);
        const uint8_t *bytes;
        size_t size;

        bytes = hole_lab_bytes(&lab, from, to < from + 7 ? to : from + 7, &size);
        err = log_fill(lab.f.log, bytes, size, NULL);
    }
    return err;
}

static enum err sync_all(void)
{
    enum err err = log_sync(lab.f.log, NULL);

    if (err == ERR_OK) {
        note_synced();
    }
    return err;
}

static enum err fill_all_and_sync(void)
{
    enum err err = fill_all();

    return err == ERR_OK ? sync_all() : err;
}

static enum err punch_at(uint64_t from, uint64_t to)
{
    struct batch_header header;
    enum err err;

    takes = true; /* A batch that cannot be read is damage, too. */
    err = log_punch(lab.f.log, from, to, NULL);
    if (exhaust_may_retry(log_healthy(lab.f.log) ? err : ERR_OK)) {
        err = log_punch(lab.f.log, from, to, NULL);
    }
    if (err == ERR_OK) {
        ck_assert_int_eq(log_read_header(lab.f.log, from, &header, NULL), ERR_HOLE);
        ck_assert_int_eq(log_read_header(lab.f.log, to - 1, &header, NULL), ERR_HOLE);
    }
    return err;
}

static enum err punch(void)
{
    return punch_at(base_of(5), base_of(6));
}

static enum err punch_the_active_one(void)
{
    return punch_at(lab.end - 1, lab.end);
}

static enum err punch_all_and_fill(void)
{
    enum err err = punch_at(0, lab.end);

    return err == ERR_OK ? fill_all_and_sync() : err;
}

static enum err punch_what_was_filled(void)
{
    enum err err = fill_all();

    return err == ERR_OK ? punch_at(base_of(15), base_of(16)) : err;
}

/* In steps, and then given up. */
static enum err punch_and_cancel(void)
{
    struct log_punch *punch;
    enum err err = log_punch_begin(lab.f.log, base_of(5), base_of(6), &punch, NULL);

    if (err == ERR_OK) {
        err = log_punch_run(punch, NULL);
        log_punch_cancel(punch);
    }
    return err;
}

static enum err truncate_back_into_the_hole(void)
{
    enum err err = fill_some();
    uint64_t end = base_of(15);

    if (err == ERR_OK) {
        takes = true;
        lab.f.options.durable_end = end;
        err = log_truncate_back(lab.f.log, end, NULL);
        lab.end = err == ERR_OK ? end : lab.end;
    }
    return err;
}

static enum err truncate_front_over_the_hole(void)
{
    enum err err = fill_some();

    if (err == ERR_OK) {
        takes = true;
        lab.f.options.start = base_of(32); /* Decided before it is done. */
        err = log_truncate_front(lab.f.log, base_of(32), NULL);
    }
    return err;
}

static void check_failed_state(void)
{
    const uint8_t *bytes;
    size_t size;

    bytes = hole_lab_bytes(&lab, 10, 11, &size);
    ck_assert_int_eq(log_skip(lab.f.log, lab.end + 1, NULL), ERR_FAILED);
    ck_assert_int_eq(log_fill(lab.f.log, bytes, size, NULL), ERR_FAILED);
    ck_assert_int_eq(log_punch(lab.f.log, 0, 1, NULL), ERR_FAILED);
}

static enum err open_then(struct io *io, enum err (*operation)(void))
{
    enum err err;

    use(io);
    hole_lab_open(&lab);
    exhaust_start();
    err = operation();
    if (err != ERR_OK && exhaust_heal()) {
        if (log_healthy(lab.f.log)) {
            log_check(lab.f.log);
        } else {
            check_failed_state();
        }
    }
    fixture_close(&lab.f);
    return err;
}

#define RUN(operation)                                                                             \
    static enum err run_##operation(struct io *io)                                                 \
    {                                                                                              \
        return open_then(io, operation);                                                           \
    }

RUN(skip)
RUN(skip_twice)
RUN(fill_some)
RUN(fill_all_and_sync)
RUN(punch)
RUN(punch_the_active_one)
RUN(punch_all_and_fill)
RUN(punch_what_was_filled)
RUN(punch_and_cancel)
RUN(truncate_back_into_the_hole)
RUN(truncate_front_over_the_hole)

static enum err run_open(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&lab.f);
    if (exhaust_may_retry(err)) {
        err = fixture_try_open(&lab.f);
    }
    fixture_close(&lab.f);
    return err;
}

/* ---- what is left ---- */

static void go_on(struct io *io)
{
    lab.start = log_start(lab.f.log);
    lab.end = log_end(lab.f.log);
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    ck_assert_int_eq(log_sync(lab.f.log, NULL), ERR_OK);
    hole_lab_verify(&lab);
    fixture_close(&lab.f);
    lab.f.options.durable_end = lab.end;
    lab.f.options.start = lab.start;
    use(io);
    hole_lab_open(&lab);
    hole_lab_verify(&lab);
    ck_assert(!log_has_holes(lab.f.log));
}

static enum err recover(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&lab.f);
    if (err == ERR_OK && !exhaust_is_dead()) {
        log_check(lab.f.log);
        ck_assert_uint_ge(log_end(lab.f.log), lab.f.options.durable_end);
        exhaust_pause();
        hole_lab_adopt(&lab); /* All of it is true. */
        exhaust_resume();
        for (size_t i = 0; i < lab.f.expected.count && base_of(i) < lab.end; i++) {
            ck_assert_msg(takes || !durable[i] || lab.present[i], "batch %zu was synced", i);
        }
        if (exhaust_is_last()) {
            go_on(io);
        }
    }
    fixture_close(&lab.f);
    return err;
}

#define OPERATION(name)                                                                            \
    {                                                                                              \
#name, prepare, run_##name, recover, 0                                                     \
    }

static const struct exhaust_scenario scenarios[] = {
    {"open", prepare, run_open, recover, EXHAUST_TWICE},
    {"open_what_is_damaged", prepare_damage, run_open, recover, EXHAUST_TWICE},
    OPERATION(skip),
    OPERATION(skip_twice),
    {"fill_some", prepare, run_fill_some, recover, EXHAUST_TWICE},
    OPERATION(fill_all_and_sync),
    {"punch", prepare, run_punch, recover, EXHAUST_TWICE},
    OPERATION(punch_the_active_one),
    OPERATION(punch_all_and_fill),
    OPERATION(punch_what_was_filled),
    OPERATION(punch_and_cancel),
    OPERATION(truncate_back_into_the_hole),
    OPERATION(truncate_front_over_the_hole),
};

int main(void)
{
    return exhaust_main("holes", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
