/*
 * Which disk each node's id belongs to: bound once, by a committed entry, and never again.
 *
 * A node that lost its disk has forgotten its votes and what it acknowledged; under its old id it
 * could vote twice in a term, and acknowledged records could be lost. So whoever says that he is
 * node N and shows another disk is refused, and the id of a member that was removed is not given
 * out a second time. Part of the state machine: kept in snapshots.
 *
 * Invariants: ids ascend and are > 0; disk ids are not 0.
 */
#ifndef QUORLOG_RAFT_FSM_NODES_H
#define QUORLOG_RAFT_FSM_NODES_H

#include <stdint.h>

#include "base/err.h"

enum { NODES_MAX = 1024 }; /* that a cluster ever had */

struct node_disk {
    uint64_t id;
    uint64_t disk_id;
};

struct nodes {
    unsigned count;
    struct node_disk list[NODES_MAX];
};

/* A second one, on the heap: free. ERR_NOMEM. */
enum err nodes_copy(const struct nodes *self, struct nodes **ret_copy);

/* The disk that the id is bound to; 0: none yet. */
uint64_t nodes_find(const struct nodes *self, uint64_t id);

/* ERR_EXISTS when the id is bound already, to whatever disk; ERR_INVALID for 0; ERR_LIMIT. */
enum err nodes_bind(struct nodes *self, uint64_t id, uint64_t disk_id);

#endif
