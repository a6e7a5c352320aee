/*
 * The disk of the exhaustive tests: a mem_io whose n-th call fails, and the ways to lose power.
 */
#ifndef QUORLOG_TESTS_LIB_EXHAUST_DISK_H
#define QUORLOG_TESTS_LIB_EXHAUST_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "sim/mem_io.h"

struct exhaust_disk_order {
    unsigned fail_at;    /* The counted call that fails; 0: none. */
    bool changes_only;   /* Count only calls that may change something. */
    int errno_value;     /* positive */
    bool dead;           /* From there on all calls fail, counted or not. */
    bool sticky;         /* … or all of those that are counted. */
    bool short_transfer; /* Reads and writes do less than they are asked to. */
    uint64_t random;     /* Of torn and short writes. */
};

struct exhaust_disk {
    struct io io;        /* What the code under test gets. */
    struct mem_io under; /* For the test: never fails by itself. */
    struct exhaust_disk_order order;
    bool counting;
    unsigned calls;    /* counted so far */
    int failing;       /* The errno of the call that is under way; 0: none. */
    const char *verb;  /* What it is. */
    char failed[4200]; /* The first call that failed: "pwritev '/a/b'". */
};

void exhaust_disk_init(struct exhaust_disk *self);
void exhaust_disk_fini(struct exhaust_disk *self);

/* From now on calls count from 1 and fail as ordered. */
void exhaust_disk_begin(struct exhaust_disk *self, const struct exhaust_disk_order *order);
/* None fails any more. */
void exhaust_disk_end(struct exhaust_disk *self);

enum exhaust_loss {
    LOSE_NOTHING, /* The process died, the machine did not. */
    LOSE_ALL,
    LOSE_DATA,  /* Names stay. */
    LOSE_NAMES, /* Data stay. */
    LOSE_SOME,  /* By chance. */
    LOSE_ORDER, /* By chance, and unsynced changes of names that do not depend on each other last
                   in any order. */
};

/* The process, or the machine, dies. */
void exhaust_disk_crash(struct exhaust_disk *self, enum exhaust_loss loss, uint64_t random);

/* splitmix64 */
uint64_t exhaust_random(uint64_t *state);

#endif
