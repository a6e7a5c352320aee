/*
 * Clients: producers that retry until they are answered, in order, with the same sequence, through
 * any node; and such as try every batch once.
 *
 *      request ──► node ──► replica ──► done ──► answer
 *         │         └── down: refused            └── lost with its connection
 *         └── lost with its connection
 *
 * A connection keeps order both ways. After a failure, or when no answer comes, a client that
 * retries goes to another node and sends again all that was not answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum { OUTSTANDING_MAX = 12, PATIENCE_MS = 1500 };

/* ---- requests ---- */

static struct sim_request *request_new(struct sim_cluster *cluster, const struct sim_client *client,
                                       enum command_type type)
{
    struct sim_request *self = calloc(1, sizeof *self);

    ASSERT(self != NULL);
    self->cluster = cluster;
    self->client = client->number;
    self->node = client->node;
    self->incarnation = client->incarnation;
    self->connection = client->connection;
    self->proposal.command.type = type;
    self->next = cluster->requests;
    self->link = &cluster->requests;
    if (self->next != NULL) {
        self->next->link = &self->next;
    }
    cluster->requests = self;
    return self;
}

void sim_request_free(struct sim_request *self)
{
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    command_fini(&self->proposal.command);
    free(self);
}

static void push(struct sim_request *self, uint64_t time_ms)
{
    events_push(&self->cluster->events, time_ms, EVENT_CLIENT, self->node,
                (uint64_t)(uintptr_t)self, NULL);
}

/* It was never proposed. */
static void void_request(struct sim_request *self)
{
    if (self->content != NULL) {
        sim_oracle_not_written(&self->cluster->oracle, self->content);
    } else if (self->proposal.command.type == COMMAND_TOPIC_DELETE) {
        self->cluster->oracle.deletes[self->topic]--;
    }
}

/* On its way, unless the connection breaks. */
static void request_send(struct sim_client *client, struct sim_request *request)
{
    struct sim_cluster *cluster = request->cluster;
    struct prng *prng = &cluster->prng;
    uint64_t at = cluster->now_ms + prng_range(prng, 0, 4);

    if (!cluster->healed && prng_permille(prng, 5)) {
        client->broken = true;
    }
    if (client->broken) {
        void_request(request);
        sim_request_free(request);
        return;
    }
    client->last_ms = at < client->last_ms ? client->last_ms : at;
    push(request, client->last_ms);
}

/* The way back. */
static void answer(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct prng *prng = &cluster->prng;
    struct sim_client *client = &cluster->clients[self->client];
    uint64_t at = cluster->now_ms + prng_range(prng, 0, 4);

    self->answered = true;
    if (self->connection == client->connection) {
        if (!cluster->healed && prng_permille(prng, 5)) {
            client->broken = true;
        }
        if (client->broken) {
            sim_request_free(self);
            return;
        }
        client->back_ms = at < client->back_ms ? client->back_ms : at;
        at = client->back_ms;
    }
    push(self, at);
}

static bool is_of_cursor(const struct sim_request *self)
{
    return self->proposal.command.type == COMMAND_CURSOR_SET ||
           self->proposal.command.type == COMMAND_CURSOR_DELETE;
}

static void on_done(struct proposal *proposal)
{
    struct sim_request *self = (struct sim_request *)proposal;
    struct sim_cluster *cluster = self->cluster;
    const struct fsm_result *result = &proposal->result;

    _Static_assert(offsetof(struct sim_request, proposal) == 0, "a request begins with it");
    ASSERT(self->proposed && !self->answered);
    self->proposed = false;
    if (cluster->nodes[self->node].disk.dead) {
        /* The process has died before it could say anything. */
        self->proposal.result = (struct fsm_result){.err = ERR_CLOSED};
    }
    if (self->content != NULL) {
        sim_oracle_answer(&cluster->oracle, self->content, self->node, result);
    } else if (result->err == ERR_OK && proposal->command.type == COMMAND_INIT_PRODUCER) {
        sim_oracle_producer(&cluster->oracle, result->producer_id);
    } else if (result->err == ERR_OK && is_of_cursor(self)) {
        sim_oracle_cursor(&cluster->oracle, &self->cursor);
        cluster->stats->cursors++;
    } else if (err_outcome(result->err) == ERR_OUTCOME_NOT_WRITTEN) {
        void_request(self);
    }
    cluster->stats->duplicates += result->err == ERR_OK && result->duplicate;
    cluster->stats->conflicts += result->err == ERR_CURSOR_CONFLICT;
    cluster->stats->unknown += err_outcome(result->err) == ERR_OUTCOME_UNKNOWN;
    answer(self);
}

