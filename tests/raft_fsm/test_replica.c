/*
 * One replica that is its own majority, on a disk in memory and a clock that the test moves. What
 * several do together is the simulators'.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "lib/runner.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/replica.h"
#include "raft_fsm/work.h"
#include "sim/mem_io.h"

struct host {
    struct clock clock; /* first: the clock's functions find the host by it */
    uint64_t now_ns;
    int64_t wall_us;
    struct mem_io disk;
    struct replica *replica;
    struct journal *journal;
    struct journal_task *tasks;
    struct journal_task **tasks_tail;
    struct replica_job *jobs;
    struct replica_job **jobs_tail;
    unsigned published;
    unsigned sent;
};

static struct host host;

static uint64_t monotonic_ns(const struct clock *clock)
{
    return ((const struct host *)clock)->now_ns;
}

static int64_t wall_us(const struct clock *clock)
{
    return ((const struct host *)clock)->wall_us;
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
    job->next = NULL;
    *host.jobs_tail = job;
    host.jobs_tail = &job->next;
}

static void send_message(void *arg, const struct message *message)
{
    (void)arg;
    (void)message;
    host.sent++;
}

static void published(void *arg)
{
    (void)arg;
    host.published++;
}

static void open_replica(uint64_t snapshot_size)
{
    struct membership members = {0};
    struct err_info info = {0};
    struct replica_options options = {
        .id = 1,
        .address = "a:1",
        .dir = "data",
        .bootstrap = &members,
        .snapshot_size = snapshot_size,
        .trailing_size = 1,
        .journal_segment_size = 64 * 1024,
        .segment_size_max = 8192,
    };
    const struct replica_host replica_host = {
        .clock = &host.clock,
        .io = &host.disk.io,
        .journal = post_task,
        .send = send_message,
        .job = post_job,
        .published = published,
    };
    enum err err;

    ck_assert_int_eq(membership_add(&members, 1, "a:1", MEMBER_VOTER), ERR_OK);
    host.tasks_tail = &host.tasks;
    host.jobs_tail = &host.jobs;
    err = replica_open(&options, &replica_host, &host.replica, &host.journal, &info);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
}

static void close_replica(void)
{
    replica_close(host.replica);
    journal_close(host.journal);
    host.replica = NULL;
}

/* Everything that is due, until nothing is. */
static void pump(void)
{
    struct err_info info = {0};

    for (;;) {
        struct journal_task *tasks = host.tasks;
        struct replica_job *job = host.jobs;

        host.tasks = NULL;
        host.tasks_tail = &host.tasks;
        if (tasks != NULL) {
            ck_assert_int_eq(journal_perform(host.journal, tasks, &info), ERR_OK);
            ck_assert_int_eq(replica_journal_done(host.replica, tasks, &info), ERR_OK);
        } else if (job != NULL) {
            host.jobs = job->next;
            host.jobs_tail = host.jobs == NULL ? &host.jobs : host.jobs_tail;
            job->run(job);
            ck_assert_int_eq(replica_job_done(host.replica, job, &info), ERR_OK);
        } else if (replica_deadline_ms(host.replica) <= host.now_ns / 1000000) {
            ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
        } else {
            break;
        }
        ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
        replica_check(host.replica);
    }
}

static void setup(void)
{
    memset(&host, 0, sizeof host);
    host.clock = (struct clock){.monotonic_ns = monotonic_ns, .wall_us = wall_us, .random = draw};
    host.now_ns = 1000000000;
    host.wall_us = 1700000000000000;
    mem_io_init(&host.disk);
    ck_assert_int_eq(host.disk.io.mkdir(&host.disk.io, "data", 0750), 0);
    ck_assert_int_eq(host.disk.io.sync_dir(&host.disk.io, "/"), 0);
    open_replica(1 << 20);
    pump();
}

static void teardown(void)
{
    if (host.replica != NULL) {
        close_replica();
    }
    mem_io_fini(&host.disk);
}

/* ---- members ---- */

static void step(struct member_step *to, enum member_goal_kind kind, uint64_t id)
{
    struct err_info info = {0};

    *to = (struct member_step){.goal = {.kind = kind, .id = id}, .surveyed = true};
    strcpy(to->goal.address, "b:1");
    host.now_ns += 100000000; /* A leader begins its term with a barrier. */
    ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
    pump();
    ck_assert_int_eq(replica_member_step(host.replica, to, &info), ERR_OK);
    ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
    pump();
}

