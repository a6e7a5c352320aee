#include "transport/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "transport/support.h"

enum { LIMIT = 4096 };

static struct frame_parser parser;
static struct buf wire;
static struct frame frame;
static struct err_info info;

static void setup(void)
{
    frame_parser_init(&parser, LIMIT);
    buf_init(&wire, 1 << 20);
    memset(&info, 0, sizeof info);
}

static void teardown(void)
{
    frame_parser_fini(&parser);
    buf_fini(&wire);
}

/* A prefix whose checksum is right whatever the sizes in it claim. */
static void put_prefix(uint8_t *prefix, uint32_t size, uint32_t header_size)
{
    memset(prefix, 0, FRAME_PREFIX_SIZE);
    bytes_put_u32(prefix, size);
    bytes_put_u32(prefix + 12, header_size);
    bytes_put_u32(prefix + 4, crc32c(prefix + 8, FRAME_PREFIX_SIZE - 8));
}

static enum err parse_bytes(const void *data, size_t size)
{
    struct slice bytes = {.data = data, .size = size};
    enum err err = frame_parser_parse(&parser, &bytes, &frame, &info);

    frame_parser_check(&parser);
    return err;
}

START_TEST(the_wire_format_is_the_documented_one)
{
    /* size 26, type 0x0102, flags 0x0304, header "hi", request id, body "body"; written by hand
     * from the diagram in transport.h. */
    uint8_t expected[] = {26,   0,    0,    0,    0,   0,   0,    0,    0x02, 0x01,
                          0x04, 0x03, 2,    0,    0,   0,   0x88, 0x77, 0x66, 0x55,
                          0x44, 0x33, 0x22, 0x11, 'h', 'i', 'b',  'o',  'd',  'y'};
    struct frame_out out = {.type = 0x0102,
                            .flags = 0x0304,
                            .request_id = 0x1122334455667788,
                            .header = (const uint8_t *)"hi",
                            .header_size = 2};
    uint8_t prefix[FRAME_PREFIX_SIZE];

    bytes_put_u32(expected + 4, crc32c(expected + 8, 18));
    frame_out_encode_prefix(&out, 4, prefix);
    ck_assert_mem_eq(prefix, expected, sizeof prefix);
    ck_assert_int_eq(parse_bytes(expected, sizeof expected), ERR_OK);
    ck_assert_uint_eq(frame.type, 0x0102);
    ck_assert_uint_eq(frame.flags, 0x0304);
    ck_assert_uint_eq(frame.request_id, 0x1122334455667788);
    ck_assert_uint_eq(frame.header_size, 2);
    ck_assert_mem_eq(frame.header, "hi", 2);
    ck_assert_uint_eq(frame.body_size, 4);
    ck_assert_mem_eq(frame.body, "body", 4);
    block_unref(frame.block);
}
END_TEST

START_TEST(every_header_size_leaves_the_body_aligned_and_the_block_exact)
{
    char header[] = "0123456789abcdef0";

    for (size_t size = 0; size < sizeof header; size++) {
        header[size] = '\0';
        wire.size = 0;
        append_frame(&wire, 1, size, header, "01234", 5);
        ck_assert_int_eq(parse_bytes(wire.data, wire.size), ERR_OK);
        ck_assert_uint_eq((uintptr_t)frame.body % 8, 0);
        ck_assert_uint_eq(frame.header_size, size);
        ck_assert_mem_eq(frame.header, header, size);
        ck_assert_mem_eq(frame.body, "01234", 5);
        ck_assert_uint_lt(frame.block->size, size + 5 + 8);
        ck_assert_ptr_eq(frame.body + frame.body_size, frame.block->data + frame.block->size);
        block_unref(frame.block);
        header[size] = 'x';
    }
}
END_TEST

START_TEST(a_frame_without_header_and_body_is_well_formed)
{
    append_frame(&wire, 7, 9, "", NULL, 0);
    ck_assert_uint_eq(wire.size, FRAME_PREFIX_SIZE);
    ck_assert_int_eq(parse_bytes(wire.data, wire.size), ERR_OK);
    ck_assert_uint_eq(frame.header_size + frame.body_size, 0);
    ck_assert_uint_eq(frame.type, 7);
    block_unref(frame.block);
}
END_TEST

