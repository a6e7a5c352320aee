/*
 * What some topics' settings ask for from time to time: syncing what is dirty (flush_ms), sealing a
 * segment that has grown old without another batch (segment_ms).
 */
#include <stdlib.h>
#include <utlist.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

enum { SEGMENTS_EVERY_MS = 1000 };

static bool wants_upkeep(const struct topic_settings *settings)
{
    return settings->flush_ms > 0 || settings->segment_ms > 0;
}

void fsm_use_settings(struct fsm *self, struct topic *topic, const struct topic_settings *settings)
{
    topic_settings_set(topic, settings);
    fsm_configure_log(topic->log, settings);
    if (wants_upkeep(settings) && !topic->kept) {
        DL_APPEND2(self->kept, topic, kept_prev, kept_next);
        topic->kept = true;
    } else if (!wants_upkeep(settings)) {
        fsm_end_upkeep(self, topic);
    }
    topic->flush_at_ms = 0;
    self->upkeep_at_ms = 0; /* It is looked at anew. */
}

void fsm_end_upkeep(struct fsm *self, struct topic *topic)
{
    if (topic->kept) {
        DL_DELETE2(self->kept, topic, kept_prev, kept_next);
        topic->kept = false;
    }
}

uint64_t fsm_upkeep_deadline_ms(const struct fsm *self)
{
    return self->kept == NULL || self->failed ? UINT64_MAX : self->upkeep_at_ms;
}

/* Notes when the topic is due next; true: its log is to be synced now. */
static bool is_flush_due(struct topic *topic, uint64_t now_ms, uint64_t *at_ms)
{
    uint64_t flush_ms = topic->settings.flush_ms;
    bool due = flush_ms > 0 && now_ms >= topic->flush_at_ms;

    if (due) {
        topic->flush_at_ms = now_ms + flush_ms;
    }
    if (flush_ms > 0 && topic->flush_at_ms < *at_ms) {
        *at_ms = topic->flush_at_ms;
    }
    return due;
}

static enum err end_old_segment(const struct topic *topic, int64_t now_us, struct err_info *info)
{
    enum err err = log_tick(topic->log, now_us, info);

    return err == ERR_OK ? ERR_OK : err_prefix(info, err, "topic '%s'", topic->name);
}

static size_t count_kept(const struct fsm *self)
{
    const struct topic *topic;
    size_t count = 0;

    DL_COUNT2(self->kept, topic, count, kept_next);
    return count;
}

enum err fsm_upkeep(struct fsm *self, uint64_t now_ms, struct fsm_sync **ret_sync,
                    struct err_info *info)
{
    struct topic **due = malloc((count_kept(self) + 1) * sizeof(struct topic *));
    uint64_t at_ms = UINT64_MAX;
    struct topic *topic;
    size_t count = 0;
    enum err err = ERR_OK;

    ASSERT(!self->syncing && !self->failed);
    *ret_sync = NULL;
    if (due == NULL) {
        self->upkeep_at_ms = now_ms + SEGMENTS_EVERY_MS; /* Nothing was changed: later. */
        return ERR_OK;
    }
    DL_FOREACH2(self->kept, topic, kept_next)
    {
        if (err == ERR_OK && topic->settings.segment_ms > 0) {
            err = end_old_segment(topic, self->time_us, info);
            at_ms = now_ms + SEGMENTS_EVERY_MS < at_ms ? now_ms + SEGMENTS_EVERY_MS : at_ms;
        }
        if (is_flush_due(topic, now_ms, &at_ms)) {
            due[count++] = topic;
        }
    }
    self->upkeep_at_ms = at_ms;
    if (err != ERR_OK) {
        (void)fsm_fail(self, err);
    } else if (count > 0) {
        err = fsm_sync_begin_some(self, due, count, ret_sync);
        err = err == ERR_OK ? ERR_OK : err_set(info, err, "%s", err_text(err));
    }
    free(due);
    return err;
}
