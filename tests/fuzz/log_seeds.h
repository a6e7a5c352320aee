/*
 * The files of a log, for inputs to begin with: each as u8 kind (enum segment_file), u8 base
 * offset, a part.
 */
#ifndef QUORLOG_TESTS_FUZZ_LOG_SEEDS_H
#define QUORLOG_TESTS_FUZZ_LOG_SEEDS_H

#include "fuzz/fuzz.h"

void log_seeds_put(struct buf *to);

#endif
