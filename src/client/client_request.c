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
    struct channel *channel; /* borrowed */
    const ProtobufCMessageDescriptor *reply;
    const ProtobufCMessage *(*message)(void *message_arg, uint32_t deadline_ms);
    void *message_arg; /* owned */
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    bool local;
    struct client_members members;
    char address[CLIENT_ADDRESS_SIZE_MAX + 1];
    uint64_t producer_id; /* of a claim, as the two below */
    bool has_epoch;
    uint16_t epoch;
    bool reads;
    bool maybe_done; /* an earlier try ended with an unknown outcome */
    bool has_reason;
    struct err_info reason; /* of the last failed try that was answered */
    uint64_t deadline_ns;
    uint64_t retry_ns; /* not before */
    unsigned failures;
    const ProtobufCMessage *request; /* NULL: made from the fields */
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
    free(self->message_arg);
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
    uint32_t deadline_ms = channel_deadline_ms(now_ns, self->deadline_ns);

    if (self->message != NULL) {
        return channel_send(self->channel, &self->call,
                            self->message(self->message_arg, deadline_ms), NULL, 0);
    }
    if (self->request != NULL) {
        return channel_send(self->channel, &self->call, self->request, NULL, 0);
    }
    switch (self->call.type) {
    case QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE: {
        Quorlog__TopicCreateRequest message = QUORLOG__TOPIC_CREATE_REQUEST__INIT;

        message.topic = self->topic;
        message.deadline_ms = deadline_ms;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    case QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE: {
        Quorlog__TopicDeleteRequest message = QUORLOG__TOPIC_DELETE_REQUEST__INIT;

        message.topic = self->topic;
        message.deadline_ms = deadline_ms;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    case QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE: {
        Quorlog__TopicDescribeRequest message = QUORLOG__TOPIC_DESCRIBE_REQUEST__INIT;

        message.topic = self->topic;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    case QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER: {
        Quorlog__InitProducerRequest message = QUORLOG__INIT_PRODUCER_REQUEST__INIT;

        message.topic = self->topic; /* "" when the request names none */
        message.producer_id = self->producer_id;
        message.has_epoch = self->has_epoch;
        message.epoch = self->has_epoch ? self->epoch : 0;
        message.deadline_ms = deadline_ms;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    case QUORLOG__FRAME_TYPE__FRAME_CLUSTER_ADD:
    case QUORLOG__FRAME_TYPE__FRAME_CLUSTER_REMOVE:
    case QUORLOG__FRAME_TYPE__FRAME_CLUSTER_REPLACE:
    case QUORLOG__FRAME_TYPE__FRAME_CLUSTER_TRANSFER: {
        Quorlog__ClusterChangeRequest message = QUORLOG__CLUSTER_CHANGE_REQUEST__INIT;

        message.node_id = self->members.node_id;
        message.other_id = self->members.other_id;
        message.address = self->address;
        message.under_way = self->members.under_way;
        message.deadline_ms = deadline_ms;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    case QUORLOG__FRAME_TYPE__FRAME_STATUS: {
        Quorlog__StatusRequest message = QUORLOG__STATUS_REQUEST__INIT;

        message.local = self->local;
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    default: {
        Quorlog__TopicListRequest message = QUORLOG__TOPIC_LIST_REQUEST__INIT;

        ASSERT(self->call.type == QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST);
        message.after = self->topic; /* "" when the request names none */
        return channel_send(self->channel, &self->call, &message.base, NULL, 0);
    }
    }
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

enum err client_request_start(struct channel *channel, const struct client_request_options *options,
                              client_reply_cb cb, void *arg, struct client_request **ret_request)
{
    static const struct call_events events = {.answer = on_answer, .lost = on_lost};
    struct client_request *self;
    enum err err;

    ASSERT((cb != NULL) != (options->answer != NULL) && options->timeout_ns > 0);
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ERR_NOMEM;
    }
    if (options->topic != NULL) {
        ASSERT(client_request_check_topic(options->topic) == ERR_OK);
        memcpy(self->topic, options->topic, strlen(options->topic) + 1);
    }
    if (options->members != NULL) {
        self->members = *options->members;
        ASSERT(strlen(self->members.address) <= CLIENT_ADDRESS_SIZE_MAX);
        memcpy(self->address, self->members.address, strlen(self->members.address) + 1);
    }
    self->channel = channel;
    self->call.events = &events;
    self->call.type = options->type;
    self->call.reply_type = options->reply_type;
    self->call.repeatable = options->repeatable;
    self->call.needs_leader = options->needs_leader;
    self->reply = options->reply;
    self->message = options->message;
    self->local = options->local;
    self->producer_id = options->producer_id;
    self->has_epoch = options->has_epoch;
    self->epoch = options->epoch;
    self->reads = options->reads;
    self->deadline_ns = channel_now_ns() + options->timeout_ns;
    self->request = options->request;
    self->cb = cb;
    self->answer = options->answer;
    self->arg = arg;
    self->user.step = step;
    self->user.cancel = cancel;
    err = channel_add(channel, &self->user);
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    self->message_arg = options->message_arg;
    if (ret_request != NULL) {
        *ret_request = self;
    }
    return ERR_OK;
}
