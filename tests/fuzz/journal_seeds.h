/*
 * The segments of a journal, for inputs to begin with: each as u8 number (0x80: not as
 * long as others), a part.
 */
#ifndef QUORLOG_TESTS_FUZZ_JOURNAL_SEEDS_H
#define QUORLOG_TESTS_FUZZ_JOURNAL_SEEDS_H

#include "fuzz/fuzz.h"

/* `to` holds one byte so far. */
void journal_seeds_put(struct buf *to, unsigned variant);

#endif
