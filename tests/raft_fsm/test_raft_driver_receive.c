/* The rules on messages, each shown with messages made by hand. */
#include <signal.h>

#include "driver_lab.h"
#include "lib/runner.h"

#define RULE(number) (1u << (number))

static struct lab lab;

static void teardown(void)
{
    lab_fini(&lab);
}

/* ---- R1, R2: changes ---- */

static enum err receive_change_in_the_middle(void)
{
    struct membership more = lab_members(3, 1);
    struct entry entries[3] = {lab_entry(2, 1, 8), lab_change(3, 1, &more), lab_entry(4, 1, 8)};

    return lab_receive_append(&lab, 2, 1, 1, 1, 1, entries, 3);
}

START_TEST(r1_a_change_is_always_the_first_entry_of_what_the_core_is_given)
{
    struct membership membership;

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(receive_change_in_the_middle(), ERR_OK);
    ck_assert_uint_eq(lab.append_count, 2);
    ck_assert_uint_eq(lab.appends[0].first, 2);
    ck_assert_uint_eq(lab.appends[0].count, 1);
    ck_assert_uint_eq(lab.appends[1].first, 3);
    ck_assert_uint_eq(lab.appends[1].count, 2);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 4, 1, 4, 0), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 4);
    raft_driver_membership(lab.driver, &membership);
    ck_assert_uint_eq(membership.count, 4);
}
END_TEST

/* Without it the core puts the change at index 2, and never hears that the one at 3 is committed:
 * raft_driver_check sees it. */
START_TEST(r1_without_it_the_core_puts_the_change_at_a_wrong_index)
{
    lab_bootstrap(&lab, 1, 3, RULE(1));
    ck_assert_int_eq(receive_change_in_the_middle(), ERR_OK);
    lab_answer_appends(&lab);
    (void)lab_receive_commands(&lab, 2, 1, 4, 1, 4, 0); /* Aborts. */
}
END_TEST

/* Two changes in two messages, the first committed only by what the second one says. */
static void receive_two_changes(void)
{
    struct membership first = lab_members(3, 1);
    struct membership second = lab_members(3, 2);
    struct entry entry = lab_change(2, 1, &first);

    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 1, 1, 1, &entry, 1), ERR_OK);
    lab_answer_appends(&lab);
    entry = lab_change(3, 1, &second);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 2, 1, 2, &entry, 1), ERR_OK);
    lab_answer_appends(&lab);
}

/* The second one is truncated by a new leader: what is left? */
static unsigned members_after_rollback(void)
{
    struct membership membership;

    ck_assert_int_eq(lab_receive_commands(&lab, 3, 2, 2, 1, 2, 1), ERR_OK);
    raft_driver_membership(lab.driver, &membership);
    return membership.count;
}

START_TEST(r2_the_first_change_is_confirmed_before_the_second_is_stepped)
{
    lab_bootstrap(&lab, 1, 3, 0);
    receive_two_changes();
    ck_assert_uint_eq(members_after_rollback(), 4);
}
END_TEST

START_TEST(r2_a_second_change_says_that_the_first_is_committed)
{
    struct membership first = lab_members(3, 1);
    struct membership second = lab_members(3, 2);
    struct entry entries[2] = {lab_change(2, 1, &first), lab_change(3, 1, &second)};

    /* The commit index lags: 1. */
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 1, 1, 1, entries, 2), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 1);
    ck_assert_uint_eq(members_after_rollback(), 4);
}
END_TEST

START_TEST(r2_without_it_a_rollback_goes_back_two_changes)
{
    lab_bootstrap(&lab, 1, 3, RULE(2));
    receive_two_changes(); /* Applies the first, of which the core does not know: aborts. */
}
END_TEST

/* ---- R3, R16: below what is committed ---- */

