/*
 * Producers: with an id that outlives them, with one of their own, without any; and those that
 * append only where they expect the log's end. Batches are made by the client as records come;
 * a report is an operation.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "load_claims.h"
#include "load_record.h"

enum {
    PENDING_MAX = 1024,
    BURST_MAX = 24,
    CONDITIONAL_MAX = 4,
    TIMEOUT_MS = 10000,
    SHORT_TIMEOUT_MS = 1500,
    CONDITIONAL_PAUSE_MS = 20,
};

struct pending {
    uint64_t value;
    uint64_t at_us;
    uint32_t size;
};

struct writer {
    struct life life;
    struct claim claim;
    struct producer *producer; /* the client's: gone when it closes */
    bool claimed;              /* has the slot's id */
    bool atomic;
    bool ended; /* takes no more */
    unsigned window;
    unsigned burst;   /* records that go together */
    double credit;    /* records that the rate allows */
    uint64_t step_us; /* of the last step */
    uint64_t sent;
    uint64_t reported;
    struct pending pending[PENDING_MAX]; /* by number of the record */
    /* Conditional: */
    uint64_t expect;
    uint64_t next_us;
};

static struct writer *writer_of(struct life *life)
{
    return CONTAINER_OF(life, struct writer, life);
}

/* ---- reports ---- */

/* Writes down what is known of records [first, first + count). */
static void note(struct writer *self, const struct producer_report *report, bool has_expect)
{
    static uint64_t values[PENDING_MAX];
    static uint64_t keys[PENDING_MAX];
    static uint64_t tombstones[PENDING_MAX];
    struct history_op op = life_op(&self->life, HISTORY_PRODUCE);
    uint64_t size = 0;

    ASSERT(report->first == self->reported && report->count <= self->sent - self->reported);
    for (uint32_t i = 0; i < report->count; i++) {
        const struct pending *pending = &self->pending[(report->first + i) % PENDING_MAX];

        values[i] = pending->value;
        keys[i] = load_record_key(pending->value);
        if (self->life.topic->compacted && load_record_is_tombstone(pending->value)) {
            tombstones[op.tombstone_count++] = i;
        }
        size += pending->size;
    }
    op.invoke_us = self->pending[report->first % PENDING_MAX].at_us;
    op.return_us = recorder_now_us();
    op.outcome = recorder_outcome(report->error);
    op.error = report->error->err == ERR_OK ? NULL : err_name(report->error->err);
    op.values = values;
    op.value_count = report->count;
    op.keys = keys;
    op.key_count = self->life.topic->compacted ? report->count : 0;
    op.tombstones = tombstones;
    op.has_expect = has_expect;
    op.expect_offset = self->expect;
    if (self->claimed) {
        op.producer_id = self->claim.identity.id;
        op.epoch = self->claim.identity.epoch;
        op.producer_sequence = self->claim.identity.sequence + (uint32_t)report->first;
    }
    if (op.outcome == HISTORY_OK) {
        op.offset = report->offset;
        op.token = report->raft_index;
        op.duplicate = report->duplicate;
        topic_acknowledged(self->life.topic, op.offset + op.value_count, op.token);
    }
    self->life.topic->doubtful = self->life.topic->doubtful || op.outcome == HISTORY_UNKNOWN;
    self->reported += report->count;
    self->life.under_way -= report->count;
    if (op.outcome == HISTORY_UNKNOWN && self->claimed) {
        claims_hold(&self->life, &op);
    } else {
        recorder_note(self->life.load->recorder, &op, size);
    }
}

static void on_report(void *arg, const struct producer_report *report)
{
    struct writer *self = arg;

    note(self, report, false);
    if (recorder_outcome(report->error) != HISTORY_OK && report->error->err != ERR_DUPLICATE_OLD &&
        (self->claimed || client_error_outcome(report->error) == ERR_OUTCOME_UNKNOWN)) {
        self->ended = true;
    }
}

/* ---- records ---- */

/* False: the producer takes no more now. */
static bool send_record(struct writer *self)
{
    static struct load_record record; /* One thread; too large for the stack. */
    struct load *load = self->life.load;
    uint32_t range = load->options.record_size_max - load->options.record_size_min + 1;
    struct pending *pending = &self->pending[self->sent % PENDING_MAX];

    ASSERT(self->sent - self->reported < PENDING_MAX);
    pending->value = load->last_value + 1;
    pending->size = load->options.record_size_min + (uint32_t)load_choose(load, range);
    pending->at_us = recorder_now_us();
    if (self->life.topic->compacted) {
        load_record_make_keyed(&record, pending->value, pending->size);
    } else {
        load_record_make(&record, pending->value, pending->size);
    }
    if (producer_send(self->producer, &record.record) != ERR_OK) {
        return false;
    }
    load->last_value++;
    self->sent++;
    self->life.under_way++;
    return true;
}

static uint64_t choose_timeout(struct load *load)
{
    return load_chance(load, 15) ? SHORT_TIMEOUT_MS : TIMEOUT_MS;
}

static void make_producer(struct writer *self)
{
    struct load *load = self->life.load;
    struct producer_options options = {
        .topic = self->life.topic->name,
        .inflight_max = 1 + (unsigned)load_choose(load, 64),
        .batch_records_max = 1 + (unsigned)load_choose(load, 50),
        .linger_ms = load_choose(load, 3),
        .timeout_ms = choose_timeout(load),
        .no_idempotence = self->life.slot->variant == PRODUCER_NO_ID,
        .acks_all = load_chance(load, 25),
        .atomic = self->atomic,
        .compression = (enum client_compression)load_choose(load, CLIENT_COMPRESSION_ZSTD + 1),
    };

    if (self->claimed) {
        options.identity = self->claim.identity;
    }
    if (producer_new(self->life.client, &options, on_report, self, &self->producer) != ERR_OK) {
        self->producer = NULL;
        self->life.leaving = true;
    }
}

