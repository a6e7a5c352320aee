/* How many files the topics' logs keep open. */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

bool fsm_is_crowded(const struct fsm *self)
{
    return file_cache_is_crowded(self->files);
}

bool fsm_is_filling(const struct fsm *self)
{
    return file_cache_is_filling(self->files);
}

void fsm_file_stats(const struct fsm *self, struct file_cache_stats *ret_stats)
{
    file_cache_stats(self->files, ret_stats);
}

/* Calls `each` for the topics' logs until one fails. */
static enum err for_all(struct fsm *self,
                        enum err (*each)(struct fsm *self, struct log *log, struct err_info *info),
                        struct err_info *info)
{
    struct topic **topics;
    size_t count;
    enum err err = catalog_list(self->catalog, &topics, &count);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        err = err == ERR_OK ? each(self, topics[i]->log, info) : err;
        topic_unref(topics[i]);
    }
    free(topics);
    return err;
}

static enum err sync_one(struct fsm *self, struct log *log, struct err_info *info)
{
    return file_cache_is_crowded(self->files) ? log_sync(log, info) : ERR_OK;
}

enum err fsm_ease_files(struct fsm *self, struct log *log, struct err_info *info)
{
    enum err err;

    if (!file_cache_is_full(self->files)) {
        return ERR_OK;
    }
    if (log != NULL) {
        return log_sync(log, info);
    }
    err = for_all(self, sync_one, info);
    return err == ERR_NOMEM ? ERR_OK : err; /* Put off: there is some room still. */
}
