#include "lib/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/runner.h"

static char *under(const char *dir, const char *name)
{
    char *path;

    ck_assert_int_gt(asprintf(&path, "%s/%s", dir, name), 0);
    return path;
}

START_TEST(new_directories_are_empty_and_differ)
{
    const char *a = tmpdir_new();
    const char *b = tmpdir_new();

    ck_assert_str_ne(a, b);
    ck_assert_int_eq(rmdir(b), 0); /* Only an empty directory can be removed so. */
    ck_assert_int_eq(mkdir(b, 0700), 0);
    tmpdir_remove(a);
    tmpdir_remove(b);
}
END_TEST

START_TEST(the_environment_says_where)
{
    const char *a = tmpdir_new();
    const char *b;

    ck_assert_int_eq(setenv("TMPDIR", a, 1), 0);
    b = tmpdir_new();
    ck_assert_int_eq(strncmp(b, a, strlen(a)), 0);
    ck_assert_int_eq(b[strlen(a)], '/');
    tmpdir_remove(b);
    ck_assert_int_eq(unsetenv("TMPDIR"), 0);
    tmpdir_remove(a);
}
END_TEST

START_TEST(remove_takes_all_that_is_inside_and_follows_no_link)
{
    const char *kept = tmpdir_new();
    const char *dir = tmpdir_new();
    char *sub = under(dir, "sub");
    char *file = under(sub, "file");
    char *symbolic = under(dir, "link");
    char *gone = strdup(dir);
    int fd;

    ck_assert_int_eq(mkdir(sub, 0700), 0);
    fd = open(file, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(symlink(kept, symbolic), 0);
    tmpdir_remove(dir);
    ck_assert_int_eq(access(gone, F_OK), -1);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(access(kept, F_OK), 0);
    tmpdir_remove(kept);
    tmpdir_remove(NULL);
    free(sub);
    free(file);
    free(symbolic);
    free(gone);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tmpdir");
    TCase *tcase = tcase_create("tmpdir");

    tcase_add_test(tcase, new_directories_are_empty_and_differ);
    tcase_add_test(tcase, the_environment_says_where);
    tcase_add_test(tcase, remove_takes_all_that_is_inside_and_follows_no_link);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
