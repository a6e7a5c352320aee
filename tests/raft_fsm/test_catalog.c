#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/catalog.h"
#include "sim/mem_io.h"

static struct mem_io disk;
static struct catalog *catalog;
static unsigned logs_made;

static void setup(void)
{
    mem_io_init(&disk);
    ck_assert_int_eq(catalog_new(50, &catalog), ERR_OK);
}

static void teardown(void)
{
    catalog_free(catalog);
    ck_assert_uint_eq(mem_io_open_count(&disk), 0); /* Every log was closed. */
    mem_io_fini(&disk);
}

static struct log *new_log(void)
{
    char dir[32];
    const struct log_options options = {.io = &disk.io, .dir = dir};
    struct log_report report;
    struct log *log;

    (void)snprintf(dir, sizeof dir, "/%u", logs_made++); /* fits */
    ck_assert_int_eq(disk.io.mkdir(&disk.io, dir, 0700), 0);
    ck_assert_int_eq(log_open(&options, &log, &report, NULL), ERR_OK);
    return log;
}

static struct topic *add(uint64_t id, const char *name)
{
    struct topic *topic;

    ck_assert_int_eq(catalog_add(catalog, id, name, new_log(), 77, &topic), ERR_OK);
    return topic;
}

START_TEST(a_topic_is_found_by_name_and_by_id)
{
    struct topic *added = add(5, "orders");
    struct topic *topic;

    ck_assert_str_eq(added->name, "orders");
    ck_assert_uint_eq(added->id, 5);
    ck_assert_int_eq(added->created_time_us, 77);
    ck_assert_uint_eq(added->end, 0);
    topic = catalog_find(catalog, "orders");
    ck_assert_ptr_eq(topic, added);
    topic_unref(topic);
    topic = catalog_find_id(catalog, 5);
    ck_assert_ptr_eq(topic, added);
    topic_unref(topic);
    ck_assert_ptr_eq(catalog_peek(catalog, "orders"), added);
    ck_assert_ptr_eq(catalog_peek_id(catalog, 5), added);
    ck_assert_ptr_null(catalog_find(catalog, "order"));
    ck_assert_ptr_null(catalog_find(catalog, ""));
    ck_assert_ptr_null(catalog_find_id(catalog, 6));
}
END_TEST

START_TEST(neither_name_nor_id_comes_twice)
{
    struct log *log = new_log();
    struct topic *topic;

    (void)add(5, "a"); /* stays in the catalog */
    ck_assert_int_eq(catalog_add(catalog, 5, "b", log, 1, &topic), ERR_EXISTS);
    ck_assert_int_eq(catalog_add(catalog, 6, "a", log, 1, &topic), ERR_EXISTS);
    ck_assert_uint_eq(catalog_count(catalog), 1);
    ck_assert_int_eq(catalog_add(catalog, 6, "b", log, 1, &topic), ERR_OK);
}
END_TEST

START_TEST(topics_are_limited)
{
    struct log *log = new_log();
    struct topic *topic;

    for (uint64_t i = 0; i < 50; i++) {
        char name[8];

        (void)snprintf(name, sizeof name, "t%u", (unsigned)i); /* fits */
        (void)add(i, name);                                    /* stays in the catalog */
    }
    ck_assert_int_eq(catalog_add(catalog, 50, "x", log, 1, &topic), ERR_LIMIT);
    catalog_remove(catalog, catalog_peek(catalog, "t7"));
    ck_assert_int_eq(catalog_add(catalog, 50, "x", log, 1, &topic), ERR_OK);
}
END_TEST

START_TEST(a_removed_topic_lives_as_long_as_somebody_holds_it)
{
    struct topic *topic = add(5, "a");
    unsigned open = mem_io_open_count(&disk);

    topic_ref(topic);
    catalog_remove(catalog, topic);
    ck_assert_ptr_null(catalog_find(catalog, "a"));
    ck_assert_ptr_null(catalog_find_id(catalog, 5));
    ck_assert(atomic_load(&topic->deleted));
    ck_assert_uint_eq(mem_io_open_count(&disk), open);
    ck_assert_uint_eq(log_end(topic->log), 0);
    (void)add(6, "a"); /* The name is free. */
    topic_unref(topic);
    topic_unref(NULL);
    ck_assert_uint_eq(mem_io_open_count(&disk), open);
}
END_TEST

