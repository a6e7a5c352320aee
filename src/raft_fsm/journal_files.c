#include "raft_fsm/journal_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/journal_segment.h"

enum { FILL_SIZE = 1024 * 1024 };

_Static_assert((int)JOURNAL_SPARES_KEPT <= (int)JOURNAL_SPARES_MAX, "kept spares have room");

static const char probe_name[] = "direct.tmp";

static int open_flags(const struct journal_files *self)
{
    return self->direct ? O_RDWR | O_DIRECT : O_RDWR;
}

static enum err remove_file(struct journal_files *self, const char *path, struct err_info *info)
{
    int rv = self->io->unlink(self->io, path);

    return rv < 0 && rv != -ENOENT ? io_error(rv, "remove", path, info) : ERR_OK;
}

static enum err spare_path(const struct journal_files *self, uint64_t number,
                           char path[IO_PATH_SIZE], struct err_info *info)
{
    char name[JOURNAL_NAME_SIZE];

    journal_spare_name(name, number);
    return io_path(path, self->dir, name, info);
}

static enum err segment_path(const struct journal_files *self, uint64_t segment,
                             char path[IO_PATH_SIZE], struct err_info *info)
{
    char name[JOURNAL_NAME_SIZE];

    journal_segment_name(name, segment);
    return io_path(path, self->dir, name, info);
}

/* ---- writing ---- */

enum err journal_files_write(struct journal_files *self, int fd, const char *path, uint8_t *data,
                             size_t size, uint64_t position, int rwf_flags, struct err_info *info)
{
    ASSERT(size % JOURNAL_SECTOR == 0 && position % JOURNAL_SECTOR == 0);
    ASSERT((uintptr_t)data % JOURNAL_SECTOR == 0);
    while (size > 0) {
        struct iovec part = {.iov_base = data, .iov_len = size};
        ssize_t n = self->io->pwritev(self->io, fd, &part, 1, position, rwf_flags);
        size_t done;

        if (n < 0) {
            return io_error((int)n, "write", path, info);
        }
        ASSERT((size_t)n <= size);
        /* O_DIRECT wants the rest to start on a sector; what is written twice is the same. */
        done = (size_t)n - (size_t)n % JOURNAL_SECTOR;
        if (done == 0) {
            return io_error(-EIO, "write", path, info);
        }
        data += done;
        size -= done;
        position += done;
    }
    return ERR_OK;
}

/* Whether one sector can be written past the page cache. */
static enum err probe_direct(struct journal_files *self, struct err_info *info)
{
    struct iovec part = {.iov_base = self->sector, .iov_len = JOURNAL_SECTOR};
    char path[IO_PATH_SIZE];
    ssize_t n = 0;
    enum err err;
    int fd;

    err = io_path(path, self->dir, probe_name, info);
    if (err != ERR_OK) {
        return err;
    }
    fd = self->io->open(self->io, path, O_RDWR | O_CREAT | O_DIRECT, 0640);
    if (fd >= 0) {
        n = self->io->pwritev(self->io, fd, &part, 1, 0, RWF_DSYNC);
        io_close(self->io, &fd);
    } else {
        n = fd;
    }
    if (n < 0 && n != -EINVAL && n != -EOPNOTSUPP) {
        err = io_error((int)n, "write", path, info);
        (void)self->io->unlink(self->io, path); /* The first error is the one to tell. */
        return err;
    }
    self->direct = n == JOURNAL_SECTOR;
    return remove_file(self, path, info);
}

enum err journal_files_open(struct journal_files *self, const struct journal_options *options,
                            struct err_info *info)
{
    size_t dir_size = strlen(options->dir) + 1;

