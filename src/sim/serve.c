/*
 * Reads at a node: as fresh as they ask for, then from its log or its cursors as they are.
 *
 * An index covers everything that any node had applied when it was asked for: whatever was
 * acknowledged. That is checked here, for all of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "record/batch_records.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    RETRY_MS = 20,
    SILENT_MS = 1000,
    READ_SIZE = 64 * 1024,
};

static struct sim_node *node_of(const struct sim_request *self)
{
    return &self->cluster->nodes[self->node];
}

/* ---- what is there ---- */

static void take_record(struct sim_shown *shown, uint64_t offset, uint64_t value)
{
    if (offset >= shown->offset) {
        shown->values[shown->count] = value;
        shown->offsets[shown->count++] = offset;
    }
}

/* The records that are left of what was compacted. */
static void take_compacted(const struct sim_cluster *cluster, const struct batch_header *header,
                           const uint8_t *body, struct sim_shown *shown)
{
    struct batch_records records;
    struct record record;
    enum err err;

    batch_records_init(&records);
    err = batch_records_start(&records, header, body, 0, NULL);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        take_record(shown, record.offset, sim_oracle_value(&cluster->oracle, &record));
    }
    if (err != ERR_AGAIN) {
        sim_violation(&cluster->oracle, "a reader can't read what was compacted at %llu: %s",
                      U(header->base_offset), err_name(err));
    }
    batch_records_fini(&records);
}

/* The records of a batch as those that wrote them know them; 0: nobody wrote that. */
static void take_batch(const struct sim_cluster *cluster, const struct batch_header *header,
                       const uint8_t *body, struct sim_shown *shown)
{
    const struct sim_content *content;

    if ((header->attributes & BATCH_COMPACTED) != 0) {
        take_compacted(cluster, header, body, shown);
        return;
    }
    content = sim_oracle_find(&cluster->oracle, header, body);
    for (uint32_t i = 0; i < header->record_count; i++) {
        take_record(shown, header->base_offset + i, content == NULL ? 0 : content->value + i);
    }
}

void sim_shown_tell(const struct sim_shown *self, struct history_op *op)
{
    bool dense = self->count == self->next - self->offset;

    op->offset = self->offset;
    op->values = self->values;
    op->value_count = self->count;
    op->offsets = dense ? NULL : self->offsets;
    op->offset_count = dense ? 0 : self->count;
    op->next = dense ? 0 : self->next;
}

static enum err read_log(const struct sim_request *self, struct log *log, struct sim_shown *shown)
{
    struct block *block;
    uint64_t end = log_end(log);
    uint64_t next;
    uint64_t end_max = self->records_max == 0 ? UINT64_MAX : shown->offset + self->records_max;
    enum err err;

    shown->next = shown->offset;
    if (shown->offset == end) {
        return ERR_OK;
    }
    err = log_read(log, shown->offset, end_max, READ_SIZE, &block, &next, NULL);
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(next > shown->offset);
    shown->next = next;
    shown->values = malloc((size_t)(next - shown->offset) * sizeof *shown->values);
    shown->offsets = malloc((size_t)(next - shown->offset) * sizeof *shown->offsets);
    ASSERT(shown->values != NULL && shown->offsets != NULL);
    for (size_t at = 0; at < block->size;) {
        struct batch_header header;

        err = batch_header_decode(block->data + at, (uint32_t)(block->size - at), &header, NULL);
        ASSERT(err == ERR_OK); /* log_read has verified it. */
        take_batch(self->cluster, &header, block->data + at + BATCH_HEADER_SIZE, shown);
        at += header.size;
        /* A log may hold what was committed before a restart and is not applied again yet. */
        shown->applied = header.raft_index > shown->applied ? header.raft_index : shown->applied;
    }
    ASSERT(shown->count <= next - shown->offset);
    block_unref(block);
    return ERR_OK;
}

/* Where to begin: as asked for, or near the end; in the log in any case. */
static uint64_t place(const struct sim_request *self, const struct topic *topic)
{
    uint64_t start = topic_start(topic);
    uint64_t end = log_end(topic->log);

    if (self->offset == UINT64_MAX) {
        return end - start < self->records_max ? start : end - self->records_max;
    }
    return self->offset < start ? start : self->offset;
}

static struct topic *find_topic(const struct sim_request *self)
{
    char name[16];

    (void)snprintf(name, sizeof name, "topic-%u", self->topic); /* fits */
    return catalog_find(replica_catalog(node_of(self)->replica), name);
}

static void reply_read(struct sim_request *self, struct topic *topic, uint64_t applied)
{
    struct sim_answer like = {.result = {.err = ERR_OK}};
    struct sim_shown *shown = &like.shown;

    *shown = (struct sim_shown){
        .topic_id = topic->id,
        .offset = place(self, topic),
        .log_start = topic_start(topic),
        .log_end = log_end(topic->log),
        .applied = applied,
    };
    if (shown->offset > shown->log_end) {
        like.result.err = ERR_RANGE;
    } else {
        like.result.err = read_log(self, topic->log, shown);
    }
    sim_front_reply(self, &like);
}

