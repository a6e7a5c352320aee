/*
 * A topic's log: opening a new one, one that is there, one that a crash tore; append and roll,
 * sync, truncation at both ends, reset, copying, reading, deleting. (Holes: test_holes.c.)
 *
 * The promise: what was synced is there, what was not is there as far as it verifies, nothing else
 * ever was; after a failed write the log refuses everything but reading.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/exhaust.h"
#include "log/log.h"
#include "log/log_fixture.h"

enum { SYNCED = 13 };

static struct fixture f;
static struct file_cache *files; /* of all of them, one after the other */
static struct expected before;   /* What was there when the operation began. */
static uint64_t durable_end;     /* What the owner knows to be durable, … */
static uint64_t start;           /* … and what it told log_truncate_front last. */

/* Two descriptors: most of what is not dirty is opened anew each time. */
static void make_files(void)
{
    const struct file_cache_options options = {
        .descriptors_max = 2, .descriptors_limit = 10000, .mapped_max = 200};

    if (files == NULL) {
        exhaust_pause();
        files = file_cache_new(&options);
        ck_assert_ptr_nonnull(files);
        exhaust_resume();
    }
}

static void use(struct io *io)
{
    make_files();
    f.options = (struct log_options){
        .io = io, .files = files, .dir = "/log", .segment_size_max = 4096, .index_interval = 256};
    f.options.durable_end = durable_end;
    f.options.start = start < durable_end ? start : durable_end;
    f.log = NULL;
}

static void sync_log(void)
{
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    durable_end = log_end(f.log);
}

static void prepare_nothing(struct io *io)
{
    f.expected = (struct expected){.start = 0};
    before.start = before.count = 0;
    f.random = 1;
    durable_end = 0;
    start = 0;
    ck_assert_int_eq(io->mkdir(io, "/log", 0750), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    use(io);
}

static void note_before(void)
{
    before.start = f.expected.start;
    before.count = f.expected.count;
    memcpy(before.batches, f.expected.batches, f.expected.count * sizeof f.expected.batches[0]);
}

/* Two segments, the second one half full, and three batches that are not synced. */
static void prepare(struct io *io)
{
    prepare_nothing(io);
    fixture_open(&f);
    fixture_fill(&f, SYNCED);
    sync_log();
    fixture_fill(&f, 3);
    note_before();
    fixture_close(&f);
}

static void rewrite(struct io *io, const char *name, uint64_t at, const char *bytes, size_t size)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "/log/%s", name); /* fits */
    ck_assert_int_eq(io_open(io, path, O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_write(io, fd, path, &part, 1, at, 0, NULL), ERR_OK);
    io_close(io, &fd);
}

/* All that recovery has to do: an index is missing, a temporary and an index without a store are
 * left over, the start is above the first segment, and a tail does not verify. */
static void prepare_damage(struct io *io)
{
    prepare_nothing(io);
    fixture_open(&f);
    fixture_fill(&f, 33);
    sync_log();
    fixture_fill(&f, 12);
    fixture_close(&f);
    ck_assert_int_eq(io->unlink(io, "/log/00000000000000000020.index"), 0);
    rewrite(io, "00000000000000000080.store", 2500, "damage", 6);
    rewrite(io, "00000000000000000007.store.tmp", 0, "left", 4);
    rewrite(io, "00000000000000000009.index", 0, "over", 4);
    start = 25;
    note_before();
}

/* ---- operations ---- */

static enum err append_some(void)
{
    enum err err = ERR_OK;

    for (int i = 0; err == ERR_OK && i < 14; i++) { /* rolls twice */
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
    uint64_t end = log_end(f.log);
    enum err err = log_sync(f.log, NULL);

    durable_end = err == ERR_OK ? end : durable_end;
    return err;
}

static enum err append_and_sync(void)
{
    enum err err = append_some();

    return err == ERR_OK ? sync_all() : err;
}

/* In three steps, with an append in between. */
static enum err sync_while_appending(void)
{
    uint64_t end = log_end(f.log);
    struct log_sync *sync = NULL;
    enum err err = log_sync_begin(f.log, &sync);
    enum err appended = ERR_OK;

