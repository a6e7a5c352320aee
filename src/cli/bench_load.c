#include "cli/bench_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/bench_stamp.h"

#define NS_PER_S UINT64_C(1000000000)

enum {
    BATCHES_INFLIGHT = 16,
    OPEN_BUFFER_SIZE = 256 << 20, /* of all writers of an open loop */
    WRITER_BUFFER_SIZE = 32 << 20,
    TURN_MIN_NS = 100000, /* records of so long are handed in together */
    ACKED_MIN = 4096,
    ACKED_MAX = 8 << 20, /* of all writers: 64 MiB */
    ACKED_S = 10,
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

static bool is_open_loop(const struct load *self)
{
    return self->options.rate > 0;
}

void load_topic_name(const char *topic, uint64_t topics, uint64_t index,
                     char ret_name[LOAD_TOPIC_SIZE_MAX])
{
    ASSERT(index < topics);
    if (topics == 1) {
        (void)snprintf(ret_name, LOAD_TOPIC_SIZE_MAX, "%s", topic); /* The caller has checked it. */
    } else {
        (void)snprintf(ret_name, LOAD_TOPIC_SIZE_MAX, "%s-%llu", topic, (unsigned long long)index);
    }
}

/* ---- handing in ---- */

static uint64_t number_of(const struct load_writer *self, uint64_t place)
{
    return pace_number(place, self->index, self->load->writer_count);
}

static const uint8_t *value_of(struct load_writer *self, uint64_t place)
{
    struct load *load = self->load;
    uint8_t front[BENCH_STAMP_SIZE];

    if (!load->options.stamped) {
        return bench_values_get(&load->values, place);
    }
    bench_stamp_encode(
        &(struct bench_stamp){
            .run = load->options.run,
            .writer = (uint32_t)self->index,
            .place = place,
            .planned_ns = pace_planned_ns(&load->pace, number_of(self, place)),
        },
        front);
    return bench_values_with(&load->values, place, front, sizeof front);
}

/* The next place was handed in. */
static void note_sent(struct load_writer *self, uint64_t now)
{
    struct load *load = self->load;
    uint64_t number = number_of(self, self->sent);

    if (!is_open_loop(load)) {
        self->sent_ns[self->sent & self->ring_mask] = now;
    } else if (pace_is_measured(&load->pace, number)) {
        tally_hand_in(&load->tally, pace_planned_ns(&load->pace, number), now,
                      self->sent < self->blocked);
    }
    self->sent++;
}

static void hand_in(struct load_writer *self)
{
    struct load *load = self->load;
    struct record record = {.value_size = load->options.size};

    while (load->sending && (!is_open_loop(load) || self->sent < self->due)) {
        uint64_t now = now_ns();
        enum err err = ERR_BUSY;

        if (self->producer != NULL && !self->ended && self->sent - self->reported < self->window) {
            record.value = value_of(self, self->sent);
            err = producer_send(self->producer, &record);
        }
        if (err == ERR_BUSY || err == ERR_NOMEM) {
            self->blocked = self->due; /* The next report goes on. */
            return;
        }
        if (err == ERR_FAILED) {
            self->ended = true; /* Replaced by load_advance. */
            continue;
        }
        if (err != ERR_OK) {
            (void)snprintf(load->failure, sizeof load->failure, /* fits */
                           "a record of %llu bytes: %s; --batch-size bounds it, and "
                           "batch_size_max of the nodes",
                           (unsigned long long)load->options.size, err_text(err));
            load->sending = false;
            return;
        }
        note_sent(self, now);
    }
}

/* ---- answers ---- */

/* Nobody will take it, now or later. */
static bool is_hopeless(const struct client_error *error)
{
    return !error->retryable && client_error_outcome(error) == ERR_OUTCOME_NOT_WRITTEN &&
           !err_retryable(error->err);
}

static void note_error(struct load *self, const struct producer_report *report)
{
    tally_codes_add(&self->errors, report->error->err, report->count);
    (void)snprintf(self->reason, sizeof self->reason, "%s", report->error->text); /* Cut is fine. */
    if (self->failure[0] == '\0' && is_hopeless(report->error)) {
        memcpy(self->failure, self->reason, sizeof self->failure);
        self->sending = false;
    }
}

static void note_answered(struct load_writer *self, uint64_t place, uint64_t now, bool is_written)
{
    struct load *load = self->load;
    enum tally_fate fate = is_written ? TALLY_ACKNOWLEDGED : TALLY_FAILED;
    uint64_t since;

    if (is_open_loop(load)) {
        since = pace_planned_ns(&load->pace, number_of(self, place));
        if (pace_is_measured(&load->pace, number_of(self, place))) {
            tally_add(&load->tally, fate, now - since, 1);
        }
    } else {
        since = self->sent_ns[place & self->ring_mask];
        if (load->measuring && since >= load->begin_ns) {
            tally_add(&load->tally, fate, now - since, 1);
        }
    }
    if (self->acked_ns != NULL) {
        self->acked_ns[place % load->acked_size] = is_written ? now : 0;
    }
    if (load->watched) {
        histogram_add(&load->recent, now - since);
    }
}

static void note_written(struct load_writer *self, const struct producer_report *report,
                         uint64_t now)
{
    struct load *load = self->load;

    load->topic_acked[self->index % load->options.topics] += report->count;
    load->acknowledged += report->count;
    load->last_acked_ns = now;
    if (load->measuring) {
        load->records += report->count;
        load->plain_bytes += report->plain_size;
        load->sent_bytes += report->sent_size;
    }
    if (report->voters > 0) { /* One that was written before does not say. */
        load->voters = report->voters;
        load->replicas_min = load->replicas_min == 0 || report->replicas < load->replicas_min
                                 ? report->replicas
                                 : load->replicas_min;
    }
}

static void on_report(void *arg, const struct producer_report *report)
{
    struct load_writer *self = arg;
    struct load *load = self->load;
    bool is_written =
        report->error->err == ERR_OK || client_error_outcome(report->error) == ERR_OUTCOME_WRITTEN;
    uint64_t now = now_ns();

    if (load->closing) {
        return;
    }
    ASSERT(self->base + report->first == self->reported); /* I1 */
    for (uint32_t i = 0; i < report->count; i++) {
        note_answered(self, self->reported + i, now, is_written);
    }
    self->reported += report->count;
    ASSERT(self->reported <= self->sent); /* I1 */
    if (is_written) {
        note_written(self, report, now);
    } else {
        note_error(load, report);
    }
    hand_in(self);
}

/* ---- its life ---- */

static void count_retries(struct load_writer *self)
{
    for (int number = 0; number > -TALLY_CODES_MAX; number--) {
        enum err err = ERR_OK;

        if (number == 0 || err_from_number(number, &err)) {
            tally_codes_add(&self->load->retries, err, producer_retries(self->producer, err));
        }
    }
}

static enum err make_producer(struct load_writer *self)
{
    struct load *load = self->load;
    char topic[LOAD_TOPIC_SIZE_MAX];
    struct producer_options options = {
        .topic = topic,
        .batch_size_max = load->options.batch_size,
        .inflight_max = BATCHES_INFLIGHT,
        .timeout_ms = load->options.timeout_ms,
        .compression = load->options.compression,
    };

