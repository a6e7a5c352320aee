#include "transport/waker.h"

#include <pthread.h>
#include <string.h>

#include "lib/runner.h"

enum { WAKES = 20000 };

static struct waker waker;
static uv_loop_t loop;
static unsigned woken;
static bool stopped;
static atomic_uint done; /* what the wakers did before they woke */
static unsigned seen;

static void setup(void)
{
    woken = 0;
    stopped = false;
    seen = 0;
    atomic_store(&done, 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(waker_init(&waker), ERR_OK);
}

static void teardown(void)
{
    waker_fini(&waker);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void on_stopped(void *arg)
{
    ck_assert_ptr_eq(arg, &woken);
    stopped = true;
}

static void stop_at_first(void *arg)
{
    ck_assert_ptr_eq(arg, &woken);
    woken++;
    waker_stop(&waker, on_stopped);
}

static void stop_when_all_is_done(void *arg)
{
    (void)arg;
    woken++;
    seen = atomic_load(&done);
    if (seen == 2 * WAKES) {
        waker_stop(&waker, on_stopped);
    }
}

static void *wake_often(void *arg)
{
    for (unsigned i = 0; i < WAKES; i++) {
        atomic_fetch_add(&done, 1);
        waker_wake(&waker);
    }
    return arg;
}

START_TEST(wakes_before_the_loop_runs_are_one_call)
{
    ck_assert_int_eq(waker_start(&waker, &loop, stop_at_first, &woken), ERR_OK);
    waker_wake(&waker);
    waker_wake(&waker);
    ck_assert_uint_eq(woken, 0);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(woken, 1);
    ck_assert(stopped);
}
END_TEST

START_TEST(a_wake_before_start_is_not_lost)
{
    waker_wake(&waker);
    ck_assert_int_eq(waker_start(&waker, &loop, stop_at_first, &woken), ERR_OK);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(woken, 1);
}
END_TEST

START_TEST(nothing_calls_without_a_wake)
{
    ck_assert_int_eq(waker_start(&waker, &loop, stop_at_first, &woken), ERR_OK);
    ck_assert_int_ne(uv_run(&loop, UV_RUN_NOWAIT), 0);
    ck_assert_uint_eq(woken, 0);
    waker_stop(&waker, on_stopped);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert(stopped);
}
END_TEST

START_TEST(a_wake_after_stop_changes_nothing)
{
    ck_assert_int_eq(waker_start(&waker, &loop, stop_at_first, &woken), ERR_OK);
    waker_stop(&waker, on_stopped);
    waker_wake(&waker);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    waker_wake(&waker);
    ck_assert_uint_eq(woken, 0);
}
END_TEST

/* Would hang if one were lost. */
START_TEST(the_last_of_many_wakes_from_threads_is_seen)
{
    pthread_t threads[2];

    ck_assert_int_eq(waker_start(&waker, &loop, stop_when_all_is_done, &woken), ERR_OK);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wake_often, NULL), 0);
    }
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(seen, 2 * WAKES);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_le(woken, 2 * WAKES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/waker");
    TCase *tcase = tcase_create("waker");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, wakes_before_the_loop_runs_are_one_call);
    tcase_add_test(tcase, a_wake_before_start_is_not_lost);
    tcase_add_test(tcase, nothing_calls_without_a_wake);
    tcase_add_test(tcase, a_wake_after_stop_changes_nothing);
    tcase_add_test(tcase, the_last_of_many_wakes_from_threads_is_seen);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
