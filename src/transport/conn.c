/*
 * One connection: frames in, frames out, and an orderly end.
 *
 * Happy path: the socket becomes readable, conn_read() reads into a buffer on the stack (or
 * straight into the block of a large frame), conn_deliver() hands out frames. conn_send() queues;
 * the pump, an idle handle, writes all that was queued in this turn of the loop with one call. What
 * the kernel does not take waits for the socket to become writable.
 *
 * Failure modes: the other side ends, resets, or sends what is no frame; a deadline passes; memory
 * is short. Each ends in conn_fail(), which tells the owner once; the owner then calls
 * conn_close().
 *
 *             fail            fail: the socket is of no use
 *     OPEN ----------> FAILED ----------------------------> BROKEN    (OPEN -> BROKEN too: fail)
 *      |                 |                                    |
 *      | conn_close      | conn_close                         | conn_close
 *      v                 v                                    |
 *     FLUSHING <---------+                                    |
 *      |    \ write_failed, linger over                       |
 *      |     +----------------------------------+             |
 *      | end_writing: queue empty               v             v
 *     DRAINING -------------------------------> CLOSING <-----+
 *               peer ended, linger over          | on_handle_closed, the last of three
 *                                                v
 *     OPEN -> CLOSING too: conn_release        CLOSED: events.closed, then freed
 *
 * DRAINING is there because a close with unread bytes makes TCP reset the connection, and a reset
 * can take away from the other side the very answer that was flushed a moment ago.
 *
 * The socket is polled and read and written here, not through uv_tcp_t: socket_write() has
 * MSG_NOSIGNAL, where libuv's writev would raise SIGPIPE in whatever program uses this library.
 *
 * Everything runs on the loop's thread. Events are called from step() only, so from the loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/turns.h"
#include "transport/conn_internal.h"
#include "transport/socket.h"

enum { CONN_MAGIC = 0x6e6f4351, CONN_HANDLES = 3 };

enum conn_event { EVENT_READABLE, EVENT_WRITABLE, EVENT_PUMP, EVENT_DEADLINE, EVENT_CLOSED };

static const struct {
    const char *name; /* for debuggers */
    unsigned next;    /* bits of the states that may follow */
} states[] = {
    [CONN_OPEN] = {"open", 1U << CONN_FAILED | 1U << CONN_BROKEN | 1U << CONN_FLUSHING |
                               1U << CONN_CLOSING},
    [CONN_FAILED] = {"failed", 1U << CONN_BROKEN | 1U << CONN_FLUSHING},
    [CONN_BROKEN] = {"broken", 1U << CONN_CLOSING},
    [CONN_FLUSHING] = {"flushing", 1U << CONN_DRAINING | 1U << CONN_CLOSING},
    [CONN_DRAINING] = {"draining", 1U << CONN_CLOSING},
    [CONN_CLOSING] = {"closing", 1U << CONN_CLOSED},
    [CONN_CLOSED] = {"closed", 0},
};

static void step(struct conn *self, enum conn_event event);

void conn_move(struct conn *self, enum conn_state next)
{
    ASSERT(next < sizeof states / sizeof states[0]);
    ASSERT((states[self->state].next & 1U << next) != 0);
    self->state = next;
}

bool conn_writes(const struct conn *self)
{
    return self->state == CONN_OPEN || self->state == CONN_FAILED || self->state == CONN_FLUSHING;
}

static struct conn *recover(void *data)
{
    struct conn *self = data;

    ASSERT(self != NULL);
    ASSERT(self->magic == CONN_MAGIC);
    return self;
}

/* ---- callbacks of libuv ---- */

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct conn *self = recover(handle->data);

    ASSERT(self->state < CONN_CLOSING);
    turns_begin(self->limits.turns);
    if (status < 0) {
        /* libuv stopped polling; the next read or write says why. */
        events = self->poll_events;
        self->poll_events = 0;
    }
    /* Reading comes first: what the other side sent before it ended says more than EPIPE. */
    if ((events & UV_READABLE) != 0) {
        step(self, EVENT_READABLE);
    }
    if ((events & UV_WRITABLE) != 0) {
        step(self, EVENT_WRITABLE);
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct conn *self = recover(handle->data);

    ASSERT(self->state < CONN_CLOSING);
    step(self, EVENT_DEADLINE);
}

