#include "transport/frame.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    CRC_POSITION = 4,
    TYPE_POSITION = 8,
    FLAGS_POSITION = 10,
    HEADER_SIZE_POSITION = 12,
    REQUEST_ID_POSITION = 16,
    SIZE_SIZE = 4,      /* Bytes of the field that does not count itself. */
    BODY_ALIGNMENT = 8, /* A power of two. */
};

_Static_assert(REQUEST_ID_POSITION + sizeof(uint64_t) == FRAME_PREFIX_SIZE,
               "the prefix ends with the request id");
_Static_assert(_Alignof(max_align_t) % BODY_ALIGNMENT == 0 &&
                   offsetof(struct block, data) % BODY_ALIGNMENT == 0,
               "data of a block is on the boundary that bodies need");

static size_t pad_size(size_t header_size)
{
    return bytes_round_up(header_size, BODY_ALIGNMENT) - header_size;
}

/* What the sender may have meant: people do point a browser or a probe at this port. */
static const char *hint(const uint8_t *prefix)
{
    static const char methods[][SIZE_SIZE + 1] = {"GET ", "HEAD", "POST", "PUT ", "DELE",
                                                  "OPTI", "PATC", "TRAC", "CONN", "PRI "};
    static const uint8_t tls[] = {0x16, 0x03}; /* RFC 8446, 5.1: handshake, version 3.x */

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (memcmp(prefix, methods[i], SIZE_SIZE) == 0) {
            return ": this is not an HTTP port, it speaks frames";
        }
    }
    return memcmp(prefix, tls, sizeof tls) == 0 ? ": this is not a TLS port" : "";
}

void frame_parser_init(struct frame_parser *self, size_t size_max)
{
    *self = (struct frame_parser){0};
    frame_parser_set_size_max(self, size_max);
}

void frame_parser_fini(struct frame_parser *self)
{
    block_unref(self->block);
    budget_give(self->budget, self->taken);
    *self = (struct frame_parser){.failed = true};
}

void frame_parser_set_size_max(struct frame_parser *self, size_t size_max)
{
    ASSERT(size_max >= FRAME_PREFIX_SIZE);
    self->size_max = size_max;
}

void frame_parser_set_budget(struct frame_parser *self, struct budget *budget)
{
    ASSERT(self->taken == 0);
    self->budget = budget;
}

/* Needs the first four bytes only, so that a stranger who sends fewer than 24 is told as well. */
static enum err check_size(const struct frame_parser *self, struct err_info *info)
{
    size_t frame_size = (size_t)bytes_get_u32(self->prefix) + SIZE_SIZE;

    ASSERT(self->position >= SIZE_SIZE);
    if (frame_size < FRAME_PREFIX_SIZE) {
        return err_set(info, ERR_PROTOCOL, "a frame claims %zu bytes, fewer than its prefix has%s",
                       frame_size, hint(self->prefix));
    }
    if (frame_size > self->size_max) {
        return err_set(info, ERR_TOO_LARGE, "a frame of %zu bytes is over the limit of %zu%s",
                       frame_size, self->size_max, hint(self->prefix));
    }
    return ERR_OK;
}

/* Takes what a frame needs whose rest is not there yet. False: it has to wait. */
static bool take_memory(struct frame_parser *self, size_t size, size_t there)
{
    ASSERT(self->taken == 0);
    if (self->budget == NULL || size <= FRAME_UNCOUNTED_MAX || size <= there) {
        return true;
    }
    if (!budget_take(self->budget, size)) {
        return false;
    }
    self->taken = size; /* I5 */
    return true;
}

/* The prefix is complete: the remaining sizes, then the memory. there: bytes that follow it. */
static enum err begin_frame(struct frame_parser *self, size_t there, struct err_info *info)
{
    size_t frame_size = (size_t)bytes_get_u32(self->prefix) + SIZE_SIZE;
    size_t header_size = bytes_get_u32(self->prefix + HEADER_SIZE_POSITION);
    size_t rest = frame_size - FRAME_PREFIX_SIZE;

