#include "generator.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum {
    TOPICS = 3,    /* the last one is deleted on the way, sometimes */
    COMPACTED = 1, /* the topic that may be */
    KEYS = 7,
    CURSORS = 2,
    NODES = 3,
    CLIENTS = 8,
    PENDING_MAX = 64,
    BATCH_MAX = 4,
    READ_MAX = 6,
    DELIVERED_MAX = 8,
    PIECE_MAX = 20,
    REVISIONS_AN_ENTRY = 4096,
};

static const char *const topic_names[TOPICS] = {"a", "b#1", "c"};
static const char *const cursor_names[CURSORS] = {"reader", "writer"};

/* ---- chance, stories ---- */

uint64_t random_next(struct random *self)
{
    uint64_t mixed = self->state += 0x9e3779b97f4a7c15U;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebU;
    return mixed ^ mixed >> 31;
}

uint64_t random_below(struct random *self, uint64_t bound)
{
    ASSERT(bound > 0);
    return random_next(self) % bound;
}

bool random_chance(struct random *self, unsigned percent)
{
    return random_below(self, 100) < percent;
}

static void free_lists(struct history_op *op)
{
    free(story_values(op));
    free(story_offsets(op));
    free((uint64_t *)op->keys); /* Ours. */
    free((uint64_t *)op->tombstones);
}

void story_fini(struct story *self)
{
    for (size_t i = 0; i < self->count; i++) {
        free_lists(&self->ops[i]);
    }
    free(self->ops);
    *self = (struct story){0};
}

uint64_t *story_values(struct history_op *op)
{
    return (uint64_t *)op->values; /* Ours. */
}

uint64_t *story_offsets(struct history_op *op)
{
    return (uint64_t *)op->offsets; /* Ours. */
}

static uint64_t *copy_list(const uint64_t *numbers, size_t count)
{
    uint64_t *copy = malloc((count + 1) * sizeof *copy);

    ASSERT(copy != NULL);
    if (count > 0) {
        memcpy(copy, numbers, count * sizeof *copy);
    }
    return copy;
}

void story_set_values(struct history_op *op, const uint64_t *values, size_t count)
{
    uint64_t *copy = copy_list(values, count);

    free(story_values(op));
    op->values = copy;
    op->value_count = count;
}

struct history_op *story_add(struct story *self, const struct history_op *op)
{
    struct history_op *copy;

    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 64 : 2 * self->capacity;
        self->ops = realloc(self->ops, self->capacity * sizeof *self->ops);
        ASSERT(self->ops != NULL);
    }
    copy = &self->ops[self->count++];
    *copy = *op;
    copy->values = copy_list(op->values, op->value_count);
    copy->offsets = copy_list(op->offsets, op->offset_count);
    copy->keys = copy_list(op->keys, op->key_count);
    copy->tombstones = copy_list(op->tombstones, op->tombstone_count);
    return copy;
}

void story_remove(struct story *self, size_t at)
{
    ASSERT(at < self->count);
    free_lists(&self->ops[at]);
    memmove(self->ops + at, self->ops + at + 1, (self->count - at - 1) * sizeof *self->ops);
    self->count--;
}

/* ---- the cluster ---- */

/* What an entry made of a topic; or of a cursor. */
struct commit {
    uint64_t index;
    uint64_t at_us;
    uint64_t start;
    uint64_t end;
    uint64_t revision;
    uint64_t offset;
    uint64_t clean_to;
    uint64_t tombstones_below;
};

struct commits {
    struct commit *items;
    size_t count;
    size_t capacity;
};

struct producer {
    uint64_t id;
    uint32_t epoch;
    uint32_t records[TOPICS]; /* written */
    uint32_t next[TOPICS];    /* sequence of the next batch */
    bool halted;              /* waits until nothing is under way, then numbers anew */
    bool raise;               /* with a new epoch */
};

struct client {
    uint32_t number;
    uint64_t sequence;
    unsigned home; /* a local client's node */
    bool local;
    bool pipelining;
    unsigned under_way;
    uint64_t token; /* the highest it has seen */
    uint64_t last_effect_us;
    struct producer producer; /* id 0: none */
    /* A stream. */
    bool streaming;
    struct history_op stream;
};

