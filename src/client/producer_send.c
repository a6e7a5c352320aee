/*
 * A producer's tries: its id, the numbers of batches, sending, and what each answer means. The
 * whole story is told in producer.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "client/producer_internal.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"

static struct batch *of_call(struct call *call)
{
    return (void *)((char *)call - offsetof(struct batch, call));
}

/* ---- answers ---- */

static void back_off(struct producer *self)
{
    uint64_t now_ns = channel_now_ns();

    /* The failures of one round of tries count once. */
    if (now_ns >= self->retry_ns) {
        self->failures++;
        self->retry_ns = channel_retry_ns(now_ns, self->failures);
    }
    channel_wake(self->channel, &self->user, 0);
}

static void on_lost(struct call *call, enum err err, const char *text)
{
    struct batch *batch = of_call(call);
    struct producer *self = batch->producer;
    struct client_error error = {.err = err, .retryable = true, .text = text};

    ASSERT(batch->state == BATCH_SENT); /* I3 */
    self->has_reason = true;
    (void)err_set(&self->reason, err, "%s", text); /* Kept for the deadline. */
    batch->maybe_written = true;
    if (producer_is_idempotent(self)) {
        batch->state = BATCH_QUEUED;
        producer_count_retry(self, err);
    } else {
        producer_fail_batch(batch, &error);
    }
    channel_wake(self->channel, &self->user, 0);
}

/* Is another try right? */
static bool is_for_retry(const struct batch *batch, const struct client_error *error)
{
    if (!producer_is_idempotent(batch->producer)) {
        return error->retryable && !error->outcome_unknown;
    }
    /* Said of a try that came before, or together with, what it depends on. */
    if (error->err == ERR_SEQUENCE_GAP || error->err == ERR_PRODUCER_UNKNOWN) {
        return !batch->sent_as_oldest;
    }
    return error->retryable || error->outcome_unknown;
}

static uint64_t expected_offset(const struct batch *batch)
{
    return batch->producer->options.expect_offset + batch->first;
}

static void on_error(struct batch *batch, const struct client_error *error)
{
    struct producer *self = batch->producer;

    if (error->err == ERR_DUPLICATE_OLD) {
        batch->state = BATCH_WRITTEN;
        batch->answered_ns = channel_now_ns();
        batch->error = *error;
        batch->error.outcome_unknown = false;
        batch->error.text = strdup(error->text); /* NULL: the code's own text will do. */
        channel_wake(self->channel, &self->user, 0);
        return;
    }
    self->has_reason = true;
    (void)err_set(&self->reason, error->err, "%s", error->text); /* Kept for the deadline. */
    batch->maybe_written = batch->maybe_written || error->outcome_unknown;
    if (error->err == ERR_EXPECT_FAILED && error->log_end > expected_offset(batch)) {
        /* No earlier try has been written, for the cluster would know it again; and none will be,
         * since an end never goes back. */
        batch->maybe_written = false;
    }
    if (is_for_retry(batch, error)) {
        batch->state = BATCH_QUEUED;
        producer_count_retry(self, error->err);
        back_off(self);
    } else {
        producer_fail_batch(batch, error);
        channel_wake(self->channel, &self->user, 0);
    }
}

/* It is written, and that is told with an error. */
static void tell_unconfirmed(struct batch *batch, const Quorlog__ProduceReply *reply)
{
    char text[160];

    (void)snprintf(text, sizeof text, /* fits */
                   "written at offset %" PRIu64 ", but only %" PRIu32 " of %" PRIu32
                   " voters were known to have it on disk in time",
                   reply->offset, reply->replicas, reply->voters);
    batch->error = (struct client_error){.err = ERR_NOT_CONFIRMED};
    batch->error.text = strdup(text); /* NULL: the code's own text will do. */
}

