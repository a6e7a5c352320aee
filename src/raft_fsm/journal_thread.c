/*
 * Happy path
 *
 *      post ──► queue ──► take all ──► journal_perform ──► done(list)
 *                 ▲                           │
 *                 └── what came meanwhile ────┘   one write for all of it
 *
 * Whenever the queue is empty, for IDLE_MS: a seal, then spares in steps, looking at the queue
 * after each. While it never is, a step towards a spare follows every FILL_STEP / 2 bytes written,
 * so that the next segment is ready when the current one is about half full.
 *
 * Failure modes: a task that fails is handed back with its error, and so is every later one (J4). A
 * seal or a spare that fails fails the journal, and the next task says so; a full disk only stops
 * the preparing until something is trimmed.
 */
#include "raft_fsm/journal_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"

enum {
    IDLE_MS = 20,
    FILL_STEP = 1024 * 1024,
};

struct journal_thread {
    pthread_mutex_t lock; /* Guards queue, stopping, stats. */
    pthread_cond_t wake;
    struct journal_task *head;
    struct journal_task **tail;
    bool stopping;
    struct journal_stats stats;
    /* The thread's own. */
    pthread_t thread;
    struct journal *journal; /* owned */
    void (*done)(void *arg, struct journal_task *list);
    void *arg;
    bool seal;           /* A seal is to be written. */
    bool fill;           /* Spares are to be prepared. */
    bool full;           /* The disk was full when that was tried. */
    uint64_t fill_bytes; /* Of stats.bytes, when the last step towards a spare was made. */
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

static struct timespec deadline_after_ms(unsigned ms)
{
    struct timespec deadline;
    int rv = clock_gettime(CLOCK_MONOTONIC, &deadline);

    ASSERT(rv == 0);
    deadline.tv_nsec += (long)ms * 1000000;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    return deadline;
}

enum wake_reason { WAKE_TASKS, WAKE_IDLE, WAKE_STOP };

/* Waits for tasks, and no longer than until the deadline (NULL: none). Tasks come before a stop. */
static enum wake_reason wait_for_work(struct journal_thread *self, const struct timespec *deadline,
                                      struct journal_task **ret_list)
{
    int rv = 0;

    lock(self);
    while (self->head == NULL && !self->stopping && rv != ETIMEDOUT) {
        rv = deadline != NULL ? pthread_cond_timedwait(&self->wake, &self->lock, deadline)
                              : pthread_cond_wait(&self->wake, &self->lock);
        ASSERT(rv == 0 || rv == ETIMEDOUT);
    }
    *ret_list = self->head;
    self->head = NULL;
    self->tail = &self->head;
    rv = self->stopping ? 1 : 0;
    unlock(self);
    if (*ret_list != NULL) {
        return WAKE_TASKS;
    }
    return rv != 0 ? WAKE_STOP : WAKE_IDLE;
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

static void fill_step(struct journal_thread *self)
{
    bool more = false;
    enum err err = journal_prepare(self->journal, FILL_STEP, &more, NULL);

    self->fill = err == ERR_OK && more;
    self->full = err == ERR_NOSPACE;
}

static struct journal_stats publish_stats(struct journal_thread *self)
{
    struct journal_stats stats;

    journal_stats(self->journal, &stats);
    lock(self);
    self->stats = stats;
    unlock(self);
    return stats;
}

static void perform(struct journal_thread *self, struct journal_task *list)
{
    struct journal_stats stats;
    bool trim = has_trim(list);
    enum err err;

    err = journal_perform(self->journal, list, NULL); /* Each task carries its outcome. */
    stats = publish_stats(self);
    self->done(self->arg, list);
    self->full = self->full && !trim;
    self->seal = err == ERR_OK;
    self->fill = err == ERR_OK && !self->full;
    if (self->fill && stats.bytes - self->fill_bytes >= FILL_STEP / 2) {
        self->fill_bytes = stats.bytes;
        fill_step(self);
    }
}

/* One step of what can wait. */
static void idle(struct journal_thread *self)
{
    if (self->seal) {
        self->seal = false;
        /* A failure stays with the journal and meets the next task. */
        (void)journal_seal(self->journal, NULL);
        (void)publish_stats(self); /* The copy is for others. */
    } else if (self->fill) {
        fill_step(self);
    }
}

static void *run(void *arg)
{
    struct journal_thread *self = arg;
    enum wake_reason reason = WAKE_TASKS;
    struct journal_task *list;

    while (reason != WAKE_STOP) {
        bool work = self->seal || self->fill;
        /* After the first step of an idle time the next ones follow at once. */
        struct timespec deadline = deadline_after_ms(reason == WAKE_IDLE ? 0 : IDLE_MS);

        reason = wait_for_work(self, work ? &deadline : NULL, &list);
        if (reason == WAKE_TASKS) {
            perform(self, list);
        } else if (reason == WAKE_IDLE) {
            idle(self);
        }
    }
    return NULL;
}

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

enum err journal_thread_start(struct journal *journal,
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
    rv = pthread_cond_signal(&self->wake);
    ASSERT(rv == 0);
    unlock(self);
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
