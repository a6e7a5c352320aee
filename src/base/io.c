#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"

/* ---- the kernel; `self` has no state, so it is not used ---- */

static int real_open(struct io *self, const char *path, int flags, mode_t mode)
{
    int fd;

    (void)self;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int real_close(struct io *self, int fd)
{
    (void)self;
    return close(fd) < 0 ? -errno : 0;
}

static ssize_t real_pread(struct io *self, int fd, void *data, size_t size, uint64_t position)
{
    ssize_t n;

    (void)self;
    do {
        n = pread(fd, data, size, (off_t)position);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t real_pwritev(struct io *self, int fd, const struct iovec *parts, int count,
                            uint64_t position, int rwf_flags)
{
    ssize_t n;

    (void)self;
    do {
        n = pwritev2(fd, parts, count, (off_t)position, rwf_flags);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int real_fdatasync(struct io *self, int fd)
{
    (void)self;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int real_write_back(struct io *self, int fd, uint64_t position, uint64_t size)
{
    (void)self;
    return sync_file_range(fd, (off_t)position, (off_t)size, SYNC_FILE_RANGE_WRITE) < 0 ? -errno
                                                                                        : 0;
}

static int real_truncate(struct io *self, int fd, uint64_t size)
{
    (void)self;
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int real_allocate(struct io *self, int fd, uint64_t position, uint64_t size)
{
    int rv;

    (void)self;
    do {
        rv = fallocate(fd, 0, (off_t)position, (off_t)size);
    } while (rv < 0 && errno == EINTR);
    return rv < 0 ? -errno : 0;
}

static int real_reserve(struct io *self, int fd, uint64_t position, uint64_t size)
{
    int rv;

    (void)self;
    do {
        rv = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)position, (off_t)size);
    } while (rv < 0 && errno == EINTR);
    return rv < 0 ? -errno : 0;
}

static int real_advise_random(struct io *self, int fd)
{
    (void)self;
    return -posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

static int real_size(struct io *self, int fd, uint64_t *ret_size)
{
    struct stat st;

    (void)self;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int real_map(struct io *self, int fd, size_t size, bool writable, void **ret_address)
{
    void *address =
        mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);

    (void)self;
    if (address == MAP_FAILED) {
        return -errno;
    }
    *ret_address = address;
    return 0;
}

static int real_unmap(struct io *self, void *address, size_t size)
{
    (void)self;
    return munmap(address, size) < 0 ? -errno : 0;
}

static int real_link(struct io *self, const char *from, const char *to)
{
    (void)self;
    return link(from, to) < 0 ? -errno : 0;
}

static int real_rename(struct io *self, const char *from, const char *to)
{
    (void)self;
    return rename(from, to) < 0 ? -errno : 0;
}

static int real_unlink(struct io *self, const char *path)
{
    (void)self;
    return unlink(path) < 0 ? -errno : 0;
}

static int real_mkdir(struct io *self, const char *path, mode_t mode)
{
    (void)self;
    return mkdir(path, mode) < 0 ? -errno : 0;
}

static int real_rmdir(struct io *self, const char *path)
{
    (void)self;
    return rmdir(path) < 0 ? -errno : 0;
}

static int real_sync_dir(struct io *self, const char *path)
{
    int fd = real_open(self, path, O_RDONLY | O_DIRECTORY, 0);
    int rv;

    if (fd < 0) {
        return fd;
    }
    rv = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd); /* Read-only: nothing can be lost. */
    return rv;
}

static int real_list(struct io *self, const char *path, int (*each)(void *arg, const char *name),
                     void *arg)
{
    /* Not opendir: thread sanitizers do not see that it takes a descriptor, and die at closedir. */
    int fd = real_open(self, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int rv = 0;

    if (fd < 0) {
        return fd;
    }
    if (dir == NULL) {
        rv = -errno;
        (void)close(fd); /* Read-only. */
        return rv;
    }
    while (rv == 0) {
        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            rv = -errno; /* 0 at the end. */
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rv = each(arg, entry->d_name);
        }
    }
    (void)closedir(dir); /* Read-only. */
    return rv;
}

static int real_lock(struct io *self, int fd)
{
    (void)self;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int real_free_space(struct io *self, const char *path, uint64_t *ret_size,
                           uint64_t *ret_total)
{
    struct statvfs st;

    (void)self;
    if (statvfs(path, &st) < 0) {
        return -errno;
    }
    *ret_size = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    return 0;
}

struct io *io_real(void)
{
    static struct io real = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pread_forward = real_pread,
        .pwritev = real_pwritev,
        .fdatasync = real_fdatasync,
        .write_back = real_write_back,
        .truncate = real_truncate,
        .allocate = real_allocate,
        .reserve = real_reserve,
        .advise_random = real_advise_random,
        .size = real_size,
        .map = real_map,
        .unmap = real_unmap,
        .rename = real_rename,
        .link = real_link,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .sync_dir = real_sync_dir,
        .list = real_list,
        .lock = real_lock,
        .free_space = real_free_space,
    };

    return &real;
}

/* ---- idioms ---- */

enum err io_error(int result, const char *verb, const char *path, struct err_info *info)
{
    ASSERT(result < 0);
    return err_set(info, err_from_errno(-result), "%s '%s': %s", verb, path, strerror(-result));
}

enum err io_open(struct io *io, const char *path, int flags, int *ret_fd, struct err_info *info)
{
    int fd = io->open(io, path, flags, 0640);

    if (fd < 0) {
        return io_error(fd, "open", path, info);
    }
    *ret_fd = fd;
    return ERR_OK;
}

void io_close(struct io *io, int *fd)
{
    if (*fd >= 0) {
        (void)io->close(io, *fd); /* See the header: what matters was synced. */
        *fd = -1;
    }
}

typedef ssize_t (*pread_fn)(struct io *self, int fd, void *data, size_t size, uint64_t position);

static enum err read_with(pread_fn pread_some, struct io *io, int fd, const char *path,
                          struct iovec *to, uint64_t position, struct err_info *info)
{
    size_t done = 0;

    while (done < to->iov_len) {
        size_t left = to->iov_len - done;
        ssize_t n = pread_some(io, fd, (uint8_t *)to->iov_base + done, left, position + done);

        if (n < 0) {
            return io_error((int)n, "read", path, info);
        }
        if (n == 0) {
            break;
        }
        ASSERT((size_t)n <= left);
        done += (size_t)n;
    }
    to->iov_len = done;
    return ERR_OK;
}

enum err io_read(struct io *io, int fd, const char *path, void *data, size_t size,
                 uint64_t position, size_t *ret_size, struct err_info *info)
{
    struct iovec to = {.iov_base = data, .iov_len = size};
    enum err err = read_with(io->pread, io, fd, path, &to, position, info);

    if (err == ERR_OK) {
        *ret_size = to.iov_len;
    }
    return err;
}

enum err io_read_forward(struct io *io, int fd, const char *path, void *data, size_t size,
                         uint64_t position, size_t *ret_size, struct err_info *info)
{
    struct iovec to = {.iov_base = data, .iov_len = size};
    enum err err = read_with(io->pread_forward, io, fd, path, &to, position, info);

    if (err == ERR_OK) {
        *ret_size = to.iov_len;
    }
    return err;
}

/* Skips `done` bytes of the parts from *at, *skip into the first; updates both. */
static void advance(const struct iovec *parts, int count, int *at, size_t *skip, size_t done)
{
    while (*at < count && done >= parts[*at].iov_len - *skip) {
        done -= parts[*at].iov_len - *skip;
        *skip = 0;
        *at += 1;
    }
    *skip += done;
}

enum err io_write(struct io *io, int fd, const char *path, const struct iovec *parts, int count,
                  uint64_t position, int rwf_flags, struct err_info *info)
{
    enum { WINDOW = 64 };
    struct iovec window[WINDOW];
    size_t skip = 0;
    int at = 0;

    advance(parts, count, &at, &skip, 0);
    while (at < count) {
        int n = count - at < WINDOW ? count - at : WINDOW;
        ssize_t written;

        memcpy(window, parts + at, (size_t)n * sizeof window[0]);
        window[0].iov_base = (uint8_t *)window[0].iov_base + skip;
        window[0].iov_len -= skip;
        written = io->pwritev(io, fd, window, n, position, rwf_flags);
        if (written <= 0) {
            return io_error(written < 0 ? (int)written : -EIO, "write", path, info);
        }
        position += (uint64_t)written;
        advance(parts, count, &at, &skip, (size_t)written);
    }
    return ERR_OK;
}

enum err io_sync(struct io *io, int fd, const char *path, struct err_info *info)
{
    int rv = io->fdatasync(io, fd);

    return rv < 0 ? io_error(rv, "sync", path, info) : ERR_OK;
}

enum err io_sync_dir(struct io *io, const char *path, struct err_info *info)
{
    int rv = io->sync_dir(io, path);

    return rv < 0 ? io_error(rv, "sync directory", path, info) : ERR_OK;
}

enum err io_path(char buffer[IO_PATH_SIZE], const char *dir, const char *name,
                 struct err_info *info)
{
    int size = snprintf(buffer, IO_PATH_SIZE, "%s/%s", dir, name);

    if (size < 0 || size >= IO_PATH_SIZE) {
        return err_set(info, ERR_TOO_LARGE, "the path '%.64s…/%.64s' is too long", dir, name);
    }
    return ERR_OK;
}

enum err io_read_file(struct io *io, const char *path, size_t size_max, struct buf *ret_data,
                      struct err_info *info)
{
    uint64_t size;
    size_t done = 0;
    enum err err;
    int fd;
    int rv;

    err = io_open(io, path, O_RDONLY, &fd, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = io->size(io, fd, &size);
    if (rv < 0) {
        err = io_error(rv, "stat", path, info);
        goto out;
    }
    if (size > size_max) {
        err = err_set(info, ERR_TOO_LARGE, "'%s' has %llu bytes, more than the %zu expected", path,
                      (unsigned long long)size, size_max);
        goto out;
    }
    if (size == 0) {
        goto out;
    }
    err = buf_reserve(ret_data, (size_t)size);
    if (err != ERR_OK) {
        (void)err_set(info, err, "read '%s', %llu bytes: %s", path, (unsigned long long)size,
                      err_text(err)); /* err stays. */
        goto out;
    }
    err = io_read(io, fd, path, ret_data->data + ret_data->size, (size_t)size, 0, &done, info);
    if (err == ERR_OK) {
        ret_data->size += done;
    }
out:
    io_close(io, &fd);
    return err;
}

static enum err write_new_file(struct io *io, const char *path, const void *data, size_t size,
                               struct err_info *info)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    enum err err;
    int fd;

    err = io_open(io, path, O_WRONLY | O_CREAT | O_TRUNC, &fd, info);
    if (err != ERR_OK) {
        return err;
    }
    err = io_write(io, fd, path, &part, 1, 0, 0, info);
    if (err == ERR_OK) {
        err = io_sync(io, fd, path, info);
    }
    io_close(io, &fd);
    return err;
}

enum err io_replace_file(struct io *io, const char *dir, const char *name, const void *data,
                         size_t size, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    char temporary[IO_PATH_SIZE + 4];
    enum err err;
    int rv;

    err = io_path(path, dir, name, info);
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", path); /* fits */
    err = write_new_file(io, temporary, data, size, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = io->rename(io, temporary, path);
    if (rv < 0) {
        return io_error(rv, "rename to", path, info);
    }
    return io_sync_dir(io, dir, info);
}

enum err io_make_dir(struct io *io, const char *parent, const char *name, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err;
    int rv;

    err = io_path(path, parent, name, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = io->mkdir(io, path, 0750);
    if (rv == -EEXIST) {
        int fd;

        /* Something is there: a directory? */
        err = io_open(io, path, O_RDONLY | O_DIRECTORY, &fd, info);
        if (err != ERR_OK) {
            return err;
        }
        io_close(io, &fd);
    } else if (rv < 0) {
        return io_error(rv, "make directory", path, info);
    }
    return io_sync_dir(io, parent, info);
}

struct removal {
    struct io *io;
    const char *dir;
    struct err_info *info;
    enum err err;
};

static int remove_one(void *arg, const char *name)
{
    struct removal *removal = arg;
    char path[IO_PATH_SIZE];
    int rv;

    removal->err = io_path(path, removal->dir, name, removal->info);
    if (removal->err != ERR_OK) {
        return 1;
    }
    rv = removal->io->unlink(removal->io, path);
    if (rv < 0 && rv != -ENOENT) {
        removal->err = io_error(rv, "remove", path, removal->info);
        return 1;
    }
    return 0;
}

enum err io_remove_dir(struct io *io, const char *parent, const char *name, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct removal removal = {.io = io, .dir = path, .info = info};
    enum err err;
    int rv;

    err = io_path(path, parent, name, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = io->list(io, path, remove_one, &removal);
    if (removal.err != ERR_OK) {
        return removal.err;
    }
    if (rv < 0 && rv != -ENOENT) {
        return io_error(rv, "list", path, info);
    }
    rv = rv == -ENOENT ? rv : io->rmdir(io, path);
    if (rv < 0 && rv != -ENOENT) {
        return io_error(rv, "remove directory", path, info);
    }
    /* Also when it is missing: an earlier try may have failed only here. */
    return io_sync_dir(io, parent, info);
}
