#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/cursors.h"

static struct cursors *cursors;
static uint64_t revision; /* of the next change */

static void setup(void)
{
    revision = 100;
    ck_assert_int_eq(cursors_new(&cursors), ERR_OK);
}

static void teardown(void)
{
    cursors_check(cursors);
    cursors_free(cursors);
}

static struct cursor_change change_of(const char *name, enum cursor_expect expect,
                                      uint64_t expected, uint64_t offset)
{
    struct cursor_change change = {
        .expect = expect, .expected = expected, .offset = offset, .owner = offset + 1000};

    (void)snprintf(change.name, sizeof change.name, "%s", name);
    return change;
}

/* In topic `topic_id`, which ends at 1000. */
static enum err set(uint64_t topic_id, struct cursor_change change,
                    struct cursor_position *ret_position)
{
    const struct cursor_stamp stamp = {.topic_id = topic_id,
                                       .topic_end = 1000,
                                       .revision = revision,
                                       .time_us = (int64_t)revision * 10};

    revision++;
    return cursors_set(cursors, &stamp, &change, ret_position);
}

/* Sets it whatever it is; its revision. */
static uint64_t put(uint64_t topic_id, const char *name, uint64_t offset)
{
    struct cursor_position at;

    ck_assert_int_eq(set(topic_id, change_of(name, CURSOR_EXPECT_ANY, 0, offset), &at), ERR_OK);
    return at.revision;
}

static uint64_t offset_of(uint64_t topic_id, const char *name)
{
    struct cursor cursor;

    ck_assert(cursors_find(cursors, topic_id, name, &cursor));
    ck_assert_uint_eq(cursor.topic_id, topic_id);
    ck_assert_str_eq(cursor.name, name);
    return cursor.at.offset;
}

/* ---- changes ---- */

START_TEST(what_is_set_is_found)
{
    struct cursor_change change = change_of("c", CURSOR_EXPECT_ANY, 0, 7);
    struct cursor_position at;
    struct cursor cursor;

    strcpy(change.metadata, "anything");
    ck_assert(!cursors_find(cursors, 5, "c", &cursor));
    ck_assert_int_eq(set(5, change, &at), ERR_OK);
    ck_assert_uint_eq(at.offset, 7);
    ck_assert_uint_eq(at.revision, 100);
    ck_assert_uint_eq(at.owner, 1007);
    ck_assert_int_eq(at.updated_time_us, 1000);
    ck_assert(cursors_find(cursors, 5, "c", &cursor));
    ck_assert_mem_eq(&cursor.at, &at, sizeof at);
    ck_assert_str_eq(cursor.metadata, "anything");
    (void)put(5, "c", 3);
    ck_assert(cursors_find(cursors, 5, "c", &cursor));
    ck_assert_uint_eq(cursor.at.offset, 3);
    ck_assert_uint_eq(cursor.at.revision, 101);
    ck_assert_str_eq(cursor.metadata, "");
    ck_assert_uint_eq(cursors_count(cursors), 1);
}
END_TEST

START_TEST(each_topic_has_its_own_names)
{
    (void)put(5, "c", 1);
    (void)put(6, "c", 2);
    (void)put(5, "cc", 3);
    ck_assert_uint_eq(offset_of(5, "c"), 1);
    ck_assert_uint_eq(offset_of(6, "c"), 2);
    ck_assert_uint_eq(offset_of(5, "cc"), 3);
    cursors_forget_topic(cursors, 5);
    ck_assert_uint_eq(cursors_count(cursors), 1);
    ck_assert_uint_eq(offset_of(6, "c"), 2);
}
END_TEST

START_TEST(revision_0_expects_that_there_is_none)
{
    struct cursor_position at;

    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, 9, 1), &at),
                     ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(at.revision, 0);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, 0, 1), &at), ERR_OK);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, 0, 2), &at),
                     ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(at.offset, 1);
    ck_assert_uint_eq(offset_of(5, "c"), 1);
}
END_TEST

