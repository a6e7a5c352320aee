/*
 * What topics' settings ask for from time to time: that it is done when it is time, and not
 * otherwise.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "history.h"
#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "sim/mem_io.h"

static struct mem_io disk;
static struct faulty_io faulty;
static struct fsm *fsm;

static void setup(void)
{
    const struct fsm_options options = {.io = &faulty.io, .dir = "/"};

    mem_io_init(&disk);
    faulty_io_init(&faulty, &disk.io);
    ck_assert_int_eq(fsm_open(&options, NULL, &fsm, NULL), ERR_OK);
}

static void teardown(void)
{
    fsm_close(fsm);
    mem_io_fini(&disk);
}

static void apply(struct packer *packer)
{
    struct entry entry = packer_entry(packer, fsm_applied_index(fsm) + 1, 1);

    ck_assert_int_eq(fsm_apply(fsm, &entry, NULL, NULL, NULL), ERR_OK);
    entry_unref(&entry);
    fsm_check(fsm);
}

static void create(const char *name, const struct topic_settings *settings)
{
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_create_with(&packer, name, settings);
    apply(&packer);
}

static void alter(const char *name, uint32_t which, const struct topic_settings *to)
{
    const struct topic_change change = {.which = which, .to = *to};
    struct packer packer;

    packer_begin(&packer, 1000);
    packer_alter(&packer, name, &change);
    apply(&packer);
}

/* One record, at `time_us`. */
static void produce(const char *name, int64_t time_us)
{
    struct topic *topic = catalog_find(fsm_catalog(fsm), name);
    struct packer packer;

    packer_begin(&packer, time_us);
    packer_produce(&packer, topic->id, &(struct produced){.record_count = 1, .body_size = 10});
    topic_unref(topic);
    apply(&packer);
}

static unsigned segments(const char *name)
{
    struct topic *topic = catalog_find(fsm_catalog(fsm), name);
    unsigned count = log_segment_count(topic->log);

    topic_unref(topic);
    return count;
}

/* Whether something is synced. */
static bool keep(uint64_t now_ms)
{
    struct fsm_sync *sync;

    ck_assert_uint_le(fsm_upkeep_deadline_ms(fsm), now_ms);
    ck_assert_int_eq(fsm_upkeep(fsm, now_ms, &sync, NULL), ERR_OK);
    if (sync == NULL) {
        return false;
    }
    ck_assert_int_eq(fsm_sync_run(sync, NULL), ERR_OK);
    ck_assert_int_eq(fsm_sync_end(fsm, sync), ERR_OK);
    return true;
}

START_TEST(nothing_is_done_for_topics_that_ask_for_nothing)
{
    create("a", &(struct topic_settings){.retention_ms = 5, .preallocate = true});
    produce("a", 1000);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), UINT64_MAX);
}
END_TEST

START_TEST(what_is_dirty_is_synced_every_flush_ms)
{
    create("a", &(struct topic_settings){.flush_ms = 50});
    ck_assert(keep(1000)); /* The directory is new. */
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1050);
    produce("a", 1000);
    ck_assert(keep(1050));
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1100);
    ck_assert(!keep(1100)); /* Nothing new. */
    produce("a", 1000);
    ck_assert(keep(1160));
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1210);
}
END_TEST

START_TEST(only_the_topics_that_ask_for_it_are_synced)
{
    struct log_sync *sync = NULL;
    struct topic *topic;

    create("a", &(struct topic_settings){.flush_ms = 50});
    create("b", &(struct topic_settings){0});
    ck_assert(keep(1000));
    produce("b", 1000);
    ck_assert(!keep(1050));
    produce("a", 1000);
    ck_assert(keep(1100));
    topic = catalog_find(fsm_catalog(fsm), "b");
    ck_assert_int_eq(log_sync_begin(topic->log, &sync), ERR_OK);
    ck_assert_ptr_nonnull(sync); /* It is dirty still. */
    ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
    ck_assert_int_eq(log_sync_end(topic->log, sync), ERR_OK);
    topic_unref(topic);
}
END_TEST

