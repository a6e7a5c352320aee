#include "cli/consume_filter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/caller.h"
#include "cli/format.h"
#include "cli/json.h"
#include "record/record_set.h"

enum { LATEST_SIZE_MAX = 128 << 20 };

static enum err parse_time(const struct invocation *invocation, const char *name, int64_t *ret_us,
                           struct err_info *info)
{
    const char *text = option_value(invocation, name);
    enum err err;

    if (text == NULL) {
        return ERR_OK;
    }
    err = format_parse_time(text, ret_us, info);
    return err == ERR_OK ? err : err_prefix(info, err, "option '--%s'", name);
}

static enum err parse_conditions(struct filter *self, const struct invocation *invocation,
                                 struct err_info *info)
{
    const char *key = option_value(invocation, "key");
    enum err err = ERR_OK;

    if (key != NULL) {
        err = filter_add_key(self, key, strlen(key), info);
    }
    for (unsigned i = 0; err == ERR_OK && i < option_count(invocation, "header"); i++) {
        err = filter_parse_header(self, option_value_at(invocation, "header", i), info);
    }
    for (unsigned i = 0; err == ERR_OK && i < option_count(invocation, "grep"); i++) {
        const char *text = option_value_at(invocation, "grep", i);

        err = filter_add_contains(self, text, strlen(text), info);
    }
    if (err == ERR_OK) {
        err = parse_time(invocation, "since", &self->since_us, info);
    }
    if (err == ERR_OK) {
        err = parse_time(invocation, "until", &self->until_us, info);
    }
    return err;
}

int consume_filter_parse(struct consume_filter *self, const struct invocation *invocation,
                         struct consumer_options *consumer_options)
{
    struct err_info info;
    enum err err;

    filter_init(&self->filter);
    buf_init(&self->latest, LATEST_SIZE_MAX);
    self->json = option_given(invocation, "json");
    self->filter.latest = option_given(invocation, "latest");
    if (self->filter.latest && !option_given(invocation, "key")) {
        return usage("option '--latest' goes with '--key': the last record of that key");
    }
    if (self->filter.latest &&
        (consumer_options->follow || option_given(invocation, "count") ||
         option_given(invocation, "cursor") || option_given(invocation, "share"))) {
        return usage("option '--latest' looks through all that there is: not with --follow, "
                     "--count, --cursor or --share");
    }
    if (consumer_options->follow && option_given(invocation, "until")) {
        return usage("options '--until' and '--follow' exclude each other");
    }
    err = parse_conditions(&self->filter, invocation, &info);
    if (err == ERR_OK) {
        err = filter_check(&self->filter, &info);
    }
    if (err != ERR_OK) {
        return usage("%s", info.text);
    }
    self->given = !filter_is_empty(&self->filter);
    if (self->given) {
        consumer_options->filter = &self->filter;
    }
    return EXIT_OK;
}

enum err consume_filter_keep(struct consume_filter *self, const struct record *record)
{
    ASSERT(self->filter.latest);
    self->latest.size = 0;
    return record_set_append_sparse(&self->latest, record, 0);
}

void consume_filter_give(struct consume_filter *self,
                         void (*give)(void *arg, const struct record *record), void *arg)
{
    struct record_reader reader;
    struct record record;

    if (self->latest.size == 0) {
        return;
    }
    record_reader_init(&reader);
    record_reader_start(&reader, self->latest.data, self->latest.size);
    if (record_reader_next(&reader, &record) == ERR_OK) {
        give(arg, &record);
    }
    record_reader_fini(&reader);
}

void consume_filter_report(const struct consume_filter *self, const struct consumer *consumer)
{
    struct consumer_scan scan;
    char size[24];

    if (!self->given) {
        return;
    }
    consumer_scanned(consumer, &scan);
    if (self->json) {
        (void)fprintf(stderr, /* Nobody is left to be told. */
                      "{\"records_scanned\":%" PRIu64 ",\"bytes_scanned\":%" PRIu64
                      ",\"segments_skipped\":%" PRIu64 "}\n",
                      scan.records, scan.bytes, scan.segments_skipped);
    } else {
        (void)fprintf(stderr, /* ditto */
                      "scanned %" PRIu64 " record%s (%s), skipped %" PRIu64 " segment%s\n",
                      scan.records, scan.records == 1 ? "" : "s", human_size(size, scan.bytes),
                      scan.segments_skipped, scan.segments_skipped == 1 ? "" : "s");
    }
}

void consume_filter_fini(struct consume_filter *self)
{
    buf_fini(&self->latest);
}
