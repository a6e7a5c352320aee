/*
 * Three replicas in one process, on disks in memory, a clock that the test moves, and a network
 * that it may bend. One topic, "t".
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_REPLICA_LAB_H
#define QUORLOG_TESTS_RAFT_FSM_REPLICA_LAB_H

#include "raft_fsm/replica.h"
#include "sim/mem_io.h"

enum { LAB_NODES = 3, LAB_QUEUE_MAX = 4096 };

struct lab_node {
    struct clock clock; /* first: its functions find the node by it */
    unsigned id;
    struct mem_io disk;
    struct replica *replica; /* NULL: down */
    struct journal *journal;
    struct journal_task *tasks;
    struct journal_task **tasks_tail;
    struct replica_job *jobs;
    struct replica_job **jobs_tail;
    struct diag diag;
    bool cut;       /* from the network */
    bool jobs_held; /* they take as long as this is set */
    size_t inflight_size_max;
    size_t entries_size_max;
};

/* What is on its way; false: it is lost. May change the message. */
typedef bool (*lab_filter_cb)(struct message *message);

struct replica_lab {
    uint64_t now_ms;
    struct lab_node nodes[LAB_NODES + 1]; /* [1 …] */
    struct message queue[LAB_QUEUE_MAX];
    unsigned queue_count;
    lab_filter_cb filter;
    uint64_t fill_rate;
    uint64_t scrub_rate;
    uint64_t compact_rate;
    size_t compact_memory;
    unsigned retention_interval_ms;
    bool retention_by_wall_clock;
    int64_t wall_jump_us; /* what somebody did to all wall clocks */
    uint64_t topic_id;
    uint64_t random;
    char lines[64 * 1024]; /* log lines */
};

extern struct replica_lab lab;

/* Starts all; there is a leader, and the topic, afterwards. */
void lab_init(void);
void lab_fini(void);

void lab_start(unsigned id);
void lab_stop(unsigned id);

/* Time goes on, in small steps. */
void lab_run(uint64_t ms);
/* Until it is so; fails the test after 60 s. */
void lab_run_until(bool (*what)(void));

struct lab_node *lab_leader(void);
/* Records of `count` batches are written through the leader. */
void lab_produce(unsigned count);

/* Through the leader, as long as it takes; fails the test unless it is OK. */
struct fsm_result lab_propose(const struct command *command);

/* Alters the topic, through the leader. */
void lab_alter(const struct topic_change *change);

/* Cuts node 3 off and writes until the others no longer have what it lacks; heals. */
void lab_leave_behind(void);

struct replica_status lab_status(unsigned id);
bool lab_said(const char *text);
/* All logs are the same, byte by byte, and there are no holes. */
void lab_assert_equal(void);

#endif
