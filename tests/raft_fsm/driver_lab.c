#include "driver_lab.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- the host ---- */

static enum err on_save_ballot(void *arg, uint64_t term, uint64_t vote)
{
    struct lab *self = arg;

    if (self->ballot_err != ERR_OK) {
        return self->ballot_err;
    }
    ck_assert(term > self->term || (term == self->term && self->vote == 0));
    self->term = term;
    self->vote = vote;
    self->ballots++;
    return ERR_OK;
}

static void on_append(void *arg, const struct entry *entries, unsigned count)
{
    struct lab *self = arg;

    ck_assert_uint_lt(self->append_count, LAB_MAX);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_uint_eq(entries[i].index, entries[0].index + i);
        ck_assert_uint_le(entries[i].term, self->term); /* D1 */
    }
    self->appends[self->append_count++] = (struct lab_append){entries[0].index, count};
}

static void on_send(void *arg, const struct message *message)
{
    struct lab *self = arg;

    ck_assert_uint_lt(self->sent_count, LAB_MAX);
    ck_assert_int_eq(message_copy(message, &self->sent[self->sent_count++]), ERR_OK);
}

static enum err on_apply(void *arg, const struct entry *entry)
{
    struct lab *self = arg;

    if (self->apply_err != ERR_OK) {
        return self->apply_err;
    }
    if (self->apply_bounded && self->apply_left == 0) {
        return ERR_AGAIN;
    }
    self->apply_left -= self->apply_bounded ? 1 : 0;
    ck_assert_uint_lt(self->applied_count, LAB_MAX);
    self->changed_when_applied = self->changed_count;
    self->applied[self->applied_count++] = entry->index;
    return ERR_OK;
}

static void on_install(void *arg, const struct snapshot *snapshot)
{
    struct lab *self = arg;

    self->install = snapshot;
    self->install_count++;
}

static void on_changed(void *arg)
{
    struct lab *self = arg;

    self->changed_count++;
}

static void on_diag(void *arg, const char *line, size_t size)
{
    struct lab *self = arg;

    (void)line;
    ck_assert_uint_gt(size, 0);
    self->diag_count++;
}

/* ---- the lab ---- */

void lab_init(struct lab *self, uint64_t id)
{
    *self = (struct lab){0};
    self->diag = (struct diag){
        .level = DIAG_ERROR, .node_id = id, .clock = clock_real(), .write = on_diag, .arg = self};
    self->options = (struct raft_driver_options){.id = id,
                                                 .address = "node:1",
                                                 .seed = 7,
                                                 .heartbeat_ms = LAB_HEARTBEAT_MS,
                                                 .election_ms = LAB_ELECTION_MS,
                                                 .diag = &self->diag};
}

void lab_forget(struct lab *self)
{
    for (unsigned i = 0; i < self->sent_count; i++) {
        message_fini(&self->sent[i]);
    }
    self->sent_count = 0;
}

void lab_fini(struct lab *self)
{
    if (self->driver != NULL) {
        raft_driver_check(self->driver);
    }
    raft_driver_free(self->driver);
    lab_forget(self);
}

enum err lab_start(struct lab *self, const struct raft_driver_disk *disk, bool *ret_reset_journal)
{
    struct raft_driver_host host = {.arg = self,
                                    .save_ballot = on_save_ballot,
                                    .append = on_append,
                                    .send = on_send,
                                    .apply = on_apply,
                                    .install = on_install,
                                    .changed = on_changed};
    struct err_info info;
    enum err err;

    self->term = disk->term;
    self->vote = disk->vote;
    ck_assert_int_eq(raft_driver_new(&self->options, &host, &self->driver), ERR_OK);
    err = raft_driver_start(self->driver, self->now_ms, disk, ret_reset_journal, &info);
    if (err == ERR_OK) {
        raft_driver_check(self->driver);
    } else {
        ck_assert_uint_gt(strlen(info.text), 0);
    }
    return err;
}

struct membership lab_members(unsigned voters, unsigned standbys)
{
    struct membership membership = {.count = 0};

    for (unsigned i = 1; i <= voters + standbys; i++) {
        char address[16];

        (void)snprintf(address, sizeof address, "node%u:1", i);
        ck_assert_int_eq(
            membership_add(&membership, i, address, i <= voters ? MEMBER_VOTER : MEMBER_STANDBY),
            ERR_OK);
    }
    return membership;
}

struct entry lab_entry(uint64_t index, uint64_t term, uint32_t size)
{
    struct block *block = entry_block_new(size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    memset(block->data + ENTRY_HEADER_SIZE, (int)(index + term), size);
    entry_seal(block, size, index, term, ENTRY_COMMAND, &entry);
    return entry;
}

struct entry lab_change(uint64_t index, uint64_t term, const struct membership *membership)
{
    uint32_t size = (uint32_t)membership_encoded_size(membership);
    struct block *block = entry_block_new(size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    membership_encode(membership, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, size, index, term, ENTRY_CHANGE, &entry);
    return entry;
}

struct snapshot lab_snapshot(uint64_t index, uint64_t term, uint64_t membership_index,
                             const struct membership *membership)
{
    size_t size = membership_encoded_size(membership);
    struct block *block = block_new(size);
    struct block *manifest = block_new(8);

    ck_assert_ptr_nonnull(block);
    ck_assert_ptr_nonnull(manifest);
    membership_encode(membership, block->data);
    memset(manifest->data, 1, 8);
    return (struct snapshot){.index = index,
                             .term = term,
                             .membership_index = membership_index,
                             .membership = {block, block->data, size},
                             .manifest = {manifest, manifest->data, 8}};
}

void lab_snapshot_fini(struct snapshot *self)
{
    block_unref(self->membership.block);
    block_unref(self->manifest.block);
}

void lab_bootstrap(struct lab *self, uint64_t id, unsigned voters, unsigned rules_off)
{
    struct membership members = lab_members(voters, 0);
    struct entry entry = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &entry, .count = 1};
    bool reset = true;

