#include "server/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "server/reading_internal.h"

enum {
    DEADLINE_DEFAULT_MS = 30000,
    BYTES_DEFAULT = 1 << 20,
    BYTES_MAX = 8 << 20, /* one answer, unless a single batch is larger */
};

struct reading *reading_of(struct request *request)
{
    return CONTAINER_OF(request, struct reading, request);
}

/* ---- state ---- */

static bool waits(enum reading_state state)
{
    return state == READING_APPLYING || state == READING_WAITING;
}

void reading_move(struct reading *self, enum reading_state state)
{
    struct readings *readings = &self->front->readings;

    ASSERT(self->state != READING_OVER);
    /* All leads from and to the decision, and anything may end. */
    ASSERT(self->state == READING_DECIDING || state == READING_DECIDING || state == READING_OVER);
    if (waits(self->state)) {
        DL_DELETE2(readings->waiting, self, prev, next_waiting);
    }
    if (state != READING_CONFIRMING) {
        freshness_forget(&self->freshness, self->front);
    }
    self->state = state;
    if (waits(state)) {
        DL_APPEND2(readings->waiting, self, prev, next_waiting);
        front_watch(self->front);
    }
}

void reading_release(struct reading *self)
{
    struct front *front = self->front;

    ASSERT(self->state == READING_OVER && self->request.session == NULL);
    ASSERT(self->deadline.place == 0);
    DL_DELETE2(front->readings.all, self, all_prev, all_next);
    topic_unref(self->topic);
    seek_fini(&self->seek);
    free(self->filter);
    free(self);
    front_check_finished(front);
}

/* Before the request ends: room that a read under way has reserved in its session. */
void reading_give_back_room(struct reading *self)
{
    if ((self->state == READING_WORKING || self->state == READING_ELSEWHERE) &&
        self->request.session != NULL) {
        session_unreserve(self->request.session, self->seek.size_max);
    }
}

/* Nobody wants more of it. Frees, unless a worker has it, who then does. */
void reading_over(struct reading *self)
{
    bool working = self->state == READING_WORKING;

    reading_give_back_room(self);
    elsewhere_cancel(&self->elsewhere);
    if (working) {
        working = !work_cancel(&self->work);
    }
    deadlines_cancel(&self->front->deadlines, &self->deadline);
    request_end(&self->request);
    if (!working) {
        reading_move(self, READING_OVER);
        reading_release(self);
    }
}

void reading_fail(struct reading *self, struct failure *failure)
{
    failure->unknown = false; /* Reading changes nothing. */
    (void)err_prefix(&failure->info, failure->info.code, "consume '%s'", self->name);
    request_fail(&self->request, failure);
    reading_over(self);
}

void reading_fail_range(struct reading *self)
{
    struct failure failure;
    uint64_t start = topic_start(self->topic);
    uint64_t end = log_end(self->topic->log);

    if (self->next < start) {
        (void)failure_set(&failure, ERR_RANGE,
                          "offset %" PRIu64 " is gone: records below %" PRIu64
                          " were trimmed or have passed the topic's retention; the log now begins "
                          "at %" PRIu64 " and ends before %" PRIu64,
                          self->next, start, start, end);
    } else {
        (void)failure_set(&failure, ERR_RANGE,
                          "offset %" PRIu64 " is not among those that node %" PRIu64
                          " can read, from %" PRIu64 " to before %" PRIu64,
                          self->next, self->front->node->identity.node_id, start, end);
    }
    failure.log_start = start;
    failure.log_end = end;
    reading_fail(self, &failure);
}

static void fail_unknown_topic(struct reading *self)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_TOPIC_UNKNOWN, "there is no such topic on node %" PRIu64,
                      self->front->node->identity.node_id);
    reading_fail(self, &failure);
}

static void fail_other_topic(struct reading *self)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_TOPIC_UNKNOWN,
                      "the topic that was read has been deleted; node %" PRIu64
                      " has another one of that name",
                      self->front->node->identity.node_id);
    reading_fail(self, &failure);
}

static void on_cancel(struct request *request, enum err err)
{
    struct reading *self = reading_of(request);

    if (err == ERR_SHUTDOWN) {
        reading_give_back_room(self);
        request_fail_plain(request, err, "consume");
    }
    reading_over(self);
}

static void on_drained(struct request *request)
{
    struct reading *self = reading_of(request);

    if (self->state == READING_BLOCKED) {
        reading_move(self, READING_DECIDING);
        reading_step(self);
    }
}

static void on_deadline(struct deadline *deadline)
{
    struct reading *self = CONTAINER_OF(deadline, struct reading, deadline);

    ASSERT(waits(self->state) || self->state == READING_CONFIRMING);
    self->expired = true;
    reading_move(self, READING_DECIDING);
    reading_step(self);
}

/* ---- answers ---- */

