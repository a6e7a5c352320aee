#include "checker/ranges.h"

#include <stdlib.h>

#include "base/assert.h"

enum err ranges_init(struct ranges *self, size_t count)
{
    *self = (struct ranges){.count = count, .nodes = malloc((2 * count + 1) * sizeof(uint64_t))};
    if (self->nodes == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < 2 * count; i++) {
        self->nodes[i] = UINT64_MAX;
    }
    return ERR_OK;
}

void ranges_fini(struct ranges *self)
{
    free(self->nodes);
    *self = (struct ranges){0};
}

static void lower(uint64_t *node, uint64_t number)
{
    if (number < *node) {
        *node = number;
    }
}

void ranges_put(struct ranges *self, size_t at, uint64_t number)
{
    ASSERT(at < self->count);
    for (size_t node = at + self->count; node > 0; node /= 2) {
        lower(&self->nodes[node], number);
    }
}

uint64_t ranges_smallest(const struct ranges *self, size_t from, size_t to)
{
    uint64_t smallest = UINT64_MAX;

    ASSERT(from <= to && to <= self->count);
    for (from += self->count, to += self->count; from < to; from /= 2, to /= 2) {
        if (from % 2 == 1) {
            lower(&smallest, self->nodes[from++]);
        }
        if (to % 2 == 1) {
            lower(&smallest, self->nodes[--to]);
        }
    }
    return smallest;
}

void ranges_cover(struct ranges *self, size_t from, size_t to, uint64_t number)
{
    ASSERT(from <= to && to <= self->count);
    for (from += self->count, to += self->count; from < to; from /= 2, to /= 2) {
        if (from % 2 == 1) {
            lower(&self->nodes[from++], number);
        }
        if (to % 2 == 1) {
            lower(&self->nodes[--to], number);
        }
    }
}

uint64_t ranges_at(const struct ranges *self, size_t at)
{
    uint64_t smallest = UINT64_MAX;

    ASSERT(at < self->count);
    for (size_t node = at + self->count; node > 0; node /= 2) {
        lower(&smallest, self->nodes[node]);
    }
    return smallest;
}
