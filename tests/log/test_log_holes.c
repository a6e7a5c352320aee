/*
 * Holes: each kind by itself, and random histories of all of them against the truth.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "lib/runner.h"
#include "log/hole_lab.h"
#include "log/log.h"

enum { STEPS = 300 };

static struct hole_lab lab;
static struct log_hole hole;

static void setup(void)
{
    hole_lab_init(&lab);
    hole_lab_open(&lab);
}

static void teardown(void)
{
    hole_lab_fini(&lab);
}

static void reopen(void)
{
    fixture_close(&lab.f);
    lab.f.options.start = lab.start;
    hole_lab_open(&lab);
    hole_lab_verify(&lab);
}

static void sync_log(void)
{
    ck_assert_int_eq(log_sync(lab.f.log, NULL), ERR_OK);
    lab.f.options.durable_end = log_end(lab.f.log);
    log_check(lab.f.log);
}

static void flip(const char *path, size_t at)
{
    static uint8_t bytes[8192];
    size_t size = file_read(path, bytes, sizeof bytes);

    ck_assert_uint_lt(at, size);
    bytes[at] ^= 0x10;
    file_write(path, bytes, size);
}

static uint64_t base_of(size_t batch)
{
    return lab.f.expected.batches[batch].base_offset;
}

/* ---- skip ---- */

START_TEST(skip_leaves_a_hole_that_reads_say_and_appends_go_on_behind)
{
    struct block *block;
    struct log_chunk chunk;
    uint64_t end;

    ck_assert(!log_has_holes(lab.f.log));
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 5), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    /* A read from below stops at it. */
    ck_assert_int_eq(log_read(lab.f.log, 0, UINT64_MAX, 1 << 20, &block, &end, NULL), ERR_OK);
    ck_assert_uint_eq(end, base_of(3));
    block_unref(block);
    ck_assert_int_eq(log_find(lab.f.log, end, UINT64_MAX, 100, &chunk, NULL), ERR_HOLE);
    ck_assert(err_retryable(ERR_HOLE));
    sync_log();
    reopen();
}
END_TEST

START_TEST(skip_over_an_empty_log_moves_its_end_and_not_its_start)
{
    ck_assert_int_eq(hole_lab_skip(&lab, 4), ERR_OK);
    hole_lab_verify(&lab);
    ck_assert_uint_eq(log_start(lab.f.log), 0);
    ck_assert_int_eq(hole_lab_skip(&lab, 2), ERR_OK); /* again, from the empty segment */
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    ck_assert_uint_eq(log_segment_count(lab.f.log), 1);
    sync_log();
    reopen();
}
END_TEST

START_TEST(skip_below_the_end_is_refused_and_to_the_end_is_nothing)
{
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(log_skip(lab.f.log, lab.end - 1, NULL), ERR_RANGE);
    ck_assert_int_eq(log_skip(lab.f.log, lab.end, NULL), ERR_OK);
    hole_lab_verify(&lab);
    ck_assert_uint_eq(log_segment_count(lab.f.log), 1);
}
END_TEST

/* ---- fill ---- */

START_TEST(two_holes_are_filled_by_turns_and_become_ordinary)
{
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 20), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 20), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    while (log_has_holes(lab.f.log)) {
        struct log_hole holes[3];
        size_t count = log_holes(lab.f.log, 0, holes, 3);

        ck_assert_uint_le(count, 2);
        for (size_t i = 0; i < count; i++) {
            ck_assert_int_eq(hole_lab_fill(&lab, holes[i].from, 3), ERR_OK);
        }
        hole_lab_verify(&lab);
        log_check(lab.f.log);
    }
    ck_assert(file_exists(fixture_file(&lab.f, base_of(3), ".store.fill")));
    sync_log();
    ck_assert(!file_exists(fixture_file(&lab.f, base_of(3), ".store.fill")));
    ck_assert(file_exists(fixture_file(&lab.f, base_of(3), ".store")));
    ck_assert(file_exists(fixture_file(&lab.f, base_of(3), ".index")));
    hole_lab_verify(&lab);
    reopen();
    ck_assert_uint_eq(lab.f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(lab.f.report.holes, 0);
    lab.f.options.holes_allowed = false;
    reopen();
}
END_TEST

