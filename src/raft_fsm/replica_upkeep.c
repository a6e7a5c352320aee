/*
 * When it is time for what topics' settings ask for (fsm_upkeep), and the job that syncs.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

struct upkeep_job {
    struct job job;
    struct fsm_sync *sync;
};

static void run(struct replica_job *base)
{
    struct upkeep_job *job = (struct upkeep_job *)replica_job_of(base);

    job->job.err = fsm_sync_run(job->sync, &job->job.info);
}

static enum err finish(struct replica *self, struct job *base, struct err_info *info)
{
    struct upkeep_job *job = (struct upkeep_job *)base;
    enum err err = base->err;
    enum err end = fsm_sync_end(self->fsm, job->sync);

    ASSERT(self->syncing_job);
    self->syncing_job = false;
    if (err != ERR_OK && info != NULL) {
        *info = base->info;
    }
    free(job);
    return err == ERR_OK ? end : err;
}

uint64_t replica_upkeep_deadline_ms(const struct replica *self)
{
    /* One sync at a time; an install has one, too, when it is through. */
    return self->syncing_job || self->installing.state != INSTALLING_IDLE
               ? UINT64_MAX
               : fsm_upkeep_deadline_ms(self->fsm);
}

enum err replica_upkeep_tick(struct replica *self, struct err_info *info)
{
    struct upkeep_job *job;
    enum err err;

    if (replica_now_ms(self) < replica_upkeep_deadline_ms(self)) {
        return ERR_OK;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        return err_set(info, ERR_NOMEM, "the topics' files cannot be kept: %s",
                       err_text(ERR_NOMEM));
    }
    err = fsm_upkeep(self->fsm, replica_now_ms(self), &job->sync, info);
    if (err != ERR_OK || job->sync == NULL) {
        free(job);
        return err;
    }
    job->job.job.run = run;
    job->job.replica = self;
    job->job.finish = finish;
    self->syncing_job = true;
    self->host.job(self->host.arg, &job->job.job);
    return ERR_OK;
}
