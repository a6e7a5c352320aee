/*
 * The invariants of a log, stated as code.
 */
#include "base/assert.h"
#include "log/log_internal.h"

/* Does `segment` lie behind `before`? */
static void check_touch(const struct segment *before, const struct segment *segment)
{
    ASSERT(before->end_offset <= segment->base_offset); /* I3 */
    ASSERT(before->end_offset > before->base_offset);
    if (segment_knows_stamps(before) && segment_knows_stamps(segment)) {
        ASSERT(before->last_raft_index <= segment->last_raft_index); /* I2 */
        ASSERT(before->last_append_time_us <= segment->last_append_time_us);
    }
    /* One that is neither sealed nor filling was active when damage was found in it. */
    ASSERT(IMPLIES(before->sealed, !before->filling));
}

void log_check(struct log *self)
{
    const struct segment_list *list = &self->list;
    const struct segment *before = NULL;
    uint64_t size = 0;

    ASSERT(list->count > 0 && list->count <= list->capacity);
    ASSERT(log_start(self) <= log_end(self)); /* I1 */
    for (size_t i = 0; i < list->count; i++) {
        const struct segment *segment = list->items[i];

        ASSERT(segment->store->generation == self->generation);
        ASSERT(IMPLIES(segment->sealed || segment->filling, i + 1 < list->count)); /* I3 */
        if (before != NULL) {
            check_touch(before, segment);
        }
        segment_check(segment); /* I1, I2, I4 */
        size += store_size(segment->store);
        before = segment;
    }
    ASSERT(before->end_offset == log_end(self)); /* I5 */
    ASSERT(size == log_size(self));
    ASSERT(list->count == log_segment_count(self));
    ASSERT(log_has_holes(self) == (segment_list_gaps(&self->list, 0, NULL, 0) > 0));
    ASSERT(IMPLIES(log_start(self) == log_end(self), !log_has_holes(self)));
}
