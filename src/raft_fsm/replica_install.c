/*
 * Installing a snapshot: this replica lacks entries that no journal has any more.
 *
 *      IDLE ── install_begin (driver) ──► FETCH ── nothing missing ──► JOB ──► RESET ──► IDLE
 *                                          │ chunk: fill, ask on (a snapshot's job under way:
 *                                          │        wait for its end)
 *                                          └── source failed, or no chunk for GIVE_UP_MS:
 *                                              abandon, the core starts anew ──────────► IDLE
 *
 * Happy path: plan what is missing; fetch it from the leader, chunk by chunk, each verified; switch
 * the state; sync the logs and write the snapshot file; reset the journal; tell the driver.
 *
 * Failure modes: a lost FETCH is sent again; a source that no longer has the topic (its own
 * snapshot moved on) or that falls silent ends the install, and what was filled shortens the next
 * one. A crash before the snapshot file is written finds the old snapshot and the old journal; one
 * after it finds a journal that ends before the snapshot, which is dropped at start.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    CHUNK_SIZE = 1024 * 1024,
    ASK_AGAIN_MS = 1000,
    GIVE_UP_MS = 15000,
    SERVED_MAX = 4, /* fetch jobs at a time; more are dropped and asked for again */
};

struct installing_job {
    struct job job;
    struct fsm_sync *sync;
    struct snapshot snapshot;
};

static void drop(struct replica *self)
{
    snapshot_fini(&self->installing.snapshot);
    self->installing = (struct installing){.state = INSTALLING_IDLE};
}

/* Gives up; the driver begins anew from what is on the disk. */
static enum err abandon(struct replica *self, const char *why, struct err_info *info)
{
    enum err err;

    ASSERT(self->installing.state == INSTALLING_FETCH);
    diag_event(self->host.diag, DIAG_WARN, "raft_fsm", "install_abandoned", "index=%llu why=\"%s\"",
               (unsigned long long)self->installing.snapshot.index, why);
    fsm_install_abandon(self->fsm);
    drop(self);
    err = raft_driver_install_failed(self->driver, replica_now_ms(self));
    return err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
}

static void ask(struct replica *self, const struct fsm_missing *missing)
{
    struct message message = {
        .type = MESSAGE_FETCH,
        .from = self->options.id,
        .to = self->installing.source,
        .term = raft_driver_term(self->driver),
        .fetch =
            {
                .topic_id = missing->topic_id,
                .offset = missing->offset,
                .end = missing->end,
                .size_max = CHUNK_SIZE,
            },
    };

    self->installing.asked_at_ms = replica_now_ms(self);
    self->host.send(self->host.arg, &message);
}

static void run_installing(struct replica_job *base)
{
    struct installing_job *job = (struct installing_job *)replica_job_of(base);
    struct replica *self = job->job.replica;

    if (job->sync != NULL) {
        job->job.err = fsm_sync_run(job->sync, &job->job.info);
    }
    if (job->job.err == ERR_OK) {
        job->job.err = snapshot_save(self->host.io, self->dir, &job->snapshot, &job->job.info);
    }
}

static enum err finish_installing(struct replica *self, struct job *base, struct err_info *info)
{
    struct installing_job *job = (struct installing_job *)base;
    struct journal_task *task = NULL;
    enum err err = job->job.err;

    ASSERT(self->installing.state == INSTALLING_JOB);
    if (job->sync != NULL) {
        enum err end = fsm_sync_end(self->fsm, job->sync);

        err = err == ERR_OK ? end : err;
    }
    if (err != ERR_OK && info != NULL) {
        *info = job->job.info;
    }
    if (err == ERR_OK) {
        self->snapshot_index = job->snapshot.index;
        task = journal_task_new(JOURNAL_RESET, 0);
        err = task != NULL ? ERR_OK : err_set(info, ERR_NOMEM, "out of memory");
    }
    if (err == ERR_OK) {
        task->index = job->snapshot.index + 1;
        self->installing.state = INSTALLING_RESET;
        replica_post_task(self, task);
    }
    snapshot_fini(&job->snapshot);
    free(job);
    return err;
}

