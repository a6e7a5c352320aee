#include "sim/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log.h"

#define U(value) ((unsigned long long)(value))

enum {
    HOUR_MS = 3600 * 1000,
    CHAOS_MS = 60000,
    PROGRESS_MS = 20000, /* until then, after that, so many batches must have been answered: */
    PROGRESS_MIN = 20,
    CONVERGED_MS = 400000, /* after that: filling is slow */
    SETTLE_MS = 500,
    CLEAN_MS = 20000,        /* … where topics are compacted: tombstones go, too */
    EVENTS_MAX = 100 * 1000, /* at one moment: more is a livelock */
};

void sim_trace(const struct sim_cluster *self, const char *format, ...)
{
    va_list args;

    if (!self->options.trace) {
        return;
    }
    (void)printf("%8llu ", U(self->now_ms));
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
}

struct sim_node *sim_leader(struct sim_cluster *self)
{
    struct sim_node *best = NULL;
    uint64_t best_term = 0;

    for (unsigned i = 1; i <= self->node_count; i++) {
        struct sim_node *node = &self->nodes[i];
        const struct raft_driver *driver =
            node->replica != NULL ? replica_driver(node->replica) : NULL;

        if (driver != NULL && raft_driver_role(driver) == RAFT_ROLE_LEADER &&
            raft_driver_term(driver) > best_term) {
            best = node;
            best_term = raft_driver_term(driver);
        }
    }
    return best;
}

/* What the seed decides for all nodes. */
static void draw_sizes(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;

    self->replica = (struct replica_options){
        .dir = "/",
        .heartbeat_ms = 50,
        .election_ms = prng_percent(prng, 50) ? 300 : 600,
        .snapshot_size = (uint64_t)8192 << prng_range(prng, 0, 3),
        .trailing_size = prng_range(prng, 1, 16384),
        .trailing_min = prng_percent(prng, 60) ? 1 : 0,
        .entry_size_max = prng_percent(prng, 30) ? 4096 : 65536,
        .inflight_size_max = prng_percent(prng, 20) ? 16384 : 262144,
        .journal_segment_size = (uint64_t)65536 << prng_range(prng, 0, 2),
        .segment_size_max = (uint64_t)4096 << prng_range(prng, 0, 2),
        .no_direct = prng_percent(prng, 30),
        .fill_rate = prng_percent(prng, 50) ? 0 : prng_range(prng, 50000, 500000),
        .fill_chunk_size = prng_percent(prng, 30) ? 0 : prng_range(prng, 1, 20000),
        .disk_reserve = prng_percent(prng, 70) ? (uint64_t)131072 << prng_range(prng, 0, 3) : 0,
        .rules_off = self->options.rules_off,
    };
    self->checks = prng_percent(prng, 30);
    self->faults = prng_percent(prng, 40);
    self->wire = prng_percent(prng, 50) ? 100 : 20;
    self->body_max = prng_percent(prng, 50) ? 300 : 2500;
    /* Some live through much, some get far between two misfortunes. */
    self->nemesis_ms = (unsigned)prng_range(prng, 300, prng_percent(prng, 60) ? 3000 : 12000);
    self->damage = prng_percent(prng, 75);
    if ((self->options.broken & SIM_BREAK_NO_SCRUB) == 0) {
        self->replica.scrub_rate = prng_range(prng, 100000, 1000000);
    }
    /* Not drawn: a seed is what it was before there was retention. */
    self->retention = (self->options.broken & SIM_BREAK_WALL_AGE) != 0 ||
                      (self->options.hours == 0 && prng_mix(self->oracle.seed) % 2 == 0);
    self->replica.retention_interval_ms = 250;
    self->compaction = prng_mix(self->oracle.seed + 77) % 2 == 0;
    self->replica.compact_rate = 200000;
    if (prng_mix(self->oracle.seed + 78) % 2 == 0) {
        /* Less than the entries between two snapshots, in some: all sizes of them meet the bound.
         */
        self->replica.inflight_size_max = 16384;
        self->replica.entries_size_max = (size_t)24 << (10 + prng_mix(self->oracle.seed + 79) % 3);
    }
    self->replica.retention_by_wall_clock = (self->options.broken & SIM_BREAK_WALL_AGE) != 0;
    self->lies = sim_may(self, SIM_FAULT_LIE) && prng_percent(prng, 20)
                     ? (unsigned)prng_range(prng, 1, 60)
                     : 0;
    self->open_faults = prng_percent(prng, 50) ? 5 : 50;
}

