#include "raft_fsm/recovery.h"

#include <string.h>

#include "base/assert.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/manifest.h"

/* A stopped node's state, opened. */
struct state {
    struct snapshot snapshot; /* index 0: none */
    struct journal *journal;
    struct journal_contents contents;
    struct ballot ballot;
    bool journal_void; /* its entries end before the snapshot, or contradict it */
};

static void close_state(struct state *self)
{
    ballot_close(&self->ballot);
    if (self->journal != NULL) {
        journal_close(self->journal);
        journal_contents_fini(&self->contents);
    }
    snapshot_fini(&self->snapshot);
}

/* As the driver judges at start: an install that a crash cut short. */
static bool is_void(const struct state *self)
{
    const struct journal_contents *contents = &self->contents;
    uint64_t index = self->snapshot.index;

    if (index == 0 || contents->first_index == index + 1) {
        return false;
    }
    return contents->first_index + contents->count <= index ||
           contents->entries[index - contents->first_index].term != self->snapshot.term;
}

static enum err open_journal(struct state *self, struct io *io, const char *dir, uint64_t node_id,
                             struct err_info *info)
{
    char journal_dir[IO_PATH_SIZE];
    enum err err = io_path(journal_dir, dir, "journal", info);

    return err != ERR_OK
               ? err
               : journal_open(
                     &(struct journal_options){.io = io, .dir = journal_dir, .node_id = node_id},
                     &self->journal, &self->contents, info);
}

static enum err open_state(struct state *self, struct io *io, const char *dir, uint64_t node_id,
                           struct err_info *info)
{
    enum err err;

    *self = (struct state){.ballot = {.fd = -1}};
    /* Without a ballot nothing was ever promised here; opening the journal would make one. */
    err = ballot_open(&self->ballot, io, dir, node_id, false, info);
    if (err != ERR_OK) {
        return err;
    }
    err = snapshot_load(io, dir, &self->snapshot, info);
    if (err == ERR_NOT_FOUND) {
        self->snapshot = (struct snapshot){0};
        err = ERR_OK;
    }
    if (err == ERR_OK) {
        err = open_journal(self, io, dir, node_id, info);
    }
    if (err == ERR_OK &&
        self->contents.first_index > (self->snapshot.index == 0 ? 1 : self->snapshot.index + 1)) {
        err = err_set(info, ERR_CORRUPT, "entries are missing before %llu",
                      (unsigned long long)self->contents.first_index);
    }
    if (err != ERR_OK) {
        close_state(self);
        return err;
    }
    self->journal_void = is_void(self);
    return ERR_OK;
}

/* The newest members in the log, or the snapshot's. */
static enum err newest_members(const struct state *self, struct membership *ret_membership,
                               struct err_info *info)
{
    const struct slice *encoding = &self->snapshot.membership;

    for (size_t i = self->journal_void ? 0 : self->contents.count; i > 0; i--) {
        const struct entry *entry = &self->contents.entries[i - 1];

        if (entry->type == ENTRY_CHANGE) {
            return membership_decode(entry_payload(entry), entry->size, ret_membership, info);
        }
    }
    if (self->snapshot.index == 0) {
        *ret_membership = (struct membership){0};
        return ERR_OK;
    }
    return membership_decode(encoding->data, encoding->size, ret_membership, info);
}

static enum err report(const struct state *self, struct recovery_report *ret_report,
                       struct err_info *info)
{
    struct recovery_report report = {
        .term = self->ballot.term,
        .last_term = self->snapshot.term,
        .last_index = self->snapshot.index,
        .snapshot_index = self->snapshot.index,
    };
    enum err err = newest_members(self, &report.membership, info);

    if (err != ERR_OK) {
        return err;
    }
    if (!self->journal_void && self->contents.count > 0) {
        const struct entry *last = &self->contents.entries[self->contents.count - 1];

        report.last_term = last->term;
        report.last_index = last->index;
    }
    ASSERT(report.last_index >= report.snapshot_index);
    *ret_report = report;
    return ERR_OK;
}

enum err recovery_inspect(struct io *io, const char *dir, uint64_t node_id,
                          struct recovery_report *ret_report, struct err_info *info)
{
    struct state state;
    enum err err = open_state(&state, io, dir, node_id, info);

    ASSERT(node_id != 0);
    if (err != ERR_OK) {
        return err;
    }
    err = report(&state, ret_report, info);
    close_state(&state);
    return err;
}

/* The change that makes the node the only voter, in `term`. */
static enum err append_change(struct state *self, const struct recovery_report *before,
                              uint64_t node_id, const char *address, struct err_info *info)
{
    struct membership alone = {.count = 0};
    struct block *block;
    struct entry entry;
    size_t size;
    enum err err = membership_add(&alone, node_id, address, MEMBER_VOTER);

    if (err != ERR_OK) {
        return err_set(info, ERR_INVALID, "'%.200s' is no address", address);
    }
    size = membership_encoded_size(&alone);
    block = entry_block_new((uint32_t)size);
    if (block == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    membership_encode(&alone, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, (uint32_t)size, before->last_index + 1, self->ballot.term, ENTRY_CHANGE,
               &entry);
    if (self->journal_void) {
        err = journal_reset(self->journal, before->last_index + 1, info);
    }
    if (err == ERR_OK) {
        err = journal_append(self->journal, &entry, 1, info);
    }
    entry_unref(&entry);
    return err;
}

enum err recovery_begin_anew(struct io *io, const char *dir, uint64_t node_id, const char *address,
                             struct recovery_report *ret_report, struct err_info *info)
{
    struct recovery_report before;
    struct state state;
    enum err err = open_state(&state, io, dir, node_id, info);

    ASSERT(node_id != 0 && address[0] != '\0');
    if (err != ERR_OK) {
        return err;
    }
    err = report(&state, &before, info);
    if (err == ERR_OK && (before.last_index == 0 || before.membership.count == 0)) {
        err = err_set(info, ERR_NOT_FOUND, "this node was never a member: it holds nothing");
    }
    if (err == ERR_OK) {
        ASSERT(state.ballot.term >= before.last_term);
        err = ballot_write(&state.ballot, state.ballot.term + 1, node_id, info);
    }
    if (err == ERR_OK) {
        err = append_change(&state, &before, node_id, address, info);
    }
    close_state(&state);
    if (err == ERR_OK) {
        *ret_report = before;
    }
    return err;
}
