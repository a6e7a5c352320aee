/*
 * What goes wrong, and what administrators do meanwhile.
 */
#include <stdio.h>

#include "base/assert.h"
#include "sim/driver_cluster.h"

static void remove_member(struct membership *self, unsigned at)
{
    ASSERT(at < self->count);
    for (unsigned i = at; i + 1 < self->count; i++) {
        self->members[i] = self->members[i + 1];
    }
    self->count--;
}

static void crash(struct cluster *self, struct node *node, uint64_t down_ms)
{
    if (node == NULL || node->driver == NULL) {
        return;
    }
    node_crash(node);
    events_push(&self->events, self->now_ms + down_ms, EVENT_RESTART, node->id, node->incarnation,
                NULL);
}

void nemesis_change(struct cluster *self, struct node *leader)
{
    struct prng *prng = &self->prng;
    unsigned id = (unsigned)prng_range(prng, 1, CLUSTER_NODES);
    struct membership membership;
    uint64_t match;
    unsigned at = 0;

    if (leader == NULL || leader->driver == NULL ||
        raft_driver_role(leader->driver) != RAFT_ROLE_LEADER) {
        return;
    }
    raft_driver_membership(leader->driver, &membership);
    while (at < membership.count && membership.members[at].id != id) {
        at++;
    }
    if (at == membership.count) {
        char address[16];

        (void)snprintf(address, sizeof address, "node%u:1", id);
        if (membership_add(&membership, id, address,
                           prng_percent(prng, 30) ? MEMBER_SPARE : MEMBER_STANDBY) != ERR_OK) {
            ASSERT(false);
        }
        if (!self->nodes[id].used) {
            node_start(&self->nodes[id]);
        }
    } else if (membership.members[at].role == MEMBER_SPARE && prng_percent(prng, 70)) {
        membership.members[at].role = MEMBER_STANDBY;
    } else if (membership.members[at].role == MEMBER_STANDBY && prng_percent(prng, 70)) {
        /* Mostly when it has nearly everything, as one should. */
        if (!raft_driver_match_index(leader->driver, id, &match) ||
            (match + 5 < raft_driver_last_index(leader->driver) && prng_percent(prng, 85))) {
            return;
        }
        membership.members[at].role = MEMBER_VOTER;
    } else if (membership.members[at].role == MEMBER_VOTER && prng_percent(prng, 50)) {
        membership.members[at].role = prng_percent(prng, 50) ? MEMBER_STANDBY : MEMBER_SPARE;
    } else {
        remove_member(&membership, at);
    }
    if (!node_change(leader, &membership) || self->healed) {
        return;
    }
    /* The hardest moment to be cut off or to die: nobody else knows of the change. */
    if (prng_percent(prng, 15)) {
        for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
            self->net.blocked[leader->id][i] = self->net.blocked[i][leader->id] = true;
        }
    } else if (prng_percent(prng, 10)) {
        crash(self, leader, prng_range(prng, 1, 3000));
    }
}

void nemesis_act(struct cluster *self)
{
    struct prng *prng = &self->prng;
    struct node *leader = cluster_leader(self);
    unsigned id = (unsigned)prng_range(prng, 1, CLUSTER_NODES);

    switch (prng_range(prng, 0, 13)) {
    case 0:
    case 1:
        crash(self, &self->nodes[id], prng_range(prng, 1, prng_percent(prng, 70) ? 1500 : 8000));
        break;
    case 2:
        crash(self, leader, prng_range(prng, 1, 3000));
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        net_partition(&self->net, prng, CLUSTER_NODES);
        break;
    case 7:
    case 8:
    case 9:
        net_join(&self->net);
        break;
    case 10:
        self->nodes[id].stalled = !self->nodes[id].stalled;
        break;
    case 11:
        self->net.slow = !self->net.slow;
        self->net.loss = prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 25);
        break;
    case 12:
        if (leader != NULL) {
            node_transfer(leader, prng_percent(prng, 50) ? 0 : id);
        }
        break;
    default:
        nemesis_change(self, cluster_leader(self));
        break;
    }
    if (prng_percent(prng, 40)) {
        nemesis_change(self, cluster_leader(self));
    }
}
