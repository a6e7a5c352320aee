/*
 * quorlog topic create, list, delete.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/topic_describe.h"
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
            json_print(topic_info_json(topic));
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
