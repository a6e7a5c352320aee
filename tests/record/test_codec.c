#include "record/codec.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/runner.h"

static const enum codec codecs[] = {CODEC_LZ4, CODEC_ZSTD};
enum { CODEC_COUNT = sizeof codecs / sizeof codecs[0], LIMIT = 8 << 20 };

static struct buf packed;
static struct buf plain;
static struct err_info info;

static void setup(void)
{
    buf_init(&packed, 64 << 20);
    buf_init(&plain, 64 << 20);
}

static void teardown(void)
{
    buf_fini(&packed);
    buf_fini(&plain);
}

/* Bytes that shrink a little, the same on each run. */
static void fill(uint8_t *to, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * UINT32_C(1664525) + UINT32_C(1013904223);
        to[i] = (i & 16) != 0 ? to[i - 16] : (uint8_t)(seed >> 24);
    }
}

static void pack(enum codec codec, const void *data, size_t size)
{
    packed.size = 0;
    ck_assert_int_eq(codec_compress(codec, data, size, &packed, &info), ERR_OK);
}

/* Decompresses a copy of exactly these bytes, so that a sanitizer sees any step past them. What
 * fails must change nothing. */
static enum err unpack(enum codec codec, const void *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    enum err err;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, size);
    plain.size = 0;
    memset(&info, 0, sizeof info);
    ck_assert_int_eq(buf_append(&plain, "before", 6), ERR_OK);
    err = codec_decompress(codec, copy, size, LIMIT, &plain, &info);
    if (err != ERR_OK) {
        ck_assert_uint_eq(plain.size, 6);
        ck_assert_msg(info.text[0] != '\0' && info.code == err, "no text");
    }
    ck_assert_mem_eq(plain.data, "before", 6);
    free(copy);
    return err;
}

START_TEST(names_and_codecs_belong_together)
{
    enum codec codec = CODEC_NONE;

    for (int i = CODEC_NONE; i <= CODEC_ZSTD; i++) {
        ck_assert(codec_parse(codec_name((enum codec)i), &codec));
        ck_assert_int_eq((int)codec, i);
    }
    ck_assert_str_eq(codec_name(CODEC_LZ4), "lz4");
    ck_assert_ptr_null(codec_name((enum codec)3));
    ck_assert_ptr_null(codec_name((enum codec)7));
    ck_assert(!codec_parse("", &codec));
    ck_assert(!codec_parse("LZ4", &codec));
    ck_assert(!codec_parse("lz4 ", &codec));
}
END_TEST

START_TEST(what_was_compressed_comes_back)
{
    static const size_t sizes[] = {1, 2, 3, 100, 65535, 65536, 65537, 300000, 5 << 20};
    uint8_t *data = malloc(5 << 20);

    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t size = 0;

        fill(data, sizes[i], (uint32_t)i);
        pack(codecs[_i], data, sizes[i]);
        ck_assert_int_eq(codec_plain_size(codecs[_i], packed.data, packed.size, &size, NULL),
                         ERR_OK);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_OK);
        ck_assert_uint_eq(plain.size, 6 + sizes[i]);
        ck_assert_mem_eq(plain.data + 6, data, sizes[i]);
    }
    ck_assert_uint_lt(packed.size, 5 << 20);
    free(data);
}
END_TEST

START_TEST(compressed_bytes_are_appended)
{
    pack(codecs[_i], "abc", 3);
    ck_assert_int_eq(codec_compress(codecs[_i], "abc", 3, &packed, NULL), ERR_OK);
    ck_assert_uint_eq(packed.size % 2, 0);
    ck_assert_mem_eq(packed.data, packed.data + packed.size / 2, packed.size / 2);
}
END_TEST

START_TEST(compressed_bytes_that_do_not_fit_change_nothing)
{
    uint8_t data[1000];
    struct buf small;

    fill(data, sizeof data, 1);
    buf_init(&small, 100);
    ck_assert_int_eq(codec_compress(codecs[_i], data, sizeof data, &small, &info), ERR_TOO_LARGE);
    ck_assert_int_eq(codec_compress(codecs[_i], data, 100, &small, &info), ERR_TOO_LARGE);
    ck_assert_uint_eq(small.size, 0);
    buf_fini(&small);
}
END_TEST

