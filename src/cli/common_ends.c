#include "cli/common_ends.h"

#include <string.h>

#include "base/assert.h"

enum verdict {
    SAME,      /* at an end that is common to all */
    DIFFERENT, /* what was asked for last contradicts itself */
    NOWHERE,   /* there is no common end */
};

static bool same_stamps(const struct batch_header *a, const struct batch_header *b)
{
    return a->raft_index == b->raft_index && a->raft_term == b->raft_term &&
           a->append_time_us == b->append_time_us &&
           memcmp(a->digest, b->digest, sizeof a->digest) == 0;
}

static bool same_header(const struct batch_header *a, const struct batch_header *b)
{
    uint8_t left[BATCH_HEADER_SIZE];
    uint8_t right[BATCH_HEADER_SIZE];

    batch_header_encode(a, left);
    batch_header_encode(b, right);
    return memcmp(left, right, sizeof left) == 0;
}

/* Whether a, an original batch unless it is compacted, may be part of what b stands for. */
static bool may_be_part(const struct batch_header *a, const struct batch_header *b)
{
    return batch_is_compacted(a) ||
           (b->base_offset <= a->base_offset && batch_end_offset(b) >= batch_end_offset(a));
}

bool common_ends_agree(const struct batch_header *a, const struct batch_header *b)
{
    if (!batch_is_compacted(a) && !batch_is_compacted(b)) {
        return same_header(a, b);
    }
    if (batch_end_offset(a) == batch_end_offset(b) && !same_stamps(a, b)) {
        return false;
    }
    return may_be_part(a, b) && may_be_part(b, a);
}

static bool all_agree(const struct common_ends *self)
{
    for (unsigned i = 0; i < self->count; i++) {
        for (unsigned j = 0; j < i; j++) {
            const struct end_header *a = &self->copies[i];
            const struct end_header *b = &self->copies[j];

            if (a->known && b->known && !common_ends_agree(&a->header, &b->header)) {
                return false;
            }
        }
    }
    return true;
}

/* Of what was asked for last: the highest end. *ret_common: all end there. 0: nobody answered. */
static uint64_t highest_end(const struct common_ends *self, bool *ret_common)
{
    uint64_t highest = 0;

    *ret_common = true;
    for (unsigned i = 0; i < self->count; i++) {
        uint64_t end = self->copies[i].known ? batch_end_offset(&self->copies[i].header) : 0;

        *ret_common = *ret_common && (end == 0 || highest == 0 || end == highest);
        highest = end > highest ? end : highest;
    }
    return highest;
}

/* … where the lowest batch begins, of those that end above `end`; `end` when there is none. */
static uint64_t lowest_base(const struct common_ends *self, uint64_t end)
{
    uint64_t lowest = end;

    for (unsigned i = 0; i < self->count; i++) {
        const struct batch_header *header = &self->copies[i].header;

        if (self->copies[i].known && batch_end_offset(header) > end &&
            header->base_offset < lowest) {
            lowest = header->base_offset;
        }
    }
    return lowest;
}

/* The lowest common end above offset. */
static enum verdict look_up(const struct common_ends *self, uint64_t offset, uint64_t *ret_end)
{
    for (;;) {
        bool common;
        uint64_t end;

        self->ask(self->arg, offset);
        if (!all_agree(self)) {
            return DIFFERENT;
        }
        end = highest_end(self, &common);
        if (common) {
            *ret_end = end > offset ? end : offset + 1;
            return SAME;
        }
        if (end >= self->high) {
            return NOWHERE;
        }
        ASSERT(end > offset + 1); /* Else it would be common. */
        offset = end - 1;
    }
}

/* The highest common end at or below `high`. */
static enum verdict look_down(const struct common_ends *self, uint64_t *ret_end)
{
    uint64_t end = self->high;

    while (end > self->low) {
        uint64_t base;

        self->ask(self->arg, end - 1);
        if (!all_agree(self)) {
            return DIFFERENT;
        }
        base = lowest_base(self, end);
        if (base == end) {
            *ret_end = end;
            return SAME;
        }
        end = base;
    }
    return NOWHERE;
}

/* Something differs below high: what does first? *ret_offset: the last common end before it. */
static enum verdict search(const struct common_ends *self, uint64_t *ret_offset)
{
    uint64_t low = self->low;
    uint64_t high = self->high - 1;
    enum verdict verdict;
    uint64_t end = 0;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (look_up(self, middle, &end) == SAME) {
            low = end;
        } else {
            high = middle;
        }
    }
    *ret_offset = low < high ? low : high;
    verdict = look_up(self, high, &end);
    return verdict == NOWHERE ? look_down(self, &end) : verdict;
}

void common_ends_compare(const struct common_ends *self, struct common_ends_result *ret_result)
{
    struct common_ends_result result = {.end = self->low};
    enum verdict verdict = self->low < self->high ? look_down(self, &result.end) : NOWHERE;

    ASSERT(self->ask != NULL && self->copies != NULL);
    if (verdict == DIFFERENT) {
        result.end = self->low;
        /* Unless it changed meanwhile. */
        result.different = search(self, &result.offset) == DIFFERENT;
    }
    for (unsigned i = 0; i < self->count && verdict == SAME; i++) {
        if (self->copies[i].known) {
            memcpy(result.digest, self->copies[i].header.digest, sizeof result.digest);
        }
    }
    *ret_result = result;
}
