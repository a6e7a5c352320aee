#include "sim/mem_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

enum { SECTOR = 512 };

static struct mem_io disk;
static struct io *io;
static uint64_t state;

static uint64_t draw_bits(void *arg)
{
    (void)arg;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t draw(uint64_t bound)
{
    return (draw_bits(NULL) >> 20) % bound;
}

static void setup(void)
{
    mem_io_init(&disk);
    io = &disk.io;
    state = 88172645463325252;
}

static void teardown(void)
{
    mem_io_fini(&disk);
}

static void crash(void)
{
    mem_io_crash(&disk, draw_bits, NULL);
}

static int create(const char *path, int flags)
{
    int fd = io->open(io, path, O_RDWR | O_CREAT | flags, 0600);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static ssize_t put(int fd, const char *text, uint64_t position, int rwf_flags)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};

    return io->pwritev(io, fd, &part, 1, position, rwf_flags);
}

static void make_file(const char *path, const char *text)
{
    int fd = create(path, 0);

    ck_assert_int_eq(put(fd, text, 0, 0), (long)strlen(text));
    ck_assert_int_eq(io->fdatasync(io, fd), 0);
    ck_assert_int_eq(io->close(io, fd), 0);
}

/* Does path hold exactly the text? NULL: is it missing? */
static bool holds(const char *path, const char *text)
{
    int fd = io->open(io, path, O_RDONLY, 0);
    char data[64];
    ssize_t n;

    if (fd < 0) {
        ck_assert_int_eq(fd, -ENOENT);
        return text == NULL;
    }
    n = io->pread(io, fd, data, sizeof data, 0);
    ck_assert_int_eq(io->close(io, fd), 0);
    return text != NULL && n == (ssize_t)strlen(text) && memcmp(data, text, (size_t)n) == 0;
}

/* ---- names after a crash ---- */

START_TEST(a_name_is_durable_once_its_directory_is_synced)
{
    ck_assert_int_eq(io->mkdir(io, "/d", 0700), 0);
    make_file("/d/file", "abc");
    ck_assert_int_eq(io->sync_dir(io, "/d"), 0);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert(!mem_io_is_dirty(&disk));
    for (int i = 0; i < 20; i++) {
        crash();
        ck_assert(holds("/d/file", "abc"));
    }
}
END_TEST

START_TEST(a_synced_file_is_lost_when_its_name_was_not_synced)
{
    unsigned there = 0;

    for (int i = 0; i < 64; i++) {
        make_file("/file", "abc");
        crash();
        there += holds("/file", "abc");
        ck_assert(holds("/file", "abc") || holds("/file", NULL));
        (void)io->unlink(io, "/file"); /* It may be gone. */
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    }
    ck_assert_uint_gt(there, 8);
    ck_assert_uint_lt(there, 56);
}
END_TEST

START_TEST(a_synced_directory_is_lost_with_all_when_its_own_name_was_not_synced)
{
    unsigned there = 0;

    for (int i = 0; i < 64; i++) {
        int rv = io->mkdir(io, "/d", 0700);

        ck_assert(rv == 0 || rv == -EEXIST);
        make_file("/d/file", "abc");
        ck_assert_int_eq(io->sync_dir(io, "/d"), 0);
        crash();
        there += holds("/d/file", "abc");
        ck_assert(holds("/d/file", "abc") || io->rmdir(io, "/d") == -ENOENT);
        if (holds("/d/file", "abc")) {
            ck_assert_int_eq(io->unlink(io, "/d/file"), 0);
            ck_assert_int_eq(io->rmdir(io, "/d"), 0);
        }
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    }
    ck_assert_uint_gt(there, 8);
    ck_assert_uint_lt(there, 56);
}
END_TEST

START_TEST(a_rename_happens_whole_or_not_at_all)
{
    unsigned old = 0;

    for (int i = 0; i < 64; i++) {
        make_file("/a", "new");
        make_file("/b", "old");
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
        ck_assert_int_eq(io->rename(io, "/a", "/b"), 0);
        ck_assert(holds("/a", NULL) && holds("/b", "new"));
        crash();
        old += holds("/b", "old");
        ck_assert((holds("/a", "new") && holds("/b", "old")) ||
                  (holds("/a", NULL) && holds("/b", "new")));
    }
    ck_assert_uint_gt(old, 8);
    ck_assert_uint_lt(old, 56);
}
END_TEST