    ASSERT(self->position == FRAME_PREFIX_SIZE && self->block == NULL);
    ASSERT(frame_size >= FRAME_PREFIX_SIZE && frame_size <= self->size_max);
    if (header_size > FRAME_HEADER_SIZE_MAX) {
        return err_set(info, ERR_TOO_LARGE, "a frame header of %zu bytes is over the limit of %d%s",
                       header_size, FRAME_HEADER_SIZE_MAX, hint(self->prefix));
    }
    if (header_size > rest) {
        return err_set(info, ERR_PROTOCOL, "a frame of %zu bytes claims a header of %zu%s",
                       frame_size, header_size, hint(self->prefix));
    }
    if (self->budget != NULL && rest > self->budget->size_max) {
        return err_set(info, ERR_TOO_LARGE,
                       "a frame of %zu bytes is over the %zu of memory that there is for frames",
                       frame_size, self->budget->size_max);
    }
    if (!take_memory(self, rest, there)) {
        return ERR_BUSY;
    }
    self->block = block_new(pad_size(header_size) + rest); /* I1 */
    if (self->block == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a frame of %zu bytes", frame_size);
    }
    self->frame_size = frame_size;
    self->header_size = header_size;
    self->verified = false;
    return ERR_OK;
}

static void take(struct slice *bytes, uint8_t *to, size_t size)
{
    ASSERT(size <= bytes->size);
    if (size > 0) {
        memcpy(to, bytes->data, size);
        bytes->data += size;
        bytes->size -= size;
    }
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum err take_prefix(struct frame_parser *self, struct slice *bytes, struct err_info *info)
{
    size_t size = smaller(bytes->size, FRAME_PREFIX_SIZE - self->position);
    enum err err;

    take(bytes, self->prefix + self->position, size);
    self->position += size;
    if (self->position < SIZE_SIZE) {
        return ERR_AGAIN;
    }
    err = check_size(self, info);
    if (err != ERR_OK) {
        return err;
    }
    return self->position < FRAME_PREFIX_SIZE ? ERR_AGAIN : begin_frame(self, bytes->size, info);
}

/* As soon as the header is there: what a body of megabytes would be waited for must be true. */
static enum err verify(struct frame_parser *self, struct err_info *info)
{
    const uint8_t *header = self->block->data + pad_size(self->header_size);
    uint32_t expected = bytes_get_u32(self->prefix + CRC_POSITION);
    uint32_t actual = crc32c(self->prefix + TYPE_POSITION, FRAME_PREFIX_SIZE - TYPE_POSITION);

    ASSERT(self->position >= FRAME_PREFIX_SIZE + self->header_size);
    actual = crc32c_extend(actual, header, self->header_size);
    if (actual != expected) {
        return err_set(info, ERR_CHECKSUM, "a frame's checksum is %08x, its bytes have %08x%s",
                       expected, actual, hint(self->prefix));
    }
    self->verified = true; /* I3 */
    return ERR_OK;
}

/* The parser is ready for the next frame afterwards. */
static void finish_frame(struct frame_parser *self, struct frame *ret_frame)
{
    const uint8_t *header = self->block->data + pad_size(self->header_size);

    ASSERT(self->verified && self->position == self->frame_size);
    *ret_frame = (struct frame){
        .type = bytes_get_u16(self->prefix + TYPE_POSITION),
        .flags = bytes_get_u16(self->prefix + FLAGS_POSITION),
        .request_id = bytes_get_u64(self->prefix + REQUEST_ID_POSITION),
        .block = self->block,
        .header = header,
        .header_size = self->header_size,
        .body = header + self->header_size,
        .body_size = self->frame_size - FRAME_PREFIX_SIZE - self->header_size,
    };
    ASSERT((uintptr_t)ret_frame->body % BODY_ALIGNMENT == 0);
    self->block = NULL;
    self->position = 0;
    budget_give(self->budget, self->taken); /* Who keeps it, counts it. */
    self->taken = 0;
}

static enum err parse(struct frame_parser *self, struct slice *bytes, struct frame *ret_frame,
                      struct err_info *info)
{
    uint8_t *room = NULL;
    size_t size;
    enum err err;

    if (self->block == NULL) {
        err = take_prefix(self, bytes, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    size = smaller(bytes->size, frame_parser_room(self, &room));
    take(bytes, room, size);
    self->position += size;
    if (!self->verified && self->position >= FRAME_PREFIX_SIZE + self->header_size) {
        err = verify(self, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (self->position < self->frame_size) {
        return ERR_AGAIN;
    }
    finish_frame(self, ret_frame);
    return ERR_OK;
}

enum err frame_parser_parse(struct frame_parser *self, struct slice *bytes, struct frame *ret_frame,
                            struct err_info *info)
{
    enum err err;

    ASSERT(!self->failed);
    err = parse(self, bytes, ret_frame, info);
    ASSERT(IMPLIES(err == ERR_AGAIN, bytes->size == 0));
    self->failed = err != ERR_OK && err != ERR_AGAIN && err != ERR_BUSY;
    return err;
}

size_t frame_parser_room(struct frame_parser *self, uint8_t **ret_data)
{
    ASSERT(!self->failed);
    if (self->block == NULL) {
        return 0;
    }
    *ret_data =
        self->block->data + pad_size(self->header_size) + (self->position - FRAME_PREFIX_SIZE);
    return self->frame_size - self->position;
}

void frame_parser_filled(struct frame_parser *self, size_t size)
{
    ASSERT(self->block != NULL);
    ASSERT(size > 0 && size <= self->frame_size - self->position);
    self->position += size;
}

void frame_parser_check(const struct frame_parser *self)
{
    if (self->failed) {
        return;
    }
    ASSERT(self->block == NULL ? self->position <= FRAME_PREFIX_SIZE
                               : self->position >= FRAME_PREFIX_SIZE); /* I2 */
    if (self->block == NULL) {
        ASSERT(self->taken == 0);
        return;
    }
    ASSERT(self->block->size ==
           pad_size(self->header_size) + self->frame_size - FRAME_PREFIX_SIZE); /* I1 */
    ASSERT(IMPLIES(self->position >= FRAME_PREFIX_SIZE + self->header_size, self->verified));
    ASSERT(self->position < self->frame_size); /* I4 */
}

size_t frame_out_body_size(const struct frame_out *frame)
{
    size_t size = 0;

    ASSERT(frame->body_count <= FRAME_BODY_SLICES_MAX);
    for (size_t i = 0; i < frame->body_count; i++) {
        ASSERT(frame->body[i].size <= UINT32_MAX); /* 4096 of them cannot overflow. */
        size += frame->body[i].size;
    }
    return size;
}

void frame_out_encode_prefix(const struct frame_out *frame, size_t body_size,
                             uint8_t ret_prefix[FRAME_PREFIX_SIZE])
{
    size_t size = FRAME_PREFIX_SIZE - SIZE_SIZE + frame->header_size + body_size;
    uint32_t crc;

    ASSERT(frame->header_size <= FRAME_HEADER_SIZE_MAX);
    ASSERT(size <= UINT32_MAX);
    bytes_put_u32(ret_prefix, (uint32_t)size);
    bytes_put_u16(ret_prefix + TYPE_POSITION, frame->type);
    bytes_put_u16(ret_prefix + FLAGS_POSITION, frame->flags);
    bytes_put_u32(ret_prefix + HEADER_SIZE_POSITION, (uint32_t)frame->header_size);
    bytes_put_u64(ret_prefix + REQUEST_ID_POSITION, frame->request_id);
    crc = crc32c(ret_prefix + TYPE_POSITION, FRAME_PREFIX_SIZE - TYPE_POSITION);
    bytes_put_u32(ret_prefix + CRC_POSITION, crc32c_extend(crc, frame->header, frame->header_size));
}
