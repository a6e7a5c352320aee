/*
 * The connection of a client.
 *
 * Happy path: the link comes up, a Hello goes out, the HelloReply is checked, and all users are
 * woken; they send calls, whose answers find them by id.
 *
 * Failure modes: the connection cannot be made, ends, speaks nonsense, or the hello is refused; the
 * node is silent (a ping, then given up); it has no leader for longer
 * than an election takes, while another node may have one. All lead to the next
 * server of the list; what was unanswered is `lost`. Once every server has failed, delays double.
 *
 *            on_up           on_hello_reply          fail            on_down
 *   DOWN ──────────► HELLO ────────────────► READY ───────► ENDING ─────────► DOWN
 *     ▲                │ fail: ENDING          │                                 │ link_move
 *     └────────────────┴───── on_down ─────────┘ ◄─── next server, now or later ─┘
 *
 *   any ──► CLOSING ──► (freed)          session_close; release, when link and timer are closed
 */
#include "client/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "base/clock.h"
#include "quorlog.pb-c.h"

enum {
    PROTOCOL_VERSION = 1,
    FRAME_SIZE_MAX = 32 << 20,
    FRAME_SIZE_LEAST = 64 << 10, /* what any node must be able to say */
    QUEUE_SIZE_MAX = 16 << 20,   /* bytes waiting to be written */
    SERVERS_MAX = 64,
    NAME_SIZE_MAX = 200,
    HEADER_SIZE_MAX = 1024, /* of the requests that are sent here: a topic and some numbers */
    ID_SLOTS = 1024,        /* of the table by id; a power of two */
    TIMEOUT_MS = 30000,
    HELLO_MS = 3000,
    HELD_MS = 1000, /* a connection that lasted so long was a good one */
    NEXT_SERVER_MIN_MS = 50,
    NEXT_SERVER_MAX_MS = 500,
    /* Of the link's own retries when there are several servers: the session moves it before. */
    LINK_RETRY_MS = 2000,
};

#define NS_PER_MS UINT64_C(1000000)

static const struct session_times default_times = {
    .watch_ms = 500,
    .silent_ms = 5000,
    .leaderless_ms = 2000,
    .stalled_ms = 5000,
};

enum session_state { SESSION_DOWN, SESSION_HELLO, SESSION_READY, SESSION_ENDING, SESSION_CLOSING };

static const struct {
    const char *name; /* for debuggers */
    unsigned next;    /* bits of the states that may follow */
} states[] = {
    [SESSION_DOWN] = {"down", 1U << SESSION_HELLO | 1U << SESSION_CLOSING},
    [SESSION_HELLO] = {"hello", 1U << SESSION_READY | 1U << SESSION_ENDING | 1U << SESSION_DOWN |
                                    1U << SESSION_CLOSING},
    [SESSION_READY] = {"ready",
                       1U << SESSION_ENDING | 1U << SESSION_DOWN | 1U << SESSION_CLOSING},
    [SESSION_ENDING] = {"ending", 1U << SESSION_DOWN | 1U << SESSION_CLOSING},
    [SESSION_CLOSING] = {"closing", 0},
};

struct session {
    enum session_state state;
    uv_loop_t *loop;
    char *list;                 /* owned: the servers, cut into pieces */
    char *servers[SERVERS_MAX]; /* borrowed from list */
    unsigned server_count;
    unsigned server;       /* index of the present one */
    char servers_text[256]; /* as given, for messages */
    char name[NAME_SIZE_MAX + 1];
    uint64_t timeout_ns;
    struct conn_limits limits;
    struct session_times times;

    struct link *link;
    uv_timer_t timer;
    uint64_t timer_ns;           /* when it fires; SESSION_NEVER: stopped */
    struct session_user *users;  /* utlist */
    struct session_user *cursor; /* the next one in on_timer's walk */
    unsigned user_count;
    struct session_user watch; /* the session's own: silence, and the move to the next server */
    uint64_t move_ns;          /* when to go to the server `server`; SESSION_NEVER */

    struct call *calls; /* utlist, in order of sending */
    struct call *slots[ID_SLOTS]; /* by id % ID_SLOTS: the newest call there, a hint */
    uint64_t next_id;

