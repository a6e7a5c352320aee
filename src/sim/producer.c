/*
 * Producers. With an id: every batch has its sequence and is tried, through any node, until it is
 * answered; after a failure, or when no answer comes, all that was not answered is sent again.
 * Without one: every batch is tried once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum { PATIENCE_MS = 1500 };

void sim_producer_init(struct sim_cluster *cluster, struct sim_client *client)
{
    struct prng *prng = &cluster->prng;

    client->producer = (struct sim_producer){
        .retries = client->number == 0 || prng_percent(prng, 70),
        .topic = (unsigned)prng_range(prng, 0, SIM_TOPIC_NAMES - 1),
    };
    if (cluster->compaction && client->number % 2 == 0) {
        client->producer.topic = SIM_KEYED_TOPIC;
    }
}

bool sim_producer_idle(const struct sim_client *client)
{
    return client->producer.count == 0 && client->producer.outstanding == 0;
}

/* ---- what is recorded ---- */

/* What becomes of the content is known, or will never be: this is what its client was told. */
static void conclude(struct sim_cluster *cluster, struct sim_client *client,
                     struct sim_content *content, enum history_outcome outcome,
                     const struct sim_answer *answer)
{
    uint64_t values[SIM_RECORDS_MAX];
    uint64_t keys[SIM_RECORDS_MAX];
    uint64_t tombstones[SIM_RECORDS_MAX];
    char topic[SIM_TOPIC_SIZE_MAX];
    struct history_op op = {
        .kind = HISTORY_PRODUCE,
        .outcome = outcome,
        .client = client->recorded,
        .node = client->connection.node,
        .sequence = content->sequence,
        .invoke_us = content->invoke_us,
        .return_us = sim_recorder_us(&cluster->recorder),
        .topic = topic,
        .values = values,
        .value_count = content->record_count,
        .keys = keys,
        .key_count = content->keyed ? content->record_count : 0,
        .tombstones = tombstones,
        .producer_id = content->producer_id,
        .epoch = content->epoch,
        .producer_sequence = content->base_sequence,
        .has_expect = content->has_expect,
        .expect_offset = content->expect_offset,
    };

    ASSERT(!content->concluded && content->record_count <= SIM_RECORDS_MAX);
    content->concluded = true;
    for (uint32_t i = 0; i < content->record_count; i++) {
        values[i] = content->value + i;
        keys[i] = content->keys[i] + 1;
        if (content->tombstones[i]) {
            tombstones[op.tombstone_count++] = i;
        }
    }
    sim_topic_text(client->producer.topic, content->topic_id, topic);
    if (answer != NULL && answer->result.err != ERR_OK) {
        op.error = err_name(answer->result.err);
    }
    if (outcome == HISTORY_OK) {
        op.node = answer->node;
        op.offset = answer->result.base_offset;
        op.token = answer->result.raft_index;
        op.duplicate = answer->result.duplicate;
        cluster->latest_token = op.token > cluster->latest_token ? op.token : cluster->latest_token;
    }
    sim_recorder_add(&cluster->recorder, &op);
    sim_trace(cluster, "c%u content %llu in %s: %s%s%s", client->number, U(content->number), topic,
              outcome == HISTORY_OK     ? "written"
              : outcome == HISTORY_FAIL ? "not written"
                                        : "unknown",
              op.error != NULL ? ", " : "", op.error != NULL ? op.error : "");
    sim_oracle_release(content);
}

/* The client gives it up. */
static void give_up(struct sim_cluster *cluster, struct sim_client *client,
                    struct sim_content *content, const struct sim_answer *answer)
{
    conclude(cluster, client, content, content->open == 0 ? HISTORY_FAIL : HISTORY_UNKNOWN, answer);
}

static void give_up_window(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;

    for (unsigned i = 0; i < self->count; i++) {
        give_up(cluster, client, self->window[i], NULL);
    }
    self->count = self->sent = 0;
}

void sim_producer_abort(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;

    give_up_window(cluster, client);
    for (unsigned i = 0; i < self->outstanding; i++) {
        give_up(cluster, client, self->once[i], NULL);
    }
    self->outstanding = 0;
}

/* ---- connections ---- */

