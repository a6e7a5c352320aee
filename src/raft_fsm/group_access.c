/*
 * The group as other threads see it: its mailboxes, what it published last, and which connection of
 * a peer counts. Nothing here touches the replica.
 */
#include <stdlib.h>
#include <string.h>

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

bool group_is_current(struct group *self, uint64_t peer_id, uint64_t generation)
{
    bool current = false;

    ASSERT(peer_id != 0 && generation != 0);
    group_lock(self);
    for (size_t i = 0; i < sizeof self->generations / sizeof self->generations[0]; i++) {
        if (self->generations[i].id == peer_id) {
            current = self->generations[i].generation == generation;
        }
    }
    group_unlock(self);
    return current;
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

static void on_read_done(struct replica_read *base)
{
    struct group_read *read = CONTAINER_OF(base, struct group_read, read);

    read->done(read);
}

enum err group_read(struct group *self, struct group_read *read)
{
    ASSERT(read->done != NULL);
    read->read.done = on_read_done;
    return mailbox_post(&self->reads, &read->mail, sizeof *read);
}

uint64_t group_peer_connected(struct group *self, uint64_t peer_id)
{
    uint64_t generation;
    size_t slot = 0;

    ASSERT(peer_id != 0);
    group_lock(self);
    generation = ++self->last_generation;
    /* The peer's slot, or the one that was not used for longest. */
    for (size_t i = 0; i < sizeof self->generations / sizeof self->generations[0]; i++) {
        if (self->generations[i].id == peer_id) {
            slot = i;
            break;
        }
        if (self->generations[i].generation < self->generations[slot].generation) {
            slot = i;
        }
    }
    self->generations[slot].id = peer_id;
    self->generations[slot].generation = generation;
    group_unlock(self);
    return generation;
}

enum err group_deliver(struct group *self, uint64_t peer_id, uint64_t generation,
                       const struct frame *frame, struct err_info *info)
{
    struct incoming *incoming;
    enum err err;

    /* The newer one may have ended: were this one only ignored, nothing would be heard from the
     * peer any more. Told, it dials again. */
    if (!group_is_current(self, peer_id, generation)) {
        return err_set(info, ERR_FENCED, "another connection of node %llu replaced this one",
                       (unsigned long long)peer_id);
    }
    incoming = calloc(1, sizeof *incoming);
    if (incoming == NULL) {
        return ERR_BUSY;
    }
    err = message_decode(frame->header, frame->header_size, frame->block, frame->body,
                         frame->body_size, &incoming->message, info);
    if (err != ERR_OK) {
        free(incoming);
        return err;
    }
    if (incoming->message.from != peer_id) {
        err = err_set(info, ERR_PROTOCOL, "node %llu sent a message in the name of node %llu",
                      (unsigned long long)peer_id, (unsigned long long)incoming->message.from);
    } else {
        incoming->generation = generation;
        err = mailbox_post(&self->messages, &incoming->mail, frame->body_size + sizeof *incoming);
    }
    if (err != ERR_OK) {
        message_fini(&incoming->message);
        free(incoming);
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
