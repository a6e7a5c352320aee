/*
 * A line of progress on a terminal's standard error; nothing elsewhere.
 */
#ifndef QUORLOG_CLI_PROGRESS_H
#define QUORLOG_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *verb; /* borrowed */
    bool shown;       /* stderr is a terminal */
    bool dirty;       /* a line stands there */
    uint64_t shown_ns;
    uint64_t begun_ns;
    uint64_t bytes; /* done so far */
    uint64_t rate;  /* bytes a second at most; 0: no bound */
};

void progress_begin(struct progress *self, const char *verb, uint64_t rate);

/* `bytes` more were done on `what`, which is at `done` of `total` (0: not known). Shows it now and
 * then, and sleeps where it went faster than the rate. */
void progress_add(struct progress *self, const char *what, uint64_t bytes, uint64_t done,
                  uint64_t total);

/* Removes the line. */
void progress_clear(struct progress *self);

#endif
