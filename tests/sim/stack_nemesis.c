/* What goes wrong. */
#include "base/assert.h"
#include "sim/cluster_stack.h"

static uint64_t down_ms(struct prng *prng)
{
    return prng_range(prng, 1, prng_percent(prng, 60) ? 1500 : 12000);
}

static void crash(struct cluster_stack *self, struct stack_node *node)
{
    struct prng *prng = &self->prng;

    if (node == NULL || node->replica == NULL) {
        return;
    }
    if (prng_percent(prng, 60)) {
        stack_disk_plan(&node->disk, STACK_DISK_DIE, (unsigned)prng_range(prng, 0, 40));
    } else {
        stack_node_crash(node, prng_percent(prng, 60), down_ms(prng));
    }
}

static void power_loss_of_all(struct cluster_stack *self)
{
    for (unsigned i = 1; i <= self->node_count; i++) {
        if (self->nodes[i].replica != NULL) {
            stack_node_crash(&self->nodes[i], true, prng_range(&self->prng, 1, 1500));
        }
    }
}

void stack_nemesis_act(struct cluster_stack *self)
{
    struct prng *prng = &self->prng;
    struct stack_node *leader = stack_leader(self);
    struct stack_node *node = &self->nodes[prng_range(prng, 1, self->node_count)];

    switch (prng_range(prng, 0, 16)) {
    case 0:
    case 1:
    case 2:
        crash(self, node);
        break;
    case 3:
        crash(self, leader);
        break;
    case 4:
        power_loss_of_all(self);
        break;
    case 5:
    case 6:
        net_partition(&self->net, prng, self->node_count);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
        net_join(&self->net);
        break;
    case 12:
        node->stalled = !node->stalled;
        break;
    case 13:
        self->net.slow = !self->net.slow;
        self->net.loss = prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 15);
        break;
    case 14:
        if (leader != NULL) {
            stack_node_resign(leader);
        }
        break;
    case 15:
        if (self->faults && node->replica != NULL) {
            stack_disk_plan(&node->disk, STACK_DISK_FAIL, (unsigned)prng_range(prng, 0, 40));
        }
        break;
    default:
        node->wall_us += (int64_t)prng_range(prng, 0, 6000000) - 3000000;
        break;
    }
}
