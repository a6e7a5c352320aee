/*
 * The entries that a driver holds in memory: those of its log that are not behind a snapshot, and
 * some that are, for followers that lag a little.
 *
 * A ring of views with one reference each.
 *
 * Invariants:
 *   L1  Indexes are dense: the entry in place i has index first + i.
 *   L2  Terms never go down.
 *   L3  size is the sum of the frames held.
 */
#ifndef QUORLOG_RAFT_FSM_RAFT_DRIVER_LOG_H
#define QUORLOG_RAFT_FSM_RAFT_DRIVER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/entry.h"

enum {
    /* What an entry takes beside its frame: its place in the ring, twice, since that grows by
     * doubling, and what the block that holds it alone, at worst, and the heap put before it. */
    RAFT_DRIVER_LOG_OVERHEAD = 2 * sizeof(struct entry) + sizeof(struct block) + 16,
};

struct raft_driver_log {
    struct entry *slots; /* owned ring */
    size_t capacity;     /* 0 or a power of two */
    size_t start;        /* slot of the first entry */
    size_t count;
    uint64_t first; /* index of the first entry; of the next one when there is none */
    size_t size;    /* bytes of all frames */
};

/* Empty; the next entry has index first > 0. */
void raft_driver_log_init(struct raft_driver_log *self, uint64_t first);
void raft_driver_log_fini(struct raft_driver_log *self);

/* first - 1 when there is none. */
static inline uint64_t raft_driver_log_last(const struct raft_driver_log *self)
{
    return self->first + self->count - 1;
}

/* Appends entries[0 … count), which continue the log, and takes a reference to each. ERR_NOMEM:
 * nothing was changed. */
enum err raft_driver_log_push(struct raft_driver_log *self, const struct entry *entries,
                              unsigned count);

/* Drops everything from index on; first <= index <= last. */
void raft_driver_log_truncate(struct raft_driver_log *self, uint64_t index);

/* Drops everything up to index, which is at most last. Below first: nothing to do. */
void raft_driver_log_drop_prefix(struct raft_driver_log *self, uint64_t index);

/* Drops everything; the next entry has index first. */
void raft_driver_log_reset(struct raft_driver_log *self, uint64_t first);

/* Borrowed until the next change; NULL when index is not held. */
const struct entry *raft_driver_log_get(const struct raft_driver_log *self, uint64_t index);

/* 0 when index is not held. */
uint64_t raft_driver_log_term(const struct raft_driver_log *self, uint64_t index);

/* Asserts L1 and L2 at both ends and, with all, everywhere, with L3. */
void raft_driver_log_check(const struct raft_driver_log *self, bool all);

#endif
