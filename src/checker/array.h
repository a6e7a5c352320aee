/*
 * Arrays that grow by half, so that little of their memory lies idle.
 */
#ifndef QUORLOG_CHECKER_ARRAY_H
#define QUORLOG_CHECKER_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"

/* items: owned, NULL while capacity is 0. Room for `more` items behind `count` of them. ERR_NOMEM:
 * nothing changed. */
static inline enum err array_reserve(void **items, size_t item_size, size_t count, size_t more,
                                     size_t *capacity)
{
    size_t wanted = count + more;
    size_t grown = *capacity + *capacity / 2;
    void *larger;

    ASSERT(count <= *capacity);
    ASSERT(wanted >= count);
    if (wanted <= *capacity) {
        return ERR_OK;
    }
    if (grown < wanted) {
        grown = wanted < 8 ? 8 : wanted;
    }
    larger = reallocarray(*items, grown, item_size);
    if (larger == NULL) {
        return ERR_NOMEM;
    }
    *items = larger;
    *capacity = grown;
    return ERR_OK;
}

/* An array of a struct's members NAME, NAME_count, NAME_capacity. */
#define ARRAY(type, name)                                                                          \
    type *name;                                                                                    \
    size_t name##_count;                                                                           \
    size_t name##_capacity

#define ARRAY_RESERVE(self, name, more)                                                            \
    array_reserve((void **)&(self)->name, sizeof *(self)->name, (self)->name##_count, (more),      \
                  &(self)->name##_capacity)

#endif
