/*
 * One step of the core and what comes of it.
 *
 * The order in which an update is handled is the contract of D1–D3: ballot, entries, install,
 * messages; then, outside of the step, what is committed is applied.
 */
#include "raft_fsm/raft_driver_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

_Static_assert((int)ENTRY_COMMAND == RAFT_COMMAND, "types are the core's");
_Static_assert((int)ENTRY_BARRIER == RAFT_BARRIER, "types are the core's");
_Static_assert((int)ENTRY_CHANGE == RAFT_CHANGE, "types are the core's");

enum err raft_driver_err(int rv)
{
    switch (rv) {
    case 0:
        return ERR_OK;
    case RAFT_NOMEM:
        return ERR_NOMEM;
    case RAFT_NOTLEADER:
        return ERR_NOT_LEADER;
    case RAFT_CANTCHANGE:
        return ERR_AGAIN;
    case RAFT_NOSPACE:
        return ERR_NOSPACE;
    case RAFT_BADID:
        return ERR_INVALID;
    case RAFT_NOTFOUND:
        return ERR_NOT_FOUND;
    case RAFT_MALFORMED:
        return ERR_CORRUPT;
    case RAFT_SHUTDOWN:
        /* The core's word for a committed entry that is contradicted. */
        return ERR_DIVERGED;
    default:
        return ERR_FAILED;
    }
}

enum err raft_driver_fail(struct raft_driver *self, enum err err)
{
    ASSERT(err != ERR_OK);
    if (self->failed == ERR_OK) {
        self->failed = err;
        diag_event(self->options.diag, DIAG_ERROR, "driver", "failed", "err=%s term=%llu",
                   err_name(err), (unsigned long long)self->core.current_term);
    }
    return err;
}

int raft_driver_member_role(const struct raft_driver *self, uint64_t id)
{
    for (unsigned i = 0; i < self->core.configuration.n; i++) {
        if (self->core.configuration.servers[i].id == id) {
            return self->core.configuration.servers[i].role;
        }
    }
    return -1;
}

unsigned raft_driver_voters(const struct raft_driver *self)
{
    unsigned count = 0;

    for (unsigned i = 0; i < self->core.configuration.n; i++) {
        count += self->core.configuration.servers[i].role == RAFT_VOTER ? 1 : 0;
    }
    return count;
}

enum err raft_driver_save_ballot(struct raft_driver *self, uint64_t term, uint64_t vote)
{
    enum err err;

    ASSERT(term >= self->term);
    ASSERT(IMPLIES(term == self->term && self->vote != 0, vote == self->vote));
    if (term == self->term && vote == self->vote) {
        return ERR_OK;
    }
    err = self->host.save_ballot(self->host.arg, term, vote);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    self->term = term;
    self->vote = vote;
    return ERR_OK;
}

/* ---- entries ---- */

static enum err push_append(struct raft_driver_appends *self, uint64_t first, uint64_t last)
{
    if (self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? 16 : self->capacity * 2;
        struct raft_driver_append *slots = malloc(capacity * sizeof *slots);

        if (slots == NULL) {
            return ERR_NOMEM;
        }
        for (size_t i = 0; i < self->count; i++) {
            slots[i] = self->slots[(self->start + i) & (self->capacity - 1)];
        }
        free(self->slots);
        self->slots = slots;
        self->capacity = capacity;
        self->start = 0;
    }
    self->slots[(self->start + self->count++) & (self->capacity - 1)] =
        (struct raft_driver_append){.first = first, .valid_to = last};
    return ERR_OK;
}

enum err raft_driver_append(struct raft_driver *self, const struct entry *entries, unsigned count)
{
    enum err err;

    ASSERT(count > 0);
    ASSERT(entries[count - 1].index == entries[0].index + count - 1);
    err = push_append(&self->appends, entries[0].index, entries[count - 1].index);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    self->host.append(self->host.arg, entries, count);
    return ERR_OK;
}

