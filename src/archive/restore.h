/*
 * The way back from a backup: a replica's directory (raft_fsm/replica.h) in which a node of a new
 * cluster finds, at its first start, the state that the backup has, as its newest snapshot, and an
 * empty journal behind it. All first members of the new cluster are made from one backup: none of
 * them lacks anything, so that any majority may begin.
 */
#ifndef QUORLOG_ARCHIVE_RESTORE_H
#define QUORLOG_ARCHIVE_RESTORE_H

#include "archive/backup.h"
#include "raft_fsm/membership.h"

struct restore_options {
    const char *dir; /* of the replica; exists, empty */
    uint64_t node_id;
    const struct membership *membership; /* the first members; the same for all of them */
    uint64_t segment_size_max;           /* of topics' logs; 0: default */
    /* Told after each piece: bytes of `topic` more. May be NULL. */
    void (*progress)(void *arg, const char *topic, size_t size);
    void *arg;
};

/* Writes it, durably; everything is verified as it is read. On failure what was written is good for
 * nothing. ERR_CORRUPT with file and position; ERR_IO, ERR_NOSPACE, ERR_NOMEM, ERR_VERSION. */
enum err restore_replica(const struct backup *backup, const struct restore_options *options,
                         struct err_info *info);

/* Reads and verifies all of a backup, as restoring does. progress and arg as above. */
enum err backup_verify(const struct backup *backup,
                       void (*progress)(void *arg, const char *topic, size_t size), void *arg,
                       struct err_info *info);

#endif