    *self = (struct journal_files){
        .io = options->io,
        .node_id = options->node_id,
        .salt_state = options->seed,
        .segment_size = options->segment_size,
        .spares_wanted = options->spare_segments,
        .next_number = 1,
        .filler = {.fd = -1},
    };
    ASSERT(self->segment_size % JOURNAL_BLOCK == 0);
    ASSERT(self->spares_wanted <= JOURNAL_SPARES_MAX);
    if (dir_size > sizeof self->dir) {
        return err_set(info, ERR_TOO_LARGE, "the path '%.64s…' is too long", options->dir);
    }
    memcpy(self->dir, options->dir, dir_size);
    self->zeros_size = self->segment_size < FILL_SIZE ? (size_t)self->segment_size : FILL_SIZE;
    self->zeros = aligned_alloc(JOURNAL_BLOCK, self->zeros_size);
    self->sector = aligned_alloc(JOURNAL_BLOCK, JOURNAL_BLOCK);
    if (self->zeros == NULL || self->sector == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for the journal");
    }
    memset(self->zeros, 0, self->zeros_size);
    memset(self->sector, 0, JOURNAL_BLOCK);
    return options->no_direct ? ERR_OK : probe_direct(self, info);
}

void journal_files_close(struct journal_files *self)
{
    char path[IO_PATH_SIZE];

    if (self->filler.fd >= 0) {
        io_close(self->io, &self->filler.fd);
        if (spare_path(self, self->filler.number, path, NULL) == ERR_OK) {
            /* If it stays, the next open removes it for its size. */
            (void)self->io->unlink(self->io, path);
        }
    }
    free(self->zeros);
    free(self->sector);
    self->zeros = NULL;
    self->sector = NULL;
}

/* ---- spares ---- */

static unsigned spares_kept(const struct journal_files *self)
{
    return self->spares_wanted > JOURNAL_SPARES_KEPT ? self->spares_wanted : JOURNAL_SPARES_KEPT;
}

