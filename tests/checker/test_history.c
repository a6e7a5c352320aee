#include "checker/history.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/runner.h"

/* A history of which a test writes the text, or the operations. */
static char path[] = "/tmp/quorlog-history-XXXXXX";

static void open_path(void)
{
    int fd;

    strcpy(path + sizeof path - 7, "XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
}

static void remove_path(void)
{
    ck_assert_int_eq(unlink(path), 0);
}

static void write_bytes(const char *text, size_t size)
{
    FILE *file = fopen(path, "wb");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static const uint64_t values[] = {1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX, 0};

static const uint64_t keys[] = {3, 0, INT64_MAX, 3, 4};
static const uint64_t tombstones[] = {0, 3};
static const uint64_t offsets[] = {9, 11, 12, 13, 40};

static const struct history_op produce = {
    .kind = HISTORY_PRODUCE,
    .outcome = HISTORY_UNKNOWN,
    .client = UINT32_MAX,
    .node = 3,
    .sequence = 12,
    .invoke_us = 1000,
    .return_us = 2000,
    .topic = "events#7",
    .error = "LEADER_UNKNOWN",
    .offset = UINT64_MAX,
    .values = values,
    .value_count = 5,
    .keys = keys,
    .key_count = 5,
    .tombstones = tombstones,
    .tombstone_count = 2,
    .token = 77,
    .producer_id = (uint64_t)1 << 63,
    .epoch = 4,
    .producer_sequence = 9,
    .duplicate = true,
    .has_expect = true,
    .expect_offset = 0,
};

static const struct history_op delivery = {
    .kind = HISTORY_DELIVERY,
    .client = 2,
    .topic = "t",
    .offset = 8,
    .values = values,
    .value_count = 5,
    .offsets = offsets,
    .offset_count = 5,
    .next = 50,
    .token = 7,
    .mode = HISTORY_READ_MAX_LAG,
    .at_least = 6,
    .lag_us = 50000,
    .log_start = 1,
    .log_end = 9,
    .stream = 44,
};

static const struct history_op cursor = {
    .kind = HISTORY_CURSOR,
    .outcome = HISTORY_FAIL,
    .client = 2,
    .topic = "t",
    .mode = HISTORY_READ_TOKEN,
    .at_least = 6,
    .verb = HISTORY_CURSOR_SET,
    .cursor = "c",
    .has_expect_revision = true,
    .expect_revision = UINT64_MAX,
    .revision = 5,
    .cursor_offset = 3,
    .offset = 2,
};

static const struct history_op event = {
    .kind = HISTORY_EVENT,
    .invoke_us = 5,
    .event = HISTORY_EVENT_TRIMMED,
    .topic = "t",
    .offset = 4,
    .text = "say \"x\"\n\\ — ü",
};

static bool same_text(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

static void assert_same_list(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count)
{
    ck_assert_uint_eq(a_count, b_count);
    for (size_t i = 0; i < a_count; i++) {
        ck_assert_uint_eq(a[i], b[i]);
    }
}

static void assert_same(const struct history_op *found, const struct history_op *expected)
{
    struct history_op a = *found;
    struct history_op b = *expected;

    ck_assert(same_text(a.topic, b.topic));
    ck_assert(same_text(a.error, b.error));
    ck_assert(same_text(a.cursor, b.cursor));
    ck_assert(same_text(a.text, b.text));
    assert_same_list(a.values, a.value_count, b.values, b.value_count);
    assert_same_list(a.keys, a.key_count, b.keys, b.key_count);
    assert_same_list(a.tombstones, a.tombstone_count, b.tombstones, b.tombstone_count);
    assert_same_list(a.offsets, a.offset_count, b.offsets, b.offset_count);
    ck_assert_uint_eq(a.next, b.next);
    ck_assert_int_eq(a.kind, b.kind);
    ck_assert_int_eq(a.outcome, b.outcome);
    ck_assert_uint_eq(a.client, b.client);
    ck_assert_uint_eq(a.node, b.node);
    ck_assert_uint_eq(a.sequence, b.sequence);
    ck_assert_uint_eq(a.invoke_us, b.invoke_us);
    ck_assert_uint_eq(a.return_us, b.return_us);
    ck_assert_uint_eq(a.offset, b.offset);
    ck_assert_uint_eq(a.token, b.token);
    ck_assert_uint_eq(a.producer_id, b.producer_id);
    ck_assert_uint_eq(a.epoch, b.epoch);
    ck_assert_uint_eq(a.producer_sequence, b.producer_sequence);
    ck_assert_int_eq(a.duplicate, b.duplicate);
    ck_assert_int_eq(a.has_expect, b.has_expect);
    ck_assert_uint_eq(a.expect_offset, b.expect_offset);
    ck_assert_int_eq(a.mode, b.mode);
    ck_assert_uint_eq(a.at_least, b.at_least);
    ck_assert_uint_eq(a.lag_us, b.lag_us);
    ck_assert_uint_eq(a.log_start, b.log_start);
    ck_assert_uint_eq(a.log_end, b.log_end);
    ck_assert_uint_eq(a.stream, b.stream);
    ck_assert_int_eq(a.verb, b.verb);
    ck_assert_int_eq(a.has_expect_revision, b.has_expect_revision);
    ck_assert_uint_eq(a.expect_revision, b.expect_revision);
    ck_assert_uint_eq(a.revision, b.revision);
    ck_assert_uint_eq(a.cursor_offset, b.cursor_offset);
    ck_assert_int_eq(a.event, b.event);
}

/* Writes these, reads them back. */
static void round_trip(const struct history_op *const *ops, size_t count)
{
    FILE *file = fopen(path, "wb");
    struct history_reader *reader;
    struct history_op op;
    struct err_info info;

    ck_assert_ptr_nonnull(file);
    history_begin(file, "a test");
    for (size_t i = 0; i < count; i++) {
        history_write(file, ops[i]);
    }
    ck_assert_int_eq(ferror(file), 0);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_OK);
        assert_same(&op, ops[i]);
    }
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_NOT_FOUND);
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_NOT_FOUND);
    history_reader_close(reader);
}

