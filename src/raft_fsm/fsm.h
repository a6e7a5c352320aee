/*
 * The state machine: applies committed entries to the topics' logs, the same way on every node.
 *
 * Deterministic: an entry and the state before it decide the state after it; no clock, no chance,
 * no configuration of the node enters (time comes from the leader inside the entry). What a client
 * can cause is data in a result, never a failure; a failure is the local disk, or a divergence, and
 * stops the process. Called by the raft thread only.
 *
 * After a restart the journal is replayed from the newest snapshot on. Topics' logs may already
 * hold what is replayed: such a batch is compared (offset, raft index, digest) instead of written,
 * and a difference is ERR_DIVERGED. The state that no file holds (producers, cursors, names)
 * follows from replay.
 *
 * A topic's id is the raft index of the entry that created it times COMMAND_COUNT_MAX plus the
 * command's number in that entry: unique, and the same on every node.
 *
 * Files: dir/<name>-<id> is a topic's directory. A deleted topic's directory goes only after a
 * snapshot without it is durable (fsm_forget), since until then the old snapshot, replayed after a
 * crash or sent to another node, still promises it.
 *
 * A topic's log may lack ranges that its manifest promised: holes (log/log.h). They come from an
 * installed manifest, from files that are gone or damaged, from damage that was found; they follow
 * from the files alone. Entries are applied above them; whoever has peers fills them from those.
 *
 * Invariants:
 *   F1  topic->end <= log_end(topic->log), and equal unless entries are being replayed.
 *   F2  A log holds committed batches only.
 *   F3  Entries are applied in order of index, without a gap.
 *   F4  Every topic's start is the first offset of a batch on the node that led when it moved, or
 *       its end; its log_start, the first record that is shown, lies in that batch. Where batches
 *       were merged, here or there, start may lie inside of one: then a batch of the log begins
 *       below its start.
 *   F5  After a failure nothing is applied, synced, filled or installed any more (ERR_FAILED); only
 *       opening again leaves that state.
 *   F6  Of every topic in the catalog the holes are counted, and their sums.
 *   F7  A topic's log starts where the topic does; its files reach down to what the newest durable
 *       snapshot says at least, so that what is opened, and replayed, finds all of it.
 *   F8  What may be taken from a topic by compaction lies below its end, and only ever grows.
 *   F9  A topic's cleaned_to says what is clean, durably, of the log as it is: it is 0 while the
 *       topic has holes, and begins there again when they were filled.
 */
#ifndef QUORLOG_RAFT_FSM_FSM_H
#define QUORLOG_RAFT_FSM_FSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/catalog.h"
#include "raft_fsm/chain.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/manifest.h"

struct fsm;

/* Topics of a group. Not a setting: it decides what an entry does, so it is the same everywhere. */
enum { FSM_TOPICS_MAX = 10000 };

struct fsm_options {
    struct io *io;             /* borrowed */
    const char *dir;           /* in, copied; exists */
    const struct diag *diag;   /* borrowed; may be NULL: torn tails are told there */
    struct file_cache *files;  /* a reference is taken; NULL: one of its own */
    uint64_t segment_size_max; /* as in struct log_options, 0: default */
    uint32_t index_interval;
    uint32_t write_back_size;
    bool holes_allowed; /* others have what is lost here: loss and damage become holes */
};

/* What one command did. err is what the client is told:
 *   PRODUCE        OK, TOPIC_UNKNOWN, what producers_decide says but EXISTS (see duplicate), and
 *                  EXPECT_FAILED (log_end is set; its sequence is still the next one)
 *   TOPIC_CREATE   OK, TOPIC_EXISTS (topic_id: the existing one's), LIMIT, INVALID (its settings)
 *   TOPIC_ALTER    OK, TOPIC_UNKNOWN, INVALID (topic_settings_change)
 *   TOPIC_DELETE   OK, TOPIC_UNKNOWN
 *   INIT_PRODUCER  OK, LIMIT
 *   NODE_BIND      OK, EXISTS, LIMIT
 *   CURSOR_SET     OK, TOPIC_UNKNOWN, CURSOR_CONFLICT, RANGE (beyond the topic's end), LIMIT
 *   CURSOR_DELETE  OK, TOPIC_UNKNOWN, CURSOR_UNKNOWN, CURSOR_CONFLICT
 *   RAISE_EPOCH    OK, TOPIC_UNKNOWN, and what producers_raise says
 *   TOPIC_TRIM     OK (log_start: not lower than asked for), TOPIC_UNKNOWN, INVALID, RANGE (beyond
 *                  the topic's end)
 *   AGE            OK, INVALID
 *   COMPACT        OK, TOPIC_UNKNOWN, INVALID (the topic's setting says no; beyond its end)
 *
 * The fields from base_offset on are set when it is OK. */
