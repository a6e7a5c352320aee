/* A stopped node's files, and what recovery makes of them. */
#include "raft_fsm/recovery.h"

#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "raft_fsm/ballot.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/manifest.h"
#include "sim/mem_io.h"

static struct mem_io disk;
static struct err_info info;

static void setup(void)
{
    mem_io_init(&disk);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "data", 0750), 0);
    ck_assert_int_eq(disk.io.mkdir(&disk.io, "data/journal", 0750), 0);
    ck_assert_int_eq(disk.io.sync_dir(&disk.io, "/"), 0);
    ck_assert_int_eq(disk.io.sync_dir(&disk.io, "data"), 0);
}

static void teardown(void)
{
    mem_io_fini(&disk);
}

static struct membership three(void)
{
    struct membership members = {.count = 0};

    ck_assert_int_eq(membership_add(&members, 1, "n1:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 2, "n2:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 3, "n3:1", MEMBER_VOTER), ERR_OK);
    return members;
}

static struct entry change(uint64_t index, uint64_t term, const struct membership *members)
{
    size_t size = membership_encoded_size(members);
    struct block *block = entry_block_new((uint32_t)size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    membership_encode(members, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, (uint32_t)size, index, term, ENTRY_CHANGE, &entry);
    return entry;
}

static struct entry barrier(uint64_t index, uint64_t term)
{
    struct block *block = entry_block_new(8);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    memset(block->data + ENTRY_HEADER_SIZE, 0, 8);
    entry_seal(block, 8, index, term, ENTRY_BARRIER, &entry);
    return entry;
}

static void open_journal(struct journal **ret_journal, struct journal_contents *ret_contents)
{
    const struct journal_options options = {
        .io = &disk.io, .dir = "data/journal", .node_id = 2, .segment_size = 65536};

    ck_assert_msg(journal_open(&options, ret_journal, ret_contents, &info) == ERR_OK, "%s",
                  info.text);
}

static void write_ballot(uint64_t term, uint64_t vote)
{
    struct ballot ballot;

    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "data", 2, true, &info), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, term, vote, &info), ERR_OK);
    ballot_close(&ballot);
}

/* Node 2 of three, in term 5, with entries up to 3, the last one of term 4. */
static void write_node(void)
{
    struct membership members = three();
    struct entry entries[] = {change(1, 1, &members), barrier(2, 2), barrier(3, 4)};
    struct journal_contents contents;
    struct journal *journal;

    write_ballot(5, 3);
    open_journal(&journal, &contents);
    ck_assert_int_eq(journal_append(journal, entries, 3, &info), ERR_OK);
    journal_close(journal);
    journal_contents_fini(&contents);
    for (unsigned i = 0; i < 3; i++) {
        entry_unref(&entries[i]);
    }
}

/* A snapshot at `index`, members as of entry 1. */
static void write_snapshot(uint64_t index, uint64_t term)
{
    struct membership members = three();
    struct manifest manifest = {.applied_index = index};
    struct snapshot snapshot = {.index = index, .term = term, .membership_index = 1};
    size_t size = membership_encoded_size(&members);
    struct block *block = block_new(size);

    ck_assert_ptr_nonnull(block);
    membership_encode(&members, block->data);
    snapshot.membership = (struct slice){.block = block, .data = block->data, .size = size};
    ck_assert_int_eq(producers_new(&manifest.producers), ERR_OK);
    ck_assert_int_eq(cursors_new(&manifest.cursors), ERR_OK);
    ck_assert_int_eq(manifest_encode(&manifest, &snapshot.manifest), ERR_OK);
    ck_assert_int_eq(snapshot_save(&disk.io, "data", &snapshot, &info), ERR_OK);
    manifest_fini(&manifest);
    snapshot_fini(&snapshot);
}

static void inspect(struct recovery_report *ret_report)
{
    enum err err = recovery_inspect(&disk.io, "data", 2, ret_report, &info);

    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
}

