#include "server/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/catalog.h"
#include "server/elsewhere.h"
#include "server/freshness.h"
#include "server/front.h"
#include "server/seek.h"

enum {
    DEADLINE_DEFAULT_MS = 30000,
    BYTES_DEFAULT = 1 << 20,
    BYTES_MAX = 8 << 20, /* one answer, unless a single batch is larger */
};

enum reading_state {
    READING_DECIDING,
    READING_CONFIRMING,
    READING_APPLYING,
    READING_WAITING,
    READING_BLOCKED,
    READING_WORKING,
    READING_ELSEWHERE,
    READING_OVER,
};

struct reading {
    struct request request;
    struct front *front;
    enum reading_state state;
    bool stream;
    bool positioned;     /* next is set */
    bool announced;      /* a stream has told where it starts */
    bool expired;        /* the deadline passed */
    struct topic *topic; /* owned reference; NULL: not looked up yet */
    char name[TOPIC_NAME_SIZE_MAX + 1];
    uint64_t topic_id; /* that is wanted; 0: whichever has the name */
    Quorlog__Start start;
    uint64_t offset;
    int64_t time_us;
    uint64_t next;         /* offset of the record to be read next */
    uint64_t records_left; /* UINT64_MAX: no bound */
    uint32_t bytes_max;
    uint32_t wait_ms;
    uint32_t deadline_ms;
    uint64_t at_least;
    struct freshness freshness;
    int64_t credit; /* bytes; streams */
    struct deadline deadline;
    uint64_t end_seen; /* WAITING: what was not enough */
    /* The next two belong to the worker while WORKING. */
    struct work work;
    struct seek seek;
    struct elsewhere elsewhere; /* other nodes are asked for what is not here */
    struct reading *all_prev;
    struct reading *all_next;
    struct reading *prev; /* in readings.waiting */
    struct reading *next_waiting;
};

static void step(struct reading *self);

struct reading *reading_of(struct request *request)
{
    return CONTAINER_OF(request, struct reading, request);
}

/* ---- state ---- */

static bool waits(enum reading_state state)
{
    return state == READING_APPLYING || state == READING_WAITING;
}

static void move(struct reading *self, enum reading_state state)
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

static void release(struct reading *self)
{
    struct front *front = self->front;

    ASSERT(self->state == READING_OVER && self->request.session == NULL);
    ASSERT(self->deadline.place == 0);
    DL_DELETE2(front->readings.all, self, all_prev, all_next);
    topic_unref(self->topic);
    seek_fini(&self->seek);
    free(self);
    front_check_finished(front);
}

/* Before the request ends: room that a read under way has reserved in its session. */
static void give_back_room(struct reading *self)
{
    if ((self->state == READING_WORKING || self->state == READING_ELSEWHERE) &&
        self->request.session != NULL) {
        session_unreserve(self->request.session, self->seek.size_max);
    }
}

/* Nobody wants more of it. Frees, unless a worker has it, who then does. */
static void over(struct reading *self)
{
    bool working = self->state == READING_WORKING;

    give_back_room(self);
    elsewhere_cancel(&self->elsewhere);
    if (working) {
        working = !work_cancel(&self->work);
    }
    deadlines_cancel(&self->front->deadlines, &self->deadline);
    request_end(&self->request);
    if (!working) {
        move(self, READING_OVER);
        release(self);
    }
}

static void fail(struct reading *self, struct failure *failure)
{
    failure->unknown = false; /* Reading changes nothing. */
    (void)err_prefix(&failure->info, failure->info.code, "consume '%s'", self->name);
    request_fail(&self->request, failure);
    over(self);
}

static void fail_range(struct reading *self)
{
    struct failure failure;
    uint64_t start = log_start(self->topic->log);
    uint64_t end = log_end(self->topic->log);

    (void)failure_set(&failure, ERR_RANGE,
                      "offset %" PRIu64 " is not among those that node %" PRIu64
                      " can read, from %" PRIu64 " to before %" PRIu64,
                      self->next, self->front->node->identity.node_id, start, end);
    failure.log_start = start;
    failure.log_end = end;
    fail(self, &failure);
}

static void fail_unknown_topic(struct reading *self)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_TOPIC_UNKNOWN, "there is no such topic on node %" PRIu64,
                      self->front->node->identity.node_id);
    fail(self, &failure);
}

