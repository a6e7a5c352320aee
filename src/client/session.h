/*
 * A client's side of the protocol: one connection to one node of the cluster, kept up, and the
 * table of what is unanswered on it.
 *
 * A session carries single tries. What is worth another try, and how long, is decided by its users
 * (client_request.c, producer.c, consumer.c): each has a `step` that does all that can be done now
 * and sets the time of the next one. The session wakes every user when the connection comes up,
 * goes down or can take more, so a step is the only place where a user acts on its own.
 *
 * Invariants:
 *   I1  A call is in the table from session_send until it is answered for good, lost or forgotten.
 *   I2  An id is used once in a session's life: an answer can only meet the try it belongs to.
 *   I3  Calls are in the table only while the state is READY or ENDING.
 *   I4  No user and no call is called from inside session_send, session_wake or session_close.
 */
#ifndef QUORLOG_CLIENT_SESSION_H
#define QUORLOG_CLIENT_SESSION_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "client/client.h"
#include "transport/transport.h"

#define SESSION_NEVER UINT64_MAX

enum {
    SESSION_TOPIC_SIZE_MAX = 200, /* characters of a topic's name, by the protocol */
    SESSION_USERS_MAX = 4096,     /* requests under way, producers, consumers */
};

struct session;

/* Whoever uses the session. Embedded in the user. */
struct session_user {
    struct session_user *prev;
    struct session_user *next;
    uint64_t wake_ns; /* when to call step; SESSION_NEVER */
    /* Do what can be done now. May remove any user. */
    void (*step)(struct session_user *self);
    /* The client closes: answer ERR_CANCELED, remove and free. */
    void (*cancel)(struct session_user *self);
};

struct call;

struct call_events {
    /*
     * A reply (error is NULL), or FRAME_ERROR (frame is that, error what it says). The call is no
     * longer in the table, but for a stream that goes on. Not ERR_OK: the frame makes no sense; the
     * connection is ended for that reason.
     */
    enum err (*answer)(struct call *self, const struct frame *frame,
                       const struct client_error *error);
    /* The connection ended before the answer. */
    void (*lost)(struct call *self, enum err err, const char *text);
};

/* One try of a request. Embedded in the user; the fields down to `repeatable` are set by it. */
struct call {
    const struct call_events *events;
    uint16_t type;
    uint16_t reply_type;
    bool stream;       /* many replies, until FRAME_ERROR or FRAME_STREAM_END */
    bool needs_leader; /* only the leader can answer it */
    bool repeatable;   /* a second try does no harm */
    bool pending;      /* in the table */
    uint64_t id;
    uint64_t sent_ns;
    struct call *prev; /* in order of sending */
    struct call *next;
};

/* Starts to connect. options as in client.h. ERR_INVALID, ERR_NOMEM. */
enum err session_new(const struct client_options *options, uv_loop_t *loop,
                     struct session **ret_session, struct err_info *info);

/* Cancels all users from the loop, and ends; `closed` comes later, and self is freed before. */
void session_close(struct session *self, void (*closed)(void *arg), void *arg);
bool session_is_closing(const struct session *self);

/* ERR_CANCELED when closing, ERR_BUSY past SESSION_USERS_MAX. Its step is called soon. */
enum err session_add(struct session *self, struct session_user *user);
void session_remove(struct session *self, struct session_user *user);

/* Calls step at that time, or earlier if an earlier time is set already. */
void session_wake(struct session *self, struct session_user *user, uint64_t at_ns);

/* Requests can be sent. */
bool session_is_ready(const struct session *self);

/* Sends a frame of call->type. body: 0 or more slices. ERR_CONNECT when not ready, ERR_BUSY when
 * the connection takes no more now (all users are woken when it does), ERR_NOMEM. */
enum err session_send(struct session *self, struct call *call, const ProtobufCMessage *header,
                      const struct slice *body, size_t body_count);

/* An answer to it will be dropped. Harmless when it is not in the table. */
void session_forget(struct session *self, struct call *call);

/* Sends a frame that belongs to a call under way and has no answer of its own: CREDIT, CANCEL. */
enum err session_send_more(struct session *self, const struct call *call, uint16_t type,
                           const ProtobufCMessage *header);

/* The failure with which all servers in turn have refused this client, in a way that will not
 * change by itself; NULL: none. */
const struct err_info *session_refusal(const struct session *self);

/* Fills info with why there is no answer: "no node of a, b answered: …", ERR_CONNECT. */
enum err session_explain(const struct session *self, struct err_info *info);

/* How long a node is borne with, in milliseconds. The defaults suit clusters whose elections take
 * well below a second; tests that wait for these times shorten them. */
struct session_times {
    uint64_t watch_ms;      /* how often all this is looked at */
    uint64_t silent_ms;     /* no frame though one is due: ping; after twice that: give up */
    uint64_t leaderless_ms; /* NO_LEADER and nothing else for so long: the next server */
    uint64_t stalled_ms;    /* no answer of a leader to what waits for one: the next server */
};
void session_set_times(struct session *self, const struct session_times *times);

/* The largest batch that the node takes; 0: not known yet. */
size_t session_batch_size_max(const struct session *self);

/* The present server's address, "" when not connected. */
const char *session_server(const struct session *self);
uint64_t session_timeout_ns(const struct session *self);
uv_loop_t *session_loop(const struct session *self);

/* Monotonic. */
uint64_t session_now_ns(void);

/* The time of the try after the `failures`-th failure (1, 2, …): 10 ms doubling to 500 ms, of which
 * half is chance. */
uint64_t session_retry_ns(uint64_t now_ns, unsigned failures);

/* What to tell a node that must answer before a deadline: a little less than what is left, so that
 * its answer is here first. At least 1. */
uint32_t session_deadline_ms(uint64_t now_ns, uint64_t deadline_ns);

/* client.c */
struct session *client_session(struct client *client);

#endif
