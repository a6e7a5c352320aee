#include "mutations.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { NEW_VALUE = 1000000007 };

/* ---- finding a place ---- */

typedef bool (*op_test)(const struct story *story, const struct history_op *op);

/* An operation of which this is true, from a place by chance on; NULL: none. */
static struct history_op *find(struct story *story, struct random *random, op_test test)
{
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        if (test(story, op)) {
            return op;
        }
    }
    return NULL;
}

static bool same_topic(const struct history_op *a, const struct history_op *b)
{
    return a->topic != NULL && b->topic != NULL && strcmp(a->topic, b->topic) == 0;
}

static bool is_kind(const struct history_op *op, enum history_kind kind)
{
    return op->kind == kind && op->outcome == HISTORY_OK;
}

static uint64_t end_of(const struct history_op *op)
{
    return op->offset + op->value_count;
}

/* Where the dumps of the operation's topic begin, or UINT64_MAX: there are none. */
static uint64_t final_start(const struct story *story, const struct history_op *op)
{
    for (size_t i = 0; i < story->count; i++) {
        if (story->ops[i].kind == HISTORY_DUMP && same_topic(&story->ops[i], op)) {
            return story->ops[i].log_start;
        }
    }
    return UINT64_MAX;
}

static uint64_t final_end(const struct story *story, const struct history_op *op)
{
    for (size_t i = 0; i < story->count; i++) {
        if (story->ops[i].kind == HISTORY_DUMP && same_topic(&story->ops[i], op)) {
            return story->ops[i].log_end;
        }
    }
    return 0;
}

/* It is in the dumps, whole. */
static bool is_held(const struct story *story, const struct history_op *op)
{
    return is_kind(op, HISTORY_PRODUCE) && op->offset >= final_start(story, op);
}

static bool is_held_plain(const struct story *story, const struct history_op *op)
{
    return is_held(story, op) && op->producer_id == 0;
}

static bool is_held_of_producer(const struct story *story, const struct history_op *op)
{
    return is_held(story, op) && op->producer_id != 0;
}

static bool is_refused(const struct story *story, const struct history_op *op)
{
    return op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_FAIL &&
           final_start(story, op) != UINT64_MAX;
}

static bool is_read_with_values(const struct story *story, const struct history_op *op)
{
    return (is_kind(op, HISTORY_READ) || is_kind(op, HISTORY_DELIVERY)) && op->value_count > 0 &&
           op->offset >= final_start(story, op) && final_start(story, op) != UINT64_MAX;
}

static bool is_dump_with_values(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_DUMP) && op->value_count > 0;
}

/* Where a value stands in any dump; false: nowhere. */
static bool stands(const struct story *story, uint64_t value)
{
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        for (size_t k = 0; op->kind == HISTORY_DUMP && k < op->value_count; k++) {
            if (op->values[k] == value) {
                return true;
            }
        }
    }
    return false;
}

/* ---- changing what nodes hold in the end ---- */

/* Changes a record in all dumps of the topic. */
static void put(struct story *story, const char *topic, uint64_t offset, uint64_t value)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_DUMP && strcmp(op->topic, topic) == 0 && offset >= op->offset &&
            offset < end_of(op)) {
            story_values(op)[offset - op->offset] = value;
        }
    }
}

static uint64_t held_at(const struct story *story, const char *topic, uint64_t offset)
{
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_DUMP && strcmp(op->topic, topic) == 0 && offset >= op->offset &&
            offset < end_of(op)) {
            return op->values[offset - op->offset];
        }
    }
    return 0;
}

/* Makes all nodes hold these records more, at their ends. */
static void put_behind(struct story *story, const char *topic, const uint64_t *values, size_t count)
{
    size_t dumps = story->count;

    for (size_t i = 0; i < dumps; i++) {
        struct history_op op = story->ops[i];

        if (op.kind != HISTORY_DUMP || strcmp(op.topic, topic) != 0) {
            continue;
        }
        story->ops[i].log_end += count;
        if (end_of(&op) == op.log_end) {
            op.offset = op.log_end;
            op.log_end += count;
            op.values = values;
            op.value_count = count;
            (void)story_add(story, &op);
        }
    }
}

