#include "log/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    STORE_VERSION = 1,
    STORE_FLAGS_KNOWN = 0,
    REWRITE_SIZE = 64 * 1024,
    FORWARD_SIZE_MIN = 256 * 1024, /* Who reads so much at once goes on behind it. */

    AT_MAGIC = 0,
    AT_CRC = 4,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_REWRITES = 14,
    AT_BASE_OFFSET = 16,
    AT_GENERATION = 24,

    COPY_SIZE = 256 * 1024,

    SUFFIX_SIZE_MAX = 8,
};

_Static_assert(AT_GENERATION + 8 == STORE_HEADER_SIZE, "the generation ends the header");

/* What the cache calls: what was written was synced before (I3), or the log has failed. */
static void close_file(void *context, int fd, void *object)
{
    (void)object; /* Descriptors only. */
    io_close(context, &fd);
}

/* Memory only; nothing is open. */
static struct store *store_new(struct io *io, struct file_cache *files, const char *path,
                               uint64_t base_offset)
{
    size_t path_size = strlen(path) + 1;
    struct store *self = malloc(sizeof *self + path_size);

    ASSERT(path_size <= IO_PATH_SIZE);
    if (self == NULL) {
        return NULL;
    }
    self->io = io;
    self->files = files;
    atomic_init(&self->refs, 1);
    self->temporary = false;
    self->suffix = ".tmp";
    file_cache_item_init(&self->file, FILE_CACHE_DESCRIPTOR, close_file, io);
    self->base_offset = base_offset;
    self->generation = 0;
    self->rewrites = 0;
    atomic_init(&self->size, 0);
    self->synced_size = 0;
    self->write_back_from = 0;
    self->held = false;
    self->kept = false;
    memcpy(self->path, path, path_size);
    return self;
}

static void put_temporary_path(const struct store *self,
                               char buffer[IO_PATH_SIZE + SUFFIX_SIZE_MAX])
{
    int size = snprintf(buffer, IO_PATH_SIZE + SUFFIX_SIZE_MAX, "%s%s", self->path, self->suffix);

    /* path was checked when it was made */
    ASSERT(size > 0 && size < IO_PATH_SIZE + SUFFIX_SIZE_MAX);
}

/* ---- its descriptor ---- */

/* Takes over what was opened for a store that is nobody else's yet; it is pinned. */
static void install_new(struct store *self, int fd)
{
    const struct file_cache_item opened = {.kind = FILE_CACHE_DESCRIPTOR, .fd = fd};
    bool taken = true;

    ASSERT(fd >= 0 && self->file.fd < 0);
    if (self->files == NULL) {
        self->file.fd = fd;
    } else {
        enum file_cache_outcome outcome =
            file_cache_install(self->files, &self->file, &opened, &taken);

        ASSERT(outcome == FILE_CACHE_HIT);
    }
    ASSERT(taken);
}

static void reserve_new(struct store *self)
{
    if (self->files != NULL) {
        enum file_cache_outcome outcome = file_cache_acquire_always(self->files, &self->file);

        ASSERT(outcome == FILE_CACHE_MISS);
    }
}

static void abandon_new(struct store *self)
{
    if (self->files != NULL) {
        enum file_cache_outcome outcome = file_cache_abandon(self->files, &self->file);

        ASSERT(outcome == FILE_CACHE_MISS);
    }
}

/* Opens the file of a new store, under its own or the temporary name, empty: held (I3). */
static enum err create_file(struct store *self, bool temporary, struct err_info *info)
{
    char path[IO_PATH_SIZE + SUFFIX_SIZE_MAX];
    enum err err;
    int fd = -1;

    reserve_new(self);
    if (temporary) {
        put_temporary_path(self, path);
        err = io_open(self->io, path, O_RDWR | O_CREAT | O_TRUNC, &fd, info);
    } else {
        err = io_open(self->io, self->path, O_RDWR | O_CREAT | O_EXCL, &fd, info);
    }
    if (err != ERR_OK) {
        abandon_new(self);
        return err;
    }
    (void)self->io->advise_random(self->io, fd); /* Only a hint. */
    install_new(self, fd);
    self->held = true;
    self->temporary = temporary;
    return ERR_OK;
}

