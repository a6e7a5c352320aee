#include "load.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "load_record.h"

enum {
    TICK_MS = 5,
    SECOND_MS = 1000,
    DRAIN_S = 15,
    LEARN_S = 5, /* how often nodes that are not known are asked */
};

static const char usage_text[] =
    "usage: load --servers HOST:PORT[,...] --out FILE [--series FILE] [--seconds S] [--clients K]\n"
    "            [--seed N] [--topics T] [--rate R] [--record-size MIN-MAX] [--first-client N]\n"
    "            [--first-value N] [--dump | --dump-only] [--timeout S]\n";

/* What the K clients are, again and again. */
static const struct {
    const struct life_kind *kind;
    unsigned variant;
} mix[] = {
    {&life_producer, PRODUCER_CLAIMED},
    {&life_reader, READER_SESSION},
    {&life_stream, 0},
    {&life_producer, PRODUCER_PLAIN},
    {&life_reader, READER_LINEARIZABLE},
    {&life_cursor, 0},
    {&life_conditional, 0},
    {&life_reader, READER_TOKEN},
    {&life_producer, PRODUCER_NO_ID},
    {&life_reader, READER_LOCAL},
    {&life_cursor, 0},
    {&life_reader, READER_MAX_LAG},
    {&life_producer, PRODUCER_CLAIMED},
    {&life_conditional, 0},
};

/* ---- options ---- */

enum {
    OPT_SERVERS = 256,
    OPT_OUT,
    OPT_SERIES,
    OPT_SECONDS,
    OPT_CLIENTS,
    OPT_SEED,
    OPT_TOPICS,
    OPT_RATE,
    OPT_RECORD_SIZE,
    OPT_FIRST_CLIENT,
    OPT_FIRST_VALUE,
    OPT_DUMP,
    OPT_DUMP_ONLY,
    OPT_TIMEOUT,
};

static const struct option long_options[] = {
    {"servers", required_argument, NULL, OPT_SERVERS},
    {"out", required_argument, NULL, OPT_OUT},
    {"series", required_argument, NULL, OPT_SERIES},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"clients", required_argument, NULL, OPT_CLIENTS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"topics", required_argument, NULL, OPT_TOPICS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"record-size", required_argument, NULL, OPT_RECORD_SIZE},
    {"first-client", required_argument, NULL, OPT_FIRST_CLIENT},
    {"first-value", required_argument, NULL, OPT_FIRST_VALUE},
    {"dump", no_argument, NULL, OPT_DUMP},
    {"dump-only", no_argument, NULL, OPT_DUMP_ONLY},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {NULL, 0, NULL, 0},
};

_Noreturn static void usage(const char *text)
{
    (void)fprintf(stderr, "load: %s\n%s", text, usage_text);
    exit(2);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max, const char **ret_end)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || (ret_end == NULL && *end != '\0') || value < min ||
        value > max) {
        usage("a number is out of its range");
    }
    if (ret_end != NULL) {
        *ret_end = end;
    }
    return value;
}

static void parse_size(struct load_options *options, const char *text)
{
    const char *rest;

    options->record_size_min =
        (uint32_t)number(text, LOAD_RECORD_SIZE_MIN, LOAD_RECORD_SIZE_MAX, &rest);
    options->record_size_max = options->record_size_min;
    if (rest[0] == '-') {
        options->record_size_max =
            (uint32_t)number(rest + 1, options->record_size_min, LOAD_RECORD_SIZE_MAX, NULL);
    } else if (rest[0] != '\0') {
        usage("a record size is MIN-MAX");
    }
}

static void parse_one(struct load *self, int option, const char *text)
{
    struct load_options *options = &self->options;

    switch (option) {
    case OPT_SERVERS:
        options->servers = text;
        break;
    case OPT_OUT:
        options->out = text;
        break;
    case OPT_SERIES:
        options->series = text;
        break;
    case OPT_SECONDS:
        options->seconds = number(text, 1, 10000000, NULL);
        break;
    case OPT_CLIENTS:
        options->clients = (unsigned)number(text, 1, LOAD_SLOTS_MAX - 1, NULL);
        break;
    case OPT_SEED:
        options->seed = number(text, 0, UINT64_MAX, NULL);
        break;
    case OPT_TOPICS:
        options->topics = (unsigned)number(text, 1, LOAD_TOPICS_MAX - 2, NULL);
        break;
    case OPT_RATE:
        options->rate = number(text, 0, 100000000, NULL);
        break;
    case OPT_RECORD_SIZE:
        parse_size(options, text);
        break;
    case OPT_FIRST_CLIENT:
        self->last_number = (uint32_t)number(text, 1, UINT32_MAX, NULL) - 1;
        break;
    case OPT_FIRST_VALUE:
        self->last_value = number(text, 1, INT64_MAX, NULL) - 1;
        break;
    case OPT_DUMP:
        options->dump = true;
        break;
    case OPT_DUMP_ONLY:
        options->dump_only = true;
        break;
    case OPT_TIMEOUT:
        options->timeout_s = number(text, 1, 86400, NULL);
        break;
    default:
        usage("unknown option");
    }
}

static void parse(struct load *self, int argc, char **argv)
{
    int option;

    self->options = (struct load_options){
        .seconds = 10,
        .clients = 28,
        .topics = 3,
        .seed = 1,
        .rate = 2000,
        .record_size_min = 32,
        .record_size_max = 512,
        .timeout_s = 120,
    };
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        parse_one(self, option, optarg);
    }
    if (optind < argc || self->options.servers == NULL || self->options.out == NULL) {
        usage("--servers and --out are needed, and nothing but options");
    }
}