/* Makes all nodes hold the record at this offset no more; what is behind it moves up. */
static void take_out(struct story *story, const char *topic, uint64_t offset)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind != HISTORY_DUMP || strcmp(op->topic, topic) != 0) {
            continue;
        }
        op->log_end--;
        if (offset < op->offset) {
            op->offset--;
        } else if (offset < end_of(op)) {
            size_t at = offset - op->offset;

            memmove(story_values(op) + at, op->values + at + 1,
                    (op->value_count - at - 1) * sizeof op->values[0]);
            op->value_count--;
        }
    }
}

/* ---- records ---- */

static bool drop_acknowledged(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);

    if (op == NULL) {
        return false;
    }
    take_out(story, op->topic, op->offset + random_below(random, op->value_count));
    return true;
}

static bool drop_the_newest(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_dump_with_values);
    uint64_t value;

    if (op == NULL) {
        return false;
    }
    value = held_at(story, op->topic, op->log_end - 1);
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *produce = &story->ops[i];

        if (is_kind(produce, HISTORY_PRODUCE) && same_topic(produce, op) &&
            produce->values[produce->value_count - 1] == value) {
            take_out(story, op->topic, op->log_end - 1);
            return true;
        }
    }
    return false;
}

static bool double_at_the_end(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);

    if (op == NULL) {
        return false;
    }
    put_behind(story, op->topic, op->values, op->value_count);
    return true;
}

static bool swap_two(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);
    uint64_t other;
    uint64_t value;

    if (op == NULL || final_end(story, op) - final_start(story, op) < 2) {
        return false;
    }
    other = op->offset > final_start(story, op) ? op->offset - 1 : end_of(op);
    if (other >= final_end(story, op)) {
        return false;
    }
    value = held_at(story, op->topic, other);
    put(story, op->topic, other, op->values[0]);
    put(story, op->topic, op->offset, value);
    return true;
}

static bool shift_answer(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);

    if (op == NULL) {
        return false;
    }
    op->offset +=
        random_chance(random, 50) || op->offset == final_start(story, op) ? 1 : (uint64_t)-1;
    op->has_expect = false;
    return true;
}

static bool wrong_duplicate(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held_of_producer);

    if (op == NULL) {
        return false;
    }
    op->duplicate = true;
    op->has_expect = false;
    op->offset += 1 + random_below(random, 3);
    return true;
}

static bool phantom_read(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_read_with_values);

    if (op == NULL) {
        return false;
    }
    story_values(op)[random_below(random, op->value_count)] = NEW_VALUE;
    return true;
}

static bool phantom_held(struct story *story, struct random *random)
{
    uint64_t value = NEW_VALUE;
    struct history_op *op = find(story, random, is_dump_with_values);

    if (op == NULL) {
        return false;
    }
    put_behind(story, op->topic, &value, 1);
    return true;
}

static bool damaged_record(struct story *story, struct random *random)
{
    struct history_op *op =
        find(story, random, random_chance(random, 50) ? is_read_with_values : is_dump_with_values);

    if (op == NULL) {
        return false;
    }
    story_values(op)[random_below(random, op->value_count)] = 0;
    return true;
}

static bool resurrect_refused(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_refused);

    if (op == NULL) {
        return false;
    }
    put_behind(story, op->topic, op->values, op->value_count);
    return true;
}

static bool read_refused(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_refused);
    struct history_op *read = find(story, random, is_read_with_values);

    if (op == NULL || read == NULL || !same_topic(op, read)) {
        return false;
    }
    story_values(read)[0] = op->values[0];
    return true;
}

static bool torn_batch(struct story *story, struct random *random)
{
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_UNKNOWN && op->value_count > 1 &&
            final_start(story, op) == 0 && !stands(story, op->values[0])) {
            size_t from = random_below(random, 2);

            put_behind(story, op->topic, op->values + from, op->value_count - 1);
            return true;
        }
    }
    return false;
}

