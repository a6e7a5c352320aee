/*
 * What a replica with holes knows of the others: whom to ask, and who could lead in its place.
 */
#include "base/assert.h"
#include "raft_fsm/replica_internal.h"

enum {
    RESIGN_AGAIN_MS = 1000, /* nobody could take over */
    RESIGNED_MS = 10000,    /* it was tried: proposals are refused meanwhile */
    HEARD_LATELY_MS = 2000,
};

/* The peer's slot; one that is free or was not heard of for longest when it has none. */
static struct fill_peer *find(struct replica *self, uint64_t id)
{
    struct fill_peer *items = self->fill.peers.items;
    struct fill_peer *oldest = &items[0];

    ASSERT(id != 0);
    for (size_t i = 0; i < MEMBERSHIP_MAX; i++) {
        if (items[i].id == id) {
            return &items[i];
        }
        if (items[i].heard_ms < oldest->heard_ms) {
            oldest = &items[i];
        }
    }
    for (size_t i = 0; i < MEMBERSHIP_MAX; i++) {
        if (items[i].id == 0) {
            oldest = &items[i];
            break;
        }
    }
    *oldest = (struct fill_peer){.id = id};
    return oldest;
}

void replica_note_peer(struct replica *self, const struct message *append_result)
{
    struct fill_peer *peer;

    ASSERT(append_result->type == MESSAGE_APPEND_RESULT);
    if (append_result->from == 0) {
        return;
    }
    peer = find(self, append_result->from);
    peer->holes = append_result->append_result.holes;
    peer->heard_ms = replica_now_ms(self);
}

/* ---- sources ---- */

void replica_peer_lacks(struct replica *self, uint64_t id)
{
    find(self, id)->lacks = true;
}

void replica_peer_away(struct replica *self, uint64_t id, uint64_t for_ms)
{
    find(self, id)->away_until_ms = replica_now_ms(self) + for_ms;
}

void replica_peers_new_hole(struct replica *self)
{
    for (size_t i = 0; i < MEMBERSHIP_MAX; i++) {
        self->fill.peers.items[i].lacks = false;
    }
}

static bool may_be_asked(struct replica *self, const struct member *member)
{
    const struct fill_peer *peer;

    if (member->id == self->options.id) {
        return false;
    }
    peer = find(self, member->id);
    return !peer->lacks && peer->away_until_ms <= replica_now_ms(self);
}

uint64_t replica_choose_peer(struct replica *self)
{
    uint64_t leader = raft_driver_leader(self->driver);
    struct membership members;
    uint64_t last = 0;

    raft_driver_membership(self->driver, &members);
    for (unsigned i = 0; i < members.count; i++) {
        unsigned at = (self->fill.peers.turn + i) % members.count;
        uint64_t id = members.members[at].id;

        if (!may_be_asked(self, &members.members[at])) {
            continue;
        }
        if (id == leader) {
            last = id; /* It has enough to do. */
            continue;
        }
        self->fill.peers.turn = at + 1;
        return id;
    }
    return last;
}

uint64_t replica_peers_back_ms(struct replica *self)
{
    struct membership members;
    uint64_t back_ms = UINT64_MAX;

    raft_driver_membership(self->driver, &members);
    for (unsigned i = 0; i < members.count; i++) {
        if (members.members[i].id != self->options.id) {
            const struct fill_peer *peer = find(self, members.members[i].id);

            back_ms = !peer->lacks && peer->away_until_ms < back_ms ? peer->away_until_ms : back_ms;
        }
    }
    return back_ms;
}

/* ---- leading ---- */

static bool leads_with_holes(const struct replica *self)
{
    struct fsm_holes holes;

    fsm_holes(self->fsm, &holes);
    return holes.holes > 0 && raft_driver_role(self->driver) == RAFT_ROLE_LEADER;
}

uint64_t replica_resign_deadline_ms(const struct replica *self)
{
    return leads_with_holes(self) ? self->fill.resign_at_ms : UINT64_MAX;
}

enum err replica_resign_with_holes(struct replica *self, struct err_info *info)
{
    uint64_t now_ms = replica_now_ms(self);
    struct membership members;

    if (now_ms < replica_resign_deadline_ms(self)) {
        return ERR_OK;
    }
    self->fill.resign_at_ms = now_ms + RESIGN_AGAIN_MS;
    if (raft_driver_transferring(self->driver)) {
        return ERR_OK;
    }
    raft_driver_membership(self->driver, &members);
    for (unsigned i = 0; i < members.count; i++) {
        const struct member *member = &members.members[i];
        const struct fill_peer *peer;
        enum err err;

        if (member->id == self->options.id || member->role != MEMBER_VOTER) {
            continue;
        }
        peer = find(self, member->id);
        if (peer->holes || peer->heard_ms == 0 || peer->heard_ms + HEARD_LATELY_MS < now_ms) {
            continue;
        }
        err = raft_driver_transfer(self->driver, now_ms, member->id);
        if (err == ERR_OK) {
            diag_event(self->host.diag, DIAG_INFO, "raft_fsm", "resigned_with_holes", "to=%llu",
                       (unsigned long long)member->id);
            self->fill.resign_at_ms = now_ms + RESIGNED_MS;
            return ERR_OK;
        }
        if (err != ERR_AGAIN && err != ERR_NOT_LEADER && err != ERR_INVALID &&
            err != ERR_NOT_FOUND) {
            return replica_driver_failed(self, err, info);
        }
    }
    return ERR_OK;
}
