/*
 * What compare_nats and compare_etcd are on the command line.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare_load.h"

static int usage(const char *program)
{
    (void)fprintf(stderr,
                  "usage: %s --server HOST:PORT --stream NAME [--size BYTES] [--inflight N]\n"
                  "       [--connections N] [--seconds S] [--timeout-ms N]\n"
                  "       [--stamps --interval-ms N] | --version\n",
                  program);
    return 2;
}

/* 0 when the text is no number of 1 … max. */
static uint32_t number_of(const char *text, uint32_t max)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    return *text >= '0' && *text <= '9' && *end == '\0' && value <= max ? (uint32_t)value : 0;
}

static bool parse(int argc, char **argv, struct load_settings *settings, bool *ret_version)
{
    static const struct option options[] = {
        {"server", required_argument, NULL, 's'},
        {"stream", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 'b'},
        {"inflight", required_argument, NULL, 'i'},
        {"connections", required_argument, NULL, 'C'},
        {"seconds", required_argument, NULL, 'n'},
        {"timeout-ms", required_argument, NULL, 'T'},
        {"interval-ms", required_argument, NULL, 'I'},
        {"stamps", no_argument, NULL, 'S'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            settings->server = optarg;
            break;
        case 't':
            settings->stream = optarg;
            break;
        case 'b':
            settings->size = number_of(optarg, LOAD_SIZE_MAX);
            break;
        case 'i':
            settings->inflight = number_of(optarg, LOAD_INFLIGHT_MAX);
            break;
        case 'C':
            settings->connections = number_of(optarg, 256);
            break;
        case 'n':
            settings->seconds = strtod(optarg, NULL);
            break;
        case 'T':
            settings->timeout_ms = number_of(optarg, 600000);
            break;
        case 'I':
            settings->interval_ms = number_of(optarg, 60000);
            break;
        case 'S':
            settings->stamps = true;
            break;
        case 'V':
            *ret_version = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc &&
           (*ret_version || (settings->server != NULL && settings->stream != NULL)) &&
           settings->size > 0 && settings->inflight > 0 && settings->connections > 0 &&
           settings->timeout_ms > 0 && settings->seconds > 0 && settings->seconds <= 3600 &&
           settings->stamps == (settings->interval_ms > 0);
}

static void print_result(const struct load_settings *settings, const struct load_backend *backend,
                         const struct load_result *result)
{
    double rate = result->seconds > 0 ? (double)result->records / result->seconds : 0;
    char client[128];

    backend->describe(client, sizeof client);
    printf("{\"system\": \"%s\", \"client\": \"%s\", \"records\": %llu, \"seconds\": %.6f, "
           "\"size\": %zu, \"inflight\": %u, \"inflight_most\": %u, \"records_per_s\": %.3f, "
           "\"mb_per_s\": %.6f, \"p50_ms\": %.6f, \"p99_ms\": %.6f, \"max_ms\": %.6f, "
           "\"errors\": %llu}\n",
           backend->system, client, (unsigned long long)result->records, result->seconds,
           settings->size, settings->inflight, result->inflight_most, rate,
           rate * (double)settings->size / 1e6, result->p50_ms, result->p99_ms, result->max_ms,
           (unsigned long long)result->errors);
}

int load_main(int argc, char **argv, const struct load_backend *backend)
{
    struct load_settings settings = {
        .size = 100,
        .inflight = 64,
        .connections = 1,
        .warmup_s = 1,
        .seconds = 5,
        .timeout_ms = 10000,
    };
    struct load_result result;
    bool version = false;
    bool ok;

    if (!parse(argc, argv, &settings, &version)) {
        return usage(argv[0]);
    }
    if (version) {
        char client[128];

        backend->describe(client, sizeof client);
        return puts(client) < 0;
    }
    settings.warmup_s = settings.stamps ? 0 : settings.warmup_s;
    ok = load_run(&settings, backend, &result);
    if (result.last_error[0] != '\0') {
        (void)fprintf(stderr, "%s: %s\n", argv[0], result.last_error); /* The exit code tells. */
    }
    if (!ok || (result.records == 0 && !settings.stamps)) {
        (void)fprintf(stderr, "%s: %s\n", argv[0],
                      ok ? "no record was acknowledged"
                         : "it ended before its time"); /* As above. */
        return 1;
    }
    if (!settings.stamps) {
        print_result(&settings, backend, &result);
    }
    return 0;
}