    ASSERT(self->producer == NULL && self->reported == self->sent);
    load_topic_name(load->options.topic, load->options.topics, self->index % load->options.topics,
                    topic);
    if (is_open_loop(load)) {
        uint64_t size = OPEN_BUFFER_SIZE / load->writer_count;

        size = size < WRITER_BUFFER_SIZE ? size : WRITER_BUFFER_SIZE;
        options.buffer_size_max =
            size > 2 * load->options.batch_size ? size : 2 * load->options.batch_size;
    }
    self->base = self->sent;
    return producer_new(self->client, &options, on_report, self, &self->producer);
}

/* A new producer instead of one that takes no more. */
static void mend(struct load_writer *self)
{
    if (self->producer != NULL && producer_pending(self->producer) == 0) {
        count_retries(self);
        producer_free(self->producer);
        self->producer = NULL;
    }
    if (self->producer == NULL && make_producer(self) == ERR_OK) {
        self->ended = false;
        hand_in(self);
    }
}

static enum err init_writer(struct load *self, uint64_t index)
{
    struct load_writer *writer = &self->writers[index];
    uint64_t connections = self->options.connections;
    uint64_t on_connection = (self->writer_count - 1 - index % connections) / connections + 1;

    *writer = (struct load_writer){
        .load = self,
        .client = self->clients[index % connections],
        .index = index,
        .window = (self->options.inflight - 1) / on_connection + 1,
    };
    if (!is_open_loop(self)) {
        while (writer->ring_mask + 1 < writer->window) {
            writer->ring_mask = writer->ring_mask * 2 + 1;
        }
        writer->sent_ns = calloc(writer->ring_mask + 1, sizeof *writer->sent_ns);
    }
    if (self->options.stamped) {
        writer->acked_ns = calloc(self->acked_size, sizeof *writer->acked_ns);
    }
    if ((!is_open_loop(self) && writer->sent_ns == NULL) ||
        (self->options.stamped && writer->acked_ns == NULL)) {
        return ERR_NOMEM;
    }
    return make_producer(writer);
}

static enum err open_clients(struct load *self, struct err_info *info)
{
    const struct client_options options = {
        .servers = self->options.servers,
        .name = "quorlog-bench",
        .timeout_ms = self->options.timeout_ms,
    };

