#include "lookup/run_cache.h"

#include <stdlib.h>

#include "base/assert.h"

enum err run_cache_init(struct run_cache *self)
{
    *self = (struct run_cache){0};
    return pthread_mutex_init(&self->lock, NULL) == 0 ? ERR_OK : ERR_NOMEM;
}

static void lock(struct run_cache *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct run_cache *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

static void close_at(struct run_cache *self, size_t i)
{
    struct part *part = self->open[i];

    ASSERT(part->users == 0 && part->run != NULL);
    key_run_close(part->run);
    part->run = NULL;
    self->count -= 1;
    self->open[i] = self->open[self->count];
    part_unref(part);
}

void run_cache_fini(struct run_cache *self)
{
    while (self->count > 0) {
        close_at(self, self->count - 1);
    }
    free(self->open);
    (void)pthread_mutex_destroy(&self->lock); /* nobody holds it */
}

static void make_room(struct run_cache *self)
{
    size_t oldest = self->count;

    if (self->count < RUN_CACHE_OPEN_MAX) {
        return;
    }
    for (size_t i = 0; i < self->count; i++) {
        if (self->open[i]->users == 0 &&
            (oldest == self->count || self->open[i]->used < self->open[oldest]->used)) {
            oldest = i;
        }
    }
    if (oldest < self->count) {
        close_at(self, oldest);
    }
}

static enum err open_run(struct run_cache *self, const char *dir, struct part *part,
                         struct err_info *info)
{
    enum err err;

    make_room(self);
    if (self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? 16 : 2 * self->capacity;
        struct part **open = realloc(self->open, capacity * sizeof(struct part *));

        if (open == NULL) {
            return err_set(info, ERR_NOMEM, "no memory for open key indexes");
        }
        self->open = open;
        self->capacity = capacity;
    }
    err = key_run_open(dir, &part->seal, &part->stamp, &part->run, info);
    if (err == ERR_OK) {
        self->open[self->count] = part_ref(part);
        self->count += 1;
    }
    return err;
}

enum err run_cache_acquire(struct run_cache *self, const char *dir, struct part *part,
                           struct key_run **ret_run, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(part->seal.kind == PART_KEYS);
    lock(self);
    if (part->run == NULL) {
        err = open_run(self, dir, part, info);
    }
    if (err == ERR_OK) {
        part->users += 1;
        self->ticks += 1;
        part->used = self->ticks;
        *ret_run = part->run;
    }
    unlock(self);
    return err;
}

static void close_unused(struct run_cache *self, const struct part *part)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->open[i] == part && part->users == 0) {
            close_at(self, i);
            return;
        }
    }
}

void run_cache_release(struct run_cache *self, struct part *part)
{
    lock(self);
    ASSERT(part->users > 0 && part->run != NULL);
    part->users -= 1;
    if (atomic_load(&part->gone)) {
        close_unused(self, part);
    }
    unlock(self);
}

/* Damaged or not: nobody is to ask it any more. */
void run_cache_drop(struct run_cache *self, struct part *part)
{
    atomic_store(&part->gone, true);
    lock(self);
    close_unused(self, part);
    unlock(self);
}
