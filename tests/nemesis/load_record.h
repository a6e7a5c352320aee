/*
 * A record and its number: each value makes one record, whose bytes all follow from it, so that
 * whoever reads the record knows which it is and whether a single bit of it is another one.
 *
 *      0             8          12         16                  size
 *      +-------------+----------+----------+-------------------+
 *      | value  u64  | size u32 | kind u32 | bytes             |   LE; kind and bytes from value
 *      +-------------+----------+----------+-------------------+
 *
 * Those of a topic that is compacted have a key in any case, one of a few, and a bit of their size
 * says so; one in five is a tombstone, which has no bytes: its timestamp is its value.
 *
 * Half of all records have bytes that compress; some have a key, a header, a timestamp.
 */
#ifndef QUORLOG_TESTS_NEMESIS_LOAD_RECORD_H
#define QUORLOG_TESTS_NEMESIS_LOAD_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"

enum {
    LOAD_RECORD_SIZE_MIN = 16,
    LOAD_RECORD_SIZE_MAX = 64 << 10,
};

/* A record with the memory that it points to. Not to be moved. */
struct load_record {
    struct record record;
    struct record_header header;
    char key[24];
    char header_value[24];
    uint8_t bytes[LOAD_RECORD_SIZE_MAX];
};

/* value > 0; size: LOAD_RECORD_SIZE_MIN … _MAX. */
void load_record_make(struct load_record *self, uint64_t value, uint32_t size);

/* The same for a topic that is compacted. */
void load_record_make_keyed(struct load_record *self, uint64_t value, uint32_t size);

/* What follows from the value of such a record: its key's number, > 0; whether it is a tombstone.
 */
uint64_t load_record_key(uint64_t value);
bool load_record_is_tombstone(uint64_t value);

/* The record's value; 0 for one that no value makes. */
uint64_t load_record_value(const struct record *record);

/* The next number of a sequence that looks like chance; *state goes on. */
uint64_t load_next_number(uint64_t *state);

#endif