    lab_init(self, id);
    self->options.rules_off = rules_off;
    ck_assert_int_eq(lab_start(self, &disk, &reset), ERR_OK);
    ck_assert(!reset);
    entry_unref(&entry);
}

enum err lab_receive(struct lab *self, struct message message)
{
    enum err err;

    message.to = self->options.id;
    err = raft_driver_receive(self->driver, self->now_ms, &message);
    raft_driver_check(self->driver);
    return err;
}

enum err lab_receive_append(struct lab *self, uint64_t from, uint64_t term, uint64_t prev_index,
                            uint64_t prev_term, uint64_t commit, struct entry *entries,
                            unsigned count)
{
    struct message message = {.type = MESSAGE_APPEND, .from = from, .term = term};
    enum err err;

    message.append.prev_index = prev_index;
    message.append.prev_term = prev_term;
    message.append.commit = commit;
    message.append.entries = count > 0 ? entries : NULL;
    message.append.count = count;
    err = lab_receive(self, message);
    for (unsigned i = 0; i < count; i++) {
        entry_unref(&entries[i]);
    }
    return err;
}

enum err lab_receive_commands(struct lab *self, uint64_t from, uint64_t term, uint64_t prev_index,
                              uint64_t prev_term, uint64_t commit, unsigned count)
{
    struct entry entries[LAB_MAX];

    for (unsigned i = 0; i < count; i++) {
        entries[i] = lab_entry(prev_index + 1 + i, term, 8);
    }
    return lab_receive_append(self, from, term, prev_index, prev_term, commit, entries, count);
}

enum err lab_receive_result(struct lab *self, uint64_t from, uint64_t term, uint64_t rejected,
                            uint64_t last_index)
{
    struct message message = {.type = MESSAGE_APPEND_RESULT, .from = from, .term = term};

    message.append_result.rejected = rejected;
    message.append_result.last_index = last_index;
    return lab_receive(self, message);
}

enum err lab_receive_vote(struct lab *self, uint64_t from, uint64_t term, uint64_t last_index,
                          uint64_t last_term, bool pre_vote)
{
    struct message message = {.type = MESSAGE_VOTE, .from = from, .term = term};

    message.vote.last_index = last_index;
    message.vote.last_term = last_term;
    message.vote.pre_vote = pre_vote;
    return lab_receive(self, message);
}

void lab_answer_appends(struct lab *self)
{
    while (self->answered < self->append_count) {
        unsigned calls = self->append_count - self->answered;

        self->answered += calls;
        ck_assert_int_eq(raft_driver_appended(self->driver, self->now_ms, calls), ERR_OK);
        raft_driver_check(self->driver);
    }
}

void lab_tick(struct lab *self)
{
    uint64_t deadline = raft_driver_deadline_ms(self->driver);

    self->now_ms = deadline > self->now_ms ? deadline : self->now_ms;
    ck_assert_int_eq(raft_driver_tick(self->driver, self->now_ms), ERR_OK);
    raft_driver_check(self->driver);
}

/* Grants what is asked for, from one node after the other, until it has gone on. */
static void grant(struct lab *self, unsigned voters, bool pre_vote)
{
    uint64_t term = raft_driver_term(self->driver);

    for (uint64_t id = 1; id <= voters; id++) {
        struct message message = {
            .type = MESSAGE_VOTE_RESULT, .from = id, .term = pre_vote ? term + 1 : term};

        if (id == self->options.id || raft_driver_term(self->driver) != term ||
            raft_driver_role(self->driver) != RAFT_ROLE_CANDIDATE) {
            continue;
        }
        message.vote_result.pre_vote = pre_vote;
        message.vote_result.granted = true;
        ck_assert_int_eq(lab_receive(self, message), ERR_OK);
    }
}

void lab_lead(struct lab *self, unsigned voters)
{
    lab_tick(self);
    ck_assert_int_eq(raft_driver_role(self->driver), RAFT_ROLE_CANDIDATE);
    grant(self, voters, true);
    grant(self, voters, false);
    ck_assert_int_eq(raft_driver_role(self->driver), RAFT_ROLE_LEADER);
    lab_answer_appends(self);
}

const struct message *lab_last(const struct lab *self, enum message_type type)
{
    for (unsigned i = self->sent_count; i > 0; i--) {
        if (self->sent[i - 1].type == type) {
            return &self->sent[i - 1];
        }
    }
    return NULL;
}

unsigned lab_count(const struct lab *self, enum message_type type)
{
    unsigned count = 0;

    for (unsigned i = 0; i < self->sent_count; i++) {
        count += self->sent[i].type == type ? 1 : 0;
    }
    return count;
}

enum err lab_propose(struct lab *self, unsigned count, uint32_t size, uint64_t *ret_first)
{
    struct proposal_block payloads[LAB_MAX] = {{0}};
    enum err err;

    for (unsigned i = 0; i < count; i++) {
        payloads[i] = (struct proposal_block){.block = entry_block_new(size), .size = size};
        ck_assert_ptr_nonnull(payloads[i].block);
        memset(payloads[i].block->data + ENTRY_HEADER_SIZE, (int)i, size);
    }
    err = raft_driver_propose(self->driver, self->now_ms, payloads, count, ret_first);
    if (err != ERR_OK) {
        for (unsigned i = 0; i < count; i++) {
            block_unref(payloads[i].block);
        }
    }
    raft_driver_check(self->driver);
    return err;
}
