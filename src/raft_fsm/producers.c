#include "raft_fsm/producers.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "raft_fsm/table.h"

enum { RING_SIZE_MIN = 4 };

/* Sequences up to so far behind the next one are old; others are ahead of it. */
#define SEQUENCE_BACK_MAX (UINT64_C(0x7fffffff))

_Static_assert(PRODUCERS_WINDOW % RING_SIZE_MIN == 0, "a ring doubles up to the window's size");
_Static_assert(PRODUCERS_BATCHES_MAX >= PRODUCERS_MAX, "every producer may have a batch");

struct window_key {
    uint64_t producer_id;
    uint64_t topic_id;
};

/* What one producer wrote to one topic. */
struct window {
    struct window_key key;
    uint64_t records;          /* ever written */
    struct window_batch *ring; /* owned */
    unsigned capacity;         /* of ring: a power of two times RING_SIZE_MIN, at most the window */
    unsigned first;            /* the oldest batch */
    unsigned count;            /* >= 1, but while it is being made */
    bool hashed;
    struct window *prev, *next; /* the same producer's */
    UT_hash_handle hh;
};

struct producer {
    uint64_t id;
    uint16_t epoch;
    int64_t used_time_us;
    struct window *windows; /* owned, in no order */
    bool hashed;
    struct producer *prev, *next; /* in struct producers, by used_time_us */
    UT_hash_handle hh;
};

struct producers {
    uint64_t next_id;
    struct producer *by_id;
    struct window *by_key;
    struct producer *by_use; /* least recently used first; what happens to equal times is equal */
    bool by_use_sorted;      /* false after a restore */
    struct producers_counts counts;
};

enum err producers_new(struct producers **ret_producers)
{
    struct producers *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->next_id = 1;
    self->by_use_sorted = true;
    *ret_producers = self;
    return ERR_OK;
}

/* ---- windows ---- */

static struct window *find_window(const struct producers *self, uint64_t producer_id,
                                  uint64_t topic_id)
{
    struct window_key key = {.producer_id = producer_id, .topic_id = topic_id};
    struct window *window;

    HASH_FIND(hh, self->by_key, &key, sizeof key, window);
    ASSERT(IMPLIES(window != NULL, window->count > 0));
    return window;
}

static const struct window_batch *window_at(const struct window *window, unsigned number)
{
    ASSERT(number < window->count);
    return &window->ring[(window->first + number) % window->capacity];
}

static uint32_t window_next_sequence(const struct window *window)
{
    const struct window_batch *last = window_at(window, window->count - 1);

    return last->base_sequence + last->record_count; /* P1: mod 2^32 */
}

static struct window *add_window(struct producers *self, struct producer *producer,
                                 uint64_t topic_id)
{
    struct window *window = calloc(1, sizeof *window);

    if (window == NULL) {
        return NULL;
    }
    window->key = (struct window_key){.producer_id = producer->id, .topic_id = topic_id};
    window->hashed = true;
    HASH_ADD(hh, self->by_key, key, sizeof window->key, window);
    if (!window->hashed) {
        free(window);
        return NULL;
    }
    DL_APPEND(producer->windows, window);
    self->counts.windows++;
    return window;
}

static void remove_window(struct producers *self, struct producer *producer, struct window *window)
{
    ASSERT(self->counts.windows > 0 && self->counts.batches >= window->count);
    HASH_DELETE(hh, self->by_key, window);
    DL_DELETE(producer->windows, window);
    self->counts.windows--;
    self->counts.batches -= window->count;
    free(window->ring);
    free(window);
}

static enum err grow_ring(struct window *window)
{
    unsigned capacity = window->capacity == 0 ? RING_SIZE_MIN : window->capacity * 2;
    struct window_batch *ring;

    ASSERT(capacity <= PRODUCERS_WINDOW);
    ASSERT(window->count == window->capacity);
    ring = malloc(capacity * sizeof *ring);
    if (ring == NULL) {
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < window->count; i++) {
        ring[i] = *window_at(window, i);
    }
    free(window->ring);
    window->ring = ring;
    window->capacity = capacity;
    window->first = 0;
    return ERR_OK;
}