static void refuse(struct sim_request *self, enum err err)
{
    ASSERT(err_outcome(err) == ERR_OUTCOME_NOT_WRITTEN);
    self->proposal.result = (struct fsm_result){.err = err};
    void_request(self);
    answer(self);
}

static void arrive(struct sim_request *self)
{
    struct sim_node *node = &self->cluster->nodes[self->node];

    if (node->replica == NULL || node->incarnation != self->incarnation) {
        refuse(self, ERR_CONNECT);
    } else if (replica_full(node->replica)) {
        refuse(self, ERR_BUSY);
    } else {
        self->proposed = true;
        self->proposal.done = on_done;
        sim_node_propose(node, &self->proposal);
    }
}

/* ---- clients ---- */

void sim_client_init(struct sim_cluster *cluster, unsigned number)
{
    struct prng *prng = &cluster->prng;
    struct sim_client *self = &cluster->clients[number];

    *self = (struct sim_client){
        .number = number,
        .retries = number == 0 || prng_percent(prng, 70),
        .node = (unsigned)prng_range(prng, 1, cluster->node_count),
        .topic = (unsigned)prng_range(prng, 0, SIM_TOPIC_NAMES - 1),
        .pace_ms = (unsigned)prng_range(prng, 10, 120),
        .connection = 1,
    };
}

void sim_client_fini(struct sim_client *self)
{
    free(self->positions);
}

static bool has_id(const struct sim_client *self, const struct sim_cluster *cluster)
{
    return !self->retries || self->producer_id != 0 ||
           (cluster->options.broken & SIM_BREAK_NO_DEDUP) != 0;
}

static void connect_to(struct sim_cluster *cluster, struct sim_client *self, unsigned node)
{
    self->node = node;
    self->incarnation = cluster->nodes[node].incarnation;
    self->connection++;
    self->broken = false;
    self->last_ms = self->back_ms = 0;
    self->asked = false;
    self->sent = 0;
    self->outstanding = 0;
    self->heard_ms = cluster->now_ms;
}

/* To another node: often the one that leads. */
static void reconnect(struct sim_cluster *cluster, struct sim_client *self)
{
    struct prng *prng = &cluster->prng;
    const struct sim_node *leader = sim_leader(cluster);
    unsigned node = (unsigned)prng_range(prng, 1, cluster->node_count);

    if (leader != NULL && prng_percent(prng, 60)) {
        node = leader->slot;
    }
    connect_to(cluster, self, node);
    self->pause_until_ms = cluster->now_ms + prng_range(prng, 1, 150);
}

static struct sim_position *position(struct sim_client *self)
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

static void ask(struct sim_cluster *cluster, struct sim_client *self, enum command_type type)
{
    struct sim_request *request = request_new(cluster, self, type);

    request->topic = self->topic;
    if (type == COMMAND_RAISE_EPOCH) {
        request->proposal.command.claim =
            (struct producer_claim){.id = self->producer_id, .topic_id = self->topic_id};
        sim_oracle_claim(&cluster->oracle, self->producer_id);
    } else if (type != COMMAND_INIT_PRODUCER) {
        (void)snprintf(request->proposal.command.topic_name,
                       sizeof request->proposal.command.topic_name, "topic-%u", self->topic);
    }
    if (type == COMMAND_TOPIC_DELETE) {
        cluster->oracle.deletes[self->topic]++;
    } else {
        self->asked = true;
    }
    request_send(self, request);
}

/* One of two cursors that all clients share: by what was heard of it last, or whatever it is. */
static void change_cursor(struct sim_cluster *cluster, struct sim_client *self)
{
    struct prng *prng = &cluster->prng;
    bool deletes = prng_percent(prng, 10);
    struct sim_request *request =
        request_new(cluster, self, deletes ? COMMAND_CURSOR_DELETE : COMMAND_CURSOR_SET);
    struct cursor_change *change = &request->cursor;

    (void)snprintf(change->topic, sizeof change->topic, "topic-%u", self->topic);
    (void)snprintf(change->name, sizeof change->name, "c%u", (unsigned)prng_range(prng, 0, 1));
    if (prng_percent(prng, 70)) {
        change->expect = CURSOR_EXPECT_REVISION;
        change->expected = self->cursor_revision;
    }
    if (!deletes) {
        change->offset = prng_range(prng, 0, 20);
        change->owner = self->number;
    }
    request->proposal.command.cursor = change;
    request_send(self, request);
}

