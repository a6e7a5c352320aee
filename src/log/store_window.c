/* Reading a store forward: headers, and bodies of any size, through one window. */
#include <inttypes.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "log/store.h"

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
    err = store_read_some(self->store, position, self->data, wanted, &wanted, info);
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