START_TEST(a_step_is_taken_and_the_next_one_waits_for_the_node)
{
    struct replica_status status;
    struct member_step asked;

    step(&asked, MEMBER_GOAL_ADD, 2);
    ck_assert_msg(asked.plan.action == MEMBER_CHANGE, "%s", asked.plan.info.text);
    replica_status(host.replica, &status);
    ck_assert_uint_eq(status.membership.count, 2);
    ck_assert_int_eq(membership_find(&status.membership, 2)->role, MEMBER_STANDBY);
    step(&asked, MEMBER_GOAL_ADD, 2);
    ck_assert_int_eq(asked.plan.action, MEMBER_WAIT);
    step(&asked, MEMBER_GOAL_REMOVE, 2);
    ck_assert_msg(asked.plan.action == MEMBER_CHANGE, "%s", asked.plan.info.text);
    replica_status(host.replica, &status);
    ck_assert_uint_eq(status.membership.count, 1);
    step(&asked, MEMBER_GOAL_TRANSFER, 0);
    ck_assert_int_eq(asked.plan.action, MEMBER_REFUSE);
    ck_assert_int_eq(asked.plan.info.code, ERR_UNSAFE);
}
END_TEST

START_TEST(disks_of_members_are_bound_once_there_are_others)
{
    struct err_info info = {0};
    struct member_step asked;
    struct nodes disks;

    replica_learn_disk(host.replica, 1, 0xabc);
    replica_learn_disk(host.replica, 3, 0xdef); /* No member. */
    ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
    pump();
    ck_assert_uint_eq(replica_disks_version(host.replica), 0);
    step(&asked, MEMBER_GOAL_ADD, 2);
    ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
    ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
    pump();
    ck_assert_uint_eq(replica_disk_id(host.replica, 1), 0xabc);
    replica_learn_disk(host.replica, 1, 0x123);
    ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
    pump();
    ck_assert_uint_eq(replica_disk_id(host.replica, 1), 0xabc);
    ck_assert_uint_eq(replica_disk_id(host.replica, 3), 0);
    replica_disks(host.replica, &disks);
    ck_assert_uint_eq(disks.count, 1);
    close_replica(); /* Replayed from the journal. */
    open_replica(1 << 20);
    pump();
    ck_assert_uint_eq(replica_disk_id(host.replica, 1), 0xabc);
}
END_TEST

/* ---- proposals ---- */

struct asked {
    struct proposal proposal;
    bool done;
};

static void on_done(struct proposal *proposal)
{
    struct asked *asked = (struct asked *)proposal;

    ck_assert(!asked->done);
    asked->done = true;
    command_fini(&proposal->command);
}

static void propose(struct asked *asked)
{
    asked->proposal.done = on_done;
    replica_propose(host.replica, &asked->proposal);
    ck_assert(!asked->done); /* R1 */
}

static void propose_topic(struct asked *asked, enum command_type type, const char *name)
{
    *asked = (struct asked){.proposal.command.type = type};
    strcpy(asked->proposal.command.topic_name, name);
    propose(asked);
}

static void propose_batch(struct asked *asked, uint64_t topic_id, uint32_t body_size)
{
    const struct produced produced = {.record_count = 2, .body_size = body_size, .seed = body_size};
    struct command *command = &asked->proposal.command;

    *asked = (struct asked){.proposal.command.type = COMMAND_PRODUCE};
    command->produce.topic_id = topic_id;
    command->produce.batch = history_batch(&produced);
    digest_bytes(command->produce.batch.data + BATCH_HEADER_SIZE, body_size,
                 command->produce.body_digest);
    propose(asked);
}

static void flush(void)
{
    struct err_info info = {0};

    ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
}

static uint64_t make_topic(const char *name)
{
    struct asked asked;

    propose_topic(&asked, COMMAND_TOPIC_CREATE, name);
    flush();
    pump();
    ck_assert(asked.done);
    ck_assert_int_eq(asked.proposal.result.err, ERR_OK);
    return asked.proposal.result.topic_id;
}

START_TEST(a_sole_voter_leads_at_once)
{
    struct replica_status status;

    replica_status(host.replica, &status);
    ck_assert_int_eq(status.role, RAFT_ROLE_LEADER);
    ck_assert_uint_eq(status.leader_id, 1);
    ck_assert_uint_eq(status.membership.count, 1);
    ck_assert_uint_eq(host.sent, 0);
}
END_TEST

