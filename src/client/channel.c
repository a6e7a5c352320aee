/*
 * A channel's users, their turns and their calls; its beginning and end. The connection itself,
 * with the channel's states, is in channel_conn.c.
 */
#include "client/channel_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "base/clock.h"

enum {
    FRAME_SIZE_MAX = 32 << 20,
    QUEUE_SIZE_MAX = 16 << 20, /* bytes waiting to be written */
    FRAME_SIZE_LEAST = 64 << 10,
    TIMEOUT_MS = 30000,
    HELLO_MS = 3000,
    MS_MAX = 1 << 30, /* 12 days: longer times are cut, so that sums of them fit */
};

static const struct channel_times default_times = {
    .watch_ms = 500,
    .silent_ms = 5000,
    .leaderless_ms = 2000,
    .stalled_ms = 3000,
    .try_ms = 1000,
    .answer_ms = 1500,
    .hello_ms = 500,
};

static const struct {
    const char *name; /* for debuggers */
    unsigned next;    /* bits of the states that may follow */
} states[] = {
    [CHANNEL_DOWN] = {"down", 1U << CHANNEL_HELLO | 1U << CHANNEL_CLOSING},
    [CHANNEL_HELLO] = {"hello", 1U << CHANNEL_READY | 1U << CHANNEL_ENDING | 1U << CHANNEL_DOWN |
                                    1U << CHANNEL_CLOSING},
    [CHANNEL_READY] = {"ready", 1U << CHANNEL_ENDING | 1U << CHANNEL_DOWN | 1U << CHANNEL_CLOSING},
    [CHANNEL_ENDING] = {"ending", 1U << CHANNEL_DOWN | 1U << CHANNEL_CLOSING},
    [CHANNEL_CLOSING] = {"closing", 0},
};

void channel_move(struct channel *self, enum channel_state next)
{
    ASSERT(next < sizeof states / sizeof states[0]);
    ASSERT((states[self->state].next & 1U << next) != 0);
    self->state = next;
}

uint64_t channel_now_ns(void)
{
    return uv_hrtime();
}

uint64_t channel_backoff_ns(uint64_t now_ns, unsigned failures, uint64_t min_ms, uint64_t max_ms)
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

uint64_t channel_ms_to_ns(uint64_t ms)
{
    return (ms > MS_MAX ? MS_MAX : ms) * NS_PER_MS;
}

uint64_t channel_retry_ns(uint64_t now_ns, unsigned failures)
{
    return channel_backoff_ns(now_ns, failures, 10, 500);
}

uint32_t channel_deadline_ms(uint64_t now_ns, uint64_t deadline_ns)
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