/* Drops entries from index on, and what was going to be said about them. */
static void truncate_log(struct raft_driver *self, uint64_t index)
{
    ASSERT(index > self->commit); /* D2 */
    raft_driver_log_truncate(&self->log, index);
    /* A write under way may still hold what was truncated: when it is done, that says nothing
     * about the entries that take its place. */
    for (size_t i = 0; i < self->appends.count; i++) {
        struct raft_driver_append *append =
            &self->appends.slots[(self->appends.start + i) & (self->appends.capacity - 1)];

        if (append->valid_to >= index) {
            append->valid_to = index - 1;
        }
    }
    if (self->stored >= index) {
        self->stored = index - 1;
    }
}

static enum err log_and_append(struct raft_driver *self, const struct entry *entries,
                               unsigned count)
{
    enum err err;

    if (entries[0].index <= raft_driver_end(self)) {
        /* An update has no flag that says "truncate": it is the index that says so. */
        truncate_log(self, entries[0].index);
    }
    err = raft_driver_log_push(&self->log, entries, count);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    return raft_driver_append(self, entries, count);
}

/* The entry that the core writes by itself when it begins to lead. */
static enum err take_barrier(struct raft_driver *self, uint64_t index)
{
    struct block *block = entry_block_new(0);
    struct entry entry;
    enum err err;

    raft_free(self->core.barrier.buf.base);
    if (block == NULL) {
        return raft_driver_fail(self, ERR_NOMEM);
    }
    entry_seal(block, 0, index, self->core.barrier.term, ENTRY_BARRIER, &entry);
    err = log_and_append(self, &entry, 1);
    entry_unref(&entry);
    return err;
}

static enum err take_entries(struct raft_driver *self, const struct raft_update *update)
{
    unsigned count = update->entries.n;
    size_t at;

    if (update->entries.batch == &self->core.barrier) {
        ASSERT(count == 1);
        return take_barrier(self, update->entries.index);
    }
    /* A part of the array that the event brought. */
    ASSERT(update->entries.batch >= self->core_entries);
    at = (size_t)(update->entries.batch - self->core_entries);
    ASSERT(at + count <= self->event_count);
    ASSERT(self->event_entries[at].index == update->entries.index);
    if (self->event == RAFT_RECEIVE) {
        raft_free(update->entries.batch[0].batch);
    }
    return log_and_append(self, &self->event_entries[at], count);
}

/* ---- snapshots ---- */

static void begin_install(struct raft_driver *self, const struct raft_update *update)
{
    ASSERT(self->install.index == 0);
    ASSERT(self->event_snapshot != NULL);
    ASSERT(update->snapshot.metadata.index == self->event_snapshot->index);
    ASSERT(update->snapshot.metadata.index > self->commit);
    raft_free(update->snapshot.chunk.base);
    self->install = *self->event_snapshot;
    block_ref(self->install.membership.block);
    if (self->install.manifest.block != NULL) {
        block_ref(self->install.manifest.block);
    }
    self->install_members = update->snapshot.metadata.configuration;
    for (size_t i = 0; i < self->appends.count; i++) {
        self->appends.slots[(self->appends.start + i) & (self->appends.capacity - 1)].valid_to = 0;
    }
    self->host.install(self->host.arg, &self->install);
}

/* ---- the step ---- */

/*
 * R7: a node that its own log does not (yet) call a voter still votes. It may be one: the entry
 * that promotes it can be on its way, and when the leader that sent it dies, the others may not
 * reach a majority without this vote. The core refuses; here its refusal is corrected where the
 * normal rules would grant.
 */
static void grant_as_non_voter(struct raft_driver *self, struct raft_update *update)
{
    const struct message *asked = self->vote_asked;
    uint64_t last = raft_driver_end(self);
    uint64_t last_term = raft_driver_term_of(self, last);
    bool up_to_date = asked->vote.last_term > last_term ||
                      (asked->vote.last_term == last_term && asked->vote.last_index >= last);

    if (self->core.snapshot.installing || !up_to_date || asked->term < self->core.current_term) {
        return;
    }
    if (!asked->vote.pre_vote &&
        (asked->term != self->core.current_term ||
         (self->core.voted_for != 0 && self->core.voted_for != asked->from))) {
        return;
    }
    for (unsigned i = 0; i < update->messages.n; i++) {
        struct raft_message *message = &update->messages.batch[i];

        if (message->type != RAFT_REQUEST_VOTE_RESULT ||
            message->request_vote_result.vote_granted) {
            continue;
        }
        message->request_vote_result.vote_granted = true;
        if (!asked->vote.pre_vote) {
            self->core.voted_for = asked->from;
            update->flags |= (RAFT_UPDATE_VOTED_FOR);
        }
    }
}