START_TEST(a_rename_between_directories_happens_whole_or_not_at_all)
{
    unsigned moved = 0;

    ck_assert_int_eq(io->mkdir(io, "/p", 0700), 0);
    ck_assert_int_eq(io->mkdir(io, "/q", 0700), 0);
    for (int i = 0; i < 64; i++) {
        make_file("/p/a", "new");
        ck_assert_int_eq(io->sync_dir(io, "/p"), 0);
        ck_assert_int_eq(io->sync_dir(io, "/q"), 0);
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
        ck_assert_int_eq(io->rename(io, "/p/a", "/q/a"), 0);
        ck_assert_int_eq(io->rename(io, "/q/a", "/p/a"), 0);
        ck_assert_int_eq(io->rename(io, "/p/a", "/q/b"), 0);
        if (i % 4 == 0) {
            ck_assert_int_eq(io->sync_dir(io, "/p"), 0);
        }
        crash();
        moved += holds("/q/b", "new");
        ck_assert_int_eq(holds("/p/a", "new") + holds("/q/a", "new") + holds("/q/b", "new"), 1);
        ck_assert_int_eq(holds("/p/a", NULL) + holds("/q/a", NULL) + holds("/q/b", NULL), 2);
        ck_assert(i % 4 != 0 || holds("/q/b", "new"));
        (void)io->unlink(io, "/q/a"); /* At most one is there. */
        (void)io->unlink(io, "/q/b");
    }
    ck_assert_uint_gt(moved, 16);
    ck_assert_uint_lt(moved, 60);
}
END_TEST

enum { NAMES = 6, HISTORY = 40 };

/* Which of the names are there, as bits. */
static unsigned names_there(void)
{
    unsigned bits = 0;

    for (int i = 0; i < NAMES; i++) {
        char path[8];
        int fd;

        (void)snprintf(path, sizeof path, "/%c", 'a' + i);
        fd = io->open(io, path, O_RDONLY, 0);
        if (fd >= 0) {
            bits |= 1U << i;
            ck_assert_int_eq(io->close(io, fd), 0);
        }
    }
    return bits;
}

static void change_a_name(void)
{
    char path[8];
    char other[8];
    int fd;

    (void)snprintf(path, sizeof path, "/%c", 'a' + (int)draw(NAMES));
    (void)snprintf(other, sizeof other, "/%c", 'a' + (int)draw(NAMES));
    switch (draw(3)) {
    case 0:
        fd = create(path, 0);
        ck_assert_int_eq(io->close(io, fd), 0);
        break;
    case 1:
        (void)io->unlink(io, path); /* It may be missing: no change. */
        break;
    default:
        (void)io->rename(io, path, other); /* As above. */
        break;
    }
}

START_TEST(a_crash_keeps_a_prefix_of_the_changes_of_a_directory)
{
    unsigned middle = 0;

    for (int round = 0; round < 300; round++) {
        unsigned history[HISTORY];
        unsigned count = (unsigned)(1 + draw(HISTORY - 1));
        unsigned there;
        bool found = false;

        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
        history[0] = names_there();
        for (unsigned i = 1; i <= count && i < HISTORY; i++) {
            change_a_name();
            history[i] = names_there();
        }
        crash();
        there = names_there();
        for (unsigned i = 0; i <= count && i < HISTORY; i++) {
            found = found || history[i] == there;
        }
        ck_assert(found);
        middle += there != history[0] && there != history[count];
    }
    ck_assert_uint_gt(middle, 30);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_crash)
{
    unsigned there[2];

    for (int i = 0; i < 2; i++) {
        teardown();
        setup();
        for (int n = 0; n < 30; n++) {
            change_a_name();
        }
        crash();
        there[i] = names_there();
    }
    ck_assert_uint_eq(there[0], there[1]);
}
END_TEST

/* ---- contents ---- */

