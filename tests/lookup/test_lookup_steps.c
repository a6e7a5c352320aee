/*
 * Building and dropping of indexes, step by step: every call to the disk fails once in turn, and
 * the process is killed before each of them. Afterwards every question has its right answer, what
 * is wanted is made, and of what is not wanted no file is left. (What LMDB calls by itself does not
 * go through the table of calls: test_lookup.c kills it anywhere.)
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lookup/lookup_lab.h"

enum {
    KILLED = 42,
    CALLS_MIN = 10, /* of one change of the set */
    CALLS_MAX = 2000,
    WAIT_MS = 20000,
    KEYS = 20,
};

enum step_kind { STEP_FAILS, STEP_KILLS };

/* The lookups' table of calls, in place of the lab's. */
struct steps {
    struct io io;
    struct io under;
    enum step_kind kind;
    atomic_uint calls; /* so far */
    unsigned at;       /* the one that is struck; 0: none */
};

static struct steps steps;
static struct lab lab;
static struct lab_topic topic;

static bool struck(void)
{
    if (atomic_fetch_add(&steps.calls, 1) + 1 != steps.at) {
        return false;
    }
    if (steps.kind == STEP_KILLS) {
        _exit(KILLED);
    }
    return true;
}

static int step_open(struct io *io, const char *path, int flags, mode_t mode)
{
    (void)io;
    return struck() ? -EIO : steps.under.open(&steps.under, path, flags, mode);
}

static ssize_t step_pread(struct io *io, int fd, void *data, size_t size, uint64_t position)
{
    (void)io;
    return struck() ? -EIO : steps.under.pread(&steps.under, fd, data, size, position);
}

static ssize_t step_pwritev(struct io *io, int fd, const struct iovec *parts, int count,
                            uint64_t position, int rwf_flags)
{
    (void)io;
    return struck() ? -EIO
                    : steps.under.pwritev(&steps.under, fd, parts, count, position, rwf_flags);
}

static int step_fdatasync(struct io *io, int fd)
{
    (void)io;
    return struck() ? -EIO : steps.under.fdatasync(&steps.under, fd);
}

static int step_size(struct io *io, int fd, uint64_t *ret_size)
{
    (void)io;
    return struck() ? -EIO : steps.under.size(&steps.under, fd, ret_size);
}

static int step_rename(struct io *io, const char *from, const char *to)
{
    (void)io;
    return struck() ? -EIO : steps.under.rename(&steps.under, from, to);
}

static int step_unlink(struct io *io, const char *path)
{
    (void)io;
    return struck() ? -EIO : steps.under.unlink(&steps.under, path);
}

static int step_mkdir(struct io *io, const char *path, mode_t mode)
{
    (void)io;
    return struck() ? -EIO : steps.under.mkdir(&steps.under, path, mode);
}

static int step_rmdir(struct io *io, const char *path)
{
    (void)io;
    return struck() ? -EIO : steps.under.rmdir(&steps.under, path);
}

static int step_sync_dir(struct io *io, const char *path)
{
    (void)io;
    return struck() ? -EIO : steps.under.sync_dir(&steps.under, path);
}

static int step_list(struct io *io, const char *path, int (*each)(void *arg, const char *name),
                     void *arg)
{
    (void)io;
    return struck() ? -EIO : steps.under.list(&steps.under, path, each, arg);
}

static void set_up(void)
{
    lab_init(&lab, 5);
    lab.options.interval_ms = 1;
    lab.options.table_max = 60;
    steps.under = *lab.options.io;
    steps.io = steps.under;
    steps.io.open = step_open;
    steps.io.pread = step_pread;
    steps.io.pwritev = step_pwritev;
    steps.io.fdatasync = step_fdatasync;
    steps.io.size = step_size;
    steps.io.rename = step_rename;
    steps.io.unlink = step_unlink;
    steps.io.mkdir = step_mkdir;
    steps.io.rmdir = step_rmdir;
    steps.io.sync_dir = step_sync_dir;
    steps.io.list = step_list;
    lab.options.io = &steps.io;
    lab_topic_init(&lab, &topic, 7, "t");
    for (unsigned i = 0; i < 30; i++) {
        lab_append(&lab, &topic, 8, KEYS);
    }
}

static void tear_down(void)
{
    lab_stop(&lab);
    lab_topic_delete(&lab, &topic);
    lab_topic_fini(&topic);
    lab_fini(&lab);
}

/* From now on the `at`-th call is struck. */
static void strike(enum step_kind kind, unsigned at)
{
    steps.kind = kind;
    steps.at = at;
    atomic_store(&steps.calls, 0);
}

static void ask(void)
{
    for (int32_t key = 0; key < KEYS; key += 7) {
        struct lookup_query query = {.newest_first = key % 2 != 0};
        struct lab_cost cost = {0};

        lab_check(&lab, &topic, key, &query, 0, topic.end, &cost);
    }
}

/* Files and directories of the topic's indexes. */
static unsigned left_over(void)
{
    char **files = lab_files(&lab, &topic, "");
    char path[512];
    unsigned count = 0;
    DIR *dir;

    while (files[count] != NULL) {
        count++;
    }
    lab_files_free(files);
    (void)snprintf(path, sizeof path, "%s/indexes", lab.dir);
    dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    if (dir != NULL) {
        ck_assert_int_eq(closedir(dir), 0);
    }
    return count;
}

static unsigned status(struct lookup_status ret_status[LOOKUP_INDEXES_MAX])
{
    return (unsigned)lookup_status(lab.lookup, topic.topic, ret_status);
}

