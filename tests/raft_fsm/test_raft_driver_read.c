/* Rounds of reads: what a majority must have said, and when, before an index counts. */
#include "driver_lab.h"
#include "lib/runner.h"

static struct lab lab;

static void teardown(void)
{
    lab_fini(&lab);
}

/* Node 1 leads `voters` nodes and has committed in its term. */
static void lead(unsigned voters)
{
    lab_bootstrap(&lab, 1, voters, 0);
    lab_lead(&lab, voters);
    for (unsigned id = 2; id <= voters / 2 + 1; id++) {
        ck_assert_int_eq(lab_receive_result(&lab, id, lab.term, 0, 2), ERR_OK);
    }
    ck_assert(raft_driver_read_ready(lab.driver));
    lab_forget(&lab);
}

static uint64_t begin(uint64_t *ret_index)
{
    uint64_t round = 0;

    ck_assert_int_eq(raft_driver_read_begin(lab.driver, lab.now_ms, &round, ret_index), ERR_OK);
    raft_driver_check(lab.driver);
    return round;
}

static void confirm(uint64_t from, uint64_t term, uint64_t round)
{
    struct message message = {
        .type = MESSAGE_CONFIRM_RESULT, .from = from, .term = term, .confirm.round = round};

    ck_assert_int_eq(lab_receive(&lab, message), ERR_OK);
}

START_TEST(a_round_is_confirmed_by_a_majority_and_its_index_is_the_commit_index)
{
    uint64_t index = 0;
    uint64_t round;

    lead(5);
    round = begin(&index);
    ck_assert_uint_eq(index, raft_driver_commit_index(lab.driver));
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_CONFIRM), 4);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_CONFIRM)->term, lab.term);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_CONFIRM)->confirm.round, round);
    confirm(2, lab.term, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), 0);
    confirm(2, lab.term, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), 0);
    confirm(5, lab.term, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), round);
}
END_TEST

START_TEST(no_log_is_written_for_a_read)
{
    uint64_t last;
    uint64_t index;
    unsigned appends;

    lead(3);
    last = raft_driver_last_index(lab.driver);
    appends = lab.append_count;
    confirm(2, lab.term, begin(&index));
    ck_assert_uint_eq(raft_driver_last_index(lab.driver), last);
    ck_assert_uint_eq(lab.append_count, appends);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_APPEND), 0);
}
END_TEST

START_TEST(a_late_answer_to_an_earlier_round_confirms_nothing_later)
{
    uint64_t index;
    uint64_t first;
    uint64_t second;

    lead(3);
    first = begin(&index);
    second = begin(&index);
    ck_assert_uint_gt(second, first);
    confirm(2, lab.term, first);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), first);
    confirm(3, lab.term, first);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), first);
    confirm(3, lab.term, second);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), second);
}
END_TEST

START_TEST(answers_of_other_terms_strangers_and_the_future_count_for_nothing)
{
    uint64_t index;
    uint64_t round;

    lead(3);
    round = begin(&index);
    confirm(2, lab.term - 1, round);
    confirm(2, lab.term + 1, round);
    confirm(9, lab.term, round);
    confirm(2, lab.term, round + 1);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), 0);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
}
END_TEST

START_TEST(a_standby_confirms_nothing)
{
    struct membership members = lab_members(3, 1);
    struct entry change = lab_change(1, 1, &members);
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = &change, .count = 1};
    uint64_t index;
    uint64_t round;
    bool reset;

    lab_init(&lab, 1);
    ck_assert_int_eq(lab_start(&lab, &disk, &reset), ERR_OK);
    entry_unref(&change);
    lab_lead(&lab, 3);
    ck_assert_int_eq(lab_receive_result(&lab, 2, lab.term, 0, 2), ERR_OK);
    round = begin(&index);
    confirm(4, lab.term, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), 0);
    confirm(3, lab.term, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), round);
}
END_TEST

START_TEST(a_sole_voter_needs_nobody)
{
    uint64_t index;
    uint64_t round;

    lab_bootstrap(&lab, 1, 1, 0);
    lab_tick(&lab);
    lab_answer_appends(&lab);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_LEADER);
    round = begin(&index);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), round);
    ck_assert_uint_eq(index, raft_driver_last_index(lab.driver));
}
END_TEST