    char cluster_id[128]; /* of the first node that was met; "": none yet */
    size_t batch_size_max;
    size_t peer_frame_size_max;
    uint64_t heard_ns;        /* the last frame, or the first call after a quiet time */
    bool pinged;              /* since heard_ns */
    uint64_t leaderless_ns;   /* the first NO_LEADER since a leader last answered; 0: none */
    uint64_t leader_heard_ns; /* the last answer that took a leader */
    struct err_info reason;   /* of the last failure of a connection */
    unsigned failures;        /* connections that did not hold, in a row */
    uint64_t ready_ns;        /* when the present or last one became READY */
    unsigned refusals;        /* of these, in a row: refused for good */
    bool refused;             /* by all in turn */

    unsigned handles; /* that must be closed before this is freed */
    void (*closed)(void *arg);
    void *closed_arg;
};

static void move(struct session *self, enum session_state next)
{
    ASSERT(next < sizeof states / sizeof states[0]);
    ASSERT((states[self->state].next & 1U << next) != 0);
    self->state = next;
}

uint64_t session_now_ns(void)
{
    return uv_hrtime();
}

static uint64_t backoff_ns(uint64_t now_ns, unsigned failures, uint64_t min_ms, uint64_t max_ms)
{
    const struct clock *clock = clock_real();
    uint64_t delay_ns = min_ms * NS_PER_MS;

    ASSERT(failures > 0);
    for (unsigned i = 1; i < failures && delay_ns < max_ms * NS_PER_MS; i++) {
        delay_ns *= 2;
    }
    delay_ns = delay_ns > max_ms * NS_PER_MS ? max_ms * NS_PER_MS : delay_ns;
    return now_ns + delay_ns - clock->random(clock) % (delay_ns / 2);
}

uint64_t session_retry_ns(uint64_t now_ns, unsigned failures)
{
    return backoff_ns(now_ns, failures, 10, 500);
}

uint32_t session_deadline_ms(uint64_t now_ns, uint64_t deadline_ns)
{
    uint64_t left_ms = deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_PER_MS : 0;
    uint64_t way_ms = left_ms / 16 < 200 ? left_ms / 16 : 200;

    left_ms -= way_ms;
    if (left_ms > UINT32_MAX) {
        return UINT32_MAX;
    }
    return left_ms == 0 ? 1 : (uint32_t)left_ms;
}

/* ---- users and time ---- */

static void on_timer(uv_timer_t *handle);

static void set_timer(struct session *self, uint64_t at_ns)
{
    uint64_t now_ns = session_now_ns();
    uint64_t delay_ns = at_ns > now_ns ? at_ns - now_ns : 0;
    int rv;

    if (at_ns >= self->timer_ns) {
        return;
    }
    self->timer_ns = at_ns;
    /* The loop's idea of now may be old: the timer may then fire early, and is set again. */
    rv = uv_timer_start(&self->timer, on_timer, (delay_ns + NS_PER_MS - 1) / NS_PER_MS, 0);
    ASSERT(rv == 0); /* It is not closing: nobody is woken any more then. */
}

void session_wake(struct session *self, struct session_user *user, uint64_t at_ns)
{
    if (at_ns < user->wake_ns) {
        user->wake_ns = at_ns;
    }
    if (self->state != SESSION_CLOSING) {
        set_timer(self, user->wake_ns);
    }
}

static void wake_all(struct session *self)
{
    struct session_user *user;

    DL_FOREACH(self->users, user)
    {
        session_wake(self, user, 0);
    }
}

static void cancel_all(struct session *self);

static void on_timer(uv_timer_t *handle)
{
    struct session *self = handle->data;
    uint64_t now_ns = session_now_ns();
    uint64_t next_ns = SESSION_NEVER;
    struct session_user *user;

    self->timer_ns = SESSION_NEVER;
    if (self->state == SESSION_CLOSING) {
        cancel_all(self);
        return;
    }
    /* A step may remove any user: cursor is moved on by session_remove then. */
    for (user = self->users; user != NULL; user = self->cursor) {
        self->cursor = user->next;
        if (user->wake_ns <= now_ns) {
            user->wake_ns = SESSION_NEVER;
            user->step(user);
        }
        if (self->state == SESSION_CLOSING) {
            return; /* session_close has set the timer. */
        }
    }
    DL_FOREACH(self->users, user)
    {
        next_ns = user->wake_ns < next_ns ? user->wake_ns : next_ns;
    }
    if (next_ns != SESSION_NEVER) {
        set_timer(self, next_ns);
    }
}

