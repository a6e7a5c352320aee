/*
 * A replica: one node's copy of a raft group, without threads, sockets, clock or disk of its own.
 *
 * It joins the driver (decides), the journal's tasks (what is durable), the state machine (what is
 * applied) and snapshots, and turns proposals into entries and committed entries into answers. Its
 * owner, the group's thread in a server (group.h) or the simulator in tests, calls it with what
 * happened and does what it asks for through `struct replica_host`. One thread; the host's
 * functions must not call back into the replica, but for accessors.
 *
 *   Life of a proposal:
 *     replica_propose  queued; refused at once when not the leader
 *     replica_flush    all that is queued is packed into few entries → driver → journal and peers
 *     applied          the entry comes back committed: every command's result → proposal->done
 *                      (with acks_all when all voters have it, or time is up: replica_acks.c)
 *     or lost          leadership went: done with ERR_LEADERSHIP_LOST, outcome unknown
 *
 *     or refused       ERR_NOSPACE: too few disks have room; nothing was proposed (replica_room.c)
 *
 *   Life of a snapshot:
 *     entries_size since the last one > snapshot_size → state copied → job: sync the logs, write
 *     the snapshot file → driver compacts → journal is trimmed, deleted topics' files go
 *
 *   Life of an install (this replica was too far behind):
 *     driver asks → plan → FETCH the missing ranges from the leader, chunk by chunk → job: sync,
 *     write the snapshot file → journal reset → state switched → driver goes on. A source that
 *     cannot deliver, or FETCH unanswered for too long: abandoned, the core starts anew.
 *
 * Any result but those documented means that the node must stop: a disk failed or safety is broken.
 *
 * Invariants:
 *   R1  Every proposal's done is called exactly once, never from inside replica_propose.
 *   R2  A result other than LEADERSHIP_LOST is that of the command's own entry, applied here;
 *       NOT_CONFIRMED stands for OK where acks_all was not reached.
 *   R3  The journal is trimmed only up to what the snapshot on the disk covers.
 */
#ifndef QUORLOG_RAFT_FSM_REPLICA_H
#define QUORLOG_RAFT_FSM_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/err.h"
#include "base/io.h"
#include "raft_fsm/command.h"
#include "raft_fsm/fsm.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/message.h"
#include "raft_fsm/raft_driver.h"

struct replica;

#define REPLICA_RESERVE_DEFAULT UINT64_MAX /* a twentieth of the disk, at most 256 MiB */

struct replica_options {
    uint64_t id;
    const char *address; /* in, copied */
    const char *dir;     /* in, copied: holds journal/, topics/, ballot, snapshot; exists */
    /* A node that begins a cluster: its first members, the same on all of them. NULL when it joins
     * one. Ignored when the directory has data. */
    const struct membership *bootstrap;
    unsigned heartbeat_ms;         /* 0: 50 */
    unsigned election_ms;          /* 0: 300 */
    uint64_t snapshot_size;        /* bytes of entries between snapshots; 0: 64 MiB */
    size_t trailing_size;          /* bytes of entries kept behind one; 0: 32 MiB */
    unsigned trailing_min;         /* entries kept behind one at least; 0: 32 */
    size_t entry_size_max;         /* pack commands up to this many bytes; 0: 512 KiB */
    size_t inflight_size_max;      /* bytes proposed and not yet applied; 0: 16 MiB */
    uint64_t journal_segment_size; /* 0: 64 MiB */
    uint64_t segment_size_max;     /* of topics; 0: 64 MiB */
    uint64_t seed;                 /* 0: from the clock's random */
    bool no_direct;                /* as in journal_options */
    uint64_t disk_reserve;         /* bytes that are to stay free (room.h); 0: nobody looks;
                                      REPLICA_RESERVE_DEFAULT: a part of the disk */
};

/* A piece of work that may block for long: the host calls run on another thread (one job at a
 * time is enough), then done on the replica's. */
struct replica_job {
    struct replica_job *next; /* the host's, while it has the job */
    void (*run)(struct replica_job *job);
    void (*done)(struct replica_job *job);
};

struct replica_host {
    void *arg;
    const struct clock *clock; /* borrowed */
    struct io *io;             /* borrowed */
    const struct diag *diag;   /* borrowed; may be NULL */

