#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/runner.h"
#include "lookup/key_table.h"
#include "lookup/lookup_lab.h"

static struct lab lab;
static struct lab_topic topic;

static void set_up(void)
{
    lab_init(&lab, 1);
    lab_topic_init(&lab, &topic, 5, "topic");
}

static void tear_down(void)
{
    lab_fini(&lab);
    lab_topic_fini(&topic);
}

static void use_segments(unsigned size)
{
    lab_topic_delete(&lab, &topic);
    lab_topic_fini(&topic);
    lab.segment_size = size;
    lab_topic_init(&lab, &topic, 6, "large");
}

static void append(unsigned batches, unsigned records, unsigned keys)
{
    for (unsigned i = 0; i < batches; i++) {
        lab_append(&lab, &topic, records, keys);
    }
    if (lab.lookup != NULL) {
        lookup_wake(lab.lookup);
    }
}

static void start_with(uint32_t bits)
{
    lab_set_indexes(&topic, bits);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
}

static unsigned count_files(const char *suffix)
{
    char **files = lab_files(&lab, &topic, suffix);
    unsigned count = 0;

    while (files[count] != NULL) {
        count++;
    }
    lab_files_free(files);
    return count;
}

static struct lab_cost check_key(int32_t key, bool newest_first)
{
    struct lookup_query query = {.newest_first = newest_first};
    struct lab_cost cost;

    lab_check(&lab, &topic, key, &query, log_start(topic.log), topic.end, &cost);
    return cost;
}

START_TEST(without_indexes_all_is_to_be_looked_at)
{
    append(20, 10, 50);
    lab_start(&lab);
    ck_assert_uint_eq(check_key(3, false).scanned, topic.end);
    ck_assert_uint_eq(check_key(3, true).scanned, topic.end);
}
END_TEST

START_TEST(a_tree_tells_the_offsets_of_a_key)
{
    append(300, 10, 50);
    start_with(TOPIC_INDEX_BTREE);
    for (int32_t key = 0; key < 50; key += 7) {
        struct lab_cost cost = check_key(key, key % 2 == 0);

        ck_assert_uint_eq(cost.scanned, cost.found);
        ck_assert_uint_gt(cost.found, 0);
    }
    ck_assert_uint_eq(check_key(77, false).scanned, 0);
}
END_TEST

START_TEST(a_key_of_100000_records_costs_a_few_pages)
{
    struct lookup_stats before;
    struct lookup_stats after;

    use_segments(1 << 20);        /* so that most is in few files */
    lab.options.table_max = 1000; /* a hundred files, merged */
    append(1000, 100, 100000);
    start_with(TOPIC_INDEX_BTREE);
    while (count_files(".keys") > 22) { /* 100 = 1 * 64 + 4 * 8 + 4 */
        (void)usleep(10000);            /* a little less is fine */
    }
    lab_stop(&lab);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    lookup_stats(lab.lookup, &before);
    ck_assert_uint_le(check_key(4711, false).scanned, 20);
    lookup_stats(lab.lookup, &after);
    ck_assert_uint_gt(after.pages_read, before.pages_read);
    ck_assert_uint_le(after.files_read - before.files_read, 22);
    ck_assert_uint_le(after.pages_read - before.pages_read, 22 * 3);
}
END_TEST

START_TEST(a_filter_rules_out_segments)
{
    append(300, 10, 50);
    for (unsigned i = 0; i < 20; i++) {
        lab_append(&lab, &topic, 10, 50);
    }
    start_with(TOPIC_INDEX_BLOOM);
    ck_assert_uint_gt(log_segment_count(topic.log), 5);
    ck_assert_uint_lt(check_key(1234567, false).scanned, topic.end / 3);
    ck_assert_uint_eq(count_files(".bloom"), log_segment_count(topic.log) - 1);
}
END_TEST

