/*
 * Disks that nodes' ids are bound to by entries that this replica holds and has not applied yet.
 *
 * A replica that was just started holds entries that it may not apply before a leader tells it
 * more; its members, though, it takes from them at once. So it takes the disks of its members from
 * them, too: else it would count the vote of a node that lost its disk, just because it does not
 * know yet what it holds in its hands. A member votes only after the entry that binds its disk, so
 * whoever has the member has that entry, or a snapshot of it.
 *
 * Invariants:
 *   I1  items are in order of index, one for each id: the first, which is the one that will count.
 *   I2  What a later entry of a lower or equal index replaced is not in there.
 */
#ifndef QUORLOG_RAFT_FSM_NODES_AHEAD_H
#define QUORLOG_RAFT_FSM_NODES_AHEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/nodes.h"

struct node_ahead {
    uint64_t index;
    struct node_disk node;
};

struct nodes_ahead {
    struct node_ahead *items; /* owned */
    size_t count;
    size_t capacity;
    uint64_t version; /* counts changes */
};

void nodes_ahead_init(struct nodes_ahead *self);
void nodes_ahead_fini(struct nodes_ahead *self);

/* Entries take the places from entries[0].index on; what is at or below `applied` is forgotten.
 * ERR_NOMEM: nothing was changed. */
enum err nodes_ahead_append(struct nodes_ahead *self, const struct entry *entries, size_t count,
                            uint64_t applied);

/* All entries are gone: a snapshot has taken their place. */
void nodes_ahead_clear(struct nodes_ahead *self);

/* 0: none. */
uint64_t nodes_ahead_find(const struct nodes_ahead *self, uint64_t id);

#endif
