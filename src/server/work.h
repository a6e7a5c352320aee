/*
 * Work that may block on the disk: done by libuv's pool of threads, at most reads_max pieces of a
 * front at a time; the rest waits in order.
 */
#ifndef QUORLOG_SERVER_WORK_H
#define QUORLOG_SERVER_WORK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct front;

/* Embedded by its owner, who must keep it until `done`. */
struct work {
    uv_work_t pool;
    struct front *front;
    struct work *prev;
    struct work *next;
    bool queued;                     /* waits for its turn */
    void (*run)(struct work *work);  /* on a thread of the pool: only what is the work's own */
    void (*done)(struct work *work); /* on the front's thread, exactly once */
};

struct works {
    unsigned under_way;
    struct work *waiting;
};

/* run and done are set by the owner. */
void work_start(struct work *self, struct front *front);

/* True when it had not begun: `done` is not called then. */
bool work_cancel(struct work *self);

#endif
