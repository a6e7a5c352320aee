#include "sim/front.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "sim/cluster.h"

enum { LEADER_LOST_MS = 500 };

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

struct sim_node *sim_request_node(const struct sim_request *self)
{
    return &self->cluster->nodes[self->node];
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

void sim_shown_fini(struct sim_shown *self)
{
    free(self->values);
    free(self->offsets);
    self->values = self->offsets = NULL;
}

void sim_answer_free(struct sim_answer *self)
{
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    sim_shown_fini(&self->shown);
    free(self);
}

static void enlist(struct sim_request *self)
{
    struct sim_request **at = &sim_request_node(self)->front.first;

    while (*at != NULL) {
        at = &(*at)->after;
    }
    *at = self;
    self->after = NULL;
}

void sim_front_delist(struct sim_request *self)
{
    struct sim_request **at = &sim_request_node(self)->front.first;

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
        struct sim_shown shown = like->shown;

        sim_shown_fini(&shown);
        if (self->state == SIM_REQUEST_SUBMITTED) {
            self->state = SIM_REQUEST_DISOWNED;
            return;
        }
        sim_front_delist(self);
        lose(self);
        return;
    }
    post(answer_new(self, like), self->node);
    if (self->state == SIM_REQUEST_SUBMITTED) {
        self->state = SIM_REQUEST_DISOWNED;
    } else {
        sim_front_delist(self);
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
        struct sim_shown shown = like->shown;

        sim_shown_fini(&shown);
        sim_front_delist(self);
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
    struct sim_node *node = sim_request_node(self);
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
        sim_change_hold(self, ERR_NO_LEADER); /* In order, behind what waits already. */
    } else {
        sim_change_route(self);
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
        sim_change_refused(request, answer->leader_id);
    } else if (answer->result.err != ERR_CLOSED || !sim_change_try_as_new(request)) {
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

            sim_change_route(at);
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
            sim_change_route(at);
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
                sim_change_expire(at);
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
