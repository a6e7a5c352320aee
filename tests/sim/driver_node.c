/*
 * One node: a driver, its disk, and a state machine that is nothing but a hash of what it applied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "sim/driver_cluster.h"

#define U(value) ((unsigned long long)(value))

enum {
    MANIFEST_SIZE = 8,
    PROPOSALS_MAX = 6,
};

/* ---- after every call ---- */

/* Notices that the node leads, as soon as it does. */
static void observe(struct node *self)
{
    uint64_t term = raft_driver_term(self->driver);

    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER || term == self->seen_leader_term) {
        return;
    }
    self->seen_leader_term = term;
    self->cluster->stats->elections++;
    cluster_trace(self->cluster, "n%u leads term %llu, last %llu commit %llu", self->id, U(term),
                  U(raft_driver_last_index(self->driver)),
                  U(raft_driver_commit_index(self->driver)));
    oracle_elected(&self->cluster->oracle, self->id, self->driver);
    if (prng_percent(&self->cluster->prng, 30) && !self->cluster->healed) {
        events_push(&self->cluster->events,
                    self->cluster->now_ms + prng_range(&self->cluster->prng, 0, 60), EVENT_ADMIN,
                    self->id, self->incarnation, NULL);
    }
}

static void arm(struct node *self)
{
    uint64_t now = self->cluster->now_ms;
    uint64_t deadline = raft_driver_deadline_ms(self->driver);

    deadline = deadline < now ? now : deadline;
    if (deadline < self->timer_ms) {
        self->timer_ms = deadline;
        events_push(&self->cluster->events, deadline, EVENT_TIMER, self->id,
                    ++self->timer_generation, NULL);
    }
}

static uint64_t write_ms(struct node *self)
{
    struct prng *prng = &self->cluster->prng;
    uint64_t latency = prng_percent(prng, 90) ? prng_range(prng, 0, 8) : prng_range(prng, 8, 120);

    return latency + (self->stalled ? prng_range(prng, 50, 600) : 0);
}

/* Sets the disk to work on what waits, and an install when nothing does. */
static void work(struct node *self)
{
    struct prng *prng = &self->cluster->prng;
    uint64_t now = self->cluster->now_ms;

    if (disk_write(&self->disk)) {
        events_push(&self->cluster->events, now + write_ms(self), EVENT_WRITTEN, self->id,
                    self->incarnation, NULL);
    }
    if (self->installing && !self->install_under_way && self->disk.queued == 0) {
        uint64_t latency =
            prng_percent(prng, 80) ? prng_range(prng, 10, 300) : prng_range(prng, 300, 4000);

        self->install_under_way = true;
        events_push(&self->cluster->events, now + write_ms(self) + latency, EVENT_INSTALL, self->id,
                    self->incarnation, NULL);
    }
}

static void maybe_snapshot(struct node *self)
{
    uint64_t index = raft_driver_snapshot_index(self->driver);
    uint64_t membership_index;
    struct slice membership;
    uint64_t term;
    struct block *block;

    if (self->taking || self->installing || index != self->applied ||
        index < self->disk.snapshot.index + self->cluster->snapshot_interval) {
        return;
    }
    raft_driver_snapshot_meta(self->driver, &term, &membership_index, &membership);
    block = block_new(MANIFEST_SIZE);
    ASSERT(block != NULL);
    bytes_put_u64(block->data, self->hash);
    self->taken = (struct snapshot){.index = index,
                                    .term = term,
                                    .membership_index = membership_index,
                                    .membership = membership,
                                    .manifest = {block, block->data, MANIFEST_SIZE}};
    block_ref(membership.block);
    self->taking = true;
    events_push(&self->cluster->events,
                self->cluster->now_ms + write_ms(self) + prng_range(&self->cluster->prng, 0, 100),
                EVENT_SNAPSHOT, self->id, self->incarnation, NULL);
}

