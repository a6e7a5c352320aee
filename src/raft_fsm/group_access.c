/*
 * The group as other threads see it: its mailboxes, and what it published last. Nothing here
 * touches the replica.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/container.h"
#include "raft_fsm/group_internal.h"

void group_lock(struct group *self)
{
    int rv = pthread_mutex_lock(&self->lock);

    ASSERT(rv == 0);
}

void group_unlock(struct group *self)
{
    int rv = pthread_mutex_unlock(&self->lock);

    ASSERT(rv == 0);
}

static void on_proposal_done(struct proposal *proposal)
{
    struct group_request *request = CONTAINER_OF(proposal, struct group_request, proposal);

    request->done(request);
}

enum err group_submit(struct group *self, struct group_request *request)
{
    ASSERT(request->done != NULL);
    request->proposal.done = on_proposal_done;
    return mailbox_post(&self->requests, &request->mail, request->size);
}

enum err group_adopt(struct group *self, const struct group_connection *connection)
{
    struct adoption *adoption = malloc(sizeof *adoption);
    enum err err = ERR_NOMEM;

    ASSERT(connection->reply_size <= sizeof adoption->reply);
    if (adoption != NULL) {
        adoption->connection = *connection;
        adoption->connection.reply = adoption->reply;
        memcpy(adoption->reply, connection->reply, connection->reply_size);
        err = mailbox_post(&self->adoptions, &adoption->mail, sizeof *adoption);
    }
    if (err != ERR_OK) {
        (void)close(connection->fd); /* Nothing was said on it. */
        free(adoption);
    }
    return err;
}

void group_status(struct group *self, struct replica_status *ret_status)
{
    group_lock(self);
    *ret_status = self->status;
    group_unlock(self);
}

uint64_t group_leader_id(struct group *self)
{
    return atomic_load_explicit(&self->leader_id, memory_order_acquire);
}

uint64_t group_applied_index(struct group *self)
{
    return atomic_load_explicit(&self->applied_index, memory_order_acquire);
}

bool group_member_address(struct group *self, uint64_t id, char ret_address[MEMBER_ADDRESS_SIZE])
{
    const struct member *member;
    bool found = false;

    group_lock(self);
    member = membership_find(&self->status.membership, id);
    if (member != NULL) {
        memcpy(ret_address, member->address, MEMBER_ADDRESS_SIZE);
        found = true;
    }
    group_unlock(self);
    return found;
}

struct catalog *group_catalog(struct group *self)
{
    return replica_catalog(self->replica);
}

void group_stats(struct group *self, struct group_stats *ret_stats)
{
    *ret_stats = (struct group_stats){0};
    group_lock(self);
    ret_stats->records = self->status.records;
    if (self->journal_thread != NULL) {
        journal_thread_stats(self->journal_thread, &ret_stats->journal);
    }
    group_unlock(self);
}
