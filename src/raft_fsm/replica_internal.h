/*
 * What the files replica*.c share: the replica itself. See replica.h for what it does.
 */
#ifndef QUORLOG_RAFT_FSM_REPLICA_INTERNAL_H
#define QUORLOG_RAFT_FSM_REPLICA_INTERNAL_H

#include "base/container.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/compact_step.h"
#include "raft_fsm/nodes_ahead.h"
#include "raft_fsm/replica.h"
#include "raft_fsm/room.h"

/* An entry that we proposed and that is not applied yet, with the proposals whose commands it
 * holds, in order. */
struct pending {
    struct replica *replica;
    struct pending *next;
    uint64_t index;
    uint64_t term;
    size_t size; /* bytes of its frame */
    struct proposal *proposals;
};

/* Proposals with acks_all that are applied and that some voter lacks (replica_acks.c). */
struct held {
    struct proposal *first;
    struct proposal **tail;
    unsigned count;
    size_t size;            /* bytes of their commands */
    uint64_t deadline_ms;   /* the earliest */
    uint64_t durable_index; /* what all voters had when they were looked through */
};

enum taking_state {
    TAKING_IDLE,
    TAKING_JOB,    /* logs are synced and the snapshot file is written, on another thread */
    TAKING_STORED, /* done; waits until the journal, too, has everything up to its index */
};

struct taking {
    enum taking_state state;
    struct snapshot snapshot; /* owns references when it is STORED; until then only its index counts
                               */
};

enum installing_state {
    INSTALLING_IDLE,
    INSTALLING_WAIT,  /* until no other job has the logs */
    INSTALLING_JOB,   /* logs are synced and the snapshot file is written */
    INSTALLING_RESET, /* the journal forgets what it had */
};

struct installing {
    enum installing_state state;
    struct snapshot snapshot; /* owns references unless idle */
};

/* What is known of another replica as a source of what is missing here. */
struct fill_peer {
    uint64_t id;            /* 0: the slot is free */
    uint64_t away_until_ms; /* it was silent, or what it gave was wrong: not asked before */
    uint64_t heard_ms;      /* of its holes; 0: never */
    bool holes;             /* it lacks batches itself */
    bool lacks;             /* it has not got what the hole under way needs */
};

struct fill_peers {
    struct fill_peer items[MEMBERSHIP_MAX];
    unsigned turn;
};

/* A segment that had to go for what others have; see replica_fill_own.c. */
struct fill_own {
    struct log_kept *kept; /* owned; NULL: none */
    struct topic *topic;   /* owned reference */
    uint64_t from;         /* [from, to) of it comes back */
    uint64_t to;
    bool reading; /* A job is under way. */
    bool dropped; /* … and nobody wants any more of it. */
};

/* Filling holes; see replica_fill.c. */
struct fill {
    struct fsm_hole hole; /* topic NULL: none is under way */
    uint64_t peer;        /* that is asked */
    uint64_t next;        /* offset to ask for; what is below came */
    bool asked;
    uint64_t asked_at_ms;
    struct slice waiting; /* a chunk that came while one is checked; owns a reference */
    uint64_t waiting_end;
    uint64_t waiting_peer; /* who sent it */
    bool checking;         /* a chunk is being checked, by a job */
    uint64_t number;       /* of the hole under way: chunks of earlier ones are void */
    struct fill_own own;
    uint64_t above;   /* where a batch ends that somebody has for the hole's end; 0: nobody */
    unsigned chunks;  /* put in in this turn */
    unsigned in_vain; /* holes in a row that nobody had anything for */
    uint64_t rest_until_ms;
    uint64_t unsynced;     /* bytes put in since the last sync began */
    uint64_t resign_at_ms; /* a leader with holes tries again */
    struct fill_peers peers;

    int64_t tokens; /* bytes that may still be asked for; below zero: owed */
    uint64_t tokens_at_ms;
    uint64_t bytes; /* put in since the replica was opened */
    uint64_t records;
    uint64_t mark_ms; /* the rates are measured from here on */
    uint64_t mark_bytes;
    uint64_t mark_records;
    uint64_t byte_rate; /* a second */
    uint64_t record_rate;
};

/* Damage that a read met, to be looked at. */
struct scrub_report {
    uint64_t topic_id;
    uint64_t offset;
};

enum { SCRUB_REPORTS_MAX = 16 };

