/*
 * A consumer: batches come in, records go out, each once and in order.
 *
 * Happy path: one CONSUME says where the reading begins, and where the log ends. Following, and for
 * all that there is up to that end: a stream from there on, whose credit is given back as records
 * are delivered, so that the node reads on while records are delivered here. For some of it only,
 * so many records or those that match: CONSUME again, the next one asked for before the records of
 * the last are delivered where they are not enough.
 *
 * Failure modes: a lost connection, a retryable error, a stream that ended, damaged or missing
 * records: asked again from the next offset, of whatever node the channel has come to, with the
 * newest token seen, so that a node that is behind waits until it is not. When no node can help,
 * and for ERR_RANGE and the like: what came before is delivered, then the consumer ends.
 *
 *                ask (not all is wanted, or position not confirmed)
 *        IDLE ───────────────────────────────────────────────► FETCHING ──┐
 *        ▲ ▲ │ ask (all is wanted)                                         │ answer
 *        │ │ └────────────────► STREAMING ──┐ error, lost, STREAM_END      │
 *        │ └────────────────────────────────┘                              │
 *        └──────────────────────── error, lost, answer ◄───────────────────┘
 *        any ──► ENDED, by end()
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client_request.h"
#include "client/consumer_internal.h"
#include "client/share.h"
#include "quorlog.pb-c.h"

enum { CREDIT_SIZE = 8 << 20 };

static struct consumer *of_user(struct channel_user *user)
{
    return (void *)((char *)user - offsetof(struct consumer, user));
}

/* ---- the end ---- */

static void destroy(struct consumer *self)
{
    consumer_stop_asking(self);
    while (self->chunks != NULL) {
        consumer_drop_chunk(self, self->chunks);
    }
    batch_records_fini(&self->records);
    free(self->filter);
    free(self);
}

/* Tells the end. False when the callback has freed self. */
static bool end(struct consumer *self, const struct client_error *error)
{
    ASSERT(self->state != CONSUMER_ENDED && !self->delivering);
    consumer_stop_asking(self);
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

void consumer_doom(struct consumer *self, const struct client_error *error)
{
    if (self->doomed) {
        return;
    }
    self->doomed = true;
    consumer_stop_asking(self); /* I2: what came now would not follow on what was delivered. */
    self->state = CONSUMER_IDLE;
    (void)err_set(&self->failure_info, error->err, "%s", error->text); /* Told by step. */
    self->failure = *error;
    self->failure.text = self->failure_info.text;
    channel_wake(self->channel, &self->user, 0);
}

void consumer_doom_info(struct consumer *self, const struct err_info *info)
{
    struct client_error error = {
        .err = info->code,
        .retryable = err_retryable(info->code),
        .text = info->text,
    };

    consumer_doom(self, &error);
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
    consumer_doom_info(self, &info);
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

/* What came after since_ns was the events' time, not the node's. What time it is now. */
static uint64_t excuse(struct consumer *self, uint64_t since_ns)
{
    uint64_t now_ns = channel_now_ns();

    ASSERT(now_ns >= since_ns);
    if (self->deadline_ns != CHANNEL_NEVER) {
        self->deadline_ns += now_ns - since_ns;
    }
    if (self->answer_by_ns != CHANNEL_NEVER) {
        self->answer_by_ns += now_ns - since_ns;
    }
    return now_ns;
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
    consumer_ask_ahead(self, now_ns);
    consumer_deliver(self, now_ns);
    if (self->freed) {
        destroy(self);
        return;
    }
    now_ns = excuse(self, now_ns);
    if (consumer_is_complete(self)) {
        (void)end(self, &none); /* Nothing of self is used after it. */
        return;
    }
    if (refusal != NULL && !self->call.pending) {
        consumer_doom_info(self, refusal);
    } else if (now_ns >= self->deadline_ns) {
        expire(self);
    }
    if (!self->doomed) {
        consumer_ask(self, now_ns);
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
    struct consumer *self;
    enum err err;

    ASSERT((events->record != NULL) != (events->batch != NULL) && events->ended != NULL);
    if (client_request_check_topic(options->topic) != ERR_OK ||
        (unsigned)options->start > CONSUMER_TIME || options->credit_size > INT32_MAX ||
        options->max_lag_ms > UINT32_MAX || (options->linearizable && options->max_lag_ms > 0) ||
        !share_is_one(options->share, options->share_count) ||
        (events->batch != NULL && (options->share_count > 0 || options->filter != NULL)) ||
        (options->filter != NULL && filter_check(options->filter, NULL) != ERR_OK)) {
        return ERR_INVALID;
    }
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    if (options->filter != NULL && !filter_is_empty(options->filter)) {
        self->filter = malloc(sizeof *self->filter);
        if (self->filter == NULL) {
            free(self);
            return ERR_NOMEM;
        }
        *self->filter = *options->filter;
    }
    self->channel = client_reading_channel(client);
    self->options = *options;
    self->options.filter = self->filter;
    memcpy(self->topic, options->topic, strlen(options->topic) + 1);
    self->options.topic = self->topic;
    if (self->options.credit_size == 0) {
        self->options.credit_size = CREDIT_SIZE;
    }
    self->events = *events;
    self->arg = arg;
    self->deadline_ns = CHANNEL_NEVER;
    consumer_init_call(self);
    batch_records_init(&self->records);
    self->user.step = step;
    self->user.cancel = cancel;
    err = channel_add(self->channel, &self->user);
    if (err != ERR_OK) {
        batch_records_fini(&self->records);
        free(self->filter);
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

void consumer_scanned(const struct consumer *self, struct consumer_scan *ret_scan)
{
    *ret_scan = self->scan;
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