START_TEST(the_list_is_in_order_of_name)
{
    static const char *const names[] = {"b", "a.b", "C", "a", "ab", "9"};
    static const char *const sorted[] = {"9", "C", "a", "a.b", "ab", "b"};
    struct topic **topics;
    size_t count;

    ck_assert_int_eq(catalog_list(catalog, &topics, &count), ERR_OK);
    ck_assert_uint_eq(count, 0);
    free(topics);
    for (uint64_t i = 0; i < 6; i++) {
        (void)add(i, names[i]); /* stays in the catalog */
    }
    ck_assert_int_eq(catalog_list(catalog, &topics, &count), ERR_OK);
    ck_assert_uint_eq(count, 6);
    for (size_t i = 0; i < count; i++) {
        ck_assert_str_eq(topics[i]->name, sorted[i]);
        topic_unref(topics[i]);
    }
    free(topics);
}
END_TEST

static atomic_bool stop;
static atomic_uint found;

static void *find_again_and_again(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        struct topic *topic = catalog_find(catalog, "t3");
        struct topic **topics;
        size_t count;

        if (topic != NULL) {
            ck_assert_str_eq(topic->name, "t3");
            (void)atomic_fetch_add(&found, 1);
            topic_unref(topic);
        }
        ck_assert_int_eq(catalog_list(catalog, &topics, &count), ERR_OK);
        for (size_t i = 0; i < count; i++) {
            topic_unref(topics[i]);
        }
        free(topics);
    }
    return NULL;
}

START_TEST(readers_go_on_while_topics_come_and_go)
{
    pthread_t threads[2];

    atomic_store(&stop, false);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, find_again_and_again, NULL), 0);
    }
    for (uint64_t i = 0; i < 300 || (atomic_load(&found) == 0 && i < 1000000); i++) {
        char name[8];
        struct topic *topic;

        (void)snprintf(name, sizeof name, "t%u", (unsigned)i % 7); /* fits */
        topic = catalog_peek(catalog, name);
        if (topic == NULL) {
            (void)add(i, name); /* stays in the catalog */
            continue;
        }
        /* mem_io is of one thread: the log must be closed by this one. */
        topic_ref(topic);
        catalog_remove(catalog, topic);
        while (atomic_load(&topic->refs) > 1) {
        }
        topic_unref(topic);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_gt(atomic_load(&found), 0);
}
END_TEST

static void *read_settings(void *arg)
{
    struct topic *topic = arg;
    struct topic_settings settings;

    do {
        topic_settings_get(topic, &settings);
        /* A set is written as a whole. */
        ck_assert_uint_eq(settings.retention_ms, settings.flush_ms);
        ck_assert_uint_eq(settings.node_index_count, settings.retention_ms > 0);
        ck_assert_uint_eq(settings.node_indexes[0].node_id, settings.retention_ms);
    } while (settings.retention_ms < 2000);
    return NULL;
}

START_TEST(settings_are_read_as_a_whole_while_they_change)
{
    struct topic *topic = add(5, "a");
    pthread_t threads[2];
    struct topic_settings settings;

    topic_settings_get(topic, &settings);
    ck_assert(topic_settings_equal(&settings, &(struct topic_settings){0}));
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_settings, topic), 0);
    }
    for (uint64_t value = 10; value <= 2000; value++) {
        settings = (struct topic_settings){.retention_ms = value,
                                           .flush_ms = value,
                                           .node_index_count = 1,
                                           .node_indexes = {{.node_id = value}}};
        topic_settings_set(topic, &settings);
    }
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/catalog");
    TCase *tcase = tcase_create("catalog");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_topic_is_found_by_name_and_by_id);
    tcase_add_test(tcase, neither_name_nor_id_comes_twice);
    tcase_add_test(tcase, topics_are_limited);
    tcase_add_test(tcase, a_removed_topic_lives_as_long_as_somebody_holds_it);
    tcase_add_test(tcase, the_list_is_in_order_of_name);
    tcase_add_test(tcase, readers_go_on_while_topics_come_and_go);
    tcase_add_test(tcase, settings_are_read_as_a_whole_while_they_change);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