/* Reading everything again; see replica_scrub.c. */
struct scrub {
    bool working;          /* A job is under way. */
    bool pass;             /* One is under way: the topics are its. */
    struct topic **topics; /* owned, with a reference each */
    size_t topic_count;
    size_t topic;    /* number of the one that is read */
    bool begun;      /* offset and chain are its */
    uint64_t offset; /* to be read next */
    struct chain chain;
    uint64_t next_ms; /* when */
    uint64_t pass_at_ms;
    struct scrub_report reports[SCRUB_REPORTS_MAX];
    unsigned report_count;
    uint64_t batches; /* verified since the replica was opened */
    uint64_t bytes;
    uint64_t damage;    /* places */
    uint64_t passed_ms; /* since 1970: the end of the last whole pass; 0: none yet */
};

enum cleaner_state {
    CLEANER_IDLE,
    CLEANER_NOTING,  /* keys, from cleaned_to on */
    CLEANER_LOOKING, /* whether a group of segments would change */
    CLEANER_WRITING, /* what it becomes */
    CLEANER_CLOSING, /* the new segment is brought to the disk */
    CLEANER_SYNCING, /* the topic's log is, once nobody else syncs */
};

/* Compaction of this node's copies; see replica_compact.c. */
struct cleaner {
    enum cleaner_state state;
    bool working;          /* A job is under way. */
    uint64_t next_ms;      /* when the next step is due */
    struct topic **topics; /* owned, with a reference each: of the round under way, else NULL */
    size_t topic_count;
    size_t turn;

    /* The pass under way: */
    struct topic *topic; /* owned reference; NULL: there is none */
    unsigned changes;    /* the topic's, when it began */
    bool noted;          /* It has notes; else it is about tombstones alone. */
    uint64_t noted_from;
    uint64_t clean_to;
    uint64_t tombstones_below;
    struct latest *latest; /* owned; of up to `memory` bytes */
    uint64_t memory;
    struct compactor_counts pass;
    uint64_t rewritten; /* segments */
    bool merging;       /* All groups were gone through: now it is about small ones side by side. */
    uint64_t reached;   /* What begins there cannot be replaced yet. */

    /* Its group: */
    struct fsm_group group;
    uint64_t offset;             /* to be read next; of NOTING, too */
    uint64_t first;              /* of its first batch that is shown */
    struct compactor *compactor; /* owned */
    struct log_rewrite *rewrite; /* owned */

    uint64_t bytes_in; /* of segments that were replaced, since the replica was opened */
    uint64_t bytes_out;
    uint64_t dropped; /* records */
};

enum { RETENTION_TRIMS_MAX = 16 };

/* A trim that we proposed. */
struct retention_trim {
    struct proposal proposal;
    bool under_way;
};

/* What is to be deleted; see replica_retention.c. */
struct retention {
    uint64_t next_ms;      /* when it is looked again */
    uint64_t round_ms;     /* when the round under way, or the last one, began */
    struct topic **topics; /* owned, with a reference each: of the round under way, else NULL */
    size_t topic_count;
    size_t turn;
    uint64_t term;        /* in which this replica leads; 0: it does not */
    uint64_t alterations; /* of settings, when it was looked last */
    uint64_t aged_ms;     /* what the leader's clock counted up to here is in the ages, or lost */
    uint64_t aging_ms;    /* … and will be up to here, once the one under way is applied */
    bool aging;
    struct proposal age;
    struct retention_trim trims[RETENTION_TRIMS_MAX];
    uint64_t passed_ms; /* since when files wait for a snapshot; 0: none does */
    bool wants_snapshot;
};

enum { COMPACT_PROPOSALS_MAX = 16 };

/* A COMPACT that we proposed. */
struct compact_proposal {
    struct proposal proposal;
    bool under_way;
};

/* How far nodes may clean compacted topics; see replica_compact_lead.c. */
struct compact_lead {
    uint64_t next_ms;      /* when it is looked again */
    uint64_t round_ms;     /* when the round under way, or the last one, began */
    struct topic **topics; /* owned, with a reference each: of the round under way, else NULL */
    size_t topic_count;
    size_t turn;
    struct compact_proposal proposals[COMPACT_PROPOSALS_MAX];
    bool wants_snapshot;
};

/* Leadership goes to another voter: see replica_members.c. */
struct handover {
    uint64_t until_ms; /* then it is given up; 0: none is under way */
    uint64_t retry_ms;
    uint64_t to;
    bool asked; /* the other was told to take over */
};

/* Disks that members showed and that are not known to the state machine yet. */
struct binding {
    struct node_disk learned[2 * MEMBERSHIP_MAX];
    unsigned count;
    bool under_way;
    struct proposal proposal;
};

