/*
 * The body of a produced batch, read by three: the server counts its records, the client walks over
 * them, and protobuf-c builds objects. Where all can, they agree; and what the client reads it
 * writes again so that it reads the same.
 *
 *      the body
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "record.pb-c.h"
#include "record/record_set.h"
#include "server/record_count.h"

/* Of fields that come with another wire type than theirs, protobuf-c takes some and the client
 * none; no encoder makes such. */
static bool is_canonical(const Record__RecordSet *objects, const uint8_t *body, size_t size)
{
    uint8_t *packed = malloc(record__record_set__get_packed_size(objects) + 1);
    bool same = objects->base.n_unknown_fields == 0;

    ASSERT(packed != NULL);
    for (size_t i = 0; i < objects->n_records; i++) {
        const Record__Record *record = objects->records[i];

        same = same && record->base.n_unknown_fields == 0;
        for (size_t k = 0; k < record->n_headers; k++) {
            same = same && record->headers[k]->base.n_unknown_fields == 0;
        }
    }
    same = record__record_set__pack(objects, packed) == size && same &&
           memcmp(packed, body, size) == 0;
    free(packed);
    return same;
}

static bool equal(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

static void compare(const struct record *record, const Record__Record *other)
{
    ASSERT(equal(record->value, record->value_size, other->value.data, other->value.len));
    ASSERT((record->key != NULL) == (other->has_key || other->key.len > 0));
    if (record->key != NULL) {
        ASSERT(equal(record->key, record->key_size, other->key.data, other->key.len));
    }
    ASSERT(record->timestamp_us == other->timestamp_us);
    ASSERT(record->header_count == other->n_headers);
    for (size_t i = 0; i < record->header_count; i++) {
        ASSERT(equal(record->headers[i].value, record->headers[i].value_size,
                     other->headers[i]->value.data, other->headers[i]->value.len));
    }
}

/* Walks over the body. objects: what protobuf-c made of it, or NULL. *ret_again: written again. */
static enum err walk(const uint8_t *body, size_t size, const Record__RecordSet *objects,
                     uint32_t *ret_count, struct buf *ret_again)
{
    struct record_reader reader;
    struct record record;
    enum err err;

    *ret_count = 0;
    buf_init(ret_again, 1 << 22);
    record_reader_init(&reader);
    record_reader_start(&reader, size > 0 ? body : (const uint8_t *)"", size);
    while ((err = record_reader_next(&reader, &record)) == ERR_OK) {
        enum err append;

        if (objects != NULL) {
            ASSERT(*ret_count < objects->n_records);
            compare(&record, objects->records[*ret_count]);
        }
        append = record_set_append(ret_again, &record);
        ASSERT(append == ERR_OK || append == ERR_INVALID); /* A header without a name. */
        if (append == ERR_INVALID) {
            record.header_count = 0;
            append = record_set_append(ret_again, &record);
            ASSERT(append == ERR_OK);
        }
        (*ret_count)++;
    }
    record_reader_fini(&reader);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t *body = fuzz_copy(&input);
    uint32_t counted = 0;
    uint32_t walked;
    uint32_t walked_again;
    enum err count_err = record_count(body, size, &counted, NULL);
    Record__RecordSet *objects = record__record_set__unpack(NULL, size, body);
    bool canonical = objects != NULL && is_canonical(objects, body, size);
    struct buf again;
    struct buf twice;
    enum err err = walk(body, size, canonical ? objects : NULL, &walked, &again);

    ASSERT(err == ERR_AGAIN || err == ERR_CORRUPT);
    if (count_err == ERR_OK && err == ERR_AGAIN) {
        ASSERT(counted == walked);
        ASSERT(record_count_check(body, size, counted, NULL) == ERR_OK);
    }
    if (canonical) {
        ASSERT(count_err == ERR_OK && objects->n_records == counted && err == ERR_AGAIN);
    }
    ASSERT(walk(again.data, again.size, NULL, &walked_again, &twice) == ERR_AGAIN);
    ASSERT(walked_again == walked && equal(again.data, again.size, twice.data, twice.size));
    buf_fini(&again);
    buf_fini(&twice);
    if (objects != NULL) {
        record__record_set__free_unpacked(objects, NULL);
    }
    free(body);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    const struct record_header headers[] = {{.name = "a", .value = "1", .value_size = 1},
                                            {.name = "b"}};
    const struct record records[] = {
        {.value = "value", .value_size = 5},
        {.key = ""},
        {.value = "v",
         .value_size = 1,
         .key = "key",
         .key_size = 3,
         .headers = headers,
         .header_count = 2,
         .timestamp_us = -1},
        {.timestamp_us = INT64_MAX},
    };
    struct buf all = {0};

    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct buf seed;
        enum err err;

        buf_init(&seed, 1024);
        err = record_set_append(&seed, &records[i]);
        ASSERT(err == ERR_OK);
        fuzz_put(&all, seed.data, seed.size);
        fuzz_emit(emit, arg, &seed);
    }
    fuzz_emit(emit, arg, &all);
}
