/*
 * What lies in the directory of a backup, or of a node's log, and what of it belongs there.
 */
#ifndef QUORLOG_ARCHIVE_BACKUP_TIDY_H
#define QUORLOG_ARCHIVE_BACKUP_TIDY_H

#include "archive/backup.h"

/* The offsets at which the store files of a directory begin, in order. */
struct backup_bases {
    uint64_t *items; /* owned */
    size_t count;
};

/* A directory that is not there has none. ERR_IO, ERR_NOMEM. */
enum err backup_list_bases(struct io *io, const char *dir, struct backup_bases *ret_bases,
                           struct err_info *info);

/* Removes what no longer belongs to the backup: files and topics' directories that its index does
 * not name, older manifests. Files of other names are left alone. ERR_IO, ERR_NOMEM. */
enum err backup_tidy(const struct backup *self, struct err_info *info);

#endif
