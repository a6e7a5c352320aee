#include "lookup/lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/lookup_internal.h"

enum {
    INTERVAL_MS_DEFAULT = 1000,
    DAY_MS = 24 * 60 * 60 * 1000,
    PART_MAX_DEFAULT = 64 * 1024 * 1024,
    LAG_OFFSETS = 65536, /* an index that is so far behind is being built */
};

static void set_defaults(struct lookup_options *options)
{
    if (options->clock == NULL) {
        options->clock = clock_real();
    }
    if (options->check_ms == 0) {
        options->check_ms = DAY_MS;
    }
    if (options->interval_ms == 0) {
        options->interval_ms = INTERVAL_MS_DEFAULT;
    }
    if (options->table_max == 0) {
        options->table_max = LOOKUP_TABLE_MAX;
    }
    if (options->part_max == 0) {
        options->part_max = PART_MAX_DEFAULT;
    }
}

static enum err init_locks(struct lookup *self)
{
    pthread_condattr_t attributes;
    int rv = pthread_mutex_init(&self->lock, NULL);

    if (rv != 0) {
        return ERR_NOMEM;
    }
    rv = pthread_condattr_init(&attributes);
    if (rv == 0) {
        rv = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        ASSERT(rv == 0);
        rv = pthread_cond_init(&self->wake, &attributes);
        (void)pthread_condattr_destroy(&attributes); /* copied */
    }
    if (rv == 0 && run_cache_init(&self->runs) != ERR_OK) {
        (void)pthread_cond_destroy(&self->wake); /* nobody waits */
        rv = -1;
    }
    if (rv != 0) {
        (void)pthread_mutex_destroy(&self->lock); /* nobody holds it */
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static void fini_locks(struct lookup *self)
{
    run_cache_fini(&self->runs);
    (void)pthread_cond_destroy(&self->wake);  /* nobody waits */
    (void)pthread_mutex_destroy(&self->lock); /* nobody holds it */
}

static void free_lookup(struct lookup *self)
{
    free((void *)self->options.dir);
    free(self->dir);
    free(self);
}

static enum err copy_options(struct lookup *self, const struct lookup_options *options,
                             struct err_info *info)
{
    char dir[IO_PATH_SIZE];
    enum err err = io_path(dir, options->dir, LOOKUP_DIR_NAME, info);

    if (err != ERR_OK) {
        return err;
    }
    self->options = *options;
    set_defaults(&self->options);
    self->io = options->io;
    self->clock = self->options.clock;
    self->options.dir = strdup(options->dir);
    self->dir = strdup(dir);
    err =
        self->options.dir == NULL || self->dir == NULL ? ERR_NOMEM : bloom_part_probe(&self->probe);
    return err == ERR_OK ? ERR_OK : err_set(info, err, "no memory for lookups");
}

enum err lookup_start(const struct lookup_options *options, struct lookup **ret_lookup,
                      struct err_info *info)
{
    struct lookup *self = calloc(1, sizeof *self);
    enum err err;

    ASSERT(options->catalog != NULL && options->io != NULL);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for lookups");
    }
    err = copy_options(self, options, info);
    if (err == ERR_OK && init_locks(self) != ERR_OK) {
        err = err_set(info, ERR_NOMEM, "no memory for lookups");
    }
    if (err != ERR_OK) {
        free_lookup(self);
        return err;
    }
    if (pthread_create(&self->thread, NULL, lookup_work, self) != 0) {
        fini_locks(self);
        free_lookup(self);
        return err_set(info, ERR_NOMEM, "no thread for lookups");
    }
    *ret_lookup = self;
    return ERR_OK;
}

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

void lookup_stop(struct lookup *self)
{
    int rv;

    if (self == NULL) {
        return;
    }
    lock(self);
    self->stopping = true;
    rv = pthread_cond_broadcast(&self->wake);
    ASSERT(rv == 0);
    unlock(self);
    rv = pthread_join(self->thread, NULL);
    ASSERT(rv == 0);
    ASSERT(self->topics == NULL);
    fini_locks(self);
    free_lookup(self);
}

void lookup_wake(struct lookup *self)
{
    lock(self);
    if (!self->awake) {
        int rv = pthread_cond_signal(&self->wake);

        ASSERT(rv == 0);
        self->awake = true;
    }
    unlock(self);
}

bool lookup_stops(struct lookup *self)
{
    bool stopping;

    lock(self);
    stopping = self->stopping;
    unlock(self);
    return stopping;
}

uint64_t lookup_now_ms(const struct lookup *self)
{
    return clock_monotonic_ms(self->clock);
}

struct topic_indexes *lookup_find(struct lookup *self, uint64_t topic_id)
{
    struct topic_indexes *indexes;

