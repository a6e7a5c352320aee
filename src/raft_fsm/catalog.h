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

struct topic {
    atomic_uint refs;
    uint64_t id;
    char name[TOPIC_NAME_SIZE_MAX + 1];
    int64_t created_time_us;
    struct log *log;     /* owned; closed with the last reference */
    atomic_bool deleted; /* no longer in the catalog; its files go after the next snapshot */
    pthread_mutex_t settings_lock;  /* Guards settings; the raft thread alone writes. */
    struct topic_settings settings; /* see topic_settings_get */
    /* Of the raft thread only: */
    uint64_t start; /* as the state machine knows them: decided by entries alone */
    uint64_t end;
    uint8_t digest[DIGEST_SIZE]; /* of the last batch below end */
    /* What its log lacks, as fsm_fill.c counted it last, … */
    unsigned holes;
    uint64_t missing; /* offsets */
    /* … and the range that was put in and has not met what is above it; empty when equal. */
    uint64_t filled_from;
    uint64_t filled_to;
    unsigned refused; /* chunks that did not follow, since one did */
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

/* (raft thread) Takes the topic out, marks it deleted and drops the catalog's reference. */
void catalog_remove(struct catalog *self, struct topic *topic);

/* (raft thread) Borrowed while it is in the catalog: no reference counting on the hot path. */
struct topic *catalog_peek_id(struct catalog *self, uint64_t id);
struct topic *catalog_peek(struct catalog *self, const char *name);

#endif
