#include "log/batch.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

/* Where the fields stand; the diagram is in the header. */
enum {
    AT_MAGIC = 0,
    AT_HEADER_CRC = 4,
    AT_SIZE = 8,
    AT_RECORD_COUNT = 12,
    AT_BASE_OFFSET = 16,
    AT_RAFT_INDEX = 24,
    AT_RAFT_TERM = 32,
    AT_APPEND_TIME = 40,
    AT_PRODUCER_ID = 48,
    AT_PRODUCER_EPOCH = 56,
    AT_ATTRIBUTES = 58,
    AT_BASE_SEQUENCE = 60,
    AT_BODY_CRC = 64,
    AT_RESERVED = 68,
    AT_DIGEST = 72,
};

_Static_assert(AT_DIGEST + BATCH_DIGEST_SIZE == BATCH_HEADER_SIZE, "the digest ends the header");
_Static_assert((int)BATCH_DIGESTED_FROM == (int)AT_SIZE, "checksummed bytes enter the digest");
_Static_assert((int)BATCH_DIGESTED_TO == (int)AT_DIGEST, "all but the digest enter the digest");

static uint32_t header_crc(const uint8_t *header)
{
    return crc32c(header + AT_SIZE, BATCH_HEADER_SIZE - AT_SIZE);
}

void batch_header_encode(const struct batch_header *self, uint8_t to[BATCH_HEADER_SIZE])
{
    ASSERT(self->size > BATCH_HEADER_SIZE);
    ASSERT(self->record_count > 0);
    ASSERT((self->attributes & ~BATCH_ATTRIBUTES_KNOWN) == 0);
    ASSERT((self->attributes & BATCH_CODEC_MASK) <= BATCH_CODEC_MAX);
    ASSERT(
        IMPLIES((self->attributes & BATCH_COMPACTED) != 0, (self->attributes & BATCH_SPARSE) != 0));
    bytes_put_u32(to + AT_MAGIC, BATCH_MAGIC);
    bytes_put_u32(to + AT_SIZE, self->size);
    bytes_put_u32(to + AT_RECORD_COUNT, self->record_count);
    bytes_put_u64(to + AT_BASE_OFFSET, self->base_offset);
    bytes_put_u64(to + AT_RAFT_INDEX, self->raft_index);
    bytes_put_u64(to + AT_RAFT_TERM, self->raft_term);
    bytes_put_u64(to + AT_APPEND_TIME, (uint64_t)self->append_time_us);
    bytes_put_u64(to + AT_PRODUCER_ID, self->producer_id);
    bytes_put_u16(to + AT_PRODUCER_EPOCH, self->producer_epoch);
    bytes_put_u16(to + AT_ATTRIBUTES, self->attributes);
    bytes_put_u32(to + AT_BASE_SEQUENCE, self->base_sequence);
    bytes_put_u32(to + AT_BODY_CRC, self->body_crc32c);
    bytes_put_u32(to + AT_RESERVED, 0);
    memcpy(to + AT_DIGEST, self->digest, BATCH_DIGEST_SIZE);
    bytes_put_u32(to + AT_HEADER_CRC, header_crc(to));
}

static void get_fields(const uint8_t *from, struct batch_header *ret_header)
{
    *ret_header = (struct batch_header){
        .size = bytes_get_u32(from + AT_SIZE),
        .record_count = bytes_get_u32(from + AT_RECORD_COUNT),
        .base_offset = bytes_get_u64(from + AT_BASE_OFFSET),
        .raft_index = bytes_get_u64(from + AT_RAFT_INDEX),
        .raft_term = bytes_get_u64(from + AT_RAFT_TERM),
        .append_time_us = (int64_t)bytes_get_u64(from + AT_APPEND_TIME),
        .producer_id = bytes_get_u64(from + AT_PRODUCER_ID),
        .producer_epoch = bytes_get_u16(from + AT_PRODUCER_EPOCH),
        .attributes = bytes_get_u16(from + AT_ATTRIBUTES),
        .base_sequence = bytes_get_u32(from + AT_BASE_SEQUENCE),
        .body_crc32c = bytes_get_u32(from + AT_BODY_CRC),
    };
    memcpy(ret_header->digest, from + AT_DIGEST, BATCH_DIGEST_SIZE);
}

/* The fields whose meaning does not depend on who wrote them. `code` is what a wrong one gives. */
static enum err check_shape(const uint8_t *from, const struct batch_header *header, enum err code,
                            struct err_info *info)
{
    if (header->size <= BATCH_HEADER_SIZE) {
        return err_set(info, code, "batch size %" PRIu32 " leaves no body", header->size);
    }
    if (header->record_count == 0) {
        return err_set(info, code, "batch record_count is 0");
    }
    if ((header->attributes & ~BATCH_ATTRIBUTES_KNOWN) != 0) {
        return err_set(
            info, code,
            "batch attributes 0x%04x are unknown; a codec (0 to %d), 0x%04x (sparse) and "
            "0x%04x (compacted) are known",
            header->attributes, (int)BATCH_CODEC_MAX, BATCH_SPARSE, BATCH_COMPACTED);
    }
    if ((header->attributes & BATCH_CODEC_MASK) > BATCH_CODEC_MAX) {
        return err_set(info, code,
                       "batch attributes 0x%04x name an unknown codec; 0 (none), 1 (lz4) and 2 "
                       "(zstd) are known",
                       header->attributes);
    }
    if ((header->attributes & BATCH_COMPACTED) != 0 &&
        ((header->attributes & BATCH_SPARSE) == 0 ||
         header->size < BATCH_HEADER_SIZE + BATCH_DIGEST_SIZE)) {
        return err_set(info, code,
                       "batch attributes 0x%04x: a compacted batch is sparse, and its body begins "
                       "with a digest",
                       header->attributes);
    }
    if (bytes_get_u32(from + AT_RESERVED) != 0) {
        return err_set(info, code, "batch reserved field is not 0");
    }
    return ERR_OK;
}