static enum err check_header(const struct store *self, const uint8_t *bytes, size_t size,
                             struct store_header *ret_header, struct err_info *info);

/* Opens the file, and looks at its header. */
static enum err open_file(const struct store *self, int *ret_fd, uint64_t *ret_size,
                          struct store_header *ret_header, struct err_info *info)
{
    uint8_t bytes[STORE_HEADER_SIZE];
    size_t done = 0;
    enum err err;
    int fd = -1;
    int rv;

    err = io_open(self->io, self->path, O_RDWR, &fd, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = self->io->size(self->io, fd, ret_size);
    if (rv < 0) {
        err = io_error(rv, "stat", self->path, info);
    } else {
        err = io_read(self->io, fd, self->path, bytes, sizeof bytes, 0, &done, info);
    }
    if (err == ERR_OK) {
        err = check_header(self, bytes, done, ret_header, info);
    }
    if (err != ERR_OK) {
        io_close(self->io, &fd);
        return err;
    }
    (void)self->io->advise_random(self->io, fd); /* Only a hint. */
    *ret_fd = fd;
    return ERR_OK;
}

/* Opens the file anew: it must be the one that it was. */
static enum err reopen(const struct store *self, int *ret_fd, struct err_info *info)
{
    uint64_t size_before = store_size(self);
    struct store_header header = {0};
    uint64_t size = 0;
    enum err err = open_file(self, ret_fd, &size, &header, info);

    if (err == ERR_NOT_FOUND) {
        return err_set(info, ERR_CORRUPT, "'%s' is gone", self->path);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (size < size_before) {
        err = err_set(info, ERR_CORRUPT, "'%s' has %" PRIu64 " bytes, and had %" PRIu64, self->path,
                      size, size_before);
    } else if (header.generation != self->generation || header.rewrites != self->rewrites) {
        err = err_set(info, ERR_CORRUPT, "'%s' is another file than it was", self->path);
    }
    if (err != ERR_OK) {
        io_close(self->io, ret_fd);
        return err;
    }
    return ERR_OK;
}

/* After a MISS. */
static enum file_cache_outcome open_and_install(struct store *self, enum err *ret_err,
                                                struct err_info *info)
{
    struct file_cache_item opened = {.kind = FILE_CACHE_DESCRIPTOR, .fd = -1};
    enum file_cache_outcome outcome;
    bool taken = false;

    *ret_err = reopen(self, &opened.fd, info);
    if (*ret_err != ERR_OK) {
        return file_cache_abandon(self->files, &self->file);
    }
    outcome = file_cache_install(self->files, &self->file, &opened, &taken);
    if (!taken) {
        io_close(self->io, &opened.fd);
    }
    return outcome;
}

static enum err pin(struct store *self, bool always, struct err_info *info)
{
    enum file_cache_outcome outcome;
    enum err err = ERR_OK;

    if (self->files == NULL) {
        ASSERT(self->file.fd >= 0);
        return ERR_OK;
    }
    outcome = always ? file_cache_acquire_always(self->files, &self->file)
                     : file_cache_acquire(self->files, &self->file);
    if (outcome == FILE_CACHE_MISS) {
        outcome = open_and_install(self, &err, info);
    }
    switch (outcome) {
    case FILE_CACHE_HIT:
        return ERR_OK;
    case FILE_CACHE_FULL:
        return err_set(info, ERR_LIMIT, "'%s': too many files are open", self->path);
    case FILE_CACHE_GONE:
        return err_set(info, ERR_RANGE, "'%s' was removed from the log", self->path);
    case FILE_CACHE_MISS:
        break;
    }
    ASSERT(err != ERR_OK);
    return err;
}

enum err store_pin(const struct store *self, int *ret_fd, struct err_info *info)
{
    /* What is guarded by the cache's lock changes; the store does not. */
    enum err err = pin((struct store *)(uintptr_t)self, false, info);

