/*
 * quorlog bench produce and consume: what this cluster does, measured from here.
 *
 * One thread drives all connections, closed loop: each keeps a fixed number of records under way.
 * Latency is that of a record, from handing it to the producer to its acknowledgement. What the
 * nodes spent (CPU, journal writes) is the difference of their status before and after.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/histogram.h"
#include "cli/json.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"

enum {
    CONNECTIONS_MAX = 256,
    INFLIGHT_MAX = 65536,
    WORDS_SIZE = 4 << 20, /* more than what a codec looks back on */
    VALUE_STEP = 7919,    /* a prime: values do not begin where others did */
};

static const struct option_spec produce_options[] = {
    CALLER_OPTIONS,
    {"topic", 't', "TOPIC", false, "created if missing; default bench"},
    {"size", 0, "BYTES", false, "of a record's value; default 100"},
    {"seconds", 0, "N", false, "how long; default 5, after one second that does not count"},
    {"inflight", 'i', "N", false, "records under way on each connection; default 256"},
    {"connections", 'C', "N", false, "default 1"},
    {"batch-size", 0, "BYTES", false, "largest batch; default 256K"},
    {"compression", 0, "none|lz4|zstd", false, "of the batches; values are words then"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec consume_options[] = {
    CALLER_OPTIONS,
    {"topic", 't', "TOPIC", false, "default bench"},
    {"count", 'n', "N", false, "stop after so many records; default all"},
    {"batches", 0, NULL, false,
     "take batches as they are stored, verified, without looking at their records"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

/* ---- the nodes before and after ---- */

struct cost {
    uint64_t id;
    uint64_t cpu_us;
    uint64_t memory;
};

struct costs {
    struct cost nodes[16];
    size_t count;
    uint64_t leader_id;
    uint64_t journal_writes; /* of the leader */
};

static int ask_costs(struct client *client, struct costs *ret_costs)
{
    struct call call = {0};
    Quorlog__StatusReply *status;
    int code = caller_wait(client, client_status(client, false, caller_on_reply, &call), &call);

    if (code != EXIT_OK) {
        return code;
    }
    status = quorlog__status_reply__unpack(NULL, call.reply_size, call.reply);
    free(call.reply);
    if (status == NULL) {
        return fail("the server's answer cannot be read");
    }
    *ret_costs = (struct costs){.leader_id = status->leader_id};
    for (size_t i = 0; i < status->n_nodes && i < 16; i++) {
        const Quorlog__NodeStatus *node = status->nodes[i];

        ret_costs->nodes[ret_costs->count++] =
            (struct cost){.id = node->id, .cpu_us = node->cpu_us, .memory = node->memory};
        if (node->id == status->leader_id) {
            ret_costs->journal_writes = node->journal_writes;
        }
    }
    quorlog__status_reply__free_unpacked(status, NULL);
    return EXIT_OK;
}

/* ---- produce ---- */

struct bench;

struct lane {
    struct bench *bench;
    struct client *client;
    struct producer *producer;
    uint64_t *sent_ns; /* ring of INFLIGHT_MAX, by number of the record */
    uint64_t sent;
    uint64_t reported;
};

struct bench {
    const struct invocation *invocation;
    char topic[256];
    uint64_t size;
    uint64_t seconds;
    uint64_t inflight;
    uint64_t connections;
    uint64_t batch_size;
    enum client_compression compression;
    uv_loop_t loop;
    uv_timer_t ticker; /* keeps the loop turning */
    struct lane lanes[CONNECTIONS_MAX];
    uint8_t *values;      /* a value is `size` bytes of them, from any place in the first … */
    uint64_t value_count; /* … so many */
    bool counting;
    bool stopping;
    uint64_t records;
    uint64_t plain_bytes; /* of batches … */
    uint64_t sent_bytes;  /* … as they were sent */
    uint64_t first_ns;
    uint64_t last_ns;
    struct histogram latency;
    char failure[512];
};

static void fill(struct lane *lane)
{
    struct bench *bench = lane->bench;
    struct record record = {.value_size = bench->size};

    while (!bench->stopping && lane->sent - lane->reported < bench->inflight) {
        enum err err;

        record.value = bench->values + lane->sent * VALUE_STEP % bench->value_count;
        lane->sent_ns[lane->sent % INFLIGHT_MAX] = now_ns();
        err = producer_send(lane->producer, &record);
        if (err == ERR_BUSY) {
            return; /* No room: the next report goes on. */
        }
        if (err != ERR_OK) {
            (void)snprintf(bench->failure, sizeof bench->failure, /* fits */
                           "a record of %llu bytes: %s; --batch-size bounds it, and "
                           "batch_size_max of the nodes",
                           (unsigned long long)bench->size, err_text(err));
            bench->stopping = true;
            return;
        }
        lane->sent++;
    }
}

static void on_report(void *arg, const struct producer_report *report)
{
    struct lane *lane = arg;
    struct bench *bench = lane->bench;
    uint64_t now = now_ns();

    ASSERT(report->first == lane->reported);
    for (uint32_t i = 0; i < report->count; i++) {
        uint64_t sent = lane->sent_ns[(report->first + i) % INFLIGHT_MAX];

        if (bench->counting && report->error->err == ERR_OK && sent >= bench->first_ns) {
            histogram_add(&bench->latency, now - sent);
        }
    }
    lane->reported += report->count;
    if (report->error->err != ERR_OK) {
        (void)snprintf(bench->failure, sizeof bench->failure, "%s", report->error->text);
        bench->stopping = true;
    } else if (bench->counting) {
        bench->records += report->count;
        bench->plain_bytes += report->plain_size;
        bench->sent_bytes += report->sent_size;
    }
    fill(lane);
}

static int open_lanes(struct bench *bench)
{
    const char *servers = option_value(bench->invocation, "server");
    struct err_info info;

    servers = servers != NULL ? servers : getenv("QUORLOG_SERVER");
    servers = servers != NULL && servers[0] != '\0' ? servers : "127.0.0.1:7437";
    for (uint64_t i = 0; i < bench->connections; i++) {
        struct lane *lane = &bench->lanes[i];
        const struct client_options options = {.servers = servers, .name = "quorlog-bench"};
        const struct producer_options producer_options = {
            .topic = bench->topic,
            .batch_size_max = bench->batch_size,
            .inflight_max = 16,
            .compression = bench->compression,
        };

        lane->bench = bench;
        lane->sent_ns = calloc(INFLIGHT_MAX, sizeof *lane->sent_ns);
        if (lane->sent_ns == NULL ||
            client_new(&options, &bench->loop, &lane->client, &info) != ERR_OK ||
            producer_new(lane->client, &producer_options, on_report, lane, &lane->producer) !=
                ERR_OK) {
            return fail("connection %llu cannot be made: out of memory or of file descriptors "
                        "(ulimit -n)",
                        (unsigned long long)i);
        }
    }
    return EXIT_OK;
}

static void close_lanes(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->connections; i++) {
        struct lane *lane = &bench->lanes[i];

        if (lane->producer != NULL) {
            producer_free(lane->producer);
        }
        if (lane->client != NULL) {
            client_close(lane->client, NULL, NULL);
        }
    }
    (void)uv_run(&bench->loop, UV_RUN_DEFAULT); /* Until all is closed. */
    for (uint64_t i = 0; i < bench->connections; i++) {
        free(bench->lanes[i].sent_ns);
    }
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* Only wakes the loop. */
}

/* Runs the loop until `until_ns`, showing the rate on a terminal. */
static void run_until(struct bench *bench, uint64_t until_ns)
{
    uint64_t shown_ns = now_ns();
    uint64_t shown_records = bench->records;

    while (!bench->stopping && now_ns() < until_ns) {
        uint64_t now;

        (void)uv_run(&bench->loop, UV_RUN_ONCE); /* The ticking timer keeps it alive. */
        now = now_ns();
        if (bench->counting && isatty(STDERR_FILENO) && now - shown_ns > 500000000) {
            (void)fprintf(stderr, "\r%12.0f records/s  ",
                          (double)(bench->records - shown_records) * 1e9 /
                              (double)(now - shown_ns)); /* Decoration. */
            shown_ns = now;
            shown_records = bench->records;
        }
    }
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double cpu_per_million(const struct bench *bench, const struct costs *before,
                              const struct costs *after, uint64_t id)
{
    uint64_t from = 0;
    uint64_t to = 0;

    for (size_t i = 0; i < before->count; i++) {
        from = before->nodes[i].id == id ? before->nodes[i].cpu_us : from;
    }
    for (size_t i = 0; i < after->count; i++) {
        to = after->nodes[i].id == id ? after->nodes[i].cpu_us : to;
    }
    return to <= from || bench->records == 0 ? 0 : (double)(to - from) / (double)bench->records;
}

static double compression_ratio(const struct bench *bench)
{
    return bench->sent_bytes == 0 ? 1 : (double)bench->plain_bytes / (double)bench->sent_bytes;
}

static void print_result(const struct bench *bench, const struct costs *before,
                         const struct costs *after)
{
    double seconds = (double)(bench->last_ns - bench->first_ns) / 1e9;
    double rate = (double)bench->records / seconds;
    uint64_t writes =
        after->leader_id == before->leader_id ? after->journal_writes - before->journal_writes : 0;
    const struct histogram *h = &bench->latency;
    json_t *nodes = json_array();

    if (option_given(bench->invocation, "json")) {
        for (size_t i = 0; i < after->count; i++) {
            (void)json_array_append_new(/* Out of memory: json_print aborts. */
                                        nodes,
                                        json_pack("{s:o,s:f,s:o}", "id",
                                                  json_number(after->nodes[i].id),
                                                  "cpu_s_per_million",
                                                  cpu_per_million(bench, before, after,
                                                                  after->nodes[i].id),
                                                  "memory", json_number(after->nodes[i].memory)));
        }
        json_print(json_pack(
            "{s:s,s:o,s:f,s:o,s:o,s:o,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:o,s:o}", "durability",
            "fsync on a majority", "records", json_number(bench->records), "seconds", seconds,
            "size", json_number(bench->size), "inflight", json_number(bench->inflight),
            "connections", json_number(bench->connections), "records_per_s", rate, "mb_per_s",
            rate * (double)bench->size / 1e6, "p50_ms", ms(histogram_quantile(h, 0.5)), "p99_ms",
            ms(histogram_quantile(h, 0.99)), "p999_ms", ms(histogram_quantile(h, 0.999)), "max_ms",
            ms(h->max), "records_per_journal_write",
            writes > 0 ? (double)bench->records / (double)writes : 0, "compression_ratio",
            compression_ratio(bench), "leader", json_number(after->leader_id), "nodes", nodes));
        return;
    }
    json_decref(nodes);
    printf("durability   fsync on a majority\n"
           "load         %llu-byte records, %llu connection%s × %llu in flight, %.1f s\n"
           "throughput   %.0f records/s, %.2f MB/s\n"
           "latency      p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms\n",
           (unsigned long long)bench->size, (unsigned long long)bench->connections,
           bench->connections == 1 ? "" : "s", (unsigned long long)bench->inflight, seconds, rate,
           rate * (double)bench->size / 1e6, ms(histogram_quantile(h, 0.5)),
           ms(histogram_quantile(h, 0.99)), ms(histogram_quantile(h, 0.999)), ms(h->max));
    if (bench->compression != CLIENT_COMPRESSION_DEFAULT) {
        printf("compression  %.2f: %llu bytes of records were sent as %llu\n",
               compression_ratio(bench), (unsigned long long)bench->plain_bytes,
               (unsigned long long)bench->sent_bytes);
    }
    if (writes > 0) {
        printf("journal      %.1f records per durable write of the leader\n",
               (double)bench->records / (double)writes);
    }
    for (size_t i = 0; i < after->count; i++) {
        char size[24];

        printf("node %llu       %.2f CPU s per million records, %s%s\n",
               (unsigned long long)after->nodes[i].id,
               cpu_per_million(bench, before, after, after->nodes[i].id),
               human_size(size, after->nodes[i].memory),
               after->nodes[i].id == after->leader_id ? " (leader)" : "");
    }
}

static int measure(struct bench *bench, struct client *control)
{
    struct costs before;
    struct costs after;
    int code;

    (void)uv_timer_init(&bench->loop, &bench->ticker); /* Never fails. */
    (void)uv_timer_start(&bench->ticker, on_tick, 50, 50);
    for (uint64_t i = 0; i < bench->connections; i++) {
        fill(&bench->lanes[i]);
    }
    run_until(bench, now_ns() + 1000000000); /* Warm-up. */
    code = ask_costs(control, &before);
    bench->first_ns = now_ns();
    bench->counting = true;
    run_until(bench, bench->first_ns + bench->seconds * 1000000000);
    bench->last_ns = now_ns();
    bench->counting = false;
    if (code == EXIT_OK) {
        code = ask_costs(control, &after);
    }
    bench->stopping = true;
    uv_close((uv_handle_t *)&bench->ticker, NULL);
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r%30s\r", ""); /* Decoration. */
    }
    if (bench->failure[0] != '\0') {
        return fail("%s", bench->failure);
    }
    if (code == EXIT_OK && bench->records == 0) {
        return fail("no record was acknowledged in %llu s", (unsigned long long)bench->seconds);
    }
    if (code == EXIT_OK) {
        print_result(bench, &before, &after);
    }
    return code;
}

static int parse_produce(struct bench *bench)
{
    const struct invocation *invocation = bench->invocation;
    const char *topic = option_value(invocation, "topic");
    const char *compression = option_value(invocation, "compression");
    struct err_info info;
    enum err err;

    if (compression != NULL && !client_compression_parse(compression, &bench->compression)) {
        return usage("option '--compression': '%s' is none of none, lz4 and zstd", compression);
    }
    (void)snprintf(bench->topic, sizeof bench->topic, "%s", topic != NULL ? topic : "bench");
    err = option_number(invocation, "size", 100, 1, 8 << 20, &bench->size, &info);
    if (err == ERR_OK) {
        err = option_number(invocation, "seconds", 5, 1, 86400, &bench->seconds, &info);
    }
    if (err == ERR_OK) {
        err = option_number(invocation, "inflight", 256, 1, INFLIGHT_MAX, &bench->inflight, &info);
    }
    if (err == ERR_OK) {
        err = option_number(invocation, "connections", 1, 1, CONNECTIONS_MAX, &bench->connections,
                            &info);
    }
    if (err == ERR_OK) {
        err = option_number(invocation, "batch-size", 256 << 10, 1024, 8 << 20, &bench->batch_size,
                            &info);
    }
    return err == ERR_OK ? EXIT_OK : usage("%s", info.text);
}

/* Bytes that do not compress; a call for each eight, as it is a system call. */
static void fill_random(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->size; i += sizeof(uint64_t)) {
        uint64_t some = clock_real()->random(clock_real());
        uint64_t left = bench->size - i;

        memcpy(bench->values + i, &some, left < sizeof some ? left : sizeof some);
    }
}

/* Words of a language of 4096 of them, as what is logged is. */
static void fill_words(struct bench *bench, uint64_t size)
{
    uint64_t state = clock_real()->random(clock_real());

    for (uint64_t i = 0; i < size; i++) {
        uint64_t word = state >> 52;

        state = i % 8 == 7 ? state * UINT64_C(6364136223846793005) + 1 : state;
        bench->values[i] =
            i % 8 == 7 ? ' ' : (uint8_t)('a' + (word * UINT64_C(0x9e3779b1) >> i % 8 * 4) % 26);
    }
}

/* Without compression each record has the same value. */
static void fill_values(struct bench *bench)
{
    bool words = bench->compression != CLIENT_COMPRESSION_DEFAULT;
    uint64_t size = bench->size + (words ? WORDS_SIZE : 0);

    bench->value_count = words ? WORDS_SIZE : 1;
    bench->values = malloc(size);
    ASSERT(bench->values != NULL);
    if (words) {
        fill_words(bench, size);
    } else {
        fill_random(bench);
    }
}

static int ensure_topic(struct client *control, const char *topic)
{
    struct call call = {0};
    enum err err = client_topic_create(control, topic, caller_on_reply, &call);

    if (err != ERR_OK) {
        return fail("%s", err_text(err));
    }
    client_wait(control, &call.done);
    free(call.reply);
    return call.err == ERR_OK || call.err == ERR_TOPIC_EXISTS ? EXIT_OK : fail("%s", call.text);
}

static int run_produce(const struct invocation *invocation)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct client *control;
    int code;

    ASSERT(bench != NULL);
    bench->invocation = invocation;
    code = parse_produce(bench);
    if (code != EXIT_OK) {
        free(bench);
        return code;
    }
    fill_values(bench);
    code = caller_open(invocation, &control);
    if (code != EXIT_OK) {
        free(bench->values);
        free(bench);
        return code;
    }
    (void)uv_loop_init(&bench->loop); /* Fails only without descriptors; connecting tells. */
    code = ensure_topic(control, bench->topic);
    if (code == EXIT_OK) {
        code = open_lanes(bench);
    }
    if (code == EXIT_OK) {
        code = measure(bench, control);
    }
    close_lanes(bench);
    (void)uv_loop_close(&bench->loop); /* Nothing is open. */
    caller_close(control);
    free(bench->values);
    free(bench);
    return code;
}

/* ---- consume ---- */

struct reading {
    uint64_t records;
    uint64_t bytes;
    bool done;
    enum err err;
    char text[512];
};

static void on_record(void *arg, const struct record *record)
{
    struct reading *reading = arg;

    reading->records++;
    reading->bytes += record->value_size;
}

static void on_batch(void *arg, const struct batch_header *header, const uint8_t *body)
{
    struct reading *reading = arg;

    (void)body; /* Verified by the client. */
    reading->records += header->record_count;
    reading->bytes += header->size;
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    struct reading *reading = arg;

    (void)next_offset;
    reading->done = true;
    reading->err = error->err;
    if (error->err != ERR_OK) {
        (void)snprintf(reading->text, sizeof reading->text, "%s", error->text); /* Cut is fine. */
    }
}

static void print_reading(const struct invocation *invocation, const struct reading *reading,
                          double seconds)
{
    double rate = (double)reading->records / seconds;
    double mb_rate = (double)reading->bytes / seconds / 1e6;

    if (option_given(invocation, "json")) {
        json_print(json_pack("{s:o,s:o,s:f,s:f,s:f}", "records", json_number(reading->records),
                             "bytes", json_number(reading->bytes), "seconds", seconds,
                             "records_per_s", rate, "mb_per_s", mb_rate));
    } else {
        printf("read         %llu records in %.2f s\nthroughput   %.0f records/s, %.2f MB/s\n",
               (unsigned long long)reading->records, seconds, rate, mb_rate);
    }
}

static int run_consume(const struct invocation *invocation)
{
    static const struct consumer_events of_records = {.record = on_record, .ended = on_ended};
    static const struct consumer_events of_batches = {.batch = on_batch, .ended = on_ended};
    const struct consumer_events *events =
        option_given(invocation, "batches") ? &of_batches : &of_records;
    const char *topic = option_value(invocation, "topic");
    struct consumer_options options = {.topic = topic != NULL ? topic : "bench",
                                       .start = CONSUMER_EARLIEST};
    struct reading reading = {0};
    struct consumer *consumer;
    struct client *client;
    struct err_info info;
    uint64_t begin_ns;
    int code;

    if (option_number(invocation, "count", 0, 1, INT64_MAX, &options.records_max, &info) !=
        ERR_OK) {
        return usage("%s", info.text);
    }
    code = caller_open(invocation, &client);
    if (code != EXIT_OK) {
        return code;
    }
    begin_ns = now_ns();
    if (consumer_new(client, &options, events, &reading, &consumer) != ERR_OK) {
        caller_close(client);
        return fail("out of memory");
    }
    client_wait(client, &reading.done);
    consumer_free(consumer);
    caller_close(client);
    if (reading.err != ERR_OK) {
        return fail("%s", reading.text);
    }
    print_reading(invocation, &reading, (double)(now_ns() - begin_ns) / 1e9);
    return EXIT_OK;
}

const struct command_spec command_bench_produce = {
    .name = "bench produce",
    .synopsis = "",
    .summary = "measure writing: throughput, latency, cost",
    .details = "Keeps a fixed number of records under way on each connection (closed loop).\n",
    .options = produce_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_produce,
};

const struct command_spec command_bench_consume = {
    .name = "bench consume",
    .synopsis = "",
    .summary = "measure reading a topic from its start",
    .details = NULL,
    .options = consume_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_consume,
};
