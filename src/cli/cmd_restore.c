/*
 * quorlog restore: makes the data directory of a node of a new cluster from a backup.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "server/restore.h"

static const struct option_spec options[] = {
    {"data", 0, "DATA", false, "the node's new data directory; must not exist, or be empty"},
    {"id", 0, "N", false, "number of this node in the new cluster; default 1"},
    {"bootstrap", 0, "ID=HOST:PORT,…", false, "first members of the new cluster"},
    {"cluster", 0, "NAME", false, "name of the new cluster, to which eight digits are added"},
    {"segment-size", 0, "SIZE", false, "size of a topic's files; default 64M"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static int load(const struct invocation *invocation, struct config *config)
{
    static const struct {
        const char *option;
        const char *key;
    } pairs[] = {{"data", "data"},
                 {"id", "id"},
                 {"bootstrap", "bootstrap"},
                 {"cluster", "cluster"},
                 {"segment-size", "segment_size"}};
    struct err_info info;

    config_init(config);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *value = option_value(invocation, pairs[i].option);

        if (value != NULL && config_set_flag(config, pairs[i].key, value, &info) != ERR_OK) {
            return usage("%s", info.text);
        }
    }
    if (!option_given(invocation, "data") || !option_given(invocation, "bootstrap")) {
        return usage("'restore' needs --data and --bootstrap");
    }
    return config_validate(config, &info) == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

static void on_progress(void *arg, const char *topic, size_t size)
{
    progress_add(arg, topic, size, 0, 0);
}

static void print_restored(const struct config *config, const struct restored *restored, bool json)
{
    if (json) {
        json_print(json_pack("{s:s,s:s,s:s,s:o,s:o}", "data", config->data, "cluster",
                             restored->cluster, "cluster_id", restored->cluster_id, "index",
                             json_number(restored->index), "topics",
                             json_number(restored->topics)));
        return;
    }
    printf("restored %zu topic%s up to entry %llu into %s\n"
           "Restore the other first members from the same backup; then start each with\n"
           "  id = %llu\n"
           "  data = %s\n"
           "  cluster = %s\n"
           "  bootstrap = %s\n",
           restored->topics, restored->topics == 1 ? "" : "s", (unsigned long long)restored->index,
           config->data, (unsigned long long)config->id, config->data, restored->cluster,
           config->bootstrap);
}

static int run_restore(const struct invocation *invocation)
{
    struct config *config = calloc(1, sizeof *config);
    struct restored *restored = calloc(1, sizeof *restored);
    struct progress progress;
    struct restore_request request = {.backup = invocation->arguments[0],
                                      .config = config,
                                      .progress = on_progress,
                                      .arg = &progress};
    struct err_info info;
    int code;

    ASSERT(config != NULL && restored != NULL); /* Some kilobytes. */
    code = load(invocation, config);
    if (code == EXIT_OK) {
        progress_begin(&progress, "restore", 0);
        if (server_restore(io_real(), &request, restored, &info) != ERR_OK) {
            progress_clear(&progress);
            code = fail("%s", info.text);
        }
    }
    if (code == EXIT_OK) {
        progress_clear(&progress);
        print_restored(config, restored, option_given(invocation, "json"));
    }
    free(restored);
    free(config);
    return code;
}

const struct command_spec command_restore = {
    .name = "restore",
    .synopsis = "DIR",
    .summary = "make a node's data directory for a new cluster from a backup",
    .details =
        "Once for each first member, from the same backup, each on its own machine; then start\n"
        "them. Topics, offsets, digests, cursors and producers are those of the backup. The new\n"
        "cluster has a name of its own, which is printed: nodes of the old cluster do not talk to\n"
        "it. Everything is verified on the way; the directory is there only when all of it is.\n"
        "\n"
        "examples:\n"
        "  quorlog restore /backup/events --data /var/lib/quorlog --id 1 --cluster production \\\n"
        "                  --bootstrap 1=n1:7437,2=n2:7437,3=n3:7437\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_restore,
};
