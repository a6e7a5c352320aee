#include "record/codec.h"

#include <inttypes.h>
#include <lz4frame.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/assert.h"
#include "base/bytes.h"

enum {
    ZSTD_LEVEL = 3, /* the library's default: beyond it, time grows faster than what is saved */
    /* What a byte may stand for at most: lz4's lengths grow by 255 a byte; a block of zstd has at
     * least four bytes and holds at most 128 KiB. A size above it needs no memory to be refused. */
    LZ4_RATIO_MAX = 255,
    ZSTD_RATIO_MAX = 128 * 1024 / 4,
};

static const uint32_t lz4_magic = UINT32_C(0x184d2204);
static const uint32_t zstd_magic = UINT32_C(0xfd2fb528);

static const char *const names[] = {
    [CODEC_NONE] = "none", [CODEC_LZ4] = "lz4", [CODEC_ZSTD] = "zstd"};
enum { CODEC_COUNT = sizeof names / sizeof names[0] };

const char *codec_name(enum codec codec)
{
    return (size_t)codec < CODEC_COUNT ? names[codec] : NULL;
}

bool codec_parse(const char *name, enum codec *ret_codec)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < CODEC_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_codec = (enum codec)i;
            return true;
        }
    }
    return false;
}

/* ---- LZ4 ---- */

static enum err lz4_failed(size_t result, enum err err, struct err_info *info)
{
    ASSERT(LZ4F_isError(result));
    /* The library's enum of errors is not part of its stable interface; their names are. */
    if (strcmp(LZ4F_getErrorName(result), "ERROR_allocation_failed") == 0) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    return err_set(info, err, "lz4: %s", LZ4F_getErrorName(result));
}

static enum err lz4_compress(const void *data, size_t size, struct buf *to, struct err_info *info)
{
    const LZ4F_preferences_t preferences = {.frameInfo = {.contentSize = size}};
    size_t bound = LZ4F_compressFrameBound(size, &preferences);
    size_t result;
    enum err err = buf_reserve(to, bound);

    if (err != ERR_OK) {
        return err_set(info, err, "%zu bytes to compress: %s", size, err_text(err));
    }
    result = LZ4F_compressFrame(to->data + to->size, bound, data, size, &preferences);
    if (LZ4F_isError(result)) {
        return lz4_failed(result, ERR_FAILED, info);
    }
    ASSERT(result <= bound);
    to->size += result;
    return ERR_OK;
}

/* Reads the frame's header. *ret_header_size: its bytes. */
static enum err lz4_begin(LZ4F_dctx *context, const uint8_t *data, size_t size,
                          LZ4F_frameInfo_t *ret_frame, size_t *ret_header_size,
                          struct err_info *info)
{
    size_t used = size;
    size_t result;

    if (size < 4 || bytes_get_u32(data) != lz4_magic) {
        return err_set(info, ERR_CORRUPT, "lz4: no frame begins here");
    }
    result = LZ4F_getFrameInfo(context, ret_frame, data, &used);
    if (LZ4F_isError(result)) {
        return lz4_failed(result, ERR_CORRUPT, info);
    }
    ASSERT(used <= size);
    *ret_header_size = used;
    return ERR_OK;
}

static enum err lz4_open(LZ4F_dctx **ret_context, struct err_info *info)
{
    size_t result = LZ4F_createDecompressionContext(ret_context, LZ4F_VERSION);

    return LZ4F_isError(result) ? lz4_failed(result, ERR_NOMEM, info) : ERR_OK;
}

static enum err lz4_plain_size(const uint8_t *data, size_t size, uint64_t *ret_size,
                               struct err_info *info)
{
    LZ4F_dctx *context;
    LZ4F_frameInfo_t frame;
    size_t header_size;
    enum err err = lz4_open(&context, info);

