/*
 * What a stopped node's directory holds, and how a cluster is begun anew from it when a majority of
 * the old one is gone for good.
 *
 * Beginning anew makes this node the only voter: a change of the members that says so is appended,
 * in a new term, to what its journal holds. All of that counts from then on, committed or not; what
 * only the lost nodes held is lost. Of several survivors the one whose last entry has the highest
 * term, and within that the highest index, has the most: it holds everything acknowledged that any
 * survivor holds.
 */
#ifndef QUORLOG_RAFT_FSM_RECOVERY_H
#define QUORLOG_RAFT_FSM_RECOVERY_H

#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/membership.h"

struct recovery_report {
    uint64_t term;      /* that the node is in */
    uint64_t last_term; /* of its last entry */
    uint64_t last_index;
    uint64_t snapshot_index;      /* 0: none; applied for certain */
    struct membership membership; /* as its log says; count 0: it was never a member */
};

/* Looks into dir (the group's). Nobody else uses it. ERR_NOT_FOUND when nothing is there; errors of
 * journal_open, ballot_open and snapshot_load. */
enum err recovery_inspect(struct io *io, const char *dir, uint64_t node_id,
                          struct recovery_report *ret_report, struct err_info *info);

/* Makes the node at `address` the only member. Durable when it returns; a crash on the way leaves
 * the old state, in a later term perhaps, or the new one. *ret_report: how it was before. */
enum err recovery_begin_anew(struct io *io, const char *dir, uint64_t node_id, const char *address,
                             struct recovery_report *ret_report, struct err_info *info);

#endif