static void split_servers(struct load *self)
{
    char *rest;

    self->server_list = strdup(self->options.servers);
    ASSERT(self->server_list != NULL);
    for (char *name = strtok_r(self->server_list, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        if (self->server_count == LOAD_SERVERS_MAX) {
            usage("too many servers");
        }
        self->servers[self->server_count++] = name;
    }
    if (self->server_count == 0) {
        usage("no servers");
    }
}

static void fill_slots(struct load *self)
{
    self->slots[self->slot_count++] = (struct slot){.kind = &life_topics};
    for (unsigned i = 0; i < self->options.clients; i++) {
        size_t k = i % (sizeof mix / sizeof mix[0]);

        self->slots[self->slot_count++] =
            (struct slot){.kind = mix[k].kind, .variant = mix[k].variant};
        self->producer_count += mix[k].kind == &life_producer ? 1 : 0;
    }
}

/* ---- the loop ---- */

static void stop(struct load *self)
{
    self->hurried = self->stopping;
    self->stopping = true;
}

static void on_signal(uv_signal_t *handle, int signal)
{
    (void)signal; /* Both mean the same. */
    stop(handle->data);
}

static void on_tick(uv_timer_t *handle)
{
    struct load *self = handle->data;

    lives_step(self);
}

static bool has_lives(const struct load *self)
{
    for (unsigned i = 0; i < self->slot_count; i++) {
        if (self->slots[i].life != NULL) {
            return true;
        }
    }
    return false;
}

static void start(struct load *self)
{
    static const int signals[] = {SIGTERM, SIGINT};
    int rv;

    for (int i = 0; i < 2; i++) {
        rv = uv_signal_init(&self->loop, &self->signals[i]);
        ASSERT(rv == 0);
        self->signals[i].data = self;
        rv = uv_signal_start(&self->signals[i], on_signal, signals[i]);
        ASSERT(rv == 0);
    }
    rv = uv_timer_init(&self->loop, &self->ticker);
    ASSERT(rv == 0);
    self->ticker.data = self;
    rv = uv_timer_start(&self->ticker, on_tick, TICK_MS, TICK_MS);
    ASSERT(rv == 0);
}

/* Until the end of the time, or a signal; then until nothing is under way, or for DRAIN_S. */
static void run(struct load *self)
{
    uint64_t second_us = recorder_now_us();
    uint64_t stopped_us = 0;
    unsigned seconds = 0;

    self->end_us = second_us + self->options.seconds * 1000000;
    while (!self->stopping || has_lives(self)) {
        uint64_t now_us;

        (void)uv_run(&self->loop, UV_RUN_ONCE); /* The ticking timer keeps it alive. */
        now_us = recorder_now_us();
        if (!self->stopping && now_us >= self->end_us) {
            stop(self);
        }
        if (self->stopping && stopped_us == 0) {
            stopped_us = now_us;
        }
        self->hurried =
            self->hurried || (stopped_us != 0 && now_us - stopped_us > DRAIN_S * UINT64_C(1000000));
        if (now_us - second_us >= SECOND_MS * UINT64_C(1000)) {
            second_us = now_us;
            recorder_second(self->recorder);
            if (seconds++ % LEARN_S == 0 && !self->stopping) {
                load_learn_nodes(self);
            }
        }
    }
}

static void finish(struct load *self)
{
    uv_close((uv_handle_t *)&self->ticker, NULL);
    for (int i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&self->signals[i], NULL);
    }
    (void)uv_run(&self->loop, UV_RUN_DEFAULT); /* Until all is closed. */
    ASSERT(self->closing == 0);
    for (unsigned i = 0; i < self->slot_count; i++) {
        if (self->slots[i].kind->finish != NULL) {
            self->slots[i].kind->finish(self, &self->slots[i]);
        }
    }
    recorder_second(self->recorder);
}

static int run_load(struct load *self)
{
    int rv = uv_loop_init(&self->loop);

    if (rv != 0) {
        (void)fprintf(stderr, "load: event loop: %s\n", uv_strerror(rv));
        return 1;
    }
    start(self);
    if (!topics_make(self)) {
        self->stopping = true;
        self->failed = true;
    } else {
        fill_slots(self);
        load_learn_nodes(self);
    }
    run(self);
    finish(self);
    rv = uv_loop_close(&self->loop);
    ASSERT(rv == 0); /* Nothing is open. */
    return self->failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct load self; /* Large. */
    struct err_info info;
    int code = 0;

    (void)signal(SIGPIPE, SIG_IGN); /* Cannot fail for this one. */
    parse(&self, argc, argv);
    split_servers(&self);
    self.random = self.options.seed;
    if (recorder_open(self.options.out, self.options.series, &self.recorder, &info) != ERR_OK) {
        (void)fprintf(stderr, "load: %s\n", info.text);
        return 1;
    }
    if (!self.options.dump_only) {
        code = run_load(&self);
    }
    if (code == 0 && (self.options.dump || self.options.dump_only)) {
        code = load_dump(&self);
    }
    if (recorder_close(self.recorder) != ERR_OK) {
        (void)fprintf(stderr, "load: the history could not be written\n");
        code = 1;
    }
    free(self.server_list);
    return code;
}
