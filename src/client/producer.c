/*
 * A producer: records become batches, batches become offsets, in order and once.
 *
 * Happy path: producer_send appends the record to `building`; step() seals it into a batch, numbers
 * and sends it, up to inflight_max batches at a time; answers arrive in any order and are reported
 * in order.
 *
 * Failure modes. A try that failed or was lost puts its batch back to QUEUED, and all QUEUED ones
 * go out again, oldest first: the cluster refuses what comes before its predecessor (SEQUENCE_GAP)
 * and knows again what it has. A batch that failed for good, and is certainly not written, leaves a
 * gap in the numbers: nothing is sent until what is under way was answered, then the rest is
 * numbered anew, under a new producer id if a try of the rest may still be on its way (under the
 * old id it can never be written any more, for the gap is never filled). After an unknown outcome
 * neither repeating nor going on is right: the producer has FAILED; and so it has when the cluster
 * refuses a number that has to be right (a gap, a reuse), fences it, or finds the log's end
 * elsewhere than the caller said. What was under way behind a batch that is certainly not written,
 * and never will be, is certainly not written either.
 *
 *            seal            send            answer
 *   building ──────► QUEUED ──────► SENT ─────────────► WRITTEN ──► reported
 *                     │  ▲           │ │
 *                     │  └───────────┘ │ for good, deadline
 *                     │     retryable, └──────────────► FAILED ───► reported
 *                     │     lost                           ▲
 *                     └────────────────────────────────────┘ deadline, refused, too large
 *
 * This file has the records, the reports and the time; tries and their answers are in
 * producer_send.c; the invariants in producer_internal.h.
 */
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "client/producer_internal.h"
#include "quorlog.pb-c.h"
#include "record/record_set.h"

enum {
    BATCH_SIZE_MAX = 256 << 10,
    BATCH_SIZE_LIMIT = 1 << 30,
    PACKED_ROOM = 4096,
    BATCH_RECORDS_MAX = 10000,
    INFLIGHT = 16,
    INFLIGHT_MAX = 64,
    BUFFER_SIZE_MAX = 32 << 20,
    TIMEOUT_MS = 30000,
    GRACE_MAX_MS = 1000,
};

#define AFTER_FAILURE "an earlier batch of this producer failed, and order must be kept"

static struct producer *of_user(struct channel_user *user)
{
    return (void *)((char *)user - offsetof(struct producer, user));
}

/* ---- batches ---- */

bool client_compression_parse(const char *name, enum client_compression *ret_compression)
{
    enum codec codec;

    if (!codec_parse(name, &codec)) {
        return false;
    }
    *ret_compression = codec == CODEC_LZ4    ? CLIENT_COMPRESSION_LZ4
                       : codec == CODEC_ZSTD ? CLIENT_COMPRESSION_ZSTD
                                             : CLIENT_COMPRESSION_NONE;
    return true;
}

static enum codec wanted_codec(const struct producer *self)
{
    switch (self->options.compression) {
    case CLIENT_COMPRESSION_LZ4:
        return CODEC_LZ4;
    case CLIENT_COMPRESSION_ZSTD:
        return CODEC_ZSTD;
    case CLIENT_COMPRESSION_NONE:
        return CODEC_NONE;
    case CLIENT_COMPRESSION_DEFAULT:
    default:
        return self->topic_codec;
    }
}

void producer_set_codec(struct producer *self, uint32_t compression)
{
    /* One that comes with a later release is not known here. */
    self->topic_codec =
        codec_name((enum codec)compression) != NULL ? (enum codec)compression : CODEC_NONE;
}

/* The bytes that are sent, from now on the batch's. */
static enum err set_body(struct batch *batch, const struct buf *body, enum codec codec)
{
    struct block *block = block_new(body->size);

    if (block == NULL) {
        return ERR_NOMEM;
    }
    memcpy(block->data, body->data, body->size);
    block_unref(batch->body);
    batch->body = block;
    batch->codec = codec;
    return ERR_OK;
}

enum err producer_pack(struct batch *batch)
{
    struct producer *self = batch->producer;
    enum codec codec = wanted_codec(self);
    size_t size = batch->body->size;
    enum err err = ERR_OK;

