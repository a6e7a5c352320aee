#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "lib/runner.h"

static const enum err all[] = {
#define ERR_CODE(name, number, outcome, retryable, text) ERR_##name,
    ERR_MAP(ERR_CODE)
#undef ERR_CODE
};
enum { COUNT = sizeof all / sizeof all[0] };

START_TEST(numbers_go_down_from_zero_and_never_move)
{
    ck_assert_int_eq(all[0], 0);
    for (int i = 1; i < COUNT; i++) {
        ck_assert_int_lt(all[i], all[i - 1]);
    }
    /* On the wire: a few of them by hand. */
    ck_assert_int_eq(ERR_NOT_LEADER, -12);
    ck_assert_int_eq(ERR_CHECKSUM, -22);
    ck_assert_int_eq(ERR_DIVERGED, -36);
    ck_assert_int_eq(ERR_HOLE, -37);
    ck_assert_int_eq(ERR_WRONG_DISK, -50);
    ck_assert_int_eq(ERR_CURSOR_CONFLICT, -47);
    ck_assert_int_eq(ERR_LAGGING, -44);
    ck_assert_int_eq(ERR_EXPECT_FAILED, -40);
    ck_assert_int_eq(ERR_NOT_CONFIRMED, -41);
}
END_TEST

START_TEST(every_code_has_a_name_and_a_text_of_its_own)
{
    for (int i = 0; i < COUNT; i++) {
        ck_assert_str_ne(err_name(all[i]), "UNKNOWN");
        for (int j = 0; j < i; j++) {
            ck_assert_str_ne(err_name(all[i]), err_name(all[j]));
            ck_assert_str_ne(err_text(all[i]), err_text(all[j]));
        }
    }
    ck_assert_str_eq(err_name(ERR_NO_LEADER), "NO_LEADER");
    ck_assert_str_eq(err_text(ERR_NO_LEADER), "no leader");
}
END_TEST

START_TEST(numbers_from_the_wire_are_looked_up)
{
    enum err err = ERR_BUSY;

    ck_assert(err_from_number(-19, &err));
    ck_assert_int_eq(err, ERR_WRONG_CLUSTER);
    ck_assert(!err_from_number(1, &err));
    ck_assert(!err_from_number(all[COUNT - 1] - 1, &err));
    ck_assert_int_eq(err, ERR_WRONG_CLUSTER);
}
END_TEST

START_TEST(codes_from_the_future_promise_nothing)
{
    enum err unknown = (enum err)(all[COUNT - 1] - 5);

    ck_assert_str_eq(err_text(unknown), "unknown error");
    ck_assert_str_eq(err_name(unknown), "UNKNOWN");
    ck_assert_int_eq(err_outcome(unknown), ERR_OUTCOME_UNKNOWN);
    ck_assert(!err_retryable(unknown));
}
END_TEST

START_TEST(outcomes_say_what_a_produce_has_done)
{
    ck_assert_int_eq(err_outcome(ERR_OK), ERR_OUTCOME_WRITTEN);
    ck_assert_int_eq(err_outcome(ERR_DUPLICATE_OLD), ERR_OUTCOME_WRITTEN);
    ck_assert_int_eq(err_outcome(ERR_TIMEOUT), ERR_OUTCOME_UNKNOWN);
    ck_assert_int_eq(err_outcome(ERR_NO_LEADER), ERR_OUTCOME_NOT_WRITTEN);
    ck_assert(err_retryable(ERR_NO_LEADER));
    ck_assert(!err_retryable(ERR_FENCED));
}
END_TEST

START_TEST(set_fills_in_and_returns_the_code)
{
    struct err_info info;

    ck_assert_int_eq(err_set(&info, ERR_IO, "open '%s'", "x"), ERR_IO);
    ck_assert_int_eq(info.code, ERR_IO);
    ck_assert_str_eq(info.text, "open 'x'");
    ck_assert_int_eq(err_set(NULL, ERR_RANGE, "nobody reads this"), ERR_RANGE);
}
END_TEST

