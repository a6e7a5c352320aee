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
 * neither repeating nor going on is right: the producer has FAILED.
 *
 *              seal             send                    answer
 *   building ───────► QUEUED ───────► SENT ─────────────────────► WRITTEN ──► reported
 *                       ▲  │ deadline  │ │ for good, deadline
 *                       │  └──────────┼─┴─────────────────────► FAILED ───► reported
 *                       └──────────────┘ lost, retryable
 *
 * Invariants:
 *   I1  The list holds the unreported batches in order of `first`; numbered ones come first, and
 *       their sequences follow on one another.
 *   I2  At most `window` batches, from the oldest unreported one on, are numbered: the cluster
 *       remembers that many, so a repeated one is always recognised.
 *   I3  A call is pending iff its batch is SENT.
 *   I4  Reports are made by step(), producer_free() and the closing client only.
 */
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "client/client_request.h"
#include "client/record_set.h"
#include "client/session.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"

enum {
    BATCH_SIZE_MAX = 256 << 10,
    BATCH_SIZE_LIMIT = 1 << 30,
    BATCH_RECORDS_MAX = 10000,
    INFLIGHT = 16,
    INFLIGHT_MAX = 64,
    BUFFER_SIZE_MAX = 32 << 20,
    TIMEOUT_MS = 30000,
};

#define NS_PER_MS UINT64_C(1000000)
#define AFTER_FAILURE "an earlier batch of this producer failed, and order must be kept"

enum batch_state { BATCH_QUEUED, BATCH_SENT, BATCH_WRITTEN, BATCH_FAILED };

struct batch {
    struct batch *prev;
    struct batch *next;
    struct producer *producer;
    enum batch_state state;
    struct call call;
    struct block *body;
    uint32_t body_crc32c;
    uint64_t first;
    uint32_t count;
    bool numbered; /* base_sequence is set */
    uint32_t base_sequence;
    bool maybe_written; /* a try ended with an unknown outcome */
    bool sent_as_oldest; /* the present try was made when all earlier batches had been answered */
    uint64_t deadline_ns;
    uint64_t first_sent_ns; /* 0: never */
    uint64_t answered_ns;
    struct producer_report report; /* WRITTEN: the answer */
    struct client_error error;     /* text: NULL or owned */
};

struct producer {
    struct session_user user;
    struct session *session; /* borrowed */
    struct producer_options options;
    char topic[SESSION_TOPIC_SIZE_MAX + 1];
    producer_report_cb cb;
    void *arg;

    struct buf building; /* the records that no batch has yet */
    uint32_t building_count;
    uint64_t building_ns; /* when the first of them came */
    bool flush;
    struct batch *batches; /* I1 */
    uint64_t next_first;   /* the number of the next record */
    uint64_t reported;     /* records that were reported */
    size_t buffered;       /* bytes that the batches take */

    struct client_request *init; /* under way */
    uint64_t id;                 /* 0: none (yet) */
    uint16_t epoch;
    unsigned window;
    uint32_t next_sequence;

    uint64_t retry_ns; /* nothing is sent before */
    unsigned failures;
    bool has_reason;
    struct err_info reason; /* of the last failed try */

    bool renumber; /* a batch failed for good: see the head of this file */
    bool renew_id; /* … and its id is of no more use */
    bool failed;   /* an unknown outcome, or fenced: nothing more is taken */
    enum err failure;
    bool reporting;
    bool freed; /* while reporting */
};

static struct producer *of_user(struct session_user *user)
{
    return (struct producer *)((char *)user - offsetof(struct producer, user));
}

static struct batch *of_call(struct call *call)
{
    return (struct batch *)((char *)call - offsetof(struct batch, call));
}

static bool is_idempotent(const struct producer *self)
{
    return !self->options.no_idempotence;
}

static bool is_open(const struct batch *batch)
{
    return batch->state == BATCH_QUEUED || batch->state == BATCH_SENT;
}

/* ---- batches ---- */

static const struct call_events batch_call_events;

/* Makes a batch of what was built. ERR_NOMEM: nothing changed. */
static enum err seal(struct producer *self)
{
    struct batch *batch;

