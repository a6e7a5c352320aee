/*
 * What a node's ballot, snapshot and journal say together: each verifies by itself, and yet they
 * may be of different histories, where files were copied, swapped or restored one by one.
 */
#ifndef QUORLOG_RAFT_FSM_RAFT_DISK_H
#define QUORLOG_RAFT_FSM_RAFT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/message.h"

/* What a node finds on its disk. A node that begins a cluster has term 1 and, as its only entry,
 * the ENTRY_CHANGE with index 1, term 1 and the same bytes on all nodes; one that joins has
 * nothing. */
struct raft_driver_disk {
    uint64_t term;
    uint64_t vote;
    const struct snapshot *snapshot; /* newest; NULL if none. The state machine is at its index. */
    uint64_t first_index;            /* of entries[0]; or where the journal continues */
    const struct entry *entries;     /* the driver takes references */
    size_t count;
};

/* ERR_CORRUPT, naming the file of the three (ballot, snapshot, journal) where it can be told. */
enum err raft_disk_check(const struct raft_driver_disk *self, struct err_info *info);

/* Whether the entries end before the snapshot or contradict it: an install that a crash cut short.
 * They are all behind it, or of a history that did not win. Of what was checked. */
bool raft_disk_journal_is_void(const struct raft_driver_disk *self);

#endif
