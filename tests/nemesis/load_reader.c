/*
 * Readers: one question after the other, with one level of freshness. Those of a session, and
 * linearizable ones, keep their number in the history, since what they see must never go back; each
 * question of the others has a number of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "load.h"
#include "load_batches.h"
#include "quorlog.pb-c.h"

enum { PAUSE_MAX_MS = 60, RECORDS_MAX = 100, BYTES_MAX = 64 << 10, LAG_MAX_MS = 1000 };

struct asker {
    struct life life;
    uint64_t next_us;
    uint64_t offset; /* where the last answer ended */
    uint64_t token;  /* SESSION: of all that was seen */
    Quorlog__ConsumeRequest request;
    struct history_op op;
};

static struct asker *asker_of(struct life *life)
{
    return CONTAINER_OF(life, struct asker, life);
}

/* ---- answers ---- */

static void note_reply(struct asker *self, const Quorlog__ConsumeReply *reply,
                       const struct client_answer *answer)
{
    static struct load_values values; /* One thread; too large for the stack. */
    static char other[LOAD_LABEL_SIZE];
    static uint64_t broken;
    struct history_op *op = &self->op;
    struct err_info info;

    if (reply->topic_id != self->life.topic->id) {
        (void)snprintf(other, sizeof other, "%s#%llu", self->life.topic->name,
                       (unsigned long long)reply->topic_id); /* fits */
        op->topic = other;                                   /* Whose records were written there? */
    }
    op->node = (uint32_t)reply->node_id;
    op->offset = reply->offset;
    op->log_start = reply->log_start;
    op->log_end = reply->log_end;
    op->token = reply->applied_index;
    if (load_batches_read(answer->body, answer->body_size, reply->offset, NULL, NULL, &values,
                          &info) == ERR_OK) {
        load_values_tell(&values, op);
    } else {
        (void)fprintf(stderr, "load: node %u, %s: %s\n", op->node, op->topic, info.text);
        op->values = &broken; /* 0: no record has such bytes. */
        op->value_count = 1;
    }
    self->offset = history_op_next(op);
    self->token = reply->applied_index > self->token ? reply->applied_index : self->token;
}

static void on_answer(void *arg, const struct client_error *error,
                      const struct client_answer *answer)
{
    struct asker *self = arg;
    struct history_op *op = &self->op;
    Quorlog__ConsumeReply *reply = NULL;

    self->life.under_way--;
    op->return_us = recorder_now_us();
    if (error->err == ERR_OK) {
        reply = quorlog__consume_reply__unpack(NULL, answer->header_size, answer->header);
        ASSERT(reply != NULL); /* The client has looked. */
        note_reply(self, reply, answer);
    } else if (error->err == ERR_RANGE && error->log_end > 0) {
        /* It was asked beyond the end; and that is shown. */
        op->offset = error->log_end;
        op->log_start = error->log_start;
        op->log_end = error->log_end;
        op->error = err_name(error->err);
    } else {
        op->outcome = HISTORY_FAIL;
        op->error = err_name(error->err);
    }
    recorder_note(self->life.load->recorder, op, 0);
    if (reply != NULL) {
        quorlog__consume_reply__free_unpacked(reply, NULL);
    }
}

/* ---- questions ---- */

static void choose_start(struct asker *self)
{
    const struct topic *topic = self->life.topic;
    struct load *load = self->life.load;
    uint64_t dice = load_choose(load, 10);

    if (dice < 4) {
        self->request.offset = self->offset;
    } else if (dice < 7) {
        self->request.offset = load_choose(load, topic->end + 1);
    } else if (dice < 9) {
        self->request.start = QUORLOG__START__START_TAIL;
        self->request.offset = load_choose(load, RECORDS_MAX);
    } else {
        self->request.start =
            load_chance(load, 50) ? QUORLOG__START__START_EARLIEST : QUORLOG__START__START_LATEST;
    }
}

static void choose_freshness(struct asker *self)
{
    const struct topic *topic = self->life.topic;
    struct load *load = self->life.load;
    struct history_op *op = &self->op;

    switch ((enum reader_variant)self->life.slot->variant) {
    case READER_SESSION:
        op->at_least = self->token;
        break;
    case READER_TOKEN:
        op->at_least = topic->token;
        break;
    case READER_LINEARIZABLE:
        op->mode = HISTORY_READ_LINEARIZABLE;
        break;
    case READER_MAX_LAG:
        op->mode = HISTORY_READ_MAX_LAG;
        op->lag_us = (1 + load_choose(load, LAG_MAX_MS)) * 1000;
        break;
    case READER_LOCAL:
    case READER_VARIANTS:
        break;
    }
    /* A node that is behind would show the topic that had this name before. */
    op->at_least = op->at_least < topic->made_token ? topic->made_token : op->at_least;
    if (op->mode == HISTORY_READ_LOCAL && op->at_least > 0) {
        op->mode = HISTORY_READ_TOKEN;
    }
    self->request.at_least = op->at_least;
    self->request.linearizable = op->mode == HISTORY_READ_LINEARIZABLE;
    self->request.max_lag_ms = (uint32_t)(op->lag_us / 1000);
}

static void ask(struct asker *self)
{
    struct client_question question = {
        .type = QUORLOG__FRAME_TYPE__FRAME_CONSUME,
        .reply_type = QUORLOG__FRAME_TYPE__FRAME_CONSUME_REPLY,
        .request = &self->request.base,
        .reply = &quorlog__consume_reply__descriptor,
    };
    unsigned variant = self->life.slot->variant;

    self->request = (Quorlog__ConsumeRequest)QUORLOG__CONSUME_REQUEST__INIT;
    self->request.topic = self->life.topic->name;
    self->request.records_max = 1 + (uint32_t)load_choose(self->life.load, RECORDS_MAX);
    self->request.bytes_max = BYTES_MAX;
    self->request.topic_id = load_chance(self->life.load, 50) ? self->life.topic->id : 0;
    self->request.deadline_ms = LOAD_REQUEST_MS / 4;
    self->op = life_op(&self->life, HISTORY_READ);
    if (variant != READER_SESSION && variant != READER_LINEARIZABLE) {
        self->op.client = ++self->life.load->last_number;
    }
    choose_start(self);
    choose_freshness(self);
    self->op.invoke_us = recorder_now_us();
    if (client_ask(self->life.client, &question, on_answer, self) == ERR_OK) {
        self->life.under_way++;
    }
}

/* ---- a life ---- */

static void reader_begin(struct life *life)
{
    life->leaving = topics_join(life, load_chance(life->load, 10)) == NULL;
}

static void reader_step(struct life *life)
{
    struct asker *self = asker_of(life);
    uint64_t now_us = recorder_now_us();

    if (life->under_way == 0 && now_us >= self->next_us) {
        self->next_us = now_us + load_choose(life->load, PAUSE_MAX_MS) * 1000;
        ask(self);
    }
}

static void reader_end(struct life *life)
{
    ASSERT(life->under_way == 0); /* Nothing is kept. */
}

const struct life_kind life_reader = {
    .name = "load-reader",
    .size = sizeof(struct asker),
    .begin = reader_begin,
    .step = reader_step,
    .end = reader_end,
};
