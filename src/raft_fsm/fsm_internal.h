/*
 * What the files of the state machine share.
 *
 *      fsm.c           open, manifest, forget
 *      fsm_apply.c     entries
 *      fsm_sync.c      making the logs durable
 *      fsm_install.c   another replica's manifest
 */
#ifndef QUORLOG_RAFT_FSM_FSM_INTERNAL_H
#define QUORLOG_RAFT_FSM_FSM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/fsm.h"

/* A topic that is no longer in the catalog, but whose files a snapshot may still promise. */
struct deleted_topic {
    struct topic *topic; /* owned reference; NULL: it was staged only */
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t id;
    uint64_t index; /* of the entry or manifest that deleted it */
    struct deleted_topic *next;
};

/* The log of a topic that a manifest has and the state has not yet. Outlives a plan given up. */
struct staged_topic {
    uint64_t id;
    char name[TOPIC_NAME_SIZE_MAX + 1];
    struct log *log; /* owned */
    struct staged_topic *next;
};

/* A topic of the manifest that is being installed. */
struct install_topic {
    const struct manifest_topic *promised; /* borrowed from the plan's manifest */
    struct topic *topic;                   /* borrowed from the catalog; NULL: staged */
    struct log *log;                       /* borrowed from topic or the staged one */
    uint8_t digest[DIGEST_SIZE];           /* of the last batch in log */
    bool digest_known;                     /* false: the log begins at an offset above 0 */
};

struct install {
    struct manifest manifest;     /* owned */
    struct install_topic *topics; /* owned; one for each of the manifest's, in its order */
};

struct fsm {
    struct io *io;
    char *dir; /* owned */
    const struct diag *diag;
    uint64_t segment_size_max;
    uint32_t index_interval;
    uint32_t write_back_size;
    struct catalog *catalog;
    struct producers *producers;
    struct nodes nodes;
    uint64_t applied_index;
    int64_t time_us;
    uint64_t records_applied;
    struct deleted_topic *deleted; /* owned list */
    struct staged_topic *staged;   /* owned list */
    struct install *install;       /* owned; NULL: no plan */
    bool failed;                   /* F5 */
    bool syncing;
    uint64_t dir_changes; /* Topic directories made so far … */
    uint64_t dir_synced;  /* … and how many of them are on the disk for sure. */
};

/* Moves to the failed state and returns err. (F5) */
enum err fsm_fail(struct fsm *self, enum err err);

/* "<name>-<id>" */
enum { FSM_DIR_NAME_SIZE = TOPIC_NAME_SIZE_MAX + 32 };
void fsm_dir_name(char buffer[FSM_DIR_NAME_SIZE], const char *name, uint64_t id);

/* Opens the log of a topic that holds [start, durable_end) at least. */
enum err fsm_open_log(struct fsm *self, const struct manifest_topic *topic, struct log **ret_log,
                      struct err_info *info);

/* Makes the directory of a new topic, if need be, and opens the log in it. */
enum err fsm_make_log(struct fsm *self, const struct manifest_topic *topic, struct log **ret_log,
                      struct err_info *info);

/* Takes the topic out of the catalog and out of the producer table; its files stay until
 * fsm_forget. ERR_NOMEM. */
enum err fsm_drop_topic(struct fsm *self, struct topic *topic, uint64_t index);

/* The same for a staged topic that was taken out of its list; takes it over on success. */
enum err fsm_drop_staged(struct fsm *self, struct staged_topic *staged, uint64_t index);

/* NULL is fine. Closes the log, leaves the files. */
void fsm_free_staged(struct staged_topic *staged);

/* The staged topic of this id, taken out of the list; NULL when there is none. */
struct staged_topic *fsm_take_staged(struct fsm *self, uint64_t id);

/* The index of the entry that created a topic. */
static inline uint64_t fsm_topic_created_index(uint64_t id)
{
    return id / COMMAND_COUNT_MAX;
}

/* ERR_OK when the last batch below topic->end ends there and has the digest that the topic says;
 * ERR_CORRUPT when it has not, text says which; what log_read_header says. */
enum err fsm_check_end(struct log *log, const struct manifest_topic *topic, struct err_info *info);

#endif
