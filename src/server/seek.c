#include "server/seek.h"

#include "base/assert.h"

/* Of the batches of [low, high), the offset of the first one appended at or after time_us; high
 * when there is none. near: it is expected close to low. */
static enum err search(struct log *log, int64_t time_us, uint64_t low, uint64_t high, bool near,
                       uint64_t *ret_offset, struct err_info *info)
{
    uint64_t step = 1;

    /* All batches below low are older than time_us, all from high on are not. */
    while (low < high) {
        uint64_t half = (high - low) / 2;
        uint64_t middle = low + (near && step - 1 < half ? step - 1 : half);
        struct batch_header header;
        enum err err = log_read_header(log, middle, &header, info);

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
            near = false;
        } else {
            low = batch_end_offset(&header);
            step = 2 * (step > header.record_count ? step : header.record_count);
        }
    }
    *ret_offset = low;
    return ERR_OK;
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
