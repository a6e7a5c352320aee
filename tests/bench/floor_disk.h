/*
 * The disk's floor: what the nodes' two writes cost on this machine when nothing else is done.
 *
 * N writers, each a process and each standing for one node, side by side on one file system:
 *
 *      journal thread:  batch ──► pwritev2(RWF_DSYNC), O_DIRECT, 512-byte boundary ──┐
 *      topics thread:             pwritev of header and body of each client's batch ◄┘ ──► counted
 *
 * with the sizes, flags and files of src/raft_fsm/journal.c and src/log/store.c (and of other ways
 * to make the second write: floor_topics.h), and no raft, network, checksum or copy. A payload byte
 * counts when both writes of it are done.
 */
#ifndef QUORLOG_TESTS_BENCH_FLOOR_DISK_H
#define QUORLOG_TESTS_BENCH_FLOOR_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/histogram.h"
#include "floor_topics.h"

enum { FLOOR_WRITERS_MAX = 16 };

struct floor_load {
    const char *dir; /* borrowed; exists */
    unsigned writers;
    double seconds;
    uint64_t record_size;       /* bytes of a record's value */
    uint64_t batch_size;        /* payload bytes of one journal write, at least a record */
    uint64_t client_batch_size; /* bytes of what one client sends at once */
    enum floor_second second;   /* how topics are written, or that they are not */
};

struct floor_disk_result {
    double bytes_per_s;       /* payload, of one writer: the median of all */
    uint64_t journal_extent;  /* bytes of one journal write */
    struct histogram latency; /* of journal writes, ns, all writers */
};

/* Runs the load; says on stderr why it failed. */
bool floor_disk(const struct floor_load *load, struct floor_disk_result *ret_result);

#endif
