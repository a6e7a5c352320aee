/*
 * What we say to peers: the core's messages, with entries and snapshots put in, and corrected where
 * the core says what must not be said. References are the host's to take, at once: what is sent is
 * what the log holds now, whatever becomes of it.
 */
#include "raft_fsm/raft_driver_internal.h"

#include "base/assert.h"

struct raft_driver_peer *raft_driver_peer(struct raft_driver *self, uint64_t id)
{
    struct raft_driver_peer *free_one = &self->peers[0];

    for (unsigned i = 0; i < MEMBERSHIP_MAX; i++) {
        if (self->peers[i].id == id) {
            return &self->peers[i];
        }
        if (free_one->id != 0 &&
            (self->peers[i].id == 0 || self->peers[i].sent_ms < free_one->sent_ms)) {
            free_one = &self->peers[i];
        }
    }
    *free_one = (struct raft_driver_peer){.id = id};
    return free_one;
}

/* When its window is full, the core sends an empty AppendEntries for each submission. They may be
 * left out when something was said lately and they bring no news. */
static bool is_noise(const struct raft_driver *self, const struct raft_driver_peer *peer,
                     const struct raft_append_entries *args)
{
    return self->event == RAFT_SUBMIT && args->n_entries == 0 && peer->sent_ms != 0 &&
           self->now_ms - peer->sent_ms < self->options.heartbeat_ms / 2 &&
           peer->commit == args->leader_commit;
}

/* The entries that follow prev_index, as many as fit. */
static void take_part(struct raft_driver *self, struct message *message, unsigned count)
{
    size_t size = 0;
    unsigned n = 0;

    while (n < count && n < MESSAGE_ENTRIES_MAX) {
        const struct entry *entry =
            raft_driver_log_get(&self->log, message->append.prev_index + 1 + n);

        ASSERT(entry != NULL); /* D4 */
        ASSERT(entry->term <=
               message->term); /* Never an older leader's message with new entries. */
        size += entry_frame_size(entry->size);
        if (n > 0 && size > self->options.message_size_max) {
            break;
        }
        self->send_entries[n++] = *entry;
    }
    message->append.entries = n > 0 ? self->send_entries : NULL;
    message->append.count = n;
}

static void send_append(struct raft_driver *self, struct message *message,
                        const struct raft_append_entries *args)
{
    struct raft_driver_peer *peer = raft_driver_peer(self, message->to);
    unsigned left = args->n_entries;

    if (is_noise(self, peer, args)) {
        return;
    }
    peer->sent_ms = self->now_ms;
    peer->commit = args->leader_commit;
    message->type = MESSAGE_APPEND;
    message->term = args->term;
    message->append.prev_index = args->prev_log_index;
    message->append.prev_term = args->prev_log_term;
    message->append.commit = args->leader_commit;
    ASSERT(IMPLIES(args->prev_log_index >= self->log.first,
                   raft_driver_term_of(self, args->prev_log_index) == args->prev_log_term));
    for (;;) {
        take_part(self, message, left);
        self->host.send(self->host.arg, message);
        left -= message->append.count;
        if (left == 0) {
            return;
        }
        message->append.prev_index += message->append.count;
        message->append.prev_term = message->append.entries[message->append.count - 1].term;
    }
}

static void send_append_result(struct raft_driver *self, struct message *message,
                               const struct raft_append_entries_result *result)
{
    uint64_t have = self->commit < self->stored ? self->commit : self->stored;

    message->type = MESSAGE_APPEND_RESULT;
    message->term = result->term;
    message->append_result.rejected = result->rejected;
    message->append_result.last_index = result->last_log_index;
    /* R3: an entry that is committed cannot be missing here or differ, and the core's leader
     * takes such a rejection for the truth: its next index falls to what we have compacted, and
     * it sends nothing but empty messages. The true answer is what we have of it. */
    if (raft_driver_rule(self, 3) && result->rejected != 0 && result->rejected <= self->commit &&
        result->term == self->core.current_term && !self->core.snapshot.installing) {
        message->append_result.rejected = 0;
        message->append_result.last_index = have;
    }
    self->rejected = self->rejected || message->append_result.rejected != 0;
    ASSERT(IMPLIES(message->append_result.rejected == 0,
                   message->append_result.last_index <= self->stored)); /* D3 */
    self->host.send(self->host.arg, message);
}

