/*
 * quorlog sim: runs whole clusters in one process, on a clock, a network and disks that it makes
 * up, breaks them at random, and says whether they kept what is promised (sim/cluster.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "sim/campaign.h"
#include "sim/cluster.h"

enum {
    SECONDS_MAX = 120,     /* of CPU, for a seed, … */
    HOUR_SECONDS_MAX = 60, /* … and for each of its hours */
    RULES = 20,
    PATH_SIZE_MAX = 4096,
};

static const struct option_spec options[] = {
    {"seed", 0, "N", false, "which history; the same seed is the same history; default 1"},
    {"count", 0, "K", false, "so many histories, from seed N on; default 1"},
    {"jobs", 0, "J", false, "so many at the same time; default 1"},
    {"nodes", 0, "3|5", false, "size of the cluster; default: the seed decides"},
    {"hours", 0, "H", false, "so long in virtual time; default: a dense minute"},
    {"faults", 0, "LIST", false,
     "what may go wrong, by name or group, with commas; -NAME leaves out; --faults help lists"},
    {"break", 0, "WHAT", false, "run a program that is broken on purpose; --break help lists"},
    {"rules-off", 0, "R5,…", false, "without these rules of the raft driver"},
    {"judge", 0, "WHO", false, "both, or checker: nobody looks inside the nodes; default both"},
    {"history", 0, "FILE", false,
     "write what clients did and were told, for quorlog check; with --count, to FILE.SEED each"},
    {"trace", 0, NULL, false, "print all that happens"},
    {"until-red", 0, NULL, false,
     "stop at the first seed that fails; exit 0 if one does, 1 if not"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

struct run {
    struct sim_options sim;
    const char *history; /* NULL: none */
    bool several;
};

/* ---- options ---- */

static bool parse_rules(const char *text, unsigned *ret_rules)
{
    *ret_rules = 0;
    for (;;) {
        char *end;
        unsigned long number;

        number = *text == 'R' ? strtoul(text + 1, &end, 10) : 0;
        if (number < 1 || number > RULES || (*end != '\0' && *end != ',')) {
            return false;
        }
        *ret_rules |= 1u << number;
        if (*end == '\0') {
            return true;
        }
        text = end + 1;
    }
}

static int list_faults(void)
{
    const char *group = "";

    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (strcmp(group, sim_fault_group(i)) != 0) {
            group = sim_fault_group(i);
            printf("%s\n", group);
        }
        printf("  %-14s %s\n", sim_fault_name(i), sim_fault_text(i));
    }
    return flush_output();
}

static int list_breaks(void)
{
    for (unsigned i = 0; i < SIM_BREAK_COUNT; i++) {
        printf("%-18s %s\n", sim_break_name(i), sim_break_text(i));
    }
    return flush_output();
}

static int read_words(const struct invocation *invocation, struct sim_options *ret_sim)
{
    const char *faults = option_value(invocation, "faults");
    const char *broken = option_value(invocation, "break");
    const char *rules = option_value(invocation, "rules-off");
    const char *judge = option_value(invocation, "judge");
    struct err_info info;

    ret_sim->faults = SIM_FAULTS_ALL;
    if (faults != NULL && sim_faults_parse(faults, &ret_sim->faults, &info) != ERR_OK) {
        return usage("option '--faults': %s; --faults help lists them", info.text);
    }
    if (broken != NULL && !sim_break_parse(broken, &ret_sim->broken)) {
        return usage("option '--break': there is no '%s'; --break help lists them", broken);
    }
    if (rules != NULL && !parse_rules(rules, &ret_sim->rules_off)) {
        return usage("option '--rules-off': '%s' is no list of R1 to R%d", rules, RULES);
    }
    if (judge != NULL && strcmp(judge, "both") != 0 && strcmp(judge, "checker") != 0) {
        return usage("option '--judge': '%s' is neither both nor checker", judge);
    }
    ret_sim->oracle_off = judge != NULL && strcmp(judge, "checker") == 0;
    ret_sim->trace = option_given(invocation, "trace");
    return EXIT_OK;
}

static int read_options(const struct invocation *invocation, struct run *ret_run,
                        struct campaign *ret_campaign)
{
    struct err_info info;
    uint64_t nodes;
    uint64_t hours;
    uint64_t jobs;

    if (option_number(invocation, "seed", 1, 0, UINT64_MAX / 2, &ret_campaign->seed, &info) !=
            ERR_OK ||
        option_number(invocation, "count", 1, 1, UINT32_MAX, &ret_campaign->count, &info) !=
            ERR_OK ||
        option_number(invocation, "jobs", 1, 1, CAMPAIGN_JOBS_MAX, &jobs, &info) != ERR_OK ||
        option_number(invocation, "hours", 0, 1, 10000, &hours, &info) != ERR_OK ||
        option_number(invocation, "nodes", 0, 3, 5, &nodes, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    if (nodes == 4) {
        return usage("option '--nodes': clusters have 3 or 5");
    }
    ret_campaign->jobs = (unsigned)jobs;
    ret_campaign->until_red = option_given(invocation, "until-red");
    ret_campaign->seed_seconds = SECONDS_MAX + HOUR_SECONDS_MAX * (unsigned)hours;
    ret_run->sim = (struct sim_options){.nodes = (unsigned)nodes, .hours = (unsigned)hours};
    ret_run->history = option_value(invocation, "history");
    ret_run->several = ret_campaign->count > 1;
    return read_words(invocation, &ret_run->sim);
}

/* How a seed is run again, but for the seed. */
static void make_command(const struct invocation *invocation, char *to, size_t size)
{
    static const char *const kept[] = {"nodes", "hours", "faults", "break", "rules-off", "judge"};
    size_t used = (size_t)snprintf(to, size, "quorlog sim");

    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const char *value = option_value(invocation, kept[i]);

        if (value != NULL && used < size) { /* Cut is still a hint. */
            used += (size_t)snprintf(to + used, size - used, " --%s%s%s", kept[i],
                                     *value == '-' ? "=" : " ", value);
        }
    }
}

/* ---- running ---- */

static void run_one(const struct run *self, uint64_t seed, bool trace, struct sim_stats *stats)
{
    struct sim_options sim = self->sim;
    char path[PATH_SIZE_MAX];

    sim.seed = seed;
    sim.trace = trace;
    if (self->history != NULL && self->several) {
        (void)snprintf(path, sizeof path, "%s.%llu", self->history, (unsigned long long)seed);
        sim.history = path;
    } else {
        sim.history = self->history;
    }
    sim_cluster_run(&sim, stats);
}

static void run_seed(const void *arg, uint64_t seed, void *stats)
{
    const struct run *self = arg;

    run_one(self, seed, self->sim.trace, stats);
}

static void retrace_seed(const void *arg, uint64_t seed)
{
    struct run self = *(const struct run *)arg;
    struct sim_stats stats = {0};

    self.history = NULL; /* It is written. */
    run_one(&self, seed, true, &stats);
}

/* ---- what came of it ---- */

static void print_json(const struct sim_stats *sum, uint64_t count, uint64_t bad, double seconds)
{
    json_t *faults = json_object();

    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        (void)json_object_set_new(faults, sim_fault_name(i), json_number(sum->faults.counts[i]));
    }
    json_print(json_pack(
        "{s:b,s:o,s:o,s:o,s:f,s:f,s:f,s:o,s:o,s:{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o},s:o,s:"
        "o,s:o,s:o,s:o,s:o,s:o,s:o}",
        "holds", bad == 0, "seeds", json_number(count), "failed", json_number(bad), "cycles",
        json_number(sum->cycles), "virtual_s", (double)sum->virtual_ms / 1e3, "real_s", seconds,
        "ratio", (double)sum->virtual_ms / 1e3 / seconds, "faults", faults, "faults_sum",
        json_number(sim_faults_sum(&sum->faults)), "operations", "acknowledged",
        json_number(sum->answered), "duplicates", json_number(sum->duplicates), "unknown",
        json_number(sum->unknown), "forwarded", json_number(sum->forwarded), "reads",
        json_number(sum->reads), "cursors", json_number(sum->cursors), "conflicts",
        json_number(sum->conflicts), "altered", json_number(sum->altered), "delivered",
        json_number(sum->delivered), "entries", json_number(sum->entries), "elections",
        json_number(sum->elections), "snapshots", json_number(sum->snapshots), "installs",
        json_number(sum->installs), "compactions", json_number(sum->cleaned), "superseded",
        json_number(sum->superseded), "tombstones", json_number(sum->tombstones)));
}

static void print_faults(const struct sim_faults *faults)
{
    unsigned column = 0;

    printf("faults        %llu\n", (unsigned long long)sim_faults_sum(faults));
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (faults->counts[i] > 0) {
            printf("%s%-14s %8llu", column % 3 == 0 ? "  " : "   ", sim_fault_name(i),
                   (unsigned long long)faults->counts[i]);
            printf("%s", ++column % 3 == 0 ? "\n" : "");
        }
    }
    printf("%s", column % 3 == 0 ? "" : "\n");
}

