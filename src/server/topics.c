/*
 * Creating and deleting topics, and producers' ids: changes (change.h) without a body. Altering
 * topics is in alter.c, looking at them in catalog_view.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/producers.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"
#include "server/settings.h"

static enum err named_command(const struct change *self, enum command_type type,
                              struct command *ret_command)
{
    ASSERT(type == COMMAND_TOPIC_CREATE || type == COMMAND_TOPIC_DELETE);
    ASSERT(self->topic[0] != '\0');
    *ret_command = (struct command){.type = type};
    memcpy(ret_command->topic_name, self->topic, sizeof ret_command->topic_name);
    return ERR_OK;
}

/* NULL: refused, and told. */
static struct change *new_change(struct session *session, const struct frame *frame,
                                 const struct change_kind *kind, const char *topic)
{
    struct change *change;
    enum err err = change_new(session, frame, kind, &change);

    if (err != ERR_OK) {
        struct failure failure;

        (void)failure_set(&failure, err, "%s '%s': %s", kind->verb, topic, err_text(err));
        api_refuse(session, frame, &failure);
        return NULL;
    }
    (void)snprintf(change->topic, sizeof change->topic, "%s", topic); /* Checked. */
    return change;
}

static void start(struct session *session, const struct frame *frame,
                  const struct change_kind *kind, const char *topic, bool forwarded,
                  uint32_t deadline_ms)
{
    struct change *change = new_change(session, frame, kind, topic);

    if (change != NULL) {
        change->forwarded = forwarded;
        change_start(change, deadline_ms);
    }
}

/* ---- create ---- */

static enum err create_command(struct change *self, struct command *ret_command)
{
    enum err err = named_command(self, COMMAND_TOPIC_CREATE, ret_command);

    ret_command->settings = self->settings == NULL ? NULL : &self->settings->to;
    return err;
}

static void create_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__TopicCreateReply reply = QUORLOG__TOPIC_CREATE_REPLY__INIT;

    ASSERT(result->err == ERR_OK);
    reply.topic_id = result->topic_id;
    reply.raft_index = result->raft_index;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t create_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__TopicCreateRequest request = QUORLOG__TOPIC_CREATE_REQUEST__INIT;
    struct settings_message settings;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    request.topic = topic;
    if (self->settings != NULL) {
        settings_put(&self->settings->to, &settings);
        request.settings = &settings.message;
    }
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__topic_create_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__topic_create_request__pack(&request, to);
}

static const struct change_kind create_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_CREATE_REPLY,
    .verb = "create topic",
    .command = create_command,
    .reply = create_reply,
    .pack = create_pack,
};

static void start_create(struct session *session, const struct frame *frame,
                         const Quorlog__TopicCreateRequest *request)
{
    struct topic_change *settings = NULL;
    struct change *change;
    struct failure failure;
    enum err err = ERR_OK;

    (void)failure_set(&failure, ERR_INVALID, "no settings");
    if (request->settings != NULL) {
        settings = calloc(1, sizeof *settings);
        err = settings == NULL ? err_set(&failure.info, ERR_NOMEM, "%s", err_text(ERR_NOMEM))
                               : settings_take(request->settings, &settings->to, &failure.info);
    }
    if (err != ERR_OK) {
        (void)err_prefix(&failure.info, err, "%s '%s'", create_kind.verb, request->topic);
        api_refuse(session, frame, &failure);
        free(settings);
        return;
    }
    change = new_change(session, frame, &create_kind, request->topic);
    if (change == NULL) {
        free(settings);
        return;
    }
    change->settings = settings;
    change->forwarded = request->forwarded;
    change_start(change, request->deadline_ms);
}

void api_topic_create(struct session *session, const struct frame *frame)
{
    Quorlog__TopicCreateRequest *request =
        quorlog__topic_create_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_CREATE");
        return;
    }
    if (api_check_topic(session, frame, "create", request->topic)) {
        start_create(session, frame, request);
    }
    quorlog__topic_create_request__free_unpacked(request, NULL);
}

/* ---- delete ---- */

static enum err delete_command(struct change *self, struct command *ret_command)
{
    return named_command(self, COMMAND_TOPIC_DELETE, ret_command);
}

static void delete_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__TopicDeleteReply reply = QUORLOG__TOPIC_DELETE_REPLY__INIT;

    ASSERT(result->err == ERR_OK);
    reply.raft_index = result->raft_index;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t delete_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__TopicDeleteRequest request = QUORLOG__TOPIC_DELETE_REQUEST__INIT;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    request.topic = topic;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__topic_delete_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__topic_delete_request__pack(&request, to);
}

