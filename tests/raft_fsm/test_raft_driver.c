/* A driver's life: beginning, disk, time, snapshots, proposals. */
#include <string.h>

#include "driver_lab.h"
#include "lib/runner.h"
#include "raft_fsm/raft_driver_log.h"

#define RULE(number) (1u << (number))

static struct lab lab;

static void teardown(void)
{
    lab_fini(&lab);
}

/* ---- beginning ---- */

START_TEST(a_sole_voter_leads_at_once_in_a_new_term_with_its_own_vote)
{
    lab_bootstrap(&lab, 1, 1, 0); /* R10 */
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
    ck_assert_uint_eq(raft_driver_term(lab.driver), 2);
    ck_assert_uint_eq(lab.term, 2);
    ck_assert_uint_eq(lab.vote, 1);
    ck_assert_uint_eq(raft_driver_leader(lab.driver), 1);
    ck_assert_uint_eq(lab.append_count, 0); /* Nothing is written before start has returned. */
    ck_assert(!raft_driver_read_ready(lab.driver));
    lab_tick(&lab); /* R14: its barrier, at once. */
    ck_assert_uint_eq(lab.now_ms, 0);
    ck_assert_uint_eq(lab.append_count, 1);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 2);
    ck_assert(raft_driver_read_ready(lab.driver));
}
END_TEST

START_TEST(r10_without_it_a_sole_voter_leads_again_in_the_term_it_has)
{
    lab_bootstrap(&lab, 1, 1, RULE(10));
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
    ck_assert_uint_eq(raft_driver_term(lab.driver), 1);
}
END_TEST

START_TEST(a_single_node_commits_what_it_has_stored)
{
    uint64_t first;

    lab_bootstrap(&lab, 1, 1, 0);
    lab_tick(&lab);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_propose(&lab, 3, 100, &first), ERR_OK);
    ck_assert_uint_eq(first, 3);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 2);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 5);
    ck_assert_uint_eq(lab.applied_count, 5);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(lab.applied[i], i + 1);
    }
    ck_assert_uint_eq(raft_driver_entry(lab.driver, 4)->size, 100);
    ck_assert_uint_eq(raft_driver_entry(lab.driver, 4)->term, 2);
}
END_TEST

START_TEST(three_nodes_commit_with_a_majority)
{
    uint64_t first;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_uint_eq(lab.term, 2);
    ck_assert_int_eq(lab_receive_result(&lab, 2, 2, 0, 2), ERR_OK); /* the barrier */
    ck_assert(raft_driver_read_ready(lab.driver));
    ck_assert_int_eq(lab_propose(&lab, 1, 10, &first), ERR_OK);
    ck_assert_uint_eq(first, 3);
    /* Sent before it is durable here; durable elsewhere is not enough of three. */
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND)->append.count, 1);
    ck_assert_int_eq(lab_receive_result(&lab, 2, 2, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 2);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 3, 2, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 3);
    ck_assert_uint_eq(lab.applied[lab.applied_count - 1], 3);
}
END_TEST

START_TEST(what_the_host_does_not_take_is_asked_again_in_the_next_tick)
{
    uint64_t first;

    lab_bootstrap(&lab, 1, 1, 0);
    lab_tick(&lab);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(lab.applied_count, 2);
    lab.apply_bounded = true;
    lab.apply_left = 3;
    ck_assert_int_eq(lab_propose(&lab, 8, 100, &first), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 10);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 5);
    ck_assert_uint_le(raft_driver_deadline_ms(lab.driver), lab.now_ms);
    lab.apply_left = 3;
    ck_assert_int_eq(lab_propose(&lab, 1, 100, &first), ERR_OK); /* It waits for the tick. */
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 5);
    lab_tick(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 8);
    ck_assert_uint_le(raft_driver_deadline_ms(lab.driver), lab.now_ms);
    lab.apply_left = 3;
    lab_answer_appends(&lab);
    lab_tick(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 11);
    ck_assert_uint_gt(raft_driver_deadline_ms(lab.driver), lab.now_ms);
    for (unsigned i = 0; i < lab.applied_count; i++) {
        ck_assert_uint_eq(lab.applied[i], i + 1);
    }
}
END_TEST

