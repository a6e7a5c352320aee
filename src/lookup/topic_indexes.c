#include "lookup/topic_indexes.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lookup/key_merge.h"

enum err topic_indexes_new(const char *dir, struct topic *topic, struct topic_indexes **ret_indexes,
                           struct err_info *info)
{
    struct topic_indexes *self = calloc(1, sizeof *self);
    enum err err;
    int size;

    if (self == NULL || pthread_mutex_init(&self->lock, NULL) != 0) {
        free(self);
        return err_set(info, ERR_NOMEM, "no memory for the indexes of a topic");
    }
    size = snprintf(self->name, sizeof self->name, "%s-%" PRIu64, topic->name, topic->id);
    ASSERT(size > 0 && (size_t)size < sizeof self->name);
    atomic_init(&self->refs, 1);
    self->id = topic->id;
    time_table_init(&self->times);
    key_table_init(&self->keys);
    err = io_path(self->dir, dir, self->name, info);
    if (err != ERR_OK) {
        topic_indexes_unref(self);
        return err;
    }
    topic_ref(topic);
    self->topic = topic;
    *ret_indexes = self;
    return ERR_OK;
}

struct topic_indexes *topic_indexes_ref(struct topic_indexes *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void topic_indexes_unref(struct topic_indexes *self)
{
    if (self == NULL || atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ASSERT(self->merge == NULL);
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        struct part_list *parts = &self->kinds[kind].parts;

        while (parts->count > 0) {
            part_unref(part_list_remove(parts, parts->count - 1));
        }
        free(parts->items);
    }
    time_table_fini(&self->times);
    key_table_fini(&self->keys);
    free(self->hashes);
    topic_unref(self->topic);
    (void)pthread_mutex_destroy(&self->lock); /* nobody holds it */
    free(self);
}

void topic_indexes_lock(struct topic_indexes *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

void topic_indexes_unlock(struct topic_indexes *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

/* ---- files ---- */

struct part *part_new(const struct part_seal *seal)
{
    struct part *self = calloc(1, sizeof *self);

    if (self != NULL) {
        atomic_init(&self->refs, 1);
        atomic_init(&self->gone, false);
        self->seal = *seal;
        self->size = seal->body_size + PART_SEAL_SIZE;
    }
    return self;
}

struct part *part_ref(struct part *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void part_unref(struct part *self)
{
    if (self == NULL || atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ASSERT(self->users == 0);
    key_run_close(self->run);
    free(self);
}

size_t part_list_find(const struct part_list *self, uint64_t offset)
{
    size_t low = 0;
    size_t high = self->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->items[middle]->seal.end_offset > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

enum err part_list_add(struct part_list *self, struct part *part)
{
    size_t at = part_list_find(self, part->seal.base_offset);

    if (at < self->count && self->items[at]->seal.base_offset < part->seal.end_offset) {
        return ERR_EXISTS; /* I1 */
    }
    if (self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? 16 : 2 * self->capacity;
        struct part **items = realloc(self->items, capacity * sizeof(struct part *));

        if (items == NULL) {
            return ERR_NOMEM;
        }
        self->items = items;
        self->capacity = capacity;
    }
    memmove(self->items + at + 1, self->items + at, (self->count - at) * sizeof(struct part *));
    self->items[at] = part;
    self->count += 1;
    return ERR_OK;
}

struct part *part_list_remove(struct part_list *self, size_t at)
{
    struct part *part = self->items[at];

    ASSERT(at < self->count);
    self->count -= 1;
    memmove(self->items + at, self->items + at + 1, (self->count - at) * sizeof(struct part *));
    return part;
}

bool kind_index_covered(const struct kind_index *self, uint64_t offset, uint64_t *ret_from,
                        uint64_t *ret_to)
{
    const struct fresh *fresh = &self->fresh;
    size_t at = part_list_find(&self->parts, offset);
    bool has_fresh = fresh->base < fresh->end && fresh->end > offset;

    if (at < self->parts.count &&
        (!has_fresh || self->parts.items[at]->seal.base_offset < fresh->base)) {
        const struct part_seal *seal = &self->parts.items[at]->seal;

        *ret_from = seal->base_offset > offset ? seal->base_offset : offset;
        *ret_to = seal->end_offset;
        return true;
    }
    if (has_fresh) {
        *ret_from = fresh->base > offset ? fresh->base : offset;
        *ret_to = fresh->end;
    }
    return has_fresh;
}

uint64_t kind_index_missing(const struct kind_index *self, struct log *log, uint64_t offset)
{
    uint64_t end = log_end(log);
    uint64_t from;
    uint64_t to;

    while (offset < end) {
        struct log_hole hole;

        if (kind_index_covered(self, offset, &from, &to) && from == offset) {
            offset = to;
        } else if (log_has_holes(log) && log_holes(log, offset, &hole, 1) == 1 &&
                   hole.from <= offset) {
            offset = hole.to;
        } else {
            return offset;
        }
    }
    return end;
}