    if (err == ERR_OK && sync != NULL) {
        enum err run = log_sync_run(sync, NULL);

        appended = append_some();
        err = log_sync_end(f.log, sync);
        ck_assert(run == ERR_OK || err == run);
    }
    durable_end = err == ERR_OK ? end : durable_end;
    return err == ERR_OK ? appended : err;
}

static enum err truncate_front(uint64_t offset)
{
    start = offset; /* Decided before it is done. */
    expected_truncate_front(&f.expected, offset);
    return log_truncate_front(f.log, offset, NULL);
}

static enum err truncate_front_to_the_middle(void)
{
    return truncate_front(25);
}

static enum err truncate_front_to_the_end(void)
{
    return truncate_front(log_end(f.log));
}

/* The start is nowhere but here: what was there is there after a crash. */
static enum err raise_start_to_the_middle(void)
{
    return log_raise_start(f.log, 25, NULL);
}

/* And then it is durable elsewhere, and files go. */
static enum err raise_start_and_remove(uint64_t offset)
{
    enum err err = log_raise_start(f.log, offset, NULL);

    if (err == ERR_OK) {
        err = sync_all();
    }
    if (err == ERR_OK) {
        start = offset;
        expected_truncate_front(&f.expected, offset);
        err = log_remove_passed(f.log, offset, UINT_MAX, NULL);
    }
    return err;
}

static enum err remove_passed_below_the_middle(void)
{
    return raise_start_and_remove(25);
}

static enum err remove_all_passed(void)
{
    return raise_start_and_remove(log_end(f.log));
}

static enum err truncate_back_to_the_middle(void)
{
    durable_end = durable_end < 10 ? durable_end : 10;
    expected_truncate_back(&f.expected, 10);
    return log_truncate_back(f.log, 10, NULL);
}

static enum err truncate_back_and_append(void)
{
    enum err err = truncate_back_to_the_middle();

    return err == ERR_OK ? append_and_sync() : err;
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

static enum err reset_to(uint64_t offset)
{
    durable_end = durable_end < offset ? durable_end : offset;
    f.expected.start = offset;
    f.expected.count = 0;
    start = start < offset ? start : offset;
    return log_reset(f.log, offset, NULL);
}

static enum err reset_above(void)
{
    return reset_to(100);
}

static enum err reset_to_a_segment(void)
{
    return reset_to(20);
}

static enum err reset_below(void)
{
    return reset_to(5);
}

static enum err reset_append_and_sync(void)
{
    enum err err = reset_to(20);

    return err == ERR_OK ? append_and_sync() : err;
}

/* Batches as another replica sends them: what an append of them here would leave. */
static enum err append_raw_some(void)
{
    static uint8_t bytes[9 * 1024];
    static uint8_t body[1024];
    size_t size = 0;

    for (int i = 0; i < 9; i++) {
        struct batch_header header;

        fixture_next(&f, 2, 300, &header, body);
        batch_header_encode(&header, bytes + size);
        memcpy(bytes + size + BATCH_HEADER_SIZE, body, 300);
        size += header.size;
        f.expected.batches[f.expected.count++] = header;
    }
    return log_append_raw(f.log, bytes, size, NULL);
}

static enum err read_all(void)
{
    enum err err = ERR_OK;

    for (uint64_t offset = 0; err == ERR_OK && offset < log_end(f.log);) {
        struct batch_header header;
        struct block *block;

        err = log_read_header(f.log, offset, &header, NULL);
        if (err == ERR_OK) {
            err = log_read(f.log, offset, UINT64_MAX, 2000, &block, &offset, NULL);
        }
        if (err == ERR_OK) {
            block_unref(block);
        }
    }
    ck_assert(log_healthy(f.log)); /* Whatever happened: nothing was to be changed. */
    return err;
}

static enum err read_raw(void)
{
    struct log_reader *reader;
    uint8_t data[1000];
    size_t size = 1;
    enum err err = log_reader_new(f.log, &reader);