START_TEST(a_revision_is_good_for_one_change)
{
    uint64_t first = put(5, "c", 1);
    struct cursor_position at;

    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, first, 2), &at), ERR_OK);
    ck_assert_uint_ne(at.revision, first);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, first, 3), &at),
                     ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(at.offset, 2);
    ck_assert_uint_eq(at.owner, 1002);
    ck_assert_uint_eq(offset_of(5, "c"), 2);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, at.revision, 3), &at), ERR_OK);
    ck_assert_uint_eq(offset_of(5, "c"), 3);
}
END_TEST

START_TEST(an_offset_is_expected_of_a_cursor_that_is_there)
{
    struct cursor_position at;

    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_OFFSET, 0, 1), &at), ERR_CURSOR_CONFLICT);
    (void)put(5, "c", 4);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_OFFSET, 5, 6), &at), ERR_CURSOR_CONFLICT);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_OFFSET, 4, 6), &at), ERR_OK);
    ck_assert_uint_eq(offset_of(5, "c"), 6);
}
END_TEST

START_TEST(beyond_the_end_is_nowhere)
{
    struct cursor_position at;

    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_ANY, 0, 1001), &at), ERR_RANGE);
    ck_assert_uint_eq(cursors_count(cursors), 0);
    (void)put(5, "c", 1000);
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_ANY, 0, 1001), &at), ERR_RANGE);
    ck_assert_uint_eq(at.offset, 1000);
    ck_assert_uint_eq(offset_of(5, "c"), 1000);
    /* What was expected comes first. */
    ck_assert_int_eq(set(5, change_of("c", CURSOR_EXPECT_REVISION, 0, 1001), &at),
                     ERR_CURSOR_CONFLICT);
}
END_TEST

START_TEST(deleting_compares_too)
{
    struct cursor_change change = change_of("c", CURSOR_EXPECT_ANY, 0, 0);
    struct cursor_position at;
    uint64_t now = put(5, "c", 4);

    ck_assert_int_eq(cursors_delete(cursors, 6, &change, &at), ERR_CURSOR_UNKNOWN);
    change.expect = CURSOR_EXPECT_REVISION;
    change.expected = now + 1;
    ck_assert_int_eq(cursors_delete(cursors, 5, &change, &at), ERR_CURSOR_CONFLICT);
    ck_assert_uint_eq(at.revision, now);
    change.expected = now;
    ck_assert_int_eq(cursors_delete(cursors, 5, &change, &at), ERR_OK);
    ck_assert_uint_eq(at.revision, 0);
    ck_assert_uint_eq(cursors_count(cursors), 0);
    ck_assert_int_eq(cursors_delete(cursors, 5, &change, &at), ERR_CURSOR_UNKNOWN);
}
END_TEST

START_TEST(there_is_room_for_so_many)
{
    struct cursor_change change = change_of("x", CURSOR_EXPECT_ANY, 0, 0);
    struct cursor_position at;

    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        (void)snprintf(change.name, sizeof change.name, "c%u", i);
        ck_assert_int_eq(set(1 + i % 7, change, &at), ERR_OK);
    }
    ck_assert_int_eq(set(9, change_of("one-more", CURSOR_EXPECT_ANY, 0, 0), &at), ERR_LIMIT);
    ck_assert_uint_eq(at.revision, 0);
    (void)put(1, "c0", 9); /* One that is there needs none. */
    change = change_of("c1", CURSOR_EXPECT_ANY, 0, 0);
    ck_assert_int_eq(cursors_delete(cursors, 2, &change, &at), ERR_OK);
    (void)put(9, "one-more", 1);
    ck_assert_uint_eq(cursors_count(cursors), CURSORS_MAX);
}
END_TEST

/* ---- visiting, copying ---- */

struct seen {
    char text[512];
    unsigned left; /* before an error */
};

static enum err see(void *arg, const struct cursor *cursor)
{
    struct seen *seen = arg;
    size_t size = strlen(seen->text);