struct pending {
    bool used;
    bool decided;
    bool lost; /* takes no effect */
    unsigned client;
    unsigned topic;
    unsigned cursor;
    uint64_t effect_us;
    uint64_t return_us;
    struct history_op op;
    uint64_t values[READ_MAX];
    uint64_t offsets[READ_MAX]; /* a produce: the records' keys */
    uint64_t tombstones[BATCH_MAX];
};

/* What there is to know of the records of the compacted topic. */
struct keyed {
    bool asked;       /* to compact it */
    bool *tombstones; /* of each offset */
    uint64_t *keys;
    uint64_t *later;       /* where the next record of its key is; UINT64_MAX */
    uint64_t last[KEYS];   /* of each key; UINT64_MAX */
    uint64_t clean[NODES]; /* as far as each node's copy is clean */
    uint64_t tombstones_below[NODES];
};

struct model {
    struct random random;
    struct story *story;
    uint64_t now_us;
    uint64_t index;
    bool sealed; /* somebody knows of the newest entry: the next change makes a new one */
    unsigned in_entry;
    uint64_t next_value;
    uint64_t next_stream;
    uint64_t next_producer;
    uint64_t *logs[TOPICS];
    uint64_t log_capacity[TOPICS];
    struct commits topics[TOPICS];
    struct commits cursors[TOPICS][CURSORS];
    bool deleted;
    bool keeps_all;
    bool compacts;
    struct keyed keyed;
    uint64_t applied[NODES];
    struct client clients[CLIENTS];
    struct pending pending[PENDING_MAX];
    uint32_t client_count;
};

static void push_commit(struct commits *self, struct commit commit)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 16 : 2 * self->capacity;
        self->items = realloc(self->items, self->capacity * sizeof *self->items);
        ASSERT(self->items != NULL);
    }
    self->items[self->count++] = commit;
}

/* What it was when `index` had been applied. */
static struct commit commit_at(const struct commits *self, uint64_t index)
{
    for (size_t i = self->count; i > 0; i--) {
        if (self->items[i - 1].index <= index) {
            return self->items[i - 1];
        }
    }
    return (struct commit){0};
}

static void new_entry(struct model *self)
{
    if (self->sealed || random_chance(&self->random, 50)) {
        self->index += 1 + random_below(&self->random, 3);
        self->sealed = false;
        self->in_entry = 0;
    }
    self->in_entry++;
}

static struct commit newest(const struct commits *self)
{
    return commit_at(self, UINT64_MAX);
}

static void apply_up_to(struct model *self, unsigned node, uint64_t index)
{
    ASSERT(index <= self->index);
    if (self->applied[node] < index) {
        self->applied[node] = index;
        self->sealed = self->sealed || index == self->index;
    }
}

/* The newest entry of any kind at that time. */
static uint64_t index_at(const struct model *self, uint64_t at_us)
{
    uint64_t index = 0;

    for (unsigned i = 0; i < TOPICS; i++) {
        for (size_t k = self->topics[i].count; k > 0; k--) {
            const struct commit *commit = &self->topics[i].items[k - 1];

            if (commit->at_us <= at_us) {
                index = commit->index > index ? commit->index : index;
                break;
            }
        }
    }
    return index;
}

/* ---- effects ---- */

static bool gone(const struct model *self, unsigned topic)
{
    return self->deleted && topic == TOPICS - 1;
}

static void fail_pending(struct pending *pending, const char *error)
{
    /* Whoever doesn't know what became of it doesn't know that either. */
    if (pending->op.outcome == HISTORY_OK) {
        pending->op.outcome = HISTORY_FAIL;
        pending->op.error = error;
    }
    pending->op.duplicate = false;
    pending->lost = true;
}

