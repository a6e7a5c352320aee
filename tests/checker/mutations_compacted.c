/*
 * What is a lie of a topic that keeps the latest record of each key, or would be one of another.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "mutations.h"

enum { RECORDS_MAX = 4096 };

/* A record of the compacted topic, where it was written. */
struct placed {
    uint64_t offset;
    uint64_t value;
    uint64_t key;
    uint64_t begun_us;
    bool tombstone;
    bool hides; /* of a key of which a record may stand anywhere */
    bool last;  /* of its key */
};

static const char topic[] = "b#1";

static bool is_of_topic(const struct history_op *op)
{
    return op->topic != NULL && strcmp(op->topic, topic) == 0;
}

static bool shows(const struct history_op *op)
{
    return is_of_topic(op) && op->outcome == HISTORY_OK &&
           (op->kind == HISTORY_READ || op->kind == HISTORY_DELIVERY || op->kind == HISTORY_DUMP);
}

static uint64_t offset_at(const struct history_op *op, size_t i)
{
    return op->offset_count > 0 ? op->offsets[i] : op->offset + i;
}

/* The place of the offset in what the operation shows; value_count: it is not there. */
static size_t find_offset(const struct history_op *op, uint64_t offset)
{
    size_t i = 0;

    while (i < op->value_count && offset_at(op, i) != offset) {
        i++;
    }
    return i;
}

static bool covers(const struct history_op *op, uint64_t offset)
{
    return shows(op) && offset >= op->offset && offset < history_op_next(op);
}

/* Where the produce stands, by its answer, or where somebody was shown a record of it. */
static uint64_t base_of(const struct story *story, const struct history_op *produce)
{
    if (produce->outcome == HISTORY_OK) {
        return produce->offset;
    }
    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];

        for (size_t k = 0; shows(op) && k < op->value_count; k++) {
            for (size_t v = 0; v < produce->value_count; v++) {
                if (op->values[k] == produce->values[v]) {
                    return offset_at(op, k) - v;
                }
            }
        }
    }
    return UINT64_MAX;
}

static bool is_tombstone(const struct history_op *op, size_t at)
{
    for (size_t i = 0; i < op->tombstone_count; i++) {
        if (op->tombstones[i] == at) {
            return true;
        }
    }
    return false;
}

static size_t place_all(const struct story *story, struct placed records[RECORDS_MAX])
{
    bool hidden[256] = {false};
    size_t count = 0;

    for (size_t i = 0; i < story->count; i++) {
        const struct history_op *op = &story->ops[i];
        uint64_t base;

        if (op->kind != HISTORY_PRODUCE || !is_of_topic(op) || op->outcome == HISTORY_FAIL) {
            continue;
        }
        base = base_of(story, op);
        for (size_t k = 0; k < op->value_count; k++) {
            ASSERT(op->keys[k] < 256 && count < RECORDS_MAX);
            if (base == UINT64_MAX) {
                hidden[op->keys[k]] = true;
                continue;
            }
            records[count++] = (struct placed){.offset = base + k,
                                               .value = op->values[k],
                                               .key = op->keys[k],
                                               .begun_us = op->invoke_us,
                                               .tombstone = is_tombstone(op, k),
                                               .last = true};
        }
    }
    for (size_t i = 0; i < count; i++) {
        records[i].hides = hidden[records[i].key];
        for (size_t k = 0; k < count; k++) {
            if (records[k].key == records[i].key && records[k].offset > records[i].offset) {
                records[i].last = false;
            }
        }
    }
    return count;
}

/* ---- changing what is shown ---- */

static void take_away(struct history_op *op, uint64_t offset)
{
    size_t at = find_offset(op, offset);
    size_t count = op->value_count;
    uint64_t next = history_op_next(op);
    uint64_t offsets[HISTORY_VALUES_MAX / 64];

    ASSERT(at < count && count <= sizeof offsets / sizeof offsets[0]);
    for (size_t i = 0; i < count; i++) {
        offsets[i] = offset_at(op, i);
    }
    op->next = next;
    free(story_offsets(op));
    memmove(offsets + at, offsets + at + 1, (count - at - 1) * sizeof offsets[0]);
    memmove(story_values(op) + at, story_values(op) + at + 1, (count - at - 1) * sizeof offsets[0]);
    op->value_count = op->offset_count = count - 1;
    op->offsets =
        memcpy(calloc(count, sizeof offsets[0]), offsets, op->offset_count * sizeof offsets[0]);
}

/* Shows a record where it shows none. */
static void put_back(struct history_op *op, uint64_t offset, uint64_t value)
{
    size_t count = op->value_count;
    uint64_t *offsets = calloc(count + 1, sizeof *offsets);
    uint64_t *values = calloc(count + 1, sizeof *values);
    uint64_t next = history_op_next(op);
    size_t to = 0;

    ASSERT(offsets != NULL && values != NULL && find_offset(op, offset) == count);
    for (size_t i = 0; i <= count; i++) {
        if (to == i && (i == count || offset_at(op, i) > offset)) {
            offsets[to] = offset;
            values[to++] = value;
        }
        if (i < count) {
            offsets[to] = offset_at(op, i);
            values[to++] = op->values[i];
        }
    }
    free(story_offsets(op));
    free(story_values(op));
    op->offsets = offsets;
    op->values = values;
    op->offset_count = op->value_count = count + 1;
    op->next = next;
}

