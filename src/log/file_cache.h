/*
 * The descriptors and mappings of segments that are open now: a bounded number, of all logs of a
 * node together.
 *
 *      store, index ──► item   closed ── acquire: MISS, install ──► open, pinned
 *                                ▲                                    │ release   ▲ acquire: HIT
 *                                └───────── evicted, forgotten ── open, idle ─────┘
 *
 * Whoever uses a file has its item pinned meanwhile; what is pinned stays open. What is idle stays
 * open, too, until there is more open than there should be: then what was used longest ago is
 * closed. Bytes that no sync has covered pin their file, so that what write-back had to say is
 * never lost with a descriptor (store.h).
 *
 * The cache opens nothing itself. A miss gives room for one file: the caller opens it, as long as
 * that takes, and installs it; two who do so at the same time are no problem, the second closes its
 * own again.
 *
 * Any thread. Invariants:
 *   I1  The lock is never held while a file is touched: nobody waits here for a disk.
 *   I2  Descriptors (of open items, reserved ones, counted ones) are at most descriptors_max, or
 *       none of them is idle. A miss that would pass descriptors_limit is refused.
 *   I3  The mapped bytes of open items are at most mapped_max, or none of them is idle.
 */
#ifndef QUORLOG_LOG_FILE_CACHE_H
#define QUORLOG_LOG_FILE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct file_cache;

struct file_cache_options {
    size_t descriptors_max; /* at least 1: beyond it what is idle is closed */
    size_t
        descriptors_limit; /* at least descriptors_max: what is in use, or dirty, may up to here */
    uint64_t mapped_max;   /* bytes of mapped indexes */
};

/* One reference, owned by the caller. NULL when memory is short. */
struct file_cache *file_cache_new(const struct file_cache_options *options);

/* The one of a process that may open files_max files, of which max at most are to be idle; 0: 1024.
 */
struct file_cache *file_cache_new_for(uint64_t files_max, uint64_t max);

struct file_cache *file_cache_ref(struct file_cache *self);
/* NULL is fine. With the last reference nothing is open any more. */
void file_cache_unref(struct file_cache *self);

struct file_cache_stats {
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t refused; /* misses past descriptors_limit */
    size_t descriptors;
    size_t descriptors_pinned; /* those that cannot be closed now */
    size_t descriptors_max;
    size_t descriptors_limit;
    uint64_t mapped; /* bytes */
    uint64_t mapped_max;
};
void file_cache_stats(struct file_cache *self, struct file_cache_stats *ret_stats);

/* Whether half of what may be open cannot be closed: time to sync what is dirty. Cheap. */
bool file_cache_is_crowded(struct file_cache *self);

/* Between the two: whether it is time to open no more until what is dirty is synced. Cheap. */
bool file_cache_is_filling(struct file_cache *self);

/* Whether so much cannot be closed that the next files could be refused. Cheap. */
bool file_cache_is_full(struct file_cache *self);

enum file_cache_kind { FILE_CACHE_DESCRIPTOR, FILE_CACHE_MAP, FILE_CACHE_KIND_COUNT };

/* What can be open; inside a store or a segment, whose it is. Guarded by the cache's lock, but for
 * what is behind `object` and `fd`: that is read while the item is pinned. */
struct file_cache_item {
    struct file_cache_item *prev; /* Among the idle ones of its kind, oldest use first. */
    struct file_cache_item *next;
    enum file_cache_kind kind;
    bool open;
    bool gone; /* Its file has lost its name: never opened again. */
    unsigned pins;
    uint64_t size; /* bytes mapped */
    int fd;        /* owned while open: a descriptor's */
    void *object;  /* owned while open: a map's */
    /* Closes what a detached item had: may touch the disk. */
    void (*close)(void *context, int fd, void *object);
    void *context; /* borrowed for as long as the item is used */
};

/* Closed. */
void file_cache_item_init(struct file_cache_item *item, enum file_cache_kind kind,
                          void (*close)(void *context, int fd, void *object), void *context);

enum file_cache_outcome {
    FILE_CACHE_HIT,  /* Open and pinned: release. */
    FILE_CACHE_MISS, /* There is room: open it, then install or abandon. */
    FILE_CACHE_FULL, /* Too many files are in use. */
    FILE_CACHE_GONE, /* Its file is not there any more. */
};
enum file_cache_outcome file_cache_acquire(struct file_cache *self, struct file_cache_item *item);

/* For what has to be opened whatever the limit: never FULL. */
enum file_cache_outcome file_cache_acquire_always(struct file_cache *self,
                                                  struct file_cache_item *item);

/* After a MISS: HIT, pinned, either with what the caller has opened, which is taken over, or with
 * what somebody else had; GONE. *ret_taken tells; what was not taken, the caller closes. */
enum file_cache_outcome file_cache_install(struct file_cache *self, struct file_cache_item *item,
                                           const struct file_cache_item *opened, bool *ret_taken);

/* After a MISS: it could not be opened. HIT when somebody else could, GONE, or MISS. */
enum file_cache_outcome file_cache_abandon(struct file_cache *self, struct file_cache_item *item);

/* Unpins; closes what is too much. */
void file_cache_release(struct file_cache *self, struct file_cache_item *item);

/* Its file loses its name: from now on it is open, or never again. */
void file_cache_set_gone(struct file_cache *self, struct file_cache_item *item);

/* Closes it, if it is open: not pinned, and nobody can acquire it any more. */
void file_cache_forget(struct file_cache *self, struct file_cache_item *item);

/* Counts descriptors that are open beside the items, and cannot be closed. */
void file_cache_count(struct file_cache *self, int change);

#endif