/* The records of the compacted topic that are written from `offset` on. */
static void note_keys(struct model *self, const struct history_op *op, uint64_t offset)
{
    struct keyed *keyed = &self->keyed;
    size_t capacity = self->log_capacity[COMPACTED];

    keyed->keys = realloc(keyed->keys, capacity * sizeof *keyed->keys);
    keyed->later = realloc(keyed->later, capacity * sizeof *keyed->later);
    keyed->tombstones = realloc(keyed->tombstones, capacity * sizeof *keyed->tombstones);
    ASSERT(keyed->keys != NULL && keyed->later != NULL && keyed->tombstones != NULL);
    for (size_t i = 0; i < op->value_count; i++) {
        uint64_t *last = &keyed->last[op->keys[i] - 1];

        if (*last != UINT64_MAX) {
            keyed->later[*last] = offset + i;
        }
        *last = offset + i;
        keyed->keys[offset + i] = op->keys[i];
        keyed->later[offset + i] = UINT64_MAX;
        keyed->tombstones[offset + i] = false;
    }
    for (size_t i = 0; i < op->tombstone_count; i++) {
        keyed->tombstones[offset + op->tombstones[i]] = true;
    }
}

static bool is_gone(const struct model *self, unsigned topic, unsigned node, uint64_t offset)
{
    const struct keyed *keyed = &self->keyed;

    return self->compacts && topic == COMPACTED &&
           (keyed->later[offset] < keyed->clean[node] ||
            (keyed->tombstones[offset] && offset < keyed->tombstones_below[node]));
}

/* Shows `count` offsets of the node's copy from op->offset on. */
static void show(const struct model *self, struct history_op *op, unsigned topic, unsigned node,
                 uint64_t count, uint64_t *values, uint64_t *offsets)
{
    size_t shown = 0;

    for (uint64_t offset = op->offset; offset < op->offset + count; offset++) {
        if (!is_gone(self, topic, node, offset)) {
            values[shown] = self->logs[topic][offset];
            offsets[shown++] = offset;
        }
    }
    op->values = values;
    op->value_count = shown;
    op->offsets = offsets;
    op->offset_count = shown == count ? 0 : shown;
    op->next = shown == count ? 0 : op->offset + count;
}

static void effect_produce(struct model *self, struct pending *pending)
{
    struct producer *producer = &self->clients[pending->client].producer;
    struct history_op *op = &pending->op;
    struct commit commit = newest(&self->topics[pending->topic]);

    if (op->producer_id != 0 && (op->producer_sequence != producer->records[pending->topic] ||
                                 producer->id != op->producer_id)) {
        fail_pending(pending, "SEQUENCE_GAP");
        return;
    }
    if (gone(self, pending->topic)) {
        fail_pending(pending, "TOPIC_UNKNOWN");
        return;
    }
    if (op->has_expect && op->expect_offset != commit.end) {
        fail_pending(pending, "EXPECT_FAILED");
        return;
    }
    new_entry(self);
    if (commit.end + op->value_count > self->log_capacity[pending->topic]) {
        uint64_t capacity = 2 * self->log_capacity[pending->topic] + 64;

        self->logs[pending->topic] =
            realloc(self->logs[pending->topic], capacity * sizeof *self->logs[0]);
        ASSERT(self->logs[pending->topic] != NULL);
        self->log_capacity[pending->topic] = capacity;
    }
    memcpy(self->logs[pending->topic] + commit.end, pending->values,
           op->value_count * sizeof pending->values[0]);
    if (op->key_count > 0) {
        note_keys(self, op, commit.end);
    }
    if (op->producer_id != 0) {
        producer->records[pending->topic] += (uint32_t)op->value_count;
    }
    op->offset = commit.end;
    op->token = self->index;
    commit.index = self->index;
    commit.at_us = self->now_us;
    commit.end += op->value_count;
    push_commit(&self->topics[pending->topic], commit);
}

static void effect_cursor_change(struct model *self, struct pending *pending)
{
    struct commits *cursor = &self->cursors[pending->topic][pending->cursor];
    struct commit commit = newest(cursor);
    struct history_op *op = &pending->op;

    if (gone(self, pending->topic) ||
        op->cursor_offset > newest(&self->topics[pending->topic]).end) {
        fail_pending(pending, "RANGE");
        return;
    }
    if ((op->has_expect_revision && op->expect_revision != commit.revision) ||
        (op->verb == HISTORY_CURSOR_DELETE && commit.revision == 0)) {
        op->revision = commit.revision;
        op->offset = commit.offset;
        fail_pending(pending, "CURSOR_CONFLICT");
        return;
    }
    new_entry(self);
    commit = (struct commit){.index = self->index, .at_us = self->now_us};
    if (op->verb == HISTORY_CURSOR_SET) {
        commit.revision = self->index * REVISIONS_AN_ENTRY + self->in_entry;
        commit.offset = op->cursor_offset;
    }
    push_commit(cursor, commit);
    op->token = self->index;
    op->revision = commit.revision;
    op->offset = commit.offset;
}

