/*
 * How old entries are, without any node's wall clock.
 *
 * The age is a number of microseconds that grows while the cluster is up: the leader proposes now
 * and then by how much (AGE), as its own monotonic clock counted since it took office or since the
 * last time. While there is no leader, while the nodes are off, when a leader changes, nothing is
 * counted; and a clock that is set, forward or back, on one node or on all, changes nothing.
 *
 *      raft index  ──────────┬──────────────┬─────────────┬─────►
 *      marks             index, age     index, age    index, age
 *                        ◄──────────────────────────────────────► the age now
 *      What lies at or below a mark's index was written when the age was its age at most: so it is
 *      as old as what has been added since, or older. Errors are late, never early.
 *
 * Marks are thinned where they stand close together compared with how old they are: what is read
 * from them is younger than it is by 1 % at most, beside the time between two AGEs; by more only
 * when there are too many (AGES_MARKS_MAX) to be as exact.
 *
 * Invariants:
 *   A1  Marks are in order: raft indexes go up, ages never down; none is above the age now.
 *   A2  Equal entries make equal ages and marks.
 */
#ifndef QUORLOG_RAFT_FSM_AGES_H
#define QUORLOG_RAFT_FSM_AGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { AGES_MARKS_MAX = 2048 };

/* The most that one AGE may add. */
#define AGES_ELAPSED_MAX_US (UINT64_C(3600) * 1000 * 1000)

struct ages_mark {
    uint64_t raft_index;
    uint64_t age_us;
};

struct ages {
    uint64_t age_us;         /* now */
    struct ages_mark *marks; /* owned; room for AGES_MARKS_MAX; NULL while there is none */
    size_t count;
};

/* Fine on an empty (all zero) one, and leaves that. */
void ages_fini(struct ages *self);
/* *ret_copy is written only on success. ERR_NOMEM. */
enum err ages_copy(const struct ages *self, struct ages *ret_copy);

/* The age grows; what lies at or below raft_index is of before. ERR_INVALID for more than
 * AGES_ELAPSED_MAX_US, nothing was changed; ERR_NOMEM. */
enum err ages_add(struct ages *self, uint64_t raft_index, uint64_t elapsed_us);

/* Adds a mark from a snapshot, in order. ERR_CORRUPT (A1, too many), ERR_NOMEM. */
enum err ages_restore(struct ages *self, uint64_t raft_index, uint64_t age_us);

/* The highest raft index of which is certain that what was written at or below it is at least so
 * old; 0: none. */
uint64_t ages_older_than(const struct ages *self, uint64_t age_us);

/* How old at least is what was written at raft_index. */
uint64_t ages_of(const struct ages *self, uint64_t raft_index);

bool ages_equal(const struct ages *self, const struct ages *other);

/* ASSERTs A1. */
void ages_check(const struct ages *self);

#endif