START_TEST(nothing_is_answered_before_it_is_durable)
{
    struct asked asked;

    propose_topic(&asked, COMMAND_TOPIC_CREATE, "t");
    flush();
    ck_assert(!asked.done); /* The journal has not performed it. */
    ck_assert_ptr_nonnull(host.tasks);
    pump();
    ck_assert(asked.done);
    ck_assert_int_eq(asked.proposal.result.err, ERR_OK);
}
END_TEST

START_TEST(what_waits_is_packed_into_one_entry_and_answered_in_order)
{
    uint64_t topic_id = make_topic("t");
    struct replica_status before;
    struct replica_status after;
    struct asked asked[10];

    replica_status(host.replica, &before);
    for (unsigned i = 0; i < 10; i++) {
        propose_batch(&asked[i], topic_id, 100 + i);
    }
    flush();
    pump();
    replica_status(host.replica, &after);
    ck_assert_uint_eq(after.last_index, before.last_index + 1);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert(asked[i].done);
        ck_assert_int_eq(asked[i].proposal.result.err, ERR_OK);
        ck_assert_uint_eq(asked[i].proposal.result.base_offset, 2 * i);
        ck_assert_uint_eq(asked[i].proposal.result.raft_index, after.last_index);
    }
    ck_assert_uint_eq(after.records, before.records + 20);
    ck_assert_uint_gt(host.published, 0);
}
END_TEST

START_TEST(large_commands_get_entries_of_their_own)
{
    enum { COUNT = 4, SIZE = 400 * 1024 }; /* entry_size_max is 512 KiB */
    uint64_t topic_id = make_topic("t");
    struct replica_status before;
    struct replica_status after;
    struct asked asked[COUNT];

    replica_status(host.replica, &before);
    for (unsigned i = 0; i < COUNT; i++) {
        propose_batch(&asked[i], topic_id, SIZE);
    }
    flush();
    pump();
    replica_status(host.replica, &after);
    ck_assert_uint_eq(after.last_index, before.last_index + COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(asked[i].proposal.result.base_offset, 2 * i);
    }
}
END_TEST

START_TEST(what_is_in_flight_is_bounded_and_the_rest_waits)
{
    enum { COUNT = 60, SIZE = 400 * 1024 }; /* 24 MB; inflight_size_max is 16 MiB */
    uint64_t topic_id = make_topic("t");
    static struct asked asked[COUNT];
    unsigned flying = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        propose_batch(&asked[i], topic_id, SIZE);
    }
    ck_assert(replica_full(host.replica));
    flush();
    for (const struct journal_task *task = host.tasks; task != NULL; task = task->next) {
        flying += task->count;
    }
    ck_assert_uint_gt(flying, 0);
    ck_assert_uint_lt(flying, COUNT);
    pump();
    ck_assert(!replica_full(host.replica));
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert(asked[i].done);
        ck_assert_uint_eq(asked[i].proposal.result.base_offset, 2 * i);
    }
}
END_TEST

static unsigned count_done(const struct asked *asked, unsigned count)
{
    unsigned done = 0;

    while (done < count && asked[done].done) {
        done++;
    }
    for (unsigned i = done; i < count; i++) {
        ck_assert(!asked[i].done); /* In order. */
    }
    return done;
}

/* What was committed at once; turn by turn, how many of them were done. */
static unsigned turns_to_apply(struct asked *asked, unsigned count, unsigned most)
{
    struct journal_task *tasks = host.tasks;
    struct err_info info = {0};
    unsigned before = 0;
    unsigned turns = 0;

    host.tasks = NULL;
    host.tasks_tail = &host.tasks;
    ck_assert_ptr_nonnull(tasks);
    ck_assert_int_eq(journal_perform(host.journal, tasks, &info), ERR_OK);
    ck_assert_int_eq(replica_journal_done(host.replica, tasks, &info), ERR_OK);
    for (;;) {
        unsigned done = count_done(asked, count);

        turns++;
        ck_assert_uint_gt(done, before);
        ck_assert_uint_le(done - before, most);
        replica_check(host.replica);
        if (done == count) {
            return turns;
        }
        before = done;
        ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
        ck_assert_uint_le(replica_deadline_ms(host.replica), host.now_ns / 1000000);
        ck_assert_int_eq(replica_tick(host.replica, &info), ERR_OK);
    }
}