    if (err != ERR_OK) {
        return err;
    }
    while (err == ERR_OK && size > 0) {
        err = log_reader_read(reader, data, sizeof data, &size, NULL);
    }
    log_reader_free(reader);
    ck_assert(log_healthy(f.log));
    return err;
}

/* The way it is written: reserved space, segments that end by age. */
static enum err append_reserved(void)
{
    const struct log_tuning tuning = {.segment_ms = 1, .preallocate = true};
    enum err err;

    log_configure(f.log, &tuning);
    err = append_some();
    return err == ERR_OK ? log_tick(f.log, INT64_MAX, NULL) : err;
}

/* What is closed after the sync is opened again. */
static enum err append_sync_and_append(void)
{
    enum err err = append_and_sync();

    return err == ERR_OK ? append_some() : err;
}

/* ---- running one ---- */

/* After a write that failed everything but reading is refused. */
static void check_failed_state(void)
{
    struct log_sync *sync;
    uint64_t end = log_end(f.log);

    ck_assert_int_eq(log_append_raw(f.log, (const uint8_t *)"x", 1, NULL), ERR_FAILED);
    ck_assert_int_eq(log_truncate_front(f.log, end, NULL), ERR_FAILED);
    ck_assert_int_eq(log_truncate_back(f.log, log_start(f.log), NULL), ERR_FAILED);
    ck_assert_int_eq(log_reset(f.log, 0, NULL), ERR_FAILED);
    ck_assert_int_eq(log_skip(f.log, end + 1, NULL), ERR_FAILED);
    ck_assert_int_eq(log_sync_begin(f.log, &sync), ERR_FAILED);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_FAILED);
    for (uint64_t offset = log_start(f.log); offset < end;) {
        struct block *block;

        ck_assert_int_eq(log_read(f.log, offset, UINT64_MAX, 1, &block, &offset, NULL), ERR_OK);
        block_unref(block);
    }
}

static enum err open_then(struct io *io, enum err (*operation)(void))
{
    enum err err;

    use(io);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    exhaust_start();
    err = operation();
    if (exhaust_may_retry(log_healthy(f.log) ? err : ERR_OK)) {
        err = operation();
    }
    if (err != ERR_OK && exhaust_heal()) {
        if (log_healthy(f.log)) {
            log_check(f.log); /* Only a read failed, or a hint, or nothing was done. */
        } else {
            check_failed_state();
        }
    }
    fixture_close(&f);
    return err;
}

#define RUN(operation)                                                                             \
    static enum err run_##operation(struct io *io)                                                 \
    {                                                                                              \
        return open_then(io, operation);                                                           \
    }

RUN(append_some)
RUN(sync_all)
RUN(append_reserved)
RUN(append_sync_and_append)
RUN(append_and_sync)
RUN(sync_while_appending)
RUN(truncate_front_to_the_middle)
RUN(truncate_front_to_the_end)
RUN(raise_start_to_the_middle)
RUN(remove_passed_below_the_middle)
RUN(remove_all_passed)
RUN(truncate_back_to_the_middle)
RUN(truncate_back_and_append)
RUN(truncate_back_under_a_reader)
RUN(reset_above)
RUN(reset_to_a_segment)
RUN(reset_below)
RUN(reset_append_and_sync)
RUN(append_raw_some)
RUN(read_all)
RUN(read_raw)

static enum err run_open(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    if (exhaust_may_retry(err)) {
        err = fixture_try_open(&f);
    }
    fixture_close(&f);
    return err;
}

static enum err run_open_and_use(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    err = err == ERR_OK ? append_and_sync() : err;
    fixture_close(&f);
    return err;
}

static enum err run_delete(struct io *io)
{
    enum err err;

