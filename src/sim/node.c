/*
 * A node: what a server's threads do around a replica (raft_fsm/group.c), as events.
 *
 *      journal   all that waits is one write; performed when it begins or when it ends, then
 *                replica_journal_done. Idle: a seal, then a spare segment.
 *      jobs      one at a time: run after a while, done after another
 *      turn      every call is followed by replica_flush
 *
 * A call that fails ends the node: crash-stop. A disk that dies in a call ends it, too, and nothing
 * that the call did afterwards is seen by anybody.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    IDLE_MS = 20,
    SUPERVISOR_MS = 2000,
    FILL_STEP = 32 * 1024,
    STATE_EVERY = 16, /* one of so many states is compared */
};

/* ---- log lines ---- */

static uint64_t number_of(const char *line, const char *name)
{
    const char *at = strstr(line, name);

    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static void write_line(void *arg, const char *line, size_t size)
{
    struct sim_node *self = arg;
    struct sim_stats *stats = self->cluster->stats;

    stats->snapshots += strstr(line, "event=snapshot_taken") != NULL;
    stats->installs += strstr(line, "event=install_done") != NULL;
    stats->filled += strstr(line, "event=hole_filled") != NULL;
    stats->refused += strstr(line, "event=chunk_refused") != NULL;
    stats->dropped += strstr(line, "event=hole_refilled") != NULL;
    stats->resigned += strstr(line, "event=resigned_with_holes") != NULL;
    if (strstr(line, "event=topic_compacted") != NULL) {
        stats->cleaned++;
        stats->superseded += number_of(line, " superseded=");
        stats->tombstones += number_of(line, " tombstones=");
    }
    if (self->cluster->options.trace) {
        const char *text = strstr(line, "event=");

        sim_trace(self->cluster, "n%u %.*s", self->id,
                  (int)(text == NULL ? 0 : line + size - 1 - text), text == NULL ? "" : text);
    }
}

/* ---- what the replica asks for ---- */

static void post_journal(void *arg, struct journal_task *task)
{
    struct sim_node *self = arg;

    task->next = NULL;
    *self->queue_tail = task;
    self->queue_tail = &task->next;
}

static void send_message(void *arg, const struct message *message)
{
    sim_wire_send(arg, message);
}

static uint64_t latency_ms(struct sim_node *self)
{
    struct prng *prng = &self->cluster->prng;
    uint64_t latency = prng_percent(prng, 92) ? prng_range(prng, 0, 6) : prng_range(prng, 6, 100);

    if (self->stalled) {
        latency += prng_percent(prng, 5) ? prng_range(prng, 1000, 8000) : prng_range(prng, 50, 600);
    }
    return latency;
}

static void start_job(struct sim_node *self)
{
    struct prng *prng = &self->cluster->prng;
    uint64_t latency = latency_ms(self);

    if (!self->cluster->healed) {
        latency += prng_percent(prng, 10) ? prng_range(prng, 0, 2000) : 0;
    }
    self->job_ran = false;
    events_push(&self->cluster->events, self->cluster->now_ms + latency, EVENT_JOB, self->slot,
                self->incarnation, NULL);
}

static void queue_job(void *arg, struct replica_job *job)
{
    struct sim_node *self = arg;
    bool idle = self->jobs == NULL;

    job->next = NULL;
    *self->jobs_tail = job;
    self->jobs_tail = &job->next;
    if (idle) {
        start_job(self);
    }
}

static void publish(void *arg)
{
    struct sim_node *self = arg;

    self->published = true;
}

/* ---- the end of a node ---- */

static void free_tasks(struct journal_task **list)
{
    while (*list != NULL) {
        struct journal_task *next = (*list)->next;

        journal_task_free(*list);
        *list = next;
    }
}

static void forget_process(struct sim_node *self)
{
    free_tasks(&self->queue);
    self->queue_tail = &self->queue;
    free_tasks(&self->writing);
    free_tasks(&self->late);
    self->idle_due = false;
    ASSERT(self->jobs == NULL);
    self->jobs_tail = &self->jobs;
    self->timer_ms = UINT64_MAX;
    sim_seen_fini(&self->seen);
    self->applied = 0;
    self->led_term = 0;
    self->published = false;
    self->paused_ms = 0;
}

static void close_replica(struct sim_node *self)
{
    struct replica *replica = self->replica;

    while (self->jobs != NULL) {
        struct replica_job *next = self->jobs->next;

        replica_job_discard(replica, self->jobs);
        self->jobs = next;
    }
    replica_close(replica);
    self->replica = NULL;
    journal_close(self->journal);
    self->journal = NULL;
}

static void check_leaks(const struct sim_node *self)
{
    unsigned open = mem_io_open_count(&self->disk.mem);
    unsigned mapped = mem_io_mapped_count(&self->disk.mem);

    if (open > 0 || mapped > 0) {
        sim_violation(&self->cluster->oracle, "node %u left %u files open and %u mapped", self->id,
                      open, mapped);
    }
}

static void end(struct sim_node *self, bool power_loss)
{
    struct sim_cluster *cluster = self->cluster;

    sim_fault(cluster, power_loss ? SIM_FAULT_POWER : SIM_FAULT_KILL);
    cluster->stats->deaths += self->disk.dead;
    cluster->stats->kills += !power_loss;
    cluster->stats->power_losses += power_loss;
    self->disk.dead = true; /* Closing leaves no trace. */
    sim_front_end(self);
    if (self->replica != NULL) {
        close_replica(self);
    }
    sim_front_reset(self);
    sim_oracle_answered(&cluster->oracle, self->id, NULL);
    check_leaks(self);
    forget_process(self);
    self->incarnation++;
    sim_disk_restart(&self->disk, power_loss);
}

static void restart_later(struct sim_node *self, uint64_t down_ms)
{
    events_push(&self->cluster->events, self->cluster->now_ms + down_ms, EVENT_RESTART, self->slot,
                self->incarnation, NULL);
}

void sim_node_crash(struct sim_node *self, bool power_loss, uint64_t down_ms)
{
    ASSERT(self->replica != NULL);
    sim_trace(self->cluster, "n%u %s, for %llu ms%s", self->id,
              power_loss ? "loses power" : "is killed", U(down_ms),
              self->disk.dead ? ", in a call" : "");
    end(self, power_loss);
    restart_later(self, down_ms);
}

static uint64_t down_ms(struct sim_node *self)
{
    struct prng *prng = &self->cluster->prng;

    return self->cluster->healed ? 1 : prng_range(prng, 1, prng_percent(prng, 80) ? 1500 : 9000);
}

void sim_node_stop(struct sim_node *self)
{
    if (self->replica != NULL) {
        end(self, false);
    }
    self->incarnation++; /* No restart that is due counts any more. */
    self->stopped = true;
}

void sim_node_refused(struct sim_node *self, const char *why)
{
    if (self->replica == NULL) {
        return;
    }
    sim_trace(self->cluster, "n%u is told that %s, and ends", self->id, why);
    if (self->wiped && self->harm == SIM_HARM_DISK) {
        self->harm |= SIM_HARM_TOLD;
        sim_fault(self->cluster, SIM_FAULT_WIPE);
    }
    end(self, false);
    restart_later(self, SUPERVISOR_MS);
}

/* ---- after every call ---- */

static void look(struct sim_node *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct replica_status status;
    bool damaged;

    self->published = false;
    replica_status(self->replica, &status);
    if (memcmp(&status.membership, &self->members, sizeof self->members) != 0) {
        self->members = status.membership;
        self->members_epoch++;
    }
    if (status.role == RAFT_ROLE_LEADER && status.term != self->led_term) {
        self->led_term = status.term;
        cluster->stats->elections++;
        sim_trace(cluster, "n%u leads term %llu, last %llu applied %llu", self->id, U(status.term),
                  U(status.last_index), U(status.applied_index));
        sim_oracle_leads(&cluster->oracle, self->id, status.term);
    }
    if (status.applied_index < self->applied) {
        sim_violation(&cluster->oracle, "node %u applied %llu, now %llu", self->id,
                      U(self->applied), U(status.applied_index));
    }
    for (uint64_t i = self->applied + 1; i <= status.applied_index; i++) {
        const struct entry *entry = raft_driver_entry(replica_driver(self->replica), i);

        if (entry != NULL && !status.installing) {
            sim_oracle_entry(&cluster->oracle, self->id, entry);
        }
    }
    self->seen.may_be_damaged = self->gone || (self->harm & (SIM_HARM_FILES | SIM_HARM_INDEX)) != 0;
    self->seen.unread = false;
    self->seen.rewritten = status.compact_bytes_in;
    self->seen.apart = self->gone || !sim_members_has(cluster, self);
    sim_oracle_read(&cluster->oracle, self->id, replica_catalog(self->replica), &self->seen);
    damaged = self->seen.damaged;
    if (damaged) {
        self->seen.damaged = false;
        if ((cluster->options.broken & SIM_BREAK_NO_SCRUB) == 0) {
            replica_report_damage(self->replica, self->seen.damaged_topic,
                                  self->seen.damaged_offset);
        }
    }
    /* What lies behind damage was not read. */
    sim_oracle_answered(&cluster->oracle, self->id,
                        damaged || self->seen.unread ? NULL : replica_catalog(self->replica));
    if (status.applied_index > self->applied && prng_mix(status.applied_index) % STATE_EVERY == 0) {
        sim_oracle_state(&cluster->oracle, self->id, status.applied_index,
                         replica_fsm(self->replica));
    }
    self->applied = status.applied_index;
    sim_front_published(self);
}

static void arm(struct sim_node *self)
{
    uint64_t now = self->cluster->now_ms;
    uint64_t deadline = replica_deadline_ms(self->replica);

    /* The node's clock is a second ahead. */
    deadline = deadline == UINT64_MAX ? now + 1000 : deadline < 1000 ? 0 : deadline - 1000;
    deadline = deadline < now ? now : deadline;
    if (deadline < self->timer_ms) {
        self->timer_ms = deadline;
        events_push(&self->cluster->events, deadline, EVENT_TIMER, self->slot,
                    ++self->timer_generation, NULL);
    }
}

static void perform(struct sim_node *self)
{
    /* Each task carries its outcome. */
    (void)journal_perform(self->journal, self->writing, NULL);
    self->performed = true;
}

/* Sets the disk to work on what waits. */
static void work(struct sim_node *self)
{
    struct sim_cluster *cluster = self->cluster;

    if (self->writing != NULL || self->queue == NULL) {
        return;
    }
    self->writing = self->queue;
    self->queue = NULL;
    self->queue_tail = &self->queue;
    self->performed = false;
    if (prng_percent(&cluster->prng, 50) && (cluster->options.broken & SIM_BREAK_ACK_EARLY) == 0) {
        perform(self);
    }
    events_push(&cluster->events, cluster->now_ms + latency_ms(self), EVENT_WRITTEN, self->slot,
                self->incarnation, NULL);
}

/* A call failed; or another program took the last room on the disk within a moment; or what is
 * replayed from the journal meets damage in a topic, which the next start cuts off or fetches. */
static bool is_excused(const struct sim_node *self, enum err err)
{
    return self->disk.struck ||
           ((err == ERR_NOSPACE || err == ERR_FAILED) && self->disk.was_full) ||
           (err == ERR_CORRUPT && (self->harm & (SIM_HARM_FILES | SIM_HARM_INDEX)) != 0);
}

/* The end of every event of a node: it goes on, or it ends here. */
static void after(struct sim_node *self, enum err err, const struct err_info *info)
{
    struct sim_cluster *cluster = self->cluster;

    if (err == ERR_OK && !self->disk.dead) {
        if (cluster->checks) {
            replica_check(self->replica);
        }
        if (self->published) {
            look(self);
        }
        work(self);
    }
    if (self->disk.dead) {
        sim_node_crash(self, prng_percent(&cluster->prng, 60), down_ms(self));
        return;
    }
    if (err == ERR_OK) {
        arm(self);
        return;
    }
    if (!is_excused(self, err)) {
        sim_violation(&cluster->oracle, "node %u fails: %s: %s", self->id, err_name(err),
                      info->text);
    }
    cluster->stats->failed_calls += self->disk.struck;
    cluster->stats->faults.counts[SIM_FAULT_FAIL] += self->disk.struck;
    sim_trace(cluster, "n%u stops: %s", self->id, info->text);
    sim_node_crash(self, prng_percent(&cluster->prng, 50), down_ms(self));
}

/* The end of a turn. */
static void turn(struct sim_node *self, enum err err, struct err_info *info)
{
    if (err == ERR_OK && !self->disk.dead) {
        err = replica_flush(self->replica, info);
    }
    after(self, err, info);
}

/* ---- what happens to it ---- */

void sim_node_init(struct sim_node *self, struct sim_cluster *cluster, unsigned slot)
{
    *self = (struct sim_node){
        .cluster = cluster, .slot = slot, .stopped = true, .timer_ms = UINT64_MAX};
    sim_clock_init(self);
    self->diag =
        (struct diag){.level = DIAG_INFO, .clock = &self->clock, .write = write_line, .arg = self};
    self->queue_tail = &self->queue;
    self->jobs_tail = &self->jobs;
    self->front.timer_ms = UINT64_MAX;
    sim_disk_init(&self->disk, &cluster->prng, cluster->options.broken);
}

void sim_node_renew(struct sim_node *self, unsigned id)
{
    struct sim_cluster *cluster = self->cluster;
    bool known = id == self->id;

    ASSERT(self->replica == NULL && id != 0);
    sim_disk_fini(&self->disk);
    sim_disk_init(&self->disk, &cluster->prng, cluster->options.broken);
    self->incarnation++; /* No restart that is due counts any more. */
    self->stopped = self->gone = false;
    self->wiped = known;
    self->founder = known ? self->founder : cluster->now_ms == 0;
    self->harm = known ? self->harm : 0;
    self->disk_id = prng_next(&cluster->prng) | 1;
    self->id = id;
    (void)snprintf(self->address, sizeof self->address, "node%u:1", id);
    self->members = (struct membership){0};
    self->members_epoch++;
    self->paused_ms = 0;
    if (!known) {
        sim_oracle_new_node(&cluster->oracle, self->slot);
    }
}

void sim_node_fini(struct sim_node *self)
{
    self->disk.dead = true;
    sim_front_end(self);
    if (self->replica != NULL) {
        close_replica(self);
    }
    sim_front_reset(self);
    check_leaks(self);
    forget_process(self);
    sim_disk_fini(&self->disk);
}

void sim_node_start(struct sim_node *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct replica_options options = cluster->replica;
    const struct replica_host host = {
        .arg = self,
        .clock = &self->clock,
        .io = &self->disk.mem.io,
        .diag = &self->diag,
        .journal = post_journal,
        .send = send_message,
        .job = queue_job,
        .published = publish,
    };
    struct err_info info = {.text = ""};
    enum err err;

    ASSERT(self->replica == NULL);
    self->incarnation++;
    if ((cluster->options.broken & SIM_BREAK_FORGET_PRODUCERS) != 0) {
        sim_disk_forget_producers(&self->disk);
    }
    options.id = self->id;
    options.disk_id = self->disk_id;
    options.address = self->address;
    options.bootstrap = self->founder ? &cluster->members : NULL;
    options.seed = prng_next(&cluster->prng) | 1;
    if (!cluster->healed && sim_may(cluster, SIM_FAULT_OPEN_FAIL) &&
        prng_percent(&cluster->prng, cluster->open_faults)) {
        /* While it opens, perhaps. */
        sim_disk_plan(&self->disk,
                      cluster->faults && prng_percent(&cluster->prng, 50) ? SIM_DISK_FAIL
                                                                          : SIM_DISK_DIE,
                      (unsigned)prng_range(&cluster->prng, 0, 60));
    }
    err = replica_open(&options, &host, &self->replica, &self->journal, &info);
    if (err == ERR_OK && !self->disk.dead) {
        sim_trace(cluster, "n%u starts", self->id);
        sim_damage_started(self);
        self->published = true;
        after(self, ERR_OK, &info);
        return;
    }
    /* Whoever is no member any more may lie there as he is. */
    if (err != ERR_OK && (self->gone || sim_damage_explains(self, err))) {
        sim_trace(cluster, "n%u does not open: %s", self->id, info.text);
        end(self, false);
        sim_node_stop(self);
        return;
    }
    if (err != ERR_OK && (err == ERR_CORRUPT || !is_excused(self, err))) {
        sim_violation(&cluster->oracle, "node %u does not open: %s: %s", self->id, err_name(err),
                      info.text);
    }
    sim_trace(cluster, "n%u does not come up: %s", self->id, info.text);
    sim_fault(cluster, SIM_FAULT_OPEN_FAIL);
    end(self, prng_percent(&cluster->prng, 50));
    restart_later(self, down_ms(self));
}

static void on_timer(struct sim_node *self, uint64_t generation)
{
    struct err_info info = {.text = ""};
    enum err err = ERR_OK;

    if (generation != self->timer_generation) {
        return;
    }
    self->timer_ms = UINT64_MAX;
    if (clock_monotonic_ms(&self->clock) >= replica_deadline_ms(self->replica)) {
        err = replica_tick(self->replica, &info);
    }
    turn(self, err, &info);
}

/* Tasks with the same entries, that say they are done. */
static struct journal_task *promises(const struct journal_task *list)
{
    struct journal_task *first = NULL;
    struct journal_task **tail = &first;

    for (; list != NULL; list = list->next) {
        struct journal_task *task = journal_task_new(list->type, list->count);

        ASSERT(task != NULL);
        task->index = list->index;
        for (unsigned i = 0; i < list->count; i++) {
            task->entries[i] = list->entries[i];
            entry_ref(&list->entries[i]);
        }
        *tail = task;
        tail = &task->next;
    }
    return first;
}

/* A broken build: what was acknowledged is written some time later. */
static struct journal_task *acknowledge_early(struct sim_node *self)
{
    struct journal_task *list = promises(self->writing);
    struct journal_task *now = self->late;

    self->late = self->writing;
    self->writing = now;
    if (now != NULL) {
        perform(self);
        free_tasks(&self->writing);
    }
    return list;
}

static void on_written(struct sim_node *self)
{
    struct sim_cluster *cluster = self->cluster;
    struct err_info info = {.text = ""};
    struct journal_task *list;

    if ((cluster->options.broken & SIM_BREAK_ACK_EARLY) != 0) {
        list = acknowledge_early(self);
    } else {
        if (!self->performed) {
            perform(self);
        }
        list = self->writing;
    }
    self->writing = NULL;
    if (self->disk.dead) {
        free_tasks(&list);
        after(self, ERR_OK, &info);
        return;
    }
    if (self->queue == NULL && !self->idle_due) {
        self->idle_due = true;
        events_push(&cluster->events, cluster->now_ms + IDLE_MS, EVENT_IDLE, self->slot,
                    self->incarnation, NULL);
    }
    turn(self, replica_journal_done(self->replica, list, &info), &info);
}

static void on_idle(struct sim_node *self)
{
    struct err_info info = {.text = ""};
    bool more = false;

    self->idle_due = false;
    if (self->writing != NULL) {
        return; /* Its end comes here again. */
    }
    /* A failure stays with the journal and meets the next task. */
    (void)journal_seal(self->journal, NULL);
    if (journal_prepare(self->journal, FILL_STEP, &more, NULL) == ERR_OK && more) {
        self->idle_due = true;
        events_push(&self->cluster->events, self->cluster->now_ms + 1, EVENT_IDLE, self->slot,
                    self->incarnation, NULL);
    }
    after(self, ERR_OK, &info);
}

static void on_job(struct sim_node *self)
{
    struct replica_job *job = self->jobs;
    struct err_info info = {.text = ""};

    ASSERT(job != NULL);
    if (!self->job_ran) {
        self->job_ran = true;
        job->run(job);
        events_push(&self->cluster->events, self->cluster->now_ms + latency_ms(self), EVENT_JOB,
                    self->slot, self->incarnation, NULL);
        after(self, ERR_OK, &info);
        return;
    }
    self->jobs = job->next;
    if (self->jobs == NULL) {
        self->jobs_tail = &self->jobs;
    } else {
        start_job(self);
    }
    turn(self, replica_job_done(self->replica, job, &info), &info);
}

static void on_message(struct sim_node *self, const struct message *message)
{
    struct err_info info = {.text = ""};
    struct message early = *message; /* borrows what message owns */

    if (!sim_wire_admits(self, message)) {
        return;
    }
    if ((self->cluster->options.broken & SIM_BREAK_APPLY_EARLY) != 0 &&
        message->type == MESSAGE_APPEND) {
        early.append.commit = early.append.prev_index + early.append.count;
        message = &early;
    }
    turn(self, replica_receive(self->replica, message, &info), &info);
}

void sim_node_take(struct sim_node *self, const struct event *event)
{
    if (event->type == EVENT_TIMER) {
        if (self->replica != NULL) {
            on_timer(self, event->generation);
        }
        return;
    }
    if (event->type == EVENT_FRONT) {
        sim_front_tick(self, event->generation);
        return;
    }
    if (event->generation != self->incarnation) {
        return;
    }
    if (event->type == EVENT_RESTART) {
        sim_node_start(self);
        return;
    }
    if (self->replica == NULL) {
        return;
    }
    if (event->type == EVENT_MESSAGE) {
        on_message(self, event->message);
    } else if (event->type == EVENT_WRITTEN) {
        on_written(self);
    } else if (event->type == EVENT_IDLE) {
        on_idle(self);
    } else {
        ASSERT(event->type == EVENT_JOB);
        on_job(self);
    }
}

void sim_node_propose(struct sim_node *self, struct proposal *proposal)
{
    uint64_t now = self->cluster->now_ms;

    ASSERT(self->replica != NULL);
    replica_propose(self->replica, proposal);
    /* Flushed with what comes in the same moment, or a little later. */
    if (self->timer_ms > now) {
        self->timer_ms = now + prng_range(&self->cluster->prng, 0, 1);
        events_push(&self->cluster->events, self->timer_ms, EVENT_TIMER, self->slot,
                    ++self->timer_generation, NULL);
    }
}

void sim_node_read(struct sim_node *self, struct replica_read *read)
{
    struct err_info info = {0};

    ASSERT(self->replica != NULL);
    replica_read(self->replica, read);
    turn(self, replica_read_flush(self->replica, &info), &info);
}

void sim_node_resign(struct sim_node *self)
{
    struct err_info info = {.text = ""};

    (void)replica_resign(self->replica); /* It may not lead, or not be able to. */
    turn(self, ERR_OK, &info);
}

void sim_node_member_step(struct sim_node *self, struct member_step *step)
{
    struct err_info info = {.text = ""};

    ASSERT(self->replica != NULL);
    turn(self, replica_member_step(self->replica, step, &info), &info);
}
