/*
 * The driver of libraft's core: events in, things to do out.
 *
 * This file pair is the only one that sees <raft.h>. libraft 0.22.1 decides elections, replication
 * and commitment; it does no I/O, keeps no payload and reads no clock, and it has sharp edges: the
 * driver surrounds it with the rules R1–R20, which are numbered and explained in the .c file where
 * each is kept. Memory ownership differs in other releases, hence the exact version.
 *
 * The driver does no I/O and has no thread, no clock and no randomness of its own either: the
 * same code runs in a server and, by the hundred thousand lifetimes, in a simulator. Its owner
 *   - calls it with what happened (a message came, time passed, a write is durable, a proposal),
 *   - and does what it asks for through `struct raft_driver_host`, in the order of the calls.
 * One thread; the host's functions must not call back into the driver, except for the accessors.
 *
 * Any result but OK and those documented means that the core and the driver are no longer of one
 * mind, or that the disk failed: the owner stops the process.
 *
 * Invariants:
 *   D1  Term and vote are durable (save_ballot) before anything else of a step is done.
 *   D2  Entries are applied once each, in order, only when committed, never while a snapshot
 *       installs; the commit index the owner sees never goes down. All that is committed is applied
 *       before a call returns, unless the host said that it waits.
 *   D3  A message that says "I have entries up to i" leaves only after append reported i durable.
 *   D4  In memory: every entry from first_index to last_index, and the newest snapshot.
 *   D5  No message of an older term reaches the core; no rejection or success that libraft invents
 *       reaches a peer.
 *   D6  A confirmed round of reads: when it began, no other leader of a later term had been
 *       elected, and its index covers everything that was committed by then.
 */
#ifndef QUORLOG_RAFT_FSM_RAFT_DRIVER_H
#define QUORLOG_RAFT_FSM_RAFT_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/diag.h"
#include "base/err.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/message.h"
#include "raft_fsm/raft_disk.h"

struct raft_driver;

enum raft_role { RAFT_ROLE_FOLLOWER, RAFT_ROLE_CANDIDATE, RAFT_ROLE_LEADER };

struct raft_driver_options {
    uint64_t id;              /* > 0; bound to this disk for ever (R17) */
    const char *address;      /* in, copied: "host:port" */
    uint64_t seed;            /* of the core's own random timeouts */
    unsigned heartbeat_ms;    /* 0: 50 */
    unsigned election_ms;     /* timeouts are drawn from [election_ms, 2 × election_ms]; 0: 300 */
    unsigned news_ms;         /* a leader with nothing else to say tells of a new commit index
                                 after this time; 0: its next heartbeat does */
    unsigned install_ms;      /* before a snapshot is sent again; 0: 60 000 */
    unsigned inflight_max;    /* entries sent to a peer and not yet answered; 0: 256 */
    size_t message_size_max;  /* bytes of entries in one message; 0: 1 MiB (one larger entry is
                                 sent alone) */
    size_t trailing_size;     /* bytes of entries kept behind a snapshot; 0: 16 MiB */
    unsigned trailing_min;    /* entries kept behind a snapshot at least; 0: inflight_max + 1 */
    size_t trailing_size_max; /* … as long as they are not more bytes than that; 0: whatever */
    const struct diag *diag;  /* borrowed; may be NULL */
    unsigned rules_off;       /* bit n: rule Rn is not kept. Only for tests that show that each
                                 rule is needed; 0 everywhere else. */
};

struct raft_driver_host {
    void *arg;

    /* Make term and vote (0: none) durable, before returning. */
    enum err (*save_ballot)(void *arg, uint64_t term, uint64_t vote);

    /*
     * Write entries[0 … count), consecutive, to the journal, durably, in order with all earlier
     * calls. entries[0].index at or below the last one written means: truncate from it on, then
     * append. borrowed; the host takes references. Each call is answered, in order, by
     * raft_driver_appended.
     */
    void (*append)(void *arg, const struct entry *entries, unsigned count);

    /* Send to message->to; may be lost. borrowed until return; the host takes references. */
    void (*send)(void *arg, const struct message *message);