/* Those that wait for a round have it; the others begin the next one, together. */
static void serve_reads(struct node *self)
{
    struct cluster *cluster = self->cluster;
    uint64_t confirmed = raft_driver_read_confirmed(self->driver);
    uint64_t round = 0;
    uint64_t index = 0;
    unsigned kept = 0;

    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER) {
        cluster->stats->reads_lost += self->read_count;
        self->read_count = 0;
        return;
    }
    for (unsigned i = 0; i < self->read_count; i++) {
        struct node_read *read = &self->reads[i];

        if (read->round == 0 || read->round > confirmed) {
            round = read->round;
            self->reads[kept++] = *read;
        } else if (read->index < read->mark) {
            oracle_violation(&cluster->oracle,
                             "a read at node %u in term %llu gets index %llu, but %llu was applied "
                             "when it came, %llu ms ago",
                             self->id, U(raft_driver_term(self->driver)), U(read->index),
                             U(read->mark), U(cluster->now_ms - read->since_ms));
        } else {
            cluster->stats->reads++;
        }
    }
    self->read_count = kept;
    if (kept == 0 || self->reads[0].round != 0) {
        return; /* One round at a time: what waits shares the next one. */
    }
    ASSERT(round == 0);
    if (raft_driver_read_begin(self->driver, cluster->now_ms, &round, &index) == ERR_OK) {
        cluster_trace(cluster, "n%u round %llu for %u reads, index %llu", self->id, U(round), kept,
                      U(index));
        for (unsigned i = 0; i < kept; i++) {
            self->reads[i].round = round;
            self->reads[i].index = index;
        }
    }
}

/* After every call of the driver. */
static void called(struct node *self, enum err err)
{
    struct oracle *oracle = &self->cluster->oracle;
    uint64_t commit = raft_driver_commit_index(self->driver);

    self->cluster->stats->calls++;
    if (err != ERR_OK) {
        oracle_violation(oracle, "the driver of node %u fails: %s", self->id, err_name(err));
    }
    raft_driver_check(self->driver);
    if (commit < self->seen_commit) {
        oracle_violation(oracle, "the commit index of node %u falls from %llu to %llu", self->id,
                         U(self->seen_commit), U(commit));
    }
    self->seen_commit = commit;
    if (raft_driver_applied_index(self->driver) != self->applied) {
        oracle_violation(oracle, "node %u applied %llu, its driver says %llu", self->id,
                         U(self->applied), U(raft_driver_applied_index(self->driver)));
    }
    observe(self);
    maybe_snapshot(self);
    work(self);
    serve_reads(self);
    arm(self);
}

/* ---- the driver's host ---- */

static enum err host_save_ballot(void *arg, uint64_t term, uint64_t vote)
{
    struct node *self = arg;
    struct disk *disk = &self->disk;

    if (term < disk->term || (term == disk->term && disk->vote != 0 && vote != disk->vote)) {
        oracle_violation(&self->cluster->oracle,
                         "the ballot of node %u goes from term %llu vote %llu to %llu vote %llu",
                         self->id, U(disk->term), U(disk->vote), U(term), U(vote));
    }
    disk->term = term;
    disk->vote = vote;
    return ERR_OK;
}

static void host_append(void *arg, const struct entry *entries, unsigned count)
{
    struct node *self = arg;

    observe(self);
    for (unsigned i = 0; i < count; i++) {
        oracle_appended(&self->cluster->oracle, self->id, &entries[i]);
    }
    disk_append(&self->disk, entries, count);
}

/* Whether the disk holds entry `index`, and if so, with these contents. */
static bool on_disk(const struct node *self, uint64_t index, const struct entry *entry)
{
    const struct entry *ours = raft_driver_log_get(&self->disk.log, index);

    if (ours == NULL) {
        return index <= self->disk.snapshot.index;
    }
    return entry == NULL ||
           (ours->term == entry->term && oracle_entry_value(ours) == oracle_entry_value(entry));
}

