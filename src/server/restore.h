/*
 * A node's data directory out of a backup, for a new cluster (archive/restore.h): the replica's
 * directory, and whose it is.
 *
 * Everything is written into DATA.restoring, which takes the name DATA when it is whole: a restore
 * that was cut short leaves nothing that a node would start from.
 */
#ifndef QUORLOG_SERVER_RESTORE_H
#define QUORLOG_SERVER_RESTORE_H

#include "base/err.h"
#include "base/io.h"
#include "server/config.h"

struct restore_request {
    const char *backup; /* its directory */
    /* As serve takes it: id, data, bootstrap (with this node in it), cluster. */
    const struct config *config;
    void (*progress)(void *arg, const char *topic, size_t size); /* may be NULL */
    void *arg;
};

/* What the new node is. */
struct restored {
    char cluster[CONFIG_TEXT_SIZE]; /* its cluster's name, for its configuration */
    char cluster_id[33];
    uint64_t index; /* of the last entry that it has */
    size_t topics;
};

/*
 * The new cluster's name is config->cluster and eight digits that stand for the backup's state:
 * nodes that were made from different ones, or from none, are of other clusters, and do not talk.
 * ERR_EXISTS: the directory is not empty, or DATA.restoring is there. ERR_INVALID: the node is not
 * among the first members. ERR_CORRUPT: the backup is damaged; file and position are told. ERR_IO,
 * ERR_NOSPACE, ERR_NOMEM, ERR_VERSION.
 */
enum err server_restore(struct io *io, const struct restore_request *request,
                        struct restored *ret_restored, struct err_info *info);

#endif
