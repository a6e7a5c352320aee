/*
 * Looking closely into a log, for a thread of the pool: a batch's header, whether a range of
 * batches verifies, or the links of the digest chain over a range (raft_fsm/chain.h).
 */
#ifndef QUORLOG_SERVER_INSPECT_H
#define QUORLOG_SERVER_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "log/log.h"
#include "raft_fsm/chain.h"

enum inspect_kind {
    INSPECT_HEADER, /* of the batch that holds offset */
    INSPECT_CHECK,  /* the same, and all batches from it on are read and verified */
    INSPECT_LINKS,  /* the links of the batches from it on */
};

enum {
    INSPECT_SIZE_DEFAULT = 4 << 20,
    INSPECT_SIZE_MAX = 16 << 20, /* unless a single batch is larger */
    INSPECT_LINKS_MAX = 16384,   /* in one answer */
};

struct inspect {
    struct log *log; /* borrowed: its topic is referenced by whoever owns this */
    enum inspect_kind kind;
    uint64_t offset; /* HEADER: UINT64_MAX is the last batch */
    uint64_t end;    /* CHECK, LINKS: no batch at or above it */
    size_t size_max; /* CHECK, LINKS: bytes of batches to read; at least one batch */
    /* Outcome. */
    enum err err; /* RANGE, CORRUPT, IO, NOMEM …; CHECK: damage is no error */
    struct err_info info;
    bool has_header; /* false: the log has no batch, or (CHECK) it cannot be read */
    struct batch_header header;
    uint64_t next;         /* CHECK, LINKS: where to go on; with damage: where it is */
    uint64_t size;         /* CHECK: bytes that were read and verified */
    enum err damage;       /* CHECK: CORRUPT, IO, HOLE at `next`; OK: none */
    bool has_previous;     /* LINKS */
    struct chain previous; /* LINKS: the chain before the first link */
    struct block *links;   /* LINKS: owned; NULL: there is no batch from offset on */
};

/* Blocks. */
void inspect_run(struct inspect *self);

/* Frees what is left of the outcome. */
void inspect_fini(struct inspect *self);

#endif
