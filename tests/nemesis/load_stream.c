/*
 * Followers: the client's consumers, which go on at other nodes by themselves. What comes in one
 * step of the load is one delivery.
 */
#include <string.h>

#include "base/assert.h"
#include "base/container.h"
#include "load.h"
#include "load_record.h"

/* In a long run topics are long: nobody reads all of one. */
enum { VALUES_MAX = 4096, TAIL_MAX = 500, PAUSE_PERCENT = 2, RECORDS_MAX = 20000 };

struct follower {
    struct life life;
    struct consumer *consumer; /* NULL: ended; the client's when that closes */
    uint64_t begun_us;
    bool places_end; /* it begins at the log's end: where that is tells how far the log went */
    struct history_op placing;
    bool paused;
    uint64_t offset; /* where the next delivery begins, … */
    uint64_t next;   /* … and ends so far; equal: there is none */
    bool begun;      /* The two are known. */
    size_t count;
    uint64_t values[VALUES_MAX];
    uint64_t offsets[VALUES_MAX];
};

static struct follower *follower_of(struct life *life)
{
    return CONTAINER_OF(life, struct follower, life);
}

static uint32_t reading_node(const struct follower *self)
{
    return self->life.closing
               ? 0
               : load_node(self->life.load, client_reading_server(self->life.client));
}

static void flush(struct follower *self)
{
    struct history_op op;

    if (self->count == 0) {
        return;
    }
    op = life_op(&self->life, HISTORY_DELIVERY);
    op.node = reading_node(self);
    op.invoke_us = self->begun_us;
    op.return_us = recorder_now_us();
    op.stream = self->life.number;
    op.offset = self->offset;
    op.values = self->values;
    op.value_count = self->count;
    if (self->next - self->offset != self->count) { /* Some are missing. */
        op.offsets = self->offsets;
        op.offset_count = self->count;
    }
    op.log_end = self->next; /* at least */
    recorder_note(self->life.load->recorder, &op, 0);
    self->count = 0;
    self->offset = self->next;
}

static void on_placed(void *arg, uint64_t offset)
{
    struct follower *self = arg;

    if (self->places_end) {
        self->placing.node = reading_node(self);
        self->placing.return_us = recorder_now_us();
        self->placing.offset = self->placing.log_end = offset;
        recorder_note(self->life.load->recorder, &self->placing, 0);
    }
}

static void on_record(void *arg, const struct record *record)
{
    struct follower *self = arg;

    if (self->count == VALUES_MAX || record->offset < self->next) {
        flush(self); /* In a right stream only when it is full: the checker sees the other. */
    }
    if (!self->begun || record->offset < self->next) {
        self->offset = record->offset;
        self->begun = true;
    }
    self->values[self->count] = load_record_value(record);
    self->offsets[self->count++] = record->offset;
    self->next = record->offset + 1;
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    struct follower *self = arg;

    (void)error; /* A reading that ended shows nothing. */
    (void)next_offset;
    flush(self);
    self->consumer = NULL;
    self->life.leaving = true;
}

static void choose(struct follower *self, struct consumer_options *options)
{
    struct load *load = self->life.load;
    const struct topic *topic = self->life.topic;

    options->start = (enum consumer_start)load_choose(load, CONSUMER_TIME);
    if (options->start == CONSUMER_OFFSET) {
        options->offset = load_choose(load, topic->end + 1);
    } else if (options->start == CONSUMER_TAIL) {
        options->offset = load_choose(load, TAIL_MAX);
    }
    self->placing = life_op(&self->life, HISTORY_READ);
    self->placing.client = ++load->last_number;
    self->places_end = options->start == CONSUMER_LATEST;
    switch (load_choose(load, 4)) {
    case 0:
        options->linearizable = true;
        self->placing.mode = HISTORY_READ_LINEARIZABLE;
        break;
    case 1:
        options->max_lag_ms = 200 + load_choose(load, 1000);
        self->placing.mode = HISTORY_READ_MAX_LAG;
        self->placing.lag_us = options->max_lag_ms * 1000;
        break;
    default:
        options->at_least = load_chance(load, 50) ? topic->token : 0;
    }
    /* A node that is behind would show the topic that had this name before. */
    if (options->at_least < topic->made_token) {
        options->at_least = topic->made_token;
    }
    self->placing.at_least = options->at_least;
    if (options->at_least > 0 && self->placing.mode == HISTORY_READ_LOCAL) {
        self->placing.mode = HISTORY_READ_TOKEN;
    }
}

static void stream_begin(struct life *life)
{
    static const struct consumer_events events = {
        .record = on_record, .ended = on_ended, .placed = on_placed};
    struct follower *self = follower_of(life);
    struct consumer_options options = {.follow = true};

    if (topics_join(life, load_chance(life->load, 10)) == NULL) {
        life->leaving = true;
        return;
    }
    options.topic = life->topic->name;
    options.records_max = 1 + load_choose(life->load, RECORDS_MAX);
    options.credit_size = (size_t)(64 + load_choose(life->load, 1024)) << 10;
    choose(self, &options);
    self->begun_us = self->placing.invoke_us = recorder_now_us();
    if (consumer_new(life->client, &options, &events, self, &self->consumer) != ERR_OK) {
        self->consumer = NULL;
        life->leaving = true;
    }
}

static void stream_step(struct life *life)
{
    struct follower *self = follower_of(life);

    flush(self);
    if (self->paused) {
        consumer_resume(self->consumer);
        self->paused = false;
    } else if (load_chance(life->load, PAUSE_PERCENT)) {
        consumer_pause(self->consumer);
        self->paused = true;
    }
}

static void stream_end(struct life *life)
{
    struct follower *self = follower_of(life);

    ASSERT(self->count == 0); /* on_ended came. */
    ASSERT(self->consumer == NULL);
}

const struct life_kind life_stream = {
    .name = "load-stream",
    .size = sizeof(struct follower),
    .begin = stream_begin,
    .step = stream_step,
    .end = stream_end,
};
