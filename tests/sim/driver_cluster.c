#include "sim/driver_cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/driver_heap.h"

#define U(value) ((unsigned long long)(value))

enum {
    CHAOS_MS = 60000,
    DEAF_MS = CHAOS_MS + 20000,     /* with `deaf`: a node is told to lead and hears nothing more */
    SETTLED_MS = CHAOS_MS + 30000,  /* from here on there must be progress */
    PROGRESS_MS = CHAOS_MS + 40000, /* until here */
    CLOSING_MS = CHAOS_MS + 48000,  /* then all must converge */
    CONVERGED_MS = CLOSING_MS + 100000,
    PROGRESS_MIN = 20,       /* entries */
    EVENTS_MAX = 200 * 1000, /* at one moment: more is a livelock */
};

void cluster_trace(const struct cluster *self, const char *format, ...)
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

struct node *cluster_leader(struct cluster *self)
{
    struct node *best = NULL;

    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        struct node *node = &self->nodes[i];

        if (node->driver != NULL && raft_driver_role(node->driver) == RAFT_ROLE_LEADER &&
            (best == NULL || raft_driver_term(node->driver) > raft_driver_term(best->driver))) {
            best = node;
        }
    }
    return best;
}

/* What nodes that begin a cluster hold: term 1 and the first members. */
static void bootstrap(struct cluster *self, unsigned voters)
{
    struct membership membership = {.count = 0};
    struct block *block;
    struct entry entry;
    size_t size;

    for (unsigned i = 1; i <= voters; i++) {
        char address[16];

        (void)snprintf(address, sizeof address, "node%u:1", i);
        if (membership_add(&membership, i, address, MEMBER_VOTER) != ERR_OK) {
            ASSERT(false);
        }
    }
    size = membership_encoded_size(&membership);
    block = entry_block_new((uint32_t)size);
    ASSERT(block != NULL);
    membership_encode(&membership, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, (uint32_t)size, 1, 1, ENTRY_CHANGE, &entry);
    for (unsigned i = 1; i <= voters; i++) {
        self->nodes[i].disk.term = 1;
        if (raft_driver_log_push(&self->nodes[i].disk.log, &entry, 1) != ERR_OK) {
            ASSERT(false);
        }
    }
    entry_unref(&entry);
}

static void init(struct cluster *self, const struct cluster_options *options,
                 struct cluster_stats *stats)
{
    struct prng *prng = &self->prng;
    const size_t message_sizes[] = {200, 1000, 1024 * 1024, 1024 * 1024, 1024 * 1024};
    unsigned voters;

    *self = (struct cluster){.options = *options, .stats = stats};
    heap_count();
    prng_init(prng, options->seed);
    events_init(&self->events);
    oracle_init(&self->oracle, options->seed, &self->now_ms);
    self->oracle.any_applier = options->lazy || (options->rules_off & (1u << 9)) != 0;
    net_init(&self->net, prng, !options->reorder, options->long_stalls);
    voters = prng_percent(prng, 10) ? 1 : prng_percent(prng, 60) ? 3 : 5;
    self->election_ms = prng_percent(prng, 90) ? 1000 : 400;
    self->heartbeat_ms = self->election_ms / 10;
    self->message_size_max = message_sizes[prng_range(prng, 0, 4)];
    /* Half of the time few entries are kept behind a snapshot, fewer than R13 would have it. */
    self->trailing_min = prng_percent(prng, 50) ? 1 : 0;
    self->trailing_size = prng_range(prng, 1, 2000);
    self->snapshot_interval = (unsigned)prng_range(prng, 15, 60);
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        node_init(&self->nodes[i], self, i);
    }
    bootstrap(self, voters);
    for (unsigned i = 1; i <= voters; i++) {
        node_start(&self->nodes[i]);
    }
    events_push(&self->events, 1500, EVENT_CLIENT, 0, 0, NULL);
    events_push(&self->events, 2500, EVENT_NEMESIS, 0, 0, NULL);
}

