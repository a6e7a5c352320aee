/*
 * Writing a backup: topic after topic, what the one before lacks; then the manifest; then the
 * index, which makes it the backup; then what no longer belongs to it goes.
 *
 *      backup_begin ──► backup_next ──► backup_add … ──► backup_next … ──► backup_end
 *                         └─ links sealed segments of a node on this machine
 *
 * Failure modes: a crash at any time leaves files that no index names: a later run writes over
 * them or removes them. A batch that does not follow on the one before is refused before it is
 * written.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/backup_internal.h"
#include "archive/backup_tidy.h"
#include "base/assert.h"

enum { FILE_SIZE_MAX = 64 << 20 };

struct backup_writer {
    struct io *io;
    int lock_fd;
    bool has_old;
    struct backup old;       /* what was there */
    struct backup new;       /* what will be */
    char data[IO_PATH_SIZE]; /* "DATA/group-1/topics"; "": none */
    size_t at;               /* the topic that is being brought */
    bool entered;            /* chain is that of this topic */
    struct chain chain;
    uint64_t until;      /* the wanted end */
    int64_t time_us;     /* of the manifest */
    struct store *store; /* owned: the file that is being written; NULL: none */
    struct backup_totals totals;
};

/* ---- the beginning ---- */

/* `dir`, made when it is missing; its parent must be there. */
static enum err make_dir(struct io *io, const char *dir, struct err_info *info)
{
    char parent[IO_PATH_SIZE];
    size_t size = strlen(dir);
    char *slash;

    while (size > 1 && dir[size - 1] == '/') {
        size--;
    }
    if (size >= sizeof parent) {
        return err_set(info, ERR_INVALID, "the path of the backup is too long");
    }
    memcpy(parent, dir, size);
    parent[size] = '\0';
    if (strcmp(parent, "/") == 0 || strcmp(parent, ".") == 0) {
        return ERR_OK;
    }
    slash = strrchr(parent, '/');
    if (slash == NULL) {
        return io_make_dir(io, ".", parent, info);
    }
    *slash = '\0';
    return io_make_dir(io, slash == parent ? "/" : parent, slash + 1, info);
}

static enum err take_lock(struct backup_writer *self, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = io_path(path, self->new.dir, "lock", info);
    int rv;

    err = err == ERR_OK ? io_open(self->io, path, O_RDWR | O_CREAT, &self->lock_fd, info) : err;
    if (err != ERR_OK) {
        return err;
    }
    rv = self->io->lock(self->io, self->lock_fd);
    if (rv == -EWOULDBLOCK) {
        return err_set(info, ERR_LOCKED, "another backup into '%s' is under way", self->new.dir);
    }
    return rv < 0 ? io_error(rv, "lock", path, info) : ERR_OK;
}

static bool is_wanted(const struct backup_source *source, const char *name)
{
    for (size_t i = 0; i < source->topic_count; i++) {
        if (strcmp(source->topics[i], name) == 0) {
            return true;
        }
    }
    return source->topics == NULL;
}

static enum err choose_topics(struct backup_writer *self, const struct backup_source *source,
                              const struct manifest *manifest, struct err_info *info)
{
    struct backup *new = &self->new;

    new->topics = calloc(manifest->topic_count + 1, sizeof *new->topics); /* never of size 0 */
    if (new->topics == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < manifest->topic_count; i++) {
        const struct manifest_topic *from = &manifest->topics[i];
        struct backup_topic *topic = &new->topics[new->topic_count];

        if (is_wanted(source, from->name)) {
            topic->id = from->id;
            topic->start = from->start;
            topic->log_start = from->log_start;
            topic->end = from->end;
            memcpy(topic->name, from->name, sizeof topic->name);
            memcpy(topic->start_digest, from->start_digest, DIGEST_SIZE);
            memcpy(topic->digest, from->digest, DIGEST_SIZE);
            new->topic_count++;
        }
    }
    for (size_t i = 0; i < source->topic_count; i++) {
        bool found = false;

        for (size_t j = 0; j < new->topic_count && !found; j++) {
            found = strcmp(new->topics[j].name, source->topics[i]) == 0;
        }
        if (!found) {
            return err_set(info, ERR_NOT_FOUND, "there is no topic '%s'", source->topics[i]);
        }
    }
    return ERR_OK;
}

static int compare_id(const void *key, const void *element)
{
    const uint64_t *id = key;
    const struct backup_topic *topic = element;

    return (*id > topic->id) - (*id < topic->id);
}