/* ---- a producer's life ---- */

static void producer_begin(struct life *life)
{
    struct writer *self = writer_of(life);
    struct load *load = life->load;
    bool has_topic;

    self->claimed = life->slot->variant == PRODUCER_CLAIMED;
    self->atomic = self->claimed && load_chance(load, 30);
    self->window = 16 + (unsigned)load_choose(load, PENDING_MAX - 16 - BURST_MAX);
    self->burst = 1 + (unsigned)load_choose(load, BURST_MAX);
    self->step_us = recorder_now_us();
    has_topic =
        self->claimed ? claim_begin(&self->claim, life, false) : topics_join(life, false) != NULL;
    life->leaving = !has_topic;
}

/* How many records may go now. */
static unsigned allowance(struct writer *self)
{
    const struct load *load = self->life.load;
    uint64_t now_us = recorder_now_us();
    double share = (double)load->options.rate / load->producer_count;

    self->credit += share * (double)(now_us - self->step_us) / 1e6;
    self->credit = self->credit > 4.0 * BURST_MAX ? 4.0 * BURST_MAX : self->credit;
    self->step_us = now_us;
    if (self->life.abrupt) {
        return self->window; /* So that there is something to be in the middle of. */
    }
    if (load->options.rate == 0) {
        return self->burst;
    }
    return self->credit >= self->burst ? self->burst : 0;
}

static void producer_step(struct life *life)
{
    struct writer *self = writer_of(life);
    unsigned count;

    if (self->ended || self->claim.state == CLAIM_REFUSED) {
        life->leaving = true;
        return;
    }
    if (self->claimed && self->claim.state != CLAIM_HAD) {
        claim_ask(&self->claim);
        return;
    }
    if (self->producer == NULL) {
        make_producer(self);
        return;
    }
    count = allowance(self);
    while (count > 0 && self->sent - self->reported < self->window && send_record(self)) {
        count--;
        self->credit -= 1;
    }
    if (self->atomic) {
        producer_flush(self->producer);
    }
}

static void producer_end(struct life *life)
{
    struct writer *self = writer_of(life);

    ASSERT(self->sent == self->reported); /* L1; the producer went with the client. */
}

static void producer_finish(struct load *load, struct slot *slot)
{
    if (slot->variant == PRODUCER_CLAIMED) {
        claims_finish(load, slot);
    }
}

const struct life_kind life_producer = {
    .name = "load-producer",
    .size = sizeof(struct writer),
    .begin = producer_begin,
    .step = producer_step,
    .end = producer_end,
    .finish = producer_finish,
};

/* ---- who expects the log's end somewhere ---- */

static void on_conditional(void *arg, const struct producer_report *report)
{
    struct writer *self = arg;
    enum history_outcome outcome = recorder_outcome(report->error);

    note(self, report, true);
    if (outcome == HISTORY_OK) {
        self->claim.identity.sequence += report->count;
    } else if (report->error->err == ERR_EXPECT_FAILED) {
        /* Others may have been faster; the next try knows better. */
        topic_acknowledged(self->life.topic, report->error->log_end, 0);
    }
    self->ended = outcome == HISTORY_UNKNOWN || report->error->err == ERR_FENCED;
    producer_free(self->producer);
    self->producer = NULL;
    self->sent = self->reported = 0;
}

static void conditional_begin(struct life *life)
{
    struct writer *self = writer_of(life);

    self->claimed = true;
    life->leaving = !claim_begin(&self->claim, life, true);
}

static void try_conditional(struct writer *self)
{
    struct load *load = self->life.load;
    struct producer_options options = {
        .topic = self->life.topic->name,
        .timeout_ms = choose_timeout(load),
        .identity = self->claim.identity,
        .has_expect = true,
        .atomic = true,
    };
    unsigned count = 1 + (unsigned)load_choose(load, CONDITIONAL_MAX);

    self->expect = self->life.topic->end;
    if (self->expect > 0 && load_chance(load, 10)) {
        self->expect--;
    }
    options.expect_offset = self->expect;
    if (producer_new(self->life.client, &options, on_conditional, self, &self->producer) !=
        ERR_OK) {
        self->producer = NULL;
        return;
    }
    while (count > 0 && send_record(self)) {
        count--;
    }
    ASSERT(self->sent > 0); /* An empty producer takes one. */
    producer_flush(self->producer);
}

static void conditional_step(struct life *life)
{
    struct writer *self = writer_of(life);
    uint64_t now_us = recorder_now_us();

    if (self->ended || self->claim.state == CLAIM_REFUSED) {
        life->leaving = true;
    } else if (self->claim.state != CLAIM_HAD) {
        claim_ask(&self->claim);
    } else if (self->producer == NULL && now_us >= self->next_us) {
        self->next_us = now_us + load_choose(life->load, 2 * CONDITIONAL_PAUSE_MS) * 1000;
        try_conditional(self);
    }
}

const struct life_kind life_conditional = {
    .name = "load-conditional",
    .size = sizeof(struct writer),
    .begin = conditional_begin,
    .step = conditional_step,
    .end = producer_end,
    .finish = claims_finish,
};
