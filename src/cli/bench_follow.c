#include "cli/bench_follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/bench_stamp.h"

enum {
    CREDIT_ALL = 512 << 20, /* bytes under way on all streams */
    CREDIT_MIN = 256 << 10,
    CREDIT_MAX = 8 << 20,
    STEPS_MAX = 16, /* of a batch */
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

/* ---- deliveries ---- */

struct delivery {
    struct follow *follow;
    uint64_t now_ns;
    uint64_t acked_ns;
    bool acked; /* else they failed, as far as their writer knows */
};

static void add_step(void *arg, uint64_t planned_ns, uint64_t count)
{
    const struct delivery *delivery = arg;
    struct follow *self = delivery->follow;
    uint64_t acked_ns = delivery->acked_ns;
    uint64_t now = delivery->now_ns;

    histogram_add_many(&self->planned, now > planned_ns ? now - planned_ns : 0, count);
    if (delivery->acked) {
        histogram_add_many(&self->acked, acked_ns > 0 && now > acked_ns ? now - acked_ns : 0,
                           count);
    }
}

/* `count` records, from this one on, came on a stream. */
static void note_delivered(struct follow_stream *stream, const struct bench_stamp *stamp,
                           uint64_t count)
{
    struct follow *self = stream->follow;
    struct delivery delivery = {.follow = self, .now_ns = now_ns()};
    struct tally_rest records = {
        .pace = &self->load->pace,
        .writer = stamp->writer,
        .writer_count = self->load->writer_count,
        .from = stamp->place,
        .to = stamp->place + count,
    };

    stream->delivered += count;
    self->delivered += count;
    self->deliveries += self->measuring ? count : 0;
    self->looked_at++;
    delivery.acked = load_acked_ns(self->load, stamp->writer, stamp->place, &delivery.acked_ns);
    tally_walk(&records, STEPS_MAX, add_step, &delivery);
}

/* Whether it is one of ours; a topic may have others. */
static bool read_stamp(struct follow_stream *stream, const struct record *record,
                       struct bench_stamp *ret_stamp)
{
    const struct load *load = stream->follow->load;

    if (!bench_stamp_decode(record->value, record->value_size, load->options.run, ret_stamp) ||
        ret_stamp->writer >= load->writer_count ||
        ret_stamp->place >= load->writers[ret_stamp->writer].sent) {
        stream->follow->foreign++;
        return false;
    }
    return true;
}

static void on_record(void *arg, const struct record *record)
{
    struct bench_stamp stamp;

    if (read_stamp(arg, record, &stamp)) {
        note_delivered(arg, &stamp, 1);
    }
}

static void on_batch(void *arg, const struct batch_header *header, const uint8_t *body)
{
    struct follow_stream *stream = arg;
    struct follow *self = stream->follow;
    struct bench_stamp stamp;
    struct record record;

    if (batch_records_start(&self->walk, header, body, 0, NULL) != ERR_OK ||
        batch_records_next(&self->walk, &record) != ERR_OK) {
        self->foreign++; /* What we write can be read. */
        return;
    }
    if (read_stamp(stream, &record, &stamp)) {
        note_delivered(stream, &stamp, header->record_count);
    }
}

static void on_placed(void *arg, uint64_t offset)
{
    struct follow_stream *stream = arg;

    (void)offset;
    ASSERT(!stream->placed);
    stream->placed = true;
    stream->follow->placed++;
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    struct follow_stream *stream = arg;
    struct follow *self = stream->follow;

    (void)next_offset;
    ASSERT(stream->consumer != NULL && self->ended < self->options.streams); /* I1 */
    consumer_free(stream->consumer);
    stream->consumer = NULL;
    self->ended++;
    tally_codes_add(&self->errors, error->err, 1);
    (void)snprintf(self->reason, sizeof self->reason, "%s", error->text); /* Cut is fine. */
}

/* ---- its life ---- */

/* "c,b,a" of "a,b,c"; how many there are. */
static unsigned reverse_servers(const char *servers, char *ret_reversed, size_t size)
{
    const char *end = servers + strlen(servers);
    unsigned count = 0;
    size_t used = 0;

    ret_reversed[0] = '\0';
    while (end > servers) {
        const char *begin = end;

        while (begin > servers && strchr(", ", begin[-1]) == NULL) {
            begin--;
        }
        if (begin < end && used + (size_t)(end - begin) + 2 <= size) {
            used += (size_t)snprintf(ret_reversed + used, size - used, "%s%.*s",
                                     count > 0 ? "," : "", (int)(end - begin), begin);
            count++;
        }
        end = begin > servers ? begin - 1 : begin;
    }
    return count;
}

/*
 * Which server each connection reads from: all of them in turn. One that finds the leader there
 * goes on to the next server in its list, so every other list goes the other way round: else the
 * one behind the leader had twice as many.
 */
static enum err open_clients(struct follow *self, struct err_info *info)
{
    unsigned count = reverse_servers(self->options.servers, self->reversed, sizeof self->reversed);