START_TEST(what_is_read_stands_for_what_it_says_or_what_it_shows)
{
    struct history_op op = delivery;

    ck_assert_uint_eq(history_op_next(&op), 50);
    op.next = 0;
    ck_assert_uint_eq(history_op_next(&op), 41);
    op.offset_count = 0;
    ck_assert_uint_eq(history_op_next(&op), 13);
}
END_TEST

START_TEST(every_field_of_every_kind_comes_back)
{
    static const struct history_op empty_dump = {.kind = HISTORY_DUMP, .topic = "t", .node = 1};
    static const struct history_op bare_event = {.kind = HISTORY_EVENT};
    const struct history_op *const ops[] = {&produce, &delivery,   &cursor,
                                            &event,   &empty_dump, &bare_event};

    round_trip(ops, sizeof ops / sizeof ops[0]);
}
END_TEST

/* Each key that is written stands in the page that describes them. */
START_TEST(the_page_has_every_field)
{
    static char page[65536];
    static char text[16384];
    FILE *file = fopen(SOURCE_ROOT "/docs/history.md", "rb");
    size_t size;
    unsigned key_count = 0;

    ck_assert_ptr_nonnull(file);
    size = fread(page, 1, sizeof page - 1, file);
    ck_assert_uint_gt(size, 1000);
    ck_assert_int_eq(fclose(file), 0);
    file = fopen(path, "w+b");
    history_write(file, &produce);
    history_write(file, &delivery);
    history_write(file, &cursor);
    history_write(file, &event);
    rewind(file);
    size = fread(text, 1, sizeof text - 1, file);
    ck_assert_int_eq(fclose(file), 0);
    for (const char *end = strstr(text, "\":"); end != NULL; end = strstr(end + 1, "\":")) {
        const char *begin = end;
        char key[40];

        while (begin[-1] != '"') {
            begin--;
        }
        (void)snprintf(key, sizeof key, "`%.*s`", (int)(end - begin), begin);
        ck_assert_msg(strstr(page, key) != NULL, "docs/history.md: no %s", key);
        key_count++;
    }
    ck_assert_uint_gt(key_count, 30);
}
END_TEST

