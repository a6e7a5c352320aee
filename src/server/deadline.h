/*
 * Deadlines: many moments, of which the next is wanted. A binary heap of pointers into their
 * owners; setting and cancelling cost O(log n).
 *
 * Invariant D1: heap[i]->place == i + 1, and no entry is earlier than its parent, heap[(i - 1) /
 * 2].
 */
#ifndef QUORLOG_SERVER_DEADLINE_H
#define QUORLOG_SERVER_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Embedded by its owner; all zero is "not set". */
struct deadline {
    uint64_t at_ms;
    size_t place; /* 0: not set */
    void (*passed)(struct deadline *deadline);
};

struct deadlines {
    struct deadline **heap; /* owned array */
    size_t count;
    size_t capacity;
};

void deadlines_fini(struct deadlines *self);

/* Sets or moves it. ERR_NOMEM, possible only when it was not set. */
enum err deadlines_set(struct deadlines *self, struct deadline *deadline, uint64_t at_ms);

/* One that is not set is fine. */
void deadlines_cancel(struct deadlines *self, struct deadline *deadline);

/* When the next one passes; UINT64_MAX: none is set. */
uint64_t deadlines_next_ms(const struct deadlines *self);

/* Takes out one that has passed at now_ms; NULL: none. */
struct deadline *deadlines_pop(struct deadlines *self, uint64_t now_ms);

/* ASSERTs D1. */
void deadlines_check(const struct deadlines *self);

#endif
