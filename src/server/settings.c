#include "server/settings.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

/* Fields of a TopicSettings, by the bits that name them in a change. */
static const struct {
    uint32_t field;
    uint32_t bit;
} fields[] = {
    {1, TOPIC_SETTING_RETENTION_MS},      {2, TOPIC_SETTING_RETENTION_BYTES},
    {3, TOPIC_SETTING_RETENTION_RECORDS}, {4, TOPIC_SETTING_COMPACT},
    {5, TOPIC_SETTING_TOMBSTONE_MS},      {6, TOPIC_SETTING_COMPRESSION},
    {7, TOPIC_SETTING_INDEXES},           {9, TOPIC_SETTING_SEGMENT_BYTES},
    {10, TOPIC_SETTING_SEGMENT_MS},       {11, TOPIC_SETTING_FLUSH_MS},
    {12, TOPIC_SETTING_PREALLOCATE},
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };
_Static_assert(1 << FIELD_COUNT == TOPIC_SETTINGS_KNOWN + 1, "each setting has a field");
_Static_assert((int)FIELD_COUNT <= (int)SETTINGS_WHICH_MAX, "all of them fit a request");

void settings_put(const struct topic_settings *settings, struct settings_message *ret_message)
{
    Quorlog__TopicSettings *message = &ret_message->message;

    ASSERT(settings->node_index_count <= TOPIC_INDEX_NODES_MAX);
    quorlog__topic_settings__init(message);
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
        quorlog__node_indexes__init(&ret_message->nodes[i]);
        ret_message->nodes[i].node_id = settings->node_indexes[i].node_id;
        ret_message->nodes[i].indexes = settings->node_indexes[i].indexes;
        ret_message->pointers[i] = &ret_message->nodes[i];
    }
    message->n_node_indexes = settings->node_index_count;
    message->node_indexes = ret_message->pointers;
}

static enum err take(const Quorlog__TopicSettings *message, struct topic_settings *ret_settings,
                     struct err_info *info)
{
    *ret_settings = (struct topic_settings){
        .retention_ms = message->retention_ms,
        .retention_bytes = message->retention_bytes,
        .retention_records = message->retention_records,
        .compact = message->compact != 0,
        .tombstone_ms = message->tombstone_ms,
        .compression = message->compression,
        .indexes = message->indexes,
        .segment_bytes = message->segment_bytes,
        .segment_ms = message->segment_ms,
        .flush_ms = message->flush_ms,
        .preallocate = message->preallocate != 0,
    };
    if (message->n_node_indexes > TOPIC_INDEX_NODES_MAX) {
        return err_set(info, ERR_INVALID, "at most %d nodes may have a set of indexes of their own",
                       TOPIC_INDEX_NODES_MAX);
    }
    for (size_t i = 0; i < message->n_node_indexes; i++) {
        ret_settings->node_indexes[i].node_id = message->node_indexes[i]->node_id;
        ret_settings->node_indexes[i].indexes = message->node_indexes[i]->indexes;
    }
    ret_settings->node_index_count = message->n_node_indexes;
    if (message->base.n_unknown_fields > 0) {
        return err_set(info, ERR_UNSUPPORTED, "there is a setting that this program does not know");
    }
    return ERR_OK;
}

enum err settings_take(const Quorlog__TopicSettings *message, struct topic_settings *ret_settings,
                       struct err_info *info)
{
    struct topic_settings settings;
    enum err err = take(message, &settings, info);

    if (err == ERR_OK) {
        err = topic_settings_check(&settings, info);
    }
    if (err == ERR_OK) {
        *ret_settings = settings;
    }
    return err;
}

static enum err take_which(const Quorlog__TopicAlterRequest *request, uint32_t *ret_which,
                           struct err_info *info)
{
    *ret_which = 0;
    for (size_t i = 0; i < request->n_which; i++) {
        uint32_t bit = 0;

        for (size_t j = 0; j < FIELD_COUNT; j++) {
            bit |= fields[j].field == request->which[i] ? fields[j].bit : 0;
        }
        if (bit == 0) {
            return err_set(info, ERR_UNSUPPORTED,
                           "setting %" PRIu32 " is not known, or not altered so",
                           request->which[i]);
        }
        *ret_which |= bit;
    }
    return ERR_OK;
}

/* What a request sets, it has to name: else it was forgotten. */
static enum err check_named(const struct topic_change *change, struct err_info *info)
{
    struct topic_change named = *change;
    struct topic_settings settings = {0};
    enum err err;

    named.on_count = 0;
    named.on_default = false;
    err = topic_settings_change(&settings, &named, &settings, info);
    if (err == ERR_OK && !topic_settings_equal(&settings, &change->to)) {
        err = err_set(info, ERR_INVALID, "the request has a setting that `which` does not name");
    }
    return err;
}

enum err settings_take_change(const Quorlog__TopicAlterRequest *request,
                              struct topic_change *ret_change, struct err_info *info)
{
    struct topic_change change = {.on_count = request->n_on_node_id,
                                  .on_default = request->on_default != 0};
    enum err err = take_which(request, &change.which, info);

    if (err == ERR_OK && request->settings != NULL) {
        err = take(request->settings, &change.to, info);
    }
    if (err == ERR_OK && change.on_count > TOPIC_INDEX_NODES_MAX) {
        err = err_set(info, ERR_INVALID, "at most %d nodes may be named", TOPIC_INDEX_NODES_MAX);
    }
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < change.on_count; i++) {
        change.on_nodes[i] = request->on_node_id[i];
    }
    err = topic_change_check(&change, info);
    if (err == ERR_OK) {
        err = check_named(&change, info);
    }
    if (err == ERR_OK) {
        *ret_change = change;
    }
    return err;
}

size_t settings_put_which(const struct topic_change *change, uint32_t which[SETTINGS_WHICH_MAX])
{
    size_t count = 0;

    ASSERT((change->which & ~(uint32_t)TOPIC_SETTINGS_KNOWN) == 0);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if ((change->which & fields[i].bit) != 0) {
            which[count++] = fields[i].field;
        }
    }
    return count;
}

uint32_t settings_compression(struct catalog *catalog, const char *topic)
{
    struct topic *found = catalog_find(catalog, topic);
    struct topic_settings settings;

    if (found == NULL) {
        return 0;
    }
    topic_settings_get(found, &settings);
    topic_unref(found);
    return settings.compression;
}
