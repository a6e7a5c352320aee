#include "record/filter.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "lib/runner.h"

static struct filter filter;
static struct err_info info;

static void setup(void)
{
    filter_init(&filter);
    memset(&info, 0, sizeof info);
}

static bool matches(const struct record *record)
{
    return filter_matches(&filter, record);
}

static const struct record_header headers[] = {
    {.name = "kind", .value = "order", .value_size = 5},
    {.name = "kind", .value = "paid", .value_size = 4},
    {.name = "empty"},
};

static const struct record sample = {
    .value = "12 green\0bottles",
    .value_size = 16,
    .key = "alice",
    .key_size = 5,
    .headers = headers,
    .header_count = 3,
    .append_time_us = 1000,
};
static const struct record bare = {.value = "", .append_time_us = 1000};

START_TEST(without_a_condition_all_match)
{
    ck_assert(filter_is_empty(&filter));
    ck_assert(matches(&sample) && matches(&bare));
    ck_assert_int_eq(filter_check(&filter, &info), ERR_OK);
}
END_TEST

START_TEST(key_is_equal_in_all_bytes)
{
    struct record record = sample;
    const uint8_t *key = NULL;
    size_t size = 0;

    ck_assert(!filter_key(&filter, &key, &size));
    ck_assert_int_eq(filter_add_key(&filter, "alice", 5, &info), ERR_OK);
    ck_assert(!filter_is_empty(&filter));
    ck_assert(filter_key(&filter, &key, &size) && size == 5 && memcmp(key, "alice", 5) == 0);
    ck_assert(matches(&sample) && !matches(&bare));
    record.key_size = 4;
    ck_assert(!matches(&record));
    record.key = "alicf";
    record.key_size = 5;
    ck_assert(!matches(&record));
    ck_assert_int_eq(filter_add_key(&filter, "bob", 3, &info), ERR_INVALID);
}
END_TEST

START_TEST(empty_key_is_a_key_and_none_is_not)
{
    struct record record = bare;

    ck_assert_int_eq(filter_add_key(&filter, "", 0, &info), ERR_OK);
    ck_assert(!matches(&record));
    record.key = "";
    ck_assert(matches(&record));
    ck_assert(!matches(&sample));
}
END_TEST

