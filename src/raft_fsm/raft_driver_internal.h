/*
 * What the driver's files share, and nobody else: its state, one step of the core, the translation
 * between our messages and libraft's.
 *
 *      raft_driver.c          life cycle, disk and time; what is asked of a driver
 *      raft_driver_start.c    how the core begins, and begins anew
 *      raft_driver_step.c     one step of the core and what comes of it
 *      raft_driver_receive.c  rules on what peers say
 *      raft_driver_send.c     rules on what we say
 *      raft_driver_change.c   members and leadership
 *      raft_driver_read.c     rounds that confirm a term, for reads
 *      raft_driver_log.c      the entries in memory
 *
 * Rules R1–R17 are needed because of what libraft 0.22.1 does, R18–R20 for reads, of which it knows
 * nothing; each is explained where it is kept.
 *
 * Memory, in 0.22.1 (it differs in other releases):
 *   - A payload is never copied. The core reads that of a RAFT_CHANGE only, in our block, and frees
 *     none; what it frees is `batch`, so that is a dummy from raft_malloc, one for each
 *     AppendEntries: ours again when the update has entries, freed by the core otherwise.
 *   - Arrays in events and messages stay ours. Arrays in an update are the core's, until its next
 *     step.
 *   - The configuration in an event is the core's from then on.
 */
#ifndef QUORLOG_RAFT_FSM_RAFT_DRIVER_INTERNAL_H
#define QUORLOG_RAFT_FSM_RAFT_DRIVER_INTERNAL_H

#include <raft.h>

#include "raft_fsm/raft_driver.h"
#include "raft_fsm/raft_driver_log.h"

#if RAFT_VERSION_NUMBER != 2201
#error "the driver's rules and memory ownership hold for libraft 0.22.1 only"
#endif

/* A call of host.append that is not yet answered. */
struct raft_driver_append {
    uint64_t first;
    uint64_t valid_to; /* the last of its entries that is still in our log; < first: none */
};

/* A ring of them, oldest first. */
struct raft_driver_appends {
    struct raft_driver_append *slots; /* owned */
    size_t capacity;                  /* 0 or a power of two */
    size_t start;
    size_t count;
};

/* What was last said to a peer, and when it was last heard. */
struct raft_driver_peer {
    uint64_t id; /* 0: free */
    uint64_t sent_ms;
    uint64_t heard_ms; /* an answer in our term; 0: none yet */
    uint64_t commit;
    uint64_t confirmed; /* the last round that it answered, in our term; 0: none */
};

struct raft_driver {
    struct raft_driver_options options; /* defaults filled in; address is owned */
    struct raft_driver_host host;
    enum err failed; /* sticky */
    bool started;
    uint64_t now_ms;

    struct raft core;
    unsigned core_seed; /* of the next core */
    uint64_t term;      /* as saved */
    uint64_t vote;

    struct raft_driver_log log;
    uint64_t commit;     /* R13: our own maximum */
    uint64_t applied;    /* <= commit */
    size_t applied_size; /* bytes of the frames in log that are applied */
    uint64_t stored;     /* durable here, and in our log */
    struct raft_driver_appends appends;

    struct snapshot snapshot;                  /* newest; index 0: none */
    struct snapshot install;                   /* being installed; index 0: none */
    uint64_t membership_index;                 /* of the newest applied ENTRY_CHANGE; 0: none */
    struct slice membership;                   /* its payload; owns a reference */
    struct raft_configuration install_members; /* the core's gift, to be given back */
    bool install_failed;                       /* core reset when all appends are answered */

    bool apply_waits;                 /* the host took no more entries: asked in the next tick */
    bool barrier_due;                 /* R14 */
    uint64_t timeout_ms;              /* last RAFT_TIMEOUT (R13) */
    uint64_t quiet_ms;                /* no RAFT_TIMEOUT before (R11) */
    uint64_t news_ms;                 /* when peers are told of commit; 0: they need not be */
    uint64_t led_ms;                  /* when we last became leader (R8) */
    uint64_t append_ms;               /* last AppendEntries or InstallSnapshot of our term (R7) */
    bool rejected;                    /* an AppendEntries was, in this step */
    const struct message *vote_asked; /* R7: the vote request that this step is about */
    const struct snapshot *event_snapshot; /* that this step is about */

    uint64_t round;       /* of reads, the last one begun; counts on from term to term */
    uint64_t first_round; /* R19: of our term as leader */
    uint64_t round_ms;    /* when it is asked for again; 0: it need not be */

    struct raft_driver_peer peers[MEMBERSHIP_MAX];
    enum raft_event_type event; /* that this step is about */

