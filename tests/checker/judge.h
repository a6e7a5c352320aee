/*
 * Puts a story before the checker.
 */
#ifndef QUORLOG_TESTS_CHECKER_JUDGE_H
#define QUORLOG_TESTS_CHECKER_JUDGE_H

#include "checker/checker.h"
#include "generator.h"

/* options may be NULL. The caller frees it. */
struct checker *judge(const struct story *story, const struct checker_options *options);

/* A bit for each violated rule. */
uint64_t judge_violated(const struct story *story, const struct checker_options *options);

/* What is violated, in words, on stderr: for a test that is about to fail. */
void judge_explain(const struct story *story);

#endif
