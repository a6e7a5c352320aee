/*
 * The connection of a channel.
 *
 * Happy path: the link comes up, a Hello goes out, the HelloReply is checked, and all users are
 * woken; they send calls, whose answers find them by id.
 *
 * Failure modes: the connection cannot be made, ends, speaks nonsense, or the hello is refused; the
 * node is silent (a ping, then given up), or does not even answer the hello; it has no leader for
 * longer than an election takes, or keeps what waits for one to itself, while another node may have
 * one. All lead to the next server of the list; what was unanswered is `lost`. Once every server
 * has failed, delays double.
 *
 *             on_up          become_ready
 *   DOWN ─────────────► HELLO ─────────► READY ─────┐
 *    ▲ ▲ ▲               │  │ fail         │  │ fail │ on_down
 *    │ │ └── on_down ────┘  ▼              │  ▼      │
 *    │ └───── on_down ─── ENDING ◄──────────── …     │
 *    └───────────────────────────────────────────────┘   on_down: then link_move to the next server
 *
 *   any ──► CLOSING ──► (freed)     channel_close; release, when link and timer are closed
 *
 * Link and timer call from the loop's thread, which is the only one.
 */
#include "client/channel_internal.h"

#include <stdio.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

enum {
    PROTOCOL_VERSION = 1,
    FRAME_SIZE_LEAST = 64 << 10, /* what any node must be able to say */
    HELD_MS = 1000,              /* a connection that lasted so long was a good one */
    NEXT_SERVER_MIN_MS = 50,
    NEXT_SERVER_MAX_MS = 500,
    /* Of the link's own retries when there are several servers: the channel moves it before. */
    LINK_RETRY_MS = 2000,
    CONNECT_MS = 1000, /* likewise: one that does not even accept */
    HELLO_DOUBLINGS_MAX = 3,
};

/* A connection that is no good any more: `down` follows. */
static void fail(struct channel *self, enum err err, const char *text)
{
    ASSERT(err != ERR_OK);
    if (self->state == CHANNEL_HELLO || self->state == CHANNEL_READY) {
        channel_move(self, CHANNEL_ENDING);
        link_reset(self->link, err, text);
    }
}

void channel_leave(struct channel *self, enum err err, const char *text)
{
    if (self->server_count > 1 && self->state == CHANNEL_READY) {
        fail(self, err, text);
    }
}

/* ---- frames ---- */

static enum err decode_error(const struct frame *frame, Quorlog__Error **ret_message,
                             struct client_error *ret_error)
{
    Quorlog__Error *message = quorlog__error__unpack(NULL, frame->header_size, frame->header);

    if (message == NULL) {
        return ERR_PROTOCOL;
    }
    if (message->code >= 0) {
        quorlog__error__free_unpacked(message, NULL);
        return ERR_PROTOCOL;
    }
    *ret_error = (struct client_error){
        .err = (enum err)message->code, /* perhaps from the future; the flags say what to do */
        .retryable = message->retryable,
        .outcome_unknown = message->outcome_unknown,
        .text = message->text[0] != '\0' ? message->text : err_text((enum err)message->code),
        .leader_id = message->leader_id,
        .log_start = message->log_start,
        .log_end = message->log_end,
    };
    if (message->cursor != NULL) {
        ret_error->cursor = (struct client_cursor){.offset = message->cursor->offset,
                                                   .revision = message->cursor->revision,
                                                   .owner = message->cursor->owner,
                                                   .token = message->cursor->raft_index};
    }
    *ret_message = message;
    return ERR_OK;
}

/* Copies the cluster's id, or compares it with the one seen before. */
static enum err check_hello(struct channel *self, const Quorlog__HelloReply *reply,
                            struct err_info *info)
{
    if (reply->protocol_version != PROTOCOL_VERSION) {
        return err_set(info, ERR_VERSION, "the node speaks version %u of the protocol, not %d",
                       reply->protocol_version, PROTOCOL_VERSION);
    }
    if (reply->frame_size_max < FRAME_SIZE_LEAST || reply->batch_size_max == 0 ||
        strlen(reply->cluster_id) >= sizeof self->cluster_id) {
        return err_set(info, ERR_PROTOCOL, "the node's HelloReply makes no sense");
    }
    if (self->cluster_id[0] != '\0' && strcmp(self->cluster_id, reply->cluster_id) != 0) {
        return err_set(info, ERR_WRONG_CLUSTER, "the node belongs to cluster '%s', not '%s'",
                       reply->cluster_id, self->cluster_id);
    }
    memcpy(self->cluster_id, reply->cluster_id, strlen(reply->cluster_id) + 1);
    return ERR_OK;
}