static void forget_connection(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;

    self->asked = false;
    self->sent = 0;
    for (unsigned i = 0; i < self->outstanding; i++) {
        give_up(cluster, client, self->once[i], NULL);
    }
    self->outstanding = 0;
}

static void reconnect(struct sim_cluster *cluster, struct sim_client *client)
{
    forget_connection(cluster, client);
    sim_connection_renew(cluster, client);
}

static void reopen(struct sim_cluster *cluster, struct sim_client *client, unsigned node)
{
    forget_connection(cluster, client);
    sim_connection_open(cluster, client, node);
}

/* ---- requests ---- */

static bool has_id(const struct sim_producer *self, const struct sim_cluster *cluster)
{
    return !self->retries || self->producer_id != 0 ||
           (cluster->options.broken & SIM_BREAK_NO_DEDUP) != 0;
}

static struct sim_position *position(struct sim_producer *self)
{
    for (size_t i = 0; i < self->position_count; i++) {
        if (self->positions[i].topic_id == self->topic_id) {
            return &self->positions[i];
        }
    }
    self->positions =
        reallocarray(self->positions, self->position_count + 1, sizeof *self->positions);
    ASSERT(self->positions != NULL);
    self->positions[self->position_count] = (struct sim_position){.topic_id = self->topic_id};
    return &self->positions[self->position_count++];
}

/* Topics have a bound of each sort, or none. */
static const struct topic_settings *settings_of(const struct sim_cluster *cluster, unsigned topic)
{
    static const struct topic_settings compacted[] = {
        {.compact = true, .tombstone_ms = 3000},
        {.compact = false, .tombstone_ms = 1500}, /* until somebody says so */
    };
    static const struct topic_settings bounds[SIM_TOPIC_NAMES] = {
        {.retention_ms = 4000},
        {.retention_records = 37},
        {.retention_bytes = 5000},
        {.retention_ms = 0},
    };

    if (cluster->compaction && topic == SIM_KEYED_TOPIC) {
        return &compacted[prng_mix(cluster->options.seed + 1) % 4 == 0];
    }
    return cluster->retention ? &bounds[topic] : NULL;
}

static void ask(struct sim_cluster *cluster, struct sim_client *client, enum command_type type)
{
    struct sim_producer *self = &client->producer;
    struct sim_request *request = sim_connection_request(cluster, client, SIM_ASK_CHANGE);
    struct command *command = &request->proposal.command;

    command->type = type;
    request->topic = self->topic;
    if (type == COMMAND_RAISE_EPOCH) {
        command->claim =
            (struct producer_claim){.id = self->producer_id, .topic_id = self->topic_id};
    } else if (type == COMMAND_TOPIC_CREATE) {
        (void)snprintf(command->topic_name, sizeof command->topic_name, "topic-%u", self->topic);
        command->settings = settings_of(cluster, self->topic);
    }
    self->asked = true;
    sim_connection_send(client, request);
}

/* What the node knows of the topic; it asks for one where it knows none. */
static void find_topic(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;
    const struct sim_node *node = &cluster->nodes[client->connection.node];
    struct topic *topic;
    char name[16];

    (void)snprintf(name, sizeof name, "topic-%u", self->topic);
    topic = node->replica != NULL ? catalog_find(replica_catalog(node->replica), name) : NULL;
    if (topic != NULL) {
        self->topic_id = topic->id;
        topic_unref(topic);
    } else {
        ask(cluster, client, COMMAND_TOPIC_CREATE);
    }
}

static void send_content(struct sim_cluster *cluster, struct sim_client *client,
                         struct sim_content *content)
{
    struct sim_request *request = sim_connection_request(cluster, client, SIM_ASK_CHANGE);
    struct command *command = &request->proposal.command;

    content->open++;
    if (content->invoke_us == 0) {
        content->invoke_us = sim_recorder_us(&cluster->recorder);
        content->sequence = ++client->sequence;
    }
    request->content = content;
    request->proposal.acks_all = content->acks_all;
    command->type = COMMAND_PRODUCE;
    command->produce.topic_id = content->topic_id;
    command->produce.batch = content->batch;
    command->produce.has_expect = content->has_expect;
    command->produce.expect_offset = content->expect_offset;
    block_ref(content->batch.block);
    memcpy(command->produce.body_digest, content->body_digest, DIGEST_SIZE);
    sim_connection_send(client, request);
}

