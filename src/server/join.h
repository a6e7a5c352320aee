/*
 * A node that joins learns the cluster's id: from whichever node at the addresses of `join` answers
 * its hello first. It says which node it is and which disk it has; a cluster that knows this id by
 * another disk refuses it here.
 */
#ifndef QUORLOG_SERVER_JOIN_H
#define QUORLOG_SERVER_JOIN_H

#include <uv.h>

#include "base/diag.h"
#include "base/err.h"
#include "server/config.h"
#include "server/identity.h"

/* Blocks: runs the loop for 20 s at most. ERR_CONNECT when nobody answered; ERR_WRONG_DISK and
 * ERR_ID_USED when the cluster refuses this node; ERR_INVALID. Text says which. */
enum err join_learn(uv_loop_t *loop, const struct config *config, const struct identity *identity,
                    char ret_cluster_id[CLUSTER_ID_SIZE], struct err_info *info);

#endif