    ASSERT(self->building_count > 0 && self->building.size > 0);
    batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return ERR_NOMEM;
    }
    batch->body = block_new(self->building.size);
    if (batch->body == NULL) {
        free(batch);
        return ERR_NOMEM;
    }
    memcpy(batch->body->data, self->building.data, self->building.size);
    batch->producer = self;
    batch->state = BATCH_QUEUED;
    batch->call.events = &batch_call_events;
    batch->call.type = QUORLOG__FRAME_TYPE__FRAME_PRODUCE;
    batch->call.reply_type = QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY;
    batch->call.needs_leader = true;
    batch->call.repeatable = is_idempotent(self);
    batch->body_crc32c = crc32c(batch->body->data, batch->body->size);
    batch->first = self->next_first - self->building_count;
    batch->count = self->building_count;
    batch->deadline_ns = self->building_ns + self->options.timeout_ms * NS_PER_MS;
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

/* Ends a batch; what is said is kept until its turn to be reported. */
static void fail_batch(struct batch *batch, const struct client_error *error)
{
    ASSERT(is_open(batch));
    session_forget(batch->producer->session, &batch->call);
    batch->state = BATCH_FAILED;
    batch->answered_ns = session_now_ns();
    batch->error = *error;
    batch->error.outcome_unknown = batch->maybe_written;
    batch->error.text = strdup(error->text); /* NULL: the code's own text will do. */
}

static void fail_batch_info(struct batch *batch, const struct err_info *info)
{
    struct client_error error = {
        .err = info->code,
        .retryable = err_retryable(info->code),
        .text = info->text,
    };

    fail_batch(batch, &error);
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
    if (err == ERR_SEQUENCE_GAP || err == ERR_SEQUENCE_REUSED || err == ERR_PRODUCER_UNKNOWN ||
        (err == ERR_TOPIC_UNKNOWN && batch->base_sequence != 0)) {
        self->renew_id = true;
    }
}

/* Whatever is under way ends; its reports follow. */
static void fail_all(struct producer *self, const struct client_error *error)
{
    struct batch *batch;

    DL_FOREACH(self->batches, batch)
    {
        if (is_open(batch)) {
            batch->maybe_written = batch->maybe_written || batch->state == BATCH_SENT;
            fail_batch(batch, error);
        }
    }
}

static void fail_producer(struct producer *self, enum err err)
{
    struct client_error error = {.err = err, .text = AFTER_FAILURE};

    self->failed = true;
    self->failure = err;
    fail_all(self, &error);
}

static void report(struct producer *self, const struct batch *batch)
{
    struct client_error error = batch->error;
    struct producer_report out = batch->report;

    out.first = batch->first;
    out.count = batch->count;
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
    free(self);
}

