/*
 * Readers that ask nodes for read indexes, those that lead and those that only think so. An index
 * covers everything that any node had applied when it was asked for: whatever was acknowledged.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

struct sim_read {
    struct replica_read read;
    struct sim_cluster *cluster;
    unsigned node;
    uint64_t mark; /* applied somewhere when it came */
};

static void on_done(struct replica_read *base)
{
    struct sim_read *self = (struct sim_read *)base;
    struct sim_cluster *cluster = self->cluster;

    _Static_assert(offsetof(struct sim_read, read) == 0, "a read begins with it");
    if (base->err != ERR_OK) {
        cluster->stats->reads_lost++;
    } else if (base->index < self->mark && !cluster->nodes[self->node].disk.dead) {
        sim_violation(&cluster->oracle,
                      "a read at node %u gets index %llu, but %llu was applied when it came",
                      self->node, U(base->index), U(self->mark));
    } else {
        cluster->stats->reads++;
    }
    free(self);
}

void sim_read_at(struct sim_cluster *cluster, struct sim_node *node)
{
    unsigned count =
        prng_percent(&cluster->prng, 80) ? 1 : (unsigned)prng_range(&cluster->prng, 2, 5);

    for (unsigned i = 0; i < count && node->replica != NULL && cluster->now_ms >= node->paused_ms;
         i++) {
        struct sim_read *self = calloc(1, sizeof *self);

        ASSERT(self != NULL);
        self->read.done = on_done;
        self->cluster = cluster;
        self->node = node->slot;
        self->mark = cluster->oracle.applied_last;
        sim_node_read(node, &self->read);
    }
}

void sim_read_act(struct sim_cluster *cluster)
{
    struct prng *prng = &cluster->prng;

    sim_read_at(cluster, &cluster->nodes[prng_range(prng, 1, cluster->node_count)]);
    events_push(&cluster->events, cluster->now_ms + prng_range(prng, 1, 25), EVENT_READ, 0, 0,
                NULL);
}
