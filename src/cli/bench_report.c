#include "cli/bench_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/json.h"

#define NS_PER_MS UINT64_C(1000000)

enum { BEHIND_MIN_MS = 100, SERVERS_MAX = 64, CODES_TEXT_SIZE = 512 };

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double quantile_ms(const struct histogram *histogram, double share)
{
    return ms(histogram_quantile(histogram, share));
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* ---- progress ---- */

void bench_report_moment(const struct bench *bench, const struct bench_moment *moment)
{
    const struct histogram *recent = &bench->load.recent;
    char what[32];

    if (moment->warming || moment->draining) {
        (void)snprintf(what, sizeof what, "%s",
                       moment->warming ? "warming up" : "waiting for the rest"); /* fits */
    } else {
        (void)snprintf(what, sizeof what, "%llu s left",
                       (unsigned long long)moment->left_s); /* fits */
    }
    (void)fprintf(stderr, "\r%-20s %10.0f records/s  p50 %.3f  p99 %.3f ms", what,
                  (double)moment->records / moment->seconds, quantile_ms(recent, 0.5),
                  quantile_ms(recent, 0.99)); /* Decoration, as the rest. */
    if (bench->options->end_to_end) {
        (void)fprintf(stderr, "  %.0f delivered/s", (double)moment->deliveries / moment->seconds);
    }
    if (bench->load.tally.late > 0) {
        (void)fprintf(stderr, "  %llu late", (unsigned long long)bench->load.tally.late);
    }
    if (bench->load.errors.total > 0) {
        (void)fprintf(stderr, "  %llu failed", (unsigned long long)bench->load.errors.total);
    }
    (void)fputs("\033[K", stderr);
    (void)fflush(stderr);
}

void bench_report_clear(const struct bench *bench)
{
    if (bench->load.watched) {
        (void)fputs("\r\033[K", stderr); /* Decoration. */
    }
}

/* ---- what is told in both ways ---- */

static bool is_open_loop(const struct bench *bench)
{
    return bench->options->load.rate > 0;
}

static double seconds_of(const struct bench *bench)
{
    double seconds = (double)(bench->last_ns - bench->first_ns) / 1e9;

    return seconds > 0 ? seconds : 1e-9; /* Ended at once. */
}

static double rate_of(const struct bench *bench)
{
    return (double)bench->load.records / seconds_of(bench);
}

static double compression_ratio(const struct load *load)
{
    return load->sent_bytes == 0 ? 1 : (double)load->plain_bytes / (double)load->sent_bytes;
}

static double own_cpu_per_million(const struct bench *bench)
{
    return bench->load.records == 0 ? 0 : (double)bench->own_cpu_us / (double)bench->load.records;
}

static double own_cpu_share(const struct bench *bench)
{
    return (double)bench->own_cpu_us / 1e6 / seconds_of(bench);
}

/* The figures may be of this program, and not of the cluster. */
static bool is_bound_by_us(const struct bench *bench)
{
    const struct tally *tally = &bench->load.tally;

    return own_cpu_share(bench) > 0.9 ||
           (is_open_loop(bench) && (tally->late - tally->late_full) * 100 > tally_total(tally));
}

bool bench_report_is_kept(const struct bench *bench)
{
    const struct tally *tally = &bench->load.tally;
    uint64_t allowed_ns = (bench->last_ns - bench->first_ns) / 100;

    ASSERT(is_open_loop(bench));
    allowed_ns = allowed_ns > BEHIND_MIN_MS * NS_PER_MS ? allowed_ns : BEHIND_MIN_MS * NS_PER_MS;
    return tally->fates[TALLY_ACKNOWLEDGED] == tally_total(tally) && bench->behind_ns <= allowed_ns;
}

/* Streams by the server that they are read from. */
struct servers {
    size_t count;
    struct {
        char name[64];
        uint64_t streams;
    } list[SERVERS_MAX];
};

static void add_server(void *arg, const char *name, uint64_t streams)
{
    struct servers *self = arg;
    size_t i = 0;

    while (i < self->count && strcmp(self->list[i].name, name) != 0) {
        i++;
    }
    if (i == SERVERS_MAX) {
        return; /* More than a client takes. */
    }
    if (i == self->count) {
        (void)snprintf(self->list[i].name, sizeof self->list[i].name, "%s",
                       name); /* Cut is fine. */
        self->count++;
    }
    self->list[i].streams += streams;
}

/* Calls `add` for each code that was met. */
static void each_code(const struct tally_codes *codes,
                      void (*add)(void *arg, const char *name, uint64_t count), void *arg)
{
    for (int number = 0; number > -TALLY_CODES_MAX; number--) {
        enum err err = ERR_OK;
        bool known = number != 0 && err_from_number(number, &err);

        if ((known || number == 0) && tally_codes_count(codes, err) > 0) {
            add(arg, known ? err_name(err) : "UNKNOWN_CODE", tally_codes_count(codes, err));
        }
    }
}

/* ---- for programs ---- */

/* Out of memory: json_print aborts. */
static void put(json_t *object, const char *name, json_t *value)
{
    (void)json_object_set_new(object, name, value);
}

static void put_count(json_t *object, const char *name, uint64_t count)
{
    put(object, name, json_number(count));
}

static void put_real(json_t *object, const char *name, double value)
{
    put(object, name, json_real(value));
}

static void put_code(void *arg, const char *name, uint64_t count)
{
    put_count(arg, name, count);
}

static json_t *codes_object(const struct tally_codes *codes)
{
    json_t *object = json_object();

    each_code(codes, put_code, object);
    return object;
}

static json_t *latency_object(const struct histogram *histogram)
{
    json_t *object = json_object();

    put_count(object, "records", histogram->total);
    put_real(object, "p50_ms", quantile_ms(histogram, 0.5));
    put_real(object, "p99_ms", quantile_ms(histogram, 0.99));
    put_real(object, "p999_ms", quantile_ms(histogram, 0.999));
    put_real(object, "max_ms", ms(histogram->max));
    return object;
}

static json_t *nodes_array(const struct bench *bench)
{
    const struct cost *after = &bench->after;
    json_t *nodes = json_array();

    for (size_t i = 0; cost_is_known(&bench->before, after) && i < after->count; i++) {
        const struct cost_node *node = &after->nodes[i];
        json_t *object = json_object();

        put_count(object, "id", node->id);
        put(object, "address", json_text(node->address));
        put(object, "state", json_text(node->state));
        put_real(object, "cpu_s_per_million", cost_cpu_per_million(&bench->before, after, i));
        put_count(object, "memory", node->memory);
        (void)json_array_append_new(nodes, object); /* As put. */
    }
    return nodes;
}

/* The load, as it was asked for, and what became of it. */
static void put_load(const struct bench *bench, json_t *object)
{
    const struct load *load = &bench->load;
    const struct load_options *options = &bench->options->load;
    const struct histogram *latency = &load->tally.latency;

    put(object, "durability", json_string("fsync on a majority"));
    put_count(object, "records", load->records);
    put_real(object, "seconds", seconds_of(bench));
    put_count(object, "size", options->size);
    put_count(object, "inflight", options->inflight);
    put_count(object, "connections", options->connections);
    put_real(object, "records_per_s", rate_of(bench));
    put_real(object, "mb_per_s", rate_of(bench) * (double)options->size / 1e6);
    put_real(object, "p50_ms", quantile_ms(latency, 0.5));
    put_real(object, "p99_ms", quantile_ms(latency, 0.99));
    put_real(object, "p999_ms", quantile_ms(latency, 0.999));
    put_real(object, "max_ms", ms(latency->max));
    put_real(object, "records_per_journal_write",
             cost_records_per_write(&bench->before, &bench->after));
    put_real(object, "compression_ratio", compression_ratio(load));
    put_count(object, "leader", bench->after.leader_id);
    put(object, "mode",
        json_string(bench->options->end_to_end ? "end-to-end"
                    : is_open_loop(bench)      ? "open"
                                               : "closed"));
    put_count(object, "topics", options->topics);
    put(object, "interrupted", json_boolean(bench->interrupts > 0));
    put_count(object, "replicas_min", load->replicas_min);
    put_count(object, "voters", load->voters);
    put_real(object, "client_cpu_s_per_million", own_cpu_per_million(bench));
    put_real(object, "client_cpu_share", own_cpu_share(bench));
}

static json_t *slower_object(const struct tally *tally)
{
    json_t *object = json_object();

    for (unsigned i = 0; i < TALLY_SLOWER_COUNT; i++) {
        char name[24];

        (void)snprintf(name, sizeof name, "%llu",
                       (unsigned long long)tally_slower_ms[i]); /* fits */
        put_count(object, name, tally->slower[i]);
    }
    return object;
}

static void put_open_loop(const struct bench *bench, json_t *object)
{
    const struct tally *tally = &bench->load.tally;

    put_count(object, "rate", bench->options->load.rate);
    put(object, "rate_kept", json_boolean(bench_report_is_kept(bench)));
    put_real(object, "behind_ms", ms(bench->behind_ns));
    put_count(object, "planned", tally_total(tally));
    put_count(object, "acknowledged", tally->fates[TALLY_ACKNOWLEDGED]);
    put_count(object, "failed", tally->fates[TALLY_FAILED]);
    put_count(object, "unanswered", tally->fates[TALLY_UNANSWERED]);
    put_count(object, "unsent", tally->fates[TALLY_UNSENT]);
    put_count(object, "late", tally->late);
    put_count(object, "late_full", tally->late_full);
    put_real(object, "late_max_ms", ms(tally->late_max_ns));
}

static void put_end_to_end(const struct bench *bench, json_t *object)
{
    const struct follow *follow = &bench->follow;
    struct servers servers = {.count = 0};
    json_t *readers = json_array();

    follow_servers(follow, add_server, &servers);
    for (size_t i = 0; i < servers.count; i++) {
        json_t *reader = json_object();

        put(reader, "server", json_text(servers.list[i].name));
        put_count(reader, "streams", servers.list[i].streams);
        (void)json_array_append_new(readers, reader); /* As put. */
    }
    put_count(object, "streams", follow->options.streams);
    put_count(object, "stream_connections", follow->options.connections);
    put_count(object, "sample", follow->options.sample);
    put_count(object, "deliveries", follow->deliveries);
    put_real(object, "deliveries_per_s", (double)follow->deliveries / seconds_of(bench));
    put_count(object, "delivered", follow->delivered);
    put_count(object, "looked_at", follow->looked_at);
    put_count(object, "foreign", follow->foreign);
    put_count(object, "missing", follow->missing);
    put(object, "planned_to_acknowledged", latency_object(&bench->load.tally.latency));
    put(object, "acknowledged_to_delivered", latency_object(&follow->acked));
    put(object, "planned_to_delivered", latency_object(&follow->planned));
    put(object, "readers", readers);
    put(object, "stream_errors", codes_object(&follow->errors));
}

static void print_object(const struct bench *bench)
{
    json_t *object = json_object();

    put_load(bench, object);
    put(object, "slower_than_ms", slower_object(&bench->load.tally));
    if (is_open_loop(bench)) {
        put_open_loop(bench, object);
    }
    put(object, "errors", codes_object(&bench->load.errors));
    put(object, "retries", codes_object(&bench->load.retries));
    if (bench->options->end_to_end) {
        put_end_to_end(bench, object);
    }
    put(object, "nodes", nodes_array(bench));
    json_print(object);
}

/* ---- for people ---- */

static void print_load(const struct bench *bench)
{
    const struct load_options *options = &bench->options->load;
    double seconds = seconds_of(bench);

    if (is_open_loop(bench)) {
        printf("load         open loop: %llu records/s", (unsigned long long)options->rate);
    } else {
        printf("load         closed loop: %llu in flight on each connection",
               (unsigned long long)options->inflight);
    }
    printf(", %llu connection%s, %llu topic%s, %llu-byte records, %.1f s%s\n",
           (unsigned long long)options->connections, plural(options->connections),
           (unsigned long long)options->topics, plural(options->topics),
           (unsigned long long)options->size, seconds,
           bench->interrupts > 0 ? ", interrupted" : "");
    printf("durability   fsync on a majority");
    if (bench->load.voters > 0) {
        printf(": on at least %u of %u disks when acknowledged", bench->load.replicas_min,
               bench->load.voters);
    }
    printf("\nthroughput   %.0f records/s, %.2f MB/s\n", rate_of(bench),
           rate_of(bench) * (double)options->size / 1e6);
}

static void print_latency(const char *name, const struct histogram *histogram, const char *what)
{
    printf("%-12s p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms%s\n", name,
           quantile_ms(histogram, 0.5), quantile_ms(histogram, 0.99), quantile_ms(histogram, 0.999),
           ms(histogram->max), what);
}

static void print_slower(const struct tally *tally)
{
    printf("slower than  ");
    for (unsigned i = 0; i < TALLY_SLOWER_COUNT; i++) {
        uint64_t limit_ms = tally_slower_ms[i];

        printf("%s%llu %s: %llu", i > 0 ? ", " : "",
               (unsigned long long)(limit_ms < 1000 ? limit_ms : limit_ms / 1000),
               limit_ms < 1000 ? "ms" : "s", (unsigned long long)tally->slower[i]);
    }
    printf(" of %llu\n", (unsigned long long)tally_total(tally));
}

static void print_open_loop(const struct bench *bench)
{
    const struct tally *tally = &bench->load.tally;
    uint64_t unacknowledged = tally_total(tally) - tally->fates[TALLY_ACKNOWLEDGED];

    if (bench_report_is_kept(bench)) {
        printf("rate kept    yes; at the end the oldest record without an answer was %.1f ms old\n",
               ms(bench->behind_ns));
    } else {
        printf("rate kept    NO: %llu records/s were asked for, %.0f were taken; at the end the\n"
               "             oldest record without an answer was %.1f ms old. Latencies of a rate "
               "that is\n             not kept grow with the length of the run\n",
               (unsigned long long)bench->options->load.rate, rate_of(bench), ms(bench->behind_ns));
    }
    printf("late         %llu of %llu records were handed in more than %llu ms late: %llu waited "
           "for room,\n             %llu for this program; the latest by %.1f ms\n",
           (unsigned long long)tally->late, (unsigned long long)tally_total(tally),
           (unsigned long long)(TALLY_LATE_NS / NS_PER_MS), (unsigned long long)tally->late_full,
           (unsigned long long)(tally->late - tally->late_full), ms(tally->late_max_ns));
    if (unacknowledged > 0) {
        printf("no answer    %llu records failed, %llu were never answered, %llu never handed in; "
               "the\n             percentiles count the time that they have waited\n",
               (unsigned long long)tally->fates[TALLY_FAILED],
               (unsigned long long)tally->fates[TALLY_UNANSWERED],
               (unsigned long long)tally->fates[TALLY_UNSENT]);
    }
}

static void print_end_to_end(const struct bench *bench)
{
    const struct follow *follow = &bench->follow;
    struct servers servers = {.count = 0};

    printf("streams      %llu, on %llu connection%s:", (unsigned long long)follow->options.streams,
           (unsigned long long)follow->options.connections, plural(follow->options.connections));
    follow_servers(follow, add_server, &servers);
    for (size_t i = 0; i < servers.count; i++) {
        printf("%s %llu from %s", i > 0 ? "," : "", (unsigned long long)servers.list[i].streams,
               servers.list[i].name[0] != '\0' ? servers.list[i].name : "nobody now");
    }
    printf("\ndelivered    %.0f records/s; %llu records were decoded: all of %llu stream%s, the "
           "first of each\n             batch on the others, where the rest follows from it\n",
           (double)follow->deliveries / seconds_of(bench), (unsigned long long)follow->looked_at,
           (unsigned long long)follow->options.sample, plural(follow->options.sample));
    print_latency("delivery", &follow->acked, ", from acknowledgement to delivery");
    print_latency("end to end", &follow->planned, ", from planned time to delivery");
    if (follow->missing > 0) {
        printf("missing      %llu acknowledged records did not come on a stream; the percentiles "
               "count the\n             time that they have been missing\n",
               (unsigned long long)follow->missing);
    }
    if (follow->foreign > 0) {
        printf("foreign      %llu records, or batches, of others were passed over\n",
               (unsigned long long)follow->foreign);
    }
}

static void print_nodes(const struct bench *bench)
{
    const struct cost *after = &bench->after;
    double records = cost_records_per_write(&bench->before, after);
    const struct cost *unknown = bench->before.err != ERR_OK ? &bench->before : after;

    if (!cost_is_known(&bench->before, after)) {
        printf("nodes        what they spent is not known: %s\n",
               unknown->err != ERR_OK ? unknown->text : "their answer did not come in time");
        return;
    }
    if (records > 0) {
        printf("journal      %.1f records per durable write of the leader\n", records);
    } else {
        printf("journal      the leader has changed\n");
    }
    for (size_t i = 0; i < after->count; i++) {
        char size[24];

        printf("node %-7llu %s at %s: %.2f CPU s per million records, %s\n",
               (unsigned long long)after->nodes[i].id, after->nodes[i].state,
               after->nodes[i].address, cost_cpu_per_million(&bench->before, after, i),
               human_size(size, after->nodes[i].memory));
    }
}

static void print_code(void *arg, const char *name, uint64_t count)
{
    bool *first = arg;

    printf("%s%llu %s", *first ? "" : ", ", (unsigned long long)count, name);
    *first = false;
}

static void print_codes(const char *name, const struct tally_codes *codes, const char *unit)
{
    bool first = true;

    printf("%-12s ", name);
    if (codes->total == 0) {
        printf("none\n");
        return;
    }
    printf("%llu %s: ", (unsigned long long)codes->total, unit);
    each_code(codes, print_code, &first);
    printf("\n");
}

static void print_table(const struct bench *bench)
{
    const struct load *load = &bench->load;

    print_load(bench);
    print_latency("latency", &load->tally.latency,
                  is_open_loop(bench) ? ", from planned time to acknowledgement"
                                      : ", from handing in to acknowledgement");
    print_slower(&load->tally);
    if (is_open_loop(bench)) {
        print_open_loop(bench);
    }
    if (bench->options->end_to_end) {
        print_end_to_end(bench);
    }
    if (bench->options->load.compression != CLIENT_COMPRESSION_DEFAULT) {
        printf("compression  %.2f: %llu bytes of records were sent as %llu\n",
               compression_ratio(load), (unsigned long long)load->plain_bytes,
               (unsigned long long)load->sent_bytes);
    }
    print_nodes(bench);
    printf("this program %.2f CPU s per million records, %.0f %% of a CPU%s\n",
           own_cpu_per_million(bench), own_cpu_share(bench) * 100,
           is_bound_by_us(bench) ? ": it may be what bounds the figures, not the cluster" : "");
    print_codes("errors", &load->errors, "records");
    print_codes("retries", &load->retries, "batches");
    if (bench->options->end_to_end) {
        print_codes("ended", &bench->follow.errors, "streams");
    }
}

void bench_report(const struct bench *bench)
{
    if (bench->options->json) {
        print_object(bench);
    } else {
        print_table(bench);
    }
}