START_TEST(times_are_found_between_two_batches)
{
    struct lookup_query query = {0};
    struct lab_cost cost;
    int64_t time;

    use_segments(1 << 20); /* so that most is in few files */
    append(2000, 20, 50);  /* about 500 bytes a batch */
    start_with(TOPIC_INDEX_TIME);
    time = topic.records[topic.end / 2].time_us;
    query.since_us = time;
    query.until_us = time + 1;
    lab_check(&lab, &topic, LAB_NO_KEY, &query, 0, topic.end, &cost);
    ck_assert_uint_gt(cost.found, 0);
    ck_assert_uint_lt(cost.scanned, 5000);
    lab_check(&lab, &topic, LAB_NO_KEY, &query, 0, topic.end / 4, &cost);
    ck_assert_uint_eq(cost.scanned, 0);
    query.newest_first = true;
    lab_check(&lab, &topic, LAB_NO_KEY, &query, 0, topic.end, &cost);
    ck_assert_uint_lt(cost.scanned, 5000);
}
END_TEST

START_TEST(what_is_stopped_goes_on_where_it_was)
{
    struct lookup_stats stats;

    append(300, 10, 50);
    start_with(TOPIC_INDEX_BTREE);
    lab_stop(&lab);
    ck_assert_uint_gt(count_files(".keys"), 0);
    append(1, 10, 50);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    lookup_stats(lab.lookup, &stats);
    ck_assert_uint_lt(stats.bytes_built, 5000);
    ck_assert_uint_eq(check_key(3, false).scanned, check_key(3, true).found);
}
END_TEST