struct fsm_result {
    enum err err;
    uint64_t topic_id; /* all but INIT_PRODUCER; 0 where there is no topic */
    struct cursor_position
        cursor;           /* CURSOR_SET, CURSOR_DELETE: as it is now, also after an error */
    uint64_t base_offset; /* PRODUCE */
    uint32_t record_count;
    bool duplicate;      /* PRODUCE: an earlier try had been written; err is OK */
    uint64_t raft_index; /* of the entry that wrote it; CURSOR_*: also after an error */
    uint64_t raft_term;
    int64_t append_time_us;
    uint64_t producer_id; /* INIT_PRODUCER, RAISE_EPOCH */
    uint16_t producer_epoch;
    uint64_t producer_records; /* RAISE_EPOCH with a topic */
    uint64_t log_end;          /* EXPECT_FAILED, TOPIC_TRIM: where the log really ends */
    uint64_t log_start;        /* TOPIC_TRIM: as it is now, also after an error */
};

/* Called for every command of an entry in order: number 0, 1, …; may be NULL. */
typedef void (*fsm_result_cb)(void *arg, unsigned number, const struct fsm_result *result);

/*
 * Opens the state of `manifest` (NULL: the empty state at index 0): opens the logs of its topics,
 * which must hold what it promises (ERR_CORRUPT otherwise, naming topic, file and position; with
 * holes_allowed what is lost or damaged becomes a hole and is told to diag), and removes
 * directories of topics that it does not have, once all others are open. The manifest is copied.
 * Blocks. ERR_VERSION, ERR_IO, ERR_NOSPACE, ERR_NOMEM too.
 */
enum err fsm_open(const struct fsm_options *options, const struct manifest *manifest,
                  struct fsm **ret_fsm, struct err_info *info);
/* NULL is fine. Not while a sync is under way. Topics that front threads refer to stay theirs. */
void fsm_close(struct fsm *self);

struct catalog *fsm_catalog(struct fsm *self); /* borrowed while the fsm is open */
uint64_t fsm_applied_index(const struct fsm *self);
int64_t fsm_time_us(const struct fsm *self);
const struct nodes *fsm_nodes(const struct fsm *self); /* borrowed while the fsm is open */

/* Applies an entry of any type; entry->index must be applied index + 1 (F3). Fails only as said
 * above: ERR_IO, ERR_NOSPACE, ERR_NOMEM, ERR_DIVERGED, ERR_CORRUPT, ERR_VERSION; ERR_FAILED after
 * that (F5). */
enum err fsm_apply(struct fsm *self, const struct entry *entry, fsm_result_cb cb, void *arg,
                   struct err_info *info);

/* How much was applied since opening (work.h). */
uint64_t fsm_work(const struct fsm *self);

/* Whether so many files are kept open by what was not synced that a snapshot is due (file_cache.h).
 */
bool fsm_is_crowded(const struct fsm *self);

/* What is open of the topics' logs. */
void fsm_file_stats(const struct fsm *self, struct file_cache_stats *ret_stats);

/* Changes of topics' settings since open. */
uint64_t fsm_alterations(const struct fsm *self);

/* Records applied since open, those that the log held already included; for statistics. */
uint64_t fsm_records_applied(const struct fsm *self);

/* ---- snapshots ---- */

/* The state as a manifest (deep copy). */
enum err fsm_manifest(const struct fsm *self, struct manifest *ret_manifest);

/* Making the logs durable: as log_sync_begin/run/end, for all topics. run on any thread; one sync
 * at a time. What fsm_manifest gave before begin is durable after an end that is OK. An end without
 * a run gives it up: ERR_CANCELED, and F5. */
struct fsm_sync;
enum err fsm_sync_begin(struct fsm *self, struct fsm_sync **ret_sync); /* NULL: nothing dirty */
enum err fsm_sync_run(struct fsm_sync *sync, struct err_info *info);
enum err fsm_sync_end(struct fsm *self, struct fsm_sync *sync);

/* When fsm_upkeep has something to do, in its now_ms; UINT64_MAX: nothing. */
uint64_t fsm_upkeep_deadline_ms(const struct fsm *self);

/*
 * Does what topics' settings ask for from time to time. Segments that are old, by the entries'
 * time, are sealed; what has waited for flush_ms is to be synced by *ret_sync, as from
 * fsm_sync_begin; NULL: nothing is dirty there. Not while a sync is under way. ERR_IO, ERR_NOSPACE,
 * ERR_NOMEM: F5.
 */
