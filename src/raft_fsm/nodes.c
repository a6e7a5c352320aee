#include "raft_fsm/nodes.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* The place of the first whose id is not below. */
static unsigned place(const struct nodes *self, uint64_t id)
{
    unsigned low = 0;
    unsigned high = self->count;

    ASSERT(self->count <= NODES_MAX);
    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (self->list[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum err nodes_copy(const struct nodes *self, struct nodes **ret_copy)
{
    struct nodes *copy = malloc(sizeof *copy);

    ASSERT(self->count <= NODES_MAX);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    *copy = *self;
    *ret_copy = copy;
    return ERR_OK;
}

uint64_t nodes_find(const struct nodes *self, uint64_t id)
{
    unsigned at = place(self, id);

    return at < self->count && self->list[at].id == id ? self->list[at].disk_id : 0;
}

enum err nodes_bind(struct nodes *self, uint64_t id, uint64_t disk_id)
{
    unsigned at = place(self, id);

    if (id == 0 || disk_id == 0) {
        return ERR_INVALID;
    }
    if (at < self->count && self->list[at].id == id) {
        return ERR_EXISTS;
    }
    if (self->count == NODES_MAX) {
        return ERR_LIMIT;
    }
    memmove(&self->list[at + 1], &self->list[at], (self->count - at) * sizeof self->list[0]);
    self->list[at] = (struct node_disk){.id = id, .disk_id = disk_id};
    self->count++;
    ASSERT(nodes_find(self, id) == disk_id);
    return ERR_OK;
}