START_TEST(dsync_writes_are_durable_when_they_return)
{
    int fd = create("/file", 0);
    int sync_fd = create("/other", O_DSYNC);

    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(put(fd, "abc", 0, RWF_DSYNC), 3);
    ck_assert_int_eq(put(sync_fd, "def", 0, 0), 3);
    ck_assert(!mem_io_is_dirty(&disk));
    crash();
    ck_assert(holds("/file", "abc") && holds("/other", "def"));
}
END_TEST

START_TEST(direct_io_wants_aligned_sectors)
{
    static char data[2 * SECTOR] __attribute__((aligned(512)));
    struct iovec part = {data, SECTOR};
    int fd = create("/file", O_DIRECT);

    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, SECTOR, 0), SECTOR);
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 1, 0), -EINVAL);
    part.iov_len = SECTOR - 1;
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 0, 0), -EINVAL);
    part = (struct iovec){data + 8, SECTOR};
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 0, 0), -EINVAL);
    ck_assert_int_eq(io->pread(io, fd, data, SECTOR, 0), SECTOR);
    ck_assert_int_eq(io->pread(io, fd, data, 2 * SECTOR, SECTOR), SECTOR);
    ck_assert_int_eq(io->pread(io, fd, data + 1, SECTOR, 0), -EINVAL);
    ck_assert_int_eq(io->pread(io, fd, data, SECTOR, 4), -EINVAL);
    ck_assert_int_eq(io->pread(io, fd, data, SECTOR + 4, 0), -EINVAL);
}
END_TEST

START_TEST(flip_turns_one_bit)
{
    make_file("/file", "abc");
    ck_assert_int_eq(mem_io_flip(&disk, "/file", 1, 0), 0);
    ck_assert(holds("/file", "acc"));
    ck_assert_int_eq(mem_io_flip(&disk, "/file", 3, 0), -EINVAL);
    ck_assert_int_eq(mem_io_flip(&disk, "/none", 0, 0), -ENOENT);
    ck_assert_int_eq(mem_io_flip(&disk, "/", 0, 0), -EISDIR);
}
END_TEST

/* ---- processes ---- */

START_TEST(a_killed_process_loses_its_files_and_locks_but_not_what_it_wrote)
{
    int fd = create("/file", 0);
    int next;
    uint64_t size;

    ck_assert_int_eq(put(fd, "abc", 0, 0), 3);
    ck_assert_int_eq(io->lock(io, fd), 0);
    mem_io_kill(&disk);
    ck_assert(mem_io_is_dirty(&disk));
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    ck_assert_int_eq(io->size(io, fd, &size), -EBADF);
    ck_assert(holds("/file", "abc"));
    next = create("/file", 0);
    ck_assert_int_ne(next, fd);
    ck_assert_int_eq(io->lock(io, next), 0);
    ck_assert_int_eq(io->close(io, fd), -EBADF);
    ck_assert_int_eq(io->size(io, next, &size), 0);
}
END_TEST

START_TEST(an_unlinked_file_lives_until_it_is_closed)
{
    int fd = create("/file", 0);
    char data[3];
    uint64_t before;
    uint64_t total;
    uint64_t after;

    ck_assert_int_eq(put(fd, "abc", 0, 0), 3);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(io->free_space(io, "/", &before, &total), 0);
    ck_assert_int_eq(io->unlink(io, "/file"), 0);
    ck_assert_int_eq(io->pread(io, fd, data, 3, 0), 3);
    ck_assert_int_eq(io->free_space(io, "/", &after, &total), 0);
    ck_assert_uint_eq(before, after);
    ck_assert_int_eq(io->close(io, fd), 0);
    ck_assert_int_eq(io->free_space(io, "/", &after, &total), 0);
    ck_assert_uint_eq(before + MEM_BLOCK, after);
}
END_TEST

