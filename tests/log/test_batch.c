#include "log/batch.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"

enum { BODY_SIZE = 40, SIZE = BATCH_HEADER_SIZE + BODY_SIZE, LIMIT = 1000 };

static const struct batch_header sample = {
    .size = SIZE,
    .record_count = 3,
    .base_offset = UINT64_C(0x1122334455667788),
    .raft_index = 77,
    .raft_term = 5,
    .append_time_us = -12345,
    .producer_id = 9,
    .producer_epoch = 2,
    .base_sequence = 31,
    .body_crc32c = 0xaabbccdd,
    .digest = {1, 2, 3, [31] = 32},
};

START_TEST(a_header_comes_back_as_it_was_written)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header back;

    batch_header_encode(&sample, bytes);
    ck_assert_int_eq(batch_header_decode(bytes, LIMIT, &back, NULL), ERR_OK);
    ck_assert_uint_eq(back.size, sample.size);
    ck_assert_uint_eq(back.record_count, sample.record_count);
    ck_assert_uint_eq(back.base_offset, sample.base_offset);
    ck_assert_uint_eq(back.raft_index, sample.raft_index);
    ck_assert_uint_eq(back.raft_term, sample.raft_term);
    ck_assert_int_eq(back.append_time_us, sample.append_time_us);
    ck_assert_uint_eq(back.producer_id, sample.producer_id);
    ck_assert_uint_eq(back.producer_epoch, sample.producer_epoch);
    ck_assert_uint_eq(back.base_sequence, sample.base_sequence);
    ck_assert_uint_eq(back.body_crc32c, sample.body_crc32c);
    ck_assert_mem_eq(back.digest, sample.digest, BATCH_DIGEST_SIZE);
    ck_assert_uint_eq(batch_end_offset(&back), sample.base_offset + 3);
}
END_TEST

START_TEST(fields_stand_where_the_diagram_says)
{
    uint8_t bytes[BATCH_HEADER_SIZE];

    batch_header_encode(&sample, bytes);
    ck_assert_mem_eq(bytes, "QLB1", 4);
    ck_assert_uint_eq(bytes_get_u32(bytes + 4), crc32c(bytes + 8, 96));
    ck_assert_uint_eq(bytes_get_u32(bytes + 8), SIZE);
    ck_assert_uint_eq(bytes_get_u64(bytes + 16), sample.base_offset);
    ck_assert_uint_eq(bytes_get_u64(bytes + 24), 77);
    ck_assert_uint_eq(bytes_get_u64(bytes + 32), 5);
    ck_assert_uint_eq(bytes_get_u64(bytes + 48), 9);
    ck_assert_uint_eq(bytes_get_u16(bytes + 56), 2);
    ck_assert_uint_eq(bytes_get_u32(bytes + 60), 31);
    ck_assert_uint_eq(bytes_get_u32(bytes + 64), 0xaabbccdd);
    ck_assert_uint_eq(bytes[72], 1);
    ck_assert_uint_eq(bytes[103], 32);
}
END_TEST

START_TEST(every_flipped_bit_of_a_header_is_seen)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header back;

    batch_header_encode(&sample, bytes);
    for (size_t bit = 0; bit < BATCH_HEADER_SIZE * 8; bit++) {
        struct err_info info = {0};

        bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        ck_assert_int_eq(batch_header_decode(bytes, LIMIT, &back, &info), ERR_CORRUPT);
        ck_assert_int_ne(info.text[0], '\0');
        bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    ck_assert_int_eq(batch_header_decode(bytes, LIMIT, &back, NULL), ERR_OK);
}
END_TEST

/* Sets a field and makes the checksum right again: the field itself must be refused. */
static enum err decode_with(size_t at, uint32_t value, size_t size)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header back;

    batch_header_encode(&sample, bytes);
    if (size == 2) {
        bytes_put_u16(bytes + at, (uint16_t)value);
    } else {
        bytes_put_u32(bytes + at, value);
    }
    bytes_put_u32(bytes + 4, crc32c(bytes + 8, BATCH_HEADER_SIZE - 8));
    return batch_header_decode(bytes, LIMIT, &back, NULL);
}