START_TEST(the_largest_operation_fits_in_a_line)
{
    static uint64_t many[HISTORY_VALUES_MAX];
    char text[HISTORY_TEXT_SIZE_MAX + 1];
    char name[HISTORY_NAME_SIZE_MAX + 1];
    struct history_op op = produce;
    const struct history_op *const ops[] = {&op, &op};

    for (size_t i = 0; i < HISTORY_VALUES_MAX; i++) {
        many[i] = UINT64_MAX - i;
    }
    memset(text, 1, sizeof text - 1); /* \u0001: six bytes for one */
    text[sizeof text - 1] = '\0';
    memset(name, 1, sizeof name - 1);
    name[sizeof name - 1] = '\0';
    op.values = op.keys = op.tombstones = many;
    op.key_count = op.tombstone_count = HISTORY_VALUES_MAX;
    op.value_count = HISTORY_VALUES_MAX;
    op.error = text;
    op.topic = name;
    round_trip(ops, 2);
}
END_TEST

START_TEST(text_that_is_too_long_or_no_utf8_is_told_as_well_as_it_goes)
{
    static char text[HISTORY_TEXT_SIZE_MAX + 10];
    struct history_op op = event;
    struct history_reader *reader;
    struct err_info info;
    FILE *file = fopen(path, "wb");

    memset(text, 'x', sizeof text - 1);
    text[0] = (char)0xff;
    op.text = text;
    history_begin(file, NULL);
    history_write(file, &op);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_OK);
    ck_assert_uint_eq(strlen(op.text), HISTORY_TEXT_SIZE_MAX);
    ck_assert_int_eq(op.text[0], '?');
    ck_assert_int_eq(op.text[1], 'x');
    history_reader_close(reader);
}
END_TEST

/* Behind a good first line and a good operation, this line is refused, with its number. */
static void refused(const char *line, const char *reason)
{
    char text[4096];
    struct history_reader *reader;
    struct history_op op;
    struct err_info info = {0};

    ck_assert_int_lt(
        snprintf(text, sizeof text, "{\"history\":1}\n{\"op\":\"event\",\"at\":7}\n%s\n", line),
        (int)sizeof text);
    write_bytes(text, strlen(text));
    ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_OK);
    ck_assert_uint_eq(op.invoke_us, 7);
    ck_assert_msg(history_reader_next(reader, &op, &info) == ERR_INVALID, "accepted: %s", line);
    ck_assert_int_eq(info.code, ERR_INVALID);
    ck_assert_msg(strncmp(info.text, "line 3: ", 8) == 0 && strstr(info.text, reason) != NULL,
                  "%s: %s", line, info.text);
    ck_assert_uint_eq(op.invoke_us, 7); /* As it was. */
    history_reader_close(reader);
}

