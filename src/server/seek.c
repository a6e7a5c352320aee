#include "server/seek.h"

#include "base/assert.h"

enum err seek_time(struct log *log, int64_t time_us, uint64_t *ret_offset, struct err_info *info)
{
    uint64_t low = log_start(log);
    uint64_t high = log_end(log);

    /* All batches below low are older than time_us, all from high on are not. */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
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
        } else {
            low = batch_end_offset(&header);
        }
    }
    *ret_offset = low;
    return ERR_OK;
}

void seek_run(struct seek *self)
{
    ASSERT(self->block == NULL);
    ASSERT(self->log != NULL);
    self->info.text[0] = '\0';
    if (self->by_time) {
        self->err = seek_time(self->log, self->time_us, &self->offset, &self->info);
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