START_TEST(heartbeats_do_not_wait_for_what_the_host_does_not_take)
{
    uint64_t first;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 2, 2, 0, 2), ERR_OK);
    lab.apply_bounded = true;
    ck_assert_int_eq(lab_propose(&lab, 1, 10, &first), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, 2, 0, 3), ERR_OK);
    ck_assert_int_eq(lab_receive_result(&lab, 3, 2, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 3);
    lab_forget(&lab);
    for (unsigned i = 0; i < 3; i++) {
        lab.now_ms += LAB_HEARTBEAT_MS;
        lab_tick(&lab);
    }
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 2);
    ck_assert_uint_ge(lab_count(&lab, MESSAGE_APPEND), 2 * 2); /* peers, heartbeats */
    lab.apply_left = 1;
    lab_tick(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 3);
}
END_TEST

START_TEST(what_waits_is_not_applied_any_more_when_a_snapshot_takes_its_place)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(50, 3, 1, &members);
    struct message message = {
        .type = MESSAGE_SNAPSHOT, .from = 2, .to = 1, .term = 3, .snapshot = snapshot};

    lab_bootstrap(&lab, 1, 3, 0);
    lab.apply_bounded = true;
    lab.apply_left = 1;
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 2, 1, 1, 5, 5), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 5);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 2);
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    ck_assert(raft_driver_installing(lab.driver));
    ck_assert_uint_gt(raft_driver_deadline_ms(lab.driver), lab.now_ms);
    lab.apply_left = 9;
    lab_tick(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 2); /* D2 */
    ck_assert_int_eq(raft_driver_installed(lab.driver, lab.now_ms), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 50);
    lab_snapshot_fini(&snapshot);
}
END_TEST

static enum err start_with(uint64_t term, uint64_t vote, const struct snapshot *snapshot,
                           uint64_t first_index, struct entry *entries, size_t count,
                           bool *ret_reset)
{
    struct raft_driver_disk disk = {.term = term,
                                    .vote = vote,
                                    .snapshot = snapshot,
                                    .first_index = first_index,
                                    .entries = entries,
                                    .count = count};
    enum err err;

    lab_init(&lab, 1);
    err = lab_start(&lab, &disk, ret_reset);
    for (size_t i = 0; i < count; i++) {
        entry_unref(&entries[i]);
    }
    return err;
}

START_TEST(a_restart_finds_its_entries_and_its_vote)
{
    struct membership members = lab_members(3, 0);
    struct entry entries[3] = {lab_change(1, 1, &members), lab_entry(2, 1, 8), lab_entry(3, 4, 8)};
    bool reset;

    ck_assert_int_eq(start_with(5, 3, NULL, 1, entries, 3, &reset), ERR_OK);
    ck_assert(!reset);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 3);
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 3);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 1);
    /* The vote of term 5 is given. */
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 5, 9, 4, false), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
    ck_assert_int_eq(lab_receive_vote(&lab, 3, 5, 9, 4, false), ERR_OK);
    ck_assert(lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
}
END_TEST

START_TEST(a_restart_begins_at_its_snapshot)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 3, 1, &members);
    struct entry entries[3] = {lab_entry(9, 3, 8), lab_entry(10, 3, 8), lab_entry(11, 4, 8)};
    bool reset;

    ck_assert_int_eq(start_with(4, 0, &snapshot, 9, entries, 3, &reset), ERR_OK);
    ck_assert(!reset);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 10);
    ck_assert_uint_eq(lab.applied_count, 0);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 9);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 11);
    lab_snapshot_fini(&snapshot);
}
END_TEST

START_TEST(entries_right_behind_the_snapshot_are_kept)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 3, 1, &members);
    struct entry entry = lab_entry(11, 4, 8);
    bool reset;

    ck_assert_int_eq(start_with(4, 0, &snapshot, 11, &entry, 1, &reset), ERR_OK);
    ck_assert(!reset);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 11);
    lab_snapshot_fini(&snapshot);
}
END_TEST