    lock(self);
    HASH_FIND(hh, self->topics, &topic_id, sizeof topic_id, indexes);
    if (indexes != NULL) {
        (void)topic_indexes_ref(indexes); /* the same */
    }
    unlock(self);
    return indexes;
}

/* ---- for people ---- */

const char *lookup_index_name(uint32_t index)
{
    switch (index) {
    case TOPIC_INDEX_TIME:
        return "time";
    case TOPIC_INDEX_BTREE:
        return "key=btree";
    case TOPIC_INDEX_BLOOM:
        return "key=bloom";
    default:
        return "unknown";
    }
}

const char *lookup_state_name(enum lookup_state state)
{
    switch (state) {
    case LOOKUP_BUILDING:
        return "building";
    case LOOKUP_READY:
        return "ready";
    case LOOKUP_DROPPING:
        return "dropping";
    case LOOKUP_FAILED:
        return "failed";
    }
    return "unknown";
}

/* Offsets that are neither covered nor in a hole; of a Bloom filter, in sealed segments. */
static uint64_t count_left(const struct kind_index *index, struct log *log, enum part_kind kind)
{
    uint64_t end = log_end(log);
    uint64_t at = log_start(log);
    uint64_t left = 0;

    for (;;) {
        struct log_extent extent;
        uint64_t next = end;
        uint64_t from;
        uint64_t to;

        at = kind_index_missing(index, log, at);
        if (at >= end || log_extent_at(log, at, &extent, NULL) != ERR_OK ||
            (kind == PART_BLOOM && !extent.sealed)) {
            return left;
        }
        if (kind_index_covered(index, at, &from, &to)) {
            next = from < next ? from : next;
        }
        next = kind == PART_BLOOM || log_has_holes(log)
                   ? (extent.end_offset < next ? extent.end_offset : next)
                   : next;
        ASSERT(next > at);
        left += next - at;
        at = next;
    }
}

/* After a start the keys' files are read first, and not asked before. */
static bool is_checked(const struct kind_index *index, enum part_kind kind)
{
    for (size_t i = 0; kind == PART_KEYS && i < index->parts.count; i++) {
        if (!index->parts.items[i]->verified) {
            return false;
        }
    }
    return true;
}

static enum lookup_state state_of(const struct kind_index *index, uint64_t left)
{
    if (!index->wanted) {
        return LOOKUP_DROPPING;
    }
    if (index->failed != ERR_OK) {
        return LOOKUP_FAILED;
    }
    return index->ready && left <= LAG_OFFSETS ? LOOKUP_READY : LOOKUP_BUILDING;
}

/* Under the lock. */
static void tell_index(const struct lookup *self, struct topic_indexes *indexes,
                       enum part_kind kind, struct lookup_status *ret_status)
{
    const struct kind_index *index = &indexes->kinds[kind];
    struct log *log = indexes->topic->log;
    uint64_t elapsed_ms = index->started_ms == 0 ? 0 : lookup_now_ms(self) - index->started_ms;

    *ret_status = (struct lookup_status){
        .index = UINT32_C(1) << kind,
        .end = log_end(log),
        .files = (unsigned)index->parts.count,
        .indexed_to = kind_index_missing(index, log, log_start(log)),
        .left_ms = UINT64_MAX,
    };
    ret_status->left = index->wanted ? count_left(index, log, kind) : 0;
    for (size_t i = 0; i < index->parts.count; i++) {
        ret_status->size += index->parts.items[i]->size;
    }
    ret_status->state = state_of(index, ret_status->left);
    if (ret_status->state == LOOKUP_READY && !is_checked(index, kind)) {
        ret_status->state = LOOKUP_BUILDING;
    }
    if (ret_status->state == LOOKUP_FAILED) {
        memcpy(ret_status->reason, index->reason, sizeof ret_status->reason);
    }
    if (ret_status->left == 0) {
        ret_status->left_ms = 0;
    } else if (elapsed_ms > 0 && index->offsets_done > 0) {
        ret_status->left_ms =
            (uint64_t)((double)ret_status->left * (double)elapsed_ms / (double)index->offsets_done);
    }
}

size_t lookup_status(struct lookup *self, struct topic *topic,
                     struct lookup_status ret_status[LOOKUP_INDEXES_MAX])
{
    struct topic_indexes *indexes = lookup_find(self, topic->id);
    struct topic_settings settings;
    uint32_t bits;
    size_t count = 0;

    topic_settings_get(topic, &settings);
    bits = topic_settings_indexes_of(&settings, self->options.node_id);
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        if (indexes != NULL) {
            topic_indexes_lock(indexes);
            if (indexes->kinds[kind].wanted || indexes->kinds[kind].parts.count > 0) {
                tell_index(self, indexes, (enum part_kind)kind, &ret_status[count++]);
                bits &= ~(UINT32_C(1) << kind);
            }
            topic_indexes_unlock(indexes);
        }
        if ((bits & (UINT32_C(1) << kind)) != 0) {
            /* The worker has not seen it yet. */
            ret_status[count++] = (struct lookup_status){.index = UINT32_C(1) << kind,
                                                         .end = log_end(topic->log),
                                                         .indexed_to = log_start(topic->log),
                                                         .left_ms = UINT64_MAX};
        }
    }
    topic_indexes_unref(indexes);
    return count;
}

void lookup_stats(struct lookup *self, struct lookup_stats *ret_stats)
{
    *ret_stats = (struct lookup_stats){
        .questions = atomic_load(&self->questions),
        .files_read = atomic_load(&self->files_read),
        .pages_read = atomic_load(&self->pages_read),
        .parts_seen = atomic_load(&self->parts_seen),
        .damaged = atomic_load(&self->damaged),
        .bytes_built = atomic_load(&self->bytes_built),
        .files_written = atomic_load(&self->files_written),
    };
}
