/*
 * How a driver's core begins: with what is found on the disk, or anew with what is durable, which
 * to the core is the same as a crash and is legal at any time.
 */
#include "raft_fsm/raft_driver_internal.h"

#include <string.h>

#include "base/assert.h"

void raft_driver_snapshot_fini(struct snapshot *self)
{
    block_unref(self->membership.block);
    block_unref(self->manifest.block);
    *self = (struct snapshot){0};
}

void raft_driver_snapshot_copy(struct snapshot *self, const struct snapshot *from)
{
    ASSERT(from->membership.block != NULL);
    block_ref(from->membership.block);
    if (from->manifest.block != NULL) {
        block_ref(from->manifest.block);
    }
    raft_driver_snapshot_fini(self);
    *self = *from;
}

void raft_driver_close_core(struct raft_driver *self)
{
    if (self->core.address == NULL) {
        return;
    }
    raft_close(&self->core, NULL);
    memset(&self->core, 0, sizeof self->core);
    raft_configuration_close(&self->install_members);
    raft_configuration_init(&self->install_members);
    raft_driver_snapshot_fini(&self->install);
    self->install_failed = false;
}

/* ---- the core's beginning ---- */

/* Whether we are the only voter, by the newest membership that we hold. */
static bool sole_voter_on_disk(const struct raft_driver *self)
{
    struct slice encoding = self->snapshot.membership;
    struct membership membership;
    const struct member *member;

    for (uint64_t i = raft_driver_end(self); i >= self->log.first; i--) {
        const struct entry *entry = raft_driver_log_get(&self->log, i);

        if (entry->type == ENTRY_CHANGE) {
            encoding = (struct slice){.data = entry_payload(entry), .size = entry->size};
            break;
        }
    }
    if (encoding.size == 0 ||
        membership_decode(encoding.data, encoding.size, &membership, NULL) != ERR_OK) {
        return false;
    }
    member = membership_find(&membership, self->options.id);
    return member != NULL && member->role == MEMBER_VOTER && membership_voters(&membership) == 1;
}

static enum err init_core(struct raft_driver *self)
{
    struct raft *core = &self->core;

    /* raft_init leaves out what only its older interface uses, and some that this one does. */
    memset(core, 0, sizeof *core);
    if (raft_init(core, NULL, NULL, self->options.id, self->options.address) != 0) {
        memset(core, 0, sizeof *core);
        return raft_driver_fail(self, ERR_NOMEM);
    }
    core->tracer = NULL; /* Its messages cost four times what the rest does. */
    self->core_seed = self->core_seed * 1664525u + 1013904223u;
    raft_seed(core, self->core_seed == 0 ? 1 : self->core_seed);
    raft_set_capacity_threshold(core, 0);
    raft_set_pre_vote(core, true);
    raft_set_election_timeout(core, self->options.election_ms);
    raft_set_heartbeat_timeout(core, self->options.heartbeat_ms);
    raft_set_install_snapshot_timeout(core, self->options.install_ms);
    raft_set_max_inflight_entries(core, self->options.inflight_max);
    return ERR_OK;
}

/* The log as the core wants it: an array and a batch that are its own if it fails. */
static enum err core_log(struct raft_driver *self, struct raft_entry **ret_entries)
{
    size_t count = self->log.count;
    struct raft_entry *entries;
    void *batch;

    if (count == 0) {
        *ret_entries = NULL;
        return ERR_OK;
    }
    entries = raft_malloc(count * sizeof *entries);
    batch = raft_malloc(1);
    if (entries == NULL || batch == NULL) {
        raft_free(entries);
        raft_free(batch);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        raft_driver_fill(&entries[i], raft_driver_log_get(&self->log, self->log.first + i), 1,
                         batch);
    }
    *ret_entries = entries;
    return ERR_OK;
}

/*
 * Steps RAFT_START with our snapshot and log.
 *
 * R10: a sole voter leads at once, and the core would let it lead again in the term it has, where
 * it, or another node, may have led before with other entries. So it takes a new term, with its
 * vote for itself, durably, before it begins.
 */
static enum err start_core(struct raft_driver *self)
{
    struct raft_snapshot_metadata metadata = {.index = self->snapshot.index};
    struct raft_event event = {.type = RAFT_START};
    struct raft_entry *entries;
    enum err err = init_core(self);

