/*
 * The catalog: the topics of a group, their logs and their consumers' cursors, as all threads see
 * them.
 *
 * The raft thread writes it (through the state machine); front threads look topics up and read
 * their logs. A lock guards the tables; a topic, once found, is used outside of it, kept alive by
 * its reference count, even after it is deleted.
 */
#ifndef QUORLOG_RAFT_FSM_CATALOG_H
#define QUORLOG_RAFT_FSM_CATALOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/log.h"
#include "raft_fsm/command.h"
#include "raft_fsm/cursors.h"
#include "raft_fsm/digest.h"
#include "raft_fsm/topic_settings.h"

/* Which bound of the settings is passed, or will be. The numbers are those of the protocol. */
enum retention_bound {
    RETENTION_NONE = 0,
    RETENTION_AGE = 1,
    RETENTION_BYTES = 2,
    RETENTION_RECORDS = 3,
};

/* What retention deletes next: the offsets [from, to), … */
struct topic_forecast {
    enum retention_bound bound;
    uint64_t from;
    uint64_t to;
    uint64_t in_ms; /* RETENTION_AGE: … after so long at least, of the cluster's being up; 0: now */
    uint64_t room; /* else: … after so many more records or bytes; 0: now */
};

/* Starts whose files may still be there (fsm_trim.c). */
struct topic_start {
    uint64_t index; /* of the entry, or the manifest, that moved it; 0: none */
    uint64_t start;
};

struct topic_passed {
    struct topic_start oldest; /* of those that no snapshot has, … */
    struct topic_start newest; /* … equal when there is one only */
    uint64_t durable_start;    /* what the newest snapshot promises */
    bool listed;               /* in the state machine's list */
    struct topic *next;
};

/*
 * Compaction of a topic, as entries decided it (COMPACT): every node may drop, when it gets to it,
 * of the records below clean_to those of whose key there is a later one below clean_to, and
 * tombstones below tombstones_below. So a record that is superseded may be shown by one node and
 * not by another; the latest one of its key is there on every node. Both only go up.
 *
 * A tombstone may go only when no copy has an older record of its key any more: else a node that
 * dropped it could be given the older one, when it is filled up by another. So the leader raises
 * tombstones_below as far as every member has said, for a while, to have cleaned
 * (replica_compact_lead.c).
 */
struct topic_clean {
    uint64_t clean_to;
    uint64_t tombstones_below; /* <= clean_to */
};

/* How far this node's cleaner came with its copy, beside cleaned_to (fsm_compact.c). */
struct topic_cleaned {
    uint64_t tombstones_below; /* They are gone below it, durably. */
    unsigned changes;       /* of the log behind the cleaner's back: a hole came, or was filled */
    unsigned failures;      /* passes in a row that came to nothing, and … */
    uint64_t rest_until_ms; /* … when the next one may begin */
};

/* What comes next in the compaction of a topic. The numbers are those of the protocol. */
enum compaction_next {
    COMPACTION_NOTHING = 0,    /* All is clean. */
    COMPACTION_CLEANING = 1,   /* This node's copy is being cleaned, up to clean_to. */
    COMPACTION_DIRTY = 2,      /* [clean_to, to) is, when that is half of the bytes, or in in_ms. */
    COMPACTION_SEALED = 3,     /* All that is dirty is in a file that still takes batches. */
    COMPACTION_TOMBSTONES = 4, /* Tombstones, when they are old enough, and all copies clean. */
};

/* A topic's compaction, as its node saw it some moments ago. */
struct topic_compaction {
    struct topic_clean clean;
    uint64_t dirty_records; /* offsets at or above clean_to */
    uint64_t dirty_bytes;   /* … of the node's files */
    enum compaction_next next;
    uint64_t to;    /* DIRTY: what clean_to becomes, … */
    uint64_t in_ms; /* … at the latest */
};