/* Until nothing is known of indexes any more; false when that takes too long. */
static bool wait_dropped(unsigned wait_ms)
{
    struct lookup_status unused[LOOKUP_INDEXES_MAX];

    for (unsigned i = 0; i < wait_ms; i++) {
        if (status(unused) == 0 && left_over() == 0) {
            return true;
        }
        lookup_wake(lab.lookup);
        (void)usleep(1000);
    }
    return false;
}

static void build(void)
{
    strike(STEP_FAILS, 0);
    lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    lab_stop(&lab);
    ck_assert_uint_gt(left_over(), 3);
}

/* In a process of its own: lookups with this set, until it is as wanted, or it is killed. True: it
 * was killed. */
static bool run_killed(uint32_t indexes, unsigned at)
{
    int code;
    pid_t pid = fork();

    if (pid == 0) {
        strike(STEP_KILLS, at);
        lab_set_indexes(&topic, indexes);
        lab_start(&lab);
        if (indexes == 0) {
            _exit(wait_dropped(WAIT_MS) ? 0 : 1);
        }
        lab_wait_ready(&lab, &topic);
        _exit(0);
    }
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &code, 0), pid);
    ck_assert_msg(WIFEXITED(code), "call %u: it ended by a signal", at);
    ck_assert_msg(WEXITSTATUS(code) == 0 || WEXITSTATUS(code) == KILLED, "call %u: %d", at,
                  WEXITSTATUS(code));
    return WEXITSTATUS(code) == KILLED;
}

START_TEST(a_drop_that_is_killed_at_any_call_is_finished_by_the_next_start)
{
    bool killed = true;
    unsigned at;

    for (at = 1; killed; at++) {
        ck_assert_uint_lt(at, CALLS_MAX);
        build();
        killed = run_killed(0, at);
        lab_set_indexes(&topic, 0);
        lab_start(&lab);
        ck_assert_msg(wait_dropped(WAIT_MS), "call %u: %u files are left", at, left_over());
        ask();
        lab_stop(&lab);
    }
    ck_assert_uint_gt(at, CALLS_MIN);
}
END_TEST

START_TEST(a_drop_that_is_killed_at_any_call_and_taken_back_is_built_again)
{
    bool killed = true;
    unsigned at;

    for (at = 1; killed; at++) {
        build();
        killed = run_killed(0, at);
        lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
        lab_start(&lab);
        ask();
        lab_wait_ready(&lab, &topic);
        ask();
        lab_stop(&lab);
        ck_assert_uint_eq(lab.damage_told, 0);
    }
    ck_assert_uint_gt(at, CALLS_MIN);
}
END_TEST

START_TEST(a_drop_of_which_any_call_fails_answers_and_leaves_nothing_after_a_start)
{
    bool failed = true;
    unsigned at;

    for (at = 1; failed; at++) {
        ck_assert_uint_lt(at, CALLS_MAX);
        build();
        strike(STEP_FAILS, at);
        lab_set_indexes(&topic, 0);
        lab_start(&lab);
        (void)wait_dropped(30);
        ask();
        failed = atomic_load(&steps.calls) >= at;
        strike(STEP_FAILS, 0);
        if (!wait_dropped(
                30)) { /* What could not be removed is, at the next start at the latest. */
            lab_stop(&lab);
            lab_start(&lab);
            ck_assert_msg(wait_dropped(WAIT_MS), "call %u: %u files are left", at, left_over());
        }
        ask();
        lab_stop(&lab);
    }
    ck_assert_uint_gt(at, CALLS_MIN);
}
END_TEST

START_TEST(a_build_that_is_killed_at_any_call_goes_on_and_leaves_nothing_half)
{
    bool killed = true;
    unsigned at;

    for (at = 1; killed; at++) {
        ck_assert_uint_lt(at, CALLS_MAX);
        killed = run_killed(TOPIC_INDEXES_KNOWN, at);
        strike(STEP_FAILS, 0);
        lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
        lab_start(&lab);
        ask();
        lab_wait_ready(&lab, &topic);
        ask();
        ck_assert_uint_eq(lab.damage_told, 0);
        lab_set_indexes(&topic, 0);
        ck_assert(wait_dropped(WAIT_MS));
        lab_stop(&lab);
    }
    ck_assert_uint_gt(at, CALLS_MIN);
}
END_TEST

START_TEST(a_build_of_which_any_call_fails_is_tried_again)
{
    bool failed = true;
    unsigned at;

    for (at = 1; failed; at++) {
        ck_assert_uint_lt(at, CALLS_MAX);
        strike(STEP_FAILS, at);
        lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
        lab_start(&lab);
        ask();
        lab_wait_ready(&lab, &topic);
        ask();
        failed = atomic_load(&steps.calls) >= at;
        strike(STEP_FAILS, 0);
        lab_set_indexes(&topic, 0);
        ck_assert(wait_dropped(WAIT_MS));
        lab_stop(&lab);
    }
    ck_assert_uint_gt(at, CALLS_MIN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lookup steps");
    TCase *tcase = tcase_create("steps");

    tcase_set_timeout(tcase, 300);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_drop_that_is_killed_at_any_call_is_finished_by_the_next_start);
    tcase_add_test(tcase, a_drop_that_is_killed_at_any_call_and_taken_back_is_built_again);
    tcase_add_test(tcase, a_drop_of_which_any_call_fails_answers_and_leaves_nothing_after_a_start);
    tcase_add_test(tcase, a_build_that_is_killed_at_any_call_goes_on_and_leaves_nothing_half);
    tcase_add_test(tcase, a_build_of_which_any_call_fails_is_tried_again);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