    /*
     * A committed entry, the next one. ERR_AGAIN: not now, since enough was applied in this turn:
     * nothing was done, raft_driver_tick is due at once, and asks again; meanwhile all else goes
     * on. Any other failure stops the process.
     */
    enum err (*apply)(void *arg, const struct entry *entry);

    /*
     * Replace state machine and journal by this snapshot, durably, then call
     * raft_driver_installed (or raft_driver_install_failed). The snapshot is borrowed until then.
     * Appends that were under way before are void: they need not be written, but each is still
     * answered by raft_driver_appended, before raft_driver_installed.
     */
    void (*install)(void *arg, const struct snapshot *snapshot);

    /* Role, term or leader changed. Leaving the leader's role: the outcome of what was proposed
     * and not yet applied is unknown. */
    void (*changed)(void *arg);
};

/* options and host are copied. */
enum err raft_driver_new(const struct raft_driver_options *options,
                         const struct raft_driver_host *host, struct raft_driver **ret_driver);
void raft_driver_free(struct raft_driver *self);

/*
 * Begins, once. now_ms: monotonic milliseconds, as in all calls below; never goes down.
 * *ret_reset_journal: the entries on disk end before the snapshot or contradict it; the owner
 * resets its journal to snapshot->index + 1 before anything else is written (they were not used).
 * ERR_CORRUPT with text when the disk's state makes no sense.
 */
enum err raft_driver_start(struct raft_driver *self, uint64_t now_ms,
                           const struct raft_driver_disk *disk, bool *ret_reset_journal,
                           struct err_info *info);

/* When raft_driver_tick wants to be called next, milliseconds; ask after every call. */
uint64_t raft_driver_deadline_ms(const struct raft_driver *self);
enum err raft_driver_tick(struct raft_driver *self, uint64_t now_ms);

/* A raft message (not FETCH…) that message_decode verified. Borrowed; the driver takes references.
 * Messages from unknown nodes or at the wrong time are dropped. */
enum err raft_driver_receive(struct raft_driver *self, uint64_t now_ms,
                             const struct message *message);

/* A payload to propose: a block from entry_block_new with the payload written. */
struct proposal_block {
    struct block *block; /* owned; taken over on success */
    uint32_t size;       /* bytes of payload */
};

/*
 * Proposes entries of type ENTRY_COMMAND, in one message a follower and one journal write;
 * 1 <= count <= inflight_max. They get the indexes *ret_first_index … and the current term.
 * ERR_NOT_LEADER: nothing was done. While a transfer of leadership is under way: ERR_NOT_LEADER.
 */
enum err raft_driver_propose(struct raft_driver *self, uint64_t now_ms,
                             const struct proposal_block *payloads, unsigned count,
                             uint64_t *ret_first_index);

/* The oldest `calls` calls of host.append not yet answered are durable (or void, see install). */
enum err raft_driver_appended(struct raft_driver *self, uint64_t now_ms, unsigned calls);

/*
 * The owner has a durable snapshot at snapshot->index <= applied; the driver takes references and
 * drops entries that are no longer needed. Afterwards the journal may be trimmed up to
 * raft_driver_first_index() - 1. Ignored (OK) when a snapshot is being installed or it is not newer
 * than the last one. Its membership is what raft_driver_snapshot_meta gave when it was begun.
 */
enum err raft_driver_compact(struct raft_driver *self, uint64_t now_ms,
                             const struct snapshot *snapshot);

/* The newest entry index that a snapshot may stand at: applied and durable here. */
uint64_t raft_driver_snapshot_index(const struct raft_driver *self);

/* The committed membership as of the applied index, for a snapshot: its entry's index and its
 * encoding (borrowed until the next call). Term of the applied entry. */
void raft_driver_snapshot_meta(const struct raft_driver *self, uint64_t *ret_term,
                               uint64_t *ret_membership_index, struct slice *ret_membership);

enum err raft_driver_installed(struct raft_driver *self, uint64_t now_ms);

/* The install can't be finished (its source is gone, say); nothing was changed on the disk that
 * contradicts the old state. The core begins anew from what is durable. */
