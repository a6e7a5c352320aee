/*
 * What group.c and group_access.c share: the group itself, and its lock. See group.h.
 */
#ifndef QUORLOG_RAFT_FSM_GROUP_INTERNAL_H
#define QUORLOG_RAFT_FSM_GROUP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "raft_fsm/group.h"
#include "raft_fsm/group_inbound.h"
#include "raft_fsm/group_peers.h"
#include "raft_fsm/journal_thread.h"
#include "transport/waker.h"

enum group_state { GROUP_RUNNING, GROUP_FAILED, GROUP_RESIGNING, GROUP_CLOSING, GROUP_CLOSED };

/* A read met damage. */
struct damage_report {
    uint64_t topic_id;
    uint64_t offset;
};

enum { GROUP_DAMAGE_MAX = 16 };

struct group {
    struct group_options options;
    struct group_events events;
    enum group_state state; /* raft thread */

    pthread_t thread;
    uv_loop_t loop;
    struct waker waker;
    uv_timer_t timer;
    uv_check_t check;     /* after the events of one wait: the turn */
    uv_prepare_t prepare; /* before the next wait */
    bool turn_due;
    struct turns turns; /* of the loop: written by the raft thread, read by any */
    struct replica *replica;
    struct journal_thread *journal_thread;
    struct journal_task *tasks; /* for the journal, until the turn's end */
    struct journal_task **tasks_tail;
    struct group_peers *peers;     /* to them */
    struct group_inbound *inbound; /* from them */

    struct mailbox requests;    /* struct group_request */
    struct mailbox reads;       /* struct group_read */
    struct mailbox adoptions;   /* struct adoption */
    struct mailbox completions; /* struct completion */
    struct mailbox captures;    /* struct group_capture */

    uv_work_t work;   /* of the first of jobs, while job_running */
    bool job_running; /* on the pool, or being finished */
    struct replica_job *jobs;
    struct replica_job **jobs_tail;

    atomic_uint_fast64_t stop_at_ms; /* 0: not asked to stop */

    struct damage_report damage[GROUP_DAMAGE_MAX]; /* under the lock; what reads met */
    unsigned damage_count;

    pthread_mutex_t lock; /* Guards status, damage, and journal_thread's going. */
    struct replica_status status;
    atomic_uint_fast64_t leader_id;
    atomic_uint_fast64_t applied_index;
    struct membership members; /* that the links follow; raft thread */

    struct nodes disks;              /* as the replica knows them; guarded by lock */
    uint64_t disks_version;          /* of that; raft thread */
    struct membership guests;        /* see group_members.c; raft thread */
    struct group_events link_events; /* what the links call: events, with what we add */
};

/* A peer's connection on its way in. */
struct adoption {
    struct mail mail;
    struct group_connection connection;
    char address[MEMBER_ADDRESS_SIZE];
    uint8_t reply[GROUP_REPLY_SIZE_MAX];
};

struct completion {
    struct mail mail;
    struct journal_task *tasks;
};

/* ---- group_members.c ---- */

/* The callbacks of links: the owner's, and what the group wants to know of disks. */
void group_members_init(struct group *self);

/* (raft thread) After anything was published: links follow members and guests; disks are shown to
 * other threads. */
void group_members_follow(struct group *self, const struct membership *membership);

/* (raft thread) A node dialled us; "": it did not tell its address. */
void group_members_guest(struct group *self, uint64_t id, const char *address);

/* (raft thread, or with the lock) Whether a node was a member and is none any more. */
bool group_members_removed(void *arg /* struct group */, uint64_t id);

/* ---- group_turns.c ---- */

/* After the options are set. */
void group_turns_init(struct group *self);

void group_lock(struct group *self);
void group_unlock(struct group *self);

#endif
