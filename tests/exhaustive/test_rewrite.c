/*
 * Rewriting sealed segments: one, three that become one, again, and what else may happen to the log
 * before, in between and after, up to opening what a crash left of it.
 *
 * The promise: each batch that was synced is there, as it was or as it was rewritten; nothing is
 * there twice, and once the log was opened and synced no file is there that is none of its
 * segments'.
 */
#include <check.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/exhaust.h"
#include "log/log.h"
#include "log/log_fixture.h"
#include "log/segment.h"

enum { BATCHES = 45, SYNCED = 33, PER_SEGMENT = 20, VERSIONS_MAX = 12 };

static struct fixture f;
static struct file_cache *files;               /* of all of them, one after the other */
static struct expected versions[VERSIONS_MAX]; /* What was, or may have become, of the batches. */
static size_t version_count;
static uint64_t durable_end;
static uint64_t start;
static bool holes; /* Some may be made. */

static void use(struct io *io)
{
    const struct file_cache_options options = {
        .descriptors_max = 2, .descriptors_limit = 10000, .mapped_max = 200};

    if (files == NULL) {
        exhaust_pause();
        files = file_cache_new(&options);
        ck_assert_ptr_nonnull(files);
        exhaust_resume();
    }
    f.options = (struct log_options){
        .io = io, .files = files, .dir = "/log", .segment_size_max = 4096, .index_interval = 256};
    f.options.durable_end = durable_end;
    f.options.start = start < durable_end ? start : durable_end;
    f.options.holes_allowed = holes;
    f.log = NULL;
}

static void note_version(void)
{
    ck_assert_uint_lt(version_count, VERSIONS_MAX);
    versions[version_count].start = f.expected.start;
    versions[version_count].count = f.expected.count;
    memcpy(versions[version_count].batches, f.expected.batches,
           f.expected.count * sizeof f.expected.batches[0]);
    version_count += 1;
}