/* Mostly as by TCP. */
static void init_net(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;
    bool fifo = !sim_may(self, SIM_FAULT_REORDER) || prng_percent(prng, 70);
    struct net *net = &self->net;

    net_init(net, prng, fifo, prng_percent(prng, 20) && sim_may(self, SIM_FAULT_DELAY));
    net->prompt = !sim_may(self, SIM_FAULT_DELAY);
    net->faults = &self->stats->faults;
    net->loss = sim_may(self, SIM_FAULT_LOSS) ? net->loss / 3 : 0;
    net->duplicate = sim_may(self, SIM_FAULT_DUPLICATE) ? net->duplicate : 0;
}

/* Faults for some time. */
static void begin_chaos(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;

    self->healed = self->closing = false;
    self->chaos_ms = self->now_ms + CHAOS_MS;
    if (self->options.hours > 0) {
        self->chaos_ms = self->now_ms + prng_range(prng, 60, 420) * 1000;
        self->chaos_ms = self->chaos_ms > self->end_ms ? self->end_ms : self->chaos_ms;
        self->nemesis_ms = (unsigned)prng_range(prng, 3000, prng_percent(prng, 60) ? 9000 : 20000);
    }
    events_push(&self->events, self->now_ms + 2500, EVENT_NEMESIS, 0, 0, NULL);
}

/* Longer histories are thinner, and their topics are deleted often enough to stay small. */
static void draw_density(struct sim_cluster *self)
{
    struct prng *prng = &self->prng;

    self->end_ms = CHAOS_MS;
    self->pace_ms = 120;
    self->delete_permille = 3;
    if (self->options.hours > 0) {
        self->end_ms = (uint64_t)self->options.hours * HOUR_MS;
        self->pace_ms = (unsigned)prng_range(prng, 3000, 8000);
        self->delete_permille = 60;
        self->body_max = 300;
        self->replica.snapshot_size = (uint64_t)65536 << prng_range(prng, 0, 2);
        self->replica.segment_size_max = (uint64_t)16384 << prng_range(prng, 0, 2);
        self->replica.fill_chunk_size = prng_range(prng, 2000, 20000);
        if (self->replica.scrub_rate > 0) {
            self->replica.scrub_rate = prng_range(prng, 10000, 40000);
        }
        self->replica.heartbeat_ms = 100;
        self->replica.election_ms = prng_percent(prng, 50) ? 600 : 1000;
        self->checks = false;
    }
}

static bool on_violation(void *arg)
{
    struct sim_cluster *self = arg;
    bool found;

    sim_clients_abort(self);
    found = sim_recorder_judge(&self->recorder, false) != 0;
    if (!found) {
        (void)fputs("  checker: nothing wrong so far in what clients were told\n", stderr);
    }
    sim_recorder_fini(&self->recorder);
    return found;
}

/* What was asked for is what a bound says: the checker is told when it is first seen. */
static void on_trimmed(void *arg, unsigned name, uint64_t topic_id, uint64_t start)
{
    struct sim_cluster *self = arg;
    char topic[SIM_TOPIC_SIZE_MAX];
    struct history_op op = {.kind = HISTORY_EVENT,
                            .event = HISTORY_EVENT_TRIMMED,
                            .topic = topic,
                            .offset = start,
                            .outcome = HISTORY_OK};

    sim_topic_text(name, topic_id, topic);
    op.invoke_us = sim_recorder_us(&self->recorder);
    sim_recorder_add(&self->recorder, &op);
}

/* From now on records may be missing. */
static void on_compacted(void *arg, unsigned name, uint64_t topic_id)
{
    struct sim_cluster *self = arg;
    char topic[SIM_TOPIC_SIZE_MAX];
    struct history_op op = {.kind = HISTORY_EVENT,
                            .event = HISTORY_EVENT_COMPACTED,
                            .topic = topic,
                            .outcome = HISTORY_OK};

    sim_topic_text(name, topic_id, topic);
    op.invoke_us = sim_recorder_us(&self->recorder);
    sim_recorder_add(&self->recorder, &op);
}

static bool is_judged(void *arg)
{
    (void)arg;
    return true;
}

static void init(struct sim_cluster *self, const struct sim_options *options,
                 struct sim_stats *stats)
{
    struct prng *prng = &self->prng;

