#include "lib/faulty_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/assert.h"

enum { SECTOR = 512 };

static struct faulty_io *from(struct io *io)
{
    _Static_assert(offsetof(struct faulty_io, io) == 0, "the table is the first member");
    return (struct faulty_io *)io;
}

/* Counts a call of one class; returns the negative errno with which it has to fail, or 0. */
static int count(struct faulty_io *self, unsigned class)
{
    int rv = 0;

    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    if ((self->mask & class) != 0) {
        self->calls++;
        if (self->fail_at != 0 &&
            (self->calls == self->fail_at || (self->sticky && self->calls > self->fail_at))) {
            rv = -self->errno_value;
        }
    }
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
    return rv;
}

/* A number in [0, bound]. */
static uint64_t draw(struct faulty_io *self, uint64_t bound)
{
    uint64_t x;

    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    x = self->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    self->random = x;
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
    return bound == UINT64_MAX ? x : (x >> 8) % (bound + 1);
}

static int faulty_open(struct io *io, const char *path, int flags, mode_t mode)
{
    struct faulty_io *self = from(io);
    int rv = count(self, (flags & (O_CREAT | O_TRUNC)) != 0 ? FAULTY_WRITES : FAULTY_READS);

    return rv < 0 ? rv : self->under->open(self->under, path, flags, mode);
}

static int faulty_close(struct io *io, int fd)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_CLOSES);
    int under_rv = self->under->close(self->under, fd);

    return rv < 0 ? rv : under_rv;
}

static ssize_t faulty_pread(struct io *io, int fd, void *data, size_t size, uint64_t position)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->pread(self->under, fd, data, size, position);
}

/* The total size; *ret_unit is the grain at which the write may be cut: O_DIRECT knows only whole
 * sectors, and which files were opened so is not known here. */
static size_t measure(const struct iovec *parts, int count, uint64_t position, size_t *ret_unit)
{
    bool direct = position % SECTOR == 0;
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        direct =
            direct && parts[i].iov_len % SECTOR == 0 && (uintptr_t)parts[i].iov_base % SECTOR == 0;
        total += parts[i].iov_len;
    }
    *ret_unit = direct ? SECTOR : 1;
    return total;
}

/* Writes the first `size` bytes of the parts and nothing more. */
static ssize_t write_prefix(struct io *under, int fd, const struct iovec *parts, size_t size,
                            uint64_t position, int rwf_flags)
{
    struct iovec cut[IOV_MAX];
    int count = 0;

    for (size_t left = size; left > 0; count++) {
        ASSERT(count < IOV_MAX);
        cut[count] = parts[count];
        if (cut[count].iov_len > left) {
            cut[count].iov_len = left;
        }
        left -= cut[count].iov_len;
    }
    return under->pwritev(under, fd, cut, count, position, rwf_flags);
}

static ssize_t faulty_pwritev(struct io *io, int fd, const struct iovec *parts, int part_count,
                              uint64_t position, int rwf_flags)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);
    size_t unit;
    size_t total;
    bool cut;

    ASSERT(part_count >= 0 && part_count <= IOV_MAX);
    total = measure(parts, part_count, position, &unit);
    if (rv < 0) {
        size_t prefix = (size_t)draw(self, total / unit) * unit;

        if (prefix > 0) {
            /* Whatever comes of it: the caller learns only of the failure, and nobody promised
             * that these bytes are durable. */
            (void)write_prefix(self->under, fd, parts, prefix, position, 0);
        }
        return rv;
    }
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    cut = self->short_writes && total > unit;
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
    if (cut) {
        total = (size_t)(1 + draw(self, total / unit - 2)) * unit;
        return write_prefix(self->under, fd, parts, total, position, rwf_flags);
    }
    return self->under->pwritev(self->under, fd, parts, part_count, position, rwf_flags);
}

static int faulty_fdatasync(struct io *io, int fd)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->fdatasync(self->under, fd);
}

static int faulty_write_back(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->write_back(self->under, fd, position, size);
}

static int faulty_truncate(struct io *io, int fd, uint64_t size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->truncate(self->under, fd, size);
}

static int faulty_allocate(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->allocate(self->under, fd, position, size);
}

static int faulty_reserve(struct io *io, int fd, uint64_t position, uint64_t size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->reserve(self->under, fd, position, size);
}

