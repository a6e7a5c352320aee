/*
 * The turns of a thread's loop: how long each takes, from waking to waiting again, since all else
 * that the thread should do waits meanwhile; and what it was that took long.
 *
 *      waits ── begin ──► step ── step ──► … ── end ──► waits
 *
 * A turn's time is its steps': each lasts until the next one begins. Steps are numbers that the
 * owner gives names to; a turn begins with step 0. An end costs a reading of the clock, and so does
 * a beginning and a step; nothing is allocated, nobody waits.
 *
 * A turn that takes longer than stall_us is a stall: it is counted and told as an event,
 * `loop_stalled`, once in TURNS_TELL_MS at most, with the number of those that were not told. To
 * say how much of a stall was work, and how often another thread got the CPU, the kernel is asked
 * what the thread has used: once in a millisecond at most, and so they are right to a millisecond.
 */
#ifndef QUORLOG_BASE_TURNS_H
#define QUORLOG_BASE_TURNS_H

#include "base/clock.h"
#include "base/delays.h"
#include "base/diag.h"

enum { TURN_STEPS_MAX = 12, TURNS_TELL_MS = 10000 };

struct turns_options {
    const struct clock *clock; /* borrowed */
    const struct diag *diag;   /* borrowed; may be NULL */
    const char *thread;        /* borrowed, as all texts here: its name in the event */
    const char *const *steps;  /* names, at most TURN_STEPS_MAX */
    unsigned step_count;
    uint64_t stall_us; /* 0: nothing is a stall */
};

/* What the thread had used up at some moment. */
struct turns_usage {
    uint64_t at_ns;
    uint64_t cpu_us;
    uint64_t preempted; /* times */
};

struct turns {
    struct turns_options options;
    uint64_t begun_ns; /* 0: it waits */
    uint64_t step_ns;  /* when the step that is under way began */
    unsigned step;
    uint64_t steps_ns[TURN_STEPS_MAX];
    struct turns_usage usage;
    uint64_t told_ns; /* the last event; 0: none yet */
    uint64_t untold;  /* stalls since then */

    struct delays delays; /* any thread, as what follows */
    atomic_uint_fast64_t stalls;
    atomic_uint longest_step; /* of the longest turn, the step that took most of it */
};

/* What others are shown. */
struct turns_figures {
    struct delays_snapshot delays;
    uint64_t stalls;
    const char *longest_step; /* borrowed, constant */
};

void turns_init(struct turns *self, const struct turns_options *options);

/* The loop's thread; self may be NULL in each of these, and nothing is measured then. */

/* The first thing after waking. Within a turn it changes nothing: whatever may come first says it.
 */
void turns_begin(struct turns *self);

/* A step begins; returns the one that ended, so that one inside of another can give back. */
unsigned turns_step(struct turns *self, unsigned step);

/* The last thing before waiting. Nothing, where no turn was begun. */
void turns_end(struct turns *self);

/* Any thread. */
void turns_read(const struct turns *self, struct turns_figures *ret_figures);

/* Of several threads of one kind, as if they were one. */
void turns_figures_add(struct turns_figures *self, const struct turns_figures *other);

#endif
