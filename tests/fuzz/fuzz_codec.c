/*
 * Compressed bodies of producers: whatever stands there, what is decompressed is exactly as long as
 * its frame says, and no longer than allowed; and what was compressed here comes back.
 *
 *      codec u8 | a frame, or bytes to be compressed
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "record/codec.h"

enum { SIZE_MAX_ALLOWED = 1 << 16 };

static void check_frame(enum codec codec, const uint8_t *bytes, size_t size)
{
    struct buf plain;
    uint64_t plain_size = 0;
    enum err size_err = codec_plain_size(codec, bytes, size, &plain_size, NULL);
    enum err err;

    buf_init(&plain, 2 * SIZE_MAX_ALLOWED);
    err = codec_decompress(codec, bytes, size, SIZE_MAX_ALLOWED, &plain, NULL);
    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_TOO_LARGE);
    ASSERT(IMPLIES(err == ERR_OK, size_err == ERR_OK && plain.size == plain_size));
    ASSERT(IMPLIES(err == ERR_OK, plain.size > 0 && plain.size <= SIZE_MAX_ALLOWED));
    ASSERT(IMPLIES(err != ERR_OK, plain.size == 0));
    ASSERT((err == ERR_TOO_LARGE) == (size_err == ERR_OK && plain_size > SIZE_MAX_ALLOWED));
    buf_fini(&plain);
}

static void check_round(enum codec codec, const uint8_t *bytes, size_t size)
{
    struct buf packed;
    struct buf plain;
    enum err err;

    if (size == 0) {
        return;
    }
    buf_init(&packed, 1 << 24);
    buf_init(&plain, 1 << 24);
    err = codec_compress(codec, bytes, size, &packed, NULL);
    ASSERT(err == ERR_OK);
    err = codec_decompress(codec, packed.data, packed.size, size, &plain, NULL);
    ASSERT(err == ERR_OK && plain.size == size && memcmp(plain.data, bytes, size) == 0);
    buf_fini(&packed);
    buf_fini(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    enum codec codec = fuzz_u8(&input) % 2 == 0 ? CODEC_LZ4 : CODEC_ZSTD;
    uint8_t *bytes = fuzz_copy(&input);

    check_frame(codec, bytes, input.size);
    check_round(codec, bytes, input.size);
    free(bytes);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const char text[] = "one record of some, and one record of some, and some more of one";
    static uint8_t zeros[3 * SIZE_MAX_ALLOWED];
    struct buf seed;

    for (int i = 0; i < 2; i++) {
        enum codec codec = i == 0 ? CODEC_LZ4 : CODEC_ZSTD;
        enum err err;

        buf_init(&seed, 1 << 20);
        fuzz_put_u8(&seed, (uint8_t)i);
        err = codec_compress(codec, text, sizeof text, &seed, NULL);
        ASSERT(err == ERR_OK);
        fuzz_emit(emit, arg, &seed);
        fuzz_put_u8(&seed, (uint8_t)i);
        err = codec_compress(codec, zeros, sizeof zeros, &seed, NULL);
        ASSERT(err == ERR_OK);
        fuzz_emit(emit, arg, &seed);
        buf_fini(&seed);
    }
}
