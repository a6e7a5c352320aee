/*
 * Reading a journal at start: what is there, where it continues, and whether it is whole.
 *
 * A batch is expected at the end of the last one, or, when the segment had no room for it, at the
 * beginning of the next segment. The first place where it does not verify is the end; it is a torn
 * last write, or never was written, iff no batch that verifies stands behind it in its segment or
 * in a later one.
 *
 * Invariants:
 *   R1  Every segment but the newest holds a whole batch: a segment is made for a batch, and if
 *       that was torn the segment is removed before anything else is written.
 *   R2  Behind the last batch nothing is ever written after a restart: the segment is cut there,
 *       durably, and the journal continues in a new one. So what a torn write left is gone before
 *       the next write begins, and can never stand behind or between valid batches later.
 *   R3  What recovery returns is durable: a process that died may have left it in the page cache.
 */
#ifndef QUORLOG_RAFT_FSM_JOURNAL_RECOVERY_H
#define QUORLOG_RAFT_FSM_JOURNAL_RECOVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/journal_files.h"
#include "raft_fsm/journal_segment.h"

struct journal_segment {
    uint64_t sequence;
    uint64_t size;      /* bytes of the file */
    uint64_t index_max; /* highest index in it since the last reset; 0: none */
};

struct journal_recovery {
    struct journal_segment *segments; /* owned; oldest first */
    size_t segment_count;
    size_t segment_capacity;
    uint64_t *spares; /* owned; numbers */
    size_t spare_count;
    size_t spare_capacity;
    struct entry *entries; /* owned array of owned entries */
    size_t entry_count;
    size_t entry_capacity;
    uint64_t first_index;    /* of entries[0], or where the log continues; 0: no batch yet */
    uint64_t batch_sequence; /* the next one; 0: not known yet */
    bool sealed;             /* the last batch is a seal, or there is none */
    bool torn;
    bool looking;                     /* changes nothing */
    char end_name[JOURNAL_NAME_SIZE]; /* segment where the batches end */
    uint64_t end_position;
};

/* Reads all, adds the spares to files, cuts. The caller calls fini, also after an error.
 * ERR_CORRUPT (naming file and position), ERR_VERSION, ERR_WRONG_CLUSTER, ERR_IO, ERR_NOMEM. */
enum err journal_recovery_run(struct journal_recovery *self, struct journal_files *files,
                              struct err_info *info);

/* The same of a journal that is left as it is: nothing is cut, synced or written again, and there
 * are no spares. */
enum err journal_recovery_look(struct journal_recovery *self, struct io *io, const char *dir,
                               uint64_t node_id, struct err_info *info);
void journal_recovery_fini(struct journal_recovery *self);

#endif
