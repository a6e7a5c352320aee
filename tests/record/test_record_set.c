#include "record/record_set.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "record.pb-c.h"

static struct buf body;
static struct record_reader reader;

static void setup(void)
{
    buf_init(&body, 1 << 20);
    record_reader_init(&reader);
}

static void teardown(void)
{
    record_reader_fini(&reader);
    buf_fini(&body);
}

static const struct record_header two_headers[] = {
    {.name = "a", .value = "1", .value_size = 1},
    {.name = "", .value = NULL, .value_size = 0},
};

static const struct record samples[] = {
    {.value = "", .value_size = 0},
    {.value = "hello", .value_size = 5},
    {.value = "v", .value_size = 1, .key = "", .key_size = 0},
    {.value = "v", .value_size = 1, .key = "key", .key_size = 3, .timestamp_us = 1},
    {.timestamp_us = -1, .headers = two_headers, .header_count = 2},
};
enum { SAMPLE_COUNT = sizeof samples / sizeof samples[0] };

static void append_samples(void)
{
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        ck_assert_int_eq(record_set_append(&body, &samples[i]), ERR_OK);
    }
}

/* ---- append ---- */

static void fill(Record__Record *to, const struct record *from)
{
    to->value.data = (uint8_t *)from->value;
    to->value.len = from->value_size;
    to->has_key = from->key != NULL;
    to->key.data = (uint8_t *)from->key;
    to->key.len = from->key_size;
    to->timestamp_us = from->timestamp_us;
}

START_TEST(bytes_are_those_of_protobuf_c)
{
    Record__RecordSet set = RECORD__RECORD_SET__INIT;
    Record__Record records[SAMPLE_COUNT];
    Record__Record *pointers[SAMPLE_COUNT];
    Record__Header headers[2] = {RECORD__HEADER__INIT, RECORD__HEADER__INIT};
    Record__Header *header_pointers[2] = {&headers[0], &headers[1]};
    uint8_t expected[256];
    size_t size;

    append_samples();
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        records[i] = (Record__Record)RECORD__RECORD__INIT;
        fill(&records[i], &samples[i]);
        pointers[i] = &records[i];
    }
    headers[0].name = "a";
    headers[0].value = (ProtobufCBinaryData){.data = (uint8_t *)"1", .len = 1};
    records[SAMPLE_COUNT - 1].headers = header_pointers;
    records[SAMPLE_COUNT - 1].n_headers = 2;
    set.records = pointers;
    set.n_records = SAMPLE_COUNT;
    size = record__record_set__get_packed_size(&set);
    ck_assert_uint_le(size, sizeof expected);
    (void)record__record_set__pack(&set, expected);
    ck_assert_uint_eq(body.size, size);
    ck_assert_mem_eq(body.data, expected, size);
}
END_TEST

START_TEST(offset_and_append_time_are_written_for_sparse_batches_alone)
{
    const struct record record = {
        .value = "v", .value_size = 1, .offset = 300, .timestamp_us = 5, .append_time_us = 9};
    Record__Record expected = RECORD__RECORD__INIT;
    uint8_t bytes[64] = {0x0a};
    size_t size;

    expected.value = (ProtobufCBinaryData){.data = (uint8_t *)"v", .len = 1};
    expected.timestamp_us = 5;
    size = record__record__pack(&expected, bytes + 2);
    bytes[1] = (uint8_t)size;
    ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    ck_assert_uint_eq(body.size, 2 + size);
    ck_assert_mem_eq(body.data, bytes, 2 + size);

    for (int64_t batch_time = 8; batch_time <= 9; batch_time++) {
        struct record back;

        body.size = 0;
        expected.offset = 300;
        expected.append_time_us = batch_time == 9 ? 0 : 9;
        size = record__record__pack(&expected, bytes + 2);
        bytes[1] = (uint8_t)size;
        ck_assert_int_eq(record_set_append_sparse(&body, &record, batch_time), ERR_OK);
        ck_assert_uint_eq(body.size, 2 + size);
        ck_assert_mem_eq(body.data, bytes, 2 + size);
        record_reader_start(&reader, body.data, body.size);
        ck_assert_int_eq(record_reader_next(&reader, &back), ERR_OK);
        ck_assert_uint_eq(back.offset, 300);
        ck_assert_int_eq(back.append_time_us, expected.append_time_us);
    }
}
END_TEST