    ASSERT(!batch->packed && batch->codec == CODEC_NONE);
    if (codec != CODEC_NONE) {
        self->packed.size = 0;
        err = codec_compress(codec, batch->body->data, size, &self->packed, NULL);
        if (err == ERR_OK && self->packed.size < size) {
            err = set_body(batch, &self->packed, codec);
        }
    }
    if (err == ERR_NOMEM) {
        return err;
    }
    self->buffered -= size - batch->body->size; /* Whatever else it is: plain will do. */
    batch->body_crc32c = crc32c(batch->body->data, batch->body->size);
    batch->packed = true;
    return ERR_OK;
}

enum err producer_seal(struct producer *self)
{
    struct batch *batch = calloc(1, sizeof *batch);

    ASSERT(self->building_count > 0 && self->building.size > 0);
    if (batch == NULL) {
        return ERR_NOMEM;
    }
    if (set_body(batch, &self->building, CODEC_NONE) != ERR_OK) {
        free(batch);
        return ERR_NOMEM;
    }
    batch->plain_size = self->building.size;
    batch->producer = self;
    batch->state = BATCH_QUEUED;
    batch->call.events = &producer_call_events;
    batch->call.type = QUORLOG__FRAME_TYPE__FRAME_PRODUCE;
    batch->call.reply_type = QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY;
    batch->call.needs_leader = true;
    batch->call.repeatable = producer_is_idempotent(self);
    batch->first = self->next_first - self->building_count;
    batch->count = self->building_count;
    batch->deadline_ns = self->building_ns + channel_ms_to_ns(self->options.timeout_ms);
    DL_APPEND(self->batches, batch);
    self->buffered += sizeof *batch + batch->body->size;
    self->building.size = 0;
    self->building_count = 0;
    self->flush = false;
    return ERR_OK;
}

static void free_batch(struct batch *batch)
{
    ASSERT(!batch->call.pending); /* I3 */
    block_unref(batch->body);
    free((char *)batch->error.text);
    free(batch);
}

void producer_fail_batch(struct batch *batch, const struct client_error *error)
{
    ASSERT(batch_is_open(batch));
    channel_forget(batch->producer->channel, &batch->call);
    batch->state = BATCH_FAILED;
    batch->answered_ns = channel_now_ns();
    batch->error = *error;
    batch->error.outcome_unknown = batch->maybe_written;
    batch->error.text = strdup(error->text); /* NULL: the code's own text will do. */
}

void producer_fail_batch_info(struct batch *batch, const struct err_info *info)
{
    struct client_error error = {
        .err = info->code,
        .retryable = err_retryable(info->code),
        .text = info->text,
    };

    producer_fail_batch(batch, &error);
}

/* ---- reports ---- */

/* After a batch that failed for good: the others are numbered anew. */
static void leave_gap(struct producer *self, const struct batch *batch)
{
    enum err err = batch->error.err;

    ASSERT(!batch->maybe_written);
    if (!batch->numbered) {
        return;
    }
    if (!self->renumber) {
        self->renumber = true;
        self->next_sequence = batch->base_sequence;
    }
    /* The cluster does not expect this number: not from this producer, or not in this topic, which
     * is another one of the same name, or will be. */
    if (err == ERR_PRODUCER_UNKNOWN || (err == ERR_TOPIC_UNKNOWN && batch->base_sequence != 0)) {
        self->renew_id = true;
    }
}

/* Whatever is under way ends; its reports follow. unwritten: what it depends on was certainly not
 * written, so it is not either. */
static void fail_all(struct producer *self, const struct client_error *error, bool unwritten)
{
    struct batch *batch;

    DL_FOREACH(self->batches, batch)
    {
        if (batch_is_open(batch)) {
            batch->maybe_written =
                !unwritten && (batch->maybe_written || batch->state == BATCH_SENT);
            producer_fail_batch(batch, error);
        }
    }
}