static void trace_message(const struct node *self, const char *what, const struct message *message)
{
    const struct cluster *cluster = self->cluster;
    const char *const names[MESSAGE_CLEANED + 1] = {
        [MESSAGE_APPEND] = "append",     [MESSAGE_APPEND_RESULT] = "append_result",
        [MESSAGE_VOTE] = "vote",         [MESSAGE_VOTE_RESULT] = "vote_result",
        [MESSAGE_SNAPSHOT] = "snapshot", [MESSAGE_TIMEOUT_NOW] = "timeout_now",
        [MESSAGE_CONFIRM] = "confirm",   [MESSAGE_CONFIRM_RESULT] = "confirm_result",
        [MESSAGE_CLEANED] = "cleaned",
    };
    char text[128] = "";

    if (!cluster->options.trace) {
        return;
    }
    if (message->type == MESSAGE_APPEND) {
        (void)snprintf(text, sizeof text, "prev %llu^%llu count %u commit %llu",
                       U(message->append.prev_index), U(message->append.prev_term),
                       message->append.count, U(message->append.commit));
    } else if (message->type == MESSAGE_APPEND_RESULT) {
        (void)snprintf(text, sizeof text, "rejected %llu last %llu stale %d",
                       U(message->append_result.rejected), U(message->append_result.last_index),
                       message->append_result.stale);
    } else if (message->type == MESSAGE_VOTE) {
        (void)snprintf(text, sizeof text, "last %llu^%llu pre %d disrupt %d",
                       U(message->vote.last_index), U(message->vote.last_term),
                       message->vote.pre_vote, message->vote.disrupt_leader);
    } else if (message->type == MESSAGE_VOTE_RESULT) {
        (void)snprintf(text, sizeof text, "granted %d pre %d", message->vote_result.granted,
                       message->vote_result.pre_vote);
    } else if (message->type == MESSAGE_SNAPSHOT) {
        (void)snprintf(text, sizeof text, "index %llu^%llu", U(message->snapshot.index),
                       U(message->snapshot.term));
    } else if (message->type == MESSAGE_CONFIRM || message->type == MESSAGE_CONFIRM_RESULT) {
        (void)snprintf(text, sizeof text, "round %llu", U(message->confirm.round));
    }
    cluster_trace(cluster, "%s %u>%u t%llu %s %s", what, (unsigned)message->from,
                  (unsigned)message->to, U(message->term), names[message->type], text);
}

/* A leader that sends what its peer has confirmed has lost count: its window is computed from the
 * difference, and it sends nothing but empty messages. */
static void check_progress(const struct node *self, const struct message *message)
{
    uint64_t match;

    if (message->type == MESSAGE_APPEND &&
        raft_driver_match_index(self->driver, message->to, &match) &&
        message->append.prev_index < match) {
        oracle_violation(&self->cluster->oracle,
                         "leader %u sends %llu what follows %llu, which has confirmed %llu",
                         self->id, U(message->to), U(message->append.prev_index), U(match));
    }
}

static void host_send(void *arg, const struct message *message)
{
    struct node *self = arg;
    struct cluster *cluster = self->cluster;
    uint64_t times_ms[2];
    unsigned copies;

    cluster->stats->messages++;
    trace_message(self, "send", message);
    check_progress(self, message);
    if (message->type == MESSAGE_APPEND_RESULT && message->append_result.rejected == 0 &&
        message->append_result.last_index > 0 &&
        !on_disk(self, message->append_result.last_index, NULL)) {
        oracle_violation(&cluster->oracle, "node %u says that it has %llu", self->id,
                         U(message->append_result.last_index));
    }
    if (message->to == 0 || message->to > CLUSTER_NODES) {
        oracle_violation(&cluster->oracle, "node %u sends to %llu", self->id, U(message->to));
    }
    copies = net_send(&cluster->net, &cluster->prng, cluster->now_ms, self->id,
                      (unsigned)message->to, times_ms);
    for (unsigned i = 0; i < copies; i++) {
        struct message *copy = malloc(sizeof *copy);

        ASSERT(copy != NULL);
        if (message_copy(message, copy) != ERR_OK) {
            ASSERT(false);
        }
        events_push(&cluster->events, times_ms[i], EVENT_MESSAGE, (unsigned)message->to, 0, copy);
    }
}

static enum err host_apply(void *arg, const struct entry *entry)
{
    struct node *self = arg;

    observe(self);
    if (self->cluster->options.lazy && prng_percent(&self->cluster->prng, 40)) {
        return ERR_AGAIN;
    }
    if (entry->index != self->applied + 1 || self->installing) {
        oracle_violation(&self->cluster->oracle, "node %u applies %llu after %llu", self->id,
                         U(entry->index), U(self->applied));
    }
    self->hash = oracle_hash(self->hash, entry);
    self->applied = entry->index;
    oracle_applied(&self->cluster->oracle, self->id, self->driver, entry, self->hash);
    return ERR_OK;
}

