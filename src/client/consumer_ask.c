/*
 * A consumer's questions, what it makes of the answers, and whom it asks.
 *
 * With several servers each try is short: a node that is behind, or cut off from the leader, is
 * left for the next one, which may be neither. One that lacks the records, finds its copy damaged
 * or its disk failing is left, too; only when every server in turn could not help is that the end.
 */
#include "client/consumer_internal.h"

#include <stdlib.h>

#include <utlist.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

/* What one answer brings at most, in bytes: below a MiB a cold disk reads more slowly. */
enum { ANSWER_SIZE_MAX = 1 << 20 };

static struct consumer *of_call(struct call *call)
{
    return (void *)((char *)call - offsetof(struct consumer, call));
}

void consumer_stop_asking(struct consumer *self)
{
    if (self->state == CONSUMER_STREAMING && self->call.pending) {
        /* If it cannot be sent, the connection ends, and the stream with it; or the node is told
         * by the lack of credit. */
        (void)channel_send_more(self->channel, &self->call, QUORLOG__FRAME_TYPE__FRAME_CANCEL,
                                NULL);
    }
    channel_forget(self->channel, &self->call);
}

/* Not following: the log's end, as it was when the reading began, has been reached. */
static bool is_all_asked(const struct consumer *self)
{
    return !self->options.follow && self->end_known && self->ask >= self->end;
}

/* ---- answers ---- */

static void retry(struct consumer *self, enum err err, const char *text)
{
    uint64_t now_ns = channel_now_ns();

    self->state = CONSUMER_IDLE;
    self->confirmed = false;
    self->has_reason = true;
    (void)err_set(&self->reason, err, "%s", text); /* Kept for the deadline. */
    self->failures++;
    self->retry_ns = channel_retry_ns(now_ns, self->failures);
    channel_wake(self->channel, &self->user, 0);
}

static void on_lost(struct call *call, enum err err, const char *text)
{
    retry(of_call(call), err, text);
}

/* Whether no other node would say anything else. */
static bool is_definite(const struct consumer *self, const struct client_error *error)
{
    bool from_offset = self->placed || self->options.start == CONSUMER_OFFSET;
    uint64_t offset = self->placed ? self->ask : self->options.offset;

    switch ((int)error->err) { /* From the wire: it may be any number. */
    case ERR_INVALID:
    case ERR_TOO_LARGE:
        return true;
    case ERR_RANGE:
        return !from_offset || error->log_end >= offset; /* Else the node may be behind. */
    default:
        return false;
    }
}

static void on_error(struct consumer *self, const struct client_error *error)
{
    /* A node that is behind the one that we read from before; one that is not will do. */
    bool is_behind = error->err == ERR_RANGE && self->placed && error->log_end < self->ask;

    if (error->retryable || is_behind) {
        self->leave = true;
        retry(self, error->err, error->text);
    } else if (is_definite(self, error)) {
        self->state = CONSUMER_IDLE;
        consumer_doom(self, error);
    } else {
        consumer_refuse_node(self, error);
    }
}

void consumer_refuse_node(struct consumer *self, const struct client_error *error)
{
    ASSERT(error->err != ERR_OK);
    consumer_stop_asking(self);
    self->state = CONSUMER_IDLE;
    self->refusals++;
    if (self->refusals >= channel_server_count(self->channel)) {
        consumer_doom(self, error);
        return;
    }
    self->leave = true;
    retry(self, error->err, error->text);
}

/* Does the reply continue what came before? */
static bool is_expected(const struct consumer *self, const Quorlog__ConsumeReply *reply,
                        size_t body_size)
{
    if (self->placed && reply->topic_id != self->topic_id) {
        return false;
    }
    if (reply->next_offset < reply->offset ||
        (body_size > 0 && reply->next_offset == reply->offset) ||
        (body_size == 0 && reply->next_offset > reply->offset && self->filter == NULL)) {
        return false;
    }
    if (self->state == CONSUMER_STREAMING && body_size > 0 && self->credit <= 0) {
        return false; /* I3 */
    }
    if (self->placed) {
        return reply->offset == self->ask; /* I2 */
    }
    return self->options.start != CONSUMER_OFFSET || reply->offset == self->options.offset;
}

static enum err queue_body(struct consumer *self, const struct frame *frame, uint64_t next_offset)
{
    struct chunk *chunk = malloc(sizeof *chunk);

