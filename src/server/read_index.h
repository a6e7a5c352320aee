/*
 * Read indexes: which entry this node must have applied before it may answer a read that has to see
 * everything acknowledged up to some moment. Only the leader can say, after a majority has
 * confirmed that it still is (raft_fsm/replica.h); here, for a front thread, one question at a time
 * is asked, of this node's group or of the leader's node, and its answer serves all who wait.
 *
 *             a wait that no answer fits            the group's or the leader's answer
 *      IDLE ------------------------------> ASKED ------------------------------------> IDLE
 *        ^  no way to a leader now: RETRY     | refused, lost, another leads, no answer for long
 *        +------------------------------------+
 *
 * An answer counts for the moment at which its question was asked, by this node's own clock: what
 * was acknowledged before that moment, by whomever, is covered by it. So a wait says how old the
 * question may be at most, and there is no other measure of how fresh a replica is: clocks of
 * different nodes are never compared, and it makes no difference how long messages were under way.
 *
 * Invariants:
 *   X1  known_index covers all that was acknowledged before known_ns.
 *   X2  A wait is served by an answer whose question is not older than its since_ns.
 */
#ifndef QUORLOG_SERVER_READ_INDEX_H
#define QUORLOG_SERVER_READ_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "raft_fsm/group.h"
#include "server/deadline.h"
#include "server/remote.h"

struct front;

/* Who waits; embedded by its owner, all zero is "does not wait". */
struct index_wait {
    bool waiting;
    bool passed_on;    /* another node asks: answered by this node's group, or not at all */
    uint64_t since_ns; /* read_index_now_ns */
    struct index_wait *prev;
    struct index_wait *next;
    /* Exactly one of the two is called, from the front's loop, unless forgotten before. The index
     * is known (X2). */
    void (*known)(struct index_wait *wait);
    /* passed_on only: this node does not lead, or stops. */
    void (*refused)(struct index_wait *wait);
};

enum index_state { INDEX_IDLE, INDEX_ASKED_GROUP, INDEX_ASKED_NODE };

struct read_indexes {
    enum index_state state;
    struct index_wait *waits;
    uint64_t asked_ns; /* when the question under way was asked */
    uint64_t known_ns; /* when the one was asked that was answered last; 0: none was */
    uint64_t known_index;
    struct passed passed; /* ASKED_NODE */
    uint64_t asked_node;
    struct group_read read; /* ASKED_GROUP: the group's until it is answered */
    struct deadline retry;
};

void read_indexes_init(struct front *front);

/* This machine's time since it started, the time that it slept through included; never 0. */
uint64_t read_index_now_ns(void);

/* What since_ns has to be for a read that must see everything acknowledged until now. */
uint64_t read_index_since_now(const struct front *front);

/* The index for a question that is not older than since_ns, if there is one already. */
bool read_index_known(const struct front *front, uint64_t since_ns, uint64_t *ret_index,
                      uint64_t *ret_known_ns);

/* Waits until there is. Calls nobody from inside. */
void read_index_wait(struct front *front, struct index_wait *wait);

/* It waits no more. One that does not wait is fine. */
void read_index_forget(struct front *front, struct index_wait *wait);

/* The group has answered. */
void read_indexes_answered(struct front *front, struct group_read *read);

/* Another may lead now; a connection to a node may be there now. */
void read_indexes_published(struct front *front);
void read_indexes_retry(struct front *front);

/* The node stops: no more questions. Those who wait for other nodes are refused. */
void read_indexes_stop(struct front *front);

#endif
