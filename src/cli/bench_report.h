/*
 * What a bench tells: a line of progress, a table for people, an object for programs.
 */
#ifndef QUORLOG_CLI_BENCH_REPORT_H
#define QUORLOG_CLI_BENCH_REPORT_H

#include "cli/bench_run.h"

/* The time since the last line of progress. */
struct bench_moment {
    double seconds;
    uint64_t left_s;
    uint64_t records;
    uint64_t deliveries;
    bool warming;
    bool draining;
};

/* Shows it on the terminal that stderr is; with load.recent. */
void bench_report_moment(const struct bench *bench, const struct bench_moment *moment);

/* Removes the line. */
void bench_report_clear(const struct bench *bench);

/* Whether an open loop's rate was kept: all its records were acknowledged, and at the end of what
 * was measured it was not further behind than a hundredth of that time, or 100 ms. */
bool bench_report_is_kept(const struct bench *bench);

/* Prints the figures. */
void bench_report(const struct bench *bench);

#endif
