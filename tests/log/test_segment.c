#include "log/segment.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log_fixture.h"

static const char *dir;
static struct segment_config config;
static uint8_t bytes[2048];

static void setup(void)
{
    dir = tmpdir_new();
    config = (struct segment_config){
        .io = fixture_io(),
        .dir = dir,
        .size_max = 64 * 1024,
        .index_interval = 500,
    };
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static struct segment *create(uint64_t base_offset)
{
    struct segment_origin origin = {.base_offset = base_offset, .generation = 1};
    struct segment *segment;

    ck_assert_int_eq(segment_create(&config, &origin, &segment, NULL), ERR_OK);
    return segment;
}

/* Batches of 3 offsets in 204 bytes. */
static void fill(struct segment *segment, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct batch_header header = {
            .size = 204,
            .record_count = 3,
            .base_offset = segment->end_offset,
            .raft_index = segment->end_offset,
            .append_time_us = (int64_t)segment->end_offset,
        };
        struct iovec part = {.iov_base = bytes, .iov_len = header.size};

        memset(bytes + BATCH_HEADER_SIZE, (int)i, 100);
        header.body_crc32c = crc32c(bytes + BATCH_HEADER_SIZE, 100);
        batch_header_encode(&header, bytes);
        ck_assert_int_eq(segment_append(segment, &header, &part, 1, NULL), ERR_OK);
    }
}

/* The store of a segment, opened again. */
static struct store *open_store(uint64_t base_offset)
{
    char path[IO_PATH_SIZE];
    struct store *store;

    ck_assert_int_eq(segment_path(path, dir, base_offset, SEGMENT_STORE, NULL), ERR_OK);
    ck_assert_int_eq(store_open(config.io, path, base_offset, &store, NULL), ERR_OK);
    return store;
}

