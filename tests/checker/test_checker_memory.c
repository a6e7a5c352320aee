/*
 * Each allocation of the checker fails in turn: it says ERR_NOMEM and lets go of what it has.
 */
#include <stdlib.h>
#include <string.h>

#include "checker/checker.h"
#include "generator.h"
#include "lib/runner.h"

static uint64_t allocations_left = UINT64_MAX;

static bool fails(void)
{
    return allocations_left == 0 || allocations_left-- == 0;
}

/* The linker puts these in the place of libc's, which have the other names. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_reallocarray(void *pointer, size_t count, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_reallocarray(void *pointer, size_t count, size_t size)
{
    return fails() ? NULL : __real_reallocarray(pointer, count, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* Decides a story with so many allocations; ret_left: that were not needed. */
static enum err decide(const struct story *story, uint64_t allocations, uint64_t *ret_left)
{
    struct checker *checker = NULL;
    enum err err;

    allocations_left = allocations;
    err = checker_new(NULL, &checker);
    for (size_t i = 0; i < story->count && err == ERR_OK; i++) {
        err = checker_add(checker, &story->ops[i]);
    }
    if (err == ERR_OK) {
        err = checker_finish(checker);
    }
    *ret_left = allocations_left;
    allocations_left = UINT64_MAX;
    checker_free(checker);
    return err;
}

START_TEST(whichever_allocation_fails_it_is_told_and_nothing_is_lost)
{
    struct generator_options options = {.seed = 3, .op_count = 60, .compacts = true};
    struct story story;
    uint64_t needed;
    uint64_t left;

    generate(&options, &story);
    /* A record that nobody wrote: that is told, and needs memory, too. */
    for (size_t i = 0; i < story.count; i++) {
        if (story.ops[i].kind == HISTORY_DUMP && story.ops[i].value_count > 0) {
            story_values(&story.ops[i])[0] = 999999;
        }
    }
    ck_assert_int_eq(decide(&story, 1000000, &left), ERR_OK);
    needed = 1000000 - left;
    ck_assert_uint_gt(needed, 50);
    for (uint64_t i = 0; i < needed; i++) {
        ck_assert_int_eq(decide(&story, i, &left), ERR_NOMEM);
    }
    ck_assert_int_eq(decide(&story, needed, &left), ERR_OK);
    story_fini(&story);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/checker_memory");
    TCase *tcase = tcase_create("allocations");

    tcase_add_test(tcase, whichever_allocation_fails_it_is_told_and_nothing_is_lost);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
