/* Changes of the members and transfers of leadership: what is refused, and why. */
#include <string.h>

#include "driver_lab.h"
#include "lib/runner.h"

#define RULE(number) (1u << (number))

static struct lab lab;

static void teardown(void)
{
    lab_fini(&lab);
}

/* Node 1 leads `voters`, its barrier is committed. */
static void lead(unsigned voters, unsigned rules_off)
{
    lab_bootstrap(&lab, 1, voters, rules_off);
    if (voters == 1) {
        lab_tick(&lab);
        lab_answer_appends(&lab);
        return;
    }
    lab_lead(&lab, voters);
    for (uint64_t id = 2; id <= voters; id++) {
        ck_assert_int_eq(lab_receive_result(&lab, id, lab.term, 0, 2), ERR_OK);
    }
    ck_assert(raft_driver_read_ready(lab.driver));
    lab_forget(&lab);
}

static enum err change(const struct membership *membership)
{
    struct err_info info = {.text = ""};
    enum err err = raft_driver_change(lab.driver, lab.now_ms, membership, &info);

    raft_driver_check(lab.driver);
    if (err != ERR_OK) {
        ck_assert_uint_gt(strlen(info.text), 0);
    }
    return err;
}

START_TEST(a_change_goes_to_all_and_holds_when_a_majority_has_it)
{
    struct membership membership = lab_members(3, 1);

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    raft_driver_membership(lab.driver, &membership);
    ck_assert_uint_eq(membership.count, 4);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 3); /* The new one, too. */
    ck_assert_int_eq(raft_driver_entry(lab.driver, 3)->type, ENTRY_CHANGE);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_applied_index(lab.driver), 3);
}
END_TEST

START_TEST(only_a_leader_changes_the_members)
{
    struct membership membership = lab_members(3, 1);

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(change(&membership), ERR_NOT_LEADER);
}
END_TEST

START_TEST(exactly_one_member_differs)
{
    struct membership membership = lab_members(3, 0);
    struct member member;

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* none */
    membership = lab_members(3, 2);
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* two */
    membership = lab_members(4, 0);
    member = membership.members[1];
    membership.members[1] = membership.members[2];
    membership.members[2] = member;
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* one, and another order */
    membership = lab_members(3, 0);
    membership.members[2].id = 9;
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* one instead of another */
    membership = lab_members(4, 0);
    membership.members[3].id = 2;
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* an id twice */
    membership.count = 0;
    ck_assert_int_eq(change(&membership), ERR_INVALID);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 2);
}
END_TEST

START_TEST(a_member_may_move_to_another_address)
{
    struct membership membership = lab_members(3, 0);

    lead(3, 0);
    strcpy(membership.members[1].address, "elsewhere:1");
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

START_TEST(r9_a_leader_does_not_remove_itself)
{
    struct membership membership = lab_members(4, 0);

    lead(4, 0);
    memmove(&membership.members[0], &membership.members[1], 3 * sizeof membership.members[0]);
    membership.count = 3;
    ck_assert_int_eq(change(&membership), ERR_INVALID);
    membership = lab_members(4, 0);
    membership.members[0].role = MEMBER_STANDBY;
    ck_assert_int_eq(change(&membership), ERR_INVALID);
    membership = lab_members(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK); /* Another one. */
}
END_TEST

START_TEST(r9_three_voters_are_the_least)
{
    struct membership membership = lab_members(2, 0);

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_INVALID);
    membership = lab_members(2, 1);
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* demoted */
}
END_TEST

START_TEST(a_cluster_grows_from_one_to_three)
{
    struct membership membership = lab_members(2, 0);

    lead(1, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 2); /* Both must have it now. */
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 3);
    membership = lab_members(1, 0);
    ck_assert_int_eq(change(&membership), ERR_INVALID); /* never back */
    membership = lab_members(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

START_TEST(r2_one_change_at_a_time)
{
    struct membership membership = lab_members(3, 1);

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    lab_answer_appends(&lab);
    membership = lab_members(3, 2);
    ck_assert_int_eq(change(&membership), ERR_AGAIN);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 3), ERR_OK);
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

START_TEST(r8_every_voter_has_the_last_change_before_the_next)
{
    struct membership membership = lab_members(3, 1);

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
    ck_assert_uint_eq(raft_driver_commit_index(lab.driver), 3);
    membership = lab_members(3, 2);
    ck_assert_int_eq(change(&membership), ERR_AGAIN); /* 3 has not. */
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 3), ERR_OK);
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

