#include "sim/net.h"

#include <string.h>

#include "base/assert.h"

void net_init(struct net *self, struct prng *prng, bool fifo, bool long_stalls)
{
    *self = (struct net){.fifo = fifo, .long_stalls = long_stalls};
    self->loss = prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 10);
    self->duplicate = fifo || prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 10);
}

static uint64_t delay_ms(struct net *self, struct prng *prng)
{
    uint64_t delay = prng_percent(prng, 95) ? prng_range(prng, 1, 12) : prng_range(prng, 10, 300);

    if (self->healed) {
        return delay;
    }
    if (self->slow) {
        delay += prng_range(prng, 0, 150);
    }
    if (prng_percent(prng, 1)) {
        delay += self->fifo ? prng_range(prng, 100, 600) : prng_range(prng, 300, 5000);
    }
    if (self->long_stalls && prng_permille(prng, 1)) {
        delay += prng_range(prng, 300, 5000);
    }
    return delay;
}

unsigned net_send(struct net *self, struct prng *prng, uint64_t now_ms, unsigned from, unsigned to,
                  uint64_t ret_times_ms[2])
{
    unsigned copies = 1;

    ASSERT(from > 0 && from < NET_NODES_MAX);
    ASSERT(to > 0 && to < NET_NODES_MAX);
    if (self->blocked[from][to] || prng_percent(prng, self->loss)) {
        return 0;
    }
    if (prng_percent(prng, self->duplicate)) {
        copies = 2;
    }
    for (unsigned i = 0; i < copies; i++) {
        uint64_t at = now_ms + delay_ms(self, prng);

        if (self->fifo && at < self->last_ms[from][to]) {
            at = self->last_ms[from][to];
        }
        self->last_ms[from][to] = at;
        ret_times_ms[i] = at;
    }
    return copies;
}

void net_partition(struct net *self, struct prng *prng, unsigned nodes)
{
    unsigned a = (unsigned)prng_range(prng, 1, nodes);
    unsigned b = (unsigned)prng_range(prng, 1, nodes);
    uint64_t half = prng_range(prng, 1, (1u << nodes) - 1);

    switch (prng_range(prng, 0, 3)) {
    case 0:
        self->blocked[a][b] = true;
        break;
    case 1:
        self->blocked[a][b] = self->blocked[b][a] = true;
        break;
    case 2:
        for (unsigned i = 1; i <= nodes; i++) {
            self->blocked[a][i] = self->blocked[i][a] = true;
        }
        break;
    default:
        for (unsigned i = 1; i <= nodes; i++) {
            for (unsigned j = 1; j <= nodes; j++) {
                self->blocked[i][j] = ((half >> (i - 1)) & 1) != ((half >> (j - 1)) & 1);
            }
        }
        break;
    }
}

void net_join(struct net *self)
{
    memset(self->blocked, 0, sizeof self->blocked);
}

void net_heal(struct net *self)
{
    net_join(self);
    self->healed = true;
    self->slow = false;
    self->loss = self->duplicate = 0;
}