/* Of one node's copy the piece that has the offset; NULL: it is below its start. */
static struct history_op *piece_of(struct story *story, uint32_t node, uint64_t offset)
{
    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[i];

        if (op->kind == HISTORY_DUMP && op->node == node && covers(op, offset)) {
            return op;
        }
    }
    return NULL;
}

static bool is_shown(const struct history_op *op, const struct placed *record)
{
    return op != NULL && find_offset(op, record->offset) < op->value_count;
}

/* ---- the lies ---- */

static bool drop_the_last(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    size_t count = place_all(story, records);
    uint32_t node = 1 + (uint32_t)random_below(random, 3);

    for (size_t i = 0; i < count; i++) {
        struct history_op *piece = piece_of(story, node, records[i].offset);

        if (records[i].last && !records[i].tombstone && !records[i].hides &&
            is_shown(piece, &records[i])) {
            take_away(piece, records[i].offset);
            return true;
        }
    }
    return false;
}

static bool drop_the_last_everywhere(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    size_t count = place_all(story, records);

    (void)random;
    for (size_t i = 0; i < count; i++) {
        if (!records[i].last || records[i].tombstone || records[i].hides ||
            !is_shown(piece_of(story, 1, records[i].offset), &records[i])) {
            continue;
        }
        for (uint32_t node = 1; node <= 3; node++) {
            take_away(piece_of(story, node, records[i].offset), records[i].offset);
        }
        return true;
    }
    return false;
}

/* What is gone had no key. */
static bool drop_keyless(struct story *story, struct random *random)
{
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        if (op->kind != HISTORY_PRODUCE || !is_of_topic(op) || op->outcome != HISTORY_OK ||
            op->tombstone_count > 0) {
            continue;
        }
        for (size_t k = 0; k < op->value_count; k++) {
            struct history_op *piece = piece_of(story, 2, op->offset + k);

            if (piece != NULL && find_offset(piece, op->offset + k) == piece->value_count) {
                ((uint64_t *)op->keys)[k] = 0;
                return true;
            }
        }
    }
    return false;
}

/* The copy shows a record of the key between the two. */
static bool shows_between(struct story *story, uint32_t node, const struct placed *records,
                          size_t count, const struct placed *from, const struct placed *to)
{
    for (size_t i = 0; i < count; i++) {
        if (records[i].key == to->key && records[i].offset > from->offset &&
            records[i].offset < to->offset &&
            is_shown(piece_of(story, node, records[i].offset), &records[i])) {
            return true;
        }
    }
    return false;
}

/* An older record of a key of which the last one is a tombstone, with nothing of the key between
 * them in this copy; NULL: there is none. Whether the copy is to show the one and the other. */
static const struct placed *find_deleted(struct story *story, uint32_t node, bool tombstone_shown,
                                         bool shown, const struct placed *records, size_t count,
                                         const struct placed **ret_tombstone)
{
    for (size_t i = 0; i < count; i++) {
        const struct placed *last = &records[i];
        struct history_op *piece = piece_of(story, node, last->offset);

        if (!last->last || !last->tombstone || last->hides || piece == NULL ||
            is_shown(piece, last) != tombstone_shown) {
            continue;
        }
        for (size_t k = 0; k < count; k++) {
            const struct history_op *older = piece_of(story, node, records[k].offset);

            if (records[k].key == last->key && !records[k].tombstone && older != NULL &&
                is_shown(older, &records[k]) == shown &&
                !shows_between(story, node, records, count, &records[k], last)) {
                *ret_tombstone = last;
                return &records[k];
            }
        }
    }
    return NULL;
}

static bool deleted_comes_back(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    uint32_t node = 1 + (uint32_t)random_below(random, 3);
    const struct placed *tombstone;
    const struct placed *record =
        find_deleted(story, node, false, false, records, place_all(story, records), &tombstone);

    if (record == NULL) {
        return false;
    }
    put_back(piece_of(story, node, record->offset), record->offset, record->value);
    return true;
}

/* The tombstone goes while what it deletes is there. */
static bool tombstone_goes_too_early(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    uint32_t node = 1 + (uint32_t)random_below(random, 3);
    const struct placed *tombstone;

    if (find_deleted(story, node, true, true, records, place_all(story, records), &tombstone) ==
        NULL) {
        return false;
    }
    take_away(piece_of(story, node, tombstone->offset), tombstone->offset);
    return true;
}

