/*
 * quorlog cluster status and health.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "quorlog.pb-c.h"

static const struct option_spec options[] = {
    CALLER_OPTIONS,
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec status_options[] = {
    CALLER_OPTIONS,
    {"timings", 0, NULL, false, "also how long turns of the threads' loops, and the journal, took"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

/* The cluster as one node sees it. Not EXIT_OK: call->text, or stderr for EXIT_USAGE, says why. */
static int ask(const struct invocation *invocation, struct call *call,
               Quorlog__StatusReply **ret_reply)
{
    struct client *client;
    int code = caller_open(invocation, &client);
    enum err err;

    if (code != EXIT_OK) {
        return code;
    }
    err = client_status(client, false, caller_on_reply, call);
    ASSERT(err == ERR_OK); /* The first request of a new client. */
    client_wait(client, &call->done);
    caller_close(client);
    if (call->err == ERR_OK) {
        *ret_reply = quorlog__status_reply__unpack(NULL, call->reply_size, call->reply);
        if (*ret_reply == NULL) {
            call->err = ERR_PROTOCOL;
            (void)snprintf(call->text, sizeof call->text, /* fits */
                           "the server's answer cannot be read; are client and server of one "
                           "version?");
        }
    }
    free(call->reply);
    return call->err == ERR_OK ? EXIT_OK : EXIT_FAILED;
}

static json_t *node_json(const Quorlog__NodeStatus *node)
{
    return json_pack(
        "{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,"
        "s:o,s:o}",
        "id", json_number(node->id), "address", json_text(node->address), "role",
        json_text(node->role), "state", json_text(node->state), "term", json_number(node->term),
        "applied", json_number(node->applied), "commit", json_number(node->commit), "lag",
        json_number(node->lag), "holes", json_number(node->holes), "first",
        json_number(node->first), "last", json_number(node->last), "version",
        json_text(node->version), "snapshot", json_number(node->snapshot), "uptime_ms",
        json_number(node->uptime_ms), "journal_writes", json_number(node->journal_writes),
        "journal_entries", json_number(node->journal_entries), "journal_bytes",
        json_number(node->journal_bytes), "records", json_number(node->records), "cpu_us",
        json_number(node->cpu_us), "memory", json_number(node->memory), "missing",
        json_number(node->missing), "filled", json_number(node->filled), "fill_rate",
        json_number(node->fill_rate), "fill_left_s", json_number(node->fill_left_s));
}

/* What the scrubber of the node did; all of json_* abort when memory is short. */
static void add_scrub(json_t *to, const Quorlog__NodeStatus *node)
{
    (void)json_object_set_new(to, "scrub_bytes", json_number(node->scrub_bytes));
    (void)json_object_set_new(to, "scrub_damage", json_number(node->scrub_damage));
    (void)json_object_set_new(to, "scrub_passed_ms", json_number(node->scrub_passed_ms));
}

/* What its cleaner did; as above. */
static void add_compaction(json_t *to, const Quorlog__NodeStatus *node)
{
    (void)json_object_set_new(to, "compact_bytes_in", json_number(node->compact_bytes_in));
    (void)json_object_set_new(to, "compact_bytes_out", json_number(node->compact_bytes_out));
    (void)json_object_set_new(to, "compact_dropped", json_number(node->compact_dropped));
    (void)json_object_set_new(to, "compact_topic", json_text(node->compact_topic));
}

/* The files of its topics; as above. */
static void add_files(json_t *to, const Quorlog__NodeStatus *node)
{
    (void)json_object_set_new(to, "files_open", json_number(node->files_open));
    (void)json_object_set_new(to, "files_mapped", json_number(node->files_mapped));
    (void)json_object_set_new(to, "files_hits", json_number(node->files_hits));
    (void)json_object_set_new(to, "files_misses", json_number(node->files_misses));
    (void)json_object_set_new(to, "files_evicted", json_number(node->files_evicted));
}

/* The disk of its data; as above. */
static void add_disk(json_t *to, const Quorlog__NodeStatus *node)
{
    (void)json_object_set_new(to, "disk_free", json_number(node->disk_free));
    (void)json_object_set_new(to, "disk_size", json_number(node->disk_size));
    (void)json_object_set_new(to, "disk_reserve", json_number(node->disk_reserve));
    (void)json_object_set_new(to, "disk_short", json_boolean(node->disk_short));
    (void)json_object_set_new(to, "disk_critical", json_boolean(node->disk_critical));
}