static const struct backup_topic *find_old(const struct backup_writer *self, uint64_t id)
{
    if (!self->has_old || self->old.topic_count == 0) {
        return NULL;
    }
    return bsearch(&id, self->old.topics, self->old.topic_count, sizeof *self->old.topics,
                   compare_id);
}

/* The files of the backup before that hold what this one wants. */
static enum err keep_files(struct backup_writer *self, struct backup_topic *topic,
                           struct err_info *info)
{
    const struct backup_topic *old = find_old(self, topic->id);
    enum err err = ERR_OK;

    if (old == NULL) {
        return ERR_OK;
    }
    if (old->end > topic->end || old->start > topic->start ||
        (old->end == topic->end && memcmp(old->digest, topic->digest, DIGEST_SIZE) != 0)) {
        return err_set(info, ERR_CORRUPT, "topic '%s' has another history than its backup in '%s'",
                       topic->name, self->new.dir);
    }
    for (size_t i = 0; i < old->file_count && err == ERR_OK; i++) {
        if (old->files[i].end > topic->start) {
            err = backup_push_file(topic, &old->files[i]);
        }
    }
    return err == ERR_OK ? ERR_OK : err_set(info, err, "out of memory");
}

static enum err open_old(struct backup_writer *self, const struct backup_source *source,
                         struct err_info *info)
{
    enum err err = backup_open(self->io, self->new.dir, &self->old, info);

    self->has_old = err == ERR_OK;
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK && strcmp(self->old.cluster_id, source->cluster_id) != 0) {
        return err_set(info, ERR_WRONG_CLUSTER, "'%s' is a backup of cluster %s, not of %s",
                       self->new.dir, self->old.cluster_id, source->cluster_id);
    }
    if (err == ERR_OK && self->old.index > source->index) {
        return err_set(info, ERR_RANGE,
                       "the node has applied entry %" PRIu64
                       ", and the backup in '%s' goes up to %" PRIu64,
                       source->index, self->new.dir, self->old.index);
    }
    return err;
}

static enum err plan(struct backup_writer *self, const struct backup_source *source,
                     struct err_info *info)
{
    struct backup *new = &self->new;
    struct manifest manifest;
    enum err err = buf_append(&new->manifest, source->manifest, source->manifest_size);

    if (err != ERR_OK) {
        return err_set(info, err, "the manifest: %s", err_text(err));
    }
    err = manifest_decode(source->manifest, source->manifest_size, &manifest, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "the node's manifest");
    }
    err = manifest.applied_index == source->index
              ? choose_topics(self, source, &manifest, info)
              : err_set(info, ERR_CORRUPT, "the node's manifest is of another entry than it says");
    self->time_us = manifest.time_us;
    manifest_fini(&manifest);
    for (size_t i = 0; i < new->topic_count &&err == ERR_OK; i++) {
        err = keep_files(self, &new->topics[i], info);
    }
    return err;
}

enum err backup_begin(struct io *io, const char *dir, const struct backup_source *source,
                      struct backup_writer **ret_writer, struct err_info *info)
{
    struct backup_writer *self = calloc(1, sizeof *self);
    char group[IO_PATH_SIZE];
    enum err err;

    ASSERT(source->index > 0 && strlen(source->cluster_id) < BACKUP_CLUSTER_ID_SIZE);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    self->io = self->new.io = io;
    self->lock_fd = -1;
    self->new.index = source->index;
    self->new.term = source->term;
    buf_init(&self->new.manifest, MANIFEST_SIZE_MAX);
    (void)snprintf(self->new.cluster_id, sizeof self->new.cluster_id, "%s", source->cluster_id);
    err = io_path(self->new.dir, dir, ".", info);                   /* Bounds it. */
    (void)snprintf(self->new.dir, sizeof self->new.dir, "%s", dir); /* fits, as seen */
    if (err == ERR_OK && source->data != NULL) {
        err = io_path(group, source->data, "group-1", info);
        err = err == ERR_OK ? io_path(self->data, group, "topics", info) : err;
    }
    err = err == ERR_OK ? make_dir(io, dir, info) : err;
    err = err == ERR_OK ? take_lock(self, info) : err;
    err = err == ERR_OK ? io_make_dir(io, dir, "topics", info) : err;
    err = err == ERR_OK ? open_old(self, source, info) : err;
    err = err == ERR_OK ? plan(self, source, info) : err;
    if (err != ERR_OK) {
        backup_abort(self);
        return err;
    }
    self->totals.index = source->index;
    self->totals.topics = self->new.topic_count;
    *ret_writer = self;
    return ERR_OK;
}

