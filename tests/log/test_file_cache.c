#include "log/file_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "lib/runner.h"

enum { ITEMS = 8, THREADS = 4, TURNS = 20000 };

static struct file_cache *cache;
static struct file_cache_item items[ITEMS];
static atomic_int open_counts[ITEMS]; /* how often "opened" and not yet closed */
static atomic_int open_count;

static void closed(void *context, int fd, void *object)
{
    atomic_int *count = context;

    ck_assert_ptr_null(object);
    ck_assert_int_eq(fd, (int)(count - open_counts) + 100);
    atomic_fetch_sub(count, 1);
    atomic_fetch_sub(&open_count, 1);
}

static void start(size_t max, size_t limit)
{
    const struct file_cache_options options = {
        .descriptors_max = max, .descriptors_limit = limit, .mapped_max = 100};

    cache = file_cache_new(&options);
    ck_assert_ptr_nonnull(cache);
    for (size_t i = 0; i < ITEMS; i++) {
        atomic_store(&open_counts[i], 0);
        file_cache_item_init(&items[i], FILE_CACHE_DESCRIPTOR, closed, &open_counts[i]);
    }
    atomic_store(&open_count, 0);
}

static void finish(void)
{
    for (size_t i = 0; i < ITEMS; i++) {
        file_cache_forget(cache, &items[i]);
    }
    ck_assert_int_eq(atomic_load(&open_count), 0);
    file_cache_unref(cache);
}

/* What a store does. */
static enum file_cache_outcome acquire(size_t i)
{
    enum file_cache_outcome outcome = file_cache_acquire(cache, &items[i]);
    struct file_cache_item opened = {.kind = FILE_CACHE_DESCRIPTOR, .fd = (int)i + 100};
    bool taken;

    if (outcome != FILE_CACHE_MISS) {
        return outcome;
    }
    atomic_fetch_add(&open_counts[i], 1);
    atomic_fetch_add(&open_count, 1);
    outcome = file_cache_install(cache, &items[i], &opened, &taken);
    if (!taken) {
        closed(&open_counts[i], opened.fd, NULL);
    }
    return outcome == FILE_CACHE_HIT ? FILE_CACHE_MISS : outcome;
}

static void use(size_t i, enum file_cache_outcome expected)
{
    ck_assert_int_eq((int)acquire(i), (int)expected);
    file_cache_release(cache, &items[i]);
}

static struct file_cache_stats stats(void)
{
    struct file_cache_stats now;

    file_cache_stats(cache, &now);
    return now;
}

START_TEST(what_was_used_longest_ago_is_closed_first)
{
    start(2, 10);
    use(0, FILE_CACHE_MISS);
    use(1, FILE_CACHE_MISS);
    use(0, FILE_CACHE_HIT);
    use(2, FILE_CACHE_MISS); /* 1 goes */
    use(0, FILE_CACHE_HIT);
    use(2, FILE_CACHE_HIT);
    use(1, FILE_CACHE_MISS); /* 0 goes */
    ck_assert_int_eq(atomic_load(&open_counts[0]), 0);
    ck_assert_uint_eq(stats().descriptors, 2);
    ck_assert_uint_eq(stats().hits, 3);
    ck_assert_uint_eq(stats().misses, 4);
    ck_assert_uint_eq(stats().evictions, 2);
    finish();
}
END_TEST

START_TEST(what_is_pinned_stays_open_and_past_the_limit_nothing_opens)
{
    start(2, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq((int)acquire(i), FILE_CACHE_MISS);
    }
    ck_assert_uint_eq(stats().descriptors_pinned, 4);
    ck_assert(file_cache_is_crowded(cache) && file_cache_is_full(cache));
    ck_assert_int_eq((int)acquire(4), FILE_CACHE_FULL);
    ck_assert_int_eq((int)acquire(3), FILE_CACHE_HIT);
    ck_assert_uint_eq(stats().refused, 1);
    ck_assert_int_eq((int)file_cache_acquire_always(cache, &items[4]), FILE_CACHE_MISS);
    ck_assert_int_eq((int)file_cache_abandon(cache, &items[4]), FILE_CACHE_MISS);
    file_cache_release(cache, &items[3]);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(atomic_load(&open_counts[i]), 1);
        file_cache_release(cache, &items[i]);
        ck_assert_uint_le(stats().descriptors, 4 - (i < 2 ? i + 1 : 2));
    }
    ck_assert_uint_eq(stats().descriptors, 2);
    ck_assert(!file_cache_is_crowded(cache));
    finish();
}
END_TEST

START_TEST(of_two_who_open_the_same_file_one_closes_it_again)
{
    const struct file_cache_item opened = {.kind = FILE_CACHE_DESCRIPTOR, .fd = 100};
    bool taken;

    start(2, 4);
    ck_assert_int_eq((int)file_cache_acquire(cache, &items[0]), FILE_CACHE_MISS);
    ck_assert_int_eq((int)acquire(0), FILE_CACHE_MISS);
    ck_assert_int_eq((int)file_cache_install(cache, &items[0], &opened, &taken), FILE_CACHE_HIT);
    ck_assert(!taken);
    ck_assert_int_eq((int)file_cache_acquire(cache, &items[0]), FILE_CACHE_HIT);
    ck_assert_uint_eq(stats().descriptors, 1);
    for (int i = 0; i < 3; i++) {
        file_cache_release(cache, &items[0]);
    }
    ck_assert_uint_eq(stats().descriptors_pinned, 0);
    finish();
}
END_TEST

