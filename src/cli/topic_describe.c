/*
 * quorlog topic describe.
 */
#include "cli/topic_describe.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/topic_settings.h"

static const struct option_spec describe_options[] = {
    CALLER_OPTIONS,
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static void print_hex(const ProtobufCBinaryData *data)
{
    for (size_t i = 0; i < data->len; i++) {
        printf("%02x", data->data[i]);
    }
}

static json_t *hex_json(const ProtobufCBinaryData *data)
{
    char text[2 * 64 + 1] = "";

    for (size_t i = 0; i < data->len && i < 64; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", data->data[i]); /* fits */
    }
    return json_string(text);
}

json_t *topic_info_json(const Quorlog__TopicInfo *topic)
{
    char time[40];
    json_t *object;

    object = json_pack("{s:o,s:o,s:o,s:o,s:o,s:i,s:s,s:o}", "name", json_text(topic->name), "id",
                       json_number(topic->id), "start", json_number(topic->start), "end",
                       json_number(topic->end), "size", json_number(topic->size), "segments",
                       (int)topic->segments, "created", human_time(time, topic->created_time_us),
                       "digest", hex_json(&topic->digest));
    if (topic->settings != NULL) {
        /* Out of memory: json_print aborts. */
        (void)json_object_set_new(object, "settings", topic_settings_json(topic->settings));
    }
    return object;
}

static void print_topic(const Quorlog__TopicInfo *topic, uint64_t node_id)
{
    char size[24];
    char time[40];

    printf("topic     %s\nid        %llu\noffsets   %llu…%llu (%llu records)\n", topic->name,
           (unsigned long long)topic->id, (unsigned long long)topic->start,
           (unsigned long long)topic->end, (unsigned long long)(topic->end - topic->start));
    printf("size      %s in %u segment%s on node %llu\ncreated   %s\ndigest    ",
           human_size(size, topic->size), topic->segments, topic->segments == 1 ? "" : "s",
           (unsigned long long)node_id, human_time(time, topic->created_time_us));
    print_hex(&topic->digest);
    printf("%s\n", topic->digest.len == 0 ? "- (no records)" : "");
    if (topic->settings != NULL) {
        topic_settings_print(topic->settings);
    }
}

/* "3 h 12 min" */
static const char *human_duration(char buffer[40], uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (s < 60) {
        (void)snprintf(buffer, 40, "%llu s", (unsigned long long)s);
    } else if (s < 3600) {
        (void)snprintf(buffer, 40, "%llu min %llu s", (unsigned long long)s / 60,
                       (unsigned long long)s % 60);
    } else if (s < 86400) {
        (void)snprintf(buffer, 40, "%llu h %llu min", (unsigned long long)s / 3600,
                       (unsigned long long)s / 60 % 60);
    } else {
        (void)snprintf(buffer, 40, "%llu d %llu h", (unsigned long long)s / 86400,
                       (unsigned long long)s / 3600 % 24);
    }
    return buffer;
}

static const char *bound_name(Quorlog__RetentionBound bound)
{
    switch ((int)bound) {
    case QUORLOG__RETENTION_BOUND__RETENTION_BOUND_AGE:
        return "age";
    case QUORLOG__RETENTION_BOUND__RETENTION_BOUND_BYTES:
        return "bytes";
    case QUORLOG__RETENTION_BOUND__RETENTION_BOUND_RECORDS:
        return "records";
    default:
        return "none";
    }
}

/* What retention deletes next, when and why. */
static void print_next(const Quorlog__RetentionForecast *next)
{
    char text[40];

    if (next == NULL || next->to <= next->from) {
        return;
    }
    if (next->to - next->from == 1) {
        printf("next      offset %llu goes ", (unsigned long long)next->from);
    } else {
        printf("next      offsets %llu…%llu go ", (unsigned long long)next->from,
               (unsigned long long)next->to - 1);
    }
    if (next->in_ms == 0 && next->room == 0) {
        printf("now: the topic has passed its bound of %s\n", bound_name(next->bound));
    } else if (next->bound == QUORLOG__RETENTION_BOUND__RETENTION_BOUND_AGE) {
        printf("in %s at the earliest: the bound is their age\n",
               human_duration(text, next->in_ms));
    } else if (next->bound == QUORLOG__RETENTION_BOUND__RETENTION_BOUND_BYTES) {
        printf("when %s more are written: the bound is the topic's size\n",
               human_size(text, next->room));
    } else {
        printf("when %llu more record%s written: the bound is their number\n",
               (unsigned long long)next->room, next->room == 1 ? " is" : "s are");
    }
}

static json_t *indexes_json(const Quorlog__TopicDescribeReply *reply)
{
    json_t *array = json_array();

    for (size_t i = 0; i < reply->n_indexes; i++) {
        const Quorlog__IndexStatus *index = reply->indexes[i];
        json_t *object = json_pack("{s:o,s:o,s:o,s:o,s:o,s:i}", "index", json_text(index->index),
                                   "state", json_text(index->state), "indexed_to",
                                   json_number(index->indexed_to), "left", json_number(index->left),
                                   "size", json_number(index->size), "files", (int)index->files);

        if (index->left_ms != UINT64_MAX) {
            (void)json_object_set_new(object, "left_ms", json_number(index->left_ms));
        }
        if (index->reason[0] != '\0') {
            (void)json_object_set_new(object, "reason", json_text(index->reason));
        }
        (void)json_array_append_new(array, object); /* Out of memory: json_print aborts. */
    }
    return array;
}

/* A row an index: what it is, how far, how large. */
static void print_indexes(const Quorlog__TopicDescribeReply *reply)
{
    char size[24];

    for (size_t i = 0; i < reply->n_indexes; i++) {
        const Quorlog__IndexStatus *index = reply->indexes[i];

        printf("index     %s: %s, to offset %llu, %s in %u file%s", index->index, index->state,
               (unsigned long long)index->indexed_to, human_size(size, index->size), index->files,
               index->files == 1 ? "" : "s");
        if (index->left > 0) {
            printf("; %llu offsets left", (unsigned long long)index->left);
            if (index->left_ms != UINT64_MAX) {
                printf(", about %llu s", (unsigned long long)(index->left_ms / 1000 + 1));
            }
        }
        printf("%s%s\n", index->reason[0] != '\0' ? ": " : "", index->reason);
    }
}

/* ---- compaction ---- */

static const char *compaction_name(Quorlog__CompactionNext next)
{
    switch ((int)next) {
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_NOTHING:
        return "nothing";
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_CLEANING:
        return "cleaning";
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_DIRTY:
        return "dirty";
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_SEALED:
        return "sealed";
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_TOMBSTONES:
        return "tombstones";
    default:
        return "unknown";
    }
}

static void print_compaction_next(const Quorlog__CompactionState *state)
{
    char text[40];

    switch ((int)state->next) {
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_CLEANING:
        printf("next      this node's copy is cleaned to offset %llu\n",
               (unsigned long long)state->clean_to);
        break;
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_DIRTY:
        printf("next      offsets %llu…%llu are cleaned ", (unsigned long long)state->clean_to,
               (unsigned long long)state->to - 1);
        if (state->in_ms == 0) {
            printf("now\n");
        } else {
            printf("when they take half of the topic, or in %s at the latest\n",
                   human_duration(text, state->in_ms));
        }
        break;
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_SEALED:
        printf("next      what is dirty is cleaned when its file is full (segment-bytes), or old "
               "(segment-ms)\n");
        break;
    case QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_TOMBSTONES:
        printf("next      tombstones go when they are old enough and every node has cleaned its "
               "copy\n");
        break;
    default:
        break;
    }
}

static void print_compaction(const Quorlog__CompactionState *state, bool on)
{
    char size[24];

    if (state == NULL) {
        return;
    }
    printf("clean     to offset %llu; the copy of this node to %llu; tombstones are gone to %llu\n",
           (unsigned long long)state->clean_to, (unsigned long long)state->cleaned_to,
           (unsigned long long)state->tombstones_below);
    if (!on) {
        printf("next      nothing more is cleaned: compact is off\n");
        return;
    }
    printf("dirty     %llu record%s, %s\n", (unsigned long long)state->dirty_records,
           state->dirty_records == 1 ? "" : "s", human_size(size, state->dirty_bytes));
    print_compaction_next(state);
}

static json_t *compaction_json(const Quorlog__CompactionState *state)
{
    json_t *object = json_pack(
        "{s:o,s:o,s:o,s:o,s:o,s:s}", "clean_to", json_number(state->clean_to), "cleaned_to",
        json_number(state->cleaned_to), "tombstones_below", json_number(state->tombstones_below),
        "dirty_records", json_number(state->dirty_records), "dirty_bytes",
        json_number(state->dirty_bytes), "next", compaction_name(state->next));

    if (state->next == QUORLOG__COMPACTION_NEXT__COMPACTION_NEXT_DIRTY) {
        /* Out of memory: json_print aborts. */
        (void)json_object_set_new(object, "to", json_number(state->to));
        (void)json_object_set_new(object, "in_ms", json_number(state->in_ms));
    }
    return object;
}

static json_t *describe_json(const Quorlog__TopicDescribeReply *reply)
{
    const Quorlog__RetentionForecast *next = reply->next;
    json_t *object = topic_info_json(reply->topic);

    if (next != NULL) {
        json_t *value = json_pack("{s:s,s:o,s:o}", "bound", bound_name(next->bound), "from",
                                  json_number(next->from), "to", json_number(next->to));

        if (next->bound == QUORLOG__RETENTION_BOUND__RETENTION_BOUND_AGE) {
            (void)json_object_set_new(value, "in_ms", json_number(next->in_ms));
        } else {
            (void)json_object_set_new(value, "room", json_number(next->room));
        }
        (void)json_object_set_new(object, "next", value);
    }
    if (reply->compaction != NULL) {
        (void)json_object_set_new(object, "compaction", compaction_json(reply->compaction));
    }
    if (reply->n_indexes > 0) {
        (void)json_object_set_new(object, "indexes", indexes_json(reply));
    }
    return object;
}

static int run_describe(const struct invocation *invocation)
{
    struct call call = {0};
    Quorlog__TopicDescribeReply *reply;
    struct client *client;
    int code = caller_open(invocation, &client);

    if (code != EXIT_OK) {
        return code;
    }
    code = caller_wait(
        client, client_topic_describe(client, invocation->arguments[0], caller_on_reply, &call),
        &call);
    caller_close(client);
    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__topic_describe_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (reply == NULL || reply->topic == NULL) {
        quorlog__topic_describe_reply__free_unpacked(reply, NULL);
        return fail("the server's answer cannot be read; are client and server of one version?");
    }
    if (option_given(invocation, "json")) {
        json_print(describe_json(reply));
    } else {
        print_topic(reply->topic, reply->node_id);
        print_next(reply->next);
        print_compaction(reply->compaction,
                         reply->topic->settings != NULL && reply->topic->settings->compact);
        print_indexes(reply);
    }
    quorlog__topic_describe_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

const struct command_spec command_topic_describe = {
    .name = "topic describe",
    .synopsis = "TOPIC",
    .summary = "show a topic: offsets, size, digest, settings",
    .details =
        "The digest is that of the last batch: replicas with equal ends have equal digests.\n"
        "Ask each node with --server to compare them. Each node cleans its copy of a compacted "
        "topic\n"
        "in its own time: sizes differ meanwhile, digests do not.\n",
    .options = describe_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_describe,
};
