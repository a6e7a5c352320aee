#include "client/cursor.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client_request.h"
#include "client/cursor_request.h"
#include "quorlog.pb-c.h"

static char *unchanged(const char *text)
{
    return (char *)(uintptr_t)text; /* Only copied from. */
}

static enum err start(struct channel *channel, struct client_request_options *options,
                      client_reply_cb cb, void *arg, struct client_request **ret_request)
{
    options->timeout_ns = channel_timeout_ns(channel);
    return client_request_start(channel, options, cb, arg, ret_request);
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
    Quorlog__CursorGetRequest request = QUORLOG__CURSOR_GET_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_GET,
        .request = &request.base,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_GET_REPLY,
        .reply = &quorlog__cursor_get_reply__descriptor,
        .reads = true,
        .repeatable = true,
    };

    if (!are_names(topic, name)) {
        return ERR_INVALID;
    }
    request.topic = unchanged(topic);
    request.name = unchanged(name);
    request.at_least = at_least;
    return start(channel, &options, cb, arg, ret_request);
}

enum err cursor_request_set(struct channel *channel, const struct client_cursor_change *change,
                            bool repeatable, client_reply_cb cb, void *arg,
                            struct client_request **ret_request)
{
    Quorlog__CursorSetRequest request = QUORLOG__CURSOR_SET_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_SET,
        .request = &request.base,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_SET_REPLY,
        .reply = &quorlog__cursor_set_reply__descriptor,
        .repeatable = repeatable,
        .needs_leader = true,
    };

    if (!are_names(change->topic, change->name) ||
        (unsigned)change->expect > CLIENT_CURSOR_OFFSET) {
        return ERR_INVALID;
    }
    request.topic = unchanged(change->topic);
    request.name = unchanged(change->name);
    request.expect = (Quorlog__CursorExpect)change->expect;
    request.expected = change->expected;
    request.offset = change->offset;
    request.owner = change->owner;
    if (change->metadata != NULL) {
        request.metadata = unchanged(change->metadata);
    }
    return start(channel, &options, cb, arg, ret_request);
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
    Quorlog__CursorListRequest request = QUORLOG__CURSOR_LIST_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_LIST,
        .request = &request.base,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_LIST_REPLY,
        .reply = &quorlog__cursor_list_reply__descriptor,
        .reads = true,
        .repeatable = true,
    };
    const char *after = after_name == NULL ? "" : after_name;

    if ((topic != NULL && client_request_check_topic(topic) != ERR_OK) ||
        strlen(after) > CHANNEL_TOPIC_SIZE_MAX) {
        return ERR_INVALID;
    }
    request.topic = unchanged(topic == NULL ? "" : topic);
    request.after_topic_id = after_topic_id;
    request.after_name = unchanged(after);
    return start(client_channel(self), &options, cb, arg, NULL);
}

enum err client_cursor_delete(struct client *self, const struct client_cursor_change *change,
                              client_reply_cb cb, void *arg)
{
    Quorlog__CursorDeleteRequest request = QUORLOG__CURSOR_DELETE_REQUEST__INIT;
    struct client_request_options options = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_DELETE,
        .request = &request.base,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CURSOR_DELETE_REPLY,
        .reply = &quorlog__cursor_delete_reply__descriptor,
        .needs_leader = true,
    };

    if (!are_names(change->topic, change->name) ||
        (unsigned)change->expect > CLIENT_CURSOR_OFFSET) {
        return ERR_INVALID;
    }
    request.topic = unchanged(change->topic);
    request.name = unchanged(change->name);
    request.expect = (Quorlog__CursorExpect)change->expect;
    request.expected = change->expected;
    return start(client_channel(self), &options, cb, arg, NULL);
}
