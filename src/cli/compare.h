/*
 * The copies of one topic, on all nodes, compared: where they first differ, and in what.
 *
 * Equal digests at an offset mean the same history up to there, so that the first difference is
 * found by a binary search over headers, however long the log (common_ends.h). Copies that were
 * compacted at different times are not different. A copy that ends earlier, or that lacks a
 * range, is behind or incomplete, which is no difference.
 */
#ifndef QUORLOG_CLI_COMPARE_H
#define QUORLOG_CLI_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/fleet.h"
#include "cli/progress.h"
#include "log/batch.h"

enum copy_state {
    COPY_READ,       /* compared */
    COPY_BEHIND,     /* the topic is not there yet */
    COPY_INCOMPLETE, /* lacks a range, which it will fetch */
    COPY_MISSING,    /* the topic should be there */
    COPY_OTHER,      /* another topic of this name */
    COPY_DAMAGED,    /* bytes that do not verify */
    COPY_LOST,       /* the node cannot be asked */
};

struct copy {
    enum copy_state state;
    uint64_t topic_id;
    uint64_t start;
    uint64_t end;
    uint64_t applied;
    uint64_t at; /* INCOMPLETE, DAMAGED: the offset */
    char text[512];
    bool has_header; /* of the batch that was asked for last */
    struct batch_header header;
    unsigned group; /* with a difference: copies of equal groups agree */
};

struct comparison {
    struct fleet *fleet; /* borrowed */
    const char *topic;   /* borrowed */
    struct copy copies[FLEET_MAX];
    bool unknown;    /* No node has the topic; nothing else is set. */
    uint64_t low;    /* Compared are the offsets in [low, common) … */
    uint64_t common; /* … which all copies that can be read have. */
    uint64_t agreed; /* Without a difference: up to here they are the same; `common`, unless a batch
                        that some copy was compacted into lies across it. */
    uint8_t digest[BATCH_DIGEST_SIZE]; /* there */
    bool different;                    /* the headers differ, from `offset` on */
    uint64_t offset;
    unsigned group_count;
};

/* Compares the topic's copies. */
void compare_topic(struct fleet *fleet, const char *topic, struct comparison *ret_comparison);

/* Has every node read and verify its copy of what was compared. */
void compare_deep(struct comparison *self, struct progress *progress);

/* Whether anything is wrong: a difference, damage, a topic that is missing. */
bool compare_is_bad(const struct comparison *self);

#endif
