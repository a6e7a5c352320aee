/*
 * The idioms of base/io, over the kernel, over an io that fails and over a disk that loses power.
 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "sim/mem_io.h"

/* A failed allocation of absurd size is one of the cases here: AddressSanitizer shall return NULL
 * for it, as malloc does. The name is the sanitizer's. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static struct mem_io disk;
static struct faulty_io faulty;
static struct io *io; /* faulty over disk */
static struct err_info info;
static uint64_t state;

static uint64_t draw_bits(void *arg)
{
    (void)arg;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static void setup(void)
{
    mem_io_init(&disk);
    faulty_io_init(&faulty, &disk.io);
    io = &faulty.io;
    info = (struct err_info){0};
    state = 88172645463325252;
}

static void teardown(void)
{
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    mem_io_fini(&disk);
}

/* Does dir/name hold exactly the bytes? NULL: is it missing? */
static bool holds(const char *path, const char *text)
{
    struct buf data;
    enum err err;
    bool same;

    buf_init(&data, 100000);
    err = io_read_file(&disk.io, path, 100000, &data, NULL);
    ck_assert(err == ERR_OK || err == ERR_NOT_FOUND);
    same = text == NULL ? err == ERR_NOT_FOUND
                        : err == ERR_OK && data.size == strlen(text) &&
                              (data.size == 0 || memcmp(data.data, text, data.size) == 0);
    buf_fini(&data);
    return same;
}

static void make_file(const char *path, const char *text)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    int fd = -1;

    ck_assert_int_eq(io_open(&disk.io, path, O_RDWR | O_CREAT | O_TRUNC, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_write(&disk.io, fd, path, &part, 1, 0, 0, NULL), ERR_OK);
    ck_assert_int_eq(io_sync(&disk.io, fd, path, NULL), ERR_OK);
    io_close(&disk.io, &fd);
}

/* ---- open, close, errors ---- */

START_TEST(open_says_what_failed_on_which_path)
{
    int fd = 77;

    ck_assert_int_eq(io_open(io, "/none", O_RDONLY, &fd, &info), ERR_NOT_FOUND);
    ck_assert_int_eq(info.code, ERR_NOT_FOUND);
    ck_assert_str_eq(info.text, "open '/none': No such file or directory");
    ck_assert_int_eq(fd, 77);
    make_file("/file", "");
    ck_assert_int_eq(io_open(io, "/file", O_RDWR | O_CREAT | O_EXCL, &fd, NULL), ERR_EXISTS);
    ck_assert_int_eq(io_open(io, "/file", O_RDWR, &fd, NULL), ERR_OK);
    io_close(io, &fd);
    ck_assert_int_eq(fd, -1);
    io_close(io, &fd);
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
}
END_TEST

START_TEST(paths_that_do_not_fit_are_refused)
{
    static char buffer[IO_PATH_SIZE];
    static char name[IO_PATH_SIZE];

    ck_assert_int_eq(io_path(buffer, "a", "b", &info), ERR_OK);
    ck_assert_str_eq(buffer, "a/b");
    memset(name, 'n', sizeof name - 3);
    ck_assert_int_eq(io_path(buffer, "d", name, &info), ERR_OK);
    ck_assert_uint_eq(strlen(buffer), IO_PATH_SIZE - 1);
    name[sizeof name - 3] = 'n';
    ck_assert_int_eq(io_path(buffer, "d", name, &info), ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(info.text, "too long"));
    ck_assert_int_eq(io_replace_file(io, "d", name, "", 0, &info), ERR_TOO_LARGE);
    ck_assert_int_eq(io_make_dir(io, "d", name, &info), ERR_TOO_LARGE);
    ck_assert_int_eq(io_remove_dir(io, "d", name, &info), ERR_TOO_LARGE);
}
END_TEST

START_TEST(the_kernel_s_files_work_the_same)
{
    const char *dir = tmpdir_new();
    char path[IO_PATH_SIZE];
    struct buf data;

    buf_init(&data, 100);
    ck_assert_int_eq(io_make_dir(io_real(), dir, "sub", &info), ERR_OK);
    ck_assert_int_eq(io_make_dir(io_real(), dir, "sub", &info), ERR_OK);
    ck_assert_int_eq(io_path(path, dir, "sub", NULL), ERR_OK);
    ck_assert_int_eq(io_replace_file(io_real(), path, "file", "one", 3, &info), ERR_OK);
    ck_assert_int_eq(io_replace_file(io_real(), path, "file", "two2", 4, &info), ERR_OK);
    ck_assert_int_eq(io_path(path, dir, "sub/file", NULL), ERR_OK);
    ck_assert_int_eq(io_read_file(io_real(), path, 100, &data, &info), ERR_OK);
    ck_assert_uint_eq(data.size, 4);
    ck_assert_int_eq(memcmp(data.data, "two2", 4), 0);
    ck_assert_int_eq(io_remove_dir(io_real(), dir, "sub", &info), ERR_OK);
    ck_assert_int_eq(io_remove_dir(io_real(), dir, "sub", &info), ERR_OK);
    ck_assert_int_eq(rmdir(dir), 0); /* Nothing was left. */
    buf_fini(&data);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    tmpdir_remove(dir);
}
END_TEST

/* ---- io_write ---- */

enum { PARTS = 300 };

static size_t make_parts(struct iovec parts[PARTS], char *bytes)
{
    size_t total = 0;

    for (int i = 0; i < PARTS; i++) {
        /* Runs of empty parts, longer than one window of io_write, among others. */
        size_t size = i > 20 && i < 120 ? 0 : (size_t)(i * 7 % 23);

        parts[i] = (struct iovec){bytes + total, size};
        for (size_t at = 0; at < size; at++, total++) {
            bytes[total] = (char)(total * 31 + total / 251);
        }
    }
    return total;
}

START_TEST(write_goes_on_after_short_writes_whatever_the_parts)
{
    static char bytes[PARTS * 23];
    static char back[PARTS * 23];
    struct iovec parts[PARTS];
    struct iovec copy[PARTS];
    size_t total = make_parts(parts, bytes);
    size_t got;
    int fd;

    memcpy(copy, parts, sizeof parts);
    ck_assert_int_eq(io_open(io, "/f", O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    faulty_io_short_writes(&faulty, _i == 1);
    ck_assert_int_eq(io_write(io, fd, "/f", parts, PARTS, 11, 0, &info), ERR_OK);
    ck_assert_int_eq(memcmp(copy, parts, sizeof parts), 0);
    ck_assert_int_eq(io_read(io, fd, "/f", back, sizeof back, 11, &got, &info), ERR_OK);
    ck_assert_uint_eq(got, total);
    ck_assert_int_eq(memcmp(bytes, back, total), 0);
    ck_assert_uint_gt(faulty_io_calls(&faulty), _i == 1 ? 20 : 4);
    io_close(io, &fd);
}
END_TEST

START_TEST(writing_nothing_writes_nothing)
{
    struct iovec empty[2] = {{NULL, 0}, {"", 0}};
    unsigned before;
    int fd;

    ck_assert_int_eq(io_open(io, "/f", O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    before = faulty_io_calls(&faulty);
    ck_assert_int_eq(io_write(io, fd, "/f", empty, 2, 0, 0, NULL), ERR_OK);
    ck_assert_int_eq(io_write(io, fd, "/f", NULL, 0, 0, 0, NULL), ERR_OK);
    ck_assert_uint_eq(faulty_io_calls(&faulty), before);
    io_close(io, &fd);
}
END_TEST

START_TEST(a_dsync_write_is_durable_in_all_its_parts)
{
    struct iovec parts[2] = {{"abc", 3}, {"def", 3}};
    int fd;

    ck_assert_int_eq(io_open(io, "/f", O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_sync_dir(io, "/", NULL), ERR_OK);
    faulty_io_short_writes(&faulty, true);
    ck_assert_int_eq(io_write(io, fd, "/f", parts, 2, 0, RWF_DSYNC, NULL), ERR_OK);
    io_close(io, &fd);
    mem_io_crash(&disk, draw_bits, NULL);
    ck_assert(holds("/f", "abcdef"));
}
END_TEST

START_TEST(write_says_that_the_disk_is_full)
{
    static char data[3 * MEM_BLOCK];
    struct iovec part = {data, sizeof data};
    int fd;

    mem_io_set_free(&disk, 2 * MEM_BLOCK);
    ck_assert_int_eq(io_open(io, "/f", O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_write(io, fd, "/f", &part, 1, 0, 0, &info), ERR_NOSPACE);
    ck_assert_str_eq(info.text, "write '/f': No space left on device");
    io_close(io, &fd);
}
END_TEST

static ssize_t write_nothing(struct io *self, int fd, const struct iovec *parts, int count,
                             uint64_t position, int rwf_flags)
{
    (void)self;
    (void)fd;
    (void)parts;
    (void)count;
    (void)position;
    (void)rwf_flags;
    return 0;
}

START_TEST(a_write_of_zero_bytes_is_an_error_and_no_endless_loop)
{
    struct iovec part = {"a", 1};
    int fd;

    ck_assert_int_eq(io_open(io, "/f", O_RDWR | O_CREAT, &fd, NULL), ERR_OK);
    faulty.io.pwritev = write_nothing;
    ck_assert_int_eq(io_write(io, fd, "/f", &part, 1, 0, 0, &info), ERR_IO);
    io_close(io, &fd);
}
END_TEST

/* ---- io_read, io_read_file ---- */

static ssize_t read_one_byte(struct io *self, int fd, void *data, size_t size, uint64_t position)
{
    (void)self;
    (void)size;
    return disk.io.pread(&disk.io, fd, data, 1, position);
}

START_TEST(read_goes_on_after_short_reads_and_stops_at_the_end)
{
    char data[10];
    size_t size = 99;
    int fd;

    make_file("/f", "abcdef");
    faulty.io.pread = read_one_byte;
    ck_assert_int_eq(io_open(io, "/f", O_RDONLY, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io_read(io, fd, "/f", data, 3, 1, &size, &info), ERR_OK);
    ck_assert_uint_eq(size, 3);
    ck_assert_int_eq(memcmp(data, "bcd", 3), 0);
    ck_assert_int_eq(io_read(io, fd, "/f", data, 10, 4, &size, &info), ERR_OK);
    ck_assert_uint_eq(size, 2);
    ck_assert_int_eq(io_read(io, fd, "/f", data, 10, 6, &size, &info), ERR_OK);
    ck_assert_uint_eq(size, 0);
    io_close(io, &fd);
}
END_TEST

START_TEST(read_file_appends_the_whole_file)
{
    struct buf data;

    buf_init(&data, 100);
    make_file("/f", "abc");
    make_file("/empty", "");
    ck_assert_int_eq(io_read_file(io, "/empty", 100, &data, &info), ERR_OK);
    ck_assert_uint_eq(data.size, 0);
    ck_assert_int_eq(io_read_file(io, "/f", 3, &data, &info), ERR_OK);
    ck_assert_int_eq(io_read_file(io, "/f", 3, &data, &info), ERR_OK);
    ck_assert_uint_eq(data.size, 6);
    ck_assert_int_eq(memcmp(data.data, "abcabc", 6), 0);
    buf_fini(&data);
}
END_TEST

START_TEST(read_file_refuses_what_is_too_large_and_says_when_memory_is_short)
{
    struct buf data;
    int fd;

    make_file("/f", "abc");
    buf_init(&data, 100);
    ck_assert_int_eq(io_read_file(io, "/f", 2, &data, &info), ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(info.text, "'/f'"));
    ck_assert_int_eq(io_read_file(io, "/none", 2, &data, &info), ERR_NOT_FOUND);
    data.size_max = 2;
    ck_assert_int_eq(io_read_file(io, "/f", 3, &data, &info), ERR_TOO_LARGE);
    ck_assert_uint_eq(data.size, 0);
    buf_fini(&data);
    buf_init(&data, SIZE_MAX);
    ck_assert_int_eq(io_open(io, "/f", O_RDWR, &fd, NULL), ERR_OK);
    ck_assert_int_eq(io->truncate(io, fd, INT64_MAX), 0);
    io_close(io, &fd);
    ck_assert_int_eq(io_read_file(io, "/f", SIZE_MAX, &data, &info), ERR_NOMEM);
    ck_assert_uint_eq(data.size, 0);
    buf_fini(&data);
}
END_TEST

START_TEST(every_failing_call_of_read_file_is_reported_and_leaks_nothing)
{
    struct buf data;

    make_file("/f", "abc");
    for (unsigned n = 1; n <= 3; n++) {
        buf_init(&data, 100);
        faulty_io_fail_at(&faulty, n, EIO, false);
        ck_assert_int_eq(io_read_file(io, "/f", 3, &data, &info), ERR_IO);
        ck_assert_ptr_nonnull(strstr(info.text, "'/f'"));
        ck_assert_uint_eq(data.size, 0);
        ck_assert_uint_eq(mem_io_open_count(&disk), 0);
        buf_fini(&data);
    }
}
END_TEST

/* ---- the durable idioms: each call failing in turn, power lost at each point ---- */

struct idiom {
    void (*prepare)(void);
    enum err (*run)(struct io *io);
    bool (*is_old)(void);
    bool (*is_new)(void);
};

static const char *long_text(char letter)
{
    static char text[3000];

    memset(text, letter, sizeof text - 1);
    return text;
}

static void prepare_replace(void)
{
    make_file("/file", long_text('o'));
    ck_assert_int_eq(io_sync_dir(&disk.io, "/", NULL), ERR_OK);
}

static enum err run_replace(struct io *on)
{
    const char *text = long_text('n');

    return io_replace_file(on, "/", "file", text, strlen(text), &info);
}

static bool is_old_replace(void)
{
    return holds("/file", long_text('o'));
}

static bool is_new_replace(void)
{
    return holds("/file", long_text('n'));
}

static void prepare_make(void)
{
    int rv = disk.io.rmdir(&disk.io, "/dir");

    ck_assert(rv == 0 || rv == -ENOENT);
    ck_assert_int_eq(io_sync_dir(&disk.io, "/", NULL), ERR_OK);
}

static enum err run_make(struct io *on)
{
    return io_make_dir(on, "/", "dir", &info);
}

static bool has_dir(void)
{
    return disk.io.sync_dir(&disk.io, "/dir") == 0;
}

static bool has_no_dir(void)
{
    return disk.io.sync_dir(&disk.io, "/dir") == -ENOENT;
}

static void prepare_remove(void)
{
    int rv = disk.io.mkdir(&disk.io, "/dir", 0700);

    ck_assert(rv == 0 || rv == -EEXIST);
    make_file("/dir/a", "a");
    make_file("/dir/b", "b");
    ck_assert_int_eq(io_sync_dir(&disk.io, "/dir", NULL), ERR_OK);
    ck_assert_int_eq(io_sync_dir(&disk.io, "/", NULL), ERR_OK);
}

static enum err run_remove(struct io *on)
{
    return io_remove_dir(on, "/", "dir", &info);
}

static const struct idiom idioms[] = {
    {prepare_replace, run_replace, is_old_replace, is_new_replace},
    {prepare_make, run_make, has_no_dir, has_dir},
    {prepare_remove, run_remove, has_dir, has_no_dir},
};
enum { IDIOMS = sizeof idioms / sizeof idioms[0], SEEDS = 60 };

static unsigned count_calls(const struct idiom *idiom)
{
    unsigned before = faulty_io_calls(&faulty);

    idiom->prepare();
    ck_assert_int_eq(idiom->run(io), ERR_OK);
    ck_assert(idiom->is_new());
    return faulty_io_calls(&faulty) - before;
}

START_TEST(a_failing_call_is_reported_and_the_next_try_succeeds_durably)
{
    const struct idiom *idiom = &idioms[_i];
    unsigned calls = count_calls(idiom);

    ck_assert_uint_ge(calls, 2);
    for (unsigned n = 1; n <= calls; n++) {
        for (int seed = 0; seed < SEEDS; seed++) {
            enum err err;

            idiom->prepare();
            info = (struct err_info){0};
            faulty_io_fail_at(&faulty, n, EIO, false);
            err = idiom->run(io);
            /* A failing close is ignored: all was synced. */
            ck_assert(err == ERR_IO || (err == ERR_OK && idiom->is_new()));
            ck_assert(err == ERR_OK || strstr(info.text, "Input/output error") != NULL);
            ck_assert(idiom->is_old() || idiom->is_new());
            ck_assert_uint_eq(mem_io_open_count(&disk), 0);
            faulty_io_fail_at(&faulty, 0, 0, false);
            ck_assert_int_eq(idiom->run(io), ERR_OK);
            ck_assert(idiom->is_new());
            mem_io_crash(&disk, draw_bits, NULL);
            ck_assert(idiom->is_new());
        }
    }
}
END_TEST

START_TEST(power_lost_at_any_point_leaves_the_old_or_the_new)
{
    const struct idiom *idiom = &idioms[_i];
    unsigned calls = count_calls(idiom);
    unsigned old = 0;
    unsigned new = 0;

    for (unsigned n = 1; n <= calls + 1; n++) {
        for (int seed = 0; seed < SEEDS; seed++) {
            enum err err;

            idiom->prepare();
            faulty_io_fail_at(&faulty, n, EIO, true);
            err = idiom->run(io);
            faulty_io_fail_at(&faulty, 0, 0, false);
            mem_io_crash(&disk, draw_bits, NULL);
            ck_assert(idiom->is_new() || (err != ERR_OK && idiom->is_old()));
            old += idiom->is_old();
            new += idiom->is_new();
        }
    }
    ck_assert_uint_gt(old, SEEDS / 2);
    ck_assert_uint_gt(new, SEEDS);
}
END_TEST

START_TEST(replace_makes_a_file_that_was_not_there_even_an_empty_one)
{
    ck_assert_int_eq(io_replace_file(io, "/", "file", "abc", 3, &info), ERR_OK);
    ck_assert_int_eq(io_replace_file(io, "/", "empty", NULL, 0, &info), ERR_OK);
    mem_io_crash(&disk, draw_bits, NULL);
    ck_assert(holds("/file", "abc") && holds("/empty", ""));
    ck_assert(holds("/file.tmp", NULL) && holds("/empty.tmp", NULL));
}
END_TEST

START_TEST(replace_is_not_misled_by_what_an_earlier_try_left)
{
    make_file("/file.tmp", long_text('x'));
    ck_assert_int_eq(io_replace_file(io, "/", "file", "abc", 3, &info), ERR_OK);
    mem_io_crash(&disk, draw_bits, NULL);
    ck_assert(holds("/file", "abc") && holds("/file.tmp", NULL));
}
END_TEST

START_TEST(make_dir_takes_no_file_for_a_directory)
{
    make_file("/name", "abc");
    ck_assert_int_ne(io_make_dir(io, "/", "name", &info), ERR_OK);
    ck_assert_ptr_nonnull(strstr(info.text, "'//name'"));
    ck_assert_int_eq(io_make_dir(io, "/none", "name", &info), ERR_NOT_FOUND);
}
END_TEST

START_TEST(remove_dir_refuses_directories_inside)
{
    ck_assert_int_eq(io_make_dir(io, "/", "dir", NULL), ERR_OK);
    ck_assert_int_eq(io_make_dir(io, "/dir", "inner", NULL), ERR_OK);
    ck_assert_int_eq(io_remove_dir(io, "/", "dir", &info), ERR_IO);
    ck_assert_ptr_nonnull(strstr(info.text, "inner"));
    ck_assert_int_eq(io_remove_dir(io, "/dir", "inner", &info), ERR_OK);
    ck_assert_int_eq(io_remove_dir(io, "/", "dir", &info), ERR_OK);
    ck_assert_int_eq(io_remove_dir(io, "/", "dir", &info), ERR_OK);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("io");
    TCase *basics = tcase_create("basics");
    TCase *write = tcase_create("write");
    TCase *read = tcase_create("read");
    TCase *durable = tcase_create("durable");
    TCase *all[] = {basics, write, read, durable};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        tcase_add_checked_fixture(all[i], setup, teardown);
        suite_add_tcase(suite, all[i]);
    }
    tcase_add_test(basics, open_says_what_failed_on_which_path);
    tcase_add_test(basics, paths_that_do_not_fit_are_refused);
    tcase_add_test(basics, the_kernel_s_files_work_the_same);
    tcase_add_loop_test(write, write_goes_on_after_short_writes_whatever_the_parts, 0, 2);
    tcase_add_test(write, writing_nothing_writes_nothing);
    tcase_add_test(write, a_dsync_write_is_durable_in_all_its_parts);
    tcase_add_test(write, write_says_that_the_disk_is_full);
    tcase_add_test(write, a_write_of_zero_bytes_is_an_error_and_no_endless_loop);
    tcase_add_test(read, read_goes_on_after_short_reads_and_stops_at_the_end);
    tcase_add_test(read, read_file_appends_the_whole_file);
    tcase_add_test(read, read_file_refuses_what_is_too_large_and_says_when_memory_is_short);
    tcase_add_test(read, every_failing_call_of_read_file_is_reported_and_leaks_nothing);
    tcase_add_loop_test(durable, a_failing_call_is_reported_and_the_next_try_succeeds_durably, 0,
                        IDIOMS);
    tcase_add_loop_test(durable, power_lost_at_any_point_leaves_the_old_or_the_new, 0, IDIOMS);
    tcase_add_test(durable, replace_makes_a_file_that_was_not_there_even_an_empty_one);
    tcase_add_test(durable, replace_is_not_misled_by_what_an_earlier_try_left);
    tcase_add_test(durable, make_dir_takes_no_file_for_a_directory);
    tcase_add_test(durable, remove_dir_refuses_directories_inside);
    return suite;
}

int main(void)
{
    return runner_main(make_suite());
}