static void take_state(struct raft_driver *self)
{
    self->barrier_due = false;
    self->news_ms = 0;
    self->round_ms = 0;
    if (self->core.state != RAFT_LEADER) {
        return;
    }
    memset(self->peers, 0, sizeof self->peers);
    self->led_ms = self->now_ms;
    raft_driver_read_reset(self);
    /* R14: the core writes its barrier only when there is something uncommitted in its log. A
     * leader that has not committed in its own term knows neither what is committed nor that it
     * may change the membership, so it begins with one always. */
    self->barrier_due = raft_driver_rule(self, 14) &&
                        raft_driver_term_of(self, raft_driver_end(self)) != self->core.current_term;
}

static enum err take_update(struct raft_driver *self, struct raft_update *update)
{
    enum err err = ERR_OK;

    if (self->vote_asked != NULL && (update->flags & (RAFT_UPDATE_MESSAGES)) != 0) {
        grant_as_non_voter(self, update);
    }
    err = raft_driver_save_ballot(self, self->core.current_term, self->core.voted_for); /* D1 */
    if (err == ERR_OK && (update->flags & (RAFT_UPDATE_ENTRIES)) != 0) {
        err = take_entries(self, update);
    }
    if (err == ERR_OK && (update->flags & (RAFT_UPDATE_SNAPSHOT)) != 0) {
        begin_install(self, update);
    }
    if (err != ERR_OK) {
        return err;
    }
    if ((update->flags & (RAFT_UPDATE_MESSAGES)) != 0) {
        for (unsigned i = 0; i < update->messages.n; i++) {
            raft_driver_send(self, &update->messages.batch[i]);
        }
    }
    if ((update->flags & (RAFT_UPDATE_STATE)) != 0) {
        take_state(self);
    }
    /* R13: the core's commit index can fall (it takes the message's end for its log's); what was
     * committed once is. While a snapshot installs it may stand at entries we do not hold. */
    if (!self->core.snapshot.installing) {
        ASSERT(self->core.commit_index <= raft_driver_end(self));
        if (self->core.commit_index > self->commit || !raft_driver_rule(self, 13)) {
            self->commit = self->core.commit_index;
            /* The next entries tell the peers. If none come soon, something else has to: they
             * should not wait for a heartbeat to apply what is committed. */
            if (self->core.state == RAFT_LEADER && self->options.news_ms > 0) {
                self->news_ms = self->now_ms + self->options.news_ms;
            }
        }
    }
    return ERR_OK;
}

/* Codes with which a step refuses and changes nothing. */
static bool refused(const struct raft_event *event, int rv)
{
    switch (rv) {
    case RAFT_NOTLEADER:
    case RAFT_CANTCHANGE:
    case RAFT_NOSPACE:
        return event->type == RAFT_SUBMIT || event->type == RAFT_TRANSFER;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return event->type == RAFT_TRANSFER;
    default:
        return false;
    }
}

enum err raft_driver_step(struct raft_driver *self, struct raft_event *event)
{
    struct raft_update update;
    int rv;

    ASSERT(self->failed == ERR_OK);
    event->time = self->now_ms;
    event->capacity = 0;
    self->event = event->type;
    self->rejected = false;
    rv = raft_step(&self->core, event, &update);
    if (rv != 0) {
        return refused(event, rv) ? raft_driver_err(rv)
                                  : raft_driver_fail(self, raft_driver_err(rv));
    }
    return take_update(self, &update);
}

enum err raft_driver_configuration(const uint8_t *payload, size_t size,
                                   struct raft_configuration *ret_configuration)
{
    struct raft_buffer buffer = {.base = (void *)payload, .len = size};
    int rv;

    raft_configuration_init(ret_configuration);
    rv = raft_configuration_decode(&buffer, ret_configuration);
    return raft_driver_err(rv);
}

