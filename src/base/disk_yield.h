/*
 * The kernel's calls, with turns at the disk: somebody waits for a durable write, while who reads a
 * file from one end to the other can wait.
 *
 *      durable write (pwritev with RWF_DSYNC)   never waits; is noted while it is under way
 *      pread_forward                            nobody has written for a while: as much as is asked
 *                                               for, and what comes behind is read ahead
 *                                               else: what is in the page cache, at once; what is
 *                                               not, in pieces, one reader at a time, none while a
 *                                               write is under way
 *
 * A piece is small: a write that comes while one is read waits for that one alone. A reader waits
 * for wait_max_us at most before each piece, so that it gets on beside a writer who never rests:
 * DISK_YIELD_PIECE bytes each wait_max_us.
 *
 * It is about one disk: all files that are used through it are taken to be on the same one. A sync
 * is none of it: nobody waits for one while records are written.
 */
#ifndef QUORLOG_BASE_DISK_YIELD_H
#define QUORLOG_BASE_DISK_YIELD_H

#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"

struct disk_yield;

enum {
    DISK_YIELD_PIECE = 128 * 1024,      /* bytes that a reader takes in its turn */
    DISK_YIELD_AHEAD = 2 * 1024 * 1024, /* bytes that are read ahead where nobody writes */
    DISK_YIELD_QUIET_MS = 10,           /* Then nobody has written for a while. */
};

/* wait_max_us: 0: readers never wait. clock: borrowed. ERR_NOMEM. */
enum err disk_yield_new(const struct clock *clock, uint32_t wait_max_us,
                        struct disk_yield **ret_yield);

/* Nothing is under way any more (ASSERT). NULL is fine. */
void disk_yield_free(struct disk_yield *self);

/* Borrowed; any thread. */
struct io *disk_yield_io(struct disk_yield *self);

/* Around a durable write that is made in another way. Any thread. */
void disk_yield_begin_write(struct disk_yield *self);
void disk_yield_end_write(struct disk_yield *self);

struct disk_yield_stats {
    uint64_t waits;   /* pieces that had to wait */
    uint64_t wait_us; /* … how long, in all */
    uint64_t expired; /* … of them as long as they may */
};

void disk_yield_stats(struct disk_yield *self, struct disk_yield_stats *ret_stats);

#endif
