#include "load_batches.h"

#include <inttypes.h>

#include "base/assert.h"
#include "load_record.h"
#include "record/record_set.h"

static enum err read_batch(const struct batch_header *header, const uint8_t *body, uint64_t offset,
                           struct load_values *values, struct err_info *info)
{
    struct record record;
    struct record_reader reader;
    uint64_t at = header->base_offset;
    enum err err;

    record_reader_init(&reader);
    record_reader_start(&reader, body, header->size - BATCH_HEADER_SIZE);
    while ((err = record_reader_next(&reader, &record)) == ERR_OK) {
        if (at >= offset && values->count < HISTORY_VALUES_MAX) {
            values->values[values->count++] = load_record_value(&record);
        }
        at++;
    }
    record_reader_fini(&reader);
    if (err != ERR_AGAIN || at != batch_end_offset(header)) {
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
    ret_values->offset = offset;
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
        err = read_batch(&header, body + at + BATCH_HEADER_SIZE, offset, ret_values, info);
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