START_TEST(looking_tells_what_is_there_and_changes_nothing)
{
    struct recovery_report report;

    write_node();
    for (unsigned i = 0; i < 2; i++) {
        inspect(&report);
        ck_assert_uint_eq(report.term, 5);
        ck_assert_uint_eq(report.last_term, 4);
        ck_assert_uint_eq(report.last_index, 3);
        ck_assert_uint_eq(report.snapshot_index, 0);
        ck_assert_uint_eq(report.membership.count, 3);
    }
}
END_TEST

START_TEST(the_node_becomes_the_only_voter_behind_all_that_it_holds)
{
    struct journal_contents contents;
    struct recovery_report report;
    struct membership members;
    struct journal *journal;
    struct ballot ballot;
    const struct entry *last;

    write_node();
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info), ERR_OK);
    ck_assert_uint_eq(report.last_index, 3);
    open_journal(&journal, &contents);
    ck_assert_uint_eq(contents.count, 4);
    last = &contents.entries[3];
    ck_assert_int_eq(last->type, ENTRY_CHANGE);
    ck_assert_uint_eq(last->index, 4);
    ck_assert_uint_eq(last->term, 6);
    ck_assert_int_eq(membership_decode(entry_payload(last), last->size, &members, &info), ERR_OK);
    ck_assert_uint_eq(members.count, 1);
    ck_assert_str_eq(membership_find(&members, 2)->address, "n2:9");
    journal_close(journal);
    journal_contents_fini(&contents);
    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "data", 2, false, &info), ERR_OK);
    ck_assert_uint_eq(ballot.term, 6);
    ck_assert_uint_eq(ballot.vote, 2);
    ballot_close(&ballot);
}
END_TEST

START_TEST(doing_it_again_does_no_harm)
{
    struct recovery_report report;

    write_node();
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info), ERR_OK);
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info), ERR_OK);
    inspect(&report);
    ck_assert_uint_eq(report.term, 7);
    ck_assert_uint_eq(report.last_index, 5);
    ck_assert_uint_eq(report.membership.count, 1);
}
END_TEST

/* An install that a crash cut short: the journal's entries do not reach the snapshot. */
START_TEST(a_journal_that_ends_before_the_snapshot_is_void)
{
    struct journal_contents contents;
    struct recovery_report report;
    struct journal *journal;

    write_node();
    write_snapshot(20, 5);
    inspect(&report);
    ck_assert_uint_eq(report.last_index, 20);
    ck_assert_uint_eq(report.last_term, 5);
    ck_assert_uint_eq(report.snapshot_index, 20);
    ck_assert_uint_eq(report.membership.count, 3);
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info), ERR_OK);
    open_journal(&journal, &contents);
    ck_assert_uint_eq(contents.count, 1);
    ck_assert_uint_eq(contents.first_index, 21);
    journal_close(journal);
    journal_contents_fini(&contents);
}
END_TEST

START_TEST(a_snapshot_within_the_journal_is_no_end)
{
    struct recovery_report report;

    write_node();
    write_snapshot(2, 2);
    inspect(&report);
    ck_assert_uint_eq(report.last_index, 3);
    ck_assert_uint_eq(report.snapshot_index, 2);
}
END_TEST

START_TEST(where_nothing_is_nothing_is_made)
{
    struct recovery_report report;

    ck_assert_int_eq(recovery_inspect(&disk.io, "data", 2, &report, &info), ERR_NOT_FOUND);
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info),
                     ERR_NOT_FOUND);
    write_ballot(1, 0); /* It was started, and never heard of a cluster. */
    ck_assert_int_eq(recovery_begin_anew(&disk.io, "data", 2, "n2:9", &report, &info),
                     ERR_NOT_FOUND);
    ck_assert_uint_gt(strlen(info.text), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("raft_fsm/recovery");
    TCase *tcase = tcase_create("recovery");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, looking_tells_what_is_there_and_changes_nothing);
    tcase_add_test(tcase, the_node_becomes_the_only_voter_behind_all_that_it_holds);
    tcase_add_test(tcase, doing_it_again_does_no_harm);
    tcase_add_test(tcase, a_journal_that_ends_before_the_snapshot_is_void);
    tcase_add_test(tcase, a_snapshot_within_the_journal_is_no_end);
    tcase_add_test(tcase, where_nothing_is_nothing_is_made);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
