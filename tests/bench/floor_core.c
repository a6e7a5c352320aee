#include "floor_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "raft_fsm/membership.h"
#include "raft_fsm/raft_driver.h"

enum {
    NODES = 3,
    MESSAGES_MAX = 4096, /* under way; a proposal makes a few for each peer */
    COMPACT_ENTRIES = 4096,
    TRAILING_SIZE = 1 << 20,
    MANIFEST_SIZE = 8,
    ELECTION_TRIES = 10000,
};

struct core {
    struct cores *all;
    struct raft_driver *driver;
    uint64_t id;
    uint64_t applied;
    uint64_t compacted;
    unsigned appends; /* durable already; the driver has to hear of it */
};

struct cores {
    struct core nodes[NODES];
    struct message *messages; /* a ring, oldest first: nothing overtakes */
    size_t first;
    size_t count;
    uint64_t now_ms;
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

/* What fails here is a fault of ours, or there is no memory. */
static void must(enum err err, const char *what)
{
    if (err != ERR_OK) {
        (void)fprintf(stderr, "floor: %s: %s\n", what, err_name(err)); /* Last words. */
        exit(1);
    }
}

/* ---- what a driver asks for ---- */

static enum err host_save_ballot(void *arg, uint64_t term, uint64_t vote)
{
    (void)arg;
    (void)term;
    (void)vote;
    return ERR_OK;
}

static void host_append(void *arg, const struct entry *entries, unsigned count)
{
    struct core *self = arg;

    ASSERT(count > 0);
    ASSERT(entries[0].index > 0);
    self->appends++;
}

static void host_send(void *arg, const struct message *message)
{
    struct cores *all = ((struct core *)arg)->all;
    struct message *copy = &all->messages[(all->first + all->count) % MESSAGES_MAX];

    ASSERT(message->to >= 1 && message->to <= NODES);
    ASSERT(all->count < MESSAGES_MAX);
    must(message_copy(message, copy), "a message");
    all->count++;
}

static enum err host_apply(void *arg, const struct entry *entry)
{
    struct core *self = arg;

    ASSERT(entry->index == self->applied + 1);
    self->applied = entry->index;
    return ERR_OK;
}

static void host_install(void *arg, const struct snapshot *snapshot)
{
    (void)arg;
    (void)snapshot;
    ASSERT(!"nobody is so far behind that a snapshot is sent");
}

static void host_changed(void *arg)
{
    (void)arg;
}

/* ---- start and end ---- */

static struct entry first_entry(void)
{
    struct membership membership = {0};
    struct entry entry;
    struct block *block;
    uint32_t size;

