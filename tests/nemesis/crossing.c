#include "nemesis/crossing.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/hello.h"

struct crossing *crossing_new(struct pipe_source *shared, int fd, const struct sockaddr_in *target,
                              const struct crossing_events *events)
{
    struct crossing *self = calloc(1, sizeof *self);

    if (self == NULL) {
        (void)close(fd); /* Nothing was written to it. */
        return NULL;
    }
    self->shared = shared;
    self->target = *target;
    self->events = events;
    self->state = CROSSING_HELLO;
    frame_parser_init(&self->parser, HELLO_FRAME_SIZE_MAX);
    /* These three always succeed, as no socket is made yet. */
    (void)uv_tcp_init(shared->loop, &self->near);
    (void)uv_tcp_init(shared->loop, &self->far);
    (void)uv_timer_init(shared->loop, &self->hello_timer);
    self->near.data = self;
    self->far.data = self;
    self->hello_timer.data = self;
    if (uv_tcp_open(&self->near, fd) != 0) {
        (void)close(fd);
    }
    return self;
}

/* ---- until it is known who speaks ---- */

/* Who sent these frames; clients, and what makes no sense, are nobody. */
static uint64_t speaker(const struct frame *frame)
{
    Quorlog__Hello *hello;
    uint64_t from;

    if (frame->type != QUORLOG__FRAME_TYPE__FRAME_HELLO) {
        return 0;
    }
    hello = quorlog__hello__unpack(NULL, frame->header_size, frame->header);
    if (hello == NULL) {
        return 0;
    }
    from = hello->node_id; /* A node that joins says so, too, though as a client. */
    quorlog__hello__free_unpacked(hello, NULL);
    return from;
}

static void identify(struct crossing *self, uint64_t from)
{
    ASSERT(self->state == CROSSING_HELLO);
    (void)uv_read_stop((uv_stream_t *)&self->near); /* Always succeeds. */
    (void)uv_timer_stop(&self->hello_timer);        /* As well. */
    self->from = from == self->to ? 0 : from;
    self->events->identified(self, self->node, self->from);
}

static void on_hello_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct crossing *self = handle->data;

    (void)suggested;
    *ret_buf = uv_buf_init((char *)self->begin + self->begin_size,
                           (unsigned)(sizeof self->begin - self->begin_size));
}

static void on_hello_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct crossing *self = stream->data;
    struct slice bytes = {.data = (const uint8_t *)buf->base,
                          .size = count > 0 ? (size_t)count : 0};
    struct frame frame;
    struct err_info info;
    enum err err;

    if (count == 0) {
        return;
    }
    if (count < 0) {
        crossing_close(self, count != UV_EOF);
        return;
    }
    self->begin_size += (size_t)count;
    err = frame_parser_parse(&self->parser, &bytes, &frame, &info);
    if (err == ERR_OK) {
        uint64_t from = speaker(&frame);

        block_unref(frame.block);
        identify(self, from);
    } else if (err != ERR_AGAIN) {
        identify(self, 0); /* The node tells what it thinks of it. */
    }
}

static void on_hello_timer(uv_timer_t *timer)
{
    crossing_close(timer->data, true);
}

void crossing_start(struct crossing *self)
{
    ASSERT(self->state == CROSSING_HELLO);
    (void)uv_tcp_nodelay(&self->near, 1); /* Only slower without. */
    (void)uv_timer_start(&self->hello_timer, on_hello_timer, CROSSING_HELLO_MS, 0); /* Succeeds. */
    if (uv_read_start((uv_stream_t *)&self->near, on_hello_alloc, on_hello_read) != 0) {
        crossing_close(self, true);
    }
}

/* ---- the node's side ---- */

static void on_connected(uv_connect_t *request, int status)
{
    struct crossing *self = request->data;

    if (self->state == CROSSING_CLOSING) {
        return;
    }
    ASSERT(self->state == CROSSING_CONNECTING);
    self->state = CROSSING_OPEN;
    if (status != 0) {
        self->forth.sink_lost = true;
        pipe_set_end(&self->back, PIPE_END_RESET);
        return;
    }
    (void)uv_tcp_nodelay(&self->far, 1); /* Only slower without. */
    pipe_source_ready(&self->back, (uv_stream_t *)&self->far);
    if (self->state == CROSSING_OPEN) {
        pipe_sink_ready(&self->forth, (uv_stream_t *)&self->far);
    }
}

