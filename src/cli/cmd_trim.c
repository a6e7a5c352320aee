/*
 * quorlog topic trim.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/json.h"
#include "quorlog.pb-c.h"

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"before", 0, "OFFSET|@TIME", false,
     "the first offset that stays, or @2026-11-22T10:00:00Z: what was appended before goes"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

/* Takes --before apart; EXIT_OK, or the code of a usage error that was told. */
static int parse_before(const char *text, struct client_trim *trim)
{
    struct err_info info;

    if (text[0] == '@') {
        trim->by_time = true;
        return format_parse_time(text + 1, &trim->time_us, &info) == ERR_OK
                   ? EXIT_OK
                   : usage("%s", info.text);
    }
    if (parse_number(text, "offset", 0, INT64_MAX, &trim->before, NULL) != ERR_OK) {
        return usage("'%s' is neither an offset nor @TIME: write --before 1000, or --before "
                     "@2026-11-22T10:00:00Z",
                     text);
    }
    return EXIT_OK;
}

/* Tells it, once the node that was asked shows it, too. */
static int print(const struct invocation *invocation, struct client *client,
                 const struct call *call)
{
    Quorlog__TopicTrimReply *reply =
        quorlog__topic_trim_reply__unpack(NULL, call->reply_size, call->reply);
    const char *topic = invocation->arguments[0];

    if (reply == NULL) {
        return fail("the server's answer cannot be read; are client and server of one version?");
    }
    caller_wait_applied(client, reply->raft_index);
    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:o,s:o,s:o}", "topic", json_text(topic), "start",
                             json_number(reply->start), "raft_index",
                             json_number(reply->raft_index)));
    } else {
        printf("%s begins at %llu\n", topic, (unsigned long long)reply->start);
    }
    quorlog__topic_trim_reply__free_unpacked(reply, NULL);
    return EXIT_OK;
}

static int run(const struct invocation *invocation)
{
    struct client_trim trim = {.topic = invocation->arguments[0]};
    const char *before = option_value(invocation, "before");
    struct call call = {0};
    struct client *client;
    int code;

    if (before == NULL) {
        return usage("say which records go: --before OFFSET, or --before @TIME");
    }
    code = parse_before(before, &trim);
    if (code == EXIT_OK) {
        code = caller_open(invocation, &client);
    }
    if (code != EXIT_OK) {
        return code;
    }
    code = caller_wait(client, client_topic_trim(client, &trim, caller_on_reply, &call), &call);
    if (code == EXIT_OK) {
        code = print(invocation, client, &call);
    }
    caller_close(client);
    free(call.reply);
    return code;
}

const struct command_spec command_topic_trim = {
    .name = "topic trim",
    .synopsis = "TOPIC --before OFFSET|@TIME",
    .summary = "drop a topic's oldest records",
    .details =
        "Nobody reads what lies below the new start any more, on any node; the files go a\n"
        "moment later. There is no way back. A start below the present one changes nothing.\n"
        "By time: of the batches that were appended before it, by the leaders' clocks.\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};
