/*
 * A waker: makes another thread's loop call a function. What uv_async does, but nobody waits for
 * anybody: there, the woken thread spins while the one that woke it is inside of its write(2), and
 * on a busy machine that one has just lost its CPU to the other.
 *
 *      any thread:  wake ── raised? ── no ──► raise, write the eventfd
 *      the loop:    readable ──► read it, lower, woken(arg)
 *
 * Invariants:
 *   I1  After every wake, woken is called once more, at least; it sees what was done before.
 */
#ifndef QUORLOG_TRANSPORT_WAKER_H
#define QUORLOG_TRANSPORT_WAKER_H

#include <stdatomic.h>
#include <uv.h>

#include "base/err.h"

struct waker {
    uv_poll_t poll;
    int fd; /* owned */
    atomic_bool raised;
    void (*woken)(void *arg);
    void (*stopped)(void *arg);
    void *arg;
};

/* From then on it may be woken, until fini. ERR_LIMIT: no descriptor is left. */
enum err waker_init(struct waker *self);
void waker_fini(struct waker *self); /* Not while started. */

/* Calls woken(arg) from the loop, where it keeps the loop running. ERR_NOMEM, ERR_IO. */
enum err waker_start(struct waker *self, uv_loop_t *loop, void (*woken)(void *arg), void *arg);

/* (the loop's thread) Calls woken no more; then, from the loop, stopped(arg). */
void waker_stop(struct waker *self, void (*stopped)(void *arg));

/* (any thread) Never blocks. What was raised before start calls once it is started; after stop it
 * changes nothing. */
void waker_wake(struct waker *self);

#endif
