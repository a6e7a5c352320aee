#include "sim/front.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "sim/cluster.h"

enum {
    RETRY_MS = 20,
    LEADER_LOST_MS = 500,
    CONFIRM_MARGIN_MS = 200,
    HINTS_MAX = 8,
};

static void route(struct sim_request *self);

/* ---- requests ---- */

struct sim_request *sim_request_new(struct sim_cluster *cluster, enum sim_ask ask,
                                    const struct sim_origin *origin, unsigned node,
                                    uint64_t incarnation)
{
    struct sim_request *self = calloc(1, sizeof *self);

    ASSERT(self != NULL);
    self->cluster = cluster;
    self->ask = ask;
    self->origin = *origin;
    self->node = node;
    self->incarnation = incarnation;
    self->id = ++cluster->request_ids;
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
    if (self->ask == SIM_ASK_CHANGE) {
        command_fini(&self->proposal.command);
    }
    free(self);
}

static struct sim_answer *answer_new(struct sim_request *request, const struct sim_answer *like)
{
    struct sim_cluster *cluster = request->cluster;
    struct sim_answer *self = malloc(sizeof *self);

    ASSERT(self != NULL);
    *self = *like;
    self->cluster = cluster;
    self->to = request->origin;
    self->ask = request->ask;
    self->type = request->proposal.command.type;
    self->node = cluster->nodes[request->node].id;
    self->content = request->content;
    self->of_id = request->id;
    self->peer_id = request->peer_id;
    self->next = cluster->answers;
    self->link = &cluster->answers;
    if (self->next != NULL) {
        self->next->link = &self->next;
    }
    cluster->answers = self;
    return self;
}

void sim_answer_free(struct sim_answer *self)
{
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    free(self->shown.values);
    free(self);
}

static struct sim_node *node_of(const struct sim_request *self)
{
    return &self->cluster->nodes[self->node];
}

static void enlist(struct sim_request *self)
{
    struct sim_request **at = &node_of(self)->front.first;

    while (*at != NULL) {
        at = &(*at)->after;
    }
    *at = self;
    self->after = NULL;
}

static void delist(struct sim_request *self)
{
    struct sim_request **at = &node_of(self)->front.first;

    while (*at != self) {
        ASSERT(*at != NULL);
        at = &(*at)->after;
    }
    *at = self->after;
}

/* ---- links between nodes ---- */

static bool linked(const struct sim_cluster *self, unsigned a, unsigned b)
{
    return a == b || (!net_blocked(&self->net, self->now_ms, a, b) &&
                      !net_blocked(&self->net, self->now_ms, b, a));
}

static uint64_t link_at(struct sim_cluster *self, unsigned from, unsigned to)
{
    struct prng *prng = &self->prng;
    uint64_t at = self->now_ms;

    if (from == to) {
        return at;
    }
    at += prng_percent(prng, 95) ? prng_range(prng, 0, 8) : prng_range(prng, 8, 200);
    if (self->net.slow) {
        at += prng_range(prng, 0, 150);
    }
    at = at < self->link_ms[from][to] ? self->link_ms[from][to] : at;
    self->link_ms[from][to] = at;
    return at;
}

static bool breaks(struct sim_cluster *self, unsigned a, unsigned b)
{
    return a != b && !self->healed && prng_permille(&self->prng, 5);
}

static void post(struct sim_answer *answer, unsigned from)
{
    struct sim_cluster *cluster = answer->cluster;
    uint64_t at = answer->to.is_node
                      ? link_at(cluster, from, answer->to.number)
                      : sim_connection_back(cluster, answer->to.number, answer->to.connection);

    if (at == UINT64_MAX) {
        sim_answer_free(answer);
        return;
    }
    events_push(&cluster->events, at, EVENT_ANSWER, answer->to.is_node ? answer->to.number : 0,
                (uint64_t)(uintptr_t)answer, NULL);
}

/* It will never be answered; the node that sent it may hear of it before its deadline. */
static void lose(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    const struct sim_answer closed = {.result = {.err = ERR_CLOSED}};

    ASSERT(self->origin.is_node);
    if (prng_percent(&cluster->prng, 70)) {
        struct sim_answer *answer = answer_new(self, &closed);

        events_push(&cluster->events, cluster->now_ms + prng_range(&cluster->prng, 1, 1500),
                    EVENT_ANSWER, self->origin.number, (uint64_t)(uintptr_t)answer, NULL);
    }
    sim_request_free(self);
}

