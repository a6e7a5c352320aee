/*
 * Applying what is committed, a bounded part of it in a turn: after a pause, or a restart, there
 * may be a whole journal of it. The driver asks again in the next turn, and all that is due by then
 * comes first: messages, heartbeats, what is durable. Results are told with the entry that has
 * them.
 */
#include "base/assert.h"
#include "base/turns.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/steps.h"

enum err replica_apply(void *arg, const struct entry *entry)
{
    struct replica *self = arg;
    uint64_t work = fsm_work(self->fsm);
    struct pending *pending;
    unsigned step;
    enum err err;

    ASSERT(self->options.apply_work_max > 0);
    /* While opening there is nothing else to do. */
    if (self->applied_work >= self->options.apply_work_max && !self->opening) {
        return ERR_AGAIN;
    }
    pending = replica_take_pending(self, entry);
    step = turns_step(self->host.turns, STEP_APPLY);
    err = fsm_apply(self->fsm, entry, pending != NULL ? replica_answer : NULL, pending,
                    &self->apply_info);
    ASSERT(err != ERR_AGAIN); /* The driver would take it for the above. */
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
