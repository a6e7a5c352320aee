#include "server/api.h"

#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/command.h"

static void ping(struct session *session, const struct frame *frame)
{
    session_send(session, QUORLOG__FRAME_TYPE__FRAME_PING_REPLY, frame->request_id, NULL, NULL);
}

static const struct {
    uint16_t type;
    void (*handle)(struct session *session, const struct frame *frame);
} table[] = {
    {QUORLOG__FRAME_TYPE__FRAME_PRODUCE, api_produce},
    {QUORLOG__FRAME_TYPE__FRAME_CREDIT, api_credit},
    {QUORLOG__FRAME_TYPE__FRAME_CONSUME, api_consume},
    {QUORLOG__FRAME_TYPE__FRAME_CONSUME_STREAM, api_consume_stream},
    {QUORLOG__FRAME_TYPE__FRAME_CANCEL, api_cancel},
    {QUORLOG__FRAME_TYPE__FRAME_PING, ping},
    {QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER, api_init_producer},
    {QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE, api_topic_create},
    {QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE, api_topic_delete},
    {QUORLOG__FRAME_TYPE__FRAME_TOPIC_LIST, api_topic_list},
    {QUORLOG__FRAME_TYPE__FRAME_TOPIC_DESCRIBE, api_topic_describe},
    {QUORLOG__FRAME_TYPE__FRAME_STATUS, api_status},
};

void api_dispatch(struct session *session, const struct frame *frame)
{
    struct failure failure;

    ASSERT(frame->block != NULL);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].type == frame->type) {
            table[i].handle(session, frame);
            return;
        }
    }
    /* A newer client's request, perhaps: it is told, and the connection goes on. */
    (void)failure_set(&failure, ERR_UNSUPPORTED, "frames of type %u are no request known here",
                      frame->type);
    api_refuse(session, frame, &failure);
}

void api_refuse(struct session *session, const struct frame *frame, const struct failure *failure)
{
    ASSERT(failure->info.code != ERR_OK);
    session_send_failure(session, frame->request_id, failure);
}

void api_refuse_header(struct session *session, const struct frame *frame, const char *name)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_INVALID, "the header of this %s frame cannot be decoded", name);
    api_refuse(session, frame, &failure);
}

bool api_check_topic(struct session *session, const struct frame *frame, const char *verb,
                     const char *topic)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_INVALID, "no topic's name");
    if (topic_name_check(topic, strlen(topic), &failure.info) == ERR_OK) {
        return true;
    }
    (void)err_prefix(&failure.info, failure.info.code, "%s a topic", verb);
    api_refuse(session, frame, &failure);
    return false;
}