static void drop_oldest(struct producers *self, struct window *window)
{
    ASSERT(window->count > 0 && self->counts.batches > 0);
    window->first = (window->first + 1) % window->capacity;
    window->count--;
    self->counts.batches--;
}

/* P2, P4 */
static enum err push_batch(struct producers *self, struct window *window,
                           const struct window_batch *batch)
{
    enum err err = ERR_OK;

    if (window->count == PRODUCERS_WINDOW || self->counts.batches == PRODUCERS_BATCHES_MAX) {
        drop_oldest(self, window);
    }
    if (window->count == window->capacity) {
        err = grow_ring(window);
    }
    if (err == ERR_OK) {
        window->ring[(window->first + window->count) % window->capacity] = *batch;
        window->count++;
        window->records += batch->record_count;
        self->counts.batches++;
    }
    return err;
}

/* ---- producers ---- */

static struct producer *find_producer(const struct producers *self, uint64_t id)
{
    struct producer *producer;

    HASH_FIND(hh, self->by_id, &id, sizeof id, producer);
    return producer;
}

static struct producer *add_producer(struct producers *self, const struct producer_view *view)
{
    struct producer *producer = calloc(1, sizeof *producer);

    if (producer == NULL) {
        return NULL;
    }
    producer->id = view->id;
    producer->epoch = view->epoch;
    producer->used_time_us = view->used_time_us;
    producer->hashed = true;
    HASH_ADD(hh, self->by_id, id, sizeof producer->id, producer);
    if (!producer->hashed) {
        free(producer);
        return NULL;
    }
    DL_APPEND(self->by_use, producer);
    self->counts.producers++;
    return producer;
}

static void remove_producer(struct producers *self, struct producer *producer)
{
    ASSERT(self->counts.producers > 0);
    while (producer->windows != NULL) {
        remove_window(self, producer, producer->windows);
    }
    HASH_DELETE(hh, self->by_id, producer);
    DL_DELETE(self->by_use, producer);
    self->counts.producers--;
    free(producer);
}

void producers_free(struct producers *self)
{
    if (self == NULL) {
        return;
    }
    while (self->by_use != NULL) {
        remove_producer(self, self->by_use);
    }
    ASSERT(self->counts.windows == 0 && self->counts.batches == 0);
    free(self);
}

static int compare_use(const struct producer *a, const struct producer *b)
{
    return (a->used_time_us > b->used_time_us) - (a->used_time_us < b->used_time_us);
}

/* P3: all that are idle go at once, so the order of those with equal times does not matter. */
static void forget_idle(struct producers *self, int64_t now_us)
{
    if (!self->by_use_sorted) {
        DL_SORT(self->by_use, compare_use);
        self->by_use_sorted = true;
    }
    while (self->by_use != NULL && now_us >= PRODUCERS_IDLE_US &&
           self->by_use->used_time_us <= now_us - PRODUCERS_IDLE_US) {
        remove_producer(self, self->by_use);
    }
}

static void touch(struct producers *self, struct producer *producer, int64_t now_us)
{
    ASSERT(producer->used_time_us <= now_us);
    producer->used_time_us = now_us;
    DL_DELETE(self->by_use, producer);
    DL_APPEND(self->by_use, producer);
}

enum err producers_init(struct producers *self, int64_t now_us, uint64_t *ret_id,
                        uint16_t *ret_epoch)
{
    struct producer_view view = {.id = self->next_id, .epoch = 0, .used_time_us = now_us};

    ASSERT(self->next_id > 0 && self->next_id < UINT64_MAX);
    if (self->counts.producers == PRODUCERS_MAX) {
        forget_idle(self, now_us);
    }
    if (self->counts.producers == PRODUCERS_MAX) {
        return ERR_LIMIT;
    }
    if (add_producer(self, &view) == NULL) {
        return ERR_NOMEM;
    }
    self->next_id++;
    *ret_id = view.id;
    *ret_epoch = view.epoch;
    return ERR_OK;
}

