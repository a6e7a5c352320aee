/*
 * Gives a fuzz target its inputs to begin with, and those that are kept: an ordinary test, in every
 * build.
 *
 *      TARGET PATH…        files, and the files of directories; one that is not there has none
 *      TARGET --seeds DIR  writes the inputs to begin with, named by their contents
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "lib/runner.h"
#include "raft_fsm/digest.h"

enum { INPUT_SIZE_MAX = 1 << 20, PATH_SIZE = 4096, NAME_DIGITS = 16 };

static unsigned count;

static void run_seed(void *arg, const void *data, size_t size)
{
    unsigned *seeds = arg;

    (void)fprintf(stderr, "seed %u\n", ++*seeds);
    (void)LLVMFuzzerTestOneInput(data, size);
    count++;
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_SIZE_MAX);
    uint8_t *exact;
    size_t size;

    ASSERT(file != NULL && data != NULL);
    size = fread(data, 1, INPUT_SIZE_MAX, file);
    ASSERT(ferror(file) == 0 && size < INPUT_SIZE_MAX);
    (void)fclose(file); /* It was only read. */
    exact = malloc(size);
    ASSERT(exact != NULL);
    memcpy(exact, data, size);
    free(data);
    (void)fprintf(stderr, "%s\n", path); /* The last one is the one that failed. */
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    count++;
}

static void run_path(const char *path)
{
    char inside[PATH_SIZE];
    struct dirent **entries;
    struct stat st;
    int entry_count;

    if (stat(path, &st) != 0 && errno == ENOENT) {
        return;
    }
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    entry_count = scandir(path, &entries, NULL, alphasort);
    ASSERT(entry_count >= 0);
    for (int i = 0; i < entry_count; i++) {
        if (entries[i]->d_name[0] != '.') {
            int length = snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);

            ASSERT(length > 0 && (size_t)length < sizeof inside);
            run_file(inside);
        }
        free(entries[i]);
    }
    free(entries);
}

static void write_seed(void *arg, const void *data, size_t size)
{
    const char *dir = arg;
    char path[PATH_SIZE];
    char text[DIGEST_TEXT_SIZE];
    uint8_t digest[DIGEST_SIZE];
    FILE *file;
    size_t written;
    int rv;

    digest_bytes(data, size, digest);
    digest_to_text(digest, text);
    rv = snprintf(path, sizeof path, "%s/%.*s", dir, NAME_DIGITS, text);
    ASSERT(rv > 0 && (size_t)rv < sizeof path);
    file = fopen(path, "wb");
    ASSERT(file != NULL);
    written = fwrite(data, 1, size, file);
    rv = fclose(file);
    ASSERT(written == size && rv == 0);
    count++;
}

static int argument_count;
static char **arguments;

START_TEST(inputs_to_begin_with)
{
    unsigned seeds = 0;

    fuzz_seeds(run_seed, &seeds);
    ck_assert_uint_gt(seeds, 0);
}
END_TEST

START_TEST(inputs_that_are_kept)
{
    for (int i = 1; i < argument_count; i++) {
        run_path(arguments[i]);
    }
    (void)fprintf(stderr, "%u inputs\n", count); /* Nobody reads it to decide. */
}
END_TEST

/* Labs that make seeds are for tests, and run in nothing else. */
START_TEST(seeds_are_written)
{
    fuzz_seeds(write_seed, arguments[2]);
    ck_assert_uint_gt(count, 0);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("fuzz");
    TCase *tcase = tcase_create("replay");

    argument_count = argc;
    arguments = argv;
    tcase_set_timeout(tcase, 300); /* Sanitizers take their time. */
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        tcase_add_test(tcase, seeds_are_written);
    } else {
        tcase_add_test(tcase, inputs_to_begin_with);
        tcase_add_test(tcase, inputs_that_are_kept);
    }
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