START_TEST(a_frame_cut_at_any_byte_is_waited_for_and_then_the_same)
{
    append_frame(&wire, 3, 4, "header", "the body", 8);
    for (size_t cut = 0; cut < wire.size; cut++) {
        ck_assert_int_eq(parse_bytes(wire.data, cut), ERR_AGAIN);
        ck_assert_int_eq(parse_bytes(wire.data + cut, wire.size - cut), ERR_OK);
        ck_assert_mem_eq(frame.header, "header", 6);
        ck_assert_mem_eq(frame.body, "the body", 8);
        block_unref(frame.block);
    }
}
END_TEST

START_TEST(bytes_one_at_a_time_make_the_same_frames)
{
    unsigned frames = 0;

    append_frame(&wire, 3, 4, "header", "the body", 8);
    append_frame(&wire, 3, 5, "", "the body", 8);
    append_frame(&wire, 3, 6, "header", "", 0);
    for (size_t i = 0; i < wire.size; i++) {
        enum err err = parse_bytes(wire.data + i, 1);

        if (err == ERR_OK) {
            ck_assert_uint_eq(frame.request_id, 4 + frames);
            block_unref(frame.block);
            frames++;
        } else {
            ck_assert_int_eq(err, ERR_AGAIN);
        }
    }
    ck_assert_uint_eq(frames, 3);
}
END_TEST

START_TEST(bytes_after_a_frame_are_left_for_the_next)
{
    struct slice bytes;

    append_frame(&wire, 1, 1, "a", "b", 1);
    append_frame(&wire, 1, 2, "c", "d", 1);
    bytes = (struct slice){.data = wire.data, .size = wire.size};
    ck_assert_int_eq(frame_parser_parse(&parser, &bytes, &frame, &info), ERR_OK);
    ck_assert_uint_eq(frame.request_id, 1);
    ck_assert_uint_eq(bytes.size, wire.size / 2);
    block_unref(frame.block);
    ck_assert_int_eq(frame_parser_parse(&parser, &bytes, &frame, &info), ERR_OK);
    ck_assert_uint_eq(frame.request_id, 2);
    ck_assert_uint_eq(bytes.size, 0);
    block_unref(frame.block);
}
END_TEST

START_TEST(bytes_put_straight_into_the_block_make_the_same_frame)
{
    uint8_t *room = NULL;

    append_frame(&wire, 1, 2, "header", "0123456789", 10);
    ck_assert_uint_eq(frame_parser_room(&parser, &room), 0);
    ck_assert_int_eq(parse_bytes(wire.data, 27), ERR_AGAIN);
    for (size_t done = 27; done < wire.size; done++) {
        ck_assert_uint_eq(frame_parser_room(&parser, &room), wire.size - done);
        *room = wire.data[done];
        frame_parser_filled(&parser, 1);
        ck_assert_int_eq(parse_bytes(NULL, 0), done + 1 < wire.size ? ERR_AGAIN : ERR_OK);
    }
    ck_assert_mem_eq(frame.header, "header", 6);
    ck_assert_mem_eq(frame.body, "0123456789", 10);
    block_unref(frame.block);
}
END_TEST

START_TEST(a_size_over_the_limit_is_refused_by_its_first_four_bytes)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];

    put_prefix(prefix, UINT32_MAX, 0);
    ck_assert_int_eq(parse_bytes(prefix, 3), ERR_AGAIN);
    ck_assert_int_eq(parse_bytes(prefix + 3, 1), ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(info.text, "4294967299"));
    ck_assert_ptr_nonnull(strstr(info.text, "4096"));
    ck_assert_ptr_null(parser.block);
}
END_TEST

START_TEST(the_limit_counts_the_prefix)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];

    put_prefix(prefix, LIMIT - 4, 0);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_AGAIN);
    frame_parser_fini(&parser);
    frame_parser_init(&parser, LIMIT);
    put_prefix(prefix, LIMIT - 3, 0);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_TOO_LARGE);
}
END_TEST