START_TEST(mapped_memory_and_reads_see_each_other)
{
    int fd = create("/file", 0);
    void *address;
    void *again;
    char data[5];

    ck_assert_int_eq(io->allocate(io, fd, 0, 8192), 0);
    ck_assert_int_eq(put(fd, "abc", 0, 0), 3);
    ck_assert_int_eq(io->map(io, fd, 8192, true, &address), 0);
    ck_assert_int_eq(memcmp(address, "abc", 4), 0);
    memcpy((char *)address + 3, "de", 2);
    ck_assert_int_eq(io->pread(io, fd, data, 5, 0), 5);
    ck_assert_int_eq(memcmp(data, "abcde", 5), 0);
    ck_assert_int_eq(put(fd, "X", 0, 0), 1);
    ck_assert_int_eq(*(char *)address, 'X');
    ck_assert_int_eq(io->map(io, fd, 4096, false, &again), 0);
    ck_assert_int_eq(*(char *)again, 'X');
    ck_assert_uint_eq(mem_io_mapped_count(&disk), 2);
    ck_assert_int_eq(io->close(io, fd), 0);
    ck_assert_int_eq(io->unmap(io, again, 4096), 0);
    memcpy(address, "Y", 1);
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    fd = create("/file", 0);
    ck_assert_int_eq(io->fdatasync(io, fd), 0);
    ck_assert_int_eq(io->close(io, fd), 0);
    ck_assert(mem_io_is_dirty(&disk)); /* Stores cannot be observed. */
    ck_assert_int_eq(io->unmap(io, address, 8192), 0);
    ck_assert(!mem_io_is_dirty(&disk)); /* But compared, now. */
    ck_assert_int_eq(io->unmap(io, address, 8192), -EINVAL);
    fd = create("/file", 0);
    ck_assert_int_eq(io->pread(io, fd, data, 5, 0), 5);
    ck_assert_int_eq(memcmp(data, "Ybcde", 5), 0);
}
END_TEST

START_TEST(what_a_dead_process_had_mapped_is_no_longer_the_file)
{
    int fd = create("/file", 0);
    void *address;

    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(put(fd, "abc", 0, 0), 3);
    ck_assert_int_eq(io->map(io, fd, 4096, true, &address), 0);
    memcpy(address, "xyz", 3);
    ck_assert_int_eq(io->fdatasync(io, fd), 0);
    memcpy(address, "x--", 3);
    if (_i == 0) {
        mem_io_kill(&disk);
        ck_assert(holds("/file", "x--"));
    } else {
        crash();
        ck_assert(holds("/file", "x--") || holds("/file", "xyz"));
    }
    memcpy(address, "!!!", 3);
    ck_assert(!holds("/file", "!!!"));
    if (_i != 2) { /* Left to fini. */
        ck_assert_int_eq(io->unmap(io, address, 4096), 0);
        ck_assert_uint_eq(mem_io_mapped_count(&disk), 0);
    }
}
END_TEST

/* ---- space ---- */

START_TEST(a_full_disk_takes_what_fits_and_then_nothing)
{
    static char data[4 * MEM_BLOCK];
    struct iovec part = {data, sizeof data};
    int fd = create("/file", 0);
    uint64_t size;
    uint64_t total;

    mem_io_set_free(&disk, 3 * MEM_BLOCK + 100);
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 0, 0), 3 * MEM_BLOCK);
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 3 * MEM_BLOCK, 0), -ENOSPC);
    ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 0, 0), 3 * MEM_BLOCK); /* over itself */
    ck_assert_int_eq(io->allocate(io, fd, 0, 4 * MEM_BLOCK), -ENOSPC);
    ck_assert_int_eq(io->size(io, fd, &size), 0);
    ck_assert_uint_eq(size, 3 * MEM_BLOCK);
    ck_assert_int_eq(io->free_space(io, "/", &size, &total), 0);
    ck_assert_uint_eq(size, 100);
    ck_assert_int_eq(io->truncate(io, fd, 1), 0);
    ck_assert_int_eq(io->free_space(io, "/", &size, &total), 0);
    ck_assert_uint_eq(size, 2 * MEM_BLOCK + 100);
    ck_assert_int_eq(io->allocate(io, fd, 0, 4 * MEM_BLOCK), -ENOSPC);
    ck_assert_int_eq(io->free_space(io, "/", &size, &total), 0);
    ck_assert_uint_eq(size, 2 * MEM_BLOCK + 100); /* All or nothing. */
    ck_assert_int_eq(io->allocate(io, fd, 0, 3 * MEM_BLOCK), 0);
    ck_assert_int_eq(io->free_space(io, "/nothing", &size, &total), -ENOENT);
}
END_TEST