bool sim_link_send(struct sim_node *from, struct sim_request *request)
{
    struct sim_cluster *cluster = from->cluster;

    if (!linked(cluster, from->slot, request->node) && prng_percent(&cluster->prng, 50)) {
        return false; /* It is known that there is none. */
    }
    if (!linked(cluster, from->slot, request->node) || breaks(cluster, from->slot, request->node)) {
        lose(request);
        return true;
    }
    events_push(&cluster->events, link_at(cluster, from->slot, request->node), EVENT_REQUEST,
                request->node, (uint64_t)(uintptr_t)request, NULL);
    return true;
}

/* ---- the end of a request ---- */

void sim_front_reply(struct sim_request *self, const struct sim_answer *like)
{
    struct sim_cluster *cluster = self->cluster;

    if (self->origin.is_node && (!linked(cluster, self->node, self->origin.number) ||
                                 breaks(cluster, self->node, self->origin.number))) {
        free(like->shown.values);
        if (self->state == SIM_REQUEST_SUBMITTED) {
            self->state = SIM_REQUEST_DISOWNED;
            return;
        }
        delist(self);
        lose(self);
        return;
    }
    post(answer_new(self, like), self->node);
    if (self->state == SIM_REQUEST_SUBMITTED) {
        self->state = SIM_REQUEST_DISOWNED;
    } else {
        delist(self);
        sim_request_free(self);
    }
}

void sim_front_fail(struct sim_request *self, enum err err)
{
    const struct sim_answer like = {.result = {.err = err}};

    ASSERT(err != ERR_OK);
    sim_front_reply(self, &like);
}

bool sim_front_deliver(struct sim_request *self, const struct sim_answer *like)
{
    struct sim_cluster *cluster = self->cluster;
    uint64_t at = sim_connection_back(cluster, self->origin.number, self->origin.connection);

    ASSERT(!self->origin.is_node);
    if (at == UINT64_MAX) {
        free(like->shown.values);
        delist(self);
        sim_request_free(self);
        return false;
    }
    events_push(&cluster->events, at, EVENT_ANSWER, 0, (uint64_t)(uintptr_t)answer_new(self, like),
                NULL);
    return true;
}

void sim_front_wake(struct sim_node *node, uint64_t at_ms)
{
    struct sim_front *front = &node->front;

    at_ms = at_ms < node->cluster->now_ms ? node->cluster->now_ms : at_ms;
    if (at_ms < front->timer_ms) {
        front->timer_ms = at_ms;
        events_push(&node->cluster->events, at_ms, EVENT_FRONT, node->slot,
                    ++front->timer_generation, NULL);
    }
}

/* ---- changes ---- */

static void hold(struct sim_request *self, enum err why)
{
    self->held_for = why;
    self->state = SIM_REQUEST_HELD;
    sim_front_wake(node_of(self), self->cluster->now_ms + RETRY_MS);
}

static void refuse(struct sim_request *self)
{
    struct replica_status status;
    struct sim_answer like = {.result = {.err = ERR_NOT_LEADER}};

    replica_status(node_of(self)->replica, &status);
    like.leader_id = status.leader_id;
    sim_front_reply(self, &like);
}

static void refused(struct sim_request *self, uint64_t leader_id)
{
    if (self->forwarded) {
        refuse(self);
    } else if (leader_id != 0 && self->hints < HINTS_MAX) {
        self->hint = leader_id;
        self->hints++;
        route(self);
    } else {
        self->hints = 0;
        hold(self, ERR_NO_LEADER);
    }
}

static bool is_of_cursor(const struct sim_request *self)
{
    return self->proposal.command.type == COMMAND_CURSOR_SET ||
           self->proposal.command.type == COMMAND_CURSOR_DELETE;
}