    /* What host.changed was last told of. */
    enum raft_role told_role;
    uint64_t told_term;
    uint64_t told_leader;

    /* The entries of the present event, as the core and as we see them; and of a message sent. */
    unsigned scratch_max;
    struct raft_entry *core_entries;
    struct entry *entries;
    const struct entry *event_entries;
    unsigned event_count;
    struct entry *send_entries;
};

static inline bool raft_driver_rule(const struct raft_driver *self, unsigned number)
{
    return (self->options.rules_off & (1u << number)) == 0;
}

/* Term of an entry that we hold, or of the snapshot's; 0 when not known. */
static inline uint64_t raft_driver_term_of(const struct raft_driver *self, uint64_t index)
{
    const struct entry *entry = raft_driver_log_get(&self->log, index);

    if (entry != NULL) {
        return entry->term;
    }
    return index == self->snapshot.index ? self->snapshot.term : 0;
}

/* The newest entry's index, or the snapshot's. */
static inline uint64_t raft_driver_end(const struct raft_driver *self)
{
    return raft_driver_log_last(&self->log);
}

/* The role of a member in the membership in force; -1 when it is none. */
int raft_driver_member_role(const struct raft_driver *self, uint64_t id);
unsigned raft_driver_voters(const struct raft_driver *self);

/* The one place where libraft's codes become ours. */
enum err raft_driver_err(int rv);

/* Remembers a failure for ever. */
enum err raft_driver_fail(struct raft_driver *self, enum err err);

/* ---- raft_driver_step.c ---- */

/* One step of the core, and all that its update asks for but applying. */
enum err raft_driver_step(struct raft_driver *self, struct raft_event *event);

/* Applies what is committed and begins our term with a barrier where the core does not. */
enum err raft_driver_settle(struct raft_driver *self);

/* Tells the host of a changed role, term or leader. */
void raft_driver_tell(struct raft_driver *self);

/* raft_driver_step and raft_driver_settle. */
enum err raft_driver_run(struct raft_driver *self, struct raft_event *event);

/* Makes term and vote durable, if they differ from what is. */
enum err raft_driver_save_ballot(struct raft_driver *self, uint64_t term, uint64_t vote);

/* Hands entries to the host's journal. */
enum err raft_driver_append(struct raft_driver *self, const struct entry *entries, unsigned count);

/* Decodes the encoding in payload for the core. ERR_CORRUPT, ERR_NOMEM. */
enum err raft_driver_configuration(const uint8_t *payload, size_t size,
                                   struct raft_configuration *ret_configuration);

/* Tells the core that the membership at index, encoded in payload, is committed. */
enum err raft_driver_confirm(struct raft_driver *self, uint64_t index, const uint8_t *payload,
                             size_t size);

/* Submits one entry of ours; takes the block over on success. */
enum err raft_driver_submit(struct raft_driver *self, struct block *block, uint32_t size,
                            enum entry_type type);

/* Fills the core's view of entries: terms, types, and the payload of changes. */
void raft_driver_fill(struct raft_entry *to, const struct entry *entries, unsigned count,
                      void *batch);

/* ---- raft_driver_read.c ---- */

/* We begin to lead: what was confirmed before is void. */
void raft_driver_read_reset(struct raft_driver *self);

/* Asks those voters again that have not answered. */
void raft_driver_send_confirms(struct raft_driver *self);

void raft_driver_receive_confirm(struct raft_driver *self, const struct message *message);
void raft_driver_receive_confirm_result(struct raft_driver *self, const struct message *message);

/* ---- raft_driver_send.c ---- */

/* The record of what was last said to a peer; one is taken over when all are in use. */
struct raft_driver_peer *raft_driver_peer(struct raft_driver *self, uint64_t id);

/* Translates and sends one message of the core. */
void raft_driver_send(struct raft_driver *self, const struct raft_message *message);

/* Tells those peers of the commit index that have all that is committed and do not know it. */
void raft_driver_send_commit(struct raft_driver *self);

/* R15: tells the sender of a stale request our term. */
void raft_driver_send_stale(struct raft_driver *self, uint64_t to, uint64_t rejected);

/* ---- raft_driver_start.c ---- */

/* Begins the core anew from what is durable; no append may be under way. */
enum err raft_driver_reset_core(struct raft_driver *self);

/* Gives back the core's memory, and what belongs to an install. Fine when there is none. */
void raft_driver_close_core(struct raft_driver *self);

void raft_driver_snapshot_fini(struct snapshot *self);
/* Takes references. */
void raft_driver_snapshot_copy(struct snapshot *self, const struct snapshot *from);

#endif