/* Brings the node to where it may answer. */
static void make_ready(struct model *self, unsigned node, const struct history_op *op,
                       uint64_t token)
{
    apply_up_to(self, node, token > op->at_least ? token : op->at_least);
    if (op->mode == HISTORY_READ_LINEARIZABLE) {
        apply_up_to(self, node, self->index);
    } else if (op->mode == HISTORY_READ_MAX_LAG && op->invoke_us >= op->lag_us) {
        apply_up_to(self, node, index_at(self, op->invoke_us - op->lag_us));
    }
}

static void effect_read(struct model *self, struct pending *pending)
{
    struct history_op *op = &pending->op;
    const struct client *client = &self->clients[pending->client];
    unsigned node = op->node - 1;
    struct commit seen;
    uint64_t size;

    if (gone(self, pending->topic)) {
        fail_pending(pending, "TOPIC_UNKNOWN");
        return;
    }
    make_ready(self, node, op, client->local ? 0 : client->token);
    seen = commit_at(&self->topics[pending->topic], self->applied[node]);
    op->log_start = seen.start;
    op->log_end = seen.end;
    op->token = self->applied[node];
    op->offset = seen.start + random_below(&self->random, seen.end - seen.start + 1);
    size = random_below(&self->random, seen.end - op->offset + 1);
    size = size < READ_MAX ? size : READ_MAX;
    show(self, op, pending->topic, node, size, pending->values, pending->offsets);
}

static void effect_get(struct model *self, struct pending *pending)
{
    struct history_op *op = &pending->op;
    struct commit seen;

    make_ready(self, op->node - 1, op, 0);
    seen = commit_at(&self->cursors[pending->topic][pending->cursor], self->applied[op->node - 1]);
    op->revision = seen.revision;
    op->cursor_offset = seen.offset;
    op->token = self->applied[op->node - 1];
}

static void effect(struct model *self, struct pending *pending)
{
    pending->decided = true;
    if (pending->lost) {
        return;
    }
    if (pending->op.kind == HISTORY_PRODUCE) {
        effect_produce(self, pending);
    } else if (pending->op.kind == HISTORY_READ) {
        effect_read(self, pending);
    } else if (pending->op.verb == HISTORY_CURSOR_GET) {
        effect_get(self, pending);
    } else {
        effect_cursor_change(self, pending);
    }
}

/* ---- ends ---- */

static void end_op(struct model *self, struct pending *pending)
{
    struct client *client = &self->clients[pending->client];
    struct history_op *op = &pending->op;

    ASSERT(pending->decided);
    op->return_us = self->now_us;
    if (op->outcome != HISTORY_OK) {
        if (op->kind == HISTORY_PRODUCE) {
            op->offset = 0;
            op->token = 0;
            client->producer.halted = true;
            client->producer.raise = client->producer.raise || op->outcome == HISTORY_UNKNOWN;
        }
        if (op->outcome == HISTORY_UNKNOWN) {
            op->token = op->revision = op->offset = 0;
            /* The client may have given up long before it took effect. */
            op->return_us =
                random_chance(&self->random, 30)
                    ? 0
                    : op->invoke_us + random_below(&self->random, self->now_us - op->invoke_us + 1);
            op->error = "TIMEOUT";
        }
        if (op->kind == HISTORY_READ) {
            op->value_count = op->offset_count = 0;
            op->next = 0;
        }
    } else {
        client->token = op->token > client->token ? op->token : client->token;
        self->sealed = true;
    }
    if (op->kind == HISTORY_PRODUCE) {
        op->values = pending->values;
    }
    (void)story_add(self->story, op);
    client->under_way--;
    pending->used = false;
}

