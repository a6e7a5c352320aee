/*
 * A consumer: batches come in, records go out, each once and in order.
 *
 * Happy path: one CONSUME says where the reading begins, and where the log ends. Not following:
 * CONSUME again, the next one asked for before the records of the last are delivered, up to that
 * end. Following: a stream from there on, whose credit is given back as records are delivered.
 *
 * Failure modes: a lost connection, a retryable error or a stream that ended: asked again from the
 * next offset, of whatever node the channel has come to, with the newest token seen, so that a node
 * that is behind waits until it is not. Damaged batches, ERR_RANGE and the like: what came before
 * them is delivered, then the consumer ends.
 *
 *                ask (not following, or position not confirmed)
 *        IDLE ───────────────────────────────────────────────► FETCHING ──┐
 *        ▲ ▲ │ ask (following)                                             │ answer
 *        │ │ └────────────────► STREAMING ──┐ error, lost, STREAM_END      │
 *        │ └────────────────────────────────┘                              │
 *        └──────────────────────── error, lost, answer ◄───────────────────┘
 *        any ──► ENDED, by end()
 *
 * Invariants:
 *   I1  Delivered records are [first, next): each once, in order.
 *   I2  The queue holds frames for [next, ask); the next question is for `ask`.
 *   I3  Streaming: credit + queued + what is owed = credit_size, so never more than credit_size
 *       bytes and one frame are held.
 *   I4  Events are called by step(), and by the closing client, only.
 */
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "client/channel.h"
#include "client/client_request.h"
#include "client/record_set.h"
#include "client/share.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"

enum {
    CREDIT_SIZE = 4 << 20,
    FETCH_SIZE = 1 << 20,
    /* Records are delivered for so long before others on the loop have their turn. */
    TURN_MS = 10,
};

#define NS_PER_MS UINT64_C(1000000)

enum consumer_state { CONSUMER_IDLE, CONSUMER_FETCHING, CONSUMER_STREAMING, CONSUMER_ENDED };

/* The body of one reply. */
struct chunk {
    struct chunk *prev;
    struct chunk *next;
    struct block *block; /* a reference */
    const uint8_t *at;   /* the next batch */
    size_t left;
    size_t size;
    uint64_t next_offset; /* where its batches must end */
};

struct consumer {
    struct channel_user user;
    struct call call;
    struct channel *channel; /* borrowed */
    struct consumer_options options;
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    struct consumer_events events;
    void *arg;
    enum consumer_state state;

    bool placed;    /* next and ask are known … */
    bool told;      /* … and so it was said */
    bool confirmed; /* a node has answered since the last failure */
    bool end_known;
    uint64_t next;
    uint64_t ask;
    uint64_t end;   /* not following: where to stop */
    uint64_t count; /* records delivered */
    uint64_t token; /* the newest raft index seen */

    struct chunk *chunks;
    size_t queued;
    int64_t credit; /* bytes that the stream may still send; a frame may pass it */

    /* The batch that is being delivered. */
    bool in_batch;
    struct batch_header header;
    uint64_t offset; /* of the reader's next record */
    struct record_reader reader;

    bool paused;
    uint64_t deadline_ns; /* for a sign of progress; CHANNEL_NEVER: none is waited for */
    uint64_t retry_ns;
    unsigned failures;
    bool has_reason;
    struct err_info reason; /* of the last failed try */
    bool doomed;            /* ends with `failure` when the queue is empty */
    struct client_error failure;
    struct err_info failure_info; /* its text */

    bool delivering; /* inside an event */
    bool freed;      /* then */
};

static struct consumer *of_user(struct channel_user *user)
{
    return (void *)((char *)user - offsetof(struct consumer, user));
}

static struct consumer *of_call(struct call *call)
{
    return (void *)((char *)call - offsetof(struct consumer, call));
}

/* ---- the end ---- */

static void drop_chunk(struct consumer *self, struct chunk *chunk)
{
    ASSERT(self->queued >= chunk->size);
    self->queued -= chunk->size;
    DL_DELETE(self->chunks, chunk);
    block_unref(chunk->block);
    free(chunk);
}

static void stop_asking(struct consumer *self)
{
    if (self->state == CONSUMER_STREAMING && self->call.pending) {
        /* If it cannot be sent, the connection ends, and the stream with it; or the node is told
         * by the lack of credit. */
        (void)channel_send_more(self->channel, &self->call, QUORLOG__FRAME_TYPE__FRAME_CANCEL,
                                NULL);
    }
    channel_forget(self->channel, &self->call);
}

static void destroy(struct consumer *self)
{
    stop_asking(self);
    while (self->chunks != NULL) {
        drop_chunk(self, self->chunks);
    }
    record_reader_fini(&self->reader);
    free(self);
}

