/*
 * One direction of one connection through the link proxy: bytes are read from a socket, kept for as
 * long as the lane's condition says, and written to another one, in order.
 *
 * A lane is everything that goes from one node to another, over all connections, whoever dialled.
 *
 * Invariants
 * I1  At most PIPE_QUEUE_MAX bytes and one read more wait in a pipe; beyond it nothing is read.
 * I2  Bytes leave in the order in which they came, none before it is due.
 * I3  While the lane is blocked nothing leaves: no byte, no end, no reset.
 * I4  A pipe that dropped bytes is spoilt: nothing ever leaves it again.
 */
#ifndef QUORLOG_TESTS_NEMESIS_PIPE_H
#define QUORLOG_TESTS_NEMESIS_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum { PIPE_QUEUE_MAX = 256 * 1024, PIPE_READ_SIZE = 64 * 1024 };

enum lane_state {
    LANE_OPEN,
    LANE_BLOCKED,  /* bytes are held, and come when it opens again */
    LANE_DROPPING, /* bytes are taken and thrown away */
};

struct lane_condition {
    enum lane_state state;
    uint64_t delay_us;
    uint64_t jitter_us; /* the delay is that much more or less, drawn evenly */
    uint64_t rate;      /* bytes a second; 0: no bound */
};

struct lane {
    uint64_t from; /* nodes; 0: all clients */
    uint64_t to;
    struct lane_condition condition;
    uint64_t free_us; /* when all bytes so far have left, at condition.rate */
    uint64_t passed;  /* bytes */
    uint64_t dropped;
};

/* What the pipes of a proxy share. */
struct pipe_source {
    uv_loop_t *loop;
    uint64_t random; /* state of the generator */
    char buffer[PIPE_READ_SIZE];
};

enum pipe_end { PIPE_END_NONE, PIPE_END_CLOSED, PIPE_END_RESET };

struct pipe;
struct pipe_events {
    /* There are bytes for a socket that is not connected yet. */
    void (*wanted)(struct pipe *self, void *arg);
    /* Everything that came has left, and after it the source had ended so. Once. */
    void (*ended)(struct pipe *self, void *arg, enum pipe_end end);
};

struct pipe_chunk;
struct pipe {
    struct pipe_source *shared; /* borrowed */
    struct lane *lane;          /* borrowed */
    uv_stream_t *from;          /* borrowed */
    uv_stream_t *to;            /* borrowed */
    const struct pipe_events *events;
    void *arg;
    struct pipe_chunk *chunks; /* owned */
    size_t queued;             /* bytes */
    uint64_t due_us;           /* of the last chunk */
    uv_timer_t timer;
    uv_write_t write;
    enum pipe_end end; /* of the source */
    bool source_ready;
    bool sink_ready;
    bool sink_lost; /* what is written there is lost */
    bool reading;
    bool writing;
    bool ended;
    bool spoilt;
    bool stopped;
};

/* The two sockets are taken into use by pipe_source_ready and pipe_sink_ready. */
void pipe_init(struct pipe *self, struct pipe_source *shared, struct lane *lane,
               const struct pipe_events *events, void *arg);
void pipe_source_ready(struct pipe *self, uv_stream_t *from);
void pipe_sink_ready(struct pipe *self, uv_stream_t *to);

/* Bytes that were read already. False: no memory. */
bool pipe_put(struct pipe *self, const void *data, size_t size);

/* The source ended otherwise than by what was read from it. */
void pipe_set_end(struct pipe *self, enum pipe_end end);

/* The condition of the lane has changed. */
void pipe_step(struct pipe *self);

/* What waits has waited long enough. */
void pipe_hurry(struct pipe *self);

/* Stops; uses no socket any more. The caller closes self->timer. */
void pipe_fini(struct pipe *self);

#endif