static void print_summary(const struct sim_stats *sum, double seconds)
{
    double virtual_s = (double)sum->virtual_ms / 1e3;

    printf("virtual time  %.1f s in %.2f s, %.0f times as fast\n", virtual_s, seconds,
           virtual_s / seconds);
    printf("cycles        %llu of faults, each healed, with progress and equal copies after it\n",
           (unsigned long long)sum->cycles);
    print_faults(&sum->faults);
    printf("batches       %llu acknowledged, %llu of them duplicates of a retry; %llu outcomes "
           "unknown; %llu passed on by followers\n",
           (unsigned long long)sum->answered, (unsigned long long)sum->duplicates,
           (unsigned long long)sum->unknown, (unsigned long long)sum->forwarded);
    printf("reads         %llu, and %llu records of streams\n", (unsigned long long)sum->reads,
           (unsigned long long)sum->delivered);
    printf("cursors       %llu changed, %llu conflicts; topics altered %llu times\n",
           (unsigned long long)sum->cursors, (unsigned long long)sum->conflicts,
           (unsigned long long)sum->altered);
    printf("compaction    %llu passes took away %llu superseded records and %llu tombstones\n",
           (unsigned long long)sum->cleaned, (unsigned long long)sum->superseded,
           (unsigned long long)sum->tombstones);
    printf("inside        %llu entries, %llu elections, %llu snapshots, %llu installs, %llu holes "
           "filled\n",
           (unsigned long long)sum->entries, (unsigned long long)sum->elections,
           (unsigned long long)sum->snapshots, (unsigned long long)sum->installs,
           (unsigned long long)sum->filled);
}