/* Tells the end. False when the callback has freed self. */
static bool end(struct consumer *self, const struct client_error *error)
{
    ASSERT(self->state != CONSUMER_ENDED && !self->delivering);
    stop_asking(self);
    self->state = CONSUMER_ENDED;
    self->delivering = true;
    self->events.ended(self->arg, error, self->next);
    self->delivering = false;
    if (self->freed) {
        destroy(self);
        return false;
    }
    return true;
}

static void doom(struct consumer *self, const struct client_error *error)
{
    if (self->doomed) {
        return;
    }
    self->doomed = true;
    stop_asking(self); /* I2: what came now would not follow on what was delivered. */
    self->state = CONSUMER_IDLE;
    (void)err_set(&self->failure_info, error->err, "%s", error->text); /* Told by step. */
    self->failure = *error;
    self->failure.text = self->failure_info.text;
    channel_wake(self->channel, &self->user, 0);
}

static void doom_info(struct consumer *self, const struct err_info *info)
{
    struct client_error error = {
        .err = info->code,
        .retryable = err_retryable(info->code),
        .text = info->text,
    };

    doom(self, &error);
}

/* What came from the node does not verify: nothing after it can be delivered. */
static void doom_damaged(struct consumer *self, struct err_info *info)
{
    (void)err_prefix(info, info->code, "topic '%s', offset %llu, from %s", self->topic,
                     (unsigned long long)self->next,
                     channel_server(self->channel)); /* Told below. */
    while (self->chunks != NULL) {
        drop_chunk(self, self->chunks);
    }
    self->in_batch = false;
    doom_info(self, info);
}

/* ---- delivering ---- */

static bool is_complete(const struct consumer *self)
{
    if (self->options.records_max != 0 && self->count >= self->options.records_max) {
        return true;
    }
    return !self->options.follow && self->end_known && self->placed && self->next >= self->end;
}

/* Opens the next batch of the first chunk. */
static enum err open_batch(struct consumer *self, struct err_info *info)
{
    struct chunk *chunk = self->chunks;
    struct batch_header *header = &self->header;
    enum err err;

