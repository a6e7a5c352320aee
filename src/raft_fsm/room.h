/*
 * How much room a node's disk has, and the ballast that keeps some for the worst moment.
 *
 *                   free < reserve            free < reserve / 2
 *      +--------+ ----------------> +-------+ ----------------> +----------+   below a quarter the
 *      | PLENTY |                   | SHORT |                   | CRITICAL |   ballast is given up
 *      +--------+ <---------------- +-------+ <---------------- +----------+
 *                  >= 5/4 reserve              >= 3/4 reserve
 *
 * SHORT: nothing that grows data is begun; CRITICAL: nothing that others began is taken either.
 * What is under way has the rest of the reserve, and the ballast: a file of this node's own, so no
 * other program can take its place. It is made again when there is plenty. statvfs and no more is
 * called at each check; the owner says when.
 *
 * Invariants:
 *   I1  The state is that of the last check, by the marks above.
 *   I2  has_ballast: dir/ballast has ballast_size bytes on the disk.
 */
#ifndef QUORLOG_RAFT_FSM_ROOM_H
#define QUORLOG_RAFT_FSM_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/io.h"

enum { ROOM_CHECK_MS = 100 };

enum room_state { ROOM_PLENTY, ROOM_SHORT, ROOM_CRITICAL };

struct room {
    struct io *io;           /* borrowed */
    const char *dir;         /* borrowed */
    const struct diag *diag; /* borrowed; may be NULL */
    uint64_t reserve;        /* 0: not watched, always PLENTY; UINT64_MAX, to room_init: a
                                twentieth of the disk, at most 256 MiB */
    uint64_t ballast_size;
    bool has_ballast;
    enum room_state state;
    uint64_t free; /* at the last check */
    uint64_t total;
    uint64_t written; /* bytes, told by room_wrote since then */
};

/* Looks for the first time; makes or keeps the ballast, or gives it up. The caller fills io, dir,
 * diag, reserve. Blocks. No failure: what cannot be told is plenty, and logged. */
void room_init(struct room *self);

/* Asks the disk; true when the state has changed. */
bool room_check(struct room *self);

/* So many bytes were written, or are about to be; true: check now. */
bool room_wrote(struct room *self, uint64_t size);

#endif