START_TEST(entries_that_end_before_the_snapshot_are_void)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 3, 1, &members);
    struct entry entries[2] = {lab_change(1, 1, &members), lab_entry(2, 1, 8)};
    bool reset = false;

    ck_assert_int_eq(start_with(4, 0, &snapshot, 1, entries, 2, &reset), ERR_OK);
    ck_assert(reset);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 11);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 10);
    lab_snapshot_fini(&snapshot);
}
END_TEST

START_TEST(entries_that_contradict_the_snapshot_are_void)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 3, 1, &members);
    struct entry entries[3] = {lab_entry(9, 2, 8), lab_entry(10, 2, 8), lab_entry(11, 2, 8)};
    bool reset = false;

    ck_assert_int_eq(start_with(4, 0, &snapshot, 9, entries, 3, &reset), ERR_OK);
    ck_assert(reset);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 10);
    lab_snapshot_fini(&snapshot);
}
END_TEST

START_TEST(a_disk_that_makes_no_sense_is_corrupt)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 3, 1, &members);
    bool reset;

    for (unsigned way = 0; way < 7; way++) {
        struct entry entries[2] = {lab_change(1, 1, &members), lab_entry(2, 1, 8)};
        enum err err = ERR_OK;

        switch (way) {
        case 0: /* a vote without a term */
            err = start_with(0, 2, NULL, 1, NULL, 0, &reset);
            break;
        case 1: /* entries without a term */
            err = start_with(0, 0, NULL, 1, entries, 2, &reset);
            break;
        case 2: /* begins behind nothing */
            err = start_with(1, 0, NULL, 2, entries + 1, 1, &reset);
            break;
        case 3: /* no members */
            entries[1].index = 1;
            err = start_with(1, 0, NULL, 1, entries + 1, 1, &reset);
            break;
        case 4: /* a term that was never begun */
            entries[1].term = 2;
            err = start_with(1, 0, NULL, 1, entries, 2, &reset);
            break;
        case 5: /* a gap behind the snapshot */
            err = start_with(9, 0, &snapshot, 12, NULL, 0, &reset);
            break;
        default: /* a gap between entries */
            entries[1].index = 3;
            err = start_with(1, 0, NULL, 1, entries, 2, &reset);
            break;
        }
        ck_assert_msg(err == ERR_CORRUPT, "way %u: %s", way, err_name(err));
        lab_fini(&lab);
        if (entries[0].block != NULL) {
            entry_unref(&entries[0]);
        }
        if (entries[1].block != NULL) {
            entry_unref(&entries[1]);
        }
    }
    lab_init(&lab, 1);
    lab_snapshot_fini(&snapshot);
}
END_TEST

/* ---- failures ---- */

START_TEST(a_ballot_that_cannot_be_saved_stops_everything)
{
    lab_bootstrap(&lab, 1, 3, 0);
    lab.ballot_err = ERR_IO;
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 9, 9, 9, false), ERR_IO);
    ck_assert_uint_eq(lab.sent_count, 0); /* D1 */
    ck_assert_int_eq(raft_driver_tick(lab.driver, 100000), ERR_IO);
}
END_TEST

START_TEST(an_entry_that_cannot_be_applied_stops_everything)
{
    lab_bootstrap(&lab, 1, 1, 0);
    lab_tick(&lab);
    lab.apply_err = ERR_NOSPACE;
    ck_assert_int_eq(raft_driver_appended(lab.driver, 0, 1), ERR_NOSPACE);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 1);
    ck_assert_int_eq(raft_driver_tick(lab.driver, 100000), ERR_NOSPACE);
}
END_TEST

/* ---- proposals ---- */

START_TEST(only_a_leader_takes_proposals)
{
    uint64_t first;

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_NOT_LEADER);
    ck_assert_uint_eq(lab.append_count, 0);
}
END_TEST

START_TEST(a_leader_that_hears_of_a_newer_term_follows_and_says_so)
{
    unsigned changed;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    changed = lab.changed_count;
    ck_assert_int_eq(lab_receive_result(&lab, 2, 7, 1, 0), ERR_OK);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
    ck_assert_uint_eq(lab.term, 7);
    ck_assert_uint_eq(lab.changed_count, changed + 1);
    ck_assert_uint_eq(raft_driver_leader(lab.driver), 0);
}
END_TEST

