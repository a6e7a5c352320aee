/*
 * Whose data directory this is. DATA/identity, written once, when the directory is first used:
 *
 *      version = 1
 *      cluster = quorlog
 *      cluster_id = 0123456789abcdef0123456789abcdef
 *      node_id = 1
 *
 * cluster_id is made of the cluster's name and its first members, so nodes that were started with
 * different lists, and would be different clusters, do not take each other for one. DATA/lock is
 * locked (flock) for as long as a node uses the directory.
 */
#ifndef QUORLOG_SERVER_IDENTITY_H
#define QUORLOG_SERVER_IDENTITY_H

#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "server/config.h"

enum { CLUSTER_ID_SIZE = 33 }; /* 32 hexadecimal digits and a zero */

struct identity {
    struct io *io; /* borrowed */
    uint64_t node_id;
    char cluster_id[CLUSTER_ID_SIZE];
    int lock_fd; /* owned; -1: none */
};

/*
 * Makes config->data when it is missing, locks it, and compares or writes its identity.
 * ERR_LOCKED: another process uses it. ERR_WRONG_CLUSTER: it belongs to another cluster or node.
 * ERR_CORRUPT: the file is damaged. ERR_VERSION, ERR_IO, ERR_NOSPACE, ERR_INVALID.
 */
enum err identity_open(struct identity *self, struct io *io, const struct config *config,
                       struct err_info *info);
void identity_close(struct identity *self);

/* The cluster id that follows from the configuration. ERR_INVALID. */
enum err identity_cluster_id(const struct config *config, char ret_id[CLUSTER_ID_SIZE],
                             struct err_info *info);

#endif
