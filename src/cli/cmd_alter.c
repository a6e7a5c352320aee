/*
 * quorlog topic alter.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/topic_settings.h"

static const struct option_spec alter_options[] = {
    CALLER_OPTIONS,
    TOPIC_SETTING_OPTIONS,
    {"on", 0, "NODE,…", false, "with --index: these nodes keep a set of their own"},
    {"json", 0, NULL, false, "print the settings as an object"},
    {NULL, 0, NULL, false, NULL},
};

static enum err parse(const struct invocation *invocation, uint64_t nodes[TOPIC_SETTING_NODES_MAX],
                      struct client_alteration *ret_alteration, struct err_info *info)
{
    const char *on = option_value(invocation, "on");
    const char *index = option_value(invocation, "index");
    enum err err;

    if (on != NULL && index == NULL) {
        return err_set(info, ERR_INVALID, "option '--on': give '--index' with it");
    }
    *ret_alteration =
        (struct client_alteration){.topic = invocation->arguments[0], .on_nodes = nodes};
    err = topic_settings_parse(invocation, ret_alteration, info);
    if (err == ERR_OK && ret_alteration->which_count == 0) {
        err = err_set(info, ERR_INVALID,
                      "no setting is given; 'quorlog topic alter --help' lists them");
    }
    if (err != ERR_OK || on == NULL) {
        return err;
    }
    ret_alteration->on_default = strcmp(index, "default") == 0;
    return topic_settings_parse_nodes(on, nodes, &ret_alteration->on_count, info);
}

static int tell(const struct invocation *invocation, const struct call *call,
                const Quorlog__TopicAlterReply *reply)
{
    const char *topic = invocation->arguments[0];

    ASSERT(call->reply != NULL);
    if (reply->settings == NULL) {
        return fail("alter topic '%s': it was altered, and deleted since", topic);
    }
    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:o,s:o,s:o}", "topic", json_text(topic), "token",
                             json_number(reply->raft_index), "settings",
                             topic_settings_json(reply->settings)));
    } else {
        printf("altered %s\n", topic);
    }
    return EXIT_OK;
}

static int run_alter(const struct invocation *invocation)
{
    uint64_t nodes[TOPIC_SETTING_NODES_MAX];
    struct client_alteration alteration;
    struct err_info info = {.text = ""};
    Quorlog__TopicAlterReply *reply = NULL;
    struct call call = {0};
    struct client *client;
    int code;

    if (parse(invocation, nodes, &alteration, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    code = caller_open(invocation, &client);
    if (code != EXIT_OK) {
        return code;
    }
    code =
        caller_wait(client, client_topic_alter(client, &alteration, caller_on_reply, &call), &call);
    if (code == EXIT_OK) {
        reply = quorlog__topic_alter_reply__unpack(NULL, call.reply_size, call.reply);
        ASSERT(reply != NULL); /* The client has looked at it. */
        caller_wait_applied(client, reply->raft_index);
        code = tell(invocation, &call, reply);
        quorlog__topic_alter_reply__free_unpacked(reply, NULL);
    }
    caller_close(client);
    free(call.reply);
    return code;
}

const struct command_spec command_topic_alter = {
    .name = "topic alter",
    .synopsis = "TOPIC",
    .summary = "change settings of a topic while it is in use",
    .details =
        "What is not named stays as it is; 'default' sets a setting back. All nodes have the\n"
        "same settings; 'quorlog topic describe' shows them. Times are milliseconds, or have ms,\n"
        "s, m, h or d behind them; sizes are bytes, or have K, M, G or T behind them.\n"
        "\n"
        "  quorlog topic alter orders --retention-ms 7d --retention-bytes 10G\n"
        "  quorlog topic alter prices --compact on    keep the latest record of each key\n"
        "  quorlog topic alter orders --index time,key=btree\n"
        "  quorlog topic alter orders --index key=bloom --on 2,3    nodes 2 and 3 only\n"
        "  quorlog topic alter orders --index default --on 2    node 2 as the others again\n",
    .options = alter_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_alter,
};
