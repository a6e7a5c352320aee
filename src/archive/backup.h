/*
 * A backup: all that a cluster held at one entry, in a directory of its own.
 *
 *      DIR/BACKUP                             the index: what belongs to the backup
 *      DIR/manifest-<index, 20 digits>        the manifest (raft_fsm/manifest.h)
 *      DIR/topics/NAME-ID/<offset>.store      batches from that offset on (log/store.h)
 *      DIR/lock                               held while something is written here
 *
 * The index is text, a line each, numbers in decimal, hexadecimal digits in lower case:
 *
 *      quorlog-backup 1
 *      cluster CLUSTER_ID
 *      entry INDEX TERM                       of the last entry that is in it
 *      manifest SIZE SHA256
 *      topic ID START END NAME                by id; those of the manifest that are in it
 *      file ID BASE END SIZE                  by topic and offset; offsets [BASE, END) are in the
 *                                             first SIZE bytes of the file
 *      sha256 SHA256                          of all lines above
 *
 * It is replaced as a whole, last: whatever interrupts a backup leaves the one before. Files that
 * an index names never change; what none names is removed after the next backup. What the files
 * hold needs no sum of its own: it is verified by the batches' checksums and the digest chain, up
 * to the digest that the manifest has for the topic's end.
 *
 * Invariants:
 *   B1  The files of a topic, in order, hold [start, end) without a gap. (The first one may begin
 *       with batches below start, or with one that start lies in.)
 *   B2  A file that the index names is durable, and so is everything that it stands in.
 */
#ifndef QUORLOG_ARCHIVE_BACKUP_H
#define QUORLOG_ARCHIVE_BACKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "raft_fsm/chain.h"
#include "raft_fsm/manifest.h"

enum { BACKUP_CLUSTER_ID_SIZE = 33 };

struct backup_file {
    uint64_t base;
    uint64_t end;
    uint64_t size; /* bytes of the file that count, its header included */
};

struct backup_topic {
    uint64_t id;
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t start;
    uint64_t log_start; /* while it is written: nobody gives records below it, but their batch */
    uint64_t end;
    uint8_t start_digest[DIGEST_SIZE]; /* before start, and … */
    uint8_t digest[DIGEST_SIZE];       /* … at end, as the manifest has them */
    struct backup_file *files;         /* owned */
    size_t file_count;
};

struct backup {
    struct io *io; /* borrowed */
    char dir[IO_PATH_SIZE];
    char cluster_id[BACKUP_CLUSTER_ID_SIZE];
    uint64_t index;
    uint64_t term;
    struct buf manifest;         /* owned: as the node gave it */
    struct backup_topic *topics; /* owned; by id */
    size_t topic_count;
};

/* Reads the index and the manifest of what is in `dir`, and verifies both and that they fit; the
 * records are not looked at. ERR_NOT_FOUND when there is no backup; ERR_CORRUPT with the file;
 * ERR_VERSION, ERR_IO, ERR_NOMEM. */
enum err backup_open(struct io *io, const char *dir, struct backup *ret_backup,
                     struct err_info *info);
void backup_close(struct backup *self);

/* Called with whole batches, in order, that were verified; not OK ends the walk. */
typedef enum err (*backup_batches_cb)(void *arg, const uint8_t *batches, size_t size,
                                      struct err_info *info);

/* Reads a topic from its start to its end, verifying everything. ERR_CORRUPT with file and
 * position; ERR_IO, ERR_NOMEM; what cb returned. cb may be NULL. */
enum err backup_walk(const struct backup *self, const struct backup_topic *topic,
                     backup_batches_cb cb, void *arg, struct err_info *info);

/* The manifest's bytes for the topics that the backup has, without the cluster's disks: what a new
 * cluster begins with. The slice owns a reference. ERR_CORRUPT, ERR_VERSION, ERR_NOMEM,
 * ERR_TOO_LARGE. */
enum err backup_manifest(const struct backup *self, struct slice *ret_bytes, struct err_info *info);

/* ---- writing ---- */

struct backup_writer;

struct backup_source {
    const char *cluster_id;
    uint64_t index;
    uint64_t term;
    const uint8_t *manifest; /* its bytes; copied */
    size_t manifest_size;
    const char *const *topics; /* names; NULL: all */
    size_t topic_count;
    const char *data; /* a node's data directory on this machine, for hard links; NULL: none */
};

/* Begins, in `dir`, made when it is missing: what is there already is kept and added to.
 * ERR_LOCKED, ERR_WRONG_CLUSTER; ERR_RANGE when the source is older than what is there;
 * ERR_NOT_FOUND for a topic that the source does not have; those of backup_open. */
enum err backup_begin(struct io *io, const char *dir, const struct backup_source *source,
                      struct backup_writer **ret_writer, struct err_info *info);

/* What is to be brought next: batches of `name` from `offset` on, up to `end`; false when nothing
 * is. Hard links are made from here, as far as they help. */
struct backup_want {
    const char *name; /* borrowed until backup_end or backup_abort */
    uint64_t offset;
    uint64_t end;
};
enum err backup_next(struct backup_writer *self, bool *ret_wanted, struct backup_want *ret_want,
                     struct err_info *info);

/* Takes whole batches from the wanted offset on, after verifying them; what lies behind the wanted
 * end is left out. ERR_CORRUPT: they do not belong there: the topic is another one by now, or the
 * sender's copy is damaged. */
enum err backup_add(struct backup_writer *self, const uint8_t *batches, size_t size,
                    struct err_info *info);

struct backup_totals {
    uint64_t index;
    size_t topics;
    uint64_t copied; /* bytes */
    uint64_t linked;
    uint64_t records; /* that were not there before */
};

/* Everything is there: makes it the backup, and removes what no longer belongs to it. The writer is
 * gone, whatever is returned. */
enum err backup_end(struct backup_writer *self, struct backup_totals *ret_totals,
                    struct err_info *info);

/* Gives up; what was there before is the backup still. NULL is fine. */
void backup_abort(struct backup_writer *self);

#endif
