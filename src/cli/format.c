#include "cli/format.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "cli/json.h"
#include "cli/options.h"

enum err format_check(const char *format, struct err_info *info)
{
    for (const char *at = format; *at != '\0'; at++) {
        if (*at == '%' && (at[1] == '\0' || strchr("okvth%", at[1]) == NULL)) {
            return err_set(info, ERR_INVALID, "format '%s': after %% comes one of o k v t h %%",
                           format);
        }
        if (*at == '\\' && (at[1] == '\0' || strchr("nt\\", at[1]) == NULL)) {
            return err_set(info, ERR_INVALID, "format '%s': after \\ comes one of n t \\", format);
        }
        at += *at == '%' || *at == '\\' ? 1 : 0;
    }
    return ERR_OK;
}

static void put(FILE *to, const void *data, size_t size)
{
    (void)fwrite(data, 1, size, to); /* Checked once, when the stream is flushed. */
}

static void put_headers(FILE *to, const struct record *record)
{
    for (size_t i = 0; i < record->header_count; i++) {
        (void)fprintf(to, "%s%s=", i > 0 ? "," : "", record->headers[i].name); /* as above */
        put(to, record->headers[i].value, record->headers[i].value_size);
    }
}

static void put_field(FILE *to, char field, const struct record *record)
{
    char time[40];

    switch (field) {
    case 'o':
        (void)fprintf(to, "%llu", (unsigned long long)record->offset); /* as above */
        break;
    case 'k':
        put(to, record->key, record->key_size);
        break;
    case 'v':
        put(to, record->value, record->value_size);
        break;
    case 't':
        (void)fputs(human_time(time, record->append_time_us), to); /* as above */
        break;
    case 'h':
        put_headers(to, record);
        break;
    default:
        put(to, &field, 1);
        break;
    }
}

void format_print(FILE *to, const char *format, const struct record *record)
{
    for (const char *at = format; *at != '\0'; at++) {
        if (*at == '%') {
            at++;
            put_field(to, *at, record);
        } else if (*at == '\\') {
            at++;
            (void)fputc(*at == 'n' ? '\n' : *at == 't' ? '\t' : '\\', to); /* as above */
        } else {
            (void)fputc(*at, to); /* as above */
        }
    }
}

void format_print_json(const char *topic, const struct record *record)
{
    json_t *headers = json_array();
    char time[40];
    json_t *object;

    for (size_t i = 0; i < record->header_count; i++) {
        (void)json_array_append_new(/* Out of memory: a header is missing; json_print aborts. */
                                    headers, json_pack("{s:o,s:o}", "name",
                                                       json_text(record->headers[i].name), "value",
                                                       json_bytes(record->headers[i].value,
                                                                  record->headers[i].value_size)));
    }
    object =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:s}", "topic", json_text(topic), "offset",
                  json_number(record->offset), "key",
                  record->key != NULL ? json_bytes(record->key, record->key_size) : json_null(),
                  "value", json_bytes(record->value, record->value_size), "headers", headers,
                  "append_time", human_time(time, record->append_time_us));
    if (record->timestamp_us != 0) {
        (void)json_object_set_new(object, "timestamp",
                                  json_string(human_time(time, record->timestamp_us))); /* ditto */
    }
    json_print(object);
}

/* "10m": so long before now. False: it is none. */
static bool parse_ago(const char *text, int64_t *ret_time_us)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = strspn(text, "0123456789");
    int64_t now_us = clock_real()->wall_us(clock_real());

    if (digits == 0 || digits > 9 || strlen(text) != digits + 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (text[digits] == units[i].letter) {
            *ret_time_us = now_us - strtoll(text, NULL, 10) * units[i].seconds * 1000000;
            return true;
        }
    }
    return false;
}

enum err format_parse_time(const char *text, int64_t *ret_time_us, struct err_info *info)
{
    struct tm utc = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    uint64_t seconds;
    int64_t micros = 0;

    if (end == NULL && parse_ago(text, ret_time_us)) {
        return ERR_OK;
    }
    if (end == NULL) {
        if (parse_number(text, "time", 0, INT64_MAX / 1000000, &seconds, NULL) != ERR_OK) {
            return err_set(info, ERR_INVALID,
                           "'%s' is not a time: write 2026-11-22T10:00:00Z, seconds since 1970, or "
                           "so long ago: 90s, 10m, 2h, 7d",
                           text);
        }
        *ret_time_us = (int64_t)seconds * 1000000;
        return ERR_OK;
    }
    if (*end == '.') {
        int64_t unit = 100000;

        for (end++; *end >= '0' && *end <= '9'; end++) {
            micros += (*end - '0') * unit;
            unit /= 10;
        }
    }
    if (strcmp(end, "Z") != 0) {
        return err_set(info, ERR_INVALID, "'%s': a time ends with Z (UTC)", text);
    }
    *ret_time_us = (int64_t)timegm(&utc) * 1000000 + micros;
    return ERR_OK;
}

enum err format_parse_start(const char *text, struct consumer_options *options,
                            struct err_info *info)
{
    if (strcmp(text, "start") == 0) {
        options->start = CONSUMER_EARLIEST;
        return ERR_OK;
    }
    if (strcmp(text, "end") == 0) {
        options->start = CONSUMER_LATEST;
        return ERR_OK;
    }
    if (text[0] == '@') {
        enum err err = format_parse_time(text + 1, &options->time_us, info);

        options->start = CONSUMER_TIME;
        return err == ERR_OK ? err : err_prefix(info, err, "'%s'", text);
    }
    options->start = text[0] == '-' ? CONSUMER_TAIL : CONSUMER_OFFSET;
    if (parse_number(text + (text[0] == '-' ? 1 : 0), "offset", 0, INT64_MAX, &options->offset,
                     NULL) != ERR_OK) {
        return err_set(info, ERR_INVALID,
                       "'%s' is not a place to start: start, end, N, -N or @TIME", text);
    }
    return ERR_OK;
}
