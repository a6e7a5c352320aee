#include "replica_lab.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

struct replica_lab lab;

static uint64_t monotonic_ns(const struct clock *clock)
{
    (void)clock;
    return lab.now_ms * 1000000;
}

static int64_t wall_us(const struct clock *clock)
{
    (void)clock;
    return INT64_C(1700000000000000) + (int64_t)lab.now_ms * 1000 + lab.wall_jump_us;
}

static uint64_t draw(const struct clock *clock)
{
    (void)clock;
    return history_random(&lab.random);
}

static void write_line(void *arg, const char *line, size_t size)
{
    size_t used = strlen(lab.lines);

    (void)arg;
    (void)snprintf(lab.lines + used, sizeof lab.lines - used, "%.*s", (int)size, line); /* or cut */
}

/* ---- what a replica asks for ---- */

static void post_task(void *arg, struct journal_task *task)
{
    struct lab_node *self = arg;

    task->next = NULL;
    *self->tasks_tail = task;
    self->tasks_tail = &task->next;
}

static void post_job(void *arg, struct replica_job *job)
{
    struct lab_node *self = arg;

    job->next = NULL;
    *self->jobs_tail = job;
    self->jobs_tail = &job->next;
}

static void send_message(void *arg, const struct message *message)
{
    struct lab_node *self = arg;
    struct message copy;

    ck_assert_uint_lt(lab.queue_count, LAB_QUEUE_MAX);
    ck_assert_int_eq(message_copy(message, &copy), ERR_OK);
    /* A member that never came, the other side cut off, or lost. */
    if (self->cut || message->to > LAB_NODES || lab.nodes[message->to].cut ||
        (lab.filter != NULL && !lab.filter(&copy))) {
        message_fini(&copy);
        return;
    }
    lab.queue[lab.queue_count++] = copy;
}

static void published(void *arg)
{
    (void)arg; /* Nobody looks. */
}

void lab_start(unsigned id)
{
    struct lab_node *self = &lab.nodes[id];
    struct membership members = {0};
    struct err_info info = {.text = ""};
    char address[8];
    const struct replica_options options = {
        .id = id,
        .address = address,
        .dir = "/",
        .bootstrap = &members,
        .snapshot_size = 16 * 1024,
        .trailing_size = 1,
        .trailing_min = 1,
        .journal_segment_size = 64 * 1024,
        .segment_size_max = 8192,
        .fill_rate = lab.fill_rate,
        .scrub_rate = lab.scrub_rate,
        .compact_rate = lab.compact_rate,
        .compact_memory = lab.compact_memory,
        .retention_interval_ms = lab.retention_interval_ms,
        .retention_by_wall_clock = lab.retention_by_wall_clock,
        .fill_chunk_size = 4000,
        .inflight_size_max = self->inflight_size_max,
        .entries_size_max = self->entries_size_max,
    };
    const struct replica_host host = {
        .arg = self,
        .clock = &self->clock,
        .io = &self->disk.io,
        .diag = &self->diag,
        .journal = post_task,
        .send = send_message,
        .job = post_job,
        .published = published,
    };
    enum err err;

    (void)snprintf(address, sizeof address, "n%u:1", id); /* fits */
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        char other[8];

        (void)snprintf(other, sizeof other, "n%u:1", i); /* fits */
        ck_assert_int_eq(membership_add(&members, i, other, MEMBER_VOTER), ERR_OK);
    }
    self->tasks_tail = &self->tasks;
    self->jobs_tail = &self->jobs;
    err = replica_open(&options, &host, &self->replica, &self->journal, &info);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
}

void lab_stop(unsigned id)
{
    struct lab_node *self = &lab.nodes[id];

    while (self->jobs != NULL) {
        struct replica_job *next = self->jobs->next;

        replica_job_discard(self->replica, self->jobs);
        self->jobs = next;
    }
    while (self->tasks != NULL) {
        struct journal_task *next = self->tasks->next;

        journal_task_free(self->tasks);
        self->tasks = next;
    }
    replica_close(self->replica);
    journal_close(self->journal);
    self->replica = NULL;
}

static bool has_leader(void)
{
    return lab_leader() != NULL;
}

void lab_init(void)
{
    memset(&lab, 0, sizeof lab);
    lab.now_ms = 1000;
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        struct lab_node *node = &lab.nodes[i];

        node->id = i;
        node->clock =
            (struct clock){.monotonic_ns = monotonic_ns, .wall_us = wall_us, .random = draw};
        node->diag = (struct diag){.level = DIAG_INFO, .clock = &node->clock, .write = write_line};
        mem_io_init(&node->disk);
        lab_start(i);
    }
    lab_run_until(has_leader);
    lab_produce(1);
}

void lab_fini(void)
{
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        if (lab.nodes[i].replica != NULL) {
            lab_stop(i);
        }
        ck_assert_uint_eq(mem_io_open_count(&lab.nodes[i].disk), 0);
        mem_io_fini(&lab.nodes[i].disk);
    }
    for (unsigned i = 0; i < lab.queue_count; i++) {
        message_fini(&lab.queue[i]);
    }
    lab.queue_count = 0;
}

/* ---- time ---- */