/* Ten entries, all committed and applied, a snapshot at 10, the first eight compacted away. */
static void make_compacted(unsigned rules_off)
{
    struct membership members = lab_members(3, 0);
    struct snapshot snapshot = lab_snapshot(10, 1, 1, &members);
    struct entry change = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &change, .count = 1};
    bool reset;

    lab_init(&lab, 1);
    lab.options.rules_off = rules_off;
    lab.options.trailing_min = 2;
    lab.options.trailing_size = 1;
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    entry_unref(&change);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 9), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 10, 1, 10, 0), ERR_OK);
    ck_assert_uint_eq(raft_driver_snapshot_index(lab.driver), 10);
    ck_assert_int_eq(raft_driver_compact(lab.driver, lab.now_ms, &snapshot), ERR_OK);
    raft_driver_check(lab.driver);
    lab_snapshot_fini(&snapshot);
    ck_assert_uint_eq(raft_driver_first_index(lab.driver), 9);
    lab_forget(&lab);
}

START_TEST(r3_what_is_committed_is_never_rejected)
{
    make_compacted(RULE(16));
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 5, 1, 10, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.rejected, 0);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 10);
}
END_TEST

START_TEST(r3_without_it_and_r16_the_core_rejects_what_it_has_compacted)
{
    make_compacted(RULE(16) | RULE(3));
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 5, 1, 10, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.rejected, 5);
}
END_TEST

START_TEST(r16_a_late_copy_from_before_the_snapshot_changes_nothing)
{
    struct membership members = lab_members(3, 0);
    struct entry entries[3] = {lab_change(1, 1, &members), lab_entry(2, 1, 8), lab_entry(3, 1, 8)};
    unsigned appends;

    make_compacted(0);
    appends = lab.append_count;
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 0, 0, 1, entries, 3), ERR_OK);
    ck_assert_uint_eq(lab.append_count, appends);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 10);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 10);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.rejected, 0);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 10);
}
END_TEST

START_TEST(r16_without_it_such_a_copy_would_rewrite_what_is_applied)
{
    struct membership members = lab_members(3, 0);
    struct entry entries[3] = {lab_change(1, 1, &members), lab_entry(2, 1, 8), lab_entry(3, 1, 8)};

    make_compacted(RULE(16));
    (void)lab_receive_append(&lab, 2, 1, 0, 0, 1, entries, 3); /* Aborts. */
}
END_TEST

START_TEST(r16_what_reaches_beyond_the_commit_index_is_kept)
{
    struct entry entries[3] = {lab_entry(10, 1, 8), lab_entry(11, 1, 8), lab_entry(12, 1, 8)};

    make_compacted(0);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 9, 1, 10, entries, 3), ERR_OK);
    ck_assert_uint_eq(lab.appends[lab.append_count - 1].first, 11);
    ck_assert_uint_eq(lab.appends[lab.append_count - 1].count, 2);
}
END_TEST

START_TEST(r16_an_entry_that_contradicts_a_committed_one_stops_the_node)
{
    struct entry entry = lab_entry(10, 1, 16); /* Same index and term, other contents. */

    make_compacted(0);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 1, 9, 1, 10, &entry, 1), ERR_DIVERGED);
    ck_assert_uint_ge(lab.diag_count, 1);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 10, 1, 10, 0), ERR_DIVERGED);
}
END_TEST

START_TEST(r16_a_previous_term_that_contradicts_a_committed_one_stops_the_node)
{
    make_compacted(0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 5, 9, 4, 10, 0), ERR_DIVERGED);
}
END_TEST

/* ---- R4: rejections that lie ---- */

START_TEST(r4_a_late_rejection_of_what_was_confirmed_is_dropped)
{
    uint64_t match;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 2), ERR_OK);
    lab_forget(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 1, 0), ERR_OK);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 5, 1), ERR_OK);
    ck_assert_uint_eq(lab.sent_count, 0);
    ck_assert(raft_driver_match_index(lab.driver, 2, &match));
    ck_assert_uint_eq(match, 2);
}
END_TEST

START_TEST(a_success_beyond_our_log_is_discarded_and_said)
{
    uint64_t match;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 1000), ERR_OK);
    ck_assert(raft_driver_match_index(lab.driver, 2, &match));
    ck_assert_uint_eq(match, 0);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 1);
    ck_assert_uint_eq(lab.diag_count, 1);
}
END_TEST

/* ---- R6, R7, R12: votes ---- */

