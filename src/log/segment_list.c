#include "log/segment_list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

void segment_list_init(struct segment_list *self)
{
    *self = (struct segment_list){0};
    ASSERT(pthread_mutex_init(&self->lock, NULL) == 0);
}

void segment_list_fini(struct segment_list *self)
{
    for (size_t i = 0; i < self->count; i++) {
        segment_unref(self->items[i]);
    }
    free(self->items);
    ASSERT(pthread_mutex_destroy(&self->lock) == 0);
}

static void lock(struct segment_list *self)
{
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
}

static void unlock(struct segment_list *self)
{
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
}

enum err segment_list_reserve(struct segment_list *self)
{
    size_t capacity = self->capacity == 0 ? 8 : self->capacity * 2;
    struct segment **items;
    struct segment **old;

    ASSERT(self->count <= self->capacity);
    if (self->count < self->capacity) {
        return ERR_OK;
    }
    items = calloc(capacity, sizeof(struct segment *));
    if (items == NULL) {
        return ERR_NOMEM;
    }
    lock(self);
    old = self->items;
    if (self->count > 0) {
        memcpy(items, old, self->count * sizeof(struct segment *));
    }
    self->items = items;
    self->capacity = capacity;
    unlock(self);
    free(old);
    return ERR_OK;
}

void segment_list_push(struct segment_list *self, struct segment *segment)
{
    lock(self);
    ASSERT(self->count < self->capacity);
    ASSERT(
        IMPLIES(self->count > 0, segment->base_offset > self->items[self->count - 1]->base_offset));
    self->items[self->count] = segment;
    self->count += 1;
    unlock(self);
}

void segment_list_replace_last(struct segment_list *self, struct segment *segment)
{
    struct segment *old;

    lock(self);
    ASSERT(self->count > 0);
    old = self->items[self->count - 1];
    ASSERT(old->base_offset == segment->base_offset);
    self->items[self->count - 1] = segment;
    unlock(self);
    segment_unref(old);
}

void segment_list_splice(struct segment_list *self, size_t at, size_t removed,
                         struct segment *segment)
{
    size_t added = segment == NULL ? 0 : 1;
    struct segment *old = NULL;

    ASSERT(removed <= 1 && at + removed <= self->count);
    ASSERT(self->count + added - removed <= self->capacity);
    lock(self);
    if (removed > 0) {
        old = self->items[at];
    }
    memmove(self->items + at + added, self->items + at + removed,
            (self->count - at - removed) * sizeof self->items[0]);
    if (segment != NULL) {
        self->items[at] = segment;
    }
    self->count = self->count + added - removed;
    unlock(self);
    segment_unref(old);
}

void segment_list_merge(struct segment_list *self, size_t at, size_t count, struct segment *segment)
{
    ASSERT(count > 0 && at + count <= self->count);
    lock(self);
    for (size_t i = 0; i < count; i++) {
        struct segment *old = self->items[at + i];

        ASSERT(old->base_offset >= segment->base_offset && old->end_offset <= segment->end_offset);
        segment_unref(old);
    }
    memmove(self->items + at + 1, self->items + at + count,
            (self->count - at - count) * sizeof self->items[0]);
    self->items[at] = segment;
    self->count -= count - 1;
    unlock(self);
}

struct segment *segment_list_pop_back(struct segment_list *self)
{
    struct segment *segment;

    lock(self);
    ASSERT(self->count > 0);
    self->count -= 1;
    segment = self->items[self->count];
    self->items[self->count] = NULL;
    unlock(self);
    return segment;
}

struct segment *segment_list_pop_front(struct segment_list *self)
{
    struct segment *segment;

    lock(self);
    ASSERT(self->count > 0);
    segment = self->items[0];
    self->count -= 1;
    memmove(self->items, self->items + 1, self->count * sizeof(struct segment *));
    self->items[self->count] = NULL;
    unlock(self);
    return segment;
}

void segment_list_set_bounds(struct segment_list *self, uint64_t start, uint64_t end)
{
    ASSERT(start <= end);
    lock(self);
    atomic_store_explicit(&self->start, start, memory_order_release);
    atomic_store_explicit(&self->end, end, memory_order_release);
    unlock(self);
}

void segment_list_exchange(struct segment_list *self, struct segment_list *empty,
                           struct segment *segment, uint64_t next_offset)
{
    struct segment **items = empty->items;
    size_t capacity = empty->capacity;

    ASSERT(empty->count == 0 && capacity > 0);
    ASSERT(segment->base_offset == next_offset);
    items[0] = segment;
    lock(self);
    empty->items = self->items;
    empty->count = self->count;
    empty->capacity = self->capacity;
    self->items = items;
    self->count = 1;
    self->capacity = capacity;
    atomic_store_explicit(&self->start, next_offset, memory_order_release);
    atomic_store_explicit(&self->end, next_offset, memory_order_release);
    unlock(self);
}

struct segment *segment_list_last(const struct segment_list *self)
{
    ASSERT(self->count > 0);
    return self->items[self->count - 1];
}

size_t segment_list_count_from(const struct segment_list *self, uint64_t offset)
{
    size_t low = 0;
    size_t high = self->count;

    /* Segments below `low` begin at or below offset, those from `high` on above it. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->items[middle]->base_offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t segment_list_locate(const struct segment_list *self, uint64_t offset)
{
    size_t count = segment_list_count_from(self, offset);

    ASSERT(count > 0);
    return count - 1;
}

bool segment_list_gap(const struct segment_list *self, size_t at, struct segment_gap *ret_gap)
{
    uint64_t start = atomic_load_explicit(&self->start, memory_order_acquire);
    uint64_t end = atomic_load_explicit(&self->end, memory_order_acquire);
    uint64_t from = at == 0 ? start : self->items[at - 1]->end_offset;
    uint64_t to = at == self->count ? end : self->items[at]->base_offset;

    ASSERT(at <= self->count);
    from = from < start ? start : from;
    to = to > end ? end : to; /* Readers may look while the end moves. */
    if (from >= to) {
        return false;
    }
    *ret_gap = (struct segment_gap){.from = from, .to = to};
    return true;
}