void backup_abort(struct backup_writer *self)
{
    if (self == NULL) {
        return;
    }
    store_unref(self->store); /* What it left is removed by a later run. */
    if (self->has_old) {
        backup_close(&self->old);
    }
    backup_close(&self->new);
    io_close(self->io, &self->lock_fd);
    free(self);
}

/* ---- files ---- */

static struct backup_topic *current(struct backup_writer *self)
{
    ASSERT(self->at < self->new.topic_count);
    return &self->new.topics[self->at];
}

static enum err add_file(struct backup_writer *self, uint64_t base, uint64_t size,
                         struct err_info *info)
{
    const struct backup_file file = {.base = base, .end = self->chain.offset, .size = size};
    enum err err = backup_push_file(current(self), &file);

    ASSERT(file.base < file.end);
    self->totals.records += file.end - file.base;
    return err == ERR_OK ? ERR_OK : err_set(info, err, "out of memory");
}

/* The file is whole: it gets its name, durably but for the directory's entry. */
static enum err close_store(struct backup_writer *self, struct err_info *info)
{
    struct store *store = self->store;
    enum err err;

    if (store == NULL) {
        return ERR_OK;
    }
    self->store = NULL;
    err = store_sync(store, info);
    err = err == ERR_OK ? store_commit(store, info) : err;
    if (err == ERR_OK) {
        self->totals.copied += store_size(store);
        err = add_file(self, store->base_offset, store_size(store), info);
    }
    store_unref(store);
    return err;
}

static enum err open_store(struct backup_writer *self, uint64_t base, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    char leftover[IO_PATH_SIZE + 8];
    struct store_options options = {
        .io = self->io, .path = path, .base_offset = base, .generation = 1, .temporary = true};
    enum err err = backup_file_path(self->new.dir, current(self), base, path, info);

    ASSERT(self->store == NULL);
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(leftover, sizeof leftover, "%s.tmp", path); /* fits */
    (void)self->io->unlink(self->io, leftover); /* Of an interrupted run; else creating fails. */
    return store_create(&options, &self->store, info);
}

static enum err write_batches(struct backup_writer *self, uint64_t base, const uint8_t *batches,
                              size_t size, struct err_info *info)
{
    const struct iovec part = {.iov_base = (void *)batches, .iov_len = size};
    enum err err = ERR_OK;

    if (size == 0) {
        return ERR_OK;
    }
    if (self->store == NULL) {
        err = open_store(self, base, info);
    }
    err = err == ERR_OK ? store_append(self->store, &part, 1, size, info) : err;
    if (err == ERR_OK && store_size(self->store) >= FILE_SIZE_MAX) {
        err = close_store(self, info);
    }
    return err;
}

/* ---- topics ---- */

static enum err enter(struct backup_writer *self, struct err_info *info)
{
    struct backup_topic *topic = current(self);
    const struct backup_topic *old = find_old(self, topic->id);
    char topics[IO_PATH_SIZE];
    char name[BACKUP_DIR_NAME_SIZE];
    enum err err = io_path(topics, self->new.dir, "topics", info);

    self->entered = true;
    if (old != NULL && old->end >= topic->start) {
        chain_init(&self->chain, old->end, old->end > 0 ? old->digest : NULL);
    } else {
        chain_init(&self->chain, topic->start, NULL);
    }
    if (self->chain.offset == topic->end) {
        return err;
    }
    backup_dir_name(topic, name);
    return err == ERR_OK ? io_make_dir(self->io, topics, name, info) : err;
}

static enum err leave(struct backup_writer *self, struct err_info *info)
{
    const struct backup_topic *topic = current(self);
    char path[IO_PATH_SIZE];
    enum err err = close_store(self, info);

    if (err == ERR_OK && topic->end > topic->start &&
        memcmp(self->chain.digest, topic->digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_CORRUPT,
                       "the batches of topic '%s' do not lead to the manifest's digest",
                       topic->name);
    }
    if (err == ERR_OK && topic->file_count > 0) {
        err = backup_topic_path(self->new.dir, topic, path, info);
        err = err == ERR_OK ? io_sync_dir(self->io, path, info) : err; /* B2 */
    }
    self->at++;
    self->entered = false;
    return err;
}