/* What the oracle hears of an outcome, whoever else does. */
static void tell_oracle(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    const struct fsm_result *result = &self->proposal.result;
    enum command_type type = self->proposal.command.type;

    if (self->content != NULL) {
        sim_oracle_answer(&cluster->oracle, self->content, node_of(self)->id, result);
    } else if (result->err == ERR_OK && type == COMMAND_INIT_PRODUCER) {
        sim_oracle_producer(&cluster->oracle, result->producer_id);
    } else if (result->err == ERR_OK && type == COMMAND_TOPIC_DELETE) {
        sim_oracle_deleted(&cluster->oracle, result->topic_id, sim_recorder_us(&cluster->recorder));
    } else if (result->err == ERR_OK && is_of_cursor(self)) {
        sim_oracle_cursor(&cluster->oracle, &self->cursor);
        cluster->stats->cursors++;
    } else if (type == COMMAND_TOPIC_DELETE &&
               err_outcome(result->err) == ERR_OUTCOME_NOT_WRITTEN) {
        cluster->oracle.deletes[self->topic]--;
    }
    cluster->stats->duplicates += result->err == ERR_OK && result->duplicate;
    cluster->stats->conflicts += result->err == ERR_CURSOR_CONFLICT;
    cluster->stats->unknown += err_outcome(result->err) == ERR_OUTCOME_UNKNOWN;
}

static void on_done(struct proposal *proposal)
{
    struct sim_request *self = (struct sim_request *)proposal;
    struct sim_answer like = {.result = proposal->result};

    _Static_assert(offsetof(struct sim_request, proposal) == 0, "a request begins with it");
    ASSERT(self->state == SIM_REQUEST_SUBMITTED || self->state == SIM_REQUEST_DISOWNED);
    tell_oracle(self);
    if (self->state == SIM_REQUEST_DISOWNED) {
        delist(self);
        sim_request_free(self);
        return;
    }
    self->state = SIM_REQUEST_COMING;
    if (node_of(self)->disk.dead) {
        /* The process has died before it could say anything. */
        sim_front_fail(self, ERR_CLOSED);
    } else if (proposal->result.err == ERR_NOT_LEADER) {
        refused(self, 0);
    } else {
        sim_front_reply(self, &like);
    }
}

/* Less than what is left, so that the answer still arrives in time. */
static uint64_t confirm_ms(const struct sim_request *self)
{
    uint64_t now_ms = self->cluster->now_ms;
    uint64_t left_ms = self->deadline_ms > now_ms ? self->deadline_ms - now_ms : 0;
    uint64_t margin_ms = left_ms / 4 < CONFIRM_MARGIN_MS ? left_ms / 4 : CONFIRM_MARGIN_MS;

    return left_ms - margin_ms;
}

/* A topic that this node has not heard of: not yet, or there is none. */
static void wait_for_topic(struct sim_request *self)
{
    struct replica_status status;

    replica_status(node_of(self)->replica, &status);
    if (self->applied_index > 0 || status.applied_index >= status.last_index) {
        sim_front_fail(self, ERR_TOPIC_UNKNOWN);
        return;
    }
    self->applied_index = status.last_index;
    self->state = SIM_REQUEST_CATCHING_UP;
}

/* ---- broken builds ---- */

static bool is_broken(const struct sim_request *self, unsigned what)
{
    return (self->cluster->options.broken & what) != 0;
}

/* Answers where the batch would stand, if all goes well, and nobody else's comes first. */
static void answer_early(struct sim_request *self, const struct topic *topic)
{
    struct sim_answer like = {.result = {.err = ERR_OK, .topic_id = topic->id}};
    struct replica_status status;

    replica_status(node_of(self)->replica, &status);
    like.result.base_offset = log_end(topic->log);
    for (const struct sim_request *at = node_of(self)->front.first; at != self; at = at->after) {
        if (at->content != NULL && at->content->topic_id == topic->id &&
            (at->state == SIM_REQUEST_SUBMITTED || at->state == SIM_REQUEST_DISOWNED)) {
            like.result.base_offset += at->content->record_count;
        }
    }
    like.result.raft_index = status.last_index + 1;
    like.result.record_count = self->content->record_count;
    sim_front_reply(self, &like);
}

