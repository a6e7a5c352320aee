/*
 * The newest keys of a log, in memory: which records have which, until they go to a file
 * (key_run.h). Entries in order of their offsets, and chains of those that share a bucket, newest
 * first.
 */
#ifndef QUORLOG_LOOKUP_KEY_TABLE_H
#define QUORLOG_LOOKUP_KEY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A record with a key. Ordered by hash, and newest first where that is the same. */
struct key_entry {
    uint64_t hash;
    uint64_t offset;
};

static inline int key_entry_compare(const struct key_entry *a, const struct key_entry *b)
{
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return a->offset > b->offset ? -1 : a->offset < b->offset;
}

/* Which of a key's records are wanted, and what was found of them. */
struct key_find {
    uint64_t hash;
    uint64_t from; /* offsets in [from, to) */
    uint64_t to;
    bool newest_first;
    uint64_t *offsets; /* borrowed: room for count_max, in that order */
    size_t count;
    size_t count_max;
    bool more; /* there may be others behind them */
};

enum { KEY_TABLE_ENTRY_SIZE = sizeof(struct key_entry) + 2 * sizeof(uint32_t) };

struct key_table {
    struct key_entry *entries; /* owned */
    uint32_t *before;          /* owned: an entry's next older one in its bucket, + 1; 0: none */
    uint32_t *buckets;         /* owned: the newest of each, + 1; capacity of them */
    size_t count;
    size_t capacity; /* a power of two, or 0 */
};

void key_table_init(struct key_table *self);
void key_table_fini(struct key_table *self);
void key_table_clear(struct key_table *self);

/* Room for `count` more. ERR_NOMEM: nothing was changed. */
enum err key_table_reserve(struct key_table *self, size_t count);

/* Room was reserved; offsets go up. */
void key_table_add(struct key_table *self, const struct key_entry *entry);

/* Appends to what was found. */
void key_table_find(const struct key_table *self, struct key_find *find);

#endif
