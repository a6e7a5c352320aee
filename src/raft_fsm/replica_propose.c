/*
 * Proposals: queued, packed into entries, answered when their entry is applied or lost.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"
#include "raft_fsm/work.h"

enum {
    /* Commands in one entry: what the state machine's topic ids allow. */
    COMMANDS_MAX = 4096,
    /* Entries in one go: one journal write, one message a peer. */
    ENTRIES_MAX = 16,
};

void replica_propose(struct replica *self, struct proposal *proposal)
{
    ASSERT(proposal->done != NULL);
    proposal->next = NULL;
    proposal->confirm_at_ms = replica_now_ms(self) + proposal->confirm_ms;
    *self->queue_tail = proposal;
    self->queue_tail = &proposal->next;
    self->queue_size += command_encoded_size(&proposal->command);
}

static void finish(struct proposal *proposal)
{
    proposal->next = NULL;
    proposal->done(proposal); /* R1; the proposal may be gone now. */
}

static void fail_list(struct proposal *list, enum err err)
{
    while (list != NULL) {
        struct proposal *next = list->next;

        list->result = (struct fsm_result){.err = err};
        finish(list);
        list = next;
    }
}

void replica_fail_queue(struct replica *self, enum err err)
{
    struct proposal *list = self->queue;

    self->queue = NULL;
    self->queue_tail = &self->queue;
    self->queue_size = 0;
    fail_list(list, err);
}

void replica_fail_pending(struct replica *self, enum err err)
{
    while (self->pending != NULL) {
        struct pending *pending = self->pending;

        self->pending = pending->next;
        fail_list(pending->proposals, err);
        free(pending);
    }
    self->pending_tail = &self->pending;
    self->pending_size = 0;
}

struct pending *replica_take_pending(struct replica *self, const struct entry *entry)
{
    struct pending *pending = self->pending;

    if (pending == NULL || pending->index > entry->index) {
        return NULL;
    }
    /* Applied in order, so nothing is passed over; and while we have pending entries we lead, so
     * that what comes back at their indexes is ours (a lost leadership empties the list first). */
    ASSERT(pending->index == entry->index);
    ASSERT(pending->term == entry->term);
    self->pending = pending->next;
    if (self->pending == NULL) {
        self->pending_tail = &self->pending;
    }
    ASSERT(self->pending_size >= pending->size);
    self->pending_size -= pending->size;
    return pending;
}

void replica_answer(void *arg, unsigned number, const struct fsm_result *result)
{
    struct pending *pending = arg;
    struct proposal *proposal = pending->proposals;

    (void)number; /* In order: the next proposal is the next number's. */
    ASSERT(proposal != NULL);
    pending->proposals = proposal->next;
    proposal->result = *result;
    if (result->err == ERR_OK && replica_hold(pending->replica, proposal)) {
        return;
    }
    finish(proposal); /* R2 */
}

void replica_answered(struct replica *self, struct pending *pending)
{
    (void)self;
    /* Every command had its result, unless applying failed: then the node stops, and what was
     * proposed has an unknown outcome. */
    fail_list(pending->proposals, ERR_SHUTDOWN);
    free(pending);
}

/* Takes proposals from the queue's front that fit into one entry; gives their number, and the size
 * of the payload. */
static unsigned choose(const struct replica *self, struct proposal *first, size_t *ret_size)
{
    size_t size = COMMAND_PAYLOAD_HEADER_SIZE;
    struct work work = {0};
    unsigned count = 0;

    for (struct proposal *p = first; p != NULL && count < COMMANDS_MAX; p = p->next) {
        size_t more = command_encoded_size(&p->command);

        work_add(&work, p->command.type,
                 p->command.type == COMMAND_PRODUCE ? p->command.produce.topic_id : 0, more);
        if (count > 0 &&
            (size + more > self->options.entry_size_max || work.sum > WORK_ENTRY_MAX)) {
            break;
        }
        size += more;
        count++;
    }
    ASSERT(count > 0 && size <= ENTRY_PAYLOAD_SIZE_MAX);
    *ret_size = size;
    return count;
}

/* One entry's worth of the queue: its block, and its pending with the proposals (which leave the
 * queue). NULL when memory is short: they stay in the queue. */
