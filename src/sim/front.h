/*
 * What a node's front does between clients and its replica: routes changes to the leader, here or
 * over a link to its node, holds back what has no leader, keeps deadlines, answers reads as fresh
 * as they ask for.
 *
 * It follows server/change.h, server/read_index.h and server/reading.h rule by rule: what is held,
 * what is sent and certainly not done, what is unknown; one question for a read index at a time,
 * whose answer counts for the moment at which it was asked.
 *
 *      client ──request──► front ──proposal──► replica
 *                            ├───passed on───► front of the leader's node
 *                            └─read index, log, cursors
 *      client ◄──answer──────┘
 *
 * A connection keeps order both ways, until it breaks: what is on it then never arrives. What is at
 * a node that dies dies with it, and the client is told that the connection has ended, or nothing.
 */
#ifndef QUORLOG_SIM_FRONT_H
#define QUORLOG_SIM_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "checker/history.h"
#include "raft_fsm/replica.h"

struct sim_cluster;
struct sim_content;
struct sim_node;

enum sim_ask {
    SIM_ASK_CHANGE,
    SIM_ASK_READ,
    SIM_ASK_CURSOR, /* get */
    SIM_ASK_FOLLOW, /* a stream */
    SIM_ASK_INDEX,  /* of another node */
};

enum sim_request_state {
    SIM_REQUEST_COMING,
    SIM_REQUEST_HELD,
    SIM_REQUEST_CATCHING_UP,
    SIM_REQUEST_SUBMITTED,
    SIM_REQUEST_SENT,       /* to the leader's node */
    SIM_REQUEST_CONFIRMING, /* waits for a read index */
    SIM_REQUEST_APPLYING,   /* waits until so much is applied */
    SIM_REQUEST_FOLLOWING,
    SIM_REQUEST_DISOWNED, /* answered; the replica still has it */
};

/* One end of a connection, as the other end knows it: a client's, or a node's. */
struct sim_origin {
    bool is_node;
    unsigned number; /* client; or node, with its incarnation in `connection` */
    uint64_t connection;
};

struct sim_request {
    struct proposal proposal;
    struct replica_read read; /* ASK_INDEX */
    struct sim_cluster *cluster;
    enum sim_ask ask;
    enum sim_request_state state;
    struct sim_origin origin;
    unsigned node;        /* slot where it is, or goes to */
    uint64_t incarnation; /* there, when the connection was made */
    uint64_t deadline_ms;
    bool forwarded; /* by another node: it goes no further */
    enum err held_for;
    uint64_t hint;
    unsigned hints;
    bool leader_lost;
    unsigned sent_to; /* slot */
    uint64_t id;
    uint64_t passed_id;     /* SENT: of the request there */
    uint64_t peer_id;       /* of one that came over a link: what it is for there; 0: an index */
    uint64_t applied_index; /* CATCHING_UP, APPLYING: until then */
    unsigned topic;         /* name */
    struct sim_content *content;  /* PRODUCE; borrowed */
    struct cursor_change cursor;  /* CURSOR_SET, CURSOR_DELETE; ASK_CURSOR: names */
    struct topic_change settings; /* TOPIC_ALTER */
    /* Reads: */
    enum history_read_mode mode;
    uint64_t since_us; /* a question for the index may be no older; 0: none is needed */
    uint64_t lag_us;
    uint64_t at_least;
    uint64_t topic_id; /* FOLLOW: no other one of this name; 0: any */
    uint64_t offset;   /* from there; UINT64_MAX: near the end */
    uint32_t records_max;
    uint64_t mark;            /* ASK_INDEX: applied somewhere when it came */
    struct sim_request *next; /* all */
    struct sim_request **link;
    struct sim_request *after; /* in its node's list; in order of arrival */
};

/* What a node has shown. */
struct sim_shown {
    uint64_t topic_id;
    uint64_t offset;
    uint64_t *values;  /* owned */
    uint64_t *offsets; /* owned; of the values */
    size_t count;
    uint64_t next; /* one past the last offset that it stands for */
    uint64_t log_start;
    uint64_t log_end;
    uint64_t applied;
};

/* Its lists. */
void sim_shown_fini(struct sim_shown *self);
/* What of it a history says. */
void sim_shown_tell(const struct sim_shown *self, struct history_op *op);

