#include "base/budget.h"

#include <stdint.h>

#include "base/assert.h"

void budget_init(struct budget *self, size_t size_max)
{
    ASSERT(size_max > 0);
    atomic_init(&self->used, 0);
    self->size_max = size_max;
}

static bool has_room(const struct budget *self, size_t used, size_t size)
{
    size_t eighth = self->size_max / 8;
    size_t most = size > eighth ? self->size_max - 2 * eighth : self->size_max;

    return (size <= most && used <= most - size) || used <= eighth; /* B1 */
}

bool budget_take(struct budget *self, size_t size)
{
    size_t used;

    if (self == NULL) {
        return true;
    }
    ASSERT(size <= SIZE_MAX / 2);
    /* Nothing is published with it: it is a count. */
    used = atomic_load_explicit(&self->used, memory_order_relaxed);
    do {
        if (!has_room(self, used, size)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&self->used, &used, used + size,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void budget_take_always(struct budget *self, size_t size)
{
    if (self != NULL) {
        (void)atomic_fetch_add_explicit(&self->used, size, memory_order_relaxed);
    }
}

void budget_give(struct budget *self, size_t size)
{
    size_t used;

    if (self == NULL) {
        return;
    }
    used = atomic_fetch_sub_explicit(&self->used, size, memory_order_relaxed);
    ASSERT(used >= size);
}

bool budget_scarce(const struct budget *self)
{
    return self != NULL && budget_used(self) > self->size_max / 2;
}

size_t budget_used(const struct budget *self)
{
    return self == NULL ? 0 : atomic_load_explicit(&self->used, memory_order_relaxed);
}