static void become_ready(struct channel *self, const Quorlog__HelloReply *reply)
{
    struct conn_limits limits = self->limits;

    ASSERT(self->calls == NULL); /* I3 */
    limits.hello_ms = 0;
    conn_established(link_conn(self->link), &limits);
    self->batch_size_max = reply->batch_size_max;
    self->peer_frame_size_max = reply->frame_size_max;
    self->refusals = 0;
    self->refused = false;
    self->connect_by_ns = CHANNEL_NEVER;
    self->unreached = false;
    self->met_leader = false;
    self->leaderless_ns = 0;
    self->ready_ns = channel_now_ns();
    self->leader_heard_ns = self->ready_ns;
    self->pinged = false;
    channel_move(self, CHANNEL_READY);
    channel_wake_all(self);
}

/* The leader has enough to do; when no other node is there, it is taken the next time. */
static bool passes_leader(struct channel *self, const Quorlog__HelloReply *reply)
{
    if (!self->prefers_followers || self->met_leader || self->server_count < 2 ||
        reply->leader_id == 0 || reply->leader_id != reply->node_id) {
        return false;
    }
    self->met_leader = true;
    return true;
}

static void on_hello_frame(struct channel *self, const struct frame *frame)
{
    Quorlog__HelloReply *reply = NULL;
    Quorlog__Error *message;
    struct client_error error;
    struct err_info info = {.code = ERR_OK};

    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        if (decode_error(frame, &message, &error) != ERR_OK) {
            fail(self, ERR_PROTOCOL, "an Error frame that is none");
            return;
        }
        fail(self, error.err, error.text);
        quorlog__error__free_unpacked(message, NULL);
        return;
    }
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY) {
        reply = quorlog__hello_reply__unpack(NULL, frame->header_size, frame->header);
    }
    if (reply == NULL) {
        fail(self, ERR_PROTOCOL, "the node did not answer the hello with one");
        return;
    }
    if (check_hello(self, reply, &info) == ERR_OK && passes_leader(self, reply)) {
        fail(self, ERR_AGAIN, "it leads, and followers are asked first");
    } else if (info.code == ERR_OK) {
        become_ready(self, reply);
    } else {
        fail(self, info.code, info.text);
    }
    quorlog__hello_reply__free_unpacked(reply, NULL);
}

static bool may_leave(const struct channel *self)
{
    const struct call *call;

    if (self->server_count < 2) {
        return false;
    }
    DL_FOREACH(self->calls, call)
    {
        if (!call->repeatable) {
            return false;
        }
    }
    return true;
}

/* A node that was cut off from its leader keeps saying so, while others may reach one. */
static void note_leader(struct channel *self, const struct call *call,
                        const struct client_error *error)
{
    uint64_t now_ns = channel_now_ns();

    if (!call->needs_leader) {
        return;
    }
    /* A failure that is not for another try, or a gap in sequences, was found by a leader. */
    if (error == NULL || !error->retryable || error->err == ERR_SEQUENCE_GAP) {
        self->leader_heard_ns = now_ns;
        self->leaderless_ns = 0;
    } else if (error->err == ERR_NO_LEADER && self->leaderless_ns == 0) {
        self->leaderless_ns = now_ns;
    }
}

static enum err answer_call(struct channel *self, struct call *call, const struct frame *frame)
{
    Quorlog__Error *message;
    struct client_error error;
    bool over = !call->stream || frame->type != call->reply_type;
    enum err err;

    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_ERROR) {
        if (decode_error(frame, &message, &error) != ERR_OK) {
            return ERR_PROTOCOL;
        }
        note_leader(self, call, &error);
        channel_forget(self, call); /* I1 */
        err = call->events->answer(call, frame, &error);
        quorlog__error__free_unpacked(message, NULL);
        return err;
    }
    if (frame->type != call->reply_type &&
        !(call->stream && frame->type == QUORLOG__FRAME_TYPE__FRAME_STREAM_END)) {
        return ERR_PROTOCOL;
    }
    note_leader(self, call, NULL);
    if (over) {
        channel_forget(self, call); /* I1 */
    }
    return call->events->answer(call, frame, NULL);
}