START_TEST(filling_goes_on_in_the_same_file_after_a_restart)
{
    unsigned count;

    ck_assert_int_eq(hole_lab_append(&lab, 1), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 6), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 1), ERR_OK);
    ck_assert_int_eq(hole_lab_fill(&lab, base_of(1), 1), ERR_OK);
    sync_log();
    count = log_segment_count(lab.f.log);
    reopen();
    ck_assert_uint_eq(log_holes(lab.f.log, 0, &hole, 1), 1);
    ck_assert_uint_eq(hole.from, base_of(2));
    ck_assert_uint_eq(lab.f.report.holes, 1);
    ck_assert_uint_eq(lab.f.report.missing, base_of(7) - base_of(2));
    ck_assert_uint_eq(lab.f.report.damaged, 0);
    ck_assert_int_eq(hole_lab_fill(&lab, base_of(2), 1), ERR_OK);
    ck_assert_uint_eq(log_segment_count(lab.f.log), count);
    hole_lab_verify(&lab);
}
END_TEST

START_TEST(what_does_not_belong_into_a_hole_changes_nothing)
{
    static uint8_t copy[1 << 16];
    const uint8_t *bytes;
    size_t size;

    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 5), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    bytes = hole_lab_bytes(&lab, 4, 5, &size); /* not its first */
    ck_assert_int_eq(log_fill(lab.f.log, bytes, size, NULL), ERR_RANGE);
    bytes = hole_lab_bytes(&lab, 1, 2, &size); /* not missing */
    ck_assert_int_eq(log_fill(lab.f.log, bytes, size, NULL), ERR_RANGE);
    bytes = hole_lab_bytes(&lab, 3, 4, &size);
    for (size_t at = 0; at < size; at += 7) { /* damaged anywhere */
        memcpy(copy, bytes, size);
        copy[at] ^= 1;
        ck_assert_int_ne(log_fill(lab.f.log, copy, size, NULL), ERR_OK);
    }
    ck_assert_int_eq(log_fill(lab.f.log, bytes, size - 1, NULL), ERR_CORRUPT);
    ck_assert(log_healthy(lab.f.log));
    hole_lab_verify(&lab);
    /* The good ones before a wrong one stay. */
    bytes = hole_lab_bytes(&lab, 3, 5, &size);
    memcpy(copy, bytes, size);
    copy[size - 1] ^= 1;
    ck_assert_int_eq(log_fill(lab.f.log, copy, size, NULL), ERR_CORRUPT);
    lab.present[3] = true;
    hole_lab_verify(&lab);
    log_check(lab.f.log);
}
END_TEST

START_TEST(a_batch_that_passes_the_end_of_a_hole_or_breaks_the_order_is_refused)
{
    struct batch_header header;
    uint8_t copy[2048];

    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 1), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    for (int field = 0; field < 5; field++) {
        header = lab.f.expected.batches[3];
        memcpy(copy, lab.raw[3], header.size);
        header.record_count += field == 0 ? 1 : 0;
        header.raft_index -= field == 1 ? 500 : 0;
        header.raft_index += field == 2 ? 500 : 0;
        header.append_time_us -= field == 3 ? 500 : 0;
        header.append_time_us += field == 4 ? 500 : 0;
        batch_header_encode(&header, copy);
        ck_assert_int_eq(log_fill(lab.f.log, copy, header.size, NULL), ERR_CORRUPT);
    }
    hole_lab_verify(&lab);
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    hole_lab_verify(&lab);
}
END_TEST

START_TEST(a_hole_at_the_start_is_filled_from_the_batch_that_holds_the_start)
{
    size_t n = 7;

    ck_assert_int_eq(hole_lab_skip(&lab, 30), ERR_OK);
    while (lab.f.expected.batches[n].record_count == 1) {
        n += 1;
    }
    ck_assert_uint_lt(n, 25);
    ck_assert_int_eq(log_truncate_front(lab.f.log, base_of(n) + 1, NULL), ERR_OK);
    lab.start = base_of(n) + 1;
    hole_lab_verify(&lab);
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    sync_log();
    reopen();
}
END_TEST