START_TEST(a_checksummed_header_with_a_wrong_field_is_refused)
{
    ck_assert_int_eq(decode_with(8, BATCH_HEADER_SIZE, 4), ERR_CORRUPT); /* size: no body */
    ck_assert_int_eq(decode_with(8, BATCH_HEADER_SIZE + 1, 4), ERR_OK);
    ck_assert_int_eq(decode_with(8, LIMIT, 4), ERR_OK);
    ck_assert_int_eq(decode_with(8, LIMIT + 1, 4), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(8, UINT32_MAX, 4), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(12, 0, 4), ERR_CORRUPT); /* record_count */
    ck_assert_int_eq(decode_with(58, 3, 2), ERR_CORRUPT); /* attributes: codec */
    ck_assert_int_eq(decode_with(58, 7, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(58, 0x20, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(58, 0x8000, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(58, BATCH_COMPACTED, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_with(68, 1, 4), ERR_CORRUPT); /* reserved */
}
END_TEST

START_TEST(offsets_that_overflow_are_refused)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header header = sample;
    struct batch_header back;

    header.base_offset = UINT64_MAX - header.record_count;
    batch_header_encode(&header, bytes);
    ck_assert_int_eq(batch_header_decode(bytes, LIMIT, &back, NULL), ERR_OK);
    header.base_offset += 1;
    batch_header_encode(&header, bytes);
    ck_assert_int_eq(batch_header_decode(bytes, LIMIT, &back, NULL), ERR_CORRUPT);
}
END_TEST

/* A batch as a producer sends it. */
static void produce(uint8_t batch[SIZE])
{
    memset(batch, 0, SIZE);
    memset(batch + BATCH_HEADER_SIZE, 'b', BODY_SIZE);
    bytes_put_u32(batch, BATCH_MAGIC);
    bytes_put_u32(batch + 8, SIZE);
    bytes_put_u32(batch + 12, 3);
    bytes_put_u64(batch + 48, 9);
    bytes_put_u16(batch + 56, 2);
    bytes_put_u32(batch + 60, 31);
    bytes_put_u32(batch + 64, crc32c(batch + BATCH_HEADER_SIZE, BODY_SIZE));
}

START_TEST(a_produced_batch_is_taken)
{
    uint8_t batch[SIZE];
    struct batch_header header;

    produce(batch);
    ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.record_count, 3);
    ck_assert_uint_eq(header.producer_id, 9);
    ck_assert_uint_eq(header.base_sequence, 31);
    ck_assert_int_eq(batch_check_produced(batch, SIZE, SIZE, &header, NULL), ERR_OK);
    ck_assert_int_eq(batch_check_produced(batch, SIZE, SIZE - 1, &header, NULL), ERR_TOO_LARGE);
}
END_TEST

START_TEST(a_produced_batch_of_wrong_shape_says_which_field)
{
    static const struct {
        uint8_t at;
        const char *field;
    } cases[] = {
        {0, "magic"},        {4, "header_crc32c"}, {8, "size"},       {16, "base_offset"},
        {23, "base_offset"}, {24, "raft_index"},   {32, "raft_term"}, {47, "append_time_us"},
        {58, "attributes"},  {68, "reserved"},     {72, "digest"},    {103, "digest"},
    };
    uint8_t batch[SIZE];
    struct batch_header header;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err_info info = {0};

        produce(batch);
        batch[cases[i].at] ^= 0x40;
        ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, &info), ERR_INVALID);
        ck_assert_msg(strstr(info.text, cases[i].field) != NULL, "%s", info.text);
    }
    produce(batch);
    bytes_put_u32(batch + 12, 0);
    ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, NULL), ERR_INVALID);
    for (unsigned attributes = 0; attributes < 0x100; attributes++) {
        produce(batch);
        bytes_put_u16(batch + 58, (uint16_t)attributes); /* a codec, and nothing but a codec */
        ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, NULL),
                         attributes <= BATCH_CODEC_MAX ? ERR_OK : ERR_INVALID);
    }
    produce(batch);
    bytes_put_u64(batch + 48, 0); /* an epoch and a sequence without an id */
    ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, NULL), ERR_INVALID);
    for (size_t size = 0; size < SIZE; size++) {
        produce(batch);
        ck_assert_int_eq(batch_check_produced(batch, size, LIMIT, &header, NULL), ERR_INVALID);
    }
}
END_TEST

START_TEST(a_produced_body_that_does_not_match_is_a_checksum_error)
{
    uint8_t batch[SIZE];
    struct batch_header header;

    for (size_t i = BATCH_HEADER_SIZE; i < SIZE; i++) {
        produce(batch);
        batch[i] ^= 1;
        ck_assert_int_eq(batch_check_produced(batch, SIZE, LIMIT, &header, NULL), ERR_CHECKSUM);
    }
}
END_TEST

START_TEST(a_stored_body_is_checked_against_its_header)
{
    uint8_t body[BODY_SIZE];
    struct batch_header header = sample;

    memset(body, 'x', sizeof body);
    header.body_crc32c = crc32c(body, sizeof body);
    ck_assert_int_eq(batch_check_body(&header, body, NULL), ERR_OK);
    body[BODY_SIZE - 1] ^= 0x80;
    ck_assert_int_eq(batch_check_body(&header, body, NULL), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log/batch");
    TCase *header = tcase_create("header");
    TCase *produced = tcase_create("produced");

    tcase_add_test(header, a_header_comes_back_as_it_was_written);
    tcase_add_test(header, fields_stand_where_the_diagram_says);
    tcase_add_test(header, every_flipped_bit_of_a_header_is_seen);
    tcase_add_test(header, a_checksummed_header_with_a_wrong_field_is_refused);
    tcase_add_test(header, offsets_that_overflow_are_refused);
    tcase_add_test(produced, a_produced_batch_is_taken);
    tcase_add_test(produced, a_produced_batch_of_wrong_shape_says_which_field);
    tcase_add_test(produced, a_produced_body_that_does_not_match_is_a_checksum_error);
    tcase_add_test(produced, a_stored_body_is_checked_against_its_header);
    suite_add_tcase(suite, header);
    suite_add_tcase(suite, produced);
    return runner_main(suite);
}