    if (err == ERR_OK && ret_fd != NULL) {
        *ret_fd = self->file.fd;
    }
    return err;
}

void store_unpin(const struct store *self)
{
    if (self->files != NULL) {
        file_cache_release(self->files, &((struct store *)(uintptr_t)self)->file);
    }
}

/* (writer) Before something is written (I3). */
static enum err hold(struct store *self, struct err_info *info)
{
    enum err err = self->held ? ERR_OK : pin(self, true, info);

    self->held = err == ERR_OK;
    return err;
}

void store_set_synced(struct store *self, uint64_t size)
{
    ASSERT(size <= store_size(self));
    self->synced_size = size;
    if (self->held && size == store_size(self) && !self->temporary) {
        self->held = false;
        store_unpin(self);
    }
}

void store_retire(struct store *self, bool shared)
{
    if (self->files == NULL || self->kept) {
        return;
    }
    self->kept = shared && pin(self, false, NULL) == ERR_OK;
    file_cache_set_gone(self->files, &self->file);
}

/* ---- */

enum err store_create(const struct store_options *options, struct store **ret_store,
                      struct err_info *info)
{
    struct store *self =
        store_new(options->io, options->files, options->path, options->base_offset);
    uint8_t header[STORE_HEADER_SIZE];
    struct iovec part = {.iov_base = header, .iov_len = sizeof header};
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "create '%s': out of memory", options->path);
    }
    self->generation = options->generation;
    self->rewrites = options->rewrites;
    self->suffix = options->suffix == NULL ? self->suffix : options->suffix;
    bytes_put_u32(header + AT_MAGIC, STORE_MAGIC);
    bytes_put_u32(header + AT_VERSION, STORE_VERSION);
    bytes_put_u16(header + AT_FLAGS, 0);
    bytes_put_u16(header + AT_REWRITES, options->rewrites);
    bytes_put_u64(header + AT_BASE_OFFSET, options->base_offset);
    bytes_put_u64(header + AT_GENERATION, options->generation);
    bytes_put_u32(header + AT_CRC, crc32c(header + AT_VERSION, sizeof header - AT_VERSION));
    err = create_file(self, options->temporary, info);
    if (err == ERR_OK) {
        err = store_append(self, &part, 1, sizeof header, info);
    }
    if (err != ERR_OK) {
        store_unref(self);
        return err;
    }
    ASSERT(store_size(self) == STORE_HEADER_SIZE);
    *ret_store = self;
    return ERR_OK;
}

enum err store_header_decode(const uint8_t *from, size_t size, const char *path,
                             struct store_header *ret_header, struct err_info *info)
{
    if (size < STORE_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "'%s' at position 0: %zu bytes are no header", path,
                       size);
    }
    if (bytes_get_u32(from + AT_MAGIC) != STORE_MAGIC) {
        return err_set(info, ERR_CORRUPT, "'%s' at position 0: not a store file", path);
    }
    if (bytes_get_u32(from + AT_CRC) != crc32c(from + AT_VERSION, STORE_HEADER_SIZE - AT_VERSION)) {
        return err_set(info, ERR_CORRUPT,
                       "'%s' at position 0: the header does not match its checksum", path);
    }
    if (bytes_get_u32(from + AT_VERSION) != STORE_VERSION ||
        (bytes_get_u16(from + AT_FLAGS) & ~STORE_FLAGS_KNOWN) != 0) {
        return err_set(info, ERR_VERSION,
                       "'%s' has format version %" PRIu32 ", flags 0x%" PRIx16
                       ", made by a newer program",
                       path, bytes_get_u32(from + AT_VERSION), bytes_get_u16(from + AT_FLAGS));
    }
    *ret_header = (struct store_header){
        .base_offset = bytes_get_u64(from + AT_BASE_OFFSET),
        .generation = bytes_get_u64(from + AT_GENERATION),
        .rewrites = bytes_get_u16(from + AT_REWRITES),
    };
    return ERR_OK;
}

static enum err check_header(const struct store *self, const uint8_t *bytes, size_t size,
                             struct store_header *ret_header, struct err_info *info)
{
    struct store_header header = {0};
    enum err err = store_header_decode(bytes, size, self->path, &header, info);

    if (err != ERR_OK) {
        return err;
    }
    if (header.base_offset != self->base_offset) {
        return err_set(info, ERR_CORRUPT, "'%s' at position 0: base offset is %" PRIu64, self->path,
                       header.base_offset);
    }
    *ret_header = header;
    return ERR_OK;
}