START_TEST(a_crash_gives_space_back_and_takes_it_again)
{
    uint64_t free_size;
    uint64_t total;
    uint64_t before;

    make_file("/kept", "abc");
    ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    ck_assert_int_eq(io->free_space(io, "/", &before, &total), 0);
    for (int i = 0; i < 40; i++) {
        bool kept;
        bool made;

        ck_assert_int_eq(io->unlink(io, "/kept"), 0);
        make_file("/made", "abc");
        crash();
        kept = holds("/kept", "abc");
        made = holds("/made", "abc");
        ck_assert_int_eq(io->free_space(io, "/", &free_size, &total), 0);
        ck_assert_uint_eq(free_size + (kept + made) * (uint64_t)MEM_BLOCK, before + MEM_BLOCK);
        make_file("/kept", "abc");
        (void)io->unlink(io, "/made"); /* It may be missing. */
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
    }
}
END_TEST

START_TEST(space_follows_the_size_that_a_crash_leaves)
{
    static char data[3 * MEM_BLOCK];
    struct iovec part = {data, sizeof data};
    uint64_t free_size;
    uint64_t total;
    uint64_t all;

    ck_assert_int_eq(io->free_space(io, "/", &all, &total), 0);
    for (int i = 0; i < 40; i++) {
        int fd = create("/file", 0);
        uint64_t size;

        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
        /* Now and then the file shrinks before it crashes, now and then it grows. */
        ck_assert_int_eq(io->truncate(io, fd, 0), 0);
        if (i % 2 == 0) {
            ck_assert_int_eq(io->pwritev(io, fd, &part, 1, 0, i % 4 == 0 ? RWF_DSYNC : 0),
                             (long)sizeof data);
        }
        crash();
        fd = create("/file", 0);
        ck_assert_int_eq(io->size(io, fd, &size), 0);
        ck_assert_int_eq(io->close(io, fd), 0);
        ck_assert_int_eq(io->free_space(io, "/", &free_size, &total), 0);
        ck_assert_uint_eq(all - free_size, (size + MEM_BLOCK - 1) / MEM_BLOCK * MEM_BLOCK);
    }
}
END_TEST

/* ---- the hook, and looking from outside ---- */

struct order {
    enum mem_io_kind kind;
    int number;
    uint64_t partial;
    unsigned asked;
    struct mem_io_op last;
};

static int refuse(void *arg, struct mem_io_op *op)
{
    struct order *order = arg;

    order->asked++;
    order->last = *op;
    if (op->kind != order->kind) {
        return 0;
    }
    op->partial = order->partial;
    return order->number;
}

START_TEST(the_hook_is_asked_and_may_refuse)
{
    struct order order = {.kind = MEM_IO_PWRITEV, .number = EIO, .partial = 2};
    int fd = create("/file", 0);
    uint64_t size;

    mem_io_set_hook(&disk, refuse, &order);
    ck_assert_int_eq(put(fd, "abcdef", 10, 0), -EIO);
    ck_assert_str_eq(order.last.path, "/file");
    ck_assert_uint_eq(order.last.position, 10);
    ck_assert_uint_eq(order.last.size, 6);
    ck_assert_int_eq(io->size(io, fd, &size), 0);
    ck_assert_uint_eq(size, 12); /* The partial write. */
    order.kind = MEM_IO_CLOSE;
    ck_assert_int_eq(io->close(io, fd), -EIO);
    ck_assert_int_eq(io->size(io, fd, &size), -EBADF);
    order.kind = MEM_IO_UNLINK;
    ck_assert_int_eq(io->unlink(io, "/file"), -EIO);
    ck_assert_uint_eq(order.asked, 5);
    mem_io_set_hook(&disk, NULL, NULL);
    ck_assert_int_eq(io->unlink(io, "/file"), 0);
    ck_assert_uint_eq(order.asked, 5);
}
END_TEST