    ASSERT(!self->in_batch && chunk->left > 0);
    if (chunk->left <= BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", chunk->left);
    }
    err = batch_header_decode(
        chunk->at, chunk->left > UINT32_MAX ? UINT32_MAX : (uint32_t)chunk->left, header, info);
    if (err == ERR_OK) {
        err = batch_check_body(header, chunk->at + BATCH_HEADER_SIZE, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (header->base_offset > self->next) {
        return err_set(info, ERR_CORRUPT, "the next batch begins at %llu: records are missing",
                       (unsigned long long)header->base_offset);
    }
    record_reader_start(&self->reader, chunk->at + BATCH_HEADER_SIZE,
                        header->size - BATCH_HEADER_SIZE);
    self->offset = header->base_offset;
    self->in_batch = true;
    self->token = header->raft_index > self->token ? header->raft_index : self->token;
    chunk->at += header->size;
    chunk->left -= header->size;
    return ERR_OK;
}

/* The chunk is used up. */
static enum err close_chunk(struct consumer *self, struct err_info *info)
{
    struct chunk *chunk = self->chunks;

    ASSERT(!self->in_batch && chunk->left == 0);
    if (self->next != chunk->next_offset) {
        return err_set(info, ERR_CORRUPT, "the node's batches end at %llu, not at %llu as it says",
                       (unsigned long long)self->next, (unsigned long long)chunk->next_offset);
    }
    drop_chunk(self, chunk);
    return ERR_OK;
}

/* One record of the open batch, or its end. */
static enum err deliver_one(struct consumer *self, struct err_info *info)
{
    struct client_record record;
    enum err err = record_reader_next(&self->reader, &record);
    uint64_t end = batch_end_offset(&self->header);

    if (err == ERR_AGAIN && self->offset == end) {
        self->in_batch = false;
        return ERR_OK;
    }
    if (err == ERR_NOMEM) {
        return err_set(info, err, "%s", err_text(err));
    }
    if (err != ERR_OK || self->offset == end) {
        return err_set(info, ERR_CORRUPT, "the batch does not hold the %u records that it should",
                       self->header.record_count);
    }
    self->offset++;
    if (self->offset <= self->next) {
        return ERR_OK; /* Before what was asked for. */
    }
    ASSERT(self->offset == self->next + 1); /* I1 */
    record.offset = self->next;
    record.append_time_us = self->header.append_time_us;
    self->next = self->offset;
    if (self->options.share_count > 0 &&
        share_of(&record, self->options.share_count) != self->options.share) {
        return ERR_OK;
    }
    self->count++;
    self->delivering = true;
    self->events.record(self->arg, &record);
    self->delivering = false;
    return ERR_OK;
}

static void tell_placed(struct consumer *self)
{
    self->told = true;
    if (self->events.placed != NULL) {
        self->delivering = true;
        self->events.placed(self->arg, self->next);
        self->delivering = false;
    }
}

/* Delivers until paused, freed, complete, out of records or out of time. */
static void deliver(struct consumer *self, uint64_t now_ns)
{
    struct err_info info;
    unsigned done = 0;
    enum err err;

    while (!self->paused && !self->freed && self->chunks != NULL && !is_complete(self)) {
        done++;
        if (done % 256 == 0 && channel_now_ns() - now_ns > TURN_MS * NS_PER_MS) {
            channel_wake(self->channel, &self->user, 0);
            return;
        }
        if (self->in_batch) {
            err = deliver_one(self, &info);
        } else if (self->chunks->left > 0) {
            err = open_batch(self, &info);
        } else {
            err = close_chunk(self, &info);
        }
        if (err != ERR_OK) {
            doom_damaged(self, &info);
        }
    }
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

static void on_error(struct consumer *self, const struct client_error *error)
{
    /* A node that is behind the one that we read from before; one that is not will do. */
    bool is_behind = error->err == ERR_RANGE && self->placed && error->log_end < self->ask;

    if (error->retryable || is_behind) {
        retry(self, error->err, error->text);
        return;
    }
    self->state = CONSUMER_IDLE;
    doom(self, error);
}

/* Does the reply continue what came before? */
static bool is_expected(const struct consumer *self, const Quorlog__ConsumeReply *reply,
                        size_t body_size)
{
    if (reply->next_offset < reply->offset ||
        (body_size == 0) != (reply->next_offset == reply->offset)) {
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

static enum err on_reply(struct consumer *self, const struct frame *frame)
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
    self->ask = reply->next_offset;
    if (!self->end_known) {
        self->end_known = true;
        self->end = reply->log_end;
    }
    self->confirmed = true;
    err = ERR_OK;
    if (frame->body_size > 0 || self->options.follow || self->ask >= self->end) {
        self->failures = 0;
        self->has_reason = false;
        self->deadline_ns = CHANNEL_NEVER;
    }
out:
    quorlog__consume_reply__free_unpacked(reply, NULL);
    return err;
}

static enum err on_answer(struct call *call, const struct frame *frame,
                          const struct client_error *error)
{
    struct consumer *self = of_call(call);
    enum err err;

    ASSERT(self->state == CONSUMER_FETCHING || self->state == CONSUMER_STREAMING);
    channel_wake(self->channel, &self->user, 0); /* I4 */
    if (error != NULL) {
        on_error(self, error);
        return ERR_OK;
    }
    if (frame->type == QUORLOG__FRAME_TYPE__FRAME_STREAM_END) {
        retry(self, ERR_CLOSED, "the node ended the stream");
        return ERR_OK;
    }
    err = on_reply(self, frame);
    if (err != ERR_OK) {
        channel_forget(self->channel, call);
        retry(self, err, "the node's answer does not follow on what it sent before");
        return err;
    }
    if (self->state == CONSUMER_FETCHING) {
        self->state = CONSUMER_IDLE;
        if (frame->body_size == 0 && !self->options.follow && self->ask < self->end) {
            retry(self, ERR_AGAIN, "the node is behind");
        }
    }
    return ERR_OK;
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

static void fill_request(const struct consumer *self, uint64_t now_ns,
                         Quorlog__ConsumeRequest *request)
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
    if (self->placed) {
        request->start = QUORLOG__START__START_OFFSET;
        request->offset = self->ask; /* I2 */
    } else {
        request->start = starts[self->options.start];
        request->offset = self->options.offset;
        request->time_us = self->options.time_us;
    }
    request->records_max = records_left(self);
    request->bytes_max = (uint32_t)(half < FETCH_SIZE ? half : FETCH_SIZE);
    request->at_least = self->token > self->options.at_least ? self->token : self->options.at_least;
    request->deadline_ms = channel_deadline_ms(now_ns, self->deadline_ns);
}

static void fetch(struct consumer *self, uint64_t now_ns)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;

    fill_request(self, now_ns, &request);
    self->call.type = QUORLOG__FRAME_TYPE__FRAME_CONSUME;
    self->call.stream = false;
    if (channel_send(self->channel, &self->call, &request.base, NULL, 0) == ERR_OK) {
        self->state = CONSUMER_FETCHING;
    }
}

static void open_stream(struct consumer *self, uint64_t now_ns)
{
    Quorlog__ConsumeStreamRequest request = QUORLOG__CONSUME_STREAM_REQUEST__INIT;
    Quorlog__ConsumeRequest from = QUORLOG__CONSUME_REQUEST__INIT;

    ASSERT(self->placed && self->queued < self->options.credit_size);
    fill_request(self, now_ns, &from);
    request.from = &from;
    request.credit = self->options.credit_size - self->queued; /* I3 */
    self->call.type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM;
    self->call.stream = true;
    if (channel_send(self->channel, &self->call, &request.base, NULL, 0) == ERR_OK) {
        self->state = CONSUMER_STREAMING;
        self->credit = (int64_t)request.credit;
        self->deadline_ns = CHANNEL_NEVER; /* There may be nothing to say for long. */
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

static void ask(struct consumer *self, uint64_t now_ns)
{
    if (self->state == CONSUMER_STREAMING) {
        give_credit(self);
        return;
    }
    if (self->state != CONSUMER_IDLE || self->queued >= (self->options.credit_size + 1) / 2 ||
        (!self->options.follow && self->end_known && self->ask >= self->end)) {
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
        if (self->options.follow && self->confirmed) {
            open_stream(self, now_ns);
        } else {
            fetch(self, now_ns);
        }
    }
}

static void expire(struct consumer *self)
{
    struct err_info info;

    if (self->has_reason) {
        info = self->reason;
    } else if (self->call.pending) {
        (void)err_set(&info, ERR_TIMEOUT, "no answer came in time"); /* Told by step. */
    } else {
        (void)channel_explain(self->channel, &info); /* Told by step. */
    }
    doom_info(self, &info);
}

static void step(struct channel_user *user)
{
    struct client_error none = {.err = ERR_OK, .text = err_text(ERR_OK)};
    struct consumer *self = of_user(user);
    uint64_t now_ns = channel_now_ns();
    const struct err_info *refusal = channel_refusal(self->channel);

    if (self->state == CONSUMER_ENDED) {
        return;
    }
    if (self->placed && !self->told) {
        tell_placed(self);
    }
    deliver(self, now_ns);
    if (self->freed) {
        destroy(self);
        return;
    }
    if (is_complete(self)) {
        (void)end(self, &none); /* Nothing of self is used after it. */
        return;
    }
    if (refusal != NULL && !self->call.pending) {
        doom_info(self, refusal);
    } else if (now_ns >= self->deadline_ns) {
        expire(self);
    }
    if (!self->doomed) {
        ask(self, now_ns);
        if (self->deadline_ns != CHANNEL_NEVER) {
            channel_wake(self->channel, user, self->deadline_ns);
        }
    } else if (self->chunks == NULL) {
        (void)end(self, &self->failure); /* Nothing of self is used after it. */
    }
}

/* ---- what callers use ---- */

static void cancel(struct channel_user *user)
{
    struct client_error error = {.err = ERR_CANCELED, .text = "the client was closed"};
    struct consumer *self = of_user(user);

    if (self->state == CONSUMER_ENDED || end(self, &error)) {
        consumer_free(self);
    }
}

enum err consumer_new(struct client *client, const struct consumer_options *options,
                      const struct consumer_events *events, void *arg,
                      struct consumer **ret_consumer)
{
    static const struct call_events call_events = {.answer = on_answer, .lost = on_lost};
    struct consumer *self;
    enum err err;

    ASSERT(events->record != NULL && events->ended != NULL);
    if (client_request_check_topic(options->topic) != ERR_OK ||
        (unsigned)options->start > CONSUMER_TIME || options->credit_size > INT32_MAX ||
        !share_is_one(options->share, options->share_count)) {
        return ERR_INVALID;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->channel = client_channel(client);
    self->options = *options;
    memcpy(self->topic, options->topic, strlen(options->topic) + 1);
    self->options.topic = self->topic;
    if (self->options.credit_size == 0) {
        self->options.credit_size = CREDIT_SIZE;
    }
    self->events = *events;
    self->arg = arg;
    self->deadline_ns = CHANNEL_NEVER;
    self->call.events = &call_events;
    self->call.reply_type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY;
    self->call.repeatable = true;
    record_reader_init(&self->reader);
    self->user.step = step;
    self->user.cancel = cancel;
    err = channel_add(self->channel, &self->user);
    if (err != ERR_OK) {
        record_reader_fini(&self->reader);
        free(self);
        return err;
    }
    *ret_consumer = self;
    return ERR_OK;
}

uint64_t consumer_position(const struct consumer *self)
{
    return self->next;
}

void consumer_pause(struct consumer *self)
{
    self->paused = true;
}

void consumer_resume(struct consumer *self)
{
    self->paused = false;
    channel_wake(self->channel, &self->user, 0);
}

void consumer_free(struct consumer *self)
{
    if (self == NULL || self->freed) {
        return;
    }
    self->freed = true;
    channel_remove(self->channel, &self->user);
    if (!self->delivering) {
        destroy(self); /* Else the step that has called the event does. */
    }
}