static struct pending *pack(struct replica *self, int64_t time_us, struct proposal_block *ret_block)
{
    size_t size;
    unsigned count = choose(self, self->queue, &size);
    struct pending *pending = calloc(1, sizeof *pending);
    struct block *block = entry_block_new((uint32_t)size);
    struct proposal **end;
    uint8_t *to;

    if (pending == NULL || block == NULL) {
        free(pending);
        block_unref(block);
        return NULL;
    }
    to = block->data + ENTRY_HEADER_SIZE;
    to += command_encode_header(time_us, to);
    end = &self->queue;
    for (unsigned i = 0; i < count; i++) {
        to += command_encode(&(*end)->command, to);
        end = &(*end)->next;
    }
    ASSERT(to == block->data + ENTRY_HEADER_SIZE + size);
    pending->proposals = self->queue;
    self->queue = *end;
    *end = NULL;
    if (self->queue == NULL) {
        self->queue_tail = &self->queue;
    }
    self->queue_size -= size - COMMAND_PAYLOAD_HEADER_SIZE;
    pending->size = entry_frame_size((uint32_t)size);
    *ret_block = (struct proposal_block){.block = block, .size = (uint32_t)size};
    return pending;
}

static void add_pending(struct replica *self, struct pending *pending, uint64_t index,
                        uint64_t term)
{
    pending->replica = self;
    pending->index = index;
    pending->term = term;
    pending->next = NULL;
    *self->pending_tail = pending;
    self->pending_tail = &pending->next;
    self->pending_size += pending->size;
}

/* Packs and proposes up to ENTRIES_MAX entries. ERR_AGAIN when nothing could be packed. */
static enum err propose_some(struct replica *self)
{
    struct proposal_block blocks[ENTRIES_MAX];
    struct pending *packed[ENTRIES_MAX];
    int64_t time_us = self->host.clock->wall_us(self->host.clock);
    size_t size = raft_driver_unapplied_size(self->driver);
    size_t held = raft_driver_memory(self->driver);
    unsigned count = 0;
    uint64_t first;
    enum err err;

    while (count < ENTRIES_MAX && self->queue != NULL && size < self->options.inflight_size_max &&
           held < self->options.entries_size_max) {
        packed[count] = pack(self, time_us, &blocks[count]);
        if (packed[count] == NULL) {
            break;
        }
        size += packed[count]->size;
        held += packed[count]->size;
        count++;
    }
    if (count == 0) {
        return ERR_AGAIN;
    }
    err = raft_driver_propose(self->driver, replica_now_ms(self), blocks, count, &first);
    for (unsigned i = 0; i < count; i++) {
        if (err == ERR_OK) {
            add_pending(self, packed[i], first + i, raft_driver_term(self->driver));
        } else {
            block_unref(blocks[i].block);
            fail_list(packed[i]->proposals, err == ERR_NOT_LEADER ? ERR_NOT_LEADER : ERR_SHUTDOWN);
            free(packed[i]);
        }
    }
    return err;
}

enum err replica_flush(struct replica *self, struct err_info *info)
{
    enum err err = ERR_OK;

    replica_apply_more(self);
    replica_refuse_growth(self);
    while (err == ERR_OK && self->queue != NULL && !replica_handing_over(self)) {
        if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
            replica_fail_queue(self, ERR_NOT_LEADER);
        } else if (raft_driver_unapplied_size(self->driver) >= self->options.inflight_size_max ||
                   replica_memory_full(self)) {
            break;
        } else {
            err = propose_some(self);
        }
    }
    if (err == ERR_NOT_LEADER) {
        replica_fail_queue(self, ERR_NOT_LEADER); /* A transfer is under way. */
        err = ERR_OK;
    } else if (err == ERR_AGAIN) {
        err = ERR_OK; /* Memory is short; later. */
    }
    return err == ERR_OK ? ERR_OK : replica_driver_failed(self, err, info);
}

bool replica_full(const struct replica *self)
{
    return replica_handing_over(self) || replica_memory_full(self) ||
           raft_driver_unapplied_size(self->driver) + self->queue_size >=
               self->options.inflight_size_max;
}
