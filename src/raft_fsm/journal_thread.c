/*
 * Happy path
 *
 *      post ──► queue ──► take all ──► journal_perform ──► done(list)
 *                 ▲                           │
 *                 └── what came meanwhile ────┘   one write for all of it
 *
 *      try ──► the journal is free, the task is small ──► journal_perform, on the caller's thread
 *
 * Whoever uses the journal has set `busy`. Whenever nobody has for IDLE_MS: a seal, then spares in
 * steps, looking at the queue after each. While it never is idle, a step towards a spare follows
 * every FILL_STEP / 2 bytes written, so that the next segment is ready when the current one is
 * about half full.
 *
 * Failure modes: a task that fails is handed back with its error, and so is every later one (J4). A
 * seal or a spare that fails fails the journal, and the next task says so; a full disk only stops
 * the preparing until something is trimmed. A disk that is slow is left to the thread: none is
 * tried while writes, whoever makes them, take longer than TRY_US on a moving average.
 */
#include "raft_fsm/journal_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"

enum {
    IDLE_MS = 20,
    FILL_STEP = 1024 * 1024,
    TRY_SIZE_MAX = 16 * 1024, /* bytes of entry frames */
    TRY_US = 1000,
    AVERAGE_SPAN = 8, /* writes that the average looks back */
};

struct journal_thread {
    pthread_mutex_t lock; /* Guards all below down to stats. */
    pthread_cond_t wake;
    struct journal_task *head;
    struct journal_task **tail;
    bool stopping;
    bool busy;           /* Somebody uses the journal. */
    bool asleep;         /* The thread waits for a signal and nothing else. */
    bool seal;           /* A seal is to be written. */
    bool fill;           /* Spares are to be prepared. */
    bool fill_now;       /* ... without waiting for idleness. */
    bool full;           /* The disk was full when that was tried. */
    uint64_t fill_bytes; /* Of stats.bytes, when the last step towards a spare was made. */
    uint64_t idle_at_ms; /* When what can wait may be done. */
    uint64_t write_us;   /* How long a write takes, on average. */
    struct journal_stats stats;
    struct delays delays; /* who has the journal records, locked; any thread reads */
    pthread_t thread;
    struct journal *journal;   /* owned */
    const struct clock *clock; /* borrowed */
    void (*done)(void *arg, struct journal_task *list);
    void *arg;
};

static void lock(struct journal_thread *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

static void unlock(struct journal_thread *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

static void wait_until(struct journal_thread *self, uint64_t deadline_ms)
{
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ms / 1000),
        .tv_nsec = (long)(deadline_ms % 1000) * 1000000,
    };
    int rv;

    self->asleep = deadline_ms == UINT64_MAX;
    rv = self->asleep ? pthread_cond_wait(&self->wake, &self->lock)
                      : pthread_cond_timedwait(&self->wake, &self->lock, &deadline);
    ASSERT(rv == 0 || rv == ETIMEDOUT);
    self->asleep = false;
}

enum work { WORK_TASKS, WORK_SEAL, WORK_FILL, WORK_STOP };

/* Waits for something to do, locked, and takes the journal for it. Tasks come first, a stop last:
 * what was posted is performed. */
static enum work wait_for_work(struct journal_thread *self, struct journal_task **ret_list)
{
    for (;;) {
        bool due = self->fill_now || ((self->seal || self->fill) && now_ms() >= self->idle_at_ms);

        if (!self->busy && self->head != NULL) {
            *ret_list = self->head;
            self->head = NULL;
            self->tail = &self->head;
            self->busy = true;
            return WORK_TASKS;
        }
        if (!self->busy && self->stopping) {
            return WORK_STOP;
        }
        if (!self->busy && due) {
            self->busy = true;
            return self->seal && !self->fill_now ? WORK_SEAL : WORK_FILL;
        }
        /* Who tries sets idle_at_ms when it is done; until then this is looked at again. */
        wait_until(self, self->busy                 ? now_ms() + IDLE_MS
                         : self->seal || self->fill ? self->idle_at_ms
                                                    : UINT64_MAX);
    }
}

static bool has_trim(const struct journal_task *list)
{
    for (; list != NULL; list = list->next) {
        if (list->type != JOURNAL_APPEND) {
            return true;
        }
    }
    return false;
}

static uint64_t now_us(const struct journal_thread *self)
{
    return self->clock->monotonic_ns(self->clock) / 1000;
}

/* Locked. */
static void note_time(struct journal_thread *self, uint64_t took_us)
{
    self->write_us = (self->write_us * (AVERAGE_SPAN - 1) + took_us) / AVERAGE_SPAN;
    delays_record(&self->delays, took_us);
}

/* After tasks were performed, locked: what follows from it. */
static void performed(struct journal_thread *self, const struct journal_stats *stats, enum err err,
                      bool trim)
{
    self->stats = *stats;
    self->full = self->full && !trim;
    self->seal = err == ERR_OK;
    self->fill = err == ERR_OK && !self->full;
    self->idle_at_ms = now_ms() + IDLE_MS;
    if (self->fill && stats->bytes - self->fill_bytes >= FILL_STEP / 2) {
        self->fill_bytes = stats->bytes;
        self->fill_now = true;
    }
    self->busy = false;
}

static void perform(struct journal_thread *self, struct journal_task *list)
{
    struct journal_stats stats;
    bool trim = has_trim(list);
    uint64_t begun_us = now_us(self);
    uint64_t took_us;
    enum err err;

    err = journal_perform(self->journal, list, NULL); /* Each task carries its outcome. */
    took_us = now_us(self) - begun_us;
    journal_stats(self->journal, &stats);
    self->done(self->arg, list);
    lock(self);
    performed(self, &stats, err, trim);
    note_time(self, took_us);
    unlock(self);
}

