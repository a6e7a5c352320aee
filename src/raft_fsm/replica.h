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
 *   Life of a read index (for a read that must see all that was acknowledged before it):
 *     replica_read        queued
 *     replica_read_flush  all that is queued shares a round of the driver's (raft_driver_read.c)
 *     confirmed           done with the index; or leadership went: ERR_NOT_LEADER
 *
 *   Life of a snapshot:
 *     entries_size since the last one > snapshot_size → state copied → job: sync the logs, write
 *     the snapshot file → driver compacts → journal is trimmed, deleted topics' files go
 *
 *   Life of an install (this replica was too far behind):
 *     driver asks → the manifest is the state at once, what the logs lack are holes → job: sync,
 *     write the snapshot file → journal reset → driver goes on, entries are applied above the
 * holes.
 *
 *   Life of a hole (from an install; from files that were gone or damaged; from damage found):
 *     FETCH chunk by chunk from any replica that has it → job: verify against the digest chain →
 *     put into the log → … → the end meets what is above. Peers that are silent, lack it or give
 *     what does not follow are passed over. What is on the disk is all that a restart needs to go
 *     on. A replica with holes votes and replicates as others do, and gives leadership away.
 *
 *   Life of a record's end (retention, replica_retention.c): now and then the leader adds to the
 * ages of all entries what its monotonic clock counted (AGE), looks which topics have passed a
 * bound, and proposes where they start (TOPIC_TRIM) → applied: nobody reads below → a snapshot is
 * taken → the files go.
 *
 *   Life of a superseded record (compaction, replica_compact.c): the leader proposes how far nodes
 * may go (COMPACT) → applied → every node, in its own time, notes the keys, reads its segments and
 * puts others in their place, in which the record is not, at compact_rate.
 *
 *   Life of damage: the scrubber reads everything at scrub_rate, or a read elsewhere met it →
 *     told → log_punch in a job → a hole. (A replica without peers tells it, and leaves it.)
 *
 * Any result but those documented means that the node must stop: a disk failed or safety is broken.
 *
 * Invariants:
 *   R1  Every proposal's done is called exactly once, never from inside replica_propose; every
 *       read's, never from inside replica_read.
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
#include "raft_fsm/membership_plan.h"
#include "raft_fsm/message.h"
#include "raft_fsm/raft_driver.h"

struct replica;
struct turns;

#define REPLICA_RESERVE_DEFAULT UINT64_MAX /* a twentieth of the disk, at most 256 MiB */

