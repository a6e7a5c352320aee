/*
 * What can be set for a topic and changed while it is in use. Replicated: all nodes have the same
 * settings of a topic, each applies them to its own copy.
 *
 * Zero is every setting's default, so that what an older program wrote means the same to a newer
 * one.
 *
 * What is allowed is decided while entries are applied, too, and so has to be the same in every
 * version of the program that a cluster may run: a bound here is a part of the format.
 */
#ifndef QUORLOG_RAFT_FSM_TOPIC_SETTINGS_H
#define QUORLOG_RAFT_FSM_TOPIC_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Indexes beside the sparse one of offsets, which is always there: bits. */
enum topic_index {
    TOPIC_INDEX_TIME = 1 << 0,  /* "time": first record at or after a time */
    TOPIC_INDEX_BTREE = 1 << 1, /* "btree": offsets of a key's records, newest first */
    TOPIC_INDEX_BLOOM = 1 << 2, /* "bloom": segments that cannot hold a key */
    TOPIC_INDEXES_KNOWN = TOPIC_INDEX_TIME | TOPIC_INDEX_BTREE | TOPIC_INDEX_BLOOM,
};

enum {
    TOPIC_INDEX_NODES_MAX = 16, /* nodes with a set of indexes of their own, a topic */
    TOPIC_TOMBSTONE_MS = 24 * 60 * 60 * 1000,
};

/* Bounds of what is not at its default. */
#define TOPIC_MS_MAX (UINT64_C(100) * 365 * 24 * 60 * 60 * 1000)
#define TOPIC_SIZE_MAX ((uint64_t)INT64_MAX) /* bytes, records */
#define TOPIC_SEGMENT_BYTES_MIN (UINT64_C(4) * 1024)
#define TOPIC_SEGMENT_BYTES_MAX (UINT64_C(2) * 1024 * 1024 * 1024)
#define TOPIC_SEGMENT_MS_MIN UINT64_C(1000)
#define TOPIC_FLUSH_MS_MIN UINT64_C(10)

/* Which settings are meant, where not all are: bits. */
enum topic_setting {
    TOPIC_SETTING_RETENTION_MS = 1 << 0,
    TOPIC_SETTING_RETENTION_BYTES = 1 << 1,
    TOPIC_SETTING_RETENTION_RECORDS = 1 << 2,
    TOPIC_SETTING_COMPACT = 1 << 3,
    TOPIC_SETTING_TOMBSTONE_MS = 1 << 4,
    TOPIC_SETTING_COMPRESSION = 1 << 5,
    TOPIC_SETTING_INDEXES = 1 << 6,
    TOPIC_SETTING_SEGMENT_BYTES = 1 << 7,
    TOPIC_SETTING_SEGMENT_MS = 1 << 8,
    TOPIC_SETTING_FLUSH_MS = 1 << 9,
    TOPIC_SETTING_PREALLOCATE = 1 << 10,
    TOPIC_SETTINGS_KNOWN = (1 << 11) - 1,
};

/* One node's own set of indexes, in place of the topic's. */
struct topic_node_indexes {
    uint64_t node_id;
    uint32_t indexes; /* bits */
};

struct topic_settings {
    /* Retention: the oldest records go when any of these bounds is passed; 0: no such bound. */
    uint64_t retention_ms;      /* since they were written, counted while the cluster was up */
    uint64_t retention_bytes;   /* of batches as they are stored */
    uint64_t retention_records; /* exactly so many stay */

    /* Compaction: of records with equal keys the last one stays. Not together with a bound of
     * retention. */
    bool compact;
    uint64_t tombstone_ms; /* a record without value is kept so long; 0: TOPIC_TOMBSTONE_MS */

    /* How records are stored when the producer does not say: enum codec (record/codec.h). */
    uint32_t compression;

    uint32_t indexes; /* bits; of nodes that have no set of their own */
    size_t node_index_count;
    struct topic_node_indexes node_indexes[TOPIC_INDEX_NODES_MAX]; /* by node_id, ascending */

    /* The files. */
    uint64_t segment_bytes; /* [4 KiB, 2 GiB]; 0: as the node is configured (64 MiB) */
    uint64_t segment_ms;    /* a segment takes batches for so long; 0: no such bound */
    uint64_t flush_ms; /* what waits for a snapshot is synced after so long; 0: with snapshots */
    bool preallocate;  /* a segment's space is reserved when it is begun */
};

/* A change of some settings. */
struct topic_change {
    uint32_t which;           /* bits of enum topic_setting; the others stay what they are */
    struct topic_settings to; /* without sets of single nodes */
    /* With TOPIC_SETTING_INDEXES: of these nodes, in place of the topic's own set; which stays. */
    size_t on_count; /* 0: it is the topic's set that changes */
    uint64_t on_nodes[TOPIC_INDEX_NODES_MAX];
    bool on_default; /* They keep the topic's set again; to.indexes is 0. */
};

/* ERR_INVALID: a value out of range, a bit that is not known, settings that contradict each other;
 * the text says what is allowed. */
enum err topic_settings_check(const struct topic_settings *self, struct err_info *info);

/* Whether a change could be made of some settings: it changes something, what it sets is allowed,
 * no node is named twice. ERR_INVALID with text. */
enum err topic_change_check(const struct topic_change *self, struct err_info *info);

/* The settings after a change; they may be the same ones. ERR_INVALID, with text: what
 * topic_change_check says, or the result would have more nodes' sets than there may be, or settings
 * that contradict each other. Nothing is written then. */
enum err topic_settings_change(const struct topic_settings *self, const struct topic_change *change,
                               struct topic_settings *ret_settings, struct err_info *info);

bool topic_settings_equal(const struct topic_settings *self, const struct topic_settings *other);

/* The indexes that a node keeps. */
uint32_t topic_settings_indexes_of(const struct topic_settings *self, uint64_t node_id);

#endif