    if (chunk == NULL) {
        return ERR_NOMEM;
    }
    *chunk = (struct chunk){
        .block = block_ref(frame->block),
        .at = frame->body,
        .left = frame->body_size,
        .size = frame->body_size,
        .next_offset = next_offset,
    };
    DL_APPEND(self->chunks, chunk);
    self->queued += chunk->size;
    if (self->state == CONSUMER_STREAMING) {
        self->credit -= (int64_t)chunk->size;
    }
    return ERR_OK;
}

/* A filter found nothing up to there: told behind what is queued. */
static void pass_over(struct consumer *self, uint64_t next_offset)
{
    ASSERT(self->filter != NULL);
    if (self->chunks != NULL) {
        ASSERT(self->chunks->prev->next_offset <= next_offset);
        self->chunks->prev->next_offset = next_offset;
    } else {
        ASSERT(!self->in_batch && self->next <= next_offset);
        self->next = next_offset;
    }
}

static void add_scan(struct consumer_scan *self, const Quorlog__ConsumeReply *reply)
{
    self->records += reply->records_scanned;
    self->bytes += reply->bytes_scanned;
    self->segments_skipped += reply->segments_skipped;
}

/* *ret_progress: it leads on. */
static enum err on_reply(struct consumer *self, const struct frame *frame, bool *ret_progress)
{
    Quorlog__ConsumeReply *reply =
        quorlog__consume_reply__unpack(NULL, frame->header_size, frame->header);
    enum err err = ERR_PROTOCOL;

    if (reply == NULL) {
        return ERR_PROTOCOL;
    }
    if (!is_expected(self, reply, frame->body_size)) {
        goto out;
    }
    if (frame->body_size > 0) {
        err = queue_body(self, frame, reply->next_offset);
        if (err != ERR_OK) {
            goto out;
        }
    }
    if (!self->placed) {
        self->placed = true;
        self->next = reply->offset;
    }
    if (frame->body_size == 0 && reply->next_offset > reply->offset) {
        pass_over(self, reply->next_offset);
    }
    add_scan(&self->scan, reply);
    self->topic_id = reply->topic_id;
    self->ask = reply->next_offset;
    self->token = reply->applied_index > self->token ? reply->applied_index : self->token; /* I5 */
    if (frame->body_size == 0) {
        self->refusals = 0; /* Else when a record of it was good. */
    }
    if (!self->end_known) {
        self->end_known = true;
        self->end = reply->log_end;
    }
    self->confirmed = true;
    err = ERR_OK;
    *ret_progress = reply->next_offset > reply->offset;
    if (*ret_progress || self->options.follow || self->ask >= self->end) {
        self->failures = 0;
        self->has_reason = false;
        self->deadline_ns = CHANNEL_NEVER;
        self->answer_by_ns = CHANNEL_NEVER;
    }
out:
    quorlog__consume_reply__free_unpacked(reply, NULL);
    return err;
}

static enum err on_answer(struct call *call, const struct frame *frame,
                          const struct client_error *error)
{
    struct consumer *self = of_call(call);
    bool progress = false;
    enum err err;

    ASSERT(self->state == CONSUMER_FETCHING || self->state == CONSUMER_STREAMING);
    channel_wake(self->channel, &self->user, 0); /* I4 */
    if (error != NULL) {
        on_error(self, error);
        return ERR_OK;
    }
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_STREAM_END) {
        if (is_all_asked(self)) {
            self->state = CONSUMER_IDLE;
            return ERR_OK;
        }
        retry(self, ERR_CLOSED, "the node ended the stream");
        return ERR_OK;
    }
    err = on_reply(self, frame, &progress);
    if (err != ERR_OK) {
        channel_forget(self->channel, call);
        retry(self, err, "the node's answer does not follow on what it sent before");
        return err;
    }
    if (self->state == CONSUMER_FETCHING) {
        self->state = CONSUMER_IDLE;
        if (!progress && !self->options.follow && self->ask < self->end) {
            self->leave = true;
            retry(self, ERR_AGAIN, "the node is behind");
        }
    }
    return ERR_OK;
}

void consumer_init_call(struct consumer *self)
{
    static const struct call_events events = {.answer = on_answer, .lost = on_lost};

    ASSERT(self->call.events == NULL);
    self->call.events = &events;
    self->call.reply_type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY;
    self->call.repeatable = true;
    self->answer_by_ns = CHANNEL_NEVER;
}

