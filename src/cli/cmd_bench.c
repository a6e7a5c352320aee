/*
 * quorlog bench produce, end-to-end and consume: what this cluster does, measured from here. The
 * commands and their options; one thread drives all connections (bench_run.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/bench_run.h"
#include "cli/bench_stamp.h"
#include "cli/caller.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "log/batch.h"

enum {
    SECONDS_MAX = 86400,
    SIZE_MAX_BYTES = 8 << 20,
    TOPIC_SIZE_MAX = 200,     /* of a topic's name, by the protocol */
    END_TO_END_RATE = 10000,  /* by default */
    STREAM_CONNECTIONS = 128, /* by default, at most */
    LOOKED_AT_PER_S = 200000, /* by default: so many records decoded a second */
};

#define LOAD_OPTIONS                                                                               \
    {"topic", 't', "TOPIC", false, "created if missing; default bench"},                           \
        {"topics", 0, "N", false,                                                                  \
         "spread over N topics, TOPIC-0 to TOPIC-(N-1); default 1: TOPIC"},                        \
        {"size", 0, "BYTES", false, "of a record's value; default 100"},                           \
        {"seconds", 0, "N", false, "how long; default 5, after one second that does not count"},   \
        {"connections", 'C', "N", false, "that records are written on; default 1"},                \
        {"batch-size", 0, "BYTES", false, "largest batch; default 256K"},                          \
    {                                                                                              \
        "compression", 0, "none|lz4|zstd", false, "of the batches; values are words then"          \
    }

static const struct option_spec produce_options[] = {
    CALLER_OPTIONS,
    LOAD_OPTIONS,
    {"inflight", 'i', "N", false,
     "records under way on each connection, at least one for each topic; default 256, with "
     "--rate 65536"},
    {"rate", 'r', "N", false, "open loop: N records a second, on all connections together"},
    {"json", 0, NULL, false, "print an object"},
    {NULL, 0, NULL, false, NULL},
};

