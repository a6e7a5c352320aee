/*
 * A cluster of whole replicas in one process and one thread, on a clock, a network and disks of its
 * own: one seed is one history, always the same.
 *
 * What runs is what a server runs: replica, driver, libraft, journal, ballot, state machine,
 * snapshots, installs, topics' logs. Three or five nodes. 60 s of faults: killed processes, power
 * lost by one node or by all, in the middle of any system call; calls that fail; partitions, lost
 * and late messages, slow disks, transfers of leadership; files of topics that are lost, fetched
 * chunks with other contents. Then all is healed: within 20 s clients
 * must get on, and within 60 s more all nodes must be equal, without a hole. All the while, the
 * oracle.
 *
 * A node that is told of a failed call has to end (crash-stop), and is started again.
 */
#ifndef QUORLOG_SIM_CLUSTER_H
#define QUORLOG_SIM_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/nodes.h"
#include "raft_fsm/replica.h"
#include "sim/client.h"
#include "sim/disk.h"
#include "sim/events.h"
#include "sim/faults.h"
#include "sim/front.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/prng.h"
#include "sim/recorder.h"

/* What events of the driver's simulator are here. */
#define EVENT_JOB EVENT_SNAPSHOT /* a step of a node's job */
#define EVENT_IDLE EVENT_INSTALL /* a journal has had nothing to do for a moment */

struct sim_stats {
    uint64_t seeds;
    uint64_t cycles; /* of faults, and all well again */
    uint64_t answered;
    uint64_t duplicates;
    uint64_t unknown;
    uint64_t cursors;   /* changes that were made … */
    uint64_t conflicts; /* … and that were not, since another was expected */
    uint64_t altered;   /* topics */
    uint64_t forwarded;
    uint64_t reads;
    uint64_t delivered; /* records, to streams */
    uint64_t indexes;   /* for reads */
    uint64_t reads_lost;
    uint64_t elections;
    uint64_t kills;
    uint64_t power_losses;
    uint64_t deaths; /* of the above, in the middle of a call */
    uint64_t failed_calls;
    uint64_t snapshots;
    uint64_t installs;
    uint64_t filled;     /* holes */
    uint64_t refused;    /* chunks */
    uint64_t dropped;    /* fillings that were begun again */
    uint64_t resigned;   /* because of holes */
    uint64_t damaged;    /* nodes that lost files of topics */
    uint64_t cleaned;    /* passes of compaction that rewrote segments … */
    uint64_t superseded; /* … records that went in them … */
    uint64_t tombstones; /* … and those without value */
    uint64_t messages;
    uint64_t entries;
    uint64_t virtual_ms;
    struct sim_faults faults;
};

struct sim_options {
    uint64_t seed;
    unsigned nodes;      /* 3 or 5; 0: drawn */
    unsigned hours;      /* of virtual time; 0: a minute, dense */
    unsigned broken;     /* enum sim_break */
    unsigned rules_off;  /* of the driver */
    uint64_t faults;     /* that may happen: 1 << enum sim_fault */
    bool oracle_off;     /* it looks away: the checker has to find everything */
    bool trace;          /* to stdout */
    const char *history; /* a file that the history is written to; NULL: none */
};

struct sim_cluster;

/* What a node knows of a link from another one. */
struct sim_link {
    uint64_t origin;        /* incarnation there when it came up; 0: none */
    uint64_t incarnation;   /* here */
    uint64_t members_epoch; /* here, when it was looked at last */
};

/* A wall clock: it showed shown_us at since_ms, and runs at a rate of its own. */
struct sim_wall {
    int64_t shown_us;
    uint64_t since_ms;
    unsigned permille; /* 1000: right; 0: it stands still */
};

/* What was done to a node's disk that nobody has made good yet; bits. Of all nodes one at a time
 * has such. */
enum {
    SIM_HARM_FILES = 1,   /* topics' files: until all is there again */
    SIM_HARM_INDEX = 2,   /* … their indexes: until the next start */
    SIM_HARM_JOURNAL = 4, /* until it does not start and is replaced, or what is damaged is gone */
    SIM_HARM_SNAPSHOT = 8,
    SIM_HARM_BALLOT = 16,
    SIM_HARM_DISK = 32, /* it is gone, all of it */
    SIM_HARM_TOLD = 64, /* … and the others have refused its node with an empty one */
};