static int run(const struct invocation *invocation)
{
    const char *faults = option_value(invocation, "faults");
    const char *broken = option_value(invocation, "break");
    struct run self;
    struct sim_stats sum;
    char command[256];
    struct campaign campaign = {
        .violation_exit = SIM_EXIT,
        .other_exit = SIM_EXIT_OTHER,
        .command = command,
        .stats_size = sizeof sum,
        .run = run_seed,
        .arg = &self,
    };
    double seconds;
    uint64_t bad;
    int code;

    if (faults != NULL && strcmp(faults, "help") == 0) {
        return list_faults();
    }
    if (broken != NULL && strcmp(broken, "help") == 0) {
        return list_breaks();
    }
    code = read_options(invocation, &self, &campaign);
    if (code != EXIT_OK) {
        return code;
    }
    make_command(invocation, command, sizeof command);
    campaign.retrace = self.sim.trace ? NULL : retrace_seed;
    bad = campaign_run(&campaign, &sum, &seconds);
    if (option_given(invocation, "json")) {
        print_json(&sum, campaign.count, bad, seconds);
    } else {
        print_summary(&sum, seconds);
        printf("%llu %s, %llu failed%s\n", (unsigned long long)campaign.count,
               campaign.count == 1 ? "seed" : "seeds", (unsigned long long)bad,
               bad == 0 ? ": all that is promised was kept" : "");
    }
    code = flush_output();
    if (code != EXIT_OK) {
        return code;
    }
    return (bad > 0) == campaign.until_red ? EXIT_OK : EXIT_FAILED;
}

const struct command_spec command_sim = {
    .name = "sim",
    .synopsis = "",
    .summary = "run whole clusters in one process, break them, and check what they promise",
    .details =
        "All of a node runs as in a server: state machine, logs, journal, consensus. Time, "
        "network\n"
        "and disks are simulated, and everything that happens follows from the seed: a seed that\n"
        "fails fails again, the same way. Clients produce, read, follow topics and move cursors\n"
        "through any node; nodes are killed, lose power, are cut off, meet disks that fail, fill "
        "or\n"
        "rot. Then all is healed: clients must get on and all copies become equal. What is "
        "promised\n"
        "is checked inside the nodes as it happens, and by the rules of quorlog check in the end.\n"
        "\n"
        "  quorlog sim --seed 7                       one history, a dense minute\n"
        "  quorlog sim --seed 1 --count 1000 --jobs 2 many of them\n"
        "  quorlog sim --hours 1 --history h          an hour, written down\n"
        "  quorlog sim --break no-sync --count 100 --until-red\n",
    .options = options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run,
};
