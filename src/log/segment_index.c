/*
 * The index of a sealed segment: opened by whoever needs it, verified then, pinned while it is
 * used; made again from the store where it is missing or wrong.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "log/segment_internal.h"

/* What the cache calls. */
void segment_close_index(void *context, int fd, void *object)
{
    (void)context;
    (void)fd;
    index_free(object);
}

struct index_header segment_index_header(const struct store *store)
{
    return (struct index_header){
        .base_offset = store->base_offset,
        .generation = store->generation,
        .rewrites = store->rewrites,
    };
}

/* Does the seal speak of this store as it is now? */
enum err segment_check_seal(struct store *store, const struct index_seal *seal,
                            struct err_info *info)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct store_window window = {.store = store, .data = bytes, .capacity = sizeof bytes};
    struct batch_header last;
    enum err err;

    if (seal->store_size != store_size(store)) {
        return err_set(info, ERR_CORRUPT, "the index of '%s' is stale", store->path);
    }
    if (seal->last_position == 0) {
        return seal->store_size == STORE_HEADER_SIZE && seal->end_offset == store->base_offset
                   ? ERR_OK
                   : err_set(info, ERR_CORRUPT, "the index of '%s' is stale", store->path);
    }
    if (seal->last_position < STORE_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "the index of '%s' is stale", store->path);
    }
    err = store_window_header(&window, seal->last_position, &last, info);
    if (err != ERR_OK) {
        return err;
    }
    if (bytes_get_u32(bytes + BATCH_AT_CRC) != seal->last_header_crc ||
        seal->last_position + last.size != seal->store_size ||
        batch_end_offset(&last) != seal->end_offset || last.raft_index != seal->last_raft_index ||
        last.append_time_us != seal->last_append_time_us) {
        return err_set(info, ERR_CORRUPT, "the index of '%s' is stale", store->path);
    }
    return ERR_OK;
}

/* The index of a sealed segment, new and whole, becomes what readers pin: kept open as long as
 * there is room for it, or for good where there is no cache. */
void segment_give_index(struct segment *self, struct index *index)
{
    struct file_cache *files = self->store->files;
    struct file_cache_item opened = {.kind = FILE_CACHE_MAP, .fd = -1, .object = index};
    enum file_cache_outcome outcome;
    bool taken;

    ASSERT(self->sealed && index->map != NULL);
    if (files == NULL) {
        self->index = index;
        return;
    }
    self->index = NULL;
    opened.size = index->map_size;
    outcome = file_cache_acquire_always(files, &self->indexed);
    ASSERT(outcome == FILE_CACHE_MISS);
    outcome = file_cache_install(files, &self->indexed, &opened, &taken);
    ASSERT(outcome == FILE_CACHE_HIT && taken);
    file_cache_release(files, &self->indexed);
}

/* The path of its index: that of a sealed segment's store ends in ".store". */
static void put_index_path(const struct segment *self, char buffer[IO_PATH_SIZE])
{
    size_t size = strlen(self->store->path);
    size_t suffix = strlen(".store");

    ASSERT(size > suffix && size < IO_PATH_SIZE);
    ASSERT(strcmp(self->store->path + size - suffix, ".store") == 0);
    memcpy(buffer, self->store->path, size - suffix);
    /* ".index" is as long as ".store". */
    memcpy(buffer + size - suffix, ".index", suffix + 1);
}

/* An index from the headers of the store, as far as they make sense; what lies behind is looked for
 * from the last entry on, and found to be damaged there. */
static enum err index_from_headers(const struct segment *self, struct index **ret_index,
                                   struct err_info *info)
{
    uint64_t size = store_size(self->store);
    struct store_window window = {.store = self->store, .capacity = SEGMENT_SCAN_SIZE};
    struct index *index = index_new(self->store->io, size, self->index_interval);
    uint64_t position = STORE_HEADER_SIZE;
    uint64_t offset = self->base_offset;
    enum err err = ERR_OK;

    window.data = malloc(window.capacity);
    if (index == NULL || window.data == NULL) {
        index_free(index);
        free(window.data);
        return segment_no_memory(self->store, info);
    }
    while (position < size) {
        struct batch_header header = {0};

        err = store_window_header(&window, position, &header, info);
        if (err != ERR_OK || header.base_offset != offset) {
            break;
        }
        index_add(index, offset, position);
        position += header.size;
        offset = batch_end_offset(&header);
    }
    free(window.data);
    if (err != ERR_OK && err != ERR_CORRUPT) { /* That may be another time. */
        index_free(index);
        return err;
    }
    *ret_index = index;
    return ERR_OK;
}

/* Opens the index of a sealed segment, whose store is pinned. What is wrong with it is no error,
 * but told in *ret_stale. */
