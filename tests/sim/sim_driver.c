/*
 * sim_driver --seed N [--count K] [--jobs J] [--fifo|--reorder] [--long-stalls] [--news]
 *            [--rules-off R5,R8] [--trace] [--stats] [--keep-going]
 *
 * Runs the seeds N … N+K-1, each a whole history of a cluster (cluster_driver.h), in J processes. A
 * seed that fails says what was violated and how to run it again, with a trace. Exit code 0 when
 * none failed, 1 otherwise, 2 for wrong usage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "sim/cluster_driver.h"
#include "sim/rules.h"

#define U(value) ((unsigned long long)(value))

enum {
    JOBS_MAX = 64,
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

/* What a job shares with the parent: where it is, so that a crash is known by its seed. */
struct job {
    pid_t pid;
    uint64_t seed; /* under way */
    uint64_t end;
    struct cluster_stats stats;
};

static void usage(void)
{
    (void)fputs("usage: sim_driver --seed N [--count K] [--jobs J] [--fifo|--reorder] "
                "[--long-stalls] [--news] [--rules-off R5,R8] [--trace] [--stats]\n",
                stderr);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value;

    if (text == NULL) {
        usage();
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
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
        } else if (strcmp(argv[i], "--trace") == 0) {
            self.cluster.trace = true;
        } else if (strcmp(argv[i], "--stats") == 0) {
            self.stats = true;
        } else {
            usage();
        }
    }
    if (!seed || self.count == 0 || self.jobs == 0 || self.jobs > JOBS_MAX) {
        usage();
    }
    return self;
}

static void run_job(const struct arguments *arguments, struct job *job)
{
    struct cluster_options options = arguments->cluster;

    for (; job->seed < job->end; job->seed++) {
        struct rusage used;
        struct rlimit limit;

        if (getrusage(RUSAGE_SELF, &used) == 0) {
            limit.rlim_cur = (rlim_t)used.ru_utime.tv_sec + CPU_SECONDS_MAX;
            limit.rlim_max = RLIM_INFINITY;
            (void)setrlimit(RLIMIT_CPU, &limit); /* Only a net against endless loops. */
        }
        options.seed = job->seed;
        cluster_run(&options, &job->stats);
    }
    (void)fflush(stdout); /* Nobody would hear of it. */
}

static void start_job(const struct arguments *arguments, struct job *job)
{
    pid_t pid;

    (void)fflush(NULL); /* So that nothing is printed twice. */
    pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (pid == 0) {
        run_job(arguments, job);
        exit(0); /* Not _exit: leaks are looked for at exit. */
    }
    job->pid = pid; /* The job is shared: the child must not write this. */
}

static void report(const struct arguments *arguments, const struct job *job, int status)
{
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "seed %llu: killed by signal %d\n", U(job->seed), WTERMSIG(status));
    } else if (WEXITSTATUS(status) != ORACLE_EXIT) {
        (void)fprintf(stderr, "seed %llu: exit code %d\n", U(job->seed), WEXITSTATUS(status));
    }
    (void)fprintf(stderr, "  again: sim_driver --seed %llu %s%s%s%s%s --trace\n", U(job->seed),
                  arguments->cluster.reorder ? "--reorder" : "--fifo",
                  arguments->cluster.long_stalls ? " --long-stalls" : "",
                  arguments->cluster.news_ms > 0 ? " --news" : "",
                  arguments->rules != NULL ? " --rules-off " : "",
                  arguments->rules != NULL ? arguments->rules : "");
}

static void print_stats(const struct job *jobs, unsigned count, double seconds)
{
    struct cluster_stats sum = {0};

    for (unsigned i = 0; i < count; i++) {
        uint64_t *to = (uint64_t *)&sum;
        const uint64_t *from = (const uint64_t *)&jobs[i].stats;

        for (size_t k = 0; k < sizeof sum / sizeof *to; k++) {
            to[k] += from[k];
        }
    }
    (void)printf("seeds %llu committed %llu elections %llu crashes %llu snapshots %llu installs "
                 "%llu failed %llu changes %llu transfers %llu messages %llu proposals %llu calls "
                 "%llu virtual_s %llu seconds %.1f seeds/s %.1f\n",
                 U(sum.seeds), U(sum.committed), U(sum.elections), U(sum.crashes), U(sum.snapshots),
                 U(sum.installs), U(sum.install_failures), U(sum.changes), U(sum.transfers),
                 U(sum.messages), U(sum.proposals), U(sum.calls), U(sum.virtual_ms / 1000), seconds,
                 (double)sum.seeds / seconds);
}

static double now_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* Linux always has it. */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Waits for all jobs; one that dies is continued behind the seed that killed it. */
static uint64_t wait_all(const struct arguments *arguments, struct job *jobs)
{
    unsigned running = arguments->jobs;
    uint64_t bad = 0;

    while (running > 0) {
        int status;
        pid_t pid = wait(&status);
        struct job *job = NULL;

        for (unsigned i = 0; i < arguments->jobs; i++) {
            if (jobs[i].pid == pid) {
                job = &jobs[i];
            }
        }
        if (job == NULL) {
            continue;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            running--;
            continue;
        }
        bad++;
        report(arguments, job, status);
        job->seed++;
        if (job->seed >= job->end) {
            running--;
        } else {
            start_job(arguments, job);
        }
    }
    return bad;
}

int main(int argc, char **argv)
{
    struct arguments arguments = parse(argc, argv);
    double begin = now_seconds();
    struct job *jobs = mmap(NULL, sizeof *jobs * JOBS_MAX, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t bad;

    if (jobs == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (unsigned i = 0; i < arguments.jobs; i++) {
        jobs[i].seed = arguments.cluster.seed + arguments.count * i / arguments.jobs;
        jobs[i].end = arguments.cluster.seed + arguments.count * (i + 1) / arguments.jobs;
        start_job(&arguments, &jobs[i]);
    }
    bad = wait_all(&arguments, jobs);
    if (arguments.stats) {
        print_stats(jobs, arguments.jobs, now_seconds() - begin);
    }
    (void)printf("%llu seeds, %llu bad\n", U(arguments.count), U(bad));
    return bad == 0 ? 0 : 1;
}