/* Another record between a batch's. */
static bool split_batch(struct story *story, struct random *random)
{
    (void)random;
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];
        uint64_t end = final_end(story, op);

        if (op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_UNKNOWN && op->value_count > 1 &&
            end > 0 && final_start(story, op) == 0 && !stands(story, op->values[0])) {
            struct history_op other = {.kind = HISTORY_PRODUCE,
                                       .outcome = HISTORY_UNKNOWN,
                                       .client = 99,
                                       .topic = op->topic,
                                       .invoke_us = op->invoke_us};
            uint64_t value = NEW_VALUE;
            uint64_t values[3] = {op->values[0], NEW_VALUE, op->values[1]};
            const char *topic = op->topic;

            other.values = &value;
            other.value_count = 1;
            story_set_values(op, (uint64_t[2]){values[0], values[2]}, 2);
            (void)story_add(story, &other);
            put_behind(story, topic, values, 3);
            return true;
        }
    }
    return false;
}

static bool end_within_batch(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);
    struct history_op read;

    if (op == NULL || op->value_count < 2) {
        return false;
    }
    read = (struct history_op){
        .kind = HISTORY_READ,
        .client = 99,
        .invoke_us = op->invoke_us,
        .return_us = op->return_us,
        .topic = op->topic,
        .offset = op->offset + 1,
        .log_start = final_start(story, op),
        .log_end = op->offset + 1,
    };
    read.log_start = 0;
    (void)story_add(story, &read);
    return true;
}

static bool two_answers(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_held);
    struct history_op op;
    uint64_t value = NEW_VALUE;

    /* Of a topic that nobody can look at any more, it is one answer against the other. */
    for (size_t i = 0; i < story->count && random_chance(random, 50); i++) {
        if (is_kind(&story->ops[i], HISTORY_PRODUCE) &&
            final_start(story, &story->ops[i]) == UINT64_MAX) {
            found = &story->ops[i];
        }
    }
    if (found == NULL) {
        return false;
    }
    op = *found;
    op.client = 99;
    op.producer_id = 0;
    op.duplicate = false;
    op.has_expect = false;
    op.values = &value;
    op.value_count = 1;
    (void)story_add(story, &op);
    return true;
}

static bool expect_elsewhere(struct story *story, struct random *random)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (is_held(story, op) && op->has_expect) {
            op->expect_offset += 1 + random_below(random, 2);
            return true;
        }
    }
    return false;
}

static bool swap_tokens(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_held);
    struct history_op *b = find(story, random, is_held);
    uint64_t token;

    if (a == NULL || !same_topic(a, b) || a->token == b->token) {
        return false;
    }
    token = a->token;
    a->token = b->token;
    b->token = token;
    return true;
}

static bool swap_times(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_held_plain);
    struct history_op *b = find(story, random, is_held_plain);
    struct history_op before;

    if (a == NULL || !same_topic(a, b) || a->return_us >= b->invoke_us) {
        return false;
    }
    before = *a;
    a->invoke_us = b->invoke_us;
    a->return_us = b->return_us;
    b->invoke_us = before.invoke_us;
    b->return_us = before.return_us;
    return true;
}

static bool read_before_written(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held);
    struct history_op *read = find(story, random, is_read_with_values);

    if (op == NULL || read == NULL || !same_topic(op, read) || read->log_end <= op->offset ||
        op->invoke_us < 2) {
        return false;
    }
    read->return_us = op->invoke_us - 1;
    read->invoke_us = read->invoke_us < read->return_us ? read->invoke_us : read->return_us;
    return true;
}

/* ---- producers ---- */

static bool producer_gap(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_held_of_producer);

    if (op == NULL || final_start(story, op) != 0) {
        return false;
    }
    op->producer_sequence += 1 + (uint32_t)random_below(random, 4);
    return true;
}

static bool producer_reorder(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_held_of_producer);
    struct history_op *b = find(story, random, is_held_of_producer);
    uint32_t sequence;

    if (a == NULL || a == b || !same_topic(a, b) || a->producer_id != b->producer_id) {
        return false;
    }
    sequence = a->producer_sequence;
    a->producer_sequence = b->producer_sequence;
    b->producer_sequence = sequence;
    return true;
}

static bool producer_repeat(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_held_of_producer);
    struct history_op op;
    uint64_t value = NEW_VALUE;

    if (found == NULL) {
        return false;
    }
    op = *found;
    op.sequence += 1000000;
    op.invoke_us = op.return_us = story->ops[story->count - 1].invoke_us;
    op.offset = final_end(story, found);
    op.token = 0;
    op.duplicate = false;
    op.has_expect = false;
    op.values = &value;
    op.value_count = 1;
    (void)story_add(story, &op);
    put_behind(story, op.topic, &value, 1);
    return true;
}

