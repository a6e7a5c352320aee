/*
 * A node's disk: a file system in memory (lib/mem_io.h) that dies or fails in the middle of a call.
 *
 * Dead, it refuses everything: what its process does from then on leaves no trace, as if it had
 * ended right there. Broken builds take promises away: syncs that do nothing, ballots that are not
 * written.
 */
#ifndef QUORLOG_TESTS_SIM_STACK_DISK_H
#define QUORLOG_TESTS_SIM_STACK_DISK_H

#include <stdbool.h>

#include "lib/mem_io.h"
#include "sim/prng.h"

/* What a broken build does wrong; bits. */
enum stack_break {
    STACK_BREAK_ACK_EARLY = 1, /* the journal says "durable" before it writes */
    STACK_BREAK_NO_DEDUP = 2,  /* producers try again without their id and sequence */
    STACK_BREAK_NO_SYNC = 4,   /* nothing is ever synced */
    STACK_BREAK_BALLOT = 8,    /* ballots are not written */
    STACK_BREAK_FILL = 16,     /* what is put into holes is never synced */
};

enum stack_disk_plan {
    STACK_DISK_FINE,
    STACK_DISK_DIE,  /* from some call on nothing is done any more */
    STACK_DISK_FAIL, /* some call fails */
};

struct stack_disk {
    struct mem_io mem;
    struct io table;   /* of mem, as it was */
    struct prng *prng; /* borrowed */
    unsigned broken;
    int ballot_fd;
    int fill_fds[32]; /* of files that fill holes; -1: none */
    enum stack_disk_plan plan;
    unsigned countdown; /* changing calls until the plan strikes */
    bool dead;
    bool struck; /* a call failed since the last restart */
};

void stack_disk_init(struct stack_disk *self, struct prng *prng, unsigned broken);
void stack_disk_fini(struct stack_disk *self);

/* The call after `calls` more that change something dies or fails. */
void stack_disk_plan(struct stack_disk *self, enum stack_disk_plan plan, unsigned calls);

/* The process has ended, with power loss or without; the disk is as good as new. */
void stack_disk_restart(struct stack_disk *self, bool power_loss);

#endif
