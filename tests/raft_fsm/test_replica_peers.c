/*
 * A replica that leads two others, which this test plays: who answers, who is short of room. What
 * is written, who has it, and where it is refused (replica_acks.c, replica_room.c).
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "lib/runner.h"
#include "raft_fsm/replica.h"
#include "sim/mem_io.h"

enum { VOTERS = 3, OUTBOX_MAX = 512, RESERVE = 8 << 20 };

static struct {
    struct clock clock; /* first: the clock's functions find the host by it */
    uint64_t now_ns;
    struct mem_io disk;
    struct replica *replica;
    struct journal *journal;
    struct journal_task *tasks;
    struct journal_task **tasks_tail;
    struct message outbox[OUTBOX_MAX];
    unsigned outbox_count;
    struct {
        bool mute; /* takes nothing, says nothing */
        bool no_room;
        unsigned timeout_nows;
    } peers[VOTERS + 1];
    bool last_result_no_room; /* in the last APPEND_RESULT that we sent */
    uint64_t last_result_index;
} host;

static uint64_t monotonic_ns(const struct clock *clock)
{
    (void)clock;
    return host.now_ns;
}

static int64_t wall_us(const struct clock *clock)
{
    (void)clock;
    return (int64_t)(host.now_ns / 1000);
}

static uint64_t draw(const struct clock *clock)
{
    (void)clock;
    return 42;
}

static void post_task(void *arg, struct journal_task *task)
{
    (void)arg;
    task->next = NULL;
    *host.tasks_tail = task;
    host.tasks_tail = &task->next;
}

static void post_job(void *arg, struct replica_job *job)
{
    (void)arg;
    (void)job;
    ck_abort_msg("no snapshot is due in these tests");
}

static void send_message(void *arg, const struct message *message)
{
    (void)arg;
    ck_assert_uint_lt(host.outbox_count, OUTBOX_MAX);
    ck_assert_int_eq(message_copy(message, &host.outbox[host.outbox_count++]), ERR_OK);
}

static void published(void *arg)
{
    (void)arg;
}

static void receive(struct message *message)
{
    struct err_info info = {0};

    ck_assert_int_eq(replica_receive(host.replica, message, &info), ERR_OK);
}

/* What a follower, or a voter, says to a message of ours. */
static void play_peer(const struct message *message)
{
    struct message answer = {.from = message->to, .to = 1, .term = message->term};

    if (message->type == MESSAGE_APPEND_RESULT) {
        host.last_result_no_room = message->append_result.no_room;
        host.last_result_index = message->append_result.last_index;
    }
    if (host.peers[message->to].mute) {
        return;
    }
    if (message->type == MESSAGE_VOTE) {
        answer.type = MESSAGE_VOTE_RESULT;
        answer.vote_result.pre_vote = message->vote.pre_vote;
        answer.vote_result.granted = true;
        receive(&answer);
    } else if (message->type == MESSAGE_APPEND) {
        answer.type = MESSAGE_APPEND_RESULT;
        answer.append_result.last_index = message->append.prev_index + message->append.count;
        answer.append_result.no_room = host.peers[message->to].no_room;
        receive(&answer);
    } else if (message->type == MESSAGE_TIMEOUT_NOW) {
        host.peers[message->to].timeout_nows++;
    }
}

/* All that is due now. */
static void pump(void)
{
    struct err_info info = {0};

    do {
        struct journal_task *tasks = host.tasks;
        unsigned count;
        struct message sent[OUTBOX_MAX];

        host.tasks = NULL;
        host.tasks_tail = &host.tasks;
        if (tasks != NULL) {
            ck_assert_int_eq(journal_perform(host.journal, tasks, &info), ERR_OK);
            ck_assert_int_eq(replica_journal_done(host.replica, tasks, &info), ERR_OK);
        }
        count = host.outbox_count;
        memcpy(sent, host.outbox, count * sizeof sent[0]);
        host.outbox_count = 0;
        for (unsigned i = 0; i < count; i++) {
            play_peer(&sent[i]);
            message_fini(&sent[i]);
        }
        ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
        replica_check(host.replica);
    } while (host.tasks != NULL || host.outbox_count > 0);
}

static void pass(unsigned ms)
{
    uint64_t end_ns = host.now_ns + (uint64_t)ms * 1000000;

    while (host.now_ns < end_ns) {
        struct err_info info = {0};

        host.now_ns += 5000000;
        ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
        pump();
    }
}