static void on_ready_frame(struct channel *self, const struct frame *frame)
{
    struct call *call;
    enum err err;
    char text[100];

    self->heard_ns = channel_now_ns();
    self->pinged = false;
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_PING_REPLY) {
        return;
    }
    call = channel_find_call(self, frame->request_id);
    if (call == NULL && frame->request_id >= self->next_id) {
        fail(self, ERR_PROTOCOL, "an answer to a request that was never made");
        return;
    }
    if (call == NULL) {
        return; /* Forgotten. */
    }
    err = answer_call(self, call, frame);
    if (err != ERR_OK) {
        (void)snprintf(text, sizeof text, "a frame of type %u that makes no sense here",
                       frame->type); /* It fits. */
        fail(self, err, text);
    }
}

static void on_frame(struct link *link, void *arg, const struct frame *frame)
{
    struct channel *self = arg;

    ASSERT(self->link == link);
    if (self->state == CHANNEL_HELLO) {
        on_hello_frame(self, frame);
    } else if (self->state == CHANNEL_READY) {
        on_ready_frame(self, frame);
    }
}

/* ---- the connection ---- */

/* A node that stands still accepts connections, as its kernel does it. A busy one gets more time
 * when the others were no better. */
static void expect_hello(struct channel *self)
{
    unsigned rounds = self->failures / self->server_count;
    unsigned doublings = rounds < HELLO_DOUBLINGS_MAX ? rounds : HELLO_DOUBLINGS_MAX;

    self->hello_by_ns = CHANNEL_NEVER;
    if (self->server_count > 1) {
        self->hello_by_ns = channel_now_ns() + (self->times.hello_ms << doublings) * NS_PER_MS;
        channel_wake(self, &self->watch, self->hello_by_ns);
    }
}

static void on_up(struct link *link, void *arg, struct conn *conn)
{
    struct channel *self = arg;
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_HELLO};

    ASSERT(link_conn(link) == conn);
    if (self->state == CHANNEL_CLOSING) {
        return;
    }
    channel_move(self, CHANNEL_HELLO);
    hello.protocol_version = PROTOCOL_VERSION;
    hello.kind = QUORLOG__CONNECTION_KIND__CONNECTION_CLIENT;
    hello.cluster_id = self->cluster_id;
    hello.client = self->name;
    /* An error here is that of a socket that is of no use: `down` will say so. */
    (void)channel_send_frame(self, &frame, &hello.base);
    expect_hello(self);
}

static void choose_next_server(struct channel *self)
{
    uint64_t now_ns = channel_now_ns();

    self->failures++;
    if (self->server_count < 2) {
        return; /* The link tries again by itself. */
    }
    self->server = (self->server + 1) % self->server_count;
    self->move_ns = now_ns;
    if (self->failures >= self->server_count) {
        self->move_ns = channel_backoff_ns(now_ns, self->failures / self->server_count,
                                           NEXT_SERVER_MIN_MS, NEXT_SERVER_MAX_MS);
    }
    channel_wake(self, &self->watch, self->move_ns);
}

static void on_down(struct link *link, void *arg, enum err err, const char *text)
{
    struct channel *self = arg;
    bool was_ready = self->batch_size_max != 0;

    ASSERT(self->link == link);
    if (self->state == CHANNEL_CLOSING) {
        return;
    }
    if (was_ready && channel_now_ns() - self->ready_ns >= HELD_MS * NS_PER_MS) {
        self->failures = 0;
    }
    (void)err_set(&self->reason, err, "%s: %s", self->servers[self->server], text); /* Kept. */
    self->batch_size_max = 0;
    if (!was_ready && err != ERR_CONNECT && !err_retryable(err)) {
        self->refusals++;
        self->refused = self->refused || self->refusals >= self->server_count;
    } else {
        self->refusals = 0;
        self->refused = false;
    }
    if (self->state != CHANNEL_DOWN) {
        channel_move(self, CHANNEL_DOWN);
    }
    choose_next_server(self);
    channel_lose_calls(self, err, self->reason.text);
    channel_wake_all(self);
}

