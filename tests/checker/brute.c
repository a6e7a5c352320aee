#include "brute.h"

#include <string.h>

#include "base/assert.h"

enum { LOG_MAX = 64 };

struct search {
    const struct story *story;
    uint64_t log[LOG_MAX];
    size_t end;
    bool done[BRUTE_OPS_MAX];
};

static uint64_t earliest(const struct history_op *op)
{
    if (op->kind == HISTORY_PRODUCE || op->mode == HISTORY_READ_LINEARIZABLE) {
        return op->invoke_us;
    }
    if (op->mode == HISTORY_READ_MAX_LAG && op->invoke_us > op->lag_us) {
        return op->invoke_us - op->lag_us;
    }
    return 0;
}

static uint64_t latest(const struct history_op *op)
{
    return op->outcome == HISTORY_UNKNOWN ? UINT64_MAX : op->return_us;
}

static bool is_acknowledged(const struct history_op *op)
{
    return op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_OK;
}

/* Whether an acknowledged produce with a token below `token` is still to come. */
static bool waits_for_token(const struct search *self, uint64_t token)
{
    for (size_t i = 0; i < self->story->count; i++) {
        const struct history_op *op = &self->story->ops[i];

        if (is_acknowledged(op) && op->token < token && !self->done[i]) {
            return true;
        }
    }
    return false;
}

static bool producer_allows(const struct search *self, const struct history_op *op)
{
    uint32_t records = 0;

    if (op->producer_id == 0) {
        return true;
    }
    for (size_t i = 0; i < self->story->count; i++) {
        const struct history_op *other = &self->story->ops[i];

        if (self->done[i] && other->kind == HISTORY_PRODUCE &&
            other->producer_id == op->producer_id) {
            records += (uint32_t)other->value_count;
            if (other->epoch > op->epoch) {
                return false;
            }
        }
    }
    return records == op->producer_sequence;
}

static bool may_append(const struct search *self, const struct history_op *op)
{
    return op->outcome != HISTORY_FAIL && self->end + op->value_count <= LOG_MAX &&
           (op->outcome == HISTORY_UNKNOWN || op->offset == self->end) &&
           (!op->has_expect || op->expect_offset == self->end) && producer_allows(self, op) &&
           (op->outcome == HISTORY_UNKNOWN || !waits_for_token(self, op->token));
}

static bool may_show(const struct search *self, const struct history_op *op)
{
    if (op->at_least != 0 && waits_for_token(self, op->at_least + 1)) {
        return false;
    }
    /* One that shows no records may have been asked for any place. */
    return op->log_end == self->end &&
           (op->value_count == 0 || (op->offset + op->value_count <= self->end &&
                                     memcmp(self->log + op->offset, op->values,
                                            op->value_count * sizeof op->values[0]) == 0));
}

static bool dumps_agree(const struct search *self)
{
    for (size_t i = 0; i < self->story->count; i++) {
        const struct history_op *op = &self->story->ops[i];

        if (op->kind == HISTORY_DUMP &&
            (op->log_end != self->end || op->value_count != self->end ||
             (self->end > 0 &&
              (op->offset != 0 ||
               memcmp(op->values, self->log, self->end * sizeof self->log[0]) != 0)))) {
            return false;
        }
    }
    return true;
}

/* All that must have happened has. */
static bool is_complete(const struct search *self)
{
    for (size_t i = 0; i < self->story->count; i++) {
        const struct history_op *op = &self->story->ops[i];
        bool must =
            op->outcome == HISTORY_OK && (op->kind == HISTORY_PRODUCE || op->kind == HISTORY_READ);

        if (must && !self->done[i]) {
            return false;
        }
    }
    return dumps_agree(self);
}

/* The last thing happened at now_us. */
static bool search_on(struct search *self, uint64_t now_us)
{
    if (is_complete(self)) {
        return true;
    }
    for (size_t i = 0; i < self->story->count; i++) {
        const struct history_op *op = &self->story->ops[i];
        uint64_t at_us = earliest(op) > now_us ? earliest(op) : now_us;
        bool append = op->kind == HISTORY_PRODUCE;
        bool found;

        if (self->done[i] || (!append && op->kind != HISTORY_READ) || at_us > latest(op) ||
            !(append ? may_append(self, op) : may_show(self, op))) {
            continue;
        }
        self->done[i] = true;
        if (append) {
            memcpy(self->log + self->end, op->values, op->value_count * sizeof op->values[0]);
            self->end += op->value_count;
        }
        found = search_on(self, at_us);
        self->done[i] = false;
        self->end -= append ? op->value_count : 0;
        if (found) {
            return true;
        }
    }
    return false;
}

bool brute_decide(const struct story *story)
{
    struct search search = {.story = story};

    ASSERT(story->count <= BRUTE_OPS_MAX);
    return search_on(&search, 0);
}
