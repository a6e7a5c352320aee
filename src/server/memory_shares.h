/*
 * What each owner of memory may have of it: shares of the one setting `memory`, under which a
 * node's resident memory is kept.
 *
 *      7/16   entries held by raft, at most (raft_fsm/replica_memory.c); of these, as a rule
 *             trailing_size 1/16, inflight_size 1/16, and snapshot_size 1/8 until the next one
 *      1/8    requests under way (requests_size_max); mailbox_size half of it
 *      1/16   frames that have not come whole (transport.h: arriving)
 *      1/16   answers that are not taken, and reads under way (leaving)
 *      1/16   what waits to be sent to a node for replication and is no longer held as an entry
 *      3/32   notes of keys while a topic is compacted (compact_memory)
 *      3/64   the newest keys of topics with key indexes
 *      7/64   is left for code, stacks, topics, producers, cursors, and what malloc keeps
 *
 * A value that is set for itself wins over its share, and the bound on entries follows the sizes
 * that it has to hold. Nothing that others see derives from it: frame_size_max, batch_size_max.
 */
#ifndef QUORLOG_SERVER_MEMORY_SHARES_H
#define QUORLOG_SERVER_MEMORY_SHARES_H

#include <stddef.h>

#include "server/config.h"

struct memory_shares {
    size_t entries;    /* bytes, as the next */
    size_t arriving;   /* of all connections */
    size_t leaving;    /* of all connections */
    size_t peer_queue; /* of one node; a minority can be stuck */
    size_t keys;       /* of all topics */
};

/* Sets what is still at its default, and is a share, to its share. After all sources were read. */
void memory_shares_settle(struct config *config);

/* The shares that are no settings. */
void memory_shares_of(const struct config *config, struct memory_shares *ret_shares);

#endif