/* Ends all nodes; what libraft was given is then given back (R12). */
static void finish(struct cluster *self)
{
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        node_fini(&self->nodes[i]);
    }
    if (heap_used() != 0) {
        oracle_violation(&self->oracle, "%zu allocations of libraft are never freed", heap_used());
    }
    events_fini(&self->events);
    oracle_fini(&self->oracle);
}

/* Nobody's messages reach it, its own arrive, until that is over. */
static void deafen(struct cluster *self, unsigned id, bool deaf)
{
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        self->net.blocked[i][id] = deaf;
    }
    self->deaf = id;
    cluster_trace(self, "n%u %s", id, deaf ? "is deaf" : "hears again");
}

/* As a process that is stopped, and goes on as if nothing had been. */
static void pause(struct cluster *self, struct node *node)
{
    if (node != NULL && node->driver != NULL && self->now_ms >= node->paused_ms) {
        node->paused_ms = self->now_ms + prng_range(&self->prng, 200, 4000);
        cluster_trace(self, "n%u pauses until %llu", node->id, U(node->paused_ms));
        events_push(&self->events, node->paused_ms, EVENT_READ, node->id, node->incarnation, NULL);
    }
}

/* From every node that thinks it leads, mostly. */
static void read_everywhere(struct cluster *self)
{
    if (!self->healed && prng_percent(&self->prng, 2)) {
        pause(self, prng_percent(&self->prng, 80)
                        ? cluster_leader(self)
                        : &self->nodes[prng_range(&self->prng, 1, CLUSTER_NODES)]);
    }
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        struct node *node = &self->nodes[i];

        if (node->driver != NULL && self->now_ms >= node->paused_ms &&
            prng_percent(&self->prng, 70)) {
            node_read(node);
        }
    }
}

/* Whoever is told to lead will be deaf, if the others are a majority without it. */
static void transfer_to_the_deaf(struct cluster *self)
{
    struct node *leader = cluster_leader(self);
    struct membership membership;
    unsigned voters = 0;

    if (leader == NULL) {
        return;
    }
    raft_driver_membership(leader->driver, &membership);
    for (unsigned i = 0; i < membership.count; i++) {
        voters += membership.members[i].role == MEMBER_VOTER ? 1 : 0;
    }
    if (voters >= 3) {
        node_transfer(leader, 0);
    }
}

static void client(struct cluster *self)
{
    struct prng *prng = &self->prng;
    struct node *node = &self->nodes[prng_range(prng, 1, CLUSTER_NODES)];

    if (prng_percent(prng, 70)) {
        node = cluster_leader(self);
    }
    if (node != NULL && node->driver != NULL && !self->closing && self->now_ms >= node->paused_ms) {
        node_propose(node);
    }
    if (self->options.deaf && self->deaf == 0 && self->now_ms >= DEAF_MS && !self->closing) {
        transfer_to_the_deaf(self);
    }
    if (self->options.reads) {
        read_everywhere(self);
    }
    events_push(&self->events, self->now_ms + prng_range(prng, 10, 200), EVENT_CLIENT, 0, 0, NULL);
}

static void heal(struct cluster *self)
{
    self->healed = true;
    net_heal(&self->net);
    cluster_trace(self, "all is healed");
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        self->nodes[i].stalled = false;
        if (self->nodes[i].used && self->nodes[i].driver == NULL) {
            node_start(&self->nodes[i]);
        }
    }
}

static void trace_nodes(struct cluster *self)
{
    for (unsigned i = 1; i <= CLUSTER_NODES; i++) {
        const struct raft_driver *driver = self->nodes[i].driver;
        struct membership membership;
        char text[256] = "";
        size_t size = 0;

        if (driver == NULL) {
            continue;
        }
        raft_driver_membership(driver, &membership);
        for (unsigned k = 0; k < membership.count; k++) {
            size +=
                (size_t)snprintf(text + size, sizeof text - size, " %llu%c",
                                 U(membership.members[k].id), "svp"[membership.members[k].role]);
        }
        cluster_trace(self,
                      "n%u role %u term %llu applied %llu commit %llu last %llu stored %llu "
                      "installing %d members%s",
                      i, (unsigned)raft_driver_role(driver), U(raft_driver_term(driver)),
                      U(raft_driver_applied_index(driver)), U(raft_driver_commit_index(driver)),
                      U(raft_driver_last_index(driver)), U(raft_driver_stored_index(driver)),
                      raft_driver_installing(driver), text);
    }
}