START_TEST(the_shortest_interval_says_when_and_changes_hold_at_once)
{
    create("a", &(struct topic_settings){.flush_ms = 500});
    create("b", &(struct topic_settings){.flush_ms = 100});
    (void)keep(1000);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1100);
    (void)keep(1100);
    (void)keep(1200);
    alter("b", TOPIC_SETTING_FLUSH_MS, &(struct topic_settings){0});
    (void)keep(1250);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1500); /* that of "a" */
    alter("a", TOPIC_SETTING_FLUSH_MS, &(struct topic_settings){.flush_ms = 20});
    (void)keep(1260);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1280);
    alter("a", TOPIC_SETTING_FLUSH_MS, &(struct topic_settings){0});
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), UINT64_MAX);
}
END_TEST

START_TEST(a_topic_that_is_deleted_asks_for_nothing)
{
    struct packer packer;

    create("a", &(struct topic_settings){.flush_ms = 50, .segment_ms = 1000});
    create("b", &(struct topic_settings){.flush_ms = 70});
    packer_begin(&packer, 1000);
    packer_delete(&packer, "a");
    apply(&packer);
    (void)keep(1000);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1070);
    packer_begin(&packer, 1000);
    packer_delete(&packer, "b");
    apply(&packer);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), UINT64_MAX);
}
END_TEST

/* By the entries' time, which goes on with other topics' entries. */
START_TEST(a_segment_that_is_old_is_sealed_without_another_batch)
{
    create("a", &(struct topic_settings){.segment_ms = 5000});
    create("b", &(struct topic_settings){0});
    produce("a", 1000000);
    (void)keep(100);
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 1100);
    ck_assert_uint_eq(segments("a"), 1);
    produce("b", 5999999);
    (void)keep(1100);
    ck_assert_uint_eq(segments("a"), 1);
    produce("b", 6000000);
    (void)keep(2100);
    ck_assert_uint_eq(segments("a"), 2);
    (void)keep(3100);
    ck_assert_uint_eq(segments("a"), 2); /* An empty one does not grow old. */
    ck_assert_uint_eq(segments("b"), 1);
}
END_TEST

START_TEST(a_failure_is_final)
{
    struct fsm_sync *sync = NULL;
    struct err_info info = {.text = ""};

    create("a", &(struct topic_settings){.segment_ms = 5000});
    produce("a", 1000000);
    produce("a", 1000001);
    create("b", &(struct topic_settings){0});
    produce("b", 9000000);
    faulty_io_fail_at(&faulty, 1, EIO, true);
    ck_assert_int_eq(fsm_upkeep(fsm, 100, &sync, &info), ERR_IO);
    ck_assert_ptr_null(sync);
    ck_assert_ptr_nonnull(strstr(info.text, "topic 'a'"));
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), UINT64_MAX);
    ck_assert_int_eq(fsm_sync_begin(fsm, &sync), ERR_FAILED);
}
END_TEST

START_TEST(settings_of_a_snapshot_are_kept_up_with)
{
    const struct fsm_options options = {.io = &faulty.io, .dir = "/"};
    struct manifest manifest;

    create("a", &(struct topic_settings){.flush_ms = 50});
    ck_assert(keep(1000));
    ck_assert_int_eq(fsm_manifest(fsm, &manifest), ERR_OK);
    fsm_close(fsm);
    ck_assert_int_eq(fsm_open(&options, &manifest, &fsm, NULL), ERR_OK);
    manifest_fini(&manifest);
    produce("a", 1000);
    ck_assert(keep(2000));
    ck_assert_uint_eq(fsm_upkeep_deadline_ms(fsm), 2050);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/fsm_upkeep");
    TCase *tcase = tcase_create("fsm_upkeep");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, nothing_is_done_for_topics_that_ask_for_nothing);
    tcase_add_test(tcase, what_is_dirty_is_synced_every_flush_ms);
    tcase_add_test(tcase, only_the_topics_that_ask_for_it_are_synced);
    tcase_add_test(tcase, the_shortest_interval_says_when_and_changes_hold_at_once);
    tcase_add_test(tcase, a_topic_that_is_deleted_asks_for_nothing);
    tcase_add_test(tcase, a_segment_that_is_old_is_sealed_without_another_batch);
    tcase_add_test(tcase, a_failure_is_final);
    tcase_add_test(tcase, settings_of_a_snapshot_are_kept_up_with);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
