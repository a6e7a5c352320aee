/* What a leader decides: each refusal and each step. */
#include "raft_fsm/membership_plan.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

static struct membership members;
static struct member_fact facts[MEMBERSHIP_MAX];
static struct member_view view;
static struct member_goal goal;
static struct member_plan plan;

/* Node 1 leads; voters 1 … count, all healthy and with all entries. */
static void cluster(unsigned count)
{
    members = (struct membership){.count = 0};
    memset(facts, 0, sizeof facts);
    for (unsigned id = 1; id <= count; id++) {
        char address[16];

        snprintf(address, sizeof address, "n%u:1", id);
        ck_assert_int_eq(membership_add(&members, id, address, MEMBER_VOTER), ERR_OK);
        facts[id - 1] = (struct member_fact){
            .id = id, .answered = true, .heard = true, .matched = true, .match = 1000};
    }
    view = (struct member_view){.self_id = 1,
                                .membership = &members,
                                .last_index = 1000,
                                .surveyed = true,
                                .facts = facts,
                                .fact_count = count};
    goal = (struct member_goal){0};
}

static void add_standby(uint64_t id, const char *address)
{
    ck_assert_int_eq(membership_add(&members, id, address, MEMBER_STANDBY), ERR_OK);
    facts[view.fact_count++] = (struct member_fact){
        .id = id, .answered = true, .heard = true, .matched = true, .match = 1000};
}

static void goal_add(uint64_t id, const char *address)
{
    goal = (struct member_goal){.kind = MEMBER_GOAL_ADD, .id = id};
    strcpy(goal.address, address);
}

static void decide(enum member_action action, enum member_stage stage)
{
    membership_plan(&view, &goal, &plan);
    ck_assert_msg(plan.action == action && plan.stage == stage, "action %d, stage %s: %s",
                  plan.action, member_stage_name(plan.stage), plan.info.text);
    ck_assert_uint_gt(strlen(plan.info.text), 0);
    ck_assert_int_eq(plan.info.code, ERR_OK);
}

static void refused(enum err err)
{
    membership_plan(&view, &goal, &plan);
    ck_assert_msg(plan.action == MEMBER_REFUSE && plan.info.code == err, "action %d, %s: %s",
                  plan.action, err_name(plan.info.code), plan.info.text);
    ck_assert_uint_gt(strlen(plan.info.text), 0);
}

/* ---- adding ---- */

START_TEST(a_new_node_stands_by_first)
{
    cluster(3);
    goal_add(4, "n4:1");
    decide(MEMBER_CHANGE, MEMBER_STAGE_JOINING);
    ck_assert_uint_eq(plan.membership.count, 4);
    ck_assert_int_eq(membership_find(&plan.membership, 4)->role, MEMBER_STANDBY);
    ck_assert_uint_eq(membership_voters(&plan.membership), 3);
}
END_TEST

START_TEST(it_votes_when_it_was_heard_has_caught_up_and_its_disk_is_known)
{
    cluster(3);
    add_standby(4, "n4:1");
    goal_add(4, "n4:1");
    facts[3].answered = false;
    decide(MEMBER_WAIT, MEMBER_STAGE_JOINING);
    facts[3].answered = true;
    facts[3].matched = false;
    decide(MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP);
    ck_assert_uint_eq(plan.lag, 1000);
    facts[3].matched = true;
    facts[3].match = 1000 - MEMBER_LAG_MAX - 1;
    decide(MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP);
    ck_assert_uint_eq(plan.lag, MEMBER_LAG_MAX + 1);
    facts[3].match++;
    facts[3].holes = 1;
    decide(MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP);
    ck_assert_uint_eq(plan.holes, 1);
    facts[3].holes = 0;
    decide(MEMBER_WAIT, MEMBER_STAGE_CATCHING_UP); /* Its disk is not known. */
    view.id_bound = true;
    decide(MEMBER_CHANGE, MEMBER_STAGE_PROMOTING);
    ck_assert_uint_eq(membership_voters(&plan.membership), 4);
    members = plan.membership;
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
}
END_TEST

START_TEST(a_spare_stands_by_next)
{
    cluster(3);
    ck_assert_int_eq(membership_add(&members, 4, "n4:1", MEMBER_SPARE), ERR_OK);
    goal_add(4, "n4:1");
    decide(MEMBER_CHANGE, MEMBER_STAGE_JOINING);
    ck_assert_int_eq(membership_find(&plan.membership, 4)->role, MEMBER_STANDBY);
}
END_TEST

START_TEST(what_is_taken_is_refused)
{
    cluster(3);
    goal_add(2, "n4:1");
    refused(ERR_EXISTS);
    goal_add(4, "n2:1");
    refused(ERR_EXISTS);
    goal_add(4, "n4:1");
    view.id_bound = true; /* A member before. */
    refused(ERR_ID_USED);
    goal_add(4, "");
    view.id_bound = false;
    refused(ERR_INVALID);
    cluster(MEMBERSHIP_MAX);
    goal_add(99, "n99:1");
    refused(ERR_LIMIT);
}
END_TEST

