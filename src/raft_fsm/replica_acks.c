/*
 * How many voters have what was written, and proposals that wait until all of them have it.
 *
 * Happy path: the entry of a proposal with acks_all is applied while a voter lacks it → held here →
 * the voter says that it has it (or our own write is done, or it is no voter any more) → done, OK.
 *
 * Failure modes, all after the fact, so the outcome is "written" (ERR_NOT_CONFIRMED) with the
 * number that is known: confirm_ms is over; too many are held; leadership is lost; the node stops.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    HELD_MAX = 4096,
    HELD_SIZE_MAX = 16 << 20, /* bytes of commands */
};

/* R1; the proposal may be gone afterwards. */
static void finish(struct proposal *proposal, enum err err)
{
    ASSERT(err == ERR_OK || err == ERR_NOT_CONFIRMED);
    proposal->next = NULL;
    proposal->result.err = err;
    proposal->done(proposal);
}

/* Leaves 0 of 0 where we lead no more, and so know nothing. */
static void count(const struct replica *self, struct proposal *proposal)
{
    if (raft_driver_role(self->driver) == RAFT_ROLE_LEADER) {
        proposal->replicas = raft_driver_durable_voters(self->driver, proposal->result.raft_index,
                                                        &proposal->voters);
    }
}

bool replica_hold(struct replica *self, struct proposal *proposal)
{
    struct held *held = &self->held_acks;
    size_t size = command_encoded_size(&proposal->command);

    ASSERT(proposal->result.err == ERR_OK);
    count(self, proposal);
    if (!proposal->acks_all || (proposal->voters > 0 && proposal->replicas == proposal->voters)) {
        return false;
    }
    if (proposal->voters == 0 || held->count == HELD_MAX || held->size + size > HELD_SIZE_MAX) {
        proposal->result.err = ERR_NOT_CONFIRMED;
        return false;
    }
    proposal->next = NULL;
    *held->tail = proposal;
    held->tail = &proposal->next;
    held->count++;
    held->size += size;
    if (proposal->confirm_at_ms < held->deadline_ms) {
        held->deadline_ms = proposal->confirm_at_ms;
    }
    return true;
}

/* Takes all out of the list, and puts back those that go on waiting. */
static void look_through(struct replica *self, uint64_t durable_index, uint64_t now_ms)
{
    struct proposal *list = self->held_acks.first;

    replica_init_held(&self->held_acks);
    self->held_acks.durable_index = durable_index;
    while (list != NULL) {
        struct proposal *proposal = list;

        list = list->next;
        if (proposal->confirm_at_ms <= now_ms && proposal->result.raft_index > durable_index) {
            count(self, proposal);
            finish(proposal, ERR_NOT_CONFIRMED);
        } else if (!replica_hold(self, proposal)) {
            finish(proposal, proposal->result.err);
        }
    }
}

void replica_confirm(struct replica *self)
{
    uint64_t durable_index;
    uint64_t now_ms;

    if (self->held_acks.first == NULL) {
        return;
    }
    ASSERT(raft_driver_role(self->driver) == RAFT_ROLE_LEADER); /* Or replica_fail_held came. */
    durable_index = raft_driver_durable_index(self->driver);
    now_ms = replica_now_ms(self);
    if (durable_index != self->held_acks.durable_index || now_ms >= self->held_acks.deadline_ms) {
        look_through(self, durable_index, now_ms);
    }
}

void replica_fail_held(struct replica *self)
{
    struct proposal *list = self->held_acks.first;

    replica_init_held(&self->held_acks);
    while (list != NULL) {
        struct proposal *next = list->next;

        finish(list, ERR_NOT_CONFIRMED);
        list = next;
    }
}

void replica_init_held(struct held *held)
{
    *held = (struct held){.deadline_ms = UINT64_MAX};
    held->tail = &held->first;
}
