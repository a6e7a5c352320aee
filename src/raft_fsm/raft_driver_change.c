/*
 * Who the members are and who leads: changes of the membership, transfers of leadership.
 */
#include "raft_fsm/raft_driver_internal.h"

#include <string.h>

#include "base/assert.h"

/* After so many election timeouts a peer counts as silent. */
enum { SILENT_ELECTIONS = 4 };

void raft_driver_membership(const struct raft_driver *self, struct membership *ret_membership)
{
    const struct raft_configuration *from = &self->core.configuration;

    ret_membership->count = 0;
    for (unsigned i = 0; i < from->n; i++) {
        enum err err = membership_add(ret_membership, from->servers[i].id, from->servers[i].address,
                                      (enum member_role)from->servers[i].role);

        ASSERT(err == ERR_OK); /* It was verified when it came in. */
    }
}

bool raft_driver_changing(const struct raft_driver *self)
{
    return self->core.configuration_uncommitted_index != 0;
}

bool raft_driver_match_index(const struct raft_driver *self, uint64_t id, uint64_t *ret_index)
{
    raft_index index;

    if (raft_match_index(&self->core, id, &index) != 0) {
        return false;
    }
    *ret_index = index;
    return true;
}

/* What a voter is known to have on disk; 0 when nothing is known. */
static uint64_t durable_on(const struct raft_driver *self, uint64_t id)
{
    raft_index index;

    ASSERT(self->core.state == RAFT_LEADER);
    if (id == self->options.id) {
        return self->stored;
    }
    return raft_match_index(&self->core, id, &index) == 0 ? index : 0;
}

unsigned raft_driver_durable_voters(const struct raft_driver *self, uint64_t index,
                                    unsigned *ret_voters)
{
    const struct raft_configuration *members = &self->core.configuration;
    unsigned durable = 0;
    unsigned voters = 0;

    for (unsigned i = 0; i < members->n; i++) {
        if (members->servers[i].role == RAFT_VOTER) {
            voters++;
            durable += durable_on(self, members->servers[i].id) >= index ? 1 : 0;
        }
    }
    ASSERT(durable <= voters);
    *ret_voters = voters;
    return durable;
}

uint64_t raft_driver_durable_index(const struct raft_driver *self)
{
    const struct raft_configuration *members = &self->core.configuration;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < members->n; i++) {
        uint64_t index = members->servers[i].role == RAFT_VOTER
                             ? durable_on(self, members->servers[i].id)
                             : UINT64_MAX;

        least = index < least ? index : least;
    }
    return least;
}

/* ---- changes ---- */

static bool same_member(const struct member *a, const struct member *b)
{
    return a->id == b->id && a->role == b->role && strcmp(a->address, b->address) == 0;
}

/* Whether `larger` is `smaller` with one more member, all others the same and in the same order. */
static bool one_more(const struct membership *smaller, const struct membership *larger)
{
    unsigned at = 0;

    while (at < smaller->count && same_member(&smaller->members[at], &larger->members[at])) {
        at++;
    }
    for (; at < smaller->count; at++) {
        if (!same_member(&smaller->members[at], &larger->members[at + 1])) {
            return false;
        }
    }
    return true;
}

/* Whether they differ in one member. Order counts: the core finds a member's progress by its place
 * when their number stays the same. */
static bool one_differs(const struct membership *a, const struct membership *b)
{
    unsigned different = 0;

    if (a->count + 1 == b->count) {
        return one_more(a, b);
    }
    if (b->count + 1 == a->count) {
        return one_more(b, a);
    }
    if (a->count != b->count) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        if (a->members[i].id != b->members[i].id) {
            return false;
        }
        different += same_member(&a->members[i], &b->members[i]) ? 0 : 1;
    }
    return different == 1;
}

/* What can never be done, however long one waits. */
static enum err check_possible(const struct raft_driver *self, const struct membership *membership,
                               struct err_info *info)
{
    struct membership present;
    const struct member *ourselves = membership_find(membership, self->options.id);
    unsigned voters = membership_voters(membership);

    raft_driver_membership(self, &present);
    if (!one_differs(&present, membership)) {
        return err_set(info, ERR_INVALID, "the new members do not differ in exactly one");
    }
    if (!raft_driver_rule(self, 9)) {
        return voters > 0 ? ERR_OK : err_set(info, ERR_INVALID, "no voter is left");
    }
    /* R9: a leader that removes itself steps down in the middle of it, and with two voters nobody
     * can be elected. A cluster of two that shrinks to one can end without any leader, and one
     * voter that fails leaves nothing; so below three it only grows. */
    if (ourselves == NULL || ourselves->role != MEMBER_VOTER) {
        return err_set(info, ERR_INVALID,
                       "member %llu leads: transfer leadership before it is removed",
                       (unsigned long long)self->options.id);
    }
    if (voters < 3 && voters < membership_voters(&present)) {
        return err_set(info, ERR_INVALID, "%u voters would be left, fewer than three", voters);
    }
    return ERR_OK;
}

/* When a leader heard a peer last; 0: not yet. */
static uint64_t heard_ms(const struct raft_driver *self, uint64_t id)
{
    for (unsigned i = 0; i < MEMBERSHIP_MAX; i++) {
        if (self->peers[i].id == id) {
            return self->peers[i].heard_ms;
        }
    }
    return 0;
}

