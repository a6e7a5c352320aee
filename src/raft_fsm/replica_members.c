/*
 * Members and leadership, as an operator wants them: one step of a goal at a time
 * (membership_plan.h), handing over under load, and which disk each member's id belongs to.
 *
 * Handing over: the core lets another voter take over only when that has every entry, which under
 * load is never. So nothing new is proposed (what comes waits in the queue, for a second at most)
 * until it has, or until that takes too long; then the queue goes on here or is refused as
 * NOT_LEADER, and whoever sent it passes it to the new leader.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    /* So long proposals are held back, in election timeouts, until another voter has everything. */
    HANDOVER_ELECTIONS = 4,
    HANDOVER_RETRY_MS = 5,
};

/* ---- handing over ---- */

bool replica_handing_over(const struct replica *self)
{
    return self->handover.until_ms != 0;
}

uint64_t replica_handover_deadline_ms(const struct replica *self)
{
    return replica_handing_over(self) ? self->handover.retry_ms : UINT64_MAX;
}

/* Takes it a step further; done by all that may bring it on. */
enum err replica_handover_step(struct replica *self, struct err_info *info)
{
    uint64_t now_ms = replica_now_ms(self);
    enum err err;

    if (!replica_handing_over(self)) {
        return ERR_OK;
    }
    self->handover.retry_ms = now_ms + HANDOVER_RETRY_MS;
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        self->handover = (struct handover){0}; /* Done, or leadership was lost otherwise. */
        return ERR_OK;
    }
    if (raft_driver_transferring(self->driver)) {
        return ERR_OK;
    }
    if (self->handover.asked || now_ms >= self->handover.until_ms) {
        self->handover = (struct handover){0}; /* It did not take over. */
        return ERR_OK;
    }
    if (self->pending != NULL) {
        return ERR_OK; /* What is proposed is answered first: its outcome would be unknown. */
    }
    err = raft_driver_transfer(self->driver, now_ms, self->handover.to);
    if (err == ERR_OK) {
        self->handover.asked = true;
    } else if (err == ERR_NOT_LEADER || err == ERR_NOT_FOUND || err == ERR_INVALID) {
        self->handover = (struct handover){0}; /* No voter any more, say. */
    } else if (err != ERR_AGAIN) {
        return replica_driver_failed(self, err, info);
    }
    return ERR_OK;
}

static void begin_handover(struct replica *self, uint64_t to)
{
    ASSERT(to != 0 && to != self->options.id);
    if (!replica_handing_over(self)) {
        self->handover = (struct handover){
            .to = to,
            .until_ms =
                replica_now_ms(self) + (uint64_t)HANDOVER_ELECTIONS * self->options.election_ms,
        };
    }
}

/* ---- the steps of a goal ---- */

static void add_facts(const struct replica *self, struct member_step *step)
{
    for (unsigned i = 0; i < step->fact_count; i++) {
        struct member_fact *fact = &step->facts[i];

        fact->matched = raft_driver_match_index(self->driver, fact->id, &fact->match);
        fact->heard = raft_driver_heard(self->driver, fact->id);
    }
}

/* The driver's refusal becomes the plan's. */
static enum err change(struct replica *self, struct member_plan *plan, struct err_info *info)
{
    struct err_info why = {0};
    enum err err = raft_driver_change(self->driver, replica_now_ms(self), &plan->membership, &why);

    if (err == ERR_AGAIN) {
        plan->action = MEMBER_WAIT;
        plan->info = why;
        plan->info.code = ERR_OK;
    } else if (err == ERR_INVALID) {
        plan->action = MEMBER_REFUSE;
        plan->info = why;
        plan->info.code = ERR_UNSAFE;
    } else if (err == ERR_NOT_LEADER) {
        plan->action = MEMBER_REFUSE;
        plan->info.code = err;
    } else if (err != ERR_OK) {
        return replica_driver_failed(self, err, info);
    }
    return ERR_OK;
}

