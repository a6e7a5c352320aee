/* Wall clocks that are wrong. Nothing but time stamps may depend on them. */
#include "base/assert.h"
#include "sim/cluster.h"

#define HOUR_US INT64_C(3600000000)

int64_t sim_wall_us(const struct sim_wall *self, uint64_t now_ms)
{
    ASSERT(now_ms >= self->since_ms);
    return self->shown_us + (int64_t)((now_ms - self->since_ms) * self->permille);
}

static void run(struct sim_wall *self, uint64_t now_ms, int64_t by_us, unsigned permille)
{
    self->shown_us = sim_wall_us(self, now_ms) + by_us;
    self->since_ms = now_ms;
    self->permille = permille;
}

void sim_wall_act(struct sim_cluster *cluster, struct sim_node *node)
{
    struct prng *prng = &cluster->prng;
    struct sim_wall *wall = &node->wall;
    int64_t by_us = prng_percent(prng, 50) ? 2 * HOUR_US : 3000000;

    by_us = (int64_t)prng_range(prng, 0, 2 * (uint64_t)by_us) - by_us;
    switch (prng_range(prng, 0, 3)) {
    case 0:
        if (sim_may(cluster, SIM_FAULT_CLOCK_JUMP)) {
            run(wall, cluster->now_ms, by_us, wall->permille);
            sim_fault(cluster, SIM_FAULT_CLOCK_JUMP);
        }
        break;
    case 1:
        if (sim_may(cluster, SIM_FAULT_CLOCK_FREEZE)) {
            run(wall, cluster->now_ms, 0, 0);
            sim_fault(cluster, SIM_FAULT_CLOCK_FREEZE);
        }
        break;
    case 2:
        if (sim_may(cluster, SIM_FAULT_CLOCK_DRIFT)) {
            run(wall, cluster->now_ms, 0, (unsigned)prng_range(prng, 100, 10000));
            sim_fault(cluster, SIM_FAULT_CLOCK_DRIFT);
        }
        break;
    default:
        sim_wall_heal(wall, cluster->now_ms);
        break;
    }
}

void sim_wall_heal(struct sim_wall *self, uint64_t now_ms)
{
    run(self, now_ms, 0, 1000);
}
