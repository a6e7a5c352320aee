/*
 * The network between the nodes: delay, loss, partitions of every shape. Nodes are numbers of
 * machines.
 *
 * FIFO: as by TCP. Messages of one direction never overtake each other; when one is late, all that
 * follow are. They may still be lost (a connection broke). Otherwise: messages overtake each other,
 * come twice, and may be seconds late.
 */
#ifndef QUORLOG_SIM_NET_H
#define QUORLOG_SIM_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/faults.h"
#include "sim/prng.h"

enum { NET_NODES_MAX = 8 }; /* ids 1 … 7 */

struct net {
    bool fifo;
    bool long_stalls; /* 0.3–5 s now and then */
    bool healed;      /* no faults any more */
    bool prompt;      /* no message is late for long */
    bool slow;
    unsigned loss;                                  /* percent */
    unsigned duplicate;                             /* percent; not when FIFO */
    bool blocked[NET_NODES_MAX][NET_NODES_MAX];     /* from, to */
    unsigned flap_ms[NET_NODES_MAX][NET_NODES_MAX]; /* there so long, gone so long; 0: steady */
    uint64_t last_ms[NET_NODES_MAX][NET_NODES_MAX];
    struct sim_faults *faults; /* borrowed; counted here; NULL: not */
};

void net_init(struct net *self, struct prng *prng, bool fifo, bool long_stalls);

/* When the copies (0, 1 or 2) of a message sent now arrive. */
unsigned net_send(struct net *self, struct prng *prng, uint64_t now_ms, unsigned from, unsigned to,
                  uint64_t ret_times_ms[2]);

/* Whether nothing gets from one node to another now. */
bool net_blocked(const struct net *self, uint64_t now_ms, unsigned from, unsigned to);

/* One more partition: one way, both ways, a node alone, or two halves. */
void net_partition(struct net *self, struct prng *prng, unsigned nodes);
/* … of a shape: ISOLATE, SPLIT, CUT, ONE_WAY, RING, BRIDGE, FLAP. */
void net_cut(struct net *self, struct prng *prng, unsigned nodes, enum sim_fault shape);
void net_join(struct net *self);

/* Everything joined, fast and sure. */
void net_heal(struct net *self);

#endif
