/*
 * What the files of a log share: its state, and the few steps that several of them take.
 *
 *      log.c           append, find, read          log_open.c      recovery
 *      log_truncate.c  truncate, reset, delete     log_sync.c      making durable
 *      log_reader.c    the raw reader              log_check.c     the invariants
 *      log_fill.c      holes and their filling     log_punch.c     holes instead of damage
 *      log_files.c     the directory, for log_open.c
 *      log_front.c     a start that moves before      log_search.c    searches
 *                      the files go                   log_rewrite.c   other batches in the place of
 *                                                                     some segments'
 */
#ifndef QUORLOG_LOG_LOG_INTERNAL_H
#define QUORLOG_LOG_LOG_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "log/log.h"
#include "log/segment.h"
#include "log/segment_list.h"

/* Damaged files that are kept beside a log; more are not kept. */
enum { LOG_DAMAGED_MAX = 8 };

/* Bounds of segment_size_max. */
enum { LOG_SEGMENT_SIZE_MIN = 4096 };
#define LOG_SEGMENT_SIZE_LIMIT (UINT64_C(2) << 30)

/* A segment below the start, of which the files are still there. */
struct passed_segment {
    uint64_t base_offset;
    uint64_t end_offset;
    bool filling;
};

/* A store of which another one has taken the place, and the file is still there. */
struct superseded {
    uint64_t base_offset;
    uint64_t change; /* of the directory: once it is on the disk, the file may go */
};

struct log {
    struct segment_config config;
    struct file_cache *files; /* owned reference */
    char *dir;                /* owned */
    uint32_t batch_size_max;
    uint32_t write_back_size;
    uint64_t size_max_opened; /* bytes of a store file, as log_open was told */
    uint64_t segment_us;      /* (writer) a segment takes batches for so long; 0: no bound */
    bool preallocate;         /* (writer) */
    struct segment_list list;
    _Atomic uint64_t size; /* bytes of all store files */
    _Atomic unsigned segment_count;
    _Atomic unsigned hole_count;
    atomic_bool failed; /* I6 */
    /* (writer) */
    uint64_t damaged[LOG_DAMAGED_MAX]; /* Base offsets of the files kept as damaged. */
    size_t damaged_count;
    struct passed_segment *passed; /* owned; in order */
    size_t passed_count;
    size_t passed_capacity;
    struct superseded *superseded; /* owned; in order of `change` */
    size_t superseded_count;
    size_t superseded_capacity;
    uint64_t generation;  /* of the log's stores */
    uint64_t dir_changes; /* Creations, renames and removals in the directory so far … */
    uint64_t dir_synced;  /* … and how many of them are on the disk. */
};

/* Moves the log to its failed state (I6) and returns err. */
enum err log_fail(struct log *self, enum err err);

/* ERR_FAILED with text when it is (I6). */
enum err log_check_healthy(const struct log *self, struct err_info *info);

/* ERR_FAILED, or ERR_RANGE for an offset outside of [start, end], with text. */
enum err log_check_request(const struct log *self, uint64_t offset, struct err_info *info);

/* Verifies what begins at data: a whole batch as log_read gives it, checksums and limits. */
enum err log_check_batch(const struct log *self, const uint8_t *data, size_t size,
                         struct batch_header *ret_header, struct err_info *info);

/* Publishes size, number of segments and holes after a change of the list or its bounds. */
void log_publish_totals(struct log *self);

/* Syncs the directory if something changed in it. */
enum err log_sync_dir(struct log *self, struct err_info *info);

/* Removes a file of a segment; a missing one is fine. */
enum err log_remove_file(struct log *self, uint64_t base_offset, enum segment_file file,
                         struct err_info *info);

/* Opens a segment's store anew, after its file got another name. */
enum err log_open_store(struct log *self, uint64_t base_offset, enum segment_file file,
                        struct store **ret_store, struct err_info *info);

enum err log_rename_file(struct log *self, uint64_t base_offset, enum segment_file from,
                         enum segment_file to, struct err_info *info);

/* Puts a segment's store aside as damaged, or removes it when too many are kept; its index goes. */
enum err log_keep_damaged(struct log *self, uint64_t base_offset, struct err_info *info);

/* Removes the files that were put aside. */
enum err log_drop_damaged(struct log *self, struct err_info *info);

/* A copy of the first bytes of the segment's store, as `cut` says, synced, under the temporary name
 * of one that is filled (any thread). There is a batch in them. */
enum err log_copy_prefix(const struct segment_config *config, const struct segment *segment,
                         const struct segment_cut *cut, struct store **ret_copy,
                         struct err_info *info);

/* Makes that copy, taken over on success, a filling segment (writer). */
enum err log_take_prefix(struct log *self, const struct segment *segment, struct store *copy,
                         const struct segment_cut *cut, struct segment **ret_segment,
                         struct err_info *info);

/* After a sync: complete segments that were filled become ordinary ones; what was superseded goes;
 * once there is no hole, the damaged files go. */
enum err log_settle(struct log *self, struct err_info *info);

/* Removes the segments that end at or below start, but the last. */
enum err log_drop_passed(struct log *self, struct err_info *info);

/* Notes a segment that left the list at its front; its files stay. ERR_NOMEM: reserve found no
 * room. */
enum err log_reserve_passed(struct log *self);
void log_note_passed(struct log *self, const struct segment *segment);

/* Room for `count` more of those that were superseded: ERR_NOMEM. Notes one, after the directory
 * was changed. */
enum err log_reserve_superseded(struct log *self, size_t count);
void log_note_superseded(struct log *self, uint64_t base_offset);

/* Removes the files of those whose successor has its name durably. */
enum err log_drop_superseded(struct log *self, struct err_info *info);

/* The same with all, durably, before something is taken from where they were: nothing covers them
 * then any more. */
enum err log_forget_superseded(struct log *self, struct err_info *info);

/* Puts a new active segment at `base_offset`, at or above the end, behind the one that was active;
 * an empty one goes. */
enum err log_new_active(struct log *self, uint64_t base_offset, struct err_info *info);

/* Removes a segment's files: first the store, so that what may be left is an index, which is
 * nothing without it. */
enum err log_remove_segment(struct log *self, uint64_t base_offset, bool filling,
                            struct err_info *info);

/* Seals the active segment, which is not empty, and puts a new one behind it. */
enum err log_roll(struct log *self, struct err_info *info);

/* Frees memory and closes files. */
void log_free(struct log *self);

#endif