START_TEST(a_set_that_is_dropped_leaves_nothing)
{
    char path[512];
    struct stat status;

    append(300, 10, 50);
    start_with(TOPIC_INDEXES_KNOWN);
    ck_assert_uint_gt(count_files(""), 3);
    lab_set_indexes(&topic, TOPIC_INDEX_TIME);
    lookup_wake(lab.lookup);
    for (unsigned i = 0; count_files(".bloom") > 0; i++) {
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
    ck_assert_uint_gt(count_files(".timeindex"), 0);
    lab_set_indexes(&topic, 0);
    lookup_wake(lab.lookup);
    (void)snprintf(path, sizeof path, "%s/indexes/topic-5", lab.dir);
    for (unsigned i = 0; stat(path, &status) == 0; i++) {
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
    ck_assert_uint_eq(check_key(3, false).scanned, topic.end);
}
END_TEST

START_TEST(a_nodes_own_set_counts)
{
    struct topic_settings settings;
    struct lookup_status status[LOOKUP_INDEXES_MAX];

    append(10, 10, 50);
    topic_settings_get(topic.topic, &settings);
    settings.indexes = TOPIC_INDEX_BTREE;
    settings.node_index_count = 1;
    settings.node_indexes[0] =
        (struct topic_node_indexes){.node_id = 1, .indexes = TOPIC_INDEX_BLOOM};
    topic_settings_set(topic.topic, &settings);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    ck_assert_uint_eq(lookup_status(lab.lookup, topic.topic, status), 1);
    ck_assert_uint_eq(status[0].index, TOPIC_INDEX_BLOOM);
}
END_TEST

START_TEST(what_lies_below_the_start_goes)
{
    append(300, 10, 50);
    start_with(TOPIC_INDEXES_KNOWN);
    ck_assert_int_eq(log_truncate_front(topic.log, topic.end - 5, NULL), ERR_OK);
    lookup_wake(lab.lookup);
    for (unsigned i = 0; count_files(".bloom") > 0; i++) {
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
    ck_assert_uint_le(check_key(3, false).scanned, 5);
}
END_TEST

/* ---- compaction ---- */

/* All keys, from both ends, and some times. */
static struct lab_cost check_all(unsigned keys)
{
    struct lab_cost sum = {0};

    for (unsigned i = 0; i < keys; i++) {
        struct lookup_query query = {.newest_first = i % 2 == 0};
        struct lab_cost cost;

        lab_check(&lab, &topic, (int32_t)i, &query, log_start(topic.log), topic.end, &cost);
        ck_assert_uint_gt(cost.found, 0);
        sum.found += cost.found;
        sum.scanned += cost.scanned;
    }
    for (uint64_t offset = 0; offset < topic.end; offset += 1 + topic.end / 20) {
        int64_t time_us = topic.records[offset].time_us;
        struct lookup_query query = {.since_us = time_us};

        lab_check(&lab, &topic, LAB_NO_KEY, &query, 0, topic.end, NULL);
        query.since_us = 0;
        query.until_us = time_us + (int64_t)(offset % 2);
        lab_check(&lab, &topic, LAB_NO_KEY, &query, 0, topic.end, NULL);
    }
    return sum;
}

static uint64_t files_size(const char *suffix)
{
    char **files = lab_files(&lab, &topic, suffix);
    uint64_t size = 0;

    for (unsigned i = 0; files[i] != NULL; i++) {
        size += lab_file_size(files[i]);
    }
    lab_files_free(files);
    return size;
}

START_TEST(offsets_of_records_that_compaction_took_do_no_harm)
{
    append(200, 10, 20);
    start_with(TOPIC_INDEXES_KNOWN);
    lab_compact(&topic, topic.end, (unsigned)_i);
    /* Whether they are named still, or not any more. */
    (void)check_all(20);
    append(20, 10, 20);
    (void)check_all(20);
}
END_TEST

START_TEST(times_of_a_compacted_log_are_found)
{
    append(200, 10, 20);
    lab_compact(&topic, topic.end, (unsigned)_i);
    append(20, 10, 20);
    start_with(TOPIC_INDEXES_KNOWN);
    (void)check_all(20);
}
END_TEST

START_TEST(what_topics_have_in_memory_is_bounded_for_all_together)
{
    bool bounded = _i == 1;

    lab.options.memory = bounded ? (size_t)1000 * 2 * 2 * KEY_TABLE_ENTRY_SIZE : 0;
    append(300, 10, 20);
    start_with(TOPIC_INDEX_BTREE);
    /* Of 3000 keys, a thousand or two were written to make room for the next. */
    ck_assert((count_files(".keys") > 0) == bounded);
    (void)check_all(20);
}
END_TEST

/* Up to where a file of an index is what compaction left. */
static bool is_small(uint64_t keys_size, unsigned times)
{
    return count_files(".keys") > 0 && files_size(".keys") < keys_size / 2 &&
           count_files(".timeindex") < times;
}

START_TEST(indexes_of_what_compaction_took_are_made_again)
{
    struct lab_cost cost;
    uint64_t keys_size;
    unsigned times;

    use_segments(32 * 1024);
    lab.options.table_max = 1000;
    append(1000, 10, 20);
    start_with(TOPIC_INDEXES_KNOWN);
    keys_size = files_size(".keys");
    times = count_files(".timeindex");
    ck_assert_uint_gt(keys_size, 0);
    lab_compact(&topic, topic.end, 8);
    lookup_wake(lab.lookup);
    for (unsigned i = 0; i < 2000 && !is_small(keys_size, times); i++) {
        (void)usleep(5000);
        lookup_wake(lab.lookup);
    }
    ck_assert(is_small(keys_size, times));
    lab_wait_ready(&lab, &topic);
    cost = check_all(20);
    /* Few that are not there are named still, but for what has not become a file yet. */
    ck_assert_uint_lt(cost.scanned, 2 * cost.found + lab.options.table_max);
    /* All is as the log now is: nothing is made again for ever. */
    lab_stop(&lab);
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    keys_size = files_size("");
    lab_compact(&topic, topic.end, 1);
    for (unsigned i = 0; i < 20; i++) {
        lookup_wake(lab.lookup);
        (void)usleep(5000);
    }
    lab_wait_ready(&lab, &topic);
    ck_assert_uint_le(files_size(""), keys_size);
    (void)check_all(20);
}
END_TEST

START_TEST(files_that_end_inside_of_a_merged_batch_are_not_believed_after_a_restart)
{
    append(200, 10, 20);
    start_with(TOPIC_INDEXES_KNOWN);
    lab_compact(&topic, topic.end, 3);
    (void)check_all(20);
    lab_stop(&lab);
    lab_start(&lab);
    (void)check_all(20);
    lab_wait_ready(&lab, &topic);
    (void)check_all(20);
}
END_TEST

START_TEST(leftovers_of_unknown_topics_go_at_the_start)
{
    char path[512];
    struct stat status;
    FILE *file;

    append(10, 10, 50);
    (void)snprintf(path, sizeof path, "%s/indexes", lab.dir);
    ck_assert(mkdir(path, 0750) == 0);
    (void)snprintf(path, sizeof path, "%s/indexes/gone-77", lab.dir);
    ck_assert(mkdir(path, 0750) == 0);
    (void)snprintf(path, sizeof path, "%s/indexes/gone-77/anything", lab.dir);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fclose(file), 0);
    start_with(TOPIC_INDEX_TIME);
    (void)snprintf(path, sizeof path, "%s/indexes/gone-77", lab.dir);
    for (unsigned i = 0; stat(path, &status) == 0; i++) {
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
}
END_TEST

START_TEST(a_topic_that_is_deleted_takes_its_files_along)
{
    char path[512];
    struct stat status;

    append(300, 10, 50);
    start_with(TOPIC_INDEXES_KNOWN);
    (void)snprintf(path, sizeof path, "%s/indexes/topic-5", lab.dir);
    ck_assert(stat(path, &status) == 0);
    lab_topic_delete(&lab, &topic);
    lookup_wake(lab.lookup);
    for (unsigned i = 0; stat(path, &status) == 0; i++) {
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
}
END_TEST

/* Each kind's files, with a bit flipped in each of them, under a running node or a stopped one. */
static void flip_all(const char *suffix)
{
    char **files = lab_files(&lab, &topic, suffix);

    for (size_t i = 0; files[i] != NULL; i++) {
        lab_flip_bit(files[i], lab_random(&lab, lab_file_size(files[i]) * 8));
    }
    ck_assert_ptr_nonnull(files[0]);
    lab_files_free(files);
}

START_TEST(damage_is_named_never_served_and_made_again)
{
    static const char *const suffixes[] = {".timeindex", ".bloom", ".keys"};
    struct lookup_query query = {.since_us = 1200000, .until_us = 1250000};

    lab.options.table_max = 200;
    append(200, 10, 20);
    start_with(TOPIC_INDEXES_KNOWN);
    lab_stop(&lab);
    for (unsigned i = 0; i < 3; i++) {
        flip_all(suffixes[i]);
        lab.damage_told = 0;
        lab.options.check_ms = 20;
        lab_start(&lab);
        lab_check(&lab, &topic, 3, &query, 0, topic.end, NULL);
        (void)check_key(3, false);
        (void)check_key(1234567, true);
        for (unsigned k = 0; lab.damage_told == 0; k++) {
            ck_assert_uint_lt(k, 2000);
            (void)usleep(5000); /* a little less is fine */
        }
        (void)usleep(100000); /* a little less is fine */
        lab_wait_ready(&lab, &topic);
        lab_check(&lab, &topic, 3, &query, 0, topic.end, NULL);
        (void)check_key(3, false);
        lab_stop(&lab);
        ck_assert_ptr_nonnull(strstr(lab.damage_text, "topic=topic"));
    }
}
END_TEST

START_TEST(a_full_disk_is_told_and_later_tried_again)
{
    char path[512];
    struct lookup_status status[LOOKUP_INDEXES_MAX];
    FILE *file;

    /* A file where the directory has to be. */
    (void)snprintf(path, sizeof path, "%s/indexes", lab.dir);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fclose(file), 0);
    append(50, 10, 50);
    lab_set_indexes(&topic, TOPIC_INDEX_TIME);
    lab_start(&lab);
    for (unsigned i = 0;; i++) {
        if (lookup_status(lab.lookup, topic.topic, status) == 1 &&
            status[0].state == LOOKUP_FAILED) {
            break;
        }
        ck_assert_uint_lt(i, 1000);
        (void)usleep(5000); /* a little less is fine */
    }
    ck_assert_ptr_nonnull(strstr(status[0].reason, "indexes"));
    ck_assert_uint_eq(check_key(3, false).scanned, topic.end);
    ck_assert_int_eq(unlink(path), 0);
    lab_wait_ready(&lab, &topic);
}
END_TEST

static atomic_bool is_settled;

static bool settled(void *arg)
{
    (void)arg;
    return atomic_load(&is_settled);
}

/* A node that was just started: the topic is not there yet, as its journal was not applied. */
START_TEST(nothing_is_removed_before_the_node_knows_its_topics)
{
    struct lookup_stats stats;

    append(300, 10, 50);
    start_with(TOPIC_INDEXES_KNOWN);
    lab_stop(&lab);
    lab_set_indexes(&topic, 0);
    lab.options.settled = settled;
    lab_start(&lab);
    (void)usleep(100000); /* a little less is fine */
    ck_assert_uint_gt(count_files(".keys"), 0);
    lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
    atomic_store(&is_settled, true);
    lab_wait_ready(&lab, &topic);
    lookup_stats(lab.lookup, &stats);
    ck_assert_uint_lt(stats.bytes_built, 5000);
    ck_assert_uint_gt(check_key(3, false).found, 0);
}
END_TEST

/* LMDB does its own writing, so a process is killed in the middle of it. */
START_TEST(a_killed_builder_leaves_what_can_be_used_or_is_made_again)
{
    lab.options.table_max = 100;
    append(600, 10, 50);
    lab_set_indexes(&topic, TOPIC_INDEXES_KNOWN);
    for (unsigned i = 0; i < 12; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            lab_start(&lab);
            for (;;) {
                (void)usleep(1000); /* until it is killed */
            }
        }
        ck_assert_int_gt(pid, 0);
        (void)usleep((useconds_t)(1000 + lab_random(&lab, 25000))); /* about */
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        lab_start(&lab);
        (void)check_key((int32_t)i, i % 2 == 0);
        lab_stop(&lab);
        append(3, 10, 50);
    }
    lab_start(&lab);
    lab_wait_ready(&lab, &topic);
    ck_assert_uint_eq(lab.damage_told, 0); /* What has its name is whole. */
    while (count_files(".tmp") > 0) {
        (void)usleep(1000); /* Some may be merged now; what was left over would stay. */
    }
    for (int32_t key = 0; key < 50; key += 9) {
        struct lab_cost cost = check_key(key, false);

        ck_assert_uint_eq(cost.scanned, cost.found);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lookup");
    TCase *tcase = tcase_create("lookups");
    TCase *compaction = tcase_create("compaction");

    tcase_set_timeout(tcase, 90);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, without_indexes_all_is_to_be_looked_at);
    tcase_add_test(tcase, a_tree_tells_the_offsets_of_a_key);
    tcase_add_test(tcase, a_key_of_100000_records_costs_a_few_pages);
    tcase_add_test(tcase, a_filter_rules_out_segments);
    tcase_add_loop_test(tcase, what_topics_have_in_memory_is_bounded_for_all_together, 0, 2);
    tcase_add_test(tcase, times_are_found_between_two_batches);
    tcase_add_test(tcase, what_is_stopped_goes_on_where_it_was);
    tcase_add_test(tcase, a_set_that_is_dropped_leaves_nothing);
    tcase_add_test(tcase, a_nodes_own_set_counts);
    tcase_add_test(tcase, what_lies_below_the_start_goes);
    tcase_add_test(tcase, leftovers_of_unknown_topics_go_at_the_start);
    tcase_add_test(tcase, a_topic_that_is_deleted_takes_its_files_along);
    tcase_add_test(tcase, damage_is_named_never_served_and_made_again);
    tcase_add_test(tcase, a_full_disk_is_told_and_later_tried_again);
    tcase_add_test(tcase, nothing_is_removed_before_the_node_knows_its_topics);
    tcase_add_test(tcase, a_killed_builder_leaves_what_can_be_used_or_is_made_again);
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(compaction, 90);
    tcase_add_checked_fixture(compaction, set_up, tear_down);
    tcase_add_loop_test(compaction, offsets_of_records_that_compaction_took_do_no_harm, 1, 3);
    tcase_add_loop_test(compaction, times_of_a_compacted_log_are_found, 1, 3);
    tcase_add_test(compaction, indexes_of_what_compaction_took_are_made_again);
    tcase_add_test(compaction,
                   files_that_end_inside_of_a_merged_batch_are_not_believed_after_a_restart);
    suite_add_tcase(suite, compaction);
    return runner_main(suite);
}
