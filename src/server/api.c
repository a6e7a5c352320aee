#include "server/api.h"

#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/command.h"
#include "server/header.h"

static void ping(struct session *session, const struct frame *frame)
{
    session_send(session, QUORLOG__FRAME_TYPE__FRAME_PING_REPLY, frame->request_id, NULL, NULL);
}

static const struct {
    uint16_t type;
    const char *name;
    const ProtobufCMessageDescriptor *header; /* NULL: it has none, and what came is ignored */
    void (*handle)(struct session *session, const struct frame *frame);
} table[] = {
#define ROW(name, header, handle)                                                                  \
    {                                                                                              \
        QUORLOG__FRAME_TYPE__FRAME_##name, #name, header, handle                                   \
    }
    ROW(PRODUCE, &quorlog__produce_request__descriptor, api_produce),
    ROW(CREDIT, &quorlog__credit__descriptor, api_credit),
    ROW(CONSUME, &quorlog__consume_request__descriptor, api_consume),
    ROW(CONSUME_STREAM, &quorlog__consume_stream_request__descriptor, api_consume_stream),
    ROW(CANCEL, NULL, api_cancel),
    ROW(PING, NULL, ping),
    ROW(INIT_PRODUCER, &quorlog__init_producer_request__descriptor, api_init_producer),
    ROW(TOPIC_CREATE, &quorlog__topic_create_request__descriptor, api_topic_create),
    ROW(TOPIC_DELETE, &quorlog__topic_delete_request__descriptor, api_topic_delete),
    ROW(TOPIC_ALTER, &quorlog__topic_alter_request__descriptor, api_topic_alter),
    ROW(TOPIC_TRIM, &quorlog__topic_trim_request__descriptor, api_topic_trim),
    ROW(TOPIC_LIST, &quorlog__topic_list_request__descriptor, api_topic_list),
    ROW(TOPIC_DESCRIBE, &quorlog__topic_describe_request__descriptor, api_topic_describe),
    ROW(READ_INDEX, NULL, api_read_index),
    ROW(CURSOR_SET, &quorlog__cursor_set_request__descriptor, api_cursor_set),
    ROW(CURSOR_GET, &quorlog__cursor_get_request__descriptor, api_cursor_get),
    ROW(CURSOR_LIST, &quorlog__cursor_list_request__descriptor, api_cursor_list),
    ROW(CURSOR_DELETE, &quorlog__cursor_delete_request__descriptor, api_cursor_delete),
    ROW(STATUS, &quorlog__status_request__descriptor, api_status),
    ROW(CLUSTER_ADD, &quorlog__cluster_change_request__descriptor, api_cluster_add),
    ROW(CLUSTER_REMOVE, &quorlog__cluster_change_request__descriptor, api_cluster_remove),
    ROW(CLUSTER_REPLACE, &quorlog__cluster_change_request__descriptor, api_cluster_replace),
    ROW(CLUSTER_TRANSFER, &quorlog__cluster_change_request__descriptor, api_cluster_transfer),
    ROW(DIGEST, &quorlog__digest_request__descriptor, api_digest),
    ROW(PROOF, &quorlog__proof_request__descriptor, api_proof),
    ROW(MANIFEST, NULL, api_manifest),
#undef ROW
};

void api_dispatch(struct session *session, const struct frame *frame)
{
    struct failure failure;

    ASSERT(frame->block != NULL);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].type != frame->type) {
            continue;
        }
        (void)failure_set(&failure, ERR_INVALID, "not a header");
        if (table[i].header != NULL && header_check(table[i].header, frame->header,
                                                    frame->header_size, &failure.info) != ERR_OK) {
            (void)err_prefix(&failure.info, ERR_INVALID, "the header of this %s frame",
                             table[i].name);
            api_refuse(session, frame, &failure);
        } else {
            table[i].handle(session, frame);
        }
        return;
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

bool api_check_cursor(struct session *session, const struct frame *frame, const char *name)
{
    struct failure failure;

    (void)failure_set(&failure, ERR_INVALID, "no cursor's name");
    if (cursor_name_check(name, strlen(name), &failure.info) == ERR_OK) {
        return true;
    }
    api_refuse(session, frame, &failure);
    return false;
}
