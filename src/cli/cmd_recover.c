/*
 * quorlog recover: begins a cluster anew from one stopped node, when the majority is gone for good.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/io.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "server/server.h"

static const struct option_spec recover_options[] = {
    {"data", 0, "DIR", false, "data directory of the stopped node; default ./quorlog-data"},
    {"id", 0, "N", false, "number of the node; default 1"},
    {"advertise", 0, "HOST:PORT", false,
     "address under which others will reach it (default: as before)"},
    {"force-new-cluster", 0, NULL, false, "do it; without this the command only looks"},
    {"yes-lose-unreplicated", 0, NULL, false,
     "confirms that what only the lost nodes held may be lost; needed with --force-new-cluster"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const char warning[] =
    "\n"
    "WARNING. This is for a cluster whose majority is GONE FOR GOOD. If enough nodes can be "
    "brought\n"
    "back, bring them back instead: nothing is lost then.\n"
    "  * Records that only the lost nodes held are lost, acknowledged ones among them, if this "
    "node\n"
    "    was behind. Look at every survivor (quorlog recover without --force-new-cluster) and "
    "take\n"
    "    the one with the highest last term, and of those the highest last index.\n"
    "  * Records that were never acknowledged may appear as written.\n"
    "  * The cluster gets a new id. Nodes of the old one, also survivors, cannot come back: empty\n"
    "    their directories and add them under new ids (quorlog cluster add).\n"
    "Copy the directory before you go on. Then: --force-new-cluster --yes-lose-unreplicated\n";

static void print_json(const struct invocation *invocation, const struct recover_result *result)
{
    const struct recovery_report *report = &result->report;
    json_t *members = json_array();

    for (unsigned i = 0; i < report->membership.count; i++) {
        const struct member *member = &report->membership.members[i];

        /* Out of memory: json_print aborts. */
        (void)json_array_append_new(
            members, json_pack("{s:o,s:o,s:b}", "id", json_number(member->id), "address",
                               json_text(member->address), "voter", member->role == MEMBER_VOTER));
    }
    json_print(json_pack(
        "{s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "recovered",
        option_given(invocation, "force-new-cluster"), "cluster", json_text(result->cluster_id),
        "address", json_text(result->address), "term", json_number(report->term), "last_term",
        json_number(report->last_term), "last_index", json_number(report->last_index), "snapshot",
        json_number(report->snapshot_index), "members", members));
}

static void print_text(const struct config *config, const struct recover_result *result)
{
    const struct recovery_report *report = &result->report;

    printf("node %" PRIu64 " in '%s', cluster %s\n", config->id, config->data, result->cluster_id);
    printf("last entry: term %" PRIu64 ", index %" PRIu64 "; snapshot: %" PRIu64 "\n",
           report->last_term, report->last_index, report->snapshot_index);
    for (unsigned i = 0; i < report->membership.count; i++) {
        const struct member *member = &report->membership.members[i];

        printf("member %" PRIu64 " at %s%s\n", member->id, member->address,
               member->role == MEMBER_VOTER ? "" : ", no voter");
    }
}

static int recover(const struct invocation *invocation, const struct config *config)
{
    const struct recover_options options = {
        .config = config,
        .force = option_given(invocation, "force-new-cluster"),
        .address = option_value(invocation, "advertise"),
    };
    struct recover_result result;
    struct err_info info = {0};

    if (recover_node(io_real(), &options, &result, &info) != ERR_OK) {
        return fail("%s", info.text);
    }
    if (option_given(invocation, "json")) {
        print_json(invocation, &result);
    } else {
        print_text(config, &result);
    }
    if (!options.force) {
        (void)fputs(warning, stderr); /* Who can't read stderr can't be warned. */
    } else if (!option_given(invocation, "json")) {
        printf("recovered: this node is now the only member of cluster %s\n"
               "next: start it as before; then add others, each with an empty directory and an id "
               "that\nwas never used: quorlog serve --id N --join %s …, quorlog cluster add N "
               "HOST:PORT\n",
               result.cluster_id, result.address);
    }
    return EXIT_OK;
}

static int run_recover(const struct invocation *invocation)
{
    bool force = option_given(invocation, "force-new-cluster");
    struct config *config;
    struct err_info info = {0};
    int code;

    if (force && !option_given(invocation, "yes-lose-unreplicated")) {
        (void)fputs(warning, stderr); /* As above. */
        return usage("--force-new-cluster needs --yes-lose-unreplicated");
    }
    config = calloc(1, sizeof *config);
    if (config == NULL) {
        return fail("out of memory");
    }
    config_init(config);
    if ((option_given(invocation, "data") &&
         config_set_flag(config, "data", option_value(invocation, "data"), &info) != ERR_OK) ||
        (option_given(invocation, "id") &&
         config_set_flag(config, "id", option_value(invocation, "id"), &info) != ERR_OK)) {
        code = usage("%s", info.text);
    } else {
        code = recover(invocation, config);
    }
    free(config);
    return code;
}

const struct command_spec command_recover = {
    .name = "recover",
    .synopsis = "",
    .summary = "begin a cluster anew from one stopped node: its majority is gone for good",
    .details = "Works on the directory of a stopped node. Without --force-new-cluster it only "
               "shows what is\n"
               "there, for choosing among survivors. docs/operations.md has the runbook.\n",
    .options = recover_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_recover,
};