static json_t *delays_json(const Quorlog__Delays *delays)
{
    json_t *octaves = json_array();

    for (size_t i = 0; i < delays->n_octaves; i++) {
        (void)json_array_append_new(octaves, json_number(delays->octaves[i])); /* As above. */
    }
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "count", json_number(delays->count),
                     "p50_us", json_number(delays->p50_us), "p99_us", json_number(delays->p99_us),
                     "max_us", json_number(delays->max_us), "long_count",
                     json_number(delays->long_count), "stalls", json_number(delays->stalls),
                     "longest", json_text(delays->longest), "octaves", octaves);
}

/* How long its threads' turns, and its journal, took; as above. */
static void add_timings(json_t *to, const Quorlog__NodeStatus *node)
{
    if (node->raft_turns != NULL) {
        (void)json_object_set_new(to, "raft_turns", delays_json(node->raft_turns));
    }
    if (node->front_turns != NULL) {
        (void)json_object_set_new(to, "front_turns", delays_json(node->front_turns));
    }
    if (node->journal_delays != NULL) {
        (void)json_object_set_new(to, "journal_delays", delays_json(node->journal_delays));
    }
}

static void print_json(const Quorlog__StatusReply *status)
{
    json_t *nodes = json_array();

    for (size_t i = 0; i < status->n_nodes; i++) {
        json_t *node = node_json(status->nodes[i]);

        add_scrub(node, status->nodes[i]);
        add_compaction(node, status->nodes[i]);
        add_disk(node, status->nodes[i]);
        add_files(node, status->nodes[i]);
        add_timings(node, status->nodes[i]);
        (void)json_array_append_new(nodes, node); /* json_print aborts. */
    }
    json_print(json_pack("{s:o,s:o,s:o,s:o}", "cluster", json_text(status->cluster_id), "leader",
                         status->leader_id != 0 ? json_number(status->leader_id) : json_null(),
                         "term", json_number(status->term), "nodes", nodes));
}

/* What the node fetches from others, and how long that takes. */
static void print_holes(const Quorlog__NodeStatus *node)
{
    char filled[24];
    char rate[24];

    if (node->holes == 0) {
        return;
    }
    printf("      filling %llu hole%s: %llu records missing, %s filled", /* below its node */
           (unsigned long long)node->holes, node->holes == 1 ? "" : "s",
           (unsigned long long)node->missing, human_size(filled, node->filled));
    if (node->fill_left_s > 0) {
        printf(", %s/s, %llu s left\n", human_size(rate, node->fill_rate),
               (unsigned long long)node->fill_left_s);
    } else {
        printf(", waiting for a node that has them\n");
    }
}

/* How the disk of a node is, in a word. */
static const char *disk_word(const Quorlog__NodeStatus *node)
{
    if (node->disk_critical) {
        return "full";
    }
    return node->disk_short ? "short" : "ok";
}

static void print_table(const Quorlog__StatusReply *status)
{
    char size[24];

    printf("cluster %s, term %llu, ", status->cluster_id, (unsigned long long)status->term);
    if (status->leader_id != 0) {
        printf("leader %llu\n", (unsigned long long)status->leader_id);
    } else {
        printf("no leader\n");
    }
    printf("%4s  %-24s %-8s %-12s %12s %8s %10s %s\n", "ID", "ADDRESS", "ROLE", "STATE", "APPLIED",
           "LAG", "MEMORY", "DISK");
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Quorlog__NodeStatus *node = status->nodes[i];

        printf("%4llu  %-24s %-8s %-12s ", (unsigned long long)node->id, node->address, node->role,
               node->state);
        if (strcmp(node->state, "unreachable") == 0) {
            printf("%12s %8s %10s -\n", "-", "-", "-");
        } else {
            printf("%12llu %8llu %10s %s\n", (unsigned long long)node->applied,
                   (unsigned long long)node->lag, human_size(size, node->memory), disk_word(node));
        }
        print_holes(node);
    }
}

/* "12 us", "3.4 ms", "5.6 s". Returns buffer. */
static const char *human_delay(char buffer[24], uint64_t us)
{
    if (us < 1000) {
        (void)snprintf(buffer, 24, "%u us", (unsigned)us); /* fits, as the next ones */
    } else if (us < 1000000) {
        (void)snprintf(buffer, 24, "%.1f ms", (double)us / 1e3);
    } else {
        (void)snprintf(buffer, 24, "%.1f s", (double)us / 1e6);
    }
    return buffer;
}

