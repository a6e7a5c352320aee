/*
 * The operator: nodes are added, removed, replaced, leadership is given to another, as with
 * `quorlog cluster`: the goal is sent, again and again, to whoever leads, until it is reached.
 *
 *      nothing ── the nemesis wants it, or a disk is lost ──► goal ── reached ──► nothing
 *                                                              └── refused for long: a newcomer is
 *                                                                  taken back ──► nothing
 *
 * Machines are few, ids are not: a new node gets an id that nobody had, on a machine without a
 * node, or with one that is no member any more.
 */
#include <stdio.h>

#include "base/assert.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    PATIENCE_MS = 40000, /* with a goal that is refused, or never reached … */
    TRANSFER_MS = 5000,  /* … or a leader that stays */
    ACT_MS = 300,
    VOTERS_MIN = 3,
    VOTERS_MAX = 5,
};

void sim_members_init(struct sim_cluster *cluster)
{
    cluster->admin.last_id = cluster->node_count;
    events_push(&cluster->events, 2000, EVENT_ADMIN, 0, 0, NULL);
}

/* ---- what is so ---- */

struct sim_node *sim_members_find(struct sim_cluster *cluster, uint64_t id)
{
    for (unsigned i = 1; i <= cluster->node_count; i++) {
        if (cluster->nodes[i].id == id) {
            return &cluster->nodes[i];
        }
    }
    return NULL;
}

/* The members as the leader knows them; false: nobody leads. */
static bool members(struct sim_cluster *cluster, struct membership *ret_members)
{
    const struct sim_node *leader = sim_leader(cluster);

    if (leader == NULL) {
        return false;
    }
    raft_driver_membership(replica_driver(leader->replica), ret_members);
    return true;
}

bool sim_members_has(struct sim_cluster *cluster, const struct sim_node *node)
{
    struct membership known;

    return node->id != 0 && members(cluster, &known) && membership_find(&known, node->id) != NULL;
}

/* A member that will never come up: its disk is lost, or there was never one. 0: all may. */
static uint64_t dead_member(struct sim_cluster *cluster, enum member_role *ret_role)
{
    struct membership known;

    for (unsigned i = 0; members(cluster, &known) && i < known.count; i++) {
        const struct sim_node *node = sim_members_find(cluster, known.members[i].id);

        if (node == NULL || node->stopped || node->wiped) {
            *ret_role = known.members[i].role;
            return known.members[i].id;
        }
    }
    return 0;
}

bool sim_members_settled(struct sim_cluster *cluster)
{
    enum member_role role;

    return !cluster->admin.active && dead_member(cluster, &role) == 0;
}

/* A machine for a new node; NULL: all have one. */
static struct sim_node *free_machine(struct sim_cluster *cluster)
{
    struct sim_node *last = &cluster->nodes[cluster->node_count];

    for (unsigned i = 1; i <= cluster->node_count; i++) {
        if (cluster->nodes[i].gone) {
            return &cluster->nodes[i];
        }
    }
    if (cluster->node_count == SIM_NODES_MAX) {
        return NULL;
    }
    cluster->node_count++;
    return last + 1;
}

static bool hear_each_other(const struct sim_cluster *cluster, unsigned a, unsigned b)
{
    return a == b || (!net_blocked(&cluster->net, cluster->now_ms, a, b) &&
                      !net_blocked(&cluster->net, cluster->now_ms, b, a));
}

/* ---- goals ---- */

static void begin(struct sim_cluster *cluster, enum sim_fault kind, const struct member_goal *goal)
{
    struct sim_admin *admin = &cluster->admin;

    ASSERT(!admin->active);
    admin->active = true;
    admin->takes_back = false;
    admin->kind = kind;
    admin->since_ms = cluster->now_ms;
    admin->step = (struct member_step){.goal = *goal};
    sim_trace(cluster, "the operator wants: %s %llu, %llu", sim_fault_name(kind), U(goal->id),
              U(goal->other_id));
}

/* A new node, up and without data; 0: there is no machine for it. */
static unsigned new_node(struct sim_cluster *cluster, struct member_goal *goal)
{
    struct sim_node *node = free_machine(cluster);

    if (node == NULL) {
        return 0;
    }
    sim_node_stop(node);
    node->gone = false;
    sim_node_renew(node, ++cluster->admin.last_id);
    (void)snprintf(goal->address, sizeof goal->address, "%s", node->address);
    goal->id = node->id;
    sim_node_start(node);
    return node->id;
}