enum err store_open_with(const struct store_options *options, struct store **ret_store,
                         struct err_info *info)
{
    struct store *self =
        store_new(options->io, options->files, options->path, options->base_offset);
    struct store_header header = {0};
    uint64_t size = 0;
    enum err err;
    int fd = -1;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "open '%s': out of memory", options->path);
    }
    reserve_new(self);
    err = open_file(self, &fd, &size, &header, info);
    if (err != ERR_OK) {
        abandon_new(self);
        store_unref(self);
        return err;
    }
    self->generation = header.generation;
    self->rewrites = header.rewrites;
    ASSERT(size >= STORE_HEADER_SIZE);
    atomic_store_explicit(&self->size, size, memory_order_release);
    self->write_back_from = size;
    install_new(self, fd);
    store_unpin(self);
    *ret_store = self;
    return ERR_OK;
}

enum err store_open(struct io *io, const char *path, uint64_t base_offset, struct store **ret_store,
                    struct err_info *info)
{
    const struct store_options options = {.io = io, .path = path, .base_offset = base_offset};

    return store_open_with(&options, ret_store, info);
}

enum err store_commit(struct store *self, struct err_info *info)
{
    char temporary[IO_PATH_SIZE + SUFFIX_SIZE_MAX];
    int rv;

    ASSERT(self->temporary && self->held);
    put_temporary_path(self, temporary);
    rv = self->io->rename(self->io, temporary, self->path);
    if (rv < 0) {
        return io_error(rv, "rename to", self->path, info);
    }
    self->temporary = false;
    store_set_synced(self, self->synced_size);
    return ERR_OK;
}

enum err store_copy(const struct store *self, const char *path, uint64_t size,
                    struct store **ret_store, struct err_info *info)
{
    struct store *copy = store_new(self->io, self->files, path, self->base_offset);
    uint8_t *data = malloc(COPY_SIZE);
    uint64_t done = 0;
    enum err err;

    ASSERT(size >= STORE_HEADER_SIZE && size <= store_size(self));
    if (copy == NULL || data == NULL) {
        err = err_set(info, ERR_NOMEM, "copy '%s': out of memory", self->path);
        goto out;
    }
    copy->generation = self->generation;
    copy->rewrites = self->rewrites;
    err = create_file(copy, true, info);
    while (err == ERR_OK && done < size) {
        size_t n = size - done < COPY_SIZE ? (size_t)(size - done) : COPY_SIZE;
        struct iovec part = {.iov_base = data, .iov_len = n};

        err = store_read(self, done, data, n, info);
        if (err == ERR_OK) {
            err = store_append(copy, &part, 1, n, info);
        }
        done += n;
    }
    if (err == ERR_OK) {
        err = store_sync(copy, info);
    }
    if (err == ERR_OK) {
        store_set_synced(copy, size);
        *ret_store = copy;
        copy = NULL;
    }
out:
    store_unref(copy);
    free(data);
    return err;
}