/* A pipelining producer whose numbers went wrong, and of which nothing is under way. */
static void number_anew(struct model *self, struct client *client)
{
    struct producer *producer = &client->producer;

    if (!producer->halted || client->under_way > 0) {
        return;
    }
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        if (self->pending[i].used && &self->clients[self->pending[i].client] == client) {
            return;
        }
    }
    memcpy(producer->next, producer->records, sizeof producer->next);
    producer->epoch += producer->raise || random_chance(&self->random, 10);
    producer->halted = producer->raise = false;
}

static void advance(struct model *self, uint64_t by_us)
{
    uint64_t until_us = self->now_us + by_us;

    for (;;) {
        struct pending *next = NULL;
        uint64_t next_us = until_us;

        for (unsigned i = 0; i < PENDING_MAX; i++) {
            struct pending *pending = &self->pending[i];
            uint64_t at_us = pending->decided ? pending->return_us : pending->effect_us;

            if (pending->used && at_us <= next_us) {
                next = pending;
                next_us = at_us;
            }
        }
        if (next == NULL) {
            break;
        }
        self->now_us = next_us > self->now_us ? next_us : self->now_us;
        if (!next->decided) {
            effect(self, next);
        } else {
            end_op(self, next);
        }
    }
    self->now_us = until_us;
    for (unsigned i = 0; i < CLIENTS; i++) {
        number_anew(self, &self->clients[i]);
    }
}

/* ---- beginnings ---- */

static struct pending *begin(struct model *self, unsigned client, unsigned topic,
                             enum history_kind kind)
{
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        struct pending *pending = &self->pending[i];
        uint64_t wait_us =
            1 + random_below(&self->random, random_chance(&self->random, 20) ? 80 : 9);

        if (pending->used) {
            continue;
        }
        *pending = (struct pending){.used = true, .client = client, .topic = topic};
        pending->effect_us = self->now_us + random_below(&self->random, wait_us);
        /* Those of a client take effect in its order. */
        if (pending->effect_us < self->clients[client].last_effect_us) {
            pending->effect_us = self->clients[client].last_effect_us;
        }
        self->clients[client].last_effect_us = pending->effect_us;
        pending->return_us = pending->effect_us + random_below(&self->random, wait_us);
        self->clients[client].under_way++;
        pending->op = (struct history_op){
            .kind = kind,
            .client = self->clients[client].number,
            .sequence = ++self->clients[client].sequence,
            .node = 1 + (uint32_t)random_below(&self->random, NODES),
            .invoke_us = self->now_us,
            .topic = topic_names[topic],
        };
        return pending;
    }
    return NULL;
}

/* What the client will know of it, unless it is refused. */
static void choose_outcome(struct model *self, struct pending *pending)
{
    if (random_chance(&self->random, 4)) {
        pending->op.outcome = HISTORY_UNKNOWN;
        pending->lost = random_chance(&self->random, 50);
    } else if (random_chance(&self->random, 5)) {
        fail_pending(pending, "BUSY");
    }
}

static void choose_keys(struct model *self, struct pending *pending)
{
    struct history_op *op = &pending->op;

    op->keys = pending->offsets;
    op->key_count = op->value_count;
    op->tombstones = pending->tombstones;
    for (size_t i = 0; i < op->value_count; i++) {
        pending->offsets[i] = 1 + random_below(&self->random, KEYS);
        if (random_chance(&self->random, 25)) {
            pending->tombstones[op->tombstone_count++] = i;
        }
    }
}

static void begin_produce(struct model *self, unsigned at, unsigned topic)
{
    struct client *client = &self->clients[at];
    struct producer *producer = &client->producer;
    struct pending *pending;

    if (producer->halted && producer->id != 0) {
        return;
    }
    pending = begin(self, at, topic, HISTORY_PRODUCE);
    if (pending == NULL) {
        return;
    }
    pending->op.value_count = 1 + random_below(&self->random, BATCH_MAX);
    for (size_t i = 0; i < pending->op.value_count; i++) {
        pending->values[i] = self->next_value;
        self->next_value += 1 + (random_chance(&self->random, 10) ? (uint64_t)1 << 33 : 0);
    }
    if (self->compacts && topic == COMPACTED) {
        choose_keys(self, pending);
    }
    if (random_chance(&self->random, 15)) {
        pending->op.has_expect = true;
        pending->op.expect_offset = newest(&self->topics[topic]).end;
    }
    if (producer->id != 0) {
        pending->op.producer_id = producer->id;
        pending->op.epoch = producer->epoch;
        pending->op.producer_sequence = producer->next[topic];
        producer->next[topic] += (uint32_t)pending->op.value_count;
        pending->op.duplicate = random_chance(&self->random, 10);
    }
    choose_outcome(self, pending);
    if (pending->op.outcome != HISTORY_OK) {
        pending->op.duplicate = false;
    }
}

