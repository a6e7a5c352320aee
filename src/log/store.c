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

    AT_MAGIC = 0,
    AT_CRC = 4,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_BASE_OFFSET = 16,
    AT_GENERATION = 24,

    COPY_SIZE = 256 * 1024,
};

_Static_assert(AT_GENERATION + 8 == STORE_HEADER_SIZE, "the generation ends the header");

/* Memory only; fd is -1. */
static struct store *store_new(struct io *io, const char *path, uint64_t base_offset)
{
    size_t path_size = strlen(path) + 1;
    struct store *self = malloc(sizeof *self + path_size);

    ASSERT(path_size <= IO_PATH_SIZE);
    if (self == NULL) {
        return NULL;
    }
    self->io = io;
    atomic_init(&self->refs, 1);
    self->fd = -1;
    self->base_offset = base_offset;
    self->generation = 0;
    atomic_init(&self->size, 0);
    self->synced_size = 0;
    self->write_back_from = 0;
    memcpy(self->path, path, path_size);
    return self;
}

static void put_temporary_path(const struct store *self, char buffer[IO_PATH_SIZE + 4])
{
    int size = snprintf(buffer, IO_PATH_SIZE + 4, "%s.tmp", self->path);

    ASSERT(size > 0 && size < IO_PATH_SIZE + 4); /* path was checked when it was made */
}

/* Opens the file of a new store, under its own or the temporary name, empty. */
static enum err create_file(struct store *self, bool temporary, struct err_info *info)
{
    char path[IO_PATH_SIZE + 4];

    ASSERT(self->fd < 0);
    if (!temporary) {
        return io_open(self->io, self->path, O_RDWR | O_CREAT | O_EXCL, &self->fd, info);
    }
    put_temporary_path(self, path);
    return io_open(self->io, path, O_RDWR | O_CREAT | O_TRUNC, &self->fd, info);
}

enum err store_create(const struct store_options *options, struct store **ret_store,
                      struct err_info *info)
{
    struct store *self = store_new(options->io, options->path, options->base_offset);
    uint8_t header[STORE_HEADER_SIZE];
    struct iovec part = {.iov_base = header, .iov_len = sizeof header};
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "create '%s': out of memory", options->path);
    }
    self->generation = options->generation;
    bytes_put_u32(header + AT_MAGIC, STORE_MAGIC);
    bytes_put_u32(header + AT_VERSION, STORE_VERSION);
    bytes_put_u32(header + AT_FLAGS, 0);
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
        (bytes_get_u32(from + AT_FLAGS) & ~(uint32_t)STORE_FLAGS_KNOWN) != 0) {
        return err_set(info, ERR_VERSION,
                       "'%s' has format version %" PRIu32 ", flags 0x%" PRIx32
                       ", made by a newer program",
                       path, bytes_get_u32(from + AT_VERSION), bytes_get_u32(from + AT_FLAGS));
    }
    *ret_header = (struct store_header){
        .base_offset = bytes_get_u64(from + AT_BASE_OFFSET),
        .generation = bytes_get_u64(from + AT_GENERATION),
    };
    return ERR_OK;
}

static enum err check_header(struct store *self, const uint8_t *bytes, size_t size,
                             struct err_info *info)
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
    self->generation = header.generation;
    return ERR_OK;
}

enum err store_open(struct io *io, const char *path, uint64_t base_offset, struct store **ret_store,
                    struct err_info *info)
{
    struct store *self = store_new(io, path, base_offset);
    uint8_t header[STORE_HEADER_SIZE];
    uint64_t size = 0;
    size_t done;
    enum err err;
    int rv;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "open '%s': out of memory", path);
    }
    err = io_open(io, path, O_RDWR, &self->fd, info);
    if (err != ERR_OK) {
        goto err;
    }
    rv = io->size(io, self->fd, &size);
    if (rv < 0) {
        err = io_error(rv, "stat", path, info);
        goto err;
    }
    err = io_read(io, self->fd, path, header, sizeof header, 0, &done, info);
    if (err == ERR_OK) {
        err = check_header(self, header, done, info);
    }
    if (err != ERR_OK) {
        goto err;
    }
    ASSERT(size >= STORE_HEADER_SIZE);
    atomic_store_explicit(&self->size, size, memory_order_release);
    self->write_back_from = size;
    *ret_store = self;
    return ERR_OK;

err:
    store_unref(self);
    return err;
}

enum err store_commit(struct store *self, struct err_info *info)
{
    char temporary[IO_PATH_SIZE + 4];
    int rv;

    ASSERT(self->fd >= 0);
    put_temporary_path(self, temporary);
    rv = self->io->rename(self->io, temporary, self->path);
    return rv < 0 ? io_error(rv, "rename to", self->path, info) : ERR_OK;
}

enum err store_copy(const struct store *self, const char *path, uint64_t size,
                    struct store **ret_store, struct err_info *info)
{
    struct store *copy = store_new(self->io, path, self->base_offset);
    uint8_t *data = malloc(COPY_SIZE);
    uint64_t done = 0;
    enum err err;

    ASSERT(size >= STORE_HEADER_SIZE && size <= store_size(self));
    if (copy == NULL || data == NULL) {
        err = err_set(info, ERR_NOMEM, "copy '%s': out of memory", self->path);
        goto out;
    }
    copy->generation = self->generation;
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
        copy->synced_size = size;
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
    if (before == 1) {
        io_close(self->io, &self->fd);
        free(self);
    }
}

enum err store_append(struct store *self, const struct iovec *parts, int count, size_t size,
                      struct err_info *info)
{
    uint64_t position = store_size(self);
    enum err err;