    if (seen->left-- == 0) {
        return ERR_BUSY;
    }
    (void)snprintf(seen->text + size, sizeof seen->text - size, "%d:%s@%d ", (int)cursor->topic_id,
                   cursor->name, (int)cursor->at.offset);
    return ERR_OK;
}

START_TEST(a_visit_goes_by_topic_and_name)
{
    struct seen seen = {.left = 100};

    ck_assert_int_eq(cursors_visit(cursors, see, &seen), ERR_OK);
    ck_assert_str_eq(seen.text, "");
    (void)put(300, "a", 1);
    (void)put(2, "b", 2);
    (void)put(2, "B", 3);
    (void)put(2, "ab", 4);
    ck_assert_int_eq(cursors_visit(cursors, see, &seen), ERR_OK);
    ck_assert_str_eq(seen.text, "2:B@3 2:ab@4 2:b@2 300:a@1 ");
    seen = (struct seen){.left = 2};
    ck_assert_int_eq(cursors_visit(cursors, see, &seen), ERR_BUSY);
    ck_assert_str_eq(seen.text, "2:B@3 2:ab@4 ");
}
END_TEST

START_TEST(a_copy_is_equal_and_its_own)
{
    struct cursor_change change = change_of("c", CURSOR_EXPECT_ANY, 0, 7);
    struct cursor_position at;
    struct cursor cursor;
    struct cursors *copy;

    strcpy(change.metadata, "kept");
    ck_assert_int_eq(set(5, change, &at), ERR_OK);
    (void)put(6, "d", 8);
    ck_assert_int_eq(cursors_copy(cursors, &copy), ERR_OK);
    (void)put(5, "c", 1);
    cursors_forget_topic(cursors, 6);
    cursors_check(copy);
    ck_assert_uint_eq(cursors_count(copy), 2);
    ck_assert(cursors_find(copy, 5, "c", &cursor));
    ck_assert_mem_eq(&cursor.at, &at, sizeof at);
    ck_assert_str_eq(cursor.metadata, "kept");
    cursors_exchange(cursors, copy);
    ck_assert_uint_eq(cursors_count(cursors), 2);
    ck_assert_uint_eq(cursors_count(copy), 1);
    ck_assert_uint_eq(offset_of(5, "c"), 7);
    cursors_free(copy);
}
END_TEST

START_TEST(what_no_table_visits_is_not_restored)
{
    struct cursor cursor = {.topic_id = 5, .name = "c", .at = {.revision = 1}};

    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_OK);
    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_CORRUPT);
    strcpy(cursor.name, "d");
    cursor.at.revision = 0;
    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_CORRUPT);
    cursor.at.revision = 2;
    strcpy(cursor.name, "a b");
    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_CORRUPT);
    cursor.name[0] = '\0';
    ck_assert_int_eq(cursors_restore(cursors, &cursor), ERR_CORRUPT);
    ck_assert_uint_eq(cursors_count(cursors), 1);
}
END_TEST

/* ---- listing ---- */

static void assert_page(uint64_t topic_id, uint64_t after_topic_id, const char *after_name,
                        size_t size_max, const char *expected, bool more)
{
    struct cursor found[8];
    struct cursors_page page = {.topic_id = topic_id,
                                .after_topic_id = after_topic_id,
                                .after_name = after_name,
                                .size_max = size_max,
                                .cursors = found};
    struct seen seen = {.left = 100};

    ck_assert_uint_le(size_max, 8);
    ck_assert_int_eq(cursors_list(cursors, &page), ERR_OK);
    for (size_t i = 0; i < page.count; i++) {
        ck_assert_int_eq(see(&seen, &found[i]), ERR_OK);
    }
    ck_assert_str_eq(seen.text, expected);
    ck_assert(page.more == more);
}

