#include "log/file_cache.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/assert.h"

enum {
    MAX_DEFAULT = 1024,
    LIMIT_FACTOR = 8, /* of descriptors_max; a process that may open many need not do so */
    MAPPED_DEFAULT = 256 << 20,
};

struct file_cache {
    atomic_uint refs;
    pthread_mutex_t lock; /* Guards all below, and the items. Never held over a system call (I1). */
    struct file_cache_options options;
    struct file_cache_item *idle[FILE_CACHE_KIND_COUNT]; /* open, not pinned; oldest use first */
    size_t descriptors; /* of open items, reserved for misses under way, and counted ones */
    size_t pinned;      /* of them those that are pinned, reserved or counted */
    uint64_t mapped;
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t refused;
};

static void lock(struct file_cache *self)
{
    ASSERT(pthread_mutex_lock(&self->lock) == 0);
}

static void unlock(struct file_cache *self)
{
    ASSERT(pthread_mutex_unlock(&self->lock) == 0);
}

struct file_cache *file_cache_new(const struct file_cache_options *options)
{
    struct file_cache *self = calloc(1, sizeof *self);

    ASSERT(options->descriptors_max > 0);
    ASSERT(options->descriptors_limit >= options->descriptors_max);
    if (self == NULL) {
        return NULL;
    }
    ASSERT(pthread_mutex_init(&self->lock, NULL) == 0);
    atomic_init(&self->refs, 1);
    self->options = *options;
    return self;
}

struct file_cache *file_cache_new_for(uint64_t files_max, uint64_t max)
{
    /* A quarter is for connections, the journal, and what is open for a moment only. */
    uint64_t limit = files_max - files_max / 4;
    struct file_cache_options options = {.mapped_max = MAPPED_DEFAULT};

    max = max == 0 ? MAX_DEFAULT : max;
    limit = limit < max * LIMIT_FACTOR ? limit : max * LIMIT_FACTOR;
    limit = limit == 0 ? 1 : limit;
    max = max < limit / 2 ? max : limit / 2;
    options.descriptors_max = max == 0 ? 1 : (size_t)max;
    options.descriptors_limit = (size_t)limit;
    return file_cache_new(&options);
}

