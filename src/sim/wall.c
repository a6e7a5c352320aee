/* Nodes' clocks; and wall clocks that are wrong. Nothing but time stamps may depend on them. */
#include "base/assert.h"
#include "sim/cluster.h"

#define HOUR_US INT64_C(3600000000)

static struct sim_node *of_clock(const struct clock *clock)
{
    return (struct sim_node *)((uintptr_t)clock - offsetof(struct sim_node, clock));
}

static uint64_t monotonic_ns(const struct clock *clock)
{
    return (of_clock(clock)->cluster->now_ms + 1000) * 1000000;
}

static int64_t wall_us(const struct clock *clock)
{
    const struct sim_node *self = of_clock(clock);

    return sim_wall_us(&self->wall, self->cluster->now_ms);
}

static uint64_t draw(const struct clock *clock)
{
    return prng_next(&of_clock(clock)->cluster->prng);
}

void sim_clock_init(struct sim_node *node)
{
    node->clock = (struct clock){.monotonic_ns = monotonic_ns, .wall_us = wall_us, .random = draw};
    node->wall = (struct sim_wall){
        .shown_us =
            INT64_C(1700000000000000) + (int64_t)prng_range(&node->cluster->prng, 0, 4000000),
        .permille = 1000,
    };
}

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