/* Answers a claim without the others: whoever had the producer before is not fenced. */
static bool claim_alone(struct sim_request *self)
{
    const struct producer_claim *claim = &self->proposal.command.claim;
    struct sim_answer like = {.result = {.err = ERR_OK, .producer_id = claim->id}};
    struct manifest manifest;

    if (self->proposal.command.type != COMMAND_RAISE_EPOCH ||
        !is_broken(self, SIM_BREAK_NO_FENCING)) {
        return false;
    }
    if (fsm_manifest(replica_fsm(node_of(self)->replica), &manifest) != ERR_OK) {
        ASSERT(false);
    }
    like.result.producer_records =
        producers_records(manifest.producers, claim->id, claim->topic_id);
    manifest_fini(&manifest);
    sim_front_reply(self, &like);
    return true;
}

/* The same records once more, of nobody: they will be written, whatever became of the first try. */
static void make_new(struct sim_request *self)
{
    struct slice *batch = &self->proposal.command.produce.batch;
    struct block *block = block_new(batch->size);
    uint32_t body_size = (uint32_t)batch->size - BATCH_HEADER_SIZE;
    const struct batch_header header = {
        .size = (uint32_t)batch->size,
        .record_count = self->content->record_count,
        .body_crc32c = crc32c(batch->data + BATCH_HEADER_SIZE, body_size),
    };

    ASSERT(block != NULL);
    memcpy(block->data, batch->data, batch->size);
    batch_header_encode(&header, block->data);
    bytes_put_u32(block->data + 4, 0); /* header_crc32c is stamped later */
    block_unref(batch->block);
    *batch = (struct slice){.block = block, .data = block->data, .size = block->size};
}

/* Whether a request whose answer was lost is tried again, as if it had never been sent. */
static bool try_as_new(struct sim_request *self)
{
    if (!is_broken(self, SIM_BREAK_FORWARD_NEW) || self->content == NULL || self->leader_lost) {
        return false;
    }
    make_new(self);
    hold(self, ERR_AGAIN);
    return true;
}

static void submit(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct sim_node *node = node_of(self);
    struct topic *topic = NULL;

    if (claim_alone(self)) {
        return;
    }
    if (self->content != NULL) {
        topic = catalog_find_id(replica_catalog(node->replica), self->content->topic_id);
        if (topic == NULL) {
            wait_for_topic(self);
            return;
        }
    }
    if (replica_full(node->replica)) {
        topic_unref(topic);
        hold(self, ERR_BUSY);
        return;
    }
    if (self->content != NULL && is_broken(self, SIM_BREAK_NO_EXPECT)) {
        self->proposal.command.produce.has_expect = false;
        self->proposal.command.produce.expect_offset = 0;
    }
    self->state = SIM_REQUEST_SUBMITTED;
    self->proposal.done = on_done;
    self->proposal.confirm_ms = confirm_ms(self);
    if (self->content != NULL) {
        self->content->possible++;
    } else if (self->proposal.command.type == COMMAND_TOPIC_DELETE) {
        cluster->oracle.deletes[self->topic]++;
    } else if (self->proposal.command.type == COMMAND_RAISE_EPOCH) {
        sim_oracle_claim(&cluster->oracle, self->proposal.command.claim.id);
    }
    sim_node_propose(node, &self->proposal);
    if (self->content != NULL && is_broken(self, SIM_BREAK_ACK_UNCOMMITTED)) {
        answer_early(self, topic);
    }
    topic_unref(topic);
}

static void copy_command(const struct sim_request *self, struct sim_request *copy)
{
    copy->proposal.acks_all = self->proposal.acks_all;
    copy->proposal.command = self->proposal.command;
    copy->topic = self->topic;
    copy->content = self->content;
    copy->cursor = self->cursor;
    if (copy->content != NULL) {
        block_ref(copy->proposal.command.produce.batch.block);
    } else if (is_of_cursor(copy)) {
        copy->proposal.command.cursor = &copy->cursor;
    }
}

static void pass_on(struct sim_request *self, struct sim_node *leader)
{
    struct sim_node *node = node_of(self);
    const struct sim_origin origin = {
        .is_node = true, .number = node->slot, .connection = node->incarnation};
    struct sim_request *copy =
        sim_request_new(self->cluster, self->ask, &origin, leader->slot, leader->incarnation);

    copy_command(self, copy);
    copy->forwarded = true;
    copy->peer_id = self->id;
    copy->deadline_ms = self->deadline_ms;
    self->passed_id = copy->id;
    self->sent_to = leader->slot;
    if (!sim_link_send(node, copy)) {
        sim_request_free(copy);
        hold(self, ERR_AGAIN);
        return;
    }
    self->state = SIM_REQUEST_SENT;
    self->cluster->stats->forwarded++;
}