struct topic {
    atomic_uint refs;
    uint64_t id;
    char name[TOPIC_NAME_SIZE_MAX + 1];
    int64_t created_time_us;
    struct log *log;     /* owned; closed with the last reference */
    atomic_bool deleted; /* no longer in the catalog; its files go after the next snapshot */
    pthread_mutex_t settings_lock;      /* Guards settings; the raft thread alone writes. */
    struct topic_settings settings;     /* see topic_settings_get */
    struct topic_forecast forecast;     /* Guarded by settings_lock, too; of some moments ago. */
    struct topic_compaction compaction; /* as above */
    _Atomic uint64_t visible_start;     /* log_start, for other threads: see topic_start */
    _Atomic uint64_t cleaned_to; /* This node's copy has nothing superseded below it, durably. */
    /* Of the raft thread only: */
    uint64_t start; /* as the state machine knows them: decided by entries alone */
    uint64_t end;
    uint64_t log_start; /* >= start: the first record that is shown, in the batch at start */
    uint8_t start_digest[DIGEST_SIZE]; /* of the batch before start; zeros at 0 */
    uint8_t digest[DIGEST_SIZE];       /* of the last batch below end */
    struct topic_clean clean;
    struct compact_watch *watch; /* owned; NULL until the topic is watched */
    struct topic_cleaned cleaned;
    /* What its log lacks, as fsm_fill.c counted it last, … */
    unsigned holes;
    uint64_t missing; /* offsets */
    /* … and the range that was put in and has not met what is above it; empty when equal. */
    uint64_t filled_from;
    uint64_t filled_to;
    unsigned refused; /* chunks that did not follow, since one did */
    struct topic_passed passed;
    /* Whether its files are looked after from time to time, and when they are synced next. */
    bool kept;
    struct topic *kept_prev;
    struct topic *kept_next;
    uint64_t flush_at_ms;
};

struct catalog;

/* At most topics_max topics. ERR_NOMEM. */
enum err catalog_new(unsigned topics_max, struct catalog **ret_catalog);
/* NULL is fine. Drops the catalog's references; topics that others still refer to stay theirs. */
void catalog_free(struct catalog *self);

/* (any thread) A topic with a new reference; NULL when there is none. */
struct topic *catalog_find(struct catalog *self, const char *name);
struct topic *catalog_find_id(struct catalog *self, uint64_t id);

/* (any thread) All topics in order of name, each with a new reference; *ret_topics is the caller's
 * to free(). */
enum err catalog_list(struct catalog *self, struct topic ***ret_topics, size_t *ret_count);
size_t catalog_count(struct catalog *self);

/* (any thread) The cursors; borrowed. They are changed by the state machine alone. */
struct cursors *catalog_cursors(struct catalog *self);

void topic_ref(struct topic *topic);
void topic_unref(struct topic *topic); /* NULL is fine */

/* (raft thread) Adds a topic with a reference of its own; takes over log on success. ERR_EXISTS,
 * ERR_LIMIT, ERR_NOMEM. *ret_topic is borrowed while it is in the catalog. */
enum err catalog_add(struct catalog *self, uint64_t id, const char *name, struct log *log,
                     int64_t created_time_us, struct topic **ret_topic);

/* (any thread) The settings as they are now. */
void topic_settings_get(struct topic *topic, struct topic_settings *ret_settings);

/* (raft thread) Checked. It reads topic->settings without a lock. */
void topic_settings_set(struct topic *topic, const struct topic_settings *settings);

/* (any thread) / (raft thread) */
void topic_forecast_get(struct topic *topic, struct topic_forecast *ret_forecast);
void topic_forecast_set(struct topic *topic, const struct topic_forecast *forecast);

/* (any thread) / (raft thread) */
void topic_compaction_get(struct topic *topic, struct topic_compaction *ret_compaction);
void topic_compaction_set(struct topic *topic, const struct topic_compaction *compaction);

/* (any thread) The first record that is shown: what lies below it was trimmed. It only goes up. */
static inline uint64_t topic_start(const struct topic *topic)
{
    return atomic_load_explicit(&topic->visible_start, memory_order_acquire);
}

/* (raft thread) Takes the topic out, marks it deleted and drops the catalog's reference. */
void catalog_remove(struct catalog *self, struct topic *topic);

/* (raft thread) Borrowed while it is in the catalog: no reference counting on the hot path. */
struct topic *catalog_peek_id(struct catalog *self, uint64_t id);
struct topic *catalog_peek(struct catalog *self, const char *name);

#endif