static void fail_producer(struct producer *self, const struct batch *cause)
{
    struct client_error error = {.err = cause->error.err, .text = AFTER_FAILURE};

    ASSERT(!self->failed);
    self->failed = true;
    self->failure = error.err;
    /* With a reused number the next one may be the one that the cluster waits for. */
    fail_all(self, &error,
             cause->numbered && !cause->maybe_written && error.err != ERR_SEQUENCE_REUSED);
}

/* Whether nothing that comes after such a failure may be sent. */
static bool ends_producer(const struct producer *self, const struct batch *batch)
{
    switch ((int)batch->error.err) {
    case ERR_FENCED:
    case ERR_SEQUENCE_GAP:
    case ERR_SEQUENCE_REUSED:
    case ERR_EXPECT_FAILED:
        return true;
    default:
        return batch->maybe_written || self->options.identity.id != 0 || self->options.has_expect;
    }
}

static void report(struct producer *self, const struct batch *batch)
{
    struct client_error error = batch->error;
    struct producer_report out = batch->report;

    out.first = batch->first;
    out.count = batch->count;
    out.plain_size = batch->plain_size;
    out.sent_size = batch->body->size;
    out.latency_ns = batch->first_sent_ns == 0 ? 0 : batch->answered_ns - batch->first_sent_ns;
    if (error.text == NULL) {
        error.text = err_text(error.err);
    }
    out.error = &error;
    ASSERT(out.first == self->reported);
    self->reported += batch->count;
    self->cb(self->arg, &out);
}

/* The records that no batch has yet fail: they were never sent. */
static void report_building(struct producer *self, enum err err, const char *text)
{
    struct client_error error = {.err = err, .text = text};
    struct producer_report out = {
        .first = self->reported,
        .count = self->building_count,
        .error = &error,
    };

    ASSERT(self->batches == NULL);
    if (self->building_count == 0) {
        return;
    }
    ASSERT(self->reported + self->building_count == self->next_first);
    self->reported += self->building_count;
    self->building_count = 0;
    self->building.size = 0;
    self->cb(self->arg, &out);
}

static void free_producer(struct producer *self)
{
    ASSERT(self->batches == NULL && self->init == NULL);
    buf_fini(&self->building);
    buf_fini(&self->packed);
    free(self);
}

/* The oldest batch, now the caller's. */
static struct batch *take_oldest(struct producer *self)
{
    struct batch *batch = self->batches;

    ASSERT(self->buffered >= sizeof *batch + batch->body->size);
    self->buffered -= sizeof *batch + batch->body->size;
    DL_DELETE(self->batches, batch);
    return batch;
}

/* What a failed batch means for those after it. */
static void draw_consequences(struct producer *self, const struct batch *batch)
{
    if (batch->state != BATCH_FAILED || !producer_is_idempotent(self) || self->failed) {
        return;
    }
    if (ends_producer(self, batch)) {
        fail_producer(self, batch);
    } else {
        leave_gap(self, batch);
    }
}

/* Reports what is at its turn. The callback may free the producer: false then. */
static bool report_answered(struct producer *self)
{
    ASSERT(!self->reporting);
    self->reporting = true;
    while (!self->freed && self->batches != NULL && !batch_is_open(self->batches)) {
        struct batch *batch = take_oldest(self);

        draw_consequences(self, batch);
        report(self, batch);
        free_batch(batch);
    }
    if (!self->freed && self->failed && self->batches == NULL) {
        report_building(self, self->failure, AFTER_FAILURE);
    }
    self->reporting = false;
    if (self->freed) {
        free_producer(self);
        return false;
    }
    return true;
}

/* ---- time ---- */

uint64_t producer_oldest_deadline_ns(const struct producer *self)
{
    if (self->batches != NULL) {
        return self->batches->deadline_ns;
    }
    if (self->building_count > 0 && (!self->options.atomic || self->flush)) {
        return self->building_ns + channel_ms_to_ns(self->options.timeout_ms);
    }
    return CHANNEL_NEVER;
}

/* A node that has a try says at the deadline what it knows, and that is more than this side does:
 * so its word is waited for a little longer. */
static uint64_t grace_ns(const struct producer *self)
{
    uint64_t part_ms = self->options.timeout_ms / 4;

    return channel_ms_to_ns(part_ms < GRACE_MAX_MS ? part_ms : GRACE_MAX_MS);
}