static void route(struct sim_request *self)
{
    struct sim_node *node = node_of(self);
    struct replica_status status;
    struct sim_node *leader;
    uint64_t leader_id;

    replica_status(node->replica, &status);
    leader_id = self->hint != 0 ? self->hint : status.leader_id;
    self->hint = 0;
    if (leader_id == node->id) {
        submit(self);
    } else if (self->forwarded) {
        refuse(self);
    } else {
        leader = leader_id == 0 ? NULL : sim_members_find(self->cluster, leader_id);
        if (leader == NULL || leader->replica == NULL) {
            hold(self, leader_id == 0 ? ERR_NO_LEADER : ERR_AGAIN);
        } else {
            pass_on(self, leader);
        }
    }
}

static void on_deadline(struct sim_request *self)
{
    switch (self->state) {
    case SIM_REQUEST_HELD:
        sim_front_fail(self, self->held_for == ERR_BUSY ? ERR_BUSY : ERR_NO_LEADER);
        break;
    case SIM_REQUEST_CATCHING_UP:
        sim_front_fail(self, ERR_NO_LEADER);
        break;
    case SIM_REQUEST_SENT:
    case SIM_REQUEST_SUBMITTED:
        if (is_broken(self, SIM_BREAK_CERTAIN)) {
            sim_front_fail(self, ERR_NO_LEADER);
            break;
        }
        sim_front_fail(self, self->leader_lost ? ERR_LEADERSHIP_LOST : ERR_TIMEOUT);
        break;
    case SIM_REQUEST_CONFIRMING:
    case SIM_REQUEST_APPLYING:
        sim_front_fail(self, ERR_LAGGING);
        break;
    case SIM_REQUEST_COMING:
    case SIM_REQUEST_FOLLOWING:
    case SIM_REQUEST_DISOWNED:
        ASSERT(false); /* They have none. */
    }
}

/* ---- what happens ---- */

static bool has_deadline(const struct sim_request *self)
{
    return self->state != SIM_REQUEST_FOLLOWING && self->state != SIM_REQUEST_DISOWNED;
}

static bool is_held(const struct sim_node *node)
{
    for (const struct sim_request *at = node->front.first; at != NULL; at = at->after) {
        if (at->state == SIM_REQUEST_HELD) {
            return true;
        }
    }
    return false;
}

void sim_front_arrive(struct sim_request *self)
{
    struct sim_node *node = node_of(self);
    bool queue;

    ASSERT(self->state == SIM_REQUEST_COMING);
    if (node->replica == NULL || node->incarnation != self->incarnation) {
        const struct sim_answer closed = {.result = {.err = ERR_CLOSED}};

        if (self->origin.is_node) {
            lose(self);
        } else {
            post(answer_new(self, &closed), self->node);
            sim_request_free(self);
        }
        return;
    }
    queue = self->ask == SIM_ASK_CHANGE && !self->forwarded && is_held(node);
    enlist(self);
    if (self->ask == SIM_ASK_INDEX) {
        sim_serve_inquiry(self);
        return;
    }
    if (self->ask != SIM_ASK_FOLLOW) {
        sim_front_wake(node, self->deadline_ms);
    }
    if (self->ask != SIM_ASK_CHANGE) {
        sim_serve_begin(self);
        self->state = SIM_REQUEST_CONFIRMING;
        sim_serve_step(self);
    } else if (queue) {
        hold(self, ERR_NO_LEADER); /* In order, behind what waits already. */
    } else {
        route(self);
    }
}

static struct sim_request *find(const struct sim_node *node, uint64_t id)
{
    struct sim_request *at = node->front.first;

    while (at != NULL && at->id != id) {
        at = at->after;
    }
    return at;
}

