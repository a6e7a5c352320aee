/*
 * A budget: bytes of memory that many owners on several threads share.
 *
 * Who is going to need memory takes its size from the budget first, and gives the same back when
 * the memory is free. Who gets none waits, in a way of its own, and asks again. NULL stands for a
 * budget without a bound.
 *
 * A piece of more than an eighth leaves a quarter free: who asks for much, and keeps it for long,
 * is not in the way of those who ask for little. It passes in any case while no more than an eighth
 * is taken.
 *
 * Invariants:
 *   B1  What is taken with budget_take is at most size_max and an eighth; or one piece that is
 *       larger than size_max, and an eighth.
 */
#ifndef QUORLOG_BASE_BUDGET_H
#define QUORLOG_BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
    atomic_size_t used; /* bytes */
    size_t size_max;
};

void budget_init(struct budget *self, size_t size_max);

/* Any thread. False: there is not so much now; nothing was taken. */
bool budget_take(struct budget *self, size_t size);

/* Any thread. For what cannot wait: past the bound, too. */
void budget_take_always(struct budget *self, size_t size);

/* Any thread. */
void budget_give(struct budget *self, size_t size);

/* Any thread. More than half is taken: who can do with less, should. */
bool budget_scarce(const struct budget *self);

/* Any thread. Bytes that are taken. */
size_t budget_used(const struct budget *self);

#endif
