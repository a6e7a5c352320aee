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
    const ProtobufCMessageDescriptor *reply; /* what must be in the reply's header */
    const char *topic;                       /* in, copied; NULL: the request names none */
    /* The message of a try, for types that this module does not know; message_arg becomes the
     * request's, who frees it. NULL: the types of client.h. */
    const ProtobufCMessage *(*message)(void *message_arg, uint32_t deadline_ms);
    void *message_arg;
    const struct client_members *members; /* in, copied; NULL: it is no change of members */
    bool local;                           /* of a status request */
    uint64_t producer_id;                 /* of a claim; 0: of a new one */
    bool has_epoch;
    uint16_t epoch;
    bool reads; /* changes nothing: its outcome is never "unknown" */
    bool repeatable;
    bool needs_leader;
    uint64_t timeout_ns;
    /* Instead of what the fields above would make: the request itself, borrowed until the answer,
     * and who gets the answer with its body (then the callback of client_request_start is NULL). */
    const ProtobufCMessage *request;
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