START_TEST(frame_cut_anywhere_is_corrupt)
{
    uint8_t data[3000];

    fill(data, sizeof data, 2);
    pack(codecs[_i], data, sizeof data);
    for (size_t cut = 0; cut < packed.size; cut++) {
        ck_assert_int_eq(unpack(codecs[_i], packed.data, cut), ERR_CORRUPT);
    }
    ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_OK);
}
END_TEST

START_TEST(flipped_bits_never_lead_outside_nor_change_the_size)
{
    uint8_t data[600];

    fill(data, sizeof data, 3);
    pack(codecs[_i], data, sizeof data);
    for (size_t bit = 0; bit < packed.size * 8; bit++) {
        uint64_t size = 0;
        enum err err;

        packed.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        err = unpack(codecs[_i], packed.data, packed.size);
        ck_assert(err == ERR_OK || err == ERR_CORRUPT || err == ERR_TOO_LARGE);
        if (err == ERR_OK) {
            (void)codec_plain_size(codecs[_i], packed.data, packed.size, &size, NULL);
            ck_assert_uint_eq(plain.size, 6 + size);
        }
        packed.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
END_TEST

START_TEST(bytes_behind_the_frame_are_corrupt)
{
    pack(codecs[_i], "some text", 9);
    ck_assert_int_eq(buf_append(&packed, "", 1), ERR_OK);
    ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "1 bytes follow") != NULL, "%s", info.text);
}
END_TEST

START_TEST(second_frame_is_corrupt)
{
    pack(codecs[_i], "some text", 9);
    ck_assert_int_eq(codec_compress(codecs[_i], "more text", 9, &packed, NULL), ERR_OK);
    ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_CORRUPT);
}
END_TEST

START_TEST(frame_to_be_skipped_is_corrupt_alone_before_and_behind)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 'm', 'e', 't', 'a'};
    uint8_t both[200];

    pack(codecs[_i], "some text", 9);
    ck_assert_uint_lt(packed.size + sizeof skippable, sizeof both);
    ck_assert_int_eq(unpack(codecs[_i], skippable, sizeof skippable), ERR_CORRUPT);
    memcpy(both, skippable, sizeof skippable);
    memcpy(both + sizeof skippable, packed.data, packed.size);
    ck_assert_int_eq(unpack(codecs[_i], both, sizeof skippable + packed.size), ERR_CORRUPT);
    memcpy(both, packed.data, packed.size);
    memcpy(both + packed.size, skippable, sizeof skippable);
    ck_assert_int_eq(unpack(codecs[_i], both, sizeof skippable + packed.size), ERR_CORRUPT);
}
END_TEST

START_TEST(frame_of_the_other_codec_is_corrupt)
{
    pack(codecs[_i], "some text", 9);
    ck_assert_int_eq(unpack(codecs[1 - _i], packed.data, packed.size), ERR_CORRUPT);
    ck_assert_int_eq(unpack(codecs[_i], "plain old bytes", 15), ERR_CORRUPT);
}
END_TEST

START_TEST(bomb_is_refused_by_its_header)
{
    uint8_t *zeros = calloc(1, LIMIT + 1);
    uint64_t size = 0;

    ck_assert_ptr_nonnull(zeros);
    pack(codecs[_i], zeros, LIMIT);
    ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_OK);
    buf_fini(&plain);
    pack(codecs[_i], zeros, LIMIT + 1);
    ck_assert_uint_lt(packed.size, 40000);
    ck_assert_int_eq(codec_plain_size(codecs[_i], packed.data, packed.size, &size, NULL), ERR_OK);
    ck_assert_uint_eq(size, LIMIT + 1);
    ck_assert_int_eq(unpack(codecs[_i], packed.data, packed.size), ERR_TOO_LARGE);
    ck_assert_msg(strstr(info.text, "8388609") != NULL, "%s", info.text);
    ck_assert_uint_lt(plain.capacity, 1000); /* No room was made for it. */
    free(zeros);
}
END_TEST

/* ---- frames by hand: docs say where their fields stand ---- */

/* The LZ4 frame's header has the size at byte 6, and a checksum of xxHash behind, so that a size
 * that lies needs a real frame; Zstandard's has none. */
START_TEST(zstd_size_that_lies_is_corrupt)
{
    uint8_t data[1000];

    fill(data, sizeof data, 4);
    pack(CODEC_ZSTD, data, sizeof data);
    /* Single segment, and two bytes of size less 256. */
    ck_assert_uint_eq(packed.data[4], 0x60);
    ck_assert_uint_eq(bytes_get_u16(packed.data + 5), sizeof data - 256);
    for (int step = -1; step <= 1; step += 2) {
        bytes_put_u16(packed.data + 5, (uint16_t)((int)sizeof data - 256 + step));
        ck_assert_int_eq(unpack(CODEC_ZSTD, packed.data, packed.size), ERR_CORRUPT);
    }
}
END_TEST