START_TEST(those_that_did_not_answer_are_asked_again_until_a_majority_has)
{
    uint64_t index;
    uint64_t round;

    lead(5);
    round = begin(&index);
    confirm(2, lab.term, round);
    lab_forget(&lab);
    lab.now_ms += LAB_HEARTBEAT_MS;
    ck_assert_uint_le(raft_driver_deadline_ms(lab.driver), lab.now_ms);
    ck_assert_int_eq(raft_driver_tick(lab.driver, lab.now_ms), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_CONFIRM), 3);
    confirm(3, lab.term, round);
    lab_forget(&lab);
    lab.now_ms += LAB_HEARTBEAT_MS;
    ck_assert_int_eq(raft_driver_tick(lab.driver, lab.now_ms), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_CONFIRM), 0);
}
END_TEST

START_TEST(a_leader_that_has_not_committed_in_its_term_begins_no_round)
{
    uint64_t round;
    uint64_t index;

    lab_bootstrap(&lab, 1, 3, 0);
    lab_lead(&lab, 3);
    ck_assert_int_eq(raft_driver_read_begin(lab.driver, lab.now_ms, &round, &index), ERR_AGAIN);
    ck_assert_int_eq(lab_receive_result(&lab, 3, lab.term, 0, 2), ERR_OK);
    (void)begin(&index);
    ck_assert_uint_eq(index, 2);
}
END_TEST

START_TEST(a_deposed_leader_has_no_confirmed_round_and_begins_none)
{
    uint64_t index;
    uint64_t round;
    uint64_t term;

    lead(3);
    term = lab.term;
    round = begin(&index);
    ck_assert_int_eq(lab_receive_commands(&lab, 3, term + 1, 2, term, 2, 1), ERR_OK);
    ck_assert_int_eq(raft_driver_role(lab.driver), RAFT_ROLE_FOLLOWER);
    confirm(2, term, round);
    confirm(2, term + 1, round);
    ck_assert_uint_eq(raft_driver_read_confirmed(lab.driver), 0);
    ck_assert_int_eq(raft_driver_read_begin(lab.driver, lab.now_ms, &round, &index),
                     ERR_NOT_LEADER);
}
END_TEST

START_TEST(a_voter_confirms_its_own_term_only)
{
    struct message ask = {.type = MESSAGE_CONFIRM, .from = 2, .term = 3, .confirm.round = 8};

    lab_bootstrap(&lab, 1, 3, 0);
    ck_assert_int_eq(lab_receive_commands(&lab, 2, 3, 1, 1, 1, 1), ERR_OK);
    lab_forget(&lab);
    ck_assert_int_eq(lab_receive(&lab, ask), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_CONFIRM_RESULT), 1);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_CONFIRM_RESULT)->to, 2);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_CONFIRM_RESULT)->term, 3);
    ck_assert_uint_eq(lab_last(&lab, MESSAGE_CONFIRM_RESULT)->confirm.round, 8);
    ask.term = 2;
    ck_assert_int_eq(lab_receive(&lab, ask), ERR_OK);
    ask.term = 4;
    ck_assert_int_eq(lab_receive(&lab, ask), ERR_OK);
    ck_assert_uint_eq(lab_count(&lab, MESSAGE_CONFIRM_RESULT), 1);
    ck_assert_uint_eq(raft_driver_term(lab.driver), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/raft_driver_read");
    TCase *tcase = tcase_create("read_begin");

    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, a_round_is_confirmed_by_a_majority_and_its_index_is_the_commit_index);
    tcase_add_test(tcase, no_log_is_written_for_a_read);
    tcase_add_test(tcase, a_late_answer_to_an_earlier_round_confirms_nothing_later);
    tcase_add_test(tcase, answers_of_other_terms_strangers_and_the_future_count_for_nothing);
    tcase_add_test(tcase, a_standby_confirms_nothing);
    tcase_add_test(tcase, a_sole_voter_needs_nobody);
    tcase_add_test(tcase, those_that_did_not_answer_are_asked_again_until_a_majority_has);
    tcase_add_test(tcase, a_leader_that_has_not_committed_in_its_term_begins_no_round);
    tcase_add_test(tcase, a_deposed_leader_has_no_confirmed_round_and_begins_none);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("receive_confirm");
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, a_voter_confirms_its_own_term_only);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