enum err session_add(struct session *self, struct session_user *user)
{
    ASSERT(user->step != NULL && user->cancel != NULL);
    if (self->state == SESSION_CLOSING) {
        return ERR_CANCELED;
    }
    if (self->user_count >= SESSION_USERS_MAX) {
        return ERR_BUSY;
    }
    self->user_count++;
    DL_APPEND(self->users, user);
    user->wake_ns = SESSION_NEVER;
    session_wake(self, user, 0);
    return ERR_OK;
}

void session_remove(struct session *self, struct session_user *user)
{
    ASSERT(self->user_count > 0);
    if (self->cursor == user) {
        self->cursor = user->next;
    }
    DL_DELETE(self->users, user);
    self->user_count--;
}

/* ---- calls ---- */

static struct call *find_call(const struct session *self, uint64_t id)
{
    struct call *call = self->slots[id % ID_SLOTS];

    if (call != NULL && call->id == id) {
        return call;
    }
    DL_FOREACH(self->calls, call)
    {
        if (call->id == id) {
            return call;
        }
    }
    return NULL;
}

void session_forget(struct session *self, struct call *call)
{
    struct call **slot = &self->slots[call->id % ID_SLOTS];

    if (!call->pending) {
        return;
    }
    ASSERT(self->calls != NULL); /* I1 */
    DL_DELETE(self->calls, call);
    if (*slot == call) {
        *slot = NULL;
    }
    call->pending = false;
}

bool session_is_ready(const struct session *self)
{
    return self->state == SESSION_READY;
}

static enum err send_frame(struct session *self, struct frame_out *frame,
                           const ProtobufCMessage *header)
{
    uint8_t packed[HEADER_SIZE_MAX];
    struct conn *conn = link_conn(self->link);

    if (conn == NULL) {
        return ERR_CONNECT;
    }
    if (header != NULL) {
        frame->header_size = protobuf_c_message_get_packed_size(header);
        ASSERT(frame->header_size <= sizeof packed);
        (void)protobuf_c_message_pack(header, packed); /* The same size again. */
        frame->header = packed;
    }
    return conn_send(conn, frame, false);
}

enum err session_send(struct session *self, struct call *call, const ProtobufCMessage *header,
                      const struct slice *body, size_t body_count)
{
    struct frame_out frame = {
        .type = call->type,
        .request_id = self->next_id,
        .body = body,
        .body_count = body_count,
    };
    enum err err;

    ASSERT(call->events != NULL && !call->pending);
    if (self->state != SESSION_READY) {
        return ERR_CONNECT;
    }
    err = send_frame(self, &frame, header);
    if (err != ERR_OK) {
        /* A socket that is of no use any more: `down` will say so. */
        return err == ERR_CLOSED ? ERR_CONNECT : err;
    }
    call->id = self->next_id++; /* I2 */
    call->sent_ns = session_now_ns();
    call->pending = true;
    if (self->calls == NULL) {
        self->heard_ns = call->sent_ns;
        session_wake(self, &self->watch, call->sent_ns + self->times.watch_ms * NS_PER_MS);
    }
    DL_APPEND(self->calls, call);
    self->slots[call->id % ID_SLOTS] = call;
    return ERR_OK;
}

enum err session_send_more(struct session *self, const struct call *call, uint16_t type,
                           const ProtobufCMessage *header)
{
    struct frame_out frame = {.type = type, .request_id = call->id};

    if (self->state != SESSION_READY) {
        return ERR_CONNECT;
    }
    return send_frame(self, &frame, header);
}

