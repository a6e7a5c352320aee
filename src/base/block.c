#include "base/block.h"

#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"

struct block *block_new(size_t size)
{
    struct block *self;

    ASSERT(size <= SIZE_MAX / 2);
    self = malloc(sizeof *self + size);
    if (self == NULL) {
        return NULL;
    }
    atomic_init(&self->refs, 1);
    self->size = size;
    return self;
}

struct block *block_ref(struct block *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void block_unref(struct block *self)
{
    unsigned before;

    if (self == NULL) {
        return;
    }
    before = atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1) {
        free(self);
    }
}
