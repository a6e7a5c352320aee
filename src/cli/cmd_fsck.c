/*
 * quorlog fsck: what is wrong in the data directory of a stopped node (archive/fsck.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "archive/fsck.h"
#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/progress.h"

static const struct option_spec options[] = {
    {"quiet", 'q', NULL, false, "say nothing but what is wrong: no notes, no summary"},
    {"json", 0, NULL, false, "print an object for each finding, and one for the summary"},
    {NULL, 0, NULL, false, NULL},
};

struct fsck_view {
    struct progress progress;
    bool json;
    bool quiet;
};

static void show_progress(void *arg, const char *path, uint64_t bytes)
{
    struct fsck_view *view = arg;
    const char *slash = strrchr(path, '/');

    progress_add(&view->progress, slash == NULL ? path : slash + 1, bytes, 0, 0);
}

static json_t *finding_json(const struct fsck_finding *finding)
{
    json_t *object = json_pack("{s:s,s:s,s:o,s:o,s:o}", "level", fsck_level_name(finding->level),
                               "what", finding->what, "path", json_text(finding->path), "text",
                               json_text(finding->text), "advice", json_text(finding->advice));

    /* Out of memory: json_print aborts. */
    if (finding->has_position) {
        (void)json_object_set_new(object, "position", json_number(finding->position));
    }
    if (finding->topic != NULL) {
        (void)json_object_set_new(object, "topic", json_text(finding->topic));
    }
    if (finding->has_range) {
        (void)json_object_set_new(object, "from", json_number(finding->from));
        (void)json_object_set_new(object, "to", json_number(finding->to));
    }
    return object;
}

static void print_finding(const struct fsck_finding *finding)
{
    printf("%-8s %-8s '%s'", fsck_level_name(finding->level), finding->what, finding->path);
    if (finding->has_position) {
        printf(" at position %" PRIu64, finding->position);
    }
    printf(": %s", finding->text);
    if (finding->has_range) {
        printf("; offsets %" PRIu64 " to %" PRIu64 " of topic '%s'", finding->from,
               finding->to - (finding->to > finding->from ? 1 : 0), finding->topic);
    }
    printf("\n         %s\n", finding->advice);
}

static enum err on_finding(void *arg, const struct fsck_finding *finding)
{
    struct fsck_view *view = arg;

    progress_clear(&view->progress);
    if (view->json) {
        json_print(finding_json(finding));
    } else if (!view->quiet || finding->level != FSCK_NOTE) {
        print_finding(finding);
    }
    return ferror(stdout) != 0 ? ERR_IO : ERR_OK;
}

static void print_summary(const char *dir, const struct fsck_summary *summary)
{
    char size[24];
    uint64_t act = summary->counts[FSCK_ACT];
    uint64_t repaired = summary->counts[FSCK_REPAIRED];

    printf("node %" PRIu64 " in '%s': %" PRIu64 " topics, %" PRIu64 " records in %" PRIu64
           " batches, %" PRIu64 " files, ",
           summary->node_id, dir, summary->topics, summary->records, summary->batches,
           summary->files);
    if (summary->index_files > 0) {
        printf("%" PRIu64 " of them indexes of times and keys, ", summary->index_files);
    }
    printf("%s; ", human_size(size, summary->bytes));
    if (summary->holes > 0) {
        printf("%" PRIu64 " holes of %" PRIu64 " records; ", summary->holes, summary->missing);
    }
    if (act + repaired == 0) {
        printf("clean\n");
    } else {
        printf("%" PRIu64 " wrong: %" PRIu64 " that the node mends by itself, %" PRIu64
               " that need somebody\n",
               act + repaired, repaired, act);
    }
}

static void print_summary_json(const struct fsck_summary *summary)
{
    json_print(json_pack(
        "{s:s,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "level", "summary", "clean",
        summary->counts[FSCK_ACT] + summary->counts[FSCK_REPAIRED] == 0, "node",
        json_number(summary->node_id), "notes", json_number(summary->counts[FSCK_NOTE]), "repaired",
        json_number(summary->counts[FSCK_REPAIRED]), "act", json_number(summary->counts[FSCK_ACT]),
        "topics", json_number(summary->topics), "files", json_number(summary->files), "index_files",
        json_number(summary->index_files), "bytes", json_number(summary->bytes), "batches",
        json_number(summary->batches), "records", json_number(summary->records), "holes",
        json_number(summary->holes), "missing", json_number(summary->missing)));
}

static int run_fsck_of_node(const struct invocation *invocation)
{
    struct fsck_view view = {.json = option_given(invocation, "json"),
                             .quiet = option_given(invocation, "quiet")};
    const struct fsck_options fsck = {
        .io = io_real(),
        .dir = invocation->arguments[0],
        .cb = on_finding,
        .progress = show_progress,
        .arg = &view,
    };
    struct fsck_summary summary = {0};
    struct err_info info = {0};
    enum err err;

    progress_begin(&view.progress, "checking", 0);
    err = fsck_run(&fsck, &summary, &info);
    progress_clear(&view.progress);
    if (err != ERR_OK && ferror(stdout) != 0) {
        return flush_output();
    }
    if (err != ERR_OK) {
        (void)fail("%s", info.text);
        /* What can't be checked is no verdict: it has the exit code of a wrong command line. */
        return EXIT_USAGE;
    }
    if (view.json) {
        print_summary_json(&summary);
    } else if (!view.quiet) {
        print_summary(fsck.dir, &summary);
    }
    return summary.counts[FSCK_ACT] + summary.counts[FSCK_REPAIRED] == 0 ? EXIT_OK : EXIT_FAILED;
}

const struct command_spec command_fsck = {
    .name = "fsck",
    .synopsis = "DIR",
    .summary = "check the data directory of a stopped node",
    .details =
        "Reads everything and changes nothing: identity, ballot, snapshot, journal, each topic's\n"
        "batches with their checksums and digests, indexes (of offsets, times and keys), what the\n"
        "snapshot promises, and what should not be there. Says of each thing that is wrong in "
        "which file and where it is,\n"
        "which records it affects, and whether the node mends it by itself or what to do:\n"
        "\n"
        "  note      nothing wrong: a hole that the node fills, a write that a crash cut off\n"
        "  repaired  wrong, and the node mends it by itself\n"
        "  act       wrong, and somebody has to do what the second line says\n"
        "\n"
        "Exit codes: 0 nothing wrong, 1 something is, 2 it can't be checked (a node runs there).\n"
        "\n"
        "examples:\n"
        "  quorlog fsck quorlog-data\n"
        "  quorlog fsck --json quorlog-data | jq 'select(.level == \"act\")'\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_fsck_of_node,
};
