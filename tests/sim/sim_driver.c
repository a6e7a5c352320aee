/*
 * sim_driver --seed N [--count K] [--jobs J] [--fifo|--reorder] [--long-stalls] [--news] [--reads]
 *            [--deaf] [--lazy] [--rules-off R5,R8] [--trace] [--stats]
 *
 * Runs the seeds N … N+K-1, each a whole history of a cluster (cluster_driver.h), in J processes. A
 * seed that fails says what was violated and how to run it again, with a trace. Exit code 0 when
 * none failed, 1 otherwise, 2 for wrong usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/campaign.h"
#include "sim/driver_cluster.h"
#include "sim/driver_rules.h"

#define U(value) ((unsigned long long)(value))

enum {
    NEWS_MS = 5,          /* as a replica has it */
    CPU_SECONDS_MAX = 60, /* of one seed, without sanitizers 0.02 */
};

struct arguments {
    struct cluster_options cluster;
    uint64_t count;
    unsigned jobs;
    bool stats;
    const char *rules; /* as given; NULL: none */
};

static void usage(void)
{
    (void)fputs(
        "usage: sim_driver --seed N [--count K] [--jobs J] [--fifo|--reorder] "
        "[--long-stalls] [--news] [--reads] [--deaf] [--lazy] [--rules-off R5,R8] [--trace] "
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

static struct arguments parse(int argc, char **argv)
{
    struct arguments self = {.count = 1, .jobs = 1};
    bool seed = false;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--seed") == 0) {
            self.cluster.seed = number(value);
            seed = true;
            i++;
        } else if (strcmp(argv[i], "--count") == 0) {
            self.count = number(value);
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            self.jobs = (unsigned)number(value);
            i++;
        } else if (strcmp(argv[i], "--rules-off") == 0) {
            self.rules = value;
            if (value == NULL || !rules_parse(value, &self.cluster.rules_off)) {
                usage();
            }
            i++;
        } else if (strcmp(argv[i], "--fifo") == 0) {
            self.cluster.reorder = false;
        } else if (strcmp(argv[i], "--reorder") == 0) {
            self.cluster.reorder = true;
        } else if (strcmp(argv[i], "--long-stalls") == 0) {
            self.cluster.long_stalls = true;
        } else if (strcmp(argv[i], "--news") == 0) {
            self.cluster.news_ms = NEWS_MS;
        } else if (strcmp(argv[i], "--reads") == 0) {
            self.cluster.reads = true;
        } else if (strcmp(argv[i], "--deaf") == 0) {
            self.cluster.deaf = true;
        } else if (strcmp(argv[i], "--lazy") == 0) {
            self.cluster.lazy = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            self.cluster.trace = true;
        } else if (strcmp(argv[i], "--stats") == 0) {
            self.stats = true;
        } else {
            usage();
        }
    }
    if (!seed || self.count == 0 || self.jobs == 0 || self.jobs > CAMPAIGN_JOBS_MAX) {
        usage();
    }
    return self;
}

static void run_seed(const void *arg, uint64_t seed, void *stats)
{
    struct cluster_options options = *(const struct cluster_options *)arg;

    options.seed = seed;
    cluster_run(&options, stats);
}

static void print_stats(const struct cluster_stats *sum, double seconds)
{
    (void)printf("seeds %llu committed %llu elections %llu crashes %llu snapshots %llu installs "
                 "%llu failed %llu changes %llu transfers %llu messages %llu proposals %llu reads "
                 "%llu lost %llu calls %llu virtual_s %llu seconds %.1f seeds/s %.1f\n",
                 U(sum->seeds), U(sum->committed), U(sum->elections), U(sum->crashes),
                 U(sum->snapshots), U(sum->installs), U(sum->install_failures), U(sum->changes),
                 U(sum->transfers), U(sum->messages), U(sum->proposals), U(sum->reads),
                 U(sum->reads_lost), U(sum->calls), U(sum->virtual_ms / 1000), seconds,
                 (double)sum->seeds / seconds);
}

int main(int argc, char **argv)
{
    const struct arguments arguments = parse(argc, argv);
    const struct cluster_options *cluster = &arguments.cluster;
    struct cluster_stats stats;
    char command[256];
    const struct campaign campaign = {
        .seed = cluster->seed,
        .count = arguments.count,
        .jobs = arguments.jobs,
        .seed_seconds = CPU_SECONDS_MAX,
        .violation_exit = ORACLE_EXIT,
        .command = command,
        .stats_size = sizeof stats,
        .run = run_seed,
        .arg = cluster,
    };
    double seconds;
    uint64_t bad;

    (void)snprintf(
        command, sizeof command, "sim_driver %s%s%s%s%s%s%s%s", /* Cut is still a hint. */
        cluster->reorder ? "--reorder" : "--fifo", cluster->long_stalls ? " --long-stalls" : "",
        cluster->news_ms > 0 ? " --news" : "", cluster->reads ? " --reads" : "",
        cluster->deaf ? " --deaf" : "", cluster->lazy ? " --lazy" : "",
        arguments.rules != NULL ? " --rules-off " : "",
        arguments.rules != NULL ? arguments.rules : "");
    bad = campaign_run(&campaign, &stats, &seconds);
    if (arguments.stats) {
        print_stats(&stats, seconds);
    }
    (void)printf("%llu seeds, %llu bad\n", U(arguments.count), U(bad));
    return bad == 0 ? 0 : 1;
}
