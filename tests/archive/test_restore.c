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

static void make_backup_at(uint64_t index)
{
    struct slice manifest = chained_manifest(&topic, 1, index);
    const struct backup_source source = {.cluster_id = "0123456789abcdef0123456789abcdef",
                                         .index = index,
                                         .term = 4,
                                         .manifest = manifest.data,
                                         .manifest_size = manifest.size};
    struct backup_totals totals;
    struct backup_writer *writer;
    struct backup_want want;
    bool wanted;

    ck_assert_int_eq(backup_begin(io_real(), from, &source, &writer, NULL), ERR_OK);
    ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    if (wanted) {
        ck_assert_int_eq(backup_add(writer, topic.bytes, topic.size, NULL), ERR_OK);
        ck_assert_int_eq(backup_next(writer, &wanted, &want, NULL), ERR_OK);
    }
    ck_assert(!wanted);
    ck_assert_int_eq(backup_end(writer, &totals, NULL), ERR_OK);
    block_unref(manifest.block);
}

static void make_backup(void)
{
    make_backup_at(70);
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

/* 0: it was in the backup before it was trimmed, 1: the node gives it with its first batch */
START_TEST(a_topic_that_was_trimmed_inside_of_a_merged_batch_begins_with_its_part)
{
    struct log_options options = {.io = io_real(), .start = 9};
    struct log_report report;
    struct batch_header header;
    struct chain chain;
    struct log *log;
    char dir[300];
    uint8_t before[DIGEST_SIZE];
    uint64_t at;

    memcpy(before, topic.headers[2].digest, sizeof before);
    chained_merge(&topic, 2, 3); /* [6, 15) */
    if (_i == 0) {
        make_backup();
    } else {
        topic.size -= topic.positions[2];
        memmove(topic.bytes, topic.bytes + topic.positions[2], topic.size);
    }
    topic.start = 9;
    memcpy(topic.start_digest, before, sizeof before);
    make_backup_at(80);
    ck_assert_int_eq(restore(NULL), ERR_OK);
    (void)snprintf(dir, sizeof dir, "%s/topics/a-4096", to); /* fits */
    options.dir = dir;
    ck_assert_int_eq(log_open(&options, &log, &report, NULL), ERR_OK);
    ck_assert_uint_eq(log_end(log), 60);
    ck_assert_int_eq(log_read_header(log, 9, &header, NULL), ERR_OK);
    ck_assert_uint_eq(header.base_offset, 9);
    ck_assert_uint_eq(batch_end_offset(&header), 15);
    chain_init(&chain, 9, before);
    for (at = 9; at < 60;) {
        struct block *block;

        ck_assert_int_eq(log_read(log, at, UINT64_MAX, 1 << 20, &block, &at, NULL), ERR_OK);
        ck_assert_int_eq(chain_follow(&chain, block->data, block->size, NULL), ERR_OK);
        block_unref(block);
    }
    ck_assert_mem_eq(chain.digest, topic.digest, DIGEST_SIZE);
    log_close(log);
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
    tcase_add_loop_test(
        tcase, a_topic_that_was_trimmed_inside_of_a_merged_batch_begins_with_its_part, 0, 2);
    tcase_add_test(tcase, a_damaged_backup_gives_no_snapshot);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
