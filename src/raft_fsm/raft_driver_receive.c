/*
 * What peers say, and the rules on it. The core believes every message at every time; here those
 * that it would misunderstand are dropped, trimmed, split or answered without it.
 */
#include "raft_fsm/raft_driver_internal.h"

#include <string.h>

#include "base/assert.h"

/* The core only compares and copies it; we route by id. */
static const char peer_address[] = "peer";

/* An AppendEntries, or what is left of one. */
struct append_view {
    const struct message *message;
    uint64_t prev_index;
    uint64_t prev_term;
    const struct entry *entries;
    unsigned count;
};

/* "event=dropped": something that a peer that keeps the rules does not say. */
static void say_dropped(const struct raft_driver *self, const struct message *message,
                        const char *why)
{
    diag_event(self->options.diag, DIAG_ERROR, "driver", "dropped",
               "from=%llu type=%u term=%llu why=%s", (unsigned long long)message->from,
               (unsigned)message->type, (unsigned long long)message->term, why);
}

static enum err run_message(struct raft_driver *self, const struct message *message,
                            struct raft_message *to)
{
    struct raft_event event = {.type = RAFT_RECEIVE};

    to->server_id = message->from;
    to->server_address = peer_address;
    event.receive.message = to;
    return raft_driver_run(self, &event);
}

/* ---- AppendEntries ---- */

/* Steps the entries [begin, end) of view, with what precedes them. */
static enum err run_part(struct raft_driver *self, const struct append_view *view, unsigned begin,
                         unsigned end)
{
    struct raft_message to = {.type = RAFT_APPEND_ENTRIES};
    unsigned count = end - begin;

    ASSERT(begin <= end && end <= view->count);
    ASSERT(count <= self->scratch_max);
    to.append_entries.term = view->message->term;
    to.append_entries.prev_log_index = view->prev_index + begin;
    to.append_entries.prev_log_term = begin > 0 ? view->entries[begin - 1].term : view->prev_term;
    to.append_entries.leader_commit = view->message->append.commit;
    to.append_entries.entries = self->core_entries;
    to.append_entries.n_entries = count;
    if (count > 0) {
        void *batch = raft_malloc(1);

        if (batch == NULL) {
            return raft_driver_fail(self, ERR_NOMEM);
        }
        raft_driver_fill(self->core_entries, &view->entries[begin], count, batch);
    }
    self->event_entries = count > 0 ? &view->entries[begin] : NULL;
    self->event_count = count;
    return run_message(self, view->message, &to);
}

/*
 * R2: the core keeps one uncommitted change; a second one makes it forget the first, and fall back
 * to the one before that when the second is truncated. A leader begins a second change only when
 * the first is committed, so a message that holds a second says that the first is: before it is
 * stepped, we step an empty one with the same commit index and, if the core has still not heard of
 * it, tell it.
 */
static enum err confirm_earlier_change(struct raft_driver *self, const struct append_view *view,
                                       unsigned at)
{
    uint64_t prev_index = view->prev_index + at;
    uint64_t prev_term = at > 0 ? view->entries[at - 1].term : view->prev_term;
    uint64_t uncommitted = self->core.configuration_uncommitted_index;
    const struct entry *entry;
    enum err err;

    if (!raft_driver_rule(self, 2) || uncommitted == 0 || uncommitted > prev_index) {
        return ERR_OK;
    }
    err = run_part(self, view, at, at);
    if (err != ERR_OK || self->rejected ||
        self->core.configuration_uncommitted_index != uncommitted) {
        return err;
    }
    entry = raft_driver_log_get(&self->log, uncommitted);
    if (entry == NULL || prev_index > raft_driver_end(self) ||
        raft_driver_term_of(self, prev_index) != prev_term) {
        return ERR_OK;
    }
    return raft_driver_confirm(self, uncommitted, entry_payload(entry), entry->size);
}

/*
 * R1: the core takes the index of a message's first new entry for that of every change in it. So a
 * change is always the first entry of what it is given.
 */
static enum err run_split(struct raft_driver *self, const struct append_view *view)
{
    unsigned begin = 0;
    enum err err = ERR_OK;