static void host_install(void *arg, const struct snapshot *snapshot)
{
    struct node *self = arg;

    ASSERT(!self->installing);
    self->installing = true;
    self->install_under_way = false;
    self->install = *snapshot;
    snapshot_ref(&self->install);
    disk_void(&self->disk, prng_percent(&self->cluster->prng, 50));
    self->cluster->stats->installs++;
    cluster_trace(self->cluster, "n%u installs %llu", self->id, U(snapshot->index));
}

static void host_changed(void *arg)
{
    struct node *self = arg;

    observe(self);
    cluster_trace(self->cluster, "n%u role %u term %llu leader %llu", self->id,
                  (unsigned)raft_driver_role(self->driver), U(raft_driver_term(self->driver)),
                  U(raft_driver_leader(self->driver)));
}

/* ---- life ---- */

void node_init(struct node *self, struct cluster *cluster, unsigned id)
{
    *self = (struct node){.cluster = cluster, .id = id, .timer_ms = UINT64_MAX};
    disk_init(&self->disk);
}

void node_fini(struct node *self)
{
    raft_driver_free(self->driver);
    self->driver = NULL;
    snapshot_unref(&self->taken);
    snapshot_unref(&self->install);
    disk_fini(&self->disk);
}

static struct raft_driver *new_driver(struct node *self)
{
    struct cluster *cluster = self->cluster;
    char address[16];
    struct raft_driver_options options = {
        .id = self->id,
        .address = address,
        .seed = prng_next(&cluster->prng),
        .heartbeat_ms = cluster->heartbeat_ms,
        .election_ms = cluster->election_ms,
        .install_ms = 3000,
        .inflight_max = (unsigned)prng_range(&cluster->prng, 6, 40),
        .message_size_max = cluster->message_size_max,
        .trailing_size = cluster->trailing_size,
        .trailing_min = cluster->trailing_min,
        .news_ms = cluster->options.news_ms,
        .rules_off = cluster->options.rules_off,
    };
    struct raft_driver_host host = {
        .arg = self,
        .save_ballot = host_save_ballot,
        .append = host_append,
        .send = host_send,
        .apply = host_apply,
        .install = host_install,
        .changed = host_changed,
    };
    struct raft_driver *driver;

    (void)snprintf(address, sizeof address, "node%u:1", self->id);
    if (raft_driver_new(&options, &host, &driver) != ERR_OK) {
        ASSERT(false);
    }
    return driver;
}

void node_start(struct node *self)
{
    struct disk *disk = &self->disk;
    size_t count = disk->log.count;
    struct entry *entries = malloc((count + 1) * sizeof *entries);
    struct raft_driver_disk found = {
        .term = disk->term,
        .vote = disk->vote,
        .snapshot = disk->snapshot.index > 0 ? &disk->snapshot : NULL,
        .first_index = disk->log.first,
        .entries = entries,
        .count = count,
    };
    struct err_info info;
    bool reset_journal = false;

    ASSERT(self->driver == NULL && entries != NULL);
    for (size_t i = 0; i < count; i++) {
        entries[i] = *raft_driver_log_get(&disk->log, disk->log.first + i);
    }
    self->used = true;
    self->incarnation++;
    self->timer_ms = UINT64_MAX;
    self->applied = disk->snapshot.index;
    self->hash = disk->snapshot.index > 0 ? bytes_get_u64(disk->snapshot.manifest.data) : 0;
    self->seen_commit = 0;
    self->seen_leader_term = 0;
    cluster_trace(self->cluster,
                  "n%u starts: term %llu vote %llu snapshot %llu first %llu count %zu", self->id,
                  U(disk->term), U(disk->vote), U(disk->snapshot.index), U(disk->log.first), count);
    self->driver = new_driver(self);
    if (raft_driver_start(self->driver, self->cluster->now_ms, &found, &reset_journal, &info) !=
        ERR_OK) {
        oracle_violation(&self->cluster->oracle, "node %u does not start: %s", self->id, info.text);
    }
    if (reset_journal) {
        raft_driver_log_reset(&disk->log, disk->snapshot.index + 1);
    }
    free(entries);
    called(self, ERR_OK);
}