struct replica_options {
    uint64_t id;
    uint64_t disk_id;    /* random, made with the directory; 0: none, nothing is bound */
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
    struct file_cache *files;      /* of topics; a reference is taken; NULL: one of its own */
    uint64_t fill_rate;     /* bytes a second that are asked for to fill holes; 0: no limit */
    size_t fill_chunk_size; /* bytes asked for at once; 0: 1 MiB, which is the most, too */
    uint64_t scrub_rate;    /* bytes a second read again to find damage; 0: none */
    uint64_t compact_rate;  /* bytes a second read and written to compact topics; 0: none is */
    size_t compact_memory;  /* bytes that keys of a topic take meanwhile; 0: 32 MiB */
    unsigned retention_interval_ms; /* between two looks at what retention deletes; 0: 10 000 */
    bool retention_by_wall_clock;   /* wrong on purpose: for tests of tests only */
    uint64_t seed;                  /* 0: from the clock's random */
    bool no_direct;                 /* as in journal_options */
    uint64_t disk_reserve;          /* bytes that are to stay free (room.h); 0: nobody looks;
                                       REPLICA_RESERVE_DEFAULT: a part of the disk */
    unsigned rules_off;             /* the driver's (raft_driver.h): for tests only */
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
    struct turns *turns; /* borrowed: told of the steps (raft_fsm/steps.h); NULL: nobody measures */

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

/* Every proposal and read that is not done is done, now, with err. */
void replica_fail(struct replica *self, enum err err);

/* Ends it: every proposal and read that is not done is done with ERR_SHUTDOWN. No job and no
 * journal task may be under way. Only memory and files are given back; a replica may be closed at
 * any time and opened again (a crash does the same). */
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

/* True while so much is queued or in flight, or leadership is being handed over, that the host
 * should take no more proposals. */
bool replica_full(const struct replica *self);

/* Someone who wants to know an entry that a replica must have applied to show everything that was
 * acknowledged before the asking. Owned by the caller; must stay in place until done is called. */
struct replica_read {
    struct replica_read *next; /* the replica's, until done */
    enum err err;              /* ERR_OK, ERR_NOT_LEADER, or what replica_fail was given */
    uint64_t index;            /* the entry's */
    void (*done)(struct replica_read *read);
};

/* Queues a read; done comes later, from replica_read_flush or any other call. */
void replica_read(struct replica *self, struct replica_read *read);

/* Begins a round for what is queued, if none is under way. Call it when all that waits has been
 * queued. */
enum err replica_read_flush(struct replica *self, struct err_info *info);

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

/* A read of a topic met damage at or a little behind `offset`: it is looked at, and punched if
 * others have it. Takes effect with replica_tick. */
void replica_report_damage(struct replica *self, uint64_t topic_id, uint64_t offset);

/* One step of a goal, as membership_plan.h says. */
struct member_step {
    struct member_goal goal;
    bool surveyed; /* facts hold what the members answered a moment ago */
    struct member_fact facts[MEMBERSHIP_MAX + 1];
    unsigned fact_count;
    struct member_plan plan; /* what was done */
};

/* Decides and takes it. What is refused is in step->plan: ERR_NOT_LEADER when this replica does not
 * lead. Fails as any call here. */
enum err replica_member_step(struct replica *self, struct member_step *step, struct err_info *info);

/* The disk that a node's id is bound to, by the state machine or by an entry that is not applied
 * yet (nodes_ahead.h); 0: none yet. A number that grows with every change, and all of them. */
uint64_t replica_disk_id(const struct replica *self, uint64_t node_id);
uint64_t replica_disks_version(const struct replica *self);
void replica_disks(const struct replica *self, struct nodes *ret_nodes);

/* A node showed its disk: the leader sees to it that a member's is bound, before it may vote. */
void replica_learn_disk(struct replica *self, uint64_t node_id, uint64_t disk_id);

/* The state as it is applied now, as a snapshot that stands for all entries up to there; what it
 * promises is in the logs, and not synced. For a copy that leaves the cluster. *ret_snapshot owns
 * references. ERR_BUSY while a snapshot is installed, or nothing was applied yet; ERR_NOMEM,
 * ERR_TOO_LARGE. */
enum err replica_capture(const struct replica *self, struct snapshot *ret_snapshot);

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
    uint64_t records;           /* applied since start */
    uint64_t memory;            /* bytes of entries held */
    uint64_t holes;             /* ranges of topics that are not here; 0: complete */
    uint64_t missing;           /* records in them */
    uint64_t filled;            /* bytes put into holes since start */
    uint64_t fill_rate;         /* bytes a second, lately */
    uint64_t fill_left_s;       /* seconds until the last hole is filled; 0: not known, or none */
    uint64_t scrub_batches;     /* verified by the scrubber since start */
    uint64_t scrub_bytes;       /* of them */
    uint64_t scrub_damage;      /* places where it found damage, those that reads met included */
    uint64_t scrub_passed_ms;   /* since 1970: when it had gone through everything; 0: not yet */
    uint64_t compact_bytes_in;  /* of segments that were compacted since start, before … */
    uint64_t compact_bytes_out; /* … and after it */
    uint64_t compact_dropped;   /* records that went in it */
    char compact_topic[TOPIC_NAME_SIZE_MAX + 1]; /* that is being compacted now; "": none is */
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
