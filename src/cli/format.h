/*
 * How consume prints a record: a format with %o %k %v %t %h, or a JSON object.
 */
#ifndef QUORLOG_CLI_FORMAT_H
#define QUORLOG_CLI_FORMAT_H

#include <stdio.h>

#include "base/err.h"
#include "client/client.h"

/* ERR_INVALID, with text, for a format with an unknown % or \ sequence. */
enum err format_check(const char *format, struct err_info *info);

/* Prints the record. %o offset, %k key, %v value, %t time of appending, %h headers as
 * name=value,…; %% \n \t \\. The format was checked. */
void format_print(FILE *to, const char *format, const struct record *record);

/* {"topic","offset","key","value","headers","append_time","timestamp"}, on a line. */
void format_print_json(const char *topic, const struct record *record);

/* A moment: RFC 3339 with Z, seconds since 1970, or so long ago, as 90s, 10m, 2h or 7d.
 * Microseconds since 1970. ERR_INVALID with text. */
enum err format_parse_time(const char *text, int64_t *ret_time_us, struct err_info *info);

/*
 * Where to start: "start", "end", a number N, -N (before the end), "@TIME" (as
 * format_parse_time takes it). ERR_INVALID with text.
 */
enum err format_parse_start(const char *text, struct consumer_options *options,
                            struct err_info *info);

#endif
