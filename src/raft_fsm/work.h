/*
 * How much work it is to apply commands.
 *
 * What is committed is applied by the raft thread, which sends no heartbeat meanwhile and answers
 * none: so what it applies in a turn of its loop is bounded (replica_apply.c), and so is what is
 * packed into an entry, which is applied as a whole (replica_propose.c).
 *
 * Work is counted in bytes: those that are written, and for what takes time whatever its size, as
 * many as would be written meanwhile, at about a byte a nanosecond. Nothing that is decided depends
 * on it, so it need not be the same everywhere.
 */
#ifndef QUORLOG_RAFT_FSM_WORK_H
#define QUORLOG_RAFT_FSM_WORK_H

#include <stddef.h>

#include "raft_fsm/command.h"

enum {
    WORK_CALL = 4 * 1024,        /* a command, which may be a system call */
    WORK_FILE = 16 * 1024,       /* … that writes to another file than the one before */
    WORK_MAKE = 256 * 1024,      /* a topic's directory and files are made */
    WORK_ENTRY_MAX = 1024 * 1024 /* in an entry, unless its one command is more */
};

_Static_assert(2 * (int)WORK_MAKE < (int)WORK_ENTRY_MAX, "several topics fit into an entry");

struct work {
    uint64_t sum;
    uint64_t topic_id; /* of the last command that wrote; 0: none yet */
};

/* Counts a command that writes `size` bytes; topic_id: 0 unless it is a PRODUCE. */
static inline void work_add(struct work *self, enum command_type type, uint64_t topic_id,
                            size_t size)
{
    if (type == COMMAND_TOPIC_CREATE) {
        self->sum += size + WORK_MAKE;
    } else if (type == COMMAND_PRODUCE && topic_id != self->topic_id) {
        self->sum += size + WORK_FILE;
        self->topic_id = topic_id;
    } else {
        self->sum += size + WORK_CALL;
    }
}

#endif
