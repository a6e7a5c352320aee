#include "base/diag.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/runner.h"

static int64_t now_us;
static char got[4096];
static size_t got_size;
static unsigned lines;

static int64_t fake_wall_us(const struct clock *self)
{
    (void)self;
    return now_us;
}

static const struct clock fake_clock = {.wall_us = fake_wall_us};

static void keep(void *arg, const char *line, size_t size)
{
    ck_assert_ptr_eq(arg, &got);
    ck_assert_uint_lt(size, sizeof got);
    memcpy(got, line, size);
    got[size] = '\0';
    got_size = size;
    lines++;
}

static struct diag make(enum diag_level level)
{
    lines = 0;
    now_us = INT64_C(1795255200123456);
    return (struct diag){
        .level = level, .node_id = 3, .clock = &fake_clock, .write = keep, .arg = &got};
}

START_TEST(an_event_is_one_line_with_time_level_node_module_and_fields)
{
    struct diag diag = make(DIAG_DEBUG);

    diag_event(&diag, DIAG_WARN, "log", "torn_tail", "position=%d file=%s", 12, "x");
    ck_assert_str_eq(got, "2026-11-21T10:00:00.123456Z WARN node=3 mod=log event=torn_tail "
                          "position=12 file=x\n");
    diag.node_id = 0;
    diag_event(&diag, DIAG_ERROR, "log", "failed", "%s", "");
    diag_event(&diag, DIAG_DEBUG, "log", "opened", "a=%d", 1);
    ck_assert_str_eq(got, "2026-11-21T10:00:00.123456Z DEBUG mod=log event=opened a=1\n");
    ck_assert_uint_eq(lines, 3);
}
END_TEST

START_TEST(an_event_without_fields_has_no_space_at_its_end)
{
    struct diag diag = make(DIAG_INFO);

    diag_event(&diag, DIAG_INFO, "server", "ready", "");
    ck_assert_str_eq(got, "2026-11-21T10:00:00.123456Z INFO node=3 mod=server event=ready\n");
}
END_TEST

START_TEST(events_above_the_level_are_dropped_and_no_diag_is_fine)
{
    struct diag diag = make(DIAG_WARN);

    diag_event(&diag, DIAG_INFO, "m", "e", "x=%d", 1);
    diag_event(&diag, DIAG_DEBUG, "m", "e", "x=%d", 1);
    diag_event(NULL, DIAG_ERROR, "m", "e", "x=%d", 1);
    ck_assert_uint_eq(lines, 0);
    diag_event(&diag, DIAG_WARN, "m", "e", "x=%d", 1);
    diag_event(&diag, DIAG_ERROR, "m", "e", "x=%d", 1);
    ck_assert_uint_eq(lines, 2);
}
END_TEST

START_TEST(lines_are_cut_at_1_kib_and_still_end)
{
    struct diag diag = make(DIAG_INFO);
    char text[3000];

    for (size_t size = 900; size < 1100; size++) {
        memset(text, 'x', size);
        text[size] = '\0';
        diag_event(&diag, DIAG_INFO, "m", "e", "%s", text);
        ck_assert_uint_le(got_size, 1024);
        ck_assert_int_eq(got[got_size - 1], '\n');
        ck_assert_int_eq(got[got_size - 2], 'x');
    }
    ck_assert_uint_eq(got_size, 1024);
}
END_TEST

START_TEST(times_before_1970_are_times)
{
    struct diag diag = make(DIAG_INFO);

    now_us = -1;
    diag_event(&diag, DIAG_INFO, "m", "e", "x=%d", 1);
    ck_assert_str_eq(got, "1969-12-31T23:59:59.999999Z INFO node=3 mod=m event=e x=1\n");
    now_us = 0;
    diag_event(&diag, DIAG_INFO, "m", "e", "x=%d", 1);
    ck_assert_str_eq(got, "1970-01-01T00:00:00.000000Z INFO node=3 mod=m event=e x=1\n");
}
END_TEST

START_TEST(stderr_gets_whole_lines)
{
    struct diag diag;
    int saved = dup(STDERR_FILENO);
    int ends[2];
    char line[2048];
    ssize_t n;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    diag_init_stderr(&diag, DIAG_INFO, 9);
    diag_event(&diag, DIAG_INFO, "m", "e", "x=%d", 1);
    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    n = read(ends[0], line, sizeof line - 1);
    ck_assert_int_gt(n, 0);
    line[n] = '\0';
    ck_assert_ptr_nonnull(strstr(line, "Z INFO node=9 mod=m event=e x=1\n"));
    ck_assert_int_eq(line[n - 1], '\n');
    ck_assert_int_eq(close(ends[0]) + close(ends[1]) + close(saved), 0);
}
END_TEST

START_TEST(quote_escapes_what_would_break_the_line)
{
    char buffer[64];

    ck_assert_str_eq(diag_quote(buffer, sizeof buffer, "a b"), "\"a b\"");
    ck_assert_str_eq(diag_quote(buffer, sizeof buffer, "a\"\\\n\x7f"), "\"a\\\"\\\\\\x0a\\x7f\"");
    ck_assert_str_eq(diag_quote(buffer, sizeof buffer, ""), "\"\"");
    ck_assert_str_eq(diag_quote(buffer, sizeof buffer, "\xc3\xa9"), "\"\xc3\xa9\"");
    ck_assert_ptr_eq(diag_quote(buffer, sizeof buffer, "x"), buffer);
}
END_TEST

START_TEST(quote_never_writes_past_the_buffer_and_always_closes)
{
    char buffer[40];
    char text[60];

    memset(text, '\n', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (size_t size = 3; size <= 32; size++) {
        memset(buffer, '#', sizeof buffer);
        (void)diag_quote(buffer, size, text);
        ck_assert_uint_lt(strlen(buffer), size);
        ck_assert_int_eq(buffer[strlen(buffer) - 1], '"');
        ck_assert_int_eq(buffer[size], '#');
    }
}
END_TEST

START_TEST(levels_parse)
{
    enum diag_level level = DIAG_WARN;

    ck_assert(diag_level_parse("debug", &level));
    ck_assert_int_eq(level, DIAG_DEBUG);
    ck_assert(diag_level_parse("error", &level));
    ck_assert_int_eq(level, DIAG_ERROR);
    ck_assert(!diag_level_parse("INFO", &level));
    ck_assert(!diag_level_parse("", &level));
    ck_assert_int_eq(level, DIAG_ERROR);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("diag");
    TCase *event = tcase_create("event");
    TCase *quote = tcase_create("quote");
    TCase *level = tcase_create("level");

    tcase_add_test(event, an_event_is_one_line_with_time_level_node_module_and_fields);
    tcase_add_test(event, an_event_without_fields_has_no_space_at_its_end);
    tcase_add_test(event, events_above_the_level_are_dropped_and_no_diag_is_fine);
    tcase_add_test(event, lines_are_cut_at_1_kib_and_still_end);
    tcase_add_test(event, times_before_1970_are_times);
    tcase_add_test(event, stderr_gets_whole_lines);
    tcase_add_test(quote, quote_escapes_what_would_break_the_line);
    tcase_add_test(quote, quote_never_writes_past_the_buffer_and_always_closes);
    tcase_add_test(level, levels_parse);
    suite_add_tcase(suite, event);
    suite_add_tcase(suite, quote);
    suite_add_tcase(suite, level);
    return runner_main(suite);
}