static void receive_old_pre_vote(unsigned rules_off)
{
    lab_bootstrap(&lab, 1, 3, rules_off);
    /* Term 5, then silence until nobody leads. */
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 5, 1, 1, 1, 0), ERR_OK);
    lab_tick(&lab);
    lab_forget(&lab);
    ck_assert_int_eq(lab_receive_vote(&lab, 3, 3, 9, 1, true), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
}

START_TEST(r6_a_refused_pre_vote_carries_our_term)
{
    receive_old_pre_vote(0);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_VOTE_RESULT)->term, 5);
}
END_TEST

START_TEST(r6_without_it_the_asker_never_learns_our_term)
{
    receive_old_pre_vote(RULE(6));
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_VOTE_RESULT)->term, 3);
}
END_TEST

/* A node that joins: nothing on its disk, a leader known since 0 ms. */
static void join(unsigned rules_off)
{
    struct raft_driver_disk disk = {.first_index = 1};
    struct membership members = lab_members(3, 1);
    struct entry entry = lab_change(1, 1, &members);
    bool reset;

    lab_init(&lab, 4);
    lab.options.rules_off = rules_off;
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    ck_assert_int_eq(lab_receive_append(&lab, 1, 1, 0, 0, 1, &entry, 1), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(lab.term, 1);
}

START_TEST(r7_a_standby_votes_when_its_leader_is_silent)
{
    join(0);
    lab.now_ms += LAB_ELECTION_MS;
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 2, 1, 1, true), ERR_OK);
    ck_assert(lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 2, 1, 1, false), ERR_OK);
    ck_assert(lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
    ck_assert_uint_eq(lab.term, 2);
    ck_assert_uint_eq(lab.vote, 2);
    /* Once in a term. */
    ck_assert_int_eq(lab_receive_vote(&lab, 3, 2, 1, 1, false), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
    ck_assert_uint_eq(lab.vote, 2);
    /* And for a log that is as good as its own. */
    ck_assert_int_eq(lab_receive_vote(&lab, 3, 3, 0, 0, false), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
}
END_TEST

START_TEST(r7_a_standby_does_not_vote_against_a_leader_it_hears)
{
    join(0);
    lab.now_ms += LAB_ELECTION_MS - 1;
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 2, 1, 1, false), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
    ck_assert_uint_eq(lab.term, 1);
}
END_TEST

START_TEST(r7_without_it_a_standby_never_votes)
{
    join(RULE(7));
    lab.now_ms += LAB_ELECTION_MS;
    ck_assert_int_eq(lab_receive_vote(&lab, 2, 2, 1, 1, false), ERR_OK);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE_RESULT)->vote_result.granted);
}
END_TEST

START_TEST(r12_a_vote_for_one_who_does_not_ask_is_dropped)
{
    struct message message = {.type = MESSAGE_VOTE_RESULT, .from = 2, .term = 9};

    lab_bootstrap(&lab, 1, 3, 0);
    message.vote_result.granted = true;
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    ck_assert_uint_eq(lab.term, 1);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
}
END_TEST

START_TEST(r12_an_answer_from_one_who_is_no_member_is_dropped)
{
    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 9, lab.term + 5, 1, 0), ERR_OK);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
}
END_TEST

START_TEST(r12_messages_for_others_and_from_ourselves_are_dropped)
{
    struct message message = {.type = MESSAGE_APPEND, .from = 2, .to = 3, .term = 7};

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(raft_driver_receive(lab.driver, 0, &message), ERR_OK);
    message.from = message.to = 1;
    ck_assert_int_eq(raft_driver_receive(lab.driver, 0, &message), ERR_OK);
    ck_assert_uint_eq(lab.term, 1);
    ck_assert_uint_eq(lab.sent_count, 0);
}
END_TEST

/* ---- R5, R11: elections that never end ---- */

static void be_told_to_take_over(unsigned voters)
{
    struct message message = {.type = MESSAGE_TIMEOUT_NOW, .from = 2, .term = 1};

    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 0), ERR_OK);
    message.timeout_now.last_index = 1;
    message.timeout_now.last_term = 1;
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    ck_assert_uint_ge(voters, 1);
}