static void reply_cursor(struct sim_request *self, struct topic *topic, uint64_t applied)
{
    struct sim_answer like = {.result = {.err = ERR_OK}};
    struct cursor cursor;

    like.shown.topic_id = topic->id;
    like.shown.applied = applied;
    if (cursors_find(catalog_cursors(replica_catalog(node_of(self)->replica)), topic->id,
                     self->cursor.name, &cursor)) {
        like.result.cursor = cursor.at;
    }
    sim_front_reply(self, &like);
}

/* What has come since; it stays, until its topic or its connection ends. */
static void follow(struct sim_request *self, struct topic *topic, uint64_t applied)
{
    if (self->topic_id != 0 && topic->id != self->topic_id) {
        sim_front_fail(self, ERR_TOPIC_UNKNOWN);
        return;
    }
    if (self->topic_id != 0 && self->offset != 0 && self->offset < topic_start(topic)) {
        sim_front_fail(self, ERR_RANGE); /* What it would have gone on with was trimmed. */
        return;
    }
    self->topic_id = topic->id;
    self->offset = place(self, topic);
    while (self->offset < log_end(topic->log)) {
        struct sim_answer like = {.result = {.err = ERR_OK}};
        struct sim_shown *shown = &like.shown;
        enum err err;

        *shown = (struct sim_shown){
            .topic_id = topic->id,
            .offset = self->offset,
            .log_start = topic_start(topic),
            .log_end = log_end(topic->log),
            .applied = applied,
        };
        err = read_log(self, topic->log, shown);
        if (err != ERR_OK) {
            sim_front_fail(self, err);
            return;
        }
        self->offset = shown->next;
        if (!sim_front_deliver(self, &like)) {
            return;
        }
    }
}

/* ---- how fresh it is ---- */

static void serve(struct sim_request *self, uint64_t applied)
{
    struct topic *topic = find_topic(self);

    if (topic == NULL) {
        sim_front_fail(self, ERR_TOPIC_UNKNOWN);
    } else if (self->ask == SIM_ASK_READ) {
        reply_read(self, topic, applied);
    } else if (self->ask == SIM_ASK_CURSOR) {
        reply_cursor(self, topic, applied);
    } else {
        self->state = SIM_REQUEST_FOLLOWING;
        follow(self, topic, applied);
    }
    topic_unref(topic);
}

void sim_serve_begin(struct sim_request *self)
{
    uint64_t now_us = sim_recorder_us(&self->cluster->recorder);
    unsigned broken = self->cluster->options.broken;

    if (self->mode == HISTORY_READ_LINEARIZABLE && (broken & SIM_BREAK_STALE_READ) == 0) {
        self->since_us = now_us;
    } else if (self->mode == HISTORY_READ_MAX_LAG && (broken & SIM_BREAK_NO_LAG) == 0) {
        self->since_us = now_us > self->lag_us ? now_us - self->lag_us : 1;
    } else if (self->mode == HISTORY_READ_TOKEN && (broken & SIM_BREAK_NO_TOKEN) != 0) {
        self->at_least = 0;
    }
}

void sim_serve_step(struct sim_request *self)
{
    struct sim_node *node = node_of(self);
    struct sim_front *front = &node->front;
    struct replica_status status;

    if (self->since_us != 0) {
        if (front->index_known_us < self->since_us) {
            self->state = SIM_REQUEST_CONFIRMING;
            sim_front_wake(node, self->cluster->now_ms); /* Asked from there. */
            return;
        }
        self->at_least = front->index_known > self->at_least ? front->index_known : self->at_least;
        self->since_us = 0;
    }
    replica_status(node->replica, &status);
    if (status.applied_index < self->at_least) {
        self->applied_index = self->at_least;
        self->state = SIM_REQUEST_APPLYING;
        return;
    }
    serve(self, status.applied_index);
}

/* ---- read indexes ---- */

static void on_read_done(struct replica_read *read)
{
    struct sim_request *self =
        (struct sim_request *)(void *)((uint8_t *)read - offsetof(struct sim_request, read));
    struct sim_cluster *cluster = self->cluster;
    struct sim_answer like = {.result = {.err = read->err}, .index = read->index};

    read->done = NULL;
    if (read->err != ERR_OK) {
        cluster->stats->reads_lost++;
    } else if (read->index < self->mark && !node_of(self)->disk.dead) {
        sim_violation(&cluster->oracle,
                      "a read at node %u gets index %llu, but %llu was applied when it came",
                      node_of(self)->id, U(read->index), U(self->mark));
    } else {
        cluster->stats->indexes++;
    }
    if (node_of(self)->disk.dead) {
        like.result.err = ERR_CLOSED;
    }
    sim_front_reply(self, &like);
}