/* A read that is begun when the tombstone is gone from some copy shows what it deleted. */
static bool deleted_is_read(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    uint32_t node = 1 + (uint32_t)random_below(random, 3);
    const struct placed *tombstone;
    const struct placed *record =
        find_deleted(story, node, false, false, records, place_all(story, records), &tombstone);
    const struct history_op *piece;
    struct history_op read;

    if (record == NULL) {
        return false;
    }
    piece = piece_of(story, node, record->offset);
    read = (struct history_op){
        .kind = HISTORY_READ,
        .client = 4711,
        .sequence = 1,
        .node = node,
        .invoke_us = piece->invoke_us + 1,
        .return_us = piece->invoke_us + 2,
        .topic = topic,
        .mode = HISTORY_READ_LINEARIZABLE,
        .offset = record->offset,
        .values = &record->value,
        .value_count = 1,
        .log_start = piece->log_start,
        .log_end = piece->log_end,
    };
    (void)story_add(story, &read);
    return true;
}

static bool read_lacks_the_last(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    size_t count = place_all(story, records);
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        for (size_t k = 0; shows(op) && op->kind == HISTORY_READ && k < count; k++) {
            if (records[k].last && !records[k].tombstone && !records[k].hides &&
                covers(op, records[k].offset) && is_shown(op, &records[k])) {
                take_away(op, records[k].offset);
                return true;
            }
        }
    }
    return false;
}

/* A record is gone for the sake of one that nobody had written yet. */
static bool goes_before_the_later_one(struct story *story, struct random *random)
{
    static struct placed records[RECORDS_MAX];
    size_t count = place_all(story, records);
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        for (size_t k = 0; shows(op) && op->kind == HISTORY_READ && k < count; k++) {
            bool later = false;

            for (size_t l = 0; l < count; l++) {
                later = later || (records[l].key == records[k].key &&
                                  records[l].offset > records[k].offset &&
                                  records[l].begun_us <= op->return_us);
            }
            if (!later && !records[k].last && !records[k].tombstone && !records[k].hides &&
                covers(op, records[k].offset) && is_shown(op, &records[k])) {
                take_away(op, records[k].offset);
                return true;
            }
        }
    }
    return false;
}

static bool nobody_asked(struct story *story, struct random *random)
{
    bool sparse = false;

    (void)random;
    for (size_t i = 0; i < story->count; i++) {
        sparse = sparse || (shows(&story->ops[i]) && story->ops[i].next != 0);
    }
    for (size_t i = 0; sparse && i < story->count; i++) {
        if (story->ops[i].kind == HISTORY_EVENT && story->ops[i].event == HISTORY_EVENT_COMPACTED) {
            story_remove(story, i);
            return true;
        }
    }
    return false;
}

static bool is_sparse(const struct history_op *op)
{
    return shows(op) && op->offset_count > 0 &&
           op->offsets[op->offset_count - 1] != op->offset + op->offset_count - 1;
}

/* What is left gets new offsets. */
static bool renumber(struct story *story, struct random *random)
{
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        if (op->kind == HISTORY_DUMP && is_sparse(op)) {
            for (size_t k = 0; k < op->offset_count; k++) {
                story_offsets(op)[k] = op->offset + k;
            }
            return true;
        }
    }
    return false;
}

/* A topic that nobody compacts lacks a record, and says so. */
static bool hole_elsewhere(struct story *story, struct random *random)
{
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        if (op->kind == HISTORY_DUMP && !is_of_topic(op) && op->value_count > 1) {
            take_away(op, op->offset + op->value_count / 2);
            return true;
        }
    }
    return false;
}

static bool offsets_go_back(struct story *story, struct random *random)
{
    size_t start = random_below(random, story->count);

    for (size_t i = 0; i < story->count; i++) {
        struct history_op *op = &story->ops[(start + i) % story->count];

        if (shows(op) && op->offset_count > 1) {
            story_offsets(op)[1] = op->offsets[0];
            return true;
        }
    }
    return false;
}

const struct mutation compacted_mutations[] = {
    {"a copy lacks the last of a key", drop_the_last, RULE(COMPACTION)},
    {"all copies lack the last of a key", drop_the_last_everywhere, RULE(VIEWS)},
    {"what has no key is gone", drop_keyless, RULE(COMPACTION)},
    {"a deleted key is there again", deleted_comes_back, RULE(VIEWS)},
    {"a tombstone goes before what it deletes", tombstone_goes_too_early, RULE(VIEWS)},
    {"a deleted key is read again", deleted_is_read, RULE(VIEWS)},
    {"a read lacks the last of a key", read_lacks_the_last, RULE(COMPACTION)},
    {"a record goes before the later one is there", goes_before_the_later_one, RULE(COMPACTION)},
    {"records go unasked", nobody_asked, RULE(COMPACTION) | RULE(DENSE)},
    {"what is left is renumbered", renumber,
     RULE(AGREEMENT) | RULE(IMMUTABLE) | RULE(ATOMIC) | RULE(UNIQUE) | RULE(EXACTLY_ONCE)},
    {"another topic has holes", hole_elsewhere, RULE(DENSE)},
    {"offsets go back", offsets_go_back, RULE(RECORDING)},
};

const size_t compacted_mutation_count = sizeof compacted_mutations / sizeof compacted_mutations[0];