/* What the node knows of the topic; it asks for one where it knows none. */
static void find_topic(struct sim_cluster *cluster, struct sim_client *self)
{
    const struct sim_node *node = &cluster->nodes[self->node];
    struct topic *topic;
    char name[16];

    (void)snprintf(name, sizeof name, "topic-%u", self->topic);
    topic = node->replica != NULL ? catalog_find(replica_catalog(node->replica), name) : NULL;
    if (topic != NULL) {
        self->topic_id = topic->id;
        topic_unref(topic);
    } else {
        ask(cluster, self, COMMAND_TOPIC_CREATE);
    }
}

static void send_content(struct sim_cluster *cluster, struct sim_client *self,
                         struct sim_content *content)
{
    struct sim_request *request = request_new(cluster, self, COMMAND_PRODUCE);
    struct command *command = &request->proposal.command;

    request->content = content;
    content->possible++;
    command->produce.topic_id = content->topic_id;
    command->produce.batch = content->batch;
    command->produce.has_expect = content->has_expect;
    command->produce.expect_offset = content->expect_offset;
    block_ref(content->batch.block);
    memcpy(command->produce.body_digest, content->body_digest, DIGEST_SIZE);
    request_send(self, request);
}

/* Where the node that it talks to sees the topic's end; often enough that is so. */
static uint64_t known_end(struct sim_cluster *cluster, const struct sim_client *self)
{
    const struct sim_node *node = &cluster->nodes[self->node];
    struct topic *topic = node->replica != NULL
                              ? catalog_find_id(replica_catalog(node->replica), self->topic_id)
                              : NULL;
    uint64_t end = topic != NULL ? log_end(topic->log) : 0;

    if (topic != NULL) {
        topic_unref(topic);
    }
    return end;
}

static struct sim_content *new_content(struct sim_cluster *cluster, struct sim_client *self)
{
    struct prng *prng = &cluster->prng;
    struct sim_content like = {
        .topic_id = self->topic_id,
        .producer_id = self->retries ? self->producer_id : 0,
        .epoch = self->retries ? self->epoch : 0,
        .record_count = (uint32_t)prng_range(prng, 1, 5),
    };
    uint32_t size = (uint32_t)prng_range(prng, 8, cluster->body_max);

    if (prng_percent(prng, self->retries ? 2 : 20)) {
        like.has_expect = true;
        like.expect_offset = known_end(cluster, self) + prng_range(prng, 0, 1);
    }
    if (like.producer_id != 0) {
        struct sim_position *at = position(self);

        like.base_sequence = at->sequence;
        at->sequence += like.record_count;
    }
    return sim_oracle_content(&cluster->oracle, &like, size);
}

/* Sends what is not sent, and something new. */
static void produce(struct sim_cluster *cluster, struct sim_client *self)
{
    if (!self->retries) {
        if (!cluster->closing && self->outstanding < OUTSTANDING_MAX) {
            self->outstanding++;
            send_content(cluster, self, new_content(cluster, self));
        }
        return;
    }
    while (self->sent < self->count) {
        send_content(cluster, self, self->window[self->sent++]);
    }
    while (!cluster->closing && self->count < SIM_WINDOW_MAX && prng_percent(&cluster->prng, 50)) {
        self->window[self->count++] = new_content(cluster, self);
        send_content(cluster, self, self->window[self->sent++]);
    }
}

