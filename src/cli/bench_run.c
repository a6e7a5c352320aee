#include "cli/bench_run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/bench_report.h"
#include "cli/bench_topics.h"
#include "cli/caller.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

enum { TICK_MS = 50, SHOW_MS = 1000 };

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

static uint64_t own_cpu_us(void)
{
    struct rusage usage = {0};
    int rv = getrusage(RUSAGE_SELF, &usage);

    ASSERT(rv == 0);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static bool is_open_loop(const struct bench *self)
{
    return self->options->load.rate > 0;
}

/* ---- Ctrl-C ---- */

static void on_interrupt(uv_signal_t *handle, int number)
{
    struct bench *self = handle->data;

    (void)number; /* SIGINT */
    self->interrupts++;
    if (self->interrupts > 1) {
        (void)uv_signal_stop(handle); /* Never fails. The next one ends the process. */
    }
}

static void watch_interrupt(struct bench *self)
{
    struct sigaction action;

    if (sigaction(SIGINT, NULL, &action) != 0 || action.sa_handler == SIG_IGN) {
        return; /* In the background of a shell without job control: it stays ignored. */
    }
    if (uv_signal_init(client_loop(self->control), &self->interrupt) != 0) {
        return; /* No descriptors left: Ctrl-C then ends us without figures. */
    }
    self->interrupt.data = self;
    self->watching = true;
    (void)uv_signal_start(&self->interrupt, on_interrupt, SIGINT); /* As above. */
}

/* ---- turns ---- */

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* Only wakes the loop. */
}

/* A line on a terminal, once a second: what happened in that time. */
static void show(struct bench *self, uint64_t until_ns)
{
    uint64_t now = now_ns();
    const struct bench_moment moment = {
        .seconds = (double)(now - self->shown_ns) / 1e9,
        .left_s = until_ns > now ? (until_ns - now + NS_PER_S - 1) / NS_PER_S : 0,
        .records = self->load.acknowledged - self->shown_count,
        .deliveries = self->follow.delivered - self->shown_streams,
        .warming = self->first_ns == 0,
        .draining = self->last_ns != 0,
    };

    if (!self->load.watched || now - self->shown_ns < SHOW_MS * NS_PER_MS) {
        return;
    }
    bench_report_moment(self, &moment);
    self->shown_ns = now;
    self->shown_count = self->load.acknowledged;
    self->shown_streams = self->follow.delivered;
    self->load.recent = (struct histogram){0};
}

static void turn(struct bench *self, uint64_t until_ns)
{
    (void)uv_run(client_loop(self->control), UV_RUN_ONCE); /* The ticker keeps it alive. */
    load_advance(&self->load);
    show(self, until_ns);
}

static bool has_failed(const struct bench *self)
{
    return self->load.failure[0] != '\0';
}

static void run_until(struct bench *self, uint64_t until_ns)
{
    while (!has_failed(self) && self->interrupts == 0 && now_ns() < until_ns) {
        turn(self, until_ns);
    }
}

/* Answers are there, and in an open loop all that was due, wherever it was to come. */
static bool is_over(const struct bench *self)
{
    if (!self->before.done || !self->after.done) {
        return false;
    }
    return !is_open_loop(self) ||
           (load_is_settled(&self->load) &&
            (!self->options->end_to_end || follow_is_complete(&self->follow)));
}

static void drain(struct bench *self)
{
    uint64_t until_ns = now_ns() + BENCH_DRAIN_S * NS_PER_S;
    unsigned interrupts = self->interrupts;

    if (is_open_loop(self)) {
        load_end(&self->load);
    }
    while (!has_failed(self) && self->interrupts == interrupts && !is_over(self) &&
           now_ns() < until_ns) {
        turn(self, until_ns);
    }
    if (!is_open_loop(self)) {
        load_end(&self->load);
    }
}

/* ---- the run ---- */

static int wait_placed(struct bench *self)
{
    uint64_t until_ns = now_ns() + self->options->load.timeout_ms * NS_PER_MS;
    struct follow *follow = &self->follow;

    while (!follow_is_placed(follow) && follow->ended == 0 && self->interrupts == 0 &&
           now_ns() < until_ns) {
        turn(self, until_ns);
    }
    if (follow->ended > 0) {
        return fail("a stream cannot be followed: %s", follow->reason);
    }
    if (self->interrupts > 0) {
        return fail("interrupted before anything was measured");
    }
    return follow_is_placed(follow)
               ? EXIT_OK
               : fail("%llu of %llu streams could not be opened in %llu ms",
                      (unsigned long long)(self->options->follow.streams - follow->placed),
                      (unsigned long long)self->options->follow.streams,
                      (unsigned long long)self->options->load.timeout_ms);
}

