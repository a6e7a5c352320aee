#include "record/batch_records.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "record/codec.h"

void batch_records_init(struct batch_records *self)
{
    memset(self, 0, sizeof *self);
    record_reader_init(&self->reader);
    buf_init(&self->plain, CODEC_PLAIN_SIZE_MAX);
}

void batch_records_fini(struct batch_records *self)
{
    record_reader_fini(&self->reader);
    buf_fini(&self->plain);
}

static bool is_sparse(const struct batch_records *self)
{
    return (self->header.attributes & BATCH_SPARSE) != 0;
}

enum err batch_records_start(struct batch_records *self, const struct batch_header *header,
                             const uint8_t *body, size_t plain_size_max, struct err_info *info)
{
    size_t size = header->size - BATCH_HEADER_SIZE;
    enum codec codec = (enum codec)(header->attributes & BATCH_CODEC_MASK);
    enum err err;

    ASSERT(header->size > BATCH_HEADER_SIZE && header->record_count > 0);
    ASSERT((header->attributes & BATCH_CODEC_MASK) <= BATCH_CODEC_MAX);
    self->header = *header;
    self->next_offset = header->base_offset;
    if ((header->attributes & BATCH_COMPACTED) != 0) {
        ASSERT(size >= BATCH_DIGEST_SIZE); /* log/batch.h */
        body += BATCH_DIGEST_SIZE;
        size -= BATCH_DIGEST_SIZE;
    }
    if (plain_size_max == 0 || plain_size_max > CODEC_PLAIN_SIZE_MAX) {
        plain_size_max = CODEC_PLAIN_SIZE_MAX;
    }
    self->plain.size = 0;
    if (codec != CODEC_NONE) {
        err = codec_decompress(codec, body, size, plain_size_max, &self->plain, info);
        if (err != ERR_OK) {
            return err_prefix(info, err, "the batch at offset %" PRIu64, header->base_offset);
        }
        body = self->plain.data;
        size = self->plain.size;
    }
    record_reader_start(&self->reader, body, size);
    return ERR_OK;
}

enum err batch_records_next(struct batch_records *self, struct record *ret_record)
{
    uint64_t end = batch_end_offset(&self->header);
    struct record record;
    enum err err = record_reader_next(&self->reader, &record);

    ASSERT(self->next_offset >= self->header.base_offset && self->next_offset <= end);
    if (err == ERR_AGAIN) {
        return is_sparse(self) || self->next_offset == end ? ERR_AGAIN : ERR_CORRUPT;
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!is_sparse(self)) {
        /* A producer may have put in there what it liked. */
        record.offset = self->next_offset;
        record.append_time_us = self->header.append_time_us;
    } else if (record.append_time_us == 0) {
        record.append_time_us = self->header.append_time_us;
    }
    if (record.offset < self->next_offset || record.offset >= end) {
        return ERR_CORRUPT;
    }
    self->next_offset = record.offset + 1;
    *ret_record = record;
    return ERR_OK;
}
