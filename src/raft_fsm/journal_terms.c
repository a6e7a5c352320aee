#include "raft_fsm/journal_terms.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 16 };

void journal_terms_fini(struct journal_terms *self)
{
    free(self->runs);
    *self = (struct journal_terms){.runs = NULL};
}

enum err journal_terms_set(struct journal_terms *self, uint64_t index, uint64_t term)
{
    ASSERT(index > 0);
    while (self->count > 0 && self->runs[self->count - 1].first_index >= index) {
        self->count--;
    }
    if (self->count > 0 && self->runs[self->count - 1].term == term) {
        return ERR_OK;
    }
    if (self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? CAPACITY_MIN : self->capacity * 2;
        struct journal_term_run *runs = reallocarray(self->runs, capacity, sizeof *runs);

        if (runs == NULL) {
            return ERR_NOMEM;
        }
        self->runs = runs;
        self->capacity = capacity;
    }
    ASSERT(IMPLIES(self->count > 0, self->runs[self->count - 1].term < term));
    self->runs[self->count++] = (struct journal_term_run){.first_index = index, .term = term};
    return ERR_OK;
}

uint64_t journal_terms_get(const struct journal_terms *self, uint64_t index)
{
    size_t low = 0;
    size_t high = self->count; /* Runs at and above it begin above index. */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->runs[middle].first_index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? self->runs[low - 1].term : 0;
}

void journal_terms_trim(struct journal_terms *self, uint64_t index)
{
    size_t gone = 0;

    while (gone + 1 < self->count && self->runs[gone + 1].first_index <= index) {
        gone++;
    }
    if (gone > 0) {
        memmove(self->runs, self->runs + gone, (self->count - gone) * sizeof self->runs[0]);
        self->count -= gone;
    }
}

void journal_terms_clear(struct journal_terms *self)
{
    self->count = 0;
}
