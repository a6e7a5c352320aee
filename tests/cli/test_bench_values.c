#include "cli/bench_values.h"

#include <string.h>

#include "lib/runner.h"

START_TEST(every_record_has_the_same_bytes_without_words)
{
    struct bench_values values;

    bench_values_init(&values, 13, false);
    for (uint64_t i = 0; i < 100; i++) {
        ck_assert_mem_eq(bench_values_get(&values, i), bench_values_get(&values, 0), 13);
    }
    bench_values_fini(&values);
}
END_TEST

START_TEST(words_are_letters_and_differ_from_record_to_record)
{
    struct bench_values values;

    bench_values_init(&values, 64, true);
    for (uint64_t i = 0; i < 5000; i++) {
        const uint8_t *value = bench_values_get(&values, i);

        for (size_t at = 0; at < 64; at++) {
            ck_assert(value[at] == ' ' || (value[at] >= 'a' && value[at] <= 'z'));
        }
        ck_assert(memcmp(value, bench_values_get(&values, i + 1), 64) != 0);
    }
    bench_values_fini(&values);
}
END_TEST

START_TEST(front_replaces_the_first_bytes_and_no_others)
{
    static const char front[] = {1, 2, 3};
    struct bench_values values;
    const uint8_t *value;

    bench_values_init(&values, 40, true);
    value = bench_values_with(&values, 17, front, sizeof front);
    ck_assert_mem_eq(value, front, sizeof front);
    ck_assert_mem_eq(value + 3, bench_values_get(&values, 17) + 3, 37);
    ck_assert_mem_ne(bench_values_get(&values, 17), front, sizeof front);
    bench_values_fini(&values);
}
END_TEST

START_TEST(front_may_be_all_of_it)
{
    static const char front[] = {1, 2, 3};
    struct bench_values values;

    bench_values_init(&values, sizeof front, false);
    ck_assert_mem_eq(bench_values_with(&values, 0, front, sizeof front), front, sizeof front);
    bench_values_fini(&values);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/bench_values");
    TCase *tcase = tcase_create("values");

    tcase_add_test(tcase, every_record_has_the_same_bytes_without_words);
    tcase_add_test(tcase, words_are_letters_and_differ_from_record_to_record);
    tcase_add_test(tcase, front_replaces_the_first_bytes_and_no_others);
    tcase_add_test(tcase, front_may_be_all_of_it);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