enum err producers_raise(struct producers *self, int64_t now_us, const struct producer_claim *claim,
                         uint16_t *ret_epoch)
{
    struct producer *producer = find_producer(self, claim->id);

    ASSERT(claim->id != 0);
    if (producer == NULL || (claim->has_epoch && claim->epoch > producer->epoch)) {
        return ERR_PRODUCER_UNKNOWN;
    }
    if (claim->has_epoch && claim->epoch < producer->epoch) {
        return ERR_FENCED;
    }
    if (producer->epoch == UINT16_MAX) {
        return ERR_EPOCHS_USED_UP;
    }
    producer->epoch++; /* P5 */
    touch(self, producer, now_us);
    *ret_epoch = producer->epoch;
    return ERR_OK;
}

uint64_t producers_records(const struct producers *self, uint64_t id, uint64_t topic_id)
{
    const struct window *window = find_window(self, id, topic_id);

    ASSERT(id != 0);
    return window == NULL ? 0 : window->records;
}

static enum err decide_first(struct producers *self, int64_t now_us,
                             const struct batch_header *header)
{
    if (header->base_sequence != 0) {
        return ERR_SEQUENCE_GAP;
    }
    if (self->counts.batches == PRODUCERS_BATCHES_MAX) { /* P4 */
        forget_idle(self, now_us);
        if (find_producer(self, header->producer_id) == NULL) {
            return ERR_PRODUCER_UNKNOWN; /* It was itself the one to go. */
        }
    }
    return self->counts.batches == PRODUCERS_BATCHES_MAX ? ERR_LIMIT : ERR_OK;
}

static enum err decide_next(const struct window *window, const struct batch_header *header,
                            struct window_batch *ret_before)
{
    uint32_t next = window_next_sequence(window);
    uint32_t back = next - header->base_sequence;
    uint64_t reach = 0; /* records in the batches looked at */

    if (back == 0) {
        return ERR_OK;
    }
    if (back > SEQUENCE_BACK_MAX || back > window->records) {
        return ERR_SEQUENCE_GAP;
    }
    for (unsigned i = window->count; i > 0; i--) {
        const struct window_batch *batch = window_at(window, i - 1);

        reach += batch->record_count;
        if (back == reach && batch->record_count == header->record_count &&
            batch->body_crc32c == header->body_crc32c) {
            *ret_before = *batch;
            return ERR_EXISTS;
        }
        if (back <= reach) {
            return ERR_SEQUENCE_REUSED;
        }
    }
    return ERR_DUPLICATE_OLD;
}

enum err producers_decide(struct producers *self, uint64_t topic_id, int64_t now_us,
                          const struct batch_header *header, struct window_batch *ret_before)
{
    const struct producer *producer = find_producer(self, header->producer_id);
    const struct window *window;

    ASSERT(header->producer_id != 0);
    ASSERT(header->record_count > 0);
    if (producer == NULL || header->producer_epoch > producer->epoch) {
        return ERR_PRODUCER_UNKNOWN;
    }
    if (header->producer_epoch < producer->epoch) {
        return ERR_FENCED;
    }
    window = find_window(self, producer->id, topic_id);
    return window == NULL ? decide_first(self, now_us, header)
                          : decide_next(window, header, ret_before);
}

enum err producers_note(struct producers *self, uint64_t topic_id, int64_t now_us,
                        const struct batch_header *stamped)
{
    const struct window_batch batch = {
        .base_sequence = stamped->base_sequence,
        .record_count = stamped->record_count,
        .base_offset = stamped->base_offset,
        .body_crc32c = stamped->body_crc32c,
        .raft_index = stamped->raft_index,
        .raft_term = stamped->raft_term,
        .append_time_us = stamped->append_time_us,
    };
    struct producer *producer = find_producer(self, stamped->producer_id);
    struct window *window = find_window(self, stamped->producer_id, topic_id);
    bool added = window == NULL;
    enum err err;

    ASSERT(producer != NULL && producer->epoch == stamped->producer_epoch);
    ASSERT(stamped->base_sequence == (added ? 0 : window_next_sequence(window))); /* P1 */
    if (added) {
        ASSERT(self->counts.batches < PRODUCERS_BATCHES_MAX); /* P4 */
        window = add_window(self, producer, topic_id);
        if (window == NULL) {
            return ERR_NOMEM;
        }
    }
    err = push_batch(self, window, &batch);
    if (err != ERR_OK) {
        if (added) {
            remove_window(self, producer, window);
        }
        return err;
    }
    touch(self, producer, now_us);
    return ERR_OK;
}

