/*
 * A client's side of the protocol: one connection to one node of the cluster, kept up, and the
 * table of what is unanswered on it.
 *
 * A channel carries single tries. What is worth another try, and how long, is decided by its users
 * (client_request.c, producer.c, consumer.c): each has a `step` that does all that can be done now
 * and sets the time of the next one. The channel wakes every user when the connection comes up,
 * goes down or can take more, so a step is the only place where a user acts on its own.
 *
 * Invariants:
 *   I1  A call is in the table from channel_send until it is answered for good, lost or forgotten.
 *   I2  An id is used once in a channel's life: an answer can only meet the try it belongs to.
 *   I3  Calls are in the table only while the state is READY or ENDING.
 *   I4  No user and no call is called from inside channel_send, channel_wake or channel_close.
 */
#ifndef QUORLOG_CLIENT_CHANNEL_H
#define QUORLOG_CLIENT_CHANNEL_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "client/client.h"
#include "transport/transport.h"

#define CHANNEL_NEVER UINT64_MAX

enum {
    CHANNEL_TOPIC_SIZE_MAX = 200, /* characters of a topic's name, by the protocol */
    CHANNEL_USERS_MAX = 4096,     /* requests under way, producers, consumers */
};

struct channel;

/* Whoever uses the channel. Embedded in the user. */
struct channel_user {
    struct channel_user *prev;
    struct channel_user *next;
    uint64_t wake_ns; /* when to call step; CHANNEL_NEVER */
    /* Do what can be done now. May remove any user. */
    void (*step)(struct channel_user *self);
    /* The client closes: answer ERR_CANCELED, remove and free. */
    void (*cancel)(struct channel_user *self);
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

/* Connects when it has its first user. options as in client.h. ERR_INVALID (servers, a
 * frame_size_max below 64 KiB), ERR_NOMEM. */
enum err channel_new(const struct client_options *options, uv_loop_t *loop,
                     struct channel **ret_channel, struct err_info *info);

/* Cancels all users from the loop, and ends; `closed` comes later, and self is freed before. */
void channel_close(struct channel *self, void (*closed)(void *arg), void *arg);
bool channel_is_closing(const struct channel *self);

/* Before the first user: prefers nodes that do not lead to the one that does, and begins with the
 * first-th server (1 …; 0: one by chance). */
void channel_prefer_followers(struct channel *self, unsigned first);

unsigned channel_server_count(const struct channel *self);

/* The present node cannot do what is wanted: goes to the next server. What is unanswered is lost.
 * Does nothing when there is no other server, or no connection now. Not from inside a callback. */
void channel_leave(struct channel *self, enum err err, const char *text);

/* ERR_CANCELED when closing, ERR_BUSY past CHANNEL_USERS_MAX. Its step is called soon. */
enum err channel_add(struct channel *self, struct channel_user *user);
void channel_remove(struct channel *self, struct channel_user *user);

/* Calls step at that time, or earlier if an earlier time is set already. */
void channel_wake(struct channel *self, struct channel_user *user, uint64_t at_ns);

/* Requests can be sent. */
bool channel_is_ready(const struct channel *self);

/* Sends a frame of call->type. body: 0 or more slices. ERR_CONNECT when not ready, ERR_BUSY when
 * the connection takes no more now (all users are woken when it does), ERR_NOMEM. */
enum err channel_send(struct channel *self, struct call *call, const ProtobufCMessage *header,
                      const struct slice *body, size_t body_count);

/* An answer to it will be dropped. Harmless when it is not in the table. */
void channel_forget(struct channel *self, struct call *call);

/* Sends a frame that belongs to a call under way and has no answer of its own: CREDIT, CANCEL. */
enum err channel_send_more(struct channel *self, const struct call *call, uint16_t type,
                           const ProtobufCMessage *header);

/* The failure with which all servers in turn have refused this client, in a way that will not
 * change by itself, or that none was reached in connect_timeout_ms; NULL: none. */
const struct err_info *channel_refusal(const struct channel *self);

/* Fills info with why there is no answer: "no node of a, b answered: …", ERR_CONNECT. */
enum err channel_explain(const struct channel *self, struct err_info *info);

/* How long a node is borne with, in milliseconds. The defaults suit clusters whose elections take
 * well below a second; tests that wait for these times shorten them. */
struct channel_times {
    uint64_t watch_ms;      /* how often all this is looked at */
    uint64_t silent_ms;     /* no frame though one is due: ping; after twice that: give up */
    uint64_t leaderless_ms; /* NO_LEADER and nothing else for so long: the next server */
    uint64_t stalled_ms;    /* no answer of a leader to what waits for one: the next server */
    uint64_t try_ms;        /* a read's, at one of several servers: to become fresh enough … */
    uint64_t answer_ms;     /* … and to get its answer here: the next server */
    uint64_t hello_ms;      /* no answer to the hello for so long, twice as long each time that all
                               have been tried: the next server */
};
const struct channel_times *channel_times(const struct channel *self);
void channel_set_times(struct channel *self, const struct channel_times *times);

/* The largest batch that the node takes; 0: not known yet. */
size_t channel_batch_size_max(const struct channel *self);

/* The present server's address, "" when not connected. */
const char *channel_server(const struct channel *self);
uint64_t channel_timeout_ns(const struct channel *self);
uv_loop_t *channel_loop(const struct channel *self);

/* Monotonic. */
uint64_t channel_now_ns(void);

/* A time that a caller gave, cut to some days. */
uint64_t channel_ms_to_ns(uint64_t ms);

/* The time of the try after the `failures`-th failure (1, 2, …): 10 ms doubling to 500 ms, of which
 * half is chance. */
uint64_t channel_retry_ns(uint64_t now_ns, unsigned failures);

/* What to tell a node that must answer before a deadline: a little less than what is left, so that
 * its answer is here first. At least 1. */
uint32_t channel_deadline_ms(uint64_t now_ns, uint64_t deadline_ns);

/* client.c */
struct channel *client_channel(struct client *client);
struct channel *client_reading_channel(struct client *client); /* the same, with one server */

#endif