START_TEST(prefix_goes_before_the_text_and_returns_the_code)
{
    struct err_info info;

    (void)err_set(&info, ERR_IO, "disk");
    ck_assert_int_eq(err_prefix(&info, ERR_IO, "topic %d", 7), ERR_IO);
    ck_assert_str_eq(info.text, "topic 7: disk");
    ck_assert_int_eq(err_prefix(&info, ERR_BUSY, "log"), ERR_BUSY);
    ck_assert_int_eq(info.code, ERR_BUSY);
    ck_assert_str_eq(info.text, "log: topic 7: disk");
    ck_assert_int_eq(err_prefix(NULL, ERR_BUSY, "topic"), ERR_BUSY);
}
END_TEST

/* An error that nobody has explained is neither lost nor told as the one before it. */
START_TEST(prefix_says_what_nobody_has_said)
{
    struct err_info info = {.code = ERR_OK};

    ck_assert_int_eq(err_prefix(&info, ERR_NOMEM, "topic"), ERR_NOMEM);
    ck_assert_int_eq(info.code, ERR_NOMEM);
    ck_assert_str_eq(info.text, "topic: out of memory");
    (void)err_set(&info, ERR_NOT_FOUND, "of something before");
    ck_assert_int_eq(err_prefix(&info, ERR_NOMEM, "topic"), ERR_NOMEM);
    ck_assert_str_eq(info.text, "topic: out of memory");
}
END_TEST

START_TEST(long_texts_are_cut_and_end_with_a_zero)
{
    struct {
        struct err_info info;
        char guard[8];
    } at;
    char text[2000];

    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memset(at.guard, 'g', sizeof at.guard);
    (void)err_set(&at.info, ERR_IO, "%s", text);
    ck_assert_uint_eq(strlen(at.info.text), sizeof at.info.text - 1);
    (void)err_prefix(&at.info, ERR_IO, "context");
    ck_assert_uint_eq(strlen(at.info.text), sizeof at.info.text - 1);
    ck_assert_int_eq(strncmp(at.info.text, "context: ttt", 12), 0);
    (void)err_prefix(&at.info, ERR_IO, "%s", text);
    ck_assert_uint_lt(strlen(at.info.text), sizeof at.info.text);
    ck_assert_int_eq(memcmp(at.guard, "gggggggg", sizeof at.guard), 0);
}
END_TEST

START_TEST(errno_becomes_a_code)
{
    ck_assert_int_eq(err_from_errno(0), ERR_OK);
    ck_assert_int_eq(err_from_errno(ENOMEM), ERR_NOMEM);
    ck_assert_int_eq(err_from_errno(ENOSPC), ERR_NOSPACE);
    ck_assert_int_eq(err_from_errno(EDQUOT), ERR_NOSPACE);
    ck_assert_int_eq(err_from_errno(ENOENT), ERR_NOT_FOUND);
    ck_assert_int_eq(err_from_errno(EEXIST), ERR_EXISTS);
    ck_assert_int_eq(err_from_errno(EWOULDBLOCK), ERR_AGAIN);
    ck_assert_int_eq(err_from_errno(EINVAL), ERR_INVALID);
    ck_assert_int_eq(err_from_errno(EIO), ERR_IO);
    ck_assert_int_eq(err_from_errno(EACCES), ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("err");
    TCase *codes = tcase_create("codes");
    TCase *info = tcase_create("info");

    tcase_add_test(codes, numbers_go_down_from_zero_and_never_move);
    tcase_add_test(codes, every_code_has_a_name_and_a_text_of_its_own);
    tcase_add_test(codes, numbers_from_the_wire_are_looked_up);
    tcase_add_test(codes, codes_from_the_future_promise_nothing);
    tcase_add_test(codes, outcomes_say_what_a_produce_has_done);
    tcase_add_test(codes, errno_becomes_a_code);
    tcase_add_test(info, set_fills_in_and_returns_the_code);
    tcase_add_test(info, prefix_goes_before_the_text_and_returns_the_code);
    tcase_add_test(info, prefix_says_what_nobody_has_said);
    tcase_add_test(info, long_texts_are_cut_and_end_with_a_zero);
    suite_add_tcase(suite, codes);
    suite_add_tcase(suite, info);
    return runner_main(suite);
}