static void begin_read(struct model *self, unsigned at, unsigned topic)
{
    struct client *client = &self->clients[at];
    struct pending *pending = begin(self, at, topic, HISTORY_READ);

    if (pending == NULL) {
        return;
    }
    if (client->local) {
        pending->op.node = client->home + 1;
        return;
    }
    pending->op.mode = (enum history_read_mode)random_below(&self->random, 4);
    if (pending->op.mode == HISTORY_READ_LOCAL) {
        pending->op.mode = HISTORY_READ_TOKEN; /* It goes from node to node. */
    }
    if (pending->op.mode == HISTORY_READ_TOKEN || random_chance(&self->random, 50)) {
        pending->op.at_least = client->token;
    }
    pending->op.lag_us =
        pending->op.mode == HISTORY_READ_MAX_LAG ? random_below(&self->random, 60) : 0;
}

/* The revision that the client believes to be there: it may be old. */
static uint64_t believed_revision(struct model *self, const struct commits *cursor)
{
    size_t back = random_chance(&self->random, 25) ? 2 : 1;

    return cursor->count < back ? 0 : cursor->items[cursor->count - back].revision;
}

static void begin_cursor(struct model *self, unsigned at, unsigned topic)
{
    unsigned cursor = (unsigned)random_below(&self->random, CURSORS);
    struct pending *pending = begin(self, at, topic, HISTORY_CURSOR);
    struct history_op *op;

    if (pending == NULL) {
        return;
    }
    op = &pending->op;
    pending->cursor = cursor;
    op->cursor = cursor_names[cursor];
    if (random_chance(&self->random, 45)) {
        op->verb = HISTORY_CURSOR_GET;
        op->mode = (enum history_read_mode)random_below(&self->random, 3);
        op->at_least = op->mode == HISTORY_READ_TOKEN ? self->clients[at].token : 0;
        return;
    }
    op->verb = random_chance(&self->random, 12) ? HISTORY_CURSOR_DELETE : HISTORY_CURSOR_SET;
    op->has_expect_revision = random_chance(&self->random, 70);
    if (op->has_expect_revision) {
        op->expect_revision = believed_revision(self, &self->cursors[topic][cursor]);
    }
    if (op->verb == HISTORY_CURSOR_SET) {
        op->cursor_offset = random_below(&self->random, newest(&self->topics[topic]).end + 1);
    }
    choose_outcome(self, pending);
}

/* ---- streams ---- */

static void subscribe(struct model *self, unsigned at, unsigned topic)
{
    struct client *client = &self->clients[at];
    struct commit seen;

    client->stream = (struct history_op){
        .kind = HISTORY_DELIVERY,
        .client = client->number,
        .node = client->home + 1,
        .invoke_us = self->now_us,
        .topic = topic_names[topic],
        .stream = ++self->next_stream,
        .mode = random_chance(&self->random, 50) ? HISTORY_READ_LINEARIZABLE : HISTORY_READ_LOCAL,
    };
    make_ready(self, client->home, &client->stream, 0);
    seen = commit_at(&self->topics[topic], self->applied[client->home]);
    client->stream.offset = seen.start + random_below(&self->random, seen.end - seen.start + 1);
    client->streaming = true;
}

static void deliver(struct model *self, struct client *client, unsigned topic)
{
    struct commit seen = commit_at(&self->topics[topic], self->applied[client->home]);
    struct history_op *op = &client->stream;
    uint64_t values[DELIVERED_MAX];
    uint64_t offsets[DELIVERED_MAX];
    uint64_t size;

    if (gone(self, topic) || op->offset < seen.start || random_chance(&self->random, 10)) {
        client->streaming = false;
        return;
    }
    op->sequence = ++client->sequence;
    op->return_us = self->now_us;
    op->log_start = seen.start;
    op->log_end = seen.end;
    op->token = self->applied[client->home];
    size = random_below(&self->random, seen.end - op->offset + 1);
    size = size < DELIVERED_MAX ? size : DELIVERED_MAX;
    show(self, op, topic, client->home, size, values, offsets);
    (void)story_add(self->story, op);
    op->offset += size;
}