/* ---- asking ---- */

static uint32_t records_left(const struct consumer *self)
{
    uint64_t left = self->options.records_max - self->count;

    if (self->options.records_max == 0 || left > UINT32_MAX || self->options.share_count > 0) {
        return 0;
    }
    /* What is queued makes it fewer; batches that come too many are dropped. */
    return (uint32_t)left;
}

/* How long the node may take for what it has to wait for. */
static uint32_t try_ms(const struct consumer *self, uint64_t now_ns)
{
    uint32_t left_ms = channel_deadline_ms(now_ns, self->deadline_ns);
    uint64_t timeout_ms = channel_timeout_ns(self->channel) / NS_PER_MS;

    left_ms = left_ms > timeout_ms ? (uint32_t)timeout_ms : left_ms; /* A stream has no deadline. */
    if (channel_server_count(self->channel) > 1 && left_ms > channel_times(self->channel)->try_ms) {
        left_ms = (uint32_t)channel_times(self->channel)->try_ms;
    }
    return left_ms;
}

/* filter: room for the message's. */
static void fill_request(const struct consumer *self, uint64_t now_ns,
                         Quorlog__ConsumeRequest *request, struct filter_message *filter)
{
    static const Quorlog__Start starts[] = {
        [CONSUMER_OFFSET] = QUORLOG__START__START_OFFSET,
        [CONSUMER_EARLIEST] = QUORLOG__START__START_EARLIEST,
        [CONSUMER_LATEST] = QUORLOG__START__START_LATEST,
        [CONSUMER_TAIL] = QUORLOG__START__START_TAIL,
        [CONSUMER_TIME] = QUORLOG__START__START_TIME,
    };
    size_t half = self->options.credit_size / 2;

    request->topic = (char *)self->topic;
    request->topic_id = self->topic_id;
    if (self->placed) {
        request->start = QUORLOG__START__START_OFFSET;
        request->offset = self->ask; /* I2 */
    } else {
        request->start = starts[self->options.start];
        request->offset = self->options.offset;
        request->time_us = self->options.time_us;
    }
    request->records_max = records_left(self);
    request->bytes_max = (uint32_t)(half < ANSWER_SIZE_MAX ? half + (half == 0) : ANSWER_SIZE_MAX);
    request->at_least =
        self->token > self->options.at_least ? self->token : self->options.at_least; /* I5 */
    /* The first answer sets where the log ends, and its token keeps to it what comes later. */
    request->linearizable = self->options.linearizable && !self->end_known;
    request->max_lag_ms =
        self->end_known && !self->options.follow ? 0 : (uint32_t)self->options.max_lag_ms;
    request->deadline_ms = try_ms(self, now_ns);
    if (self->filter != NULL) {
        filter_message_fill(filter, self->filter);
        request->filter = &filter->message;
    }
}

/* A node that does not answer by then is left, if there is another one. */
static void expect_answer(struct consumer *self, uint64_t now_ns, uint32_t wait_ms)
{
    self->answer_by_ns = CHANNEL_NEVER;
    if (channel_server_count(self->channel) > 1) {
        self->answer_by_ns =
            now_ns + (wait_ms + channel_times(self->channel)->answer_ms) * NS_PER_MS;
        channel_wake(self->channel, &self->user, self->answer_by_ns);
    }
}

static void fetch(struct consumer *self, uint64_t now_ns)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;
    struct filter_message filter;

    fill_request(self, now_ns, &request, &filter);
    self->call.type = QUORLOG__FRAME_TYPE__FRAME_CONSUME;
    self->call.stream = false;
    if (channel_send(self->channel, &self->call, &request.base, NULL, 0) == ERR_OK) {
        self->state = CONSUMER_FETCHING;
        expect_answer(self, now_ns, request.deadline_ms);
    }
}

/* All there is from here on, as it is stored. */
static bool streams(const struct consumer *self)
{
    return self->options.follow || (self->options.records_max == 0 && self->filter == NULL);
}

