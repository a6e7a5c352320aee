#include "client/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/channel.h"
#include "client/client_request.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"

struct client {
    struct channel *channel; /* NULL: closed */
    struct channel *reader;  /* for consumers, with several servers; NULL: channel, or closed */
    uv_loop_t own;
    bool has_own;
    bool running; /* client_wait is on the stack */
    void (*closed)(void *arg);
    void *closed_arg;
};

struct channel *client_channel(struct client *client)
{
    return client->channel;
}

struct channel *client_reading_channel(struct client *client)
{
    return client->reader != NULL ? client->reader : client->channel;
}

/* Both, if there are to be two; neither on failure. */
static enum err open_channels(struct client *self, const struct client_options *options,
                              uv_loop_t *loop, struct err_info *info)
{
    enum err err = channel_new(options, loop, &self->channel, info);

    if (err != ERR_OK || channel_server_count(self->channel) < 2) {
        return err;
    }
    err = channel_new(options, loop, &self->reader, info);
    if (err != ERR_OK) {
        self->reader = NULL; /* Memory is short: consumers share what there is. */
        return ERR_OK;
    }
    channel_prefer_followers(self->reader, options->reader_first);
    return ERR_OK;
}

enum err client_new(const struct client_options *options, uv_loop_t *loop,
                    struct client **ret_client, struct err_info *info)
{
    struct client *self = calloc(1, sizeof *self);
    enum err err;
    int rv;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    self->has_own = loop == NULL;
    if (self->has_own) {
        rv = uv_loop_init(&self->own);
        if (rv != 0) {
            free(self);
            return err_set(info, err_from_uv(rv), "event loop: %s", uv_strerror(rv));
        }
    }
    err = open_channels(self, options, self->has_own ? &self->own : loop, info);
    if (err != ERR_OK) {
        if (self->has_own) {
            rv = uv_loop_close(&self->own);
            ASSERT(rv == 0); /* Nothing lives on it. */
        }
        free(self);
        return err;
    }
    *ret_client = self;
    return ERR_OK;
}

static void on_all_closed(struct client *self)
{
    void (*closed)(void *arg) = self->closed;
    void *closed_arg = self->closed_arg;

    if (self->channel != NULL || self->reader != NULL || self->has_own) {
        return; /* In the last case client_close is on the stack. */
    }
    free(self);
    if (closed != NULL) {
        closed(closed_arg);
    }
}

static void on_channel_closed(void *arg)
{
    struct client *self = arg;

    self->channel = NULL;
    on_all_closed(self);
}

static void on_reader_closed(void *arg)
{
    struct client *self = arg;

    self->reader = NULL;
    on_all_closed(self);
}

void client_close(struct client *self, void (*closed)(void *arg), void *arg)
{
    int rv;

    ASSERT(self->channel != NULL && !channel_is_closing(self->channel));
    ASSERT(!self->running); /* Blocking inside of a callback of the loop to be run is no good. */
    self->closed = closed;
    self->closed_arg = arg;
    if (self->reader != NULL) {
        channel_close(self->reader, on_reader_closed, self);
    }
    channel_close(self->channel, on_channel_closed, self);
    if (!self->has_own) {
        return;
    }
    while (self->channel != NULL || self->reader != NULL) {
        (void)uv_run(&self->own, UV_RUN_ONCE); /* What is left is seen in the two. */
    }
    (void)uv_run(&self->own, UV_RUN_DEFAULT); /* Until the last handle is closed. */
    rv = uv_loop_close(&self->own);
    ASSERT(rv == 0);
    free(self);
    if (closed != NULL) {
        closed(arg);
    }
}

void client_wait(struct client *self, const bool *done)
{
    ASSERT(self->has_own && !self->running);
    self->running = true;
    while (!*done) {
        int alive = uv_run(&self->own, UV_RUN_ONCE);

        ASSERT(alive != 0); /* The channel's handles live as long as the client. */
    }
    self->running = false;
}

uv_loop_t *client_loop(struct client *self)
{
    return channel_loop(self->channel);
}

const char *client_server(const struct client *self)
{
    return channel_server(self->channel);
}

const char *client_reading_server(const struct client *self)
{
    return channel_server(self->reader != NULL ? self->reader : self->channel);
}

size_t client_batch_size_max(const struct client *self)
{
    size_t size = self->channel != NULL ? channel_batch_size_max(self->channel) : 0;

    return size > BATCH_HEADER_SIZE ? size - BATCH_HEADER_SIZE : 0;
}

