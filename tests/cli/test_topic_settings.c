#include "cli/topic_settings.h"

#include <string.h>

#include "lib/runner.h"
#include "record/codec.h"

static const struct option_spec options[] = {
    TOPIC_SETTING_OPTIONS,
    {NULL, 0, NULL, false, NULL},
};

static const struct command_spec command = {.name = "try it", .synopsis = "", .options = options};

static struct client_alteration parsed;
static struct err_info info;

static enum err parse(const char *option, const char *value)
{
    struct invocation invocation;
    char *argv[] = {(char *)(uintptr_t)option, (char *)(uintptr_t)value, NULL};

    info = (struct err_info){.text = ""};
    parsed = (struct client_alteration){0};
    ck_assert_int_eq(options_parse(&command, 2, argv, &invocation, &info), ERR_OK);
    return topic_settings_parse(&invocation, &parsed, &info);
}

#define NUMBER(option, value, setting, field, expected)                                            \
    do {                                                                                           \
        ck_assert_int_eq(parse(option, value), ERR_OK);                                            \
        ck_assert_uint_eq(parsed.which_count, 1);                                                  \
        ck_assert_int_eq(parsed.which[0], setting);                                                \
        ck_assert_uint_eq(parsed.settings.field, expected);                                        \
    } while (0)

START_TEST(numbers_have_the_units_that_suit_them)
{
    NUMBER("--retention-ms", "7d", CLIENT_SETTING_RETENTION_MS, retention_ms, 604800000);
    NUMBER("--retention-ms", "1500", CLIENT_SETTING_RETENTION_MS, retention_ms, 1500);
    NUMBER("--retention-ms", "default", CLIENT_SETTING_RETENTION_MS, retention_ms, 0);
    NUMBER("--retention-bytes", "1GiB", CLIENT_SETTING_RETENTION_BYTES, retention_bytes, 1 << 30);
    NUMBER("--retention-records", "9", CLIENT_SETTING_RETENTION_RECORDS, retention_records, 9);
    NUMBER("--segment-bytes", "1M", CLIENT_SETTING_SEGMENT_BYTES, segment_bytes, 1 << 20);
    NUMBER("--segment-ms", "12h", CLIENT_SETTING_SEGMENT_MS, segment_ms, 43200000);
    NUMBER("--tombstone-ms", "2h", CLIENT_SETTING_TOMBSTONE_MS, tombstone_ms, 7200000);
    NUMBER("--flush-ms", "100ms", CLIENT_SETTING_FLUSH_MS, flush_ms, 100);
    NUMBER("--flush-ms", "5m", CLIENT_SETTING_FLUSH_MS, flush_ms, 300000);
    NUMBER("--flush-ms", "5s", CLIENT_SETTING_FLUSH_MS, flush_ms, 5000);
}
END_TEST

START_TEST(words_are_understood)
{
    NUMBER("--compression", "zstd", CLIENT_SETTING_COMPRESSION, compression, CODEC_ZSTD);
    NUMBER("--compression", "default", CLIENT_SETTING_COMPRESSION, compression, CODEC_NONE);
    NUMBER("--preallocate", "on", CLIENT_SETTING_PREALLOCATE, preallocate, true);
    NUMBER("--preallocate", "off", CLIENT_SETTING_PREALLOCATE, preallocate, false);
    NUMBER("--preallocate", "default", CLIENT_SETTING_PREALLOCATE, preallocate, false);
    NUMBER("--compact", "on", CLIENT_SETTING_COMPACT, compact, true);
    NUMBER("--compact", "off", CLIENT_SETTING_COMPACT, compact, false);
    NUMBER("--compact", "default", CLIENT_SETTING_COMPACT, compact, false);
    NUMBER("--index", "none", CLIENT_SETTING_INDEXES, indexes, 0);
    NUMBER("--index", "default", CLIENT_SETTING_INDEXES, indexes, 0);
    NUMBER("--index", "time", CLIENT_SETTING_INDEXES, indexes, 1);
    NUMBER("--index", "key=btree,time", CLIENT_SETTING_INDEXES, indexes, 3);
    NUMBER("--index", "bloom,btree", CLIENT_SETTING_INDEXES, indexes, 6);
    NUMBER("--index", "key=bloom,bloom", CLIENT_SETTING_INDEXES, indexes, 4);
}
END_TEST