/* Nothing is missing any more: switch the state and make all of it durable. */
static enum err complete(struct replica *self, struct err_info *info)
{
    struct installing_job *job;
    enum err err;

    err = fsm_install_finish(self->fsm, info);
    if (err != ERR_OK) {
        return err;
    }
    self->changed = true;
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    err = fsm_sync_begin(self->fsm, &job->sync);
    if (err != ERR_OK) {
        free(job);
        return err_set(info, err, "the topics' logs cannot be synced: %s", err_text(err));
    }
    snapshot_ref(&self->installing.snapshot, &job->snapshot);
    job->job.job.run = run_installing;
    job->job.replica = self;
    job->job.finish = finish_installing;
    self->installing.state = INSTALLING_JOB;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}

/* Asks for the next missing range, or completes. */
static enum err go_on(struct replica *self, struct err_info *info)
{
    struct fsm_missing missing;

    ASSERT(self->installing.state == INSTALLING_FETCH);
    if (fsm_install_missing(self->fsm, &missing)) {
        ask(self, &missing);
        return ERR_OK;
    }
    if (self->taking_job) {
        /* It syncs the same logs, and would write its older snapshot over ours. Its end brings us
         * here again; until then there is nothing to ask for, and nobody to give up on. */
        self->installing.asked_at_ms = self->installing.progress_at_ms = replica_now_ms(self);
        return ERR_OK;
    }
    return complete(self, info);
}

enum err replica_install_resume(struct replica *self, struct err_info *info)
{
    ASSERT(!self->taking_job);
    if (self->installing.state != INSTALLING_FETCH || self->installing.progress_at_ms == 0) {
        return ERR_OK;
    }
    return go_on(self, info);
}

void replica_install_begin(void *arg, const struct snapshot *snapshot)
{
    struct replica *self = arg;
    struct installing *installing = &self->installing;

    ASSERT(installing->state == INSTALLING_IDLE);
    ASSERT(snapshot->index > fsm_applied_index(self->fsm));
    replica_drop_taking(self);
    snapshot_ref(snapshot, &installing->snapshot);
    installing->state = INSTALLING_FETCH;
    installing->source = raft_driver_leader(self->driver);
    /* The first step is taken by replica_install_tick, outside of the driver's call. */
    installing->asked_at_ms = 0;
    installing->progress_at_ms = 0;
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "install_begun", "index=%llu from=%llu",
               (unsigned long long)snapshot->index, (unsigned long long)installing->source);
}

static enum err plan(struct replica *self, struct err_info *info)
{
    struct manifest manifest;
    enum err err;

    self->installing.progress_at_ms = replica_now_ms(self);
    err = manifest_decode(self->installing.snapshot.manifest.data,
                          self->installing.snapshot.manifest.size, &manifest, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "the leader's snapshot %llu",
                          (unsigned long long)self->installing.snapshot.index);
    }
    err = fsm_install_plan(self->fsm, &manifest, info);
    manifest_fini(&manifest);
    return err == ERR_OK ? go_on(self, info) : err;
}

uint64_t replica_install_deadline_ms(const struct replica *self)
{
    if (self->installing.state != INSTALLING_FETCH) {
        return UINT64_MAX;
    }
    return self->installing.progress_at_ms == 0 ? 0 : self->installing.asked_at_ms + ASK_AGAIN_MS;
}

enum err replica_install_tick(struct replica *self, struct err_info *info)
{
    struct installing *installing = &self->installing;
    uint64_t now_ms = replica_now_ms(self);
    uint64_t leader;

    if (installing->state != INSTALLING_FETCH || now_ms < replica_install_deadline_ms(self)) {
        return ERR_OK;
    }
    if (installing->progress_at_ms == 0) {
        return plan(self, info);
    }
    if (now_ms >= installing->progress_at_ms + GIVE_UP_MS) {
        return abandon(self, "no answer", info);
    }
    /* Any leader has what the snapshot promises. */
    leader = raft_driver_leader(self->driver);
    installing->source = leader != 0 && leader != self->options.id ? leader : installing->source;
    return go_on(self, info);
}

