#include "lib/runner.h"
#include "lookup/key_table.h"

enum { ENTRIES = 3000 };

static struct key_table table;

static uint64_t hash_of(uint64_t offset)
{
    return offset % 3 == 0 ? 5 : offset % 100;
}

static void fill(void)
{
    key_table_init(&table);
    for (uint64_t offset = 0; offset < ENTRIES; offset++) {
        ck_assert_int_eq(key_table_reserve(&table, 1), ERR_OK);
        key_table_add(&table, &(struct key_entry){.hash = hash_of(offset), .offset = offset});
    }
}

static void check_find(uint64_t hash, uint64_t from, uint64_t to, bool newest_first, size_t max)
{
    uint64_t offsets[64];
    struct key_find find = {.hash = hash,
                            .from = from,
                            .to = to,
                            .newest_first = newest_first,
                            .offsets = offsets,
                            .count_max = max};
    size_t found = 0;

    key_table_find(&table, &find);
    for (uint64_t i = from; i < to; i++) {
        uint64_t offset = newest_first ? to - 1 - (i - from) : i;

        if (offset >= ENTRIES || hash_of(offset) != hash) {
            continue;
        }
        if (found == max) {
            ck_assert(find.more);
            return;
        }
        ck_assert_uint_lt(found, find.count);
        ck_assert_uint_eq(offsets[found], offset);
        found += 1;
    }
    ck_assert_uint_eq(find.count, found);
    ck_assert(!find.more);
}

START_TEST(finds_what_there_is_both_ways)
{
    fill();
    for (unsigned i = 0; i < 200; i++) {
        uint64_t from = i * 37 % ENTRIES;
        uint64_t to = from + 1 + i * 91 % ENTRIES;

        check_find(i % 2 == 0 ? 5 : i % 103, from, to, i % 3 == 0, 1 + i % 64);
    }
    check_find(5, 0, ENTRIES, false, 64);
    check_find(5, 0, ENTRIES, true, 64);
    key_table_fini(&table);
}
END_TEST

START_TEST(a_cleared_one_is_empty_and_takes_more)
{
    uint64_t offset;
    struct key_find find = {.hash = 5, .to = 10, .offsets = &offset, .count_max = 1};

    fill();
    key_table_clear(&table);
    key_table_find(&table, &find);
    ck_assert_uint_eq(find.count, 0);
    ck_assert_int_eq(key_table_reserve(&table, 1), ERR_OK);
    key_table_add(&table, &(struct key_entry){.hash = 5, .offset = 1});
    key_table_find(&table, &find);
    ck_assert_uint_eq(find.count, 1);
    key_table_fini(&table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key_table");
    TCase *tcase = tcase_create("keys in memory");

    tcase_add_test(tcase, finds_what_there_is_both_ways);
    tcase_add_test(tcase, a_cleared_one_is_empty_and_takes_more);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