START_TEST(r5_the_permission_to_depose_a_leader_is_for_one_election)
{
    lab_bootstrap(&lab, 1, 3, 0);
    be_told_to_take_over(3);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_CANDIDATE);
    ck_assert(lab_last(&lab, MESSAGE_VOTE)->vote.disrupt_leader);
    lab_tick(&lab);
    ck_assert(!lab_last(&lab, MESSAGE_VOTE)->vote.disrupt_leader);
    ck_assert(lab_last(&lab, MESSAGE_VOTE)->vote.pre_vote);
    ck_assert_uint_eq(lab.term, 2);
}
END_TEST

START_TEST(r5_without_it_the_permission_is_for_ever)
{
    lab_bootstrap(&lab, 1, 3, RULE(5));
    be_told_to_take_over(3);
    lab_tick(&lab);
    ck_assert(lab_last(&lab, MESSAGE_VOTE)->vote.disrupt_leader);
    ck_assert_uint_eq(lab.term, 3);
}
END_TEST

/* ---- R15: stale requests ---- */

static void check_stale_answer(uint64_t rejected)
{
    const struct message *answer = lab_last(&lab, MESSAGE_APPEND_RESULT);

    ck_assert_ptr_nonnull(answer);
    ck_assert(answer->append_result.stale);
    ck_assert_uint_eq(answer->term, 5);
    ck_assert_uint_eq(answer->to, 3);
    ck_assert_uint_eq(answer->append_result.rejected, rejected);
    ck_assert_uint_lt(answer->append_result.last_index, rejected);
    lab_forget(&lab);
}

START_TEST(r15_a_request_of_an_older_term_is_answered_with_our_term_and_no_success)
{
    struct membership members = lab_members(3, 0);
    struct message message = {.type = MESSAGE_SNAPSHOT, .from = 3, .term = 4};

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 5, 1, 1, 1, 0), ERR_OK);
    lab_forget(&lab);
    ck_assert_int_eq(lab_receive_commands(&lab, 3, 4, 0, 0, 1, 0), ERR_OK);
    check_stale_answer(1);
    ck_assert_int_eq(lab_receive_commands(&lab, 3, 4, 7, 1, 1, 2), ERR_OK);
    check_stale_answer(7);
    message.snapshot = lab_snapshot(30, 3, 1, &members);
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    check_stale_answer(30);
    lab_snapshot_fini(&message.snapshot);
    ck_assert_uint_eq(raft_driver_leader(lab.driver), 2);
    ck_assert_uint_eq(lab.install_count, 0);
}
END_TEST

START_TEST(r15_a_stale_answer_only_tells_a_newer_term)
{
    struct message message = {.type = MESSAGE_APPEND_RESULT, .from = 2, .term = 2};

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    lab_forget(&lab);
    message.append_result.rejected = 2;
    message.append_result.last_index = 1;
    message.append_result.stale = true;
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK); /* Our own term: nothing. */
    ck_assert_uint_eq(lab.sent_count, 0);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
    message.term = 9;
    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
    ck_assert_uint_eq(lab.term, 9);
}
END_TEST

/* ---- what makes no sense ---- */

START_TEST(a_second_leader_of_our_own_term_stops_the_node)
{
    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, lab.term, 1, 1, 1, 0), ERR_DIVERGED);
}
END_TEST

START_TEST(entries_of_a_term_later_than_the_message_are_dropped)
{
    struct entry entry = lab_entry(2, 8, 8);

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_append(&lab, 2, 3, 1, 1, 1, &entry, 1), ERR_OK);
    ck_assert_uint_eq(lab.diag_count, 1);
    ck_assert_uint_eq(lab.append_count, 0);
}
END_TEST

/* ---- D3 ---- */

START_TEST(d3_nothing_is_confirmed_before_it_is_durable)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 3), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND_RESULT), 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 4, 1, 1, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 1);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.last_index, 4);
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 4);
}
END_TEST