enum err raft_driver_install_failed(struct raft_driver *self, uint64_t now_ms);

/*
 * Proposes a new membership that differs from the present one in one member. ERR_NOT_LEADER;
 * ERR_AGAIN when the rules do not allow it yet (text says what it waits for: R8, R14, an earlier
 * change; a voter that was silent for four election timeouts is not waited for); ERR_INVALID when
 * they never will (R9: the leader itself; fewer than three voters left, unless there never were).
 */
enum err raft_driver_change(struct raft_driver *self, uint64_t now_ms,
                            const struct membership *membership, struct err_info *info);

/* Hands leadership to a voter (0: the most up-to-date one) that has all entries: ERR_AGAIN while it
 * has not; ERR_NOT_LEADER; ERR_NOT_FOUND, ERR_INVALID (not a voter, or ourselves). Done, or given
 * up after an election timeout, when raft_driver_transferring is false again. */
enum err raft_driver_transfer(struct raft_driver *self, uint64_t now_ms, uint64_t id);
bool raft_driver_transferring(const struct raft_driver *self);

/*
 * Leader only: begins a round, in which the voters are asked whether they still follow this term.
 * When it is confirmed (raft_driver_read_confirmed has reached *ret_round), *ret_index is a read
 * index for every read that had arrived before this call: a replica that has applied it shows all
 * that had been acknowledged by then, by whatever leader (D6). No log is written, no clock trusted.
 * ERR_NOT_LEADER; ERR_AGAIN while raft_driver_read_ready is false. A round that is not confirmed
 * when another begins, or leadership ends, is given up.
 */
enum err raft_driver_read_begin(struct raft_driver *self, uint64_t now_ms, uint64_t *ret_round,
                                uint64_t *ret_index);

/* ---- accessors ---- */

enum raft_role raft_driver_role(const struct raft_driver *self);
uint64_t raft_driver_term(const struct raft_driver *self);
uint64_t raft_driver_leader(const struct raft_driver *self); /* 0: not known */
uint64_t raft_driver_commit_index(const struct raft_driver *self);
uint64_t raft_driver_applied_index(const struct raft_driver *self);
uint64_t raft_driver_first_index(const struct raft_driver *self); /* oldest entry in memory */
uint64_t raft_driver_last_index(const struct raft_driver *self);
uint64_t raft_driver_stored_index(const struct raft_driver *self); /* durable here */
bool raft_driver_installing(const struct raft_driver *self);
/* Bytes that the entries held take, and of their frames those that are not applied yet, whoever
 * proposed them. */
size_t raft_driver_memory(const struct raft_driver *self);
size_t raft_driver_unapplied_size(const struct raft_driver *self);

/* Leader only: may begin a round of reads (R20). */
bool raft_driver_read_ready(const struct raft_driver *self);

/* The last round of reads, of those that this driver began in its present term as leader, that is
 * confirmed; 0: none. */
uint64_t raft_driver_read_confirmed(const struct raft_driver *self);

/* The membership in force (the newest in the log, committed or not). */
void raft_driver_membership(const struct raft_driver *self, struct membership *ret_membership);

/* Leader only: whether a peer answered within four election timeouts. */
bool raft_driver_heard(const struct raft_driver *self, uint64_t id);

/* Whether a change of the members is in the log and not known to be committed. */
bool raft_driver_changing(const struct raft_driver *self);

/* Leader only: what is known to be durable on a member; false when not known. */
bool raft_driver_match_index(const struct raft_driver *self, uint64_t id, uint64_t *ret_index);

/* Leader only: how many voters, itself included, are known to have the entry at index on disk; and
 * the index up to which all of them have all. */
unsigned raft_driver_durable_voters(const struct raft_driver *self, uint64_t index,
                                    unsigned *ret_voters);
uint64_t raft_driver_durable_index(const struct raft_driver *self);

/* The entry at index, borrowed until the next call that is not an accessor; NULL when not held. */
const struct entry *raft_driver_entry(const struct raft_driver *self, uint64_t index);

/* ASSERTs all that can be checked between calls. */
void raft_driver_check(const struct raft_driver *self);

#endif
