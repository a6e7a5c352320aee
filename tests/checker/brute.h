/*
 * The definition, tried out: is there an order of everything that happened in a topic, and for each
 * operation a moment, so that a plain array of records gives every answer?
 *
 *   A produce happens at a moment between its beginning and its end, appends all its records and is
 *   told where; one with an unknown outcome at any moment from its beginning on, or never; one that
 *   was refused never. A conditional one happens only at the offset that it expects. A producer's
 *   batches happen in the order of its sequences, from 0 on, and never with an epoch below an
 *   earlier one. Acknowledged produces happen in the order of their tokens.
 *   A read shows the array's length and some of it, at a moment before its end: a linearizable one
 *   not before its beginning, one with max lag not longer before, one with a token not before all
 *   acknowledged produces up to that token.
 *   Dumps hold the array as it is when all is over.
 *
 * Moments may coincide in any order, so what ends when another begins is concurrent with it.
 * Exponential: for about ten operations of one topic.
 */
#ifndef QUORLOG_TESTS_CHECKER_BRUTE_H
#define QUORLOG_TESTS_CHECKER_BRUTE_H

#include "generator.h"

enum { BRUTE_OPS_MAX = 14 };

/* True: there is such an order. */
bool brute_decide(const struct story *story);

#endif
