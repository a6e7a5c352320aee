/*
 * Making a log durable beside its writer.
 *
 * begin notes which stores hold bytes that no sync has covered, with a reference to each; run
 * syncs them and then the directory, in any thread, while the writer goes on; end notes how far
 * each is durable now. What is appended between begin and end stays dirty. A sync that fails is
 * never tried again: the kernel may have dropped the pages and would report success. What was
 * filled becomes ordinary here (log_settle): its durable name and its index say that it was synced.
 * What was superseded goes here, too: as long as some of it is there, there is something to sync.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "log/log_internal.h"

struct item {
    struct segment *segment; /* owned reference */
    uint64_t size;           /* of the store at begin; durable after run */
    bool store_dirty;
    int index_fd; /* owned; of an index just sealed, else -1 */
};

struct log_sync {
    struct io *io;        /* borrowed from the log */
    const char *dir;      /* borrowed from the log */
    uint64_t dir_changes; /* at begin; durable after run */
    bool dir_dirty;
    bool done;    /* run was called */
    enum err err; /* what it came to */
    size_t count;
    struct item items[];
};

static bool is_dirty(const struct segment *segment)
{
    return segment->store->synced_size < store_size(segment->store) || segment->index_fd >= 0;
}

enum err log_sync_begin(struct log *self, struct log_sync **ret_sync)
{
    bool dir_dirty = self->dir_synced < self->dir_changes || self->superseded_count > 0;
    struct log_sync *sync;
    size_t count = 0;

    if (!log_healthy(self)) {
        return ERR_FAILED; /* I6 */
    }
    for (size_t i = 0; i < self->list.count; i++) {
        count += is_dirty(self->list.items[i]) ? 1 : 0;
    }
    if (count == 0 && !dir_dirty) {
        *ret_sync = NULL;
        return ERR_OK;
    }
    sync = calloc(1, sizeof *sync + count * sizeof sync->items[0]);
    if (sync == NULL) {
        return ERR_NOMEM;
    }
    sync->io = self->config.io;
    sync->dir = self->dir;
    sync->dir_changes = self->dir_changes;
    sync->dir_dirty = dir_dirty;
    for (size_t i = 0; i < self->list.count; i++) {
        struct segment *segment = self->list.items[i];

        if (is_dirty(segment)) {
            uint64_t size = store_size(segment->store);

            sync->items[sync->count] = (struct item){
                .segment = segment_ref(segment),
                .size = size,
                .store_dirty = segment->store->synced_size < size,
                .index_fd = segment->index_fd,
            };
            segment->index_fd = -1;
            sync->count += 1;
        }
    }
    ASSERT(sync->count == count);
    *ret_sync = sync;
    return ERR_OK;
}

enum err log_sync_run(struct log_sync *sync, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(!sync->done);
    for (size_t i = 0; err == ERR_OK && i < sync->count; i++) {
        const struct item *item = &sync->items[i];

        if (item->store_dirty) {
            err = store_sync(item->segment->store, info);
        }
        if (err == ERR_OK && item->index_fd >= 0) {
            err = io_sync(sync->io, item->index_fd, item->segment->store->path, info);
        }
    }
    if (err == ERR_OK && sync->dir_dirty) {
        err = io_sync_dir(sync->io, sync->dir, info);
    }
    sync->done = true;
    sync->err = err;
    return err;
}

enum err log_sync_end(struct log *self, struct log_sync *sync)
{
    enum err err = sync->done ? sync->err : ERR_CANCELED;

    for (size_t i = 0; i < sync->count; i++) {
        struct item *item = &sync->items[i];
        struct store *store = item->segment->store;

        if (err == ERR_OK && store->synced_size < item->size) {
            store_set_synced(store, item->size);
        }
        segment_close_index_fd(item->segment, &item->index_fd);
        segment_unref(item->segment);
    }
    if (err == ERR_OK && self->dir_synced < sync->dir_changes) {
        self->dir_synced = sync->dir_changes;
    }
    free(sync);
    if (err == ERR_OK && log_healthy(self)) {
        err = log_settle(self, NULL);
    }
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

enum err log_sync(struct log *self, struct err_info *info)
{
    struct log_sync *sync = NULL;
    enum err err = log_sync_begin(self, &sync);

    if (err != ERR_OK) {
        return err_set(info, err, "sync '%s': %s", self->dir, err_text(err));
    }
    if (sync == NULL) {
        return ERR_OK;
    }
    (void)log_sync_run(sync, info); /* end says the same */
    return log_sync_end(self, sync);
}
