/*
 * The system calls that storage uses, as a table.
 *
 * Everything that touches a file goes through a `struct io`: the real one calls the kernel; tests
 * put one in between that fails the n-th call, writes short, or keeps files in memory and loses
 * what was not synced when a simulated machine loses power. Calls return a value >= 0, or a
 * negative errno; they never set errno for the caller to read.
 *
 * Below the table: the few durable idioms that are built from it, each returning an `enum err` and
 * saying in `info` which path failed and how.
 */
#ifndef QUORLOG_BASE_IO_H
#define QUORLOG_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

struct io {
    /* open(2); flags are the kernel's (O_DIRECT, O_DSYNC among them), close-on-exec always. */
    int (*open)(struct io *self, const char *path, int flags, mode_t mode);
    int (*close)(struct io *self, int fd);
    ssize_t (*pread)(struct io *self, int fd, void *data, size_t size, uint64_t position);
    /* The same, of somebody who goes on behind it next: it may be read ahead, or wait for others
     * who are in a hurry (base/disk_yield.h); it may return less than asked. */
    ssize_t (*pread_forward)(struct io *self, int fd, void *data, size_t size, uint64_t position);
    /* pwritev2(2): may write less than asked. rwf_flags: 0 or RWF_DSYNC. */
    ssize_t (*pwritev)(struct io *self, int fd, const struct iovec *parts, int count,
                       uint64_t position, int rwf_flags);
    int (*fdatasync)(struct io *self, int fd);
    /* sync_file_range(2) with SYNC_FILE_RANGE_WRITE: starts write-back, promises nothing. */
    int (*write_back)(struct io *self, int fd, uint64_t position, uint64_t size);
    int (*truncate)(struct io *self, int fd, uint64_t size);
    /* fallocate(2), mode 0: the file has at least position + size bytes afterwards. */
    int (*allocate)(struct io *self, int fd, uint64_t position, uint64_t size);
    /* fallocate(2), FALLOC_FL_KEEP_SIZE: there is space, as far as can be told; the size stays. A
     * truncate to the size gives back what lies behind it. */
    int (*reserve)(struct io *self, int fd, uint64_t position, uint64_t size);
    /* posix_fadvise(2), POSIX_FADV_RANDOM: the kernel is not to read ahead by itself. Promises
     * nothing. */
    int (*advise_random)(struct io *self, int fd);
    int (*size)(struct io *self, int fd, uint64_t *ret_size);
    /* mmap(2), shared; the whole of [0, size). */
    int (*map)(struct io *self, int fd, size_t size, bool writable, void **ret_address);
    int (*unmap)(struct io *self, void *address, size_t size);
    int (*rename)(struct io *self, const char *from, const char *to);
    /* link(2): a second name on the same file system. NULL: there are none here. */
    int (*link)(struct io *self, const char *from, const char *to);
    int (*unlink)(struct io *self, const char *path);
    int (*mkdir)(struct io *self, const char *path, mode_t mode);
    int (*rmdir)(struct io *self, const char *path);
    /* Makes creations, renames and unlinks in the directory durable (open, fsync, close). */
    int (*sync_dir)(struct io *self, const char *path);
    /* Calls `each` for every entry but "." and "..", in no order; stops at its first non-zero
     * return and returns that. */
    int (*list)(struct io *self, const char *path, int (*each)(void *arg, const char *name),
                void *arg);
    /* flock(2), exclusive, not waiting: -EWOULDBLOCK when another process holds it. */
    int (*lock)(struct io *self, int fd);
    /* Free bytes for us, and all bytes, of the file system of path. */
    int (*free_space)(struct io *self, const char *path, uint64_t *ret_size, uint64_t *ret_total);
};

/* The kernel. Any thread. */
struct io *io_real(void);

/* Translates what a call of the table returned (negative errno) into a code, with the text
 * "VERB 'PATH': REASON". */
enum err io_error(int result, const char *verb, const char *path, struct err_info *info);

/* Opens path. ERR_NOT_FOUND, ERR_EXISTS (O_CREAT|O_EXCL), ERR_NOSPACE, ERR_IO. */
enum err io_open(struct io *io, const char *path, int flags, int *ret_fd, struct err_info *info);

/* Closes fd if it is >= 0 and sets it to -1. Data were synced before, if they matter. */
void io_close(struct io *io, int *fd);

/* Reads up to size bytes, short only at the end of the file. */
enum err io_read(struct io *io, int fd, const char *path, void *data, size_t size,
                 uint64_t position, size_t *ret_size, struct err_info *info);
enum err io_read_forward(struct io *io, int fd, const char *path, void *data, size_t size,
                         uint64_t position, size_t *ret_size, struct err_info *info);

/* Writes all parts, going on after short writes. After an error the bytes in
 * [position, position + total) are undefined. Writes at most IOV_MAX parts a call; count is free.
 * The array is left as it was. */
enum err io_write(struct io *io, int fd, const char *path, const struct iovec *parts, int count,
                  uint64_t position, int rwf_flags, struct err_info *info);

enum err io_sync(struct io *io, int fd, const char *path, struct err_info *info);
enum err io_sync_dir(struct io *io, const char *path, struct err_info *info);

/* A whole file of up to size_max bytes, appended to ret_data. ERR_NOT_FOUND, ERR_TOO_LARGE. */
enum err io_read_file(struct io *io, const char *path, size_t size_max, struct buf *ret_data,
                      struct err_info *info);

/* Replaces dir/name by data so that after any crash it has the old or the new contents, durably
 * the new ones once this returns OK: dir/name.tmp, write, sync, rename, sync of the directory. */
enum err io_replace_file(struct io *io, const char *dir, const char *name, const void *data,
                         size_t size, struct err_info *info);

/* mkdir of one level; an existing directory is fine, a file of that name is ERR_IO. Durable: the
 * parent is synced. */
enum err io_make_dir(struct io *io, const char *parent, const char *name, struct err_info *info);

/* Removes a directory and the files in it (one level; directories inside are an error), and syncs
 * the parent. A missing one is fine, and then the parent is synced, too. */
enum err io_remove_dir(struct io *io, const char *parent, const char *name, struct err_info *info);

/* "a/b" into buffer; ERR_TOO_LARGE with text when it does not fit PATH_MAX. */
enum { IO_PATH_SIZE = 4096 };
enum err io_path(char buffer[IO_PATH_SIZE], const char *dir, const char *name,
                 struct err_info *info);

#endif
