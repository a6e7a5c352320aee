#include "server/seek.h"

#include "base/assert.h"
#include "record/batch_records.h"

/* The first record from *offset on, which is in this batch, that was appended at time_us or later;
 * the batch's end when there is none. What cannot be made out is left as it is. */
static void skip_records(const struct block *block, int64_t time_us, uint64_t *offset)
{
    struct batch_records records;
    struct batch_header header;
    struct record record;
    uint64_t from = *offset;
    enum err err = batch_header_decode(block->data, (uint32_t)block->size, &header, NULL);

    ASSERT(err == ERR_OK && header.size <= block->size); /* log_read verified it */
    if (header.append_time_us < time_us || from < header.base_offset ||
        from >= batch_end_offset(&header)) {
        return; /* The log is another one than a moment ago. */
    }
    batch_records_init(&records);
    err = batch_records_start(&records, &header, block->data + BATCH_HEADER_SIZE, 0, NULL);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        if (record.offset >= from && record.append_time_us >= time_us) {
            *offset = record.offset;
            break;
        }
    }
    if (err == ERR_AGAIN) {
        *offset = batch_end_offset(&header);
    }
    batch_records_fini(&records);
}

/* A compacted batch that ends at time_us or later may begin before. */
static enum err skip_early_records(struct log *log, int64_t time_us, uint64_t *offset,
                                   struct err_info *info)
{
    struct block *block;
    uint64_t end;
    enum err err = log_read(log, *offset, *offset + 1, 1, &block, &end, info);

    if (err == ERR_RANGE || err == ERR_AGAIN) {
        return ERR_OK; /* It went meanwhile. */
    }
    if (err != ERR_OK) {
        return err;
    }
    skip_records(block, time_us, offset);
    block_unref(block);
    return ERR_OK;
}

/* Of the batches of [low, high), the offset of the first one appended at or after time_us; high
 * when there is none. near: it is expected close to low. */
static enum err search(struct log *log, int64_t time_us, uint64_t low, uint64_t high, bool near,
                       uint64_t *ret_offset, struct err_info *info)
{
    uint64_t step = 1;
    bool is_sparse = false; /* the batch at high */
    enum err err = ERR_OK;

    /* All batches below low are older than time_us, all from high on are not. */
    while (low < high) {
        uint64_t half = (high - low) / 2;
        uint64_t middle = low + (near && step - 1 < half ? step - 1 : half);
        struct batch_header header;

        err = log_read_header(log, middle, &header, info);
        if (err == ERR_RANGE && log_start(log) > low) {
            /* The front went meanwhile. */
            low = log_start(log);
            high = high < low ? low : high;
            continue;
        }
        if (err != ERR_OK) {
            return err;
        }
        ASSERT(header.base_offset <= middle && batch_end_offset(&header) > middle);
        if (header.append_time_us >= time_us) {
            high = header.base_offset < low ? low : header.base_offset;
            is_sparse = (header.attributes & BATCH_SPARSE) != 0;
            near = false;
        } else {
            low = batch_end_offset(&header);
            step = 2 * (step > header.record_count ? step : header.record_count);
        }
    }
    err = is_sparse ? skip_early_records(log, time_us, &low, info) : ERR_OK;
    *ret_offset = low;
    return err;
}

enum err seek_time(struct log *log, int64_t time_us, uint64_t *ret_offset, struct err_info *info)
{
    return search(log, time_us, log_start(log), log_end(log), false, ret_offset, info);
}

/* With the topic's index of times, where it has one. */
static enum err seek_time_indexed(struct seek *self)
{
    const struct lookup_query query = {.since_us = self->time_us};
    uint64_t start = log_start(self->log);
    uint64_t end = log_end(self->log);
    uint64_t low = start;

    if (self->lookup != NULL && self->time_us != 0 && start < end) {
        struct lookup_answer answer;

        /* Times never go down: where nothing matches, all is before it. */
        lookup_next(self->lookup, self->topic, &query, start, end, &answer);
        low = answer.from;
    }
    return search(self->log, self->time_us, low, end, low > start, &self->offset, &self->info);
}

void seek_run(struct seek *self)
{
    ASSERT(self->block == NULL);
    ASSERT(self->log != NULL);
    self->info.text[0] = '\0';
    if (self->by_time) {
        self->err = seek_time_indexed(self);
    } else if (self->filter != NULL) {
        seek_filter(self);
    } else {
        self->err = log_read(self->log, self->offset, self->end_max, self->size_max, &self->block,
                             &self->end, &self->info);
    }
}

void seek_fini(struct seek *self)
{
    block_unref(self->block);
    self->block = NULL;
}