enum err fsm_upkeep(struct fsm *self, uint64_t now_ms, struct fsm_sync **ret_sync,
                    struct err_info *info);

/* A snapshot at `index` is durable: directories of topics deleted at or before it go, and files
 * below the starts that it has, some of them at a time: fsm_remove_passed goes on. Not while a sync
 * is under way. */
enum err fsm_forget(struct fsm *self, uint64_t index, struct err_info *info);

/* Whether there is something that fsm_forget would remove. */
bool fsm_has_deleted(const struct fsm *self);
/* … of topics that are still there. */
bool fsm_has_passed(const struct fsm *self);

/* Removes files of up to `max` segments that the newest snapshot does not promise any more; whether
 * there are more of them. ERR_IO: F5. */
enum err fsm_remove_passed(struct fsm *self, unsigned max, bool *ret_more, struct err_info *info);

/* How old entries are; borrowed while the fsm is open. */
const struct ages *fsm_ages(const struct fsm *self);

/* A topic by id, also one that is deleted but not yet forgotten, with a reference; NULL if none.
 * For serving the batches that an older manifest promises. */
struct topic *fsm_find_promised(struct fsm *self, uint64_t id);

/*
 * Makes another replica's manifest the state, at once: what it promises and the logs lack becomes
 * holes. Topics that it does not have are deleted; their directories go with fsm_forget, for the
 * manifest's applied index. Durable only when the logs were synced (fsm_sync_*) and the manifest
 * was saved, in that order; a crash before finds the old state. Not while a sync is under way.
 *
 * ERR_INVALID for a manifest that is not ahead of the state, ERR_DIVERGED when the two cannot have
 * the same history: nothing was changed. ERR_IO, ERR_NOSPACE, ERR_NOMEM, ERR_CORRUPT: F5.
 */
enum err fsm_install(struct fsm *self, const struct manifest *manifest, struct err_info *info);

/* ---- holes ---- */

struct fsm_holes {
    size_t topics; /* that have holes */
    uint64_t holes;
    uint64_t missing; /* offsets in them */
};
void fsm_holes(const struct fsm *self, struct fsm_holes *ret_holes); /* cheap */

/*
 * A hole to be filled, and all that is needed to judge what is to come into it.
 *
 * The chain of digests ties a hole's batches to the one below it, and the one above it to them:
 * what does not follow on the chain is refused batch by batch, and a hole that was filled up has to
 * meet its upper edge. Where the topic ends with the hole, its digest is the edge.
 */
struct fsm_hole {
    struct topic *topic; /* owned reference */
    uint64_t begin;      /* what lies in [begin, chain.offset) was put in and has met no edge yet */
    struct chain chain;  /* stands at the hole's first offset */
    uint64_t to;
    bool edge_known; /* the digest below `to` is edge; else the batch at `to` tells */
    uint8_t edge[DIGEST_SIZE];
};
void fsm_hole_fini(struct fsm_hole *self); /* also fine on an empty one */

/* The lowest hole of the next topic that has one; topics take turns. ERR_NOT_FOUND when none has.
 */
enum err fsm_next_hole(struct fsm *self, struct fsm_hole *ret_hole);

/*
 * What came for a hole, and how it fits. A batch of a node that compacted at another time may begin
 * below the hole, or end above it:
 *
 *      here     [ ------- ][ --- ]      hole      [ ---- ][ ---- ]
 *      there    [ ---- ][ ------------ ][ -------------- ][ ---- ]
 *                         ^ cut at the hole           ^ PASSES
 *
 * Below, what is here stays: of the batch there the part from the hole on is taken, behind the
 * digest that is known here. Above, no digest and no stamps are known for the place where the hole
 * ends: unless somebody has a batch that ends there, what is above has to go and comes again.
 */
enum fsm_fit {
    FSM_FIT_WHOLE,      /* it follows */
    FSM_FIT_PASSES,     /* its first batch follows, and ends above the hole, at after.offset */
    FSM_FIT_BEGINS_LOW, /* its first batch begins below the hole, and the batch there cannot be read
                           to say where it is to be cut: it is damaged */
};

struct fsm_chunk {
    struct slice batches; /* owns a reference; other bytes than before where it was cut */
    enum fsm_fit fit;
    struct chain after; /* behind it; not for BEGINS_LOW */
};

/* (any thread) Verifies what came, in chunk->batches, against hole->chain. ERR_CORRUPT: it is not
 * what belongs there; ERR_NOMEM. */
enum err fsm_hole_fit(const struct fsm_hole *hole, struct fsm_chunk *chunk, struct err_info *info);