/* Where the node that it talks to sees the topic's end; often enough that is so. */
static uint64_t known_end(struct sim_cluster *cluster, const struct sim_client *client)
{
    const struct sim_node *node = &cluster->nodes[client->connection.node];
    struct topic *topic = node->replica != NULL ? catalog_find_id(replica_catalog(node->replica),
                                                                  client->producer.topic_id)
                                                : NULL;
    uint64_t end = topic != NULL ? log_end(topic->log) : 0;

    topic_unref(topic);
    return end;
}

static void choose_keys(struct prng *prng, struct sim_content *content, uint32_t size)
{
    content->keyed = true;
    content->value_size = size / content->record_count;
    for (uint32_t i = 0; i < content->record_count; i++) {
        content->keys[i] = (unsigned)prng_range(prng, 0, SIM_KEYS - 1);
        content->tombstones[i] = prng_percent(prng, 25);
    }
}

static struct sim_content *new_content(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;
    struct prng *prng = &cluster->prng;
    struct sim_content like = {
        .topic_id = self->topic_id,
        .producer_id = self->retries ? self->producer_id : 0,
        .epoch = self->retries ? self->epoch : 0,
        .record_count = (uint32_t)prng_range(prng, 1, SIM_RECORDS_MAX),
        .acks_all = prng_percent(prng, 10),
    };
    uint32_t size = (uint32_t)prng_range(prng, 8, cluster->body_max);

    if (cluster->compaction && self->topic == SIM_KEYED_TOPIC) {
        choose_keys(prng, &like, size);
    }
    if (prng_percent(prng, self->retries ? 2 : 20)) {
        like.has_expect = true;
        like.expect_offset = known_end(cluster, client) + prng_range(prng, 0, 1);
    }
    if (like.producer_id != 0) {
        struct sim_position *at = position(self);

        like.base_sequence = at->sequence;
        at->sequence += like.record_count;
    }
    return sim_oracle_content(&cluster->oracle, &like, size);
}

/* Sends what is not sent, and something new. */
static void produce(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;

    if (!self->retries) {
        if (!cluster->closing && self->outstanding < SIM_OUTSTANDING_MAX) {
            struct sim_content *content = new_content(cluster, client);

            self->once[self->outstanding++] = content;
            send_content(cluster, client, content);
        }
        return;
    }
    while (self->sent < self->count) {
        send_content(cluster, client, self->window[self->sent++]);
    }
    while (!cluster->closing && self->count < SIM_WINDOW_MAX && prng_percent(&cluster->prng, 50)) {
        self->window[self->count++] = new_content(cluster, client);
        send_content(cluster, client, self->window[self->sent++]);
    }
}

void sim_producer_act(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;
    struct sim_connection *connection = &client->connection;
    struct prng *prng = &cluster->prng;

    if (!self->asked && self->sent == 0 && self->outstanding == 0) {
        connection->heard_ms = cluster->now_ms;
    } else if (cluster->now_ms >= connection->heard_ms + PATIENCE_MS) {
        reconnect(cluster, client);
    }
    if (cluster->now_ms < connection->pause_until_ms || self->asked) {
        return;
    }
    if (!has_id(self, cluster)) {
        ask(cluster, client, COMMAND_INIT_PRODUCER);
    } else if (self->topic_id == 0) {
        find_topic(cluster, client);
    } else if (self->claims) {
        ask(cluster, client, COMMAND_RAISE_EPOCH);
    } else {
        produce(cluster, client);
        if (self->producer_id != 0 && !cluster->closing && prng_permille(prng, 10)) {
            /* A program that starts anew, while what it had sent is still on its way. */
            self->claims = true;
            reopen(cluster, client, (unsigned)prng_range(prng, 1, cluster->node_count));
        }
        if (self->count == 0 && self->outstanding == 0 && prng_permille(prng, 20)) {
            self->topic = (unsigned)prng_range(prng, 0, SIM_TOPIC_NAMES - 1);
            self->topic_id = 0;
        }
    }
}

/* ---- answers ---- */

