/*
 * A log of five sealed segments of ten batches, two records each, and an active one, to be
 * rewritten.
 */
#ifndef QUORLOG_TESTS_LOG_REWRITE_LAB_H
#define QUORLOG_TESTS_LOG_REWRITE_LAB_H

#include <stdint.h>

#include "log/log_fixture.h"

/* A new one, all of it synced. */
void rewrite_lab_open(struct fixture *self);

/* The base offset of the n-th segment. */
uint64_t rewrite_lab_base(struct fixture *self, unsigned n);

/* The segments [first, last), three batches becoming one. */
struct rewriting rewrite_lab_segments(struct fixture *self, unsigned first, unsigned last);

void rewrite_lab_rewrite(struct fixture *self, const struct rewriting *rewriting);

/* One segment: of ten batches the last one stays, at its place; those before it become two. */
void rewrite_lab_rewrite_to_the_same_size(struct fixture *self, uint64_t from, uint64_t to);

#endif
