/*
 * mem_io against the kernel: the same calls, drawn at random, go to both; results, contents and
 * names have to be the same throughout.
 */
#include "sim/mem_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"

enum { SIDES = 2, FILES = 4, DATA_SIZE_MAX = 40000 };

struct side {
    struct io *io;
    char root[64];
    int fds[FILES];
    void *maps[FILES];
    size_t map_sizes[FILES];
};

static struct side sides[SIDES];
static struct mem_io disk;
static const char *dir;
static uint64_t state;
static uint8_t data[SIDES][DATA_SIZE_MAX] __attribute__((aligned(512)));

static uint64_t draw(uint64_t bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % bound;
}

static void setup(void)
{
    dir = tmpdir_new();
    mem_io_init(&disk);
    sides[0] = (struct side){.io = io_real()};
    sides[1] = (struct side){.io = &disk.io};
    (void)snprintf(sides[0].root, sizeof sides[0].root, "%s", dir);
    for (int i = 0; i < SIDES; i++) {
        for (int f = 0; f < FILES; f++) {
            sides[i].fds[f] = -1;
        }
    }
}

static void teardown(void)
{
    for (int i = 0; i < SIDES; i++) {
        for (int f = 0; f < FILES; f++) {
            if (sides[i].maps[f] != NULL) {
                ck_assert_int_eq(
                    sides[i].io->unmap(sides[i].io, sides[i].maps[f], sides[i].map_sizes[f]), 0);
            }
            io_close(sides[i].io, &sides[i].fds[f]);
        }
    }
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    ck_assert_uint_eq(mem_io_mapped_count(&disk), 0);
    mem_io_fini(&disk);
    tmpdir_remove(dir);
}

/* A path out of few, some of them through a file or a missing directory. */
static const char *draw_name(void)
{
    static const char *const names[] = {"a", "b", "d", "e", "d/a", "d/b", "d/e", "e/a", "d/e/a"};

    return names[draw(sizeof names / sizeof names[0])];
}

static void path_on(const struct side *side, const char *name, char path[128])
{
    ck_assert_int_lt(snprintf(path, 128, "%s/%s", side->root, name), 128);
}

static void expect_same(const char *what, long first, long second)
{
    ck_assert_msg(first == second, "%s: the kernel says %ld, mem_io %ld", what, first, second);
}

static void do_open(size_t slot)
{
    static const int flags[] = {O_RDONLY,
                                O_RDWR,
                                O_RDWR | O_CREAT,
                                O_RDWR | O_CREAT | O_EXCL,
                                O_WRONLY,
                                O_RDWR | O_TRUNC,
                                O_WRONLY | O_CREAT | O_TRUNC,
                                O_RDONLY | O_DIRECTORY,
                                O_RDWR | O_CREAT};
    int chosen = flags[draw(sizeof flags / sizeof flags[0])];
    const char *name = draw_name();
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        struct side *side = &sides[i];
        char path[128];

        io_close(side->io, &side->fds[slot]);
        path_on(side, name, path);
        side->fds[slot] = side->io->open(side->io, path, chosen, 0640);
        rvs[i] = side->fds[slot] < 0 ? side->fds[slot] : 0;
    }
    expect_same("open", rvs[0], rvs[1]);
}

static void do_write(size_t slot)
{
    uint64_t position = draw(60000);
    size_t sizes[3] = {draw(700), draw(2) * draw(20000), draw(3)};
    struct iovec parts[3];
    uint8_t *at = data[0];
    long rvs[SIDES];

    for (int p = 0; p < 3; p++) {
        memset(at, (int)draw(3), sizes[p]);
        parts[p] = (struct iovec){at, sizes[p]};
        at += sizes[p];
    }
    for (int i = 0; i < SIDES; i++) {
        rvs[i] = sides[i].io->pwritev(sides[i].io, sides[i].fds[slot], parts, 3, position, 0);
    }
    expect_same("pwritev", rvs[0], rvs[1]);
}

static void do_read(size_t slot)
{
    uint64_t position = draw(70000);
    size_t size = draw(DATA_SIZE_MAX);
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        rvs[i] = sides[i].io->pread(sides[i].io, sides[i].fds[slot], data[i], size, position);
    }
    expect_same("pread", rvs[0], rvs[1]);
    if (rvs[0] > 0) {
        ck_assert_int_eq(memcmp(data[0], data[1], (size_t)rvs[0]), 0);
    }
}

static void do_size(size_t slot)
{
    uint64_t position = draw(50000);
    uint64_t size = draw(50000);
    uint64_t kind = draw(3);
    uint64_t ret[SIDES] = {0, 0};
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        struct io *io = sides[i].io;
        int fd = sides[i].fds[slot];

        if (kind == 0) {
            rvs[i] = io->truncate(io, fd, size);
        } else if (kind == 1) {
            rvs[i] = io->allocate(io, fd, position, size);
        } else {
            rvs[i] = io->fdatasync(io, fd);
        }
    }
    expect_same(kind == 0 ? "truncate" : kind == 1 ? "allocate" : "fdatasync", rvs[0], rvs[1]);
    for (int i = 0; i < SIDES; i++) {
        char path[128];
        int fd = -1;

        /* Of files alone: what a directory's size means is the file system's. */
        path_on(&sides[i], "a", path);
        fd = sides[i].io->open(sides[i].io, path, O_RDWR, 0);
        if (fd >= 0) {
            rvs[i] = sides[i].io->size(sides[i].io, fd, &ret[i]);
        }
        io_close(sides[i].io, &fd);
    }
    ck_assert_uint_eq(ret[0], ret[1]);
}

