/*
 * Each node compacts its own copy: three replicas, and what their logs show of what was written.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "history.h"
#include "keyed.h"
#include "lib/runner.h"
#include "replica_lab.h"

enum { RATE = 8 << 20, VALUE_SIZE = 200 };

static struct keyed_topic written;
static uint64_t value;
static uint64_t bases[KEYED_MAX]; /* of the batches, in order */
static unsigned base_count;

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static struct topic *topic_of(unsigned id)
{
    return catalog_peek_id(fsm_catalog(replica_fsm(lab.nodes[id].replica)), lab.topic_id);
}

static void restart_all(void)
{
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        lab_stop(id);
        lab_start(id);
    }
    lab_run_until(has_leader);
}

/* A compact topic "keys", beside the lab's own. */
static void start(uint64_t rate, size_t memory)
{
    const struct topic_settings settings = {.compact = true};
    struct command create = {.type = COMMAND_TOPIC_CREATE, .settings = &settings};

    memset(&written, 0, sizeof written);
    value = 0;
    base_count = 0;
    lab_init();
    lab.compact_rate = rate;
    lab.compact_memory = memory;
    restart_all();
    (void)snprintf(create.topic_name, sizeof create.topic_name, "keys"); /* fits */
    lab.topic_id = lab_propose(&create).topic_id;
}

static void put(const struct keyed *records, unsigned count)
{
    struct command command = {.type = COMMAND_PRODUCE};

    bases[base_count++] = written.count;
    command.produce.topic_id = lab.topic_id;
    command.produce.batch = keyed_batch(&written, records, count, VALUE_SIZE);
    digest_bytes(command.produce.batch.data + BATCH_HEADER_SIZE,
                 command.produce.batch.size - BATCH_HEADER_SIZE, command.produce.body_digest);
    (void)lab_propose(&command);
}

/* Records of so many keys, by chance; some are tombstones, some have no key. */
static void put_some(unsigned batches, unsigned keys)
{
    for (unsigned i = 0; i < batches; i++) {
        struct keyed records[4];
        unsigned count = 1 + history_below(&lab.random, 4);

        for (unsigned k = 0; k < count; k++) {
            unsigned kind = history_below(&lab.random, 40);

            records[k] = (struct keyed){
                .key = kind == 0 ? KEYED_NO_KEY : history_below(&lab.random, keys),
                .value = kind > 0 && kind < 5 ? 0 : ++value,
            };
        }
        put(records, count);
    }
}

static void compact(uint64_t clean_to, uint64_t tombstones_below)
{
    struct command command = {.type = COMMAND_COMPACT,
                              .compact = {.topic_id = lab.topic_id,
                                          .clean_to = clean_to,
                                          .tombstones_below = tombstones_below}};

    (void)lab_propose(&command);
}

static bool is_clean(unsigned id)
{
    struct topic *topic = topic_of(id);
    struct fsm_cleaning due;

    if (topic == NULL || lab_status(id).compact_topic[0] != '\0') {
        return false;
    }
    fsm_cleaning_due(replica_fsm(lab.nodes[id].replica), topic, &due);
    return !due.records && !due.tombstones &&
           fsm_may_clean(replica_fsm(lab.nodes[id].replica), topic);
}

static bool all_clean(void)
{
    return is_clean(1) && is_clean(2) && is_clean(3);
}

static struct keyed_seen check(unsigned id)
{
    struct topic *topic = topic_of(id);
    const struct keyed_bounds bounds = {.clean_to = topic->clean.clean_to,
                                        .tombstones_below = topic->clean.tombstones_below,
                                        .cleaned_to = atomic_load(&topic->cleaned_to),
                                        .tombstones_gone = topic->cleaned.tombstones_below};
    struct keyed_seen seen = keyed_check(&written, topic->log, &bounds, topic->digest);

    log_check(topic->log);
    ck_assert_uint_eq(topic->end, written.count);
    ck_assert_uint_eq(seen.superseded, 0);
    ck_assert_uint_eq(seen.tombstones, 0);
    return seen;
}

