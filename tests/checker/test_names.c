#include "checker/names.h"

#include <stdio.h>
#include <string.h>

#include "lib/runner.h"

START_TEST(names_have_numbers_in_the_order_in_which_they_come)
{
    struct names names = {0};
    char text[20];
    uint32_t number;

    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < 2000; i++) {
            (void)snprintf(text, sizeof text, "name-%u", i);
            ck_assert_int_eq(names_number(&names, 7, text, &number), ERR_OK);
            ck_assert_uint_eq(number, i);
            ck_assert_str_eq(names.items[number].text, text);
        }
    }
    names_fini(&names);
}
END_TEST

START_TEST(the_same_text_in_another_scope_is_another_name)
{
    struct names names = {0};
    uint32_t number;

    ck_assert_int_eq(names_number(&names, 0, "a", &number), ERR_OK);
    ck_assert_int_eq(names_number(&names, 1, "a", &number), ERR_OK);
    ck_assert_uint_eq(number, 1);
    ck_assert_int_eq(names_number(&names, 0, "a", &number), ERR_OK);
    ck_assert_uint_eq(number, 0);
    names_fini(&names);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/names");
    TCase *tcase = tcase_create("names");

    tcase_add_test(tcase, names_have_numbers_in_the_order_in_which_they_come);
    tcase_add_test(tcase, the_same_text_in_another_scope_is_another_name);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
