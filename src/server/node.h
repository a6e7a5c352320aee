/*
 * A node: everything that a server is, wired together. For server_run and for tests, which run one
 * or several in a process.
 *
 *      main thread     the owner's loop: listener; deals accepted sockets to the fronts in turn
 *      front threads   connections, requests, reads (front.h)
 *      raft thread     the group (raft_fsm/group.h)
 *
 *   start: identity → listener → group → fronts → accept
 *   stop:  listener closed → fronts refuse what is new and end reads and waits → group stops (hands
 *          leadership over; what was submitted is answered) → fronts close connections and links,
 *          their threads end → lookups end → group freed → identity unlocked
 *
 * The order of stopping is what lets front threads use the group without asking whether it is
 * still there.
 */
#ifndef QUORLOG_SERVER_NODE_H
#define QUORLOG_SERVER_NODE_H

#include <stdatomic.h>
#include <stdint.h>
#include <uv.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/err.h"
#include "lookup/lookup.h"
#include "raft_fsm/group.h"
#include "server/config.h"
#include "server/identity.h"
#include "server/memory_shares.h"
#include "transport/transport.h"

struct front;

struct node_options {
    const struct config *config; /* borrowed until node_stop; validated */
    uv_loop_t *loop;             /* borrowed: of the thread that calls node_start and node_stop */
    const struct diag *diag;     /* borrowed */
    struct io *io;               /* borrowed */
    /* Called on the raft thread, once: a disk failed, safety is broken, or the cluster has no place
     * for this node (WRONG_DISK, ID_USED); the process must end. */
    void (*fatal)(void *arg, enum err err, const char *text);
    void *arg;
};

struct node {
    const struct config *config;
    const struct diag *diag;
    struct io *io;
    struct file_cache *files; /* owned reference: of all topics' files */
    const struct clock *clock;
    void (*fatal)(void *arg, enum err err, const char *text);
    void *arg;
    struct identity identity;
    char address[MEMBER_ADDRESS_SIZE]; /* advertised */
    uv_loop_t *loop;                   /* borrowed */
    struct listener *listener;         /* owned; NULL: closed */
    struct group *group;               /* owned */
    _Atomic(struct lookup *) lookup;   /* owned; the raft thread wakes it */
    struct front *fronts;              /* owned array */
    unsigned front_count;
    unsigned started_count; /* of them, how many run */
    unsigned front_next;    /* the one that gets the next connection */
    uint64_t started_ms;
    uint64_t requests_size_max; /* bytes, of one front */
    struct memory_shares shares;
    struct budget arriving; /* frames of all sessions that have not come whole */
    struct budget leaving;  /* answers of all sessions, and what is being read for them */
    uint64_t leader_id;     /* last told, and its term; raft thread */
    uint64_t leader_term;
    /* The newest entry in the journal at start: before it is applied, what is not found here may be
     * there all the same. */
    atomic_uint_fast64_t started_index;
    atomic_uint sockets; /* accepted and not yet closed */
    atomic_uint clients; /* of those, clients' after their hello */
};

/* Blocks until the group has read what is on the disk. Errors as server_run. */
enum err node_start(const struct node_options *options, struct node **ret_node,
                    struct err_info *info);

/* Blocks until all is closed; runs the loop for the listener's end. Frees. */
void node_stop(struct node *self);

uint16_t node_port(const struct node *self);

/* (any thread) Borrowed until node_stop. */
struct lookup *node_lookup(struct node *self);

/* (any thread) False while the node has not applied all that its journal held at start; what it
 * waits for is *ret_index then. */
bool node_has_read_log(const struct node *self, uint64_t *ret_index);

/* (any thread) A peer's hello says that the cluster knows this node by another disk. Ends the
 * process if nothing here speaks against it. */
void node_disk_refused(struct node *self, const struct err_info *info);

#endif
