/*
 * Messages between the nodes, and what a server's links do about them (server/hello.c,
 * raft_fsm/group_members.c): each side shows its id and its disk when a link comes up, and one that
 * the other knows by another disk, or as removed, takes no part. Told so by another, it ends.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "sim/cluster.h"

#define U(value) ((unsigned long long)(value))

enum { SLICES_MAX = 2 * MESSAGE_ENTRIES_MAX + 8 };

/* A message on its way. Whoever frees it frees the message. */
struct parcel {
    struct message message;
    uint64_t origin; /* incarnation of the sender */
};

/* ---- on the way ---- */

/* Over the wire: encoded here, decoded there. */
static void transmit(struct sim_node *self, const struct message *message, struct message *copy)
{
    struct slice slices[SLICES_MAX];
    uint8_t header[MESSAGE_HEADER_SIZE];
    struct err_info info = {.text = ""};
    struct block *block;
    unsigned count;
    size_t size = 0;
    enum err err;

    if (!prng_percent(&self->cluster->prng, self->cluster->wire)) {
        err = message_copy(message, copy);
        ASSERT(err == ERR_OK);
        return;
    }
    err = message_encode(message, header, slices, SLICES_MAX, &count);
    ASSERT(err == ERR_OK);
    for (unsigned i = 0; i < count; i++) {
        size += slices[i].size;
    }
    block = block_new(size > 0 ? size : 1);
    ASSERT(block != NULL);
    size = 0;
    for (unsigned i = 0; i < count; i++) {
        memcpy(block->data + size, slices[i].data, slices[i].size);
        size += slices[i].size;
    }
    err = message_decode(header, sizeof header, block, block->data, size, copy, &info);
    block_unref(block);
    if (err != ERR_OK) {
        sim_violation(&self->cluster->oracle, "a message of type %d cannot be read: %s",
                      (int)message->type, info.text);
    }
}

/* A chunk whose checksums are right, and whose contents are not; of a compacted batch, whose
 * contents have nothing but their checksum, what it says to follow on. */
static void forge(struct sim_node *self, struct message *message)
{
    struct prng *prng = &self->cluster->prng;
    const struct slice *from = &message->fetch_result.batches;
    struct batch_header header;
    struct block *block;
    size_t at = 0;
    size_t wrong;

    if (message->type != MESSAGE_FETCH_RESULT || from->size == 0 || self->cluster->healed ||
        !prng_percent(prng, self->cluster->lies)) {
        return;
    }
    block = block_new(from->size);
    ASSERT(block != NULL);
    memcpy(block->data, from->data, from->size);
    do { /* Some batch. */
        enum err err =
            batch_header_decode(block->data + at, (uint32_t)(from->size - at), &header, NULL);

        ASSERT(err == ERR_OK);
        at += header.size;
    } while (at < from->size && prng_percent(prng, 70));
    wrong = at - 1;
    at -= header.size;
    if (batch_is_compacted(&header)) {
        wrong = at + BATCH_HEADER_SIZE;
    }
    block->data[wrong] ^= 1;
    header.body_crc32c =
        crc32c(block->data + at + BATCH_HEADER_SIZE, header.size - BATCH_HEADER_SIZE);
    batch_header_encode(&header, block->data + at);
    block_unref(from->block);
    sim_fault(self->cluster, SIM_FAULT_LIE);
    message->fetch_result.batches =
        (struct slice){.block = block, .data = block->data, .size = block->size};
}

void sim_wire_send(struct sim_node *self, const struct message *message)
{
    struct sim_cluster *cluster = self->cluster;
    struct sim_node *to = sim_members_find(cluster, message->to);
    uint64_t times[2];
    unsigned copies;

    if (self->disk.dead) {
        return;
    }
    ASSERT(message->from == self->id && message->to != self->id);
    if (!self->wiped || (cluster->options.broken & SIM_BREAK_AMNESIA) != 0) {
        sim_oracle_says(&cluster->oracle, self->slot, message);
    }
    cluster->stats->messages++;
    if (to == NULL) {
        return; /* Nobody has that id any more. */
    }
    copies = net_send(&cluster->net, &cluster->prng, cluster->now_ms, self->slot, to->slot, times);
    for (unsigned i = 0; i < copies; i++) {
        struct parcel *parcel = calloc(1, sizeof *parcel);

        ASSERT(parcel != NULL);
        _Static_assert(offsetof(struct parcel, message) == 0, "a parcel begins with its message");
        parcel->origin = self->incarnation;
        transmit(self, message, &parcel->message);
        forge(self, &parcel->message);
        events_push(&cluster->events, times[i], EVENT_MESSAGE, to->slot, to->incarnation,
                    &parcel->message);
    }
}

/* ---- links ---- */

/* Whether a node knows another as one that was a member and is none. */
static bool removed(const struct sim_node *self, const struct sim_node *other)
{
    return self->members.count > 0 && membership_find(&self->members, other->id) == NULL &&
           replica_disk_id(self->replica, other->id) != 0;
}

static bool other_disk(const struct sim_node *self, const struct sim_node *other)
{
    uint64_t known = replica_disk_id(self->replica, other->id);

    return known != 0 && known != other->disk_id &&
           (self->cluster->options.broken & SIM_BREAK_AMNESIA) == 0;
}

/* The dialler hears why, if anything gets back to it. */
static bool refuse(struct sim_node *self, struct sim_node *from, bool here, const char *why)
{
    if (here && !net_blocked(&self->cluster->net, self->cluster->now_ms, self->slot, from->slot)) {
        sim_node_refused(from, why);
    }
    return false;
}

/* A link from another node comes up: two hellos. here: it has not ended since. */
static bool greet(struct sim_node *self, struct sim_node *from, bool here)
{
    if (other_disk(self, from)) {
        return refuse(self, from, here, "its id belongs to another disk");
    }
    if (removed(self, from)) {
        return refuse(self, from, here, "it was removed");
    }
    if (here && other_disk(from, self)) {
        if (self->applied <= 1) {
            sim_node_refused(self, "its id belongs to another disk");
        }
        return false;
    }
    if (here && removed(from, self)) {
        return false;
    }
    if (here) {
        replica_learn_disk(from->replica, self->id, self->disk_id);
    }
    return true;
}

bool sim_wire_admits(struct sim_node *self, const struct message *message)
{
    const struct parcel *parcel = (const struct parcel *)message;
    struct sim_node *from = sim_members_find(self->cluster, message->from);
    struct sim_link *link;
    bool here;

    if (from == NULL ||
        net_blocked(&self->cluster->net, self->cluster->now_ms, from->slot, self->slot)) {
        return false; /* It is cut off; or its machine is another node's by now. */
    }
    here = parcel->origin == from->incarnation && from->replica != NULL;
    link = &self->links[from->slot];
    if (!here) {
        sim_fault(self->cluster, SIM_FAULT_STALE);
    }
    if (link->origin != parcel->origin || link->incarnation != self->incarnation) {
        if (!greet(self, from, here)) {
            return false;
        }
        *link = (struct sim_link){.origin = parcel->origin,
                                  .incarnation = self->incarnation,
                                  .members_epoch = self->members_epoch};
    }
    if (link->members_epoch != self->members_epoch) {
        link->members_epoch = self->members_epoch;
        if (removed(self, from)) {
            link->origin = 0;
            return refuse(self, from, here, "it was removed");
        }
    }
    return true;
}
