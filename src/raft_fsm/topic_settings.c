#include "raft_fsm/topic_settings.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "record/codec.h"

/* A number's name for a person, and what it may be when it is not 0. */
struct bound {
    const char *name;
    uint64_t min;
    uint64_t max;
};

static enum err check_number(uint64_t value, const struct bound *bound, struct err_info *info)
{
    ASSERT(bound->min <= bound->max);
    if (value == 0 || (value >= bound->min && value <= bound->max)) {
        return ERR_OK;
    }
    return err_set(info, ERR_INVALID,
                   "%s may be from %" PRIu64 " to %" PRIu64 ", or 0 for the default", bound->name,
                   bound->min, bound->max);
}

static enum err check_numbers(const struct topic_settings *self, struct err_info *info)
{
    const struct {
        uint64_t value;
        struct bound bound;
    } numbers[] = {
        {self->retention_ms, {"retention-ms", 1, TOPIC_MS_MAX}},
        {self->retention_bytes, {"retention-bytes", 1, TOPIC_SIZE_MAX}},
        {self->retention_records, {"retention-records", 1, TOPIC_SIZE_MAX}},
        {self->tombstone_ms, {"tombstone-ms", 1, TOPIC_MS_MAX}},
        {self->segment_bytes, {"segment-bytes", TOPIC_SEGMENT_BYTES_MIN, TOPIC_SEGMENT_BYTES_MAX}},
        {self->segment_ms, {"segment-ms", TOPIC_SEGMENT_MS_MIN, TOPIC_MS_MAX}},
        {self->flush_ms, {"flush-ms", TOPIC_FLUSH_MS_MIN, TOPIC_MS_MAX}},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        enum err err = check_number(numbers[i].value, &numbers[i].bound, info);

        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err check_indexes(uint32_t indexes, struct err_info *info)
{
    if ((indexes & ~(uint32_t)TOPIC_INDEXES_KNOWN) == 0) {
        return ERR_OK;
    }
    return err_set(info, ERR_INVALID, "an index is time, key=btree or bloom");
}

static enum err too_many_nodes(struct err_info *info)
{
    return err_set(info, ERR_INVALID, "at most %d nodes may have a set of indexes of their own",
                   TOPIC_INDEX_NODES_MAX);
}

static enum err check_node_indexes(const struct topic_settings *self, struct err_info *info)
{
    if (self->node_index_count > TOPIC_INDEX_NODES_MAX) {
        return too_many_nodes(info);
    }
    for (size_t i = 0; i < self->node_index_count; i++) {
        const struct topic_node_indexes *node = &self->node_indexes[i];
        enum err err = check_indexes(node->indexes, info);

        if (err != ERR_OK) {
            return err;
        }
        if (node->node_id == 0 || (i > 0 && node->node_id <= node[-1].node_id)) {
            return err_set(info, ERR_INVALID,
                           "nodes with a set of indexes of their own are named once, in order of "
                           "their ids, which are not 0");
        }
    }
    return ERR_OK;
}

/* A bound deletes the oldest records, which may be the latest ones of their keys. */
static enum err check_compact(const struct topic_settings *self, struct err_info *info)
{
    if (!self->compact ||
        (self->retention_ms == 0 && self->retention_bytes == 0 && self->retention_records == 0)) {
        return ERR_OK;
    }
    return err_set(info, ERR_INVALID,
                   "compact keeps the latest record of each key, however old: it goes with "
                   "retention-ms, retention-bytes and retention-records at 0 only");
}

enum err topic_settings_check(const struct topic_settings *self, struct err_info *info)
{
    enum err err = check_numbers(self, info);

    if (err == ERR_OK && self->compression > CODEC_ZSTD) {
        err = err_set(info, ERR_INVALID, "a topic's compression is none, lz4 or zstd");
    }
    if (err == ERR_OK) {
        err = check_indexes(self->indexes, info);
    }
    if (err == ERR_OK) {
        err = check_compact(self, info);
    }
    return err == ERR_OK ? check_node_indexes(self, info) : err;
}

bool topic_settings_equal(const struct topic_settings *self, const struct topic_settings *other)
{
    if (self->node_index_count != other->node_index_count) {
        return false;
    }
    for (size_t i = 0; i < self->node_index_count; i++) {
        if (self->node_indexes[i].node_id != other->node_indexes[i].node_id ||
            self->node_indexes[i].indexes != other->node_indexes[i].indexes) {
            return false;
        }
    }
    return self->retention_ms == other->retention_ms &&
           self->retention_bytes == other->retention_bytes &&
           self->retention_records == other->retention_records && self->compact == other->compact &&
           self->tombstone_ms == other->tombstone_ms && self->compression == other->compression &&
           self->indexes == other->indexes && self->segment_bytes == other->segment_bytes &&
           self->segment_ms == other->segment_ms && self->flush_ms == other->flush_ms &&
           self->preallocate == other->preallocate;
}

uint32_t topic_settings_indexes_of(const struct topic_settings *self, uint64_t node_id)
{
    ASSERT(node_id != 0);
    ASSERT(self->node_index_count <= TOPIC_INDEX_NODES_MAX);
    for (size_t i = 0; i < self->node_index_count; i++) {
        if (self->node_indexes[i].node_id == node_id) {
            return self->node_indexes[i].indexes;
        }
    }
    return self->indexes;
}

/* ---- changes ---- */

static enum err check_on_nodes(const struct topic_change *self, struct err_info *info)
{
    if (self->on_count > TOPIC_INDEX_NODES_MAX) {
        return too_many_nodes(info);
    }
    if (self->on_count > 0 ? (self->which & TOPIC_SETTING_INDEXES) == 0 : self->on_default) {
        return err_set(info, ERR_INVALID, "nodes are named for their indexes only");
    }
    if (self->on_default && self->to.indexes != 0) {
        return err_set(info, ERR_INVALID, "a node has indexes of its own, or the topic's");
    }
    for (size_t i = 0; i < self->on_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (self->on_nodes[j] == self->on_nodes[i]) {
                return err_set(info, ERR_INVALID, "node %" PRIu64 " is named twice",
                               self->on_nodes[i]);
            }
        }
        if (self->on_nodes[i] == 0) {
            return err_set(info, ERR_INVALID, "a node's id is not 0");
        }
    }
    return ERR_OK;
}

enum err topic_change_check(const struct topic_change *self, struct err_info *info)
{
    if (self->which == 0) {
        return err_set(info, ERR_INVALID, "no setting is named that is to be changed");
    }
    if ((self->which & ~(uint32_t)TOPIC_SETTINGS_KNOWN) != 0) {
        return err_set(info, ERR_INVALID, "a setting is named that this program does not know");
    }
    if (self->to.node_index_count > 0) {
        return err_set(info, ERR_INVALID, "nodes' sets of indexes are changed one set at a time");
    }
    if (topic_settings_check(&self->to, info) != ERR_OK) {
        return ERR_INVALID;
    }
    return check_on_nodes(self, info);
}

static void drop_node(struct topic_settings *settings, size_t at)
{
    ASSERT(at < settings->node_index_count);
    settings->node_index_count--;
    memmove(&settings->node_indexes[at], &settings->node_indexes[at + 1],
            (settings->node_index_count - at) * sizeof settings->node_indexes[0]);
    settings->node_indexes[settings->node_index_count] = (struct topic_node_indexes){0};
}

/* False when there are too many. */
static bool set_node(struct topic_settings *settings, uint64_t node_id, uint32_t indexes)
{
    size_t at = 0;

    while (at < settings->node_index_count && settings->node_indexes[at].node_id < node_id) {
        at++;
    }
    if (at == settings->node_index_count || settings->node_indexes[at].node_id != node_id) {
        if (settings->node_index_count == TOPIC_INDEX_NODES_MAX) {
            return false;
        }
        memmove(&settings->node_indexes[at + 1], &settings->node_indexes[at],
                (settings->node_index_count - at) * sizeof settings->node_indexes[0]);
        settings->node_index_count++;
    }
    settings->node_indexes[at] =
        (struct topic_node_indexes){.node_id = node_id, .indexes = indexes};
    return true;
}

static void unset_node(struct topic_settings *settings, uint64_t node_id)
{
    for (size_t i = 0; i < settings->node_index_count; i++) {
        if (settings->node_indexes[i].node_id == node_id) {
            drop_node(settings, i);
            return;
        }
    }
}

static enum err change_nodes(struct topic_settings *settings, const struct topic_change *change,
                             struct err_info *info)
{
    for (size_t i = 0; i < change->on_count; i++) {
        if (change->on_default) {
            unset_node(settings, change->on_nodes[i]);
        } else if (!set_node(settings, change->on_nodes[i], change->to.indexes)) {
            return too_many_nodes(info);
        }
    }
    return ERR_OK;
}

static void change_numbers(struct topic_settings *settings, const struct topic_change *change)
{
    const struct topic_settings *to = &change->to;
    const struct {
        uint32_t bit;
        uint64_t *at;
        uint64_t value;
    } numbers[] = {
        {TOPIC_SETTING_RETENTION_MS, &settings->retention_ms, to->retention_ms},
        {TOPIC_SETTING_RETENTION_BYTES, &settings->retention_bytes, to->retention_bytes},
        {TOPIC_SETTING_RETENTION_RECORDS, &settings->retention_records, to->retention_records},
        {TOPIC_SETTING_TOMBSTONE_MS, &settings->tombstone_ms, to->tombstone_ms},
        {TOPIC_SETTING_SEGMENT_BYTES, &settings->segment_bytes, to->segment_bytes},
        {TOPIC_SETTING_SEGMENT_MS, &settings->segment_ms, to->segment_ms},
        {TOPIC_SETTING_FLUSH_MS, &settings->flush_ms, to->flush_ms},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if ((change->which & numbers[i].bit) != 0) {
            *numbers[i].at = numbers[i].value;
        }
    }
}

enum err topic_settings_change(const struct topic_settings *self, const struct topic_change *change,
                               struct topic_settings *ret_settings, struct err_info *info)
{
    struct topic_settings settings = *self;
    enum err err = topic_change_check(change, info);

    if (err == ERR_OK && change->on_count > 0) {
        err = change_nodes(&settings, change, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    change_numbers(&settings, change);
    if ((change->which & TOPIC_SETTING_COMPACT) != 0) {
        settings.compact = change->to.compact;
    }
    if ((change->which & TOPIC_SETTING_COMPRESSION) != 0) {
        settings.compression = change->to.compression;
    }
    if ((change->which & TOPIC_SETTING_INDEXES) != 0 && change->on_count == 0) {
        settings.indexes = change->to.indexes;
    }
    if ((change->which & TOPIC_SETTING_PREALLOCATE) != 0) {
        settings.preallocate = change->to.preallocate;
    }
    err = check_compact(&settings, info);
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(topic_settings_check(&settings, NULL) == ERR_OK); /* Each setting alone is allowed. */
    *ret_settings = settings;
    return ERR_OK;
}
