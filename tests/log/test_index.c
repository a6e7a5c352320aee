#include "log/index.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log_fixture.h"

static const char *dir;
static char path[512];

static void setup(void)
{
    dir = tmpdir_new();
    (void)snprintf(path, sizeof path, "%s/index", dir);
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static const struct index_header ours = {.base_offset = 50, .generation = 3, .rewrites = 7};
static const struct index_seal sample = {
    .store_size = 12345,
    .end_offset = 678,
    .last_position = 12000,
    .last_raft_index = 99,
    .last_append_time_us = -4,
    .last_header_crc = 0xdeadbeef,
};

/* Ten batches of 100 offsets and 1000 bytes. */
static struct index *make(uint32_t interval)
{
    struct index *index = index_new(io_real(), 10000, interval);

    ck_assert_ptr_nonnull(index);
    for (uint64_t i = 0; i < 10; i++) {
        index_add(index, 50 + i * 100, 32 + i * 1000);
    }
    return index;
}

START_TEST(an_entry_is_kept_each_interval)
{
    struct index *index = make(1);

    ck_assert_uint_eq(index_count(index), 10);
    index_free(index);
    index = make(1000);
    ck_assert_uint_eq(index_count(index), 10);
    index_free(index);
    index = make(1001);
    ck_assert_uint_eq(index_count(index), 5);
    ck_assert_uint_eq(index_get(index, 1).offset, 250);
    ck_assert_uint_eq(index_get(index, 1).position, 2032);
    index_free(index);
    index = make(100000);
    ck_assert_uint_eq(index_count(index), 1);
    index_free(index);
}
END_TEST

START_TEST(the_last_entry_at_or_below_an_offset_is_found)
{
    struct index *index = make(1);
    struct index_entry entry;

    for (uint64_t offset = 0; offset < 2000; offset++) {
        bool found = index_find(index, offset, &entry);

        ck_assert_int_eq(found, offset >= 50);
        if (found) {
            uint64_t i = offset >= 950 ? 9 : (offset - 50) / 100;

            ck_assert_uint_eq(entry.offset, 50 + i * 100);
            ck_assert_uint_eq(entry.position, 32 + i * 1000);
        }
        found = index_find_from(index, offset, &entry);
        ck_assert_int_eq(found, offset <= 950);
        if (found) {
            ck_assert_uint_eq(entry.offset, offset <= 50 ? 50 : (offset + 49) / 100 * 100 + 50);
        }
    }
    index_free(index);
}
END_TEST

START_TEST(more_entries_than_were_expected_are_left_out)
{
    struct index *index = index_new(io_real(), 2000, 500);
    struct index_entry entry;

    for (uint64_t i = 0; i < 100; i++) {
        index_add(index, i, 32 + i * 500);
    }
    ck_assert_uint_eq(index_count(index), 6);
    ck_assert(index_find(index, 99, &entry));
    ck_assert_uint_eq(entry.offset, 5);
    index_free(index);
}
END_TEST

START_TEST(a_copy_ends_below_the_position)
{
    struct index *index = make(1);
    struct index *copy = index_copy(index, 32 + 3000, 10000, 1);

    ck_assert_uint_eq(index_count(copy), 3);
    ck_assert_uint_eq(index_get(copy, 2).offset, 250);
    index_free(copy);
    copy = index_copy(index, 32, 10000, 1);
    ck_assert_uint_eq(index_count(copy), 0);
    index_free(copy);
    index_free(index);
}
END_TEST

START_TEST(a_sealed_index_comes_back_from_its_file)
{
    struct index *index = make(1);
    struct index *sealed;
    struct index *opened;
    struct index_seal seal;

    ck_assert_int_eq(index_seal(index, path, &ours, &sample, &sealed, NULL), ERR_OK);
    ck_assert_int_ge(sealed->fd, 0); /* to be synced */
    ck_assert_int_eq(index_open(io_real(), path, &ours, &opened, &seal, NULL), ERR_OK);
    ck_assert_uint_eq(seal.store_size, sample.store_size);
    ck_assert_uint_eq(seal.end_offset, sample.end_offset);
    ck_assert_uint_eq(seal.last_position, sample.last_position);
    ck_assert_uint_eq(seal.last_raft_index, sample.last_raft_index);
    ck_assert_int_eq(seal.last_append_time_us, sample.last_append_time_us);
    ck_assert_uint_eq(seal.last_header_crc, sample.last_header_crc);
    ck_assert_uint_eq(index_count(opened), 10);
    for (size_t i = 0; i < 10; i++) {
        ck_assert_uint_eq(index_get(opened, i).offset, index_get(index, i).offset);
        ck_assert_uint_eq(index_get(sealed, i).position, index_get(index, i).position);
    }
    index_free(opened);
    index_free(sealed);
    index_free(index);
    ck_assert_uint_eq(file_size(path), INDEX_HEADER_SIZE + 10 * INDEX_ENTRY_SIZE + INDEX_SEAL_SIZE);
}
END_TEST

START_TEST(an_index_that_is_not_whole_or_not_ours_is_refused)
{
    struct index *index = make(2000);
    struct index *sealed;
    struct index_seal seal;
    uint8_t bytes[512];
    size_t size;

    ck_assert_int_eq(index_open(io_real(), path, &ours, &sealed, &seal, NULL), ERR_NOT_FOUND);
    ck_assert_int_eq(index_seal(index, path, &ours, &sample, &sealed, NULL), ERR_OK);
    index_free(sealed);
    index_free(index);
    for (int i = 0; i < 3; i++) {
        struct index_header other = ours;

        other.base_offset += i == 0 ? 1 : 0;
        other.generation += i == 1 ? 1 : 0;
        other.rewrites = (uint16_t)(other.rewrites + (i == 2 ? 1 : 0));
        ck_assert_int_eq(index_open(io_real(), path, &other, &sealed, &seal, NULL), ERR_CORRUPT);
    }
    size = file_read(path, bytes, sizeof bytes);
    for (size_t cut = 0; cut < size; cut++) {
        file_write(path, bytes, cut);
        ck_assert_int_eq(index_open(io_real(), path, &ours, &sealed, &seal, NULL), ERR_CORRUPT);
    }
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0x10;
        file_write(path, bytes, size);
        ck_assert_int_eq(index_open(io_real(), path, &ours, &sealed, &seal, NULL), ERR_CORRUPT);
        bytes[at] ^= 0x10;
    }
    bytes[12] = 1; /* a flag of tomorrow */
    bytes_put_u32(bytes + 4, crc32c(bytes + 8, INDEX_HEADER_SIZE - 8));
    file_write(path, bytes, size);
    ck_assert_int_eq(index_open(io_real(), path, &ours, &sealed, &seal, NULL), ERR_VERSION);
}
END_TEST

