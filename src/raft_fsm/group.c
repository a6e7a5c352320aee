/*
 * The raft thread. See group.h.
 *
 * One round of the loop:
 *
 *      events: a peer's messages go to the replica as they are read; all else only says that a
 *              turn is due
 *      turn:   completions (journal, jobs) → reads → requests (unless the replica is full) → flush
 *      write:  each connection's frames, with one call (transport)
 *      tasks:  for the journal, posted to its thread or, if small, performed here
 *
 * so that all that waited is packed into one entry, one journal write and one message a peer. The
 * timer's callback is a turn, too. Nothing else touches the replica.
 *
 * Failure modes: a replica call that fails ends everything here: `fatal` is said once, later turns
 * do nothing but give back what they are handed.
 *
 *      RUNNING ── stop asked ──► RESIGNING ── not leading, or time is up ──► CLOSING ──► CLOSED
 *         └──────── fatal ────► FAILED ── stop asked ────────────────────────┘
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "raft_fsm/group_internal.h"
#include "raft_fsm/steps.h"

/* Captures that may wait: each copies the state. */
enum { CAPTURES_MAX = 8 };
enum { ADOPTIONS_SIZE_MAX = 64 * 1024 };

static void turn(struct group *self);

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

static bool working(const struct group *self)
{
    return self->state == GROUP_RUNNING || self->state == GROUP_RESIGNING;
}

static void begin_step(struct group *self, enum step step)
{
    (void)turns_step(&self->turns, step); /* The one that ended is told, too. */
}

/* What a replica call returned. */
static void check(struct group *self, enum err err, const struct err_info *info)
{
    if (err != ERR_OK && working(self)) {
        self->state = GROUP_FAILED;
        self->events.fatal(self->events.arg, err, info->text);
    }
}

/* ---- what the replica asks for ---- */

static void post_journal(void *arg, struct journal_task *task)
{
    struct group *self = arg;

    task->next = NULL;
    *self->tasks_tail = task;
    self->tasks_tail = &task->next;
}

static void take_journal_done(struct group *self, struct journal_task *list);

/* Hands the tasks over to the journal's thread. */
static void post_tasks(struct group *self)
{
    struct journal_task *task = self->tasks;

    self->tasks = NULL;
    self->tasks_tail = &self->tasks;
    while (task != NULL) {
        struct journal_task *next = task->next;

        journal_thread_post(self->journal_thread, task);
        task = next;
    }
}

/* All messages of the turn are written, so a small write to the journal that is tried here holds up
 * nobody but us, who would wait for it. */
static void write_journal(struct group *self)
{
    struct journal_task *task = self->tasks;

    if (task != NULL) {
        begin_step(self, STEP_JOURNAL);
    }
    if (task == NULL || task->next != NULL || !journal_thread_try(self->journal_thread, task)) {
        post_tasks(self);
        return;
    }
    self->tasks = NULL;
    self->tasks_tail = &self->tasks;
    begin_step(self, STEP_DURABLE);
    take_journal_done(self, task);
    turn(self);
    if (self->tasks != NULL) {
        waker_wake(&self->waker); /* Or the loop would wait before it comes here again. */
    }
}

/* The last thing before the loop waits. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct group *self = prepare->data;

    write_journal(self);
    turns_end(&self->turns);
}

/* On the journal's thread. */
static void on_journal_done(void *arg, struct journal_task *list)
{
    struct group *self = arg;
    struct completion *completion = calloc(1, sizeof *completion);
    enum err err;

    ASSERT(completion != NULL); /* Durable entries must be told of; a supervisor starts us again. */
    completion->tasks = list;
    err = mailbox_post_always(&self->completions, &completion->mail, 0);
    ASSERT(err == ERR_OK); /* It is closed after this thread has ended. */
}

static void send_message(void *arg, const struct message *message)
{
    struct group *self = arg;

    group_peers_send(self->peers, message);
}

static void on_job_run(uv_work_t *work)
{
    struct group *self = work->data;

    self->jobs->run(self->jobs);
}

static void start_job(struct group *self);

