#include "transport/send_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "transport/frame.h"

struct send_node {
    struct send_node *next;
    size_t part_count;
    struct slice parts[]; /* block is an owned reference, or NULL: data is in this allocation,
                             behind the parts. No part is empty. */
};

void send_queue_init(struct send_queue *self)
{
    *self = (struct send_queue){0};
    self->tail = &self->head;
}

static void node_free(struct send_node *self)
{
    for (size_t i = 0; i < self->part_count; i++) {
        block_unref(self->parts[i].block);
    }
    free(self);
}

void send_queue_fini(struct send_queue *self)
{
    while (self->head != NULL) {
        struct send_node *node = self->head;

        self->head = node->next;
        node_free(node);
    }
    send_queue_init(self);
}

size_t send_queue_frame_size(const struct frame_out *frame)
{
    return FRAME_PREFIX_SIZE + frame->header_size + frame_out_body_size(frame);
}

static struct send_node *node_new(const struct frame_out *frame)
{
    size_t copied_size = FRAME_PREFIX_SIZE + frame->header_size;
    struct send_node *self;

    for (size_t i = 0; i < frame->body_count; i++) {
        ASSERT(IMPLIES(frame->body[i].size > 0, frame->body[i].data != NULL));
        copied_size += frame->body[i].block == NULL ? frame->body[i].size : 0;
    }
    self = malloc(sizeof *self + (1 + frame->body_count) * sizeof self->parts[0] + copied_size);
    if (self != NULL) {
        self->next = NULL;
        self->part_count = 0;
    }
    return self;
}

enum err send_queue_push(struct send_queue *self, const struct frame_out *frame)
{
    size_t body_size = frame_out_body_size(frame);
    struct send_node *node = node_new(frame);
    struct slice *part;
    uint8_t *copy;

    if (node == NULL) {
        return ERR_NOMEM;
    }
    copy = (uint8_t *)&node->parts[1 + frame->body_count];
    part = &node->parts[0];
    *part = (struct slice){.data = copy, .size = FRAME_PREFIX_SIZE + frame->header_size};
    frame_out_encode_prefix(frame, body_size, copy);
    if (frame->header_size > 0) {
        memcpy(copy + FRAME_PREFIX_SIZE, frame->header, frame->header_size);
    }
    copy += part->size;
    for (size_t i = 0; i < frame->body_count; i++) {
        const struct slice *slice = &frame->body[i];

        if (slice->size == 0) {
            continue;
        }
        if (slice->block != NULL) {
            *++part = *slice;
            (void)block_ref(slice->block); /* Returns its argument. */
            continue;
        }
        if (part->block != NULL) {
            *++part = (struct slice){.data = copy};
        }
        memcpy(copy, slice->data, slice->size);
        copy += slice->size;
        part->size += slice->size; /* Copies that follow each other are one part. */
    }
    node->part_count = (size_t)(part - node->parts) + 1;
    *self->tail = node;
    self->tail = &node->next;
    self->size += FRAME_PREFIX_SIZE + frame->header_size + body_size;
    return ERR_OK;
}

size_t send_queue_parts(const struct send_queue *self, struct iovec *parts, size_t count_max,
                        size_t *ret_size)
{
    size_t part = self->part;
    size_t offset = self->offset;
    size_t count = 0;
    size_t size = 0;

    ASSERT(count_max > 0);
    for (const struct send_node *node = self->head; node != NULL; node = node->next) {
        for (; part < node->part_count && count < count_max; part++) {
            const struct slice *slice = &node->parts[part];

            /* iovec has no const; writev only reads. */
            parts[count].iov_base = (uint8_t *)slice->data + offset;
            parts[count].iov_len = slice->size - offset;
            size += slice->size - offset;
            offset = 0;
            count++;
        }
        part = 0;
        if (count == count_max) {
            break;
        }
    }
    ASSERT((count == 0) == (self->size == 0)); /* I1 */
    *ret_size = size;
    return count;
}

void send_queue_consume(struct send_queue *self, size_t size)
{
    ASSERT(size <= self->size);
    self->size -= size;
    while (size > 0) {
        struct send_node *node = self->head;
        size_t rest;

        ASSERT(node != NULL); /* I1 */
        rest = node->parts[self->part].size - self->offset;
        ASSERT(rest > 0);
        if (size < rest) {
            self->offset += size;
            return;
        }
        size -= rest;
        self->offset = 0;
        self->part++;
        if (self->part == node->part_count) {
            self->part = 0;
            self->head = node->next;
            if (self->head == NULL) {
                self->tail = &self->head;
            }
            node_free(node);
        }
    }
}

void send_queue_check(const struct send_queue *self)
{
    size_t size = 0;

    for (const struct send_node *node = self->head; node != NULL; node = node->next) {
        ASSERT(node->part_count > 0);
        for (size_t i = 0; i < node->part_count; i++) {
            ASSERT(node->parts[i].size > 0);
            size += node->parts[i].size;
        }
    }
    for (size_t i = 0; self->head != NULL && i < self->part; i++) {
        size -= self->head->parts[i].size;
    }
    ASSERT(self->size == size - self->offset); /* I1 */
    ASSERT(IMPLIES(self->head == NULL, self->part == 0 && self->offset == 0));
    ASSERT(IMPLIES(self->head != NULL, self->part < self->head->part_count)); /* I2 */
    ASSERT(IMPLIES(self->head != NULL, self->offset < self->head->parts[self->part].size));
}
