/* Snapshots, manifests, and the indexes of backups. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "archive/dump_internal.h"
#include "base/assert.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/membership.h"

enum {
    FILE_SIZE_MAX = MANIFEST_SIZE_MAX,
    /* A file larger than that is read to its end only when its head says what it is. */
    BACKUP_INDEX_SIZE_MAX = 1 << 30,
};

/* ---- what a manifest has ---- */

static enum err dump_topics(struct dump *self, const struct manifest *manifest)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < manifest->topic_count && err == ERR_OK; i++) {
        const struct manifest_topic *topic = &manifest->topics[i];
        char digest[DIGEST_TEXT_SIZE];

        digest_to_text(topic->digest, digest);
        dump_begin(self, "topic");
        dump_number(self, "id", topic->id);
        dump_text(self, "name", topic->name);
        dump_number(self, "start", topic->start);
        dump_number(self, "end", topic->end);
        dump_number(self, "log_start", topic->log_start);
        dump_number(self, "clean_to", topic->clean.clean_to);
        dump_number(self, "tombstones_below", topic->clean.tombstones_below);
        dump_time(self, "created", topic->created_time_us);
        dump_text(self, "digest", digest);
        err = dump_end(self);
    }
    return err;
}

static enum err dump_nodes(struct dump *self, const struct manifest *manifest)
{
    unsigned count = manifest->nodes == NULL ? 0 : manifest->nodes->count;
    enum err err = ERR_OK;

    for (unsigned i = 0; i < count && err == ERR_OK; i++) {
        char disk[20];

        (void)snprintf(disk, sizeof disk, "%016" PRIx64,
                       manifest->nodes->list[i].disk_id); /* fits */
        dump_begin(self, "node");
        dump_number(self, "id", manifest->nodes->list[i].id);
        dump_text(self, "disk", disk);
        err = dump_end(self);
    }
    return err;
}

static enum err dump_producer(void *arg, const struct producer_view *producer)
{
    struct dump *self = arg;

    dump_begin(self, "producer");
    dump_number(self, "id", producer->id);
    dump_number(self, "epoch", producer->epoch);
    dump_time(self, "used", producer->used_time_us);
    return dump_end(self);
}

static enum err dump_window(void *arg, uint64_t topic_id, uint64_t records,
                            const struct window_batch *batches, unsigned count)
{
    struct dump *self = arg;

    dump_begin(self, "producer_topic");
    dump_number(self, "topic", topic_id);
    dump_number(self, "records", records);
    dump_number(self, "batches", count);
    if (count > 0) {
        dump_number(self, "last_offset", batches[count - 1].base_offset);
        dump_number(self, "last_index", batches[count - 1].raft_index);
    }
    return dump_end(self);
}

static enum err dump_cursor(void *arg, const struct cursor *cursor)
{
    struct dump *self = arg;

    dump_begin(self, "cursor");
    dump_number(self, "topic", cursor->topic_id);
    dump_text(self, "name", cursor->name);
    dump_number(self, "offset", cursor->at.offset);
    dump_number(self, "revision", cursor->at.revision);
    dump_number(self, "owner", cursor->at.owner);
    dump_time(self, "updated", cursor->at.updated_time_us);
    dump_bytes(self, "metadata", cursor->metadata, strlen(cursor->metadata));
    return dump_end(self);
}

static enum err dump_manifest(struct dump *self, const struct manifest *manifest)
{
    const struct producers_visitor visitor = {
        .arg = self, .producer = dump_producer, .window = dump_window};
    enum err err;

    dump_begin(self, "manifest");
    dump_number(self, "index", manifest->applied_index);
    dump_time(self, "time", manifest->time_us);
    dump_number(self, "topics", manifest->topic_count);
    dump_number(self, "next_producer", producers_next_id(manifest->producers));
    dump_number(self, "cursors", cursors_count(manifest->cursors));
    err = dump_end(self);
    err = err == ERR_OK ? dump_topics(self, manifest) : err;
    err = err == ERR_OK ? dump_nodes(self, manifest) : err;
    err = err == ERR_OK ? producers_visit(manifest->producers, &visitor) : err;
    return err == ERR_OK ? cursors_visit(manifest->cursors, dump_cursor, self) : err;
}

static enum err dump_members(struct dump *self, const struct snapshot *snapshot)
{
    static const char *const roles[] = {"standby", "voter", "spare"};
    struct membership members;
    struct err_info info = {0};
    enum err err =
        membership_decode(snapshot->membership.data, snapshot->membership.size, &members, &info);

    if (err != ERR_OK) {
        return err == ERR_CORRUPT ? dump_damage(self, 0, info.text) : err;
    }
    for (unsigned i = 0; i < members.count && err == ERR_OK; i++) {
        ASSERT((unsigned)members.members[i].role < sizeof roles / sizeof roles[0]);
        dump_begin(self, "member");
        dump_number(self, "id", members.members[i].id);
        dump_text(self, "address", members.members[i].address);
        dump_text(self, "role", roles[members.members[i].role]);
        err = dump_end(self);
    }
    return err;
}

/* ---- a snapshot's file ---- */

static enum err dump_contents(struct dump *self, const struct snapshot *snapshot)
{
    struct manifest manifest;
    struct err_info info = {0};
    enum err err;