    *self = (struct sim_cluster){.options = *options, .stats = stats};
    prng_init(prng, options->seed);
    events_init(&self->events);
    sim_oracle_init(&self->oracle, options->seed, &self->now_ms);
    self->oracle.off = options->oracle_off;
    self->oracle.violated = on_violation;
    self->oracle.trimmed = on_trimmed;
    self->oracle.compacted = on_compacted;
    self->oracle.arg = self;
    sim_recorder_init(&self->recorder, &self->now_ms, options->history, options->seed);
    init_net(self);
    self->node_count = prng_percent(prng, 70) ? 3 : 5;
    if (options->nodes != 0) {
        self->node_count = options->nodes;
    }
    draw_sizes(self);
    draw_density(self);
    for (unsigned i = 1; i <= SIM_NODES_MAX; i++) {
        sim_node_init(&self->nodes[i], self, i);
    }
    for (unsigned i = 1; i <= self->node_count; i++) {
        sim_node_renew(&self->nodes[i], i);
        if (membership_add(&self->members, i, self->nodes[i].address, MEMBER_VOTER) != ERR_OK) {
            ASSERT(false);
        }
    }
    for (unsigned i = 1; i <= self->node_count; i++) {
        sim_node_start(&self->nodes[i]);
    }
    sim_members_init(self);
    sim_clients_init(self);
    begin_chaos(self);
}

static void fini(struct sim_cluster *self)
{
    for (unsigned i = 1; i <= SIM_NODES_MAX; i++) {
        sim_node_fini(&self->nodes[i]);
    }
    sim_clients_fini(self);
    while (self->requests != NULL) {
        sim_request_free(self->requests);
    }
    while (self->answers != NULL) {
        sim_answer_free(self->answers);
    }
    events_fini(&self->events);
    sim_oracle_fini(&self->oracle);
    sim_recorder_fini(&self->recorder);
    free(self->pending);
}

static void heal(struct sim_cluster *self)
{
    self->healed = true;
    self->healed_ms = self->now_ms;
    self->answered = self->oracle.answered;
    net_heal(&self->net);
    sim_trace(self, "all is healed");
    sim_recorder_event(&self->recorder, HISTORY_EVENT_HEALED, NULL);
    for (unsigned i = 1; i <= self->node_count; i++) {
        struct sim_node *node = &self->nodes[i];

        node->stalled = false;
        node->disk.plan = SIM_DISK_FINE;
        sim_disk_fill(&node->disk, UINT64_MAX);
        sim_wall_heal(&node->wall, self->now_ms);
        if (node->stopped) {
            continue;
        }
        if (node->replica == NULL) {
            sim_node_start(node);
        } else if (node->disk.struck || (node->harm & ~(unsigned)SIM_HARM_FILES) != 0) {
            sim_node_crash(node, true, 1); /* What a call that failed left, shows now. */
        }
    }
}

/* How far compacted topics are clean. */
static void trace_topics(const struct sim_node *node)
{
    struct topic **topics;
    size_t count;

    if (catalog_list(replica_catalog(node->replica), &topics, &count) != ERR_OK) {
        ASSERT(false);
    }
    for (size_t i = 0; i < count; i++) {
        const struct topic *topic = topics[i];

        if (topic->clean.clean_to > 0) {
            (void)fprintf(stderr,
                          "  %s: end %llu clean_to %llu tombstones_below %llu, here cleaned_to "
                          "%llu\n",
                          topic->name, U(topic->end), U(topic->clean.clean_to),
                          U(topic->clean.tombstones_below), U(atomic_load(&topic->cleaned_to)));
        }
        topic_unref(topics[i]);
    }
    free(topics);
}

static void trace_nodes(struct sim_cluster *self)
{
    for (unsigned i = 1; i <= self->node_count; i++) {
        struct replica_status status;

        if (self->nodes[i].replica == NULL) {
            (void)fprintf(stderr, "n%u is down\n", i);
            continue;
        }
        replica_status(self->nodes[i].replica, &status);
        (void)fprintf(stderr,
                      "n%u role %d term %llu leader %llu commit %llu applied %llu first %llu last "
                      "%llu snapshot %llu installing %d holes %llu missing %llu\n",
                      i, (int)status.role, U(status.term), U(status.leader_id),
                      U(status.commit_index), U(status.applied_index), U(status.first_index),
                      U(status.last_index), U(status.snapshot_index), status.installing,
                      U(status.holes), U(status.missing));
        trace_topics(&self->nodes[i]);
    }
}

/* What is missing becomes less: it may take its time. */
static void note_missing(struct sim_cluster *self, uint64_t missing)
{
    if (missing < self->missing) {
        self->settled_ms = self->now_ms;
    }
    self->missing = missing;
}

