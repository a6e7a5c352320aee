/*
 * A struct io that fails when it is told to, in front of any other.
 *
 *      code under test ──► faulty_io ──► io_real(), a mem_io, another faulty_io
 *
 * It counts the calls that its mask selects. The usual test runs once to learn the number of calls
 * N, and then once for each n in [1, N] with the n-th call failing.
 *
 * What fails, fails as the kernel does it: a write may leave a prefix behind, close and unmap
 * release their object, everything else changes nothing. Any thread.
 */
#ifndef QUORLOG_TESTS_LIB_FAULTY_IO_H
#define QUORLOG_TESTS_LIB_FAULTY_IO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

enum {
    /* open without O_CREAT and O_TRUNC, pread, advise_random, size, read-only map, list, lock,
       free_space */
    FAULTY_READS = 1,
    /* open that may change something, pwritev, fdatasync, write_back, truncate, allocate, reserve,
     * writable map, rename, unlink, mkdir, rmdir, sync_dir */
    FAULTY_WRITES = 2,
    /* close, unmap */
    FAULTY_CLOSES = 4,
    FAULTY_ALL = FAULTY_READS | FAULTY_WRITES | FAULTY_CLOSES,
};

struct faulty_io {
    struct io io;         /* What the code under test gets: &faulty.io. */
    struct io *under;     /* borrowed for as long as this is used */
    pthread_mutex_t lock; /* Guards all below. */
    unsigned mask;        /* FAULTY_*: which calls count and may fail. */
    unsigned calls;       /* Counted so far. */
    unsigned fail_at;     /* The value of calls at which one fails; 0: never. */
    int errno_value;      /* positive */
    bool sticky;
    bool short_writes;
    uint64_t random; /* State of the generator that cuts writes: the same in every run. */
};

/* Counts all calls, fails none. */
void faulty_io_init(struct faulty_io *self, struct io *under);

/* The nth counted call from now (1: the next, 0: none) returns -errno_value; sticky: so do all
 * after it. A later call of this function replaces the order. */
void faulty_io_fail_at(struct faulty_io *self, unsigned nth, int errno_value, bool sticky);

/* Counts only calls of these classes (FAULTY_*); only they can fail. */
void faulty_io_count_only(struct faulty_io *self, unsigned mask);

/* Counted calls since init, the failed ones included. */
unsigned faulty_io_calls(const struct faulty_io *self);

/* Each pwritev of more than one byte writes only a part: at least one byte, or, where position and
 * sizes suit O_DIRECT, at least one sector of 512. */
void faulty_io_short_writes(struct faulty_io *self, bool on);

#endif