/* A voter that is gone for good must not keep it from being replaced. */
START_TEST(r8_a_silent_voter_is_not_waited_for)
{
    struct membership membership = lab_members(3, 1);

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    lab_answer_appends(&lab);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
    membership.members[3].role = MEMBER_VOTER;
    ck_assert_int_eq(change(&membership), ERR_AGAIN);
    for (unsigned i = 0; i < 9; i++) {
        ck_assert(raft_driver_heard(lab.driver, 2));
        ck_assert_int_eq(change(&membership), ERR_AGAIN);
        lab.now_ms += LAB_ELECTION_MS / 2;
        ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 3), ERR_OK);
        ck_assert_int_eq(raft_driver_tick(lab.driver, lab.now_ms), ERR_OK);
        lab_forget(&lab);
    }
    ck_assert(!raft_driver_heard(lab.driver, 3));
    ck_assert(!raft_driver_changing(lab.driver));
    ck_assert_int_eq(change(&membership), ERR_OK);
    ck_assert(raft_driver_changing(lab.driver));
}
END_TEST

START_TEST(r14_no_change_before_the_own_term_is_committed)
{
    struct membership membership = lab_members(3, 1);

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(raft_driver_entry(lab.driver, 2)->type, ENTRY_BARRIER);
    ck_assert_int_eq(change(&membership), ERR_AGAIN);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 2), ERR_OK);
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 2), ERR_OK);
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

START_TEST(r14_without_it_there_is_no_barrier_and_nothing_to_wait_for)
{
    struct membership membership = lab_members(3, 1);

    lab_bootstrap(&lab, 1, 3, RULE(14) | RULE(8));
    lab_lead(&lab, 3);
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), 1);
    ck_assert_int_eq(change(&membership), ERR_OK);
}
END_TEST

/* ---- transfers ---- */

START_TEST(leadership_goes_to_a_voter_that_has_everything)
{
    const struct message *message;
    uint64_t first;

    lead(3, 0);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 3), ERR_OK);
    ck_assert(raft_driver_transferring(lab.driver));
    message = lab_last(&lab, MESSAGE_TIMEOUT_NOW);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->to, 3);
    ck_assert_uint_eq(message->timeout_now.last_index, 2);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_NOT_LEADER);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 2), ERR_NOT_LEADER);
    /* Given up when it does not happen. */
    lab.now_ms += LAB_ELECTION_MS;
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 2), ERR_OK);
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 2), ERR_OK);
    ck_assert_int_eq(raft_driver_tick(lab.driver, lab.now_ms), ERR_OK);
    ck_assert(!raft_driver_transferring(lab.driver));
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
}
END_TEST

START_TEST(a_transfer_to_nobody_goes_to_the_best)
{
    uint64_t first;

    lead(3, 0);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 0), ERR_AGAIN);
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 3), ERR_OK);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 0), ERR_OK);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_TIMEOUT_NOW)->to, 3);
}
END_TEST

START_TEST(a_transfer_that_cannot_be_is_refused)
{
    struct membership membership = lab_members(3, 1);
    uint64_t first;

    lead(3, 0);
    ck_assert_int_eq(change(&membership), ERR_OK);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 1), ERR_INVALID);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 4), ERR_INVALID);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 5), ERR_NOT_FOUND);
    ck_assert_int_eq(lab_propose(&lab, 1, 8, &first), ERR_OK);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 2), ERR_AGAIN);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_TIMEOUT_NOW), 0);
}
END_TEST

START_TEST(only_a_leader_gives_leadership_away)
{
    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, 0, 2), ERR_NOT_LEADER);
    lab_fini(&lab);
    lead(1, 0);
    ck_assert_int_eq(raft_driver_transfer(lab.driver, lab.now_ms, 0), ERR_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_driver_change");
    TCase *changes = tcase_create("changes");
    TCase *transfers = tcase_create("transfers");

    tcase_add_checked_fixture(changes, NULL, teardown);
    tcase_add_test(changes, a_change_goes_to_all_and_holds_when_a_majority_has_it);
    tcase_add_test(changes, only_a_leader_changes_the_members);
    tcase_add_test(changes, exactly_one_member_differs);
    tcase_add_test(changes, a_member_may_move_to_another_address);
    tcase_add_test(changes, r9_a_leader_does_not_remove_itself);
    tcase_add_test(changes, r9_three_voters_are_the_least);
    tcase_add_test(changes, a_cluster_grows_from_one_to_three);
    tcase_add_test(changes, r2_one_change_at_a_time);
    tcase_add_test(changes, r8_every_voter_has_the_last_change_before_the_next);
    tcase_add_test(changes, r8_a_silent_voter_is_not_waited_for);
    tcase_add_test(changes, r14_no_change_before_the_own_term_is_committed);
    tcase_add_test(changes, r14_without_it_there_is_no_barrier_and_nothing_to_wait_for);
    suite_add_tcase(suite, changes);
    tcase_add_checked_fixture(transfers, NULL, teardown);
    tcase_add_test(transfers, leadership_goes_to_a_voter_that_has_everything);
    tcase_add_test(transfers, a_transfer_to_nobody_goes_to_the_best);
    tcase_add_test(transfers, a_transfer_that_cannot_be_is_refused);
    tcase_add_test(transfers, only_a_leader_gives_leadership_away);
    suite_add_tcase(suite, transfers);
    return runner_main(suite);
}
