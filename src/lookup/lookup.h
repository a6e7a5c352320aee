/*
 * Lookups: the indexes of a node's topics beside the sparse one of offsets, and the one question
 * that readers ask of them: where to look next.
 *
 *      <dir>/indexes/<topic's name>-<id>/   a directory a topic that has any: all of it derived
 *          <base>-<end>.timeindex      when its batches were appended      time_part.h
 *          <base>-<end>.bloom          which keys a sealed segment lacks   bloom_part.h
 *          <base>-<end>.keys           key → offsets, newest first (LMDB)  key_run.h
 *
 * One thread of its own follows the topics through the read side of their logs, makes the files
 * that the topics' settings ask for on this node, removes those that they do not, checks them from
 * time to time, and makes again what is damaged or missing. What comes in order is kept in memory
 * first: times of a segment, and up to LOOKUP_TABLE_MAX keys; after a crash that is read from the
 * log again. Files of keys are merged, eight neighbours to one, so that a topic of n records has
 * O(log n).
 *
 *      log    start ──[ 0 … 999 ][ 1000 … 1999 ][ 2000 … ]─► end
 *      time          [ file     ][ file        ][ memory ]
 *      keys          [ file                 ][ memory  ]  not indexed yet: is looked at
 *      bloom         [ file     ][ file        ]          active: is looked at
 *
 * Invariants:
 *   I1  An answer never passes over a record that matches, whatever is built, trimmed, deleted, or
 *       damaged meanwhile; records that do not match may be among what it names.
 *   I2  Nothing of the logs' directories is touched. What a file holds is believed after its
 *       checksum.
 *   I3  A failing disk stops the building of indexes, with a reason, to be tried again later: never
 *       reads, and never the node.
 */
#ifndef QUORLOG_LOOKUP_LOOKUP_H
#define QUORLOG_LOOKUP_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/group.h"
#include "raft_fsm/topic_settings.h"

/* In a node's data. */
#define LOOKUP_DIR_NAME "indexes"

enum {
    LOOKUP_INDEXES_MAX = 3,   /* kinds of them */
    LOOKUP_OFFSETS_MAX = 128, /* in one answer */
    LOOKUP_TABLE_MAX = 65536, /* keys in memory, a topic */
};

struct lookup;

struct lookup_options {
    struct io *io;             /* borrowed, as the next three */
    const struct clock *clock; /* NULL: the real one */
    const struct diag *diag;
    struct catalog *catalog;
    const char *dir;  /* in, copied: the node's data; exists */
    uint64_t node_id; /* whose settings count */
    /* Until it says so, nothing is made, and nothing removed: a node that was started knows its
     * topics, their settings and ends only when it has applied its journal. Called on the lookups'
     * thread. NULL: it has. */
    bool (*settled)(void *arg);
    void *arg;
    uint64_t build_rate;  /* bytes of log read a second, to build and to check; 0: no bound */
    uint64_t check_ms;    /* how often a file is checked; 0: a day */
    unsigned interval_ms; /* how long it may sleep though nobody wakes it; 0: a second */
    unsigned table_max;   /* keys in memory; 0: LOOKUP_TABLE_MAX */
    size_t memory;        /* bytes that keys and hashes in memory take, of all topics: topics get
                             equal shares, down to a few KiB; 0: whatever the bounds of one give */
    uint64_t part_max;    /* bytes of log that a file of keys begins with; 0: 64 MiB */
};

/* Starts the thread. Nothing is read from the disk before it returns. ERR_NOMEM. */
enum err lookup_start(const struct lookup_options *options, struct lookup **ret_lookup,
                      struct err_info *info);

/* Writes what is in memory, as long as that is quick, and ends the thread. No other thread asks any
 * more. NULL is fine. */
void lookup_stop(struct lookup *self);

/* (any thread) Something was published, or settings changed. Quick. */
void lookup_wake(struct lookup *self);

/* ---- the question ---- */

struct lookup_query {
    const void *key; /* NULL: any */
    size_t key_size;
    int64_t since_us;  /* appended at this time or later; 0: no such bound */
    int64_t until_us;  /* appended before this one; 0: no such bound */
    bool newest_first; /* from the range's end on downwards */
};

/*
 * What is known of the range that was asked about. Without newest_first: nothing matches from its
 * beginning up to `from`; what does in [from, to) is found by looking, or at `offsets` alone, in
 * order; from `to` on ask again. With newest_first the other way round: nothing matches in [to, its
 * end), and below `from` ask again. from == to: nothing to be looked at. Something was answered:
 * to, or from, is never where the question began.
 */
struct lookup_answer {
    uint64_t from;
    uint64_t to;
    bool exact;   /* only at offsets */
    size_t count; /* offsets */
    uint64_t offsets[LOOKUP_OFFSETS_MAX];
};

/* (any thread) About offsets [from, to) of the topic's log; from < to. May read a few pages of
 * index from the disk; never waits for the building of one. */
void lookup_next(struct lookup *self, struct topic *topic, const struct lookup_query *query,
                 uint64_t from, uint64_t to, struct lookup_answer *ret_answer);

/* ---- for people ---- */

enum lookup_state {
    LOOKUP_BUILDING,
    LOOKUP_READY, /* all that can be is indexed, or was a moment ago */
    LOOKUP_DROPPING,
    LOOKUP_FAILED, /* reason; tried again after a while */
};

struct lookup_status {
    uint32_t index; /* one bit of topic_settings.h */
    enum lookup_state state;
    uint64_t indexed_to; /* what is below is indexed, where it is on this disk */
    uint64_t end;        /* the log's */
    uint64_t left;       /* offsets that wait */
    uint64_t left_ms;    /* how long that will take; UINT64_MAX: not known */
    uint64_t size;       /* bytes on the disk */
    unsigned files;
    char reason[200]; /* FAILED */
};

/* "time", "key=btree", "key=bloom": as they are asked for; index: one bit. */
const char *lookup_index_name(uint32_t index);

/* "building" … */
const char *lookup_state_name(enum lookup_state state);

/* (any thread) Of each index that the topic has here, or still has; how many there are. */
size_t lookup_status(struct lookup *self, struct topic *topic,
                     struct lookup_status ret_status[LOOKUP_INDEXES_MAX]);

/* What was done since the start; any thread. */
struct lookup_stats {
    uint64_t questions;
    uint64_t files_read;  /* opened or looked into, to answer */
    uint64_t pages_read;  /* of them: 4 KiB, or a whole time index */
    uint64_t parts_seen;  /* files considered, most of them in memory */
    uint64_t damaged;     /* files found to be */
    uint64_t bytes_built; /* of log read to build */
    uint64_t files_written;
};
void lookup_stats(struct lookup *self, struct lookup_stats *ret_stats);

#endif
