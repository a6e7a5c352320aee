#include "cli/topic_settings.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/json.h"
#include "record/codec.h"

enum kind { TIME, SIZE, COUNT };

/* Settings that are numbers: an option, a field, and what its key is in JSON. */
static const struct number {
    const char *option;
    const char *key;
    enum client_setting setting;
    enum kind kind;
    size_t at; /* in struct client_topic_settings */
} numbers[] = {
#define NUMBER(option, field, setting, kind)                                                       \
    {                                                                                              \
        option, #field, setting, kind, offsetof(struct client_topic_settings, field)               \
    }
    NUMBER("retention-ms", retention_ms, CLIENT_SETTING_RETENTION_MS, TIME),
    NUMBER("retention-bytes", retention_bytes, CLIENT_SETTING_RETENTION_BYTES, SIZE),
    NUMBER("retention-records", retention_records, CLIENT_SETTING_RETENTION_RECORDS, COUNT),
    NUMBER("tombstone-ms", tombstone_ms, CLIENT_SETTING_TOMBSTONE_MS, TIME),
    NUMBER("segment-bytes", segment_bytes, CLIENT_SETTING_SEGMENT_BYTES, SIZE),
    NUMBER("segment-ms", segment_ms, CLIENT_SETTING_SEGMENT_MS, TIME),
    NUMBER("flush-ms", flush_ms, CLIENT_SETTING_FLUSH_MS, TIME),
#undef NUMBER
};
enum { NUMBER_COUNT = sizeof numbers / sizeof numbers[0] };

/* The bits of the protocol, their names, and what else one may write. */
static const struct {
    uint32_t bit;
    const char *name;
    const char *other;
} indexes[] = {{1, "time", "time"}, {2, "btree", "key=btree"}, {4, "bloom", "key=bloom"}};
enum { INDEX_COUNT = sizeof indexes / sizeof indexes[0] };

static bool is_default(const char *text)
{
    return strcmp(text, "default") == 0;
}

/* ---- reading ---- */

static void add(struct client_alteration *alteration, enum client_setting setting)
{
    ASSERT(alteration->which_count < CLIENT_SETTINGS_MAX);
    alteration->which[alteration->which_count++] = setting;
}

static enum err parse_one_number(const struct number *number, const char *text, uint64_t *ret_value,
                                 struct err_info *info)
{
    static const char *const allowed[] = {
        [TIME] = "milliseconds, or a number with ms, s, m, h or d behind it",
        [SIZE] = "bytes, or a number with K, M, G or T behind it",
        [COUNT] = "a number of records",
    };
    enum err err;

    if (is_default(text)) {
        *ret_value = 0;
        return ERR_OK;
    }
    err = number->kind == TIME ? parse_duration(text, number->option, 0, INT64_MAX, ret_value, NULL)
                               : parse_number(text, number->option, 0, INT64_MAX, ret_value, NULL);
    return err == ERR_OK ? ERR_OK
                         : err_set(info, ERR_INVALID,
                                   "option '--%s': '%s' is not allowed: give %s, or 'default'",
                                   number->option, text, allowed[number->kind]);
}

static enum err parse_numbers(const struct invocation *invocation,
                              struct client_alteration *alteration, struct err_info *info)
{
    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        const char *text = option_value(invocation, numbers[i].option);
        uint64_t value = 0;
        enum err err;

        if (text == NULL) {
            continue;
        }
        err = parse_one_number(&numbers[i], text, &value, info);
        if (err != ERR_OK) {
            return err;
        }
        memcpy((char *)&alteration->settings + numbers[i].at, &value, sizeof value);
        add(alteration, numbers[i].setting);
    }
    return ERR_OK;
}

static bool same(const char *name, const char *text, size_t size)
{
    return strlen(name) == size && strncmp(name, text, size) == 0;
}

static uint32_t index_bit(const char *text, size_t size)
{
    for (size_t i = 0; i < INDEX_COUNT; i++) {
        if (same(indexes[i].name, text, size) || same(indexes[i].other, text, size)) {
            return indexes[i].bit;
        }
    }
    return 0;
}