/* The first member that has not applied everything; 0 when all have, and there is a leader. */
static unsigned straggler(struct cluster *self)
{
    struct node *leader = cluster_leader(self);
    struct membership membership;

    if (leader == NULL) {
        return CLUSTER_NODES + 1;
    }
    raft_driver_membership(leader->driver, &membership);
    for (unsigned i = 0; i < membership.count; i++) {
        const struct member *member = &membership.members[i];
        const struct node *node = &self->nodes[member->id];

        if (member->role != MEMBER_SPARE && node->driver != NULL &&
            node->applied < raft_driver_last_index(leader->driver)) {
            return node->id;
        }
    }
    return 0;
}

static void dispatch(struct cluster *self, const struct event *event)
{
    if (event->node != 0 && self->now_ms < self->nodes[event->node].paused_ms) {
        /* Events of one time keep their order. */
        events_push(&self->events, self->nodes[event->node].paused_ms, event->type, event->node,
                    event->generation, event->message);
        return;
    }
    if (event->type == EVENT_CLIENT) {
        client(self);
    } else if (event->type == EVENT_NEMESIS) {
        if (!self->healed) {
            nemesis_act(self);
            events_push(&self->events, self->now_ms + prng_range(&self->prng, 20, 900),
                        EVENT_NEMESIS, 0, 0, NULL);
        }
    } else if (event->type != EVENT_MESSAGE ||
               !self->net.blocked[event->message->from][event->message->to]) {
        bool told = event->type == EVENT_MESSAGE && event->message->type == MESSAGE_TIMEOUT_NOW;

        node_take(&self->nodes[event->node], event);
        if (told && self->options.deaf && self->deaf == 0 && self->now_ms >= DEAF_MS) {
            deafen(self, event->node, true);
        }
    }
    if (event->message != NULL) {
        message_fini(event->message);
        free(event->message);
    }
}

/* Whether the history is at its end. */
static bool over(struct cluster *self, uint64_t *mark)
{
    unsigned id;

    if (!self->healed && self->now_ms >= CHAOS_MS) {
        heal(self);
    }
    if (*mark == 0 && self->now_ms >= SETTLED_MS) {
        *mark = self->oracle.last;
    }
    if (!self->closing && self->now_ms >= PROGRESS_MS) {
        self->closing = true;
        if (self->deaf != 0) {
            deafen(self, self->deaf, false);
        }
        if (self->oracle.last < *mark + PROGRESS_MIN) {
            trace_nodes(self);
            oracle_violation(&self->oracle, "no progress: from entry %llu to %llu in 10 s",
                             U(*mark), U(self->oracle.last));
        }
    }
    if (self->now_ms < CLOSING_MS) {
        return false;
    }
    id = straggler(self);
    if (id != 0 && self->now_ms >= CONVERGED_MS) {
        trace_nodes(self);
        oracle_violation(&self->oracle, "no convergence: node %u lags (8: no leader)", id);
    }
    return id == 0;
}

void cluster_run(const struct cluster_options *options, struct cluster_stats *stats)
{
    struct cluster *self = malloc(sizeof *self);
    struct event event;
    uint64_t mark = 0;
    unsigned at_once = 0;

    ASSERT(self != NULL);
    init(self, options, stats);
    while (events_pop(&self->events, &event)) {
        ASSERT(event.time_ms >= self->now_ms);
        at_once = event.time_ms > self->now_ms ? 0 : at_once + 1;
        if (at_once > EVENTS_MAX) {
            oracle_violation(&self->oracle, "time stands still");
        }
        self->now_ms = event.time_ms;
        dispatch(self, &event);
        if (over(self, &mark)) {
            break;
        }
    }
    stats->seeds++;
    stats->committed += self->oracle.last;
    stats->virtual_ms += self->now_ms;
    finish(self);
    free(self);
}
