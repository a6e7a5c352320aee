/*
 * What the files replica*.c share: the replica itself. See replica.h for what it does.
 */
#ifndef QUORLOG_RAFT_FSM_REPLICA_INTERNAL_H
#define QUORLOG_RAFT_FSM_REPLICA_INTERNAL_H

#include "raft_fsm/ballot.h"
#include "raft_fsm/replica.h"
#include "raft_fsm/room.h"

/* An entry that we proposed and that is not applied yet, with the proposals whose commands it
 * holds, in order. */
struct pending {
    struct replica *replica;
    struct pending *next;
    uint64_t index;
    uint64_t term;
    size_t size; /* bytes of its frame */
    struct proposal *proposals;
};

/* Proposals with acks_all that are applied and that some voter lacks (replica_acks.c). */
struct held {
    struct proposal *first;
    struct proposal **tail;
    unsigned count;
    size_t size;            /* bytes of their commands */
    uint64_t deadline_ms;   /* the earliest */
    uint64_t durable_index; /* what all voters had when they were looked through */
};

enum taking_state {
    TAKING_IDLE,
    TAKING_JOB,    /* logs are synced and the snapshot file is written, on another thread */
    TAKING_STORED, /* done; waits until the journal, too, has everything up to its index */
};

struct taking {
    enum taking_state state;
    struct snapshot snapshot; /* owns references unless idle */
};

enum installing_state {
    INSTALLING_IDLE,
    INSTALLING_FETCH, /* missing batches are fetched, one chunk at a time */
    INSTALLING_JOB,   /* logs are synced and the snapshot file is written */
    INSTALLING_RESET, /* the journal forgets what it had */
};

struct installing {
    enum installing_state state;
    struct snapshot snapshot; /* owns references unless idle */
    uint64_t source;          /* node that is asked */
    uint64_t asked_at_ms;     /* when the last FETCH was sent */
    uint64_t progress_at_ms;  /* when the last chunk came */
};

struct replica {
    struct replica_options options; /* strings are owned copies below */
    char address[MEMBER_ADDRESS_SIZE];
    char dir[IO_PATH_SIZE];
    struct replica_host host;
    struct ballot ballot;
    struct raft_driver *driver;
    struct fsm *fsm;
    uint64_t snapshot_index; /* of the snapshot file; 0: none */

    /* Proposals: queued, then pending. */
    struct proposal *queue;
    struct proposal **queue_tail;
    size_t queue_size; /* bytes of encoded commands */
    struct pending *pending;
    struct pending **pending_tail;
    size_t pending_size; /* bytes of frames */

    struct held held_acks;

    struct room room;
    uint64_t room_at_ms;                  /* when it is checked next */
    uint64_t short_since_ms;              /* while it is short */
    uint64_t short_peers[MEMBERSHIP_MAX]; /* those that said so last; 0: free */

    uint64_t size_since_snapshot; /* bytes of frames applied since the last one */
    struct taking taking;
    bool taking_job; /* its job is under way, also when the snapshot itself was dropped */
    struct installing installing;
    unsigned fetches_served; /* fetch jobs under way */

    bool opening;              /* tasks are kept back until the journal is ready */
    struct journal_task *held; /* those tasks */
    struct journal_task **held_tail;
    bool changed;               /* host.published is due */
    struct err_info apply_info; /* why apply failed */
};

/* Milliseconds now. */
uint64_t replica_now_ms(const struct replica *self);

/* Says that a call of the driver failed; apply's own reason is kept. */
enum err replica_driver_failed(struct replica *self, enum err err, struct err_info *info);

/* Hands a task to the host (or keeps it while opening). */
void replica_post_task(struct replica *self, struct journal_task *task);

/* replica_propose.c */
void replica_fail_queue(struct replica *self, enum err err);
void replica_fail_pending(struct replica *self, enum err err);
/* The results of an entry's commands, in order of number; closes with replica_answered. */
struct pending *replica_take_pending(struct replica *self, const struct entry *entry);
void replica_answer(void *arg /* struct pending */, unsigned number,
                    const struct fsm_result *result);
void replica_answered(struct replica *self, struct pending *pending);

/* replica_acks.c */
void replica_init_held(struct held *held);
/* Counts the voters that have what the proposal wrote (its result is OK). True: held, since it asks
 * for more; false: done, with the result that it has now. */
bool replica_hold(struct replica *self, struct proposal *proposal);
/* Something changed: those that all voters have are done. */
void replica_confirm(struct replica *self);
/* Nobody will know any more: all are done as written. */
void replica_fail_held(struct replica *self);

/* replica_room.c */
bool replica_is_short(const struct replica *self);
/* Checks the disk when it is time, and hands over when that is needed. What the driver says. */
enum err replica_room_tick(struct replica *self);
void replica_room_wrote(struct replica *self, uint64_t size);
void replica_note_peer_room(struct replica *self, uint64_t id, bool no_room);
/* Takes proposals that grow data out of the queue, and refuses them, where there is no room. */
void replica_refuse_growth(struct replica *self);
/* What of a message can be taken: in *ret_rest, which is a borrowing copy of it. False: nothing. */
bool replica_cut_growth(const struct replica *self, const struct message *message,
                        struct message *ret_rest);

/* replica_snapshot.c */
enum err replica_maybe_snapshot(struct replica *self, struct err_info *info);
void replica_drop_taking(struct replica *self);

/* replica_install.c */
void replica_install_begin(void *arg /* struct replica */, const struct snapshot *snapshot);
enum err replica_install_tick(struct replica *self, struct err_info *info);
uint64_t replica_install_deadline_ms(const struct replica *self);
/* No job of a snapshot is under way any more: an install may have waited for that. */
enum err replica_install_resume(struct replica *self, struct err_info *info);
enum err replica_install_reset_done(struct replica *self, struct err_info *info);
enum err replica_receive_fetch(struct replica *self, const struct message *message,
                               struct err_info *info);
enum err replica_receive_fetch_result(struct replica *self, const struct message *message,
                                      struct err_info *info);

/* A job of ours: what replica_job_done finishes. */
struct job {
    struct replica_job job;
    struct replica *replica;
    enum err (*finish)(struct replica *self, struct job *job, struct err_info *info);
    enum err err; /* what run returned */
    struct err_info info;
};
struct job *replica_job_of(struct replica_job *job);

#endif