enum err_outcome client_error_outcome(const struct client_error *error)
{
    if (err_outcome(error->err) == ERR_OUTCOME_WRITTEN) {
        return ERR_OUTCOME_WRITTEN;
    }
    return error->outcome_unknown ? ERR_OUTCOME_UNKNOWN : ERR_OUTCOME_NOT_WRITTEN;
}

/* ---- topics and status ---- */

static char *unchanged(const char *text)
{
    return (char *)(uintptr_t)text; /* Only copied from. */
}

static enum err start(struct client *self, struct client_request_options *options,
                      client_reply_cb cb, void *arg)
{
    options->timeout_ns = channel_timeout_ns(self->channel);
    return client_request_start(self->channel, options, cb, arg, NULL);
}

enum err client_claim_producer(struct client *self, const struct client_claim *claim,
                               client_reply_cb cb, void *arg)
{
    Quorlog__InitProducerRequest request = QUORLOG__INIT_PRODUCER_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY,
        .request = &request.base,
        .reply = &quorlog__init_producer_reply__descriptor,
        .needs_leader = true,
    };

    if (claim->producer_id != 0) {
        if (client_request_check_topic(claim->topic) != ERR_OK) {
            return ERR_INVALID;
        }
        request.producer_id = claim->producer_id;
        request.topic = unchanged(claim->topic);
        request.has_epoch = claim->has_epoch;
        request.epoch = claim->has_epoch ? claim->epoch : 0;
    }
    /* An id or an epoch that nobody uses does no harm. Raised from a given epoch it would be, when
     * asked for again, fenced by itself. */
    options.repeatable = !request.has_epoch;
    options.reads = !request.has_epoch;
    return start(self, &options, cb, arg);
}

/* The message for them. */
static void put_settings(const struct client_topic_settings *settings,
                         Quorlog__TopicSettings *ret_message)
{
    quorlog__topic_settings__init(ret_message);
    ret_message->retention_ms = settings->retention_ms;
    ret_message->retention_bytes = settings->retention_bytes;
    ret_message->retention_records = settings->retention_records;
    ret_message->compact = settings->compact;
    ret_message->tombstone_ms = settings->tombstone_ms;
    ret_message->compression = settings->compression;
    ret_message->indexes = settings->indexes;
    ret_message->segment_bytes = settings->segment_bytes;
    ret_message->segment_ms = settings->segment_ms;
    ret_message->flush_ms = settings->flush_ms;
    ret_message->preallocate = settings->preallocate;
}

enum err client_topic_create(struct client *self, const char *topic, client_reply_cb cb, void *arg)
{
    return client_topic_create_with(self, topic, NULL, cb, arg);
}

enum err client_topic_create_with(struct client *self, const char *topic,
                                  const struct client_topic_settings *settings, client_reply_cb cb,
                                  void *arg)
{
    Quorlog__TopicSettings message;
    Quorlog__TopicCreateRequest request = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_create_reply__descriptor,
        .needs_leader = true,
    };

    if (client_request_check_topic(topic) != ERR_OK) {
        return ERR_INVALID;
    }
    request.topic = unchanged(topic);
    if (settings != NULL) {
        put_settings(settings, &message);
        request.settings = &message;
    }
    return start(self, &options, cb, arg);
}

enum err client_topic_alter(struct client *self, const struct client_alteration *alteration,
                            client_reply_cb cb, void *arg)
{
    Quorlog__TopicAlterRequest request = QUORLOG__TOPIC_ALTER_REQUEST__INIT;
    Quorlog__TopicSettings message;
    uint32_t which[CLIENT_SETTINGS_MAX];
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_ALTER,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_ALTER_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_alter_reply__descriptor,
        .repeatable = true,
        .needs_leader = true,
    };

    if (client_request_check_topic(alteration->topic) != ERR_OK ||
        alteration->which_count > CLIENT_SETTINGS_MAX) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < alteration->which_count; i++) {
        which[i] = (uint32_t)alteration->which[i];
    }
    put_settings(&alteration->settings, &message);
    request.topic = unchanged(alteration->topic);
    request.settings = &message;
    request.which = which;
    request.n_which = alteration->which_count;
    request.on_node_id = (uint64_t *)(uintptr_t)alteration->on_nodes; /* Only copied from. */
    request.n_on_node_id = alteration->on_count;
    request.on_default = alteration->on_default;
    return start(self, &options, cb, arg);
}

