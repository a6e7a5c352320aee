/* What goes wrong, and when. */
#include "base/assert.h"
#include "sim/cluster.h"

static uint64_t down_ms(struct prng *prng)
{
    return prng_range(prng, 1, prng_percent(prng, 60) ? 1500 : 12000);
}

static void crash(struct sim_cluster *self, struct sim_node *node)
{
    struct prng *prng = &self->prng;
    bool power = prng_percent(prng, 60);

    if (node == NULL || node->replica == NULL ||
        !sim_may(self, power ? SIM_FAULT_POWER : SIM_FAULT_KILL)) {
        return;
    }
    if (prng_percent(prng, 60)) {
        sim_disk_plan(&node->disk, SIM_DISK_DIE, (unsigned)prng_range(prng, 0, 40));
    } else {
        sim_node_crash(node, power, down_ms(prng));
    }
}

static void blackout(struct sim_cluster *self)
{
    if (!sim_may(self, SIM_FAULT_BLACKOUT)) {
        return;
    }
    sim_fault(self, SIM_FAULT_BLACKOUT);
    for (unsigned i = 1; i <= self->node_count; i++) {
        if (self->nodes[i].replica != NULL) {
            sim_node_crash(&self->nodes[i], true, prng_range(&self->prng, 1, 1500));
        }
    }
}

static void pause(struct sim_cluster *self, struct sim_node *node)
{
    struct prng *prng = &self->prng;

    if (node == NULL || node->replica == NULL || self->now_ms < node->paused_ms ||
        !sim_may(self, SIM_FAULT_PAUSE)) {
        return;
    }
    node->paused_ms = self->now_ms + prng_range(prng, 100, prng_percent(prng, 80) ? 4000 : 15000);
    sim_trace(self, "n%u stands still until %llu", node->id, (unsigned long long)node->paused_ms);
    sim_fault(self, SIM_FAULT_PAUSE);
}

static void cut(struct sim_cluster *self)
{
    static const enum sim_fault shapes[] = {
        SIM_FAULT_ONE_WAY, SIM_FAULT_CUT,  SIM_FAULT_ISOLATE, SIM_FAULT_ISOLATE,
        SIM_FAULT_SPLIT,   SIM_FAULT_RING, SIM_FAULT_BRIDGE,  SIM_FAULT_FLAP,
    };
    enum sim_fault shape = shapes[prng_range(&self->prng, 0, sizeof shapes / sizeof shapes[0] - 1)];

    if (sim_may(self, shape)) {
        net_cut(&self->net, &self->prng, self->node_count, shape);
        sim_trace(self, "the network: %s", sim_fault_name(shape));
    }
}

static void slow(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;

    self->net.slow = sim_may(self, SIM_FAULT_DELAY) && prng_percent(prng, 30);
    self->net.loss = !sim_may(self, SIM_FAULT_LOSS) || prng_percent(prng, 50)
                         ? 0
                         : (unsigned)prng_range(prng, 0, 15);
}

/* Another program fills the disk, or gives back what it had. */
static void fill(struct sim_cluster *self, struct sim_node *node)
{
    struct prng *prng = &self->prng;
    uint64_t reserve = self->replica.disk_reserve;

    if (node->disk.full || prng_percent(prng, 30)) {
        for (unsigned i = 1; i <= self->node_count; i++) {
            sim_disk_fill(&self->nodes[i].disk, UINT64_MAX);
        }
    } else if (sim_may(self, SIM_FAULT_FULL) && node->id != 0) {
        sim_disk_fill(&node->disk, prng_range(prng, 0, reserve + reserve / 4 + 65536));
        sim_trace(self, "n%u: its disk is filled", node->id);
        sim_fault(self, SIM_FAULT_FULL);
    }
}

static void members(struct sim_cluster *self)
{
    static const enum sim_fault kinds[] = {SIM_FAULT_TRANSFER, SIM_FAULT_ADD,    SIM_FAULT_ADD,
                                           SIM_FAULT_REMOVE,   SIM_FAULT_REMOVE, SIM_FAULT_REPLACE};

    sim_members_want(self, kinds[prng_range(&self->prng, 0, sizeof kinds / sizeof kinds[0] - 1)]);
}

static void damage(struct sim_cluster *self, struct sim_node *node)
{
    static const enum sim_fault kinds[] = {
        SIM_FAULT_LOSE,        SIM_FAULT_FLIP_TOPIC,   SIM_FAULT_FLIP_TOPIC,
        SIM_FAULT_FLIP_INDEX,  SIM_FAULT_FLIP_JOURNAL, SIM_FAULT_FLIP_SNAPSHOT,
        SIM_FAULT_FLIP_BALLOT, SIM_FAULT_DESTROY,
    };

    enum sim_fault kind = kinds[prng_range(&self->prng, 0, sizeof kinds / sizeof kinds[0] - 1)];

    if ((self->options.broken & SIM_BREAK_AMNESIA) != 0) {
        kind = SIM_FAULT_DESTROY; /* It takes many for one to come at the wrong moment. */
    }
    /* It needs one whose harm the others can make good. */
    for (unsigned i = 0; self->damage && i < self->node_count; i++) {
        if (sim_damage_act(self, &self->nodes[(node->slot + i) % self->node_count + 1], kind)) {
            return;
        }
    }
}

static void stall(struct sim_cluster *self, struct sim_node *node)
{
    node->stalled = sim_may(self, SIM_FAULT_STALL) && prng_percent(&self->prng, 40);
    if (node->stalled) {
        sim_fault(self, SIM_FAULT_STALL);
    }
}

static void fail(struct sim_cluster *self, struct sim_node *node)
{
    if (self->faults && sim_may(self, SIM_FAULT_FAIL) && node->replica != NULL) {
        sim_disk_plan(&node->disk, SIM_DISK_FAIL, (unsigned)prng_range(&self->prng, 0, 40));
    }
}

void sim_nemesis_act(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;
    struct sim_node *leader = sim_leader(self);
    struct sim_node *node = &self->nodes[prng_range(prng, 1, self->node_count)];
    uint64_t chance = prng_range(prng, 0, 99);

    sim_damage_look(self);
    if (chance < 14) {
        crash(self, node);
    } else if (chance < 19) {
        crash(self, leader);
    } else if (chance < 23) {
        blackout(self);
    } else if (chance < 35) {
        cut(self);
    } else if (chance < 55) {
        net_join(&self->net);
    } else if (chance < 59) {
        stall(self, node);
    } else if (chance < 64) {
        slow(self);
    } else if (chance < 67) {
        if (leader != NULL && sim_may(self, SIM_FAULT_RESIGN) &&
            self->now_ms >= leader->paused_ms) {
            sim_fault(self, SIM_FAULT_RESIGN);
            sim_node_resign(leader);
        }
    } else if (chance < 70) {
        fail(self, node);
    } else if (chance < 82) {
        damage(self, node);
    } else if (chance < 85) {
        fill(self, node);
    } else if (chance < 90) {
        pause(self, prng_percent(prng, 60) ? leader : node);
    } else if (chance < 95) {
        members(self);
    } else {
        sim_wall_act(self, node);
    }
}
