/* Looking a segment up: from an offset to batches, and to their bytes. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "log/segment_internal.h"

/* What one read of a look-up brings in: few headers. */
enum { FIND_WINDOW_SIZE = 16 * 1024 };

/* Goes on from the batch found, over all that still fit. */
static enum err extend(const struct segment_query *query, struct store_window *window,
                       struct segment_run *run, struct err_info *info)
{
    uint64_t size = store_size(window->store);

    while (run->size < query->size_max && run->end_offset < query->end_max &&
           run->position + run->size < size) {
        struct batch_header header;
        enum err err = store_window_header(window, run->position + run->size, &header, info);

        if (err != ERR_OK) {
            return err;
        }
        if (header.base_offset != run->end_offset) {
            (void)err_set(info, ERR_CORRUPT, "offset %" PRIu64 " stands where %" PRIu64 " belongs",
                          header.base_offset, run->end_offset);
            return store_error(window->store, run->position + run->size, ERR_CORRUPT, info);
        }
        if (header.size > query->size_max - run->size ||
            batch_end_offset(&header) > query->end_max) {
            break;
        }
        run->size += header.size;
        run->end_offset = batch_end_offset(&header);
    }
    return ERR_OK;
}

/* From the batch that begins at *at on to the one that holds `offset`: *at is where that is. */
static enum err walk(const struct segment *self, struct store_window *window, uint64_t offset,
                     struct index_entry *at, struct batch_header *ret_header, struct err_info *info)
{
    ASSERT(at->position >= STORE_HEADER_SIZE && at->offset <= offset);
    for (;;) {
        struct batch_header header = {0};
        enum err err = store_window_header(window, at->position, &header, info);

        if (err != ERR_OK) {
            return err;
        }
        if (header.base_offset != at->offset) {
            (void)err_set(info, ERR_CORRUPT, "offset %" PRIu64 " stands where %" PRIu64 " belongs",
                          header.base_offset, at->offset);
            return store_error(self->store, at->position, ERR_CORRUPT, info);
        }
        if (batch_end_offset(&header) > offset) {
            *ret_header = header;
            return ERR_OK;
        }
        at->offset = batch_end_offset(&header);
        at->position += header.size;
    }
}

/* A mapped index was verified when it was opened; its page may be read from the disk again later,
 * and be damaged then. */
static bool can_be(const struct segment *self, uint64_t offset, const struct index_entry *entry)
{
    return entry->offset >= self->base_offset && entry->offset <= offset &&
           entry->position >= STORE_HEADER_SIZE && entry->position < store_size(self->store);
}

/* The batch that holds `offset`, from where the index says, or, where that leads nowhere, from the
 * beginning: then the store decides what is damaged. */
static enum err find_batch(const struct segment *self, const struct index *index, uint64_t offset,
                           struct store_window *window, struct index_entry *ret_at,
                           struct batch_header *ret_header, struct err_info *info)
{
    const struct index_entry first = {.offset = self->base_offset, .position = STORE_HEADER_SIZE};
    struct err_info again = {.text = ""};
    struct index_entry at;
    enum err err = ERR_CORRUPT;

    if (index_find(index, offset, &at) && can_be(self, offset, &at)) {
        err = walk(self, window, offset, &at, ret_header, info);
        if (err != ERR_CORRUPT) {
            *ret_at = at;
            return err;
        }
    }
    *ret_at = first;
    err = walk(self, window, offset, ret_at, ret_header, &again);
    if (err != ERR_OK && info != NULL) {
        *info = again;
    }
    return err;
}

/* With the index at hand. */
static enum err find_run(const struct segment *self, const struct index *index,
                         const struct segment_query *query, struct segment_run *ret_run,
                         struct err_info *info)
{
    uint8_t bytes[FIND_WINDOW_SIZE];
    struct store_window window = {.store = self->store, .data = bytes, .capacity = sizeof bytes};
    struct index_entry at;
    struct segment_query inside = *query;
    struct batch_header header = {0};
    uint64_t end;
    enum err err;

