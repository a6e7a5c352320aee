#include "raft_fsm/membership_plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

const char *member_stage_name(enum member_stage stage)
{
    switch (stage) {
    case MEMBER_STAGE_WAITING:
        return "waiting";
    case MEMBER_STAGE_JOINING:
        return "joining";
    case MEMBER_STAGE_CATCHING_UP:
        return "catching-up";
    case MEMBER_STAGE_PROMOTING:
        return "promoting";
    case MEMBER_STAGE_TRANSFERRING:
        return "transferring";
    case MEMBER_STAGE_REMOVING:
        return "removing";
    case MEMBER_STAGE_DONE:
        break;
    }
    return "done";
}

/* ---- plans ---- */

__attribute__((format(printf, 4, 5))) static void decide(struct member_plan *plan,
                                                         enum member_action action,
                                                         enum member_stage stage,
                                                         const char *format, ...)
{
    va_list args;

    ASSERT(action != MEMBER_REFUSE);
    plan->action = action;
    plan->stage = stage;
    plan->info.code = ERR_OK;
    va_start(args, format);
    (void)vsnprintf(plan->info.text, sizeof plan->info.text, format, args); /* Cut is fine. */
    va_end(args);
}

__attribute__((format(printf, 3, 4))) static void refuse(struct member_plan *plan, enum err err,
                                                         const char *format, ...)
{
    va_list args;

    ASSERT(err != ERR_OK);
    plan->action = MEMBER_REFUSE;
    plan->stage = MEMBER_STAGE_WAITING;
    plan->info.code = err;
    va_start(args, format);
    (void)vsnprintf(plan->info.text, sizeof plan->info.text, format, args); /* Cut is fine. */
    va_end(args);
}

/* ---- what is known ---- */

static const struct member_fact *find_fact(const struct member_view *view, uint64_t id)
{
    for (unsigned i = 0; i < view->fact_count; i++) {
        if (view->facts[i].id == id) {
            return &view->facts[i];
        }
    }
    return NULL;
}

static bool is_healthy(const struct member_view *view, uint64_t id)
{
    const struct member_fact *fact = find_fact(view, id);

    return id == view->self_id ||
           (fact != NULL && (fact->answered || fact->heard) && fact->holes == 0);
}

static unsigned healthy_voters(const struct member_view *view)
{
    const struct membership *members = view->membership;
    unsigned count = 0;

    for (unsigned i = 0; i < members->count; i++) {
        count +=
            members->members[i].role == MEMBER_VOTER && is_healthy(view, members->members[i].id)
                ? 1
                : 0;
    }
    ASSERT(count <= membership_voters(members));
    return count;
}

static unsigned majority(unsigned voters)
{
    return voters / 2 + 1;
}

/* A member other than `id` that is on its way to be a voter; NULL: none. */
static const struct member *other_newcomer(const struct member_view *view, uint64_t id)
{
    const struct membership *members = view->membership;

    for (unsigned i = 0; i < members->count; i++) {
        if (members->members[i].role != MEMBER_VOTER && members->members[i].id != id) {
            return &members->members[i];
        }
    }
    return NULL;
}

static bool refused_for_newcomer(const struct member_view *view, uint64_t id,
                                 struct member_plan *plan)
{
    const struct member *newcomer = other_newcomer(view, id);

    if (newcomer == NULL) {
        return false;
    }
    refuse(plan, ERR_MEMBERS_CHANGING,
           "node %" PRIu64 " (%.100s) is being added: let that finish (quorlog cluster add %" PRIu64
           " %.100s), or take it back (quorlog cluster remove %" PRIu64 ")",
           newcomer->id, newcomer->address, newcomer->id, newcomer->address, newcomer->id);
    return true;
}

/* The voter that lacks least, healthy and not the leader; 0: none. */
static uint64_t best_successor(const struct member_view *view)
{
    const struct membership *members = view->membership;
    const struct member_fact *best = NULL;

    for (unsigned i = 0; i < members->count; i++) {
        const struct member_fact *fact = find_fact(view, members->members[i].id);

        if (members->members[i].role == MEMBER_VOTER && members->members[i].id != view->self_id &&
            fact != NULL && fact->answered && fact->holes == 0 && fact->matched &&
            (best == NULL || fact->match > best->match)) {
            best = fact;
        }
    }
    return best == NULL ? 0 : best->id;
}

/* ---- the steps ---- */

static void plan_role(const struct member_view *view, uint64_t id, enum member_role role,
                      struct member_plan *plan)
{
    plan->membership = *view->membership;
    for (unsigned i = 0; i < plan->membership.count; i++) {
        if (plan->membership.members[i].id == id) {
            ASSERT(plan->membership.members[i].role != role);
            plan->membership.members[i].role = role; /* M1 */
        }
    }
}

static void plan_join(const struct member_view *view, const struct member_goal *goal,
                      struct member_plan *plan)
{
    const struct membership *members = view->membership;
    enum err err;