struct store *store_ref(struct store *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void store_unref(struct store *self)
{
    unsigned before;

    if (self == NULL) {
        return;
    }
    before = atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    if (self->files == NULL) {
        io_close(self->io, &self->file.fd);
    } else {
        if (self->held) {
            store_unpin(self);
        }
        if (self->kept) {
            store_unpin(self);
        }
        file_cache_forget(self->files, &self->file);
    }
    free(self);
}

enum err store_append(struct store *self, const struct iovec *parts, int count, size_t size,
                      struct err_info *info)
{
    uint64_t position = store_size(self);
    enum err err = hold(self, info);

    ASSERT(size > 0);
    if (err == ERR_OK) {
        err = io_write(self->io, self->file.fd, self->path, parts, count, position, 0, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    atomic_store_explicit(&self->size, position + size, memory_order_release); /* I1 */
    return ERR_OK;
}

void store_write_back(struct store *self, uint64_t at_least)
{
    uint64_t size = store_size(self);

    ASSERT(self->write_back_from <= size);
    if (size - self->write_back_from < at_least || size == self->write_back_from) {
        return;
    }
    /* Only a hint: an error of the disk is told by the sync that follows. One came already where
     * the file is not held any more. */
    if (self->held || self->files == NULL) {
        (void)self->io->write_back(self->io, self->file.fd, self->write_back_from,
                                   size - self->write_back_from);
    }
    self->write_back_from = size;
}

void store_reserve(struct store *self, uint64_t size)
{
    uint64_t from = store_size(self);

    /* Only a hint, as well: a disk that fails tells the write that follows, and one that is full
     * takes that write, perhaps. */
    if (size > from && hold(self, NULL) == ERR_OK) {
        (void)self->io->reserve(self->io, self->file.fd, from, size - from);
    }
}

enum err store_give_back(struct store *self, struct err_info *info)
{
    enum err err = store_pin(self, NULL, info);
    int rv;

    if (err != ERR_OK) {
        return err;
    }
    /* To the size that it has: what lies behind it goes. */
    rv = self->io->truncate(self->io, self->file.fd, store_size(self));
    store_unpin(self);
    return rv < 0 ? io_error(rv, "truncate", self->path, info) : ERR_OK;
}

enum err store_truncate(struct store *self, uint64_t size, struct err_info *info)
{
    enum err err = hold(self, info);
    int rv;

    ASSERT(size >= STORE_HEADER_SIZE && size <= store_size(self));
    if (err != ERR_OK) {
        return err;
    }
    atomic_store_explicit(&self->size, size, memory_order_release);
    rv = self->io->truncate(self->io, self->file.fd, size);
    if (rv < 0) {
        return io_error(rv, "truncate", self->path, info);
    }
    /* Before anything is written there again: after a crash, old and new batches must not lie side
     * by side, each of them valid. */
    err = store_sync(self, info);
    if (err == ERR_OK) {
        store_set_synced(self, size);
        self->write_back_from = size;
    }
    return err;
}

enum err store_sync(const struct store *self, struct err_info *info)
{
    enum err err = store_pin(self, NULL, info);

    if (err != ERR_OK) {
        return err;
    }
    err = io_sync(self->io, self->file.fd, self->path, info);
    store_unpin(self);
    return err;
}

enum err store_error(const struct store *self, uint64_t position, enum err err,
                     struct err_info *info)
{
    ASSERT(err != ERR_OK);
    (void)err_prefix(info, err, "'%s' at position %" PRIu64, self->path, position);
    return err;
}

enum err store_read_some(const struct store *self, uint64_t position, void *data, size_t size,
                         size_t *ret_size, struct err_info *info)
{
    enum err err = store_pin(self, NULL, info);

    if (err != ERR_OK) {
        return err;
    }
    err = (size < FORWARD_SIZE_MIN ? io_read : io_read_forward)(
        self->io, self->file.fd, self->path, data, size, position, ret_size, info);
    store_unpin(self);
    return err;
}

enum err store_read(const struct store *self, uint64_t position, void *data, size_t size,
                    struct err_info *info)
{
    size_t done = 0;
    enum err err = store_read_some(self, position, data, size, &done, info);

    if (err == ERR_OK && done < size) {
        (void)err_set(info, ERR_CORRUPT, "the file ends at %" PRIu64, position + done);
        return store_error(self, position, ERR_CORRUPT, info);
    }
    return err;
}

enum err store_rewrite(struct store *self, uint64_t from, uint64_t to, struct err_info *info)
{
    uint8_t *data = malloc(REWRITE_SIZE);
    enum err err;

    ASSERT(from <= to && to <= store_size(self));
    if (data == NULL) {
        return err_set(info, ERR_NOMEM, "write '%s' again: out of memory", self->path);
    }
    err = hold(self, info);
    while (from < to && err == ERR_OK) {
        size_t size = to - from < REWRITE_SIZE ? (size_t)(to - from) : REWRITE_SIZE;
        struct iovec part = {.iov_base = data, .iov_len = size};

        err = store_read(self, from, data, size, info);
        if (err == ERR_OK) {
            err = io_write(self->io, self->file.fd, self->path, &part, 1, from, 0, info);
        }
        from += size;
    }
    free(data);
    return err;
}
