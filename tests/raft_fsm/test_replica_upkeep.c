/*
 * Topics' files are looked after while replicas run, as their settings ask for.
 */
#include <check.h>

#include "lib/runner.h"
#include "raft_fsm/fsm.h"
#include "replica_lab.h"

static void setup(void)
{
    lab_init();
}

static void teardown(void)
{
    lab_fini();
}

static struct topic *topic_of(unsigned id)
{
    struct topic *topic = catalog_find(replica_catalog(lab.nodes[id].replica), "t");

    ck_assert_ptr_nonnull(topic);
    return topic;
}

/* Makes it clean, too. */
static bool is_dirty(unsigned id)
{
    struct topic *topic = topic_of(id);
    struct log_sync *sync = NULL;

    ck_assert_int_eq(log_sync_begin(topic->log, &sync), ERR_OK);
    if (sync != NULL) {
        ck_assert_int_eq(log_sync_run(sync, NULL), ERR_OK);
        ck_assert_int_eq(log_sync_end(topic->log, sync), ERR_OK);
    }
    topic_unref(topic);
    return sync != NULL;
}

START_TEST(what_waits_for_a_snapshot_is_synced_where_that_is_asked_for)
{
    lab_produce(3);
    lab_run(2000);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        ck_assert(is_dirty(id)); /* Not without being asked. */
    }
    lab_alter(&(struct topic_change){.which = TOPIC_SETTING_FLUSH_MS, .to = {.flush_ms = 50}});
    for (unsigned round = 0; round < 3; round++) {
        lab_produce(2);
        lab_run(300);
        for (unsigned id = 1; id <= LAB_NODES; id++) {
            ck_assert(!is_dirty(id));
        }
    }
    lab_assert_equal();
}
END_TEST

START_TEST(an_old_segment_ends_on_every_node)
{
    lab_alter(
        &(struct topic_change){.which = TOPIC_SETTING_SEGMENT_MS, .to = {.segment_ms = 1000}});
    lab_produce(2);
    lab_run(3000);
    lab_alter(&(struct topic_change){.which = TOPIC_SETTING_PREALLOCATE}); /* Time goes on. */
    lab_run(2000);
    for (unsigned id = 1; id <= LAB_NODES; id++) {
        struct topic *topic = topic_of(id);

        ck_assert_uint_gt(log_segment_count(topic->log), 1);
        topic_unref(topic);
    }
    lab_assert_equal();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_upkeep");
    TCase *tcase = tcase_create("replica_upkeep");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_waits_for_a_snapshot_is_synced_where_that_is_asked_for);
    tcase_add_test(tcase, an_old_segment_ends_on_every_node);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