/* A place of a file after it was damaged. */
struct sim_mark {
    char path[96];
    uint64_t position;
    size_t size;
    uint8_t bytes[64];
};

/* A machine. Its node may be another one later, with an emptied disk and a new id. */
struct sim_node {
    struct sim_cluster *cluster; /* borrowed */
    unsigned slot;               /* the machine's number: index in cluster->nodes */
    unsigned id;                 /* 0: no node is here */
    char address[24];
    uint64_t disk_id;
    bool founder; /* it began the cluster: its configuration names the first members */
    bool wiped;   /* its disk is another one than its id's */
    bool stopped; /* by the operator; it is not started again */
    bool gone;    /* no member any more, for certain: the machine may be another node's */
    unsigned harm;
    struct sim_mark mark;
    uint64_t checked_ms;    /* whether it is whole again, last */
    unsigned whole;         /* snapshots taken since it is; 0: it is not */
    uint64_t whole_index;   /* of the last of them */
    uint64_t paused_ms;     /* the process stands still until then */
    uint64_t members_epoch; /* counts changes of members */
    struct membership members;
    struct sim_link links[SIM_NODES_MAX + 1]; /* by the other's slot */
    struct sim_disk disk;
    struct clock clock;
    struct sim_wall wall;
    struct diag diag;

    struct replica *replica; /* NULL: down */
    struct journal *journal;
    uint64_t incarnation; /* counts starts and ends */
    bool stalled;         /* its disk is slow */

    struct journal_task *queue; /* not yet given to the disk */
    struct journal_task **queue_tail;
    struct journal_task *writing; /* under way */
    bool performed;
    struct journal_task *late; /* acknowledged and not written: a broken build's */
    bool idle_due;

    struct replica_job *jobs; /* the first is under way */
    struct replica_job **jobs_tail;
    bool job_ran;

    uint64_t timer_ms; /* of the EVENT_TIMER that counts; UINT64_MAX: none */
    uint64_t timer_generation;

    bool published; /* something changed since the last look */
    uint64_t applied;
    uint64_t led_term;
    struct sim_seen seen;
    struct sim_front front;
};

/* A change whose outcome is not known, by its topic's name. */
struct sim_pending {
    struct history_op op;
    unsigned topic;
    char cursor[16]; /* its name is shorter */
};

enum { SIM_IDS_MAX = NODES_MAX - 24 }; /* then nobody is replaced any more */

/* What somebody wants of the members, until it is reached; see members.c. */
struct sim_admin {
    bool active;
    bool takes_back; /* a newcomer that did not get on */
    enum sim_fault kind;
    uint64_t since_ms;
    unsigned last_id; /* that was given to a node */
    struct member_step step;
};