    if (err != ERR_OK) {
        return err;
    }
    err = lz4_begin(context, data, size, &frame, &header_size, info);
    if (err == ERR_OK && frame.dictID != 0) {
        err = err_set(info, ERR_CORRUPT, "lz4: the frame needs a dictionary");
    } else if (err == ERR_OK && frame.contentSize == 0) {
        err = err_set(info, ERR_CORRUPT, "lz4: the frame does not give its content's size");
    }
    if (err == ERR_OK) {
        *ret_size = frame.contentSize;
    }
    (void)LZ4F_freeDecompressionContext(context); /* Nothing is lost: it is freed all the same. */
    return err;
}

/* plain_size bytes and not one more go to `to`. */
static enum err lz4_fill(LZ4F_dctx *context, const uint8_t *data, size_t size, uint8_t *to,
                         size_t plain_size, struct err_info *info)
{
    const LZ4F_decompressOptions_t options = {.stableDst = 1};
    size_t from = 0;
    size_t at = 0;
    size_t result;

    do {
        size_t read = size - from;
        size_t written = plain_size - at;

        result = LZ4F_decompress(context, to + at, &written, data + from, &read, &options);
        if (LZ4F_isError(result)) {
            return lz4_failed(result, ERR_CORRUPT, info);
        }
        if (read == 0 && written == 0) {
            break; /* It is cut, or holds more than it said. */
        }
        from += read;
        at += written;
        ASSERT(from <= size && at <= plain_size);
    } while (result != 0);
    if (result != 0 || at != plain_size) {
        return err_set(info, ERR_CORRUPT, "lz4: the frame is cut, or not as long as it says");
    }
    if (from != size) {
        return err_set(info, ERR_CORRUPT, "lz4: %zu bytes follow the frame", size - from);
    }
    return ERR_OK;
}

static enum err lz4_decompress(const uint8_t *data, size_t size, uint8_t *to, size_t plain_size,
                               struct err_info *info)
{
    LZ4F_dctx *context;
    enum err err = lz4_open(&context, info);

    if (err == ERR_OK) {
        err = lz4_fill(context, data, size, to, plain_size, info);
        (void)LZ4F_freeDecompressionContext(context); /* As above. */
    }
    return err;
}

/* ---- Zstandard ---- */

static enum err zstd_failed(size_t result, enum err err, struct err_info *info)
{
    ASSERT(ZSTD_isError(result));
    if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    return err_set(info, err, "zstd: %s", ZSTD_getErrorName(result));
}

static enum err zstd_compress(const void *data, size_t size, struct buf *to, struct err_info *info)
{
    size_t bound = ZSTD_compressBound(size);
    size_t result;
    enum err err = buf_reserve(to, bound);

    if (err != ERR_OK) {
        return err_set(info, err, "%zu bytes to compress: %s", size, err_text(err));
    }
    result = ZSTD_compress(to->data + to->size, bound, data, size, ZSTD_LEVEL);
    if (ZSTD_isError(result)) {
        return zstd_failed(result, ERR_FAILED, info);
    }
    ASSERT(result <= bound);
    to->size += result;
    return ERR_OK;
}

static enum err zstd_plain_size(const uint8_t *data, size_t size, uint64_t *ret_size,
                                struct err_info *info)
{
    unsigned long long plain_size;

    /* Frames to be skipped and those of old versions begin with others. */
    if (size < 4 || bytes_get_u32(data) != zstd_magic) {
        return err_set(info, ERR_CORRUPT, "zstd: no frame begins here");
    }
    plain_size = ZSTD_getFrameContentSize(data, size);
    if (plain_size == ZSTD_CONTENTSIZE_ERROR) {
        return err_set(info, ERR_CORRUPT, "zstd: the frame's header is not valid");
    }
    if (plain_size == ZSTD_CONTENTSIZE_UNKNOWN || plain_size == 0) {
        return err_set(info, ERR_CORRUPT, "zstd: the frame does not give its content's size");
    }
    if (ZSTD_getDictID_fromFrame(data, size) != 0) {
        return err_set(info, ERR_CORRUPT, "zstd: the frame needs a dictionary");
    }
    *ret_size = plain_size;
    return ERR_OK;
}

