/*
 * The terms of a log's entries, as runs of equal terms: few, however long the log is.
 *
 * Invariant: runs have increasing first indexes and never decreasing terms.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_TERMS_H
#define QUORLOG_RAFT_FSM_JOURNAL_TERMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct journal_term_run {
    uint64_t first_index;
    uint64_t term;
};

struct journal_terms {
    struct journal_term_run *runs; /* owned */
    size_t count;
    size_t capacity;
};

/* Zeroed memory is an empty one. */
void journal_terms_fini(struct journal_terms *self);

/* The entry at index has this term, and entries above it are gone. ERR_NOMEM. */
enum err journal_terms_set(struct journal_terms *self, uint64_t index, uint64_t term);

/* The term of the entry at index, which is not above the last one set; 0 when it is not known. */
uint64_t journal_terms_get(const struct journal_terms *self, uint64_t index);

/* Entries below index are no longer asked for. */
void journal_terms_trim(struct journal_terms *self, uint64_t index);

void journal_terms_clear(struct journal_terms *self);

#endif