/* Segments from 0, 20, 40, 60, of which the last is not sealed when it is synced, and 80. */
static void prepare(struct io *io)
{
    f.expected = (struct expected){.start = 0};
    f.random = 1;
    version_count = 0;
    durable_end = 0;
    start = 0;
    holes = false;
    ck_assert_int_eq(io->mkdir(io, "/log", 0750), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    use(io);
    fixture_open(&f);
    fixture_fill(&f, SYNCED);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    durable_end = log_end(f.log);
    fixture_fill(&f, BATCHES - SYNCED);
    note_version();
    fixture_close(&f);
}

/* ---- operations ---- */

static struct rewriting segments(unsigned first, unsigned last)
{
    return (struct rewriting){
        .from = first * PER_SEGMENT, .to = last * PER_SEGMENT, .run = 3, .body_size = 150};
}

/* What it may leave from now on. */
static void expect_rewriting(const struct rewriting *rewriting)
{
    exhaust_pause();
    expected_rewrite(&f.expected, rewriting);
    note_version();
    exhaust_resume();
}

static enum err rewrite(unsigned first, unsigned last)
{
    const struct rewriting rewriting = segments(first, last);
    struct log_rewrite *rewrite = NULL;
    enum err err;

    expect_rewriting(&rewriting);
    err = fixture_begin_rewrite(&f, rewriting.from, rewriting.to, &rewrite);
    return err == ERR_OK ? log_rewrite_end(f.log, rewrite, NULL) : err;
}

static enum err sync_all(void)
{
    uint64_t end = log_end(f.log);
    enum err err = log_sync(f.log, NULL);

    durable_end = err == ERR_OK && end > durable_end ? end : durable_end;
    return err;
}

static enum err rewrite_one(void)
{
    return rewrite(1, 2);
}

static enum err rewrite_three(void)
{
    return rewrite(0, 3);
}

/* Half of it was never synced. */
static enum err rewrite_what_is_not_durable(void)
{
    return rewrite(2, 4);
}

static enum err rewrite_and_sync(void)
{
    enum err err = rewrite(1, 4);

    return err == ERR_OK ? sync_all() : err;
}

/* Once more what was superseded goes with the next sync. */
static enum err rewrite_and_sync_twice(void)
{
    enum err err = rewrite_and_sync();

    return err == ERR_OK ? sync_all() : err;
}

static enum err rewrite_again(void)
{
    enum err err = rewrite(0, 2);

    return err == ERR_OK ? rewrite(0, 3) : err;
}

static enum err rewrite_sync_and_rewrite_again(void)
{
    enum err err = rewrite(1, 3);

    err = err == ERR_OK ? sync_all() : err;
    return err == ERR_OK ? rewrite(1, 4) : err;
}

static enum err rewrite_and_cancel(void)
{
    const struct rewriting rewriting = segments(1, 3);
    struct log_rewrite *rewrite = NULL;
    enum err err;

    exhaust_pause();
    expected_rewrite(&f.expected, &rewriting);
    exhaust_resume();
    err = fixture_begin_rewrite(&f, rewriting.from, rewriting.to, &rewrite);
    if (err == ERR_OK) {
        log_rewrite_cancel(f.log, rewrite);
    }
    return err == ERR_OK && !log_healthy(f.log) ? ERR_IO : err;
}

/* Beside a sync that began before. */
static enum err rewrite_while_syncing(void)
{
    uint64_t end = log_end(f.log);
    struct log_sync *sync = NULL;
    enum err err = log_sync_begin(f.log, &sync);
    enum err rewritten;

    if (err != ERR_OK) {
        return err;
    }
    rewritten = rewrite(2, 4);
    if (sync != NULL) {
        (void)log_sync_run(sync, NULL); /* end says the same */
        err = log_sync_end(f.log, sync);
        durable_end = err == ERR_OK ? end : durable_end;
    }
    return err == ERR_OK ? rewritten : err;
}

static enum err truncate_back(uint64_t end)
{
    durable_end = durable_end < end ? durable_end : end;
    return log_truncate_back(f.log, end, NULL);
}

static enum err rewrite_and_truncate_back(void)
{
    enum err err = rewrite(1, 4);

    err = err == ERR_OK ? truncate_back(20 + 12) : err;
    for (int i = 0; i < 20 && err == ERR_OK; i++) { /* over the names of all that there were */
        exhaust_pause();
        expected_truncate_back(&f.expected, log_end(f.log));
        exhaust_resume();
        err = fixture_try_append(&f, 2, 300);
        if (err == ERR_OK && i == 19) {
            note_version();
        }
    }
    return err;
}

static enum err rewrite_and_truncate_front_into_it(void)
{
    enum err err = rewrite(0, 3);

    start = err == ERR_OK ? 47 : start; /* Decided before it is done. */
    return err == ERR_OK ? log_truncate_front(f.log, start, NULL) : err;
}

static enum err rewrite_and_truncate_front_over_it(void)
{
    enum err err = rewrite(0, 3);

    start = err == ERR_OK ? 62 : start;
    return err == ERR_OK ? log_truncate_front(f.log, start, NULL) : err;
}

static enum err rewrite_and_raise_start(void)
{
    enum err err = rewrite(0, 3);

    err = err == ERR_OK ? log_raise_start(f.log, 62, NULL) : err;
    err = err == ERR_OK ? sync_all() : err;
    start = err == ERR_OK ? 62 : start;
    return err == ERR_OK ? log_remove_passed(f.log, 62, UINT_MAX, NULL) : err;
}

static enum err rewrite_and_reset(void)
{
    enum err err = rewrite(0, 3);

    if (err == ERR_OK) {
        durable_end = 0;
        start = 0;
        f.expected = (struct expected){.start = 20};
        note_version();
        err = log_reset(f.log, 20, NULL);
    }
    return err;
}

static enum err rewrite_and_punch(void)
{
    enum err err = rewrite(0, 3);

    holes = true;
    return err == ERR_OK ? log_punch(f.log, 26, 27, NULL) : err;
}

static enum err punch_before_the_end(void)
{
    const struct rewriting rewriting = segments(0, 3);
    struct log_rewrite *rewrite = NULL;
    enum err err;

    expect_rewriting(&rewriting);
    err = fixture_begin_rewrite(&f, rewriting.from, rewriting.to, &rewrite);
    if (err == ERR_OK) {
        enum err punched;

        holes = true;
        punched = log_punch(f.log, 26, 27, NULL);
        err = log_rewrite_end(f.log, rewrite, NULL);
        if (punched == ERR_OK && err == ERR_AGAIN) {
            err = ERR_OK; /* as it should be */
        }
        err = punched == ERR_OK ? err : punched;
    }
    return err;
}

/* ---- running one ---- */

/* The batch that holds offset is one that was put there, wholly; where it ends. */
static uint64_t check_batch(uint64_t offset)
{
    struct batch_header header = {0};
    struct block *block = NULL;
    uint64_t end = 0;

    ck_assert_int_eq(log_read_header(f.log, offset, &header, NULL), ERR_OK);
    ck_assert_int_eq(log_read(f.log, offset, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
    ck_assert_uint_eq(block->size, header.size);
    block_unref(block);
    for (size_t v = 0; v < version_count; v++) {
        for (size_t i = 0; i < versions[v].count; i++) {
            const struct batch_header *batch = &versions[v].batches[i];

            if (batch->base_offset == header.base_offset &&
                batch_end_offset(batch) == batch_end_offset(&header) &&
                batch->body_crc32c == header.body_crc32c) {
                return end;
            }
        }
    }
    ck_abort_msg("[%llu, %llu) was never there", (unsigned long long)header.base_offset,
                 (unsigned long long)end);
    return end;
}

/* All that there is: true, and without a gap that nobody made. */
static void check_all(void)
{
    uint64_t offset = log_start(f.log);

    while (offset < log_end(f.log)) {
        struct log_hole hole = {0};

        if (log_holes(f.log, offset, &hole, 1) == 1 && hole.from <= offset) {
            ck_assert(holes);
            offset = hole.to;
        } else {
            offset = check_batch(offset);
        }
    }
    log_check(f.log);
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
        struct log_rewrite *rewrite;

        if (log_healthy(f.log)) {
            check_all();
        } else {
            ck_assert_int_eq(log_rewrite_begin(f.log, 0, 20, &rewrite, NULL), ERR_FAILED);
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

RUN(rewrite_one)
RUN(rewrite_three)
RUN(rewrite_what_is_not_durable)
RUN(rewrite_and_sync)
RUN(rewrite_and_sync_twice)
RUN(rewrite_again)
RUN(rewrite_sync_and_rewrite_again)
RUN(rewrite_and_cancel)
RUN(rewrite_while_syncing)
RUN(rewrite_and_truncate_back)
RUN(rewrite_and_truncate_front_into_it)
RUN(rewrite_and_truncate_front_over_it)
RUN(rewrite_and_raise_start)
RUN(rewrite_and_reset)
RUN(rewrite_and_punch)
RUN(punch_before_the_end)

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

static enum err run_open_and_sync(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    err = err == ERR_OK ? sync_all() : err;
    fixture_close(&f);
    return err;
}

/* ---- what it finds ---- */

/* Rewritten, and closed before a sync: the old files are there. */
static void prepare_leftovers(struct io *io)
{
    prepare(io);
    use(io);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    ck_assert_int_eq(rewrite(0, 4), ERR_OK);
    fixture_close(&f);
}

static void prepare_leftovers_below_the_start(struct io *io)
{
    prepare_leftovers(io);
    start = 47;
}

static void prepare_leftovers_where_holes_may_be(struct io *io)
{
    prepare_leftovers(io);
    f.options.holes_allowed = true;
    durable_end = 33; /* in the middle of a batch */
}

/* ---- what is left ---- */

static int check_name(void *arg, const char *name)
{
    struct log_extent extent = {.base_offset = 0};
    enum segment_file file;
    uint64_t base;
    bool first;

    (void)arg;
    ck_assert_msg(segment_parse_name(name, &base, &file), "%s", name);
    ck_assert_msg(file == SEGMENT_STORE || file == SEGMENT_INDEX, "%s", name);
    /* The first segment may begin below the start. */
    first = log_extent_at(f.log, log_start(f.log), &extent, NULL) == ERR_OK &&
            extent.base_offset == base;
    if (!first && base < log_end(f.log)) {
        ck_assert_msg(log_extent_at(f.log, base, &extent, NULL) == ERR_OK &&
                          extent.base_offset == base,
                      "%s is left over", name);
    }
    return 0;
}

static void go_on(struct io *io)
{
    uint64_t end = log_end(f.log);

    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    if (!log_has_holes(f.log)) {
        ck_assert_int_eq(io->list(io, "/log", check_name, NULL), 0);
    }
    durable_end = end;
    start = log_start(f.log);
    fixture_close(&f);
    use(io);
    ck_assert_int_eq(fixture_try_open(&f), ERR_OK);
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(f.report.damaged, 0);
    ck_assert_uint_eq(log_end(f.log), end);
    check_all();
    if (!log_has_holes(f.log) && start < 60 && end >= 60) { /* It can be done again. */
        struct log_extent extent = {.base_offset = 0};
        struct log_rewrite *again;

        ck_assert_int_eq(log_extent_at(f.log, start, &extent, NULL), ERR_OK);
        if (extent.sealed) {
            ck_assert_int_eq(
                log_rewrite_begin(f.log, extent.base_offset, extent.end_offset, &again, NULL),
                ERR_OK);
            log_rewrite_cancel(f.log, again);
        }
    }
}

static enum err recover(struct io *io)
{
    enum err err;

    use(io);
    err = fixture_try_open(&f);
    if (err != ERR_OK || exhaust_is_dead()) {
        ck_assert_msg(exhaust_is_dead() || err == ERR_OK, "does not open: %s", err_name(err));
        fixture_close(&f);
        return ERR_IO;
    }
    ck_assert_uint_le(log_start(f.log), start);
    ck_assert_uint_ge(log_end(f.log), durable_end);
    ck_assert_uint_eq(f.report.damaged, 0);
    check_all();
    if (exhaust_succeeded() && !exhaust_crashed() && !holes) {
        ck_assert_uint_eq(log_end(f.log), expected_end(&f.expected));
    }
    if (exhaust_is_last()) {
        go_on(io);
    }
    fixture_close(&f);
    return ERR_OK;
}

#define OPERATION(name)                                                                            \
    {                                                                                              \
#name, prepare, run_##name, recover, EXHAUST_TWICE                                         \
    }

static const struct exhaust_scenario scenarios[] = {
    OPERATION(rewrite_one),
    OPERATION(rewrite_three),
    OPERATION(rewrite_what_is_not_durable),
    OPERATION(rewrite_and_sync),
    {"rewrite_and_sync_twice", prepare, run_rewrite_and_sync_twice, recover, 0},
    {"rewrite_again", prepare, run_rewrite_again, recover, 0},
    {"rewrite_sync_and_rewrite_again", prepare, run_rewrite_sync_and_rewrite_again, recover, 0},
    {"rewrite_and_cancel", prepare, run_rewrite_and_cancel, recover, 0},
    {"rewrite_while_syncing", prepare, run_rewrite_while_syncing, recover, 0},
    {"rewrite_and_truncate_back", prepare, run_rewrite_and_truncate_back, recover, 0},
    {"rewrite_and_truncate_front_into_it", prepare, run_rewrite_and_truncate_front_into_it, recover,
     0},
    {"rewrite_and_truncate_front_over_it", prepare, run_rewrite_and_truncate_front_over_it, recover,
     0},
    {"rewrite_and_raise_start", prepare, run_rewrite_and_raise_start, recover, 0},
    {"rewrite_and_reset", prepare, run_rewrite_and_reset, recover, 0},
    {"rewrite_and_punch", prepare, run_rewrite_and_punch, recover, 0},
    {"punch_before_the_end", prepare, run_punch_before_the_end, recover, 0},
    {"open_leftovers", prepare_leftovers, run_open, recover, EXHAUST_TWICE},
    {"open_leftovers_and_sync", prepare_leftovers, run_open_and_sync, recover, EXHAUST_TWICE},
    {"open_leftovers_below_the_start", prepare_leftovers_below_the_start, run_open, recover,
     EXHAUST_TWICE},
    {"open_leftovers_where_holes_may_be", prepare_leftovers_where_holes_may_be, run_open, recover,
     EXHAUST_TWICE},
};

int main(void)
{
    return exhaust_main("rewrite", scenarios, sizeof scenarios / sizeof scenarios[0]);
}