/* What a crash leaves of a snapshot or an install that is under way. */
static void crash_snapshots(struct node *self)
{
    struct prng *prng = &self->cluster->prng;

    if (self->taking && !self->installing && self->taken.index > self->disk.snapshot.index &&
        prng_percent(prng, 50)) {
        disk_put_snapshot(&self->disk, &self->taken);
    }
    if (self->install_under_way && prng_percent(prng, 50)) {
        disk_put_snapshot(&self->disk, &self->install);
        if (prng_percent(prng, 50)) {
            raft_driver_log_reset(&self->disk.log, self->install.index + 1);
        }
    }
    self->taking = self->installing = self->install_under_way = false;
    snapshot_unref(&self->taken);
    snapshot_unref(&self->install);
}

void node_crash(struct node *self)
{
    ASSERT(self->driver != NULL);
    self->cluster->stats->crashes++;
    raft_driver_free(self->driver);
    self->driver = NULL;
    self->incarnation++;
    self->timer_ms = UINT64_MAX;
    self->timer_generation++;
    self->read_count = 0;
    self->paused_ms = 0;
    disk_crash(&self->disk, &self->cluster->prng);
    crash_snapshots(self);
    cluster_trace(self->cluster, "n%u crashes: snapshot %llu log %llu to %llu", self->id,
                  U(self->disk.snapshot.index), U(self->disk.log.first),
                  U(raft_driver_log_last(&self->disk.log)));
}

/* ---- events ---- */

/* Nothing that a leader believes may be false on the disk of who said it. */
static void check_ack(const struct node *self, const struct message *message)
{
    const struct node *from = &self->cluster->nodes[message->from];
    uint64_t last = raft_driver_last_index(self->driver);
    uint64_t index = message->append_result.last_index;

    if (message->type != MESSAGE_APPEND_RESULT || message->append_result.rejected != 0 ||
        index == 0 || raft_driver_role(self->driver) != RAFT_ROLE_LEADER ||
        message->term != raft_driver_term(self->driver) || from->disk.term != message->term) {
        return;
    }
    if (index > last || !on_disk(from, index, raft_driver_entry(self->driver, index))) {
        oracle_violation(&self->cluster->oracle,
                         "false ack: leader %u of term %llu is told by %llu that it has %llu",
                         self->id, U(message->term), U(message->from), U(index));
    }
}

static void end_snapshot(struct node *self)
{
    struct disk *disk = &self->disk;
    struct snapshot snapshot = self->taken;
    enum err err = ERR_OK;

    self->taking = false;
    self->taken = (struct snapshot){0};
    if (!self->installing && snapshot.index > disk->snapshot.index) {
        self->cluster->stats->snapshots++;
        disk_put_snapshot(disk, &snapshot);
        err = raft_driver_compact(self->driver, self->cluster->now_ms, &snapshot);
        if (raft_driver_first_index(self->driver) > disk->log.first) {
            raft_driver_log_drop_prefix(&disk->log, raft_driver_first_index(self->driver) - 1);
        }
    }
    snapshot_unref(&snapshot);
    called(self, err);
}

static void end_install(struct node *self)
{
    struct cluster *cluster = self->cluster;
    struct snapshot snapshot = self->install;
    enum err err;

    ASSERT(self->disk.queued == 0);
    self->installing = self->install_under_way = false;
    self->install = (struct snapshot){0};
    if (prng_percent(&cluster->prng, cluster->healed ? 2 : 15)) {
        cluster->stats->install_failures++;
        cluster_trace(cluster, "n%u fails to install %llu", self->id, U(snapshot.index));
        err = raft_driver_install_failed(self->driver, cluster->now_ms);
    } else {
        cluster_trace(cluster, "n%u installed %llu", self->id, U(snapshot.index));
        disk_put_snapshot(&self->disk, &snapshot);
        raft_driver_log_reset(&self->disk.log, snapshot.index + 1);
        self->applied = snapshot.index;
        self->hash = bytes_get_u64(snapshot.manifest.data);
        if (snapshot.index > cluster->oracle.last ||
            cluster->oracle.committed[snapshot.index].hash != self->hash) {
            oracle_violation(&cluster->oracle, "snapshot %llu holds another state",
                             U(snapshot.index));
        }
        err = raft_driver_installed(self->driver, cluster->now_ms);
    }
    snapshot_unref(&snapshot);
    called(self, err);
}

