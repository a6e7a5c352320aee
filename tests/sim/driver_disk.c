#include "sim/driver_disk.h"

#include <stdlib.h>

#include "base/assert.h"

void snapshot_ref(const struct snapshot *self)
{
    block_ref(self->membership.block);
    block_ref(self->manifest.block);
}

void snapshot_unref(struct snapshot *self)
{
    block_unref(self->membership.block);
    block_unref(self->manifest.block);
    *self = (struct snapshot){0};
}

void disk_init(struct disk *self)
{
    *self = (struct disk){0};
    raft_driver_log_init(&self->log, 1);
}

static void pop(struct disk *self)
{
    struct disk_append *append = self->head;

    self->head = append->next;
    if (self->head == NULL) {
        self->tail = NULL;
    }
    self->queued--;
    for (unsigned i = 0; i < append->count; i++) {
        entry_unref(&append->entries[i]);
    }
    free(append->entries);
    free(append);
}

void disk_fini(struct disk *self)
{
    while (self->head != NULL) {
        pop(self);
    }
    snapshot_unref(&self->snapshot);
    raft_driver_log_fini(&self->log);
}

void disk_append(struct disk *self, const struct entry *entries, unsigned count)
{
    struct disk_append *append = calloc(1, sizeof *append);

    ASSERT(append != NULL && count > 0);
    append->entries = malloc(count * sizeof *append->entries);
    ASSERT(append->entries != NULL);
    append->count = count;
    for (unsigned i = 0; i < count; i++) {
        append->entries[i] = entries[i];
        entry_ref(&entries[i]);
    }
    if (self->tail == NULL) {
        self->head = append;
    } else {
        self->tail->next = append;
    }
    self->tail = append;
    self->queued++;
}

bool disk_write(struct disk *self)
{
    if (self->writing > 0 || self->queued == 0) {
        return false;
    }
    self->writing = self->queued;
    return true;
}

/* The first `count` entries of an append become durable. */
static void write_entries(struct disk *self, const struct disk_append *append, unsigned count)
{
    uint64_t first = append->entries[0].index;
    enum err err;

    if (count == 0 || append->skipped) {
        return;
    }
    ASSERT(first >= self->log.first && first <= raft_driver_log_last(&self->log) + 1);
    if (first <= raft_driver_log_last(&self->log)) {
        raft_driver_log_truncate(&self->log, first);
    }
    err = raft_driver_log_push(&self->log, append->entries, count);
    ASSERT(err == ERR_OK);
}

unsigned disk_written(struct disk *self)
{
    unsigned count = self->writing;

    ASSERT(count > 0);
    for (unsigned i = 0; i < count; i++) {
        write_entries(self, self->head, self->head->count);
        pop(self);
    }
    self->writing = 0;
    return count;
}

void disk_void(struct disk *self, bool skip)
{
    unsigned at = 0;

    for (struct disk_append *append = self->head; append != NULL; append = append->next) {
        append->skipped = skip && at++ >= self->writing;
    }
}

void disk_put_snapshot(struct disk *self, const struct snapshot *snapshot)
{
    ASSERT(snapshot->index > self->snapshot.index);
    snapshot_ref(snapshot);
    snapshot_unref(&self->snapshot);
    self->snapshot = *snapshot;
}

void disk_crash(struct disk *self, struct prng *prng)
{
    bool torn = false;

    for (unsigned i = 0; i < self->writing && !torn; i++) {
        unsigned count = self->head->count;

        if (prng_percent(prng, 50)) {
            count = (unsigned)prng_range(prng, 0, count);
            torn = count < self->head->count;
        }
        write_entries(self, self->head, count);
        pop(self);
    }
    while (self->head != NULL) {
        pop(self);
    }
    self->writing = 0;
}
