/*
 * One question to a cluster, and its answer, for commands that ask one after the other.
 */
#ifndef QUORLOG_CLI_QUESTION_H
#define QUORLOG_CLI_QUESTION_H

#include <stddef.h>
#include <stdint.h>

#include "client/client.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

struct reply {
    enum err err;
    char text[512];  /* when err is not OK */
    uint8_t *header; /* owned: a packed message that was looked at */
    size_t header_size;
    uint8_t *body; /* owned */
    size_t body_size;
};

/* Asks and waits; reply->err says what came of it. The reply's type is the request's plus one. */
void question_try(struct client *client, uint16_t type, const struct ProtobufCMessage *request,
                  const struct ProtobufCMessageDescriptor *descriptor, struct reply *ret_reply);

/* The same; a failure is said on stderr. Returns the exit code; the reply is empty then. */
int question_ask(struct client *client, uint16_t type, const struct ProtobufCMessage *request,
                 const struct ProtobufCMessageDescriptor *descriptor, struct reply *ret_reply);

void reply_fini(struct reply *reply);

#endif