static void go_on_streaming(struct model *self, unsigned at, unsigned topic)
{
    struct client *client = &self->clients[at];

    if (!client->streaming) {
        if (!gone(self, topic)) {
            subscribe(self, at, topic);
        }
        return;
    }
    for (unsigned i = 0; i < TOPICS; i++) {
        if (client->stream.topic == topic_names[i]) {
            deliver(self, client, i);
            return;
        }
    }
}

/* ---- the whole ---- */

static void add_event(struct model *self, enum history_event event, unsigned topic, uint64_t offset)
{
    struct history_op op = {
        .kind = HISTORY_EVENT,
        .event = event,
        .invoke_us = self->now_us,
        .return_us = event == HISTORY_EVENT_DELETED ? self->now_us : 0,
        .topic = event == HISTORY_EVENT_DELETED || event == HISTORY_EVENT_TRIMMED ||
                         event == HISTORY_EVENT_COMPACTED
                     ? topic_names[topic]
                     : NULL,
        .offset = offset,
        .text = "kill node 2",
    };

    (void)story_add(self->story, &op);
}

static void trim(struct model *self, unsigned topic)
{
    struct commit commit = newest(&self->topics[topic]);

    if (self->keeps_all || gone(self, topic)) {
        return;
    }
    commit.start += random_below(&self->random, commit.end - commit.start + 1) / 4;
    add_event(self, HISTORY_EVENT_TRIMMED, topic, commit.start);
    new_entry(self);
    commit.index = self->index;
    commit.at_us = self->now_us;
    push_commit(&self->topics[topic], commit);
}

/* What every node's copy is clean up to. */
static uint64_t cleaned_by_all(const struct keyed *keyed)
{
    uint64_t least = keyed->clean[0];

    for (unsigned i = 1; i < NODES; i++) {
        least = keyed->clean[i] < least ? keyed->clean[i] : least;
    }
    return least;
}

static void decide_to_clean(struct model *self)
{
    struct commit commit = newest(&self->topics[COMPACTED]);
    uint64_t least = cleaned_by_all(&self->keyed);

    if (!self->keyed.asked) {
        self->keyed.asked = true;
        add_event(self, HISTORY_EVENT_COMPACTED, COMPACTED, 0);
        return;
    }
    new_entry(self);
    commit.clean_to += random_below(&self->random, commit.end - commit.clean_to + 1);
    if (least > commit.tombstones_below) {
        commit.tombstones_below += random_below(&self->random, least - commit.tombstones_below + 1);
    }
    commit.index = self->index;
    commit.at_us = self->now_us;
    push_commit(&self->topics[COMPACTED], commit);
}

static void clean(struct model *self, unsigned node)
{
    struct commit commit = commit_at(&self->topics[COMPACTED], self->applied[node]);
    struct keyed *keyed = &self->keyed;

    ASSERT(commit.clean_to >= keyed->clean[node]);
    keyed->clean[node] += random_below(&self->random, commit.clean_to - keyed->clean[node] + 1);
    if (commit.tombstones_below > keyed->tombstones_below[node] &&
        random_chance(&self->random, 50)) {
        ASSERT(commit.tombstones_below <= keyed->clean[node]);
        keyed->tombstones_below[node] = commit.tombstones_below;
    }
}

static void compact(struct model *self, unsigned node)
{
    if (random_chance(&self->random, 5)) {
        decide_to_clean(self);
    } else if (random_chance(&self->random, 10)) {
        clean(self, node);
    }
}

