/*
 * Diagnostics: one event a line, for people and for machines.
 *
 *      2026-11-22T10:00:00.123456Z INFO node=1 mod=server event=leader_changed term=7 leader=2
 *
 * Event names are constant words; values that hold spaces, quotes or control characters are
 * quoted and escaped by the caller's use of diag_quote. Library modules do not decide what is
 * logged where: they are handed a `struct diag` (may be NULL: nothing is said) and speak only of
 * what no return value can tell. Any thread.
 */
#ifndef QUORLOG_BASE_DIAG_H
#define QUORLOG_BASE_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

enum diag_level { DIAG_ERROR, DIAG_WARN, DIAG_INFO, DIAG_DEBUG };

struct diag {
    enum diag_level level;     /* Events above it are dropped. */
    uint64_t node_id;          /* 0: left out of the line. */
    const struct clock *clock; /* borrowed */
    /* Takes one whole line, newline included, in one call; called from any thread. */
    void (*write)(void *arg, const char *line, size_t size);
    void *arg;
};

/* Writes lines to stderr, each with one write(2). */
void diag_init_stderr(struct diag *self, enum diag_level level, uint64_t node_id);

/* Says one event. self may be NULL. format gives the fields, "term=%llu leader=%llu"; "" for none.
 * Lines are cut at 1 KiB. */
void diag_event(const struct diag *self, enum diag_level level, const char *module,
                const char *event, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* text in double quotes, with quotes, backslashes and control characters escaped, cut to fit
 * `size` bytes; returns buffer. */
const char *diag_quote(char *buffer, size_t size, const char *text);

/* "error", "warn", "info", "debug" → level; false for anything else. */
bool diag_level_parse(const char *text, enum diag_level *ret_level);

#endif
