/*
 * What is pushed out of a hole's way comes back from this disk.
 *
 *      here     [ … ]  hole  [ --- ][ ----- ][ --- ] …       the segment behind the hole
 *      others   [ … ][ ---------- ]
 *      widened  [ … ]  hole                  hole ][ … ]     punched as a whole, and kept open
 *      filled   [ … ][ ---------- ][ ----- ][ --- ][ … ]     theirs, then ours, cut where they meet
 *
 * So only what others have in one batch comes over the network, nothing that only this node has is
 * given up, and a hole does not eat its way up through the log. After a crash the rest of the
 * segment is a hole like any other, and the file is beside, as *.store.damaged.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

struct own_job {
    struct job job;
    uint64_t number;
    const struct log_kept *kept; /* the fill's, until this is over */
    uint64_t offset;
    size_t size_max;
    struct block *batches; /* owned */
    uint64_t end;
};

void replica_own_drop(struct replica *self)
{
    struct fill_own *own = &self->fill.own;

    if (!own->reading) {
        log_kept_free(own->kept);
        topic_unref(own->topic);
        *own = (struct fill_own){.kept = NULL};
    } else {
        own->dropped = true; /* When it was read. */
    }
}

void replica_own_keep(struct replica *self, struct topic *topic, uint64_t from, uint64_t above)
{
    struct fill_own *own = &self->fill.own;
    struct log_kept *kept;

    ASSERT(from < above);
    replica_own_drop(self);
    if (own->kept != NULL || log_keep(topic->log, above - 1, &kept, NULL) != ERR_OK) {
        return; /* It comes from others. */
    }
    if (log_kept_end(kept) == above) {
        log_kept_free(kept);
        return;
    }
    topic_ref(topic);
    *own = (struct fill_own){.kept = kept, .topic = topic, .from = above, .to = log_kept_end(kept)};
}

void replica_own_check(struct replica *self)
{
    struct fill_own *own = &self->fill.own;
    struct log_hole hole;

    if (own->kept != NULL && !own->reading &&
        (atomic_load(&own->topic->deleted) ||
         log_holes(own->topic->log, own->from, &hole, 1) == 0 || hole.from >= own->to)) {
        replica_own_drop(self);
    }
}

bool replica_own_serves(const struct replica *self)
{
    const struct fill *fill = &self->fill;
    const struct fill_own *own = &fill->own;

    return own->kept != NULL && !own->dropped && own->topic == fill->hole.topic &&
           fill->next >= own->from && fill->next < own->to && fill->hole.to <= own->to;
}

static void run(struct replica_job *base)
{
    struct own_job *job = (struct own_job *)replica_job_of(base);

    job->job.err = log_kept_read(job->kept, job->offset, job->size_max, &job->batches, &job->end,
                                 &job->job.info);
}

static enum err finish(struct replica *self, struct job *base, struct err_info *info)
{
    struct own_job *job = (struct own_job *)base;
    struct fill *fill = &self->fill;
    bool canceled = base->err == ERR_CANCELED;

    ASSERT(fill->own.reading);
    fill->own.reading = false;
    if (base->err != ERR_OK || fill->own.dropped) {
        replica_own_drop(self); /* It comes from others. */
    }
    if (base->err == ERR_OK && job->number == fill->number) {
        struct slice batches = {
            .block = job->batches, .data = job->batches->data, .size = job->batches->size};

        replica_fill_take(self, &batches, job->end, 0);
    }
    block_unref(job->batches);
    free(job);
    return canceled ? ERR_OK : replica_fill_tick(self, info);
}

bool replica_own_read(struct replica *self)
{
    struct fill *fill = &self->fill;
    struct own_job *job = calloc(1, sizeof *job);

    ASSERT(replica_own_serves(self) && !fill->own.reading);
    if (job == NULL) {
        return false;
    }
    job->job.job.run = run;
    job->job.replica = self;
    job->job.finish = finish;
    job->number = fill->number;
    job->kept = fill->own.kept;
    job->offset = fill->next;
    job->size_max = self->options.fill_chunk_size;
    fill->own.reading = true;
    self->host.job(self->host.arg, &job->job.job);
    return true;
}