static enum err zstd_decompress(const uint8_t *data, size_t size, uint8_t *to, size_t plain_size,
                                struct err_info *info)
{
    size_t frame_size = ZSTD_findFrameCompressedSize(data, size);
    size_t result;

    if (ZSTD_isError(frame_size)) {
        return zstd_failed(frame_size, ERR_CORRUPT, info);
    }
    ASSERT(frame_size <= size);
    if (frame_size != size) { /* The library would decompress a second frame, too. */
        return err_set(info, ERR_CORRUPT, "zstd: %zu bytes follow the frame", size - frame_size);
    }
    result = ZSTD_decompress(to, plain_size, data, size);
    if (ZSTD_isError(result)) {
        return zstd_failed(result, ERR_CORRUPT, info);
    }
    if (result != plain_size) {
        return err_set(info, ERR_CORRUPT, "zstd: the frame is not as long as it says");
    }
    return ERR_OK;
}

/* ---- both ---- */

static bool is_compressed(enum codec codec)
{
    return codec == CODEC_LZ4 || codec == CODEC_ZSTD;
}

enum err codec_compress(enum codec codec, const void *data, size_t size, struct buf *to,
                        struct err_info *info)
{
    ASSERT(is_compressed(codec));
    ASSERT(size > 0); /* The formats cannot tell an empty content from one of unknown size. */
    if (size > to->size_max) {
        return err_set(info, ERR_TOO_LARGE, "%zu bytes to compress: %s", size,
                       err_text(ERR_TOO_LARGE));
    }
    return codec == CODEC_LZ4 ? lz4_compress(data, size, to, info)
                              : zstd_compress(data, size, to, info);
}

enum err codec_plain_size(enum codec codec, const void *data, size_t size, uint64_t *ret_size,
                          struct err_info *info)
{
    uint64_t ratio_max = codec == CODEC_LZ4 ? LZ4_RATIO_MAX : ZSTD_RATIO_MAX;
    uint64_t plain_size = 0;
    enum err err;

    ASSERT(is_compressed(codec));
    ASSERT(size <= UINT32_MAX); /* ratio_max times that fits. */
    err = codec == CODEC_LZ4 ? lz4_plain_size(data, size, &plain_size, info)
                             : zstd_plain_size(data, size, &plain_size, info);
    if (err != ERR_OK) {
        return err;
    }
    if (plain_size > size * ratio_max) {
        return err_set(info, ERR_CORRUPT,
                       "%s: %zu bytes cannot hold the %" PRIu64 " that the frame claims",
                       codec_name(codec), size, plain_size);
    }
    *ret_size = plain_size;
    return ERR_OK;
}

enum err codec_decompress(enum codec codec, const void *data, size_t size, size_t size_max,
                          struct buf *to, struct err_info *info)
{
    uint64_t plain_size = 0;
    enum err err = codec_plain_size(codec, data, size, &plain_size, info);

    if (err != ERR_OK) {
        return err;
    }
    if (plain_size > size_max) {
        return err_set(info, ERR_TOO_LARGE,
                       "%s: the frame claims %" PRIu64 " bytes, and %zu are allowed",
                       codec_name(codec), plain_size, size_max);
    }
    err = buf_reserve(to, (size_t)plain_size);
    if (err != ERR_OK) {
        return err_set(info, err, "%" PRIu64 " bytes to decompress: %s", plain_size, err_text(err));
    }
    err = codec == CODEC_LZ4
              ? lz4_decompress(data, size, to->data + to->size, (size_t)plain_size, info)
              : zstd_decompress(data, size, to->data + to->size, (size_t)plain_size, info);
    if (err == ERR_OK) {
        to->size += (size_t)plain_size;
    }
    return err;
}
