#include "fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

enum { BYTES_MAX = 1 << 20 };

/* ---- taken ---- */

static void take(struct fuzz_input *self, void *to, size_t size)
{
    size_t there = size < self->size ? size : self->size;

    memset(to, 0, size);
    if (there > 0) {
        memcpy(to, self->data, there);
        self->data += there;
        self->size -= there;
    }
}

uint8_t fuzz_u8(struct fuzz_input *self)
{
    uint8_t value;

    take(self, &value, sizeof value);
    return value;
}

uint16_t fuzz_u16(struct fuzz_input *self)
{
    uint8_t bytes[2];

    take(self, bytes, sizeof bytes);
    return bytes_get_u16(bytes);
}

uint32_t fuzz_u32(struct fuzz_input *self)
{
    uint8_t bytes[4];

    take(self, bytes, sizeof bytes);
    return bytes_get_u32(bytes);
}

uint64_t fuzz_u64(struct fuzz_input *self)
{
    uint8_t bytes[8];

    take(self, bytes, sizeof bytes);
    return bytes_get_u64(bytes);
}

struct fuzz_input fuzz_part(struct fuzz_input *self)
{
    size_t size = fuzz_u16(self);
    struct fuzz_input part = {.data = self->data, .size = size < self->size ? size : self->size};

    if (part.size > 0) {
        self->data += part.size;
        self->size -= part.size;
    }
    return part;
}

uint8_t *fuzz_copy(const struct fuzz_input *self)
{
    uint8_t *copy = malloc(self->size);

    ASSERT(copy != NULL);
    if (self->size > 0) {
        memcpy(copy, self->data, self->size);
    }
    return copy;
}

char *fuzz_text(const struct fuzz_input *self)
{
    char *text = malloc(self->size + 1);

    ASSERT(text != NULL);
    if (self->size > 0) {
        memcpy(text, self->data, self->size);
    }
    text[self->size] = '\0';
    return text;
}

/* ---- made ---- */

void fuzz_put(struct buf *to, const void *data, size_t size)
{
    enum err err;

    if (to->size_max == 0) {
        buf_init(to, BYTES_MAX);
    }
    err = buf_append(to, data, size);
    ASSERT(err == ERR_OK);
}

void fuzz_put_u8(struct buf *to, uint8_t value)
{
    fuzz_put(to, &value, sizeof value);
}

void fuzz_put_u16(struct buf *to, uint16_t value)
{
    uint8_t bytes[2];

    bytes_put_u16(bytes, value);
    fuzz_put(to, bytes, sizeof bytes);
}

void fuzz_put_u64(struct buf *to, uint64_t value)
{
    uint8_t bytes[8];

    bytes_put_u64(bytes, value);
    fuzz_put(to, bytes, sizeof bytes);
}

void fuzz_put_part(struct buf *to, const void *data, size_t size)
{
    ASSERT(size <= UINT16_MAX);
    fuzz_put_u16(to, (uint16_t)size);
    fuzz_put(to, data, size);
}

void fuzz_emit(fuzz_emit_cb emit, void *arg, struct buf *from)
{
    emit(arg, from->data, from->size);
    buf_fini(from);
}

/* ---- files ---- */

struct io *fuzz_disk_init(struct mem_io *disk)
{
    mem_io_init(disk);
    return &disk->io;
}

void fuzz_disk_fini(struct mem_io *disk)
{
    ASSERT(mem_io_open_count(disk) == 0);
    ASSERT(mem_io_mapped_count(disk) == 0);
    mem_io_fini(disk);
}

void fuzz_write_file(struct io *io, const char *path, const void *data, size_t size)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    enum err err;
    int fd = -1;

    err = io_open(io, path, O_RDWR | O_CREAT, &fd, NULL);
    ASSERT(err == ERR_OK);
    if (size > 0) {
        err = io_write(io, fd, path, &part, 1, 0, 0, NULL);
        ASSERT(err == ERR_OK);
    }
    io_close(io, &fd);
}

void fuzz_read_file(struct io *io, const char *path, struct buf *to)
{
    enum err err;

    if (to->size_max == 0) {
        buf_init(to, BYTES_MAX);
    }
    err = io_read_file(io, path, BYTES_MAX, to, NULL);
    ASSERT(err == ERR_OK);
}