static enum err parse_indexes(const char *text, uint32_t *ret_indexes, struct err_info *info)
{
    uint32_t all = 0;

    if (is_default(text) || strcmp(text, "none") == 0) {
        *ret_indexes = 0;
        return ERR_OK;
    }
    for (const char *at = text;; at++) {
        size_t size = strcspn(at, ",");
        uint32_t bit = index_bit(at, size);

        if (bit == 0) {
            return err_set(
                info, ERR_INVALID,
                "option '--index': '%.*s' is no index: time, key=btree and key=bloom are, "
                "with commas between them; or none, or default",
                (int)size, at);
        }
        all |= bit;
        at += size;
        if (*at == '\0') {
            *ret_indexes = all;
            return ERR_OK;
        }
    }
}

static enum err parse_compression(const char *text, uint32_t *ret_compression,
                                  struct err_info *info)
{
    enum codec codec = CODEC_NONE;

    if (!is_default(text) && !codec_parse(text, &codec)) {
        return err_set(info, ERR_INVALID,
                       "option '--compression': '%s' is not none, lz4, zstd or default", text);
    }
    *ret_compression = (uint32_t)codec;
    return ERR_OK;
}

static enum err parse_switch(const char *option, const char *text, bool *ret_on,
                             struct err_info *info)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0 && !is_default(text)) {
        return err_set(info, ERR_INVALID, "option '--%s': '%s' is not on, off or default", option,
                       text);
    }
    *ret_on = strcmp(text, "on") == 0;
    return ERR_OK;
}

enum err topic_settings_parse(const struct invocation *invocation,
                              struct client_alteration *ret_alteration, struct err_info *info)
{
    struct client_topic_settings *settings = &ret_alteration->settings;
    const char *compression = option_value(invocation, "compression");
    const char *index = option_value(invocation, "index");
    const char *preallocate = option_value(invocation, "preallocate");
    const char *compact = option_value(invocation, "compact");
    enum err err = parse_numbers(invocation, ret_alteration, info);

    if (err == ERR_OK && compression != NULL) {
        add(ret_alteration, CLIENT_SETTING_COMPRESSION);
        err = parse_compression(compression, &settings->compression, info);
    }
    if (err == ERR_OK && index != NULL) {
        add(ret_alteration, CLIENT_SETTING_INDEXES);
        err = parse_indexes(index, &settings->indexes, info);
    }
    if (err == ERR_OK && preallocate != NULL) {
        add(ret_alteration, CLIENT_SETTING_PREALLOCATE);
        err = parse_switch("preallocate", preallocate, &settings->preallocate, info);
    }
    if (err == ERR_OK && compact != NULL) {
        add(ret_alteration, CLIENT_SETTING_COMPACT);
        err = parse_switch("compact", compact, &settings->compact, info);
    }
    return err;
}

enum err topic_settings_parse_nodes(const char *text, uint64_t ret_nodes[TOPIC_SETTING_NODES_MAX],
                                    size_t *ret_count, struct err_info *info)
{
    char one[32];
    size_t count = 0;

    for (const char *at = text;; at++) {
        size_t size = strcspn(at, ",");

        (void)snprintf(one, sizeof one, "%.*s", (int)size, at); /* What is cut is no id. */
        if (size >= sizeof one || count == TOPIC_SETTING_NODES_MAX ||
            parse_number(one, "node", 1, UINT64_MAX, &ret_nodes[count], NULL) != ERR_OK) {
            return err_set(info, ERR_INVALID,
                           "option '--on': '%s' are not ids of nodes: at most %d numbers from 1 "
                           "on, with commas between them",
                           text, TOPIC_SETTING_NODES_MAX);
        }
        count++;
        at += size;
        if (*at == '\0') {
            *ret_count = count;
            return ERR_OK;
        }
    }
}

/* ---- showing ---- */