/* An instance that a newer one has fenced writes on. */
static bool fenced_writes(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_held_of_producer);
    struct history_op *b = find(story, random, is_held_of_producer);

    if (a == NULL || !same_topic(a, b) || a->producer_id != b->producer_id ||
        a->offset >= b->offset || a->epoch == 0) {
        return false;
    }
    b->epoch = a->epoch - 1;
    return true;
}

/* ---- copies ---- */

static bool diverge_one_replica(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_dump_with_values);
    uint64_t value;

    if (a == NULL || a->value_count < 2) {
        return false;
    }
    value = a->values[0];
    story_values(a)[0] = a->values[1];
    story_values(a)[1] = value;
    return true;
}

static bool short_replica(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_dump_with_values);
    uint32_t node;
    const char *topic;

    if (found == NULL) {
        return false;
    }
    node = found->node;
    topic = found->topic;
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_DUMP && op->node == node && strcmp(op->topic, topic) == 0) {
            op->value_count -= end_of(op) == op->log_end;
            op->log_end--;
        }
    }
    return true;
}

static bool hole_in_replica(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_dump_with_values);

    if (op == NULL) {
        return false;
    }
    if (random_chance(random, 50)) {
        op->value_count--; /* The last one of a piece. */
    } else {
        story_remove(story, (size_t)(op - story->ops));
    }
    return true;
}

static bool piece_twice(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_dump_with_values);
    struct history_op op;

    if (found == NULL) {
        return false;
    }
    op = *found;
    (void)story_add(story, &op);
    return true;
}

static bool missing_dump(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_held);
    bool all = random_chance(random, 50);
    uint32_t node = 1 + (uint32_t)random_below(random, 3);
    const char *topic;

    if (found == NULL) {
        return false;
    }
    topic = found->topic;
    for (size_t i = story->count; i > 0; i--) {
        const struct history_op *op = &story->ops[i - 1];

        if (op->kind == HISTORY_DUMP && strcmp(op->topic, topic) == 0 &&
            (all || op->node == node)) {
            story_remove(story, i - 1);
        }
    }
    return true;
}

static bool is_deleted(const struct story *story, const struct history_op *op)
{
    (void)story;
    return op->kind == HISTORY_EVENT && op->event == HISTORY_EVENT_DELETED;
}

static bool deleted_comes_back(struct story *story, struct random *random)
{
    struct history_op *deleted = find(story, random, is_deleted);
    struct history_op op = {.kind = HISTORY_DUMP};

    if (deleted == NULL) {
        return false;
    }
    op.topic = deleted->topic;
    op.invoke_us = deleted->return_us + 1;
    for (op.node = 1; op.node <= 3; op.node++) {
        (void)story_add(story, &op);
    }
    return true;
}

static bool log_start_moves(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_dump_with_values);
    const char *topic;
    uint64_t start;

    if (found == NULL) {
        return false;
    }
    topic = found->topic;
    start = found->log_start;
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind != HISTORY_DUMP || strcmp(op->topic, topic) != 0) {
            continue;
        }
        op->log_start++;
        if (op->offset == start && op->value_count > 0) {
            memmove(story_values(op), op->values + 1, (op->value_count - 1) * sizeof op->values[0]);
            op->offset++;
            op->value_count--;
        }
    }
    return true;
}

/* ---- reads ---- */

static bool is_linearizable(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_READ) && op->mode == HISTORY_READ_LINEARIZABLE;
}

static bool is_max_lag(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_READ) && op->mode == HISTORY_READ_MAX_LAG &&
           op->invoke_us >= op->lag_us;
}

static bool is_token_read(const struct story *story, const struct history_op *op)
{
    (void)story;
    return (is_kind(op, HISTORY_READ) || is_kind(op, HISTORY_DELIVERY)) && op->at_least != 0;
}

static bool is_read(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_READ);
}

