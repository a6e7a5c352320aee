#include "archive/store_walk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { WINDOW_SIZE = 256 * 1024 };

enum err store_walk_open(struct store_walk *self, struct io *io, const char *path,
                         struct err_info *info)
{
    uint8_t head[STORE_HEADER_SIZE];
    size_t size = 0;
    enum err err;
    int rv;

    *self = (struct store_walk){.io = io, .fd = -1, .next = STORE_HEADER_SIZE};
    if (strlen(path) >= sizeof self->path) {
        return err_set(info, ERR_TOO_LARGE, "the path is too long");
    }
    memcpy(self->path, path, strlen(path) + 1);
    err = io_open(io, path, O_RDONLY, &self->fd, info);
    if (err != ERR_OK) {
        return err;
    }
    self->window = malloc(WINDOW_SIZE);
    if (self->window == NULL) {
        return err_set(info, ERR_NOMEM, "'%s': out of memory", path);
    }
    rv = io->size(io, self->fd, &self->size);
    if (rv < 0) {
        return io_error(rv, "stat", path, info);
    }
    err = io_read(io, self->fd, path, head, sizeof head, 0, &size, info);
    return err == ERR_OK ? store_header_decode(head, size, path, &self->header, info) : err;
}

void store_walk_close(struct store_walk *self)
{
    ASSERT(self->io != NULL);
    io_close(self->io, &self->fd);
    free(self->window);
    self->window = NULL;
}

/* `size` bytes at position, which are in the file. */
static enum err get(struct store_walk *self, uint64_t position, size_t size,
                    const uint8_t **ret_bytes, struct err_info *info)
{
    enum err err;

    ASSERT(size <= WINDOW_SIZE && position + size <= self->size);
    if (position < self->window_position ||
        position + size > self->window_position + self->window_size) {
        self->window_size = 0;
        self->window_position = position;
        err = io_read(self->io, self->fd, self->path, self->window, WINDOW_SIZE, position,
                      &self->window_size, info);
        if (err != ERR_OK) {
            return err;
        }
        if (self->window_size < size) {
            return err_set(info, ERR_IO, "'%s' became shorter while it was read", self->path);
        }
    }
    *ret_bytes = self->window + (position - self->window_position);
    return ERR_OK;
}

/* Whether nothing but zeros follows, to the end. */
static enum err is_blank(struct store_walk *self, uint64_t position, bool *ret_blank,
                         struct err_info *info)
{
    *ret_blank = false;
    while (position < self->size) {
        uint64_t left = self->size - position;
        size_t size = left < WINDOW_SIZE ? (size_t)left : WINDOW_SIZE;
        const uint8_t *bytes;
        enum err err = get(self, position, size, &bytes, info);

        if (err != ERR_OK) {
            return err;
        }
        for (size_t i = 0; i < size; i++) {
            if (bytes[i] != 0) {
                return ERR_OK;
            }
        }
        position += size;
    }
    *ret_blank = true;
    return ERR_OK;
}

static enum err end_torn(struct store_walk *self, struct err_info *info, const char *how)
{
    self->torn = true;
    return err_set(info, ERR_AGAIN, "%s", how);
}

enum err store_walk_next(struct store_walk *self, struct batch_header *ret_header,
                         struct err_info *info)
{
    uint64_t left;
    struct batch_header header;
    const uint8_t *bytes = NULL;
    enum err err;

    ASSERT(self->next >= STORE_HEADER_SIZE);
    if (self->next >= self->size) {
        return ERR_AGAIN;
    }
    left = self->size - self->next;
    if (left < BATCH_HEADER_SIZE) {
        return end_torn(self, info, "the file ends inside a batch header");
    }
    err = get(self, self->next, BATCH_HEADER_SIZE, &bytes, info);
    if (err != ERR_OK) {
        return err;
    }
    if (bytes[0] == 0) {
        bool blank;

        err = is_blank(self, self->next, &blank, info);
        if (err != ERR_OK || blank) {
            return err != ERR_OK ? err : end_torn(self, info, "zeros up to the end of the file");
        }
        err = get(self, self->next, BATCH_HEADER_SIZE, &bytes, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = batch_header_decode(bytes, STORE_BATCH_SIZE_MAX, &header, info);
    if (err != ERR_OK) {
        return err;
    }
    if (header.size > left) {
        return end_torn(self, info, "the file ends inside a batch");
    }
    memcpy(self->bytes, bytes, sizeof self->bytes);
    self->position = self->next;
    self->next += header.size;
    *ret_header = header;
    return ERR_OK;
}

enum err store_walk_body(struct store_walk *self, const struct batch_header *header,
                         struct buf *body, struct err_info *info)
{
    uint64_t at = self->position + BATCH_HEADER_SIZE;
    uint64_t end = self->position + header->size;
    enum err err = ERR_OK;

    ASSERT(end == self->next && end <= self->size);
    buf_consume(body, body->size);
    while (at < end && err == ERR_OK) {
        size_t size = end - at < WINDOW_SIZE ? (size_t)(end - at) : WINDOW_SIZE;
        const uint8_t *bytes = NULL;

        err = get(self, at, size, &bytes, info);
        if (err == ERR_OK && buf_append(body, bytes, size) != ERR_OK) {
            err = err_set(info, ERR_NOMEM, "'%s': out of memory", self->path);
        }
        at += size;
    }
    return err == ERR_OK ? batch_check_body(header, body->data, info) : err;
}