START_TEST(superseded_records_go_from_every_node_and_the_latest_ones_stay)
{
    uint64_t sizes[LAB_NODES + 1];
    unsigned counts[LAB_NODES + 1];

    start(RATE, 0);
    put_some(200, 20);
    lab_run(1000);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        sizes[id] = log_size(topic_of(id)->log);
        counts[id] = log_segment_count(topic_of(id)->log);
    }
    compact(written.count, 0);
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        struct keyed_seen seen = check(id);
        struct replica_status status = lab_status(id);

        ck_assert_uint_lt(seen.records, written.count / 2);
        ck_assert_uint_gt(seen.compacted, 0);
        ck_assert_uint_lt(log_size(topic_of(id)->log), sizes[id] / 2);
        ck_assert_uint_lt(log_segment_count(topic_of(id)->log), counts[id] / 2);
        ck_assert_uint_gt(atomic_load(&topic_of(id)->cleaned_to), 0);
        ck_assert_uint_eq(status.compact_dropped, written.count - seen.records);
        ck_assert_uint_lt(status.compact_bytes_out, status.compact_bytes_in);
    }
    ck_assert(lab_said("event=topic_compacted topic=keys"));
    lab_fini();
}
END_TEST

START_TEST(nothing_goes_before_entries_say_so_or_at_rate_zero)
{
    start(RATE, 0);
    put_some(60, 5);
    lab_run(5000);
    ck_assert_uint_eq(lab_status(1).compact_bytes_in, 0);
    ck_assert_uint_eq(check(1).records, written.count);
    lab.compact_rate = 0;
    restart_all();
    compact(written.count, 0);
    lab_run(5000);
    ck_assert_uint_eq(check(2).records, written.count);
    ck_assert_uint_eq(atomic_load(&topic_of(2)->cleaned_to), 0);
    lab_fini();
}
END_TEST

START_TEST(where_nothing_would_change_nothing_is_written)
{
    uint64_t bytes[LAB_NODES + 1];

    start(RATE, 0);
    put_some(150, 10);
    compact(written.count, 0);
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        bytes[id] = lab_status(id).compact_bytes_in;
        ck_assert_uint_gt(bytes[id], 0);
    }
    lab_run(30000);
    ck_assert_uint_eq(lab_status(1).compact_bytes_in, bytes[1]);
    restart_all(); /* They begin at the start again, and look. */
    ck_assert_uint_eq(atomic_load(&topic_of(1)->cleaned_to), 0);
    lab_run_until(all_clean);
    lab_run(30000);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        ck_assert_uint_gt(atomic_load(&topic_of(id)->cleaned_to), 0);
        (void)check(id);
    }
    bytes[0] = 0;
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        bytes[0] += lab_status(id).compact_bytes_in;
    }
    ck_assert_uint_le(bytes[0], bytes[1] / 2); /* Small neighbours at most are merged. */
    lab_fini();
}
END_TEST

START_TEST(more_keys_than_the_memory_takes_need_several_passes)
{
    unsigned passes = 0;

    start(RATE, 64 * 1024);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned key = 0; key < 3000; key += 100) {
            struct keyed records[100];

            for (unsigned i = 0; i < 100; i++) {
                records[i] = (struct keyed){.key = key + i, .value = ++value};
            }
            put(records, 100);
        }
    }
    put_some(40, 3000);
    compact(written.count, 0);
    lab_run_until(all_clean);
    for (const char *at = lab.lines; (at = strstr(at, "event=topic_compacted")) != NULL; at++) {
        passes++;
    }
    ck_assert_uint_ge(passes, 3 * LAB_NODES);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        ck_assert_uint_gt(atomic_load(&topic_of(id)->cleaned_to), 5000);
        ck_assert_uint_lt(check(id).records, 3600);
    }
    lab_fini();
}
END_TEST

