/*
 *   WAITING ──send──► SENT ──on_answer, on_lost──► WAITING (again, after retry_ns)
 *      │                │
 *      └────────────────┴──► finish: answered, failed for good, deadline, canceled; then freed
 */
#include "client/client_request.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

struct client_request {
    struct channel_user user;
    struct call call;
    struct channel *channel;   /* borrowed */
    ProtobufCMessage *request; /* owned */
    uint32_t *deadline_ms;     /* in it; NULL: it has none */
    const ProtobufCMessageDescriptor *reply;
    bool reads;
    bool maybe_done; /* an earlier try ended with an unknown outcome */
    bool has_reason;
    struct err_info reason; /* of the last failed try that was answered */
    uint64_t deadline_ns;
    uint64_t retry_ns; /* not before */
    unsigned failures;
    client_reply_cb cb;
    client_answer_cb answer; /* instead of cb */
    void *arg;
};

static struct client_request *of_user(struct channel_user *user)
{
    return (void *)((char *)user - offsetof(struct client_request, user));
}

static struct client_request *of_call(struct call *call)
{
    return (void *)((char *)call - offsetof(struct client_request, call));
}

enum err client_request_check_topic(const char *topic)
{
    size_t size = topic == NULL ? 0 : strnlen(topic, CHANNEL_TOPIC_SIZE_MAX + 1);

    return size == 0 || size > CHANNEL_TOPIC_SIZE_MAX ? ERR_INVALID : ERR_OK;
}

static void destroy(struct client_request *self)
{
    protobuf_c_message_free_unpacked(self->request, NULL);
    free(self);
}

void client_request_free(struct client_request *self)
{
    if (self == NULL) {
        return;
    }
    channel_forget(self->channel, &self->call);
    channel_remove(self->channel, &self->user);
    destroy(self);
}

static void answer(struct client_request *self, const struct client_error *error,
                   const struct frame *frame)
{
    struct client_error none = {.err = ERR_OK, .text = err_text(ERR_OK)};
    struct client_answer answer;

    if (error != NULL) {
        self->answer(self->arg, error, NULL);
        return;
    }
    answer = (struct client_answer){
        .header = frame->header,
        .header_size = frame->header_size,
        .body = frame->body,
        .body_size = frame->body_size,
    };
    self->answer(self->arg, &none, &answer);
}

/* Out of the channel first: the callback may do anything, but cannot meet this request again. */
static void finish(struct client_request *self, const struct client_error *error,
                   const struct frame *frame)
{
    channel_forget(self->channel, &self->call);
    channel_remove(self->channel, &self->user);
    if (self->answer != NULL) {
        answer(self, error, frame);
    } else if (error == NULL) {
        struct client_error none = {.err = ERR_OK, .text = err_text(ERR_OK)};

        self->cb(self->arg, &none, frame->header, frame->header_size);
    } else {
        self->cb(self->arg, error, NULL, 0);
    }
    destroy(self);
}

static void fail(struct client_request *self, enum err err, const char *text)
{
    struct client_error error = {
        .err = err,
        .retryable = err_retryable(err),
        .outcome_unknown = self->maybe_done && !self->reads,
        .text = text,
    };

    ASSERT(err != ERR_OK);
    finish(self, &error, NULL);
}

static void expire(struct client_request *self)
{
    struct err_info info;

    self->maybe_done = self->maybe_done || self->call.pending;
    if (self->maybe_done && !self->reads) {
        (void)err_set(&info, ERR_TIMEOUT, "%s", err_text(ERR_TIMEOUT)); /* Told below. */
    } else if (self->has_reason) {
        info = self->reason;
    } else if (self->call.pending) {
        (void)err_set(&info, ERR_TIMEOUT, "no answer came before the deadline"); /* Told below. */
    } else {
        (void)channel_explain(self->channel, &info); /* Told below. */
    }
    fail(self, info.code, info.text);
}

/* Another try, if that is allowed, else failure. */
static void retry(struct client_request *self, const struct client_error *error)
{
    uint64_t now_ns = channel_now_ns();
    bool unknown = error->outcome_unknown && !self->reads;

    self->maybe_done = self->maybe_done || unknown;
    if (!error->retryable || (unknown && !self->call.repeatable)) {
        struct client_error last = *error;

        last.outcome_unknown = self->maybe_done;
        finish(self, &last, NULL);
        return;
    }
    self->failures++;
    self->retry_ns = channel_retry_ns(now_ns, self->failures);
    channel_wake(self->channel, &self->user, self->retry_ns);
}

