#include "lib/faulty_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"

static struct faulty_io faulty;
static struct io *io;
static const char *dir;
static char path[4096];

static void setup(void)
{
    dir = tmpdir_new();
    (void)snprintf(path, sizeof path, "%s/file", dir);
    faulty_io_init(&faulty, io_real());
    io = &faulty.io;
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static int open_file(void)
{
    int fd = io->open(io, path, O_CREAT | O_RDWR, 0600);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static int never(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 0;
}

/* One call of every operation, in an order in which all succeed; results go to rvs. */
enum { OPERATIONS = 19 };
static void call_everything(long rvs[OPERATIONS])
{
    struct iovec part = {.iov_base = "abc", .iov_len = 3};
    char other[sizeof path + 8];
    char sub[sizeof path + 8];
    void *address = NULL;
    uint64_t size;
    uint64_t total;
    char data[3];
    int fd;

    (void)snprintf(other, sizeof other, "%s.2", path);
    (void)snprintf(sub, sizeof sub, "%s.d", path);
    fd = io->open(io, path, O_CREAT | O_RDWR, 0600);
    rvs[0] = fd < 0 ? fd : 0;
    rvs[1] = io->allocate(io, fd, 0, 4096);
    rvs[2] = io->pwritev(io, fd, &part, 1, 0, 0);
    rvs[3] = io->pread(io, fd, data, sizeof data, 0);
    rvs[4] = io->fdatasync(io, fd);
    rvs[5] = io->write_back(io, fd, 0, 4096);
    rvs[6] = io->size(io, fd, &size);
    rvs[7] = io->lock(io, fd);
    rvs[8] = io->map(io, fd, 4096, true, &address);
    rvs[9] = address == NULL ? 0 : io->unmap(io, address, 4096);
    rvs[10] = io->truncate(io, fd, 3);
    rvs[11] = io->close(io, fd);
    rvs[12] = io->mkdir(io, sub, 0700);
    rvs[13] = io->rmdir(io, sub);
    rvs[14] = io->rename(io, path, other);
    rvs[15] = io->unlink(io, other);
    rvs[16] = io->sync_dir(io, dir);
    rvs[17] = io->list(io, dir, never, NULL);
    rvs[18] = io->free_space(io, dir, &size, &total);
}

START_TEST(nothing_fails_unless_told_to_and_everything_is_counted)
{
    long rvs[OPERATIONS];

    call_everything(rvs);
    for (int i = 0; i < OPERATIONS; i++) {
        ck_assert_msg(rvs[i] >= 0, "operation %d: %ld", i, rvs[i]);
    }
    ck_assert_uint_eq(faulty_io_calls(&faulty), OPERATIONS);
}
END_TEST

START_TEST(each_operation_can_be_the_one_that_fails)
{
    unsigned n = (unsigned)_i;
    long rvs[OPERATIONS];

    faulty_io_fail_at(&faulty, n + 1, ETXTBSY, false);
    call_everything(rvs);
    ck_assert_int_eq(rvs[n], -ETXTBSY);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_int_ge(rvs[i], 0);
    }
    for (unsigned i = n + 1; i < OPERATIONS; i++) {
        ck_assert_int_ne(rvs[i], -ETXTBSY);
    }
}
END_TEST

START_TEST(the_nth_call_fails_and_only_that)
{
    int fd = open_file();
    uint64_t size;

    faulty_io_fail_at(&faulty, 2, EIO, false);
    ck_assert_int_eq(io->size(io, fd, &size), 0);
    ck_assert_int_eq(io->size(io, fd, &size), -EIO);
    ck_assert_int_eq(io->size(io, fd, &size), 0);
    ck_assert_uint_eq(faulty_io_calls(&faulty), 4);
    ck_assert_int_eq(io->close(io, fd), 0);
}
END_TEST

START_TEST(sticky_failures_stay_until_told_otherwise)
{
    int fd = open_file();
    uint64_t size;

    faulty_io_fail_at(&faulty, 1, ENOSPC, true);
    ck_assert_int_eq(io->size(io, fd, &size), -ENOSPC);
    ck_assert_int_eq(io->fdatasync(io, fd), -ENOSPC);
    faulty_io_fail_at(&faulty, 0, 0, false);
    ck_assert_int_eq(io->fdatasync(io, fd), 0);
    ck_assert_int_eq(io->close(io, fd), 0);
}
END_TEST

START_TEST(a_mask_counts_and_fails_only_its_classes)
{
    static const unsigned masks[] = {FAULTY_READS, FAULTY_WRITES, FAULTY_CLOSES};
    static const unsigned expected[] = {5, 12, 2};
    unsigned before = 0;
    long rvs[OPERATIONS];

    for (int i = 0; i < 3; i++) {
        faulty_io_count_only(&faulty, masks[i]);
        call_everything(rvs);
        ck_assert_uint_eq(faulty_io_calls(&faulty) - before, expected[i]);
        before = faulty_io_calls(&faulty);
    }
    faulty_io_count_only(&faulty, FAULTY_READS);
    faulty_io_fail_at(&faulty, 1, EIO, true);
    call_everything(rvs);
    ck_assert_int_eq(rvs[2], 3);    /* pwritev */
    ck_assert_int_eq(rvs[3], -EIO); /* pread */
    ck_assert_int_eq(rvs[17], -EIO);
}
END_TEST

START_TEST(a_failing_write_leaves_a_prefix)
{
    static char data[64] __attribute__((aligned(16)));
    struct iovec parts[2] = {{data, 24}, {data + 24, 40}};
    bool seen_none = false;
    bool seen_some = false;

    memset(data, 'x', sizeof data);
    for (int i = 0; i < 200; i++) {
        int fd = open_file();
        char back[sizeof data];
        uint64_t size;

        ck_assert_int_eq(io->truncate(io, fd, 0), 0);
        faulty_io_fail_at(&faulty, 1, EIO, false);
        ck_assert_int_eq(io->pwritev(io, fd, parts, 2, 0, 0), -EIO);
        ck_assert_int_eq(io->size(io, fd, &size), 0);
        ck_assert_uint_le(size, sizeof data);
        ck_assert_int_eq(io->pread(io, fd, back, sizeof back, 0), (long)size);
        ck_assert_int_eq(memcmp(back, data, size), 0);
        seen_none = seen_none || size == 0;
        seen_some = seen_some || (size > 0 && size < sizeof data);
        ck_assert_int_eq(io->close(io, fd), 0);
    }
    ck_assert(seen_none && seen_some);
}
END_TEST

START_TEST(short_writes_are_short_but_never_empty)
{
    struct iovec parts[3] = {{"ab", 2}, {"", 0}, {"cdefgh", 6}};
    int fd = open_file();

    faulty_io_short_writes(&faulty, true);
    for (int i = 0; i < 50; i++) {
        ssize_t n = io->pwritev(io, fd, parts, 3, 0, 0);
        char back[8];

        ck_assert(n >= 1 && n <= 7);
        ck_assert_int_eq(io->pread(io, fd, back, (size_t)n, 0), n);
        ck_assert_int_eq(memcmp(back, "abcdefgh", (size_t)n), 0);
    }
    parts[0].iov_len = 1;
    ck_assert_int_eq(io->pwritev(io, fd, parts, 1, 0, 0), 1);
    faulty_io_short_writes(&faulty, false);
    ck_assert_int_eq(io->pwritev(io, fd, parts, 3, 0, 0), 7);
    ck_assert_int_eq(io->close(io, fd), 0);
}
END_TEST

START_TEST(writes_that_suit_direct_io_are_cut_at_sectors)
{
    static char data[8 * 512] __attribute__((aligned(512)));
    struct iovec parts[2] = {{data, 1024}, {data + 1024, 3072}};
    int fd = open_file();

    faulty_io_short_writes(&faulty, true);
    for (int i = 0; i < 50; i++) {
        ssize_t n = io->pwritev(io, fd, parts, 2, 512, 0);

        ck_assert(n >= 512 && n < 4096 && n % 512 == 0);
    }
    parts[0].iov_len = 512; /* Nothing can be cut off a single sector. */
    ck_assert_int_eq(io->pwritev(io, fd, parts, 1, 512, 0), 512);
    ck_assert_int_eq(io->close(io, fd), 0);
}
END_TEST

START_TEST(a_failing_close_closes_nevertheless)
{
    int fd = open_file();
    uint64_t size;

    faulty_io_fail_at(&faulty, 1, EIO, false);
    ck_assert_int_eq(io->close(io, fd), -EIO);
    ck_assert_int_eq(io->size(io, fd, &size), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faulty_io");
    TCase *calls = tcase_create("calls");
    TCase *writes = tcase_create("writes");

    tcase_add_checked_fixture(calls, setup, teardown);
    tcase_add_checked_fixture(writes, setup, teardown);
    tcase_add_test(calls, nothing_fails_unless_told_to_and_everything_is_counted);
    tcase_add_loop_test(calls, each_operation_can_be_the_one_that_fails, 0, OPERATIONS);
    tcase_add_test(calls, the_nth_call_fails_and_only_that);
    tcase_add_test(calls, sticky_failures_stay_until_told_otherwise);
    tcase_add_test(calls, a_mask_counts_and_fails_only_its_classes);
    tcase_add_test(calls, a_failing_close_closes_nevertheless);
    tcase_add_test(writes, a_failing_write_leaves_a_prefix);
    tcase_add_test(writes, short_writes_are_short_but_never_empty);
    tcase_add_test(writes, writes_that_suit_direct_io_are_cut_at_sectors);
    suite_add_tcase(suite, calls);
    suite_add_tcase(suite, writes);
    return runner_main(suite);
}
