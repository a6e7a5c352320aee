#include "server/deadline.h"

#include <check.h>
#include <stdlib.h>

#include "lib/runner.h"

enum { COUNT = 300 };

static struct deadlines deadlines;
static struct deadline items[COUNT];

static void passed(struct deadline *deadline)
{
    (void)deadline;
}

static void setup(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (struct deadline){.passed = passed};
    }
}

START_TEST(they_pass_in_order_however_they_were_set_moved_and_canceled)
{
    uint64_t state = 12345;
    uint64_t before = 0;
    size_t left = 0;

    for (size_t i = 0; i < COUNT * 4; i++) {
        struct deadline *item = &items[state % COUNT];

        state = state * 6364136223846793005u + 1442695040888963407u;
        if (state >> 62 == 0) {
            deadlines_cancel(&deadlines, item);
        } else {
            ck_assert_int_eq(deadlines_set(&deadlines, item, (state >> 40) % 1000), ERR_OK);
        }
        deadlines_check(&deadlines);
    }
    for (size_t i = 0; i < COUNT; i++) {
        left += items[i].place != 0;
    }
    ck_assert_uint_gt(left, COUNT / 2);
    for (; left > 0; left--) {
        uint64_t next_ms = deadlines_next_ms(&deadlines);
        struct deadline *item;

        ck_assert_uint_ge(next_ms, before);
        ck_assert(next_ms == 0 || deadlines_pop(&deadlines, next_ms - 1) == NULL);
        item = deadlines_pop(&deadlines, next_ms);
        ck_assert_ptr_nonnull(item);
        ck_assert_uint_eq(item->at_ms, next_ms);
        ck_assert_uint_eq(item->place, 0);
        deadlines_check(&deadlines);
        before = next_ms;
    }
    ck_assert_uint_eq(deadlines_next_ms(&deadlines), UINT64_MAX);
    ck_assert_ptr_null(deadlines_pop(&deadlines, UINT64_MAX));
    deadlines_fini(&deadlines);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/deadline");
    TCase *tcase = tcase_create("deadline");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, they_pass_in_order_however_they_were_set_moved_and_canceled);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
