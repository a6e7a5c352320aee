/*
 * Applying what is committed, a bounded part of it in a turn: after a pause, or a restart, there
 * may be a whole journal of it. The driver asks again in the next turn, and all that is due by then
 * comes first: messages, heartbeats, what is durable. Results are told with the entry that has
 * them.
 *
 * What is written keeps files open until it is synced. When there are many of them, and a sync is
 * under way, applying waits for its end.
 */
#include "base/assert.h"
#include "base/turns.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/steps.h"

/* Whether another entry may be applied now: ERR_AGAIN: in the next turn; ERR_BUSY: when the sync
 * that is under way is done. */
static enum err may_apply(struct replica *self)
{
    bool filling = fsm_is_filling(self->fsm);

    if (filling && self->syncing_job) {
        self->apply_stopped = true;
        return ERR_BUSY;
    }
    /* Between two turns a snapshot begins, which syncs; where it cannot, it goes on slowly. */
    return self->applied_work >= (filling ? 1 : self->options.apply_work_max) ? ERR_AGAIN : ERR_OK;
}

enum err replica_apply(void *arg, const struct entry *entry)
{
    struct replica *self = arg;
    uint64_t work = fsm_work(self->fsm);
    struct pending *pending;
    unsigned step;
    enum err err;

    ASSERT(self->options.apply_work_max > 0);
    err = self->opening ? ERR_OK : may_apply(self); /* There is nothing else to do then. */
    if (err != ERR_OK) {
        return err;
    }
    pending = replica_take_pending(self, entry);
    step = turns_step(self->host.turns, STEP_APPLY);
    err = fsm_apply(self->fsm, entry, pending != NULL ? replica_answer : NULL, pending,
                    &self->apply_info);
    ASSERT(err != ERR_AGAIN && err != ERR_BUSY); /* The driver would take them for the above. */
    if (err != ERR_OK) {
        self->apply_info.code = err;
    }
    if (pending != NULL) {
        replica_answered(self, pending);
    }
    self->size_since_snapshot += entry_frame_size(entry->size);
    self->applied_work += fsm_work(self->fsm) - work;
    self->changed = true;
    (void)turns_step(self->host.turns, step); /* The one that ended is ours. */
    return err;
}

void replica_apply_more(struct replica *self)
{
    self->applied_work = 0;
}

uint64_t replica_apply_deadline_ms(const struct replica *self)
{
    return self->apply_stopped && !self->syncing_job ? 0 : UINT64_MAX;
}
