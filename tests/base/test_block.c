#include "base/block.h"

#include <pthread.h>
#include <string.h>

#include "lib/runner.h"

START_TEST(a_new_block_has_one_reference_and_aligned_bytes)
{
    struct block *block = block_new(1000);

    ck_assert_ptr_nonnull(block);
    ck_assert_uint_eq(block->size, 1000);
    ck_assert_uint_eq(atomic_load(&block->refs), 1);
    ck_assert_uint_eq((uintptr_t)block->data % 16, 0);
    memset(block->data, 1, block->size);
    block_unref(block);
}
END_TEST

START_TEST(the_last_reference_frees)
{
    struct block *block = block_new(0);

    ck_assert_ptr_eq(block_ref(block), block);
    ck_assert_uint_eq(atomic_load(&block->refs), 2);
    block_unref(block);
    ck_assert_uint_eq(atomic_load(&block->refs), 1);
    block_unref(block); /* A leak or a second free is for the sanitizers. */
    block_unref(NULL);
}
END_TEST

static void *take_and_drop(void *arg)
{
    struct block *block = arg;

    for (int i = 0; i < 20000; i++) {
        block_unref(block_ref(block));
    }
    block_unref(block);
    return NULL;
}

START_TEST(threads_share_a_block)
{
    struct block *block = block_new(16);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_drop, block_ref(block)), 0);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_eq(atomic_load(&block->refs), 1);
    block_unref(block);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("block");
    TCase *tcase = tcase_create("block");

    tcase_add_test(tcase, a_new_block_has_one_reference_and_aligned_bytes);
    tcase_add_test(tcase, the_last_reference_frees);
    tcase_add_test(tcase, threads_share_a_block);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
