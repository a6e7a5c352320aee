#include "server/header.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "quorlog.pb-c.h"

#define TOPIC &quorlog__topic_describe_request__descriptor
#define STREAM &quorlog__consume_stream_request__descriptor

static enum err check(const ProtobufCMessageDescriptor *descriptor, const char *bytes, size_t size,
                      struct err_info *info)
{
    uint8_t *exact = malloc(size + 1); /* A sanitizer sees what is read behind it. */
    enum err err;

    ck_assert_ptr_nonnull(exact);
    memcpy(exact + 1, bytes, size);
    err = header_check(descriptor, exact + 1, size, info);
    free(exact);
    return err;
}

/* A topic's name of these bytes. */
static bool takes(const char *name, size_t size)
{
    struct err_info info = {0};
    char header[64] = {0x0a, (char)size};
    enum err err;

    ck_assert_uint_le(size, sizeof header - 2);
    memcpy(header + 2, name, size);
    err = check(TOPIC, header, size + 2, &info);
    ck_assert(err == ERR_OK || (err == ERR_INVALID && strstr(info.text, "'topic'") != NULL));
    return err == ERR_OK;
}

START_TEST(text_is_taken)
{
    ck_assert(takes("", 0));
    ck_assert(takes("orders", 6));
    ck_assert(takes("\x01\x7f", 2)); /* Which characters a name has is not its business. */
    ck_assert(takes("\xc2\x80\xdf\xbf", 4));
    ck_assert(takes("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 12));
    ck_assert(takes("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8));
}
END_TEST

START_TEST(zeros_and_what_is_not_utf8_are_refused)
{
    static const char *const wrong[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc3",
        "\xc3(",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe2\x82",
        "\xe2(\xa1",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf0\x9f\x98",
        "\xf8\x88\x80\x80\x80",
        "\xfe",
        "\xff",
        "fine\xff",
    };

    ck_assert(!takes("\0", 1));
    ck_assert(!takes("orders\0x", 8));
    ck_assert(!takes("orders\0", 7));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_msg(!takes(wrong[i], strlen(wrong[i])), "text %zu was taken", i);
    }
}
END_TEST

START_TEST(text_in_a_message_inside_is_looked_at)
{
    struct err_info info = {0};

    ck_assert_int_eq(check(STREAM, "\x0a\x03\x0a\x01t\x10\x05", 7, &info), ERR_OK);
    ck_assert_int_eq(check(STREAM, "\x0a\x03\x0a\x01\0\x10\x05", 7, &info), ERR_INVALID);
    ck_assert_str_eq(info.text, "field 'topic' is not UTF-8 text without zeros");
    ck_assert_int_eq(check(STREAM, "\x0a\x03\x0a\x02t\x10\x05", 7, &info), ERR_INVALID);
    ck_assert_str_eq(info.text, "cannot be decoded");
}
END_TEST

START_TEST(other_fields_are_passed_over)
{
    struct err_info info = {0};

    /* 99: a varint; 100: bytes; 101: eight bytes; 102: four bytes. Then the topic. */
    ck_assert_int_eq(check(TOPIC,
                           "\x98\x06\xff\x01\xa2\x06\x02\xff\x00\xa9\x06\1\2\3\4\5\6\7\x08\xb5\x06"
                           "\1\2\3\4\x0a\x01t",
                           28, &info),
                     ERR_OK);
    ck_assert_int_eq(check(TOPIC, "\x08\x01", 2, &info), ERR_OK); /* For the decoder to refuse. */
    ck_assert_int_eq(check(TOPIC, "", 0, &info), ERR_OK);
}
END_TEST

START_TEST(bytes_that_are_no_fields_are_refused)
{
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {
        {"\x0a", 1},
        {"\x0a\x02t", 3},
        {"\x80", 1},
        {"\x08", 1},
        {"\x08\x80", 2},
        {"\x0b\x0c", 2},
        {"\x0e", 1},
        {"\x0d\1\2\3", 4},
        {"\x09\1\2\3\4", 5},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01t", 12},
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12},
        {"\xfa\xff\xff\xff\xff\x01\x00", 7},
    };
    struct err_info info = {0};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_msg(check(TOPIC, wrong[i].bytes, wrong[i].size, &info) == ERR_INVALID,
                      "header %zu was taken", i);
        ck_assert_str_eq(info.text, "cannot be decoded");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("header");
    TCase *tcase = tcase_create("check");

    tcase_add_test(tcase, text_is_taken);
    tcase_add_test(tcase, zeros_and_what_is_not_utf8_are_refused);
    tcase_add_test(tcase, text_in_a_message_inside_is_looked_at);
    tcase_add_test(tcase, other_fields_are_passed_over);
    tcase_add_test(tcase, bytes_that_are_no_fields_are_refused);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