static void send_vote_result(struct raft_driver *self, struct message *message,
                             const struct raft_request_vote_result *result)
{
    message->type = MESSAGE_VOTE_RESULT;
    message->term = result->term;
    message->vote_result.pre_vote = result->pre_vote;
    message->vote_result.granted = result->vote_granted;
    /* R6: to a pre-vote the core answers with the request's term, even when it refuses because its
     * own is higher. The asker would never learn it, and if its log is the longer one, nobody could
     * ever win. */
    if (raft_driver_rule(self, 6) && result->pre_vote && !result->vote_granted &&
        result->term < self->core.current_term) {
        message->term = self->core.current_term;
    }
    self->host.send(self->host.arg, message);
}

static void send_snapshot(struct raft_driver *self, struct message *message,
                          const struct raft_install_snapshot *args)
{
    /* The core knows of no other than the newest. */
    ASSERT(args->last_index == self->snapshot.index);
    ASSERT(args->last_term == self->snapshot.term);
    ASSERT(args->conf_index == self->snapshot.membership_index);
    message->type = MESSAGE_SNAPSHOT;
    message->term = args->term;
    message->snapshot = self->snapshot;
    self->host.send(self->host.arg, message);
}

void raft_driver_send(struct raft_driver *self, const struct raft_message *from)
{
    struct message message = {.from = self->options.id, .to = from->server_id};

    ASSERT(from->server_id != self->options.id);
    switch (from->type) {
    case RAFT_APPEND_ENTRIES:
        send_append(self, &message, &from->append_entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        send_append_result(self, &message, &from->append_entries_result);
        return;
    case RAFT_REQUEST_VOTE:
        message.type = MESSAGE_VOTE;
        message.term = from->request_vote.term;
        message.vote.last_index = from->request_vote.last_log_index;
        message.vote.last_term = from->request_vote.last_log_term;
        message.vote.pre_vote = from->request_vote.pre_vote;
        message.vote.disrupt_leader = from->request_vote.disrupt_leader;
        self->host.send(self->host.arg, &message);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        send_vote_result(self, &message, &from->request_vote_result);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        send_snapshot(self, &message, &from->install_snapshot);
        return;
    case RAFT_TIMEOUT_NOW:
        message.type = MESSAGE_TIMEOUT_NOW;
        message.term = from->timeout_now.term;
        message.timeout_now.last_index = from->timeout_now.last_log_index;
        message.timeout_now.last_term = from->timeout_now.last_log_term;
        self->host.send(self->host.arg, &message);
        return;
    }
    ASSERT(false); /* There are no others. */
}

void raft_driver_send_commit(struct raft_driver *self)
{
    self->news_ms = 0;
    if (self->core.state != RAFT_LEADER) {
        return;
    }
    for (unsigned i = 0; i < self->core.configuration.n; i++) {
        uint64_t id = self->core.configuration.servers[i].id;
        struct message message = {.from = self->options.id, .to = id};
        struct raft_append_entries args = {.leader_commit = self->commit};
        raft_index match;

        if (id == self->options.id || raft_match_index(&self->core, id, &match) != 0 ||
            match < self->commit || raft_driver_peer(self, id)->commit >= self->commit) {
            continue;
        }
        args.term = self->core.current_term;
        args.prev_log_index = match; /* It has confirmed that, so it cannot refuse. */
        args.prev_log_term = raft_driver_term_of(self, match);
        if (args.prev_log_term != 0) {
            send_append(self, &message, &args);
        }
    }
}

void raft_driver_send_stale(struct raft_driver *self, uint64_t to, uint64_t rejected)
{
    struct message message = {.type = MESSAGE_APPEND_RESULT,
                              .from = self->options.id,
                              .to = to,
                              .term = self->core.current_term};

    ASSERT(rejected > 0); /* D5: never a success */
    message.append_result.rejected = rejected;
    message.append_result.last_index = rejected - 1;
    message.append_result.stale = true;
    self->host.send(self->host.arg, &message);
}