static bool is_awaited(const struct batch *batch, uint64_t now_ns)
{
    return batch->state == BATCH_SENT && now_ns < batch->deadline_ns + grace_ns(batch->producer);
}

/* Fails what is past its deadline. While an id is being asked for, the question has the same
 * deadline, and knows better what went wrong. */
static void expire(struct producer *self, uint64_t now_ns)
{
    struct err_info info;
    struct batch *batch;

    if (self->init != NULL) {
        return;
    }
    if (self->batches == NULL && producer_oldest_deadline_ns(self) <= now_ns &&
        producer_seal(self) != ERR_OK) {
        return; /* Again at the next step. */
    }
    DL_FOREACH(self->batches, batch)
    {
        if (batch->deadline_ns > now_ns) {
            return;
        }
        if (!batch_is_open(batch) || is_awaited(batch, now_ns)) {
            continue;
        }
        batch->maybe_written = batch->maybe_written || batch->state == BATCH_SENT;
        if (batch->maybe_written) {
            (void)err_set(&info, ERR_TIMEOUT, "%s", err_text(ERR_TIMEOUT)); /* Told below. */
        } else if (self->has_reason) {
            info = self->reason;
        } else {
            (void)channel_explain(self->channel, &info); /* Told below. */
        }
        producer_fail_batch_info(batch, &info);
    }
}

/* No server wants this client: what was not sent fails at once. */
static void refuse(struct producer *self)
{
    const struct err_info *refusal = channel_refusal(self->channel);
    struct batch *batch;

    if (refusal == NULL) {
        return;
    }
    if (self->building_count > 0 && producer_seal(self) != ERR_OK) {
        return; /* At the next step. */
    }
    DL_FOREACH(self->batches, batch)
    {
        if (batch->state == BATCH_QUEUED && !batch->maybe_written) {
            producer_fail_batch_info(batch, refusal);
        }
    }
}

static void set_wake(struct producer *self, uint64_t now_ns)
{
    uint64_t linger_ns = self->building_ns + channel_ms_to_ns(self->options.linger_ms);
    uint64_t deadline_ns = producer_oldest_deadline_ns(self);

    if (deadline_ns <= now_ns && self->batches != NULL && is_awaited(self->batches, now_ns)) {
        deadline_ns += grace_ns(self);
    }
    channel_wake(self->channel, &self->user,
                 deadline_ns > now_ns ? deadline_ns : now_ns + NS_PER_MS);
    if (self->retry_ns > now_ns) {
        channel_wake(self->channel, &self->user, self->retry_ns);
    }
    if (self->building_count > 0 && linger_ns > now_ns && !self->options.atomic) {
        channel_wake(self->channel, &self->user, linger_ns);
    }
}

static void step(struct channel_user *user)
{
    struct producer *self = of_user(user);
    uint64_t now_ns = channel_now_ns();

    refuse(self);
    expire(self, now_ns);
    if (!report_answered(self)) {
        return;
    }
    if (self->renumber) {
        producer_renumber(self);
    }
    producer_send_all(self, now_ns);
    set_wake(self, now_ns);
}

/* ---- what callers use ---- */

static enum err check_options(struct producer_options *options)
{
    options->batch_size_max =
        options->batch_size_max == 0 ? BATCH_SIZE_MAX : options->batch_size_max;
    options->batch_records_max =
        options->batch_records_max == 0 ? BATCH_RECORDS_MAX : options->batch_records_max;
    options->inflight_max = options->inflight_max == 0 ? INFLIGHT : options->inflight_max;
    options->buffer_size_max =
        options->buffer_size_max == 0 ? BUFFER_SIZE_MAX : options->buffer_size_max;
    options->timeout_ms = options->timeout_ms == 0 ? TIMEOUT_MS : options->timeout_ms;
    if (options->atomic) {
        options->batch_records_max = UINT32_MAX;
    }
    if ((options->has_expect || options->identity.id != 0) && options->no_idempotence) {
        return ERR_INVALID;
    }
    if ((unsigned)options->compression > CLIENT_COMPRESSION_ZSTD ||
        options->inflight_max > INFLIGHT_MAX || options->batch_size_max > BATCH_SIZE_LIMIT ||
        options->buffer_size_max < options->batch_size_max) {
        return ERR_INVALID;
    }
    return client_request_check_topic(options->topic);
}