START_TEST(d3_a_write_that_was_truncated_meanwhile_confirms_only_what_is_left)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 1, 1, 1, 4), ERR_OK); /* 2 … 5 */
    ck_assert_int_eq(lab_receive_commands(&lab, 3, 2, 3, 1, 1, 1), ERR_OK); /* 4 of term 2 */
    ck_assert_uint_eq(lab.append_count, 2);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 4);
    lab.answered = 1;
    ck_assert_int_eq(raft_driver_appended(lab.driver, 0, 1), ERR_OK);
    raft_driver_check(lab.driver);
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 3);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_stored_index(lab.driver), 4);
}
END_TEST

START_TEST(a_rejection_in_one_message_does_not_stop_the_next)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 1, 7, 1, 1, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_APPEND_RESULT)->append_result.rejected, 7);
    ck_assert_int_eq(receive_change_in_the_middle(), ERR_OK);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_driver_receive");
    TCase *tcase = tcase_create("rules");
    TCase *needed = tcase_create("without");

    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, r1_a_change_is_always_the_first_entry_of_what_the_core_is_given);
    tcase_add_test(tcase, r2_the_first_change_is_confirmed_before_the_second_is_stepped);
    tcase_add_test(tcase, r2_a_second_change_says_that_the_first_is_committed);
    tcase_add_test(tcase, r3_what_is_committed_is_never_rejected);
    tcase_add_test(tcase, r3_without_it_and_r16_the_core_rejects_what_it_has_compacted);
    tcase_add_test(tcase, r16_a_late_copy_from_before_the_snapshot_changes_nothing);
    tcase_add_test(tcase, r16_what_reaches_beyond_the_commit_index_is_kept);
    tcase_add_test(tcase, r16_an_entry_that_contradicts_a_committed_one_stops_the_node);
    tcase_add_test(tcase, r16_a_previous_term_that_contradicts_a_committed_one_stops_the_node);
    tcase_add_test(tcase, r4_a_late_rejection_of_what_was_confirmed_is_dropped);
    tcase_add_test(tcase, a_success_beyond_our_log_is_discarded_and_said);
    tcase_add_test(tcase, r6_a_refused_pre_vote_carries_our_term);
    tcase_add_test(tcase, r6_without_it_the_asker_never_learns_our_term);
    tcase_add_test(tcase, r7_a_standby_votes_when_its_leader_is_silent);
    tcase_add_test(tcase, r7_a_standby_does_not_vote_against_a_leader_it_hears);
    tcase_add_test(tcase, r7_without_it_a_standby_never_votes);
    tcase_add_test(tcase, r12_a_vote_for_one_who_does_not_ask_is_dropped);
    tcase_add_test(tcase, r12_an_answer_from_one_who_is_no_member_is_dropped);
    tcase_add_test(tcase, r12_messages_for_others_and_from_ourselves_are_dropped);
    tcase_add_test(tcase, r5_the_permission_to_depose_a_leader_is_for_one_election);
    tcase_add_test(tcase, r5_without_it_the_permission_is_for_ever);
    tcase_add_test(tcase, r15_a_request_of_an_older_term_is_answered_with_our_term_and_no_success);
    tcase_add_test(tcase, r15_a_stale_answer_only_tells_a_newer_term);
    tcase_add_test(tcase, a_second_leader_of_our_own_term_stops_the_node);
    tcase_add_test(tcase, entries_of_a_term_later_than_the_message_are_dropped);
    tcase_add_test(tcase, d3_nothing_is_confirmed_before_it_is_durable);
    tcase_add_test(tcase, d3_a_write_that_was_truncated_meanwhile_confirms_only_what_is_left);
    tcase_add_test(tcase, a_rejection_in_one_message_does_not_stop_the_next);
    suite_add_tcase(suite, tcase);
    tcase_add_test_raise_signal(needed, r1_without_it_the_core_puts_the_change_at_a_wrong_index,
                                SIGABRT);
    tcase_add_test_raise_signal(needed, r2_without_it_a_rollback_goes_back_two_changes, SIGABRT);
    tcase_add_test_raise_signal(needed, r16_without_it_such_a_copy_would_rewrite_what_is_applied,
                                SIGABRT);
    suite_add_tcase(suite, needed);
    return runner_main(suite);
}