    for (uint64_t i = 0; i < self->options.connections; i++) {
        const struct client_options options = {
            .servers = count > 0 && i / count % 2 == 1 ? self->reversed : self->options.servers,
            .name = "quorlog-bench",
            .timeout_ms = self->options.timeout_ms,
            .reader_first = count > 0 ? (unsigned)(i % count) + 1 : 0,
        };
        enum err err = client_new(&options, self->load->loop, &self->clients[i], info);

        if (err != ERR_OK) {
            self->clients[i] = NULL;
            return err;
        }
    }
    return ERR_OK;
}

/* The sample is spread over all streams. */
static bool is_sample(const struct follow *self, uint64_t at)
{
    return (at + 1) * self->options.sample / self->options.streams >
           at * self->options.sample / self->options.streams;
}

static enum err open_stream(struct follow *self, uint64_t at)
{
    static const struct consumer_events of_records = {
        .record = on_record, .ended = on_ended, .placed = on_placed};
    static const struct consumer_events of_batches = {
        .batch = on_batch, .ended = on_ended, .placed = on_placed};
    struct follow_stream *stream = &self->streams[at];
    uint64_t credit = CREDIT_ALL / self->options.streams;
    char topic[LOAD_TOPIC_SIZE_MAX];
    struct consumer_options options = {
        .topic = topic,
        .start = CONSUMER_LATEST,
        .follow = true,
        .at_least = self->options.token,
    };

    *stream = (struct follow_stream){.follow = self, .topic = at % self->options.topics};
    load_topic_name(self->options.topic, self->options.topics, stream->topic, topic);
    credit = credit < CREDIT_MAX ? credit : CREDIT_MAX;
    options.credit_size = credit > CREDIT_MIN ? credit : CREDIT_MIN;
    return consumer_new(self->clients[at % self->options.connections], &options,
                        is_sample(self, at) ? &of_records : &of_batches, stream, &stream->consumer);
}

enum err follow_open(struct follow *self, const struct follow_options *options,
                     const struct load *load, struct err_info *info)
{
    enum err err;

    ASSERT(options->streams > 0 && options->streams <= FOLLOW_STREAMS_MAX);
    ASSERT(options->connections > 0 && options->connections <= FOLLOW_CONNECTIONS_MAX);
    ASSERT(options->sample > 0 && options->sample <= options->streams);
    *self = (struct follow){.options = *options, .load = load};
    batch_records_init(&self->walk);
    self->streams = calloc(options->streams, sizeof *self->streams);
    if (self->streams == NULL) {
        return err_set(info, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    err = open_clients(self, info);
    for (uint64_t i = 0; err == ERR_OK && i < options->streams; i++) {
        err = open_stream(self, i);
        if (err != ERR_OK) {
            return err_set(info, err, "stream %llu: %s", (unsigned long long)i, err_text(err));
        }
    }
    return err;
}

bool follow_is_complete(const struct follow *self)
{
    for (uint64_t i = 0; i < self->options.streams; i++) {
        const struct follow_stream *stream = &self->streams[i];

        if (stream->consumer != NULL &&
            stream->delivered < load_acknowledged(self->load, stream->topic)) {
            return false;
        }
    }
    return true;
}

/* Which ones they are is not known; they come in order, so they are taken for the last ones. */
static void add_missing(struct follow *self, uint64_t count, uint64_t now)
{
    const struct pace *pace = &self->load->pace;
    uint64_t behind = count * self->options.topics;
    uint64_t measured = pace->total - pace->first;
    uint64_t acked_ns = self->load->last_acked_ns;
    uint64_t planned_ns;

    if (measured == 0) {
        return;
    }
    planned_ns = pace_planned_ns(pace, pace->total - (behind < measured ? behind : measured));
    histogram_add_many(&self->planned, now > planned_ns ? now - planned_ns : 0, count);
    histogram_add_many(&self->acked, now > acked_ns ? now - acked_ns : 0, count);
}

void follow_settle(struct follow *self)
{
    uint64_t now = now_ns();

    for (uint64_t i = 0; i < self->options.streams; i++) {
        uint64_t delivered = self->streams[i].delivered;
        uint64_t expected = load_acknowledged(self->load, self->streams[i].topic);

        if (delivered < expected) {
            self->missing += expected - delivered;
            add_missing(self, expected - delivered, now);
        }
    }
    ASSERT(self->acked.total <= self->planned.total); /* I2 */
}

void follow_servers(const struct follow *self,
                    void (*add)(void *arg, const char *server, uint64_t streams), void *arg)
{
    for (uint64_t i = 0; i < self->options.connections; i++) {
        uint64_t streams =
            (self->options.streams - 1 - i) / self->options.connections + 1; /* on it */

        ASSERT(self->clients[i] != NULL && i < self->options.streams);
        add(arg, client_reading_server(self->clients[i]), streams);
    }
}

void follow_close(struct follow *self)
{
    for (uint64_t i = 0; self->streams != NULL && i < self->options.streams; i++) {
        consumer_free(self->streams[i].consumer);
        self->streams[i].consumer = NULL;
    }
    for (uint64_t i = 0; i < self->options.connections; i++) {
        if (self->clients[i] != NULL) {
            client_close(self->clients[i], NULL, NULL);
            self->clients[i] = NULL;
        }
    }
}

void follow_fini(struct follow *self)
{
    free(self->streams);
    self->streams = NULL;
    batch_records_fini(&self->walk);
}
