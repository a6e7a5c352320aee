/*
 * A raft group on this node: a replica with a thread, a journal and connections to its peers.
 *
 * This is the module's public face. The raft thread runs a uv loop of its own; whoever is on
 * another thread talks to it through its mailboxes (group_submit, group_adopt) and reads what it
 * publishes (group_status, the catalog). A node may have several groups; nothing here is global.
 *
 *   front threads ─ group_submit ─► mailbox ──► raft thread ─── tasks ──► journal thread
 *        ▲                                       │  ▲  ▲  │                   │
 *        └────────── request->done ──────────────┘  │  │  └── links ──► peers │
 *   peers' sockets ─ group_adopt ─► messages ───────┘  └────── durable ───────┘
 *
 * When a disk fails or safety is broken the group says so through `fatal` and does nothing more:
 * the process has to end, a supervisor starts it again.
 */
#ifndef QUORLOG_RAFT_FSM_GROUP_H
#define QUORLOG_RAFT_FSM_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mailbox.h"
#include "base/turns.h"
#include "raft_fsm/catalog.h"
#include "raft_fsm/replica.h"
#include "transport/transport.h"

struct group;

struct group_options {
    struct replica_options replica; /* copied as it says */
    const char *cluster_id;         /* in, copied: what links say in their hello */
    const struct diag *diag;        /* borrowed */
    struct io *io;                  /* borrowed */
    size_t mailbox_size_max;        /* bytes of requests waiting; 0: 64 MiB */
    size_t peer_queue_size_max;     /* bytes waiting to be sent to one peer; 0: 32 MiB */
    size_t frame_size_max;          /* of frames from peers; 0: 32 MiB */
    uint64_t stall_us;              /* turns of the raft thread that are told; 0: none */
};

struct group_events {
    void *arg;
    /* Called on the raft thread after anything in group_status or the ends of topics changed; many
     * changes, one call. Must be quick: wake others, no more. status: borrowed until return. */
    void (*published)(void *arg, const struct replica_status *status);
    /* Called on the raft thread, once: the node must stop. */
    void (*fatal)(void *arg, enum err err, const char *text);
    /* The hello frame for a connection to node `to`: called on the raft thread whenever a link
     * comes up; sends it. to_disk: the disk that the cluster knows it by; 0: none yet. */
    void (*hello)(void *arg, struct conn *conn, uint64_t to, uint64_t to_disk);
    /* The first frame on a link came: OK when it is a hello reply that fits, else the reason.
     * *ret_disk: the disk that the node shows; 0: it shows none. */
    enum err (*hello_reply)(void *arg, const struct frame *frame, uint64_t to, uint64_t *ret_disk,
                            struct err_info *info);
};

/* Opens the replica (blocks, may take long) and starts its threads. */
enum err group_start(const struct group_options *options, const struct group_events *events,
                     struct group **ret_group, struct err_info *info);

/* Any thread but the raft thread. Hands leadership over if it has it (waits at most transfer_ms),
 * stops the threads and closes all. Requests that are not done are done with ERR_SHUTDOWN before it
 * returns. From then on group_submit and group_adopt say ERR_SHUTDOWN; what was published last,
 * and the catalog, can still be read. */
void group_stop(struct group *self, uint64_t transfer_ms);

/* After group_stop, when no other thread calls anything here any more. */
void group_free(struct group *self);

/* A request, embedded by its owner. */
struct group_request {
    struct mail mail;
    struct proposal proposal; /* command set by the owner; done and result by the group */
    /* Not NULL: a step of a goal for the members, instead of a command (replica_member_step). The
     * result is OK when step->plan tells what was done, else NOT_LEADER. Borrowed until done. */
    struct member_step *step;
    size_t size; /* bytes that it keeps in memory, for the mailbox's bound */
    /* Called on the raft thread, exactly once after group_submit returned OK; the owner posts the
     * request to its own thread from here. proposal.result holds the outcome. ERR_NOT_LEADER means
     * not proposed. */
    void (*done)(struct group_request *request);
};

/* Any thread. ERR_BUSY when the mailbox is full, ERR_SHUTDOWN. */
enum err group_submit(struct group *self, struct group_request *request);

/*
 * Any thread. Whether node `id`, showing this disk (0: none), may take part: ERR_WRONG_DISK when
 * the id belongs to another disk, ERR_ID_USED when it was removed from the cluster; both with text.
 */
enum err group_check_node(struct group *self, uint64_t id, uint64_t disk_id, struct err_info *info);

/* Wants the state as it is applied now, as a snapshot; embedded by its owner. */
struct group_capture {
    struct mail mail;
    enum err err;             /* BUSY: a snapshot is being installed; NOMEM, TOO_LARGE, SHUTDOWN */
    struct snapshot snapshot; /* owns references when err is OK; its owner ends it: snapshot_fini */
    /* Called on the raft thread, exactly once after group_capture returned OK. */
    void (*done)(struct group_capture *capture);
};

/* Any thread. ERR_BUSY when too many wait, ERR_SHUTDOWN. */
enum err group_capture(struct group *self, struct group_capture *capture);

/* Someone who wants a read index (replica.h), embedded by its owner. */
struct group_read {
    struct mail mail;
    struct replica_read read; /* err and index by the group */
    /* Called on the raft thread, exactly once after group_read returned OK, as a request's. */
    void (*done)(struct group_read *read);
};

/* Any thread. ERR_SHUTDOWN. */
enum err group_read(struct group *self, struct group_read *read);

/* A connection that a peer made to us. */
struct group_connection {
    uint64_t peer_id;
    /* Where it is reached, copied; "": not told. A node that lags, or has just been added, hears
     * first of a leader that its own members do not include: it is dialled back there, or it could
     * not answer. */
    const char *address;
    int fd;
    uint64_t request_id;  /* of its hello */
    const uint8_t *reply; /* header of the HELLO_REPLY; copied */
    size_t reply_size;    /* bytes, at most GROUP_REPLY_SIZE_MAX */
};
enum { GROUP_REPLY_SIZE_MAX = 1024 };

/* Any thread. The peer's hello was fine: from now on its connection is the raft thread's, which
 * answers the hello. The socket is taken over, also when this fails. ERR_NOMEM, ERR_BUSY,
 * ERR_SHUTDOWN. */
enum err group_adopt(struct group *self, const struct group_connection *connection);

/* Any thread: a read of the topic met damage at or a little behind `offset`. */
void group_report_damage(struct group *self, uint64_t topic_id, uint64_t offset);

/* Any thread: a copy of what was last published. */
void group_status(struct group *self, struct replica_status *ret_status);

/* Any thread, cheap: 0 while none is known. */
uint64_t group_leader_id(struct group *self);
uint64_t group_applied_index(struct group *self);

/* Any thread: the address of a member; false when there is none of that id. */
bool group_member_address(struct group *self, uint64_t id, char ret_address[MEMBER_ADDRESS_SIZE]);

struct catalog *group_catalog(struct group *self); /* borrowed until group_free */

struct group_stats {
    struct journal_stats journal;
    uint64_t records;
};
void group_stats(struct group *self, struct group_stats *ret_stats);

/* Any thread: turns of the raft thread's loop, and writes to the journal, since start. */
void group_turns(struct group *self, struct turns_figures *ret_figures);
void group_journal_delays(struct group *self, struct delays_snapshot *ret_delays);

#endif
