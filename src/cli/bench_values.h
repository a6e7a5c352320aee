/*
 * The values of the records of a load: bytes of chance that do not compress, or words that do. Made
 * once; a record's value is some of them.
 */
#ifndef QUORLOG_CLI_BENCH_VALUES_H
#define QUORLOG_CLI_BENCH_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_values {
    uint8_t *bytes;  /* owned */
    uint64_t size;   /* of a value */
    uint64_t places; /* where one may begin */
    uint8_t *room;   /* owned: a value with other bytes in front */
};

void bench_values_init(struct bench_values *self, uint64_t size, bool words);
void bench_values_fini(struct bench_values *self);

/* The value of record `number`: size bytes, borrowed until fini. */
const uint8_t *bench_values_get(const struct bench_values *self, uint64_t number);

/* The same with other bytes in front, borrowed until the next call. */
const uint8_t *bench_values_with(struct bench_values *self, uint64_t number, const void *front,
                                 size_t front_size);

#endif
