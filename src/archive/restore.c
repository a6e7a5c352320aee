#include "archive/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "base/assert.h"
#include "log/log.h"
#include "raft_fsm/ballot.h"
#include "record/batch_cut.h"

/* One topic on its way. */
struct moving {
    const struct backup_topic *topic;
    struct log *log; /* borrowed; NULL: only verified */
    void (*progress)(void *arg, const char *topic, size_t size);
    void *arg;
};

/* Appends the part of the batch from the topic's start on. */
static enum err append_part(struct moving *moving, const uint8_t *batch, uint32_t size,
                            struct err_info *info)
{
    const struct batch_cut cut = {
        .from = moving->topic->start, .to = UINT64_MAX, .before = moving->topic->start_digest};
    struct buf part;
    enum err err;

    buf_init(&part, CHAIN_BATCH_SIZE_MAX);
    err = batch_cut_append(batch, size, &cut, &part, info);
    err = err == ERR_OK ? log_append_raw(moving->log, part.data, part.size, info) : err;
    buf_fini(&part);
    return err;
}

static enum err on_batches(void *arg, const uint8_t *batches, size_t size, struct err_info *info)
{
    struct moving *moving = arg;
    uint64_t start = moving->topic->start;
    size_t at = 0;
    enum err err = ERR_OK;

    /* The first file may hold batches that were trimmed away before the backup. */
    while (err == ERR_OK && moving->log != NULL && at < size && log_end(moving->log) == start) {
        struct batch_header header;

        err = batch_header_decode(batches + at, CHAIN_BATCH_SIZE_MAX, &header, info);
        ASSERT(err == ERR_OK); /* It was verified. */
        if (header.base_offset >= start) {
            break;
        }
        if (batch_end_offset(&header) > start) {
            err = append_part(moving, batches + at, header.size, info);
        }
        at += header.size;
    }
    if (err == ERR_OK && moving->log != NULL && at < size) {
        err = log_append_raw(moving->log, batches + at, size - at, info);
    }
    if (err == ERR_OK && moving->progress != NULL) {
        moving->progress(moving->arg, moving->topic->name, size);
    }
    return err;
}

static enum err restore_topic(const struct backup *backup, const struct backup_topic *topic,
                              const char *topics, const struct restore_options *options,
                              struct err_info *info)
{
    struct moving moving = {.topic = topic, .progress = options->progress, .arg = options->arg};
    char name[BACKUP_DIR_NAME_SIZE];
    char dir[IO_PATH_SIZE];
    struct log_report report;
    struct log_options log = {.io = backup->io,
                              .dir = dir,
                              .start = topic->start,
                              .durable_end = topic->start,
                              .segment_size_max = options->segment_size_max};
    enum err err;

    backup_dir_name(topic, name);
    err = io_make_dir(backup->io, topics, name, info);
    err = err == ERR_OK ? io_path(dir, topics, name, info) : err;
    err = err == ERR_OK ? log_open(&log, &moving.log, &report, info) : err;
    if (err != ERR_OK) {
        return err;
    }
    err = backup_walk(backup, topic, on_batches, &moving, info);
    err = err == ERR_OK ? log_sync(moving.log, info) : err;
    ASSERT(IMPLIES(err == ERR_OK, log_end(moving.log) == topic->end));
    log_close(moving.log);
    return err;
}

static enum err write_snapshot(const struct backup *backup, const struct restore_options *options,
                               struct err_info *info)
{
    size_t size = membership_encoded_size(options->membership);
    struct snapshot snapshot = {
        .index = backup->index, .term = backup->term, .membership_index = 1};
    struct block *block = block_new(size);
    enum err err;

    if (block == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    membership_encode(options->membership, block->data);
    snapshot.membership = (struct slice){.block = block, .data = block->data, .size = size};
    err = backup_manifest(backup, &snapshot.manifest, info);
    err = err == ERR_OK ? snapshot_save(backup->io, options->dir, &snapshot, info) : err;
    snapshot_fini(&snapshot);
    return err;
}

/* The node has voted in no term, and has seen that of the snapshot. */
static enum err write_ballot(const struct backup *backup, const struct restore_options *options,
                             struct err_info *info)
{
    struct ballot ballot = {.fd = -1};
    enum err err = ballot_open(&ballot, backup->io, options->dir, options->node_id, true, info);

    if (err != ERR_OK) {
        return err;
    }
    err = ballot_write(&ballot, backup->term, 0, info);
    ballot_close(&ballot);
    return err;
}

enum err restore_replica(const struct backup *backup, const struct restore_options *options,
                         struct err_info *info)
{
    char topics[IO_PATH_SIZE];
    enum err err = io_make_dir(backup->io, options->dir, "topics", info);

    ASSERT(options->node_id > 0 && membership_find(options->membership, options->node_id) != NULL);
    err = err == ERR_OK ? io_path(topics, options->dir, "topics", info) : err;
    for (size_t i = 0; i < backup->topic_count && err == ERR_OK; i++) {
        err = restore_topic(backup, &backup->topics[i], topics, options, info);
    }
    err = err == ERR_OK ? io_sync_dir(backup->io, topics, info) : err;
    err = err == ERR_OK ? write_ballot(backup, options, info) : err;
    return err == ERR_OK ? write_snapshot(backup, options, info) : err;
}

enum err backup_verify(const struct backup *backup,
                       void (*progress)(void *arg, const char *topic, size_t size), void *arg,
                       struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(backup->index > 0);
    for (size_t i = 0; i < backup->topic_count && err == ERR_OK; i++) {
        struct moving moving = {.topic = &backup->topics[i], .progress = progress, .arg = arg};

        err = backup_walk(backup, moving.topic, on_batches, &moving, info);
    }
    return err;
}
