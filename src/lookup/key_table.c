#include "lookup/key_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 256 };

void key_table_init(struct key_table *self)
{
    *self = (struct key_table){0};
}

void key_table_fini(struct key_table *self)
{
    free(self->entries);
    free(self->before);
    free(self->buckets);
    key_table_init(self);
}

void key_table_clear(struct key_table *self)
{
    self->count = 0;
    if (self->capacity > 0) {
        memset(self->buckets, 0, self->capacity * sizeof *self->buckets);
    }
}

static void link_entry(struct key_table *self, size_t i)
{
    uint32_t *bucket = &self->buckets[self->entries[i].hash & (self->capacity - 1)];

    self->before[i] = *bucket;
    *bucket = (uint32_t)i + 1;
}

enum err key_table_reserve(struct key_table *self, size_t count)
{
    size_t capacity = self->capacity == 0 ? CAPACITY_MIN : self->capacity;
    struct key_table larger;

    while (capacity < self->count + count) {
        capacity *= 2;
    }
    ASSERT(capacity <= UINT32_MAX / 2);
    if (capacity == self->capacity) {
        return ERR_OK;
    }
    larger = (struct key_table){
        .entries = malloc(capacity * sizeof *larger.entries),
        .before = malloc(capacity * sizeof *larger.before),
        .buckets = calloc(capacity, sizeof *larger.buckets),
        .count = self->count,
        .capacity = capacity,
    };
    if (larger.entries == NULL || larger.before == NULL || larger.buckets == NULL) {
        key_table_fini(&larger);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < self->count; i++) {
        larger.entries[i] = self->entries[i];
        link_entry(&larger, i);
    }
    key_table_fini(self);
    *self = larger;
    return ERR_OK;
}

void key_table_add(struct key_table *self, const struct key_entry *entry)
{
    ASSERT(self->count < self->capacity);
    ASSERT(self->count == 0 || self->entries[self->count - 1].offset < entry->offset);
    self->entries[self->count] = *entry;
    link_entry(self, self->count);
    self->count += 1;
}

static int compare_offsets(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* The chain goes from the newest down: of the oldest ones, the last count_max seen stay. */
void key_table_find(const struct key_table *self, struct key_find *find)
{
    size_t room = find->count_max - find->count;
    uint64_t *found = find->offsets + find->count;
    size_t seen = 0;
    uint32_t at;

    ASSERT(room > 0);
    if (self->count == 0) {
        return;
    }
    at = self->buckets[find->hash & (self->capacity - 1)];
    for (; at != 0; at = self->before[at - 1]) {
        const struct key_entry *entry = &self->entries[at - 1];

        if (entry->offset < find->from) {
            break;
        }
        if (entry->hash != find->hash || entry->offset >= find->to) {
            continue;
        }
        if (find->newest_first && seen == room) {
            find->more = true;
            break;
        }
        found[seen % room] = entry->offset;
        seen += 1;
    }
    if (find->newest_first || seen == 0) {
        find->count += seen;
        return;
    }
    find->more = find->more || seen > room;
    find->count += seen < room ? seen : room;
    qsort(found, seen < room ? seen : room, sizeof *found, compare_offsets);
}
