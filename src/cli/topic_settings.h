/*
 * A topic's settings on the command line: their options, and how they are shown.
 */
#ifndef QUORLOG_CLI_TOPIC_SETTINGS_H
#define QUORLOG_CLI_TOPIC_SETTINGS_H

#include <jansson.h>

#include "cli/options.h"
#include "client/client.h"
#include "quorlog.pb-c.h"

/* Rows for the option tables of commands that set them. */
#define TOPIC_SETTING_OPTIONS                                                                      \
    {"retention-ms", 0, "TIME", false, "records go when they are so old: 7d, 12h, 500 (ms)"},      \
        {"retention-bytes", 0, "SIZE", false, "the oldest go when there are more bytes: 1GiB"},    \
        {"retention-records", 0, "N", false, "the oldest go when there are more records"},         \
        {"compact", 0, "on|off", false, "keep the latest record of each key; others go"},          \
        {"tombstone-ms", 0, "TIME", false,                                                         \
         "compact: a record without value stays for so long; default 1d"},                         \
        {"compression", 0, "none|lz4|zstd", false, "of batches whose producer has no wish"},       \
        {"index", 0, "INDEX,…", false,                                                             \
         "time, key=btree, key=bloom, or none; offsets always have one"},                          \
        {"segment-bytes", 0, "SIZE", false, "a file takes so much: 4K to 2G"},                     \
        {"segment-ms", 0, "TIME", false, "a file takes batches for so long; 1s at least"},         \
        {"flush-ms", 0, "TIME", false,                                                             \
         "sync what waits for a snapshot after so long; 10 at least"},                             \
    {                                                                                              \
        "preallocate", 0, "on|off", false, "reserve a file's space when it is begun"               \
    }

enum { TOPIC_SETTING_NODES_MAX = 16 };

/* Reads those that are given; "default" sets one back. Fills ret_alteration->settings, which and
 * which_count. ERR_INVALID: the text says what is allowed. */
enum err topic_settings_parse(const struct invocation *invocation,
                              struct client_alteration *ret_alteration, struct err_info *info);

/* "2,3". ERR_INVALID. */
enum err topic_settings_parse_nodes(const char *text, uint64_t ret_nodes[TOPIC_SETTING_NODES_MAX],
                                    size_t *ret_count, struct err_info *info);

/* Rows for a person, below what describes the topic. */
void topic_settings_print(const Quorlog__TopicSettings *settings);

/* An object; null is a number's default. */
json_t *topic_settings_json(const Quorlog__TopicSettings *settings);

#endif
