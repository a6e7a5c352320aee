/*
 * Operations come in: what rules need of each is kept, small, with its topic; values that were seen
 * are compared at once with what stands at their offsets, and not kept.
 */
#include <string.h>

#include "checker/checker_internal.h"

static const char *const kind_names[] = {"produce", "read", "delivery", "cursor", "dump", "event"};

/* ERR_OK, or ERR_NOMEM. */
static enum err find_topic(struct checker *self, const char *name, struct topic **ret_topic)
{
    uint32_t number;
    enum err err = names_number(&self->topic_names, 0, name, &number);

    if (err != ERR_OK) {
        return err;
    }
    if (number >= self->topics_count) {
        ASSERT(number == self->topics_count);
        if (ARRAY_RESERVE(self, topics, 1) != ERR_OK) {
            return ERR_NOMEM;
        }
        self->topics[self->topics_count++] = (struct topic){
            .name = self->topic_names.items[number].text,
            .compact_asked_us = NEVER,
            .delete_asked_us = NEVER,
            .deleted_us = NEVER,
        };
    }
    *ret_topic = &self->topics[number];
    return ERR_OK;
}

/* Someone was shown this value at this offset. */
static enum err see(struct checker *self, struct topic *topic, bool dumped,
                    const struct suspect *seen)
{
    struct cell cell = cells_get(&topic->cells, seen->offset);
    bool same = cell.value == seen->value;

    tell_facts(self, dumped ? CHECKER_AGREEMENT : CHECKER_IMMUTABLE, 1);
    if (cell.value != 0 && !same) {
        bool copies = dumped && (cell.flags & CELL_DUMPED) != 0;

        tell(self, copies ? CHECKER_AGREEMENT : CHECKER_IMMUTABLE,
             "topic %s, offset %" PRIu64 ": line %" PRIu32 " shows record %" PRIu64
             ", line %" PRIu32 " %s record %" PRIu64,
             topic->name, seen->offset, cell.line, cell.value, seen->line,
             dumped ? "holds" : "shows", seen->value);
    }
    /* What a node holds in the end takes the place of what was only read. */
    if (cell.value != 0 && !same && topic->suspects_count < SUSPECTS_MAX) {
        bool displaced = dumped && (cell.flags & CELL_DUMPED) == 0;

        if (ARRAY_RESERVE(topic, suspects, 1) != ERR_OK) {
            return ERR_NOMEM;
        }
        topic->suspects[topic->suspects_count++] =
            displaced ? (struct suspect){seen->offset, cell.value, cell.line} : *seen;
    }
    if (cell.value == 0 || (dumped && (cell.flags & CELL_DUMPED) == 0)) {
        self->summary.records_held += dumped ? 1 : 0;
        cell = (struct cell){
            .value = seen->value, .line = seen->line, .flags = dumped ? CELL_DUMPED : 0};
        return cells_set(&topic->cells, seen->offset, cell);
    }
    return ERR_OK;
}

static uint64_t offset_of(const struct history_op *op, size_t at)
{
    return op->offset_count > 0 ? op->offsets[at] : op->offset + at;
}

static enum err note_gap(struct topic *topic, const struct history_op *op, uint32_t line,
                         uint64_t from, uint64_t to)
{
    bool dumped = op->kind == HISTORY_DUMP;

    if (from == to) {
        return ERR_OK;
    }
    if (ARRAY_RESERVE(topic, gaps, 1) != ERR_OK) {
        return ERR_NOMEM;
    }
    topic->gaps[topic->gaps_count++] = (struct gap){
        .from = from,
        .to = to,
        .log_end = dumped ? op->log_end : NOWHERE,
        .by_us = dumped ? op->invoke_us : op->return_us,
        .node = dumped ? op->node : 0,
        .line = line,
    };
    return ERR_OK;
}

static enum err note_gaps(struct topic *topic, const struct history_op *op, uint32_t line)
{
    uint64_t next = op->offset;

    for (size_t i = 0; i < op->value_count; i++) {
        enum err err = note_gap(topic, op, line, next, offset_of(op, i));

        if (err != ERR_OK) {
            return err;
        }
        next = offset_of(op, i) + 1;
    }
    return note_gap(topic, op, line, next, history_op_next(op));
}