START_TEST(who_lost_leadership_is_told_before_what_came_instead_is_applied)
{
    unsigned changed;
    uint64_t first;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(first, 3);
    changed = lab.changed_count;
    /* The first that it hears of the next leader, who has committed other entries in their place.
     */
    ck_assert_int_eq(lab_receive_commands(&lab, 2, lab.term + 1, 1, 1, 3, 2), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 3);
    ck_assert_uint_eq(lab.changed_when_applied, changed + 1);
    ck_assert_uint_eq(lab.changed_count, changed + 1);
}
END_TEST

/* ---- snapshots ---- */

/* Node 1 of three as a follower that has applied and stored entries 1 … last. */
static void follow(uint64_t last)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, (unsigned)last - 1), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, last, 1, last, 0), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), last);
    lab_forget(&lab);
}

static void compact(uint64_t index)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(index, 1, 1, &members);

    ck_assert_int_eq(raft_driver_compact(lab.driver, lab.now_ms, &snapshot), ERR_OK);
    raft_driver_check(lab.driver);
    lab_snapshot_fini(&snapshot);
}

START_TEST(a_snapshot_keeps_what_followers_may_still_need_by_bytes)
{
    lab_init(&lab, 1);
    follow(40);
    /* 257 entries at least by default. */
    compact(20);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 1);
    lab_fini(&lab);

    struct membership members = lab_members(3, 0);
    struct entry change = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &change, .count = 1};
    bool reset;

    lab_init(&lab, 1);
    lab.options.trailing_min = 3;
    lab.options.trailing_size = 5 * entry_frame_size(8) + 1;
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    entry_unref(&change);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 39), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 40, 1, 40, 0), ERR_OK);
    compact(20); /* keeps 16 … 20, and what follows */
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 16);
    ck_assert_uint_eq(raft_driver_memory(lab.driver),
                      25 * (entry_frame_size(8) + RAFT_DRIVER_LOG_OVERHEAD));
    compact(10); /* older: ignored */
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 16);
    ck_assert_uint_eq(raft_driver_unapplied_size(lab.driver), 0);
}
END_TEST

START_TEST(entries_that_are_large_are_not_kept_for_their_number)
{
    struct membership members = lab_members(3, 0);
    struct entry change = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &change, .count = 1};
    bool reset;

    lab_init(&lab, 1);
    lab.options.trailing_min = 10;
    lab.options.trailing_size = entry_frame_size(8);
    lab.options.trailing_size_max = 4 * entry_frame_size(8);
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    entry_unref(&change);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 39), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 40, 1, 40, 0), ERR_OK);
    compact(20);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 17);
}
END_TEST

START_TEST(what_is_not_applied_is_counted_whoever_proposed_it)
{
    size_t size = entry_frame_size(8);

    follow(5);
    ck_assert_uint_eq(raft_driver_unapplied_size(lab.driver), 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 5, 1, 5, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_unapplied_size(lab.driver), 3 * size);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 8, 1, 7, 0), ERR_OK);
    ck_assert_uint_eq(raft_driver_unapplied_size(lab.driver), size);
    /* Another leader has another one in its place, and one more. */
    ck_assert_int_eq(lab_receive_commands(&lab, 3, 2, 7, 1, 7, 2), ERR_OK);
    ck_assert_uint_eq(raft_driver_unapplied_size(lab.driver), 2 * size);
}
END_TEST

START_TEST(a_snapshot_may_stand_where_all_is_applied_and_durable)
{
    struct slice membership;
    uint64_t membership_index;
    uint64_t term;

    follow(5);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 5, 1, 8, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 8); /* Not durable here yet. */
    ck_assert_uint_eq(raft_driver_snapshot_index(lab.driver), 5);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_snapshot_index(lab.driver), 8);
    raft_driver_snapshot_meta(lab.driver, &term, &membership_index, &membership);
    ck_assert_uint_eq(term, 1);
    ck_assert_uint_eq(membership_index, 1);
    ck_assert_ptr_eq(membership.data, entry_payload(raft_driver_entry(lab.driver, 1)));
}
END_TEST