/* A connection that is no good any more: `down` follows. */
static void fail(struct session *self, enum err err, const char *text)
{
    ASSERT(err != ERR_OK);
    if (self->state == SESSION_HELLO || self->state == SESSION_READY) {
        move(self, SESSION_ENDING);
        link_reset(self->link, err, text);
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
    *ret_message = message;
    return ERR_OK;
}

/* Copies the cluster's id, or compares it with the one seen before. */
static enum err check_hello(struct session *self, const Quorlog__HelloReply *reply,
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
    strcpy(self->cluster_id, reply->cluster_id);
    return ERR_OK;
}

static void become_ready(struct session *self, const Quorlog__HelloReply *reply)
{
    struct conn_limits limits = self->limits;

    ASSERT(self->calls == NULL); /* I3 */
    limits.hello_ms = 0;
    conn_established(link_conn(self->link), &limits);
    self->batch_size_max = reply->batch_size_max;
    self->peer_frame_size_max = reply->frame_size_max;
    self->refusals = 0;
    self->refused = false;
    self->leaderless_ns = 0;
    self->ready_ns = session_now_ns();
    self->leader_heard_ns = self->ready_ns;
    self->pinged = false;
    move(self, SESSION_READY);
    wake_all(self);
}

static void on_hello_frame(struct session *self, const struct frame *frame)
{
    Quorlog__HelloReply *reply = NULL;
    Quorlog__Error *message;
    struct client_error error;
    struct err_info info;

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
    if (check_hello(self, reply, &info) == ERR_OK) {
        become_ready(self, reply);
    } else {
        fail(self, info.code, info.text);
    }
    quorlog__hello_reply__free_unpacked(reply, NULL);
}

static bool may_leave(const struct session *self)
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
static void note_leader(struct session *self, const struct call *call,
                        const struct client_error *error)
{
    uint64_t now_ns = session_now_ns();

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

static enum err answer_call(struct session *self, struct call *call, const struct frame *frame)
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
        session_forget(self, call); /* I1 */
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
        session_forget(self, call); /* I1 */
    }
    return call->events->answer(call, frame, NULL);
}

static void on_ready_frame(struct session *self, const struct frame *frame)
{
    struct call *call;
    enum err err;
    char text[100];

    self->heard_ns = session_now_ns();
    self->pinged = false;
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_PING_REPLY) {
        return;
    }
    call = find_call(self, frame->request_id);
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
    struct session *self = arg;

    ASSERT(self->link == link);
    if (self->state == SESSION_HELLO) {
        on_hello_frame(self, frame);
    } else if (self->state == SESSION_READY) {
        on_ready_frame(self, frame);
    }
}

/* ---- the connection ---- */

static void on_up(struct link *link, void *arg, struct conn *conn)
{
    struct session *self = arg;
    Quorlog__Hello hello = QUORLOG__HELLO__INIT;
    struct frame_out frame = {.type = QUORLOG__FRAME_TYPE__FRAME_HELLO};

    ASSERT(link_conn(link) == conn);
    if (self->state == SESSION_CLOSING) {
        return;
    }
    move(self, SESSION_HELLO);
    hello.protocol_version = PROTOCOL_VERSION;
    hello.kind = QUORLOG__CONNECTION_KIND__CONNECTION_CLIENT;
    hello.cluster_id = self->cluster_id;
    hello.client = self->name;
    /* An error here is that of a socket that is of no use: `down` will say so. */
    (void)send_frame(self, &frame, &hello.base);
}

static void lose_calls(struct session *self, enum err err, const char *text)
{
    while (self->calls != NULL) {
        struct call *call = self->calls;

        session_forget(self, call);
        call->events->lost(call, err, text);
    }
}

static void choose_next_server(struct session *self)
{
    uint64_t now_ns = session_now_ns();

    self->failures++;
    if (self->server_count < 2) {
        return; /* The link tries again by itself. */
    }
    self->server = (self->server + 1) % self->server_count;
    self->move_ns = now_ns;
    if (self->failures >= self->server_count) {
        self->move_ns = backoff_ns(now_ns, self->failures / self->server_count, NEXT_SERVER_MIN_MS,
                                   NEXT_SERVER_MAX_MS);
    }
    session_wake(self, &self->watch, self->move_ns);
}