START_TEST(one_node_is_added_at_a_time)
{
    cluster(5);
    add_standby(6, "n6:1");
    goal_add(7, "n7:1");
    refused(ERR_MEMBERS_CHANGING);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 2};
    refused(ERR_MEMBERS_CHANGING);
    goal.id = 6; /* Taken back. */
    decide(MEMBER_CHANGE, MEMBER_STAGE_REMOVING);
}
END_TEST

START_TEST(nobody_votes_where_most_voters_are_gone)
{
    cluster(3);
    add_standby(4, "n4:1");
    goal_add(4, "n4:1");
    view.id_bound = true;
    facts[2].answered = facts[2].heard = false;
    decide(MEMBER_CHANGE, MEMBER_STAGE_PROMOTING); /* 3 of 4. */
    facts[1].answered = facts[1].heard = false;
    refused(ERR_UNSAFE); /* 2 of 4. */
    facts[1].heard = true;
    decide(MEMBER_CHANGE, MEMBER_STAGE_PROMOTING);
    facts[1].answered = true;
    facts[1].holes = 7;
    refused(ERR_UNSAFE);
}
END_TEST

/* ---- removing ---- */

START_TEST(a_follower_goes_at_once_and_the_leader_hands_over_first)
{
    cluster(4);
    facts[1].match = 900;
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 3};
    decide(MEMBER_CHANGE, MEMBER_STAGE_REMOVING);
    ck_assert_uint_eq(plan.membership.count, 3);
    ck_assert_ptr_null(membership_find(&plan.membership, 3));
    ck_assert_ptr_nonnull(membership_find(&plan.membership, 4));
    goal.id = 1;
    facts[2].holes = 1;
    decide(MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING);
    ck_assert_uint_eq(plan.transfer_to, 4); /* 2 lacks entries, 3 has holes. */
}
END_TEST

START_TEST(a_node_that_is_gone_is_removed_and_one_that_never_was_is_not_known)
{
    cluster(3);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 9};
    refused(ERR_NOT_FOUND);
    goal.under_way = true;
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
    goal.under_way = false;
    view.id_bound = true;
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
}
END_TEST

START_TEST(three_voters_are_left_and_a_majority_of_them_is_healthy)
{
    cluster(3);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 2};
    refused(ERR_UNSAFE);
    cluster(5);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 2};
    facts[3].answered = facts[3].heard = false;
    facts[4].answered = facts[4].heard = false;
    refused(ERR_UNSAFE); /* 2 of 4 */
    goal.id = 4;
    decide(MEMBER_CHANGE, MEMBER_STAGE_REMOVING); /* 3 of 4 */
}
END_TEST

START_TEST(a_leader_whom_nobody_can_follow_stays)
{
    cluster(4);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 1};
    for (unsigned i = 1; i < 4; i++) {
        facts[i].answered = false;
    }
    refused(ERR_UNSAFE);
}
END_TEST

/* ---- replacing, transferring ---- */

START_TEST(the_new_one_comes_before_the_old_one_goes)
{
    cluster(3);
    facts[2].answered = facts[2].heard = false; /* 3 is dead. */
    goal = (struct member_goal){.kind = MEMBER_GOAL_REPLACE, .id = 4, .other_id = 3};
    strcpy(goal.address, "n4:1");
    decide(MEMBER_CHANGE, MEMBER_STAGE_JOINING);
    members = plan.membership;
    facts[3] = (struct member_fact){.id = 4, .answered = true, .matched = true, .match = 1000};
    view.fact_count = 4;
    view.id_bound = true;
    decide(MEMBER_CHANGE, MEMBER_STAGE_PROMOTING);
    members = plan.membership;
    decide(MEMBER_CHANGE, MEMBER_STAGE_REMOVING);
    ck_assert_ptr_null(membership_find(&plan.membership, 3));
    members = plan.membership;
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
}
END_TEST

START_TEST(who_is_to_be_replaced_must_be_there)
{
    cluster(3);
    goal = (struct member_goal){.kind = MEMBER_GOAL_REPLACE, .id = 4, .other_id = 9};
    strcpy(goal.address, "n4:1");
    refused(ERR_NOT_FOUND);
    goal.other_id = 4;
    refused(ERR_INVALID);
}
END_TEST

