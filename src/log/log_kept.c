/*
 * A segment that stays readable when it is no part of the log any more.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "log/log_internal.h"

struct log_kept {
    struct segment *segment; /* owned reference, and a pin of its files */
};

enum err log_keep(struct log *self, uint64_t offset, struct log_kept **ret_kept,
                  struct err_info *info)
{
    struct log_kept *kept = malloc(sizeof *kept);
    const struct index *index;
    uint64_t end;
    enum err err;

    if (kept == NULL) {
        return err_set(info, ERR_NOMEM, "keep a segment of '%s': out of memory", self->dir);
    }
    err = segment_list_find(&self->list, offset, UINT64_MAX, &kept->segment, &end, info);
    if (err == ERR_OK) {
        err = segment_pin(kept->segment, &index, info);
        if (err != ERR_OK) {
            segment_unref(kept->segment);
        }
    }
    if (err != ERR_OK) {
        free(kept);
        return err;
    }
    *ret_kept = kept;
    return ERR_OK;
}

void log_kept_free(struct log_kept *kept)
{
    if (kept != NULL) {
        segment_unpin(kept->segment);
        segment_unref(kept->segment);
        free(kept);
    }
}

uint64_t log_kept_end(const struct log_kept *kept)
{
    return atomic_load_explicit(&kept->segment->end_offset, memory_order_acquire);
}

enum err log_kept_read(const struct log_kept *kept, uint64_t offset, size_t size_max,
                       struct block **ret_batches, uint64_t *ret_end_offset, struct err_info *info)
{
    const struct segment_query query = {
        .offset = offset, .end_max = log_kept_end(kept), .size_max = size_max};

    ASSERT(offset >= kept->segment->base_offset && offset < query.end_max);
    return segment_read(kept->segment, &query, ret_batches, ret_end_offset, info);
}