static void on_down(struct link *link, void *arg, enum err err, const char *text)
{
    struct session *self = arg;
    bool was_ready = self->batch_size_max != 0;

    ASSERT(self->link == link);
    if (self->state == SESSION_CLOSING) {
        return;
    }
    if (was_ready && session_now_ns() - self->ready_ns >= HELD_MS * NS_PER_MS) {
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
    if (self->state != SESSION_DOWN) {
        move(self, SESSION_DOWN);
    }
    choose_next_server(self);
    lose_calls(self, err, self->reason.text);
    wake_all(self);
}

static void on_drained(struct link *link, void *arg)
{
    (void)link; /* There is only one. */
    wake_all(arg);
}

/* The oldest call that waits for a leader has waited for too long, and so have all after it. */
static bool is_stalled(const struct session *self, uint64_t now_ns)
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

static void watch_connection(struct session *self, uint64_t now_ns)
{
    struct frame_out ping = {.type = QUORLOG__FRAME_TYPE__FRAME_PING};
    uint64_t silent_ms = (now_ns - self->heard_ns) / NS_PER_MS;

    if (silent_ms >= 2 * self->times.silent_ms) {
        fail(self, ERR_TIMEOUT, "the node is silent");
    } else if (silent_ms >= self->times.silent_ms && !self->pinged) {
        self->pinged = send_frame(self, &ping, NULL) == ERR_OK;
    } else if (may_leave(self) && self->leaderless_ns != 0 &&
               now_ns - self->leaderless_ns >= self->times.leaderless_ms * NS_PER_MS) {
        fail(self, ERR_NO_LEADER, "the node knows of no leader");
    } else if (may_leave(self) && is_stalled(self, now_ns)) {
        fail(self, ERR_TIMEOUT, "the node does not answer for the leader");
    }
}

static void watch(struct session_user *user)
{
    struct session *self = (struct session *)((char *)user - offsetof(struct session, watch));
    uint64_t now_ns = session_now_ns();
    enum err err;

    if (self->state == SESSION_DOWN && self->move_ns <= now_ns) {
        self->move_ns = SESSION_NEVER;
        err = link_move(self->link, self->servers[self->server]);
        ASSERT(err == ERR_OK); /* session_new checked the address. */
    } else if (self->state == SESSION_DOWN && self->move_ns != SESSION_NEVER) {
        session_wake(self, user, self->move_ns);
    } else if (self->state == SESSION_READY && (self->calls != NULL || self->leaderless_ns != 0)) {
        watch_connection(self, now_ns);
        session_wake(self, user, now_ns + self->times.watch_ms * NS_PER_MS);
    }
}

/* ---- beginning and end ---- */

/* The session's own user is never canceled: cancel_all leaves it out. */
static void cancel_watch(struct session_user *user)
{
    ASSERT(user == NULL);
}

static enum err parse_servers(struct session *self, const char *servers, struct err_info *info)
{
    char host[256];
    char port[8];
    char *rest;

    if (servers == NULL || servers[0] == '\0') {
        return err_set(info, ERR_INVALID, "no server is given");
    }
    (void)snprintf(self->servers_text, sizeof self->servers_text, "%s", servers); /* For people. */
    self->list = strdup(servers);
    if (self->list == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    for (char *name = strtok_r(self->list, ", ", &rest); name != NULL;
         name = strtok_r(NULL, ", ", &rest)) {
        if (self->server_count == SERVERS_MAX) {
            return err_set(info, ERR_INVALID, "more than %d servers", SERVERS_MAX);
        }
        if (address_split(name, host, port, info) != ERR_OK) {
            return err_prefix(info, ERR_INVALID, "server '%s'", name);
        }
        self->servers[self->server_count++] = name;
    }
    if (self->server_count == 0) {
        return err_set(info, ERR_INVALID, "no server is given");
    }
    return ERR_OK;
}

static void release(struct session *self)
{
    void (*closed)(void *arg) = self->closed;
    void *arg = self->closed_arg;

    ASSERT(self->state == SESSION_CLOSING && self->handles > 0);
    self->handles--;
    if (self->handles > 0) {
        return;
    }
    free(self->list);
    free(self);
    closed(arg);
}

static void on_link_closed(struct link *link, void *arg)
{
    struct session *self = arg;

    ASSERT(self->link == link);
    release(self);
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void cancel_all(struct session *self)
{
    session_remove(self, &self->watch);
    while (self->users != NULL) {
        struct session_user *user = self->users;

        user->cancel(user);
        ASSERT(self->users != user);
    }
    ASSERT(self->calls == NULL); /* I1: each user forgot its own. */
    link_close(self->link);
    uv_close((uv_handle_t *)&self->timer, on_timer_closed);
}

static enum err open_link(struct session *self, struct err_info *info)
{
    static const struct link_events events = {
        .up = on_up,
        .frame = on_frame,
        .down = on_down,
        .drained = on_drained,
        .closed = on_link_closed,
    };
    struct link_options options = {
        .address = self->servers[0],
        .limits = self->limits,
        .retry_min_ms = self->server_count > 1 ? LINK_RETRY_MS : 0,
        .retry_max_ms = self->server_count > 1 ? LINK_RETRY_MS : 0,
    };
    enum err err = link_open(self->loop, &options, &events, self, &self->link);

    if (err != ERR_OK) {
        return err_set(info, err, "server '%s': %s", self->servers[0], err_text(err));
    }
    return ERR_OK;
}

enum err session_new(const struct client_options *options, uv_loop_t *loop,
                     struct session **ret_session, struct err_info *info)
{
    struct session *self = calloc(1, sizeof *self);
    size_t frame_size_max = options->frame_size_max;
    enum err err;
    int rv;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    self->state = SESSION_DOWN;
    self->loop = loop;
    self->timeout_ns = (options->timeout_ms == 0 ? TIMEOUT_MS : options->timeout_ms) * NS_PER_MS;
    self->timer_ns = SESSION_NEVER;
    self->move_ns = SESSION_NEVER;
    self->next_id = 1;
    self->times = default_times;
    self->limits = (struct conn_limits){
        .frame_size_max = frame_size_max == 0 ? FRAME_SIZE_MAX : frame_size_max,
        .queue_size_max = QUEUE_SIZE_MAX,
        .hello_ms = HELLO_MS,
    };
    (void)snprintf(self->name, sizeof self->name, "%s",
                   options->name == NULL ? "quorlog-client" : options->name); /* For a log. */
    err = parse_servers(self, options->servers, info);
    if (err == ERR_OK) {
        err = open_link(self, info);
    }
    if (err != ERR_OK) {
        free(self->list);
        free(self);
        return err;
    }
    rv = uv_timer_init(loop, &self->timer);
    ASSERT(rv == 0); /* Cannot fail. */
    self->timer.data = self;
    self->handles = 2;
    self->watch.step = watch;
    self->watch.cancel = cancel_watch;
    err = session_add(self, &self->watch);
    ASSERT(err == ERR_OK); /* The first one. */
    *ret_session = self;
    return ERR_OK;
}

void session_close(struct session *self, void (*closed)(void *arg), void *arg)
{
    int rv;

    ASSERT(closed != NULL);
    move(self, SESSION_CLOSING);
    self->closed = closed;
    self->closed_arg = arg;
    rv = uv_timer_start(&self->timer, on_timer, 0, 0); /* I4 */
    ASSERT(rv == 0);                                   /* It is not closing yet. */
}

bool session_is_closing(const struct session *self)
{
    return self->state == SESSION_CLOSING;
}

/* ---- what users ask ---- */

const struct err_info *session_refusal(const struct session *self)
{
    return self->refused ? &self->reason : NULL;
}

enum err session_explain(const struct session *self, struct err_info *info)
{
    return err_set(info, ERR_CONNECT, "no node of %s answered: %s", self->servers_text,
                   self->reason.text[0] == '\0' ? "no connection yet" : self->reason.text);
}

void session_set_times(struct session *self, const struct session_times *times)
{
    ASSERT(times->watch_ms > 0 && times->silent_ms > 0);
    self->times = *times;
}

size_t session_batch_size_max(const struct session *self)
{
    size_t frame_room = self->peer_frame_size_max - FRAME_PREFIX_SIZE - HEADER_SIZE_MAX;

    if (self->batch_size_max == 0) {
        return 0;
    }
    return self->batch_size_max < frame_room ? self->batch_size_max : frame_room;
}

const char *session_server(const struct session *self)
{
    return self->state == SESSION_READY ? self->servers[self->server] : "";
}

uint64_t session_timeout_ns(const struct session *self)
{
    return self->timeout_ns;
}

uv_loop_t *session_loop(const struct session *self)
{
    return self->loop;
}