/* Nothing is left that the node's cleaner could do about its topics. */
static bool is_clean(const struct sim_node *node)
{
    struct fsm *fsm = replica_fsm(node->replica);
    struct topic **topics;
    bool clean = true;
    size_t count;

    if (catalog_list(replica_catalog(node->replica), &topics, &count) != ERR_OK) {
        ASSERT(false);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t cleaned_to = atomic_load(&topics[i]->cleaned_to);
        struct fsm_group group;

        if (topics[i]->settings.compact && cleaned_to < topics[i]->clean.clean_to) {
            clean = clean && fsm_next_group(fsm, topics[i], cleaned_to, topics[i]->clean.clean_to,
                                            &group) == ERR_AGAIN;
        }
        topic_unref(topics[i]);
    }
    free(topics);
    return clean;
}

/* All nodes have applied all that their leader has, cleaned what they may, and their holes are
 * closed. */
static bool converged(struct sim_cluster *self)
{
    struct sim_node *leader = sim_leader(self);
    struct replica_status first;
    uint64_t missing = 0;
    bool equal = true;

    if (leader == NULL) {
        return false;
    }
    replica_status(leader->replica, &first);
    for (unsigned i = 1; i <= self->node_count; i++) {
        struct replica_status status;

        if (!sim_members_has(self, &self->nodes[i])) {
            continue;
        }
        if (self->nodes[i].replica == NULL) {
            return false;
        }
        replica_status(self->nodes[i].replica, &status);
        missing += status.missing;
        equal = equal && is_clean(&self->nodes[i]) && !status.installing && status.holes == 0 &&
                status.applied_index == first.last_index && status.last_index == first.last_index;
    }
    note_missing(self, missing);
    if (!equal) {
        return false;
    }
    sim_damage_look(self);
    return sim_members_settled(self) && sim_damage_healed(self);
}

/* Reads everything once more. */
static void read_all(struct sim_cluster *self, struct sim_node *node)
{
    struct topic **topics;
    size_t count;

    if (node->replica == NULL) {
        return; /* Damage, refused. */
    }
    sim_seen_fini(&node->seen);
    node->seen.may_be_damaged = (node->harm & SIM_HARM_FILES) != 0;
    sim_oracle_read(&self->oracle, node->id, replica_catalog(node->replica), &node->seen);
    replica_check(node->replica);
    if (!self->checks || node->harm != 0) {
        return;
    }
    if (catalog_list(replica_catalog(node->replica), &topics, &count) != ERR_OK) {
        ASSERT(false);
    }
    for (size_t i = 0; i < count; i++) {
        log_check(topics[i]->log);
        topic_unref(topics[i]);
    }
    free(topics);
}

/* Those that belong to the cluster. */
static unsigned list_members(struct sim_cluster *self, struct sim_node *members[SIM_NODES_MAX])
{
    unsigned count = 0;

    for (unsigned i = 1; i <= self->node_count; i++) {
        if (sim_members_has(self, &self->nodes[i])) {
            members[count++] = &self->nodes[i];
        }
    }
    return count;
}

/* All have the same, and all that was ever seen. */
static void check_equal(struct sim_cluster *self)
{
    struct sim_node *members[SIM_NODES_MAX];
    unsigned count = list_members(self, members);

    for (unsigned i = 0; i < count; i++) {
        struct sim_node *node = members[i];

        sim_oracle_state(&self->oracle, node->id, node->applied, replica_fsm(node->replica));
        sim_oracle_final(&self->oracle, node->id, replica_catalog(node->replica));
    }
}

/* At the end of the history. */
static void check_end(struct sim_cluster *self)
{
    struct sim_node *members[SIM_NODES_MAX];
    unsigned count = list_members(self, members);

    check_equal(self);
    sim_session_close(self);
    sim_recorder_event(&self->recorder, HISTORY_EVENT_SETTLED, NULL);
    for (unsigned i = 0; i < count; i++) {
        sim_serve_dump(members[i]);
        read_all(self, members[i]);
    }
    /* What is on the disks opens again, whatever a last power loss takes. */
    for (unsigned i = 0; i < count; i++) {
        sim_node_crash(members[i], true, 1);
        sim_node_start(members[i]);
        read_all(self, members[i]);
    }
    if (sim_recorder_judge(&self->recorder, true) != 0) {
        self->oracle.violated = is_judged;
        sim_violation(&self->oracle, "what clients were told cannot be");
    }
}

/* A process that stands still meets what happens when it goes on: what it set itself first, then
 * what comes from elsewhere. */
