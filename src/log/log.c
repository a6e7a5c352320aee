/*
 * The log's everyday: appending, finding, reading.
 *
 * An append: log_append → (log_roll, when the batch does not fit) → segment_append → store_append,
 * one write of header and body → index_add → the new end is published. A read: segment_list_find
 * gives the segment and how far it may be read, then everything happens in that segment, without
 * the log.
 */
#include "log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "log/log_internal.h"

void log_free(struct log *self)
{
    segment_list_fini(&self->list);
    file_cache_unref(self->files);
    free(self->passed);
    free(self->superseded);
    free(self->dir);
    free(self);
}

void log_close(struct log *self)
{
    if (self != NULL) {
        log_free(self);
    }
}

uint64_t log_end(const struct log *self)
{
    return atomic_load_explicit(&self->list.end, memory_order_acquire);
}

uint64_t log_start(const struct log *self)
{
    return atomic_load_explicit(&self->list.start, memory_order_acquire);
}

uint64_t log_size(const struct log *self)
{
    return atomic_load_explicit(&self->size, memory_order_relaxed);
}

unsigned log_segment_count(const struct log *self)
{
    return atomic_load_explicit(&self->segment_count, memory_order_relaxed);
}

bool log_healthy(const struct log *self)
{
    return !atomic_load_explicit(&self->failed, memory_order_acquire);
}

enum err log_fail(struct log *self, enum err err)
{
    ASSERT(err != ERR_OK);
    atomic_store_explicit(&self->failed, true, memory_order_release);
    return err;
}

void log_publish_totals(struct log *self)
{
    uint64_t size = 0;

    for (size_t i = 0; i < self->list.count; i++) {
        size += store_size(self->list.items[i]->store);
    }
    atomic_store_explicit(&self->size, size, memory_order_relaxed);
    atomic_store_explicit(&self->segment_count, (unsigned)self->list.count, memory_order_relaxed);
    atomic_store_explicit(&self->hole_count, (unsigned)segment_list_gaps(&self->list, 0, NULL, 0),
                          memory_order_release);
}

enum err log_sync_dir(struct log *self, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(self->dir_synced <= self->dir_changes);
    if (self->dir_synced < self->dir_changes) {
        err = io_sync_dir(self->config.io, self->dir, info);
    }
    if (err == ERR_OK) {
        self->dir_synced = self->dir_changes;
    }
    return err;
}

enum err log_remove_file(struct log *self, uint64_t base_offset, enum segment_file file,
                         struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = segment_path(path, self->dir, base_offset, file, info);
    int rv;

    if (err != ERR_OK) {
        return err;
    }
    rv = self->config.io->unlink(self->config.io, path);
    if (rv == -ENOENT) {
        return ERR_OK;
    }
    if (rv < 0) {
        return io_error(rv, "remove", path, info);
    }
    self->dir_changes += 1;
    return ERR_OK;
}

enum err log_rename_file(struct log *self, uint64_t base_offset, enum segment_file from,
                         enum segment_file to, struct err_info *info)
{
    char from_path[IO_PATH_SIZE];
    char to_path[IO_PATH_SIZE];
    enum err err = segment_path(from_path, self->dir, base_offset, from, info);
    int rv;

