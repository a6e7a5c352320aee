/*
 * quorlog topic create, list, describe, delete.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/topic_settings.h"
#include "quorlog.pb-c.h"

static const struct option_spec create_options[] = {
    CALLER_OPTIONS,
    TOPIC_SETTING_OPTIONS,
    {"if-missing", 0, NULL, false, "an existing topic is fine"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec list_options[] = {
    CALLER_OPTIONS,
    {"json", 0, NULL, false, "print an object for each topic"},
    {NULL, 0, NULL, false, NULL},
};

/* Makes one call on a new session. */
static int call_once(const struct invocation *invocation,
                     enum err (*start)(struct client *client, const struct invocation *invocation,
                                       struct call *call),
                     struct call *call)
{
    struct client *client;
    int code = caller_open(invocation, &client);

    if (code != EXIT_OK) {
        return code;
    }
    code = caller_wait(client, start(client, invocation, call), call);
    caller_close(client);
    return code;
}

static int malformed(void)
{
    return fail("the server's answer cannot be read; are client and server of one version?");
}

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

static json_t *topic_json(const Quorlog__TopicInfo *topic)
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

/* ---- create ---- */

/* A follower knows of the topic a moment after the leader: whoever asks it next finds it there. */
static void wait_applied(struct client *client, const struct call *created)
{
    Quorlog__TopicCreateReply *reply =
        quorlog__topic_create_reply__unpack(NULL, created->reply_size, created->reply);

    if (reply == NULL) {
        return; /* It was created; nothing more is promised. */
    }
    caller_wait_applied(client, reply->raft_index);
    quorlog__topic_create_reply__free_unpacked(reply, NULL);
}

enum { CREATE_TRIES_MAX = 5 };

static int run_create(const struct invocation *invocation)
{
    const char *name = invocation->arguments[0];
    struct client_alteration alteration = {0};
    struct err_info info = {.text = ""};
    struct client *client;
    struct call call = {0};
    unsigned tries = 0;
    enum err err = topic_settings_parse(invocation, &alteration, &info);
    int code;

    if (err != ERR_OK) {
        return usage("%s", info.text);
    }
    code = caller_open(invocation, &client);
    if (code != EXIT_OK) {
        return code;
    }
    do {
        call = (struct call){0};
        err = client_topic_create_with(client, name,
                                       alteration.which_count > 0 ? &alteration.settings : NULL,
                                       caller_on_reply, &call);
        if (err == ERR_OK) {
            client_wait(client, &call.done);
            err = call.err;
        }
        /* Nobody knows whether it is there now; with --if-missing one may ask again. */
    } while (call.done && option_given(invocation, "if-missing") && err_retryable(err) &&
             err_outcome(err) == ERR_OUTCOME_UNKNOWN && err != ERR_TIMEOUT &&
             ++tries < CREATE_TRIES_MAX);
    if (err == ERR_OK) {
        wait_applied(client, &call);
    }
    caller_close(client);
    free(call.reply);
    if (err == ERR_TOPIC_EXISTS && option_given(invocation, "if-missing")) {
        err = ERR_OK;
    } else if (err == ERR_OK && !option_given(invocation, "json")) {
        printf("created %s\n", name);
    }
    if (err == ERR_OK && option_given(invocation, "json")) {
        json_print(json_pack("{s:o}", "topic", json_text(name)));
    }
    if (err == ERR_INVALID && !call.done) {
        return usage("a topic's name has 1 to 200 characters");
    }
    return err == ERR_OK ? EXIT_OK : fail("%s", call.done ? call.text : err_text(err));
}

/* ---- delete ---- */

static enum err start_delete(struct client *client, const struct invocation *invocation,
                             struct call *call)
{
    return client_topic_delete(client, invocation->arguments[0], caller_on_reply, call);
}

static int run_delete(const struct invocation *invocation)
{
    struct call call = {0};
    int code = call_once(invocation, start_delete, &call);

    free(call.reply);
    if (code == EXIT_OK && option_given(invocation, "json")) {
        json_print(json_pack("{s:o}", "topic", json_text(invocation->arguments[0])));
    } else if (code == EXIT_OK) {
        printf("deleted %s\n", invocation->arguments[0]);
    }
    return code;
}