static void fail_other_topic(struct reading *self)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_TOPIC_UNKNOWN,
                      "the topic that was read has been deleted; node %" PRIu64
                      " has another one of that name",
                      self->front->node->identity.node_id);
    fail(self, &failure);
}

static void on_cancel(struct request *request, enum err err)
{
    struct reading *self = reading_of(request);

    if (err == ERR_SHUTDOWN) {
        give_back_room(self);
        request_fail_plain(request, err, "consume");
    }
    over(self);
}

static void on_drained(struct request *request)
{
    struct reading *self = reading_of(request);

    if (self->state == READING_BLOCKED) {
        move(self, READING_DECIDING);
        step(self);
    }
}

static void on_deadline(struct deadline *deadline)
{
    struct reading *self = CONTAINER_OF(deadline, struct reading, deadline);

    ASSERT(waits(self->state) || self->state == READING_CONFIRMING);
    self->expired = true;
    move(self, READING_DECIDING);
    step(self);
}

/* ---- answers ---- */

static void send_batches(struct reading *self, const struct slice *body, uint64_t next)
{
    Quorlog__ConsumeReply reply = QUORLOG__CONSUME_REPLY__INIT;

    ASSERT(next >= self->next);
    reply.offset = self->next;
    reply.next_offset = next;
    reply.log_start = log_start(self->topic->log);
    reply.log_end = log_end(self->topic->log);
    reply.node_id = self->front->node->identity.node_id;
    reply.applied_index = group_applied_index(self->front->node->group);
    reply.topic_id = self->topic->id;
    self->announced = true;
    session_send(self->request.session, QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY, self->request.id,
                 &reply.base, body);
}

static void end_stream(struct reading *self)
{
    session_send(self->request.session, QUORLOG__FRAME_TYPE__FRAME_STREAM_END, self->request.id,
                 NULL, NULL);
    over(self);
}

/* ---- work ---- */

static void on_work(struct work *work)
{
    struct reading *self = CONTAINER_OF(work, struct reading, work);

    seek_run(&self->seek);
}

/* Sends what was read, here or elsewhere, and goes on. */
static void deliver(struct reading *self, const struct slice *body, uint64_t end)
{
    uint64_t count = end - self->next;

    ASSERT(end > self->next);
    send_batches(self, body, end);
    self->next = end;
    self->credit -= (int64_t)body->size;
    if (self->records_left != UINT64_MAX) {
        /* Whole batches: the last one may hold more than was asked for. */
        self->records_left -= count < self->records_left ? count : self->records_left;
    }
    block_unref(self->seek.block);
    self->seek.block = NULL;
    if (!self->stream) {
        over(self);
    } else if (self->records_left == 0) {
        end_stream(self);
    } else {
        step(self);
    }
}

static void found_time(struct reading *self, uint64_t offset)
{
    self->next = offset;
    self->positioned = true;
    step(self);
}

static void fail_seek(struct reading *self, const char *why)
{
    struct failure failure;

    (void)failure_set(&failure, self->seek.err, "%s%s", self->seek.info.text, why);
    fail(self, &failure);
}

/* ---- elsewhere: what is missing or damaged here ---- */

static void on_elsewhere(struct elsewhere *elsewhere, const struct slice *batches, uint64_t next)
{
    struct reading *self = CONTAINER_OF(elsewhere, struct reading, elsewhere);
    struct session *session = self->request.session;

    ASSERT(self->state == READING_ELSEWHERE && session != NULL);
    give_back_room(self);
    move(self, READING_DECIDING);
    if (self->seek.by_time) {
        found_time(self, next);
    } else {
        deliver(self, batches, next);
    }
    session_wake(session);
}