    for (unsigned i = 1; i <= NODES; i++) {
        char address[16];

        (void)snprintf(address, sizeof address, "core%u:1", i);
        must(membership_add(&membership, i, address, MEMBER_VOTER), "members");
    }
    size = (uint32_t)membership_encoded_size(&membership);
    block = entry_block_new(size);
    ASSERT(block != NULL);
    membership_encode(&membership, block->data + ENTRY_HEADER_SIZE);
    entry_seal(block, size, 1, 1, ENTRY_CHANGE, &entry);
    return entry;
}

static void start(struct core *self, struct cores *all, uint64_t id, const struct entry *first)
{
    struct raft_driver_options options = {.id = id,
                                          .address = "",
                                          .seed = id,
                                          .inflight_max = 2 * FLOOR_CORE_PROPOSE_MAX,
                                          .trailing_size = TRAILING_SIZE};
    struct raft_driver_host host = {.arg = self,
                                    .save_ballot = host_save_ballot,
                                    .append = host_append,
                                    .send = host_send,
                                    .apply = host_apply,
                                    .install = host_install,
                                    .changed = host_changed};
    struct raft_driver_disk disk = {.term = 1, .first_index = 1, .entries = first, .count = 1};
    struct err_info info;
    char address[16];
    bool reset;

    (void)snprintf(address, sizeof address, "core%llu:1", (unsigned long long)id);
    options.address = address;
    *self = (struct core){.all = all, .id = id};
    must(raft_driver_new(&options, &host, &self->driver), "a driver");
    must(raft_driver_start(self->driver, all->now_ms, &disk, &reset, &info), "starting a driver");
    ASSERT(!reset);
}

static void init(struct cores *self)
{
    struct entry first = first_entry();

    *self = (struct cores){.messages = calloc(MESSAGES_MAX, sizeof *self->messages)};
    ASSERT(self->messages != NULL);
    for (unsigned i = 0; i < NODES; i++) {
        start(&self->nodes[i], self, i + 1, &first);
    }
    entry_unref(&first);
}

static void fini(struct cores *self)
{
    for (; self->count > 0; self->count--) {
        message_fini(&self->messages[self->first]);
        self->first = (self->first + 1) % MESSAGES_MAX;
    }
    for (unsigned i = 0; i < NODES; i++) {
        raft_driver_free(self->nodes[i].driver);
    }
    free(self->messages);
}

/* ---- what happens ---- */

static bool answer_appends(struct cores *self)
{
    bool any = false;

    for (unsigned i = 0; i < NODES; i++) {
        struct core *node = &self->nodes[i];
        unsigned appends = node->appends;

        if (appends > 0) {
            node->appends = 0;
            must(raft_driver_appended(node->driver, self->now_ms, appends), "an append");
            any = true;
        }
    }
    return any;
}

static bool deliver_one(struct cores *self)
{
    struct message message;

    if (self->count == 0) {
        return false;
    }
    message = self->messages[self->first];
    self->first = (self->first + 1) % MESSAGES_MAX;
    self->count--;
    must(raft_driver_receive(self->nodes[message.to - 1].driver, self->now_ms, &message),
         "a message");
    message_fini(&message);
    return true;
}

/* Everything that needs no time. */
static void settle(struct cores *self)
{
    while (answer_appends(self) || deliver_one(self)) {
    }
}

/* Time passes until a driver has something to do. */
static void pass_time(struct cores *self)
{
    uint64_t next_ms = UINT64_MAX;

    for (unsigned i = 0; i < NODES; i++) {
        uint64_t deadline_ms = raft_driver_deadline_ms(self->nodes[i].driver);

        next_ms = deadline_ms < next_ms ? deadline_ms : next_ms;
    }
    self->now_ms = next_ms > self->now_ms ? next_ms : self->now_ms + 1;
    for (unsigned i = 0; i < NODES; i++) {
        if (raft_driver_deadline_ms(self->nodes[i].driver) <= self->now_ms) {
            must(raft_driver_tick(self->nodes[i].driver, self->now_ms), "a timer");
        }
        settle(self);
    }
}

static struct core *find_leader(struct cores *self)
{
    for (unsigned i = 0; i < ELECTION_TRIES; i++) {
        for (unsigned j = 0; j < NODES; j++) {
            if (raft_driver_role(self->nodes[j].driver) == RAFT_ROLE_LEADER) {
                settle(self);
                return &self->nodes[j];
            }
        }
        pass_time(self);
    }
    must(ERR_NO_LEADER, "an election");
    return NULL;
}

/* What is held is bounded, as in a node: a snapshot stands for what all have. */
static void compact(struct core *self)
{
    struct snapshot snapshot = {.index = raft_driver_snapshot_index(self->driver)};
    struct block *manifest;

    if (snapshot.index < self->compacted + COMPACT_ENTRIES || snapshot.index != self->applied) {
        return;
    }
    manifest = block_new(MANIFEST_SIZE);
    ASSERT(manifest != NULL);
    memset(manifest->data, 0, MANIFEST_SIZE);
    raft_driver_snapshot_meta(self->driver, &snapshot.term, &snapshot.membership_index,
                              &snapshot.membership);
    snapshot.manifest = (struct slice){manifest, manifest->data, MANIFEST_SIZE};
    must(raft_driver_compact(self->driver, self->all->now_ms, &snapshot), "a snapshot");
    self->compacted = snapshot.index;
    block_unref(manifest);
}

static void propose(struct core *leader, const struct floor_core_load *load)
{
    struct proposal_block payloads[FLOOR_CORE_PROPOSE_MAX];
    uint64_t first;

    for (unsigned i = 0; i < load->propose_size; i++) {
        payloads[i].size = (uint32_t)load->entry_size;
        payloads[i].block = entry_block_new(payloads[i].size);
        ASSERT(payloads[i].block != NULL);
        memset(payloads[i].block->data + ENTRY_HEADER_SIZE, (int)i, load->entry_size);
    }
    must(raft_driver_propose(leader->driver, leader->all->now_ms, payloads, load->propose_size,
                             &first),
         "a proposal");
    settle(leader->all);
    if (leader->applied < first + load->propose_size - 1) {
        must(ERR_FAILED, "applying a proposal");
    }
}

double floor_core(const struct floor_core_load *load)
{
    struct cores all;
    struct core *leader;
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t entries = 0;

    ASSERT(load->propose_size >= 1 && load->propose_size <= FLOOR_CORE_PROPOSE_MAX);
    ASSERT(load->entry_size > 0 && load->entry_size <= ENTRY_PAYLOAD_SIZE_MAX);
    init(&all);
    leader = find_leader(&all);
    begin_ns = end_ns = now_ns();
    while ((double)(end_ns - begin_ns) < load->seconds * 1e9) {
        propose(leader, load);
        for (unsigned i = 0; i < NODES; i++) {
            compact(&all.nodes[i]);
        }
        entries += load->propose_size;
        end_ns = now_ns();
    }
    for (unsigned i = 0; i < NODES; i++) { /* The followers hear that it is committed. */
        while (all.nodes[i].applied < leader->applied) {
            pass_time(&all);
        }
    }
    fini(&all);
    return (double)entries * 1e9 / (double)(end_ns - begin_ns);
}
