/*
 * The worker: each topic with indexes gets a step in turn, as long as any has something to do; then
 * it sleeps until something was published, or for an interval.
 *
 *      round:  catalog → topics come and go → for each: settings → load → tidy → check → build →
 * merge
 *
 * A topic's failure is told, and it is left alone for a while; nothing here ends the process.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "lookup/key_merge.h"
#include "lookup/lookup_internal.h"

enum {
    LISTS_AN_INTERVAL = 4, /* the catalog is read at most so often */
    GATHER_PART = 50, /* after something was published it waits for more: 1/50 of an interval */
    NS_IN_MS = 1000000,
    FLUSH_MS_MAX = 1000,
};

#define NS_IN_S UINT64_C(1000000000)

/* ---- waiting ---- */

static void lock(struct lookup *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct lookup *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

/* Until it has to stop, or is woken (if that counts), or the time is over. */
static void wait_ns(struct lookup *self, uint64_t ns, bool until_woken)
{
    struct timespec until;
    int rv = clock_gettime(CLOCK_MONOTONIC, &until);

    ASSERT(rv == 0);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / NS_IN_S);
    until.tv_nsec = (long)(ns % NS_IN_S);
    lock(self);
    while (rv == 0 && !self->stopping && !(until_woken && self->awake)) {
        rv = pthread_cond_timedwait(&self->wake, &self->lock, &until);
        ASSERT(rv == 0 || rv == ETIMEDOUT);
    }
    if (until_woken) {
        self->awake = false;
    }
    unlock(self);
}

bool lookup_paced(void *arg, uint64_t size)
{
    struct lookup *self = arg;

    if (self->options.build_rate > 0 && !lookup_stops(self)) {
        self->behind_ns += size * NS_IN_S / self->options.build_rate; /* size: some MiB */
        if (self->behind_ns >= NS_IN_MS) {
            wait_ns(self, self->behind_ns, false);
            self->behind_ns = 0;
        }
    }
    return !lookup_stops(self);
}

/* ---- topics come and go ---- */

/* Only the worker changes the table, so it reads it without the lock. */
static struct topic_indexes *peek(struct lookup *self, uint64_t id)
{
    struct topic_indexes *indexes;

    HASH_FIND(hh, self->topics, &id, sizeof id, indexes);
    return indexes;
}

static bool put_in(struct lookup *self, struct topic_indexes *indexes)
{
    bool hashed;

    lock(self);
    indexes->hashed = true;
    HASH_ADD(hh, self->topics, id, sizeof indexes->id, indexes);
    hashed = indexes->hashed;
    unlock(self);
    if (!hashed) {
        topic_indexes_unref(indexes);
    }
    return hashed;
}

static void take_out(struct lookup *self, struct topic_indexes *indexes)
{
    lock(self);
    HASH_DEL(self->topics, indexes);
    unlock(self);
    key_merge_free(indexes->merge);
    indexes->merge = NULL;
    topic_indexes_unref(indexes);
}

static void set_wanted(struct lookup *self, struct topic_indexes *indexes, uint32_t bits)
{
    topic_indexes_lock(indexes);
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        struct kind_index *index = &indexes->kinds[kind];
        bool wanted = (bits & (UINT32_C(1) << kind)) != 0;

        if (wanted != index->wanted) {
            index->ready = false;
            index->failed = ERR_OK;
            index->wanted = wanted;
            diag_event(self->options.diag, DIAG_INFO, "lookup",
                       wanted ? "index_wanted" : "index_dropped", "topic=%s index=%s",
                       indexes->topic->name, part_kind_name((enum part_kind)kind));
        }
    }
    topic_indexes_unlock(indexes);
}

static void see_topic(struct lookup *self, struct topic *topic)
{
    struct topic_indexes *indexes = peek(self, topic->id);
    struct topic_settings settings;
    uint32_t bits;

    topic_settings_get(topic, &settings);
    bits = topic_settings_indexes_of(&settings, self->options.node_id);
    if (indexes == NULL && bits != 0 &&
        topic_indexes_new(self->dir, topic, &indexes, NULL) == ERR_OK) {
        indexes = put_in(self, indexes) ? indexes : NULL; /* In the next round. */
    }
    if (indexes != NULL) {
        indexes->listed = true;
        set_wanted(self, indexes, bits);
    }
}

