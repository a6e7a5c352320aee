#include "cli/format.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/json.h"
#include "lib/runner.h"

static const struct record_header headers[] = {
    {.name = "a", .value = "1", .value_size = 1},
    {.name = "b", .value = "x\0y", .value_size = 3},
};

static const struct record record = {
    .value = "va\0l",
    .value_size = 4,
    .key = "k",
    .key_size = 1,
    .headers = headers,
    .header_count = 2,
    .offset = 42,
    .append_time_us = INT64_C(1795341600) * 1000000 + 5,
};

static const struct record bare = {.value = "v", .value_size = 1};

static void expect_print(const char *format, const struct record *of, const char *expected,
                         size_t size)
{
    char *text;
    size_t text_size;
    FILE *to = open_memstream(&text, &text_size);

    ck_assert_ptr_nonnull(to);
    ck_assert_int_eq(format_check(format, NULL), ERR_OK);
    format_print(to, format, of);
    ck_assert_int_eq(fclose(to), 0);
    ck_assert_uint_eq(text_size, size);
    ck_assert_mem_eq(text, expected, size);
    free(text);
}

#define PRINTS(format, of, expected) expect_print(format, of, expected, sizeof expected - 1)

START_TEST(each_field_is_printed_byte_for_byte)
{
    PRINTS("%o", &record, "42");
    PRINTS("%k", &record, "k");
    PRINTS("%v", &record, "va\0l");
    PRINTS("%t", &record, "2026-11-22T10:00:00.000005Z");
    PRINTS("%h", &record, "a=1,b=x\0y");
    PRINTS("%k|%h|%v", &bare, "||v");
    PRINTS("", &record, "");
}
END_TEST

START_TEST(text_and_escapes_stand_for_themselves)
{
    PRINTS("<%o>\\t%%\\\\\\n", &record, "<42>\t%\\\n");
    PRINTS("%%o", &record, "%o");
    PRINTS("\\\\n", &record, "\\n");
}
END_TEST

static const char *const wrong[] = {"%", "%x", "a%", "\\", "\\x", "%o\\", "%O", "%%%"};

START_TEST(unknown_sequences_are_refused)
{
    struct err_info info = {0};

    ck_assert_int_eq(format_check(wrong[_i], &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, wrong[_i]));
}
END_TEST

static const struct {
    const char *text;
    enum consumer_start start;
    uint64_t offset;
    int64_t time_us;
} places[] = {
    {"start", CONSUMER_EARLIEST, 0, 0},
    {"end", CONSUMER_LATEST, 0, 0},
    {"0", CONSUMER_OFFSET, 0, 0},
    {"17", CONSUMER_OFFSET, 17, 0},
    {"9223372036854775807", CONSUMER_OFFSET, INT64_MAX, 0},
    {"-10", CONSUMER_TAIL, 10, 0},
    {"-0", CONSUMER_TAIL, 0, 0},
    {"@0", CONSUMER_TIME, 0, 0},
    {"@1795341600", CONSUMER_TIME, 0, INT64_C(1795341600) * 1000000},
    {"@2026-11-22T10:00:00Z", CONSUMER_TIME, 0, INT64_C(1795341600) * 1000000},
    {"@2026-11-22T10:00:00.25Z", CONSUMER_TIME, 0, INT64_C(1795341600) * 1000000 + 250000},
    {"@2026-11-22T10:00:00.1234567Z", CONSUMER_TIME, 0, INT64_C(1795341600) * 1000000 + 123456},
};

START_TEST(every_place_to_start_is_understood)
{
    struct consumer_options options = {0};

    ck_assert_int_eq(format_parse_start(places[_i].text, &options, NULL), ERR_OK);
    ck_assert_int_eq(options.start, places[_i].start);
    ck_assert_uint_eq(options.offset, places[_i].offset);
    ck_assert_int_eq(options.time_us, places[_i].time_us);
}
END_TEST