static void do_names(void)
{
    const char *name = draw_name();
    const char *other = draw_name();
    uint64_t kind = draw(5);
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        struct io *io = sides[i].io;
        char path[128];
        char to[128];

        path_on(&sides[i], name, path);
        path_on(&sides[i], other, to);
        switch (kind) {
        case 0:
            rvs[i] = io->rename(io, path, to);
            break;
        case 1:
            rvs[i] = io->unlink(io, path);
            break;
        case 2:
            rvs[i] = io->mkdir(io, path, 0750);
            break;
        case 3:
            rvs[i] = io->rmdir(io, path);
            break;
        default:
            rvs[i] = io->sync_dir(io, path);
            break;
        }
    }
    /* To a full directory that is also an ancestor, and the like: several answers are right. */
    if (kind == 0 && rvs[0] < 0 && rvs[1] < 0) {
        return;
    }
    expect_same(kind == 0   ? "rename"
                : kind == 1 ? "unlink"
                : kind == 2 ? "mkdir"
                : kind == 3 ? "rmdir"
                            : "sync_dir",
                rvs[0], rvs[1]);
}

static void do_map(size_t slot)
{
    size_t size = 1 + draw(30000);
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        struct side *side = &sides[i];
        uint64_t end = 0;

        if (side->maps[slot] != NULL) {
            rvs[i] = side->io->unmap(side->io, side->maps[slot], side->map_sizes[slot]);
            side->maps[slot] = NULL;
            continue;
        }
        rvs[i] = side->io->map(side->io, side->fds[slot], size, true, &side->maps[slot]);
        side->map_sizes[slot] = size;
        if (rvs[i] == 0 && side->io->size(side->io, side->fds[slot], &end) == 0 && end > 0) {
            size_t reach = end < size ? (size_t)end : size;

            memset((uint8_t *)side->maps[slot] + reach / 3, 7, reach / 2);
        }
    }
    expect_same("map", rvs[0], rvs[1]);
}

struct names {
    char *names[16];
    int count;
};

static int add_name(void *arg, const char *name)
{
    struct names *names = arg;

    names->names[names->count++] = strdup(name);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void compare_lists(const char *name)
{
    struct names names[SIDES] = {{.count = 0}, {.count = 0}};
    long rvs[SIDES];

    for (int i = 0; i < SIDES; i++) {
        char path[128];

        path_on(&sides[i], name, path);
        rvs[i] = sides[i].io->list(sides[i].io, path, add_name, &names[i]);
    }
    qsort(names[0].names, (size_t)names[0].count, sizeof names[0].names[0], by_name);
    expect_same("list", rvs[0], rvs[1]);
    ck_assert_int_eq(names[0].count, names[1].count);
    for (int n = 0; n < names[0].count; n++) {
        ck_assert_str_eq(names[0].names[n], names[1].names[n]); /* mem_io's come sorted. */
        free(names[0].names[n]);
        free(names[1].names[n]);
    }
}

START_TEST(mem_io_answers_as_the_kernel_does)
{
    state = 0x1234567 + (uint64_t)_i * 7919;
    for (int step = 0; step < 1500; step++) {
        size_t slot = draw(FILES);

        switch (draw(12)) {
        case 0:
        case 1:
            do_open(slot);
            break;
        case 2:
        case 3:
        case 4:
            do_write(slot);
            break;
        case 5:
        case 6:
            do_read(slot);
            break;
        case 7:
            do_size(slot);
            break;
        case 8:
            do_map(slot);
            break;
        case 9:
            compare_lists("");
            compare_lists(draw_name());
            break;
        default:
            do_names();
            break;
        }
    }
}
END_TEST

START_TEST(locks_exclude_as_the_kernel_s_do)
{
    for (int i = 0; i < SIDES; i++) {
        struct io *io = sides[i].io;
        char path[128];
        int a;
        int b;

        path_on(&sides[i], "lock", path);
        a = io->open(io, path, O_RDWR | O_CREAT, 0600);
        b = io->open(io, path, O_RDWR, 0600);
        ck_assert_int_eq(io->lock(io, a), 0);
        ck_assert_int_eq(io->lock(io, a), 0);
        ck_assert_int_eq(io->lock(io, b), -EWOULDBLOCK);
        ck_assert_int_eq(io->close(io, a), 0);
        ck_assert_int_eq(io->lock(io, b), 0);
        ck_assert_int_eq(io->close(io, b), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mem_io_kernel");
    TCase *tcase = tcase_create("kernel");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, mem_io_answers_as_the_kernel_does, 0, 12);
    tcase_add_test(tcase, locks_exclude_as_the_kernel_s_do);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
