/*
 * Recovery from a lost majority, on a stopped node's data directory: it becomes the only member of
 * a cluster with a new id, so that nodes of the old one, should they come back, cannot meet it.
 *
 * The new id is written before the members are changed: a crash in between leaves a node that finds
 * nobody, and the same command finishes it.
 */
#ifndef QUORLOG_SERVER_RECOVER_H
#define QUORLOG_SERVER_RECOVER_H

#include "base/io.h"
#include "raft_fsm/recovery.h"
#include "server/config.h"
#include "server/identity.h"

struct recover_options {
    const struct config *config; /* borrowed: id, data, cluster */
    bool force;                  /* false: only look */
    const char *address;         /* where others will reach it; NULL: as the log says */
};

struct recover_result {
    char cluster_id[CLUSTER_ID_SIZE]; /* present one, or the new one with force */
    char address[MEMBER_ADDRESS_SIZE];
    struct recovery_report report; /* as it was found */
};

/* ERR_LOCKED while the node runs, ERR_WRONG_CLUSTER, ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO …; text. */
enum err recover_node(struct io *io, const struct recover_options *options,
                      struct recover_result *ret_result, struct err_info *info);

#endif
