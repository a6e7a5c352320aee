/*
 * Taking snapshots.
 *
 *      IDLE ── maybe_snapshot: enough was applied ──► JOB ── finish ──► STORED ── compact ──► IDLE
 *                                                      └── an install began: dropped ──► IDLE
 *
 * The state is copied at once; syncing the logs and writing the file take their time on another
 * thread while entries go on being applied. The journal is trimmed only afterwards (R3).
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/turns.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/steps.h"

struct taking_job {
    struct job job;
    struct fsm_sync *sync; /* NULL when nothing was dirty */
    struct snapshot snapshot;
};

void replica_drop_taking(struct replica *self)
{
    if (self->taking.state != TAKING_IDLE) {
        snapshot_fini(&self->taking.snapshot);
        self->taking.state = TAKING_IDLE;
    }
}

static void run_taking(struct replica_job *base)
{
    struct taking_job *job = (struct taking_job *)replica_job_of(base);
    struct replica *self = job->job.replica;

    if (job->sync != NULL) {
        job->job.err = fsm_sync_run(job->sync, &job->job.info);
    }
    if (job->job.err == ERR_OK) {
        job->job.err = snapshot_save(self->host.io, self->dir, &job->snapshot, &job->job.info);
    }
}

/* Tells the driver, trims the journal, lets go of deleted topics' files. */
static enum err compact(struct replica *self, struct err_info *info)
{
    struct journal_task *task;
    unsigned step;
    enum err err;

    ASSERT(self->taking.state == TAKING_STORED);
    if (raft_driver_stored_index(self->driver) < self->taking.snapshot.index || self->syncing_job) {
        return ERR_OK; /* Not yet; asked again after every call. */
    }
    step = turns_step(self->host.turns, STEP_COMPACT);
    err = raft_driver_compact(self->driver, replica_now_ms(self), &self->taking.snapshot);
    if (err != ERR_OK) {
        return replica_driver_failed(self, err, info);
    }
    err = fsm_forget(self->fsm, self->taking.snapshot.index, info);
    if (err != ERR_OK) {
        return err;
    }
    replica_drop_taking(self);
    (void)turns_step(self->host.turns, step); /* The one that ended is ours. */
    task = journal_task_new(JOURNAL_TRIM, 0);
    if (task == NULL) {
        return ERR_OK; /* Trimmed after the next snapshot. */
    }
    task->index = raft_driver_first_index(self->driver) - 1;
    replica_post_task(self, task);
    return ERR_OK;
}

static enum err finish_taking(struct replica *self, struct job *base, struct err_info *info)
{
    struct taking_job *job = (struct taking_job *)base;
    enum err err = job->job.err;

    ASSERT(self->syncing_job);
    self->syncing_job = false;
    if (job->sync != NULL) {
        enum err end = fsm_sync_end(self->fsm, job->sync);

        err = err == ERR_OK ? end : err;
    }
    if (err != ERR_OK) {
        if (info != NULL) {
            *info = job->job.info;
        }
    } else if (self->taking.state == TAKING_JOB &&
               self->taking.snapshot.index == job->snapshot.index) {
        self->snapshot_index = job->snapshot.index;
        self->taking.state = TAKING_STORED;
        diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "snapshot_taken", "index=%llu bytes=%zu",
                   (unsigned long long)job->snapshot.index, job->snapshot.manifest.size);
        err = compact(self, info);
    }
    snapshot_fini(&job->snapshot);
    free(job);
    return err;
}

/* The snapshot of the state as it is applied now. */
static enum err capture(const struct replica *self, struct snapshot *ret_snapshot)
{
    struct manifest manifest;
    struct slice membership;
    enum err err;

    *ret_snapshot = (struct snapshot){.index = raft_driver_applied_index(self->driver)};
    ASSERT(fsm_applied_index(self->fsm) == ret_snapshot->index);
    raft_driver_snapshot_meta(self->driver, &ret_snapshot->term, &ret_snapshot->membership_index,
                              &membership);
    err = fsm_manifest(self->fsm, &manifest);
    if (err != ERR_OK) {
        return err;
    }
    err = manifest_encode(&manifest, &ret_snapshot->manifest);
    manifest_fini(&manifest);
    if (err == ERR_OK) {
        ret_snapshot->membership = membership;
        block_ref(membership.block);
    }
    return err;
}

enum err replica_capture(const struct replica *self, struct snapshot *ret_snapshot)
{
    /* Between an install's end and the driver's knowledge of it the two do not fit together. */
    if (self->installing.state != INSTALLING_IDLE || raft_driver_applied_index(self->driver) == 0) {
        return ERR_BUSY;
    }
    return capture(self, ret_snapshot);
}

static enum err begin(struct replica *self)
{
    struct taking_job *job = calloc(1, sizeof *job);
    enum err err;

    if (job == NULL) {
        return ERR_NOMEM;
    }
    err = capture(self, &job->snapshot);
    if (err != ERR_OK) {
        goto err_after_calloc;
    }
    err = fsm_sync_begin(self->fsm, &job->sync);
    if (err != ERR_OK) {
        goto err_after_capture;
    }
    job->job.job.run = run_taking;
    job->job.replica = self;
    job->job.finish = finish_taking;
    snapshot_ref(&job->snapshot, &self->taking.snapshot);
    self->taking.state = TAKING_JOB;
    self->syncing_job = true;
    self->size_since_snapshot = 0;
    self->retention.wants_snapshot = false;
    self->compact_lead.wants_snapshot = false;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;

err_after_capture:
    snapshot_fini(&job->snapshot);
err_after_calloc:
    free(job);
    return err;
}

/* Enough was applied; or too many files are open because they were not synced; or the disk is
 * short, or some time has passed, and files that the last snapshot still promises, of a deleted
 * topic or below a start, would go. */
static bool is_due(const struct replica *self)
{
    bool newer = raft_driver_applied_index(self->driver) > self->snapshot_index;

    return self->size_since_snapshot >= self->options.snapshot_size ||
           (newer && (fsm_is_crowded(self->fsm) || self->compact_lead.wants_snapshot)) ||
           (newer && (replica_is_short(self) || self->retention.wants_snapshot) &&
            fsm_has_deleted(self->fsm));
}

enum err replica_maybe_snapshot(struct replica *self, struct err_info *info)
{
    unsigned step;
    enum err err;

    if (self->taking.state == TAKING_STORED) {
        return compact(self, info);
    }
    if (self->taking.state != TAKING_IDLE || self->syncing_job ||
        self->installing.state != INSTALLING_IDLE || raft_driver_installing(self->driver) ||
        !is_due(self)) {
        return ERR_OK;
    }
    step = turns_step(self->host.turns, STEP_SNAPSHOT);
    err = begin(self);
    (void)turns_step(self->host.turns, step); /* As above. */
    if (err == ERR_NOMEM) {
        return ERR_OK; /* Tried again after the next call; the journal grows meanwhile. */
    }
    return err == ERR_OK ? ERR_OK
                         : err_set(info, err, "a snapshot cannot be taken: %s", err_text(err));
}
