/*
 * What a replica does when disks fill up.
 *
 * A leader takes what grows data only while a majority of the voters, itself among them, has room;
 * every answer of a follower says whether it has. Short of room itself, it hands over to one that
 * is not, and says NOT_LEADER meanwhile, so that requests wait for the next one; where nobody can
 * take over (soon enough) it says NOSPACE. A follower takes entries while it is merely short: the
 * rest of the reserve is for what is under way. When its disk is nearly full it cuts what grows
 * data off from what comes, as if it had not been sent: it hears its leader, lags, and is given the
 * rest again and again, until there is room.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum { HANDOVER_MS = 3000 };

/* Cursors move in place, and consumers go on while a disk is short; settings may be what makes
 * room; which disk a node has must be known whatever the room. */
static bool grows(enum command_type type)
{
    switch (type) {
    case COMMAND_TOPIC_DELETE:
    case COMMAND_TOPIC_ALTER:
    case COMMAND_CURSOR_SET:
    case COMMAND_CURSOR_DELETE:
    case COMMAND_NODE_BIND:
    case COMMAND_TOPIC_TRIM:
    case COMMAND_AGE:
    case COMMAND_COMPACT:
        return false;
    case COMMAND_PRODUCE:
    case COMMAND_TOPIC_CREATE:
    case COMMAND_INIT_PRODUCER:
    case COMMAND_RAISE_EPOCH:
        break;
    }
    return true;
}

bool replica_is_short(const struct replica *self)
{
    return self->room.state != ROOM_PLENTY;
}

/* ---- the others ---- */

static bool peer_is_short(const struct replica *self, uint64_t id)
{
    for (unsigned i = 0; i < MEMBERSHIP_MAX; i++) {
        if (self->short_peers[i] == id) {
            return true;
        }
    }
    return false;
}

void replica_note_peer_room(struct replica *self, uint64_t id, bool no_room)
{
    ASSERT(id != 0);
    for (unsigned i = 0; i < MEMBERSHIP_MAX; i++) {
        if (self->short_peers[i] == id) {
            self->short_peers[i] = no_room ? id : 0;
            return;
        }
    }
    for (unsigned i = 0; i < MEMBERSHIP_MAX && no_room; i++) {
        if (self->short_peers[i] == 0) {
            self->short_peers[i] = id;
            return;
        }
    }
}

/* Whether a majority of the voters has room; and the voter with room, another one, that has the
 * most of our log (0: none). */
static bool majority_has_room(const struct replica *self, uint64_t *ret_heir)
{
    struct membership members;
    uint64_t best_index = 0;
    unsigned voters = 0;
    unsigned with_room = 0;

    *ret_heir = 0;
    raft_driver_membership(self->driver, &members);
    for (unsigned i = 0; i < members.count; i++) {
        uint64_t id = members.members[i].id;
        uint64_t index;

        if (members.members[i].role != MEMBER_VOTER) {
            continue;
        }
        voters++;
        if (id == self->options.id ? replica_is_short(self) : peer_is_short(self, id)) {
            continue;
        }
        with_room++;
        if (id != self->options.id && raft_driver_match_index(self->driver, id, &index) &&
            (*ret_heir == 0 || index > best_index)) {
            *ret_heir = id;
            best_index = index;
        }
    }
    return with_room > voters / 2;
}

/* ---- a leader ---- */

/* ERR_OK, or why nothing that grows data can be taken now. */
static enum err refusal(const struct replica *self)
{
    uint64_t heir;

    if (self->room.reserve == 0 || raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        return ERR_OK;
    }
    if (!majority_has_room(self, &heir)) {
        return ERR_NOSPACE;
    }
    if (!replica_is_short(self)) {
        return ERR_OK;
    }
    return heir != 0 && replica_now_ms(self) < self->short_since_ms + HANDOVER_MS ? ERR_NOT_LEADER
                                                                                  : ERR_NOSPACE;
}

void replica_refuse_growth(struct replica *self)
{
    enum err err = self->queue != NULL ? refusal(self) : ERR_OK;
    struct proposal *list = self->queue;

    if (err == ERR_OK) {
        return;
    }
    self->queue = NULL;
    self->queue_tail = &self->queue;
    self->queue_size = 0;
    while (list != NULL) {
        struct proposal *proposal = list;

        list = list->next;
        proposal->next = NULL;
        if (grows(proposal->command.type)) {
            proposal->result = (struct fsm_result){.err = err};
            proposal->done(proposal); /* R1 */
        } else {
            *self->queue_tail = proposal;
            self->queue_tail = &proposal->next;
            self->queue_size += command_encoded_size(&proposal->command);
        }
    }
}

static enum err hand_over(struct replica *self)
{
    uint64_t heir;
    enum err err;

    if (!replica_is_short(self) || raft_driver_role(self->driver) != RAFT_ROLE_LEADER ||
        raft_driver_transferring(self->driver) || !majority_has_room(self, &heir) || heir == 0) {
        return ERR_OK;
    }
    if (self->pending != NULL) {
        return ERR_OK; /* Its outcome would be unknown; and soon there is none, for none is taken.
                        */
    }
    err = raft_driver_transfer(self->driver, replica_now_ms(self), heir);
    return err == ERR_AGAIN || err == ERR_NOT_FOUND || err == ERR_INVALID || err == ERR_NOT_LEADER
               ? ERR_OK /* At the next tick. */
               : err;
}

enum err replica_room_tick(struct replica *self)
{
    uint64_t now_ms = replica_now_ms(self);
    bool was_short = replica_is_short(self);

    if (self->room.reserve == 0 || now_ms < self->room_at_ms) {
        return ERR_OK;
    }
    self->room_at_ms = now_ms + ROOM_CHECK_MS;
    if (room_check(&self->room)) {
        self->changed = true;
    }
    if (replica_is_short(self) && !was_short) {
        self->short_since_ms = now_ms;
    }
    return hand_over(self);
}

void replica_room_wrote(struct replica *self, uint64_t size)
{
    if (room_wrote(&self->room, size)) {
        self->room_at_ms = 0; /* At the next tick, which is due now. */
    }
}

/* ---- a follower ---- */

static bool entry_grows(const struct entry *entry)
{
    struct command_reader reader;
    struct command_view command;
    enum err err;

    if (entry->type != ENTRY_COMMAND) {
        return false;
    }
    err = command_reader_begin(&reader, entry_payload(entry), entry->size, NULL);
    while (err == ERR_OK) {
        err = command_reader_next(&reader, &command, NULL);
        if (err == ERR_OK && grows(command.type)) {
            return true;
        }
    }
    return err != ERR_AGAIN; /* What cannot be read is told where it is applied. */
}

bool replica_cut_growth(const struct replica *self, const struct message *message,
                        struct message *ret_rest)
{
    unsigned count = 0;

    if (self->room.state != ROOM_CRITICAL) {
        return true;
    }
    if (message->type == MESSAGE_SNAPSHOT || message->type == MESSAGE_FETCH_RESULT) {
        return false; /* As if it were lost: it comes again. */
    }
    if (message->type == MESSAGE_APPEND) {
        while (count < message->append.count && !entry_grows(&message->append.entries[count])) {
            count++;
        }
        ret_rest->append.count = count;
        ret_rest->append.entries = count > 0 ? message->append.entries : NULL;
    }
    return true;
}