void reading_send_batches(struct reading *self, const struct slice *body, uint64_t next,
                          const struct seek_counts *counts)
{
    Quorlog__ConsumeReply reply = QUORLOG__CONSUME_REPLY__INIT;

    ASSERT(next >= self->next);
    reply.offset = self->next;
    reply.next_offset = next;
    reply.log_start = topic_start(self->topic);
    reply.log_end = log_end(self->topic->log);
    reply.node_id = self->front->node->identity.node_id;
    reply.applied_index = group_applied_index(self->front->node->group);
    reply.topic_id = self->topic->id;
    if (counts != NULL) {
        reply.records_scanned = counts->records;
        reply.bytes_scanned = counts->bytes;
        reply.segments_skipped = counts->segments_skipped;
    }
    self->announced = true;
    session_send(self->request.session, QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY, self->request.id,
                 &reply.base, body);
}

void reading_end_stream(struct reading *self)
{
    session_send(self->request.session, QUORLOG__FRAME_TYPE__FRAME_STREAM_END, self->request.id,
                 NULL, NULL);
    reading_over(self);
}

/* ---- decisions ---- */

static bool ready(const struct reading *self)
{
    if (self->state == READING_APPLYING) {
        return group_applied_index(self->front->node->group) >= self->at_least;
    }
    return log_end(self->topic->log) != self->end_seen ||
           atomic_load_explicit(&self->topic->deleted, memory_order_acquire);
}

/* Waits for `state` to be over, for up to wait_ms from the first time on; 0: as long as it takes.
 * Returns false when it need not wait, or cannot; the latter has failed it. */
