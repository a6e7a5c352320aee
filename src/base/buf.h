/*
 * A growable byte buffer with an upper bound.
 *
 *      data              data+size            data+capacity
 *      +--------------------+----------------------+
 *      |  bytes written     |  room                |
 *      +--------------------+----------------------+
 *
 * Invariants: size <= capacity <= size_max; data is NULL only while capacity is 0; one byte more
 * than capacity is allocated.
 */
#ifndef QUORLOG_BASE_BUF_H
#define QUORLOG_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
    uint8_t *data; /* owned */
    size_t size;
    size_t capacity;
    size_t size_max; /* bytes; appending past it is ERR_TOO_LARGE */
};

/* An empty buffer that may grow to size_max bytes. Allocates nothing yet. */
void buf_init(struct buf *self, size_t size_max);

/* Frees the bytes and leaves an empty buffer with the same bound. */
void buf_fini(struct buf *self);

/* Makes room for `size` more bytes. ERR_TOO_LARGE past the bound, ERR_NOMEM; nothing changed then.
 */
enum err buf_reserve(struct buf *self, size_t size);

/* Appends a copy of data. Errors of buf_reserve. */
enum err buf_append(struct buf *self, const void *data, size_t size);

/* Appends text as printf does, without the closing zero. Errors of buf_reserve. */
enum err buf_printf(struct buf *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Drops the first `size` bytes; size <= self->size. */
void buf_consume(struct buf *self, size_t size);

#endif
