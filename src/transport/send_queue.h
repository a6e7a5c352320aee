/*
 * Frames that wait to be written to one socket, as bytes that writev can take.
 *
 * A frame becomes one node: its prefix, header and those slices that belong to no block are copied
 * into the node; the other slices' blocks are referenced until the node is written.
 *
 * Invariants
 * I1  size is the number of bytes not yet consumed, and 0 iff there is no node.
 * I2  part and offset point into head at the next byte to write; part < head->part_count.
 */
#ifndef QUORLOG_TRANSPORT_SEND_QUEUE_H
#define QUORLOG_TRANSPORT_SEND_QUEUE_H

#include <stddef.h>
#include <sys/uio.h>

#include "base/err.h"
#include "transport/transport.h"

struct send_node;

struct send_queue {
    struct send_node *head; /* owned, linked */
    struct send_node **tail;
    size_t size;   /* bytes */
    size_t part;   /* The part of head that is next. */
    size_t offset; /* Bytes of that part already consumed. */
};

void send_queue_init(struct send_queue *self);

/* Drops what is queued. */
void send_queue_fini(struct send_queue *self);

/* Bytes that a frame takes on the wire and in the queue. */
size_t send_queue_frame_size(const struct frame_out *frame);

/* Appends a frame. ERR_NOMEM: nothing changed. */
enum err send_queue_push(struct send_queue *self, const struct frame_out *frame);

/* The next bytes as at most count_max parts; valid until the queue changes. Returns how many parts
 * there are, 0 iff the queue is empty, and in *ret_size their bytes. */
size_t send_queue_parts(const struct send_queue *self, struct iovec *parts, size_t count_max,
                        size_t *ret_size);

/* The first `size` bytes were written; size <= self->size. */
void send_queue_consume(struct send_queue *self, size_t size);

/* Asserts I1 and I2. */
void send_queue_check(const struct send_queue *self);

#endif