/* Who waits for a read index, newest first. */
struct reads {
    struct replica_read *queue; /* for the next round */
    struct replica_read *asked; /* for the one under way */
    uint64_t term;              /* of that one, and its number and index */
    uint64_t round;
    uint64_t index;
};

struct replica {
    struct replica_options options; /* strings are owned copies below */
    char address[MEMBER_ADDRESS_SIZE];
    char dir[IO_PATH_SIZE];
    struct replica_host host;
    struct ballot ballot;
    struct raft_driver *driver;
    struct fsm *fsm;
    uint64_t snapshot_index; /* of the snapshot file; 0: none */

    /* Proposals: queued, then pending. */
    struct proposal *queue;
    struct proposal **queue_tail;
    size_t queue_size; /* bytes of encoded commands */
    struct pending *pending;
    struct pending **pending_tail;
    size_t pending_size; /* bytes of frames */

    struct reads reads;

    struct held held_acks;

    struct room room;
    uint64_t room_at_ms;                  /* when it is checked next */
    uint64_t short_since_ms;              /* while it is short */
    uint64_t short_peers[MEMBERSHIP_MAX]; /* those that said so last; 0: free */

    size_t applied_work;          /* in this turn */
    uint64_t size_since_snapshot; /* bytes of frames applied since the last one */
    struct taking taking;
    bool syncing_job; /* one that syncs the logs is under way: a snapshot's, also when the snapshot
                         itself was dropped, an install's, a fill's */
    struct installing installing;
    struct fill fill;
    struct scrub scrub;
    struct cleaner cleaner;
    struct retention retention;
    struct compact_lead compact_lead;
    unsigned fetches_served; /* fetch jobs under way */
    struct handover handover;
    struct binding binding;
    struct nodes_ahead nodes_ahead;

    bool opening;              /* tasks are kept back until the journal is ready */
    struct journal_task *held; /* those tasks */
    struct journal_task **held_tail;
    bool changed;               /* host.published is due */
    struct err_info apply_info; /* why apply failed */
};

/* Milliseconds now. */
uint64_t replica_now_ms(const struct replica *self);

/* Says that a call of the driver failed; apply's own reason is kept. */
enum err replica_driver_failed(struct replica *self, enum err err, struct err_info *info);

/* Hands a task to the host (or keeps it while opening). */
void replica_post_task(struct replica *self, struct journal_task *task);

/* replica_apply.c */
enum err replica_apply(void *arg /* struct replica */, const struct entry *entry);
/* A turn is over. */
void replica_apply_more(struct replica *self);

/* replica_propose.c */
void replica_fail_queue(struct replica *self, enum err err);
void replica_fail_pending(struct replica *self, enum err err);
/* The results of an entry's commands, in order of number; closes with replica_answered. */
struct pending *replica_take_pending(struct replica *self, const struct entry *entry);
void replica_answer(void *arg /* struct pending */, unsigned number,
                    const struct fsm_result *result);
void replica_answered(struct replica *self, struct pending *pending);

/* replica_members.c */
bool replica_handing_over(const struct replica *self);
uint64_t replica_handover_deadline_ms(const struct replica *self);
enum err replica_handover_step(struct replica *self, struct err_info *info);
void replica_bind_disks(struct replica *self);

/* replica_read.c */
void replica_fail_reads(struct replica *self, enum err err);

/* replica_acks.c */
void replica_init_held(struct held *held);
/* Counts the voters that have what the proposal wrote (its result is OK). True: held, since it asks
 * for more; false: done, with the result that it has now. */
bool replica_hold(struct replica *self, struct proposal *proposal);
/* Something changed: those that all voters have are done. */
void replica_confirm(struct replica *self);
/* Nobody will know any more: all are done as written. */
void replica_fail_held(struct replica *self);

/* replica_room.c */
bool replica_is_short(const struct replica *self);
/* Checks the disk when it is time, and hands over when that is needed. What the driver says. */
enum err replica_room_tick(struct replica *self);
void replica_room_wrote(struct replica *self, uint64_t size);
void replica_note_peer_room(struct replica *self, uint64_t id, bool no_room);
/* Takes proposals that grow data out of the queue, and refuses them, where there is no room. */
void replica_refuse_growth(struct replica *self);
/* What of a message can be taken: in *ret_rest, which is a borrowing copy of it. False: nothing. */
bool replica_cut_growth(const struct replica *self, const struct message *message,
                        struct message *ret_rest);

