#include "raft_fsm/catalog.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/table.h"

/* One table's link to a topic. */
struct link {
    struct topic *topic;
    bool hashed;
    UT_hash_handle hh;
};

/* A topic and its places in the tables, allocated as one. */
struct row {
    struct topic topic; /* first: a topic's address is its row's */
    struct link by_id;
    struct link by_name;
};

struct catalog {
    pthread_rwlock_t lock; /* Guards the tables; written by the raft thread only. */
    unsigned topics_max;
    struct link *by_id;
    struct link *by_name;
    struct cursors *cursors; /* owned; has a lock of its own */
};

_Static_assert(offsetof(struct row, topic) == 0, "see struct row");

static struct row *row_of(struct topic *topic)
{
    return (struct row *)topic;
}

static void lock_read(struct catalog *self)
{
    int rv = pthread_rwlock_rdlock(&self->lock);

    ASSERT(rv == 0);
}

static void lock_write(struct catalog *self)
{
    int rv = pthread_rwlock_wrlock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct catalog *self)
{
    int rv = pthread_rwlock_unlock(&self->lock);

    ASSERT(rv == 0);
}

enum err catalog_new(unsigned topics_max, struct catalog **ret_catalog)
{
    struct catalog *self = calloc(1, sizeof *self);

    ASSERT(topics_max > 0);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    if (cursors_new(&self->cursors) != ERR_OK) {
        free(self);
        return ERR_NOMEM;
    }
    if (pthread_rwlock_init(&self->lock, NULL) != 0) {
        cursors_free(self->cursors);
        free(self);
        return ERR_NOMEM;
    }
    self->topics_max = topics_max;
    *ret_catalog = self;
    return ERR_OK;
}

static void take_out(struct catalog *self, struct topic *topic)
{
    struct row *row = row_of(topic);

    ASSERT(row->by_id.hashed && row->by_name.hashed);
    HASH_DELETE(hh, self->by_id, &row->by_id);
    HASH_DELETE(hh, self->by_name, &row->by_name);
    row->by_id.hashed = false;
    row->by_name.hashed = false;
}

void catalog_free(struct catalog *self)
{
    int rv;

    if (self == NULL) {
        return;
    }
    while (self->by_id != NULL) {
        struct topic *topic = self->by_id->topic;

        take_out(self, topic);
        topic_unref(topic);
    }
    ASSERT(self->by_name == NULL);
    rv = pthread_rwlock_destroy(&self->lock);
    ASSERT(rv == 0);
    cursors_free(self->cursors);
    free(self);
}

