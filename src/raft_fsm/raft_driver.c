/*
 * The driver's life: time, disk, proposals, and what may be asked of it.
 *
 * Happy path: new, start with what the disk holds, then receive, tick, propose and appended as
 * things happen. A snapshot from the leader: host.install → installed, or install_failed, when the
 * entries whose writes were void are written once more and the core begins anew with all of them.
 * Failure: the first error sticks, nothing works any more, the owner stops the process.
 */
#include "raft_fsm/raft_driver_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum {
    HEARTBEAT_MS = 50,
    ELECTION_MS = 300,
    INSTALL_MS = 60000,
    INFLIGHT_MAX = 256,
    MESSAGE_SIZE_MAX = 1024 * 1024,
    TRAILING_SIZE = 16 * 1024 * 1024,
    QUIET_MS = 20, /* until a sole voter looks again whether its writes are done */
};

/* ---- life cycle ---- */

static void fill_defaults(struct raft_driver_options *self)
{
    self->heartbeat_ms = self->heartbeat_ms == 0 ? HEARTBEAT_MS : self->heartbeat_ms;
    self->election_ms = self->election_ms == 0 ? ELECTION_MS : self->election_ms;
    self->install_ms = self->install_ms == 0 ? INSTALL_MS : self->install_ms;
    self->inflight_max = self->inflight_max == 0 ? INFLIGHT_MAX : self->inflight_max;
    self->message_size_max =
        self->message_size_max == 0 ? MESSAGE_SIZE_MAX : self->message_size_max;
    self->trailing_size = self->trailing_size == 0 ? TRAILING_SIZE : self->trailing_size;
    /* R13: more than can be in flight, so that a follower that lags by a window of entries is not
     * sent a snapshot instead. */
    self->trailing_min = self->trailing_min == 0 ? self->inflight_max + 1 : self->trailing_min;
}

enum err raft_driver_new(const struct raft_driver_options *options,
                         const struct raft_driver_host *host, struct raft_driver **ret_driver)
{
    struct raft_driver *self = calloc(1, sizeof *self);

    ASSERT(options->id > 0);
    ASSERT(options->address != NULL && options->address[0] != '\0');
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->options = *options;
    self->host = *host;
    fill_defaults(&self->options);
    self->core_seed = (unsigned)(options->seed ^ (options->seed >> 32));
    self->scratch_max = self->options.inflight_max > MESSAGE_ENTRIES_MAX
                            ? self->options.inflight_max
                            : MESSAGE_ENTRIES_MAX;
    raft_driver_log_init(&self->log, 1);
    self->options.address = strdup(options->address);
    self->core_entries = malloc(self->scratch_max * sizeof *self->core_entries);
    self->entries = malloc(self->options.inflight_max * sizeof *self->entries);
    self->send_entries = malloc(MESSAGE_ENTRIES_MAX * sizeof *self->send_entries);
    if (self->options.address == NULL || self->core_entries == NULL || self->entries == NULL ||
        self->send_entries == NULL) {
        raft_driver_free(self);
        return ERR_NOMEM;
    }
    *ret_driver = self;
    return ERR_OK;
}

void raft_driver_free(struct raft_driver *self)
{
    if (self == NULL) {
        return;
    }
    raft_driver_close_core(self);
    raft_driver_snapshot_fini(&self->snapshot);
    block_unref(self->membership.block);
    raft_driver_log_fini(&self->log);
    free(self->appends.slots);
    free((char *)self->options.address);
    free(self->core_entries);
    free(self->entries);
    free(self->send_entries);
    free(self);
}

/* ---- time ---- */

/* When something is due by the clock. */
static uint64_t clock_deadline_ms(const struct raft_driver *self)
{
    uint64_t deadline = raft_timeout(&self->core);
    uint64_t beat = self->timeout_ms + self->options.heartbeat_ms;

    if (self->barrier_due) {
        return self->now_ms;
    }
    /* R13: a leader that made a standby a spare keeps the moment it last wrote to it, and would
     * want to be called at once for ever. */
    if (self->core.state == RAFT_LEADER && raft_driver_rule(self, 13) && deadline < beat) {
        deadline = beat;
    }
    deadline = deadline < self->quiet_ms ? self->quiet_ms : deadline;
    if (self->round_ms != 0 && self->round_ms < deadline) {
        deadline = self->round_ms;
    }
    return self->news_ms != 0 && self->news_ms < deadline ? self->news_ms : deadline;
}