static void on_pump(uv_idle_t *handle)
{
    struct conn *self = recover(handle->data);

    ASSERT(self->state < CONN_CLOSING);
    step(self, EVENT_PUMP);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct conn *self = recover(handle->data);

    ASSERT(self->state == CONN_CLOSING && self->handles > 0);
    self->handles--;
    if (self->handles == 0) {
        step(self, EVENT_CLOSED);
    }
}

/* ---- what the handles wait for ---- */

static void set_poll(struct conn *self, int events)
{
    int rv;

    if (events == self->poll_events) {
        return;
    }
    self->poll_events = events;
    rv = events == 0 ? uv_poll_stop(&self->poll) : uv_poll_start(&self->poll, events, on_poll);
    ASSERT(rv == 0); /* Fails only for a closing handle or a descriptor with two handles. */
}

/* Makes handles and memory follow from the state; called after anything that may have changed it,
 * but once for a step and all that its callbacks did. */
static void settle(struct conn *self)
{
    bool reads = self->state == CONN_OPEN && self->pauses == 0;
    bool waits = self->write_blocked && self->queue.size > 0;
    bool pumps;
    int events = 0;
    int rv;

    if (self->steps > 0 || self->state >= CONN_CLOSING) {
        return;
    }
    if (self->state != CONN_OPEN) {
        self->unparsed.size = 0;
    }
    if (self->unparsed.size == 0) {
        free(self->kept);
        self->kept = NULL;
    }
    if ((reads && self->unparsed.size == 0) || self->state == CONN_DRAINING) {
        events |= UV_READABLE;
    }
    if (conn_writes(self) && waits) {
        events |= UV_WRITABLE;
    }
    set_poll(self, events);
    pumps =
        (conn_writes(self) && self->queue.size > 0 && !waits) || (reads && self->unparsed.size > 0);
    rv = pumps ? uv_idle_start(&self->pump, on_pump) : uv_idle_stop(&self->pump);
    ASSERT(rv == 0); /* Neither can fail with a callback. */
}

/* ---- ending ---- */

static void close_handles(struct conn *self)
{
    set_poll(self, 0);
    conn_move(self, CONN_CLOSING);
    uv_close((uv_handle_t *)&self->poll, on_handle_closed);
    uv_close((uv_handle_t *)&self->timer, on_handle_closed);
    uv_close((uv_handle_t *)&self->pump, on_handle_closed);
}

void conn_begin_closing(struct conn *self)
{
    int rv;

    close_handles(self);
    rv = close(self->fd); /* poll forgot it above, so its number may be used again. */
    ASSERT(rv == 0 || errno != EBADF);
    self->fd = -1;
}

static void finish(struct conn *self)
{
    conn_move(self, CONN_CLOSED);
    self->events.closed(self, self->arg);
    send_queue_fini(&self->queue);
    frame_parser_fini(&self->parser);
    free(self->kept);
    self->magic = 0;
    free(self);
}

/* next is FAILED where a last frame can still be sent. */
void conn_fail(struct conn *self, enum conn_state next, enum err err, const char *text)
{
    ASSERT(self->state == CONN_OPEN);
    ASSERT(next == CONN_FAILED || next == CONN_BROKEN);
    ASSERT(err != ERR_OK && err != ERR_AGAIN);
    conn_move(self, next);
    (void)uv_timer_stop(&self->timer); /* Cannot fail. */
    self->events.failed(self, self->arg, err, text);
}

void conn_fail_with_errno(struct conn *self, const char *verb, int number)
{
    struct err_info info;

    ASSERT(number > 0);
    (void)err_set(&info, err_from_uv(-number), "%s: %s", verb,
                  uv_strerror(-number)); /* Used next. */
    conn_fail(self, CONN_BROKEN, info.code, info.text);
}

/* ---- deadlines ---- */

/* When hello_ms and idle_ms will have passed, whichever is first; UINT64_MAX: never. */
static uint64_t next_deadline_ms(const struct conn *self, bool *ret_is_hello)
{
    uint64_t hello_ms = UINT64_MAX;
    uint64_t idle_ms = UINT64_MAX;

    if (!self->established && self->limits.hello_ms > 0) {
        hello_ms = self->opened_ms + self->limits.hello_ms;
    }
    if (self->pauses == 0 && self->limits.idle_ms > 0) {
        idle_ms = self->heard_ms + self->limits.idle_ms;
    }
    *ret_is_hello = hello_ms <= idle_ms;
    return *ret_is_hello ? hello_ms : idle_ms;
}

