/*
 * Looks through the data directory of a node that does not run, and says what is wrong: which file,
 * where in it, what is affected, and what becomes of it.
 *
 * Everything is read, and nothing is changed. What the node would find at its next start is judged
 * as the node judges it (raft_fsm/raft_disk.h, raft_fsm/journal_recovery.h); what it would find
 * later, when it reads or scrubs, is looked for as well: each batch's checksums, the chain of
 * digests, the order of stamps, where the entries of indexes point, what the snapshot promises, and
 * whether what lies above it is what the journal's entries say. So are the indexes of lookups: each
 * file, and whether it is of the log that is there.
 *
 * How bad a finding is:
 *
 *      NOTE      nothing is wrong, but it is not the ordinary: a hole that will be filled, a write
 *                that a crash cut off, a file that is not ours
 *      REPAIRED  wrong, and the node mends it by itself: from its journal, from its stores, or from
 *                other nodes
 *      ACT       wrong, and somebody has to do something: `advice` says what
 */
#ifndef QUORLOG_ARCHIVE_FSCK_H
#define QUORLOG_ARCHIVE_FSCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"

enum fsck_level { FSCK_NOTE, FSCK_REPAIRED, FSCK_ACT };

/* "note", "repaired", "act". */
const char *fsck_level_name(enum fsck_level level);

struct fsck_finding {
    enum fsck_level level;
    const char *what; /* damaged, missing, mismatch, stale, torn, hole, leftover, unknown */
    const char *path; /* of the file, or the directory */
    bool has_position;
    uint64_t position;
    const char *topic; /* NULL: none */
    bool has_range;    /* of the topic's offsets: [from, to) are affected */
    uint64_t from;
    uint64_t to;
    const char *text;
    const char *advice; /* what becomes of it, or what to do */
};

/* Not OK ends the check, and is what it returns. */
typedef enum err (*fsck_cb)(void *arg, const struct fsck_finding *finding);
/* `bytes` more were read, of `path`. */
typedef void (*fsck_progress_cb)(void *arg, const char *path, uint64_t bytes);

struct fsck_options {
    struct io *io; /* borrowed */
    const char *dir;
    fsck_cb cb;
    fsck_progress_cb progress; /* may be NULL */
    void *arg;
};

struct fsck_summary {
    uint64_t node_id; /* 0: not known */
    uint64_t counts[FSCK_ACT + 1];
    uint64_t topics;
    uint64_t files;
    uint64_t index_files; /* of them, of the indexes of lookups (lookup/part.h) */
    uint64_t bytes;
    uint64_t batches;
    uint64_t records;
    uint64_t holes;
    uint64_t missing; /* offsets in them */
};

/* ERR_LOCKED: a node runs there. ERR_NOT_FOUND: not a node's directory. ERR_IO, ERR_NOMEM. What is
 * wrong in the directory is no error. */
enum err fsck_run(const struct fsck_options *options, struct fsck_summary *ret_summary,
                  struct err_info *info);

#endif