static enum err on_answer(struct call *call, const struct frame *frame,
                          const struct client_error *error)
{
    struct batch *batch = of_call(call);
    struct producer *self = batch->producer;
    Quorlog__ProduceReply *reply;

    ASSERT(batch->state == BATCH_SENT); /* I3 */
    if (error != NULL) {
        on_error(batch, error);
        return ERR_OK;
    }
    reply = quorlog__produce_reply__unpack(NULL, frame->header_size, frame->header);
    if (reply == NULL || reply->record_count != batch->count) {
        if (reply != NULL) {
            quorlog__produce_reply__free_unpacked(reply, NULL);
        }
        on_lost(call, ERR_PROTOCOL, "the answer does not match the batch");
        return ERR_PROTOCOL;
    }
    batch->state = BATCH_WRITTEN;
    batch->answered_ns = channel_now_ns();
    batch->report.offset = reply->offset;
    batch->report.term = reply->term;
    batch->report.raft_index = reply->raft_index;
    batch->report.duplicate = reply->duplicate;
    batch->report.replicas = reply->replicas;
    batch->report.voters = reply->voters;
    producer_set_codec(self, reply->compression);
    if (reply->code == ERR_NOT_CONFIRMED) {
        tell_unconfirmed(batch, reply);
    }
    quorlog__produce_reply__free_unpacked(reply, NULL);
    self->failures = 0;
    channel_wake(self->channel, &self->user, 0);
    return ERR_OK;
}

const struct call_events producer_call_events = {.answer = on_answer, .lost = on_lost};

/* ---- the producer's id ---- */

static void on_init_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                          size_t reply_size)
{
    struct producer *self = arg;
    Quorlog__InitProducerReply *message;

    self->init = NULL;
    channel_wake(self->channel, &self->user, 0);
    if (error->err != ERR_OK) {
        self->has_reason = true;
        (void)err_set(&self->reason, error->err, "%s", error->text); /* Kept for the deadline. */
        if (self->batches == NULL && self->building_count > 0 && producer_seal(self) != ERR_OK) {
            return; /* Another try. */
        }
        if (self->batches != NULL && batch_is_open(self->batches)) {
            producer_fail_batch(self->batches, error);
        }
        return;
    }
    message = quorlog__init_producer_reply__unpack(NULL, reply_size, reply);
    if (message == NULL || message->producer_id == 0 || message->epoch > UINT16_MAX) {
        back_off(self);
    } else {
        self->id = message->producer_id;
        self->epoch = (uint16_t)message->epoch;
        producer_set_codec(self, message->compression);
        self->window = self->options.inflight_max;
        if (message->window > 0 && message->window < self->window) {
            self->window = message->window;
        }
        self->next_sequence = 0;
    }
    if (message != NULL) {
        quorlog__init_producer_reply__free_unpacked(message, NULL);
    }
}

static void get_id(struct producer *self, uint64_t now_ns)
{
    Quorlog__InitProducerRequest request = QUORLOG__INIT_PRODUCER_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER,
        .request = &request.base,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY,
        .reply = &quorlog__init_producer_reply__descriptor,
        .repeatable = true, /* An id that nobody uses does no harm, */
        .reads = true,      /* and so its outcome does not matter. */
        .needs_leader = true,
    };
    uint64_t deadline_ns = producer_oldest_deadline_ns(self);

    ASSERT(self->id == 0 && producer_is_idempotent(self));
    if (self->init != NULL || deadline_ns <= now_ns || now_ns < self->retry_ns) {
        return;
    }
    if (deadline_ns == CHANNEL_NEVER) {
        return; /* Nothing to send. */
    }
    request.compression_of = self->topic;
    options.timeout_ns = deadline_ns - now_ns;
    if (client_request_start(self->channel, &options, on_init_reply, self, &self->init) != ERR_OK) {
        back_off(self);
    }
}

/* What a batch that failed for good has left behind, when no try of another is under way. */
void producer_renumber(struct producer *self)
{
    struct batch *batch;

    DL_FOREACH(self->batches, batch)
    {
        if (batch->state == BATCH_SENT) {
            return;
        }
        if (batch->maybe_written) {
            self->renew_id = true; /* A try may still be on its way, with its old number. */
        }
    }
    DL_FOREACH(self->batches, batch)
    {
        batch->numbered = false;
        if (batch_is_open(batch)) {
            batch->maybe_written = false; /* It came after a gap: it was not written. */
        }
    }
    if (self->renew_id) {
        self->id = 0;
    }
    self->renumber = false;
    self->renew_id = false;
}

/* ---- sending ---- */

