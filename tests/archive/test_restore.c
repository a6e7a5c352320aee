#include "archive/restore.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "archive/chained.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "log/log.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/fsm.h"

static struct chained topic;
static const char *tmp;
static char from[256];
static char to[256];

static void setup(void)
{
    tmp = tmpdir_new();
    (void)snprintf(from, sizeof from, "%s/backup", tmp); /* fits */
    (void)snprintf(to, sizeof to, "%s/group", tmp);      /* fits */
    chained_init(&topic, 4096, "a");
    for (int i = 0; i < 20; i++) {
        chained_add(&topic, 3, 300);
    }
}

static void teardown(void)
{
    chained_fini(&topic);
    tmpdir_remove(tmp);
}

static void make_backup(void)
{
    struct slice manifest = chained_manifest(&topic, 1, 70);
    const struct backup_source source = {.cluster_id = "0123456789abcdef0123456789abcdef",
                                         .index = 70,
                                         .term = 4,
                                         .manifest = manifest.data,
                                         .manifest_size = manifest.size};
    struct backup_totals totals;
    struct backup_writer *writer;
    struct backup_want want;
    bool wanted;

    ck_assert_int_eq(backup_begin(io_real(), from, &source, &writer, NULL), ERR_OK);
    ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    ck_assert(wanted);
    ck_assert_int_eq(backup_add(writer, topic.bytes, topic.size, NULL), ERR_OK);
    ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    ck_assert(!wanted);
    ck_assert_int_eq(backup_end(writer, &totals, NULL), ERR_OK);
    block_unref(manifest.block);
}

static enum err restore(struct err_info *info)
{
    struct membership members = {0};
    const struct restore_options options = {
        .dir = to, .node_id = 2, .membership = &members, .segment_size_max = 4096};
    struct backup backup;
    enum err err;

    ck_assert_int_eq(membership_add(&members, 1, "n1:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 2, "n2:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(io_make_dir(io_real(), tmp, "group", NULL), ERR_OK);
    ck_assert_int_eq(backup_open(io_real(), from, &backup, NULL), ERR_OK);
    err = restore_replica(&backup, &options, info);
    backup_close(&backup);
    return err;
}

START_TEST(a_state_machine_opens_what_was_restored)
{
    struct fsm_options options = {.io = io_real()};
    struct membership members;
    struct manifest manifest;
    struct snapshot snapshot;
    struct ballot ballot;
    char topics[300];
    struct topic *found;
    struct fsm *fsm;

    make_backup();
    ck_assert_int_eq(restore(NULL), ERR_OK);
    ck_assert_int_eq(snapshot_load(io_real(), to, &snapshot, NULL), ERR_OK);
    ck_assert_uint_eq(snapshot.index, 70);
    ck_assert_uint_eq(snapshot.term, 4);
    ck_assert_int_eq(
        membership_decode(snapshot.membership.data, snapshot.membership.size, &members, NULL),
        ERR_OK);
    ck_assert_uint_eq(members.count, 2);
    ck_assert_int_eq(
        manifest_decode(snapshot.manifest.data, snapshot.manifest.size, &manifest, NULL), ERR_OK);
    (void)snprintf(topics, sizeof topics, "%s/topics", to); /* fits */
    options.dir = topics;
    ck_assert_int_eq(fsm_open(&options, &manifest, &fsm, NULL), ERR_OK);
    ck_assert_uint_eq(fsm_applied_index(fsm), 70);
    found = catalog_find(fsm_catalog(fsm), "a");
    ck_assert_ptr_nonnull(found);
    ck_assert_uint_eq(log_end(found->log), 60);
    ck_assert_uint_gt(log_segment_count(found->log), 1);
    ck_assert_mem_eq(found->digest, topic.digest, DIGEST_SIZE);
    topic_unref(found);
    fsm_close(fsm);
    manifest_fini(&manifest);
    snapshot_fini(&snapshot);
    ck_assert_int_eq(ballot_open(&ballot, io_real(), to, 2, false, NULL), ERR_OK);
    ck_assert_uint_eq(ballot.term, 4);
    ck_assert_uint_eq(ballot.vote, 0);
    ballot_close(&ballot);
}
END_TEST

START_TEST(a_damaged_backup_gives_no_snapshot)
{
    struct err_info info = {0};
    struct snapshot snapshot;
    char path[300];
    FILE *file;

    make_backup();
    (void)snprintf(path, sizeof path, "%s/topics/a-4096/00000000000000000000.store",
                   from); /* fits */
    file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 32 + 5 * 404 + 200, SEEK_SET), 0);
    ck_assert_int_eq(putc(0, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(restore(&info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, path));
    ck_assert_ptr_nonnull(strstr(info.text, "2052")); /* 32 + 5 * 404 */
    ck_assert_int_eq(snapshot_load(io_real(), to, &snapshot, NULL), ERR_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("restore");
    TCase *tcase = tcase_create("restore");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_state_machine_opens_what_was_restored);
    tcase_add_test(tcase, a_damaged_backup_gives_no_snapshot);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