static enum raft_role role(void)
{
    struct replica_status status;

    replica_status(host.replica, &status);
    return status.role;
}

static void setup(void)
{
    struct membership members = {0};
    struct err_info info = {0};
    const struct replica_options options = {.id = 1,
                                            .address = "a:1",
                                            .dir = "data",
                                            .bootstrap = &members,
                                            .snapshot_size = 1 << 30,
                                            .journal_segment_size = 64 * 1024,
                                            .disk_reserve = RESERVE};
    const struct replica_host replica_host = {
        .clock = &host.clock,
        .io = &host.disk.io,
        .journal = post_task,
        .send = send_message,
        .job = post_job,
        .published = published,
    };
    enum err err;

    memset(&host, 0, sizeof host);
    host.clock = (struct clock){.monotonic_ns = monotonic_ns, .wall_us = wall_us, .random = draw};
    host.now_ns = 1000000000;
    host.tasks_tail = &host.tasks;
    mem_io_init(&host.disk);
    ck_assert_int_eq(host.disk.io.mkdir(&host.disk.io, "data", 0750), 0);
    ck_assert_int_eq(membership_add(&members, 1, "a:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 2, "a:2", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(membership_add(&members, 3, "a:3", MEMBER_VOTER), ERR_OK);
    err = replica_open(&options, &replica_host, &host.replica, &host.journal, &info);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
    pump();
    pass(1500);
    ck_assert_int_eq(role(), RAFT_ROLE_LEADER);
}

static void teardown(void)
{
    if (host.replica != NULL) {
        replica_close(host.replica);
    }
    while (host.tasks != NULL) {
        struct journal_task *next = host.tasks->next;

        journal_task_free(host.tasks);
        host.tasks = next;
    }
    for (unsigned i = 0; i < host.outbox_count; i++) {
        message_fini(&host.outbox[i]);
    }
    journal_close(host.journal);
    mem_io_fini(&host.disk);
}

/* ---- proposals ---- */

struct asked {
    struct proposal proposal;
    bool done;
};

static void on_done(struct proposal *proposal)
{
    struct asked *asked = (struct asked *)proposal;

    ck_assert(!asked->done); /* R1 */
    asked->done = true;
    command_fini(&proposal->command);
}

static void propose(struct asked *asked)
{
    asked->done = false;
    asked->proposal.done = on_done;
    replica_propose(host.replica, &asked->proposal);
    pump();
}

static void topic(struct asked *asked, enum command_type type)
{
    *asked = (struct asked){.proposal.command.type = type};
    strcpy(asked->proposal.command.topic_name, "t");
    propose(asked);
}

static uint64_t make_topic(void)
{
    struct asked asked;

    topic(&asked, COMMAND_TOPIC_CREATE);
    ck_assert(asked.done);
    ck_assert_int_eq(asked.proposal.result.err, ERR_OK);
    return asked.proposal.result.topic_id;
}

static void produce(struct asked *asked, uint64_t topic_id, bool acks_all)
{
    const struct produced produced = {.record_count = 1, .body_size = 10};
    struct command *command = &asked->proposal.command;

    *asked = (struct asked){
        .proposal = {.command.type = COMMAND_PRODUCE, .acks_all = acks_all, .confirm_ms = 1000}};
    command->produce.topic_id = topic_id;
    command->produce.batch = history_batch(&produced);
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE, 10, command->produce.body_digest);
    propose(asked);
}

static void check_done(const struct asked *asked, enum err err)
{
    ck_assert(asked->done);
    ck_assert_msg(asked->proposal.result.err == err, "%s", err_name(asked->proposal.result.err));
}

/* ---- acks ---- */

START_TEST(an_answer_tells_how_many_voters_have_it)
{
    uint64_t topic_id = make_topic();
    struct asked asked;

    host.peers[3].mute = true;
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_OK);
    ck_assert_uint_eq(asked.proposal.replicas, 2);
    ck_assert_uint_eq(asked.proposal.voters, 3);
}
END_TEST

START_TEST(acks_of_all_wait_for_the_last_voter)
{
    uint64_t topic_id = make_topic();
    struct asked all;
    struct asked plain;

    produce(&all, topic_id, true);
    check_done(&all, ERR_OK);
    ck_assert_uint_eq(all.proposal.replicas, 3);
    host.peers[3].mute = true;
    produce(&all, topic_id, true);
    produce(&plain, topic_id, false); /* It waits for nobody. */
    check_done(&plain, ERR_OK);
    pass(500);
    ck_assert(!all.done);
    host.peers[3].mute = false;
    pass(200);
    check_done(&all, ERR_OK);
    ck_assert_uint_eq(all.proposal.replicas, 3);
    ck_assert_uint_eq(all.proposal.result.base_offset, 1);
}
END_TEST

