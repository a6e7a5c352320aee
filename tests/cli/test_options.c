#include "cli/options.h"

#include <string.h>

#include "lib/runner.h"

static const struct option_spec options[] = {
    {"key", 'k', "KEY", false, "a value"},
    {"header", 'H', "NAME=VALUE", true, "values"},
    {"json", 'j', NULL, false, "a flag"},
    {"follow", 'F', NULL, false, "another flag"},
    {"batch_size", 0, "BYTES", false, "written with '_' in files"},
    {NULL, 0, NULL, false, NULL},
};

static const struct command_spec command = {
    .name = "try it",
    .synopsis = "TOPIC [FILE]",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 2,
};

static struct invocation parsed;
static struct err_info info;

#define PARSE(...) parse((char *[]){__VA_ARGS__, NULL})

static enum err parse(char **argv)
{
    int argc = 0;

    while (argv[argc] != NULL) {
        argc++;
    }
    info = (struct err_info){0};
    return options_parse(&command, argc, argv, &parsed, &info);
}

static void expect_refused(char **argv, const char *text)
{
    ck_assert_int_eq(parse(argv), ERR_INVALID);
    ck_assert_msg(strstr(info.text, text) != NULL, "'%s' is not in '%s'", text, info.text);
}

#define REFUSED(text, ...) expect_refused((char *[]){__VA_ARGS__, NULL}, text)

START_TEST(values_stand_behind_a_space_an_equals_or_the_letter)
{
    static char *const forms[][4] = {
        {"--key", "v", "t", NULL}, {"--key=v", "t", NULL, NULL}, {"-k", "v", "t", NULL},
        {"-kv", "t", NULL, NULL},  {"t", "-k", "v", NULL},       {"t", "--key", "v", NULL},
    };

    ck_assert_int_eq(parse((char **)forms[_i]), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "key"), "v");
    ck_assert_uint_eq(parsed.argument_count, 1);
    ck_assert_str_eq(parsed.arguments[0], "t");
}
END_TEST

START_TEST(flags_may_stand_together_and_before_a_value)
{
    ck_assert_int_eq(PARSE("-jFk", "v", "t"), ERR_OK);
    ck_assert(option_given(&parsed, "json") && option_given(&parsed, "follow"));
    ck_assert_str_eq(option_value(&parsed, "key"), "v");
    ck_assert_int_eq(PARSE("t"), ERR_OK);
    ck_assert(!option_given(&parsed, "json") && option_value(&parsed, "key") == NULL);
}
END_TEST

START_TEST(value_may_look_like_an_option_or_be_empty)
{
    ck_assert_int_eq(PARSE("t", "-k", "-5"), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "key"), "-5");
    ck_assert_int_eq(PARSE("t", "--key=", "f"), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "key"), "");
    ck_assert_int_eq(PARSE("t", "--key=a=b"), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "key"), "a=b");
}
END_TEST

START_TEST(two_dashes_end_the_options_and_one_is_an_argument)
{
    ck_assert_int_eq(PARSE("--", "--json", "-"), ERR_OK);
    ck_assert_uint_eq(parsed.argument_count, 2);
    ck_assert_str_eq(parsed.arguments[0], "--json");
    ck_assert_str_eq(parsed.arguments[1], "-");
    ck_assert(!option_given(&parsed, "json"));
}
END_TEST

START_TEST(repeated_options_keep_their_order)
{
    ck_assert_int_eq(PARSE("-H", "a=1", "t", "-H", "b=2"), ERR_OK);
    ck_assert_uint_eq(option_count(&parsed, "header"), 2);
    ck_assert_str_eq(option_value_at(&parsed, "header", 0), "a=1");
    ck_assert_str_eq(option_value_at(&parsed, "header", 1), "b=2");
}
END_TEST

START_TEST(underscores_and_dashes_are_the_same_in_names)
{
    ck_assert_int_eq(PARSE("t", "--batch-size", "5"), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "batch_size"), "5");
    ck_assert_int_eq(PARSE("t", "--batch_size=6"), ERR_OK);
    ck_assert_str_eq(option_value(&parsed, "batch-size"), "6");
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    REFUSED("unknown option '--nope'", "t", "--nope");
    REFUSED("'quorlog try it --help'", "t", "--nope");
    REFUSED("unknown option '--ke'", "t", "--ke", "v"); /* No guessing by the beginning. */
    REFUSED("unknown option '-jx'", "t", "-jx");
    REFUSED("'--key' is given twice", "t", "-k", "a", "--key=b");
    REFUSED("'--json' takes no value", "t", "--json=1");
    REFUSED("'--key' wants a value: KEY", "t", "--key");
    REFUSED("'-k' wants a value: KEY", "t", "-jk");
    REFUSED("an argument is missing; usage: quorlog try it TOPIC [FILE]", "--json");
    REFUSED("too many arguments at 'c'", "a", "b", "c");
}
END_TEST

