/*
 * The raft thread's connections to the other members: one link each, one way (they dial us for
 * theirs), opened and closed as the membership says.
 *
 * A message to a peer whose link is down or whose queue is full is dropped: raft sends again.
 */
#ifndef QUORLOG_RAFT_FSM_GROUP_PEERS_H
#define QUORLOG_RAFT_FSM_GROUP_PEERS_H

#include "raft_fsm/group.h"

struct group_peers;

struct group_peers_options {
    uv_loop_t *loop;
    uint64_t self_id;
    size_t queue_size_max; /* bytes */
    size_t frame_size_max; /* bytes */
    const struct diag *diag;
    struct turns *turns;               /* borrowed: of the loop */
    const struct group_events *events; /* hello, hello_reply; borrowed */
};

enum err group_peers_new(const struct group_peers_options *options, struct group_peers **ret_peers);

/* Opens links to new members, moves those whose address changed, closes those of members gone. */
void group_peers_update(struct group_peers *self, const struct membership *membership);

void group_peers_send(struct group_peers *self, const struct message *message);

/* Closes all links; `closed` is called from the loop when all are. */
void group_peers_close(struct group_peers *self, void (*closed)(void *arg), void *arg);

/* After closed. */
void group_peers_free(struct group_peers *self);

#endif