static void on_nobody(struct elsewhere *elsewhere)
{
    struct reading *self = CONTAINER_OF(elsewhere, struct reading, elsewhere);
    struct session *session = self->request.session;

    ASSERT(self->state == READING_ELSEWHERE && session != NULL);
    give_back_room(self);
    move(self, READING_DECIDING);
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
        .records_max = self->records_left,
        .bytes_max = (uint32_t)seek->size_max,
    };

    if (seek->err != ERR_HOLE && seek->err != ERR_CORRUPT && seek->err != ERR_IO) {
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
    move(self, READING_ELSEWHERE);
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
        body = (struct slice){
            .block = seek->block, .data = seek->block->data, .size = seek->block->size};
        deliver(self, &body, seek->end);
        break;
    case ERR_RANGE:
        fail_range(self);
        break;
    case ERR_AGAIN:
        step(self);
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
        move(self, READING_OVER);
        release(self);
        return;
    }
    move(self, READING_DECIDING);
    if (ask_elsewhere(self)) {
        return;
    }
    session_unreserve(session, self->seek.size_max);
    decide_on(self);
    session_wake(session);
}

/* What a read brings at most, unless a single batch is larger. */
static size_t read_size_max(const struct reading *self)
{
    if (self->stream && self->credit < (int64_t)self->bytes_max) {
        return self->credit > 1 ? (size_t)self->credit : 1;
    }
    return self->bytes_max;
}

/* size_max bytes are reserved in the session. */
static void start_work(struct reading *self, bool by_time, size_t size_max)
{
    uint64_t left = UINT64_MAX - self->next;

    ASSERT(self->seek.block == NULL);
    self->seek = (struct seek){
        .log = self->topic->log,
        .by_time = by_time,
        .time_us = self->time_us,
        .offset = self->next,
        .end_max = self->records_left < left ? self->next + self->records_left : UINT64_MAX,
        .size_max = size_max,
    };
    self->work.run = on_work;
    self->work.done = on_work_done;
    move(self, READING_WORKING);
    work_start(&self->work, self->front);
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
        fail(self, &failure);
        return true;
    }
    move(self, state);
    if (waits(state) && ready(self)) { /* It happened between the look and the list. */
        move(self, READING_DECIDING);
        return false;
    }
    return true;
}

static void on_index_known(struct index_wait *wait)
{
    struct reading *self = CONTAINER_OF(wait, struct reading, freshness.wait);

    ASSERT(self->state == READING_CONFIRMING);
    move(self, READING_DECIDING);
    step(self);
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
        fail(self, &failure);
        return true;
    }
    freshness_wait(&self->freshness, self->front, on_index_known);
    return wait_for(self, READING_CONFIRMING, self->deadline_ms);
}

/* next for everything but a time; false: a worker has to look for it. */
static bool position(struct reading *self)
{
    uint64_t start = log_start(self->topic->log);
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
            fail_range(self);
        } else {
            send_batches(self, NULL, self->next);
            over(self);
        }
        return true;
    }
    if (self->stream && !beyond) {
        self->expired = false;
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        if (!self->announced) {
            send_batches(self, NULL, self->next);
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
    } else if (self->next < log_start(self->topic->log)) {
        fail_range(self);
    } else if (self->next >= end) {
        return at_end(self, end);
    } else if ((self->stream && self->credit <= 0) ||
               !session_reserve(self->request.session, read_size_max(self))) {
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        move(self, READING_BLOCKED);
    } else {
        deadlines_cancel(&self->front->deadlines, &self->deadline);
        start_work(self, false, read_size_max(self));
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
        fail(self, &failure);
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
        start_work(self, true, 0); /* It brings an offset only. */
        return true;
    }
    return decide_read(self);
}

static void step(struct reading *self)
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
            move(self, READING_DECIDING);
            step(self);
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
                            const struct Quorlog__ConsumeRequest *request)
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
    self->wait_ms = request->wait_ms;
    self->deadline_ms = request->deadline_ms == 0 ? DEADLINE_DEFAULT_MS : request->deadline_ms;
    self->at_least = request->at_least;
    freshness_init(&self->freshness, front, request->linearizable, request->max_lag_ms);
    DL_APPEND2(front->readings.all, self, all_prev, all_next);
    request_begin(&self->request, session, frame, sizeof *self);
    return self;
}

void reading_start(struct reading *self)
{
    step(self);
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
    step(self);
}

void reading_add_credit(struct reading *self, uint64_t more)
{
    ASSERT(self->stream);
    self->credit = add_credit(self->credit, more);
    if (self->state == READING_BLOCKED) {
        move(self, READING_DECIDING);
        step(self);
    }
}

void reading_cancel_stream(struct reading *self)
{
    end_stream(self);
}