/* ---- hard links ---- */

/* Links the segment [base, end) of a node's log, and keeps it if it is what it should be. */
static enum err link_segment(struct backup_writer *self, const char *from, uint64_t end,
                             bool *ret_linked, struct err_info *info)
{
    struct backup_walker walker = {.chain = self->chain};
    char path[IO_PATH_SIZE];
    struct store *store;
    enum err err = backup_file_path(self->new.dir, current(self), walker.chain.offset, path, info);
    int rv;

    *ret_linked = false;
    if (err != ERR_OK || self->io->link == NULL) {
        return err;
    }
    (void)self->io->unlink(self->io, path); /* Of an interrupted run; else linking fails. */
    rv = self->io->link(self->io, from, path);
    if (rv < 0) {
        return ERR_OK; /* Another file system, or gone: it is copied. */
    }
    err = store_open(self->io, path, walker.chain.offset, &store, info);
    if (err == ERR_OK) {
        err = backup_read_store(store, store_size(store), &walker, info);
        if (err == ERR_OK && walker.chain.offset == end && store_sync(store, info) == ERR_OK) {
            uint64_t base = self->chain.offset;

            self->chain = walker.chain;
            self->totals.linked += store_size(store);
            err = add_file(self, base, store_size(store), info);
            *ret_linked = true;
        }
        store_unref(store);
    }
    if (!*ret_linked) {
        (void)self->io->unlink(self->io, path); /* A later run removes it otherwise. */
    }
    return err == ERR_CORRUPT || err == ERR_VERSION ? ERR_OK : err;
}

/* Links what can be linked from here on; until: where the next segment begins that could be. */
static enum err link_segments(struct backup_writer *self, struct err_info *info)
{
    const struct backup_topic *topic = current(self);
    char dir[IO_PATH_SIZE];
    char name[BACKUP_DIR_NAME_SIZE];
    char path[IO_PATH_SIZE];
    struct backup_bases bases = {0};
    bool linked = true;
    enum err err;

    self->until = topic->end;
    if (self->data[0] == '\0') {
        return ERR_OK;
    }
    backup_dir_name(topic, name);
    err = io_path(dir, self->data, name, info);
    err = err == ERR_OK ? backup_list_bases(self->io, dir, &bases, info) : err;
    /* The last one is not sealed: it grows. */
    for (size_t i = 0; i + 1 < bases.count && err == ERR_OK; i++) {
        if (bases.items[i] == self->chain.offset && bases.items[i + 1] <= topic->end && linked) {
            err = close_store(self, info);
            (void)snprintf(name, sizeof name, "%020" PRIu64 ".store", bases.items[i]); /* fits */
            err = err == ERR_OK ? io_path(path, dir, name, info) : err;
            err = err == ERR_OK ? link_segment(self, path, bases.items[i + 1], &linked, info) : err;
        } else if (bases.items[i] > self->chain.offset && bases.items[i + 1] <= topic->end &&
                   linked) {
            self->until = bases.items[i];
            break;
        }
    }
    free(bases.items);
    return err;
}

/* ---- what callers use ---- */

enum err backup_next(struct backup_writer *self, bool *ret_wanted, struct backup_want *ret_want,
                     struct err_info *info)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && self->at < self->new.topic_count) {
        if (!self->entered) {
            err = enter(self, info);
        }
        if (err == ERR_OK && self->chain.offset < current(self)->end) {
            err = link_segments(self, info);
        }
        if (err == ERR_OK && self->chain.offset < current(self)->end) {
            *ret_wanted = true;
            /* The first batch may hold records that were trimmed: it is had by the first that was
             * not. */
            *ret_want = (struct backup_want){.name = current(self)->name,
                                             .offset = self->chain.offset < current(self)->log_start
                                                           ? current(self)->log_start
                                                           : self->chain.offset,
                                             .end = self->until};
            return ERR_OK;
        }
        err = err == ERR_OK ? leave(self, info) : err;
    }
    *ret_wanted = false;
    return err;
}

/* The header of the first batch, and whether the backup has use for a part of it only. */
static enum err look_at(const struct backup_writer *self, const uint8_t *batches, size_t size,
                        struct batch_header *ret_header, bool *ret_cut, struct err_info *info)
{
    enum err err;