/* Whether the host is to be asked again to apply. */
static bool apply_is_due(const struct raft_driver *self)
{
    return self->apply_waits && !self->core.snapshot.installing;
}

uint64_t raft_driver_deadline_ms(const struct raft_driver *self)
{
    return apply_is_due(self) ? self->now_ms : clock_deadline_ms(self);
}

/*
 * R11: a follower that has become the sole voter. The core would make it leader of the term it is
 * in, which may have a leader. It begins anew instead, and R10 gives it a term of its own; once
 * its disk is idle, since what it has not stored it must not commit.
 */
static bool is_sole_voter(const struct raft_driver *self)
{
    return raft_driver_rule(self, 11) && self->core.state == RAFT_FOLLOWER &&
           !self->core.snapshot.installing && raft_driver_voters(self) == 1 &&
           raft_driver_member_role(self, self->options.id) == RAFT_VOTER;
}

static enum err lead_alone(struct raft_driver *self)
{
    enum err err;

    if (self->appends.count > 0) {
        self->quiet_ms = self->now_ms + QUIET_MS;
        return ERR_OK;
    }
    err = raft_driver_reset_core(self);
    return err == ERR_OK ? raft_driver_settle(self) : err;
}

enum err raft_driver_tick(struct raft_driver *self, uint64_t now_ms)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    enum err err = ERR_OK;

    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    self->now_ms = now_ms;
    if (self->news_ms != 0 && now_ms >= self->news_ms) {
        raft_driver_send_commit(self);
    }
    if (self->round_ms != 0 && now_ms >= self->round_ms) {
        raft_driver_send_confirms(self);
    }
    if (apply_is_due(self)) {
        self->apply_waits = false;
        err = raft_driver_settle(self);
    }
    /* What is due by the clock does not wait for all to be applied. */
    if (err != ERR_OK) {
        return err;
    }
    if (self->barrier_due) {
        err = raft_driver_settle(self);
    } else if (now_ms < clock_deadline_ms(self)) {
        err = ERR_OK;
    } else if (is_sole_voter(self)) {
        err = lead_alone(self);
    } else {
        /* R5: once told to take over, a candidate keeps the permission to depose leaders for all
         * its later elections. If it cannot win, it would depose them for ever. */
        if (raft_driver_rule(self, 5) && self->core.state == RAFT_CANDIDATE &&
            self->core.candidate_state.disrupt_leader) {
            self->core.candidate_state.disrupt_leader = false;
            self->core.candidate_state.in_pre_vote = true;
        }
        self->timeout_ms = now_ms;
        err = raft_driver_run(self, &event);
    }
    raft_driver_tell(self);
    return err;
}

/* ---- disk ---- */

enum err raft_driver_appended(struct raft_driver *self, uint64_t now_ms, unsigned calls)
{
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    uint64_t stored = self->stored;
    enum err err = ERR_OK;

    ASSERT(now_ms >= self->now_ms);
    ASSERT(calls <= self->appends.count);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    self->now_ms = now_ms;
    for (unsigned i = 0; i < calls; i++) {
        struct raft_driver_append append = self->appends.slots[self->appends.start];

        self->appends.start = (self->appends.start + 1) & (self->appends.capacity - 1);
        self->appends.count--;
        if (append.valid_to >= append.first && append.valid_to > stored) {
            stored = append.valid_to;
        }
    }
    ASSERT(stored <= raft_driver_end(self));
    if (stored > self->stored) {
        self->stored = stored;
        if (!self->core.snapshot.installing) {
            event.persisted_entries.index = stored;
            err = raft_driver_run(self, &event);
        }
    }
    if (err == ERR_OK && self->install_failed && self->appends.count == 0) {
        err = raft_driver_reset_core(self);
        err = err == ERR_OK ? raft_driver_settle(self) : err;
    }
    raft_driver_tell(self);
    return err;
}

uint64_t raft_driver_snapshot_index(const struct raft_driver *self)
{
    return self->applied < self->stored ? self->applied : self->stored;
}

void raft_driver_snapshot_meta(const struct raft_driver *self, uint64_t *ret_term,
                               uint64_t *ret_membership_index, struct slice *ret_membership)
{
    ASSERT(self->membership_index > 0);
    *ret_term = raft_driver_term_of(self, self->applied);
    *ret_membership_index = self->membership_index;
    *ret_membership = self->membership;
}

