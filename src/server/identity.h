/*
 * Whose data directory this is. DATA/identity (archive/identity_file.h) is written once, when the
 * directory is first used, and read at every start.
 *
 * cluster_id is made of the cluster's name and its first members, so nodes that were started with
 * different lists, and would be different clusters, do not take each other for one. It does not
 * follow from the configuration where a node joined a running cluster, or where the cluster was
 * begun anew after its majority was lost (origin); then the node never begins a cluster by itself.
 * DATA/lock is locked (flock) for as long as a node uses the directory.
 */
#ifndef QUORLOG_SERVER_IDENTITY_H
#define QUORLOG_SERVER_IDENTITY_H

#include <stdint.h>

#include "archive/identity_file.h"
#include "base/err.h"
#include "base/io.h"
#include "server/config.h"

struct identity {
    struct io *io; /* borrowed */
    uint64_t node_id;
    enum identity_origin origin;
    char cluster[CLUSTER_NAME_SIZE];
    char cluster_id[CLUSTER_ID_SIZE];  /* "": joins, and does not know it yet */
    uint64_t disk_id;                  /* 0: not opened yet */
    char address[MEMBER_ADDRESS_SIZE]; /* where others reach the node; "": not known */
    int lock_fd;                       /* owned; -1: none */
};

/*
 * Makes config->data when it is missing, locks it, and compares or writes its identity.
 * ERR_LOCKED: another process uses it. ERR_WRONG_CLUSTER: it belongs to another cluster or node.
 * ERR_CORRUPT: the file is damaged. ERR_VERSION, ERR_IO, ERR_NOSPACE, ERR_INVALID.
 */
enum err identity_open(struct identity *self, struct io *io, const struct config *config,
                       struct err_info *info);
/* Locks a directory that a node has used, whatever cluster it belongs to. ERR_NOT_FOUND; else as
 * above. */
enum err identity_open_existing(struct identity *self, struct io *io, const struct config *config,
                                struct err_info *info);
void identity_close(struct identity *self);

/* Writes the identity anew, for good: a cluster that was joined, or begun anew. */
enum err identity_adopt(struct identity *self, const struct config *config,
                        enum identity_origin origin, const char *cluster_id, struct err_info *info);

/* Reads group_dir/disk, or makes it with the id `fresh` (not 0); one of an older program gets its
 * checksum. ERR_CORRUPT, ERR_IO, ERR_NOSPACE (it could not be made). */
enum err identity_open_disk(struct identity *self, const char *group_dir, uint64_t fresh,
                            struct err_info *info);

/* The cluster id that follows from the configuration. ERR_INVALID. */
enum err identity_cluster_id(const struct config *config, char ret_id[CLUSTER_ID_SIZE],
                             struct err_info *info);

#endif
