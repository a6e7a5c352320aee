/*
 * The common main of the check programs.
 */
#ifndef QUORLOG_TESTS_LIB_RUNNER_H
#define QUORLOG_TESTS_LIB_RUNNER_H

#include <check.h>

/* Runs and frees the suite; returns the exit code of the program: 0 when all tests passed. The
 * environment rules: CK_FORK=no runs in one process, CK_VERBOSITY, CK_RUN_CASE and CK_RUN_SUITE
 * are check's own. */
int runner_main(Suite *suite);

#endif