static void fill_step(struct journal_thread *self)
{
    bool more = false;
    enum err err = journal_prepare(self->journal, FILL_STEP, &more, NULL);

    lock(self);
    self->fill_now = false;
    self->fill = err == ERR_OK && more;
    self->full = err == ERR_NOSPACE;
    self->busy = false;
    unlock(self);
}

static void seal(struct journal_thread *self)
{
    struct journal_stats stats;

    /* A failure stays with the journal and meets the next task. */
    (void)journal_seal(self->journal, NULL);
    journal_stats(self->journal, &stats);
    lock(self);
    self->stats = stats;
    self->seal = false;
    self->busy = false;
    unlock(self);
}

static void *run(void *arg)
{
    struct journal_thread *self = arg;

    for (;;) {
        struct journal_task *list;
        enum work work;

        lock(self);
        work = wait_for_work(self, &list);
        unlock(self);
        switch (work) {
        case WORK_TASKS:
            perform(self, list);
            break;
        case WORK_SEAL:
            seal(self);
            break;
        case WORK_FILL:
            fill_step(self);
            break;
        case WORK_STOP:
            return NULL;
        }
    }
}

/* ---- on the thread that posts ---- */

static size_t frames_size(const struct journal_task *task)
{
    size_t size = 0;

    for (unsigned i = 0; i < task->count && size <= TRY_SIZE_MAX; i++) {
        size += entry_frame_size(task->entries[i].size);
    }
    return size;
}

/* Takes the journal if it is free. */
static bool take_journal(struct journal_thread *self)
{
    bool taken;

    lock(self);
    ASSERT(!self->stopping);
    taken = !self->busy && self->head == NULL && self->write_us <= TRY_US;
    self->busy = self->busy || taken;
    unlock(self);
    return taken;
}

static void give_journal_back(struct journal_thread *self, enum err err, uint64_t took_us)
{
    struct journal_stats stats;
    bool wake;

    journal_stats(self->journal, &stats);
    lock(self);
    performed(self, &stats, err, false);
    note_time(self, took_us);
    wake = self->asleep || self->fill_now;
    unlock(self);
    if (wake) {
        int rv = pthread_cond_signal(&self->wake);

        ASSERT(rv == 0);
    }
}

bool journal_thread_try(struct journal_thread *self, struct journal_task *task)
{
    size_t size = frames_size(task);
    bool fits;

    ASSERT(task->next == NULL);
    if (task->type != JOURNAL_APPEND || size == 0 || size > TRY_SIZE_MAX || !take_journal(self)) {
        return false;
    }
    fits = size <= journal_room(self->journal);
    if (fits) {
        uint64_t begun_us = now_us(self);

        (void)journal_perform(self->journal, task, NULL); /* The task carries its outcome. */
        give_journal_back(self, task->err, now_us(self) - begun_us);
    } else {
        lock(self);
        self->busy = false;
        unlock(self);
    }
    return fits;
}

/* ---- start and stop ---- */

static void init_sync(struct journal_thread *self)
{
    pthread_condattr_t attributes;
    int rv = pthread_mutex_init(&self->lock, NULL);

    ASSERT(rv == 0);
    rv = pthread_condattr_init(&attributes);
    ASSERT(rv == 0);
    rv = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    ASSERT(rv == 0);
    rv = pthread_cond_init(&self->wake, &attributes);
    ASSERT(rv == 0);
    rv = pthread_condattr_destroy(&attributes);
    ASSERT(rv == 0);
}

static void fini_sync(struct journal_thread *self)
{
    int rv = pthread_cond_destroy(&self->wake);

    ASSERT(rv == 0);
    rv = pthread_mutex_destroy(&self->lock);
    ASSERT(rv == 0);
}

enum err journal_thread_start(struct journal *journal, const struct clock *clock,
                              void (*done)(void *arg, struct journal_task *list), void *arg,
                              struct journal_thread **ret_thread)
{
    struct journal_thread *self = calloc(1, sizeof *self);
    int rv;

    ASSERT(journal != NULL && done != NULL);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->tail = &self->head;
    self->journal = journal;
    self->clock = clock;
    self->done = done;
    self->arg = arg;
    self->seal = true;
    self->fill = true;
    journal_stats(journal, &self->stats);
    self->fill_bytes = self->stats.bytes;
    init_sync(self);
    rv = pthread_create(&self->thread, NULL, run, self);
    if (rv != 0) {
        fini_sync(self);
        free(self);
        return err_from_errno(rv);
    }
    *ret_thread = self;
    return ERR_OK;
}

void journal_thread_post(struct journal_thread *self, struct journal_task *task)
{
    int rv;

    task->next = NULL;
    lock(self);
    ASSERT(!self->stopping);
    *self->tail = task;
    self->tail = &task->next;
    unlock(self);
    rv = pthread_cond_signal(&self->wake); /* Unlocked, or it would wake to wait for the lock. */
    ASSERT(rv == 0);
}

void journal_thread_stop(struct journal_thread *self)
{
    int rv;

    lock(self);
    ASSERT(!self->stopping);
    self->stopping = true;
    rv = pthread_cond_signal(&self->wake);
    ASSERT(rv == 0);
    unlock(self);
    rv = pthread_join(self->thread, NULL);
    ASSERT(rv == 0);
    ASSERT(self->head == NULL);
    journal_close(self->journal);
    fini_sync(self);
    free(self);
}

void journal_thread_stats(struct journal_thread *self, struct journal_stats *ret_stats)
{
    lock(self);
    *ret_stats = self->stats;
    unlock(self);
}

void journal_thread_delays(const struct journal_thread *self, struct delays_snapshot *ret_delays)
{
    delays_read(&self->delays, ret_delays);
}
