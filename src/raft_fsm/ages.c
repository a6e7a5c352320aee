#include "raft_fsm/ages.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { EXACTNESS = 100 }; /* a hundredth */

void ages_fini(struct ages *self)
{
    free(self->marks);
    *self = (struct ages){.marks = NULL};
}

static enum err make_room(struct ages *self)
{
    if (self->marks == NULL) {
        self->marks = calloc(AGES_MARKS_MAX, sizeof *self->marks);
    }
    return self->marks == NULL ? ERR_NOMEM : ERR_OK;
}

enum err ages_copy(const struct ages *self, struct ages *ret_copy)
{
    struct ages copy = {.age_us = self->age_us, .count = self->count};
    enum err err = ERR_OK;

    if (self->count > 0) {
        err = make_room(&copy);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (self->count > 0) {
        memcpy(copy.marks, self->marks, self->count * sizeof *copy.marks);
    }
    *ret_copy = copy;
    return ERR_OK;
}

/* Takes out marks without which what lies between their neighbours seems younger than it is by one
 * part in `exactness` at most. A mark stands for what lies between the one before and itself; then
 * the next one does. The first and the last one stay. */
static void thin(struct ages *self, uint64_t exactness)
{
    size_t kept = self->count > 0 ? 1 : 0;

    for (size_t i = 1; i < self->count; i++) {
        const struct ages_mark *mark = &self->marks[i];

        if (i + 1 < self->count) {
            const struct ages_mark *next = &self->marks[i + 1];
            uint64_t late_us = next->age_us - self->marks[kept - 1].age_us;

            if (late_us <= (self->age_us - next->age_us) / exactness) {
                continue;
            }
        }
        self->marks[kept++] = *mark;
    }
    self->count = kept;
}

enum err ages_add(struct ages *self, uint64_t raft_index, uint64_t elapsed_us)
{
    if (elapsed_us > AGES_ELAPSED_MAX_US) {
        return ERR_INVALID;
    }
    ASSERT(self->age_us <= UINT64_MAX - elapsed_us); /* half a million years */
    if (make_room(self) != ERR_OK) {
        return ERR_NOMEM;
    }
    self->age_us += elapsed_us;
    if (self->count > 0 && self->marks[self->count - 1].raft_index >= raft_index) {
        return ERR_OK; /* Two of one entry: the first one's will do. */
    }
    for (uint64_t exactness = EXACTNESS; self->count == AGES_MARKS_MAX && exactness > 0;
         exactness /= 2) {
        thin(self, exactness);
    }
    if (self->count == AGES_MARKS_MAX) { /* So young are they all: the newest one gives way. */
        self->count--;
    }
    self->marks[self->count++] =
        (struct ages_mark){.raft_index = raft_index, .age_us = self->age_us}; /* A1 */
    return ERR_OK;
}

enum err ages_restore(struct ages *self, uint64_t raft_index, uint64_t age_us)
{
    const struct ages_mark *last = self->count > 0 ? &self->marks[self->count - 1] : NULL;

    if (self->count == AGES_MARKS_MAX || age_us > self->age_us ||
        (last != NULL && (raft_index <= last->raft_index || age_us < last->age_us))) {
        return ERR_CORRUPT;
    }
    if (make_room(self) != ERR_OK) {
        return ERR_NOMEM;
    }
    self->marks[self->count++] = (struct ages_mark){.raft_index = raft_index, .age_us = age_us};
    return ERR_OK;
}

uint64_t ages_older_than(const struct ages *self, uint64_t age_us)
{
    size_t low = 0;
    size_t high = self->count;

    /* Marks below `low` are old enough, those from `high` on are not. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->age_us - self->marks[middle].age_us >= age_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : self->marks[low - 1].raft_index;
}

uint64_t ages_of(const struct ages *self, uint64_t raft_index)
{
    size_t low = 0;
    size_t high = self->count;

    /* Marks below `low` lie below raft_index. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->marks[middle].raft_index < raft_index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == self->count ? 0 : self->age_us - self->marks[low].age_us;
}

bool ages_equal(const struct ages *self, const struct ages *other)
{
    return self->age_us == other->age_us && self->count == other->count &&
           (self->count == 0 ||
            memcmp(self->marks, other->marks, self->count * sizeof *self->marks) == 0);
}

void ages_check(const struct ages *self)
{
    ASSERT(self->count <= AGES_MARKS_MAX);
    for (size_t i = 0; i < self->count; i++) { /* A1 */
        ASSERT(self->marks[i].age_us <= self->age_us);
        ASSERT(i == 0 || (self->marks[i].raft_index > self->marks[i - 1].raft_index &&
                          self->marks[i].age_us >= self->marks[i - 1].age_us));
    }
}