START_TEST(leadership_goes_to_a_healthy_voter)
{
    cluster(3);
    goal = (struct member_goal){.kind = MEMBER_GOAL_TRANSFER, .id = 3};
    decide(MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING);
    ck_assert_uint_eq(plan.transfer_to, 3);
    facts[2].holes = 1;
    refused(ERR_UNSAFE);
    facts[2] = (struct member_fact){.id = 3};
    refused(ERR_UNSAFE);
    goal.id = 9;
    refused(ERR_NOT_FOUND);
    add_standby(4, "n4:1");
    goal.id = 4;
    refused(ERR_UNSAFE);
    goal.id = 1;
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
    goal = (struct member_goal){.kind = MEMBER_GOAL_TRANSFER};
    decide(MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING);
    ck_assert_uint_eq(plan.transfer_to, 2);
    goal.other_id = 1;
    decide(MEMBER_TRANSFER, MEMBER_STAGE_TRANSFERRING);
    goal.other_id = 2; /* Who led then; it is another now. */
    decide(MEMBER_DONE, MEMBER_STAGE_DONE);
}
END_TEST

/* ---- in general ---- */

START_TEST(nothing_is_done_blindly_or_before_the_last_change_is_committed)
{
    cluster(3);
    goal_add(4, "n4:1");
    view.surveyed = false;
    decide(MEMBER_WAIT, MEMBER_STAGE_WAITING);
    view.surveyed = true;
    view.changing = true;
    decide(MEMBER_WAIT, MEMBER_STAGE_JOINING);
    goal_add(3, "n3:1"); /* A voter, by a change that may be taken back. */
    decide(MEMBER_WAIT, MEMBER_STAGE_WAITING);
    goal_add(4, "n3:1");
    refused(ERR_EXISTS);
}
END_TEST

/* Whatever the members, the facts and the goal: M1, M2. */
START_TEST(a_change_is_of_one_member_and_leaves_a_healthy_majority)
{
    unsigned random = 1;

    for (unsigned round = 0; round < 20000; round++) {
        unsigned healthy = 0;
        int voters;

        random = random * 1664525u + 1013904223u;
        cluster(1 + random % 7);
        for (unsigned i = 1; i < view.fact_count; i++) {
            facts[i].answered = facts[i].heard = (random >> (8 + i) & 3) != 0;
            facts[i].holes = (random >> (16 + i) & 7) == 0;
        }
        if ((random >> 24 & 1) != 0) {
            add_standby(8, "n8:1");
        }
        view.id_bound = (random >> 25 & 1) != 0;
        goal_add(1 + (random >> 4) % 9, "n8:1");
        goal.kind = (enum member_goal_kind)(1 + (random >> 26) % 4);
        goal.other_id = 1 + (random >> 12) % 7;
        membership_plan(&view, &goal, &plan);
        if (plan.action != MEMBER_CHANGE) {
            continue;
        }
        voters = (int)membership_voters(&plan.membership);
        ck_assert_int_le(abs((int)plan.membership.count - (int)members.count), 1);
        ck_assert_int_le(abs(voters - (int)membership_voters(&members)), 1);
        if (voters == (int)membership_voters(&members)) {
            continue;
        }
        for (unsigned i = 0; i < plan.membership.count; i++) {
            const struct member *member = &plan.membership.members[i];

            for (unsigned j = 0; j < view.fact_count; j++) {
                healthy += facts[j].id == member->id && member->role == MEMBER_VOTER &&
                                   facts[j].answered && facts[j].holes == 0
                               ? 1
                               : 0;
            }
        }
        ck_assert_uint_ge(healthy, (unsigned)voters / 2 + 1);
        ck_assert(voters >= 3 || voters > (int)membership_voters(&members));
        ck_assert_ptr_nonnull(membership_find(&plan.membership, 1)); /* The leader stays. */
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("raft_fsm/membership_plan");
    TCase *tcase = tcase_create("membership_plan");

    tcase_add_test(tcase, a_new_node_stands_by_first);
    tcase_add_test(tcase, it_votes_when_it_was_heard_has_caught_up_and_its_disk_is_known);
    tcase_add_test(tcase, a_spare_stands_by_next);
    tcase_add_test(tcase, what_is_taken_is_refused);
    tcase_add_test(tcase, one_node_is_added_at_a_time);
    tcase_add_test(tcase, nobody_votes_where_most_voters_are_gone);
    tcase_add_test(tcase, a_follower_goes_at_once_and_the_leader_hands_over_first);
    tcase_add_test(tcase, a_node_that_is_gone_is_removed_and_one_that_never_was_is_not_known);
    tcase_add_test(tcase, three_voters_are_left_and_a_majority_of_them_is_healthy);
    tcase_add_test(tcase, a_leader_whom_nobody_can_follow_stays);
    tcase_add_test(tcase, the_new_one_comes_before_the_old_one_goes);
    tcase_add_test(tcase, who_is_to_be_replaced_must_be_there);
    tcase_add_test(tcase, leadership_goes_to_a_healthy_voter);
    tcase_add_test(tcase, nothing_is_done_blindly_or_before_the_last_change_is_committed);
    tcase_add_test(tcase, a_change_is_of_one_member_and_leaves_a_healthy_majority);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