struct file_cache *file_cache_ref(struct file_cache *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void file_cache_unref(struct file_cache *self)
{
    unsigned before;

    if (self == NULL) {
        return;
    }
    before = atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    ASSERT(self->idle[FILE_CACHE_DESCRIPTOR] == NULL && self->idle[FILE_CACHE_MAP] == NULL);
    ASSERT(self->descriptors == 0 && self->pinned == 0 && self->mapped == 0);
    ASSERT(pthread_mutex_destroy(&self->lock) == 0);
    free(self);
}

void file_cache_stats(struct file_cache *self, struct file_cache_stats *ret_stats)
{
    lock(self);
    *ret_stats = (struct file_cache_stats){
        .hits = self->hits,
        .misses = self->misses,
        .evictions = self->evictions,
        .refused = self->refused,
        .descriptors = self->descriptors,
        .descriptors_pinned = self->pinned,
        .descriptors_max = self->options.descriptors_max,
        .descriptors_limit = self->options.descriptors_limit,
        .mapped = self->mapped,
        .mapped_max = self->options.mapped_max,
    };
    unlock(self);
}

bool file_cache_is_crowded(struct file_cache *self)
{
    bool crowded;

    lock(self);
    crowded = self->pinned > self->options.descriptors_limit / 2;
    unlock(self);
    return crowded;
}

bool file_cache_is_filling(struct file_cache *self)
{
    bool filling;

    lock(self);
    filling = self->pinned > self->options.descriptors_limit / 8 * 5;
    unlock(self);
    return filling;
}

bool file_cache_is_full(struct file_cache *self)
{
    bool full;

    lock(self);
    full = self->pinned > self->options.descriptors_limit - self->options.descriptors_limit / 4;
    unlock(self);
    return full;
}

void file_cache_item_init(struct file_cache_item *item, enum file_cache_kind kind,
                          void (*close)(void *context, int fd, void *object), void *context)
{
    *item = (struct file_cache_item){.kind = kind, .fd = -1, .close = close, .context = context};
}

/* ---- under the lock ---- */

static void pin(struct file_cache *self, struct file_cache_item *item)
{
    ASSERT(item->open);
    if (item->pins == 0) {
        DL_DELETE(self->idle[item->kind], item);
        self->pinned += item->kind == FILE_CACHE_DESCRIPTOR ? 1 : 0;
    }
    item->pins += 1;
}

/* Room for the descriptor of a miss, or its return. */
static void reserve(struct file_cache *self, const struct file_cache_item *item)
{
    if (item->kind == FILE_CACHE_DESCRIPTOR) {
        self->descriptors += 1;
        self->pinned += 1;
    }
}

static void unreserve(struct file_cache *self, const struct file_cache_item *item)
{
    if (item->kind == FILE_CACHE_DESCRIPTOR) {
        ASSERT(self->descriptors > 0 && self->pinned > 0);
        self->descriptors -= 1;
        self->pinned -= 1;
    }
}

/* Makes an open item a closed one; what it had is in *ret_closed, to be closed without the lock. */
static void detach(struct file_cache *self, struct file_cache_item *item,
                   struct file_cache_item *ret_closed)
{
    ASSERT(item->open && item->pins == 0);
    *ret_closed = *item;
    DL_DELETE(self->idle[item->kind], item);
    item->open = false;
    item->fd = -1;
    item->object = NULL;
    if (item->kind == FILE_CACHE_DESCRIPTOR) {
        ASSERT(self->descriptors > 0);
        self->descriptors -= 1;
    } else {
        ASSERT(self->mapped >= item->size);
        self->mapped -= item->size;
    }
}

static bool is_over(const struct file_cache *self, enum file_cache_kind kind)
{
    return kind == FILE_CACHE_DESCRIPTOR ? self->descriptors > self->options.descriptors_max
                                         : self->mapped > self->options.mapped_max;
}

static bool take_victim(struct file_cache *self, struct file_cache_item *ret_victim)
{
    bool taken = false;

    lock(self);
    for (int kind = 0; kind < FILE_CACHE_KIND_COUNT && !taken; kind++) {
        if (self->idle[kind] != NULL && is_over(self, (enum file_cache_kind)kind)) {
            detach(self, self->idle[kind], ret_victim);
            self->evictions += 1;
            taken = true;
        }
    }
    unlock(self);
    return taken;
}

/* ---- */

static void evict(struct file_cache *self)
{
    struct file_cache_item victim;

    while (take_victim(self, &victim)) { /* I2, I3 */
        victim.close(victim.context, victim.fd, victim.object);
    }
}

static enum file_cache_outcome acquire(struct file_cache *self, struct file_cache_item *item,
                                       bool always)
{
    enum file_cache_outcome outcome = FILE_CACHE_MISS;

    lock(self);
    if (item->open) {
        pin(self, item);
        self->hits += 1;
        outcome = FILE_CACHE_HIT;
    } else if (item->gone) {
        outcome = FILE_CACHE_GONE;
    } else if (item->kind == FILE_CACHE_DESCRIPTOR && !always &&
               self->pinned >= self->options.descriptors_limit) {
        self->refused += 1; /* I2 */
        outcome = FILE_CACHE_FULL;
    } else {
        reserve(self, item);
        self->misses += 1;
    }
    unlock(self);
    if (outcome == FILE_CACHE_MISS) {
        evict(self); /* Before one more is opened. */
    }
    return outcome;
}

enum file_cache_outcome file_cache_acquire(struct file_cache *self, struct file_cache_item *item)
{
    return acquire(self, item, false);
}

enum file_cache_outcome file_cache_acquire_always(struct file_cache *self,
                                                  struct file_cache_item *item)
{
    return acquire(self, item, true);
}

enum file_cache_outcome file_cache_install(struct file_cache *self, struct file_cache_item *item,
                                           const struct file_cache_item *opened, bool *ret_taken)
{
    enum file_cache_outcome outcome = FILE_CACHE_HIT;

    ASSERT(opened->kind == item->kind);
    *ret_taken = false;
    lock(self);
    unreserve(self, item);
    if (item->open) {
        pin(self, item);
    } else if (item->gone) {
        outcome = FILE_CACHE_GONE;
    } else {
        item->open = true;
        item->fd = opened->fd;
        item->object = opened->object;
        item->size = opened->size;
        item->pins = 1;
        if (item->kind == FILE_CACHE_DESCRIPTOR) {
            self->descriptors += 1;
            self->pinned += 1;
        } else {
            self->mapped += item->size;
        }
        *ret_taken = true;
    }
    unlock(self);
    evict(self);
    return outcome;
}

enum file_cache_outcome file_cache_abandon(struct file_cache *self, struct file_cache_item *item)
{
    enum file_cache_outcome outcome = FILE_CACHE_MISS;

    lock(self);
    unreserve(self, item);
    if (item->open) {
        pin(self, item);
        outcome = FILE_CACHE_HIT;
    } else if (item->gone) {
        outcome = FILE_CACHE_GONE;
    }
    unlock(self);
    return outcome;
}

void file_cache_release(struct file_cache *self, struct file_cache_item *item)
{
    bool over;

    lock(self);
    ASSERT(item->open && item->pins > 0);
    item->pins -= 1;
    if (item->pins == 0) {
        DL_APPEND(self->idle[item->kind], item);
        if (item->kind == FILE_CACHE_DESCRIPTOR) {
            ASSERT(self->pinned > 0);
            self->pinned -= 1;
        }
    }
    over = item->pins == 0 && is_over(self, item->kind);
    unlock(self);
    if (over) {
        evict(self);
    }
}

void file_cache_set_gone(struct file_cache *self, struct file_cache_item *item)
{
    lock(self);
    item->gone = true;
    unlock(self);
}

void file_cache_forget(struct file_cache *self, struct file_cache_item *item)
{
    struct file_cache_item closed = {.fd = -1};
    bool open;

    lock(self);
    ASSERT(item->pins == 0);
    open = item->open;
    if (open) {
        detach(self, item, &closed);
    }
    unlock(self);
    if (open) {
        closed.close(closed.context, closed.fd, closed.object);
    }
}

void file_cache_count(struct file_cache *self, int change)
{
    size_t size = (size_t)(change < 0 ? -change : change);

    lock(self);
    if (change < 0) {
        ASSERT(self->descriptors >= size && self->pinned >= size);
        self->descriptors -= size;
        self->pinned -= size;
    } else {
        self->descriptors += size;
        self->pinned += size;
    }
    unlock(self);
    evict(self);
}