START_TEST(value_of_each_length_around_a_varint_s_step_is_read_by_protobuf_c)
{
    static const size_t sizes[] = {1, 127, 128, 129, 16383, 16384, 70000};
    static uint8_t value[70000];

    memset(value, 7, sizeof value);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct record record = {.value = value, .value_size = sizes[i]};
        Record__RecordSet *set;

        body.size = 0;
        ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
        set = record__record_set__unpack(NULL, body.size, body.data);
        ck_assert_ptr_nonnull(set);
        ck_assert_uint_eq(set->n_records, 1);
        ck_assert_uint_eq(set->records[0]->value.len, sizes[i]);
        record__record_set__free_unpacked(set, NULL);
    }
}
END_TEST

START_TEST(record_that_does_not_fit_changes_nothing)
{
    struct record record = {.value = "0123456789", .value_size = 10};
    size_t before;

    buf_fini(&body);
    buf_init(&body, 20);
    ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    before = body.size;
    ck_assert_int_eq(record_set_append(&body, &record), ERR_TOO_LARGE);
    record.value_size = SIZE_MAX;
    ck_assert_int_eq(record_set_append(&body, &record), ERR_TOO_LARGE);
    ck_assert_uint_eq(body.size, before);
}
END_TEST

START_TEST(header_without_a_name_is_invalid)
{
    struct record_header header = {.name = NULL};
    struct record record = {.headers = &header, .header_count = 1};

    ck_assert_int_eq(record_set_append(&body, &record), ERR_INVALID);
    ck_assert_uint_eq(body.size, 0);
}
END_TEST

/* ---- next ---- */

static void check_record(const struct record *got, const struct record *want)
{
    ck_assert_uint_eq(got->value_size, want->value_size);
    if (want->value_size > 0) {
        ck_assert_mem_eq(got->value, want->value, want->value_size);
    }
    ck_assert_int_eq(got->key != NULL, want->key != NULL);
    ck_assert_uint_eq(got->key_size, want->key_size);
    ck_assert_int_eq(got->timestamp_us, want->timestamp_us);
    ck_assert_uint_eq(got->header_count, want->header_count);
    for (size_t i = 0; i < want->header_count; i++) {
        ck_assert_str_eq(got->headers[i].name, want->headers[i].name);
        ck_assert_uint_eq(got->headers[i].value_size, want->headers[i].value_size);
    }
}

START_TEST(what_was_appended_is_read)
{
    struct record record;

    append_samples();
    record_reader_start(&reader, body.data, body.size);
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        ck_assert_int_eq(record_reader_next(&reader, &record), ERR_OK);
        check_record(&record, &samples[i]);
    }
    ck_assert_int_eq(record_reader_next(&reader, &record), ERR_AGAIN);
}
END_TEST

START_TEST(many_headers_keep_their_names)
{
    struct record_header headers[100];
    char names[100][8];
    struct record record = {.headers = headers, .header_count = 100};

    for (int i = 0; i < 100; i++) {
        (void)snprintf(names[i], sizeof names[i], "n%d", i);
        headers[i] = (struct record_header){.name = names[i]};
    }
    ck_assert_int_eq(record_set_append(&body, &record), ERR_OK);
    record_reader_start(&reader, body.data, body.size);
    ck_assert_int_eq(record_reader_next(&reader, &record), ERR_OK);
    ck_assert_uint_eq(record.header_count, 100);
    ck_assert_str_eq(record.headers[0].name, "n0");
    ck_assert_str_eq(record.headers[99].name, "n99");
}
END_TEST