static void replace(struct sim_cluster *cluster, uint64_t old)
{
    struct member_goal goal = {.kind = MEMBER_GOAL_REPLACE, .other_id = old};

    if (new_node(cluster, &goal) != 0) {
        begin(cluster, SIM_FAULT_REPLACE, &goal);
    }
}

void sim_members_want(struct sim_cluster *cluster, enum sim_fault kind)
{
    struct prng *prng = &cluster->prng;
    struct member_goal goal = {.kind = MEMBER_GOAL_TRANSFER};
    struct membership known;
    enum member_role role;
    unsigned some;

    if (cluster->admin.active || cluster->admin.last_id >= SIM_IDS_MAX || !sim_may(cluster, kind) ||
        !members(cluster, &known) || dead_member(cluster, &role) != 0) {
        return;
    }
    some = (unsigned)known.members[prng_range(prng, 0, known.count - 1)].id;
    if (kind == SIM_FAULT_TRANSFER) {
        goal.id = prng_percent(prng, 50) ? some : 0;
        goal.other_id = sim_leader(cluster)->id;
        begin(cluster, kind, &goal);
    } else if (kind == SIM_FAULT_REPLACE) {
        replace(cluster, some);
    } else if (kind == SIM_FAULT_REMOVE && known.count > VOTERS_MIN) {
        goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = some};
        begin(cluster, kind, &goal);
    } else if (kind == SIM_FAULT_ADD && known.count < VOTERS_MAX) {
        goal.kind = MEMBER_GOAL_ADD;
        if (new_node(cluster, &goal) != 0) {
            begin(cluster, kind, &goal);
        }
    }
}

/* ---- one step ---- */

/* What the members answer to the leader, as `status_survey` asks them. */
static void survey(struct sim_cluster *cluster, const struct sim_node *leader,
                   struct member_step *step)
{
    struct membership known;

    raft_driver_membership(replica_driver(leader->replica), &known);
    step->fact_count = 0;
    for (unsigned i = 0; i < known.count; i++) {
        const struct sim_node *node = sim_members_find(cluster, known.members[i].id);
        struct member_fact *fact = &step->facts[step->fact_count++];

        *fact = (struct member_fact){.id = known.members[i].id};
        if (node != NULL && node->replica != NULL && !node->wiped &&
            cluster->now_ms >= node->paused_ms &&
            hear_each_other(cluster, leader->slot, node->slot)) {
            struct replica_status status;

            replica_status(node->replica, &status);
            fact->answered = true;
            fact->holes = status.holes;
        }
    }
    step->surveyed = true;
}

static void reached(struct sim_cluster *cluster)
{
    struct sim_admin *admin = &cluster->admin;
    const struct member_goal *goal = &admin->step.goal;
    uint64_t gone = goal->kind == MEMBER_GOAL_REMOVE    ? goal->id
                    : goal->kind == MEMBER_GOAL_REPLACE ? goal->other_id
                                                        : 0;
    struct sim_node *node = gone != 0 ? sim_members_find(cluster, gone) : NULL;

    admin->active = false;
    sim_trace(cluster, "reached: %s", sim_fault_name(admin->kind));
    if (!admin->takes_back) {
        sim_fault(cluster, admin->kind);
    }
    if (node != NULL) {
        node->gone = true;
        node->harm = 0; /* It is of no importance any more. */
        if (prng_percent(&cluster->prng, 50)) {
            sim_node_stop(node);
        }
    }
}

/* The hardest moment: nobody else knows of the change. */
static void strike(struct sim_cluster *cluster, struct sim_node *leader)
{
    struct prng *prng = &cluster->prng;

    if (cluster->healed || leader->replica == NULL) {
        return;
    }
    if (prng_percent(prng, 15) && sim_may(cluster, SIM_FAULT_ISOLATE)) {
        for (unsigned i = 1; i <= cluster->node_count; i++) {
            cluster->net.blocked[leader->slot][i] = cluster->net.blocked[i][leader->slot] = true;
        }
        sim_fault(cluster, SIM_FAULT_ISOLATE);
    } else if (prng_percent(prng, 15) && sim_may(cluster, SIM_FAULT_POWER)) {
        sim_node_crash(leader, true, prng_range(prng, 1, 3000));
    }
}

