/*
 * What entries take of memory is bounded, however long snapshots take and whoever lags; and nothing
 * stands still by it.
 */
#include <check.h>
#include <string.h>

#include "history.h"
#include "lib/runner.h"
#include "replica_lab.h"

enum {
    BODY_SIZE = 1500,
    INFLIGHT = 16 * 1024,
    BOUND = 64 * 1024,
    /* Entries come in messages; one that came whole is over it once. */
    SLACK = 16 * 1024 + 4 * 1024,
    PROPOSALS = 300, /* some 480 KiB */
};

struct asked {
    struct proposal proposal;
    bool done;
};

static struct asked asked[PROPOSALS];
static unsigned done_count;
static bool may_be_lost;

static void restart(unsigned id, size_t inflight_size, size_t entries_size)
{
    lab_stop(id);
    lab.nodes[id].inflight_size_max = inflight_size;
    lab.nodes[id].entries_size_max = entries_size;
    lab_start(id);
}

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

static void setup(void)
{
    lab_init();
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        restart(i, INFLIGHT, BOUND);
    }
    lab_run_until(has_leader);
    lab_produce(1);
    memset(asked, 0, sizeof asked);
    done_count = 0;
    may_be_lost = false;
}

static void on_done(struct proposal *proposal)
{
    struct asked *self = (struct asked *)proposal;

    ck_assert(!self->done);
    ck_assert_msg(proposal->result.err == ERR_OK || may_be_lost, "%s",
                  err_name(proposal->result.err));
    self->done = true;
    done_count++;
    command_fini(&proposal->command);
}

static void propose(unsigned number)
{
    const struct produced produced = {.record_count = 1, .body_size = BODY_SIZE, .seed = number};
    struct asked *self = &asked[number];
    struct command *command = &self->proposal.command;

    command->type = COMMAND_PRODUCE;
    command->produce.topic_id = lab.topic_id;
    command->produce.batch = history_batch(&produced);
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE, BODY_SIZE,
                 command->produce.body_digest);
    self->proposal.done = on_done;
    replica_propose(lab_leader()->replica, &self->proposal);
}

static void assert_bounded(void)
{
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_msg(lab_status(i).memory <= BOUND + SLACK, "node %u holds %zu bytes", i,
                      (size_t)lab_status(i).memory);
    }
}

/* As a group does: takes requests while the replica is not full. Returns how many it took. */
static unsigned produce_for(unsigned number, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        struct lab_node *leader = lab_leader();
        struct err_info info;

        while (number < PROPOSALS && leader != NULL && !replica_full(leader->replica)) {
            propose(number++);
        }
        if (leader != NULL) {
            ck_assert_int_eq(replica_flush(leader->replica, &info), ERR_OK);
        }
        lab_run(1);
        assert_bounded();
    }
    return number;
}

static bool all_done(void)
{
    return done_count == PROPOSALS;
}

START_TEST(a_leader_holds_back_what_comes_while_a_snapshot_is_taken_and_goes_on_after_it)
{
    unsigned taken;

    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab.nodes[i].jobs_held = true;
    }
    taken = produce_for(0, 500);
    ck_assert_uint_lt(taken, PROPOSALS);
    ck_assert_uint_lt(done_count, PROPOSALS);
    ck_assert_uint_gt(lab_status(lab_leader()->id).memory, BOUND - SLACK);
    ck_assert(replica_full(lab_leader()->replica));
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        lab.nodes[i].jobs_held = false;
    }
    taken = produce_for(taken, 2000);
    ck_assert_uint_eq(taken, PROPOSALS);
    lab_run_until(all_done);
    lab_assert_equal();
}
END_TEST

static unsigned some_follower(void)
{
    return lab_leader()->id == 1 ? 2 : 1;
}

