#include "raft_fsm/command_topic.h"

#include <string.h>

#include "base/assert.h"
#include "raft_fsm/topic_settings_message.h"
#include "raft_fsm/unpack.h"
#include "replicated.pb-c.h"

/* A body, and what it points to: it stays where it is while it is used. */
struct body {
    union {
        ProtobufCMessage base;
        Replicated__TopicCreate create;
        Replicated__TopicAlter alter;
        Replicated__TopicDelete delete;
    };
    struct topic_settings_message settings;
};

static char *unchanged_name(const struct command *command)
{
    return (char *)(uintptr_t)command->topic_name; /* Not written to. */
}

static void make_body(const struct command *command, struct body *body)
{
    ASSERT(command->topic_name[0] != '\0');
    if (command->type == COMMAND_TOPIC_DELETE) {
        replicated__topic_delete__init(&body->delete);
        body->delete.name = unchanged_name(command);
    } else if (command->type == COMMAND_TOPIC_CREATE) {
        replicated__topic_create__init(&body->create);
        body->create.name = unchanged_name(command);
        if (command->settings != NULL && !topic_settings_are_default(command->settings)) {
            topic_settings_put(command->settings, &body->settings);
            body->create.settings = &body->settings.message;
        }
    } else {
        const struct topic_change *change = command->change;

        ASSERT(command->type == COMMAND_TOPIC_ALTER);
        ASSERT(change->on_count <= TOPIC_INDEX_NODES_MAX);
        replicated__topic_alter__init(&body->alter);
        body->alter.name = unchanged_name(command);
        body->alter.which = change->which;
        topic_settings_put(&change->to, &body->settings);
        body->alter.settings = &body->settings.message;
        body->alter.on_nodes = (uint64_t *)(uintptr_t)change->on_nodes; /* as the name */
        body->alter.n_on_nodes = change->on_count;
        body->alter.on_default = change->on_default;
    }
}

size_t command_topic_size(const struct command *self)
{
    struct body body;

    make_body(self, &body);
    return protobuf_c_message_get_packed_size(&body.base);
}

void command_topic_put(const struct command *self, uint8_t *to)
{
    struct body body;

    make_body(self, &body);
    (void)protobuf_c_message_pack(&body.base, to); /* command_topic_size bytes */
}

/* ---- reading ---- */

/* A field that is not known would be obeyed by newer nodes and not by this one. */
static enum err check_message(const ProtobufCMessage *message, const char *name, size_t size,
                              struct err_info *info)
{
    if (message->n_unknown_fields > 0) {
        return err_set(info, ERR_VERSION, "a topic command has fields that are not known");
    }
    if (protobuf_c_message_get_packed_size(message) != size ||
        topic_name_check(name, strlen(name), NULL) != ERR_OK) {
        return err_set(info, ERR_CORRUPT, "a topic command has a name that no topic may have");
    }
    return ERR_OK;
}

static enum err take_change(const Replicated__TopicAlter *message, struct topic_change *ret_change,
                            struct err_info *info)
{
    struct topic_change change = {.which = message->which,
                                  .on_count = message->n_on_nodes,
                                  .on_default = message->on_default != 0};
    enum err err;

    if ((change.which & ~(uint32_t)TOPIC_SETTINGS_KNOWN) != 0) {
        return err_set(info, ERR_VERSION, "a topic command has settings that are not known");
    }
    if (message->n_on_nodes > TOPIC_INDEX_NODES_MAX) {
        return err_set(info, ERR_CORRUPT, "a topic command names more nodes than any node makes");
    }
    if (message->n_on_nodes > 0) {
        memcpy(change.on_nodes, message->on_nodes, change.on_count * sizeof change.on_nodes[0]);
    }
    err = topic_settings_take(message->settings, "a topic command", &change.to, info);
    if (err == ERR_OK) {
        *ret_change = change;
    }
    return err;
}

static const ProtobufCMessageDescriptor *descriptor_of(enum command_type type)
{
    if (type == COMMAND_TOPIC_CREATE) {
        return &replicated__topic_create__descriptor;
    }
    return type == COMMAND_TOPIC_DELETE ? &replicated__topic_delete__descriptor
                                        : &replicated__topic_alter__descriptor;
}

static const char *name_of(enum command_type type, const ProtobufCMessage *message)
{
    if (type == COMMAND_TOPIC_CREATE) {
        return ((const Replicated__TopicCreate *)message)->name;
    }
    return type == COMMAND_TOPIC_DELETE ? ((const Replicated__TopicDelete *)message)->name
                                        : ((const Replicated__TopicAlter *)message)->name;
}

enum err command_topic_read(const uint8_t *body, size_t size, struct command_view *ret_command,
                            struct topic_change *ret_change, struct err_info *info)
{
    /* Longer than any, so that what follows allocates little. */
    const size_t size_max = 4096;
    enum command_type type = ret_command->type;
    ProtobufCMessage *message;
    const char *name;
    enum err err;

    ASSERT(type == COMMAND_TOPIC_CREATE || type == COMMAND_TOPIC_ALTER ||
           type == COMMAND_TOPIC_DELETE);
    err = size <= size_max ? unpack(descriptor_of(type), body, size, &message) : ERR_CORRUPT;
    if (err != ERR_OK) {
        return err_set(info, err, "a topic command of %zu bytes does not decode", size);
    }
    name = name_of(type, message);
    err = check_message(message, name, size, info);
    if (err == ERR_OK && type == COMMAND_TOPIC_CREATE) {
        *ret_change = (struct topic_change){0};
        err = topic_settings_take(((const Replicated__TopicCreate *)message)->settings,
                                  "a topic command", &ret_change->to, info);
    } else if (err == ERR_OK && type == COMMAND_TOPIC_ALTER) {
        err = take_change((const Replicated__TopicAlter *)message, ret_change, info);
    }
    if (err == ERR_OK) {
        memcpy(ret_command->topic_name, name, strlen(name) + 1); /* Checked: it fits. */
        ret_command->settings = type == COMMAND_TOPIC_CREATE ? &ret_change->to : NULL;
        ret_command->change = type == COMMAND_TOPIC_ALTER ? ret_change : NULL;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}
