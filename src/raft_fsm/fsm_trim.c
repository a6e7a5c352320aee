/*
 * Starts that move: by an entry, or by another replica's manifest.
 *
 *      applied            the topic's start, and its log's, are the new ones: nobody reads below
 *      snapshot durable   its index tells which starts it has (fsm_note_durable)
 *      removed            files below those go, some at a time (fsm_remove_passed)
 *
 * Until the snapshot is durable a crash finds the old one, which promises the old start: then all
 * files are there, and the entry is replayed. (F7) A snapshot that was taken between two entries
 * that moved the same start has the first of them: so the oldest one that no snapshot has is
 * remembered beside the newest, and files go on going however often a start moves.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"

void fsm_set_start(struct topic *topic, const struct manifest_topic *promised)
{
    ASSERT(promised->start <= promised->log_start && promised->log_start <= promised->end);
    topic->start = promised->start;
    topic->log_start = promised->log_start;
    memcpy(topic->start_digest, promised->start_digest, DIGEST_SIZE);
    topic->passed.durable_start = promised->start;
    atomic_store_explicit(&topic->visible_start, promised->log_start, memory_order_release);
}

static void list_topic(struct fsm *self, struct topic *topic)
{
    if (!topic->passed.listed) {
        topic_ref(topic);
        topic->passed.listed = true;
        topic->passed.next = self->passed;
        self->passed = topic;
    }
}

static void unlist(struct topic **at)
{
    struct topic *topic = *at;

    ASSERT(topic->passed.listed);
    *at = topic->passed.next;
    topic->passed.listed = false;
    topic->passed.next = NULL;
    topic_unref(topic);
}

void fsm_forget_passed(struct fsm *self)
{
    while (self->passed != NULL) {
        unlist(&self->passed);
    }
}

static void note_start(struct fsm *self, struct topic *topic, const struct fsm_start *to)
{
    struct topic_passed *passed = &topic->passed;

    passed->newest = (struct topic_start){.index = to->index, .start = to->start};
    if (passed->oldest.index == 0) {
        passed->oldest = passed->newest;
    }
    list_topic(self, topic);
}

enum err fsm_move_start(struct fsm *self, struct topic *topic, const struct fsm_start *to,
                        struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(to->start <= to->log_start && to->start >= topic->start);
    ASSERT(to->log_start >= topic->log_start && to->index > 0);
    atomic_store_explicit(&topic->visible_start, to->log_start, memory_order_release);
    topic->log_start = to->log_start;
    if (to->start == topic->start) {
        return ERR_OK;
    }
    /* A log that was found without its beginning starts there. */
    if (to->start > log_start(topic->log)) {
        err = log_raise_start(topic->log, to->start, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    topic->start = to->start;
    memcpy(topic->start_digest, to->digest, DIGEST_SIZE);
    if (topic->filled_from < to->start) {
        topic->filled_from = to->start < topic->filled_to ? to->start : topic->filled_to;
    }
    note_start(self, topic, to);
    return fsm_count_holes(self, topic);
}

void fsm_note_durable(struct fsm *self, uint64_t index)
{
    for (struct topic *topic = self->passed; topic != NULL; topic = topic->passed.next) {
        struct topic_passed *passed = &topic->passed;

        if (passed->newest.index != 0 && passed->newest.index <= index) {
            passed->durable_start = passed->newest.start;
            passed->oldest = passed->newest = (struct topic_start){.index = 0};
        } else if (passed->oldest.index != 0 && passed->oldest.index <= index) {
            passed->durable_start = passed->oldest.start;
            passed->oldest = passed->newest;
        }
        ASSERT(passed->durable_start <= topic->start);
    }
}

bool fsm_has_passed(const struct fsm *self)
{
    for (const struct topic *topic = self->passed; topic != NULL; topic = topic->passed.next) {
        if (log_passed_start(topic->log) != UINT64_MAX) {
            return true;
        }
    }
    return false;
}

/* A topic with nothing more to remove, now or later. */
static bool is_done(const struct topic *topic)
{
    return atomic_load(&topic->deleted) ||
           (topic->passed.newest.index == 0 && log_passed_start(topic->log) == UINT64_MAX);
}

enum err fsm_remove_passed(struct fsm *self, unsigned max, bool *ret_more, struct err_info *info)
{
    struct topic **at = &self->passed;

    *ret_more = false;
    if (self->failed) {
        return err_set(info, ERR_FAILED, "%s", err_text(ERR_FAILED)); /* F5 */
    }
    while (*at != NULL) {
        struct topic *topic = *at;
        uint64_t durable_start = topic->passed.durable_start;

        while (!is_done(topic) && max > 0 && log_passed_start(topic->log) <= durable_start) {
            enum err err = log_remove_passed(topic->log, durable_start, 1, info);

            if (err != ERR_OK) {
                (void)err_prefix(info, err, "topic '%s'", topic->name);
                return fsm_fail(self, err);
            }
            max--;
        }
        if (is_done(topic)) {
            unlist(at);
            continue;
        }
        *ret_more = *ret_more || log_passed_start(topic->log) <= durable_start;
        at = &topic->passed.next;
    }
    return ERR_OK;
}

const struct ages *fsm_ages(const struct fsm *self)
{
    return &self->ages;
}