START_TEST(a_follower_whose_snapshot_takes_long_takes_no_more_and_catches_up_afterwards)
{
    unsigned slow = some_follower();

    lab.nodes[slow].jobs_held = true;
    ck_assert_uint_eq(produce_for(0, 2000), PROPOSALS);
    ck_assert_uint_eq(done_count, PROPOSALS); /* The others are a majority. */
    ck_assert_uint_gt(lab_status(slow).memory, BOUND - SLACK);
    ck_assert_uint_ne(lab_status(slow).leader_id, 0);
    ck_assert_uint_lt(lab_status(slow).last_index, lab_status(lab_leader()->id).last_index);
    lab.nodes[slow].jobs_held = false;
    lab_assert_equal();
}
END_TEST

START_TEST(a_follower_that_is_gone_pins_no_entries)
{
    unsigned gone = some_follower();

    lab.nodes[gone].cut = true;
    ck_assert_uint_eq(produce_for(0, 2000), PROPOSALS);
    ck_assert_uint_eq(done_count, PROPOSALS);
    ck_assert_uint_lt(lab_status(lab_leader()->id).memory, BOUND / 2);
    lab.nodes[gone].cut = false;
    lab_assert_equal();
}
END_TEST

START_TEST(followers_with_less_memory_do_not_stop_the_others)
{
    enum { SMALL = 4 * 1024 };
    struct lab_node *leader = lab_leader();

    for (unsigned i = 1; i <= LAB_NODES; i++) {
        if (i != leader->id) {
            restart(i, SMALL / 4, SMALL);
        }
    }
    lab_run(100);
    ck_assert_ptr_eq(lab_leader(), leader);
    /* Three times what followers may hold is in flight, and they make the majority. */
    ck_assert_uint_eq(produce_for(0, 5000), PROPOSALS);
    lab_run_until(all_done);
    lab_assert_equal();
}
END_TEST

static bool drop_results(struct message *message)
{
    return message->type != MESSAGE_APPEND_RESULT;
}

static unsigned small_one;

static bool drop_its_votes(struct message *message)
{
    return message->type != MESSAGE_VOTE || message->from != small_one;
}

static bool small_one_has_all(void)
{
    const struct lab_node *leader = lab_leader();

    return leader != NULL &&
           lab_status(small_one).applied_index == lab_status(leader->id).last_index;
}

START_TEST(what_must_come_before_anything_is_committed_is_taken_past_the_bound)
{
    enum { SMALL = 4 * 1024 };
    struct lab_node *first = lab_leader();
    unsigned heir = some_follower();
    struct err_info info;

    /* Both have what the leader proposed, which is more than the small one may hold, and do not
     * know that it will be committed: that takes an entry of the heir's own, behind it. */
    small_one = 6 - first->id - heir;
    may_be_lost = true;
    lab.filter = drop_results;
    for (unsigned i = 0; !replica_full(first->replica); i++) {
        propose(i);
    }
    ck_assert_int_eq(replica_flush(first->replica, &info), ERR_OK);
    lab_run(20);
    ck_assert_uint_eq(lab_status(heir).last_index, lab_status(first->id).last_index);
    ck_assert_uint_gt(raft_driver_unapplied_size(replica_driver(lab.nodes[heir].replica)),
                      2 * SMALL);
    first->cut = true;
    lab.filter = drop_its_votes;
    restart(small_one, SMALL / 4, SMALL);
    ck_assert_uint_gt(raft_driver_unapplied_size(replica_driver(lab.nodes[small_one].replica)),
                      2 * SMALL);
    lab_run_until(small_one_has_all);
    lab.filter = NULL;
    first->cut = false;
    lab_assert_equal();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("raft_fsm/replica_memory");
    TCase *bound = tcase_create("bound");

    tcase_add_checked_fixture(bound, setup, lab_fini);
    tcase_add_test(bound,
                   a_leader_holds_back_what_comes_while_a_snapshot_is_taken_and_goes_on_after_it);
    tcase_add_test(bound,
                   a_follower_whose_snapshot_takes_long_takes_no_more_and_catches_up_afterwards);
    tcase_add_test(bound, a_follower_that_is_gone_pins_no_entries);
    tcase_add_test(bound, followers_with_less_memory_do_not_stop_the_others);
    tcase_add_test(bound, what_must_come_before_anything_is_committed_is_taken_past_the_bound);
    suite_add_tcase(s, bound);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