/* The read shows the log as it was before this produce. */
static void make_stale(struct history_op *read, const struct history_op *produce)
{
    read->log_end = produce->offset;
    read->log_start = 0;
    read->offset = 0;
    read->value_count = 0;
}

static bool stale_linearizable(struct story *story, struct random *random)
{
    struct history_op *read = find(story, random, is_linearizable);
    struct history_op *op = find(story, random, is_held);

    if (read == NULL || op == NULL || !same_topic(read, op) || op->return_us >= read->invoke_us) {
        return false;
    }
    make_stale(read, op);
    return true;
}

/* What an earlier read of anybody has shown, acknowledged or not, is there. */
static bool stale_behind_read(struct story *story, struct random *random)
{
    struct history_op *read = find(story, random, is_linearizable);
    struct history_op *earlier = find(story, random, is_read);

    if (read == NULL || !same_topic(read, earlier) || earlier->log_end == 0 ||
        earlier->return_us >= read->invoke_us) {
        return false;
    }
    read->log_end = earlier->log_end - 1;
    read->value_count = 0;
    return true;
}

static bool stale_token_read(struct story *story, struct random *random)
{
    struct history_op *read = find(story, random, is_token_read);
    struct history_op *op = find(story, random, is_held);

    if (read == NULL || op == NULL || !same_topic(read, op) || op->token > read->at_least) {
        return false;
    }
    make_stale(read, op);
    return true;
}

static bool stale_max_lag(struct story *story, struct random *random)
{
    struct history_op *read = find(story, random, is_max_lag);
    struct history_op *op = find(story, random, is_held);

    if (read == NULL || op == NULL || !same_topic(read, op) ||
        op->return_us >= read->invoke_us - read->lag_us) {
        return false;
    }
    make_stale(read, op);
    return true;
}

static bool session_goes_back(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_read_with_values);
    struct history_op *b = find(story, random, is_read);

    if (a == NULL || b == NULL || a == b || !same_topic(a, b) || a->client != b->client ||
        a->sequence >= b->sequence || a->return_us > b->invoke_us) {
        return false;
    }
    b->log_start = 0;
    b->offset = 0;
    b->value_count = 0;
    b->log_end = end_of(a) - 1;
    return true;
}

static bool beyond_the_end(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_read);

    if (op == NULL || final_start(story, op) == UINT64_MAX) {
        return false;
    }
    op->log_end = final_end(story, op) + 1 + random_below(random, 9);
    return true;
}

static bool out_of_bounds(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_read_with_values);

    if (op == NULL) {
        return false;
    }
    if (random_chance(random, 50)) {
        op->log_end = op->offset;
    } else {
        op->log_start = op->offset + 1;
    }
    return true;
}

static bool read_of_another_offset(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_read_with_values);

    if (op == NULL || op->offset == final_start(story, op)) {
        return false;
    }
    op->offset--; /* An index that is off by one. */
    return true;
}

/* One that others of its stream come before and after. */
static bool is_inner_delivery(const struct story *story, const struct history_op *op)
{
    unsigned before = 0;
    unsigned after = 0;

    for (size_t i = 0; is_kind(op, HISTORY_DELIVERY) && i < story->count; i++) {
        const struct history_op *other = &story->ops[i];

        if (is_kind(other, HISTORY_DELIVERY) && other->stream == op->stream) {
            before += other->sequence < op->sequence;
            after += other->sequence > op->sequence;
        }
    }
    return before > 0 && after > 0 && op->value_count > 0;
}

static bool stream_gap(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_inner_delivery);

    if (op == NULL) {
        return false;
    }
    story_remove(story, (size_t)(op - story->ops));
    return true;
}

static bool stream_repeat(struct story *story, struct random *random)
{
    struct history_op *found = find(story, random, is_inner_delivery);
    struct history_op op;

    if (found == NULL) {
        return false;
    }
    op = *found;
    (void)story_add(story, &op);
    return true;
}

/* ---- cursors ---- */

static bool is_set(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_CURSOR) && op->verb == HISTORY_CURSOR_SET;
}

static bool is_exchange(const struct story *story, const struct history_op *op)
{
    return is_set(story, op) && op->has_expect_revision && op->expect_revision != 0;
}