static void on_lost(struct call *call, enum err err, const char *text)
{
    struct client_request *self = of_call(call);
    struct client_error error = {
        .err = err,
        .retryable = true,
        .outcome_unknown = true,
        .text = text,
    };

    self->has_reason = true;
    (void)err_set(&self->reason, err, "%s", text); /* Kept for the deadline. */
    retry(self, &error);
}

static bool is_valid(const struct client_request *self, const struct frame *frame)
{
    ProtobufCMessage *message =
        protobuf_c_message_unpack(self->reply, NULL, frame->header_size, frame->header);

    if (message == NULL) {
        return false;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return true;
}

static enum err on_answer(struct call *call, const struct frame *frame,
                          const struct client_error *error)
{
    struct client_request *self = of_call(call);

    if (error != NULL) {
        self->has_reason = true;
        (void)err_set(&self->reason, error->err, "%s", error->text); /* Kept for the deadline. */
        retry(self, error);
    } else if (is_valid(self, frame)) {
        finish(self, NULL, frame);
    } else {
        on_lost(call, ERR_PROTOCOL, "the node's answer makes no sense");
        return ERR_PROTOCOL;
    }
    return ERR_OK;
}

static enum err send_try(struct client_request *self, uint64_t now_ns)
{
    if (self->deadline_ms != NULL) {
        *self->deadline_ms = channel_deadline_ms(now_ns, self->deadline_ns);
    }
    return channel_send(self->channel, &self->call, self->request, NULL, 0);
}

static void step(struct channel_user *user)
{
    struct client_request *self = of_user(user);
    const struct err_info *refusal = channel_refusal(self->channel);
    uint64_t now_ns = channel_now_ns();

    if (now_ns >= self->deadline_ns) {
        expire(self);
        return;
    }
    if (refusal != NULL && !self->maybe_done && !self->call.pending) {
        fail(self, refusal->code, refusal->text);
        return;
    }
    channel_wake(self->channel, user, self->deadline_ns);
    if (self->call.pending) {
        return;
    }
    if (now_ns < self->retry_ns) {
        channel_wake(self->channel, user, self->retry_ns);
        return;
    }
    /* What cannot be sent now is sent when the channel wakes us: connected, or drained. */
    if (send_try(self, now_ns) == ERR_NOMEM) {
        self->failures++;
        self->retry_ns = channel_retry_ns(now_ns, self->failures);
        channel_wake(self->channel, user, self->retry_ns);
    }
}

static void cancel(struct channel_user *user)
{
    struct client_request *self = of_user(user);

    self->maybe_done = self->maybe_done || self->call.pending;
    fail(self, ERR_CANCELED, "the client was closed");
}

/* A copy that owns all that it points to: over the bytes that it is sent as. */
static enum err copy_request(struct client_request *self, const ProtobufCMessage *request)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "deadline_ms");
    size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = malloc(size > 0 ? size : 1);

    if (bytes == NULL) {
        return ERR_NOMEM;
    }
    (void)protobuf_c_message_pack(request, bytes); /* size, always. */
    self->request = protobuf_c_message_unpack(request->descriptor, NULL, size, bytes);
    free(bytes);
    if (self->request == NULL) {
        return ERR_NOMEM; /* It was packed just now. */
    }
    if (field != NULL) {
        ASSERT(field->type == PROTOBUF_C_TYPE_UINT32 && field->label == PROTOBUF_C_LABEL_NONE);
        self->deadline_ms = (uint32_t *)(void *)((char *)self->request + field->offset);
    }
    return ERR_OK;
}

enum err client_request_start(struct channel *channel, const struct client_request_options *options,
                              client_reply_cb cb, void *arg, struct client_request **ret_request)
{
    static const struct call_events events = {.answer = on_answer, .lost = on_lost};
    struct client_request *self;
    enum err err;

    ASSERT((cb != NULL) != (options->answer != NULL) && options->timeout_ns > 0);
    ASSERT(options->request != NULL && options->reply != NULL);
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->channel = channel;
    self->call.events = &events;
    self->call.type = options->type;
    self->call.reply_type = options->reply_type;
    self->call.repeatable = options->repeatable;
    self->call.needs_leader = options->needs_leader;
    self->reply = options->reply;
    self->reads = options->reads;
    self->deadline_ns = channel_now_ns() + options->timeout_ns;
    self->cb = cb;
    self->answer = options->answer;
    self->arg = arg;
    self->user.step = step;
    self->user.cancel = cancel;
    err = copy_request(self, options->request);
    if (err == ERR_OK) {
        err = channel_add(channel, &self->user);
    }
    if (err != ERR_OK) {
        destroy(self);
        return err;
    }
    if (ret_request != NULL) {
        *ret_request = self;
    }
    return ERR_OK;
}