void sim_client_act(struct sim_cluster *cluster, struct sim_client *self)
{
    struct prng *prng = &cluster->prng;
    bool waits = self->asked || self->sent > 0 || self->outstanding > 0;

    if (!waits) {
        self->heard_ms = cluster->now_ms;
    } else if (cluster->now_ms >= self->heard_ms + PATIENCE_MS) {
        reconnect(cluster, self);
    }
    if (cluster->now_ms < self->pause_until_ms || self->asked) {
        return;
    }
    if (!has_id(self, cluster)) {
        ask(cluster, self, COMMAND_INIT_PRODUCER);
    } else if (self->topic_id == 0) {
        find_topic(cluster, self);
    } else if (self->claims) {
        ask(cluster, self, COMMAND_RAISE_EPOCH);
    } else {
        produce(cluster, self);
        if (self->producer_id != 0 && !cluster->closing && prng_permille(prng, 10)) {
            /* A program that starts anew, while what it had sent is still on its way. */
            self->claims = true;
            connect_to(cluster, self, (unsigned)prng_range(prng, 1, cluster->node_count));
        }
        if (!cluster->closing && prng_permille(prng, 2)) {
            ask(cluster, self, COMMAND_TOPIC_DELETE);
        }
        if (!cluster->closing && cluster->options.cursors && prng_percent(prng, 30)) {
            change_cursor(cluster, self);
        }
        if (self->count == 0 && prng_permille(prng, 20)) {
            self->topic = (unsigned)prng_range(prng, 0, SIM_TOPIC_NAMES - 1);
            self->topic_id = 0;
        }
    }
}

/* The answer to a batch of the window. */
static void take_written(struct sim_client *self, const struct sim_content *content)
{
    unsigned at = 0;

    while (at < self->count && self->window[at] != content) {
        at++;
    }
    ASSERT(at < self->sent);
    self->count--;
    self->sent--;
    memmove(&self->window[at], &self->window[at + 1], (self->count - at) * sizeof self->window[0]);
}

/* The epoch is raised: what is written is known, the rest of the window never will be. */
static void take_epoch(struct sim_cluster *cluster, struct sim_client *self,
                       const struct fsm_result *result)
{
    struct sim_position *at = position(self);

    for (unsigned i = 0; i < self->count; i++) {
        struct sim_content *content = self->window[i];

        if (content->base_sequence + (uint64_t)content->record_count > result->producer_records) {
            sim_oracle_fenced(&cluster->oracle, content);
        }
    }
    at->sequence = (uint32_t)result->producer_records;
    self->epoch = result->producer_epoch;
    self->claims = false;
    self->count = 0;
    connect_to(cluster, self, self->node); /* Answers to older tries are of no interest. */
}

static void take_answer(struct sim_cluster *cluster, struct sim_client *self,
                        const struct sim_request *request)
{
    const struct fsm_result *result = &request->proposal.result;
    enum command_type type = request->proposal.command.type;

    if (is_of_cursor(request) && (result->err == ERR_OK || result->err == ERR_CURSOR_CONFLICT)) {
        self->cursor_revision = result->cursor.revision;
    }
    if (type == COMMAND_TOPIC_DELETE || is_of_cursor(request)) {
        return; /* Nobody waits for it. */
    }
    self->heard_ms = cluster->now_ms;
    if (type == COMMAND_PRODUCE && !self->retries) {
        self->outstanding--;
    }
    if (result->err == ERR_OK || result->err == ERR_DUPLICATE_OLD) {
        if (type == COMMAND_INIT_PRODUCER) {
            self->asked = false;
            self->producer_id = result->producer_id;
        } else if (type == COMMAND_RAISE_EPOCH) {
            take_epoch(cluster, self, result);
        } else if (type == COMMAND_TOPIC_CREATE) {
            self->asked = false;
            self->topic_id = result->topic_id;
        } else if (self->retries) {
            take_written(self, request->content);
        }
    } else if (result->err == ERR_TOPIC_EXISTS) {
        self->asked = false;
        self->topic_id = result->topic_id;
    } else if (result->err == ERR_TOPIC_UNKNOWN) {
        /* Deleted, and with it what was not answered. */
        self->count = self->sent = 0;
        self->topic_id = 0;
        connect_to(cluster, self, self->node);
    } else {
        if (self->producer_id != 0 &&
            (result->err == ERR_FENCED || result->err == ERR_EXPECT_FAILED)) {
            self->claims = true; /* By a try of its own that came late; or its numbers are void. */
        }
        reconnect(cluster, self);
    }
}

void sim_request_take(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct sim_client *client = &cluster->clients[self->client];

    if (!self->answered) {
        arrive(self);
        return;
    }
    if (self->connection == client->connection) {
        take_answer(cluster, client, self);
    }
    sim_request_free(self);
}
