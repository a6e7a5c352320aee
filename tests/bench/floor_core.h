/*
 * The core's floor: what raft alone costs on this machine. Three drivers of libraft's core in one
 * process and one thread; messages are handed over, and every write is durable at once:
 *
 *      propose ──► leader's driver ──► message ──► followers' drivers ──► message ──► applied
 *                       └─ append: answered ─┘         └─ append: answered ─┘
 *
 * The entries are real: made, with their checksums, by the leader, and referred to by the others.
 * Time is virtual and passes when there is nothing else to do, so no timer falls into what is
 * measured.
 */
#ifndef QUORLOG_TESTS_BENCH_FLOOR_CORE_H
#define QUORLOG_TESTS_BENCH_FLOOR_CORE_H

#include <stdbool.h>
#include <stddef.h>

struct floor_core_load {
    double seconds;
    size_t entry_size;     /* bytes of a payload */
    unsigned propose_size; /* entries in one proposal, 1 to FLOOR_CORE_PROPOSE_MAX */
};

enum { FLOOR_CORE_PROPOSE_MAX = 256 };

/* Entries a second that the leader has applied, one proposal after the other. All three have
 * applied all of them, in order, before it returns; anything else ends the program. */
double floor_core(const struct floor_core_load *load);

#endif