void sim_serve_inquiry(struct sim_request *self)
{
    struct sim_node *node = node_of(self);

    self->read.done = on_read_done;
    self->mark = self->cluster->oracle.applied_last;
    if ((self->cluster->options.broken & SIM_BREAK_NO_ROUND) != 0) {
        struct sim_answer like = {.result = {.err = ERR_NOT_LEADER}};
        struct replica_status status;

        replica_status(node->replica, &status);
        self->read.done = NULL;
        if (status.role == RAFT_ROLE_LEADER) {
            like.result.err = ERR_OK;
            like.index = status.applied_index;
        }
        sim_front_reply(self, &like);
        return;
    }
    sim_node_read(node, &self->read); /* self may be gone, and the node down. */
}

/* To this node's own replica, or to the leader's. */
static void ask(struct sim_node *node, struct sim_node *leader)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_front *front = &node->front;
    const struct sim_origin origin = {
        .is_node = true, .number = node->slot, .connection = node->incarnation};
    struct sim_request *question =
        sim_request_new(cluster, SIM_ASK_INDEX, &origin, leader->slot, leader->incarnation);

    front->index_asked_us = sim_recorder_us(&cluster->recorder);
    front->index_id = question->id;
    front->index_asked = true;
    front->index_asked_node = leader->slot;
    front->index_retry_ms = cluster->now_ms + SILENT_MS;
    if (leader == node) {
        events_push(&cluster->events, cluster->now_ms, EVENT_REQUEST, node->slot,
                    (uint64_t)(uintptr_t)question, NULL);
    } else if (!sim_link_send(node, question)) {
        sim_request_free(question);
        front->index_asked = false;
        front->index_retry_ms = cluster->now_ms + RETRY_MS;
    }
    sim_front_wake(node, front->index_retry_ms);
}

void sim_serve_index(struct sim_node *node)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_front *front = &node->front;
    struct replica_status status;
    struct sim_node *leader;
    bool wanted = false;

    for (const struct sim_request *at = front->first; at != NULL && !wanted; at = at->after) {
        wanted = at->state == SIM_REQUEST_CONFIRMING && at->since_us != 0;
    }
    if (!wanted) {
        return;
    }
    replica_status(node->replica, &status);
    leader = status.leader_id == 0 ? NULL : sim_members_find(cluster, status.leader_id);
    if (front->index_asked && cluster->now_ms < front->index_retry_ms &&
        (leader == NULL || leader->slot == front->index_asked_node)) {
        return; /* It is under way. */
    }
    if (!front->index_asked && cluster->now_ms < front->index_retry_ms) {
        sim_front_wake(node, front->index_retry_ms);
        return;
    }
    front->index_asked = false;
    if (leader == NULL || leader->replica == NULL) {
        front->index_retry_ms = cluster->now_ms + RETRY_MS;
        sim_front_wake(node, front->index_retry_ms);
        return;
    }
    ask(node, leader);
}

void sim_serve_index_known(struct sim_node *node, const struct sim_answer *answer)
{
    struct sim_front *front = &node->front;
    struct sim_request *next;

    if (!front->index_asked || front->index_id != answer->of_id) {
        return;
    }
    front->index_asked = false;
    if (answer->result.err != ERR_OK) {
        front->index_retry_ms = node->cluster->now_ms + RETRY_MS;
        sim_front_wake(node, front->index_retry_ms);
        return;
    }
    front->index_retry_ms = 0;
    front->index_known_us = front->index_asked_us;
    front->index_known = answer->index > front->index_known ? answer->index : front->index_known;
    for (struct sim_request *at = front->first; at != NULL; at = next) {
        next = at->after;
        if (at->state == SIM_REQUEST_CONFIRMING) {
            sim_serve_step(at);
        }
    }
    sim_front_wake(node, node->cluster->now_ms); /* For those who came meanwhile. */
}

/* ---- in the end ---- */

static void dump_topic(struct sim_node *node, const struct topic *topic)
{
    struct sim_cluster *cluster = node->cluster;
    struct sim_request any = {.cluster = cluster, .node = node->slot};
    struct sim_shown shown = {.offset = topic_start(topic)};
    char text[SIM_TOPIC_SIZE_MAX];
    struct history_op op = {
        .kind = HISTORY_DUMP,
        .node = node->id,
        .topic = text,
        .log_start = topic_start(topic),
        .log_end = log_end(topic->log),
    };

    sim_topic_text((unsigned)(topic->name[6] - '0'), topic->id, text);
    do {
        enum err err = read_log(&any, topic->log, &shown);

        op.invoke_us = sim_recorder_us(&cluster->recorder);
        op.outcome = err == ERR_OK ? HISTORY_OK : HISTORY_FAIL;
        op.error = err == ERR_OK ? NULL : err_name(err);
        sim_shown_tell(&shown, &op);
        sim_recorder_add(&cluster->recorder, &op);
        sim_shown_fini(&shown);
        shown = (struct sim_shown){.offset = shown.next};
    } while (shown.offset < op.log_end && op.outcome == HISTORY_OK);
}

void sim_serve_dump(struct sim_node *node)
{
    struct topic **topics;
    size_t count;

    if (catalog_list(replica_catalog(node->replica), &topics, &count) != ERR_OK) {
        ASSERT(false);
    }
    for (size_t i = 0; i < count; i++) {
        dump_topic(node, topics[i]);
        topic_unref(topics[i]);
    }
    free(topics);
}
