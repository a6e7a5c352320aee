#include "sim/campaign.h"

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

#include "base/assert.h"

enum { POLL_MS = 10, SHOW_MS = 500, LINES = 40, LINE_SIZE = 160 };

/* In memory that parent and child share: the child moves seed and adds to its stats. */
struct job {
    uint64_t seed; /* under way */
    uint64_t end;
    pid_t pid; /* 0: not running; written by the parent alone */
};

struct jobs {
    struct job jobs[CAMPAIGN_JOBS_MAX];
    uint64_t stats[]; /* stats_size bytes for each job */
};

static uint64_t *stats_of(const struct campaign *self, struct jobs *jobs, unsigned number)
{
    return jobs->stats + number * (self->stats_size / sizeof(uint64_t));
}

static void run_job(const struct campaign *self, struct job *job, void *stats)
{
    for (; job->seed < job->end; job->seed++) {
        struct rusage used;
        struct rlimit limit;

        if (getrusage(RUSAGE_SELF, &used) == 0) {
            limit.rlim_cur =
                (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (rlim_t)self->seed_seconds;
            limit.rlim_max = RLIM_INFINITY;
            (void)setrlimit(RLIMIT_CPU, &limit); /* Only a net against endless loops. */
        }
        self->run(self->arg, job->seed, stats);
    }
    (void)fflush(stdout); /* Nobody would hear of it. */
}

static void start_job(const struct campaign *self, struct jobs *jobs, unsigned number)
{
    struct job *job = &jobs->jobs[number];
    pid_t pid;

    (void)fflush(NULL); /* So that nothing is printed twice. */
    pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (pid == 0) {
        run_job(self, job, stats_of(self, jobs, number));
        exit(0); /* Not _exit: leaks are looked for at exit. */
    }
    job->pid = pid;
}

static void report(const struct campaign *self, uint64_t seed, int status)
{
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "seed %llu: killed by signal %d\n", (unsigned long long)seed,
                      WTERMSIG(status));
    } else if (WEXITSTATUS(status) != self->violation_exit) {
        (void)fprintf(stderr, "seed %llu: exit code %d\n", (unsigned long long)seed,
                      WEXITSTATUS(status));
    }
    (void)fprintf(stderr, "  again: %s --seed %llu --trace\n", self->command,
                  (unsigned long long)seed);
}

/* Keeps the last lines; says what there was. */
static void show_end(FILE *from)
{
    static char lines[LINES][LINE_SIZE];
    char line[LINE_SIZE];
    uint64_t count = 0;
    bool fresh = true;

    while (fgets(line, sizeof line, from) != NULL) {
        bool whole = strchr(line, '\n') != NULL;

        if (fresh) { /* What is longer is cut. */
            line[strcspn(line, "\n")] = '\0';
            memcpy(lines[count++ % LINES], line, sizeof line);
        }
        fresh = whole;
    }
    if (count > 0) {
        (void)fprintf(stderr, "  the last things that happened (virtual milliseconds):\n");
    }
    for (uint64_t i = count > LINES ? count - LINES : 0; i < count; i++) {
        (void)fprintf(stderr, "  %s\n", lines[i % LINES]);
    }
}

/* A seed is a history: it happens again, just so. */
static void retrace(const struct campaign *self, uint64_t seed)
{
    int ends[2];
    FILE *from;
    pid_t pid;

    (void)fflush(NULL);
    if (self->retrace == NULL || pipe(ends) != 0) {
        return;
    }
    pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) < 0 || freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        (void)close(ends[0]);
        (void)close(ends[1]);
        self->retrace(self->arg, seed);
        (void)fflush(stdout);
        _exit(0);
    }
    (void)close(ends[1]);
    from = fdopen(ends[0], "r");
    if (pid > 0 && from != NULL) {
        show_end(from);
        (void)waitpid(pid, NULL, 0); /* It ends as it did. */
    }
    if (from != NULL) {
        (void)fclose(from); /* It was only read. */
    }
}