/* On its way back. */
struct sim_answer {
    struct sim_cluster *cluster;
    struct sim_origin to;
    enum sim_ask ask;
    enum command_type type;
    unsigned node; /* id of the node that it comes from */
    struct fsm_result result;
    struct sim_content *content; /* borrowed */
    struct sim_shown shown;
    uint64_t leader_id;      /* NOT_LEADER: who leads */
    uint64_t index;          /* ASK_INDEX */
    uint64_t of_id;          /* to a node: of the request that is answered … */
    uint64_t peer_id;        /* … and of what waits for it; 0: an index */
    struct sim_answer *next; /* all */
    struct sim_answer **link;
};

/* Of a node. */
struct sim_front {
    struct sim_request *first; /* all that are here, in order of arrival */
    uint64_t timer_ms;         /* UINT64_MAX: none */
    uint64_t timer_generation;
    uint64_t leader_id; /* when it was last looked at */
    bool published;     /* since the last look at what waits */
    /* Read indexes: one question at a time. */
    bool index_asked;
    uint64_t index_id; /* of the question under way */
    uint64_t index_asked_us;
    uint64_t index_asked_ms;
    unsigned index_asked_node; /* slot */
    uint64_t index_retry_ms;
    uint64_t index_known_us; /* when the one was asked that was answered last; 0: none */
    uint64_t index_known;
};

/* A request of a client that is connected to a node. */
struct sim_request *sim_request_new(struct sim_cluster *cluster, enum sim_ask ask,
                                    const struct sim_origin *origin, unsigned node,
                                    uint64_t incarnation);
void sim_request_free(struct sim_request *self);
struct sim_node *sim_request_node(const struct sim_request *self); /* that has it */
void sim_answer_free(struct sim_answer *self);

/* It arrives at its node. */
void sim_front_arrive(struct sim_request *request);
/* An answer arrives at another node. */
void sim_front_answered(struct sim_answer *answer);
/* Its timer. */
void sim_front_tick(struct sim_node *node, uint64_t generation);
/* The replica published; takes effect with the next event. */
void sim_front_published(struct sim_node *node);
/* The process has ended: who waits is told, perhaps. Before the replica is closed; and after. */
void sim_front_end(struct sim_node *node);
void sim_front_reset(struct sim_node *node);

/* ---- serve.c ---- */

/* A read comes: what it needs. */
void sim_serve_begin(struct sim_request *request);
/* Goes on with a read that nothing keeps waiting any more. */
void sim_serve_step(struct sim_request *request);
/* Asks for a read index, if somebody waits for one. Not from inside a call of the replica's. */
void sim_serve_index(struct sim_node *node);
void sim_serve_index_known(struct sim_node *node, const struct sim_answer *answer);
void sim_serve_inquiry(struct sim_request *request);
/* Records all that the node has, when all is over. */
void sim_serve_dump(struct sim_node *node);

/* ---- between the two ---- */

/* Answers and frees, or disowns what the replica has. `from` may be NULL. */
void sim_front_reply(struct sim_request *request, const struct sim_answer *like);
/* Answers, and goes on. False: the connection has ended, and the request with it. */
bool sim_front_deliver(struct sim_request *request, const struct sim_answer *like);
void sim_front_fail(struct sim_request *request, enum err err);
/* Looks at the front again at that time, at the latest. */
void sim_front_wake(struct sim_node *node, uint64_t at_ms);
/* Out of its node's list. */
void sim_front_delist(struct sim_request *request);
/* Sends a request over a link. Returns whether there is a connection; takes it over then. */
bool sim_link_send(struct sim_node *from, struct sim_request *request);

/* ---- front_change.c ---- */

/* To whoever leads; the request may be gone afterwards. */
void sim_change_route(struct sim_request *self);
/* Back to waiting, in order: there is no leader, or no way to it. */
void sim_change_hold(struct sim_request *self, enum err why);
/* A node does not lead and says so, or who does (0: nobody known). */
void sim_change_refused(struct sim_request *self, uint64_t leader_id);
/* A broken build's: what was lost is tried again as if it were new. */
bool sim_change_try_as_new(struct sim_request *self);
/* Its deadline has passed. */
void sim_change_expire(struct sim_request *self);

#endif