    use(io);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    exhaust_start();
    err = log_delete(f.log, NULL);
    f.log = NULL;
    return err;
}

/* ---- what is left ---- */

static void go_on(struct io *io)
{
    uint64_t end = log_end(f.log);

    f.expected.start = end;
    f.expected.count = 0;
    start = log_start(f.log);
    fixture_fill(&f, 12);
    log_check(f.log);
    sync_log();
    fixture_close(&f);
    use(io);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    log_check(f.log);
    ck_assert_uint_eq(log_end(f.log), expected_end(&f.expected));
}

static enum err recover(struct io *io)
{
    uint64_t end;
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    if (err != ERR_OK || exhaust_is_dead()) {
        ck_assert_msg(exhaust_is_dead() || err == ERR_OK, "does not open: %s", err_name(err));
        fixture_close(&f);
        return ERR_IO;
    }
    log_check(f.log);
    ck_assert_msg(fixture_holds_part_of(&f, &f.expected) || fixture_holds_part_of(&f, &before),
                  "[%llu, %llu) was never there", (unsigned long long)log_start(f.log),
                  (unsigned long long)log_end(f.log));
    end = log_end(f.log);
    ck_assert_uint_ge(end, durable_end);
    if (exhaust_succeeded() && !exhaust_crashed()) {
        ck_assert_uint_eq(end, expected_end(&f.expected));
    }
    if (exhaust_is_last()) {
        go_on(io);
    }
    fixture_close(&f);
    return ERR_OK;
}

static enum err recover_damage(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    if (err == ERR_OK && !exhaust_is_dead()) {
        log_check(f.log);
        ck_assert_uint_ge(log_end(f.log), durable_end);
        ck_assert_uint_eq(log_start(f.log), 25);
        ck_assert(fixture_holds_part_of(&f, &before));
    }
    fixture_close(&f);
    return err;
}

/* It is there and what it was, or it is gone, and deleting it again works. */
static enum err recover_deleted(struct io *io)
{
    uint64_t size;
    int fd = io->open(io, "/log", O_RDONLY | O_DIRECTORY, 0);
    enum err err;

    (void)size;
    if (fd < 0) {
        ck_assert(exhaust_is_dead() || fd == -ENOENT);
        return exhaust_is_dead() ? ERR_IO : ERR_OK;
    }
    ck_assert(exhaust_is_dead() || !exhaust_succeeded());
    (void)io->close(io, fd); /* Read only. */
    durable_end = 0;         /* It was to be deleted. */
    use(io);
    err = fixture_try_open(&f);
    if (err == ERR_OK && !exhaust_is_dead()) {
        ck_assert(fixture_holds_part_of(&f, &before));
    }
    if (err == ERR_OK) {
        err = log_delete(f.log, NULL);
        f.log = NULL;
    }
    return err;
}

#define OPERATION(name)                                                                            \
    {                                                                                              \
#name, prepare, run_##name, recover, 0                                                     \
    }

static const struct exhaust_scenario scenarios[] = {
    {"open_a_new_one", prepare_nothing, run_open, recover, EXHAUST_TWICE},
    {"open", prepare, run_open, recover, EXHAUST_TWICE},
    {"open_and_use_a_new_one", prepare_nothing, run_open_and_use, recover, 0},
    {"open_what_is_damaged", prepare_damage, run_open, recover_damage, EXHAUST_TWICE},
    OPERATION(append_some),
    OPERATION(sync_all),
    OPERATION(append_reserved),
    OPERATION(append_sync_and_append),
    OPERATION(append_and_sync),
    OPERATION(sync_while_appending),
    OPERATION(truncate_front_to_the_middle),
    OPERATION(truncate_front_to_the_end),
    OPERATION(raise_start_to_the_middle),
    OPERATION(remove_passed_below_the_middle),
    OPERATION(remove_all_passed),
    OPERATION(truncate_back_to_the_middle),
    OPERATION(truncate_back_and_append),
    OPERATION(truncate_back_under_a_reader),
    OPERATION(reset_above),
    OPERATION(reset_to_a_segment),
    OPERATION(reset_below),
    OPERATION(reset_append_and_sync),
    OPERATION(append_raw_some),
    OPERATION(read_all),
    OPERATION(read_raw),
    {"delete", prepare, run_delete, recover_deleted, EXHAUST_TWICE},
};

int main(void)
{
    return exhaust_main("log", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