static double now_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* Linux always has it. */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void show(const struct campaign *self, const struct jobs *jobs, double seconds)
{
    uint64_t left = 0;

    for (unsigned i = 0; i < self->jobs; i++) {
        left += jobs->jobs[i].end - jobs->jobs[i].seed;
    }
    (void)fprintf(stderr, "\r%llu of %llu seeds, %.0f s, %.1f seeds/s ",
                  (unsigned long long)(self->count - left), (unsigned long long)self->count,
                  seconds, (double)(self->count - left) / seconds); /* Decoration. */
}

/* The next child that ends, and how; shows progress until one does. */
static pid_t wait_one(const struct campaign *self, const struct jobs *jobs, double begin,
                      int *ret_status)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    bool terminal = isatty(STDERR_FILENO) != 0;
    pid_t pid;

    for (unsigned rounds = 1; (pid = waitpid(-1, ret_status, terminal ? WNOHANG : 0)) == 0;
         rounds++) {
        (void)nanosleep(&pause, NULL); /* Sooner is fine. */
        if (rounds % (SHOW_MS / POLL_MS) == 0) {
            show(self, jobs, now_seconds() - begin);
        }
    }
    return pid;
}

static void stop_all(const struct campaign *self, struct jobs *jobs)
{
    for (unsigned i = 0; i < self->jobs; i++) {
        if (jobs->jobs[i].pid != 0) {
            (void)kill(jobs->jobs[i].pid, SIGKILL); /* It may have ended by itself. */
            (void)waitpid(jobs->jobs[i].pid, NULL, 0);
            jobs->jobs[i].pid = 0;
        }
    }
}

static bool is_other(const struct campaign *self, int status)
{
    return self->other_exit != 0 && WIFEXITED(status) && WEXITSTATUS(status) == self->other_exit;
}

static uint64_t wait_all(const struct campaign *self, struct jobs *jobs, double begin)
{
    unsigned running = self->jobs;
    uint64_t bad = 0;

    while (running > 0) {
        int status = 0;
        pid_t pid = wait_one(self, jobs, begin, &status);
        unsigned number = 0;
        struct job *job;

        while (number < self->jobs && jobs->jobs[number].pid != pid) {
            number++;
        }
        ASSERT(number < self->jobs); /* There are no other children. */
        job = &jobs->jobs[number];
        job->pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            running--;
            continue;
        }
        if (!is_other(self, status)) {
            report(self, job->seed, status);
            bad++;
        }
        if (bad == 1 && !is_other(self, status)) {
            retrace(self, job->seed);
        }
        job->seed++;
        if (self->until_red && bad > 0) {
            stop_all(self, jobs);
            running = 0;
        } else if (job->seed >= job->end) {
            running--;
        } else {
            start_job(self, jobs, number);
        }
    }
    return bad;
}

uint64_t campaign_run(const struct campaign *self, void *ret_stats, double *ret_seconds)
{
    size_t size = sizeof(struct jobs) + CAMPAIGN_JOBS_MAX * self->stats_size;
    double begin = now_seconds();
    struct jobs *jobs;
    uint64_t *sum = ret_stats;
    uint64_t bad;

    ASSERT(self->jobs > 0 && self->jobs <= CAMPAIGN_JOBS_MAX && self->count > 0);
    ASSERT(self->stats_size % sizeof(uint64_t) == 0);
    jobs = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (jobs == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    for (unsigned i = 0; i < self->jobs; i++) {
        jobs->jobs[i].seed = self->seed + self->count * i / self->jobs;
        jobs->jobs[i].end = self->seed + self->count * (i + 1) / self->jobs;
        start_job(self, jobs, i);
    }
    bad = wait_all(self, jobs, begin);
    memset(ret_stats, 0, self->stats_size);
    for (unsigned i = 0; i < self->jobs; i++) {
        for (size_t k = 0; k < self->stats_size / sizeof(uint64_t); k++) {
            sum[k] += stats_of(self, jobs, i)[k];
        }
    }
    (void)munmap(jobs, size); /* Cannot fail for what was mapped. */
    *ret_seconds = now_seconds() - begin;
    return bad;
}

bool campaign_number(const char *text, uint64_t *ret_number)
{
    char *end;
    unsigned long long value;

    if (text == NULL) {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        return false;
    }
    *ret_number = value;
    return true;
}
