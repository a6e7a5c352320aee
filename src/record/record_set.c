#include "record/record_set.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* (number << 3) | wire type; all below 128, so each is one byte. */
enum tag {
    TAG_SET_RECORD = 1 << 3 | WIRE_BYTES,
    TAG_VALUE = 1 << 3 | WIRE_BYTES,
    TAG_OFFSET = 2 << 3 | WIRE_VARINT,
    TAG_KEY = 5 << 3 | WIRE_BYTES,
    TAG_HAS_KEY = 6 << 3 | WIRE_VARINT,
    TAG_HEADER = 7 << 3 | WIRE_BYTES,
    TAG_TIMESTAMP = 8 << 3 | WIRE_VARINT,
    TAG_APPEND_TIME = 9 << 3 | WIRE_VARINT,
    TAG_HEADER_NAME = 1 << 3 | WIRE_BYTES,
    TAG_HEADER_VALUE = 2 << 3 | WIRE_BYTES,
};

/* ---- writing ---- */

static size_t varint_size(uint64_t value)
{
    size_t size = 1;

    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

static uint8_t *put_bytes(uint8_t *to, uint8_t tag, const void *data, size_t size)
{
    if (size == 0) {
        return to;
    }
    *to++ = tag;
    to = put_varint(to, size);
    memcpy(to, data, size);
    return to + size;
}

static uint8_t *put_number(uint8_t *to, uint8_t tag, uint64_t value)
{
    if (value == 0) {
        return to;
    }
    *to++ = tag;
    return put_varint(to, value);
}

static size_t number_size(uint64_t value)
{
    return value == 0 ? 0 : 1 + varint_size(value);
}

/* Of a field of bytes, which is left out when empty. */
static size_t bytes_size(size_t size)
{
    return size == 0 ? 0 : 1 + varint_size(size) + size;
}

static size_t header_size(const struct record_header *header)
{
    return bytes_size(strlen(header->name)) + bytes_size(header->value_size);
}

/* The size of the Record message; ERR_TOO_LARGE as soon as it passes size_max, so that no sum can
 * overflow. */
static enum err measure(const struct record *record, size_t size_max, size_t *ret_size)
{
    size_t size;

    if (record->value_size > size_max || record->key_size > size_max ||
        record->header_count > size_max) {
        return ERR_TOO_LARGE;
    }
    size = bytes_size(record->value_size) + number_size(record->offset) +
           number_size((uint64_t)record->timestamp_us) +
           number_size((uint64_t)record->append_time_us);
    if (record->key != NULL) {
        size += bytes_size(record->key_size) + 2;
    }
    for (size_t i = 0; i < record->header_count; i++) {
        const struct record_header *header = &record->headers[i];
        size_t one;

        if (header->name == NULL) {
            return ERR_INVALID;
        }
        if (header->value_size > size_max || strlen(header->name) > size_max) {
            return ERR_TOO_LARGE;
        }
        one = header_size(header);
        size += 1 + varint_size(one) + one;
        if (size > size_max) {
            return ERR_TOO_LARGE;
        }
    }
    if (size > size_max) {
        return ERR_TOO_LARGE;
    }
    *ret_size = size;
    return ERR_OK;
}

static uint8_t *put_record(uint8_t *to, const struct record *record)
{
    to = put_bytes(to, TAG_VALUE, record->value, record->value_size);
    to = put_number(to, TAG_OFFSET, record->offset);
    if (record->key != NULL) {
        to = put_bytes(to, TAG_KEY, record->key, record->key_size);
        *to++ = TAG_HAS_KEY;
        *to++ = 1;
    }
    for (size_t i = 0; i < record->header_count; i++) {
        const struct record_header *header = &record->headers[i];

        *to++ = TAG_HEADER;
        to = put_varint(to, header_size(header));
        to = put_bytes(to, TAG_HEADER_NAME, header->name, strlen(header->name));
        to = put_bytes(to, TAG_HEADER_VALUE, header->value, header->value_size);
    }
    to = put_number(to, TAG_TIMESTAMP, (uint64_t)record->timestamp_us);
    return put_number(to, TAG_APPEND_TIME, (uint64_t)record->append_time_us);
}

/* All of the record, offset and append time, too, where they are not 0. */
static enum err append_record(struct buf *to, const struct record *record)
{
    uint8_t *start;
    uint8_t *end;
    size_t whole;
    size_t size;
    enum err err;

    ASSERT(to->size_max <= SIZE_MAX / 8); /* Sums of a few sizes below it cannot overflow. */
    ASSERT(IMPLIES(record->value_size > 0, record->value != NULL));
    ASSERT(IMPLIES(record->header_count > 0, record->headers != NULL));
    err = measure(record, to->size_max, &size);
    if (err != ERR_OK) {
        return err;
    }
    whole = 1 + varint_size(size) + size;
    err = buf_reserve(to, whole);
    if (err != ERR_OK) {
        return err;
    }
    start = to->data + to->size;
    start[0] = TAG_SET_RECORD;
    end = put_record(put_varint(start + 1, size), record);
    ASSERT((size_t)(end - start) == whole);
    to->size += whole;
    return ERR_OK;
}

enum err record_set_append(struct buf *to, const struct record *record)
{
    struct record produced = *record;

    produced.offset = 0;
    produced.append_time_us = 0;
    return append_record(to, &produced);
}

enum err record_set_append_sparse(struct buf *to, const struct record *record,
                                  int64_t batch_append_time_us)
{
    struct record sparse = *record;

    /* 0 cannot be told from none; it would be a moment of 1970. */
    if (sparse.append_time_us == batch_append_time_us) {
        sparse.append_time_us = 0;
    }
    return append_record(to, &sparse);
}

/* ---- reading ---- */

/* One field: for WIRE_BYTES the bytes, else the number (fixed ones are only skipped). */
struct field {
    uint64_t tag;
    uint64_t number;
    const uint8_t *data;
    size_t size;
};

static inline bool get_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (*at < end && **at < 0x80) { /* Nearly all are: tags, and small sizes. */
        *ret_value = *(*at)++;
        return true;
    }
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte;

        if (*at == end) {
            return false;
        }
        byte = *(*at)++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static inline bool get_field(const uint8_t **at, const uint8_t *end, struct field *ret_field)
{
    uint64_t size = 0;
    uint64_t tag;

    if (!get_varint(at, end, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) {
        return false;
    }
    ret_field->tag = tag;
    ret_field->number = 0;
    switch (tag & 7) {
    case WIRE_VARINT:
        if (!get_varint(at, end, &ret_field->number)) {
            return false;
        }
        break;
    case WIRE_FIXED64:
        size = 8;
        break;
    case WIRE_BYTES:
        if (!get_varint(at, end, &size)) {
            return false;
        }
        break;
    case WIRE_FIXED32:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > (uint64_t)(end - *at)) {
        return false;
    }
    ret_field->data = *at;
    ret_field->size = (size_t)size;
    *at += size;
    return true;
}

static bool read_header(const struct field *from, struct field *ret_name, struct field *ret_value)
{
    const uint8_t *at = from->data;
    const uint8_t *end = from->data + from->size;
    struct field name = {.data = from->data};
    struct field value = {.data = from->data};
    struct field field;

    while (at < end) {
        if (!get_field(&at, end, &field)) {
            return false;
        }
        if (field.tag == TAG_HEADER_NAME) {
            name = field;
        } else if (field.tag == TAG_HEADER_VALUE) {
            value = field;
        }
    }
    *ret_name = name;
    *ret_value = value;
    return true;
}

static enum err reserve_headers(struct record_reader *self, size_t count)
{
    struct record_header *headers;
    size_t capacity = self->headers_capacity == 0 ? 8 : self->headers_capacity * 2;

    if (count <= self->headers_capacity) {
        return ERR_OK;
    }
    /* One at a time, and each takes at least two bytes of a batch: no overflow. */
    ASSERT(count == self->headers_capacity + 1);
    headers = realloc(self->headers, capacity * sizeof *headers);
    if (headers == NULL) {
        return ERR_NOMEM;
    }
    self->headers = headers;
    self->headers_capacity = capacity;
    return ERR_OK;
}

static enum err add_header(struct record_reader *self, const struct field *from, size_t index)
{
    struct field name;
    struct field value;
    enum err err;

    if (!read_header(from, &name, &value)) {
        return ERR_CORRUPT;
    }
    err = reserve_headers(self, index + 1);
    if (err == ERR_OK) {
        /* A zero inside the name cannot be told in C: the name ends there. */
        err = buf_append(&self->names, name.data, strnlen((const char *)name.data, name.size));
    }
    if (err == ERR_OK) {
        err = buf_append(&self->names, "", 1);
    }
    if (err != ERR_OK) {
        return ERR_NOMEM; /* names is as large as any body: it is never "too large". */
    }
    self->headers[index] = (struct record_header){.value = value.data, .value_size = value.size};
    return ERR_OK;
}

/* Only when `names` has stopped growing do the names have their places. */
static void place_names(struct record_reader *self, size_t count)
{
    const char *name = (const char *)self->names.data;

    for (size_t i = 0; i < count; i++) {
        self->headers[i].name = name;
        name += strlen(name) + 1;
    }
    ASSERT(IMPLIES(count > 0, name == (const char *)self->names.data + self->names.size));
}

static enum err read_record(struct record_reader *self, const struct field *from,
                            struct record *ret_record)
{
    const uint8_t *at = from->data;
    const uint8_t *end = from->data + from->size;
    struct record record = {.value = from->data};
    const uint8_t *key = from->data;
    struct field field;
    bool has_key = false;
    enum err err;

    self->names.size = 0;
    while (at < end) {
        if (!get_field(&at, end, &field)) {
            return ERR_CORRUPT;
        }
        switch (field.tag) {
        case TAG_VALUE:
            record.value = field.data;
            record.value_size = field.size;
            break;
        case TAG_KEY:
            key = field.data;
            record.key_size = field.size;
            break;
        case TAG_HAS_KEY:
            has_key = field.number != 0;
            break;
        case TAG_HEADER:
            err = add_header(self, &field, record.header_count);
            if (err != ERR_OK) {
                return err;
            }
            record.header_count++;
            break;
        case TAG_TIMESTAMP:
            record.timestamp_us = (int64_t)field.number;
            break;
        case TAG_OFFSET:
            record.offset = field.number;
            break;
        case TAG_APPEND_TIME:
            record.append_time_us = (int64_t)field.number;
            break;
        default:
            break;
        }
    }
    place_names(self, record.header_count);
    record.headers = record.header_count > 0 ? self->headers : NULL;
    record.key = has_key || record.key_size > 0 ? key : NULL;
    *ret_record = record;
    return ERR_OK;
}

void record_reader_init(struct record_reader *self)
{
    *self = (struct record_reader){0};
    buf_init(&self->names, SIZE_MAX / 8); /* The batch bounds what is put there. */
}

void record_reader_fini(struct record_reader *self)
{
    free(self->headers);
    self->headers = NULL;
    self->headers_capacity = 0;
    buf_fini(&self->names);
}

void record_reader_start(struct record_reader *self, const uint8_t *body, size_t size)
{
    ASSERT(body != NULL);
    self->at = body;
    self->end = body + size;
}

enum err record_reader_next(struct record_reader *self, struct record *ret_record)
{
    struct field field;

    ASSERT(self->at <= self->end);
    while (self->at < self->end) {
        if (!get_field(&self->at, self->end, &field)) {
            return ERR_CORRUPT;
        }
        if (field.tag == TAG_SET_RECORD) {
            self->raw = field.data;
            self->raw_size = field.size;
            return read_record(self, &field, ret_record);
        }
    }
    return ERR_AGAIN;
}

/* ---- copying ---- */

static bool is_given_by_log(uint64_t tag)
{
    return tag == TAG_OFFSET || tag == TAG_APPEND_TIME;
}

/* The bytes of a Record message but for what the log gives: how many there are, and where the
 * offset belongs among them, for it to stand in the order of the fields. */
static enum err measure_raw(const uint8_t *raw, size_t raw_size, size_t *ret_kept,
                            size_t *ret_offset_at)
{
    const uint8_t *at = raw;
    const uint8_t *end = raw + raw_size;
    size_t offset_at = SIZE_MAX;
    size_t kept = 0;

    while (at < end) {
        const uint8_t *begin = at;
        struct field field;

        if (!get_field(&at, end, &field)) {
            return ERR_CORRUPT;
        }
        if (is_given_by_log(field.tag)) {
            continue;
        }
        if (offset_at == SIZE_MAX && field.tag > TAG_OFFSET) {
            offset_at = kept;
        }
        kept += (size_t)(at - begin);
    }
    *ret_kept = kept;
    *ret_offset_at = offset_at < kept ? offset_at : kept;
    return ERR_OK;
}

/* After measure_raw. */
static uint8_t *put_raw(uint8_t *to, const uint8_t *raw, size_t raw_size, size_t offset_at,
                        uint64_t offset)
{
    const uint8_t *at = raw;
    const uint8_t *end = raw + raw_size;
    size_t kept = 0;

    while (at < end) {
        const uint8_t *begin = at;
        struct field field;
        bool good = get_field(&at, end, &field);

        ASSERT(good);
        if (is_given_by_log(field.tag)) {
            continue;
        }
        if (kept == offset_at) {
            to = put_number(to, TAG_OFFSET, offset);
        }
        memcpy(to, begin, (size_t)(at - begin));
        to += at - begin;
        kept += (size_t)(at - begin);
    }
    return kept == offset_at ? put_number(to, TAG_OFFSET, offset) : to;
}

enum err record_set_append_raw(struct buf *to, const uint8_t *raw, size_t raw_size, uint64_t offset,
                               int64_t append_time_us)
{
    size_t offset_at;
    uint8_t *start;
    uint8_t *end;
    size_t whole;
    size_t size;
    enum err err;

    ASSERT(to->size_max <= SIZE_MAX / 8 && raw_size <= SIZE_MAX / 8); /* No sum overflows. */
    ASSERT(raw != NULL);
    err = measure_raw(raw, raw_size, &size, &offset_at);
    if (err != ERR_OK) {
        return err;
    }
    size += number_size(offset) + number_size((uint64_t)append_time_us);
    whole = 1 + varint_size(size) + size;
    err = buf_reserve(to, whole);
    if (err != ERR_OK) {
        return err;
    }
    start = to->data + to->size;
    start[0] = TAG_SET_RECORD;
    end = put_raw(put_varint(start + 1, size), raw, raw_size, offset_at, offset);
    end = put_number(end, TAG_APPEND_TIME, (uint64_t)append_time_us);
    ASSERT((size_t)(end - start) == whole);
    to->size += whole;
    return ERR_OK;
}
