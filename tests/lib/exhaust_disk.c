#include "lib/exhaust_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lib/faulty_alloc.h"

enum { SECTOR = 512 };

uint64_t exhaust_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- calls ---- */

static struct exhaust_disk *from(struct io *io)
{
    _Static_assert(offsetof(struct exhaust_disk, io) == 0, "the table is the first member");
    return (struct exhaust_disk *)io;
}

/* Before each call: decides whether it fails. The memory of the disk itself is always there. */
static struct io *enter(struct io *io, bool changes, const char *verb)
{
    struct exhaust_disk *self = from(io);
    const struct exhaust_disk_order *order = &self->order;
    bool counted = self->counting && (changes || !order->changes_only);

    faulty_alloc_pause();
    self->failing = 0;
    self->calls += counted ? 1 : 0;
    if (!self->counting || order->fail_at == 0 || self->calls < order->fail_at) {
        return &self->under.io;
    }
    if (order->dead || (counted && (order->sticky || self->calls == order->fail_at))) {
        self->failing = order->errno_value;
        self->verb = verb;
    }
    return &self->under.io;
}

static int leave(struct io *io, int rv)
{
    from(io)->failing = 0;
    faulty_alloc_resume();
    return rv;
}

static ssize_t leave_size(struct io *io, ssize_t rv)
{
    (void)leave(io, 0); /* The 0. */
    return rv;
}

/* The disk asks before it does anything. */
static int on_operation(void *arg, struct mem_io_op *op)
{
    struct exhaust_disk *self = arg;

    if (self->failing != 0 && self->failed[0] == '\0') {
        (void)snprintf(self->failed, sizeof self->failed, "%s '%s'", self->verb,
                       op->path); /* fits */
    }
    if (self->failing != 0 && op->kind == MEM_IO_PWRITEV) {
        op->partial = op->size * (exhaust_random(&self->order.random) % 3) / 2;
    }
    return self->failing;
}

static int exhaust_open(struct io *io, const char *path, int flags, mode_t mode)
{
    struct io *under = enter(io, (flags & (O_CREAT | O_TRUNC)) != 0, "open");

    return leave(io, under->open(under, path, flags, mode));
}

static int exhaust_close(struct io *io, int fd)
{
    struct io *under = enter(io, false, "close");

    return leave(io, under->close(under, fd));
}

/* Of size, what a short transfer does: at least a byte, or a sector where all is aligned. */
static size_t shorten(struct exhaust_disk *self, size_t size, uint64_t position)
{
    size_t unit = size % SECTOR == 0 && position % SECTOR == 0 ? SECTOR : 1;
    size_t units = size / unit;

    if (!self->order.short_transfer || !self->counting || units < 2) {
        return size;
    }
    return (1 + (size_t)(exhaust_random(&self->order.random) % (units - 1))) * unit;
}

static ssize_t exhaust_pread(struct io *io, int fd, void *data, size_t size, uint64_t position)
{
    struct io *under = enter(io, false, "pread");

    return leave_size(io,
                      under->pread(under, fd, data, shorten(from(io), size, position), position));
}

static ssize_t exhaust_pwritev(struct io *io, int fd, const struct iovec *parts, int count,
                               uint64_t position, int rwf_flags)
{
    struct io *under = enter(io, true, "pwritev");
    struct iovec cut[IOV_MAX];
    size_t total = 0;
    size_t size;
    int used = 0;

    ASSERT(count > 0 && count <= IOV_MAX);
    for (int i = 0; i < count; i++) {
        total += parts[i].iov_len;
    }
    size = shorten(from(io), total, position);
    while (size > 0) {
        cut[used] = parts[used];
        cut[used].iov_len = cut[used].iov_len < size ? cut[used].iov_len : size;
        size -= cut[used++].iov_len;
    }
    return leave_size(io, under->pwritev(under, fd, cut, used, position, rwf_flags));
}

static int exhaust_fdatasync(struct io *io, int fd)
{
    struct io *under = enter(io, true, "fdatasync");

    return leave(io, under->fdatasync(under, fd));
}

