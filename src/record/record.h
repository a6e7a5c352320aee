/*
 * A record as programs see it, in memory: what producers give and consumers get.
 */
#ifndef QUORLOG_RECORD_RECORD_H
#define QUORLOG_RECORD_RECORD_H

#include <stddef.h>
#include <stdint.h>

struct record_header {
    const char *name;
    const void *value;
    size_t value_size;
};

struct record {
    const void *value;
    size_t value_size;
    const void *key; /* NULL: no key */
    size_t key_size;
    const struct record_header *headers;
    size_t header_count;
    int64_t timestamp_us;   /* 0: not given */
    uint64_t offset;        /* consumers only */
    int64_t append_time_us; /* consumers only */
};

#endif