START_TEST(a_bad_line_is_told_with_its_number)
{
    refused("", "no JSON");
    refused("{", "no JSON");
    refused("[]", "not an object");
    refused("17", "no JSON");
    refused("{\"op\":\"event\"} x", "no JSON");
    refused("{\"op\":\"event\",\"op\":\"event\"}", "no JSON");
    refused("{\"op\":\"event\",\"text\":\"\\u0000\"}", "no JSON");
    refused("{\"op\":\"event\",\"at\":9223372036854775808}", "no JSON");
    refused("{}", "\"op\" is missing");
    refused("{\"op\":3}", "\"op\" is not known");
    refused("{\"op\":\"events\"}", "\"op\" is not known");
    refused("{\"op\":\"event\",\"wrong\":1}", "\"wrong\" is nothing");
    refused("{\"op\":\"event\",\"values\":[1]}", "\"values\" is nothing");
    refused("{\"op\":\"event\",\"at\":-1}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":1.0}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":null}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":\"\"}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":\" 1\"}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":\"-1\"}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":\"1x\"}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"at\":\"18446744073709551616\"}", "\"at\" is no number");
    refused("{\"op\":\"event\",\"client\":4294967296}", "\"client\" is no number");
    refused("{\"op\":\"event\",\"is\":\"good\"}", "\"is\" has a value");
    refused("{\"op\":\"event\",\"text\":7}", "\"text\" is not a text");
    refused("{\"op\":\"event\",\"event\":\"deleted\"}", "\"topic\" is missing");
    refused("{\"op\":\"event\",\"topic\":\"\"}", "\"topic\" is no name");
    refused("{\"op\":\"read\"}", "\"topic\" is missing");
    refused("{\"op\":\"cursor\",\"topic\":\"t\"}", "\"cursor\" is missing");
    refused("{\"op\":\"produce\",\"topic\":\"t\"}", "\"values\" is missing");
    refused("{\"op\":\"produce\",\"topic\":\"t\",\"values\":1}", "\"values\" is not a list");
    refused("{\"op\":\"produce\",\"topic\":\"t\",\"values\":{}}", "\"values\" is not a list");
    refused("{\"op\":\"produce\",\"topic\":\"t\",\"values\":[1,[]]}", "\"values\" has what is no");
    refused("{\"op\":\"produce\",\"topic\":\"t\",\"values\":[1],\"duplicate\":1}", "\"duplicate\"");
    refused("{\"op\":\"produce\",\"topic\":\"t\",\"values\":[1],\"keys\":[1,2]}",
            "\"keys\" has not");
    refused("{\"op\":\"read\",\"topic\":\"t\",\"values\":[1],\"offsets\":[]}x", "no JSON");
    refused("{\"op\":\"read\",\"topic\":\"t\",\"values\":[1],\"offsets\":[1,2]}",
            "\"offsets\" has");
    refused("{\"op\":\"read\",\"topic\":\"t\",\"keys\":[1]}", "\"keys\" is nothing");
    refused("{\"op\":\"event\",\"event\":\"compacted\"}", "\"topic\" is missing");
}
END_TEST

static void not_a_history(const char *text, enum err expected)
{
    struct history_reader *reader = NULL;
    struct err_info info = {0};

    write_bytes(text, strlen(text));
    ck_assert_int_eq(history_reader_open(path, &reader, &info), expected);
    ck_assert_int_eq(info.code, expected);
    ck_assert_int_eq(strncmp(info.text, "line 1: ", 8), 0);
    ck_assert_ptr_null(reader);
}

START_TEST(what_does_not_begin_as_a_history_is_none)
{
    struct history_reader *reader;
    struct err_info info;

    not_a_history("", ERR_INVALID);
    not_a_history("\n", ERR_INVALID);
    not_a_history("{\"op\":\"event\"}\n", ERR_INVALID);
    not_a_history("{\"history\":\"1\"}\n", ERR_INVALID);
    not_a_history("{\"history\":2}\n", ERR_VERSION);
    ck_assert_int_eq(history_reader_open("/nowhere/x", &reader, &info), ERR_NOT_FOUND);
    ck_assert_int_eq(history_reader_open("/", &reader, &info), ERR_IO);
}
END_TEST

START_TEST(a_line_without_end_is_refused_and_not_kept_in_memory)
{
    size_t size = 3 * HISTORY_LINE_SIZE_MAX;
    char *text = malloc(size);
    struct history_reader *reader;
    struct history_op op;
    struct err_info info;

    memset(text, ' ', size);
    memcpy(text, "{\"history\":1}\n", 14);
    write_bytes(text, size);
    free(text);
    ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_INVALID);
    ck_assert_str_eq(info.text, "line 2: longer than 6291456 bytes");
    history_reader_close(reader);
}
END_TEST

