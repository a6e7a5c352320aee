/*
 * Installing a snapshot: this replica lacks entries that no journal has any more.
 *
 *      IDLE ── install_begin (driver) ──► WAIT ── no sync under way ──► JOB ──► RESET ──► IDLE
 *
 * Happy path: the manifest becomes the state at once, what the logs lack becomes holes; then the
 * logs are synced and the snapshot file is written; the journal is reset; the driver is told, and
 * new entries are applied above the holes, which replica_fill.c closes.
 *
 * Failure modes: a crash before the snapshot file is written finds the old snapshot and the old
 * journal; one after it finds a journal that ends before the snapshot, which is dropped at start.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

struct installing_job {
    struct job job;
    struct fsm_sync *sync;
    struct snapshot snapshot;
};

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
    ASSERT(self->syncing_job);
    self->syncing_job = false;
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

/* The state is the manifest's: makes that durable. */
static enum err begin_job(struct replica *self, struct err_info *info)
{
    struct installing_job *job = calloc(1, sizeof *job);
    enum err err;

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
    self->syncing_job = true;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}

void replica_install_begin(void *arg, const struct snapshot *snapshot)
{
    struct replica *self = arg;

    ASSERT(self->installing.state == INSTALLING_IDLE);
    replica_drop_taking(self);
    self->installing.state = INSTALLING_WAIT; /* The rest does not belong inside a driver's step. */
    snapshot_ref(snapshot, &self->installing.snapshot);
    self->changed = true;
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "install_begun", "index=%llu applied=%llu",
               (unsigned long long)snapshot->index,
               (unsigned long long)fsm_applied_index(self->fsm));
}

uint64_t replica_install_deadline_ms(const struct replica *self)
{
    /* A job that syncs has the logs, and one that takes a snapshot would write its older one over
     * ours: its end brings us here. */
    return self->installing.state == INSTALLING_WAIT && !self->syncing_job ? 0 : UINT64_MAX;
}

enum err replica_install_tick(struct replica *self, struct err_info *info)
{
    const struct snapshot *snapshot = &self->installing.snapshot;
    struct fsm_holes holes;
    struct manifest manifest;
    enum err err;

    if (replica_install_deadline_ms(self) != 0) {
        return ERR_OK;
    }
    err = manifest_decode(snapshot->manifest.data, snapshot->manifest.size, &manifest, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "the leader's snapshot %llu",
                          (unsigned long long)snapshot->index);
    }
    err = fsm_install(self->fsm, &manifest, info);
    manifest_fini(&manifest);
    if (err != ERR_OK) {
        return err;
    }
    fsm_holes(self->fsm, &holes);
    diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "install_switched",
               "index=%llu holes=%llu missing=%llu", (unsigned long long)snapshot->index,
               (unsigned long long)holes.holes, (unsigned long long)holes.missing);
    self->changed = true;
    return begin_job(self, info);
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
    nodes_ahead_clear(&self->nodes_ahead);
    /* The driver may ask for the next install in this very call. */
    self->installing.state = INSTALLING_IDLE;
    snapshot_fini(&self->installing.snapshot);
    err = raft_driver_installed(self->driver, replica_now_ms(self));
    return err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
}
