/*
 * What a leader does next to bring the members to where an operator wants them.
 *
 * A goal ("node 4 at n4:7437 is a voter") is reached in single steps, each of which leaves a
 * cluster that is safe to stay in. Nobody remembers a goal: whoever wants it sends it, again and
 * again, to whoever leads, and the leader decides from the members as they are:
 *
 *      ADD       no member ──► standby ──caught up, no holes, its disk known──► voter: done
 *      REMOVE    leads? hand over ──► the new leader: no member: done
 *      REPLACE   ADD the new one, then REMOVE the old one
 *      TRANSFER  hand over: done
 *
 * So a step that was taken twice, by two leaders, or by two operators with the same goal does no
 * harm, and what was left half way is taken up by sending the goal again. A pure function: tests
 * and server run the same one.
 *
 * Invariants:
 *   M1  A plan to change differs from the present members in exactly one.
 *   M2  After it a majority of the voters is healthy, and at least three are left if there were
 *       three; nobody becomes a voter who has not caught up or has holes.
 */
#ifndef QUORLOG_RAFT_FSM_MEMBERSHIP_PLAN_H
#define QUORLOG_RAFT_FSM_MEMBERSHIP_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/membership.h"

enum {
    /* Entries that a new voter may lack: what one window of replication holds. */
    MEMBER_LAG_MAX = 256,
};

enum member_goal_kind {
    MEMBER_GOAL_ADD = 1,
    MEMBER_GOAL_REMOVE = 2,
    MEMBER_GOAL_REPLACE = 3,
    MEMBER_GOAL_TRANSFER = 4,
};

struct member_goal {
    enum member_goal_kind kind;
    uint64_t id;       /* who comes (ADD, REPLACE), goes (REMOVE), leads (TRANSFER; 0: anyone) */
    uint64_t other_id; /* REPLACE: who goes. TRANSFER: who led when it was asked for; 0: unknown */
    char address[MEMBER_ADDRESS_SIZE]; /* ADD, REPLACE */
    bool under_way; /* an earlier answer said that a step was taken: a member gone is no error */
};

/* What is known of a node now. */
struct member_fact {
    uint64_t id;
    bool answered;  /* it told its holes a moment ago */
    bool heard;     /* it answers the leader's messages */
    bool matched;   /* match is known */
    uint64_t match; /* the newest entry known to be durable there */
    uint64_t holes;
};

struct member_view {
    uint64_t self_id; /* who leads */
    const struct membership *membership;
    bool changing; /* its newest change is not committed yet */
    uint64_t last_index;
    bool surveyed; /* facts were gathered */
    const struct member_fact *facts;
    unsigned fact_count;
    bool id_bound; /* goal.id is known to belong to a disk: it is, or was, a member */
};

enum member_action {
    MEMBER_DONE,
    MEMBER_WAIT,
    MEMBER_CHANGE,
    MEMBER_TRANSFER,
    MEMBER_REFUSE,
};

/* How far a goal is; what is told. */
enum member_stage {
    MEMBER_STAGE_WAITING = 1, /* for an earlier change, for a look at the members */
    MEMBER_STAGE_JOINING = 2, /* becomes a standby; its node has not been heard yet */
    MEMBER_STAGE_CATCHING_UP = 3,
    MEMBER_STAGE_PROMOTING = 4,
    MEMBER_STAGE_TRANSFERRING = 5,
    MEMBER_STAGE_REMOVING = 6,
    MEMBER_STAGE_DONE = 7,
};

struct member_plan {
    enum member_action action;
    enum member_stage stage;
    struct membership membership; /* CHANGE */
    uint64_t transfer_to;         /* TRANSFER */
    uint64_t lag;                 /* CATCHING_UP: entries */
    uint64_t holes;               /* CATCHING_UP */
    struct err_info info;         /* text of all; code of REFUSE */
};

void membership_plan(const struct member_view *view, const struct member_goal *goal,
                     struct member_plan *ret_plan);

/* The word for a stage: "catching-up". */
const char *member_stage_name(enum member_stage stage);

#endif