    self->rejected = false;
    do {
        unsigned end = begin;

        if (begin < view->count && view->entries[begin].type == ENTRY_CHANGE) {
            err = confirm_earlier_change(self, view, begin);
            if (err != ERR_OK || self->rejected) {
                return err;
            }
            end++;
        }
        while (end < view->count &&
               (view->entries[end].type != ENTRY_CHANGE || !raft_driver_rule(self, 1))) {
            end++;
        }
        err = run_part(self, view, begin, end);
        if (err != ERR_OK || self->rejected) {
            return err; /* What follows would only be rejected too. */
        }
        begin = end;
    } while (begin < view->count);
    return err;
}

/* Whether an entry that we know as committed is the one of the same index that a leader sends. */
static bool same_entry(const struct raft_driver *self, const struct entry *theirs)
{
    const struct entry *ours = raft_driver_log_get(&self->log, theirs->index);

    return ours == NULL || memcmp(ours->frame, theirs->frame, ENTRY_HEADER_SIZE) == 0;
}

/*
 * R16: what reaches below our commit index is cut to begin there. A leader of our term or a later
 * one holds all that we know as committed, so nothing is lost by it; the core, though, takes
 * entries that it has compacted for new ones when prev_index is 0 and rewrites what is applied,
 * lets its commit index fall, and rejects what lies below its log.
 */
static enum err trim(struct raft_driver *self, struct append_view *view)
{
    uint64_t from = self->commit;
    uint64_t prev_term = raft_driver_term_of(self, view->prev_index);
    bool same = prev_term == 0 || view->prev_index == 0 || prev_term == view->prev_term;
    unsigned count;

    if (view->message->term < self->core.current_term) {
        return ERR_OK; /* Only without R15: an older leader holds less. */
    }
    if (self->core.snapshot.installing) {
        /* All below the snapshot is void, and the core takes no entries now: a heartbeat. */
        if (raft_driver_rule(self, 16) && view->prev_index < self->install.index) {
            view->prev_index = self->install.index;
            view->prev_term = self->install.term;
            view->count = 0;
        }
        return ERR_OK;
    }
    if (!raft_driver_rule(self, 16) || view->prev_index >= from) {
        return ERR_OK;
    }
    count =
        from - view->prev_index < view->count ? (unsigned)(from - view->prev_index) : view->count;
    for (unsigned i = 0; i < count; i++) {
        same = same && same_entry(self, &view->entries[i]);
    }
    if (!same) {
        say_dropped(self, view->message, "contradicts_committed");
        return raft_driver_fail(self, ERR_DIVERGED);
    }
    view->entries = count < view->count ? view->entries + count : NULL;
    view->count -= count;
    view->prev_index = from;
    view->prev_term = raft_driver_term_of(self, from);
    ASSERT(view->prev_term != 0); /* D4 */
    return ERR_OK;
}

/*
 * R15: a request of an older term is answered here. The core answers a stale InstallSnapshot, and a
 * stale AppendEntries whose prev_index is 0, with "success" up to an index that is uninitialised
 * memory, and an old leader that leads again counts it.
 */
static bool answer_stale(struct raft_driver *self, const struct message *message, uint64_t index)
{
    if (message->term >= self->core.current_term || !raft_driver_rule(self, 15)) {
        return false;
    }
    raft_driver_send_stale(self, message->from, index > 0 ? index : 1);
    return true;
}

/* There is one leader in a term. The core does not check, and writes a follower's fields over a
 * leader's. */
static enum err check_one_leader(struct raft_driver *self, const struct message *message)
{
    if (self->core.state == RAFT_LEADER && message->term == self->core.current_term) {
        say_dropped(self, message, "second_leader");
        return raft_driver_fail(self, ERR_DIVERGED);
    }
    return ERR_OK;
}

static bool append_makes_sense(const struct raft_driver *self, const struct message *message)
{
    const struct entry *entries = message->append.entries;
    unsigned count = message->append.count;

    return count <= self->scratch_max &&
           (message->append.prev_index == 0) == (message->append.prev_term == 0) &&
           message->append.prev_term <= message->term &&
           (count == 0 || (entries[0].index == message->append.prev_index + 1 &&
                           entries[0].term >= message->append.prev_term &&
                           entries[count - 1].term <= message->term));
}