static bool is_get(const struct story *story, const struct history_op *op)
{
    (void)story;
    return is_kind(op, HISTORY_CURSOR) && op->verb == HISTORY_CURSOR_GET && op->revision != 0;
}

static bool same_cursor(const struct history_op *a, const struct history_op *b)
{
    return same_topic(a, b) && strcmp(a->cursor, b->cursor) == 0;
}

static bool revision_again(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_set);
    struct history_op *b = find(story, random, is_set);

    if (a == NULL || a == b) {
        return false;
    }
    b->revision = a->revision;
    return true;
}

static bool lost_update(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_exchange);
    struct history_op *b = find(story, random, is_exchange);

    if (a == NULL || a == b || !same_cursor(a, b)) {
        return false;
    }
    b->expect_revision = a->expect_revision;
    return true;
}

/* The cursor had been changed by somebody in between. */
static bool exchange_of_old(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_set);
    struct history_op *between = find(story, random, is_set);
    struct history_op *b = find(story, random, is_exchange);

    if (a == NULL || b == NULL || !same_cursor(a, b) || !same_cursor(a, between) ||
        a->token >= between->token || between->token >= b->token) {
        return false;
    }
    b->expect_revision = a->revision;
    return true;
}

static bool made_though_there(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_set);
    struct history_op *b = find(story, random, is_exchange);

    if (a == NULL || b == NULL || b->expect_revision != a->revision || !same_cursor(a, b) ||
        a->token >= b->token) {
        return false;
    }
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_CURSOR && op->verb == HISTORY_CURSOR_DELETE && same_cursor(op, a) &&
            op->outcome != HISTORY_FAIL) {
            return false; /* It may just be true. */
        }
        if (is_set(story, op) && op != b && op->token == b->token && same_cursor(op, b)) {
            return false;
        }
    }
    b->expect_revision = 0;
    return true;
}

static bool refused_as_expected(struct story *story, struct random *random)
{
    (void)random;
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_CURSOR && op->outcome == HISTORY_FAIL && op->revision != 0 &&
            op->has_expect_revision) {
            op->expect_revision = op->revision;
            return true;
        }
    }
    return false;
}

static bool cursor_time_swapped(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_set);
    struct history_op *b = find(story, random, is_set);
    struct history_op before;

    if (a == NULL || !same_cursor(a, b) || a->return_us >= b->invoke_us) {
        return false;
    }
    before = *a;
    a->invoke_us = b->invoke_us;
    a->return_us = b->return_us;
    b->invoke_us = before.invoke_us;
    b->return_us = before.return_us;
    return true;
}

static bool cursor_elsewhere(struct story *story, struct random *random)
{
    struct history_op *get = find(story, random, is_get);
    struct history_op *set = find(story, random, is_set);

    if (get == NULL || set == NULL || get->revision != set->revision) {
        return false;
    }
    get->cursor_offset++;
    return true;
}

static bool cursor_of_nobody(struct story *story, struct random *random)
{
    struct history_op *get = find(story, random, is_get);

    if (get == NULL) {
        return false;
    }
    get->revision += (uint64_t)1 << 40;
    get->cursor_offset += (uint64_t)1 << 40;
    return true;
}

static bool stale_cursor(struct story *story, struct random *random)
{
    struct history_op *get = find(story, random, is_get);
    struct history_op *old = find(story, random, is_set);
    struct history_op *set = find(story, random, is_set);
    bool asked;

    if (get == NULL || old == NULL || !same_cursor(get, old) || !same_cursor(get, set) ||
        old->token >= set->token) {
        return false;
    }
    asked = get->at_least >= set->token ||
            (get->mode == HISTORY_READ_LINEARIZABLE && set->return_us < get->invoke_us);
    if (!asked) {
        return false;
    }
    get->revision = old->revision;
    get->cursor_offset = old->cursor_offset;
    return true;
}

static bool cursor_gone(struct story *story, struct random *random)
{
    struct history_op *get = find(story, random, is_get);
    struct history_op *set = find(story, random, is_set);

    if (get == NULL || set == NULL || !same_cursor(get, set) || get->at_least < set->token) {
        return false;
    }
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_CURSOR && op->verb == HISTORY_CURSOR_DELETE &&
            same_cursor(op, set) && op->outcome != HISTORY_FAIL) {
            return false;
        }
    }
    get->revision = 0;
    get->cursor_offset = 0;
    return true;
}

