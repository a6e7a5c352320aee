/*
 * Rounds of reads: a leader that wants to answer for everything that was ever acknowledged asks the
 * voters whether they still follow its term.
 *
 * Happy path: read_begin takes the commit index and sends CONFIRM to the voters; their results come
 * back; with a majority of them the round is confirmed. Failure modes: messages are lost (they are
 * sent again after a heartbeat); we lead no more, or nobody answers: the round is never confirmed.
 *
 * Why it is right: a leader of a later term needs a majority of voters that have gone to its term,
 * for good, before it leads. A voter that says "round n, term t" was in term t after round n began.
 * Two majorities share a voter; so no later leader had been elected when the round began, and only
 * we could commit until then. Of memberships that follow one another majorities overlap, too; that
 * a leader changes nothing before it has committed in its own term (R14) makes it so for all.
 */
#include "raft_fsm/raft_driver_internal.h"

#include "base/assert.h"

bool raft_driver_read_ready(const struct raft_driver *self)
{
    if (self->core.state != RAFT_LEADER) {
        return false;
    }
    /* R20: what earlier leaders committed is in our log, but until an entry of our own term is
     * committed behind it our commit index may not have come there. */
    return raft_driver_term_of(self, self->applied) == self->core.current_term ||
           !raft_driver_rule(self, 20);
}

void raft_driver_read_reset(struct raft_driver *self)
{
    ASSERT(self->core.state == RAFT_LEADER);
    self->first_round = self->round + 1;
    self->round_ms = 0;
}

static bool asks(const struct raft_driver *self, unsigned at)
{
    const struct raft_server *server = &self->core.configuration.servers[at];

    return server->role == RAFT_VOTER && server->id != self->options.id;
}

void raft_driver_send_confirms(struct raft_driver *self)
{
    struct message message = {.type = MESSAGE_CONFIRM,
                              .from = self->options.id,
                              .term = self->core.current_term,
                              .confirm.round = self->round};

    self->round_ms = 0;
    if (self->core.state != RAFT_LEADER || raft_driver_read_confirmed(self) >= self->round) {
        return;
    }
    for (unsigned i = 0; i < self->core.configuration.n; i++) {
        message.to = self->core.configuration.servers[i].id;
        if (asks(self, i) && raft_driver_peer(self, message.to)->confirmed < self->round) {
            self->host.send(self->host.arg, &message);
        }
    }
    self->round_ms = self->now_ms + self->options.heartbeat_ms;
}

enum err raft_driver_read_begin(struct raft_driver *self, uint64_t now_ms, uint64_t *ret_round,
                                uint64_t *ret_index)
{
    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    if (self->core.state != RAFT_LEADER) {
        return ERR_NOT_LEADER;
    }
    if (!raft_driver_read_ready(self)) {
        return ERR_AGAIN;
    }
    self->now_ms = now_ms;
    self->round++;
    ASSERT(self->round >= self->first_round);
    *ret_round = self->round;
    *ret_index = self->commit;
    raft_driver_send_confirms(self);
    return ERR_OK;
}

/* The last round that so many voters have answered that it is confirmed. */
static uint64_t majority_round(const struct raft_driver *self)
{
    unsigned needed = raft_driver_voters(self) / 2 + 1;
    uint64_t best = 0;

    for (unsigned i = 0; i < MEMBERSHIP_MAX + 1; i++) {
        uint64_t round = i == MEMBERSHIP_MAX ? self->round : self->peers[i].confirmed;
        unsigned count =
            raft_driver_member_role(self, self->options.id) == RAFT_VOTER ? 1 : 0; /* Ourselves. */

        for (unsigned k = 0; k < MEMBERSHIP_MAX; k++) {
            const struct raft_driver_peer *peer = &self->peers[k];

            count += peer->id != 0 && peer->confirmed >= round &&
                             raft_driver_member_role(self, peer->id) == RAFT_VOTER
                         ? 1
                         : 0;
        }
        if (count >= needed && round > best) {
            best = round;
        }
    }
    return best;
}

uint64_t raft_driver_read_confirmed(const struct raft_driver *self)
{
    uint64_t round;

    if (self->core.state != RAFT_LEADER) {
        return 0;
    }
    /* R18: to be the leader, as far as one knows, is not enough. */
    round = raft_driver_rule(self, 18) ? majority_round(self) : self->round;
    ASSERT(round <= self->round);
    return round >= self->first_round ? round : 0;
}

void raft_driver_receive_confirm(struct raft_driver *self, const struct message *message)
{
    struct message result = {.type = MESSAGE_CONFIRM_RESULT,
                             .from = self->options.id,
                             .to = message->from,
                             .term = self->core.current_term,
                             .confirm.round = message->confirm.round};

    /* Those of other terms are not told: an older leader hears of it by its next heartbeat, and
     * a newer one's next message brings us into its term. */
    if (message->term == self->core.current_term && self->core.state != RAFT_LEADER) {
        ASSERT(self->term == self->core.current_term); /* D1 */
        self->host.send(self->host.arg, &result);
    }
}

void raft_driver_receive_confirm_result(struct raft_driver *self, const struct message *message)
{
    struct raft_driver_peer *peer;
    uint64_t round = message->confirm.round;

    if (self->core.state != RAFT_LEADER || message->term != self->core.current_term ||
        raft_driver_member_role(self, message->from) < 0 || round > self->round) {
        return;
    }
    /* R19: an answer says nothing of the time after it; it counts for its own round and those
     * before it, however late it comes. */
    round = raft_driver_rule(self, 19) ? round : self->round;
    peer = raft_driver_peer(self, message->from);
    if (round > peer->confirmed) {
        peer->confirmed = round;
    }
    if (raft_driver_read_confirmed(self) >= self->round) {
        self->round_ms = 0;
    }
}
