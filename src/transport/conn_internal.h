/*
 * What the files of a connection share: its state, and the few steps that both take.
 *
 *      conn.c      states, deadlines, what owners call         conn_io.c   reading and writing
 */
#ifndef QUORLOG_TRANSPORT_CONN_INTERNAL_H
#define QUORLOG_TRANSPORT_CONN_INTERNAL_H

#include "transport/frame.h"
#include "transport/send_queue.h"
#include "transport/transport.h"

enum conn_state {
    CONN_OPEN,
    CONN_FAILED,
    CONN_BROKEN,
    CONN_FLUSHING,
    CONN_DRAINING,
    CONN_CLOSING,
    CONN_CLOSED,
};

struct conn {
    uint32_t magic;
    enum conn_state state;
    int fd;             /* owned; -1 from CLOSING on */
    uv_poll_t poll;     /* Runs for poll_events, when there are any. */
    uv_timer_t timer;   /* Hello and idle while OPEN, linger while FLUSHING and DRAINING. */
    uv_idle_t pump;     /* Runs while there is something to do that needs no event. */
    unsigned handles;   /* Of the three above, how many are not closed yet. */
    unsigned steps;     /* step() calls under way; settle() waits for the last. */
    int poll_events;    /* What poll waits for now. */
    unsigned pauses;    /* conn_pause calls without their conn_resume. */
    bool write_blocked; /* The kernel took less than it was given: wait for writable. */
    bool peer_ended;    /* The other side will send no more. */
    bool established;   /* conn_established was called. */
    bool drain_owed;    /* `drained` follows when the queue is empty. */
    uint64_t opened_ms;
    uint64_t heard_ms; /* When the last byte arrived, or reading went on after a pause. */
    uint64_t taken_ms; /* When the other side last took something of the queue, or it was empty. */
    struct conn_limits limits;
    struct conn_events events;
    void *arg;
    struct frame_parser parser;
    struct slice unparsed; /* What was read and is still to be parsed. */
    uint8_t *kept;         /* owned; where unparsed is between two events, or NULL */
    size_t kept_size;      /* bytes, taken from the budget */
    bool starved;          /* The frame that begins waits for memory. */
    struct send_queue queue;
    char peer[TRANSPORT_ADDRESS_SIZE];
};

/* ---- conn.c ---- */

void conn_move(struct conn *self, enum conn_state next);

/* Whether what is queued is still to be written. */
bool conn_writes(const struct conn *self);

/* next is FAILED where a last frame can still be sent, BROKEN where not. */
void conn_fail(struct conn *self, enum conn_state next, enum err err, const char *text);
void conn_fail_with_errno(struct conn *self, const char *verb, int number);

void conn_begin_closing(struct conn *self);

/* Sees to it that the connection's next deadline is kept. */
void conn_arm_timer(struct conn *self);

/* ---- conn_io.c ---- */

/* Reads what is there and hands out its frames. */
void conn_read(struct conn *self);

/* Hands out frames from unparsed, and the one that was read straight into its block. */
void conn_deliver(struct conn *self);

/* Writes what the kernel takes. */
void conn_write(struct conn *self);

#endif
