#include "archive/backup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "base/assert.h"

enum { INDEX_SIZE_MAX = 1 << 30, PIECE_SIZE = 1 << 20 };

/* ---- names ---- */

void backup_dir_name(const struct backup_topic *topic, char ret_name[BACKUP_DIR_NAME_SIZE])
{
    (void)snprintf(ret_name, BACKUP_DIR_NAME_SIZE, "%s-%" PRIu64, topic->name,
                   topic->id); /* fits */
}

enum err backup_topic_path(const char *dir, const struct backup_topic *topic,
                           char ret_path[IO_PATH_SIZE], struct err_info *info)
{
    char name[BACKUP_DIR_NAME_SIZE];
    char topics[IO_PATH_SIZE];
    enum err err = io_path(topics, dir, "topics", info);

    backup_dir_name(topic, name);
    return err == ERR_OK ? io_path(ret_path, topics, name, info) : err;
}

enum err backup_file_path(const char *dir, const struct backup_topic *topic, uint64_t base,
                          char ret_path[IO_PATH_SIZE], struct err_info *info)
{
    char path[IO_PATH_SIZE];
    char name[BACKUP_FILE_NAME_SIZE];
    enum err err = backup_topic_path(dir, topic, path, info);

    (void)snprintf(name, sizeof name, "%020" PRIu64 ".store", base); /* fits */
    return err == ERR_OK ? io_path(ret_path, path, name, info) : err;
}

void backup_manifest_name(uint64_t index, char ret_name[BACKUP_FILE_NAME_SIZE])
{
    ASSERT(index > 0);
    (void)snprintf(ret_name, BACKUP_FILE_NAME_SIZE, BACKUP_MANIFEST_PREFIX "%020" PRIu64,
                   index); /* fits */
}

/* ---- the manifest ---- */

static enum err decode_manifest(const struct backup *self, struct manifest *ret_manifest,
                                struct err_info *info)
{
    enum err err = manifest_decode(self->manifest.data, self->manifest.size, ret_manifest, info);

    return err == ERR_OK ? ERR_OK : err_prefix(info, err, "the manifest of '%s'", self->dir);
}

enum err backup_match_manifest(struct backup *self, struct err_info *info)
{
    struct manifest manifest;
    enum err err = decode_manifest(self, &manifest, info);

    if (err != ERR_OK) {
        return err;
    }
    if (manifest.applied_index != self->index) {
        err = err_set(info, ERR_CORRUPT, "'%s': index and manifest are of different entries",
                      self->dir);
    }
    for (size_t i = 0; i < self->topic_count && err == ERR_OK; i++) {
        struct backup_topic *topic = &self->topics[i];
        const struct manifest_topic *promised = manifest_find(&manifest, topic->id);

        if (promised == NULL || strcmp(promised->name, topic->name) != 0 ||
            promised->start != topic->start || promised->end != topic->end) {
            err = err_set(info, ERR_CORRUPT, "'%s': the manifest has topic '%s' otherwise",
                          self->dir, topic->name);
        } else {
            memcpy(topic->start_digest, promised->start_digest, DIGEST_SIZE);
            memcpy(topic->digest, promised->digest, DIGEST_SIZE);
        }
    }
    manifest_fini(&manifest);
    return err;
}

/* Takes the topics out that the backup does not have. */
static void reduce(const struct backup *self, struct manifest *manifest)
{
    size_t kept = 0;
    size_t at = 0;

    for (size_t i = 0; i < manifest->topic_count; i++) {
        while (at < self->topic_count && self->topics[at].id < manifest->topics[i].id) {
            at++;
        }
        if (at < self->topic_count && self->topics[at].id == manifest->topics[i].id) {
            manifest->topics[kept++] = manifest->topics[i];
        } else {
            producers_forget_topic(manifest->producers, manifest->topics[i].id);
            cursors_forget_topic(manifest->cursors, manifest->topics[i].id);
        }
    }
    manifest->topic_count = kept;
    ASSERT(kept == self->topic_count);
}