START_TEST(zstd_frame_without_a_size_is_corrupt)
{
    /* Window descriptor, no size; one last raw block of three bytes. */
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0x19, 0, 0, 'a', 'b', 'c'};
    /* The same with a size of one byte, single segment. */
    static const uint8_t sized[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, 'a', 'b', 'c'};

    ck_assert_int_eq(unpack(CODEC_ZSTD, sized, sizeof sized), ERR_OK);
    ck_assert_mem_eq(plain.data + 6, "abc", 3);
    ck_assert_int_eq(unpack(CODEC_ZSTD, frame, sizeof frame), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "does not give") != NULL, "%s", info.text);
}
END_TEST

START_TEST(zstd_frame_that_needs_a_dictionary_is_corrupt)
{
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 3, 0x19, 0, 0, 'a', 'b', 'c'};

    ck_assert_int_eq(unpack(CODEC_ZSTD, frame, sizeof frame), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "dictionary") != NULL, "%s", info.text);
}
END_TEST

START_TEST(zstd_claim_that_so_few_bytes_cannot_hold_is_corrupt)
{
    /* Eight bytes of size: 2^62. */
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0,   0,   0,  0,
                                    0,    0,    0x40, 0x19, 0,    0, 'a', 'b', 'c'};
    uint64_t size;

    ck_assert_int_eq(codec_plain_size(CODEC_ZSTD, frame, sizeof frame, &size, &info), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "cannot hold") != NULL, "%s", info.text);
}
END_TEST

START_TEST(lz4_frame_without_a_size_is_corrupt)
{
    /* Version 1, independent blocks, 64 KiB, with and without the size; the header's checksum; a
     * block of three bytes that is not compressed; the end. */
    static const uint8_t frame[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 3, 0,
                                    0,    0x80, 'a',  'b',  'c',  0,    0,    0, 0};

    ck_assert_int_eq(unpack(CODEC_LZ4, frame, sizeof frame), ERR_CORRUPT);
    ck_assert_msg(strstr(info.text, "does not give") != NULL, "%s", info.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");
    TCase *both = tcase_create("both");
    TCase *frames = tcase_create("frames");

    tcase_add_checked_fixture(both, setup, teardown);
    tcase_add_test(both, names_and_codecs_belong_together);
    tcase_add_loop_test(both, what_was_compressed_comes_back, 0, CODEC_COUNT);
    tcase_add_loop_test(both, compressed_bytes_are_appended, 0, CODEC_COUNT);
    tcase_add_loop_test(both, compressed_bytes_that_do_not_fit_change_nothing, 0, CODEC_COUNT);
    tcase_add_loop_test(both, frame_cut_anywhere_is_corrupt, 0, CODEC_COUNT);
    tcase_add_loop_test(both, flipped_bits_never_lead_outside_nor_change_the_size, 0, CODEC_COUNT);
    tcase_add_loop_test(both, bytes_behind_the_frame_are_corrupt, 0, CODEC_COUNT);
    tcase_add_loop_test(both, second_frame_is_corrupt, 0, CODEC_COUNT);
    tcase_add_loop_test(both, frame_to_be_skipped_is_corrupt_alone_before_and_behind, 0,
                        CODEC_COUNT);
    tcase_add_loop_test(both, frame_of_the_other_codec_is_corrupt, 0, CODEC_COUNT);
    tcase_add_loop_test(both, bomb_is_refused_by_its_header, 0, CODEC_COUNT);
    suite_add_tcase(suite, both);
    tcase_add_checked_fixture(frames, setup, teardown);
    tcase_add_test(frames, zstd_size_that_lies_is_corrupt);
    tcase_add_test(frames, zstd_frame_without_a_size_is_corrupt);
    tcase_add_test(frames, zstd_frame_that_needs_a_dictionary_is_corrupt);
    tcase_add_test(frames, zstd_claim_that_so_few_bytes_cannot_hold_is_corrupt);
    tcase_add_test(frames, lz4_frame_without_a_size_is_corrupt);
    suite_add_tcase(suite, frames);
    return runner_main(suite);
}