START_TEST(more_values_than_an_operation_may_have_are_refused)
{
    size_t size = 2 * HISTORY_VALUES_MAX + 100;
    char *text = malloc(size);
    struct history_reader *reader;
    struct history_op op;
    struct err_info info;
    int at = sprintf(text, "{\"history\":1}\n{\"op\":\"produce\",\"topic\":\"t\",\"values\":[1");

    for (int i = 0; i < HISTORY_VALUES_MAX; i++) {
        at += sprintf(text + at, ",1");
    }
    at += sprintf(text + at, "]}\n");
    write_bytes(text, (size_t)at);
    free(text);
    ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
    ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_INVALID);
    ck_assert_str_eq(info.text, "line 2: \"values\" has too many numbers");
    history_reader_close(reader);
}
END_TEST

START_TEST(a_history_that_is_cut_anywhere_is_read_up_to_there)
{
    static const char text[] = "{\"history\":1}\n{\"op\":\"event\",\"at\":12}\n{\"op\":\"event\"}";
    struct history_reader *reader;
    struct history_op op;
    struct err_info info;

    for (size_t size = 14; size < sizeof text; size++) {
        size_t whole = size < 36 ? 0 : size < sizeof text - 1 ? 1 : 2;
        bool between = size == 14 || size == 36 || size == 37 || size == sizeof text - 1;

        write_bytes(text, size);
        ck_assert_int_eq(history_reader_open(path, &reader, &info), ERR_OK);
        for (size_t i = 0; i < whole; i++) {
            ck_assert_int_eq(history_reader_next(reader, &op, &info), ERR_OK);
        }
        ck_assert_int_eq(history_reader_next(reader, &op, &info),
                         between ? ERR_NOT_FOUND : ERR_INVALID);
        history_reader_close(reader);
    }
}
END_TEST

/* Bytes of a good history are changed at random: whatever comes of it is an operation or an
 * error. */
START_TEST(no_file_makes_the_reader_fall)
{
    char text[2000];
    size_t size;
    FILE *file = fopen(path, "w+b");
    unsigned seed = 1;

    history_begin(file, "x");
    history_write(file, &produce);
    history_write(file, &delivery);
    history_write(file, &cursor);
    history_write(file, &event);
    rewind(file);
    size = fread(text, 1, sizeof text, file);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_uint_gt(size, 600);
    for (int round = 0; round < 1000; round++) {
        char changed[sizeof text];
        struct history_reader *reader;
        struct history_op op;
        struct err_info info;

        memcpy(changed, text, size);
        for (int i = 0; i < 3; i++) {
            changed[(size_t)rand_r(&seed) % size] = (char)rand_r(&seed);
        }
        write_bytes(changed, size);
        if (history_reader_open(path, &reader, &info) != ERR_OK) {
            continue;
        }
        while (history_reader_next(reader, &op, &info) == ERR_OK) {
            ck_assert_uint_le(op.value_count, 5);
        }
        history_reader_close(reader);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/history");
    TCase *tcase = tcase_create("write and read");

    tcase_add_checked_fixture(tcase, open_path, remove_path);
    tcase_add_test(tcase, what_is_read_stands_for_what_it_says_or_what_it_shows);
    tcase_add_test(tcase, every_field_of_every_kind_comes_back);
    tcase_add_test(tcase, the_page_has_every_field);
    tcase_add_test(tcase, the_largest_operation_fits_in_a_line);
    tcase_add_test(tcase, text_that_is_too_long_or_no_utf8_is_told_as_well_as_it_goes);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("what is refused");
    tcase_add_checked_fixture(tcase, open_path, remove_path);
    tcase_add_test(tcase, a_bad_line_is_told_with_its_number);
    tcase_add_test(tcase, what_does_not_begin_as_a_history_is_none);
    tcase_add_test(tcase, a_line_without_end_is_refused_and_not_kept_in_memory);
    tcase_add_test(tcase, more_values_than_an_operation_may_have_are_refused);
    tcase_add_test(tcase, a_history_that_is_cut_anywhere_is_read_up_to_there);
    tcase_add_test(tcase, no_file_makes_the_reader_fall);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
