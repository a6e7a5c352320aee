#include "client/cursor.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client_request.h"
#include "client/cursor_request.h"
#include "quorlog.pb-c.h"

/* The message of a request, and the texts that it points to. */
struct cursor_message {
    union {
        ProtobufCMessage base;
        Quorlog__CursorGetRequest get;
        Quorlog__CursorSetRequest set;
        Quorlog__CursorListRequest list;
        Quorlog__CursorDeleteRequest delete;
    };
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    char name[CHANNEL_TOPIC_SIZE_MAX + 1];
    char metadata[]; /* of a set */
};

static const ProtobufCMessage *get_message(void *arg, uint32_t deadline_ms)
{
    struct cursor_message *message = arg;

    message->get.deadline_ms = deadline_ms;
    return &message->base;
}

static const ProtobufCMessage *set_message(void *arg, uint32_t deadline_ms)
{
    struct cursor_message *message = arg;

    message->set.deadline_ms = deadline_ms;
    return &message->base;
}

static const ProtobufCMessage *list_message(void *arg, uint32_t deadline_ms)
{
    struct cursor_message *message = arg;

    message->list.deadline_ms = deadline_ms;
    return &message->base;
}

static const ProtobufCMessage *delete_message(void *arg, uint32_t deadline_ms)
{
    struct cursor_message *message = arg;

    message->delete.deadline_ms = deadline_ms;
    return &message->base;
}

/* NULL: no memory. Texts that may be empty are "". */
static struct cursor_message *new_message(const char *topic, const char *name, const char *metadata)
{
    size_t size = strlen(metadata) + 1;
    struct cursor_message *message = calloc(1, sizeof *message + size);

    ASSERT(strlen(topic) <= CHANNEL_TOPIC_SIZE_MAX && strlen(name) <= CHANNEL_TOPIC_SIZE_MAX);
    if (message != NULL) {
        memcpy(message->topic, topic, strlen(topic) + 1);
        memcpy(message->name, name, strlen(name) + 1);
        memcpy(message->metadata, metadata, size);
    }
    return message;
}

/* Takes message over, also when it fails. */
static enum err start(struct channel *channel, struct client_request_options *options,
                      struct cursor_message *message, client_reply_cb cb, void *arg,
                      struct client_request **ret_request)
{
    enum err err;

    options->message_arg = message;
    options->timeout_ns = channel_timeout_ns(channel);
    err = client_request_start(channel, options, cb, arg, ret_request);
    if (err != ERR_OK) {
        free(message);
    }
    return err;
}

static bool are_names(const char *topic, const char *name)
{
    return client_request_check_topic(topic) == ERR_OK &&
           client_request_check_topic(name) == ERR_OK;
}

enum err cursor_request_get(struct channel *channel, const char *topic, const char *name,
                            uint64_t at_least, client_reply_cb cb, void *arg,
                            struct client_request **ret_request)
{
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_GET,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_GET_REPLY,
        .reply = &quorlog__cursor_get_reply__descriptor,
        .message = get_message,
        .reads = true,
        .repeatable = true,
    };
    struct cursor_message *message;

    if (!are_names(topic, name)) {
        return ERR_INVALID;
    }
    message = new_message(topic, name, "");
    if (message == NULL) {
        return ERR_NOMEM;
    }
    quorlog__cursor_get_request__init(&message->get);
    message->get.topic = message->topic;
    message->get.name = message->name;
    message->get.at_least = at_least;
    return start(channel, &options, message, cb, arg, ret_request);
}

enum err cursor_request_set(struct channel *channel, const struct client_cursor_change *change,
                            bool repeatable, client_reply_cb cb, void *arg,
                            struct client_request **ret_request)
{
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_SET,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_SET_REPLY,
        .reply = &quorlog__cursor_set_reply__descriptor,
        .message = set_message,
        .repeatable = repeatable,
        .needs_leader = true,
    };
    const char *metadata = change->metadata == NULL ? "" : change->metadata;
    struct cursor_message *message;

    if (!are_names(change->topic, change->name) ||
        (unsigned)change->expect > CLIENT_CURSOR_OFFSET) {
        return ERR_INVALID;
    }
    message = new_message(change->topic, change->name, metadata);
    if (message == NULL) {
        return ERR_NOMEM;
    }
    quorlog__cursor_set_request__init(&message->set);
    message->set.topic = message->topic;
    message->set.name = message->name;
    message->set.expect = (Quorlog__CursorExpect)change->expect;
    message->set.expected = change->expected;
    message->set.offset = change->offset;
    message->set.owner = change->owner;
    message->set.metadata = message->metadata;
    return start(channel, &options, message, cb, arg, ret_request);
}

_Static_assert((int)CLIENT_CURSOR_ANY == (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_ANY &&
                   (int)CLIENT_CURSOR_REVISION ==
                       (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_REVISION &&
                   (int)CLIENT_CURSOR_OFFSET == (int)QUORLOG__CURSOR_EXPECT__CURSOR_EXPECT_OFFSET,
               "one set of numbers");

/* ---- what callers use ---- */

enum err client_cursor_get(struct client *self, const char *topic, const char *name,
                           uint64_t at_least, client_reply_cb cb, void *arg)
{
    return cursor_request_get(client_channel(self), topic, name, at_least, cb, arg, NULL);
}

enum err client_cursor_set(struct client *self, const struct client_cursor_change *change,
                           client_reply_cb cb, void *arg)
{
    return cursor_request_set(client_channel(self), change, false, cb, arg, NULL);
}

enum err client_cursor_list(struct client *self, const char *topic, uint64_t after_topic_id,
                            const char *after_name, client_reply_cb cb, void *arg)
{
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_LIST,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_LIST_REPLY,
        .reply = &quorlog__cursor_list_reply__descriptor,
        .message = list_message,
        .reads = true,
        .repeatable = true,
    };
    const char *after = after_name == NULL ? "" : after_name;
    struct cursor_message *message;

    if ((topic != NULL && client_request_check_topic(topic) != ERR_OK) ||
        strlen(after) > CHANNEL_TOPIC_SIZE_MAX) {
        return ERR_INVALID;
    }
    message = new_message(topic == NULL ? "" : topic, after, "");
    if (message == NULL) {
        return ERR_NOMEM;
    }
    quorlog__cursor_list_request__init(&message->list);
    message->list.topic = message->topic;
    message->list.after_topic_id = after_topic_id;
    message->list.after_name = message->name;
    return start(client_channel(self), &options, message, cb, arg, NULL);
}

enum err client_cursor_delete(struct client *self, const struct client_cursor_change *change,
                              client_reply_cb cb, void *arg)
{
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_DELETE,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_DELETE_REPLY,
        .reply = &quorlog__cursor_delete_reply__descriptor,
        .message = delete_message,
        .needs_leader = true,
    };
    struct cursor_message *message;

    if (!are_names(change->topic, change->name) ||
        (unsigned)change->expect > CLIENT_CURSOR_OFFSET) {
        return ERR_INVALID;
    }
    message = new_message(change->topic, change->name, "");
    if (message == NULL) {
        return ERR_NOMEM;
    }
    quorlog__cursor_delete_request__init(&message->delete);
    message->delete.topic = message->topic;
    message->delete.name = message->name;
    message->delete.expect = (Quorlog__CursorExpect)change->expect;
    message->delete.expected = change->expected;
    return start(client_channel(self), &options, message, cb, arg, NULL);
}