static const char *const nowhere[] = {
    "",
    "-",
    "--1",
    "x",
    "@",
    "@yesterday",
    "@-1",
    "9223372036854775808",
    "1.5",
    "@2026-11-22T10:00:00",
    "@2026-11-22T10:00:00+01:00",
    "@2026-11-22",
};

START_TEST(anything_else_is_no_place_and_says_what_is)
{
    struct consumer_options options = {0};
    struct err_info info = {0};

    ck_assert_int_eq(format_parse_start(nowhere[_i], &options, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, nowhere[_i]));
}
END_TEST

START_TEST(so_long_ago_is_a_time)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } agos[] = {{"0s", 0}, {"90s", 90}, {"10m", 600}, {"2h", 7200}, {"7d", 604800}};
    static const char *const others[] = {"m", "10w", "10mm", "-10m", "1.5h", "10 m", "9999999999s"};
    int64_t now_us = clock_real()->wall_us(clock_real());
    struct consumer_options options = {0};
    int64_t time_us = 0;

    for (size_t i = 0; i < sizeof agos / sizeof agos[0]; i++) {
        ck_assert_int_eq(format_parse_time(agos[i].text, &time_us, NULL), ERR_OK);
        ck_assert_int_ge(time_us, now_us - agos[i].seconds * 1000000);
        ck_assert_int_le(time_us, now_us - agos[i].seconds * 1000000 + 10 * 1000000);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ck_assert_int_eq(format_parse_time(others[i], &time_us, NULL), ERR_INVALID);
    }
    ck_assert_int_eq(format_parse_start("@1d", &options, NULL), ERR_OK);
    ck_assert_int_eq(options.start, CONSUMER_TIME);
    ck_assert_int_lt(options.time_us, now_us);
}
END_TEST

START_TEST(json_of_bytes_is_a_string_or_base64)
{
    json_t *value = json_bytes("a\0b", 3);

    ck_assert(json_is_string(value));
    ck_assert_uint_eq(json_string_length(value), 3);
    json_decref(value);
    value = json_bytes(NULL, 0);
    ck_assert_str_eq(json_string_value(value), "");
    json_decref(value);
    value = json_bytes("\xff\x00", 2);
    ck_assert_str_eq(json_string_value(json_object_get(value, "base64")), "/wA=");
    json_decref(value);
    value = json_number(UINT64_MAX);
    ck_assert(json_is_real(value));
    json_decref(value);
}
END_TEST

START_TEST(sizes_and_times_are_for_people)
{
    char size[24];
    char time[40];

    ck_assert_str_eq(human_size(size, 0), "0 B");
    ck_assert_str_eq(human_size(size, 1023), "1023 B");
    ck_assert_str_eq(human_size(size, 1536), "1.5 KiB");
    ck_assert_str_eq(human_size(size, UINT64_MAX), "16777216.0 TiB");
    ck_assert_str_eq(human_time(time, 0), "1970-01-01T00:00:00.000000Z");
    ck_assert_str_eq(human_time(time, -1), "1969-12-31T23:59:59.999999Z");
    ck_assert_str_eq(human_time(time, -1000000), "1969-12-31T23:59:59.000000Z");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/format");
    TCase *print = tcase_create("print");
    TCase *start = tcase_create("start");
    TCase *json = tcase_create("json");

    tcase_add_test(print, each_field_is_printed_byte_for_byte);
    tcase_add_test(print, text_and_escapes_stand_for_themselves);
    tcase_add_loop_test(print, unknown_sequences_are_refused, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_loop_test(start, every_place_to_start_is_understood, 0,
                        sizeof places / sizeof places[0]);
    tcase_add_loop_test(start, anything_else_is_no_place_and_says_what_is, 0,
                        sizeof nowhere / sizeof nowhere[0]);
    tcase_add_test(start, so_long_ago_is_a_time);
    tcase_add_test(json, json_of_bytes_is_a_string_or_base64);
    tcase_add_test(json, sizes_and_times_are_for_people);
    suite_add_tcase(suite, print);
    suite_add_tcase(suite, start);
    suite_add_tcase(suite, json);
    return runner_main(suite);
}
