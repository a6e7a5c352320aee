#include "base/turns.h"

#include <inttypes.h>
#include <stddef.h>
#include <sys/resource.h>

#include "base/assert.h"

enum { USAGE_NS = 1000000 }; /* so old is what is known of the thread's use of the CPU at most */

static uint64_t now_ns(const struct turns *self)
{
    return self->options.clock->monotonic_ns(self->options.clock);
}

void turns_init(struct turns *self, const struct turns_options *options)
{
    ASSERT(options->step_count > 0 && options->step_count <= TURN_STEPS_MAX);
    *self = (struct turns){.options = *options};
    for (unsigned i = 0; i < DELAYS_BUCKETS; i++) {
        atomic_init(&self->delays.counts[i], 0);
    }
    atomic_init(&self->stalls, 0);
    atomic_init(&self->longest_step, 0);
}

void turns_begin(struct turns *self)
{
    if (self != NULL && self->begun_ns == 0) {
        self->begun_ns = now_ns(self);
        self->step_ns = self->begun_ns;
        self->step = 0;
    }
}

static void close_step(struct turns *self, uint64_t at_ns)
{
    ASSERT(at_ns >= self->step_ns);
    self->steps_ns[self->step] += at_ns - self->step_ns;
    self->step_ns = at_ns;
}

unsigned turns_step(struct turns *self, unsigned step)
{
    unsigned last;

    if (self == NULL || self->begun_ns == 0) {
        return 0; /* Before the loop runs, or after it. */
    }
    ASSERT(step < self->options.step_count);
    last = self->step;
    if (step != last) {
        close_step(self, now_ns(self));
        self->step = step;
    }
    return last;
}

static struct turns_usage usage_at(uint64_t at_ns)
{
    struct rusage usage;
    int rv = getrusage(RUSAGE_THREAD, &usage);

    ASSERT(rv == 0); /* Fails only for wrong arguments. */
    return (struct turns_usage){
        .at_ns = at_ns,
        .cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                  (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec),
        .preempted = (uint64_t)usage.ru_nivcsw,
    };
}

static unsigned longest_step(const struct turns *self)
{
    unsigned longest = 0;

    for (unsigned i = 1; i < self->options.step_count; i++) {
        if (self->steps_ns[i] > self->steps_ns[longest]) {
            longest = i;
        }
    }
    return longest;
}

static void tell_stall(struct turns *self, const struct turns_usage *usage, uint64_t took_us)
{
    unsigned step = longest_step(self);

    diag_event(self->options.diag, DIAG_WARN, "base", "loop_stalled",
               "thread=%s took_us=%" PRIu64 " step=%s step_us=%" PRIu64 " cpu_us=%" PRIu64
               " preempted=%" PRIu64 " untold=%" PRIu64,
               self->options.thread, took_us, self->options.steps[step],
               self->steps_ns[step] / 1000, usage->cpu_us - self->usage.cpu_us,
               usage->preempted - self->usage.preempted, self->untold);
}

static void note_stall(struct turns *self, uint64_t at_ns, uint64_t took_us)
{
    struct turns_usage usage;

    atomic_store_explicit(&self->stalls,
                          atomic_load_explicit(&self->stalls, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (self->told_ns != 0 && at_ns - self->told_ns < (uint64_t)TURNS_TELL_MS * 1000000) {
        self->untold++;
        return;
    }
    usage = usage_at(at_ns);
    tell_stall(self, &usage, took_us);
    self->usage = usage;
    self->told_ns = at_ns;
    self->untold = 0;
}

void turns_end(struct turns *self)
{
    uint64_t at_ns;
    uint64_t took_us;

    if (self == NULL || self->begun_ns == 0) {
        return;
    }
    at_ns = now_ns(self);
    close_step(self, at_ns);
    took_us = (at_ns - self->begun_ns) / 1000;
    if (took_us > atomic_load_explicit(&self->delays.max_us, memory_order_relaxed)) {
        atomic_store_explicit(&self->longest_step, longest_step(self), memory_order_relaxed);
    }
    delays_record(&self->delays, took_us);
    if (self->options.stall_us > 0) {
        if (took_us > self->options.stall_us) {
            note_stall(self, at_ns, took_us);
        }
        if (at_ns - self->usage.at_ns >= USAGE_NS) {
            self->usage = usage_at(at_ns);
        }
    }
    for (unsigned i = 0; i < self->options.step_count; i++) {
        self->steps_ns[i] = 0;
    }
    self->begun_ns = 0;
}

void turns_read(const struct turns *self, struct turns_figures *ret_figures)
{
    unsigned step = atomic_load_explicit(&self->longest_step, memory_order_relaxed);

    delays_read(&self->delays, &ret_figures->delays);
    ret_figures->stalls = atomic_load_explicit(&self->stalls, memory_order_relaxed);
    ret_figures->longest_step = self->options.steps[step];
}

void turns_figures_add(struct turns_figures *self, const struct turns_figures *other)
{
    if (other->delays.max_us > self->delays.max_us || self->longest_step == NULL) {
        self->longest_step = other->longest_step;
    }
    delays_snapshot_add(&self->delays, &other->delays);
    self->stalls += other->stalls;
}