static void set_timer(struct channel *self, uint64_t at_ns)
{
    uint64_t now_ns = channel_now_ns();
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

void channel_wake(struct channel *self, struct channel_user *user, uint64_t at_ns)
{
    if (at_ns < user->wake_ns) {
        user->wake_ns = at_ns;
    }
    if (self->state != CHANNEL_CLOSING) {
        set_timer(self, user->wake_ns);
    }
}

void channel_wake_all(struct channel *self)
{
    struct channel_user *user;

    DL_FOREACH(self->users, user)
    {
        channel_wake(self, user, 0);
    }
}

static void cancel_all(struct channel *self);

static void on_timer(uv_timer_t *handle)
{
    struct channel *self = handle->data;
    uint64_t now_ns = channel_now_ns();
    uint64_t next_ns = CHANNEL_NEVER;
    struct channel_user *user;

    self->timer_ns = CHANNEL_NEVER;
    if (self->state == CHANNEL_CLOSING) {
        cancel_all(self);
        return;
    }
    /* A step may remove any user: cursor is moved on by channel_remove then. */
    for (user = self->users; user != NULL; user = self->cursor) {
        self->cursor = user->next;
        if (user->wake_ns <= now_ns) {
            user->wake_ns = CHANNEL_NEVER;
            user->step(user);
        }
        if (self->state == CHANNEL_CLOSING) {
            return; /* channel_close has set the timer. */
        }
    }
    DL_FOREACH(self->users, user)
    {
        next_ns = user->wake_ns < next_ns ? user->wake_ns : next_ns;
    }
    if (next_ns != CHANNEL_NEVER) {
        set_timer(self, next_ns);
    }
}

void channel_prefer_followers(struct channel *self, unsigned first)
{
    const struct clock *clock = clock_real();

    ASSERT(self->link == NULL);
    self->prefers_followers = true;
    self->server = (unsigned)((first > 0 ? first - 1 : clock->random(clock)) % self->server_count);
}

static void on_link_closed(struct link *link, void *arg);

/* Nobody is dialled for nothing: the first user brings the connection. */
static enum err open_link(struct channel *self)
{
    enum err err = channel_open_link(self, on_link_closed);

    if (err != ERR_OK) {
        return err;
    }
    self->handles++;
    if (self->connect_timeout_ns > 0) {
        self->connect_by_ns = channel_now_ns() + self->connect_timeout_ns;
        channel_wake(self, &self->watch, self->connect_by_ns);
    }
    return ERR_OK;
}

enum err channel_add(struct channel *self, struct channel_user *user)
{
    ASSERT(user->step != NULL && user->cancel != NULL);
    if (self->state == CHANNEL_CLOSING) {
        return ERR_CANCELED;
    }
    if (self->user_count >= CHANNEL_USERS_MAX) {
        return ERR_BUSY;
    }
    if (self->link == NULL && user != &self->watch) {
        enum err err = open_link(self);

        if (err != ERR_OK) {
            return err;
        }
    }
    self->user_count++;
    DL_APPEND(self->users, user);
    user->wake_ns = CHANNEL_NEVER;
    channel_wake(self, user, 0);
    return ERR_OK;
}

void channel_remove(struct channel *self, struct channel_user *user)
{
    ASSERT(self->user_count > 0);
    if (self->cursor == user) {
        self->cursor = user->next;
    }
    DL_DELETE(self->users, user);
    self->user_count--;
}

/* ---- calls ---- */

struct call *channel_find_call(const struct channel *self, uint64_t id)
{
    struct call *call = self->slots[id % CHANNEL_ID_SLOTS];

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

void channel_forget(struct channel *self, struct call *call)
{
    struct call **slot = &self->slots[call->id % CHANNEL_ID_SLOTS];

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

bool channel_is_ready(const struct channel *self)
{
    return self->state == CHANNEL_READY;
}

enum err channel_send_frame(struct channel *self, const struct frame_out *frame,
                            const ProtobufCMessage *header)
{
    uint8_t packed[CHANNEL_HEADER_SIZE_MAX];
    struct conn *conn = link_conn(self->link);
    struct frame_out out = *frame;

    if (conn == NULL) {
        return ERR_CONNECT;
    }
    if (header != NULL) {
        out.header_size = protobuf_c_message_get_packed_size(header);
        ASSERT(out.header_size <= sizeof packed);
        (void)protobuf_c_message_pack(header, packed); /* The same size again. */
        out.header = packed;
    }
    return conn_send(conn, &out, false);
}

enum err channel_send(struct channel *self, struct call *call, const ProtobufCMessage *header,
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
    if (self->state != CHANNEL_READY) {
        return ERR_CONNECT;
    }
    err = channel_send_frame(self, &frame, header);
    if (err != ERR_OK) {
        /* A socket that is of no use any more: `down` will say so. */
        return err == ERR_CLOSED ? ERR_CONNECT : err;
    }
    call->id = self->next_id++; /* I2 */
    call->sent_ns = channel_now_ns();
    call->pending = true;
    if (self->calls == NULL) {
        self->heard_ns = call->sent_ns;
        channel_wake(self, &self->watch, call->sent_ns + self->times.watch_ms * NS_PER_MS);
    }
    DL_APPEND(self->calls, call);
    self->slots[call->id % CHANNEL_ID_SLOTS] = call;
    return ERR_OK;
}

enum err channel_send_more(struct channel *self, const struct call *call, uint16_t type,
                           const ProtobufCMessage *header)
{
    struct frame_out frame = {.type = type, .request_id = call->id};

    if (self->state != CHANNEL_READY) {
        return ERR_CONNECT;
    }
    return channel_send_frame(self, &frame, header);
}

void channel_lose_calls(struct channel *self, enum err err, const char *text)
{
    while (self->calls != NULL) {
        struct call *call = self->calls;

        channel_forget(self, call);
        call->events->lost(call, err, text);
    }
}

/* ---- beginning and end ---- */

/* The channel's own user is never canceled: cancel_all leaves it out. */
static void cancel_watch(struct channel_user *user)
{
    ASSERT(user == NULL);
}

static enum err parse_servers(struct channel *self, const char *servers, struct err_info *info)
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
        enum err err;

        if (self->server_count == CHANNEL_SERVERS_MAX) {
            return err_set(info, ERR_INVALID, "more than %d servers", CHANNEL_SERVERS_MAX);
        }
        err = address_split(name, host, port, info);
        if (err != ERR_OK) {
            return err_prefix(info, err, "server '%s'", name);
        }
        self->servers[self->server_count++] = name;
    }
    if (self->server_count == 0) {
        return err_set(info, ERR_INVALID, "no server is given");
    }
    return ERR_OK;
}

static void release(struct channel *self)
{
    void (*closed)(void *arg) = self->closed;
    void *arg = self->closed_arg;

    ASSERT(self->state == CHANNEL_CLOSING && self->handles > 0);
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
    struct channel *self = arg;

    ASSERT(self->link == link);
    release(self);
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void cancel_all(struct channel *self)
{
    channel_remove(self, &self->watch);
    while (self->users != NULL) {
        struct channel_user *user = self->users;

        user->cancel(user);
        ASSERT(self->users != user);
    }
    ASSERT(self->calls == NULL); /* I1: each user forgot its own. */
    if (self->link != NULL) {
        link_close(self->link);
    }
    uv_close((uv_handle_t *)&self->timer, on_timer_closed);
}

enum err channel_new(const struct client_options *options, uv_loop_t *loop,
                     struct channel **ret_channel, struct err_info *info)
{
    struct channel *self = calloc(1, sizeof *self);
    size_t frame_size_max = options->frame_size_max;
    enum err err;
    int rv;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    self->state = CHANNEL_DOWN;
    self->loop = loop;
    self->timeout_ns =
        channel_ms_to_ns(options->timeout_ms == 0 ? TIMEOUT_MS : options->timeout_ms);
    self->timer_ns = CHANNEL_NEVER;
    self->move_ns = CHANNEL_NEVER;
    self->connect_by_ns = CHANNEL_NEVER;
    self->connect_timeout_ns = channel_ms_to_ns(options->connect_timeout_ms);
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
    if (err == ERR_OK && self->limits.frame_size_max < FRAME_SIZE_LEAST) {
        err = err_set(info, ERR_INVALID, "frame_size_max is below %d", FRAME_SIZE_LEAST);
    }
    if (err != ERR_OK) {
        free(self->list);
        free(self);
        return err;
    }
    rv = uv_timer_init(loop, &self->timer);
    ASSERT(rv == 0); /* Cannot fail. */
    self->timer.data = self;
    self->handles = 1; /* The timer; then the link. */
    self->watch.step = channel_watch;
    self->watch.cancel = cancel_watch;
    err = channel_add(self, &self->watch);
    ASSERT(err == ERR_OK); /* The first one. */
    *ret_channel = self;
    return ERR_OK;
}

void channel_close(struct channel *self, void (*closed)(void *arg), void *arg)
{
    int rv;

    ASSERT(closed != NULL);
    channel_move(self, CHANNEL_CLOSING);
    self->closed = closed;
    self->closed_arg = arg;
    rv = uv_timer_start(&self->timer, on_timer, 0, 0); /* I4 */
    ASSERT(rv == 0);                                   /* It is not closing yet. */
}

bool channel_is_closing(const struct channel *self)
{
    return self->state == CHANNEL_CLOSING;
}

/* ---- what users ask ---- */

const struct err_info *channel_refusal(const struct channel *self)
{
    if (self->refused) {
        return &self->reason;
    }
    return self->unreached ? &self->unreached_reason : NULL;
}

enum err channel_explain(const struct channel *self, struct err_info *info)
{
    return err_set(info, ERR_CONNECT, "no node of %s answered: %s", self->servers_text,
                   self->reason.text[0] == '\0' ? "no connection yet" : self->reason.text);
}

const struct channel_times *channel_times(const struct channel *self)
{
    return &self->times;
}

void channel_set_times(struct channel *self, const struct channel_times *times)
{
    ASSERT(times->watch_ms > 0 && times->silent_ms > 0);
    self->times = *times;
}

size_t channel_batch_size_max(const struct channel *self)
{
    size_t frame_room = self->peer_frame_size_max - FRAME_PREFIX_SIZE - CHANNEL_HEADER_SIZE_MAX;

    if (self->batch_size_max == 0) {
        return 0;
    }
    return self->batch_size_max < frame_room ? self->batch_size_max : frame_room;
}

const char *channel_server(const struct channel *self)
{
    return self->state == CHANNEL_READY ? self->servers[self->server] : "";
}

unsigned channel_server_count(const struct channel *self)
{
    return self->server_count;
}

uint64_t channel_timeout_ns(const struct channel *self)
{
    return self->timeout_ns;
}

uv_loop_t *channel_loop(const struct channel *self)
{
    return self->loop;
}
