/*
 * Whose data directory this is. DATA/identity, written once, when the directory is first used:
 *
 *      version = 1
 *      cluster = quorlog
 *      cluster_id = 0123456789abcdef0123456789abcdef
 *      node_id = 1
 *      origin = join
 *
 * origin is there in version 2 only, which is written when it says something: a node that joined a
 * running cluster, whose id it learned there ("join"), or whose cluster was begun anew from this
 * directory after its majority was lost ("recover"). Then the id does not follow from the
 * configuration, and the node never begins a cluster by itself.
 *
 * cluster_id is else made of the cluster's name and its first members, so nodes that were started
 * with different lists, and would be different clusters, do not take each other for one. DATA/lock
 * is locked (flock) for as long as a node uses the directory.
 *
 * DATA/group-1/disk is `disk = <16 hexadecimal digits>`, random, made with the directory: the disk
 * that the node's id is bound to (raft_fsm/nodes.h). It lies beside votes and entries, so that who
 * loses these loses it, too.
 */
#ifndef QUORLOG_SERVER_IDENTITY_H
#define QUORLOG_SERVER_IDENTITY_H

#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "server/config.h"

enum {
    CLUSTER_ID_SIZE = 33, /* 32 hexadecimal digits and a zero */
    CLUSTER_NAME_SIZE = 65,
};

enum identity_origin {
    IDENTITY_BOOTSTRAP, /* the configuration's first members */
    IDENTITY_JOIN,
    IDENTITY_RECOVER,
};

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

/* Reads group_dir/disk, or makes it with the id `fresh` (not 0). ERR_CORRUPT, ERR_IO. */
enum err identity_open_disk(struct identity *self, const char *group_dir, uint64_t fresh,
                            struct err_info *info);

/* The cluster id that follows from the configuration. ERR_INVALID. */
enum err identity_cluster_id(const struct config *config, char ret_id[CLUSTER_ID_SIZE],
                             struct err_info *info);

#endif