/* A directory of indexes that no topic wants. */
static void remove_dir(struct lookup *self, const char *name)
{
    struct err_info info = {0};

    if (io_remove_dir(self->io, self->dir, name, &info) != ERR_OK) {
        char quoted[300];

        diag_event(self->options.diag, DIAG_WARN, "lookup", "index_not_removed", "reason=%s",
                   diag_quote(quoted, sizeof quoted, info.text));
    }
}

static bool is_wanted(const struct topic_indexes *indexes)
{
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        if (indexes->kinds[kind].wanted) {
            return true;
        }
    }
    return false;
}

static void drop_unlisted(struct lookup *self)
{
    struct topic_indexes *indexes;
    struct topic_indexes *next;

    HASH_ITER(hh, self->topics, indexes, next)
    {
        char name[sizeof indexes->name];

        if (indexes->listed && is_wanted(indexes)) {
            continue;
        }
        memcpy(name, indexes->name, sizeof name);
        set_wanted(self, indexes, 0);
        lookup_tidy(self, indexes);
        take_out(self, indexes);
        remove_dir(self, name);
    }
}

struct sweep {
    struct lookup *lookup;
    char **names; /* owned, each */
    size_t count;
};

static int sweep_one(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    struct topic_indexes *indexes;
    char **names;

    for (indexes = sweep->lookup->topics; indexes != NULL; indexes = indexes->hh.next) {
        if (strcmp(indexes->name, name) == 0) {
            return 0;
        }
    }
    names = realloc(sweep->names, (sweep->count + 1) * sizeof(char *));
    if (names == NULL) {
        return 0; /* At the next start. */
    }
    sweep->names = names;
    names[sweep->count] = strdup(name);
    sweep->count += names[sweep->count] != NULL ? 1 : 0;
    return 0;
}

/* At the start: what topics left that are gone, or want none any more. */
static void sweep(struct lookup *self)
{
    struct sweep found = {.lookup = self};

    /* No such directory: nothing to remove. */
    (void)self->io->list(self->io, self->dir, sweep_one, &found);
    for (size_t i = 0; i < found.count; i++) {
        remove_dir(self, found.names[i]);
        free(found.names[i]);
    }
    free(found.names);
}

static void list_topics(struct lookup *self)
{
    struct topic **topics;
    struct topic_indexes *indexes;
    bool first = self->listed_ms == 0;
    size_t count;

    if (catalog_list(self->options.catalog, &topics, &count) != ERR_OK) {
        return; /* In the next round. */
    }
    for (indexes = self->topics; indexes != NULL; indexes = indexes->hh.next) {
        indexes->listed = false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!atomic_load(&topics[i]->deleted)) {
            see_topic(self, topics[i]);
        }
        topic_unref(topics[i]);
    }
    free(topics);
    drop_unlisted(self);
    if (first) {
        sweep(self);
    }
    self->listed_ms = lookup_now_ms(self);
}

/* ---- a topic's turn ---- */

void lookup_fail(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind,
                 const struct err_info *info)
{
    struct kind_index *index = &indexes->kinds[kind];
    char quoted[300];

    topic_indexes_lock(indexes);
    index->failed = info->code != ERR_OK ? info->code : ERR_IO;
    (void)snprintf(index->reason, sizeof index->reason, "%.*s", (int)sizeof index->reason - 1,
                   info->text[0] != '\0' ? info->text : err_text(index->failed));
    index->ready = false;
    topic_indexes_unlock(indexes);
    indexes->retry_ms = lookup_now_ms(self) + LOOKUP_RETRY_MS;
    diag_event(self->options.diag, DIAG_WARN, "lookup", "index_failed",
               "topic=%s index=%s reason=%s", indexes->topic->name, part_kind_name(kind),
               diag_quote(quoted, sizeof quoted, index->reason));
}