static enum err send_batch(struct producer *self, struct batch *batch, uint64_t now_ns)
{
    Quorlog__ProduceRequest request = QUORLOG__PRODUCE_REQUEST__INIT;
    uint8_t header[BATCH_HEADER_SIZE];
    struct batch_header fields = {
        .size = (uint32_t)(BATCH_HEADER_SIZE + batch->body->size),
        .record_count = batch->count,
        .producer_id = self->id,
        .producer_epoch = self->epoch,
        .base_sequence = batch->base_sequence,
        .attributes = (uint16_t)batch->codec,
        .body_crc32c = batch->body_crc32c,
    };
    struct slice parts[] = {
        {.data = header, .size = sizeof header},
        {.block = batch->body, .data = batch->body->data, .size = batch->body->size},
    };
    enum err err;

    ASSERT(batch->state == BATCH_QUEUED);
    ASSERT(batch->numbered == producer_is_idempotent(self));
    batch_header_encode(&fields, header);
    memset(header + 4, 0, 4); /* header_crc32c is stamped by the cluster. */
    request.topic = self->topic;
    request.deadline_ms = channel_deadline_ms(now_ns, batch->deadline_ns);
    request.acks = self->options.acks_all ? QUORLOG__ACKS__ACKS_ALL : QUORLOG__ACKS__ACKS_MAJORITY;
    request.has_expect_offset = self->options.has_expect;
    request.expect_offset = self->options.has_expect ? expected_offset(batch) : 0;
    err = channel_send(self->channel, &batch->call, &request.base, parts, 2);
    if (err == ERR_OK) {
        batch->state = BATCH_SENT;
        if (batch->first_sent_ns == 0) {
            batch->first_sent_ns = batch->call.sent_ns;
        }
    }
    return err;
}

static bool fits_node(struct producer *self, struct batch *batch)
{
    size_t size = BATCH_HEADER_SIZE + batch->plain_size; /* Compressed it may hold no more. */
    size_t size_max = channel_batch_size_max(self->channel);
    struct err_info info;

    if (size_max == 0 || size <= size_max) {
        return true;
    }
    (void)err_set(&info, ERR_TOO_LARGE, "a batch of %zu bytes; the node takes %zu", size,
                  size_max); /* Told below. */
    producer_fail_batch_info(batch, &info);
    channel_wake(self->channel, &self->user, 0);
    return false;
}

/* Sends what is QUEUED, in order. True when all is sent and the window has room for more. */
static bool send_queued(struct producer *self, uint64_t now_ns)
{
    struct batch *batch;
    unsigned index = 0;
    bool earlier_open = false;
    enum err err;

    DL_FOREACH(self->batches, batch)
    {
        if (index == self->window) {
            return false; /* I2 */
        }
        index++;
        if (batch->state == BATCH_FAILED && producer_is_idempotent(self)) {
            return false; /* What follows is numbered anew. */
        }
        if (batch->state == BATCH_QUEUED) {
            if (!fits_node(self, batch)) {
                return false;
            }
            if (!batch->packed && producer_pack(batch) != ERR_OK) {
                back_off(self);
                return false;
            }
            if (!batch->numbered && producer_is_idempotent(self)) {
                batch->numbered = true; /* I1 */
                batch->base_sequence = self->next_sequence;
                self->next_sequence += batch->count; /* modulo 2^32, as the cluster does */
            }
            batch->sent_as_oldest = !earlier_open;
            err = send_batch(self, batch, now_ns);
            if (err == ERR_NOMEM) {
                back_off(self);
            }
            if (err != ERR_OK) {
                return false; /* Connected, or drained: the channel wakes us. */
            }
        }
        earlier_open = earlier_open || batch_is_open(batch);
    }
    return index < self->window;
}

static bool may_seal(const struct producer *self, uint64_t now_ns)
{
    if (self->options.atomic) {
        return self->building_count > 0 && self->flush;
    }
    return self->building_count > 0 &&
           (self->batches == NULL || self->flush ||
            now_ns >= self->building_ns + channel_ms_to_ns(self->options.linger_ms));
}

void producer_send_all(struct producer *self, uint64_t now_ns)
{
    if (!channel_is_ready(self->channel) || self->renumber || now_ns < self->retry_ns) {
        return;
    }
    if (producer_is_idempotent(self) && self->id == 0) {
        get_id(self, now_ns);
        return;
    }
    while (send_queued(self, now_ns) && may_seal(self, now_ns)) {
        if (producer_seal(self) != ERR_OK) {
            back_off(self);
            return;
        }
    }
}
