/*
 * TOPIC_TRIM: a change (change.h) without a body. The leader looks in its own log where the batch
 * begins that holds the new start, and, asked by time, which offset that is; both are a few looks
 * at headers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/retention.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"
#include "server/seek.h"

/* Whether this node has applied all that its log held when it became the leader: then what is not
 * there is not there. */
static bool has_all(const struct change *self)
{
    struct replica_status status;

    group_status(self->front->node->group, &status);
    return self->caught_up || status.applied_index >= status.last_index;
}

static enum err find_start(struct change *self, const struct topic *topic, uint64_t *ret_start)
{
    uint64_t end = log_end(topic->log);
    enum err err;

    if (!self->trim_by_time) {
        *ret_start = self->trim_start;
        if (self->trim_start <= end) {
            return ERR_OK;
        }
        return has_all(self) ? err_set(&self->why, ERR_RANGE,
                                       "offset %" PRIu64 " is beyond the end: the log holds "
                                       "%" PRIu64 " to before %" PRIu64 "; nothing was trimmed",
                                       self->trim_start, topic_start(topic), end)
                             : ERR_AGAIN;
    }
    if (!has_all(self)) {
        return ERR_AGAIN;
    }
    err = seek_time(topic->log, self->trim_time_us, ret_start, &self->why);
    return err == ERR_AGAIN ? ERR_BUSY : err;
}

static enum err trim_command(struct change *self, struct command *ret_command)
{
    struct topic *topic = catalog_find(group_catalog(self->front->node->group), self->topic);
    uint64_t start = 0;
    enum err err;

    if (topic == NULL) {
        return ERR_AGAIN;
    }
    *ret_command = (struct command){.type = COMMAND_TOPIC_TRIM};
    err = find_start(self, topic, &start);
    if (err == ERR_OK) {
        err = retention_trim_to(topic, start, &ret_command->trim, &self->why);
    }
    topic_unref(topic);
    ASSERT(err != ERR_AGAIN || !self->caught_up);
    return err;
}

static void trim_reply(struct change *self, const struct fsm_result *result)
{
    Quorlog__TopicTrimReply reply = QUORLOG__TOPIC_TRIM_REPLY__INIT;

    ASSERT(result->err == ERR_OK);
    reply.start = result->log_start;
    reply.raft_index = result->raft_index;
    reply.topic_id = result->topic_id;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

static size_t trim_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__TopicTrimRequest request = QUORLOG__TOPIC_TRIM_REQUEST__INIT;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    request.topic = topic;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    request.before = self->trim_start;
    request.by_time = self->trim_by_time;
    request.time_us = self->trim_time_us;
    ASSERT(quorlog__topic_trim_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__topic_trim_request__pack(&request, to);
}

static const struct change_kind trim_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_TRIM_REPLY,
    .verb = "trim topic",
    .command = trim_command,
    .reply = trim_reply,
    .pack = trim_pack,
};

static void start(struct session *session, const struct frame *frame,
                  const Quorlog__TopicTrimRequest *request)
{
    struct change *change;
    struct failure failure;
    enum err err = ERR_OK;

    if ((request->by_time && request->before != 0) ||
        (!request->by_time && request->time_us != 0)) {
        (void)failure_set(&failure, ERR_INVALID,
                          "trim topic '%s': an offset and a time do not go together",
                          request->topic);
        api_refuse(session, frame, &failure);
        return;
    }
    err = change_new(session, frame, &trim_kind, &change);
    if (err != ERR_OK) {
        (void)failure_set(&failure, err, "trim topic '%s': %s", request->topic, err_text(err));
        api_refuse(session, frame, &failure);
        return;
    }
    (void)snprintf(change->topic, sizeof change->topic, "%s", request->topic); /* Checked. */
    change->forwarded = request->forwarded;
    change->trim_start = request->before;
    change->trim_by_time = request->by_time;
    change->trim_time_us = request->time_us;
    change_start(change, request->deadline_ms);
}

void api_topic_trim(struct session *session, const struct frame *frame)
{
    Quorlog__TopicTrimRequest *request =
        quorlog__topic_trim_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_TRIM");
        return;
    }
    if (api_check_topic(session, frame, "trim", request->topic)) {
        start(session, frame, request);
    }
    quorlog__topic_trim_request__free_unpacked(request, NULL);
}
