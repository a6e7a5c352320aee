#include "load_claims.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

struct held {
    struct held *next;
    struct history_op op;
    uint64_t values[];
};

/* What a slot keeps. */
struct ownership {
    uint64_t id; /* 0: none */
    struct topic *topic;
    char label[LOAD_LABEL_SIZE]; /* of that topic: another one may be in its place */
    struct held *held;
};

static struct ownership *ownership_of(struct slot *slot)
{
    if (slot->kept == NULL) {
        slot->kept = calloc(1, sizeof(struct ownership));
        ASSERT(slot->kept != NULL);
    }
    return slot->kept;
}

/* known: up to `records` of the id's records are written, all others never will be. */
static void settle(struct load *load, struct ownership *self, bool known, uint64_t records)
{
    while (self->held != NULL) {
        struct held *held = self->held;

        self->held = held->next;
        if (known && held->op.producer_sequence >= records) {
            held->op.outcome = HISTORY_FAIL;
            held->op.return_us = recorder_now_us();
        }
        recorder_note(load->recorder, &held->op, 0);
        free(held);
    }
}

void claims_hold(struct life *life, const struct history_op *op)
{
    struct ownership *self = ownership_of(life->slot);
    size_t size = op->value_count * sizeof op->values[0];
    size_t keys = op->key_count * sizeof op->keys[0];
    size_t tombstones = op->tombstone_count * sizeof op->tombstones[0];
    struct held *held = malloc(sizeof *held + size + keys + tombstones);

    ASSERT(held != NULL && op->outcome == HISTORY_UNKNOWN);
    ASSERT(strcmp(op->topic, self->label) == 0);
    held->op = *op;
    memcpy(held->values, op->values, size);
    held->op.values = held->values;
    held->op.keys = held->values + op->value_count;
    held->op.tombstones = held->op.keys + op->key_count;
    if (op->key_count > 0) {
        memcpy(held->values + op->value_count, op->keys, keys);
        memcpy(held->values + op->value_count + op->key_count, op->tombstones, tombstones);
    }
    held->op.topic = self->label; /* settled before it changes */
    held->next = self->held;
    self->held = held;
}

bool claim_begin(struct claim *self, struct life *life, bool conditional)
{
    struct ownership *ownership = ownership_of(life->slot);
    struct topic *topic = ownership->topic;

    self->life = life;
    if (ownership->id != 0 && topic->live && strcmp(topic->label, ownership->label) == 0) {
        topics_use(life, topic);
        return true;
    }
    settle(life->load, ownership, false, 0);
    ownership->id = 0;
    ownership->topic = topics_join(life, conditional);
    if (ownership->topic == NULL) {
        return false;
    }
    memcpy(ownership->label, ownership->topic->label, sizeof ownership->label);
    return true;
}

static void on_claimed(void *arg, const struct client_error *error, const uint8_t *reply,
                       size_t reply_size)
{
    struct claim *self = arg;
    struct ownership *ownership = self->life->slot->kept;
    Quorlog__InitProducerReply *message = NULL;

    ASSERT(self->state == CLAIM_ASKED);
    self->life->under_way--;
    self->state = CLAIM_REFUSED;
    if (error->err == ERR_OK) {
        message = quorlog__init_producer_reply__unpack(NULL, reply_size, reply);
    } else if (error->err == ERR_PRODUCER_UNKNOWN || error->err == ERR_EPOCHS_USED_UP) {
        settle(self->life->load, ownership, false, 0);
        ownership->id = 0;
    }
    if (message == NULL) {
        return;
    }
    if (ownership->id != 0) {
        ASSERT(message->producer_id == ownership->id);
        settle(self->life->load, ownership, true, message->records);
    }
    ownership->id = message->producer_id;
    self->identity = (struct producer_identity){.id = message->producer_id,
                                                .epoch = (uint16_t)message->epoch,
                                                .sequence = (uint32_t)message->records};
    self->state = CLAIM_HAD;
    quorlog__init_producer_reply__free_unpacked(message, NULL);
}

void claim_ask(struct claim *self)
{
    const struct ownership *ownership = self->life->slot->kept;
    const struct client_claim claim = {.producer_id = ownership->id,
                                       .topic = self->life->topic->name};

    if (self->state == CLAIM_NONE &&
        client_claim_producer(self->life->client, &claim, on_claimed, self) == ERR_OK) {
        self->state = CLAIM_ASKED;
        self->life->under_way++;
    }
}

void claims_finish(struct load *load, struct slot *slot)
{
    settle(load, ownership_of(slot), false, 0);
    free(slot->kept);
    slot->kept = NULL;
}
