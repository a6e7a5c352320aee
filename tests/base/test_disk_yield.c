#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/disk_yield.h"
#include "lib/runner.h"

enum { SIZE = 4 * DISK_YIELD_PIECE, LONG_US = 60 * 1000 * 1000 };

static char path[] = "/tmp/quorlog-test-yield-XXXXXX";
static int fd;
static uint8_t data[SIZE];
static struct disk_yield *yield;
static struct io *io;
static uint64_t fake_ns;

static uint64_t fake_monotonic_ns(const struct clock *self)
{
    (void)self;
    return fake_ns;
}

static const struct clock fake_clock = {.monotonic_ns = fake_monotonic_ns};

static void start(const struct clock *clock, uint32_t wait_max_us)
{
    ck_assert_int_eq(disk_yield_new(clock, wait_max_us, &yield), ERR_OK);
    io = disk_yield_io(yield);
}

static void set_up(void)
{
    strcpy(path + strlen(path) - 6, "XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 2 * SIZE), 0); /* A hole: no page of it is anywhere. */
    fake_ns = 1000000000;
}

static void tear_down(void)
{
    disk_yield_free(yield);
    yield = NULL;
    (void)close(fd);
    (void)unlink(path);
}

static struct disk_yield_stats stats(void)
{
    struct disk_yield_stats found;

    disk_yield_stats(yield, &found);
    return found;
}

static void write_durably(void)
{
    struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};

    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 2 * SIZE, RWF_DSYNC), 1);
}

START_TEST(where_nobody_writes_all_is_read_at_once)
{
    start(clock_real(), LONG_US);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), SIZE);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 2 * SIZE - 10), 10);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 2 * SIZE), 0);
    ck_assert_int_eq(io->pread_forward(io, fd, data, 0, 0), 0);
    ck_assert_uint_eq(stats().waits, 0);
}
END_TEST

START_TEST(for_a_while_after_a_durable_write_readers_take_pieces)
{
    start(&fake_clock, LONG_US);
    write_durably();
    fake_ns += UINT64_C(1000000) * DISK_YIELD_QUIET_MS;
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), DISK_YIELD_PIECE);
    ck_assert_int_eq(io->pread_forward(io, fd, data, 100, SIZE), 100);
    fake_ns++;
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, SIZE), SIZE);
    ck_assert_uint_eq(stats().waits, 0);
}
END_TEST

START_TEST(a_write_that_is_not_durable_holds_nobody_up)
{
    struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};

    start(&fake_clock, LONG_US);
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 2 * SIZE, 0), 1);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), SIZE);
}
END_TEST

START_TEST(a_write_that_fails_is_over_too)
{
    struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};

    start(&fake_clock, LONG_US);
    ck_assert_int_lt(io->pwritev(io, -1, &part, 1, 0, RWF_DSYNC), 0);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), DISK_YIELD_PIECE);
    ck_assert_uint_eq(stats().waits, 0);
}
END_TEST

START_TEST(a_reader_waits_as_long_as_it_may_and_goes_on)
{
    start(clock_real(), 2000);
    disk_yield_begin_write(yield);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), DISK_YIELD_PIECE);
    ck_assert_uint_eq(stats().waits, 1);
    ck_assert_uint_eq(stats().expired, 1);
    ck_assert_uint_ge(stats().wait_us, 2000);
    disk_yield_end_write(yield);
}
END_TEST

START_TEST(who_must_not_wait_does_not)
{
    start(clock_real(), 0);
    disk_yield_begin_write(yield);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0), DISK_YIELD_PIECE);
    ck_assert_uint_eq(stats().waits, 0);
    disk_yield_end_write(yield);
}
END_TEST

static atomic_bool is_read;

static void *read_piece(void *arg)
{
    static uint8_t bytes[SIZE];

    (void)arg;
    ck_assert_int_eq(io->pread_forward(io, fd, bytes, SIZE, 0), DISK_YIELD_PIECE);
    atomic_store(&is_read, true);
    return NULL;
}

START_TEST(a_reader_goes_on_when_the_last_write_has_ended)
{
    pthread_t thread;

    start(clock_real(), LONG_US);
    atomic_store(&is_read, false);
    disk_yield_begin_write(yield);
    disk_yield_begin_write(yield);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_piece, NULL), 0);
    (void)usleep(20000); /* about */
    disk_yield_end_write(yield);
    (void)usleep(20000);
    ck_assert(!atomic_load(&is_read));
    disk_yield_end_write(yield);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(atomic_load(&is_read));
    ck_assert_uint_eq(stats().expired, 0);
}
END_TEST

/* Kernels before 6.5 cannot tell what is in the page cache: there all is taken to be on the disk.
 */
static bool kernel_tells(void)
{
    uint64_t range[2] = {0, 1};
    uint64_t found[5];

    return syscall(451, fd, range, found, 0U) == 0;
}

START_TEST(what_is_in_the_page_cache_is_read_whoever_writes)
{
    start(clock_real(), 1000);
    memset(data, 7, sizeof data);
    ck_assert_int_eq(pwrite(fd, data, SIZE, 0), SIZE);
    disk_yield_begin_write(yield);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, 0),
                     kernel_tells() ? SIZE : DISK_YIELD_PIECE);
    ck_assert_uint_eq(stats().waits, kernel_tells() ? 0 : 1);
    ck_assert_int_eq(io->pread_forward(io, fd, data, SIZE, SIZE / 2), DISK_YIELD_PIECE);
    disk_yield_end_write(yield);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_yield");
    TCase *tcase = tcase_create("yield");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, where_nobody_writes_all_is_read_at_once);
    tcase_add_test(tcase, for_a_while_after_a_durable_write_readers_take_pieces);
    tcase_add_test(tcase, a_write_that_is_not_durable_holds_nobody_up);
    tcase_add_test(tcase, a_write_that_fails_is_over_too);
    tcase_add_test(tcase, a_reader_waits_as_long_as_it_may_and_goes_on);
    tcase_add_test(tcase, who_must_not_wait_does_not);
    tcase_add_test(tcase, a_reader_goes_on_when_the_last_write_has_ended);
    tcase_add_test(tcase, what_is_in_the_page_cache_is_read_whoever_writes);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