void sim_front_answered(struct sim_answer *answer)
{
    struct sim_node *node = &answer->cluster->nodes[answer->to.number];
    struct sim_request *request;
    struct sim_answer like = {.result = answer->result};

    if (node->replica == NULL || node->incarnation != answer->to.connection) {
        return;
    }
    if (answer->ask == SIM_ASK_INDEX) {
        sim_serve_index_known(node, answer);
        return;
    }
    request = find(node, answer->peer_id);
    if (request == NULL || request->state != SIM_REQUEST_SENT ||
        request->passed_id != answer->of_id) {
        return;
    }
    request->state = SIM_REQUEST_COMING;
    if (answer->result.err == ERR_NOT_LEADER) {
        refused(request, answer->leader_id);
    } else if (answer->result.err != ERR_CLOSED || !try_as_new(request)) {
        sim_front_reply(request, &like);
    }
}

/* What the old leader has will hardly be answered by it now. */
static void look_at_leader(struct sim_node *node, uint64_t leader_id)
{
    struct sim_front *front = &node->front;
    uint64_t at_ms = node->cluster->now_ms + LEADER_LOST_MS;

    if (leader_id == front->leader_id || leader_id == 0) {
        return;
    }
    front->leader_id = leader_id;
    for (struct sim_request *at = front->first; at != NULL; at = at->after) {
        if (at->state == SIM_REQUEST_SENT && node->cluster->nodes[at->sent_to].id != leader_id &&
            at->deadline_ms > at_ms) {
            at->leader_lost = true;
            at->deadline_ms = at_ms;
            sim_front_wake(node, at_ms);
        }
    }
}

/* Routes what is held, in order. Where the first finds no way, the others find none either. */
static void retry(struct sim_node *node)
{
    struct sim_request *next;
    bool stuck = false;

    for (struct sim_request *at = node->front.first; at != NULL && !stuck; at = next) {
        next = at->after;
        if (at->state == SIM_REQUEST_HELD) {
            uint64_t id = at->id;

            route(at);
            at = find(node, id);
            stuck = at != NULL && at->state == SIM_REQUEST_HELD;
            next = at != NULL ? at->after : next;
        }
    }
}

/* All that waits for something to be applied. */
static void go_on(struct sim_node *node, uint64_t applied)
{
    struct sim_request *next;

    for (struct sim_request *at = node->front.first; at != NULL; at = next) {
        next = at->after;
        if (at->state == SIM_REQUEST_CATCHING_UP && applied >= at->applied_index) {
            route(at);
        } else if (at->state == SIM_REQUEST_FOLLOWING ||
                   (at->state == SIM_REQUEST_APPLYING && applied >= at->applied_index)) {
            sim_serve_step(at);
        }
    }
}

static void expire(struct sim_node *node)
{
    struct sim_request *next;
    uint64_t now_ms = node->cluster->now_ms;

    for (struct sim_request *at = node->front.first; at != NULL; at = next) {
        next = at->after;
        if (has_deadline(at) && at->ask != SIM_ASK_INDEX) {
            if (at->deadline_ms <= now_ms) {
                on_deadline(at);
            } else {
                sim_front_wake(node, at->deadline_ms);
            }
        }
    }
}

void sim_front_tick(struct sim_node *node, uint64_t generation)
{
    struct sim_front *front = &node->front;
    struct replica_status status;

    if (generation != front->timer_generation || node->replica == NULL) {
        return;
    }
    front->timer_ms = UINT64_MAX;
    if (front->published) {
        front->published = false;
        replica_status(node->replica, &status);
        look_at_leader(node, status.leader_id);
        go_on(node, status.applied_index);
    }
    expire(node);
    retry(node);
    sim_serve_index(node);
}

void sim_front_published(struct sim_node *node)
{
    node->front.published = true;
    if (node->front.first != NULL) {
        sim_front_wake(node, node->cluster->now_ms);
    }
}

void sim_front_end(struct sim_node *node)
{
    struct sim_request *next;

    for (struct sim_request *at = node->front.first; at != NULL; at = next) {
        next = at->after;
        if (at->state == SIM_REQUEST_SUBMITTED || at->state == SIM_REQUEST_DISOWNED ||
            (at->ask == SIM_ASK_INDEX && at->read.done != NULL)) {
            continue; /* The replica gives them back when it is closed. */
        }
        at->state = SIM_REQUEST_COMING;
        sim_front_fail(at, ERR_CLOSED);
    }
}

void sim_front_reset(struct sim_node *node)
{
    ASSERT(node->front.first == NULL);
    node->front = (struct sim_front){
        .timer_ms = UINT64_MAX,
        .timer_generation = node->front.timer_generation + 1,
    };
}