START_TEST(a_list_comes_in_parts)
{
    static const char *const names[] = {"d", "a", "c", "b"};

    for (unsigned i = 0; i < 4; i++) {
        (void)put(7, names[i], i);
        (void)put(3, names[i], 10 + i);
    }
    assert_page(0, 0, "", 8, "3:a@11 3:b@13 3:c@12 3:d@10 7:a@1 7:b@3 7:c@2 7:d@0 ", false);
    assert_page(0, 0, "", 3, "3:a@11 3:b@13 3:c@12 ", true);
    assert_page(0, 3, "c", 3, "3:d@10 7:a@1 7:b@3 ", true);
    assert_page(0, 7, "b", 3, "7:c@2 7:d@0 ", false);
    assert_page(0, 7, "d", 3, "", false);
    assert_page(7, 0, "", 3, "7:a@1 7:b@3 7:c@2 ", true);
    assert_page(3, 3, "c", 1, "3:d@10 ", false);
    assert_page(4, 0, "", 3, "", false);
    assert_page(0, 3, "", 1, "3:a@11 ", true);
}
END_TEST

/* ---- threads ---- */

static atomic_bool finished;

/* A cursor's parts belong together, whenever one looks. */
static void *look(void *arg)
{
    unsigned *looks = arg;

    while (!atomic_load(&finished)) {
        struct cursor found[4];
        struct cursors_page page = {.after_name = "", .size_max = 4, .cursors = found};

        if (cursors_find(cursors, 5, "c", &found[0])) {
            ck_assert_uint_eq(found[0].at.owner, found[0].at.offset + 1000);
            ck_assert_uint_eq(strlen(found[0].metadata), found[0].at.offset % 200);
        }
        ck_assert_int_eq(cursors_list(cursors, &page), ERR_OK);
        ck_assert_uint_le(page.count, 2);
        (*looks)++;
    }
    return NULL;
}

START_TEST(others_may_look_while_it_changes)
{
    struct cursor_position at;
    unsigned looks = 0;
    pthread_t thread;

    atomic_store(&finished, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, look, &looks), 0);
    for (unsigned i = 0; i < 20000; i++) {
        struct cursor_change change = change_of("c", CURSOR_EXPECT_ANY, 0, i % 1000);

        memset(change.metadata, 'm', change.offset % 200);
        ck_assert_int_eq(set(5, change, &at), ERR_OK);
        if (i % 3 == 0) {
            ck_assert_int_eq(cursors_delete(cursors, 5, &change, &at), ERR_OK);
            (void)put(6, "d", 1);
        } else if (i % 3 == 1) {
            cursors_forget_topic(cursors, 6);
        }
    }
    atomic_store(&finished, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(looks, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("raft_fsm/cursors");
    TCase *changes = tcase_create("cursors_set, cursors_delete");
    TCase *visits = tcase_create("cursors_visit, cursors_copy");
    TCase *lists = tcase_create("cursors_list");
    TCase *threads = tcase_create("threads");

    tcase_add_checked_fixture(changes, setup, teardown);
    tcase_add_test(changes, what_is_set_is_found);
    tcase_add_test(changes, each_topic_has_its_own_names);
    tcase_add_test(changes, revision_0_expects_that_there_is_none);
    tcase_add_test(changes, a_revision_is_good_for_one_change);
    tcase_add_test(changes, an_offset_is_expected_of_a_cursor_that_is_there);
    tcase_add_test(changes, beyond_the_end_is_nowhere);
    tcase_add_test(changes, deleting_compares_too);
    tcase_add_test(changes, there_is_room_for_so_many);
    tcase_set_timeout(changes, 30);
    suite_add_tcase(suite, changes);
    tcase_add_checked_fixture(visits, setup, teardown);
    tcase_add_test(visits, a_visit_goes_by_topic_and_name);
    tcase_add_test(visits, a_copy_is_equal_and_its_own);
    tcase_add_test(visits, what_no_table_visits_is_not_restored);
    suite_add_tcase(suite, visits);
    tcase_add_checked_fixture(lists, setup, teardown);
    tcase_add_test(lists, a_list_comes_in_parts);
    suite_add_tcase(suite, lists);
    tcase_add_checked_fixture(threads, setup, teardown);
    tcase_add_test(threads, others_may_look_while_it_changes);
    tcase_set_timeout(threads, 30);
    suite_add_tcase(suite, threads);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
