/*
 * Reads all of a log whose files may be anything: every offset is in a batch, in a hole, or
 * damaged.
 */
#ifndef QUORLOG_TESTS_FUZZ_LOG_WALK_H
#define QUORLOG_TESTS_FUZZ_LOG_WALK_H

#include "log/log.h"

void log_walk(struct log *log);

#endif