/* ---- punch ---- */

START_TEST(damage_in_a_sealed_segment_becomes_a_hole_and_can_be_filled)
{
    uint64_t count;
    struct block *block;
    uint64_t end;
    size_t bad = 12;

    ck_assert_int_eq(hole_lab_append(&lab, 40), ERR_OK);
    sync_log();
    count = log_segment_count(lab.f.log);
    hole_lab_damage(&lab, bad);
    ck_assert_int_eq(log_read(lab.f.log, base_of(bad), UINT64_MAX, 1, &block, &end, NULL),
                     ERR_CORRUPT);
    ck_assert_int_eq(hole_lab_punch(&lab, base_of(bad), base_of(bad + 1)), ERR_OK);
    ck_assert(!lab.present[bad] && lab.present[bad - 1]);
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    reopen(); /* The files say it. */
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    sync_log();
    ck_assert_uint_eq(log_segment_count(lab.f.log), count);
    hole_lab_verify(&lab);
    reopen();
    ck_assert_uint_eq(lab.f.report.holes, 0);
}
END_TEST

START_TEST(the_damaged_file_is_kept_until_there_is_no_hole)
{
    struct log_chunk chunk;
    uint64_t base;

    ck_assert_int_eq(hole_lab_append(&lab, 40), ERR_OK);
    sync_log();
    ck_assert_int_eq(log_find(lab.f.log, base_of(12), UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    log_chunk_release(&chunk);
    ck_assert_int_eq(hole_lab_punch(&lab, base_of(12), base_of(13)), ERR_OK);
    ck_assert_uint_eq(log_holes(lab.f.log, 0, &hole, 1), 1);
    for (base = base_of(12); !file_exists(fixture_file(&lab.f, base, ".store.damaged")); base--) {
        ck_assert_uint_gt(base, 0);
    }
    sync_log();
    reopen();
    ck_assert(file_exists(fixture_file(&lab.f, base, ".store.damaged")));
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    ck_assert(file_exists(fixture_file(&lab.f, base, ".store.damaged")));
    sync_log();
    ck_assert(!file_exists(fixture_file(&lab.f, base, ".store.damaged")));
    reopen();
}
END_TEST

START_TEST(damage_in_the_active_segment_leaves_the_end_where_it_is)
{
    ck_assert_int_eq(hole_lab_append(&lab, 4), ERR_OK);
    hole_lab_damage(&lab, 1);
    ck_assert_int_eq(hole_lab_punch(&lab, base_of(1), base_of(2)), ERR_OK);
    ck_assert(lab.present[0] && !lab.present[1] && !lab.present[2] && !lab.present[3]);
    hole_lab_verify(&lab);
    log_check(lab.f.log);
    ck_assert_int_eq(hole_lab_append(&lab, 4), ERR_OK);
    hole_lab_verify(&lab);
    sync_log();
    reopen();
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    hole_lab_verify(&lab);
}
END_TEST

START_TEST(damage_before_the_range_begins_the_hole)
{
    ck_assert_int_eq(hole_lab_append(&lab, 5), ERR_OK);
    hole_lab_damage(&lab, 2);
    ck_assert_int_eq(log_punch(lab.f.log, base_of(4), base_of(5 - 1) + 1, NULL), ERR_OK);
    ck_assert_uint_eq(log_holes(lab.f.log, 0, &hole, 1), 1);
    ck_assert_uint_eq(hole.from, base_of(2));
}
END_TEST

START_TEST(readers_in_the_middle_of_what_is_punched_are_not_disturbed)
{
    struct log_chunk chunk;
    struct log_reader *reader;
    uint8_t data[3000];
    size_t size;
    uint64_t total = 0;

    ck_assert_int_eq(hole_lab_append(&lab, 20), ERR_OK);
    ck_assert_int_eq(log_find(lab.f.log, base_of(2), UINT64_MAX, 1, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(log_reader_new(lab.f.log, &reader), ERR_OK);
    ck_assert_int_eq(hole_lab_punch(&lab, 0, lab.end), ERR_OK);
    ck_assert_int_eq(pread(chunk.fd, data, chunk.size, (off_t)chunk.position), (ssize_t)chunk.size);
    ck_assert_mem_eq(data, lab.raw[2], chunk.size);
    do {
        ck_assert_int_eq(log_reader_read(reader, data, sizeof data, &size, NULL), ERR_OK);
        total += size;
    } while (size > 0);
    (void)hole_lab_bytes(&lab, 0, 20, &size);
    ck_assert_uint_eq(total, size);
    log_reader_free(reader);
    log_chunk_release(&chunk);
    hole_lab_verify(&lab);
}
END_TEST

START_TEST(between_begin_and_end_of_a_punch_the_log_may_change)
{
    struct log_punch *punch;

    for (int change = 0; change < 4; change++) {
        teardown();
        setup();
        ck_assert_int_eq(hole_lab_append(&lab, 30), ERR_OK);
        ck_assert_int_eq(log_punch_begin(lab.f.log, base_of(5), base_of(6), &punch, NULL), ERR_OK);
        if (change == 0) { /* never run */
            ck_assert_int_eq(log_punch_end(lab.f.log, punch, NULL), ERR_CANCELED);
            hole_lab_verify(&lab);
            continue;
        }
        ck_assert_int_eq(log_punch_run(punch, NULL), ERR_OK);
        if (change == 1) {
            ck_assert_int_eq(log_truncate_front(lab.f.log, base_of(29), NULL), ERR_OK);
        } else if (change == 2) {
            ck_assert_int_eq(log_reset(lab.f.log, 7, NULL), ERR_OK);
        } else {
            ck_assert_int_eq(log_truncate_back(lab.f.log, base_of(4), NULL), ERR_OK);
        }
        ck_assert_int_eq(log_punch_end(lab.f.log, punch, NULL), ERR_OK);
        log_check(lab.f.log);
        ck_assert(!log_has_holes(lab.f.log));
        ck_assert(!file_exists(fixture_file(&lab.f, 0, ".store.fill.tmp")));
    }
}
END_TEST

START_TEST(a_punch_outside_of_the_log_is_refused_and_in_a_hole_does_nothing)
{
    ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
    ck_assert_int_eq(hole_lab_skip(&lab, 3), ERR_OK);
    ck_assert_int_eq(log_punch(lab.f.log, 1, lab.end + 1, NULL), ERR_RANGE);
    ck_assert_int_eq(log_punch(lab.f.log, 1, 1, NULL), ERR_RANGE);
    ck_assert_int_eq(log_punch(lab.f.log, base_of(3), base_of(5), NULL), ERR_OK);
    hole_lab_verify(&lab);
}
END_TEST

/* ---- opening ---- */

START_TEST(an_empty_directory_is_one_hole)
{
    hole_lab_produce(&lab, 10);
    fixture_close(&lab.f);
    ck_assert_int_eq(unlink(fixture_file(&lab.f, 0, ".store")), 0);
    lab.f.options.start = lab.start = base_of(2);
    lab.f.options.durable_end = lab.end = base_of(9);
    hole_lab_open(&lab);
    hole_lab_verify(&lab);
    ck_assert_uint_eq(lab.f.report.holes, 1);
    ck_assert_uint_eq(lab.f.report.missing, base_of(9) - base_of(2));
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    hole_lab_verify(&lab);
    sync_log();
    reopen();
}
END_TEST

START_TEST(any_missing_segment_is_a_hole_and_nothing_else_changes)
{
    static const char *const suffix = ".store";
    struct log_hole all[16];
    unsigned count;

    ck_assert_int_eq(hole_lab_append(&lab, 40), ERR_OK);
    sync_log();
    count = log_segment_count(lab.f.log);
    ck_assert_uint_gt(count, 3);
    for (unsigned n = 0; n < count; n++) {
        unsigned seen = 0;

        fixture_close(&lab.f);
        for (size_t i = 0; i < 40; i++) {
            if (!file_exists(fixture_file(&lab.f, base_of(i), suffix))) {
                continue;
            }
            if (seen == n) {
                ck_assert_int_eq(unlink(fixture_file(&lab.f, base_of(i), suffix)), 0);
                break;
            }
            seen += 1;
        }
        lab.f.options.holes_allowed = false;
        /* The first one cannot be missed: it may have been truncated away. */
        ck_assert_int_eq(n == 0 ? ERR_CORRUPT : fixture_try_open(&lab.f), ERR_CORRUPT);
        lab.f.options.holes_allowed = true;
        hole_lab_open(&lab);
        ck_assert_uint_eq(log_holes(lab.f.log, 0, all, 16), 1);
        ck_assert_uint_eq(log_end(lab.f.log), lab.end);
        hole_lab_adopt(&lab);
        ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
        hole_lab_verify(&lab);
        sync_log();
    }
    for (size_t i = 0; i < 40; i++) {
        ck_assert(lab.present[i]);
    }
}
END_TEST

/* Damage anywhere in the files, found at open or by reading: never an error of open, never served,
 * and what is not hit stays. */
START_TEST(any_flipped_byte_is_a_hole_at_open_or_an_error_of_reading)
{
    static uint8_t bytes[8192];
    const char *path;
    uint64_t base = 0;
    size_t size;
    unsigned found = 0;

    ck_assert_int_eq(hole_lab_append(&lab, 40), ERR_OK);
    sync_log();
    for (size_t i = 0; i < 40; i++) { /* the first, one in the middle, the active one */
        base = file_exists(fixture_file(&lab.f, base_of(i), ".store")) ? base_of(i) : base;
        if (_i == 0 || (_i == 1 && i == 20)) {
            break;
        }
    }
    size = file_read(fixture_file(&lab.f, base, ".store"), bytes, sizeof bytes);
    for (size_t at = 0; at < size; at += 23) {
        bool hit = false;

        fixture_close(&lab.f);
        path = fixture_file(&lab.f, base, ".store");
        (void)unlink(fixture_file(&lab.f, base, ".store.fill"));
        (void)unlink(fixture_file(&lab.f, base, ".store.damaged"));
        path = fixture_file(&lab.f, base, ".store");
        bytes[at] ^= 0x40;
        file_write(path, bytes, size);
        bytes[at] ^= 0x40;
        hole_lab_open(&lab);
        ck_assert_uint_eq(log_end(lab.f.log), lab.end);
        ck_assert_uint_eq(log_start(lab.f.log), 0);
        ck_assert(log_has_holes(lab.f.log) == (lab.f.report.damaged > 0));
        if (lab.f.report.damaged > 0) {
            ck_assert_ptr_nonnull(strstr(lab.f.report.damage.text, ".store"));
            ck_assert_ptr_nonnull(strstr(lab.f.report.damage.text, "position"));
            ck_assert(file_exists(fixture_file(&lab.f, base, ".store.damaged")));
            found += 1;
        }
        for (size_t i = 0; i < 40; i++) {
            struct block *block;
            uint64_t end;
            enum err err = log_read(lab.f.log, base_of(i), UINT64_MAX, 1, &block, &end, NULL);

            hit = hit || err != ERR_OK;
            ck_assert(err == ERR_OK || err == ERR_HOLE || err == ERR_CORRUPT);
            ck_assert(IMPLIES(base_of(i) < base, err == ERR_OK));
            if (err == ERR_OK) {
                ck_assert_mem_eq(block->data, lab.raw[i], block->size);
                block_unref(block);
            }
        }
        ck_assert_msg(hit, "byte %zu was not missed", at);
    }
    ck_assert_uint_gt(found, 0);
    ck_assert(_i < 2 || found > size / 23 / 2); /* The active one is read at open. */
}
END_TEST

/* The sealed segment before it is not read then, so that damage in there is found by who reads it.
 */
START_TEST(an_empty_active_segment_that_is_damaged_costs_nothing_else)
{
    const struct log_tuning by_age = {.segment_ms = 1};
    uint64_t sealed = 0;
    struct err_info info;

    ck_assert_int_eq(hole_lab_append(&lab, 20), ERR_OK);
    log_configure(lab.f.log, &by_age);
    ck_assert_int_eq(log_tick(lab.f.log, INT64_MAX, &info), ERR_OK);
    sync_log();
    fixture_close(&lab.f);
    for (size_t i = 0; i < 20; i++) {
        sealed = file_exists(fixture_file(&lab.f, base_of(i), ".store")) ? base_of(i) : sealed;
    }
    flip(fixture_file(&lab.f, lab.end, ".store"), 18);
    flip(fixture_file(&lab.f, sealed, ".store"), 62);
    for (int holes = 0; holes < 2; holes++) {
        struct block *block;
        uint64_t end;

        lab.f.options.durable_end = lab.end;
        lab.f.options.holes_allowed = holes != 0;
        ck_assert_int_eq(fixture_try_open(&lab.f), ERR_OK);
        ck_assert_uint_eq(log_end(lab.f.log), lab.end);
        ck_assert_int_eq(log_read(lab.f.log, sealed, UINT64_MAX, 1, &block, &end, &info),
                         ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, "position"));
        fixture_close(&lab.f);
    }
    ck_assert_int_eq(fixture_try_open(&lab.f), ERR_OK);
    ck_assert_int_eq(log_punch(lab.f.log, sealed, sealed + 1, &info), ERR_OK);
    hole_lab_adopt(&lab);
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    hole_lab_verify(&lab);
}
END_TEST

START_TEST(a_hole_reaches_durable_end_and_what_lies_above_it_is_cut)
{
    ck_assert_int_eq(hole_lab_append(&lab, 4), ERR_OK);
    sync_log();
    ck_assert_int_eq(hole_lab_skip(&lab, 10), ERR_OK);
    ck_assert_int_eq(hole_lab_append(&lab, 4), ERR_OK);
    fixture_close(&lab.f);
    lab.f.options.durable_end = lab.end = base_of(8); /* in the hole */
    memset(lab.present + 4, 0, 20);
    hole_lab_open(&lab);
    hole_lab_verify(&lab);
}
END_TEST

/* ---- together ---- */

START_TEST(truncating_back_into_a_hole_ends_the_log_there)
{
    for (size_t at = 3; at <= 13; at++) {
        teardown();
        setup();
        ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
        ck_assert_int_eq(hole_lab_skip(&lab, 10), ERR_OK);
        ck_assert_int_eq(hole_lab_fill(&lab, base_of(3), 4), ERR_OK);
        ck_assert_int_eq(hole_lab_append(&lab, 3), ERR_OK);
        ck_assert_int_eq(log_truncate_back(lab.f.log, base_of(at), NULL), ERR_OK);
        lab.end = base_of(at);
        hole_lab_verify(&lab);
        log_check(lab.f.log);
        sync_log();
        reopen();
    }
}
END_TEST

static uint64_t pick_present(void)
{
    for (int tries = 0; tries < 50; tries++) {
        size_t i = fixture_random(&lab.f, lab.f.expected.count + 1);

        if (i < lab.f.expected.count && lab.present[i] && base_of(i) >= lab.start &&
            base_of(i) < lab.end) {
            return base_of(i);
        }
    }
    return lab.end;
}

static void step_truncate_front(void)
{
    uint64_t offset = lab.start + fixture_random(&lab.f, (lab.end - lab.start) / 3 + 1);

    ck_assert_int_eq(log_truncate_front(lab.f.log, offset, NULL), ERR_OK);
    lab.start = offset;
}

static void step_fill(void)
{
    struct log_hole holes[40];
    size_t count = log_holes(lab.f.log, 0, holes, 40);

    if (count > 0) {
        ck_assert_int_eq(hole_lab_fill(&lab, holes[fixture_random(&lab.f, count)].from,
                                       1 + (unsigned)fixture_random(&lab.f, 12)),
                         ERR_OK);
    }
}

static void step_punch(void)
{
    uint64_t from = pick_present();
    uint64_t to = from + 1 + fixture_random(&lab.f, 20);

    if (from < lab.end) {
        ck_assert_int_eq(hole_lab_punch(&lab, from, to < lab.end ? to : lab.end), ERR_OK);
    }
}

static void step(uint64_t dice)
{
    if (dice < 30) {
        ck_assert_int_eq(hole_lab_append(&lab, 1 + (unsigned)fixture_random(&lab.f, 6)), ERR_OK);
    } else if (dice < 40) {
        ck_assert_int_eq(hole_lab_skip(&lab, 1 + (unsigned)fixture_random(&lab.f, 20)), ERR_OK);
    } else if (dice < 70) {
        step_fill();
    } else if (dice < 78) {
        step_punch();
    } else if (dice < 82) {
        step_truncate_front();
    } else if (dice < 92) {
        sync_log();
    } else {
        lab.f.options.durable_end = lab.end; /* A process that died: nothing is lost. */
        reopen();
    }
}

START_TEST(random_histories_agree_with_the_truth)
{
    lab.f.random = (uint64_t)_i * 104729;
    for (int i = 0; i < STEPS; i++) {
        step(fixture_random(&lab.f, 100));
        log_check(lab.f.log);
        ck_assert_uint_eq(log_end(lab.f.log), lab.end);
        if (i % 8 == 0) {
            hole_lab_verify(&lab);
        }
    }
    ck_assert_int_eq(hole_lab_fill_all(&lab), ERR_OK);
    sync_log();
    hole_lab_verify(&lab);
    ck_assert(!log_has_holes(lab.f.log));
    lab.f.options.holes_allowed = false;
    reopen();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/holes");
    TCase *tcase = tcase_create("holes");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, skip_leaves_a_hole_that_reads_say_and_appends_go_on_behind);
    tcase_add_test(tcase, skip_over_an_empty_log_moves_its_end_and_not_its_start);
    tcase_add_test(tcase, skip_below_the_end_is_refused_and_to_the_end_is_nothing);
    tcase_add_test(tcase, two_holes_are_filled_by_turns_and_become_ordinary);
    tcase_add_test(tcase, filling_goes_on_in_the_same_file_after_a_restart);
    tcase_add_test(tcase, what_does_not_belong_into_a_hole_changes_nothing);
    tcase_add_test(tcase, a_batch_that_passes_the_end_of_a_hole_or_breaks_the_order_is_refused);
    tcase_add_test(tcase, a_hole_at_the_start_is_filled_from_the_batch_that_holds_the_start);
    tcase_add_test(tcase, damage_in_a_sealed_segment_becomes_a_hole_and_can_be_filled);
    tcase_add_test(tcase, the_damaged_file_is_kept_until_there_is_no_hole);
    tcase_add_test(tcase, damage_in_the_active_segment_leaves_the_end_where_it_is);
    tcase_add_test(tcase, damage_before_the_range_begins_the_hole);
    tcase_add_test(tcase, readers_in_the_middle_of_what_is_punched_are_not_disturbed);
    tcase_add_test(tcase, between_begin_and_end_of_a_punch_the_log_may_change);
    tcase_add_test(tcase, a_punch_outside_of_the_log_is_refused_and_in_a_hole_does_nothing);
    tcase_add_test(tcase, an_empty_directory_is_one_hole);
    tcase_add_test(tcase, any_missing_segment_is_a_hole_and_nothing_else_changes);
    tcase_add_loop_test(tcase, any_flipped_byte_is_a_hole_at_open_or_an_error_of_reading, 0, 3);
    tcase_add_test(tcase, an_empty_active_segment_that_is_damaged_costs_nothing_else);
    tcase_add_test(tcase, a_hole_reaches_durable_end_and_what_lies_above_it_is_cut);
    tcase_add_test(tcase, truncating_back_into_a_hole_ends_the_log_there);
    tcase_add_loop_test(tcase, random_histories_agree_with_the_truth, 1, 8);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
