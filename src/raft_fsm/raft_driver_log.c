#include "raft_fsm/raft_driver_log.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 64 };

static struct entry *slot(const struct raft_driver_log *self, size_t place)
{
    return &self->slots[(self->start + place) & (self->capacity - 1)];
}

void raft_driver_log_init(struct raft_driver_log *self, uint64_t first)
{
    ASSERT(first > 0);
    *self = (struct raft_driver_log){.first = first};
}

void raft_driver_log_fini(struct raft_driver_log *self)
{
    if (self->slots == NULL) {
        return;
    }
    raft_driver_log_reset(self, self->first);
    free(self->slots);
    self->slots = NULL;
    self->capacity = 0;
}

static enum err reserve(struct raft_driver_log *self, size_t count)
{
    size_t capacity = self->capacity == 0 ? CAPACITY_MIN : self->capacity;
    struct entry *slots;

    while (capacity < self->count + count) {
        ASSERT(capacity <= SIZE_MAX / 2 / sizeof *slots);
        capacity *= 2;
    }
    if (capacity == self->capacity) {
        return ERR_OK;
    }
    slots = malloc(capacity * sizeof *slots);
    if (slots == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < self->count; i++) {
        slots[i] = *slot(self, i);
    }
    free(self->slots);
    self->slots = slots;
    self->capacity = capacity;
    self->start = 0;
    return ERR_OK;
}

enum err raft_driver_log_push(struct raft_driver_log *self, const struct entry *entries,
                              unsigned count)
{
    enum err err = reserve(self, count);

    if (err != ERR_OK) {
        return err;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t last = raft_driver_log_last(self);

        ASSERT(entries[i].index == last + 1);                        /* L1 */
        ASSERT(entries[i].term >= raft_driver_log_term(self, last)); /* L2 */
        entry_ref(&entries[i]);
        *slot(self, self->count) = entries[i];
        self->count++;
        self->size += entry_frame_size(entries[i].size);
    }
    return ERR_OK;
}

static void drop(struct raft_driver_log *self, size_t place)
{
    struct entry *entry = slot(self, place);
    size_t size = entry_frame_size(entry->size);

    ASSERT(self->size >= size);
    self->size -= size;
    entry_unref(entry);
}

void raft_driver_log_truncate(struct raft_driver_log *self, uint64_t index)
{
    ASSERT(index >= self->first);
    ASSERT(index <= raft_driver_log_last(self));
    while (self->first + self->count > index) {
        drop(self, self->count - 1);
        self->count--;
    }
}

void raft_driver_log_drop_prefix(struct raft_driver_log *self, uint64_t index)
{
    ASSERT(index <= raft_driver_log_last(self) || index < self->first);
    while (self->first <= index) {
        drop(self, 0);
        self->start = (self->start + 1) & (self->capacity - 1);
        self->count--;
        self->first++;
    }
}

void raft_driver_log_reset(struct raft_driver_log *self, uint64_t first)
{
    ASSERT(first > 0);
    for (size_t i = 0; i < self->count; i++) {
        drop(self, i);
    }
    ASSERT(self->size == 0); /* L3 */
    self->count = 0;
    self->start = 0;
    self->first = first;
}

const struct entry *raft_driver_log_get(const struct raft_driver_log *self, uint64_t index)
{
    if (index < self->first || index - self->first >= self->count) {
        return NULL;
    }
    return slot(self, (size_t)(index - self->first));
}

uint64_t raft_driver_log_term(const struct raft_driver_log *self, uint64_t index)
{
    const struct entry *entry = raft_driver_log_get(self, index);

    return entry == NULL ? 0 : entry->term;
}

void raft_driver_log_check(const struct raft_driver_log *self, bool all)
{
    size_t size = 0;

    ASSERT(self->first > 0);
    ASSERT(self->count <= self->capacity);
    if (self->count == 0) {
        ASSERT(self->size == 0);
        return;
    }
    ASSERT(slot(self, 0)->index == self->first);
    ASSERT(slot(self, self->count - 1)->index == raft_driver_log_last(self));
    ASSERT(slot(self, 0)->term <= slot(self, self->count - 1)->term);
    if (!all) {
        return;
    }
    for (size_t i = 0; i < self->count; i++) {
        ASSERT(slot(self, i)->index == self->first + i);                        /* L1 */
        ASSERT(IMPLIES(i > 0, slot(self, i - 1)->term <= slot(self, i)->term)); /* L2 */
        size += entry_frame_size(slot(self, i)->size);
    }
    ASSERT(size == self->size); /* L3 */
}
