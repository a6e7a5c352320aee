#include "cli/question.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"

struct waiting {
    struct reply *reply;
    bool done;
};

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    if (copy != NULL && size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static void on_answer(void *arg, const struct client_error *error,
                      const struct client_answer *answer)
{
    struct waiting *waiting = arg;
    struct reply *reply = waiting->reply;

    ASSERT(!waiting->done);
    waiting->done = true;
    reply->err = error->err;
    (void)snprintf(reply->text, sizeof reply->text, "%s", error->text); /* Cut is fine. */
    if (answer == NULL) {
        return;
    }
    reply->header = copy_of(answer->header, answer->header_size);
    reply->body = copy_of(answer->body, answer->body_size);
    if (reply->header == NULL || reply->body == NULL) {
        reply_fini(reply);
        reply->err = ERR_NOMEM;
        (void)snprintf(reply->text, sizeof reply->text, "out of memory"); /* fits */
        return;
    }
    reply->header_size = answer->header_size;
    reply->body_size = answer->body_size;
}

void question_try(struct client *client, uint16_t type, const struct ProtobufCMessage *request,
                  const struct ProtobufCMessageDescriptor *descriptor, struct reply *ret_reply)
{
    const struct client_question question = {
        .type = type, .reply_type = (uint16_t)(type + 1), .request = request, .reply = descriptor};
    struct waiting waiting = {.reply = ret_reply};

    *ret_reply = (struct reply){0};
    ret_reply->err = client_ask(client, &question, on_answer, &waiting);
    if (ret_reply->err == ERR_OK) {
        client_wait(client, &waiting.done);
    } else {
        (void)snprintf(ret_reply->text, sizeof ret_reply->text, "%s", err_text(ret_reply->err));
    }
    ASSERT((ret_reply->err == ERR_OK) == (ret_reply->header != NULL));
}

int question_ask(struct client *client, uint16_t type, const struct ProtobufCMessage *request,
                 const struct ProtobufCMessageDescriptor *descriptor, struct reply *ret_reply)
{
    question_try(client, type, request, descriptor, ret_reply);
    return ret_reply->err == ERR_OK ? EXIT_OK : fail("%s", ret_reply->text);
}

void reply_fini(struct reply *reply)
{
    free(reply->header);
    free(reply->body);
    *reply = (struct reply){0};
}