size_t segment_list_gaps(struct segment_list *self, uint64_t after, struct segment_gap *ret_gaps,
                         size_t max)
{
    size_t count = 0;
    size_t first;

    lock(self);
    /* A hole before this segment, or an earlier one, ends at or below `after`. */
    first = segment_list_count_from(self, after);
    for (size_t at = first; at <= self->count; at++) {
        struct segment_gap gap;

        if (!segment_list_gap(self, at, &gap) || gap.to <= after) {
            continue;
        }
        if (count < max) {
            ret_gaps[count] = gap;
        }
        count += 1;
    }
    unlock(self);
    return count;
}

bool segment_list_last_is_shared(struct segment_list *self)
{
    struct segment *last;
    bool shared;

    lock(self);
    last = segment_list_last(self);
    shared = atomic_load_explicit(&last->refs, memory_order_acquire) > 1 ||
             atomic_load_explicit(&last->store->refs, memory_order_acquire) > 1;
    unlock(self);
    return shared;
}

/* The one that holds offset, in [start, end): NULL when it is in a hole. */
static struct segment *find_held(const struct segment_list *self, uint64_t offset)
{
    size_t count = segment_list_count_from(self, offset);
    struct segment *segment = count == 0 ? NULL : self->items[count - 1];

    return segment != NULL &&
                   offset < atomic_load_explicit(&segment->end_offset, memory_order_acquire)
               ? segment
               : NULL;
}

static enum err no_segment(enum err err, uint64_t offset, uint64_t start, uint64_t end,
                           struct err_info *info)
{
    if (err == ERR_HOLE) {
        return err_set(info, err, "offset %" PRIu64 " is missing on this node's disk", offset);
    }
    return err_set(info, err, "offset %" PRIu64 " is %s; the log holds [%" PRIu64 ", %" PRIu64 ")",
                   offset, err == ERR_RANGE ? "out of range" : "not there yet", start, end);
}

enum err segment_list_find(struct segment_list *self, uint64_t offset, uint64_t end_max,
                           struct segment **ret_segment, uint64_t *ret_limit, struct err_info *info)
{
    struct segment *segment = NULL;
    uint64_t start;
    uint64_t end;
    enum err err = ERR_OK;

    lock(self); /* I1 */
    start = atomic_load_explicit(&self->start, memory_order_acquire);
    end = atomic_load_explicit(&self->end, memory_order_acquire);
    if (offset < start || offset > end) {
        err = ERR_RANGE;
    } else if (offset == end || offset >= end_max) {
        err = ERR_AGAIN;
    } else {
        segment = find_held(self, offset);
        err = segment == NULL ? ERR_HOLE : ERR_OK;
    }
    if (err == ERR_OK) {
        uint64_t limit = atomic_load_explicit(&segment->end_offset, memory_order_acquire);

        limit = limit < end ? limit : end;
        *ret_segment = segment_ref(segment);
        *ret_limit = limit < end_max ? limit : end_max;
    }
    unlock(self);
    return err == ERR_OK ? ERR_OK : no_segment(err, offset, start, end, info);
}

uint64_t segment_list_count_within(struct segment_list *self, uint64_t from, uint64_t to)
{
    uint64_t within = 0;
    uint64_t start;
    uint64_t end;

    lock(self); /* I1 */
    start = atomic_load_explicit(&self->start, memory_order_acquire);
    end = atomic_load_explicit(&self->end, memory_order_acquire);
    from = from < start ? start : from;
    to = to > end ? end : to;
    if (from < to) {
        size_t at = segment_list_count_from(self, from);

        for (at -= at > 0 ? 1 : 0; at < self->count && self->items[at]->base_offset < to; at++) {
            const struct segment *segment = self->items[at];
            uint64_t base = segment->base_offset < start ? start : segment->base_offset;
            uint64_t limit = atomic_load_explicit(&segment->end_offset, memory_order_acquire);

            limit = limit < end ? limit : end;
            within += base < limit && base >= from && limit <= to ? 1 : 0;
        }
    }
    unlock(self);
    return within;
}

enum err segment_list_snapshot(struct segment_list *self, struct segment ***ret_segments,
                               size_t *ret_count, uint64_t *ret_start, uint64_t *ret_end)
{
    struct segment **segments = NULL;
    size_t count = 0;
    enum err err = ERR_OK;

    lock(self);
    *ret_start = atomic_load_explicit(&self->start, memory_order_acquire);
    *ret_end = atomic_load_explicit(&self->end, memory_order_acquire);
    if (*ret_start < *ret_end && self->count > 0) {
        size_t first = segment_list_count_from(self, *ret_start);

        first -= first > 0 ? 1 : 0;
        segments = calloc(self->count - first, sizeof(struct segment *));
        if (segments == NULL) {
            err = ERR_NOMEM;
        } else {
            for (size_t i = first; i < self->count; i++) {
                segments[count] = segment_ref(self->items[i]);
                count += 1;
            }
        }
    }
    unlock(self);
    if (err == ERR_OK) {
        *ret_segments = segments;
        *ret_count = count;
    }
    return err;
}
