/*
 * sim_stack --seed N [--count K] [--jobs J] [--nodes 3|5] [--reads] [--cursors]
 *           [--faults LIST] [--break NAME] [--until-red] [--trace] [--stats]
 *
 * Runs the seeds N … N+K-1, each a whole history of a cluster (sim_cluster.h), in J processes. A
 * seed that fails says what was violated and how to run it again. Exit code 0 when none failed, 1
 * otherwise, 2 for wrong usage. --until-red, for broken builds: stops at the first seed that fails;
 * 0 when there is one, 1 when there is none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/campaign.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    CPU_SECONDS_MAX = 120, /* of one seed */
};

struct arguments {
    struct sim_options stack;
    uint64_t count;
    unsigned jobs;
    bool stats;
    bool until_red;
    const char *broken; /* as given; NULL: none */
};

static void usage(void)
{
    (void)fputs(
        "usage: sim_stack --seed N [--count K] [--jobs J] [--nodes 3|5] [--reads] [--cursors] "
        "[--faults LIST] [--break NAME] [--until-red] [--trace] "
        "[--stats]\n",
        stderr);
    exit(2);
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;

    if (!campaign_number(text, &value)) {
        usage();
    }
    return value;
}

static unsigned broken(const char *text)
{
    unsigned bit = 0;

    if (text == NULL || !sim_break_parse(text, &bit)) {
        usage();
    }
    return bit;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments self = {.stack = {.faults = SIM_FAULTS_ALL}, .count = 1, .jobs = 1};
    bool seed = false;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--trace") == 0) {
            self.stack.trace = true;
            continue;
        }
        if (strcmp(argv[i], "--stats") == 0) {
            self.stats = true;
            continue;
        }
        if (strcmp(argv[i], "--until-red") == 0) {
            self.until_red = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            self.stack.seed = number(value);
            seed = true;
        } else if (strcmp(argv[i], "--count") == 0) {
            self.count = number(value);
        } else if (strcmp(argv[i], "--jobs") == 0) {
            self.jobs = (unsigned)number(value);
        } else if (strcmp(argv[i], "--nodes") == 0) {
            self.stack.nodes = (unsigned)number(value);
        } else if (strcmp(argv[i], "--faults") == 0) {
            if (value == NULL || sim_faults_parse(value, &self.stack.faults, NULL) != ERR_OK) {
                usage();
            }
        } else if (strcmp(argv[i], "--break") == 0) {
            self.broken = value;
            self.stack.broken = broken(value);
        } else {
            usage();
        }
        i++;
    }
    if (!seed || self.count == 0 || self.jobs == 0 || self.jobs > CAMPAIGN_JOBS_MAX ||
        (self.stack.nodes != 0 && self.stack.nodes != 3 && self.stack.nodes != 5)) {
        usage();
    }
    return self;
}

static void run_seed(const void *arg, uint64_t seed, void *stats)
{
    struct sim_options options = *(const struct sim_options *)arg;

    options.seed = seed;
    sim_cluster_run(&options, stats);
}

static void print_stats(const struct sim_stats *sum, double seconds)
{
    (void)printf("reads %llu lost %llu ", U(sum->reads), U(sum->reads_lost));
    (void)printf("seeds %llu answered %llu duplicates %llu unknown %llu cursors %llu conflicts "
                 "%llu entries %llu elections "
                 "%llu kills %llu power losses %llu deaths in calls %llu failed calls %llu "
                 "snapshots %llu installs %llu holes filled %llu chunks refused %llu fillings "
                 "dropped %llu resigned %llu damaged %llu messages %llu virtual_s %llu "
                 "seconds %.1f seeds/s %.2f\n",
                 U(sum->seeds), U(sum->answered), U(sum->duplicates), U(sum->unknown),
                 U(sum->cursors), U(sum->conflicts), U(sum->entries), U(sum->elections),
                 U(sum->kills), U(sum->power_losses), U(sum->deaths), U(sum->failed_calls),
                 U(sum->snapshots), U(sum->installs), U(sum->filled), U(sum->refused),
                 U(sum->dropped), U(sum->resigned), U(sum->damaged), U(sum->messages),
                 U(sum->virtual_ms / 1000), seconds, (double)sum->seeds / seconds);
    (void)printf("faults %llu:", U(sim_faults_sum(&sum->faults)));
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        (void)printf(" %s %llu", sim_fault_name(i), U(sum->faults.counts[i]));
    }
    (void)putchar('\n');
}

int main(int argc, char **argv)
{
    const struct arguments arguments = parse(argc, argv);
    const struct sim_options *stack = &arguments.stack;
    struct sim_stats stats;
    char command[256];
    const struct campaign campaign = {
        .seed = stack->seed,
        .count = arguments.count,
        .jobs = arguments.jobs,
        .until_red = arguments.until_red,
        .seed_seconds = CPU_SECONDS_MAX,
        .violation_exit = SIM_EXIT,
        .command = command,
        .stats_size = sizeof stats,
        .run = run_seed,
        .arg = stack,
    };
    double seconds;
    uint64_t bad;

    (void)snprintf(command, sizeof command, "sim_stack%s%s%s%s%s", /* Cut is still a hint. */
                   stack->nodes == 3   ? " --nodes 3"
                   : stack->nodes == 5 ? " --nodes 5"
                                       : "",
                   "", "",
                   arguments.broken != NULL ? " --break " : "",
                   arguments.broken != NULL ? arguments.broken : "");
    bad = campaign_run(&campaign, &stats, &seconds);
    if (arguments.stats) {
        print_stats(&stats, seconds);
    }
    if (arguments.until_red) {
        return bad > 0 ? 0 : 1;
    }
    (void)printf("%llu seeds, %llu bad\n", U(arguments.count), U(bad));
    return bad == 0 ? 0 : 1;
}
