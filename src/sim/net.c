#include "sim/net.h"

#include <string.h>

#include "base/assert.h"

enum { LATE_MS = 300 };

void net_init(struct net *self, struct prng *prng, bool fifo, bool long_stalls)
{
    *self = (struct net){.fifo = fifo, .long_stalls = long_stalls};
    self->loss = prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 10);
    self->duplicate = fifo || prng_percent(prng, 50) ? 0 : (unsigned)prng_range(prng, 0, 10);
}

static uint64_t delay_ms(struct net *self, struct prng *prng)
{
    uint64_t delay = prng_percent(prng, 95) ? prng_range(prng, 1, 12) : prng_range(prng, 10, 300);

    if (self->healed || self->prompt) {
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

static void count(struct net *self, enum sim_fault fault)
{
    if (self->faults != NULL) {
        self->faults->counts[fault]++;
    }
}

bool net_blocked(const struct net *self, uint64_t now_ms, unsigned from, unsigned to)
{
    unsigned flap_ms = self->flap_ms[from][to];

    ASSERT(from < NET_NODES_MAX && to < NET_NODES_MAX);
    return self->blocked[from][to] || (flap_ms > 0 && now_ms / flap_ms % 2 == 1);
}

unsigned net_send(struct net *self, struct prng *prng, uint64_t now_ms, unsigned from, unsigned to,
                  uint64_t ret_times_ms[2])
{
    unsigned copies = 1;

    ASSERT(from > 0 && from < NET_NODES_MAX);
    ASSERT(to > 0 && to < NET_NODES_MAX);
    if (net_blocked(self, now_ms, from, to)) {
        return 0;
    }
    if (prng_percent(prng, self->loss)) {
        count(self, SIM_FAULT_LOSS);
        return 0;
    }
    if (prng_percent(prng, self->duplicate)) {
        count(self, SIM_FAULT_DUPLICATE);
        copies = 2;
    }
    for (unsigned i = 0; i < copies; i++) {
        uint64_t at = now_ms + delay_ms(self, prng);

        if (at > now_ms + LATE_MS) {
            count(self, SIM_FAULT_DELAY);
        }
        if (!self->fifo && at < self->last_ms[from][to]) {
            count(self, SIM_FAULT_REORDER);
        }
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

/* All links but some. */
static void keep_only(struct net *self, unsigned nodes,
                      bool (*linked)(unsigned, unsigned, unsigned), unsigned shift)
{
    for (unsigned i = 0; i < nodes; i++) {
        for (unsigned j = 0; j < nodes; j++) {
            /* Which node stands where is drawn. */
            unsigned from = (i + shift) % nodes + 1;
            unsigned to = (j + shift) % nodes + 1;

            self->blocked[from][to] = i != j && !linked(i, j, nodes);
        }
    }
}

/* On a circle, each sees those up to a quarter of it away: a majority, himself included. */
static bool ring(unsigned a, unsigned b, unsigned nodes)
{
    unsigned apart = a > b ? a - b : b - a;

    apart = apart > nodes - apart ? nodes - apart : apart;
    return apart <= (nodes / 2 + 1) / 2;
}

/* The one in the middle sees all, the others their half. */
static bool bridge(unsigned a, unsigned b, unsigned nodes)
{
    unsigned middle = nodes / 2;

    return a == middle || b == middle || (a < middle) == (b < middle);
}

static void flap(struct net *self, struct prng *prng, unsigned nodes, unsigned a, unsigned b)
{
    unsigned period_ms = (unsigned)prng_range(prng, 50, 500);
    bool whole = prng_percent(prng, 40);

    for (unsigned i = 1; i <= nodes; i++) {
        if (i != a && (whole || i == b)) {
            self->flap_ms[a][i] = period_ms;
            self->flap_ms[i][a] = prng_percent(prng, 70) ? period_ms : 0;
        }
    }
}

void net_cut(struct net *self, struct prng *prng, unsigned nodes, enum sim_fault shape)
{
    unsigned a = (unsigned)prng_range(prng, 1, nodes);
    unsigned b = (unsigned)prng_range(prng, 1, nodes);
    uint64_t half = prng_range(prng, 1, (1u << nodes) - 2);

    ASSERT(nodes >= 2 && nodes < NET_NODES_MAX);
    b = a == b ? a % nodes + 1 : b;
    count(self, shape);
    if (shape == SIM_FAULT_ONE_WAY) {
        self->blocked[a][b] = true;
    } else if (shape == SIM_FAULT_CUT || (shape == SIM_FAULT_RING && nodes < 4)) {
        self->blocked[a][b] = self->blocked[b][a] = true;
    } else if (shape == SIM_FAULT_ISOLATE) {
        for (unsigned i = 1; i <= nodes; i++) {
            self->blocked[a][i] = self->blocked[i][a] = true;
        }
    } else if (shape == SIM_FAULT_SPLIT) {
        for (unsigned i = 1; i <= nodes; i++) {
            for (unsigned j = 1; j <= nodes; j++) {
                self->blocked[i][j] = ((half >> (i - 1)) & 1) != ((half >> (j - 1)) & 1);
            }
        }
    } else if (shape == SIM_FAULT_FLAP) {
        flap(self, prng, nodes, a, b);
    } else {
        ASSERT(shape == SIM_FAULT_RING || shape == SIM_FAULT_BRIDGE);
        keep_only(self, nodes, shape == SIM_FAULT_RING ? ring : bridge, a);
    }
}

void net_join(struct net *self)
{
    memset(self->blocked, 0, sizeof self->blocked);
    memset(self->flap_ms, 0, sizeof self->flap_ms);
}

void net_heal(struct net *self)
{
    net_join(self);
    self->healed = true;
    self->slow = false;
    self->loss = self->duplicate = 0;
}
