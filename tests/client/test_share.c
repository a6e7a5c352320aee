#include "client/share.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "lib/runner.h"

static unsigned share_of_key(const char *key, unsigned count)
{
    const struct record record = {.key = key, .key_size = strlen(key), .offset = 12345};

    return share_of(&record, count);
}

/* docs/protocol.md has the same: other clients must come to it. */
START_TEST(keys_have_the_shares_that_the_protocol_says)
{
    static const struct {
        const char *key;
        unsigned of_2, of_3, of_7, of_1024;
    } expected[] = {
        {"", 1, 1, 1, 1},         {"a", 1, 3, 5, 545},     {"b", 1, 1, 7, 429},
        {"e", 2, 3, 3, 834},      {"key-7", 2, 1, 4, 124}, {"user-1", 2, 1, 4, 506},
        {"user-2", 1, 2, 1, 477},
    };

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        ck_assert_uint_eq(share_of_key(expected[i].key, 1), 1);
        ck_assert_uint_eq(share_of_key(expected[i].key, 2), expected[i].of_2);
        ck_assert_uint_eq(share_of_key(expected[i].key, 3), expected[i].of_3);
        ck_assert_uint_eq(share_of_key(expected[i].key, 7), expected[i].of_7);
        ck_assert_uint_eq(share_of_key(expected[i].key, 1024), expected[i].of_1024);
    }
}
END_TEST

START_TEST(records_without_a_key_go_in_turn)
{
    for (uint64_t offset = 0; offset < 20; offset++) {
        const struct record record = {.offset = offset};

        ck_assert_uint_eq(share_of(&record, 4), offset % 4 + 1);
    }
}
END_TEST

/* Keys that count by two see an even bit of a checksum only. */
START_TEST(shares_are_of_one_size)
{
    static const unsigned counts[] = {2, 3, 4, 8};

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        unsigned sizes[8] = {0};

        for (unsigned k = 0; k < 8000; k++) {
            char key[32];

            (void)snprintf(key, sizeof key, "user-%u", 2 * k);
            sizes[share_of_key(key, counts[i]) - 1]++;
        }
        for (unsigned s = 0; s < counts[i]; s++) {
            ck_assert_uint_gt(sizes[s], 8000 / counts[i] * 9 / 10);
        }
    }
}
END_TEST

START_TEST(what_is_a_share)
{
    ck_assert(share_is_one(0, 0));
    ck_assert(share_is_one(1, 1));
    ck_assert(share_is_one(1024, 1024));
    ck_assert(!share_is_one(1, 0));
    ck_assert(!share_is_one(0, 1));
    ck_assert(!share_is_one(2, 1));
    ck_assert(!share_is_one(1, 1025));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/share");
    TCase *tcase = tcase_create("share_of");

    tcase_add_test(tcase, keys_have_the_shares_that_the_protocol_says);
    tcase_add_test(tcase, records_without_a_key_go_in_turn);
    tcase_add_test(tcase, shares_are_of_one_size);
    tcase_add_test(tcase, what_is_a_share);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
