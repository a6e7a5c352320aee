/*
 * A node's disk: a file system in memory (sim/mem_io.h) that dies or fails in the middle of a call.
 *
 * Dead, it refuses everything: what its process does from then on leaves no trace, as if it had
 * ended right there. Broken builds take promises away: syncs that do nothing, ballots that are not
 * written.
 */
#ifndef QUORLOG_SIM_DISK_H
#define QUORLOG_SIM_DISK_H

#include <stdbool.h>

#include "sim/breaks.h"
#include "sim/mem_io.h"
#include "sim/prng.h"

enum { SIM_DISK_OPEN_MAX = 1024 }; /* files at a time that a broken build can have */

enum sim_disk_plan {
    SIM_DISK_FINE,
    SIM_DISK_DIE,  /* from some call on nothing is done any more */
    SIM_DISK_FAIL, /* some call fails */
};

struct sim_disk {
    struct mem_io mem;
    struct io table;   /* of mem, as it was */
    struct prng *prng; /* borrowed */
    uint64_t size;     /* bytes */
    unsigned broken;
    int ballot_fd;
    int unsynced[SIM_DISK_OPEN_MAX]; /* fds whose syncs do nothing; by slot; 0: none */
    bool renamed;                    /* a snapshot, just now; a broken build's */
    enum sim_disk_plan plan;
    unsigned countdown; /* changing calls until the plan strikes */
    bool dead;
    bool struck;   /* a call failed since the last restart */
    bool full;     /* somebody else has taken the room, or nearly all … */
    bool was_full; /* … since the last restart */
};

void sim_disk_init(struct sim_disk *self, struct prng *prng, unsigned broken);
void sim_disk_fini(struct sim_disk *self);

/* The call after `calls` more that change something dies or fails. */
void sim_disk_plan(struct sim_disk *self, enum sim_disk_plan plan, unsigned calls);

/* Somebody else leaves so many bytes free; UINT64_MAX: as many as there were. */
void sim_disk_fill(struct sim_disk *self, uint64_t free_size);

/* A broken build's snapshots: without the producers. */
void sim_disk_forget_producers(struct sim_disk *self);

/* The process has ended, with power loss or without; the disk is as good as new. */
void sim_disk_restart(struct sim_disk *self, bool power_loss);

#endif
