#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 256 };

void buf_init(struct buf *self, size_t size_max)
{
    ASSERT(size_max > 0);
    *self = (struct buf){.size_max = size_max};
}

void buf_fini(struct buf *self)
{
    free(self->data);
    *self = (struct buf){.size_max = self->size_max};
}

enum err buf_reserve(struct buf *self, size_t size)
{
    size_t capacity = self->capacity;
    uint8_t *data;

    ASSERT(self->size <= self->capacity && self->capacity <= self->size_max);
    if (size > self->size_max - self->size) {
        return ERR_TOO_LARGE;
    }
    if (size <= self->capacity - self->size) {
        return ERR_OK;
    }
    capacity = capacity > self->size_max / 2 ? self->size_max : capacity * 2;
    capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
    capacity = capacity < self->size + size ? self->size + size : capacity;
    capacity = capacity > self->size_max ? self->size_max : capacity;
    if (capacity == SIZE_MAX) {
        return ERR_NOMEM;
    }
    data = realloc(self->data, capacity + 1); /* One more, for the zero that vsnprintf writes. */
    if (data == NULL) {
        return ERR_NOMEM;
    }
    self->data = data;
    self->capacity = capacity;
    return ERR_OK;
}

enum err buf_append(struct buf *self, const void *data, size_t size)
{
    enum err err = buf_reserve(self, size);

    if (err == ERR_OK && size > 0) {
        memcpy(self->data + self->size, data, size);
        self->size += size;
    }
    return err;
}

enum err buf_printf(struct buf *self, const char *format, ...)
{
    va_list args;
    enum err err;
    int size;

    va_start(args, format);
    size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(size >= 0); /* Only a wrong format string fails. */
    err = buf_reserve(self, (size_t)size);
    if (err != ERR_OK || size == 0) {
        return err;
    }
    va_start(args, format);
    (void)vsnprintf((char *)self->data + self->size, (size_t)size + 1, format, args); /* fits */
    va_end(args);
    self->size += (size_t)size;
    return ERR_OK;
}

void buf_consume(struct buf *self, size_t size)
{
    ASSERT(size <= self->size);
    self->size -= size;
    if (self->size > 0) {
        memmove(self->data, self->data + size, self->size);
    }
}