/* ---- list ---- */

static void print_topics(const Quorlog__TopicListReply *reply, bool json, bool first)
{
    char size[24];

    if (first && !json) {
        printf("%-32s %14s %14s %12s %9s\n", "TOPIC", "START", "END", "SIZE", "SEGMENTS");
    }
    for (size_t i = 0; i < reply->n_topics; i++) {
        const Quorlog__TopicInfo *topic = reply->topics[i];

        if (json) {
            json_print(topic_json(topic));
        } else {
            printf("%-32s %14llu %14llu %12s %9u\n", topic->name, (unsigned long long)topic->start,
                   (unsigned long long)topic->end, human_size(size, topic->size), topic->segments);
        }
    }
}

/* One part of the list, printed. *after: the last name of the part before, and then of this one;
 * "" at the end. */
static int list_part(struct client *client, bool json, char after[256])
{
    struct call call = {0};
    Quorlog__TopicListReply *reply;
    int code = caller_wait(client, client_topic_list(client, after, caller_on_reply, &call), &call);

    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__topic_list_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (reply == NULL) {
        return malformed();
    }
    print_topics(reply, json, after[0] == '\0');
    (void)snprintf(after, 256, "%s", /* A name is shorter. */
                   reply->more && reply->n_topics > 0 ? reply->topics[reply->n_topics - 1]->name
                                                      : "");
    quorlog__topic_list_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

static int run_list(const struct invocation *invocation)
{
    bool json = option_given(invocation, "json");
    struct client *client;
    char after[256] = "";
    int code = caller_open(invocation, &client);

    if (code != EXIT_OK) {
        return code;
    }
    do {
        code = list_part(client, json, after);
    } while (code == EXIT_OK && after[0] != '\0');
    caller_close(client);
    return code;
}

/* ---- describe ---- */

static enum err start_describe(struct client *client, const struct invocation *invocation,
                               struct call *call)
{
    return client_topic_describe(client, invocation->arguments[0], caller_on_reply, call);
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
               (unsigned long long)next->room + 1, next->room == 0 ? " is" : "s are");
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

static json_t *describe_json(const Quorlog__TopicDescribeReply *reply)
{
    const Quorlog__RetentionForecast *next = reply->next;
    json_t *object = topic_json(reply->topic);

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
    if (reply->n_indexes > 0) {
        (void)json_object_set_new(object, "indexes", indexes_json(reply));
    }
    return object;
}

static int run_describe(const struct invocation *invocation)
{
    struct call call = {0};
    Quorlog__TopicDescribeReply *reply;
    int code = call_once(invocation, start_describe, &call);

    if (code != EXIT_OK) {
        return code;
    }
    reply = quorlog__topic_describe_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (reply == NULL || reply->topic == NULL) {
        return malformed();
    }
    if (option_given(invocation, "json")) {
        json_print(describe_json(reply));
    } else {
        print_topic(reply->topic, reply->node_id);
        print_next(reply->next);
        print_indexes(reply);
    }
    quorlog__topic_describe_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

const struct command_spec command_topic_create = {
    .name = "topic create",
    .synopsis = "TOPIC",
    .summary = "create a topic",
    .details = "A name has 1 to 200 characters of A-Z a-z 0-9 . _ - and does not begin with '-'.\n"
               "Settings may be changed later: quorlog topic alter.\n",
    .options = create_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_create,
};

const struct command_spec command_topic_delete = {
    .name = "topic delete",
    .synopsis = "TOPIC",
    .summary = "delete a topic and all its records",
    .details = NULL,
    .options = list_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_delete,
};

const struct command_spec command_topic_list = {
    .name = "topic list",
    .synopsis = "",
    .summary = "list the topics",
    .details = NULL,
    .options = list_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_list,
};

const struct command_spec command_topic_describe = {
    .name = "topic describe",
    .synopsis = "TOPIC",
    .summary = "show a topic: offsets, size, digest, settings",
    .details =
        "The digest is that of the last batch: replicas with equal ends have equal digests.\n"
        "Ask each node with --server to compare them.\n",
    .options = list_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_describe,
};
