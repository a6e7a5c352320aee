/*
 * The frame parser: whatever way a stream is cut into pieces, it gives the same frames and ends in
 * the same error; and a frame's prefix is what the encoder makes of it.
 *
 *      u8 1: checksums are made right | u8 size of the pieces, less one | the stream
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "transport/frame.h"

enum { SIZE_MAX_OF_FRAMES = 1 << 12 };

struct outcome {
    size_t frames;
    size_t bytes; /* in them */
    enum err err;
};

static void check_frame(const struct frame *frame, const uint8_t *from)
{
    const struct slice body = {.data = frame->body, .size = frame->body_size};
    const struct frame_out out = {.type = frame->type,
                                  .flags = frame->flags,
                                  .request_id = frame->request_id,
                                  .header = frame->header,
                                  .header_size = frame->header_size,
                                  .body = &body,
                                  .body_count = 1};
    uint8_t prefix[FRAME_PREFIX_SIZE];

    ASSERT((uintptr_t)frame->body % 8 == 0);
    frame_out_encode_prefix(&out, frame_out_body_size(&out), prefix);
    ASSERT(memcmp(prefix, from, sizeof prefix) == 0);
    ASSERT(memcmp(frame->header, from + sizeof prefix, frame->header_size) == 0);
    ASSERT(memcmp(frame->body, from + sizeof prefix + frame->header_size, frame->body_size) == 0);
}

/* straight: bodies are read into their place, as connections do with large ones. */
static struct outcome parse(const uint8_t *stream, size_t size, size_t piece, bool straight)
{
    struct outcome outcome = {.err = ERR_AGAIN};
    struct frame_parser parser;
    struct frame frame;
    size_t at = 0;

    frame_parser_init(&parser, SIZE_MAX_OF_FRAMES);
    while (at < size && (outcome.err == ERR_AGAIN || outcome.err == ERR_OK)) {
        size_t n = size - at < piece ? size - at : piece;
        struct slice bytes = {.data = stream + at, .size = n};
        uint8_t *room;
        size_t room_size = straight ? frame_parser_room(&parser, &room) : 0;

        if (room_size > 0) {
            n = n < room_size ? n : room_size;
            memcpy(room, bytes.data, n);
            frame_parser_filled(&parser, n);
            bytes.size = 0;
        }
        do {
            outcome.err = frame_parser_parse(&parser, &bytes, &frame, NULL);
            frame_parser_check(&parser);
            if (outcome.err == ERR_OK) {
                check_frame(&frame, stream + outcome.bytes);
                outcome.frames++;
                outcome.bytes += FRAME_PREFIX_SIZE + frame.header_size + frame.body_size;
                block_unref(frame.block);
            }
        } while (outcome.err == ERR_OK && bytes.size > 0);
        at += n;
    }
    frame_parser_fini(&parser);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    size_t piece = (size_t)fuzz_u8(&input) + 1;
    uint8_t *stream = fuzz_copy(&input);
    struct outcome whole;
    struct outcome pieces;
    struct outcome straight;

    if (fixed) {
        fix_frames(stream, input.size);
    }
    whole = parse(stream, input.size, SIZE_MAX, false);
    pieces = parse(stream, input.size, piece, false);
    straight = parse(stream, input.size, piece, true);
    ASSERT(whole.frames == pieces.frames && whole.bytes == pieces.bytes);
    ASSERT(whole.frames == straight.frames && whole.bytes == straight.bytes);
    ASSERT((whole.err == ERR_OK || whole.err == ERR_AGAIN)
               ? pieces.err == ERR_OK || pieces.err == ERR_AGAIN
               : pieces.err == whole.err && straight.err == whole.err);
    free(stream);
    return 0;
}

static void put_frame(struct buf *to, uint16_t type, size_t header_size, size_t body_size)
{
    uint8_t bytes[256];
    uint8_t prefix[FRAME_PREFIX_SIZE];
    const struct frame_out out = {
        .type = type, .request_id = type, .header = bytes, .header_size = header_size};

    memset(bytes, (int)type, sizeof bytes);
    frame_out_encode_prefix(&out, body_size, prefix);
    fuzz_put(to, prefix, sizeof prefix);
    fuzz_put(to, bytes, header_size);
    fuzz_put(to, bytes, body_size);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t i = 0; i < 4; i++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, 1);
        fuzz_put_u8(&seed, (uint8_t)(i * 20));
        put_frame(&seed, 16, 11, 0);
        put_frame(&seed, 3, 5, (size_t)i * 60);
        put_frame(&seed, 0xffff, 0, 1);
        fuzz_emit(emit, arg, &seed);
    }
}
