/*
 * The smallest of a range, against looking at each place.
 */
#include <stdlib.h>

#include "checker/ranges.h"
#include "generator.h"
#include "lib/runner.h"

enum { PLACES_MAX = 40 };

START_TEST(the_smallest_of_a_range_is_the_smallest_of_its_places)
{
    for (size_t count = 0; count <= PLACES_MAX; count++) {
        uint64_t plain[PLACES_MAX];
        struct random random = {count};
        struct ranges ranges;

        ck_assert_int_eq(ranges_init(&ranges, count), ERR_OK);
        for (size_t i = 0; i < count; i++) {
            plain[i] = random_below(&random, 20) == 0 ? UINT64_MAX : random_next(&random);
            ranges_put(&ranges, i, plain[i]);
        }
        for (size_t from = 0; from <= count; from++) {
            uint64_t smallest = UINT64_MAX;

            for (size_t to = from; to <= count; to++) {
                ck_assert_uint_eq(ranges_smallest(&ranges, from, to), smallest);
                smallest = to < count && plain[to] < smallest ? plain[to] : smallest;
            }
        }
        ranges_fini(&ranges);
    }
}
END_TEST

START_TEST(a_place_has_the_smallest_of_the_ranges_over_it)
{
    for (size_t count = 1; count <= PLACES_MAX; count++) {
        uint64_t plain[PLACES_MAX];
        struct random random = {count};
        struct ranges ranges;

        ck_assert_int_eq(ranges_init(&ranges, count), ERR_OK);
        for (size_t i = 0; i < count; i++) {
            plain[i] = UINT64_MAX;
        }
        for (unsigned round = 0; round < 12; round++) {
            size_t from = random_below(&random, count + 1);
            size_t to = from + random_below(&random, count - from + 1);
            uint64_t number = random_next(&random);

            ranges_cover(&ranges, from, to, number);
            for (size_t i = 0; i < count; i++) {
                plain[i] = i >= from && i < to && number < plain[i] ? number : plain[i];
                ck_assert_uint_eq(ranges_at(&ranges, i), plain[i]);
            }
        }
        ranges_fini(&ranges);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/ranges");
    TCase *tcase = tcase_create("ranges");

    tcase_add_test(tcase, the_smallest_of_a_range_is_the_smallest_of_its_places);
    tcase_add_test(tcase, a_place_has_the_smallest_of_the_ranges_over_it);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