enum err backup_manifest(const struct backup *self, struct slice *ret_bytes, struct err_info *info)
{
    struct manifest manifest;
    enum err err = decode_manifest(self, &manifest, info);

    if (err != ERR_OK) {
        return err;
    }
    reduce(self, &manifest);
    free(manifest.nodes); /* Whose disks they are is for the cluster that was. */
    manifest.nodes = NULL;
    err = manifest_encode(&manifest, ret_bytes);
    err = err == ERR_OK ? ERR_OK : err_set(info, err, "the manifest: %s", err_text(err));
    manifest_fini(&manifest);
    return err;
}

/* ---- opening ---- */

static enum err read_manifest(struct backup *self, size_t size, const uint8_t digest[DIGEST_SIZE],
                              struct err_info *info)
{
    char name[BACKUP_FILE_NAME_SIZE];
    char path[IO_PATH_SIZE];
    uint8_t found[DIGEST_SIZE];
    enum err err;

    backup_manifest_name(self->index, name);
    err = io_path(path, self->dir, name, info);
    if (err == ERR_OK) {
        err = io_read_file(self->io, path, MANIFEST_SIZE_MAX, &self->manifest, info);
    }
    if (err == ERR_NOT_FOUND || err == ERR_TOO_LARGE) {
        return err_set(info, ERR_CORRUPT, "'%s' is missing, or too large", path);
    }
    if (err != ERR_OK) {
        return err;
    }
    digest_bytes(self->manifest.data, self->manifest.size, found);
    if (self->manifest.size != size || memcmp(found, digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_CORRUPT, "'%s' is not what the index says", path);
    }
    return ERR_OK;
}

enum err backup_open(struct io *io, const char *dir, struct backup *ret_backup,
                     struct err_info *info)
{
    struct backup self = {.io = io};
    uint8_t digest[DIGEST_SIZE];
    char path[IO_PATH_SIZE];
    size_t size = 0;
    struct buf text;
    enum err err = io_path(path, dir, BACKUP_INDEX_NAME, info);

    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(self.dir, sizeof self.dir, "%s", dir); /* Shorter than path. */
    buf_init(&text, INDEX_SIZE_MAX);
    buf_init(&self.manifest, MANIFEST_SIZE_MAX);
    err = io_read_file(io, path, INDEX_SIZE_MAX - 1, &text, info);
    if (err == ERR_NOT_FOUND) {
        err = err_set(info, err, "there is no backup in '%s'", dir);
    }
    err = err == ERR_OK ? buf_append(&text, "", 1) : err;
    if (err == ERR_OK && strlen((const char *)text.data) != text.size - 1) {
        err = err_set(info, ERR_CORRUPT, "'%s' is no text", path);
    }
    err = err == ERR_OK ? backup_index_parse(&self, (char *)text.data, &size, digest, info) : err;
    err = err == ERR_OK ? read_manifest(&self, size, digest, info) : err;
    err = err == ERR_OK ? backup_match_manifest(&self, info) : err;
    buf_fini(&text);
    if (err == ERR_OK) {
        *ret_backup = self;
        return ERR_OK;
    }
    backup_close(&self);
    return err == ERR_NOMEM ? err_set(info, err, "open the backup in '%s': out of memory", dir)
                            : err;
}

void backup_close(struct backup *self)
{
    for (size_t i = 0; i < self->topic_count; i++) {
        free(self->topics[i].files);
    }
    free(self->topics);
    buf_fini(&self->manifest);
    *self = (struct backup){0};
}

/* ---- reading records ---- */

/* Room for the batch that begins at `bytes`, of which `have` were read. */
static size_t batch_size(const uint8_t *bytes, size_t have)
{
    struct batch_header header;

    if (have < BATCH_HEADER_SIZE ||
        batch_header_decode(bytes, CHAIN_BATCH_SIZE_MAX, &header, NULL) != ERR_OK) {
        return 0;
    }
    return header.size;
}

