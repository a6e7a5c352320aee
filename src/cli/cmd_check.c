/*
 * quorlog check: decides whether a recorded history holds what is promised (checker/checker.h).
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"
#include "checker/checker.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"

static const struct option_spec options[] = {
    {"unknown-max", 0, "PERCENT", false,
     "so many of all outcomes may be unknown, 1 to 100; default 20"},
    {"progress-max", 0, "MS", false,
     "so long after all was healed a record must be acknowledged; default 30000"},
    {"answer-max", 0, "MS", false, "an operation without end hangs after so long; default 60000"},
    {"nodes", 0, "COUNT", false, "so many nodes must show what they have in the end; default: any"},
    {"violations", 0, "COUNT", false, "show so many violations of each rule; default 10"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const char *const kind_names[] = {"produce", "read", "delivery", "cursor", "dump", "event"};

static int read_options(const struct invocation *invocation, struct checker_options *ret_options)
{
    uint64_t unknown_max;
    uint64_t progress_max_ms;
    uint64_t answer_max_ms;
    uint64_t node_count;
    uint64_t kept_max;
    struct err_info info;

    if (option_number(invocation, "unknown-max", 20, 1, 100, &unknown_max, &info) != ERR_OK ||
        option_number(invocation, "progress-max", 30000, 1, UINT32_MAX, &progress_max_ms, &info) !=
            ERR_OK ||
        option_number(invocation, "answer-max", 60000, 1, UINT32_MAX, &answer_max_ms, &info) !=
            ERR_OK ||
        option_number(invocation, "nodes", 0, 1, UINT16_MAX, &node_count, &info) != ERR_OK ||
        option_number(invocation, "violations", 10, 1, 1000000, &kept_max, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    *ret_options = (struct checker_options){
        .unknown_max_percent = (unsigned)unknown_max,
        .progress_max_us = progress_max_ms * 1000,
        .answer_max_us = answer_max_ms * 1000,
        .node_count = (unsigned)node_count,
        .violations_kept_max = (unsigned)kept_max,
    };
    return EXIT_OK;
}

/* What can't be read is no verdict: it has the exit code of a wrong command line. */
static int unreadable(const char *path, const char *text)
{
    (void)fail("'%s': %s", path, text);
    return EXIT_USAGE;
}

static int check_history(const char *path, struct checker *checker)
{
    struct history_reader *reader;
    struct history_op op;
    struct err_info info;
    enum err err = history_reader_open(path, &reader, &info);

    if (err != ERR_OK) {
        return unreadable(path, info.text);
    }
    while ((err = history_reader_next(reader, &op, &info)) == ERR_OK) {
        err = checker_add(checker, &op);
        if (err != ERR_OK) {
            (void)err_set(&info, err, "%s", err_text(err));
            break;
        }
    }
    history_reader_close(reader);
    if (err != ERR_NOT_FOUND) {
        return unreadable(path, info.text);
    }
    err = checker_finish(checker);
    return err == ERR_OK ? EXIT_OK : unreadable(path, err_text(err));
}

/* ---- for programs ---- */

static json_t *operations_json(const struct checker_summary *summary)
{
    json_t *object = json_object();

    for (size_t i = 0; i <= HISTORY_EVENT; i++) {
        (void)json_object_set_new(
            object, kind_names[i],
            json_pack("{s:o,s:o,s:o}", "ok", json_number(summary->counts[i][HISTORY_OK]), "fail",
                      json_number(summary->counts[i][HISTORY_FAIL]), "unknown",
                      json_number(summary->counts[i][HISTORY_UNKNOWN])));
    }
    return object;
}

static json_t *rules_json(const struct checker *checker)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        struct checker_verdict verdict = checker_verdict(checker, i);
        json_t *texts = json_array();

        for (size_t k = 0; k < verdict.text_count; k++) {
            (void)json_array_append_new(texts, json_text(verdict.texts[k]));
        }
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:o,s:o,s:o}", "rule", checker_rule_name(i), "meaning",
                            checker_rule_meaning(i), "checked", json_number(verdict.fact_count),
                            "violations", json_number(verdict.violation_count), "examples", texts));
    }
    return list;
}

