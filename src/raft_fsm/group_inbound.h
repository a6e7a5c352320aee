/*
 * Connections that peers made to us, on the raft thread's loop: their messages come in on them, and
 * nothing goes out but the answer to the hello and, at the end, why.
 *
 * Of each peer one connection counts, the newest: an older one is told so and ends, so that what it
 * may still bring never follows a message of its successor, and a peer that still used it dials
 * again. A connection that brings anything but well-formed messages of its peer is told why and
 * ends.
 */
#ifndef QUORLOG_RAFT_FSM_GROUP_INBOUND_H
#define QUORLOG_RAFT_FSM_GROUP_INBOUND_H

#include "raft_fsm/group.h"

struct group_inbound;

struct group_inbound_options {
    uv_loop_t *loop;
    uint64_t self_id;
    size_t frame_size_max;            /* bytes */
    const struct diag *diag;          /* borrowed */
    struct turns *turns;              /* borrowed: of the loop */
    const struct membership *members; /* borrowed; as it is at the time of each call */
    void *arg;
    /* A verified message of the connection's peer; borrowed until return. */
    void (*message)(void *arg, const struct message *message);
    /* Whether the peer is a member no more: it is told so. */
    bool (*removed)(void *arg, uint64_t peer_id);
};

enum err group_inbound_new(const struct group_inbound_options *options,
                           struct group_inbound **ret_inbound);

/* Takes over a peer's socket and answers its hello. What fails ends the connection. */
void group_inbound_adopt(struct group_inbound *self, const struct group_connection *connection);

/* Ends all connections; none may be adopted any more. `closed` is called from the loop when all
 * are gone, or at once. */
void group_inbound_close(struct group_inbound *self, void (*closed)(void *arg), void *arg);

/* After closed. NULL is fine. */
void group_inbound_free(struct group_inbound *self);

#endif
