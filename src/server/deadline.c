#include "server/deadline.h"

#include <stdlib.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 64 };

void deadlines_fini(struct deadlines *self)
{
    ASSERT(self->count == 0);
    free(self->heap);
    *self = (struct deadlines){.count = 0};
}

static void put(struct deadlines *self, size_t at, struct deadline *deadline)
{
    ASSERT(at < self->count);
    self->heap[at] = deadline;
    deadline->place = at + 1; /* D1 */
}

/* Moves what is at `at` to where D1 holds. */
static void sift(struct deadlines *self, size_t at)
{
    struct deadline *deadline = self->heap[at];

    while (at > 0 && deadline->at_ms < self->heap[(at - 1) / 2]->at_ms) {
        put(self, at, self->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < self->count && self->heap[child + 1]->at_ms < self->heap[child]->at_ms) {
            child++;
        }
        if (child >= self->count || self->heap[child]->at_ms >= deadline->at_ms) {
            break;
        }
        put(self, at, self->heap[child]);
        at = child;
    }
    put(self, at, deadline);
}

enum err deadlines_set(struct deadlines *self, struct deadline *deadline, uint64_t at_ms)
{
    ASSERT(deadline->passed != NULL);
    if (deadline->place == 0 && self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? CAPACITY_MIN : self->capacity * 2;
        struct deadline **heap = realloc(self->heap, capacity * sizeof heap[0]);

        if (heap == NULL) {
            return ERR_NOMEM;
        }
        self->heap = heap;
        self->capacity = capacity;
    }
    deadline->at_ms = at_ms;
    if (deadline->place == 0) {
        self->count++;
        put(self, self->count - 1, deadline);
    }
    ASSERT(self->heap[deadline->place - 1] == deadline);
    sift(self, deadline->place - 1);
    return ERR_OK;
}

void deadlines_cancel(struct deadlines *self, struct deadline *deadline)
{
    size_t at = deadline->place;
    struct deadline *last;

    if (at == 0) {
        return;
    }
    ASSERT(at <= self->count && self->heap[at - 1] == deadline);
    last = self->heap[self->count - 1];
    self->count--;
    deadline->place = 0;
    if (last != deadline) {
        put(self, at - 1, last);
        sift(self, at - 1);
    }
}

uint64_t deadlines_next_ms(const struct deadlines *self)
{
    return self->count == 0 ? UINT64_MAX : self->heap[0]->at_ms;
}

struct deadline *deadlines_pop(struct deadlines *self, uint64_t now_ms)
{
    struct deadline *first = self->count == 0 ? NULL : self->heap[0];

    if (first == NULL || first->at_ms > now_ms) {
        return NULL;
    }
    deadlines_cancel(self, first);
    ASSERT(first->place == 0);
    return first;
}

void deadlines_check(const struct deadlines *self)
{
    ASSERT(self->count <= self->capacity);
    for (size_t i = 0; i < self->count; i++) {
        ASSERT(self->heap[i]->place == i + 1);
        ASSERT(IMPLIES(i > 0, self->heap[(i - 1) / 2]->at_ms <= self->heap[i]->at_ms));
    }
}