static const struct option_spec end_to_end_options[] = {
    CALLER_OPTIONS,
    LOAD_OPTIONS,
    {"inflight", 'i', "N", false,
     "at most so many records under way on each connection; default 65536"},
    {"rate", 'r', "N", false, "records a second, on all connections together; default 10000"},
    {"streams", 'S', "N", false, "followed streams, 1 to 4096; default 1"},
    {"stream-connections", 0, "N", false,
     "connections that they share; default one each, at most 128"},
    {"sample", 0, "K", false,
     "streams of which each record is decoded; default as many as make 200000 a second"},
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

/* ---- produce and end-to-end ---- */

static const char *servers_of(const struct invocation *invocation)
{
    const char *servers = option_value(invocation, "server");

    servers = servers != NULL ? servers : getenv("QUORLOG_SERVER");
    return servers != NULL && servers[0] != '\0' ? servers : "127.0.0.1:7437";
}

/* The last topic's name is the longest. */
static int check_topic(const struct load_options *load)
{
    char name[LOAD_TOPIC_SIZE_MAX];
    size_t size = strlen(load->topic);

    if (size > 0 && size <= TOPIC_SIZE_MAX) {
        load_topic_name(load->topic, load->topics, load->topics - 1, name);
        size = strlen(name);
    }
    return size > 0 && size <= TOPIC_SIZE_MAX
               ? EXIT_OK
               : usage("option '--topic': a topic's name has 1 to %d characters%s", TOPIC_SIZE_MAX,
                       load->topics > 1 ? ", its number included" : "");
}

/* What both have. size_min: of a value. */
static int parse_load(const struct invocation *invocation, uint64_t size_min,
                      struct load_options *load)
{
    const char *topic = option_value(invocation, "topic");
    const char *compression = option_value(invocation, "compression");
    struct {
        const char *name;
        uint64_t absent;
        uint64_t min;
        uint64_t max;
        uint64_t *ret_number;
    } const numbers[] = {
        {"topics", 1, 1, LOAD_TOPICS_MAX, &load->topics},
        {"size", 100, size_min, SIZE_MAX_BYTES, &load->size},
        {"seconds", 5, 1, SECONDS_MAX, &load->seconds},
        {"connections", 1, 1, LOAD_CONNECTIONS_MAX, &load->connections},
        {"batch-size", 256 << 10, 1024, SIZE_MAX_BYTES, &load->batch_size},
        {"rate", load->rate, 1, PACE_RATE_MAX, &load->rate},
    };
    struct err_info info;
    int code = caller_timeout(invocation, &load->timeout_ms);

    for (size_t i = 0; code == EXIT_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        if (option_number(invocation, numbers[i].name, numbers[i].absent, numbers[i].min,
                          numbers[i].max, numbers[i].ret_number, &info) != ERR_OK) {
            code = usage("%s", info.text);
        }
    }
    if (code != EXIT_OK) {
        return code;
    }
    if (option_number(invocation, "inflight", load->rate > 0 ? LOAD_INFLIGHT_MAX : 256, 1,
                      LOAD_INFLIGHT_MAX, &load->inflight, &info) != ERR_OK) {
        return usage("%s", info.text);
    }
    if (compression != NULL && !client_compression_parse(compression, &load->compression)) {
        return usage("option '--compression': '%s' is none of none, lz4 and zstd", compression);
    }
    load->topic = topic != NULL ? topic : "bench";
    load->servers = servers_of(invocation);
    load->warm_s = BENCH_WARM_S;
    return check_topic(load);
}

static int parse_follow(const struct invocation *invocation, const struct load_options *load,
                        struct follow_options *follow)
{
    uint64_t connections = STREAM_CONNECTIONS;
    uint64_t sample = LOOKED_AT_PER_S / load->rate;
    struct err_info info;
    enum err err =
        option_number(invocation, "streams", 1, 1, FOLLOW_STREAMS_MAX, &follow->streams, &info);

    if (err == ERR_OK) {
        connections = connections < follow->streams ? connections : follow->streams;
        err = option_number(invocation, "stream-connections", connections, 1,
                            follow->streams < FOLLOW_CONNECTIONS_MAX ? follow->streams
                                                                     : FOLLOW_CONNECTIONS_MAX,
                            &follow->connections, &info);
    }
    if (err == ERR_OK) {
        sample = sample > 0 ? sample : 1;
        sample = sample < follow->streams ? sample : follow->streams;
        err =
            option_number(invocation, "sample", sample, 1, follow->streams, &follow->sample, &info);
    }
    if (err != ERR_OK) {
        return usage("%s", info.text);
    }
    if (follow->streams < load->topics) {
        return usage(
            "option '--streams': %llu streams do not follow %llu topics; at least one each",
            (unsigned long long)follow->streams, (unsigned long long)load->topics);
    }
    follow->servers = load->servers;
    follow->topic = load->topic;
    follow->topics = load->topics;
    follow->timeout_ms = load->timeout_ms;
    return EXIT_OK;
}

static int run_load(const struct invocation *invocation, const struct bench_options *options)
{
    struct client *control;
    int code = caller_open(invocation, &control);

    return code == EXIT_OK ? bench_run(options, control) : code;
}

static int run_produce(const struct invocation *invocation)
{
    struct bench_options options = {.json = option_given(invocation, "json")};
    int code = parse_load(invocation, 1, &options.load);

    return code == EXIT_OK ? run_load(invocation, &options) : code;
}

static int run_end_to_end(const struct invocation *invocation)
{
    struct bench_options options = {
        .json = option_given(invocation, "json"),
        .end_to_end = true,
        .load = {.rate = END_TO_END_RATE, .stamped = true},
    };
    int code = parse_load(invocation, BENCH_STAMP_SIZE, &options.load);

    options.load.run = (uint32_t)clock_real()->random(clock_real());
    if (code == EXIT_OK) {
        code = parse_follow(invocation, &options.load, &options.follow);
    }
    return code == EXIT_OK ? run_load(invocation, &options) : code;
}

/* ---- consume ---- */

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

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
    .details =
        "Closed loop, without --rate: each connection keeps a fixed number of records under way, "
        "and\n"
        "hands in a new one when an old one is acknowledged. That finds out how much a cluster "
        "takes.\n"
        "While it stalls it is asked for less, so a stall is in few latencies.\n"
        "\n"
        "Open loop, with --rate: each record has its planned time, whatever became of those "
        "before\n"
        "it, and its latency counts from then. One that does not fit, as too many are under way, "
        "is\n"
        "handed in late and counts from its planned time, too; so a stall is in the latencies of "
        "all\n"
        "records that it met. At the end what is still under way is waited for, 10 s at most; "
        "records\n"
        "without an answer count with the time that they have waited. 'rate kept' says whether "
        "the\n"
        "cluster kept up; if it did not, the latencies say little. However far it falls behind, "
        "at\n"
        "most 256 MiB of records wait in memory (two batches for each topic and connection at "
        "least).\n"
        "\n"
        "Ctrl-C ends it early, with the figures so far; a second one does not wait for answers.\n"
        "Exit code 1: records failed.\n"
        "\n"
        "  quorlog bench produce -i 4096 -C 4        how much it takes\n"
        "  quorlog bench produce --rate 20000        how long a record takes at that rate\n",
    .options = produce_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_produce,
};

const struct command_spec command_bench_end_to_end = {
    .name = "bench end-to-end",
    .synopsis = "",
    .summary = "measure delivery: from writing to many followed streams",
    .details =
        "Writes at a fixed rate, as 'bench produce --rate' does, and follows the topic with many\n"
        "streams; each gets each record of its topic. Three latencies are told: from the planned\n"
        "time to the acknowledgement, from there to the delivery (0 where that came first), and "
        "from\n"
        "the planned time to the delivery. They are of all streams together.\n"
        "\n"
        "Streams are spread over the nodes given with -s, followers where there are any: give all "
        "of\n"
        "them. They share --stream-connections connections.\n"
        "\n"
        "One thread cannot decode each record of thousands of streams. On --sample streams all\n"
        "records are decoded; on the others batches are verified and counted, and the first record "
        "of\n"
        "each is decoded. It says which records the batch holds, and so when each was planned and\n"
        "acknowledged: all deliveries are in the figures, to a sixteenth of a batch. The table "
        "says\n"
        "how many records were decoded. The sample is by default as many streams as make 200000\n"
        "records a second. 'this program' near 100 % of a CPU means that it bounds the figures "
        "itself.\n"
        "\n"
        "Ctrl-C ends it early, with the figures so far; a second one does not wait for answers.\n"
        "Exit code 1: records failed, streams ended, or records did not come within 10 s.\n"
        "\n"
        "  quorlog bench end-to-end -s n1:7437,n2:7437,n3:7437 --streams 1000\n",
    .options = end_to_end_options,
    .arguments_min = 0,
    .arguments_max = 0,
    .run = run_end_to_end,
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
