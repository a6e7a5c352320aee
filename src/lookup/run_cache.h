/*
 * The key indexes' files that are open: a bounded number of them, the one that was used longest ago
 * makes room. Any thread.
 */
#ifndef QUORLOG_LOOKUP_RUN_CACHE_H
#define QUORLOG_LOOKUP_RUN_CACHE_H

#include <pthread.h>

#include "lookup/topic_indexes.h"

enum { RUN_CACHE_OPEN_MAX = 64 }; /* beyond those in use at the moment */

struct run_cache {
    pthread_mutex_t lock; /* Guards all of it, and run, users, used of the parts in it. */
    struct part **open;   /* owned, each with a reference */
    size_t count;
    size_t capacity;
    uint64_t ticks;
};

/* ERR_NOMEM. */
enum err run_cache_init(struct run_cache *self);
/* Nobody uses one any more. */
void run_cache_fini(struct run_cache *self);

/* The part's run, opened where it is not, until it is released. Errors of key_run_open. */
enum err run_cache_acquire(struct run_cache *self, const char *dir, struct part *part,
                           struct key_run **ret_run, struct err_info *info);
void run_cache_release(struct run_cache *self, struct part *part);

/* Its file is removed: closed as soon as nobody uses it. */
void run_cache_drop(struct run_cache *self, struct part *part);

#endif
