/*
 * A batch: the unit in which records are produced, replicated, stored and consumed.
 *
 * The same bytes are what a producer sends, what lies in a segment and what a consumer gets; only
 * the stamped fields (marked S) are zero until the state machine of the cluster fills them in.
 *
 *       0                 4                 8                12                16
 *       +-----------------+-----------------+-----------------+-----------------+
 *     0 | magic "QLB1"    | header_crc32c S | size            | record_count    |
 *       +-----------------+-----------------+-----------------+-----------------+
 *    16 | base_offset                     S | raft_index                      S |
 *       +-----------------------------------+-----------------------------------+
 *    32 | raft_term                       S | append_time_us (i64)            S |
 *       +-----------------------------------+--------+--------+-----------------+
 *    48 | producer_id                       | epoch  | attrib.| base_sequence   |
 *       +-----------------+-----------------+--------+--------+-----------------+
 *    64 | body_crc32c     | reserved (0)    | digest[32]                      S |
 *       +-----------------+-----------------+                                   |
 *    80 |                                                                       |
 *       |                                   +-----------------------------------+
 *    96 |                                   | body: size - 104 bytes …
 *       +-----------------------------------+- - - - - - - - - - - - - - - - - -
 *
 *   All integers are little-endian. size counts header and body. header_crc32c covers [8, 104).
 *   body is a protobuf RecordSet (proto/record.proto), whole, compressed as attributes say; its
 *   records are numbered base_offset, base_offset + 1, …, record_count of them. body_crc32c is
 *   made by the producer and never changed. digest chains the log: SHA-256 of the previous
 *   batch's digest, the bytes [8, 72) of this header and the SHA-256 of the body
 *   (raft_fsm/digest.h). producer_id 0: no producer, epoch and base_sequence are 0 too.
 *   append_time_us: microseconds since 1970, the leader's clock, never less than the batch before.
 *
 *   A batch is valid iff magic matches, 104 < size <= the limit, header_crc32c matches,
 *   1 <= record_count, reserved is 0, unknown attributes are 0, and body_crc32c matches the body. A
 *   compacted one has room for the digest that its body begins with.
 */
#ifndef QUORLOG_LOG_BATCH_H
#define QUORLOG_LOG_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BATCH_MAGIC UINT32_C(0x31424c51) /* "QLB1" */

enum {
    BATCH_HEADER_SIZE = 104,
    BATCH_DIGEST_SIZE = 32,
    /* Bytes [BATCH_DIGESTED_FROM, BATCH_DIGESTED_TO) of the header enter the digest. */
    BATCH_DIGESTED_FROM = 8,
    BATCH_DIGESTED_TO = 72,
};

/*
 * Attributes. A set bit that is not known is refused, so that it can be defined later.
 *
 *   CODEC      how the body is compressed: 0 not, 1 LZ4, 2 Zstandard (record/codec.h); no other
 *   SPARSE     records name their offsets, and some of [base_offset, base_offset + record_count)
 *              may be missing: they were dropped by compaction, or do not match a filter. Never
 *              produced.
 *   COMPACTED  stands for one or more batches that followed on each other. Goes with SPARSE. The
 *              stamps are the last one's; the body begins with the digest of the batch before the
 *              first one, 32 bytes, which is never compressed.
 */
enum batch_attribute {
    BATCH_CODEC_MASK = 0x0007,
    BATCH_CODEC_MAX = 2, /* of the numbers that fit into the mask */
    BATCH_SPARSE = 0x0008,
    BATCH_COMPACTED = 0x0010,
    /* What a producer may set, and what may come from a log. */
    BATCH_ATTRIBUTES_PRODUCED = BATCH_CODEC_MASK,
    BATCH_ATTRIBUTES_KNOWN = BATCH_CODEC_MASK | BATCH_SPARSE | BATCH_COMPACTED,
};

struct batch_header {
    uint32_t size; /* bytes, header and body */
    uint32_t record_count;
    uint64_t base_offset;
    uint64_t raft_index;
    uint64_t raft_term;
    int64_t append_time_us;
    uint64_t producer_id;
    uint16_t producer_epoch;
    uint16_t attributes;
    uint32_t base_sequence;
    uint32_t body_crc32c;
    uint8_t digest[BATCH_DIGEST_SIZE];
};

/* Writes the header with its checksum. */
void batch_header_encode(const struct batch_header *self, uint8_t to[BATCH_HEADER_SIZE]);

/*
 * Reads a stamped header and verifies all of it but the body. size_max: largest batch allowed.
 * ERR_CORRUPT with the reason; never reads past the 104 bytes.
 */
enum err batch_header_decode(const uint8_t from[BATCH_HEADER_SIZE], uint32_t size_max,
                             struct batch_header *ret_header, struct err_info *info);

/*
 * Verifies a batch as a producer sends it: `size` bytes, one batch, stamped fields and
 * header_crc32c zero. ERR_INVALID for a shape that is wrong (the text says which field),
 * ERR_TOO_LARGE past size_max, ERR_CHECKSUM for a body that does not match.
 */
enum err batch_check_produced(const uint8_t *batch, size_t size, uint32_t size_max,
                              struct batch_header *ret_header, struct err_info *info);

/* The same without reading the body: never past the header, never ERR_CHECKSUM. For a batch whose
 * body was verified before. */
enum err batch_header_decode_produced(const uint8_t *batch, size_t size, uint32_t size_max,
                                      struct batch_header *ret_header, struct err_info *info);

/* ERR_CORRUPT when the body (header->size - BATCH_HEADER_SIZE bytes) does not match its
 * checksum. */
enum err batch_check_body(const struct batch_header *header, const uint8_t *body,
                          struct err_info *info);

/* Whether it stands for batches that are gone. */
static inline bool batch_is_compacted(const struct batch_header *header)
{
    return (header->attributes & BATCH_COMPACTED) != 0;
}

/* One past the last offset of the batch. */
static inline uint64_t batch_end_offset(const struct batch_header *header)
{
    return header->base_offset + header->record_count;
}

#endif
