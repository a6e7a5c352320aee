/*
 * The clients of a simulated cluster: what programs do with the client library.
 *
 *   producers  send batches, several under way; with an id they try again, through any node, until
 *              they are answered; without one every batch is tried once
 *   sessions   do one thing after the other: read as fresh as they like, get, set and delete
 *              cursors, alter and delete topics
 *   streams    follow a topic, and go on elsewhere where they stopped
 *
 * All of it is recorded, but for what alters topics: that is for the oracle, which compares the
 * state of all nodes.
 */
#ifndef QUORLOG_SIM_CLIENT_H
#define QUORLOG_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/front.h"
#include "sim/oracle.h"

enum {
    SIM_PRODUCERS_MAX = 6,
    SIM_SESSIONS_MAX = 4,
    SIM_STREAMS_MAX = 2,
    SIM_CLIENTS_MAX = SIM_PRODUCERS_MAX + SIM_SESSIONS_MAX + SIM_STREAMS_MAX,
    SIM_WINDOW_MAX = 5,       /* batches of a producer under way … */
    SIM_OUTSTANDING_MAX = 12, /* … and tries of one without an id */
};

struct sim_connection {
    unsigned node; /* slot */
    uint64_t incarnation;
    uint64_t number;
    bool broken;      /* what is sent now never arrives */
    uint64_t last_ms; /* when the last request arrives: they are in order */
    uint64_t back_ms; /* when the last answer comes */
    uint64_t heard_ms;
    uint64_t pause_until_ms; /* before the next one is used */
};

/* Where a producer is in a topic. */
struct sim_position {
    uint64_t topic_id;
    uint32_t sequence;
};

struct sim_producer {
    bool retries;         /* with a producer id; else every batch is tried once */
    uint64_t producer_id; /* 0: none yet */
    uint16_t epoch;
    bool claims; /* wants the next epoch: as a program that starts anew, or was fenced */
    bool asked;  /* for an id, for an epoch, or for a topic */
    unsigned topic;
    uint64_t topic_id;              /* 0: not known */
    struct sim_position *positions; /* owned */
    size_t position_count;
    struct sim_content *window[SIM_WINDOW_MAX]; /* not yet answered, in order */
    unsigned count;
    unsigned sent; /* of those, on this connection */
    struct sim_content *once[SIM_OUTSTANDING_MAX];
    unsigned outstanding;
};

/* What a session, or a stream, has under way. */
struct sim_session {
    bool busy;
    struct history_op op;
    unsigned topic;
    uint64_t topic_id; /* that it follows */
    uint64_t next;     /* a stream's; UINT64_MAX: near the end */
    uint64_t token;    /* the highest that it knows of */
    bool carries;      /* it asks for its token at every other node */
    bool deletes;      /* what is under way is that of a topic */
    bool silent;       /* what is under way is not recorded */
    bool subscribed;
    struct cursor_change change;
    uint64_t revision; /* as an answer told it last */
};

enum sim_client_kind { SIM_PRODUCER, SIM_SESSION, SIM_STREAM };

struct sim_client {
    unsigned number;
    enum sim_client_kind kind;
    uint32_t recorded; /* its number in the history */
    uint64_t sequence; /* of its operations */
    unsigned pace_ms;
    struct sim_connection connection;
    struct sim_producer producer;
    struct sim_session session;
};

/* All of them, as the seed says. */
void sim_clients_init(struct sim_cluster *cluster);
void sim_clients_fini(struct sim_cluster *cluster);
/* Time for one to do something. */
void sim_client_act(struct sim_cluster *cluster, struct sim_client *self);
/* An answer arrives. */
void sim_client_take(struct sim_answer *answer);
/* The history ends here: what is under way will never be answered. */
void sim_clients_abort(struct sim_cluster *cluster);
/* Nobody waits for anything. */
bool sim_clients_idle(const struct sim_cluster *cluster);

/* ---- connection.c ---- */

void sim_connection_open(struct sim_cluster *cluster, struct sim_client *client, unsigned node);
/* To some node; often the one that leads; a little later. */
void sim_connection_renew(struct sim_cluster *cluster, struct sim_client *client);
struct sim_request *sim_connection_request(struct sim_cluster *cluster, struct sim_client *client,
                                           enum sim_ask ask);
/* On its way, unless the connection breaks. */
void sim_connection_send(struct sim_client *client, struct sim_request *request);
/* When an answer comes that is sent now; UINT64_MAX: never. */
uint64_t sim_connection_back(struct sim_cluster *cluster, unsigned client, uint64_t number);

/* ---- producer.c, session.c, stream.c ---- */

void sim_producer_init(struct sim_cluster *cluster, struct sim_client *client);
void sim_producer_act(struct sim_cluster *cluster, struct sim_client *client);
void sim_producer_take(struct sim_cluster *cluster, struct sim_client *client,
                       const struct sim_answer *answer);
bool sim_producer_idle(const struct sim_client *client);
void sim_producer_abort(struct sim_cluster *cluster, struct sim_client *client);

void sim_session_init(struct sim_cluster *cluster, struct sim_client *client);
void sim_session_act(struct sim_cluster *cluster, struct sim_client *client);
void sim_session_take(struct sim_cluster *cluster, struct sim_client *client,
                      const struct sim_answer *answer);
void sim_session_abort(struct sim_cluster *cluster, struct sim_client *client);
/* The outcomes that are not known, of changes by a topic's name: once all topics are known. */
void sim_session_close(struct sim_cluster *cluster);

void sim_stream_init(struct sim_cluster *cluster, struct sim_client *client);
void sim_stream_act(struct sim_cluster *cluster, struct sim_client *client);
void sim_stream_take(struct sim_cluster *cluster, struct sim_client *client,
                     const struct sim_answer *answer);

#endif
