/*
 * A cluster of drivers in one process and one thread, with a network, disks and a clock of its own:
 * one seed is one history, always the same.
 *
 * 3 or 5 voters (sometimes one, that grows) out of 7 nodes. 60 s of faults: crashes with true
 * restarts, partitions, loss, stalls, full disks' queues, snapshots and installs, failed installs,
 * membership changes, transfers. Then all is healed and must make progress (40 s) and converge (as
 * soon as 48 s and at most 148 s after). All the while, the oracle and raft_driver_check.
 *
 * With `reads`, clients ask nodes for read indexes, those that lead and those that only think so;
 * an index must cover everything that any node had applied when the read began. Nodes pause, too,
 * and a read is the first that they meet afterwards.
 *
 * With `deaf`, one node that was told to lead hears nothing more while the others have to make
 * progress: what it says must not keep them from it.
 */
#ifndef QUORLOG_TESTS_SIM_DRIVER_CLUSTER_H
#define QUORLOG_TESTS_SIM_DRIVER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "raft_fsm/raft_driver.h"
#include "sim/driver_disk.h"
#include "sim/driver_oracle.h"
#include "sim/events.h"
#include "sim/net.h"
#include "sim/prng.h"

enum { CLUSTER_NODES = NET_NODES_MAX - 1, NODE_READS_MAX = 16 };

struct cluster_stats {
    uint64_t seeds;
    uint64_t committed;
    uint64_t elections;
    uint64_t crashes;
    uint64_t snapshots;
    uint64_t installs;
    uint64_t install_failures;
    uint64_t changes;
    uint64_t transfers;
    uint64_t truncations;
    uint64_t messages;
    uint64_t proposals;
    uint64_t reads; /* that were confirmed */
    uint64_t reads_lost;
    uint64_t calls;
    uint64_t virtual_ms;
};

struct cluster_options {
    uint64_t seed;
    bool reorder; /* else FIFO */
    bool long_stalls;
    bool reads;         /* linearizable ones, all the time */
    bool deaf;          /* see above */
    bool lazy;          /* hosts put off applying, now and then */
    unsigned news_ms;   /* as in raft_driver_options */
    unsigned rules_off; /* as in raft_driver_options */
    bool trace;         /* to stdout */
};

struct cluster;

/* A linearizable read that waits at a node. */
struct node_read {
    uint64_t mark;  /* what some node had applied when it came */
    uint64_t round; /* 0: it has not begun */
    uint64_t index;
    uint64_t since_ms;
};

struct node {
    struct cluster *cluster; /* borrowed */
    unsigned id;
    bool used;                  /* was ever started */
    struct raft_driver *driver; /* NULL: down */
    uint64_t incarnation;       /* counts starts and crashes */
    struct disk disk;
    bool stalled; /* its disk is slow */

    uint64_t applied; /* the state machine: nothing but a hash */
    uint64_t hash;
    uint64_t seen_commit;
    uint64_t seen_leader_term; /* the last one in which it was seen to lead */

    uint64_t timer_ms; /* of the EVENT_TIMER that counts; UINT64_MAX: none */
    uint64_t timer_generation;

    uint64_t paused_ms; /* what happens before waits until then */
    struct node_read reads[NODE_READS_MAX];
    unsigned read_count;

    bool taking; /* a snapshot is being written */
    struct snapshot taken;
    bool installing;
    bool install_under_way; /* its EVENT_INSTALL is in the heap */
    struct snapshot install;
};

struct cluster {
    struct cluster_options options;
    struct prng prng;
    uint64_t now_ms;
    struct events events;
    struct net net;
    struct oracle oracle;
    struct node nodes[NET_NODES_MAX]; /* [1 … CLUSTER_NODES] */
    struct cluster_stats *stats;      /* borrowed; added to */
    bool healed;
    bool closing;  /* no proposals any more */
    unsigned deaf; /* The node that is, or was, deaf; 0: none yet. */

    /* What is drawn once for all nodes of a seed. */
    unsigned heartbeat_ms;
    unsigned election_ms;
    size_t message_size_max;
    size_t trailing_size;
    unsigned trailing_min;
    unsigned snapshot_interval; /* entries */
};

/* Runs one seed. Returns when all is well; ends the process otherwise (oracle_violation or a failed
 * ASSERT). */
void cluster_run(const struct cluster_options *options, struct cluster_stats *stats);

void cluster_trace(const struct cluster *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The node that leads in the highest term; NULL when none does. */
struct node *cluster_leader(struct cluster *self);

/* ---- node.c ---- */

void node_init(struct node *self, struct cluster *cluster, unsigned id);
void node_fini(struct node *self);
void node_start(struct node *self);
void node_crash(struct node *self);
/* One of its events. */
void node_take(struct node *self, const struct event *event);
void node_propose(struct node *self);
/* A read comes to it; refused when it does not lead. */
void node_read(struct node *self);
/* Whether it was begun. */
bool node_change(struct node *self, const struct membership *membership);
void node_transfer(struct node *self, uint64_t id);

/* ---- nemesis.c ---- */

void nemesis_act(struct cluster *self);

/* Adds, promotes, demotes or removes some node, if this one leads and the rules allow it now. */
void nemesis_change(struct cluster *self, struct node *leader);

#endif
