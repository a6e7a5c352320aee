/*
 * The indexes of one topic: which files there are, what is still in memory, what is missing.
 *
 * The worker (lookup's thread) changes them; any thread reads them under the lock, which is held
 * for look-ups and moves in memory, never while a file is touched. Files that a reader uses stay
 * open for it, whatever is removed.
 *
 * Invariants:
 *   I1  A kind's files are in order and do not overlap; what is in memory overlaps none of them.
 *   I2  What a kind covers is indexed wholly: each batch there was added.
 */
#ifndef QUORLOG_LOOKUP_TOPIC_INDEXES_H
#define QUORLOG_LOOKUP_TOPIC_INDEXES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/crc32c.h"
#include "lookup/key_run.h"
#include "lookup/key_table.h"
#include "lookup/lookup.h"
#include "lookup/part.h"
#include "lookup/time_part.h"

/* Where memory is short an element is not in the table, and has `hashed` false. */
#define HASH_NONFATAL_OOM 1
/* NOLINTNEXTLINE(readability-identifier-naming): the name is uthash's. */
#define uthash_nonfatal_oom(element) ((element)->hashed = false)
#define HASH_FUNCTION(key, size, result) ((result) = crc32c((key), (size)))
#include <uthash.h>

/* A file. */
struct part {
    atomic_uint refs;
    struct part_seal seal;
    uint64_t size; /* bytes */
    uint64_t checked_ms;
    bool verified;          /* keys: may be used; under the lock of its topic */
    struct key_stamp stamp; /* keys, once it is */
    atomic_bool gone;       /* damaged, or being removed: it is not asked any more */
    /* keys; under the lookup's lock of open runs: */
    struct key_run *run; /* owned; NULL: not open */
    unsigned users;
    uint64_t used; /* when it was used last, counted */
};

struct part_list {
    struct part **items; /* owned, each with a reference */
    size_t count;
    size_t capacity;
};

/* What is in memory of a kind: offsets [base, end); nothing when equal. */
struct fresh {
    uint64_t base;
    uint64_t end;
    uint64_t segment; /* base of the log's segment that it began in */
    uint64_t size;    /* bytes of batches */
    int64_t first_time_us;
    int64_t last_time_us;
    uint8_t digest[BATCH_DIGEST_SIZE]; /* of the batch that ends at end */
    bool exact;                        /* that batch does; else the file cannot be known again */
};

struct kind_index {
    struct part_list parts;
    struct fresh fresh;
    bool wanted;
    bool ready;
    uint64_t started_ms;   /* of the building under way … */
    uint64_t offsets_done; /* … and how many since */
    enum err failed;       /* OK: it did not */
    char reason[200];
};

struct key_merge;

struct topic_indexes {
    atomic_uint refs;
    UT_hash_handle hh; /* by id */
    bool hashed;
    uint64_t id;
    struct topic *topic; /* owned reference */
    char name[TOPIC_NAME_SIZE_MAX + 24];
    char dir[IO_PATH_SIZE];
    pthread_mutex_t lock; /* Guards `kinds`, and the tables. */
    struct kind_index kinds[PART_KIND_COUNT];
    struct time_table times;
    struct key_table keys;
    /* Of the worker only: */
    uint64_t *hashes; /* owned: of the Bloom filter to come */
    size_t hash_count;
    size_t hash_capacity;
    struct key_merge *merge; /* owned; NULL: none under way */
    uint64_t cleaned_to;     /* the topic's, when its parts were looked at for it */
    bool loaded;
    bool listed;       /* in the catalog, when it was looked at last */
    uint64_t retry_ms; /* after a failure: not before */
};

/* Without reading anything. Takes a reference of the topic's own. ERR_NOMEM. */
enum err topic_indexes_new(const char *dir, struct topic *topic, struct topic_indexes **ret_indexes,
                           struct err_info *info);
struct topic_indexes *topic_indexes_ref(struct topic_indexes *self);
void topic_indexes_unref(struct topic_indexes *self); /* NULL is fine. */

void topic_indexes_lock(struct topic_indexes *self);
void topic_indexes_unlock(struct topic_indexes *self);

/* ---- files; under the lock, or by the worker to read ---- */

struct part *part_ref(struct part *self);
void part_unref(struct part *self); /* NULL is fine. */

/* A new one with one reference. NULL: no memory. */
struct part *part_new(const struct part_seal *seal);

/* The number of the first file that ends above offset; count when there is none. */
size_t part_list_find(const struct part_list *self, uint64_t offset);

/* Puts it in its place, taken over on success; ERR_NOMEM; ERR_EXISTS when it overlaps one. */
enum err part_list_add(struct part_list *self, struct part *part);

/* Takes one out; the caller owns its reference. */
struct part *part_list_remove(struct part_list *self, size_t at);

/* Where what a kind covers at or above `offset` begins, and ends: [*ret_from, *ret_to); false when
 * there is nothing. Under the lock. */
bool kind_index_covered(const struct kind_index *self, uint64_t offset, uint64_t *ret_from,
                        uint64_t *ret_to);

/* The lowest offset at or above `offset` that is neither covered nor in a hole; the log's end when
 * there is none. */
uint64_t kind_index_missing(const struct kind_index *self, struct log *log, uint64_t offset);

#endif