enum err replica_member_step(struct replica *self, struct member_step *step, struct err_info *info)
{
    struct member_plan *plan = &step->plan;
    struct membership membership;
    struct member_view view = {
        .self_id = self->options.id,
        .membership = &membership,
        .changing = raft_driver_changing(self->driver),
        .last_index = raft_driver_last_index(self->driver),
        .surveyed = step->surveyed,
        .facts = step->facts,
        .fact_count = step->fact_count,
        .id_bound = nodes_find(fsm_nodes(self->fsm), step->goal.id) != 0,
    };

    *plan = (struct member_plan){0};
    raft_driver_membership(self->driver, &membership);
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER || membership.count == 0) {
        plan->action = MEMBER_REFUSE;
        plan->info.code = ERR_NOT_LEADER;
        return ERR_OK;
    }
    add_facts(self, step);
    membership_plan(&view, &step->goal, plan);
    if (plan->action == MEMBER_CHANGE) {
        return change(self, plan, info);
    }
    if (plan->action == MEMBER_TRANSFER) {
        begin_handover(self, plan->transfer_to);
        return replica_handover_step(self, info);
    }
    return ERR_OK;
}

/* ---- whose disk ---- */

uint64_t replica_disk_id(const struct replica *self, uint64_t node_id)
{
    uint64_t disk_id = nodes_find(fsm_nodes(self->fsm), node_id);

    return disk_id != 0 ? disk_id : nodes_ahead_find(&self->nodes_ahead, node_id);
}

uint64_t replica_disks_version(const struct replica *self)
{
    /* Both only grow. */
    return fsm_nodes(self->fsm)->count + self->nodes_ahead.version;
}

void replica_disks(const struct replica *self, struct nodes *ret_nodes)
{
    *ret_nodes = *fsm_nodes(self->fsm);
    for (size_t i = 0; i < self->nodes_ahead.count; i++) {
        const struct node_disk *node = &self->nodes_ahead.items[i].node;

        /* Bound already, or beyond the limit: it will come to nothing. */
        (void)nodes_bind(ret_nodes, node->id, node->disk_id);
    }
}

void replica_learn_disk(struct replica *self, uint64_t node_id, uint64_t disk_id)
{
    struct binding *binding = &self->binding;

    ASSERT(node_id != 0);
    for (unsigned i = 0; i < binding->count; i++) {
        if (binding->learned[i].id == node_id) {
            binding->learned[i].disk_id = disk_id;
            return;
        }
    }
    if (disk_id != 0 && binding->count < sizeof binding->learned / sizeof binding->learned[0]) {
        binding->learned[binding->count++] = (struct node_disk){.id = node_id, .disk_id = disk_id};
    }
}

static void on_bound(struct proposal *proposal)
{
    struct binding *binding = CONTAINER_OF(proposal, struct binding, proposal);

    binding->under_way = false; /* Lost, it is proposed again by whoever leads. */
}

/* One member's disk at a time. A cluster of one has nobody who could take it for another. */
void replica_bind_disks(struct replica *self)
{
    struct binding *binding = &self->binding;
    struct membership membership;

    if (binding->under_way || binding->count == 0 ||
        raft_driver_role(self->driver) != RAFT_ROLE_LEADER || replica_handing_over(self) ||
        !raft_driver_read_ready(self->driver)) {
        return;
    }
    raft_driver_membership(self->driver, &membership);
    for (unsigned i = 0; i < binding->count && membership.count > 1; i++) {
        const struct node_disk *node = &binding->learned[i];

        if (node->disk_id != 0 && membership_find(&membership, node->id) != NULL &&
            nodes_find(fsm_nodes(self->fsm), node->id) == 0) {
            binding->under_way = true;
            binding->proposal = (struct proposal){
                .command = {.type = COMMAND_NODE_BIND, .node = *node}, .done = on_bound};
            replica_propose(self, &binding->proposal);
            return;
        }
    }
}
