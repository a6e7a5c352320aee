#include <stdio.h>
#include <stdlib.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "lookup/lookup_lab.h"
#include "lookup/time_part.h"

static void fill(struct time_table *table, unsigned batches, uint64_t size)
{
    for (unsigned i = 0; i < batches; i++) {
        ck_assert_int_eq(time_table_add(table, 10 * (uint64_t)i,
                                        &(struct time_span){1000 + i / 3, 1000 + i / 3}, size),
                         ERR_OK);
    }
}

START_TEST(the_place_of_a_time_is_between_two_entries)
{
    struct time_table table;

    time_table_init(&table);
    fill(&table, 300, TIME_INTERVAL / 4);
    ck_assert_uint_eq(table.count, 75);
    for (int64_t time = 999; time <= 1101; time++) {
        uint64_t from;
        uint64_t to = 3000;
        /* Batch b has time 1000 + b / 3. */
        uint64_t first = time <= 1000 ? 0 : (uint64_t)(time - 1000) * 30;

        (void)time_entries_find(table.entries, table.count, time, &from, &to);
        ck_assert_uint_le(from, first);
        ck_assert_uint_ge(to, first < 3000 ? first : 3000);
        ck_assert_uint_le(to - from, 40);
    }
    time_table_fini(&table);
}
END_TEST

START_TEST(a_table_is_thinned_and_not_longer_than_its_bound)
{
    struct time_table table;
    uint64_t from;
    uint64_t to;

    time_table_init(&table);
    fill(&table, 3 * TIME_ENTRIES_MAX, TIME_INTERVAL);
    ck_assert_uint_le(table.count, TIME_ENTRIES_MAX);
    ck_assert_uint_ge(table.count, TIME_ENTRIES_MAX / 2);
    ck_assert(time_entries_find(table.entries, table.count, 2000, &from, &to));
    ck_assert_uint_le(from, 30000);
    ck_assert_uint_ge(to, 30000);
    ck_assert_uint_le(to - from, 80);
    time_table_fini(&table);
}
END_TEST

START_TEST(what_is_written_is_read_and_every_flipped_bit_is_found)
{
    const char *dir = tmpdir_new();
    struct part_seal seal = {.kind = PART_TIME, .topic_id = 3, .base_offset = 0, .end_offset = 200};
    struct time_entry *entries;
    struct time_table table;
    struct err_info info;
    char path[512];
    size_t count;

    time_table_init(&table);
    fill(&table, 20, TIME_INTERVAL);
    ck_assert_int_eq(time_part_write(io_real(), dir, &table, &seal, &info), ERR_OK);
    ck_assert_int_eq(time_part_read(io_real(), dir, &seal, &entries, &count, &info), ERR_OK);
    ck_assert_uint_eq(count, table.count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(entries[i].offset, table.entries[i].offset);
        ck_assert_int_eq(entries[i].time_us, table.entries[i].time_us);
    }
    free(entries);
    (void)snprintf(path, sizeof path, "%s/%020d-%020d.timeindex", dir, 0, 200);
    for (uint64_t bit = 0; bit < lab_file_size(path) * 8; bit++) {
        lab_flip_bit(path, bit);
        ck_assert_int_eq(time_part_read(io_real(), dir, &seal, &entries, &count, &info),
                         ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, "00200.timeindex"));
        lab_flip_bit(path, bit);
    }
    seal.topic_id = 4;
    ck_assert_int_eq(time_part_read(io_real(), dir, &seal, &entries, &count, &info), ERR_CORRUPT);
    ck_assert_int_eq(part_remove(io_real(), dir, &seal, &info), ERR_OK);
    ck_assert_int_eq(time_part_read(io_real(), dir, &seal, &entries, &count, &info), ERR_NOT_FOUND);
    time_table_fini(&table);
    tmpdir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("time_part");
    TCase *tcase = tcase_create("times");

    tcase_add_test(tcase, the_place_of_a_time_is_between_two_entries);
    tcase_add_test(tcase, a_table_is_thinned_and_not_longer_than_its_bound);
    tcase_add_test(tcase, what_is_written_is_read_and_every_flipped_bit_is_found);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