/* How many of the entries up to index are kept. */
static unsigned trailing(const struct raft_driver *self, uint64_t index)
{
    size_t size = 0;
    unsigned count = 0;

    for (; index >= self->log.first; index--) {
        size += entry_frame_size(raft_driver_log_get(&self->log, index)->size);
        if ((count >= self->options.trailing_min && size > self->options.trailing_size) ||
            (self->options.trailing_size_max > 0 && size > self->options.trailing_size_max)) {
            break;
        }
        count++;
    }
    return count;
}

enum err raft_driver_compact(struct raft_driver *self, uint64_t now_ms,
                             const struct snapshot *snapshot)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    enum err err;

    ASSERT(self->started);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    if (self->core.snapshot.installing || snapshot->index <= self->snapshot.index) {
        return ERR_OK;
    }
    ASSERT(snapshot->index <= raft_driver_snapshot_index(self));
    ASSERT(snapshot->term == raft_driver_term_of(self, snapshot->index));
    ASSERT(snapshot->membership_index <= snapshot->index);
    self->now_ms = now_ms;
    event.snapshot.metadata.index = snapshot->index;
    event.snapshot.metadata.term = snapshot->term;
    event.snapshot.metadata.configuration_index = snapshot->membership_index;
    event.snapshot.trailing = trailing(self, snapshot->index);
    err = raft_driver_configuration(snapshot->membership.data, snapshot->membership.size,
                                    &event.snapshot.metadata.configuration);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    raft_driver_snapshot_copy(&self->snapshot, snapshot);
    err = raft_driver_run(self, &event);
    if (err == ERR_OK) {
        size_t size = self->log.size;

        raft_driver_log_drop_prefix(&self->log, self->core.trail.offset);
        self->applied_size -= size - self->log.size; /* All of them were. */
    }
    raft_driver_tell(self);
    return err;
}

enum err raft_driver_installed(struct raft_driver *self, uint64_t now_ms)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    enum err err;

    ASSERT(raft_driver_installing(self));
    ASSERT(!self->install_failed);
    ASSERT(self->appends.count == 0);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    self->now_ms = now_ms;
    raft_driver_snapshot_copy(&self->snapshot, &self->install);
    raft_driver_snapshot_fini(&self->install);
    block_ref(self->snapshot.membership.block);
    block_unref(self->membership.block);
    self->membership = self->snapshot.membership;
    self->membership_index = self->snapshot.membership_index;
    raft_driver_log_reset(&self->log, self->snapshot.index + 1);
    self->applied_size = 0;
    self->applied = self->commit = self->stored = self->snapshot.index;
    self->apply_waits = false;
    event.persisted_snapshot.metadata.index = self->snapshot.index;
    event.persisted_snapshot.metadata.term = self->snapshot.term;
    event.persisted_snapshot.metadata.configuration = self->install_members;
    event.persisted_snapshot.metadata.configuration_index = self->snapshot.membership_index;
    event.persisted_snapshot.last = true;
    raft_configuration_init(&self->install_members);
    err = raft_driver_run(self, &event);
    raft_driver_tell(self);
    return err;
}

enum err raft_driver_install_failed(struct raft_driver *self, uint64_t now_ms)
{
    uint64_t last = raft_driver_end(self);
    enum err err = ERR_OK;

    ASSERT(raft_driver_installing(self));
    ASSERT(!self->install_failed);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    self->now_ms = now_ms;
    self->install_failed = true;
    /* What was on its way to the disk when the install began may not have got there, though some of
     * it may be applied: it is written once more. */
    for (uint64_t next = self->stored + 1; err == ERR_OK && next <= last;) {
        unsigned count = 0;

        while (count < MESSAGE_ENTRIES_MAX && next <= last) {
            self->send_entries[count++] = *raft_driver_log_get(&self->log, next++);
        }
        err = raft_driver_append(self, self->send_entries, count);
    }
    if (err == ERR_OK && self->appends.count == 0) {
        err = raft_driver_reset_core(self);
        err = err == ERR_OK ? raft_driver_settle(self) : err;
    }
    raft_driver_tell(self);
    return err;
}

/* ---- proposals ---- */