static void on_wanted(struct pipe *pipe, void *arg)
{
    struct crossing *self = arg;

    ASSERT(pipe == &self->forth); /* Who dialled is connected. */
    if (self->state != CROSSING_IDLE) {
        return;
    }
    self->state = CROSSING_CONNECTING;
    self->connect.data = self;
    if (uv_tcp_connect(&self->connect, &self->far, (const struct sockaddr *)&self->target,
                       on_connected) != 0) {
        self->state = CROSSING_OPEN;
        self->forth.sink_lost = true;
        pipe_set_end(&self->back, PIPE_END_RESET);
    }
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* It is closed or will be. */
}

static void on_ended(struct pipe *pipe, void *arg, enum pipe_end end)
{
    struct crossing *self = arg;
    bool forth = pipe == &self->forth;

    self->ended_count++;
    if (end == PIPE_END_RESET || self->ended_count == 2 ||
        (forth && self->state == CROSSING_IDLE)) {
        crossing_close(self, end == PIPE_END_RESET);
    } else if (pipe->to != NULL) {
        (void)uv_shutdown(&self->shutdowns[forth], pipe->to,
                          on_shutdown); /* Fails once it is gone. */
    }
}

void crossing_begin(struct crossing *self, struct lane *forth, struct lane *back)
{
    static const struct pipe_events events = {on_wanted, on_ended};

    ASSERT(self->state == CROSSING_HELLO && self->begin_size > 0);
    self->state = CROSSING_IDLE;
    pipe_init(&self->forth, self->shared, forth, &events, self);
    pipe_init(&self->back, self->shared, back, &events, self);
    pipe_sink_ready(&self->back, (uv_stream_t *)&self->near);
    if (!pipe_put(&self->forth, self->begin, self->begin_size)) {
        crossing_close(self, true);
        return;
    }
    pipe_source_ready(&self->forth, (uv_stream_t *)&self->near);
}

void crossing_step(struct crossing *self)
{
    struct pipe *pipes[] = {&self->forth, &self->back};

    if (self->state == CROSSING_HELLO) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        const struct lane *lane = pipes[i]->lane;

        if (self->state == CROSSING_CLOSING) {
            return;
        }
        if (pipes[i]->spoilt && lane->condition.state == LANE_OPEN) {
            crossing_close(self, true);
        } else if (lane->condition.delay_us == 0 && lane->condition.rate == 0) {
            pipe_hurry(pipes[i]);
        } else {
            pipe_step(pipes[i]);
        }
    }
}

/* ---- the end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct crossing *self = handle->data;

    ASSERT(self->closed_count > 0);
    self->closed_count--;
    if (self->closed_count == 0) {
        self->events->closed(self, self->network);
        frame_parser_fini(&self->parser);
        free(self);
    }
}

void crossing_close(struct crossing *self, bool reset)
{
    bool begun = self->state != CROSSING_HELLO;

    if (self->state == CROSSING_CLOSING) {
        return;
    }
    self->state = CROSSING_CLOSING;
    if (begun) {
        pipe_fini(&self->forth);
        pipe_fini(&self->back);
        self->forth.timer.data = self;
        self->back.timer.data = self;
        uv_close((uv_handle_t *)&self->forth.timer, on_handle_closed);
        uv_close((uv_handle_t *)&self->back.timer, on_handle_closed);
    }
    self->closed_count = begun ? CROSSING_HANDLES : CROSSING_HANDLES - 2;
    self->near.data = self;
    self->far.data = self;
    uv_close((uv_handle_t *)&self->hello_timer, on_handle_closed);
    if (!reset || uv_tcp_close_reset(&self->near, on_handle_closed) != 0) {
        uv_close((uv_handle_t *)&self->near, on_handle_closed);
    }
    if (!reset || uv_tcp_close_reset(&self->far, on_handle_closed) != 0) {
        uv_close((uv_handle_t *)&self->far, on_handle_closed);
    }
}

uint64_t crossing_ends(const struct crossing *self, uint64_t *ret_from)
{
    *ret_from = self->from;
    return self->to;
}

size_t crossing_queued(const struct crossing *self)
{
    return self->state == CROSSING_HELLO ? self->begin_size
                                         : self->forth.queued + self->back.queued;
}