    ASSERT(query->offset >= self->base_offset && query->offset < query->end_max);
    err = find_batch(self, index, query->offset, &window, &at, &header, info);
    if (err != ERR_OK) {
        return err;
    }
    end = atomic_load_explicit(&self->end_offset, memory_order_acquire);
    if (batch_end_offset(&header) > end) { /* A seal is believed; what it speaks of was not read. */
        (void)err_set(info, ERR_CORRUPT,
                      "a batch up to offset %" PRIu64 " in a segment up to %" PRIu64,
                      batch_end_offset(&header), end);
        return store_error(self->store, at.position, ERR_CORRUPT, info);
    }
    inside.end_max = inside.end_max < end ? inside.end_max : end;
    *ret_run = (struct segment_run){
        .position = at.position,
        .size = header.size,
        .base_offset = header.base_offset,
        .end_offset = batch_end_offset(&header),
        .first = header,
    };
    return extend(&inside, &window, ret_run, info);
}

enum err segment_find(const struct segment *self, const struct segment_query *query,
                      struct segment_run *ret_run, struct err_info *info)
{
    const struct index *index;
    enum err err = segment_pin(self, &index, info);

    if (err != ERR_OK) {
        return err;
    }
    err = find_run(self, index, query, ret_run, info);
    segment_unpin(self);
    return err;
}

/* Everything in the block was read; is it what the headers promised? */
static enum err verify_run(const struct segment *self, const struct segment_run *run,
                           const uint8_t *data, struct err_info *info)
{
    uint64_t offset = run->base_offset;
    size_t at = 0;

    while (at < run->size) {
        struct batch_header header = {0};
        enum err err = ERR_OK;

        if (run->size - at < BATCH_HEADER_SIZE) {
            err = err_set(info, ERR_CORRUPT, "the bytes changed while they were read");
        } else {
            err = batch_header_decode(data + at, STORE_BATCH_SIZE_MAX, &header, info);
        }
        if (err == ERR_OK && (header.base_offset != offset || header.size > run->size - at)) {
            err = err_set(info, ERR_CORRUPT, "the bytes changed while they were read");
        }
        if (err == ERR_OK) {
            err = batch_check_body(&header, data + at + BATCH_HEADER_SIZE, info);
        }
        if (err != ERR_OK) {
            return store_error(self->store, run->position + at, err, info);
        }
        at += header.size;
        offset = batch_end_offset(&header);
    }
    return ERR_OK;
}

/* How many bytes to read at once for a run that begins with the batch found: all that may be in it,
 * and hardly more. */
static uint64_t run_bound(const struct segment *self, const struct index *index,
                          const struct segment_query *query, const struct segment_run *first)
{
    uint64_t bound = store_size(self->store) - first->position;
    struct index_entry behind;

    ASSERT(first->size <= bound);
    if (bound > query->size_max) {
        bound = query->size_max > first->size ? query->size_max : first->size;
    }
    if (index_find_from(index, query->end_max, &behind) &&
        behind.position - first->position < bound && behind.position > first->position) {
        bound = behind.position - first->position;
    }
    return bound < first->size ? first->size : bound;
}

/* As extend, over `size` bytes that were read: what is cut off there is not looked at. */
static enum err extend_in_memory(const struct segment *self, const struct segment_query *query,
                                 const struct block *block, struct segment_run *run,
                                 struct err_info *info)
{
    uint64_t behind = store_size(self->store) - run->position;

    ASSERT(block->size <= behind);
    while (run->end_offset < query->end_max && block->size - run->size >= BATCH_HEADER_SIZE) {
        struct batch_header header = {0};
        enum err err =
            batch_header_decode(block->data + run->size, STORE_BATCH_SIZE_MAX, &header, info);

        if (err == ERR_OK && header.base_offset != run->end_offset) {
            err = err_set(info, ERR_CORRUPT, "offset %" PRIu64 " stands where %" PRIu64 " belongs",
                          header.base_offset, run->end_offset);
        }
        if (err == ERR_OK && header.size > behind - run->size) {
            err = err_set(info, ERR_CORRUPT, "the file ends inside a batch of %" PRIu32 " bytes",
                          header.size);
        }
        if (err != ERR_OK) {
            return store_error(self->store, run->position + run->size, err, info);
        }
        if (header.size > block->size - run->size || batch_end_offset(&header) > query->end_max) {
            break;
        }
        run->size += header.size;
        run->end_offset = batch_end_offset(&header);
    }
    return ERR_OK;
}

