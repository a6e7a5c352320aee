/*
 * What is written down: operations, one line each in the history (checker/history.h) as they end,
 * and once a second a line of the series for plots: README.md names its members.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_RECORDER_H
#define QUORLOG_TESTS_NEMESIS_LOAD_RECORDER_H

#include <stdio.h>

#include "checker/history.h"
#include "client/client.h"

struct recorder;

/* series_path: NULL for none. ERR_IO with the reason, ERR_NOMEM. */
enum err recorder_open(const char *path, const char *series_path, struct recorder **ret_recorder,
                       struct err_info *info);

/* ERR_IO when anything was not written. */
enum err recorder_close(struct recorder *self);

/* Writes an operation that is over, and counts it; size: bytes of its records. */
void recorder_note(struct recorder *self, const struct history_op *op, uint64_t size);

/* Writes an event; topic may be NULL. */
void recorder_event(struct recorder *self, enum history_event event, const char *text);

/* Writes the line of the time since the last one. */
void recorder_second(struct recorder *self);

/* CLOCK_MONOTONIC. */
uint64_t recorder_now_us(void);

/* What the client says of a failure. "written" is OK. */
enum history_outcome recorder_outcome(const struct client_error *error);

#endif