static void fail_all(struct lookup *self, struct topic_indexes *indexes, struct err_info *info,
                     enum err err)
{
    info->code = err;
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        if (indexes->kinds[kind].wanted) {
            lookup_fail(self, indexes, (enum part_kind)kind, info);
        }
    }
}

/* After a failure everything is looked at anew; what is in memory stays. False: not yet. */
static bool try_again(struct lookup *self, struct topic_indexes *indexes)
{
    if (indexes->retry_ms == 0) {
        return true;
    }
    if (lookup_now_ms(self) < indexes->retry_ms) {
        return false;
    }
    indexes->retry_ms = 0;
    indexes->loaded = false;
    key_merge_free(indexes->merge);
    indexes->merge = NULL;
    topic_indexes_lock(indexes);
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        indexes->kinds[kind].failed = ERR_OK;
    }
    topic_indexes_unlock(indexes);
    return true;
}

static bool visit(struct lookup *self, struct topic_indexes *indexes)
{
    struct err_info info = {0};
    bool busy = false;
    enum err err = ERR_OK;

    lookup_tidy(self, indexes);
    if (!try_again(self, indexes)) {
        return false;
    }
    if (!indexes->loaded) {
        err = lookup_load(self, indexes, &info);
        lookup_tidy(self, indexes);
    }
    if (err == ERR_OK) {
        lookup_check(self, indexes, &busy);
        err = lookup_build(self, indexes, &busy, &info);
    }
    if (err == ERR_OK && indexes->kinds[PART_KEYS].wanted &&
        indexes->kinds[PART_KEYS].failed == ERR_OK) {
        err = lookup_merge(self, indexes, &busy, &info);
    }
    if (err != ERR_OK) {
        fail_all(self, indexes, &info, err);
        return false;
    }
    return busy;
}

/* Before the end, and not for long: what is not written is read again. Of a Bloom filter nothing is
 * in memory but of the segment under way. */
static void flush_all(struct lookup *self)
{
    uint64_t until_ms = lookup_now_ms(self) + FLUSH_MS_MAX;
    struct topic_indexes *indexes;

    for (indexes = self->topics; indexes != NULL && lookup_now_ms(self) < until_ms;
         indexes = indexes->hh.next) {
        for (unsigned kind = PART_TIME; kind <= PART_KEYS; kind++) {
            const struct kind_index *index = &indexes->kinds[kind];

            if (index->wanted && index->failed == ERR_OK && indexes->loaded &&
                index->fresh.base < index->fresh.end && index->fresh.exact) {
                /* What cannot be written is made again. */
                (void)lookup_flush(self, indexes, (enum part_kind)kind, NULL);
            }
        }
    }
}

static bool is_settled(struct lookup *self)
{
    if (!self->settled) {
        self->settled = self->options.settled == NULL || self->options.settled(self->options.arg);
    }
    return self->settled;
}

void *lookup_work(void *arg)
{
    struct lookup *self = arg;

    while (!lookup_stops(self)) {
        struct topic_indexes *indexes;
        struct topic_indexes *next;
        bool busy = false;

        if (!is_settled(self)) {
            wait_ns(self, (uint64_t)self->options.interval_ms * NS_IN_MS / GATHER_PART, false);
            continue;
        }
        if (self->listed_ms == 0 || lookup_now_ms(self) - self->listed_ms >=
                                        self->options.interval_ms / LISTS_AN_INTERVAL) {
            list_topics(self);
        }
        HASH_ITER(hh, self->topics, indexes, next)
        {
            if (lookup_stops(self)) {
                break;
            }
            busy = visit(self, indexes) || busy;
        }
        if (!busy && !lookup_stops(self)) {
            wait_ns(self, (uint64_t)self->options.interval_ms * NS_IN_MS, true);
            wait_ns(self, (uint64_t)self->options.interval_ms * NS_IN_MS / GATHER_PART, false);
        }
    }
    flush_all(self);
    while (self->topics != NULL) {
        take_out(self, self->topics);
    }
    return NULL;
}
