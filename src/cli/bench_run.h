/*
 * One run of a bench: topics, connections, a second that does not count, then what is measured,
 * then a wait for what is still under way, and the figures.
 *
 *      open ──► warm up (1 s) ──► measure (--seconds) ──► drain (10 s at most) ──► figures
 *
 * Whatever the cluster does, it ends: a backlog that it does not work off while the run drains is
 * counted, and left.
 */
#ifndef QUORLOG_CLI_BENCH_RUN_H
#define QUORLOG_CLI_BENCH_RUN_H

#include "cli/bench_cost.h"
#include "cli/bench_follow.h"
#include "cli/bench_load.h"

enum { BENCH_WARM_S = 1, BENCH_DRAIN_S = 10 };

struct bench_options {
    bool json;
    bool end_to_end; /* with follow */
    struct load_options load;
    struct follow_options follow;
};

struct bench {
    const struct bench_options *options; /* borrowed */
    struct client *control;              /* borrowed; its loop is everybody's */
    uv_timer_t ticker;                   /* keeps the loop turning */
    uv_signal_t interrupt;
    bool watching; /* … interrupts */
    unsigned interrupts;
    struct load load;
    struct follow follow;
    struct cost before;
    struct cost after;
    uint64_t first_ns; /* of what was measured */
    uint64_t last_ns;
    uint64_t behind_ns;     /* open loop: at the end of what was measured */
    uint64_t own_cpu_us;    /* of this process, meanwhile; until then: before */
    uint64_t shown_ns;      /* progress, on a terminal */
    uint64_t shown_count;   /* records acknowledged then … */
    uint64_t shown_streams; /* … and records delivered */
};

/* Runs it on a client of its own loop, prints the figures, and returns the exit code. options are
 * borrowed. The client is only to be closed afterwards. */
int bench_run(const struct bench_options *options, struct client *control);

#endif