START_TEST(names_are_taken_apart_as_they_are_made)
{
    static const uint64_t offsets[] = {0, 1, 1835, UINT64_MAX};
    static const char *const others[] = {
        "",
        ".store",
        "00000000000000001835",
        "00000000000000001835.stor",
        "00000000000000001835.storee",
        "000000000000000018355.store",
        "-0000000000000001835.store",
        "18446744073709551616.store", /* one more than 64 bits hold */
        "99999999999999999999.index",
    };
    char path[IO_PATH_SIZE];
    enum segment_file file;
    uint64_t offset;

    for (size_t i = 0; i < 4; i++) {
        for (enum segment_file kind = SEGMENT_STORE; kind < SEGMENT_FILE_COUNT; kind++) {
            ck_assert_int_eq(segment_path(path, "d", offsets[i], kind, NULL), ERR_OK);
            ck_assert(segment_parse_name(path + 2, &offset, &file));
            ck_assert_uint_eq(offset, offsets[i]);
            ck_assert_int_eq((int)file, (int)kind);
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ck_assert_msg(!segment_parse_name(others[i], &offset, &file), "%s", others[i]);
    }
}
END_TEST

START_TEST(a_sealed_segment_opens_without_reading_its_store)
{
    struct segment *active = create(10);
    struct segment *sealed;
    struct segment *opened;
    struct store *store;

    fill(active, 20);
    segment_check(active);
    ck_assert_int_eq(segment_seal(&config, active, &sealed, NULL), ERR_OK);
    segment_check(sealed);
    store = open_store(10);
    ck_assert_int_eq(segment_open(&config, store, &opened, NULL), ERR_OK);
    segment_check(opened);
    ck_assert_uint_eq(opened->end_offset, 70);
    ck_assert_uint_eq(opened->last_raft_index, 67);
    ck_assert_int_eq(opened->last_append_time_us, 67);
    segment_unref(opened);
    segment_unref(sealed);
    segment_unref(active);
}
END_TEST

START_TEST(a_seal_of_other_contents_of_the_same_size_is_stale)
{
    struct segment *active = create(10);
    struct segment *sealed;
    struct segment *opened;
    struct store *store;

    fill(active, 5);
    ck_assert_int_eq(segment_seal(&config, active, &sealed, NULL), ERR_OK);
    segment_unref(sealed);
    ck_assert_int_eq(store_truncate(active->store, STORE_HEADER_SIZE, NULL), ERR_OK);
    active->end_offset = 10;
    active->last_raft_index = 0;
    active->last_append_time_us = 0;
    index_free(active->index);
    active->index = index_new(config.io, config.size_max, config.index_interval);
    fill(active, 4);
    fill(active, 1); /* Same size, same offsets, another body. */
    segment_unref(active);
    store = open_store(10);
    ck_assert_int_eq(segment_open(&config, store, &opened, NULL), ERR_CORRUPT);
    store_unref(store);
}
END_TEST

START_TEST(a_seal_with_stamps_that_are_not_the_last_batchs_is_stale)
{
    struct segment *active = create(10);
    struct segment *sealed;
    struct segment *opened;
    struct store *store;

    fill(active, 5);
    for (int i = 0; i < 3; i++) {
        active->last_raft_index += i == 1 ? 1 : 0;
        active->last_append_time_us += i == 2 ? 1 : 0;
        ck_assert_int_eq(segment_seal(&config, active, &sealed, NULL), ERR_OK);
        segment_unref(sealed);
        active->last_raft_index -= i == 1 ? 1 : 0;
        active->last_append_time_us -= i == 2 ? 1 : 0;
        store = open_store(10);
        ck_assert_int_eq(segment_open(&config, store, &opened, NULL),
                         i == 0 ? ERR_OK : ERR_CORRUPT);
        if (i == 0) {
            segment_unref(opened);
        } else {
            store_unref(store);
        }
    }
    segment_unref(active);
}
END_TEST

START_TEST(recovery_finds_the_end_of_what_verifies)
{
    struct segment *active = create(10);
    struct segment *recovered;
    struct segment_tail tail;
    struct store *store;

    fill(active, 20);
    segment_unref(active);
    store = open_store(10);
    ck_assert_int_eq(segment_recover(&config, store, NULL, 70, &recovered, &tail, NULL), ERR_OK);
    ck_assert(!tail.torn);
    ck_assert_uint_eq(recovered->end_offset, 70);
    segment_check(recovered);
    ck_assert_int_eq(store_truncate(store, STORE_HEADER_SIZE + 5 * 204 + 203, NULL), ERR_OK);
    segment_unref(recovered);
    store = open_store(10);
    ck_assert_int_eq(segment_recover(&config, store, NULL, 26, &recovered, &tail, NULL),
                     ERR_CORRUPT);
    ck_assert_int_eq(segment_recover(&config, store, NULL, 25, &recovered, &tail, NULL), ERR_OK);
    ck_assert(tail.torn);
    ck_assert_uint_eq(tail.position, STORE_HEADER_SIZE + 5 * 204);
    ck_assert_uint_eq(recovered->end_offset, 25);
    segment_unref(recovered);
}
END_TEST

START_TEST(recovery_goes_on_from_the_stamps_before)
{
    struct segment *before = create(0);
    struct segment *active;
    struct segment *recovered;
    struct segment_tail tail;
    struct store *store;

    active = create(10);
    fill(active, 2);
    segment_unref(active);
    store = open_store(10);
    before->last_raft_index = 11; /* higher than 10, that of the first batch */
    ck_assert_int_eq(segment_recover(&config, store, before, 0, &recovered, &tail, NULL), ERR_OK);
    ck_assert(tail.torn);
    ck_assert_uint_eq(recovered->end_offset, 10);
    segment_unref(recovered);
    segment_unref(before);
}
END_TEST

START_TEST(a_cut_segment_keeps_what_lies_below)
{
    struct segment *active = create(10);
    struct segment *cut;
    struct batch_header last = {
        .base_offset = 19, .record_count = 3, .raft_index = 19, .append_time_us = 19};
    struct segment_cut where = {
        .position = STORE_HEADER_SIZE + 4 * 204,
        .end_offset = 22,
        .last = &last,
    };

    fill(active, 20);
    ck_assert_int_eq(store_truncate(active->store, where.position, NULL), ERR_OK);
    ck_assert_int_eq(segment_cut(&config, active, store_ref(active->store), &where, &cut, NULL),
                     ERR_OK);
    segment_check(cut);
    fill(cut, 3);
    segment_check(cut);
    segment_unref(cut);
    segment_unref(active);
}
END_TEST

START_TEST(a_find_does_without_an_index_that_lies)
{
    struct segment *active = create(10);
    struct segment_query query = {.offset = 16, .end_max = 70, .size_max = 204};
    struct segment_run run;

    fill(active, 20);
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK);
    ck_assert_uint_eq(run.base_offset, 16);
    ck_assert_uint_eq(run.position, STORE_HEADER_SIZE + 2 * 204);
    index_free(active->index);
    active->index = index_new(config.io, config.size_max, config.index_interval);
    index_add(active->index, 13, STORE_HEADER_SIZE + 2 * 204); /* it is at 1 * 204 */
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK);
    ck_assert_uint_eq(run.base_offset, 16);
    index_free(active->index);
    active->index = index_new(config.io, config.size_max, config.index_interval);
    index_add(active->index, 13, STORE_HEADER_SIZE + 100); /* no batch begins there */
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK);
    ck_assert_uint_eq(run.base_offset, 16);
    ck_assert_uint_eq(run.position, STORE_HEADER_SIZE + 2 * 204);
    segment_unref(active);
}
END_TEST

