#include "base/assert.h"
#include "log/log_internal.h"

enum err log_extent_at(struct log *self, uint64_t offset, struct log_extent *ret_extent,
                       struct err_info *info)
{
    struct segment *segment;
    uint64_t limit;
    enum err err = segment_list_find(&self->list, offset, UINT64_MAX, &segment, &limit, info);

    if (err == ERR_OK) {
        ASSERT(segment->base_offset <= offset && offset < limit);
        *ret_extent = (struct log_extent){
            .base_offset = segment->base_offset,
            .end_offset = limit,
            .size = store_size(segment->store),
            .sealed = segment->sealed && !segment->filling,
        };
        segment_unref(segment);
    }
    return err;
}

uint64_t log_segments_within(struct log *self, uint64_t from, uint64_t to)
{
    return segment_list_count_within(&self->list, from, to);
}