enum err batch_header_decode(const uint8_t from[BATCH_HEADER_SIZE], uint32_t size_max,
                             struct batch_header *ret_header, struct err_info *info)
{
    struct batch_header header;
    enum err err;

    ASSERT(size_max > BATCH_HEADER_SIZE);
    if (bytes_get_u32(from + AT_MAGIC) != BATCH_MAGIC) {
        return err_set(info, ERR_CORRUPT, "no batch begins here: magic 0x%08" PRIx32,
                       bytes_get_u32(from + AT_MAGIC));
    }
    if (bytes_get_u32(from + AT_HEADER_CRC) != header_crc(from)) {
        return err_set(info, ERR_CORRUPT,
                       "the batch header does not match its checksum 0x%08" PRIx32,
                       bytes_get_u32(from + AT_HEADER_CRC));
    }
    get_fields(from, &header);
    err = check_shape(from, &header, ERR_CORRUPT, info);
    if (err != ERR_OK) {
        return err;
    }
    if (header.size > size_max) {
        return err_set(info, ERR_CORRUPT, "batch size %" PRIu32 " is over the limit of %" PRIu32,
                       header.size, size_max);
    }
    if (header.base_offset > UINT64_MAX - header.record_count) {
        return err_set(info, ERR_CORRUPT, "batch offsets overflow at %" PRIu64, header.base_offset);
    }
    *ret_header = header;
    return ERR_OK;
}

/* Everything that the state machine stamps is zero as long as it has not. */
static const char *find_stamped_field(const uint8_t *from)
{
    static const struct {
        const char *name;
        uint8_t at;
        uint8_t size;
    } fields[] = {
        {"header_crc32c", AT_HEADER_CRC, 4},   {"base_offset", AT_BASE_OFFSET, 8},
        {"raft_index", AT_RAFT_INDEX, 8},      {"raft_term", AT_RAFT_TERM, 8},
        {"append_time_us", AT_APPEND_TIME, 8}, {"digest", AT_DIGEST, BATCH_DIGEST_SIZE},
    };
    static const uint8_t zero[BATCH_DIGEST_SIZE];

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        ASSERT(fields[i].size <= sizeof zero);
        if (memcmp(from + fields[i].at, zero, fields[i].size) != 0) {
            return fields[i].name;
        }
    }
    return NULL;
}

enum err batch_header_decode_produced(const uint8_t *batch, size_t size, uint32_t size_max,
                                      struct batch_header *ret_header, struct err_info *info)
{
    struct batch_header header;
    const char *field;
    enum err err;

    ASSERT(size_max > BATCH_HEADER_SIZE);
    if (size > size_max) {
        return err_set(info, ERR_TOO_LARGE, "a batch of %zu bytes is over the limit of %" PRIu32,
                       size, size_max);
    }
    if (size <= BATCH_HEADER_SIZE) {
        return err_set(info, ERR_INVALID, "%zu bytes are too few for a batch", size);
    }
    if (bytes_get_u32(batch + AT_MAGIC) != BATCH_MAGIC) {
        return err_set(info, ERR_INVALID, "batch magic is 0x%08" PRIx32,
                       bytes_get_u32(batch + AT_MAGIC));
    }
    get_fields(batch, &header);
    if (header.size != size) {
        return err_set(info, ERR_INVALID, "batch size says %" PRIu32 ", but %zu bytes came",
                       header.size, size);
    }
    if ((header.attributes & ~BATCH_ATTRIBUTES_PRODUCED) != 0) {
        return err_set(info, ERR_INVALID,
                       "batch attributes 0x%04x: a produced batch may name its codec (0 to %d) and "
                       "nothing else",
                       header.attributes, (int)BATCH_CODEC_MAX);
    }
    err = check_shape(batch, &header, ERR_INVALID, info);
    if (err != ERR_OK) {
        return err;
    }
    field = find_stamped_field(batch);
    if (field != NULL) {
        return err_set(info, ERR_INVALID, "batch %s must be 0 in a produced batch", field);
    }
    if (header.producer_id == 0 && (header.producer_epoch != 0 || header.base_sequence != 0)) {
        return err_set(info, ERR_INVALID, "batch has a producer epoch or sequence, but no id");
    }
    *ret_header = header;
    return ERR_OK;
}

enum err batch_check_produced(const uint8_t *batch, size_t size, uint32_t size_max,
                              struct batch_header *ret_header, struct err_info *info)
{
    struct batch_header header;
    enum err err;

    err = batch_header_decode_produced(batch, size, size_max, &header, info);
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(header.size == size);
    if (crc32c(batch + BATCH_HEADER_SIZE, size - BATCH_HEADER_SIZE) != header.body_crc32c) {
        return err_set(info, ERR_CHECKSUM, "the batch body does not match body_crc32c 0x%08" PRIx32,
                       header.body_crc32c);
    }
    *ret_header = header;
    return ERR_OK;
}

enum err batch_check_body(const struct batch_header *header, const uint8_t *body,
                          struct err_info *info)
{
    ASSERT(header->size > BATCH_HEADER_SIZE);
    if (crc32c(body, header->size - BATCH_HEADER_SIZE) != header->body_crc32c) {
        return err_set(info, ERR_CORRUPT,
                       "the body of the batch at offset %" PRIu64 " does not match its checksum",
                       header->base_offset);
    }
    return ERR_OK;
}
