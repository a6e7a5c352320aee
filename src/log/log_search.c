/*
 * Searches: by halves, over what never goes down from batch to batch.
 */
#include <inttypes.h>

#include "base/assert.h"
#include "log/log_internal.h"

enum err log_find_raft_index(struct log *self, uint64_t raft_index, uint64_t *ret_offset,
                             struct err_info *info)
{
    uint64_t low = log_start(self);
    uint64_t high = log_end(self);

    /* All batches below low are of entries up to raft_index, all from high on of later ones. */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct batch_header header;
        enum err err = log_read_header(self, middle, &header, info);

        if (err == ERR_RANGE && log_start(self) > low) {
            low = log_start(self); /* The front went meanwhile. */
            high = high < low ? low : high;
            continue;
        }
        if (err != ERR_OK) {
            return err;
        }
        ASSERT(header.base_offset <= middle && batch_end_offset(&header) > middle);
        if (header.raft_index > raft_index) {
            high = header.base_offset < low ? low : header.base_offset;
        } else {
            low = batch_end_offset(&header);
        }
    }
    *ret_offset = low;
    return ERR_OK;
}

/* In [low, high), a run of one segment that holds no hole: the first batch that begins at
 * `position` or behind it; high when there is none. */
static enum err find_position(struct log *self, uint64_t low, uint64_t high, uint64_t position,
                              uint64_t *ret_offset, struct err_info *info)
{
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct log_chunk chunk;
        uint64_t at;
        enum err err = log_find(self, middle, UINT64_MAX, 1, &chunk, info);

        if (err != ERR_OK) {
            return err;
        }
        at = chunk.position;
        if (at >= position) {
            high = chunk.base_offset < low ? low : chunk.base_offset;
        } else {
            low = chunk.end_offset;
        }
        log_chunk_release(&chunk);
    }
    *ret_offset = low;
    return ERR_OK;
}

/* The first offset of the last batch. */
static enum err find_last(struct log *self, uint64_t *ret_offset, struct err_info *info)
{
    uint64_t end = log_end(self);
    struct batch_header header;
    enum err err;

    if (end == log_start(self)) {
        *ret_offset = end;
        return ERR_OK;
    }
    err = log_read_header(self, end - 1, &header, info);
    if (err == ERR_OK) {
        *ret_offset = header.base_offset;
    }
    return err;
}

enum err log_find_size(struct log *self, uint64_t size_max, uint64_t *ret_offset,
                       struct err_info *info)
{
    uint64_t start = log_start(self);
    uint64_t end = log_end(self);
    uint64_t found = end;
    uint64_t size = 0; /* of the segments behind the one that is looked at */
    uint64_t last = 0;
    bool cut = false;
    enum err err = find_last(self, &last, info);

    for (size_t i = self->list.count; i > 0 && err == ERR_OK && !cut; i--) {
        const struct segment *segment = self->list.items[i - 1];
        uint64_t base = segment->base_offset < start ? start : segment->base_offset;
        uint64_t all = store_size(segment->store) - STORE_HEADER_SIZE;

        if (segment->end_offset != found) {
            return err_set(info, ERR_HOLE, "offsets below %" PRIu64 " are missing on this node",
                           found);
        }
        if (base < segment->end_offset && size + all > size_max) {
            uint64_t over = size + all - size_max; /* bytes of this one that are too many */

            cut = true;
            err = find_position(self, base, segment->end_offset, STORE_HEADER_SIZE + over, &found,
                                info);
        } else {
            size += all;
            found = base < found ? base : found;
        }
    }
    if (err == ERR_OK && found > start && !cut) {
        err = err_set(info, ERR_HOLE, "offsets below %" PRIu64 " are missing on this node", found);
    }
    if (err == ERR_OK) {
        *ret_offset = found < last ? found : last;
    }
    return err;
}