/* Reports what is at its turn. The callback may free the producer: false then. */
static bool report_answered(struct producer *self)
{
    ASSERT(!self->reporting);
    self->reporting = true;
    while (!self->freed && self->batches != NULL && !is_open(self->batches)) {
        struct batch *batch = self->batches;

        DL_DELETE(self->batches, batch);
        self->buffered -= sizeof *batch + batch->body->size;
        if (batch->state == BATCH_FAILED && is_idempotent(self) && !self->failed) {
            if (batch->maybe_written || batch->error.err == ERR_FENCED) {
                fail_producer(self, batch->error.err);
            } else {
                leave_gap(self, batch);
            }
        }
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

/* ---- answers ---- */

static void back_off(struct producer *self)
{
    uint64_t now_ns = session_now_ns();

    /* The failures of one round of tries count once. */
    if (now_ns >= self->retry_ns) {
        self->failures++;
        self->retry_ns = session_retry_ns(now_ns, self->failures);
    }
    session_wake(self->session, &self->user, 0);
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
    if (is_idempotent(self)) {
        batch->state = BATCH_QUEUED;
    } else {
        fail_batch(batch, &error);
    }
    session_wake(self->session, &self->user, 0);
}

/* Is another try right? */
static bool is_for_retry(const struct batch *batch, const struct client_error *error)
{
    if (!is_idempotent(batch->producer)) {
        return error->retryable && !error->outcome_unknown;
    }
    /* Said of a try that came before, or together with, what it depends on. */
    if (error->err == ERR_SEQUENCE_GAP || error->err == ERR_PRODUCER_UNKNOWN) {
        return !batch->sent_as_oldest;
    }
    return error->retryable || error->outcome_unknown;
}

static void on_error(struct batch *batch, const struct client_error *error)
{
    struct producer *self = batch->producer;

    if (error->err == ERR_DUPLICATE_OLD) {
        batch->state = BATCH_WRITTEN;
        batch->answered_ns = session_now_ns();
        batch->error = *error;
        batch->error.outcome_unknown = false;
        batch->error.text = strdup(error->text); /* NULL: the code's own text will do. */
        session_wake(self->session, &self->user, 0);
        return;
    }
    self->has_reason = true;
    (void)err_set(&self->reason, error->err, "%s", error->text); /* Kept for the deadline. */
    batch->maybe_written = batch->maybe_written || error->outcome_unknown;
    if (is_for_retry(batch, error)) {
        batch->state = BATCH_QUEUED;
        back_off(self);
    } else {
        fail_batch(batch, error);
        session_wake(self->session, &self->user, 0);
    }
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
    batch->answered_ns = session_now_ns();
    batch->report.offset = reply->offset;
    batch->report.term = reply->term;
    batch->report.raft_index = reply->raft_index;
    batch->report.duplicate = reply->duplicate;
    quorlog__produce_reply__free_unpacked(reply, NULL);
    self->failures = 0;
    session_wake(self->session, &self->user, 0);
    return ERR_OK;
}

static const struct call_events batch_call_events = {.answer = on_answer, .lost = on_lost};

/* ---- the producer's id ---- */

static void on_init_reply(void *arg, const struct client_error *error, const uint8_t *reply,
                          size_t reply_size)
{
    struct producer *self = arg;
    Quorlog__InitProducerReply *message;

    self->init = NULL;
    session_wake(self->session, &self->user, 0);
    if (error->err != ERR_OK) {
        self->has_reason = true;
        (void)err_set(&self->reason, error->err, "%s", error->text); /* Kept for the deadline. */
        if (self->batches == NULL && self->building_count > 0 && seal(self) != ERR_OK) {
            return; /* Another try. */
        }
        if (self->batches != NULL && is_open(self->batches)) {
            fail_batch(self->batches, error);
        }
        return;
    }
    message = quorlog__init_producer_reply__unpack(NULL, reply_size, reply);
    if (message == NULL || message->producer_id == 0 || message->epoch > UINT16_MAX) {
        back_off(self);
    } else {
        self->id = message->producer_id;
        self->epoch = (uint16_t)message->epoch;
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

/* When the oldest record that has no answer is given up. */
static uint64_t oldest_deadline_ns(const struct producer *self)
{
    if (self->batches != NULL) {
        return self->batches->deadline_ns;
    }
    if (self->building_count > 0) {
        return self->building_ns + self->options.timeout_ms * NS_PER_MS;
    }
    return SESSION_NEVER;
}

static void get_id(struct producer *self, uint64_t now_ns)
{
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY,
        .reply = &quorlog__init_producer_reply__descriptor,
        .repeatable = true, /* An id that nobody uses does no harm, */
        .reads = true,      /* and so its outcome does not matter. */
        .needs_leader = true,
    };
    uint64_t deadline_ns = oldest_deadline_ns(self);

    ASSERT(self->id == 0 && is_idempotent(self));
    if (self->init != NULL || deadline_ns <= now_ns || now_ns < self->retry_ns) {
        return;
    }
    if (deadline_ns == SESSION_NEVER) {
        return; /* Nothing to send. */
    }
    options.timeout_ns = deadline_ns - now_ns;
    if (client_request_start(self->session, &options, on_init_reply, self, &self->init) != ERR_OK) {
        back_off(self);
    }
}

/* What a batch that failed for good has left behind, when no try of another is under way. */
static void renumber(struct producer *self)
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
        if (is_open(batch)) {
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
        .body_crc32c = batch->body_crc32c,
    };
    struct slice parts[] = {
        {.data = header, .size = sizeof header},
        {.block = batch->body, .data = batch->body->data, .size = batch->body->size},
    };
    enum err err;

    ASSERT(batch->state == BATCH_QUEUED);
    ASSERT(batch->numbered == is_idempotent(self));
    batch_header_encode(&fields, header);
    memset(header + 4, 0, 4); /* header_crc32c is stamped by the cluster. */
    request.topic = self->topic;
    request.deadline_ms = session_deadline_ms(now_ns, batch->deadline_ns);
    err = session_send(self->session, &batch->call, &request.base, parts, 2);
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
    size_t size = BATCH_HEADER_SIZE + batch->body->size;
    size_t size_max = session_batch_size_max(self->session);
    struct err_info info;

    if (size_max == 0 || size <= size_max) {
        return true;
    }
    (void)err_set(&info, ERR_TOO_LARGE, "a batch of %zu bytes; the node takes %zu", size,
                  size_max); /* Told below. */
    fail_batch_info(batch, &info);
    session_wake(self->session, &self->user, 0);
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
        if (batch->state == BATCH_FAILED && is_idempotent(self)) {
            return false; /* What follows is numbered anew. */
        }
        if (batch->state == BATCH_QUEUED) {
            if (!fits_node(self, batch)) {
                return false;
            }
            if (!batch->numbered && is_idempotent(self)) {
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
                return false; /* Connected, or drained: the session wakes us. */
            }
        }
        earlier_open = earlier_open || is_open(batch);
    }
    return index < self->window;
}

static bool may_seal(const struct producer *self, uint64_t now_ns)
{
    return self->building_count > 0 &&
           (self->batches == NULL || self->flush ||
            now_ns >= self->building_ns + self->options.linger_ms * NS_PER_MS);
}

static void send_all(struct producer *self, uint64_t now_ns)
{
    if (!session_is_ready(self->session) || self->renumber || now_ns < self->retry_ns) {
        return;
    }
    if (is_idempotent(self) && self->id == 0) {
        get_id(self, now_ns);
        return;
    }
    while (send_queued(self, now_ns) && may_seal(self, now_ns)) {
        if (seal(self) != ERR_OK) {
            back_off(self);
            return;
        }
    }
}

/* ---- time ---- */

/* Fails what is past its deadline. While an id is being asked for, the question has the same
 * deadline, and knows better what went wrong. */
static void expire(struct producer *self, uint64_t now_ns)
{
    struct err_info info;
    struct batch *batch;

    if (self->init != NULL) {
        return;
    }
    if (self->batches == NULL && oldest_deadline_ns(self) <= now_ns && seal(self) != ERR_OK) {
        return; /* Again at the next step. */
    }
    DL_FOREACH(self->batches, batch)
    {
        if (batch->deadline_ns > now_ns) {
            return;
        }
        if (!is_open(batch)) {
            continue;
        }
        batch->maybe_written = batch->maybe_written || batch->state == BATCH_SENT;
        if (batch->maybe_written) {
            (void)err_set(&info, ERR_TIMEOUT, "%s", err_text(ERR_TIMEOUT)); /* Told below. */
        } else if (self->has_reason) {
            info = self->reason;
        } else {
            (void)session_explain(self->session, &info); /* Told below. */
        }
        fail_batch_info(batch, &info);
    }
}

/* No server wants this client: what was not sent fails at once. */
static void refuse(struct producer *self)
{
    const struct err_info *refusal = session_refusal(self->session);
    struct batch *batch;

    if (refusal == NULL) {
        return;
    }
    if (self->building_count > 0 && seal(self) != ERR_OK) {
        return; /* At the next step. */
    }
    DL_FOREACH(self->batches, batch)
    {
        if (batch->state == BATCH_QUEUED && !batch->maybe_written) {
            fail_batch_info(batch, refusal);
        }
    }
}

static void set_wake(struct producer *self, uint64_t now_ns)
{
    uint64_t linger_ns = self->building_ns + self->options.linger_ms * NS_PER_MS;
    uint64_t deadline_ns = oldest_deadline_ns(self);

    session_wake(self->session, &self->user, deadline_ns > now_ns ? deadline_ns : now_ns + NS_PER_MS);
    if (self->retry_ns > now_ns) {
        session_wake(self->session, &self->user, self->retry_ns);
    }
    if (self->building_count > 0 && linger_ns > now_ns) {
        session_wake(self->session, &self->user, linger_ns);
    }
}

static void step(struct session_user *user)
{
    struct producer *self = of_user(user);
    uint64_t now_ns = session_now_ns();

    refuse(self);
    expire(self, now_ns);
    if (!report_answered(self)) {
        return;
    }
    if (self->renumber) {
        renumber(self);
    }
    send_all(self, now_ns);
    set_wake(self, now_ns);
}

/* ---- what callers use ---- */

static enum err check_options(struct producer_options *options)
{
    options->batch_size_max = options->batch_size_max == 0 ? BATCH_SIZE_MAX : options->batch_size_max;
    options->batch_records_max =
        options->batch_records_max == 0 ? BATCH_RECORDS_MAX : options->batch_records_max;
    options->inflight_max = options->inflight_max == 0 ? INFLIGHT : options->inflight_max;
    options->buffer_size_max =
        options->buffer_size_max == 0 ? BUFFER_SIZE_MAX : options->buffer_size_max;
    options->timeout_ms = options->timeout_ms == 0 ? TIMEOUT_MS : options->timeout_ms;
    if (options->inflight_max > INFLIGHT_MAX || options->batch_size_max > BATCH_SIZE_LIMIT ||
        options->buffer_size_max < options->batch_size_max) {
        return ERR_INVALID;
    }
    return client_request_check_topic(options->topic);
}

static void cancel(struct session_user *user)
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
    strcpy(self->topic, options->topic);
    self->options.topic = self->topic;
    self->session = client_session(client);
    self->cb = cb;
    self->arg = arg;
    self->window = self->options.inflight_max;
    buf_init(&self->building, self->options.batch_size_max);
    self->user.step = step;
    self->user.cancel = cancel;
    err = session_add(self->session, &self->user);
    if (err != ERR_OK) {
        buf_fini(&self->building);
        free(self);
        return err;
    }
    *ret_producer = self;
    return ERR_OK;
}