/* replica_memory.c */
void replica_memory_defaults(struct replica_options *options);
/* A leader proposes no more. */
bool replica_memory_full(const struct replica *self);
/* A snapshot is due, since it would free memory. */
bool replica_memory_crowded(const struct replica *self);
/* Takes off a follower's message, a borrowing copy, the new entries that there is no memory for. */
void replica_cut_entries(const struct replica *self, struct message *message);

/* replica_snapshot.c */
enum err replica_maybe_snapshot(struct replica *self, struct err_info *info);
void replica_drop_taking(struct replica *self);

/* replica_install.c */
void replica_install_begin(void *arg /* struct replica */, const struct snapshot *snapshot);
enum err replica_install_tick(struct replica *self, struct err_info *info);
uint64_t replica_install_deadline_ms(const struct replica *self);
enum err replica_install_reset_done(struct replica *self, struct err_info *info);

/* replica_fill.c */
enum err replica_fill_tick(struct replica *self, struct err_info *info);
uint64_t replica_fill_deadline_ms(const struct replica *self);
enum err replica_receive_fetch_result(struct replica *self, const struct message *message,
                                      struct err_info *info);
void replica_fill_status(const struct replica *self, struct replica_status *status);
void replica_fill_fini(struct replica *self);
/* Takes whole batches that came for the hole, from fill->next up to `end`. peer: 0: from here. */
void replica_fill_take(struct replica *self, const struct slice *batches, uint64_t end,
                       uint64_t peer);

/* replica_fill_own.c */
/* [from, above) of the topic's log is punched next: what lies behind it in the same segment stays
 * readable. */
void replica_own_keep(struct replica *self, struct topic *topic, uint64_t from, uint64_t above);
void replica_own_drop(struct replica *self);
/* Drops what came back, or whose topic is gone: its files can be closed. */
void replica_own_check(struct replica *self);
/* Whether what comes next is there, and reading it: then fill->own.reading; false: no memory. */
bool replica_own_serves(const struct replica *self);
bool replica_own_read(struct replica *self);

/* replica_scrub.c */
void replica_scrub_tick(struct replica *self);
uint64_t replica_scrub_deadline_ms(const struct replica *self);
void replica_scrub_status(const struct replica *self, struct replica_status *status);
void replica_scrub_fini(struct replica *self);

/* replica_compact.c */
enum err replica_compact_tick(struct replica *self, struct err_info *info);
uint64_t replica_compact_deadline_ms(const struct replica *self);
void replica_compact_status(const struct replica *self, struct replica_status *status);
void replica_compact_fini(struct replica *self);

/* replica_retention.c */
enum err replica_retention_tick(struct replica *self, struct err_info *info);
uint64_t replica_retention_deadline_ms(const struct replica *self);
void replica_retention_fini(struct replica *self);
uint64_t replica_retention_interval_ms(const struct replica *self);

/* replica_compact_lead.c */
void replica_compact_lead_tick(struct replica *self);
uint64_t replica_compact_lead_deadline_ms(const struct replica *self);
void replica_receive_cleaned(struct replica *self, const struct message *message);
void replica_compact_lead_fini(struct replica *self);

/* replica_upkeep.c */
enum err replica_upkeep_tick(struct replica *self, struct err_info *info);
uint64_t replica_upkeep_deadline_ms(const struct replica *self);

/* replica_fill_peers.c */
void replica_note_peer(struct replica *self, const struct message *append_result);
/* The next one to be asked, 0 when there is none now; those that do not lead first. */
uint64_t replica_choose_peer(struct replica *self);
/* When one that was sent away may be asked again; UINT64_MAX: nobody was. */
uint64_t replica_peers_back_ms(struct replica *self);
/* It has not got what is needed / is not asked for a while. */
void replica_peer_lacks(struct replica *self, uint64_t id);
void replica_peer_away(struct replica *self, uint64_t id, uint64_t for_ms);
void replica_peers_new_hole(struct replica *self);
/* Gives leadership away while there are holes here and somebody without could lead. */
enum err replica_resign_with_holes(struct replica *self, struct err_info *info);
uint64_t replica_resign_deadline_ms(const struct replica *self);

/* replica_fetch.c */
enum { FETCH_CHUNK_SIZE = 1024 * 1024 };
enum err replica_receive_fetch(struct replica *self, const struct message *message,
                               struct err_info *info);

/* A job of ours: what replica_job_done finishes. */
struct job {
    struct replica_job job;
    struct replica *replica;
    enum err (*finish)(struct replica *self, struct job *job, struct err_info *info);
    enum err err; /* what run returned */
    struct err_info info;
};
struct job *replica_job_of(struct replica_job *job);

#endif
