/*
 * Steps of a goal for the members, taken by replicas that run: leadership that goes where it is
 * wanted, a member that goes, and what is refused.
 */
#include <check.h>
#include <string.h>

#include "lib/runner.h"
#include "replica_lab.h"

enum { STEPS_MAX = 2000, STEP_MS = 20, NEWCOMER = LAB_NODES + 1 };

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static struct member_plan take_step(struct lab_node *node, const struct member_goal *goal)
{
    struct member_step step = {.goal = *goal, .surveyed = true, .fact_count = NEWCOMER};
    struct err_info info = {0};

    for (unsigned i = 0; i < NEWCOMER; i++) { /* Who never came answers nothing. */
        step.facts[i].id = i + 1;
        step.facts[i].answered = i < LAB_NODES && !lab.nodes[i + 1].cut;
    }
    ck_assert_msg(replica_member_step(node->replica, &step, &info) == ERR_OK, "%s", info.text);
    ck_assert_int_eq(replica_flush(node->replica, &info), ERR_OK);
    return step.plan;
}

/* Sends the goal to whoever leads until it is reached. */
static void reach(struct member_goal goal)
{
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        struct member_plan plan;

        lab_run_until(has_leader);
        plan = take_step(lab_leader(), &goal);
        if (plan.action == MEMBER_DONE) {
            return;
        }
        if (plan.action == MEMBER_REFUSE) {
            ck_assert_msg(plan.info.code == ERR_NOT_LEADER, "refused: %s", plan.info.text);
        } else {
            goal.under_way = true;
        }
        lab_run(STEP_MS);
    }
    ck_abort_msg("the goal was not reached");
}

static unsigned other_than(unsigned id)
{
    return id % LAB_NODES + 1;
}

START_TEST(leadership_goes_to_whoever_is_wanted_and_nothing_is_lost)
{
    lab_init();
    lab_run_until(has_leader);
    for (unsigned i = 0; i < 4; i++) {
        unsigned from = lab_leader()->id;
        unsigned to = other_than(from);

        lab_produce(5);
        reach((struct member_goal){.kind = MEMBER_GOAL_TRANSFER, .id = to, .other_id = from});
        ck_assert_uint_eq(lab_leader()->id, to);
    }
    lab_produce(5);
    lab_run(1000);
    lab_assert_equal();
    lab_fini();
}
END_TEST

START_TEST(who_is_asked_to_lead_by_any_goal_is_another_one)
{
    unsigned from;

    lab_init();
    lab_run_until(has_leader);
    from = lab_leader()->id;
    reach((struct member_goal){.kind = MEMBER_GOAL_TRANSFER, .other_id = from});
    ck_assert_uint_ne(lab_leader()->id, from);
    lab_fini();
}
END_TEST

START_TEST(a_follower_takes_no_step_and_says_that_it_does_not_lead)
{
    const struct member_goal goal = {.kind = MEMBER_GOAL_REMOVE, .id = 1};
    struct member_plan plan;

    lab_init();
    lab_run_until(has_leader);
    plan = take_step(&lab.nodes[other_than(lab_leader()->id)], &goal);
    ck_assert_int_eq(plan.action, MEMBER_REFUSE);
    ck_assert_int_eq(plan.info.code, ERR_NOT_LEADER);
    lab_fini();
}
END_TEST

START_TEST(a_node_that_does_not_hear_takes_nothing_over_and_the_leader_goes_on)
{
    unsigned from;
    unsigned to;

    lab_init();
    lab_run_until(has_leader);
    from = lab_leader()->id;
    to = other_than(from);
    lab.nodes[to].cut = true;
    (void)take_step(lab_leader(), &(struct member_goal){.kind = MEMBER_GOAL_TRANSFER, .id = to});
    lab_run(5000);
    lab_run_until(has_leader);
    ck_assert_uint_ne(lab_leader()->id, to);
    lab_produce(5);
    lab.nodes[to].cut = false;
    lab_run(3000);
    lab_assert_equal();
    lab_fini();
}
END_TEST

START_TEST(what_would_leave_too_few_voters_is_refused_with_the_reason)
{
    struct member_plan plan;

    lab_init();
    lab_run_until(has_leader);
    plan = take_step(lab_leader(), &(struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = 1});
    ck_assert_int_eq(plan.action, MEMBER_REFUSE);
    ck_assert_int_eq(plan.info.code, ERR_UNSAFE);
    ck_assert_ptr_nonnull(strstr(plan.info.text, "2 voters"));
    lab_fini();
}
END_TEST

static const struct member *newcomer(void)
{
    static struct replica_status status;

    status = lab_status(lab_leader()->id);
    return membership_find(&status.membership, NEWCOMER);
}

static bool newcomer_is_member(void)
{
    struct member_goal goal = {.kind = MEMBER_GOAL_ADD, .id = NEWCOMER, .address = "n4:1"};

    (void)take_step(lab_leader(), &goal); /* Sent again until it is so. */
    return newcomer() != NULL;
}

START_TEST(a_node_that_was_added_and_never_came_does_not_vote_and_is_removed_again)
{
    lab_init();
    lab_run_until(has_leader);
    lab_run_until(newcomer_is_member);
    lab_run(3000);
    (void)newcomer_is_member();
    ck_assert_int_eq(newcomer()->role, MEMBER_STANDBY);
    lab_produce(5);
    reach((struct member_goal){.kind = MEMBER_GOAL_REMOVE, .id = NEWCOMER});
    ck_assert_ptr_null(newcomer());
    lab_produce(5);
    lab_run(1000);
    lab_assert_equal();
    lab_fini();
}
END_TEST

static bool all_are_bound(void)
{
    bool bound = true;

    for (unsigned i = 1; i <= LAB_NODES; i++) {
        struct replica_status status = lab_status(i);

        for (unsigned k = 1; k <= LAB_NODES; k++) {
            replica_learn_disk(lab.nodes[i].replica, k, 100 + k);
            bound = bound && replica_disk_id(lab.nodes[i].replica, k) == 100 + k;
        }
        bound = bound && status.applied_index == status.last_index;
    }
    return bound;
}

/* It may be asked for its vote, and count others', long before it is told what is committed. */
START_TEST(a_replica_that_was_just_started_knows_the_disks_of_entries_it_has_not_applied)
{
    struct replica_status status;
    struct nodes disks;

    lab_init();
    lab_run_until(has_leader);
    lab_run_until(all_are_bound);
    lab_stop(2);
    lab_start(2);
    status = lab_status(2);
    ck_assert_uint_lt(status.applied_index, status.last_index);
    replica_disks(lab.nodes[2].replica, &disks);
    ck_assert_uint_eq(disks.count, LAB_NODES);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(replica_disk_id(lab.nodes[2].replica, i), 100 + i);
    }
    lab_run(1000);
    lab_assert_equal();
    lab_fini();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_members");
    TCase *tcase = tcase_create("members");

    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, leadership_goes_to_whoever_is_wanted_and_nothing_is_lost);
    tcase_add_test(tcase, who_is_asked_to_lead_by_any_goal_is_another_one);
    tcase_add_test(tcase, a_follower_takes_no_step_and_says_that_it_does_not_lead);
    tcase_add_test(tcase, a_node_that_does_not_hear_takes_nothing_over_and_the_leader_goes_on);
    tcase_add_test(tcase, what_would_leave_too_few_voters_is_refused_with_the_reason);
    tcase_add_test(tcase, a_node_that_was_added_and_never_came_does_not_vote_and_is_removed_again);
    tcase_add_test(tcase,
                   a_replica_that_was_just_started_knows_the_disks_of_entries_it_has_not_applied);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