static void on_job_done(uv_work_t *work, int status)
{
    struct group *self = work->data;
    struct replica_job *job = self->jobs;
    struct err_info info = {0};

    ASSERT(status == 0); /* Jobs are never canceled. */
    ASSERT(self->job_running);
    turns_begin(&self->turns);
    begin_step(self, STEP_JOBS);
    self->jobs = job->next;
    if (self->jobs == NULL) {
        self->jobs_tail = &self->jobs;
    }
    /* Finishing one may queue the next: it waits its turn. */
    if (working(self)) {
        check(self, replica_job_done(self->replica, job, &info), &info);
    } else {
        replica_job_discard(self->replica, job);
    }
    self->job_running = false;
    if (self->jobs != NULL) {
        start_job(self);
    }
    self->turn_due = true;
    begin_step(self, STEP_PEERS);
}

static void start_job(struct group *self)
{
    int rv;

    ASSERT(!self->job_running && self->jobs != NULL);
    self->job_running = true;
    rv = uv_queue_work(&self->loop, &self->work, on_job_run, on_job_done);
    ASSERT(rv == 0);
}

static void queue_job(void *arg, struct replica_job *job)
{
    struct group *self = arg;

    job->next = NULL;
    *self->jobs_tail = job;
    self->jobs_tail = &job->next;
    if (!self->job_running) {
        start_job(self);
    }
}

static void publish(void *arg)
{
    struct group *self = arg;
    struct replica_status status;

    if (self->replica == NULL) {
        return; /* Opening; published when that is done. */
    }
    replica_status(self->replica, &status);
    group_lock(self);
    self->status = status;
    group_unlock(self);
    atomic_store_explicit(&self->leader_id, status.leader_id, memory_order_release);
    atomic_store_explicit(&self->applied_index, status.applied_index, memory_order_release);
    group_members_follow(self, &status.membership);
    self->events.published(self->events.arg, &status);
}

/* ---- turns ---- */

static void take_journal_done(struct group *self, struct journal_task *list)
{
    struct err_info info = {0};

    if (working(self)) {
        check(self, replica_journal_done(self->replica, list, &info), &info);
        return;
    }
    while (list != NULL) {
        struct journal_task *next = list->next;

        journal_task_free(list);
        list = next;
    }
}

static void take_completions(struct group *self)
{
    struct mail *mail = mailbox_take(&self->completions);

    if (mail != NULL) {
        begin_step(self, STEP_DURABLE);
    }
    while (mail != NULL) {
        struct completion *completion = (struct completion *)mail;

        mail = mail->next;
        take_journal_done(self, completion->tasks);
        free(completion);
    }
}

static void take_adoptions(struct group *self)
{
    struct mail *mail = mailbox_take(&self->adoptions);

    while (mail != NULL) {
        struct adoption *adoption = (struct adoption *)mail;

        mail = mail->next;
        group_members_guest(self, adoption->connection.peer_id, adoption->address);
        group_inbound_adopt(self->inbound, &adoption->connection);
        free(adoption);
    }
}

static void on_message(void *arg, const struct message *message)
{
    struct group *self = arg;
    struct err_info info = {0};

    if (working(self)) {
        check(self, replica_receive(self->replica, message, &info), &info);
        self->turn_due = true;
    }
}

static void take_reads(struct group *self)
{
    struct mail *mail = mailbox_take(&self->reads);

    while (mail != NULL) {
        struct group_read *read = (struct group_read *)mail;

        mail = mail->next;
        if (working(self)) {
            replica_read(self->replica, &read->read);
        } else {
            read->read.err = ERR_SHUTDOWN;
            read->done(read);
        }
    }
}

static void take_damage(struct group *self)
{
    struct damage_report reports[GROUP_DAMAGE_MAX];
    unsigned count;

    group_lock(self);
    count = self->damage_count;
    memcpy(reports, self->damage, count * sizeof reports[0]);
    self->damage_count = 0;
    group_unlock(self);
    for (unsigned i = 0; i < count && working(self); i++) {
        replica_report_damage(self->replica, reports[i].topic_id, reports[i].offset);
    }
}