/* Bytes of `data` that are whole batches, as far as their headers can be believed. */
static size_t whole_batches(const uint8_t *data, size_t size)
{
    size_t at = 0;
    size_t next = batch_size(data, size);

    while (next > 0 && next <= size - at) {
        at += next;
        next = batch_size(data + at, size - at);
    }
    return at;
}

/* The piece at `position`: whole batches, at least one. */
static enum err read_piece(const struct store *store, uint64_t position, uint64_t size,
                           struct buf *piece, struct err_info *info)
{
    uint64_t left = size - position;
    size_t want = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;
    enum err err = buf_reserve(piece, want);

    ASSERT(piece->size == 0 && left > 0);
    err = err == ERR_OK ? store_read(store, position, piece->data, want, info) : err;
    if (err == ERR_OK && whole_batches(piece->data, want) == 0) {
        size_t first = batch_size(piece->data, want);

        if (first > want && first <= left) {
            want = first;
            err = buf_reserve(piece, want);
            err = err == ERR_OK ? store_read(store, position, piece->data, want, info) : err;
        }
    }
    if (err == ERR_NOMEM) {
        return err_set(info, err, "no memory to read %zu bytes of the backup", want);
    }
    if (err == ERR_OK) {
        size_t whole = whole_batches(piece->data, want);

        /* Where nothing is a batch, the chain says what is wrong with it. */
        piece->size = whole > 0 ? whole : want;
    }
    return err;
}

enum err backup_read_store(const struct store *store, uint64_t size, struct backup_walker *walker,
                           struct err_info *info)
{
    uint64_t position = STORE_HEADER_SIZE;
    struct buf piece;
    enum err err = ERR_OK;

    if (store_size(store) < size) {
        return store_error(store, store_size(store), err_set(info, ERR_CORRUPT, "the file ends"),
                           info);
    }
    buf_init(&piece, CHAIN_BATCH_SIZE_MAX);
    while (err == ERR_OK && position < size) {
        size_t done = 0;

        buf_consume(&piece, piece.size);
        err = read_piece(store, position, size, &piece, info);
        if (err != ERR_OK) {
            break; /* The text has file and position. */
        }
        err = chain_batches(&walker->chain, piece.data, piece.size, &done, info);
        if (err != ERR_OK) {
            err = store_error(store, position + done, err, info);
        } else if (walker->cb != NULL) {
            err = walker->cb(walker->arg, piece.data, piece.size, info);
        }
        position += piece.size;
    }
    buf_fini(&piece);
    return err;
}

static enum err walk_file(const struct backup *self, const struct backup_topic *topic,
                          const struct backup_file *file, struct backup_walker *walker,
                          struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct store *store;
    enum err err = backup_file_path(self->dir, topic, file->base, path, info);

    err = err == ERR_OK ? store_open(self->io, path, file->base, &store, info) : err;
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    }
    err = backup_read_store(store, file->size, walker, info);
    if (err == ERR_OK && walker->chain.offset != file->end) {
        err = err_set(info, ERR_CORRUPT, "'%s' ends at offset %" PRIu64 ", not at %" PRIu64, path,
                      walker->chain.offset, file->end);
    }
    store_unref(store);
    return err;
}

enum err backup_walk(const struct backup *self, const struct backup_topic *topic,
                     backup_batches_cb cb, void *arg, struct err_info *info)
{
    struct backup_walker walker = {.cb = cb, .arg = arg};
    enum err err = ERR_OK;

    chain_init(&walker.chain, topic->file_count > 0 ? topic->files[0].base : topic->start, NULL);
    for (size_t i = 0; i < topic->file_count && err == ERR_OK; i++) {
        err = walk_file(self, topic, &topic->files[i], &walker, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(IMPLIES(topic->file_count > 0, walker.chain.offset == topic->end));
    if (topic->file_count > 0 && memcmp(walker.chain.digest, topic->digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_CORRUPT, "'%s': topic '%s' does not lead to the manifest's digest",
                       self->dir, topic->name);
    }
    return ERR_OK;
}
