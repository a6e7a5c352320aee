/*
 * What the files of the lookups' object share.
 *
 *      lookup.c         start, stop, the table of topics, what is told to people
 *      lookup_worker.c  the thread: whose turn it is, how fast
 *      lookup_build.c   the next piece of a topic's log goes into its indexes
 *      lookup_flush.c   from memory to a file; merging
 *      lookup_files.c   what is on the disk: loading, checking, removing
 *      lookup_next.c    the question
 */
#ifndef QUORLOG_LOOKUP_LOOKUP_INTERNAL_H
#define QUORLOG_LOOKUP_LOOKUP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lookup/lookup.h"
#include "lookup/run_cache.h"
#include "lookup/topic_indexes.h"

enum { LOOKUP_RETRY_INTERVALS = 5 }; /* after a failure */

struct lookup {
    struct lookup_options options; /* dir: own */
    char *dir;                     /* owned */
    struct io *io;
    const struct clock *clock;
    uint32_t probe; /* of libbloom */
    pthread_t thread;
    pthread_mutex_t lock; /* Guards `topics`, stopping and awake. */
    pthread_cond_t wake;
    bool stopping;
    bool awake;
    struct topic_indexes *topics; /* hashed by id, each with a reference; the worker changes it */
    struct run_cache runs;
    /* Of the worker only: */
    bool settled;
    uint64_t listed_ms; /* when the catalog was read last; 0: never */
    uint64_t behind_ns; /* how much too fast it was */
    /* lookup_stats */
    atomic_uint_fast64_t questions;
    atomic_uint_fast64_t files_read;
    atomic_uint_fast64_t pages_read;
    atomic_uint_fast64_t parts_seen;
    atomic_uint_fast64_t damaged;
    atomic_uint_fast64_t bytes_built;
    atomic_uint_fast64_t files_written;
};

uint64_t lookup_now_ms(const struct lookup *self);
bool lookup_stops(struct lookup *self);

/* The topic's indexes with a reference; NULL: it has none. */
struct topic_indexes *lookup_find(struct lookup *self, uint64_t topic_id);

/* The worker's thread. */
void *lookup_work(void *arg);

/* (worker) Waits as long as `size` bytes may take. False: stop. Also a key_progress_cb. */
bool lookup_paced(void *arg, uint64_t size);

/* ---- one topic; worker only ---- */

/* A kind could not go on: told, and tried again later. */
void lookup_fail(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind,
                 const struct err_info *info);

/* What is on the disk of it: kept as far as it is wanted, sealed, and of this log. */
enum err lookup_load(struct lookup *self, struct topic_indexes *indexes, struct err_info *info);

/* Removes files that are damaged, not wanted any more, below the log's start or above its end, or
 * made of a log of which compaction left less than half. */
void lookup_tidy(struct lookup *self, struct topic_indexes *indexes);

/* Checks one file that has to be. *ret_busy: one was. */
void lookup_check(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy);

/* A reader, or the check, found a file to be damaged: nobody asks it any more, and it is named. Any
 * thread. */
void lookup_damaged(struct lookup *self, struct topic_indexes *indexes, struct part *part,
                    const struct err_info *info);

/* How many keys, and hashes for a Bloom filter, a topic may have in memory. */
size_t lookup_keys_max(const struct lookup *self);
size_t lookup_hashes_max(const struct lookup *self);

/* The next piece of the log. *ret_busy: there was one. */
enum err lookup_build(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy,
                      struct err_info *info);

/* Writes what is in memory of a kind. */
enum err lookup_flush(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind,
                      struct err_info *info);

/* Forgets what is in memory of a kind. */
void lookup_forget(struct topic_indexes *indexes, enum part_kind kind);

/* A step of merging, where there is something to merge. */
enum err lookup_merge(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy,
                      struct err_info *info);

#endif