START_TEST(a_new_limit_holds_from_the_next_frame_on)
{
    append_frame(&wire, 1, 1, "", "0123456789", 10);
    ck_assert_int_eq(parse_bytes(wire.data, 30), ERR_AGAIN);
    frame_parser_set_size_max(&parser, 33);
    ck_assert_int_eq(parse_bytes(wire.data + 30, 4), ERR_OK);
    block_unref(frame.block);
    ck_assert_int_eq(parse_bytes(wire.data, 30), ERR_TOO_LARGE);
}
END_TEST

START_TEST(a_size_smaller_than_the_prefix_is_refused)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];

    put_prefix(prefix, 19, 0);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_PROTOCOL);
}
END_TEST

START_TEST(a_header_larger_than_its_frame_is_refused_before_memory_is_taken)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];

    put_prefix(prefix, 20 + 10, 11);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_PROTOCOL);
    ck_assert_ptr_null(parser.block);
}
END_TEST

START_TEST(a_header_over_64_kib_is_refused_and_one_of_64_kib_is_not)
{
    uint8_t prefix[FRAME_PREFIX_SIZE];

    frame_parser_set_size_max(&parser, 1 << 20);
    put_prefix(prefix, 20 + 65536, 65536);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_AGAIN);
    frame_parser_fini(&parser);
    frame_parser_init(&parser, 1 << 20);
    put_prefix(prefix, 20 + 65537, 65537);
    ck_assert_int_eq(parse_bytes(prefix, sizeof prefix), ERR_TOO_LARGE);
    ck_assert_ptr_null(parser.block);
}
END_TEST

START_TEST(any_flipped_bit_of_prefix_or_header_is_noticed)
{
    size_t covered;

    append_frame(&wire, 3, 4, "header", "the body", 8);
    covered = FRAME_PREFIX_SIZE + strlen("header");
    for (size_t bit = 0; bit < covered * 8; bit++) {
        enum err err;

        wire.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        err = parse_bytes(wire.data, wire.size);
        /* A changed size may well be waited for: what comes then is not taken for a frame. */
        if (bit >= 32) {
            ck_assert_msg(err == ERR_CHECKSUM || err == ERR_PROTOCOL || err == ERR_TOO_LARGE,
                          "bit %zu: %s", bit, err_name(err));
        } else {
            ck_assert_msg(err != ERR_OK || frame.body_size != 8, "bit %zu", bit);
        }
        if (err == ERR_OK) {
            block_unref(frame.block);
        }
        wire.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        frame_parser_fini(&parser);
        frame_parser_init(&parser, LIMIT);
    }
}
END_TEST

START_TEST(a_wrong_checksum_is_noticed_before_the_body_is_there)
{
    append_frame(&wire, 3, 4, "header", "the body", 8);
    wire.data[FRAME_PREFIX_SIZE] ^= 1;
    ck_assert_int_eq(parse_bytes(wire.data, FRAME_PREFIX_SIZE + 5), ERR_AGAIN);
    ck_assert_int_eq(parse_bytes(wire.data + FRAME_PREFIX_SIZE + 5, 1), ERR_CHECKSUM);
}
END_TEST

START_TEST(a_body_is_not_covered_by_the_checksum)
{
    append_frame(&wire, 3, 4, "header", "the body", 8);
    wire.data[wire.size - 1] ^= 1;
    ck_assert_int_eq(parse_bytes(wire.data, wire.size), ERR_OK);
    block_unref(frame.block);
}
END_TEST