    if (err == ERR_OK && self->term > 0 && sole_voter_on_disk(self) && raft_driver_rule(self, 10)) {
        err = raft_driver_save_ballot(self, self->term + 1, self->options.id);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (self->snapshot.index > 0) {
        metadata.term = self->snapshot.term;
        metadata.configuration_index = self->snapshot.membership_index;
        err = raft_driver_configuration(self->snapshot.membership.data,
                                        self->snapshot.membership.size, &metadata.configuration);
        if (err != ERR_OK) {
            return raft_driver_fail(self, err);
        }
        event.start.metadata = &metadata;
    }
    err = core_log(self, &entries);
    if (err != ERR_OK) {
        raft_configuration_close(&metadata.configuration);
        return raft_driver_fail(self, err);
    }
    event.start.term = self->term;
    event.start.voted_for = self->vote;
    event.start.start_index = self->log.first;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)self->log.count;
    self->append_ms = self->now_ms;
    self->timeout_ms = 0;
    self->quiet_ms = 0;
    self->barrier_due = false;
    err = raft_driver_step(self, &event);
    if (err == ERR_OK && entries != NULL) {
        raft_free(entries[0].batch);
        raft_free(entries);
    }
    return err;
}

enum err raft_driver_reset_core(struct raft_driver *self)
{
    const struct entry *entry;
    uint64_t uncommitted;
    enum err err;

    ASSERT(self->appends.count == 0);
    ASSERT(self->stored == raft_driver_end(self));
    raft_driver_close_core(self);
    err = start_core(self);
    if (err != ERR_OK) {
        return err;
    }
    /* The core thinks that it begins a process. What we know of commitment still holds, and
     * what is applied is not applied again, so the core is told of it here. */
    ASSERT(self->commit <= raft_driver_end(self));
    if (self->core.commit_index < self->commit) {
        self->core.commit_index = self->commit;
    }
    uncommitted = self->core.configuration_uncommitted_index;
    if (uncommitted == 0 || uncommitted > self->applied) {
        return ERR_OK;
    }
    entry = raft_driver_log_get(&self->log, uncommitted);
    ASSERT(entry != NULL);
    return raft_driver_confirm(self, uncommitted, entry_payload(entry), entry->size);
}

/* ---- start ---- */

static enum err load(struct raft_driver *self, const struct raft_driver_disk *disk,
                     bool journal_void)
{
    const struct snapshot *snapshot = disk->snapshot;
    uint64_t first = disk->first_index;

    self->term = disk->term;
    self->vote = disk->vote;
    if (snapshot != NULL) {
        raft_driver_snapshot_copy(&self->snapshot, snapshot);
        self->membership = snapshot->membership;
        block_ref(self->membership.block);
        self->membership_index = snapshot->membership_index;
        self->applied = self->commit = snapshot->index;
        first = journal_void ? snapshot->index + 1 : first;
    }
    raft_driver_log_reset(&self->log, first);
    if (!journal_void) {
        for (size_t i = 0; i < disk->count; i++) {
            enum err err = raft_driver_log_push(&self->log, &disk->entries[i], 1);

            if (err != ERR_OK) {
                return raft_driver_fail(self, err);
            }
            self->applied_size += disk->entries[i].index <= self->applied
                                      ? entry_frame_size(disk->entries[i].size)
                                      : 0;
        }
    }
    self->stored = raft_driver_end(self);
    return ERR_OK;
}

enum err raft_driver_start(struct raft_driver *self, uint64_t now_ms,
                           const struct raft_driver_disk *disk, bool *ret_reset_journal,
                           struct err_info *info)
{
    bool journal_void;
    enum err err = raft_disk_check(disk, info);

    ASSERT(!self->started);
    if (err != ERR_OK) {
        return raft_driver_fail(self, err);
    }
    self->now_ms = now_ms;
    journal_void = raft_disk_journal_is_void(disk);
    err = load(self, disk, journal_void);
    if (err == ERR_OK) {
        err = start_core(self);
    }
    if (err == ERR_OK) {
        err = raft_driver_settle(self);
    }
    if (err != ERR_OK) {
        return err_set(info, err, "the core does not begin: %s", err_text(err));
    }
    *ret_reset_journal = journal_void;
    self->started = true;
    raft_driver_tell(self);
    return ERR_OK;
}