/*
 * (any thread) Whether what follows on `chain`, which stands at hole->to, meets the hole's upper
 * edge. ERR_DIVERGED when it does not; ERR_CORRUPT when the batch above cannot be read, ERR_AGAIN
 * when there is none yet to judge by; ERR_IO, ERR_NOMEM.
 */
enum err fsm_hole_meets(const struct fsm_hole *hole, const struct chain *chain,
                        struct err_info *info);

/*
 * Puts batches that fit (fsm_hole_fit: WHOLE) at the hole's beginning; `after` is the chain behind
 * them. With `met` the hole is filled up to its edge, and meets it. ERR_NOT_FOUND: the
 * hole is not there any more, nothing was changed. ERR_CORRUPT, ERR_TOO_LARGE: they are no batches
 * of this log, whatever their digests say. ERR_IO, ERR_NOSPACE, ERR_NOMEM, ERR_FAILED: F5.
 */
enum err fsm_fill(struct fsm *self, struct fsm_hole *hole, const struct slice *batches,
                  const struct chain *after, bool met, struct err_info *info);

/* Makes a hole of [from, to) of a topic's log, rounded outward to batches and more (log_punch).
 * Blocks on the disk. ERR_NOSPACE, ERR_NOMEM: nothing was changed. ERR_IO, ERR_FAILED: F5. */
enum err fsm_punch(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                   struct err_info *info);

/* The same in steps, with log_punch_run between them on any thread. The topic may be deleted
 * meanwhile. end: ERR_CANCELED, too, when nothing was run. */
enum err fsm_punch_begin(struct fsm *self, struct topic *topic, uint64_t from, uint64_t to,
                         struct log_punch **ret_punch, struct err_info *info);
enum err fsm_punch_end(struct fsm *self, struct topic *topic, struct log_punch *punch,
                       struct err_info *info);

/* Somebody else punched or filled the topic's log: counts again. (F6) */
void fsm_holes_changed(struct fsm *self, struct topic *topic);

/* ---- compaction ---- */

/* What is to be cleaned of a topic on this node. */
struct fsm_cleaning {
    uint64_t from; /* the first record whose key was not looked at, … */
    bool records;  /* … and such records are to be, in segments that can be replaced */
    bool tombstones;
    uint64_t tombstones_below; /* They may go, as far as this copy is clean. */
};
void fsm_cleaning_due(const struct fsm *self, const struct topic *topic,
                      struct fsm_cleaning *ret_due);

/* Whether nothing speaks against it: the topic is there, whole, and not being replayed. */
bool fsm_may_clean(const struct fsm *self, const struct topic *topic);

/* Neighbouring segments that are put in order together: several, which are to become one, or a
 * single one. */
struct fsm_group {
    uint64_t from; /* may be below the log's start */
    uint64_t to;
    uint64_t size; /* bytes of their store files */
    unsigned segments;
};

/* The group of the segment that holds `offset`, of segments that begin below `below`.
 * ERR_NOT_FOUND: that segment does not, or there is none; ERR_AGAIN: it is not complete yet.
 * ERR_RANGE, ERR_HOLE. */
enum err fsm_next_group(const struct fsm *self, const struct topic *topic, uint64_t offset,
                        uint64_t below, struct fsm_group *ret_group);

/* As log_rewrite_begin and log_rewrite_end, with log_rewrite_put and log_rewrite_run between them
 * on any thread. The topic may be deleted meanwhile. ERR_IO, ERR_FAILED: F5; what else they return
 * has changed nothing. */
enum err fsm_rewrite_begin(struct fsm *self, struct topic *topic, const struct fsm_group *group,
                           struct log_rewrite **ret_rewrite, struct err_info *info);
enum err fsm_rewrite_end(struct fsm *self, struct topic *topic, struct log_rewrite *rewrite,
                         struct err_info *info);

/* As fsm_sync_begin, for one topic. */
enum err fsm_clean_sync_begin(struct fsm *self, struct topic *topic, struct fsm_sync **ret_sync,
                              struct err_info *info);

/* The topic's directory; ret_path: IO_PATH_SIZE bytes. ERR_TOO_LARGE. */
enum err fsm_topic_path(const struct fsm *self, const struct topic *topic, char ret_path[],
                        struct err_info *info);

/* A pass is through, and durable: so far the topic's copy is clean. Neither goes down. */
void fsm_set_cleaned(struct topic *topic, uint64_t cleaned_to, uint64_t tombstones_below);

/* ASSERTs F1 and what else can be checked cheaply. */
void fsm_check(const struct fsm *self);

#endif