START_TEST(a_turn_applies_a_bounded_part_of_what_is_committed_at_once)
{
    enum { COUNT = 10000, MOST = (2 << 20) / WORK_CALL + WORK_ENTRY_MAX / WORK_CALL };
    uint64_t topic_id = make_topic("t");
    struct asked *asked = calloc(COUNT, sizeof *asked);

    ck_assert_ptr_nonnull(asked);
    for (unsigned i = 0; i < COUNT; i++) {
        propose_batch(&asked[i], topic_id, 20);
    }
    flush();
    ck_assert_uint_ge(turns_to_apply(asked, COUNT, MOST), COUNT / MOST);
    pump();
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert_int_eq(asked[i].proposal.result.err, ERR_OK);
        ck_assert_uint_eq(asked[i].proposal.result.base_offset, 2 * i);
    }
    free(asked);
}
END_TEST

START_TEST(a_turn_makes_the_files_of_a_few_topics)
{
    enum { COUNT = 100, MOST = (2 << 20) / WORK_MAKE + WORK_ENTRY_MAX / WORK_MAKE };
    static struct asked asked[COUNT];

    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "t%u", i); /* Fits. */
        propose_topic(&asked[i], COMMAND_TOPIC_CREATE, name);
    }
    flush();
    ck_assert_uint_ge(turns_to_apply(asked, COUNT, MOST), COUNT / MOST);
    ck_assert_uint_eq(catalog_count(replica_catalog(host.replica)), COUNT);
}
END_TEST

START_TEST(a_snapshot_may_be_taken_of_a_part_of_what_is_committed)
{
    enum { COUNT = 3000 };
    uint64_t topic_id;
    struct asked *asked = calloc(COUNT, sizeof *asked);
    struct replica_status status;

    ck_assert_ptr_nonnull(asked);
    close_replica();
    open_replica(64 * 1024);
    pump();
    topic_id = make_topic("t");
    for (unsigned i = 0; i < COUNT; i++) {
        propose_batch(&asked[i], topic_id, 20);
    }
    flush();
    (void)turns_to_apply(asked, COUNT, COUNT); /* Its first turns are under test here: */
    pump();                                    /* the snapshot was begun in one of them. */
    replica_status(host.replica, &status);
    ck_assert_uint_gt(status.snapshot_index, 0);
    ck_assert_uint_le(status.snapshot_index, status.applied_index);
    close_replica();
    open_replica(64 * 1024);
    pump();
    replica_status(host.replica, &status);
    ck_assert_uint_eq(log_end(catalog_peek_id(replica_catalog(host.replica), topic_id)->log),
                      2 * COUNT);
    free(asked);
}
END_TEST

struct asked_read {
    struct replica_read read;
    bool done;
};

static void on_read(struct replica_read *read)
{
    struct asked_read *asked = (struct asked_read *)read;

    ck_assert(!asked->done);
    asked->done = true;
}

static void ask_index(struct asked_read *asked)
{
    *asked = (struct asked_read){.read.done = on_read};
    replica_read(host.replica, &asked->read);
    ck_assert(!asked->done); /* R1 */
}

START_TEST(reads_share_an_index_that_covers_what_was_acknowledged_and_write_nothing)
{
    uint64_t topic_id = make_topic("t");
    struct err_info info = {0};
    struct asked_read reads[3];
    struct asked produce;
    struct replica_status status;

    propose_batch(&produce, topic_id, 100);
    flush();
    pump();
    for (unsigned i = 0; i < 3; i++) {
        ask_index(&reads[i]);
    }
    ck_assert_int_eq(replica_read_flush(host.replica, &info), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(reads[i].done);
        ck_assert_int_eq(reads[i].read.err, ERR_OK);
        ck_assert_uint_ge(reads[i].read.index, produce.proposal.result.raft_index);
    }
    replica_status(host.replica, &status);
    ck_assert_uint_eq(status.last_index, produce.proposal.result.raft_index);
    ck_assert_ptr_null(host.tasks);
}
END_TEST

START_TEST(reads_that_wait_are_told_when_the_replica_ends)
{
    struct asked_read read;

    ask_index(&read);
    replica_fail(host.replica, ERR_SHUTDOWN);
    ck_assert(read.done);
    ck_assert_int_eq(read.read.err, ERR_SHUTDOWN);
}
END_TEST

START_TEST(what_a_client_causes_is_a_result)
{
    struct asked create;
    struct asked produce;

    make_topic("t");
    propose_topic(&create, COMMAND_TOPIC_CREATE, "t");
    propose_batch(&produce, 77, 10);
    flush();
    pump();
    ck_assert_int_eq(create.proposal.result.err, ERR_TOPIC_EXISTS);
    ck_assert_int_eq(produce.proposal.result.err, ERR_TOPIC_UNKNOWN);
}
END_TEST