void producers_forget_topic(struct producers *self, uint64_t topic_id)
{
    struct window *window;
    struct window *next;

    HASH_ITER(hh, self->by_key, window, next)
    {
        if (window->key.topic_id == topic_id) {
            remove_window(self, find_producer(self, window->key.producer_id), window);
        }
    }
}

/* ---- visiting ---- */

uint64_t producers_next_id(const struct producers *self)
{
    return self->next_id;
}

struct producers_counts producers_count(const struct producers *self)
{
    return self->counts;
}

static int compare_producers(const void *a, const void *b)
{
    const struct producer *const *left = a;
    const struct producer *const *right = b;

    return ((*left)->id > (*right)->id) - ((*left)->id < (*right)->id);
}

static int compare_windows(const void *a, const void *b)
{
    const struct window *const *left = a;
    const struct window *const *right = b;

    return ((*left)->key.topic_id > (*right)->key.topic_id) -
           ((*left)->key.topic_id < (*right)->key.topic_id);
}

static enum err visit_window(const struct window *window, const struct producers_visitor *visitor)
{
    struct window_batch batches[PRODUCERS_WINDOW];

    ASSERT(window->count > 0 && window->count <= PRODUCERS_WINDOW);
    for (unsigned i = 0; i < window->count; i++) {
        batches[i] = *window_at(window, i);
    }
    return visitor->window(visitor->arg, window->key.topic_id, window->records, batches,
                           window->count);
}

static enum err visit_windows(const struct producer *producer,
                              const struct producers_visitor *visitor)
{
    const struct window **windows;
    const struct window *window;
    enum err err = ERR_OK;
    size_t count = 0;
    size_t i = 0;

    DL_COUNT(producer->windows, window, count);
    if (count == 0) {
        return ERR_OK;
    }
    windows = malloc(count * sizeof *windows);
    if (windows == NULL) {
        return ERR_NOMEM;
    }
    DL_FOREACH(producer->windows, window)
    {
        windows[i++] = window;
    }
    ASSERT(i == count);
    qsort(windows, count, sizeof *windows, compare_windows);
    for (i = 0; i < count && err == ERR_OK; i++) {
        err = visit_window(windows[i], visitor);
    }
    free(windows);
    return err;
}

enum err producers_visit(const struct producers *self, const struct producers_visitor *visitor)
{
    const struct producer **producers;
    const struct producer *producer;
    size_t count = self->counts.producers;
    enum err err = ERR_OK;
    size_t i = 0;

    if (count == 0) {
        return ERR_OK;
    }
    producers = malloc(count * sizeof *producers);
    if (producers == NULL) {
        return ERR_NOMEM;
    }
    DL_FOREACH(self->by_use, producer)
    {
        ASSERT(i < count);
        producers[i++] = producer;
    }
    ASSERT(i == count);
    qsort(producers, count, sizeof *producers, compare_producers);
    for (i = 0; i < count && err == ERR_OK; i++) {
        const struct producer_view view = {.id = producers[i]->id,
                                           .epoch = producers[i]->epoch,
                                           .used_time_us = producers[i]->used_time_us};

        err = visitor->producer(visitor->arg, &view);
        if (err == ERR_OK) {
            err = visit_windows(producers[i], visitor);
        }
    }
    free(producers);
    return err;
}

/* ---- restoring ---- */

void producers_set_next_id(struct producers *self, uint64_t next_id)
{
    ASSERT(self->counts.producers == 0);
    ASSERT(next_id > 0);
    self->next_id = next_id;
}

enum err producers_restore_producer(struct producers *self, const struct producer_view *producer)
{
    if (producer->id == 0 || producer->id >= self->next_id ||
        find_producer(self, producer->id) != NULL || self->counts.producers == PRODUCERS_MAX) {
        return ERR_CORRUPT;
    }
    if (add_producer(self, producer) == NULL) {
        return ERR_NOMEM;
    }
    self->by_use_sorted = false;
    return ERR_OK;
}