static const struct {
    const char *option;
    const char *value;
    const char *text;
} wrong[] = {
    {"--retention-ms", "-1", "'default'"},
    {"--retention-ms", "7w", "ms, s, m, h or d"},
    {"--retention-ms", "1d2h", "ms, s, m, h or d"},
    {"--retention-ms", "", "milliseconds"},
    {"--retention-ms", "d", "milliseconds"},
    {"--retention-ms", "99999999999999999d", "milliseconds"},
    {"--retention-bytes", "-1", "K, M, G or T"},
    {"--retention-bytes", "9223372036854775808", "K, M, G or T"},
    {"--retention-records", "x", "a number of records"},
    {"--compression", "LZ4", "none, lz4, zstd or default"},
    {"--preallocate", "", "on, off or default"},
    {"--compact", "yes", "on, off or default"},
    {"--tombstone-ms", "1w", "ms, s, m, h or d"},
    {"--index", "", "'' is no index"},
    {"--index", "time,", "'' is no index"},
    {"--index", "time,none", "'none' is no index"},
    {"--index", "key=time", "'key=time' is no index"},
    {"--index", "btre", "'btre' is no index"},
};

START_TEST(what_is_wrong_is_told_with_what_is_allowed)
{
    ck_assert_int_eq(parse(wrong[_i].option, wrong[_i].value), ERR_INVALID);
    ck_assert_msg(strstr(info.text, wrong[_i].text) != NULL, "%s", info.text);
    ck_assert_ptr_nonnull(strstr(info.text, wrong[_i].option));
}
END_TEST

START_TEST(nodes_are_numbers_with_commas_between_them)
{
    static const char *const no_nodes[] = {"",
                                           ",",
                                           "1,",
                                           ",1",
                                           "0",
                                           "x",
                                           "-1",
                                           "1 2",
                                           "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
                                           "1111111111111111111111111111111111111111"};
    uint64_t nodes[TOPIC_SETTING_NODES_MAX];
    size_t count = 0;

    ck_assert_int_eq(topic_settings_parse_nodes("3,18446744073709551615", nodes, &count, &info),
                     ERR_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(nodes[0], 3);
    ck_assert_uint_eq(nodes[1], UINT64_MAX);
    ck_assert_int_eq(
        topic_settings_parse_nodes("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", nodes, &count, &info),
        ERR_OK);
    ck_assert_uint_eq(count, 16);
    for (size_t i = 0; i < sizeof no_nodes / sizeof no_nodes[0]; i++) {
        info.text[0] = '\0';
        ck_assert_int_eq(topic_settings_parse_nodes(no_nodes[i], nodes, &count, &info),
                         ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(info.text, "--on"));
    }
}
END_TEST

START_TEST(json_says_null_for_a_default)
{
    Quorlog__TopicSettings settings = QUORLOG__TOPIC_SETTINGS__INIT;
    Quorlog__NodeIndexes node = QUORLOG__NODE_INDEXES__INIT;
    Quorlog__NodeIndexes *nodes[] = {&node};
    json_t *object;
    char *text;

    settings.retention_bytes = 5;
    settings.indexes = 5;
    settings.compression = 1;
    settings.node_indexes = nodes;
    settings.n_node_indexes = 1;
    node.node_id = 2;
    object = topic_settings_json(&settings);
    text = json_dumps(object, JSON_COMPACT);
    ck_assert_str_eq(text,
                     "{\"retention_ms\":null,\"retention_bytes\":5,\"retention_records\":null,"
                     "\"tombstone_ms\":null,\"segment_bytes\":null,\"segment_ms\":null,"
                     "\"flush_ms\":null,\"compact\":false,\"preallocate\":false,\"compression\":"
                     "\"lz4\",\"indexes\":[\"time\","
                     "\"bloom\"],\"node_indexes\":{\"2\":[]}}");
    free(text);
    json_decref(object);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/topic_settings");
    TCase *tcase = tcase_create("topic_settings_parse");

    tcase_add_test(tcase, numbers_have_the_units_that_suit_them);
    tcase_add_test(tcase, words_are_understood);
    tcase_add_loop_test(tcase, what_is_wrong_is_told_with_what_is_allowed, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tcase, nodes_are_numbers_with_commas_between_them);
    tcase_add_test(tcase, json_says_null_for_a_default);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
