/*
 * Assertions for our own mistakes. They are on in every build: a program that is wrong about its
 * own state must stop before it writes. Bytes from disk, peers, users or configuration get an
 * `enum err` instead.
 */
#ifndef QUORLOG_BASE_ASSERT_H
#define QUORLOG_BASE_ASSERT_H

#define ASSERT(condition)                                                                          \
    ((condition) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__, __func__))

/* a implies b. */
#define IMPLIES(a, b) (!(a) || (b))

/* Prints the condition and the place to stderr and aborts. */
_Noreturn void assert_failed(const char *condition, const char *file, int line,
                             const char *function);

#endif
