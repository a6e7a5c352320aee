/*
 * A change: a request that only the leader can carry out (produce, create, alter and delete a
 * topic, a new producer id or epoch, set and delete a cursor), from its frame to its answer.
 *
 *                     leader elsewhere                        answer
 *        +-----------------------------> SENT ------------------------------------> OVER
 *        |                                 | refused: NOT_LEADER                      ^
 *      route                               v                                          |
 *        |  no leader, no link, full     HELD --deadline: certainly not written-------+
 *        +-----------------------------> (in order; routed again when something       |
 *        |                               changes)                                     |
 *        |                                 ^ refused: not proposed                    |
 *        |  leader is here               SUBMITTED ----------answer------------------>+
 *        +----------------------------->   ^                                          |
 *        |                                 |                                          |
 *        |  topic not known yet          CATCHING_UP (until what the log held at the  |
 *        +-----------------------------> start is applied) ---------------------------+
 *
 * What the answer promises: a change that is HELD or CATCHING_UP, or was refused, has certainly
 * done nothing; once it is SENT or SUBMITTED, anything but an answer (the deadline, the end of a
 * connection, leadership lost) leaves the outcome unknown.
 */
#ifndef QUORLOG_SERVER_CHANGE_H
#define QUORLOG_SERVER_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "raft_fsm/group.h"
#include "server/deadline.h"
#include "server/remote.h"
#include "server/session.h"

enum { CHANGE_HEADER_SIZE_MAX = 1024 };

enum change_state {
    CHANGE_ROUTING, /* nobody has it: just come, or just come back */
    CHANGE_HELD,
    CHANGE_CATCHING_UP,
    CHANGE_SUBMITTED,
    CHANGE_SENT,
    CHANGE_OVER,
};

struct change;

/* What distinguishes one sort of change from another. */
struct change_kind {
    uint16_t reply_type;
    const char *verb; /* for texts: "produce to" */
    /* Fills the command; it may own references. ERR_AGAIN: a topic is not known, or, unless
     * caught_up, may not be all there. Anything else is refused, with self->why. */
    enum err (*command)(struct change *self, struct command *ret_command);
    void (*reply)(struct change *self, const struct fsm_result *result);
    /* Says more of a result that is no success. NULL: the error's text will do. */
    void (*refuse)(const struct change *self, const struct fsm_result *result,
                   struct failure *failure);
    /* The header for passing it on; at most CHANGE_HEADER_SIZE_MAX bytes. */
    size_t (*pack)(const struct change *self, uint32_t deadline_ms, uint8_t *to);
};

struct change {
    struct request request;
    struct front *front;
    const struct change_kind *kind;
    enum change_state state;
    struct group_request submission;
    struct passed passed;
    struct deadline deadline;
    uint64_t deadline_ms;
    struct change **list; /* that it is in, by its state; NULL: none */
    struct change *prev;
    struct change *next;
    bool forwarded;         /* another node passed it on: it goes no further */
    bool caught_up;         /* an unknown topic is certainly unknown */
    struct err_info why;    /* the command cannot be made */
    bool leader_lost;       /* SENT: the node that has it leads no more */
    enum err held_for;      /* HELD: why */
    uint64_t applied_index; /* CATCHING_UP: until then */
    uint64_t hint;          /* who leads, as a node that refused it said; 0: nobody said */
    unsigned hints;         /* that were followed */
    char topic[TOPIC_NAME_SIZE_MAX + 1];
    struct member_step *step; /* owned; NULL: it is a command */
    bool acks_all;            /* PRODUCE: these three */
    bool has_expect;
    uint64_t expect_offset;
    struct producer_claim claim; /* INIT_PRODUCER of an id that exists; id 0: of a new one */
    struct slice body;           /* owns a reference */
    uint8_t body_digest[DIGEST_SIZE];
    bool digested;
    uint64_t trim_start; /* TOPIC_TRIM: these three */
    int64_t trim_time_us;
    bool trim_by_time;
    struct cursor_change *cursor;  /* owned; NULL: it changes none */
    struct topic_change *settings; /* owned; TOPIC_ALTER; and TOPIC_CREATE, which has `to` only */
};

struct changes {
    struct change *held;
    struct change *catching_up;
    struct change *sent;
    struct deadline retry;
    uint64_t leader_id; /* when it was last looked at */
    uint64_t size;      /* bytes of all, those without a session too */
    bool crowded;       /* They are near requests_size_max: sessions that have some are not read. */
    unsigned count;
};

void changes_init(struct front *front);

/* A change for a request; the body is referenced, not copied. ERR_BUSY over requests_size_max,
 * ERR_NOMEM. */
enum err change_new(struct session *session, const struct frame *frame,
                    const struct change_kind *kind, struct change **ret_change);

/* Begins it, once: it answers and frees itself. deadline_ms: from now; 0: 30 s. */
void change_start(struct change *self, uint32_t deadline_ms);

/* Something changed: links, room. */
void changes_retry(struct front *front);

/* The group published. */
void changes_published(struct front *front);

/* The group is done with it. */
void change_answered(struct group_request *submission);

/* The node stops: what nobody else has is refused. */
void changes_stop(struct front *front);

bool changes_wait(const struct changes *self);

#endif