    for (uint64_t i = 0; i < self->options.connections; i++) {
        enum err err = client_new(&options, self->loop, &self->clients[i], info);

        if (err != ERR_OK) {
            self->clients[i] = NULL;
            return err;
        }
    }
    return ERR_OK;
}

static enum err open_timer(struct load *self, struct err_info *info)
{
    int rv;

    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (self->timer < 0) {
        return err_set(info, err_from_errno(errno), "a timer: %s", strerror(errno));
    }
    rv = uv_poll_init(self->loop, &self->poll, self->timer);
    if (rv != 0) {
        return err_set(info, ERR_IO, "a timer: %s", uv_strerror(rv));
    }
    self->poll.data = self;
    self->polling = true;
    return ERR_OK;
}

enum err load_open(struct load *self, const struct load_options *options, uv_loop_t *loop,
                   struct err_info *info)
{
    uint64_t acked;
    enum err err;

    ASSERT(options->connections <= LOAD_CONNECTIONS_MAX && options->topics <= LOAD_TOPICS_MAX);
    ASSERT(options->connections > 0 && options->topics > 0 && options->inflight > 0);
    ASSERT(IMPLIES(options->stamped, options->rate > 0 && options->size >= BENCH_STAMP_SIZE));
    *self = (struct load){.options = *options, .loop = loop, .timer = -1};
    self->writer_count =
        options->topics > options->connections ? options->topics : options->connections;
    bench_values_init(&self->values, options->size,
                      options->compression != CLIENT_COMPRESSION_DEFAULT);
    self->writers = calloc(self->writer_count, sizeof *self->writers);
    self->topic_acked = calloc(options->topics, sizeof *self->topic_acked);
    if (self->writers == NULL || self->topic_acked == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    if (options->rate > 0) {
        pace_init(&self->pace, options->rate, options->warm_s, options->seconds);
        acked = options->rate * ACKED_S / self->writer_count;
        acked = acked < ACKED_MAX / self->writer_count ? acked : ACKED_MAX / self->writer_count;
        self->acked_size = acked > ACKED_MIN ? acked : ACKED_MIN;
        err = open_timer(self, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = open_clients(self, info);
    for (uint64_t i = 0; err == ERR_OK && i < self->writer_count; i++) {
        err = init_writer(self, i);
        if (err != ERR_OK) {
            return err_set(info, err, "writer %llu: %s", (unsigned long long)i, err_text(err));
        }
    }
    return err;
}

/* ---- time ---- */

static void arm(struct load *self, uint64_t now)
{
    uint64_t at_ns;
    struct itimerspec when = {0};
    int rv;

    if (self->armed_ns > now || self->due == self->pace.total) {
        return;
    }
    at_ns = pace_planned_ns(&self->pace, self->due);
    at_ns = at_ns > now + TURN_MIN_NS ? at_ns : now + TURN_MIN_NS;
    when.it_value.tv_sec = (time_t)(at_ns / NS_PER_S);
    when.it_value.tv_nsec = (long)(at_ns % NS_PER_S);
    rv = timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &when, NULL);
    ASSERT(rv == 0);
    self->armed_ns = at_ns;
}

static void on_due(uv_poll_t *poll, int status, int events)
{
    struct load *self = poll->data;
    uint64_t times;

    (void)status; /* The clock says what is due. */
    (void)events;
    (void)!read(self->timer, &times, sizeof times); /* Only so that it is not readable any more. */
    load_advance(self);
}

void load_start(struct load *self)
{
    self->sending = true;
    if (is_open_loop(self)) {
        int rv = uv_poll_start(&self->poll, UV_READABLE, on_due);

        ASSERT(rv == 0);
        pace_begin(&self->pace, now_ns());
        load_advance(self);
        return;
    }
    for (uint64_t i = 0; i < self->writer_count; i++) {
        hand_in(&self->writers[i]);
    }
}

/* Gives the numbers whose time has come to their writers. */
static void give_out(struct load *self, uint64_t due)
{
    uint64_t count = due - self->due < self->writer_count ? due - self->due : self->writer_count;

    for (uint64_t i = 0; i < count; i++) {
        struct load_writer *writer = &self->writers[(self->due + i) % self->writer_count];

        writer->due = pace_places(due, writer->index, self->writer_count);
        ASSERT(writer->sent <= writer->due); /* I1 */
        hand_in(writer);
    }
    self->due = due;
}

void load_advance(struct load *self)
{
    uint64_t now = now_ns();

    if (!self->sending) {
        return;
    }
    if (is_open_loop(self)) {
        give_out(self, pace_due(&self->pace, now));
        arm(self, now);
    }
    if (self->errors.total == 0) {
        return; /* Only failures end producers. */
    }
    for (uint64_t i = 0; i < self->writer_count; i++) {
        if (self->writers[i].ended) {
            mend(&self->writers[i]);
        }
    }
}

void load_end(struct load *self)
{
    if (is_open_loop(self)) {
        pace_end(&self->pace, now_ns());
        give_out(self, self->pace.total);
    } else {
        self->sending = false;
    }
}

uint64_t load_behind_ns(const struct load *self)
{
    uint64_t now = now_ns();
    uint64_t behind_ns = 0;

    ASSERT(is_open_loop(self));
    for (uint64_t i = 0; i < self->writer_count; i++) {
        const struct load_writer *writer = &self->writers[i];
        uint64_t planned_ns = pace_planned_ns(&self->pace, number_of(writer, writer->reported));

        if (writer->reported < writer->due && now - planned_ns > behind_ns) {
            behind_ns = now - planned_ns;
        }
    }
    return behind_ns;
}

bool load_is_settled(const struct load *self)
{
    for (uint64_t i = 0; i < self->writer_count; i++) {
        const struct load_writer *writer = &self->writers[i];

        if (writer->reported < writer->sent ||
            (is_open_loop(self) &&
             writer->sent < pace_places(self->pace.total, i, self->writer_count))) {
            return false;
        }
    }
    return true;
}

void load_settle(struct load *self)
{
    uint64_t now = now_ns();

    self->sending = false;
    for (uint64_t i = 0; i < self->writer_count; i++) {
        struct load_writer *writer = &self->writers[i];
        struct tally_rest rest = {
            .pace = &self->pace,
            .writer = i,
            .writer_count = self->writer_count,
            .from = writer->reported,
            .to = writer->sent,
            .now_ns = now,
        };

        if (writer->producer != NULL) {
            count_retries(writer);
        }
        if (is_open_loop(self)) {
            tally_add_rest(&self->tally, TALLY_UNANSWERED, &rest);
            rest.from = writer->sent;
            rest.to = UINT64_MAX;
            tally_add_rest(&self->tally, TALLY_UNSENT, &rest);
        }
    }
    tally_check(&self->tally);
}

/* ---- what was acknowledged ---- */

bool load_acked_ns(const struct load *self, uint64_t index, uint64_t place, uint64_t *ret_ns)
{
    const struct load_writer *writer = &self->writers[index];
    uint64_t ns;

    ASSERT(index < self->writer_count && writer->acked_ns != NULL);
    if (place >= writer->reported) {
        *ret_ns = 0;
        return true;
    }
    if (writer->reported - place > self->acked_size) {
        place = writer->reported - self->acked_size; /* The oldest that is known. */
    }
    ns = writer->acked_ns[place % self->acked_size];
    if (ns == 0) {
        return false;
    }
    *ret_ns = ns;
    return true;
}

/* ---- the end ---- */

void load_close(struct load *self)
{
    self->closing = true;
    self->sending = false;
    for (uint64_t i = 0; self->writers != NULL && i < self->writer_count; i++) {
        if (self->writers[i].producer != NULL) {
            producer_free(self->writers[i].producer);
            self->writers[i].producer = NULL;
        }
    }
    for (uint64_t i = 0; i < self->options.connections; i++) {
        if (self->clients[i] != NULL) {
            client_close(self->clients[i], NULL, NULL);
            self->clients[i] = NULL;
        }
    }
    if (self->polling) {
        uv_close((uv_handle_t *)&self->poll, NULL);
        self->polling = false;
    }
}

void load_fini(struct load *self)
{
    for (uint64_t i = 0; self->writers != NULL && i < self->writer_count; i++) {
        free(self->writers[i].sent_ns);
        free(self->writers[i].acked_ns);
    }
    free(self->writers);
    self->writers = NULL;
    free(self->topic_acked);
    self->topic_acked = NULL;
    bench_values_fini(&self->values);
    if (self->timer >= 0) {
        (void)close(self->timer); /* Nothing was written to it. */
        self->timer = -1;
    }
}