static uint64_t number_of(const Quorlog__TopicSettings *settings, enum client_setting setting)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &quorlog__topic_settings__descriptor, (unsigned)setting);
    uint64_t value;

    ASSERT(field != NULL && field->type == PROTOBUF_C_TYPE_UINT64);
    memcpy(&value, (const char *)settings + field->offset, sizeof value);
    return value;
}

/* "7d"; milliseconds that are no whole seconds stay what they are. */
static void print_time(uint64_t ms)
{
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};

    printf("%llu", (unsigned long long)ms);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms % units[i].ms == 0) {
            printf(" (%llu%s)", (unsigned long long)(ms / units[i].ms), units[i].unit);
            return;
        }
    }
}

static void print_number(enum kind kind, uint64_t value)
{
    char size[24];

    if (value == 0) {
        printf("-");
    } else if (kind == TIME) {
        print_time(value);
    } else if (kind == SIZE) {
        printf("%llu (%s)", (unsigned long long)value, human_size(size, value));
    } else {
        printf("%llu", (unsigned long long)value);
    }
}

static void print_indexes(uint32_t bits)
{
    const char *before = "";

    for (size_t i = 0; i < INDEX_COUNT; i++) {
        if ((bits & indexes[i].bit) != 0) {
            printf("%s%s", before, indexes[i].other);
            before = ",";
        }
    }
    printf("%s\n", before[0] == '\0' ? "none" : "");
}

static const char *compression_name(const Quorlog__TopicSettings *settings)
{
    const char *name =
        settings->compression <= CODEC_ZSTD ? codec_name((enum codec)settings->compression) : NULL;

    return name == NULL ? "unknown" : name;
}

void topic_settings_print(const Quorlog__TopicSettings *settings)
{
    char on[32];

    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        printf("%-9s %-18s ", i == 0 ? "settings" : "", numbers[i].option);
        print_number(numbers[i].kind, number_of(settings, numbers[i].setting));
        printf("\n");
    }
    printf("%-9s %-18s %s\n", "", "compact", settings->compact ? "on" : "off");
    printf("%-9s %-18s %s\n", "", "preallocate", settings->preallocate ? "on" : "off");
    printf("%-9s %-18s %s\n%-9s %-18s ", "", "compression", compression_name(settings), "",
           "index");
    print_indexes(settings->indexes);
    for (size_t i = 0; i < settings->n_node_indexes; i++) {
        (void)snprintf(on, sizeof on, "index on %llu", /* fits */
                       (unsigned long long)settings->node_indexes[i]->node_id);
        printf("%-9s %-18s ", "", on);
        print_indexes(settings->node_indexes[i]->indexes);
    }
}

static json_t *indexes_json(uint32_t bits)
{
    json_t *names = json_array();

    for (size_t i = 0; i < INDEX_COUNT; i++) {
        if ((bits & indexes[i].bit) != 0) {
            /* Out of memory: json_print aborts; also below. */
            (void)json_array_append_new(names, json_string(indexes[i].name));
        }
    }
    return names;
}

json_t *topic_settings_json(const Quorlog__TopicSettings *settings)
{
    json_t *object = json_object();
    json_t *nodes = json_object();
    char id[24];

    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        uint64_t value = number_of(settings, numbers[i].setting);

        (void)json_object_set_new(object, numbers[i].key,
                                  value == 0 ? json_null() : json_number(value));
    }
    for (size_t i = 0; i < settings->n_node_indexes; i++) {
        (void)snprintf(id, sizeof id, "%llu", /* fits */
                       (unsigned long long)settings->node_indexes[i]->node_id);
        (void)json_object_set_new(nodes, id, indexes_json(settings->node_indexes[i]->indexes));
    }
    (void)json_object_set_new(object, "compact", json_boolean(settings->compact));
    (void)json_object_set_new(object, "preallocate", json_boolean(settings->preallocate));
    (void)json_object_set_new(object, "compression", json_string(compression_name(settings)));
    (void)json_object_set_new(object, "indexes", indexes_json(settings->indexes));
    (void)json_object_set_new(object, "node_indexes", nodes);
    return object;
}