START_TEST(tombstones_go_when_they_may_and_what_they_deleted_does_not_come_back)
{
    uint64_t below;

    start(RATE, 0);
    put_some(150, 10);
    below = written.count;
    put_some(20, 10);
    compact(written.count, 0);
    lab_run_until(all_clean);
    ck_assert_uint_ge(atomic_load(&topic_of(1)->cleaned_to), below);
    compact(written.count, below);
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        (void)check(id);
        ck_assert_uint_eq(topic_of(id)->cleaned.tombstones_below, below);
    }
    restart_all();
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        (void)check(id);
        ck_assert_uint_eq(topic_of(id)->cleaned.tombstones_below, below);
    }
    lab_fini();
}
END_TEST

START_TEST(the_rate_is_kept)
{
    uint64_t begin_ms;
    uint64_t bytes;

    start(20000, 0);
    put_some(150, 10);
    begin_ms = lab.now_ms;
    compact(written.count, 0);
    bytes = log_size(topic_of(1)->log);
    lab_run_until(all_clean);
    /* Once for the keys, once to look, once to write. */
    ck_assert_uint_gt(lab.now_ms - begin_ms, bytes * 1000 / 20000);
    (void)check(1);
    lab_fini();
}
END_TEST

/* ---- holes ---- */

static bool others_clean(void)
{
    return is_clean(1) && is_clean(2);
}

static bool is_whole(void)
{
    return lab_status(3).holes == 0 && lab_said("event=hole_filled");
}

START_TEST(a_node_that_was_away_is_filled_with_what_others_compacted_and_cleans_it_again)
{
    start(RATE, 0);
    put_some(60, 10);
    compact(written.count, 0);
    lab_run_until(all_clean);
    lab.nodes[3].cut = true;
    lab_run_until(has_leader);
    put_some(120, 10);
    compact(written.count, 0);
    lab_run_until(others_clean);
    put_some(20, 10);
    lab.nodes[3].cut = false;
    lab_run_until(is_whole);
    lab_run_until(all_clean);
    ck_assert_uint_gt(atomic_load(&topic_of(3)->cleaned_to), 0);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        (void)check(id);
    }
    lab_fini();
}
END_TEST

static char store[256]; /* the longest store of the topic on node 3 */
static uint64_t store_size;

static void look_at_file(void *arg, const char *path, uint64_t size)
{
    (void)arg;
    if (strstr(path, "/keys-") != NULL && strstr(path, ".store") != NULL && size > store_size) {
        (void)snprintf(store, sizeof store, "%s", path);
        store_size = size;
    }
}

START_TEST(damage_that_a_pass_meets_is_reported_and_repaired_and_the_rest_is_cleaned)
{
    start(0, 0);
    put_some(150, 10);
    lab_run(2000);
    store_size = 0;
    mem_io_files(&lab.nodes[3].disk, look_at_file, NULL);
    lab.compact_rate = RATE;
    restart_all();
    ck_assert_int_eq(mem_io_flip(&lab.nodes[3].disk, store, store_size / 2, 3), 0);
    compact(written.count, 0);
    lab_run_until(is_whole);
    ck_assert(lab_said("event=compaction_put_off topic=keys reason=CORRUPT"));
    ck_assert(lab_said("event=damage_found topic=keys"));
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        ck_assert_uint_gt(atomic_load(&topic_of(id)->cleaned_to), 0);
        (void)check(id);
    }
    lab_fini();
}
END_TEST

START_TEST(without_room_a_pass_is_put_off_and_told_once)
{
    unsigned told = 0;

    start(RATE, 0);
    put_some(150, 10);
    lab_run(1000);
    mem_io_set_free(&lab.nodes[3].disk, 6000); /* Less than a segment. */
    compact(written.count, 0);
    lab_run_until(others_clean);
    lab_run(20000);
    ck_assert_uint_eq(atomic_load(&topic_of(3)->cleaned_to), 0);
    for (const char *at = lab.lines; (at = strstr(at, "compaction_put_off")) != NULL; at++) {
        told++;
    }
    ck_assert_uint_eq(told, 1);
    ck_assert(lab_said("reason=NOSPACE"));
    mem_io_set_free(&lab.nodes[3].disk, UINT64_MAX);
    lab_run_until(all_clean);
    (void)check(3);
    lab_fini();
}
END_TEST