/* Reads the run that begins with the batch found, in one go, and verifies it. */
static enum err read_run(const struct segment *self, const struct index *index,
                         const struct segment_query *query, struct segment_run *run,
                         struct block **ret_batches, struct err_info *info)
{
    /* No more than there is, so nothing is allocated for what a header only says. */
    struct block *block = block_new((size_t)run_bound(self, index, query, run));
    enum err err;

    if (block == NULL) {
        return segment_no_memory(self->store, info);
    }
    err = store_read(self->store, run->position, block->data, block->size, info);
    if (err == ERR_OK) {
        err = extend_in_memory(self, query, block, run, info);
    }
    if (err == ERR_OK) {
        block->size = (size_t)run->size;
        err = verify_run(self, run, block->data, info);
    }
    if (err != ERR_OK) {
        block_unref(block);
        return err;
    }
    *ret_batches = block;
    return ERR_OK;
}

enum err segment_read(const struct segment *self, const struct segment_query *query,
                      struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info)
{
    uint64_t end = atomic_load_explicit(&self->end_offset, memory_order_acquire);
    struct segment_query inside = *query;
    struct segment_run run = {0};
    const struct index *index;
    enum err err = segment_pin(self, &index, info); /* Once, for all that follows. */

    if (err != ERR_OK) {
        return err;
    }
    inside.end_max = query->end_max < end ? query->end_max : end;
    inside.size_max = 0; /* The first one, for now. */
    err = find_run(self, index, &inside, &run, info);
    if (err == ERR_OK) {
        inside.size_max = query->size_max;
        err = read_run(self, index, &inside, &run, ret_batches, info);
    }
    segment_unpin(self);
    if (err == ERR_OK) {
        *ret_end_offset = run.end_offset;
    }
    return err;
}

/* I1: each entry is met by the walk at its offset. */
static void check_entry(const struct index *index, size_t *next, const struct batch_header *header,
                        uint64_t position)
{
    struct index_entry entry;

    if (*next == index_count(index)) {
        return;
    }
    entry = index_get(index, *next);
    ASSERT(entry.position >= position);
    if (entry.position == position) {
        ASSERT(entry.offset == header->base_offset);
        *next += 1;
    }
}

void segment_check(const struct segment *self)
{
    struct store_window window = {.store = self->store, .capacity = SEGMENT_SCAN_SIZE};
    struct batch_header last = {.append_time_us = INT64_MIN};
    uint64_t position = STORE_HEADER_SIZE;
    uint64_t offset = self->base_offset;
    const struct index *index;
    uint64_t file_size = 0;
    size_t next = 0;
    int fd;

    ASSERT(segment_pin(self, &index, NULL) == ERR_OK);
    ASSERT(IMPLIES(!self->sealed, index->map == NULL)); /* I3 */
    ASSERT(store_pin(self->store, &fd, NULL) == ERR_OK);
    ASSERT(self->store->io->size(self->store->io, fd, &file_size) == 0);
    store_unpin(self->store);
    window.data = malloc(window.capacity);
    ASSERT(window.data != NULL);
    while (position < store_size(self->store)) {
        struct batch_header header = {0};

        ASSERT(store_window_header(&window, position, &header, NULL) == ERR_OK);
        ASSERT(store_window_check_body(&window, position, &header, NULL) == ERR_OK);
        ASSERT(header.base_offset == offset); /* I2 */
        ASSERT(header.raft_index >= last.raft_index);
        ASSERT(header.append_time_us >= last.append_time_us);
        check_entry(index, &next, &header, position);
        last = header;
        position += header.size;
        offset = batch_end_offset(&header);
    }
    free(window.data);
    ASSERT(position == store_size(self->store));
    ASSERT(file_size >= position); /* More only behind a write that failed. */
    ASSERT(offset == self->end_offset);
    ASSERT(next == index_count(index));
    ASSERT(IMPLIES(offset > self->base_offset && segment_knows_stamps(self),
                   last.raft_index == self->last_raft_index));
    ASSERT(IMPLIES(offset > self->base_offset, next > 0));
    segment_unpin(self);
}