/* The timer is not moved with every read: it fires at what was the deadline once and looks. */
static void arm_timer(struct conn *self)
{
    uint64_t now_ms = uv_now(self->timer.loop);
    bool is_hello;
    uint64_t deadline_ms = next_deadline_ms(self, &is_hello);
    int rv;

    ASSERT(self->state == CONN_OPEN);
    if (deadline_ms == UINT64_MAX) {
        (void)uv_timer_stop(&self->timer); /* Cannot fail. */
        return;
    }
    rv = uv_timer_start(&self->timer, on_timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
    ASSERT(rv == 0); /* The handle is not closing. */
}

static void check_deadlines(struct conn *self)
{
    struct err_info info;
    bool is_hello;

    if (next_deadline_ms(self, &is_hello) <= uv_now(self->timer.loop)) {
        /* Timers run before sockets are looked at: when it was this loop that was late, what it
         * waits for may have come in time. */
        conn_read(self);
    }
    if (self->state != CONN_OPEN) {
        return;
    }
    if (next_deadline_ms(self, &is_hello) > uv_now(self->timer.loop)) {
        arm_timer(self);
        return;
    }
    (void)err_set(&info, ERR_TIMEOUT,
                  is_hello ? "no complete hello came within %" PRIu64 " ms"
                           : "nothing arrived for %" PRIu64 " ms",
                  is_hello ? self->limits.hello_ms : self->limits.idle_ms); /* Used next. */
    conn_fail(self, CONN_FAILED, ERR_TIMEOUT, info.text);
}

/* ---- decisions ---- */

static void step_open(struct conn *self, enum conn_event event)
{
    if (event == EVENT_READABLE) {
        conn_read(self);
    } else if (event == EVENT_DEADLINE) {
        check_deadlines(self);
    } else {
        if (self->unparsed.size > 0 && self->pauses == 0) {
            conn_deliver(self);
        }
        if (conn_writes(self)) {
            conn_write(self);
        }
    }
}

static void step(struct conn *self, enum conn_event event)
{
    self->steps++;
    switch (self->state) {
    case CONN_OPEN:
        step_open(self, event);
        break;
    case CONN_FAILED:
        if (event == EVENT_PUMP || event == EVENT_WRITABLE) {
            conn_write(self);
        }
        break;
    case CONN_FLUSHING:
        if (event == EVENT_DEADLINE) {
            conn_begin_closing(self);
        } else if (event == EVENT_PUMP || event == EVENT_WRITABLE) {
            conn_write(self);
        }
        break;
    case CONN_DRAINING:
        if (event == EVENT_DEADLINE || (event == EVENT_READABLE && socket_discard(self->fd))) {
            conn_begin_closing(self);
        }
        break;
    case CONN_CLOSING:
        if (event == EVENT_CLOSED) {
            finish(self);
            return;
        }
        break;
    case CONN_BROKEN: /* Nothing is to be done until conn_close. */
    case CONN_CLOSED:
        break;
    }
    self->steps--;
    settle(self);
}

/* ---- what owners call ---- */

static enum err set_stall(const struct conn *self)
{
    enum { STALL_MS = 10000 };

    return socket_set_stall(self->fd, self->limits.stall_ms > 0 ? self->limits.stall_ms : STALL_MS);
}

/* Nothing that needs the loop to undo happens before the last call that can fail. */
static enum err init(struct conn *self, uv_loop_t *loop)
{
    enum err err = socket_set_options(self->fd);
    int rv;

    err = err == ERR_OK ? set_stall(self) : err;
    if (err != ERR_OK) {
        return err;
    }
    rv = uv_poll_init(loop, &self->poll, self->fd); /* Makes the socket non-blocking. */
    if (rv != 0) {
        return rv == UV_ENOMEM ? ERR_NOMEM : ERR_IO;
    }
    rv = uv_timer_init(loop, &self->timer);
    ASSERT(rv == 0); /* Cannot fail, nor can the next. */
    rv = uv_idle_init(loop, &self->pump);
    ASSERT(rv == 0);
    self->poll.data = self;
    self->timer.data = self;
    self->pump.data = self;
    self->handles = CONN_HANDLES;
    return ERR_OK;
}

enum err conn_open(uv_loop_t *loop, int fd, const struct conn_limits *limits,
                   const struct conn_events *events, void *arg, struct conn **ret_conn)
{
    struct conn *self = calloc(1, sizeof *self);
    enum err err = ERR_NOMEM;

    ASSERT(fd >= 0);
    ASSERT(events->frame != NULL && events->failed != NULL && events->closed != NULL);
    if (self == NULL) {
        goto out;
    }
    self->magic = CONN_MAGIC;
    self->fd = fd;
    self->limits = *limits;
    self->events = *events;
    self->arg = arg;
    frame_parser_init(&self->parser, limits->frame_size_max);
    send_queue_init(&self->queue);
    err = init(self, loop);
    if (err != ERR_OK) {
        goto out;
    }
    socket_peer(fd, self->peer);
    uv_update_time(loop); /* The loop may not have run for longer than hello_ms. */
    self->opened_ms = uv_now(loop);
    self->heard_ms = self->opened_ms;
    arm_timer(self);
    settle(self);
    *ret_conn = self;
    return ERR_OK;

out:
    free(self);
    (void)close(fd); /* It held nothing of ours yet. */
    return err;
}

enum err conn_send(struct conn *self, const struct frame_out *frame, bool always)
{
    size_t size = send_queue_frame_size(frame);
    size_t size_max = self->limits.queue_size_max;
    enum err err;

    ASSERT(self->magic == CONN_MAGIC);
    if (self->state != CONN_OPEN && self->state != CONN_FAILED) {
        return ERR_CLOSED;
    }
    if (!always && self->queue.size > 0 &&
        (self->queue.size >= size_max || size > size_max - self->queue.size)) {
        self->drain_owed = true;
        return ERR_BUSY;
    }
    err = send_queue_push(&self->queue, frame);
    if (err != ERR_OK) {
        return err;
    }
    if (self->queue.size > size_max / 2) {
        self->drain_owed = true;
    }
    settle(self);
    return ERR_OK;
}

void conn_pause(struct conn *self)
{
    ASSERT(self->magic == CONN_MAGIC);
    ASSERT(self->pauses < UINT32_MAX);
    self->pauses++;
    settle(self);
}

void conn_resume(struct conn *self)
{
    ASSERT(self->magic == CONN_MAGIC);
    ASSERT(self->pauses > 0);
    self->pauses--;
    if (self->pauses == 0 && self->state == CONN_OPEN) {
        self->heard_ms = uv_now(self->timer.loop);
        arm_timer(self);
    }
    settle(self);
}

void conn_close(struct conn *self, uint64_t linger_ms)
{
    int rv;

    ASSERT(self->magic == CONN_MAGIC);
    if (self->state >= CONN_FLUSHING) {
        return;
    }
    if (self->state == CONN_BROKEN) {
        conn_begin_closing(self);
        return;
    }
    conn_move(self, CONN_FLUSHING);
    rv = uv_timer_start(&self->timer, on_timer, linger_ms, 0);
    ASSERT(rv == 0); /* The handle is not closing. */
    if (!self->write_blocked) {
        conn_write(self); /* Calls nobody back in this state. */
    }
    settle(self);
}

enum err conn_release(struct conn *self, int *ret_fd)
{
    ASSERT(self->magic == CONN_MAGIC);
    if (self->state != CONN_OPEN) {
        return ERR_CLOSED;
    }
    if (self->queue.size > 0 || self->unparsed.size > 0 || self->parser.position > 0) {
        return ERR_PROTOCOL;
    }
    close_handles(self); /* poll forgets the socket, which another loop may poll from now on. */
    *ret_fd = self->fd;
    self->fd = -1;
    return ERR_OK;
}

void conn_established(struct conn *self, const struct conn_limits *limits)
{
    ASSERT(self->magic == CONN_MAGIC);
    frame_parser_set_size_max(&self->parser, limits->frame_size_max);
    self->limits = *limits;
    self->established = true;
    if (self->state == CONN_OPEN) {
        (void)set_stall(self); /* It was a TCP socket when it was opened. */
        arm_timer(self);
    }
}

const char *conn_peer(const struct conn *self)
{
    ASSERT(self->magic == CONN_MAGIC);
    return self->peer;
}

size_t conn_queue_size(const struct conn *self)
{
    ASSERT(self->magic == CONN_MAGIC);
    return self->queue.size;
}

void *conn_arg(const struct conn *self)
{
    ASSERT(self->magic == CONN_MAGIC);
    return self->arg;
}