/* A row of the second table. NULL: the node does not tell. */
static void print_delays(uint64_t id, const char *what, const Quorlog__Delays *delays)
{
    char p50[24];
    char p99[24];
    char max[24];

    if (delays == NULL) {
        return;
    }
    printf("%4llu  %-8s %12llu %9s %9s %9s %8llu %8llu  %s\n", (unsigned long long)id, what,
           (unsigned long long)delays->count, human_delay(p50, delays->p50_us),
           human_delay(p99, delays->p99_us), human_delay(max, delays->max_us),
           (unsigned long long)delays->long_count, (unsigned long long)delays->stalls,
           delays->longest[0] != '\0' ? delays->longest : "-");
}

static void print_timings(const Quorlog__StatusReply *status)
{
    printf("\n%4s  %-8s %12s %9s %9s %9s %8s %8s  %s\n", "ID", "LOOP", "TURNS", "P50", "P99", "MAX",
           ">10 MS", "STALLS", "LONGEST IN");
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Quorlog__NodeStatus *node = status->nodes[i];

        print_delays(node->id, "raft", node->raft_turns);
        print_delays(node->id, "fronts", node->front_turns);
        print_delays(node->id, "journal", node->journal_delays);
    }
}

static int run_status(const struct invocation *invocation)
{
    struct call call = {0};
    Quorlog__StatusReply *status;
    int code = ask(invocation, &call, &status);

    if (code != EXIT_OK) {
        return code == EXIT_USAGE ? code : fail("%s", call.text);
    }
    if (option_given(invocation, "json")) {
        print_json(status);
    } else {
        print_table(status);
        if (option_given(invocation, "timings")) {
            print_timings(status);
        }
    }
    quorlog__status_reply__free_unpacked(status, NULL);
    return EXIT_OK;
}

/* Why the cluster is not healthy, as JSON strings. */
static json_t *complaints(const Quorlog__StatusReply *status)
{
    json_t *list = json_array();

    if (status->leader_id == 0) {
        /* Out of memory: json_print aborts. */
        (void)json_array_append_new(list, json_string("no leader: nothing can be written"));
    }
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Quorlog__NodeStatus *node = status->nodes[i];
        char text[400];

        if (strcmp(node->state, "unreachable") == 0 || strcmp(node->state, "installing") == 0 ||
            node->holes > 0) {
            if (node->holes > 0) {
                (void)snprintf(text, sizeof text, /* fits */
                               "node %llu (%.256s) is incomplete: %llu records are missing",
                               (unsigned long long)node->id, node->address,
                               (unsigned long long)node->missing);
            } else {
                (void)snprintf(text, sizeof text, "node %llu (%.256s) is %.64s", /* fits */
                               (unsigned long long)node->id, node->address, node->state);
            }
            (void)json_array_append_new(list, json_text(text)); /* As above. */
        }
        if (node->disk_short) {
            char size[24];

            (void)snprintf(text, sizeof text, /* fits */
                           "node %llu (%.256s) is short of room on its disk: %s free",
                           (unsigned long long)node->id, node->address,
                           human_size(size, node->disk_free));
            (void)json_array_append_new(list, json_text(text)); /* As above. */
        }
    }
    return list;
}

static int run_health(const struct invocation *invocation)
{
    struct call call = {0};
    Quorlog__StatusReply *status;
    int code = ask(invocation, &call, &status);
    bool healthy;
    json_t *list;

    if (code == EXIT_USAGE) {
        return code;
    }
    if (code == EXIT_OK) {
        list = complaints(status);
        quorlog__status_reply__free_unpacked(status, NULL);
    } else {
        list = json_pack("[o]", json_text(call.text));
    }
    healthy = json_array_size(list) == 0;
    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:b,s:o}", "healthy", healthy, "problems", list));
    } else {
        printf("%s\n", healthy ? "healthy" : "unhealthy");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *text = json_string_value(json_array_get(list, i));

            printf("  %s\n", text != NULL ? text : "(what the node says is no text)");
        }
        json_decref(list);
    }
    return healthy ? EXIT_OK : EXIT_UNHEALTHY;
}

const struct command_spec command_cluster_status = {
    .name = "cluster status",
    .synopsis = "",
    .summary = "show the nodes: who leads, who lags",
    .details = NULL,
    .options = status_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_status,
};

const struct command_spec command_cluster_health = {
    .name = "cluster health",
    .synopsis = "",
    .summary = "say whether the cluster is healthy; exit 10 when it is not",
    .details = NULL,
    .options = options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_health,
};
