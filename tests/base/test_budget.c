#include "base/budget.h"

#include <pthread.h>

#include "lib/runner.h"

START_TEST(what_is_taken_is_bounded_and_comes_back)
{
    struct budget budget;

    budget_init(&budget, 80);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_eq(budget_used(&budget), i * 10);
        ck_assert(budget_take(&budget, 10));
    }
    ck_assert(!budget_take(&budget, 1));
    budget_give(&budget, 9);
    ck_assert(!budget_take(&budget, 10));
    ck_assert(budget_take(&budget, 9));
    ck_assert_uint_eq(budget_used(&budget), 80);
}
END_TEST

START_TEST(large_pieces_leave_a_quarter_to_small_ones)
{
    struct budget budget;

    budget_init(&budget, 80);
    ck_assert(budget_take(&budget, 40));
    ck_assert(!budget_take(&budget, 21));
    ck_assert(budget_take(&budget, 20));
    ck_assert(!budget_take(&budget, 11));
    ck_assert(budget_take(&budget, 10));
    ck_assert(budget_take(&budget, 10));
    ck_assert(!budget_take(&budget, 1));
}
END_TEST

START_TEST(a_piece_of_any_size_passes_while_hardly_anything_is_taken)
{
    struct budget budget;

    budget_init(&budget, 80);
    ck_assert(budget_take(&budget, 10));
    ck_assert(budget_take(&budget, 75));
    ck_assert(!budget_take(&budget, 1));
    budget_give(&budget, 75);
    ck_assert(budget_take(&budget, 1000));
    ck_assert(!budget_take(&budget, 1));
    budget_give(&budget, 1000);
    ck_assert(budget_take(&budget, 1));
    ck_assert(!budget_take(&budget, 1000));
}
END_TEST

START_TEST(what_cannot_wait_passes_and_counts)
{
    struct budget budget;

    budget_init(&budget, 100);
    ck_assert(!budget_scarce(&budget));
    budget_take_always(&budget, 50);
    ck_assert(!budget_scarce(&budget));
    budget_take_always(&budget, 200);
    ck_assert(budget_scarce(&budget));
    ck_assert(!budget_take(&budget, 1));
    budget_give(&budget, 250);
    ck_assert(!budget_scarce(&budget));
}
END_TEST

START_TEST(no_budget_has_no_bound)
{
    ck_assert(budget_take(NULL, 1 << 30));
    budget_take_always(NULL, 1);
    budget_give(NULL, 1);
    ck_assert(!budget_scarce(NULL));
    ck_assert_uint_eq(budget_used(NULL), 0);
}
END_TEST

static struct budget shared;

static void *take_and_give(void *arg)
{
    unsigned *taken = arg;

    for (unsigned i = 0; i < 20000; i++) {
        if (budget_take(&shared, 30)) {
            ck_assert_uint_le(budget_used(&shared), 112);
            (*taken)++;
            budget_give(&shared, 30);
        }
    }
    return NULL;
}

START_TEST(threads_share_it)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    unsigned taken[THREADS] = {0};
    unsigned all = 0;

    budget_init(&shared, 100);
    for (unsigned i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, &taken[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        all += taken[i];
    }
    ck_assert_uint_gt(all, 0);
    ck_assert_uint_eq(budget_used(&shared), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("base/budget");
    TCase *tcase = tcase_create("budget");

    tcase_add_test(tcase, what_is_taken_is_bounded_and_comes_back);
    tcase_add_test(tcase, large_pieces_leave_a_quarter_to_small_ones);
    tcase_add_test(tcase, a_piece_of_any_size_passes_while_hardly_anything_is_taken);
    tcase_add_test(tcase, what_cannot_wait_passes_and_counts);
    tcase_add_test(tcase, no_budget_has_no_bound);
    tcase_add_test(tcase, threads_share_it);
    suite_add_tcase(s, tcase);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
