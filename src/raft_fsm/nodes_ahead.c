#include "raft_fsm/nodes_ahead.h"

#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/command.h"

void nodes_ahead_init(struct nodes_ahead *self)
{
    *self = (struct nodes_ahead){0};
}

void nodes_ahead_fini(struct nodes_ahead *self)
{
    free(self->items);
    nodes_ahead_init(self);
}

uint64_t nodes_ahead_find(const struct nodes_ahead *self, uint64_t id)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->items[i].node.id == id) {
            return self->items[i].node.disk_id;
        }
    }
    return 0;
}

/* Room for all that the entries bind, so that nothing can fail half way. */
static enum err reserve(struct nodes_ahead *self, const struct entry *entries, size_t count)
{
    size_t more = 0;
    struct node_ahead *items;
    struct node_disk node;

    for (size_t i = 0; i < count; i++) {
        size_t position = 0;

        while (
            entries[i].type == ENTRY_COMMAND &&
            command_next_binding(entry_payload(&entries[i]), entries[i].size, &position, &node)) {
            more++;
        }
    }
    if (self->count + more <= self->capacity) {
        return ERR_OK;
    }
    items = realloc(self->items, (self->count + more) * sizeof *items);
    if (items == NULL) {
        return ERR_NOMEM;
    }
    self->items = items;
    self->capacity = self->count + more;
    return ERR_OK;
}

/* Keeps those in (applied, first). */
static void forget(struct nodes_ahead *self, uint64_t applied, uint64_t first)
{
    size_t kept = 0;

    for (size_t i = 0; i < self->count; i++) {
        if (self->items[i].index > applied && self->items[i].index < first) {
            self->items[kept++] = self->items[i];
        }
    }
    self->version += kept != self->count ? 1 : 0;
    self->count = kept; /* I2 */
}

enum err nodes_ahead_append(struct nodes_ahead *self, const struct entry *entries, size_t count,
                            uint64_t applied)
{
    enum err err = reserve(self, entries, count);

    if (err != ERR_OK || count == 0) {
        return err;
    }
    forget(self, applied, entries[0].index);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        struct node_disk node;
        size_t position = 0;

        ASSERT(entry->index == entries[0].index + i);
        while (entry->type == ENTRY_COMMAND && entry->index > applied &&
               command_next_binding(entry_payload(entry), entry->size, &position, &node)) {
            if (nodes_ahead_find(self, node.id) == 0) { /* I1 */
                ASSERT(self->count < self->capacity);
                self->items[self->count++] =
                    (struct node_ahead){.index = entry->index, .node = node};
                self->version++;
            }
        }
    }
    return ERR_OK;
}

void nodes_ahead_clear(struct nodes_ahead *self)
{
    self->version += self->count > 0 ? 1 : 0;
    self->count = 0;
}