static int faulty_advise_random(struct io *io, int fd)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->advise_random(self->under, fd);
}

static int faulty_size(struct io *io, int fd, uint64_t *ret_size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->size(self->under, fd, ret_size);
}

static int faulty_map(struct io *io, int fd, size_t size, bool writable, void **ret_address)
{
    struct faulty_io *self = from(io);
    int rv = count(self, writable ? FAULTY_WRITES : FAULTY_READS);

    return rv < 0 ? rv : self->under->map(self->under, fd, size, writable, ret_address);
}

static int faulty_unmap(struct io *io, void *address, size_t size)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_CLOSES);
    int under_rv = self->under->unmap(self->under, address, size);

    return rv < 0 ? rv : under_rv;
}

static int faulty_rename(struct io *io, const char *old, const char *new)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->rename(self->under, old, new);
}

static int faulty_link(struct io *io, const char *old, const char *new)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    if (rv < 0 || self->under->link == NULL) {
        return rv < 0 ? rv : -EXDEV;
    }
    return self->under->link(self->under, old, new);
}

static int faulty_unlink(struct io *io, const char *path)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->unlink(self->under, path);
}

static int faulty_mkdir(struct io *io, const char *path, mode_t mode)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->mkdir(self->under, path, mode);
}

static int faulty_rmdir(struct io *io, const char *path)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->rmdir(self->under, path);
}

static int faulty_sync_dir(struct io *io, const char *path)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_WRITES);

    return rv < 0 ? rv : self->under->sync_dir(self->under, path);
}

static int faulty_list(struct io *io, const char *path, int (*each)(void *arg, const char *name),
                       void *arg)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->list(self->under, path, each, arg);
}

static int faulty_lock(struct io *io, int fd)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->lock(self->under, fd);
}

static int faulty_free_space(struct io *io, const char *path, uint64_t *ret_size,
                             uint64_t *ret_total)
{
    struct faulty_io *self = from(io);
    int rv = count(self, FAULTY_READS);

    return rv < 0 ? rv : self->under->free_space(self->under, path, ret_size, ret_total);
}

void faulty_io_init(struct faulty_io *self, struct io *under)
{
    ASSERT(under != NULL && under != &self->io);
    *self = (struct faulty_io){
        .io =
            {
                .open = faulty_open,
                .close = faulty_close,
                .pread = faulty_pread,
                .pread_forward = faulty_pread,
                .pwritev = faulty_pwritev,
                .fdatasync = faulty_fdatasync,
                .write_back = faulty_write_back,
                .truncate = faulty_truncate,
                .allocate = faulty_allocate,
                .reserve = faulty_reserve,
                .advise_random = faulty_advise_random,
                .size = faulty_size,
                .map = faulty_map,
                .unmap = faulty_unmap,
                .rename = faulty_rename,
                .link = faulty_link,
                .unlink = faulty_unlink,
                .mkdir = faulty_mkdir,
                .rmdir = faulty_rmdir,
                .sync_dir = faulty_sync_dir,
                .list = faulty_list,
                .lock = faulty_lock,
                .free_space = faulty_free_space,
            },
        .under = under,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .mask = FAULTY_ALL,
        .random = 0x9e3779b97f4a7c15,
    };
}

void faulty_io_fail_at(struct faulty_io *self, unsigned nth, int errno_value, bool sticky)
{
    ASSERT(nth == 0 || errno_value > 0);
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    self->fail_at = nth == 0 ? 0 : self->calls + nth;
    self->errno_value = errno_value;
    self->sticky = sticky;
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
}

void faulty_io_count_only(struct faulty_io *self, unsigned mask)
{
    ASSERT((mask & ~(unsigned)FAULTY_ALL) == 0);
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    self->mask = mask;
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
}

unsigned faulty_io_calls(const struct faulty_io *self)
{
    /* The lock is not part of what the caller may see change. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&self->lock;
    unsigned calls;

    ASSERT(pthread_mutex_lock(lock) == 0);
    calls = self->calls;
    ASSERT(pthread_mutex_unlock(lock) == 0);
    return calls;
}

void faulty_io_short_writes(struct faulty_io *self, bool on)
{
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
    self->short_writes = on;
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
}
