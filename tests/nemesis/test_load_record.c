#include "lib/runner.h"
#include "load_record.h"

enum { COUNT = 64 };

static struct load_record made;

START_TEST(a_record_tells_its_value)
{
    for (uint64_t value = 1; value <= COUNT; value++) {
        for (uint32_t size = LOAD_RECORD_SIZE_MIN; size < LOAD_RECORD_SIZE_MIN + 20; size++) {
            load_record_make(&made, value, size);
            ck_assert_uint_eq(made.record.value_size, size);
            ck_assert_uint_eq(load_record_value(&made.record), value);
        }
    }
}
END_TEST

START_TEST(a_record_of_a_compacted_topic_tells_its_value)
{
    unsigned tombstones = 0;

    for (uint64_t value = 1; value <= COUNT; value++) {
        load_record_make_keyed(&made, value, 40);
        tombstones += load_record_is_tombstone(value);
        ck_assert_int_eq(made.record.value_size == 0, load_record_is_tombstone(value));
        ck_assert_ptr_nonnull(made.record.key);
        ck_assert_uint_gt(load_record_key(value), 0);
        ck_assert_uint_eq(load_record_value(&made.record), value);
        made.record.key_size--;
        ck_assert_uint_eq(load_record_value(&made.record), 0);
    }
    ck_assert(tombstones > 0 && tombstones < COUNT / 2);
}
END_TEST

START_TEST(any_other_bit_makes_it_no_record)
{
    for (uint64_t value = 1; value <= 16; value++) {
        load_record_make(&made, value, 40);
        for (size_t bit = 0; bit < 40 * 8; bit++) {
            made.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            ck_assert_uint_eq(load_record_value(&made.record), 0);
            made.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        ck_assert_uint_eq(load_record_value(&made.record), value);
    }
}
END_TEST

START_TEST(a_part_or_more_of_it_is_no_record)
{
    load_record_make(&made, 5, 100);
    made.record.value_size = 99;
    ck_assert_uint_eq(load_record_value(&made.record), 0);
    made.record.value_size = 101;
    ck_assert_uint_eq(load_record_value(&made.record), 0);
    made.record.value_size = 3;
    ck_assert_uint_eq(load_record_value(&made.record), 0);
}
END_TEST

/* Another key, header or time: of those that have one, and of those that have none. */
START_TEST(what_goes_with_the_bytes_counts)
{
    static const struct record_header other = {.name = "number", .value = "x", .value_size = 1};
    unsigned keys = 0;
    unsigned headers = 0;

    for (uint64_t value = 1; value <= COUNT; value++) {
        struct record record;

        load_record_make(&made, value, 32);
        keys += made.record.key != NULL ? 1 : 0;
        headers += made.record.header_count > 0 ? 1 : 0;
        record = made.record;
        record.key = record.key != NULL ? NULL : "key";
        record.key_size = record.key != NULL ? 3 : 0;
        ck_assert_uint_eq(load_record_value(&record), 0);
        record = made.record;
        record.headers = &other;
        record.header_count = 1;
        ck_assert_uint_eq(load_record_value(&record), 0);
        record = made.record;
        record.timestamp_us++;
        ck_assert_uint_eq(load_record_value(&record), 0);
    }
    ck_assert(keys > 0 && keys < COUNT);
    ck_assert(headers > 0 && headers < COUNT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nemesis/load_record");
    TCase *tcase = tcase_create("load_record_value");

    tcase_add_test(tcase, a_record_tells_its_value);
    tcase_add_test(tcase, a_record_of_a_compacted_topic_tells_its_value);
    tcase_add_test(tcase, any_other_bit_makes_it_no_record);
    tcase_add_test(tcase, a_part_or_more_of_it_is_no_record);
    tcase_add_test(tcase, what_goes_with_the_bytes_counts);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
