/*
 * A driver and a host for it that only remembers what it was asked for. Tests play the disk, the
 * peers and the clock by hand.
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_DRIVER_LAB_H
#define QUORLOG_TESTS_RAFT_FSM_DRIVER_LAB_H

#include "raft_fsm/raft_driver.h"

enum { LAB_MAX = 256, LAB_ELECTION_MS = 1000, LAB_HEARTBEAT_MS = 100 };

/* A call of host.append. */
struct lab_append {
    uint64_t first;
    unsigned count;
};

struct lab {
    struct raft_driver *driver;
    struct raft_driver_options options;
    uint64_t now_ms;

    uint64_t term; /* as saved */
    uint64_t vote;
    unsigned ballots; /* calls of save_ballot */
    struct lab_append appends[LAB_MAX];
    unsigned append_count;
    unsigned answered;            /* of them */
    struct message sent[LAB_MAX]; /* owned */
    unsigned sent_count;
    uint64_t applied[LAB_MAX];
    unsigned applied_count;
    const struct snapshot *install; /* asked for last */
    unsigned install_count;
    unsigned changed_count;
    unsigned changed_when_applied; /* changed_count, as of the entry applied last */
    unsigned diag_count;           /* ERROR events */
    struct diag diag;
    bool apply_bounded; /* host.apply takes apply_left entries … */
    unsigned apply_left;
    enum err apply_err; /* what host.apply and save_ballot return */
    enum err ballot_err;
};

/* Options for node `id`, nothing started. */
void lab_init(struct lab *self, uint64_t id);
void lab_fini(struct lab *self);

/* Starts a driver on a disk. */
enum err lab_start(struct lab *self, const struct raft_driver_disk *disk, bool *ret_reset_journal);

/* A node that begins a cluster of nodes 1 … voters. */
void lab_bootstrap(struct lab *self, uint64_t id, unsigned voters, unsigned rules_off);

/* The first `voters` nodes vote, the next `standbys` stand by. */
struct membership lab_members(unsigned voters, unsigned standbys);

/* Entries; the caller owns the reference. */
struct entry lab_entry(uint64_t index, uint64_t term, uint32_t size);
struct entry lab_change(uint64_t index, uint64_t term, const struct membership *membership);

/* A snapshot that owns its slices. */
struct snapshot lab_snapshot(uint64_t index, uint64_t term, uint64_t membership_index,
                             const struct membership *membership);
void lab_snapshot_fini(struct snapshot *self);

/* An AppendEntries to us with `count` entries, whose references it takes over. */
enum err lab_receive_append(struct lab *self, uint64_t from, uint64_t term, uint64_t prev_index,
                            uint64_t prev_term, uint64_t commit, struct entry *entries,
                            unsigned count);
/* As above, with `count` commands of the given term. */
enum err lab_receive_commands(struct lab *self, uint64_t from, uint64_t term, uint64_t prev_index,
                              uint64_t prev_term, uint64_t commit, unsigned count);
enum err lab_receive(struct lab *self, struct message message);
enum err lab_receive_result(struct lab *self, uint64_t from, uint64_t term, uint64_t rejected,
                            uint64_t last_index);
enum err lab_receive_vote(struct lab *self, uint64_t from, uint64_t term, uint64_t last_index,
                          uint64_t last_term, bool pre_vote);

/* All appends that are not answered are durable. */
void lab_answer_appends(struct lab *self);

/* Becomes leader with the votes of all nodes up to `voters`; its barrier is durable here. */
void lab_lead(struct lab *self, unsigned voters);

/* The last message of a type that was sent; NULL. */
const struct message *lab_last(const struct lab *self, enum message_type type);
unsigned lab_count(const struct lab *self, enum message_type type);
void lab_forget(struct lab *self);

/* Lets time pass until the driver wants to be called, and calls it. */
void lab_tick(struct lab *self);

/* Proposes `count` commands of `size` bytes each. */
enum err lab_propose(struct lab *self, unsigned count, uint32_t size, uint64_t *ret_first);

#endif
