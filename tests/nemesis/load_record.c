#include "load_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

enum { KIND_COMPRESSIBLE = 1, KIND_KEY = 2, KIND_HEADER = 4, KIND_TIMESTAMP = 8, KIND_MASK = 15 };

enum { KEYS = 60, TOMBSTONE_PERCENT = 20 };

#define SIZE_KEYED (UINT32_C(1) << 31)

/* SplitMix64. */
uint64_t load_next_number(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t kind_of(uint64_t value)
{
    uint64_t state = value;

    return (uint32_t)load_next_number(&state) & KIND_MASK;
}

static void fill(uint8_t *bytes, uint64_t value, uint32_t size)
{
    uint32_t kind = kind_of(value);
    uint64_t state = ~value;
    uint64_t word = load_next_number(&state);

    bytes_put_u64(bytes, value);
    bytes_put_u32(bytes + 8, size);
    bytes_put_u32(bytes + 12, kind);
    for (uint32_t at = LOAD_RECORD_SIZE_MIN; at < size; at += sizeof word) {
        uint32_t left = size - at;

        memcpy(bytes + at, &word, left < sizeof word ? left : sizeof word);
        if ((kind & KIND_COMPRESSIBLE) == 0) {
            word = load_next_number(&state);
        }
    }
}

void load_record_make(struct load_record *self, uint64_t value, uint32_t size)
{
    uint32_t kind = kind_of(value);

    ASSERT(value > 0);
    ASSERT(size >= LOAD_RECORD_SIZE_MIN && size <= LOAD_RECORD_SIZE_MAX);
    fill(self->bytes, value, size);
    self->record = (struct record){.value = self->bytes, .value_size = size};
    if ((kind & KIND_KEY) != 0) {
        (void)snprintf(self->key, sizeof self->key, "key-%" PRIu64, value % 1000); /* fits */
        self->record.key = self->key;
        self->record.key_size = strlen(self->key);
    }
    if ((kind & KIND_HEADER) != 0) {
        (void)snprintf(self->header_value, sizeof self->header_value, "%" PRIu64, value);
        self->header = (struct record_header){.name = "number",
                                              .value = self->header_value,
                                              .value_size = strlen(self->header_value)};
        self->record.headers = &self->header;
        self->record.header_count = 1;
    }
    if ((kind & KIND_TIMESTAMP) != 0) {
        self->record.timestamp_us = (int64_t)(value & INT64_MAX);
    }
}

/* Others than those that the kind follows from. */
static uint64_t keyed_number(uint64_t value)
{
    uint64_t state = value ^ UINT64_C(0x5bd1e995);

    return load_next_number(&state);
}

uint64_t load_record_key(uint64_t value)
{
    return 1 + keyed_number(value) % KEYS;
}

bool load_record_is_tombstone(uint64_t value)
{
    return keyed_number(value) / KEYS % 100 < TOMBSTONE_PERCENT;
}

void load_record_make_keyed(struct load_record *self, uint64_t value, uint32_t size)
{
    load_record_make(self, value, size);
    bytes_put_u32(self->bytes + 8, size | SIZE_KEYED);
    (void)snprintf(self->key, sizeof self->key, "compacted-%" PRIu64, load_record_key(value));
    self->record.key = self->key;
    self->record.key_size = strlen(self->key);
    if (load_record_is_tombstone(value)) {
        self->record.value = NULL;
        self->record.value_size = 0;
        self->record.timestamp_us = (int64_t)(value & INT64_MAX);
    }
}

static bool same_bytes(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

static bool same_headers(const struct record *a, const struct record *b)
{
    if (a->header_count != b->header_count) {
        return false;
    }
    for (size_t i = 0; i < a->header_count; i++) {
        if (strcmp(a->headers[i].name, b->headers[i].name) != 0 ||
            !same_bytes(a->headers[i].value, a->headers[i].value_size, b->headers[i].value,
                        b->headers[i].value_size)) {
            return false;
        }
    }
    return true;
}

static bool same_record(const struct record *a, const struct record *b)
{
    return same_bytes(a->value, a->value_size, b->value, b->value_size) &&
           (a->key != NULL) == (b->key != NULL) &&
           same_bytes(a->key, a->key_size, b->key, b->key_size) && same_headers(a, b) &&
           a->timestamp_us == b->timestamp_us;
}

uint64_t load_record_value(const struct record *record)
{
    static struct load_record made; /* One thread; too large for the stack. */
    const uint8_t *bytes = record->value;
    uint64_t value;

    if (record->value_size == 0 && record->timestamp_us > 0) {
        value = (uint64_t)record->timestamp_us;
        load_record_make_keyed(&made, value, LOAD_RECORD_SIZE_MIN);
        return load_record_is_tombstone(value) && same_record(record, &made.record) ? value : 0;
    }
    if (record->value_size < LOAD_RECORD_SIZE_MIN || record->value_size > LOAD_RECORD_SIZE_MAX) {
        return 0;
    }
    value = bytes_get_u64(bytes);
    if (value == 0 || (bytes_get_u32(bytes + 8) & ~SIZE_KEYED) != record->value_size) {
        return 0;
    }
    if ((bytes_get_u32(bytes + 8) & SIZE_KEYED) != 0) {
        load_record_make_keyed(&made, value, (uint32_t)record->value_size);
    } else {
        load_record_make(&made, value, (uint32_t)record->value_size);
    }
    return same_record(record, &made.record) ? value : 0;
}