static void cancel(struct channel_user *user)
{
    producer_free(of_user(user));
}

enum err producer_new(struct client *client, const struct producer_options *options,
                      producer_report_cb cb, void *arg, struct producer **ret_producer)
{
    struct producer *self = calloc(1, sizeof *self);
    enum err err;

    ASSERT(cb != NULL);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->options = *options;
    err = check_options(&self->options);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    memcpy(self->topic, options->topic, strlen(options->topic) + 1);
    self->options.topic = self->topic;
    self->channel = client_channel(client);
    self->cb = cb;
    self->arg = arg;
    self->window = self->options.inflight_max;
    self->id = self->options.identity.id;
    self->epoch = self->options.identity.epoch;
    self->next_sequence = self->options.identity.sequence;
    buf_init(&self->building, self->options.batch_size_max);
    buf_init(&self->packed, 2 * self->options.batch_size_max + PACKED_ROOM); /* Codecs' bounds. */
    self->user.step = step;
    self->user.cancel = cancel;
    err = channel_add(self->channel, &self->user);
    if (err != ERR_OK) {
        buf_fini(&self->building);
        free(self);
        return err;
    }
    *ret_producer = self;
    return ERR_OK;
}

static enum err append(struct producer *self, const struct record *record)
{
    size_t before = self->building.size;
    enum err err = record_set_append(&self->building, record);

    if (err == ERR_OK && self->buffered + self->building.size > self->options.buffer_size_max) {
        self->building.size = before;
        return ERR_BUSY;
    }
    return err;
}

enum err producer_send(struct producer *self, const struct record *record)
{
    enum err err;

    if (self->failed || self->freed) {
        return ERR_FAILED;
    }
    if (self->building_count == self->options.batch_records_max) {
        err = producer_seal(self);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = append(self, record);
    if (err == ERR_TOO_LARGE && self->building_count > 0 && !self->options.atomic) {
        err = producer_seal(self);
        if (err != ERR_OK) {
            return err;
        }
        err = append(self, record);
    }
    channel_wake(self->channel, &self->user, 0); /* All that comes in one turn goes together. */
    if (err != ERR_OK) {
        return err;
    }
    if (self->building_count == 0) {
        self->building_ns = channel_now_ns();
    }
    self->building_count++;
    self->next_first++;
    return ERR_OK;
}

void producer_flush(struct producer *self)
{
    self->flush = self->building_count > 0;
    if (self->options.atomic) {
        self->building_ns = channel_now_ns(); /* Complete: its time begins now. */
    }
    channel_wake(self->channel, &self->user, 0);
}

uint64_t producer_pending(const struct producer *self)
{
    return self->next_first - self->reported;
}

/* Codes come from the wire: they may be any number. */
static size_t slot_of(enum err err)
{
    int number = -(int)err;

    return number > 0 && number < PRODUCER_CODES_MAX ? (size_t)number : 0;
}

void producer_count_retry(struct producer *self, enum err err)
{
    self->retries[slot_of(err)]++;
}

uint64_t producer_retries(const struct producer *self, enum err err)
{
    ASSERT(slot_of(err) != 0 || err == ERR_OK);
    return self->retries[slot_of(err)];
}

void producer_free(struct producer *self)
{
    struct client_error error = {.err = ERR_CANCELED, .text = "the producer was closed"};

    if (self == NULL || self->freed) {
        return;
    }
    self->freed = true;
    client_request_free(self->init);
    self->init = NULL;
    channel_remove(self->channel, &self->user);
    fail_all(self, &error, false);
    while (self->batches != NULL) {
        struct batch *batch = take_oldest(self);

        report(self, batch);
        free_batch(batch);
    }
    report_building(self, error.err, error.text);
    if (!self->reporting) {
        free_producer(self); /* Else report_answered does. */
    }
}