static void written(struct node *self)
{
    struct cluster *cluster = self->cluster;
    unsigned count = disk_written(&self->disk);
    unsigned part = count;

    /* An owner may hear of them all at once or one by one. */
    if (prng_percent(&cluster->prng, 20)) {
        part = 1;
    }
    for (unsigned done = 0; done < count; done += part) {
        called(self, raft_driver_appended(self->driver, cluster->now_ms, part));
    }
}

void node_take(struct node *self, const struct event *event)
{
    uint64_t now = self->cluster->now_ms;

    if (event->type == EVENT_RESTART) {
        if (self->driver == NULL && event->generation == self->incarnation) {
            node_start(self);
        }
        return;
    }
    if (self->driver == NULL) {
        return;
    }
    if (event->type == EVENT_MESSAGE) {
        trace_message(self, "recv", event->message);
        check_ack(self, event->message);
        called(self, raft_driver_receive(self->driver, now, event->message));
    } else if (event->type == EVENT_TIMER) {
        if (event->generation == self->timer_generation) {
            self->timer_ms = UINT64_MAX;
            called(self, raft_driver_tick(self->driver, now));
        }
    } else if (event->generation != self->incarnation) {
        return;
    } else if (event->type == EVENT_READ) {
        node_read(self);
    } else if (event->type == EVENT_ADMIN) {
        nemesis_change(self->cluster, self);
    } else if (event->type == EVENT_WRITTEN) {
        written(self);
    } else if (event->type == EVENT_SNAPSHOT) {
        end_snapshot(self);
    } else {
        ASSERT(event->type == EVENT_INSTALL);
        end_install(self);
    }
}

/* ---- what is asked of it ---- */

void node_propose(struct node *self)
{
    struct prng *prng = &self->cluster->prng;
    struct proposal_block payloads[PROPOSALS_MAX];
    unsigned count = (unsigned)prng_range(prng, 1, PROPOSALS_MAX);
    uint64_t first;
    enum err err;

    for (unsigned i = 0; i < count; i++) {
        uint32_t size = (uint32_t)(prng_percent(prng, 90) ? prng_range(prng, 8, 64)
                                                          : prng_range(prng, 65, 1500));

        payloads[i] = (struct proposal_block){.block = entry_block_new(size), .size = size};
        ASSERT(payloads[i].block != NULL);
        memset(payloads[i].block->data + ENTRY_HEADER_SIZE, 0, size);
        bytes_put_u64(payloads[i].block->data + ENTRY_HEADER_SIZE, prng_next(prng));
    }
    err = raft_driver_propose(self->driver, self->cluster->now_ms, payloads, count, &first);
    if (err == ERR_OK) {
        self->cluster->stats->proposals += count;
    } else {
        for (unsigned i = 0; i < count; i++) {
            block_unref(payloads[i].block);
        }
    }
    called(self, err == ERR_NOT_LEADER ? ERR_OK : err);
}

void node_read(struct node *self)
{
    if (raft_driver_role(self->driver) != RAFT_ROLE_LEADER || self->read_count == NODE_READS_MAX) {
        return;
    }
    self->reads[self->read_count++] =
        (struct node_read){.mark = self->cluster->oracle.last, .since_ms = self->cluster->now_ms};
    called(self, ERR_OK);
}

bool node_change(struct node *self, const struct membership *membership)
{
    struct err_info info;
    enum err err = raft_driver_change(self->driver, self->cluster->now_ms, membership, &info);

    if (err == ERR_OK) {
        self->cluster->stats->changes++;
        cluster_trace(self->cluster, "n%u changes the members at %llu", self->id,
                      U(raft_driver_last_index(self->driver)));
    }
    called(self, err == ERR_NOT_LEADER || err == ERR_AGAIN || err == ERR_INVALID ? ERR_OK : err);
    return err == ERR_OK;
}

void node_transfer(struct node *self, uint64_t id)
{
    enum err err = raft_driver_transfer(self->driver, self->cluster->now_ms, id);

    if (err == ERR_OK) {
        self->cluster->stats->transfers++;
        cluster_trace(self->cluster, "n%u transfers to %llu", self->id, U(id));
    }
    called(self,
           err == ERR_NOT_LEADER || err == ERR_AGAIN || err == ERR_INVALID || err == ERR_NOT_FOUND
               ? ERR_OK
               : err);
}