enum err client_topic_trim(struct client *self, const struct client_trim *trim, client_reply_cb cb,
                           void *arg)
{
    Quorlog__TopicTrimRequest request = QUORLOG__TOPIC_TRIM_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_TRIM,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_TRIM_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_trim_reply__descriptor,
        .repeatable = true,
        .needs_leader = true,
    };

    if (client_request_check_topic(trim->topic) != ERR_OK) {
        return ERR_INVALID;
    }
    request.topic = unchanged(trim->topic);
    request.before = trim->by_time ? 0 : trim->before;
    request.by_time = trim->by_time;
    request.time_us = trim->by_time ? trim->time_us : 0;
    return start(self, &options, cb, arg);
}

enum err client_topic_delete(struct client *self, const char *topic, client_reply_cb cb, void *arg)
{
    Quorlog__TopicDeleteRequest request = QUORLOG__TOPIC_DELETE_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_delete_reply__descriptor,
        .needs_leader = true,
    };

    if (client_request_check_topic(topic) != ERR_OK) {
        return ERR_INVALID;
    }
    request.topic = unchanged(topic);
    return start(self, &options, cb, arg);
}

enum err client_topic_list(struct client *self, const char *after, client_reply_cb cb, void *arg)
{
    Quorlog__TopicListRequest request = QUORLOG__TOPIC_LIST_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_list_reply__descriptor,
        .reads = true,
        .repeatable = true,
    };

    if (after != NULL && after[0] != '\0') {
        if (client_request_check_topic(after) != ERR_OK) {
            return ERR_INVALID;
        }
        request.after = unchanged(after);
    }
    return start(self, &options, cb, arg);
}

enum err client_topic_describe(struct client *self, const char *topic, client_reply_cb cb,
                               void *arg)
{
    Quorlog__TopicDescribeRequest request = QUORLOG__TOPIC_DESCRIBE_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE_REPLY,
        .request = &request.base,
        .reply = &quorlog__topic_describe_reply__descriptor,
        .reads = true,
        .repeatable = true,
    };

    if (client_request_check_topic(topic) != ERR_OK) {
        return ERR_INVALID;
    }
    request.topic = unchanged(topic);
    return start(self, &options, cb, arg);
}

enum err client_status(struct client *self, bool local, client_reply_cb cb, void *arg)
{
    Quorlog__StatusRequest request = QUORLOG__STATUS_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_STATUS,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_STATUS_REPLY,
        .request = &request.base,
        .reply = &quorlog__status_reply__descriptor,
        .reads = true,
        .repeatable = true,
    };

    request.local = local;
    return start(self, &options, cb, arg);
}

enum err client_change_members(struct client *self, const struct client_members *members,
                               client_reply_cb cb, void *arg)
{
    static const uint16_t types[] = {
        [CLIENT_MEMBERS_ADD] = QUORLOG__FRAME_TYPE__FRAME_CLUSTER_ADD,
        [CLIENT_MEMBERS_REMOVE] = QUORLOG__FRAME_TYPE__FRAME_CLUSTER_REMOVE,
        [CLIENT_MEMBERS_REPLACE] = QUORLOG__FRAME_TYPE__FRAME_CLUSTER_REPLACE,
        [CLIENT_MEMBERS_TRANSFER] = QUORLOG__FRAME_TYPE__FRAME_CLUSTER_TRANSFER,
    };
    Quorlog__ClusterChangeRequest request = QUORLOG__CLUSTER_CHANGE_REQUEST__INIT;
    struct client_request_options options = {
        .type = types[members->goal],
        .reply_type = (uint16_t)(types[members->goal] + 1),
        .request = &request.base,
        .reply = &quorlog__cluster_change_reply__descriptor,
        .repeatable = true, /* A step that was taken is not taken again. */
        .needs_leader = true,
    };

    ASSERT(members->address != NULL);
    if (strlen(members->address) > CLIENT_ADDRESS_SIZE_MAX) {
        return ERR_INVALID;
    }
    request.node_id = members->node_id;
    request.other_id = members->other_id;
    request.address = unchanged(members->address);
    request.under_way = members->under_way;
    return start(self, &options, cb, arg);
}

enum err client_ask(struct client *self, const struct client_question *question,
                    client_answer_cb cb, void *arg)
{
    const struct client_request_options options = {
        .type = question->type,
        .reply_type = question->reply_type,
        .reply = question->reply,
        .request = question->request,
        .answer = cb,
        .reads = true,
        .repeatable = true,
        .timeout_ns = channel_timeout_ns(self->channel),
    };

    ASSERT(question->request != NULL && question->reply != NULL);
    return client_request_start(self->channel, &options, NULL, arg, NULL);
}
