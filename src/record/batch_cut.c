#include "record/batch_cut.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/batch_records.h"
#include "record/codec.h"

/* The records of the part, as a RecordSet. */
static enum err take_records(const struct batch_header *header, const uint8_t *body,
                             const struct batch_cut *cut, struct buf *set, struct err_info *info)
{
    struct batch_records records;
    struct record record;
    enum err err;

    batch_records_init(&records);
    err = batch_records_start(&records, header, body, 0, info);
    while (err == ERR_OK) {
        err = batch_records_next(&records, &record);
        if (err == ERR_OK && record.offset >= cut->to) {
            err = ERR_AGAIN; /* They ascend. */
        }
        if (err == ERR_OK && record.offset >= cut->from) {
            err = record_set_append_sparse(set, &record, header->append_time_us);
        }
    }
    batch_records_fini(&records);
    return err == ERR_AGAIN
               ? ERR_OK
               : err_set(info, err,
                         "the records of the batch at offset %" PRIu64 " cannot be taken: %s",
                         header->base_offset, err_text(err));
}

static enum err append_body(const struct batch_header *header, const struct batch_cut *cut,
                            const struct buf *set, struct buf *out, struct err_info *info)
{
    enum codec codec = (enum codec)(header->attributes & BATCH_CODEC_MASK);
    enum err err = ERR_OK;

    if (cut->before != NULL) {
        err = buf_append(out, cut->before, BATCH_DIGEST_SIZE);
    }
    if (err == ERR_OK && codec != CODEC_NONE) {
        return codec_compress(codec, set->data, set->size, out, info);
    }
    err = err == ERR_OK ? buf_append(out, set->data, set->size) : err;
    return err == ERR_OK ? ERR_OK : err_set(info, err, "%s", err_text(err));
}

/* The header of the part, whose body stands behind `at` in out. */
static void finish(const struct batch_header *header, const struct batch_cut *cut, size_t at,
                   struct buf *out)
{
    struct batch_header part = *header;
    uint64_t from = cut->from > header->base_offset ? cut->from : header->base_offset;
    uint64_t to = cut->to < batch_end_offset(header) ? cut->to : batch_end_offset(header);

    ASSERT(from < to && out->size - at > BATCH_HEADER_SIZE);
    part.size = (uint32_t)(out->size - at);
    part.base_offset = from;
    part.record_count = (uint32_t)(to - from);
    part.attributes = (uint16_t)(header->attributes | BATCH_SPARSE | BATCH_COMPACTED);
    part.producer_id = 0;
    part.producer_epoch = 0;
    part.base_sequence = 0;
    if (cut->before == NULL) {
        part.attributes &= (uint16_t)~BATCH_COMPACTED;
    }
    if (cut->before == NULL || to < batch_end_offset(header)) {
        memset(part.digest, 0, sizeof part.digest);
    }
    part.body_crc32c =
        crc32c(out->data + at + BATCH_HEADER_SIZE, out->size - at - BATCH_HEADER_SIZE);
    batch_header_encode(&part, out->data + at);
}

enum err batch_cut_append(const uint8_t *batch, uint32_t size, const struct batch_cut *cut,
                          struct buf *out, struct err_info *info)
{
    static const uint8_t room[BATCH_HEADER_SIZE];
    struct batch_header header;
    struct buf set;
    size_t at = out->size;
    enum err err = batch_header_decode(batch, size, &header, info);

    ASSERT(err == ERR_OK && header.size == size);
    ASSERT(cut->from < batch_end_offset(&header) && cut->to > header.base_offset);
    buf_init(&set, CODEC_PLAIN_SIZE_MAX);
    err = take_records(&header, batch + BATCH_HEADER_SIZE, cut, &set, info);
    if (set.size == 0) { /* An empty RecordSet is never compressed (record/codec.h). */
        header.attributes &= (uint16_t)~BATCH_CODEC_MASK;
    }
    if (err == ERR_OK && (set.size > 0 || cut->before != NULL)) {
        err = buf_append(out, room, sizeof room);
        err = err == ERR_OK ? append_body(&header, cut, &set, out, info)
                            : err_set(info, err, "%s", err_text(err));
        if (err == ERR_OK) {
            finish(&header, cut, at, out);
        } else {
            out->size = at;
        }
    }
    buf_fini(&set);
    return err;
}
