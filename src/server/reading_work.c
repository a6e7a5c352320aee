/*
 * A reading's work: batches, or the offset of a time, from this node's disk by a worker; from
 * another node where this one lacks them or has them damaged.
 */
#include "base/assert.h"
#include "base/container.h"
#include "server/reading_internal.h"

static void on_work(struct work *work)
{
    struct reading *self = CONTAINER_OF(work, struct reading, work);

    seek_run(&self->seek);
}

/* Sends what was read, here or elsewhere, and goes on. A filtered step that found nothing is told,
 * too: that it goes on is all that somebody who waits would see of it. */
static void deliver(struct reading *self, const struct slice *body, uint64_t end,
                    const struct seek_counts *counts)
{
    uint64_t count = counts != NULL ? counts->matches : end - self->next;

    ASSERT(end > self->next);
    ASSERT((counts != NULL) == (self->filter != NULL));
    reading_send_batches(self, body->size > 0 ? body : NULL, end, counts);
    self->next = end;
    self->credit -= (int64_t)body->size;
    if (self->records_left != UINT64_MAX) {
        /* Whole batches: the last one may hold more than was asked for. */
        self->records_left -= count < self->records_left ? count : self->records_left;
    }
    block_unref(self->seek.block);
    self->seek.block = NULL;
    if (!self->stream) {
        reading_over(self);
    } else if (self->records_left == 0) {
        reading_end_stream(self);
    } else {
        reading_step(self);
    }
}

static void found_time(struct reading *self, uint64_t offset)
{
    self->next = offset;
    self->positioned = true;
    reading_step(self);
}

static void fail_seek(struct reading *self, const char *why)
{
    struct failure failure;

    (void)failure_set(&failure, self->seek.err, "%s%s", self->seek.info.text, why);
    reading_fail(self, &failure);
}

/* ---- elsewhere: what is missing or damaged here ---- */

static void on_elsewhere(struct elsewhere *elsewhere, const struct slice *batches, uint64_t next)
{
    struct reading *self = CONTAINER_OF(elsewhere, struct reading, elsewhere);
    struct session *session = self->request.session;

    ASSERT(self->state == READING_ELSEWHERE && session != NULL);
    reading_give_back_room(self);
    reading_move(self, READING_DECIDING);
    if (self->seek.by_time) {
        found_time(self, next);
    } else {
        deliver(self, batches, next, self->filter != NULL ? &elsewhere->counts : NULL);
    }
    session_wake(session);
}

static void on_nobody(struct elsewhere *elsewhere)
{
    struct reading *self = CONTAINER_OF(elsewhere, struct reading, elsewhere);
    struct session *session = self->request.session;

    ASSERT(self->state == READING_ELSEWHERE && session != NULL);
    reading_give_back_room(self);
    reading_move(self, READING_DECIDING);
    fail_seek(self, "; no other node could give them either");
    session_wake(session);
}

/* The worker met damage or a hole. Returns whether others are asked; what it reserved stays so. */
static bool ask_elsewhere(struct reading *self)
{
    const struct seek *seek = &self->seek;
    struct elsewhere_query query = {
        .topic = self->name,
        .topic_id = self->topic->id,
        .by_time = seek->by_time,
        .time_us = self->time_us,
        .offset = self->next,
        .end = log_end(self->topic->log),
        .records_max = self->records_left,
        .filter = seek->filter != NULL ? self->filter : NULL,
        .bytes_max = (uint32_t)seek->size_max,
    };

    if (seek->undecodable ||
        (seek->err != ERR_HOLE && seek->err != ERR_CORRUPT && seek->err != ERR_IO)) {
        return false;
    }
    if (seek->err != ERR_HOLE && !seek->by_time) {
        group_report_damage(self->front->node->group, self->topic->id, self->next);
    }
    if (session_of_node(self->request.session)) {
        return false; /* The node that asks goes on to the next one. */
    }
    self->elsewhere.answered = on_elsewhere;
    self->elsewhere.nobody = on_nobody;
    if (!elsewhere_ask(&self->elsewhere, self->front, &query)) {
        return false;
    }
    reading_move(self, READING_ELSEWHERE);
    return true;
}

static void decide_on(struct reading *self)
{
    struct seek *seek = &self->seek;
    struct slice body;

    switch ((int)seek->err) {
    case ERR_OK:
        if (seek->by_time) {
            found_time(self, seek->offset);
            break;
        }
        body = (struct slice){.block = seek->block};
        if (seek->block != NULL) {
            body.data = seek->block->data;
            body.size = seek->block->size;
        }
        deliver(self, &body, seek->end, seek->filter != NULL ? &seek->counts : NULL);
        break;
    case ERR_RANGE:
        reading_fail_range(self);
        break;
    case ERR_AGAIN:
        reading_step(self);
        break;
    default:
        fail_seek(self, "");
        break;
    }
}

static void on_work_done(struct work *work)
{
    struct reading *self = CONTAINER_OF(work, struct reading, work);
    struct session *session = self->request.session;

    ASSERT(self->state == READING_WORKING);
    if (session == NULL) {
        reading_move(self, READING_OVER);
        reading_release(self);
        return;
    }
    reading_move(self, READING_DECIDING);
    if (ask_elsewhere(self)) {
        return;
    }
    session_unreserve(session, self->seek.size_max);
    decide_on(self);
    session_wake(session);
}

/* What a read brings at most, unless a single batch is larger. */
size_t reading_size_max(const struct reading *self)
{
    if (self->stream && self->credit < (int64_t)self->bytes_max) {
        return self->credit > 1 ? (size_t)self->credit : 1;
    }
    return self->bytes_max;
}

/* size_max bytes are reserved in the session. */
void reading_start_work(struct reading *self, bool by_time, size_t size_max)
{
    uint64_t left = UINT64_MAX - self->next;

    ASSERT(self->seek.block == NULL);
    self->seek = (struct seek){
        .log = self->topic->log,
        .topic = self->topic,
        .lookup = node_lookup(self->front->node),
        .by_time = by_time,
        .time_us = self->time_us,
        .offset = self->next,
        .end_max = self->records_left < left ? self->next + self->records_left : UINT64_MAX,
        .size_max = size_max,
        .filter = self->filter != NULL && !by_time ? &self->filter->filter : NULL,
        .matches_max = self->records_left,
    };
    self->work.run = on_work;
    self->work.done = on_work_done;
    reading_move(self, READING_WORKING);
    work_start(&self->work, self->front);
}