    if (size < BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", size);
    }
    err = batch_header_decode(batches, CHAIN_BATCH_SIZE_MAX, ret_header, info);
    if (err == ERR_OK && ret_header->size > size) {
        err = err_set(info, ERR_CORRUPT, "the batch at offset %" PRIu64 " is cut off",
                      ret_header->base_offset);
    }
    if (err == ERR_OK) {
        *ret_cut = backup_straddles(&self->new.topics[self->at], &self->chain, ret_header);
    }
    return err;
}

/* Adds the part of the batch that belongs into the backup. */
static enum err add_part(struct backup_writer *self, const uint8_t *batch, uint32_t size,
                         struct err_info *info)
{
    const struct backup_edges edges = {.topic = current(self),
                                       .chain = &self->chain,
                                       .index = self->new.index,
                                       .term = self->new.term,
                                       .time_us = self->time_us};
    uint64_t base = self->chain.offset;
    struct buf part;
    uint32_t part_size;
    enum err err;

    buf_init(&part, CHAIN_BATCH_SIZE_MAX);
    err = backup_cut(&edges, batch, size, &part, info);
    err = err == ERR_OK ? chain_batch(&self->chain, part.data, part.size, &part_size, info) : err;
    err = err == ERR_OK ? write_batches(self, base, part.data, part.size, info) : err;
    buf_fini(&part);
    return err;
}

/* Adds batches up to one that has to be cut. *ret_done: bytes. */
static enum err add_whole(struct backup_writer *self, const uint8_t *batches, size_t size,
                          size_t *ret_done, struct err_info *info)
{
    uint64_t base = self->chain.offset;
    enum err err = ERR_OK;

    *ret_done = 0;
    while (err == ERR_OK && *ret_done < size && self->chain.offset < self->until) {
        struct batch_header header;
        uint32_t batch = 0;
        bool cut = false;

        err = look_at(self, batches + *ret_done, size - *ret_done, &header, &cut, info);
        if (err == ERR_OK && cut) {
            break;
        }
        err = err == ERR_OK
                  ? chain_batch(&self->chain, batches + *ret_done, size - *ret_done, &batch, info)
                  : err;
        *ret_done += batch;
    }
    if (err == ERR_OK && self->chain.offset > current(self)->end) {
        err = err_set(info, ERR_CORRUPT, "a batch reaches beyond offset %" PRIu64,
                      current(self)->end);
    }
    return err == ERR_OK ? write_batches(self, base, batches, *ret_done, info) : err;
}

enum err backup_add(struct backup_writer *self, const uint8_t *batches, size_t size,
                    struct err_info *info)
{
    size_t done = 0;
    enum err err = ERR_OK;

    ASSERT(self->entered && self->chain.offset < self->until);
    while (err == ERR_OK && done < size && self->chain.offset < self->until) {
        struct batch_header header;
        size_t whole = 0;
        bool cut = false;

        err = look_at(self, batches + done, size - done, &header, &cut, info);
        if (err == ERR_OK && cut) {
            err = add_part(self, batches + done, header.size, info);
            done += header.size;
        } else if (err == ERR_OK) {
            err = add_whole(self, batches + done, size - done, &whole, info);
            done += whole;
        }
    }
    return err == ERR_OK ? ERR_OK : err_prefix(info, err, "topic '%s'", current(self)->name);
}

enum err backup_end(struct backup_writer *self, struct backup_totals *ret_totals,
                    struct err_info *info)
{
    struct backup *new = &self->new;
    char name[BACKUP_FILE_NAME_SIZE];
    char topics[IO_PATH_SIZE];
    struct buf index;
    enum err err = io_path(topics, new->dir, "topics", info);

    ASSERT(self->at == new->topic_count && self->store == NULL);
    buf_init(&index, 1 << 30);
    backup_manifest_name(new->index, name);
    err = err == ERR_OK ? io_sync_dir(self->io, topics, info) : err;
    err = err == ERR_OK ? io_replace_file(self->io, new->dir, name, new->manifest.data,
                                          new->manifest.size, info)
                        : err;
    if (err == ERR_OK && backup_index_encode(new, &index) != ERR_OK) {
        err = err_set(info, ERR_NOMEM, "the index of the backup cannot be made");
    }
    err = err == ERR_OK
              ? io_replace_file(self->io, new->dir, BACKUP_INDEX_NAME, index.data, index.size, info)
              : err;
    buf_fini(&index);
    if (err == ERR_OK) {
        *ret_totals = self->totals;
        err = backup_tidy(new, info);
    }
    backup_abort(self);
    return err;
}