static void open_stream(struct consumer *self, uint64_t now_ns)
{
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;
    Quorlog__ConsumeRequest from = QUORLOG__CONSUME_REQUEST__INIT;
    struct filter_message filter;

    ASSERT(self->placed && self->queued < self->options.credit_size);
    fill_request(self, now_ns, &from, &filter);
    if (!self->options.follow && self->end - self->ask <= UINT32_MAX) {
        from.records_max = (uint32_t)(self->end - self->ask);
    }
    from.bytes_max = from.bytes_max < ANSWER_SIZE_MAX ? from.bytes_max : ANSWER_SIZE_MAX;
    request.from = &from;
    request.credit = self->options.credit_size - self->queued; /* I3 */
    self->call.type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM;
    self->call.stream = true;
    if (channel_send(self->channel, &self->call, &request.base, NULL, 0) == ERR_OK) {
        self->state = CONSUMER_STREAMING;
        self->credit = (int64_t)request.credit;
        self->deadline_ns = CHANNEL_NEVER; /* See watch_stream. */
        self->answer_by_ns = CHANNEL_NEVER;
    }
}

/* Following, there may be nothing to say for long. Else there is, as long as there is credit. */
static void watch_stream(struct consumer *self, uint64_t now_ns)
{
    ASSERT(self->state == CONSUMER_STREAMING);
    if (self->options.follow || self->credit <= 0 || is_all_asked(self)) {
        self->deadline_ns = CHANNEL_NEVER;
        self->answer_by_ns = CHANNEL_NEVER;
    } else if (self->deadline_ns == CHANNEL_NEVER) {
        self->deadline_ns = now_ns + channel_timeout_ns(self->channel);
        expect_answer(self, now_ns, try_ms(self, now_ns));
    }
}

/* Gives back the credit of what was delivered, a good piece at a time. */
static void give_credit(struct consumer *self)
{
    Quorlog__Credit credit = QUORLOG__CREDIT__INIT;
    int64_t whole = (int64_t)self->options.credit_size;
    int64_t owed = whole - self->credit - (int64_t)self->queued; /* I3 */

    if (!self->call.pending || owed <= 0 || (owed < whole / 4 && self->credit > 0)) {
        return;
    }
    credit.bytes = (uint64_t)owed;
    /* What cannot be sent now is owed until the channel wakes us: drained. */
    if (channel_send_more(self->channel, &self->call, QUORLOG__FRAME_TYPE__FRAME_CREDIT,
                          &credit.base) == ERR_OK) {
        self->credit += owed;
    }
}

/* A node that does not even answer is left, too. */
static void watch_answer(struct consumer *self, uint64_t now_ns)
{
    bool waits = self->state == CONSUMER_FETCHING || self->state == CONSUMER_STREAMING;

    if (!waits || self->answer_by_ns == CHANNEL_NEVER) {
        return;
    }
    if (now_ns < self->answer_by_ns) {
        channel_wake(self->channel, &self->user, self->answer_by_ns);
        return;
    }
    consumer_stop_asking(self);
    self->leave = true;
    retry(self, ERR_TIMEOUT, "the node did not answer");
}

void consumer_ask(struct consumer *self, uint64_t now_ns)
{
    watch_answer(self, now_ns);
    if (self->leave) {
        self->leave = false;
        channel_leave(self->channel, self->reason.code, self->reason.text);
    }
    if (self->state == CONSUMER_STREAMING) {
        give_credit(self);
        watch_stream(self, now_ns);
        return;
    }
    if (self->state != CONSUMER_IDLE || self->queued >= (self->options.credit_size + 1) / 2 ||
        is_all_asked(self)) {
        return;
    }
    if (self->deadline_ns == CHANNEL_NEVER) {
        self->deadline_ns = now_ns + channel_timeout_ns(self->channel);
    }
    channel_wake(self->channel, &self->user, self->deadline_ns);
    if (now_ns < self->retry_ns) {
        channel_wake(self->channel, &self->user, self->retry_ns);
    } else if (channel_is_ready(self->channel)) {
        /* A stream may have nothing to say for long: one question first shows that all is well. */
        if (streams(self) && self->confirmed) {
            open_stream(self, now_ns);
        } else {
            fetch(self, now_ns);
        }
    }
}

void consumer_ask_ahead(struct consumer *self, uint64_t now_ns)
{
    bool bounded = self->options.records_max != 0;
    bool picks = self->filter != NULL || self->options.share_count > 0;

    ASSERT(self->state != CONSUMER_ENDED && self->next <= self->ask);
    if (self->chunks == NULL || self->doomed) {
        return;
    }
    if (bounded && (picks || self->ask - self->next >= self->options.records_max - self->count)) {
        return;
    }
    consumer_ask(self, now_ns);
}