static void answer(struct group_request *request, enum err err)
{
    request->proposal.result = (struct fsm_result){.err = err};
    request->done(request);
}

static void take_step(struct group *self, struct group_request *request)
{
    struct err_info info = {0};
    enum err err = replica_member_step(self->replica, request->step, &info);

    check(self, err, &info);
    answer(request, err != ERR_OK                                     ? ERR_SHUTDOWN
                    : request->step->plan.info.code == ERR_NOT_LEADER ? ERR_NOT_LEADER
                                                                      : ERR_OK);
}

static void take_requests(struct group *self)
{
    struct mail *mail;

    if (working(self) && replica_full(self->replica)) {
        return; /* They wait in their mailbox, whose bound the senders feel. */
    }
    mail = mailbox_take(&self->requests);
    while (mail != NULL) {
        struct group_request *request = (struct group_request *)mail;

        mail = mail->next;
        if (self->state == GROUP_RUNNING && request->step != NULL) {
            take_step(self, request);
        } else if (self->state == GROUP_RUNNING) {
            replica_propose(self->replica, &request->proposal);
        } else {
            answer(request, self->state == GROUP_RESIGNING ? ERR_NOT_LEADER : ERR_SHUTDOWN);
        }
    }
}

static void take_captures(struct group *self)
{
    struct mail *mail = mailbox_take(&self->captures);

    while (mail != NULL) {
        struct group_capture *capture = (struct group_capture *)mail;

        mail = mail->next;
        capture->err = self->state == GROUP_RUNNING
                           ? replica_capture(self->replica, &capture->snapshot)
                           : ERR_SHUTDOWN;
        capture->done(capture);
    }
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void arm(struct group *self)
{
    uint64_t now = now_ms();
    uint64_t deadline = replica_deadline_ms(self->replica);
    uint64_t wait_ms = deadline > now ? deadline - now : 0;
    int rv;

    if (wait_ms == 0) {
        /* After what the sockets have by then: a timer would come before it, and again before it.
         */
        waker_wake(&self->waker);
        return;
    }
    if (self->state == GROUP_RESIGNING && wait_ms > 10) {
        wait_ms = 10;
    }
    uv_update_time(&self->loop);
    rv = uv_timer_start(&self->timer, on_timer, wait_ms, 0);
    ASSERT(rv == 0);
}

static void on_handle_closed(uv_handle_t *handle)
{
    (void)handle; /* The loop ends when none is left. */
}

static void on_waker_stopped(void *arg)
{
    (void)arg; /* As above. */
}

static void close_handles(struct group *self)
{
    waker_stop(&self->waker, on_waker_stopped);
    uv_close((uv_handle_t *)&self->timer, on_handle_closed);
    uv_close((uv_handle_t *)&self->check, on_handle_closed);
    uv_close((uv_handle_t *)&self->prepare, on_handle_closed);
}

static void on_inbound_closed(void *arg)
{
    struct group *self = arg;

    self->state = GROUP_CLOSED;
    close_handles(self);
}

static void on_peers_closed(void *arg)
{
    struct group *self = arg;

    group_inbound_close(self->inbound, on_inbound_closed, self);
}

/* Takes the steps to the end when stop was asked for. */
static void stop_step(struct group *self)
{
    uint64_t stop_at_ms = atomic_load(&self->stop_at_ms);

    if (stop_at_ms == 0 || self->state >= GROUP_CLOSING) {
        return;
    }
    if (self->state == GROUP_RUNNING) {
        self->state = GROUP_RESIGNING;
    }
    if (self->state == GROUP_RESIGNING && now_ms() < stop_at_ms) {
        enum err err = replica_resign(self->replica);

        if (err == ERR_OK || err == ERR_AGAIN) {
            return; /* Asked again in the next turn. */
        }
    }
    self->state = GROUP_CLOSING;
    group_peers_close(self->peers, on_peers_closed, self);
}

static void turn(struct group *self)
{
    struct err_info info = {0};

    if (self->state == GROUP_CLOSED) {
        return;
    }
    take_completions(self);
    take_adoptions(self);
    take_damage(self);
    if (working(self) && now_ms() >= replica_deadline_ms(self->replica)) {
        begin_step(self, STEP_TIMERS);
        check(self, replica_tick(self->replica, &info), &info);
    }
    begin_step(self, STEP_REQUESTS);
    take_reads(self);
    if (working(self)) {
        check(self, replica_read_flush(self->replica, &info), &info);
    }
    take_requests(self);
    take_captures(self);
    if (working(self)) {
        check(self, replica_flush(self->replica, &info), &info);
    }
    stop_step(self);
    if (working(self)) {
        arm(self);
    }
    begin_step(self, STEP_PEERS);
}

static void on_woken(void *arg)
{
    struct group *self = arg;

    turns_begin(&self->turns);
    self->turn_due = true;
}

static void on_check(uv_check_t *handle)
{
    struct group *self = handle->data;

    turns_begin(&self->turns);
    if (self->turn_due) {
        self->turn_due = false;
        turn(self);
    }
}

/* Any thread. */
static void wake(void *arg)
{
    struct group *self = arg;

    waker_wake(&self->waker);
}

static void *thread_main(void *arg)
{
    struct group *self = arg;

    publish(self);
    turn(self);
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Ends when all handles are closed. */
    return NULL;
}

/* ---- start and stop ---- */

static void set_defaults(struct group_options *options)
{
    if (options->mailbox_size_max == 0) {
        options->mailbox_size_max = 64 << 20;
    }
    if (options->peer_queue_size_max == 0) {
        options->peer_queue_size_max = 32 << 20;
    }
    if (options->frame_size_max == 0) {
        options->frame_size_max = 32 << 20;
    }
}

static void init(struct group *self, const struct group_options *options,
                 const struct group_events *events)
{
    enum err err;
    int rv;

    self->options = *options;
    set_defaults(&self->options);
    self->events = *events;
    group_members_init(self);
    self->tasks_tail = &self->tasks;
    self->jobs_tail = &self->jobs;
    self->work.data = self;
    group_turns_init(self);
    atomic_init(&self->stop_at_ms, 0);
    atomic_init(&self->leader_id, 0);
    atomic_init(&self->applied_index, 0);
    rv = pthread_mutex_init(&self->lock, NULL);
    ASSERT(rv == 0);
    rv = uv_loop_init(&self->loop);
    ASSERT(rv == 0);
    err = waker_init(&self->waker);
    ASSERT(err == ERR_OK);
    err = waker_start(&self->waker, &self->loop, on_woken, self);
    ASSERT(err == ERR_OK);
    rv = uv_timer_init(&self->loop, &self->timer);
    ASSERT(rv == 0);
    self->timer.data = self;
    (void)uv_prepare_init(&self->loop, &self->prepare); /* Cannot fail, nor can the next. */
    (void)uv_prepare_start(&self->prepare, on_prepare);
    self->prepare.data = self;
    (void)uv_check_init(&self->loop, &self->check); /* As above. */
    (void)uv_check_start(&self->check, on_check);
    self->check.data = self;
    mailbox_init(&self->requests, self->options.mailbox_size_max, wake, self);
    mailbox_init(&self->reads, self->options.mailbox_size_max, wake, self);
    mailbox_init(&self->adoptions, ADOPTIONS_SIZE_MAX, wake, self);
    mailbox_init(&self->completions, SIZE_MAX, wake, self);
    mailbox_init(&self->captures, CAPTURES_MAX * sizeof(struct group_capture), wake, self);
}

/* Gives back what init made; the loop has no handle but the two. */
static void fini(struct group *self)
{
    int rv;

    mailbox_close(&self->requests);
    mailbox_close(&self->reads);
    mailbox_close(&self->adoptions);
    mailbox_close(&self->completions);
    mailbox_close(&self->captures);
    mailbox_fini(&self->requests);
    mailbox_fini(&self->reads);
    mailbox_fini(&self->adoptions);
    mailbox_fini(&self->completions);
    mailbox_fini(&self->captures);
    waker_fini(&self->waker);
    rv = uv_loop_close(&self->loop);
    ASSERT(rv == 0);
    rv = pthread_mutex_destroy(&self->lock);
    ASSERT(rv == 0);
    free(self);
}

static void fini_unstarted(struct group *self)
{
    group_peers_free(self->peers);
    group_inbound_free(self->inbound);
    close_handles(self);
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Closes them. */
    fini(self);
}

static enum err start_threads(struct group *self, struct journal *journal, struct err_info *info)
{
    enum err err;

    err = journal_thread_start(journal, clock_real(), on_journal_done, self, &self->journal_thread);
    if (err != ERR_OK) {
        return err_set(info, err, "the journal's thread cannot be started: %s", err_text(err));
    }
    post_tasks(self); /* Those from opening. */
    if (pthread_create(&self->thread, NULL, thread_main, self) != 0) {
        journal_thread_stop(self->journal_thread);
        self->journal_thread = NULL;
        take_completions(self);
        return err_set(info, ERR_LIMIT, "the raft thread cannot be started");
    }
    return ERR_OK;
}

enum err group_start(const struct group_options *options, const struct group_events *events,
                     struct group **ret_group, struct err_info *info)
{
    struct group *self = calloc(1, sizeof *self);
    const struct replica_host host = {
        .arg = self,
        .clock = clock_real(),
        .io = options->io,
        .diag = options->diag,
        .turns = &self->turns,
        .journal = post_journal,
        .send = send_message,
        .job = queue_job,
        .published = publish,
    };
    struct journal *journal;
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "out of memory");
    }
    init(self, options, events);
    err = group_peers_new(
        &(struct group_peers_options){
            .loop = &self->loop,
            .self_id = options->replica.id,
            .queue_size_max = self->options.peer_queue_size_max,
            .frame_size_max = self->options.frame_size_max,
            .diag = options->diag,
            .turns = &self->turns,
            .events = &self->link_events,
        },
        &self->peers);
    if (err != ERR_OK) {
        (void)err_set(info, err, "out of memory");
        goto err_after_init;
    }
    err = group_inbound_new(
        &(struct group_inbound_options){
            .loop = &self->loop,
            .self_id = options->replica.id,
            .frame_size_max = self->options.frame_size_max,
            .diag = options->diag,
            .turns = &self->turns,
            .members = &self->members,
            .arg = self,
            .message = on_message,
            .removed = group_members_removed,
        },
        &self->inbound);
    if (err != ERR_OK) {
        (void)err_set(info, err, "out of memory");
        goto err_after_init;
    }
    err = replica_open(&options->replica, &host, &self->replica, &journal, info);
    if (err != ERR_OK) {
        goto err_after_init;
    }
    err = start_threads(self, journal, info);
    if (err != ERR_OK) {
        goto err_after_open;
    }
    *ret_group = self;
    return ERR_OK;

err_after_open:
    replica_close(self->replica);
err_after_init:
    fini_unstarted(self);
    return err;
}

void group_stop(struct group *self, uint64_t transfer_ms)
{
    struct journal_thread *journal_thread;
    int rv;

    atomic_store(&self->stop_at_ms, now_ms() + transfer_ms);
    wake(self);
    rv = pthread_join(self->thread, NULL);
    ASSERT(rv == 0);
    mailbox_close(&self->requests);
    mailbox_close(&self->captures);
    mailbox_close(&self->reads);
    mailbox_close(&self->adoptions);
    post_tasks(self); /* Those of the last turn. */
    group_lock(self);
    journal_thread = self->journal_thread;
    self->journal_thread = NULL;
    group_unlock(self);
    journal_thread_stop(journal_thread);
    /* What came too late: each is answered or given back. The state is CLOSED. */
    take_completions(self);
    take_adoptions(self);
    take_reads(self);
    take_requests(self);
    take_captures(self);
    replica_fail(self->replica, ERR_SHUTDOWN);
}

void group_free(struct group *self)
{
    replica_close(self->replica);
    group_peers_free(self->peers);
    group_inbound_free(self->inbound);
    fini(self);
}
