/*
 * What the files of a log share: its state, and the few steps that several of them take.
 *
 *      log.c           append, find, read          log_open.c      recovery
 *      log_truncate.c  truncate, reset, delete     log_sync.c      making durable
 *      log_reader.c    the raw reader              log_check.c     the invariants
 */
#ifndef QUORLOG_LOG_LOG_INTERNAL_H
#define QUORLOG_LOG_LOG_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "log/log.h"
#include "log/segment.h"
#include "log/segment_list.h"

struct log {
    struct segment_config config;
    char *dir; /* owned */
    uint32_t batch_size_max;
    uint32_t write_back_size;
    struct segment_list list;
    _Atomic uint64_t size; /* bytes of all store files */
    _Atomic unsigned segment_count;
    atomic_bool failed; /* I6 */
    /* (writer) */
    uint64_t generation;  /* of the log's stores */
    uint64_t dir_changes; /* Creations, renames and removals in the directory so far … */
    uint64_t dir_synced;  /* … and how many of them are on the disk. */
};

/* Moves the log to its failed state (I6) and returns err. */
enum err log_fail(struct log *self, enum err err);

/* Publishes size and number of segments after a change of the list. */
void log_publish_totals(struct log *self);

/* Syncs the directory if something changed in it. */
enum err log_sync_dir(struct log *self, struct err_info *info);

/* Removes a file of a segment; a missing one is fine. */
enum err log_remove_file(struct log *self, uint64_t base_offset, enum segment_file file,
                         struct err_info *info);

/* Removes a segment's files: first the store, so that what may be left is an index, which is
 * nothing without it. */
enum err log_remove_segment(struct log *self, uint64_t base_offset, struct err_info *info);

/* Seals the active segment, which is not empty, and puts a new one behind it. */
enum err log_roll(struct log *self, struct err_info *info);

/* Frees memory and closes files. */
void log_free(struct log *self);

#endif
