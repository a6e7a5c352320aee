/*
 * Many seeds, one after the other, on a few processes: what the simulators' programs have in
 * common.
 *
 * Each job is a child process that runs a stretch of the seeds. One that dies (a violation, a
 * failed assertion, a signal, an endless loop) is reported with its seed and continued behind it.
 */
#ifndef QUORLOG_SIM_CAMPAIGN_H
#define QUORLOG_SIM_CAMPAIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CAMPAIGN_JOBS_MAX = 64 };

struct campaign {
    uint64_t seed; /* the first */
    uint64_t count;
    unsigned jobs;
    bool until_red;        /* stop at the first seed that dies */
    unsigned seed_seconds; /* CPU time after which a seed is taken for an endless loop */
    int violation_exit;    /* with this exit code a child has said itself what was violated */
    int other_exit;        /* with this one the seed counts as well; 0: with none */
    const char *command;   /* how a seed is run again: "sim_driver --fifo" */
    size_t stats_size;     /* of a struct of nothing but uint64_t */
    void (*run)(const void *arg, uint64_t seed, void *stats); /* in the child; adds to stats */
    /* Runs it again and says on stdout all that happens; the last of it is shown for the first seed
     * that dies. NULL: nothing is. */
    void (*retrace)(const void *arg, uint64_t seed);
    const void *arg;
};

/* Runs all; *ret_stats (stats_size bytes) is the sum over the jobs. Returns how many seeds died.
 * Shows progress where stderr is a terminal. */
uint64_t campaign_run(const struct campaign *self, void *ret_stats, double *ret_seconds);

/* A number on the command line; false for anything else. */
bool campaign_number(const char *text, uint64_t *ret_number);

#endif
