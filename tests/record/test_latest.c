#include "record/latest.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

enum { KEYS_MAX = 200000 };

static struct latest *latest;

static void setup(void)
{
    ck_assert_int_eq(latest_new(LATEST_MEMORY_MIN, &latest), ERR_OK);
}

static void teardown(void)
{
    latest_free(latest);
}

static enum err note(const char *key, uint64_t offset)
{
    return latest_note(latest, key, strlen(key), offset);
}

static bool has_later(const char *key, uint64_t offset)
{
    return latest_has_later(latest, key, strlen(key), offset);
}

static enum err note_number(uint64_t number, uint64_t offset)
{
    return latest_note(latest, &number, sizeof number, offset);
}

static bool number_has_later(uint64_t number, uint64_t offset)
{
    return latest_has_later(latest, &number, sizeof number, offset);
}

/* Notes 0, 1, … until the memory is used up; returns how many. */
static uint64_t fill(uint64_t *offset)
{
    uint64_t count = 0;
    enum err err;

    while ((err = note_number(count, *offset)) == ERR_OK) {
        count++;
        ++*offset;
        ck_assert_uint_lt(count, KEYS_MAX);
    }
    ck_assert_int_eq(err, ERR_LIMIT);
    return count;
}

START_TEST(nothing_noted_is_later_than_nothing)
{
    ck_assert(!has_later("a", 0));
    ck_assert_uint_eq(latest_count(latest), 0);
    ck_assert_uint_eq(latest_end(latest), 0);
    latest_free(NULL);
}
END_TEST

START_TEST(only_records_before_the_latest_have_a_later_one)
{
    ck_assert_int_eq(note("a", 5), ERR_OK);
    ck_assert_int_eq(note("b", 6), ERR_OK);
    ck_assert_int_eq(note("a", 9), ERR_OK);
    ck_assert(has_later("a", 0));
    ck_assert(has_later("a", 5));
    ck_assert(has_later("a", 8));
    ck_assert(!has_later("a", 9));
    ck_assert(!has_later("a", 10));
    ck_assert(has_later("b", 5));
    ck_assert(!has_later("b", 6));
    ck_assert(!has_later("c", 0));
    ck_assert_uint_eq(latest_count(latest), 2);
    ck_assert_uint_eq(latest_end(latest), 10);
}
END_TEST

START_TEST(empty_key_is_a_key)
{
    ck_assert_int_eq(note("", 0), ERR_OK);
    ck_assert_int_eq(latest_note(latest, "\0", 1, 1), ERR_OK);
    ck_assert_int_eq(note("", 2), ERR_OK);
    ck_assert(has_later("", 1));
    ck_assert(!has_later("", 2));
    ck_assert(!latest_has_later(latest, "\0", 1, 1));
    ck_assert_uint_eq(latest_count(latest), 2);
}
END_TEST

START_TEST(full_one_takes_known_keys_and_forgets_nothing)
{
    uint64_t offset = 0;
    uint64_t count = fill(&offset);

    ck_assert_uint_ge(count, LATEST_MEMORY_MIN / 24 / 2);
    ck_assert_uint_le(count, LATEST_MEMORY_MIN / 24);
    ck_assert(!latest_has_room(latest, 1));
    ck_assert(latest_has_room(latest, 0));
    ck_assert_uint_eq(latest_count(latest), count);
    ck_assert_uint_eq(latest_end(latest), offset);
    for (uint64_t i = 0; i < count; i++) {
        ck_assert(i == 0 || number_has_later(i, i - 1));
        ck_assert(!number_has_later(i, i));
        ck_assert_int_eq(note_number(i, offset + i), ERR_OK);
        ck_assert(number_has_later(i, i));
    }
    ck_assert_int_eq(note_number(count, offset + count), ERR_LIMIT);
    ck_assert(!number_has_later(count, 0));
}
END_TEST

START_TEST(room_that_was_made_changes_no_answer)
{
    uint64_t offset = 10;
    uint64_t count;

    ck_assert_int_eq(note("a", 3), ERR_OK);
    ck_assert_int_eq(latest_reserve(latest, "a", 1), ERR_OK);
    ck_assert_int_eq(latest_reserve(latest, "b", 1), ERR_OK);
    ck_assert(has_later("a", 2));
    ck_assert(!has_later("a", 3));
    ck_assert(!has_later("b", 0));
    ck_assert_uint_eq(latest_count(latest), 1);
    ck_assert_uint_eq(latest_end(latest), 4);
    count = fill(&offset);
    ck_assert_int_eq(latest_reserve(latest, "c", 1), ERR_LIMIT);
    ck_assert_int_eq(note("b", offset), ERR_OK); /* It has room. */
    ck_assert(has_later("b", 0));
    ck_assert_uint_eq(latest_count(latest), count + 2);
}
END_TEST

START_TEST(room_is_what_can_be_noted)
{
    uint64_t offset = 0;
    uint64_t count = fill(&offset);

    latest_clear(latest);
    ck_assert(latest_has_room(latest, count));
    ck_assert(!latest_has_room(latest, count + 1));
    ck_assert_int_eq(note("a", 0), ERR_OK);
    ck_assert(latest_has_room(latest, count - 1));
    ck_assert(!latest_has_room(latest, count));
}
END_TEST

START_TEST(cleared_one_begins_again)
{
    uint64_t offset = 100;
    uint64_t count = fill(&offset);

    latest_clear(latest);
    ck_assert_uint_eq(latest_count(latest), 0);
    ck_assert_uint_eq(latest_end(latest), 0);
    for (uint64_t i = 0; i < count; i++) {
        ck_assert(!number_has_later(i, 0));
    }
    offset = 0;
    ck_assert_uint_eq(fill(&offset), count);
}
END_TEST

START_TEST(many_keys_are_told_apart)
{
    latest_free(latest);
    ck_assert_int_eq(latest_new(8 << 20, &latest), ERR_OK);
    for (uint64_t i = 0; i < KEYS_MAX / 2; i++) {
        ck_assert_int_eq(note_number(i, i), ERR_OK);
    }
    for (uint64_t i = 0; i < KEYS_MAX / 2; i += 3) {
        ck_assert_int_eq(note_number(i, KEYS_MAX + i), ERR_OK);
    }
    ck_assert_uint_eq(latest_count(latest), KEYS_MAX / 2);
    for (uint64_t i = 0; i < KEYS_MAX / 2; i++) {
        ck_assert_int_eq(number_has_later(i, i), i % 3 == 0);
    }
    ck_assert(!number_has_later(KEYS_MAX / 2, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("latest");
    TCase *notes = tcase_create("notes");

    tcase_add_checked_fixture(notes, setup, teardown);
    tcase_add_test(notes, nothing_noted_is_later_than_nothing);
    tcase_add_test(notes, only_records_before_the_latest_have_a_later_one);
    tcase_add_test(notes, empty_key_is_a_key);
    tcase_add_test(notes, full_one_takes_known_keys_and_forgets_nothing);
    tcase_add_test(notes, room_that_was_made_changes_no_answer);
    tcase_add_test(notes, room_is_what_can_be_noted);
    tcase_add_test(notes, cleared_one_begins_again);
    tcase_add_test(notes, many_keys_are_told_apart);
    suite_add_tcase(suite, notes);
    return runner_main(suite);
}