START_TEST(header_s_name_and_value_are_of_the_same_header)
{
    static const struct {
        const char *text;
        bool matches;
    } cases[] = {
        {"kind", true},      {"kind=order", true}, {"kind=paid", true}, {"kind=orde", false},
        {"kind=", false},    {"empty", true},      {"empty=", true},    {"empty=paid", false},
        {"kin", false},      {"kinds", false},     {"Kind", false},     {"other", false},
        {"kind=a=b", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        filter_init(&filter);
        ck_assert_int_eq(filter_parse_header(&filter, cases[i].text, &info), ERR_OK);
        ck_assert_msg(matches(&sample) == cases[i].matches, "%s", cases[i].text);
        ck_assert(!matches(&bare));
    }
}
END_TEST

START_TEST(value_after_the_first_equals_may_have_more)
{
    const struct record_header header = {.name = "a", .value = "b=c", .value_size = 3};
    const struct record record = {.value = "", .headers = &header, .header_count = 1};

    ck_assert_int_eq(filter_parse_header(&filter, "a=b=c", &info), ERR_OK);
    ck_assert(matches(&record));
}
END_TEST

START_TEST(header_that_is_no_header_says_what_one_is)
{
    ck_assert_int_eq(filter_parse_header(&filter, "=", &info), ERR_INVALID);
    ck_assert_str_eq(info.text, "a header filter is NAME=VALUE or NAME; got '='");
    ck_assert_int_eq(filter_parse_header(&filter, "", &info), ERR_INVALID);
    ck_assert_int_eq(filter_parse_header(&filter, "=x", &info), ERR_INVALID);
    ck_assert_int_eq(filter_add_header(&filter, "", &info), ERR_INVALID);
    ck_assert_int_eq(filter_add_header_value(&filter, "", "", 0, &info), ERR_INVALID);
    ck_assert(filter_is_empty(&filter));
}
END_TEST

START_TEST(text_is_found_anywhere_in_the_value_and_nowhere_else)
{
    static const struct {
        const char *text;
        size_t size;
        bool matches;
    } cases[] = {
        {"12", 2, true},     {"green", 5, true},      {"bottles", 7, true},
        {"n\0b", 3, true},   {"greet", 5, false},     {"alice", 5, false},
        {"order", 5, false}, {"bottles\0", 8, false}, {"12 green\0bottles", 16, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        filter_init(&filter);
        ck_assert_int_eq(filter_add_contains(&filter, cases[i].text, cases[i].size, &info), ERR_OK);
        ck_assert_msg(matches(&sample) == cases[i].matches, "case %zu", i);
        ck_assert(!matches(&bare));
    }
    ck_assert_int_eq(filter_add_contains(&filter, "", 0, &info), ERR_INVALID);
}
END_TEST

START_TEST(times_are_from_since_to_before_until)
{
    filter.since_us = 1000;
    filter.until_us = 1001;
    ck_assert(!filter_is_empty(&filter));
    ck_assert(matches(&sample));
    filter.since_us = 1001;
    filter.until_us = 0;
    ck_assert(!matches(&sample));
    filter.since_us = 0;
    filter.until_us = 1000;
    ck_assert(!matches(&sample));
    filter.since_us = 1000;
    ck_assert_int_eq(filter_check(&filter, &info), ERR_INVALID);
    filter.since_us = 999;
    ck_assert_int_eq(filter_check(&filter, &info), ERR_OK);
}
END_TEST

START_TEST(all_conditions_must_hold)
{
    ck_assert_int_eq(filter_add_key(&filter, "alice", 5, &info), ERR_OK);
    ck_assert_int_eq(filter_parse_header(&filter, "kind=order", &info), ERR_OK);
    ck_assert_int_eq(filter_parse_header(&filter, "kind=paid", &info), ERR_OK);
    ck_assert_int_eq(filter_add_contains(&filter, "green", 5, &info), ERR_OK);
    ck_assert(matches(&sample));
    ck_assert_int_eq(filter_add_contains(&filter, "red", 3, &info), ERR_OK);
    ck_assert(!matches(&sample));
}
END_TEST

START_TEST(latest_wants_a_key)
{
    filter.latest = true;
    ck_assert_int_eq(filter_check(&filter, &info), ERR_INVALID);
    ck_assert_int_eq(filter_add_key(&filter, "k", 1, &info), ERR_OK);
    ck_assert_int_eq(filter_check(&filter, &info), ERR_OK);
}
END_TEST

START_TEST(bounds_hold_and_what_passes_them_changes_nothing)
{
    static char text[FILTER_TEXT_MAX + 3];
    struct filter before;

    memset(text, 'x', sizeof text - 1);
    ck_assert_int_eq(filter_add_contains(&filter, text, FILTER_TEXT_MAX + 1, &info), ERR_TOO_LARGE);
    ck_assert_int_eq(filter_parse_header(&filter, text, &info), ERR_TOO_LARGE);
    text[1] = '=';
    ck_assert_int_eq(filter_parse_header(&filter, text, &info), ERR_TOO_LARGE);
    text[1] = 'x';
    ck_assert(filter_is_empty(&filter));
    ck_assert_int_eq(filter_add_contains(&filter, text, FILTER_TEXT_MAX, &info), ERR_OK);
    before = filter;
    ck_assert_int_eq(filter_add_contains(&filter, "y", 1, &info), ERR_TOO_LARGE);
    ck_assert_mem_eq(&filter, &before, sizeof filter);
    filter_init(&filter);
    for (int i = 0; i < FILTER_CONDITIONS_MAX; i++) {
        ck_assert_int_eq(filter_add_header(&filter, "a", &info), ERR_OK);
    }
    ck_assert_int_eq(filter_add_header(&filter, "a", &info), ERR_TOO_LARGE);
    ck_assert_msg(strstr(info.text, "16 conditions") != NULL, "%s", info.text);
}
END_TEST

/* ---- against a predicate that looks at every place ---- */

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * UINT32_C(1664525) + UINT32_C(1013904223);
    return (seed >> 16) % below;
}

static size_t draw_text(char *to, size_t size_max)
{
    size_t size = draw((uint32_t)size_max + 1);

    for (size_t i = 0; i < size; i++) {
        to[i] = (char)('a' + draw(2));
    }
    to[size] = '\0';
    return size;
}

struct wanted {
    bool has_key;
    char key[4];
    bool has_name;
    char name[4];
    bool has_value;
    char value[4];
    bool has_text;
    char text[4];
};

static bool brute(const struct wanted *wanted, const struct record *record)
{
    bool header = false;
    bool text = false;

    for (size_t i = 0; i < record->header_count; i++) {
        header = header ||
                 (strcmp(record->headers[i].name, wanted->name) == 0 &&
                  (!wanted->has_value || strcmp(record->headers[i].value, wanted->value) == 0));
    }
    for (size_t i = 0; i < record->value_size; i++) {
        text = text ||
               strncmp((const char *)record->value + i, wanted->text, strlen(wanted->text)) == 0;
    }
    return (!wanted->has_key || (record->key != NULL && strcmp(record->key, wanted->key) == 0)) &&
           (!wanted->has_name || header) && (!wanted->has_text || text);
}

START_TEST(random_records_match_as_a_slow_predicate_says)
{
    unsigned matching = 0;

    for (int i = 0; i < 20000; i++) {
        struct wanted wanted = {.has_key = draw(3) == 0,
                                .has_name = draw(3) == 0,
                                .has_value = draw(2) == 0,
                                .has_text = draw(3) == 0};
        char key[4];
        char names[2][4];
        char values[2][4];
        char value[16];
        struct record_header drawn[2];
        struct record record = {.headers = drawn, .header_count = draw(3)};

        (void)draw_text(wanted.key, 2);
        wanted.name[0] = 'a';
        (void)draw_text(wanted.name + 1, 1);
        (void)draw_text(wanted.value, 2);
        wanted.text[0] = 'b';
        (void)draw_text(wanted.text + 1, 2);
        for (int h = 0; h < 2; h++) {
            (void)draw_text(names[h], 2);
            drawn[h].value_size = draw_text(values[h], 2);
            drawn[h].name = names[h];
            drawn[h].value = values[h];
        }
        record.value_size = draw_text(value, 15);
        record.value = value;
        record.key_size = draw_text(key, 2);
        record.key = draw(2) == 0 ? NULL : key;
        record.key_size = record.key == NULL ? 0 : record.key_size;
        filter_init(&filter);
        if (wanted.has_key) {
            (void)filter_add_key(&filter, wanted.key, strlen(wanted.key), NULL);
        }
        if (wanted.has_name) {
            (void)(wanted.has_value ? filter_add_header_value(&filter, wanted.name, wanted.value,
                                                              strlen(wanted.value), NULL)
                                    : filter_add_header(&filter, wanted.name, NULL));
        }
        if (wanted.has_text) {
            (void)filter_add_contains(&filter, wanted.text, strlen(wanted.text), NULL);
        }
        ck_assert_int_eq(matches(&record), brute(&wanted, &record));
        matching += matches(&record) ? 1 : 0;
    }
    ck_assert_uint_gt(matching, 1000);
    ck_assert_uint_lt(matching, 19000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("filter");
    TCase *conditions = tcase_create("conditions");

    tcase_add_checked_fixture(conditions, setup, NULL);
    tcase_add_test(conditions, without_a_condition_all_match);
    tcase_add_test(conditions, key_is_equal_in_all_bytes);
    tcase_add_test(conditions, empty_key_is_a_key_and_none_is_not);
    tcase_add_test(conditions, header_s_name_and_value_are_of_the_same_header);
    tcase_add_test(conditions, value_after_the_first_equals_may_have_more);
    tcase_add_test(conditions, header_that_is_no_header_says_what_one_is);
    tcase_add_test(conditions, text_is_found_anywhere_in_the_value_and_nowhere_else);
    tcase_add_test(conditions, times_are_from_since_to_before_until);
    tcase_add_test(conditions, all_conditions_must_hold);
    tcase_add_test(conditions, latest_wants_a_key);
    tcase_add_test(conditions, bounds_hold_and_what_passes_them_changes_nothing);
    tcase_add_test(conditions, random_records_match_as_a_slow_predicate_says);
    suite_add_tcase(suite, conditions);
    return runner_main(suite);
}
