#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "history.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "merged.h"
#include "record/batch_records.h"

enum { TOPIC = COMMAND_COUNT_MAX, BATCHES = 48, RECORDS = 2, END = BATCHES * RECORDS };

static const char *dirs[2];
static struct fsm *from;
static struct fsm *to;
static struct topic *there;
static struct topic *here;

static struct fsm *open_fsm(const char *dir, const struct manifest *manifest)
{
    const struct fsm_options options = {.io = io_real(),
                                        .dir = dir,
                                        .segment_size_max = 4096,
                                        .index_interval = 256,
                                        .holes_allowed = true};
    struct err_info info = {.text = ""};
    struct fsm *fsm = NULL;
    enum err err = fsm_open(&options, manifest, &fsm, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    return fsm;
}

static void apply(struct fsm *fsm, struct packer *packer)
{
    struct entry entry = packer_entry(packer, fsm_applied_index(fsm) + 1, 1);
    struct err_info info = {.text = ""};
    enum err err = fsm_apply(fsm, &entry, NULL, NULL, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    entry_unref(&entry);
}

/* Twelve batches of two records more, as one entry. */
static void apply_batches(struct fsm *fsm, bool create, uint64_t seed)
{
    struct packer packer;

    packer_begin(&packer, (int64_t)seed);
    if (create) {
        packer_create(&packer, "t");
    }
    for (uint64_t i = 0; i < 12; i++) {
        packer_produce(
            &packer, TOPIC,
            &(struct produced){.record_count = RECORDS, .body_size = 900, .seed = seed + i});
    }
    apply(fsm, &packer);
}

static void trim(struct fsm *fsm, const struct topic_trim *trim)
{
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_trim(&packer, trim);
    apply(fsm, &packer);
}

/* Four segments of four batches, 0 to 32 …: both nodes have the same. */
static void setup(void)
{
    for (unsigned i = 0; i < 2; i++) {
        dirs[i] = tmpdir_new();
    }
    from = open_fsm(dirs[0], NULL);
    to = open_fsm(dirs[1], NULL);
    for (unsigned i = 0; i < 4; i++) {
        apply_batches(from, i == 0, 100 * i);
        apply_batches(to, i == 0, 100 * i);
    }
    there = catalog_find_id(fsm_catalog(from), TOPIC);
    here = catalog_find_id(fsm_catalog(to), TOPIC);
    ck_assert_uint_eq(log_end(here->log), END);
}

static void teardown(void)
{
    topic_unref(there);
    topic_unref(here);
    fsm_close(from);
    fsm_close(to);
    for (unsigned i = 0; i < 2; i++) {
        tmpdir_remove(dirs[i]);
    }
}

static void reopen(void)
{
    struct manifest manifest;
    struct fsm_sync *sync;

    ck_assert_int_eq(fsm_sync_begin(to, &sync), ERR_OK);
    if (sync != NULL) {
        ck_assert_int_eq(fsm_sync_run(sync, NULL), ERR_OK);
        ck_assert_int_eq(fsm_sync_end(to, sync), ERR_OK);
    }
    ck_assert_int_eq(fsm_manifest(to, &manifest), ERR_OK);
    topic_unref(here);
    fsm_close(to);
    to = open_fsm(dirs[1], &manifest);
    manifest_fini(&manifest);
    here = catalog_find_id(fsm_catalog(to), TOPIC);
    ck_assert_ptr_nonnull(here);
}

/* Every batch follows, from the start to the topic's digest. */
static void assert_whole(void)
{
    struct chain chain;
    uint64_t offset = log_start(here->log);

    ck_assert(!log_has_holes(here->log));
    chain_init(&chain, here->start, here->start_digest);
    while (offset < END) {
        struct err_info info = {.text = ""};
        struct block *block;
        enum err err = log_read(here->log, offset, UINT64_MAX, 1 << 20, &block, &offset, &info);

        ck_assert_msg(err == ERR_OK, "%s", info.text);
        err = chain_follow(&chain, block->data, block->size, &info);
        ck_assert_msg(err == ERR_OK, "%s", info.text);
        block_unref(block);
    }
    ck_assert_mem_eq(chain.digest, here->digest, DIGEST_SIZE);
    log_check(here->log);
    fsm_check(to);
}

static struct batch_header header_at(struct topic *topic, uint64_t offset)
{
    struct batch_header header;
    struct err_info info = {.text = ""};

    ck_assert_msg(log_read_header(topic->log, offset, &header, &info) == ERR_OK, "%s", info.text);
    return header;
}

static void assert_batch(uint64_t base, uint64_t end)
{
    struct batch_header header = header_at(here, base);

    ck_assert_uint_eq(header.base_offset, base);
    ck_assert_uint_eq(batch_end_offset(&header), end);
}

/* What would be in the hole's first chunk. */
static enum err fit(struct fsm_hole *hole, struct fsm_chunk *chunk, struct err_info *info)
{
    struct block *block;
    uint64_t end;

    ck_assert_int_eq(log_read(there->log, hole->chain.offset, hole->to, 1, &block, &end, NULL),
                     ERR_OK);
    *chunk =
        (struct fsm_chunk){.batches = {.block = block, .data = block->data, .size = block->size}};
    return fsm_hole_fit(hole, chunk, info);
}

static void punch(uint64_t first, uint64_t end)
{
    struct err_info info = {.text = ""};

    ck_assert_msg(fsm_punch(to, here, first, end, &info) == ERR_OK, "%s", info.text);
}

START_TEST(a_batch_that_begins_below_the_hole_is_cut_at_it)
{
    struct batch_records records;
    struct record record;
    struct block *block;
    struct batch_header header;
    uint64_t end;

    merged_log(there->log, (struct merged_range[]){{4, 14}}, 1);
    punch(8, 9);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    assert_whole();
    assert_batch(4, 6); /* What was here stays. */
    assert_batch(8, 14);
    assert_batch(14, 16);
    header = header_at(here, 8);
    ck_assert(batch_is_compacted(&header));
    ck_assert_mem_eq(header.digest, header_at(there, 8).digest, DIGEST_SIZE);
    ck_assert_int_eq(log_read(here->log, 8, UINT64_MAX, 1, &block, &end, NULL), ERR_OK);
    batch_records_init(&records);
    ck_assert_int_eq(
        batch_records_start(&records, &header, block->data + BATCH_HEADER_SIZE, 0, NULL), ERR_OK);
    ck_assert_int_eq(batch_records_next(&records, &record), ERR_OK);
    ck_assert_uint_eq(record.offset, 9);
    ck_assert_uint_eq(record.value_size, 8);
    ck_assert_mem_eq(record.value, "record 9", 8);
    ck_assert_int_eq(batch_records_next(&records, &record), ERR_OK);
    ck_assert_uint_eq(record.offset, 12);
    ck_assert_int_eq(batch_records_next(&records, &record), ERR_AGAIN);
    batch_records_fini(&records);
    block_unref(block);
    reopen();
    assert_whole();
}
END_TEST

START_TEST(a_batch_that_ends_above_the_hole_pushes_out_what_it_overlaps)
{
    struct fsm_chunk chunk;
    struct fsm_hole hole;

    merged_log(there->log, (struct merged_range[]){{10, 20}}, 1);
    punch(10, 11);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    ck_assert_uint_eq(hole.to, 16);
    ck_assert_int_eq(fit(&hole, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(chunk.fit, FSM_FIT_PASSES);
    ck_assert_uint_eq(chunk.after.offset, 20);
    block_unref(chunk.batches.block);
    fsm_hole_fini(&hole);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    assert_whole();
    assert_batch(8, 10);
    assert_batch(10, 20);
    assert_batch(20, 22);
    reopen();
    assert_whole();
}
END_TEST

START_TEST(where_the_batch_below_is_damaged_it_goes_too)
{
    struct fsm_hole hole;
    struct fsm_chunk chunk;

    merged_log(there->log, (struct merged_range[]){{4, 14}}, 1);
    punch(8, 9);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    hole.chain.known = false; /* As when it cannot be read. */
    ck_assert_int_eq(fit(&hole, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(chunk.fit, FSM_FIT_BEGINS_LOW);
    block_unref(chunk.batches.block);
    fsm_hole_fini(&hole);
}
END_TEST

START_TEST(a_hole_at_the_start_is_filled_from_a_batch_that_begins_below_it)
{
    struct topic_trim what = history_trim(here, 8);

    merged_log(there->log, (struct merged_range[]){{4, 14}}, 1);
    trim(to, &what);
    trim(from, &what);
    punch(8, 9);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    assert_whole();
    assert_batch(8, 14);
}
END_TEST

/* The leader had merged nothing when it chose the start; another node had. */
START_TEST(a_start_inside_of_a_merged_batch_is_one_on_all_nodes)
{
    struct topic_trim what = history_trim(here, 9);

    ck_assert_uint_eq(what.batch_start, 8);
    merged_log(there->log, (struct merged_range[]){{4, 14}}, 1);
    trim(to, &what);
    trim(from, &what);
    ck_assert_uint_eq(log_start(there->log), 8);
    ck_assert_uint_eq(topic_start(there), 9);
    log_check(there->log);
    fsm_check(from);
    ck_assert_uint_eq(header_at(there, 8).base_offset, 4);
    punch(8, 9);
    ck_assert(history_fill(to, from, UINT32_MAX, NULL));
    assert_whole();
    assert_batch(8, 14);
    reopen();
    assert_whole();
}
END_TEST

START_TEST(what_does_not_belong_is_refused)
{
    struct fsm_hole hole;
    struct fsm_chunk chunk;
    struct block *block;
    uint64_t end;

    merged_log(there->log, (struct merged_range[]){{4, 14}, {20, 30}}, 2);
    punch(8, 9);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    /* 0: a batch that nothing was made of, 1: one that ends at the hole, 2: a digest that is not
     * that of the batch here */
    ck_assert_int_eq(log_read(there->log, _i == 0 ? 2 : 4, UINT64_MAX, 1, &block, &end, NULL),
                     ERR_OK);
    chunk =
        (struct fsm_chunk){.batches = {.block = block, .data = block->data, .size = block->size}};
    if (_i == 1) {
        hole.chain.offset = 14;
    } else if (_i == 2) {
        struct batch_header header = header_at(there, 4);

        block->data[BATCH_HEADER_SIZE] ^= 1;
        header.body_crc32c =
            crc32c(block->data + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
        batch_header_encode(&header, block->data);
    }
    ck_assert_int_eq(fsm_hole_fit(&hole, &chunk, NULL), ERR_CORRUPT);
    block_unref(chunk.batches.block);
    fsm_hole_fini(&hole);
}
END_TEST

START_TEST(what_is_cut_off_is_refused)
{
    struct fsm_hole hole;

    merged_log(there->log, (struct merged_range[]){{4, 14}}, 1);
    punch(8, 9);
    ck_assert_int_eq(fsm_next_hole(to, &hole), ERR_OK);
    for (size_t size = 0;; size += 11) {
        struct fsm_chunk chunk;
        struct block *block;
        uint64_t end;

        ck_assert_int_eq(log_read(there->log, 8, hole.to, 1, &block, &end, NULL), ERR_OK);
        if (size >= block->size) {
            block_unref(block);
            break;
        }
        chunk = (struct fsm_chunk){.batches = {.block = block, .data = block->data, .size = size}};
        ck_assert_int_eq(fsm_hole_fit(&hole, &chunk, NULL), ERR_CORRUPT);
        block_unref(chunk.batches.block);
    }
    fsm_hole_fini(&hole);
}
END_TEST

/* Ranges of batches by chance, in ascending order. */
static size_t random_ranges(uint64_t *random, struct merged_range ranges[BATCHES])
{
    size_t count = 0;
    uint64_t at = 0;

    while (at < BATCHES - 1) {
        uint64_t size = 1 + history_below(random, 9);

        size = at + size < BATCHES ? size : BATCHES - at;
        if (history_below(random, 4) > 0) {
            ranges[count++] =
                (struct merged_range){.from = at * RECORDS, .to = (at + size) * RECORDS};
        }
        at += size;
    }
    return count;
}

START_TEST(copies_compacted_at_any_times_fill_each_other)
{
    struct merged_range ranges[BATCHES];
    uint64_t random = 7000 + (uint64_t)_i;
    size_t count = random_ranges(&random, ranges);

    merged_log(there->log, ranges, count);
    count = random_ranges(&random, ranges);
    merged_log(here->log, ranges, count);
    assert_whole();
    for (unsigned round = 0; round < 3; round++) {
        uint64_t first = history_below(&random, END - 1);

        punch(first, first + 1 + history_below(&random, (unsigned)(END - first)));
        (void)history_fill(to, from, history_below(&random, 4), NULL);
        if (history_below(&random, 2) == 0) {
            reopen();
        }
    }
    ck_assert(history_fill(to, from, 10000, NULL));
    assert_whole();
    reopen();
    assert_whole();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/fsm_fit");
    TCase *tcase = tcase_create("fsm_hole_fit");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_batch_that_begins_below_the_hole_is_cut_at_it);
    tcase_add_test(tcase, a_batch_that_ends_above_the_hole_pushes_out_what_it_overlaps);
    tcase_add_test(tcase, where_the_batch_below_is_damaged_it_goes_too);
    tcase_add_test(tcase, a_hole_at_the_start_is_filled_from_a_batch_that_begins_below_it);
    tcase_add_test(tcase, a_start_inside_of_a_merged_batch_is_one_on_all_nodes);
    tcase_add_loop_test(tcase, what_does_not_belong_is_refused, 0, 3);
    tcase_add_test(tcase, what_is_cut_off_is_refused);
    tcase_add_loop_test(tcase, copies_compacted_at_any_times_fill_each_other, 0, 40);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
