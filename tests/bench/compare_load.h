/*
 * One load for servers that take records, whatever system they are: so many records are under way,
 * and a new one is sent when one is acknowledged. What differs from system to system is a backend
 * of a few functions.
 *
 * As in `quorlog bench produce`, a first second does not count; then those records do that are
 * acknowledged. Latency is from handing a record to the backend to its acknowledgement.
 *
 * Invariants
 *   I1 A slot has at most one record under way, and at most `inflight` have one.
 *   I2 A number is of one record only: an answer that comes after its record was given up is
 *      known by it.
 */
#ifndef QUORLOG_BENCH_COMPARE_LOAD_H
#define QUORLOG_BENCH_COMPARE_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_INFLIGHT_MAX = 65536, LOAD_SIZE_MAX = 1 << 20, LOAD_ERROR_SIZE = 256 };

struct load;

struct load_settings {
    const char *server; /* HOST:PORT */
    const char *stream; /* what records go to: a subject, or a prefix of keys */
    size_t size;        /* bytes of a record's value, 1 … LOAD_SIZE_MAX */
    uint32_t inflight;  /* 1 … LOAD_INFLIGHT_MAX */
    uint32_t connections;
    double warmup_s;
    double seconds;
    uint32_t timeout_ms; /* a record without an answer for so long has failed */
    uint32_t
        interval_ms; /* 0: a closed loop; else a record each so many, as long as there are slots */
    bool stamps; /* prints when each acknowledged record was sent and acknowledged, nothing else */
};

struct load_backend {
    const char *system;

    /* The library's name and version. */
    void (*describe)(char *ret_text, size_t size);

    /* Connects. NULL and a text in ret_error when it could not. `settings` are borrowed until
     * close. */
    void *(*open)(const struct load_settings *settings, struct load *load, char *ret_error,
                  size_t error_size);

    /* Begins to send a record: load_answered() follows, from poll(), or never (the load then gives
     * up). The value is borrowed until the next poll() returns. False and a text when it was not
     * sent. */
    bool (*send)(void *self, uint32_t slot, uint64_t number, const uint8_t *value, char *ret_error,
                 size_t error_size);

    /* Sends what waits to be sent, and waits for answers, at most so long. False when nothing will
     * come any more. */
    bool (*poll)(void *self, uint32_t timeout_ms, char *ret_error, size_t error_size);

    /* The record in the slot is given up. May be called from poll() too. */
    void (*cancel)(void *self, uint32_t slot);

    void (*close)(void *self);
};

/* An answer to the record: error is NULL when it was acknowledged. */
void load_answered(struct load *self, uint32_t slot, uint64_t number, const char *error);

struct load_result {
    uint64_t records; /* acknowledged */
    uint64_t errors;
    double seconds;
    double p50_ms;
    double p99_ms;
    double max_ms;
    uint32_t inflight_most;           /* how many were under way at once */
    char last_error[LOAD_ERROR_SIZE]; /* empty: none */
};

/* Connects, runs for settings->seconds and closes. False and a text in ret_result->last_error when
 * it could not connect, or the connection was lost. Blocks. */
bool load_run(const struct load_settings *settings, const struct load_backend *backend,
              struct load_result *ret_result);

/* What a program that loads one kind of system is: options, one run, an object on stdout. The exit
 * code. */
int load_main(int argc, char **argv, const struct load_backend *backend);

#endif