START_TEST(fields_of_the_future_are_skipped_and_the_last_of_two_counts)
{
    /* Field 13 as a varint, 10 as 8 bytes, 11 as 4 bytes, 12 as bytes; the value twice. */
    static const uint8_t bytes[] = {
        0x0a, 28, 0x68, 0x96, 0x01, 0x51, 1, 2, 3,    4, 5,   6,    7, 8,   0x5d,
        1,    2,  3,    4,    0x62, 2,    9, 9, 0x0a, 1, 'a', 0x0a, 2, 'b', 'c',
    };
    struct record record;

    record_reader_start(&reader, bytes, sizeof bytes);
    ck_assert_int_eq(record_reader_next(&reader, &record), ERR_OK);
    ck_assert_uint_eq(record.value_size, 2);
    ck_assert_mem_eq(record.value, "bc", 2);
    ck_assert_int_eq(record_reader_next(&reader, &record), ERR_AGAIN);
}
END_TEST

/* Walks over a copy of exactly these bytes, so that a sanitizer sees any step past them. */
static enum err walk(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    struct record record;
    enum err err;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, size);
    copy = realloc(copy, size == 0 ? 1 : size);
    ck_assert_ptr_nonnull(copy);
    record_reader_start(&reader, copy, size);
    while ((err = record_reader_next(&reader, &record)) == ERR_OK) {
        ck_assert(record.value != NULL);
    }
    free(copy);
    return err;
}

START_TEST(body_cut_anywhere_is_corrupt_or_ends_between_records)
{
    size_t between[SAMPLE_COUNT + 1] = {0};
    size_t ends = 0;

    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        ck_assert_int_eq(record_set_append(&body, &samples[i]), ERR_OK);
        between[i + 1] = body.size;
    }
    for (size_t cut = 0; cut <= body.size; cut++) {
        if (cut == between[ends]) {
            ck_assert_int_eq(walk(body.data, cut), ERR_AGAIN);
            ends++;
        } else {
            ck_assert_int_eq(walk(body.data, cut), ERR_CORRUPT);
        }
    }
    ck_assert_uint_eq(ends, SAMPLE_COUNT + 1);
}
END_TEST

START_TEST(changed_bytes_never_lead_outside)
{
    append_samples();
    for (size_t at = 0; at < body.size; at++) {
        uint8_t old = body.data[at];

        for (unsigned value = 0; value < 256; value++) {
            enum err err;

            body.data[at] = (uint8_t)value;
            err = walk(body.data, body.size);
            ck_assert(err == ERR_AGAIN || err == ERR_CORRUPT);
        }
        body.data[at] = old;
    }
}
END_TEST

START_TEST(endless_varint_is_corrupt)
{
    static const uint8_t bytes[] = {0x0a, 12,   0x40, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00};

    ck_assert_int_eq(walk(bytes, sizeof bytes), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record_set");
    TCase *append = tcase_create("append");
    TCase *next = tcase_create("next");

    tcase_add_checked_fixture(append, setup, teardown);
    tcase_add_test(append, bytes_are_those_of_protobuf_c);
    tcase_add_test(append, offset_and_append_time_are_written_for_sparse_batches_alone);
    tcase_add_test(append, value_of_each_length_around_a_varint_s_step_is_read_by_protobuf_c);
    tcase_add_test(append, record_that_does_not_fit_changes_nothing);
    tcase_add_test(append, header_without_a_name_is_invalid);
    suite_add_tcase(suite, append);
    tcase_add_checked_fixture(next, setup, teardown);
    tcase_add_test(next, what_was_appended_is_read);
    tcase_add_test(next, many_headers_keep_their_names);
    tcase_add_test(next, fields_of_the_future_are_skipped_and_the_last_of_two_counts);
    tcase_add_test(next, body_cut_anywhere_is_corrupt_or_ends_between_records);
    tcase_add_test(next, changed_bytes_never_lead_outside);
    tcase_add_test(next, endless_varint_is_corrupt);
    suite_add_tcase(suite, next);
    return runner_main(suite);
}
