/*
 * What the files of backups share: names, and the index.
 *
 *      backup.c         reading: open, walk
 *      backup_index.c   the index as text
 *      backup_cut.c     parts of batches
 *      backup_write.c   writing
 */
#ifndef QUORLOG_ARCHIVE_BACKUP_INTERNAL_H
#define QUORLOG_ARCHIVE_BACKUP_INTERNAL_H

#include "archive/backup.h"
#include "base/buf.h"
#include "log/store.h"

#define BACKUP_INDEX_NAME "BACKUP"
#define BACKUP_MANIFEST_PREFIX "manifest-"

/* "NAME-ID" */
enum { BACKUP_DIR_NAME_SIZE = TOPIC_NAME_SIZE_MAX + 32, BACKUP_FILE_NAME_SIZE = 40 };
void backup_dir_name(const struct backup_topic *topic, char ret_name[BACKUP_DIR_NAME_SIZE]);

/* "DIR/topics/NAME-ID" and "DIR/topics/NAME-ID/<base>.store". */
enum err backup_topic_path(const char *dir, const struct backup_topic *topic,
                           char ret_path[IO_PATH_SIZE], struct err_info *info);
enum err backup_file_path(const char *dir, const struct backup_topic *topic, uint64_t base,
                          char ret_path[IO_PATH_SIZE], struct err_info *info);

/* "manifest-<index>" */
void backup_manifest_name(uint64_t index, char ret_name[BACKUP_FILE_NAME_SIZE]);

/* The index of a backup as text, appended; and back, into an empty backup (io and dir set). Sizes
 * and digest of the manifest: what the text says. */
enum err backup_index_encode(const struct backup *self, struct buf *to);
enum err backup_index_parse(struct backup *self, char *text, size_t *ret_manifest_size,
                            uint8_t ret_manifest_digest[DIGEST_SIZE], struct err_info *info);

/* Whether the topics are those of the manifest, and takes their digests from there. */
enum err backup_match_manifest(struct backup *self, struct err_info *info);

/* A walk over a topic's batches: how far it is, and who gets them. */
struct backup_walker {
    struct chain chain;
    backup_batches_cb cb; /* may be NULL */
    void *arg;
};

/* Reads the first `size` bytes of a store file, verifying batch after batch. */
enum err backup_read_store(const struct store *store, uint64_t size, struct backup_walker *walker,
                           struct err_info *info);

/* Where a part of a batch begins and ends that goes into a backup. */
struct backup_edges {
    const struct backup_topic *topic; /* borrowed */
    const struct chain *chain;        /* borrowed: behind what is there */
    uint64_t index;                   /* the manifest's */
    uint64_t term;
    int64_t time_us;
};

/* Whether the backup can take a part only of the batch that holds chain->offset: it is compacted,
 * and its node merged what is in the backup already, or was trimmed, or came after the manifest. */
bool backup_straddles(const struct backup_topic *topic, const struct chain *chain,
                      const struct batch_header *header);

/* Appends that part, with the digests of chain and manifest at its ends. ERR_CORRUPT, ERR_NOMEM,
 * ERR_TOO_LARGE. */
enum err backup_cut(const struct backup_edges *edges, const uint8_t *batch, uint32_t size,
                    struct buf *out, struct err_info *info);

/* A topic with room for one more file. ERR_NOMEM. */
enum err backup_push_file(struct backup_topic *topic, const struct backup_file *file);

#endif
