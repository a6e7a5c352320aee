/*
 * Compacts a log as a node's cleaner does, all at once: for tests of what reads compacted logs.
 */
#ifndef QUORLOG_TESTS_RECORD_COMPACT_LOG_H
#define QUORLOG_TESTS_RECORD_COMPACT_LOG_H

#include <stdint.h>

#include "log/log.h"

struct compact_log_options {
    uint64_t clean_to;
    uint64_t tombstones_below;
    unsigned group_max;  /* so many neighbouring segments become one at most; 0: one */
    uint32_t batch_size; /* as the compactor's */
    unsigned codec;
};

/* Rewrites the sealed segments that end at or below clean_to, and syncs the log. Fails the test
 * when anything does not work. Returns up to where all is clean. */
uint64_t compact_log(struct log *log, const struct compact_log_options *options);

#endif
