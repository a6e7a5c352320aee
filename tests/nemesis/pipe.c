#include "nemesis/pipe.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"

struct pipe_chunk {
    struct pipe_chunk *prev;
    struct pipe_chunk *next;
    uint64_t due_us;
    size_t size;
    char data[];
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

/* splitmix64: the numbers depend on the seed alone. */
static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* When bytes that come now arrive at the other side. */
static uint64_t due(struct pipe *self, size_t size)
{
    struct lane *lane = self->lane;
    const struct lane_condition *condition = &lane->condition;
    uint64_t at = now_us();

    if (condition->rate > 0) {
        lane->free_us =
            (lane->free_us > at ? lane->free_us : at) + (uint64_t)size * 1000000 / condition->rate;
        at = lane->free_us;
    }
    at += condition->delay_us;
    if (condition->jitter_us > 0) {
        uint64_t jitter = draw(&self->shared->random) % (2 * condition->jitter_us + 1);

        at = at + jitter > condition->jitter_us ? at + jitter - condition->jitter_us : 0;
    }
    self->due_us = at > self->due_us ? at : self->due_us; /* I2 */
    return self->due_us;
}

bool pipe_put(struct pipe *self, const void *data, size_t size)
{
    struct pipe_chunk *chunk = malloc(sizeof *chunk + size);

    ASSERT(size > 0 && size <= PIPE_READ_SIZE);
    ASSERT(self->end == PIPE_END_NONE);
    if (chunk == NULL) {
        return false;
    }
    chunk->size = size;
    chunk->due_us = due(self, size);
    memcpy(chunk->data, data, size);
    DL_APPEND(self->chunks, chunk);
    self->queued += size;
    return true;
}

static void drop_first(struct pipe *self)
{
    struct pipe_chunk *chunk = self->chunks;

    ASSERT(chunk != NULL && self->queued >= chunk->size);
    DL_DELETE(self->chunks, chunk);
    self->queued -= chunk->size;
    free(chunk);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct pipe *self = handle->data;

    (void)suggested;
    *ret_buf = uv_buf_init(self->shared->buffer, sizeof self->shared->buffer);
}

/* A handle's data is the pipe that reads from it. */
static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct pipe *self = stream->data;

    ASSERT(self->from == stream && self->reading);
    if (count > 0 && pipe_put(self, buf->base, (size_t)count)) {
        pipe_step(self);
    } else if (count != 0) {
        pipe_set_end(self, count == UV_EOF ? PIPE_END_CLOSED : PIPE_END_RESET);
    }
}

static void set_reading(struct pipe *self, bool reading)
{
    if (reading == self->reading) {
        return;
    }
    self->reading = reading;
    if (!reading) {
        (void)uv_read_stop(self->from); /* Always succeeds. */
    } else if (uv_read_start(self->from, on_alloc, on_read) != 0) {
        self->reading = false;
        self->end = PIPE_END_RESET;
    }
}

static void on_timer(uv_timer_t *timer)
{
    pipe_step(timer->data);
}

static void on_written(uv_write_t *request, int status)
{
    struct pipe *self = request->data;

    ASSERT(self->writing);
    self->writing = false;
    if (self->stopped) {
        return; /* The socket is being closed; what was written then may be told late. */
    }
    self->sink_lost = self->sink_lost || status != 0;
    self->lane->passed += self->chunks->size;
    drop_first(self);
    pipe_step(self);
}

static void write_first(struct pipe *self)
{
    uv_buf_t buf = uv_buf_init(self->chunks->data, (unsigned)self->chunks->size);

    ASSERT(!self->writing && self->sink_ready);
    self->write.data = self;
    if (uv_write(&self->write, self->to, &buf, 1, on_written) == 0) {
        self->writing = true;
    } else {
        self->sink_lost = true;
    }
}

/* Sends what is due, and sees to being called again for the rest. */
static void send_due(struct pipe *self)
{
    while (self->chunks != NULL && !self->writing) {
        uint64_t now = now_us();

        if (self->sink_lost) {
            drop_first(self);
        } else if (self->chunks->due_us > now) {
            (void)uv_timer_start(&self->timer, on_timer, (self->chunks->due_us - now + 999) / 1000,
                                 0); /* Has a callback. */
            return;
        } else if (!self->sink_ready) {
            self->events->wanted(self, self->arg);
            return;
        } else {
            write_first(self);
        }
    }
    if (self->chunks == NULL && !self->writing && self->end != PIPE_END_NONE && !self->ended) {
        self->ended = true;
        self->events->ended(self, self->arg, self->end);
    }
}

static void throw_away(struct pipe *self)
{
    struct pipe_chunk *keep = self->writing ? self->chunks : NULL; /* uv has it */
    struct pipe_chunk *chunk;
    struct pipe_chunk *next;

    DL_FOREACH_SAFE(self->chunks, chunk, next)
    {
        if (chunk != keep) {
            self->lane->dropped += chunk->size;
            self->queued -= chunk->size;
            DL_DELETE(self->chunks, chunk);
            free(chunk);
            self->spoilt = true;
        }
    }
    self->spoilt = self->spoilt || self->end != PIPE_END_NONE;
}

void pipe_step(struct pipe *self)
{
    enum lane_state state = self->lane->condition.state;
    bool dropping = state == LANE_DROPPING || self->spoilt; /* I4 */

    if (self->ended) {
        return;
    }
    if (dropping) {
        throw_away(self);
    }
    /* I1 */
    set_reading(self, self->source_ready && self->end == PIPE_END_NONE && state != LANE_BLOCKED &&
                          self->queued < PIPE_QUEUE_MAX);
    if (dropping || state == LANE_BLOCKED) {
        (void)uv_timer_stop(&self->timer); /* Always succeeds. */
        return;                            /* I3 */
    }
    send_due(self);
}

void pipe_hurry(struct pipe *self)
{
    struct pipe_chunk *chunk;

    DL_FOREACH(self->chunks, chunk)
    {
        chunk->due_us = 0;
    }
    self->due_us = 0;
    pipe_step(self);
}

void pipe_init(struct pipe *self, struct pipe_source *shared, struct lane *lane,
               const struct pipe_events *events, void *arg)
{
    ASSERT(shared != NULL && lane != NULL);
    *self = (struct pipe){.shared = shared, .lane = lane, .events = events, .arg = arg};
    (void)uv_timer_init(shared->loop, &self->timer); /* Always succeeds. */
    self->timer.data = self;
}

void pipe_source_ready(struct pipe *self, uv_stream_t *from)
{
    ASSERT(!self->source_ready);
    self->from = from;
    from->data = self;
    self->source_ready = true;
    pipe_step(self);
}

void pipe_sink_ready(struct pipe *self, uv_stream_t *to)
{
    ASSERT(!self->sink_ready);
    self->to = to;
    self->sink_ready = true;
    pipe_step(self);
}

void pipe_set_end(struct pipe *self, enum pipe_end end)
{
    ASSERT(end != PIPE_END_NONE);
    if (self->reading) {
        set_reading(self, false);
    }
    if (self->end == PIPE_END_NONE) {
        self->end = end;
    }
    pipe_step(self);
}

void pipe_fini(struct pipe *self)
{
    if (self->reading) {
        set_reading(self, false);
    }
    (void)uv_timer_stop(&self->timer); /* Always succeeds. */
    self->ended = true;
    self->stopped = true;
    while (self->chunks != NULL) {
        drop_first(self);
    }
}
