/*
 * Compression of a batch's body. What is compressed is the whole RecordSet; the batch's attributes
 * (log/batch.h) say how. It is compressed once, by whoever produces it, and rests and travels so.
 *
 *      NONE   the RecordSet
 *      LZ4    one LZ4 frame (LZ4 Frame Format 1.6), its content size given
 *      ZSTD   one Zstandard frame (RFC 8878), its content size given
 *
 * A frame that does not give the size of its contents is refused, as is one with anything behind
 * it: no byte is decompressed before it is known how many there will be, and that they are allowed.
 * An empty RecordSet is never compressed: neither format tells no contents from an unknown size.
 */
#ifndef QUORLOG_RECORD_CODEC_H
#define QUORLOG_RECORD_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum codec {
    CODEC_NONE = 0,
    CODEC_LZ4 = 1,
    CODEC_ZSTD = 2,
};

/* The largest RecordSet that any compressed batch may hold, unless a lower limit is given, bytes.
 */
enum { CODEC_PLAIN_SIZE_MAX = 64 * 1024 * 1024 };

/* "none", "lz4", "zstd"; NULL: none of them. */
const char *codec_name(enum codec codec);
bool codec_parse(const char *name, enum codec *ret_codec);

/* Appends the compressed bytes. ERR_NOMEM; ERR_TOO_LARGE (the buffer's bound): nothing is changed.
 * The result may be larger than the input. codec is not NONE, size not 0. */
enum err codec_compress(enum codec codec, const void *data, size_t size, struct buf *to,
                        struct err_info *info);

/* How many bytes the frame says that it holds, from its header alone: nothing is decompressed. What
 * so few bytes cannot hold is ERR_CORRUPT, too, as is no size; ERR_NOMEM. codec is not NONE. */
enum err codec_plain_size(enum codec codec, const void *data, size_t size, uint64_t *ret_size,
                          struct err_info *info);

/* Appends what was compressed. ERR_CORRUPT: not one whole frame, or not what it says;
 * ERR_TOO_LARGE: it says to be more than size_max, or passes the buffer's bound; ERR_NOMEM. Nothing
 * is changed then. codec is not NONE. */
enum err codec_decompress(enum codec codec, const void *data, size_t size, size_t size_max,
                          struct buf *to, struct err_info *info);

#endif
