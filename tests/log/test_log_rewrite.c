#include "log/log.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "log/log_fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
    fixture_open(&f);
    fixture_fill(&f, 60); /* ten a segment, two records each */
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    f.options.durable_end = log_end(f.log);
}

static void teardown(void)
{
    fixture_fini(&f);
}

/* Base offsets of the segments; the last one is active. */
static uint64_t base(unsigned n)
{
    uint64_t offset = 0;

    for (unsigned i = 0; i < n; i++) {
        struct log_extent extent;

        ck_assert_int_eq(log_extent_at(f.log, offset, &extent, NULL), ERR_OK);
        offset = extent.end_offset;
    }
    return offset;
}

static const char *file(uint64_t base_offset, const char *suffix)
{
    return fixture_file(&f, base_offset, suffix);
}

/* [first, last) of the segments, by runs of three. */
static struct rewriting segments(unsigned first, unsigned last)
{
    return (struct rewriting){.from = base(first), .to = base(last), .run = 3, .body_size = 400};
}

static void rewrite(const struct rewriting *rewriting)
{
    ck_assert_int_eq(fixture_try_rewrite(&f, rewriting), ERR_OK);
    log_check(f.log);
    fixture_verify(&f);
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

/* ---- end ---- */

START_TEST(one_segment_holds_other_batches_and_keeps_its_offsets)
{
    struct rewriting one = segments(1, 2);
    unsigned count = log_segment_count(f.log);
    uint64_t size = log_size(f.log);

    rewrite(&one);
    ck_assert_uint_eq(log_segment_count(f.log), count);
    ck_assert_uint_lt(log_size(f.log), size);
    ck_assert_uint_eq(file_size(file(one.from, ".store")), 32 + 4 * 504);
    expect_no_file_of_rewriting(one.from);
    sync_log();
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(log_segment_count(f.log), count);
}
END_TEST

START_TEST(three_segments_become_one_and_the_old_files_go_after_a_sync)
{
    struct rewriting three = segments(1, 4);
    uint64_t second = base(2);
    uint64_t third = base(3);
    unsigned count = log_segment_count(f.log);
    struct log_extent extent;

    rewrite(&three);
    ck_assert_uint_eq(log_segment_count(f.log), count - 2);
    ck_assert_int_eq(log_extent_at(f.log, third, &extent, NULL), ERR_OK);
    ck_assert_uint_eq(extent.base_offset, three.from);
    ck_assert_uint_eq(extent.end_offset, three.to);
    ck_assert(extent.sealed);
    ck_assert(file_exists(file(second, ".store")));
    ck_assert(file_exists(file(third, ".index")));
    sync_log();
    ck_assert(!file_exists(file(second, ".store")));
    ck_assert(!file_exists(file(second, ".index")));
    ck_assert(!file_exists(file(third, ".store")));
    ck_assert(!file_exists(file(third, ".index")));
    fixture_verify(&f);
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    ck_assert_uint_eq(log_segment_count(f.log), count - 2);
}
END_TEST

START_TEST(a_rewritten_segment_can_be_rewritten_with_those_behind_it)
{
    struct rewriting two = segments(1, 3);
    struct rewriting more = segments(1, 5);

    rewrite(&two);
    rewrite(&more); /* before the first one is durable */
    rewrite(&more);
    sync_log();
    reopen();
    ck_assert_uint_eq(f.report.indexes_rebuilt, 0);
    for (uint64_t at = more.from + 1; at < more.to; at++) {
        ck_assert(!file_exists(file(at, ".store")));
    }
}
END_TEST

START_TEST(end_without_run_changes_nothing)
{
    struct rewriting one = segments(1, 2);
    struct log_rewrite *rewriting;

    ck_assert_int_eq(log_rewrite_begin(f.log, one.from, one.to, &rewriting, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_CANCELED);
    log_check(f.log);
    fixture_verify(&f);
}
END_TEST

START_TEST(cancel_changes_nothing_and_leaves_no_file)
{
    static struct expected before;
    struct rewriting one = segments(1, 2);
    struct log_rewrite *rewriting;

    before = f.expected;
    expected_rewrite(&f.expected, &one);
    ck_assert_int_eq(fixture_begin_rewrite(&f, one.from, one.to, &rewriting), ERR_OK);
    ck_assert(file_exists(file(one.from, ".store.compact")));
    ck_assert(file_exists(file(one.from, ".index.compact")));
    log_rewrite_cancel(f.log, rewriting);
    expect_no_file_of_rewriting(one.from);
    f.expected = before;
    log_check(f.log);
    fixture_verify(&f);
}
END_TEST

static enum err raise_start_above(const struct rewriting *rewriting)
{
    expected_truncate_front(&f.expected, rewriting->to);
    return log_raise_start(f.log, rewriting->to, NULL);
}

static enum err truncate_front_in_between(const struct rewriting *rewriting)
{
    expected_truncate_front(&f.expected, rewriting->from + 22);
    return log_truncate_front(f.log, rewriting->from + 22, NULL);
}

static enum err truncate_back_in_between(const struct rewriting *rewriting)
{
    expected_truncate_back(&f.expected, rewriting->from + 22);
    return log_truncate_back(f.log, rewriting->from + 22, NULL);
}

static enum err reset_to_the_same(const struct rewriting *rewriting)
{
    f.expected = (struct expected){.start = rewriting->from};
    return log_reset(f.log, rewriting->from, NULL);
}

START_TEST(end_changes_nothing_where_the_segments_went_meanwhile)
{
    static enum err (*const steps[])(const struct rewriting *) = {
        raise_start_above, truncate_front_in_between, truncate_back_in_between, reset_to_the_same};
    static struct expected before;
    struct rewriting three = segments(1, 4);
    struct log_rewrite *rewriting;

    before = f.expected;
    expected_rewrite(&f.expected, &three);
    ck_assert_int_eq(fixture_begin_rewrite(&f, three.from, three.to, &rewriting), ERR_OK);
    f.expected = before;
    ck_assert_int_eq(steps[_i](&three), ERR_OK);
    fixture_fill(&f, 25); /* perhaps where it was */
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_AGAIN);
    expect_no_file_of_rewriting(three.from);
    log_check(f.log);
    fixture_verify(&f);
}
END_TEST

START_TEST(end_changes_nothing_where_a_hole_was_made_meanwhile)
{
    static struct expected before;
    struct rewriting three = segments(1, 4);
    struct log_rewrite *rewriting;
    struct batch_header header;

    before = f.expected;
    expected_rewrite(&f.expected, &three);
    ck_assert_int_eq(fixture_begin_rewrite(&f, three.from, three.to, &rewriting), ERR_OK);
    f.expected = before;
    ck_assert_int_eq(log_punch(f.log, three.from + 30, three.from + 31, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_read_header(f.log, three.from + 30, &header, NULL), ERR_HOLE);
    ck_assert_int_eq(log_rewrite_begin(f.log, three.from, three.to, &rewriting, NULL), ERR_AGAIN);
    expect_no_file_of_rewriting(three.from);
    log_check(f.log);
}
END_TEST

START_TEST(a_start_that_was_raised_into_it_meanwhile_stays)
{
    struct rewriting three = segments(1, 4);
    struct log_rewrite *rewriting;
    uint64_t start = three.from + 2;

    expected_rewrite(&f.expected, &three);
    ck_assert_int_eq(fixture_begin_rewrite(&f, three.from, three.to, &rewriting), ERR_OK);
    ck_assert_int_eq(log_raise_start(f.log, start, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_OK);
    ck_assert_uint_eq(log_start(f.log), start);
    log_check(f.log);
    fixture_verify(&f); /* from the middle of a batch on */
    sync_log();
    ck_assert_int_eq(log_remove_passed(f.log, start, UINT_MAX, NULL), ERR_OK);
    f.options.start = start;
    fixture_close(&f);
    fixture_open(&f);
    ck_assert_uint_eq(log_start(f.log), start);
}
END_TEST

/* ---- begin, put, run ---- */

START_TEST(begin_takes_whole_sealed_neighbours_only)
{
    uint64_t first = base(1);
    uint64_t end = log_end(f.log);
    uint64_t active = base(5);
    const struct log_hole wrong[] = {
        {first + 2, base(2)}, {first, base(2) - 2}, {first, first},
        {base(2), first},     {first, end},         {active, end},
        {first, base(3) + 4}, {end, end + 1},       {first, UINT64_MAX},
    };
    struct err_info info = {0};
    struct log_rewrite *rewriting;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(log_rewrite_begin(f.log, wrong[i].from, wrong[i].to, &rewriting, &info),
                         ERR_AGAIN);
        ck_assert(info.text[0] != '\0');
    }
    ck_assert_int_eq(log_skip(f.log, end + 10, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, end, &rewriting, NULL), ERR_OK);
    log_rewrite_cancel(f.log, rewriting);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, end + 10, &rewriting, NULL), ERR_AGAIN);
}
END_TEST