static void receive_snapshot(uint64_t index, uint64_t term)
{
    struct membership members = lab_members(3, 1);
    struct message message = {.type = MESSAGE_SNAPSHOT, .from = 2, .term = term};

    message.snapshot = lab_snapshot(index, term, 7, &members);
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    lab_snapshot_fini(&message.snapshot);
}

START_TEST(an_installed_snapshot_replaces_log_state_and_members)
{
    struct membership membership;

    follow(5);
    receive_snapshot(50, 3);
    ck_assert(raft_driver_installing(lab.driver));
    ck_assert_uint_eq(lab.install->index, 50);
    ck_assert_uint_eq(lab.install->manifest.data[0], 1);
    ck_assert_uint_eq(lab.term, 3);
    /* R12: a second one, and entries, change nothing; heartbeats are answered. */
    receive_snapshot(60, 3);
    ck_assert_uint_eq(lab.install_count, 1);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 3, 50, 3, 50, 2), ERR_OK);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 3, 20, 1, 50, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.rejected, 0);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 0);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 5); /* D2 */
    ck_assert_int_eq(raft_driver_installed(lab.driver, 0), ERR_OK);
    raft_driver_check(lab.driver);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 50);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 51);
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 50);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 50);
    raft_driver_membership(lab.driver, &membership);
    ck_assert_uint_eq(membership.count, 4);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 3, 50, 3, 50, 2), ERR_OK);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 52);
}
END_TEST

START_TEST(a_snapshot_of_what_we_have_is_not_installed)
{
    struct membership members = lab_members(3, 0);
    struct message message = {.type = MESSAGE_SNAPSHOT, .from = 2, .term = 1};

    follow(5);
    message.snapshot = lab_snapshot(4, 1, 1, &members);
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    lab_snapshot_fini(&message.snapshot);
    ck_assert(!raft_driver_installing(lab.driver));
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 4);
}
END_TEST

START_TEST(an_install_that_fails_leaves_the_old_state)
{
    follow(5);
    receive_snapshot(50, 3);
    ck_assert_int_eq(raft_driver_install_failed(lab.driver, 0), ERR_OK);
    raft_driver_check(lab.driver);
    ck_assert(!raft_driver_installing(lab.driver));
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 5);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 5);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 5);
    ck_assert_uint_eq(raft_driver_term(lab.driver), 3);
    ck_assert_uint_eq(lab.applied_count, 5);
    /* It goes on. */
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 3, 5, 1, 7, 2), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 7);
    receive_snapshot(50, 3);
    ck_assert_uint_eq(lab.install_count, 2);
}
END_TEST

START_TEST(an_install_that_fails_writes_again_what_it_had_made_void)
{
    follow(5);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 5, 1, 8, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 8); /* and not stored */
    receive_snapshot(50, 3);
    lab_answer_appends(&lab); /* Void: it says nothing. */
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 5);
    ck_assert_int_eq(raft_driver_install_failed(lab.driver, 0), ERR_OK);
    raft_driver_check(lab.driver);
    ck_assert(raft_driver_installing(lab.driver)); /* until it is written */
    ck_assert_uint_eq(lab.appends[lab.append_count - 1].first, 6);
    ck_assert_uint_eq(lab.appends[lab.append_count - 1].count, 3);
    lab_answer_appends(&lab);
    ck_assert(!raft_driver_installing(lab.driver));
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 8);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 8);
}
END_TEST

START_TEST(a_core_that_begins_anew_knows_which_members_are_committed)
{
    struct membership more = lab_members(3, 1);
    struct membership most = lab_members(3, 2);
    struct membership membership;
    struct entry change = lab_change(6, 1, &more);

    follow(5);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 5, 1, 6, &change, 1), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 6);
    receive_snapshot(50, 3);
    ck_assert_int_eq(raft_driver_install_failed(lab.driver, 0), ERR_OK);
    raft_driver_check(lab.driver);
    /* A second change that is rolled back leaves the first. */
    change = lab_change(7, 3, &most);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 3, 6, 1, 6, &change, 1), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 3, 4, 6, 1, 6, 1), ERR_OK);
    raft_driver_membership(lab.driver, &membership);
    ck_assert_uint_eq(membership.count, 4);
}
END_TEST