/* It takes too long: a newcomer is taken back, the rest is left as it is. */
static void give_up(struct sim_cluster *cluster)
{
    struct sim_admin *admin = &cluster->admin;
    const struct member_goal goal = admin->step.goal;
    const struct member *newcomer;
    struct membership known;

    if (!members(cluster, &known)) {
        return; /* Nobody knows how it stands. */
    }
    admin->active = false;
    sim_trace(cluster, "given up: %s: %s", sim_fault_name(admin->kind), admin->step.plan.info.text);
    if (goal.kind != MEMBER_GOAL_ADD && goal.kind != MEMBER_GOAL_REPLACE) {
        return;
    }
    newcomer = membership_find(&known, goal.id);
    if (newcomer != NULL && newcomer->role != MEMBER_VOTER) {
        const struct member_goal back = {.kind = MEMBER_GOAL_REMOVE, .id = goal.id};

        begin(cluster, admin->kind, &back);
        admin->takes_back = true;
    } else if (newcomer == NULL) {
        struct sim_node *node = sim_members_find(cluster, goal.id);

        ASSERT(node != NULL);
        sim_node_stop(node);
        node->gone = true;
    }
}

static void take_step(struct sim_cluster *cluster)
{
    struct sim_admin *admin = &cluster->admin;
    struct member_step *step = &admin->step;
    struct sim_node *leader = sim_leader(cluster);

    if (leader == NULL || cluster->now_ms < leader->paused_ms) {
        return;
    }
    survey(cluster, leader, step);
    sim_node_member_step(leader, step);
    if (step->plan.action == MEMBER_CHANGE) {
        step->goal.under_way = true;
        sim_trace(cluster, "n%u: %s", leader->id, step->plan.info.text);
        strike(cluster, leader);
    } else if (step->plan.action == MEMBER_DONE) {
        reached(cluster);
    }
}

/* Nodes whose removal was given up, and came about. */
static void retire_strangers(struct sim_cluster *cluster)
{
    const struct sim_node *leader = sim_leader(cluster);

    if (leader == NULL || raft_driver_changing(replica_driver(leader->replica))) {
        return;
    }
    for (unsigned i = 1; i <= cluster->node_count; i++) {
        struct sim_node *node = &cluster->nodes[i];

        if (node->id != 0 && !node->gone && !sim_members_has(cluster, node)) {
            node->gone = true;
            node->harm = 0;
        }
    }
}

/* A newcomer whose goal was given up, and that was not taken back either: while it is there, no
 * other change of the members is taken. 0: none. */
static uint64_t left_over(struct sim_cluster *cluster)
{
    struct membership known;

    if (!members(cluster, &known)) {
        return 0;
    }
    for (unsigned i = 0; i < known.count; i++) {
        if (known.members[i].role != MEMBER_VOTER) {
            return known.members[i].id;
        }
    }
    return 0;
}

void sim_members_act(struct sim_cluster *cluster)
{
    struct sim_admin *admin = &cluster->admin;
    enum member_role role;
    uint64_t dead;
    bool transfers;
    bool refused;

    if (admin->active) {
        take_step(cluster);
    } else {
        retire_strangers(cluster);
        dead = left_over(cluster);
        role = MEMBER_STANDBY;
        if (dead == 0) {
            dead = dead_member(cluster, &role);
        }
        if (dead != 0 && role == MEMBER_VOTER) {
            replace(cluster, dead);
        }
        if (dead != 0 && !admin->active) { /* No machine is left for another one, or none needed. */
            const struct member_goal goal = {.kind = MEMBER_GOAL_REMOVE, .id = dead};

            begin(cluster, SIM_FAULT_REMOVE, &goal);
        }
    }
    transfers = admin->step.goal.kind == MEMBER_GOAL_TRANSFER;
    /* One that was deposed, and did not know it, may have said what is to be done. */
    refused = admin->step.plan.action == MEMBER_REFUSE;
    if (admin->active && (transfers || refused || !cluster->healed) &&
        cluster->now_ms >= admin->since_ms + (transfers ? TRANSFER_MS : PATIENCE_MS)) {
        give_up(cluster);
    }
    events_push(&cluster->events, cluster->now_ms + prng_range(&cluster->prng, 20, ACT_MS),
                EVENT_ADMIN, 0, 0, NULL);
}