/* P1, P2 and that the batches end where `records` says. */
static bool batches_plausible(uint64_t records, const struct window_batch *batches, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct window_batch *before = i > 0 ? &batches[i - 1] : NULL;

        if (batches[i].record_count == 0 ||
            batches[i].base_offset > UINT64_MAX - batches[i].record_count) {
            return false;
        }
        if (before != NULL &&
            (batches[i].base_sequence != (uint32_t)(before->base_sequence + before->record_count) ||
             batches[i].base_offset < before->base_offset + before->record_count ||
             batches[i].raft_index < before->raft_index ||
             batches[i].append_time_us < before->append_time_us)) {
            return false;
        }
        sum += batches[i].record_count;
    }
    return sum <= records && (uint32_t)(batches[count - 1].base_sequence +
                                        batches[count - 1].record_count) == (uint32_t)records;
}

enum err producers_restore_window(struct producers *self, uint64_t producer_id, uint64_t topic_id,
                                  uint64_t records, const struct window_batch *batches,
                                  unsigned count)
{
    struct producer *producer = find_producer(self, producer_id);
    struct window *window;
    enum err err = ERR_OK;

    if (producer == NULL || count == 0 || count > PRODUCERS_WINDOW ||
        count > PRODUCERS_BATCHES_MAX - self->counts.batches ||
        find_window(self, producer_id, topic_id) != NULL ||
        !batches_plausible(records, batches, count)) {
        return ERR_CORRUPT;
    }
    window = add_window(self, producer, topic_id);
    if (window == NULL) {
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < count && err == ERR_OK; i++) {
        err = push_batch(self, window, &batches[i]);
    }
    if (err != ERR_OK) {
        remove_window(self, producer, window);
        return err;
    }
    window->records = records;
    return ERR_OK;
}

/* ---- copying: a visit that restores ---- */

struct copying {
    struct producers *copy;
    uint64_t producer_id;
};

static enum err copy_producer(void *arg, const struct producer_view *producer)
{
    struct copying *copying = arg;

    copying->producer_id = producer->id;
    return producers_restore_producer(copying->copy, producer);
}

static enum err copy_window(void *arg, uint64_t topic_id, uint64_t records,
                            const struct window_batch *batches, unsigned count)
{
    struct copying *copying = arg;

    return producers_restore_window(copying->copy, copying->producer_id, topic_id, records, batches,
                                    count);
}

enum err producers_copy(const struct producers *self, struct producers **ret_copy)
{
    struct copying copying = {0};
    const struct producers_visitor visitor = {
        .arg = &copying, .producer = copy_producer, .window = copy_window};
    enum err err;

    err = producers_new(&copying.copy);
    if (err != ERR_OK) {
        return err;
    }
    producers_set_next_id(copying.copy, self->next_id);
    err = producers_visit(self, &visitor);
    ASSERT(err != ERR_CORRUPT); /* What is visited can be restored. */
    if (err != ERR_OK) {
        producers_free(copying.copy);
        return err;
    }
    *ret_copy = copying.copy;
    return ERR_OK;
}

void producers_check(const struct producers *self)
{
    struct producers_counts counts = {0};
    const struct producer *producer;
    const struct window *window;
    int64_t used_time_us = INT64_MIN;

    DL_FOREACH(self->by_use, producer)
    {
        ASSERT(producer->id > 0 && producer->id < self->next_id);
        ASSERT(find_producer(self, producer->id) == producer);
        ASSERT(IMPLIES(self->by_use_sorted, producer->used_time_us >= used_time_us));
        used_time_us = producer->used_time_us;
        DL_FOREACH(producer->windows, window)
        {
            struct window_batch batches[PRODUCERS_WINDOW];

            ASSERT(find_window(self, producer->id, window->key.topic_id) == window);
            ASSERT(window->count <= window->capacity && window->capacity <= PRODUCERS_WINDOW);
            for (unsigned i = 0; i < window->count; i++) {
                batches[i] = *window_at(window, i);
            }
            ASSERT(batches_plausible(window->records, batches, window->count)); /* P1, P2 */
            counts.windows++;
            counts.batches += window->count;
        }
        counts.producers++;
    }
    ASSERT(counts.producers == self->counts.producers && counts.producers <= PRODUCERS_MAX);
    ASSERT(counts.windows == self->counts.windows && counts.windows == HASH_COUNT(self->by_key));
    ASSERT(counts.batches == self->counts.batches && counts.batches <= PRODUCERS_BATCHES_MAX);
}