static void act(struct model *self)
{
    unsigned at = (unsigned)random_below(&self->random, CLIENTS);
    unsigned topic = (unsigned)random_below(&self->random, TOPICS);
    unsigned node = (unsigned)random_below(&self->random, NODES);
    struct client *client = &self->clients[at];
    uint64_t behind = self->index - self->applied[node];

    apply_up_to(self, node, self->applied[node] + random_below(&self->random, behind + 1));
    if (self->compacts) {
        compact(self, node);
    }
    if (random_chance(&self->random, 1)) {
        trim(self, topic);
        return;
    }
    if (client->under_way > 0 && !(client->pipelining && client->under_way < 4)) {
        return;
    }
    if (client->local) {
        if (random_chance(&self->random, 50)) {
            go_on_streaming(self, at, topic);
        } else {
            begin_read(self, at, topic);
        }
    } else if (client->pipelining || random_chance(&self->random, 40)) {
        begin_produce(self, at, topic);
    } else if (random_chance(&self->random, 60)) {
        begin_read(self, at, topic);
    } else {
        begin_cursor(self, at, topic);
    }
}

static void dump(struct model *self)
{
    uint64_t values[PIECE_MAX];
    uint64_t offsets[PIECE_MAX];

    for (unsigned topic = 0; topic < TOPICS; topic++) {
        struct commit all = newest(&self->topics[topic]);

        for (unsigned node = 0; node < NODES && !gone(self, topic); node++) {
            struct history_op op = {
                .kind = HISTORY_DUMP,
                .node = node + 1,
                .invoke_us = self->now_us,
                .topic = topic_names[topic],
                .offset = all.start,
                .log_start = all.start,
                .log_end = all.end,
                .token = self->index,
            };

            do {
                uint64_t size = 1 + random_below(&self->random, PIECE_MAX);

                size = size < all.end - op.offset ? size : all.end - op.offset;
                show(self, &op, topic, node, size, values, offsets);
                (void)story_add(self->story, &op);
                op.offset += size;
            } while (op.offset < all.end);
        }
    }
}

static void init(struct model *self, const struct generator_options *options, struct story *story)
{
    *self = (struct model){.random = {options->seed},
                           .story = story,
                           .now_us = 1,
                           .next_value = 1,
                           .index = 1,
                           .sealed = true};
    self->next_value += random_below(&self->random, 1000);
    for (unsigned i = 0; i < TOPICS; i++) {
        self->logs[i] = malloc(64 * sizeof *self->logs[0]);
        ASSERT(self->logs[i] != NULL);
        self->log_capacity[i] = 64;
    }
    for (unsigned i = 0; i < KEYS; i++) {
        self->keyed.last[i] = UINT64_MAX;
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &self->clients[i];

        client->number = ++self->client_count;
        client->home = i % NODES;
        client->local = i % 4 == 0;
        client->pipelining = i % 4 == 1;
        client->producer.id = i % 4 == 1 || i % 4 == 2 ? 100 + i : 0;
        client->producer.epoch = i % 4 == 2 ? 0 : 3;
    }
}

static void fini(struct model *self)
{
    free(self->keyed.keys);
    free(self->keyed.later);
    free(self->keyed.tombstones);
    for (unsigned i = 0; i < TOPICS; i++) {
        free(self->logs[i]);
        free(self->topics[i].items);
        for (unsigned k = 0; k < CURSORS; k++) {
            free(self->cursors[i][k].items);
        }
    }
}

void generate(const struct generator_options *options, struct story *ret_story)
{
    struct model model;
    bool deletes;
    unsigned rounds = 3 * options->op_count / 2;

    *ret_story = (struct story){0};
    init(&model, options, ret_story);
    model.keeps_all = options->keeps_all;
    model.compacts = options->compacts;
    deletes = random_chance(&model.random, 50) && !model.keeps_all;
    for (unsigned i = 0; i < rounds; i++) {
        act(&model);
        advance(&model, random_below(&model.random, 6));
        if (deletes && i == rounds / 2) {
            add_event(&model, HISTORY_EVENT_DELETED, TOPICS - 1, 0);
            model.deleted = true;
        }
        if (i % (rounds / 3 + 1) == rounds / 4) {
            add_event(&model, HISTORY_EVENT_OTHER, 0, 0);
        }
        if (i == 3 * rounds / 4) {
            add_event(&model, HISTORY_EVENT_HEALED, 0, 0);
        }
    }
    advance(&model, 1000); /* All that is under way ends. */
    add_event(&model, HISTORY_EVENT_SETTLED, 0, 0);
    model.now_us++;
    dump(&model);
    fini(&model);
}