static enum err open_index(const struct segment *self, struct index **ret_index, bool *ret_stale,
                           struct err_info *info)
{
    const struct index_header header = segment_index_header(self->store);
    char path[IO_PATH_SIZE];
    struct index *index = NULL;
    struct index_seal seal = {0};
    enum err err;

    put_index_path(self, path);
    err = index_open(self->store->io, path, &header, &index, &seal, info);
    if (err == ERR_OK) {
        err = segment_check_seal(self->store, &seal, info);
        if (err == ERR_OK &&
            (seal.end_offset != self->end_offset || seal.last_raft_index != self->last_raft_index ||
             seal.last_append_time_us != self->last_append_time_us)) {
            err = ERR_CORRUPT;
        }
        if (err != ERR_OK) {
            index_free(index);
        }
    }
    *ret_stale = err != ERR_OK;
    if (err == ERR_OK) {
        *ret_index = index;
        return ERR_OK;
    }
    /* It is derived data, whatever is wrong with it. */
    return err == ERR_NOMEM || err == ERR_LIMIT ? err : index_from_headers(self, ret_index, info);
}

/* After a MISS. */
static enum err install_index(struct segment *self, struct err_info *info)
{
    struct file_cache *files = self->store->files;
    struct file_cache_item opened = {.kind = FILE_CACHE_MAP, .fd = -1};
    struct index *index = NULL;
    enum file_cache_outcome outcome;
    bool stale;
    bool taken;
    enum err err = open_index(self, &index, &stale, info);

    if (err != ERR_OK) {
        outcome = file_cache_abandon(files, &self->indexed);
        return outcome == FILE_CACHE_HIT ? ERR_OK : err;
    }
    opened.object = index;
    opened.size = index->map != NULL ? index->map_size : index_count(index) * INDEX_ENTRY_SIZE;
    outcome = file_cache_install(files, &self->indexed, &opened, &taken);
    ASSERT(outcome == FILE_CACHE_HIT); /* An index does not go: what is not there is made again. */
    if (!taken) {
        index_free(index);
    }
    return ERR_OK;
}

enum err segment_pin_index(const struct segment *self, const struct index **ret_index,
                           struct err_info *info)
{
    /* What is guarded by the cache's lock changes; the segment does not. */
    struct segment *changing = (struct segment *)(uintptr_t)self;
    enum file_cache_outcome outcome;
    enum err err = ERR_OK;

    if (self->index != NULL) {
        *ret_index = self->index;
        return ERR_OK;
    }
    ASSERT(self->sealed);
    outcome = file_cache_acquire(self->store->files, &changing->indexed);
    if (outcome == FILE_CACHE_MISS) {
        err = install_index(changing, info);
    }
    if (err == ERR_OK) {
        *ret_index = self->indexed.object;
    }
    return err;
}

void segment_unpin_index(const struct segment *self)
{
    if (self->index == NULL) {
        file_cache_release(self->store->files, &((struct segment *)(uintptr_t)self)->indexed);
    }
}

enum err segment_pin(const struct segment *self, const struct index **ret_index,
                     struct err_info *info)
{
    const struct index *index = NULL;
    enum err err = store_pin(self->store, NULL, info);

    if (err != ERR_OK) {
        return err;
    }
    err = segment_pin_index(self, &index, info);
    if (err != ERR_OK) {
        store_unpin(self->store);
        return err;
    }
    if (ret_index != NULL) {
        *ret_index = index;
    }
    return ERR_OK;
}

void segment_unpin(const struct segment *self)
{
    segment_unpin_index(self);
    store_unpin(self->store);
}

void segment_trust(struct segment *self)
{
    struct index *index = NULL;
    bool stale = true;

    if (!self->seal_only) {
        return;
    }
    ASSERT(self->sealed);
    if (store_pin(self->store, NULL, NULL) == ERR_OK) {
        if (open_index(self, &index, &stale, NULL) == ERR_OK) {
            index_free(index);
        }
        store_unpin(self->store);
    }
    if (stale) {
        self->last_raft_index = 0;
        self->last_append_time_us = INT64_MIN;
    }
    self->seal_only = false;
}

void segment_retire(struct segment *self, bool listed)
{
    unsigned refs = atomic_load_explicit(&self->refs, memory_order_acquire);
    unsigned store_refs = atomic_load_explicit(&self->store->refs, memory_order_acquire);

    store_retire(self->store, listed || refs > 1 || store_refs > 1);
}

void segment_close_index_fd(const struct segment *self, int *fd)
{
    if (*fd >= 0) {
        io_close(self->store->io, fd);
        if (self->store->files != NULL) {
            file_cache_count(self->store->files, -1);
        }
    }
}

enum err segment_no_memory(const struct store *store, struct err_info *info)
{
    return err_set(info, ERR_NOMEM, "'%s': out of memory", store->path);
}
