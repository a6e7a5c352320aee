/* Making the state machine's logs durable, beside the thread that applies. */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

struct item {
    struct topic *topic; /* owned reference that keeps log */
    struct log *log;
    struct log_sync *sync; /* owned */
};

struct fsm_sync {
    struct io *io; /* borrowed from the fsm, as is dir */
    const char *dir;
    uint64_t dir_changes; /* at begin */
    bool dir_dirty;
    bool done;
    enum err err; /* what run came to */
    size_t count;
    struct item items[];
};

/* Takes what is dirty in one log. */
static enum err add_item(struct fsm_sync *sync, struct topic *topic)
{
    struct item *item = &sync->items[sync->count];
    enum err err;

    *item = (struct item){.topic = topic, .log = topic->log};
    err = log_sync_begin(topic->log, &item->sync);
    if (err != ERR_OK || item->sync == NULL) {
        return err;
    }
    topic_ref(topic);
    sync->count++;
    return ERR_OK;
}

static enum err add_items(struct fsm_sync *sync, struct topic **topics, size_t count)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = add_item(sync, topics[i]);
    }
    return err;
}

static void release_topics(struct topic **topics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        topic_unref(topics[i]);
    }
    free(topics);
}

/* A log that cannot begin has failed, or memory is short: either way the sync as a whole cannot be
 * had. What was begun must be brought to its end, or it would be dirty and nobody would know. */
static enum err give_up(struct fsm *self, struct fsm_sync *sync, enum err err)
{
    (void)fsm_sync_run(sync, NULL); /* end says the same, */
    (void)fsm_sync_end(self, sync); /* and what brought us here is the better reason. */
    return fsm_fail(self, err);
}

enum err fsm_sync_begin_some(struct fsm *self, struct topic **topics, size_t count,
                             struct fsm_sync **ret_sync)
{
    struct fsm_sync *sync = calloc(1, sizeof *sync + count * sizeof sync->items[0]);
    enum err err;

    ASSERT(!self->syncing && !self->failed);
    if (sync == NULL) {
        return ERR_NOMEM;
    }
    sync->io = self->io;
    sync->dir = self->dir;
    sync->dir_changes = self->dir_changes;
    sync->dir_dirty = self->dir_synced < self->dir_changes;
    self->syncing = true;
    err = add_items(sync, topics, count);
    if (err != ERR_OK) {
        return give_up(self, sync, err);
    }
    if (sync->count == 0 && !sync->dir_dirty) {
        self->syncing = false;
        free(sync);
        sync = NULL;
    }
    *ret_sync = sync;
    return ERR_OK;
}

enum err fsm_sync_begin(struct fsm *self, struct fsm_sync **ret_sync)
{
    struct topic **topics;
    size_t count;
    enum err err;

    ASSERT(!self->syncing);
    if (self->failed) {
        return ERR_FAILED; /* F5 */
    }
    err = catalog_list(self->catalog, &topics, &count);
    if (err != ERR_OK) {
        return err;
    }
    err = fsm_sync_begin_some(self, topics, count, ret_sync);
    release_topics(topics, count);
    return err;
}

enum err fsm_sync_run(struct fsm_sync *sync, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(!sync->done);
    /* All of them, also after a failure: what was begun must be run to be ended. */
    for (size_t i = 0; i < sync->count; i++) {
        enum err one = log_sync_run(sync->items[i].sync, err == ERR_OK ? info : NULL);

        err = err == ERR_OK ? one : err;
    }
    if (err == ERR_OK && sync->dir_dirty) {
        err = io_sync_dir(sync->io, sync->dir, info);
    }
    sync->done = true;
    sync->err = err;
    return err;
}

enum err fsm_sync_end(struct fsm *self, struct fsm_sync *sync)
{
    enum err err = sync->done ? sync->err : ERR_CANCELED;

    ASSERT(self->syncing);
    for (size_t i = 0; i < sync->count; i++) {
        enum err one = log_sync_end(sync->items[i].log, sync->items[i].sync);

        err = err == ERR_OK ? one : err;
        topic_unref(sync->items[i].topic);
    }
    if (err == ERR_OK && self->dir_synced < sync->dir_changes) {
        self->dir_synced = sync->dir_changes;
    }
    self->syncing = false;
    free(sync);
    return err == ERR_OK ? ERR_OK : fsm_fail(self, err);
}
