/*
 * Writes down what a simulated cluster's clients asked and were told (checker/history.h), and has
 * it judged.
 *
 *   H1 of a history's: times are virtual. No two are equal: what happens in one virtual millisecond
 *   happens in an order, and a microsecond apart.
 */
#ifndef QUORLOG_SIM_RECORDER_H
#define QUORLOG_SIM_RECORDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "checker/checker.h"

enum { SIM_TOPIC_SIZE_MAX = 32 };

struct sim_recorder {
    const uint64_t *now_ms; /* borrowed */
    uint64_t last_us;
    uint32_t clients; /* numbers that were given */
    FILE *file;       /* owned; NULL: nobody wants it written */
    struct checker *checker;
    uint64_t counts[HISTORY_EVENT + 1][HISTORY_UNKNOWN + 1];
};

/* path NULL: it is only judged. Ends the process when the file cannot be written. */
void sim_recorder_init(struct sim_recorder *self, const uint64_t *now_ms, const char *path,
                       uint64_t seed);
void sim_recorder_fini(struct sim_recorder *self);

/* Another moment, after all that there were. */
uint64_t sim_recorder_us(struct sim_recorder *self);

/* A number for a client: what it sees from now on is a session. */
uint32_t sim_recorder_client(struct sim_recorder *self);

/* "topic-1#17" */
void sim_topic_text(unsigned name, uint64_t id, char ret_text[SIM_TOPIC_SIZE_MAX]);

/* An operation that is over. */
void sim_recorder_add(struct sim_recorder *self, const struct history_op *op);

/* Something was done to the cluster. */
void sim_recorder_event(struct sim_recorder *self, enum history_event event, const char *text);

/* Has all that was recorded judged; says what is wrong on stderr. `whole`: the history has come to
 * its end; else what only an end shows is left out. The rules that are violated, as
 * 1 << enum checker_rule. */
uint64_t sim_recorder_judge(struct sim_recorder *self, bool whole);

#endif