START_TEST(without_the_last_voter_it_is_written_and_not_confirmed_in_time)
{
    uint64_t topic_id = make_topic();
    struct asked asked;

    host.peers[2].mute = true;
    produce(&asked, topic_id, true);
    pass(990);
    ck_assert(!asked.done);
    pass(20);
    check_done(&asked, ERR_NOT_CONFIRMED);
    ck_assert_uint_eq(asked.proposal.replicas, 2);
    ck_assert_uint_eq(asked.proposal.voters, 3);
    ck_assert_uint_eq(asked.proposal.result.base_offset, 0);
}
END_TEST

START_TEST(a_leader_that_goes_leaves_it_written_and_not_confirmed)
{
    uint64_t topic_id = make_topic();
    struct message newer = {.type = MESSAGE_APPEND, .from = 2, .to = 1, .term = 99};
    struct asked asked[2];

    host.peers[3].mute = true;
    produce(&asked[0], topic_id, true);
    ck_assert(!asked[0].done);
    host.peers[2].mute = true;
    produce(&asked[1], topic_id, true); /* not committed: unknown */
    newer.append.prev_index = 1;
    newer.append.prev_term = 1;
    receive(&newer);
    pump();
    check_done(&asked[0], ERR_NOT_CONFIRMED);
    check_done(&asked[1], ERR_LEADERSHIP_LOST);
    ck_assert_uint_eq(asked[0].proposal.replicas, 2);
}
END_TEST

START_TEST(closing_leaves_it_written_and_not_confirmed)
{
    struct asked asked;

    host.peers[3].mute = true;
    produce(&asked, make_topic(), true);
    ck_assert(!asked.done);
    replica_close(host.replica);
    host.replica = NULL;
    check_done(&asked, ERR_NOT_CONFIRMED);
}
END_TEST

START_TEST(what_waits_for_all_is_bounded)
{
    enum { COUNT = 4100 };
    struct asked *asked = calloc(COUNT, sizeof *asked);
    uint64_t topic_id = make_topic();
    unsigned waiting = 0;

    ck_assert_ptr_nonnull(asked);
    host.peers[3].mute = true;
    for (unsigned i = 0; i < COUNT; i++) {
        produce(&asked[i], topic_id, true);
        waiting += asked[i].done ? 0 : 1;
    }
    ck_assert_uint_eq(waiting, 4096);
    check_done(&asked[COUNT - 1], ERR_NOT_CONFIRMED);
    pass(1100);
    check_done(&asked[0], ERR_NOT_CONFIRMED);
    free(asked);
}
END_TEST

/* ---- room ---- */

static void set_free(uint64_t bytes)
{
    mem_io_set_free(&host.disk, bytes);
    pass(150); /* Longer than between two checks, and for the news to go round. */
}

START_TEST(a_leader_short_of_room_hands_over_to_one_that_has_it)
{
    uint64_t topic_id = make_topic();
    struct asked asked;

    host.peers[2].no_room = true;
    pass(100);
    ck_assert_uint_eq(host.peers[3].timeout_nows, 0);
    set_free(RESERVE - 1);
    ck_assert_uint_eq(host.peers[2].timeout_nows, 0);
    /* Two of three are short: nobody can take over, and nothing is taken. */
    ck_assert_uint_eq(host.peers[3].timeout_nows, 0);
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_NOSPACE);
    host.peers[2].no_room = false;
    host.peers[2].mute = true; /* It has room, and lags. */
    pass(150);
    ck_assert_int_eq(role(), RAFT_ROLE_LEADER);
    host.peers[2].mute = false;
    host.peers[3].no_room = false;
    pass(300);
    ck_assert_uint_gt(host.peers[2].timeout_nows + host.peers[3].timeout_nows, 0);
}
END_TEST

START_TEST(while_it_hands_over_requests_are_not_refused_for_good)
{
    uint64_t topic_id = make_topic();
    struct asked asked;

    set_free(RESERVE - 1);
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_NOT_LEADER);
    pass(4000); /* Nobody takes over. */
    ck_assert_int_eq(role(), RAFT_ROLE_LEADER);
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_NOSPACE);
    set_free(RESERVE * 2);
    pass(2000);
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_OK);
}
END_TEST