enum err raft_driver_confirm(struct raft_driver *self, uint64_t index, const uint8_t *payload,
                             size_t size)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    enum err err;

    ASSERT(index > 0);
    event.configuration.index = index;
    err = raft_driver_configuration(payload, size, &event.configuration.conf);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    return raft_driver_step(self, &event);
}

void raft_driver_fill(struct raft_entry *to, const struct entry *entries, unsigned count,
                      void *batch)
{
    ASSERT(batch != NULL);
    for (unsigned i = 0; i < count; i++) {
        to[i] = (struct raft_entry){
            .term = entries[i].term, .type = (enum raft_entry_type)entries[i].type, .batch = batch};
        if (entries[i].type == ENTRY_CHANGE) {
            to[i].buf.base = (void *)entry_payload(&entries[i]);
            to[i].buf.len = entries[i].size;
        }
    }
}

enum err raft_driver_submit(struct raft_driver *self, struct block *block, uint32_t size,
                            enum entry_type type)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    enum err err;

    /* The core wants a batch, and frees none of a submission. */
    entry_seal(block, size, raft_driver_end(self) + 1, self->core.current_term, type,
               &self->entries[0]);
    raft_driver_fill(self->core_entries, self->entries, 1, self);
    self->event_entries = self->entries;
    self->event_count = 1;
    event.submit.entries = self->core_entries;
    event.submit.n = 1;
    err = raft_driver_step(self, &event);
    if (err == ERR_OK) {
        entry_unref(&self->entries[0]); /* The log has its own. */
    }
    return err;
}

/* ---- what comes of a step ---- */

static enum err apply_next(struct raft_driver *self)
{
    const struct entry *entry = raft_driver_log_get(&self->log, self->applied + 1);
    enum err err;

    ASSERT(entry != NULL); /* D4 */
    err = self->host.apply(self->host.arg, entry);
    if (err == ERR_AGAIN) {
        self->apply_waits = true;
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    self->applied++;
    self->applied_size += entry_frame_size(entry->size);
    if (entry->type != ENTRY_CHANGE) {
        return ERR_OK;
    }
    block_unref(self->membership.block);
    self->membership = (struct slice){
        .block = block_ref(entry->block), .data = entry_payload(entry), .size = entry->size};
    self->membership_index = entry->index;
    /* At once, before any other event: the core must not meet a second change before it knows that
     * this one is committed. */
    return raft_driver_confirm(self, self->membership_index, self->membership.data,
                               self->membership.size);
}

static enum err submit_barrier(struct raft_driver *self)
{
    struct block *block = entry_block_new(0);
    enum err err;

    self->barrier_due = false;
    if (block == NULL) {
        return raft_driver_fail(self, ERR_NOMEM);
    }
    err = raft_driver_submit(self, block, 0, ENTRY_BARRIER);
    if (err != ERR_OK) {
        block_unref(block);
        return raft_driver_fail(self, err);
    }
    return ERR_OK;
}

enum err raft_driver_settle(struct raft_driver *self)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && !self->core.snapshot.installing) {
        if (self->applied < self->commit && !self->apply_waits) {
            /* One message can end this node's leadership and commit what another leader put in
             * place of its proposals: their outcome is lost first. */
            raft_driver_tell(self);
            err = apply_next(self); /* D2 */
        } else if (self->barrier_due && self->started) {
            err = submit_barrier(self);
        } else {
            break;
        }
    }
    return err;
}

enum err raft_driver_run(struct raft_driver *self, struct raft_event *event)
{
    enum err err = raft_driver_step(self, event);

    return err == ERR_OK ? raft_driver_settle(self) : err;
}

void raft_driver_tell(struct raft_driver *self)
{
    enum raft_role role = raft_driver_role(self);
    uint64_t term = raft_driver_term(self);
    uint64_t leader = raft_driver_leader(self);

    if (role == self->told_role && term == self->told_term && leader == self->told_leader) {
        return;
    }
    self->told_role = role;
    self->told_term = term;
    self->told_leader = leader;
    self->host.changed(self->host.arg);
}
