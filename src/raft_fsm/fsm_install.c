/*
 * Installing another replica's manifest.
 *
 * Happy path: everything is compared before anything is changed; then the topics become what the
 * manifest says, each log's end moves to the promised one, and what lies between is a hole.
 *
 * Failure modes: a crash before the manifest is saved finds the old state: the logs' files below
 * the old ends are untouched, above the old starts, too; holes above them are cut away at opening,
 * directories of topics that the old state does not have are removed. A failure in the middle stops
 * the node and comes to the same.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

static enum err contradiction(const struct manifest_topic *promised, const char *what,
                              struct err_info *info)
{
    return err_set(info, ERR_DIVERGED, "topic '%s' of the snapshot: %s", promised->name, what);
}

/* Can the topic here become what is promised? topic: NULL when there is none. */
static enum err check_topic(const struct fsm *self, const struct topic *topic,
                            const struct manifest_topic *promised, struct err_info *info)
{
    enum err err;

    if (topic == NULL) {
        return fsm_topic_created_index(promised->id) <= self->applied_index
                   ? contradiction(promised, "here it was deleted, or never created", info)
                   : ERR_OK;
    }
    if (strcmp(topic->name, promised->name) != 0) {
        return contradiction(promised, "here it has another name", info);
    }
    if (topic->start > promised->start || topic->log_start > promised->log_start ||
        topic->end > promised->end) {
        return contradiction(promised, "here it holds what the snapshot does not", info);
    }
    if (topic->clean.clean_to > promised->clean.clean_to ||
        topic->clean.tombstones_below > promised->clean.tombstones_below) {
        return contradiction(promised, "here more of it may be compacted", info);
    }
    if (log_end(topic->log) < promised->end) {
        return ERR_OK;
    }
    err = fsm_check_end(topic->log, promised, info);
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "topic '%s' of the snapshot", promised->name);
    }
    return err;
}

static enum err check_manifest(const struct fsm *self, const struct manifest *manifest,
                               struct err_info *info)
{
    enum err err = ERR_OK;

    if (manifest->applied_index <= self->applied_index || manifest->topic_count > FSM_TOPICS_MAX) {
        return err_set(info, ERR_INVALID,
                       "a snapshot at index %" PRIu64 " with %zu topics cannot be installed at "
                       "index %" PRIu64,
                       manifest->applied_index, manifest->topic_count, self->applied_index);
    }
    for (size_t i = 0; i < manifest->topic_count && err == ERR_OK; i++) {
        const struct manifest_topic *promised = &manifest->topics[i];

        err = check_topic(self, catalog_peek_id(self->catalog, promised->id), promised, info);
    }
    return err;
}

/* Topics that the manifest has no more. */
static enum err drop_others(struct fsm *self, const struct manifest *manifest)
{
    struct topic **topics;
    size_t count;
    enum err err = catalog_list(self->catalog, &topics, &count);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        if (err == ERR_OK && manifest_find(manifest, topics[i]->id) == NULL) {
            err = fsm_drop_topic(self, topics[i], manifest->applied_index);
        }
        topic_unref(topics[i]);
    }
    free(topics);
    return err;
}

static enum err make_topic(struct fsm *self, const struct manifest_topic *promised,
                           struct topic **ret_topic, struct err_info *info)
{
    struct log *log;
    enum err err = fsm_make_log(self, promised, promised->start, &log, info);

    if (err != ERR_OK) {
        return err;
    }
    err = catalog_add(self->catalog, promised->id, promised->name, log, promised->created_time_us,
                      ret_topic);
    if (err != ERR_OK) {
        log_close(log);
    }
    return err;
}

/* Makes a topic of the manifest what it is there. What its log lacks becomes a hole; files below
 * the start go once the manifest is saved. */
static enum err set_topic(struct fsm *self, const struct manifest *manifest,
                          const struct manifest_topic *promised, struct err_info *info)
{
    struct fsm_start start = {.index = manifest->applied_index,
                              .start = promised->start,
                              .log_start = promised->log_start,
                              .digest = promised->start_digest};
    struct topic *topic = catalog_peek_id(self->catalog, promised->id);
    enum err err = ERR_OK;

    if (topic == NULL) {
        err = make_topic(self, promised, &topic, info);
    }
    if (err == ERR_OK && log_end(topic->log) < promised->end) {
        err = log_skip(topic->log, promised->end, info);
    }
    if (err == ERR_OK) {
        err = fsm_move_start(self, topic, &start, info);
    }
    if (err == ERR_OK) {
        topic->end = promised->end;
        memcpy(topic->digest, promised->digest, DIGEST_SIZE);
        topic->clean = promised->clean;
        fsm_use_settings(self, topic, &promised->settings);
        err = fsm_count_holes(self, topic);
    }
    return err;
}

static enum err take_over(struct fsm *self, const struct manifest *manifest, struct err_info *info)
{
    struct producers *producers = NULL;
    struct cursors *cursors = NULL;
    struct ages ages = {.marks = NULL};
    enum err err = producers_copy(manifest->producers, &producers);

    if (err == ERR_OK) {
        err = cursors_copy(manifest->cursors, &cursors);
    }
    if (err == ERR_OK) {
        err = ages_copy(&manifest->ages, &ages);
    }
    if (err == ERR_OK) {
        err = drop_others(self, manifest);
    }
    /* Names first became free above: a topic may have been deleted and created again. */
    for (size_t i = 0; i < manifest->topic_count && err == ERR_OK; i++) {
        err = set_topic(self, manifest, &manifest->topics[i], info);
    }
    if (err != ERR_OK) {
        producers_free(producers);
        cursors_free(cursors);
        ages_fini(&ages);
        return err;
    }
    producers_free(self->producers);
    self->producers = producers;
    self->nodes = manifest->nodes != NULL ? *manifest->nodes : (struct nodes){.count = 0};
    cursors_exchange(catalog_cursors(self->catalog), cursors);
    cursors_free(cursors);
    self->applied_index = manifest->applied_index;
    self->time_us = manifest->time_us;
    ages_fini(&self->ages);
    self->ages = ages;
    return ERR_OK;
}

enum err fsm_install(struct fsm *self, const struct manifest *manifest, struct err_info *info)
{
    enum err err;

    ASSERT(!self->syncing);
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    err = check_manifest(self, manifest, info);
    if (err != ERR_OK) {
        return err;
    }
    err = take_over(self, manifest, info);
    if (err != ERR_OK) {
        if (info != NULL && info->code != err) {
            (void)err_set(info, err, "%s", err_text(err)); /* Memory is short. */
        }
        return fsm_fail(self, err);
    }
    fsm_check(self);
    return ERR_OK;
}
