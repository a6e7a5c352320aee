#include "raft_fsm/topic_settings_message.h"

#include "base/assert.h"
#include "record/codec.h"

bool topic_settings_are_default(const struct topic_settings *settings)
{
    return topic_settings_equal(settings, &(struct topic_settings){0});
}

void topic_settings_put(const struct topic_settings *settings,
                        struct topic_settings_message *ret_message)
{
    Replicated__TopicSettings *message = &ret_message->message;

    ASSERT(settings->node_index_count <= TOPIC_INDEX_NODES_MAX);
    replicated__topic_settings__init(message);
    message->retention_ms = settings->retention_ms;
    message->retention_bytes = settings->retention_bytes;
    message->retention_records = settings->retention_records;
    message->compact = settings->compact;
    message->tombstone_ms = settings->tombstone_ms;
    message->compression = settings->compression;
    message->indexes = settings->indexes;
    message->segment_bytes = settings->segment_bytes;
    message->segment_ms = settings->segment_ms;
    message->flush_ms = settings->flush_ms;
    message->preallocate = settings->preallocate;
    for (size_t i = 0; i < settings->node_index_count; i++) {
        replicated__node_indexes__init(&ret_message->nodes[i]);
        ret_message->nodes[i].node_id = settings->node_indexes[i].node_id;
        ret_message->nodes[i].indexes = settings->node_indexes[i].indexes;
        ret_message->pointers[i] = &ret_message->nodes[i];
    }
    message->n_node_indexes = settings->node_index_count;
    message->node_indexes = ret_message->pointers;
}

static bool is_newer(const Replicated__TopicSettings *message)
{
    bool newer = message->base.n_unknown_fields > 0 || message->compression > CODEC_ZSTD ||
                 (message->indexes & ~(uint32_t)TOPIC_INDEXES_KNOWN) != 0;

    for (size_t i = 0; i < message->n_node_indexes; i++) {
        const Replicated__NodeIndexes *node = message->node_indexes[i];

        newer = newer || node->base.n_unknown_fields > 0 ||
                (node->indexes & ~(uint32_t)TOPIC_INDEXES_KNOWN) != 0;
    }
    return newer;
}

enum err topic_settings_take(const Replicated__TopicSettings *message, const char *where,
                             struct topic_settings *ret_settings, struct err_info *info)
{
    struct topic_settings settings = {0};

    if (message == NULL) {
        *ret_settings = settings;
        return ERR_OK;
    }
    if (is_newer(message)) {
        return err_set(info, ERR_VERSION, "%s has settings that this program does not know", where);
    }
    if (message->n_node_indexes > TOPIC_INDEX_NODES_MAX) {
        return err_set(info, ERR_CORRUPT, "%s has settings that no node makes", where);
    }
    settings.retention_ms = message->retention_ms;
    settings.retention_bytes = message->retention_bytes;
    settings.retention_records = message->retention_records;
    settings.compact = message->compact != 0;
    settings.tombstone_ms = message->tombstone_ms;
    settings.compression = message->compression;
    settings.indexes = message->indexes;
    settings.segment_bytes = message->segment_bytes;
    settings.segment_ms = message->segment_ms;
    settings.flush_ms = message->flush_ms;
    settings.preallocate = message->preallocate != 0;
    for (size_t i = 0; i < message->n_node_indexes; i++) {
        settings.node_indexes[i] =
            (struct topic_node_indexes){.node_id = message->node_indexes[i]->node_id,
                                        .indexes = message->node_indexes[i]->indexes};
    }
    settings.node_index_count = message->n_node_indexes;
    *ret_settings = settings;
    return ERR_OK;
}