static enum err see_all(struct checker *self, struct topic *topic, const struct history_op *op,
                        uint32_t line)
{
    for (size_t i = 0; i < op->value_count; i++) {
        struct suspect seen = {.offset = offset_of(op, i), .value = op->values[i], .line = line};
        enum err err;

        if (seen.value == 0) {
            tell(self, CHECKER_INVENTION,
                 "topic %s, offset %" PRIu64 ": line %" PRIu32
                 " shows bytes that no record ever had",
                 topic->name, seen.offset, line);
            continue;
        }
        err = see(self, topic, op->kind == HISTORY_DUMP, &seen);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* Keys of the topic's values from `first` on, whose operation this is. */
static enum err add_keys(struct topic *topic, const struct history_op *op, size_t first)
{
    size_t wanted = first + op->value_count - topic->keys_count;

    if (op->key_count == 0 && topic->keys_count == 0) {
        return ERR_OK;
    }
    if (ARRAY_RESERVE(topic, keys, wanted) != ERR_OK) {
        return ERR_NOMEM;
    }
    memset(topic->keys + topic->keys_count, 0, wanted * sizeof topic->keys[0]);
    topic->keys_count += wanted;
    for (size_t i = 0; i < op->key_count; i++) {
        topic->keys[first + i] = 2 * op->keys[i];
    }
    for (size_t i = 0; i < op->tombstone_count; i++) {
        topic->keys[first + op->tombstones[i]] |= 1;
    }
    return ERR_OK;
}

static enum err add_produce(struct checker *self, struct topic *topic, const struct history_op *op,
                            uint32_t line)
{
    struct produce produce = {
        .origin = origin_of(op, line),
        .offset = op->outcome == HISTORY_OK ? op->offset : NOWHERE,
        .token = op->token,
        .producer_id = op->producer_id,
        .expect_offset = op->has_expect ? op->expect_offset : NOWHERE,
        .first = (uint32_t)topic->values_count,
        .count = (uint32_t)op->value_count,
        .sequence = op->producer_sequence,
        .epoch = (uint16_t)op->epoch,
        .outcome = (uint8_t)op->outcome,
        .duplicate = op->duplicate,
    };

    if (topic->values_count + op->value_count >= UINT32_MAX) {
        return ERR_LIMIT;
    }
    if (op->epoch > UINT16_MAX) {
        tell(self, CHECKER_RECORDING, "line %" PRIu32 ": an epoch has 16 bits", line);
    }
    if (ARRAY_RESERVE(topic, produces, 1) != ERR_OK ||
        ARRAY_RESERVE(topic, values, op->value_count) != ERR_OK ||
        add_keys(topic, op, topic->values_count) != ERR_OK) {
        return ERR_NOMEM;
    }
    memcpy(topic->values + topic->values_count, op->values, op->value_count * sizeof op->values[0]);
    topic->values_count += op->value_count;
    topic->produces[topic->produces_count++] = produce;
    if (op->outcome == HISTORY_OK) {
        self->summary.records_acknowledged += op->value_count;
    }
    return ERR_OK;
}

static enum err add_reading(struct checker *self, struct topic *topic, const struct history_op *op,
                            uint32_t line)
{
    bool delivery = op->kind == HISTORY_DELIVERY;

    if (op->outcome != HISTORY_OK) {
        return ERR_OK; /* It showed nothing. */
    }
    if (ARRAY_RESERVE(topic, readings, 1) != ERR_OK) {
        return ERR_NOMEM;
    }
    topic->readings[topic->readings_count++] = (struct reading){
        .origin = origin_of(op, line),
        .sequence = op->sequence,
        .offset = op->offset,
        .log_end = op->log_end,
        .log_start = op->log_start,
        .at_least = op->at_least,
        .lag_or_stream = delivery ? op->stream : op->lag_us,
        .count = history_op_next(op) - op->offset,
        .mode = (uint8_t)op->mode,
        .delivery = delivery,
    };
    self->summary.records_seen += op->value_count;
    if (note_gaps(topic, op, line) != ERR_OK) {
        return ERR_NOMEM;
    }
    return see_all(self, topic, op, line);
}

static enum err add_dump(struct checker *self, struct topic *topic, const struct history_op *op,
                         uint32_t line)
{
    size_t i = 0;

    if (op->outcome != HISTORY_OK) {
        return ERR_OK; /* The rule DUMPS misses it. */
    }
    if (ARRAY_RESERVE(topic, pieces, 1) != ERR_OK ||
        ARRAY_RESERVE(self, dumped_nodes, 1) != ERR_OK) {
        return ERR_NOMEM;
    }
    topic->pieces[topic->pieces_count++] = (struct dump_piece){
        .offset = op->offset,
        .log_start = op->log_start,
        .log_end = op->log_end,
        .at_us = op->invoke_us,
        .count = history_op_next(op) - op->offset,
        .node = op->node,
        .line = line,
    };
    while (i < self->dumped_nodes_count && self->dumped_nodes[i] != op->node) {
        i++; /* A cluster has few nodes. */
    }
    if (i == self->dumped_nodes_count) {
        self->dumped_nodes[self->dumped_nodes_count++] = op->node;
    }
    if (note_gaps(topic, op, line) != ERR_OK) {
        return ERR_NOMEM;
    }
    return see_all(self, topic, op, line);
}

static enum err add_cursor_op(struct checker *self, struct topic *topic,
                              const struct history_op *op, uint32_t line)
{
    bool set = op->verb == HISTORY_CURSOR_SET;
    bool get = op->verb == HISTORY_CURSOR_GET;
    uint32_t cursor;
    enum err err;

    /* A refusal that tells a revision is a conflict, and tells what the cursor was. */
    if ((op->outcome == HISTORY_FAIL && (op->revision == 0 || get)) ||
        (op->outcome == HISTORY_UNKNOWN && get)) {
        return ERR_OK;
    }
    err = names_number(&self->cursor_names, (uint32_t)(topic - self->topics), op->cursor, &cursor);
    if (err != ERR_OK || ARRAY_RESERVE(topic, cursor_ops, 1) != ERR_OK) {
        return ERR_NOMEM;
    }
    topic->cursor_ops[topic->cursor_ops_count++] = (struct cursor_op){
        .origin = origin_of(op, line),
        .token = op->token,
        .at_least = op->at_least,
        .revision = op->outcome == HISTORY_UNKNOWN ? 0 : op->revision,
        .offset = op->outcome == HISTORY_FAIL ? op->offset
                  : set || get                ? op->cursor_offset
                                              : 0,
        .expect = op->has_expect_revision ? op->expect_revision : NOWHERE,
        .cursor = cursor,
        .verb = (uint8_t)op->verb,
        .outcome = (uint8_t)op->outcome,
        .mode = (uint8_t)op->mode,
    };
    return ERR_OK;
}

static enum err add_event(struct checker *self, struct topic *topic, const struct history_op *op,
                          uint32_t line)
{
    switch (op->event) {
    case HISTORY_EVENT_HEALED:
        if (self->healed_us == NEVER || op->invoke_us >= self->healed_us) {
            self->healed_us = op->invoke_us;
            self->healed_line = line;
        }
        break;
    case HISTORY_EVENT_DELETED:
        if (op->outcome != HISTORY_FAIL && op->invoke_us < topic->delete_asked_us) {
            topic->delete_asked_us = op->invoke_us;
        }
        if (op->outcome == HISTORY_OK && op->return_us != 0 && op->return_us < topic->deleted_us) {
            topic->deleted_us = op->return_us;
            topic->deleted_line = line;
        }
        break;
    case HISTORY_EVENT_TRIMMED:
        if (op->outcome == HISTORY_FAIL) {
            break;
        }
        if (ARRAY_RESERVE(topic, trims, 1) != ERR_OK) {
            return ERR_NOMEM;
        }
        topic->trims[topic->trims_count++] =
            (struct trim){.at_us = op->invoke_us, .offset = op->offset};
        break;
    case HISTORY_EVENT_COMPACTED:
        if (op->outcome != HISTORY_FAIL && op->invoke_us < topic->compact_asked_us) {
            topic->compact_asked_us = op->invoke_us;
        }
        break;
    case HISTORY_EVENT_SETTLED: /* For who dumps, and who reads. */
    case HISTORY_EVENT_OTHER:
        break;
    }
    return ERR_OK;
}

/* Keys are of its values, tombstones among those that have one. */
static const char *wrong_keys(const struct history_op *op)
{
    if (op->key_count != 0 && op->key_count != op->value_count) {
        return "has not as many keys as values";
    }
    for (size_t i = 0; i < op->key_count; i++) {
        if (op->keys[i] > INT64_MAX) {
            return "has a key beyond all bounds";
        }
    }
    for (size_t i = 0; i < op->tombstone_count; i++) {
        if (op->tombstones[i] >= op->key_count || op->keys[op->tombstones[i]] == 0 ||
            (i > 0 && op->tombstones[i] <= op->tombstones[i - 1])) {
            return "has tombstones that are no records with a key, one after the other";
        }
    }
    return NULL;
}

/* Offsets go up within what it stands for. */
static const char *wrong_offsets(const struct history_op *op)
{
    uint64_t next = op->offset;

    if (op->offset_count != 0 && op->offset_count != op->value_count) {
        return "has not as many offsets as values";
    }
    for (size_t i = 0; i < op->value_count; i++) {
        if (offset_of(op, i) < next) {
            return "has offsets that don't go up";
        }
        if (offset_of(op, i) > INT64_MAX) {
            return "has an offset beyond all bounds";
        }
        next = offset_of(op, i) + 1;
    }
    if (history_op_next(op) < next || history_op_next(op) > INT64_MAX) {
        return "stands for less than it shows, or beyond all bounds";
    }
    return NULL;
}

/* Whether the recorder can be believed: what is wrong in itself would only confuse the rules. */
static bool is_sound(struct checker *self, const struct history_op *op, uint32_t line)
{
    const char *what = NULL;
    bool ranged = op->kind != HISTORY_CURSOR && op->kind != HISTORY_EVENT &&
                  (op->kind != HISTORY_PRODUCE || op->outcome == HISTORY_OK);

    tell_facts(self, CHECKER_RECORDING, 1);
    if (op->return_us != 0 && op->return_us < op->invoke_us) {
        what = "ends before it begins";
    } else if (op->invoke_us > INT64_MAX || op->return_us > INT64_MAX) {
        what = "has a time beyond all bounds";
    } else if (ranged && (op->offset > INT64_MAX || op->log_end > INT64_MAX)) {
        what = "has an offset beyond all bounds";
    } else if (op->outcome == HISTORY_OK && op->return_us == 0 && op->kind != HISTORY_DUMP &&
               op->kind != HISTORY_EVENT) {
        what = "was answered, but never";
    } else if (op->kind == HISTORY_PRODUCE && op->value_count == 0) {
        what = "has no records";
    } else if (op->kind == HISTORY_PRODUCE) {
        what = wrong_keys(op);
    } else if (ranged) {
        what = wrong_offsets(op);
    }
    if (what != NULL) {
        tell(self, CHECKER_RECORDING, "line %" PRIu32 ": this %s %s", line, kind_names[op->kind],
             what);
    }
    return what == NULL;
}

static enum err note_times(struct checker *self, const struct history_op *op, uint32_t line)
{
    uint64_t last_us = op->return_us > op->invoke_us ? op->return_us : op->invoke_us;

    if (op->invoke_us < self->first_us) {
        self->first_us = op->invoke_us;
    }
    if (last_us > self->last_us) {
        self->last_us = last_us;
    }
    if (op->kind != HISTORY_EVENT && op->kind != HISTORY_DUMP && op->return_us == 0) {
        if (ARRAY_RESERVE(self, unanswered, 1) != ERR_OK) {
            return ERR_NOMEM;
        }
        self->unanswered[self->unanswered_count++] = origin_of(op, line);
    }
    return ERR_OK;
}

enum err checker_add(struct checker *self, const struct history_op *op)
{
    uint32_t line = (uint32_t)self->op_count + 2; /* Behind the line that says what it is. */
    struct topic *topic = NULL;
    enum err err = ERR_OK;

    ASSERT(!self->finished);
    ASSERT(op->kind <= HISTORY_EVENT && op->outcome <= HISTORY_UNKNOWN);
    ASSERT(op->value_count <= HISTORY_VALUES_MAX);
    if (self->op_count >= UINT32_MAX - 2) {
        return ERR_LIMIT;
    }
    self->op_count++;
    self->summary.counts[op->kind][op->outcome]++;
    if (!is_sound(self, op, line)) {
        return self->nomem ? ERR_NOMEM : ERR_OK;
    }
    err = note_times(self, op, line);
    if (err == ERR_OK && op->topic != NULL) {
        err = find_topic(self, op->topic, &topic);
    }
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(topic != NULL ||
           (op->kind == HISTORY_EVENT && op->event != HISTORY_EVENT_DELETED &&
            op->event != HISTORY_EVENT_TRIMMED && op->event != HISTORY_EVENT_COMPACTED));
    switch (op->kind) {
    case HISTORY_PRODUCE:
        return add_produce(self, topic, op, line);
    case HISTORY_READ:
    case HISTORY_DELIVERY:
        return add_reading(self, topic, op, line);
    case HISTORY_CURSOR:
        return add_cursor_op(self, topic, op, line);
    case HISTORY_DUMP:
        return add_dump(self, topic, op, line);
    case HISTORY_EVENT:
        return add_event(self, topic, op, line);
    }
    return ERR_OK;
}
