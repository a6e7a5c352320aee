#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "lookup/key_run.h"
#include "lookup/lookup_lab.h"

enum { ENTRIES = 20000, HASHES = 40 };

static const char *dir;
static struct part_seal seal;
static struct key_stamp stamp;
static struct key_entry entries[ENTRIES];
static struct key_run *run;

static int compare(const void *a, const void *b)
{
    return key_entry_compare(a, b);
}

/* Half of them have the hash 0, a quarter the largest: chains longer than a block. */
static uint64_t hash_of(unsigned i)
{
    return i % 2 == 0 ? 0 : (i % 4 == 1 ? UINT64_MAX : i % HASHES);
}

static void make(unsigned count)
{
    struct key_writer *writer;

    dir = tmpdir_new();
    seal = (struct part_seal){
        .kind = PART_KEYS, .topic_id = 3, .base_offset = 0, .end_offset = ENTRIES};
    for (unsigned i = 0; i < count; i++) {
        entries[i] = (struct key_entry){.hash = hash_of(i), .offset = i};
    }
    qsort(entries, count, sizeof entries[0], compare);
    ck_assert_int_eq(key_writer_open(io_real(), dir, &seal, count, &writer, NULL), ERR_OK);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(key_writer_add(writer, &entries[i], NULL), ERR_OK);
    }
    ck_assert_int_eq(key_writer_finish(writer, &seal, NULL), ERR_OK);
    ck_assert_int_eq(key_run_verify(io_real(), dir, &seal, NULL, NULL, &stamp, NULL), ERR_OK);
    ck_assert_int_eq(key_run_open(dir, &seal, &stamp, &run, NULL), ERR_OK);
}

static void finish(void)
{
    key_run_close(run);
    tmpdir_remove(dir);
}

static void check_find(unsigned count, uint64_t hash, uint64_t from, uint64_t to, bool newest_first)
{
    uint64_t offsets[50];
    struct key_find find = {.hash = hash,
                            .from = from,
                            .to = to,
                            .newest_first = newest_first,
                            .offsets = offsets,
                            .count_max = 50};
    uint64_t pages = 0;
    size_t found = 0;

    ck_assert_int_eq(key_run_find(run, &find, &pages, NULL), ERR_OK);
    ck_assert_uint_le(pages, 8);
    for (uint64_t i = from; i < to; i++) {
        uint64_t offset = newest_first ? to - 1 - (i - from) : i;

        if (offset < count && hash_of((unsigned)offset) == hash) {
            if (found == 50) {
                ck_assert(find.more);
                return;
            }
            ck_assert_uint_lt(found, find.count);
            ck_assert_uint_eq(offsets[found], offset);
            found += 1;
        }
    }
    ck_assert_uint_eq(found, find.count);
    ck_assert(!find.more);
}

START_TEST(finds_what_there_is_both_ways)
{
    static const uint64_t hashes[] = {0, 1, 3, 7, 15, 39, 1000, UINT64_MAX};

    make(ENTRIES);
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        for (unsigned k = 0; k < 40; k++) {
            uint64_t from = k * 487 % ENTRIES;
            uint64_t to = from + 1 + (k * 977 % (ENTRIES - from));

            check_find(ENTRIES, hashes[i], from, to, k % 2 == 0);
        }
        check_find(ENTRIES, hashes[i], 0, ENTRIES, true);
        check_find(ENTRIES, hashes[i], 0, ENTRIES, false);
    }
    finish();
}
END_TEST

START_TEST(one_without_entries_has_none)
{
    make(0);
    check_find(0, 7, 0, ENTRIES, false);
    check_find(0, 7, 0, ENTRIES, true);
    finish();
}
END_TEST

START_TEST(a_walk_passes_all_in_order)
{
    struct key_walk *walk;
    struct key_entry entry;

    make(ENTRIES);
    ck_assert_int_eq(key_walk_new(run, &walk, NULL), ERR_OK);
    for (unsigned i = 0; i < ENTRIES; i++) {
        ck_assert_int_eq(key_walk_next(walk, &entry, NULL), ERR_OK);
        ck_assert(key_entry_compare(&entry, &entries[i]) == 0);
    }
    ck_assert_int_eq(key_walk_next(walk, &entry, NULL), ERR_AGAIN);
    key_walk_free(walk);
    finish();
}
END_TEST

START_TEST(every_flipped_bit_is_found_before_it_is_opened)
{
    struct err_info info;
    char path[512];
    uint64_t bits;

    make(2000);
    (void)snprintf(path, sizeof path, "%s/%020d-%020d.keys", dir, 0, ENTRIES);
    bits = lab_file_size(path) * 8;
    for (uint64_t i = 0; i < 1500; i++) {
        /* All of the seal and of what is before it, some of the rest. */
        uint64_t bit = i < 1200 ? bits - 1 - i : (i * 2654435761u) % bits;

        lab_flip_bit(path, bit);
        ck_assert_int_eq(key_run_verify(io_real(), dir, &seal, NULL, NULL, &stamp, &info),
                         ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, ".keys"));
        lab_flip_bit(path, bit);
    }
    finish();
}
END_TEST

START_TEST(one_that_was_changed_since_is_not_asked)
{
    uint64_t offsets[1];
    struct key_find find = {.hash = 1, .to = 100, .offsets = offsets, .count_max = 1};
    struct key_run *other;
    uint64_t pages = 0;
    char path[512];

    make(100);
    (void)snprintf(path, sizeof path, "%s/%020d-%020d.keys", dir, 0, ENTRIES);
    ck_assert_int_eq(usleep(20000), 0); /* A file system's clock ticks some times in that. */
    lab_flip_bit(path, 9000);
    ck_assert_int_eq(key_run_find(run, &find, &pages, NULL), ERR_CORRUPT);
    ck_assert_int_eq(key_run_open(dir, &seal, &stamp, &other, NULL), ERR_CORRUPT);
    finish();
}
END_TEST

START_TEST(one_that_is_given_up_leaves_nothing)
{
    struct key_writer *writer;
    char path[512];

    dir = tmpdir_new();
    seal = (struct part_seal){.kind = PART_KEYS, .topic_id = 3, .base_offset = 0, .end_offset = 10};
    ck_assert_int_eq(key_writer_open(io_real(), dir, &seal, 5, &writer, NULL), ERR_OK);
    ck_assert_int_eq(key_writer_add(writer, &(struct key_entry){.hash = 1, .offset = 2}, NULL),
                     ERR_OK);
    key_writer_abort(writer);
    (void)snprintf(path, sizeof path, "%s/%020d-%020d.keys.tmp", dir, 0, 10);
    ck_assert_int_ne(access(path, F_OK), 0);
    tmpdir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key_run");
    TCase *tcase = tcase_create("runs");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, finds_what_there_is_both_ways);
    tcase_add_test(tcase, one_without_entries_has_none);
    tcase_add_test(tcase, a_walk_passes_all_in_order);
    tcase_add_test(tcase, every_flipped_bit_is_found_before_it_is_opened);
    tcase_add_test(tcase, one_that_was_changed_since_is_not_asked);
    tcase_add_test(tcase, one_that_is_given_up_leaves_nothing);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
