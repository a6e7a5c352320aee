/*
 * What the files of the state machine share.
 *
 *      fsm.c           open, manifest, forget
 *      fsm_apply.c     entries
 *      fsm_sync.c      making the logs durable
 *      fsm_install.c   another replica's manifest
 *      fsm_fill.c      holes
 *      fsm_files.c     how many files are open
 *      fsm_trim.c      starts that move
 *      fsm_upkeep.c    what settings ask for from time to time
 *      fsm_compact.c   other batches in the place of superseded ones
 */
#ifndef QUORLOG_RAFT_FSM_FSM_INTERNAL_H
#define QUORLOG_RAFT_FSM_FSM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/fsm.h"
#include "raft_fsm/work.h"

/* A topic that is no longer in the catalog, but whose files a snapshot may still promise. */
struct deleted_topic {
    struct topic *topic; /* owned reference */
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t id;
    uint64_t index; /* of the entry or manifest that deleted it */
    struct deleted_topic *next;
};

struct fsm {
    struct io *io;
    char *dir; /* owned */
    const struct diag *diag;
    struct file_cache *files; /* owned reference */
    uint64_t segment_size_max;
    uint32_t index_interval;
    uint32_t write_back_size;
    struct catalog *catalog;
    struct producers *producers;
    struct nodes nodes;
    uint64_t applied_index;
    int64_t time_us;
    uint64_t records_applied;
    struct work work;              /* since open */
    uint64_t alterations;          /* of settings, since open */
    struct deleted_topic *deleted; /* owned list */
    bool holes_allowed;
    struct topic **holed; /* owned, with references: those that have holes, or had */
    size_t holed_count;
    size_t holed_capacity;
    size_t holed_turn;      /* whose turn is next */
    struct fsm_holes holes; /* F6 */
    struct topic *passed;   /* owned list, with references: those whose start moved, and whose
                               files below it are not all gone yet */
    struct ages ages;
    bool failed; /* F5 */
    bool syncing;
    struct topic *kept;    /* borrowed list, by kept_next: topics that want upkeep … */
    uint64_t upkeep_at_ms; /* … and when */
    uint64_t dir_changes;  /* Topic directories made so far … */
    uint64_t dir_synced;   /* … and how many of them are on the disk for sure. */
};

/* Moves to the failed state and returns err. (F5) */
enum err fsm_fail(struct fsm *self, enum err err);

/* "<name>-<id>" */
enum { FSM_DIR_NAME_SIZE = TOPIC_NAME_SIZE_MAX + 32 };
void fsm_dir_name(char buffer[FSM_DIR_NAME_SIZE], const char *name, uint64_t id);

/* Before more files are opened: when too many are kept open by what was not synced, syncs it, here
 * and now. That is slow, and better than to run out of descriptors: those stop the node. The log
 * may be NULL: of all topics. */
enum err fsm_ease_files(struct fsm *self, struct log *log, struct err_info *info);

/* What a topic's settings say of its files. */
void fsm_configure_log(struct log *log, const struct topic_settings *settings);

/* Sets a topic's settings, and does what they say with its log. */
void fsm_use_settings(struct fsm *self, struct topic *topic, const struct topic_settings *settings);

/* A topic leaves the catalog. */
void fsm_end_upkeep(struct fsm *self, struct topic *topic);

/* As fsm_sync_begin, for some topics. */
enum err fsm_sync_begin_some(struct fsm *self, struct topic **topics, size_t count,
                             struct fsm_sync **ret_sync);

/* Opens the log of a topic that holds [start, durable_end) at least, and configures it. */
enum err fsm_open_log(struct fsm *self, const struct manifest_topic *topic, struct log **ret_log,
                      struct err_info *info);

/* Makes the topic's directory, if need be, and opens the log in it; what is lacking below
 * durable_end is holes. */
enum err fsm_make_log(struct fsm *self, const struct manifest_topic *topic, uint64_t durable_end,
                      struct log **ret_log, struct err_info *info);

/* Takes the topic out of the catalog and out of the producer table; its files stay until
 * fsm_forget. ERR_NOMEM. */
enum err fsm_drop_topic(struct fsm *self, struct topic *topic, uint64_t index);

/* The index of the entry that created a topic. */
static inline uint64_t fsm_topic_created_index(uint64_t id)
{
    return id / COMMAND_COUNT_MAX;
}

/* ERR_OK when the last batch below topic->end ends there and has the digest that the topic says, or
 * lies in a hole; ERR_DIVERGED when it has not, text says which; what log_read_header says. */
enum err fsm_check_end(struct log *log, const struct manifest_topic *topic, struct err_info *info);

/* The topic's start becomes what is said there, at `index`; its files go later. (F7) ERR_NOMEM,
 * ERR_IO, ERR_NOSPACE, ERR_FAILED: of this node. */
struct fsm_start {
    uint64_t index;
    uint64_t start;
    uint64_t log_start;
    const uint8_t *digest; /* of the batch before start; counts where start moves */
};
enum err fsm_move_start(struct fsm *self, struct topic *topic, const struct fsm_start *to,
                        struct err_info *info);

/* A snapshot at `index` is durable: what it promises of each start. */
void fsm_note_durable(struct fsm *self, uint64_t index);

void fsm_forget_passed(struct fsm *self);

/* Sets what the manifest says of a topic that was just opened. */
void fsm_set_start(struct topic *topic, const struct manifest_topic *promised);

/* Counts a topic's holes. (F6) Memory that is short is ERR_NOMEM: they are not known then. */
enum err fsm_count_holes(struct fsm *self, struct topic *topic);

/* The log was changed behind the cleaner's back. (F9) */
void fsm_forget_cleaned(struct topic *topic);

/* A topic leaves the catalog: its holes are nobody's any more. */
void fsm_forget_holes(struct fsm *self, struct topic *topic);

#endif