/* Takes it out of a list. */
static bool take_out(struct sim_content **list, unsigned *count, const struct sim_content *content)
{
    for (unsigned at = 0; at < *count; at++) {
        if (list[at] == content) {
            (*count)--;
            memmove(&list[at], &list[at + 1], (*count - at) * sizeof list[0]);
            return true;
        }
    }
    return false;
}

static bool is_written(enum err err)
{
    return err_outcome(err) == ERR_OUTCOME_WRITTEN;
}

/* A try of a batch is answered. */
static void take_batch(struct sim_cluster *cluster, struct sim_client *client,
                       const struct sim_answer *answer)
{
    struct sim_producer *self = &client->producer;
    struct sim_content *content = answer->content;
    enum err err = answer->result.err;
    bool placed = err == ERR_OK || err == ERR_NOT_CONFIRMED;

    if (err_outcome(err) == ERR_OUTCOME_NOT_WRITTEN) {
        ASSERT(content->open > 0);
        content->open--;
    }
    if (!self->retries) {
        if (take_out(self->once, &self->outstanding, content)) {
            if (placed) {
                conclude(cluster, client, content, HISTORY_OK, answer);
            } else {
                give_up(cluster, client, content, answer);
            }
        }
    } else if (is_written(err) && take_out(self->window, &self->count, content)) {
        self->sent--;
        /* Where it stands may be forgotten. */
        conclude(cluster, client, content, placed ? HISTORY_OK : HISTORY_UNKNOWN, answer);
    }
}

/* The epoch is raised: what is written is known, the rest of the window never will be. */
static void take_epoch(struct sim_cluster *cluster, struct sim_client *client,
                       const struct fsm_result *result)
{
    struct sim_producer *self = &client->producer;

    for (unsigned i = 0; i < self->count; i++) {
        struct sim_content *content = self->window[i];
        bool fenced =
            content->base_sequence + (uint64_t)content->record_count > result->producer_records;

        if (fenced) {
            sim_oracle_fenced(&cluster->oracle, content);
        }
        conclude(cluster, client, content, fenced ? HISTORY_FAIL : HISTORY_UNKNOWN, NULL);
    }
    self->count = 0;
    position(self)->sequence = (uint32_t)result->producer_records;
    self->epoch = result->producer_epoch;
    self->claims = false;
    /* Answers to older tries are of no interest. */
    reopen(cluster, client, client->connection.node);
}

/* The topic was deleted, as far as the node knows, and with it what was not answered. */
static void lose_topic(struct sim_cluster *cluster, struct sim_client *client)
{
    struct sim_producer *self = &client->producer;

    give_up_window(cluster, client);
    self->claims = self->producer_id != 0; /* It may be there after all. */
    reopen(cluster, client, client->connection.node);
    self->topic_id = 0;
}

void sim_producer_take(struct sim_cluster *cluster, struct sim_client *client,
                       const struct sim_answer *answer)
{
    struct sim_producer *self = &client->producer;
    const struct fsm_result *result = &answer->result;

    if (answer->type == COMMAND_PRODUCE) {
        take_batch(cluster, client, answer);
        if (is_written(result->err)) {
            return;
        }
    }
    if (result->err == ERR_OK && answer->type == COMMAND_INIT_PRODUCER) {
        self->asked = false;
        self->producer_id = result->producer_id;
    } else if (result->err == ERR_OK && answer->type == COMMAND_RAISE_EPOCH) {
        take_epoch(cluster, client, result);
    } else if (answer->type == COMMAND_TOPIC_CREATE &&
               (result->err == ERR_OK || result->err == ERR_TOPIC_EXISTS)) {
        self->asked = false;
        self->topic_id = result->topic_id;
    } else if (result->err == ERR_TOPIC_UNKNOWN) {
        lose_topic(cluster, client);
    } else if (!self->retries && answer->type == COMMAND_PRODUCE &&
               err_outcome(result->err) == ERR_OUTCOME_NOT_WRITTEN) {
        return; /* The next one may fare better. */
    } else {
        if (self->producer_id != 0 &&
            (result->err == ERR_FENCED || result->err == ERR_EXPECT_FAILED)) {
            self->claims = true; /* By a try of its own that came late; or its numbers are void. */
        }
        reconnect(cluster, client);
    }
}