static bool put_off(struct sim_cluster *self, const struct event *event)
{
    const struct sim_node *node = &self->nodes[event->node];

    if (event->node == 0 || self->now_ms >= node->paused_ms) {
        return false;
    }
    events_push(&self->events, node->paused_ms + (event->type == EVENT_MESSAGE), event->type,
                event->node, event->generation, event->message);
    return true;
}

static void on_client(struct sim_cluster *self, unsigned number)
{
    struct sim_client *client = &self->clients[number];
    uint64_t pause_ms = prng_percent(&self->prng, 3) ? 1000 : client->pace_ms;

    sim_client_act(self, client);
    /* The others get on soon when all is healed. */
    pause_ms = self->healed && pause_ms > 100 ? 100 : pause_ms;
    events_push(&self->events, self->now_ms + prng_range(&self->prng, 1, pause_ms), EVENT_CLIENT, 0,
                number, NULL);
}

static void on_answer(struct sim_answer *answer)
{
    if (answer->to.is_node) {
        sim_front_answered(answer);
    } else {
        sim_client_take(answer);
    }
    sim_answer_free(answer);
}

static void on_nemesis(struct sim_cluster *self)
{
    if (!self->healed) {
        sim_nemesis_act(self);
        events_push(&self->events, self->now_ms + prng_range(&self->prng, 20, self->nemesis_ms),
                    EVENT_NEMESIS, 0, 0, NULL);
    }
}

static void dispatch(struct sim_cluster *self, const struct event *event)
{
    if (put_off(self, event)) {
        return;
    }
    switch ((int)event->type) {
    case EVENT_CLIENT:
        on_client(self, (unsigned)event->generation);
        break;
    case EVENT_REQUEST:
        sim_front_arrive((struct sim_request *)(uintptr_t)event->generation);
        break;
    case EVENT_ANSWER:
        on_answer((struct sim_answer *)(uintptr_t)event->generation);
        break;
    case EVENT_NEMESIS:
        on_nemesis(self);
        break;
    case EVENT_ADMIN:
        sim_members_act(self);
        break;
    default:
        sim_node_take(&self->nodes[event->node], event);
        break;
    }
    if (event->message != NULL) {
        message_fini(event->message);
        free(event->message);
    }
}

/* Clients must get on, then all nodes become equal. Whether they are. */
static bool is_whole(struct sim_cluster *self)
{
    if (!self->closing) {
        if (self->oracle.answered >= self->answered + PROGRESS_MIN) {
            self->closing = true;
            self->settled_ms = self->closed_ms = self->now_ms;
            sim_trace(self, "clients get on; no more batches");
        } else if (self->now_ms >= self->healed_ms + PROGRESS_MS) {
            trace_nodes(self);
            sim_violation(&self->oracle, "no progress: from answer %llu to %llu in 20 s",
                          U(self->answered), U(self->oracle.answered));
        }
        return false;
    }
    if (self->now_ms >= self->settled_ms + CONVERGED_MS) {
        trace_nodes(self);
        sim_violation(&self->oracle, "no convergence");
    }
    return self->now_ms >= self->closed_ms + (self->compaction ? CLEAN_MS : SETTLE_MS) &&
           converged(self) && sim_clients_idle(self);
}

/* Whether the history is at its end. */
static bool over(struct sim_cluster *self)
{
    if (!self->healed) {
        if (self->now_ms >= self->chaos_ms) {
            heal(self);
        }
        return false;
    }
    if (!is_whole(self)) {
        return false;
    }
    self->stats->cycles++;
    if (self->now_ms >= self->end_ms) {
        return true;
    }
    check_equal(self);
    init_net(self);
    begin_chaos(self);
    return false;
}

void sim_cluster_run(const struct sim_options *options, struct sim_stats *stats)
{
    struct sim_cluster *self = malloc(sizeof *self);
    struct event event;
    unsigned at_once = 0;

    ASSERT(self != NULL);
    init(self, options, stats);
    while (events_pop(&self->events, &event)) {
        ASSERT(event.time_ms >= self->now_ms);
        at_once = event.time_ms > self->now_ms ? 0 : at_once + 1;
        if (at_once > EVENTS_MAX) {
            sim_violation(&self->oracle, "time stands still");
        }
        self->now_ms = event.time_ms;
        dispatch(self, &event);
        if (over(self)) {
            break;
        }
    }
    check_end(self);
    stats->seeds++;
    stats->answered += self->oracle.answered;
    stats->entries += self->oracle.applied_last;
    stats->virtual_ms += self->now_ms;
    fini(self);
    free(self);
}