enum err replica_install_reset_done(struct replica *self, struct err_info *info)
{
    uint64_t index = self->installing.snapshot.index;
    enum err err;

    ASSERT(self->installing.state == INSTALLING_RESET);
    err = fsm_forget(self->fsm, index, info);
    if (err != ERR_OK) {
        return err;
    }
    self->size_since_snapshot = 0;
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "install_done", "index=%llu",
               (unsigned long long)index);
    /* The driver may ask for the next install in this very call. */
    self->installing.state = INSTALLING_IDLE;
    snapshot_fini(&self->installing.snapshot);
    err = raft_driver_installed(self->driver, replica_now_ms(self));
    return err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
}

enum err replica_receive_fetch_result(struct replica *self, const struct message *message,
                                      struct err_info *info)
{
    struct fsm_missing missing;
    enum err err;

    if (self->installing.state != INSTALLING_FETCH || self->installing.progress_at_ms == 0 ||
        !fsm_install_missing(self->fsm, &missing) ||
        message->fetch_result.topic_id != missing.topic_id ||
        message->fetch_result.offset != missing.offset) {
        return ERR_OK; /* An answer to a question of long ago. */
    }
    if (message->fetch_result.err != ERR_OK) {
        return abandon(self, err_text(message->fetch_result.err), info);
    }
    err = fsm_install_fill(self->fsm, missing.topic_id, message->fetch_result.batches.data,
                           message->fetch_result.batches.size, info);
    if (err == ERR_CORRUPT) {
        return abandon(self, info != NULL ? info->text : "a batch does not verify", info);
    }
    if (err != ERR_OK) {
        return err;
    }
    self->installing.progress_at_ms = replica_now_ms(self);
    return go_on(self, info);
}

/* ---- the other side: serving what another replica misses ---- */

struct fetch_job {
    struct job job;
    struct topic *topic; /* a reference; NULL: not known */
    struct message answer;
    uint64_t size_max;
};

static void run_fetch(struct replica_job *base)
{
    struct fetch_job *job = (struct fetch_job *)replica_job_of(base);
    struct message *answer = &job->answer;
    struct block *block;
    struct err_info info;
    enum err err = ERR_TOPIC_UNKNOWN;

    if (job->topic != NULL) {
        err = log_read(job->topic->log, answer->fetch_result.offset, answer->fetch_result.end,
                       job->size_max, &block, &answer->fetch_result.end, &info);
    }
    if (err == ERR_OK) {
        answer->fetch_result.batches =
            (struct slice){.block = block, .data = block->data, .size = block->size};
    }
    answer->fetch_result.err = err;
}

static enum err finish_fetch(struct replica *self, struct job *base, struct err_info *info)
{
    struct fetch_job *job = (struct fetch_job *)base;

    (void)info; /* What went wrong is told to the one who asked. */
    self->fetches_served--;
    job->answer.term = raft_driver_term(self->driver);
    self->host.send(self->host.arg, &job->answer);
    message_fini(&job->answer);
    topic_unref(job->topic);
    free(job);
    return ERR_OK;
}

enum err replica_receive_fetch(struct replica *self, const struct message *message,
                               struct err_info *info)
{
    struct fetch_job *job;

    (void)info; /* Dropped when it cannot be served; the other side asks again. */
    if (self->fetches_served == SERVED_MAX) {
        return ERR_OK;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        return ERR_OK;
    }
    job->job.job.run = run_fetch;
    job->job.replica = self;
    job->job.finish = finish_fetch;
    job->topic = fsm_find_promised(self->fsm, message->fetch.topic_id);
    job->size_max = message->fetch.size_max < CHUNK_SIZE ? message->fetch.size_max : CHUNK_SIZE;
    job->answer = (struct message){
        .type = MESSAGE_FETCH_RESULT,
        .from = self->options.id,
        .to = message->from,
        .fetch_result =
            {
                .topic_id = message->fetch.topic_id,
                .offset = message->fetch.offset,
                .end = message->fetch.end,
            },
    };
    self->fetches_served++;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}