START_TEST(a_topic_that_is_deleted_in_the_middle_ends_the_pass)
{
    struct command command = {.type = COMMAND_TOPIC_DELETE};

    start(100000, 0);
    put_some(150, 10);
    compact(written.count, 0);
    lab_run(1500);
    ck_assert_str_eq(lab_status(1).compact_topic, "keys");
    (void)snprintf(command.topic_name, sizeof command.topic_name, "keys"); /* fits */
    (void)lab_propose(&command);
    lab_run(3000);
    ck_assert_str_eq(lab_status(1).compact_topic, "");
    ck_assert_ptr_null(topic_of(1));
    lab_fini();
}
END_TEST

/* ---- crashes ---- */

static uint64_t draw(void *arg)
{
    (void)arg;
    return history_random(&lab.random);
}

static int refuse(void *arg, struct mem_io_op *op)
{
    (void)arg;
    (void)op;
    return 5; /* EIO: the process is dead */
}

static void crash(unsigned id)
{
    struct mem_io *disk = &lab.nodes[id].disk;

    mem_io_crash(disk, draw, NULL);
    mem_io_set_hook(disk, refuse, NULL);
    lab_stop(id);
    mem_io_set_hook(disk, NULL, NULL);
    lab_start(id);
}

static void run_history(uint64_t seed)
{
    uint64_t below = 0;

    start(200000, 64 * 1024);
    lab.random = seed;
    for (unsigned round = 0; round < 12; round++) {
        put_some(10 + history_below(&lab.random, 20), 40);
        compact(bases[base_count - 1 - history_below(&lab.random, 8)], below);
        lab_run(history_below(&lab.random, 1500));
        if (history_below(&lab.random, 2) == 0) {
            crash(1 + history_below(&lab.random, LAB_NODES));
            lab_run_until(has_leader);
            lab_run(500);
        }
        for (unsigned id = 1; id <= LAB_NODES; id++) {
            if (fsm_may_clean(replica_fsm(lab.nodes[id].replica), topic_of(id))) {
                (void)check(id);
            }
        }
        if (history_below(&lab.random, 3) == 0) {
            lab_run_until(all_clean);
            below = atomic_load(&topic_of(1)->cleaned_to);
            for (unsigned id = 2; id <= LAB_NODES; id++) {
                uint64_t cleaned_to = atomic_load(&topic_of(id)->cleaned_to);

                below = cleaned_to < below ? cleaned_to : below;
            }
        }
    }
    lab_run_until(all_clean);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        (void)check(id);
    }
    lab_fini();
}

START_TEST(histories_with_crashes_show_the_same_keys_and_values)
{
    run_history(4711 + (uint64_t)_i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_compact");
    TCase *tcase = tcase_create("compact");

    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, superseded_records_go_from_every_node_and_the_latest_ones_stay);
    tcase_add_test(tcase, nothing_goes_before_entries_say_so_or_at_rate_zero);
    tcase_add_test(tcase, where_nothing_would_change_nothing_is_written);
    tcase_add_test(tcase, more_keys_than_the_memory_takes_need_several_passes);
    tcase_add_test(tcase, tombstones_go_when_they_may_and_what_they_deleted_does_not_come_back);
    tcase_add_test(tcase, the_rate_is_kept);
    tcase_add_test(tcase,
                   a_node_that_was_away_is_filled_with_what_others_compacted_and_cleans_it_again);
    tcase_add_test(tcase,
                   damage_that_a_pass_meets_is_reported_and_repaired_and_the_rest_is_cleaned);
    tcase_add_test(tcase, without_room_a_pass_is_put_off_and_told_once);
    tcase_add_test(tcase, a_topic_that_is_deleted_in_the_middle_ends_the_pass);
    tcase_add_loop_test(tcase, histories_with_crashes_show_the_same_keys_and_values, 0, 6);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