enum err raft_driver_propose(struct raft_driver *self, uint64_t now_ms,
                             const struct proposal_block *payloads, unsigned count,
                             uint64_t *ret_first_index)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    uint64_t first = raft_driver_end(self) + 1;
    enum err err;

    ASSERT(count >= 1 && count <= self->options.inflight_max);
    ASSERT(now_ms >= self->now_ms);
    if (self->failed != ERR_OK) {
        return self->failed;
    }
    if (self->core.state != RAFT_LEADER || raft_driver_transferring(self)) {
        return ERR_NOT_LEADER;
    }
    self->now_ms = now_ms;
    for (unsigned i = 0; i < count; i++) {
        entry_seal(payloads[i].block, payloads[i].size, first + i, self->core.current_term,
                   ENTRY_COMMAND, &self->entries[i]);
    }
    /* The core wants a batch, and frees none of a submission. */
    raft_driver_fill(self->core_entries, self->entries, count, self);
    self->event_entries = self->entries;
    self->event_count = count;
    event.submit.entries = self->core_entries;
    event.submit.n = count;
    err = raft_driver_step(self, &event);
    if (err != ERR_OK) {
        return err;
    }
    for (unsigned i = 0; i < count; i++) {
        entry_unref(&self->entries[i]); /* The log has its own. */
    }
    err = raft_driver_settle(self);
    if (err == ERR_OK) {
        *ret_first_index = first;
    }
    raft_driver_tell(self);
    return err;
}

/* ---- accessors ---- */

enum raft_role raft_driver_role(const struct raft_driver *self)
{
    switch (self->core.state) {
    case RAFT_LEADER:
        return RAFT_ROLE_LEADER;
    case RAFT_CANDIDATE:
        return RAFT_ROLE_CANDIDATE;
    default:
        return RAFT_ROLE_FOLLOWER;
    }
}

uint64_t raft_driver_term(const struct raft_driver *self)
{
    return self->core.current_term;
}

uint64_t raft_driver_leader(const struct raft_driver *self)
{
    switch (raft_driver_role(self)) {
    case RAFT_ROLE_LEADER:
        return self->options.id;
    case RAFT_ROLE_FOLLOWER:
        return self->core.follower_state.current_leader.id;
    case RAFT_ROLE_CANDIDATE:
        break;
    }
    return 0;
}

uint64_t raft_driver_commit_index(const struct raft_driver *self)
{
    return self->commit;
}

uint64_t raft_driver_applied_index(const struct raft_driver *self)
{
    return self->applied;
}

uint64_t raft_driver_first_index(const struct raft_driver *self)
{
    return self->log.first;
}

uint64_t raft_driver_last_index(const struct raft_driver *self)
{
    return raft_driver_end(self);
}

uint64_t raft_driver_stored_index(const struct raft_driver *self)
{
    return self->stored;
}

bool raft_driver_installing(const struct raft_driver *self)
{
    return self->core.snapshot.installing;
}

size_t raft_driver_memory(const struct raft_driver *self)
{
    return self->log.size + self->log.count * RAFT_DRIVER_LOG_OVERHEAD;
}

size_t raft_driver_unapplied_size(const struct raft_driver *self)
{
    ASSERT(self->applied_size <= self->log.size);
    return self->log.size - self->applied_size;
}

const struct entry *raft_driver_entry(const struct raft_driver *self, uint64_t index)
{
    return raft_driver_log_get(&self->log, index);
}

void raft_driver_check(const struct raft_driver *self)
{
    /* raft_last_index wants a pointer it could write through, and does not. */
    uint64_t last = raft_last_index((struct raft *)&self->core);
    uint64_t end = raft_driver_end(self);

    raft_driver_log_check(&self->log, false);
    if (self->failed != ERR_OK) {
        return;
    }
    ASSERT(self->term == self->core.current_term); /* D1 */
    ASSERT(self->vote == self->core.voted_for);
    ASSERT(self->applied <= self->commit); /* D2 */
    ASSERT(self->commit <= end);
    ASSERT(self->stored <= end);
    ASSERT(self->log.first <= self->snapshot.index + 1); /* D4 */
    ASSERT(self->snapshot.index <= self->applied);
    ASSERT(self->snapshot.index == 0 || end >= self->snapshot.index);
    ASSERT(self->membership_index <= self->applied);
    ASSERT((self->applied_size == self->log.size) == (self->applied == end));
    ASSERT((self->install.index != 0) == self->core.snapshot.installing);
    ASSERT(IMPLIES(self->install_failed, self->core.snapshot.installing));
    if (self->core.snapshot.installing) {
        ASSERT(last == self->install.index);
        return;
    }
    ASSERT(last == end);
    ASSERT(self->core.last_stored == self->stored);
    ASSERT(self->applied == self->commit || self->apply_waits); /* D2 */
    ASSERT(IMPLIES(self->appends.count == 0, self->stored == end));
    ASSERT(self->core.trail.snapshot.index == self->snapshot.index);
    ASSERT(self->core.trail.offset == self->log.first - 1);
    ASSERT(self->core.configuration_committed_index >= self->membership_index);
}
