/*
 * sim_stack --seed N [--count K] [--jobs J] [--nodes 3|5] [--break ack-early|no-dedup|no-sync|
 *           ballot] [--until-red] [--trace] [--stats]
 *
 * Runs the seeds N … N+K-1, each a whole history of a cluster (cluster_stack.h), in J processes. A
 * seed that fails says what was violated and how to run it again. Exit code 0 when none failed, 1
 * otherwise, 2 for wrong usage. --until-red, for broken builds: stops at the first seed that fails;
 * 0 when there is one, 1 when there is none.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/cluster_stack.h"

#define U(value) ((unsigned long long)(value))

enum {
    JOBS_MAX = 64,
    CPU_SECONDS_MAX = 120, /* of one seed */
};

struct arguments {
    struct stack_options stack;
    uint64_t count;
    unsigned jobs;
    bool stats;
    bool until_red;
    const char *broken; /* as given; NULL: none */
};

/* What a job shares with the parent: where it is, so that a crash is known by its seed. */
struct job {
    pid_t pid; /* 0: has ended */
    uint64_t seed;
    uint64_t end;
    struct stack_stats stats;
};

static void usage(void)
{
    (void)fputs("usage: sim_stack --seed N [--count K] [--jobs J] [--nodes 3|5] "
                "[--break ack-early|no-dedup|no-sync|ballot] [--until-red] [--trace] [--stats]\n",
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

static unsigned broken(const char *text)
{
    static const struct {
        const char *name;
        enum stack_break bit;
    } names[] = {
        {"ack-early", STACK_BREAK_ACK_EARLY},
        {"no-dedup", STACK_BREAK_NO_DEDUP},
        {"no-sync", STACK_BREAK_NO_SYNC},
        {"ballot", STACK_BREAK_BALLOT},
    };

    for (size_t i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].name) == 0) {
            return names[i].bit;
        }
    }
    usage();
    return 0;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments self = {.count = 1, .jobs = 1};
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
        } else if (strcmp(argv[i], "--break") == 0) {
            self.broken = value;
            self.stack.broken = broken(value);
        } else {
            usage();
        }
        i++;
    }
    if (!seed || self.count == 0 || self.jobs == 0 || self.jobs > JOBS_MAX ||
        (self.stack.nodes != 0 && self.stack.nodes != 3 && self.stack.nodes != 5)) {
        usage();
    }
    return self;
}

static void run_job(const struct arguments *arguments, struct job *job)
{
    struct stack_options options = arguments->stack;

    for (; job->seed < job->end; job->seed++) {
        struct rusage used;
        struct rlimit limit;

        if (getrusage(RUSAGE_SELF, &used) == 0) {
            limit.rlim_cur = (rlim_t)used.ru_utime.tv_sec + CPU_SECONDS_MAX;
            limit.rlim_max = RLIM_INFINITY;
            (void)setrlimit(RLIMIT_CPU, &limit); /* Only a net against endless loops. */
        }
        options.seed = job->seed;
        cluster_stack_run(&options, &job->stats);
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
    } else if (WEXITSTATUS(status) != STACK_EXIT) {
        (void)fprintf(stderr, "seed %llu: exit code %d\n", U(job->seed), WEXITSTATUS(status));
    }
    (void)fprintf(stderr, "  again: sim_stack --seed %llu", U(job->seed));
    if (arguments->stack.nodes != 0) {
        (void)fprintf(stderr, " --nodes %u", arguments->stack.nodes);
    }
    (void)fprintf(stderr, "%s%s --trace\n", arguments->broken != NULL ? " --break " : "",
                  arguments->broken != NULL ? arguments->broken : "");
}

static void print_stats(const struct job *jobs, unsigned count, double seconds)
{
    struct stack_stats sum = {0};

    for (unsigned i = 0; i < count; i++) {
        uint64_t *to = (uint64_t *)&sum;
        const uint64_t *from = (const uint64_t *)&jobs[i].stats;

        for (size_t k = 0; k < sizeof sum / sizeof *to; k++) {
            to[k] += from[k];
        }
    }
    (void)printf("seeds %llu answered %llu duplicates %llu unknown %llu entries %llu elections "
                 "%llu kills %llu power losses %llu deaths in calls %llu failed calls %llu "
                 "snapshots %llu installs %llu abandoned %llu messages %llu virtual_s %llu "
                 "seconds %.1f seeds/s %.2f\n",
                 U(sum.seeds), U(sum.answered), U(sum.duplicates), U(sum.unknown), U(sum.entries),
                 U(sum.elections), U(sum.kills), U(sum.power_losses), U(sum.deaths),
                 U(sum.failed_calls), U(sum.snapshots), U(sum.installs), U(sum.abandoned),
                 U(sum.messages), U(sum.virtual_ms / 1000), seconds, (double)sum.seeds / seconds);
}

static double now_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* Linux always has it. */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop_all(struct job *jobs, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (jobs[i].pid != 0) {
            (void)kill(jobs[i].pid, SIGKILL); /* It may have ended by itself. */
            (void)waitpid(jobs[i].pid, NULL, 0);
            jobs[i].pid = 0;
        }
    }
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
        job->pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            running--;
            continue;
        }
        bad++;
        report(arguments, job, status);
        job->seed++;
        if (arguments->until_red) {
            stop_all(jobs, arguments->jobs);
            running = 0;
        } else if (job->seed >= job->end) {
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
        jobs[i].seed = arguments.stack.seed + arguments.count * i / arguments.jobs;
        jobs[i].end = arguments.stack.seed + arguments.count * (i + 1) / arguments.jobs;
        start_job(&arguments, &jobs[i]);
    }
    bad = wait_all(&arguments, jobs);
    if (arguments.stats) {
        print_stats(jobs, arguments.jobs, now_seconds() - begin);
    }
    if (arguments.until_red) {
        return bad > 0 ? 0 : 1;
    }
    (void)printf("%llu seeds, %llu bad\n", U(arguments.count), U(bad));
    return bad == 0 ? 0 : 1;
}