/* One thing that a node has to do; false when it has nothing. */
static bool node_step(struct lab_node *self)
{
    struct err_info info = {.text = ""};
    struct journal_task *tasks = self->tasks;
    struct replica_job *job = self->jobs;
    enum err err = ERR_OK;

    if (tasks != NULL) {
        self->tasks = NULL;
        self->tasks_tail = &self->tasks;
        ck_assert_int_eq(journal_perform(self->journal, tasks, NULL), ERR_OK);
        err = replica_journal_done(self->replica, tasks, &info);
    } else if (job != NULL && !self->jobs_held) {
        self->jobs = job->next;
        self->jobs_tail = self->jobs == NULL ? &self->jobs : self->jobs_tail;
        job->run(job);
        err = replica_job_done(self->replica, job, &info);
    } else if (replica_deadline_ms(self->replica) <= lab.now_ms) {
        err = replica_tick(self->replica, &info);
    } else {
        return false;
    }
    err = err == ERR_OK ? replica_flush(self->replica, &info) : err;
    ck_assert_msg(err == ERR_OK, "node %u: %s: %s", self->id, err_name(err), info.text);
    replica_check(self->replica);
    return true;
}

static bool deliver(void)
{
    struct err_info info = {.text = ""};
    struct message message;
    struct lab_node *to;

    if (lab.queue_count == 0) {
        return false;
    }
    message = lab.queue[0];
    lab.queue_count--;
    memmove(lab.queue, lab.queue + 1, lab.queue_count * sizeof lab.queue[0]);
    to = &lab.nodes[message.to];
    if (to->replica != NULL) {
        enum err err = replica_receive(to->replica, &message, &info);

        ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), info.text);
        ck_assert_int_eq(replica_flush(to->replica, &info), ERR_OK);
    }
    message_fini(&message);
    return true;
}

/* Everything that is due now. */
static void settle(void)
{
    unsigned steps = 0;
    bool busy = true;

    while (busy) {
        busy = deliver();
        for (unsigned i = 1; i <= LAB_NODES; i++) {
            busy = (lab.nodes[i].replica != NULL && node_step(&lab.nodes[i])) || busy;
        }
        ck_assert_msg(steps++ < 100000, "time stands still");
    }
}

void lab_run(uint64_t ms)
{
    uint64_t end_ms = lab.now_ms + ms;

    settle();
    while (lab.now_ms < end_ms) {
        lab.now_ms++;
        settle();
    }
}

void lab_run_until(bool (*what)(void))
{
    for (unsigned i = 0; !what(); i++) {
        ck_assert_msg(i < 60000, "not within 60 s");
        lab_run(1);
    }
}

struct lab_node *lab_leader(void)
{
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        struct lab_node *node = &lab.nodes[i];

        if (node->replica != NULL && !node->cut &&
            raft_driver_role(replica_driver(node->replica)) == RAFT_ROLE_LEADER) {
            return node;
        }
    }
    return NULL;
}

/* ---- records ---- */

struct asked {
    struct proposal proposal;
    bool done;
};

static void on_done(struct proposal *proposal)
{
    command_fini(&proposal->command);
    ((struct asked *)proposal)->done = true;
}

struct fsm_result lab_propose(const struct command *command)
{
    struct asked asked = {.proposal = {.command = *command, .done = on_done}};
    struct lab_node *leader = lab_leader();
    struct err_info info;

    ck_assert_ptr_nonnull(leader);
    replica_propose(leader->replica, &asked.proposal);
    ck_assert_int_eq(replica_flush(leader->replica, &info), ERR_OK);
    for (unsigned i = 0; !asked.done; i++) {
        ck_assert_msg(i < 5000, "no answer");
        lab_run(1);
    }
    ck_assert_msg(asked.proposal.result.err == ERR_OK, "%s", err_name(asked.proposal.result.err));
    return asked.proposal.result;
}

void lab_alter(const struct topic_change *change)
{
    (void)lab_propose(
        &(struct command){.type = COMMAND_TOPIC_ALTER, .topic_name = "t", .change = change});
}

void lab_produce(unsigned count)
{
    static uint64_t seed;

    if (lab.topic_id == 0) {
        lab.topic_id =
            lab_propose(&(struct command){.type = COMMAND_TOPIC_CREATE, .topic_name = "t"})
                .topic_id;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct produced produced = {.record_count = 2, .body_size = 1500, .seed = seed++};
        struct command command = {.type = COMMAND_PRODUCE};

        command.produce.topic_id = lab.topic_id;
        command.produce.batch = history_batch(&produced);
        digest_bytes(command.produce.batch.data + BATCH_HEADER_SIZE, produced.body_size,
                     command.produce.body_digest);
        (void)lab_propose(&command);
    }
}

static bool others_compacted(void)
{
    uint64_t last = lab_status(3).last_index;

    if (lab_status(1).first_index > last + 1 && lab_status(2).first_index > last + 1) {
        return true;
    }
    lab_produce(1);
    return false;
}

void lab_leave_behind(void)
{
    lab.nodes[3].cut = true;
    lab_run_until(has_leader);
    lab_produce(40);
    lab_run_until(others_compacted);
    lab.nodes[3].cut = false;
}

struct replica_status lab_status(unsigned id)
{
    struct replica_status status;

    ck_assert_ptr_nonnull(lab.nodes[id].replica);
    replica_status(lab.nodes[id].replica, &status);
    return status;
}

bool lab_said(const char *text)
{
    return strstr(lab.lines, text) != NULL;
}

void lab_assert_equal(void)
{
    lab_run(2000);
    for (unsigned i = 1; i <= LAB_NODES; i++) {
        ck_assert_uint_eq(lab_status(i).holes, 0);
        ck_assert_uint_eq(lab_status(i).missing, 0);
        history_assert_equal(replica_fsm(lab.nodes[i].replica), replica_fsm(lab.nodes[1].replica));
    }
}
