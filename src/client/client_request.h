/*
 * One question to the cluster, asked until it is answered or its deadline has passed.
 *
 * Failure modes: a definite, retryable error, or no connection: asked again after a while. An
 * unknown outcome: asked again if that does no harm (`repeatable`), else reported. At the deadline:
 * ERR_TIMEOUT with an unknown outcome if a change may have been made, else the last reason.
 */
#ifndef QUORLOG_CLIENT_CLIENT_REQUEST_H
#define QUORLOG_CLIENT_CLIENT_REQUEST_H

#include "client/channel.h"

struct client_request;

struct client_request_options {
    uint16_t type;
    uint16_t reply_type;
    const ProtobufCMessage *request; /* in, copied; its deadline_ms, if it has one, is filled in */
    const ProtobufCMessageDescriptor *reply; /* what must be in the reply's header */
    bool reads;                              /* changes nothing: its outcome is never "unknown" */
    bool repeatable;
    bool needs_leader;
    uint64_t timeout_ns;
    /* Who gets the answer with its body; then the callback of client_request_start is NULL. */
    client_answer_cb answer;
};

/* Asks. The callback comes once, from the loop, unless client_request_free is called before; the
 * request is freed after it. ERR_NOMEM, ERR_BUSY, ERR_CANCELED (the channel closes). */
enum err client_request_start(struct channel *channel, const struct client_request_options *options,
                              client_reply_cb cb, void *arg, struct client_request **ret_request);

/* Takes the question back: no callback. */
void client_request_free(struct client_request *self);

/* ERR_INVALID unless it is 1 … CHANNEL_TOPIC_SIZE_MAX characters; which ones, the cluster says. */
enum err client_request_check_topic(const char *topic);

#endif
