/* What goes wrong. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "sim/cluster.h"

static uint64_t down_ms(struct prng *prng)
{
    return prng_range(prng, 1, prng_percent(prng, 60) ? 1500 : 12000);
}

static void crash(struct sim_cluster *self, struct sim_node *node)
{
    struct prng *prng = &self->prng;

    if (node == NULL || node->replica == NULL) {
        return;
    }
    if (prng_percent(prng, 60)) {
        sim_disk_plan(&node->disk, SIM_DISK_DIE, (unsigned)prng_range(prng, 0, 40));
    } else {
        sim_node_crash(node, prng_percent(prng, 60), down_ms(prng));
    }
}

static void power_loss_of_all(struct sim_cluster *self)
{
    for (unsigned i = 1; i <= self->node_count; i++) {
        if (self->nodes[i].replica != NULL) {
            sim_node_crash(&self->nodes[i], true, prng_range(&self->prng, 1, 1500));
        }
    }
}

/* Whether another node has all that this one has applied, on its disk, from its own journal: files
 * that are lost here are not the last copy. */
static bool others_have_all(const struct sim_cluster *self, const struct sim_node *node)
{
    for (unsigned i = 1; i <= self->node_count; i++) {
        const struct sim_node *other = &self->nodes[i];

        if (other != node && other->replica != NULL && !other->had_holes &&
            other->applied >= node->applied &&
            raft_driver_stored_index(replica_driver(other->replica)) >= node->applied) {
            return true;
        }
    }
    return false;
}

struct victims {
    struct prng *prng;
    unsigned percent; /* of the files */
    char paths[64][96];
    unsigned count;
};

static void choose_file(void *arg, const char *path, uint64_t size)
{
    struct victims *self = arg;

    (void)size;
    if (strncmp(path, "/topics/", 8) == 0 && self->count < 64 &&
        prng_percent(self->prng, self->percent)) {
        (void)snprintf(self->paths[self->count++], sizeof self->paths[0], "%s", path); /* fits */
    }
}

/* Somebody removes files of topics, or all of them, while the node is down. */
static void lose_files(struct sim_cluster *self, struct sim_node *node)
{
    struct prng *prng = &self->prng;
    struct victims victims = {
        .prng = prng, .percent = prng_percent(prng, 30) ? 100 : (unsigned)prng_range(prng, 1, 40)};
    struct io *io = &node->disk.mem.io;

    if (!self->damage || node->replica == NULL || !others_have_all(self, node)) {
        return;
    }
    sim_node_crash(node, prng_percent(prng, 50), down_ms(prng));
    node->had_holes = true;
    self->stats->damaged++;
    mem_io_files(&node->disk.mem, choose_file, &victims);
    for (unsigned i = 0; i < victims.count; i++) {
        char *path = victims.paths[i];
        int rv = io->unlink(io, path);

        ASSERT(rv == 0);
        *strrchr(path, '/') = '\0';
        rv = io->sync_dir(io, path);
        ASSERT(rv == 0);
        if (victims.percent == 100 && io->rmdir(io, path) == 0) {
            rv = io->sync_dir(io, "/topics");
            ASSERT(rv == 0);
        }
    }
    sim_trace(self, "n%u has lost %u files", node->id, victims.count);
}

void sim_nemesis_act(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;
    struct sim_node *leader = sim_leader(self);
    struct sim_node *node = &self->nodes[prng_range(prng, 1, self->node_count)];

    switch (prng_range(prng, 0, 18)) {
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
        node->stalled = prng_percent(prng, 30);
        break;
    case 13:
        self->net.slow = prng_percent(prng, 30);
        self->net.loss = prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 15);
        break;
    case 14:
        if (leader != NULL) {
            sim_node_resign(leader);
        }
        break;
    case 15:
        if (self->faults && node->replica != NULL) {
            sim_disk_plan(&node->disk, SIM_DISK_FAIL, (unsigned)prng_range(prng, 0, 40));
        }
        break;
    case 16:
    case 17:
        lose_files(self, node);
        break;
    default:
        node->wall_us += (int64_t)prng_range(prng, 0, 6000000) - 3000000;
        break;
    }
}