/* Its checksum is right. */
static void forge_record_count(const struct segment *segment, uint64_t position, uint32_t count)
{
    uint8_t batch[BATCH_HEADER_SIZE];
    struct batch_header header;
    FILE *file = fopen(segment->store->path, "r+b");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(store_read(segment->store, position, batch, sizeof batch, NULL), ERR_OK);
    ck_assert_int_eq(batch_header_decode(batch, 1 << 20, &header, NULL), ERR_OK);
    header.record_count = count;
    batch_header_encode(&header, batch);
    ck_assert_int_eq(fseek(file, (long)position, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(batch, 1, sizeof batch, file), sizeof batch);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_batch_that_reaches_beyond_its_segment_is_damage)
{
    struct segment *active = create(10);
    struct segment_query query = {.offset = 13, .end_max = 19, .size_max = 204};
    struct segment_run run;
    struct block *batches;
    struct err_info info;
    uint64_t end;

    fill(active, 3);
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK);
    forge_record_count(active, STORE_HEADER_SIZE + 204, 6);
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK); /* That is the end. */
    forge_record_count(active, STORE_HEADER_SIZE + 204, 7);
    ck_assert_int_eq(segment_find(active, &query, &run, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "position 236"));
    ck_assert_int_eq(segment_read(active, &query, &batches, &end, NULL), ERR_CORRUPT);
    query = (struct segment_query){.offset = 10, .end_max = 100, .size_max = 2048};
    ck_assert_int_eq(segment_find(active, &query, &run, NULL), ERR_OK);
    ck_assert_uint_eq(run.end_offset, 13); /* Up to there it is as it should be. */
    segment_unref(active);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/segment");
    TCase *tcase = tcase_create("segment");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, names_are_taken_apart_as_they_are_made);
    tcase_add_test(tcase, a_sealed_segment_opens_without_reading_its_store);
    tcase_add_test(tcase, a_seal_of_other_contents_of_the_same_size_is_stale);
    tcase_add_test(tcase, a_seal_with_stamps_that_are_not_the_last_batchs_is_stale);
    tcase_add_test(tcase, recovery_finds_the_end_of_what_verifies);
    tcase_add_test(tcase, recovery_goes_on_from_the_stamps_before);
    tcase_add_test(tcase, a_cut_segment_keeps_what_lies_below);
    tcase_add_test(tcase, a_find_does_without_an_index_that_lies);
    tcase_add_test(tcase, a_batch_that_reaches_beyond_its_segment_is_damage);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
