#include "sim/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log.h"

#define U(value) ((unsigned long long)(value))

enum {
    CHAOS_MS = 60000,
    PROGRESS_MS = CHAOS_MS + 20000, /* until here so many batches must have been answered: */
    PROGRESS_MIN = 20,
    CONVERGED_MS = 60000, /* after that */
    SETTLE_MS = 500,
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
    };
    self->checks = prng_percent(prng, 30);
    self->faults = prng_percent(prng, 40);
    self->wire = prng_percent(prng, 50) ? 100 : 20;
    self->body_max = prng_percent(prng, 50) ? 300 : 2500;
    /* Some live through much, some get far between two misfortunes. */
    self->nemesis_ms = (unsigned)prng_range(prng, 300, prng_percent(prng, 60) ? 3000 : 12000);
    self->damage = prng_percent(prng, 50);
    if ((self->options.broken & SIM_BREAK_NO_SCRUB) == 0) {
        self->replica.scrub_rate = prng_range(prng, 100000, 1000000);
    }
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

static void init(struct sim_cluster *self, const struct sim_options *options,
                 struct sim_stats *stats)
{
    struct prng *prng = &self->prng;

    *self = (struct sim_cluster){.options = *options, .stats = stats};
    prng_init(prng, options->seed);
    events_init(&self->events);
    sim_oracle_init(&self->oracle, options->seed, &self->now_ms);
    init_net(self);
    self->node_count = prng_percent(prng, 70) ? 3 : 5;
    if (options->nodes != 0) {
        self->node_count = options->nodes;
    }
    draw_sizes(self);
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
    self->client_count = (unsigned)prng_range(prng, 2, SIM_CLIENTS_MAX);
    for (unsigned i = 0; i < self->client_count; i++) {
        sim_client_init(self, i);
        events_push(&self->events, 500, EVENT_CLIENT, 0, i, NULL);
    }
    events_push(&self->events, 2500, EVENT_NEMESIS, 0, 0, NULL);
    if (options->reads) {
        events_push(&self->events, 500, EVENT_READ, 0, 0, NULL);
    }
}

static void fini(struct sim_cluster *self)
{
    for (unsigned i = 1; i <= SIM_NODES_MAX; i++) {
        sim_node_fini(&self->nodes[i]);
    }
    for (unsigned i = 0; i < self->client_count; i++) {
        sim_client_fini(&self->clients[i]);
    }
    while (self->requests != NULL) {
        sim_request_free(self->requests);
    }
    events_fini(&self->events);
    sim_oracle_fini(&self->oracle);
}

static void heal(struct sim_cluster *self)
{
    self->healed = true;
    net_heal(&self->net);
    sim_trace(self, "all is healed");
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
    }
}

/* All nodes have applied all that their leader has, and their holes are closed. */
static bool converged(struct sim_cluster *self)
{
    struct sim_node *leader = sim_leader(self);
    struct replica_status first;

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
        if (status.installing || status.holes > 0 || status.applied_index != first.last_index ||
            status.last_index != first.last_index) {
            return false;
        }
    }
    sim_damage_look(self);
    return sim_members_settled(self) && sim_damage_healed(self);
}

/* Reads everything once more. */
static void read_all(struct sim_cluster *self, struct sim_node *node)
{
    struct topic **topics;
    size_t count;

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

static void check_end(struct sim_cluster *self)
{
    struct sim_node *members[SIM_NODES_MAX];
    unsigned count = 0;

    for (unsigned i = 1; i <= self->node_count; i++) {
        if (sim_members_has(self, &self->nodes[i])) {
            members[count++] = &self->nodes[i];
        }
    }
    for (unsigned i = 0; i < count; i++) {
        struct sim_node *node = members[i];

        sim_oracle_state(&self->oracle, node->id, node->applied, replica_fsm(node->replica));
        sim_oracle_final(&self->oracle, node->id, replica_catalog(node->replica));
        read_all(self, node);
    }
    /* What is on the disks opens again, whatever a last power loss takes. */
    for (unsigned i = 0; i < count; i++) {
        sim_node_crash(members[i], true, 1);
        sim_node_start(members[i]);
        read_all(self, members[i]);
    }
}

/* A process that stands still meets what happens when it goes on: what it set itself first, then
 * what comes from elsewhere. */
static bool put_off(struct sim_cluster *self, const struct event *event)
{
    const struct sim_node *node = &self->nodes[event->node];
    bool answer = event->type == EVENT_CLIENT && event->node != 0 &&
                  ((struct sim_request *)(uintptr_t)event->generation)->answered;

    if (event->node == 0 || self->now_ms >= node->paused_ms || answer) {
        return false;
    }
    events_push(&self->events, node->paused_ms + (event->type == EVENT_MESSAGE), event->type,
                event->node, event->generation, event->message);
    return true;
}

static void dispatch(struct sim_cluster *self, const struct event *event)
{
    struct prng *prng = &self->prng;

    if (put_off(self, event)) {
        return;
    }
    if (event->type == EVENT_CLIENT && event->node == 0) {
        struct sim_client *client = &self->clients[event->generation];

        sim_client_act(self, client);
        events_push(&self->events,
                    self->now_ms +
                        prng_range(prng, 1, prng_percent(prng, 3) ? 1000 : client->pace_ms),
                    EVENT_CLIENT, 0, event->generation, NULL);
    } else if (event->type == EVENT_CLIENT) {
        sim_request_take((struct sim_request *)(uintptr_t)event->generation);
    } else if (event->type == EVENT_READ && event->node != 0) {
        sim_read_at(self, &self->nodes[event->node]);
    } else if (event->type == EVENT_READ) {
        sim_read_act(self);
    } else if (event->type == EVENT_NEMESIS) {
        if (!self->healed) {
            sim_nemesis_act(self);
            events_push(&self->events, self->now_ms + prng_range(prng, 20, self->nemesis_ms),
                        EVENT_NEMESIS, 0, 0, NULL);
        }
    } else if (event->type == EVENT_ADMIN) {
        sim_members_act(self);
    } else {
        sim_node_take(&self->nodes[event->node], event);
    }
    if (event->message != NULL) {
        message_fini(event->message);
        free(event->message);
    }
}

/* Whether the history is at its end. */
static bool over(struct sim_cluster *self, uint64_t *mark)
{
    if (!self->healed && self->now_ms >= CHAOS_MS) {
        heal(self);
        *mark = self->oracle.answered;
    }
    if (!self->healed) {
        return false;
    }
    if (!self->closing) {
        if (self->oracle.answered >= *mark + PROGRESS_MIN) {
            self->closing = true;
            self->settled_ms = self->now_ms;
            sim_trace(self, "clients get on; no more batches");
        } else if (self->now_ms >= PROGRESS_MS) {
            trace_nodes(self);
            sim_violation(&self->oracle, "no progress: from answer %llu to %llu in 20 s", U(*mark),
                          U(self->oracle.answered));
        }
        return false;
    }
    if (self->now_ms >= self->settled_ms + CONVERGED_MS) {
        trace_nodes(self);
        sim_violation(&self->oracle, "no convergence");
    }
    return self->now_ms >= self->settled_ms + SETTLE_MS && converged(self);
}

void sim_cluster_run(const struct sim_options *options, struct sim_stats *stats)
{
    struct sim_cluster *self = malloc(sizeof *self);
    struct event event;
    uint64_t mark = 0;
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
        if (over(self, &mark)) {
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