static bool cursor_seen_too_early(struct story *story, struct random *random)
{
    struct history_op *get = find(story, random, is_get);
    struct history_op *set = find(story, random, is_set);

    if (get == NULL || set == NULL || get->revision != set->revision || set->invoke_us < 2) {
        return false;
    }
    get->return_us = set->invoke_us - 1;
    get->invoke_us = get->invoke_us < get->return_us ? get->invoke_us : get->return_us;
    return true;
}

static bool cursor_beyond_the_end(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_set);

    if (op == NULL || final_start(story, op) == UINT64_MAX) {
        return false;
    }
    op->cursor_offset = final_end(story, op) + 1;
    return true;
}

/* ---- liveness, recorders ---- */

static void add_late_event(struct story *story, uint64_t after_us)
{
    struct history_op op = {.kind = HISTORY_EVENT,
                            .invoke_us = story->ops[story->count - 1].invoke_us + after_us};

    (void)story_add(story, &op);
}

static bool no_progress(struct story *story, struct random *random)
{
    uint64_t healed_us = UINT64_MAX;
    bool asked = false;
    bool late = random_chance(random, 50);

    for (size_t i = 0; i < story->count; i++) {
        if (story->ops[i].event == HISTORY_EVENT_HEALED) {
            healed_us = story->ops[i].invoke_us;
        }
    }
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (is_kind(op, HISTORY_PRODUCE) && op->return_us >= healed_us) {
            asked = true;
            if (late) {
                op->return_us += 31000000;
            } else {
                op->outcome = HISTORY_UNKNOWN;
            }
        }
    }
    add_late_event(story, 32000000);
    return asked;
}

static bool never_answered(struct story *story, struct random *random)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(i + random_below(random, 9)) % story->count];

        if (op->kind == HISTORY_PRODUCE && op->outcome == HISTORY_UNKNOWN) {
            op->return_us = 0;
            add_late_event(story, 61000000);
            return true;
        }
    }
    return false;
}

static bool too_many_unknown(struct story *story, struct random *random)
{
    uint64_t changes = 0;
    uint64_t unknown = 0;

    for (size_t i = 0; i < story->count; i++) {
        changes += story->ops[i].kind == HISTORY_PRODUCE || story->ops[i].kind == HISTORY_CURSOR;
    }
    while (unknown * 5 <= changes) {
        struct history_op *op = find(story, random, is_held);

        if (op == NULL) {
            return false;
        }
        op->outcome = HISTORY_UNKNOWN;
        unknown++;
    }
    return true;
}

static bool ends_before_it_begins(struct story *story, struct random *random)
{
    struct history_op *op = find(story, random, is_read);

    if (op == NULL || op->invoke_us < 2) {
        return false;
    }
    op->return_us = op->invoke_us - 1;
    return true;
}

static bool value_given_twice(struct story *story, struct random *random)
{
    struct history_op *a = find(story, random, is_held);
    struct history_op *b = find(story, random, is_held);

    if (a == NULL || a == b || !same_topic(a, b)) {
        return false;
    }
    story_values(a)[0] = b->values[0];
    return true;
}