START_TEST(closing_answers_what_is_queued_and_what_is_pending)
{
    struct asked pending;
    struct asked queued;

    propose_topic(&pending, COMMAND_TOPIC_CREATE, "a");
    flush();
    propose_topic(&queued, COMMAND_TOPIC_CREATE, "b");
    replica_fail(host.replica, ERR_SHUTDOWN);
    ck_assert(pending.done && queued.done);
    ck_assert_int_eq(pending.proposal.result.err, ERR_SHUTDOWN);
    ck_assert_int_eq(queued.proposal.result.err, ERR_SHUTDOWN);
    pump(); /* It is written nevertheless: its outcome was unknown. */
    ck_assert_uint_eq(catalog_count(replica_catalog(host.replica)), 1);
}
END_TEST

/* ---- restarts and snapshots ---- */

START_TEST(a_restart_finds_everything_again_in_a_new_term)
{
    uint64_t topic_id = make_topic("t");
    struct replica_status before;
    struct replica_status after;
    struct asked asked;
    struct topic *topic;

    propose_batch(&asked, topic_id, 1000);
    flush();
    pump();
    replica_status(host.replica, &before);
    close_replica();
    open_replica(1 << 20);
    pump();
    replica_status(host.replica, &after);
    ck_assert_uint_gt(after.term, before.term);
    ck_assert_uint_ge(after.applied_index, before.applied_index);
    topic = catalog_find(replica_catalog(host.replica), "t");
    ck_assert_ptr_nonnull(topic);
    ck_assert_uint_eq(log_end(topic->log), 2);
    topic_unref(topic);
}
END_TEST

static uint64_t draw_bits(void *arg)
{
    return history_random(arg);
}

START_TEST(power_loss_takes_nothing_that_was_answered)
{
    uint64_t topic_id = make_topic("t");
    uint64_t random = (uint64_t)_i;
    struct asked asked;
    struct topic *topic;

    for (unsigned i = 0; i < 30; i++) {
        propose_batch(&asked, topic_id, 500);
        flush();
        pump();
        ck_assert_int_eq(asked.proposal.result.err, ERR_OK);
    }
    mem_io_kill(&host.disk);
    close_replica();
    mem_io_crash(&host.disk, draw_bits, &random);
    open_replica(1 << 20);
    pump();
    topic = catalog_find(replica_catalog(host.replica), "t");
    ck_assert_ptr_nonnull(topic);
    ck_assert_uint_eq(log_end(topic->log), 60);
    topic_unref(topic);
}
END_TEST

START_TEST(snapshots_are_taken_and_the_journal_is_trimmed)
{
    struct replica_status status;
    struct asked asked;
    uint64_t topic_id;

    close_replica();
    open_replica(16 * 1024);
    pump();
    topic_id = make_topic("t");
    for (unsigned i = 0; i < 200; i++) {
        propose_batch(&asked, topic_id, 1000);
        flush();
        pump();
    }
    replica_status(host.replica, &status);
    ck_assert_uint_gt(status.snapshot_index, 100);
    ck_assert_uint_gt(status.first_index, 100);
    close_replica();
    open_replica(16 * 1024);
    pump();
    replica_status(host.replica, &status);
    ck_assert_uint_gt(status.snapshot_index, 100);
    ck_assert_uint_ge(status.applied_index, 200);
}
END_TEST

START_TEST(a_job_is_discarded_at_a_stop)
{
    struct asked asked;
    uint64_t topic_id;

    close_replica();
    open_replica(1);
    topic_id = 0;
    while (host.jobs == NULL) {
        struct journal_task *tasks = host.tasks;
        struct err_info info = {0};

        host.tasks = NULL;
        host.tasks_tail = &host.tasks;
        ck_assert_int_eq(journal_perform(host.journal, tasks, &info), ERR_OK);
        ck_assert_int_eq(replica_journal_done(host.replica, tasks, &info), ERR_OK);
        ck_assert_int_eq(replica_flush(host.replica, &info), ERR_OK);
    }
    replica_job_discard(host.replica, host.jobs);
    host.jobs = NULL;
    host.jobs_tail = &host.jobs;
    close_replica();
    open_replica(1 << 20);
    pump();
    topic_id = make_topic("t");
    propose_batch(&asked, topic_id, 10);
    flush();
    pump();
    ck_assert_int_eq(asked.proposal.result.err, ERR_OK);
}
END_TEST