START_TEST(a_file_without_a_name_stays_open_or_is_gone)
{
    const struct file_cache_item opened = {.kind = FILE_CACHE_DESCRIPTOR, .fd = 101};
    bool taken;

    start(2, 4);
    ck_assert_int_eq((int)acquire(0), FILE_CACHE_MISS);
    ck_assert_int_eq((int)file_cache_acquire(cache, &items[1]), FILE_CACHE_MISS);
    file_cache_set_gone(cache, &items[0]);
    file_cache_set_gone(cache, &items[1]);
    ck_assert_int_eq((int)file_cache_install(cache, &items[1], &opened, &taken), FILE_CACHE_GONE);
    ck_assert(!taken);
    ck_assert_int_eq((int)acquire(0), FILE_CACHE_HIT);
    ck_assert_int_eq((int)acquire(1), FILE_CACHE_GONE);
    file_cache_release(cache, &items[0]);
    file_cache_release(cache, &items[0]);
    use(2, FILE_CACHE_MISS);
    use(3, FILE_CACHE_MISS);
    ck_assert_int_eq((int)acquire(0), FILE_CACHE_GONE);
    finish();
}
END_TEST

static void unmapped(void *context, int fd, void *object)
{
    ck_assert_int_eq(fd, -1);
    ck_assert_ptr_eq(context, object);
    atomic_fetch_sub(&open_count, 1);
}

START_TEST(mapped_bytes_are_bounded_for_themselves)
{
    bool taken;

    start(2, 4);
    for (size_t i = 0; i < ITEMS; i++) {
        const struct file_cache_item opened = {
            .kind = FILE_CACHE_MAP, .fd = -1, .object = &items[i], .size = 40};

        file_cache_item_init(&items[i], FILE_CACHE_MAP, unmapped, &items[i]);
        ck_assert_int_eq((int)file_cache_acquire(cache, &items[i]), FILE_CACHE_MISS);
        atomic_fetch_add(&open_count, 1);
        ck_assert_int_eq((int)file_cache_install(cache, &items[i], &opened, &taken),
                         FILE_CACHE_HIT);
        ck_assert(taken);
        file_cache_release(cache, &items[i]);
        ck_assert_uint_le(stats().mapped, 100);
    }
    ck_assert_uint_eq(stats().mapped, 80);
    ck_assert_uint_eq(stats().descriptors, 0);
    ck_assert_int_eq(atomic_load(&open_count), 2);
    finish();
}
END_TEST

START_TEST(the_process_may_open_more_than_the_cache_does)
{
    static const struct {
        uint64_t files;
        uint64_t max;
        size_t expected_max;
        size_t expected_limit;
    } cases[] = {
        {1024, 0, 384, 768}, {1 << 20, 0, 1024, 8192},
        {1 << 20, 8, 8, 64}, {65536, 4096, 4096, 32768},
        {2, 8, 1, 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cache = file_cache_new_for(cases[i].files, cases[i].max);
        ck_assert_uint_eq(stats().descriptors_max, cases[i].expected_max);
        ck_assert_uint_eq(stats().descriptors_limit, cases[i].expected_limit);
        file_cache_unref(cache);
    }
}
END_TEST

/* At random, with what it must see each time. */
static void *turn(void *arg)
{
    uint64_t state = (uint64_t)(uintptr_t)arg;

    for (int i = 0; i < TURNS; i++) {
        size_t item;
        enum file_cache_outcome outcome;

        state = state * UINT64_C(6364136223846793005) + 1442695040888963407U;
        item = (size_t)(state >> 33) % ITEMS;
        outcome = acquire(item);
        if (outcome == FILE_CACHE_FULL) {
            continue;
        }
        ck_assert_int_ge(atomic_load(&open_counts[item]), 1); /* Nobody closes it under us. */
        ck_assert_int_eq(items[item].fd, (int)item + 100);
        file_cache_release(cache, &items[item]);
    }
    return NULL;
}

START_TEST(threads_never_see_a_file_closed_that_they_hold)
{
    pthread_t threads[THREADS];

    start(2, 3);
    for (uintptr_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, turn, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_le(stats().descriptors, 2);
    ck_assert_uint_eq(stats().descriptors_pinned, 0);
    ck_assert_uint_gt(stats().evictions, 0);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/file_cache");
    TCase *tcase = tcase_create("file_cache");

    tcase_add_test(tcase, what_was_used_longest_ago_is_closed_first);
    tcase_add_test(tcase, what_is_pinned_stays_open_and_past_the_limit_nothing_opens);
    tcase_add_test(tcase, of_two_who_open_the_same_file_one_closes_it_again);
    tcase_add_test(tcase, a_file_without_a_name_stays_open_or_is_gone);
    tcase_add_test(tcase, mapped_bytes_are_bounded_for_themselves);
    tcase_add_test(tcase, the_process_may_open_more_than_the_cache_does);
    tcase_add_test(tcase, threads_never_see_a_file_closed_that_they_hold);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