static enum err receive_append(struct raft_driver *self, const struct message *message)
{
    struct append_view view = {.message = message,
                               .prev_index = message->append.prev_index,
                               .prev_term = message->append.prev_term,
                               .entries = message->append.entries,
                               .count = message->append.count};
    enum err err;

    if (answer_stale(self, message, message->append.prev_index)) {
        return ERR_OK;
    }
    if (!append_makes_sense(self, message)) {
        say_dropped(self, message, "malformed");
        return ERR_OK;
    }
    err = check_one_leader(self, message);
    if (err != ERR_OK) {
        return err;
    }
    self->append_ms = self->now_ms;
    err = trim(self, &view);
    if (err != ERR_OK) {
        return err;
    }
    if (self->core.snapshot.installing) {
        return run_part(self, &view, 0, view.count);
    }
    return run_split(self, &view);
}

static enum err receive_append_result(struct raft_driver *self, const struct message *message)
{
    struct raft_message to = {.type = RAFT_APPEND_ENTRIES_RESULT};
    uint64_t rejected = message->append_result.rejected;
    uint64_t last_index = message->append_result.last_index;
    raft_index match;

    if (message->append_result.stale && message->term <= self->core.current_term) {
        return ERR_OK; /* R15: it says nothing else than a newer term. */
    }
    if (raft_driver_member_role(self, message->from) < 0) {
        return ERR_OK; /* R12 */
    }
    if (raft_match_index(&self->core, message->from, &match) == 0 &&
        message->term == self->core.current_term) {
        raft_driver_peer(self, message->from)->heard_ms = self->now_ms;
        if (rejected == 0 && last_index > raft_driver_end(self)) {
            /* More than was ever sent: it can only come from a peer that does not keep R15. */
            say_dropped(self, message, "success_beyond_log");
            return ERR_OK;
        }
        /* R4: a late or repeated rejection, of what the peer has confirmed since. The core
         * would let its next index fall below its match index. */
        if (raft_driver_rule(self, 4) && rejected != 0 &&
            (last_index < match || rejected <= match)) {
            return ERR_OK;
        }
    }
    to.append_entries_result.term = message->term;
    to.append_entries_result.rejected = rejected;
    to.append_entries_result.last_log_index = last_index;
    return run_message(self, message, &to);
}

/* ---- snapshots ---- */

static enum err receive_snapshot(struct raft_driver *self, const struct message *message)
{
    struct raft_message to = {.type = RAFT_INSTALL_SNAPSHOT};
    const struct snapshot *snapshot = &message->snapshot;
    uint64_t term = raft_driver_term_of(self, snapshot->index);
    enum err err;

    if (answer_stale(self, message, snapshot->index)) {
        return ERR_OK;
    }
    if (self->core.snapshot.installing && raft_driver_rule(self, 12)) {
        return ERR_OK; /* R12: the core would ignore it, and leak it. */
    }
    err = check_one_leader(self, message);
    if (err != ERR_OK) {
        return err;
    }
    if (snapshot->index == 0 || snapshot->term == 0 || snapshot->term > message->term) {
        say_dropped(self, message, "malformed");
        return ERR_OK;
    }
    if (snapshot->index <= self->commit && term != 0 && term != snapshot->term) {
        say_dropped(self, message, "contradicts_committed");
        return raft_driver_fail(self, ERR_DIVERGED);
    }
    self->append_ms = self->now_ms;
    to.install_snapshot.term = message->term;
    to.install_snapshot.last_index = snapshot->index;
    to.install_snapshot.last_term = snapshot->term;
    to.install_snapshot.conf_index = snapshot->membership_index;
    err = raft_driver_configuration(snapshot->membership.data, snapshot->membership.size,
                                    &to.install_snapshot.conf);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    /* The core hands it back or frees it; the manifest itself stays with us. */
    to.install_snapshot.data.base = raft_malloc(1);
    to.install_snapshot.data.len = 1;
    if (to.install_snapshot.data.base == NULL) {
        raft_configuration_close(&to.install_snapshot.conf);
        return raft_driver_fail(self, ERR_NOMEM);
    }
    self->event_snapshot = snapshot;
    err = run_message(self, message, &to);
    self->event_snapshot = NULL;
    return err;
}

