/*
 * CLUSTER_ADD, CLUSTER_REMOVE, CLUSTER_REPLACE, CLUSTER_TRANSFER: one step towards a goal for the
 * members (raft_fsm/membership_plan.h). Nothing is remembered between two requests: the client
 * sends the goal again until it is reached, to any node.
 *
 *      request ── does this node lead? ── yes ──► the members are asked for their state ──► change
 *                                      └─ no ───► change: passed on to the leader (change.h)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"
#include "server/status.h"

/* A request on its way to be a change. */
struct errand {
    struct member_step *step; /* owned */
    bool forwarded;
    uint32_t deadline_ms;
};

static enum err step_command(struct change *self, struct command *ret_command)
{
    ASSERT(self->step != NULL);
    *ret_command = (struct command){0};
    if (self->submission.step != NULL) {
        self->step->surveyed = false; /* It was refused once: the facts may be old. */
    }
    self->submission.step = self->step;
    return ERR_OK;
}

static void step_reply(struct change *self, const struct fsm_result *result)
{
    const struct member_plan *plan = &self->step->plan;
    Quorlog__ClusterChangeReply reply = QUORLOG__CLUSTER_CHANGE_REPLY__INIT;
    struct replica_status status;
    struct failure failure;
    char text[sizeof plan->info.text];

    ASSERT(result->err == ERR_OK);
    if (plan->action == MEMBER_REFUSE) {
        (void)failure_set(&failure, plan->info.code, "%s: %s", self->kind->verb, plan->info.text);
        failure.unknown = false; /* It was decided against. */
        request_fail(&self->request, &failure);
        return;
    }
    group_status(self->front->node->group, &status);
    memcpy(text, plan->info.text, sizeof text);
    reply.done = plan->action == MEMBER_DONE;
    reply.stage = (char *)(uintptr_t)member_stage_name(plan->stage); /* Only read from. */
    reply.text = text;
    reply.lag = plan->lag;
    reply.holes = plan->holes;
    reply.leader_id = self->front->node->identity.node_id;
    reply.term = status.term;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t step_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    const struct member_goal *goal = &self->step->goal;
    Quorlog__ClusterChangeRequest request = QUORLOG__CLUSTER_CHANGE_REQUEST__INIT;
    char address[sizeof goal->address];

    memcpy(address, goal->address, sizeof address);
    request.node_id = goal->id;
    request.address = address;
    request.other_id = goal->other_id;
    request.under_way = goal->under_way;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__cluster_change_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__cluster_change_request__pack(&request, to);
}

static const struct change_kind *kind_of(enum member_goal_kind goal)
{
    static const struct change_kind kinds[] = {
#define KIND(goal, name, text)                                                                     \
    [goal] = {.reply_type = QUORLOG__FRAME_TYPE__FRAME_CLUSTER_##name##_REPLY,                     \
              .verb = text,                                                                        \
              .command = step_command,                                                             \
              .reply = step_reply,                                                                 \
              .pack = step_pack}
        KIND(MEMBER_GOAL_ADD, ADD, "add a node"),
        KIND(MEMBER_GOAL_REMOVE, REMOVE, "remove a node"),
        KIND(MEMBER_GOAL_REPLACE, REPLACE, "replace a node"),
        KIND(MEMBER_GOAL_TRANSFER, TRANSFER, "transfer leadership"),
#undef KIND
    };

    ASSERT(goal >= MEMBER_GOAL_ADD && goal <= MEMBER_GOAL_TRANSFER);
    return &kinds[goal];
}

static void errand_free(struct errand *errand)
{
    free(errand->step);
    free(errand);
}

static void refuse(struct session *session, const struct frame *frame,
                   const struct change_kind *kind, enum err err)
{
    struct failure failure;

    (void)failure_set(&failure, err, "%s: %s", kind->verb, err_text(err));
    failure.unknown = false;
    api_refuse(session, frame, &failure);
}

/* Becomes a change; the errand is gone afterwards. */
static void start(struct errand *errand, struct session *session, const struct frame *frame)
{
    const struct change_kind *kind = kind_of(errand->step->goal.kind);
    struct change *change;
    enum err err = change_new(session, frame, kind, &change);

    if (err != ERR_OK) {
        refuse(session, frame, kind, err);
    } else {
        change->step = errand->step;
        change->forwarded = errand->forwarded;
        errand->step = NULL;
        change_start(change, errand->deadline_ms);
    }
    errand_free(errand);
}