static enum err append(struct producer *self, const struct client_record *record)
{
    size_t before = self->building.size;
    enum err err = record_set_append(&self->building, record);

    if (err == ERR_OK && self->buffered + self->building.size > self->options.buffer_size_max) {
        self->building.size = before;
        return ERR_BUSY;
    }
    return err;
}

enum err producer_send(struct producer *self, const struct client_record *record)
{
    enum err err;

    if (self->failed || self->freed) {
        return ERR_FAILED;
    }
    if (self->building_count == self->options.batch_records_max) {
        err = seal(self);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = append(self, record);
    if (err == ERR_TOO_LARGE && self->building_count > 0) {
        err = seal(self);
        if (err != ERR_OK) {
            return err;
        }
        err = append(self, record);
    }
    session_wake(self->session, &self->user, 0); /* All that comes in one turn goes together. */
    if (err != ERR_OK) {
        return err;
    }
    if (self->building_count == 0) {
        self->building_ns = session_now_ns();
    }
    self->building_count++;
    self->next_first++;
    return ERR_OK;
}

void producer_flush(struct producer *self)
{
    self->flush = self->building_count > 0;
    session_wake(self->session, &self->user, 0);
}

uint64_t producer_pending(const struct producer *self)
{
    return self->next_first - self->reported;
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
    session_remove(self->session, &self->user);
    fail_all(self, &error);
    while (self->batches != NULL) {
        struct batch *batch = self->batches;

        DL_DELETE(self->batches, batch);
        report(self, batch);
        free_batch(batch);
    }
    report_building(self, error.err, error.text);
    if (!self->reporting) {
        free_producer(self); /* Else report_answered does. */
    }
}