const struct mutation mutations[] = {
    {"an acknowledged record is dropped", drop_acknowledged, RULE(DURABILITY) | RULE(EXACTLY_ONCE)},
    {"the newest acknowledged record is dropped", drop_the_newest,
     RULE(DURABILITY) | RULE(EXACTLY_ONCE)},
    {"records stand twice", double_at_the_end, RULE(UNIQUE) | RULE(EXACTLY_ONCE)},
    {"two records are swapped", swap_two, RULE(DURABILITY) | RULE(EXACTLY_ONCE)},
    {"an answer is off by one", shift_answer, RULE(DURABILITY) | RULE(EXACTLY_ONCE)},
    {"a duplicate names another offset", wrong_duplicate, RULE(EXACTLY_ONCE)},
    {"a read shows what nobody wrote", phantom_read, RULE(INVENTION)},
    {"nodes hold what nobody wrote", phantom_held, RULE(INVENTION)},
    {"a record is damaged", damaged_record, RULE(INVENTION)},
    {"refused records are there", resurrect_refused, RULE(ABORTED)},
    {"a read shows refused records", read_refused, RULE(ABORTED)},
    {"a batch is torn", torn_batch, RULE(ATOMIC)},
    {"a record stands within a batch", split_batch, RULE(ATOMIC)},
    {"a read shows half a batch", end_within_batch, RULE(ATOMIC)},
    {"two leaders give one offset", two_answers, RULE(DURABILITY)},
    {"a conditional append is elsewhere", expect_elsewhere, RULE(EXPECT)},
    {"tokens are swapped", swap_tokens, RULE(TOKENS)},
    {"what is written later stands before", swap_times, RULE(REAL_TIME)},
    {"a record is read before it is written", read_before_written, RULE(REAL_TIME)},
    {"a producer has a gap", producer_gap, RULE(PRODUCER_ORDER)},
    {"a producer's batches change places", producer_reorder, RULE(PRODUCER_ORDER)},
    {"a producer's sequence comes again", producer_repeat, RULE(PRODUCER_ORDER)},
    {"a fenced producer writes on", fenced_writes, RULE(PRODUCER_ORDER)},
    {"a replica diverges", diverge_one_replica, RULE(AGREEMENT)},
    {"a replica is short", short_replica, RULE(CONVERGED)},
    {"a replica has a hole", hole_in_replica, RULE(DENSE) | RULE(DUMPS)},
    {"a replica has offsets twice", piece_twice, RULE(DENSE)},
    {"a dump is missing", missing_dump, RULE(DUMPS)},
    {"a deleted topic comes back", deleted_comes_back, RULE(DUMPS)},
    {"a log loses its start", log_start_moves, RULE(LOG_START)},
    {"a linearizable read is stale", stale_linearizable, RULE(LINEARIZABLE)},
    {"a linearizable read hides what was seen", stale_behind_read, RULE(LINEARIZABLE)},
    {"a token read is stale", stale_token_read, RULE(TOKEN_READ)},
    {"a max-lag read is stale", stale_max_lag, RULE(MAX_LAG)},
    {"a session goes back", session_goes_back, RULE(SESSION)},
    {"a read shows an end that never was", beyond_the_end, RULE(IMMUTABLE)},
    {"a read gives more than it shows", out_of_bounds, RULE(BOUNDS)},
    {"a read gives the records of another offset", read_of_another_offset, RULE(IMMUTABLE)},
    {"a stream has a gap", stream_gap, RULE(STREAM)},
    {"a stream repeats itself", stream_repeat, RULE(STREAM)},
    {"a revision comes again", revision_again, RULE(CURSOR_REVISION)},
    {"a cursor's change is lost", lost_update, RULE(CURSOR_SET)},
    {"a cursor is exchanged from an old one", exchange_of_old, RULE(CURSOR_SET)},
    {"a cursor is made though it is there", made_though_there, RULE(CURSOR_SET)},
    {"a change is refused that was right", refused_as_expected, RULE(CURSOR_SET)},
    {"a cursor's changes are out of order", cursor_time_swapped, RULE(CURSOR_ORDER)},
    {"a cursor is shown elsewhere", cursor_elsewhere, RULE(CURSOR_READ)},
    {"a cursor is shown as nobody set it", cursor_of_nobody, RULE(CURSOR_READ)},
    {"a cursor is shown as it was", stale_cursor, RULE(CURSOR_READ)},
    {"a cursor is gone", cursor_gone, RULE(CURSOR_READ)},
    {"a cursor is shown before it is set", cursor_seen_too_early, RULE(CURSOR_READ)},
    {"a cursor is beyond the end", cursor_beyond_the_end, RULE(CURSOR_SET)},
    {"nothing goes on after healing", no_progress, RULE(PROGRESS)},
    {"an operation hangs", never_answered, RULE(ANSWERED)},
    {"most outcomes are unknown", too_many_unknown, RULE(UNKNOWN_SHARE)},
    {"an operation ends before it begins", ends_before_it_begins, RULE(RECORDING)},
    {"a value is given to two records", value_given_twice, RULE(RECORDING)},
};

const size_t mutation_count = sizeof mutations / sizeof mutations[0];
