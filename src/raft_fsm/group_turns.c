/*
 * How long the turns of the raft thread's loop take, and writes to the journal. A turn begins where
 * libuv calls back first (a socket, the waker, the end of a job, or else the check handle, which
 * comes after all these) and ends in on_prepare, right before the wait.
 */
#include "raft_fsm/group_internal.h"
#include "raft_fsm/steps.h"

static const char *const step_names[] = {
#define STEP_NAME(name, text) text,
    STEP_MAP(STEP_NAME)
#undef STEP_NAME
};

void group_turns_init(struct group *self)
{
    turns_init(&self->turns, &(struct turns_options){.clock = clock_real(),
                                                     .diag = self->options.diag,
                                                     .thread = "raft",
                                                     .steps = step_names,
                                                     .step_count = STEP_COUNT,
                                                     .stall_us = self->options.stall_us});
}

void group_turns(struct group *self, struct turns_figures *ret_figures)
{
    turns_read(&self->turns, ret_figures);
}

void group_journal_delays(struct group *self, struct delays_snapshot *ret_delays)
{
    *ret_delays = (struct delays_snapshot){0};
    group_lock(self);
    if (self->journal_thread != NULL) {
        journal_thread_delays(self->journal_thread, ret_delays);
    }
    group_unlock(self);
}
