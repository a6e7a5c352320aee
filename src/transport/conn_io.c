/*
 * Reading and writing of one connection. See conn.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "transport/conn_internal.h"
#include "transport/socket.h"

enum {
    READ_BUFFER_SIZE = 65536,
    READ_SIZE_SCARCE = 4096, /* … while memory for what arrives is scarce */
    DIRECT_READ_MIN =
        16384,        /* From so much on the block is read into; below it, with what follows */
    READS_MAX = 16,   /* Reads of one connection before the others have their turn. */
    PARTS_MAX = 1024, /* IOV_MAX of Linux */
};

/* ---- reading ---- */

/* Hands out frames from unparsed, and the one that was read straight into its block. */
void conn_deliver(struct conn *self)
{
    struct err_info info;
    struct frame frame;
    enum err err;

    do {
        err = frame_parser_parse(&self->parser, &self->unparsed, &frame, &info);
        if (err == ERR_AGAIN || err == ERR_BUSY) {
            self->starved = err == ERR_BUSY;
            if (self->starved || self->parser.taken > 0) {
                conn_arm_timer(self);
            }
            return;
        }
        if (err != ERR_OK) {
            conn_fail(self, CONN_FAILED, err, info.text);
            return;
        }
        self->events.frame(self, self->arg, &frame);
        block_unref(frame.block);
    } while (self->state == CONN_OPEN && self->pauses == 0 && self->unparsed.size > 0);
}

static void read_ended(struct conn *self)
{
    self->peer_ended = true;
    conn_fail(self, CONN_FAILED, ERR_CLOSED,
              self->parser.position > 0
                  ? "the other side ended the connection in the middle of a frame"
                  : "the other side ended the connection");
}

/* What is not parsed yet (the owner paused) is still needed when the buffer on the stack is gone.
 */
static void keep_unparsed(struct conn *self)
{
    if (self->unparsed.size == 0 || self->state != CONN_OPEN) {
        return;
    }
    ASSERT(self->kept == NULL);
    self->kept = malloc(self->unparsed.size);
    if (self->kept == NULL) {
        conn_fail(self, CONN_FAILED, ERR_NOMEM, "no memory to read with");
        return;
    }
    memcpy(self->kept, self->unparsed.data, self->unparsed.size);
    self->unparsed.data = self->kept;
    self->kept_size = self->unparsed.size;
    budget_take_always(self->limits.arriving, self->kept_size);
}

/* Returns whether it is worth while to read again at once. */
static bool read_once(struct conn *self)
{
    uint8_t buffer[READ_BUFFER_SIZE];
    uint8_t *room = NULL;
    size_t size = frame_parser_room(&self->parser, &room);
    bool direct = size >= DIRECT_READ_MIN;
    ssize_t n;

    ASSERT(self->unparsed.size == 0);
    if (!direct) {
        room = buffer;
        /* What is read must be kept if the owner pauses, or a frame has to wait. */
        size = budget_scarce(self->limits.arriving) ? READ_SIZE_SCARCE : sizeof buffer;
    }
    n = socket_read(self->fd, room, size);
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n < 0) {
        conn_fail_with_errno(self, "read", errno);
        return false;
    }
    if (n == 0) {
        read_ended(self);
        return false;
    }
    self->heard_ms = uv_now(self->timer.loop);
    if (direct) {
        frame_parser_filled(&self->parser, (size_t)n);
    } else {
        self->unparsed = (struct slice){.data = room, .size = (size_t)n};
    }
    conn_deliver(self);
    if (!direct) {
        keep_unparsed(self);
    }
    return (size_t)n == size && self->state == CONN_OPEN && self->pauses == 0 && !self->starved;
}

void conn_read(struct conn *self)
{
    if (self->pauses > 0 || self->starved || self->unparsed.size > 0) {
        return; /* Paused since the event was taken from the kernel. */
    }
    for (unsigned i = 0; i < READS_MAX && read_once(self); i++) {
    }
}

/* ---- writing ---- */

static void write_failed(struct conn *self, int number)
{
    if (self->state == CONN_OPEN) {
        conn_fail_with_errno(self, "write", number);
    } else if (self->state == CONN_FAILED) {
        conn_move(self, CONN_BROKEN);
    } else {
        conn_begin_closing(self);
    }
}

/* FLUSHING is done: say so to the other side and wait until it ends too. */
static void end_writing(struct conn *self)
{
    int rv = shutdown(self->fd, SHUT_WR);

    if (rv != 0 || self->peer_ended) {
        conn_begin_closing(self);
    } else {
        conn_move(self, CONN_DRAINING);
    }
}

static void on_queue_empty(struct conn *self)
{
    ASSERT(self->queue.size == 0);
    if (self->state == CONN_FLUSHING) {
        end_writing(self);
    } else if (self->state == CONN_OPEN && self->drain_owed) {
        self->drain_owed = false;
        if (self->events.drained != NULL) {
            self->events.drained(self, self->arg);
        }
    }
}

void conn_write(struct conn *self)
{
    struct iovec parts[PARTS_MAX];

    ASSERT(conn_writes(self));
    self->write_blocked = false;
    while (self->queue.size > 0) {
        size_t size;
        size_t count = send_queue_parts(&self->queue, parts, PARTS_MAX, &size);
        ssize_t n = socket_write(self->fd, parts, count);

        if (n < 0 && errno != EAGAIN) {
            write_failed(self, errno);
            return;
        }
        if (n > 0) {
            send_queue_consume(&self->queue, (size_t)n);
            budget_give(self->limits.leaving, (size_t)n);
            self->taken_ms = uv_now(self->timer.loop);
        }
        if (n < (ssize_t)size) {
            self->write_blocked = true;
            return;
        }
    }
    on_queue_empty(self);
}