START_TEST(begin_takes_nothing_that_is_being_filled)
{
    struct log_rewrite *rewriting;
    struct log_hole hole;
    uint64_t first = base(1);
    uint64_t second = base(2);
    struct block *block;
    uint64_t end;

    ck_assert_int_eq(log_read(f.log, second - 2, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
    ck_assert_int_eq(log_punch(f.log, second - 2, second, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, second, &rewriting, NULL), ERR_AGAIN);
    ck_assert_uint_eq(log_holes(f.log, 0, &hole, 1), 1);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, hole.from, &rewriting, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_fill(f.log, block->data, block->size, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, second, &rewriting, NULL), ERR_AGAIN);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    ck_assert_int_eq(log_sync(f.log, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_begin(f.log, first, second, &rewriting, NULL), ERR_OK);
    log_rewrite_cancel(f.log, rewriting);
    block_unref(block);
}
END_TEST

/* A batch of 40 bytes, in the place of [from, to), stamped as the last one there. */
static size_t make_batch(uint64_t from, uint64_t to, uint8_t *bytes, struct batch_header *header)
{
    ck_assert_int_eq(log_read_header(f.log, to - 1, header, NULL), ERR_OK);
    memset(bytes + BATCH_HEADER_SIZE, 7, 40);
    header->record_count = (uint32_t)(to - from);
    header->base_offset = from;
    header->size = BATCH_HEADER_SIZE + 40;
    header->attributes = BATCH_SPARSE | BATCH_COMPACTED;
    header->body_crc32c = crc32c(bytes + BATCH_HEADER_SIZE, 40);
    batch_header_encode(header, bytes);
    return header->size;
}

/* What is wrong with the second of two batches. */
static void spoil(int how, uint8_t *bytes, struct batch_header *header)
{
    switch (how) {
    case 0: /* a gap */
        header->base_offset += 1;
        header->record_count -= 1;
        break;
    case 1: /* it lies over the first one */
        header->base_offset -= 1;
        break;
    case 2: /* it passes the end */
        header->record_count += 1;
        break;
    case 3:
        header->raft_index = 1000;
        break;
    case 4:
        header->append_time_us = 0;
        break;
    default:
        break;
    }
    batch_header_encode(header, bytes);
    bytes[how == 5 ? 20 : 0] ^= how == 5 ? 1 : 0; /* header */
    bytes[BATCH_HEADER_SIZE + 9] = (uint8_t)(bytes[BATCH_HEADER_SIZE + 9] ^ (how == 6)); /* body */
}

START_TEST(put_refuses_what_does_not_follow_or_verify)
{
    uint64_t from = base(1);
    uint64_t to = base(2);
    uint8_t bytes[2][BATCH_HEADER_SIZE + 40];
    struct batch_header header;
    struct log_rewrite *rewriting;
    struct err_info info = {0};
    size_t size = make_batch(from, from + 6, bytes[0], &header);
    size_t cut = _i == 7 ? 1 : 0;

    ck_assert_int_eq(log_rewrite_begin(f.log, from, to, &rewriting, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_put(rewriting, bytes[0], size, NULL), ERR_OK);
    (void)make_batch(from + 6, to, bytes[1], &header);
    spoil(_i, bytes[1], &header);
    ck_assert_int_eq(log_rewrite_put(rewriting, bytes[1], size - cut, &info), ERR_CORRUPT);
    ck_assert(info.text[0] != '\0');
    (void)make_batch(from + 6, to, bytes[1], &header); /* too late */
    ck_assert_int_eq(log_rewrite_put(rewriting, bytes[1], size, NULL), ERR_CORRUPT);
    ck_assert_int_eq(log_rewrite_run(rewriting, NULL), ERR_CORRUPT);
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_CORRUPT);
    ck_assert(log_healthy(f.log));
    expect_no_file_of_rewriting(from);
    fixture_verify(&f);
}
END_TEST

START_TEST(put_refuses_stamps_below_those_of_the_first_batch)
{
    uint64_t from = base(1);
    uint8_t bytes[BATCH_HEADER_SIZE + 40];
    struct batch_header header;
    struct log_rewrite *rewriting;
    size_t size = make_batch(from, from + 2, bytes, &header);

    header.raft_index -= 1;
    batch_header_encode(&header, bytes);
    ck_assert_int_eq(log_rewrite_begin(f.log, from, base(2), &rewriting, NULL), ERR_OK);
    ck_assert_int_eq(log_rewrite_put(rewriting, bytes, size, NULL), ERR_CORRUPT);
    log_rewrite_cancel(f.log, rewriting);
}
END_TEST

START_TEST(run_refuses_what_ends_early_or_with_other_stamps)
{
    uint64_t from = base(1);
    uint64_t to = base(2);
    uint8_t bytes[BATCH_HEADER_SIZE + 40];
    struct batch_header header;
    struct log_rewrite *rewriting;
    struct err_info info = {0};
    size_t size = make_batch(from, _i == 0 ? to - 2 : to, bytes, &header);

    header.raft_index += _i == 1 ? 1 : 0;
    header.raft_term += _i == 2 ? 1 : 0;
    header.append_time_us += _i == 3 ? 1 : 0;
    header.digest[31] = (uint8_t)(header.digest[31] ^ (_i == 4));
    batch_header_encode(&header, bytes);
    ck_assert_int_eq(log_rewrite_begin(f.log, from, to, &rewriting, NULL), ERR_OK);
    if (_i < 5) { /* else nothing at all */
        ck_assert_int_eq(log_rewrite_put(rewriting, bytes, size, NULL), ERR_OK);
    }
    ck_assert_int_eq(log_rewrite_run(rewriting, &info), ERR_CORRUPT);
    ck_assert(info.text[0] != '\0');
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_CORRUPT);
    expect_no_file_of_rewriting(from);
    log_check(f.log);
    fixture_verify(&f);
}
END_TEST

/* ---- readers ---- */

START_TEST(readers_of_the_old_segments_go_on_and_new_ones_find_the_new_one)
{
    static uint8_t all[64 * 1024];
    struct rewriting three = segments(1, 4);
    struct log_reader *reader;
    struct log_chunk chunks[3];
    uint8_t head[BATCH_HEADER_SIZE];
    size_t size = 0;
    size_t done = 0;

    ck_assert_int_eq(log_reader_new(f.log, &reader), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(log_find(f.log, base(1 + i), UINT64_MAX, 1, &chunks[i], NULL), ERR_OK);
    }
    rewrite(&three);
    sync_log();
    for (unsigned i = 0; i < 3; i++) {
        struct batch_header header = {0};

        ck_assert_int_eq(io_read(f.options.io, chunks[i].fd, "", head, sizeof head,
                                 chunks[i].position, &done, NULL),
                         ERR_OK);
        ck_assert_int_eq(batch_header_decode(head, 1 << 20, &header, NULL), ERR_OK);
        ck_assert_uint_eq(header.base_offset, chunks[i].base_offset);
        ck_assert_uint_eq(header.record_count, 2); /* the old one */
        log_chunk_release(&chunks[i]);
    }
    ck_assert_int_eq(log_reader_read(reader, all, sizeof all, &size, NULL), ERR_OK);
    ck_assert_uint_eq(size, 60 * 404); /* as when it was opened */
    log_reader_free(reader);
}
END_TEST

/* Of ten batches the last one stays, at its place; those before it become two. */
static void rewrite_to_the_same_size(uint64_t from, uint64_t to)
{
    const struct rewriting parts[] = {
        {from, from + 10, 5, 5 * 404 - BATCH_HEADER_SIZE + 8},
        {from + 10, to - 2, 4, 4 * 404 - BATCH_HEADER_SIZE - 8},
    };
    struct log_rewrite *rewriting;

    expected_rewrite(&f.expected, &parts[0]);
    expected_rewrite(&f.expected, &parts[1]);
    ck_assert_int_eq(fixture_begin_rewrite(&f, from, to, &rewriting), ERR_OK);
    ck_assert_int_eq(log_rewrite_end(f.log, rewriting, NULL), ERR_OK);
    ck_assert_uint_eq(file_size(file(from, ".store")), 32 + 10 * 404);
}

/* Its file and its index were closed, and both names are another one's now: with the same size, and
 * the same last batch, but other positions. */
START_TEST(who_has_the_old_segment_does_not_take_the_new_index_for_its_own)
{
    const struct file_cache_options few = {
        .descriptors_max = 1, .descriptors_limit = 100, .mapped_max = 1};
    static uint8_t all[64 * 1024];
    struct log_reader *reader;
    size_t size = 0;

    fixture_close(&f);
    f.options.files = file_cache_new(&few);
    fixture_open(&f);
    ck_assert_int_eq(log_reader_new(f.log, &reader), ERR_OK);
    rewrite_to_the_same_size(base(1), base(2));
    ck_assert_int_eq(log_reader_read(reader, all, sizeof all, &size, NULL), ERR_OK);
    ck_assert_uint_eq(size, 60 * 404);
    log_reader_free(reader);
    log_check(f.log);
    fixture_verify(&f);
    fixture_close(&f);
    file_cache_unref(f.options.files);
    f.options.files = NULL;
}
END_TEST

START_TEST(searches_find_their_way_through_merged_batches)
{
    struct rewriting most = segments(0, 5);
    uint64_t before = 0;
    uint64_t found;

    most.run = 7;
    rewrite(&most);
    for (uint64_t offset = 0; offset < log_end(f.log); offset++) {
        struct batch_header header;

        ck_assert_int_eq(log_read_header(f.log, offset, &header, NULL), ERR_OK);
        ck_assert(header.base_offset <= offset && batch_end_offset(&header) > offset);
        ck_assert_int_eq(log_find_raft_index(f.log, header.raft_index, &found, NULL), ERR_OK);
        ck_assert_uint_eq(found, batch_end_offset(&header));
        ck_assert_int_eq(log_find_raft_index(f.log, header.raft_index - 1, &found, NULL), ERR_OK);
        ck_assert_uint_eq(found, header.base_offset);
    }
    for (uint64_t size = log_size(f.log); size > 400; size -= 97) {
        ck_assert_int_eq(log_find_size(f.log, size, &found, NULL), ERR_OK);
        ck_assert_uint_ge(found, before);
        before = found;
    }
    ck_assert_uint_gt(before, most.to);
}
END_TEST

/* ---- recovery ---- */

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

    rewrite_to_the_same_size(from, base(2));
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
    ck_assert_int_eq(remove(file(three.from, ".index")), 0);
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
    Suite *suite = suite_create("log/log_rewrite");
    TCase *tcase;

    tcase = tcase_create("end");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_segment_holds_other_batches_and_keeps_its_offsets);
    tcase_add_test(tcase, three_segments_become_one_and_the_old_files_go_after_a_sync);
    tcase_add_test(tcase, a_rewritten_segment_can_be_rewritten_with_those_behind_it);
    tcase_add_test(tcase, end_without_run_changes_nothing);
    tcase_add_test(tcase, cancel_changes_nothing_and_leaves_no_file);
    tcase_add_loop_test(tcase, end_changes_nothing_where_the_segments_went_meanwhile, 0, 4);
    tcase_add_test(tcase, end_changes_nothing_where_a_hole_was_made_meanwhile);
    tcase_add_test(tcase, a_start_that_was_raised_into_it_meanwhile_stays);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("put");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, begin_takes_whole_sealed_neighbours_only);
    tcase_add_test(tcase, begin_takes_nothing_that_is_being_filled);
    tcase_add_loop_test(tcase, put_refuses_what_does_not_follow_or_verify, 0, 8);
    tcase_add_test(tcase, put_refuses_stamps_below_those_of_the_first_batch);
    tcase_add_loop_test(tcase, run_refuses_what_ends_early_or_with_other_stamps, 0, 6);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("readers");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, readers_of_the_old_segments_go_on_and_new_ones_find_the_new_one);
    tcase_add_test(tcase, who_has_the_old_segment_does_not_take_the_new_index_for_its_own);
    tcase_add_test(tcase, searches_find_their_way_through_merged_batches);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("recovery");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_was_not_ended_is_a_leftover);
    tcase_add_loop_test(tcase, the_old_segments_are_leftovers_of_a_new_one_that_is_whole, 0, 121);
    tcase_add_loop_test(tcase, a_start_inside_of_it_does_not_make_the_new_one_a_leftover, 0, 62);
    tcase_add_test(tcase, the_old_index_is_not_believed);
    tcase_add_test(tcase, an_old_segment_of_which_nothing_can_be_read_is_a_leftover_as_well);
    tcase_add_test(tcase, a_new_segment_that_is_damaged_makes_nothing_a_leftover);
    tcase_add_test(tcase, without_a_rewriting_an_overlap_is_damage);
    tcase_add_loop_test(tcase, what_was_superseded_never_comes_back, 0, 3);
    tcase_add_test(tcase, a_hole_where_it_was_rewritten_is_one_after_a_crash_too);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