static void measure(struct bench *self)
{
    cost_ask(&self->before, self->control, &self->load.acknowledged);
    self->own_cpu_us = own_cpu_us();
    self->first_ns = now_ns();
    self->load.begin_ns = self->first_ns;
    self->load.measuring = true;
    self->follow.measuring = true;
    run_until(self, is_open_loop(self) ? pace_planned_ns(&self->load.pace, self->load.pace.total)
                                       : self->first_ns + self->options->load.seconds * NS_PER_S);
    self->load.measuring = false;
    self->follow.measuring = false;
    self->last_ns = now_ns();
    self->own_cpu_us = own_cpu_us() - self->own_cpu_us;
    self->behind_ns = is_open_loop(self) ? load_behind_ns(&self->load) : 0;
    cost_ask(&self->after, self->control, &self->load.acknowledged);
    drain(self);
    load_settle(&self->load);
    if (self->options->end_to_end) {
        follow_settle(&self->follow);
    }
}

/* What there is to say, and whether all went well. */
static int conclude(const struct bench *self)
{
    const struct load *load = &self->load;
    const struct follow *follow = &self->follow;

    if (load->records == 0 && load->tally.fates[TALLY_ACKNOWLEDGED] == 0) {
        return fail("no record was acknowledged in %.1f s%s%s",
                    (double)(self->last_ns - self->first_ns) / 1e9,
                    load->reason[0] != '\0' ? "; the last failure: " : "", load->reason);
    }
    bench_report(self);
    if (load->errors.total > 0) {
        return fail("%llu records failed; the last one: %s", (unsigned long long)load->errors.total,
                    load->reason);
    }
    if (follow->ended > 0) {
        return fail("%llu streams ended; the last one: %s", (unsigned long long)follow->ended,
                    follow->reason);
    }
    if (follow->missing > 0) {
        return fail("%llu acknowledged records had not been delivered to a stream %d s after the "
                    "end",
                    (unsigned long long)follow->missing, BENCH_DRAIN_S);
    }
    return EXIT_OK;
}

static int run(struct bench *self)
{
    struct err_info info = {.text = ""};
    uint64_t begin_ns;
    int code = EXIT_OK;

    if (load_open(&self->load, &self->options->load, client_loop(self->control), &info) != ERR_OK) {
        return fail("a connection cannot be made: %s (ulimit -n bounds their number)", info.text);
    }
    if (self->options->end_to_end) {
        if (follow_open(&self->follow, &self->options->follow, &self->load, &info) != ERR_OK) {
            return fail("a stream cannot be opened: %s (ulimit -n bounds connections)", info.text);
        }
        code = wait_placed(self);
    }
    if (code != EXIT_OK) {
        return code;
    }
    self->load.watched = isatty(STDERR_FILENO) == 1;
    self->shown_ns = now_ns();
    load_start(&self->load);
    begin_ns = is_open_loop(self) ? self->load.pace.begin_ns : now_ns();
    run_until(self, begin_ns + BENCH_WARM_S * NS_PER_S);
    if (!has_failed(self) && self->interrupts == 0) {
        measure(self);
    }
    bench_report_clear(self);
    if (has_failed(self)) {
        return fail("%s", self->load.failure);
    }
    return self->last_ns != 0 ? conclude(self) : fail("interrupted before anything was measured");
}

/* Many connections want many descriptors. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* Else what is missed is told when it is. */
    }
}

static void close_all(struct bench *self)
{
    follow_close(&self->follow);
    load_close(&self->load);
    uv_close((uv_handle_t *)&self->ticker, NULL);
    if (self->watching) {
        uv_close((uv_handle_t *)&self->interrupt, NULL);
    }
    caller_close(self->control); /* Runs the loop until all of it is closed. */
    follow_fini(&self->follow);
    load_fini(&self->load);
}

int bench_run(const struct bench_options *options, struct client *control)
{
    struct bench *self = calloc(1, sizeof *self);
    struct bench_options with_token = *options;
    int code;
    int rv;

    ASSERT(self != NULL);
    self->options = &with_token;
    self->control = control;
    self->load.timer = -1;
    raise_file_limit();
    rv = uv_timer_init(client_loop(control), &self->ticker);
    ASSERT(rv == 0);                                                /* Cannot fail. */
    (void)uv_timer_start(&self->ticker, on_tick, TICK_MS, TICK_MS); /* As above. */
    code = bench_topics_create(control, options->load.topic, options->load.topics,
                               &with_token.follow.token);
    if (code == EXIT_OK) {
        watch_interrupt(self);
        code = run(self);
    }
    close_all(self);
    free(self);
    return code;
}
