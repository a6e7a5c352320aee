/*
 * What must hold in every history of a cluster, whatever fails.
 *
 *   O1  Election safety: one leader in a term.
 *   O2  Log matching: entries of one index and term have the same contents, on all nodes.
 *   O3  Leader completeness: a leader of term t has, when it is elected, every entry that was
 *       committed by a leader of an earlier term; and no entry is committed later by a leader of an
 *       earlier term that it did not have (a late leader of an older term is legal, and can commit
 *       nothing new).
 *   O4  What is committed never changes; the first to apply an entry leads.
 *   O5  Applied in order without a hole, with the same state on all nodes.
 *
 * An entry is known by its value: its checksum and its first bytes.
 */
#ifndef QUORLOG_TESTS_SIM_DRIVER_ORACLE_H
#define QUORLOG_TESTS_SIM_DRIVER_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/raft_driver.h"

/* An entry that some node has applied. */
struct oracle_entry {
    uint64_t value;
    uint64_t term;
    uint64_t leader_term; /* of the leader that committed it */
    uint64_t hash;        /* of the state after it */
};

/* A leader of a term, and its log when it was elected. */
struct oracle_leader {
    unsigned id; /* 0: none known */
    uint64_t first;
    uint64_t last;
    uint64_t *terms; /* owned */
    uint64_t *values;
};

struct oracle_value {
    uint64_t index; /* 0: free */
    uint64_t term;
    uint64_t value;
};

struct oracle {
    struct oracle_entry *committed; /* owned; [1 … last] */
    uint64_t last;
    size_t committed_capacity;
    struct oracle_leader *leaders; /* owned; by term */
    uint64_t last_term;
    size_t leaders_capacity;
    struct oracle_value *values; /* owned; hash table of index and term */
    size_t values_count;
    size_t values_capacity;
    bool any_applier; /* O4's second half is not checked: a leader that removes itself applies the
                         rest as a follower, and one that is lazy may lead no more */
    uint64_t seed;
    const uint64_t *now_ms; /* borrowed */
};

void oracle_init(struct oracle *self, uint64_t seed, const uint64_t *now_ms);
void oracle_fini(struct oracle *self);

uint64_t oracle_entry_value(const struct entry *entry);
uint64_t oracle_hash(uint64_t hash, const struct entry *entry);

/* An entry is put into a log. */
void oracle_appended(struct oracle *self, unsigned id, const struct entry *entry);

void oracle_elected(struct oracle *self, unsigned id, const struct raft_driver *driver);

/* hash: of the state after it. */
void oracle_applied(struct oracle *self, unsigned id, const struct raft_driver *driver,
                    const struct entry *entry, uint64_t hash);

/* Says what was violated, when and in which seed, and ends the process with ORACLE_EXIT. */
_Noreturn void oracle_violation(const struct oracle *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum { ORACLE_EXIT = 3 };

#endif