/* ---- elections ---- */

static enum err receive_vote(struct raft_driver *self, const struct message *message)
{
    struct raft_message to = {.type = RAFT_REQUEST_VOTE};
    bool silence = self->now_ms >= self->append_ms + self->options.election_ms;
    enum err err;

    to.request_vote.version = 2;
    to.request_vote.term = message->term;
    to.request_vote.candidate_id = message->from;
    to.request_vote.last_log_index = message->vote.last_index;
    to.request_vote.last_log_term = message->vote.last_term;
    to.request_vote.pre_vote = message->vote.pre_vote;
    to.request_vote.disrupt_leader = message->vote.disrupt_leader;
    if (raft_driver_rule(self, 7) && self->core.state == RAFT_FOLLOWER &&
        raft_driver_member_role(self, self->options.id) != RAFT_VOTER &&
        (silence || message->vote.disrupt_leader)) {
        /* R7. A non-voter's leader never expires in the core, hence the flag. */
        to.request_vote.disrupt_leader = true;
        self->vote_asked = message;
    }
    err = run_message(self, message, &to);
    self->vote_asked = NULL;
    return err;
}

static enum err receive_vote_result(struct raft_driver *self, const struct message *message)
{
    struct raft_message to = {.type = RAFT_REQUEST_VOTE_RESULT};

    if (raft_driver_rule(self, 12) &&
        (self->core.state != RAFT_CANDIDATE || raft_driver_member_role(self, message->from) < 0)) {
        return ERR_OK; /* R12: the core would read a candidate's fields that are not there. */
    }
    to.request_vote_result.version = 2;
    to.request_vote_result.term = message->term;
    to.request_vote_result.vote_granted = message->vote_result.granted;
    to.request_vote_result.pre_vote = message->vote_result.pre_vote;
    return run_message(self, message, &to);
}

static enum err receive_timeout_now(struct raft_driver *self, const struct message *message)
{
    struct raft_message to = {.type = RAFT_TIMEOUT_NOW};

    if (raft_driver_rule(self, 11) && raft_driver_voters(self) == 1) {
        return ERR_OK; /* R11: a sole voter would lead without a new term. */
    }
    to.timeout_now.term = message->term;
    to.timeout_now.last_log_index = message->timeout_now.last_index;
    to.timeout_now.last_log_term = message->timeout_now.last_term;
    return run_message(self, message, &to);
}

enum err raft_driver_receive(struct raft_driver *self, uint64_t now_ms,
                             const struct message *message)
{
    enum err err = ERR_OK;

    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    self->now_ms = now_ms;
    if (message->to != self->options.id || message->from == self->options.id ||
        message->from == 0) {
        return ERR_OK; /* R12 */
    }
    switch (message->type) {
    case MESSAGE_APPEND:
        err = receive_append(self, message);
        break;
    case MESSAGE_APPEND_RESULT:
        err = receive_append_result(self, message);
        break;
    case MESSAGE_VOTE:
        err = receive_vote(self, message);
        break;
    case MESSAGE_VOTE_RESULT:
        err = receive_vote_result(self, message);
        break;
    case MESSAGE_SNAPSHOT:
        err = receive_snapshot(self, message);
        break;
    case MESSAGE_TIMEOUT_NOW:
        err = receive_timeout_now(self, message);
        break;
    case MESSAGE_CONFIRM:
        raft_driver_receive_confirm(self, message);
        break;
    case MESSAGE_CONFIRM_RESULT:
        raft_driver_receive_confirm_result(self, message);
        break;
    case MESSAGE_FETCH:
    case MESSAGE_FETCH_RESULT:
    case MESSAGE_CLEANED:
        ASSERT(false); /* Not the driver's. */
    }
    raft_driver_tell(self);
    return err;
}