    ASSERT(self->fd >= 0);
    ASSERT(size > 0);
    err = io_write(self->io, self->fd, self->path, parts, count, position, 0, info);
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
    /* Only a hint: an error of the disk is told by the sync that follows. */
    (void)self->io->write_back(self->io, self->fd, self->write_back_from,
                               size - self->write_back_from);
    self->write_back_from = size;
}

enum err store_truncate(struct store *self, uint64_t size, struct err_info *info)
{
    enum err err;
    int rv;

    ASSERT(size >= STORE_HEADER_SIZE && size <= store_size(self));
    atomic_store_explicit(&self->size, size, memory_order_release);
    rv = self->io->truncate(self->io, self->fd, size);
    if (rv < 0) {
        return io_error(rv, "truncate", self->path, info);
    }
    /* Before anything is written there again: after a crash, old and new batches must not lie side
     * by side, each of them valid. */
    err = store_sync(self, info);
    if (err == ERR_OK) {
        self->synced_size = size;
        self->write_back_from = size;
    }
    return err;
}

enum err store_sync(const struct store *self, struct err_info *info)
{
    ASSERT(self->fd >= 0);
    return io_sync(self->io, self->fd, self->path, info);
}

enum err store_error(const struct store *self, uint64_t position, enum err err,
                     struct err_info *info)
{
    ASSERT(err != ERR_OK);
    (void)err_prefix(info, err, "'%s' at position %" PRIu64, self->path, position);
    return err;
}

enum err store_read(const struct store *self, uint64_t position, void *data, size_t size,
                    struct err_info *info)
{
    size_t done;
    enum err err = io_read(self->io, self->fd, self->path, data, size, position, &done, info);

    if (err == ERR_OK && done < size) {
        (void)err_set(info, ERR_CORRUPT, "the file ends at %" PRIu64, position + done);
        return store_error(self, position, ERR_CORRUPT, info);
    }
    return err;
}

enum err store_rewrite(struct store *self, uint64_t from, uint64_t to, struct err_info *info)
{
    uint8_t *data = malloc(REWRITE_SIZE);
    enum err err = ERR_OK;

    ASSERT(from <= to && to <= store_size(self));
    if (data == NULL) {
        return err_set(info, ERR_NOMEM, "write '%s' again: out of memory", self->path);
    }
    while (from < to && err == ERR_OK) {
        size_t size = to - from < REWRITE_SIZE ? (size_t)(to - from) : REWRITE_SIZE;
        struct iovec part = {.iov_base = data, .iov_len = size};

        err = store_read(self, from, data, size, info);
        if (err == ERR_OK) {
            err = io_write(self->io, self->fd, self->path, &part, 1, from, 0, info);
        }
        from += size;
    }
    free(data);
    return err;
}

/* Makes the window hold [position, position + size). */
static enum err window_fill(struct store_window *self, uint64_t position, size_t size,
                            struct err_info *info)
{
    uint64_t end = store_size(self->store);
    size_t wanted;
    enum err err;

    ASSERT(size <= self->capacity);
    ASSERT(position + size <= end);
    if (position >= self->position && position + size <= self->position + self->size) {
        return ERR_OK;
    }
    wanted = end - position < self->capacity ? (size_t)(end - position) : self->capacity;
    self->size = 0;
    err = io_read(self->store->io, self->store->fd, self->store->path, self->data, wanted, position,
                  &wanted, info);
    if (err != ERR_OK) {
        return err;
    }
    if (wanted < size) {
        (void)err_set(info, ERR_CORRUPT, "the file ends at %" PRIu64, position + wanted);
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    self->position = position;
    self->size = wanted;
    return ERR_OK;
}

enum err store_window_header(struct store_window *self, uint64_t position,
                             struct batch_header *ret_header, struct err_info *info)
{
    uint64_t end = store_size(self->store);
    struct batch_header header;
    enum err err;

    ASSERT(self->capacity >= BATCH_HEADER_SIZE);
    ASSERT(position >= STORE_HEADER_SIZE);
    if (position >= end || end - position < BATCH_HEADER_SIZE) {
        (void)err_set(info, ERR_CORRUPT, "the file ends inside a batch header");
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    err = window_fill(self, position, BATCH_HEADER_SIZE, info);
    if (err != ERR_OK) {
        return err;
    }
    err = batch_header_decode(self->data + (position - self->position), STORE_BATCH_SIZE_MAX,
                              &header, info);
    if (err == ERR_OK && header.size > end - position) {
        err = err_set(info, ERR_CORRUPT, "the file ends inside a batch of %" PRIu32 " bytes",
                      header.size);
    }
    if (err != ERR_OK) {
        return store_error(self->store, position, err, info);
    }
    *ret_header = header;
    return ERR_OK;
}

enum err store_window_check_body(struct store_window *self, uint64_t position,
                                 const struct batch_header *header, struct err_info *info)
{
    uint64_t at = position + BATCH_HEADER_SIZE;
    uint64_t end = position + header->size;
    uint32_t crc = 0;

    ASSERT(header->size > BATCH_HEADER_SIZE);
    ASSERT(end <= store_size(self->store));
    while (at < end) {
        uint64_t window_end = self->position + self->size;
        bool inside = at >= self->position && at < window_end;
        size_t size;

        if (!inside) {
            enum err err = window_fill(self, at, 1, info);

            if (err != ERR_OK) {
                return err;
            }
            window_end = self->position + self->size;
        }
        size = (size_t)((window_end < end ? window_end : end) - at);
        crc = crc32c_extend(crc, self->data + (at - self->position), size);
        at += size;
    }
    if (crc != header->body_crc32c) {
        (void)err_set(info, ERR_CORRUPT,
                      "the body of the batch at offset %" PRIu64 " does not match its checksum",
                      header->base_offset);
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    return ERR_OK;
}