static void on_surveyed(void *arg, struct session *session, const struct frame *frame,
                        const struct member_fact *facts, unsigned count)
{
    struct errand *errand = arg;

    ASSERT(count <= MEMBERSHIP_MAX);
    if (session == NULL) {
        errand_free(errand); /* Nobody is there to answer. */
        return;
    }
    memcpy(errand->step->facts, facts, count * sizeof *facts);
    errand->step->fact_count = count;
    errand->step->surveyed = true;
    start(errand, session, frame);
}

/* What can be said without looking at the members. */
static bool check_goal(struct session *session, const struct frame *frame,
                       const struct member_goal *goal)
{
    char host[256];
    char port[8];
    struct failure failure;
    bool comes = goal->kind == MEMBER_GOAL_ADD || goal->kind == MEMBER_GOAL_REPLACE;

    (void)failure_set(&failure, ERR_INVALID, "%s: a node's number is 1 or more",
                      kind_of(goal->kind)->verb);
    if ((goal->id == 0 && goal->kind != MEMBER_GOAL_TRANSFER) ||
        (goal->other_id == 0 && goal->kind == MEMBER_GOAL_REPLACE) || goal->id > INT64_MAX) {
        api_refuse(session, frame, &failure);
        return false;
    }
    if (comes && (address_split(goal->address, host, port, &failure.info) != ERR_OK ||
                  host[0] == '\0' || strcmp(port, "0") == 0)) {
        (void)failure_set(&failure, ERR_INVALID, "%s: '%.100s' is not of the form HOST:PORT",
                          kind_of(goal->kind)->verb, goal->address);
        api_refuse(session, frame, &failure);
        return false;
    }
    return true;
}

static struct errand *errand_new(const Quorlog__ClusterChangeRequest *request,
                                 enum member_goal_kind kind)
{
    struct errand *errand = calloc(1, sizeof *errand);
    struct member_goal *goal;

    if (errand == NULL) {
        return NULL;
    }
    errand->step = calloc(1, sizeof *errand->step);
    if (errand->step == NULL) {
        free(errand);
        return NULL;
    }
    goal = &errand->step->goal;
    goal->kind = kind;
    goal->id = request->node_id;
    goal->other_id = request->other_id;
    goal->under_way = request->under_way;
    (void)snprintf(goal->address, sizeof goal->address, "%s", request->address); /* Checked. */
    errand->forwarded = request->forwarded;
    errand->deadline_ms = request->deadline_ms;
    return errand;
}

static void handle(struct session *session, const struct frame *frame, enum member_goal_kind kind)
{
    struct node *node = session_front(session)->node;
    Quorlog__ClusterChangeRequest *request =
        quorlog__cluster_change_request__unpack(NULL, frame->header_size, frame->header);
    struct failure failure;
    struct errand *errand;
    enum err err;

    if (request == NULL) {
        api_refuse_header(session, frame, "CLUSTER");
        return;
    }
    if (strlen(request->address) >= MEMBER_ADDRESS_SIZE) {
        (void)failure_set(&failure, ERR_INVALID, "%s: the address is too long",
                          kind_of(kind)->verb);
        api_refuse(session, frame, &failure);
        quorlog__cluster_change_request__free_unpacked(request, NULL);
        return;
    }
    errand = errand_new(request, kind);
    quorlog__cluster_change_request__free_unpacked(request, NULL);
    if (errand == NULL) {
        refuse(session, frame, kind_of(kind), ERR_NOMEM);
        return;
    }
    if (!check_goal(session, frame, &errand->step->goal)) {
        errand_free(errand);
        return;
    }
    if (group_leader_id(node->group) != node->identity.node_id) {
        start(errand, session, frame);
        return;
    }
    err = status_survey(session, frame, on_surveyed, errand);
    if (err != ERR_OK) {
        refuse(session, frame, kind_of(kind), err);
        errand_free(errand);
    }
}

void api_cluster_add(struct session *session, const struct frame *frame)
{
    handle(session, frame, MEMBER_GOAL_ADD);
}

void api_cluster_remove(struct session *session, const struct frame *frame)
{
    handle(session, frame, MEMBER_GOAL_REMOVE);
}

void api_cluster_replace(struct session *session, const struct frame *frame)
{
    handle(session, frame, MEMBER_GOAL_REPLACE);
}

void api_cluster_transfer(struct session *session, const struct frame *frame)
{
    handle(session, frame, MEMBER_GOAL_TRANSFER);
}
