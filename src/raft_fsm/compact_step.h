/*
 * One step of compacting a group of segments, or of noting the keys for it: what the cleaner
 * (replica_compact.c) has done on another thread. Nothing here knows of the replica; a step's
 * objects are used by one thread at a time.
 *
 * Invariants:
 *   I1  A step that returns an error has changed nothing but objects that are given up then.
 */
#ifndef QUORLOG_RAFT_FSM_COMPACT_STEP_H
#define QUORLOG_RAFT_FSM_COMPACT_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/log.h"
#include "raft_fsm/digest.h"
#include "record/compactor.h"

/* The beginning of a group is not known yet. */
#define COMPACT_FIRST_UNKNOWN UINT64_MAX

struct compact_step {
    struct log *log;             /* borrowed */
    struct latest *latest;       /* borrowed */
    struct compactor *compactor; /* of the group; NULL: it is made; owned by the caller */
    struct log_rewrite *rewrite; /* of the group, when it is written; borrowed */
    struct compactor_options options;
    uint64_t start; /* of the topic, and the digest of the batch before it */
    uint8_t start_digest[DIGEST_SIZE];
    size_t chunk_size; /* bytes read at a time; a batch at least */
    uint64_t offset;   /* in: where to read; out: where to go on */
    uint64_t to;    /* The group ends there; out, of notes: they end at `offset` when that is it. */
    uint64_t first; /* of the group's first batch that is shown; out, of looking */
    /* out: */
    uint64_t at;    /* what was read began there */
    uint64_t bytes; /* read, and written */
    bool full;      /* noting: the memory is used up */
    bool changes;   /* looking: something would go */
    bool writing;   /* an error is of the file that is written */
};

/* Notes the keys of a chunk. What log_read and compactor_note return; ERR_LIMIT is `full`. */
enum err compact_note(struct compact_step *self, struct err_info *info);

/* Looks what would become of a chunk. What log_read and compactor_take return; ERR_HOLE: what the
 * group follows on is not known. */
enum err compact_look(struct compact_step *self, struct err_info *info);

/* Writes what becomes of a chunk; what lies below `first` stays as it is. As compact_look, and what
 * log_rewrite_put returns. */
enum err compact_write(struct compact_step *self, struct err_info *info);

#endif