/* ---- time ---- */

START_TEST(a_call_before_the_deadline_does_nothing)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_uint_ge(raft_driver_deadline_ms(lab.driver), LAB_ELECTION_MS);
    ck_assert_int_eq(raft_driver_tick(lab.driver, LAB_ELECTION_MS - 1), ERR_OK);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
    ck_assert_uint_eq(lab.sent_count, 0);
}
END_TEST

START_TEST(a_leader_beats_and_steps_down_when_nobody_answers)
{
    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    lab_forget(&lab);
    lab_tick(&lab);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 2);
    for (unsigned i = 0; i < 30 && raft_driver_role(lab.driver) == RAFT_ROLE_LEADER; i++) {
        lab_tick(&lab);
    }
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_driver");
    TCase *begin = tcase_create("begin");
    TCase *snapshots = tcase_create("snapshots");

    tcase_add_checked_fixture(begin, NULL, teardown);
    tcase_add_test(begin, a_sole_voter_leads_at_once_in_a_new_term_with_its_own_vote);
    tcase_add_test(begin, r10_without_it_a_sole_voter_leads_again_in_the_term_it_has);
    tcase_add_test(begin, a_single_node_commits_what_it_has_stored);
    tcase_add_test(begin, three_nodes_commit_with_a_majority);
    tcase_add_test(begin, what_the_host_does_not_take_is_asked_again_in_the_next_tick);
    tcase_add_test(begin, heartbeats_do_not_wait_for_what_the_host_does_not_take);
    tcase_add_test(begin, what_waits_is_not_applied_any_more_when_a_snapshot_takes_its_place);
    tcase_add_test(begin, a_restart_finds_its_entries_and_its_vote);
    tcase_add_test(begin, a_restart_begins_at_its_snapshot);
    tcase_add_test(begin, entries_right_behind_the_snapshot_are_kept);
    tcase_add_test(begin, entries_that_end_before_the_snapshot_are_void);
    tcase_add_test(begin, entries_that_contradict_the_snapshot_are_void);
    tcase_add_test(begin, a_disk_that_makes_no_sense_is_corrupt);
    tcase_add_test(begin, a_ballot_that_cannot_be_saved_stops_everything);
    tcase_add_test(begin, an_entry_that_cannot_be_applied_stops_everything);
    tcase_add_test(begin, only_a_leader_takes_proposals);
    tcase_add_test(begin, a_leader_that_hears_of_a_newer_term_follows_and_says_so);
    tcase_add_test(begin, who_lost_leadership_is_told_before_what_came_instead_is_applied);
    tcase_add_test(begin, a_call_before_the_deadline_does_nothing);
    tcase_add_test(begin, a_leader_beats_and_steps_down_when_nobody_answers);
    suite_add_tcase(suite, begin);
    tcase_add_checked_fixture(snapshots, NULL, teardown);
    tcase_add_test(snapshots, a_snapshot_keeps_what_followers_may_still_need_by_bytes);
    tcase_add_test(snapshots, entries_that_are_large_are_not_kept_for_their_number);
    tcase_add_test(snapshots, what_is_not_applied_is_counted_whoever_proposed_it);
    tcase_add_test(snapshots, a_snapshot_may_stand_where_all_is_applied_and_durable);
    tcase_add_test(snapshots, an_installed_snapshot_replaces_log_state_and_members);
    tcase_add_test(snapshots, a_snapshot_of_what_we_have_is_not_installed);
    tcase_add_test(snapshots, an_install_that_fails_leaves_the_old_state);
    tcase_add_test(snapshots, an_install_that_fails_writes_again_what_it_had_made_void);
    tcase_add_test(snapshots, a_core_that_begins_anew_knows_which_members_are_committed);
    suite_add_tcase(suite, snapshots);
    return runner_main(suite);
}
