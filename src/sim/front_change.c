/*
 * Changes at a node's front, as in server/change.c: routed to the leader, here or elsewhere; held
 * while there is none; and what broken builds do instead.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "sim/cluster.h"
#include "sim/front.h"

enum {
    RETRY_MS = 20,
    CONFIRM_MARGIN_MS = 200,
    HINTS_MAX = 8,
};

void sim_change_hold(struct sim_request *self, enum err why)
{
    self->held_for = why;
    self->state = SIM_REQUEST_HELD;
    sim_front_wake(sim_request_node(self), self->cluster->now_ms + RETRY_MS);
}

static void refuse(struct sim_request *self)
{
    struct replica_status status;
    struct sim_answer like = {.result = {.err = ERR_NOT_LEADER}};

    replica_status(sim_request_node(self)->replica, &status);
    like.leader_id = status.leader_id;
    sim_front_reply(self, &like);
}

void sim_change_refused(struct sim_request *self, uint64_t leader_id)
{
    if (self->forwarded) {
        refuse(self);
    } else if (leader_id != 0 && self->hints < HINTS_MAX) {
        self->hint = leader_id;
        self->hints++;
        sim_change_route(self);
    } else {
        self->hints = 0;
        sim_change_hold(self, ERR_NO_LEADER);
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
        sim_oracle_answer(&cluster->oracle, self->content, sim_request_node(self)->id, result);
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
    cluster->stats->altered += result->err == ERR_OK && type == COMMAND_TOPIC_ALTER;
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
        sim_front_delist(self);
        sim_request_free(self);
        return;
    }
    self->state = SIM_REQUEST_COMING;
    if (sim_request_node(self)->disk.dead) {
        /* The process has died before it could say anything. */
        sim_front_fail(self, ERR_CLOSED);
    } else if (proposal->result.err == ERR_NOT_LEADER) {
        sim_change_refused(self, 0);
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

    replica_status(sim_request_node(self)->replica, &status);
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

    replica_status(sim_request_node(self)->replica, &status);
    like.result.base_offset = log_end(topic->log);
    for (const struct sim_request *at = sim_request_node(self)->front.first; at != self;
         at = at->after) {
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
    if (fsm_manifest(replica_fsm(sim_request_node(self)->replica), &manifest) != ERR_OK) {
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
bool sim_change_try_as_new(struct sim_request *self)
{
    if (!is_broken(self, SIM_BREAK_FORWARD_NEW) || self->content == NULL || self->leader_lost) {
        return false;
    }
    make_new(self);
    sim_change_hold(self, ERR_AGAIN);
    return true;
}

static void submit(struct sim_request *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct sim_node *node = sim_request_node(self);
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
        sim_change_hold(self, ERR_BUSY);
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
    copy->settings = self->settings;
    if (copy->content != NULL) {
        block_ref(copy->proposal.command.produce.batch.block);
    } else if (is_of_cursor(copy)) {
        copy->proposal.command.cursor = &copy->cursor;
    } else if (copy->proposal.command.type == COMMAND_TOPIC_ALTER) {
        copy->proposal.command.change = &copy->settings;
    }
}

static void pass_on(struct sim_request *self, struct sim_node *leader)
{
    struct sim_node *node = sim_request_node(self);
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
        sim_change_hold(self, ERR_AGAIN);
        return;
    }
    self->state = SIM_REQUEST_SENT;
    self->cluster->stats->forwarded++;
}

void sim_change_route(struct sim_request *self)
{
    struct sim_node *node = sim_request_node(self);
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
            sim_change_hold(self, leader_id == 0 ? ERR_NO_LEADER : ERR_AGAIN);
        } else {
            pass_on(self, leader);
        }
    }
}

void sim_change_expire(struct sim_request *self)
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