START_TEST(with_too_few_that_have_room_only_what_makes_room_is_taken)
{
    uint64_t topic_id = make_topic();
    struct asked asked;

    host.peers[2].no_room = true;
    pass(100);
    produce(&asked, topic_id, false); /* Two of three have room. */
    check_done(&asked, ERR_OK);
    host.peers[3].no_room = true;
    pass(100);
    produce(&asked, topic_id, false);
    check_done(&asked, ERR_NOSPACE);
    asked = (struct asked){.proposal.command.type = COMMAND_INIT_PRODUCER};
    propose(&asked);
    check_done(&asked, ERR_NOSPACE);
    topic(&asked, COMMAND_TOPIC_DELETE);
    check_done(&asked, ERR_OK);
    host.peers[3].no_room = false;
    pass(100);
    (void)make_topic();
}
END_TEST

/* Entries of another leader: a barrier, then a produce or a deletion. */
static void receive_entries(uint64_t term, enum command_type type)
{
    struct replica_status status;
    struct message message = {.type = MESSAGE_APPEND, .from = 2, .to = 1, .term = term};
    struct entry entries[2];
    struct packer packer;
    const struct entry *last;
    struct block *block = entry_block_new(0);

    replica_status(host.replica, &status);
    last = raft_driver_entry(replica_driver(host.replica), status.last_index);
    message.append.prev_index = last->index;
    message.append.prev_term = last->term;
    message.append.entries = entries;
    message.append.count = 2;
    entry_seal(block, 0, last->index + 1, term, ENTRY_BARRIER, &entries[0]);
    packer_begin(&packer, 1);
    if (type == COMMAND_TOPIC_DELETE) {
        packer_delete(&packer, "t");
    } else {
        packer_produce(&packer, 4096, &(struct produced){.record_count = 1, .body_size = 10});
    }
    entries[1] = packer_entry(&packer, last->index + 2, term);
    receive(&message);
    pump();
    entry_unref(&entries[0]);
    entry_unref(&entries[1]);
}

START_TEST(a_nearly_full_follower_takes_only_what_does_not_grow)
{
    struct replica_status before;

    (void)make_topic();
    host.peers[2].mute = true;
    host.peers[3].mute = true;
    set_free(RESERVE - 1);
    receive_entries(50, COMMAND_PRODUCE);
    ck_assert_int_eq(role(), RAFT_ROLE_FOLLOWER);
    replica_status(host.replica, &before);
    ck_assert(host.last_result_no_room);
    ck_assert_uint_eq(host.last_result_index, before.last_index); /* Short is not yet full. */
    set_free(RESERVE / 2 - 1);
    receive_entries(50, COMMAND_PRODUCE);
    ck_assert_uint_eq(host.last_result_index, before.last_index + 1); /* the barrier */
    receive_entries(50, COMMAND_TOPIC_DELETE);
    ck_assert_uint_eq(host.last_result_index, before.last_index + 3);
    set_free(RESERVE * 2);
    receive_entries(50, COMMAND_PRODUCE);
    ck_assert_uint_eq(host.last_result_index, before.last_index + 5);
    ck_assert(!host.last_result_no_room);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/replica_peers");
    TCase *acks = tcase_create("acks");
    TCase *room = tcase_create("room");

    tcase_add_checked_fixture(acks, setup, teardown);
    tcase_add_test(acks, an_answer_tells_how_many_voters_have_it);
    tcase_add_test(acks, acks_of_all_wait_for_the_last_voter);
    tcase_add_test(acks, without_the_last_voter_it_is_written_and_not_confirmed_in_time);
    tcase_add_test(acks, a_leader_that_goes_leaves_it_written_and_not_confirmed);
    tcase_add_test(acks, closing_leaves_it_written_and_not_confirmed);
    tcase_add_test(acks, what_waits_for_all_is_bounded);
    suite_add_tcase(suite, acks);
    tcase_add_checked_fixture(room, setup, teardown);
    tcase_add_test(room, a_leader_short_of_room_hands_over_to_one_that_has_it);
    tcase_add_test(room, while_it_hands_over_requests_are_not_refused_for_good);
    tcase_add_test(room, with_too_few_that_have_room_only_what_makes_room_is_taken);
    tcase_add_test(room, a_nearly_full_follower_takes_only_what_does_not_grow);
    suite_add_tcase(suite, room);
    return runner_main(suite);
}