    if (refused_for_newcomer(view, goal->id, plan)) {
        return;
    }
    for (unsigned i = 0; i < members->count; i++) {
        if (strcmp(members->members[i].address, goal->address) == 0) {
            refuse(plan, ERR_EXISTS, "the address %.100s is that of node %" PRIu64, goal->address,
                   members->members[i].id);
            return;
        }
    }
    if (view->id_bound) {
        refuse(plan, ERR_ID_USED,
               "node %" PRIu64 " was a member before and was removed: an id belongs to one disk "
               "for ever; empty the new node's directory and start it under an id that was never "
               "used",
               goal->id);
        return;
    }
    plan->membership = *members;
    err = membership_add(&plan->membership, goal->id, goal->address, MEMBER_STANDBY); /* M1 */
    if (err != ERR_OK) {
        refuse(plan, err, "node %" PRIu64 " at %.100s: %s", goal->id, goal->address,
               err == ERR_LIMIT ? "the cluster has as many members as it may have"
                                : "the id or the address is not valid");
        return;
    }
    decide(plan, MEMBER_CHANGE, MEMBER_STAGE_JOINING, "node %" PRIu64 " joins as a standby",
           goal->id);
}

static void plan_promotion(const struct member_view *view, const struct member_goal *goal,
                           struct member_plan *plan)
{
    const struct member_fact *fact = find_fact(view, goal->id);
    unsigned voters = membership_voters(view->membership) + 1;
    unsigned healthy = healthy_voters(view) + 1;

    if (fact == NULL || !fact->answered) {
        decide(plan, MEMBER_WAIT, MEMBER_STAGE_JOINING,
               "node %" PRIu64 " does not answer at %.100s: start it there (quorlog serve --id "
               "%" PRIu64 " --join …)",
               goal->id, goal->address, goal->id);
        return;
    }
    plan->lag = fact->matched && view->last_index > fact->match ? view->last_index - fact->match
                                                                : view->last_index;
    plan->lag = fact->matched && fact->match >= view->last_index ? 0 : plan->lag;
    plan->holes = fact->holes;
    if (plan->holes > 0 || plan->lag > MEMBER_LAG_MAX) {
        decide(plan, MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP,
               "node %" PRIu64 " catches up: %" PRIu64 " entries behind, %" PRIu64 " holes",
               goal->id, plan->lag, plan->holes);
    } else if (!view->id_bound) {
        decide(plan, MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP,
               "node %" PRIu64 " has caught up; its disk is being recorded", goal->id);
    } else if (healthy < majority(voters)) { /* M2 */
        refuse(plan, ERR_UNSAFE,
               "%u of the %u voters that there would be are healthy, and %u are needed: bring the "
               "others back first",
               healthy, voters, majority(voters));
    } else {
        plan_role(view, goal->id, MEMBER_VOTER, plan);
        decide(plan, MEMBER_CHANGE, MEMBER_STAGE_PROMOTING, "node %" PRIu64 " becomes a voter",
               goal->id);
    }
}

static void plan_add(const struct member_view *view, const struct member_goal *goal,
                     struct member_plan *plan)
{
    const struct member *member = membership_find(view->membership, goal->id);

    if (member == NULL) {
        plan_join(view, goal, plan);
    } else if (strcmp(member->address, goal->address) != 0) {
        refuse(plan, ERR_EXISTS, "node %" PRIu64 " is a member already, at %.100s", goal->id,
               member->address);
    } else if (member->role == MEMBER_VOTER) {
        decide(plan, MEMBER_DONE, MEMBER_STAGE_DONE, "node %" PRIu64 " is a voter", goal->id);
    } else if (member->role == MEMBER_SPARE) {
        plan_role(view, goal->id, MEMBER_STANDBY, plan);
        decide(plan, MEMBER_CHANGE, MEMBER_STAGE_JOINING, "node %" PRIu64 " becomes a standby",
               goal->id);
    } else {
        plan_promotion(view, goal, plan);
    }
}

static void plan_handover(const struct member_view *view, struct member_plan *plan)
{
    uint64_t to = best_successor(view);

    if (to == 0) {
        refuse(plan, ERR_UNSAFE,
               "node %" PRIu64 " leads, and no other voter is healthy: nobody can take over",
               view->self_id);
        return;
    }
    plan->transfer_to = to;
    decide(plan, MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING,
           "node %" PRIu64 " hands leadership to node %" PRIu64, view->self_id, to);
}

/* Whether the voters that are left can go on without this one. */
static bool refused_as_unsafe(const struct member_view *view, uint64_t id, struct member_plan *plan)
{
    unsigned voters = membership_voters(view->membership) - 1;
    unsigned healthy = healthy_voters(view) - (is_healthy(view, id) ? 1 : 0);

    if (voters < 3) {
        refuse(plan, ERR_UNSAFE,
               "%u voters would be left, and fewer than three survive no failure: add a node first "
               "(quorlog cluster replace does both)",
               voters);
    } else if (healthy < majority(voters)) { /* M2 */
        refuse(plan, ERR_UNSAFE,
               "%u of the %u voters that would be left are healthy, and %u are needed: bring the "
               "others back, or remove those that are gone",
               healthy, voters, majority(voters));
    } else {
        return false;
    }
    return true;
}