static void on_drained(struct link *link, void *arg)
{
    (void)link; /* There is only one. */
    channel_wake_all(arg);
}

/* The oldest call that waits for a leader has waited for too long, and so have all after it. */
static bool is_stalled(const struct channel *self, uint64_t now_ns)
{
    const struct call *call;

    if (now_ns - self->leader_heard_ns < self->times.stalled_ms * NS_PER_MS) {
        return false;
    }
    DL_FOREACH(self->calls, call)
    {
        if (call->needs_leader) {
            return now_ns - call->sent_ns >= self->times.stalled_ms * NS_PER_MS;
        }
    }
    return false;
}

static void watch_connection(struct channel *self, uint64_t now_ns)
{
    struct frame_out ping = {.type = QUORLOG__FRAME_TYPE__FRAME_PING};
    uint64_t silent_ms = (now_ns - self->heard_ns) / NS_PER_MS;

    if (silent_ms >= 2 * self->times.silent_ms) {
        fail(self, ERR_TIMEOUT, "the node is silent");
    } else if (silent_ms >= self->times.silent_ms && !self->pinged) {
        self->pinged = channel_send_frame(self, &ping, NULL) == ERR_OK;
    } else if (may_leave(self) && self->leaderless_ns != 0 &&
               now_ns - self->leaderless_ns >= self->times.leaderless_ms * NS_PER_MS) {
        fail(self, ERR_NO_LEADER, "the node knows of no leader");
    } else if (may_leave(self) && is_stalled(self, now_ns)) {
        fail(self, ERR_TIMEOUT, "the node does not answer for the leader");
    }
}

/* No node was reached in the time that there is for the first one. */
static void watch_reaching(struct channel *self, uint64_t now_ns)
{
    if (now_ns < self->connect_by_ns) {
        channel_wake(self, &self->watch, self->connect_by_ns);
        return;
    }
    self->connect_by_ns = CHANNEL_NEVER;
    self->unreached = true;
    (void)channel_explain(self, &self->unreached_reason); /* Kept. */
    channel_wake_all(self);
}

void channel_watch(struct channel_user *user)
{
    struct channel *self = (void *)((char *)user - offsetof(struct channel, watch));
    uint64_t now_ns = channel_now_ns();
    enum err err;

    if (self->connect_by_ns != CHANNEL_NEVER) {
        watch_reaching(self, now_ns);
    }
    if (self->state == CHANNEL_DOWN && self->move_ns <= now_ns) {
        self->move_ns = CHANNEL_NEVER;
        err = link_move(self->link, self->servers[self->server]);
        ASSERT(err == ERR_OK); /* channel_new checked the address. */
    } else if (self->state == CHANNEL_DOWN && self->move_ns != CHANNEL_NEVER) {
        channel_wake(self, user, self->move_ns);
    } else if (self->state == CHANNEL_HELLO && self->hello_by_ns <= now_ns) {
        fail(self, ERR_TIMEOUT, "the node accepts connections, but does not answer");
    } else if (self->state == CHANNEL_HELLO && self->hello_by_ns != CHANNEL_NEVER) {
        channel_wake(self, user, self->hello_by_ns);
    } else if (self->state == CHANNEL_READY && (self->calls != NULL || self->leaderless_ns != 0)) {
        watch_connection(self, now_ns);
        channel_wake(self, user, now_ns + self->times.watch_ms * NS_PER_MS);
    }
}

enum err channel_open_link(struct channel *self, void (*on_closed)(struct link *link, void *arg))
{
    const struct link_events events = {
        .up = on_up,
        .frame = on_frame,
        .down = on_down,
        .drained = on_drained,
        .closed = on_closed,
    };
    struct link_options options = {
        .address = self->servers[self->server],
        .limits = self->limits,
        .connect_ms = self->server_count > 1 ? CONNECT_MS : 0,
        .retry_min_ms = self->server_count > 1 ? LINK_RETRY_MS : 0,
        .retry_max_ms = self->server_count > 1 ? LINK_RETRY_MS : 0,
    };

    return link_open(self->loop, &options, &events, self, &self->link);
}
