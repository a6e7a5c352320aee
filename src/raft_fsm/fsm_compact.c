/*
 * Compaction of a topic's files, in steps beside the thread that applies (replica_compact.c).
 *
 * What was cleaned is known in memory alone: after a restart the first pass begins at the start.
 * Whoever changes the log behind the cleaner's back, by a hole or its filling, may bring back what
 * was superseded: all that was cleaned is void then, and a pass that is under way, too. (F9)
 */
#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

#define SEGMENT_SIZE_DEFAULT (UINT64_C(64) * 1024 * 1024) /* as log/log.h says */

/* What a call of the log returned. */
static enum err outcome(struct fsm *self, const struct topic *topic, enum err err,
                        struct err_info *info)
{
    if (err == ERR_OK) {
        return ERR_OK;
    }
    (void)err_prefix(info, err, "topic '%s'", topic->name);
    return log_healthy(topic->log) ? err : fsm_fail(self, err);
}

/* ---- what is to be done ---- */

bool fsm_may_clean(const struct fsm *self, const struct topic *topic)
{
    return !self->failed && !atomic_load(&topic->deleted) && topic->holes == 0 &&
           topic->end == log_end(topic->log);
}

/* Whether what lies at `offset` is in a segment that can be replaced. */
static bool is_sealed_at(const struct topic *topic, uint64_t offset)
{
    struct log_extent extent;

    return log_extent_at(topic->log, offset, &extent, NULL) == ERR_OK && extent.sealed;
}

void fsm_cleaning_due(const struct fsm *self, const struct topic *topic,
                      struct fsm_cleaning *ret_due)
{
    uint64_t cleaned_to = atomic_load(&topic->cleaned_to);
    uint64_t start = log_start(topic->log);
    struct fsm_cleaning due = {.from = cleaned_to < start ? start : cleaned_to};

    if (topic->settings.compact && fsm_may_clean(self, topic)) {
        due.records = due.from < topic->clean.clean_to && is_sealed_at(topic, due.from);
        /* A tombstone goes when what is older is gone for sure: durably, here as elsewhere. */
        due.tombstones_below =
            topic->clean.tombstones_below < cleaned_to ? topic->clean.tombstones_below : cleaned_to;
        due.tombstones = due.tombstones_below > topic->cleaned.tombstones_below;
    }
    *ret_due = due;
}

static uint64_t segment_size_max(const struct fsm *self, const struct topic *topic)
{
    if (topic->settings.segment_bytes > 0) {
        return topic->settings.segment_bytes;
    }
    return self->segment_size_max > 0 ? self->segment_size_max : SEGMENT_SIZE_DEFAULT;
}

enum err fsm_next_group(const struct fsm *self, const struct topic *topic, uint64_t offset,
                        uint64_t below, struct fsm_group *ret_group)
{
    uint64_t size_max = segment_size_max(self, topic);
    struct log_extent extent;
    struct fsm_group group;
    uint64_t largest;
    uint64_t alone;
    enum err err = log_extent_at(topic->log, offset, &extent, NULL);

    if (err != ERR_OK || extent.base_offset >= below) {
        return err == ERR_OK || err == ERR_AGAIN ? ERR_NOT_FOUND : err;
    }
    if (!extent.sealed) {
        return ERR_AGAIN;
    }
    group = (struct fsm_group){
        .from = extent.base_offset, .to = extent.end_offset, .size = extent.size, .segments = 1};
    largest = group.size;
    alone = group.to;
    while (log_extent_at(topic->log, group.to, &extent, NULL) == ERR_OK && extent.sealed &&
           extent.base_offset < below && group.size + extent.size <= size_max) {
        ASSERT(extent.base_offset == group.to);
        group.to = extent.end_offset;
        group.size += extent.size;
        group.segments++;
        largest = extent.size > largest ? extent.size : largest;
    }
    /* A large one is not written again for each small one that comes to stand beside it. */
    if (group.segments > 1 && largest > group.size / 4 * 3) {
        group.to = alone;
        group.segments = 1;
    }
    *ret_group = group;
    return ERR_OK;
}

/* ---- in its place ---- */

enum err fsm_rewrite_begin(struct fsm *self, struct topic *topic, const struct fsm_group *group,
                           struct log_rewrite **ret_rewrite, struct err_info *info)
{
    enum err err;

    ASSERT(group->from < group->to && group->to <= log_end(topic->log));
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    err = fsm_ease_files(self, NULL, info);
    if (err != ERR_OK) {
        return fsm_fail(self, err);
    }
    err = log_rewrite_begin(topic->log, group->from, group->to, ret_rewrite, info);
    return outcome(self, topic, err, info);
}

enum err fsm_rewrite_end(struct fsm *self, struct topic *topic, struct log_rewrite *rewrite,
                         struct err_info *info)
{
    enum err err = log_rewrite_end(topic->log, rewrite, info);

    fsm_holes_changed(self, topic); /* None comes of it; what is wrong shows here. (F6) */
    return outcome(self, topic, err, info);
}

/* ---- durable ---- */

enum err fsm_clean_sync_begin(struct fsm *self, struct topic *topic, struct fsm_sync **ret_sync,
                              struct err_info *info)
{
    enum err err;

    ASSERT(!self->syncing);
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    err = fsm_sync_begin_some(self, &topic, 1, ret_sync);
    return err == ERR_OK
               ? ERR_OK
               : err_set(info, err, "topic '%s' cannot be synced: %s", topic->name, err_text(err));
}

enum err fsm_topic_path(const struct fsm *self, const struct topic *topic, char ret_path[],
                        struct err_info *info)
{
    char name[FSM_DIR_NAME_SIZE];

    fsm_dir_name(name, topic->name, topic->id);
    return io_path(ret_path, self->dir, name, info);
}

void fsm_set_cleaned(struct topic *topic, uint64_t cleaned_to, uint64_t tombstones_below)
{
    ASSERT(topic->holes == 0 && cleaned_to <= topic->clean.clean_to);
    ASSERT(tombstones_below <= topic->clean.tombstones_below);
    if (cleaned_to > atomic_load(&topic->cleaned_to)) {
        atomic_store(&topic->cleaned_to, cleaned_to);
    }
    if (tombstones_below > topic->cleaned.tombstones_below) {
        topic->cleaned.tombstones_below = tombstones_below;
    }
}

void fsm_forget_cleaned(struct topic *topic)
{
    atomic_store(&topic->cleaned_to, 0);
    topic->cleaned.tombstones_below = 0;
    topic->cleaned.changes++;
    topic->cleaned.rest_until_ms = 0;
}