/* Its checksums are made right again, as a program that errs would write them. */
static void put_entry(uint8_t *file, size_t size, size_t i, uint64_t offset, uint64_t position)
{
    uint8_t *entry = file + INDEX_HEADER_SIZE + i * INDEX_ENTRY_SIZE;
    uint8_t *seal = file + size - INDEX_SEAL_SIZE;
    uint32_t crc;

    bytes_put_u64(entry, offset);
    bytes_put_u64(entry + 8, position);
    crc = crc32c(file + INDEX_HEADER_SIZE, size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE);
    bytes_put_u32(seal + 4, crc32c_extend(crc, seal + 8, INDEX_SEAL_SIZE - 8));
    file_write(path, file, size);
}

START_TEST(entries_out_of_order_are_refused)
{
    static const struct {
        size_t i;
        uint64_t offset;
        uint64_t position;
        enum err err;
    } cases[] = {
        {3, 350, 3032, ERR_OK},      {3, 250, 3032, ERR_CORRUPT},   {3, 450, 3032, ERR_CORRUPT},
        {3, 350, 2032, ERR_CORRUPT}, {9, 0, 9032, ERR_CORRUPT},     {0, 49, 32, ERR_CORRUPT},
        {0, 51, 32, ERR_CORRUPT},    {9, UINT64_MAX, 9032, ERR_OK},
    };
    struct index *index = make(1);
    struct index *sealed;
    struct index_seal seal;
    uint8_t bytes[512];
    size_t size;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err_info info = {0};
        enum err err;

        size = INDEX_HEADER_SIZE + 10 * INDEX_ENTRY_SIZE + INDEX_SEAL_SIZE;
        ck_assert_int_eq(index_seal(index, path, &ours, &sample, &sealed, NULL), ERR_OK);
        index_free(sealed);
        ck_assert_uint_eq(file_read(path, bytes, sizeof bytes), size);
        put_entry(bytes, size, cases[i].i, cases[i].offset, cases[i].position);
        err = index_open(io_real(), path, &ours, &sealed, &seal, &info);
        ck_assert_msg(err == cases[i].err, "case %zu: %s", i, err_name(err));
        if (err == ERR_OK) {
            index_free(sealed);
        } else {
            ck_assert_ptr_nonnull(strstr(info.text, path));
        }
    }
    index_free(index);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/index");
    TCase *memory = tcase_create("memory");
    TCase *file = tcase_create("file");

    tcase_add_test(memory, an_entry_is_kept_each_interval);
    tcase_add_test(memory, the_last_entry_at_or_below_an_offset_is_found);
    tcase_add_test(memory, more_entries_than_were_expected_are_left_out);
    tcase_add_test(memory, a_copy_ends_below_the_position);
    tcase_add_checked_fixture(file, setup, teardown);
    tcase_add_test(file, a_sealed_index_comes_back_from_its_file);
    tcase_add_test(file, an_index_that_is_not_whole_or_not_ours_is_refused);
    tcase_add_test(file, entries_out_of_order_are_refused);
    suite_add_tcase(suite, memory);
    suite_add_tcase(suite, file);
    return runner_main(suite);
}
