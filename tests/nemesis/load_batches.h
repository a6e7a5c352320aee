/*
 * From the body of a CONSUME_REPLY to the values of its records.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_BATCHES_H
#define QUORLOG_TESTS_NEMESIS_LOAD_BATCHES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "checker/history.h"
#include "log/batch.h"

/* Called with each batch, verified. */
typedef void (*load_batch_cb)(void *arg, const struct batch_header *header, const uint8_t *body);

struct load_values {
    uint64_t values[HISTORY_VALUES_MAX];
    uint64_t offsets[HISTORY_VALUES_MAX];
    size_t count;
    uint64_t offset; /* where they begin … */
    uint64_t next;   /* … and end: not with the last one, if what lies behind is missing */
};

/* What of it a history says. */
void load_values_tell(const struct load_values *self, struct history_op *op);

/* The records from `offset` on, as many as there are or fit. A record that no value makes is 0.
 * ERR_CORRUPT with the reason when the batches do not follow on one another, or on offset. cb: NULL
 * for none. */
enum err load_batches_read(const uint8_t *body, size_t size, uint64_t offset, load_batch_cb cb,
                           void *arg, struct load_values *ret_values, struct err_info *info);

#endif