    if (err == ERR_OK) {
        err = segment_path(to_path, self->dir, base_offset, to, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    rv = self->config.io->rename(self->config.io, from_path, to_path);
    if (rv < 0) {
        return io_error(rv, "rename", from_path, info);
    }
    self->dir_changes += 1;
    return ERR_OK;
}

enum err log_open_store(struct log *self, uint64_t base_offset, enum segment_file file,
                        struct store **ret_store, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = segment_path(path, self->dir, base_offset, file, info);

    const struct store_options options = {
        .io = self->config.io,
        .files = self->config.files,
        .path = path,
        .base_offset = base_offset,
    };

    return err == ERR_OK ? store_open_with(&options, ret_store, info) : err;
}

enum err log_remove_segment(struct log *self, uint64_t base_offset, bool filling,
                            struct err_info *info)
{
    enum err err;

    if (filling) {
        return log_remove_file(self, base_offset, SEGMENT_FILLING, info);
    }
    err = log_remove_file(self, base_offset, SEGMENT_STORE, info);
    return err == ERR_OK ? log_remove_file(self, base_offset, SEGMENT_INDEX, info) : err;
}

enum err log_roll(struct log *self, struct err_info *info)
{
    struct segment *active = segment_list_last(&self->list);
    struct segment_origin origin = {
        .base_offset = active->end_offset,
        .generation = self->generation,
        .before = active,
    };
    struct segment *sealed = NULL;
    struct segment *next = NULL;
    enum err err;

    ASSERT(active->end_offset > active->base_offset);
    ASSERT(active->end_offset == log_end(self));
    err = segment_list_reserve(&self->list);
    if (err == ERR_OK) {
        err = segment_seal(&self->config, active, &sealed, info);
    }
    if (err == ERR_OK) {
        err = segment_create(&self->config, &origin, &next, info);
    }
    if (err != ERR_OK) {
        segment_unref(sealed);
        return err;
    }
    self->dir_changes += 2;
    store_write_back(sealed->store, 1);
    segment_list_replace_last(&self->list, sealed);
    segment_list_push(&self->list, next); /* I3 */
    /* Not all of it again: a log may have thousands of segments. */
    atomic_fetch_add_explicit(&self->size, store_size(next->store), memory_order_relaxed);
    atomic_fetch_add_explicit(&self->segment_count, 1, memory_order_relaxed);
    return ERR_OK;
}

/* Whether the active segment has taken batches for as long as it may, at `now_us`. */
static bool is_old(const struct log *self, const struct segment *active, int64_t now_us)
{
    int64_t first_us = active->first_append_time_us;

    ASSERT(!active->sealed);
    return self->segment_us > 0 && active->end_offset > active->base_offset && now_us > first_us &&
           (uint64_t)now_us - (uint64_t)first_us >= self->segment_us;
}

/* Whether a batch of `size` bytes needs a new segment. */
static bool must_roll(const struct log *self, const struct segment *active, uint64_t size,
                      int64_t now_us)
{
    return active->end_offset > active->base_offset &&
           (store_size(active->store) + size > self->config.size_max ||
            is_old(self, active, now_us));
}

void log_configure(struct log *self, const struct log_tuning *tuning)
{
    uint64_t size_max = tuning->segment_size_max;

    ASSERT(size_max == 0 || size_max >= LOG_SEGMENT_SIZE_MIN);
    ASSERT(size_max <= LOG_SEGMENT_SIZE_LIMIT);
    self->config.size_max = size_max == 0 ? self->size_max_opened : size_max;
    self->segment_us = tuning->segment_ms > UINT64_MAX / 1000 ? 0 : tuning->segment_ms * 1000;
    self->preallocate = tuning->preallocate;
}

enum err log_tick(struct log *self, int64_t now_us, struct err_info *info)
{
    const struct segment *active = segment_list_last(&self->list);
    enum err err = log_check_healthy(self, info);

    if (err == ERR_OK && is_old(self, active, now_us)) {
        err = log_roll(self, info);
        err = err == ERR_OK ? ERR_OK : log_fail(self, err);
    }
    return err;
}

/* Appends a batch, checked by the caller, of which `parts` are the bytes. */
static enum err append(struct log *self, const struct batch_header *header,
                       const struct iovec *parts, int count, struct err_info *info)
{
    struct segment *active = segment_list_last(&self->list);
    enum err err = ERR_OK;

    ASSERT(header->base_offset == log_end(self));
    if (must_roll(self, active, header->size, header->append_time_us)) {
        err = log_roll(self, info);
        active = segment_list_last(&self->list);
    }
    if (err == ERR_OK && self->preallocate && !active->reserved) {
        active->reserved = true;
        store_reserve(active->store, self->config.size_max);
    }
    if (err == ERR_OK) {
        err = segment_append(active, header, parts, count, info);
    }
    if (err != ERR_OK) {
        return log_fail(self, err);
    }
    atomic_fetch_add_explicit(&self->size, header->size, memory_order_relaxed);
    segment_list_set_end(&self->list, active->end_offset); /* I5 */
    store_write_back(active->store, self->write_back_size);
    return ERR_OK;
}

enum err log_check_healthy(const struct log *self, struct err_info *info)
{
    if (!log_healthy(self)) {
        return err_set(info, ERR_FAILED, "the log in '%s' failed earlier", self->dir);
    }
    return ERR_OK;
}

enum err log_append(struct log *self, const struct batch_header *header, const void *body,
                    struct err_info *info)
{
    const struct segment *active = segment_list_last(&self->list);
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct iovec parts[2] = {
        {.iov_base = bytes, .iov_len = sizeof bytes},
        {.iov_base = (void *)body, .iov_len = header->size - BATCH_HEADER_SIZE},
    };
    enum err err = log_check_healthy(self, info);

    if (err != ERR_OK) {
        return err;
    }
    ASSERT(header->size > BATCH_HEADER_SIZE && header->record_count > 0);
    ASSERT(header->base_offset == log_end(self)); /* I1 */
    ASSERT(header->base_offset <= UINT64_MAX - header->record_count);
    ASSERT(header->raft_index >= active->last_raft_index); /* I2 */
    ASSERT(header->append_time_us >= active->last_append_time_us);
    if (header->size > self->batch_size_max) {
        return err_set(info, ERR_TOO_LARGE,
                       "a batch of %" PRIu32 " bytes is over the limit of %" PRIu32, header->size,
                       self->batch_size_max);
    }
    batch_header_encode(header, bytes);
    return append(self, header, parts, 2, info);
}

enum err log_check_batch(const struct log *self, const uint8_t *data, size_t size,
                         struct batch_header *ret_header, struct err_info *info)
{
    enum err err;

    if (size <= BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are too few for a batch", size);
    }
    err = batch_header_decode(data, STORE_BATCH_SIZE_MAX, ret_header, info);
    if (err != ERR_OK) {
        return err;
    }
    if (ret_header->size > size) {
        return err_set(info, ERR_CORRUPT, "of a batch of %" PRIu32 " bytes only %zu came",
                       ret_header->size, size);
    }
    if (ret_header->size > self->batch_size_max) {
        return err_set(info, ERR_TOO_LARGE,
                       "a batch of %" PRIu32 " bytes is over the limit of %" PRIu32,
                       ret_header->size, self->batch_size_max);
    }
    return batch_check_body(ret_header, data + BATCH_HEADER_SIZE, info);
}

/* Is what begins at data a batch that may come next? */
static enum err check_raw(const struct log *self, const uint8_t *data, size_t size,
                          struct batch_header *ret_header, struct err_info *info)
{
    const struct segment *active = segment_list_last(&self->list);
    enum err err = log_check_batch(self, data, size, ret_header, info);

    if (err != ERR_OK) {
        return err;
    }
    if (ret_header->base_offset != log_end(self)) {
        return err_set(info, ERR_CORRUPT, "offset %" PRIu64 " came where %" PRIu64 " belongs",
                       ret_header->base_offset, log_end(self));
    }
    if (ret_header->raft_index < active->last_raft_index ||
        ret_header->append_time_us < active->last_append_time_us) {
        return err_set(info, ERR_CORRUPT, "raft index or append time go down at offset %" PRIu64,
                       ret_header->base_offset);
    }
    return ERR_OK;
}

enum err log_append_raw(struct log *self, const uint8_t *batches, size_t size,
                        struct err_info *info)
{
    size_t done = 0;
    enum err err = log_check_healthy(self, info);

    while (err == ERR_OK && done < size) {
        struct batch_header header = {0};

        err = check_raw(self, batches + done, size - done, &header, info);
        if (err == ERR_OK) {
            struct iovec part = {
                .iov_base = (void *)(batches + done),
                .iov_len = header.size,
            };

            err = append(self, &header, &part, 1, info);
            done += header.size;
        }
    }
    ASSERT(err != ERR_OK || done == size);
    return err;
}

enum err log_read_header(struct log *self, uint64_t offset, struct batch_header *ret_header,
                         struct err_info *info)
{
    struct segment_query query = {.offset = offset};
    struct segment *segment;
    struct segment_run run;
    enum err err;

    err = segment_list_find(&self->list, offset, UINT64_MAX, &segment, &query.end_max, info);
    if (err == ERR_HOLE) {
        return err;
    }
    if (err != ERR_OK) {
        /* The end holds no batch. */
        return err_set(info, ERR_RANGE, "no batch holds offset %" PRIu64, offset);
    }
    err = segment_find(segment, &query, &run, info);
    segment_unref(segment);
    if (err == ERR_OK) {
        *ret_header = run.first;
    }
    return err;
}

enum err log_find(struct log *self, uint64_t offset, uint64_t end_max, size_t size_max,
                  struct log_chunk *ret_chunk, struct err_info *info)
{
    struct segment_query query = {.offset = offset, .size_max = size_max};
    struct segment *segment;
    struct segment_run run;
    enum err err;
    int fd;

    err = segment_list_find(&self->list, offset, end_max, &segment, &query.end_max, info);
    if (err != ERR_OK) {
        return err;
    }
    err = store_pin(segment->store, &fd, info);
    if (err == ERR_OK) {
        err = segment_find(segment, &query, &run, info);
        if (err != ERR_OK) {
            store_unpin(segment->store);
        }
    }
    if (err != ERR_OK) {
        segment_unref(segment);
        return err;
    }
    ASSERT(run.base_offset <= offset && run.end_offset > offset);
    *ret_chunk = (struct log_chunk){
        .segment = segment,
        .fd = fd,
        .position = run.position,
        .size = run.size,
        .base_offset = run.base_offset,
        .end_offset = run.end_offset,
    };
    return ERR_OK;
}

void log_chunk_release(struct log_chunk *chunk)
{
    store_unpin(chunk->segment->store);
    segment_unref(chunk->segment);
    *chunk = (struct log_chunk){.fd = -1};
}

enum err log_read(struct log *self, uint64_t offset, uint64_t end_max, size_t size_max,
                  struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info)
{
    struct segment_query query = {.offset = offset, .size_max = size_max};
    struct segment *segment;
    enum err err;

    err = segment_list_find(&self->list, offset, end_max, &segment, &query.end_max, info);
    if (err != ERR_OK) {
        return err;
    }
    err = segment_read(segment, &query, ret_batches, ret_end_offset, info);
    segment_unref(segment);
    return err;
}
