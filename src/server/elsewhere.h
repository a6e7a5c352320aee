/*
 * A read that this node cannot answer, put to others: records that its disk lacks or has damaged
 * are on theirs.
 *
 *      ask ──► one member after the other, beginning behind this node ──► answered
 *                 │  cannot be reached, says nothing, has it not either       with the batches
 *                 └── all were asked ──────────────────────────────────────► nobody
 *
 * What is asked is an ordinary CONSUME, on a connection between nodes: such a one is never put to
 * others in turn.
 */
#ifndef QUORLOG_SERVER_ELSEWHERE_H
#define QUORLOG_SERVER_ELSEWHERE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/block.h"
#include "raft_fsm/membership.h"
#include "server/deadline.h"
#include "server/remote.h"
#include "server/seek.h"

struct front;
struct reading_filter;

struct elsewhere_query {
    const char *topic; /* borrowed until the end */
    uint64_t topic_id;
    bool by_time; /* the offset of the first batch of a time, no batches */
    int64_t time_us;
    uint64_t offset;
    uint64_t end; /* What this node shows ends here: others may be ahead of it, and what it answers
                     must not be. */
    uint64_t records_max;                /* UINT64_MAX: no bound */
    const struct reading_filter *filter; /* borrowed until the end; NULL: all records */
    uint32_t bytes_max;
};

struct elsewhere {
    struct front *front; /* NULL: nothing is asked */
    struct elsewhere_query query;
    struct passed passed;
    struct deadline deadline; /* for the member that is asked now */
    uint64_t to;              /* that member */
    bool sent;
    uint64_t asked[MEMBERSHIP_MAX];
    unsigned asked_count;
    struct seek_counts counts; /* answered, with a filter */
    struct elsewhere *prev;
    struct elsewhere *next;
    /* Set by the owner. One of the two is called, once, unless canceled before. batches: whole
     * ones, headers verified, from the one that holds offset on up to `next`; borrowed until
     * return; empty for by_time, where next is what was asked for. With a filter there may be gaps
     * between them, and none at all. */
    void (*answered)(struct elsewhere *self, const struct slice *batches, uint64_t next);
    void (*nobody)(struct elsewhere *self);
};

struct elsewheres {
    struct elsewhere *list;
};

/* False when there is nobody to be asked; else one of the two is called, later. */
bool elsewhere_ask(struct elsewhere *self, struct front *front,
                   const struct elsewhere_query *query);

/* One that is over is fine. */
void elsewhere_cancel(struct elsewhere *self);

/* Of whole batches up to *next, those below `end`. One that lies across it, as nodes have that
 * compacted at another time, is cut there: then *batches is in *ret_cut, owned by the caller; NULL
 * otherwise. ERR_CORRUPT, ERR_NOMEM, ERR_TOO_LARGE. */
enum err elsewhere_cut(uint64_t end, struct slice *batches, uint64_t *next, struct block **ret_cut);

/* A link came up, or has room. */
void elsewheres_retry(struct front *front);

#endif