static void plan_remove(const struct member_view *view, const struct member_goal *goal, uint64_t id,
                        struct member_plan *plan)
{
    const struct member *member = membership_find(view->membership, id);
    struct membership *left = &plan->membership;
    unsigned at;

    if (member == NULL && !goal->under_way && !view->id_bound) {
        refuse(plan, ERR_NOT_FOUND, "node %" PRIu64 " is no member of this cluster", id);
        return;
    }
    if (member == NULL) {
        decide(plan, MEMBER_DONE, MEMBER_STAGE_DONE, "node %" PRIu64 " is removed", id);
        return;
    }
    if (member->role == MEMBER_VOTER &&
        (refused_for_newcomer(view, 0, plan) || refused_as_unsafe(view, id, plan))) {
        return;
    }
    if (id == view->self_id) {
        plan_handover(view, plan);
        return;
    }
    *left = *view->membership;
    at = (unsigned)(member - view->membership->members);
    ASSERT(at < left->count);
    memmove(&left->members[at], &left->members[at + 1],
            (left->count - at - 1) * sizeof left->members[0]);
    left->count--; /* M1 */
    decide(plan, MEMBER_CHANGE, MEMBER_STAGE_REMOVING, "node %" PRIu64 " is being removed", id);
}

static void plan_replace(const struct member_view *view, const struct member_goal *goal,
                         struct member_plan *plan)
{
    const struct member *old = membership_find(view->membership, goal->other_id);
    const struct member *member = membership_find(view->membership, goal->id);
    struct member_goal removal = {
        .kind = MEMBER_GOAL_REMOVE, .id = goal->other_id, .under_way = true};

    if (goal->id == goal->other_id) {
        refuse(plan, ERR_INVALID,
               "a node is replaced by one with another id: an id belongs to one disk for ever");
    } else if (member != NULL && member->role == MEMBER_VOTER &&
               strcmp(member->address, goal->address) == 0) {
        plan_remove(view, &removal, goal->other_id, plan);
    } else if (old == NULL) {
        refuse(plan, ERR_NOT_FOUND, "node %" PRIu64 ", to be replaced, is no member",
               goal->other_id);
    } else {
        plan_add(view, goal, plan);
    }
}

static void plan_transfer(const struct member_view *view, const struct member_goal *goal,
                          struct member_plan *plan)
{
    const struct member *member = membership_find(view->membership, goal->id);
    const struct member_fact *fact = find_fact(view, goal->id);

    if (goal->id == view->self_id ||
        (goal->id == 0 && goal->other_id != 0 && goal->other_id != view->self_id)) {
        decide(plan, MEMBER_DONE, MEMBER_STAGE_DONE, "node %" PRIu64 " leads", view->self_id);
    } else if (goal->id == 0) {
        plan_handover(view, plan);
    } else if (member == NULL) {
        refuse(plan, ERR_NOT_FOUND, "node %" PRIu64 " is no member of this cluster", goal->id);
    } else if (member->role != MEMBER_VOTER) {
        refuse(plan, ERR_UNSAFE, "node %" PRIu64 " is no voter: it cannot lead", goal->id);
    } else if (fact == NULL || !fact->answered || fact->holes > 0) {
        refuse(plan, ERR_UNSAFE, "node %" PRIu64 " %s: it cannot lead now", goal->id,
               fact != NULL && fact->holes > 0 ? "has holes to fill" : "does not answer");
    } else {
        plan->transfer_to = goal->id;
        decide(plan, MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING,
               "node %" PRIu64 " hands leadership to node %" PRIu64, view->self_id, goal->id);
    }
}

void membership_plan(const struct member_view *view, const struct member_goal *goal,
                     struct member_plan *ret_plan)
{
    struct member_plan *plan = ret_plan;

    ASSERT(view->membership->count >= 1 && view->self_id != 0);
    ASSERT(view->fact_count <= 2 * MEMBERSHIP_MAX);
    *plan = (struct member_plan){0};
    if (!view->surveyed) {
        decide(plan, MEMBER_WAIT, MEMBER_STAGE_WAITING, "the leader looks at the members");
        return;
    }
    switch (goal->kind) {
    case MEMBER_GOAL_ADD:
        plan_add(view, goal, plan);
        break;
    case MEMBER_GOAL_REMOVE:
        plan_remove(view, goal, goal->id, plan);
        break;
    case MEMBER_GOAL_REPLACE:
        plan_replace(view, goal, plan);
        break;
    case MEMBER_GOAL_TRANSFER:
        plan_transfer(view, goal, plan);
        break;
    }
    /* What is reached only by a change that may yet be taken back is not reached. */
    if (view->changing && plan->action != MEMBER_REFUSE && goal->kind != MEMBER_GOAL_TRANSFER) {
        decide(plan, MEMBER_WAIT,
               plan->stage == MEMBER_STAGE_DONE ? MEMBER_STAGE_WAITING : plan->stage,
               "a change of the members is not committed yet");
    }
}