static void print_json(const struct checker *checker)
{
    const struct checker_summary *summary = checker_summary(checker);

    json_print(json_pack(
        "{s:b,s:o,s:o,s:o,s:i,s:{s:o,s:o,s:o},s:{s:o,s:o,s:o,s:o},s:o}", "holds",
        checker_violation_count(checker) == 0, "operations", operations_json(summary), "span_us",
        json_number(summary->span_us), "topics", json_number(summary->topic_count), "nodes",
        (int)summary->node_count, "records", "acknowledged",
        json_number(summary->records_acknowledged), "held", json_number(summary->records_held),
        "seen", json_number(summary->records_seen), "staleness", "reads",
        json_number(summary->local_read_count), "p50_us", json_number(summary->staleness_p50_us),
        "p99_us", json_number(summary->staleness_p99_us), "max_us",
        json_number(summary->staleness_max_us), "rules", rules_json(checker)));
}

/* ---- for people ---- */

static void print_summary(const struct checker_summary *summary)
{
    printf("%-10s %10s %10s %10s\n", "operations", "ok", "fail", "unknown");
    for (size_t i = 0; i <= HISTORY_EVENT; i++) {
        const uint64_t *counts = summary->counts[i];

        printf("%-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", kind_names[i],
               counts[HISTORY_OK], counts[HISTORY_FAIL], counts[HISTORY_UNKNOWN]);
    }
    printf("\n%" PRIu64 " records acknowledged, %" PRIu64 " held in the end, %" PRIu64
           " shown by reads; %" PRIu64 " topics, %u nodes, %.1f s\n",
           summary->records_acknowledged, summary->records_held, summary->records_seen,
           summary->topic_count, summary->node_count, (double)summary->span_us / 1e6);
    if (summary->local_read_count > 0) {
        printf("%" PRIu64 " local reads are behind by p50 %.1f ms, p99 %.1f ms, at most %.1f ms\n",
               summary->local_read_count, (double)summary->staleness_p50_us / 1e3,
               (double)summary->staleness_p99_us / 1e3, (double)summary->staleness_max_us / 1e3);
    }
}

static void print_rules(const struct checker *checker)
{
    printf("\n%-16s %10s %10s\n", "rule", "checked", "violated");
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        struct checker_verdict verdict = checker_verdict(checker, i);

        if (verdict.fact_count == 0 && verdict.violation_count == 0) {
            printf("%-16s %10s %10s  nothing to check\n", checker_rule_name(i), "-", "-");
        } else {
            printf("%-16s %10" PRIu64 " %10" PRIu64 "\n", checker_rule_name(i), verdict.fact_count,
                   verdict.violation_count);
        }
    }
}

static void print_violations(const struct checker *checker)
{
    unsigned violated = 0;

    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        struct checker_verdict verdict = checker_verdict(checker, i);

        if (verdict.violation_count == 0) {
            continue;
        }
        violated++;
        printf("\n%s: NOT true that %s\n", checker_rule_name(i), checker_rule_meaning(i));
        for (size_t k = 0; k < verdict.text_count; k++) {
            printf("  %s\n", verdict.texts[k]);
        }
        if (verdict.violation_count > verdict.text_count) {
            printf("  and %" PRIu64 " more\n", verdict.violation_count - verdict.text_count);
        }
    }
    if (violated == 0) {
        printf("\nAll rules hold.\n");
    } else {
        printf("\n%u of %d rules are violated.\n", violated, CHECKER_RULE_COUNT);
    }
}

static int run_check(const struct invocation *invocation)
{
    struct checker_options checker_options;
    struct checker *checker;
    int code = read_options(invocation, &checker_options);

    if (code != EXIT_OK) {
        return code;
    }
    if (checker_new(&checker_options, &checker) != ERR_OK) {
        return unreadable(invocation->arguments[0], "out of memory");
    }
    code = check_history(invocation->arguments[0], checker);
    if (code == EXIT_OK) {
        if (option_given(invocation, "json")) {
            print_json(checker);
        } else {
            print_summary(checker_summary(checker));
            print_rules(checker);
            print_violations(checker);
        }
        code = checker_violation_count(checker) == 0 ? EXIT_OK : EXIT_FAILED;
    }
    checker_free(checker);
    return code;
}

const struct command_spec command_check = {
    .name = "check",
    .synopsis = "HISTORY",
    .summary = "decide whether a recorded history keeps what is promised",
    .details =
        "A history has what clients of a cluster asked and were told, and what its nodes held in\n"
        "the end; docs/history.md describes it and the rules. '-' is standard input. No node is\n"
        "needed. Exit codes: 0 all rules hold, 1 some don't, 2 the history can't be read.\n"
        "\n"
        "examples:\n"
        "  quorlog check history.jsonl\n"
        "  zcat history.gz | quorlog check - --json --nodes 3\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_check,
};
