/*
 * Reads that must see everything acknowledged before them: queued, then together in one round.
 *
 *      queue ──round begins──► asked ──confirmed──► done, ERR_OK with the round's index
 *        └──────────────────────┴── leadership is elsewhere, or ends ──► done, ERR_NOT_LEADER
 *
 * One round is under way at a time; what comes meanwhile shares the next one. A leader that has not
 * committed in its term yet keeps the queue until it has.
 */
#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

void replica_read(struct replica *self, struct replica_read *read)
{
    ASSERT(read->done != NULL);
    read->next = self->reads.queue;
    self->reads.queue = read;
}

static void finish(struct replica_read **list, enum err err, uint64_t index)
{
    struct replica_read *read = *list;

    *list = NULL;
    while (read != NULL) {
        struct replica_read *next = read->next;

        read->next = NULL;
        read->err = err;
        read->index = index;
        read->done(read); /* It may be gone now. */
        read = next;
    }
}

void replica_fail_reads(struct replica *self, enum err err)
{
    ASSERT(err != ERR_OK);
    finish(&self->reads.asked, err, 0);
    finish(&self->reads.queue, err, 0);
}

enum err replica_read_flush(struct replica *self, struct err_info *info)
{
    struct reads *reads = &self->reads;
    enum err err = ERR_OK;

    if (reads->asked == NULL && reads->queue == NULL) {
        return ERR_OK;
    }
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER ||
        raft_driver_term(self->driver) != reads->term) {
        /* Of a round that began in an earlier term nothing is known. */
        finish(&reads->asked, ERR_NOT_LEADER, 0);
        reads->term = raft_driver_term(self->driver);
    }
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        replica_fail_reads(self, ERR_NOT_LEADER);
        return ERR_OK;
    }
    while (err == ERR_OK && (reads->asked != NULL || reads->queue != NULL)) {
        if (reads->asked == NULL) {
            err = raft_driver_read_begin(self->driver, replica_now_ms(self), &reads->round,
                                         &reads->index);
            if (err == ERR_OK) {
                reads->asked = reads->queue;
                reads->queue = NULL;
            }
        } else if (raft_driver_read_confirmed(self->driver) >= reads->round) {
            finish(&reads->asked, ERR_OK, reads->index);
        } else {
            break;
        }
    }
    if (err == ERR_OK || err == ERR_AGAIN) {
        return ERR_OK; /* Again: when an entry of our term is applied. */
    }
    return replica_driver_failed(self, err, info);
}