void topic_ref(struct topic *topic)
{
    unsigned before = atomic_fetch_add_explicit(&topic->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
}

static void free_row(struct row *row)
{
    int rv = pthread_mutex_destroy(&row->topic.settings_lock);

    ASSERT(rv == 0);
    free(row->topic.watch); /* It owns nothing. */
    free(row);
}

void topic_unref(struct topic *topic)
{
    unsigned before;

    if (topic == NULL) {
        return;
    }
    before = atomic_fetch_sub_explicit(&topic->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1) {
        ASSERT(!row_of(topic)->by_id.hashed && !row_of(topic)->by_name.hashed);
        log_close(topic->log);
        free_row(row_of(topic));
    }
}

static void lock_settings(struct topic *topic)
{
    int rv = pthread_mutex_lock(&topic->settings_lock);

    ASSERT(rv == 0);
}

static void unlock_settings(struct topic *topic)
{
    int rv = pthread_mutex_unlock(&topic->settings_lock);

    ASSERT(rv == 0);
}

void topic_settings_get(struct topic *topic, struct topic_settings *ret_settings)
{
    lock_settings(topic);
    *ret_settings = topic->settings;
    unlock_settings(topic);
}

void topic_settings_set(struct topic *topic, const struct topic_settings *settings)
{
    ASSERT(topic_settings_check(settings, NULL) == ERR_OK);
    lock_settings(topic);
    topic->settings = *settings;
    unlock_settings(topic);
}

void topic_forecast_get(struct topic *topic, struct topic_forecast *ret_forecast)
{
    lock_settings(topic);
    *ret_forecast = topic->forecast;
    unlock_settings(topic);
}

void topic_forecast_set(struct topic *topic, const struct topic_forecast *forecast)
{
    ASSERT(forecast->from <= forecast->to);
    lock_settings(topic);
    topic->forecast = *forecast;
    unlock_settings(topic);
}

void topic_compaction_get(struct topic *topic, struct topic_compaction *ret_compaction)
{
    lock_settings(topic);
    *ret_compaction = topic->compaction;
    unlock_settings(topic);
}

void topic_compaction_set(struct topic *topic, const struct topic_compaction *compaction)
{
    ASSERT(compaction->clean.tombstones_below <= compaction->clean.clean_to);
    lock_settings(topic);
    topic->compaction = *compaction;
    unlock_settings(topic);
}

struct topic *catalog_peek_id(struct catalog *self, uint64_t id)
{
    struct link *link;

    HASH_FIND(hh, self->by_id, &id, sizeof id, link);
    ASSERT(IMPLIES(link != NULL, link->topic->id == id));
    return link == NULL ? NULL : link->topic;
}

struct topic *catalog_peek(struct catalog *self, const char *name)
{
    struct link *link;

    HASH_FIND(hh, self->by_name, name, strlen(name), link);
    ASSERT(IMPLIES(link != NULL, strcmp(link->topic->name, name) == 0));
    return link == NULL ? NULL : link->topic;
}

struct topic *catalog_find(struct catalog *self, const char *name)
{
    struct topic *topic;

    lock_read(self);
    topic = catalog_peek(self, name);
    if (topic != NULL) {
        topic_ref(topic);
    }
    unlock(self);
    return topic;
}

struct topic *catalog_find_id(struct catalog *self, uint64_t id)
{
    struct topic *topic;

    lock_read(self);
    topic = catalog_peek_id(self, id);
    if (topic != NULL) {
        topic_ref(topic);
    }
    unlock(self);
    return topic;
}

static int compare_names(const void *a, const void *b)
{
    const struct topic *const *left = a;
    const struct topic *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

enum err catalog_list(struct catalog *self, struct topic ***ret_topics, size_t *ret_count)
{
    struct topic **topics;
    const struct link *link;
    size_t count;
    size_t i = 0;

    lock_read(self);
    count = HASH_COUNT(self->by_id);
    topics = malloc((count > 0 ? count : 1) * sizeof(struct topic *));
    if (topics != NULL) {
        for (link = self->by_id; link != NULL; link = link->hh.next) {
            topic_ref(link->topic);
            topics[i++] = link->topic;
        }
        ASSERT(i == count);
    }
    unlock(self);
    if (topics == NULL) {
        return ERR_NOMEM;
    }
    qsort(topics, count, sizeof(struct topic *), compare_names);
    *ret_topics = topics;
    *ret_count = count;
    return ERR_OK;
}

size_t catalog_count(struct catalog *self)
{
    size_t count;

    lock_read(self);
    count = HASH_COUNT(self->by_id);
    unlock(self);
    return count;
}

struct cursors *catalog_cursors(struct catalog *self)
{
    return self->cursors;
}

static struct row *new_row(uint64_t id, const char *name, struct log *log, int64_t created_time_us)
{
    struct row *row = calloc(1, sizeof *row);
    size_t size = strlen(name);

    ASSERT(size > 0 && size <= TOPIC_NAME_SIZE_MAX);
    ASSERT(log != NULL);
    if (row == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&row->topic.settings_lock, NULL) != 0) {
        free(row);
        return NULL;
    }
    atomic_init(&row->topic.refs, 1);
    atomic_init(&row->topic.deleted, false);
    row->topic.id = id;
    memcpy(row->topic.name, name, size + 1);
    row->topic.created_time_us = created_time_us;
    row->topic.log = log;
    row->by_id.topic = &row->topic;
    row->by_name.topic = &row->topic;
    return row;
}

/* Under the lock, for writing. In both tables or in none. */
static enum err put_in(struct catalog *self, struct row *row)
{
    struct link *by_id = &row->by_id;
    struct link *by_name = &row->by_name;

    by_id->hashed = true;
    HASH_ADD_KEYPTR(hh, self->by_id, &row->topic.id, sizeof row->topic.id, by_id);
    if (!by_id->hashed) {
        return ERR_NOMEM;
    }
    by_name->hashed = true;
    HASH_ADD_KEYPTR(hh, self->by_name, row->topic.name, strlen(row->topic.name), by_name);
    if (!by_name->hashed) {
        HASH_DELETE(hh, self->by_id, by_id);
        by_id->hashed = false;
        return ERR_NOMEM;
    }
    return ERR_OK;
}

enum err catalog_add(struct catalog *self, uint64_t id, const char *name, struct log *log,
                     int64_t created_time_us, struct topic **ret_topic)
{
    struct row *row;
    enum err err;

    /* No lock to read: only this thread writes. */
    if (catalog_peek_id(self, id) != NULL || catalog_peek(self, name) != NULL) {
        return ERR_EXISTS;
    }
    if (HASH_COUNT(self->by_id) >= self->topics_max) {
        return ERR_LIMIT;
    }
    row = new_row(id, name, log, created_time_us);
    if (row == NULL) {
        return ERR_NOMEM;
    }
    lock_write(self);
    err = put_in(self, row);
    unlock(self);
    if (err != ERR_OK) {
        free_row(row); /* The log stays the caller's. */
        return err;
    }
    *ret_topic = &row->topic;
    return ERR_OK;
}

void catalog_remove(struct catalog *self, struct topic *topic)
{
    ASSERT(catalog_peek_id(self, topic->id) == topic);
    ASSERT(!atomic_load(&topic->deleted));
    lock_write(self);
    take_out(self, topic);
    unlock(self);
    atomic_store(&topic->deleted, true);
    topic_unref(topic);
}