START_TEST(repeats_are_bounded)
{
    char *argv[2 * OPTION_REPEATS_MAX + 4] = {0};
    int argc = 0;

    for (int i = 0; i < OPTION_REPEATS_MAX; i++) {
        argv[argc++] = "-H";
        argv[argc++] = "a=b";
    }
    argv[argc++] = "t";
    ck_assert_int_eq(parse(argv), ERR_OK);
    argv[argc++] = "-Hx=y";
    ck_assert_int_eq(parse(argv), ERR_INVALID);
}
END_TEST

static const struct {
    const char *text;
    uint64_t number;
} numbers[] = {
    {"0", 0},
    {"7", 7},
    {"1k", 1024},
    {"2K", 2048},
    {"3M", 3145728},
    {"1g", 1073741824},
    {"0G", 0},
    {"18446744073709551615", UINT64_MAX},
    {"1T", UINT64_C(1) << 40},
    {"1KiB", 1024},
    {"2GiB", UINT64_C(2) << 30},
    {"007", 7},
    {"17179869183G", UINT64_C(17179869183) << 30},
};

START_TEST(numbers_are_whole_with_a_suffix_or_none)
{
    uint64_t number = 1;

    ck_assert_int_eq(parse_number(numbers[_i].text, "n", 0, UINT64_MAX, &number, &info), ERR_OK);
    ck_assert_uint_eq(number, numbers[_i].number);
}
END_TEST

static const char *const not_numbers[] = {
    "",
    "x",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1.5",
    "0x10",
    "K",
    "1KB",
    "1KiBs",
    "1Ki",
    "1iB",
    "18446744073709551616",
    "17179869184G",
};

START_TEST(anything_else_is_no_number_and_changes_nothing)
{
    uint64_t number = 4711;

    ck_assert_int_eq(parse_number(not_numbers[_i], "n", 0, UINT64_MAX, &number, &info),
                     ERR_INVALID);
    ck_assert_uint_eq(number, 4711);
}
END_TEST

START_TEST(numbers_are_kept_to_their_range_suffix_included)
{
    uint64_t number = 0;

    ck_assert_int_eq(parse_number("9", "n", 10, 2048, &number, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "10 to 2048"));
    ck_assert_int_eq(parse_number("2049", "n", 10, 2048, &number, &info), ERR_INVALID);
    ck_assert_int_eq(parse_number("3K", "n", 10, 2048, &number, &info), ERR_INVALID);
    ck_assert_int_eq(parse_number("2K", "n", 10, 2048, &number, &info), ERR_OK);
    ck_assert_int_eq(PARSE("t", "-k", "x"), ERR_OK);
    ck_assert_int_eq(option_number(&parsed, "key", 5, 0, 9, &number, &info), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(info.text, "--key"));
    ck_assert_int_eq(PARSE("t"), ERR_OK);
    ck_assert_int_eq(option_number(&parsed, "key", 5, 0, 9, &number, &info), ERR_OK);
    ck_assert_uint_eq(number, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/options");
    TCase *parsing = tcase_create("parse");
    TCase *number = tcase_create("number");

    tcase_add_loop_test(parsing, values_stand_behind_a_space_an_equals_or_the_letter, 0, 6);
    tcase_add_test(parsing, flags_may_stand_together_and_before_a_value);
    tcase_add_test(parsing, value_may_look_like_an_option_or_be_empty);
    tcase_add_test(parsing, two_dashes_end_the_options_and_one_is_an_argument);
    tcase_add_test(parsing, repeated_options_keep_their_order);
    tcase_add_test(parsing, underscores_and_dashes_are_the_same_in_names);
    tcase_add_test(parsing, what_is_wrong_is_named);
    tcase_add_test(parsing, repeats_are_bounded);
    tcase_add_loop_test(number, numbers_are_whole_with_a_suffix_or_none, 0,
                        sizeof numbers / sizeof numbers[0]);
    tcase_add_loop_test(number, anything_else_is_no_number_and_changes_nothing, 0,
                        sizeof not_numbers / sizeof not_numbers[0]);
    tcase_add_test(number, numbers_are_kept_to_their_range_suffix_included);
    suite_add_tcase(suite, parsing);
    suite_add_tcase(suite, number);
    return runner_main(suite);
}