static const struct change_kind delete_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_DELETE_REPLY,
    .verb = "delete topic",
    .command = delete_command,
    .reply = delete_reply,
    .pack = delete_pack,
};

void api_topic_delete(struct session *session, const struct frame *frame)
{
    Quorlog__TopicDeleteRequest *request =
        quorlog__topic_delete_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_DELETE");
        return;
    }
    if (api_check_topic(session, frame, "delete", request->topic)) {
        start(session, frame, &delete_kind, request->topic, request->forwarded,
              request->deadline_ms);
    }
    quorlog__topic_delete_request__free_unpacked(request, NULL);
}

/* ---- a new producer, or a new epoch of one ---- */

static enum err producer_command(struct change *self, struct command *ret_command)
{
    struct topic *topic;

    if (self->claim.id == 0) {
        *ret_command = (struct command){.type = COMMAND_INIT_PRODUCER};
        return ERR_OK;
    }
    *ret_command = (struct command){.type = COMMAND_RAISE_EPOCH, .claim = self->claim};
    if (self->topic[0] == '\0') {
        return ERR_OK;
    }
    topic = catalog_find(group_catalog(self->front->node->group), self->topic);
    if (topic == NULL) {
        return ERR_AGAIN;
    }
    ret_command->claim.topic_id = topic->id;
    topic_unref(topic);
    return ERR_OK;
}

static void producer_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__InitProducerReply reply = QUORLOG__INIT_PRODUCER_REPLY__INIT;

    ASSERT(result->err == ERR_OK);
    reply.producer_id = result->producer_id;
    reply.epoch = result->producer_epoch;
    reply.window = PRODUCERS_WINDOW;
    reply.records = result->producer_records;
    if (self->topic[0] != '\0') {
        reply.compression =
            settings_compression(group_catalog(self->front->node->group), self->topic);
    }
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t producer_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__InitProducerRequest request = QUORLOG__INIT_PRODUCER_REQUEST__INIT;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    if (self->claim.id != 0) {
        request.topic = topic;
    } else {
        request.compression_of = topic;
    }
    request.producer_id = self->claim.id;
    request.has_epoch = self->claim.has_epoch;
    request.epoch = self->claim.epoch;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__init_producer_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__init_producer_request__pack(&request, to);
}

static const struct change_kind producer_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_INIT_PRODUCER_REPLY,
    .verb = "get a producer id or epoch",
    .command = producer_command,
    .reply = producer_reply,
    .pack = producer_pack,
};

static bool check_claim(struct session *session, const struct frame *frame,
                        const Quorlog__InitProducerRequest *request)
{
    struct failure failure;

    if (request->topic[0] != '\0' &&
        !api_check_topic(session, frame, "get a producer epoch for", request->topic)) {
        return false;
    }
    if (request->compression_of[0] != '\0' &&
        !api_check_topic(session, frame, "get a producer id for", request->compression_of)) {
        return false;
    }
    if (request->producer_id == 0 ? request->has_epoch || request->topic[0] != '\0'
                                  : !request->has_epoch && request->epoch != 0) {
        (void)failure_set(&failure, ERR_INVALID,
                          "get a producer id or epoch: the fields of the request do not go "
                          "together");
    } else if (request->epoch > UINT16_MAX) {
        (void)failure_set(&failure, ERR_INVALID, "get a producer epoch: %" PRIu32 " is too large",
                          request->epoch);
    } else {
        return true;
    }
    api_refuse(session, frame, &failure);
    return false;
}

static void start_claim(struct session *session, const struct frame *frame,
                        const Quorlog__InitProducerRequest *request)
{
    const char *topic = request->producer_id != 0 ? request->topic : request->compression_of;
    struct change *change = new_change(session, frame, &producer_kind, topic);

    if (change == NULL) {
        return;
    }
    change->forwarded = request->forwarded;
    change->claim = (struct producer_claim){.id = request->producer_id,
                                            .epoch = (uint16_t)request->epoch, /* Checked. */
                                            .has_epoch = request->has_epoch};
    change_start(change, request->deadline_ms);
}

void api_init_producer(struct session *session, const struct frame *frame)
{
    Quorlog__InitProducerRequest *request =
        quorlog__init_producer_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "INIT_PRODUCER");
        return;
    }
    if (check_claim(session, frame, request)) {
        start_claim(session, frame, request);
    }
    quorlog__init_producer_request__free_unpacked(request, NULL);
}