static int exhaust_write_back(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct io *under = enter(io, false, "write_back");

    return leave(io, under->write_back(under, fd, position, size));
}

static int exhaust_truncate(struct io *io, int fd, uint64_t size)
{
    struct io *under = enter(io, true, "truncate");

    return leave(io, under->truncate(under, fd, size));
}

static int exhaust_allocate(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct io *under = enter(io, true, "allocate");

    return leave(io, under->allocate(under, fd, position, size));
}

static int exhaust_reserve(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct io *under = enter(io, true, "reserve");

    return leave(io, under->reserve(under, fd, position, size));
}

static int exhaust_advise_random(struct io *io, int fd)
{
    struct io *under = enter(io, false, "advise");

    return leave(io, under->advise_random(under, fd));
}

static int exhaust_size(struct io *io, int fd, uint64_t *ret_size)
{
    struct io *under = enter(io, false, "size");

    return leave(io, under->size(under, fd, ret_size));
}

static int exhaust_map(struct io *io, int fd, size_t size, bool writable, void **ret_address)
{
    struct io *under = enter(io, writable, "map");

    return leave(io, under->map(under, fd, size, writable, ret_address));
}

static int exhaust_unmap(struct io *io, void *address, size_t size)
{
    struct io *under = enter(io, false, "unmap");

    return leave(io, under->unmap(under, address, size));
}

static int exhaust_rename(struct io *io, const char *old, const char *new)
{
    struct io *under = enter(io, true, "rename");

    return leave(io, under->rename(under, old, new));
}

static int exhaust_unlink(struct io *io, const char *path)
{
    struct io *under = enter(io, true, "unlink");

    return leave(io, under->unlink(under, path));
}

static int exhaust_mkdir(struct io *io, const char *path, mode_t mode)
{
    struct io *under = enter(io, true, "mkdir");

    return leave(io, under->mkdir(under, path, mode));
}

static int exhaust_rmdir(struct io *io, const char *path)
{
    struct io *under = enter(io, true, "rmdir");

    return leave(io, under->rmdir(under, path));
}

static int exhaust_sync_dir(struct io *io, const char *path)
{
    struct io *under = enter(io, true, "sync_dir");

    return leave(io, under->sync_dir(under, path));
}

struct listing {
    struct io *io;
    int (*each)(void *arg, const char *name);
    void *arg;
};

/* The code under test again, in the middle of the disk. */
static int on_name(void *arg, const char *name)
{
    struct listing *listing = arg;
    int rv;

    faulty_alloc_resume();
    rv = listing->each(listing->arg, name);
    faulty_alloc_pause();
    return rv;
}

static int exhaust_list(struct io *io, const char *path, int (*each)(void *arg, const char *name),
                        void *arg)
{
    struct io *under = enter(io, false, "list");
    struct listing listing = {.io = io, .each = each, .arg = arg};

    return leave(io, under->list(under, path, on_name, &listing));
}

static int exhaust_lock(struct io *io, int fd)
{
    struct io *under = enter(io, false, "lock");

    return leave(io, under->lock(under, fd));
}

static int exhaust_free_space(struct io *io, const char *path, uint64_t *ret_size,
                              uint64_t *ret_total)
{
    struct io *under = enter(io, false, "free_space");

    return leave(io, under->free_space(under, path, ret_size, ret_total));
}

void exhaust_disk_init(struct exhaust_disk *self)
{
    *self = (struct exhaust_disk){
        .io =
            {
                .open = exhaust_open,
                .close = exhaust_close,
                .pread = exhaust_pread,
                .pread_forward = exhaust_pread,
                .pwritev = exhaust_pwritev,
                .fdatasync = exhaust_fdatasync,
                .write_back = exhaust_write_back,
                .truncate = exhaust_truncate,
                .allocate = exhaust_allocate,
                .reserve = exhaust_reserve,
                .advise_random = exhaust_advise_random,
                .size = exhaust_size,
                .map = exhaust_map,
                .unmap = exhaust_unmap,
                .rename = exhaust_rename,
                .unlink = exhaust_unlink,
                .mkdir = exhaust_mkdir,
                .rmdir = exhaust_rmdir,
                .sync_dir = exhaust_sync_dir,
                .list = exhaust_list,
                .lock = exhaust_lock,
                .free_space = exhaust_free_space,
            },
    };
    mem_io_init(&self->under);
    mem_io_set_hook(&self->under, on_operation, self);
}