enum err journal_files_add_spare(struct journal_files *self, uint64_t number, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    uint64_t size;
    enum err err;
    int fd;
    int rv;

    if (number >= self->next_number) {
        self->next_number = number + 1;
    }
    err = spare_path(self, number, path, info);
    if (err == ERR_OK) {
        err = io_open(self->io, path, O_RDWR, &fd, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    rv = self->io->size(self->io, fd, &size);
    err = rv < 0 ? io_error(rv, "stat", path, info) : io_sync(self->io, fd, path, info); /* F3 */
    io_close(self->io, &fd);
    if (err != ERR_OK) {
        return err;
    }
    if (size != self->segment_size || self->spare_count >= spares_kept(self)) {
        return remove_file(self, path, info);
    }
    self->spares[self->spare_count++] = number;
    return ERR_OK;
}

static enum err filler_start(struct journal_files *self, struct journal_filler *filler,
                             uint64_t size, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err;

    ASSERT(filler->fd < 0);
    *filler = (struct journal_filler){.fd = -1, .number = self->next_number++, .size = size};
    err = spare_path(self, filler->number, path, info);
    if (err != ERR_OK) {
        return err;
    }
    return io_open(self->io, path, open_flags(self) | O_CREAT | O_TRUNC, &filler->fd, info);
}

/* Writes up to `step` bytes (0: all); closed with all of it durable when done == size. After an
 * error the file is gone, as far as that can be had. */
static enum err filler_run(struct journal_files *self, struct journal_filler *filler, uint64_t step,
                           struct err_info *info)
{
    uint64_t end =
        step == 0 || step > filler->size - filler->done ? filler->size : filler->done + step;
    char path[IO_PATH_SIZE];
    enum err err;

    ASSERT(filler->fd >= 0 && filler->done < filler->size);
    err = spare_path(self, filler->number, path, info);
    end = bytes_round_up(end, JOURNAL_BLOCK);
    while (err == ERR_OK && filler->done < end) {
        uint64_t left = end - filler->done;
        size_t size = left < self->zeros_size ? (size_t)left : self->zeros_size;

        err = journal_files_write(self, filler->fd, path, self->zeros, size, filler->done, 0, info);
        filler->done += size;
    }
    if (err == ERR_OK && filler->done == filler->size) {
        err = io_sync(self->io, filler->fd, path, info); /* F3 */
    }
    if (err != ERR_OK || filler->done == filler->size) {
        io_close(self->io, &filler->fd);
    }
    if (err != ERR_OK) {
        (void)self->io->unlink(self->io, path); /* The next open removes it otherwise. */
    }
    return err;
}

/* Completes the spare under way by `step` bytes, or begins one. */
static enum err fill_spare(struct journal_files *self, uint64_t step, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(self->spare_count < JOURNAL_SPARES_MAX);
    if (self->filler.fd < 0) {
        err = filler_start(self, &self->filler, self->segment_size, info);
    }
    if (err == ERR_OK) {
        err = filler_run(self, &self->filler, step, info);
    }
    if (err == ERR_OK && self->filler.fd < 0) {
        self->spares[self->spare_count++] = self->filler.number;
    }
    return err;
}

enum err journal_files_fill(struct journal_files *self, uint64_t step, bool *ret_more,
                            struct err_info *info)
{
    while (self->spare_count < self->spares_wanted) {
        enum err err = fill_spare(self, step, info);

        if (err != ERR_OK) {
            return err;
        }
        if (step > 0) {
            break;
        }
    }
    *ret_more = self->spare_count < self->spares_wanted;
    return ERR_OK;
}

/* ---- segments ---- */

/* The number of a file of at least `size` bytes that is ready. */
static enum err ready_file(struct journal_files *self, uint64_t size, uint64_t *ret_number,
                           uint64_t *ret_size, struct err_info *info)
{
    struct journal_filler filler = {.fd = -1};
    enum err err = ERR_OK;

    if (size <= self->segment_size) {
        if (self->spare_count == 0) {
            err = fill_spare(self, 0, info);
        }
        if (err == ERR_OK) {
            ASSERT(self->spare_count > 0);
            *ret_number = self->spares[--self->spare_count];
            *ret_size = self->segment_size;
        }
        return err;
    }
    err = filler_start(self, &filler, bytes_round_up(size, JOURNAL_BLOCK), info);
    if (err == ERR_OK) {
        err = filler_run(self, &filler, 0, info);
    }
    if (err == ERR_OK) {
        *ret_number = filler.number;
        *ret_size = filler.size;
    }
    return err;
}

/* A new one each time (splitmix64, see https://prng.di.unimi.it/splitmix64.c). */
static uint64_t draw_salt(struct journal_files *self)
{
    uint64_t z = self->salt_state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

enum err journal_files_take(struct journal_files *self, uint64_t segment, uint64_t size,
                            struct journal_taken *ret_taken, struct err_info *info)
{
    struct journal_header header = {.segment = segment, .node_id = self->node_id};
    char from[IO_PATH_SIZE];
    char to[IO_PATH_SIZE];
    uint64_t number = 0;
    uint64_t ready_size = 0;
    enum err err;
    int fd = -1;
    int rv;

    err = ready_file(self, size, &number, &ready_size, info);
    if (err == ERR_OK) {
        err = spare_path(self, number, from, info);
    }
    if (err == ERR_OK) {
        err = segment_path(self, segment, to, info);
    }
    if (err == ERR_OK) {
        err = io_open(self->io, from, open_flags(self), &fd, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    header.salt = draw_salt(self);
    journal_header_encode(&header, self->sector);
    err = journal_files_write(self, fd, from, self->sector, JOURNAL_HEADER_SIZE, 0, RWF_DSYNC,
                              info); /* F1 */
    if (err == ERR_OK) {
        rv = self->io->rename(self->io, from, to);
        err = rv < 0 ? io_error(rv, "rename to", to, info) : io_sync_dir(self->io, self->dir, info);
    }
    if (err != ERR_OK) {
        io_close(self->io, &fd);
        return err;
    }
    *ret_taken = (struct journal_taken){.fd = fd, .size = ready_size, .salt = header.salt};
    return ERR_OK;
}

enum err journal_files_release(struct journal_files *self, uint64_t segment, uint64_t size,
                               struct err_info *info)
{
    uint64_t number = self->next_number;
    char from[IO_PATH_SIZE];
    char to[IO_PATH_SIZE];
    enum err err;
    int rv;

    err = segment_path(self, segment, from, info);
    if (err == ERR_OK) {
        err = spare_path(self, number, to, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (size != self->segment_size || self->spare_count >= spares_kept(self)) {
        err = remove_file(self, from, info);
        return err == ERR_OK ? io_sync_dir(self->io, self->dir, info) : err;
    }
    rv = self->io->rename(self->io, from, to);
    if (rv < 0) {
        return io_error(rv, "rename to", to, info);
    }
    err = io_sync_dir(self->io, self->dir, info); /* F2 */
    if (err == ERR_OK) {
        self->next_number++;
        self->spares[self->spare_count++] = number;
    }
    return err;
}