static bool wait_for(struct reading *self, enum reading_state state, uint64_t wait_ms)
{
    struct failure failure;

    ASSERT(waits(state) || state == READING_CONFIRMING);
    if (wait_ms > 0 && self->deadline.place == 0 &&
        front_deadline(self->front, &self->deadline, front_now_ms(self->front) + wait_ms) !=
            ERR_OK) {
        (void)failure_set(&failure, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        reading_fail(self, &failure);
        return true;
    }
    reading_move(self, state);
    if (waits(state) && ready(self)) { /* It happened between the look and the list. */
        reading_move(self, READING_DECIDING);
        return false;
    }
    return true;
}

static void on_index_known(struct index_wait *wait)
{
    struct reading *self = CONTAINER_OF(wait, struct reading, freshness.wait);

    ASSERT(self->state == READING_CONFIRMING);
    reading_move(self, READING_DECIDING);
    reading_step(self);
}

/* Returns whether the decision is made: it waits to be told, or has failed. */
static bool confirm(struct reading *self)
{
    struct failure failure;

    if (self->stream && self->at_least == 0 && freshness_renew(&self->freshness)) {
        self->expired = false;
        deadlines_cancel(&self->front->deadlines, &self->deadline);
    }
    if (freshness_confirmed(&self->freshness, self->front, &self->at_least)) {
        return false;
    }
    if (self->expired) {
        freshness_explain_unconfirmed(&self->freshness, self->front, &failure);
        reading_fail(self, &failure);
        return true;
    }
    freshness_wait(&self->freshness, self->front, on_index_known);
    return wait_for(self, READING_CONFIRMING, self->deadline_ms);
}

/* next for everything but a time; false: a worker has to look for it. */
static bool position(struct reading *self)
{
    uint64_t start = topic_start(self->topic);
    uint64_t end = log_end(self->topic->log);

    if (self->positioned) {
        return true;
    }
    switch ((int)self->start) {
    case QUORLOG__START__START_EARLIEST:
        self->next = start;
        break;
    case QUORLOG__START__START_LATEST:
        self->next = end;
        break;
    case QUORLOG__START__START_TAIL:
        self->next = self->offset < end - start ? end - self->offset : start;
        break;
    case QUORLOG__START__START_TIME:
        return false;
    case QUORLOG__START__START_OFFSET:
    default: /* Checked when it came. */
        self->next = self->offset;
        break;
    }
    self->positioned = true;
    return true;
}

/* There is nothing at `next` yet. Returns whether the decision is made. */
static bool at_end(struct reading *self, uint64_t end)
{
    bool beyond = self->next > end;
    uint64_t stream_ms = beyond ? self->deadline_ms : freshness_renew_ms(&self->freshness);
    uint64_t wait_ms = self->stream ? stream_ms : self->wait_ms;

    ASSERT(self->next >= end);
    if ((self->expired && (beyond || !self->stream)) || (!self->stream && wait_ms == 0)) {
        if (beyond) {
            reading_fail_range(self);
        } else {
            reading_send_batches(self, NULL, self->next, NULL);
            reading_over(self);
        }
        return true;
    }
    if (self->stream && !beyond) {
        self->expired = false;
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        if (!self->announced) {
            reading_send_batches(self, NULL, self->next, NULL);
        }
    }
    self->end_seen = end;
    return wait_for(self, READING_WAITING, wait_ms);
}

/* The topic is there and next is set: reads, or waits. Returns whether the decision is made. */
static bool decide_read(struct reading *self)
{
    uint64_t end = log_end(self->topic->log);

    if (atomic_load_explicit(&self->topic->deleted, memory_order_acquire)) {
        fail_unknown_topic(self);
    } else if (self->next < topic_start(self->topic)) {
        reading_fail_range(self);
    } else if (self->next >= end) {
        return at_end(self, end);
    } else if ((self->stream && self->credit <= 0) ||
               !session_reserve(self->request.session, reading_size_max(self))) {
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        reading_move(self, READING_BLOCKED);
    } else {
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        reading_start_work(self, false, reading_size_max(self));
    }
    return true;
}

static bool decide(struct reading *self)
{
    struct node *node = self->front->node;
    struct failure failure;

    if (confirm(self)) {
        return true;
    }
    if (group_applied_index(node->group) < self->at_least) {
        if (!self->expired) {
            return wait_for(self, READING_APPLYING, self->deadline_ms);
        }
        freshness_explain_behind(&self->freshness, self->front, self->at_least, &failure);
        reading_fail(self, &failure);
        return true;
    }
    if (self->at_least > 0) {
        self->at_least = 0; /* The deadline was for this; what follows has its own. */
        self->expired = false;
        deadlines_cancel(&self->front->deadlines, &self->deadline);
    }
    if (self->topic == NULL) {
        bool read_log = node_has_read_log(node, &self->at_least);

        self->topic = catalog_find(group_catalog(node->group), self->name);
        if (self->topic == NULL && !read_log) {
            return false; /* It may be in what is not applied yet. */
        }
        self->at_least = 0;
    }
    if (self->topic == NULL) {
        fail_unknown_topic(self);
        return true;
    }
    if (self->topic_id != 0 && self->topic->id != self->topic_id) {
        fail_other_topic(self);
        return true;
    }
    if (!position(self)) {
        reading_start_work(self, true, 0); /* It brings an offset only. */
        return true;
    }
    return decide_read(self);
}

void reading_step(struct reading *self)
{
    bool decided;

    do {
        ASSERT(self->state == READING_DECIDING && self->request.session != NULL);
        decided = decide(self);
    } while (!decided);
}

void readings_published(struct front *front)
{
    struct reading *self;
    struct reading *next;

    DL_FOREACH_SAFE2(front->readings.waiting, self, next, next_waiting)
    {
        if (ready(self)) {
            reading_move(self, READING_DECIDING);
            reading_step(self);
        }
    }
}

void readings_stop(struct front *front)
{
    struct reading *self;
    struct reading *next;

    DL_FOREACH_SAFE2(front->readings.all, self, next, all_next)
    {
        if (self->request.session != NULL) {
            on_cancel(&self->request, ERR_SHUTDOWN);
        }
    }
}

/* ---- what frames ask for ---- */

struct reading *reading_new(struct session *session, const struct frame *frame,
                            const struct Quorlog__ConsumeRequest *request,
                            struct reading_filter *filter)
{
    struct front *front = session_front(session);
    struct reading *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return NULL;
    }
    self->front = front;
    self->deadline.passed = on_deadline;
    self->request.cancel = on_cancel;
    self->request.drained = on_drained;
    (void)snprintf(self->name, sizeof self->name, "%s", request->topic); /* Checked. */
    self->topic_id = request->topic_id;
    self->start = request->start;
    self->offset = request->offset;
    self->time_us = request->time_us;
    self->records_left = request->records_max == 0 ? UINT64_MAX : request->records_max;
    self->bytes_max = request->bytes_max == 0 ? BYTES_DEFAULT : request->bytes_max;
    self->bytes_max = self->bytes_max > BYTES_MAX ? BYTES_MAX : self->bytes_max;
    if (self->bytes_max > front->node->shares.leaving / 4) {
        self->bytes_max =
            (uint32_t)(front->node->shares.leaving / 4); /* One answer is not all of it. */
    }
    self->wait_ms = request->wait_ms;
    self->deadline_ms = request->deadline_ms == 0 ? DEADLINE_DEFAULT_MS : request->deadline_ms;
    self->at_least = request->at_least;
    self->filter = filter;
    freshness_init(&self->freshness, front, request->linearizable, request->max_lag_ms);
    DL_APPEND2(front->readings.all, self, all_prev, all_next);
    request_begin(&self->request, session, frame,
                  sizeof *self + (filter != NULL ? sizeof *filter + filter->packed_size : 0));
    return self;
}

void reading_start(struct reading *self)
{
    reading_step(self);
}

static int64_t add_credit(int64_t credit, uint64_t more)
{
    const int64_t credit_max = INT64_MAX / 2;

    return more > (uint64_t)(credit_max - (credit > 0 ? credit : 0)) ? credit_max
                                                                     : credit + (int64_t)more;
}

void reading_start_stream(struct reading *self, uint64_t credit)
{
    self->stream = true;
    self->credit = add_credit(0, credit);
    reading_step(self);
}

void reading_add_credit(struct reading *self, uint64_t more)
{
    ASSERT(self->stream);
    self->credit = add_credit(self->credit, more);
    if (self->state == READING_BLOCKED) {
        reading_move(self, READING_DECIDING);
        reading_step(self);
    }
}

void reading_cancel_stream(struct reading *self)
{
    reading_end_stream(self);
}