struct sim_cluster {
    struct sim_options options;
    struct prng prng;
    uint64_t now_ms;
    struct events events;
    struct net net;
    struct sim_oracle oracle;
    unsigned node_count;                      /* machines in use, or used before */
    struct sim_node nodes[SIM_NODES_MAX + 1]; /* [1 …] */
    unsigned client_count;
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_request *requests; /* all */
    struct sim_answer *answers;   /* all */
    uint64_t request_ids;
    uint64_t link_ms[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* when the last thing arrives */
    struct sim_recorder recorder;
    struct sim_pending *pending; /* owned */
    size_t pending_count;
    uint64_t latest_token;     /* of all that was acknowledged */
    struct sim_stats *stats;   /* borrowed; added to */
    struct membership members; /* the first ones */
    struct sim_admin admin;
    bool healed;
    uint64_t end_ms;     /* the last faults are over */
    uint64_t chaos_ms;   /* … those of this cycle */
    uint64_t healed_ms;  /* … were */
    uint64_t answered;   /* by then */
    bool closing;        /* no new batches … */
    uint64_t closed_ms;  /* … from then on */
    uint64_t settled_ms; /* … and when holes became less last */
    uint64_t missing;    /* records in them */

    /* Drawn once for a seed. */
    struct replica_options replica;
    bool checks;              /* replica_check after every call */
    bool faults;              /* calls fail */
    unsigned wire;            /* percent of messages that are encoded and decoded */
    unsigned body_max;        /* bytes */
    unsigned pace_ms;         /* of the slowest client */
    unsigned delete_permille; /* of what sessions do */
    unsigned nemesis_ms;
    bool damage;          /* files of topics are lost */
    bool retention;       /* topics have bounds */
    bool compaction;      /* a topic's records have keys, and it is compacted */
    unsigned lies;        /* percent of fetched chunks that are not what they should be */
    unsigned open_faults; /* percent of starts in which the disk dies or fails */
};

/* Runs one seed. Returns when all is well; ends the process otherwise. */
void sim_cluster_run(const struct sim_options *options, struct sim_stats *stats);

void sim_trace(const struct sim_cluster *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The node that leads in the highest term; NULL when none does. */
struct sim_node *sim_leader(struct sim_cluster *self);

/* Whether faults of this kind are wanted; and one happens. */
static inline bool sim_may(const struct sim_cluster *self, enum sim_fault fault)
{
    return (self->options.faults >> fault & 1) != 0;
}

static inline void sim_fault(struct sim_cluster *self, enum sim_fault fault)
{
    self->stats->faults.counts[fault]++;
}

/* ---- node.c ---- */

/* The machine of a slot, without a node. */
void sim_node_init(struct sim_node *self, struct sim_cluster *cluster, unsigned slot);
void sim_node_fini(struct sim_node *self);
/* The machine is given a new disk, and with it an id: an older node's, or a new one. It is down. */
void sim_node_renew(struct sim_node *self, unsigned id);
/* Starts it, or tries again later when its disk fails meanwhile. */
void sim_node_start(struct sim_node *self);
/* Ends it where it stands; it is started again after down_ms. */
void sim_node_crash(struct sim_node *self, bool power_loss, uint64_t down_ms);
/* Ends it for good, if it is up. */
void sim_node_stop(struct sim_node *self);
/* The others told it that it has no part in the cluster: it ends; a supervisor starts it again. */
void sim_node_refused(struct sim_node *self, const char *why);
/* One of its events. */
void sim_node_take(struct sim_node *self, const struct event *event);
void sim_node_propose(struct sim_node *self, struct proposal *proposal);
void sim_node_read(struct sim_node *self, struct replica_read *read);
void sim_node_resign(struct sim_node *self);
/* What it refuses is in step->plan; what it fails with, it ends of. */
void sim_node_member_step(struct sim_node *self, struct member_step *step);

/* ---- wire.c ---- */

void sim_wire_send(struct sim_node *self, const struct message *message);
/* Whether the node takes a message that has arrived. */
bool sim_wire_admits(struct sim_node *self, const struct message *message);

/* ---- wall.c ---- */

/* Of a node: its clock and its wall clock, right but for some seconds. */
void sim_clock_init(struct sim_node *node);
int64_t sim_wall_us(const struct sim_wall *self, uint64_t now_ms);
/* It jumps, stands still, drifts; or is right again. */
void sim_wall_act(struct sim_cluster *cluster, struct sim_node *node);
void sim_wall_heal(struct sim_wall *self, uint64_t now_ms);

/* ---- members.c ---- */

void sim_members_init(struct sim_cluster *cluster);
/* The node with that id; NULL: none has it, or not any more. */
struct sim_node *sim_members_find(struct sim_cluster *cluster, uint64_t id);
/* The operator looks after the goal that is under way. */
void sim_members_act(struct sim_cluster *cluster);
/* A new goal, unless one is under way. */
void sim_members_want(struct sim_cluster *cluster, enum sim_fault kind);
/* Nothing is under way, and nothing left to do. */
bool sim_members_settled(struct sim_cluster *cluster);
/* Whether a node belongs to the cluster, as its leader knows it. */
bool sim_members_has(struct sim_cluster *cluster, const struct sim_node *node);

/* ---- damage.c ---- */

/* Something happens to the disk of a node, if the others can make it good: true. */
bool sim_damage_act(struct sim_cluster *cluster, struct sim_node *node, enum sim_fault kind);
/* A node does not open. Whether its damaged disk is why: it is to be replaced. */
bool sim_damage_explains(struct sim_node *self, enum err err);
/* A node has opened: no damage is left that it should have refused. */
void sim_damage_started(struct sim_node *self);
/* Looks whether what was harmed is whole again. */
void sim_damage_look(struct sim_cluster *cluster);
/* Nothing is harmed. */
bool sim_damage_healed(const struct sim_cluster *cluster);

/* ---- nemesis.c ---- */

void sim_nemesis_act(struct sim_cluster *self);

#endif
