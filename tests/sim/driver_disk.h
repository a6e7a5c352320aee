/*
 * A node's disk, at the level of appends to its journal: what is durable, and what is on its way.
 *
 * One write at a time; it takes all appends that wait (group commit). A crash leaves of the write
 * under way a prefix that ends between two entries, and nothing of what waits. The ballot is
 * durable at once.
 */
#ifndef QUORLOG_TESTS_SIM_DRIVER_DISK_H
#define QUORLOG_TESTS_SIM_DRIVER_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/message.h"
#include "raft_fsm/raft_driver_log.h"
#include "sim/prng.h"

struct disk_append {
    struct entry *entries; /* owned array of owned entries */
    unsigned count;
    bool skipped; /* void since an install: it is answered, not written */
    struct disk_append *next;
};

struct disk {
    uint64_t term;
    uint64_t vote;
    struct snapshot snapshot;   /* index 0: none; owns its slices */
    struct raft_driver_log log; /* durable */
    struct disk_append *head;   /* waiting and under way, oldest first */
    struct disk_append *tail;
    unsigned queued;  /* appends in the list */
    unsigned writing; /* the first so many of them are under way */
};

void disk_init(struct disk *self);
void disk_fini(struct disk *self);

void disk_append(struct disk *self, const struct entry *entries, unsigned count);

/* Begins a write of all that waits; false when there is nothing or one is under way. */
bool disk_write(struct disk *self);

/* The write is done. Returns how many appends it held. */
unsigned disk_written(struct disk *self);

/* An install has made void what waits: with skip, it is not written. */
void disk_void(struct disk *self, bool skip);

/* A durable snapshot; takes references. */
void disk_put_snapshot(struct disk *self, const struct snapshot *snapshot);

void disk_crash(struct disk *self, struct prng *prng);

void snapshot_ref(const struct snapshot *self);
void snapshot_unref(struct snapshot *self);

#endif