START_TEST(a_refused_sync_loses_what_was_dirty)
{
    struct order order = {.kind = MEM_IO_FDATASYNC, .number = EIO};
    unsigned lost = 0;

    for (int i = 0; i < 40; i++) {
        int fd = create("/file", 0);

        ck_assert_int_eq(put(fd, "old", 0, RWF_DSYNC), 3);
        ck_assert_int_eq(io->sync_dir(io, "/"), 0);
        ck_assert_int_eq(put(fd, "new", 0, 0), 3);
        mem_io_set_hook(&disk, refuse, &order);
        ck_assert_int_eq(io->fdatasync(io, fd), -EIO);
        mem_io_set_hook(&disk, NULL, NULL);
        ck_assert_int_eq(io->fdatasync(io, fd), 0);
        crash();
        lost += holds("/file", "old");
        ck_assert(holds("/file", "old") || holds("/file", "new"));
    }
    ck_assert_uint_gt(lost, 5);
    ck_assert_uint_lt(lost, 35);
}
END_TEST

static void note(void *arg, const char *path, uint64_t size)
{
    ck_assert(buf_printf(arg, "%s %llu\n", path, (unsigned long long)size) == ERR_OK);
}

START_TEST(files_are_enumerated_in_order_with_whole_paths)
{
    struct buf text;

    buf_init(&text, 1000);
    ck_assert_int_eq(io->mkdir(io, "/b", 0700), 0);
    ck_assert_int_eq(io->mkdir(io, "b/empty", 0700), 0);
    make_file("/c", "abc");
    make_file("/b/x", "ab");
    make_file("./a", "");
    mem_io_files(&disk, note, &text);
    ck_assert_uint_eq(text.size, strlen("/a 0\n/b/x 2\n/c 3\n"));
    ck_assert_int_eq(memcmp(text.data, "/a 0\n/b/x 2\n/c 3\n", text.size), 0);
    buf_fini(&text);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("mem_io");
    TCase *names = tcase_create("names");
    TCase *contents = tcase_create("contents");
    TCase *processes = tcase_create("processes");
    TCase *space = tcase_create("space");
    TCase *outside = tcase_create("outside");
    TCase *all[] = {names, contents, processes, space, outside};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        tcase_add_checked_fixture(all[i], setup, teardown);
        suite_add_tcase(suite, all[i]);
    }
    tcase_add_test(names, a_name_is_durable_once_its_directory_is_synced);
    tcase_add_test(names, a_synced_file_is_lost_when_its_name_was_not_synced);
    tcase_add_test(names, a_synced_directory_is_lost_with_all_when_its_own_name_was_not_synced);
    tcase_add_test(names, a_rename_happens_whole_or_not_at_all);
    tcase_add_test(names, a_rename_between_directories_happens_whole_or_not_at_all);
    tcase_add_test(names, a_crash_keeps_a_prefix_of_the_changes_of_a_directory);
    tcase_add_test(names, the_same_seed_gives_the_same_crash);
    tcase_add_test(contents, dsync_writes_are_durable_when_they_return);
    tcase_add_test(contents, direct_io_wants_aligned_sectors);
    tcase_add_test(contents, flip_turns_one_bit);
    tcase_add_test(processes, a_killed_process_loses_its_files_and_locks_but_not_what_it_wrote);
    tcase_add_test(processes, an_unlinked_file_lives_until_it_is_closed);
    tcase_add_test(processes, mapped_memory_and_reads_see_each_other);
    tcase_add_loop_test(processes, what_a_dead_process_had_mapped_is_no_longer_the_file, 0, 3);
    tcase_add_test(space, a_full_disk_takes_what_fits_and_then_nothing);
    tcase_add_test(space, a_crash_gives_space_back_and_takes_it_again);
    tcase_add_test(space, space_follows_the_size_that_a_crash_leaves);
    tcase_add_test(outside, the_hook_is_asked_and_may_refuse);
    tcase_add_test(outside, a_refused_sync_loses_what_was_dirty);
    tcase_add_test(outside, files_are_enumerated_in_order_with_whole_paths);
    return suite;
}

int main(void)
{
    return runner_main(make_suite());
}