    /* Hands over a task; performed in order, answered by replica_journal_done. */
    void (*journal)(void *arg, struct journal_task *task);
    /* Sends to message->to; may be lost. Borrowed until return. */
    void (*send)(void *arg, const struct message *message);
    void (*job)(void *arg, struct replica_job *job);
    /* Something that other threads look at changed: ends of topics, applied index, role, leader. */
    void (*published)(void *arg);
};

/* A command to replicate. Owned by the caller; must stay in place until done is called. */
struct proposal {
    struct proposal *next; /* the replica's, until done */
    struct command
        command; /* owned by the proposal; freed (command_fini) by its owner after done */
    /* Done when all voters have it on disk, or after confirm_ms with ERR_NOT_CONFIRMED. */
    bool acks_all;
    uint64_t confirm_ms;    /* counted from replica_propose */
    uint64_t confirm_at_ms; /* the replica's */
    struct fsm_result result;
    /* With OK and NOT_CONFIRMED: so many voters, of so many, were known to have it on disk. */
    unsigned replicas;
    unsigned voters;
    void (*done)(struct proposal *proposal);
};

/*
 * Opens what is in options->dir, or begins anew. Blocks: reads the journal, opens the logs.
 * *ret_journal: the journal, for the host to perform tasks on (journal_perform) from now on, in one
 * thread at a time; the host closes it after replica_close. Errors: as journal_open, ballot_open,
 * fsm_open; ERR_CORRUPT, ERR_INVALID with text.
 */
enum err replica_open(const struct replica_options *options, const struct replica_host *host,
                      struct replica **ret_replica, struct journal **ret_journal,
                      struct err_info *info);

/* Every proposal that is not done is done, now, with err. */
void replica_fail(struct replica *self, enum err err);

/* Ends it: every proposal that is not done is done with ERR_SHUTDOWN. No job and no journal task
 * may be under way. Only memory and files are given back; a replica may be closed at any time and
 * opened again (a crash does the same). */
void replica_close(struct replica *self);

/* When replica_tick wants to be called, monotonic milliseconds. Ask after every call. */
uint64_t replica_deadline_ms(const struct replica *self);
enum err replica_tick(struct replica *self, struct err_info *info);

/* A verified message from another replica. Borrowed. */
enum err replica_receive(struct replica *self, const struct message *message,
                         struct err_info *info);

/* Queues a proposal; done comes later, from replica_flush or any other call. */
void replica_propose(struct replica *self, struct proposal *proposal);

/* Proposes what is queued, as far as the bounds on what is in flight allow. Call it when all that
 * waits has been queued, and after every other call. */
enum err replica_flush(struct replica *self, struct err_info *info);

/* True while so much is queued or in flight that the host should take no more proposals. */
bool replica_full(const struct replica *self);

/* Tasks, performed in order; freed by the replica. */
enum err replica_journal_done(struct replica *self, struct journal_task *list,
                              struct err_info *info);

/* After job->done: the job may have left an error that stops the node. */
enum err replica_job_done(struct replica *self, struct replica_job *job, struct err_info *info);

/* Instead of replica_job_done: the job was not run, or nobody wants to know (a stop, a crash).
 * Frees it; the replica is good for nothing but replica_close afterwards. */
void replica_job_discard(struct replica *self, struct replica_job *job);

/* Hands leadership to another voter if this replica leads: before a clean stop. ERR_AGAIN when no
 * voter is up to date yet (ask again), ERR_NOT_LEADER. */
enum err replica_resign(struct replica *self);

/* What others may want to know; cheap. */
struct replica_status {
    uint64_t id;
    enum raft_role role;
    uint64_t term;
    uint64_t leader_id; /* 0: none known */
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t snapshot_index;
    bool installing;
    uint64_t records;   /* applied since start */
    uint64_t memory;    /* bytes of entries held */
    uint64_t disk_free; /* as last looked at; 0 when nobody looks, as the next ones */
    uint64_t disk_size;
    uint64_t disk_reserve;
    bool disk_short;    /* nothing that grows data is begun here */
    bool disk_critical; /* … nor taken from others */
    struct membership membership;
};
void replica_status(const struct replica *self, struct replica_status *ret_status);

struct catalog *replica_catalog(struct replica *self); /* thread-safe; borrowed while open */

/* For tests. */
struct raft_driver *replica_driver(struct replica *self);
struct fsm *replica_fsm(struct replica *self);
void replica_check(const struct replica *self);

#endif