void exhaust_disk_fini(struct exhaust_disk *self)
{
    mem_io_fini(&self->under);
}

void exhaust_disk_begin(struct exhaust_disk *self, const struct exhaust_disk_order *order)
{
    ASSERT(order->errno_value >= 0);
    self->order = *order;
    self->counting = true;
    self->calls = 0;
    self->failed[0] = '\0';
}

void exhaust_disk_end(struct exhaust_disk *self)
{
    self->counting = false;
    self->failing = 0;
}

/* ---- power ---- */

/* All that is dirty of one kind is durable after all, but what a failed sync has lost. */
static void keep(struct mem_io *disk, bool dirs)
{
    struct mem_node *node = disk->tree.dirty;

    while (node != NULL) {
        struct mem_node *next = node->dirty_next;

        if (node->is_dir && dirs) {
            mem_tree_sync(&disk->tree, node);
            next = disk->tree.dirty; /* It may have taken others with it. */
        } else if (!node->is_dir && !dirs) {
            mem_file_sync(&node->file);
            mem_tree_update(&disk->tree, node);
        }
        node = next;
    }
}

/* Changes [from, from + count) are of one rename, or one change. */
static size_t group_at(const struct mem_dir *dir, size_t from)
{
    return from + 1 < dir->change_count && dir->changes[from].id == dir->changes[from + 1].id ? 2
                                                                                              : 1;
}

static bool independent(const struct mem_dir *dir, size_t first, size_t second, size_t end)
{
    for (size_t i = first; i < second; i++) {
        for (size_t j = second; j < end; j++) {
            if (strcmp(dir->changes[i].name, dir->changes[j].name) == 0 ||
                dir->changes[i].other != NULL || dir->changes[j].other != NULL) {
                return false;
            }
        }
    }
    return true;
}

/* Neighbours that do not depend on each other change places, many times over. */
static void shuffle(struct mem_dir *dir, uint64_t *random)
{
    for (size_t round = 0; round < 4 * dir->change_count; round++) {
        size_t at = 0;

        while (at < dir->change_count) {
            struct mem_change moved[2];
            size_t size = group_at(dir, at);
            size_t next = at + size;
            size_t next_size = next < dir->change_count ? group_at(dir, next) : 0;

            if (next_size > 0 && independent(dir, at, next, next + next_size) &&
                exhaust_random(random) % 2 == 0) {
                memcpy(moved, dir->changes + at, size * sizeof moved[0]);
                memmove(dir->changes + at, dir->changes + next, next_size * sizeof moved[0]);
                memcpy(dir->changes + at + next_size, moved, size * sizeof moved[0]);
                size = next_size;
            }
            at += size;
        }
    }
}

static uint64_t draw_nothing(void *arg)
{
    (void)arg;
    return 9; /* No name, no sector, no growth: see mem_tree.c and mem_file.c. */
}

static uint64_t draw(void *arg)
{
    return exhaust_random(arg);
}

void exhaust_disk_crash(struct exhaust_disk *self, enum exhaust_loss loss, uint64_t random)
{
    struct mem_io *disk = &self->under;
    struct mem_node *node;

    mem_io_kill(disk);
    switch (loss) {
    case LOSE_NOTHING:
        return;
    case LOSE_ALL:
        break;
    case LOSE_DATA:
        keep(disk, true);
        break;
    case LOSE_NAMES:
        keep(disk, false);
        break;
    case LOSE_ORDER:
        for (node = disk->tree.dirty; node != NULL; node = node->dirty_next) {
            if (node->is_dir) {
                shuffle(&node->dir, &random);
            }
        }
        mem_io_crash(disk, draw, &random);
        return;
    case LOSE_SOME:
        mem_io_crash(disk, draw, &random);
        return;
    }
    mem_io_crash(disk, draw_nothing, NULL);
}