START_TEST(strangers_are_told_what_this_port_is_not)
{
    static const struct {
        const char *bytes;
        const char *text;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", "not an HTTP port"},
        {"POST /topics HTTP/1.1\r\nHost: n1\r\n", "not an HTTP port"},
        {"HEAD / HTTP/1.0\r\n", "not an HTTP port"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not an HTTP port"},
        {"\x16\x03\x01\x02\x01", "not a TLS port"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(parse_bytes(cases[i].bytes, strlen(cases[i].bytes)), ERR_TOO_LARGE);
        ck_assert_msg(strstr(info.text, cases[i].text) != NULL, "%s: %s", cases[i].bytes,
                      info.text);
        frame_parser_fini(&parser);
        frame_parser_init(&parser, LIMIT);
    }
}
END_TEST

/* Garbage of every kind: pure noise, sane sizes, sane sizes and sums, in chunks of any size. */
static size_t make_garbage(uint8_t *bytes, unsigned *seed, unsigned kind)
{
    size_t size = (size_t)rand_r(seed) % 128;

    for (size_t i = 0; i < 128; i++) {
        bytes[i] = (uint8_t)rand_r(seed);
    }
    if (kind % 4 >= 1) {
        bytes_put_u32(bytes, 20 + (uint32_t)rand_r(seed) % 100);
    }
    if (kind % 4 >= 2) {
        bytes_put_u32(bytes + 12, (uint32_t)rand_r(seed) % 64);
    }
    if (kind % 4 == 3) {
        bytes_put_u32(bytes + 4, crc32c(bytes + 8, 16 + bytes_get_u32(bytes + 12)));
    }
    return size;
}

START_TEST(garbage_ends_in_an_error_or_a_frame_and_never_takes_more_memory_than_the_limit)
{
    unsigned seed = 1;
    unsigned outcomes[3] = {0};

    for (unsigned i = 0; i < 100000; i++) {
        uint8_t bytes[128];
        size_t size = make_garbage(bytes, &seed, i);
        size_t cut = size == 0 ? 0 : (size_t)rand_r(&seed) % size;
        enum err err = parse_bytes(bytes, cut);

        if (err == ERR_AGAIN) {
            err = parse_bytes(bytes + cut, size - cut);
        }
        ck_assert_uint_le(parser.block == NULL ? 0 : parser.block->size, LIMIT);
        if (err == ERR_OK) {
            ck_assert_uint_le(frame.header_size + frame.body_size, size - FRAME_PREFIX_SIZE);
            block_unref(frame.block);
        }
        outcomes[err == ERR_OK ? 0 : err == ERR_AGAIN ? 1 : 2]++;
        frame_parser_fini(&parser);
        frame_parser_init(&parser, LIMIT);
    }
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_gt(outcomes[i], 1000);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport/frame");
    TCase *tcase = tcase_create("parse");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_wire_format_is_the_documented_one);
    tcase_add_test(tcase, every_header_size_leaves_the_body_aligned_and_the_block_exact);
    tcase_add_test(tcase, a_frame_without_header_and_body_is_well_formed);
    tcase_add_test(tcase, a_frame_cut_at_any_byte_is_waited_for_and_then_the_same);
    tcase_add_test(tcase, bytes_one_at_a_time_make_the_same_frames);
    tcase_add_test(tcase, bytes_after_a_frame_are_left_for_the_next);
    tcase_add_test(tcase, bytes_put_straight_into_the_block_make_the_same_frame);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("refuse");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_size_over_the_limit_is_refused_by_its_first_four_bytes);
    tcase_add_test(tcase, the_limit_counts_the_prefix);
    tcase_add_test(tcase, a_new_limit_holds_from_the_next_frame_on);
    tcase_add_test(tcase, a_size_smaller_than_the_prefix_is_refused);
    tcase_add_test(tcase, a_header_larger_than_its_frame_is_refused_before_memory_is_taken);
    tcase_add_test(tcase, a_header_over_64_kib_is_refused_and_one_of_64_kib_is_not);
    tcase_add_test(tcase, any_flipped_bit_of_prefix_or_header_is_noticed);
    tcase_add_test(tcase, a_wrong_checksum_is_noticed_before_the_body_is_there);
    tcase_add_test(tcase, a_body_is_not_covered_by_the_checksum);
    tcase_add_test(tcase, strangers_are_told_what_this_port_is_not);
    tcase_add_test(tcase,
                   garbage_ends_in_an_error_or_a_frame_and_never_takes_more_memory_than_the_limit);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