bool raft_driver_heard(const struct raft_driver *self, uint64_t id)
{
    uint64_t last_ms = heard_ms(self, id);

    return last_ms != 0 &&
           self->now_ms - last_ms <= (uint64_t)SILENT_ELECTIONS * self->options.election_ms;
}

/* Whether a leader has not heard of a peer for so long that it waits for it no more. */
static bool is_silent(const struct raft_driver *self, uint64_t id)
{
    return !raft_driver_heard(self, id) &&
           self->now_ms - self->led_ms > (uint64_t)SILENT_ELECTIONS * self->options.election_ms;
}

/* What must wait. */
static enum err check_time(const struct raft_driver *self, struct err_info *info)
{
    const struct raft_configuration *present = &self->core.configuration;

    /* R2: one at a time. */
    if (self->core.configuration_uncommitted_index != 0) {
        return err_set(info, ERR_AGAIN, "an earlier change is not committed yet");
    }
    /* R14: two leaders that each begin a change from the same members, neither of them committed,
     * can have majorities with no member in common. A leader that has committed an entry of its own
     * term knows that there is no such other. */
    if (raft_driver_rule(self, 14) &&
        raft_driver_term_of(self, self->commit) != self->core.current_term) {
        return err_set(info, ERR_AGAIN, "nothing is committed in this leader's term yet");
    }
    /* R8: a voter that has not got the last change would not vote by it, or not for all. One that
     * is silent may be gone for good, and could not be replaced if it were waited for: it is the
     * committed change's majority that safety rests on, and R7 lets the others vote. */
    for (unsigned i = 0; raft_driver_rule(self, 8) && i < present->n; i++) {
        raft_index match;

        if (present->servers[i].role != RAFT_VOTER || (present->servers[i].id != self->options.id &&
                                                       is_silent(self, present->servers[i].id))) {
            continue;
        }
        if (raft_match_index(&self->core, present->servers[i].id, &match) != 0 ||
            match < self->core.configuration_committed_index) {
            return err_set(info, ERR_AGAIN, "voter %llu has not got the last change yet",
                           (unsigned long long)present->servers[i].id);
        }
    }
    return ERR_OK;
}

static enum err submit_change(struct raft_driver *self, const struct membership *membership,
                              struct err_info *info)
{
    size_t size = membership_encoded_size(membership);
    struct block *block = entry_block_new((uint32_t)size);
    struct membership verified;
    struct err_info why;
    enum err err;

    if (block == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a change");
    }
    membership_encode(membership, block->data + ENTRY_HEADER_SIZE);
    if (membership_decode(block->data + ENTRY_HEADER_SIZE, size, &verified, &why) != ERR_OK) {
        block_unref(block);
        return err_set(info, ERR_INVALID, "the new members: %s", why.text);
    }
    err = raft_driver_submit(self, block, (uint32_t)size, ENTRY_CHANGE);
    if (err != ERR_OK) {
        block_unref(block);
        return err_set(info, err, "the core refuses the change: %s", err_text(err));
    }
    return raft_driver_settle(self);
}

enum err raft_driver_change(struct raft_driver *self, uint64_t now_ms,
                            const struct membership *membership, struct err_info *info)
{
    enum err err;

    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    if (self->core.state != RAFT_LEADER || raft_driver_transferring(self)) {
        return err_set(info, ERR_NOT_LEADER, "not the leader");
    }
    self->now_ms = now_ms;
    if (membership->count == 0 || membership->count > MEMBERSHIP_MAX) {
        return err_set(info, ERR_INVALID, "%u members", membership->count);
    }
    err = check_possible(self, membership, info);
    if (err == ERR_OK) {
        err = check_time(self, info);
    }
    if (err == ERR_OK) {
        err = submit_change(self, membership, info);
    }
    raft_driver_tell(self);
    return err;
}

/* ---- leadership ---- */

bool raft_driver_transferring(const struct raft_driver *self)
{
    return raft_transferee(&self->core) != 0;
}

/* The other voter with the highest match index; 0 when there is none. */
static uint64_t best_voter(const struct raft_driver *self)
{
    const struct raft_configuration *members = &self->core.configuration;
    raft_index best_match = 0;
    uint64_t best = 0;

    for (unsigned i = 0; i < members->n; i++) {
        raft_index match;

        if (members->servers[i].role != RAFT_VOTER || members->servers[i].id == self->options.id ||
            raft_match_index(&self->core, members->servers[i].id, &match) != 0) {
            continue;
        }
        if (best == 0 || match > best_match) {
            best = members->servers[i].id;
            best_match = match;
        }
    }
    return best;
}

enum err raft_driver_transfer(struct raft_driver *self, uint64_t now_ms, uint64_t id)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    raft_index match;
    enum err err;

    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    if (self->core.state != RAFT_LEADER || raft_driver_transferring(self)) {
        return ERR_NOT_LEADER;
    }
    id = id == 0 ? best_voter(self) : id;
    if (id == 0 || raft_driver_member_role(self, id) < 0) {
        return ERR_NOT_FOUND;
    }
    if (id == self->options.id || raft_driver_member_role(self, id) != RAFT_VOTER) {
        return ERR_INVALID;
    }
    /* The core tells the other to take over once, at its next answer, even if it lags; it would
     * ignore that. So it must have everything beforehand. */
    if (raft_match_index(&self->core, id, &match) != 0 || match != raft_driver_end(self)) {
        return ERR_AGAIN;
    }
    self->now_ms = now_ms;
    event.transfer.server_id = id;
    err = raft_driver_run(self, &event);
    raft_driver_tell(self);
    return err;
}