START_TEST(a_directory_without_its_ballot_is_refused)
{
    struct err_info info = {0};
    struct membership members = {0};
    const struct replica_options options = {
        .id = 1, .address = "a:1", .dir = "data", .bootstrap = &members};
    const struct replica_host replica_host = {.clock = &host.clock,
                                              .io = &host.disk.io,
                                              .journal = post_task,
                                              .send = send_message,
                                              .job = post_job,
                                              .published = published};
    struct replica *replica;
    struct journal *journal;

    make_topic("t");
    close_replica();
    ck_assert_int_eq(membership_add(&members, 1, "a:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(host.disk.io.unlink(&host.disk.io, "data/ballot"), 0);
    ck_assert_int_ne(replica_open(&options, &replica_host, &replica, &journal, &info), ERR_OK);
    ck_assert_ptr_nonnull(strstr(info.text, "ballot"));
}
END_TEST

START_TEST(a_snapshot_that_does_not_fit_the_ballot_is_refused_with_file_and_advice)
{
    struct err_info info = {0};
    struct membership members = {0};
    const struct replica_options options = {
        .id = 1, .address = "a:1", .dir = "data", .bootstrap = &members};
    const struct replica_host replica_host = {.clock = &host.clock,
                                              .io = &host.disk.io,
                                              .journal = post_task,
                                              .send = send_message,
                                              .job = post_job,
                                              .published = published};
    struct snapshot snapshot;
    struct replica *replica;
    struct journal *journal;

    make_topic("t");
    close_replica();
    open_replica(1);
    make_topic("u");
    pump();
    close_replica();
    ck_assert_int_eq(snapshot_load(&host.disk.io, "data", &snapshot, &info), ERR_OK);
    snapshot.term += 1000;
    ck_assert_int_eq(snapshot_save(&host.disk.io, "data", &snapshot, &info), ERR_OK);
    snapshot_fini(&snapshot);
    ck_assert_int_eq(membership_add(&members, 1, "a:1", MEMBER_VOTER), ERR_OK);
    ck_assert_int_eq(replica_open(&options, &replica_host, &replica, &journal, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "'data/snapshot'"));
    ck_assert_ptr_nonnull(strstr(info.text, "quorlog cluster replace"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("raft_fsm/replica");
    TCase *proposals = tcase_create("proposals");
    TCase *restarts = tcase_create("restarts");

    tcase_add_checked_fixture(proposals, setup, teardown);
    tcase_add_test(proposals, a_step_is_taken_and_the_next_one_waits_for_the_node);
    tcase_add_test(proposals, disks_of_members_are_bound_once_there_are_others);
    tcase_add_test(proposals, a_sole_voter_leads_at_once);
    tcase_add_test(proposals, nothing_is_answered_before_it_is_durable);
    tcase_add_test(proposals, what_waits_is_packed_into_one_entry_and_answered_in_order);
    tcase_add_test(proposals, large_commands_get_entries_of_their_own);
    tcase_add_test(proposals, what_is_in_flight_is_bounded_and_the_rest_waits);
    tcase_add_test(proposals, a_turn_applies_a_bounded_part_of_what_is_committed_at_once);
    tcase_add_test(proposals, a_turn_makes_the_files_of_a_few_topics);
    tcase_add_test(proposals, a_snapshot_may_be_taken_of_a_part_of_what_is_committed);
    tcase_add_test(proposals, what_a_client_causes_is_a_result);
    tcase_add_test(proposals,
                   reads_share_an_index_that_covers_what_was_acknowledged_and_write_nothing);
    tcase_add_test(proposals, reads_that_wait_are_told_when_the_replica_ends);
    tcase_add_test(proposals, closing_answers_what_is_queued_and_what_is_pending);
    suite_add_tcase(s, proposals);
    tcase_add_checked_fixture(restarts, setup, teardown);
    tcase_add_test(restarts, a_restart_finds_everything_again_in_a_new_term);
    tcase_add_loop_test(restarts, power_loss_takes_nothing_that_was_answered, 0, 10);
    tcase_add_test(restarts,
                   a_snapshot_that_does_not_fit_the_ballot_is_refused_with_file_and_advice);
    tcase_add_test(restarts, snapshots_are_taken_and_the_journal_is_trimmed);
    tcase_add_test(restarts, a_job_is_discarded_at_a_stop);
    tcase_add_test(restarts, a_directory_without_its_ballot_is_refused);
    suite_add_tcase(s, restarts);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