    dump_begin(self, "snapshot");
    dump_number(self, "index", snapshot->index);
    dump_number(self, "term", snapshot->term);
    dump_number(self, "members_index", snapshot->membership_index);
    err = dump_end(self);
    err = err == ERR_OK ? dump_members(self, snapshot) : err;
    if (err != ERR_OK) {
        return err;
    }
    err = manifest_decode(snapshot->manifest.data, snapshot->manifest.size, &manifest, &info);
    if (err == ERR_CORRUPT || err == ERR_VERSION) {
        return dump_damage(self, 0, info.text);
    }
    if (err != ERR_OK) {
        return err_set(self->info, err, "%s", info.text);
    }
    err = dump_manifest(self, &manifest);
    manifest_fini(&manifest);
    return err;
}

enum err dump_snapshot(struct dump *self, const char *path, uint64_t size)
{
    struct snapshot snapshot = {0};
    struct err_info info = {0};
    enum err found = snapshot_read(self->options->io, path, &snapshot, &info);
    enum err err;

    if (found != ERR_OK && found != ERR_CORRUPT && found != ERR_VERSION) {
        return err_set(self->info, found, "%s", info.text);
    }
    dump_begin_file(self, "snapshot", size);
    err = dump_end(self);
    if (err == ERR_OK) {
        err = found == ERR_OK ? dump_contents(self, &snapshot) : dump_damage(self, 0, info.text);
    }
    snapshot_fini(&snapshot);
    return err;
}

/* ---- the files of a backup ---- */

enum err dump_manifest_file(struct dump *self, const char *path)
{
    struct manifest manifest;
    struct buf file;
    uint64_t size;
    enum err err;

    buf_init(&file, FILE_SIZE_MAX);
    err = io_read_file(self->options->io, path, FILE_SIZE_MAX, &file, self->info);
    if (err == ERR_OK) {
        err = manifest_decode(file.data, file.size, &manifest, NULL);
    }
    size = file.size;
    buf_fini(&file);
    if (err != ERR_OK) {
        return err == ERR_NOMEM || err == ERR_IO
                   ? err_set(self->info, err, "'%s': %s", path, err_text(err))
                   : ERR_NOT_FOUND;
    }
    dump_begin_file(self, "manifest", size);
    err = dump_end(self);
    err = err == ERR_OK ? dump_manifest(self, &manifest) : err;
    manifest_fini(&manifest);
    return err;
}

static enum err dump_backup_topics(struct dump *self, const struct backup *backup)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < backup->topic_count; i++) {
        const struct backup_topic *topic = &backup->topics[i];

        dump_begin(self, "topic");
        dump_number(self, "id", topic->id);
        dump_text(self, "name", topic->name);
        dump_number(self, "start", topic->start);
        dump_number(self, "end", topic->end);
        err = dump_end(self);
        for (size_t f = 0; f < topic->file_count && err == ERR_OK; f++) {
            dump_begin(self, "backup_file");
            dump_number(self, "topic", topic->id);
            dump_number(self, "base_offset", topic->files[f].base);
            dump_number(self, "end_offset", topic->files[f].end);
            dump_number(self, "size", topic->files[f].size);
            err = dump_end(self);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return err;
}

static enum err dump_parsed_backup(struct dump *self, struct backup *backup, struct buf *file)
{
    uint8_t digest[DIGEST_SIZE];
    struct err_info info = {0};
    size_t manifest_size = 0;
    uint64_t size = file->size;
    enum err found = buf_append(file, "", 1);
    enum err err;

    if (found == ERR_OK) {
        found = strlen((const char *)file->data) == size
                    ? backup_index_parse(backup, (char *)file->data, &manifest_size, digest, &info)
                    : err_set(&info, ERR_CORRUPT, "the index holds a zero");
    }
    if (found != ERR_OK && found != ERR_CORRUPT && found != ERR_VERSION) {
        return err_set(self->info, found, "'%s': %s", self->path, err_text(found));
    }
    dump_begin_file(self, "backup-index", size);
    err = dump_end(self);
    if (err != ERR_OK || found != ERR_OK) {
        return err != ERR_OK ? err : dump_damage(self, 0, info.text);
    }
    dump_begin(self, "backup");
    dump_text(self, "cluster_id", backup->cluster_id);
    dump_number(self, "index", backup->index);
    dump_number(self, "term", backup->term);
    dump_number(self, "manifest_size", manifest_size);
    err = dump_end(self);
    return err == ERR_OK ? dump_backup_topics(self, backup) : err;
}

enum err dump_backup(struct dump *self, const char *path)
{
    struct backup backup = {.io = self->options->io};
    const char *slash = strrchr(path, '/');
    struct buf file;
    enum err err;

    (void)snprintf(backup.dir, sizeof backup.dir, "%.*s", slash == NULL ? 1 : (int)(slash - path),
                   slash == NULL ? "." : path); /* A part of the path: it fits. */
    buf_init(&file, BACKUP_INDEX_SIZE_MAX);
    err = io_read_file(self->options->io, path, BACKUP_INDEX_SIZE_MAX - 1, &file, self->info);
    if (err == ERR_OK) {
        err = dump_parsed_backup(self, &backup, &file);
    }
    buf_fini(&file);
    backup_close(&backup);
    return err;
}
