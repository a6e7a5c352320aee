/*
 * Altering a topic's settings: a change (change.h) without a body.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "server/api.h"
#include "server/change.h"
#include "server/front.h"
#include "server/keys.h"
#include "server/settings.h"

static bool turns_compact_on(const struct topic_change *change)
{
    return (change->which & TOPIC_SETTING_COMPACT) != 0 && change->to.compact;
}

/* Records without keys would stay for ever. They are looked for where a topic is about to be
 * compacted, at its ends, here and now: that is rare, and KEYS_LOOK_SIZE is not much. */
static enum err check_keys(struct change *self)
{
    struct topic *topic = catalog_find(group_catalog(self->front->node->group), self->topic);
    struct topic_settings settings;
    bool missing = false;
    uint64_t offset = 0;
    uint64_t index;
    enum err err = ERR_OK;

    if (topic == NULL) {
        return ERR_AGAIN;
    }
    topic_settings_get(topic, &settings);
    if (!settings.compact) {
        err = self->caught_up || node_has_read_log(self->front->node, &index)
                  ? keys_find_missing(topic->log, &missing, &offset, &self->why)
                  : ERR_AGAIN;
    }
    topic_unref(topic);
    if (err == ERR_OK && missing) {
        err =
            err_set(&self->why, ERR_INVALID,
                    "the record at offset %" PRIu64 " has no key: compact keeps the latest record "
                    "of each key, so all records must have one; trim those that have none "
                    "(quorlog topic trim), or write to another topic",
                    offset);
    }
    return err;
}

static enum err alter_command(struct change *self, struct command *ret_command)
{
    ASSERT(self->settings != NULL && self->topic[0] != '\0');
    if (turns_compact_on(self->settings)) {
        enum err err = check_keys(self);

        if (err != ERR_OK) {
            return err;
        }
    }
    *ret_command = (struct command){.type = COMMAND_TOPIC_ALTER};
    memcpy(ret_command->topic_name, self->topic, sizeof ret_command->topic_name);
    ret_command->change = self->settings; /* Lives as long as the change. */
    return ERR_OK;
}

static void alter_reply(struct change *self, const struct fsm_result *result)
{
    struct catalog *catalog = group_catalog(self->front->node->group);
    struct topic *topic = catalog_find_id(catalog, result->topic_id);
    Quorlog__TopicAlterReply reply = QUORLOG__TOPIC_ALTER_REPLY__INIT;
    struct settings_message message;
    struct topic_settings settings;

    ASSERT(result->err == ERR_OK);
    if (topic != NULL) {
        topic_settings_get(topic, &settings);
        settings_put(&settings, &message);
        reply.settings = &message.message;
        topic_unref(topic);
    }
    reply.raft_index = result->raft_index;
    reply.topic_id = result->topic_id;
    request_reply(&self->request, self->kind->reply_type, &reply.base, NULL);
}

/* The state machine has the last word: what the topic's settings would become was not known. It
 * gives no reasons: they are found again. */
static void alter_refuse(const struct change *self, const struct fsm_result *result,
                         struct failure *failure)
{
    struct catalog *catalog = group_catalog(self->front->node->group);
    struct topic *topic = catalog_find_id(catalog, result->topic_id);
    struct topic_settings settings;
    struct err_info info = {0};

    ASSERT(result->err != ERR_OK && self->settings != NULL);
    if (result->err == ERR_INVALID && topic != NULL) {
        topic_settings_get(topic, &settings);
        if (topic_settings_change(&settings, self->settings, &settings, &info) != ERR_OK) {
            (void)failure_set(failure, ERR_INVALID, "%s", info.text);
        } else { /* It was altered since. */
            (void)failure_set(failure, ERR_INVALID,
                              "the change contradicts the settings that the topic had");
        }
    }
    topic_unref(topic);
}

static size_t alter_pack(const struct change *self, uint32_t deadline_ms, uint8_t *to)
{
    Quorlog__TopicAlterRequest request = QUORLOG__TOPIC_ALTER_REQUEST__INIT;
    struct topic_change *change = self->settings;
    uint32_t which[SETTINGS_WHICH_MAX];
    struct settings_message settings;
    char topic[TOPIC_NAME_SIZE_MAX + 1];

    memcpy(topic, self->topic, sizeof topic);
    settings_put(&change->to, &settings);
    request.topic = topic;
    request.settings = &settings.message;
    request.which = which;
    request.n_which = settings_put_which(change, which);
    request.on_node_id = change->on_nodes;
    request.n_on_node_id = change->on_count;
    request.on_default = change->on_default;
    request.deadline_ms = deadline_ms;
    request.forwarded = true;
    ASSERT(quorlog__topic_alter_request__get_packed_size(&request) <= CHANGE_HEADER_SIZE_MAX);
    return quorlog__topic_alter_request__pack(&request, to);
}

static const struct change_kind alter_kind = {
    .reply_type = QUORLOG__FRAME_TYPE__FRAME_TOPIC_ALTER_REPLY,
    .verb = "alter topic",
    .command = alter_command,
    .reply = alter_reply,
    .refuse = alter_refuse,
    .pack = alter_pack,
};

static void start(struct session *session, const struct frame *frame,
                  const Quorlog__TopicAlterRequest *request)
{
    struct topic_change *settings = calloc(1, sizeof *settings);
    struct change *change;
    struct failure failure;
    enum err err;

    (void)failure_set(&failure, ERR_INVALID, "no settings");
    err = settings == NULL ? err_set(&failure.info, ERR_NOMEM, "%s", err_text(ERR_NOMEM))
                           : settings_take_change(request, settings, &failure.info);
    if (err == ERR_OK) {
        err = change_new(session, frame, &alter_kind, &change);
        (void)err_set(&failure.info, err, "%s", err_text(err));
    }
    if (err != ERR_OK) {
        (void)err_prefix(&failure.info, err, "%s '%s'", alter_kind.verb, request->topic);
        api_refuse(session, frame, &failure);
        free(settings);
        return;
    }
    (void)snprintf(change->topic, sizeof change->topic, "%s", request->topic); /* Checked. */
    change->settings = settings;
    change->forwarded = request->forwarded;
    change_start(change, request->deadline_ms);
}

void api_topic_alter(struct session *session, const struct frame *frame)
{
    Quorlog__TopicAlterRequest *request =
        quorlog__topic_alter_request__unpack(NULL, frame->header_size, frame->header);

    if (request == NULL) {
        api_refuse_header(session, frame, "TOPIC_ALTER");
        return;
    }
    if (api_check_topic(session, frame, "alter", request->topic)) {
        start(session, frame, request);
    }
    quorlog__topic_alter_request__free_unpacked(request, NULL);
}
