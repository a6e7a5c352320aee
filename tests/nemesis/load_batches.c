#include "load_batches.h"

#include <inttypes.h>

#include "base/assert.h"
#include "load_record.h"
#include "record/batch_records.h"

void load_values_tell(const struct load_values *self, struct history_op *op)
{
    bool dense = self->next - self->offset == self->count;

    op->offset = self->offset;
    op->values = self->values;
    op->value_count = self->count;
    op->offsets = dense ? NULL : self->offsets;
    op->offset_count = dense ? 0 : self->count;
    op->next = dense ? 0 : self->next;
}

/* Of a batch that was compacted some may be missing. */
static enum err read_batch(const struct batch_header *header, const uint8_t *body,
                           struct load_values *values, struct err_info *info)
{
    struct batch_records records;
    struct record record;
    enum err err;

    batch_records_init(&records);
    err = batch_records_start(&records, header, body, 0, info);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        if (record.offset < values->offset) {
            continue;
        }
        if (values->count == HISTORY_VALUES_MAX) {
            break;
        }
        values->values[values->count] = load_record_value(&record);
        values->offsets[values->count++] = record.offset;
        values->next = record.offset + 1;
    }
    batch_records_fini(&records);
    if (err == ERR_AGAIN) {
        values->next = batch_end_offset(header);
    } else if (err != ERR_OK) {
        return err_set(info, ERR_CORRUPT, "the batch at %" PRIu64 " does not hold what it says",
                       header->base_offset);
    }
    return ERR_OK;
}

enum err load_batches_read(const uint8_t *body, size_t size, uint64_t offset, load_batch_cb cb,
                           void *arg, struct load_values *ret_values, struct err_info *info)
{
    struct batch_header header;
    uint64_t next = offset;
    size_t at = 0;
    enum err err;

    ret_values->count = 0;
    ret_values->offset = ret_values->next = offset;
    while (at < size) {
        size_t left = size - at;

        if (left <= BATCH_HEADER_SIZE) {
            return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", left);
        }
        err = batch_header_decode(body + at, left > UINT32_MAX ? UINT32_MAX : (uint32_t)left,
                                  &header, info);
        if (err == ERR_OK) {
            err = batch_check_body(&header, body + at + BATCH_HEADER_SIZE, info);
        }
        if (err != ERR_OK) {
            return err;
        }
        if (at == 0 ? header.base_offset > offset || batch_end_offset(&header) <= offset
                    : header.base_offset != next) {
            return err_set(info, ERR_CORRUPT,
                           "the batch at %" PRIu64 " does not follow on offset %" PRIu64,
                           header.base_offset, next);
        }
        err = read_batch(&header, body + at + BATCH_HEADER_SIZE, ret_values, info);
        if (err != ERR_OK) {
            return err;
        }
        if (cb != NULL) {
            cb(arg, &header, body + at + BATCH_HEADER_SIZE);
        }
        next = batch_end_offset(&header);
        at += header.size;
    }
    ASSERT(at == size);
    return ERR_OK;
}
